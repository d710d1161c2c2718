// SPDX-License-Identifier: GPL-2.0

//! Places that did not agree, and those that are to be written again.

use emd_core::personalities::choice::Choice;
use emd_core::personalities::ranges::{
    much_room, room, PageStart, Ranges, SyncRange, ToRepair, RANGES_MAX,
};
use proptest::prelude::*;

/// Ranges that are kept when no task has brought room for more.
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

/// All that is listed, page by page, and whether there were more.
fn listed(ranges: &Ranges) -> (Vec<SyncRange>, bool) {
    let (mut all, mut start) = (Vec::new(), PageStart::default());
    loop {
        let mut page = room(100).unwrap();
        let end = ranges.page(start, &mut page);
        all.extend(page.iter());
        if end.left == 0 {
            return (all, end.lost_some);
        }
        start = end.next;
    }
}

/// The same of ranges that are to be apart and in order.
fn apart(ranges: &Ranges) -> (Vec<SyncRange>, bool) {
    let (all, lost_some) = listed(ranges);
    assert!(all.is_sorted_by_key(|range| range.first), "out of order");
    for (nth, range) in all.iter().enumerate() {
        for other in all.iter().skip(nth + 1) {
            assert!(!are_one(range, other), "{range:?} and {other:?}");
        }
    }
    (all, lost_some)
}

fn end(range: &SyncRange) -> u64 {
    range.first + range.sectors
}

fn are_one(one: &SyncRange, other: &SyncRange) -> bool {
    one.fixed == other.fixed && one.first <= end(other) && other.first <= end(one)
}

/// Ranges with room for many.
fn roomy(count: usize) -> Ranges {
    let mut ranges = Ranges::new().unwrap();
    let unused = ranges.clear_into(room(count).unwrap());
    assert_eq!((unused.capacity(), ranges.capacity()), (0, count));
    ranges
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
    let (list, lost_some) = apart(&ranges);
    assert!(!lost_some);
    assert_eq!((list.len() as u64, list[0]), (KEPT, place(0, 24)));
    assert!(ranges.add(place(100 * KEPT, 8)));
    assert!(!ranges.add(place(100 * KEPT + 8, 8)), "of one beyond");
    assert!(listed(&ranges).1);
    // There is room for one more, which is beside one that was lost.
    assert!(!ranges.add(place(24, 76)), "between two, now one");
    assert!(!ranges.add(place(100 * KEPT + 16, 8)));
    let (list, lost_some) = apart(&ranges);
    assert!(lost_some);
    assert_eq!((list.len() as u64, list[0]), (KEPT, place(0, 108)));
    assert_eq!(list.last(), Some(&place(100 * KEPT + 16, 8)));
}

#[test]
fn one_that_bridges_two_makes_them_one() {
    let mut ranges = Ranges::new().unwrap();
    for first in [0, 16, 32, 48] {
        assert!(ranges.add(place(first, 8)));
    }
    let mut other = place(20, 2);
    other.fixed = Some((3, Choice::Syndromes));
    assert!(ranges.add(other), "put right in another way");
    assert!(!ranges.add(place(8, 8)));
    assert_eq!(
        listed(&ranges).0,
        [place(0, 24), other, place(32, 8), place(48, 8)]
    );
    assert!(!ranges.add(place(4, 50)));
    assert_eq!(listed(&ranges).0, [place(0, 56), other]);
}

/// What a check of an array finds in which every second lane differs, 32 lanes being on the way, and all are kept.
#[test]
fn all_places_are_kept_of_a_check() {
    let mut ranges = Ranges::new().unwrap();
    assert_eq!(ranges.clear_into(much_room()).capacity(), 0);
    assert_eq!(ranges.capacity(), RANGES_MAX);
    let count = RANGES_MAX as u64;
    for window in 0..count / 32 {
        for n in 0..32 {
            // 11 and 32 have no common factor.
            let lane = 32 * window + n * 11 % 32;
            assert!(ranges.add(place(256 * lane, 128)));
        }
    }
    let (list, lost_some) = listed(&ranges);
    assert!(!lost_some);
    assert_eq!(list.len(), RANGES_MAX);
    let all = (0..count).map(|lane| place(256 * lane, 128));
    assert!(list.into_iter().eq(all));
    assert!(ranges.add(place(256 * count, 128)));
    assert!(listed(&ranges).1, "one more than there is room for");
    assert!(!ranges.add(place(128, 128)), "known on both sides");
    assert!(ranges.add(place(512 * count, 128)));
    assert_eq!(listed(&ranges).0.last(), Some(&place(512 * count, 128)));
}

/// A span is put right in one way from end to end, the other one in another way here and there.
#[test]
fn one_that_goes_on_beside_many_is_listed_as_a_whole() {
    let mut ranges = roomy(10_000);
    let mut goes_on = place(0, 128);
    goes_on.fixed = Some((1, Choice::Syndromes));
    let mut news = 0;
    for lane in 0..4_000 {
        goes_on.first = 128 * lane;
        news += u64::from(ranges.add(goes_on));
        for n in 0..2 {
            assert!(ranges.add(place(128 * lane + 64 * n, 8)));
        }
    }
    assert!(news <= 1 + 2 * 4_000 / 500, "told of {news} times");
    let (list, lost_some) = listed(&ranges);
    assert!(!lost_some);
    let (long, short): (Vec<SyncRange>, Vec<SyncRange>) =
        list.iter().partition(|range| range.fixed.is_some());
    assert_eq!(long.len() as u64, news);
    assert_eq!(
        (long[0].first, end(&long[long.len() - 1])),
        (0, 128 * 4_000)
    );
    assert!(long.windows(2).all(|pair| end(&pair[0]) == pair[1].first));
    assert_eq!(short.len(), 8_000);
}

#[test]
fn room_for_many_is_given_back() {
    let mut ranges = Ranges::new().unwrap();
    assert_eq!(ranges.capacity() as u64, KEPT);
    assert_eq!(ranges.give_back().capacity(), 0, "there is none");
    assert_eq!(ranges.clear_into(much_room()).capacity(), 0);
    // The next check has what this one had.
    assert_eq!(ranges.clear_into(room(1000).unwrap()).capacity(), 1000);
    assert_eq!(ranges.capacity(), RANGES_MAX);
    for n in 0..=KEPT {
        ranges.add(place(100 * n, 8));
    }
    assert_eq!(ranges.give_back().capacity(), 0, "it is needed");
    assert!(!ranges.add(place(8, 92)), "as many as the few, now");
    let before = listed(&ranges);
    assert_eq!(before.0.len() as u64, KEPT);
    assert_eq!(ranges.give_back().capacity(), RANGES_MAX);
    assert_eq!(listed(&ranges), before);
    assert_eq!(ranges.capacity() as u64, KEPT);
    // More than before, and more again.
    assert_eq!(ranges.clear_into(room(1000).unwrap()).capacity(), 0);
    assert_eq!(ranges.clear_into(room(2000).unwrap()).capacity(), 1000);
    assert_eq!((listed(&ranges).0.len(), ranges.capacity()), (0, 2000));
    assert_eq!(ranges.clear().capacity(), 2000);
    assert_eq!(ranges.clear().capacity(), 0);
    assert_eq!(ranges.capacity() as u64, KEPT);
}

#[test]
fn without_memory_there_is_room_for_the_few() {
    let mut ranges = Ranges::new().unwrap();
    kernel::alloc::grant(0);
    let room = much_room();
    kernel::alloc::grant(usize::MAX);
    assert_eq!(room.capacity(), 0);
    assert_eq!(ranges.clear_into(room).capacity(), 0);
    for n in 0..KEPT {
        assert!(ranges.add(place(100 * n, 8)));
    }
    assert!(!listed(&ranges).1);
    assert!(ranges.add(place(100 * KEPT, 8)));
    assert!(listed(&ranges).1);
}

/// What a list of ranges is to be, however slow.
#[derive(Default)]
struct Model {
    list: Vec<SyncRange>,
    lost_some: bool,
    beyond: Option<SyncRange>,
}

impl Model {
    fn add(&mut self, mut range: SyncRange) -> bool {
        let mut is_news = true;
        while let Some(nth) = self.list.iter().position(|known| are_one(known, &range)) {
            let known = self.list.swap_remove(nth);
            range.sectors = end(&range).max(end(&known)) - range.first.min(known.first);
            range.first = range.first.min(known.first);
            is_news = false;
        }
        let is_joined = !is_news;
        if let Some(beyond) = self.beyond.as_mut().filter(|_| !is_joined) {
            if are_one(beyond, &range) {
                let last = end(beyond).max(end(&range));
                beyond.first = beyond.first.min(range.first);
                beyond.sectors = last - beyond.first;
                is_news = false;
            }
        }
        if is_joined || (self.list.len() as u64) < KEPT {
            self.list.push(range);
        } else {
            self.lost_some = true;
            if is_news {
                self.beyond = Some(range);
            }
        }
        is_news
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever is found in whatever order: what is listed was found, what was found is listed as long as there was room, and no
    /// range touches one that was put right alike.
    #[test]
    fn what_is_listed_is_what_was_found(found in proptest::collection::vec((0..3_000u64, 1..4u64, 0..3u16), 1..900)) {
        let mut ranges = Ranges::new().unwrap();
        let mut model = Model::default();
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
            prop_assert_eq!(is_news, model.add(range));
            // Beside what there was no room for it may be told of again.
            prop_assert!(!is_news || !touches || news >= KEPT);
            prop_assert!(is_news || touches, "nothing is near {range:?}");
            news += u64::from(is_news);
        }
        let (list, lost_some) = apart(&ranges);
        prop_assert_eq!(lost_some, model.lost_some);
        prop_assert!(!lost_some || news > KEPT);
        let key = |range: &SyncRange| (range.first, range.fixed.map(|(slot, _)| slot));
        let mut sorted = list.clone();
        sorted.sort_by_key(key);
        model.list.sort_by_key(key);
        prop_assert_eq!(&sorted, &model.list);
        let mut listed = [[false; 3_010]; 3];
        for range in list.iter() {
            let slot = range.fixed.map_or(0, |(slot, _)| slot);
            listed[usize::from(slot)][range.first as usize..(range.first + range.sectors) as usize].fill(true);
        }
        for (listed, all) in listed.iter().zip(&all) {
            let is_found = listed.iter().zip(all).all(|(&listed, &found)| found || !listed);
            prop_assert!(is_found, "it lists what was not found");
            prop_assert!(lost_some || listed == all, "it forgot some");
        }
    }

    /// However long pages are, and whatever is found between them: what stays as it is, is in just one.
    #[test]
    fn pages_have_all(
        found in proptest::collection::vec(found_by_repair(), 1..300),
        lengths in proptest::collection::vec(1..9usize, 1..20),
        later in proptest::collection::vec(found_by_repair(), 0..40),
    ) {
        let mut ranges = roomy(1000);
        for &found in &found {
            ranges.add(found);
        }
        let before = listed(&ranges).0;
        prop_assert_eq!(&paged(&mut ranges, &lengths, &[]), &before);
        let all = paged(&mut ranges, &lengths, &later);
        let after = listed(&ranges).0;
        for stays in before.iter().filter(|range| after.contains(range)) {
            let times = all.iter().filter(|range| *range == stays).count();
            prop_assert_eq!(times, 1, "{:?}", stays);
        }
    }

    /// Whoever asks for pages may ask for any.
    #[test]
    fn any_page_may_be_asked_for(from_sector: u64, near in 0..400u64, from_order: u32, few in 0..5u32, most in 0..9usize) {
        let mut ranges = Ranges::new().unwrap();
        for n in 0..20 {
            ranges.add(place(16 * n, 8));
        }
        for (from_sector, from_order) in [(from_sector, from_order), (near, few), (near, from_order), (u64::MAX, u32::MAX)] {
            let mut page = room(most).unwrap();
            let start = PageStart { from_sector, from_order };
            let end = ranges.page(start, &mut page);
            prop_assert!(page.len() == most || end.left == 0);
            prop_assert!(page.iter().all(|range| range.first >= from_sector));
            let from = (0..20).filter(|n| 16 * n >= from_sector).count();
            let skipped = usize::from(from_sector % 16 == 0 && from_sector < 320 && from_order > 0);
            prop_assert_eq!(page.len() + end.left, from - skipped);
            prop_assert!(page.is_empty() || end.next > start);
        }
    }
}

/// Something that a repair finds, of four kinds; they overlap, as with spans.
fn found_by_repair() -> impl Strategy<Value = SyncRange> {
    (0..600u64, 1..4u64, 0..4u16).prop_map(|(first, sectors, slot)| SyncRange {
        first,
        sectors,
        fixed: Some((slot, Choice::Majority)).filter(|_| slot > 0),
    })
}

/// All pages, of these lengths again and again; after each something more is found.
fn paged(ranges: &mut Ranges, lengths: &[usize], later: &[SyncRange]) -> Vec<SyncRange> {
    let (mut all, mut start) = (Vec::new(), PageStart::default());
    let mut later = later.iter();
    for &length in lengths.iter().cycle() {
        let mut page = room(length).unwrap();
        let end = ranges.page(start, &mut page);
        assert!(page.len() == length || end.left == 0);
        all.extend(page.iter().copied());
        if end.left == 0 {
            break;
        }
        assert!(end.next > start);
        start = end.next;
        if let Some(&found) = later.next() {
            ranges.add(found);
        }
    }
    all
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
