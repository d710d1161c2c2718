// SPDX-License-Identifier: GPL-2.0

//! A disk that is reinstated by a person's word (`host_tests::reinstated`).

use crate::ddf_common::damage::edited;
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{apply, carry_out, context, facts, open, open_keyed, show, writes, Of};
use emd_core::metadata::ddf::layout::{pde, Section, ENTRY_BYTES, TABLE_HEAD};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskFacts, Event, Level, MemberState, Text, Volume, VolumeSpec};
use host_tests::reinstated;
use host_tests::samples::{load, Disk};

#[test]
fn what_it_holds_counts_in_volumes_without_redundancy() {
    reinstated::it_counts_where_nothing_else_does::<Of>();
}

#[test]
fn what_was_not_lost_is_not_reinstated() {
    reinstated::only_what_was_lost::<Of>();
}

/// Where disks keep one copy of their metadata none is reinstated: cut in the midst of that copy, with a new reference that the
/// others do not know yet, it would be nobody's, and what it holds could not be had any more.
#[test]
fn a_disk_with_one_copy_is_left_alone() {
    let disks = load("ddf/gen-freebsd/ddf-raid0-2d");
    let set = open(&disks).unwrap();
    assert_eq!(set.home(1).unwrap().copies[1], None);
    let reference = set.disk_meta(1).unwrap().reference;
    let disks = edited(&disks, &set, Section::Disks, &|_, bytes| {
        let entries = bytes[TABLE_HEAD..].chunks_exact_mut(ENTRY_BYTES);
        for entry in entries {
            if entry[pde::REFERENCE..][..4] == reference.to_be_bytes() {
                entry[pde::STATE..][..2].copy_from_slice(&pde::FAILED.to_be_bytes());
            }
        }
    });
    let mut set = open(&disks).unwrap();
    let lost = |set: &dyn MetadataSet| set.set().volume(0).unwrap().members[1].state;
    assert_eq!(lost(&*set), MemberState::Failed);
    let back = facts(&disks[1], 1);
    let event = Event::DiskReinstated(1, back);
    let why = set.apply(&event, &context(3)).unwrap_err();
    assert!(why.text().contains("one copy"), "{why}");
    assert_eq!(lost(&*set), MemberState::Failed);
    assert!(set.plan().is_empty());
}

/// A set of three disks whose second one was lost to a mirror that is no more, and is being reinstated: striped over it and the
/// first one, and a dirty mirror on the third and the first. Power is cut when the reinstated disk alone has all of the update.
fn cut_while_reinstated(serial: Text<24>) -> Vec<Disk> {
    let mut world = World::created(3, 64, 512, 0);
    let (stripes, one, two) = ([Some(0), Some(1)], [Some(2), Some(0)], [Some(1), Some(2)]);
    for (name, level, members) in [
        ("stripes", Level::Raid0, &stripes),
        ("one", Level::Raid1, &one),
        ("two", Level::Raid1, &two),
    ] {
        world.apply(&Event::VolumeCreated(VolumeSpec {
            size_sectors: 8192,
            assume_clean: true,
            ..spec(name, level, members)
        }));
    }
    world.apply(&Event::Dirty(1));
    world.apply(&Event::DiskMissing(1));
    world.apply(&Event::VolumeDeleted(2));
    let back = DiskFacts {
        serial,
        ..facts(&world.disks[1], 1)
    };
    let mut set = open(&world.disks).unwrap();
    let event = Event::DiskReinstated(1, back);
    set.apply(&event, &context(50)).unwrap();
    let mut own = writes(&set);
    own.retain(|write| write.key == 1);
    carry_out(&mut world.disks, &own);
    world.disks
}

fn volume<'a>(set: &'a DdfSet, name: &str) -> &'a Volume {
    let mut volumes = set.set().live_volumes();
    let found = volumes.find(|(_, volume)| volume.name.as_str() == name);
    found.unwrap().1
}

/// What the second disk holds counts again, by a person's word.
fn reinstate(set: &mut DdfSet, disks: &mut [Disk]) {
    let mut known = set.set().live_disks();
    let is_it = |disk: &emd_core::model::Disk| disk.facts.is_some_and(|facts| facts.key == 1);
    let (index, _) = known.find(|(_, disk)| is_it(disk)).unwrap();
    drop(known);
    let text = show(set.set());
    let event = Event::DiskReinstated(index, facts(&disks[1], 1));
    apply(set, disks, &event, 70).unwrap_or_else(|why| panic!("{why}: {text}"));
    let set = open(disks).unwrap();
    let mut members = volume(&set, "stripes").members.iter();
    assert!(members.all(|member| member.state == MemberState::InSync));
}

fn serials() -> [Text<24>; 2] {
    [facts(&Disk::blank("", 1, 512), 1).serial, Text::new()]
}

/// The first disk goes on alone, with the number that the reinstated one has. Who was lost to it meanwhile stays lost: the mirror
/// was written without it.
#[test]
fn who_was_lost_meanwhile_stays_lost() {
    for serial in serials() {
        let mut disks = cut_while_reinstated(serial);
        let mut alone = open_keyed(&[(0, &disks[0])]).unwrap();
        apply(&mut alone, &mut disks, &Event::DiskMissing(2), 60).unwrap();
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
            let mut disks = disks.clone();
            let here = order.map(|key: usize| (key as u64, &disks[key]));
            let mut set = open_keyed(&here).unwrap();
            let states = volume(&set, "one").members.iter().map(|m| m.state);
            let states: Vec<_> = states.collect();
            let wanted = [MemberState::Failed, MemberState::InSync];
            assert_eq!(states, wanted, "{order:?}: {}", show(set.set()));
            reinstate(&mut set, &mut disks);
        }
    }
}

/// The other two go on without the reinstated one, which they know still when it comes.
#[test]
fn who_was_being_reinstated_stays_known() {
    for serial in serials() {
        let mut disks = cut_while_reinstated(serial);
        let mut without = open_keyed(&[(0, &disks[0]), (2, &disks[2])]).unwrap();
        apply(&mut without, &mut disks, &Event::Clean(1), 60).unwrap();
        apply(&mut without, &mut disks, &Event::Dirty(1), 61).unwrap();
        let mut set = open(&disks).unwrap();
        reinstate(&mut set, &mut disks);
    }
}
