// SPDX-License-Identifier: GPL-2.0

//! Finding an MPB on a disk.
//!
//! The anchor is the last block but one; what does not fit into it lies in the blocks right before
//! it. An ordinary disk costs one read of its last 8 KiB.

use super::super::{DiskImage, Probe, Region};
use super::layout::*;
use super::plan::safety_block;
use crate::model::{Checked, DiskFacts, Identity, Reason};
use crate::reason;
use kernel::prelude::*;

/// Sectors from the end that are read of every disk.
const TAIL_SECTORS: u64 = 16;

/// Smallest disk that is looked at.
const DISK_SECTORS_MIN: u64 = 2048;

/// An MPB on a disk.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The disk.
    pub facts: DiskFacts,
    /// Block of the anchor.
    pub anchor: u64,
    /// Its bytes. Sound, unless `torn`.
    pub raw: Raw<'a>,
    /// The disk's last block, with the record of a migration; `None` when it was not read.
    pub last: Option<&'a [u8]>,
    /// The checksum is wrong: of what it says only family and generation are used.
    pub torn: bool,
    /// What is torn, where `raw` is the copy that was written for that case.
    pub instead_of: Option<Raw<'a>>,
}

impl Found<'_> {
    /// Whether `raw` is a copy that does not count, as `other` shows: what was torn is whole there, or newer. It was left by
    /// an update that was cut before it changed anything, or by this one, which nothing rests on before another disk has it.
    fn is_left_over(&self, other: &Self) -> bool {
        let Some(torn) = self.instead_of else {
            return false;
        };
        let is_whole = !other.torn && other.instead_of.is_none() && !other.raw.is_spare();
        let (theirs, ours) = (other.raw.generation(), torn.generation());
        // Of one number, it may be another history's.
        let is_same =
            theirs == ours && other.raw.u32(header::CHECKSUM) == torn.u32(header::CHECKSUM);
        is_whole && other.raw.family() == torn.family() && (theirs > ours || is_same)
    }
}

/// Has copies that do not count be the torn MPBs that they were found instead of.
pub fn drop_left_over(found: &mut [Found<'_>]) {
    for index in 0..found.len() {
        let is_left_over = found
            .get(index)
            .is_some_and(|one| found.iter().any(|other| one.is_left_over(other)));
        if let Some(one) = found.get_mut(index).filter(|_| is_left_over) {
            one.raw = one.instead_of.take().unwrap_or(one.raw);
            one.torn = true;
        }
    }
}

/// Result of looking at a disk.
#[derive(Debug)]
// Lives on the stack for a moment; a box would need memory.
#[allow(clippy::large_enum_variant)]
pub enum Exam<'a> {
    /// More has to be read.
    Read(Region),
    /// No MPB here.
    NotMine,
    /// An MPB, but unusable.
    Damaged(Reason),
    /// Usable.
    Found(Found<'a>),
}

/// A set's identity: its first family number.
pub fn identity(family: u32) -> Identity {
    let [a, b, c, d] = family.to_le_bytes();
    Identity::new(&[b'i', b'm', b's', b'm', a, b, c, d])
}

/// Number of whole blocks of a disk, and sectors of a block. `None`: no disk for this format.
pub fn blocks(facts: &DiskFacts) -> Option<(u64, u64)> {
    let block_sectors = match facts.logical_block_bytes {
        512 => 1,
        4096 => 8,
        _ => return None,
    };
    (facts.size_sectors >= DISK_SECTORS_MIN)
        .then_some((facts.size_sectors / block_sectors, block_sectors))
}

/// [`crate::metadata::Format::probe`].
pub fn probe(image: &DiskImage) -> Probe {
    match examine(image) {
        Exam::Read(region) => Probe::Read(region),
        Exam::NotMine => Probe::NotMine,
        Exam::Damaged(reason) => Probe::Damaged(reason),
        Exam::Found(found) => Probe::Found {
            set: identity(found.raw.family()),
            generation: u64::from(found.raw.generation()),
        },
    }
}

/// A step of looking: bytes, or a reason to stop.
enum Step<T> {
    Read(Region),
    Got(T),
}

/// The bytes of some blocks: asks for them the first time, `None` when the disk cannot read them.
fn read(image: &DiskImage, sector: u64, sectors: u64) -> Step<Option<&[u8]>> {
    let Ok(len_sectors) = u32::try_from(sectors) else {
        return Step::Got(None);
    };
    if len_sectors == 0 {
        return Step::Got(Some(&[]));
    }
    let region = Region {
        sector,
        len_sectors,
    };
    // What could be read counts, also where another region that could not covers it.
    let tried = image.extents.iter().any(|extent| extent.region == region);
    for extent in image.extents.iter() {
        let (Some(bytes), Some(skip)) = (
            extent.bytes.as_ref(),
            sector.checked_sub(extent.region.sector),
        ) else {
            continue;
        };
        if skip.saturating_add(sectors) > u64::from(extent.region.len_sectors) {
            continue;
        }
        let first = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .saturating_mul(512);
        let len = (len_sectors as usize).saturating_mul(512);
        return Step::Got(super::super::bytes::slice(bytes, first, len));
    }
    if tried {
        Step::Got(None)
    } else {
        Step::Read(region)
    }
}

/// Looks at what has been read of a disk.
pub fn examine(image: &DiskImage) -> Exam<'_> {
    let Some((count, block_sectors)) = blocks(&image.facts) else {
        return Exam::NotMine;
    };
    let end = count * block_sectors;
    let anchor = count - 2;
    if let Step::Read(region) = read(image, end - TAIL_SECTORS, TAIL_SECTORS) {
        return Exam::Read(region);
    }
    // When some block of the tail is bad, the anchor alone may be readable.
    let bytes = match read(image, anchor * block_sectors, block_sectors) {
        Step::Read(region) => return Exam::Read(region),
        Step::Got(None) => return Exam::NotMine,
        Step::Got(Some(bytes)) => bytes,
    };
    let raw = Raw {
        anchor: bytes,
        rest: &[],
    };
    if !raw.is_mpb() {
        return Exam::NotMine;
    }
    match read_rest(image, anchor, block_sectors, raw) {
        Step::Read(region) => Exam::Read(region),
        Step::Got(Err(reason)) => Exam::Damaged(reason),
        Step::Got(Ok(found)) => Exam::Found(found),
    }
}

/// Reads what does not fit into the anchor, and checks it all.
#[inline(never)]
fn read_rest<'a>(
    image: &'a DiskImage,
    anchor: u64,
    block_sectors: u64,
    first: Raw<'a>,
) -> Step<Checked<Found<'a>>> {
    let size = match first.check_size() {
        Ok(size) => size,
        Err(reason) => return Step::Got(Err(reason)),
    };
    let block_bytes = first.anchor.len().max(1);
    let more = (size.div_ceil(block_bytes.max(1)) as u64).saturating_sub(1);
    let Some(start) = anchor.checked_sub(more) else {
        return Step::Got(Err(reason!(
            EINVAL,
            "the Intel MPB is longer than the disk"
        )));
    };
    let rest = match read(image, start * block_sectors, more * block_sectors) {
        Step::Read(region) => return Step::Read(region),
        Step::Got(bytes) => bytes,
    };
    let raw = Raw {
        rest: rest.unwrap_or(&[]),
        ..first
    };
    // It was read with the tail. Where that has a bad block, only a migration is worth another read.
    let last = match read(image, (anchor + 1) * block_sectors, block_sectors) {
        Step::Read(region) if raw.migrates() => return Step::Read(region),
        Step::Read(_) => None,
        Step::Got(bytes) => bytes,
    };
    let found = Found {
        facts: image.facts,
        anchor,
        raw,
        last,
        torn: rest.is_none() || !raw.is_sound(),
        instead_of: None,
    };
    if !found.torn {
        return Step::Got(raw.check().map(|()| found));
    }
    match read_safety(image, anchor, block_sectors, &found) {
        Step::Read(region) => Step::Read(region),
        Step::Got(Some(whole)) => Step::Got(Ok(Found {
            raw: whole,
            torn: false,
            instead_of: Some(found.raw),
            ..found
        })),
        Step::Got(None) => Step::Got(Ok(found)),
    }
}

/// Of an update that a crash tore: the copy that EMD writes first where the disk may be the only one afterwards.
#[inline(never)]
fn read_safety<'a>(
    image: &'a DiskImage,
    anchor: u64,
    block_sectors: u64,
    torn: &Found<'_>,
) -> Step<Option<Raw<'a>>> {
    let sectors = (MPB_BYTES_MAX / 512) as u64;
    let Some(block) = safety_block(anchor, block_sectors) else {
        return Step::Got(None);
    };
    let bytes = match read(image, block * block_sectors, sectors) {
        Step::Read(region) => return Step::Read(region),
        Step::Got(bytes) => bytes,
    };
    let Some(bytes) = bytes else {
        return Step::Got(None);
    };
    let copy = Raw {
        anchor: bytes,
        rest: &[],
    };
    let fits = copy.is_mpb()
        && copy.check_size().is_ok()
        && copy.is_sound()
        && copy.check().is_ok()
        && copy.family() == torn.raw.family()
        && copy.generation() == torn.raw.generation().wrapping_add(1);
    Step::Got(fits.then_some(copy))
}
