// SPDX-License-Identifier: GPL-2.0

//! DDF's words and the model's: levels, states, sizes.

use super::config::Record;
use super::layout::*;
use crate::model::{
    Checked, DiskState, Layout as Placement, Level, Member, MemberState, Rotation, Shape,
    MEMBERS_MAX,
};
use crate::personalities::for_level;
use crate::reason;
use kernel::prelude::*;

/// Largest strip exponent: 64 MiB with blocks of 512.
pub const STRIP_MAX: u8 = 17;

/// Primary levels.
pub mod level {
    /// RAID 0.
    pub const RAID0: u8 = 0x00;
    /// RAID 1.
    pub const RAID1: u8 = 0x01;
    /// RAID 3.
    pub const RAID3: u8 = 0x03;
    /// RAID 4.
    pub const RAID4: u8 = 0x04;
    /// RAID 5.
    pub const RAID5: u8 = 0x05;
    /// RAID 6.
    pub const RAID6: u8 = 0x06;
    /// Multi-disk failure RAID (2.0).
    pub const MDF: u8 = 0x07;
    /// RAID 1E.
    pub const RAID1E: u8 = 0x11;
    /// One disk, or several.
    pub const JBOD: u8 = 0x0F;
    /// Concatenation.
    pub const CONCAT: u8 = 0x1F;
    /// RAID 5E.
    pub const RAID5E: u8 = 0x15;
    /// RAID 5EE.
    pub const RAID5EE: u8 = 0x25;
    /// RAID 5R (2.0).
    pub const RAID5R: u8 = 0x35;
}

/// What is known of who wrote a set, where it changes how records are read.
#[derive(Clone, Copy, Default, Debug)]
pub struct Quirks {
    /// Adaptec firmware.
    pub adaptec: bool,
    /// FreeBSD graid.
    pub freebsd: bool,
    /// LSI firmware, whose GUIDs change at every boot.
    pub lsi: bool,
}

/// The shape that a record describes. `usable_blocks` stands in for a member size of 0 (Adaptec).
#[inline(never)]
pub fn shape_of(
    record: &Record<'_>,
    layout: &Layout,
    quirks: Quirks,
    usable_blocks: u64,
) -> Checked<Shape> {
    check_counts(record, layout)?;
    let (level, placement) = level_of(record, quirks)?;
    check_second_level(record)?;
    let (level, placement, members, spans) = stack(record, level, placement)?;
    let striped = !matches!(level, Level::Concat | Level::Raid1);
    let chunk_blocks = if striped { strip_blocks(record)? } else { 0 };
    let block_sectors = layout.block_sectors();
    let mut blocks = match record.member_blocks() {
        0 if quirks.adaptec => usable_blocks,
        blocks => blocks,
    };
    if chunk_blocks > 0 {
        blocks -= blocks % chunk_blocks;
    }
    let too_long = u64::MAX / 16 / (MEMBERS_MAX as u64);
    if blocks == 0 || blocks > too_long {
        return Err(reason!(EINVAL, "a member of {blocks} blocks is impossible"));
    }
    let chunk_sectors = chunk_blocks.saturating_mul(block_sectors);
    Ok(Shape {
        level,
        layout: placement,
        members,
        spans,
        chunk_sectors: u32::try_from(chunk_sectors).unwrap_or(0),
        member_sectors: blocks.saturating_mul(block_sectors),
    })
}

/// What a record's levels are together: level, layout, members of a span, spans.
///
/// Striping over mirrors is the model's RAID 10, and striping over RAID 0 is RAID 0 over all members:
/// with basic volumes of one size, chunk `c` of the volume is in row `c / all` on member `c % all`.
#[inline(never)]
fn stack(
    record: &Record<'_>,
    level: Level,
    placement: Placement,
) -> Checked<(Level, Placement, u16, u16)> {
    let (members, spans) = (record.members(), u16::from(record.spans()));
    let all = members.saturating_mul(spans);
    if spans == 1 {
        return Ok((level, placement, members, 1));
    }
    match level {
        Level::Raid1 => {
            let copies = u8::try_from(members).unwrap_or(u8::MAX);
            Ok((Level::Raid10, Placement::Near(copies), all, 1))
        }
        Level::Raid0 => Ok((level, placement, all, 1)),
        Level::Raid4 | Level::Raid5 | Level::Raid6 => Ok((level, placement, members, spans)),
        Level::Concat | Level::Raid1e | Level::Raid10 => Err(reason!(
            EOPNOTSUPP,
            "{spans} spans of {level} are not supported"
        )),
    }
}

/// Counts must be possible and within the model's bounds.
fn check_counts(record: &Record<'_>, layout: &Layout) -> Checked {
    let (members, spans) = (record.members(), record.spans());
    let total = usize::from(members) * usize::from(spans);
    if members == 0 || members > layout.mppe || total > MEMBERS_MAX {
        return Err(reason!(
            EINVAL,
            "{members} members times {spans} spans: the record has room for {} and EMD for {}",
            layout.mppe,
            MEMBERS_MAX
        ));
    }
    if record.span() >= spans {
        return Err(reason!(
            EINVAL,
            "the record is of span {} of {spans}",
            record.span()
        ));
    }
    match record.block_bytes() {
        Some(bytes) if u32::from(bytes) != layout.block_bytes => Err(reason!(
            EINVAL,
            "the record counts blocks of {bytes} bytes, its disk has blocks of {}",
            layout.block_bytes
        )),
        _ => Ok(()),
    }
}

fn check_second_level(record: &Record<'_>) -> Checked {
    if record.spans() == 1 {
        return Ok(());
    }
    match record.second_level() {
        0 | 3 => Ok(()),
        1 => Err(reason!(
            EOPNOTSUPP,
            "mirrored spans (secondary level 1, as in RAID 01) are not supported"
        )),
        2 => Err(reason!(
            EOPNOTSUPP,
            "concatenated spans (secondary level 2) are not supported"
        )),
        other => Err(reason!(EINVAL, "secondary level {other:#04x} is unknown")),
    }
}

/// Blocks of a strip.
fn strip_blocks(record: &Record<'_>) -> Checked<u64> {
    let exponent = record.strip();
    if exponent > STRIP_MAX {
        return Err(reason!(
            EINVAL,
            "a strip of 2^{exponent} blocks is more than 2^{STRIP_MAX}"
        ));
    }
    Ok(1u64 << exponent)
}

/// Level and placement of primary level and qualifier.
#[inline(never)]
fn level_of(record: &Record<'_>, quirks: Quirks) -> Checked<(Level, Placement)> {
    let (prl, rlq) = (record.level(), record.qualifier());
    if record.rotate() != 0 && matches!(prl, level::RAID5 | level::RAID6) {
        return Err(reason!(
            EOPNOTSUPP,
            "parity that rotates every 2^{} stripes is not supported",
            record.rotate()
        ));
    }
    // mdadm writes this for its layout far=2, which places copies elsewhere.
    if (prl, rlq) == (level::RAID1E, 1) && record.guid().starts_with(b"Linux-MD") {
        return Err(unknown_placement(prl, rlq));
    }
    let found = level_read(prl, rlq, quirks)?;
    let least = match found.0 {
        Level::Raid4 | Level::Raid5 | Level::Raid1e | Level::Raid1 => 2,
        Level::Raid6 => 3,
        _ => 1,
    };
    if record.members() < least {
        return Err(reason!(
            EINVAL,
            "{} with {} members is impossible",
            found.0,
            record.members()
        ));
    }
    Ok(found)
}

/// What a primary level and its qualifier mean on a set of a maker: level and placement of a basic volume.
pub fn level_read(prl: u8, rlq: u8, quirks: Quirks) -> Checked<(Level, Placement)> {
    let parity = |rotation| Placement::Parity(rotation);
    Ok(match (prl, rlq) {
        (level::RAID0, _) => (Level::Raid0, Placement::Plain),
        (level::RAID1, _) => (Level::Raid1, Placement::Plain),
        (level::RAID1E, 0) => (Level::Raid1e, Placement::Near(2)),
        (level::RAID1E, 1) => (Level::Raid1e, Placement::Offset(2)),
        (level::RAID4, 0) => (Level::Raid4, parity(Rotation::ParityFirst)),
        (level::RAID4, 1) => (Level::Raid4, parity(Rotation::ParityLast)),
        // Adaptec's 0 really is left-asymmetric.
        (level::RAID5, 0) if quirks.adaptec => (Level::Raid5, parity(Rotation::LeftAsymmetric)),
        (level::RAID5, 0) => (Level::Raid5, parity(Rotation::RightAsymmetric)),
        (level::RAID5, 1) => (Level::Raid5, parity(Rotation::RightSymmetric)),
        (level::RAID5, 2) => (Level::Raid5, parity(Rotation::LeftAsymmetric)),
        (level::RAID5, 3) => (Level::Raid5, parity(Rotation::LeftSymmetric)),
        // graid places data differently from everybody else here.
        (level::RAID6, 0 | 1) if quirks.freebsd => return Err(unknown_placement(prl, rlq)),
        (level::RAID6, 1) => (Level::Raid6, parity(Rotation::DdfZeroRestart)),
        (level::RAID6, 2) => (Level::Raid6, parity(Rotation::DdfNRestart)),
        (level::RAID6, 3) => (Level::Raid6, parity(Rotation::DdfNContinue)),
        (level::JBOD | level::CONCAT, _) => (Level::Concat, Placement::Plain),
        (level::RAID1E | level::RAID4 | level::RAID5 | level::RAID6, _) => {
            return Err(unknown_placement(prl, rlq))
        }
        _ => return Err(unknown_level(prl)),
    })
}

fn unknown_placement(prl: u8, rlq: u8) -> crate::model::Reason {
    reason!(
        EOPNOTSUPP,
        "level {prl:#04x} with qualifier {rlq}: where data lies is not known"
    )
}

fn unknown_level(prl: u8) -> crate::model::Reason {
    let name = match prl {
        level::RAID3 => "RAID 3",
        level::MDF => "multi-disk failure RAID",
        level::RAID5E => "RAID 5E",
        level::RAID5EE => "RAID 5EE",
        level::RAID5R => "RAID 5R",
        _ => return reason!(EINVAL, "DDF level {prl:#04x} is unknown"),
    };
    reason!(EOPNOTSUPP, "{name} (DDF level {prl:#04x}) is not supported")
}

/// Primary level and qualifier of a level and placement with basic volumes of `members`; `None` when
/// DDF has none.
pub fn ddf_level(level: Level, layout: Placement, members: u16) -> Option<(u8, u8)> {
    let found = match (level, layout) {
        (Level::Raid0, Placement::Plain) => (level::RAID0, 0),
        (Level::Raid1, Placement::Plain) => (level::RAID1, u8::from(members > 2)),
        // Each mirror is a basic volume.
        (Level::Raid10, Placement::Near(2 | 3)) => (level::RAID1, u8::from(members > 2)),
        (Level::Raid1e, Placement::Near(2)) => (level::RAID1E, 0),
        (Level::Raid1e, Placement::Offset(2)) => (level::RAID1E, 1),
        (Level::Raid4, Placement::Parity(Rotation::ParityFirst)) => (level::RAID4, 0),
        (Level::Raid4, Placement::Parity(Rotation::ParityLast)) => (level::RAID4, 1),
        (Level::Raid5, Placement::Parity(Rotation::RightAsymmetric)) => (level::RAID5, 0),
        (Level::Raid5, Placement::Parity(Rotation::RightSymmetric)) => (level::RAID5, 1),
        (Level::Raid5, Placement::Parity(Rotation::LeftAsymmetric)) => (level::RAID5, 2),
        (Level::Raid5, Placement::Parity(Rotation::LeftSymmetric)) => (level::RAID5, 3),
        (Level::Raid6, Placement::Parity(Rotation::DdfZeroRestart)) => (level::RAID6, 1),
        (Level::Raid6, Placement::Parity(Rotation::DdfNRestart)) => (level::RAID6, 2),
        (Level::Raid6, Placement::Parity(Rotation::DdfNContinue)) => (level::RAID6, 3),
        (Level::Concat, Placement::Plain) => (level::CONCAT, 0),
        _ => return None,
    };
    Some(found)
}

/// Sectors that users see of a volume whose members have `shape.member_sectors` each.
pub fn capacity_sectors(shape: &Shape) -> u64 {
    for_level(shape.level).map_or(0, |level| level.capacity_sectors(shape))
}

/// Sectors that each member needs for a volume of `size` sectors: the inverse of
/// [`capacity_sectors`], rounded up to whole chunks (to `align` where there are none).
pub fn member_sectors_for(shape: &Shape, size: u64, align: u64) -> Option<u64> {
    let members = u64::from(shape.members);
    let unit = match u64::from(shape.chunk_sectors) {
        0 => align.max(1),
        chunk => chunk,
    };
    let span = size.div_ceil(u64::from(shape.spans).max(1));
    let each = match (shape.level, shape.layout) {
        (Level::Raid1, _) => span,
        (Level::Raid1e | Level::Raid10, Placement::Offset(copies)) => span
            .div_ceil(unit)
            .div_ceil(members.max(1))
            .checked_mul(u64::from(copies))?
            .checked_mul(unit)?,
        (Level::Raid1e | Level::Raid10, Placement::Near(copies)) => span
            .div_ceil(unit)
            .checked_mul(u64::from(copies))?
            .div_ceil(members.max(1))
            .checked_mul(unit)?,
        (level, _) => {
            let data = members.checked_sub(u64::from(level.parity_members()))?;
            if data == 0 {
                return None;
            }
            span.div_ceil(data)
        }
    };
    each.div_ceil(unit).checked_mul(unit)
}

/// The state value of a volume's entry, from its members (mdadm's rules, `docs/formats/ddf.md`): the
/// worst of its basic volumes'.
pub fn volume_state(shape: &Shape, members: &[Member]) -> u8 {
    let (level, width) = match (shape.level, shape.layout) {
        (Level::Raid10, Placement::Near(copies))
            if shape.members.checked_rem(u16::from(copies)) == Some(0) =>
        {
            (Level::Raid1, usize::from(copies))
        }
        (level, _) => (level, usize::from(shape.members).max(1)),
    };
    let mut worst = vde::OPTIMAL;
    for span in members.chunks(width) {
        let state = span_state(level, shape.layout, span);
        worst = match (worst, state) {
            (vde::FAILED, _) | (_, vde::FAILED) => vde::FAILED,
            (vde::DEGRADED, _) | (_, vde::DEGRADED) => vde::DEGRADED,
            (vde::PARTIAL, _) | (_, vde::PARTIAL) => vde::PARTIAL,
            _ => vde::OPTIMAL,
        };
    }
    worst
}

fn span_state(level: Level, layout: Placement, members: &[Member]) -> u8 {
    let lost = |member: &Member| member.state != MemberState::InSync;
    let missing = members.iter().filter(|member| lost(member)).count();
    let there = members.len() - missing;
    if missing == 0 {
        return vde::OPTIMAL;
    }
    match level {
        Level::Concat | Level::Raid0 => vde::FAILED,
        Level::Raid1 if there == 0 => vde::FAILED,
        Level::Raid1 if there >= 2 => vde::PARTIAL,
        Level::Raid1 => vde::DEGRADED,
        Level::Raid4 | Level::Raid5 if missing == 1 => vde::DEGRADED,
        Level::Raid6 if missing == 1 => vde::PARTIAL,
        Level::Raid6 if missing == 2 => vde::DEGRADED,
        Level::Raid1e | Level::Raid10 if !copies_lost(layout, members) => vde::DEGRADED,
        _ => vde::FAILED,
    }
}

/// Whether all copies of some chunk are on lost members (two copies, on neighbours).
fn copies_lost(layout: Placement, members: &[Member]) -> bool {
    let count = members.len();
    let lost = |index: usize| {
        members
            .get(index % count.max(1))
            .is_some_and(|member| member.state != MemberState::InSync)
    };
    let paired = matches!(layout, Placement::Near(2)) && count % 2 == 0;
    let step = if paired { 2 } else { 1 };
    (0..count)
        .step_by(step)
        .any(|index| lost(index) && lost(index + 1))
}

/// State of a disk from its entry's bits and whether it is present.
pub fn disk_state(bits: u16, present: bool) -> DiskState {
    match (present, bits & pde::FAILED != 0, bits & pde::MISSING != 0) {
        (true, _, true) => DiskState::Stale,
        (true, true, false) => DiskState::Failed,
        (true, false, false) => DiskState::Online,
        (false, true, false) => DiskState::Failed,
        (false, _, _) => DiskState::Missing,
    }
}
