// SPDX-License-Identifier: GPL-2.0

//! The step machine of mirrors: RAID 1 off the fast path.
//!
//! It has the vocabulary and the executor of [`lane`](super::lane): the same range of every
//! member, locked; `Old(slot)` and `New(slot)` for each; [`MirrorLane::step`] until
//! [`Step::Done`]. What is different is that every in-sync member holds the same.
//!
//! # The jobs
//!
//! * [`Job::Write`]: the executor fills `New` of one slot only, the lowest in `written`, and **in
//!   the `Step::Write` of this job every member's `New` is `New(written.first())`**. One step
//!   writes all writable members, those being rebuilt too. Nothing is read, unless the last good member did not
//!   take it and stays in use ([`StepResult::kept`]): those being rebuilt that took it would differ from it where the
//!   rebuild has passed. So what it holds is read and written to them: a second `Step::Write`, of `New` that a `Copy`
//!   filled.
//! * [`Job::Read`]: any member's block will do. The lowest wanted slot is tried first, then the
//!   others one at a time, slots ascending. The data is in `Old` of [`Outcome::source`].
//! * [`Job::Rebuild`]: one member that is not itself a target is read (the next if that fails) and
//!   copied to all targets that can be written. `Good` when all of those took it.
//! * [`Job::Sync`]: all in-sync members are read and compared. The copy that most members have
//!   wins, the one with the lowest slot among equals; so with two members, and with more than
//!   [`VOTERS_MAX`] that were read (where a vote would take too many comparisons), a differing
//!   lowest slot is not outvoted by one other. Where no strict majority agrees on a range of several blocks, each block votes
//!   by itself ([`Work::is_too_coarse`]). Where no sync has passed ([`MirrorLane::unsynced`]) there is no
//!   vote, and nothing has to be compared: an *overwriting* one ([`MirrorLane::overwriting`]) reads the copy that
//!   counts and writes it to the others, whatever they hold.
//!
//! # What is promised
//!
//! * New data counts as written ([`LaneResult::Good`]) only when an in-sync member took it; every
//!   in-sync member that did not is in [`Outcome::write_failed`]. When no in-sync member can be
//!   written, nothing is.
//! * Beside new data, only what was read from an in-sync member is ever written, and only to
//!   targets, to in-sync members that could not be read, and (`fix`) to those that differ.
//! * A block that could not be read, on a member that is still in use, is written again, whenever
//!   another member has it; also by a `Sync` that does not `fix`.
//! * A `Write` that the last good member did not take is taken back from those being rebuilt. Where that cannot be, as it
//!   cannot be read there either, it is [`LaneResult::Unreadable`], and [`Outcome::unreadable`] names those: they hold
//!   what nobody else does, and the range is to be recorded as bad there.
//! * The machine ends after at most [`STEPS_MAX`] steps, whatever the executor answers: no member
//!   is read twice, no two members are compared twice, and each job writes once, a `Write` that is taken back twice.

mod fill;
mod vote;

use super::lane::{Compute, Job, Lane, LaneResult, Outcome, Step, StepResult, Usable};
use super::{Geometry, Kind, Mask};
use crate::model::{Slot, MEMBERS_MAX};
use vote::Vote;

/// Most calls of [`MirrorLane::step`], from the first to the one that answers `Done`: every member
/// read, all but one copied or compared (`n` reads and `n − 1` copies; or one read of all,
/// `n − 1` comparisons and `n − 1` copies), a write, the end. A vote of [`VOTERS_MAX`] stays
/// below. A write that is taken back: that write, reads and copies (together `n`), a write, the end.
pub const STEPS_MAX: usize = 2 * MEMBERS_MAX + 1;

/// Most copies among which a `Sync` looks for the one that most members have; of more, the one
/// with the lowest slot wins.
pub const VOTERS_MAX: u32 = 8;

/// The same range of all members of a mirror, at work. Small, no heap.
///
/// # Invariants
///
/// * `have ∪ bad` has every member that was read; so none is read twice.
/// * `have` members were in sync when they were read.
/// * `new` names the members whose `New` the machine's own steps filled.
/// * Once `wrote` is set, only `Done` follows; in a `Write` also what takes it back, once.
#[derive(Clone, Copy, Debug)]
pub struct MirrorLane {
    job: Job,
    readable: Mask,
    writable: Mask,
    /// This range of them could not be read.
    bad: Mask,
    /// `Old` is filled.
    have: Mask,
    /// `New` is filled.
    new: Mask,
    vote: Vote,
    voting: bool,
    /// No sync has passed here: see [`MirrorLane::unsynced`].
    unsynced: bool,
    /// See [`MirrorLane::overwriting`].
    overwriting: bool,
    /// See [`MirrorLane::led_by`].
    followers: Mask,
    wrote: bool,
    /// Those that stay in use though they did not take it ([`StepResult::kept`]).
    kept: Mask,
    /// The others hold again what these do, or failed.
    taken_back: bool,
    written_ok: Mask,
    write_failed: Mask,
    /// What the executor is at; `None` before the first call.
    last: Option<Step>,
}

impl MirrorLane {
    /// A mirror's range about to start. Slots that are not in `members` are left out of the job.
    pub fn new(members: Mask, job: Job, usable: Usable) -> Self {
        let job = match job {
            Job::Write { written } => Job::Write {
                written: written.intersect(members),
            },
            Job::Read { wanted } => Job::Read {
                wanted: wanted.intersect(members),
            },
            Job::Rebuild { targets } => Job::Rebuild {
                targets: targets.intersect(members),
            },
            Job::Sync { fix } => Job::Sync { fix },
        };
        Self {
            job,
            readable: usable.readable.intersect(members),
            writable: usable.writable.intersect(members),
            bad: Mask::EMPTY,
            have: Mask::EMPTY,
            new: Mask::EMPTY,
            vote: Vote::EMPTY,
            voting: false,
            unsynced: false,
            overwriting: false,
            followers: Mask::EMPTY,
            wrote: false,
            kept: Mask::EMPTY,
            taken_back: false,
            written_ok: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            last: None,
        }
    }

    /// The job, without slots that are not its members.
    pub fn job(&self) -> Job {
        self.job
    }

    /// Says, before the first step, that no sync has passed here since a crash. Then a `Sync` does not
    /// vote: the copy with the lowest slot wins, which is the one that reads get until then, so that
    /// what was read stays true.
    #[must_use]
    pub fn unsynced(mut self) -> Self {
        self.unsynced = true;
        self
    }

    /// Says, before the first step, that the copies most likely differ: a `Sync` that fixes, where no sync has passed,
    /// does not look at what it overwrites. It cannot say then whether that differed.
    #[must_use]
    pub fn overwriting(mut self) -> Self {
        self.overwriting = true;
        self
    }

    /// Says, before the first step, that only `leaders` were in sync when the last sync was cut short, or
    /// never was: as long as there are some, the lowest of them is the one that counts. Others are being
    /// rebuilt, or were rebuilt since: they may hold something else where writes were in flight then.
    #[must_use]
    pub fn led_by(mut self, leaders: Mask) -> Self {
        self.followers = Mask::all(MEMBERS_MAX as u16).minus(leaders);
        self
    }

    /// The one of `members` that counts.
    fn leader(&self, members: Mask) -> Option<Slot> {
        let leaders = members.minus(self.followers);
        leaders.first().or(members.first())
    }

    /// Takes what the last step came to, answers with the next.
    pub fn step(&mut self, result: StepResult) -> Step {
        if let Some(end @ Step::Done(_)) = self.last {
            return end;
        }
        self.absorb(result);
        let step = match self.job {
            Job::Write { written } => self.plan_write(written),
            Job::Read { wanted } => self.plan_read(wanted),
            Job::Rebuild { targets } => self.plan_rebuild(targets),
            Job::Sync { fix } => self.plan_sync(fix),
        };
        self.last = Some(step);
        step
    }

    fn absorb(&mut self, result: StepResult) {
        self.readable = self.readable.minus(result.lost);
        self.writable = self.writable.minus(result.lost);
        match self.last {
            Some(Step::Read { members }) => {
                let failed = members.intersect(result.failed);
                self.have = self.have.union(members.minus(failed));
                self.bad = self.bad.union(failed);
            }
            Some(Step::Compute(Compute::Copy { to, .. })) => self.new = self.new.with(to),
            Some(Step::Compute(Compute::Match { b, .. })) => {
                self.vote.answer(b, result.differs, self.have);
            }
            Some(Step::Write { members }) => {
                let failed = members.intersect(result.failed.union(result.lost));
                self.taken_back = self.wrote;
                self.kept = self.kept.union(result.kept.intersect(failed));
                self.write_failed = self.write_failed.union(failed);
                self.written_ok = self.written_ok.union(members).minus(failed);
                self.wrote = true;
            }
            _ => {}
        }
    }

    fn plan_write(&self, written: Mask) -> Step {
        if written.is_empty() {
            return self.done(LaneResult::Good, Mask::EMPTY);
        }
        if self.wrote {
            // Those being rebuilt do not count: their contents are not trusted yet.
            if !self.kept.is_empty() {
                return self.take_back();
            }
            return self.done(
                good_if(!self.written_ok.intersect(self.readable).is_empty()),
                Mask::EMPTY,
            );
        }
        if self.readable.intersect(self.writable).is_empty() {
            return self.done(LaneResult::Unwritten, Mask::EMPTY);
        }
        Step::Write {
            members: self.writable,
        }
    }

    /// The last good member did not take what was written: the others are to hold what it does.
    fn take_back(&self) -> Step {
        let ahead = self.written_ok.intersect(self.writable);
        let kept = self.kept.intersect(self.readable);
        if self.taken_back || ahead.is_empty() || kept.is_empty() {
            return self.done(LaneResult::Unwritten, Mask::EMPTY);
        }
        if let Some(source) = self.have.first() {
            let step = self.copy(source, ahead);
            return step.unwrap_or_else(|| self.done(LaneResult::Unwritten, Mask::EMPTY));
        }
        match kept.minus(self.bad).first() {
            Some(slot) => read_one(slot),
            None => self.done(LaneResult::Unreadable, ahead),
        }
    }

    fn plan_read(&self, wanted: Mask) -> Step {
        if wanted.is_empty() || self.wrote {
            return self.done(LaneResult::Good, Mask::EMPTY);
        }
        let Some(source) = self.have.first() else {
            let left = self.readable.minus(self.bad);
            let preferred = match self.unsynced {
                // There it matters whose copy it is.
                true => Mask::EMPTY,
                false => Mask::option(wanted.first()).intersect(left),
            };
            return match preferred.first().or(self.leader(left)) {
                Some(slot) => read_one(slot),
                None => self.done(LaneResult::Unreadable, wanted.union(self.bad)),
            };
        };
        match self.copy(source, self.repairs()) {
            Some(step) => step,
            None => self.done(LaneResult::Good, Mask::EMPTY),
        }
    }

    fn plan_rebuild(&self, targets: Mask) -> Step {
        if targets.is_empty() {
            return self.done(LaneResult::Good, Mask::EMPTY);
        }
        if self.wrote {
            let held = self.written_ok.intersect(targets);
            let failed = self.write_failed.intersect(targets);
            return self.done(good_if(!held.is_empty() && failed.is_empty()), Mask::EMPTY);
        }
        let wanted = targets.intersect(self.writable);
        if let Some(source) = self.have.first() {
            // Should all targets be lost by now, repairs are still due.
            return match self.copy(source, wanted.union(self.repairs())) {
                Some(step) => step,
                None => self.done(LaneResult::Unwritten, Mask::EMPTY),
            };
        }
        if wanted.is_empty() {
            return self.done(LaneResult::Unwritten, Mask::EMPTY);
        }
        let left = self.readable.minus(self.bad).minus(targets);
        match self.leader(left) {
            Some(slot) => read_one(slot),
            None => self.done(LaneResult::Unreadable, wanted.union(self.bad)),
        }
    }

    fn plan_sync(&mut self, fix: bool) -> Step {
        if fix && self.unsynced && self.overwriting {
            return self.plan_overwrite();
        }
        if self.have.union(self.bad).is_empty() {
            if self.readable.len() < 2 {
                // Nothing to compare with.
                return self.done(LaneResult::Good, Mask::EMPTY);
            }
            return Step::Read {
                members: self.readable,
            };
        }
        if self.have.is_empty() {
            return self.done(LaneResult::Unreadable, self.bad);
        }
        if !self.voting {
            self.voting = true;
            self.vote = Vote::start(self.have, self.unsynced, self.leader(self.have));
        }
        if let Some((a, b)) = self.vote.next() {
            return Step::Compute(Compute::Match { a, b });
        }
        let differing = if fix { self.differing() } else { Mask::EMPTY };
        let wrong = self.bad.union(differing).intersect(self.readable);
        if !self.wrote {
            let source = self.vote.winner();
            let step = source.and_then(|from| self.copy(from, wrong.intersect(self.writable)));
            if let Some(step) = step {
                return step;
            }
        }
        let left = wrong.minus(self.written_ok).union(self.write_failed);
        self.done(good_if(left.is_empty()), Mask::EMPTY)
    }

    fn plan_overwrite(&self) -> Step {
        let others = |source| self.readable.without(source);
        let Some(source) = self.have.first() else {
            let left = self.readable.minus(self.bad);
            return match self.leader(left) {
                // Nobody to write it to.
                Some(slot) if others(slot).is_empty() => self.done(LaneResult::Good, Mask::EMPTY),
                Some(slot) => read_one(slot),
                None if self.bad.is_empty() => self.done(LaneResult::Good, Mask::EMPTY),
                None => self.done(LaneResult::Unreadable, self.bad),
            };
        };
        if !self.wrote {
            if let Some(step) = self.copy(source, others(source).intersect(self.writable)) {
                return step;
            }
        }
        let left = others(source)
            .minus(self.written_ok)
            .union(self.write_failed);
        self.done(good_if(left.is_empty()), Mask::EMPTY)
    }

    /// See [`Work::is_too_coarse`].
    fn is_too_coarse(&self) -> bool {
        let Job::Sync { fix } = self.job else {
            return false;
        };
        let is_unread = !self.bad.intersect(self.readable).is_empty();
        let is_undecided = fix && self.voting && self.vote.is_undecided(self.have);
        !self.unsynced && (is_unread || is_undecided)
    }

    /// Members, in sync and still there, whose block could not be read and can be written again.
    fn repairs(&self) -> Mask {
        self.bad.intersect(self.writable)
    }

    /// Members that hold something else than the copy that won.
    fn differing(&self) -> Mask {
        if self.voting {
            self.have.minus(self.vote.best)
        } else {
            Mask::EMPTY
        }
    }

    /// The next step towards `members` holding what `from` does; `None` when there are none.
    /// `members` are writable, and `from` is not among them.
    fn copy(&self, from: Slot, members: Mask) -> Option<Step> {
        if members.is_empty() {
            return None;
        }
        Some(match members.minus(self.new).first() {
            Some(to) => Step::Compute(Compute::Copy { from, to }),
            None => Step::Write { members },
        })
    }

    fn done(&self, result: LaneResult, unreadable: Mask) -> Step {
        // In-sync members that a write leaves out of date without having tried them.
        let skipped = match self.job {
            Job::Write { .. } if self.wrote => self.readable.minus(self.written_ok),
            _ => Mask::EMPTY,
        };
        let source = match self.job {
            Job::Sync { .. } if self.voting => self.vote.winner(),
            Job::Write { .. } => None,
            _ => self.have.first(),
        };
        Step::Done(Outcome {
            result,
            mismatch: !self.differing().is_empty(),
            repaired: match self.job {
                Job::Write { .. } => Mask::EMPTY,
                _ => self.bad.intersect(self.written_ok),
            },
            corrected: match self.job {
                Job::Sync { .. } => self.written_ok.minus(self.bad),
                _ => Mask::EMPTY,
            },
            unreadable,
            write_failed: self.write_failed.union(skipped),
            source,
        })
    }
}

fn read_one(slot: Slot) -> Step {
    Step::Read {
        members: Mask::single(slot),
    }
}

fn good_if(held: bool) -> LaneResult {
    if held {
        LaneResult::Good
    } else {
        LaneResult::Unwritten
    }
}

/// The step machine of whichever level: what an executor holds.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Parity levels; also levels without redundancy, whose members are all data.
    Parity(Lane),
    /// Mirrors.
    Mirror(MirrorLane),
}

impl Work {
    /// Work about to start on a range of `stripe` (0 for levels without chunks).
    pub fn new(geometry: &Geometry, stripe: u64, job: Job, usable: Usable) -> Self {
        match geometry.kind() {
            Kind::Mirrored => {
                Self::Mirror(MirrorLane::new(Mask::all(geometry.members()), job, usable))
            }
            Kind::Copies => Self::Mirror(MirrorLane::new(geometry.roles(stripe).data, job, usable)),
            Kind::Concat | Kind::Striped | Kind::Parity => {
                Self::Parity(Lane::new(geometry.roles(stripe), job, usable))
            }
        }
    }

    /// Says, before the first step, that redundancy is not known to agree in this range: no sync has
    /// passed it since the volume was made, or since a crash. See [`Lane::distrust_parity`] and
    /// [`MirrorLane::unsynced`].
    #[must_use]
    pub fn distrust_parity(self) -> Self {
        match self {
            Self::Parity(lane) => Self::Parity(lane.distrust_parity()),
            Self::Mirror(lane) => Self::Mirror(lane.unsynced()),
        }
    }

    /// Says, before the first step, that redundancy most likely does not agree: see [`MirrorLane::overwriting`] and
    /// [`Lane::overwriting`].
    #[must_use]
    pub fn overwriting(self) -> Self {
        match self {
            Self::Parity(lane) => Self::Parity(lane.overwriting()),
            Self::Mirror(lane) => Self::Mirror(lane.overwriting()),
        }
    }

    /// Says, before the first step, of a range that no sync has passed, which copies count there
    /// ([`MirrorLane::led_by`]); nothing to levels with parity.
    #[must_use]
    pub fn led_by(self, leaders: Mask) -> Self {
        match self {
            Self::Parity(lane) => Self::Parity(lane),
            Self::Mirror(lane) => Self::Mirror(lane.led_by(leaders)),
        }
    }

    /// Says, before the first step, that there is a log of partial parity ([`Lane::with_log`]).
    #[must_use]
    pub fn with_log(self) -> Self {
        match self {
            Self::Parity(lane) => Self::Parity(lane.with_log()),
            Self::Mirror(lane) => Self::Mirror(lane),
        }
    }

    /// Whether this is a write that reads nothing first (see [`Lane::reads_nothing`]); asked before
    /// the first step, and changes nothing.
    pub fn reads_nothing(&self) -> bool {
        let mut copy = *self;
        let step = copy.step(StepResult::default());
        matches!(self.job(), Job::Write { .. }) && !matches!(step, Step::Read { .. })
    }

    /// Whether a range of several blocks is to be gone through block by block, before anything of it is written; asked when the
    /// next step is a `Write`, and changes nothing. So it is in a sync of redundancy that is trusted when no one explanation
    /// holds for all of the range: both parities of a RAID 6 differ and no member explains every byte, or of three or more
    /// copies that vote no strict majority agrees; it may be different members in different blocks. And when something could
    /// not be read: of the rest of that member's range, which may be right, nothing is to be written, whatever the
    /// others hold there.
    ///
    /// Any other explanation of the range is one of each block of it too.
    pub fn is_too_coarse(&self) -> bool {
        match self {
            Self::Parity(lane) => lane.is_too_coarse(),
            Self::Mirror(lane) => lane.is_too_coarse(),
        }
    }

    /// The job, as far as it concerns members of this range.
    pub fn job(&self) -> Job {
        match self {
            Self::Parity(lane) => lane.job(),
            Self::Mirror(lane) => lane.job(),
        }
    }

    /// Takes what the last step came to, answers with the next. Ends within [`STEPS_MAX`] calls.
    pub fn step(&mut self, result: StepResult) -> Step {
        match self {
            Self::Parity(lane) => lane.step(result),
            Self::Mirror(lane) => lane.step(result),
        }
    }
}
