// SPDX-License-Identifier: GPL-2.0

//! One lane, simulated: members, the executor that a [`Machine`] drives, and the judge.
//!
//! # Fault model
//!
//! A block is one `u64`; a lane has one a member. Before and between steps
//! * a block may have become unreadable (latent sector error); it stays so until it is written;
//! * a write may fail; what the medium then holds is garbage, and may be unreadable;
//! * a member may be lost, before the step's I/O reaches it (which then fails) or after it;
//! * a member may be absent, or present and out of date (being rebuilt), from the start.
//!
//! There is no silent corruption, and no power cut in the middle of a step (torn writes are the
//! executor's business, see `lane`).
//!
//! # The judge
//!
//! Knows nothing of methods: it compares what a reader with plain exclusive-or arithmetic would get
//! afterwards with what was there before and what was acknowledged; and it refuses unjustified
//! failures and superfluous reads.

#![allow(dead_code)] // Each test uses a part.

use emd_core::model::Slot;
use emd_core::personalities::lane::{
    Compute, Job, Lane, LaneResult, Outcome, Step, StepResult, Usable, STEPS_MAX,
};
use emd_core::personalities::{LaneRoles, Mask};

pub type Verdict<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// What is driven: the real machine, or one with a fault put in.
pub trait Machine {
    fn step(&mut self, result: StepResult) -> Step;
}

impl Machine for Lane {
    fn step(&mut self, result: StepResult) -> Step {
        Lane::step(self, result)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub content: u64,
    /// The block cannot be read.
    pub bad: bool,
    pub present: bool,
    pub in_sync: bool,
}

#[derive(Clone, Debug)]
pub struct Lab {
    pub roles: LaneRoles,
    pub members: Vec<Member>,
}

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
}

impl Lab {
    /// A lane of `n` members that agrees with itself, P in slot `p`.
    pub fn new(n: u16, p: Slot, random: &mut Random) -> Self {
        let roles = LaneRoles {
            data: Mask::all(n).without(p),
            p: Some(p),
            q: None,
        };
        let mut lab = Self {
            roles,
            members: (0..n)
                .map(|_| Member {
                    content: random.next(),
                    bad: false,
                    present: true,
                    in_sync: true,
                })
                .collect(),
        };
        lab.at_mut(p).content = lab.xor(roles.data);
        lab
    }

    pub fn at(&self, slot: Slot) -> &Member {
        &self.members[usize::from(slot)]
    }

    pub fn at_mut(&mut self, slot: Slot) -> &mut Member {
        &mut self.members[usize::from(slot)]
    }

    pub fn all(&self) -> Mask {
        self.roles.all()
    }

    pub fn p(&self) -> Slot {
        self.roles.p.unwrap()
    }

    fn xor(&self, members: Mask) -> u64 {
        members.iter().fold(0, |sum, m| sum ^ self.at(m).content)
    }

    pub fn agrees(&self) -> bool {
        self.xor(self.all()) == 0
    }

    fn filter(&self, keep: impl Fn(&Member) -> bool) -> Mask {
        self.all()
            .iter()
            .filter(|&m| keep(self.at(m)))
            .fold(Mask::EMPTY, Mask::with)
    }

    pub fn usable(&self) -> Usable {
        Usable {
            readable: self.filter(|m| m.present && m.in_sync),
            writable: self.filter(|m| m.present),
        }
    }

    /// Members that a reader can trust and read.
    pub fn sound(&self) -> Mask {
        self.filter(|m| m.present && m.in_sync && !m.bad)
    }

    /// What a reader gets.
    pub fn read_back(&self, slot: Slot) -> Option<u64> {
        let others = self.all().without(slot);
        if self.sound().contains(slot) {
            Some(self.at(slot).content)
        } else if others.is_within(self.sound()) {
            Some(self.xor(others))
        } else {
            None
        }
    }

    pub fn lose(&mut self, members: Mask) {
        for m in members.intersect(self.all()) {
            let member = self.at_mut(m);
            member.present = false;
            member.in_sync = false;
        }
    }

    /// Runs a job to its end. `fresh` is the new data by slot.
    pub fn run(
        &mut self,
        machine: &mut dyn Machine,
        job: Job,
        fresh: &[u64],
        mut trouble_at: impl FnMut(usize, &Step) -> Trouble,
    ) -> Verdict<Trace> {
        let n = self.members.len();
        let mut old: Vec<Option<u64>> = vec![None; n];
        let mut new: Vec<Option<u64>> = vec![None; n];
        if let Job::Write { written } = job {
            for m in written {
                new[usize::from(m)] = Some(fresh[usize::from(m)]);
            }
        }
        let mut trace = Trace {
            outcome: Outcome {
                result: LaneResult::Good,
                mismatch: false,
                repaired: Mask::EMPTY,
                unreadable: Mask::EMPTY,
                write_failed: Mask::EMPTY,
                source: None,
            },
            reads: 0,
            steps: 0,
            write_asked: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            read_asked: Mask::EMPTY,
            read_ok: Mask::EMPTY,
            trouble: false,
            lost: Mask::EMPTY,
            old: Vec::new(),
        };
        let mut result = StepResult::default();
        loop {
            let step = machine.step(result);
            trace.steps += 1;
            ensure!(trace.steps <= STEPS_MAX, "more than {STEPS_MAX} steps");
            if let Step::Done(outcome) = step {
                trace.outcome = outcome;
                trace.old = old;
                return Ok(trace);
            }
            let trouble = trouble_at(trace.steps - 1, &step);
            let trusted = self.usable();
            self.lose(trouble.lost_before);
            result = StepResult::default();
            match step {
                Step::Read { members } => {
                    ensure!(!members.is_empty(), "reads nothing");
                    ensure!(
                        members.intersect(trace.read_asked).is_empty(),
                        "reads {members:?} twice"
                    );
                    ensure!(
                        members.is_within(trusted.readable),
                        "reads {members:?}, of which only {trusted:?}"
                    );
                    trace.read_asked = trace.read_asked.union(members);
                    trace.reads += members.len();
                    for m in members {
                        if trouble.media.contains(m) {
                            self.at_mut(m).bad = true;
                        }
                        let member = self.at(m);
                        if !member.present || member.bad {
                            result.failed = result.failed.with(m);
                        } else {
                            old[usize::from(m)] = Some(member.content);
                            trace.read_ok = trace.read_ok.with(m);
                        }
                    }
                    trace.trouble |= !result.failed.is_empty();
                }
                Step::Compute(compute) => self.compute(compute, &mut old, &mut new, &mut result)?,
                Step::Write { members } => {
                    ensure!(!members.is_empty(), "writes nothing");
                    ensure!(trace.write_asked.is_empty(), "writes a second time");
                    ensure!(
                        members.is_within(trusted.writable),
                        "writes {members:?}, of which only {trusted:?}"
                    );
                    trace.write_asked = members;
                    for m in members {
                        let Some(block) = new[usize::from(m)] else {
                            return Err(format!("writes {m} from an empty buffer"));
                        };
                        let fails = trouble.media.contains(m);
                        let member = self.at_mut(m);
                        if !member.present {
                            result.failed = result.failed.with(m);
                        } else if fails {
                            result.failed = result.failed.with(m);
                            member.bad = block & 1 == 0;
                            member.content = !block;
                        } else {
                            member.bad = false;
                            member.content = block;
                        }
                    }
                    trace.write_failed = result.failed.union(trouble.lost_after.intersect(members));
                    trace.trouble |= !result.failed.is_empty();
                }
                Step::Done(_) => unreachable!(),
            }
            self.lose(trouble.lost_after);
            result.lost = trouble.lost_before.union(trouble.lost_after);
            trace.lost = trace.lost.union(result.lost);
            trace.trouble |= !result.lost.is_empty();
        }
    }

    fn compute(
        &self,
        compute: Compute,
        old: &mut [Option<u64>],
        new: &mut [Option<u64>],
        result: &mut StepResult,
    ) -> Verdict {
        let sum = |buffers: &[Option<u64>], members: Mask, name: &str| -> Verdict<u64> {
            let mut sum = 0;
            for m in members {
                match buffers.get(usize::from(m)).copied().flatten() {
                    Some(block) => sum ^= block,
                    None => return Err(format!("{compute:?} uses {name} of {m}, which is empty")),
                }
            }
            Ok(sum)
        };
        match compute {
            Compute::Parity {
                p,
                old: from_old,
                new: from_new,
            } => {
                new[usize::from(p)] = Some(sum(old, from_old, "Old")? ^ sum(new, from_new, "New")?);
            }
            Compute::Reconstruct { slot, old: from } => {
                ensure!(!from.contains(slot), "{compute:?} from itself");
                old[usize::from(slot)] = Some(sum(old, from, "Old")?);
            }
            Compute::Restore { slot } => {
                new[usize::from(slot)] = Some(sum(old, Mask::single(slot), "Old")?);
            }
            Compute::Compare { p } => {
                let p = Mask::single(p);
                result.differs = sum(old, p, "Old")? != sum(new, p, "New")?;
            }
            _ => {
                return Err(format!("{compute:?} is for other levels"));
            }
        }
        Ok(())
    }

    /// Does what the executor owes after `Done`: members that missed a write are out of date,
    /// rebuilt ones are in sync.
    fn settle(&mut self, job: Job, trace: &Trace) {
        for m in trace.outcome.write_failed {
            self.at_mut(m).in_sync = false;
        }
        if let (Job::Rebuild { targets }, LaneResult::Good) = (job, trace.outcome.result) {
            for m in targets.minus(trace.lost) {
                self.at_mut(m).in_sync = true;
            }
        }
    }
}

/// Runs `job` on `lab` with the real machine, wrapped by `wrap`, and judges it. `lab` is left as
/// the executor leaves it.
pub fn run_and_judge(
    lab: &mut Lab,
    job: Job,
    random: &mut Random,
    wrap: impl FnOnce(LaneRoles, Job, Usable) -> Box<dyn Machine>,
    trouble_at: impl FnMut(usize, &Step) -> Trouble,
) -> Verdict<Trace> {
    let before = lab.clone();
    let fresh: Vec<u64> = before.members.iter().map(|_| random.next()).collect();
    let mut machine = wrap(lab.roles, job, lab.usable());
    let trace = lab.run(machine.as_mut(), job, &fresh, trouble_at)?;
    lab.settle(job, &trace);
    judge(&before, lab, job, &fresh, &trace).map_err(|why| {
        format!("{why}\njob {job:?}\nbefore {before:?}\nafter {lab:?}\n{trace:?}")
    })?;
    Ok(trace)
}

fn judge(before: &Lab, after: &Lab, job: Job, fresh: &[u64], trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let unread = trace.read_asked.minus(trace.read_ok);
    let written_ok = trace.write_asked.minus(trace.write_failed);
    ensure!(
        outcome.repaired == unread.intersect(written_ok),
        "repairs told are not those made"
    );
    for m in unread.minus(written_ok) {
        ensure!(
            trace.old[usize::from(m)].is_some() || outcome.unreadable.contains(m),
            "block of {m} stays unreadable, and that is not told"
        );
    }
    ensure!(
        trace.read_ok.intersect(outcome.unreadable).is_empty(),
        "a block that was read is told unreadable"
    );
    ensure!(
        trace.write_failed.is_within(outcome.write_failed),
        "a failed write was not reported"
    );
    ensure!(
        outcome.write_failed.is_within(trace.write_failed),
        "a failed write was made up"
    );
    for m in trace.write_asked.minus(trace.write_failed) {
        ensure!(!after.at(m).bad, "written and still bad");
    }
    if trace.write_asked.is_empty() {
        for m in before.all() {
            ensure!(
                before.at(m).content == after.at(m).content,
                "contents of {m} changed without a write"
            );
        }
    }
    match job {
        Job::Write { written } => judge_write(before, after, written, fresh, trace),
        Job::Read { wanted } => judge_read(before, after, wanted, trace),
        Job::Rebuild { targets } => judge_rebuild(before, after, targets, trace),
        Job::Sync { fix } => judge_sync(before, after, fix, trace),
    }
}

/// Blocks that are known somewhere at the end, or were read on the way.
fn known(after: &Lab, trace: &Trace) -> Mask {
    after.sound().union(trace.read_ok)
}

/// Nobody reads anything but what was there before, outside of `changed`.
fn judge_untouched(before: &Lab, after: &Lab, changed: Mask) -> Verdict {
    for d in before.roles.data.minus(changed) {
        let (was, is) = (before.read_back(d), after.read_back(d));
        ensure!(
            is.is_none() || was.is_none() || is == was,
            "data of {d} was {was:x?} and reads {is:x?}"
        );
        ensure!(
            !(was.is_none() && is.is_some()),
            "data of {d} could not be read before, and now reads {is:x?}"
        );
    }
    Ok(())
}

fn judge_write(before: &Lab, after: &Lab, written: Mask, fresh: &[u64], trace: &Trace) -> Verdict {
    judge_untouched(before, after, written)?;
    let all = before.all();
    let p = before.p();
    // A latent error that the run had no reason to find, together with a write that failed, is
    // nobody's fault: the acknowledged block must follow from what the others hold.
    let mut without_latent = after.clone();
    for m in all.minus(trace.read_asked) {
        without_latent.at_mut(m).bad = false;
    }
    for w in written {
        let new = Some(fresh[usize::from(w)]);
        let was = before.read_back(w);
        let is = after.read_back(w);
        if trace.outcome.result == LaneResult::Good {
            ensure!(
                is == new || (is.is_none() && without_latent.read_back(w) == new),
                "acknowledged data of {w} reads {is:x?}"
            );
        } else {
            ensure!(
                is.is_none() || is == new || is == was,
                "refused data of {w} was {was:x?}, new {new:x?}, and reads {is:x?}"
            );
        }
    }
    let in_use = after.usable().readable;
    if all.is_within(in_use) && after.sound() == all {
        ensure!(
            after.agrees() || before.sound().len() + 1 < all.len(),
            "parity disagrees with all members there"
        );
    }

    // A block in use that was found unreadable, with all else sound, is put right on the way.
    let unsound = all.minus(after.sound());
    ensure!(
        trace.outcome.result != LaneResult::Good
            || unsound.len() != 1
            || !unsound.is_within(in_use.intersect(trace.read_asked))
            || unsound.is_within(trace.read_ok),
        "the block of {unsound:?} was left bad"
    );

    // No superfluous reads.
    let untouched = before.roles.data.minus(written);
    let usable = before.usable();
    if !trace.trouble {
        let mut costs = Vec::new();
        if !usable.writable.contains(p) {
            costs.push(0);
        }
        if untouched.is_within(usable.readable) {
            costs.push(untouched.len());
        }
        if written.with(p).is_within(usable.readable) {
            costs.push(written.len() + 1);
        }
        if let Some(&least) = costs.iter().min() {
            ensure!(
                trace.reads <= least,
                "{} reads where {least} would do",
                trace.reads
            );
        }
    }

    match trace.outcome.result {
        LaneResult::Good => Ok(()),
        LaneResult::Unreadable => Err("a write is no read".into()),
        LaneResult::Unwritten => {
            // Justified when more than one member is out of date, or when new data has no place
            // of its own and another block is unreadable, or when parity cannot be had.
            let stale = all.minus(in_use);
            if stale.len() > 1 {
                return Ok(());
            }
            let known = known(after, trace);
            let unknown = all.minus(known);
            // A write that failed stands for data that now only the others have.
            let homeless = !written.intersect(stale).is_empty();
            let overwritten = trace.write_asked.minus(trace.write_failed);
            if homeless && stale.union(unknown.minus(overwritten)).len() > 1 {
                return Ok(());
            }
            ensure!(
                in_use.contains(p) && usable.readable.contains(p),
                "refused although there is no parity to keep"
            );
            let derivable = unknown.len() <= 1;
            ensure!(
                !derivable && !untouched.is_within(known) && !written.with(p).is_within(known),
                "refused although there is a way; known {known:?}"
            );
            ensure!(
                trace.write_asked.is_empty(),
                "wrote although parity could not be had"
            );
            Ok(())
        }
    }
}

fn judge_read(before: &Lab, after: &Lab, wanted: Mask, trace: &Trace) -> Verdict {
    judge_untouched(before, after, Mask::EMPTY)?;
    let outcome = &trace.outcome;
    let unread = match outcome.result {
        LaneResult::Good => Mask::EMPTY,
        LaneResult::Unreadable => outcome.unreadable,
        LaneResult::Unwritten => return Err("a read is no write".into()),
    };
    for w in wanted.minus(unread) {
        let (was, got) = (before.read_back(w), trace.old[usize::from(w)]);
        ensure!(
            got.is_some() && (was.is_none() || got == was),
            "data of {w} is {was:x?} and was read as {got:x?}"
        );
    }
    let unread = unread.intersect(wanted);
    let unknown = before.all().minus(known(after, trace));
    if outcome.result == LaneResult::Unreadable {
        ensure!(!unread.is_empty(), "unreadable, but what?");
        ensure!(
            unread.is_within(unknown) && unknown.len() > 1,
            "refused although there is a way; unknown {unknown:?}"
        );
    }
    if !trace.trouble {
        let least = if wanted.is_within(before.usable().readable) {
            wanted.len()
        } else {
            before.all().len() - 1
        };
        ensure!(trace.reads <= least, "{} reads, {least} do", trace.reads);
    }
    // A block in use that could not be read and could be worked out is put right.
    if outcome.result == LaneResult::Good {
        let tried = wanted.intersect(after.usable().readable);
        for w in tried {
            ensure!(
                !after.at(w).bad || trace.read_ok.contains(w),
                "block of {w} was left bad"
            );
        }
    }
    Ok(())
}

fn judge_rebuild(before: &Lab, after: &Lab, targets: Mask, trace: &Trace) -> Verdict {
    judge_untouched(before, after, Mask::EMPTY)?;
    let all = before.all();
    match trace.outcome.result {
        LaneResult::Good => {
            for t in targets {
                let right = before.xor(all.without(t));
                ensure!(
                    after.at(t).content == right && !after.at(t).bad,
                    "rebuilt wrong"
                );
            }
            Ok(())
        }
        LaneResult::Unwritten => {
            let writable = before.usable().writable.minus(trace.lost);
            ensure!(
                !trace.write_failed.is_empty() || !targets.is_within(writable),
                "refused although targets take writes"
            );
            Ok(())
        }
        LaneResult::Unreadable => {
            let unknown = all.minus(known(after, trace)).union(targets);
            ensure!(unknown.len() > 1, "refused although there is a way");
            ensure!(trace.write_asked.is_empty(), "wrote nonsense");
            Ok(())
        }
    }
}

fn judge_sync(before: &Lab, after: &Lab, fix: bool, trace: &Trace) -> Verdict {
    let all = before.all();
    let outcome = &trace.outcome;
    if !all.is_within(before.usable().readable) {
        ensure!(
            trace.steps == 1 && outcome.result == LaneResult::Good,
            "nothing to compare with, and yet {} steps",
            trace.steps
        );
        return Ok(());
    }
    // Data that could be read is never touched.
    for d in before.roles.data.intersect(trace.read_ok) {
        ensure!(
            before.at(d).content == after.at(d).content,
            "sync changed data"
        );
    }
    if !trace.trouble {
        ensure!(
            outcome.mismatch != before.agrees(),
            "mismatch not told from agreement"
        );
        ensure!(
            outcome.result == LaneResult::Good,
            "failed without a reason"
        );
        ensure!(fix || trace.write_asked.is_empty(), "a check wrote");
        ensure!(
            before.agrees() == trace.write_asked.is_empty() || !fix,
            "wrote without need, or did not"
        );
    }
    match outcome.result {
        LaneResult::Good => {
            if trace.lost.is_empty() && (fix || !outcome.mismatch) {
                ensure!(after.agrees(), "disagrees after a good sync");
                ensure!(after.sound() == all, "bad blocks after a good sync");
            }
            Ok(())
        }
        LaneResult::Unwritten => {
            ensure!(!trace.write_failed.is_empty(), "no write failed");
            Ok(())
        }
        LaneResult::Unreadable => {
            ensure!(
                all.minus(known(after, trace)).len() > 1,
                "refused although there is a way"
            );
            Ok(())
        }
    }
}

/// The machine as it is.
pub fn genuine(roles: LaneRoles, job: Job, usable: Usable) -> Box<dyn Machine> {
    Box::new(Lane::new(roles, job, usable))
}
