// SPDX-License-Identifier: GPL-2.0

//! A set of members of one span, one bit a slot.

use crate::model::{Slot, MEMBERS_MAX};

/// A set of members; bit `n` is the member in slot `n`.
///
/// Slots of [`MEMBERS_MAX`] and above do not exist: adding one changes nothing, and asking for one
/// answers no.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Mask(pub u64);

impl Mask {
    /// No member.
    pub const EMPTY: Mask = Mask(0);

    /// Slots 0 to `members − 1`; at most [`MEMBERS_MAX`] of them.
    #[inline]
    pub fn all(members: u16) -> Self {
        if usize::from(members) >= MEMBERS_MAX {
            Mask(u64::MAX)
        } else {
            Mask(!u64::MAX.wrapping_shl(u32::from(members)))
        }
    }

    /// The member in `slot` alone.
    #[inline]
    pub fn single(slot: Slot) -> Self {
        Mask(1u64.checked_shl(u32::from(slot)).unwrap_or(0))
    }

    /// The member in `slot` alone, or none.
    #[inline]
    pub fn option(slot: Option<Slot>) -> Self {
        slot.map_or(Self::EMPTY, Self::single)
    }

    /// Whether the member in `slot` is in the set.
    #[inline]
    pub fn contains(self, slot: Slot) -> bool {
        !self.intersect(Self::single(slot)).is_empty()
    }

    /// This set and the member in `slot`.
    #[inline]
    #[must_use]
    pub fn with(self, slot: Slot) -> Self {
        self.union(Self::single(slot))
    }

    /// This set but the member in `slot`.
    #[inline]
    #[must_use]
    pub fn without(self, slot: Slot) -> Self {
        self.minus(Self::single(slot))
    }

    /// Members in either set.
    #[inline]
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Mask(self.0 | other.0)
    }

    /// Members of this set that are not in `other`.
    #[inline]
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Mask(self.0 & !other.0)
    }

    /// Members in both sets.
    #[inline]
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Mask(self.0 & other.0)
    }

    /// Whether `other` has every member of this set.
    #[inline]
    pub fn is_within(self, other: Self) -> bool {
        self.minus(other).is_empty()
    }

    /// Whether no member is in the set.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many members are in the set.
    #[inline]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The member with the lowest slot.
    #[inline]
    pub fn first(self) -> Option<Slot> {
        if self.is_empty() {
            None
        } else {
            // At most 63.
            Some(self.0.trailing_zeros() as Slot)
        }
    }

    /// The members, slots ascending.
    #[inline]
    pub fn iter(self) -> MaskIter {
        MaskIter(self)
    }
}

impl IntoIterator for Mask {
    type Item = Slot;
    type IntoIter = MaskIter;

    #[inline]
    fn into_iter(self) -> MaskIter {
        self.iter()
    }
}

/// The members of a [`Mask`], slots ascending.
#[derive(Clone, Copy, Debug)]
pub struct MaskIter(Mask);

impl Iterator for MaskIter {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        let slot = self.0.first()?;
        self.0 = self.0.without(slot);
        Some(slot)
    }
}
