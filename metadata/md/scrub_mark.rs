// SPDX-License-Identifier: GPL-2.0

//! The mark of a check or repair that has not ended: 64 bits in a place that md and mdadm neither look at nor keep.
//!
//! In 1.x it is the field for how far a recovery of the member got, which means nothing without feature 2
//! (`super_1_validate`), so the mark is on members in sync only. In 0.90 it is two words that have no meaning. md zeroes both
//! each time that it writes (`super_1_sync`, `super_90_sync`). 1.x's padding would not do: md refuses a superblock in which
//! that is not zero.
//!
//! The mark has a seal over what is around it: identity, shape, event count, time. So it counts only as long as nobody else
//! has written that superblock, whatever they left of it.

use super::super::bytes::slice;
use super::super::ppl::crc;
use super::layout::*;
use crate::model::Scrub;
use core::ops::Range;

/// First byte of the mark of a check.
const CHECK: u8 = 0xEC;
/// The same of a repair.
const REPAIR: u8 = 0xED;
/// Bits behind the first byte and the seal: how far it got, in units of [`UNIT_SECTORS`].
const UNITS_BITS: u32 = 40;
/// Sectors of a unit.
const UNIT_SECTORS: u64 = 8;
/// The bits of the units.
const UNITS: u64 = (1 << UNITS_BITS) - 1;
/// What of a superblock of 1.x the seal is over: all but roles, checksum and the mark itself.
const SEALED_1: [Range<usize>; 2] = [0..v1::RECOVERY, v1::NUMBER..v1::CHECKSUM];
/// The same of 0.90: all but descriptors, checksum and what has no meaning.
const SEALED_0: [Range<usize>; 2] = [0..v0::CHECKSUM, v0::EVENTS..v0::SCRUB];

fn place(version: Version) -> usize {
    match version {
        Version::V090 => v0::SCRUB,
        _ => v1::RECOVERY,
    }
}

/// A mark as it can be kept: in whole units, rounded down. `None` when it is too far for its bits.
pub fn kept(scrub: Scrub) -> Option<Scrub> {
    let units = scrub.done_sectors / UNIT_SECTORS;
    (units <= UNITS).then_some(Scrub {
        done_sectors: units * UNIT_SECTORS,
        ..scrub
    })
}

/// Whether there is a mark, whatever it is worth.
pub fn is_marked(version: Version, bytes: &[u8]) -> bool {
    let [kind, ..] = get64(bytes, place(version)).to_be_bytes();
    matches!(kind, CHECK | REPAIR)
}

/// The mark with its seal, for a superblock in which all else is as it will be.
fn sealed(version: Version, bytes: &[u8], scrub: Scrub) -> u64 {
    let kind = if scrub.repairs { REPAIR } else { CHECK };
    let units = (scrub.done_sectors / UNIT_SECTORS) & UNITS;
    let bare = (u64::from(kind) << 56) | units;
    let [first, second] = match version {
        Version::V090 => SEALED_0,
        _ => SEALED_1,
    };
    let part = |range: Range<usize>| slice(bytes, range.start, range.len()).unwrap_or(&[]);
    let seal = crc(&[part(first), part(second), &bare.to_le_bytes()]);
    bare | (u64::from(seal & 0xFFFF) << UNITS_BITS)
}

/// Writes the mark into a superblock in which all else but the checksum is as it will be. Without one, no mark is left there.
/// In 1.x only where the member is not being recovered.
pub fn put(version: Version, bytes: &mut [u8], scrub: Option<Scrub>) {
    let word = match scrub {
        Some(scrub) => sealed(version, bytes, scrub),
        None if is_marked(version, bytes) => 0,
        None => return,
    };
    put64(bytes, place(version), word);
}

/// The mark of a superblock, if there is one and nobody else wrote there since.
pub fn find(version: Version, bytes: &[u8]) -> Option<Scrub> {
    let word = get64(bytes, place(version));
    let [kind, ..] = word.to_be_bytes();
    let scrub = Scrub {
        repairs: match kind {
            CHECK => false,
            REPAIR => true,
            _ => return None,
        },
        done_sectors: (word & UNITS) * UNIT_SECTORS,
    };
    (sealed(version, bytes, scrub) == word).then_some(scrub)
}
