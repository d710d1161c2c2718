// SPDX-License-Identifier: GPL-2.0

//! Checkpoints: how many sectors a migration unit stands for.
//!
//! mdadm and FreeBSD's graid do not count alike, and nothing in an MPB says who wrote it
//! (`docs/formats/imsm.md`, §9). So a mark is written in the larger of the two units: whoever goes on begins no
//! later than where EMD was. It is read in the smaller one, unless it cannot be graid's.

use super::layout::{header, map, volume, Raw, Which};
use crate::model::{Level, Shape};

/// Sectors of a block that mdadm counts mirrors in.
const MIRROR_SECTORS: u64 = 256;
/// Least sectors of a rebuild unit of RAID 5.
const PARITY_SECTORS: u64 = 128;

/// What one unit of a migration may stand for: sectors of each member, or of the volume where resyncs count so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unit {
    /// In a mark that is read.
    pub read_sectors: u64,
    /// In a mark that is written.
    pub written_sectors: u64,
}

/// The unit of a migration of `kind` of the volume at `at`, which has `shape`. `scale`: sectors of a block.
pub fn unit_of(raw: Raw<'_>, at: usize, shape: &Shape, kind: u8, scale: u64) -> Unit {
    let place = raw.map_at(at, Which::First);
    let strip = u64::from(raw.u16(place + map::STRIP)).saturating_mul(scale);
    let strip = strip.max(1);
    let domains = u64::from(raw.u8(place + map::DOMAINS)).max(1);
    let ours = of_mdadm(shape, kind, strip, domains);
    // Of all levels and kinds.
    let theirs = strip.saturating_mul(domains);
    // graid writes zeros there, whatever there was.
    let is_dated = raw.pair(header::CREATED, header::CREATED + 4) != 0;
    Unit {
        read_sectors: if is_dated { ours } else { ours.min(theirs) },
        written_sectors: ours.max(theirs).max(1),
    }
}

/// mdadm's unit, for maps that differ in their states only.
fn of_mdadm(shape: &Shape, kind: u8, strip: u64, domains: u64) -> u64 {
    let members = u64::from(shape.members).max(1);
    let is_mirrored = matches!(shape.level, Level::Raid1 | Level::Raid10 | Level::Raid1e);
    match (kind, is_mirrored) {
        (volume::REBUILD, true) if members.checked_rem(domains) == Some(0) => {
            MIRROR_SECTORS.saturating_mul(domains)
        }
        (volume::REBUILD, true) => strip.saturating_mul(domains),
        (volume::REBUILD, false) => strip.max(PARITY_SECTORS),
        // All other mirrors are RAID 10 to mdadm.
        (_, true) if members == 2 => match MIRROR_SECTORS.checked_div(strip) {
            // The strips that such a block has, counted over the copies.
            Some(strips @ 1..) => {
                let beyond = MIRROR_SECTORS.saturating_sub(strips.saturating_mul(strip));
                let whole = strips.saturating_mul(strip).saturating_mul(domains);
                whole.saturating_add(beyond)
            }
            _ => MIRROR_SECTORS,
        },
        // One row, counted over the copies or over all members.
        (_, true) => strip.saturating_mul(domains),
        (_, false) => strip.saturating_mul(members),
    }
}
