// SPDX-License-Identifier: GPL-2.0

//! Flushes: every member's cache, then whatever the bio wants besides.

use super::{submit, Array, ArrayPass};
use crate::block::batch::{launch, Batch, BatchOwner, BatchSet};
use crate::block::bio::{IoRef, Status, UserBio};
use crate::block::noio::NoIo;
use crate::personalities::Mask;
use crate::uapi::event::EventKind;
use kernel::prelude::*;
use kernel::workqueue::{impl_has_work, Work, WorkItem};

/// A flush at work.
#[pin_data]
pub(super) struct FlushOp {
    #[pin]
    work: Work<FlushOp>,
    batch: Batch,
    pass: ArrayPass,
    bio: Option<UserBio>,
    /// Its number, for the write-hole log.
    number: u64,
}

impl_has_work! {
    impl HasWork<Self> for FlushOp { self.work }
}

/// Flushes all members; then goes on with `bio` (a write), or ends it.
pub(super) fn start(mut pass: ArrayPass, bio: UserBio) {
    // What a member has lost with its cache is known before anything is called clean.
    pass.count_as_writer();
    let noio = NoIo::enter();
    let op = KBox::pin_init(
        pin_init!(FlushOp {
            work <- kernel::new_work!("emd_flush"),
            batch: Batch::new(),
            pass,
            bio: None,
            number: 0,
        }),
        GFP_KERNEL,
    );
    drop(noio);
    let Ok(mut op) = op else {
        return bio.end(Status(9)); // BLK_STS_RESOURCE
    };
    let number = op.pass.flush_begins();
    let fields = op.as_mut().project();
    *fields.bio = Some(bio);
    *fields.number = number;
    launch(op, |op, launcher| {
        for slot in op.pass.writable().iter() {
            if let Some(member) = op.pass.table().member(slot) {
                launcher.flush(slot, &member.device);
            }
        }
    });
}

impl BatchOwner for FlushOp {
    fn batch(&self) -> &Batch {
        &self.batch
    }

    fn bios(&self) -> Option<&BatchSet> {
        Some(&self.pass.batch_bios)
    }

    fn batch_done(mut this: Pin<KBox<Self>>) {
        let failed = Mask(this.batch.failed());
        for slot in failed.iter() {
            // What a member lost with its cache is not known: it counts for nothing any more.
            Array::member_failed(&this.pass, slot, EventKind::WriteError, None);
        }
        this.pass.flush_ended(this.number, failed);
        // What members that are gone had in their caches may have been lost with them.
        let broken = this.pass.broken.load(core::sync::atomic::Ordering::Acquire);
        let lost = broken
            || !failed.is_empty()
                && (!this.pass.is_redundant()
                    || !failed.intersect(this.pass.writable()).is_empty());
        let unrecorded = this
            .pass
            .unrecorded
            .load(core::sync::atomic::Ordering::Acquire)
            != 0;
        let is_empty = this.bio.as_ref().is_none_or(|bio| bio.sectors() == 0);
        if lost {
            if let Some(bio) = this.as_mut().project().bio.take() {
                bio.end(Status::IO_ERROR);
            }
        } else if is_empty && !unrecorded {
            if let Some(bio) = this.as_mut().project().bio.take() {
                bio.end(Status::OK);
            }
        } else {
            // It takes a carrier.
            let pass = this.pass.again();
            pass.arrivals.enqueue(this);
        }
    }
}

impl WorkItem for FlushOp {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        let Some(bio) = this.as_mut().project().bio.take() else {
            return;
        };
        let pass = this.pass.again();
        drop(this);
        if bio.sectors() == 0 {
            // Ended as a write is: once every failure that it may hinge on is recorded.
            return drop(IoRef::<Array>::begin_without_piece(bio, pass));
        }
        submit::after_preflush(pass, bio);
    }
}
