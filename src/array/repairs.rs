// SPDX-License-Identifier: GPL-2.0

//! Copies that could not be read: who read the data elsewhere writes it over the bad one.
//!
//! Who reads in a lane does that at once, but only while writes take lanes too: else it might put old data over new.
//! Else the place is kept in `Array::to_repair`, and a task of [`Scope::Repairs`](super::Scope) comes by. Places are
//! sectors of each member, or of the volume, as [`SyncRange`] has them. The lock of `to_repair` is a leaf.

use super::Array;
use crate::model::Slot;
use crate::personalities::ranges::SyncRange;
use core::sync::atomic::Ordering;

impl Array {
    /// Whether writes take lane locks, all of them.
    pub(super) fn lanes_only(&self) -> bool {
        self.lanes_only.load(Ordering::Acquire)
    }

    /// Whether who reads a copy in a lane may write it again: not where writes go around the lanes. Who may
    /// counts until [`Self::repair_is_through`].
    pub(super) fn begin_repair(&self) -> bool {
        // Before the flag is looked at: `end_repairs` does both in the other order.
        self.repairing.fetch_add(1, Ordering::SeqCst);
        let may_repair = self.lanes_only.load(Ordering::SeqCst);
        if !may_repair {
            self.repair_is_through();
        }
        may_repair
    }

    /// See above.
    pub(super) fn repair_is_through(&self) {
        self.repairing.fetch_sub(1, Ordering::SeqCst);
    }

    /// No more repairs of this kind; whether the last one is through.
    pub(super) fn end_repairs(&self) -> bool {
        self.lanes_only.store(false, Ordering::SeqCst);
        self.repairing.load(Ordering::SeqCst) == 0
    }

    /// A copy could not be read: it is to be written again.
    pub(super) fn want_repair(&self, slot: Slot, stripe: u64, column: u32, sectors: u32) {
        self.to_repair.lock().want(SyncRange {
            first: self.sync_row_sector(stripe, slot) + u64::from(column),
            sectors: u64::from(sectors),
            fixed: None,
        });
        self.notify.kick();
    }

    /// Whether copies wait to be written again, and there is more than one to do it from. They are kept until there is.
    pub fn wants_repair(&self) -> bool {
        self.geometry.can_compare(self.readable()) && self.to_repair.lock().is_wanted()
    }
}
