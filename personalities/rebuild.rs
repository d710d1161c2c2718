// SPDX-License-Identifier: GPL-2.0

//! Which members a rebuild fills, and from where to where: also when they do not all stand at the same
//! mark, because one was added while others were being rebuilt.
//!
//! ```text
//!                 0            mark                end
//!     slot 2      ▓▓▓▓▓▓▓▓▓▓▓▓▓│                    │   is being rebuilt
//!     slot 5                   │                    │   is added
//!     first pass               │──── 2 and 5 ──────►│   slot 2 is done
//!     second pass │──── 5 ────►│                        slot 5 is done
//! ```
//!
//! So one added later costs no more than a rebuild of its own, and shares what can be shared. Until its
//! second pass its mark stays 0, and after a restart it is begun anew. Where the first pass filled it, it
//! counts as right all the same ([`Marks`]): no rebuild comes by there again, so no write may leave it
//! behind.

use super::regions::Regions;
use super::{Geometry, Kind, Mask};
use crate::model::{Checked, Consistency, Slot};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::prelude::*;

/// Where a member that is being rebuilt holds what it should, in sectors of the member.
#[derive(Debug, Default)]
struct Held {
    /// Below this.
    below: AtomicU64,
    /// And in `late_from .. late_below`, what it got as a late one.
    late_from: AtomicU64,
    late_below: AtomicU64,
}

/// Where members that are being rebuilt hold what they should, by slot. One changes them, any number look.
#[derive(Debug)]
pub struct Marks(KVec<Held>);

impl Marks {
    /// For no member; nothing is being rebuilt.
    pub const NONE: Self = Self(KVec::new());

    /// One more member, which is right below `below`. Allocates; fails with `ENOMEM` only.
    pub fn push(&mut self, below: u64) -> Checked {
        let held = Held {
            below: AtomicU64::new(below),
            ..Held::default()
        };
        Ok(self.0.push(held, GFP_KERNEL)?)
    }

    /// Whether a member holds what it should in `start .. end`, if it is being rebuilt.
    pub fn hold(&self, slot: Slot, start: u64, end: u64) -> bool {
        let Some(held) = self.0.get(usize::from(slot)) else {
            return false;
        };
        if end <= held.below.load(Ordering::Acquire) {
            return true;
        }
        let from = held.late_from.load(Ordering::Acquire);
        let below = held.late_below.load(Ordering::Acquire);
        // Of one and the same range.
        start >= from && end <= below && held.late_from.load(Ordering::Acquire) == from
    }

    /// Members are new, or in sync: nothing is known of them here.
    pub fn forget(&self, slots: Mask) {
        for held in self.chosen(slots) {
            held.below.store(0, Ordering::Release);
            held.late_below.store(0, Ordering::Release);
        }
    }

    /// A pass begins, at the mark `first`.
    pub fn begin(&self, pass: &Pass, first: u64) {
        for held in self.chosen(pass.marked) {
            if pass.until_sectors.is_none() {
                // It comes by everywhere above the mark.
                held.late_below.store(0, Ordering::Release);
            }
            held.below.store(first, Ordering::Release);
        }
        for held in self.chosen(pass.late().members) {
            let from = held.late_from.load(Ordering::Acquire);
            let goes_on = from <= first && first <= held.late_below.load(Ordering::Acquire);
            if !goes_on {
                held.late_below.store(0, Ordering::Release);
                held.late_from.store(first, Ordering::Release);
            }
            held.late_below.store(first, Ordering::Release);
        }
    }

    /// The pass got to the mark `done`.
    pub fn advance(&self, pass: &Pass, done: u64) {
        for held in self.chosen(pass.marked) {
            held.below.store(done, Ordering::Release);
        }
        for held in self.chosen(pass.late().members) {
            held.late_below.store(done, Ordering::Release);
        }
    }

    fn chosen(&self, slots: Mask) -> impl Iterator<Item = &Held> {
        slots
            .iter()
            .filter_map(|slot| self.0.get(usize::from(slot)))
    }
}

/// How far the recorded marks of members being rebuilt may be believed (sectors of a member).
///
/// After an unclean stop a mirror's copies may differ where writes were in flight, below the marks too. Nobody is told
/// of it: what is read there comes from members in sync, as long as it is known which these are. So a rebuild begins
/// where copies may differ first, and a member that counts as in sync holds what was read of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trust(u64);

impl Trust {
    /// All that is recorded is so.
    pub const FULL: Self = Self(u64::MAX);

    /// Of a volume that is started in this state, with these regions that may have had writes in flight.
    pub fn at_start(
        geometry: &Geometry,
        consistency: Consistency,
        regions: Option<&Regions>,
    ) -> Self {
        if !matches!(geometry.kind(), Kind::Mirrored | Kind::Copies) {
            return Self::FULL;
        }
        let above = match consistency {
            Consistency::Clean => return Self::FULL,
            Consistency::Dirty if regions.is_some() => u64::MAX,
            Consistency::Dirty => 0,
            Consistency::Initialising { done_sectors } => done_sectors,
        };
        let in_flight = regions.and_then(|regions| regions.next_dirty(0));
        let first = in_flight.unwrap_or(u64::MAX).min(above);
        if geometry.kind() == Kind::Mirrored || first == u64::MAX {
            return Self(first);
        }
        // In the volume's sectors. Copies of later chunks are further down, each in its part of the members.
        let stripe = first.checked_div(u64::from(geometry.chunk_sectors()));
        let copies = (0..geometry.copies())
            .filter_map(|index| geometry.copy(stripe.unwrap_or(0), index))
            .map(|(_, start)| start);
        Self(copies.min().unwrap_or(0))
    }

    /// What of a recorded mark counts.
    pub fn of(self, recorded: u64) -> u64 {
        recorded.min(self.0)
    }

    /// A rebuild got to `done` since, of members the furthest of whose marks is `recorded`.
    pub fn got_to(&mut self, done: u64, recorded: u64) {
        self.0 = if done < recorded {
            self.0.max(done)
        } else {
            u64::MAX
        };
    }
}

/// Members that joined a rebuild late, and got all from some place on: what is below is for their second
/// pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Late {
    /// Which members.
    pub members: Mask,
    /// They hold what they should from here on (sectors of the member).
    pub from_sectors: u64,
}

impl Late {
    /// Nobody.
    pub const NONE: Self = Self {
        members: Mask::EMPTY,
        from_sectors: 0,
    };

    /// A member left, or was replaced: what it got does not count.
    pub fn forget(&mut self, slot: Slot) {
        self.members = self.members.without(slot);
    }
}

/// One way of a task over the members, or over a part of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    /// Members to fill; empty in a sync.
    pub targets: Mask,
    /// Those of them whose mark is the task's: they hold what they should below it. The others joined
    /// late.
    pub marked: Mask,
    /// Where it starts.
    pub from_sectors: u64,
    /// Where it ends; `None`: at the end.
    pub until_sectors: Option<u64>,
}

impl Pass {
    /// A sync, from a mark to the end.
    pub fn sync(from_sectors: u64) -> Self {
        Self {
            targets: Mask::EMPTY,
            marked: Mask::EMPTY,
            from_sectors,
            until_sectors: None,
        }
    }

    /// The pass that comes next, of members that are to be filled and how far each is; `None` when there
    /// are none.
    pub fn next(members: impl Iterator<Item = (Slot, u64)> + Clone, late: Late) -> Option<Self> {
        let all = |members: &mut dyn Iterator<Item = (Slot, u64)>| {
            members.fold(Mask::EMPTY, |mask, (slot, _)| mask.with(slot))
        };
        let targets = all(&mut members.clone());
        if targets.is_within(late.members) {
            return Some(Self {
                targets,
                marked: targets,
                from_sectors: members.map(|(_, done)| done).min()?,
                until_sectors: Some(late.from_sectors),
            });
        }
        let from_sectors = members.clone().map(|(_, done)| done).max()?;
        let marked = all(&mut members.filter(|(_, done)| *done == from_sectors));
        Some(Self {
            targets,
            marked,
            from_sectors,
            until_sectors: None,
        })
    }

    /// Who is late once this pass got to its end.
    pub fn late(&self) -> Late {
        Late {
            members: self.targets.minus(self.marked),
            from_sectors: self.from_sectors,
        }
    }

    /// Whether another member may join: the pass ends for it, and another one begins at its mark. One that
    /// catches up is let through.
    pub fn may_be_joined(&self) -> bool {
        !self.targets.is_empty() && self.until_sectors.is_none()
    }
}
