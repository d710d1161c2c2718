// SPDX-License-Identifier: GPL-2.0

//! A batch: several bios on own buffers, sent for one owner, who is told when the last is back.

use super::bdev::BlockDevice;
use super::bio::{BioSet, Status};
use super::pages::Pages;
use super::raw::{Opf, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES, REQ_PREFLUSH, REQ_SYNC};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};
use kernel::bindings;
use kernel::prelude::*;

/// The state of a batch, embedded in its owner.
pub struct Batch {
    pending: AtomicU32,
    failed: AtomicU64,
    offline: AtomicU64,
    status: AtomicU8,
}

impl Batch {
    /// Idle.
    pub const fn new() -> Self {
        Self {
            pending: AtomicU32::new(0),
            failed: AtomicU64::new(0),
            offline: AtomicU64::new(0),
            status: AtomicU8::new(0),
        }
    }

    /// Slots whose bio failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Slots whose device is gone.
    pub fn offline(&self) -> u64 {
        self.offline.load(Ordering::Relaxed)
    }

    fn record(&self, slot: u16, status: Status) {
        if status.is_ok() {
            return;
        }
        let bit = 1u64.checked_shl(slot.into()).unwrap_or(0);
        self.failed.fetch_or(bit, Ordering::Relaxed);
        if status.is_offline() {
            self.offline.fetch_or(bit, Ordering::Relaxed);
        }
        self.status.store(status.0, Ordering::Relaxed);
    }
}

/// An object that sends batches.
pub trait BatchOwner: Send + Sized + 'static {
    /// The batch, part of the object. (Asked for once a launch.)
    fn batch(&self) -> &Batch;

    /// Where its bios come from; without it a batch is empty.
    fn bios(&self) -> Option<&BatchSet>;

    /// The bio of a slot is back with an error, others may be away. Any context, possibly interrupt.
    fn bio_failed(&self, slot: u16) {
        let _ = slot;
    }

    /// All bios of the batch are back. Any context, possibly interrupt, possibly within
    /// [`launch`] itself.
    fn batch_done(this: Pin<KBox<Self>>);
}

/// The room in front of each bio of a batch.
pub struct BatchFront {
    owner: *const c_void,
    batch: *const Batch,
    slot: u16,
}

/// The bios of batches.
pub type BatchSet = BioSet<BatchFront>;

/// Part of a buffer.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The buffer.
    pub pages: &'a Pages,
    /// Where the part starts.
    pub offset_bytes: usize,
    /// Its length.
    pub len_bytes: usize,
}

/// Adds bios to a batch that is being launched.
pub struct Launcher<'a, T: BatchOwner> {
    set: &'a BatchSet,
    batch: &'a Batch,
    owner: *const T,
}

impl<T: BatchOwner> Launcher<'_, T> {
    /// Sends a bio for `slot`: `len_bytes` from the start of `pages`, to or from `sector`.
    ///
    /// The buffer belongs to the batch's owner and must not be touched until the batch is done.
    pub fn send(
        &mut self,
        slot: u16,
        device: &BlockDevice,
        opf: Opf,
        sector: u64,
        pages: &Pages,
        len_bytes: usize,
    ) {
        let len_bytes = len_bytes.min(pages.len());
        let bio = self.set.alloc(1, opf);
        // SAFETY: The bio is fresh, with one segment of room; the pages belong to the owner, which
        // lives until the batch is done.
        unsafe { bindings::__bio_add_page(bio.as_ptr(), pages.page(), len_bytes as c_uint, 0) };
        self.submit(bio.as_ptr(), slot, device, sector);
    }

    /// Sends a write for `slot` of some parts of buffers, one behind the other, to `sector`. Empty parts are
    /// left out. As [`Launcher::send`] otherwise; a slot may have several.
    pub fn send_parts(
        &mut self,
        slot: u16,
        device: &BlockDevice,
        opf: Opf,
        sector: u64,
        parts: &[Part<'_>],
    ) {
        let bio = self.set.alloc(parts.len() as u16, opf);
        for part in parts {
            let room = part.pages.len().saturating_sub(part.offset_bytes);
            let len_bytes = part.len_bytes.min(room);
            if len_bytes == 0 {
                continue;
            }
            // SAFETY: The bio is fresh, with room for a segment a part; the pages are contiguous, the part lies
            // within them, and they belong to the owner, which lives until the batch is done.
            unsafe {
                bindings::__bio_add_page(
                    bio.as_ptr(),
                    part.pages.page(),
                    len_bytes as c_uint,
                    part.offset_bytes as c_uint,
                );
            }
        }
        self.submit(bio.as_ptr(), slot, device, sector);
    }

    /// Has `slot` fill `sectors` from `sector` on with zeroes by itself; with `REQ_NOUNMAP` in `flags` it keeps the room
    /// for them. Disks may refuse that, whatever they say.
    pub fn zero(&mut self, slot: u16, device: &BlockDevice, sector: u64, sectors: u32, flags: Opf) {
        let bio = self.set.alloc(0, REQ_OP_WRITE_ZEROES | REQ_SYNC | flags);
        // SAFETY: The bio is fresh; this operation has a length and no data.
        unsafe { (*bio.as_ptr()).bi_iter.bi_size = sectors.saturating_mul(512) };
        self.submit(bio.as_ptr(), slot, device, sector);
    }

    /// Counts `slot` as failed without sending anything.
    pub fn fail(&mut self, slot: u16) {
        self.batch.record(slot, Status::IO_ERROR);
    }

    /// Sends an empty flush for `slot`.
    pub fn flush(&mut self, slot: u16, device: &BlockDevice) {
        let bio = self.set.alloc(0, REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC);
        self.submit(bio.as_ptr(), slot, device, 0);
    }

    fn submit(&mut self, bio: *mut bindings::bio, slot: u16, device: &BlockDevice, sector: u64) {
        self.batch.pending.fetch_add(1, Ordering::Relaxed);
        // SAFETY: The bio came from a `BatchSet` and is unsent.
        unsafe {
            BatchSet::front(bio).write(BatchFront {
                owner: self.owner.cast(),
                batch: self.batch,
                slot,
            });
            (*bio).bi_end_io = Some(ended::<T>);
            device.address(bio, sector);
            bindings::submit_bio_noacct(bio);
        }
    }
}

/// Launches a batch: `fill` sends bios; when the last of them is back (maybe before this returns),
/// `T::batch_done` gets the owner. An empty batch is done at once.
pub fn launch<T: BatchOwner>(owner: Pin<KBox<T>>, fill: impl FnOnce(&T, &mut Launcher<'_, T>)) {
    // SAFETY: The pointer is only used shared, and turned back into the pinned box by `put`.
    let owner = KBox::into_raw(unsafe { Pin::into_inner_unchecked(owner) });
    // SAFETY: `owner` is live until the count that we set here is given up below.
    let this = unsafe { &*owner };
    let batch = this.batch();
    batch.failed.store(0, Ordering::Relaxed);
    batch.offline.store(0, Ordering::Relaxed);
    batch.status.store(0, Ordering::Relaxed);
    batch.pending.store(1, Ordering::Relaxed);
    if let Some(set) = this.bios() {
        fill(this, &mut Launcher { set, batch, owner });
    }
    // SAFETY: Gives up the count set above.
    unsafe { put(owner, batch) };
}

/// Gives up one count; the last one hands the owner to `batch_done`.
///
/// # Safety
///
/// `owner` came from `launch`, `batch` is part of it, and the caller owns one count.
unsafe fn put<T: BatchOwner>(owner: *mut T, batch: *const Batch) {
    // SAFETY: The owner, and the batch with it, lives while the caller's count does.
    let last = unsafe { (*batch).pending.fetch_sub(1, Ordering::AcqRel) } == 1;
    if last {
        // SAFETY: No count is left, so nobody else uses the pointer; it came from a pinned box.
        let owner = unsafe { Pin::new_unchecked(KBox::from_raw(owner)) };
        T::batch_done(owner);
    }
}

/// # Safety
///
/// Called by the block layer as `bi_end_io` of a bio that `Launcher::submit` prepared.
unsafe extern "C" fn ended<T: BatchOwner>(bio: *mut bindings::bio) {
    // SAFETY: `submit` wrote the front.
    let (owner, batch, slot, status) = unsafe {
        let front = BatchSet::front(bio);
        (
            (*front).owner.cast::<T>(),
            (*front).batch,
            (*front).slot,
            Status((*bio).bi_status),
        )
    };
    // SAFETY: The bio is ours again; the owner lives while this bio's count does.
    unsafe {
        bindings::bio_put(bio);
        (*batch).record(slot, status);
        if !status.is_ok() {
            (*owner).bio_failed(slot);
        }
        put(owner.cast_mut(), batch);
    }
}
