// SPDX-License-Identifier: GPL-2.0

//! One range of a mirror, simulated: members, the executor that the machine drives, and the judge.
//!
//! # Fault model
//!
//! A block is one `u32`. At every step, as far as the budget of faults allows and in every
//! combination (see [`Script`]):
//! * the read of a block fails; it stays unreadable until it is written;
//! * a write fails; what the medium then holds is garbage. Of the last member in sync the executor says then that it
//!   stays in use all the same;
//! * a member is lost, before the step's I/O reaches it (which then fails) or after it; also in
//!   steps that are no I/O, or not its own.
//!
//! From the start a member is in sync, in sync but not to be written, present and out of date
//! (being rebuilt), or absent. There is no silent corruption, except as the different copies that
//! a `Sync` is there for.
//!
//! | file | |
//! |---|---|
//! | `judge` | whether a run did what the machine promises |
//! | `starts` | the states and jobs that there are |

#![allow(dead_code)] // Each test uses a part.

mod judge;
mod starts;

use crate::ensure;
use crate::sim_common;
use emd_core::model::Slot;
use emd_core::personalities::lane::{Compute, Job, LaneResult, Outcome, Step, StepResult, Usable};
use emd_core::personalities::mirror::{MirrorLane, VOTERS_MAX};
use emd_core::personalities::Mask;
use judge::judge;
use sim_common::blank_outcome;
pub use sim_common::Verdict;
pub use starts::{jobs, patterns, starts};

/// What is driven: the machine's step, or one with a fault put in.
pub type Stepper<'a> = &'a dyn Fn(&mut MirrorLane, StepResult) -> Step;

/// The machine as it is.
pub fn genuine(machine: &mut MirrorLane, result: StepResult) -> Step {
    machine.step(result)
}

/// A branch of the tree of everything that can happen: the answers to `pick`, in order.
#[derive(Default)]
pub struct Script {
    /// (answer, how many there are)
    picks: Vec<(u16, u16)>,
    at: usize,
}

impl Script {
    pub fn pick(&mut self, of: u16) -> u16 {
        if self.at == self.picks.len() {
            self.picks.push((0, of));
        }
        let (answer, was_of) = self.picks[self.at];
        assert_eq!(was_of, of, "the run is not the same twice");
        self.at += 1;
        answer
    }

    /// On to the next branch; `false` when there is none.
    pub fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((answer, of)) = self.picks.pop() {
            if answer + 1 < of {
                self.picks.push((answer + 1, of));
                return true;
            }
        }
        false
    }
}

/// Where faults come from.
pub struct Faults<'a> {
    /// How many there may be in all.
    pub budget: u32,
    /// One of so many things happens; 0 is that nothing does.
    pub pick: &'a mut dyn FnMut(u16) -> u16,
}

impl Faults<'_> {
    fn pick(&mut self, of: u16) -> u16 {
        if self.budget == 0 {
            return 0;
        }
        let answer = (self.pick)(of);
        if answer != 0 {
            self.budget -= 1;
        }
        answer
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    pub content: u32,
    /// The block cannot be read.
    pub bad: bool,
    pub in_sync: bool,
    pub writable: bool,
}

impl Member {
    pub fn in_sync(content: u32) -> Self {
        Self {
            content,
            bad: false,
            in_sync: true,
            writable: true,
        }
    }

    fn lose(&mut self) {
        self.in_sync = false;
        self.writable = false;
    }
}

#[derive(Clone, Debug)]
pub struct Lab {
    pub members: Vec<Member>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Trace {
    pub outcome: Outcome,
    pub steps: usize,
    /// In the order of the steps.
    pub reads: Vec<Slot>,
    pub read_ok: Mask,
    pub read_failed: Mask,
    pub write_asked: Mask,
    /// Members whose write failed, or who were lost in that step.
    pub write_failed: Mask,
    /// Those of them that stay in use.
    pub kept: Mask,
    /// A write that is taken back: who was to be written again, and who failed that.
    pub back_asked: Mask,
    pub back_failed: Mask,
    pub lost: Mask,
    pub trouble: bool,
    pub old: Vec<Option<u32>>,
}

/// What a `Write` writes.
pub const FRESH: u32 = 0xf4e5;

impl Lab {
    pub fn all(&self) -> Mask {
        Mask::all(self.members.len() as u16)
    }

    pub fn at(&self, slot: Slot) -> &Member {
        &self.members[usize::from(slot)]
    }

    fn at_mut(&mut self, slot: Slot) -> &mut Member {
        &mut self.members[usize::from(slot)]
    }

    fn filter(&self, keep: impl Fn(&Member) -> bool) -> Mask {
        self.all()
            .iter()
            .filter(|&m| keep(self.at(m)))
            .fold(Mask::EMPTY, Mask::with)
    }

    pub fn usable(&self) -> Usable {
        Usable {
            readable: self.filter(|m| m.in_sync),
            writable: self.filter(|m| m.writable),
        }
    }

    /// Runs a job to its end.
    pub fn run(
        &mut self,
        stepper: Stepper<'_>,
        job: Job,
        faults: &mut Faults<'_>,
    ) -> Verdict<Trace> {
        let n = self.members.len();
        let mut machine = MirrorLane::new(self.all(), job, self.usable());
        let mut old: Vec<Option<u32>> = vec![None; n];
        let mut new: Vec<Option<u32>> = vec![None; n];
        let mut trace = Trace {
            outcome: blank_outcome(),
            steps: 0,
            reads: Vec::new(),
            read_ok: Mask::EMPTY,
            read_failed: Mask::EMPTY,
            write_asked: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            kept: Mask::EMPTY,
            back_asked: Mask::EMPTY,
            back_failed: Mask::EMPTY,
            lost: Mask::EMPTY,
            trouble: false,
            old: Vec::new(),
        };
        let mut matched: Vec<(Slot, Slot)> = Vec::new();
        let mut result = StepResult::default();
        loop {
            let step = stepper(&mut machine, result);
            trace.steps += 1;
            ensure!(
                trace.steps <= steps_max(n, job),
                "{} steps are too many",
                trace.steps
            );
            let trusted = self.usable();
            result = StepResult::default();
            let io = match step {
                Step::Done(outcome) => {
                    let nonsense = StepResult {
                        failed: self.all(),
                        lost: self.all(),
                        differs: true,
                        ..StepResult::default()
                    };
                    ensure!(
                        stepper(&mut machine, nonsense) == step,
                        "the end is not the end"
                    );
                    trace.outcome = outcome;
                    trace.old = old;
                    return Ok(trace);
                }
                Step::Read { members } | Step::Write { members } => members,
                Step::Compute(_) => Mask::EMPTY,
                Step::Log { .. } => return Err("mirrors have no log".into()),
            };
            match step {
                Step::Read { members } => {
                    ensure!(!members.is_empty(), "reads nothing");
                    for m in members {
                        ensure!(trusted.readable.contains(m), "reads {m}, which is stale");
                        ensure!(!trace.reads.contains(&m), "reads {m} twice");
                        trace.reads.push(m);
                        let what = faults.pick(4);
                        let member = self.at_mut(m);
                        member.bad |= what == 1;
                        if what >= 2 {
                            member.lose();
                            result.lost = result.lost.with(m);
                        }
                        if what == 2 || member.bad {
                            result.failed = result.failed.with(m);
                        } else {
                            old[usize::from(m)] = Some(member.content);
                            trace.read_ok = trace.read_ok.with(m);
                        }
                    }
                    trace.read_failed = trace.read_failed.union(result.failed);
                }
                Step::Log { .. } => {}
                Step::Write { members } => {
                    ensure!(!members.is_empty(), "writes nothing");
                    let is_back = !trace.write_asked.is_empty();
                    if is_back {
                        ensure!(!trace.kept.is_empty(), "writes a second time");
                        ensure!(trace.back_asked.is_empty(), "writes a third time");
                        trace.back_asked = members;
                    } else {
                        trace.write_asked = members;
                    }
                    for m in members {
                        ensure!(
                            trusted.writable.contains(m),
                            "writes {m}, which it must not"
                        );
                        let block = match job {
                            Job::Write { .. } if !is_back => FRESH,
                            _ => match new[usize::from(m)] {
                                Some(block) => block,
                                None => return Err(format!("writes {m} from an empty buffer")),
                            },
                        };
                        let what = faults.pick(4);
                        let member = self.at_mut(m);
                        match what {
                            1 => {
                                member.content = 0xdead_0000 + u32::from(m);
                                result.failed = result.failed.with(m);
                            }
                            2 => result.failed = result.failed.with(m),
                            _ => {
                                member.content = block;
                                member.bad = false;
                            }
                        }
                        if what >= 2 {
                            member.lose();
                            result.lost = result.lost.with(m);
                        }
                    }
                    let failed = result.failed.union(result.lost);
                    if is_back {
                        trace.back_failed = failed;
                    } else {
                        trace.write_failed = failed;
                        result.kept = self.kept(failed);
                        trace.kept = result.kept;
                    }
                }
                Step::Compute(Compute::Copy { from, to }) => {
                    ensure!(from != to, "copies {from} to itself");
                    ensure!(new[usize::from(to)].is_none(), "copies to {to} twice");
                    let Some(block) = old[usize::from(from)] else {
                        return Err(format!("copies {from}, which was not read"));
                    };
                    new[usize::from(to)] = Some(block);
                }
                Step::Compute(Compute::Match { a, b }) => {
                    ensure!(a != b, "compares {a} with itself");
                    ensure!(!matched.contains(&(a, b)), "compares {a} and {b} twice");
                    matched.push((a, b));
                    matched.push((b, a));
                    let (Some(x), Some(y)) = (old[usize::from(a)], old[usize::from(b)]) else {
                        return Err(format!("compares {a} and {b}, not both read"));
                    };
                    result.differs = x != y;
                }
                Step::Compute(other) => return Err(format!("{other:?} is not for mirrors")),
                Step::Done(_) => unreachable!(),
            }
            // Somebody else goes in the meantime.
            let others = self.all().minus(io).minus(trace.lost);
            let what = faults.pick(others.len() as u16 + 1);
            if let Some(m) = what
                .checked_sub(1)
                .and_then(|i| others.iter().nth(i.into()))
            {
                self.at_mut(m).lose();
                result.lost = result.lost.with(m);
            }
            trace.lost = trace.lost.union(result.lost);
            trace.trouble |= !result.failed.union(result.lost).is_empty();
        }
    }

    /// The last member in sync, if it is among those that did not take a write (`Loss::Kept`): the others were given up
    /// one after another.
    fn kept(&mut self, failed: Mask) -> Mask {
        let in_sync = self.usable().readable;
        if in_sync.is_empty() || !in_sync.is_within(failed) {
            return Mask::EMPTY;
        }
        let last = in_sync.iter().last();
        Mask::option(last)
    }

    /// What the executor owes after `Done`: members that missed a write are out of date, rebuilt
    /// ones are in sync.
    fn settle(&mut self, job: Job, trace: &Trace) {
        for m in trace.outcome.write_failed {
            self.at_mut(m).in_sync = false;
        }
        if let (Job::Rebuild { targets }, LaneResult::Good) = (job, trace.outcome.result) {
            for m in targets.intersect(self.usable().writable) {
                self.at_mut(m).in_sync = true;
            }
        }
    }
}

/// The tightest bound for `n` members.
pub fn steps_max(n: usize, job: Job) -> usize {
    let voters_max = VOTERS_MAX as usize;
    let vote = if n > voters_max {
        (n - 1).max(voters_max * (voters_max - 1) / 2)
    } else {
        n * (n - 1) / 2
    };
    match job {
        // Taken back: a read, copies for all others, a write.
        Job::Write { .. } => 2 + 1 + (n - 1) + 1,
        Job::Read { .. } => 2 * n + 1,
        Job::Rebuild { .. } => 2 * n,
        // At least two classes to vote on, so at least one needs no copy; see also `trees`.
        Job::Sync { .. } => 1 + vote + (n - 1) + 2,
    }
}

/// Runs `job` on a copy of `before` and judges what came of it.
pub fn run_and_judge(
    before: &Lab,
    stepper: Stepper<'_>,
    job: Job,
    faults: &mut Faults<'_>,
) -> Verdict<Trace> {
    let mut after = before.clone();
    let trace = after
        .run(stepper, job, faults)
        .map_err(|why| format!("{why}\njob {job:?}\nbefore {before:?}"))?;
    after.settle(job, &trace);
    judge(before, &after, job, &trace).map_err(|why| {
        format!("{why}\njob {job:?}\nbefore {before:?}\nafter {after:?}\n{trace:?}")
    })?;
    Ok(trace)
}

/// Everything that can happen to `job` with at most `budget` faults. Answers with the number of
/// runs.
pub fn explore(before: &Lab, stepper: Stepper<'_>, job: Job, budget: u32) -> Verdict<u64> {
    let mut script = Script::default();
    let mut runs = 0;
    loop {
        let mut pick = |of| script.pick(of);
        let mut faults = Faults {
            budget,
            pick: &mut pick,
        };
        run_and_judge(before, stepper, job, &mut faults)?;
        runs += 1;
        if !script.advance() {
            return Ok(runs);
        }
    }
}
