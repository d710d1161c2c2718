// SPDX-License-Identifier: GPL-2.0

//! RAID 6 arithmetic: the kernel's own (`lib/raid/raid6`).
//!
//! Data is named by its *exponent*: the power of the generator that it is multiplied by in Q.
//! Exponents that no block has count as zeroes. All calls: task context only, lengths are multiples of
//! 512 bytes and are cut to the buffers'.

use super::pages::{Pages, PAGE_BYTES};
use super::parity::Start;
use super::raw;
use crate::model::MEMBERS_MAX;
use core::ffi::c_void;
use kernel::bindings;
use kernel::prelude::*;

/// Pointers of a call: data by exponent, P, Q.
type Pointers = [*mut c_void; MEMBERS_MAX + 2];

/// Fewest data blocks that the library takes; fewer are filled up with zeroes.
const WIDTH_MIN: usize = 2;

/// A page of zeroes, and room for results that nobody wants.
///
/// # Invariants
///
/// Four pages, of which the first holds zeroes and is never written.
pub struct Spare(Pages);

impl Spare {
    /// Allocates; `None` when memory is short. `flags` is a raw `gfp_t`.
    pub fn alloc(flags: bindings::gfp_t) -> Option<Self> {
        let mut pages = Pages::alloc(2, flags)?;
        pages.as_mut_slice().fill(0);
        Some(Self(pages))
    }

    fn page(&self, index: usize) -> *mut c_void {
        self.0.address().wrapping_add(index * PAGE_BYTES).cast()
    }

    fn zeroes(&self) -> *mut c_void {
        self.page(0)
    }
}

/// One call's buffers, and where in them the present stride is.
struct Stride<'a, F: Fn(u16) -> Option<&'a Pages>> {
    width: usize,
    data: F,
    len_bytes: usize,
}

impl<'a, F: Fn(u16) -> Option<&'a Pages>> Stride<'a, F> {
    /// Calls `work` with the pointers for one page after another, P and Q still null, and the offset
    /// and the number of bytes. `width` of them are data.
    fn each(&self, spare: &Spare, mut work: impl FnMut(&mut Pointers, usize, usize)) {
        let mut done = 0;
        while done < self.len_bytes {
            let bytes = PAGE_BYTES.min(self.len_bytes - done);
            let mut pointers: Pointers = [core::ptr::null_mut(); MEMBERS_MAX + 2];
            for (exponent, room) in (0u16..).zip(pointers.iter_mut().take(self.width)) {
                let block = (self.data)(exponent).filter(|pages| pages.len() >= self.len_bytes);
                *room = match block {
                    Some(pages) => pages.address().wrapping_add(done).cast(),
                    None => spare.zeroes(),
                };
            }
            work(&mut pointers, done, bytes);
            done += bytes;
        }
    }
}

fn stride<'a, F: Fn(u16) -> Option<&'a Pages>>(
    width: u16,
    data: F,
    len_bytes: usize,
) -> Stride<'a, F> {
    Stride {
        width: usize::from(width).clamp(WIDTH_MIN, MEMBERS_MAX),
        data,
        len_bytes,
    }
}

fn at(pages: &Pages, done: usize) -> *mut c_void {
    pages.address().wrapping_add(done).cast()
}

fn disks(width: usize) -> c_int {
    // At most MEMBERS_MAX + 2.
    width as c_int + 2
}

/// Q, and P where it is wanted: (their old contents, or nothing) + the data. `width` is the highest
/// exponent + 1; `data` says which block has an exponent.
pub fn add<'a>(
    width: u16,
    data: impl Fn(u16) -> Option<&'a Pages>,
    start: Start,
    mut p: Option<&mut Pages>,
    q: &mut Pages,
    spare: &mut Spare,
    len_bytes: usize,
) {
    let p_len = p.as_ref().map_or(usize::MAX, |p| p.len());
    let len_bytes = len_bytes.min(q.len()).min(p_len);
    let stride = stride(width, data, len_bytes);
    let width = stride.width;
    let count = disks(width);
    // Nothing is added of those before the first that is there, and of those after the last.
    let mut there = (0u16..)
        .take(width)
        .filter(|&exponent| (stride.data)(exponent).is_some());
    let first = there.next();
    let (first, last) = match (first, there.last().or(first)) {
        (Some(first), Some(last)) => (c_int::from(first), c_int::from(last)),
        _ if start == Start::Destination => return,
        _ => (0, count - 3),
    };
    // SAFETY: No requirements.
    let in_place = start == Start::Zero || unsafe { raw::raid6_can_xor_syndrome() };
    stride.each(spare, |pointers, done, bytes| {
        let (p_at, q_at) = match p.as_mut() {
            Some(p) => (at(p, done), at(q, done)),
            None => (spare.page(1), at(q, done)),
        };
        let places = if in_place {
            (p_at, q_at)
        } else {
            (spare.page(2), spare.page(3))
        };
        if let [p_room, q_room] = &mut pointers[width..width + 2] {
            (*p_room, *q_room) = places;
        }
        // SAFETY: `count` pointers are set, each to `bytes` bytes within a live buffer (lengths were
        // checked), 64-byte aligned; those of P and Q are exclusively borrowed (or spare) and apart
        // from the data. `0 <= first <= last <= count - 3`. Task context by this function's contract.
        unsafe {
            if start == Start::Destination && in_place {
                raw::raid6_xor_syndrome(count, first, last, bytes, pointers.as_mut_ptr());
            } else {
                raw::raid6_gen_syndrome(count, bytes, pointers.as_mut_ptr());
            }
            if !in_place {
                let mut sources = [places.0];
                raw::xor_gen(p_at, sources.as_mut_ptr(), 1, bytes as c_uint);
                sources = [places.1];
                raw::xor_gen(q_at, sources.as_mut_ptr(), 1, bytes as c_uint);
            }
        }
    });
}

/// The block of exponent `exponent` from Q and all other data.
pub fn recover_by_q<'a>(
    width: u16,
    data: impl Fn(u16) -> Option<&'a Pages>,
    exponent: u16,
    block: &mut Pages,
    q: &Pages,
    spare: &mut Spare,
    len_bytes: usize,
) {
    let len_bytes = len_bytes.min(block.len()).min(q.len());
    let stride = stride(width, data, len_bytes);
    let width = stride.width;
    let lost = usize::from(exponent);
    if lost >= width {
        return;
    }
    stride.each(spare, |pointers, done, bytes| {
        pointers[lost] = at(block, done);
        pointers[width] = spare.page(1);
        pointers[width + 1] = at(q, done);
        // SAFETY: As in `add`; `block` is exclusively borrowed, P's place is spare, Q is only read;
        // `lost` is below `width`; pointers are page-aligned and `bytes` at most a page.
        unsafe {
            raw::raid6_recov_datap(disks(width), bytes, lost as c_int, pointers.as_mut_ptr());
        }
    });
}

/// The blocks of two exponents from P, Q and all other data. The exponents differ.
#[allow(clippy::too_many_arguments)]
pub fn recover_two<'a>(
    width: u16,
    data: impl Fn(u16) -> Option<&'a Pages>,
    first: (u16, &mut Pages),
    second: (u16, &mut Pages),
    p: &Pages,
    q: &Pages,
    spare: &mut Spare,
    len_bytes: usize,
) {
    let ((low, low_block), (high, high_block)) = if first.0 < second.0 {
        (first, second)
    } else {
        (second, first)
    };
    let len_bytes = len_bytes
        .min(low_block.len())
        .min(high_block.len())
        .min(p.len())
        .min(q.len());
    let stride = stride(width, data, len_bytes);
    let width = stride.width;
    let (low, high) = (usize::from(low), usize::from(high));
    if low >= high || high >= width {
        return;
    }
    stride.each(spare, |pointers, done, bytes| {
        pointers[low] = at(low_block, done);
        pointers[high] = at(high_block, done);
        pointers[width] = at(p, done);
        pointers[width + 1] = at(q, done);
        // SAFETY: As in `add`; both blocks are exclusively borrowed, P and Q are only read;
        // `low < high < width`; pointers are page-aligned and `bytes` at most a page.
        unsafe {
            raw::raid6_recov_2data(
                disks(width),
                bytes,
                low as c_int,
                high as c_int,
                pointers.as_mut_ptr(),
            );
        }
    });
}
