// SPDX-License-Identifier: GPL-2.0

//! The last events, and where a reader stands among them. Pure; the module puts a lock around it.

use super::constants::EVENTS_MAX;
use super::event::{EventKind, EventRecord};
use crate::model::Checked;
use kernel::prelude::*;

/// The last [`EVENTS_MAX`] events. All memory is taken at the start: posting never allocates.
#[derive(Debug)]
pub struct EventLog {
    /// The event with sequence number `s` is at `s % EVENTS_MAX`.
    records: KVVec<EventRecord>,
    next_seq: u64,
}

impl EventLog {
    /// An empty log. Allocates.
    pub fn new() -> Checked<Self> {
        let blank = EventRecord::new(EventKind::Note);
        Ok(Self {
            records: KVVec::from_elem(blank, EVENTS_MAX as usize, GFP_KERNEL)?,
            // 0 is left free: it means "the oldest" when a reader asks for a place.
            next_seq: 1,
        })
    }

    /// Adds an event and gives it its sequence number.
    pub fn post(&mut self, event: &EventRecord, time_ns: u64) {
        let seq = self.next_seq;
        if let Some(slot) = self.records.get_mut(Self::place(seq)) {
            *slot = *event;
            slot.seq = seq;
            slot.time_ns = time_ns;
        }
        self.next_seq = seq.saturating_add(1);
    }

    fn place(seq: u64) -> usize {
        (seq % u64::from(EVENTS_MAX)) as usize
    }

    /// Sequence number that the next event will have.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Sequence number of the oldest event kept (the next one's, when there is none).
    pub fn oldest_seq(&self) -> u64 {
        self.next_seq.saturating_sub(u64::from(EVENTS_MAX)).max(1)
    }

    /// Where a reader that asked for `seq` starts. The future is not to be had.
    ///
    /// A place that is no longer kept stays as it is: reading there tells what was lost.
    pub fn seek(&self, seq: u64) -> u64 {
        match seq {
            0 => self.oldest_seq(),
            seq => seq.min(self.next_seq),
        }
    }

    /// The next record for a reader at `position`, and its place after it. `None`: nothing new.
    pub fn read(&self, position: u64) -> Option<(EventRecord, u64)> {
        let oldest = self.oldest_seq();
        if position < oldest {
            let mut lost = EventRecord::new(EventKind::Lost);
            lost.seq = oldest.saturating_sub(1);
            lost.value = oldest - position;
            lost.time_ns = self
                .records
                .get(Self::place(oldest))
                .map_or(0, |first| first.time_ns);
            lost.text = crate::model::Text::from_fmt(format_args!(
                "{} events came too fast and are lost",
                lost.value
            ));
            return Some((lost, oldest));
        }
        if position >= self.next_seq {
            return None;
        }
        let record = self.records.get(Self::place(position))?;
        Some((*record, position.saturating_add(1)))
    }
}
