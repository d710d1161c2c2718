// SPDX-License-Identifier: GPL-2.0

//! Spares that go and come back are spares for the same as before.

use crate::ddf_common::damage::{edited, with_spare};
use crate::ddf_common::records::clean;
use crate::ddf_common::world::World;
use crate::ddf_common::{apply, blanks, carry_out, context, facts, open, writes};
use emd_core::metadata::ddf::layout::Section;
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskOffer, DiskRole, DiskState, Event, Level, MemberState, SpareRole};

/// Disk 3 is a spare in the role `role`.
fn spare_for(role: SpareRole) -> World {
    let (set, disks) = with_spare();
    let mut world = World::new(set, disks, 2);
    world.apply(&Event::SpareAssigned(3, role));
    world
}

const ROLES: [(SpareRole, DiskRole); 3] = [
    (SpareRole::Dedicated(0), DiskRole::DedicatedSpare(0)),
    (SpareRole::Global, DiskRole::GlobalSpare),
    (SpareRole::None, DiskRole::Unused),
];

#[test]
fn a_spare_that_returns_is_one_for_the_same() {
    let events: [&[Event<'_>]; 3] = [
        &[Event::DiskFailed(3)],
        &[Event::DiskMissing(3)],
        &[Event::DiskFailed(3), Event::DiskMissing(3)],
    ];
    for (role, wanted) in ROLES {
        for events in events {
            let mut world = spare_for(role);
            for event in events {
                world.apply(event);
            }
            let back = facts(&world.disks[3], 3);
            world.apply(&Event::DiskReturned(3, back));
            assert_eq!(world.role(3), wanted, "{role:?} {events:?}");
            assert_eq!(world.state(3), DiskState::Online);
        }
    }
}

/// It was away while the set was started, or when it was: its own record tells.
#[test]
fn a_spare_that_was_away_over_a_start() {
    for (role, wanted) in ROLES {
        for event in [Event::DiskFailed(3), Event::DiskMissing(3)] {
            let mut world = spare_for(role);
            world.apply(&event);
            world.set = open(&world.disks).unwrap();
            assert_ne!(world.state(3), DiskState::Online);
            let back = facts(&world.disks[3], 3);
            world.apply(&Event::DiskReturned(3, back));
            assert_eq!(world.role(3), wanted, "{role:?} {event:?}");
        }
    }
}

/// Of a volume that is gone nobody is a spare, nor of all who was one of that volume.
#[test]
fn a_spare_whose_volume_went_is_none() {
    let mut world = spare_for(SpareRole::Dedicated(0));
    world.apply(&Event::DiskMissing(3));
    world.apply(&Event::VolumeDeleted(0));
    let back = facts(&world.disks[3], 3);
    world.apply(&Event::DiskReturned(3, back));
    assert_eq!(world.role(3), DiskRole::Unused);
}

/// graid's spares have the bit of dedicated ones and a record that is for all.
#[test]
fn a_spare_of_graids_stays_one_for_all() {
    let world = spare_for(SpareRole::Dedicated(0));
    let mut disks = edited(&world.disks, &world.set, Section::Config, &|disk, bytes| {
        if disk == 3 {
            bytes[0x13] = 0;
        }
    });
    let mut set = open(&disks).unwrap();
    assert_eq!(set.set().disk(3).unwrap().role, DiskRole::GlobalSpare);
    apply(&mut set, &mut disks, &Event::DiskFailed(3), 5).unwrap();
    let back = Event::DiskReturned(3, facts(&disks[3], 3));
    apply(&mut set, &mut disks, &back, 6).unwrap();
    for set in [set, open(&disks).unwrap()] {
        assert_eq!(set.set().disk(3).unwrap().role, DiskRole::GlobalSpare);
    }
}

/// Power goes as a new disk has all of its addition, and the members nothing; again, as some of them and perhaps that disk
/// have the next update. The others are two numbers behind then, and were left out of nothing.
#[test]
fn power_goes_as_a_disk_is_added_and_in_the_next_update() {
    for has_next in [false, true] {
        for reached in 0..4u64 {
            let world = clean(Level::Raid5, 4, 512);
            let (mut set, mut disks) = (world.set, world.disks);
            disks.extend(blanks(1, 128, 512));
            let offer = DiskOffer {
                facts: facts(&disks[4], 4),
                role: SpareRole::Global,
            };
            set.apply(&Event::DiskAdded(offer), &context(50)).unwrap();
            let first: Vec<_> = writes(&set)
                .into_iter()
                .filter(|write| write.key == 4)
                .collect();
            carry_out(&mut disks, &first);
            let mut set = open(&disks).unwrap();
            set.apply(&Event::Dirty(0), &context(51)).unwrap();
            let has_it = |disk: u64| disk < reached || disk == 4 && has_next;
            let part = writes(&set).into_iter();
            let part =
                part.filter(|write| write.phase < 2 || write.phase == 2 && has_it(write.key));
            carry_out(&mut disks, &part.collect::<Vec<_>>());
            let set = open(&disks).unwrap();
            let members = set.set().volume(0).unwrap().members.iter();
            for (slot, member) in members.enumerate() {
                assert_eq!(
                    member.state,
                    MemberState::InSync,
                    "{slot}, {reached}, {has_next}"
                );
            }
            assert!((0..4).all(|disk| set.set().disk(disk).unwrap().state == DiskState::Online));
        }
    }
}
