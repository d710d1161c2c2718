// SPDX-License-Identifier: GPL-2.0

//! Where every sector is of a volume that lies in more than one shape ([`crate::model::Stretch`]), because somebody
//! else is reshaping it, or because its members differ in size.
//!
//! Each stretch has the geometry of a whole volume of its shape, and is asked only for its own sectors.
//! The members of all stretches together make one table: a stretch of a disk that is a member in two of
//! them at the same offset is in it once. Nothing is read or written but the place itself: which parity covers what,
//! while stripes move, only the one who moves them knows, so what has any is only read.

use super::{Geometry, Kind, Place};
use crate::model::{Checked, Member, MemberState, Slot, Volume, MEMBERS_MAX};
use crate::reason;
use kernel::prelude::*;

/// A stretch, ready for the data path.
#[derive(Debug)]
struct Part {
    start_sectors: u64,
    end_sectors: u64,
    /// Where it starts in the geometry's own space.
    first_sectors: u64,
    geometry: Geometry,
    /// Index in the table, by slot.
    table: KVec<Slot>,
}

impl Part {
    /// What a sector of the volume, which is in this part, is in the geometry's own space.
    fn own(&self, sector: u64) -> u64 {
        // In range by what `Stretches::new` checks.
        sector
            .saturating_sub(self.start_sectors)
            .saturating_add(self.first_sectors)
    }
}

/// The stretches of a volume, ready for the data path.
#[derive(Debug)]
pub struct Stretches {
    parts: KVec<Part>,
}

impl Stretches {
    /// The stretches of `volume`, and the members that they have together. Allocates.
    ///
    /// Fails with `EINVAL` when they do not cover the volume in order, with what [`Geometry::new`] says of
    /// a shape, with `ENODEV` when a member is not in sync, and with `E2BIG` for too many members.
    pub fn new(volume: &Volume) -> Checked<(Self, KVec<Member>)> {
        let mut parts = KVec::with_capacity(volume.stretches.len(), GFP_KERNEL)?;
        let mut members: KVec<Member> = KVec::new();
        let mut start = 0;
        for stretch in volume.stretches.iter() {
            let own_end = stretch
                .end_sectors
                .checked_sub(start)
                .filter(|&sectors| sectors > 0)
                .and_then(|sectors| stretch.first_sectors.checked_add(sectors));
            if own_end.is_none_or(|end| end > stretch.size_sectors) {
                return Err(reason!(
                    EINVAL,
                    "a stretch from sector {start} to {} is impossible",
                    stretch.end_sectors
                ));
            }
            let geometry = Geometry::new(&stretch.shape, stretch.size_sectors)?;
            if stretch.members.len() != stretch.shape.members_total() {
                return Err(reason!(EINVAL, "a stretch lacks members"));
            }
            let mut table = KVec::with_capacity(stretch.members.len(), GFP_KERNEL)?;
            for member in stretch.members.iter() {
                if member.state != MemberState::InSync || member.disk.is_none() {
                    return Err(reason!(
                        ENODEV,
                        "a member is not in sync: a volume that is being reshaped is read from all of \
                         them, or not at all"
                    ));
                }
                let same = |other: &Member| {
                    other.disk == member.disk && other.offset_sectors == member.offset_sectors
                };
                let index = match members.iter().position(same) {
                    Some(index) => index,
                    None => {
                        members.push(*member, GFP_KERNEL)?;
                        members.len() - 1
                    }
                };
                if index >= MEMBERS_MAX {
                    return Err(reason!(E2BIG, "more than {MEMBERS_MAX} members together"));
                }
                // Below MEMBERS_MAX.
                table.push(index as Slot, GFP_KERNEL)?;
            }
            let start_sectors = core::mem::replace(&mut start, stretch.end_sectors);
            parts.push(
                Part {
                    start_sectors,
                    end_sectors: stretch.end_sectors,
                    first_sectors: stretch.first_sectors,
                    geometry,
                    table,
                },
                GFP_KERNEL,
            )?;
        }
        if start != volume.size_sectors {
            return Err(reason!(
                EINVAL,
                "stretches of {start} sectors do not make a volume of {}",
                volume.size_sectors
            ));
        }
        Ok((Self { parts }, members))
    }

    /// Where `sector` is; the slot is an index of the table. `None` beyond the volume.
    pub fn locate(&self, sector: u64) -> Option<Place> {
        let part = self.parts.iter().find(|part| sector < part.end_sectors)?;
        let place = part.geometry.locate(part.own(sector));
        let left = part.end_sectors.saturating_sub(sector);
        Some(Place {
            slot: *part.table.get(usize::from(place.slot))?,
            left_sectors: place.left_sectors.min(left),
            ..place
        })
    }

    /// The sector of a member of the table (from its start) where what is read of it ends.
    pub fn member_end(&self, index: Slot) -> u64 {
        let mut most = 0;
        for part in self.parts.iter() {
            let Some(slot) = part.table.iter().position(|&other| other == index) else {
                continue;
            };
            // The last sectors lie in the last row; what is in front of it lies below. None is empty.
            let last = part.geometry.locate(part.own(part.end_sectors - 1));
            let chunk = u64::from(part.geometry.chunk_sectors());
            let end = match part.geometry.kind() {
                // Who comes behind the last one in its row has nothing there.
                Kind::Striped if slot > usize::from(last.slot) => last
                    .member_sector
                    .saturating_sub(last.member_sector.checked_rem(chunk).unwrap_or(0)),
                _ if chunk == 0 => last.member_sector.saturating_add(1),
                _ => last.member_sector.saturating_add(last.left_sectors),
            };
            most = most.max(end);
        }
        most
    }
}
