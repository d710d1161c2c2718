// SPDX-License-Identifier: GPL-2.0

//! From disks to a set: whose table counts, which disks belong, what contradicts itself.

use super::super::bytes::slice;
use super::super::DiskImage;
use super::layout::*;
use super::probe::{examine, identity, identity_of, Exam, Found};
use super::set::{buffer, AsrSet, DiskMeta, Home, Live, Spot, Touched};
use super::table::{is_newer, Table};
use crate::model::alloc::boxed;
use crate::model::{
    note, Access, Checked, Disk, DiskFacts, DiskIndex, DiskRole, DiskState, Reason, Set, Text,
    UpdatePlan, DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// A disk that can be used, with its table.
pub struct Candidate<'a> {
    /// What was found.
    pub found: Found<'a>,
    /// Its table.
    pub table: Table,
    /// The table's sequence number.
    pub sequence: u16,
    /// [`Table::is_sound`], worked out once.
    pub is_sound: bool,
    /// The model's disk; `None` for a second claimant.
    pub disk: Option<DiskIndex>,
}

/// Why nothing is written to a set of which no sound table is here.
pub const DAMAGED: &str = "the checksums of its table are wrong";

/// What assembly works on.
pub struct Reader<'a> {
    /// Disks that can be used.
    pub candidates: KVec<Candidate<'a>>,
    /// Whose table is used.
    pub base: usize,
    /// EMD was the last to write that table: its own marks in it are good.
    pub sealed: bool,
    /// Two disks claim to be this one, or two lines are, by disk.
    pub contested: KVec<bool>,
    /// The set.
    pub set: KBox<AsrSet>,
}

/// [`crate::metadata::Format::assemble`].
pub fn assemble(images: &[&DiskImage]) -> Checked<KBox<AsrSet>> {
    let mut notes = KVec::new();
    let candidates = examine_all(images, &mut notes)?;
    let base = freshest(&candidates);
    let mut reader = start(candidates, base, notes)?;
    reader.adopt_spares()?;
    reader.list_disks()?;
    reader.place_disks()?;
    reader.read_volumes()?;
    let mut set = reader.finish()?;
    set.set.lends_spares = is_pool(&set);
    Ok(set)
}

/// Whether all disks are spares for any array.
fn is_pool(set: &AsrSet) -> bool {
    let is_spare = |disk: &Disk| {
        disk.facts.is_some()
            && disk.state == DiskState::Online
            && disk.role == DiskRole::GlobalSpare
    };
    set.id == NO_MAGIC
        && set.frozen != Some(DAMAGED)
        && set.set.live_volumes().next().is_none()
        && set.set.live_disks().all(|(_, disk)| is_spare(disk))
}

#[inline(never)]
fn examine_all<'a>(
    images: &[&'a DiskImage],
    notes: &mut KVec<Text<160>>,
) -> Checked<KVec<Candidate<'a>>> {
    if images.len() > DISKS_MAX {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {DISKS_MAX}",
            images.len()
        ));
    }
    let mut candidates: KVec<Candidate<'a>> = KVec::with_capacity(images.len(), GFP_KERNEL)?;
    let mut why = None;
    for image in images {
        if let Some(reason) = take(image, &mut candidates)? {
            note(notes, format_args!("a disk is left out: {}", reason.text()))?;
            why = Some(reason);
        }
    }
    let Some(first) = candidates.first() else {
        return Err(why.unwrap_or_else(|| reason!(ENODEV, "no disk carries ASR metadata")));
    };
    let id = identity(&first.table);
    if candidates.iter().any(|one| identity(&one.table) != id) {
        return Err(reason!(EINVAL, "the disks belong to different sets"));
    }
    Ok(candidates)
}

/// Examines one disk; says why when it cannot be used.
#[inline(never)]
fn take<'a>(image: &'a DiskImage, candidates: &mut KVec<Candidate<'a>>) -> Checked<Option<Reason>> {
    match examine(image) {
        Exam::Found(found) => {
            let table = Table::new(found.table)?;
            candidates.push(
                Candidate {
                    found,
                    sequence: table.sequence(),
                    is_sound: table.is_sound(),
                    table,
                    disk: None,
                },
                GFP_KERNEL,
            )?;
            Ok(None)
        }
        Exam::Damaged(reason) => Ok(Some(reason)),
        Exam::NotMine | Exam::Read(_) => Ok(Some(reason!(ENODEV, "it carries no ASR metadata"))),
    }
}

/// What a disk is called.
pub fn label_of(magic: u32) -> Text<32> {
    Text::from_fmt(format_args!("{magic:08x}"))
}

/// Whether a table calls the disk with this magic number a part of the set that works.
fn vouches(table: &Table, magic: u32) -> bool {
    table
        .disk(magic)
        .and_then(|index| table.line(index))
        .is_some_and(|line| !line.is_lost())
}

/// Whether a table is of an update that did not get far: a disk that is here, and a member by this table, does
/// not know of a loss that it records. All members have to, before anything is written without the lost one;
/// so nothing was.
pub fn was_cut(table: &Table, candidates: &[Candidate<'_>]) -> bool {
    let works = |one: &Candidate<'_>| {
        let line = table.disk(one.found.magic());
        line.and_then(|index| table.line(index))
            .is_some_and(|line| line.is_member() && !line.is_lost())
    };
    let lost = |by: &Table, magic| {
        let line = by.disk(magic).and_then(|index| by.line(index));
        line.map(|line| line.is_lost())
    };
    candidates
        .iter()
        .filter(|one| one.is_sound && works(one))
        .any(|one| {
            let mut listed = table.lines().filter(|(_, line)| line.names_disk());
            listed.any(|(_, line)| {
                lost(table, line.magic) == Some(true) && lost(&one.table, line.magic) == Some(false)
            })
        })
}

/// The line of a spare with a table of its own, as firmware writes it.
fn lone_spare(one: &Candidate<'_>) -> Option<Line> {
    let is_own = one.table.volumes().next().is_none() && !one.table.is_marked();
    let index = one.table.disk(one.found.magic()).filter(|_| is_own)?;
    one.table
        .line(index)
        .filter(|line| line.raid == raid::SPARE)
}

/// Whether a disk is a lone spare, and there are tables with arrays, in none of which it is a member.
fn is_lone(one: &Candidate<'_>, candidates: &[Candidate<'_>]) -> bool {
    let is_member = |table: &Table| {
        let line = table.disk(one.found.magic());
        line.and_then(|index| table.line(index))
            .is_some_and(|line| line.is_member())
    };
    let mut with_arrays = candidates
        .iter()
        .filter(|other| other.table.volumes().next().is_some())
        .peekable();
    lone_spare(one).is_some()
        && with_arrays.peek().is_some()
        && !with_arrays.any(|other| is_member(&other.table))
}

/// Whose table is used: one with the highest sequence number, of those that are sound. Among several (a number
/// can be given twice: an update reaches one disk only, power fails, and the others start without it) one whose
/// update was not cut, and the one whose owner most of the others with that number know and trust: a disk that
/// was being added, or that was recorded as lost, has no say; nor has a lone spare where others have arrays, whatever
/// number firmware gave to its table.
#[inline(never)]
fn freshest(candidates: &[Candidate<'_>]) -> usize {
    let has_say = |one: &Candidate<'_>| !is_lone(one, candidates);
    let any_sound = candidates.iter().any(|one| one.is_sound && has_say(one));
    let counts = |one: &Candidate<'_>| has_say(one) && (one.is_sound || !any_sound);
    let mut newest = None;
    for one in candidates.iter().filter(|one| counts(one)) {
        if newest.is_none_or(|known| is_newer(one.sequence, known)) {
            newest = Some(one.sequence);
        }
    }
    let newest = newest.unwrap_or(0);
    let key = |one: &Candidate<'_>| {
        let magic = one.found.magic();
        let trusted = candidates
            .iter()
            .filter(|other| {
                counts(other) && other.sequence == newest && vouches(&other.table, magic)
            })
            .count();
        (
            counts(one) && one.sequence == newest,
            !was_cut(&one.table, candidates),
            trusted,
            one.table.volumes().next().is_some(),
        )
    };
    let mut best = 0;
    for index in 1..candidates.len() {
        if let (Some(one), Some(other)) = (candidates.get(index), candidates.get(best)) {
            if key(one) > key(other) {
                best = index;
            }
        }
    }
    best
}

#[inline(never)]
fn start(
    candidates: KVec<Candidate<'_>>,
    base: usize,
    notes: KVec<Text<160>>,
) -> Checked<Reader<'_>> {
    let one = candidates
        .get(base)
        .ok_or_else(|| reason!(ENODEV, "no disk carries ASR metadata"))?;
    let id = identity(&one.table);
    let sealed = one.table.is_sealed();
    let (version, sum) = (
        get32(one.table.head(), header::VERSION),
        get16(one.table.head(), header::SUM),
    );
    let (right, sound) = (one.table.sum(), one.table.is_sound());
    let mut set = boxed(AsrSet {
        set: Set {
            format: "asr",
            id: identity_of(id),
            name: Text::new(),
            generation: u64::from(one.sequence),
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes,
        },
        plan: UpdatePlan::new(),
        id,
        table: Table::new(one.table.bytes())?,
        sequence: one.sequence,
        frozen: None,
        zeros: KVVec::from_elem(0, 512, GFP_KERNEL)?,
        disks: KVec::new(),
        volumes: KVec::new(),
        leaving: None,
        touched: Touched::Nothing,
    })?;
    set.set.reserve_bad_ranges()?;
    let mut reader = Reader {
        candidates,
        base,
        sealed,
        contested: KVec::new(),
        set,
    };
    if sum != right {
        // As dmraid: told, not enforced. Only tables before version 2 have to keep it.
        reader.note(format_args!(
            "the table (version {version}) has checksum {sum:04x} instead of {right:04x}"
        ))?;
    }
    if !sound {
        reader.set.frozen = Some(DAMAGED);
    }
    if id == NO_MAGIC {
        reader.set.frozen = Some("these are spares of no set: remove them, then add them to one");
    }
    let unknown = reader
        .set
        .table
        .lines()
        .filter(|(_, line)| !line.is_known())
        .count();
    if unknown > 0 {
        reader.note(format_args!(
            "{unknown} lines of the table are of unknown levels and kept as they are"
        ))?;
    }
    Ok(reader)
}

impl Reader<'_> {
    /// Adds a remark for people.
    pub fn note(&mut self, args: core::fmt::Arguments<'_>) -> Checked {
        note(&mut self.set.set.notes, args)
    }

    /// Most lines of the set's table that can be changed safely ([`AsrSet::lines_max`]) once the disk with this magic number is
    /// listed, too.
    fn lines_max_with(&self, magic: u32) -> usize {
        let table = &self.set.table;
        let is_written = |number| number == magic || vouches(table, number);
        let mut cramped = self.candidates.iter().filter(|one| {
            let (place, last) = (place_of(&one.found).0, last_of(&one.found));
            is_written(one.found.magic()) && !has_halves(place, last)
        });
        match cramped.next() {
            None => LINES_WRITTEN_MAX,
            Some(_) => LINES_OF_SECTOR,
        }
    }

    /// Lists lone spares, whose own tables say so, in the set's table. It is written with the next
    /// update.
    #[inline(never)]
    fn adopt_spares(&mut self) -> Checked {
        for at in 0..self.candidates.len() {
            let Some(one) = self.candidates.get(at) else {
                break;
            };
            let magic = one.found.magic();
            let array = get32(one.table.head(), header::ARRAY);
            let (Some(line), None) = (lone_spare(one), self.set.table.disk(magic)) else {
                continue;
            };
            let top = self.set.table.volume_line(array);
            let table = &self.set.table;
            if table.has_room(2) && table.len().saturating_add(2) <= self.lines_max_with(magic) {
                self.set.list_spare(top, &line);
            }
        }
        Ok(())
    }

    /// Makes a disk of the model of every line of a disk.
    #[inline(never)]
    fn list_disks(&mut self) -> Checked {
        for index in 0..self.set.table.len() {
            let Some(line) = self.set.table.line(index).filter(Line::names_disk) else {
                continue;
            };
            if let Some(twin) = self.set.by_magic(line.magic) {
                self.contest(twin);
                let magic = line.magic;
                self.note(format_args!("two lines are of disk {magic:08x}"))?;
                continue;
            }
            let state = if line.is_lost() {
                DiskState::Failed
            } else {
                DiskState::Missing
            };
            self.push_disk(line.magic, state, u64::from(line.capacity), None)?;
        }
        Ok(())
    }

    fn push_disk(
        &mut self,
        magic: u32,
        state: DiskState,
        usable_sectors: u64,
        facts: Option<DiskFacts>,
    ) -> Checked<DiskIndex> {
        if self.set.disks.len() >= DISKS_MAX {
            return Err(reason!(E2BIG, "the set lists more than {DISKS_MAX} disks"));
        }
        let index = self.set.disks.len() as DiskIndex;
        self.set.set.disks.push(
            Disk {
                facts,
                label: label_of(magic),
                state,
                role: DiskRole::Unused,
                usable_sectors,
                failure_predicted: false,
            },
            GFP_KERNEL,
        )?;
        self.set.disks.push(
            DiskMeta {
                magic,
                spot: None,
                was_away: false,
                home: None,
            },
            GFP_KERNEL,
        )?;
        self.contested.push(false, GFP_KERNEL)?;
        Ok(index)
    }

    fn contest(&mut self, disk: DiskIndex) {
        if let Some(flag) = self.contested.get_mut(usize::from(disk)) {
            *flag = true;
        }
    }

    /// Finds out which of the set's disks each one is that is here.
    #[inline(never)]
    fn place_disks(&mut self) -> Checked {
        for at in 0..self.candidates.len() {
            let Some(one) = self.candidates.get(at) else {
                break;
            };
            let (magic, facts) = (one.found.magic(), one.found.facts);
            let spot = Spot {
                table: one.found.at,
                last: last_of(&one.found),
            };
            let place = place_of(&one.found).0;
            let known = self.set.by_magic(magic);
            let disk = match known {
                Some(disk) if self.set.set.disk(disk).is_some_and(|d| d.facts.is_some()) => {
                    self.contest(disk);
                    self.set.frozen = Some("a disk of the set is there twice");
                    self.note(format_args!("two disks claim to be disk {magic:08x}"))?;
                    continue;
                }
                Some(disk) => disk,
                None => {
                    self.note(format_args!(
                        "disk {magic:08x} is not in the newest table of the set"
                    ))?;
                    self.push_disk(magic, DiskState::Stale, place, Some(facts))?
                }
            };
            let lost = self
                .set
                .disk_line(disk)
                .and_then(|index| self.set.table.line(index))
                .is_some_and(|line| line.is_lost());
            let listed = known.is_some();
            let own = self.candidates.get(at).map(|one| &one.table);
            let was_away = lost && own.is_some_and(|own| self.set.table.may_miss(magic, own));
            if let Some(model) = self.set.set.disks.get_mut(usize::from(disk)) {
                model.facts = Some(facts);
                model.usable_sectors = place;
                model.state = match (listed, lost) {
                    (false, _) => DiskState::Stale,
                    (true, true) => DiskState::Failed,
                    (true, false) => DiskState::Online,
                };
            }
            if let Some(one) = self.candidates.get_mut(at) {
                one.disk = Some(disk);
            }
            if let Some(meta) = self.set.disks.get_mut(usize::from(disk)) {
                meta.spot = Some(spot);
                meta.was_away = was_away;
            }
            if listed && !lost {
                self.move_in(at, disk)?;
            }
        }
        // Lost and not here either: missing.
        for model in self.set.set.disks.iter_mut() {
            if model.facts.is_none() {
                model.state = DiskState::Missing;
            }
        }
        Ok(())
    }

    /// Makes the buffers of a disk that will be written to.
    #[inline(never)]
    fn move_in(&mut self, at: usize, disk: DiskIndex) -> Checked {
        let Some(one) = self.candidates.get(at) else {
            return Ok(());
        };
        let (place, in_half) = place_of(&one.found);
        let mut home = make_home(place, last_of(&one.found), one.found.reserved)?;
        match in_half {
            true => home.live = Live::Half,
            false => home.there = Table::new(one.table.bytes())?,
        }
        if let Some(meta) = self.set.disks.get_mut(usize::from(disk)) {
            meta.home = Some(home);
        }
        if self.set.table.len() > self.set.lines_max() {
            self.set.frozen = Some("its table is too long to be changed in one go");
        }
        Ok(())
    }

    /// Whether the disk is there twice.
    pub fn is_contested(&self, disk: DiskIndex) -> bool {
        self.contested
            .get(usize::from(disk))
            .copied()
            .unwrap_or(false)
    }

    #[inline(never)]
    fn finish(mut self) -> Checked<KBox<AsrSet>> {
        for index in 0..self.set.disks.len() {
            self.set
                .refresh_role(u16::try_from(index).unwrap_or(u16::MAX));
        }
        if let Some(why) = self.set.frozen {
            self.note(format_args!("nothing is written to this set: {why}"))?;
            self.forbid_writes(why);
        }
        self.set.reserve_plan()?;
        self.set.touched = Touched::Nothing;
        Ok(self.set)
    }

    /// Volumes of a set that nothing can be recorded in are not written: what was dirty, or failed, would be forgotten.
    fn forbid_writes(&mut self, why: &str) {
        for volume in self.set.set.volumes.iter_mut() {
            if matches!(volume.access, Access::ReadWrite) {
                volume.access = Access::ReadOnly(reason!(EROFS, "{why}"));
            }
        }
    }
}

/// The last sector of a disk.
fn last_of(found: &Found<'_>) -> u64 {
    found.facts.size_sectors.saturating_sub(1)
}

/// Whether a table's place, from sector `place` of a disk whose last one is `last`, has a second half.
fn has_halves(place: u64, last: u64) -> bool {
    place.saturating_add(TABLE_SECTORS) <= last
}

/// First sector of the place of a disk's table, and whether its second half is in use: EMD's own
/// update was cut.
fn place_of(found: &Found<'_>) -> (u64, bool) {
    let usual = found.facts.size_sectors.saturating_sub(TAIL_SECTORS);
    if found.at == usual.saturating_add(HALF_SECTORS) {
        return (usual, true);
    }
    (found.at, false)
}

/// The buffers of a disk whose table's place starts at `place`. `reserved` is its reserved block.
#[inline(never)]
pub fn make_home(place: u64, last: u64, reserved: &[u8]) -> Checked<Home> {
    let mut rest = KVVec::from_elem(0u8, 512, GFP_KERNEL)?;
    let mut moved = KVVec::from_elem(0u8, 512, GFP_KERNEL)?;
    for (target, table) in [
        (&mut rest, place),
        (&mut moved, place.saturating_add(HALF_SECTORS)),
    ] {
        let _ = super::super::bytes::put(target, 0, slice(reserved, 0, 512).unwrap_or(&[]));
        put32(
            target,
            reserved::TABLE,
            u32::try_from(table).unwrap_or(u32::MAX),
        );
    }
    Ok(Home {
        place,
        halves: has_halves(place, last),
        live: Live::Front,
        was_live: Live::Front,
        unsure: false,
        last,
        reserved: rest,
        moved,
        there: Table::new(&[])?,
        fresh: false,
    })
}

/// Buffer number `which` of a disk.
pub fn disk_buffer(disk: DiskIndex, which: u32) -> u32 {
    buffer::FIRST_DISK + u32::from(disk) * buffer::PER_DISK + which
}
