// SPDX-License-Identifier: GPL-2.0

//! RAID 0: chunks dealt to the members in turn, no redundancy. Several spans come to the same as one
//! with all their members.
//!
//! All members give the same length (md's zones over members of different lengths are no single
//! shape and are not run).

use super::{
    check_capacity, check_chunk, check_members, check_plain, whole_chunks, Health, Kind, Mask,
    Personality,
};
use crate::model::{Checked, Level, Shape};

/// The personality.
pub struct Raid0;

/// Health of a level that cannot lose any member.
pub(super) fn all_or_nothing(shape: &Shape, in_sync: Mask) -> Health {
    let members = shape.members.saturating_mul(shape.spans);
    if Mask::all(members).is_within(in_sync) {
        Health::Optimal
    } else {
        Health::Failed
    }
}

impl Personality for Raid0 {
    fn level(&self) -> Level {
        Level::Raid0
    }

    fn kind(&self) -> Kind {
        Kind::Striped
    }

    fn check(&self, shape: &Shape) -> Checked {
        check_members(shape, 1)?;
        check_plain(shape)?;
        check_chunk(shape)?;
        check_capacity(shape, self.capacity_sectors(shape))
    }

    fn capacity_sectors(&self, shape: &Shape) -> u64 {
        whole_chunks(shape.member_sectors, shape.chunk_sectors)
            .saturating_mul(u64::from(shape.members))
            .saturating_mul(u64::from(shape.spans))
    }

    fn health(&self, shape: &Shape, in_sync: Mask) -> Health {
        all_or_nothing(shape, in_sync)
    }
}
