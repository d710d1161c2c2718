// SPDX-License-Identifier: GPL-2.0

//! The bad ranges of an array that runs (`personalities/bad.rs`).

use super::Array;
use crate::block::gate::Gated;
use crate::model::Slot;
use crate::personalities::bad::{BadChange, BadSpot, BadSpots, Clearing};
use core::sync::atomic::Ordering;

impl Array {
    /// Whether anything is bad: asked before looking closer.
    #[inline]
    pub(super) fn has_bad_spots(&self) -> bool {
        self.bad_count.load(Ordering::Acquire) != 0
    }

    /// Whether part of a stretch of a member is bad.
    pub(super) fn is_bad(&self, slot: Slot, first: u64, sectors: u64) -> bool {
        self.has_bad_spots()
            && self.bad.lock().has(&BadSpot {
                slot,
                first,
                sectors,
            })
    }

    /// A stretch of a member could not be filled. False when no more can be kept.
    pub(super) fn add_bad_spot(&self, spot: BadSpot) -> bool {
        let added = {
            let mut bad = self.bad.lock();
            let added = bad.add(spot);
            self.bad_count.store(bad.len(), Ordering::Release);
            // What was known already is no change.
            if bad.change().is_some() {
                self.bad_unrecorded.store(true, Ordering::Release);
            }
            added
        };
        if added {
            self.notify.kick();
        }
        added
    }

    /// A stretch of a member was written. When that is not [`Clearing::Done`] it cannot be kept, so that the write must
    /// not be acknowledged: not yet, or not at all.
    pub(super) fn clear_bad_spot(&self, spot: BadSpot) -> Clearing {
        if !self.has_bad_spots() {
            return Clearing::Done;
        }
        let cleared = {
            let mut bad = self.bad.lock();
            if !bad.has(&spot) {
                return Clearing::Done;
            }
            let cleared = bad.clear(spot);
            self.bad_count.store(bad.len(), Ordering::Release);
            match cleared {
                Clearing::Done => self.bad_unrecorded.store(true, Ordering::Release),
                Clearing::Later => self.bad_full.store(true, Ordering::Release),
                Clearing::NoRoom => {}
            }
            cleared
        };
        self.notify.kick();
        cleared
    }

    /// Whether an op that met with [`Clearing::Later`] has to wait still.
    pub(super) fn waits_for_bad_spots(&self) -> bool {
        self.bad_full.load(Ordering::Acquire) && !self.is_broken()
    }

    /// Whether a member has bad ranges.
    pub fn has_bad_spots_of(&self, slot: Slot) -> bool {
        self.is_bad(slot, 0, u64::MAX)
    }

    /// See [`BadSpots::unkept_from`](crate::personalities::bad::BadSpots::unkept_from).
    pub fn unkept_from(&self, slot: Slot) -> Option<u64> {
        if !self.has_bad_spots() {
            return None;
        }
        self.bad.lock().unkept_from(slot)
    }

    /// The metadata has no place for the range that [`Array::bad_change`] gave: it is known here only.
    pub fn bad_change_unkept(this: &Gated<Self>) {
        this.bad.lock().leave_unkept();
        Self::bad_change_recorded(this);
    }

    /// The oldest change that is not recorded.
    pub fn bad_change(&self) -> Option<BadChange> {
        if !self.bad_unrecorded.load(Ordering::Acquire) {
            return None;
        }
        self.bad.lock().change()
    }

    /// The metadata has the change that [`Array::bad_change`] gave: writes that waited for it end when
    /// it was the last.
    pub fn bad_change_recorded(this: &Gated<Self>) {
        if this.end_bad_change(BadSpots::change_recorded) {
            this.end_recorded();
        }
    }

    /// What was written where [`Array::bad_change`] says that it is good again does not count, and nobody else has it: it
    /// is not known to be on the medium, or cannot be recorded. It is bad as before. Writes that wait for records end with
    /// an error, as nobody knows which of them it was.
    pub fn bad_change_failed(this: &Gated<Self>) {
        this.end_bad_change(BadSpots::change_failed);
        this.fail_finished();
    }

    /// The oldest change is dealt with by `end`, which says whether it was the last.
    fn end_bad_change(&self, end: impl FnOnce(&mut BadSpots) -> bool) -> bool {
        let (is_last, was_full) = {
            let mut bad = self.bad.lock();
            let is_last = end(&mut bad);
            self.bad_count.store(bad.len(), Ordering::Release);
            if is_last {
                self.bad_unrecorded.store(false, Ordering::Release);
            }
            (is_last, self.bad_full.swap(false, Ordering::AcqRel))
        };
        if was_full {
            self.wake_ops();
        }
        is_last
    }
}
