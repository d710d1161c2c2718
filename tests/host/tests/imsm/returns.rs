// SPDX-License-Identifier: GPL-2.0

//! Disks that come back: with metadata of the same generation as the others', and into another place.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{
    apply, blanks, carry_out, context, create, cut_everywhere, facts, open, open_keyed, writes,
    Random,
};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Consistency, Event, Level, MemberState, SpareRole, Text, VolumeSpec,
};

/// An update reaches one disk only, and the others start without it: they record its loss with the
/// number that its last words have. When it is back, the others count, also while its place goes to a
/// spare.
#[test]
fn two_histories_of_one_number() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let spare = world.add(64, SpareRole::Global);
    for first in [0u16, 2] {
        let mut disks = world.disks.clone();
        let mut set = open(&disks).unwrap();
        set.apply(&Event::Dirty(0), &context(80)).unwrap();
        let mut alone = writes(&set);
        alone.retain(|write| write.key == u64::from(first));
        carry_out(&mut disks, &alone);
        let rest: Vec<_> = (0u64..)
            .zip(disks.iter())
            .filter(|(key, _)| *key != u64::from(first))
            .collect();
        let mut set = open_keyed(&rest).unwrap();
        apply(&mut set, &mut disks, &Event::DiskMissing(first), 81).unwrap();
        let again = open(&disks).unwrap();
        let volume = again.set().volume(0).unwrap();
        assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
        assert_ne!(
            volume.members[usize::from(first)].state,
            MemberState::InSync
        );
        let event = Event::SpareActivated {
            volume: 0,
            slot: first,
            disk: spare,
        };
        set.apply(&event, &context(82)).unwrap();
        let plan = writes(&set);
        let keys = [0, 1, 2, 3];
        cut_everywhere(&disks, &plan, &keys, &mut Random(9), 20, &|state, at| {
            let in_sync = state.matches(" InSync").count();
            assert!(in_sync == 2, "{at}: {state}");
        });
    }
}

/// A disk is back, and before it has its own place again another one is lost, whose place it takes.
#[test]
fn a_place_kept_goes_to_the_lost_disk() {
    let mut world = World::created(4, 64, 512, 8);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid10, &all)));
    world.apply(&Event::DiskMissing(3));
    let facts = facts(&world.disks[3], 3);
    world.apply(&Event::DiskReturned(3, facts));
    world.apply(&Event::DiskFailed(1));
    let activate = |slot, disk| Event::SpareActivated {
        volume: 0,
        slot,
        disk,
    };
    world.apply(&activate(1, 3));
    let done = |slot| Event::RebuildDone { volume: 0, slot };
    world.apply(&done(1));
    let again = open(&world.disks).unwrap();
    let volume = again.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    assert_eq!(volume.members[1].state, MemberState::InSync);
    assert_eq!(volume.members[3].state, MemberState::Failed);
    // The other one may take the place that is left.
    let facts = crate::imsm_common::facts(&world.disks[1], 1);
    world.apply(&Event::DiskReturned(1, facts));
    world.apply(&activate(3, 1));
    world.apply(&done(3));
    let again = open(&world.disks).unwrap();
    let volume = again.set().volume(0).unwrap();
    let whole = volume
        .members
        .iter()
        .all(|m| m.state == MemberState::InSync);
    assert!(whole, "{volume:?}");
}

/// A place is kept for a disk that is back, also over a restart, until it or another one has it.
#[test]
fn a_place_that_is_kept() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let spare = world.add(64, SpareRole::Global);
    let kept = |set: &dyn MetadataSet| -> Vec<u16> {
        let disks = 0..set.set().disks.len() as u16;
        disks.filter(|&disk| set.keeps_place(disk)).collect()
    };
    assert!(kept(&*world.set).is_empty());
    world.apply(&Event::DiskFailed(1));
    assert!(kept(&*world.set).is_empty());
    let back = facts(&world.disks[1], 1);
    world.apply(&Event::DiskReturned(1, back));
    assert_eq!(kept(&*world.set), [1]);
    assert_eq!(kept(&*open(&world.disks).unwrap()), [1]);
    for disk in [1, spare] {
        let mut disks = world.disks.clone();
        let mut set = open(&disks).unwrap();
        let activate = Event::SpareActivated {
            volume: 0,
            slot: 1,
            disk,
        };
        apply(&mut set, &mut disks, &activate, 90).unwrap();
        assert!(kept(&*set).is_empty(), "{disk}");
        assert!(kept(&*open(&disks).unwrap()).is_empty(), "{disk}");
    }
    world.apply(&Event::DiskFailed(1));
    assert!(kept(&*open(&world.disks).unwrap()).is_empty());
}

/// A lost disk is known by what it calls itself, which its entry does not have any more after a restart; so is one that works
/// by the entry that it has where it is lost.
#[test]
fn a_lost_disk_is_known_by_its_label() {
    for lost in [Event::DiskMissing(1), Event::DiskFailed(1)] {
        let mut world = World::created(3, 64, 512, 0);
        let all = [Some(0), Some(1), Some(2)];
        world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
        let labels: Vec<_> = world
            .set
            .set()
            .disks
            .iter()
            .map(|disk| disk.label)
            .collect();
        let before = open(&world.disks).unwrap();
        world.apply(&lost);
        let rest = [(0, &world.disks[0]), (2, &world.disks[2])];
        let set = open_keyed(&rest).unwrap();
        assert_ne!(set.set().disks[1].label, labels[1]);
        for (disk, label) in (0u16..).zip(labels.iter()) {
            assert_eq!(set.disk_called(label), Some(disk), "{lost:?}: {label}");
            let label = set.set().disk(disk).unwrap().label;
            assert_eq!(before.disk_called(&label), Some(disk), "{lost:?}: {label}");
        }
        assert_eq!(set.disk_called(&Text::from_text("another")), None);
    }
}

/// A dirty mark that reached one disk only is on all of them before the set is relied on: the disk that
/// has it may be the next one to go.
#[test]
fn a_cut_dirty_mark_is_renewed() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    for reached in 0..3 {
        let mut disks = world.disks.clone();
        let mut set = open(&disks).unwrap();
        set.apply(&Event::Dirty(0), &context(80)).unwrap();
        let plan = writes(&set);
        let mut alone = plan.clone();
        alone.retain(|write| write.key == reached);
        assert_eq!(alone.len(), 1);
        carry_out(&mut disks, &alone);
        let mut set = open(&disks).unwrap();
        apply(&mut set, &mut disks, &Event::Dirty(0), 81).unwrap();
        for (key, disk) in (0u64..).zip(&disks) {
            let set = open_keyed(&[(key, disk)]).unwrap();
            let consistency = set.set().volume(0).unwrap().consistency;
            assert_eq!(consistency, Consistency::Dirty, "reached {reached}");
        }
        set.apply(&Event::Dirty(0), &context(82)).unwrap();
        assert!(set.plan().is_empty());
    }
}

/// Only the spare itself knows that it was to take a place, and the others start without it: it does not
/// count when it is back.
#[test]
fn a_spare_that_ran_ahead() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::DiskFailed(1));
    let mut disks = world.disks.clone();
    let event = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    };
    world.set.apply(&event, &context(90)).unwrap();
    let mut alone = writes(&world.set);
    alone.retain(|write| write.key == 3);
    carry_out(&mut disks, &alone);
    let rest: Vec<_> = (0u64..).zip(disks.iter()).take(3).collect();
    let mut set = open_keyed(&rest).unwrap();
    apply(&mut set, &mut disks, &Event::Dirty(0), 91).unwrap();
    let again = open(&disks).unwrap();
    let volume = again.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    let in_sync = volume
        .members
        .iter()
        .filter(|m| m.state == MemberState::InSync);
    assert_eq!(in_sync.count(), 2);
    assert_ne!(volume.members[1].state, MemberState::InSync);
}

/// A disk that did not take an update, and stays in use because the volume cannot do without it, is not
/// torn by the next one, which would change its anchor only.
#[test]
fn who_missed_an_update_is_not_torn_by_the_next() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let mut disks = world.disks.clone();
    let mut set = open(&disks).unwrap();
    // The others' MPBs change behind their anchors, too.
    set.apply(&Event::DiskFailed(2), &context(90)).unwrap();
    let taken: Vec<_> = writes(&set)
        .into_iter()
        .filter(|write| write.key == 0)
        .collect();
    assert!(taken.len() > 1);
    carry_out(&mut disks, &taken);
    set.missed(1, 0);
    apply(&mut set, &mut disks, &Event::Dirty(0), 91).unwrap();
    for key in [0, 1] {
        let alone = open_keyed(&[(key, &disks[key as usize])]).unwrap();
        assert_eq!(alone.set().generation, set.set().generation, "disk {key}");
        assert_eq!(alone.set().volumes[0].members[2].state, MemberState::Failed);
    }
}

/// A disk that the volume cannot do without takes data and no metadata, however long, and then all stops: it
/// counts at the next start, and hears of everything.
#[test]
fn who_could_not_be_done_without_counts() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let (mut set, mut disks) = world.restarted_without_metadata(&[1], &[2]);
    assert_eq!(set.set().volumes[0].members[2].state, MemberState::InSync);
    assert_eq!(set.set().volumes[0].members[1].state, MemberState::Failed);
    apply(&mut set, &mut disks, &Event::Dirty(0), 92).unwrap();
    for key in [0, 2] {
        let alone = open_keyed(&[(key, &disks[key as usize])]).unwrap();
        assert_eq!(alone.set().generation, set.set().generation, "disk {key}");
    }
}

/// An update reaches disks that are not there at the next start, where two of them are recorded as lost; power goes again
/// at any point of that. Whoever was told first counts: nothing was promised by a start that did not get further.
/// (Found by the simulator.)
#[test]
fn two_that_were_ahead_are_lost_together() {
    let mut world = World::created(4, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid10, &all)));
    for lost in [[1u16, 2], [1, 3], [0, 2], [0, 3]] {
        for ahead in [&lost[..1], &lost[1..], &lost[..]] {
            let mut disks = world.disks.clone();
            let mut set = open(&disks).unwrap();
            set.apply(&Event::Dirty(0), &context(80)).unwrap();
            let mut plan = writes(&set);
            plan.retain(|write| ahead.iter().any(|&disk| write.key == u64::from(disk)));
            assert_eq!(plan.len(), ahead.len());
            carry_out(&mut disks, &plan);
            let rest: Vec<_> = (0u64..)
                .zip(disks.iter())
                .filter(|(key, _)| !lost.iter().any(|&disk| *key == u64::from(disk)))
                .collect();
            let mut set = open_keyed(&rest).unwrap();
            let members = &set.set().volume(0).unwrap().members;
            let gone = lost.map(|slot| members[usize::from(slot)].disk.unwrap());
            let before = disks.clone();
            let mut written = Vec::new();
            for (n, disk) in (0u16..).zip(gone) {
                set.apply(&Event::DiskMissing(disk), &context(81)).unwrap();
                let mut plan = writes(&set);
                plan.iter_mut().for_each(|write| write.phase += 100 * n);
                written.extend(plan);
            }
            for end in 0..=written.len() {
                let mut disks = before.clone();
                carry_out(&mut disks, &written[..end]);
                let what = format!("{lost:?} lost, {ahead:?} ahead, {end} written");
                let set = open(&disks).unwrap();
                let volume = set.set().volume(0).unwrap();
                assert!(
                    matches!(volume.access, Access::ReadWrite),
                    "{what}: {volume:?}"
                );
                for slot in (0..4u16).filter(|slot| !lost.contains(slot)) {
                    let state = volume.members[usize::from(slot)].state;
                    assert_eq!(state, MemberState::InSync, "{what}");
                }
            }
        }
    }
}

/// Of a serial number of a disk that is gone its last characters stay, and those of two may be alike. Neither place is
/// given away by that.
#[test]
fn lost_disks_whose_numbers_end_alike() {
    let mut disks = blanks(4, 64, 512);
    for (disk, first) in disks.iter_mut().zip(["A", "B", "C", "D"]) {
        disk.name = format!("{first}-123456789ABC");
    }
    let set = create(&mut disks);
    let mut world = World::new(set, disks, 2);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid10, &all)));
    world.apply(&Event::DiskMissing(0));
    world.apply(&Event::DiskMissing(2));
    let rest = [(1, &world.disks[1]), (3, &world.disks[3])];
    let again = open_keyed(&rest).unwrap();
    let volume = again.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    let states: Vec<MemberState> = volume.members.iter().map(|m| m.state).collect();
    let (here, gone) = (MemberState::InSync, MemberState::Missing);
    assert_eq!(states, [gone, here, gone, here]);
    // They are back: which is which is not known, and does not matter to the others.
    let again = open(&world.disks).unwrap();
    let volume = again.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    for slot in [0, 2] {
        assert_ne!(volume.members[slot].state, MemberState::InSync);
    }
}

/// A mirror twice, of 64 MiB: an MPB of two blocks.
fn two_mirrors() -> World {
    let mut world = World::created(2, 64, 512, 0);
    let two = [Some(0), Some(1)];
    for (name, size_sectors) in [("first", 16384), ("second", 0)] {
        let one = spec(name, Level::Raid1, &two);
        world.apply(&Event::VolumeCreated(VolumeSpec {
            size_sectors,
            ..one
        }));
    }
    assert!(world.set.mpb.raw().size() > 512);
    world
}

/// A lone disk gets a copy of its new MPB first, and that is all that it gets. Later, with the other one here, an update is cut in
/// its MPB: that copy is none of it.
#[test]
fn a_copy_that_was_left_over_does_not_count() {
    let world = two_mirrors();
    let mut disks = world.disks.clone();
    let mut set = open_keyed(&[(0, &disks[0])]).unwrap();
    set.apply(&Event::DiskMissing(1), &context(80)).unwrap();
    let plan = writes(&set);
    let copy = plan.iter().map(|write| write.phase).min().unwrap();
    let copies: Vec<_> = plan.into_iter().filter(|one| one.phase == copy).collect();
    assert_eq!(copies.len(), 1);
    carry_out(&mut disks, &copies);
    let mut set = open(&disks).unwrap();
    set.apply(&Event::Dirty(1), &context(81)).unwrap();
    let plan = writes(&set);
    // What does not fit into its anchor.
    let rest = plan.iter().find(|one| one.key == 0).unwrap();
    assert!(plan
        .iter()
        .any(|one| one.key == 0 && one.phase > rest.phase));
    for is_other_told in [false, true] {
        let mut disks = disks.clone();
        let mut told = vec![rest.clone()];
        if is_other_told {
            told.extend(plan.iter().filter(|one| one.key == 1).cloned());
        }
        carry_out(&mut disks, &told);
        let again = open(&disks).unwrap();
        let volume = again.set().volume(1).unwrap();
        let mut members = volume.members.iter();
        assert!(
            members.all(|m| m.state == MemberState::InSync),
            "{volume:?}"
        );
        assert_eq!(volume.consistency == Consistency::Dirty, is_other_told);
        assert!(matches!(volume.access, Access::ReadWrite));
    }
}

/// The other disk has another history of the same number: what the lone one's copy says counts.
#[test]
fn a_copy_counts_beside_another_history() {
    let world = two_mirrors();
    let mut disks = world.disks.clone();
    let mut set = open(&disks).unwrap();
    set.apply(&Event::Dirty(0), &context(80)).unwrap();
    let ahead: Vec<_> = writes(&set)
        .into_iter()
        .filter(|one| one.key == 1)
        .collect();
    carry_out(&mut disks, &ahead);
    let mut set = open_keyed(&[(0, &disks[0])]).unwrap();
    apply(&mut set, &mut disks, &Event::DiskMissing(1), 81).unwrap();
    set.apply(&Event::Dirty(1), &context(82)).unwrap();
    let mut plan = writes(&set);
    let last = plan.iter().map(|write| write.phase).max().unwrap();
    plan.retain(|write| write.phase < last);
    carry_out(&mut disks, &plan);
    let again = open(&disks).unwrap();
    let volume = again.set().volume(1).unwrap();
    assert_eq!(volume.consistency, Consistency::Dirty);
    assert_ne!(volume.members[1].state, MemberState::InSync);
}
