// SPDX-License-Identifier: GPL-2.0

//! Places that did not agree, and those that are to be written again.

use emd_core::personalities::choice::Choice;
use emd_core::personalities::ranges::{Ranges, SyncRange, ToRepair};
use proptest::prelude::*;

/// Ranges that are kept.
const KEPT: u64 = 256;

fn place(first: u64, sectors: u64) -> SyncRange {
    SyncRange {
        first,
        sectors,
        fixed: None,
    }
}

/// Where a task comes by that goes from sector to sector, up to 10,000.
fn visited(places: &ToRepair) -> Vec<u64> {
    let mut all = Vec::new();
    let mut mark = 0;
    while let Some(next) = places.next(mark).filter(|&next| next < 10_000) {
        all.push(next);
        mark = next + 1;
    }
    all
}

#[test]
fn neighbours_are_no_news_and_there_is_an_end_to_it() {
    let mut ranges = Ranges::new().unwrap();
    assert!(ranges.add(place(8, 8)));
    assert!(!ranges.add(place(16, 8)));
    assert!(!ranges.add(place(0, 8)));
    for n in 1..KEPT {
        assert!(ranges.add(place(100 * n, 8)));
    }
    let mut room = Ranges::room().unwrap();
    assert!(!ranges.copy_to(&mut room));
    assert_eq!((room.len() as u64, room[0]), (KEPT, place(0, 24)));
    assert!(ranges.add(place(100 * KEPT, 8)));
    assert!(!ranges.add(place(100 * KEPT + 8, 8)), "of one beyond");
    let mut room = Ranges::room().unwrap();
    assert!(ranges.copy_to(&mut room));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever is found in whatever order: what is listed was found, what was found is listed as long as there was room, and no
    /// range touches one that was put right alike as it is added.
    #[test]
    fn what_is_listed_is_what_was_found(found in proptest::collection::vec((0..3_000u64, 1..4u64, 0..3u16), 1..700)) {
        let mut ranges = Ranges::new().unwrap();
        let mut all = [[false; 3_010]; 3];
        let mut news = 0;
        for &(first, sectors, slot) in &found {
            let mut range = place(first, sectors);
            range.fixed = Some((slot, Choice::Syndromes)).filter(|_| slot > 0);
            let known = &mut all[usize::from(slot)];
            let (from, end) = (first as usize, (first + sectors) as usize);
            let touches = known[from.saturating_sub(1)..=end].contains(&true);
            known[from..end].fill(true);
            let is_news = ranges.add(range);
            // Beside what there was no room for it may be told of again.
            prop_assert!(!is_news || !touches || news >= KEPT);
            prop_assert!(is_news || touches, "nothing is near {range:?}");
            news += u64::from(is_news);
        }
        let mut room = Ranges::room().unwrap();
        let lost_some = ranges.copy_to(&mut room);
        prop_assert_eq!(lost_some, news > KEPT);
        prop_assert_eq!(room.len() as u64, news.min(KEPT));
        let mut listed = [[false; 3_010]; 3];
        for range in room.iter() {
            let slot = range.fixed.map_or(0, |(slot, _)| slot);
            listed[usize::from(slot)][range.first as usize..(range.first + range.sectors) as usize].fill(true);
        }
        for (listed, all) in listed.iter().zip(&all) {
            let is_found = listed.iter().zip(all).all(|(&listed, &found)| found || !listed);
            prop_assert!(is_found, "it lists what was not found");
            prop_assert!(lost_some || listed == all, "it forgot some");
        }
    }
}

#[test]
fn a_task_comes_by_each_place_once() {
    let mut places = ToRepair::new().unwrap();
    assert!(!places.is_wanted());
    places.want(place(20, 2));
    places.want(place(10, 1));
    assert!(places.is_wanted());
    places.begin();
    assert!(!places.is_wanted());
    assert_eq!(visited(&places), [10, 20, 21]);
    places.end();
    assert!(!places.is_wanted());
    assert_eq!(visited(&places), []);
}

/// Reads that fail while a task waits for the last repairs in lanes may not repair any more, and the task has passed
/// their places.
#[test]
fn what_comes_up_at_the_end_of_a_task_is_for_the_next_one() {
    let mut places = ToRepair::new().unwrap();
    places.want(place(20, 1));
    places.begin();
    assert_eq!(places.next(0), Some(20));
    assert_eq!(places.next(21), None);
    places.want(place(5, 1));
    places.end();
    assert!(places.is_wanted());
    places.begin();
    assert!(visited(&places).contains(&5));
    places.end();
    assert!(!places.is_wanted());
    assert_eq!(visited(&places), []);
}

/// More places than are kept: a task goes over all that is between the others.
#[test]
fn places_without_room_are_not_left_out() {
    let mut places = ToRepair::new().unwrap();
    for n in 0..KEPT {
        places.want(place(10 * n, 1));
    }
    for first in [6005, 6001, 6009] {
        places.want(place(first, 1));
    }
    places.begin();
    let visited_now = visited(&places);
    for first in (0..KEPT).map(|n| 10 * n).chain([6001, 6005, 6009]) {
        assert!(visited_now.contains(&first), "{first}");
    }
    assert_eq!(visited_now.len() as u64, KEPT + 9);
    places.end();
    assert_eq!(visited(&places), []);
}
