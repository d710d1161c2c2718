// SPDX-License-Identifier: GPL-2.0

//! Writes to copies that are bad on all members in sync, while others are being rebuilt.

use emd_core::model::{Layout, Level, Shape};
use emd_core::personalities::lane::{Job, LaneResult, Outcome, Step, StepResult, Usable};
use emd_core::personalities::{Geometry, Mask, MirrorLane, Work};

const WRITE: Job = Job::Write { written: Mask(1) };

fn lane(readable: Mask, writable: Mask, in_sync: Mask) -> MirrorLane {
    let usable = Usable { readable, writable };
    MirrorLane::new(Mask(0b111), WRITE, usable).filling(in_sync)
}

fn done(step: Step) -> Outcome {
    match step {
        Step::Done(outcome) => outcome,
        step => panic!("{step:?}"),
    }
}

/// The answer to a `Write` that `failed` did not take, of whom `kept` stay in use.
fn failed(failed: Mask, kept: Mask) -> StepResult {
    StepResult {
        failed,
        lost: failed.minus(kept),
        kept,
        ..StepResult::default()
    }
}

/// Slot 0 is in sync and bad here, slot 1 is being rebuilt.
fn to_be_filled() -> MirrorLane {
    lane(Mask::EMPTY, Mask(0b11), Mask(0b01))
}

#[test]
fn a_write_fills_the_last_good_member_while_another_is_rebuilt() {
    let mut lane = to_be_filled();
    let members = Mask(0b11);
    assert_eq!(lane.step(StepResult::default()), Step::Write { members });
    let end = done(lane.step(StepResult::default()));
    assert_eq!(end.result, LaneResult::Good);
    assert_eq!((end.repaired, end.write_failed), (Mask::EMPTY, Mask::EMPTY));
}

/// It keeps what was bad, so there is nothing to take the other one back to: that is bad there from now on.
#[test]
fn what_it_does_not_take_is_bad_on_the_others() {
    let mut lane = to_be_filled();
    let (kept, other) = (Mask(0b01), Mask(0b10));
    lane.step(StepResult::default());
    let end = done(lane.step(failed(kept, kept)));
    assert_eq!(end.result, LaneResult::Unreadable);
    assert_eq!((end.unreadable, end.write_failed), (other, kept));
}

#[test]
fn what_only_the_one_being_rebuilt_takes_is_not_written() {
    let mut lane = to_be_filled();
    lane.step(StepResult::default());
    let end = done(lane.step(failed(Mask(0b01), Mask::EMPTY)));
    assert_eq!(end.result, LaneResult::Unwritten);
}

/// Below its mark the one being rebuilt counts, and the one that is bad does not, as ever.
#[test]
fn who_holds_something_decides() {
    let mut lane = lane(Mask(0b10), Mask(0b11), Mask(0b01));
    lane.step(StepResult::default());
    let kept = Mask(0b01);
    let end = done(lane.step(failed(kept, kept)));
    assert_eq!(end.result, LaneResult::Unwritten);
    assert_eq!(end.unreadable, Mask::EMPTY);
}

#[test]
fn only_writes_fill() {
    for job in [
        Job::Read { wanted: Mask(1) },
        Job::Rebuild {
            targets: Mask(0b10),
        },
    ] {
        let usable = Usable {
            readable: Mask::EMPTY,
            writable: Mask(0b11),
        };
        let mut lane = MirrorLane::new(Mask(0b11), job, usable).filling(Mask(0b01));
        let end = done(lane.step(StepResult::default()));
        assert_eq!(end.result, LaneResult::Unreadable, "{job:?}");
    }
}

/// A rebuild of another pair is nothing to this one.
#[test]
fn of_a_raid10_only_the_row_counts() {
    let shape = Shape {
        level: Level::Raid10,
        layout: Layout::Near(2),
        members: 4,
        spans: 1,
        chunk_sectors: 8,
        member_sectors: 64,
    };
    let geometry = Geometry::new(&shape, 128).unwrap();
    // Slot 0 is bad, 1 is lost; 3 is being rebuilt from 2.
    let usable = Usable {
        readable: Mask(0b0100),
        writable: Mask(0b1101),
    };
    assert_eq!(geometry.roles(0).all(), Mask(0b0011));
    let mut work = Work::new(&geometry, 0, WRITE, usable).filling(Mask(0b0101));
    let members = Mask(0b0001);
    assert_eq!(work.step(StepResult::default()), Step::Write { members });
    assert_eq!(
        done(work.step(StepResult::default())).result,
        LaneResult::Good
    );
}
