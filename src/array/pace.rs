// SPDX-License-Identifier: GPL-2.0

//! Limits of rate of tasks. What follows from them is in `personalities/pace.rs`.
//!
//! Each array has limits of its own; where it has none (0), those for all arrays count, and where there are none of
//! these either, the usual ones.

use crate::block::context;
use crate::personalities::pace::Rates;
use core::sync::atomic::{AtomicU32, Ordering};

/// Limits of rate; 0 is none.
pub(super) struct Limits {
    min_kib: AtomicU32,
    max_kib: AtomicU32,
}

/// Limits for all arrays.
static GENERAL: Limits = Limits::none();

impl Limits {
    pub(super) const fn none() -> Self {
        Self {
            min_kib: AtomicU32::new(0),
            max_kib: AtomicU32::new(0),
        }
    }

    pub(super) fn set(&self, min_kib: u32, max_kib: u32) {
        self.min_kib.store(min_kib, Ordering::Relaxed);
        self.max_kib.store(max_kib, Ordering::Relaxed);
    }

    fn own(&self) -> Rates {
        Rates {
            min_kib: self.min_kib.load(Ordering::Relaxed),
            max_kib: self.max_kib.load(Ordering::Relaxed),
        }
    }

    /// What counts for the array that these are of.
    pub(super) fn in_force(&self) -> Rates {
        self.own().or(GENERAL.own()).or(Rates::USUAL)
    }
}

/// Ticks of a second.
pub(super) fn second() -> u64 {
    context::ticks(1000) as u64
}

/// The tick that a task's pace begins, or goes on, at.
pub(super) fn now() -> u64 {
    context::jiffies() as u64
}

/// Sets the limits for all arrays that have none of their own; 0: the usual one.
pub fn set_general_limits(min_kib: u32, max_kib: u32) {
    GENERAL.set(min_kib, max_kib);
}
