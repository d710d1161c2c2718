// SPDX-License-Identifier: GPL-2.0

//! How fast tasks go: limits of rate, and making room for users.
//!
//! Rates are in KiB/s of each member. A task of an array that users are busy with goes slowly, but at
//! least at the lower limit; it never goes faster than the upper one. Each array has limits of its
//! own; where it has none (0), those for all arrays count.

use crate::block::context;
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

    fn effective(&self) -> (u32, u32) {
        let pick = |own: &AtomicU32, general: &AtomicU32| match own.load(Ordering::Relaxed) {
            0 => general.load(Ordering::Relaxed),
            own => own,
        };
        (
            pick(&self.min_kib, &GENERAL.min_kib),
            pick(&self.max_kib, &GENERAL.max_kib),
        )
    }
}

/// Sets the limits for all arrays that have none of their own.
pub fn set_general_limits(min_kib: u32, max_kib: u32) {
    GENERAL.set(min_kib, max_kib);
}

/// How long rates are taken over before counting starts anew.
const SLICE_MS: u32 = 1000;

/// What a task sent in the present slice of time.
pub(super) struct Pace {
    since: u64,
    sent_sectors: u64,
}

/// What a task may do next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speed {
    /// As fast as it goes.
    Full,
    /// Slowly: users are busy, and it has had its least.
    Gentle,
    /// Nothing for now.
    Rest,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            since: context::jiffies() as u64,
            sent_sectors: 0,
        }
    }

    /// Counts a lane that is sent.
    pub(super) fn count(&mut self, sectors: u32) {
        self.sent_sectors = self.sent_sectors.saturating_add(u64::from(sectors));
    }

    /// How fast to go on now.
    pub(super) fn speed(&mut self, limits: &Limits, is_busy: bool) -> Speed {
        let now = context::jiffies() as u64;
        let mut ticks = now.wrapping_sub(self.since);
        let second = (context::ticks(SLICE_MS) as u64).max(1);
        if ticks >= second {
            (self.since, self.sent_sectors, ticks) = (now, 0, 0);
        }
        let (min_kib, max_kib) = limits.effective();
        // What a rate allows up to now; a tick ahead, so that there is a start.
        let allowed = |kib: u32| (u64::from(kib) * 2).saturating_mul(ticks + 1) / second;
        if max_kib != 0 && self.sent_sectors > allowed(max_kib) {
            Speed::Rest
        } else if is_busy && self.sent_sectors > allowed(min_kib) {
            Speed::Gentle
        } else {
            Speed::Full
        }
    }
}
