// SPDX-License-Identifier: GPL-2.0

//! Has other CPUs work on lanes too, as many as they have time for.
//!
//! A lane that is given away costs a wake-up, and one that is given to who has enough to do waits for nothing. So
//! whoever has several asks for each ([`Spread::offer`]), and does himself what he gets back: neither does another CPU wait
//! for work while there is some, nor who hands in for others to do his.

use super::lane_op::LaneOp;
use crate::block::context;
use crate::block::queue::{self, WorkQueue};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;

/// Lanes that each other CPU may have at a time: one at work, and the next, so that it need not be woken for that.
const LANES_EACH: u32 = 2;

/// The queue of lanes for other CPUs.
pub(super) struct Spread {
    queue: WorkQueue,
    /// Lanes in it, or at work.
    lanes: AtomicU32,
}

impl Spread {
    /// Nothing to do.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            queue: WorkQueue::new(c"emd_spread", queue::Kind::Unbound)?,
            lanes: AtomicU32::new(0),
        })
    }

    /// For other work than lanes.
    pub(super) fn queue(&self) -> &WorkQueue {
        &self.queue
    }

    /// Takes an op that has its lane, or what is to be done next for it, when another CPU has time for that; gives it back when
    /// there is none. [`Spread::ended`] counts it out.
    pub(super) fn offer(&self, mut op: Pin<KBox<LaneOp>>) -> Option<Pin<KBox<LaneOp>>> {
        let most = context::other_cpus().saturating_mul(LANES_EACH);
        let count = |lanes: u32| (lanes < most).then(|| lanes.saturating_add(1));
        let order = Ordering::Relaxed;
        if self.lanes.fetch_update(order, order, count).is_err() {
            return Some(op);
        }
        op.as_mut().body_mut().spread = true;
        self.queue.enqueue(op);
        None
    }

    /// A lane that was given away is through with what its CPU could do for it.
    pub(super) fn ended(&self) {
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}
