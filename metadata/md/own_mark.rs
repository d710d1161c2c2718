// SPDX-License-Identifier: GPL-2.0

//! Marks of EMD's own: of a check or repair that has not ended, and in 0.90 of how far a disk is rebuilt. 64 bits in a place that
//! md and mdadm neither look at nor keep.
//!
//! In 1.x it is the field for how far a recovery of the member got, which means nothing without feature 2
//! (`super_1_validate`), so the mark of a check is on members in sync only. In 0.90 it is two words that have no meaning: on members
//! in sync they are the mark of a check, on a disk that is being rebuilt, a spare to all others, that of its rebuild. md zeroes both
//! each time that it writes (`super_1_sync`, `super_90_sync`). 1.x's padding would not do: md refuses a superblock in which
//! that is not zero.
//!
//! The mark has a seal over what is around it: identity, shape, event count, time. So it counts only as long as nobody else
//! has written that superblock, whatever they left of it.

use super::super::bytes::slice;
use super::super::ppl::crc;
use super::layout::*;
use crate::model::{Scrub, Slot};
use core::ops::Range;

/// What a mark is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// A check or repair of the array.
    Scrub(Scrub),
    /// The rebuild of the disk that has the mark. (0.90; in 1.x md has a place for that.)
    Rebuild {
        /// The slot that it is to have.
        slot: Slot,
        /// Sectors of it that are rebuilt.
        done_sectors: u64,
    },
}

/// First byte of the mark of a check.
const CHECK: u8 = 0xEC;
/// The same of a repair.
const REPAIR: u8 = 0xED;
/// The same of a rebuild.
const REBUILD: u8 = 0xEB;
/// Bits behind the first byte and the seal: how far it got, in units of [`UNIT_SECTORS`].
const UNITS_BITS: u32 = 40;
/// Sectors of a unit.
const UNIT_SECTORS: u64 = 8;
/// The bits of the units.
const UNITS: u64 = (1 << UNITS_BITS) - 1;
/// Of a rebuild, the first of them are the slot, and these are left: a member of 0.90 has at most half as many units.
const REBUILD_UNITS_BITS: u32 = 32;
/// The bits of those units.
const REBUILD_UNITS: u64 = (1 << REBUILD_UNITS_BITS) - 1;
/// What of a superblock of 1.x the seal is over: all but roles, checksum and the mark itself.
const SEALED_1: [Range<usize>; 2] = [0..v1::RECOVERY, v1::NUMBER..v1::CHECKSUM];
/// The same of 0.90: all but descriptors, checksum and what has no meaning.
const SEALED_0: [Range<usize>; 2] = [0..v0::CHECKSUM, v0::EVENTS..v0::MARK];

fn place(version: Version) -> usize {
    match version {
        Version::V090 => v0::MARK,
        _ => v1::RECOVERY,
    }
}

/// The mark of a check or repair as it can be kept: in whole units, rounded down. `None` when it is too far for its bits.
pub fn kept(scrub: Scrub) -> Option<Scrub> {
    let units = scrub.done_sectors / UNIT_SECTORS;
    (units <= UNITS).then_some(Scrub {
        done_sectors: units * UNIT_SECTORS,
        ..scrub
    })
}

/// Whether there is a mark, whatever it is worth.
fn is_marked(version: Version, bytes: &[u8]) -> bool {
    let [kind, ..] = get64(bytes, place(version)).to_be_bytes();
    match kind {
        CHECK | REPAIR => true,
        REBUILD => version == Version::V090,
        _ => false,
    }
}

/// A mark without its seal: kind, and how far (of a rebuild with the slot in front).
fn bare(mark: Mark) -> u64 {
    let (kind, rest) = match mark {
        Mark::Scrub(scrub) => {
            let kind = if scrub.repairs { REPAIR } else { CHECK };
            (kind, (scrub.done_sectors / UNIT_SECTORS) & UNITS)
        }
        Mark::Rebuild { slot, done_sectors } => {
            let units = (done_sectors / UNIT_SECTORS) & REBUILD_UNITS;
            (
                REBUILD,
                (u64::from(slot & 0xFF) << REBUILD_UNITS_BITS) | units,
            )
        }
    };
    (u64::from(kind) << 56) | rest
}

/// The mark with its seal, for a superblock in which all else is as it will be. That of a rebuild is of just this disk: what
/// the superblock says of its own number is under the seal, too.
fn sealed(version: Version, bytes: &[u8], mark: Mark) -> u64 {
    let bare = bare(mark);
    let [first, second] = match version {
        Version::V090 => SEALED_0,
        _ => SEALED_1,
    };
    let part = |range: Range<usize>| slice(bytes, range.start, range.len()).unwrap_or(&[]);
    let own = match mark {
        Mark::Scrub(_) => 0..0,
        Mark::Rebuild { .. } => v0::THIS..v0::THIS + v0::device::BYTES,
    };
    let seal = crc(&[part(first), part(second), part(own), &bare.to_le_bytes()]);
    bare | (u64::from(seal & 0xFFFF) << UNITS_BITS)
}

/// Writes the mark into a superblock in which all else but the checksum is as it will be. Without one, no mark is left there.
/// In 1.x only where the member is not being recovered.
pub fn put(version: Version, bytes: &mut [u8], mark: Option<Mark>) {
    let word = match mark {
        Some(mark) => sealed(version, bytes, mark),
        None if is_marked(version, bytes) => 0,
        None => return,
    };
    put64(bytes, place(version), word);
}

/// The mark of a superblock, if there is one and nobody else wrote there since.
fn find(version: Version, bytes: &[u8]) -> Option<Mark> {
    let word = get64(bytes, place(version));
    let [kind, ..] = word.to_be_bytes();
    let of_scrub = |repairs| {
        let done_sectors = (word & UNITS) * UNIT_SECTORS;
        Mark::Scrub(Scrub {
            repairs,
            done_sectors,
        })
    };
    let mark = match kind {
        CHECK => of_scrub(false),
        REPAIR => of_scrub(true),
        REBUILD if version == Version::V090 => Mark::Rebuild {
            slot: ((word & UNITS) >> REBUILD_UNITS_BITS) as Slot,
            done_sectors: (word & REBUILD_UNITS) * UNIT_SECTORS,
        },
        _ => return None,
    };
    (sealed(version, bytes, mark) == word).then_some(mark)
}

/// The check or repair that a superblock has a mark of.
pub fn find_scrub(version: Version, bytes: &[u8]) -> Option<Scrub> {
    match find(version, bytes)? {
        Mark::Scrub(scrub) => Some(scrub),
        Mark::Rebuild { .. } => None,
    }
}

/// The slot that a disk is being rebuilt for, and how many sectors of it are, by the mark of its superblock.
pub fn find_rebuild(version: Version, bytes: &[u8]) -> Option<(Slot, u64)> {
    match find(version, bytes)? {
        Mark::Rebuild { slot, done_sectors } => Some((slot, done_sectors)),
        Mark::Scrub(_) => None,
    }
}
