// SPDX-License-Identifier: GPL-2.0

//! Whether users do I/O, for tasks that are to make room for them.
//!
//! An array is busy while users' I/O is in flight, and for a moment after some came or ended. In flight counts by
//! itself: what waits long for a slow disk, behind what a task has sent there, must not look like quiet.
//!
//! No lock: counters and ticks, read as hints.

use super::{Array, ArrayPass};
use crate::block::context;
use crate::block::gate::Gated;
use crate::personalities::counters::Counters;
use core::sync::atomic::{AtomicU64, Ordering};

/// Users' I/O on an array.
pub(super) struct Users {
    /// I/Os that began, less those that ended, on each CPU. One may end on another than it began on, so only the sum,
    /// which wraps, says anything.
    in_flight: Counters,
    /// The tick in which one began or ended last.
    last: AtomicU64,
}

impl Users {
    pub(super) const fn new() -> Self {
        Self {
            in_flight: Counters::new(),
            last: AtomicU64::new(0),
        }
    }

    fn counter(&self) -> &AtomicU64 {
        self.in_flight.at(context::cpu_hint())
    }

    fn begins(&self) {
        self.counter().fetch_add(1, Ordering::Relaxed);
    }

    fn ends(&self) {
        self.counter().fetch_sub(1, Ordering::Relaxed);
    }

    fn is_any_in_flight(&self) -> bool {
        let counts = self.in_flight.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add) != 0
    }
}

impl Array {
    /// A user's I/O begins. Any context.
    pub(super) fn users_io_begins(pass: &ArrayPass) {
        pass.users.begins();
        Self::touch(pass);
    }

    /// It ends. Any context.
    pub(super) fn users_io_ends(pass: &ArrayPass) {
        pass.users.ends();
        Self::touch(pass);
    }

    /// Notes that users' I/O came by, at the price of writes only once a tick: here, and at the members, for the tasks of
    /// other arrays that have them too.
    fn touch(pass: &ArrayPass) {
        let now = context::jiffies() as u64;
        if pass.users.last.load(Ordering::Relaxed) != now {
            pass.users.last.store(now, Ordering::Relaxed);
            pass.table().note_use(now);
        }
    }

    /// Whether users do I/O, or did at most `within_ms` ago; on this array, or, as far as some came or ended then, on others
    /// that have disks in common with it.
    pub(super) fn is_busy(this: &Gated<Self>, within_ms: u32) -> bool {
        let (now, ticks) = (context::jiffies() as u64, context::ticks(within_ms) as u64);
        let last = this.users.last.load(Ordering::Relaxed);
        now.wrapping_sub(last) <= ticks
            || this.users.is_any_in_flight()
            || this
                .enter()
                .is_some_and(|pass| pass.table().was_used(now, ticks))
    }
}
