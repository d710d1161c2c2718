// SPDX-License-Identifier: GPL-2.0

//! Rebuilds of several members that start at different times: each place of each member is filled before
//! it counts as right, and members that can share a pass do.

use crate::sim_common::geometry;
use emd_core::model::{Layout, Level, Rotation, Slot};
use emd_core::personalities::rebuild::{Late, Marks, Pass};
use emd_core::personalities::walk::Walk;
use emd_core::personalities::{Geometry, Mask};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const LANE: u32 = 8;

/// A member that is being filled.
#[derive(Default)]
struct Member {
    /// What the metadata has.
    recorded: u64,
    /// Blocks of 8 sectors that were filled.
    filled: BTreeSet<u64>,
}

struct World {
    geometry: Geometry,
    members: BTreeMap<Slot, Member>,
    late: Late,
    done: Vec<Slot>,
    sent: u64,
}

impl World {
    fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            members: BTreeMap::new(),
            late: Late::NONE,
            done: Vec::new(),
            sent: 0,
        }
    }

    fn pass(&self) -> Option<Pass> {
        let marks: Vec<_> = self
            .members
            .iter()
            .map(|(slot, member)| (*slot, member.recorded))
            .collect();
        Pass::next(marks.into_iter(), self.late)
    }

    /// Runs the next pass for `most` lanes at most; false when there is nothing to do.
    fn run(&mut self, most: u64) -> bool {
        let Some(pass) = self.pass() else {
            return false;
        };
        let walk = Walk::new(&self.geometry, pass.targets, LANE);
        let first = walk.first(pass.from_sectors);
        let end = walk.end(pass.until_sectors);
        let stop = end.min(first.saturating_add(most)).max(first);
        for lane in first..stop {
            let Some(range) = walk.lane(lane) else {
                continue;
            };
            self.sent += 1;
            for slot in range.targets.iter() {
                let start = self
                    .geometry
                    .member_sector(range.stripe, slot)
                    .expect("slot");
                let block = (start + u64::from(range.column)) / u64::from(LANE);
                let member = self.members.get_mut(&slot).expect("a target");
                member.filled.insert(block);
            }
        }
        let mark = walk.mark(stop);
        for slot in pass.marked.iter() {
            let member = self.members.get_mut(&slot).expect("a target");
            for block in 0..mark / u64::from(LANE) {
                assert!(
                    member.filled.contains(&block),
                    "slot {slot}: block {block} is called right at {mark}, {pass:?}"
                );
            }
            member.recorded = member.recorded.max(mark);
        }
        if stop == end {
            for slot in pass.marked.iter() {
                let member = self.members.remove(&slot).expect("a target");
                let blocks = self.geometry.used_member_sectors() / u64::from(LANE);
                assert_eq!(
                    member.filled.len() as u64,
                    blocks,
                    "slot {slot} counts as right"
                );
                self.done.push(slot);
            }
            self.late = pass.late();
        }
        true
    }

    fn join(&mut self, slot: Slot) {
        self.late.forget(slot);
        self.members.insert(slot, Member::default());
    }
}

fn raid6() -> Geometry {
    geometry(
        160,
        Level::Raid6,
        Layout::Parity(Rotation::LeftSymmetric),
        5,
    )
}

#[test]
fn two_at_once_are_one_pass() {
    let mut world = World::new(raid6());
    world.join(1);
    world.join(3);
    assert!(world.run(u64::MAX));
    assert_eq!((world.done.as_slice(), world.sent), ([1, 3].as_slice(), 20));
    assert!(!world.run(u64::MAX));
}

#[test]
fn one_that_comes_later_joins_and_is_caught_up() {
    let mut world = World::new(raid6());
    world.join(3);
    world.run(7);
    world.join(1);
    let pass = world.pass().expect("a pass");
    assert_eq!(pass.from_sectors, 7 * u64::from(LANE));
    assert_eq!(pass.targets, Mask::single(1).with(3));
    assert!(pass.may_be_joined());
    world.run(u64::MAX);
    assert_eq!(world.done, [3]);
    let pass = world.pass().expect("a second pass");
    assert_eq!((pass.from_sectors, pass.until_sectors), (0, Some(56)));
    assert!(!pass.may_be_joined());
    world.run(3);
    world.run(u64::MAX);
    assert_eq!(world.done, [3, 1]);
    // 7 alone, 13 for both, 7 alone.
    assert_eq!(world.sent, 27);
}

proptest! {
    #[test]
    fn nothing_counts_that_was_not_filled(copies: bool, steps in prop::collection::vec((0u8..8, 0u16..6, 1u64..12), 0..40)) {
        let geometry = if copies {
            geometry(160, Level::Raid10, Layout::Near(2), 6)
        } else {
            geometry(160, Level::Raid6, Layout::Parity(Rotation::LeftSymmetric), 6)
        };
        let mut world = World::new(geometry);
        for (what, slot, most) in steps {
            match what {
                // A member joins; also one in the place of a member that was being filled.
                0..=2 => world.join(slot),
                // A restart: what is not recorded is forgotten.
                3 => world.late = Late::NONE,
                _ => {
                    world.run(most);
                }
            }
        }
        let mut passes = 0;
        while world.run(u64::MAX) {
            passes += 1;
            prop_assert!(passes < 20, "it comes to an end");
        }
    }
}

#[test]
fn what_a_late_member_got_counts_at_once_and_no_more() {
    let mut marks = Marks::NONE;
    for below in [0, 56, 0] {
        marks.push(below).expect("memory");
    }
    // Slot 2 joins slot 1 at 56.
    let first = Pass::next([(1, 56), (2, 0)].into_iter(), Late::NONE).expect("a pass");
    marks.begin(&first, 56);
    assert!(!marks.hold(2, 56, 57) && !marks.hold(2, 0, 1));
    marks.advance(&first, 100);
    assert!(marks.hold(1, 0, 100) && marks.hold(2, 56, 100));
    assert!(!marks.hold(2, 55, 100) && !marks.hold(2, 56, 101));
    // It is held up, and goes on from there; then it begins anew further down.
    marks.begin(&first, 88);
    assert!(marks.hold(2, 56, 88) && !marks.hold(2, 56, 89));
    marks.begin(&first, 40);
    assert!(!marks.hold(2, 56, 88));
    marks.advance(&first, 160);
    marks.forget(Mask::single(1));
    // The second pass fills what is below.
    let second = Pass::next(
        [(2, 0)].into_iter(),
        Late {
            members: Mask::single(2),
            from_sectors: 40,
        },
    );
    let second = second.expect("a pass");
    marks.begin(&second, 0);
    marks.advance(&second, 16);
    assert!(marks.hold(2, 0, 16) && marks.hold(2, 40, 160) && !marks.hold(2, 0, 17));
    // A pass over all of it takes nothing for granted.
    let anew = Pass::next([(2, 0)].into_iter(), Late::NONE).expect("a pass");
    marks.begin(&anew, 0);
    assert!(!marks.hold(2, 0, 1) && !marks.hold(2, 40, 160));
    // Others know nothing.
    assert!(!marks.hold(7, 0, 0));
}
