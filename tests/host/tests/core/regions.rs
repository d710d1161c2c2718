// SPDX-License-Identifier: GPL-2.0

//! The region log of an array: whatever the order in which writes, sweeps and records come, the metadata
//! has every region with a write in flight.

use emd_core::model::{Layout, Level, RegionLog, Shape};
use emd_core::personalities::regions::Regions;
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
}

impl World {
    fn new() -> Self {
        let log = RegionLog {
            region_sectors: REGION,
            regions: COUNT,
            dirty: KVec::from_elem(0, COUNT.div_ceil(64) as usize, GFP_KERNEL).expect("memory"),
        };
        Self {
            geometry: geometry(),
            regions: Regions::new(&log).expect("memory"),
            recorded: BTreeSet::new(),
            waiting: Vec::new(),
            in_flight: Vec::new(),
        }
    }

    fn write(&mut self, first: u32, count: u32) {
        let sectors = count * REGION as u32;
        let goes_on = self
            .regions
            .admit(&self.geometry, u64::from(first) * REGION, sectors);
        if goes_on {
            self.in_flight.push((first, count));
        } else {
            self.waiting.push((first, count));
        }
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
            self.regions.recorded(first, count);
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

    fn sweep(&mut self, all: bool) {
        if self.in_flight.is_empty() {
            self.regions.sweep(all, u64::MAX);
        }
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
    world.in_flight.clear();
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
    world.in_flight.clear();
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
                        world.in_flight.swap_remove(at);
                    }
                }
                7 => world.in_flight.clear(),
                8 => world.sweep(which % 3 == 0),
                _ => world.record_leaving(most),
            }
            prop_assert_eq!(world.torn(), None);
        }
        // Nobody waits for ever, and all leaves in the end.
        while !world.waiting.is_empty() {
            world.record_wanted(32, true);
            prop_assert_eq!(world.torn(), None);
        }
        world.in_flight.clear();
        world.sweep(true);
        world.record_leaving(usize::from(u16::MAX));
        prop_assert!(world.recorded.is_empty(), "left: {:?}", world.recorded);
    }
}
