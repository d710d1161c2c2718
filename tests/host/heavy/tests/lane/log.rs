// SPDX-License-Identifier: GPL-2.0

//! Writes with a log (`hole_log`): every small case, with P and with P and Q: each set of members written,
//! each state of the others, one more fault at each step; and power that goes in the middle of the write, at
//! any point, along with as many more members as the level bears.

use crate::lane_sim::{genuine, run_and_judge, Case, Lab, Machine, Random, Trouble, Verdict};
use emd_core::model::Slot;
use emd_core::personalities::lane::{Compute, Job, Step, StepResult};
use emd_core::personalities::Mask;

fn sets(n: u16, most: u32) -> impl Iterator<Item = Mask> {
    (0..1u64 << n)
        .map(Mask)
        .filter(move |mask| mask.len() <= most)
}

/// One member's trouble in a step.
fn troubles(n: u16, step: &Step) -> Vec<Trouble> {
    let io = match *step {
        Step::Read { members } | Step::Log { members, .. } | Step::Write { members } => members,
        _ => Mask::EMPTY,
    };
    let mut troubles = Vec::new();
    for slot in 0..n {
        let one = Mask::single(slot);
        if io.contains(slot) {
            troubles.push(Trouble {
                media: one,
                ..Trouble::default()
            });
        }
        troubles.push(Trouble {
            lost_after: one,
            ..Trouble::default()
        });
    }
    troubles
}

/// How many runs there were, and how many of them logged.
#[derive(Default)]
struct Count {
    runs: u64,
    logged: u64,
    steps: usize,
}

fn run(
    lab: &Lab,
    job: Job,
    random: &mut Random,
    wrap: &dyn Fn(Case) -> Box<dyn Machine>,
    count: &mut Count,
    trouble_at: impl FnMut(usize, &Step) -> Trouble,
) -> Verdict {
    let trace = run_and_judge(&mut lab.clone(), job, random, wrap, trouble_at)?;
    count.runs += 1;
    count.logged += u64::from(trace.log.is_some());
    count.steps = count.steps.max(trace.steps);
    Ok(())
}

/// All of it for one lane; the first thing that is wrong.
fn all_cases(
    healthy: &Lab,
    bad_most: u32,
    wrap: &dyn Fn(Case) -> Box<dyn Machine>,
    count: &mut Count,
) -> Verdict {
    let n = healthy.members.len() as u16;
    let mut random = Random(0x106);
    for written in sets(n, 64).filter(|set| !set.is_empty()) {
        if !written.is_within(healthy.roles.data) {
            continue;
        }
        let job = Job::Write { written };
        for gone in sets(n, healthy.redundancy()) {
            for stale in sets(n, 1).filter(|stale| stale.is_within(gone)) {
                for bad in sets(n, bad_most) {
                    let mut lab = healthy.clone();
                    lab.logged = true;
                    lab.lose(gone.minus(stale));
                    for slot in stale {
                        lab.make_stale(slot);
                    }
                    for slot in bad {
                        lab.at_mut(slot).bad = true;
                    }
                    let mut steps = Vec::new();
                    run(&lab, job, &mut random, wrap, count, |_, step| {
                        steps.push(*step);
                        Trouble::default()
                    })?;
                    for (at, step) in steps.iter().enumerate() {
                        for trouble in troubles(n, step) {
                            run(&lab, job, &mut random, wrap, count, |step, _| {
                                if step == at {
                                    trouble
                                } else {
                                    Trouble::default()
                                }
                            })
                            .map_err(|why| format!("{trouble:?} at step {at}: {why}"))?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn labs() -> Vec<Lab> {
    let mut random = Random(7);
    let mut labs = Vec::new();
    for (n, p) in [(3, 0), (3, 2), (4, 1), (5, 4)] {
        labs.push(Lab::new(n, p, &mut random));
    }
    for (n, p, q) in [(4, 0, 1), (4, 3, 2), (5, 1, 4)] {
        let exponents = random.distinct(usize::from(n) - 2, 255);
        labs.push(Lab::with_q(n, p, q, &exponents, &mut random));
    }
    labs
}

#[test]
fn power_may_go_in_the_middle_of_any_write() {
    let mut count = Count::default();
    for lab in labs() {
        all_cases(&lab, 0, &genuine, &mut count).unwrap_or_else(|why| panic!("{why}"));
    }
    println!(
        "{} runs, {} logged, {} steps at most",
        count.runs, count.logged, count.steps
    );
    assert!(count.runs > 10_000 && count.logged > 5_000);
}

#[test]
fn and_with_blocks_that_cannot_be_read() {
    let mut count = Count::default();
    for lab in labs() {
        all_cases(&lab, 1, &genuine, &mut count).unwrap_or_else(|why| panic!("{why}"));
    }
    println!("{} runs, {} logged", count.runs, count.logged);
}

/// What a machine does wrong with the log.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    /// The log is not written.
    NoLog,
    /// What is logged has the new data in it.
    LogsParity,
    /// New data for members that are not there is left out of the log.
    LeavesOutTheMissing,
    /// Of two parities only one is logged.
    LogsOnlyOne,
    /// What is added after the log is forgotten.
    AddsNothing,
}

struct Mutant {
    lane: emd_core::personalities::lane::Lane,
    case: Case,
    mutation: Mutation,
}

impl Machine for Mutant {
    fn step(&mut self, result: StepResult) -> Step {
        let step = self.lane.step(result);
        let missing = self.case.roles.data.minus(self.case.usable.readable);
        match (self.mutation, step) {
            (Mutation::NoLog, Step::Log { .. }) => self.step(StepResult::default()),
            (Mutation::AddsNothing, Step::Compute(Compute::Add { .. })) => {
                self.step(StepResult::default())
            }
            (Mutation::LogsOnlyOne, Step::Log { members, covers }) => Step::Log {
                members: Mask::option(members.first()),
                covers,
            },
            (Mutation::LeavesOutTheMissing, Step::Log { members, covers }) => Step::Log {
                members,
                covers: covers.minus(missing),
            },
            (Mutation::LogsParity, Step::Compute(Compute::Parity { p, old, new })) => {
                let Job::Write { written } = self.case.job else {
                    return step;
                };
                let new = new.union(written);
                Step::Compute(Compute::Parity { p, old, new })
            }
            _ => step,
        }
    }
}

#[test]
fn each_mistake_with_the_log_is_found() {
    let all = [
        Mutation::NoLog,
        Mutation::LogsParity,
        Mutation::LeavesOutTheMissing,
        Mutation::LogsOnlyOne,
        Mutation::AddsNothing,
    ];
    for mutation in all {
        let wrap = move |case: Case| -> Box<dyn Machine> {
            Box::new(Mutant {
                lane: case.lane(),
                case,
                mutation,
            })
        };
        let found = labs()
            .iter()
            .any(|lab| all_cases(lab, 0, &wrap, &mut Count::default()).is_err());
        assert!(found, "{mutation:?} is not found");
    }
}

/// What a write costs: nothing for a whole lane; else one log of its parities.
#[test]
fn whole_lanes_are_not_logged() {
    let mut random = Random(3);
    let mut lab = Lab::new(5, 4, &mut random);
    lab.logged = true;
    let mut logs = |written: Mask, lost: Option<Slot>| {
        let mut lab = lab.clone();
        lab.lose(Mask::option(lost));
        let job = Job::Write { written };
        let quiet = |_: usize, _: &Step| Trouble::default();
        let trace = run_and_judge(&mut lab, job, &mut random, genuine, quiet);
        trace.unwrap_or_else(|why| panic!("{why}")).log.is_some()
    };
    let all = Mask(0b01111);
    assert!(!logs(all, None), "nothing is left alone");
    assert!(logs(Mask(1), None));
    assert!(!logs(Mask(1), Some(4)), "there is no parity");
    assert!(!logs(Mask(1), Some(0)), "parity alone is written");
    assert!(logs(Mask(1), Some(1)), "what is lost is left alone");
    assert!(
        logs(all, Some(1)),
        "what is lost would be neither old nor new"
    );
}
