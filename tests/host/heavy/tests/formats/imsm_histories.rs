// SPDX-License-Identifier: GPL-2.0

//! Random histories: whatever events come in whatever order, the disks say what the memory says, and
//! a refused event changes nothing. A failure names its seed; `EMD_SEEDS=FROM..TO` runs others.

use crate::imsm_common::world::World;
use crate::imsm_common::{facts, open, sample, Random};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    BadRange, CrashPolicy, DiskOffer, Event, Layout, Level, Set, SpareRole, Text, Volume,
    VolumeSpec,
};
use host_tests::directed::{self, Chance};
use host_tests::samples::Disk;
use host_tests::tally::{is_rare, of_logs, of_regions, Tally};

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
        let mut world = match cases.get(pick) {
            Some(case) => {
                let mut disks = sample(case);
                for disk in &mut disks {
                    disk.keep_last(70_000);
                }
                World::new(open(&disks).unwrap(), disks, 0)
            }
            None => {
                let block = if pick % 2 == 0 { 512 } else { 4096 };
                let count = 1 + random.below(8) as usize;
                World::created(count, 33 + random.below(20), block, 0)
            }
        };
        world.random = random;
        world.is_known = is_known;
        let mut history = Self { world };
        // Histories of disks that never had a volume are short.
        for number in 0..3u64 {
            history.create(
                Text::from_text(&format!("w{number}")),
                seed * 1000 + 900 + number,
            );
        }
        if seed % 2 == 0 {
            let has_parity = |volume: &Volume| volume.shape.level.parity_members() > 0;
            let volume = {
                let mut volumes = history.world.set.set().live_volumes();
                volumes
                    .find(|(_, volume)| has_parity(volume))
                    .map(|found| found.0)
            };
            let volume = volume.unwrap_or(0);
            history.apply(&Event::CrashPolicySet(volume, CrashPolicy::Log), seed);
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
        let choice = self.world.random.below(25);
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
            2 | 3 if self.world.disks.len() < 24 => {
                let block = self.world.disks[0].logical_block_bytes;
                let size = (32 + self.world.random.below(30)) * 2048;
                let key = self.world.disks.len() as u64;
                self.world
                    .disks
                    .push(Disk::blank(&format!("NEW-{key:06}"), size, block));
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
                // Its data counts where nothing else has it, or is old everywhere.
                match self.world.set.set().irreplaceable(disk) {
                    Some(_) => self.apply(&Event::DiskReinstated(disk, facts), n),
                    None => self.apply(&Event::DiskReturned(disk, facts), n),
                }
            }
            19 | 20 => {
                let range = BadRange {
                    disk,
                    sector: self.world.random.below(400) * 8,
                    sectors: 8 * (1 + self.world.random.below(90)) as u32,
                };
                if choice == 19 {
                    self.apply(&Event::BadRangeAdded(range), n);
                } else {
                    let known = directed::bad(&mut self.world.random, self.world.set.set());
                    self.apply(&Event::BadRangeCleared(known.unwrap_or(range)), n);
                }
            }
            22 => {
                let event = of_regions(&mut self.world.random, self.world.set.set(), volume);
                self.apply(&event, n);
            }
            23 | 24 => {
                // Policies change while nothing is in flight.
                if self.world.random.below(2) == 0 {
                    self.apply(&Event::Clean(volume), n);
                }
                let event = of_logs(&mut self.world.random, self.world.set.set(), volume);
                self.apply(&event, n);
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
            _ if self.world.random.below(4) == 0 => self.apply(&Event::VolumeDeleted(volume), n),
            _ => self.apply(&Event::VolumeRenamed(volume, name), n),
        }
    }

    fn apply(&mut self, event: &Event<'_>, n: u64) {
        self.world.step = n;
        let odds = if is_rare(event) { 3 } else { 12 };
        let is_drawn = self.world.random.below(odds) == 0;
        let _ = self.world.attempt_in_history(event, is_drawn, 2);
    }
}

/// Whether the disks that are here know everything: some disk of the table has the newest MPB, and
/// nothing is known in memory only.
fn is_known(set: &ImsmSet) -> bool {
    let works = |disk: u16| set.disk_meta(disk).is_some_and(|meta| meta.home.is_some());
    let mut disks = set.set().live_disks();
    let listed = disks.any(|(index, _)| works(index) && set.entry(index).is_some());
    // A spare that failed is not marked anywhere; its own MPB still calls it a spare.
    let forgotten = set.set().live_disks().any(|(index, disk)| {
        let is_bad = || set.set().bad_ranges.iter().any(|range| range.disk == index);
        set.entry(index).is_none() && disk.facts.is_some() && (!works(index) || is_bad())
    });
    listed && !forgotten && set.set().live_volumes().next().is_some()
}

/// Kinds of events that the format never takes.
const NEVER: &[&str] = &["RegionsDirty", "RegionsClean"];
/// Kinds that write nothing.
const SILENT: &[&str] = &["HoleLogStarted", "SpareAssigned"];

#[test]
fn random_histories() {
    let (seeds, usual) = match std::env::var("EMD_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("EMD_SEEDS=FROM..TO");
            (from.parse().unwrap()..to.parse().unwrap(), false)
        }
        Err(_) => (1..1 + 120, true),
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
