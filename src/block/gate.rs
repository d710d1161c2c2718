// SPDX-License-Identifier: GPL-2.0

//! A gate in front of an object: many may be inside at almost no cost, and it can be closed and
//! waited on until nobody is. What changes only while nobody is inside is kept in a *table* that
//! those inside read without a lock.
//!
//! The count is spread over cache lines by CPU, so that passing costs one uncontended atomic.
//!
//! Passes of writes may be counted apart besides ([`Pass::count_as_writer`]).

use super::context;
use crate::personalities::counters::{Counters, COUNTERS};
use crate::personalities::writers::{Counted, Writers};
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;

/// An object that can stand behind a gate.
pub trait Behind: Send + Sync + 'static {
    /// What changes only while nobody is inside.
    type Table: Send + Sync + 'static;
}

/// `T` behind a gate.
///
/// # Invariants
///
/// * The sum of `counters` is the number of [`Pass`]es (and of calls of [`Gated::enter`] that are
///   about to find the gate closed). Each pass counts on one counter from its creation to its drop,
///   so no counter ever goes below zero.
/// * Once the gate is closed, a counter that has reached zero stays there (but for calls of
///   [`Gated::enter`]): new passes come only from [`Pass::again`], on the counter of the old one.
/// * `table` is read only by holders of a pass, and written only by the holder of [`Drained`], of
///   which there is at most one, and none while a pass exists.
#[pin_data(PinnedDrop)]
pub struct Gated<T: Behind> {
    counters: Counters,
    writers: Writers,
    closed: AtomicBool,
    table: UnsafeCell<T::Table>,
    #[pin]
    inner: T,
}

// SAFETY: `T` and its table are `Send` and `Sync`; access to the table follows the invariants.
unsafe impl<T: Behind> Send for Gated<T> {}
// SAFETY: As above.
unsafe impl<T: Behind> Sync for Gated<T> {}

/// Leave to be inside. While it lives the gated object does.
///
/// # Invariants
///
/// `gated` is valid: [`Gated`] waits in its drop until no pass exists.
pub struct Pass<T: Behind> {
    gated: NonNull<Gated<T>>,
    counter: u32,
    /// It counts among the writers, too.
    writer: Option<Counted>,
}

// SAFETY: A pass is a shared reference to `Gated<T>`, which is `Sync`.
unsafe impl<T: Behind> Send for Pass<T> {}
// SAFETY: As above.
unsafe impl<T: Behind> Sync for Pass<T> {}

/// Nobody is inside, and nobody comes in while this lives.
pub struct Drained<'a, T: Behind> {
    gated: &'a Gated<T>,
}

impl<T: Behind> Gated<T> {
    /// An open gate in front of `inner`.
    pub fn init<E>(inner: impl PinInit<T, E>, table: T::Table) -> impl PinInit<Self, E>
    where
        E: From<core::convert::Infallible>,
    {
        pin_init::pin_init!(Self {
            counters: Counters::new(),
            writers: Writers::new(),
            closed: AtomicBool::new(false),
            table: UnsafeCell::new(table),
            inner <- inner,
        }? E)
    }

    fn counter(&self, nth: u32) -> &AtomicU64 {
        self.counters.at(nth as usize)
    }

    fn count_in(&self, counter: u32) -> Pass<T> {
        self.counter(counter).fetch_add(1, Ordering::SeqCst);
        // INVARIANT: Counted just now.
        Pass {
            gated: NonNull::from(self),
            counter,
            writer: None,
        }
    }

    /// The passes that are counted as writers'.
    pub fn writers(&self) -> &Writers {
        &self.writers
    }

    /// Goes in, unless the gate is closed.
    pub fn enter(&self) -> Option<Pass<T>> {
        let pass = self.count_in((context::cpu_hint() % COUNTERS) as u32);
        // Sequentially consistent on both sides: either we see the gate closed, or whoever closed it
        // sees our count.
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        Some(pass)
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether nobody is inside. Says little while the gate is open.
    pub fn is_empty(&self) -> bool {
        self.counters
            .iter()
            .all(|counter| counter.load(Ordering::SeqCst) == 0)
    }

    /// Closes the gate and sleeps until nobody is inside. Opens it again and returns `None` when
    /// `give_up` says so, or when somebody else has it closed.
    pub fn try_drain(&self, give_up: impl Fn() -> bool) -> Option<Drained<'_, T>> {
        context::may_sleep();
        if self.closed.swap(true, Ordering::SeqCst) {
            return None;
        }
        // From here on the gate opens again when this is dropped. Its promise (nobody is inside)
        // holds once the loop has ended; until then nobody gets to see it.
        let drained = Drained { gated: self };
        let mut pause_us = 50;
        while !self.is_empty() {
            if give_up() {
                return None;
            }
            context::sleep_us(pause_us);
            pause_us = (pause_us * 2).min(2000);
        }
        Some(drained)
    }
}

impl<T: Behind> Deref for Gated<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

#[pinned_drop]
impl<T: Behind> PinnedDrop for Gated<T> {
    fn drop(self: Pin<&mut Self>) {
        context::may_sleep();
        // Upholds the invariant of `Pass`.
        self.closed.store(true, Ordering::SeqCst);
        while !self.is_empty() {
            context::sleep_us(1000);
        }
    }
}

impl<T: Behind> Drained<'_, T> {
    /// The table, for changes.
    pub fn table_mut(&mut self) -> &mut T::Table {
        // SAFETY: By the invariants of `Gated` no pass exists, and this is the only `Drained`.
        unsafe { &mut *self.gated.table.get() }
    }

    /// Leaves the gate closed for good.
    pub fn keep_closed(self) {
        core::mem::forget(self);
    }
}

impl<T: Behind> Drop for Drained<'_, T> {
    fn drop(&mut self) {
        self.gated.closed.store(false, Ordering::SeqCst);
    }
}

impl<T: Behind> Pass<T> {
    /// Another pass to the same object. Works also while the gate is being closed: who is inside
    /// may bring in more work of his own.
    ///
    /// It counts where this one does. On another counter, `is_empty`, which looks at one after the
    /// other, could miss both: the new one already looked at, this one gone when it gets there.
    pub fn again(&self) -> Pass<T> {
        self.gated().count_in(self.counter)
    }

    /// Counts it as a writer's as well, until it is dropped; not those made from it. Gives where it counts.
    pub fn count_as_writer(&mut self) -> Counted {
        if let Some(counted) = self.writer {
            return counted;
        }
        let counted = self.gated().writers.count(self.counter as usize);
        self.writer = Some(counted);
        counted
    }

    /// The gated object with its gate.
    pub fn gated(&self) -> &Gated<T> {
        // SAFETY: By the type invariant.
        unsafe { self.gated.as_ref() }
    }

    /// The table.
    pub fn table(&self) -> &T::Table {
        // SAFETY: A pass exists, so by the invariants of `Gated` nobody writes the table.
        unsafe { &*self.gated().table.get() }
    }
}

impl<T: Behind> Deref for Pass<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.gated().inner
    }
}

impl<T: Behind> Drop for Pass<T> {
    fn drop(&mut self) {
        let gated = self.gated();
        if let Some(counted) = self.writer {
            gated.writers.uncount(counted);
        }
        // The last access to the object: after it, the waiter may free it.
        gated.counter(self.counter).fetch_sub(1, Ordering::SeqCst);
    }
}
