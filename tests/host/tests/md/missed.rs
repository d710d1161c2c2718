// SPDX-License-Identifier: GPL-2.0

//! Disks that did not take an update, or only a part of it: because an error came in between, or a cut.

use crate::md_common::{apply, blanks, facts, made_of, open_keyed, Of, ALL};
use emd_core::metadata::md::head::checksum_0;
use emd_core::metadata::md::layout::v0;
use emd_core::metadata::md::{Md, MdSet, MD_090};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    BadRange, Consistency, DiskOffer, DiskState, Event, Level, Member, MemberState, SpareRole,
};
use host_tests::crash::{cut_everywhere, Random};
use host_tests::samples::Disk;
use host_tests::shell::{carry_out, context, writes};
use kernel::prelude::*;

/// An array on as many disks as it has members, in sync.
fn made(format: &'static Md, level: Level, members: u16) -> (KBox<MdSet>, Vec<Disk>) {
    made_of(
        format,
        level,
        members,
        blanks(usize::from(members), 40, 512),
    )
}

/// A member of an array that cannot do without it does not take that another one is lost: nothing of it, or
/// some sectors. With the next update it has all that the others have.
#[test]
fn what_a_disk_missed_comes_with_the_next_update() {
    for format in ALL {
        for took in [0, 2, 3] {
            let (mut set, mut disks) = made(format, Level::Raid5, 3);
            let range = BadRange {
                disk: 1,
                sector: set.set().volumes[0].members[1].offset_sectors + 64,
                sectors: 8,
            };
            for event in [Event::BadRangeAdded(range), Event::DiskMissing(2)] {
                set.apply(&event, &context(2)).unwrap();
                let plan = writes(Of(format), &set);
                for write in &plan {
                    for (index, bytes) in write.bytes.chunks(512).enumerate() {
                        let taken = write.key != 1 || took > 0 && (index + 1) % took == 0;
                        if taken {
                            let sector = write.sector + index as u64;
                            disks[write.key as usize].write(sector, bytes);
                        }
                    }
                }
                if plan.iter().any(|write| write.key == 1) {
                    set.missed(1, u16::MAX);
                }
            }
            apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
            // Whoever is asked.
            for keys in [vec![0, 1], vec![1, 2], vec![0, 1, 2]] {
                let keyed: Vec<_> = keys.iter().map(|&k| (k as u64, &disks[k])).collect();
                let again = open_keyed(format, &keyed).unwrap();
                let members = &again.set().volumes[0].members;
                assert_eq!(members[1].state, MemberState::InSync, "{keys:?}");
                assert_ne!(members[2].state, MemberState::InSync, "{keys:?}");
                let wanted = set.set().bad_ranges.len();
                let kept = if format.0 == MD_090.0 { 0 } else { wanted };
                assert_eq!(again.set().bad_ranges.len(), kept);
            }
        }
    }
}

/// Nor does an event that is refused in between stand in for what a disk missed.
#[test]
fn a_refused_event_brings_nothing_to_a_disk_that_missed_an_update() {
    for format in ALL {
        let (mut set, mut disks) = made(format, Level::Raid5, 3);
        let range = BadRange {
            disk: 1,
            sector: set.set().volumes[0].members[1].offset_sectors + 64,
            sectors: 8,
        };
        for event in [Event::BadRangeAdded(range), Event::DiskMissing(2)] {
            set.apply(&event, &context(2)).unwrap();
            for write in writes(Of(format), &set) {
                match write.key {
                    1 => set.missed(1, u16::MAX),
                    key => disks[key as usize].write(write.sector, &write.bytes),
                }
            }
            refuse(&mut set);
        }
        apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
        let again = open_keyed(format, &[(1, &disks[1]), (2, &disks[2])]).unwrap();
        assert_ne!(again.set().volumes[0].members[2].state, MemberState::InSync);
        let wanted = set.set().bad_ranges.len();
        let kept = if format.0 == MD_090.0 { 0 } else { wanted };
        assert_eq!(again.set().bad_ranges.len(), kept);
    }
}

/// A superblock is torn, and read from its copy. An event is refused, then one brings no more than its first sector anew: it is
/// whole after that, or while that is cut. (Found by the simulator.)
#[test]
fn a_refused_event_does_not_mend_a_torn_superblock() {
    let (mut set, mut disks) = made(&MD_090, Level::Raid1, 2);
    set.apply(&Event::DiskMissing(1), &context(2)).unwrap();
    let plan = writes(Of(&MD_090), &set);
    disks[0].write(plan[0].sector, &plan[0].bytes);
    disks[0].write(plan[1].sector, &plan[1].bytes[..512]);
    let mut set = open_keyed(&MD_090, &[(0, &disks[0])]).unwrap();
    for _ in 0..2 {
        refuse(&mut set);
    }
    for event in [Event::Dirty(0), Event::Clean(0)] {
        set.apply(&event, &context(3)).unwrap();
        let plan = writes(Of(&MD_090), &set);
        cut_everywhere(&disks, &plan, &mut Random(9), 200, &mut |cut, at| {
            let again = open_keyed(&MD_090, &[(0, &cut[0])]);
            assert!(again.is_ok(), "{event:?}, {at}");
        });
        carry_out(&mut disks, &plan);
    }
}

/// A disk is taken in, and cannot be made ready for it: it is taken out again before anything of that was written. The members take that
/// as they take what they missed: cut anywhere, they are members.
#[test]
fn a_disk_that_is_taken_in_and_out_at_once_costs_no_member() {
    for format in ALL {
        let (mut set, mut disks) = made(format, Level::Raid1, 2);
        let new = blanks(1, 40, 512).remove(0);
        let offer = DiskOffer {
            facts: facts(&new, 2),
            role: SpareRole::Global,
        };
        set.apply(&Event::DiskAdded(offer), &context(2)).unwrap();
        let added = set.set().disk_by_key(2).unwrap();
        for disk in 0..added {
            set.missed(disk, 0);
        }
        set.apply(&Event::DiskRemoved(added), &context(3)).unwrap();
        let plan = writes(Of(format), &set);
        let plan: Vec<_> = plan.into_iter().filter(|write| write.key < 2).collect();
        cut_everywhere(&disks, &plan, &mut Random(7), 200, &mut |cut, at| {
            let again = open_keyed(format, &[(0, &cut[0]), (1, &cut[1])]).unwrap();
            let members = &again.set().volumes[0].members;
            let works = |member: &Member| member.state == MemberState::InSync;
            assert!(members.iter().all(works), "{}, {at}", format.0.name());
        });
        carry_out(&mut disks, &plan);
    }
}

/// Gives a set an event that it refuses: nothing is to be written for that.
fn refuse(set: &mut MdSet) {
    let (volume, slot, disk) = (0, 1, 0);
    let event = Event::SpareActivated { volume, slot, disk };
    assert!(set.apply(&event, &context(3)).is_err());
    assert!(set.plan().is_empty());
}

/// A spare alone took that the array is clean, and was away when the others went on: it has no say in that.
#[test]
fn a_spare_does_not_know_that_all_is_clean() {
    for format in ALL {
        let (mut set, mut disks) = made(format, Level::Raid1, 2);
        disks.push(blanks(1, 40, 512).remove(0));
        let offer = DiskOffer {
            facts: facts(&disks[2], 2),
            role: SpareRole::Global,
        };
        for event in [Event::DiskAdded(offer), Event::Dirty(0)] {
            apply(&mut set, &mut disks, &event, 2).unwrap();
        }
        let mut told = disks.clone();
        apply(&mut set, &mut told, &Event::Clean(0), 3).unwrap();
        disks[2] = told[2].clone();
        let keyed: Vec<_> = (0..).zip(&disks).collect();
        let mut set = open_keyed(format, &keyed).unwrap();
        assert_eq!(set.set().volumes[0].consistency, Consistency::Dirty);
        // All hear of it.
        apply(&mut set, &mut disks, &Event::Dirty(0), 4).unwrap();
        assert!(!set.plan().is_empty());
        let set = open_keyed(format, &[(2, &disks[2]), (0, &disks[0])]).unwrap();
        assert_eq!(set.set().volumes[0].consistency, Consistency::Dirty);
    }
}

/// The only member that is left is written while power fails, in whatever sectors: it is read all the same, and
/// the one that was lost before is not believed.
#[test]
fn the_only_superblock_is_not_torn() {
    for format in ALL {
        let (mut set, mut disks) = made(format, Level::Raid1, 2);
        let lost = disks[1].clone();
        disks.push(blanks(1, 40, 512).remove(0));
        let offer = DiskOffer {
            facts: facts(&disks[2], 2),
            role: SpareRole::Global,
        };
        let (volume, slot, disk) = (0, 1, 2);
        let mut random = Random(7);
        for event in [
            Event::DiskMissing(1),
            Event::Dirty(0),
            Event::DiskAdded(offer),
            Event::SpareActivated { volume, slot, disk },
            Event::RebuildDone { volume, slot },
            Event::Clean(0),
            Event::DiskMissing(2),
        ] {
            let is_loss = matches!(event, Event::DiskMissing(1));
            set.apply(&event, &context(4)).unwrap();
            let plan = writes(Of(format), &set);
            cut_everywhere(&disks, &plan, &mut random, 30, &mut |cut, at| {
                for others in [&[][..], &[(1, &lost)]] {
                    let keyed: Vec<_> = [(0, &cut[0])].iter().chain(others).copied().collect();
                    let again = open_keyed(format, &keyed)
                        .unwrap_or_else(|why| panic!("{event:?}, {at}: {why}"));
                    let survivor = again.set().disk_by_key(0).unwrap();
                    let state = again.set().disk(survivor).unwrap().state;
                    assert_eq!(state, DiskState::Online, "{event:?}, {at}");
                    let member = again.set().volumes[0].members[1];
                    let believed = member.state == MemberState::InSync;
                    assert!(!believed || is_loss, "{event:?}, {at}: {member:?}");
                }
            });
            carry_out(&mut disks, &plan);
        }
    }
}

/// The update after one that was cut is cut, too: the copy is all that there is of a torn superblock, and is
/// not touched before that one is whole. (Found by the simulator.)
#[test]
fn a_superblock_is_not_torn_by_two_cuts() {
    let (mut set, mut disks) = made(&MD_090, Level::Raid1, 2);
    disks.push(blanks(1, 40, 512).remove(0));
    set.apply(&Event::DiskMissing(1), &context(2)).unwrap();
    let plan = writes(Of(&MD_090), &set);
    disks[0].write(plan[0].sector, &plan[0].bytes);
    disks[0].write(plan[1].sector, &plan[1].bytes[..512]);
    let mut set = open_keyed(&MD_090, &[(0, &disks[0])]).unwrap();
    let offer = DiskOffer {
        facts: facts(&disks[2], 2),
        role: SpareRole::Global,
    };
    set.apply(&Event::DiskAdded(offer), &context(3)).unwrap();
    let plan = writes(Of(&MD_090), &set);
    cut_everywhere(&disks, &plan, &mut Random(9), 200, &mut |cut, at| {
        let again = open_keyed(&MD_090, &[(0, &cut[0])]);
        assert!(again.is_ok(), "{at}");
    });
}

/// The only member that is left does not take an update, from some phase on; nor perhaps the next one; then one is cut.
/// Of superblock and copy one is whole all the time. (Found by the simulator.)
#[test]
fn a_superblock_is_not_torn_by_errors_and_a_cut() {
    let (mut set, mut disks) = made(&MD_090, Level::Raid1, 2);
    apply(&mut set, &mut disks, &Event::DiskMissing(1), 2).unwrap();
    disks.push(blanks(1, 40, 512).remove(0));
    let offer = DiskOffer {
        facts: facts(&disks[2], 2),
        role: SpareRole::Global,
    };
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 3).unwrap();
    let (volume, slot, disk) = (0, 1, 2);
    let events = [
        Event::SpareActivated { volume, slot, disk },
        Event::RebuildDone { volume, slot },
        Event::DiskMissing(2),
        Event::Dirty(0),
    ];
    // In which phase of the first two updates an error comes, if in any.
    for stops in (0..6).flat_map(|one| (0..6).map(move |other| [one, other])) {
        let keyed: Vec<_> = (0..).zip(&disks).collect();
        let mut set = open_keyed(&MD_090, &keyed).unwrap();
        let mut now = disks.clone();
        for (event, stop) in events.iter().zip(stops.into_iter().chain([6, 6])) {
            set.apply(event, &context(4)).unwrap();
            let plan = writes(Of(&MD_090), &set);
            let what = format!("{stops:?}, {event:?}");
            cut_everywhere(&now, &plan, &mut Random(9), 10, &mut |cut, at| {
                let again = open_keyed(&MD_090, &[(0, &cut[0])]);
                assert!(again.is_ok(), "{what}, {at}");
            });
            let own = plan.iter().filter(|write| write.key == 0);
            let reached = own.clone().find(|write| write.phase >= stop);
            for write in plan.iter().filter(|write| write.key != 0) {
                now[write.key as usize].write(write.sector, &write.bytes);
            }
            for write in own.take_while(|write| write.phase < stop) {
                now[0].write(write.sector, &write.bytes);
            }
            if let Some(write) = reached {
                // The second half of its first write.
                let half = write.bytes.len() / 1024 * 512;
                let sector = write.sector + half as u64 / 512;
                now[0].write(sector, &write.bytes[half..]);
                set.missed(0, write.phase);
            }
        }
        let again = open_keyed(&MD_090, &[(0, &now[0])]).unwrap();
        assert_eq!(again.head.events, set.head.events, "{stops:?}");
    }
}

/// A copy of another array, or one that is older than the superblock, does not stand in for it.
#[test]
fn a_copy_counts_for_its_own_superblock_only() {
    let (mut set, mut disks) = made(&MD_090, Level::Raid1, 2);
    let at = MD_090.0.sector(disks[0].size_sectors).unwrap();
    let before = disks[0].read(at, 8);
    let is_read = |disk: &Disk| open_keyed(&MD_090, &[(0, disk)]).is_ok();
    set.apply(&Event::DiskMissing(1), &context(2)).unwrap();
    let plan = writes(Of(&MD_090), &set);
    // Of the superblock only the first sector.
    let mut torn = disks[0].clone();
    torn.write(plan[0].sector, &plan[0].bytes);
    torn.write(plan[1].sector, &plan[1].bytes[..512]);
    assert_eq!((plan[0].sector, plan[1].sector), (at + 8, at));
    assert!(is_read(&torn));
    // Without the copy that would not be so.
    torn.write(at + 8, &[0; 4096]);
    assert!(!is_read(&torn));
    carry_out(&mut disks, &plan);
    for event in [Event::Dirty(0), Event::Clean(0)] {
        apply(&mut set, &mut disks, &event, 3).unwrap();
    }
    let now = disks[0].read(at, 8);
    let mut torn = disks[0].clone();
    torn.write(at + 1, &before[512..1024]);
    assert!(!is_read(&torn), "the copy is older");
    torn.write(at + 8, &now);
    assert!(is_read(&torn));
    let mut other = now;
    other[v0::UUID] ^= 1;
    let sum = checksum_0(&other);
    other[v0::CHECKSUM..v0::CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
    torn.write(at + 8, &other);
    assert!(!is_read(&torn), "it is another array's");
}
