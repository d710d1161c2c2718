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

/// Ranges in the order in which they were found, neighbours that are alike joined.
pub(super) struct Ranges {
    list: KVec<SyncRange>,
    /// There were more than fit.
    lost_some: bool,
}

impl Ranges {
    /// None. Allocates the room for all.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            list: KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?,
            lost_some: false,
        })
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.lost_some = false;
    }

    /// The first mark from `mark` on that is in a range; `None`: there is none.
    pub(super) fn next(&self, mark: u64) -> Option<u64> {
        self.list
            .iter()
            .filter(|range| range.first.saturating_add(range.sectors) > mark)
            .map(|range| range.first.max(mark))
            .min()
    }

    /// Adds a range; joins it to a neighbour. True when there was none, and it was kept.
    pub(super) fn add(&mut self, range: SyncRange) -> bool {
        let end = range.first.saturating_add(range.sectors);
        for known in self.list.iter_mut() {
            let known_end = known.first.saturating_add(known.sectors);
            let is_alike = known.fixed == range.fixed;
            if is_alike && range.first <= known_end && known.first <= end {
                let first = known.first.min(range.first);
                known.sectors = known_end.max(end) - first;
                known.first = first;
                return false;
            }
        }
        let kept = self.list.push_within_capacity(range).is_ok();
        self.lost_some |= !kept;
        kept
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
