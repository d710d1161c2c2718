// SPDX-License-Identifier: GPL-2.0

//! Partial parity logs as md and mdadm write them; and what md makes of them, done sector by sector from the words
//! of the format, with nothing of EMD's own reader.

use emd_core::model::Slot;
use emd_core::personalities::hole_log::entry::crc32c;
use emd_core::personalities::{Geometry, Mask};

/// CRC-32C in its standard form.
pub fn crc(bytes: &[u8]) -> u32 {
    !crc32c(!0, bytes)
}

/// An entry of a header.
#[derive(Clone, Debug)]
pub struct Entry {
    /// In the unit of the dialect.
    pub first: u64,
    pub data_bytes: u32,
    pub parity: u32,
    pub sum: Vec<u8>,
}

/// One log: header and sums.
pub fn log(signature: u32, generation: u64, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..512].fill(0xFF);
    bytes[512..516].copy_from_slice(&signature.to_le_bytes());
    bytes[520..528].copy_from_slice(&generation.to_le_bytes());
    bytes[528..532].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    for (index, entry) in entries.iter().enumerate() {
        let at = 536 + 24 * index;
        bytes[at..at + 8].copy_from_slice(&entry.first.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&(entry.sum.len() as u32).to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&entry.data_bytes.to_le_bytes());
        bytes[at + 16..at + 20].copy_from_slice(&entry.parity.to_le_bytes());
        bytes[at + 20..at + 24].copy_from_slice(&crc(&entry.sum).to_le_bytes());
    }
    seal(&mut bytes);
    for entry in entries {
        bytes.extend_from_slice(&entry.sum);
    }
    bytes
}

/// Makes the checksum of a header right.
pub fn seal(header: &mut [u8]) {
    header[532..536].fill(0);
    let sum = crc(&header[..4096]);
    header[532..536].copy_from_slice(&sum.to_le_bytes());
}

/// The area of one member, as md fills it: logs one behind the other, from the start again when the next does not fit.
#[derive(Clone, Debug)]
pub struct Area {
    pub bytes: Vec<u8>,
    pub signature: u32,
    next: usize,
}

impl Area {
    /// With the empty log that md and mdadm begin with.
    pub fn new(signature: u32, sectors: usize) -> Self {
        let mut bytes = vec![0; sectors * 512];
        bytes[..4096].copy_from_slice(&log(signature, 0, &[]));
        Self {
            bytes,
            signature,
            next: 0,
        }
    }

    /// Writes a log, of which only the first `whole` bytes get there.
    pub fn write(&mut self, generation: u64, entries: &[Entry], whole: usize) {
        let log = log(self.signature, generation, entries);
        if self.next + log.len() > self.bytes.len() {
            self.next = 0;
        }
        let len = whole.min(log.len());
        self.bytes[self.next..self.next + len].copy_from_slice(&log[..len]);
        self.next += log.len();
    }
}

/// What md's recovery makes of an entry: parity is the sum of what was written and of the log's sum, wherever all
/// members that were written are here. `members` hold a byte for each sector.
pub fn recover_as_md(
    geometry: &Geometry,
    members: &mut [Vec<u8>],
    here: Mask,
    first: u64,
    data_sectors: u64,
    sum: &[u8],
) {
    let chunk = u64::from(geometry.chunk_sectors());
    let data = u64::from(geometry.data_members());
    let rows = sum.len() as u64;
    let (disks, strip, end) = if rows >= chunk {
        (data, chunk, first + data_sectors)
    } else if rows > 0 {
        let disks = data_sectors / rows;
        (disks, rows, first + (disks - 1) * chunk + rows)
    } else {
        let strip = data_sectors / data;
        (data, strip, first + (data - 1) * chunk + strip)
    };
    for row in 0..strip {
        let mut parity = sum.get(row as usize).copied().unwrap_or(0);
        let mut any = false;
        let mut all_here = true;
        for disk in 0..disks {
            let sector = first + row + disk * chunk;
            if sector >= end {
                continue;
            }
            any = true;
            let place = geometry.locate(sector);
            all_here &= here.contains(place.slot);
            parity ^= members[usize::from(place.slot)][place.member_sector as usize];
        }
        if any && all_here {
            let sector = first + row;
            let stripe = geometry.locate(sector).stripe;
            let slot: Slot = geometry.roles(stripe).p.expect("parity");
            let at = geometry.member_sector(stripe, slot).expect("a stripe") + sector % chunk;
            members[usize::from(slot)][at as usize] = parity;
        }
    }
}
