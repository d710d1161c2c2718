// SPDX-License-Identifier: GPL-2.0

//! The bad-block log has 254 entries: what does not fit is refused, before anything has changed, and
//! nothing falls out of it.

use crate::imsm_common::world::{spec, World};
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, Event, Level, SpareRole};

const ENTRIES: u64 = 254;

fn mirror() -> World {
    let mut world = World::created(2, 64, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
    world
}

/// Ranges of three blocks, apart from each other.
fn range(disk: u16, nth: u64) -> BadRange {
    BadRange {
        disk,
        sector: 100 + 8 * nth,
        sectors: 3,
    }
}

fn add(world: &mut World, disk: u16, count: u64) {
    for nth in 0..count {
        world.step += 1;
        let event = Event::BadRangeAdded(range(disk, nth));
        world
            .set
            .apply(&event, &crate::imsm_common::context(world.step))
            .unwrap();
        let plan = crate::imsm_common::writes(&world.set);
        crate::imsm_common::carry_out(&mut world.disks, &plan);
    }
    world.check("ranges");
}

#[test]
fn a_full_log_takes_no_more() {
    let mut world = mirror();
    // One entry is kept back for a range that another one cuts.
    add(&mut world, 0, ENTRIES - 1);
    let why = world.refuse(&Event::BadRangeAdded(range(1, 0)));
    assert!(why.contains("full"), "{why}");
}

/// What becomes good in the middle of a range makes two of it.
#[test]
fn a_range_is_not_cut_when_the_second_half_has_no_room() {
    let mut world = mirror();
    add(&mut world, 0, ENTRIES - 1);
    let middle = |nth: u64| BadRange {
        sector: range(0, nth).sector + 1,
        sectors: 1,
        ..range(0, nth)
    };
    world.apply(&Event::BadRangeCleared(middle(0)));
    let why = world.refuse(&Event::BadRangeCleared(middle(1)));
    assert!(why.contains("full"), "{why}");
    // What makes it shorter is all right, and what ends it.
    world.apply(&Event::BadRangeCleared(BadRange {
        sectors: 1,
        ..range(0, 1)
    }));
    world.apply(&Event::BadRangeCleared(range(0, 2)));
    world.apply(&Event::BadRangeCleared(middle(3)));
}

/// Of a spare, ranges are kept in memory only; in the table they all have to be in the log.
#[test]
fn a_spare_with_more_than_the_log_holds_is_not_used() {
    let mut world = mirror();
    let spare = world.add(64, SpareRole::Global);
    for nth in 0..ENTRIES + 20 {
        world
            .set
            .apply(
                &Event::BadRangeAdded(range(spare, nth)),
                &crate::imsm_common::context(1),
            )
            .unwrap();
        assert!(world.set.plan().is_empty());
    }
    world
        .set
        .apply(&Event::DiskFailed(1), &crate::imsm_common::context(2))
        .unwrap();
    let activation = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    };
    let why = world.refuse(&activation);
    assert!(why.contains("full"), "{why}");
    for nth in 0..40 {
        world
            .set
            .apply(
                &Event::BadRangeCleared(range(spare, nth)),
                &crate::imsm_common::context(3),
            )
            .unwrap();
    }
    world.apply(&activation);
    let listed = world.set.set().bad_ranges.len() as u64;
    assert_eq!(listed, ENTRIES + 20 - 40);
}
