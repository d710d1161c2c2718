// SPDX-License-Identifier: GPL-2.0

//! Lane locks: who works on a lane, and who waits for it.
//!
//! Lanes are spread over buckets by number; a bucket is the lock. It is held for the length of an op's
//! I/O, so nobody sleeps on it: an op that does not get it is queued in the bucket, and started by
//! whoever lets go. While it waits, writes that belong together with it join it: a sequential stream
//! becomes full stripes without being held back.
//!
//! Ops that only read may share a bucket, as long as nobody waits. Writes of a stream may be held
//! back for a moment so that their neighbours can join them (`gather.rs`).

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
    /// What it wanted was taken over by one that waits; the op itself is left over, and may have another one
    /// linked behind it that is too.
    Merged(Pin<KBox<LaneOp>>),
    /// The same, and the one that waited is complete with that: it has its lane now (first), and the
    /// others are left over (second).
    Completed(Pin<KBox<LaneOp>>, Pin<KBox<LaneOp>>),
}

/// Has one of the ops in `list` take over what `op` wants, if one can.
fn merge(mut list: &mut Option<Pin<KBox<LaneOp>>>, op: &mut Pin<KBox<LaneOp>>) -> bool {
    while let Some(waiting) = list {
        if waiting
            .as_mut()
            .body_mut()
            .try_merge(op.as_mut().body_mut())
        {
            return true;
        }
        list = waiting.as_mut().next_mut();
    }
    false
}

/// Has the first op in `list` take over what one behind it wants, if it can, and gives that one, which is left over. What joined
/// the one may have made it a neighbour of the other: pieces of a stream that are less than a chunk each come
/// to whole chunks, and these to the lane.
fn join_first(list: &mut Option<Pin<KBox<LaneOp>>>) -> Option<Pin<KBox<LaneOp>>> {
    let first = list.as_mut()?;
    let mut rest = first.as_mut().take_next();
    let joined = take_one(&mut rest, |op| {
        let body = op.as_mut().body_mut();
        first.as_mut().body_mut().try_merge(body)
    });
    first.as_mut().set_next(rest);
    joined
}

/// Takes the first op out of `list` that `wants` says yes to.
fn take_one(
    mut list: &mut Option<Pin<KBox<LaneOp>>>,
    mut wants: impl FnMut(&mut Pin<KBox<LaneOp>>) -> bool,
) -> Option<Pin<KBox<LaneOp>>> {
    while !list.as_mut().is_some_and(&mut wants) {
        list = match list {
            Some(op) => op.as_mut().next_mut(),
            None => return None,
        };
    }
    let mut op = list.take()?;
    *list = op.as_mut().take_next();
    Some(op)
}

/// Puts `op` at the end of `list`.
fn append(mut list: &mut Option<Pin<KBox<LaneOp>>>, op: Pin<KBox<LaneOp>>) {
    while let Some(waiting) = list {
        list = waiting.as_mut().next_mut();
    }
    *list = Some(op);
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

    /// Asks for the lane of `op`. With `hold` it is queued even if the lane is free, to wait for
    /// others to join it; the caller sees to it that [`LaneTable::grant_next`] is called in a while.
    /// Held ops get their lane at once when they cover it: `complete` says so.
    pub(super) fn ask(
        &self,
        mut op: Pin<KBox<LaneOp>>,
        hold: bool,
        complete: impl Fn(&LaneOp) -> bool,
    ) -> Asked {
        let (lane, shared) = (op.body.lane, op.body.shared);
        let Some(bucket) = self.bucket(lane) else {
            return Asked::Granted(op);
        };
        let mut bucket = bucket.lock();
        if !hold && bucket.waiting.is_none() && bucket.is_free_for(shared) {
            bucket.hold(shared);
            return Asked::Granted(op);
        }
        if !merge(&mut bucket.waiting, &mut op) {
            append(&mut bucket.waiting, op);
            return Asked::Queued;
        }
        op.as_mut().set_next(join_first(&mut bucket.waiting));
        // Only the first in line can go, and only if nobody has the bucket.
        let ready = bucket.waiting.as_ref().is_some_and(|first| complete(first));
        if !ready || !bucket.is_free_for(false) {
            return Asked::Merged(op);
        }
        match bucket.waiting.take() {
            Some(mut first) => {
                bucket.waiting = first.as_mut().take_next();
                bucket.hold(false);
                Asked::Completed(first, op)
            }
            None => Asked::Merged(op),
        }
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
