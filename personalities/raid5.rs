// SPDX-License-Identifier: GPL-2.0

//! RAID 4 and 5: data striped over all members but one in each stripe, which has their parity
//! (exclusive or).
//!
//! Where P is and where data starts is the [`Rotation`]: md's names; DDF 2.0 §4.2.9 to 4.2.12
//! (RLQ) and md's `algorithm` number name the same layouts. RAID 4 is the two rotations that do
//! not move. A *row* below is the stripe's number within the rotation's period, `stripe % members`.

use super::{
    check_capacity, check_chunk, check_members, whole_chunks, Health, Kind, Mask, Personality,
};
use crate::model::{Checked, Layout, Level, Rotation, Shape, Slot};
use crate::reason;
use kernel::prelude::*;

/// RAID 4.
pub struct Raid4;

/// RAID 5.
pub struct Raid5;

impl Personality for Raid4 {
    fn level(&self) -> Level {
        Level::Raid4
    }

    fn kind(&self) -> Kind {
        Kind::Parity
    }

    fn check(&self, shape: &Shape) -> Checked {
        match shape.layout {
            Layout::Parity(Rotation::ParityFirst | Rotation::ParityLast) => check(shape),
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

impl Personality for Raid5 {
    fn level(&self) -> Level {
        Level::Raid5
    }

    fn kind(&self) -> Kind {
        Kind::Parity
    }

    fn check(&self, shape: &Shape) -> Checked {
        match shape.layout {
            Layout::Parity(
                Rotation::LeftAsymmetric
                | Rotation::LeftSymmetric
                | Rotation::RightAsymmetric
                | Rotation::RightSymmetric
                | Rotation::ParityFirst
                | Rotation::ParityLast,
            ) => check(shape),
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

/// Two members are a mirror of sorts (P of one chunk is the chunk), and md makes them.
fn check(shape: &Shape) -> Checked {
    check_members(shape, 2)?;
    check_chunk(shape)?;
    check_capacity(shape, capacity_sectors(shape))
}

fn capacity_sectors(shape: &Shape) -> u64 {
    whole_chunks(shape.member_sectors, shape.chunk_sectors)
        .saturating_mul(u64::from(shape.members.saturating_sub(1)))
}

fn health(shape: &Shape, in_sync: Mask) -> Health {
    match Mask::all(shape.members).minus(in_sync).len() {
        0 => Health::Optimal,
        1 => Health::Degraded,
        _ => Health::Failed,
    }
}

/// The slot of P in `row`; `row < members`.
#[inline]
pub(super) fn parity_slot(rotation: Rotation, members: u16, row: u16) -> Slot {
    let last = members.saturating_sub(1);
    match rotation {
        Rotation::LeftAsymmetric | Rotation::LeftSymmetric => last.saturating_sub(row),
        Rotation::RightAsymmetric | Rotation::RightSymmetric => row,
        Rotation::ParityFirst => 0,
        Rotation::ParityLast => last,
        // RAID 6's own; `check` refuses them here.
        _ => last,
    }
}

/// Whether data goes on after P (`true`) or starts at member 0.
#[inline]
fn is_symmetric(rotation: Rotation) -> bool {
    matches!(rotation, Rotation::LeftSymmetric | Rotation::RightSymmetric)
}

/// The slot of data chunk `index` of a stripe with P in slot `p`;
/// `index < members − 1`, `p < members`.
#[inline]
pub(super) fn data_slot(rotation: Rotation, members: u16, p: Slot, index: u16) -> Slot {
    if is_symmetric(rotation) {
        let slot = p.saturating_add(1).saturating_add(index);
        // At most 2 × members − 2: one turn back is enough.
        slot.checked_sub(members).unwrap_or(slot)
    } else if index < p {
        index
    } else {
        index.saturating_add(1)
    }
}

/// Which data chunk of the stripe is in `slot`; `None` for P. Inverse of [`data_slot`].
#[inline]
pub(super) fn data_index(rotation: Rotation, members: u16, p: Slot, slot: Slot) -> Option<u16> {
    if slot == p || slot >= members {
        None
    } else if slot > p {
        let after = slot - p - 1;
        Some(if is_symmetric(rotation) {
            after
        } else {
            slot - 1
        })
    } else if is_symmetric(rotation) {
        // Members after P come first.
        Some(
            slot.saturating_add(members)
                .saturating_sub(p)
                .saturating_sub(1),
        )
    } else {
        Some(slot)
    }
}
