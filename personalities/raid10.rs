// SPDX-License-Identifier: GPL-2.0

//! RAID 10 and 1E: chunks striped over the members, each on several of them.
//!
//! With `n` members and `x` copies, copy `j` of chunk `c` is (md's layouts; DDF's RAID 1E adjacent
//! is near, its RAID 1E offset is offset, both with two copies):
//!
//! | layout | member | chunk of the member |
//! |---|---|---|
//! | near | `(c·x + j) mod n` | `(c·x + j) div n` |
//! | far | `(c + j) mod n` | `c div n + j·stride`, `stride` = chunks of a member `div x` |
//! | offset | `(c + j) mod n` | `(c div n)·x + j` |
//!
//! So `n` chunks are a period in all of them, and a chunk's copies are on `x` members in a row, going
//! round: that is all that [`Health`] and the masks need.

use super::{
    check_capacity, check_chunk, check_members, whole_chunks, Health, Kind, Mask, Personality,
};
use crate::model::{Checked, Layout, Level, Shape, Slot};
use crate::reason;
use core::num::NonZeroU64;
use kernel::prelude::*;

/// RAID 10.
pub struct Raid10;

/// RAID 1E.
pub struct Raid1e;

impl Personality for Raid10 {
    fn level(&self) -> Level {
        Level::Raid10
    }

    fn kind(&self) -> Kind {
        Kind::Copies
    }

    fn check(&self, shape: &Shape) -> Checked {
        match shape.layout {
            Layout::Near(_) | Layout::Far(_) | Layout::Offset(_) => check(shape, 2),
            _ => Err(bad_layout(shape)),
        }
    }

    fn capacity_sectors(&self, shape: &Shape) -> u64 {
        capacity_sectors(shape)
    }

    fn health(&self, shape: &Shape, in_sync: Mask) -> Health {
        health(shape, in_sync)
    }
}

impl Personality for Raid1e {
    fn level(&self) -> Level {
        Level::Raid1e
    }

    fn kind(&self) -> Kind {
        Kind::Copies
    }

    fn check(&self, shape: &Shape) -> Checked {
        match shape.layout {
            Layout::Near(2) | Layout::Offset(2) => check(shape, 3),
            _ => Err(bad_layout(shape)),
        }
    }

    fn capacity_sectors(&self, shape: &Shape) -> u64 {
        capacity_sectors(shape)
    }

    fn health(&self, shape: &Shape, in_sync: Mask) -> Health {
        health(shape, in_sync)
    }
}

fn bad_layout(shape: &Shape) -> crate::model::Reason {
    reason!(EINVAL, "{} has no layout {}", shape.level, shape.layout)
}

/// Copies of each chunk, for the layouts that have any; else 0.
fn copies_of(layout: Layout) -> u16 {
    match layout {
        Layout::Near(copies) | Layout::Far(copies) | Layout::Offset(copies) => u16::from(copies),
        Layout::Plain | Layout::Parity(_) => 0,
    }
}

fn check(shape: &Shape, members_min: u16) -> Checked {
    check_members(shape, members_min)?;
    let copies = copies_of(shape.layout);
    if copies < 2 || copies > shape.members {
        return Err(reason!(
            EINVAL,
            "layout {}: {} of {} members has 2 to {} copies",
            shape.layout,
            shape.level,
            shape.members,
            shape.members
        ));
    }
    check_chunk(shape)?;
    check_capacity(shape, capacity_sectors(shape))
}

fn capacity_sectors(shape: &Shape) -> u64 {
    let Some(copies) = Copies::new(shape) else {
        return 0;
    };
    let shift = shape.chunk_sectors.trailing_zeros();
    copies
        .capacity_chunks(shape.member_sectors.wrapping_shr(shift))
        .saturating_mul(u64::from(shape.chunk_sectors))
}

/// Exact over a period of the layout: which members hold copies of the same chunk decides, not how
/// many members are lost.
fn health(shape: &Shape, in_sync: Mask) -> Health {
    let all = Mask::all(shape.members);
    if all.is_within(in_sync) {
        return Health::Optimal;
    }
    let Some(copies) = Copies::new(shape) else {
        return Health::Failed;
    };
    let fewest = (0..copies.members)
        .map(|within| copies.holders(within).intersect(in_sync).len())
        .min()
        .unwrap_or(0);
    match fewest {
        0 => Health::Failed,
        1 => Health::Degraded,
        _ => Health::PartiallyOptimal,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Near,
    Far,
    Offset,
}

/// Where copies are, in chunks.
///
/// # Invariants
///
/// `1 ≤ copies ≤ members ≤ MEMBERS_MAX`, so no sum of `u16` below overflows. `stride` is the chunks
/// of a member that far's first copies may take, and unused otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    way: Way,
    copies: u16,
    members: u16,
    stride: NonZeroU64,
}

impl Copies {
    /// `None` for shapes that have no copies.
    pub(super) fn new(shape: &Shape) -> Option<Self> {
        let (way, copies) = match shape.layout {
            Layout::Near(copies) => (Way::Near, u16::from(copies)),
            Layout::Far(copies) => (Way::Far, u16::from(copies)),
            Layout::Offset(copies) => (Way::Offset, u16::from(copies)),
            Layout::Plain | Layout::Parity(_) => return None,
        };
        if copies == 0 || copies > shape.members || !shape.chunk_sectors.is_power_of_two() {
            return None;
        }
        let member_chunks = whole_chunks(shape.member_sectors, shape.chunk_sectors)
            .wrapping_shr(shape.chunk_sectors.trailing_zeros());
        Some(Self {
            way,
            copies,
            members: shape.members,
            stride: NonZeroU64::new(member_chunks / u64::from(copies)).unwrap_or(NonZeroU64::MIN),
        })
    }

    /// Copies of each chunk.
    #[inline]
    pub(super) fn copies(&self) -> u16 {
        self.copies
    }

    /// The chunk's period and its number within, below `members`. The one wide division.
    #[inline]
    fn split(&self, chunk: u64) -> (u64, u16) {
        let members = NonZeroU64::new(u64::from(self.members)).unwrap_or(NonZeroU64::MIN);
        (chunk / members, (chunk % members) as u16)
    }

    /// The member with the first copy of chunk `within` of a period; those with the other copies
    /// follow, going round. And near's row within the period.
    #[inline]
    fn first(&self, within: u16) -> (Slot, u16) {
        match self.way {
            Way::Near => {
                // Below MEMBERS_MAX².
                let place = within.wrapping_mul(self.copies);
                let members = self.members.max(1);
                (place % members, place / members)
            }
            Way::Far | Way::Offset => (within, 0),
        }
    }

    /// The member that is `steps < members` after `slot`, and how many times that went round.
    #[inline]
    fn after(&self, slot: Slot, steps: u16) -> (Slot, u16) {
        let sum = slot.wrapping_add(steps);
        match sum.checked_sub(self.members) {
            Some(slot) => (slot, 1),
            None => (sum, 0),
        }
    }

    /// How many members `slot` is after `first`, going round.
    #[inline]
    fn steps(&self, first: Slot, slot: Slot) -> u16 {
        slot.checked_sub(first)
            .unwrap_or(slot.wrapping_add(self.members).wrapping_sub(first))
    }

    /// Where copy `index`, below [`copies`](Self::copies), of a chunk is: slot, and chunk of the
    /// member.
    #[inline]
    pub(super) fn place(&self, chunk: u64, index: u16) -> (Slot, u64) {
        let (period, within) = self.split(chunk);
        let (first, row) = self.first(within);
        let (slot, turns) = self.after(first, index);
        let copies = u64::from(self.copies);
        let at = match self.way {
            Way::Near => period
                .wrapping_mul(copies)
                .wrapping_add(u64::from(row.wrapping_add(turns))),
            Way::Far => period.wrapping_add(self.stride.get().wrapping_mul(u64::from(index))),
            Way::Offset => period.wrapping_mul(copies).wrapping_add(u64::from(index)),
        };
        (slot, at)
    }

    /// The chunk of the member in `slot` where its copy of `chunk` is; `None` when it has none.
    #[inline]
    pub(super) fn member_chunk(&self, chunk: u64, slot: Slot) -> Option<u64> {
        if slot >= self.members {
            return None;
        }
        let (_, within) = self.split(chunk);
        let index = self.steps(self.first(within).0, slot);
        (index < self.copies).then(|| self.place(chunk, index).1)
    }

    /// The chunk of the volume of which a copy is at `member_chunk` of the member in `slot`. Beyond
    /// the volume's end the answer is, too; `None` for slots that there are not, and for far's
    /// unused rest.
    #[inline]
    pub(super) fn chunk_at(&self, slot: Slot, member_chunk: u64) -> Option<u64> {
        if slot >= self.members {
            return None;
        }
        let members = u64::from(self.members);
        let copies = NonZeroU64::new(u64::from(self.copies))?;
        let (period, within) = match self.way {
            Way::Near => {
                // Below MEMBERS_MAX.
                let row = (member_chunk % copies) as u16;
                let place = row.wrapping_mul(self.members).wrapping_add(slot);
                (member_chunk / copies, place.checked_div(self.copies)?)
            }
            Way::Far => {
                let index = member_chunk / self.stride;
                if index >= copies.get() {
                    return None;
                }
                // Below MEMBERS_MAX.
                (member_chunk % self.stride, self.steps(index as u16, slot))
            }
            Way::Offset => {
                let index = (member_chunk % copies) as u16;
                (member_chunk / copies, self.steps(index, slot))
            }
        };
        period.checked_mul(members)?.checked_add(u64::from(within))
    }

    /// The members with copies of a chunk.
    #[inline]
    pub(super) fn holders_of(&self, chunk: u64) -> Mask {
        self.holders(self.split(chunk).1)
    }

    /// The members with copies of chunk `within < members` of any period.
    #[inline]
    fn holders(&self, within: u16) -> Mask {
        let (first, _) = self.first(within);
        // A run of `copies` members; what is beyond the last comes in at member 0.
        let run = Mask::all(self.copies);
        let beyond = first.wrapping_add(self.copies).saturating_sub(self.members);
        Mask(run.0.wrapping_shl(u32::from(first)))
            .intersect(Mask::all(self.members))
            .union(Mask::all(beyond))
    }

    /// Chunks of the volume that `member_chunks` chunks of each member have room for.
    #[inline]
    pub(super) fn capacity_chunks(&self, member_chunks: u64) -> u64 {
        let members = u64::from(self.members);
        let copies = u64::from(self.copies.max(1));
        match self.way {
            // Copies go on over the ends of rows: only what is less than a chunk is lost.
            Way::Near => member_chunks.saturating_mul(members) / copies,
            // Whole rows.
            Way::Far | Way::Offset => (member_chunks / copies).saturating_mul(members),
        }
    }

    /// Chunks of a member from its start to the end of the last copy, in a volume of `chunks`.
    pub(super) fn used_chunks(&self, chunks: u64) -> u64 {
        let members = u64::from(self.members.max(1));
        let copies = u64::from(self.copies);
        match self.way {
            Way::Near => chunks.saturating_mul(copies).div_ceil(members),
            Way::Offset => chunks.div_ceil(members).saturating_mul(copies),
            Way::Far => self
                .stride
                .get()
                .saturating_mul(copies.saturating_sub(1))
                .saturating_add(chunks.div_ceil(members)),
        }
    }
}
