// SPDX-License-Identifier: GPL-2.0

//! Metadata that contradicts itself, the format, or another disk: refused with the reason, kept as it
//! is. What is not understood survives.

use crate::ddf_common::damage::{edited, flip, spec, with_edit, with_spare, world};
use crate::ddf_common::records::mark;
use crate::ddf_common::{
    apply, blanks, carry_out, context, create, facts, open, open_keyed, probe, show, writes,
};
use emd_core::metadata::ddf::layout::{self, Section};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{
    Access, Consistency, DiskRole, DiskState, Event, Level, MemberState, SpareRole, Text,
};
use host_tests::samples::{load, Disk};

fn refused(set: &DdfSet, volume: usize, part: &str) {
    let access = &set.set().volumes[volume].access;
    let Access::Refused(why) = access else {
        panic!("{part}: {access:?}\n{}", show(set.set()));
    };
    assert!(why.text().contains(part), "{part}: {why}");
}

#[test]
fn contradictions_are_refused_with_the_reason() {
    let (set, disks) = world(512);
    // Records of volume 0 are in slot 0 of every disk.
    let record = |edit: &dyn Fn(usize, &mut [u8])| with_edit(&disks, &set, Section::Config, edit);
    for (at, value, part) in [
        (0x43usize, 0x03u8, "RAID 3"),
        (0x43, 0x15, "RAID 5E"),
        (0x43, 0x77, "unknown"),
        (0x44, 0x09, "where data lies"),
        (0x42, 0x40, "strip"),
        (0x5A, 0x02, "rotates"),
        (0x45, 0x21, "spans"),
    ] {
        refused(&record(&|_, bytes| bytes[at] = value), 0, part);
    }
    let two_levels = |bytes: &mut [u8], second| {
        bytes[0x45] = 2;
        bytes[0x46] = 0;
        bytes[0x47] = second;
    };
    refused(
        &record(&|_, bytes| two_levels(bytes, 1)),
        0,
        "mirrored spans",
    );
    refused(
        &record(&|_, bytes| two_levels(bytes, 2)),
        0,
        "concatenated spans",
    );
    // Members: counts, twice the same, starts and lengths beyond the disk.
    refused(&record(&|_, bytes| bytes[0x40] = 1), 0, "members");
    refused(
        &record(&|_, bytes| bytes.copy_within(0x200..0x204, 0x204)),
        0,
        "listed twice",
    );
    refused(&record(&|_, bytes| bytes[0x48] = 0x7F), 0, "impossible");
    refused(
        &record(&|_, bytes| bytes[0x4B] = 1),
        0,
        "behind the start of metadata",
    );
    refused(
        &record(&|_, bytes| bytes[0x300..0x308].fill(0xFF)),
        0,
        "beyond any disk",
    );
    refused(&record(&|_, bytes| bytes[0x53] = 1), 0, "does not fit");
    refused(
        &record(&|_, bytes| bytes[0x58..0x5A].copy_from_slice(&4096u16.to_be_bytes())),
        0,
        "blocks of 4096",
    );
    // A hole before another member.
    refused(
        &record(&|_, bytes| bytes[0x200..0x204].fill(0xFF)),
        0,
        "order is not certain",
    );
    // Disks disagree.
    refused(
        &record(&|disk, bytes| {
            if disk == 1 {
                bytes[0x42] = 5;
            }
        }),
        0,
        "disagree",
    );
    // Overlap of two volumes on one disk: volume 0 grows over volume 1.
    let overlapping = record(&|_, bytes| {
        bytes[0x48..0x50].copy_from_slice(&20_000u64.to_be_bytes());
    });
    refused(&overlapping, 0, "overlaps volume 1");
    refused(&overlapping, 1, "overlaps volume 0");
    // Entry: morphing, offline, blocked, read-only.
    let entry = |at: usize, value: u8| {
        with_edit(&disks, &set, Section::Volumes, &|_, bytes| {
            bytes[layout::TABLE_HEAD + at] = value;
        })
    };
    refused(&entry(layout::vde::STATE, 8), 0, "migrated");
    refused(&entry(layout::vde::STATE, 6), 0, "offline");
    refused(&entry(layout::vde::INIT, 0xC2), 0, "blocked");
    let read_only = entry(layout::vde::INIT, 0x82);
    assert!(matches!(
        read_only.set().volumes[0].access,
        Access::ReadOnly(_)
    ));
    assert_eq!(
        entry(layout::vde::STATE, 2).set().volumes.len(),
        1,
        "deleted"
    );
    // And an untouched set is fine, so that the above means something.
    let fine = record(&|_, _| {});
    assert!(matches!(fine.set().volumes[0].access, Access::ReadWrite));
}

/// Others count the references of a mirror that are used, wherever they stand: with one left open, a later one is a member.
#[test]
fn a_mirror_with_a_reference_beyond_its_count() {
    let (set, disks) = world(512);
    let mirror = |references: [Option<usize>; 4]| {
        let master = set.master(1, 0).unwrap();
        let of = |at: usize| master.reference(at as u16).to_be_bytes();
        let bytes: Vec<u8> = references
            .iter()
            .flat_map(|at| at.map_or([0xFF; 4], of))
            .collect();
        // The mirror's records are in slot 1 of disks 1 and 2.
        let record = set.home(1).unwrap().layout.record_bytes as usize;
        let mut disks = disks.clone();
        for disk in [1, 2] {
            let home = set.home(disk).unwrap();
            let place = home.layout.place(Section::Config);
            for copy in home.copies.into_iter().flatten() {
                let sector = copy + u64::from(place.offset) + record as u64 / 512;
                let mut record = disks[usize::from(disk)].read(sector, record / 512);
                assert_eq!(record[0x43], 1);
                record[0x200..0x210].copy_from_slice(&bytes);
                home.layout.crc.seal(&mut record, home.layout.endian);
                disks[usize::from(disk)].write(sector, &record);
            }
        }
        open(&disks).unwrap()
    };
    for references in [
        [None, Some(0), None, Some(1)],
        [None, Some(0), Some(1), None],
        [Some(1), None, Some(0), None],
    ] {
        refused(&mirror(references), 1, "order is not certain");
    }
    // Where order means nothing one may be open, and nobody counts beyond those that there are.
    for (references, members) in [
        ([Some(0), Some(1), None, None], 2),
        ([None, Some(1), None, None], 1),
        ([Some(0), None, None, None], 1),
    ] {
        let set = mirror(references);
        let volume = set.set().volume(1).unwrap();
        assert!(matches!(volume.access, Access::ReadWrite), "{references:?}");
        let here = volume.members.iter().filter(|member| member.disk.is_some());
        assert_eq!(here.count(), members, "{references:?}");
    }
}

/// What a volume is that is not understood is not for us to say, nor what state it is in.
#[test]
fn the_state_of_a_refused_volume_is_kept() {
    let (set, disks) = world(512);
    let raid5e = edited(&disks, &set, Section::Config, &|_, bytes| {
        bytes[0x43] = 0x15
    });
    for event in [Event::DiskFailed(1), Event::DiskMissing(1)] {
        let mut disks = raid5e.clone();
        let mut set = open(&disks).unwrap();
        refused(&set, 0, "RAID 5E");
        apply(&mut set, &mut disks, &event, 3).unwrap();
        let set = open(&disks[..1]).unwrap();
        let state = |volume| set.vde(volume).unwrap().volume_state();
        assert_eq!(state(0), layout::vde::OPTIMAL, "{event:?}");
        assert_eq!(state(1), layout::vde::DEGRADED, "{event:?}");
        assert_eq!(set.disk_state(1).unwrap() & 2, 2, "{event:?}");
    }
}

#[test]
fn a_clone_makes_the_volume_ambiguous() {
    let (_, mut disks) = world(512);
    disks.push(disks[1].clone());
    let set = open(&disks).unwrap();
    refused(&set, 0, "two disks claim");
    refused(&set, 1, "two disks claim");
    assert!(!set.set().notes.is_empty());
    let mut set = set;
    assert!(set.apply(&Event::VolumeDeleted(0), &context(1)).is_err());
    set.apply(&Event::DiskMissing(0), &context(2)).unwrap();
    assert!(set.plan().is_empty(), "nothing is written to either");
}

/// A clone of a disk that no volume needs: nothing can be recorded, so nothing may be written.
#[test]
fn a_clone_of_a_spare_makes_the_set_read_only() {
    let (_, mut disks) = with_spare();
    disks.push(disks[3].clone());
    let mut set = open(&disks).unwrap();
    let access = &set.set().volumes[0].access;
    let Access::ReadOnly(why) = access else {
        panic!("{access:?}");
    };
    assert!(why.text().contains("two disks claim"), "{why}");
    assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
    // The other one alone is as good as this one was.
    let set = open(&disks[..4]).unwrap();
    assert!(matches!(set.set().volumes[0].access, Access::ReadWrite));
}

/// Each half of a mirror was used without the other: neither is right.
#[test]
fn split_brain_is_refused() {
    let mut disks = blanks(2, 64, 512);
    let mut set = create(&mut disks, "set");
    let two = [Some(0), Some(1)];
    let one = Event::VolumeCreated(spec("one", Level::Raid1, 16384, &two));
    apply(&mut set, &mut disks, &one, 1).unwrap();
    for extra in 0..3 {
        let mut left = disks.clone();
        let mut half = open(&left).unwrap();
        apply(&mut half, &mut left, &Event::DiskMissing(1), 2).unwrap();
        let mut right = disks.clone();
        let mut half = open(&right).unwrap();
        apply(&mut half, &mut right, &Event::DiskMissing(0), 3).unwrap();
        for n in 0..extra {
            apply(&mut half, &mut right, &Event::Dirty(0), 4 + 2 * n).unwrap();
            apply(&mut half, &mut right, &Event::Clean(0), 5 + 2 * n).unwrap();
        }
        let both = [left[0].clone(), right[1].clone()];
        let mut set = open(&both).unwrap();
        refused(&set, 0, "used apart");
        // The half that lost is not wiped behind its owner's back.
        let stale = (0..2)
            .find(|&disk| set.set().disk(disk).unwrap().state == DiskState::Stale)
            .unwrap();
        let facts = set.set().disk(stale).unwrap().facts.unwrap();
        let returned = Event::DiskReturned(stale, facts);
        assert!(set.apply(&returned, &context(9)).is_err());
    }
}

/// The set starts without member 0, whose place the spare takes.
fn spare_takes_the_place(disks: &mut [Disk]) {
    let here: Vec<_> = (1..4).map(|key| (key, &disks[key as usize])).collect();
    let mut set = open_keyed(&here).unwrap();
    let lost = set.set().volume(0).unwrap().members[0].disk.unwrap();
    let disk = set.set().disk_by_key(3).unwrap();
    apply(&mut set, disks, &Event::DiskMissing(lost), 10).unwrap();
    if set.set().disk(disk).unwrap().state == DiskState::Stale {
        let returned = Event::DiskReturned(disk, facts(&disks[3], 3));
        apply(&mut set, disks, &returned, 11).unwrap();
    }
    let activated = Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk,
    };
    apply(&mut set, disks, &activated, 12).unwrap();
}

/// One member alone was told that another one failed when power went. It is away at the next start, where that one is as
/// good as ever: each calls the other one lost, but what the first says was never on all disks, so nothing rests on it.
/// (Found by the simulator.)
#[test]
fn whose_account_is_of_a_cut_update_was_not_used_apart() {
    let (mut set, disks) = with_spare();
    set.apply(&Event::DiskFailed(1), &context(3)).unwrap();
    let plan = writes(&set);
    let mut alone = 0;
    for phase in 0..=plan.iter().map(|write| write.phase).max().unwrap() {
        let mut disks = disks.clone();
        for write in &plan {
            if write.phase < phase || write.phase == phase && write.key == 0 {
                disks[write.key as usize].write(write.sector, &write.bytes);
            }
        }
        let here = [(1, &disks[1]), (2, &disks[2]), (3, &disks[3])];
        let mut set = open_keyed(&here).unwrap();
        if set.set().volume(0).unwrap().members[1].state != MemberState::InSync {
            continue;
        }
        alone += 1;
        apply(&mut set, &mut disks, &Event::DiskMissing(0), 10).unwrap();
        for more in 0..3 {
            let set = open(&disks).unwrap();
            let volume = set.set().volume(0).unwrap();
            let what = format!("phase {phase}, {more}: {}", show(set.set()));
            assert!(matches!(volume.access, Access::ReadWrite), "{what}");
            let states = [0, 1, 2].map(|slot| volume.members[slot].state);
            assert_ne!(states[0], MemberState::InSync, "{what}");
            assert_eq!(states[1..], [MemberState::InSync; 2], "{what}");
            let mut set = open_keyed(&[1, 2, 3].map(|key| (key, &disks[key as usize]))).unwrap();
            let event = [Event::Dirty(0), Event::Clean(0)][more % 2];
            apply(&mut set, &mut disks, &event, 11 + more as u64).unwrap();
        }
    }
    assert!(alone > 2, "{alone} phases");
}

/// One member alone was told that the spare is gone when power went. It is away at the next start, and the spare, which is
/// back, takes its place: each calls the other one lost, but nobody used the volume without the other. (Found by the
/// simulator.)
#[test]
fn who_missed_but_a_spare_was_not_used_apart() {
    let (mut set, disks) = with_spare();
    set.apply(&Event::DiskMissing(3), &context(3)).unwrap();
    let plan = writes(&set);
    let last = plan.iter().map(|write| write.phase).max().unwrap();
    for phase in 0..=last {
        let mut disks = disks.clone();
        for write in &plan {
            if write.phase < phase || write.phase == phase && write.key == 0 {
                disks[write.key as usize].write(write.sector, &write.bytes);
            }
        }
        spare_takes_the_place(&mut disks);
        let set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        let what = format!("phase {phase}: {}", show(set.set()));
        assert!(matches!(volume.access, Access::ReadWrite), "{what}");
        let member = volume.members[0];
        assert_eq!(member.disk, set.set().disk_by_key(3), "{what}");
        assert_ne!(member.state, MemberState::InSync, "{what}");
        for slot in 1..3 {
            assert_eq!(volume.members[slot].state, MemberState::InSync, "{what}");
        }
    }
}

/// The same, but the other part ran without a member, too.
#[test]
fn who_missed_a_member_and_a_spare_was_used_apart() {
    let (_, disks) = with_spare();
    let mut left = disks.clone();
    let mut half = open(&left).unwrap();
    for (n, lost) in [(3, 3), (4, 1)] {
        apply(&mut half, &mut left, &Event::DiskMissing(lost), n).unwrap();
    }
    let mut right = disks.clone();
    spare_takes_the_place(&mut right);
    for more in 0..2 {
        for n in 0..more {
            apply(&mut half, &mut left, &Event::Dirty(0), 5 + 2 * n).unwrap();
            apply(&mut half, &mut left, &Event::Clean(0), 6 + 2 * n).unwrap();
        }
        let mut disks = right.clone();
        disks[0] = left[0].clone();
        let set = open(&disks).unwrap();
        refused(&set, 0, "used apart");
    }
}

/// A spare alone was told that it takes a lost member's place when power went, and the members, which start without
/// it, give the number of that state away again: what they say counts, also of what is being written. (Found by the
/// simulator.)
#[test]
fn a_spare_that_alone_knows_of_its_place_has_no_say() {
    let (mut set, mut disks) = with_spare();
    apply(&mut set, &mut disks, &Event::DiskFailed(2), 3).unwrap();
    let activated = Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: 3,
    };
    set.apply(&activated, &context(4)).unwrap();
    let plan = writes(&set);
    let last = plan.iter().map(|write| write.phase).max().unwrap();
    let mut unknown = 0;
    for phase in 0..=last {
        let mut disks = disks.clone();
        for write in &plan {
            if write.phase < phase || write.phase == phase && write.key == 3 {
                disks[write.key as usize].write(write.sector, &write.bytes);
            }
        }
        let mut members = open_keyed(&[(0, &disks[0]), (1, &disks[1])]).unwrap();
        let knows = members.set().volume(0).unwrap().members[2].disk != Some(2);
        unknown += u32::from(!knows);
        apply(&mut members, &mut disks, &Event::Dirty(0), 5).unwrap();
        apply(&mut members, &mut disks, &mark(0, 1), 6).unwrap();
        let set = open(&disks).unwrap();
        let (volume, theirs) = (set.set().volume(0), members.set().volume(0));
        let (volume, theirs) = (volume.unwrap(), theirs.unwrap());
        let what = format!("phase {phase}: {}", show(set.set()));
        assert_eq!(volume.consistency, Consistency::Dirty, "{what}");
        assert_eq!(volume.members[2].disk, theirs.members[2].disk, "{what}");
        assert_ne!(volume.members[2].state, MemberState::InSync, "{what}");
        assert!(volume.regions.as_ref().unwrap().is_dirty(0), "{what}");
        let role = set.set().disk(3).unwrap().role;
        assert_eq!(role == DiskRole::GlobalSpare, !knows, "{what}");
        // It takes the place after all, and that is known then.
        if !knows {
            let mut set = set;
            apply(&mut set, &mut disks, &activated, 7).unwrap();
            let set = open(&disks).unwrap();
            let member = set.set().volume(0).unwrap().members[2];
            assert_eq!(member.disk, Some(3), "{what}");
            let state = MemberState::Rebuilding { done_sectors: 0 };
            assert_eq!(member.state, state, "{what}");
        }
    }
    assert!(unknown > 2, "{unknown} of {last}");
}

/// A disk that a volume cannot do without is not made blank; neither is one that the set does not list.
#[test]
fn what_may_be_needed_is_kept() {
    let mut disks = blanks(3, 64, 512);
    let mut set = create(&mut disks, "set");
    let two = [Some(0), Some(1)];
    let stripe = Event::VolumeCreated(spec("s", Level::Raid0, 16384, &two));
    apply(&mut set, &mut disks, &stripe, 1).unwrap();
    let removed = disks[2].clone();
    apply(&mut set, &mut disks, &Event::DiskRemoved(2), 2).unwrap();
    apply(&mut set, &mut disks, &Event::DiskFailed(0), 3).unwrap();
    disks[2] = removed;
    let mut set = open(&disks).unwrap();
    let unlisted = set.set().disk_by_key(2).unwrap();
    assert_eq!(set.set().disk(unlisted).unwrap().state, DiskState::Stale);
    for (disk, part) in [(0, "cannot do without"), (unlisted, "does not list")] {
        let facts = set.set().disk(disk).unwrap().facts.unwrap();
        let why = set
            .apply(&Event::DiskReturned(disk, facts), &context(4))
            .unwrap_err();
        assert!(why.text().contains(part), "{why}");
    }
    // It can be had all the same: removed, then added.
    let facts = set.set().disk(unlisted).unwrap().facts.unwrap();
    apply(&mut set, &mut disks, &Event::DiskRemoved(unlisted), 5).unwrap();
    let offer = emd_core::model::DiskOffer {
        facts,
        role: SpareRole::None,
    };
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 6).unwrap();
}

#[test]
fn a_bad_block_log_is_refused() {
    use emd_core::metadata::ddf::tables::bad_blocks;
    let endian = emd_core::metadata::bytes::Endian::Big;
    let mut log = vec![0xFF; 512];
    assert_eq!(bad_blocks(&log, endian), None);
    log[..4].copy_from_slice(&0xABAD_B10Cu32.to_be_bytes());
    assert_eq!(bad_blocks(&log, endian), Some(false));
    log[8..12].fill(0);
    assert_eq!(bad_blocks(&log, endian), Some(false));
    log[11] = 1;
    assert_eq!(bad_blocks(&log, endian), Some(true), "2.0 count");
    log[8..12].copy_from_slice(&[0, 1, 0, 0]);
    assert_eq!(bad_blocks(&log, endian), Some(true), "1.x count");
    log[8..12].fill(0);
    log[0x20] = 0;
    assert_eq!(
        bad_blocks(&log, endian),
        Some(true),
        "entries without a count"
    );
}

/// Sets of different groups are not mixed.
#[test]
fn two_groups_are_refused() {
    let mut disks = load("ddf/gen/raid1");
    disks.extend(load("ddf/gen/raid0"));
    let why = open(&disks).unwrap_err();
    assert!(why.text().contains("different"), "{why}");
}

/// Vendor records and orphans stay where they are through every change.
#[test]
fn unknown_records_survive() {
    let (set, disks) = world(512);
    let mut changed = disks.clone();
    let home = set.home(0).unwrap();
    let layout = home.layout;
    let record = layout.record_bytes as usize;
    let mut vendor = vec![0xA5; record];
    vendor[..4].copy_from_slice(&0x8888_8888u32.to_be_bytes());
    let at = |copy: u64| {
        copy + u64::from(layout.place(Section::Config).offset) + 9 * record as u64 / 512
    };
    for copy in home.copies.into_iter().flatten() {
        changed[0].write(at(copy), &vendor);
    }
    let mut set = open(&changed).unwrap();
    assert!(set
        .set()
        .notes
        .iter()
        .any(|note| note.as_str().contains("vendor")));
    for (n, event) in [
        Event::Dirty(0),
        Event::VolumeRenamed(0, Text::from_text("x")),
        Event::DiskFailed(1),
        Event::VolumeDeleted(1),
    ]
    .iter()
    .enumerate()
    {
        apply(&mut set, &mut changed, event, 20 + n as u64).unwrap();
    }
    for copy in home.copies.into_iter().flatten() {
        assert_eq!(changed[0].read(at(copy), record / 512), vendor);
    }
}

/// Tables with wrong checksums on every copy: shown, readable, never written.
#[test]
fn untrusted_tables_are_never_written() {
    let (set, disks) = world(512);
    let mut broken = disks.clone();
    for (index, disk) in broken.iter_mut().enumerate() {
        let home = set.home(index as u16).unwrap();
        for copy in home.copies.into_iter().flatten() {
            let place = home.layout.place(Section::Volumes);
            flip(disk, (copy + u64::from(place.offset)) * 512 + 4, 1);
        }
    }
    let mut set = open(&broken).unwrap();
    assert!(matches!(set.set().volumes[0].access, Access::ReadOnly(_)));
    assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
    set.apply(&Event::DiskFailed(0), &context(1)).unwrap();
    assert!(set.plan().is_empty());
    assert_eq!(set.set().volumes[0].members[0].state, MemberState::Failed);
}

/// Removing a disk leaves nothing on it that would be found again.
#[test]
fn a_removed_disk_is_blank() {
    let mut disks = blanks(3, 64, 512);
    let mut set = create(&mut disks, "set");
    set.apply(&Event::DiskRemoved(1), &context(1)).unwrap();
    let plan = writes(&set);
    carry_out(&mut disks, &plan);
    assert!(matches!(probe(&disks[1], 1).1, Probe::NotMine));
    assert_eq!(open(&disks).unwrap().set().disks.len(), 2);
    // Its key may join again.
    let offer = emd_core::model::DiskOffer {
        facts: facts(&disks[1], 1),
        role: SpareRole::Global,
    };
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 2).unwrap();
    assert_eq!(open(&disks).unwrap().set().disks.len(), 3);
}
