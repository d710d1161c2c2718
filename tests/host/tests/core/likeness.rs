// SPDX-License-Identifier: GPL-2.0

//! When a sync stops to look at what it overwrites, and when it looks again.

use emd_core::personalities::likeness::{Likeness, HOPELESS, PROBED};

#[test]
fn only_a_row_of_differences_is_hopeless() {
    let mut likeness = Likeness::new();
    for lane in 0..HOPELESS {
        assert!(!likeness.is_hopeless(u64::from(lane) + 1));
        likeness.note(true);
    }
    assert!(likeness.is_hopeless(1));
    likeness.note(false);
    assert!(!likeness.is_hopeless(1));
    likeness.note(true);
    assert!(!likeness.is_hopeless(1), "one that agrees ends the row");
}

#[test]
fn some_lanes_are_looked_at_all_the_same() {
    let mut likeness = Likeness::new();
    (0..HOPELESS * 2).for_each(|_| likeness.note(true));
    let looked_at = (0..PROBED * 10).filter(|&lane| !likeness.is_hopeless(lane));
    assert_eq!(looked_at.count(), 10);
}
