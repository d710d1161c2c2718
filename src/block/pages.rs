// SPDX-License-Identifier: GPL-2.0

//! Physically contiguous buffers, and a bounded pool of them.

use super::raw;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::SpinLockIrq;

/// Bytes of a page.
pub const PAGE_BYTES: usize = kernel::page::PAGE_SIZE;

/// `2^order` contiguous pages, page-aligned, owned.
///
/// # Invariants
///
/// `page` is the first page of an allocation of `order`, owned by this object; `address` is its
/// address in the kernel's direct mapping (Rust for Linux supports no architecture with highmem).
pub struct Pages {
    page: NonNull<bindings::page>,
    address: NonNull<u8>,
    order: u32,
    /// Counted by a pool.
    pooled: bool,
}

// SAFETY: The pages are owned; nothing in them is tied to a task.
unsafe impl Send for Pages {}
// SAFETY: Shared access only hands out addresses and shared slices.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates; `None` when memory is short. `flags` is a raw `gfp_t`.
    pub fn alloc(order: u32, flags: bindings::gfp_t) -> Option<Self> {
        // SAFETY: There are no requirements on the arguments.
        let page = NonNull::new(unsafe { bindings::alloc_pages(flags, order) })?;
        // SAFETY: `page` was just allocated from the direct mapping; without highmem the mapping is
        // permanent and needs no unmapping.
        let address = unsafe { bindings::kmap_local_page(page.as_ptr()) };
        // INVARIANT: Both hold by the two calls above.
        Some(Self {
            page,
            address: NonNull::new(address.cast())?,
            order,
            pooled: false,
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        PAGE_BYTES << self.order
    }

    /// The allocation order.
    pub fn order(&self) -> u32 {
        self.order
    }

    /// The first `struct page`, for bios.
    pub(super) fn page(&self) -> *mut bindings::page {
        self.page.as_ptr()
    }

    /// The address, for parity arithmetic.
    pub(super) fn address(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: By the invariants the memory is valid for `len` bytes. Pages come from the page
        // allocator uninitialised, but hold no values with a meaning: any byte is a valid `u8`, and
        // no part of the driver reads bytes that neither it nor a device has written.
        unsafe { core::slice::from_raw_parts(self.address.as_ptr(), self.len()) }
    }

    /// The bytes, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: As above, and `&mut self` excludes other users.
        unsafe { core::slice::from_raw_parts_mut(self.address.as_ptr(), self.len()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the invariants the allocation is ours and of this order.
        unsafe { bindings::__free_pages(self.page.as_ptr(), self.order) };
    }
}

/// Orders of buffers that a [`PagePool`] keeps.
pub const POOL_ORDERS: usize = 5;

/// Single pages that a pool with a reserve has from the start.
const PAGES_RESERVED: usize = 128;

/// What a pool has in stock.
struct Stock {
    free: [KVec<Pages>; POOL_ORDERS],
    /// Bytes handed out or in stock.
    allocated: usize,
}

/// A bounded pool of buffers of order 0 to [`POOL_ORDERS`]` - 1`.
///
/// Never sleeps in [`PagePool::take`]; whoever finds it empty waits for someone's
/// [`PagePool::put`]. A reserve of the largest buffers is made when the pool is, so that one piece of
/// work can always go on; and one of single pages, which is what memory is swapped out in: with these alone, as the
/// pool does not grow out of what the kernel keeps, several dozen such writes are at work at a time.
#[pin_data]
pub struct PagePool {
    #[pin]
    stock: SpinLockIrq<Stock>,
    limit_bytes: usize,
}

impl PagePool {
    /// A pool that holds at least `reserve` buffers of the largest order, and single pages if there are any, and grows
    /// to `limit_bytes`.
    pub fn new(reserve: usize, limit_bytes: usize) -> Result<impl PinInit<Self>> {
        let mut free = [const { KVec::new() }; POOL_ORDERS];
        let mut allocated = 0;
        for (order, list) in free.iter_mut().enumerate() {
            // Room for all that the limit allows, so that putting back never allocates.
            list.reserve(
                (limit_bytes / (PAGE_BYTES << order)).max(reserve) + 1,
                GFP_KERNEL,
            )?;
        }
        let singles = if reserve > 0 { PAGES_RESERVED } else { 0 };
        for (order, count) in [(POOL_ORDERS - 1, reserve), (0, singles)] {
            for _ in 0..count {
                let mut pages = Pages::alloc(order as u32, bindings::GFP_KERNEL).ok_or(ENOMEM)?;
                pages.pooled = true;
                allocated += pages.len();
                if let Some(list) = free.get_mut(order) {
                    list.push(pages, GFP_KERNEL)?;
                }
            }
        }
        Ok(pin_init!(Self {
            stock <- kernel::new_spinlock_irq!(Stock { free, allocated }, "emd_page_pool"),
            limit_bytes: limit_bytes.max(allocated),
        }))
    }

    /// The order of the smallest buffer for `bytes`.
    pub fn order_for(bytes: usize) -> u32 {
        let mut order = 0;
        while (PAGE_BYTES << order) < bytes {
            order += 1;
        }
        order
    }

    /// Takes `count` buffers of `order` and hands each to `give`, or takes none and returns false.
    pub fn take(&self, order: u32, count: usize, mut give: impl FnMut(Pages)) -> bool {
        let largest = POOL_ORDERS - 1;
        let mut stock = self.stock.lock();
        let wanted = order as usize;
        let (have, spare) = match (stock.free.get(wanted), stock.free.get(largest)) {
            (Some(list), Some(spare)) => (list.len(), spare.len()),
            _ => return false,
        };
        if have < count {
            let bytes = (count - have) * (PAGE_BYTES << order);
            self.make_room(&mut stock, wanted, bytes);
            let grown = if stock.allocated + bytes <= self.limit_bytes {
                self.grow(&mut stock, order, count - have)
            } else {
                have
            };
            // The reserve consists of the largest buffers; they serve for smaller ones too.
            if grown < count {
                let reserve = if wanted == largest { 0 } else { spare };
                if reserve < count {
                    return false;
                }
                for _ in 0..count {
                    if let Some(pages) = stock.free.get_mut(largest).and_then(|list| list.pop()) {
                        give(pages);
                    }
                }
                return true;
            }
        }
        for _ in 0..count {
            if let Some(pages) = stock.free.get_mut(wanted).and_then(|list| list.pop()) {
                give(pages);
            }
        }
        true
    }

    /// Frees buffers of other orders that nobody uses, so that `bytes` more of `wanted` fit.
    fn make_room(&self, stock: &mut Stock, wanted: usize, bytes: usize) {
        for order in 0..POOL_ORDERS - 1 {
            while order != wanted && stock.allocated + bytes > self.limit_bytes {
                let Some(pages) = stock.free.get_mut(order).and_then(|list| list.pop()) else {
                    break;
                };
                stock.allocated -= pages.len();
            }
        }
    }

    /// Whether no buffer is in use.
    pub fn is_idle(&self) -> bool {
        let stock = self.stock.lock();
        let free: usize = stock
            .free
            .iter()
            .map(|list| list.iter().map(|pages| pages.len()).sum::<usize>())
            .sum();
        free >= stock.allocated
    }

    /// Tries to add `count` buffers; returns how many of the order are in stock then.
    fn grow(&self, stock: &mut Stock, order: u32, count: usize) -> usize {
        for _ in 0..count {
            let Some(mut pages) = Pages::alloc(order, raw::GFP_OPPORTUNISTIC) else {
                break;
            };
            pages.pooled = true;
            stock.allocated += pages.len();
            if let Some(list) = stock.free.get_mut(order as usize) {
                // There is room (see `new`).
                let _ = list.push_within_capacity(pages);
            }
        }
        stock.free.get(order as usize).map_or(0, |list| list.len())
    }

    /// Gives a buffer back. One that came from elsewhere is freed.
    pub fn put(&self, pages: Pages) {
        if !pages.pooled {
            return;
        }
        let order = pages.order() as usize;
        let mut stock = self.stock.lock();
        if let Some(list) = stock.free.get_mut(order) {
            // Without room (buffers that came from elsewhere) it is just freed, after the lock.
            let _surplus = list.push_within_capacity(pages);
        }
    }
}
