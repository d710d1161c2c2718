// SPDX-License-Identifier: GPL-2.0

//! A count spread over cache lines, so that CPUs which count at the same time do not get in each other's way.
//!
//! In which order its loads and stores come is up to who counts.

use core::sync::atomic::AtomicU64;

/// Number of counters; more CPUs than that share.
pub const COUNTERS: usize = 16;

#[repr(align(64))]
struct Counter(AtomicU64);

/// Counters, of which only the sum says anything.
pub struct Counters([Counter; COUNTERS]);

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; COUNTERS])
    }

    /// The counter of that number (a CPU's, say), or of the one that shares it.
    pub fn at(&self, nth: usize) -> &AtomicU64 {
        &self.0[nth % COUNTERS].0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter().map(|counter| &counter.0)
    }
}
