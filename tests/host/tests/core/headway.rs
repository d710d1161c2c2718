// SPDX-License-Identifier: GPL-2.0

//! What people are told of a task: how fast it is, and how long it will take.

use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::headway::{Estimate, Headway};
use emd_core::personalities::pace::Rates;
use emd_core::personalities::walk::Walk;
use emd_core::personalities::{Geometry, Mask};

/// Ticks of a second.
const SECOND: u64 = 250;

/// A walk over a volume of four members of 4000 sectors each.
fn walk(level: Level, layout: Layout, size_sectors: u64, targets: Mask) -> Walk {
    let shape = Shape {
        level,
        layout,
        members: 4,
        spans: 1,
        chunk_sectors: 16,
        member_sectors: 4000,
    };
    let geometry = Geometry::new(&shape, size_sectors).expect("a volume");
    Walk::new(&geometry, targets, 16)
}

fn raid5() -> Walk {
    let layout = Layout::Parity(Rotation::LeftSymmetric);
    walk(Level::Raid5, layout, 12_000, Mask::EMPTY)
}

fn estimate(rate_kib: u32, eta_seconds: u32) -> Estimate {
    Estimate {
        rate_kib,
        eta_seconds: Some(eta_seconds),
    }
}

#[test]
fn a_rate_is_of_each_member_whatever_marks_count() {
    let one = Mask::single(1);
    let near = Layout::Near(2);
    let three = Layout::Offset(3);
    // Level, what is filled, the mark at the end, and the rate after two seconds for a quarter of it.
    for (walk, total, rate_kib) in [
        (raid5(), 4000, 250),
        // Each member has half of what the volume has.
        (walk(Level::Raid10, near, 8000, Mask::EMPTY), 8000, 250),
        (walk(Level::Raid1e, near, 8000, Mask::EMPTY), 8000, 250),
        // Three quarters.
        (walk(Level::Raid10, three, 5312, Mask::EMPTY), 5312, 249),
        // A rebuild counts sectors of the member at every level.
        (walk(Level::Raid10, near, 8000, one), 4000, 250),
    ] {
        assert_eq!(walk.length(), total);
        let headway = Headway::new(7, 0, Rates::USUAL);
        let said = headway.estimate(7 + 2 * SECOND, SECOND, &walk, total / 4, total);
        assert_eq!(said, estimate(rate_kib, 6), "{walk:?}");
    }
}

#[test]
fn a_pause_is_no_time_of_work() {
    let walk = raid5();
    let mut headway = Headway::new(0, 0, Rates::USUAL);
    let said = headway.estimate(SECOND, SECOND, &walk, 1000, 4000);
    assert_eq!(said, estimate(500, 3));
    // An hour later it is let go.
    let now = 3600 * SECOND;
    headway.begin(now, 1000);
    let nothing = Estimate {
        rate_kib: 0,
        eta_seconds: None,
    };
    let said = headway.estimate(now, SECOND, &walk, 1000, 4000);
    assert_eq!(said, nothing);
    let said = headway.estimate(now + SECOND, SECOND, &walk, 2000, 4000);
    assert_eq!(said, estimate(500, 2));
}

#[test]
fn other_limits_make_it_begin_anew_and_the_same_ones_do_not() {
    let walk = raid5();
    let slow = Rates {
        min_kib: 1000,
        max_kib: 10,
    };
    let mut headway = Headway::new(0, 0, slow);
    headway.under(slow, 50 * SECOND, || unreachable!("nothing is new"));
    let said = headway.estimate(100 * SECOND, SECOND, &walk, 2000, 4000);
    assert_eq!(said, estimate(10, 100));
    headway.under(Rates::USUAL, 100 * SECOND, || 2000);
    let said = headway.estimate(101 * SECOND, SECOND, &walk, 3000, 4000);
    assert_eq!(said, estimate(500, 1));
}

#[test]
fn what_is_left_out_is_no_work() {
    let walk = raid5();
    let mut headway = Headway::new(0, 0, Rates::USUAL);
    // After a crash only the last quarter is to be looked at.
    headway.skip(3000);
    let rate = |rate_kib| Estimate {
        rate_kib,
        eta_seconds: None,
    };
    let said = headway.estimate(0, SECOND, &walk, 3000, 4000);
    assert_eq!(said, rate(0));
    let said = headway.estimate(SECOND, SECOND, &walk, 3500, 4000);
    assert_eq!(said, rate(250));
    // What it left out before it was held, or got other limits, still says that there may be more.
    headway.begin(SECOND, 3500);
    headway.under(Rates::NONE, SECOND, || 3500);
    let said = headway.estimate(2 * SECOND, SECOND, &walk, 3750, 4000);
    assert_eq!(said, rate(125));
    // Nothing to leave out is nothing.
    let mut headway = Headway::new(0, 0, Rates::USUAL);
    headway.skip(0);
    let said = headway.estimate(SECOND, SECOND, &walk, 1000, 4000);
    assert_eq!(said, estimate(500, 3));
}

#[test]
fn no_clock_and_no_mark_is_too_much() {
    let walk = raid5();
    let headway = Headway::new(u64::MAX, 3000, Rates::USUAL);
    // It wraps; a second has no ticks; the mark is behind where it began; all are as large as can be.
    for (now, second, done, total) in [
        (0, SECOND, 4000, 4000),
        (u64::MAX, 0, 4000, 4000),
        (1, SECOND, 0, 4000),
        (u64::MAX - 1, u64::MAX, u64::MAX, u64::MAX),
    ] {
        let said = headway.estimate(now, second, &walk, done, total);
        assert!(matches!(said.eta_seconds, None | Some(0)), "{said:?}");
    }
    let said = headway.estimate(0, SECOND, &walk, 4000, 4000);
    assert_eq!(
        said,
        estimate(125_000, 0),
        "one tick, across the end of the clock"
    );
}
