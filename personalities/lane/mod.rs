// SPDX-License-Identifier: GPL-2.0

//! The step machine of the parity levels.
//!
//! A *lane* is the same column range of every member of one stripe. The executor (the kernel's
//! data path, or the simulator) knows the range and has the lane locked; the machine deals in
//! members only. The executor calls [`Lane::step`] with what the last step came to, does what the
//! answer says, and comes again until [`Step::Done`].
//!
//! Lanes without parity (RAID 0, concat) run too: there every member stands alone, nothing can be
//! reconstructed, and a failed write is a lost one. With P, one block follows from the others; with
//! P and Q, two do.
//!
//! The executor has two buffers for a member, each as long as the range: `Old(slot)` is what the
//! member holds (read, or reconstructed), `New(slot)` is what is to be written to it. For a
//! [`Job::Write`] it fills `New` of the written slots before it starts, and nothing may change
//! them until `Done`.
//!
//! | file | |
//! |---|---|
//! | `vocabulary` | jobs, steps and answers; what an executor has to do for each |
//! | `derive` | what is known of a lane, and the way to what is not |
//! | `write`, `read`, `rebuild`, `sync` | the next step of each job |
//!
//! # What is promised
//!
//! * New data counts as written ([`LaneResult::Good`]) only when each block of it is on its
//!   member, or follows from the other members; and no more members are out of date than the level
//!   has parity for.
//! * When it can be known beforehand that this cannot be had, nothing is written at all.
//! * Nothing is read in full-stripe writes, and otherwise no more members than the cheaper of
//!   read-modify-write and reconstruct-write needs, as long as no read fails.
//! * A block that could not be read, on a member that is still in use, is written again with what
//!   it should hold, whenever that can be worked out.
//! * The machine ends after at most [`STEPS_MAX`] steps, whatever the executor answers: a member
//!   that was read is never read again, and each job writes once.
//!
//! # Redundancy that is not known to agree
//!
//! Before the first sync, and after a crash, parity may be wrong. A read-modify-write would carry
//! the fault on: it keeps the difference as it was, and new data that is acknowledged would not
//! follow from the others. So for ranges that no sync has passed yet the executor says
//! [`Lane::distrust_parity`]; then
//! * a write works parity out anew from data, and is refused where it cannot, unless there are so
//!   many members missing that nothing is left for parity to disagree with;
//! * a sync writes parity, never data: after a crash several members may be half written, which can
//!   look like one that is wrong.
//!
//! What was lost or unreadable before is still worked out from parity, because there is nothing
//! else: in a stripe that was written since, it is right; in one that never was, there is nothing to
//! lose; after a crash it is the write hole, which a log closes, not this machine.
//!
//! Where P and Q disagree about a block that is missing, P counts, in every job: so what users read
//! before a sync is what they read after it.
//!
//! # Torn writes
//!
//! `Step::Write` names data and parity together: between them the lane disagrees with itself, and
//! a crash leaves it so. Knowing which lanes to resync afterwards (dirty regions) is the executor's
//! business. So that nothing is lost with a member that is missing then, the executor asks for a log
//! ([`Lane::with_log`], [`hole_log`](super::hole_log)): a write then works parity out in two parts. The first
//! is the sum of what it leaves alone, and of new data that has no member to go to; [`Step::Log`] names it.
//! The rest is added after that.

mod derive;
mod read;
mod rebuild;
mod sync;
mod vocabulary;
mod write;

pub use vocabulary::{Compute, Job, LaneResult, Outcome, Step, StepResult, Usable};

use super::{LaneRoles, Mask};
use crate::model::Slot;

/// Most calls of [`Lane::step`], from the first to the one that answers `Done`.
///
/// Three reads: what the job wants; what one failure makes it want beside that (the other data and
/// P); and Q, should another fail; more failures are beyond redundancy. Then, at most: one block
/// worked out by Q, P after it, a copy for each of the two, the write, the end. A sync reads once and
/// ends sooner or as late: both parities, two comparisons, the search, the block, its copy, the write,
/// the end. The host tests reach this number, and never more.
pub const STEPS_MAX: usize = 9;

/// The same with a log: beside that the log and what is added; and for each of two members that are lost
/// in between, what is added is taken out, what the member was to take is logged too, and the rest added.
pub const STEPS_LOGGED_MAX: usize = STEPS_MAX + 8;

/// What the machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    /// The first call.
    Start,
    Read(Mask),
    Compute(Compute),
    Log(Mask),
    Write(Mask),
    /// Nothing: it has ended.
    End(Outcome),
}

/// What [`Compute::Locate`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Located {
    /// Not asked for.
    Unasked,
    /// No one data member explains it.
    Nobody,
    /// This one does.
    Member(Slot),
}

/// A lane at work. Small, no heap; one lives beside each lane's buffers.
///
/// # Invariants
///
/// * `have ∪ bad ∪ (all − readable)` has every member that was ever read, so none is read twice.
/// * `new` names the members whose `New` is filled, beside a `Write`'s own slots.
/// * `derived ⊆ have`.
/// * Once `wrote` is set, only `Done` follows.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    roles: LaneRoles,
    job: Job,
    /// Parity is not known to agree with data.
    distrusted: bool,
    /// See [`Lane::overwriting`].
    overwriting: bool,
    /// There is a log for partial parity.
    has_log: bool,
    /// Written blocks that are in `New` of parity.
    summed: Mask,
    /// Members with data in what was logged.
    logged: Option<Mask>,
    readable: Mask,
    writable: Mask,
    /// In use, but this range could not be read.
    bad: Mask,
    /// `Old` is filled.
    have: Mask,
    /// `Old` was worked out, not read.
    derived: Mask,
    /// `New` is filled by the machine's own steps.
    new: Mask,
    /// `Write` was done; the members that took it.
    written_ok: Mask,
    write_failed: Mask,
    wrote: bool,
    /// Parities that were compared, and those of them that differ.
    compared: Mask,
    differing: Mask,
    located: Located,
    waiting: Waiting,
}

impl Lane {
    /// A lane about to start. Slots that have no such role in the lane are left out of the job.
    pub fn new(roles: LaneRoles, job: Job, usable: Usable) -> Self {
        let all = roles.all();
        let job = match job {
            Job::Write { written } => Job::Write {
                written: written.intersect(roles.data),
            },
            Job::Read { wanted } => Job::Read {
                wanted: wanted.intersect(roles.data),
            },
            Job::Rebuild { targets } => Job::Rebuild {
                targets: targets.intersect(all),
            },
            Job::Sync { fix } => Job::Sync { fix },
        };
        Self {
            roles,
            job,
            distrusted: false,
            overwriting: false,
            has_log: false,
            summed: Mask::EMPTY,
            logged: None,
            readable: usable.readable.intersect(all),
            writable: usable.writable.intersect(all),
            bad: Mask::EMPTY,
            have: Mask::EMPTY,
            derived: Mask::EMPTY,
            new: Mask::EMPTY,
            written_ok: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            wrote: false,
            compared: Mask::EMPTY,
            differing: Mask::EMPTY,
            located: Located::Unasked,
            waiting: Waiting::Start,
        }
    }

    /// Says, before the first step, that parity is not known to agree with data here (see the
    /// module's head).
    #[must_use]
    pub fn distrust_parity(mut self) -> Self {
        self.distrusted = true;
        self
    }

    /// Says, before the first step, that parity most likely does not agree: a `Sync` that fixes, of a lane whose parity is
    /// distrusted and whose data can all be read, does not look at the parity that it writes. It cannot say then whether
    /// that differed.
    #[must_use]
    pub fn overwriting(mut self) -> Self {
        self.overwriting = true;
        self
    }

    /// Says, before the first step, that there is a log: writes that leave data alone go through it.
    #[must_use]
    pub fn with_log(mut self) -> Self {
        self.has_log = true;
        self
    }

    /// Whether a write of these slots reads nothing first (all data of the stripe is written, or
    /// its parity is gone). The fast path asks before it takes buffers.
    pub fn reads_nothing(roles: LaneRoles, written: Mask, usable: Usable) -> bool {
        let mut lane = Self::new(roles, Job::Write { written }, usable);
        !matches!(lane.step(StepResult::default()), Step::Read { .. })
    }

    /// The job, without slots that have no such role in the lane.
    pub fn job(&self) -> Job {
        self.job
    }

    /// Takes what the last step came to, answers with the next.
    pub fn step(&mut self, result: StepResult) -> Step {
        self.absorb(result);
        let step = match self.waiting {
            Waiting::End(outcome) => Step::Done(outcome),
            _ => self.plan(),
        };
        if let Step::Log { covers, .. } = step {
            self.logged = Some(covers);
        }
        self.waiting = match step {
            Step::Read { members } => Waiting::Read(members),
            Step::Compute(compute) => Waiting::Compute(compute),
            Step::Log { members, .. } => Waiting::Log(members),
            Step::Write { members } => Waiting::Write(members),
            Step::Done(outcome) => Waiting::End(outcome),
        };
        step
    }

    fn absorb(&mut self, result: StepResult) {
        self.readable = self.readable.minus(result.lost);
        self.writable = self.writable.minus(result.lost);
        match self.waiting {
            // What was not logged is in `lost`.
            Waiting::Start | Waiting::Log(_) | Waiting::End(_) => {}
            Waiting::Read(members) => {
                let failed = members.intersect(result.failed);
                self.have = self.have.union(members.minus(failed));
                self.bad = self.bad.union(failed);
            }
            Waiting::Compute(compute) => self.absorb_computed(compute, result),
            Waiting::Write(members) => {
                let failed = members.intersect(result.failed.union(result.lost));
                self.write_failed = self.write_failed.union(failed);
                self.written_ok = members.minus(failed);
                self.wrote = true;
            }
        }
    }

    fn absorb_computed(&mut self, compute: Compute, result: StepResult) {
        let worked_out = match compute {
            Compute::Reconstruct { slot, .. } | Compute::ReconstructByQ { slot, .. } => {
                Mask::single(slot)
            }
            Compute::ReconstructTwo { a, b, .. } => Mask::single(a).with(b),
            _ => Mask::EMPTY,
        };
        self.have = self.have.union(worked_out);
        self.derived = self.derived.union(worked_out);
        if let Compute::Parity { new, .. } | Compute::Syndromes { new, .. } = compute {
            self.summed = new;
        }
        match compute {
            Compute::Parity { p: slot, .. } | Compute::Restore { slot } => {
                self.new = self.new.with(slot);
            }
            Compute::Syndromes { p, q, .. } => {
                self.new = self.new.union(Mask::option(p)).with(q);
            }
            Compute::Add { new, .. } => {
                self.summed = self.summed.minus(new).union(new.minus(self.summed));
            }
            Compute::Compare { p } => {
                self.compared = self.compared.with(p);
                if result.differs {
                    self.differing = self.differing.with(p);
                }
            }
            Compute::Locate { .. } => {
                let wrong = result.wrong.filter(|&slot| self.roles.data.contains(slot));
                self.located = wrong.map_or(Located::Nobody, Located::Member);
            }
            // The rest is done, or for mirrors: this machine never asks for those.
            _ => {}
        }
    }

    fn plan(&self) -> Step {
        match self.job {
            Job::Write { written } => self.plan_write(written),
            Job::Read { wanted } => self.plan_read(wanted),
            Job::Rebuild { targets } => self.plan_rebuild(targets),
            Job::Sync { fix } => self.plan_sync(fix),
        }
    }

    /// How many members may be out of date.
    fn redundancy(&self) -> u32 {
        self.roles.parity().len()
    }

    /// Works out `New` of these parities, of which there is at least one, from blocks in `old` and
    /// `new`. A read-modify-write (`modify`) starts from their own old contents.
    fn compute_parity(&self, parities: Mask, old: Mask, new: Mask, modify: bool) -> Option<Step> {
        let own = if modify { parities } else { Mask::EMPTY };
        let old = old.union(own);
        let p = self.roles.p.filter(|&p| parities.contains(p));
        let q = self.roles.q.filter(|&q| parities.contains(q));
        Some(Step::Compute(match (p, q) {
            (p, Some(q)) => Compute::Syndromes { p, q, old, new },
            (Some(p), None) => Compute::Parity { p, old, new },
            (None, None) => return None,
        }))
    }

    /// Writes `members`, as far as they still take writes.
    fn write(&self, members: Mask) -> Step {
        let members = members.intersect(self.writable);
        if members.is_empty() {
            return self.done(LaneResult::Unwritten);
        }
        Step::Write { members }
    }

    fn written_or(&self, unheld: Mask) -> LaneResult {
        if unheld.is_empty() {
            LaneResult::Good
        } else {
            LaneResult::Unwritten
        }
    }

    fn done(&self, result: LaneResult) -> Step {
        self.done_without(result, Mask::EMPTY)
    }

    /// The end, without `missing` beside what could not be read.
    fn done_without(&self, result: LaneResult, missing: Mask) -> Step {
        // Members in use that the job leaves out of date without having tried to write them.
        let skipped = match self.job {
            Job::Write { written } if self.wrote => written
                .union(self.roles.parity())
                .intersect(self.readable)
                .minus(self.written_ok),
            _ => Mask::EMPTY,
        };
        let corrected = match self.job {
            Job::Sync { .. } => self.written_ok.minus(self.bad),
            _ => Mask::EMPTY,
        };
        Step::Done(Outcome {
            result,
            mismatch: !self.differing.is_empty(),
            repaired: self.bad.intersect(self.written_ok),
            corrected,
            unreadable: missing.union(self.unread_now()),
            write_failed: self.write_failed.union(skipped),
            source: None,
        })
    }
}
