// SPDX-License-Identifier: GPL-2.0

//! A gate in front of an object: many may be inside at almost no cost, and it can be closed and
//! waited on until nobody is.
//!
//! The count is spread over cache lines by CPU, so that passing costs one uncontended atomic.

use super::context;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number of counters; more CPUs than that share.
const COUNTERS: usize = 16;

#[repr(align(64))]
struct Counter(AtomicU64);

/// `T` behind a gate.
///
/// # Invariants
///
/// The sum of `counters` is the number of [`Pass`]es that exist. Each pass counts on one counter
/// from its creation to its drop, so no counter ever goes below zero.
pub struct Gated<T> {
    counters: [Counter; COUNTERS],
    closed: AtomicBool,
    inner: T,
}

/// Leave to be inside. While it lives the gated object does.
///
/// # Invariants
///
/// `gated` is valid: [`Gated`] waits in its drop until no pass exists.
pub struct Pass<T> {
    gated: NonNull<Gated<T>>,
    counter: usize,
}

// SAFETY: A pass is a shared reference to `Gated<T>`, which is `Sync` when `T` is.
unsafe impl<T: Sync> Send for Pass<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for Pass<T> {}

impl<T> Gated<T> {
    /// An open gate in front of `inner`.
    pub fn new(inner: T) -> Self {
        Self {
            counters: [const { Counter(AtomicU64::new(0)) }; COUNTERS],
            closed: AtomicBool::new(false),
            inner,
        }
    }

    /// Goes in, unless the gate is closed.
    pub fn enter(&self) -> Option<Pass<T>> {
        let pass = self.force_enter();
        // Sequentially consistent on both sides: either we see the gate closed, or whoever closed it
        // sees our count.
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        Some(pass)
    }

    /// Goes in even when the gate is closed. For work that somebody who waits for the gate to drain
    /// depends on, or does himself.
    pub fn force_enter(&self) -> Pass<T> {
        let counter = context::cpu_hint() % COUNTERS;
        self.counters[counter].0.fetch_add(1, Ordering::SeqCst);
        // INVARIANT: Counted just now.
        Pass {
            gated: NonNull::from(self),
            counter,
        }
    }

    /// Closes the gate.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Opens it again.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether nobody is inside. Exact only while the gate is closed.
    pub fn is_empty(&self) -> bool {
        self.counters
            .iter()
            .all(|counter| counter.0.load(Ordering::SeqCst) == 0)
    }

    /// Sleeps until nobody is inside. Call with the gate closed.
    pub fn wait_empty(&self) {
        let mut pause_us = 50;
        while !self.is_empty() {
            context::sleep_us(pause_us);
            pause_us = (pause_us * 2).min(2000);
        }
    }
}

impl<T> Deref for Gated<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Drop for Gated<T> {
    fn drop(&mut self) {
        // Upholds the invariant of `Pass`.
        self.close();
        self.wait_empty();
    }
}

impl<T> Pass<T> {
    /// Another pass to the same object. Works also while the gate is closed: who is inside may
    /// bring in more work of his own.
    pub fn again(&self) -> Pass<T> {
        self.gated().force_enter()
    }

    /// The gated object with its gate.
    pub fn gated(&self) -> &Gated<T> {
        // SAFETY: By the type invariant.
        unsafe { self.gated.as_ref() }
    }
}

impl<T> Deref for Pass<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.gated().inner
    }
}

impl<T> Drop for Pass<T> {
    fn drop(&mut self) {
        let gated = self.gated();
        // The last access to the object: after it, the waiter may free it.
        gated.counters[self.counter].0.fetch_sub(1, Ordering::SeqCst);
    }
}
