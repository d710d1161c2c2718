// SPDX-License-Identifier: GPL-2.0

//! How fast a task may go: what limits of rate leave it, and room for users.
//!
//! Rates are in KiB/s of each member, so that twice as many are sectors. A task of an array that users are
//! busy with goes slowly, but at least at the lower limit; it never goes faster than the upper one. Lanes are
//! sent whole, so one that is larger than what the upper limit allows in a while is *owed*: the task rests
//! until it is paid for, however long that takes. What was not used is not saved up.

use super::walk::Share;
use core::num::NonZeroU64;

/// Limits of rate, in KiB/s of each member; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// What a task gets beside busy users.
    pub min_kib: u32,
    /// What it never exceeds.
    pub max_kib: u32,
}

impl Rates {
    /// No limits.
    pub const NONE: Self = Self {
        min_kib: 0,
        max_kib: 0,
    };

    /// What counts as long as nobody says otherwise.
    pub const USUAL: Self = Self {
        min_kib: 1000,
        max_kib: 0,
    };

    /// These, and `others` where there are none.
    pub fn or(self, others: Self) -> Self {
        let pick = |own, other| if own == 0 { other } else { own };
        Self {
            min_kib: pick(self.min_kib, others.min_kib),
            max_kib: pick(self.max_kib, others.max_kib),
        }
    }
}

/// What a task may do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speed {
    /// As fast as it goes.
    Full,
    /// Slowly: users are busy, and it has had its least.
    Gentle,
    /// Nothing for now.
    Rest,
}

/// What a task sent, and owes. Time is in ticks of any clock that may wrap; counting starts anew every
/// second.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    since: u64,
    sent_sectors: u64,
    /// What is less than a sector of each member: so many parts of those that [`Share::among`] makes of one.
    sent_parts: u64,
    owed_sectors: u64,
    /// The upper limit that the counts are of.
    max_kib: u32,
}

/// Sectors that a rate allows in `ticks`.
fn allowed(kib: u32, ticks: u64, second: u64) -> u64 {
    (u64::from(kib) * 2).saturating_mul(ticks) / second.max(1)
}

impl Pace {
    /// Of a task that begins at tick `now`.
    pub fn new(now: u64) -> Self {
        Self {
            since: now,
            sent_sectors: 0,
            sent_parts: 0,
            owed_sectors: 0,
            max_kib: 0,
        }
    }

    /// Counts a lane of `sectors` that is sent, `share` of which is of each member: the same in all of a task.
    pub fn count(&mut self, sectors: u32, share: Share) {
        let among = NonZeroU64::from(share.among);
        let parts = u64::from(sectors)
            .saturating_mul(u64::from(share.of))
            .saturating_add(self.sent_parts);
        self.sent_sectors = self.sent_sectors.saturating_add(parts / among);
        self.sent_parts = parts % among;
    }

    /// How fast to go on at tick `now`; a second has `second` ticks.
    pub fn speed(&mut self, now: u64, second: u64, rates: Rates, is_busy: bool) -> Speed {
        let Rates { min_kib, max_kib } = rates;
        if self.max_kib != max_kib {
            // Nothing is owed for what was sent under another limit.
            *self = Self::new(now);
            self.max_kib = max_kib;
        }
        let mut ticks = now.wrapping_sub(self.since);
        if ticks >= second.max(1) {
            self.owed_sectors = match max_kib {
                0 => 0,
                _ => self.used().saturating_sub(allowed(max_kib, ticks, second)),
            };
            (self.since, self.sent_sectors, ticks) = (now, 0, 0);
        }
        // A tick ahead, so that there is a start.
        let up_to_now = |kib| allowed(kib, ticks.saturating_add(1), second);
        if max_kib != 0 && self.used() > up_to_now(max_kib) {
            Speed::Rest
        } else if is_busy && self.sent_sectors > up_to_now(min_kib) {
            Speed::Gentle
        } else {
            Speed::Full
        }
    }

    /// What counts against the upper limit.
    fn used(&self) -> u64 {
        self.owed_sectors.saturating_add(self.sent_sectors)
    }
}
