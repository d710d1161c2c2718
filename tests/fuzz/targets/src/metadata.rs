// SPDX-License-Identifier: GPL-2.0

//! The targets of formats. An input is a case to begin with and a list of steps: lies on the disks, then
//! events, more lies, a restart, more events.

use crate::cases::{self, Case};
use crate::input::Input;
use crate::{repair, shell};
use emd_core::metadata::{MetadataSet, LEFT_LOG_SECTORS_MAX};
use emd_core::model::{
    BadRange, CrashPolicy, DiskOffer, Event, HoleLog, Layout, Level, Rotation, Scrub, Set,
    SpareRole, Text, VolumeSpec,
};
use emd_core::personalities::hole_log::left;
use emd_core::personalities::Geometry;
use host_tests::samples::Disk;
use kernel::prelude::KVVec;
use std::fmt::Write as _;

/// Most steps of an input.
const STEPS_MAX: usize = 64;

/// Most disks of a run: those of the case, and those that are added.
const DISKS_MAX: usize = 40;

/// The event that is none: a plan did not reach a disk that stays in use.
const MISSED: u8 = 24;

/// Step codes; all from [`EVENT`] on are events.
mod step {
    pub const PATCH: u8 = 0;
    pub const FILL: u8 = 1;
    pub const BAD: u8 = 2;
    pub const REOPEN: u8 = 3;
    pub const RAW: u8 = 4;
    pub const EVENT: u8 = 8;
    pub const CODES: u8 = 40;
}

/// Runs an input of a family of formats.
pub fn run(family: &str, data: &[u8]) {
    let mut input = Input::new(data);
    let case = cases::of(family).choose(input.u16());
    let mut run = Run {
        case,
        disks: case.disks.clone(),
        bad: vec![Vec::new(); case.disks.len()],
        touched: vec![Vec::new(); case.disks.len()],
        sealed: true,
        present: u32::MAX,
        set: None,
        opened: false,
        clock: 1,
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.reopen(u32::MAX);
}

/// One input for each case: a life without lies.
pub fn seeds(family: &str) -> Vec<(String, Vec<u8>)> {
    let cases = cases::of(family);
    cases
        .names()
        .map(|(name, choice)| {
            let mut bytes = choice.to_le_bytes().to_vec();
            for code in step::EVENT..step::CODES {
                bytes.extend([code, 0, 0, 0, 0, 0, 0, 0]);
            }
            // A change of one byte to what it is already, so that changes are known, then a restart.
            bytes.extend([step::PATCH, 0, 0, 0, 0, 0, 0x18]);
            bytes.extend([step::REOPEN, 0xff, 0xff]);
            bytes.extend([step::EVENT + 9, 0, 0, 0]);
            let name = name.replace(['/', ' '], "_");
            (name, bytes)
        })
        .collect()
}

struct Run<'a> {
    case: &'a Case,
    disks: Vec<Disk>,
    /// By disk: sectors that cannot be read.
    bad: Vec<Vec<u64>>,
    /// By disk: sectors with lies since the last assembly.
    touched: Vec<Vec<u64>>,
    /// Checksums are made right before the next assembly.
    sealed: bool,
    /// Disks that are there, by key.
    present: u32,
    set: Option<Box<dyn MetadataSet>>,
    /// It was tried to assemble since the last lie.
    opened: bool,
    clock: u64,
}

impl Run<'_> {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % step::CODES {
            step::PATCH => self.patch(input),
            step::FILL => self.fill(input),
            step::BAD => self.make_bad(input),
            step::REOPEN => {
                let present = u32::from(input.u16()) | 0xffff_0000;
                self.reopen(present);
            }
            step::RAW => self.sealed = input.u8() % 4 != 0,
            code => {
                if !self.opened {
                    self.reopen(self.present);
                }
                self.event(code.saturating_sub(step::EVENT), input);
            }
        }
    }

    /// The disks that a step is about: one, or all.
    fn chosen(&self, choice: u8) -> std::ops::Range<usize> {
        let count = self.case.disks.len();
        if choice >= 0xC0 {
            return 0..count;
        }
        let one = usize::from(choice) % count;
        one..one + 1
    }

    /// The sectors that number `nth` of a disk's hot ones means.
    fn places(&self, disk: usize, nth: u16, both: bool) -> Vec<u64> {
        let hot = &self.case.hot[disk];
        if hot.is_empty() {
            return Vec::new();
        }
        let hot = hot[usize::from(nth) % hot.len()];
        [Some(hot.sector), hot.twin.filter(|_| both)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn change(&mut self, disk: usize, sector: u64, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.disks[disk].read(sector, 1);
        change(&mut bytes);
        self.disks[disk].write(sector, &bytes);
        self.touched[disk].push(sector);
        self.opened = false;
    }

    /// A number of 1, 2, 4 or 8 bytes becomes another one.
    fn patch(&mut self, input: &mut Input<'_>) {
        let (disks, nth, at, how) = (input.u8(), input.u16(), input.u16(), input.u8());
        let width = 1usize << (how & 3);
        let literal = input_literal(input, how, width);
        let at = usize::from(at) % 512 / width * width;
        for disk in self.chosen(disks) {
            for sector in self.places(disk, nth, how & 0x40 == 0) {
                self.change(disk, sector, |bytes| {
                    let field = &mut bytes[at..at + width];
                    let big = how & 0x20 != 0;
                    let now = number(field, big);
                    let next = match (how >> 2) & 7 {
                        1 => 0,
                        2 => u64::MAX,
                        3 => now.wrapping_add(1),
                        4 => now.wrapping_sub(1),
                        5 => now ^ (1 << (literal % 64)),
                        6 => now,
                        7 => u64::MAX >> 1 >> (64 - 8 * width),
                        _ => literal,
                    };
                    set_number(field, big, next);
                });
            }
        }
    }

    /// A stretch of a sector becomes bytes of the input.
    fn fill(&mut self, input: &mut Input<'_>) {
        let (disks, nth, at) = (input.u8(), input.u16(), input.u16());
        let count = usize::from(input.u8()) + 1;
        let data = input.bytes(count);
        for disk in self.chosen(disks) {
            for sector in self.places(disk, nth, true) {
                self.change(disk, sector, |bytes| {
                    let room = bytes[usize::from(at) % 512..].iter_mut();
                    for (byte, new) in room.zip(data) {
                        *byte = *new;
                    }
                });
            }
        }
    }

    fn make_bad(&mut self, input: &mut Input<'_>) {
        let (disk, nth) = (input.u8(), input.u16());
        for disk in self.chosen(disk) {
            let places = self.places(disk, nth, false);
            self.bad[disk].extend(places);
            self.opened = false;
        }
    }

    /// Assembles anew what is on the disks.
    fn reopen(&mut self, present: u32) {
        self.present = present;
        self.opened = true;
        for disk in 0..self.case.disks.len() {
            let touched = std::mem::take(&mut self.touched[disk]);
            if self.sealed && !touched.is_empty() {
                let pieces = &self.case.pieces[disk];
                repair::repair(self.case.format, &mut self.disks[disk], pieces, &touched);
            }
        }
        self.set = None;
        let opened = shell::open(self.case.format, &self.disks, &self.bad, present);
        if let Some(Ok(set)) = opened {
            self.set = Some(set);
            self.look();
        }
    }

    /// What the module asks of a set when it starts its volumes.
    fn look(&self) {
        let Some(set) = self.set.as_ref() else { return };
        for (index, volume) in set.set().live_volumes() {
            match set.hole_log(index) {
                Some(HoleLog::Ring { units, .. }) => assert!(units > 0, "an empty log"),
                Some(HoleLog::Row(row)) => assert!(row.sectors > 0, "an empty log"),
                None => {}
            }
            for (slot, member) in (0u16..).zip(volume.members.iter()) {
                self.look_at_left_log(set.as_ref(), index, slot);
                let sector = set.hole_log_sector(index, slot);
                let disk = member.disk.and_then(|disk| set.set().disk(disk));
                if let (Some(sector), Some(facts)) = (sector, disk.and_then(|disk| disk.facts)) {
                    assert!(
                        matches!(set.hole_log(index), Some(HoleLog::Row(_))) || sector % 8 == 0
                    );
                    assert!(sector < facts.size_sectors);
                }
            }
        }
    }

    /// What the module asks of a log that another driver left.
    fn look_at_left_log(&self, set: &dyn MetadataSet, volume: u16, slot: u16) {
        let Some((sector, sectors)) = set.left_log_place(volume, slot) else {
            return;
        };
        assert!(set.left_log(volume).is_some(), "a place, and no log");
        assert!(sectors > 0 && sectors <= LEFT_LOG_SECTORS_MAX);
        let model = set.set().volume(volume);
        let member = model.and_then(|model| model.members.get(usize::from(slot)));
        let disk = member.and_then(|member| set.set().disk(member.disk?));
        let facts = disk
            .and_then(|disk| disk.facts)
            .expect("a disk that is here");
        let block = u64::from(facts.logical_block_bytes / 512);
        assert!(sector + u64::from(sectors) <= facts.size_sectors);
        assert!(sector % block == 0 && u64::from(sectors) % block == 0);
        let Some(disk) = self.disks.get(facts.key as usize) else {
            return;
        };
        let bytes = disk.read(sector, sectors as usize);
        let mut writes = KVVec::new();
        let _ = set.read_left_log(volume, slot, &bytes, &mut writes);
        let geometry = model.and_then(|model| Geometry::new(&model.shape, model.size_sectors).ok());
        let Some(geometry) = geometry else { return };
        let mut stretches = KVVec::new();
        for write in writes.iter() {
            let _ = left::stretches(&geometry, write, &mut stretches);
        }
        for stretch in stretches.iter() {
            assert!(stretch.column + stretch.sectors <= geometry.chunk_sectors());
            assert!(stretch.stripe < geometry.stripes());
        }
    }

    /// An event, with all that comes of it.
    fn event(&mut self, code: u8, input: &mut Input<'_>) {
        let Some(mut set) = self.set.take() else {
            return;
        };
        if code == MISSED {
            set.missed(u16::from(input.u8()), u16::from(input.u8()));
        }
        let mut slots = Vec::new();
        let event = self.make_event(code, input, set.set(), &mut slots);
        if let Some(event) = event {
            self.clock += 1;
            let before = state(set.set());
            match set.apply(&event, &shell::context(self.clock)) {
                Ok(()) => {
                    if input.u8() == u8::MAX {
                        set.leave_behind(u16::from(input.u8()));
                    }
                    shell::check_model(set.set());
                    shell::carry_out(set.as_ref(), &mut self.disks);
                }
                Err(why) => {
                    shell::check_reason(&why, &format!("{event:?}"));
                    assert!(
                        before == state(set.set()),
                        "{event:?} was refused and changed something: {why}"
                    );
                }
            }
        }
        self.set = Some(set);
        self.look();
    }

    fn make_event<'e>(
        &mut self,
        code: u8,
        input: &mut Input<'_>,
        set: &Set,
        slots: &'e mut Vec<Option<u16>>,
    ) -> Option<Event<'e>> {
        let volume = u16::from(input.u8());
        let member_sectors = set
            .volume(volume)
            .map_or(1 << 20, |v| v.shape.member_sectors);
        let event = match code {
            0 => Event::Dirty(volume),
            1 => Event::Clean(volume),
            2 => Event::ResyncProgress {
                volume,
                done_sectors: input.sectors(member_sectors),
            },
            3 => Event::ResyncDone(volume),
            4 => Event::DiskFailed(volume),
            5 => Event::DiskMissing(volume),
            6 => Event::DiskAdded(self.new_disk(input)?),
            7 => {
                let facts = set.disk(volume)?.facts;
                let key = facts.map_or(u64::from(input.u8()), |facts| facts.key);
                let disk = self.disks.get(usize::try_from(key).ok()?)?;
                let facts = shell::facts(disk, key);
                match set.irreplaceable(volume) {
                    None => Event::DiskReturned(volume, facts),
                    Some(_) => Event::DiskReinstated(volume, facts),
                }
            }
            8 => Event::DiskRemoved(volume),
            9 => Event::SpareAssigned(volume, role(input)),
            10 | 20 => Event::SpareActivated {
                volume,
                slot: u16::from(input.u8()),
                disk: u16::from(input.u8()),
            },
            11 => Event::RebuildProgress {
                volume,
                slot: u16::from(input.u8()),
                done_sectors: input.sectors(member_sectors),
            },
            12 => Event::RebuildDone {
                volume,
                slot: u16::from(input.u8()),
            },
            13 => Event::VolumeDeleted(volume),
            14 => Event::VolumeRenamed(volume, name(input)),
            15 => Event::RegionsDirty {
                volume,
                first: u32::from(input.u16()),
                count: count(input),
            },
            16 => Event::RegionsClean {
                volume,
                first: u32::from(input.u16()),
                count: count(input),
            },
            17 => Event::BadRangeAdded(bad_range(volume, input, set)),
            18 => Event::BadRangeCleared(bad_range(volume, input, set)),
            19 => {
                let policies = CrashPolicy::ALL;
                let policy = policies[usize::from(input.u8()) % policies.len()];
                Event::CrashPolicySet(volume, policy)
            }
            21 => Event::ScrubProgress(
                volume,
                (input.u8() & 1 == 0).then(|| Scrub {
                    repairs: input.u8() & 1 == 0,
                    done_sectors: input.sectors(member_sectors),
                }),
            ),
            22 => Event::HoleLogStarted(volume),
            23 => Event::VolumeCreated(spec(input, slots)),
            25 => Event::LeftLogOff {
                volume,
                is_settled: input.u8() & 1 == 0,
            },
            _ => return None,
        };
        Some(event)
    }

    fn new_disk(&mut self, input: &mut Input<'_>) -> Option<DiskOffer> {
        if self.disks.len() >= DISKS_MAX {
            return None;
        }
        let first = &self.disks[0];
        let (size, block) = (first.size_sectors, first.logical_block_bytes);
        let key = self.disks.len() as u64;
        let block_sectors = u64::from(block / 512);
        let size = match input.u8() {
            0..=3 => size,
            4 => size / 2 / block_sectors * block_sectors,
            choice => (u64::from(choice) * block_sectors).max(64),
        };
        let disk = Disk::blank(&format!("NEW{key:04}"), size, block);
        let facts = shell::facts(&disk, key);
        self.disks.push(disk);
        Some(DiskOffer {
            facts,
            role: role(input),
        })
    }
}

/// The number that a patch puts, where its kind wants one.
fn input_literal(input: &mut Input<'_>, how: u8, width: usize) -> u64 {
    match (how >> 2) & 7 {
        0 => number(input.bytes(width), false),
        5 => u64::from(input.u8()),
        _ => 0,
    }
}

fn number(field: &[u8], big: bool) -> u64 {
    let add = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
    if big {
        field.iter().fold(0, add)
    } else {
        field.iter().rev().fold(0, add)
    }
}

fn set_number(field: &mut [u8], big: bool, value: u64) {
    let width = field.len();
    for (nth, byte) in field.iter_mut().enumerate() {
        let shift = if big { width - 1 - nth } else { nth };
        *byte = (value >> (8 * shift)) as u8;
    }
}

fn role(input: &mut Input<'_>) -> SpareRole {
    match input.u8() {
        0 => SpareRole::Global,
        1 => SpareRole::None,
        choice => SpareRole::Dedicated(u16::from(choice - 2)),
    }
}

fn count(input: &mut Input<'_>) -> u32 {
    match input.u8() {
        255 => u32::MAX,
        choice => u32::from(choice) + 1,
    }
}

fn name(input: &mut Input<'_>) -> Text<32> {
    let len = usize::from(input.u8() % 40);
    Text::from_text(&String::from_utf8_lossy(input.bytes(len)))
}

fn bad_range(disk: u16, input: &mut Input<'_>, set: &Set) -> BadRange {
    let usable = set.disk(disk).map_or(1 << 20, |disk| disk.usable_sectors);
    BadRange {
        disk,
        sector: input.sectors(usable),
        sectors: count(input),
    }
}

fn spec<'e>(input: &mut Input<'_>, slots: &'e mut Vec<Option<u16>>) -> VolumeSpec<'e> {
    let level = Level::ALL[usize::from(input.u8()) % Level::ALL.len()];
    let layout = match input.u8() {
        0..=7 => None,
        8 => Some(Layout::Plain),
        9 => Some(Layout::Near(input.u8())),
        10 => Some(Layout::Far(input.u8())),
        11 => Some(Layout::Offset(input.u8())),
        choice => Some(Layout::Parity(
            Rotation::ALL[usize::from(choice) % Rotation::ALL.len()],
        )),
    };
    let chunk_sectors = match input.u8() {
        0 => 0,
        255 => input.u32(),
        choice => 1 << (choice % 32),
    };
    let spans = u16::from(input.u8() % 8);
    let size_sectors = input.sectors(1 << 14);
    let members = input.u8() % 70;
    slots.extend((0..members).map(|nth| {
        let choice = input.u8();
        (choice != 255).then(|| u16::from(nth.wrapping_add(choice)))
    }));
    VolumeSpec {
        name: name(input),
        level,
        spans,
        layout,
        chunk_sectors,
        size_sectors,
        disks: slots,
        assume_clean: input.u8() & 1 != 0,
        log: false,
        regions: None,
    }
}

/// A number that stands for all of a model.
fn state(set: &Set) -> u64 {
    struct Sum(u64);
    impl std::fmt::Write for Sum {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            for byte in text.bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut sum = Sum(0xcbf2_9ce4_8422_2325);
    write!(sum, "{set:?}").expect("nothing fails here");
    sum.0
}
