// SPDX-License-Identifier: GPL-2.0

//! What all sets use.

use super::{turns, Options};
use crate::block::context;
use crate::block::queue::{Kind, WorkQueue};
use crate::control::EventRing;
use crate::model::{Checked, Identity, Text};
use crate::reason;
use crate::uapi::{EventKind, EventRecord};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, Mutex};

/// Most arrays that run at once.
const NUMBERS_MAX: u32 = 4096;
const NUMBER_WORDS: usize = (NUMBERS_MAX / 64) as usize;

/// What all sets use.
#[pin_data]
pub struct Shared {
    /// The module, which open arrays keep loaded.
    pub module: &'static ThisModule,
    /// Options.
    pub options: Options,
    /// Where events for people go.
    pub events: Arc<EventRing>,
    /// Where the sets' recorders run, and nothing else: when memory is short one thread does all the work of a
    /// queue, and writes wait for these.
    pub recorders: WorkQueue,
    /// Where their keepers run.
    pub keepers: WorkQueue,
    /// The machine is about to end: what can be recorded as clean is, without waiting for quiet time.
    pub ending: AtomicBool,
    /// And nothing is recorded any more.
    pub ended: AtomicBool,
    /// The machine hibernates: no set becomes active.
    pub hibernates: AtomicBool,
    #[pin]
    numbers: Mutex<[u64; NUMBER_WORDS]>,
    /// What tasks are at work on.
    #[pin]
    pub(super) turns: Mutex<KVec<turns::Entry>>,
    #[pin]
    clock: Mutex<ClockState>,
    #[pin]
    clock_changed: CondVar,
}

/// When the clock rings next.
struct ClockState {
    stop: bool,
    due: Option<u64>,
}

impl Shared {
    /// Refuses to have a set active while the machine hibernates.
    pub fn check_awake(&self) -> Checked {
        match self.hibernates.load(Ordering::SeqCst) {
            true => Err(reason!(EBUSY, "the machine is about to hibernate")),
            false => Ok(()),
        }
    }

    /// How long no write may have come when an array is recorded as clean.
    pub fn quiet_ms(&self) -> u32 {
        match self.ending.load(Ordering::Acquire) {
            true => 0,
            false => self.options.clean_quiet_ms,
        }
    }
}

/// Ticks since boot.
pub fn now() -> u64 {
    context::jiffies() as u64
}

/// Ticks in so many milliseconds.
pub fn ticks(milliseconds: u32) -> u64 {
    context::ticks(milliseconds) as u64
}

impl Shared {
    /// Allocates.
    pub fn new(
        module: &'static ThisModule,
        options: Options,
        events: Arc<EventRing>,
    ) -> Result<Arc<Self>> {
        let recorders = WorkQueue::new(c"emd_record", Kind::Unbound)?;
        let keepers = WorkQueue::new(c"emd_keep", Kind::Unbound)?;
        Arc::pin_init(
            pin_init!(Self {
                module,
                options,
                events,
                recorders,
                keepers,
                ending: AtomicBool::new(false),
                ended: AtomicBool::new(false),
                hibernates: AtomicBool::new(false),
                numbers <- new_mutex!([0; NUMBER_WORDS], "emd_numbers"),
                turns <- new_mutex!(KVec::new(), "emd_turns"),
                clock <- new_mutex!(ClockState { stop: false, due: None }, "emd_clock"),
                clock_changed <- new_condvar!("emd_clock"),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets the clock ring in so many milliseconds, or earlier. It knows the next time only: who is
    /// woken too early has to wish again.
    pub fn wish(&self, milliseconds: u32) {
        self.wish_at(now() + ticks(milliseconds));
    }

    /// Lets the clock ring at that tick, or earlier.
    pub fn wish_at(&self, at: u64) {
        let mut clock = self.clock.lock();
        if clock.due.is_none_or(|due| at < due) {
            clock.due = Some(at);
            self.clock_changed.notify_all();
        }
    }

    /// Ends the clock.
    pub fn stop_clock(&self) {
        self.clock.lock().stop = true;
        self.clock_changed.notify_all();
    }

    /// Sleeps until the clock rings. False when it was ended.
    pub fn wait_for_ring(&self) -> bool {
        let mut clock = self.clock.lock();
        loop {
            if clock.stop {
                return false;
            }
            match clock.due {
                Some(due) => {
                    let left = due.saturating_sub(now());
                    if left == 0 {
                        clock.due = None;
                        return true;
                    }
                    let _ = self
                        .clock_changed
                        .wait_interruptible_timeout(&mut clock, left as c_ulong);
                }
                None => {
                    let _ = self.clock_changed.wait_interruptible(&mut clock);
                }
            }
        }
    }

    /// Posts an event about a set, after `fill` completed it.
    pub fn post(&self, kind: EventKind, set: &Identity, fill: impl FnOnce(&mut EventRecord)) {
        self.events.post_with(kind, |event| {
            event.set_id = set.digest();
            fill(event);
        });
    }

    /// Posts a text about a set, and says it in the kernel's log too.
    #[inline(never)]
    pub fn say(&self, kind: EventKind, set: &Identity, text: fmt::Arguments<'_>) {
        log!(pr_notice, "{text}");
        self.post(kind, set, |event| event.text = Text::from_fmt(text));
    }
}

/// N of `/dev/emdN`, taken. Free again when dropped.
pub struct Number {
    shared: Arc<Shared>,
    number: u32,
}

impl Number {
    /// Takes the smallest free one.
    pub fn take(shared: &Arc<Shared>) -> Checked<Self> {
        let mut numbers = shared.numbers.lock();
        for (place, word) in (0u32..).zip(numbers.iter_mut()) {
            let bit = word.trailing_ones();
            if bit < 64 {
                *word |= 1 << bit;
                return Ok(Self {
                    shared: shared.clone(),
                    number: place * 64 + bit,
                });
            }
        }
        Err(reason!(
            ENOSPC,
            "{} arrays are running, which is the most there can be",
            NUMBERS_MAX
        ))
    }

    /// N.
    pub fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let mut numbers = self.shared.numbers.lock();
        if let Some(word) = numbers.get_mut((self.number / 64) as usize) {
            *word &= !(1 << (self.number % 64));
        }
    }
}
