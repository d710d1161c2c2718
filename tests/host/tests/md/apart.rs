// SPDX-License-Identifier: GPL-2.0

//! Disks of an array that were used apart from each other: the half that was used last counts, and the other one is not
//! overwritten before a person says so.

use crate::md_common::{apply, blanks, create, facts, open_keyed, ALL};
use emd_core::metadata::md::{Md, MdSet};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, DiskIndex, DiskOffer, DiskState, Event, Layout, Level, MemberState, SpareRole,
    VolumeSpec,
};
use host_tests::samples::Disk;
use host_tests::shell::spec;

/// An array of `members`, in sync.
fn made(format: &'static Md, level: Level, layout: Option<Layout>, members: u16) -> Vec<Disk> {
    let mut disks = blanks(usize::from(members) + 1, 40, 512);
    let mut set = create(format, &disks[..usize::from(members)], "");
    let slots: Vec<Option<DiskIndex>> = (0..members).map(Some).collect();
    let made = Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        layout,
        ..spec("", level, &slots)
    });
    apply(&mut set, &mut disks, &made, 1).unwrap();
    disks
}

/// Uses the array with nothing but the disks `here`, as often as `times`.
fn use_alone(format: &'static Md, disks: &mut [Disk], here: &[u64], times: u64) {
    for time in 0..times {
        let copies = disks.to_vec();
        let keyed: Vec<_> = here
            .iter()
            .map(|&key| (key, &copies[key as usize]))
            .collect();
        let mut set = open_keyed(format, &keyed).unwrap();
        assert!(set.is_whole());
        let absent: Vec<DiskIndex> = set
            .set()
            .live_disks()
            .filter(|(_, disk)| disk.state == DiskState::Missing)
            .map(|(index, _)| index)
            .collect();
        for disk in absent {
            apply(&mut set, disks, &Event::DiskMissing(disk), 10 + time).unwrap();
        }
        for event in [Event::Dirty(0), Event::Clean(0)] {
            apply(&mut set, disks, &event, 10 + time).unwrap();
        }
    }
}

/// What the disks `here` are to the set, in that order, and the states of the members.
fn states(format: &'static Md, disks: &[Disk], here: &[u64]) -> (Vec<DiskState>, Vec<MemberState>) {
    let keyed: Vec<_> = here
        .iter()
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    let set = open_keyed(format, &keyed).unwrap();
    let volume = &set.set().volumes[0];
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    let state = |&key: &u64| {
        let disk = set.set().disk_by_key(key).unwrap();
        set.set().disk(disk).unwrap().state
    };
    (
        here.iter().map(state).collect(),
        volume.members.iter().map(|member| member.state).collect(),
    )
}

/// Disk 2, `blank` till then, takes the place of member 1, and is filled.
fn replace(set: &mut MdSet, disks: &mut [Disk], blank: &Disk) {
    let offer = DiskOffer {
        facts: facts(blank, 2),
        role: SpareRole::Global,
    };
    apply(set, disks, &Event::DiskAdded(offer), 21).unwrap();
    let disk = set.set().disk_by_key(2).unwrap();
    let (volume, slot) = (0, 1);
    for event in [
        Event::SpareActivated { volume, slot, disk },
        Event::RebuildDone { volume, slot },
    ] {
        apply(set, disks, &event, 22).unwrap();
    }
}

/// A mirror whose halves were used one after the other: in whatever order they are read, the one with more events
/// counts, and the other one is not old, which would have it filled, but left alone.
#[test]
fn a_half_that_was_used_apart_is_left_alone() {
    for format in ALL {
        for (first, second) in [(1, 4), (4, 1)] {
            let mut disks = made(format, Level::Raid1, None, 2);
            use_alone(format, &mut disks, &[0], first);
            use_alone(format, &mut disks, &[1], second);
            let winner = usize::from(second > first);
            for order in [[0, 1], [1, 0]] {
                let (own, members) = states(format, &disks, &order);
                let of =
                    |disk: usize| own[order.iter().position(|&key| key == disk as u64).unwrap()];
                assert_eq!(of(winner), DiskState::Online, "{:?}", format.0);
                assert_eq!(of(1 - winner), DiskState::Failed, "{:?}", format.0);
                assert_eq!(members[winner], MemberState::InSync);
                assert_ne!(members[1 - winner], MemberState::InSync);
            }
            // It stays so when the half that counts is used on, and the other half is as it was.
            let before = disks[1 - winner].clone();
            use_alone(format, &mut disks, &[winner as u64, 1 - winner as u64], 2);
            let (own, _) = states(format, &disks, &[1 - winner as u64, winner as u64]);
            assert_eq!(own, [DiskState::Failed, DiskState::Online]);
            let all = |disk: &Disk| {
                disk.runs()
                    .map(|(at, bytes)| (at, bytes.to_vec()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(all(&before), all(&disks[1 - winner]));
        }
    }
}

/// As many events on both sides: the side that was written last, in whatever order they are read.
#[test]
fn of_halves_with_as_many_events_the_later_one_counts() {
    for format in ALL {
        for last in [0, 1] {
            let mut disks = made(format, Level::Raid1, None, 2);
            let copies = disks.clone();
            for (half, time) in [(1 - last, 20), (last, 30)] {
                let keyed = [(half as u64, &copies[half])];
                let mut set = open_keyed(format, &keyed).unwrap();
                let absent = set
                    .set()
                    .live_disks()
                    .find(|(_, disk)| disk.state == DiskState::Missing)
                    .map(|(index, _)| index);
                apply(
                    &mut set,
                    &mut disks,
                    &Event::DiskMissing(absent.unwrap()),
                    time,
                )
                .unwrap();
            }
            for order in [[0, 1], [1, 0]] {
                let (own, _) = states(format, &disks, &order);
                let of =
                    |disk: usize| own[order.iter().position(|&key| key == disk as u64).unwrap()];
                assert_eq!(of(last), DiskState::Online, "{:?}", format.0);
                assert_eq!(of(1 - last), DiskState::Failed, "{:?}", format.0);
            }
        }
    }
}

/// Halves of several members, each of which is all there without the other one.
#[test]
fn halves_of_several_members() {
    for format in ALL {
        for (level, layout, halves) in [
            (Level::Raid10, Some(Layout::Near(2)), [[0, 2], [1, 3]]),
            (Level::Raid6, None, [[0, 1], [2, 3]]),
        ] {
            let mut disks = made(format, level, layout, 4);
            use_alone(format, &mut disks, &halves[0], 1);
            use_alone(format, &mut disks, &halves[1], 3);
            let order = [halves[0][0], halves[1][0], halves[0][1], halves[1][1]];
            let (own, _) = states(format, &disks, &order);
            let (left, used) = (DiskState::Failed, DiskState::Online);
            assert_eq!(own, [left, used, left, used], "{:?} {level}", format.0);
        }
    }
}

/// One half got another disk in the place of the other half, and is away now but for that.
#[test]
fn a_half_is_known_by_who_was_filled_from_it() {
    for format in ALL {
        let mut disks = made(format, Level::Raid1, None, 2);
        use_alone(format, &mut disks, &[1], 1);
        let copies = disks.clone();
        let mut set = open_keyed(format, &[(0, &copies[0])]).unwrap();
        let absent = set
            .set()
            .live_disks()
            .find(|(_, disk)| disk.state == DiskState::Missing)
            .map(|(index, _)| index);
        apply(
            &mut set,
            &mut disks,
            &Event::DiskMissing(absent.unwrap()),
            20,
        )
        .unwrap();
        replace(&mut set, &mut disks, &copies[2]);
        for event in [Event::Dirty(0), Event::Clean(0)] {
            apply(&mut set, &mut disks, &event, 22).unwrap();
        }
        let (own, _) = states(format, &disks, &[2, 1]);
        assert_eq!(
            own,
            [DiskState::Online, DiskState::Failed],
            "{:?}",
            format.0
        );
    }
}

/// Who is left out and did not go on by itself is old, and taken back: also when it was replaced and all others are away
/// but the one that has its place.
#[test]
fn who_was_left_out_is_old() {
    for format in ALL {
        let mut disks = made(format, Level::Raid1, None, 2);
        use_alone(format, &mut disks, &[0], 1);
        assert_eq!(states(format, &disks, &[0, 1]).0[1], DiskState::Stale);
        assert_eq!(states(format, &disks, &[1, 0]).0[0], DiskState::Stale);
        let copies = disks.clone();
        let mut set = open_keyed(format, &[(0, &copies[0])]).unwrap();
        replace(&mut set, &mut disks, &copies[2]);
        let (own, _) = states(format, &disks, &[2, 1]);
        assert_eq!(own, [DiskState::Online, DiskState::Stale], "{:?}", format.0);
    }
}

/// A person may have the half filled that does not count: it is a disk that failed, and may come back.
#[test]
fn a_person_may_take_it_back() {
    for format in ALL {
        let mut disks = made(format, Level::Raid1, None, 2);
        use_alone(format, &mut disks, &[0], 3);
        use_alone(format, &mut disks, &[1], 1);
        let copies = disks.clone();
        let mut set = open_keyed(format, &[(0, &copies[0]), (1, &copies[1])]).unwrap();
        let notes: Vec<_> = set.set().notes.iter().map(|note| note.as_str()).collect();
        assert!(
            notes.iter().any(|note| note.contains("used apart")),
            "{notes:?}"
        );
        let disk = set.set().disk_by_key(1).unwrap();
        let slot = 1;
        for event in [
            Event::DiskReturned(disk, facts(&copies[1], 1)),
            Event::SpareActivated {
                volume: 0,
                slot,
                disk,
            },
            Event::RebuildDone { volume: 0, slot },
        ] {
            apply(&mut set, &mut disks, &event, 40).unwrap();
        }
        let (_, members) = states(format, &disks, &[0, 1]);
        assert_eq!(members, [MemberState::InSync; 2]);
    }
}

/// The half that counts is deleted so that the other one can be used: that one keeps all that it has. (Whoever takes it out of
/// the array by itself means it.)
#[test]
fn a_deleted_array_takes_no_half_along_that_was_used_apart() {
    for format in ALL {
        let mut disks = made(format, Level::Raid1, None, 2);
        use_alone(format, &mut disks, &[0], 1);
        use_alone(format, &mut disks, &[1], 4);
        for removes in [false, true] {
            let mut disks = disks.clone();
            let copies = disks.clone();
            let keyed = [(0, &copies[0]), (1, &copies[1])];
            let mut set = open_keyed(format, &keyed).unwrap();
            let of = |set: &MdSet, key| set.set().disk_by_key(key).unwrap();
            let (apart, other) = (of(&set, 0), of(&set, 1));
            if removes {
                apply(&mut set, &mut disks, &Event::DiskRemoved(apart), 40).unwrap();
            }
            apply(&mut set, &mut disks, &Event::VolumeDeleted(0), 41).unwrap();
            for disk in [apart, other].into_iter().skip(usize::from(removes)) {
                apply(&mut set, &mut disks, &Event::DiskRemoved(disk), 42).unwrap();
            }
            assert!(open_keyed(format, &[(1, &disks[1])]).is_err());
            let left = open_keyed(format, &[(0, &disks[0])]);
            assert_eq!(left.is_err(), removes, "{:?}", format.0);
            if let Ok(left) = left {
                assert!(left.is_whole());
                assert_eq!(left.set().volumes[0].members[0].state, MemberState::InSync);
            }
        }
    }
}
