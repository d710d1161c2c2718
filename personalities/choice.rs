// SPDX-License-Identifier: GPL-2.0

//! Why a sync that puts right took what it took: for people who want to know which member was wrong.

use super::{Geometry, Kind, Mask};

/// Why members were written that did not agree with the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Parity was worked out anew from data: one parity alone was wrong, or nothing says that it was not
    /// the parity.
    Parity,
    /// Both parities of a RAID 6 differed, and one data member being wrong explains every byte: it was
    /// worked out from the others.
    Syndromes,
    /// More copies agreed than were written.
    Majority,
    /// No more copies agreed than were written: the largest group that agreed was taken, of equal ones the
    /// one with the lowest slot (with two copies, just that).
    FirstCopy,
}

impl Choice {
    /// Why `corrected` were written, of the members `readable` of a row; `None` when none was.
    /// `distrusted`: what is there was never established, or is what a crash left; then copies do not
    /// vote.
    pub fn of(
        geometry: &Geometry,
        stripe: u64,
        corrected: Mask,
        readable: Mask,
        distrusted: bool,
    ) -> Option<Self> {
        if corrected.is_empty() {
            return None;
        }
        let roles = geometry.roles(stripe);
        if geometry.kind() == Kind::Parity {
            let is_parity = corrected.is_within(roles.parity());
            return Some(if is_parity {
                Self::Parity
            } else {
                Self::Syndromes
            });
        }
        let agreed = roles.all().intersect(readable).minus(corrected);
        Some(if !distrusted && agreed.len() > corrected.len() {
            Self::Majority
        } else {
            Self::FirstCopy
        })
    }
}
