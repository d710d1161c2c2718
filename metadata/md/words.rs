// SPDX-License-Identifier: GPL-2.0

//! md's levels and layouts, and the model's; sizes that follow from a shape.

use super::head::Head;
use crate::model::{Checked, Layout, Level, Member, MemberState, Rotation, Shape, MEMBERS_MAX};
use crate::reason;
use kernel::prelude::*;

/// Rotations by md's number, RAID 5 and RAID 6 alike.
const ROTATIONS: [(u32, Rotation); 14] = [
    (0, Rotation::LeftAsymmetric),
    (1, Rotation::RightAsymmetric),
    (2, Rotation::LeftSymmetric),
    (3, Rotation::RightSymmetric),
    (4, Rotation::ParityFirst),
    (5, Rotation::ParityLast),
    (8, Rotation::DdfZeroRestart),
    (9, Rotation::DdfNRestart),
    (10, Rotation::DdfNContinue),
    (16, Rotation::LeftAsymmetric6),
    (17, Rotation::RightAsymmetric6),
    (18, Rotation::LeftSymmetric6),
    (19, Rotation::RightSymmetric6),
    (20, Rotation::ParityFirst6),
];

/// Bit of a RAID 10 layout: offset copies.
const OFFSET: u32 = 1 << 16;

fn unknown(level: i32, layout: u32) -> crate::model::Reason {
    reason!(
        EOPNOTSUPP,
        "md level {level} with layout {layout:#x} is unknown"
    )
}

/// The model's level and layout.
#[inline(never)]
pub fn level_of(level: i32, layout: u32) -> Checked<(Level, Layout)> {
    let rotation = |most: u32| {
        let found = ROTATIONS.iter().find(|(number, _)| *number == layout);
        found
            .filter(|(number, _)| *number <= most)
            .map(|(_, rotation)| Layout::Parity(*rotation))
            .ok_or_else(|| unknown(level, layout))
    };
    Ok(match level {
        -1 => (Level::Concat, Layout::Plain),
        0 => (Level::Raid0, Layout::Plain),
        1 => (Level::Raid1, Layout::Plain),
        // The layout counts for nothing: md takes RAID 4 as RAID 5 with parity on the last member.
        4 => (Level::Raid4, Layout::Parity(Rotation::ParityLast)),
        5 => (Level::Raid5, rotation(5)?),
        6 => (Level::Raid6, rotation(20)?),
        10 => (Level::Raid10, copies_of(layout)?),
        -4 => {
            return Err(reason!(
                EOPNOTSUPP,
                "md's multipath (level -4) is no RAID level"
            ))
        }
        _ => return Err(unknown(level, layout)),
    })
}

#[inline(never)]
fn copies_of(layout: u32) -> Checked<Layout> {
    let [near, far, ..] = layout.to_le_bytes();
    if layout >> 17 != 0 {
        return Err(reason!(
            EOPNOTSUPP,
            "RAID 10 with far sets (layout {layout:#x}) is not supported"
        ));
    }
    match (near, far, layout & OFFSET != 0) {
        (0, _, _) | (_, 0, _) => Err(unknown(10, layout)),
        (_, 1, false) => Ok(Layout::Near(near)),
        (1, _, true) => Ok(Layout::Offset(far)),
        (1, _, false) => Ok(Layout::Far(far)),
        _ => Err(reason!(
            EOPNOTSUPP,
            "RAID 10 with near and far copies at once (layout {layout:#x}) is not supported"
        )),
    }
}

/// md's level and layout of the model's.
pub fn numbers_of(level: Level, layout: Layout) -> Option<(i32, u32)> {
    let rotation = |layout| match layout {
        Layout::Parity(wanted) => ROTATIONS
            .iter()
            .find(|(_, rotation)| *rotation == wanted)
            .map(|(number, _)| *number),
        _ => None,
    };
    Some(match level {
        Level::Concat => (-1, 0),
        Level::Raid0 => (0, 0),
        Level::Raid1 => (1, 0),
        Level::Raid4 => match layout {
            Layout::Parity(Rotation::ParityLast) => (4, 0),
            _ => return None,
        },
        Level::Raid5 => (5, rotation(layout).filter(|&number| number <= 5)?),
        Level::Raid6 => (6, rotation(layout)?),
        Level::Raid10 => {
            let word = match layout {
                Layout::Near(copies) => 0x100 | u32::from(copies),
                Layout::Far(copies) => 1 | (u32::from(copies) << 8),
                Layout::Offset(copies) => 1 | (u32::from(copies) << 8) | OFFSET,
                _ => return None,
            };
            (10, word)
        }
        Level::Raid1e => return None,
    })
}

/// Copies of each chunk, and members from one copy to the next.
fn copies(shape: &Shape) -> (u16, bool) {
    match shape.layout {
        Layout::Near(copies) => (u16::from(copies), true),
        Layout::Far(copies) | Layout::Offset(copies) => (u16::from(copies), false),
        _ => (1, true),
    }
}

/// The shape that a superblock describes. `data_sectors` stands in for the size where members may
/// differ.
#[inline(never)]
pub fn shape_of(head: &Head, data_sectors: u64) -> Checked<Shape> {
    let (level, layout) = level_of(head.level, head.layout)?;
    let members = u16::try_from(head.raid_disks)
        .ok()
        .filter(|&members| members > 0 && usize::from(members) <= MEMBERS_MAX)
        .ok_or_else(|| {
            reason!(
                EOPNOTSUPP,
                "{} members: EMD takes 1 to {MEMBERS_MAX}",
                head.raid_disks
            )
        })?;
    let striped = !matches!(level, Level::Concat | Level::Raid1);
    let chunk_sectors = u32::try_from(head.chunk_sectors)
        .ok()
        .filter(|chunk| chunk.is_power_of_two() || !striped)
        .ok_or_else(|| {
            reason!(
                EOPNOTSUPP,
                "a chunk of {} sectors is not supported",
                head.chunk_sectors
            )
        })?;
    let given = match level {
        Level::Concat | Level::Raid0 => data_sectors,
        _ => head.size_sectors,
    };
    // Linear members count in whole chunks where a chunk is given.
    let rounding = match level {
        Level::Raid1 => 1,
        _ => head.chunk_sectors.max(1),
    };
    let member_sectors = given - given.checked_rem(rounding).unwrap_or(0);
    let too_long = u64::MAX / 16 / (MEMBERS_MAX as u64);
    let shape = Shape {
        level,
        layout,
        members,
        spans: 1,
        chunk_sectors: if striped { chunk_sectors } else { 0 },
        member_sectors,
    };
    let (copies, _) = copies(&shape);
    if member_sectors == 0 || member_sectors > too_long || copies > members {
        return Err(reason!(
            EINVAL,
            "{level} of {members} members of {given} sectors is impossible"
        ));
    }
    let least = 1 + level.parity_members();
    if members < least || capacity_sectors(&shape) == 0 {
        return Err(reason!(
            EINVAL,
            "{level} of {members} members is impossible"
        ));
    }
    Ok(shape)
}

/// What the first superblocks of a new array say: `head` has its identity.
pub fn head_of(head: &Head, shape: &Shape, level: i32, layout: u32) -> Head {
    let loose = matches!(shape.level, Level::Concat | Level::Raid0);
    Head {
        level,
        layout,
        size_sectors: if loose { 0 } else { shape.member_sectors },
        chunk_sectors: u64::from(shape.chunk_sectors),
        raid_disks: u32::from(shape.members),
        events: 0,
        resync: u64::MAX,
        ..*head
    }
}

/// Size that users see.
pub fn capacity_sectors(shape: &Shape) -> u64 {
    let members = u64::from(shape.members);
    let parity = u64::from(shape.level.parity_members());
    match shape.level {
        Level::Concat | Level::Raid0 => shape.member_sectors.saturating_mul(members),
        Level::Raid1 => shape.member_sectors,
        Level::Raid4 | Level::Raid5 | Level::Raid6 => shape
            .member_sectors
            .saturating_mul(members.saturating_sub(parity)),
        Level::Raid10 | Level::Raid1e => {
            let (copies, near) = copies(shape);
            let (copies, chunk) = (u64::from(copies), u64::from(shape.chunk_sectors));
            let mut chunks = shape.member_sectors.checked_div(chunk).unwrap_or(0);
            // Far and offset copies take their share of each member, near ones of all together.
            if !near {
                chunks = chunks.checked_div(copies).unwrap_or(0);
            }
            chunks = chunks.saturating_mul(members);
            if near {
                chunks = chunks.checked_div(copies).unwrap_or(0);
            }
            chunks.saturating_mul(chunk)
        }
    }
}

/// Whether all data is there with just the members that `members` calls in sync.
pub fn bears(shape: &Shape, members: &[Member]) -> bool {
    let holds = |slot: usize| {
        members
            .get(slot)
            .is_some_and(|member| member.state == MemberState::InSync)
    };
    let width = usize::from(shape.members);
    let lost = (0..width).filter(|&slot| !holds(slot)).count();
    match shape.level {
        Level::Concat | Level::Raid0 => lost == 0,
        Level::Raid1 => lost < width,
        Level::Raid4 | Level::Raid5 | Level::Raid6 => {
            lost <= usize::from(shape.level.parity_members())
        }
        Level::Raid10 | Level::Raid1e => {
            let (copies, near) = copies(shape);
            let (copies, width) = (usize::from(copies), width.max(1));
            (0..width).all(|chunk| {
                let first = if near { chunk * copies } else { chunk };
                (0..copies).any(|copy| holds((first + copy) % width))
            })
        }
    }
}
