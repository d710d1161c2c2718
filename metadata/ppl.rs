// SPDX-License-Identifier: GPL-2.0

//! The partial parity log ("PPL") of RAID 5 as Intel's metadata and Linux md have it: what is found in the area of
//! one member, and the headers that EMD writes (with one entry; `personalities/hole_log/row.rs` says when).
//!
//! An area is a row of logs, each a header of 4096 bytes and the sums (partial parity) of its entries behind it, in
//! their order; the next log begins where the last sum ends. A writer that comes to the end of the area goes on
//! at its start. It writes a log only when all that the one before told of is on the disks, so the newest log
//! alone counts: the last of the row as long as headers are whole and their generations do not go down.
//! (Headers are looked for nowhere else: a sum is made of users' data, and may look like one.)
//!
//! | byte | of | |
//! |---|---|---|
//! | 0 | 512 | all ones |
//! | 512 | 4 | signature: of Intel's sets their family number, of md's arrays [`signature_of`] their UUID |
//! | 520 | 8 | generation |
//! | 528 | 4 | entries, 148 at most |
//! | 532 | 4 | CRC-32C of the header, this field 0 |
//! | 536 | 24 each | entries |
//!
//! An entry: u64 first sector of the volume that was written (md: of 512 bytes; Intel: logical blocks), u32 bytes of
//! its sum, u32 bytes that were written, u32 slot of the member with the parity, u32 CRC-32C of the sum. All
//! little-endian.
//!
//! Sources: the kernel's `md_p.h` (layout) and what `raid5-ppl.c` does at assembly (`ppl_load_distributed`,
//! `ppl_recover`); mdadm's `super-intel.c` (`validate_ppl_imsm`, `write_init_ppl_imsm`). The kernel also reads
//! past a count that is too large, and past the area; both are void here.

use super::bytes::{array, slice, Endian};
use crate::model::{LogRow, LoggedWrite, Slot};
use crate::personalities::hole_log::entry::crc32c;
use kernel::prelude::*;

pub use crate::personalities::hole_log::row::HEADER_SECTORS;
/// Bytes of a header.
pub const HEADER_BYTES: usize = HEADER_SECTORS as usize * 512;
/// Least sectors of an area: a header, and a sum of 4 KiB.
pub const AREA_SECTORS_MIN: u32 = 16;
/// Most entries of a header.
const ENTRIES_MAX: u32 = 148;

/// Byte offsets in a header.
mod at {
    /// Whose it is, 4 bytes.
    pub const SIGNATURE: usize = 512;
    /// Rises from header to header, 8 bytes.
    pub const GENERATION: usize = 520;
    /// Entries, 4 bytes.
    pub const COUNT: usize = 528;
    /// CRC-32C of the header with this field 0, 4 bytes.
    pub const CHECKSUM: usize = 532;
    /// The first entry.
    pub const ENTRIES: usize = 536;
    /// Length of an entry.
    pub const ENTRY_BYTES: usize = 24;
}

const LE: Endian = Endian::Little;

/// Of an entry that tells of no write and that EMD puts into its headers while parity does not agree everywhere: what
/// stands where the checksum of its sum would be. md takes it for damage, so it does not call the array clean when it has
/// replayed the rest, and establishes parity. Beside an entry of a write it says nothing else; in a header that has no other
/// it says that nobody knows all that was in flight.
const NOT_CLEAN: u32 = u32::from_le_bytes(*b"EMD!");

/// The same, where it also says beside an entry of a write that nobody knows all that was in flight before that
/// ([`LogRow::tells_all`]). No other reading takes it for anything but damage.
const NOT_TOLD: u32 = u32::from_le_bytes(*b"EMD?");

/// A header as [`crate::model::EncodeHeader`] has it.
pub fn encode(
    row: &LogRow,
    generation: u64,
    entry: Option<(LoggedWrite, u32)>,
    is_synced: bool,
    crc: fn(u32, &[u8]) -> u32,
    unit: &mut [u8],
) {
    let Some(unit) = unit.get_mut(..HEADER_BYTES) else {
        return;
    };
    unit.fill(0);
    if let Some(reserved) = unit.get_mut(..at::SIGNATURE) {
        reserved.fill(0xFF);
    }
    let _ = LE.put_u32(unit, at::SIGNATURE, row.signature);
    let _ = LE.put_u64(unit, at::GENERATION, generation);
    let count = u32::from(entry.is_some()) + u32::from(!is_synced);
    let _ = LE.put_u32(unit, at::COUNT, count);
    let mut last = (at::ENTRIES, 0);
    if let Some((write, sum_crc)) = entry {
        let first = write.first_sector.checked_div(row.unit_sectors.into());
        let entry = at::ENTRIES;
        let _ = LE.put_u64(unit, entry, first.unwrap_or(0));
        let _ = LE.put_u32(unit, entry + 8, write.sum_sectors.saturating_mul(512));
        let _ = LE.put_u32(unit, entry + 12, write.data_sectors.saturating_mul(512));
        let _ = LE.put_u32(unit, entry + 16, write.slot.into());
        let _ = LE.put_u32(unit, entry + 20, !sum_crc);
        last = (entry + at::ENTRY_BYTES, write.slot);
    }
    if !is_synced {
        let (entry, slot) = last;
        let _ = LE.put_u32(unit, entry + 16, slot.into());
        let mark = if row.tells_all { NOT_CLEAN } else { NOT_TOLD };
        let _ = LE.put_u32(unit, entry + 20, mark);
    }
    let checksum = !crc(u32::MAX, unit);
    let _ = LE.put_u32(unit, at::CHECKSUM, checksum);
}

/// How the entries of an array's logs are to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialect {
    /// What headers have to carry.
    pub signature: u32,
    /// Sectors of the unit in which entries give the place in the volume.
    pub unit_sectors: u32,
}

/// The signature that md derives from the UUID of an array: CRC-32C in its standard form.
pub fn signature_of(uuid: &[u8; 16]) -> u32 {
    crc(&[uuid])
}

/// CRC-32C of parts that follow one another, in its standard form (all ones at the start, inverted at the end).
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(u32::MAX, |crc, part| crc32c(crc, part))
}

/// A header that is whole.
#[derive(Clone, Copy)]
struct Header<'a> {
    bytes: &'a [u8],
    generation: u64,
    count: u32,
    /// Its sector in the area.
    sector: u32,
}

/// An entry, as it is.
struct Entry {
    first: u64,
    sum_bytes: u32,
    data_bytes: u32,
    parity: u32,
    checksum: u32,
}

impl<'a> Header<'a> {
    /// The header at `sector` of `area`.
    fn at(area: &'a [u8], sector: u32, signature: u32) -> Option<Self> {
        let bytes = slice(area, (sector as usize).checked_mul(512)?, HEADER_BYTES)?;
        let stored = LE.u32(bytes, at::CHECKSUM)?;
        let before = bytes.get(..at::CHECKSUM)?;
        let behind = bytes.get(at::CHECKSUM + 4..)?;
        let count = LE.u32(bytes, at::COUNT)?;
        let is_whole = crc(&[before, &[0; 4], behind]) == stored
            && LE.u32(bytes, at::SIGNATURE)? == signature
            && count <= ENTRIES_MAX;
        is_whole.then_some(Self {
            bytes,
            generation: LE.u64(bytes, at::GENERATION)?,
            count,
            sector,
        })
    }

    fn entries(self) -> impl Iterator<Item = Entry> + 'a {
        (0..self.count as usize).filter_map(move |index| {
            let entry: [u8; at::ENTRY_BYTES] =
                array(self.bytes, at::ENTRIES + index * at::ENTRY_BYTES)?;
            Some(Entry {
                first: LE.u64(&entry, 0)?,
                sum_bytes: LE.u32(&entry, 8)?,
                data_bytes: LE.u32(&entry, 12)?,
                parity: LE.u32(&entry, 16)?,
                checksum: LE.u32(&entry, 20)?,
            })
        })
    }

    /// Where the next one would be.
    fn next(self) -> Option<u32> {
        let sums = self
            .entries()
            .try_fold(0u32, |sum, entry| sum.checked_add(entry.sum_bytes / 512))?;
        self.sector.checked_add(HEADER_SECTORS)?.checked_add(sums)
    }
}

/// The newest log of an area.
fn newest(area: &[u8], signature: u32) -> Option<Header<'_>> {
    let mut found = Header::at(area, 0, signature)?;
    // Each is behind the one before, so this ends.
    while let Some(next) = found
        .next()
        .and_then(|sector| Header::at(area, sector, signature))
    {
        if next.generation < found.generation {
            break;
        }
        found = next;
    }
    Some(found)
}

/// Adds the writes that the log in `area`, on the member in `slot`, tells of to `writes`, in their order. False
/// when there is no log, or what some of it says cannot be: then it is not all that was in flight. Allocates.
///
/// An entry whose sum is not what its checksum says is left out: the write of the log was cut. What it is about had
/// not begun then, as members are written after that only, and what the logs before told of was through.
pub fn read(
    dialect: Dialect,
    slot: Slot,
    area: &[u8],
    writes: &mut KVVec<LoggedWrite>,
) -> Result<bool> {
    let Some(log) = newest(area, dialect.signature) else {
        return Ok(false);
    };
    let mut is_whole = true;
    let mut sum_start = log.sector.saturating_add(HEADER_SECTORS);
    for entry in log.entries() {
        let start = sum_start;
        sum_start = start.saturating_add(entry.sum_bytes / 512);
        let from = (start as usize).saturating_mul(512);
        let sum = slice(area, from, entry.sum_bytes as usize);
        let differs = sum.is_some_and(|sum| crc(&[sum]) != entry.checksum);
        let is_of_none = entry.data_bytes == 0 && entry.sum_bytes == 0;
        let is_torn = differs && entry.sum_bytes > 0;
        let can_be = sum.is_some()
            && (!differs || is_torn || is_of_none && entry.checksum == NOT_CLEAN && log.count > 1)
            && entry.sum_bytes % 512 == 0
            && entry.data_bytes % 512 == 0
            && (is_of_none || entry.parity == u32::from(slot));
        let first_sector = entry.first.checked_mul(u64::from(dialect.unit_sectors));
        match first_sector.filter(|_| can_be) {
            // mdadm puts one of none where it wants it known that nothing was in flight.
            Some(_) if is_torn || is_of_none => {}
            Some(first_sector) => writes.push(
                LoggedWrite {
                    slot,
                    first_sector,
                    data_sectors: entry.data_bytes / 512,
                    sum_sectors: entry.sum_bytes / 512,
                    sum_start: start,
                },
                GFP_KERNEL,
            )?,
            None => is_whole = false,
        }
    }
    Ok(is_whole)
}
