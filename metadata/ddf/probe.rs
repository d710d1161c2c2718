// SPDX-License-Identifier: GPL-2.0

//! Finding DDF on a disk, region by region, and choosing the better of its two copies.
//!
//! An ordinary disk costs one read of its last 132 KiB, which holds all the usual places of the
//! anchor: the last block, Adaptec's sector 257 from the end, and a little displacement. Only when
//! that stretch holds some block with a DDF signature, yet no anchor, is the last MiB read.

use super::super::bytes::{all_are, array};
use super::super::{DiskImage, Probe, Region};
use super::header::{layout_of, signature_endian, Header, Kind};
use super::layout::*;
use super::tables;
use crate::model::{Checked, DiskFacts, Identity, Reason};
use crate::reason;
use kernel::prelude::*;

/// Sectors from the end that are read of every disk.
const TAIL_SECTORS: u64 = 264;
/// Sectors from the end that are read when the tail hints at a displaced anchor.
const WIDE_TAIL_SECTORS: u64 = 2048;
/// Where Adaptec keeps the anchor, in sectors from the end.
const ADAPTEC_SECTORS: u64 = 257;

/// Which copy of the metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The primary one.
    Primary = 0,
    /// The secondary one.
    Secondary = 1,
}

impl Which {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Which::Primary => Which::Secondary,
            Which::Secondary => Which::Primary,
        }
    }
}

/// One copy of the metadata on one disk.
#[derive(Debug)]
pub struct CopyView<'a> {
    /// Its header.
    pub head: Header,
    /// Its section layout.
    pub layout: Layout,
    /// Header and sections.
    pub bytes: &'a [u8],
    /// The checksums of the tables and of the disk data are right.
    pub intact: bool,
}

impl CopyView<'_> {
    /// The bytes of a section; empty when absent.
    pub fn section(&self, section: Section) -> &[u8] {
        self.layout.section(self.bytes, section).unwrap_or(&[])
    }

    /// Reference of the disk that this copy is on.
    pub fn reference(&self) -> u32 {
        tables::disk_data::reference(self.section(Section::Data), self.layout.endian)
    }
}

/// What was found on a disk.
#[derive(Debug)]
pub struct Found<'a> {
    /// The disk.
    pub facts: DiskFacts,
    /// Block of the anchor.
    pub anchor: u64,
    /// The anchor's bytes.
    pub anchor_bytes: &'a [u8],
    /// The copies that can be used, by [`Which`].
    pub copies: [Option<CopyView<'a>>; 2],
    /// The better one of them.
    pub chosen: Which,
    /// EMD's own records (`vendor_log`), when there is a place for them and it can be read.
    pub vendor: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    /// One of the copies.
    pub fn copy(&self, which: Which) -> Option<&CopyView<'a>> {
        self.copies.get(which as usize)?.as_ref()
    }

    /// The better copy.
    pub fn best(&self) -> Option<&CopyView<'a>> {
        self.copy(self.chosen)
    }

    /// Generation of the better copy. An open header has the number of the state that is being
    /// changed, so it ranks behind closed ones of that number and before all older ones.
    pub fn generation(&self) -> u32 {
        self.best().map_or(0, |copy| copy.head.sequence)
    }

    /// The copy that holds exactly generation `generation`, closed and intact.
    pub fn with_generation(&self, generation: u32) -> Option<Which> {
        [self.chosen, self.chosen.other()]
            .into_iter()
            .find(|&which| {
                self.copy(which).is_some_and(|copy| {
                    copy.intact && !copy.head.open && copy.head.sequence == generation
                })
            })
    }
}

/// Result of looking at a disk.
#[derive(Debug)]
// Lives on the stack for a moment; a box would need memory.
#[allow(clippy::large_enum_variant)]
pub enum Exam<'a> {
    /// More has to be read.
    Read(Region),
    /// No DDF here.
    NotMine,
    /// DDF, but unusable.
    Damaged(Reason),
    /// Usable.
    Found(Found<'a>),
}

/// A step of looking: bytes, or a reason to stop.
enum Step<T> {
    Read(Region),
    Got(T),
}

/// The bytes of a region: asks for them the first time, `None` when the disk cannot read them.
fn read(image: &DiskImage, sector: u64, sectors: u64) -> Step<Option<&[u8]>> {
    let Ok(len_sectors) = u32::try_from(sectors) else {
        return Step::Got(None);
    };
    let region = Region {
        sector,
        len_sectors,
    };
    let mut tried = false;
    for extent in image.extents.iter() {
        tried |= extent.region == region;
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

/// The group's identity: its GUID, without the part that Adaptec leaves unset.
pub fn identity(guid: &Guid) -> Identity {
    match guid.get(20..) {
        Some([0xFF, 0xFF, 0xFF, 0xFF]) => Identity::new(guid.get(..20).unwrap_or(guid)),
        _ => Identity::new(guid),
    }
}

/// Whole blocks in `sectors`.
fn whole(sectors: u64, block_sectors: u64) -> u64 {
    sectors.checked_div(block_sectors).unwrap_or(0)
}

/// [`crate::metadata::Format::probe`].
pub fn probe(image: &DiskImage) -> Probe {
    match examine(image) {
        Exam::Read(region) => Probe::Read(region),
        Exam::NotMine => Probe::NotMine,
        Exam::Damaged(reason) => Probe::Damaged(reason),
        Exam::Found(found) => match found.best() {
            Some(copy) => Probe::Found {
                set: identity(&copy.head.guid),
                generation: u64::from(found.generation()),
            },
            None => Probe::NotMine,
        },
    }
}

/// Looks at what has been read of a disk.
pub fn examine(image: &DiskImage) -> Exam<'_> {
    let block_bytes = image.facts.logical_block_bytes;
    if block_bytes != 512 && block_bytes != 4096 {
        return Exam::NotMine;
    }
    let block_sectors = u64::from(block_bytes / 512);
    let end = whole(image.facts.size_sectors, block_sectors).saturating_mul(block_sectors);
    if end < TAIL_SECTORS {
        return Exam::NotMine;
    }
    let (anchor, bytes) = match find_anchor(image, end, block_sectors) {
        Step::Read(region) => return Exam::Read(region),
        Step::Got(None) => return Exam::NotMine,
        Step::Got(Some(found)) => found,
    };
    let head = match Header::decode(bytes, Kind::Anchor) {
        Ok(head) => head,
        Err(reason) => return Exam::Damaged(reason),
    };
    read_copies(image, anchor, bytes, &head, whole(end, block_sectors))
}

/// Finds the anchor: its block and bytes. One with a wrong checksum counts in the last block only,
/// and only when there is no other.
#[inline(never)]
fn find_anchor(image: &DiskImage, end: u64, block_sectors: u64) -> Step<Option<(u64, &[u8])>> {
    let start = end - TAIL_SECTORS;
    let tail = match read(image, start, TAIL_SECTORS) {
        Step::Read(region) => return Step::Read(region),
        Step::Got(tail) => tail,
    };
    let Some(tail) = tail else {
        // Some sector of the tail is bad: the last block alone may be readable.
        return match read(image, end - block_sectors, block_sectors) {
            Step::Read(region) => Step::Read(region),
            Step::Got(bytes) => Step::Got(
                bytes
                    .filter(|bytes| signature_endian(bytes).is_some())
                    .map(|bytes| (whole(end, block_sectors).saturating_sub(1), bytes)),
            ),
        };
    };
    if let Some(found) = scan(tail, start, end, block_sectors) {
        return Step::Got(Some(found));
    }
    let block = ((block_sectors as usize) * 512).max(512);
    if end >= WIDE_TAIL_SECTORS && tail.chunks_exact(block).any(hints_at_ddf) {
        let start = end - WIDE_TAIL_SECTORS;
        match read(image, start, WIDE_TAIL_SECTORS) {
            Step::Read(region) => return Step::Read(region),
            Step::Got(Some(wide)) => {
                if let Some(found) = scan(wide, start, end, block_sectors) {
                    return Step::Got(Some(found));
                }
            }
            Step::Got(None) => {}
        }
    }
    let last = tail.get(tail.len().saturating_sub(block)..).unwrap_or(&[]);
    let found = signature_endian(last).map(|_| (whole(end, block_sectors).saturating_sub(1), last));
    Step::Got(found)
}

/// Whether a block starts like a section of DDF.
fn hints_at_ddf(block: &[u8]) -> bool {
    let Some(raw) = array::<4>(block, 0) else {
        return false;
    };
    let one = |value| {
        matches!(
            value,
            signature::HEADER
                | signature::CONTROLLER
                | signature::VOLUMES
                | signature::CONFIG
                | signature::BAD_BLOCKS
        )
    };
    one(u32::from_be_bytes(raw)) || one(u32::from_le_bytes(raw))
}

/// Looks for a sound anchor: last block, Adaptec's place, then any block from the end.
#[inline(never)]
fn scan(tail: &[u8], start: u64, end: u64, block_sectors: u64) -> Option<(u64, &[u8])> {
    let block = (block_sectors as usize) * 512;
    let at = |sector: u64| {
        let first = usize::try_from(sector.checked_sub(start)?)
            .ok()?
            .checked_mul(512)?;
        let bytes = super::super::bytes::slice(tail, first, block)?;
        sound_anchor(
            bytes,
            whole(sector, block_sectors),
            whole(end, block_sectors),
        )
        .then_some((whole(sector, block_sectors), bytes))
    };
    if let Some(found) = at(end - block_sectors) {
        return Some(found);
    }
    if block_sectors == 1 {
        if let Some(found) = end.checked_sub(ADAPTEC_SECTORS).and_then(at) {
            return Some(found);
        }
    }
    let blocks = whole(end - start, block_sectors);
    (1..=blocks)
        .filter_map(|back| at(end - back * block_sectors))
        // A primary or secondary header is not an anchor, wherever it lies.
        .find(|(_, bytes)| get8(bytes, header::KIND) == Kind::Anchor.code())
}

fn sound_anchor(bytes: &[u8], block: u64, blocks: u64) -> bool {
    if signature_endian(bytes).is_none() {
        return false;
    }
    // Marvell anchors carry the type of a primary header.
    Header::decode(bytes, Kind::Anchor)
        .is_ok_and(|head| head.kind <= 1 && head.primary < blocks && head.primary != block)
}

/// Reads both copies that the anchor names.
#[inline(never)]
fn read_copies<'a>(
    image: &'a DiskImage,
    anchor: u64,
    anchor_bytes: &'a [u8],
    head: &Header,
    blocks: u64,
) -> Exam<'a> {
    let mut copies = [None, None];
    let mut first_reason = None;
    for (kind, slot) in [Kind::Primary, Kind::Secondary]
        .into_iter()
        .zip(copies.iter_mut())
    {
        let at = match kind {
            Kind::Secondary => match head.secondary {
                Some(block) => block,
                None => continue,
            },
            _ => head.primary,
        };
        match read_copy(image, head, kind, at, blocks) {
            Step::Read(region) => return Exam::Read(region),
            Step::Got(Ok(copy)) => *slot = Some(copy),
            Step::Got(Err(reason)) => {
                first_reason.get_or_insert(reason);
            }
        }
    }
    let chosen = match choose(&copies) {
        Some(which) => which,
        None => {
            return Exam::Damaged(first_reason.unwrap_or_else(|| {
                reason!(EINVAL, "the DDF anchor names no copy of the metadata")
            }))
        }
    };
    let mut found = Found {
        facts: image.facts,
        anchor,
        anchor_bytes,
        copies,
        chosen,
        vendor: None,
    };
    if let Some(room) = super::log_place::room_on(&found) {
        let block_bytes = image.facts.logical_block_bytes;
        let block_sectors = u64::from(block_bytes / 512);
        let len = u64::from(super::vendor_log::Plan::new(block_bytes).blocks());
        if room.first.saturating_add(len) <= blocks {
            match read(image, room.first * block_sectors, len * block_sectors) {
                Step::Read(region) => return Exam::Read(region),
                Step::Got(bytes) => found.vendor = bytes,
            }
        }
    }
    Exam::Found(found)
}

/// Chooses the better of two copies (`docs/formats/ddf.md`, "choosing the freshest copy").
fn choose(copies: &[Option<CopyView<'_>>; 2]) -> Option<Which> {
    let [primary, secondary] = copies;
    let (primary, secondary) = match (primary, secondary) {
        (None, None) => return None,
        (Some(_), None) => return Some(Which::Primary),
        (None, Some(_)) => return Some(Which::Secondary),
        (Some(primary), Some(secondary)) => (primary, secondary),
    };
    let newer = secondary.head.sequence > primary.head.sequence;
    let which = if !secondary.head.open && (primary.head.open || newer) {
        Which::Secondary
    } else {
        Which::Primary
    };
    // A wrong table checksum means: take the other copy.
    Some(match which {
        Which::Primary if !primary.intact && secondary.intact => Which::Secondary,
        Which::Secondary if !secondary.intact && primary.intact => Which::Primary,
        which => which,
    })
}

/// Reads and checks one copy.
#[inline(never)]
fn read_copy<'a>(
    image: &'a DiskImage,
    anchor: &Header,
    kind: Kind,
    block: u64,
    blocks: u64,
) -> Step<Checked<CopyView<'a>>> {
    if block >= blocks {
        return Step::Got(Err(reason!(
            EINVAL,
            "the DDF anchor places the {} at block {block}, beyond the disk's {blocks}",
            kind.name()
        )));
    }
    let block_bytes = image.facts.logical_block_bytes;
    let block_sectors = u64::from(block_bytes / 512);
    let bytes = match read(image, block * block_sectors, block_sectors) {
        Step::Read(region) => return Step::Read(region),
        Step::Got(None) => return Step::Got(Err(unreadable(kind))),
        Step::Got(Some(bytes)) => bytes,
    };
    let (head, layout) = match check_header(bytes, anchor, kind, block_bytes) {
        Ok(checked) => checked,
        Err(reason) => return Step::Got(Err(reason)),
    };
    let span = u64::from(layout.span_blocks());
    if block + span > blocks {
        return Step::Got(Err(reason!(
            EINVAL,
            "the sections of the DDF {} reach beyond the disk",
            kind.name()
        )));
    }
    let bytes = match read(image, block * block_sectors, span * block_sectors) {
        Step::Read(region) => return Step::Read(region),
        Step::Got(None) => return Step::Got(Err(unreadable(kind))),
        Step::Got(Some(bytes)) => bytes,
    };
    Step::Got(check_sections(bytes, &layout, kind).map(|intact| CopyView {
        head,
        layout,
        bytes,
        intact,
    }))
}

fn unreadable(kind: Kind) -> Reason {
    reason!(EIO, "the DDF {} cannot be read", kind.name())
}

/// Checks a header against the anchor.
#[inline(never)]
fn check_header(
    bytes: &[u8],
    anchor: &Header,
    kind: Kind,
    block_bytes: u32,
) -> Checked<(Header, Layout)> {
    let head = Header::decode(bytes, kind)?;
    // Marvell's differ after the vendor part.
    if head.guid.get(..8) != anchor.guid.get(..8) || head.endian != anchor.endian {
        return Err(reason!(
            EINVAL,
            "the DDF {} is of another group than the anchor",
            kind.name()
        ));
    }
    if head.crc != super::crc::Crc::Jam && !guid_same(&head.guid, &anchor.guid) {
        return Err(reason!(
            EINVAL,
            "the DDF {} is of another group than the anchor",
            kind.name()
        ));
    }
    if head.primary != anchor.primary || head.secondary != anchor.secondary {
        return Err(reason!(
            EINVAL,
            "the DDF {} contradicts the anchor's places",
            kind.name()
        ));
    }
    if head.kind != kind.code() {
        return Err(reason!(
            EINVAL,
            "the DDF {} carries type {}",
            kind.name(),
            head.kind
        ));
    }
    let layout = layout_of(bytes, &head, block_bytes)?;
    Ok((head, layout))
}

/// Signatures must be right; says whether the checksums are, too.
#[inline(never)]
fn check_sections(bytes: &[u8], layout: &Layout, kind: Kind) -> Checked<bool> {
    let endian = layout.endian;
    let mut intact = true;
    for section in [Section::Disks, Section::Volumes, Section::Data] {
        let content = layout.section(bytes, section).unwrap_or(&[]);
        let found = get32(endian, content, 0);
        let right = match section {
            // mdadm of 2010 wrote the signature of the disk data.
            Section::Disks => found == signature::DISKS || found == signature::DISK_DATA,
            Section::Volumes => found == signature::VOLUMES,
            _ => found == signature::DISK_DATA,
        };
        if !right {
            return Err(reason!(
                EINVAL,
                "the {} behind the DDF {} has signature {found:08x}",
                section.name(),
                kind.name()
            ));
        }
        intact &= layout.crc.holds(content, endian);
    }
    let config = layout.section(bytes, Section::Config).unwrap_or(&[]);
    if all_are(config, 0) && !super::is_adaptec(layout.section(bytes, Section::Controller), endian)
    {
        // Zeroed, as after a partial wipe: nothing says what was here.
        intact = false;
    }
    Ok(intact)
}
