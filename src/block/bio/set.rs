// SPDX-License-Identifier: GPL-2.0

//! Pools of bios.

use crate::block::raw::{self, Opf};
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

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
    pub(super) const PAD: usize = size_of::<F>().next_multiple_of(64);

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
    pub(in crate::block) fn alloc(&self, vecs: u16, opf: Opf) -> NonNull<bindings::bio> {
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

    /// A clone of `source`, sharing its pages. May sleep until bios of the set come back, so not for who holds some that
    /// are not sent; fails only when the clone's extras (integrity, encryption) cannot be had.
    pub(super) fn clone_of(
        &self,
        source: NonNull<bindings::bio>,
    ) -> Option<NonNull<bindings::bio>> {
        self.clone_with(source, raw::GFP_NOIO)
    }

    /// As [`Self::clone_of`]; does not sleep, and fails when there is no memory right now.
    pub(super) fn clone_of_now(
        &self,
        source: NonNull<bindings::bio>,
    ) -> Option<NonNull<bindings::bio>> {
        self.clone_with(source, bindings::GFP_NOWAIT)
    }

    fn clone_with(
        &self,
        source: NonNull<bindings::bio>,
        gfp: bindings::gfp_t,
    ) -> Option<NonNull<bindings::bio>> {
        // SAFETY: `source` is a live bio; the set is initialised.
        NonNull::new(unsafe {
            bindings::bio_alloc_clone(
                (*source.as_ptr()).bi_bdev,
                source.as_ptr(),
                gfp,
                self.set.get(),
            )
        })
    }

    /// Where the front of `bio` is.
    ///
    /// # Safety
    ///
    /// `bio` came from a `BioSet<F>`.
    pub(in crate::block) unsafe fn front(bio: *mut bindings::bio) -> *mut F {
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
