// SPDX-License-Identifier: GPL-2.0

//! Bad ranges: stretches of members that hold nothing usable, though the member is in use.
//!
//! They come up when a rebuild meets what can neither be read nor worked out: the member being filled
//! has a hole there. Reads go around it as long as redundancy has the data, and fail for just those
//! sectors when it has not; a write fills the hole. Both are recorded by the set's worker: a new range
//! before the rebuild counts as done (and before its mark passes the range), a filled one before the
//! write that filled it is acknowledged, and after what was written is on the medium.
//!
//! Where the metadata has no place for a new range, it is known here only ([`BadSpots::unkept_from`]): then
//! nothing may be recorded that would have the member read there after a restart. The same holds for ranges
//! on record where others who read that metadata know nothing of them.

use crate::model::{BadRange, Checked, DiskIndex, Event, Level, Member, Set, Slot};
use crate::personalities::Mask;
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

    /// Whether they are of one member and have sectors in common, or follow one another.
    fn touches(&self, other: &BadSpot) -> bool {
        self.slot == other.slot && self.first <= other.end() && other.first <= self.end()
    }

    /// Takes in one that it touches.
    fn join(&mut self, other: &BadSpot) {
        let end = self.end().max(other.end());
        self.first = self.first.min(other.first);
        self.sectors = end - self.first;
    }

    /// Whether they are of one member and have sectors in common.
    pub fn overlaps(&self, other: &BadSpot) -> bool {
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

impl BadChange {
    /// The event that says so of the disk in that slot of `members`; `None` where there is none any more:
    /// a member that is gone has nothing to be recorded of.
    pub fn event(&self, members: &[Member]) -> Option<Event<'static>> {
        let (BadChange::Added(spot) | BadChange::Cleared(spot)) = self;
        let member = members.get(usize::from(spot.slot))?;
        let range = BadRange {
            disk: member.disk?,
            sector: member.offset_sectors.saturating_add(spot.first),
            sectors: u32::try_from(spot.sectors).unwrap_or(u32::MAX),
        };
        Some(match self {
            BadChange::Added(_) => Event::BadRangeAdded(range),
            BadChange::Cleared(_) => Event::BadRangeCleared(range),
        })
    }
}

/// What came of adding a range, or of taking one out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noted {
    /// It is in, or out, and waits to be recorded.
    Done,
    /// Too much waits to be recorded: there is room again once some of it is, or is known to have failed.
    Later,
    /// There is no room for it, or for what is left of a range on both sides.
    NoRoom,
}

/// What the metadata knows to be bad on the `members` of a volume, as far as they have `member_sectors`. Where the level
/// keeps no redundancy that is nothing: a rebuild leaves no holes there, so what the metadata has is of others, and no write
/// would ever take it back. Allocates; fails with `ENOMEM` only.
#[inline(never)]
pub fn known(
    set: &Set,
    level: Level,
    members: &[Member],
    member_sectors: u64,
) -> Checked<KVec<BadSpot>> {
    let mut spots = KVec::new();
    if !level.is_redundant() {
        return Ok(spots);
    }
    for bad in set.bad_ranges.iter() {
        let end = bad.sector.saturating_add(u64::from(bad.sectors));
        for (slot, member) in (0u16..).zip(members.iter()) {
            if member.disk != Some(bad.disk) {
                continue;
            }
            let start = member.offset_sectors;
            let member_end = start.saturating_add(member_sectors);
            let first = bad.sector.max(start);
            let sectors = end.min(member_end).saturating_sub(first);
            if sectors > 0 {
                let first = first - start;
                let spot = BadSpot {
                    slot,
                    first,
                    sectors,
                };
                spots.push(spot, GFP_KERNEL)?;
            }
        }
    }
    Ok(spots)
}

/// The members whose ranges do not count as kept, though the metadata may have them: those on disks that `keeps` is false of.
pub fn unkept(members: &[Member], keeps: impl Fn(DiskIndex) -> bool) -> Mask {
    let members = (0u16..).zip(members.iter());
    let unkept = members.filter(|(_, member)| member.disk.is_some_and(|disk| !keeps(disk)));
    unkept.fold(Mask::EMPTY, |mask, (slot, _)| mask.with(slot))
}

/// One that is known.
struct Known {
    at: BadSpot,
    /// The metadata has no place for it, or not where all who read it look.
    unkept: bool,
}

/// The bad ranges of an array.
pub struct BadSpots {
    spots: KVec<Known>,
    /// Not recorded yet, oldest first.
    changes: KVec<BadChange>,
}

impl BadSpots {
    /// Those that are known; what the metadata says of the members in `unkept` does not count as kept. Allocates room for
    /// more; fails with `ENOMEM` only.
    pub fn new(known: &[BadSpot], unkept: Mask) -> Result<Self> {
        let mut spots = KVec::with_capacity(RANGES_MAX, GFP_KERNEL)?;
        for &at in known.iter().take(RANGES_MAX) {
            let unkept = unkept.contains(at.slot);
            spots.push(Known { at, unkept }, GFP_KERNEL)?;
        }
        Ok(Self {
            spots,
            changes: KVec::with_capacity(CHANGES_MAX, GFP_KERNEL)?,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    /// Whether part of a stretch is bad.
    pub fn has(&self, spot: &BadSpot) -> bool {
        self.spots.iter().any(|bad| bad.at.overlaps(spot))
    }

    /// Another disk takes the member's place.
    pub fn forget(&mut self, slot: Slot) {
        self.spots.retain(|bad| bad.at.slot != slot);
    }

    /// The metadata has no place for what the oldest change adds.
    pub fn leave_unkept(&mut self) {
        let Some(&BadChange::Added(spot)) = self.changes.first() else {
            return;
        };
        for bad in self.spots.iter_mut() {
            bad.unkept |= bad.at.overlaps(&spot);
        }
    }

    /// Where the first range of a member begins that the metadata does not have, or not yet: in sectors of the
    /// member. Up to there it may be recorded as holding what it should.
    pub fn unkept_from(&self, slot: Slot) -> Option<u64> {
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

    /// Adds a range. Unless that is [`Noted::Done`] nothing has changed. What is all known to be bad is no change.
    pub fn add(&mut self, spot: BadSpot) -> Noted {
        let covers = |bad: &BadSpot| {
            bad.slot == spot.slot && bad.first <= spot.first && spot.end() <= bad.end()
        };
        if self.spots.iter().any(|bad| covers(&bad.at)) {
            return Noted::Done;
        }
        let before = self
            .spots
            .iter()
            .position(|bad| bad.at.slot == spot.slot && bad.at.end() == spot.first);
        if before.is_none() && self.spots.len() >= RANGES_MAX {
            return Noted::NoRoom;
        }
        if before.is_none() && self.spots.len() + self.clearings() >= RANGES_MAX {
            return Noted::Later;
        }
        if !self.note(BadChange::Added(spot)) {
            return Noted::Later;
        }
        match before.and_then(|before| self.spots.get_mut(before)) {
            Some(bad) => bad.at.sectors += spot.sectors,
            // There is room.
            None => {
                let (at, unkept) = (spot, false);
                drop(self.spots.push_within_capacity(Known { at, unkept }));
            }
        }
        Noted::Done
    }

    /// Takes a range out. Unless that is [`Noted::Done`] nothing has changed.
    pub fn clear(&mut self, spot: BadSpot) -> Noted {
        let is_cut = |bad: &Known| {
            bad.at.overlaps(&spot) && bad.at.first < spot.first && spot.end() < bad.at.end()
        };
        let cut = usize::from(self.spots.iter().any(is_cut));
        if self.spots.len() + cut > RANGES_MAX {
            return Noted::NoRoom;
        }
        let is_gone = |bad: &Known| {
            bad.at.overlaps(&spot) && spot.first <= bad.at.first && bad.at.end() <= spot.end()
        };
        let gone = self.spots.iter().filter(|bad| is_gone(bad)).count();
        let clearings = self.clearings();
        // The only one that waits needs no room: what is left of a range can take it in again.
        if clearings > 0 && self.spots.len() + cut - gone + clearings >= RANGES_MAX {
            return Noted::Later;
        }
        if !self.note(BadChange::Cleared(spot)) {
            return Noted::Later;
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
        Noted::Done
    }

    /// How many ranges were taken out and may have to be put in again ([`Self::change_failed`]): room is kept for them.
    fn clearings(&self) -> usize {
        let changes = self.changes.iter();
        changes
            .filter(|change| matches!(change, BadChange::Cleared(_)))
            .count()
    }

    /// Has it recorded, along with what touches it and waits too: logs have room for few ranges, and what was a single one is
    /// met with, or written, in many pieces, by several lanes at a time. False when too much waits.
    fn note(&mut self, new: BadChange) -> bool {
        // The first one may be on its way into the metadata.
        for change in self.changes.iter_mut().skip(1).rev() {
            match (change, new) {
                (BadChange::Cleared(other), BadChange::Cleared(spot))
                | (BadChange::Added(other), BadChange::Added(spot))
                    if other.touches(&spot) =>
                {
                    other.join(&spot);
                    return true;
                }
                // What became bad and is good again, or the other way round, is recorded in that order.
                (BadChange::Cleared(other), BadChange::Added(spot))
                | (BadChange::Added(other), BadChange::Cleared(spot))
                    if other.slot == spot.slot =>
                {
                    break
                }
                _ => {}
            }
        }
        self.changes.len() < CHANGES_MAX && self.changes.push_within_capacity(new).is_ok()
    }

    /// The oldest change that is not recorded.
    pub fn change(&self) -> Option<BadChange> {
        self.changes.first().copied()
    }

    /// What the oldest change took out is bad after all, as the metadata has it: what was written there is not known to be
    /// on the medium, or that cannot be recorded. True when that change was the last.
    pub fn change_failed(&mut self) -> bool {
        if let Some(&BadChange::Cleared(at)) = self.changes.first() {
            // Whether the metadata has all of it is not known. Room was kept for it, or a range that it touches takes it in.
            let unkept = true;
            if self
                .spots
                .push_within_capacity(Known { at, unkept })
                .is_err()
            {
                let mut spots = self.spots.iter_mut();
                if let Some(bad) = spots.find(|bad| bad.at.touches(&at)) {
                    bad.at.join(&at);
                    bad.unkept = unkept;
                }
            }
        }
        self.change_recorded()
    }

    /// That one is recorded; true when it was the last.
    pub fn change_recorded(&mut self) -> bool {
        if !self.changes.is_empty() {
            let _ = self.changes.remove(0);
        }
        self.changes.is_empty()
    }
}
