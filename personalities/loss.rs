// SPDX-License-Identifier: GPL-2.0

//! What becomes of an array that loses a member. The data path asks before it gives one up.

use super::{for_level, Geometry, Health, Kind, Mask};
use crate::model::Slot;

/// What the loss of a member means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Nothing: there is no redundancy, or the member is out of use already.
    Nothing,
    /// It stays in use: it is a mirror's last good member, and its disk is here. What it does not take or
    /// give fails, and everything else is still worth having.
    Kept,
    /// Redundancy bears it: it is recorded before anything that the member missed is acknowledged.
    Borne,
    /// More is lost than redundancy bears. That is not recorded: the metadata keeps the last state in which
    /// no acknowledged write was missing.
    Beyond,
}

impl Loss {
    /// What the loss of `slot` means when `readable` are the members in sync, and `writable` these and
    /// the ones that are being rebuilt. `is_gone`: its disk is not in the machine any more.
    pub fn of(
        geometry: &Geometry,
        readable: Mask,
        writable: Mask,
        slot: Slot,
        is_gone: bool,
    ) -> Self {
        let is_redundant = match geometry.kind() {
            Kind::Mirrored | Kind::Copies | Kind::Parity => true,
            Kind::Concat | Kind::Striped => false,
        };
        if !is_redundant || !writable.contains(slot) {
            return Self::Nothing;
        }
        if !readable.contains(slot) {
            return Self::Borne;
        }
        let left = readable.without(slot);
        if geometry.kind() == Kind::Mirrored && left.is_empty() && !is_gone {
            return Self::Kept;
        }
        let health = for_level(geometry.level()).map(|level| level.health(geometry.shape(), left));
        match health {
            Some(Health::Failed) | None => Self::Beyond,
            Some(_) => Self::Borne,
        }
    }
}
