// SPDX-License-Identifier: GPL-2.0

//! Every event, one after the other, on arrays of our own and of mdadm: after each one, the disks say
//! what the memory says; cut anywhere, they say the old or the new state and never a mix.

use crate::md_common::{facts, open, thin, version_of, Of, World, ALL};
use emd_core::metadata::md::{Version, MD_090, MD_12};
use emd_core::metadata::{Format, MetadataSet};
use emd_core::model::{
    BadRange, Consistency, DiskOffer, DiskRole, DiskState, Event, Layout, Level, MemberState,
    Rotation, SpareRole, Text, VolumeSpec,
};
use host_tests::samples::{load, Disk};
use host_tests::shell::spec;

/// The life of a redundant array, with everything that can happen to it.
fn life(world: &mut World, spare_mib: u64) {
    let volume = 0;
    let old = world.family.0 .0 == Version::V090;
    let events = world.set.set().generation;
    world.apply(&Event::Dirty(volume));
    assert_eq!(world.set.set().generation, events + 1, "one event");
    world.apply(&Event::Dirty(volume));
    assert!(world.set.plan().is_empty(), "dirty twice writes once");
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 0,
    });
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 64,
    });
    assert!(
        world.set.plan().is_empty(),
        "no mark while writes are in flight"
    );
    world.apply(&Event::Clean(volume));
    assert_eq!(
        world.consistency(0),
        Consistency::Initialising { done_sectors: 64 }
    );
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 128,
    });
    assert!(!world.set.plan().is_empty());
    world.apply(&Event::ResyncDone(volume));
    assert_eq!(world.consistency(0), Consistency::Clean);
    world.apply(&Event::Clean(volume));
    assert!(world.set.plan().is_empty(), "clean twice writes once");
    world.apply(&Event::Dirty(volume));
    assert_eq!(world.consistency(0), Consistency::Dirty);

    let spare = world.add(spare_mib, SpareRole::None);
    let role = world.set.set().disk(spare).unwrap().role;
    assert_eq!(role, DiskRole::GlobalSpare, "md knows no other");
    world.apply(&Event::SpareAssigned(spare, SpareRole::Dedicated(0)));
    world.refuse(&Event::SpareAssigned(spare, SpareRole::None));

    let lost = world.disk_in(0, 0);
    world.refuse(&Event::DiskRemoved(lost));
    world.refuse(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    let events = world.set.set().generation;
    world.apply(&Event::DiskFailed(lost));
    assert_eq!(world.member(0, 0), MemberState::Failed);
    assert_eq!(
        world.set.set().generation,
        events + 2,
        "a lost member is two events behind"
    );
    world.apply(&Event::DiskFailed(lost));
    assert!(world.set.plan().is_empty(), "failed twice writes once");
    world.apply(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.set.set().disk(spare).unwrap().role, DiskRole::Member);
    world.apply(&Event::RebuildProgress {
        volume,
        slot: 0,
        done_sectors: 128,
    });
    assert_eq!(world.set.plan().writes().len(), 1);
    assert_eq!(
        world.member(0, 0),
        MemberState::Rebuilding { done_sectors: 128 }
    );
    world.apply(&Event::RebuildDone { volume, slot: 0 });
    assert_eq!(world.member(0, 0), MemberState::InSync);

    // The failed disk comes back as a blank one and is a spare; then it takes another's place.
    let returned = world.set.set().disk(lost).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(lost, returned));
    assert_eq!(world.state(lost), DiskState::Online);
    let gone = world.disk_in(0, 1);
    world.apply(&Event::DiskMissing(gone));
    assert_eq!(world.member(0, 1), MemberState::Missing);
    assert_eq!(world.state(gone), DiskState::Missing);
    world.apply(&Event::SpareActivated {
        volume,
        slot: 1,
        disk: lost,
    });
    world.apply(&Event::RebuildDone { volume, slot: 1 });
    world.apply(&Event::DiskRemoved(gone));
    world.apply(&Event::Clean(volume));
    assert_eq!(world.consistency(0), Consistency::Clean);

    // A spare that fails, and one that goes.
    let one = world.add(spare_mib, SpareRole::Global);
    let two = world.add(spare_mib, SpareRole::Global);
    world.apply(&Event::DiskFailed(one));
    world.apply(&Event::DiskRemoved(one));
    world.apply(&Event::DiskRemoved(two));

    if old {
        let why = world.refuse(&Event::VolumeRenamed(volume, Text::from_text("renamed")));
        assert!(why.contains("no place"), "{why}");
    } else {
        world.apply(&Event::VolumeRenamed(
            volume,
            Text::from_text("host:renamed"),
        ));
        let disk = world.disk_in(0, 0);
        let bad = |sector, sectors| BadRange {
            disk,
            sector,
            sectors,
        };
        world.apply(&Event::BadRangeAdded(bad(5000, 8)));
        world.apply(&Event::BadRangeAdded(bad(4000, 1300)));
        world.apply(&Event::BadRangeCleared(bad(4100, 4)));
        world.apply(&Event::BadRangeCleared(bad(4000, 100)));
        world.apply(&Event::BadRangeCleared(bad(0, 10_000)));
    }
}

#[test]
fn life_of_created_arrays() {
    for format in ALL {
        for (level, count, cuts) in [
            (Level::Raid1, 2, 5),
            (Level::Raid1, 3, 0),
            (Level::Raid5, 3, 4),
            (Level::Raid6, 4, 0),
            (Level::Raid4, 3, 0),
            (Level::Raid10, 4, 2),
        ] {
            for block in [512, 4096] {
                let cuts = if block == 512 { cuts } else { cuts / 2 };
                let mut world = World::made(Of(format), count, 40, block, cuts);
                let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
                world.apply(&Event::VolumeCreated(spec("", level, &disks)));
                world.apply(&Event::ResyncDone(0));
                life(&mut world, 41);
                world.apply(&Event::VolumeDeleted(0));
                let present: Vec<usize> = world
                    .set
                    .set()
                    .live_disks()
                    .filter_map(|(_, disk)| Some(disk.facts?.key as usize))
                    .collect();
                for disk in present.into_iter().map(|key| &world.disks[key]) {
                    for format in ALL {
                        let verdict = crate::md_common::probe(format, disk, 0).1;
                        assert!(matches!(verdict, emd_core::metadata::Probe::NotMine));
                    }
                }
                let why = world.refuse(&Event::VolumeCreated(spec("", level, &disks)));
                assert!(why.contains("one array"), "{why}");
            }
        }
    }
}

#[test]
fn life_of_mdadms_arrays() {
    for (case, cuts) in [
        ("12-raid5-ls", 0),
        ("11-raid5", 2),
        ("10-raid1", 4),
        ("12-raid1-badblocks", 2),
        ("12-raid10-n2-3d", 0),
        ("12-raid10-f2-5d", 0),
        ("12-raid6-ls", 0),
        ("090-raid10-n2", 0),
        ("4k-090-raid1", 2),
        ("4k-12-raid5", 2),
    ] {
        let mut disks = load(&format!("md/gen/{case}"));
        let format = version_of(&disks);
        for disk in &mut disks {
            thin(format, disk);
        }
        let set = open(format, &disks).unwrap();
        let mut world = World::of(Of(format), set, disks, cuts);
        if case.ends_with("badblocks") {
            let range = BadRange {
                disk: 0,
                sector: 0,
                sectors: 100_000,
            };
            world.apply(&Event::BadRangeCleared(range));
            world.apply(&Event::BadRangeCleared(BadRange { disk: 1, ..range }));
        }
        life(&mut world, 41);
    }
}

#[test]
fn volumes_of_every_level_and_layout() {
    for format in ALL {
        for capability in format.capabilities().levels {
            for layout in capability.layouts {
                for chunk in [0, 8, 2048] {
                    let copies = match layout {
                        Layout::Near(copies) | Layout::Far(copies) | Layout::Offset(copies) => {
                            usize::from(*copies)
                        }
                        _ => 1,
                    };
                    let count = usize::from(capability.members.0.max(3)).max(copies);
                    let mut world = World::made(Of(format), count, 50, 512, 0);
                    let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
                    let mut spec = spec("", capability.level, &disks);
                    spec.layout = Some(*layout);
                    spec.chunk_sectors = chunk;
                    let largest = world.set.largest_volume(&spec).unwrap();
                    world.apply(&Event::VolumeCreated(spec));
                    let volume = world.set.set().volume(0).unwrap();
                    assert_eq!(volume.size_sectors, largest);
                    let personality = emd_core::personalities::for_level(capability.level).unwrap();
                    if personality.check(&volume.shape).is_ok() {
                        assert_eq!(
                            personality.capacity_sectors(&volume.shape),
                            volume.size_sectors,
                            "{:?}",
                            volume.shape
                        );
                    }
                    // A smaller one: whole rows that hold at least what was asked for.
                    let mut world = World::made(Of(format), count, 50, 512, 0);
                    spec.size_sectors = largest / 2 - 4;
                    let fixed = format.0 == Version::V090 && !capability.level.is_redundant();
                    if fixed {
                        world.refuse(&Event::VolumeCreated(spec));
                        continue;
                    }
                    world.apply(&Event::VolumeCreated(spec));
                    let size = world.set.set().volume(0).unwrap().size_sectors;
                    assert!(size >= spec.size_sectors && size < largest, "{size}");
                }
            }
        }
    }
}

#[test]
fn degraded_creation() {
    for format in ALL {
        let mut world = World::made(Of(format), 3, 50, 512, 2);
        let places = [Some(0), None, Some(2)];
        world.refuse(&Event::VolumeCreated(spec("", Level::Raid0, &places)));
        world.apply(&Event::VolumeCreated(spec("", Level::Raid5, &places)));
        assert_eq!(world.member(0, 1), MemberState::Missing);
        // What was not named is a spare.
        assert_eq!(world.set.set().disk(1).unwrap().role, DiskRole::GlobalSpare);
        world.apply(&Event::SpareActivated {
            volume: 0,
            slot: 1,
            disk: 1,
        });
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    }
}

/// With as many members left out as there are parity members there is nothing that parity could be compared with, now or
/// at the next start, which would be refused if the array were not clean. mdadm makes it clean as well.
#[test]
fn what_nothing_can_resync_is_made_clean() {
    for format in ALL {
        for (level, places, is_clean) in [
            (Level::Raid4, &[Some(0), Some(1), None][..], true),
            (Level::Raid5, &[None, Some(1), Some(2)], true),
            (Level::Raid5, &[Some(0), Some(1), Some(2)], false),
            (Level::Raid6, &[Some(0), None, None, Some(3)], true),
            (Level::Raid6, &[Some(0), Some(1), None, Some(3)], false),
            (Level::Raid10, &[Some(0), Some(1), None, Some(3)], false),
        ] {
            let mut world = World::made(Of(format), places.len(), 50, 512, 2);
            world.apply(&Event::VolumeCreated(spec("", level, places)));
            assert_eq!(
                world.consistency(0) == Consistency::Clean,
                is_clean,
                "{level}"
            );
            let again = open(format, &world.disks).unwrap();
            let consistency = again.set().volumes[0].consistency;
            assert_eq!(consistency == Consistency::Clean, is_clean, "{level}");
        }
    }
}

#[test]
fn refusals_say_why() {
    let mut world = World::made(Of(&MD_12), 3, 50, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    let says = |world: &mut World, spec: VolumeSpec<'_>, part: &str| {
        let why = world.refuse(&Event::VolumeCreated(spec));
        assert!(why.contains(part), "{why}");
    };
    let twice = [Some(0), Some(0), Some(1)];
    says(&mut world, spec("v", Level::Raid5, &twice), "twice");
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(1)]),
        "3 to 64",
    );
    let ninth = [Some(0), Some(1), Some(9)];
    says(&mut world, spec("v", Level::Raid5, &ninth), "no disk 9");
    says(&mut world, spec("v", Level::Raid1e, &all), "no raid1e");
    says(
        &mut world,
        spec("v", Level::Raid0, &[Some(0), Some(1)]),
        "no spares",
    );
    says(
        &mut world,
        VolumeSpec {
            chunk_sectors: 3,
            ..spec("v", Level::Raid5, &all)
        },
        "power of two",
    );
    says(
        &mut world,
        VolumeSpec {
            size_sectors: 1 << 40,
            ..spec("v", Level::Raid5, &all)
        },
        "at most",
    );
    says(
        &mut world,
        VolumeSpec {
            layout: Some(Layout::Parity(Rotation::DdfNRestart)),
            ..spec("v", Level::Raid5, &all)
        },
        "layout",
    );
    says(
        &mut world,
        VolumeSpec {
            spans: 2,
            ..spec("v", Level::Raid5, &all)
        },
        "span",
    );
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    says(&mut world, spec("w", Level::Raid5, &all), "one array");
    for event in [
        Event::DiskFailed(7),
        Event::DiskMissing(7),
        Event::DiskRemoved(7),
        Event::SpareAssigned(7, SpareRole::Global),
        Event::SpareAssigned(0, SpareRole::Global),
        Event::Clean(3),
        Event::RebuildDone { volume: 0, slot: 0 },
        Event::RebuildProgress {
            volume: 0,
            slot: 9,
            done_sectors: 0,
        },
        Event::ResyncProgress {
            volume: 0,
            done_sectors: u64::MAX,
        },
        Event::RegionsDirty {
            volume: 0,
            first: 0,
            count: 1,
        },
        Event::VolumeDeleted(1),
        Event::DiskReturned(0, facts(&world.disks[0].clone(), 0)),
    ] {
        world.refuse(&event);
    }
    let small = DiskOffer {
        facts: facts(&Disk::blank("s", 10 * 2048, 512), 77),
        role: SpareRole::None,
    };
    let why = world.refuse(&Event::DiskAdded(small));
    assert!(why.contains("members have"), "{why}");
    let other = DiskOffer {
        facts: facts(&Disk::blank("s", 64 * 2048, 4096), 77),
        role: SpareRole::None,
    };
    world.refuse(&Event::DiskAdded(other));
    let mut world = World::made(Of(&MD_090), 2, 50, 512, 0);
    let two = [Some(0), Some(1)];
    says(
        &mut world,
        spec("v", Level::Raid1, &two),
        "no place for a name",
    );
}

#[test]
fn a_set_sees_so_many_disks_and_no_more() {
    let mut world = World::made(Of(&MD_12), 3, 50, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    world.add_and_remove_to_the_limit(50);
}
