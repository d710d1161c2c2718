// SPDX-License-Identifier: GPL-2.0

//! Random histories, on every version, with and without a bitmap: whatever events come in whatever
//! order, the disks say what the memory says, cut anywhere they say the old or the new state, and a
//! refused event changes nothing. Now and then the set is put together again from its disks, and goes on
//! from there. A failure names its seed; `EMD_SEEDS=FROM..TO` runs others.

use crate::md_common::{facts, open_keyed, show, thin, version_of, Of, Random, World, ALL};
use emd_core::metadata::md::Version;
use emd_core::metadata::{Format, MetadataSet};
use emd_core::model::{
    BadRange, DiskOffer, DiskState, Event, Layout, Level, SpareRole, Text, VolumeSpec,
};
use host_tests::samples::{load, Disk};
use host_tests::shell::present;
use host_tests::tally::{of_logs, Tally};

/// Arrays of mdadm that histories begin with; one half has a bitmap.
const SAMPLES: [&str; 9] = [
    "12-raid1-bitmap-wm",
    "12-raid5-dirty",
    "090-raid5-ls-bitmap",
    "12-raid1-badblocks",
    "090-raid10-n2",
    "10-raid1",
    "11-raid5",
    "4k-12-raid5",
    "12-raid5-ppl",
];

/// Size of the disks of an array that gets a bitmap of its own, in MiB: above 100 GiB.
const WITH_BITMAP: u64 = 101 << 10;

struct History {
    world: World,
    /// Size of disks that are added, in MiB.
    mib: u64,
    /// Restarts.
    starts: usize,
    over: bool,
}

impl History {
    fn start(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        // The first eight are of every version, with and without a bitmap.
        let every = seed <= 8;
        let sample = random.below(3) == 0 && !every;
        let (mut world, mib) = if sample {
            let case = SAMPLES[random.below(9) as usize];
            let mut disks = load(&format!("md/gen/{case}"));
            let format = version_of(&disks);
            for disk in &mut disks {
                thin(format, disk);
            }
            let set = crate::md_common::open(format, &disks).unwrap();
            (World::of(Of(format), set, disks, 0), 41)
        } else {
            let format = ALL[(seed % 4) as usize];
            let mib = if random.below(2) == 0 {
                40
            } else {
                WITH_BITMAP
            };
            let block = if random.below(4) == 0 { 4096 } else { 512 };
            let (level, count) = [
                (Level::Raid1, 2),
                (Level::Raid1, 3),
                (Level::Raid5, 3),
                (Level::Raid5, 5),
                (Level::Raid6, 5),
                (Level::Raid4, 3),
                (Level::Raid10, 4),
                (Level::Raid10, 3),
                (Level::Raid0, 2),
                (Level::Concat, 2),
            ][random.below(if every { 8 } else { 10 }) as usize];
            // A spare that is made with it, sometimes; and a member that is left out.
            let spares = u16::from(random.below(4) == 0 && level.is_redundant());
            let mut world = World::made(Of(format), usize::from(count + spares), mib, block, 0);
            let mut members: Vec<Option<u16>> = (0..count).map(Some).collect();
            if random.below(4) == 0 && level.is_redundant() {
                members[usize::from(count) - 1] = None;
            }
            let layouts = [None, Some(Layout::Far(2)), Some(Layout::Offset(2))];
            let layout = layouts[random.below(3) as usize].filter(|_| level == Level::Raid10);
            let assume_clean = random.below(2) == 0;
            let log = level == Level::Raid5 && format.0 != Version::V090 && random.below(2) == 0;
            // Small ones with a bitmap, too.
            let is_asked_for = level.is_redundant() && !log && (seed / 4) % 3 == 0;
            let spec = VolumeSpec {
                name: Text::new(),
                level,
                spans: 1,
                layout,
                chunk_sectors: 0,
                size_sectors: 0,
                disks: &members,
                assume_clean,
                log,
                regions: is_asked_for.then_some(true),
            };
            // Far and offset copies of neighbours: one that is missing may be one too many.
            match world.attempt(&Event::VolumeCreated(spec)) {
                Ok(()) => {}
                Err(_) => {
                    let members: Vec<Option<u16>> = (0..count).map(Some).collect();
                    let disks = &members;
                    world.apply(&Event::VolumeCreated(VolumeSpec { disks, ..spec }));
                }
            }
            (world, mib)
        };
        world.random = random;
        Self {
            world,
            mib,
            starts: 0,
            over: false,
        }
    }

    fn number(&mut self, below: u64) -> u64 {
        self.world.random.below(below)
    }

    /// One of `n`, rarely one too many.
    fn below(&mut self, n: usize) -> u16 {
        match self.number(16) {
            0 => n as u16,
            _ => self.number(n.max(1) as u64) as u16,
        }
    }

    fn disk(&mut self) -> u16 {
        let count = self.world.set.set().disks.len();
        self.below(count)
    }

    fn slot(&mut self) -> u16 {
        let count = self
            .world
            .set
            .array()
            .map_or(1, |array| array.members.len());
        self.below(count)
    }

    fn regions(&mut self) -> (u32, u32) {
        let regions = self.world.set.bitmap.as_ref().map_or(8, |map| map.regions);
        let first = self.number(u64::from(regions)) as u32;
        let count = 1 + self.number(4) as u32;
        match self.number(4) {
            0 => (0, regions),
            1 => (first, count),
            _ => (first, count.min(regions - first)),
        }
    }

    /// One random event, applied or refused.
    fn step(&mut self) {
        // Cuts take most of the time.
        self.world.crashes = usize::from(self.number(3) == 0);
        let (disk, volume, slot) = (self.disk(), self.below(12).saturating_sub(11), self.slot());
        let done_sectors = match self.number(3) {
            0 => 0,
            1 => 8 * self.number(3000),
            _ => 8 * self.number(20_000),
        };
        let (first, count) = self.regions();
        let role = match self.number(3) {
            0 => SpareRole::None,
            1 => SpareRole::Global,
            _ => SpareRole::Dedicated(volume),
        };
        let range = BadRange {
            disk,
            sector: self.number(400) * 8,
            sectors: 8 * (1 + self.number(90)) as u32,
        };
        let name = Text::from_text(&format!("host:v{}", self.number(6)));
        let choice = self.number(31);
        match choice {
            0 => self.apply(&Event::DiskFailed(disk)),
            1 => self.apply(&Event::DiskMissing(disk)),
            2 | 3 if self.world.disks.len() < 16 => {
                let mib = self.mib - u64::from(choice == 3) * self.number(3);
                let block = self.world.disks[0].logical_block_bytes;
                let key = self.world.disks.len() as u64;
                self.world.disks.push(Disk::blank("new", mib * 2048, block));
                let facts = facts(&self.world.disks[key as usize], key);
                self.apply(&Event::DiskAdded(DiskOffer { facts, role }));
            }
            4 | 5 => {
                // One that is here comes back as itself.
                let known = self.world.set.set().disk(disk).and_then(|disk| disk.facts);
                let any = self.number(self.world.disks.len() as u64);
                let key = known.map_or(any, |facts| facts.key);
                let facts = facts(&self.world.disks[key as usize], key);
                self.apply(&Event::DiskReinstated(disk, facts));
                self.apply(&Event::DiskReturned(disk, facts));
            }
            6 => self.apply(&Event::DiskRemoved(disk)),
            7 => self.apply(&Event::SpareAssigned(disk, role)),
            8..=11 => self.activate(volume, slot, disk),
            12 | 13 => self.apply(&Event::RebuildProgress {
                volume,
                slot,
                done_sectors,
            }),
            14 | 15 => self.apply(&Event::RebuildDone { volume, slot }),
            16 => self.apply(&Event::Dirty(volume)),
            17 => self.apply(&Event::Clean(volume)),
            18 => self.apply(&Event::ResyncProgress {
                volume,
                done_sectors,
            }),
            19 => self.apply(&Event::ResyncDone(volume)),
            20 | 21 => self.apply(&Event::RegionsDirty {
                volume,
                first,
                count,
            }),
            22 => self.apply(&Event::RegionsClean {
                volume,
                first,
                count,
            }),
            23 => self.apply(&Event::BadRangeAdded(range)),
            24 => self.apply(&Event::BadRangeCleared(range)),
            25 => self.apply(&Event::VolumeRenamed(volume, name)),
            26 if self.number(20) == 0 => {
                self.apply(&Event::VolumeDeleted(volume));
                self.over = self.world.set.array().is_none();
            }
            28..=30 => {
                // Policies change while nothing is in flight; cut they are always.
                if self.number(2) == 0 {
                    self.apply(&Event::Clean(volume));
                }
                self.world.crashes = 1;
                let event = of_logs(&mut self.world.random, self.world.set.set(), volume);
                self.apply(&event);
            }
            _ => self.restart(),
        }
    }

    /// A spare in, where one is wanted; now and then whatever comes.
    fn activate(&mut self, volume: u16, mut slot: u16, mut disk: u16) {
        if self.number(4) > 0 {
            let set = self.world.set.set();
            let spare = set
                .live_disks()
                .find(|(index, disk)| {
                    disk.state == DiskState::Online && set.memberships(*index).next().is_none()
                })
                .map(|(index, _)| index);
            let array = self.world.set.array();
            let empty = array.and_then(|array| {
                array.members.iter().position(|member| {
                    let disk = member.disk.and_then(|disk| set.disk(disk));
                    disk.is_none_or(|disk| disk.state != DiskState::Online)
                })
            });
            disk = spare.unwrap_or(disk);
            slot = empty.map_or(slot, |slot| slot as u16);
        }
        self.apply(&Event::SpareActivated { volume, slot, disk });
    }

    fn apply(&mut self, event: &Event<'_>) {
        let whole = self.world.set.bears();
        let is_drawn = self.world.crashes > 0;
        if self.world.attempt_in_history(event, is_drawn, 1).is_ok() {
            // More lost than it bears: what is on the disks stays for when they are back.
            let log = matches!(
                event,
                Event::BadRangeAdded(_) | Event::BadRangeCleared(_) | Event::VolumeDeleted(_)
            );
            let now = self.world.set.bears();
            assert!(
                whole && now || log || self.world.set.plan().is_empty(),
                "{event:?}: {:?}",
                self.world.set.plan().writes()
            );
        }
    }

    /// The set is put together again from its disks: those that are here, and, sometimes, those that
    /// were left out.
    fn restart(&mut self) {
        self.starts += 1;
        let was_whole = self.world.set.bears();
        let known: Vec<u64> = present(&*self.world.set);
        let strays = self.number(2) == 0 || !was_whole;
        let format = self.world.family.0;
        let keyed: Vec<(u64, &Disk)> = (0u64..)
            .zip(&self.world.disks)
            .filter(|(key, _)| strays || known.contains(key))
            .collect();
        let shown = show(&self.world.set);
        let set = match open_keyed(format, &keyed) {
            Ok(set) => set,
            Err(why) => panic!("{}: {why}\n{shown}", format.name()),
        };
        assert!(set.frozen.is_none(), "{:?}\n{shown}", set.frozen);
        assert!(
            set.bears() || !was_whole,
            "data is gone\n{shown}\n{}",
            show(&set)
        );
        self.world.set = set;
    }
}

/// Kinds that write nothing.
const SILENT: &[&str] = &["HoleLogStarted", "SpareAssigned"];

#[test]
fn random_histories() {
    let seeds = match std::env::var("EMD_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("EMD_SEEDS=FROM..TO");
            from.parse().unwrap()..to.parse().unwrap()
        }
        Err(_) => 1..81u64,
    };
    let usual = seeds == (1..81);
    let (mut tally, mut starts, mut kinds) = (Tally::default(), 0, Vec::new());
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut history = History::start(seed);
            let bitmap = history.world.set.bitmap.is_some();
            let kind = (history.world.family.0 .0, bitmap);
            for _ in 0..60 {
                if !history.over {
                    history.step();
                }
            }
            (history.world.tally, history.starts, kind)
        });
        match result {
            Ok((more, s, kind)) => {
                tally.add(&more);
                starts += s;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{tally:?}{:?}, {starts} starts", tally.total());
    if usual {
        tally.assert_all(&["DiskReinstated"], SILENT, &["VolumeDeleted"]);
        // `md/made_and_deleted` cuts these.
        tally.assert_cut(&["VolumeCreated", "VolumeDeleted"]);
        assert!(starts > 50, "{starts} starts");
    }
    let versions = [Version::V090, Version::V10, Version::V11, Version::V12];
    for kind in versions
        .into_iter()
        .flat_map(|version| [(version, false), (version, true)])
    {
        assert!(!usual || kinds.contains(&kind), "{kind:?}");
    }
}
