// SPDX-License-Identifier: GPL-2.0

//! Gathering: writes of a sequential stream that do not cover their lane are held back for a moment, so
//! that the rest of the lane can join them. A covered lane is written without reading anything.
//!
//! Only streams are held: a write that begins where a recent one on the same CPU ended. A held write
//! goes when its lane is covered, or with the next tick of the clock but one. When holding does not pay (the
//! writer waits for each write, or the stream ends), it is not tried again for a while, and each time
//! in vain makes the while longer.

use super::{lane_run, Array, ArrayPass};
use crate::block::context;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use kernel::time::Jiffies;
use kernel::workqueue::{impl_has_delayed_work, DelayedWork, WorkItem};

/// Most lanes with a held write; more are not held.
pub(super) const HELD_MAX: usize = 128;

/// Streams remembered for each CPU.
const STREAMS: usize = 4;
/// CPUs told apart.
const CPUS: usize = 16;

/// How long a write is held: one whole tick of the clock, at least.
const HOLD_TICKS: Jiffies = 2;

/// Writes that are not held after holding was in vain: at first, and at most.
const BACKOFF_MIN: u32 = 4;
const BACKOFF_MAX: u32 = 8192;

#[repr(align(64))]
struct Ends([AtomicU64; STREAMS]);

/// Where recent writes ended, and whether holding pays.
pub(super) struct Streams {
    ends: [Ends; CPUS],
    /// Stream writes that are still not to be held.
    skip: AtomicU32,
    /// How many that will be next time.
    backoff: AtomicU32,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            ends: [const { Ends([const { AtomicU64::new(u64::MAX) }; STREAMS]) }; CPUS],
            skip: AtomicU32::new(0),
            backoff: AtomicU32::new(BACKOFF_MIN),
        }
    }

    /// Notes a write; true when it goes on where another ended and is worth holding.
    pub(super) fn is_stream(&self, sector: u64, sectors: u32) -> bool {
        let Some(Ends(ends)) = self.ends.get(context::cpu_hint() % CPUS) else {
            return false;
        };
        let end = sector + u64::from(sectors);
        for place in ends {
            if place.load(Ordering::Relaxed) == sector {
                place.store(end, Ordering::Relaxed);
                let skip = self.skip.load(Ordering::Relaxed);
                if skip > 0 {
                    self.skip.store(skip - 1, Ordering::Relaxed);
                }
                return skip == 0;
            }
        }
        let place = (sector >> 3) as usize % STREAMS;
        if let Some(place) = ends.get(place) {
            place.store(end, Ordering::Relaxed);
        }
        false
    }

    /// A held write's lane was covered.
    pub(super) fn filled(&self) {
        if self.backoff.load(Ordering::Relaxed) != BACKOFF_MIN {
            self.backoff.store(BACKOFF_MIN, Ordering::Relaxed);
        }
    }

    /// It was not, in time.
    fn in_vain(&self) {
        let backoff = self.backoff.load(Ordering::Relaxed);
        self.skip.store(backoff, Ordering::Relaxed);
        self.backoff
            .store((backoff * 4).min(BACKOFF_MAX), Ordering::Relaxed);
    }
}

/// Lets held writes go after a moment.
#[pin_data]
pub(super) struct Holder {
    #[pin]
    work: DelayedWork<Holder>,
    /// The array, while something is held.
    #[pin]
    pass: SpinLockIrq<Option<ArrayPass>>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Holder { self.work }
}

impl Holder {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- kernel::new_delayed_work!("emd_holder"),
                pass <- kernel::new_spinlock_irq!(None, "emd_holder"),
            }),
            GFP_KERNEL,
        )
    }
}

/// Has the op that was just queued for `lane` let go after a moment, or at once when too many wait.
pub(super) fn hold(pass: &ArrayPass, lane: u64) {
    let is_noted = pass.waiting.lock().held.push_within_capacity(lane).is_ok();
    if !is_noted {
        return lane_run::let_go(pass, lane);
    }
    let holder = pass.holder.clone();
    let old = holder.pass.lock().replace(pass.again());
    // When it is queued already it will find the lane: it takes the pass first and the lanes then.
    let _ = pass.queue.enqueue_delayed(holder, HOLD_TICKS);
    drop(old);
}

impl WorkItem for Holder {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let Some(pass) = this.pass.lock().take() else {
            return;
        };
        loop {
            let lane = pass.waiting.lock().held.pop();
            let Some(lane) = lane else { break };
            while let Some(op) = pass.lanes.grant_next(lane) {
                if op.body.fragments.len() <= 1 {
                    pass.streams.in_vain();
                }
                lane_run::start(op);
            }
        }
    }
}

impl Array {
    /// Whether a write that covers only part of its lanes should be held back.
    pub(super) fn is_worth_holding(&self, sector: u64, sectors: u32) -> bool {
        self.streams.is_stream(sector, sectors)
    }
}
