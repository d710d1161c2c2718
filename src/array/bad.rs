// SPDX-License-Identifier: GPL-2.0

//! The bad ranges of an array that runs (`personalities/bad.rs`).

use super::Array;
use crate::block::bio::{FinishedIo, Status};
use crate::block::gate::Gated;
use crate::model::Slot;
use crate::personalities::bad::{BadChange, BadSpot, BadSpots, Noted};
use core::sync::atomic::Ordering;

/// How the oldest change ended.
struct Ended {
    /// None is left.
    is_last: bool,
    /// What was written there came to nothing.
    is_void: bool,
}

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

    /// A stretch of a member could not be filled. May be asked again.
    pub(super) fn add_bad_spot(&self, spot: BadSpot) -> Noted {
        let added = {
            let mut bad = self.bad.lock();
            let added = bad.add(spot);
            self.bad_count.store(bad.len(), Ordering::Release);
            // What was known already is no change.
            if bad.change().is_some() {
                self.bad_unrecorded.store(true, Ordering::Release);
            }
            if added == Noted::Later {
                self.bad_full.store(true, Ordering::Release);
            }
            added
        };
        if added != Noted::NoRoom {
            self.notify.kick();
        }
        added
    }

    /// A stretch of a member was written. When that is not [`Noted::Done`] it cannot be kept, so that the write must
    /// not be acknowledged: not yet, or not at all.
    pub(super) fn clear_bad_spot(&self, spot: BadSpot) -> Noted {
        if !self.has_bad_spots() {
            return Noted::Done;
        }
        let cleared = {
            let mut bad = self.bad.lock();
            if !bad.has(&spot) {
                return Noted::Done;
            }
            let cleared = bad.clear(spot);
            self.bad_count.store(bad.len(), Ordering::Release);
            match cleared {
                Noted::Done => self.bad_unrecorded.store(true, Ordering::Release),
                Noted::Later => self.bad_full.store(true, Ordering::Release),
                Noted::NoRoom => {}
            }
            cleared
        };
        self.notify.kick();
        cleared
    }

    /// Whether an op that met with [`Noted::Later`] has to wait still.
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
        let is_last = this.end_bad_change(|bad| Ended {
            is_last: bad.change_recorded(),
            is_void: false,
        });
        if is_last {
            this.end_recorded();
        }
    }

    /// What was written where [`Array::bad_change`] says that it is good again does not count, and nobody else has it: it
    /// is not known to be on the medium, or cannot be recorded. It is bad as before. Writes that have begun and not ended
    /// do so with an error, as nobody knows which of them it was: those that wait for records, and those that come there yet.
    pub fn bad_change_failed(this: &Gated<Self>) {
        this.end_bad_change(|bad| Ended {
            is_last: bad.change_failed(),
            is_void: true,
        });
        this.fail_finished();
    }

    /// Fails a write during which a range became bad again that it may have written. To be asked when nothing is to be
    /// recorded any more, or under `waiting`: what is in `Waiting::finished` then is failed by who tells of such a range.
    pub(super) fn fail_if_void(&self, io: &FinishedIo<Self>) {
        if io.epoch() != self.void_clearings.load(Ordering::Acquire) {
            io.set_status(Status::IO_ERROR);
        }
    }

    /// The oldest change is dealt with by `end`. Gives whether it was the last.
    fn end_bad_change(&self, end: impl FnOnce(&mut BadSpots) -> Ended) -> bool {
        let (is_last, was_full) = {
            let mut bad = self.bad.lock();
            let Ended { is_last, is_void } = end(&mut bad);
            self.bad_count.store(bad.len(), Ordering::Release);
            // A write that begins with the new number finds the range, and one that did not find it has the old one. And
            // it is there before a write could see that nothing is to be recorded any more.
            if is_void {
                self.void_clearings.fetch_add(1, Ordering::AcqRel);
            }
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
