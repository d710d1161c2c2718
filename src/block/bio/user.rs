// SPDX-License-Identifier: GPL-2.0

//! User bios: what is handed to an array, and lists of them.

use super::list::RawList;
use crate::block::raw::{self, Opf};
use core::ptr::NonNull;
use kernel::bindings;

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
    /// The bio is not one that the device could be sent: its buffers do not fit the device's limits.
    pub const INVALID: Status = Status(raw::BLK_STS_INVAL);

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
pub struct UserBio(pub(super) NonNull<bindings::bio>);

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
        // SAFETY: The bio is ours, and `self` is gone afterwards.
        unsafe { end(self.0.as_ptr(), status) };
    }

    /// Hands it to the block layer again (to the device it is addressed to).
    pub fn resubmit(self) {
        // SAFETY: The bio is ours and complete; the block layer takes it over.
        unsafe { bindings::submit_bio_noacct(self.0.as_ptr()) };
    }
}

/// Ends a user's bio, with an outcome of its own.
///
/// Others may be chained to it (parts that the block layer has cut off, bios of the same discard). What became of those
/// that ended before is in it already, so that it worked is not stored: that would undo their error.
///
/// # Safety
///
/// `bio` is a live bio of a user's that the caller has to end, and does not use afterwards.
pub(super) unsafe fn end(bio: *mut bindings::bio, status: Status) {
    // SAFETY: By the caller's promise.
    unsafe {
        if !status.is_ok() {
            (*bio).bi_status = status.0;
        }
        bindings::bio_endio(bio);
    }
}

/// User bios waiting, first in first out.
pub struct BioList(RawList<bindings::bio>);

impl BioList {
    /// Empty.
    pub const fn new() -> Self {
        Self(RawList::new())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends.
    pub fn push(&mut self, user: UserBio) {
        self.0.push(user.0);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<UserBio> {
        self.0.pop().map(UserBio)
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
