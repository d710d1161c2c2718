// SPDX-License-Identifier: GPL-2.0

//! The ring of entries on one member: where the next one goes, and when it may.
//!
//! Entries lie one behind the other; one that reaches the end goes on at the start. Each says where it lies,
//! counted on without end ([`Place::position`]), and from where on entries count ([`Place::oldest`]): what is
//! before that may be overwritten soon. It is only overwritten when an entry that says so is on the member.
//! So however many entries are on the way, and whichever of them turn out torn after a crash, no old entry of a
//! lane is found of which a later one was overwritten.

use super::entry::units_for;
use super::{SECTORS_MAX, UNITS_MAX, UNITS_MIN, UNIT_SECTORS};
use crate::model::Checked;
use crate::reason;
use kernel::prelude::*;

/// Where an entry was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Units in front of it since the session began.
    pub position: u64,
    /// Entries before this position count no more once this one is on the member.
    pub oldest: u64,
    /// First unit in the ring.
    pub unit: u32,
    /// Units of it before the end of the ring; what is left lies at the start.
    pub units_before_end: u32,
}

/// Why an entry cannot be put anywhere now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// What an entry was written for that is in the way is not through, or too many are on their way to the
    /// member. Both pass.
    Busy,
    /// What is in the way is through, but may be in a cache: flush all members.
    Unflushed,
}

/// An entry.
#[derive(Clone, Copy, Debug)]
struct Kept {
    position: u64,
    units: u32,
    /// Which lanes it is about ([`super::Watch`]).
    bucket: u16,
    /// What it says of others.
    oldest: u64,
    /// The flush that makes what it was written for durable; `None` while that is not through.
    done: Option<u64>,
}

const NOTHING: Kept = Kept {
    position: u64::MAX,
    units: 1,
    bucket: 0,
    oldest: 0,
    done: None,
};

/// The ring of one member.
///
/// # Invariants
///
/// * `counted ≤ oldest ≤ next`, and `next - counted ≤ units`.
/// * The entries in `counted .. next` follow one another without a gap; `kept` has each at the unit where it
///   starts. All memory is allocated beforehand.
#[derive(Debug)]
pub struct Ring {
    units: u32,
    /// Units between the end of an entry and what may still count.
    clearance: u32,
    /// Where the next entry goes.
    next: u64,
    /// What the last entry says of others.
    oldest: u64,
    /// What some entry on the member says: nothing before this is found.
    counted: u64,
    kept: KVVec<Kept>,
}

impl Ring {
    /// A ring over `units` units, of which [`UNITS_MAX`] are used. Allocates. `ENOSPC` for fewer than
    /// [`UNITS_MIN`].
    pub fn new(units: u32) -> Checked<Self> {
        if units < UNITS_MIN {
            return Err(reason!(
                ENOSPC,
                "a log of {units} units of 4 KiB is too small: it takes {UNITS_MIN}"
            ));
        }
        let units = units.min(UNITS_MAX);
        Ok(Self {
            units,
            clearance: (units / 4).max(1 + SECTORS_MAX / UNIT_SECTORS),
            next: 0,
            oldest: 0,
            counted: 0,
            kept: KVVec::from_elem(NOTHING, units as usize, GFP_KERNEL)?,
        })
    }

    fn unit_of(&self, position: u64) -> u32 {
        // Less than `units`, which is not 0.
        position.checked_rem(u64::from(self.units)).unwrap_or(0) as u32
    }

    fn at(&mut self, position: u64) -> Option<&mut Kept> {
        let unit = self.unit_of(position) as usize;
        let kept = self.kept.get_mut(unit)?;
        (kept.position == position).then_some(kept)
    }

    /// Whether [`Ring::place`] would find room.
    pub fn has_room(&mut self, sectors: u32, flushed: u64) -> Result<(), Refusal> {
        self.room(units_of(sectors), flushed).map(|_| ())
    }

    /// What an entry of `units` at `next` would say of others, if it may be put there.
    fn room(&mut self, units: u32, flushed: u64) -> Result<u64, Refusal> {
        let position = self.next;
        let end = position.saturating_add(u64::from(units));
        let clear = end
            .saturating_add(u64::from(self.clearance))
            .saturating_sub(u64::from(self.units));
        let mut oldest = self.oldest;
        while oldest < clear.min(position) {
            let Some(kept) = self.at(oldest) else {
                return Err(Refusal::Busy);
            };
            match kept.done {
                None => return Err(Refusal::Busy),
                Some(flush) if flush > flushed => return Err(Refusal::Unflushed),
                Some(_) => oldest = oldest.saturating_add(u64::from(kept.units)),
            }
        }
        if end.saturating_sub(u64::from(self.units)) > self.counted {
            return Err(Refusal::Busy);
        }
        Ok(oldest)
    }

    /// Puts an entry with a sum of `sectors` (0: void) behind the last one, when what it will be in the way of
    /// soon is through and flushed: `flushed` is the last flush that came to its end.
    pub fn place(&mut self, sectors: u32, bucket: u16, flushed: u64) -> Result<Place, Refusal> {
        let units = units_of(sectors);
        let oldest = self.room(units, flushed)?;
        let position = self.next;
        let unit = self.unit_of(position);
        if let Some(room) = self.kept.get_mut(unit as usize) {
            *room = Kept {
                position,
                units,
                bucket,
                oldest,
                done: None,
            };
        }
        self.oldest = oldest;
        self.next = position.saturating_add(u64::from(units));
        Ok(Place {
            position,
            oldest,
            unit,
            units_before_end: units.min(self.units.saturating_sub(unit)),
        })
    }

    /// The entry is on the member, and with it what it says of others. `gone` gets the buckets of those that
    /// cannot be found any more.
    pub fn written(&mut self, place: Place, mut gone: impl FnMut(u16)) {
        let oldest = self.at(place.position).map_or(0, |kept| kept.oldest);
        while self.counted < oldest {
            let Some(&mut kept) = self.at(self.counted) else {
                return;
            };
            gone(kept.bucket);
            self.counted = self.counted.saturating_add(u64::from(kept.units));
        }
    }

    /// What the entry was written for is through; flush number `flush` makes it durable.
    pub fn done(&mut self, place: Place, flush: u64) {
        if let Some(kept) = self.at(place.position) {
            kept.done = Some(flush);
        }
    }

    /// The member is another one now: nothing is on it. `gone` gets the buckets of all entries.
    pub fn clear(&mut self, mut gone: impl FnMut(u16)) {
        while self.counted < self.next {
            let Some(&mut kept) = self.at(self.counted) else {
                break;
            };
            gone(kept.bucket);
            self.counted = self.counted.saturating_add(u64::from(kept.units));
        }
        (self.counted, self.oldest) = (self.next, self.next);
    }
}

/// Units of an entry with a sum of `sectors`, or void.
fn units_of(sectors: u32) -> u32 {
    match sectors {
        0 => 1,
        _ => units_for(sectors.min(SECTORS_MAX)),
    }
}
