// SPDX-License-Identifier: GPL-2.0

//! The ring of events: posted from any context, read by any number of files.

use crate::uapi::{EventKind, EventLog, EventRecord, EventsReply};
use kernel::new_poll_condvar;
use kernel::prelude::*;
use kernel::sync::poll::PollCondVar;
use kernel::sync::{new_spinlock_irq, Arc, SpinLockIrq};
use kernel::time::{ClockSource, RealTime};

/// The last events and those who wait for the next.
///
/// The lock keeps interrupts off and is held for the copying of one record; waking takes the wait
/// queue's own lock, with interrupts off too. So [`EventRing::post`] may be called from any context
/// but an NMI, also from the end of a bio.
#[pin_data]
pub struct EventRing {
    #[pin]
    log: SpinLockIrq<EventLog>,
    #[pin]
    posted: PollCondVar,
}

impl EventRing {
    /// An empty ring.
    pub fn new() -> Result<Arc<Self>> {
        let log = EventLog::new().map_err(|reason| reason.errno())?;
        Arc::pin_init(
            pin_init!(Self {
                log <- new_spinlock_irq!(log, "emd_events"),
                posted <- new_poll_condvar!("emd_events"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds an event; gives it sequence number and time. Never sleeps, never allocates.
    pub fn post(&self, event: &EventRecord) {
        let now_ns = u64::try_from(RealTime::ktime_get()).unwrap_or(0);
        self.log.lock().post(event, now_ns);
        self.posted.notify_all();
    }

    /// Adds an event of `kind` after `fill` completed it.
    pub fn post_with(&self, kind: EventKind, fill: impl FnOnce(&mut EventRecord)) {
        let mut event = EventRecord::new(kind);
        fill(&mut event);
        self.post(&event);
    }

    /// Sequence number that the next event will have.
    pub fn next_seq(&self) -> u64 {
        self.log.lock().next_seq()
    }

    /// Where a reader at `position` stands, after moving to `seek` if that is given.
    pub fn place(&self, position: u64, seek: Option<u64>) -> EventsReply {
        let log = self.log.lock();
        EventsReply {
            seq: seek.map_or(position, |seq| log.seek(seq)),
            oldest_seq: log.oldest_seq(),
            next_seq: log.next_seq(),
        }
    }

    /// The record after `position` and the position after it; `None` when there is nothing new.
    pub fn read(&self, position: u64) -> Option<(EventRecord, u64)> {
        self.log.lock().read(position)
    }

    /// Sleeps until there is something after what `position` says. `EINTR`-like when a signal came.
    pub fn wait(&self, position: impl Fn() -> u64) -> Result {
        let mut log = self.log.lock();
        while log.read(position()).is_none() {
            if self.posted.wait_interruptible(&mut log) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// What pollers wait on.
    pub fn posted(&self) -> &PollCondVar {
        &self.posted
    }
}
