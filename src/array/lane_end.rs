// SPDX-License-Identifier: GPL-2.0

//! The end of a lane op's run, and of the op: what users get, what members are left with, and who has the lane next.
//!
//! The op has its lane until `finish`. No lock is held here; those for which it calls (a lane bucket's, the pools',
//! `Array::bad`) are leaves.

use super::hole;
use super::lane_op::{Body, LaneOp, NO_ALIAS};
use super::lane_run::defer;
use super::lane_zero::Zeroing;
use super::submit::Background;
use super::{Array, ArrayPass};
use crate::block::bio::Status;
use crate::model::Slot;
use crate::personalities::bad::{BadSpot, Noted};
use crate::personalities::choice::Choice;
use crate::personalities::lane::{Job, LaneResult, Outcome};
use crate::personalities::task::Found;
use crate::personalities::{Kind, Mask};
use crate::uapi::event::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// A run has ended: with the whole op, or with one more block of it. Any context when all went
/// well, else process context.
pub(super) fn finish_run(mut op: Pin<KBox<LaneOp>>, outcome: Outcome) {
    let body = op.as_mut().body_mut();
    let Some(pass) = body.array().map(|pass| pass.again()) else {
        return;
    };
    let cleared = pass.note_taken(body);
    let is_done = outcome.result == LaneResult::Good;
    let whole = body.run_sectors == body.sectors;
    let block = pass.block_sectors();
    let has_blocks = whole && body.sectors > block;
    let left = match is_done || has_blocks {
        true => Noted::NoRoom,
        false => pass.leave_hole(body, outcome),
    };
    let is_full = is_done && cleared == Noted::Later || left == Noted::Later;
    // On a broken array it may be that nothing can be recorded any more.
    if is_full && !pass.is_broken() {
        if let Some(ready) = hole::wait_for_record(op, Array::waits_for_bad_spots) {
            // There is room by now. Not from here: this may be an interrupt.
            defer(ready);
        }
        return;
    }
    hole::run_is_through(&pass, body);
    for slot in outcome.repaired.minus(body.repaired).iter() {
        let sector = pass.run_sector(body, slot);
        let place = pass.table().place(slot, Some(sector));
        pass.notify.event(EventKind::ReadRepaired, place);
    }
    if !whole {
        body.repaired = outcome.repaired;
        body.unread = outcome.repaired.union(outcome.unreadable);
    }
    for slot in outcome.write_failed.iter() {
        // Left out of date: it counts for nothing before the write is acknowledged.
        if pass.drop_member(slot, false) {
            let place = pass.table().place(slot, None);
            pass.notify.event(EventKind::MemberFailed, place);
            pass.notify.kick();
        }
    }
    body.mismatch |= outcome.mismatch;
    let fixed = pass.fixed(body, outcome);
    body.fixed = body.fixed.or(fixed);
    if outcome.mismatch && !whole {
        // Each block as what it was.
        body.told = true;
        if let Some(task) = body.task.as_ref() {
            task.tell(
                &pass,
                body.stripe,
                (body.run_column, body.run_sectors),
                fixed,
            );
        }
    }
    // A mirror's last good member stays in use although it did not take this: then nobody has it. What was read is
    // there, whoever did not take it again.
    let stale = match body.job {
        Job::Read { .. } => Mask::EMPTY,
        _ => outcome.write_failed.intersect(pass.readable()),
    };
    let is_kept = cleared == Noted::Done;
    let is_good = is_done && stale.is_empty() && is_kept;
    if !is_good && has_blocks {
        // Not as a whole: block by block, so that only what is really lost fails.
        body.run_sectors = block;
        clear_run(body);
        return defer(op);
    }
    if is_good {
        deliver(body, outcome);
    } else if left != Noted::Done {
        fail_run(body);
    }
    let next_column = body.run_column + body.run_sectors;
    if !whole && next_column < body.column + body.sectors {
        body.run_column = next_column;
        clear_run(body);
        // Not from here: this may be an interrupt, and runs within runs would fill the stack.
        return defer(op);
    }
    finish(&pass, op);
}

/// A run cannot be done, for a reason that no machine knows of. Process context.
pub(super) fn fail_op(op: Pin<KBox<LaneOp>>) {
    finish_run(op, Outcome::of(LaneResult::Unwritten));
}

/// Forgets what the last run left behind, but keeps its buffers.
pub(super) fn clear_run(body: &mut Body) {
    body.work = None;
    body.step = None;
    body.zeroing = Zeroing::GivenUp;
    body.taken = Mask::EMPTY;
    body.alias.fill(NO_ALIAS);
    for buffers in body.buffers.iter_mut() {
        // A parity worked out in place has to be read again.
        if buffers.old.is_none() {
            buffers.old = buffers.new.take();
        }
    }
}

/// Gives users the data they wanted.
fn deliver(body: &Body, outcome: Outcome) {
    let Job::Read { .. } = body.job else { return };
    let (first, last) = (body.run_column, body.run_column + body.run_sectors);
    for fragment in body.fragments.iter() {
        let from = fragment.column.max(first);
        let to = (fragment.column + fragment.sectors).min(last);
        if from >= to {
            continue;
        }
        let slot = outcome.source.unwrap_or(fragment.slot);
        let skip = (from - fragment.column) as usize * 512;
        let at = (from - first) as usize * 512;
        let len = (to - from) as usize * 512;
        let bytes = body
            .buffers
            .get(usize::from(slot))
            .and_then(|b| b.old.as_ref())
            .and_then(|pages| pages.as_slice().get(at..at + len));
        match bytes {
            Some(bytes) => fragment.io.copy_in(fragment.io_offset_bytes + skip, bytes),
            None => fragment.io.fail(Status::IO_ERROR),
        }
    }
}

/// Fails what the run covers.
fn fail_run(body: &mut Body) {
    body.failed = true;
    let (first, last) = (body.run_column, body.run_column + body.run_sectors);
    for fragment in body.fragments.iter() {
        if fragment.column < last && fragment.column + fragment.sectors > first {
            fragment.io.fail(Status::IO_ERROR);
        }
    }
}

/// The op is done. Any context.
fn finish(pass: &ArrayPass, mut op: Pin<KBox<LaneOp>>) {
    let body = op.as_mut().body_mut();
    for buffers in body.buffers.iter_mut() {
        for pages in [buffers.old.take(), buffers.new.take()]
            .into_iter()
            .flatten()
        {
            pass.pool.put(pages);
        }
    }
    let (lane, shared) = (body.lane, body.shared);
    if core::mem::take(&mut body.repairs) {
        pass.repair_is_through();
    }
    // Before somebody else has the lane: who has it asks whether the task was there.
    if let Some(task) = body.task.take() {
        let found = match (body.mismatch, body.overwriting) {
            (true, _) if body.told => Found::DifferentAsTold,
            (true, _) => Found::Different(body.fixed),
            (false, false) => Found::Alike,
            (false, true) => Found::Unseen,
        };
        task.lane_done(body.task_lane, body.failed, found);
    }
    pass.lanes.release(lane, shared);
    while let Some(next) = pass.lanes.grant_next(lane) {
        pass.queue.enqueue(next);
    }
    retire(pass, op);
}

/// Resets an op (its user bios may end with that) and puts it back; lets go on who waits for one.
pub(super) fn retire(pass: &ArrayPass, mut op: Pin<KBox<LaneOp>>) {
    let own_pass = op.as_mut().body_mut().reset();
    pass.ops.put(op);
    if pass.someone_waits.load(Ordering::SeqCst) {
        Background::kick(pass.again());
    }
    drop(own_pass);
}

impl Array {
    /// Members that took a run's write hold there what they should: no bad ranges any more. Gives what keeps that from
    /// being kept in mind. May be asked again.
    fn note_taken(&self, body: &Body) -> Noted {
        if !self.has_bad_spots() {
            return Noted::Done;
        }
        let mut worst = Noted::Done;
        for slot in body.taken.iter() {
            match self.clear_bad_spot(self.run_spot(body, slot)) {
                Noted::Done => {}
                Noted::Later if worst == Noted::NoRoom => {}
                cleared => worst = cleared,
            }
        }
        worst
    }

    /// The first of the members that a run of a sync wrote because they did not agree, and why.
    fn fixed(&self, body: &Body, outcome: Outcome) -> Option<(Slot, Choice)> {
        let unsynced = self.unsynced_from.load(Ordering::Acquire) != u64::MAX;
        let (stripe, corrected) = (body.stripe, outcome.corrected);
        // What could not be read had no part in it.
        let read = self.readable().minus(outcome.repaired);
        let choice = Choice::of(&self.geometry, stripe, corrected, read, unsynced)?;
        Some((corrected.first()?, choice))
    }

    fn run_spot(&self, body: &Body, slot: Slot) -> BadSpot {
        BadSpot {
            slot,
            first: self.run_sector(body, slot),
            sectors: u64::from(body.run_sectors),
        }
    }

    /// What a task cannot put right in a block does not hold it up: a rebuild leaves a bad range on its
    /// targets, a sync has nothing to agree there. [`Noted::NoRoom`] when the run has failed all the same. May be asked again.
    fn leave_hole(&self, body: &Body, outcome: Outcome) -> Noted {
        if outcome.result != LaneResult::Unreadable {
            return Noted::NoRoom;
        }
        match body.job {
            Job::Rebuild { targets } => {
                let mut holes = targets
                    .intersect(self.writable())
                    .iter()
                    .map(|slot| self.add_bad_spot(self.run_spot(body, slot)));
                let unkept = holes.find(|&left| left != Noted::Done);
                unkept.unwrap_or(Noted::Done)
            }
            Job::Sync { .. } => Noted::Done,
            Job::Write { .. } => self.leave_hole_of_write(body, outcome),
            Job::Read { .. } => Noted::NoRoom,
        }
    }

    /// Members of a mirror that are being rebuilt took a write that the last good one did not, which cannot be read there
    /// either. What has no room among bad ranges counts for nothing. The write has failed in any case.
    fn leave_hole_of_write(&self, body: &Body, outcome: Outcome) -> Noted {
        if self.geometry.kind() != Kind::Mirrored {
            return Noted::NoRoom;
        }
        let ahead = outcome.unreadable.minus(self.readable());
        for slot in ahead.intersect(self.writable()).iter() {
            match self.add_bad_spot(self.run_spot(body, slot)) {
                Noted::Done => {}
                Noted::Later if !self.is_broken() => return Noted::Later,
                Noted::Later | Noted::NoRoom => {
                    self.drop_member(slot, false);
                }
            }
        }
        Noted::NoRoom
    }
}
