// SPDX-License-Identifier: GPL-2.0

//! Every event, one after the other, on sets of our own and of others: after each one, the disks say
//! what the memory says; cut anywhere, they say the old or the new state and never a mix.

use crate::imsm_common::world::{check_marks, spec, World};
use crate::imsm_common::{cut_everywhere, open, open_keyed, sample, show, show_with, writes};
use emd_core::metadata::imsm::layout::{attribute, volume as record};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    BadRange, Consistency, DiskRole, DiskState, Event, Level, MemberState, SpareRole, Text,
    VolumeSpec,
};
use host_tests::crash::Random;
use host_tests::samples::Disk;

/// The life of a redundant volume, from its members' first failure to a new name.
fn life(world: &mut World, volume: u16, mib: u64) {
    let slot = 0u16;
    let members = world.set.set().volume(volume).unwrap().members.len();
    let first = world.set.set().volume(volume).unwrap().members[0]
        .disk
        .unwrap();
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::Clean(volume));
    let progress = |done_sectors| Event::ResyncProgress {
        volume,
        done_sectors,
    };
    world.apply(&progress(0));
    world.apply(&progress(8192));
    assert_eq!(
        world.set.set().volume(volume).unwrap().consistency,
        Consistency::Initialising { done_sectors: 8192 }
    );
    check_marks(world);
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::ResyncDone(volume));
    world.apply(&Event::Clean(volume));

    // A disk fails, a spare takes its place, is rebuilt.
    let spare = world.add(mib, SpareRole::Global);
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::DiskFailed(first));
    assert_eq!(world.member(volume, 0), MemberState::Failed);
    assert_eq!(world.state(first), DiskState::Failed);
    world.apply(&Event::SpareActivated {
        volume,
        slot,
        disk: spare,
    });
    let progress = |done_sectors| Event::RebuildProgress {
        volume,
        slot,
        done_sectors,
    };
    world.apply(&progress(100));
    world.apply(&progress(10_240));
    check_marks(world);
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::RebuildDone { volume, slot });
    world.apply(&Event::Clean(volume));
    assert_eq!(world.member(volume, 0), MemberState::InSync);
    world.apply(&Event::DiskRemoved(first));

    // Another goes away and comes back.
    let other = world.set.set().volume(volume).unwrap().members[members - 1]
        .disk
        .unwrap();
    let facts = world.set.set().disk(other).unwrap().facts.unwrap();
    world.apply(&Event::DiskMissing(other));
    assert_eq!(world.state(other), DiskState::Missing);
    world.apply(&Event::DiskReturned(other, facts));
    assert_eq!(world.role(other), DiskRole::Unused);
    let slot = members as u16 - 1;
    world.apply(&Event::SpareActivated {
        volume,
        slot,
        disk: other,
    });
    // It fails while it is rebuilt, is taken out, and another one comes.
    world.apply(&Event::DiskFailed(other));
    world.apply(&Event::DiskRemoved(other));
    let another = world.add(mib, SpareRole::None);
    world.apply(&Event::SpareActivated {
        volume,
        slot,
        disk: another,
    });
    world.apply(&Event::RebuildDone { volume, slot });
    world.apply(&Event::VolumeRenamed(volume, Text::from_text("renamed")));
    let unneeded = world.add(mib, SpareRole::Global);
    world.apply(&Event::DiskRemoved(unneeded));
}

#[test]
fn life_of_created_sets() {
    for (level, count, crashes) in [
        (Level::Raid1, 2, 6),
        (Level::Raid5, 3, 3),
        (Level::Raid5, 5, 1),
        (Level::Raid10, 4, 2),
        (Level::Raid10, 6, 1),
    ] {
        for block in [512, 4096] {
            let mut world = World::created(count, 40, block, crashes);
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            world.apply(&Event::VolumeCreated(spec("vol", level, &disks)));
            life(&mut world, 0, 40);
            world.apply(&Event::VolumeDeleted(0));
            for (_, disk) in world.set.set().live_disks() {
                assert_eq!(disk.role, DiskRole::GlobalSpare);
            }
            let again: Vec<Option<u16>> = world
                .set
                .set()
                .live_disks()
                .map(|(index, _)| Some(index))
                .collect();
            world.apply(&Event::VolumeCreated(spec("again", level, &again)));
        }
    }
}

#[test]
fn life_of_others_sets() {
    for (case, crashes) in [
        ("gen/raid1", 4),
        ("gen/raid10", 2),
        ("gen/raid10-6", 1),
        ("gen/raid5-3", 2),
        ("gen/raid5-4", 1),
        ("gen/4k-raid1", 3),
        ("gen/bbm", 3),
        ("gen-freebsd/intel-raid1-2d", 4),
    ] {
        let disks = sample(case);
        let mib = disks[0].size_sectors / 2048;
        let set = open(&disks).unwrap();
        life(&mut World::new(set, disks, crashes), 0, mib);
    }
}

#[test]
fn unfinished_sets_go_on() {
    for (case, slot) in [("gen/raid1-rebuild", 0), ("gen/raid5-rebuild", 0)] {
        let disks = sample(case);
        let set = open(&disks).unwrap();
        let mut world = World::new(set, disks, 3);
        check_marks(&world);
        world.apply(&Event::RebuildProgress {
            volume: 0,
            slot,
            done_sectors: 100_000,
        });
        check_marks(&world);
        world.apply(&Event::RebuildDone { volume: 0, slot });
        let at = world.set.record(0).unwrap();
        assert_eq!(world.set.mpb.raw().u8(at + record::MIGRATING), 0);
        // What was replaced is somebody's until it is removed.
        let stale = (0..4u16)
            .find(|&disk| {
                world
                    .set
                    .set()
                    .disk(disk)
                    .is_some_and(|disk| disk.state == DiskState::Stale)
            })
            .unwrap();
        let facts = world.set.set().disk(stale).unwrap().facts.unwrap();
        let why = world.refuse(&Event::DiskReturned(stale, facts));
        assert!(why.contains("does not list"), "{why}");
        world.apply(&Event::DiskRemoved(stale));
    }
    let disks = sample("gen/raid1-missing");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 3);
    let stale = world.set.set().disk_by_key(1).unwrap();
    let back = world.set.set().disk(stale).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(stale, back));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: stale,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
}

#[test]
fn two_volumes_on_the_same_disks() {
    for block in [512, 4096] {
        let mut world = World::created(3, 64, block, 2);
        let all = [Some(0), Some(1), Some(2)];
        let first = VolumeSpec {
            size_sectors: 2 * 16384,
            ..spec("first", Level::Raid5, &all)
        };
        world.apply(&Event::VolumeCreated(first));
        let two = [Some(2), Some(0)];
        let why = world.refuse(&Event::VolumeCreated(spec("mirror", Level::Raid1, &two)));
        assert!(why.contains("same 3 disks"), "{why}");
        let turned = [Some(2), Some(0), Some(1)];
        let second = VolumeSpec {
            assume_clean: false,
            ..spec("second", Level::Raid5, &turned)
        };
        let largest = world.set.largest_volume(&second).unwrap();
        world.apply(&Event::VolumeCreated(second));
        let volume = world.set.set().volume(1).unwrap();
        assert_eq!(volume.size_sectors, largest);
        assert_eq!(
            volume.consistency,
            Consistency::Initialising { done_sectors: 0 }
        );
        // Behind the first and its log, and 4 MiB further.
        assert_eq!(volume.members[0].offset_sectors, 16384 + 2048 + 8192);
        let why = world.refuse(&Event::VolumeCreated(spec("third", Level::Raid0, &all)));
        assert!(why.contains("2 volumes at most"), "{why}");

        // One disk carries both: its failure shows in each, and one spare replaces it in each.
        world.apply(&Event::ResyncProgress {
            volume: 1,
            done_sectors: 4096,
        });
        world.apply(&Event::DiskFailed(2));
        assert_eq!(world.member(0, 2), MemberState::Failed);
        assert_eq!(world.member(1, 0), MemberState::Failed);
        let spare = world.add(64, SpareRole::Global);
        let activated = |volume, slot| Event::SpareActivated {
            volume,
            slot,
            disk: spare,
        };
        world.apply(&activated(0, 2));
        world.apply(&activated(1, 0));
        world.apply(&Event::RebuildDone { volume: 0, slot: 2 });
        world.apply(&Event::RebuildDone { volume: 1, slot: 0 });
        let volume = world.set.set().volume(1).unwrap();
        assert!(matches!(
            volume.consistency,
            Consistency::Initialising { .. }
        ));
        world.apply(&Event::ResyncDone(1));
        world.apply(&Event::VolumeDeleted(0));
        // The gap in front is found again.
        let disks = [Some(0), Some(1), Some(spare)];
        let again = VolumeSpec {
            size_sectors: 2 * 8192,
            ..spec("again", Level::Raid0, &disks)
        };
        world.apply(&Event::VolumeCreated(again));
        assert_eq!(
            world.set.set().volume(2).unwrap().members[0].offset_sectors,
            0
        );
    }
}

#[test]
fn volumes_of_every_level_and_chunk() {
    let capabilities = emd_core::metadata::Format::capabilities(&emd_core::metadata::imsm::Imsm);
    for capability in capabilities.levels {
        for chunk in [0, 8, 256, 2048] {
            for count in [capability.members.0, capability.members.1.min(6)] {
                let mut world = World::created(usize::from(count), 50, 512, 0);
                let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
                let spec = VolumeSpec {
                    chunk_sectors: chunk,
                    ..spec("v", capability.level, &disks)
                };
                world.apply(&Event::VolumeCreated(spec));
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::created(5, 50, 512, 0);
    let two = [Some(0), Some(1)];
    let three = [Some(0), Some(1), Some(2)];
    let five = [Some(0), Some(1), Some(2), Some(3), Some(4)];
    let open_slot = [Some(0), None, Some(2)];
    let cases: [(VolumeSpec<'_>, &str); 12] = [
        (spec("v", Level::Raid6, &five), "no raid6"),
        (spec("v", Level::Raid4, &five), "no raid4"),
        (spec("v", Level::Raid1, &three), "takes 2 to 2 disks"),
        (
            spec("v", Level::Raid10, &five),
            "takes 4 to 16 disks here, two for each mirror, not 5",
        ),
        (spec("v", Level::Raid5, &two), "takes 3 to 16 disks"),
        (
            spec("v", Level::Raid5, &open_slot),
            "cannot start with a member missing",
        ),
        (
            spec("a name too long for", Level::Raid1, &two),
            "longer than the 16 bytes",
        ),
        (spec("a/b", Level::Raid1, &two), "cannot be a name"),
        (spec(" a", Level::Raid1, &two), "cannot be a name"),
        (
            VolumeSpec {
                chunk_sectors: 4,
                ..spec("v", Level::Raid0, &two)
            },
            "a chunk of 4 sectors",
        ),
        (
            VolumeSpec {
                chunk_sectors: 4096,
                ..spec("v", Level::Raid0, &two)
            },
            "a chunk of 4096 sectors",
        ),
        (
            VolumeSpec {
                size_sectors: 1 << 30,
                ..spec("v", Level::Raid0, &two)
            },
            "sectors fit onto these disks",
        ),
    ];
    for (spec, reason) in cases {
        let why = world.refuse(&Event::VolumeCreated(spec));
        assert!(why.contains(reason), "{why}");
    }
    world.refuse(&Event::SpareAssigned(0, SpareRole::Dedicated(0)));
    world.refuse(&Event::SpareAssigned(0, SpareRole::None));
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &three)));
    world.refuse(&Event::RegionsDirty {
        volume: 0,
        first: 0,
        count: 1,
    });
    world.refuse(&Event::DiskRemoved(1));
    world.refuse(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: 3,
    });
}

#[test]
fn bad_ranges_are_kept() {
    for block in [512u32, 4096] {
        let mut world = World::created(3, 50, block, 1);
        let all = [Some(0), Some(1), Some(2)];
        world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
        let range = |disk, sector, sectors| BadRange {
            disk,
            sector,
            sectors,
        };
        world.apply(&Event::BadRangeAdded(range(0, 4096, 8)));
        world.apply(&Event::BadRangeAdded(range(1, 8192, 3000)));
        world.apply(&Event::BadRangeAdded(range(2, 40_000, 16)));
        assert_ne!(world.set.mpb.raw().attributes() & attribute::BAD_LOG, 0);
        assert!((0..3).all(|disk| world.set.keeps_bad_ranges(disk)));
        world.apply(&Event::BadRangeCleared(range(1, 9000, 800)));
        world.apply(&Event::BadRangeCleared(range(2, 40_000, 16)));
        // What is bad on a disk that is lost is of no interest; indices of others move.
        let spare = world.add(50, SpareRole::Global);
        world.apply(&Event::DiskFailed(0));
        world.apply(&Event::SpareActivated {
            volume: 0,
            slot: 0,
            disk: spare,
        });
        world.apply(&Event::BadRangeCleared(range(1, 0, 20_000)));
        assert_eq!(world.set.mpb.raw().attributes() & attribute::BAD_LOG, 0);
        let mut full = false;
        for n in 0..300 {
            let event = Event::BadRangeAdded(range(2, n * 16, 8));
            if world
                .set
                .apply(&event, &crate::imsm_common::context(n))
                .is_err()
            {
                full = n >= 250;
                break;
            }
            let plan = crate::imsm_common::writes(&world.set);
            crate::imsm_common::carry_out(&mut world.disks, &plan);
        }
        assert!(full, "the log never was full");
        world.check("full");
    }
}

#[test]
fn marks_survive() {
    let mut world = World::created(4, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    let new = VolumeSpec {
        assume_clean: false,
        ..spec("ten", Level::Raid10, &all)
    };
    world.apply(&Event::VolumeCreated(new));
    let at = world.set.record(0).unwrap();
    // Of RAID 10 they count sectors of the volume.
    world.apply(&Event::ResyncProgress {
        volume: 0,
        done_sectors: 65536,
    });
    let raw = world.set.mpb.raw();
    assert_eq!(raw.u8(at + record::KIND), record::INIT);
    assert_eq!(raw.u32(at + record::UNIT_LO), 256);
    check_marks(&world);
    let again = open(&world.disks).unwrap();
    assert_eq!(
        show_with(world.set.set(), true),
        show_with(again.set(), true)
    );
}

/// One disk is left, and its MPB is longer than a block: cut anywhere, it is the old or the new one.
#[test]
fn the_last_disk_is_never_torn() {
    let mut world = World::created(2, 64, 512, 8);
    let two = [Some(0), Some(1)];
    let first = VolumeSpec {
        size_sectors: 16384,
        ..spec("first", Level::Raid1, &two)
    };
    world.apply(&Event::VolumeCreated(first));
    world.apply(&Event::VolumeCreated(spec("second", Level::Raid1, &two)));
    assert!(world.set.mpb.raw().size() > 512);
    for lost in [Event::DiskMissing(1), Event::DiskFailed(1)] {
        world.apply(&lost);
    }
    for round in 0..3 {
        for volume in [1, 0] {
            world.apply(&Event::Dirty(volume));
            let name = Text::from_text(&format!("n{round}{volume}"));
            world.apply(&Event::VolumeRenamed(volume, name));
            world.apply(&Event::Clean(volume));
        }
    }
    // Spares' own MPBs do not stand in for it.
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::Dirty(1));
    world.apply(&Event::SpareActivated {
        volume: 1,
        slot: 1,
        disk: spare,
    });
}

/// The same of each disk of a mirror: the other one may be lost along with the power. (Found by the simulator.)
#[test]
fn no_disk_of_a_mirror_is_torn() {
    let mut world = World::created(2, 64, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("mirror", Level::Raid1, &two)));
    let (mut random, mut longer) = (Random(23), 0);
    let bad = |nth: u64| BadRange {
        disk: nth as u16 % 2,
        sector: 64 * (1 + nth),
        sectors: 8,
    };
    // What is taken out of the middle moves what is behind it.
    let added = (0..20).map(|nth| Event::BadRangeAdded(bad(nth)));
    let cleared = (0..8).map(|nth| Event::BadRangeCleared(bad(nth)));
    for (nth, event) in added.chain(cleared).enumerate() {
        let before = world.disks.clone();
        world.apply(&event);
        let plan = writes(&world.set);
        longer += usize::from(plan.len() > 2);
        for key in [0u64, 1] {
            let alone = |disks: &[Disk]| {
                let set = open_keyed(&[(key, &disks[key as usize])]).unwrap();
                show(set.set())
            };
            let (old, new) = (alone(&before), alone(&world.disks));
            cut_everywhere(&before, &plan, &[key], &mut random, 20, &|state, at| {
                assert!(state == old || state == new, "{nth}, {key}, {at}: {state}");
            });
        }
    }
    assert!(longer > 5, "more than a block changes: {longer}");
}

/// A size that is asked for is rounded up to what is set aside of the members: md syncs and compares all of that.
#[test]
fn nothing_is_set_aside_that_no_sync_reaches() {
    for (level, count) in [
        (Level::Raid0, 3),
        (Level::Raid1, 2),
        (Level::Raid5, 4),
        (Level::Raid10, 4),
    ] {
        let mut world = World::created(count, 64, 512, 0);
        let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
        let asked = 8192 + 8;
        let spec = VolumeSpec {
            size_sectors: asked,
            ..spec("vol", level, &disks)
        };
        world.apply(&Event::VolumeCreated(spec));
        let volume = world.set.set().volume(0).unwrap();
        let data = match level {
            Level::Raid0 => 3,
            Level::Raid1 => 1,
            Level::Raid5 => 3,
            _ => 2,
        };
        assert_eq!(
            volume.size_sectors,
            data * volume.shape.member_sectors,
            "{level}"
        );
        assert!(volume.size_sectors >= asked, "{level}");
    }
}
