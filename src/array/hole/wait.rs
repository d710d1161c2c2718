// SPDX-License-Identifier: GPL-2.0

//! Ops that wait: for a member's loss (or a bad range) to be recorded, or for room in the log.
//!
//! They are in the lists of `Array::waiting`, whose lock is held for a few lines. `Background` starts them again.

use super::step::{run_is_through, try_begin};
use super::Hole;
use crate::array::lane_op::{Body, LaneOp};
use crate::array::submit::Background;
use crate::array::{lane_end, lane_run, Array, ArrayPass};
use crate::personalities::lane::{Job, Step};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// Whether an op's step has to wait until a member's loss is recorded ([`wait_for_record`]).
///
/// Power that goes before the record makes the member one like any other again. What is left of the lane then must
/// not hinge on its being lost: no sum that has it among what is missing, no write of parity that goes without it,
/// and of a write that it did not take the entry has to stay. Writes that were planned before the loss, and their
/// entries, may be on their way: they count it as here.
pub(in crate::array) fn must_wait(pass: &ArrayPass, body: &Body) -> bool {
    let hinges = match (body.step, body.job) {
        (Some(Step::Log { .. } | Step::Write { .. }), Job::Write { .. }) => true,
        (Some(Step::Done(_)), _) => body.log.left_behind,
        _ => false,
    };
    hinges && waits_for_losses(pass)
}

/// Whether a write was planned with a member that is lost since, before any of it was sent: its sum counts on that member
/// to take its part, which, lost before the write, is to be old or new.
pub(in crate::array) fn is_out_of_date(pass: &ArrayPass, body: &Body) -> bool {
    matches!(body.job, Job::Write { .. })
        && matches!(body.step, Some(Step::Log { .. } | Step::Write { .. }))
        && !body.log.wrote
        && !body.log.planned.minus(pass.writable()).is_empty()
}

/// Begins a run anew, with the members that are left. What it has logged says nothing wrong: nothing was written.
/// Process context.
pub(in crate::array) fn begin_anew(mut op: Pin<KBox<LaneOp>>) {
    let body = op.as_mut().body_mut();
    if let Some(pass) = body.array().map(|pass| pass.again()) {
        run_is_through(&pass, body);
    }
    lane_end::clear_run(body);
    lane_run::start(op);
}

/// Whether a loss will be recorded and is not yet. On a broken array nobody waits: it may be that nothing can be
/// recorded any more, and writes fail.
pub(in crate::array) fn waits_for_losses(array: &Array) -> bool {
    !array.unrecorded().is_empty() && !array.is_broken()
}

/// Keeps an op while it `waits` for a record: of losses ([`waits_for_losses`]), or of bad ranges. Gives it back when it does
/// not. Its lane and its buffers stay its own: who records needs neither. Any context.
pub(in crate::array) fn wait_for_record(
    mut op: Pin<KBox<LaneOp>>,
    waits: impl Fn(&Array) -> bool,
) -> Option<Pin<KBox<LaneOp>>> {
    let pass = op.body.array().map(|pass| pass.again())?;
    {
        let mut waiting = pass.waiting.lock();
        // Who records clears the mark before it looks at the list.
        if !waits(&pass) {
            drop(waiting);
            return Some(op);
        }
        let rest = waiting.for_record.take();
        op.as_mut().set_next(rest);
        waiting.for_record = Some(op);
    }
    pass.notify.kick();
    None
}

/// Goes on with ops that waited for a record. Process context.
pub(in crate::array) fn go_on_recorded(mut list: Option<Pin<KBox<LaneOp>>>) {
    while let Some(mut op) = list {
        list = op.as_mut().take_next();
        lane_run::perform(op);
    }
}

/// Begins again for ops that waited for room, given newest first: the oldest goes first. Process context.
pub(in crate::array) fn begin_waiting(mut list: Option<Pin<KBox<LaneOp>>>) {
    let mut oldest_first = None;
    while let Some(mut op) = list {
        list = op.as_mut().take_next();
        op.as_mut().set_next(oldest_first);
        oldest_first = Some(op);
    }
    while let Some(mut op) = oldest_first {
        oldest_first = op.as_mut().take_next();
        if let Some(hole) = op.body.array().and_then(|pass| pass.hole.as_ref()) {
            hole.waiters.fetch_sub(1, Ordering::SeqCst);
        }
        try_begin(op);
    }
}

/// Keeps an op until there is room. `seen` is how much room had been made when there was none.
pub(super) fn wait(pass: &ArrayPass, mut op: Pin<KBox<LaneOp>>, seen: u64) {
    if let Some(hole) = pass.hole.as_ref() {
        hole.waiters.fetch_add(1, Ordering::SeqCst);
    }
    op.as_mut().body_mut().log.waited = true;
    {
        let mut waiting = pass.waiting.lock();
        let rest = waiting.for_log.take();
        op.as_mut().set_next(rest);
        waiting.for_log = Some(op);
        pass.someone_waits.store(true, Ordering::SeqCst);
    }
    // Who makes room says so before it looks at the flag.
    let has_changed = |hole: &Hole| hole.changes.load(Ordering::SeqCst) != seen;
    // On a broken array ops fail instead of making room, perhaps the one that this one was to wait behind.
    if pass.is_broken() || pass.hole.as_ref().is_some_and(|hole| has_changed(hole)) {
        Background::kick(pass.again());
    }
}
