// SPDX-License-Identifier: GPL-2.0

//! Places that did not agree, or that are to be written again: bounded lists of ranges.

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
pub struct Ranges {
    list: KVec<SyncRange>,
    /// There were more than fit.
    lost_some: bool,
    /// The last one that did not: its neighbours are no news.
    beyond: Option<SyncRange>,
}

impl Ranges {
    /// None. Allocates the room for all; fails with `ENOMEM` only.
    pub fn new() -> Result<Self> {
        Ok(Self {
            list: KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?,
            lost_some: false,
            beyond: None,
        })
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.list.clear();
        self.lost_some = false;
        self.beyond = None;
    }

    /// Adds a range; joins it to a neighbour. True when there was none: it is news then, though there may be no room to keep
    /// it.
    pub fn add(&mut self, range: SyncRange) -> bool {
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

    /// A copy for people, and whether there were more. Allocates nothing, as locks are held: `room`
    /// comes from [`Ranges::room`].
    pub fn copy_to(&self, room: &mut KVec<SyncRange>) -> bool {
        for &range in self.list.iter() {
            // There is room for all.
            let _ = room.push_within_capacity(range);
        }
        self.lost_some
    }

    /// Room for [`Ranges::copy_to`]. Fails with `ENOMEM` only.
    pub fn room() -> Checked<KVec<SyncRange>> {
        Ok(KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?)
    }
}

/// Places whose copies could not be read: a task goes over them, and they are written again.
pub struct ToRepair {
    places: Ranges,
    /// What there was no room for lies in here.
    rest: Option<SyncRange>,
    /// Something came up since the last task began.
    is_wanted: bool,
}

impl ToRepair {
    /// None. Allocates the room for all; fails with `ENOMEM` only.
    pub fn new() -> Result<Self> {
        Ok(Self {
            places: Ranges::new()?,
            rest: None,
            is_wanted: false,
        })
    }

    /// A place is to be written again.
    pub fn want(&mut self, place: SyncRange) {
        self.places.add(place);
        if let Some(beyond) = self.places.beyond.take() {
            let rest = self.rest.get_or_insert(beyond);
            let end = rest.end().max(beyond.end());
            rest.first = rest.first.min(beyond.first);
            rest.sectors = end - rest.first;
        }
        self.is_wanted = true;
    }

    /// Whether a task has to come by.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// A task begins, at the first place.
    pub fn begin(&mut self) {
        self.is_wanted = false;
    }

    /// The first mark from `mark` on that is in a place; `None`: there is none.
    pub fn next(&self, mark: u64) -> Option<u64> {
        Iterator::chain(self.places.list.iter(), self.rest.iter())
            .filter(|place| place.end() > mark)
            .map(|place| place.first.max(mark))
            .min()
    }

    /// A task has come by all that there was when it began. It may have passed what came up since then, which waits for the
    /// next one, with all others: what is written twice does no harm.
    pub fn end(&mut self) {
        if !self.is_wanted {
            self.places.clear();
            self.rest = None;
        }
    }
}
