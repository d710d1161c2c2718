// SPDX-License-Identifier: GPL-2.0

//! Concatenation: the members one after another, no redundancy.
//!
//! All members give the same length. A chunk, where the format has one, only rounds that length
//! down (as md's linear does); it does not stripe.

use super::{
    check_capacity, check_chunk, check_members, check_plain, whole_chunks, Health, Kind, Mask,
    Personality,
};
use crate::model::{Checked, Level, Shape};

/// The personality.
pub struct Concat;

/// Sectors that each member gives.
pub(super) fn member_sectors(shape: &Shape) -> u64 {
    whole_chunks(shape.member_sectors, shape.chunk_sectors)
}

impl Personality for Concat {
    fn level(&self) -> Level {
        Level::Concat
    }

    fn kind(&self) -> Kind {
        Kind::Concat
    }

    fn check(&self, shape: &Shape) -> Checked {
        check_members(shape, 1)?;
        check_plain(shape)?;
        if shape.chunk_sectors != 0 {
            check_chunk(shape)?;
        }
        check_capacity(shape, self.capacity_sectors(shape))
    }

    fn capacity_sectors(&self, shape: &Shape) -> u64 {
        member_sectors(shape).saturating_mul(u64::from(shape.members))
    }

    fn health(&self, shape: &Shape, in_sync: Mask) -> Health {
        super::raid0::all_or_nothing(shape, in_sync)
    }
}
