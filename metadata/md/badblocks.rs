// SPDX-License-Identifier: GPL-2.0

//! The bad-block log of 1.x: 64-bit entries, sector above bit 10 and length below, in units of
//! `1 << shift` sectors, sectors counted from the start of the disk; all ones end it.

use super::layout::{get64, put64};
use crate::model::{BadRange, Checked, DiskIndex};
use crate::reason;
use kernel::prelude::*;

/// Most units of an entry.
const UNITS_MAX: u64 = 512;

/// Largest log that EMD keeps.
pub const SECTORS_MAX: u32 = 64;

/// Entries in `bytes`.
pub fn room(bytes: &[u8]) -> usize {
    bytes.len() / 8
}

/// Entries in use.
pub fn used(bytes: &[u8]) -> usize {
    bytes
        .chunks_exact(8)
        .position(|entry| get64(entry, 0) == u64::MAX)
        .unwrap_or(room(bytes))
}

/// Calls `take` with every entry: sector and length.
pub fn decode(bytes: &[u8], shift: u8, mut take: impl FnMut(u64, u32) -> Checked) -> Checked {
    for entry in bytes.chunks_exact(8) {
        let raw = get64(entry, 0);
        if raw == u64::MAX {
            break;
        }
        let sector = (raw >> 10).checked_shl(u32::from(shift));
        let sectors = (raw & 0x3FF) << shift.min(20);
        let (Some(sector), Ok(sectors)) = (sector, u32::try_from(sectors)) else {
            return Err(reason!(EINVAL, "its bad-block log has an impossible entry"));
        };
        if shift > 20 || sectors == 0 || sector >> shift != raw >> 10 {
            return Err(reason!(EINVAL, "its bad-block log has an impossible entry"));
        }
        take(sector, sectors)?;
    }
    Ok(())
}

/// The units that `range` touches: first, and behind the last.
fn units(range: &BadRange, shift: u8) -> (u64, u64) {
    let unit = 1u64 << shift.min(20);
    let end = range.sector.saturating_add(u64::from(range.sectors));
    (range.sector >> shift.min(20), end.div_ceil(unit))
}

/// Entries that `range` takes.
pub fn entries_of(range: &BadRange, shift: u8) -> usize {
    let (first, end) = units(range, shift);
    end.saturating_sub(first).div_ceil(UNITS_MAX) as usize
}

/// Writes the log of `disk`, in order of sectors; gives the number of entries. Those without room
/// are left out, which the caller prevents.
pub fn encode(bytes: &mut [u8], shift: u8, ranges: &[BadRange], disk: DiskIndex) -> usize {
    let mut used = 0;
    let mut from = 0u64;
    let mut slots = bytes.chunks_exact_mut(8);
    // By ascending sectors, without sorting: ranges are apart.
    while let Some(range) = ranges
        .iter()
        .filter(|range| range.disk == disk && range.sector >= from && range.sectors > 0)
        .min_by_key(|range| range.sector)
    {
        let (mut first, end) = units(range, shift);
        while first < end {
            let len = (end - first).min(UNITS_MAX);
            let Some(slot) = slots.next() else {
                return used;
            };
            put64(slot, 0, (first << 10) | len);
            used += 1;
            first += len;
        }
        from = range.sector + 1;
    }
    for slot in slots {
        slot.fill(0xFF);
    }
    used
}
