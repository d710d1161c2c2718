// SPDX-License-Identifier: GPL-2.0

//! How a task gets on, for people: its rate, and how long it will still take.
//!
//! Both are averages since the task began, was let go after a pause, or got other limits: what was before says
//! nothing of how fast it is now. Nor does what a task leaves out. Time is in ticks of any clock that may wrap; marks are those of a [`Walk`].

use super::pace::Rates;
use super::walk::Walk;

/// Since when a task is measured, and from which mark on.
#[derive(Clone, Copy, Debug)]
pub struct Headway {
    since: u64,
    from_sectors: u64,
    rates: Rates,
    /// It left something out: there may be more to leave out, so nobody knows how much is left.
    skips: bool,
}

/// What is said of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Estimate {
    /// KiB/s of each member.
    pub rate_kib: u32,
    /// Seconds left; `None` while nothing is known, and once something was left out.
    pub eta_seconds: Option<u32>,
}

impl Headway {
    /// Of a task that begins at tick `now` and mark `from_sectors`, under these limits.
    pub fn new(now: u64, from_sectors: u64, rates: Rates) -> Self {
        Self {
            since: now,
            from_sectors,
            rates,
            skips: false,
        }
    }

    /// The task was let go after a pause: it is measured from here on.
    pub fn begin(&mut self, now: u64, from_sectors: u64) {
        (self.since, self.from_sectors) = (now, from_sectors);
    }

    /// The mark went on by `sectors` for which there was nothing to do.
    pub fn skip(&mut self, sectors: u64) {
        self.from_sectors = self.from_sectors.saturating_add(sectors);
        self.skips |= sectors != 0;
    }

    /// These limits are in force: if they are new, the task is measured from here on. `mark` is how far it is.
    pub fn under(&mut self, rates: Rates, now: u64, mark: impl FnOnce() -> u64) {
        if self.rates != rates {
            self.begin(now, mark());
            self.rates = rates;
        }
    }

    /// What can be said at tick `now` of a task that has come to the mark `done` of `total`. A second has `second`
    /// ticks.
    pub fn estimate(&self, now: u64, second: u64, walk: &Walk, done: u64, total: u64) -> Estimate {
        let ticks = now.wrapping_sub(self.since).max(1);
        let each_second = |sectors: u64| {
            let speed = sectors.saturating_mul(second.max(1));
            speed.checked_div(ticks).unwrap_or(0)
        };
        let moved = done.saturating_sub(self.from_sectors);
        let rate_kib = each_second(walk.of_each_member(moved)) / 2;
        let left = (!self.skips).then(|| total.saturating_sub(done));
        Estimate {
            rate_kib: u32::try_from(rate_kib).unwrap_or(u32::MAX),
            eta_seconds: left
                .and_then(|left| left.checked_div(each_second(moved)))
                .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
        }
    }
}
