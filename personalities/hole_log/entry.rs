// SPDX-License-Identifier: GPL-2.0

//! Entries of the log: a unit of [`UNIT_BYTES`] that says what it is about, and behind it the sum.
//!
//! | byte | of | |
//! |---|---|---|
//! | 0 | 8 | "EMDHOLE2" |
//! | 8 | 16 | session |
//! | 24 | 8 | number: later entries have higher ones |
//! | 32 | 8 | stripe |
//! | 40 | 4 | first column (sectors) |
//! | 44 | 4 | sectors |
//! | 48 | 8 | members in the sum, a bit each |
//! | 56 | 8 | members that have entries with this number |
//! | 64 | 2 | member that this one is on |
//! | 66 | 1 | 0: void, 1: sum as P has it, 2: as Q |
//! | 68 | 4 | 0 |
//! | 72 | 8 | units in front of it since the session began |
//! | 80 | 8 | entries before this position do not count |
//! | 88 | 8 | hash of the sum ([`hash_sum`]) |
//! | 96 | 4 | CRC-32C of bytes 0 to 95 |
//!
//! All little-endian; the rest of the unit is 0.

use super::SECTORS_MAX;
use crate::model::Slot;
use crate::personalities::Mask;
use kernel::prelude::*;

/// Entries begin, and sums are rounded up to, multiples of this.
pub const UNIT_BYTES: usize = 4096;

/// The same, in sectors.
pub const UNIT_SECTORS: u32 = 8;

const MAGIC: &[u8; 8] = b"EMDHOLE2";

/// Bytes of the head that the checksum covers.
const HEAD_BYTES: usize = 96;

/// Tells the entries of one start of a volume from all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session(pub [u64; 2]);

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sum {
    /// Nothing: earlier entries for these columns are out of date.
    Void,
    /// Exclusive or of the data.
    P,
    /// Of the data times its coefficients.
    Q,
}

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Later ones have higher numbers; entries that belong together have the same.
    pub number: u64,
    /// The stripe.
    pub stripe: u64,
    /// First column, in sectors of the stripe unit.
    pub column: u32,
    /// Length; 1 to [`SECTORS_MAX`].
    pub sectors: u32,
    /// Members with data in the sum.
    pub covers: Mask,
    /// Members that have an entry with this number.
    pub on: Mask,
    /// The member that this one is on.
    pub slot: Slot,
    /// What is behind it.
    pub sum: Sum,
    /// Its position, as [`Place`](super::Place) has it.
    pub position: u64,
    /// From which position on entries count.
    pub oldest: u64,
}

impl Entry {
    /// Units that it takes, with its sum.
    pub fn units(&self) -> u32 {
        match self.sum {
            Sum::Void => 1,
            Sum::P | Sum::Q => units_for(self.sectors),
        }
    }

    /// Bytes of its sum.
    pub fn sum_bytes(&self) -> usize {
        match self.sum {
            Sum::Void => 0,
            Sum::P | Sum::Q => self.sectors as usize * 512,
        }
    }

    /// Writes the head to the start of `unit` (at least [`UNIT_BYTES`] long; else nothing is written). The rest of it is
    /// left alone: zeroes, as the caller has it.
    pub fn encode(&self, session: Session, sum_hash: u64, unit: &mut [u8]) {
        let Some(unit) = unit.get_mut(..UNIT_BYTES) else {
            return;
        };
        let kind = match self.sum {
            Sum::Void => 0u16,
            Sum::P => 1,
            Sum::Q => 2,
        };
        let [first, second] = session.0;
        put(unit, 0, MAGIC);
        put(unit, 8, &first.to_le_bytes());
        put(unit, 16, &second.to_le_bytes());
        put(unit, 24, &self.number.to_le_bytes());
        put(unit, 32, &self.stripe.to_le_bytes());
        put(unit, 40, &self.column.to_le_bytes());
        put(unit, 44, &self.sectors.to_le_bytes());
        put(unit, 48, &self.covers.0.to_le_bytes());
        put(unit, 56, &self.on.0.to_le_bytes());
        put(unit, 64, &self.slot.to_le_bytes());
        put(unit, 66, &kind.to_le_bytes());
        put(unit, 68, &[0; 4]);
        put(unit, 72, &self.position.to_le_bytes());
        put(unit, 80, &self.oldest.to_le_bytes());
        put(unit, 88, &sum_hash.to_le_bytes());
        let crc = crc32c(0, unit.get(..HEAD_BYTES).unwrap_or(&[]));
        put(unit, HEAD_BYTES, &crc.to_le_bytes());
    }

    /// The entry whose head is in `unit`, and the hash of its sum. `None` when it is none, is
    /// damaged, or is of another session.
    pub fn decode(session: Session, unit: &[u8]) -> Option<(Self, u64)> {
        if unit.get(..8)? != MAGIC.as_slice() || unit.len() < UNIT_BYTES {
            return None;
        }
        let crc = u32::from_le_bytes(field(unit, HEAD_BYTES)?);
        let of = |at| Some(u64::from_le_bytes(field(unit, at)?));
        if crc32c(0, unit.get(..HEAD_BYTES)?) != crc || Session([of(8)?, of(16)?]) != session {
            return None;
        }
        let entry = Self {
            number: of(24)?,
            stripe: of(32)?,
            column: u32::from_le_bytes(field(unit, 40)?),
            sectors: u32::from_le_bytes(field(unit, 44)?),
            covers: Mask(of(48)?),
            on: Mask(of(56)?),
            slot: u16::from_le_bytes(field(unit, 64)?),
            sum: match u16::from_le_bytes(field(unit, 66)?) {
                0 => Sum::Void,
                1 => Sum::P,
                2 => Sum::Q,
                _ => return None,
            },
            position: of(72)?,
            oldest: of(80)?,
        };
        let fits = (1..=SECTORS_MAX).contains(&entry.sectors)
            && entry.column.checked_add(entry.sectors).is_some();
        let sum_hash = of(88)?;
        fits.then_some((entry, sum_hash))
    }
}

/// An entry that was found, and the unit of its ring where it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The entry.
    pub entry: Entry,
    /// Its first unit.
    pub unit: u32,
}

/// Adds the whole entries that count of a ring on member `slot` to `found`. `bytes` are the ring's, whole; `hash` is
/// XXH64 with a seed ([`hash_sum`]). Allocates.
pub fn scan(
    session: Session,
    slot: Slot,
    bytes: &[u8],
    hash: impl Fn(u64, &[u8]) -> u64,
    found: &mut KVVec<Found>,
) -> Result {
    let mut oldest = 0;
    let before = found.len();
    for (index, unit) in (0u32..).zip(bytes.chunks_exact(UNIT_BYTES)) {
        let Some((entry, sum_hash)) = Entry::decode(session, unit) else {
            continue;
        };
        // What reaches the end of the ring goes on at its start.
        let from = (index as usize + 1)
            .saturating_mul(UNIT_BYTES)
            .min(bytes.len());
        let (start, end) = bytes.split_at_checked(from).unwrap_or((bytes, &[]));
        let before = entry.sum_bytes().min(end.len());
        let after = entry.sum_bytes().saturating_sub(before);
        let (Some(before), Some(after)) = (end.get(..before), start.get(..after)) else {
            continue;
        };
        if entry.slot == slot && hash_sum([before, after], &hash) == sum_hash {
            oldest = oldest.max(entry.oldest);
            found.push(Found { entry, unit: index }, GFP_KERNEL)?;
        }
    }
    let mut at = 0;
    found.retain(|found| {
        at += 1;
        at <= before || found.entry.position >= oldest
    });
    Ok(())
}

/// The hash of a sum, given in two parts, of which the first is of whole units if there is a second: XXH64 of each unit, its
/// seed that of the one before (0 for the first). As good as a checksum at telling a torn sum from a whole one, and
/// several times as fast where the processor has no instruction for that (an emulated one, say).
pub fn hash_sum(parts: [&[u8]; 2], hash: impl Fn(u64, &[u8]) -> u64) -> u64 {
    let units = parts.iter().flat_map(|part| part.chunks(UNIT_BYTES));
    units.fold(0, hash)
}

/// Units of an entry with a sum of `sectors`.
pub fn units_for(sectors: u32) -> u32 {
    1 + sectors.div_ceil(UNIT_SECTORS)
}

fn put(unit: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(room) = unit.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

fn field<const N: usize>(unit: &[u8], at: usize) -> Option<[u8; N]> {
    unit.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// CRC-32C (Castagnoli), as the kernel's `crc32c`: no inversion of its own, so it goes on from any
/// value. Eight bits at a time; for heads, and for the host.
pub fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, &byte| {
        let index = (crc ^ u32::from(byte)) & 0xFF;
        (crc >> 8) ^ CRC.get(index as usize).copied().unwrap_or(0)
    })
}

const CRC: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { 0x82F6_3B78 } else { 0 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}
