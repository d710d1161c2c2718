// SPDX-License-Identifier: GPL-2.0

//! A disk was lost to a volume with redundancy, and so to one without, too: by a person's word what it holds counts there.
//! For the formats that can have both on the same disks.

use crate::shell::{facts, open, spec, Family};
use crate::world::World;
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskState, Event, Level, MemberState};

/// Volume 0 is a mirror, volume 1 is striped, on the same two disks.
fn both<F: Family + Default>(crashes: usize) -> World<F> {
    let mut world = World::created(2, 64, 512, crashes);
    let all = [Some(0), Some(1)];
    let mut mirror = spec("mirror", Level::Raid1, &all);
    mirror.size_sectors = 8192;
    mirror.assume_clean = true;
    world.apply(&Event::VolumeCreated(mirror));
    world.apply(&Event::VolumeCreated(spec("stripes", Level::Raid0, &all)));
    world
}

fn lost<F: Family>(world: &World<F>, volume: u16, slot: usize) -> bool {
    let state = world.member(volume, slot);
    matches!(state, MemberState::Failed | MemberState::Missing)
}

/// A disk that is reinstated counts in the volume without redundancy as it is, and as missing in the other.
pub fn it_counts_where_nothing_else_does<F: Family + Default>() {
    for event in [Event::DiskFailed(1), Event::DiskMissing(1)] {
        for restarted in [false, true] {
            let mut world = both::<F>(20);
            let place = world.set.set().volume(1).unwrap().members[1].offset_sectors;
            world.apply(&event);
            // The mirror is used without it.
            world.apply(&Event::Dirty(0));
            world.apply(&Event::Clean(0));
            if restarted {
                world.set = open(world.family, &world.disks).unwrap();
                assert_ne!(world.state(1), DiskState::Online);
            }
            assert_eq!(world.set.set().irreplaceable(1), Some(1));
            let back = facts(world.family, &world.disks[1], 1);
            let why = world.refuse(&Event::DiskReturned(1, back));
            assert!(
                why.contains("cannot do without") || why.contains("may not do without"),
                "{why}"
            );
            world.apply(&Event::DiskReinstated(1, back));
            assert_eq!(world.set.set().irreplaceable(1), None);
            for set in [&*world.set, &*open(world.family, &world.disks).unwrap()] {
                let stripes = set.set().volume(1).unwrap();
                assert_eq!(stripes.members[1].state, MemberState::InSync, "{event:?}");
                assert_eq!(stripes.members[1].offset_sectors, place);
                // It is old there.
                let mirror = set.set().volume(0).unwrap();
                assert_eq!(mirror.members[1].state, MemberState::Missing, "{event:?}");
                assert_eq!(mirror.members[0].state, MemberState::InSync);
            }
            // And it may be made a member of the mirror again, where it was.
            let activate = Event::SpareActivated {
                volume: 0,
                slot: 1,
                disk: 1,
            };
            world.apply(&activate);
            world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
            assert_eq!(world.member(0, 1), MemberState::InSync);
            assert_eq!(world.member(1, 1), MemberState::InSync);
        }
    }
}

/// What was not lost to a volume without redundancy is not reinstated.
pub fn only_what_was_lost<F: Family + Default>() {
    let mut world = both::<F>(0);
    let back = facts(world.family, &world.disks[1], 1);
    world.refuse(&Event::DiskReinstated(1, back));
    world.apply(&Event::VolumeDeleted(1));
    world.apply(&Event::DiskFailed(1));
    assert!(lost(&world, 0, 1));
    world.refuse(&Event::DiskReinstated(1, back));
}
