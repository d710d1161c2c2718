// SPDX-License-Identifier: GPL-2.0

//! The executor: what each step means, byte for byte, and the rules that machines keep.

use super::field;
use super::judge::locate;
use super::sim_common::blank_outcome;
use super::{Lab, Machine, Verdict};
use crate::ensure;
use emd_core::model::Slot;
use emd_core::personalities::lane::{
    Compute, Job, Outcome, Step, StepResult, STEPS_LOGGED_MAX, STEPS_MAX,
};
use emd_core::personalities::Mask;

/// What goes wrong in one step.
#[derive(Clone, Copy, Default, Debug)]
pub struct Trouble {
    /// Reads of these fail for good; writes to these fail.
    pub media: Mask,
    /// Lost before the step's I/O.
    pub lost_before: Mask,
    /// Lost after it.
    pub lost_after: Mask,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Trace {
    pub outcome: Outcome,
    pub reads: u32,
    pub steps: usize,
    /// Members that a `Write` step named.
    pub write_asked: Mask,
    /// Members whose write failed, or who were lost.
    pub write_failed: Mask,
    /// Members that a `Read` step named.
    pub read_asked: Mask,
    pub read_ok: Mask,
    pub trouble: bool,
    pub lost: Mask,
    pub old: Vec<Option<u64>>,
    /// What went to the log, last.
    pub log: Option<Logged>,
}

/// What is in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub covers: Mask,
    /// The sums, by the parity's slot.
    pub sums: Vec<(Slot, u64)>,
}

/// The two buffers of each member.
#[derive(Clone, Debug)]
struct Buffers {
    old: Vec<Option<u64>>,
    new: Vec<Option<u64>>,
}

fn full(buffers: &[Option<u64>], slot: Slot, what: &Compute) -> Verdict<u64> {
    let block = buffers.get(usize::from(slot)).copied().flatten();
    block.ok_or_else(|| format!("{what:?} uses a buffer of {slot}, which is empty"))
}

impl Lab {
    /// Runs a job to its end. `fresh` is the new data by slot.
    pub fn run(
        &mut self,
        machine: &mut dyn Machine,
        job: Job,
        fresh: &[u64],
        mut trouble_at: impl FnMut(usize, &Step) -> Trouble,
    ) -> Verdict<Trace> {
        let n = self.members.len();
        let mut buffers = Buffers {
            old: vec![None; n],
            new: vec![None; n],
        };
        if let Job::Write { written } = job {
            for m in written {
                buffers.new[usize::from(m)] = Some(fresh[usize::from(m)]);
            }
        }
        let mut trace = Trace {
            outcome: blank_outcome(),
            reads: 0,
            steps: 0,
            write_asked: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            read_asked: Mask::EMPTY,
            read_ok: Mask::EMPTY,
            trouble: false,
            lost: Mask::EMPTY,
            old: Vec::new(),
            log: None,
        };
        let most = if self.logged {
            STEPS_LOGGED_MAX
        } else {
            STEPS_MAX
        };
        let mut result = StepResult::default();
        loop {
            let step = machine.step(result);
            trace.steps += 1;
            ensure!(trace.steps <= most, "more than {most} steps");
            if let Step::Done(outcome) = step {
                trace.outcome = outcome;
                trace.old = buffers.old;
                return Ok(trace);
            }
            let trouble = trouble_at(trace.steps - 1, &step);
            let trusted = self.usable();
            self.lose(trouble.lost_before);
            result = StepResult::default();
            match step {
                Step::Read { members } => {
                    ensure!(
                        members.is_within(trusted.readable),
                        "reads {members:?}, of which only {trusted:?}"
                    );
                    result.failed = self.read(members, trouble, &mut buffers, &mut trace)?;
                }
                Step::Compute(compute) => self.compute(compute, &mut buffers, &mut result)?,
                Step::Log { members, covers } => {
                    ensure!(self.logged, "there is no log");
                    ensure!(trace.write_asked.is_empty(), "logs after the write");
                    ensure!(members.is_within(trusted.writable), "logs on {members:?}");
                    let failed = members.intersect(trouble.media);
                    self.lose(failed);
                    let mut sums = Vec::new();
                    for m in members.minus(failed) {
                        let sum = buffers.new[usize::from(m)];
                        sums.push((m, sum.ok_or("logs from an empty buffer")?));
                    }
                    trace.log = Some(Logged { covers, sums });
                    result.failed = failed;
                }
                Step::Write { members } => {
                    if let (true, Job::Write { written }) = (self.logged, job) {
                        let new = |m: Slot| buffers.new[usize::from(m)].unwrap_or(0);
                        super::crash::judge(self, written, fresh, members, &new, &trace.log)?;
                    }
                    ensure!(
                        members.is_within(trusted.writable),
                        "writes {members:?}, of which only {trusted:?}"
                    );
                    result.failed = self.write(members, trouble, &buffers, &mut trace)?;
                }
                Step::Done(_) => unreachable!(),
            }
            self.lose(trouble.lost_after);
            result.lost = trouble.lost_before.union(trouble.lost_after);
            if matches!(step, Step::Log { .. }) {
                result.lost = result.lost.union(result.failed);
            }
            trace.lost = trace.lost.union(result.lost);
            trace.trouble |= !result.failed.union(result.lost).is_empty();
        }
    }

    fn read(
        &mut self,
        members: Mask,
        trouble: Trouble,
        buffers: &mut Buffers,
        trace: &mut Trace,
    ) -> Verdict<Mask> {
        ensure!(!members.is_empty(), "reads nothing");
        ensure!(
            members.intersect(trace.read_asked).is_empty(),
            "reads {members:?} twice"
        );
        trace.read_asked = trace.read_asked.union(members);
        trace.reads += members.len();
        let mut failed = Mask::EMPTY;
        for m in members {
            if trouble.media.contains(m) {
                self.at_mut(m).bad = true;
            }
            let member = self.at(m);
            if !member.present || member.bad {
                failed = failed.with(m);
            } else {
                buffers.old[usize::from(m)] = Some(member.content);
                trace.read_ok = trace.read_ok.with(m);
            }
        }
        Ok(failed)
    }

    fn write(
        &mut self,
        members: Mask,
        trouble: Trouble,
        buffers: &Buffers,
        trace: &mut Trace,
    ) -> Verdict<Mask> {
        ensure!(!members.is_empty(), "writes nothing");
        ensure!(trace.write_asked.is_empty(), "writes a second time");
        trace.write_asked = members;
        let mut failed = Mask::EMPTY;
        for m in members {
            let Some(block) = buffers.new[usize::from(m)] else {
                return Err(format!("writes {m} from an empty buffer"));
            };
            let fails = trouble.media.contains(m);
            let member = self.at_mut(m);
            if !member.present {
                failed = failed.with(m);
            } else if fails {
                failed = failed.with(m);
                member.bad = block & 1 == 0;
                member.content = !block;
            } else {
                member.bad = false;
                member.content = block;
            }
        }
        trace.write_failed = failed.union(trouble.lost_after.intersect(members));
        Ok(failed)
    }

    /// The reference for every [`Compute`] of parity levels.
    fn compute(&self, compute: Compute, buffers: &mut Buffers, result: &mut StepResult) -> Verdict {
        let roles = self.roles;
        match compute {
            Compute::Parity { p, old, new } => {
                self.sums(&[p], old, new, buffers, &compute)?;
            }
            Compute::Syndromes { p, q, old, new } => {
                ensure!(roles.q == Some(q), "{compute:?}: that is not Q");
                if let Some(p) = p {
                    ensure!(
                        old.contains(p) == old.contains(q),
                        "{compute:?}: one from its old contents, the other not"
                    );
                }
                let both: Vec<Slot> = Iterator::chain(p.into_iter(), [q]).collect();
                self.sums(&both, old, new, buffers, &compute)?;
                for m in old.intersect(new) {
                    // An executor may make the difference of it.
                    buffers.old[usize::from(m)] = None;
                }
            }
            Compute::Reconstruct { slot, old } => {
                ensure!(!old.contains(slot), "{compute:?} from itself");
                let mut sum = 0;
                for m in old {
                    sum ^= full(&buffers.old, m, &compute)?;
                }
                buffers.old[usize::from(slot)] = Some(sum);
            }
            Compute::ReconstructByQ { slot, q } => {
                ensure!(roles.q == Some(q), "{compute:?}: that is not Q");
                ensure!(roles.data.contains(slot), "{compute:?}: that is not data");
                let known = roles.data.without(slot).with(q);
                self.solve_for(&[slot], known, buffers, &compute)?;
            }
            Compute::ReconstructTwo { a, b, p, q } => {
                ensure!(
                    roles.p == Some(p) && roles.q == Some(q),
                    "{compute:?}: those are not P and Q"
                );
                ensure!(
                    a < b && roles.data.contains(a) && roles.data.contains(b),
                    "{compute:?}: those are not two data members"
                );
                self.solve_for(&[a, b], self.all().without(a).without(b), buffers, &compute)?;
            }
            Compute::Add { p, q, new } => {
                ensure!(new.is_within(roles.data), "{compute:?}: that is not data");
                for parity in p.into_iter().chain(q) {
                    let mut sum = full(&buffers.new, parity, &compute)?;
                    for m in new {
                        let block = full(&buffers.new, m, &compute)?;
                        sum ^= field::scale(block, self.factor(parity, m));
                    }
                    buffers.new[usize::from(parity)] = Some(sum);
                }
            }
            Compute::Restore { slot } => {
                buffers.new[usize::from(slot)] = Some(full(&buffers.old, slot, &compute)?);
            }
            Compute::Compare { p } => {
                result.differs =
                    full(&buffers.old, p, &compute)? != full(&buffers.new, p, &compute)?;
            }
            Compute::Locate { p, q } => {
                ensure!(
                    roles.p == Some(p) && roles.q == Some(q),
                    "{compute:?}: those are not P and Q"
                );
                let p = full(&buffers.old, p, &compute)? ^ full(&buffers.new, p, &compute)?;
                let q = full(&buffers.old, q, &compute)? ^ full(&buffers.new, q, &compute)?;
                result.wrong = locate(self, p, q);
            }
            Compute::Copy { .. } | Compute::Match { .. } => {
                return Err(format!("{compute:?} is for mirrors"));
            }
        }
        Ok(())
    }

    /// `New` of each of `parities`.
    fn sums(
        &self,
        parities: &[Slot],
        old: Mask,
        new: Mask,
        buffers: &mut Buffers,
        compute: &Compute,
    ) -> Verdict {
        let allowed = parities.iter().fold(self.roles.data, |m, &p| m.with(p));
        ensure!(
            old.is_within(allowed) && new.is_within(self.roles.data),
            "{compute:?} of another parity"
        );
        for &parity in parities {
            ensure!(
                buffers.new[usize::from(parity)].is_none(),
                "{compute:?} for the second time"
            );
            let mut sum = 0;
            for m in old.intersect(self.roles.data) {
                let block = full(&buffers.old, m, compute)?;
                sum ^= field::scale(block, self.factor(parity, m));
            }
            for m in new {
                let block = full(&buffers.new, m, compute)?;
                sum ^= field::scale(block, self.factor(parity, m));
            }
            if old.contains(parity) {
                sum ^= full(&buffers.old, parity, compute)?;
                // An executor may do it in place.
                buffers.old[usize::from(parity)] = None;
            }
            buffers.new[usize::from(parity)] = Some(sum);
        }
        Ok(())
    }

    /// `Old` of each of `unknown`, from `Old` of all of `known`.
    fn solve_for(
        &self,
        unknown: &[Slot],
        known: Mask,
        buffers: &mut Buffers,
        compute: &Compute,
    ) -> Verdict {
        let mut lab = self.clone();
        for m in known {
            lab.at_mut(m).content = full(&buffers.old, m, compute)?;
        }
        for &slot in unknown {
            let found = lab.value(slot, known);
            ensure!(found.is_some(), "{compute:?} has no solution");
            buffers.old[usize::from(slot)] = found;
        }
        Ok(())
    }
}
