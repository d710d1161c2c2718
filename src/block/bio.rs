// SPDX-License-Identifier: GPL-2.0

//! Bios: those that users hand to an array, and the clones that carry their pieces to members.
//!
//! ```text
//! submit_bio → UserBio ── IoRef::begin ──► Io (counted by IoRefs; lives in a carrier bio)
//!                                            │ pieces: clones of the user's bio, one a member
//!                                            ▼
//!                        each piece's end → IoOwner::piece_done → drop of its IoRef
//!                        last IoRef dropped → IoOwner::io_done(FinishedIo) → FinishedIo::end
//! ```
//!
//! C header: `include/linux/bio.h`.

use super::bdev::BlockDevice;
use super::gate::{Behind, Pass};
use super::raw::{self, Opf};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};
use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// Outcome of an I/O, as the block layer's `blk_status_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub u8);

impl Status {
    /// It worked.
    pub const OK: Status = Status(0);
    /// It did not.
    pub const IO_ERROR: Status = Status(raw::BLK_STS_IOERR);
    /// The operation is not supported.
    pub const NOT_SUPPORTED: Status = Status(raw::BLK_STS_NOTSUPP);
    /// Would have to wait.
    pub const AGAIN: Status = Status(raw::BLK_STS_AGAIN);

    /// Whether it worked.
    pub fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether the device itself is gone.
    pub fn is_offline(self) -> bool {
        self.0 == raw::BLK_STS_OFFLINE
    }
}

/// A bio handed to an array. Owned; it has to be ended, once.
pub struct UserBio(NonNull<bindings::bio>);

// SAFETY: A bio in the hands of a driver belongs to nobody else and is tied to no task.
unsafe impl Send for UserBio {}

impl UserBio {
    /// Takes over a bio.
    ///
    /// # Safety
    ///
    /// `bio` was handed to the driver's `submit_bio`, and nobody else ends it.
    pub unsafe fn from_raw(bio: *mut bindings::bio) -> Option<Self> {
        NonNull::new(bio).map(Self)
    }

    fn bio(&self) -> &bindings::bio {
        // SAFETY: The bio is ours until we end it.
        unsafe { self.0.as_ref() }
    }

    /// Operation and flags.
    pub fn opf(&self) -> Opf {
        self.bio().bi_opf
    }

    /// Operation.
    pub fn op(&self) -> Opf {
        self.opf() & raw::REQ_OP_MASK
    }

    /// Length in sectors.
    pub fn sectors(&self) -> u32 {
        self.bio().bi_iter.bi_size >> 9
    }

    /// First sector of the volume.
    pub fn sector(&self) -> u64 {
        self.bio().bi_iter.bi_sector
    }

    /// Ends it without accounting.
    pub fn end(self, status: Status) {
        let bio = self.0.as_ptr();
        // SAFETY: The bio is ours, and `self` is gone afterwards.
        unsafe {
            (*bio).bi_status = status.0;
            bindings::bio_endio(bio);
        }
    }

    /// Hands it to the block layer again (to the device it is addressed to).
    pub fn resubmit(self) {
        // SAFETY: The bio is ours and complete; the block layer takes it over.
        unsafe { bindings::submit_bio_noacct(self.0.as_ptr()) };
    }
}

/// User bios waiting, first in first out, linked through `bi_next`.
///
/// # Invariants
///
/// From `head` over `bi_next` to `tail` all bios are owned by the list.
pub struct BioList {
    head: *mut bindings::bio,
    tail: *mut bindings::bio,
}

// SAFETY: It owns its bios.
unsafe impl Send for BioList {}

impl BioList {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
            tail: core::ptr::null_mut(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Appends.
    pub fn push(&mut self, user: UserBio) {
        let bio = user.0.as_ptr();
        // SAFETY: `bio` and, if there is one, `tail` are ours; `bi_next` is free for the owner.
        unsafe {
            (*bio).bi_next = core::ptr::null_mut();
            if self.tail.is_null() {
                self.head = bio;
            } else {
                (*self.tail).bi_next = bio;
            }
        }
        self.tail = bio;
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<UserBio> {
        let bio = NonNull::new(self.head)?;
        // SAFETY: By the invariant it is ours and its `bi_next` is the rest of the list.
        unsafe {
            self.head = (*bio.as_ptr()).bi_next;
            (*bio.as_ptr()).bi_next = core::ptr::null_mut();
        }
        if self.head.is_null() {
            self.tail = core::ptr::null_mut();
        }
        Some(UserBio(bio))
    }

    /// Takes everything.
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

impl Drop for BioList {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            bio.end(Status::IO_ERROR);
        }
    }
}

/// A pool of bios (`struct bio_set`), each with room for an `F` in front.
///
/// # Invariants
///
/// The set is initialised with a front pad of [`BioSet::PAD`].
#[pin_data(PinnedDrop)]
pub struct BioSet<F> {
    #[pin]
    set: Opaque<bindings::bio_set>,
    _front: PhantomData<F>,
}

// SAFETY: A bio_set may be used from any context.
unsafe impl<F> Send for BioSet<F> {}
// SAFETY: As above.
unsafe impl<F> Sync for BioSet<F> {}

impl<F> BioSet<F> {
    /// Bytes in front of each bio: enough for `F`, keeping the bio aligned.
    const PAD: usize = size_of::<F>().next_multiple_of(64);

    /// A pool that always has `reserve` bios. With a rescuer, since pieces are allocated inside
    /// `submit_bio` while earlier ones wait on `current->bio_list`.
    pub fn new(reserve: u32) -> impl PinInit<Self, Error> {
        const { assert!(align_of::<F>() <= 64) };
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(move |set: *mut bindings::bio_set| {
                // SAFETY: `set` is valid for writes; all-zero is how C callers start.
                unsafe { set.write_bytes(0, 1) };
                let flags = bindings::BIOSET_NEED_BVECS | bindings::BIOSET_NEED_RESCUER;
                // SAFETY: `set` is zeroed memory of the right type.
                kernel::error::to_result(unsafe {
                    bindings::bioset_init(set, reserve, Self::PAD as c_uint, flags as c_int)
                })
            }),
            _front: PhantomData,
        })
    }

    /// A bio with room for `vecs` segments. May sleep; does not fail.
    pub(super) fn alloc(&self, vecs: u16, opf: Opf) -> NonNull<bindings::bio> {
        // SAFETY: The set is initialised; a null device is allowed.
        let bio = unsafe {
            bindings::bio_alloc_bioset(
                core::ptr::null_mut(),
                vecs,
                opf,
                raw::GFP_NOIO,
                self.set.get(),
            )
        };
        // SAFETY: With a mask that allows reclaim and a mempool behind it, this does not return null.
        unsafe { NonNull::new_unchecked(bio) }
    }

    /// A clone of `source`, sharing its pages. May sleep; fails only when the clone's extras
    /// (integrity, encryption) cannot be had.
    fn clone_of(&self, source: NonNull<bindings::bio>) -> Option<NonNull<bindings::bio>> {
        // SAFETY: `source` is a live bio; the set is initialised.
        NonNull::new(unsafe {
            bindings::bio_alloc_clone(
                (*source.as_ptr()).bi_bdev,
                source.as_ptr(),
                raw::GFP_NOIO,
                self.set.get(),
            )
        })
    }

    /// Where the front of `bio` is.
    ///
    /// # Safety
    ///
    /// `bio` came from a `BioSet<F>`.
    pub(super) unsafe fn front(bio: *mut bindings::bio) -> *mut F {
        // SAFETY: `PAD` bytes in front of the bio belong to it (invariant of the set).
        unsafe { bio.cast::<u8>().sub(Self::PAD).cast() }
    }
}

#[pinned_drop]
impl<F> PinnedDrop for BioSet<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised in `new`; all bios are back, since each piece of work holds a pass to
        // the array that owns the set.
        unsafe { bindings::bioset_exit(self.set.get()) };
    }
}

/// What an array has to know about its I/O.
pub trait IoOwner: Behind + Sized {
    /// Where its bios come from.
    fn bios(&self) -> &IoSet<Self>;

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
struct Io<O: IoOwner> {
    user: NonNull<bindings::bio>,
    remaining: AtomicU32,
    failed: AtomicU64,
    good: AtomicU32,
    status: AtomicU8,
    counted: bool,
    start: c_ulong,
    pass: ManuallyDrop<Pass<O>>,
    next: *mut Front<O>,
    cursor: AtomicU64,
}

/// The room in front of each bio: an `Io` where the bio is a carrier, and a piece where it is one.
/// (A carrier may be its own first piece.)
pub struct Front<O: IoOwner> {
    io: Io<O>,
    piece: PieceFront<O>,
}

struct PieceFront<O: IoOwner> {
    carrier: *mut Front<O>,
    info: PieceInfo,
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
    carrier: NonNull<Front<O>>,
}

// SAFETY: All shared state of an `Io` is atomic; the rest does not change while references exist.
unsafe impl<O: IoOwner> Send for IoRef<O> {}
// SAFETY: As above.
unsafe impl<O: IoOwner> Sync for IoRef<O> {}

/// A clone of a user bio, not sent yet.
///
/// # Invariants
///
/// `bio` is from the owner's `IoSet`, and unsent. When it is the carrier of its own `Io`, the `Io`
/// frees it; otherwise it is freed with its [`DonePiece`], or here when it is never sent.
pub struct Piece<O: IoOwner> {
    bio: NonNull<bindings::bio>,
    is_carrier: bool,
    _owner: PhantomData<fn() -> O>,
}

impl<O: IoOwner> IoRef<O> {
    /// Starts work on `user`, with accounting. The first result holds the work open; the second is
    /// its first piece, not sent yet. Fails (and ends the bio) only when a clone cannot be had.
    pub fn begin(user: UserBio, pass: Pass<O>) -> Option<(Self, Piece<O>)> {
        let Some(bio) = pass.bios().clone_of(user.0) else {
            user.end(Status(9)); // BLK_STS_RESOURCE
            return None;
        };
        let io = Self::adopt(bio, user, pass);
        Some((
            io,
            Piece {
                bio,
                is_carrier: true,
                _owner: PhantomData,
            },
        ))
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
            start = unsafe { bindings::bdev_start_io_acct(bdev, op, super::context::jiffies()) };
        }
        // SAFETY: `carrier` came from an `IoSet<O>`, so its front is ours to initialise.
        let front = unsafe { IoSet::<O>::front(carrier.as_ptr()) };
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

    /// Another piece of the same bio.
    pub fn piece(&self) -> Option<Piece<O>> {
        Some(Piece {
            bio: self.owner().bios().clone_of(self.io().user)?,
            is_carrier: false,
            _owner: PhantomData,
        })
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
                unsafe { super::parity::copy_raw(address, room.as_mut_ptr(), len) };
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
                unsafe { super::parity::copy_raw(bytes.as_ptr(), address, len) };
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

impl<O: IoOwner> Piece<O> {
    /// Sends the piece: `info.sectors` from `info.sector` of the volume, to `sector` of `device`.
    pub fn send(self, io: IoRef<O>, info: PieceInfo, device: &BlockDevice, sector: u64) {
        self.prepare(io, info).send(device, sector);
    }

    /// Makes the piece ready: `info.sectors` from `info.sector` of the volume.
    pub fn prepare(self, io: IoRef<O>, info: PieceInfo) -> ReadyPiece<O> {
        let bio = self.bio;
        let skip = info.sector.wrapping_sub(io.sector());
        core::mem::forget(self);
        // SAFETY: The bio is ours and unsent; its front belongs to it. The `IoRef` is handed over to
        // the completion as the pointer to its carrier.
        unsafe {
            let front = IoSet::<O>::front(bio.as_ptr());
            addr_of_mut!((*front).piece).write(PieceFront {
                carrier: io.carrier.as_ptr(),
                info,
            });
            core::mem::forget(io);
            if (*bio.as_ptr()).bi_iter.bi_size != 0 {
                bindings::bio_trim(bio.as_ptr(), skip, u64::from(info.sectors));
            }
            (*bio.as_ptr()).bi_end_io = Some(Self::ended);
        }
        // INVARIANT: Prepared just now.
        ReadyPiece {
            bio,
            _owner: PhantomData,
        }
    }

    /// Takes flags off. (The clone's flags are not just the user's: the block layer keeps some of its
    /// own there.)
    pub fn clear_flags(&mut self, flags: Opf) {
        // SAFETY: The bio is ours and unsent.
        unsafe { (*self.bio.as_ptr()).bi_opf &= !flags };
    }

    /// # Safety
    ///
    /// Called by the block layer as `bi_end_io` of a bio that `send` prepared.
    unsafe extern "C" fn ended(bio: *mut bindings::bio) {
        // INVARIANT: `send` wrote the front and handed over one count; the bio is back.
        O::piece_done(DonePiece {
            // SAFETY: The block layer passes no null bio.
            bio: unsafe { NonNull::new_unchecked(bio) },
            _owner: PhantomData,
        });
    }
}

/// A piece that only lacks its device.
///
/// # Invariants
///
/// `bio` was prepared by [`Piece::prepare`] and is unsent; it owns the count handed over there.
pub struct ReadyPiece<O: IoOwner> {
    bio: NonNull<bindings::bio>,
    _owner: PhantomData<fn() -> O>,
}

// SAFETY: It owns its bio and a count, like an `IoRef`.
unsafe impl<O: IoOwner> Send for ReadyPiece<O> {}

impl<O: IoOwner> ReadyPiece<O> {
    /// What it covers.
    pub fn info(&self) -> PieceInfo {
        // SAFETY: By the type invariant the front is written.
        unsafe { (*IoSet::<O>::front(self.bio.as_ptr())).piece.info }
    }

    /// Sends it to `sector` of `device`.
    pub fn send(self, device: &BlockDevice, sector: u64) {
        let bio = self.bio.as_ptr();
        core::mem::forget(self);
        // SAFETY: By the type invariant; the completion takes over.
        unsafe {
            device.address(bio, sector);
            bindings::submit_bio_noacct(bio);
        }
    }
}

impl<O: IoOwner> Drop for ReadyPiece<O> {
    fn drop(&mut self) {
        // Never sent: as good as an error.
        // SAFETY: By the type invariant; `ended` takes over what `send` would have handed on.
        unsafe {
            (*self.bio.as_ptr()).bi_status = raw::BLK_STS_IOERR;
            Piece::<O>::ended(self.bio.as_ptr());
        }
    }
}

/// Pieces waiting to be sent, first in first out, linked through `bi_next`.
pub struct ReadyPieces<O: IoOwner> {
    list: BioList,
    _owner: PhantomData<fn() -> O>,
}

impl<O: IoOwner> ReadyPieces<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            list: BioList::new(),
            _owner: PhantomData,
        }
    }

    /// Appends.
    pub fn push(&mut self, piece: ReadyPiece<O>) {
        let bio = piece.bio;
        core::mem::forget(piece);
        self.list.push(UserBio(bio));
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<ReadyPiece<O>> {
        // INVARIANT: It was pushed as one.
        self.list.pop().map(|UserBio(bio)| ReadyPiece {
            bio,
            _owner: PhantomData,
        })
    }
}

impl<O: IoOwner> Drop for ReadyPieces<O> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<O: IoOwner> Drop for Piece<O> {
    fn drop(&mut self) {
        if !self.is_carrier {
            // SAFETY: The bio is ours and unsent.
            unsafe { bindings::bio_put(self.bio.as_ptr()) };
        }
    }
}

/// A piece that is back.
///
/// # Invariants
///
/// `bio` was sent by [`Piece::send`] and is back; it owns the count that `send` handed over.
pub struct DonePiece<O: IoOwner> {
    bio: NonNull<bindings::bio>,
    _owner: PhantomData<fn() -> O>,
}

// SAFETY: It owns its bio and a count, like an `IoRef`.
unsafe impl<O: IoOwner> Send for DonePiece<O> {}

impl<O: IoOwner> DonePiece<O> {
    fn front(&self) -> &PieceFront<O> {
        // SAFETY: By the type invariant `send` wrote it.
        unsafe { &(*IoSet::<O>::front(self.bio.as_ptr())).piece }
    }

    /// What it covers.
    pub fn info(&self) -> PieceInfo {
        self.front().info
    }

    /// How it went.
    pub fn status(&self) -> Status {
        // SAFETY: The bio is ours.
        Status(unsafe { self.bio.as_ref().bi_status })
    }

    /// Another reference to the whole.
    pub fn io(&self) -> IoRef<O> {
        // SAFETY: Our own count keeps the carrier alive.
        let io = unsafe { &(*self.front().carrier).io };
        io.remaining.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: Counted just now.
        IoRef {
            // SAFETY: Never null.
            carrier: unsafe { NonNull::new_unchecked(self.front().carrier) },
        }
    }
}

impl<O: IoOwner> Drop for DonePiece<O> {
    fn drop(&mut self) {
        let bio = self.bio.as_ptr();
        let carrier = self.front().carrier;
        // SAFETY: The bio is ours. A carrier's bio is freed with its `Io`, any other here; the front
        // of a carrier is its own.
        unsafe {
            if IoSet::<O>::front(bio) != carrier {
                bindings::bio_put(bio);
            }
        }
        // INVARIANT: The count that `send` handed over.
        drop(IoRef::<O> {
            // SAFETY: Never null.
            carrier: unsafe { NonNull::new_unchecked(carrier) },
        });
    }
}

/// Pieces that are back and wait to be looked at, linked through `bi_next`. Last in, first out.
pub struct DonePieces<O: IoOwner> {
    head: *mut bindings::bio,
    _owner: PhantomData<fn() -> O>,
}

// SAFETY: It owns its pieces.
unsafe impl<O: IoOwner> Send for DonePieces<O> {}

impl<O: IoOwner> DonePieces<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
            _owner: PhantomData,
        }
    }

    /// Adds.
    pub fn push(&mut self, piece: DonePiece<O>) {
        let bio = piece.bio.as_ptr();
        core::mem::forget(piece);
        // SAFETY: The bio is ours; `bi_next` is free for the owner.
        unsafe { (*bio).bi_next = self.head };
        self.head = bio;
    }

    /// Takes one.
    pub fn pop(&mut self) -> Option<DonePiece<O>> {
        let bio = NonNull::new(self.head)?;
        // SAFETY: The bio is ours.
        self.head = unsafe { bio.as_ref().bi_next };
        // INVARIANT: It was pushed as one.
        Some(DonePiece {
            bio,
            _owner: PhantomData,
        })
    }
}

impl<O: IoOwner> Drop for DonePieces<O> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
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
            (*user).bi_status = io.status.load(Ordering::Relaxed);
            bindings::bio_endio(user);
            drop(ManuallyDrop::into_inner(io.pass));
        }
    }
}

/// Finished I/O waiting to be ended.
pub struct FinishedList<O: IoOwner> {
    head: *mut Front<O>,
}

// SAFETY: It owns its entries.
unsafe impl<O: IoOwner> Send for FinishedList<O> {}

impl<O: IoOwner> FinishedList<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
        }
    }

    /// Adds.
    pub fn push(&mut self, io: FinishedIo<O>) {
        let front = io.carrier.as_ptr();
        // SAFETY: The `Io` is ours alone.
        unsafe { (*front).io.next = self.head };
        self.head = front;
    }

    /// Takes everything.
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    /// Takes one.
    pub fn pop(&mut self) -> Option<FinishedIo<O>> {
        let carrier = NonNull::new(self.head)?;
        // SAFETY: The `Io` is ours alone.
        self.head = unsafe { (*carrier.as_ptr()).io.next };
        Some(FinishedIo { carrier })
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

/// User bios whose work cannot go on just now, first in first out.
pub struct StalledList<O: IoOwner> {
    head: *mut Front<O>,
    tail: *mut Front<O>,
}

// SAFETY: It owns a count of each entry.
unsafe impl<O: IoOwner> Send for StalledList<O> {}

impl<O: IoOwner> StalledList<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
            tail: core::ptr::null_mut(),
        }
    }

    /// Adds a reference. A bio is in at most one list at a time: callers stall only the reference
    /// that hands out its work.
    pub fn push(&mut self, io: IoRef<O>) {
        let front = io.carrier.as_ptr();
        core::mem::forget(io);
        // SAFETY: `next` belongs to whoever has the bio in a list, which is this one.
        unsafe {
            (*front).io.next = core::ptr::null_mut();
            if self.tail.is_null() {
                self.head = front;
            } else {
                (*self.tail).io.next = front;
            }
        }
        self.tail = front;
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<IoRef<O>> {
        let carrier = NonNull::new(self.head)?;
        // SAFETY: As above.
        self.head = unsafe { (*carrier.as_ptr()).io.next };
        if self.head.is_null() {
            self.tail = core::ptr::null_mut();
        }
        // INVARIANT: The count that `push` kept.
        Some(IoRef { carrier })
    }

    /// Takes everything.
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

impl<O: IoOwner> Drop for StalledList<O> {
    fn drop(&mut self) {
        while let Some(io) = self.pop() {
            io.fail(Status::IO_ERROR);
        }
    }
}
