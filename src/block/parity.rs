// SPDX-License-Identifier: GPL-2.0

//! Parity arithmetic: the kernel's own XOR (`lib/raid/xor`).

use super::pages::Pages;
use super::raw;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::bindings;
use kernel::prelude::*;

/// Bytes handled at a time, so that the destination stays in the first-level cache.
const STRIDE_BYTES: usize = 4096;

/// Most sources a call of `xor_gen` gets.
const SOURCES_MAX: usize = 32;

/// `xor_gen` wants pointers with this alignment, and lengths that are multiples of 512.
const ALIGNMENT: usize = 64;

/// Copying through `xor_gen` beat `memcpy` on this machine (see [`calibrate`]).
static COPY_BY_XOR: AtomicBool = AtomicBool::new(false);

/// Where the sum of a call of [`xor`] starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From nothing: the destination's old contents do not count.
    Zero,
    /// From what the destination holds.
    Destination,
}

/// `dest` = (its old contents, or nothing) ^ each of `sources`, over `len_bytes` from the start.
/// `len_bytes` is a multiple of 512.
///
/// Task context only. Lengths beyond a buffer are cut to it.
pub fn xor<'a>(
    dest: &mut Pages,
    start: Start,
    sources: impl Iterator<Item = &'a Pages> + Clone,
    len_bytes: usize,
) {
    let len_bytes = len_bytes.min(dest.len());
    let mut done = 0;
    while done < len_bytes {
        let bytes = STRIDE_BYTES.min(len_bytes - done);
        let target = dest.address().wrapping_add(done);
        let mut pointers = [core::ptr::null_mut::<c_void>(); SOURCES_MAX];
        let mut count = 0;
        if start == Start::Zero {
            // Taken in once more, the old contents cancel out: cheaper than clearing them first.
            pointers[0] = target.cast();
            count = 1;
        }
        for source in sources.clone() {
            if source.len() < len_bytes {
                continue;
            }
            if count == SOURCES_MAX {
                // SAFETY: As below.
                unsafe { xor_stride(target, &mut pointers, count, bytes) };
                count = 0;
            }
            pointers[count] = source.address().wrapping_add(done).cast();
            count += 1;
        }
        if count > 0 {
            // SAFETY: All pointers are at `bytes` bytes within live buffers (checked against their
            // lengths above), page-aligned plus a multiple of 4096.
            unsafe { xor_stride(target, &mut pointers, count, bytes) };
        }
        done += bytes;
    }
}

/// # Safety
///
/// `target` and the first `count` of `pointers` are valid for `bytes` bytes, aligned to
/// [`ALIGNMENT`], and each of the latter is `target` itself or apart from it. `bytes` is a non-zero
/// multiple of 512. Task context.
unsafe fn xor_stride(
    target: *mut u8,
    pointers: &mut [*mut c_void; SOURCES_MAX],
    count: usize,
    bytes: usize,
) {
    // SAFETY: By the requirements. `xor_gen` loads all sources of a line before it stores the line,
    // so a source may be the destination.
    unsafe {
        raw::xor_gen(
            target.cast(),
            pointers.as_mut_ptr(),
            count as c_uint,
            bytes as c_uint,
        );
    }
}

/// Copies `len` bytes by the way that is faster on this machine. Task context only.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes, and they do not overlap.
pub(super) unsafe fn copy_raw(from: *const u8, to: *mut u8, len: usize) {
    let aligned = (from as usize | to as usize) % ALIGNMENT == 0 && len % 512 == 0 && len > 0;
    if aligned && COPY_BY_XOR.load(Ordering::Relaxed) {
        // SAFETY: By the requirements of this function and the check above.
        unsafe { copy_by_xor(from, to, len) };
    } else {
        // SAFETY: By the requirements of this function.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
    }
}

/// # Safety
///
/// As for [`copy_raw`], with pointers aligned to [`ALIGNMENT`] and `len` a non-zero multiple of 512.
unsafe fn copy_by_xor(from: *const u8, to: *mut u8, len: usize) {
    let mut pointers = [core::ptr::null_mut::<c_void>(); SOURCES_MAX];
    // The destination cancels itself out.
    pointers[0] = to.cast();
    pointers[1] = from.cast_mut().cast();
    // SAFETY: By the requirements of this function; `from` is only read.
    unsafe { xor_stride(to, &mut pointers, 2, len) };
}

/// Copies the first `len_bytes` of `source` to `dest`. Task context only.
pub fn copy(dest: &mut Pages, source: &Pages, len_bytes: usize) {
    let len = len_bytes.min(dest.len()).min(source.len());
    // SAFETY: Two live buffers of at least `len` bytes, one of them exclusively borrowed.
    unsafe { copy_raw(source.address(), dest.address(), len) };
}

/// Whether the first `len_bytes` differ.
pub fn differs(left: &Pages, right: &Pages, len_bytes: usize) -> bool {
    left.as_slice().get(..len_bytes) != right.as_slice().get(..len_bytes)
}

/// Measures which way of copying is faster here, as the kernel's own XOR and RAID 6 code measure
/// their variants. Task context, once, when the module is loaded.
pub fn calibrate() -> Result {
    const ROUNDS: u32 = 32;
    let from = Pages::alloc(4, bindings::GFP_KERNEL).ok_or(ENOMEM)?;
    let mut to = Pages::alloc(4, bindings::GFP_KERNEL).ok_or(ENOMEM)?;
    let len = from.len();
    let mut nanoseconds = [u64::MAX; 2];
    // The best of several tries counts: interruptions only ever make it slower.
    for _ in 0..4 {
        for (by_xor, best) in [false, true].into_iter().zip(nanoseconds.iter_mut()) {
            COPY_BY_XOR.store(by_xor, Ordering::Relaxed);
            let start = super::context::now_nanoseconds();
            for _ in 0..ROUNDS {
                copy(&mut to, &from, len);
            }
            *best = (*best).min(super::context::now_nanoseconds() - start);
        }
    }
    let rate = |ns: u64| u64::from(ROUNDS) * len as u64 * 1000 / ns.max(1);
    let [plain, xor] = nanoseconds;
    COPY_BY_XOR.store(xor < plain, Ordering::Relaxed);
    pr_info!(
        "copy: memcpy {} MB/s, xor {} MB/s, using {}\n",
        rate(plain),
        rate(xor),
        if xor < plain { "xor" } else { "memcpy" }
    );
    Ok(())
}
