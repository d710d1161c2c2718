// SPDX-License-Identifier: GPL-2.0

//! RAID 4, 5 and 6: data striped over all members but one or two in each stripe, which have their
//! parity: P (exclusive or), and for RAID 6 also Q (a sum in GF(2⁸)).
//!
//! Where parity and data are is the [`Rotation`](crate::model::Rotation), see `rotation.rs`. RAID 4
//! is the two rotations that do not move; RAID 5 has them too, as md does. More than one span is
//! RAID 50 or 60 (`spans.rs`).

use super::rotation::Pattern;
use super::{
    check_capacity, check_chunk, check_members, spans, whole_chunks, Health, Kind, Mask,
    Personality,
};
use crate::model::{Checked, Layout, Level, Shape};
use crate::reason;
use kernel::prelude::*;

/// RAID 4.
pub struct Raid4;

/// RAID 5.
pub struct Raid5;

/// RAID 6.
pub struct Raid6;

macro_rules! parity_level {
    ($level:ident) => {
        impl Personality for $level {
            fn level(&self) -> Level {
                Level::$level
            }

            fn kind(&self) -> Kind {
                Kind::Parity
            }

            fn check(&self, shape: &Shape) -> Checked {
                check(Level::$level, shape)
            }

            fn capacity_sectors(&self, shape: &Shape) -> u64 {
                capacity_sectors(Level::$level, shape)
            }

            fn health(&self, shape: &Shape, in_sync: Mask) -> Health {
                spans::worst(shape, in_sync, |left| {
                    health(Level::$level, shape.members, left)
                })
            }
        }
    };
}

parity_level!(Raid4);
parity_level!(Raid5);
parity_level!(Raid6);

/// Fewest members of a span. Two members of RAID 4 or 5 are a mirror of sorts (P of one chunk is
/// the chunk), and md makes them. Of RAID 6, neither md nor DDF has fewer than four.
fn members_min(level: Level) -> u16 {
    if level == Level::Raid6 {
        4
    } else {
        2
    }
}

fn check(level: Level, shape: &Shape) -> Checked {
    check_members(shape, members_min(level))?;
    match shape.layout {
        Layout::Parity(rotation) if Pattern::new(level, rotation, shape.members).is_some() => {}
        _ => return Err(reason!(EINVAL, "{} has no layout {}", level, shape.layout)),
    }
    check_chunk(shape)?;
    check_capacity(shape, capacity_sectors(level, shape))
}

fn capacity_sectors(level: Level, shape: &Shape) -> u64 {
    let data_members = shape.members.saturating_sub(level.parity_members());
    whole_chunks(shape.member_sectors, shape.chunk_sectors)
        .saturating_mul(u64::from(data_members))
        .saturating_mul(u64::from(shape.spans))
}

/// Health of one span, whose members `left` are in sync.
fn health(level: Level, members: u16, left: Mask) -> Health {
    let lost = Mask::all(members).minus(left).len();
    match u32::from(level.parity_members()).checked_sub(lost) {
        _ if lost == 0 => Health::Optimal,
        None => Health::Failed,
        Some(0) => Health::Degraded,
        Some(_) => Health::PartiallyOptimal,
    }
}
