// SPDX-License-Identifier: GPL-2.0

//! Sends large writes that go around the lanes, of mirrors and of levels without redundancy, to their members from another CPU.
//!
//! Worth it where the member itself copies what it is sent, before it comes back (a disk in memory): who writes has enough to
//! do with the pages of the next write. Disks that only take note of a request are sent to at once.

use super::{write, Array, ArrayPass};
use crate::block::bio::ReadyPieces;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use kernel::workqueue::{impl_has_work, Work, WorkItem};

/// With so much on its way the sender is no faster than whoever writes, who then sends it: 4 MiB.
const BACKLOG_SECTORS: u32 = 8192;

/// What is to be sent. Its lock is a leaf, taken in any context.
#[pin_data]
pub(super) struct Sender {
    #[pin]
    work: Work<Sender>,
    /// The array, while there is something to send, and that.
    #[pin]
    pieces: SpinLockIrq<(Option<ArrayPass>, ReadyPieces<Array>)>,
    /// Of what is not sent yet.
    sectors: AtomicU32,
}

impl_has_work! {
    impl HasWork<Self> for Sender { self.work }
}

impl Sender {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- kernel::new_work!("emd_sender"),
                pieces <- kernel::new_spinlock_irq!((None, ReadyPieces::new()), "emd_sender"),
                sectors: AtomicU32::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether it is worth it to have more sent.
    pub(super) fn has_room(&self) -> bool {
        self.sectors.load(Ordering::Relaxed) < BACKLOG_SECTORS
    }

    /// Has `pieces` sent, of so many sectors in all.
    pub(super) fn send(pass: &ArrayPass, pieces: ReadyPieces<Array>, sectors: u32) {
        let sender = pass.sender.clone();
        sender.sectors.fetch_add(sectors, Ordering::Relaxed);
        let old = {
            let mut waiting = sender.pieces.lock();
            waiting.1.append(pieces);
            waiting.0.replace(pass.again())
        };
        // When it is queued already, it will find them.
        let _ = pass.spread.queue().enqueue(sender);
        drop(old);
    }
}

impl WorkItem for Sender {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let (pass, mut pieces) = {
            let mut waiting = this.pieces.lock();
            (waiting.0.take(), waiting.1.take())
        };
        let Some(pass) = pass else {
            return;
        };
        while let Some(piece) = pieces.pop() {
            let sectors = piece.info().sectors;
            write::send(&pass, piece);
            this.sectors.fetch_sub(sectors, Ordering::Relaxed);
        }
    }
}
