// SPDX-License-Identifier: GPL-2.0

//! Records of a volume on disks that are no members of it: they count for nothing, and do not come to count later.

use crate::ddf_common::damage::with_spare;
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{apply, context, open, open_keyed, show, writes};
use emd_core::metadata::ddf::layout::{guid_same, Guid, Section};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Event, Level, Member, MemberState};

/// Records of a volume that a disk has.
fn records(set: &DdfSet, disk: u16, guid: &Guid) -> usize {
    let home = set.home(disk).unwrap();
    let of = |slot: &u16| {
        let record = home.record(*slot);
        record.is_some_and(|record| guid_same(&record.guid(), guid))
    };
    home.slots().filter(of).count()
}

/// A spare was given a lost member's place, and power went when it alone knew of that. The others went on without it. When it
/// is back, it is a spare, and stays one: it was never filled.
#[test]
fn a_record_of_a_place_that_was_not_taken_is_dropped() {
    let (mut set, mut disks) = with_spare();
    apply(&mut set, &mut disks, &Event::DiskFailed(2), 3).unwrap();
    let guid = set.volume_meta(0).unwrap().guid;
    let activated = Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: 3,
    };
    set.apply(&activated, &context(4)).unwrap();
    let plan = writes(&set);
    let last = plan.iter().map(|write| write.phase).max().unwrap();
    let mut left = 0;
    for phase in 0..=last {
        let mut disks = disks.clone();
        for write in &plan {
            if write.phase < phase || write.phase == phase && write.key == 3 {
                disks[write.key as usize].write(write.sector, &write.bytes);
            }
        }
        let mut members = open_keyed(&[(0, &disks[0]), (1, &disks[1])]).unwrap();
        if members.set().volume(0).unwrap().members[2].disk != Some(2) {
            continue;
        }
        // Updates that the spare does not hear of: one has the number that it knows already, so it is one behind.
        apply(&mut members, &mut disks, &Event::Dirty(0), 5).unwrap();
        apply(&mut members, &mut disks, &Event::Clean(0), 5).unwrap();
        left += records(&open_keyed(&[(3, &disks[3])]).unwrap(), 3, &guid);
        for event in [Event::Dirty(0), Event::Clean(0)] {
            let mut set = open(&disks).unwrap();
            apply(&mut set, &mut disks, &event, 6).unwrap();
            let set = open(&disks).unwrap();
            let member = set.set().volume(0).unwrap().members[2];
            let what = format!("phase {phase}, {event:?}: {}", show(set.set()));
            assert_eq!(member.disk, Some(2), "{what}");
            assert_ne!(member.state, MemberState::InSync, "{what}");
            assert_eq!(records(&set, 3, &guid), 0, "{what}");
        }
    }
    assert!(left > 0, "no phase left a record");
}

/// A disk of one mirror of a RAID 10 has a record of the other mirror, too.
#[test]
fn a_record_of_another_span_is_dropped() {
    let mut world = World::created(4, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(spec("ten", Level::Raid10, &all)));
    let guid = world.set.volume_meta(0).unwrap().guid;
    let home = world.set.home(0).unwrap();
    let layout = home.layout;
    let sectors = layout.record_bytes as usize / 512;
    let config = u64::from(layout.place(Section::Config).offset);
    let copies: Vec<u64> = home.copies.into_iter().flatten().collect();
    for first in copies.iter().map(|copy| copy + config) {
        let theirs = world.disks[2].read(first, sectors);
        world.disks[0].write(first + sectors as u64, &theirs);
    }
    let mut set = open(&world.disks).unwrap();
    assert_eq!(records(&set, 0, &guid), 1);
    apply(&mut set, &mut world.disks, &Event::Dirty(0), 5).unwrap();
    for second in copies.iter().map(|copy| copy + config + sectors as u64) {
        let bytes = world.disks[0].read(second, sectors);
        assert!(bytes.iter().all(|&byte| byte == 0xFF));
    }
    let set = open(&world.disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    let whole = |member: &Member| member.state == MemberState::InSync;
    assert!(volume.members.iter().all(whole), "{}", show(set.set()));
}
