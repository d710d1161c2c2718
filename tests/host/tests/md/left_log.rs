// SPDX-License-Identifier: GPL-2.0

//! The partial parity log of an array that mdadm made: where it is, what it says, and how it is taken off.

use crate::md_common::{apply, change, context, open, open_keyed, thin, version_of, Of, World};
use emd_core::metadata::md::layout::{feature, v1};
use emd_core::metadata::md::{MdSet, Version};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Consistency, CrashPolicy, DiskState, Event, LoggedWrite, MemberState,
};
use emd_core::personalities::hole_log::left;
use emd_core::personalities::{Geometry, Mask};
use host_tests::samples::{load, Disk};
use kernel::prelude::*;

const CASE: &str = "md/gen/12-raid5-ppl";

/// What the logs of all members say.
fn logged(set: &MdSet, disks: &[Disk]) -> Vec<LoggedWrite> {
    let volume = set.set().volume(0).unwrap();
    let mut writes = KVVec::new();
    for (slot, member) in (0u16..).zip(volume.members.iter()) {
        let disk = set.set().disk(member.disk.unwrap()).unwrap();
        let (sector, sectors) = set.left_log_place(0, slot).unwrap();
        let bytes = disks[disk.facts.unwrap().key as usize].read(sector, sectors as usize);
        let is_whole = set.read_left_log(0, slot, &bytes, &mut writes).unwrap();
        assert!(is_whole, "the log of member {slot}");
    }
    writes.iter().copied().collect()
}

fn features(disk: &Disk) -> u32 {
    let bytes = disk.read(8, 1);
    u32::from_le_bytes(bytes[v1::FEATURES..][..4].try_into().unwrap())
}

/// Power went while it was being written: `mdadm -E` says "PPL : 2048 sectors at offset 8 sectors from superblock".
#[test]
fn what_md_left() {
    let disks = load(CASE);
    let set = open(version_of(&disks), &disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadOnly(_)));
    assert_eq!(set.set().volume(0).unwrap().crash_policy, CrashPolicy::Log);
    assert_eq!(set.left_log(0).map(|log| log.is_due), Some(true));
    for slot in 0..3 {
        assert_eq!(set.left_log_place(0, slot), Some((16, 2048)));
    }
    let writes = logged(&set, &disks);
    assert!(!writes.is_empty(), "writes were in flight");
    // Some are of the place that was being written, and each is on the member with its parity.
    assert!(writes.iter().any(|write| write.first_sector < 96));
    let geometry = Geometry::new(&volume.shape, volume.size_sectors).unwrap();
    for write in &writes {
        let mut stretches = KVVec::new();
        assert!(
            left::stretches(&geometry, write, &mut stretches).unwrap(),
            "{write:?}"
        );
        let roles = geometry.roles(stretches[0].stripe);
        assert_eq!(roles.parity(), Mask::single(write.slot), "{write:?}");
    }
}

fn world(disks: &[Disk]) -> World {
    let mut disks = disks.to_vec();
    let format = version_of(&disks);
    for disk in &mut disks {
        thin(format, disk);
    }
    let set = open(format, &disks).unwrap();
    World::of(Of(format), set, disks, 20)
}

#[test]
fn it_is_taken_off() {
    let mut world = world(&load(CASE));
    // Nothing else is written before.
    for event in [
        Event::Dirty(0),
        Event::Clean(0),
        Event::ResyncDone(0),
        Event::CrashPolicySet(0, CrashPolicy::None),
    ] {
        let why = world.refuse(&event);
        assert!(why.contains("partial parity log"), "{why}");
    }
    let before = world.disks.clone();
    assert!(before
        .iter()
        .all(|disk| features(disk) & feature::LOGS == feature::PPLS));
    world.apply(&Event::LeftLogOff {
        volume: 0,
        is_settled: false,
    });
    assert!(world.cuts > 3);
    let set = open(version_of(&world.disks), &world.disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite));
    assert_eq!(volume.consistency, Consistency::Dirty, "it is resynced");
    assert_eq!(
        set.set().volume(0).unwrap().crash_policy,
        CrashPolicy::Resync
    );
    assert_eq!((set.left_log(0), set.left_log_place(0, 0)), (None, None));
    for (disk, was) in world.disks.iter().zip(&before) {
        assert_eq!(features(disk), features(was) & !feature::LOGS);
    }
    world.apply(&Event::Dirty(0));
    world.apply(&Event::Clean(0));
    let why = world.refuse(&Event::LeftLogOff {
        volume: 0,
        is_settled: false,
    });
    assert!(why.contains("no partial parity log"), "{why}");
}

/// Where a member is missing, what the log told of is settled; the member is old from then on.
#[test]
fn a_degraded_array_is_clean_then() {
    let disks = load(CASE);
    let format = version_of(&disks);
    for lost in 0..3usize {
        let mut own = disks.clone();
        let keyed: Vec<(u64, &Disk)> = (0u64..)
            .zip(disks.iter())
            .filter(|(key, _)| *key != lost as u64)
            .collect();
        let mut set = open_keyed(format, &keyed).unwrap();
        let missing = (0..3u16)
            .find(|&disk| set.set().disk(disk).unwrap().state == DiskState::Missing)
            .unwrap();
        set.apply(&Event::DiskMissing(missing), &context(1))
            .unwrap();
        assert!(set.plan().is_empty(), "nothing is written before");
        let event = Event::LeftLogOff {
            volume: 0,
            is_settled: true,
        };
        apply(&mut set, &mut own, &event, 2).unwrap();
        let again = open(format, &own).unwrap();
        let volume = again.set().volume(0).unwrap();
        assert!(matches!(volume.access, Access::ReadWrite));
        assert_eq!(volume.consistency, Consistency::Clean);
        let in_sync = |state: MemberState| state == MemberState::InSync;
        let count = volume
            .members
            .iter()
            .filter(|member| in_sync(member.state))
            .count();
        assert_eq!(count, 2, "the one that was away is old");
    }
}

/// A log that is not where md has one.
#[test]
fn places_that_cannot_be() {
    let disks = load(CASE);
    let format = version_of(&disks);
    assert_eq!(format.0, Version::V12);
    // Offset and length: over the superblock; over data; less than a header and a sum; before the disk.
    for (offset, sectors) in [(0i16, 2048u16), (8, 4200), (8, 8), (-16, 8), (3000, 2048)] {
        let mut disks = disks.clone();
        change(format, &mut disks[0], v1::PPL_OFFSET, &offset.to_le_bytes());
        change(
            format,
            &mut disks[0],
            v1::PPL_SECTORS,
            &sectors.to_le_bytes(),
        );
        let set = open(format, &disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let disk = set.set().disk(member.disk.unwrap()).unwrap();
            let wanted = (disk.facts.unwrap().key != 0).then_some((16, 2048));
            assert_eq!(set.left_log_place(0, slot), wanted, "{offset} {sectors}");
        }
    }
}
