// SPDX-License-Identifier: GPL-2.0

//! Which lanes have entries in the log, and which may have data in a member's cache.
//!
//! Lanes share counters by number: one that is taken for another costs a void entry or a flush too
//! many, never one too few.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;

/// Counters; a power of two.
const BUCKETS: usize = 4096;

/// What is known of lanes.
#[derive(Debug)]
pub struct Watch {
    /// Entries on any member, by bucket.
    entries: KVec<AtomicU32>,
    /// The number of the flush that makes the last write to a lane of the bucket durable.
    written: KVec<AtomicU64>,
    /// The number of the next flush, and of the last that came to its end.
    next_flush: AtomicU64,
    flushed: AtomicU64,
    /// Members have no volatile caches: what is written is durable.
    durable: AtomicBool,
}

impl Watch {
    /// Nothing logged, nothing written. `durable`: no member has a volatile cache. Allocates.
    pub fn new(durable: bool) -> Result<Self> {
        let mut entries = KVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        let mut written = KVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        for _ in 0..BUCKETS {
            entries.push(AtomicU32::new(0), GFP_KERNEL)?;
            written.push(AtomicU64::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            entries,
            written,
            next_flush: AtomicU64::new(1),
            flushed: AtomicU64::new(0),
            durable: AtomicBool::new(durable),
        })
    }

    fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }

    /// A member with a volatile cache joined: all that was written counts as not flushed.
    pub fn not_durable(&self) {
        self.durable.store(false, Ordering::Release);
    }

    /// The bucket of a lane.
    pub fn bucket(&self, lane: u64) -> u16 {
        ((lane ^ (lane >> 12)) & (BUCKETS as u64 - 1)) as u16
    }

    /// An entry was put into the log.
    pub fn entry_put(&self, bucket: u16) {
        if let Some(count) = self.entries.get(usize::from(bucket)) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// An entry is overwritten.
    pub fn entry_gone(&self, bucket: u16) {
        if let Some(count) = self.entries.get(usize::from(bucket)) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether the log may have an entry for a lane of the bucket.
    pub fn has_entry(&self, bucket: u16) -> bool {
        self.entries
            .get(usize::from(bucket))
            .is_none_or(|count| count.load(Ordering::Acquire) > 0)
    }

    /// A lane of the bucket is about to be written, or was: call before the writes are sent, and after
    /// the last is back.
    pub fn lane_written(&self, bucket: u16) {
        let flush = self.next_flush.load(Ordering::Acquire);
        if let Some(last) = self.written.get(usize::from(bucket)) {
            last.fetch_max(flush, Ordering::AcqRel);
        }
    }

    /// Whether what was written to lanes of the bucket may be in a cache.
    pub fn is_unflushed(&self, bucket: u16) -> bool {
        !self.is_durable()
            && self
                .written
                .get(usize::from(bucket))
                .is_none_or(|last| last.load(Ordering::Acquire) > self.flushed())
    }

    /// The number of the flush that makes durable what is through by now.
    pub fn next_flush(&self) -> u64 {
        self.next_flush.load(Ordering::Acquire)
    }

    /// The last flush that came to its end; without volatile caches, every one.
    pub fn flushed(&self) -> u64 {
        if self.is_durable() {
            return u64::MAX;
        }
        self.flushed.load(Ordering::Acquire)
    }

    /// All members are about to be flushed: the number of that flush.
    pub fn flush_begins(&self) -> u64 {
        self.next_flush.fetch_add(1, Ordering::AcqRel)
    }

    /// That flush came to its end, on all members.
    pub fn flush_ended(&self, number: u64) {
        self.flushed.fetch_max(number, Ordering::AcqRel);
    }
}
