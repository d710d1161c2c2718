// SPDX-License-Identifier: GPL-2.0

//! Lane locks: who works on a lane, and who waits for it.
//!
//! Lanes are spread over buckets by number; a bucket is the lock. It is held for the length of an op's
//! I/O, so nobody sleeps on it: an op that does not get it is queued in the bucket, and started by
//! whoever lets go. While it waits, writes that belong together with it join it: a sequential stream
//! becomes full stripes without being held back.
//!
//! Ops that only read may share a bucket, as long as nobody waits.

use super::lane_op::LaneOp;
use kernel::prelude::*;
use kernel::sync::SpinLockIrq;

/// Number of buckets; a power of two.
const BUCKETS: usize = 512;

/// One bucket.
struct Bucket {
    /// An op has it for itself.
    exclusive: bool,
    /// Ops that share it.
    readers: u32,
    /// Ops that wait, oldest first, linked through `LaneOp::take_next`.
    waiting: Option<Pin<KBox<LaneOp>>>,
}

impl Bucket {
    fn is_free_for(&self, shared: bool) -> bool {
        !self.exclusive && (shared || self.readers == 0)
    }

    fn hold(&mut self, shared: bool) {
        if shared {
            self.readers += 1;
        } else {
            self.exclusive = true;
        }
    }
}

/// What became of an op that asked for its lane.
pub(super) enum Asked {
    /// It has it.
    Granted(Pin<KBox<LaneOp>>),
    /// It waits.
    Queued,
    /// What it wanted was taken over by one that waits; the op itself is left over.
    Merged(Pin<KBox<LaneOp>>),
}

/// All lane locks of an array.
pub(super) struct LaneTable {
    buckets: KVec<Pin<KBox<SpinLockIrq<Bucket>>>>,
}

impl LaneTable {
    /// All free.
    pub(super) fn new() -> Result<Self> {
        let mut buckets = KVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        for _ in 0..BUCKETS {
            let bucket = KBox::pin_init(
                kernel::new_spinlock_irq!(
                    Bucket {
                        exclusive: false,
                        readers: 0,
                        waiting: None,
                    },
                    "emd_lane"
                ),
                GFP_KERNEL,
            )?;
            buckets.push(bucket, GFP_KERNEL)?;
        }
        Ok(Self { buckets })
    }

    fn bucket(&self, lane: u64) -> Option<&SpinLockIrq<Bucket>> {
        // Neighbours go to different buckets; a multiplier keeps strides from meeting.
        let hash = (lane ^ lane >> 9) as usize & (BUCKETS - 1);
        Some(self.buckets.get(hash)?.as_ref().get_ref())
    }

    /// Asks for the lane of `op`.
    pub(super) fn ask(&self, mut op: Pin<KBox<LaneOp>>) -> Asked {
        let (lane, shared) = (op.body.lane, op.body.shared);
        let Some(bucket) = self.bucket(lane) else {
            return Asked::Granted(op);
        };
        let mut bucket = bucket.lock();
        if bucket.waiting.is_none() && bucket.is_free_for(shared) {
            bucket.hold(shared);
            return Asked::Granted(op);
        }
        let mut place = &mut bucket.waiting;
        while let Some(waiting) = place {
            if waiting
                .as_mut()
                .body_mut()
                .try_merge(op.as_mut().body_mut())
            {
                return Asked::Merged(op);
            }
            place = waiting.as_mut().next_mut();
        }
        *place = Some(op);
        Asked::Queued
    }

    /// Lets go of a lane.
    pub(super) fn release(&self, lane: u64, shared: bool) {
        if let Some(bucket) = self.bucket(lane) {
            let mut bucket = bucket.lock();
            if shared {
                bucket.readers = bucket.readers.saturating_sub(1);
            } else {
                bucket.exclusive = false;
            }
        }
    }

    /// The next op that can have a lane of this bucket; it has it then. Call until there is none.
    pub(super) fn grant_next(&self, lane: u64) -> Option<Pin<KBox<LaneOp>>> {
        let mut bucket = self.bucket(lane)?.lock();
        let shared = bucket.waiting.as_ref()?.body.shared;
        if !bucket.is_free_for(shared) {
            return None;
        }
        let mut op = bucket.waiting.take()?;
        bucket.waiting = op.as_mut().take_next();
        bucket.hold(shared);
        Some(op)
    }
}
