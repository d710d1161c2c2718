// SPDX-License-Identifier: GPL-2.0

//! Bad ranges of an array in memory: what is bad, and what has to be recorded of it.

use emd_core::model::{BadRange, Event, Member, MemberState};
use emd_core::personalities::bad::{BadChange, BadSpot, BadSpots};

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
    let mut spots = BadSpots::new(&[spot(1, 8, 4)]).unwrap();
    assert!(spots.add(spot(0, 8, 1)) && spots.add(spot(0, 9, 1)) && spots.add(spot(0, 20, 2)));
    assert_eq!(bad(&spots, 0), [8, 9, 20, 21]);
    assert_eq!(bad(&spots, 1), [8, 9, 10, 11]);
    assert_eq!(spots.len(), 3, "neighbours are one");
    // Out of the middle, over several, and where nothing is.
    assert!(spots.clear(spot(1, 9, 1)) && spots.clear(spot(0, 9, 12)));
    assert_eq!(bad(&spots, 0), [8, 21]);
    assert_eq!(bad(&spots, 1), [8, 10, 11]);
    spots.forget(1);
    assert_eq!((bad(&spots, 0), bad(&spots, 1)), (vec![8, 21], vec![]));
    spots.forget(0);
    assert!(spots.is_empty());
}

#[test]
fn changes_are_told_once_and_in_order() {
    let mut spots = BadSpots::new(&[spot(1, 8, 4)]).unwrap();
    assert_eq!(changes(&mut spots), [], "what was on record is");
    assert!(spots.add(spot(1, 9, 2)), "known");
    assert!(spots.add(spot(0, 3, 1)) && spots.clear(spot(1, 8, 1)));
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
    let mut spots = BadSpots::new(&[]).unwrap();
    let taken = (0..2000)
        .take_while(|&n| spots.add(spot(0, 2 * n, 1)))
        .count();
    assert!((100..2000).contains(&taken), "{taken}");
    assert_eq!(spots.len(), taken);
    assert!(!spots.clear(spot(0, 0, 1)));
    assert!(spots.has(&spot(0, 0, 1)));
    assert!(!spots.change_recorded());
    assert!(spots.clear(spot(0, 0, 1)));
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
