// SPDX-License-Identifier: GPL-2.0

//! Finding the format on a disk: the reserved block in the last sector, the table that it points at.

use super::super::bytes::slice;
use super::super::{DiskImage, Probe, Region};
use super::layout::*;
use super::table::Table;
use crate::model::{DiskFacts, Identity, Reason};
use crate::reason;
use kernel::prelude::*;

/// Fewest sectors of a disk.
pub const DISK_SECTORS_MIN: u64 = 64;

/// What was found on a disk.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The disk.
    pub facts: DiskFacts,
    /// The reserved block.
    pub reserved: &'a [u8],
    /// First sector of the table.
    pub at: u64,
    /// The table: at most [`TABLE_BYTES`], at least its lines.
    pub table: &'a [u8],
}

/// Result of looking at a disk.
#[derive(Debug)]
// Lives on the stack for a moment; a box would need memory.
#[allow(clippy::large_enum_variant)]
pub enum Exam<'a> {
    /// More has to be read.
    Read(Region),
    /// Not this format.
    NotMine,
    /// This format, but unusable.
    Damaged(Reason),
    /// Usable.
    Found(Found<'a>),
}

impl Found<'_> {
    /// The disk's magic number.
    pub fn magic(&self) -> u32 {
        get32(self.reserved, reserved::DRIVE)
    }
}

/// The set that a disk with this table belongs to.
///
/// The format has no number for it. EMD keeps one in the table's header; else it is the magic number
/// of the first array. A lone spare belongs to the array that its header names. Spares that are for
/// any array are one set, all FF.
pub fn identity(table: &Table) -> u32 {
    if table.is_marked() {
        return get32(table.head(), header::SET);
    }
    if let Some((_, line)) = table.volumes().next() {
        return line.magic;
    }
    match get32(table.head(), header::ARRAY) {
        0 => NO_MAGIC,
        array => array,
    }
}

/// [`identity`] in the model's words.
pub fn identity_of(set: u32) -> Identity {
    Identity::new(&set.to_be_bytes())
}

/// [`crate::metadata::Format::probe`].
pub fn probe(image: &DiskImage) -> Probe {
    match examine(image) {
        Exam::Read(region) => Probe::Read(region),
        Exam::NotMine => Probe::NotMine,
        Exam::Damaged(reason) => Probe::Damaged(reason),
        Exam::Found(found) => match Table::new(found.table) {
            Ok(table) => Probe::Found {
                set: identity_of(identity(&table)),
                generation: u64::from(table.sequence()),
            },
            Err(reason) => Probe::Damaged(reason),
        },
    }
}

/// The bytes of a region, once they were asked for; `Some(None)` when the disk cannot read them.
#[allow(clippy::option_option)]
fn seen(image: &DiskImage, region: Region) -> Option<Option<&[u8]>> {
    let mut asked = false;
    for extent in image.extents.iter() {
        asked |= extent.region == region;
        let (Some(bytes), Some(skip)) = (
            extent.bytes.as_ref(),
            region.sector.checked_sub(extent.region.sector),
        ) else {
            continue;
        };
        // A stretch of another extent will do.
        let end = skip.checked_add(u64::from(region.len_sectors));
        if end.is_none_or(|end| end > u64::from(extent.region.len_sectors)) {
            continue;
        }
        let first = usize::try_from(skip).ok()?.checked_mul(512)?;
        return Some(slice(bytes, first, region.len_sectors as usize * 512));
    }
    asked.then_some(None)
}

/// Looks at what has been read of a disk.
pub fn examine(image: &DiskImage) -> Exam<'_> {
    let facts = image.facts;
    if facts.logical_block_bytes != 512 || facts.size_sectors < DISK_SECTORS_MIN {
        return Exam::NotMine;
    }
    let last = facts.size_sectors - 1;
    let tail = Region {
        sector: facts.size_sectors - TAIL_SECTORS,
        len_sectors: TAIL_SECTORS as u32,
    };
    let block = Region {
        sector: last,
        len_sectors: 1,
    };
    if seen(image, tail).is_none() {
        return Exam::Read(tail);
    }
    // A bad sector in the usual place of the table must not hide a block that points elsewhere.
    let reserved = match seen(image, block) {
        None => return Exam::Read(block),
        Some(None) => return Exam::NotMine,
        Some(Some(bytes)) => bytes,
    };
    if get32(reserved, reserved::SIGNATURE_AT) != reserved::SIGNATURE
        || get32(reserved, reserved::VALID_AT) != reserved::VALID
    {
        return Exam::NotMine;
    }
    let version = get8(reserved, reserved::VERSION_AT);
    if version != reserved::VERSION {
        return Exam::Damaged(reason!(
            EOPNOTSUPP,
            "the reserved block is of version {version}; only version {} is known",
            reserved::VERSION
        ));
    }
    let at = u64::from(get32(reserved, reserved::TABLE));
    if at == 0 || at >= last {
        return Exam::Damaged(reason!(
            EINVAL,
            "the reserved block places the table at sector {at}, the disk ends at {last}"
        ));
    }
    let sectors = (last - at).min(TABLE_SECTORS);
    let region = Region {
        sector: at,
        len_sectors: sectors as u32,
    };
    match seen(image, region) {
        None => Exam::Read(region),
        Some(None) => Exam::Damaged(reason!(EIO, "the table at sector {at} cannot be read")),
        Some(Some(table)) => match check_table(table) {
            Ok(()) => Exam::Found(Found {
                facts,
                reserved,
                at,
                table,
            }),
            Err(reason) => Exam::Damaged(reason),
        },
    }
}

/// Signature, counts and lengths must be right.
#[inline(never)]
fn check_table(bytes: &[u8]) -> Result<(), Reason> {
    let signature = get32(bytes, header::SIGNATURE_AT);
    if signature != header::SIGNATURE {
        return Err(reason!(
            EINVAL,
            "the table has signature {signature:08x} instead of {:08x}",
            header::SIGNATURE
        ));
    }
    let (count, room) = (get16(bytes, header::COUNT), get16(bytes, header::ROOM));
    if count == 0 || count >= room {
        return Err(reason!(
            EINVAL,
            "the table says that it has {count} lines and room for {room}"
        ));
    }
    let len = get16(bytes, header::LINE);
    if usize::from(len) != LINE_BYTES {
        return Err(reason!(EINVAL, "the table's lines have {len} bytes"));
    }
    let end = (usize::from(count) + 1) * LINE_BYTES;
    if slice(bytes, 0, end).is_none() {
        return Err(reason!(
            EINVAL,
            "the table's {count} lines reach beyond the end of its place"
        ));
    }
    Ok(())
}
