// SPDX-License-Identifier: GPL-2.0

//! What losing a member means: borne, the end, or refused.

use crate::sim_common::geometry;
use emd_core::model::{Layout, Level, Rotation, Slot};
use emd_core::personalities::loss::Loss;
use emd_core::personalities::{Geometry, Mask};

/// Loses members one after the other, all of them in sync before; what came of each.
fn lose(geometry: &Geometry, slots: &[(Slot, bool)]) -> Vec<Loss> {
    let mut left = Mask::all(geometry.members());
    let mut all = Vec::new();
    for &(slot, is_gone) in slots {
        let loss = Loss::of(geometry, left, left, slot, is_gone);
        if matches!(loss, Loss::Borne | Loss::Beyond) {
            left = left.without(slot);
        }
        all.push(loss);
    }
    all
}

#[test]
fn a_mirrors_last_member_stays_until_its_disk_is_gone() {
    let mirror = geometry(160, Level::Raid1, Layout::Plain, 3);
    assert_eq!(
        lose(&mirror, &[(1, false), (0, true), (2, false), (2, true)]),
        [Loss::Borne, Loss::Borne, Loss::Kept, Loss::Beyond]
    );
    // Who is being rebuilt is no help, and is lost like any other.
    let (readable, writable) = (Mask::single(0), Mask::all(2));
    assert_eq!(Loss::of(&mirror, readable, writable, 0, false), Loss::Kept);
    assert_eq!(Loss::of(&mirror, readable, writable, 1, false), Loss::Borne);
    assert_eq!(Loss::of(&mirror, readable, writable, 0, true), Loss::Beyond);
}

#[test]
fn other_levels_break_when_more_is_lost_than_they_bear() {
    let raid5 = geometry(
        160,
        Level::Raid5,
        Layout::Parity(Rotation::LeftSymmetric),
        3,
    );
    assert_eq!(
        lose(&raid5, &[(2, false), (2, true), (0, false)]),
        [Loss::Borne, Loss::Nothing, Loss::Beyond]
    );
    let raid6 = geometry(160, Level::Raid6, Layout::Parity(Rotation::DdfNContinue), 5);
    assert_eq!(
        lose(&raid6, &[(0, false), (4, true), (2, false)]),
        [Loss::Borne, Loss::Borne, Loss::Beyond]
    );
    // Copies in pairs: the partner of one that is lost is the end, others are not.
    let raid10 = geometry(160, Level::Raid10, Layout::Near(2), 4);
    assert_eq!(
        lose(&raid10, &[(0, false), (2, false), (1, false)]),
        [Loss::Borne, Loss::Borne, Loss::Beyond]
    );
    let raid0 = geometry(160, Level::Raid0, Layout::Plain, 2);
    assert_eq!(lose(&raid0, &[(0, true)]), [Loss::Nothing]);
}
