// SPDX-License-Identifier: GPL-2.0

//! Whether writes are in flight: a count of them, apart from what else is inside of an array.
//!
//! Who looks holds nobody up: what he needs is that a write which he does not see has not looked yet at what he
//! has changed before. So a write is counted first, and then looks whether it may go on; and he changes
//! that first, and then looks at the counts:
//!
//! ```text
//!   write                                  the set's worker
//!     count()                                mark := CLEANING
//!     mark = DIRTY?  goes on                 are_none()?  nothing is in flight, and nothing gets by
//!     else: waits, uncount()                 else: mark := DIRTY again
//! ```
//!
//! All of that is sequentially consistent, so at least one of the two sees the other. A counter that was seen as zero after
//! the change may be counted up again only by who sees the change, and does not go on: they may be looked at one
//! after the other.
//!
//! Under a load that never ends are_none() is never true. So writes are counted in *rounds*: when all of the former round
//! have ended ([`Writers::former_are_none`]), whatever is in flight began in the present one. Of rounds only odd and even
//! ones are told apart, which is enough as the next one begins only then.

use super::counters::{Counters, COUNTERS};
use core::sync::atomic::{AtomicU64, Ordering};

/// Writes in flight.
///
/// # Invariants
///
/// * A write counts on one counter of its round, from [`Writers::count`] to [`Writers::uncount`].
/// * Who is counted for good (`count` has returned) had counted itself before the next round began: it looks at the round
///   again once it has. So when the counters of the former round are zero they stay so, but for those who are about to see
///   that it is over and count themselves in the present one.
pub struct Writers {
    /// Of even rounds and of odd ones.
    counters: [Counters; 2],
    round: AtomicU64,
}

/// Where a write counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    counter: u8,
    /// Whether its round is an odd one.
    pub in_odd_round: bool,
}

impl Default for Writers {
    fn default() -> Self {
        Self::new()
    }
}

impl Writers {
    /// Nobody.
    pub const fn new() -> Self {
        Self {
            counters: [const { Counters::new() }; 2],
            round: AtomicU64::new(0),
        }
    }

    fn round(&self, is_odd: bool) -> &Counters {
        let [even, odd] = &self.counters;
        match is_odd {
            false => even,
            true => odd,
        }
    }

    /// The counter of that number, or of the one that shares it.
    fn counter(&self, is_odd: bool, nth: u8) -> &AtomicU64 {
        self.round(is_odd).at(usize::from(nth))
    }

    /// Counts a write, before it looks whether it may go on. Writes with different `hint`s (the CPU's number) do not get in
    /// each other's way.
    pub fn count(&self, hint: usize) -> Counted {
        let counter = (hint % COUNTERS) as u8;
        loop {
            let round = self.round.load(Ordering::SeqCst);
            let in_odd_round = round % 2 == 1;
            let count = self.counter(in_odd_round, counter);
            count.fetch_add(1, Ordering::SeqCst);
            if self.round.load(Ordering::SeqCst) == round {
                return Counted {
                    counter,
                    in_odd_round,
                };
            }
            // The next one has begun in between, and whoever began it may not have seen us.
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// It has ended, or does not go on.
    pub fn uncount(&self, counted: Counted) {
        self.counter(counted.in_odd_round, counted.counter)
            .fetch_sub(1, Ordering::SeqCst);
    }

    fn are_none_in(&self, is_odd: bool) -> bool {
        self.round(is_odd)
            .iter()
            .all(|counter| counter.load(Ordering::SeqCst) == 0)
    }

    /// Whether no write is in flight, of those that went on before what the caller has changed.
    pub fn are_none(&self) -> bool {
        self.are_none_in(false) && self.are_none_in(true)
    }

    /// Whether all writes of the former round have ended.
    pub fn former_are_none(&self) -> bool {
        self.are_none_in(!self.is_odd_round())
    }

    /// Whether the present round is an odd one. For who begins rounds.
    pub fn is_odd_round(&self) -> bool {
        self.round.load(Ordering::SeqCst) % 2 == 1
    }

    /// Begins the next round. By one at a time, and only when [`Writers::former_are_none`].
    pub fn begin_round(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
    }
}
