// SPDX-License-Identifier: GPL-2.0

//! Spares that firmware keeps in the table of the set, and what a spare has to have room for.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{carry_out, context, facts, open, writes};
use emd_core::metadata::imsm::layout::disk as entry;
use emd_core::metadata::imsm::serial;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    BadRange, CrashPolicy, DiskOffer, DiskRole, Event, Level, MemberState, SpareRole, VolumeSpec,
};
use host_tests::samples::Disk;

/// RAID 5 of three disks, and disk 3 in the table, as a spare of firmware.
fn listed() -> World {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    let half = VolumeSpec {
        size_sectors: 2 * 16384,
        ..spec("v", Level::Raid5, &all)
    };
    world.apply(&Event::VolumeCreated(half));
    let (mut set, mut disks) = (world.set, world.disks);
    let key = disks.len() as u64;
    disks.push(Disk::blank("LISTED-SPARE", disks[0].size_sectors, 512));
    let number = serial::of_disk(&disks[key as usize].name).unwrap();
    let blocks = disks[0].size_sectors;
    set.mpb
        .add_disk(&number, blocks, entry::SPARE | 0x138)
        .unwrap();
    set.apply(&Event::Dirty(0), &context(7)).unwrap();
    let plan = writes(&set);
    carry_out(&mut disks, &plan);
    set.apply(&Event::Clean(0), &context(8)).unwrap();
    let plan = writes(&set);
    carry_out(&mut disks, &plan);
    let tail = disks[0].read(blocks - 16, 16);
    disks[key as usize].write(blocks - 16, &tail);
    let set = open(&disks).unwrap();
    World::new(set, disks, 4)
}

fn status(world: &World, disk: u16) -> u32 {
    let listed = world.set.entry(disk).unwrap();
    world.set.mpb.raw().status(listed)
}

#[test]
fn firmwares_spares_are_spares() {
    let mut world = listed();
    let spare = world.set.set().disk_by_key(3).unwrap();
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::SpareAssigned(spare, SpareRole::Global));
    let why = world.refuse(&Event::SpareAssigned(spare, SpareRole::None));
    assert!(why.contains("is a spare"), "{why}");
    world.apply(&Event::DiskFailed(1));
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    });
    // To mdadm one with the bit is in no volume, whatever the maps say.
    assert_eq!(status(&world, spare), entry::CONFIGURED | 0x138);
    assert_eq!(world.role(spare), DiskRole::Member);
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    let again = open(&world.disks).unwrap();
    let volume = again.set().volume(0).unwrap();
    assert_eq!(volume.members[1].state, MemberState::InSync);
}

/// It may go, also with the last volume, and be in a new one.
#[test]
fn firmwares_spares_in_other_roles() {
    let mut world = listed();
    let spare = world.set.set().disk_by_key(3).unwrap();
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("w", Level::Raid5, &all)));
    world.apply(&Event::VolumeDeleted(1));
    world.apply(&Event::VolumeDeleted(0));
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    let other = [Some(0), Some(1), Some(spare)];
    world.apply(&Event::VolumeCreated(spec("x", Level::Raid5, &other)));
    assert_eq!(status(&world, spare), entry::CONFIGURED);

    let mut world = listed();
    world.apply(&Event::DiskFailed(spare));
    assert_eq!(world.role(spare), DiskRole::Unused);
    let mut world = listed();
    world.apply(&Event::DiskRemoved(spare));
    assert_eq!(world.set.mpb.raw().disks(), 3);
}

/// In no volume a disk is a spare, also one that comes back to an entry which no volume names: nothing waits for it.
#[test]
fn a_spare_of_firmwares_that_was_away_is_one_again() {
    let losses: [fn(u16) -> Event<'static>; 2] = [Event::DiskMissing, Event::DiskFailed];
    for lost in losses {
        let mut world = listed();
        let spare = world.set.set().disk_by_key(3).unwrap();
        world.apply(&lost(spare));
        let back = facts(&world.disks[3], 3);
        world.apply(&Event::DiskReturned(spare, back));
        assert_eq!(world.role(spare), DiskRole::GlobalSpare);
        let again = open(&world.disks).unwrap();
        let own = again.set().present_disk(3).unwrap();
        assert_eq!(own.role, DiskRole::GlobalSpare);
        world.apply(&Event::SpareAssigned(spare, SpareRole::Global));
        world.apply(&Event::DiskFailed(1));
        world.apply(&activate(spare));
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        assert_eq!(world.member(0, 1), MemberState::InSync);
    }
}

/// A disk whose last volume is deleted is a spare then, or when it is back.
#[test]
fn a_place_in_a_volume_that_is_deleted() {
    for is_back_first in [false, true] {
        let mut world = World::created(2, 64, 512, 4);
        let pair = [Some(0), Some(1)];
        let half = VolumeSpec {
            size_sectors: 16384,
            ..spec("mirror", Level::Raid1, &pair)
        };
        world.apply(&Event::VolumeCreated(half));
        world.apply(&Event::VolumeCreated(spec("stripe", Level::Raid0, &pair)));
        let spare = world.add(64, SpareRole::Global);
        world.apply(&Event::DiskMissing(1));
        world.apply(&activate(spare));
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        let facts = facts(&world.disks[1], 1);
        if is_back_first {
            world.apply(&Event::DiskReinstated(1, facts));
            assert_eq!(world.member(1, 1), MemberState::InSync);
        }
        world.apply(&Event::VolumeDeleted(1));
        if !is_back_first {
            world.apply(&Event::DiskReturned(1, facts));
        }
        assert_eq!(world.role(1), DiskRole::GlobalSpare);
        let again = open(&world.disks).unwrap();
        let own = again.set().present_disk(1).unwrap();
        assert_eq!(own.role, DiskRole::GlobalSpare);
        world.apply(&Event::DiskFailed(spare));
        world.apply(&activate(1));
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        assert_eq!(world.member(0, 1), MemberState::InSync);
    }
}

/// RAID 5 on all of three disks of 64 MiB: 118784 sectors of each, and 2048 behind them for a log.
fn full(crashes: usize) -> World {
    let mut world = World::created(3, 64, 512, crashes);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    world
}

fn add(world: &mut World, sectors: u64) -> u16 {
    let key = world.disks.len() as u64;
    let name = format!("SPARE-{key}");
    world.disks.push(Disk::blank(&name, sectors, 512));
    let facts = facts(&world.disks[key as usize], key);
    world.apply(&Event::DiskAdded(DiskOffer {
        facts,
        role: SpareRole::Global,
    }));
    world.set.set().disk_by_key(key).unwrap()
}

fn activate(disk: u16) -> Event<'static> {
    Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk,
    }
}

/// A log that does not fit onto a member would keep the volume from being started.
#[test]
fn every_member_has_room_for_the_log() {
    let with_log = Event::CrashPolicySet(0, CrashPolicy::Log);
    let (short, long) = (118_784 + 2048, 118_784 + 2048 + 2048);
    let mut world = full(0);
    world.apply(&Event::DiskMissing(1));
    let spare = add(&mut world, short);
    world.apply(&activate(spare));
    let why = world.refuse(&with_log);
    assert!(why.contains("the log would end"), "{why}");
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    world.refuse(&with_log);

    let mut world = full(0);
    world.apply(&with_log);
    world.apply(&Event::DiskMissing(1));
    let spare = add(&mut world, short);
    let why = world.refuse(&activate(spare));
    assert!(why.contains("ends at sector"), "{why}");
    // Nor is it taken back when it has become shorter.
    world.disks[1] = Disk::blank(&world.disks[1].name, short, 512);
    let back = facts(&world.disks[1], 1);
    let why = world.refuse(&Event::DiskReturned(1, back));
    assert!(why.contains("ends at sector"), "{why}");
    let spare = add(&mut world, long);
    world.apply(&activate(spare));
    assert!(world.set.left_log_place(0, 1).is_some());
}

/// The MPB grows towards the volumes: no further than the shortest of the disks has room, also of those that came later.
#[test]
fn the_shortest_disk_limits_the_metadata() {
    let tight = 118_784 + 6 + 2;
    let limit = 7 * 512;
    let mut world = full(0);
    world.apply(&Event::DiskMissing(1));
    let spare = add(&mut world, tight);
    assert!(world.set.mpb.room() > 16 * 512);
    world.apply(&activate(spare));
    assert!(world.set.mpb.raw().size() + world.set.mpb.room() <= limit);
    world.check("tight");
    assert!(open(&world.disks).unwrap().frozen.is_none());

    // There is too much already.
    let mut world = full(0);
    for nth in 0..253 {
        let range = BadRange {
            disk: 0,
            sector: 16 * nth,
            sectors: 8,
        };
        world.apply(&Event::BadRangeAdded(range));
    }
    world.apply(&Event::DiskMissing(1));
    let spare = add(&mut world, tight);
    let why = world.refuse(&activate(spare));
    assert!(why.contains("bytes of metadata"), "{why}");
    world.disks[1] = Disk::blank(&world.disks[1].name, tight, 512);
    let back = facts(&world.disks[1], 1);
    let why = world.refuse(&Event::DiskReturned(1, back));
    assert!(why.contains("bytes of metadata"), "{why}");
}

#[test]
fn a_set_sees_so_many_disks_and_no_more() {
    full(0).add_and_remove_to_the_limit(64);
}
