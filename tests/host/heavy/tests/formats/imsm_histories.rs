// SPDX-License-Identifier: GPL-2.0

//! Random histories: whatever events come in whatever order, the disks say what the memory says, and
//! a refused event changes nothing. A failure names its seed; `EMD_SEEDS=FROM..TO` runs others.

use crate::imsm_common::{
    assert_same, blanks, carry_out, context, create, cut_everywhere, facts, open, open_keyed,
    sample, show, writes, Random,
};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, DiskOffer, Event, Layout, Level, SpareRole, Text, VolumeSpec};
use host_tests::samples::Disk;

struct History {
    random: Random,
    set: Box<ImsmSet>,
    disks: Vec<Disk>,
    applied: usize,
    refused: usize,
    compared: usize,
    /// The volume reaches the metadata.
    graid: bool,
}

impl History {
    fn start(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        let cases = [
            "gen/raid1",
            "gen/raid10",
            "gen/raid5-4",
            "gen/raid1-rebuild",
            "gen/raid1-missing",
            "gen-freebsd/intel-raid1-2d",
            "gen/bbm",
            "gen/4k-raid1",
        ];
        let pick = random.below(16) as usize;
        let (set, disks) = match cases.get(pick) {
            Some(case) => {
                let mut disks = sample(case);
                for disk in &mut disks {
                    disk.keep_last(70_000);
                }
                (open(&disks).unwrap(), disks)
            }
            None => {
                let block = if pick % 2 == 0 { 512 } else { 4096 };
                let count = 1 + random.below(8) as usize;
                let mut disks = blanks(count, 33 + random.below(20), block);
                (create(&mut disks), disks)
            }
        };
        Self {
            random,
            set,
            disks,
            applied: 0,
            refused: 0,
            compared: 0,
            graid: pick == 5,
        }
    }

    fn below(&mut self, n: usize) -> u16 {
        self.random.below(n.max(1) as u64 + 1).min(n as u64) as u16
    }

    fn disk(&mut self) -> u16 {
        let count = self.set.set().disks.len();
        self.below(count)
    }

    fn volume(&mut self) -> u16 {
        let count = self.set.set().volumes.len();
        self.below(count)
    }

    fn role(&mut self) -> SpareRole {
        match self.random.below(3) {
            0 => SpareRole::None,
            1 => SpareRole::Global,
            _ => SpareRole::Dedicated(self.volume()),
        }
    }

    /// One random event, applied or refused.
    fn step(&mut self, n: u64) {
        let choice = self.random.below(22);
        let name = Text::from_text(&format!("v{}", self.random.below(6)));
        let members: Vec<Option<u16>> = (0..1 + self.random.below(8))
            .map(|_| (self.random.below(12) > 0).then(|| self.disk()))
            .collect();
        let (disk, volume, slot) = (self.disk(), self.volume(), self.random.below(4) as u16);
        let done_sectors = self.random.below(3000);
        match choice {
            0 => self.apply(&Event::DiskFailed(disk), n),
            1 => self.apply(&Event::DiskMissing(disk), n),
            2 | 3 if self.disks.len() < 24 => {
                let block = self.disks[0].logical_block_bytes;
                let size = (32 + self.random.below(30)) * 2048;
                let key = self.disks.len() as u64;
                self.disks
                    .push(Disk::blank(&format!("NEW-{key:06}"), size, block));
                let offer = DiskOffer {
                    facts: facts(&self.disks[key as usize], key),
                    role: self.role(),
                };
                self.apply(&Event::DiskAdded(offer), n);
            }
            4 => {
                let key = self.random.below(self.disks.len() as u64);
                let facts = facts(&self.disks[key as usize], key);
                self.apply(&Event::DiskReturned(disk, facts), n);
            }
            19 | 20 => {
                let range = BadRange {
                    disk,
                    sector: self.random.below(400) * 8,
                    sectors: 8 * (1 + self.random.below(90)) as u32,
                };
                if choice == 19 {
                    self.apply(&Event::BadRangeAdded(range), n);
                } else {
                    self.apply(&Event::BadRangeCleared(range), n);
                }
            }
            5 => self.apply(&Event::DiskRemoved(disk), n),
            6 => {
                let role = self.role();
                self.apply(&Event::SpareAssigned(disk, role), n);
            }
            7..=9 => self.apply(&Event::SpareActivated { volume, slot, disk }, n),
            10 => {
                let event = Event::RebuildProgress {
                    volume,
                    slot,
                    done_sectors,
                };
                self.apply(&event, n);
            }
            11 | 12 => self.apply(&Event::RebuildDone { volume, slot }, n),
            13 => self.apply(&Event::Dirty(volume), n),
            14 => self.apply(&Event::Clean(volume), n),
            15 => {
                let event = Event::ResyncProgress {
                    volume,
                    done_sectors,
                };
                self.apply(&event, n);
            }
            16 => self.apply(&Event::ResyncDone(volume), n),
            17 => {
                let level = Level::ALL[self.random.below(8) as usize];
                let layouts = [None, Some(Layout::Plain), Some(Layout::Near(2))];
                let spec = VolumeSpec {
                    name,
                    level,
                    spans: 1 + u16::from(self.random.below(4) == 0),
                    layout: layouts[self.random.below(3) as usize],
                    chunk_sectors: [0, 8, 64, 128][self.random.below(4) as usize],
                    size_sectors: [0, 4096, 8000, 1 << 14][self.random.below(4) as usize],
                    disks: &members,
                    assume_clean: self.random.below(2) == 0,
                    log: false,
                };
                self.apply(&Event::VolumeCreated(spec), n);
            }
            _ if self.random.below(2) == 0 => self.apply(&Event::VolumeDeleted(volume), n),
            _ => self.apply(&Event::VolumeRenamed(volume, name), n),
        }
    }

    fn apply(&mut self, event: &Event<'_>, n: u64) {
        let before = show(self.set.set());
        match self.set.apply(event, &context(n)) {
            Ok(()) => {
                self.applied += 1;
                let plan = writes(&self.set);
                if self.random.below(12) == 0 && self.is_known() {
                    self.cut(event, &plan);
                }
                carry_out(&mut self.disks, &plan);
            }
            Err(why) => {
                self.refused += 1;
                assert_eq!(before, show(self.set.set()), "{event:?}: {why}");
                assert!(!why.text().starts_with("internal"), "{event:?}: {why}");
                assert!(self.set.plan().is_empty());
            }
        }
        self.compare(event);
    }

    /// Power is cut; disks that come or go are left out of the comparison, since they may be in or
    /// out of the set.
    fn cut(&mut self, event: &Event<'_>, plan: &[crate::imsm_common::Write]) {
        if matches!(
            event,
            Event::DiskAdded(_)
                | Event::DiskReturned(..)
                | Event::DiskRemoved(_)
                | Event::VolumeDeleted(_)
        ) {
            return;
        }
        let homes: Vec<u16> = (0..self.set.disks.len() as u16)
            .filter(|&disk| self.set.entry(disk).is_some())
            .filter(|&disk| self.set.disks[disk as usize].home.is_some())
            .collect();
        let full = |disk: &u16| {
            let mut held = self.set.set().memberships(*disk);
            held.any(|(_, _, member)| member.offset_sectors == 0) && self.graid
        };
        if homes.len() == 1 && homes.iter().all(full) {
            // Known: graid leaves no room for a copy of the only MPB (`docs/formats/imsm.md`).
            return;
        }
        let keys: Vec<u64> = self
            .set
            .set()
            .live_disks()
            .filter_map(|(_, disk)| disk.facts.map(|facts| facts.key))
            .collect();
        let state = |disks: &[Disk]| {
            let keyed: Vec<(u64, &Disk)> = keys
                .iter()
                .map(|&key| (key, &disks[key as usize]))
                .collect();
            open_keyed(&keyed).map_or_else(|why| format!("refused: {why}"), |set| show(set.set()))
        };
        let old = state(&self.disks);
        let mut after = self.disks.clone();
        carry_out(&mut after, plan);
        let new = state(&after);
        let what = format!("{event:?}");
        cut_everywhere(
            &self.disks,
            plan,
            &keys,
            &mut self.random,
            2,
            &|state, at| {
                assert!(
                    state == old || state == new,
                    "{what} {at}:\n{state}\n--- old\n{old}\n--- new\n{new}"
                );
            },
        );
    }

    /// Whether the disks that are here know everything: some disk of the table has the newest MPB, and
    /// nothing is known in memory only.
    fn is_known(&self) -> bool {
        let set = self.set.set();
        let works = |disk: u16| {
            self.set
                .disk_meta(disk)
                .is_some_and(|meta| meta.home.is_some())
        };
        let listed = set
            .live_disks()
            .any(|(index, _)| works(index) && self.set.entry(index).is_some());
        // A spare that failed is not marked anywhere; its own MPB still calls it a spare.
        let forgotten = set.live_disks().any(|(index, disk)| {
            self.set.entry(index).is_none()
                && disk.facts.is_some()
                && (!works(index) || set.bad_ranges.iter().any(|range| range.disk == index))
        });
        listed && !forgotten && set.live_volumes().next().is_some()
    }

    fn compare(&mut self, event: &Event<'_>) {
        if self.is_known() {
            self.compared += 1;
            assert_same(&self.set, &self.disks, &format!("{event:?}"));
        }
    }
}

#[test]
fn random_histories() {
    let seeds = match std::env::var("EMD_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("EMD_SEEDS=FROM..TO");
            from.parse().unwrap()..to.parse().unwrap()
        }
        Err(_) => 1..81u64,
    };
    let (mut applied, mut refused, mut compared) = (0, 0, 0);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut history = History::start(seed);
            for n in 0..60 {
                history.step(seed * 1000 + n);
            }
            (history.applied, history.refused, history.compared)
        });
        match result {
            Ok((a, r, c)) => {
                applied += a;
                refused += r;
                compared += c;
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{applied} applied, {refused} refused, {compared} compared");
    assert!(
        applied > 200 && refused > 200 && compared > 600,
        "{applied} applied, {refused} refused, {compared} compared"
    );
}
