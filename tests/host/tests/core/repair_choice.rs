// SPDX-License-Identifier: GPL-2.0

//! What a repair says of its choice.

use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::choice::Choice;
use emd_core::personalities::{for_level, Geometry, Mask};

fn geometry(level: Level, layout: Layout, members: u16, chunk_sectors: u32) -> Geometry {
    let shape = Shape {
        level,
        layout,
        members,
        spans: 1,
        chunk_sectors,
        member_sectors: 640,
    };
    let size = for_level(level).expect("level").capacity_sectors(&shape);
    Geometry::new(&shape, size).expect("shape")
}

fn why(geometry: &Geometry, corrected: &[u16], distrusted: bool) -> Option<Choice> {
    let corrected = corrected
        .iter()
        .fold(Mask::EMPTY, |mask, &slot| mask.with(slot));
    let all = Mask::all(geometry.members());
    Choice::of(geometry, 0, corrected, all, distrusted)
}

#[test]
fn parity_levels_tell_parity_from_data() {
    let geometry = geometry(Level::Raid6, Layout::Parity(Rotation::LeftSymmetric), 5, 16);
    let roles = geometry.roles(0);
    let (p, q) = (roles.p.expect("P"), roles.q.expect("Q"));
    assert_eq!(why(&geometry, &[], false), None);
    for parity in [&[p][..], &[q], &[p, q]] {
        assert_eq!(why(&geometry, parity, false), Some(Choice::Parity));
    }
    for data in roles.data.iter() {
        assert_eq!(why(&geometry, &[data], false), Some(Choice::Syndromes));
    }
}

#[test]
fn copies_vote_where_they_can() {
    let three = geometry(Level::Raid1, Layout::Plain, 3, 0);
    assert_eq!(why(&three, &[0], false), Some(Choice::Majority));
    assert_eq!(why(&three, &[1, 2], false), Some(Choice::FirstCopy));
    // After a crash they do not: the first one is what was read.
    assert_eq!(why(&three, &[2], true), Some(Choice::FirstCopy));
    let two = geometry(Level::Raid1, Layout::Plain, 2, 0);
    assert_eq!(why(&two, &[1], false), Some(Choice::FirstCopy));
    // Only the copies of the row count, not all members.
    let ten = geometry(Level::Raid10, Layout::Near(2), 6, 16);
    assert_eq!(why(&ten, &[1], false), Some(Choice::FirstCopy));
}
