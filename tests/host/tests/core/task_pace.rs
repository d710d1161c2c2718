// SPDX-License-Identifier: GPL-2.0

//! The limits of rate of a task, over minutes of a made-up clock.

use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::pace::{Pace, Rates, Speed};
use emd_core::personalities::walk::{Share, Walk};
use emd_core::personalities::{Geometry, Mask};
use proptest::prelude::*;

/// Ticks of a second.
const SECOND: u64 = 250;

/// Ticks after which a task that rests looks again.
const LOOK: u64 = 5;

/// Lets a task send lanes of `lane` sectors for `ticks`, as many at a tick as it may (when users are busy,
/// while it goes gently: none). Gives the sectors sent.
fn run(pace: &mut Pace, from: u64, ticks: u64, rates: Rates, lane: u32, is_busy: bool) -> u64 {
    let mut sent = 0;
    let mut now = 0;
    while now < ticks {
        // Members are not faster than this.
        for _ in 0..100 {
            if pace.speed(from.wrapping_add(now), SECOND, rates, is_busy) != Speed::Full {
                break;
            }
            pace.count(lane, Share::WHOLE);
            sent += u64::from(lane);
        }
        now += LOOK;
    }
    sent
}

fn rates(min_kib: u32, max_kib: u32) -> Rates {
    Rates { min_kib, max_kib }
}

/// An array's own limits, those for all, the usual ones: each counts where those before it say nothing.
#[test]
fn a_limit_that_is_not_given_is_the_next_best() {
    let in_force = |own: Rates, general: Rates| own.or(general).or(Rates::USUAL);
    let usual = Rates::USUAL.min_kib;
    assert!(usual > 0);
    for (own, general, counts) in [
        (rates(0, 0), rates(0, 0), rates(usual, 0)),
        (rates(0, 0), rates(0, 50), rates(usual, 50)),
        (rates(0, 7), rates(5, 50), rates(5, 7)),
        (rates(3, 0), rates(5, 50), rates(3, 50)),
        (rates(3, 7), rates(5, 50), rates(3, 7)),
    ] {
        assert_eq!(in_force(own, general), counts, "{own:?} {general:?}");
    }
}

#[test]
fn less_than_a_lane_a_second_is_kept() {
    // A lane of 64 KiB takes 6.4 s at 10 KiB/s.
    let mut pace = Pace::new(0);
    let sent = run(&mut pace, 0, 64 * SECOND, rates(0, 10), 128, false);
    assert_eq!(sent, 10 * 128);
}

#[test]
fn what_was_sent_without_a_limit_is_not_owed() {
    let mut pace = Pace::new(0);
    let free = run(&mut pace, 0, SECOND / 2, rates(0, 0), 128, false);
    assert!(free > 100_000, "{free}");
    let sent = run(&mut pace, SECOND / 2, 64 * SECOND, rates(0, 10), 128, false);
    assert_eq!(sent, 10 * 128);
    // And what was owed under one is not under the next.
    let sent = run(&mut pace, 65 * SECOND, SECOND, rates(0, 6400), 128, false);
    assert!(sent > 11_000, "{sent}");
}

#[test]
fn busy_users_leave_it_its_least() {
    let mut pace = Pace::new(0);
    // Quiet for long, and fast: that is not held against it.
    run(&mut pace, 0, 10 * SECOND, rates(1000, 0), 128, false);
    let sent = run(
        &mut pace,
        10 * SECOND,
        10 * SECOND,
        rates(1000, 0),
        128,
        true,
    );
    assert!((20_000..23_000).contains(&sent), "{sent}");
}

/// Whatever lanes are: with a limit of 100 KiB/s of each member, each has 1000 KiB done after ten seconds.
#[test]
fn limits_are_of_each_member() {
    let parity = Layout::Parity(Rotation::LeftSymmetric);
    let two = Mask::single(1).with(6);
    let near = Layout::Near(2);
    for (level, layout, spans, targets) in [
        (Level::Raid5, parity, 1, Mask::EMPTY),
        (Level::Raid5, parity, 1, Mask::single(1)),
        (Level::Raid5, parity, 2, Mask::EMPTY),
        // One span has lanes, then both.
        (Level::Raid5, parity, 2, Mask::single(6)),
        (Level::Raid5, parity, 2, two),
        (Level::Raid10, near, 1, Mask::EMPTY),
        (Level::Raid10, Layout::Offset(3), 1, Mask::EMPTY),
        (Level::Raid10, near, 1, Mask::single(1)),
        (Level::Raid10, near, 1, two),
        (Level::Raid1, Layout::Plain, 1, Mask::EMPTY),
    ] {
        let shape = Shape {
            level,
            layout,
            members: 8 / spans,
            spans,
            chunk_sectors: if level == Level::Raid1 { 0 } else { 16 },
            member_sectors: 64_000,
        };
        // No more than any of these holds.
        let geometry = Geometry::new(&shape, 64_000).expect("a volume");
        let walk = Walk::new(&geometry, targets, 16);
        let mut pace = Pace::new(0);
        let mut lane = 0;
        for now in 0..10 * SECOND {
            while pace.speed(now, SECOND, rates(0, 100), false) == Speed::Full {
                if let Some(range) = walk.lane(lane) {
                    pace.count(range.sectors, walk.share());
                }
                lane += 1;
            }
        }
        let done = walk.of_each_member(walk.mark(lane));
        assert!(
            (1900..2200).contains(&done),
            "{level} {spans} {targets:?}: {done}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_upper_limit_is_kept_and_used(
        max in 1u32..100_000,
        lane in 1u32..1024,
        seconds in 1u64..60,
        start in any::<u64>(),
        is_busy in any::<bool>(),
    ) {
        let mut pace = Pace::new(start);
        let sent = run(&mut pace, start, seconds * SECOND, rates(max, max), lane, is_busy);
        let budget = u64::from(max) * 2 * seconds;
        // A lane more than it pays for, and the tick ahead of each second.
        let ahead = u64::from(lane) + u64::from(max) * 2 / SECOND + 1;
        prop_assert!(sent <= budget + ahead, "{sent} of {budget}");
        // Unless members are slower.
        let able = seconds * SECOND / LOOK * 100 * u64::from(lane);
        // What is not used when a second ends is lost: at most what one look is late.
        let lost = (u64::from(max) * 2 / SECOND + 1) * LOOK * (seconds + 1);
        prop_assert!(sent + lost + u64::from(lane) >= budget.min(able) * 9 / 10, "{sent} of {budget}");
    }
}
