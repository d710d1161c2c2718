// SPDX-License-Identifier: GPL-2.0

//! Bad ranges in EMD's own records: they outlive a restart, and a crash never makes a bad place good.

use crate::ddf_common::records::clean;

use crate::ddf_common::{carry_out, context, open_keyed, writes, Random};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, Event, Level, SpareRole};
use host_tests::samples::Disk;

#[test]
fn bad_ranges_outlive_a_restart() {
    let mut world = clean(Level::Raid5, 3, 512);
    let range = |disk, sector, sectors| BadRange {
        disk,
        sector,
        sectors,
    };
    let mut random = Random(23);
    for n in 0..120 {
        let disk = random.below(3) as u16;
        let bad = range(disk, random.below(200) * 8, 8 + random.below(9) as u32 * 8);
        if n % 3 == 2 {
            world.apply(&Event::BadRangeCleared(bad));
        } else {
            world.apply(&Event::BadRangeAdded(bad));
        }
    }
    assert!(world.set.set().bad_ranges.len() > 20);
    assert!((0..3).all(|disk| world.set.keeps_bad_ranges(disk)));
    world.refuse(&Event::BadRangeAdded(range(7, 0, 8)));
    world.refuse(&Event::BadRangeAdded(range(0, 1 << 40, 8)));
    world.refuse(&Event::BadRangeAdded(range(0, u64::MAX - 3, 8)));
    // They go with their disk, and with the volume that lay there.
    world.apply(&Event::DiskFailed(1));
    let facts = world.set.set().disk(1).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(1, facts));
    let of = |set: &DdfSet, disk| {
        set.set()
            .bad_ranges
            .iter()
            .filter(|r| r.disk == disk)
            .count()
    };
    assert_eq!(of(&world.set, 1), 0);
    assert!(of(&world.set, 0) > 0);
    world.apply(&Event::VolumeDeleted(0));
    assert_eq!(world.set.set().bad_ranges.len(), 0);
}

/// A disk that was removed has no place that could be bad, nor has one that there never was.
#[test]
fn bad_ranges_of_no_disk() {
    let mut world = clean(Level::Raid1, 2, 512);
    let spare = world.add(128, SpareRole::Global);
    world.apply(&Event::DiskRemoved(spare));
    for disk in [spare, spare + 1] {
        let range = BadRange {
            disk,
            sector: 8,
            sectors: 8,
        };
        for event in [Event::BadRangeAdded(range), Event::BadRangeCleared(range)] {
            let why = world.refuse(&event);
            assert!(why.contains("has no disk"), "{why}");
        }
    }
}

/// As many as there is room for: refused then, with nothing changed.
#[test]
fn bad_ranges_up_to_the_last() {
    let mut world = clean(Level::Raid1, 2, 512);
    let range = |n: u64| BadRange {
        disk: (n % 2) as u16,
        sector: n * 16,
        sectors: 8,
    };
    let mut count = 0u64;
    while world
        .set
        .apply(&Event::BadRangeAdded(range(count)), &context(count))
        .is_ok()
    {
        let plan = writes(&world.set);
        assert!(plan.len() <= 2 * 2, "{count}: {}", plan.len());
        carry_out(&mut world.disks, &plan);
        count += 1;
    }
    assert!(count > 1000, "{count}");
    assert!(
        world.set.keeps_bad_ranges(0),
        "all that it took is recorded"
    );
    world.check("full");
    // Cutting one in two, moving on.
    world.apply(&Event::BadRangeCleared(range(3)));
    world.apply(&Event::BadRangeCleared(BadRange {
        sector: 4 * 16 + 2,
        sectors: 2,
        ..range(4)
    }));
    world.apply(&Event::BadRangeCleared(BadRange {
        disk: 0,
        sector: 0,
        sectors: 16 * 600,
    }));
    world.check("cleared");
}

/// Power is cut while a bad range is recorded: what is bad before and after never reads as good.
#[test]
fn bad_ranges_cut_anywhere() {
    let mut world = clean(Level::Raid1, 2, 512);
    let mut random = Random(41);
    let sectors = |set: &DdfSet| {
        let mut map = vec![false; 4096];
        for range in set.set().bad_ranges.iter().filter(|range| range.disk == 0) {
            for sector in range.sector..range.sector + u64::from(range.sectors) {
                map[sector as usize] = true;
            }
        }
        map
    };
    for n in 0..400u64 {
        let bad = BadRange {
            disk: 0,
            sector: random.below(380) * 10,
            sectors: 1 + random.below(1 + n % 60) as u32,
        };
        let event = if random.below(3) > 0 {
            Event::BadRangeAdded(bad)
        } else {
            Event::BadRangeCleared(bad)
        };
        let old = sectors(&world.set);
        world.set.apply(&event, &context(n)).unwrap();
        let new = sectors(&world.set);
        let plan = writes(&world.set);
        if n % 8 == 0 {
            let before = world.disks.clone();
            for cut in 0..=plan.len() {
                let mut disks = before.clone();
                carry_out(&mut disks, &plan[..cut]);
                for only in [vec![0u64], vec![0, 1]] {
                    let keyed: Vec<(u64, &Disk)> = only
                        .iter()
                        .map(|&key| (key, &disks[key as usize]))
                        .collect();
                    let now = sectors(&open_keyed(&keyed).unwrap());
                    for sector in 0..now.len() {
                        let kept = old[sector] && new[sector];
                        let known = old[sector] || new[sector];
                        assert!(!kept || now[sector], "{n}: {event:?} cut {cut}: {sector}");
                        assert!(known || !now[sector], "{n}: {event:?} cut {cut}: {sector}");
                    }
                }
            }
        }
        carry_out(&mut world.disks, &plan);
    }
    world.check("in the end");
    assert!(world.set.set().bad_ranges.len() > 60);
}
