// SPDX-License-Identifier: GPL-2.0

//! Random histories: whatever events come in whatever order, the disks say what the memory says, and
//! a refused event changes nothing. A failure names its seed; `EMD_SEEDS=FROM..TO` runs others.

use crate::asr_common::{facts, Of, Random, World};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    BadRange, DiskOffer, Event, Layout, Level, Set, SpareRole, Text, VolumeSpec,
};
use host_tests::directed::{self, Chance};
use host_tests::samples::Disk;
use host_tests::share;
use host_tests::shell::Family;
use host_tests::tally::{of_logs, of_regions, Tally};

struct History {
    world: World,
}

impl Chance for History {
    fn parts(&mut self) -> (&mut Random, &Set) {
        (&mut self.world.random, self.world.set.set())
    }

    fn attempt(&mut self, event: &Event<'_>, n: u64) {
        self.apply(event, n);
    }
}

impl History {
    fn start(seed: u64) -> Self {
        let count = [2, 3, 4, 5, 6, 7, 9, 12][(seed % 8) as usize];
        let mut world = World::created(count, 4 + seed % 5, 512, 2);
        world.random.0 = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        world.random.next();
        let mut history = Self { world };
        // Histories of disks that never had a volume are short.
        for number in 0..3u64 {
            history.create(
                Text::from_text(&format!("w{number}")),
                seed * 1000 + 900 + number,
            );
        }
        history
    }

    fn disk(&mut self) -> u16 {
        let count = self.world.set.set().disks.len();
        self.below(count)
    }

    fn role(&mut self) -> SpareRole {
        match self.world.random.below(3) {
            0 => SpareRole::None,
            1 => SpareRole::Global,
            _ => SpareRole::Dedicated(self.volume()),
        }
    }

    /// One random event, applied or refused.
    fn step(&mut self, n: u64) {
        let choice = self.world.random.below(23);
        let name = Text::from_text(&format!("v{}", self.world.random.below(6)));
        let members: Vec<Option<u16>> = (0..1 + self.world.random.below(8))
            .map(|_| (self.world.random.below(12) > 0).then(|| self.disk()))
            .collect();
        let (disk, volume, slot) = (
            self.disk(),
            self.volume(),
            self.world.random.below(4) as u16,
        );
        let done_sectors = self.world.random.below(3000);
        match choice {
            0 => self.apply(&Event::DiskFailed(disk), n),
            1 => self.apply(&Event::DiskMissing(disk), n),
            2 | 3 => {
                let size = (4 + self.world.random.below(6)) * 2048;
                self.world.disks.push(Disk::blank("new", size, 512));
                let key = self.world.disks.len() as u64 - 1;
                let offer = DiskOffer {
                    facts: facts(&self.world.disks[key as usize], key),
                    role: self.role(),
                };
                self.apply(&Event::DiskAdded(offer), n);
            }
            4 => {
                let count = self.world.disks.len();
                let any = self.world.random.below(count as u64);
                let back = directed::back(&mut self.world.random, self.world.set.set(), count);
                let back = back.filter(|_| self.world.random.below(4) > 0);
                let (disk, key) = back.unwrap_or((disk, any));
                let facts = facts(&self.world.disks[key as usize], key);
                self.apply(&Event::DiskReinstated(disk, facts), n);
                self.apply(&Event::DiskReturned(disk, facts), n);
            }
            5 => self.apply(&Event::DiskRemoved(disk), n),
            6 => {
                let role = self.role();
                self.apply(&Event::SpareAssigned(disk, role), n);
            }
            7..=9 => self.activate(volume, slot, disk, n),
            10 => {
                let (volume, slot) = self.place(directed::rebuilding, volume, slot);
                let event = Event::RebuildProgress {
                    volume,
                    slot,
                    done_sectors,
                };
                self.apply(&event, n);
            }
            11 | 12 => {
                let (volume, slot) = self.place(directed::rebuilding, volume, slot);
                self.apply(&Event::RebuildDone { volume, slot }, n);
            }
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
            17 if self.world.random.below(3) > 0 => self.create(name, n),
            17 => {
                let level = Level::ALL[self.world.random.below(8) as usize];
                let layouts = [None, Some(Layout::Plain), Some(Layout::Near(2))];
                let spec = VolumeSpec {
                    name,
                    level,
                    spans: 1 + u16::from(self.world.random.below(4) == 0),
                    layout: layouts[self.world.random.below(3) as usize],
                    chunk_sectors: [0, 8, 64, 128][self.world.random.below(4) as usize],
                    size_sectors: [0, 4096, 8000, 1 << 14][self.world.random.below(4) as usize],
                    disks: &members,
                    assume_clean: self.world.random.below(2) == 0,
                    log: self.world.random.below(2) == 0,
                    regions: None,
                };
                self.apply(&Event::VolumeCreated(spec), n);
            }
            18 => {
                let event = of_regions(&mut self.world.random, self.world.set.set(), volume);
                self.apply(&event, n);
            }
            19 | 20 => {
                let range = BadRange {
                    disk,
                    sector: self.world.random.below(2000),
                    sectors: self.world.random.below(300) as u32,
                };
                let event = match choice {
                    19 => Event::BadRangeAdded(range),
                    _ => Event::BadRangeCleared(range),
                };
                self.apply(&event, n);
            }
            21 => {
                // Policies change while nothing is in flight.
                if self.world.random.below(2) == 0 {
                    self.apply(&Event::Clean(volume), n);
                }
                let event = of_logs(&mut self.world.random, self.world.set.set(), volume);
                self.apply(&event, n);
            }
            _ if self.world.random.below(4) == 0 => self.apply(&Event::VolumeDeleted(volume), n),
            _ => self.apply(&Event::VolumeRenamed(volume, name), n),
        }
    }

    fn apply(&mut self, event: &Event<'_>, n: u64) {
        self.world.step = n;
        let rounds = usize::from(Of.is_recorded(&self.world.set));
        let is_drawn = rounds > 0 && self.world.random.below(8) == 0;
        let _ = self.world.attempt_in_history(event, is_drawn, rounds);
    }
}

/// Kinds of events that the format never takes.
const NEVER: &[&str] = &[
    "DiskReinstated",
    "RegionsDirty",
    "RegionsClean",
    "LogSet",
    "HoleLogStarted",
    "LeftLogOff",
];
/// Kinds that write nothing.
const SILENT: &[&str] = &["BadRangeAdded", "BadRangeCleared", "CrashPolicySet"];

#[test]
fn random_histories() {
    let (seeds, usual) = match std::env::var("EMD_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("EMD_SEEDS=FROM..TO");
            (from.parse().unwrap()..to.parse().unwrap(), false)
        }
        Err(_) => (1..1 + share(90) as u64, true),
    };
    let mut tally = Tally::default();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut history = History::start(seed);
            for n in 0..60 {
                history.step(seed * 1000 + n);
            }
            history.world.tally
        });
        match result {
            Ok(more) => tally.add(&more),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{tally:?}{:?}", tally.total());
    if usual {
        tally.assert_all(NEVER, SILENT, &[]);
        tally.assert_cut(&[]);
    }
}
