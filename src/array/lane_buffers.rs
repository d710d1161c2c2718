// SPDX-License-Identifier: GPL-2.0

//! The buffers of a run: which it needs, where they come from, and users' data in them.

use super::lane_op::{Body, NO_ALIAS};
use super::lane_zero;
use super::ArrayPass;
use crate::block::context;
use crate::block::pages::{PagePool, Pages};
use crate::block::raw;
use crate::model::Slot;
use crate::personalities::lane::{Compute, Job, Step};
use crate::personalities::{Kind, Mask};

/// Takes the buffers that a run needs when nothing fails; all or none.
pub(super) fn take(pass: &ArrayPass, body: &mut Body, first: Step) -> bool {
    let order = PagePool::order_for(body.run_sectors as usize * 512);
    let (reads, news) = expected(&pass.geometry.kind(), body, first);
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

/// Members of which `Old` and `New` will be needed.
pub(super) fn expected(kind: &Kind, body: &Body, first: Step) -> (Mask, Mask) {
    let reads = match first {
        Step::Read { members } => members,
        _ => Mask::EMPTY,
    };
    let news = match (body.job, kind) {
        (Job::Write { written }, Kind::Mirrored | Kind::Copies) => Mask::option(written.first()),
        (Job::Write { written }, _) => match first {
            Step::Compute(Compute::Parity { p, .. }) => written.with(p),
            Step::Compute(Compute::Syndromes { p, q, .. }) => {
                written.with(q).union(Mask::option(p))
            }
            _ => written,
        },
        _ => Mask::EMPTY,
    };
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

/// Makes sure that there is a buffer; sleeps for memory when the run needs more than was expected
/// (something failed). Process context.
pub(super) fn ensure(buffer: &mut Option<Pages>, len_bytes: usize) {
    context::may_sleep();
    let order = PagePool::order_for(len_bytes);
    while buffer.is_none() {
        *buffer = Pages::alloc(order, raw::GFP_NOIO);
        if buffer.is_none() {
            context::sleep_us(1000);
        }
    }
}

pub(super) fn ensure_old(body: &mut Body, slot: Slot) {
    let len_bytes = body.run_sectors as usize * 512;
    if let Some(buffers) = body.buffers.get_mut(usize::from(slot)) {
        ensure(&mut buffers.old, len_bytes);
    }
}

pub(super) fn ensure_new(body: &mut Body, slot: Slot) {
    let len_bytes = body.run_sectors as usize * 512;
    if let Some(buffers) = body.buffers.get_mut(usize::from(slot)) {
        ensure(&mut buffers.new, len_bytes);
    }
}
