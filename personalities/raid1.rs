// SPDX-License-Identifier: GPL-2.0

//! RAID 1: every member holds everything. A chunk, where the format gives one, means nothing.

use super::{check_capacity, check_members, check_plain, Health, Kind, Mask, Personality};
use crate::model::{Checked, Level, Shape};

/// The personality.
pub struct Raid1;

impl Personality for Raid1 {
    fn level(&self) -> Level {
        Level::Raid1
    }

    fn kind(&self) -> Kind {
        Kind::Mirrored
    }

    fn check(&self, shape: &Shape) -> Checked {
        check_members(shape, 1)?;
        check_plain(shape)?;
        check_capacity(shape, self.capacity_sectors(shape))
    }

    fn capacity_sectors(&self, shape: &Shape) -> u64 {
        shape.member_sectors
    }

    fn health(&self, shape: &Shape, in_sync: Mask) -> Health {
        let all = Mask::all(shape.members);
        let left = in_sync.intersect(all);
        match left.len() {
            0 => Health::Failed,
            _ if left == all => Health::Optimal,
            1 => Health::Degraded,
            _ => Health::PartiallyOptimal,
        }
    }
}
