// SPDX-License-Identifier: GPL-2.0

//! RAID 0 and linear over members of different sizes.
//!
//! RAID 0 is striped over all members as far as the smallest goes; what the others have beyond it is striped over
//! those, and so on: zones. Which member of a zone a chunk is on follows from its number in the whole array
//! (`original`, kernels before 3.14), or in the zone (`alternate`); feature 0x1000 says that `layout` tells which, and
//! without it nobody knows (`drivers/md/raid0.c`: `create_strip_zones`, `map_sector`). Linear members follow one another.

use super::assemble::Reader;
use super::layout::*;
use super::standing::Standing;
use crate::model::{Checked, Layout, Level, Member, Shape, Stretch};
use crate::reason;
use kernel::prelude::*;

/// `layout` of RAID 0: the chunk's number in the whole array counts.
const ORIGINAL: u32 = 1;
/// The chunk's number in the zone counts.
const ALTERNATE: u32 = 2;

impl Reader<'_> {
    /// Sectors of data that the member in `slot` has, in whole chunks; `None` when it is not here.
    fn data_of(&self, slot: u16) -> Option<u64> {
        let unit = self.head().chunk_sectors.max(1);
        let mut here = self.views.iter().zip(self.standings.iter());
        let (view, _) = here.find(|(_, standing)| **standing == Standing::Member(slot))?;
        let size = view.head.data_size;
        Some(size.saturating_sub(size.checked_rem(unit).unwrap_or(0)))
    }

    /// Smallest and largest length of the members that are here, in whole chunks.
    pub(super) fn data_sizes(&self) -> Option<(u64, u64)> {
        let slots = u16::try_from(self.head().raid_disks).unwrap_or(u16::MAX);
        let mut sizes = None;
        for own in
            (0..slots.min(crate::model::MEMBERS_MAX as u16)).filter_map(|slot| self.data_of(slot))
        {
            let (least, most) = sizes.unwrap_or((own, own));
            sizes = Some((own.min(least), own.max(most)));
        }
        sizes
    }

    /// Where an array over `members` of different sizes lies; nothing for other arrays, or when one is not here (it is
    /// not run then). Allocates.
    #[inline(never)]
    pub(super) fn stretches(&self, shape: &Shape, members: &[Member]) -> Checked<KVec<Stretch>> {
        let mut stretches = KVec::new();
        let is_loose = matches!(shape.level, Level::Raid0 | Level::Concat);
        let is_equal = self.data_sizes().is_none_or(|(least, most)| least == most);
        let mut sizes = KVec::with_capacity(members.len(), GFP_KERNEL)?;
        for slot in 0..members.len() as u16 {
            match self.data_of(slot) {
                Some(size) => sizes.push(size, GFP_KERNEL)?,
                None => return Ok(stretches),
            }
        }
        if !is_loose || is_equal {
            return Ok(stretches);
        }
        let mut end = 0u64;
        if shape.level == Level::Concat {
            for (member, &size) in members
                .iter()
                .zip(sizes.iter())
                .filter(|(_, size)| **size > 0)
            {
                let place = (end, 0, size);
                add(&mut stretches, shape, place, &mut [*member].into_iter())?;
                end = last_end(&stretches);
            }
            return Ok(stretches);
        }
        let is_original = match self.zone_layout() {
            Some(ORIGINAL) => true,
            Some(ALTERNATE) => false,
            _ => {
                return Err(reason!(
                    EOPNOTSUPP,
                    "members differ in size, and which layout it has is not recorded: \
                     mdadm -A --update=layout-original or -alternate"
                ))
            }
        };
        let chunk = u64::from(shape.chunk_sectors).max(1);
        let mut start = 0;
        // The smallest size above `start`: that is where the next zone ends on its members.
        while let Some(next) = sizes.iter().copied().filter(|&size| size > start).min() {
            let width = sizes.iter().filter(|&&size| size > start).count() as u64;
            let turned = match is_original {
                // Chunks of the zones before turn the order.
                true => end
                    .checked_div(chunk)
                    .and_then(|chunks| chunks.checked_rem(width))
                    .unwrap_or(0),
                false => 0,
            };
            let of_zone = members
                .iter()
                .zip(sizes.iter())
                .filter(|(_, size)| **size > start);
            let mut of_zone = (0u64..).zip(of_zone).map(|(index, (member, _))| {
                // Those in front of the first chunk have their first one in the next row.
                let back = if index < turned { chunk } else { 0 };
                let offset = member
                    .offset_sectors
                    .saturating_add(start)
                    .saturating_sub(back);
                Member {
                    offset_sectors: offset,
                    ..*member
                }
            });
            let place = (
                end,
                turned.saturating_mul(chunk),
                next.saturating_sub(start),
            );
            add(&mut stretches, shape, place, &mut of_zone)?;
            end = last_end(&stretches);
            start = next;
        }
        Ok(stretches)
    }

    /// Which of the two, where that is recorded.
    fn zone_layout(&self) -> Option<u32> {
        let head = self.head();
        let is_recorded =
            head.version != Version::V090 && head.features & feature::RAID0_LAYOUT != 0;
        is_recorded.then_some(head.layout)
    }
}

fn last_end(stretches: &KVec<Stretch>) -> u64 {
    stretches.last().map_or(0, |stretch| stretch.end_sectors)
}

/// Adds a stretch over `members`: `place` is where it starts in the volume, and in its own shape; and sectors of each
/// member.
fn add(
    stretches: &mut KVec<Stretch>,
    shape: &Shape,
    place: (u64, u64, u64),
    members: &mut dyn Iterator<Item = Member>,
) -> Checked {
    let (start, first_sectors, each) = place;
    let mut table = KVec::new();
    for member in members {
        table.push(member, GFP_KERNEL)?;
    }
    let width = table.len() as u64;
    // One row more for those that start in the second one.
    let more = if first_sectors > 0 {
        u64::from(shape.chunk_sectors)
    } else {
        0
    };
    let own = Shape {
        level: if width == 1 {
            Level::Concat
        } else {
            shape.level
        },
        layout: Layout::Plain,
        members: table.len() as u16,
        spans: 1,
        member_sectors: each.saturating_add(more),
        ..*shape
    };
    let end_sectors = each
        .checked_mul(width)
        .and_then(|sectors| sectors.checked_add(start))
        .ok_or_else(|| reason!(EINVAL, "members of an impossible size"))?;
    stretches.push(
        Stretch {
            end_sectors,
            first_sectors,
            shape: own,
            size_sectors: own.member_sectors.saturating_mul(width),
            members: table,
        },
        GFP_KERNEL,
    )?;
    Ok(())
}
