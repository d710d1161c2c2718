// SPDX-License-Identifier: GPL-2.0

//! Pieces: clones of a user's bio on their way to members and back, and lists of them.

use super::io::{IoOwner, IoRef, IoSet, PieceFront, PieceInfo};
use super::list::RawList;
use super::user::Status;
use crate::block::bdev::BlockDevice;
use crate::block::raw::{self, Opf};
use core::marker::PhantomData;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::Ordering;
use kernel::bindings;

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

impl<O: IoOwner> Piece<O> {
    /// `bio` is from the owner's `IoSet` and unsent; `is_carrier`: its front has the `Io` that it is a piece of.
    pub(super) fn new(bio: NonNull<bindings::bio>, is_carrier: bool) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            bio,
            is_carrier,
            _owner: PhantomData,
        }
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

impl<O: IoOwner> Drop for Piece<O> {
    fn drop(&mut self) {
        if !self.is_carrier {
            // SAFETY: The bio is ours and unsent.
            unsafe { bindings::bio_put(self.bio.as_ptr()) };
        }
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

/// Pieces waiting to be sent, first in first out.
pub struct ReadyPieces<O: IoOwner> {
    list: RawList<bindings::bio>,
    _owner: PhantomData<fn() -> O>,
}

impl<O: IoOwner> ReadyPieces<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            list: RawList::new(),
            _owner: PhantomData,
        }
    }

    /// Appends.
    pub fn push(&mut self, piece: ReadyPiece<O>) {
        let bio = piece.bio;
        core::mem::forget(piece);
        self.list.push(bio);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes all.
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    /// Appends all of `other`.
    pub fn append(&mut self, mut other: Self) {
        let list = core::mem::replace(&mut other.list, RawList::new());
        self.list.append(list);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<ReadyPiece<O>> {
        // INVARIANT: It was pushed as one.
        self.list.pop().map(|bio| ReadyPiece {
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

/// A piece that is back.
///
/// # Invariants
///
/// `bio` was sent by [`ReadyPiece::send`] and is back; it owns the count that `prepare` handed over.
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

    /// Its first `sectors` are dealt with.
    pub fn skip(&mut self, sectors: u32) {
        // SAFETY: By the type invariant `send` wrote it, and this part of the front is the piece's alone.
        let info = unsafe { &mut (*IoSet::<O>::front(self.bio.as_ptr())).piece.info };
        info.sector = info.sector.saturating_add(sectors.into());
        info.member_sector = info.member_sector.saturating_add(sectors.into());
        info.sectors = info.sectors.saturating_sub(sectors);
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

/// Pieces that are back and wait to be looked at, first in first out.
pub struct DonePieces<O: IoOwner> {
    list: RawList<bindings::bio>,
    _owner: PhantomData<fn() -> O>,
}

impl<O: IoOwner> DonePieces<O> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            list: RawList::new(),
            _owner: PhantomData,
        }
    }

    /// Adds.
    pub fn push(&mut self, piece: DonePiece<O>) {
        let bio = piece.bio;
        core::mem::forget(piece);
        self.list.push(bio);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<DonePiece<O>> {
        // INVARIANT: It was pushed as one.
        self.list.pop().map(|bio| DonePiece {
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
