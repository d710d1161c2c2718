// SPDX-License-Identifier: GPL-2.0

//! The buffers of a run: which it needs, where they come from, and users' data in them.

use super::lane_op::{Body, NO_ALIAS};
use super::lane_zero;
use super::ArrayPass;
use crate::block::context;
use crate::block::pages::{PagePool, Pages};
use crate::block::raw;
use crate::model::Slot;
use crate::personalities::lane::{Compute, Job, Step, StepResult, STEPS_LOGGED_MAX};
use crate::personalities::mirror::Work;
use crate::personalities::{Kind, Mask};

/// Takes the buffers that a run needs when nothing fails; all or none.
pub(super) fn take(pass: &ArrayPass, body: &mut Body, work: &Work, first: Step) -> bool {
    let order = PagePool::order_for(body.run_sectors as usize * 512);
    let (reads, news) = expected(&pass.geometry.kind(), body, work, first);
    let mut missing_old = Mask::EMPTY;
    let mut missing_new = Mask::EMPTY;
    for slot in reads.iter() {
        if body
            .buffers
            .get(usize::from(slot))
            .is_some_and(|b| b.old.is_none())
        {
            missing_old = missing_old.with(slot);
        }
    }
    for slot in news.iter() {
        if body
            .buffers
            .get(usize::from(slot))
            .is_some_and(|b| b.new.is_none())
        {
            missing_new = missing_new.with(slot);
        }
    }
    let count = (missing_old.len() + missing_new.len()) as usize;
    if count == 0 {
        return true;
    }
    pass.pool.take(order, count, |pages| {
        if let Some(slot) = missing_old.first() {
            missing_old = missing_old.without(slot);
            if let Some(buffers) = body.buffers.get_mut(usize::from(slot)) {
                buffers.old = Some(pages);
            }
        } else if let Some(slot) = missing_new.first() {
            missing_new = missing_new.without(slot);
            if let Some(buffers) = body.buffers.get_mut(usize::from(slot)) {
                buffers.new = Some(pages);
            }
        }
    })
}

/// Members of which `Old` and `New` will be needed when nothing fails from here on: what the machine, whose first step
/// this is, would ask for. What is lost already is known to it.
pub(super) fn expected(kind: &Kind, body: &Body, work: &Work, first: Step) -> (Mask, Mask) {
    let mut reads = Mask::EMPTY;
    let mut news = match (body.job, kind) {
        // All get the same.
        (Job::Write { written }, Kind::Mirrored | Kind::Copies) => Mask::option(written.first()),
        (Job::Write { written }, _) => written,
        _ => Mask::EMPTY,
    };
    let mut work = *work;
    let mut step = first;
    for _ in 0..STEPS_LOGGED_MAX {
        match step {
            Step::Read { members } => reads = reads.union(members),
            Step::Compute(compute) => match compute {
                // Parity that was read becomes the new one where it is.
                Compute::Parity { p, old, .. } if !old.contains(p) => news = news.with(p),
                Compute::Syndromes { p, q, old, .. } if !old.contains(q) => {
                    news = news.with(q).union(Mask::option(p));
                }
                Compute::Reconstruct { slot, .. } | Compute::ReconstructByQ { slot, .. } => {
                    reads = reads.with(slot);
                }
                Compute::ReconstructTwo { a, b, .. } => reads = reads.with(a).with(b),
                _ => {}
            },
            Step::Log { .. } => {}
            Step::Write { .. } | Step::Done(_) => break,
        }
        step = work.step(StepResult::default());
    }
    (reads, news)
}

/// Copies the user's data into the buffers to be written: from here on it does not change.
pub(super) fn fill_new(body: &mut Body) {
    let Job::Write { .. } = body.job else {
        return;
    };
    let (first, last) = (body.run_column, body.run_column + body.run_sectors);
    let (fragments, buffers) = (&body.fragments, &mut body.buffers);
    for fragment in fragments.iter() {
        let from = fragment.column.max(first);
        let to = (fragment.column + fragment.sectors).min(last);
        if from >= to {
            continue;
        }
        let skip = (from - fragment.column) as usize * 512;
        let at = (from - first) as usize * 512;
        let len = (to - from) as usize * 512;
        let room = buffers
            .get_mut(usize::from(fragment.slot))
            .and_then(|b| b.new.as_mut())
            .and_then(|pages| pages.as_mut_slice().get_mut(at..at + len));
        match room {
            Some(room) if lane_zero::has_no_data(&fragment.io) => room.fill(0),
            Some(room) => fragment.io.copy_out(fragment.io_offset_bytes + skip, room),
            None => {}
        }
    }
}

/// The buffer that is to be written to `slot`.
pub(super) fn new_of(body: &Body, slot: Slot) -> Option<&Pages> {
    let buffers = |slot: Slot| body.buffers.get(usize::from(slot));
    match body.alias.get(usize::from(slot)) {
        Some(&alias) if alias != NO_ALIAS => buffers(Slot::from(alias))?.old.as_ref(),
        _ => match (buffers(slot)?.new.as_ref(), body.job) {
            (Some(new), _) => Some(new),
            // A mirror writes the same to all.
            (None, Job::Write { written }) => buffers(written.first()?)?.new.as_ref(),
            (None, _) => None,
        },
    }
}

/// A buffer for the run, beside those that were taken for it: something failed. Sleeps until there is one. What comes
/// back to the pool does, and the memory that is kept for those who free memory: this write may be what frees some, and
/// who holds buffers must not wait for others that may wait for the same. Process context.
fn further(body: &Body) -> Pages {
    context::may_sleep();
    let order = PagePool::order_for(body.run_sectors as usize * 512);
    loop {
        let mut found = None;
        if let Some(pass) = body.array() {
            pass.pool.take(order, 1, |pages| found = Some(pages));
        }
        if let Some(pages) = found.or_else(|| Pages::alloc(order, raw::GFP_LAST_RESORT)) {
            return pages;
        }
        context::sleep_us(1000);
    }
}

/// Makes sure that there is a buffer for what the member holds. Sleeps for memory when the run needs more than was expected.
pub(super) fn ensure_old(body: &mut Body, slot: Slot) {
    let at = usize::from(slot);
    if body.buffers.get(at).is_some_and(|b| b.old.is_none()) {
        let pages = further(body);
        if let Some(buffers) = body.buffers.get_mut(at) {
            buffers.old = Some(pages);
        }
    }
}

/// The same for what is to be written to it.
pub(super) fn ensure_new(body: &mut Body, slot: Slot) {
    let at = usize::from(slot);
    if body.buffers.get(at).is_some_and(|b| b.new.is_none()) {
        let pages = further(body);
        if let Some(buffers) = body.buffers.get_mut(at) {
            buffers.new = Some(pages);
        }
    }
}
