// SPDX-License-Identifier: GPL-2.0

//! Metadata I/O: the caller waits for it, and it goes to several disks at once, through buffers and bios made in advance.
//!
//! ```text
//! let mut round = io.as_mut().round();
//! round.write(0, &first, sector, bytes);    // as much as there is room for
//! round.write(1, &second, sector, bytes);
//! round.finish(|tag, result, _| …);         // sends all, waits for all
//! ```
//!
//! C headers: `include/linux/bio.h`, `include/linux/completion.h`.

use super::bdev::BlockDevice;
use super::bio::BioSet;
use super::context;
use super::pages::{Pages, PAGE_BYTES};
use super::raw::{self, Opf};
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// Most bios that are out at a time.
const SLOTS: usize = 16;
/// Bytes of a slot's buffer; larger transfers take several.
const SLOT_BYTES: usize = PAGE_BYTES << SLOT_ORDER;
const SLOT_ORDER: u32 = 2;
/// How long a waiter sleeps at most before it looks again: a slow disk is no hung task (`blk_wait_io`).
const LOOK_MS: u32 = 10_000;

/// A buffer, and what it is used for in this round.
struct Slot {
    buffer: Pages,
    tag: u16,
    len_bytes: usize,
    /// Ours from [`Round`]'s `add` to its end.
    bio: Option<NonNull<bindings::bio>>,
}

/// Synchronous I/O through buffers and bios set up in advance.
#[pin_data]
pub struct SyncIo {
    #[pin]
    set: BioSet<()>,
    slots: KVec<Slot>,
}

// SAFETY: Between rounds no slot has a bio, and buffers may be used by any task.
unsafe impl Send for SyncIo {}

impl SyncIo {
    /// Allocates its buffers (256 KiB) and bios.
    pub fn new() -> Result<impl PinInit<Self, Error>> {
        let mut slots = KVec::with_capacity(SLOTS, GFP_KERNEL)?;
        for _ in 0..SLOTS {
            let slot = Slot {
                buffer: Pages::alloc(SLOT_ORDER, bindings::GFP_KERNEL).ok_or(ENOMEM)?,
                tag: 0,
                len_bytes: 0,
                bio: None,
            };
            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(try_pin_init!(Self {
            set <- BioSet::new(SLOTS as u32),
            slots,
        }))
    }

    /// Begins a round of I/O.
    pub fn round<'d>(self: Pin<&mut Self>) -> Round<'_, 'd> {
        let this = self.project();
        Round {
            set: this.set.into_ref().get_ref(),
            slots: this.slots.as_mut_slice(),
            used: 0,
            _devices: PhantomData,
        }
    }

    /// Reads `to.len()` bytes (a multiple of the logical block) from `sector` on.
    pub fn read(
        mut self: Pin<&mut Self>,
        device: &BlockDevice,
        mut sector: u64,
        to: &mut [u8],
    ) -> Result {
        for part in to.chunks_mut(SLOTS * SLOT_BYTES) {
            let mut round = self.as_mut().round();
            for (tag, piece) in (0u16..).zip(part.chunks(SLOT_BYTES)) {
                round.read(tag, device, sector, piece.len());
                sector += piece.len() as u64 >> 9;
            }
            let mut rest = part;
            let mut outcome = Ok(());
            // Slots come back in the order in which they were taken.
            round.finish(|_, result, bytes| {
                outcome = outcome.and(result);
                let all = core::mem::take(&mut rest);
                if let Some((room, after)) = all.split_at_mut_checked(bytes.len()) {
                    room.copy_from_slice(bytes);
                    rest = after;
                }
            });
            outcome?;
        }
        Ok(())
    }

    /// Writes `from` (a multiple of the logical block) to `sector` on. Not flushed.
    pub fn write(
        mut self: Pin<&mut Self>,
        device: &BlockDevice,
        mut sector: u64,
        from: &[u8],
    ) -> Result {
        for part in from.chunks(SLOTS * SLOT_BYTES) {
            let mut round = self.as_mut().round();
            let taken = round.write(0, device, sector, part);
            let mut outcome = Ok(());
            round.finish(|_, result, _| outcome = outcome.and(result));
            outcome?;
            if taken < part.len() {
                return Err(EIO);
            }
            sector += taken as u64 >> 9;
        }
        Ok(())
    }

    /// Flushes the device's write cache.
    pub fn flush(self: Pin<&mut Self>, device: &BlockDevice) -> Result {
        let mut round = self.round();
        round.flush(0, device);
        let mut outcome = Ok(());
        round.finish(|_, result, _| outcome = result);
        outcome
    }
}

/// I/O that goes out together, to any devices. Nothing is sent before [`Round::finish`].
///
/// # Invariants
///
/// The first `used` slots have a bio, from `set` and unsent; the others have none.
pub struct Round<'a, 'd> {
    set: &'a BioSet<()>,
    slots: &'a mut [Slot],
    used: usize,
    _devices: PhantomData<&'d BlockDevice>,
}

impl<'d> Round<'_, 'd> {
    /// Adds a write of `from` (a multiple of the logical block) to `sector` on; `tag` is for the caller. Says how many bytes there was
    /// room for, always a multiple of a page when it is not all.
    pub fn write(&mut self, tag: u16, device: &'d BlockDevice, sector: u64, from: &[u8]) -> usize {
        let opf = raw::REQ_OP_WRITE | raw::REQ_META | raw::REQ_SYNC;
        let mut taken = 0;
        for part in from.chunks(SLOT_BYTES) {
            let at = sector + (taken as u64 >> 9);
            let added = self.add(tag, device, opf, at, part.len(), |buffer| {
                if let Some(room) = buffer.as_mut_slice().get_mut(..part.len()) {
                    room.copy_from_slice(part);
                }
            });
            if !added {
                break;
            }
            taken += part.len();
        }
        taken
    }

    /// Adds a flush of the device's write cache. False when there is no room.
    pub fn flush(&mut self, tag: u16, device: &'d BlockDevice) -> bool {
        let opf = raw::REQ_OP_WRITE | raw::REQ_PREFLUSH | raw::REQ_SYNC;
        self.add(tag, device, opf, 0, 0, |_| {})
    }

    /// Adds a read of at most [`SLOT_BYTES`].
    fn read(&mut self, tag: u16, device: &'d BlockDevice, sector: u64, len_bytes: usize) -> bool {
        let opf = raw::REQ_OP_READ | raw::REQ_META;
        self.add(tag, device, opf, sector, len_bytes, |_| {})
    }

    fn add(
        &mut self,
        tag: u16,
        device: &'d BlockDevice,
        opf: Opf,
        sector: u64,
        len_bytes: usize,
        fill: impl FnOnce(&mut Pages),
    ) -> bool {
        let Some(slot) = self.slots.get_mut(self.used) else {
            return false;
        };
        slot.len_bytes = len_bytes.min(slot.buffer.len());
        slot.tag = tag;
        fill(&mut slot.buffer);
        // There is one in reserve for each slot, and nobody else takes any.
        let bio = self.set.alloc(1, opf);
        // SAFETY: The bio is fresh, with one segment of room. The buffer is not touched before it is back, and the device lives until
        // then: both are borrowed until the round is over, in which nothing is out.
        unsafe {
            if slot.len_bytes > 0 {
                let page = slot.buffer.page();
                bindings::__bio_add_page(bio.as_ptr(), page, slot.len_bytes as c_uint, 0);
            }
            device.address(bio.as_ptr(), sector);
        }
        // INVARIANT: Slot `used` has an unsent bio now.
        slot.bio = Some(bio);
        self.used += 1;
        true
    }

    /// Sends all of it, waits for all of it, and tells of each bio, in the order in which they were added: its tag, how it went, and
    /// the bytes of its buffer.
    pub fn finish(mut self, mut told: impl FnMut(u16, Result, &[u8])) {
        let used = core::mem::take(&mut self.used);
        let Some(slots) = self.slots.get_mut(..used) else {
            return;
        };
        if slots.is_empty() {
            return;
        }
        pin_init::stack_pin_init!(let tally = Tally::new(used as u32));
        for bio in slots.iter().filter_map(|slot| slot.bio) {
            // SAFETY: By the invariant the bio is ours and unsent; `tally` outlives it, as we wait for its end below.
            unsafe {
                (*bio.as_ptr()).bi_private = (&raw const *tally).cast_mut().cast();
                (*bio.as_ptr()).bi_end_io = Some(ended);
                bindings::submit_bio(bio.as_ptr());
            }
        }
        tally.wait();
        for slot in slots {
            let Some(bio) = slot.bio.take() else { continue };
            // SAFETY: The bio is back, and ours.
            let result = unsafe {
                let status = (*bio.as_ptr()).bi_status;
                bindings::bio_put(bio.as_ptr());
                kernel::error::to_result(bindings::blk_status_to_errno(status))
            };
            let bytes = slot.buffer.as_slice().get(..slot.len_bytes);
            told(slot.tag, result, bytes.unwrap_or(&[]));
        }
    }
}

impl Drop for Round<'_, '_> {
    fn drop(&mut self) {
        for slot in self.slots.iter_mut().take(self.used) {
            if let Some(bio) = slot.bio.take() {
                // SAFETY: By the invariant it is ours and unsent.
                unsafe { bindings::bio_put(bio.as_ptr()) };
            }
        }
    }
}

/// Counts bios that are out, and wakes who waits for the last one.
#[pin_data]
struct Tally {
    out: AtomicU32,
    #[pin]
    done: Opaque<bindings::completion>,
}

impl Tally {
    fn new(out: u32) -> impl PinInit<Self> {
        pin_init!(Self {
            out: AtomicU32::new(out),
            done <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` is valid for writes.
                unsafe { bindings::init_completion(slot) };
            }),
        })
    }

    fn wait(&self) {
        // SAFETY: The completion is initialised. Zero means that the time was over first.
        while unsafe {
            bindings::wait_for_completion_io_timeout(self.done.get(), context::ticks(LOOK_MS))
        } == 0
        {}
    }
}

/// # Safety
///
/// Called by the block layer as `bi_end_io` of a bio that `Round::finish` sent.
unsafe extern "C" fn ended(bio: *mut bindings::bio) {
    // SAFETY: `bi_private` is the tally, which lives until the last bio has counted itself out, and `complete` lets go of the completion
    // before the waiter goes on.
    unsafe {
        let tally = (*bio).bi_private.cast::<Tally>();
        if (*tally).out.fetch_sub(1, Ordering::AcqRel) == 1 {
            bindings::complete((*tally).done.get());
        }
    }
}
