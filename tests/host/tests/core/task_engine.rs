// SPDX-License-Identifier: GPL-2.0

//! What tasks do: the engine that the driver and the simulator carry out, and what it says in each state.

use crate::task_stage::{
    filling, geometry, mirror, regions, shape, two_spans, Stage, LANE, LANES, SECOND,
};
use emd_core::model::{Layout, Level, Shape, TaskKind};
use emd_core::personalities::choice::Choice;
use emd_core::personalities::lane::Job;
use emd_core::personalities::likeness::HOPELESS;
use emd_core::personalities::rebuild::Pass;
use emd_core::personalities::task::{Found, Moved, Scope, Step};
use emd_core::personalities::Mask;

/// What is done with a task that is at work, and what it says after that.
type Case = (
    &'static str,
    TaskKind,
    fn(&mut Stage),
    &'static [&'static str],
);

#[test]
fn what_it_says_in_each_state() {
    use TaskKind::{Check, Rebuild, Repair, Resync};
    let cases: &[Case] = &[
        ("at its start", Check, |_| {}, &["send 0", "send 1"]),
        (
            "with all in flight that may be",
            Check,
            |stage| stage.send(4),
            &["when back"],
        ),
        (
            "with one of them back, out of order",
            Check,
            |stage| {
                stage.send(4);
                stage.back(2, true);
            },
            &["when back"],
        ),
        (
            "with the first of them back",
            Check,
            |stage| {
                stage.send(4);
                stage.back(0, true);
            },
            &["send 4", "when back"],
        ),
        (
            "beside users: it has its least, and room for two lanes",
            Check,
            |stage| stage.is_busy = true,
            &["send 0", "send 1", "later"],
        ),
        (
            "beside users, a little later: still",
            Check,
            |stage| {
                stage.is_busy = true;
                stage.send(2);
                stage.back(0, true);
                stage.now = 5;
            },
            &["send 2", "later"],
        ),
        (
            "above its limit",
            Check,
            |stage| {
                stage.rates.max_kib = 1;
                stage.send(1);
            },
            &["later"],
        ),
        (
            "above its limit, and it is paid for",
            Check,
            |stage| {
                stage.rates.max_kib = 16;
                stage.send(1);
                stage.now = SECOND;
            },
            &["send 1", "later"],
        ),
        (
            "held",
            Check,
            |stage| stage.engine.set_paused(true, 0),
            &["when back"],
        ),
        (
            "let go",
            Check,
            |stage| {
                stage.engine.set_paused(true, 0);
                stage.engine.set_paused(false, 0);
            },
            &["send 0"],
        ),
        ("cancelled", Check, |stage| stage.engine.cancel(), &["end"]),
        (
            "cancelled while it is held",
            Check,
            |stage| {
                stage.engine.set_paused(true, 0);
                stage.engine.cancel();
            },
            &["end"],
        ),
        (
            "cancelled, and a lane is on the way",
            Check,
            |stage| {
                stage.send(2);
                stage.back(0, true);
                stage.engine.cancel();
            },
            &["when back"],
        ),
        (
            "cancelled, and that lane is back",
            Check,
            |stage| {
                stage.send(1);
                stage.engine.cancel();
                stage.back(0, true);
            },
            &["end"],
        ),
        (
            "a lane failed",
            Check,
            |stage| {
                stage.send(2);
                stage.back(1, false);
            },
            &["when back"],
        ),
        (
            "a lane failed, and the others are back",
            Check,
            |stage| {
                stage.send(2);
                stage.back(1, false);
                stage.back(0, true);
            },
            &["end"],
        ),
        (
            "a member that it compares is gone",
            Resync,
            |stage| stage.members.readable = Mask::single(0),
            &["end"],
        ),
        (
            "a member is in sync that was not when it began",
            Repair,
            |stage| stage.members.readable = Mask(0b111),
            &["end"],
        ),
        (
            "the member that it fills is gone",
            Rebuild,
            |stage| stage.members.writable = Mask::single(0),
            &["end"],
        ),
        (
            "a rebuild goes on without one that it does not fill, as long as the array does",
            Rebuild,
            |stage| stage.members.readable = Mask::EMPTY,
            &["send 0"],
        ),
        (
            "too much is lost",
            Rebuild,
            |stage| stage.members.is_broken = true,
            &["end"],
        ),
        (
            "all is sent",
            Check,
            |stage| {
                for lane in 0..LANES {
                    stage.send(1);
                    if lane + 1 < LANES {
                        stage.back(lane, true);
                    }
                }
            },
            &["when back"],
        ),
        ("all is back", Check, Stage::run, &["end"]),
    ];
    for (state, kind, prepare, said) in cases {
        let mut stage = Stage::of(*kind);
        prepare(&mut stage);
        for word in *said {
            assert_eq!(stage.says(), *word, "{state}");
        }
    }
}

#[test]
fn it_does_nothing_before_the_array_is_ready() {
    let mut stage = Stage::on(&mirror(), TaskKind::Check, &Pass::sync(0), Scope::All);
    stage.engine.cancel();
    assert_eq!(stage.says(), "when back");
    stage.engine.begin();
    assert_eq!(stage.says(), "end");
}

#[test]
fn what_is_clean_is_left_out() {
    let mut stage = Stage::on(
        &mirror(),
        TaskKind::Resync,
        &Pass::sync(0),
        Scope::DirtyRegions,
    );
    stage.engine.begin();
    stage.regions = Some(regions(&[2, 3, 7]));
    assert_eq!(
        stage.next(),
        Step::Skip {
            lanes: 2,
            moved: Moved::Synced { done: 32 }
        }
    );
    // What is left out is no work, and nobody knows how much more there is.
    let status = stage.engine.status(SECOND, SECOND);
    assert_eq!((status.done_sectors, status.rate_kib), (32, 0));
    assert_eq!(status.eta_seconds, None);
    assert_eq!(stage.says(), "send 2");
    assert_eq!(stage.says(), "send 3");
    // Only once what is on the way is back.
    assert_eq!(stage.says(), "when back");
    stage.back(2, true);
    stage.back(3, true);
    assert_eq!(stage.says(), "skip 3");
    assert_eq!(stage.says(), "send 7");
    stage.back(7, true);
    assert_eq!(stage.says(), "skip 2");
    assert_eq!(stage.says(), "end");
    assert!(stage.engine.result().completed);

    // Where nobody keeps regions, and where all is to be gone over, nothing is.
    for (scope, dirty) in [
        (Scope::DirtyRegions, None),
        (Scope::All, Some(regions(&[2]))),
    ] {
        let mut stage = Stage::on(&mirror(), TaskKind::Resync, &Pass::sync(0), scope);
        stage.engine.begin();
        stage.regions = dirty;
        assert_eq!(stage.says(), "send 0");
    }
}

#[test]
fn only_what_is_to_be_written_again() {
    let mut stage = Stage::on(&mirror(), TaskKind::Check, &Pass::sync(0), Scope::Repairs);
    stage.engine.begin();
    // In the middle of a lane.
    stage.to_repair = Some(5 * 16 + 3);
    assert_eq!(stage.says(), "skip 5");
    assert_eq!(stage.says(), "send 5");
    stage.back(5, true);
    stage.to_repair = None;
    assert_eq!(stage.says(), "skip 4");
    assert_eq!(stage.says(), "end");
}

#[test]
fn lanes_of_spans_without_a_target_are_none() {
    let pass = filling(Mask::single(4));
    let mut stage = Stage::on(&two_spans(), TaskKind::Rebuild, &pass, Scope::All);
    stage.engine.begin();
    // A row of each span in turn, and they share their mark.
    assert_eq!(stage.says(), "nothing");
    let Step::Send(lane) = stage.next() else {
        panic!("the second span has a member to fill");
    };
    let targets = Mask::single(4);
    assert_eq!((lane.number, lane.range.targets), (1, targets));
    assert_eq!(lane.job, Job::Rebuild { targets });
    assert_eq!(stage.back(1, true), Moved::Rebuilt { pass, done: 16 });
    stage.run();
    assert_eq!(stage.engine.done_sectors(), LANES * 16);
}

#[test]
fn a_lane_that_could_not_be_sent_comes_again_and_counts_once() {
    let mut stage = Stage::of(TaskKind::Check);
    stage.rates.max_kib = 1;
    for _ in 0..3 {
        let Step::Send(lane) = stage.next() else {
            panic!("nothing was sent yet, so nothing is owed");
        };
        assert_eq!(lane.number, 0);
        stage.engine.unsend(&lane);
    }
    assert_eq!(stage.engine.window().flying(), 0);
    stage.send(1);
    assert_eq!(stage.says(), "later");
}

#[test]
fn what_differs_is_counted_and_told() {
    let fixed = Some((1, Choice::FirstCopy));
    let mut stage = Stage::of(TaskKind::Repair);
    stage.send(4);
    let back = stage.engine.back(0, true, Found::Different(fixed));
    let (range, told) = back.differing.expect("a place");
    assert_eq!((range.stripe, range.column, range.sectors), (0, 0, 16));
    assert_eq!(told, fixed);
    // Three are on the way, more than half of the window.
    assert!(!back.wakes);
    let back = stage.engine.back(1, true, Found::DifferentAsTold);
    assert_eq!((back.differing, back.wakes), (None, true));
    for (lane, found) in [(2, Found::Alike), (3, Found::Unseen)] {
        assert_eq!(stage.engine.back(lane, true, found).differing, None);
    }
    assert_eq!(stage.engine.result().mismatch_sectors, 32);
    assert_eq!(stage.engine.status(0, SECOND).mismatch_sectors, 32);
}

#[test]
fn what_never_agreed_is_written_without_a_look() {
    let long = Shape {
        member_sectors: 100 * u64::from(LANE),
        ..shape(Level::Raid1, Layout::Plain, 2, 1)
    };
    for (kind, overwrites) in [
        (TaskKind::Initialise, true),
        (TaskKind::Resync, true),
        (TaskKind::Check, false),
        (TaskKind::Repair, false),
    ] {
        let mut stage = Stage::on(&geometry(&long), kind, &Pass::sync(0), Scope::All);
        stage.engine.begin();
        for lane in 0..u64::from(HOPELESS) {
            let Step::Send(sent) = stage.next() else {
                panic!("lane {lane}");
            };
            assert!(!sent.is_overwriting);
            stage.engine.back(lane, true, Found::Different(None));
        }
        let Step::Send(sent) = stage.next() else {
            panic!("one more");
        };
        assert_eq!(sent.is_overwriting, overwrites, "{kind:?}");
    }
}

#[test]
fn what_people_are_told() {
    let mut stage = Stage::of(TaskKind::Check);
    stage.send(2);
    stage.back(0, true);
    stage.back(1, true);
    let status = stage.engine.status(SECOND, SECOND);
    assert_eq!((status.done_sectors, status.total_sectors), (32, 160));
    assert_eq!((status.rate_kib, status.eta_seconds), (16, Some(4)));
    assert!(!status.paused);
    stage.engine.set_paused(true, SECOND);
    let status = stage.engine.status(SECOND, SECOND);
    assert_eq!((status.rate_kib, status.eta_seconds), (0, None));
    assert!(status.paused);
    // It is measured anew then.
    stage.engine.set_paused(false, 10 * SECOND);
    stage.now = 10 * SECOND;
    stage.send(1);
    stage.back(2, true);
    let status = stage.engine.status(11 * SECOND, SECOND);
    assert_eq!((status.done_sectors, status.rate_kib), (48, 8));
}

#[test]
fn a_scrub_that_went_on_is_a_part() {
    for (kind, from, is_part) in [
        (TaskKind::Check, 16, true),
        (TaskKind::Repair, 16, true),
        (TaskKind::Check, 0, false),
        (TaskKind::Resync, 16, false),
    ] {
        let pass = Pass::sync(from);
        let mut stage = Stage::on(&mirror(), kind, &pass, Scope::All);
        stage.engine.begin();
        stage.run();
        let result = stage.engine.result();
        assert!(result.completed);
        assert_eq!(result.is_part(), is_part, "{kind:?} from {from}");
    }
}

#[test]
fn a_part_of_the_way_ends_at_its_end() {
    let pass = Pass {
        until_sectors: Some(40),
        ..filling(Mask::single(1))
    };
    let mut stage = Stage::on(&mirror(), TaskKind::Rebuild, &pass, Scope::All);
    stage.engine.begin();
    stage.run();
    let result = stage.engine.result();
    assert!(result.completed);
    assert_eq!(result.done_sectors, 48);
}
