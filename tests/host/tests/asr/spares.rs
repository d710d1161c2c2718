// SPDX-License-Identifier: GPL-2.0

//! Spares that were away, and how many disks a table takes whose place is cramped.

use crate::asr_common::{blanks, create, facts, make_lone_spare, open, spec, World};
use emd_core::metadata::asr::layout::{header, reserved};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, DiskOffer, DiskRole, DiskState, Event, Level, MemberState, SpareRole, VolumeSpec,
};
use host_tests::samples::Disk;

static PAIR: [Option<u16>; 2] = [Some(0), Some(1)];

fn mirror() -> VolumeSpec<'static> {
    VolumeSpec {
        assume_clean: true,
        ..spec("a", Level::Raid1, &PAIR)
    }
}

/// Moves a disk's table to `sectors` in front of its last sector.
fn move_table(disk: &mut Disk, sectors: u64) {
    let last = disk.size_sectors - 1;
    let table = disk.read(last - 16, 1);
    disk.write(last - 16, &[0; 512]);
    disk.write(last - sectors, &table);
    let mut block = disk.read(last, 1);
    let at = u32::try_from(last - sectors).unwrap();
    block[reserved::TABLE..reserved::TABLE + 4].copy_from_slice(&at.to_be_bytes());
    disk.write(last, &block);
}

/// A mirror of disks 0 and 1, and two disks in no use: 6 lines.
fn cramped(sectors: u64) -> World {
    let mut disks = blanks(4, 8);
    drop(create(&mut disks));
    for disk in &mut disks {
        move_table(disk, sectors);
    }
    let mut world = World::new(open(&disks).unwrap(), disks, 4);
    world.apply(&Event::VolumeCreated(mirror()));
    assert_eq!(world.set.table.len(), 6);
    world
}

/// Where a table's place has no second half there is nowhere to have a longer one for a moment: it stays in one sector, and
/// all that needs no more goes on. (9 in front of the last sector the second half's second sector would be the reserved block,
/// with fewer it would be beyond the disk.)
#[test]
fn a_table_without_a_second_half_stays_in_one_sector() {
    for sectors in [15, 9, 4] {
        let mut world = cramped(sectors);
        world.add(8, SpareRole::Global);
        assert_eq!(world.set.table.len(), 7);
        let key = world.disks.len() as u64;
        world.disks.push(Disk::blank("one-more", 8 * 2048, 512));
        let added = Event::DiskAdded(DiskOffer {
            facts: facts(&world.disks[key as usize], key),
            role: SpareRole::Global,
        });
        let why = world.refuse(&added);
        assert!(why.contains("7 can be changed safely"), "{why}");
        let pair = [Some(2), Some(3)];
        let why = world.refuse(&Event::VolumeCreated(spec("b", Level::Raid1, &pair)));
        assert!(why.contains("7 can be changed safely"), "{why}");
        // A spare's line goes when it takes a place, and the lost disk's comes.
        world.apply(&Event::SpareAssigned(4, SpareRole::Dedicated(0)));
        world.apply(&Event::SpareAssigned(4, SpareRole::Global));
        for (lost, spare) in [(1, 4), (4, 2)] {
            world.apply(&Event::DiskFailed(lost));
            world.apply(&Event::SpareActivated {
                volume: 0,
                slot: 1,
                disk: spare,
            });
            world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        }
        let facts = facts(&world.disks[1], 1);
        world.apply(&Event::DiskReturned(1, facts));
        world.apply(&Event::VolumeDeleted(0));
        // With the last of those disks the limit goes.
        for disk in [0, 2, 3] {
            world.apply(&Event::DiskRemoved(disk));
        }
        for _ in 0..6 {
            world.add(8, SpareRole::Global);
        }
        assert!(world.set.table.len() > 7);
    }
}

/// A spare of firmware's is not listed at the price of the set's being read-only.
#[test]
fn a_lone_spare_does_not_make_a_table_too_long() {
    let mut world = cramped(9);
    world.add(8, SpareRole::Global);
    for (at, disk) in world.disks.iter_mut().enumerate() {
        let place = disk.size_sectors - if at < 4 { 10 } else { 17 };
        // By others, so that the array's number is the set's.
        let mut table = Table::new(&disk.read(place, 1)).unwrap();
        table.head_mut()[header::MARK_AT..header::MARK_AT + 12].fill(0);
        disk.write(place, &table.bytes()[..512]);
    }
    let array = world.set.table.line(0).unwrap().magic;
    let mut lone = world.disks[4].clone();
    let at = lone.size_sectors - 17;
    make_lone_spare(&mut lone, at, array, 77);
    world.disks.push(lone);
    let set = open(&world.disks).unwrap();
    assert!(set.frozen.is_none(), "{:?}", set.frozen);
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    let left = set.set().present_disk(5).unwrap();
    assert_eq!(left.state, DiskState::Stale);
}

/// That a spare was one, and for all arrays, only its own table says once its set has recorded that it was gone: the shell
/// goes by that, and makes it one again.
#[test]
fn a_spare_that_was_away() {
    let losses: [fn(u16) -> Event<'static>; 2] = [Event::DiskMissing, Event::DiskFailed];
    for lost in losses {
        let mut world = World::created(3, 8, 512, 0);
        world.apply(&Event::VolumeCreated(mirror()));
        world.apply(&Event::SpareAssigned(2, SpareRole::Global));
        world.apply(&lost(2));
        assert_eq!(world.role(2), DiskRole::Unused);
        let alone = crate::asr_common::open_keyed(&[(2, &world.disks[2])]).unwrap();
        let own = alone.set().present_disk(2).unwrap();
        assert_eq!(own.role, DiskRole::GlobalSpare);
        let facts = facts(&world.disks[2], 2);
        world.apply(&Event::DiskReturned(2, facts));
        assert_eq!(world.role(2), DiskRole::Unused);
        world.apply(&Event::SpareAssigned(2, SpareRole::Global));
        assert_eq!(world.role(2), DiskRole::GlobalSpare);
        assert_eq!(world.member(0, 1), MemberState::InSync);
    }
}

/// A disk that was away reads as failed: the table has one word for both. What its own table says tells whether it went on by
/// itself meanwhile.
#[test]
fn a_member_that_was_away() {
    let mut world = World::created(2, 8, 512, 0);
    world.apply(&Event::VolumeCreated(mirror()));
    let away = world.disks[1].clone();
    world.apply(&Event::DiskMissing(1));
    let both = |away: &Disk, world: &World| {
        let joint = crate::asr_common::open_keyed(&[(0, &world.disks[0]), (1, away)]).unwrap();
        let at = joint.set().disk_by_key(1).unwrap();
        let state = joint.set().disk(at).unwrap().state;
        (state, joint.may_have_been_away(at))
    };
    assert_eq!(both(&away, &world), (DiskState::Failed, true));

    // It went on without the other one, and the set does more since than it did.
    let alone = crate::asr_common::open_keyed(&[(1, &away)]).unwrap();
    let mut apart = World::new(alone, vec![world.disks[0].clone(), away], 2);
    let other = apart
        .set
        .set()
        .live_disks()
        .find(|(_, disk)| disk.facts.is_none());
    let other = other.unwrap().0;
    apart.apply(&Event::DiskMissing(other));
    for _ in 0..3 {
        world.apply(&Event::Dirty(0));
        world.apply(&Event::Clean(0));
    }
    assert_eq!(both(&apart.disks[1], &world), (DiskState::Failed, false));

    // One that failed looks like that, too: who saw it fail knows better.
    let mut world = World::created(2, 8, 512, 0);
    world.apply(&Event::VolumeCreated(mirror()));
    let working = world.disks[1].clone();
    world.apply(&Event::DiskFailed(1));
    assert_eq!(both(&working, &world), (DiskState::Failed, true));
}
