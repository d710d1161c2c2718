// SPDX-License-Identifier: GPL-2.0

//! A member that an array cannot do without takes data and no metadata, for as long as it likes. It is not further behind the
//! others than the one event that everyone allows, so it counts at the next start; and the one that was lost never does.

use crate::md_common::{
    apply, blanks, facts, made_of, open, open_keyed, thin, version_of, Of, ALL,
};
use emd_core::metadata::md::{Md, MdSet};
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, DiskOffer, Event, Level, MemberState, SpareRole};
use host_tests::crash::{cut_everywhere, Random};
use host_tests::samples::{load, Disk};
use host_tests::shell::{carry_out, context, writes, Write};
use kernel::prelude::*;

/// An array of RAID 5 on three disks, in sync.
fn made(format: &'static Md) -> (KBox<MdSet>, Vec<Disk>) {
    made_of(format, Level::Raid5, 3, blanks(3, 40, 512))
}

/// The same without its second member, whose loss all others have.
fn degraded(format: &'static Md) -> Vec<Disk> {
    let (mut set, mut disks) = made(format);
    for event in [Event::DiskFailed(1), Event::Dirty(0), Event::Clean(0)] {
        apply(&mut set, &mut disks, &event, 2).unwrap();
    }
    disks
}

fn events(format: &'static Md, disk: &Disk) -> u64 {
    open_keyed(format, &[(0, disk)]).unwrap().head.events
}

/// The state of the member that is disk `key`, or was.
fn state(set: &MdSet, key: u64) -> MemberState {
    let disk = set.set().disk_by_key(key);
    let mut places = disk
        .into_iter()
        .flat_map(|disk| set.set().memberships(disk));
    let place = places.next().map(|(_, _, member)| member.state);
    place.unwrap_or(MemberState::Missing)
}

/// Of the plan that is there: what is written when disk `late` takes nothing from phase `stop` on, and the phase of that; `None`
/// when it takes all. The core's four tries that go no further are one here, and `others_go_on` says whether it comes to more.
fn plan_without(
    format: &'static Md,
    set: &mut MdSet,
    late: u64,
    stop: u16,
    others_go_on: bool,
) -> (Vec<Write>, Option<u16>) {
    let is_taken = |write: &Write, stuck: u16| write.key != late || write.phase < stuck;
    let mut plan = writes(Of(format), set);
    let own = |write: &&Write| write.key == late && write.phase >= stop;
    let Some(stuck) = plan.iter().find(own).map(|write| write.phase) else {
        return (plan, None);
    };
    plan.retain(|write| write.phase <= stuck && is_taken(write, stuck));
    if others_go_on {
        set.leave_behind(stuck);
        let rest = writes(Of(format), set);
        plan = rest
            .into_iter()
            .filter(|write| is_taken(write, stuck))
            .collect();
        set.missed(set.set().disk_by_key(late).unwrap(), stuck);
    }
    (plan, Some(stuck))
}

/// Records events that disk `late` does not take from phase `stop` of each on. After each, and wherever that is cut,
/// `judge` sees the disks.
fn record_without(
    format: &'static Md,
    set: &mut MdSet,
    disks: &mut [Disk],
    (late, stop): (u64, u16),
    judge: &dyn Fn(&[Disk], &str),
) {
    for event in [
        Event::Dirty(0),
        Event::Clean(0),
        Event::Dirty(0),
        Event::Clean(0),
    ] {
        set.apply(&event, &context(5)).unwrap();
        for others_go_on in [false, true] {
            let (plan, _) = plan_without(format, set, late, stop, others_go_on);
            let what = format!("{:?}, {event:?}, from {stop} on: ", format.0);
            cut_everywhere(disks, &plan, &mut Random(3), 10, &mut |cut, at| {
                judge(cut, &format!("{what}{at}"));
            });
            carry_out(disks, &plan);
            judge(disks, &what);
        }
    }
}

/// Day after day the array is started, written and stopped. The lost member is at hand, or is not.
#[test]
fn it_counts_after_each_restart() {
    for format in ALL {
        for (is_lost_here, stop) in [(true, 0), (false, 0), (false, 1), (false, 2), (false, 3)] {
            let mut disks = degraded(format);
            let judge = |disks: &[Disk], what: &str| {
                let set = open(format, disks).unwrap();
                let states = [0, 2].map(|key| state(&set, key));
                assert_eq!(states, [MemberState::InSync; 2], "{what}");
                assert_ne!(state(&set, 1), MemberState::InSync, "{what}");
            };
            for _ in 0..3 {
                let keyed = (0..)
                    .zip(&disks)
                    .filter(|(key, _)| is_lost_here || *key != 1);
                let keyed: Vec<_> = keyed.collect();
                let mut set = open_keyed(format, &keyed).unwrap();
                record_without(format, &mut set, &mut disks, (2, stop), &judge);
            }
            // It takes it again: all is on both, and who is lost is two events behind.
            let mut set = open(format, &disks).unwrap();
            apply(&mut set, &mut disks, &Event::Dirty(0), 9).unwrap();
            let [one, lost, other] = [0, 1, 2].map(|key| events(format, &disks[key]));
            assert!(one == other && one >= lost + 2, "{one} {lost} {other}");
            judge(&disks, "at the end");
            // Nor is it told anew each time.
            apply(&mut set, &mut disks, &Event::Dirty(0), 10).unwrap();
            assert!(set.plan().is_empty());
        }
    }
}

/// The same where a bitmap goes along: it is as new as the superblocks.
#[test]
fn it_counts_with_a_bitmap() {
    for case in ["12-raid5-dirty", "090-raid5-ls-bitmap"] {
        let mut disks = load(&format!("md/gen/{case}"));
        let format = version_of(&disks);
        for disk in &mut disks {
            thin(format, disk);
        }
        let mut set = open(format, &disks).unwrap();
        let in_slot = |slot: usize| set.set().volumes[0].members[slot].disk.unwrap();
        let (lost, late) = (in_slot(1), in_slot(2));
        let key = |disk| set.set().disk(disk).unwrap().facts.unwrap().key;
        let (lost_key, late_key) = (key(lost), key(late));
        apply(&mut set, &mut disks, &Event::DiskFailed(lost), 2).unwrap();
        let judge = |disks: &[Disk], what: &str| {
            let set = open(format, disks).unwrap();
            assert_eq!(state(&set, late_key), MemberState::InSync, "{case}, {what}");
            assert_ne!(state(&set, lost_key), MemberState::InSync, "{case}, {what}");
        };
        for _ in 0..2 {
            let mut set = open(format, &disks).unwrap();
            record_without(format, &mut set, &mut disks, (late_key, 0), &judge);
        }
    }
}

/// Disk `late` does not take what is no event of the array's: that a sector of its own is bad.
fn misses_a_bad_range(set: &mut MdSet, late: u64) {
    let disk = set.set().disk_by_key(late).unwrap();
    let (_, _, member) = set.set().memberships(disk).next().unwrap();
    let range = BadRange {
        disk,
        sector: member.offset_sectors + 64,
        sectors: 8,
    };
    set.apply(&Event::BadRangeAdded(range), &context(4))
        .unwrap();
    set.missed(disk, 0);
}

/// What it missed before may have been no event, or one.
#[test]
fn it_counts_when_it_missed_something_else_before() {
    for format in ALL {
        let mut disks = degraded(format);
        let mut set = open(format, &disks).unwrap();
        misses_a_bad_range(&mut set, 2);
        set.apply(&Event::Dirty(0), &context(4)).unwrap();
        let (plan, stuck) = plan_without(format, &mut set, 2, 0, true);
        assert!(stuck.is_some());
        carry_out(&mut disks, &plan);
        let set = open(format, &disks).unwrap();
        assert_eq!(state(&set, 2), MemberState::InSync, "{:?}", format.0);
        assert_ne!(state(&set, 1), MemberState::InSync);
    }
}

/// A spare that missed an update lags as well: then the others may be one event further, and are.
#[test]
fn it_counts_beside_a_spare_that_is_behind() {
    for format in ALL {
        let (mut set, mut disks) = made(format);
        disks.push(blanks(1, 40, 512).remove(0));
        let offer = DiskOffer {
            facts: facts(&disks[3], 3),
            role: SpareRole::Global,
        };
        for event in [Event::DiskAdded(offer), Event::DiskFailed(1)] {
            apply(&mut set, &mut disks, &event, 2).unwrap();
        }
        let before = disks[3].clone();
        apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
        disks[3] = before;
        let had = events(format, &disks[0]);
        let mut set = open(format, &disks).unwrap();
        set.apply(&Event::Dirty(0), &context(4)).unwrap();
        let (plan, stuck) = plan_without(format, &mut set, 2, 0, true);
        assert!(stuck.is_some());
        carry_out(&mut disks, &plan);
        assert_eq!(events(format, &disks[0]), had + 1, "{:?}", format.0);
        let set = open(format, &disks).unwrap();
        assert_eq!(state(&set, 2), MemberState::InSync);
        assert_ne!(state(&set, 1), MemberState::InSync);
    }
}

/// A plan that records a loss is not made shorter: who was lost has to be old by its own count, for those who ask each disk for
/// its own role.
#[test]
fn a_new_loss_is_recorded_whole() {
    for format in ALL {
        let (mut set, mut disks) = made(format);
        set.apply(&Event::DiskFailed(1), &context(2)).unwrap();
        let plan = writes(Of(format), &set);
        set.leave_behind(0);
        assert_eq!(writes(Of(format), &set).len(), plan.len());
        carry_out(&mut disks, &plan);
        let counts = [0, 1, 2].map(|key| events(format, &disks[key]));
        assert!(counts[0] >= counts[1] + 2 && counts[2] == counts[0]);
    }
}

/// The update that took a member out was cut, and that one has as many events as those that know of it, or as they can have without
/// leaving the late one behind: it is never taken for one that went along.
#[test]
fn who_has_as_many_events_as_the_others_stays_lost() {
    for format in ALL {
        // Who else got the update that was cut before the second member went, and who its loss.
        for (ahead, knows) in [
            (vec![1], vec![0, 2]),
            (vec![0, 1], vec![0]),
            (vec![1], vec![0]),
        ] {
            let (mut set, mut disks) = made(format);
            let mut told = disks.clone();
            // By the clock that one was later than all that follows.
            apply(&mut set, &mut told, &Event::Dirty(0), 9).unwrap();
            for &disk in &ahead {
                disks[disk] = told[disk].clone();
            }
            let here = [(0, &disks[0].clone()), (2, &disks[2].clone())];
            let mut set = open_keyed(format, &here).unwrap();
            let lost = set.set().volumes[0].members[1].disk;
            let Some(lost) = lost else { continue };
            set.apply(&Event::DiskMissing(lost), &context(4)).unwrap();
            let plan = writes(Of(format), &set);
            // Only what comes first: up to where a disk is written once more.
            let mut done = Vec::new();
            for write in &plan {
                let place = (write.key, write.sector);
                if done.contains(&place) {
                    break;
                }
                done.push(place);
                if knows.contains(&(write.key as usize)) {
                    disks[write.key as usize].write(write.sector, &write.bytes);
                }
            }
            let here = [(0, &disks[0].clone()), (2, &disks[2].clone())];
            let mut set = open_keyed(format, &here).unwrap();
            let away = set.set().volumes[0].members[1].disk;
            misses_a_bad_range(&mut set, 2);
            for event in away
                .map(Event::DiskMissing)
                .into_iter()
                .chain([Event::Dirty(0)])
            {
                set.apply(&event, &context(4)).unwrap();
                let (plan, _) = plan_without(format, &mut set, 2, 0, true);
                carry_out(&mut disks, &plan);
            }
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
                let keyed = order.map(|at| (at as u64, &disks[at]));
                let set = open_keyed(format, &keyed).unwrap();
                let what = format!("{:?} {ahead:?} {knows:?} {order:?}", format.0);
                assert_ne!(state(&set, 1), MemberState::InSync, "{what}");
                assert_eq!(state(&set, 0), MemberState::InSync, "{what}");
            }
            // Once the late one takes it, the lost one is old by its count alone.
            apply(&mut set, &mut disks, &Event::Dirty(0), 5).unwrap();
            let [one, lost, other] = [0, 1, 2].map(|key| events(format, &disks[key]));
            assert!(one == other && one >= lost + 2, "{one} {lost} {other}");
        }
    }
}
