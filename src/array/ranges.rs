// SPDX-License-Identifier: GPL-2.0

//! Places that did not agree: a bounded list of ranges.

use crate::model::{Checked, Slot};
use crate::personalities::choice::Choice;
use kernel::prelude::*;

/// Most ranges kept.
const RANGES_MAX: usize = 256;

/// A stretch of an array, in the space in which syncs count: sectors of each member, or of the volume
/// for levels whose copies are not side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncRange {
    /// First sector.
    pub first: u64,
    /// Length.
    pub sectors: u64,
    /// What was put right there: the first member that was written, and why.
    pub fixed: Option<(Slot, Choice)>,
}

impl SyncRange {
    /// Takes in one that touches this one and was put right alike, if at all; false for any other.
    fn join(&mut self, other: &Self) -> bool {
        let (end, other_end) = (self.end(), other.end());
        let touches = other.first <= end && self.first <= other_end;
        if !touches || self.fixed != other.fixed {
            return false;
        }
        self.first = self.first.min(other.first);
        self.sectors = end.max(other_end) - self.first;
        true
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.sectors)
    }
}

/// Ranges in the order in which they were found, neighbours that are alike joined.
pub(super) struct Ranges {
    list: KVec<SyncRange>,
    /// There were more than fit.
    lost_some: bool,
    /// The last one that did not: its neighbours are no news.
    beyond: Option<SyncRange>,
}

impl Ranges {
    /// None. Allocates the room for all.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            list: KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?,
            lost_some: false,
            beyond: None,
        })
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.lost_some = false;
        self.beyond = None;
    }

    /// The first mark from `mark` on that is in a range; `None`: there is none.
    pub(super) fn next(&self, mark: u64) -> Option<u64> {
        self.list
            .iter()
            .filter(|range| range.first.saturating_add(range.sectors) > mark)
            .map(|range| range.first.max(mark))
            .min()
    }

    /// Adds a range; joins it to a neighbour. True when there was none: it is news then, though there may be no room to keep
    /// it.
    pub(super) fn add(&mut self, range: SyncRange) -> bool {
        let mut known = Iterator::chain(self.list.iter_mut(), self.beyond.iter_mut());
        if known.any(|known| known.join(&range)) {
            return false;
        }
        if self.list.push_within_capacity(range).is_err() {
            self.lost_some = true;
            self.beyond = Some(range);
        }
        true
    }

    /// A copy for people, and whether there were more. Allocates before it takes any lock of the
    /// caller's: `room` comes from [`Ranges::room`].
    pub(super) fn copy_to(&self, room: &mut KVec<SyncRange>) -> bool {
        for &range in self.list.iter() {
            // There is room for all.
            let _ = room.push_within_capacity(range);
        }
        self.lost_some
    }

    /// Room for [`Ranges::copy_to`].
    pub(super) fn room() -> Checked<KVec<SyncRange>> {
        Ok(KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?)
    }
}
