// SPDX-License-Identifier: GPL-2.0

//! The region log of an array: whatever the order in which writes, sweeps and records come, the metadata
//! has every region with a write in flight.

use emd_core::model::{Layout, Level, RegionLog, Shape};
use emd_core::personalities::regions::Regions;
use emd_core::personalities::writers::{Counted, Writers};
use emd_core::personalities::{for_level, Geometry};
use kernel::prelude::{KVec, GFP_KERNEL};
use proptest::prelude::*;
use std::collections::BTreeSet;

const REGION: u64 = 16;
const COUNT: u32 = 100;

fn geometry() -> Geometry {
    let shape = Shape {
        level: Level::Raid1,
        layout: Layout::Plain,
        members: 2,
        spans: 1,
        chunk_sectors: 0,
        member_sectors: REGION * u64::from(COUNT),
    };
    let size = for_level(shape.level)
        .expect("level")
        .capacity_sectors(&shape);
    Geometry::new(&shape, size).expect("shape")
}

/// A log that has these regions.
fn log_of(dirty: &BTreeSet<u32>) -> RegionLog {
    let mut log = RegionLog {
        region_sectors: REGION,
        regions: COUNT,
        dirty: KVec::from_elem(0, COUNT.div_ceil(64) as usize, GFP_KERNEL).expect("memory"),
    };
    for &region in dirty {
        log.mark(region, 1, true);
    }
    log
}

/// An array with its regions, and a set that records them: what `src/array/dirty.rs` and
/// `src/set/recorder.rs` do.
struct World {
    geometry: Geometry,
    regions: Regions,
    /// What the metadata has.
    recorded: BTreeSet<u32>,
    /// Writes that wait, and writes in flight: first region, and how many.
    waiting: Vec<(u32, u32)>,
    in_flight: Vec<(u32, u32)>,
    /// Where those in flight are counted.
    counted: Vec<Counted>,
    writers: Writers,
}

impl World {
    fn new() -> Self {
        Self {
            geometry: geometry(),
            regions: Regions::new(&log_of(&BTreeSet::new())).expect("memory"),
            recorded: BTreeSet::new(),
            waiting: Vec::new(),
            in_flight: Vec::new(),
            counted: Vec::new(),
            writers: Writers::new(),
        }
    }

    fn write(&mut self, first: u32, count: u32) {
        let sectors = count * REGION as u32;
        let counted = self.writers.count(first as usize);
        let sector = u64::from(first) * REGION;
        let in_odd_round = counted.in_odd_round;
        let goes_on = self
            .regions
            .admit(&self.geometry, sector, sectors, in_odd_round);
        if goes_on {
            self.in_flight.push((first, count));
            self.counted.push(counted);
        } else {
            self.writers.uncount(counted);
            self.waiting.push((first, count));
        }
    }

    fn end(&mut self, at: usize) {
        self.in_flight.swap_remove(at);
        self.writers.uncount(self.counted.swap_remove(at));
    }

    fn end_all(&mut self) {
        while !self.in_flight.is_empty() {
            self.end(0);
        }
        assert!(self.writers.are_none());
    }

    /// `note_regions`: at most `most` stretches; `works`: whether the metadata takes them.
    fn record_wanted(&mut self, most: usize, works: bool) {
        for _ in 0..most {
            if !self.regions.are_wanted() {
                break;
            }
            let Some((first, count)) = self.regions.take_wanted() else {
                break;
            };
            if !works {
                self.regions.not_recorded(first, count);
                break;
            }
            self.recorded.extend(first..first + count);
            self.regions
                .recorded(first, count, self.writers.is_odd_round());
        }
        for (first, count) in std::mem::take(&mut self.waiting) {
            self.write(first, count);
        }
    }

    /// `record_leaving`, which may stop anywhere.
    fn record_leaving(&mut self, most: usize) {
        for _ in 0..most {
            let Some((first, count)) = self.regions.take_leaving() else {
                return;
            };
            for region in first..first + count {
                self.recorded.remove(&region);
            }
        }
    }

    /// `begin_clean`, or `sweep_regions`. False: it could not.
    fn sweep(&mut self, all: bool) -> bool {
        let is_odd = self.writers.is_odd_round();
        if all && self.writers.are_none() {
            self.regions.sweep_all(u64::MAX);
        } else if !all && self.writers.former_are_none() {
            self.regions.sweep(is_odd, u64::MAX);
            self.regions.round_begins(!is_odd);
            self.writers.begin_round();
        } else {
            return false;
        }
        true
    }

    /// A region with a write in flight that the metadata calls clean.
    fn torn(&self) -> Option<u32> {
        let mut regions = self
            .in_flight
            .iter()
            .flat_map(|&(first, count)| first..first + count);
        regions.find(|region| !self.recorded.contains(region))
    }
}

#[test]
fn what_is_written_again_does_not_leave() {
    let mut world = World::new();
    world.write(7, 1);
    world.record_wanted(32, true);
    world.end_all();
    // It is quiet, but the recorder does not come to record it: a flush failed, or there was too much.
    world.sweep(true);
    world.record_leaving(0);
    world.write(7, 1);
    world.record_wanted(32, true);
    assert_eq!(world.in_flight, [(7, 1)]);
    world.record_leaving(32);
    assert_eq!(
        world.torn(),
        None,
        "a region with a write in flight was recorded as clean"
    );
}

#[test]
fn what_is_quiet_leaves_in_the_end() {
    let mut world = World::new();
    for first in (0..COUNT).step_by(20) {
        world.write(first, 3);
    }
    world.record_wanted(32, true);
    world.end_all();
    // The first sweep leaves what was touched since the last one.
    world.sweep(false);
    world.record_leaving(32);
    assert_eq!(world.recorded.len(), 15);
    world.sweep(false);
    world.record_leaving(2);
    assert_eq!(world.recorded.len(), 9);
    world.record_leaving(32);
    assert!(world.recorded.is_empty());
    assert_eq!(world.regions.next_dirty(0), None);
}

/// Under a load that never ends, what is not written any more leaves all the same; what is written for ever does not.
#[test]
fn what_is_quiet_leaves_under_load() {
    let mut world = World::new();
    world.write(90, 1);
    for first in (0..80).step_by(20) {
        world.write(first, 3);
    }
    world.record_wanted(32, true);
    assert_eq!(world.in_flight.len(), 5);
    // The first one stays in flight for some sweeps, the others end.
    for _ in 0..4 {
        world.end(1);
    }
    assert!(world.sweep(false), "all began in the first round");
    for _ in 0..3 {
        assert!(!world.sweep(false), "one of the first round is in flight");
    }
    world.record_leaving(32);
    assert_eq!(world.recorded.len(), 13, "what was touched stays");
    // It is written on and on: one begins before the other ends.
    for _ in 0..3 {
        world.write(90, 1);
        assert_eq!(world.in_flight.len(), 2);
        world.end(0);
        assert!(world.sweep(false));
        world.record_leaving(32);
        assert_eq!(world.torn(), None);
    }
    assert_eq!(world.recorded, [90].into());
}

/// The end of a sync: the metadata calls what was recorded clean, all or some of it, while nothing is in flight.
#[test]
fn what_the_metadata_calls_clean_is_recorded_anew() {
    for kept in [BTreeSet::new(), BTreeSet::from([70])] {
        let mut world = World::new();
        for first in [3, 70] {
            world.write(first, 1);
        }
        world.record_wanted(8, true);
        assert_eq!(world.in_flight.len(), 2);
        world.end_all();
        world.recorded = kept.clone();
        world.regions.follow(&log_of(&kept));

        world.write(70, 1);
        assert_eq!(world.in_flight.len(), kept.len(), "{kept:?}");
        assert_eq!(world.torn(), None);
        world.write(3, 1);
        world.record_wanted(8, true);
        assert_eq!(world.in_flight.len(), 2);
        assert_eq!(world.torn(), None);
        world.end_all();
        world.sweep(true);
        world.record_leaving(32);
        assert!(world.recorded.is_empty());
    }
}

proptest! {
    #[test]
    fn the_metadata_has_every_region_in_flight(steps in prop::collection::vec((0u8..10, any::<u16>(), 0usize..6), 0..400)) {
        let mut world = World::new();
        for (what, which, most) in steps {
            match what {
                0..=3 => {
                    // Mostly the same few, so that they come back while they leave.
                    let first = u32::from(which) % 24 * 4;
                    world.write(first, 1 + u32::from(which) / 24 % 4);
                }
                4 | 5 => world.record_wanted(most, which % 8 != 0),
                6 => {
                    if !world.in_flight.is_empty() {
                        let at = usize::from(which) % world.in_flight.len();
                        world.end(at);
                    }
                }
                7 => world.end_all(),
                8 => {
                    world.sweep(which % 3 == 0);
                }
                _ => world.record_leaving(most),
            }
            prop_assert_eq!(world.torn(), None);
        }
        // Nobody waits for ever, and all leaves in the end.
        while !world.waiting.is_empty() {
            world.record_wanted(32, true);
            prop_assert_eq!(world.torn(), None);
        }
        world.end_all();
        world.sweep(true);
        world.record_leaving(usize::from(u16::MAX));
        prop_assert!(world.recorded.is_empty(), "left: {:?}", world.recorded);
    }
}
