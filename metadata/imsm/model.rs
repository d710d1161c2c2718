// SPDX-License-Identifier: GPL-2.0

//! IMSM's words and the model's: levels, sizes, states.

use super::layout::*;
use super::units::unit_of;
use crate::model::{
    Checked, Layout as Placement, Level, Member, MemberState, Rotation, Shape, MEMBERS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Sectors that sizes of members are rounded to: 1 MiB, as firmware and mdadm do.
pub const MIB_SECTORS: u64 = 2048;

/// Sectors of a strip that RAID 1 is recorded with; it means nothing.
pub const MIRROR_STRIP_SECTORS: u64 = 128;

/// Where a map puts a volume.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Everything but the members' start.
    pub shape: Shape,
    /// First sector on every member.
    pub start_sectors: u64,
    /// Sectors that are set aside on every member; at least those that are used.
    pub reserved_sectors: u64,
}

/// What the map at `map` comes to, for a volume of `size_sectors`. `scale`: sectors of a block.
#[inline(never)]
pub fn place_of(raw: Raw<'_>, map: usize, size_sectors: u64, scale: u64) -> Checked<Place> {
    let members = u16::from(raw.u8(map + map::MEMBERS));
    let domains = u16::from(raw.u8(map + map::DOMAINS));
    let (level, layout) = level_of(raw.u8(map + map::LEVEL), members, domains)?;
    let strip = u64::from(raw.u16(map + map::STRIP)).saturating_mul(scale);
    let striped = level != Level::Raid1;
    if striped && (!strip.is_power_of_two() || strip < scale) {
        return Err(reason!(EINVAL, "a strip of {strip} sectors is impossible"));
    }
    let start = raw.wide(map + map::START_LO, map + map::START_HI);
    let blocks = raw.wide(map + map::BLOCKS_LO, map + map::BLOCKS_HI);
    let stripes = raw.wide(map + map::STRIPES_LO, map + map::STRIPES_HI);
    let limit = u64::MAX / 64 / (MEMBERS_MAX as u64);
    if start.max(blocks) > limit / 8 || stripes > limit || size_sectors > limit || size_sectors == 0
    {
        return Err(reason!(EINVAL, "sizes of the volume are impossible"));
    }
    let reserved = blocks * scale;
    let mut shape = Shape {
        level,
        layout,
        members,
        spans: 1,
        chunk_sectors: if striped {
            u32::try_from(strip).unwrap_or(0)
        } else {
            0
        },
        member_sectors: 0,
    };
    let data = data_members(&shape);
    let copies = if shape.syncs_by_volume() || level == Level::Raid1 {
        u64::from(domains).max(1)
    } else {
        1
    };
    let by_stripes = stripes
        .checked_mul(strip)
        .and_then(|one| one.checked_mul(copies));
    let needed = size_sectors.div_ceil(data.max(1));
    let needed = if striped {
        needed.next_multiple_of(strip.max(1))
    } else {
        needed
    };
    // As mdadm: a count of stripes that is far from the volume's size is not believed.
    let slack = MIB_SECTORS * data;
    let believed = by_stripes.filter(|&sectors| {
        let total = sectors.saturating_mul(data);
        total.abs_diff(size_sectors) <= slack && sectors >= needed && sectors <= reserved
    });
    shape.member_sectors = believed.unwrap_or(needed);
    if shape.member_sectors > reserved {
        return Err(reason!(
            EINVAL,
            "{} sectors of each member are needed, {reserved} are set aside",
            shape.member_sectors
        ));
    }
    Ok(Place {
        shape,
        start_sectors: start * scale,
        reserved_sectors: reserved,
    })
}

/// Level and placement of a map.
fn level_of(level: u8, members: u16, domains: u16) -> Checked<(Level, Placement)> {
    let found = match (level, members, domains) {
        (0, _, _) => (Level::Raid0, Placement::Plain),
        // Some firmware leaves the number of copies wrong for two members.
        (1, 2, _) => (Level::Raid1, Placement::Plain),
        (1, members, domains) if members == domains => (Level::Raid1, Placement::Plain),
        (1 | 2 | 10, 4.., 2) if members % 2 == 0 => (Level::Raid10, Placement::Near(2)),
        // FreeBSD's graid.
        (1, 3.., 2) => (Level::Raid1e, Placement::Near(2)),
        (5, 3.., _) => (Level::Raid5, Placement::Parity(Rotation::LeftAsymmetric)),
        _ => {
            return Err(reason!(
                EOPNOTSUPP,
                "Intel level {level} with {members} members and {domains} copies is not known"
            ))
        }
    };
    Ok(found)
}

/// Members' worth of data.
pub fn data_members(shape: &Shape) -> u64 {
    let members = u64::from(shape.members);
    match shape.level {
        Level::Raid1 => 1,
        Level::Raid10 | Level::Raid1e => (members / 2).max(1),
        level => members
            .saturating_sub(u64::from(level.parity_members()))
            .max(1),
    }
}

/// The mark that the volume at `at` has, in sectors; no more than `most`.
pub fn mark_of(raw: Raw<'_>, at: usize, shape: &Shape, scale: u64, most: u64) -> u64 {
    let units = raw.pair(at + volume::UNIT_LO, at + volume::UNIT_HI);
    let kind = raw.u8(at + volume::KIND);
    units
        .saturating_mul(scale)
        .saturating_mul(unit_of(raw, at, shape, kind, scale).read_sectors)
        .min(most)
}

/// The state byte of a map whose members `lost(slot)`.
pub fn map_state(shape: &Shape, members: &[Member], lost: &dyn Fn(&Member) -> bool) -> u8 {
    let count = members.iter().filter(|member| lost(member)).count();
    if count == 0 {
        return map::NORMAL;
    }
    let whole = match shape.level {
        Level::Raid1 => count < members.len(),
        Level::Raid5 => count == 1,
        Level::Raid10 => members
            .chunks(2)
            .all(|pair| pair.iter().any(|member| !lost(member))),
        Level::Raid1e => {
            let next = Iterator::chain(members.iter().skip(1), members.iter().take(1));
            members
                .iter()
                .zip(next)
                .all(|(one, other)| !(lost(one) && lost(other)))
        }
        _ => false,
    };
    if whole {
        map::DEGRADED
    } else {
        map::LOST
    }
}

/// Whether a member does not hold all it should.
pub fn is_lost(member: &Member) -> bool {
    member.state != MemberState::InSync
}

/// Whether a member holds nothing, and nobody is filling it.
pub fn is_empty(member: &Member) -> bool {
    matches!(member.state, MemberState::Failed | MemberState::Missing)
}
