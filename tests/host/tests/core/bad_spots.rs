// SPDX-License-Identifier: GPL-2.0

//! Bad ranges of an array in memory: what is bad, and what has to be recorded of it.

use emd_core::model::{BadRange, Event, Member, MemberState};
use emd_core::personalities::bad::{BadChange, BadSpot, BadSpots, Noted};
use emd_core::personalities::Mask;

fn spot(slot: u16, first: u64, sectors: u64) -> BadSpot {
    BadSpot {
        slot,
        first,
        sectors,
    }
}

/// Sectors of a slot below 64 that are bad.
fn bad(spots: &BadSpots, slot: u16) -> Vec<u64> {
    let sectors = 0..64;
    sectors
        .filter(|&first| spots.has(&spot(slot, first, 1)))
        .collect()
}

fn changes(spots: &mut BadSpots) -> Vec<BadChange> {
    let mut all = Vec::new();
    while let Some(change) = spots.change() {
        all.push(change);
        assert_eq!(spots.change_recorded(), spots.change().is_none());
    }
    all
}

#[test]
fn what_is_added_is_bad_until_it_is_cleared() {
    let mut spots = BadSpots::new(&[spot(1, 8, 4)], Mask::EMPTY).unwrap();
    for spot in [spot(0, 8, 1), spot(0, 9, 1), spot(0, 20, 2)] {
        assert_eq!(spots.add(spot), Noted::Done);
    }
    assert_eq!(bad(&spots, 0), [8, 9, 20, 21]);
    assert_eq!(bad(&spots, 1), [8, 9, 10, 11]);
    assert_eq!(spots.len(), 3, "neighbours are one");
    // Out of the middle, over several, and where nothing is.
    assert_eq!(spots.clear(spot(1, 9, 1)), Noted::Done);
    assert_eq!(spots.clear(spot(0, 9, 12)), Noted::Done);
    assert_eq!(bad(&spots, 0), [8, 21]);
    assert_eq!(bad(&spots, 1), [8, 10, 11]);
    spots.forget(1);
    assert_eq!((bad(&spots, 0), bad(&spots, 1)), (vec![8, 21], vec![]));
    spots.forget(0);
    assert!(spots.is_empty());
}

#[test]
fn changes_are_told_once_and_in_order() {
    let mut spots = BadSpots::new(&[spot(1, 8, 4)], Mask::EMPTY).unwrap();
    assert_eq!(changes(&mut spots), [], "what was on record is");
    assert_eq!(spots.add(spot(1, 9, 2)), Noted::Done, "known");
    assert_eq!(spots.add(spot(0, 3, 1)), Noted::Done);
    assert_eq!(spots.clear(spot(1, 8, 1)), Noted::Done);
    assert_eq!(
        changes(&mut spots),
        [
            BadChange::Added(spot(0, 3, 1)),
            BadChange::Cleared(spot(1, 8, 1))
        ]
    );
}

/// Who changes more than can be kept hears of it, and nothing is lost.
#[test]
fn there_is_an_end_to_it() {
    let mut spots = BadSpots::new(&[], Mask::EMPTY).unwrap();
    let taken = (0..2000)
        .take_while(|&n| spots.add(spot(0, 2 * n, 1)) == Noted::Done)
        .count();
    assert!((100..2000).contains(&taken), "{taken}");
    assert_eq!(spots.len(), taken);
    assert_eq!(spots.clear(spot(0, 0, 1)), Noted::Later);
    assert!(spots.has(&spot(0, 0, 1)));
    assert!(!spots.change_recorded());
    assert_eq!(spots.clear(spot(0, 0, 1)), Noted::Done);

    // As much as waits to be recorded, and then as much as there may be at all.
    assert_eq!(spots.add(spot(1, 0, 1)), Noted::Later);
    assert!(!spots.has(&spot(1, 0, 1)));
    while !spots.change_recorded() {}
    let mut next = 0;
    let end = loop {
        match spots.add(spot(1, 2 * next, 1)) {
            Noted::Done => next += 1,
            Noted::Later => assert!(!spots.change_recorded()),
            Noted::NoRoom => break next,
        }
    };
    assert!(spots.has(&spot(1, 2 * (end - 1), 1)) && !spots.has(&spot(1, 2 * end, 1)));
    while !spots.change_recorded() {}
    assert_eq!(spots.add(spot(1, 2 * end, 1)), Noted::NoRoom);
}

/// A range of 1 MiB that a rebuild leaves, and then a write heals, block by block in 16 lanes, which are at work at the same
/// time on two members.
#[test]
fn what_is_met_with_in_pieces_is_recorded_in_few() {
    let mut spots = BadSpots::new(&[], Mask::EMPTY).unwrap();
    for is_added in [true, false] {
        for block in 0..128 {
            for lane in 0..16 {
                for slot in 0..2 {
                    let spot = spot(slot, lane * 128 + block, 1);
                    match is_added {
                        true => {
                            assert_eq!(spots.add(spot), Noted::Done, "block {block} of lane {lane}")
                        }
                        false => assert_eq!(spots.clear(spot), Noted::Done, "{spot:?}"),
                    }
                }
            }
        }
        assert_eq!(spots.is_empty(), !is_added);
        let changes = changes(&mut spots);
        assert!(changes.len() <= 2 * 16 + 1, "{changes:?}");
        let mut recorded = vec![[false; 2048]; 2];
        for change in changes {
            assert_eq!(matches!(change, BadChange::Added(_)), is_added);
            let (BadChange::Added(spot) | BadChange::Cleared(spot)) = change;
            for sector in spot.first..spot.first + spot.sectors {
                recorded[usize::from(spot.slot)][sector as usize] = true;
            }
        }
        assert!(recorded.iter().flatten().all(|&it| it));
    }
}

/// What is on its way into the metadata does not change, and nothing gets ahead of what became bad in between.
#[test]
fn what_is_cleared_is_not_joined_across_what_became_bad() {
    let mut spots = BadSpots::new(&[spot(0, 0, 32), spot(1, 0, 8)], Mask::EMPTY).unwrap();
    for first in [0, 8] {
        assert_eq!(spots.clear(spot(0, first, 8)), Noted::Done);
    }
    assert_eq!(spots.add(spot(0, 8, 8)), Noted::Done);
    assert_eq!(spots.clear(spot(0, 16, 8)), Noted::Done);
    assert_eq!(spots.clear(spot(1, 0, 8)), Noted::Done);
    assert_eq!(spots.clear(spot(0, 8, 8)), Noted::Done);
    assert_eq!(bad(&spots, 0), (24..32).collect::<Vec<_>>());
    assert_eq!(
        changes(&mut spots),
        [
            BadChange::Cleared(spot(0, 0, 8)),
            BadChange::Cleared(spot(0, 8, 8)),
            BadChange::Added(spot(0, 8, 8)),
            BadChange::Cleared(spot(0, 8, 16)),
            BadChange::Cleared(spot(1, 0, 8)),
        ]
    );
}

/// What was written and then not flushed is bad again, and what is written there once more is a change again.
#[test]
fn what_did_not_get_to_the_medium_is_bad_as_before() {
    let mut spots = BadSpots::new(&[spot(0, 8, 4)], Mask::EMPTY).unwrap();
    assert_eq!(spots.clear(spot(0, 8, 2)), Noted::Done);
    assert_eq!(bad(&spots, 0), [10, 11]);
    assert!(spots.change_failed());
    assert_eq!(bad(&spots, 0), [8, 9, 10, 11]);
    assert_eq!(spots.unkept_from(0), Some(8));
    assert_eq!(spots.change(), None);
    assert_eq!(spots.clear(spot(0, 8, 4)), Noted::Done);
    assert!(spots.is_empty());
    assert_eq!(spots.change(), Some(BadChange::Cleared(spot(0, 8, 4))));
}

/// As much as there may be at all, recorded: ranges of two sectors, 0, 4, 8 ... of slot 1.
fn full() -> (BadSpots, u64) {
    let mut spots = BadSpots::new(&[], Mask::EMPTY).unwrap();
    for n in 0.. {
        match spots.add(spot(1, 4 * n, 2)) {
            Noted::Done => assert!(spots.change_recorded()),
            end => {
                assert_eq!(end, Noted::NoRoom);
                return (spots, n);
            }
        }
    }
    unreachable!()
}

/// A rebuild meets as much as there is room for, while it is not known whether what a write took out can be recorded.
#[test]
fn room_is_kept_for_what_is_put_in_again() {
    let (mut spots, count) = full();
    for n in [3, 7] {
        assert_eq!(spots.clear(spot(1, 4 * n, 2)), Noted::Done);
    }
    for n in [count, count + 1] {
        assert_eq!(spots.add(spot(1, 4 * n, 2)), Noted::Later);
    }
    assert!(!spots.change_failed());
    assert!(spots.has(&spot(1, 12, 1)) && spots.has(&spot(1, 13, 1)));
    assert!(!spots.has(&spot(1, 28, 2)));
    // The other one is good.
    assert!(spots.change_recorded());
    assert_eq!(spots.add(spot(1, 4 * count, 2)), Noted::Done);
    assert_eq!(spots.add(spot(1, 4 * count + 4, 2)), Noted::NoRoom);
    assert!(spots.has(&spot(1, 12, 1)) && spots.has(&spot(1, 4 * count, 1)));
}

#[test]
fn what_was_taken_off_a_range_is_put_in_again_though_there_is_no_room() {
    let (mut spots, _) = full();
    assert_eq!(spots.clear(spot(1, 40, 1)), Noted::Done);
    assert!(!spots.has(&spot(1, 40, 1)));
    assert_eq!(spots.clear(spot(1, 41, 1)), Noted::Later);
    assert_eq!(spots.clear(spot(1, 80, 1)), Noted::Later);
    assert!(spots.change_failed());
    assert!(spots.has(&spot(1, 40, 1)) && spots.has(&spot(1, 41, 1)));
    assert_eq!(spots.unkept_from(1), Some(40));
    assert_eq!(spots.clear(spot(1, 80, 1)), Noted::Done);
    assert!(spots.change_recorded());
    assert!(!spots.has(&spot(1, 80, 1)) && spots.has(&spot(1, 81, 1)));
}

#[test]
fn a_change_is_recorded_of_the_disk_that_is_there() {
    let members = [
        Member {
            disk: Some(7),
            offset_sectors: 2048,
            state: MemberState::InSync,
        },
        Member {
            disk: None,
            offset_sectors: 0,
            state: MemberState::Missing,
        },
    ];
    let range = BadRange {
        disk: 7,
        sector: 2051,
        sectors: 2,
    };
    let event = |change: BadChange| change.event(&members);
    assert!(matches!(
        event(BadChange::Added(spot(0, 3, 2))),
        Some(Event::BadRangeAdded(found)) if found == range
    ));
    assert!(matches!(
        event(BadChange::Cleared(spot(0, 3, 2))),
        Some(Event::BadRangeCleared(found)) if found == range
    ));
    assert!(event(BadChange::Added(spot(1, 3, 2))).is_none());
    assert!(event(BadChange::Added(spot(2, 3, 2))).is_none());
}

/// What was on record before a restart, on a member whose metadata others read who know nothing of it: it is bad, and a
/// rebuild that comes by there again does not count as done.
#[test]
fn what_does_not_count_as_kept_is_not_after_a_restart() {
    let known = [spot(0, 4, 4), spot(1, 8, 4), spot(1, 20, 4), spot(2, 0, 1)];
    let mut spots = BadSpots::new(&known, Mask::single(1)).unwrap();
    assert_eq!(spots.unkept_from(0), None);
    assert_eq!(spots.unkept_from(1), Some(8));
    assert_eq!(spots.unkept_from(2), None);
    // The rebuild meets it once more.
    assert_eq!(spots.add(spot(1, 8, 4)), Noted::Done);
    assert_eq!(spots.add(spot(0, 5, 1)), Noted::Done);
    assert_eq!(spots.change(), None, "it is on record");
    assert_eq!(spots.unkept_from(1), Some(8));
    // Written, a part first.
    assert_eq!(spots.clear(spot(1, 8, 2)), Noted::Done);
    assert_eq!(spots.unkept_from(1), Some(10));
    assert_eq!(spots.clear(spot(1, 10, 2)), Noted::Done);
    assert_eq!(spots.unkept_from(1), Some(20));
    assert_eq!(spots.clear(spot(1, 18, 8)), Noted::Done);
    assert_eq!(spots.unkept_from(1), None);
    assert_eq!(spots.unkept_from(0), None);
}
