// SPDX-License-Identifier: GPL-2.0

//! The step machine of the parity levels.
//!
//! A *lane* is the same column range of every member of one stripe. The executor (the kernel's
//! data path, or the simulator) knows the range and has the lane locked; the machine deals in
//! members only. The executor calls [`Lane::step`] with what the last step came to, does what the
//! answer says, and comes again until [`Step::Done`].
//!
//! Lanes without parity (RAID 0, concat) run too: there every member stands alone, nothing can be
//! reconstructed, and a failed write is a lost one.
//!
//! The executor has two buffers for a member, each as long as the range: `Old(slot)` is what the
//! member holds (read, or reconstructed), `New(slot)` is what is to be written to it. For a
//! [`Job::Write`] it fills `New` of the written slots before it starts, and nothing may change
//! them until `Done`.
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
//! # Torn writes
//!
//! `Step::Write` names data and parity together: between them the lane disagrees with itself, and
//! a crash leaves it so. Knowing which lanes to resync afterwards (dirty regions, a journal) is
//! the executor's business.

use super::{LaneRoles, Mask};
use crate::model::Slot;

/// Most calls of [`Lane::step`], from the first to the one that answers `Done`.
pub const STEPS_MAX: usize = 8;

/// What is to be done with a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// New data for these data slots, each covering the whole column range.
    Write {
        /// The slots; `New` of them is filled.
        written: Mask,
    },
    /// The data of these slots is wanted, in `Old`.
    Read {
        /// The slots.
        wanted: Mask,
    },
    /// What these members should hold is worked out from the others and written to them.
    Rebuild {
        /// The members.
        targets: Mask,
    },
    /// Data and parity are compared.
    Sync {
        /// Write the parity where it differs.
        fix: bool,
    },
}

/// Which members can be used in this range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usable {
    /// In sync over the whole range.
    pub readable: Mask,
    /// Present; members being rebuilt are among them.
    pub writable: Mask,
}

/// What the executor does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read the range of these members into `Old`.
    Read {
        /// The members; never empty.
        members: Mask,
    },
    /// Work something out in memory.
    Compute(Compute),
    /// Write the range of these members from `New`.
    Write {
        /// The members; never empty.
        members: Mask,
    },
    /// The end. Further calls answer the same.
    Done(Outcome),
}

/// Something to work out in memory. None of these can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compute {
    /// `New(p)` = exclusive or of `Old` of each in `old` and `New` of each in `new`.
    Parity {
        /// The member with P. `old` may name it: it is read before it is overwritten.
        p: Slot,
        /// Blocks from `Old`.
        old: Mask,
        /// Blocks from `New`.
        new: Mask,
    },
    /// `Old(slot)` = exclusive or of `Old` of each in `old`: a block, of data or parity, that
    /// could not be read. `old` never names `slot`.
    Reconstruct {
        /// The block.
        slot: Slot,
        /// Where it comes from.
        old: Mask,
    },
    /// `New(slot)` = `Old(slot)`: a block that was reconstructed will be written. The two buffers
    /// may be the same one from here on.
    Restore {
        /// The block.
        slot: Slot,
    },
    /// Compare `New(p)` with `Old(p)`, where `p` has P or Q; the answer goes into
    /// [`StepResult::differs`].
    Compare {
        /// The member with the parity.
        p: Slot,
    },
    /// RAID 6: `New(q)` = the sum, over the members with data in `old`, of `Old` of each times its
    /// coefficient, and over those in `new` of `New` of each times its coefficient; and of `Old(q)`
    /// when `old` names `q` (which is how a read-modify-write starts from what was there). A member
    /// may be in both. Never names P's member in `old` or `new`, except as `p`.
    ///
    /// With `p`: `New(p)` is worked out too, as by [`Compute::Parity`] over the same members, of which
    /// `old` names `p` exactly when it names `q`.
    Syndromes {
        /// The member with P, when `New(p)` is wanted too.
        p: Option<Slot>,
        /// The member with Q.
        q: Slot,
        /// Blocks from `Old`.
        old: Mask,
        /// Blocks from `New`.
        new: Mask,
    },
    /// RAID 6: `Old(slot)`, a data block that could not be read, from Q and all other data, which are
    /// in `Old`. P is of no use here; if it is wanted, it is worked out afterwards.
    ReconstructByQ {
        /// The block.
        slot: Slot,
        /// The member with Q.
        q: Slot,
    },
    /// RAID 6: `Old` of two data blocks that could not be read, from P, Q and all other data, which
    /// are in `Old`.
    ReconstructTwo {
        /// One block.
        a: Slot,
        /// The other.
        b: Slot,
        /// The member with P.
        p: Slot,
        /// The member with Q.
        q: Slot,
    },
    /// RAID 6, both parities differ from what the data says: is there one member with data that, being
    /// wrong alone, explains every byte of it? `Old` and `New` of P and Q are filled, `New` from the
    /// data. The answer goes into [`StepResult::wrong`].
    Locate {
        /// The member with P.
        p: Slot,
        /// The member with Q.
        q: Slot,
    },
    /// `New(to)` = `Old(from)`; mirrors only. The two may be the same buffer from here on, and so
    /// may those of several `to` of one `from`. `from` never is `to`.
    Copy {
        /// The member that was read.
        from: Slot,
        /// The member that will be written.
        to: Slot,
    },
    /// Compare `Old(a)` with `Old(b)`; mirrors only. The answer goes into
    /// [`StepResult::differs`].
    Match {
        /// A member that was read.
        a: Slot,
        /// Another.
        b: Slot,
    },
}

/// What a step came to. The first call of [`Lane::step`] takes the default.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StepResult {
    /// This step's I/O on these members failed, whether the medium or the member is at fault.
    pub failed: Mask,
    /// These members, whether the step touched them or not, can from now on neither be read nor
    /// written. What was read from them before stays good.
    pub lost: Mask,
    /// `Compare` or `Match` found a difference.
    pub differs: bool,
    /// After [`Compute::Locate`]: the data member that is wrong.
    pub wrong: Option<Slot>,
}

/// How the job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneResult {
    /// What was asked for holds.
    Good,
    /// Contents could be neither read nor reconstructed; see [`Outcome::unreadable`].
    Unreadable,
    /// What was to be written could not be made to hold.
    Unwritten,
}

/// How a lane ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The job's result. A `Read` is `Good` even if a repair on the way failed; a `Write` even if
    /// the write to some member failed, as long as redundancy makes up for it.
    pub result: LaneResult,
    /// A `Sync` found that parity, or a copy, disagreed.
    pub mismatch: bool,
    /// Members whose block could not be read and was written again.
    pub repaired: Mask,
    /// Members whose contents were asked for on the way, and could be neither read nor
    /// reconstructed nor overwritten. Not empty with `Good` where the job could do without. For a
    /// `Read` that is `Unreadable`, `Old` of the wanted slots that are not named is good.
    pub unreadable: Mask,
    /// Members that should have taken a write and did not: what they hold in this range is out of
    /// date (unknown), so the executor must have them failed, or the range recorded as bad,
    /// *before* it acknowledges the job.
    pub write_failed: Mask,
    /// Mirrors: the member whose `Old` is what the range holds; a `Read` has its data there. `None`
    /// for parity levels, for writes, and when no member was read.
    pub source: Option<Slot>,
}

/// What the machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    /// The first call.
    Start,
    Read(Mask),
    Compute(Compute),
    Write(Mask),
    /// Nothing: it has ended.
    End(Outcome),
}

/// A lane at work. Small, no heap; one lives beside each lane's buffers.
///
/// # Invariants
///
/// * `have ∪ bad ∪ (all − readable)` has every member that was ever read, so none is read twice.
/// * `new` names the members whose `New` is filled, beside a `Write`'s own slots.
/// * Once `wrote` is set, only `Done` follows.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    roles: LaneRoles,
    job: Job,
    readable: Mask,
    writable: Mask,
    /// In use, but this range could not be read.
    bad: Mask,
    /// `Old` is filled.
    have: Mask,
    /// `New` is filled by the machine's own steps.
    new: Mask,
    /// `Write` was done; the members that took it.
    written_ok: Mask,
    write_failed: Mask,
    wrote: bool,
    compared: bool,
    mismatch: bool,
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
                wanted: wanted.intersect(all),
            },
            Job::Rebuild { targets } => Job::Rebuild {
                targets: targets.intersect(all),
            },
            Job::Sync { fix } => Job::Sync { fix },
        };
        Self {
            roles,
            job,
            readable: usable.readable.intersect(all),
            writable: usable.writable.intersect(all),
            bad: Mask::EMPTY,
            have: Mask::EMPTY,
            new: Mask::EMPTY,
            written_ok: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            wrote: false,
            compared: false,
            mismatch: false,
            waiting: Waiting::Start,
        }
    }

    /// Whether a write of these slots reads nothing first (all data of the stripe is written, or
    /// its parity is gone). The fast path asks before it takes buffers.
    pub fn reads_nothing(roles: LaneRoles, written: Mask, usable: Usable) -> bool {
        let mut lane = Self::new(roles, Job::Write { written }, usable);
        !matches!(lane.step(StepResult::default()), Step::Read { .. })
    }

    /// Takes what the last step came to, answers with the next.
    pub fn step(&mut self, result: StepResult) -> Step {
        self.absorb(result);
        let step = match self.waiting {
            Waiting::End(outcome) => Step::Done(outcome),
            _ => self.plan(),
        };
        self.waiting = match step {
            Step::Read { members } => Waiting::Read(members),
            Step::Compute(compute) => Waiting::Compute(compute),
            Step::Write { members } => Waiting::Write(members),
            Step::Done(outcome) => Waiting::End(outcome),
        };
        step
    }

    fn absorb(&mut self, result: StepResult) {
        self.readable = self.readable.minus(result.lost);
        self.writable = self.writable.minus(result.lost);
        match self.waiting {
            Waiting::Start | Waiting::End(_) => {}
            Waiting::Read(members) => {
                let failed = members.intersect(result.failed);
                self.have = self.have.union(members.minus(failed));
                self.bad = self.bad.union(failed);
            }
            Waiting::Compute(Compute::Parity { p, .. }) => self.new = self.new.with(p),
            Waiting::Compute(Compute::Reconstruct { slot, .. }) => self.have = self.have.with(slot),
            Waiting::Compute(Compute::Restore { slot }) => self.new = self.new.with(slot),
            Waiting::Compute(Compute::Compare { .. }) => {
                self.compared = true;
                self.mismatch = result.differs;
            }
            // Mirrors only: this machine never asks for them.
            Waiting::Compute(_) => {}
            Waiting::Write(members) => {
                let failed = members.intersect(result.failed.union(result.lost));
                self.write_failed = self.write_failed.union(failed);
                self.written_ok = members.minus(failed);
                self.wrote = true;
            }
        }
    }

    fn plan(&self) -> Step {
        if self.roles.q.is_some() {
            // Two parities need more than this machine knows; RAID 6 brings it. Until then a lane
            // with Q is left as it is: writing it without Q would break it.
            return match self.job {
                Job::Read { .. } => self.done_without(LaneResult::Unreadable, self.roles.all()),
                _ => self.done(LaneResult::Unwritten),
            };
        }
        match self.job {
            Job::Write { written } => self.plan_write(written),
            Job::Read { wanted } => self.plan_read(wanted),
            Job::Rebuild { targets } => self.plan_rebuild(targets),
            Job::Sync { fix } => self.plan_sync(fix),
        }
    }

    fn plan_write(&self, written: Mask) -> Step {
        let parity = self.roles.parity();
        if written.is_empty() {
            return self.done(LaneResult::Good);
        }
        if !self.can_hold(written) {
            return self.done(LaneResult::Unwritten);
        }
        if self.wrote {
            return self.done(LaneResult::Good);
        }
        let data_writes = written.intersect(self.writable);
        let Some(p) = self
            .roles
            .p
            .filter(|_| parity.is_within(self.writable.union(self.new)))
        else {
            // No parity to keep: data only.
            return self.write(data_writes.union(self.new));
        };
        if self.new.contains(p) {
            return self.write(data_writes.union(parity).union(self.new));
        }

        let untouched = self.roles.data.minus(written);
        // A block that neither method overwrites and that could not be read: put it right.
        if let Some(step) = self.mend(self.bad.intersect(self.readable).minus(written).without(p)) {
            return step;
        }
        let read_modify = self.cost(written.with(p));
        let reconstruct = self.cost(untouched);
        let (old, reads) = match (read_modify, reconstruct) {
            (Some(modify), Some(rebuild)) if modify.len() < rebuild.len() => {
                (written.with(p), modify)
            }
            (_, Some(rebuild)) => (untouched, rebuild),
            (Some(modify), None) => (written.with(p), modify),
            // A parity that is being rebuilt may stay behind: the rebuild comes by later.
            (None, None) if !self.readable.contains(p) => return self.write(data_writes),
            (None, None) => return self.done(LaneResult::Unwritten),
        };
        if !reads.is_empty() {
            return Step::Read { members: reads };
        }
        Step::Compute(Compute::Parity {
            p,
            old,
            new: written,
        })
    }

    fn plan_read(&self, wanted: Mask) -> Step {
        let missing = wanted.minus(self.have).minus(self.sources());
        if !self.wrote {
            if let Some(step) = self.derive(missing) {
                return step;
            }
            let direct = wanted.minus(self.have).minus(missing);
            if !direct.is_empty() {
                return Step::Read { members: direct };
            }
            // All is here that can be. Put right what could not be read and is known now.
            if let Some(step) = self.mend(self.bad) {
                return step;
            }
            if !self.restorable().is_empty() {
                return self.write(self.restorable());
            }
        }
        if missing.is_empty() {
            self.done(LaneResult::Good)
        } else {
            self.done_without(LaneResult::Unreadable, missing)
        }
    }

    fn plan_rebuild(&self, targets: Mask) -> Step {
        let wanted = targets.intersect(self.writable);
        if targets.is_empty() {
            return self.done(LaneResult::Good);
        }
        if self.wrote {
            let unheld = targets.minus(self.written_ok);
            return self.done(self.written_or(unheld));
        }
        if wanted.is_empty() {
            return self.done(LaneResult::Unwritten);
        }
        let left = wanted.minus(self.new);
        let Some(slot) = left.first() else {
            return self.write(wanted);
        };
        let others = self.roles.all().without(slot);
        let reads = self.cost_others(slot).filter(|_| left.len() == 1);
        let Some(reads) = reads else {
            return self.done_without(LaneResult::Unreadable, left);
        };
        if !reads.is_empty() {
            return Step::Read { members: reads };
        }
        if self.roles.p == Some(slot) {
            return Step::Compute(Compute::Parity {
                p: slot,
                old: others,
                new: Mask::EMPTY,
            });
        }
        if !self.have.contains(slot) {
            return Step::Compute(Compute::Reconstruct { slot, old: others });
        }
        Step::Compute(Compute::Restore { slot })
    }

    fn plan_sync(&self, fix: bool) -> Step {
        let all = self.roles.all();
        if self.wrote {
            return self.done(self.written_or(self.write_failed));
        }
        let Some(p) = self.roles.p.filter(|_| all.is_within(self.readable)) else {
            // A member is missing: nothing to compare with.
            return self.done(LaneResult::Good);
        };
        let unread = all.minus(self.have).minus(self.bad);
        if !unread.is_empty() {
            return Step::Read { members: unread };
        }
        let unreadable = self.bad.minus(self.have);
        if unreadable.len() > 1 {
            return self.done(LaneResult::Unreadable);
        }
        if unreadable == Mask::single(p) {
            if self.new.contains(p) {
                return self.write(Mask::single(p));
            }
            return self.compute_parity(p);
        }
        if let Some(step) = self.mend(self.bad) {
            return step;
        }
        if !self.bad.is_empty() {
            // What was reconstructed from the parity agrees with it.
            return self.write(self.restorable());
        }
        if !self.new.contains(p) {
            return self.compute_parity(p);
        }
        if !self.compared {
            return Step::Compute(Compute::Compare { p });
        }
        if self.mismatch && fix {
            return self.write(Mask::single(p));
        }
        self.done(LaneResult::Good)
    }

    fn compute_parity(&self, p: Slot) -> Step {
        Step::Compute(Compute::Parity {
            p,
            old: self.roles.data,
            new: Mask::EMPTY,
        })
    }

    /// Members that can be read, as far as is known.
    fn sources(&self) -> Mask {
        self.readable.minus(self.bad)
    }

    /// Members that could not be read, and still hold nothing readable.
    fn unread_now(&self) -> Mask {
        self.bad.minus(self.have).minus(self.written_ok)
    }

    /// What would have to be read to have `Old` of all of `members`; `None` when that cannot be.
    fn cost(&self, members: Mask) -> Option<Mask> {
        let reads = members.minus(self.have);
        reads.is_within(self.sources()).then_some(reads)
    }

    /// What would have to be read to work out `slot` from all others; `None` when that cannot be,
    /// as where there is no parity (RAID 0 and concat).
    fn cost_others(&self, slot: Slot) -> Option<Mask> {
        self.roles.p?;
        self.cost(self.roles.all().without(slot))
    }

    /// The next step towards `Old` of `missing`, which cannot be read; `None` when there is
    /// nothing missing or no way.
    fn derive(&self, missing: Mask) -> Option<Step> {
        let slot = missing.first().filter(|_| missing.len() == 1)?;
        let others = self.roles.all().without(slot);
        let reads = self.cost_others(slot)?;
        Some(if reads.is_empty() {
            Step::Compute(Compute::Reconstruct { slot, old: others })
        } else {
            Step::Read { members: reads }
        })
    }

    /// The next step towards `New` of blocks in `bad` that could not be read; `None` when all that
    /// can be done has been.
    fn mend(&self, bad: Mask) -> Option<Step> {
        if let Some(step) = self.derive(bad.minus(self.have)) {
            return Some(step);
        }
        let slot = self.restorable().intersect(bad).minus(self.new).first()?;
        Some(Step::Compute(Compute::Restore { slot }))
    }

    /// Blocks that could not be read, are known now, and can be written back.
    fn restorable(&self) -> Mask {
        self.bad
            .intersect(self.have)
            .intersect(self.readable)
            .intersect(self.writable)
    }

    /// Writes `members`, as far as they still take writes.
    fn write(&self, members: Mask) -> Step {
        let members = members.intersect(self.writable);
        if members.is_empty() {
            return self.done(LaneResult::Unwritten);
        }
        Step::Write { members }
    }

    /// Members that are out of date in this range, or will be once `written` and the parity are
    /// written.
    fn stale(&self, written: Mask) -> Mask {
        self.roles
            .all()
            .minus(self.readable)
            .union(written.union(self.roles.parity()).minus(self.writable))
            .union(self.write_failed)
    }

    /// Whether new data of `written` holds, or can still be made to: no more members are out of
    /// date than there is parity, and if new data is on one of those, every other block can be
    /// read.
    fn can_hold(&self, written: Mask) -> bool {
        let redundancy = self.roles.parity().len();
        let stale = self.stale(written);
        if redundancy == 0 {
            // Every member stands alone.
            return written.intersect(stale).is_empty();
        }
        let overwritten = if self.wrote {
            self.written_ok
        } else {
            written.union(self.roles.parity()).union(self.have)
        };
        let blocked = if written.intersect(stale).is_empty() {
            Mask::EMPTY
        } else {
            self.bad.minus(overwritten)
        };
        stale.union(blocked).len() <= redundancy
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
        Step::Done(Outcome {
            result,
            mismatch: self.mismatch,
            repaired: self.bad.intersect(self.written_ok),
            unreadable: missing.union(self.unread_now()),
            write_failed: self.write_failed.union(skipped),
            source: None,
        })
    }
}
