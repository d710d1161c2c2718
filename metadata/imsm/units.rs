// SPDX-License-Identifier: GPL-2.0

//! Checkpoints: how many sectors a migration unit stands for.
//!
//! The rules are mdadm's (`docs/formats/imsm.md`, "checkpoints"). For mirrors FreeBSD's graid counts
//! half as much; it writes old versions, where the smaller value is taken.

use super::layout::volume;
use crate::model::{Level, Shape};

/// Sectors of a block that mdadm counts mirrors in.
const MIRROR_SECTORS: u64 = 256;
/// Least sectors of a rebuild unit of RAID 5.
const PARITY_SECTORS: u64 = 128;

/// Sectors that one unit of a migration of `kind` stands for: of each member, or of the volume where
/// resyncs count so. `modern`: the version is one with attributes.
pub fn sectors_per_unit(shape: &Shape, kind: u8, modern: bool) -> u64 {
    let chunk = u64::from(shape.chunk_sectors).max(1);
    let members = u64::from(shape.members).max(1);
    let copies = 2;
    let mirrored = match shape.level {
        Level::Raid1 if !modern => return MIRROR_SECTORS,
        Level::Raid1 | Level::Raid10 | Level::Raid1e => true,
        _ => false,
    };
    match (kind, mirrored) {
        (volume::REBUILD, true) if members % copies == 0 => MIRROR_SECTORS * copies,
        (volume::REBUILD, true) => chunk * copies,
        (volume::REBUILD, false) => chunk.max(PARITY_SECTORS),
        // One row, counted over the copies or over all members.
        (_, true) if shape.level == Level::Raid1 => MIRROR_SECTORS * copies,
        (_, true) => chunk * copies,
        (_, false) => chunk * members,
    }
}
