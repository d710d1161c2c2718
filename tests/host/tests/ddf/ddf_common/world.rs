// SPDX-License-Identifier: GPL-2.0

//! The life of a DDF set in memory beside its disks.

use super::{writes, Of};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, DiskRole, DiskState, Event, MemberState, SpareRole, Text};
pub use host_tests::shell::spec;

/// A set in memory and its disks.
pub type World = host_tests::world::World<Of>;

/// The life of a redundant volume, with everything that can happen to it.
pub fn life(world: &mut World, volume: u16, spare_mib: u64) {
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 0,
    });
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 64,
    });
    only_marks(world);
    world.apply(&Event::ResyncDone(volume));
    assert_eq!(
        world.set.set().volume(volume).unwrap().consistency,
        Consistency::Dirty
    );
    world.apply(&Event::Clean(volume));
    world.apply(&Event::Clean(volume));
    assert!(world.set.plan().is_empty(), "clean twice writes once");
    world.apply(&Event::Dirty(volume));

    let spare = world.add(spare_mib, SpareRole::Global);
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::SpareAssigned(spare, SpareRole::None));
    world.apply(&Event::SpareAssigned(spare, SpareRole::Dedicated(volume)));
    assert_eq!(world.role(spare), DiskRole::DedicatedSpare(volume));

    let lost = world.set.set().volume(volume).unwrap().members[0]
        .disk
        .unwrap();
    world.refuse(&Event::DiskRemoved(lost));
    world.refuse(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::DiskFailed(lost));
    assert_eq!(world.member(volume, 0), MemberState::Failed);
    world.apply(&Event::DiskFailed(lost));
    assert!(world.set.plan().is_empty(), "failed twice writes once");
    world.apply(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.role(spare), DiskRole::Member);
    let home = world.set.home(spare).unwrap();
    assert_eq!(home.spare_slot(), None, "no spare any more");
    world.apply(&Event::RebuildProgress {
        volume,
        slot: 0,
        done_sectors: 128,
    });
    only_marks(world);
    assert_eq!(
        world.member(volume, 0),
        MemberState::Rebuilding { done_sectors: 128 }
    );
    world.apply(&Event::RebuildDone { volume, slot: 0 });
    assert_eq!(world.member(volume, 0), MemberState::InSync);

    // The failed disk comes back as a blank one and is a spare; then it goes.
    let returned = world.set.set().disk(lost).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(lost, returned));
    assert_eq!(world.state(lost), DiskState::Online);
    assert_eq!(world.role(lost), DiskRole::Unused);
    let gone = world.set.set().volume(volume).unwrap().members[1]
        .disk
        .unwrap();
    world.apply(&Event::DiskMissing(gone));
    assert_eq!(world.member(volume, 1), MemberState::Missing);
    assert_eq!(world.state(gone), DiskState::Missing);
    world.apply(&Event::SpareActivated {
        volume,
        slot: 1,
        disk: lost,
    });
    world.apply(&Event::RebuildDone { volume, slot: 1 });
    world.apply(&Event::DiskRemoved(gone));
    world.apply(&Event::Clean(volume));

    world.apply(&Event::VolumeRenamed(volume, Text::from_text("renamed")));
    world.refuse(&Event::VolumeRenamed(
        volume,
        Text::from_text("a name of 17 char"),
    ));
}

/// The last event changed marks: one block on each member where EMD's own records have a place, and
/// nothing elsewhere.
fn only_marks(world: &World) {
    let plan = writes(&world.set);
    if world.set.log.is_none() {
        assert!(plan.is_empty(), "a mark is not recorded");
        return;
    }
    assert!(!plan.is_empty());
    for write in &plan {
        let block = world.disks[write.key as usize].logical_block_bytes as usize;
        assert_eq!((write.phase, write.bytes.len()), (0, block));
    }
}
