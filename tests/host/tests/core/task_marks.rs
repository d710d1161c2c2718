// SPDX-License-Identifier: GPL-2.0

//! What a task has published, what others may know of it, and in which order it begins and ends.

use crate::task_stage::{filling, mirror, two_spans, Stage, LANE};
use emd_core::model::TaskKind;
use emd_core::personalities::rebuild::{Marks, Pass};
use emd_core::personalities::task::order::{beginning, Begin, Finish};
use emd_core::personalities::task::{Course, Members, Moved, Scope, Step};
use emd_core::personalities::Mask;
use proptest::prelude::*;

#[test]
fn marks_follow_what_is_back_good() {
    let pass = filling(Mask::single(1));
    let nothing = Moved::Nothing;
    let rebuilt = |done| Moved::Rebuilt { pass, done };
    let synced = |done| Moved::Synced { done };
    for (kind, first, last) in [
        (TaskKind::Rebuild, rebuilt(16), rebuilt(48)),
        (TaskKind::Initialise, synced(16), synced(48)),
        (TaskKind::Resync, synced(16), synced(48)),
        (TaskKind::Check, nothing, nothing),
        (TaskKind::Repair, nothing, nothing),
    ] {
        let mut stage = Stage::of(kind);
        stage.send(4);
        assert_eq!(stage.back(0, true), first, "{kind:?}");
        assert_eq!(stage.back(2, true), nothing, "{kind:?}");
        assert_eq!(stage.back(1, true), last, "{kind:?}");
        assert_eq!(stage.back(3, false), nothing, "{kind:?}");
        assert_eq!(stage.engine.done_sectors(), 48, "{kind:?}");
        assert!(!stage.engine.result().completed);
    }
}

#[test]
fn what_is_published_of_a_mark() {
    let mut marks = Marks::NONE;
    for _ in 0..2 {
        marks.push(0).expect("memory");
    }
    let pass = filling(Mask::single(1));
    let rebuilt = Moved::Rebuilt { pass, done: 32 };
    assert_eq!(rebuilt.publish(&marks, 7), None);
    assert!(marks.hold(1, 0, 32) && !marks.hold(1, 0, 33) && !marks.hold(0, 0, 1));
    let synced = Moved::Synced { done: 32 };
    assert_eq!(synced.publish(&marks, 16), Some(32));
    // All agrees already: no mark takes that back.
    assert_eq!(synced.publish(&marks, u64::MAX), None);
    assert_eq!(Moved::Nothing.publish(&marks, 16), None);
}

#[test]
fn marks_begin_where_the_task_does() {
    let mut marks = Marks::NONE;
    for _ in 0..2 {
        marks.push(0).expect("memory");
    }
    let course = |kind, pass: &Pass| {
        let all = Mask(0b11);
        Course::new(&mirror(), LANE, kind, pass, Scope::All, all)
    };
    // Never beyond what is done: the lane that the mark is in begins anew.
    let pass = Pass {
        from_sectors: 40,
        ..filling(Mask::single(1))
    };
    let rebuild = course(TaskKind::Rebuild, &pass);
    assert_eq!(rebuild.pass().from_sectors, 32);
    assert_eq!(rebuild.begin_marks(&marks, u64::MAX), None);
    assert!(marks.hold(1, 0, 32) && !marks.hold(1, 0, 33));
    for kind in [TaskKind::Resync, TaskKind::Initialise] {
        let sync = course(kind, &Pass::sync(40));
        assert_eq!(sync.begin_marks(&marks, u64::MAX), Some(32));
        assert_eq!(sync.begin_marks(&marks, 50), None);
    }
    for kind in [TaskKind::Check, TaskKind::Repair] {
        let scrub = course(kind, &Pass::sync(0));
        assert_eq!(scrub.begin_marks(&marks, u64::MAX), None);
    }
}

#[test]
fn what_is_filled_though_no_mark_says_so() {
    let mut stage = Stage::of(TaskKind::Rebuild);
    stage.send(3);
    stage.back(1, true);
    let course = *stage.engine.course();
    let filled = |stage: &Stage, row| {
        let lane = course.filling_lane(row, 0).expect("a lane");
        stage.engine.is_done(lane).then(|| course.filled_in(lane))
    };
    assert_eq!(filled(&stage, 0), None);
    assert_eq!(filled(&stage, 1), Some(Mask::single(1)));
    assert_eq!(filled(&stage, 2), None);
    let check = Stage::of(TaskKind::Check);
    assert_eq!(check.engine.course().filling_lane(1, 0), None);
}

#[test]
fn a_sync_may_outlive_what_it_read_and_a_rebuild_may_not() {
    let lost = Members {
        readable: Mask::single(0),
        writable: Mask::single(0),
        is_broken: false,
    };
    for (kind, outlives) in [(TaskKind::Resync, true), (TaskKind::Rebuild, false)] {
        let stage = Stage::of(kind);
        let course = stage.engine.course();
        assert!(course.members_lost(lost));
        assert_eq!(course.outlives_source(lost), outlives);
        assert!(!course.outlives_source(stage.members));
    }
}

#[test]
fn the_order_in_which_it_begins() {
    use Begin::{Drain, Lanes, LanesOnly, Marks, OpenGate, Place, Repairs, Work};
    let order = |scope, is_copied| beginning(scope, is_copied).collect::<Vec<_>>();
    // What goes around the lanes is through before one is sent, or a read writes copies again.
    assert_eq!(
        order(Scope::All, true),
        [Place, Marks, Lanes, Drain, LanesOnly, OpenGate, Work]
    );
    // Nothing does.
    assert_eq!(order(Scope::All, false), [Place, Marks, Lanes, Work]);
    assert_eq!(
        order(Scope::Repairs, true),
        [Place, Marks, Lanes, Drain, LanesOnly, OpenGate, Repairs, Work]
    );
}

#[test]
fn the_order_in_which_it_ends() {
    use Finish::{Agree, Lanes, Place, Repairs, Result};
    let order = |kind, scope, completes| {
        let mut stage = Stage::on(&mirror(), kind, &Pass::sync(0), scope);
        stage.engine.begin();
        if completes {
            stage.run();
        }
        let result = stage.engine.result();
        let ending = stage.engine.course().ending(&result);
        ending.collect::<Vec<_>>()
    };
    let usual = [Result, Lanes, Place];
    for kind in [TaskKind::Initialise, TaskKind::Resync] {
        assert_eq!(order(kind, Scope::All, true), [Agree, Result, Lanes, Place]);
        assert_eq!(order(kind, Scope::All, false), usual);
    }
    for kind in [TaskKind::Check, TaskKind::Repair] {
        assert_eq!(order(kind, Scope::All, true), usual);
    }
    let repairs = order(TaskKind::Check, Scope::Repairs, true);
    assert_eq!(repairs, [Result, Repairs, Lanes, Place]);
    assert_eq!(order(TaskKind::Check, Scope::Repairs, false), usual);
}

proptest! {
    /// Lanes that come back in any order, cannot be sent, fail: each is sent once, no mark passes one that is not back
    /// good, and the task ends, complete only if all are.
    #[test]
    fn marks_never_run_ahead(steps in prop::collection::vec((0u8..12, any::<u8>()), 1..200), spans in any::<bool>()) {
        let (geometry, targets) = match spans {
            true => (two_spans(), Mask::single(1)),
            false => (mirror(), Mask::single(1)),
        };
        let mut stage = Stage::on(&geometry, TaskKind::Rebuild, &filling(targets), Scope::All);
        stage.engine.begin();
        let walk = *stage.engine.course().walk();
        let needed: Vec<_> = (0..walk.lanes()).filter(|&lane| walk.lane(lane).is_some()).collect();
        let (mut sent, mut flying, mut good) = (Vec::new(), Vec::new(), Vec::new());
        let mut published = 0;
        let mut has_failed = false;
        for (what, which) in steps.into_iter().chain([(11, 0); 200]) {
            let mut moved = Moved::Nothing;
            if what < 6 || flying.is_empty() {
                match stage.next() {
                    Step::Send(lane) if what == 5 => stage.engine.unsend(&lane),
                    Step::Send(lane) => {
                        prop_assert!(!sent.contains(&lane.number));
                        prop_assert!(!has_failed);
                        sent.push(lane.number);
                        flying.push(lane.number);
                    }
                    Step::Nothing(mark) => moved = mark,
                    Step::WhenBack => prop_assert!(!flying.is_empty()),
                    Step::End => prop_assert!(flying.is_empty()),
                    step => prop_assert!(false, "{:?}", step),
                }
            } else {
                let lane = flying.remove(usize::from(which) % flying.len());
                let is_good = what != 6 || which > 40;
                has_failed |= !is_good;
                if is_good {
                    good.push(lane);
                }
                moved = stage.back(lane, is_good);
            }
            if let Moved::Rebuilt { done, .. } = moved {
                prop_assert!(done >= published);
                published = done;
            }
            let ahead = needed.iter().find(|lane| !good.contains(lane));
            if let Some(&lane) = ahead {
                prop_assert!(published <= walk.mark(lane));
            }
        }
        let is_whole = good.len() == needed.len();
        prop_assert_eq!(stage.engine.result().completed, is_whole);
        prop_assert!(has_failed || is_whole);
        if is_whole {
            prop_assert_eq!(published, walk.length());
        }
    }
}
