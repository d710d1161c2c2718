// SPDX-License-Identifier: GPL-2.0

//! Flushes: every member's cache, then whatever the bio wants besides.

use super::submit::{self, Entrance};
use super::{Array, ArrayPass};
use crate::block::batch::{launch, Batch, BatchOwner, BatchSet};
use crate::block::bio::{IoRef, Status, UserBio};
use crate::personalities::Mask;
use crate::uapi::event::EventKind;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;
use kernel::sync::SpinLockIrq;
use kernel::workqueue::{impl_has_work, Work, WorkItem};

/// Flushes that each array can do whatever memory there is.
const OPS_READY: usize = 16;

/// A flush at work.
#[pin_data]
pub(super) struct FlushOp {
    #[pin]
    work: Work<FlushOp>,
    batch: Batch,
    /// The array; `None` only in the pool.
    pass: Option<ArrayPass>,
    bio: Option<UserBio>,
    /// Its number, for the write-hole log.
    number: u64,
}

impl_has_work! {
    impl HasWork<Self> for FlushOp { self.work }
}

impl FlushOp {
    fn new(flags: kernel::alloc::Flags) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                work <- kernel::new_work!("emd_flush"),
                batch: Batch::new(),
                pass: None,
                bio: None,
                number: 0,
            }),
            flags,
        )
    }
}

/// Flush ops of an array, ready for use. Its lock is a leaf, taken in any context.
#[pin_data]
pub(super) struct FlushPool {
    #[pin]
    ready: SpinLockIrq<KVec<Pin<KBox<FlushOp>>>>,
    /// A bio waits for one, in `Waiting::at_gate`.
    is_wanted: AtomicBool,
}

impl FlushPool {
    /// A full pool.
    pub(super) fn new() -> Result<impl PinInit<Self>> {
        let mut ready = KVec::with_capacity(OPS_READY, GFP_KERNEL)?;
        for _ in 0..OPS_READY {
            ready.push(FlushOp::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(pin_init!(Self {
            ready <- kernel::new_spinlock_irq!(ready, "emd_flush_pool"),
            is_wanted: AtomicBool::new(false),
        }))
    }

    /// One of the pool, or a new one if there is memory for it right now.
    fn take(&self) -> Option<Pin<KBox<FlushOp>>> {
        let ready = self.ready.lock().pop();
        ready.or_else(|| FlushOp::new(GFP_NOWAIT | __GFP_NOWARN).ok())
    }

    fn has_some(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    fn put(&self, op: Pin<KBox<FlushOp>>) {
        let surplus = self.ready.lock().push_within_capacity(op).err();
        drop(surplus);
    }
}

/// Flushes all members; then goes on with `bio` (a write), or ends it.
pub(super) fn start(mut pass: ArrayPass, bio: UserBio) {
    let Some(mut op) = pass.flushes.take() else {
        return wait(pass, bio);
    };
    // What a member has lost with its cache is known before anything is called clean.
    pass.count_as_writer();
    let fields = op.as_mut().project();
    *fields.bio = Some(bio);
    *fields.number = pass.flush_begins();
    *fields.pass = Some(pass);
    launch(op, |op, launcher| {
        let Some(pass) = op.pass.as_ref() else { return };
        for slot in pass.writable().iter() {
            if let Some(member) = pass.table().member(slot) {
                launcher.flush(slot, &member.device);
            }
        }
    });
}

/// Keeps a bio until an op comes back. It begins again then, as if it had not been let in yet.
fn wait(pass: ArrayPass, bio: UserBio) {
    {
        let mut waiting = pass.waiting.lock();
        waiting.at_gate.push(bio);
        pass.flushes.is_wanted.store(true, Ordering::SeqCst);
    }
    // Whoever gives one back after this sees the flag.
    if pass.flushes.has_some() {
        Entrance::kick(pass);
    }
}

/// The op is through: it goes back, and lets in who waits for one. Any context.
fn retire(mut op: Pin<KBox<FlushOp>>) {
    let Some(pass) = op.as_mut().project().pass.take() else {
        return;
    };
    pass.flushes.put(op);
    let is_wanted = &pass.flushes.is_wanted;
    if is_wanted.load(Ordering::SeqCst) && is_wanted.swap(false, Ordering::SeqCst) {
        Entrance::kick(pass);
    }
}

impl BatchOwner for FlushOp {
    fn batch(&self) -> &Batch {
        &self.batch
    }

    fn bios(&self) -> Option<&BatchSet> {
        Some(&self.pass.as_ref()?.batch_bios)
    }

    fn bio_failed(&self, slot: u16) {
        // What a member lost with its cache is not known: it counts for nothing any more. Not only when the others are back:
        // it may tell of that once, and who flushes it next does not hear of it.
        if let Some(pass) = self.pass.as_ref() {
            Array::member_failed(pass, slot, EventKind::WriteError, None);
        }
    }

    fn batch_done(mut this: Pin<KBox<Self>>) {
        let failed = Mask(this.batch.failed());
        let number = this.number;
        let fields = this.as_mut().project();
        let Some(pass) = fields.pass.as_ref() else {
            return;
        };
        pass.flush_ended(number, failed);
        // What members that are gone had in their caches may have been lost with them.
        let broken = pass.is_broken();
        let cache_lost = pass.cache_lost.swap(false, Ordering::AcqRel);
        let lost = broken
            || cache_lost
            || !failed.is_empty()
                && (!pass.is_redundant() || !failed.intersect(pass.writable()).is_empty());
        let unrecorded = !pass.unrecorded().is_empty();
        let is_empty = fields.bio.as_ref().is_none_or(|bio| bio.sectors() == 0);
        let status = match (lost, is_empty && !unrecorded) {
            (true, _) => Status::IO_ERROR,
            (false, true) => Status::OK,
            (false, false) => {
                // It takes a carrier.
                let pass = pass.again();
                return pass.arrivals.enqueue(this);
            }
        };
        if let Some(bio) = fields.bio.take() {
            bio.end(status);
        }
        retire(this);
    }
}

impl WorkItem for FlushOp {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        let fields = this.as_mut().project();
        let pass = fields.pass.as_ref().map(|pass| pass.again());
        let (Some(pass), Some(bio)) = (pass, fields.bio.take()) else {
            return;
        };
        // Before it waits for a carrier.
        retire(this);
        if bio.sectors() == 0 {
            // Ended as a write is: once every failure that it may hinge on is recorded.
            return drop(IoRef::<Array>::begin_without_piece(bio, pass));
        }
        submit::after_preflush(pass, bio);
    }
}
