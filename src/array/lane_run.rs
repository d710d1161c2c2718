// SPDX-License-Identifier: GPL-2.0

//! The executor: runs the step machine of a lane against real members.
//!
//! ```text
//!  submit ─► ask for the lane ─► start: buffers, user data copied in ─► go on: step, step …
//!                                                                      │  Read/Write: a batch of bios
//!            batch back (any context) ──► io_done ──► go on (here, if it may; else on the queue)
//!                                                                      ▼
//!                                                finish: buffers back, lane free, user bios end
//! ```
//!
//! A write that covers all data of its lane never reads, and starts and computes in the submitter's
//! own context: no queue, no other thread. `lane_end.rs` has the end of a run, and of the op.

use super::hole::{self, Phase};
use super::lane_buffers;
use super::lane_compute;
use super::lane_end::{clear_run, fail_op, finish_run, retire};
use super::lane_lock::Asked;
use super::lane_op::{Body, LaneOp};
use super::lane_zero::{self, Zeroing};
use super::submit::Background;
use super::{Array, ArrayPass};
use crate::block::batch::launch;
use crate::block::context;
use crate::block::raw::{REQ_FUA, REQ_OP_READ, REQ_OP_WRITE, REQ_SYNC};
use crate::model::Slot;
use crate::personalities::lane::{Job, LaneResult, Step, StepResult, Usable};
use crate::personalities::mirror::Work as LaneWork;
use crate::personalities::{Kind, Mask};
use crate::uapi::event::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// How an op is handed in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// At once, in the caller's context.
    Here,
    /// At once, on another CPU if one has time.
    Elsewhere,
    /// When its lane is complete, or after a moment.
    Held,
}

/// Hands an op in. Process context.
pub(super) fn submit(op: Pin<KBox<LaneOp>>, manner: Manner) {
    let Some(pass) = op.body.array().map(|pass| pass.again()) else {
        return;
    };
    let lane = op.body.lane;
    let hold = manner == Manner::Held;
    let complete = |op: &LaneOp| covers_lane(&pass, &op.body);
    match pass.lanes.ask(op, hold, complete) {
        Asked::Granted(op) if manner == Manner::Elsewhere => start_elsewhere(&pass, op),
        Asked::Granted(op) => start(op),
        Asked::Queued if hold => super::gather::hold(&pass, lane),
        Asked::Queued => {}
        Asked::Merged(op) => retire_all(&pass, op),
        Asked::Completed(first, op) => {
            pass.streams.filled();
            retire_all(&pass, op);
            start_elsewhere(&pass, first);
        }
    }
}

/// Starts an op on another CPU, or here where the others have enough to do.
fn start_elsewhere(pass: &ArrayPass, op: Pin<KBox<LaneOp>>) {
    if let Some(op) = pass.spread.offer(op) {
        start(op);
    }
}

/// Retires an op, and those linked behind it.
fn retire_all(pass: &ArrayPass, op: Pin<KBox<LaneOp>>) {
    let mut next = Some(op);
    while let Some(mut op) = next {
        next = op.as_mut().take_next();
        retire(pass, op);
    }
}

/// Whether a write covers all data of its lane.
pub(super) fn covers_lane(pass: &ArrayPass, body: &Body) -> bool {
    let Job::Write { written } = body.job else {
        return false;
    };
    let first = body.column - body.column % super::LANE_SECTORS;
    let last = (first + super::LANE_SECTORS).min(pass.stripe_unit());
    written.len() == u32::from(pass.geometry.data_members())
        && body.column == first
        && body.column + body.sectors == last
}

/// Starts whatever can have a lane of this bucket.
pub(super) fn let_go(pass: &ArrayPass, lane: u64) {
    while let Some(op) = pass.lanes.grant_next(lane) {
        start(op);
    }
}

/// Runs an op that has its lane, or begins its next run. Process context.
pub(super) fn start(mut op: Pin<KBox<LaneOp>>) {
    let body = op.as_mut().body_mut();
    if body.run_sectors == 0 {
        body.run_column = body.column;
        body.run_sectors = match body.array() {
            // The rest of it is not to count as missing.
            Some(pass) if pass.is_bad_in(body) => body.sectors.min(pass.block_sectors()),
            _ => body.sectors,
        };
    }
    begin_run(op);
}

/// Begins a run over `run_column`, `run_sectors`.
fn begin_run(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    let body = op.as_mut().body_mut();
    let Some(pass) = body.array().map(|pass| pass.again()) else {
        return;
    };
    let usable = pass.usable(body);
    body.log.planned = usable.writable;
    let mut work = LaneWork::new(&pass.geometry, body.stripe, body.job, usable);
    work = work.filling(pass.readable());
    if pass.is_unsynced(body) {
        work = work.distrust_parity().led_by(pass.leaders());
        if body.overwriting {
            work = work.overwriting();
        }
    }
    if pass.hole.is_some() {
        work = work.with_log();
    }
    let first = work.step(StepResult::default());
    if !lane_buffers::take(&pass, body, &work, first) {
        let is_first_run = body
            .buffers
            .iter()
            .all(|buffers| buffers.old.is_none() && buffers.new.is_none());
        if is_first_run {
            // Others have them, and give them back without needing this lane.
            return starve(&pass, op);
        }
        // A further run keeps what it has, so it must not wait for others who may do the same.
        let (_, news) = lane_buffers::expected(&pass.geometry.kind(), body, &work, first);
        for slot in news.iter() {
            lane_buffers::ensure_new(body, slot);
        }
    }
    lane_buffers::fill_new(body);
    body.work = Some(work);
    body.step = Some(first);
    perform(op);
}

/// Keeps an op until buffers come back.
fn starve(pass: &ArrayPass, mut op: Pin<KBox<LaneOp>>) {
    {
        let mut waiting = pass.waiting.lock();
        let rest = waiting.starved.take();
        op.as_mut().set_next(rest);
        waiting.starved = Some(op);
        pass.someone_waits.store(true, Ordering::SeqCst);
    }
    // Whoever has buffers gives them back after this and sees the flag; if nobody has, we go on.
    if pass.pool.is_idle() {
        Background::kick(pass.again());
    }
}

/// Does the current step, and those after it, until one has to wait. Process context.
pub(super) fn perform(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    loop {
        let body = op.as_mut().body_mut();
        let Some(step) = body.step else { return };
        if let Some(pass) = body.array().filter(|pass| pass.hole.is_some()) {
            if hole::must_wait(pass, body) {
                match hole::wait_for_record(op, hole::waits_for_losses) {
                    Some(ready) => op = ready,
                    None => return,
                }
                continue;
            }
            if hole::must_end(pass, body) {
                return fail_op(op);
            }
            if hole::is_out_of_date(pass, body) {
                return hole::begin_anew(op);
            }
        }
        match step {
            Step::Read { members } => return send(op, members, false),
            Step::Log { .. } => return hole::begin(op),
            Step::Write { .. } if is_too_coarse(body) => return cut_up(op),
            Step::Write { members } => {
                let out_of_date = |pass: &ArrayPass| hole::needs_void(pass, body, members);
                if body.array().is_some_and(out_of_date) {
                    return hole::begin(op);
                }
                return send(op, members, true);
            }
            Step::Compute(compute) => {
                let result = lane_compute::compute(body, compute);
                body.step = body.work.as_mut().map(|work| work.step(result));
            }
            Step::Done(outcome) => return finish_run(op, outcome),
        }
    }
}

/// Whether a run over more than a block is not to be written as a whole.
fn is_too_coarse(body: &Body) -> bool {
    let block = body.array().map_or(u32::MAX, |pass| pass.block_sectors());
    let is_whole = body.run_sectors == body.sectors && body.sectors > block;
    is_whole && body.work.as_ref().is_some_and(LaneWork::is_too_coarse)
}

/// Whether a run of which members could not be read is gone through block by block. What a member can still give is
/// neither taken from the others nor written again: one of them may be wrong just there, and say nothing. Nor is more
/// made of parity that may not agree than has to be, when members are gone.
fn must_read_by_blocks(body: &Body, failed: Mask, offline: Mask) -> bool {
    let Some(pass) = body.array() else {
        return false;
    };
    let is_whole = body.run_sectors == body.sectors && body.sectors > pass.block_sectors();
    let in_part = !failed.minus(offline).is_empty();
    is_whole && (in_part || !failed.is_empty() && pass.is_unsynced(body))
}

/// Begins an op anew, block by block: nothing of it was written yet. Process context.
fn cut_up(mut op: Pin<KBox<LaneOp>>) {
    let body = op.as_mut().body_mut();
    let block = body.array().map(|pass| pass.block_sectors());
    body.run_sectors = block.unwrap_or(body.sectors);
    clear_run(body);
    defer(op);
}

/// Sends a batch for `members`.
fn send(mut op: Pin<KBox<LaneOp>>, members: Mask, is_write: bool) {
    let body = op.as_mut().body_mut();
    for slot in members.iter() {
        if !is_write {
            lane_buffers::ensure_old(body, slot);
        }
    }
    body.log.wrote |= is_write;
    if is_write && lane_zero::begin(body, members) {
        return lane_zero::send(op, members);
    }
    launch(op, |op, launcher| {
        let body = &op.body;
        let Some(pass) = body.array() else { return };
        let len_bytes = body.run_sectors as usize * 512;
        let opf = match (is_write, body.fua) {
            (false, _) => REQ_OP_READ,
            (true, false) => REQ_OP_WRITE | REQ_SYNC,
            (true, true) => REQ_OP_WRITE | REQ_SYNC | REQ_FUA,
        };
        for slot in members.iter() {
            let pages = if is_write {
                lane_buffers::new_of(body, slot)
            } else {
                body.buffers
                    .get(usize::from(slot))
                    .and_then(|b| b.old.as_ref())
            };
            match (pass.table().member(slot), pages) {
                (Some(member), Some(pages)) => launcher.send(
                    slot,
                    &member.device,
                    opf,
                    member.offset_sectors + pass.run_sector(body, slot),
                    pages,
                    len_bytes,
                ),
                // Nothing to send it to, or from: as good as an error.
                _ => launcher.fail(slot),
            }
        }
    });
}

/// The batch is back. Any context.
pub(super) fn io_done(mut op: Pin<KBox<LaneOp>>) {
    let (failed, _) = op.batch_failures();
    if !failed.is_empty() && lane_zero::refused(op.as_mut().body_mut()) {
        return defer(op);
    }
    let is_own = op.body.log.phase == Phase::Idle;
    let is_write = is_own && matches!(op.body.step, Some(Step::Write { .. }));
    // A read that ended with a rewrite still has to be copied to its users, which is for a task.
    let is_read = matches!(op.body.job, Job::Read { .. });
    if is_write && failed.is_empty() && !is_read {
        // The last step: nothing is left that needs a task.
        let body = op.as_mut().body_mut();
        if let Some(Step::Write { members }) = body.step {
            body.taken = members;
        }
        body.step = body
            .work
            .as_mut()
            .map(|work| work.step(StepResult::default()));
        // Another run (over the next block, or block by block) does need one.
        let is_last = body.run_column + body.run_sectors >= body.column + body.sectors;
        if let Some(Step::Done(outcome)) = body.step {
            if is_last && outcome.result == LaneResult::Good && outcome.write_failed.is_empty() {
                return finish_run(op, outcome);
            }
        }
        return defer(op);
    }
    if context::inside_submit() {
        go_on(op);
    } else {
        defer(op);
    }
}

/// Goes on with the op on the queue.
pub(super) fn defer(op: Pin<KBox<LaneOp>>) {
    if let Some(pass) = op.body.array().map(|pass| pass.again()) {
        pass.queue.enqueue(op);
    }
}

/// Takes the results of the last batch, if that was the last step, and goes on. Process context.
pub(super) fn go_on(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    if op.body.work.is_none() {
        // It was queued to start: it has just got its lane, or has done one of its runs.
        return start(op);
    }
    if op.body.log.phase != Phase::Idle {
        return hole::batch_back(op);
    }
    if op.body.zeroing == Zeroing::Refused {
        // The same step, with data this time.
        return perform(op);
    }
    let (failed, offline) = op.batch_failures();
    let body = op.as_mut().body_mut();
    let (members, is_write) = match body.step {
        Some(Step::Read { members }) => (members, false),
        Some(Step::Write { members }) => (members, true),
        _ => return perform(op),
    };
    let failed = failed.intersect(members);
    if let Some(pass) = body.array() {
        note_failures(pass, body, failed, offline, is_write);
    }
    let mut kept = Mask::EMPTY;
    if is_write {
        // A mirror's last good member stays in use.
        kept = failed.intersect(body.array().map_or(Mask::EMPTY, |pass| pass.readable()));
        body.taken = members.minus(failed);
        body.log.left_behind |= !failed.is_empty();
    }
    if !is_write && must_read_by_blocks(body, failed, offline) {
        return cut_up(op);
    }
    let lost = if is_write { failed } else { offline }.minus(kept);
    let result = StepResult {
        failed,
        lost,
        kept,
        ..StepResult::default()
    };
    body.step = body.work.as_mut().map(|work| work.step(result));
    perform(op);
}

/// Tells the array of members that failed.
fn note_failures(pass: &ArrayPass, body: &Body, failed: Mask, offline: Mask, is_write: bool) {
    for slot in failed.iter() {
        let sector = pass.run_sector(body, slot);
        pass.table().count_error(slot, !is_write);
        if is_write {
            pass.write_errors.fetch_add(1, Ordering::Relaxed);
            Array::member_failed(pass, slot, EventKind::WriteError, Some(sector));
        } else {
            pass.read_errors.fetch_add(1, Ordering::Relaxed);
            if offline.contains(slot) {
                Array::member_failed(pass, slot, EventKind::ReadError, Some(sector));
            } else if !body.unread.contains(slot) {
                let place = pass.table().place(slot, Some(sector));
                pass.notify.event(EventKind::ReadError, place);
            }
        }
    }
}

impl Array {
    /// Sectors of a logical block.
    pub(super) fn block_sectors(&self) -> u32 {
        self.block_sectors
    }

    /// Where what a run covers starts on a member.
    pub(super) fn run_sector(&self, body: &Body, slot: Slot) -> u64 {
        self.row_sector(body.stripe, slot) + u64::from(body.run_column)
    }

    /// Whether a member is bad somewhere in what an op covers.
    fn is_bad_in(&self, body: &Body) -> bool {
        let is_bad = |slot| {
            let first = self.row_sector(body.stripe, slot) + u64::from(body.column);
            self.is_bad(slot, first, u64::from(body.sectors))
        };
        self.has_bad_spots() && self.geometry.roles(body.stripe).all().iter().any(is_bad)
    }

    /// Whether parity was never established, or may not agree after a crash, in what a run covers: it
    /// is not to be built upon there.
    fn is_unsynced(&self, body: &Body) -> bool {
        let from = self.unsynced_from.load(Ordering::Acquire);
        let end = u64::from(body.run_column) + u64::from(body.run_sectors);
        let start = match self.geometry.kind() {
            Kind::Parity => self.geometry.row_mark(body.stripe),
            Kind::Copies => self.geometry.stripe_start(body.stripe),
            Kind::Mirrored | Kind::Concat | Kind::Striped => self.row_sector(body.stripe, 0),
        };
        from != u64::MAX && start + end > from
    }

    /// Which members can be used for what a run covers.
    fn usable(&self, body: &Body) -> Usable {
        let writable = if body.shared {
            Mask::EMPTY
        } else {
            self.writable()
        };
        let mut ahead = Mask::EMPTY;
        if matches!(body.job, Job::Write { .. }) && self.geometry.kind() == Kind::Parity {
            // No rebuild comes by there again, so their parity must not be left behind. Before the mark is
            // looked at, which may pass this lane meanwhile.
            let rebuilding = writable.minus(self.readable());
            if !rebuilding.is_empty() {
                ahead = self.filled_ahead(body.stripe, body.run_column);
                ahead = ahead.intersect(rebuilding);
            }
        }
        // Members being rebuilt are right below the mark.
        let end = body.run_column + body.run_sectors;
        let mut readable = self.readable_in(body.stripe, body.run_column, end);
        for slot in ahead.iter() {
            let first = self.row_sector(body.stripe, slot) + u64::from(body.run_column);
            if !self.is_bad(slot, first, u64::from(body.run_sectors)) {
                readable = readable.with(slot);
            }
        }
        Usable { readable, writable }
    }
}
