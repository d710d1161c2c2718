// SPDX-License-Identifier: GPL-2.0

//! What an op has to log before its step, and its way from there until that is on the members.
//!
//! The op has its lane all the time. No lock is held here but `Hole::rings`, by who gives places away.

use super::entry::{row_entry, send, write_heads, write_row_head};
use super::wait::{begin_anew, is_out_of_date, wait, wait_for_record, waits_for_losses};
use super::Hole;
use crate::array::lane_end;
use crate::array::lane_op::{Body, LaneOp};
use crate::array::lane_run;
use crate::array::submit::Background;
use crate::array::{Array, ArrayPass};
use crate::block::batch::launch;
use crate::block::context;
use crate::personalities::hole_log::row::is_run;
use crate::personalities::hole_log::Refusal;
use crate::personalities::lane::{Job, Step, StepResult};
use crate::personalities::Mask;
use crate::uapi::event::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// What an op waits for, beside its steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::array) enum Phase {
    /// Nothing.
    Idle,
    /// A flush of all members, with its number.
    Flushing(u64),
    /// Entries on their way.
    Logging,
}

/// Whether a `Step::Write` has to wait for an entry without a sum: the log may have a sum for this lane that it makes
/// out of date; or it is a row, in which all writes are.
pub(in crate::array) fn needs_void(pass: &ArrayPass, body: &Body, members: Mask) -> bool {
    let Some(hole) = pass.hole.as_ref() else {
        return false;
    };
    let parity = pass.geometry.roles(body.stripe).parity();
    changes_data(pass, body, members)
        && !body.log.covered
        && (hole.row().is_some() || hole.watch.has_entry(hole.watch.bucket(body.lane)))
        && !parity.intersect(pass.writable()).is_empty()
}

/// Whether a `Step::Write` changes what data members hold.
fn changes_data(pass: &ArrayPass, body: &Body, members: Mask) -> bool {
    match body.job {
        Job::Write { .. } => true,
        Job::Sync { .. } => {
            let data = pass.geometry.roles(body.stripe).data;
            !members.intersect(data).is_empty()
        }
        // These write what was there.
        Job::Read { .. } | Job::Rebuild { .. } => false,
    }
}

/// Whether an op must not go on, also with what needs no entry: more is lost than the level bears, so nobody will record
/// the last loss, and what that member does not get is to stay logged. Its log may be on that member.
pub(in crate::array) fn must_end(pass: &ArrayPass, body: &Body) -> bool {
    let changes = match body.step {
        Some(Step::Log { .. }) => true,
        Some(Step::Write { members }) => changes_data(pass, body, members),
        _ => false,
    };
    changes && pass.is_broken()
}

/// Whether one write may have all of `written` in a stripe: an entry of a row names chunks that follow one another.
pub(in crate::array) fn may_be_one(pass: &ArrayPass, stripe: u64, written: Mask) -> bool {
    let is_row = pass.hole.as_ref().is_some_and(|hole| hole.row().is_some());
    !is_row || is_run(&pass.geometry, stripe, written)
}

/// What is to be logged now, by the machine's step: on which members, with what in the sums, and whether the
/// sums go along.
fn wanted(pass: &ArrayPass, body: &Body) -> Option<(Mask, Mask, bool)> {
    match body.step? {
        Step::Log { members, covers } => Some((members, covers, true)),
        Step::Write { .. } => {
            let roles = pass.geometry.roles(body.stripe);
            let members = roles.parity().intersect(pass.writable());
            Some((members, Mask::EMPTY, false))
        }
        _ => None,
    }
}

/// Logs what the op's step asks for, then goes on with it. Process context.
pub(in crate::array) fn begin(op: Pin<KBox<LaneOp>>) {
    let pass = op.body.array().map(|pass| pass.again());
    if let Some(pass) = pass {
        if let Some(hole) = pass.hole.as_ref().filter(|hole| hole.row().is_some()) {
            let seen = hole.changes.load(Ordering::SeqCst);
            // One that logs anew may have what the others wait for.
            let is_first = op.body.log.is_empty();
            if is_first && hole.waiters.load(Ordering::SeqCst) > 0 {
                return wait(&pass, op, seen);
            }
        }
    }
    try_begin(op);
}

/// [`begin`], whoever waits. Process context.
pub(super) fn try_begin(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    let body = op.as_mut().body_mut();
    let Some(pass) = body.array().map(|pass| pass.again()) else {
        return;
    };
    let (Some(hole), Some((members, covers, with_sums))) =
        (pass.hole.as_ref(), wanted(&pass, body))
    else {
        return lane_end::fail_op(op);
    };
    if waits_for_losses(&pass) {
        // An entry may take the place of one that is needed if the member is here again.
        if let Some(ready) = wait_for_record(op, waits_for_losses) {
            lane_run::perform(ready);
        }
        return;
    }
    if pass.is_broken() {
        // Nor may any, where a loss is not to be recorded.
        return lane_end::fail_op(op);
    }
    if is_out_of_date(&pass, body) {
        return begin_anew(op);
    }
    let bucket = hole.watch.bucket(body.lane);
    let seen = hole.changes.load(Ordering::SeqCst);
    if hole.watch.is_unflushed(bucket) {
        return flush(&pass, hole, op, seen);
    }
    let in_row = row_entry(&pass, body, members, with_sums.then_some(covers));
    let sectors = match in_row {
        Some(write) => write.sum_sectors,
        None if with_sums => body.run_sectors,
        None => 0,
    };
    if !body.log.has_room(members.len() as usize) {
        // Not with the losses that a level bears.
        return lane_end::fail_op(op);
    }
    match hole.place(members, sectors, bucket, &mut body.log) {
        Ok(()) => {}
        Err(Refusal::Unflushed) => return flush(&pass, hole, op, seen),
        Err(Refusal::Busy) => return wait(&pass, op, seen),
    }
    let number = hole.numbers.fetch_add(1, Ordering::Relaxed) + 1;
    match in_row {
        Some(write) => write_row_head(&pass, body, write),
        None => write_heads(&pass, body, number, members, covers, with_sums),
    }
    body.log.phase = Phase::Logging;
    send(op, sectors);
}

/// Flushes all members, then begins again; or waits for the op that does so.
fn flush(pass: &ArrayPass, hole: &Hole, mut op: Pin<KBox<LaneOp>>, seen: u64) {
    // Each write of a row waits for a flush: together, not one after the other.
    if hole.row().is_some() && hole.flushing.swap(true, Ordering::SeqCst) {
        return wait(pass, op, seen);
    }
    let number = pass.flush_begins();
    op.as_mut().body_mut().log.phase = Phase::Flushing(number);
    launch(op, |op, launcher| {
        let Some(pass) = op.body.array() else { return };
        for slot in pass.writable().iter() {
            if let Some(member) = pass.table().member(slot) {
                launcher.flush(slot, &member.device);
            }
        }
    });
}

/// A batch of the log's is back. Process context.
pub(in crate::array) fn batch_back(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    let (failed, _) = op.batch_failures();
    let body = op.as_mut().body_mut();
    let phase = core::mem::replace(&mut body.log.phase, Phase::Idle);
    let Some(pass) = body.array().map(|pass| pass.again()) else {
        return;
    };
    for slot in failed.iter() {
        pass.table().count_error(slot, false);
        pass.write_errors.fetch_add(1, Ordering::Relaxed);
        Array::member_failed(&pass, slot, EventKind::WriteError, None);
    }
    let Some(hole) = pass.hole.as_ref() else {
        return lane_end::fail_op(op);
    };
    if let Phase::Flushing(number) = phase {
        pass.flush_ended(number, failed);
        if hole.row().is_some() {
            hole.flushing.store(false, Ordering::SeqCst);
            hole.changes.fetch_add(1, Ordering::SeqCst);
            if pass.someone_waits.load(Ordering::SeqCst) {
                Background::kick(pass.again());
            }
        }
        if !failed.intersect(pass.writable()).is_empty() {
            // It stays in use, and its cache cannot be relied on.
            return lane_end::fail_op(op);
        }
        return try_begin(op);
    }
    hole.written(body.log.unwritten());
    body.log.note_written();
    body.log.covered = true;
    if pass.someone_waits.load(Ordering::SeqCst) {
        Background::kick(pass.again());
    }
    if let Some(Step::Log { .. }) = body.step {
        let result = StepResult {
            failed,
            lost: failed,
            ..StepResult::default()
        };
        body.step = body.work.as_mut().map(|work| work.step(result));
    }
    lane_run::perform(op);
}

/// A run is through: what it logged may be overwritten once what it wrote is durable. Any context.
pub(in crate::array) fn run_is_through(pass: &ArrayPass, body: &mut Body) {
    let Some(hole) = pass.hole.as_ref() else {
        return;
    };
    if body.shared {
        return;
    }
    hole.watch.lane_written(hole.watch.bucket(body.lane));
    let log = &mut body.log;
    if !log.is_empty() || log.waited {
        // Of what a lost member did not take the entries stay as they are when nobody records the loss. And one that waited
        // and then logged nothing makes no room, but others may be about to wait behind it.
        if log.is_empty() || log.left_behind && pass.is_broken() {
            hole.changes.fetch_add(1, Ordering::SeqCst);
        } else {
            hole.done(log.all());
        }
        log.clear();
        if pass.someone_waits.load(Ordering::SeqCst) {
            Background::kick(pass.again());
        }
    }
    log.waited = false;
    log.left_behind = false;
    log.covered = false;
    log.wrote = false;
}
