// SPDX-License-Identifier: GPL-2.0

//! Bad ranges: stretches of members that hold nothing usable, though the member is in use.
//!
//! They come up when a rebuild meets what can neither be read nor worked out: the member being filled
//! has a hole there. Reads go around it as long as redundancy has the data, and fail for just those
//! sectors when it has not; a write fills the hole. Both are recorded by the set's worker: a new range
//! before the rebuild counts as done, a filled one before the write that filled it is acknowledged.
//!
//! Where the metadata has no place for a new range, it is known here only ([`Array::unkept_from`]): then
//! nothing may be recorded that would have the member read there after a restart.

use super::{end_all, Array};
use crate::block::gate::Gated;
use crate::model::Slot;
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// Most ranges of an array, and most changes that wait to be recorded.
const RANGES_MAX: usize = 1024;
const CHANGES_MAX: usize = 256;

/// A stretch of a member, in sectors from its start in the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSpot {
    /// The member.
    pub slot: Slot,
    /// First sector.
    pub first: u64,
    /// Length.
    pub sectors: u64,
}

impl BadSpot {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.sectors)
    }

    fn overlaps(&self, other: &BadSpot) -> bool {
        self.slot == other.slot && self.first < other.end() && other.first < self.end()
    }
}

/// What has to be recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadChange {
    /// It is bad from now on.
    Added(BadSpot),
    /// It holds what it should again.
    Cleared(BadSpot),
}

/// One that is known.
struct Known {
    at: BadSpot,
    /// The metadata has no place for it.
    unkept: bool,
}

/// The bad ranges of an array.
pub(super) struct BadSpots {
    spots: KVec<Known>,
    /// Not recorded yet, oldest first.
    changes: KVec<BadChange>,
}

impl BadSpots {
    /// Those that are known. Allocates room for more.
    pub(super) fn new(known: &[BadSpot]) -> Result<Self> {
        let mut spots = KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?;
        for &at in known.iter().take(RANGES_MAX) {
            let unkept = false;
            spots.push(Known { at, unkept }, GFP_KERNEL)?;
        }
        Ok(Self {
            spots,
            changes: KVec::with_capacity(CHANGES_MAX, GFP_KERNEL)?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.spots.len()
    }

    fn has(&self, spot: &BadSpot) -> bool {
        self.spots.iter().any(|bad| bad.at.overlaps(spot))
    }

    /// Another disk takes the member's place.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.spots.retain(|bad| bad.at.slot != slot);
    }

    /// The metadata has no place for what the oldest change adds.
    fn leave_unkept(&mut self) {
        let Some(&BadChange::Added(spot)) = self.changes.first() else {
            return;
        };
        for bad in self.spots.iter_mut() {
            bad.unkept |= bad.at.overlaps(&spot);
        }
    }

    /// Where the first range of a member begins that the metadata does not have.
    fn unkept_from(&self, slot: Slot) -> Option<u64> {
        let unkept = self.spots.iter().filter(|bad| bad.unkept);
        let waiting = self.changes.iter().filter_map(|change| match change {
            BadChange::Added(spot) => Some(spot),
            BadChange::Cleared(_) => None,
        });
        Iterator::chain(unkept.map(|bad| &bad.at), waiting)
            .filter(|at| at.slot == slot)
            .map(|at| at.first)
            .min()
    }

    /// Adds a range; false when there is no room.
    fn add(&mut self, spot: BadSpot) -> bool {
        if self.spots.len() >= RANGES_MAX || self.changes.len() >= CHANGES_MAX {
            return false;
        }
        let joined = self
            .spots
            .iter_mut()
            .find(|bad| bad.at.slot == spot.slot && bad.at.end() == spot.first);
        match joined {
            Some(bad) => bad.at.sectors += spot.sectors,
            // There is room for both.
            None => {
                let (at, unkept) = (spot, false);
                drop(self.spots.push_within_capacity(Known { at, unkept }));
            }
        }
        self.note_added(spot);
        true
    }

    /// Has it recorded, along with its neighbour if that waits too: logs have room for few ranges. There is room for
    /// a change.
    fn note_added(&mut self, spot: BadSpot) {
        // The first one may be on its way into the metadata.
        let is_waiting = self.changes.len() > 1;
        if let Some(BadChange::Added(last)) = self.changes.last_mut().filter(|_| is_waiting) {
            if last.slot == spot.slot && last.end() == spot.first {
                last.sectors += spot.sectors;
                return;
            }
        }
        let _ = self.changes.push_within_capacity(BadChange::Added(spot));
    }

    /// Takes a range out; false when there is no room to do so.
    fn clear(&mut self, spot: BadSpot) -> bool {
        let is_cut = |bad: &Known| {
            bad.at.overlaps(&spot) && bad.at.first < spot.first && spot.end() < bad.at.end()
        };
        let no_room = self.spots.len() >= RANGES_MAX && self.spots.iter().any(is_cut);
        if no_room || self.changes.len() >= CHANGES_MAX {
            return false;
        }
        let mut rest = None;
        for bad in self.spots.iter_mut().filter(|bad| bad.at.overlaps(&spot)) {
            let (first, end) = (bad.at.first, bad.at.end());
            bad.at.sectors = spot.first.saturating_sub(first);
            if end > spot.end() {
                let after = BadSpot {
                    slot: spot.slot,
                    first: spot.end(),
                    sectors: end - spot.end(),
                };
                if bad.at.sectors == 0 {
                    bad.at = after;
                } else {
                    // At most one reaches beyond both ends.
                    rest = Some(Known {
                        at: after,
                        unkept: bad.unkept,
                    });
                }
            }
        }
        self.spots.retain(|bad| bad.at.sectors > 0);
        if let Some(after) = rest {
            let _ = self.spots.push_within_capacity(after);
        }
        let _ = self.changes.push_within_capacity(BadChange::Cleared(spot));
        true
    }
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

    /// A stretch of a member could not be filled. False when no more can be kept.
    pub(super) fn add_bad_spot(&self, spot: BadSpot) -> bool {
        let added = {
            let mut bad = self.bad.lock();
            let added = bad.add(spot);
            self.bad_count.store(bad.len(), Ordering::Release);
            if added {
                self.bad_unrecorded.store(true, Ordering::Release);
            }
            added
        };
        if added {
            self.notify.kick();
        }
        added
    }

    /// A stretch of a member was written. False when that cannot be kept, so that the write must not be
    /// acknowledged.
    pub(super) fn clear_bad_spot(&self, spot: BadSpot) -> bool {
        if !self.has_bad_spots() {
            return true;
        }
        let done = {
            let mut bad = self.bad.lock();
            if !bad.has(&spot) {
                return true;
            }
            let done = bad.clear(spot);
            self.bad_count.store(bad.len(), Ordering::Release);
            if done {
                self.bad_unrecorded.store(true, Ordering::Release);
            }
            done
        };
        self.notify.kick();
        done
    }

    /// Whether a member has bad ranges.
    pub fn has_bad_spots_of(&self, slot: Slot) -> bool {
        self.is_bad(slot, 0, u64::MAX)
    }

    /// Where the first bad range of a member begins that the metadata does not have, or not yet: in sectors of
    /// the member. Up to there it may be recorded as holding what it should.
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
        self.bad.lock().changes.first().copied()
    }

    /// The metadata has the change that [`Array::bad_change`] gave: writes that waited for it end when
    /// it was the last.
    pub fn bad_change_recorded(this: &Gated<Self>) {
        let is_last = {
            let mut bad = this.bad.lock();
            if !bad.changes.is_empty() {
                let _ = bad.changes.remove(0);
            }
            let is_last = bad.changes.is_empty();
            if is_last {
                this.bad_unrecorded.store(false, Ordering::Release);
            }
            is_last
        };
        if is_last && !this.must_record() {
            let list = this.waiting.lock().finished.take();
            end_all(list);
        }
    }
}
