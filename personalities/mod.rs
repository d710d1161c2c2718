// SPDX-License-Identifier: GPL-2.0

//! RAID levels: where every byte is, and the steps that keep redundancy true.
//!
//! One file a level says which shapes it runs, how large they are and what losing members means
//! ([`Personality`]). [`Geometry`] is a checked shape with what the data path needs worked out
//! beforehand. [`lane`] is the step machine of the parity levels, [`mirror`] that of RAID 1 and of
//! copies. Nothing here touches a device: sectors and events in, places and decisions out.
//!
//! Adding a level is a variant of [`Level`](crate::model::Level), one file with its `Personality` and one
//! line in [`for_level`]; another rotation is a line in the table of `rotation.rs`. `docs/levels.md` has
//! the rest.

#![forbid(unsafe_code)]

pub mod bad;
pub mod choice;
pub mod concat;
pub mod counters;
pub mod geometry;
pub mod gf256;
pub mod headway;
pub mod hole_log;
pub mod lane;
pub mod likeness;
pub mod loss;
pub mod mask;
pub mod mirror;
pub mod pace;
pub mod raid0;
pub mod raid1;
pub mod raid10;
pub mod raid5;
pub mod ranges;
pub mod rebuild;
pub mod regions;
mod rotation;
mod spans;
pub mod stretches;
pub mod task;
pub mod walk;
pub mod window;
pub mod writers;

pub use geometry::{Geometry, LaneRoles, Place};
pub use mask::Mask;
pub use mirror::{MirrorLane, Work};
pub use stretches::Stretches;

use crate::model::{Checked, Layout, Level, Shape, MEMBERS_MAX};
use crate::reason;
use kernel::prelude::*;

/// Most sectors that a volume, or a member, may have: its length in bytes fits in an `i64` (the
/// kernel's `loff_t`).
pub const SECTORS_MAX: u64 = (i64::MAX as u64) / 512;

/// What a volume has left to lose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// All members are in sync.
    Optimal,
    /// Some are not, and at least one more can be lost, whichever it is.
    PartiallyOptimal,
    /// Some are not, and there is one whose loss would be the end.
    Degraded,
    /// There is data that no member and no parity has.
    Failed,
}

/// Which data path runs a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A remap to one member, members one after another.
    Concat,
    /// A remap to one member, chunk by chunk.
    Striped,
    /// Reads from any member, writes to all.
    Mirrored,
    /// Chunk by chunk, each on several members: reads from any of them, writes to all of them.
    Copies,
    /// Lanes: data and parity (see [`lane`]).
    Parity,
}

/// A RAID level.
pub trait Personality: Sync {
    /// The level.
    fn level(&self) -> Level;

    /// The data path that runs it.
    fn kind(&self) -> Kind;

    /// Refuses, with `EINVAL` (or `EOVERFLOW` when it is too large) and the reason, shapes that
    /// this level cannot run. Accepted shapes have a capacity of at least one sector.
    fn check(&self, shape: &Shape) -> Checked;

    /// Largest size that users can see, in sectors. Right for shapes that `check` accepts, and at
    /// most [`u64::MAX`] for others.
    fn capacity_sectors(&self, shape: &Shape) -> u64;

    /// What is left when just the members `in_sync` hold what they should.
    fn health(&self, shape: &Shape, in_sync: Mask) -> Health;
}

/// The registry: the personality that runs `level`, one line each.
pub fn for_level(level: Level) -> Option<&'static dyn Personality> {
    match level {
        Level::Concat => Some(&concat::Concat),
        Level::Raid0 => Some(&raid0::Raid0),
        Level::Raid1 => Some(&raid1::Raid1),
        Level::Raid4 => Some(&raid5::Raid4),
        Level::Raid5 => Some(&raid5::Raid5),
        Level::Raid6 => Some(&raid5::Raid6),
        Level::Raid10 => Some(&raid10::Raid10),
        Level::Raid1e => Some(&raid10::Raid1e),
    }
}

/// What all levels refuse: no span, several where that has no meaning, a number of members outside
/// `members_min ..= MEMBERS_MAX`, and more than that over all spans.
fn check_members(shape: &Shape, members_min: u16) -> Checked {
    let may_span = matches!(
        shape.level,
        Level::Raid0 | Level::Raid4 | Level::Raid5 | Level::Raid6
    );
    if shape.spans == 0 || (shape.spans > 1 && !may_span) {
        return Err(reason!(
            EINVAL,
            "{} over {} spans: it runs {}",
            shape.level,
            shape.spans,
            if may_span { "1 or more" } else { "1 only" }
        ));
    }
    if shape.members < members_min || usize::from(shape.members) > MEMBERS_MAX {
        return Err(reason!(
            EINVAL,
            "{} needs {} to {} members, not {}",
            shape.level,
            members_min,
            MEMBERS_MAX,
            shape.members
        ));
    }
    if shape.members_total() > MEMBERS_MAX {
        return Err(reason!(
            EINVAL,
            "{} spans of {} members: a volume has at most {}",
            shape.spans,
            shape.members,
            MEMBERS_MAX
        ));
    }
    Ok(())
}

/// Refuses any layout but `Plain`.
fn check_plain(shape: &Shape) -> Checked {
    if shape.layout != Layout::Plain {
        return Err(reason!(
            EINVAL,
            "{} has no layout {}",
            shape.level,
            shape.layout
        ));
    }
    Ok(())
}

/// Refuses a chunk that is no power of two (which 0 is not either).
fn check_chunk(shape: &Shape) -> Checked {
    if !shape.chunk_sectors.is_power_of_two() {
        return Err(reason!(
            EINVAL,
            "chunk of {} sectors: {} needs a power of two",
            shape.chunk_sectors,
            shape.level
        ));
    }
    Ok(())
}

/// Refuses a capacity of nothing and one beyond [`SECTORS_MAX`].
fn check_capacity(shape: &Shape, capacity_sectors: u64) -> Checked {
    if capacity_sectors == 0 {
        return Err(reason!(
            EINVAL,
            "members of {} sectors are too small for {} with a chunk of {} sectors",
            shape.member_sectors,
            shape.level,
            shape.chunk_sectors
        ));
    }
    if capacity_sectors > SECTORS_MAX || shape.member_sectors > SECTORS_MAX {
        return Err(reason!(
            EOVERFLOW,
            "{} members of {} sectors are larger than any volume can be",
            shape.members,
            shape.member_sectors
        ));
    }
    Ok(())
}

/// `sectors` rounded down to whole chunks; a chunk of 0 or one that is no power of two rounds
/// nothing.
fn whole_chunks(sectors: u64, chunk_sectors: u32) -> u64 {
    if chunk_sectors.is_power_of_two() {
        sectors & !u64::from(chunk_sectors).wrapping_sub(1)
    } else {
        sectors
    }
}
