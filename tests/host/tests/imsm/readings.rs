// SPDX-License-Identifier: GPL-2.0

//! What samples say after one thing in them was changed: how it is read, or why it is not used.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{context, open, open_keyed, reseal, sample};
use crate::syncs::migrating;
use emd_core::metadata::imsm::layout::{map, volume, Raw, Which};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Consistency, Event, Level, SpareRole};
use host_tests::samples::Disk;

pub fn raw(mpb: &[u8]) -> Raw<'_> {
    Raw {
        anchor: mpb,
        rest: &[],
    }
}

/// Changes the record of a volume on every disk.
pub fn change(disks: &mut [Disk], index: u8, how: &dyn Fn(&mut [u8])) {
    for disk in disks {
        reseal(disk, &mut |mpb| {
            let at = raw(mpb).volume_at(index);
            how(&mut mpb[at..]);
        });
    }
}

fn access(disks: &[Disk], index: u16) -> Access {
    open(disks).unwrap().set().volume(index).unwrap().access
}

#[track_caller]
fn refused(disks: &[Disk], index: u16, expected: &str) {
    match access(disks, index) {
        Access::Refused(why) => assert!(why.text().contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn read_only(disks: &[Disk], index: u16, expected: &str) {
    match access(disks, index) {
        Access::ReadOnly(why) => assert!(why.text().contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_migrations_are_only_read() {
    for kind in [4, 6, 255] {
        let world = migrating(kind, false, 0, 3);
        read_only(&world.disks, 0, &format!("kind {kind}"));
        let mut set = open(&world.disks).unwrap();
        assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
        assert!(set.plan().is_empty());
    }
}

#[test]
fn write_hole_policies() {
    let with = |case: &str, policy: u8, dirty: u8| {
        let mut disks = sample(case);
        change(&mut disks, 0, &|volume| {
            volume[volume::HOLE_POLICY] = policy;
            volume[volume::DIRTY] = dirty;
        });
        disks
    };
    for policy in [1, 3] {
        for dirty in [0u8, 1, 2, 3] {
            let disks = with("gen/raid5-3", policy, dirty);
            // With all members, and without one.
            for skip in [0, 1] {
                let keyed: Vec<(u64, &Disk)> = (0u64..).zip(disks.iter()).skip(skip).collect();
                let set = open_keyed(&keyed).unwrap();
                let volume = set.set().volume(0).unwrap();
                assert!(
                    matches!(volume.access, Access::ReadWrite),
                    "{policy} {dirty}"
                );
                let consistency = match dirty & 1 {
                    0 => Consistency::Clean,
                    _ => Consistency::Dirty,
                };
                assert_eq!(volume.consistency, consistency);
                let is_due = set.left_log(0).map(|log| log.is_due);
                assert_eq!(is_due, Some(dirty != 0), "{policy} {dirty}");
                assert!(set.hole_log(0).is_some(), "{policy} {dirty}");
            }
        }
        // Nothing is set aside for it: it would be in the next volume.
        let mut disks = with("gen/raid5-3", policy, 0);
        for disk in &mut disks {
            reseal(disk, &mut |mpb| {
                let at = raw(mpb).volume_at(0);
                let map = raw(mpb).map_at(at, Which::First);
                let (stripes, strip) = (
                    raw(mpb).u32(map + map::STRIPES_LO),
                    raw(mpb).u16(map + map::STRIP),
                );
                let blocks = stripes * u32::from(strip) + 8;
                mpb[map + map::BLOCKS_LO..][..4].copy_from_slice(&blocks.to_le_bytes());
            });
        }
        read_only(&disks, 0, "partial parity log");
        let set = open(&disks).unwrap();
        assert!(set.hole_log(0).is_none());
        assert!(set.left_log(0).is_some());
        // Where there is no parity there is no such log.
        let mirror = with("gen/raid1", policy, 0);
        assert!(matches!(access(&mirror, 0), Access::ReadWrite));
    }
    for policy in [2, 4] {
        read_only(&with("gen/raid5-3", policy, 0), 0, "journaling");
    }
    for policy in [0, 5] {
        let disks = with("gen/raid5-3", policy, 0);
        assert!(matches!(access(&disks, 0), Access::ReadWrite));
    }
    read_only(&with("gen/raid1", 6, 0), 0, "bitmap");
}

#[test]
fn what_only_intels_driver_knows() {
    let mut disks = sample("gen/raid1");
    change(&mut disks, 0, &|volume| volume[volume::STATUS + 1] |= 0x04);
    refused(&disks, 0, "clone-and-go");
    let mut disks = sample("gen/raid1");
    change(&mut disks, 0, &|volume| volume[volume::NV_CACHE] = 1);
    refused(&disks, 0, "cache");
    // Nothing of it is written.
    let mut set = open(&disks).unwrap();
    assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
    assert!(set.plan().is_empty());
}

/// Neither of two volumes that overlap is used: a write to one would be one to the other.
#[test]
fn volumes_that_overlap() {
    let mut world = World::created(2, 128, 512, 0);
    let two = [Some(0), Some(1)];
    for name in ["one", "two"] {
        let spec = emd_core::model::VolumeSpec {
            size_sectors: 16 << 11,
            ..spec(name, Level::Raid1, &two)
        };
        world.apply(&Event::VolumeCreated(spec));
    }
    let set = open(&world.disks).unwrap();
    let first = set.set().volume(0).unwrap();
    let end = first.members[0].offset_sectors + first.shape.member_sectors;
    for (start, overlaps) in [(0, true), (end - 1, true), (end, false)] {
        let mut disks = world.disks.clone();
        change(&mut disks, 1, &|record| {
            record[volume::BYTES + map::START_LO..][..4]
                .copy_from_slice(&(start as u32).to_le_bytes());
        });
        for index in [0, 1] {
            if overlaps {
                refused(&disks, index, "overlap");
            } else {
                assert!(matches!(access(&disks, index), Access::ReadWrite));
            }
        }
    }
}

/// A volume that leaves the disk.
#[test]
fn volumes_beyond_the_disk() {
    let mut disks = sample("gen/raid1");
    change(&mut disks, 0, &|record| {
        record[volume::BYTES + map::START_LO..][..4].copy_from_slice(&100_000u32.to_le_bytes());
    });
    refused(&disks, 0, "ends at sector");
}

/// Spares as mdadm and the firmware make them belong to no set, and any may take them.
#[test]
fn spares_of_no_set_are_lent() {
    let lends = |disk: &Disk| open_keyed(&[(0, disk)]).unwrap().set().lends_spares;
    let mut world = World::created(2, 64, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
    world.add(64, SpareRole::Global);
    assert!(!open(&world.disks).unwrap().set().lends_spares);
    // One of EMD's belongs to its set, also alone.
    let own = world.disks[2].clone();
    assert!(!lends(&own));
    // The first family number, which ties it to a set.
    let mut foreign = own.clone();
    reseal(&mut foreign, &mut |mpb| mpb[0x40..0x44].fill(0));
    assert!(lends(&foreign));
    assert_eq!(
        open_keyed(&[(0, &foreign)])
            .unwrap()
            .set()
            .live_disks()
            .count(),
        1
    );
    let status = 0xD8 + 0x18;
    // What is passed through, failed, or no spare at all.
    for value in [0x41u8, 0x05, 0x02] {
        let mut other = foreign.clone();
        reseal(&mut other, &mut |mpb| mpb[status] = value);
        assert!(!lends(&other), "{value:#x}");
    }
    // Its table names another disk.
    let mut other = foreign.clone();
    other.name = "ANOTHER".into();
    assert!(!lends(&other));
    for case in crate::imsm_common::cases() {
        assert!(!open(&sample(&case)).unwrap().set().lends_spares, "{case}");
    }
}
