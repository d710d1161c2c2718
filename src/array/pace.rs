// SPDX-License-Identifier: GPL-2.0

//! Limits of rate of tasks. What follows from them is in `personalities/pace.rs`.
//!
//! Each array has limits of its own; where it has none (0), those for all arrays count.

use crate::block::context;
use crate::personalities::pace::{Pace, Rates, Speed};
use core::sync::atomic::{AtomicU32, Ordering};

/// Limits of rate; 0 is none.
pub(super) struct Limits {
    min_kib: AtomicU32,
    max_kib: AtomicU32,
}

/// What a task of any array gets beside busy users, as long as nobody says otherwise.
const MIN_KIB_DEFAULT: u32 = 1000;

/// Limits for all arrays.
static GENERAL: Limits = Limits {
    min_kib: AtomicU32::new(MIN_KIB_DEFAULT),
    max_kib: AtomicU32::new(0),
};

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

    fn effective(&self) -> Rates {
        let pick = |own: &AtomicU32, general: &AtomicU32| match own.load(Ordering::Relaxed) {
            0 => general.load(Ordering::Relaxed),
            own => own,
        };
        Rates {
            min_kib: pick(&self.min_kib, &GENERAL.min_kib),
            max_kib: pick(&self.max_kib, &GENERAL.max_kib),
        }
    }

    /// How fast the task that `pace` is of may go on.
    pub(super) fn speed(&self, pace: &mut Pace, is_busy: bool) -> Speed {
        let second = context::ticks(1000) as u64;
        pace.speed(now(), second, self.effective(), is_busy)
    }
}

/// The tick that a task's pace begins, or goes on, at.
pub(super) fn now() -> u64 {
    context::jiffies() as u64
}

/// Sets the limits for all arrays that have none of their own.
pub fn set_general_limits(min_kib: u32, max_kib: u32) {
    GENERAL.set(min_kib, max_kib);
}
