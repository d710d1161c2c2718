// SPDX-License-Identifier: GPL-2.0

//! Disks whose entry says neither online nor failed: a controller took them offline. Beside an optimal volume it means
//! nothing: others leave the bit out.

use crate::ddf_common::damage::edited;
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{apply, facts, open, show};
use emd_core::metadata::ddf::layout::{pde, vde, Section, ENTRY_BYTES, TABLE_HEAD};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, DiskState, Event, Level, MemberState, SpareRole, VolumeSpec};
use host_tests::samples::{load, Disk};

/// Where a field of an entry is in its table.
fn at(index: u16, field: usize) -> usize {
    TABLE_HEAD + usize::from(index) * ENTRY_BYTES + field
}

/// A RAID 5 and a RAID 1 on four disks: disk 1 is a member of both.
fn world() -> World {
    let mut world = World::created(4, 64, 512, 0);
    let five = [Some(0), Some(1), Some(2)];
    let one = [Some(1), Some(3)];
    for (level, disks) in [(Level::Raid5, &five[..]), (Level::Raid1, &one[..])] {
        let spec = VolumeSpec {
            assume_clean: true,
            size_sectors: 16384,
            ..spec(&level.to_string(), level, disks)
        };
        world.apply(&Event::VolumeCreated(spec));
    }
    world
}

/// The disks of a set, with other states of some of its disks and of its volumes.
fn with_states(set: &DdfSet, disks: &[Disk], bits: &[(u16, u16)], volumes: &[u8]) -> Vec<Disk> {
    let disks = edited(disks, set, Section::Disks, &|_, bytes| {
        for &(disk, bits) in bits {
            set_state(set, bytes, disk, bits);
        }
    });
    edited(&disks, set, Section::Volumes, &|_, bytes| {
        for (index, &state) in (0..).zip(volumes) {
            bytes[at(index, vde::STATE)] = state;
        }
    })
}

fn set_state(set: &DdfSet, table: &mut [u8], disk: u16, bits: u16) {
    let entry = set.disk_meta(disk).unwrap().entry.unwrap();
    let mut bytes = [0; 2];
    set.layout.endian.put_u16(&mut bytes, 0, bits).unwrap();
    table[at(entry, pde::STATE)..][..2].copy_from_slice(&bytes);
}

/// States of disk 1: its own, in the RAID 5, in the RAID 1.
fn states(set: &DdfSet) -> (DiskState, MemberState, MemberState) {
    let member = |volume: u16, slot: usize| set.set().volume(volume).unwrap().members[slot].state;
    (set.set().disk(1).unwrap().state, member(0, 1), member(1, 0))
}

const WORKS: (DiskState, MemberState, MemberState) =
    (DiskState::Online, MemberState::InSync, MemberState::InSync);
const FAILED: (DiskState, MemberState, MemberState) =
    (DiskState::Failed, MemberState::Failed, MemberState::Failed);

#[test]
fn an_offline_disk_has_failed_where_a_volume_misses_it() {
    let world = world();
    let refilled = MemberState::Rebuilding { done_sectors: 0 };
    for (bits, volumes, wanted) in [
        (0, [vde::OPTIMAL, vde::OPTIMAL], WORKS),
        (pde::PREDICTIVE, [vde::OPTIMAL, vde::OPTIMAL], WORKS),
        (0, [vde::DEGRADED, vde::DEGRADED], FAILED),
        (pde::PREDICTIVE, [vde::DEGRADED, vde::DEGRADED], FAILED),
        // A disk works or does not, for all of its volumes.
        (0, [vde::DEGRADED, vde::OPTIMAL], FAILED),
        (0, [vde::OPTIMAL, vde::DEGRADED], FAILED),
        (pde::ONLINE, [vde::DEGRADED, vde::DEGRADED], WORKS),
        (
            pde::REBUILDING,
            [vde::DEGRADED, vde::DEGRADED],
            (DiskState::Online, refilled, refilled),
        ),
    ] {
        let disks = with_states(&world.set, &world.disks, &[(1, bits)], &volumes);
        let set = open(&disks).unwrap();
        let text = show(set.set());
        assert_eq!(states(&set), wanted, "{bits:x} {volumes:?}: {text}");
    }
}

/// It stays failed when the volume that told of it is gone, and can be had back.
#[test]
fn that_it_failed_is_recorded() {
    let world = world();
    let volumes = [vde::DEGRADED, vde::OPTIMAL];
    let mut disks = with_states(&world.set, &world.disks, &[(1, 0)], &volumes);
    let mut set = open(&disks).unwrap();
    apply(&mut set, &mut disks, &Event::Dirty(1), 5).unwrap();
    let bits = open(&disks).unwrap().disk_state(1).unwrap();
    assert_eq!(bits & pde::FAILED, pde::FAILED);
    apply(&mut set, &mut disks, &Event::VolumeDeleted(0), 6).unwrap();
    let again = open(&disks).unwrap();
    assert_eq!(again.set().disk(1).unwrap().state, DiskState::Failed);
    assert_eq!(show(again.set()), show(set.set()));
    let back = Event::DiskReturned(1, facts(&disks[1], 1));
    apply(&mut set, &mut disks, &back, 7).unwrap();
    let activated = Event::SpareActivated {
        volume: 1,
        slot: 0,
        disk: 1,
    };
    apply(&mut set, &mut disks, &activated, 8).unwrap();
    let done = Event::RebuildDone { volume: 1, slot: 0 };
    apply(&mut set, &mut disks, &done, 9).unwrap();
    let again = open(&disks).unwrap();
    assert_eq!(again.disk_state(1), Some(pde::ONLINE));
}

/// Those that work though nothing says so are said to when a volume of theirs loses another.
#[test]
fn who_works_is_said_to_before_it_counts() {
    let world = world();
    let optimal = [vde::OPTIMAL; 2];
    let bits = [(0, 0), (1, 0), (2, 0), (3, 0)];
    let start = with_states(&world.set, &world.disks, &bits, &optimal);
    for event in [Event::DiskFailed(0), Event::DiskMissing(0)] {
        let mut disks = start.clone();
        let mut set = open(&disks).unwrap();
        assert_eq!(states(&set), WORKS);
        apply(&mut set, &mut disks, &event, 5).unwrap();
        assert_eq!(states(&set), WORKS);
        let set = open(&disks[1..]).unwrap();
        assert_eq!(states(&set), WORKS, "{event:?}: {}", show(set.set()));
    }
    // One that has failed already, by the rule above, takes nobody along.
    let volumes = [vde::OPTIMAL, vde::DEGRADED];
    let mut disks = with_states(
        &world.set,
        &world.disks,
        &[(1, 0), (0, 0), (2, 0)],
        &volumes,
    );
    let mut set = open(&disks).unwrap();
    assert_eq!(states(&set), FAILED);
    apply(&mut set, &mut disks, &Event::Dirty(0), 5).unwrap();
    let set = open(&disks).unwrap();
    let members = &set.set().volume(0).unwrap().members;
    for slot in [0, 2] {
        let text = show(set.set());
        assert_eq!(members[slot].state, MemberState::InSync, "{text}");
    }
}

/// A spare takes the place of such a disk in a volume that is recorded as optimal: its other members work all the same.
#[test]
fn a_spare_takes_an_offline_disks_place() {
    let mut world = world();
    let spare = world.add(64, SpareRole::Global);
    let bits = [(0, 0), (1, 0), (2, 0)];
    let volumes = [vde::OPTIMAL, vde::DEGRADED];
    let mut disks = with_states(&world.set, &world.disks, &bits, &volumes);
    let mut set = open(&disks).unwrap();
    assert_eq!(states(&set), FAILED);
    let activated = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    };
    apply(&mut set, &mut disks, &activated, 5).unwrap();
    let set = open(&disks).unwrap();
    let members = &set.set().volume(0).unwrap().members;
    let states = [0, 1, 2].map(|slot| members[slot].state);
    let filled = MemberState::Rebuilding { done_sectors: 0 };
    let wanted = [MemberState::InSync, filled, MemberState::InSync];
    assert_eq!(states, wanted, "{}", show(set.set()));
}

/// A volume that was taken offline as a whole stays so.
#[test]
fn an_offline_volume_stays_refused() {
    let world = world();
    let volumes = [vde::OFFLINE, vde::OPTIMAL];
    let mut disks = with_states(&world.set, &world.disks, &[(1, 0)], &volumes);
    for _ in 0..2 {
        let mut set = open(&disks).unwrap();
        let access = &set.set().volume(0).unwrap().access;
        assert!(matches!(access, Access::Refused(_)), "{access:?}");
        apply(&mut set, &mut disks, &Event::DiskFailed(1), 5).unwrap();
    }
}

/// graid leaves the bit out where a disk is not used: it can be, and says so then.
#[test]
fn an_unused_disk_of_graids_can_be_used() {
    for case in ["ddf-raid1-2d", "ddfle-raid1-2d"] {
        let disks = load(&format!("ddf/gen-freebsd/{case}"));
        let mut world = World::new(open(&disks).unwrap(), disks, 0);
        world.apply(&Event::VolumeDeleted(0));
        let extra = world.add(96, SpareRole::None);
        let bits = [(0, 0), (1, 0), (extra, 0)];
        world.disks = with_states(&world.set, &world.disks, &bits, &[]);
        world.set = open(&world.disks).unwrap();
        assert_eq!(world.state(1), DiskState::Online);
        let two = [Some(0), Some(1)];
        let made = spec("new", Level::Raid1, &two);
        world.apply(&Event::VolumeCreated(made));
        world.apply(&Event::DiskFailed(0));
        let set = open(&world.disks).unwrap();
        let member = set.set().live_volumes().next().unwrap().1.members[1];
        assert_eq!(member.state, MemberState::InSync, "{}", show(set.set()));
        assert_eq!(set.set().disk(extra).unwrap().state, DiskState::Online);
    }
}
