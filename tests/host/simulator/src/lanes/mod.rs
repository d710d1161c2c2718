// SPDX-License-Identifier: GPL-2.0

//! Lane ops: `lane_run.rs` and `lane_lock.rs`, on the real step machines.

mod compute;
mod cut;

use crate::disk::{IoError, Token};
use crate::hole::{OpLog, Phase};
use crate::io::{Owner, Request};
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::Slot;
use emd_core::personalities::bad::Noted;
use emd_core::personalities::lane::{Job, LaneResult, Outcome, Step, StepResult};
use emd_core::personalities::{Mask, Work};

/// A part of a user's I/O that an op serves.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// The I/O.
    pub user: usize,
    /// The member.
    pub slot: Slot,
    /// Columns.
    pub column: u32,
    /// See above.
    pub sectors: u32,
    /// Where it starts in the I/O, in sectors.
    pub skip: u32,
}

/// Work on a range of columns of one stripe.
#[derive(Clone, Debug)]
pub struct LaneOp {
    /// The lane's number, by which it is locked.
    pub lane: u64,
    /// The stripe.
    pub stripe: u64,
    /// First column.
    pub column: u32,
    /// Length.
    pub sectors: u32,
    /// What is to be done.
    pub job: Job,
    /// Shares the lane with others that only read.
    pub shared: bool,
    /// What goes on now: all of it, or one block.
    pub run_column: u32,
    /// See above; 0 before the start.
    pub run_sectors: u32,
    /// The lane of a task.
    pub task: Option<u64>,
    /// It is forced to the medium.
    pub fua: bool,
    /// Its part in the log.
    pub log: OpLog,
    pub(crate) fragments: Vec<Fragment>,
    work: Option<Work>,
    /// What it does now.
    pub step: Step,
    old: Vec<Vec<Token>>,
    new: Vec<Vec<Token>>,
    pending: u32,
    failed: Mask,
    offline: Mask,
    /// Members that took the run's write.
    pub taken: Mask,
    bad: bool,
    locked: bool,
    distrusted: bool,
}

impl Sim {
    /// A fresh op; who makes it has entered the gate for it.
    pub fn new_op(&mut self, stripe: u64, column: u32, sectors: u32, job: Job) -> usize {
        let lanes_per_unit = u64::from(self.unit().div_ceil(self.lane_sectors()));
        let members = usize::from(self.geometry.members());
        let op = LaneOp {
            lane: stripe * lanes_per_unit + u64::from(column / self.lane_sectors()),
            stripe,
            column,
            sectors,
            job,
            shared: false,
            run_column: column,
            run_sectors: 0,
            task: None,
            fua: false,
            log: OpLog::new(),
            fragments: Vec::new(),
            work: None,
            step: Step::Write {
                members: Mask::EMPTY,
            },
            old: vec![Vec::new(); members],
            new: vec![Vec::new(); members],
            pending: 0,
            failed: Mask::EMPTY,
            offline: Mask::EMPTY,
            taken: Mask::EMPTY,
            bad: false,
            locked: true,
            distrusted: false,
        };
        match self.ops.iter().position(Option::is_none) {
            Some(free) => {
                self.ops[free] = Some(op);
                free
            }
            None => {
                self.ops.push(Some(op));
                self.ops.len() - 1
            }
        }
    }

    /// An op.
    pub fn op(&mut self, op: usize) -> &mut LaneOp {
        self.ops[op].as_mut().expect("the op is at work")
    }

    /// Has an op serve a part of a user's I/O.
    pub fn add_fragment(&mut self, op: usize, fragment: Fragment) {
        self.user(fragment.user).refs += 1;
        self.op(op).fragments.push(fragment);
    }

    /// Hands an op in: it gets its lane, or waits for it.
    pub fn submit_op(&mut self, op: usize) {
        let (lane, shared) = (self.op(op).lane, self.op(op).shared);
        let unlocked = self.has(Mistake::LanesNotLocked)
            || self.has(Mistake::RepairOverNew) && matches!(self.op(op).job, Job::Read { .. });
        if unlocked {
            self.op(op).locked = false;
            return self.begin(op);
        }
        let lock = self.arr().locks.entry(lane).or_default();
        let free = !lock.exclusive && (shared || lock.readers == 0) && lock.waiting.is_empty();
        if !free {
            lock.waiting.push_back(op);
            return;
        }
        if shared {
            lock.readers += 1;
        } else {
            lock.exclusive = true;
        }
        self.begin(op);
    }

    fn release(&mut self, lane: u64, shared: bool) {
        let Some(lock) = self.arr().locks.get_mut(&lane) else {
            return;
        };
        if shared {
            lock.readers = lock.readers.saturating_sub(1);
        } else {
            lock.exclusive = false;
        }
        while let Some(&next) = self.arr().locks.entry(lane).or_default().waiting.front() {
            let shared = self.op(next).shared;
            let lock = self.arr().locks.entry(lane).or_default();
            if lock.exclusive || (!shared && lock.readers > 0) {
                break;
            }
            lock.waiting.pop_front();
            if shared {
                lock.readers += 1;
            } else {
                lock.exclusive = true;
            }
            self.begin(next);
        }
        let idle = |lock: &mut crate::array::LaneLock| {
            !lock.exclusive && lock.readers == 0 && lock.waiting.is_empty()
        };
        if self.arr().locks.get_mut(&lane).is_some_and(idle) {
            self.arr().locks.remove(&lane);
        }
    }

    pub(crate) fn begin(&mut self, op: usize) {
        let by_blocks = self.is_bad_in(op) && !self.has(Mistake::BadRangeTakesLane);
        let body = self.op(op);
        if body.run_sectors == 0 {
            body.run_column = body.column;
            body.run_sectors = if by_blocks { 1 } else { body.sectors };
        }
        let body = self.ops[op].as_ref().expect("the op is at work");
        let (usable, distrusted) = self.usable(body);
        let planned = usable.writable;
        let in_sync = self.array.as_ref().map(|array| array.readable);
        let mut work = Work::new(&self.geometry, body.stripe, body.job, usable)
            .filling(in_sync.unwrap_or(Mask::EMPTY));
        if distrusted {
            work = work.distrust_parity();
            work = work.led_by(self.leaders_of(body));
            // The driver's tasks do that where nothing agreed lately; here every second lane of them.
            if body.stripe % 2 == 1 && !by_blocks {
                work = work.overwriting();
            }
        }
        if self.hole.is_some() {
            work = work.with_log();
        }
        let first = work.step(StepResult::default());
        let body = self.op(op);
        body.work = Some(work);
        body.step = first;
        body.taken = Mask::EMPTY;
        body.log.planned = planned;
        body.distrusted = distrusted;
        self.fill_new(op);
        self.perform(op);
    }

    /// Which copies an op goes by where no sync has passed.
    fn leaders_of(&self, body: &LaneOp) -> Mask {
        let leaders = self.leaders();
        if !self.has(Mistake::SyncTakesAnother) || !matches!(body.job, Job::Sync { .. }) {
            return leaders;
        }
        let members = self.geometry.roles(body.stripe).all().intersect(leaders);
        members.iter().last().map_or(leaders, Mask::single)
    }

    /// Copies the users' data: from here on it does not change.
    fn fill_new(&mut self, op: usize) {
        let body = self.op(op);
        let Job::Write { written } = body.job else {
            return;
        };
        let (first, sectors) = (body.run_column, body.run_sectors);
        body.new.fill(Vec::new());
        for slot in written.iter() {
            body.new[usize::from(slot)] = vec![0; sectors as usize];
        }
        for fragment in self.op(op).fragments.clone() {
            self.copy_in(op, &fragment, first, first + sectors);
        }
    }

    fn copy_in(&mut self, op: usize, fragment: &Fragment, first: u32, last: u32) {
        let from = fragment.column.max(first);
        let to = (fragment.column + fragment.sectors).min(last);
        for column in from..to {
            let index = (fragment.skip + column - fragment.column) as usize;
            let token = self.user(fragment.user).data_at(index);
            self.op(op).new[usize::from(fragment.slot)][(column - first) as usize] = token;
        }
    }

    /// Carries out the current step, and those after it, until one has to wait.
    pub fn perform(&mut self, op: usize) {
        loop {
            if self.waits_for_record(op) {
                return;
            }
            if self.write_must_end(op) {
                return self.fail_op(op);
            }
            if self.is_out_of_date(op) {
                return self.begin_anew(op);
            }
            let step = self.op(op).step;
            match step {
                Step::Read { members } => return self.send_lane(op, members, false),
                Step::Log { .. } => return self.log_begin(op),
                Step::Write { .. } if self.is_too_coarse(op) => {
                    self.op(op).run_sectors = 1;
                    return self.begin(op);
                }
                Step::Write { members } if self.needs_void(op, members) => {
                    return self.log_begin(op);
                }
                Step::Write { members } => return self.send_lane(op, members, true),
                Step::Compute(compute) => {
                    let mut result = StepResult::default();
                    let geometry = self.geometry;
                    let body = self.op(op);
                    body.compute(&geometry, compute, &mut result);
                    body.next(result);
                }
                Step::Done(outcome) => return self.finish_run(op, outcome),
            }
        }
    }

    /// `lane_run::is_too_coarse`.
    fn is_too_coarse(&mut self, op: usize) -> bool {
        let body = self.op(op);
        let is_whole = body.run_sectors == body.sectors && body.sectors > 1;
        let is_too_coarse = body.work.as_ref().is_some_and(Work::is_too_coarse);
        is_whole && is_too_coarse && !self.has(Mistake::LaneAsOneThing)
    }

    fn send_lane(&mut self, op: usize, members: Mask, is_write: bool) {
        if is_write && self.has(Mistake::ParityFromChangedData) {
            // The buffers are the users' own, who changed them by now.
            for fragment in self.op(op).fragments.clone() {
                self.user(fragment.user).change_now();
            }
            self.fill_new(op);
        }
        let (stripe, column, is_first) = {
            let body = self.op(op);
            body.failed = Mask::EMPTY;
            body.offline = Mask::EMPTY;
            let is_first = is_write && !body.log.wrote;
            body.log.wrote |= is_write;
            (body.stripe, body.run_column, is_first)
        };
        if is_first {
            self.note_missing(op);
        }
        if is_write {
            for slot in self.arr().unrecorded.iter() {
                self.note_missed_by(slot, op);
            }
        }
        let drop_fua = self.has(Mistake::FuaDropped);
        for slot in members.iter() {
            let Some((disk, offset)) = self.arr().table[usize::from(slot)] else {
                self.op(op).failed = self.op(op).failed.with(slot);
                continue;
            };
            let start = self.row_sector(stripe, slot) + u64::from(column);
            let body = self.op(op);
            body.pending += 1;
            let request = if is_write {
                Request::Write(offset + start, body.new_of(slot), body.fua && !drop_fua)
            } else {
                Request::Read(offset + start, body.run_sectors)
            };
            self.send(disk, request, Owner::Lane(op, slot));
        }
        if self.op(op).pending == 0 {
            self.batch_done(op);
        }
    }

    /// One of a batch is back.
    pub fn lane_io_done(
        &mut self,
        op: usize,
        slot: Slot,
        result: Result<(), IoError>,
        data: Vec<Token>,
    ) {
        let body = self.op(op);
        body.pending -= 1;
        match result {
            Ok(()) if body.log.phase == Phase::Idle && matches!(body.step, Step::Read { .. }) => {
                body.old[usize::from(slot)] = data
            }
            Ok(()) => {}
            Err(why) => {
                body.failed = body.failed.with(slot);
                if why == IoError::Offline {
                    body.offline = body.offline.with(slot);
                }
            }
        }
        if body.pending == 0 {
            self.batch_done(op);
        }
    }

    fn batch_done(&mut self, op: usize) {
        if self.op(op).log.phase != Phase::Idle {
            return self.log_back(op);
        }
        let body = self.op(op);
        let (failed, offline) = (body.failed, body.offline);
        let is_write = matches!(body.step, Step::Write { .. });
        if let Step::Write { members } = body.step {
            body.taken = members.minus(failed);
            body.log.left_behind |= !failed.is_empty();
        }
        let lost = if is_write { failed } else { offline };
        for slot in lost.iter() {
            self.drop_member(slot);
        }
        let is_read = matches!(self.op(op).job, Job::Read { .. });
        if is_read && !is_write && !failed.is_empty() && self.has(Mistake::ErrorNotServed) {
            return self.finish_run(op, Outcome::of(LaneResult::Unreadable));
        }
        let kept = match is_write && !self.has(Mistake::NotTakenBack) {
            true => failed.intersect(self.arr().readable),
            false => Mask::EMPTY,
        };
        if !is_write && self.must_read_by_blocks(op) {
            self.op(op).run_sectors = 1;
            return self.begin(op);
        }
        let body = self.op(op);
        body.next(StepResult {
            failed,
            lost: lost.minus(kept),
            kept,
            ..StepResult::default()
        });
        self.perform(op);
    }

    /// `lane_run::must_read_by_blocks`.
    fn must_read_by_blocks(&mut self, op: usize) -> bool {
        let (distrusts, in_part) = (
            !self.has(Mistake::LaneFromDistrustedParity),
            !self.has(Mistake::RangeFromOthers) && !self.has(Mistake::LaneAsOneThing),
        );
        let body = self.op(op);
        let is_whole = body.run_sectors == body.sectors && body.sectors > 1;
        is_whole
            && match body.distrusted {
                true => distrusts && !body.failed.is_empty(),
                false => in_part && !body.failed.minus(body.offline).is_empty(),
            }
    }

    /// `lane_run::fail_op`.
    pub fn fail_op(&mut self, op: usize) {
        self.finish_run(op, Outcome::of(LaneResult::Unwritten));
    }

    fn finish_run(&mut self, op: usize, outcome: Outcome) {
        let cleared = self.note_taken(op);
        let is_done = outcome.result == LaneResult::Good;
        let body = self.op(op);
        let whole = body.run_sectors == body.sectors;
        let has_blocks = whole && body.sectors > 1;
        let left = match is_done || has_blocks {
            true => Noted::NoRoom,
            false => self.leave_hole(op, outcome),
        };
        let is_full = is_done && cleared == Noted::Later || left == Noted::Later;
        // With that mistake they fail: nothing else has a lane fail whose target stays in use.
        if is_full && !self.arr().broken && !self.has(Mistake::MarkPastFailedLane) {
            return self.arr().for_bad.push(op);
        }
        self.log_run_is_through(op);
        for slot in outcome.write_failed.iter() {
            self.drop_member(slot);
        }
        let readable = self.arr().readable;
        let stale = outcome.write_failed.intersect(readable);
        let good = is_done && stale.is_empty() && cleared == Noted::Done;
        let body = self.op(op);
        if !good && has_blocks {
            body.run_sectors = 1;
            return self.begin(op);
        }
        if good {
            self.deliver(op, outcome);
            self.note_agreement(op);
        } else if left == Noted::Done {
            self.note_loose(op);
        } else {
            self.fail_run(op);
        }
        let body = self.op(op);
        let next = body.run_column + body.run_sectors;
        if !whole && next < body.column + body.sectors {
            body.run_column = next;
            return self.begin(op);
        }
        self.finish(op);
    }

    /// A row that was written, or compared and put right, with all members there agrees.
    fn note_agreement(&mut self, op: usize) {
        if !self.is_parity() || self.torn.is_empty() {
            return;
        }
        let all = Mask::all(self.geometry.members());
        // With several spans a row of the members is several rows: only a sync makes all agree.
        let one_span = self.geometry.shape().spans == 1;
        if self.arr().readable != all || !one_span || self.has(Mistake::UnsyncedParityTrusted) {
            return;
        }
        let stripe = self.op(op).stripe;
        let start = self.row_sector(stripe, 0) + u64::from(self.op(op).run_column);
        let body = self.op(op);
        let (job, end) = (body.job, start + u64::from(body.run_sectors));
        match job {
            Job::Sync { fix: true } => {
                self.loose.retain(|row| !(start..end).contains(row));
                self.untear(start, end);
            }
            // Of what does not agree a write may leave some as it is.
            Job::Write { .. } if self.loose.range(start..end).next().is_none() => {
                self.untear(start, end);
            }
            _ => {}
        }
    }

    /// Nothing can be made to agree in a run.
    fn note_loose(&mut self, op: usize) {
        let body = self.op(op);
        if matches!(body.job, Job::Sync { .. }) {
            let (stripe, column, sectors) = (body.stripe, body.run_column, body.run_sectors);
            for slot in self.geometry.roles(stripe).all().iter() {
                let start = self.row_sector(stripe, slot) + u64::from(column);
                self.loose.extend(start..start + u64::from(sectors));
            }
        }
    }

    fn deliver(&mut self, op: usize, outcome: Outcome) {
        let body = self.op(op);
        let Job::Read { .. } = body.job else { return };
        let (first, last) = (body.run_column, body.run_column + body.run_sectors);
        for fragment in body.fragments.clone() {
            let slot = outcome.source.unwrap_or(fragment.slot);
            let from = fragment.column.max(first);
            let to = (fragment.column + fragment.sectors).min(last);
            for column in from..to {
                let token = self.op(op).old[usize::from(slot)][(column - first) as usize];
                let index = (fragment.skip + column - fragment.column) as usize;
                self.user(fragment.user).tokens[index] = token;
            }
        }
    }

    fn fail_run(&mut self, op: usize) {
        let body = self.op(op);
        body.bad = true;
        let (first, last) = (body.run_column, body.run_column + body.run_sectors);
        for fragment in body.fragments.clone() {
            if fragment.column < last && fragment.column + fragment.sectors > first {
                self.user(fragment.user).failed = true;
            }
        }
    }

    fn finish(&mut self, op: usize) {
        let body = self.ops[op].take().expect("the op is at work");
        if let Some(lane) = body.task {
            self.task_lane_done(lane, body.bad);
        }
        if body.locked {
            self.release(body.lane, body.shared);
        }
        self.leave();
        for fragment in body.fragments {
            self.unref_user(fragment.user);
        }
    }
}

impl LaneOp {
    /// Takes what the last step came to.
    pub fn next(&mut self, result: StepResult) {
        if let Some(work) = self.work.as_mut() {
            self.step = work.step(result);
        }
    }

    /// A batch of I/O begins.
    pub fn begin_batch(&mut self) {
        self.failed = Mask::EMPTY;
        self.offline = Mask::EMPTY;
    }

    /// One more is on its way.
    pub fn count_in_batch(&mut self) {
        self.pending += 1;
    }

    /// One that could not be sent.
    pub fn fail_in_batch(&mut self, slot: Slot) {
        self.failed = self.failed.with(slot);
    }

    /// Whether all are back.
    pub fn is_batch_back(&self) -> bool {
        self.pending == 0
    }

    /// Members whose I/O failed.
    pub fn failed_in_batch(&self) -> Mask {
        self.failed
    }

    /// What is to be written to a member.
    pub fn new_of(&self, slot: Slot) -> Vec<Token> {
        let own = &self.new[usize::from(slot)];
        match (own.is_empty(), self.job) {
            (true, Job::Write { written }) => {
                self.new[usize::from(written.first().unwrap_or(0))].clone()
            }
            _ => own.clone(),
        }
    }
}
