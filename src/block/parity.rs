// SPDX-License-Identifier: GPL-2.0

//! Parity arithmetic: the kernel's own XOR (`lib/raid/xor`).

use super::pages::Pages;
use super::raw;
use kernel::prelude::*;

/// Bytes handled at a time, so that the destination stays in the first-level cache.
const STRIDE_BYTES: usize = 4096;

/// Most sources a call of `xor_gen` gets.
const SOURCES_MAX: usize = 32;

/// `dest ^= each of sources` over `len_bytes` from the start. `len_bytes` is a multiple of 512.
///
/// Task context only. Lengths beyond a buffer are cut to it.
pub fn xor_into<'a>(
    dest: &mut Pages,
    sources: impl Iterator<Item = &'a Pages> + Clone,
    len_bytes: usize,
) {
    let len_bytes = len_bytes.min(dest.len());
    let mut done = 0;
    while done < len_bytes {
        let bytes = STRIDE_BYTES.min(len_bytes - done);
        let mut pointers = [core::ptr::null_mut::<c_void>(); SOURCES_MAX];
        let mut count = 0;
        for source in sources.clone() {
            if source.len() < len_bytes {
                continue;
            }
            if let Some(slot) = pointers.get_mut(count) {
                *slot = source.address().wrapping_add(done).cast();
                count += 1;
            }
            if count == SOURCES_MAX {
                xor_stride(dest, &mut pointers, count, done, bytes);
                count = 0;
            }
        }
        if count > 0 {
            xor_stride(dest, &mut pointers, count, done, bytes);
        }
        done += bytes;
    }
}

fn xor_stride(
    dest: &mut Pages,
    pointers: &mut [*mut c_void; SOURCES_MAX],
    count: usize,
    offset: usize,
    bytes: usize,
) {
    let target = dest.address().wrapping_add(offset);
    // SAFETY: The first `count` pointers and `target` point at `bytes` bytes within live buffers
    // (checked against their lengths by the caller), page-aligned plus a multiple of 4096, `bytes`
    // is a non-zero multiple of 512, and `dest` is exclusively borrowed. Callers are in task context.
    unsafe {
        raw::xor_gen(
            target.cast(),
            pointers.as_mut_ptr(),
            count as c_uint,
            bytes as c_uint,
        );
    }
}

/// Copies the first `len_bytes` of `source` to `dest`.
pub fn copy(dest: &mut Pages, source: &Pages, len_bytes: usize) {
    if let (Some(to), Some(from)) = (
        dest.as_mut_slice().get_mut(..len_bytes),
        source.as_slice().get(..len_bytes),
    ) {
        to.copy_from_slice(from);
    }
}

/// Whether the first `len_bytes` differ.
pub fn differs(left: &Pages, right: &Pages, len_bytes: usize) -> bool {
    left.as_slice().get(..len_bytes) != right.as_slice().get(..len_bytes)
}
