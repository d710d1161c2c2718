// SPDX-License-Identifier: GPL-2.0

//! The judge of the mirror tests is itself judged: machines with a fault put in must be found out.

use crate::mirror_sim::{explore, jobs, patterns, starts, Stepper};
use emd_core::personalities::lane::{Compute, Job, LaneResult, Outcome, Step, StepResult};
use emd_core::personalities::mirror::MirrorLane;
use emd_core::personalities::Mask;

/// A fault and its name.
type Fault<F> = (&'static str, F);

type Change = fn(Step) -> Step;

/// Runs everything on three members until something is wrong.
fn is_found_out(stepper: Stepper<'_>) -> bool {
    starts(3).iter().any(|start| {
        jobs(3)
            .into_iter()
            .any(|job| explore(start, stepper, job, 2).is_err())
            || patterns(start).iter().any(|lab| {
                [false, true]
                    .into_iter()
                    .any(|fix| explore(lab, stepper, Job::Sync { fix }, 2).is_err())
            })
    })
}

fn with_outcome(step: Step, change: impl Fn(&mut Outcome)) -> Step {
    match step {
        Step::Done(mut outcome) => {
            change(&mut outcome);
            Step::Done(outcome)
        }
        other => other,
    }
}

/// Changes how the end is told; none may go unnoticed.
#[test]
fn false_reports() {
    let changes: [Fault<fn(&mut Outcome)>; 8] = [
        ("always good", |o| o.result = LaneResult::Good),
        ("never unwritten", |o| {
            if o.result == LaneResult::Unwritten {
                o.result = LaneResult::Unreadable;
            }
        }),
        ("no failed writes", |o| o.write_failed = Mask::EMPTY),
        ("one failed write", |o| {
            o.write_failed = Mask::option(o.write_failed.first());
        }),
        ("no repairs", |o| o.repaired = Mask::EMPTY),
        ("nothing unreadable", |o| o.unreadable = Mask::EMPTY),
        ("no mismatch", |o| o.mismatch = false),
        ("source is 0", |o| o.source = o.source.map(|_| 0)),
    ];
    for (name, change) in changes {
        let stepper = move |machine: &mut MirrorLane, result: StepResult| {
            with_outcome(machine.step(result), change)
        };
        assert!(is_found_out(&stepper), "{name} goes unnoticed");
    }
}

/// Changes what the machine learns; none may go unnoticed.
#[test]
fn false_answers() {
    let changes: [Fault<fn(&mut StepResult)>; 6] = [
        ("nobody is kept", |r| r.kept = Mask::EMPTY),
        ("nothing fails", |r| r.failed = Mask::EMPTY),
        ("nothing is lost", |r| r.lost = Mask::EMPTY),
        ("a failure is a loss", |r| r.lost = r.lost.union(r.failed)),
        ("never differs", |r| r.differs = false),
        ("differs the other way round", |r| r.differs = !r.differs),
    ];
    for (name, change) in changes {
        let stepper = move |machine: &mut MirrorLane, mut result: StepResult| {
            change(&mut result);
            machine.step(result)
        };
        assert!(is_found_out(&stepper), "{name} goes unnoticed");
    }
}

/// Changes what is done; none may go unnoticed.
#[test]
fn false_steps() {
    let changes: [Fault<Change>; 5] = [
        ("reads all at once", |step| match step {
            Step::Read { .. } => Step::Read {
                members: Mask::all(3),
            },
            other => other,
        }),
        ("writes one only", |step| match step {
            Step::Write { members } => Step::Write {
                members: Mask::option(members.first()),
            },
            other => other,
        }),
        ("writes all", |step| match step {
            Step::Write { .. } => Step::Write {
                members: Mask::all(3),
            },
            other => other,
        }),
        ("copies from 0", |step| match step {
            Step::Compute(Compute::Copy { to, .. }) if to != 0 => {
                Step::Compute(Compute::Copy { from: 0, to })
            }
            other => other,
        }),
        ("copies to the next", |step| match step {
            Step::Compute(Compute::Copy { from, to }) if from != (to + 1) % 3 => {
                Step::Compute(Compute::Copy {
                    from,
                    to: (to + 1) % 3,
                })
            }
            other => other,
        }),
    ];
    for (name, change) in changes {
        let stepper =
            move |machine: &mut MirrorLane, result: StepResult| change(machine.step(result));
        assert!(is_found_out(&stepper), "{name} goes unnoticed");
    }
}

/// The tests above tell something only if the machine itself passes.
#[test]
fn the_machine_itself_passes() {
    assert!(!is_found_out(&crate::mirror_sim::genuine));
}
