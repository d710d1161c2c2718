// SPDX-License-Identifier: GPL-2.0

//! The internal write-intent bitmap: a superblock of 256 bytes, then one bit a region, lowest first.
//!
//! All members have the same bytes, so they are kept once. The bitmap is to be trusted when its event
//! count is not behind that of the superblocks and it is not marked stale.

use super::layout::*;
use crate::model::{Checked, RegionLog};
use crate::reason;
use kernel::prelude::*;

/// Magic number: "bitm".
const MAGIC: u32 = 0x6D74_6962;

/// Length of its superblock.
pub const HEAD_BYTES: usize = 256;

/// Most regions that EMD follows. (mdadm makes about 2^20 at most.)
pub const REGIONS_MAX: u64 = 1 << 21;

/// Sectors of the largest bitmap: superblock and bits, in whole blocks of 4 KiB.
pub const SECTORS_MAX: u32 = (REGIONS_MAX / 8 / 512) as u32 + 8;

/// State bit: not to be trusted; everything may have been written to.
pub const STALE: u32 = 1 << 1;

/// Byte offsets.
pub mod at {
    /// Version: 3 (bits in the writer's order) or 4; 5 is a cluster's, 6 the lockless one.
    pub const VERSION: usize = 4;
    /// UUID of the array.
    pub const UUID: usize = 8;
    /// Event count.
    pub const EVENTS: usize = 24;
    /// Event count when a bit was last cleared.
    pub const CLEARED: usize = 32;
    /// Sectors that the bits cover.
    pub const SYNC_SIZE: usize = 40;
    /// State bits.
    pub const STATE: usize = 48;
    /// Bytes of a region.
    pub const CHUNK: usize = 52;
    /// Seconds between two rounds of clearing.
    pub const SLEEP: usize = 56;
    /// Nodes of a cluster.
    pub const NODES: usize = 68;
}

/// A bitmap's superblock, checked.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Sectors of a region.
    pub region_sectors: u64,
    /// Event count.
    pub events: u64,
    /// Marked as not to be trusted.
    pub stale: bool,
}

/// Checks the superblock in `bytes`.
#[inline(never)]
pub fn decode(bytes: &[u8], uuid: &[u8; 16]) -> Checked<Head> {
    let version = get32(bytes, at::VERSION);
    let chunk_bytes = get32(bytes, at::CHUNK);
    if get32(bytes, 0) != MAGIC {
        return Err(reason!(EINVAL, "its md bitmap has no superblock"));
    }
    if !matches!(version, 3 | 4) || get32(bytes, at::NODES) != 0 {
        return Err(reason!(
            EOPNOTSUPP,
            "its md bitmap has version {version}, which is not supported"
        ));
    }
    if bytes.get(at::UUID..at::EVENTS) != Some(uuid.as_slice()) {
        return Err(reason!(EINVAL, "its md bitmap is another array's"));
    }
    if !chunk_bytes.is_power_of_two() || chunk_bytes < 512 {
        return Err(reason!(
            EINVAL,
            "its md bitmap has regions of {chunk_bytes} bytes, which is impossible"
        ));
    }
    Ok(Head {
        region_sectors: u64::from(chunk_bytes) / 512,
        events: get64(bytes, at::EVENTS),
        stale: get32(bytes, at::STATE) & STALE != 0,
    })
}

/// Regions over `sync_sectors`, when they are not too many.
pub fn regions(region_sectors: u64, sync_sectors: u64) -> Checked<u32> {
    let regions = sync_sectors.div_ceil(region_sectors.max(1));
    u32::try_from(regions)
        .ok()
        .filter(|&regions| u64::from(regions) <= REGIONS_MAX)
        .ok_or_else(|| {
            reason!(
                EOPNOTSUPP,
                "an md bitmap of {regions} regions is larger than EMD follows"
            )
        })
}

/// Sectors of a bitmap of `regions`, in whole units of `unit_sectors`.
pub fn sectors(regions: u32, unit_sectors: u32) -> u32 {
    let bytes = HEAD_BYTES as u32 + regions.div_ceil(8);
    bytes.div_ceil(512).next_multiple_of(unit_sectors.max(1))
}

/// Writes the superblock of a new bitmap; all regions count as dirty.
#[inline(never)]
pub fn format(bytes: &mut [u8], uuid: &[u8; 16], events: u64, sync_sectors: u64, region: u64) {
    bytes.fill(0xFF);
    if let Some(head) = bytes.get_mut(..HEAD_BYTES) {
        head.fill(0);
        put32(head, 0, MAGIC);
        put32(head, at::VERSION, 4);
        let _ = super::super::bytes::put(head, at::UUID, uuid);
        put64(head, at::EVENTS, events);
        put64(head, at::CLEARED, events);
        put64(head, at::SYNC_SIZE, sync_sectors);
        put32(
            head,
            at::CHUNK,
            u32::try_from(region * 512).unwrap_or(1 << 31),
        );
        put32(head, at::SLEEP, 5);
    }
}

/// The model's log of what `bytes` say.
#[inline(never)]
pub fn log_of(bytes: &[u8], region_sectors: u64, regions: u32) -> Checked<RegionLog> {
    let words = (regions as usize).div_ceil(64);
    let mut dirty = KVec::from_elem(0u64, words, GFP_KERNEL)?;
    for (index, word) in dirty.iter_mut().enumerate() {
        // Beyond its last region a bitmap may have any bits; a log has none.
        let left = (regions as usize).saturating_sub(index * 64).min(64);
        let valid = u64::MAX.checked_shr(64 - left as u32).unwrap_or(0);
        let bits = bytes
            .get(HEAD_BYTES + index * 8..)
            .map_or(u64::MAX, |rest| {
                (0..8).fold(0, |bits, byte| {
                    let value = rest.get(byte).copied().unwrap_or(0xFF);
                    bits | (u64::from(value) << (8 * byte))
                })
            });
        *word = bits & valid;
    }
    Ok(RegionLog {
        region_sectors,
        regions,
        dirty,
    })
}

/// Sets or clears the bits of regions; gives the first and the last byte, when any changed.
pub fn mark(bytes: &mut [u8], first: u32, end: u32, dirty: bool) -> Option<(usize, usize)> {
    let mut changed: Option<(usize, usize)> = None;
    for region in first..end {
        let at = HEAD_BYTES + (region / 8) as usize;
        let bit = 1u8 << (region % 8);
        let Some(byte) = bytes.get_mut(at) else { break };
        let then = if dirty { *byte | bit } else { *byte & !bit };
        if then != *byte {
            *byte = then;
            changed = Some((changed.map_or(at, |(from, _)| from), at));
        }
    }
    changed
}

/// Marks what is marked in `other` too, a bitmap with regions of the same size; bits count as cleared as late as in either.
pub fn add(bytes: &mut [u8], other: &[u8]) {
    let cleared = get64(bytes, at::CLEARED).max(get64(other, at::CLEARED));
    put64(bytes, at::CLEARED, cleared);
    let bits = bytes.iter_mut().zip(other).skip(HEAD_BYTES);
    bits.for_each(|(byte, more)| *byte |= more);
}
