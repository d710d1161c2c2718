// SPDX-License-Identifier: GPL-2.0

//! Users' I/O at work: what is counted and remembered of a bio while its pieces are away, and lists of it.

use super::list::{Linked, RawList};
use super::piece::{DonePiece, Piece};
use super::set::BioSet;
use super::user::{Status, UserBio};
use crate::block::context;
use crate::block::gate::{Behind, Pass};
use crate::block::raw::{self, Opf};
use core::mem::ManuallyDrop;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering};
use kernel::bindings;
use kernel::prelude::*;

/// What an array has to know about its I/O.
pub trait IoOwner: Behind + Sized {
    /// Where its bios come from.
    fn bios(&self) -> &IoSet<Self>;

    /// Where all pieces but first ones come from. Not from the same: those come back only when the whole ends, for which
    /// these may be needed.
    fn further_bios(&self) -> &IoSet<Self>;

    /// What an I/O is to remember of the owner as it is when it begins ([`FinishedIo::epoch`]).
    fn epoch(&self) -> u64 {
        0
    }

    /// An I/O begins, for which `pass` is. Any context.
    fn io_begins(_pass: &Pass<Self>) {}

    /// It ends: the user is about to be told. Any context.
    fn io_ends(_pass: &Pass<Self>) {}

    /// A piece came back. Any context, possibly interrupt. Dropping `piece` ends the interest in it.
    fn piece_done(piece: DonePiece<Self>);

    /// All pieces are back. Any context. The default ends the user's bio.
    fn io_done(io: FinishedIo<Self>) {
        io.end();
    }
}

/// What a piece covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PieceInfo {
    /// The member.
    pub slot: u16,
    /// First sector of the volume.
    pub sector: u64,
    /// Length.
    pub sectors: u32,
    /// First sector on the member (without the member's offset on its disk).
    pub member_sector: u64,
}

/// One user bio at work.
pub(super) struct Io<O: IoOwner> {
    user: NonNull<bindings::bio>,
    pub(super) remaining: AtomicU32,
    failed: AtomicU64,
    good: AtomicU32,
    status: AtomicU8,
    counted: bool,
    start: c_ulong,
    pass: ManuallyDrop<Pass<O>>,
    next: *mut Front<O>,
    cursor: AtomicU64,
    redone: AtomicBool,
    epoch: u64,
}

/// The room in front of each bio: an `Io` where the bio is a carrier, and a piece where it is one.
/// (A carrier may be its own first piece.)
pub struct Front<O: IoOwner> {
    pub(super) io: Io<O>,
    pub(super) piece: PieceFront<O>,
}

/// What a piece knows: whose it is, and what it covers.
pub(super) struct PieceFront<O: IoOwner> {
    pub(super) carrier: *mut Front<O>,
    pub(super) info: PieceInfo,
}

// SAFETY: `next` belongs to whoever has the I/O in a list, and it is in one at a time.
unsafe impl<O: IoOwner> Linked for Front<O> {
    unsafe fn next(this: *mut Self) -> *mut *mut Self {
        // SAFETY: By the caller's promise; the front is a carrier's.
        unsafe { &raw mut (*this).io.next }
    }
}

/// The bios of an array's users.
pub type IoSet<O> = BioSet<Front<O>>;

/// A counted reference to a user bio at work.
///
/// # Invariants
///
/// `carrier` is the front of a live carrier bio with an initialised `io`, and this reference is
/// counted in `io.remaining`.
pub struct IoRef<O: IoOwner> {
    pub(super) carrier: NonNull<Front<O>>,
}

// SAFETY: All shared state of an `Io` is atomic; the rest does not change while references exist.
unsafe impl<O: IoOwner> Send for IoRef<O> {}
// SAFETY: As above.
unsafe impl<O: IoOwner> Sync for IoRef<O> {}

impl<O: IoOwner> IoRef<O> {
    /// Starts work on `user`, with accounting. The first result holds the work open; the second is
    /// its first piece, not sent yet. Fails (and ends the bio) only when a clone cannot be had.
    pub fn begin(user: UserBio, pass: Pass<O>) -> Option<(Self, Piece<O>)> {
        let Some(bio) = pass.bios().clone_of(user.0) else {
            user.end(Status(9)); // BLK_STS_RESOURCE
            return None;
        };
        let io = Self::adopt(bio, user, pass);
        Some((io, Piece::new(bio, true)))
    }

    /// Starts work on `user` without a piece: for work on copies of its data.
    pub fn begin_without_piece(user: UserBio, pass: Pass<O>) -> Self {
        let bio = pass.bios().alloc(0, 0);
        Self::adopt(bio, user, pass)
    }

    fn adopt(carrier: NonNull<bindings::bio>, user: UserBio, pass: Pass<O>) -> Self {
        let (op, sectors) = (user.op(), user.sectors());
        let bio = user.0;
        // SAFETY: The user's bio is live and addressed to one of our own disks.
        let bdev = unsafe { (*bio.as_ptr()).bi_bdev };
        // SAFETY: `bdev` is live while bios are addressed to it.
        let features = unsafe { (*(*(*bdev).bd_disk).queue).limits.features };
        let counted = sectors > 0 && features & raw::BLK_FEAT_IO_STAT != 0;
        let mut start = 0;
        if counted {
            // SAFETY: `bdev` is live; `op` is the bio's own.
            start = unsafe { bindings::bdev_start_io_acct(bdev, op, context::jiffies()) };
        }
        // SAFETY: `carrier` came from an `IoSet<O>`, so its front is ours to initialise.
        let front = unsafe { IoSet::<O>::front(carrier.as_ptr()) };
        let epoch = pass.epoch();
        O::io_begins(&pass);
        // SAFETY: As above.
        unsafe {
            addr_of_mut!((*front).io).write(Io {
                user: bio,
                remaining: AtomicU32::new(1),
                failed: AtomicU64::new(0),
                good: AtomicU32::new(0),
                status: AtomicU8::new(0),
                counted,
                start,
                pass: ManuallyDrop::new(pass),
                next: core::ptr::null_mut(),
                cursor: AtomicU64::new(0),
                redone: AtomicBool::new(false),
                epoch,
            });
        }
        // INVARIANT: Initialised above with one reference.
        Self {
            // SAFETY: `front` points into an allocation.
            carrier: unsafe { NonNull::new_unchecked(front) },
        }
    }

    fn io(&self) -> &Io<O> {
        // SAFETY: By the type invariant.
        unsafe { &self.carrier.as_ref().io }
    }

    /// The owner.
    pub fn owner(&self) -> &Pass<O> {
        &self.io().pass
    }

    /// Another piece of the same bio. May wait until others come back, so all there are have to be sent.
    pub fn piece(&self) -> Option<Piece<O>> {
        let bio = self.owner().further_bios().clone_of(self.io().user)?;
        Some(Piece::new(bio, false))
    }

    /// Another piece of the same bio, if there is memory right now: for who holds pieces that are not sent yet.
    pub fn piece_now(&self) -> Option<Piece<O>> {
        let bio = self.owner().further_bios().clone_of_now(self.io().user)?;
        Some(Piece::new(bio, false))
    }

    /// Records a failure of the whole.
    pub fn fail(&self, status: Status) {
        let _ =
            self.io()
                .status
                .compare_exchange(0, status.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Records that the piece on `slot` failed.
    pub fn mark_failed(&self, slot: u16) {
        self.io().failed.fetch_or(
            1u64.checked_shl(slot.into()).unwrap_or(0),
            Ordering::Relaxed,
        );
    }

    /// Records that a piece worked.
    pub fn mark_good(&self) {
        self.io().good.fetch_add(1, Ordering::Relaxed);
    }

    /// Where work on it goes on; what it means is the owner's business.
    pub fn cursor(&self) -> u64 {
        self.io().cursor.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn set_cursor(&self, cursor: u64) {
        self.io().cursor.store(cursor, Ordering::Relaxed);
    }

    /// Whether it is to be done anew, in another way. Once.
    pub fn begin_anew(&self) -> bool {
        !self.io().redone.swap(true, Ordering::Relaxed)
    }

    /// Length in sectors of the user's bio.
    pub fn sectors(&self) -> u32 {
        // SAFETY: The user's bio lives until the last reference is dropped.
        unsafe { (*self.io().user.as_ptr()).bi_iter.bi_size >> 9 }
    }

    /// Operation and flags of the user's bio.
    pub fn opf(&self) -> Opf {
        // SAFETY: The user's bio lives until the last reference is dropped.
        unsafe { (*self.io().user.as_ptr()).bi_opf }
    }

    /// Operation of the user's bio.
    pub fn op(&self) -> Opf {
        self.opf() & raw::REQ_OP_MASK
    }

    /// First sector of the user's bio.
    pub fn sector(&self) -> u64 {
        // SAFETY: As above; nobody advances it.
        unsafe { (*self.io().user.as_ptr()).bi_iter.bi_sector }
    }

    /// Copies `to.len()` bytes from the user's data, from `offset_bytes` on. Task context.
    pub fn copy_out(&self, offset_bytes: usize, to: &mut [u8]) {
        let mut done = 0;
        self.segments(offset_bytes, to.len(), |address, len| {
            if let Some(room) = to.get_mut(done..done + len) {
                // SAFETY: `address` is valid for `len` bytes of the user's pages; they may change
                // under way, which is why they are copied before anything depends on them.
                unsafe { crate::block::parity::copy_raw(address, room.as_mut_ptr(), len) };
            }
            done += len;
        });
    }

    /// Copies `from` into the user's data, from `offset_bytes` on. Task context.
    pub fn copy_in(&self, offset_bytes: usize, from: &[u8]) {
        let mut done = 0;
        self.segments(offset_bytes, from.len(), |address, len| {
            if let Some(bytes) = from.get(done..done + len) {
                // SAFETY: `address` is valid for `len` bytes; a read bio's pages are ours to fill.
                unsafe { crate::block::parity::copy_raw(bytes.as_ptr(), address, len) };
            }
            done += len;
        });
    }

    /// Calls `each` with address and length of every stretch of the user's data in the range.
    fn segments(
        &self,
        offset_bytes: usize,
        len_bytes: usize,
        mut each: impl FnMut(*mut u8, usize),
    ) {
        let bio = self.io().user.as_ptr();
        // SAFETY: The user's bio lives; its iterator is at the start of the data.
        let (mut vec, mut within, size) = unsafe {
            let iter = &(*bio).bi_iter;
            (
                (*bio).bi_io_vec.add(iter.bi_idx as usize),
                iter.bi_offset as usize,
                iter.bi_size as usize,
            )
        };
        let mut skip = offset_bytes;
        let mut left = len_bytes.min(size.saturating_sub(offset_bytes));
        while left > 0 {
            // SAFETY: `left` bytes of the bio's `bi_size` are still ahead, so `vec` is within its
            // vector.
            let (page, len, offset) = unsafe {
                (
                    (*vec).bv_page,
                    (*vec).bv_len as usize - within,
                    (*vec).bv_offset as usize + within,
                )
            };
            if skip >= len {
                skip -= len;
            } else {
                let bytes = (len - skip).min(left);
                // SAFETY: A bio's segment is physically contiguous, and without highmem so is its
                // mapping; the page is held by the bio.
                let address = unsafe {
                    bindings::kmap_local_page(page)
                        .cast::<u8>()
                        .add(offset + skip)
                };
                each(address, bytes);
                left -= bytes;
                skip = 0;
            }
            within = 0;
            vec = vec.wrapping_add(1);
        }
    }
}

impl<O: IoOwner> Clone for IoRef<O> {
    fn clone(&self) -> Self {
        self.io().remaining.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: Counted just now.
        Self {
            carrier: self.carrier,
        }
    }
}

impl<O: IoOwner> Drop for IoRef<O> {
    fn drop(&mut self) {
        if self.io().remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            O::io_done(FinishedIo {
                carrier: self.carrier,
            });
        }
    }
}

/// A user bio whose pieces are all back. Has to be ended.
///
/// # Invariants
///
/// The only reference to its `Io`.
pub struct FinishedIo<O: IoOwner> {
    carrier: NonNull<Front<O>>,
}

// SAFETY: As for `IoRef`.
unsafe impl<O: IoOwner> Send for FinishedIo<O> {}

impl<O: IoOwner> FinishedIo<O> {
    fn io(&self) -> &Io<O> {
        // SAFETY: By the type invariant.
        unsafe { &self.carrier.as_ref().io }
    }

    /// The owner.
    pub fn owner(&self) -> &Pass<O> {
        &self.io().pass
    }

    /// Whether the user's bio writes (or changes data otherwise).
    pub fn is_write(&self) -> bool {
        // SAFETY: The user's bio lives until it is ended.
        unsafe { (*self.io().user.as_ptr()).bi_opf & 1 != 0 }
    }

    /// Members on which a piece failed.
    pub fn failed(&self) -> u64 {
        self.io().failed.load(Ordering::Relaxed)
    }

    /// Number of pieces that worked.
    pub fn good(&self) -> u32 {
        self.io().good.load(Ordering::Relaxed)
    }

    /// The owner's [`IoOwner::epoch`] when it began.
    pub fn epoch(&self) -> u64 {
        self.io().epoch
    }

    /// Changes the outcome.
    pub fn set_status(&self, status: Status) {
        self.io().status.store(status.0, Ordering::Relaxed);
    }

    /// Ends the user's bio with the outcome recorded.
    pub fn end(self) {
        let front = self.carrier.as_ptr();
        // SAFETY: This was the only reference; the `Io` is read out and its carrier freed before the
        // pass (which keeps the bio set alive) is dropped.
        unsafe {
            let io = core::ptr::read(addr_of_mut!((*front).io));
            let carrier = front
                .cast::<u8>()
                .add(IoSet::<O>::PAD)
                .cast::<bindings::bio>();
            bindings::bio_put(carrier);
            let user = io.user.as_ptr();
            if io.counted {
                let op = (*user).bi_opf & raw::REQ_OP_MASK;
                let sectors = (*user).bi_iter.bi_size >> 9;
                bindings::bdev_end_io_acct((*user).bi_bdev, op, sectors, io.start);
            }
            O::io_ends(&io.pass);
            super::user::end(user, Status(io.status.load(Ordering::Relaxed)));
            drop(ManuallyDrop::into_inner(io.pass));
        }
    }
}

/// Finished I/O waiting to be ended, first in first out.
pub struct FinishedList<O: IoOwner>(RawList<Front<O>>);

impl<O: IoOwner> FinishedList<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self(RawList::new())
    }

    /// Adds.
    pub fn push(&mut self, io: FinishedIo<O>) {
        self.0.push(io.carrier);
    }

    /// Takes everything.
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<FinishedIo<O>> {
        // INVARIANT: It was pushed as one.
        self.0.pop().map(|carrier| FinishedIo { carrier })
    }
}

impl<O: IoOwner> Drop for FinishedList<O> {
    fn drop(&mut self) {
        while let Some(io) = self.pop() {
            io.set_status(Status::IO_ERROR);
            io.end();
        }
    }
}

/// User bios whose work cannot go on just now, first in first out. It owns a count of each.
pub struct StalledList<O: IoOwner>(RawList<Front<O>>);

impl<O: IoOwner> StalledList<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self(RawList::new())
    }

    /// Adds a reference. A bio is in at most one list at a time: callers stall only the reference
    /// that hands out its work.
    pub fn push(&mut self, io: IoRef<O>) {
        let carrier = io.carrier;
        core::mem::forget(io);
        self.0.push(carrier);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<IoRef<O>> {
        // INVARIANT: The count that `push` kept.
        self.0.pop().map(|carrier| IoRef { carrier })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<O: IoOwner> Drop for StalledList<O> {
    fn drop(&mut self) {
        while let Some(io) = self.pop() {
            io.fail(Status::IO_ERROR);
        }
    }
}
