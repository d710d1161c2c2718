// SPDX-License-Identifier: GPL-2.0

//! Is there a superblock of this version, and is it this disk's?
//!
//! What could be taken for another's:
//!
//! * 1.x says where it is, so that of a partition is not taken for the whole disk's.
//! * 0.90 does not: of a last partition that ends where the disk ends (to 64 KiB) it is at the same
//!   place as the disk's own. It is left to the partition when the disk's partition table says so.
//! * Two versions on one disk: the array that was created later counts, as for mdadm.

use super::super::{ppl, DiskImage, Probe, Region};
use super::bitmap;
use super::head::{decode, Found, Head, Stretch};
use super::layout::*;
use crate::model::{Checked, DiskFacts, Identity};
use crate::reason;
use kernel::prelude::*;

/// What is known of a disk.
#[allow(clippy::large_enum_variant)]
pub enum Exam<'a> {
    /// More has to be read.
    Read(Region),
    /// No superblock of this version.
    NotMine,
    /// One that cannot be used.
    Damaged(crate::model::Reason),
    /// One.
    Found(View<'a>),
}

/// A disk with a superblock.
pub struct View<'a> {
    /// The disk.
    pub facts: DiskFacts,
    /// Its superblock.
    pub head: Head,
    /// The bytes of it, with what is behind it in its room.
    pub bytes: &'a [u8],
    /// They are those of the copy: the superblock itself was torn.
    pub torn: bool,
    /// The bitmap; why there is none although there should be.
    pub bitmap: Option<Checked<(bitmap::Head, &'a [u8])>>,
    /// The bad-block log, when it has entries; why it cannot be used.
    pub log: Option<Checked<&'a [u8]>>,
}

/// The identity of a set.
pub fn identity(uuid: &[u8; 16]) -> Identity {
    Identity::new(uuid)
}

/// Sectors of a logical block.
pub fn block_sectors(facts: &DiskFacts) -> u32 {
    (facts.logical_block_bytes / 512).clamp(1, 8)
}

/// [`crate::metadata::Format::probe`].
pub fn probe(version: Version, disk: &DiskImage) -> Probe {
    match examine(version, disk) {
        Exam::Read(region) => Probe::Read(region),
        Exam::NotMine => Probe::NotMine,
        Exam::Damaged(reason) => Probe::Damaged(reason),
        Exam::Found(view) => Probe::Found {
            set: identity(&view.head.uuid),
            generation: view.head.events,
        },
    }
}

/// A superblock's room of a version: its region, when the disk is large enough.
fn place(version: Version, facts: &DiskFacts) -> Option<Region> {
    Some(Region {
        sector: version.sector(facts.size_sectors)?,
        len_sectors: SUPER_SECTORS,
    })
}

/// Bytes of a region: read them first, unreadable, or there.
macro_rules! read {
    ($disk:expr, $region:expr) => {
        match $disk.bytes($region.sector, $region.len_sectors) {
            None => return Exam::Read($region),
            Some(bytes) => bytes,
        }
    };
}

/// Looks at what was read of a disk.
#[inline(never)]
pub fn examine(version: Version, disk: &DiskImage) -> Exam<'_> {
    let facts = disk.facts;
    if !matches!(facts.logical_block_bytes, 512 | 4096) {
        return Exam::NotMine;
    }
    let Some(region) = place(version, &facts) else {
        return Exam::NotMine;
    };
    let Some(bytes) = read!(disk, region) else {
        return Exam::NotMine;
    };
    let mut bytes = bytes;
    let mut torn = false;
    let head = match decode(version, region.sector, bytes, &facts) {
        Found::Nothing => return Exam::NotMine,
        Found::Damaged(why) => {
            let Some(place) = safety_place(version, bytes, &facts) else {
                return Exam::Damaged(why);
            };
            let copy = read!(disk, place).unwrap_or(&[]);
            let Some(head) = safety_head(region.sector, bytes, copy, &facts) else {
                return Exam::Damaged(why);
            };
            (bytes, torn) = (copy, true);
            head
        }
        Found::Head(head) => head,
    };
    for other in Version::ALL {
        let Some(region) = place(other, &facts).filter(|_| other != version) else {
            continue;
        };
        let Some(bytes) = read!(disk, region) else {
            continue;
        };
        if let Found::Head(rival) = decode(other, region.sector, bytes, &facts) {
            if rival.ctime > head.ctime {
                return Exam::NotMine;
            }
        }
    }
    if version == Version::V090 {
        match partitioned(disk, head.sector) {
            Exam::Damaged(_) => return Exam::NotMine,
            Exam::Read(region) => return Exam::Read(region),
            _ => {}
        }
    }
    let mut view = View {
        facts,
        head,
        bytes,
        torn,
        bitmap: None,
        log: None,
    };
    if let Some(region) = read_bitmap(disk, &mut view) {
        return Exam::Read(region);
    }
    if let Some(region) = read_log(disk, &mut view) {
        return Exam::Read(region);
    }
    Exam::Found(view)
}

/// Where a copy of a superblock is that a cut may tear: those of 0.90 change in several sectors, and have
/// room behind them that is the bitmap's where there is one. EMD's own: md and mdadm do not look there.
pub fn safety_place(version: Version, bytes: &[u8], facts: &DiskFacts) -> Option<Region> {
    let has_bitmap = get32(bytes, v0::STATE) & v0::BITMAP_PRESENT != 0;
    let sector = version
        .sector(facts.size_sectors)?
        .checked_add(u64::from(SUPER_SECTORS))?;
    let end = sector.checked_add(u64::from(SUPER_SECTORS))?;
    let usable = version == Version::V090 && !has_bitmap && end <= facts.size_sectors;
    usable.then_some(Region {
        sector,
        len_sectors: SUPER_SECTORS,
    })
}

/// What `copy` says, when it is what a cut kept from getting into the superblock `torn` at `sector`: of the
/// same array, and so little newer that it is one of the last update's. (The first sector has array and
/// count, and is not torn in itself.)
fn safety_head(sector: u64, torn: &[u8], copy: &[u8], facts: &DiskFacts) -> Option<Head> {
    let Found::Head(head) = decode(Version::V090, sector, copy, facts) else {
        return None;
    };
    let same = |at: usize, len: usize| {
        let of = |bytes| super::super::bytes::slice(bytes, at, len);
        of(torn).is_some() && of(torn) == of(copy)
    };
    let newer = head.events.checked_sub(get64(torn, v0::EVENTS))?;
    let is_of_it = same(v0::UUID, 4) && same(v0::UUID_REST, 12) && same(v0::CTIME, 4);
    (is_of_it && newer <= 3).then_some(head)
}

/// Whether a partition of the disk has its 0.90 superblock at `sector`: `Damaged` when so.
#[inline(never)]
fn partitioned(disk: &DiskImage, sector: u64) -> Exam<'_> {
    let facts = disk.facts;
    let block = u64::from(block_sectors(&facts));
    let start = Region {
        sector: 0,
        len_sectors: 8,
    };
    let Some(bytes) = read!(disk, start) else {
        return Exam::NotMine;
    };
    let meets = |first: u64, sectors: u64| {
        let end = first.checked_add(sectors);
        first > 0
            && end.is_some_and(|end| end <= facts.size_sectors)
            && Version::V090.sector(sectors).map(|at| at + first) == Some(sector)
    };
    let theirs = || Exam::Damaged(reason!(EINVAL, "the superblock is a partition's"));
    if bytes.get(510..512) == Some(&[0x55, 0xAA]) {
        for entry in 0..4 {
            let at = 446 + 16 * entry;
            let first = u64::from(get32(bytes, at + 8)).saturating_mul(block);
            let sectors = u64::from(get32(bytes, at + 12)).saturating_mul(block);
            if bytes.get(at + 4).is_some_and(|&kind| kind != 0) && meets(first, sectors) {
                return theirs();
            }
        }
    }
    // A GPT: header in the second block, 128 entries of 128 bytes behind it as a rule.
    let header = bytes.get(block as usize * 512..);
    // With blocks of 4 KiB the header is not among the first eight sectors.
    let header = match header {
        Some(header) if !header.is_empty() => header,
        _ => {
            let second = Region {
                sector: block,
                len_sectors: 8,
            };
            match read!(disk, second) {
                Some(header) => header,
                None => return Exam::NotMine,
            }
        }
    };
    if header.get(..8) != Some(b"EFI PART") {
        return Exam::NotMine;
    }
    let table = Region {
        sector: get64(header, 72).saturating_mul(block),
        len_sectors: 32,
    };
    let inside = table.sector.checked_add(32);
    if get32(header, 84) != 128 || inside.is_none_or(|end| end > facts.size_sectors) {
        return Exam::NotMine;
    }
    let Some(entries) = read!(disk, table) else {
        return Exam::NotMine;
    };
    for entry in entries.chunks_exact(128) {
        let first = get64(entry, 32);
        let sectors = get64(entry, 40).wrapping_sub(first).wrapping_add(1);
        if get64(entry, 0) != 0 && meets(first.saturating_mul(block), sectors.saturating_mul(block))
        {
            return theirs();
        }
    }
    Exam::NotMine
}

/// Whether something of the format's own may be in `stretch`: on the disk, apart from superblock and
/// data, in whole blocks.
fn own_place(view: &View<'_>, stretch: Stretch) -> bool {
    let head = &view.head;
    let Some(end) = stretch.sector.checked_add(u64::from(stretch.sectors)) else {
        return false;
    };
    let unit = u64::from(block_sectors(&view.facts));
    let used = super::render::used_sectors(head, view.facts.logical_block_bytes);
    let apart = |first: u64, last: u64| end <= first || stretch.sector >= last;
    end <= view.facts.size_sectors
        && stretch.sector % unit == 0
        && u64::from(stretch.sectors) % unit == 0
        && stretch.sectors > 0
        && apart(head.sector, head.sector + u64::from(used))
        && apart(head.data_offset, head.data_end())
}

fn misplaced(what: &str) -> crate::model::Reason {
    reason!(
        EINVAL,
        "its md {what} would be where something else is, or beyond the disk"
    )
}

/// Takes the bitmap in; says what has to be read first.
#[inline(never)]
fn read_bitmap<'a>(disk: &'a DiskImage, view: &mut View<'a>) -> Option<Region> {
    let head = view.head;
    if head.features & feature::BITMAP == 0 {
        return None;
    }
    let found = |result: Checked<(bitmap::Head, &'a [u8])>| Some(result);
    let Some(sector) = head.bitmap else {
        view.bitmap = found(Err(misplaced("bitmap")));
        return None;
    };
    let unit = block_sectors(&view.facts);
    // Its superblock first: it says how long the rest is.
    let mut stretch = Stretch {
        sector,
        sectors: unit,
    };
    let mut known: Option<bitmap::Head> = None;
    loop {
        if !own_place(view, stretch) {
            view.bitmap = found(Err(misplaced("bitmap")));
            return None;
        }
        let bytes = match disk.bytes(stretch.sector, stretch.sectors) {
            None => {
                return Some(Region {
                    sector: stretch.sector,
                    len_sectors: stretch.sectors,
                })
            }
            Some(None) => {
                view.bitmap = found(Err(reason!(EIO, "its md bitmap cannot be read")));
                return None;
            }
            Some(Some(bytes)) => bytes,
        };
        if let Some(known) = known {
            view.bitmap = found(Ok((known, bytes)));
            return None;
        }
        let decoded = bitmap::decode(bytes, &head.uuid)
            .and_then(|bits| Ok((bits, regions_of(&head, &bits)?)));
        match decoded {
            Ok((bits, regions)) => {
                known = Some(bits);
                stretch.sectors = bitmap::sectors(regions, unit);
            }
            Err(why) => {
                view.bitmap = found(Err(why));
                return None;
            }
        }
    }
}

/// Regions of a bitmap over the array that `head` describes.
pub fn regions_of(head: &Head, bits: &bitmap::Head) -> Checked<u32> {
    let shape = super::words::shape_of(head, head.data_size)?;
    let size = super::words::capacity_sectors(&shape);
    bitmap::regions(bits.region_sectors, shape.sync_sectors(size))
}

/// Takes the bad-block log in; says what has to be read first.
#[inline(never)]
fn read_log<'a>(disk: &'a DiskImage, view: &mut View<'a>) -> Option<Region> {
    if view.head.features & feature::BAD_BLOCKS == 0 {
        return None;
    }
    let usable = view
        .head
        .log
        .filter(|&log| log.sectors <= super::badblocks::SECTORS_MAX && own_place(view, log));
    let Some(log) = usable else {
        view.log = Some(Err(misplaced("bad-block log")));
        return None;
    };
    match disk.bytes(log.sector, log.sectors) {
        None => Some(Region {
            sector: log.sector,
            len_sectors: log.sectors,
        }),
        Some(bytes) => {
            let why = || reason!(EIO, "its bad-block log cannot be read");
            view.log = Some(bytes.ok_or_else(why));
            None
        }
    }
}

/// The stretch of a disk's bad-block log, when there is one that may be written.
pub fn log_place(view: &View<'_>) -> Option<Stretch> {
    view.head
        .log
        .filter(|&log| log.sectors <= super::badblocks::SECTORS_MAX && own_place(view, log))
}

/// Where a disk has its bitmap of `regions`, when it may be there.
pub fn bitmap_place(view: &View<'_>, regions: u32) -> Option<u64> {
    let sectors = bitmap::sectors(regions, block_sectors(&view.facts));
    view.head
        .bitmap
        .filter(|&sector| own_place(view, Stretch { sector, sectors }))
}

/// The stretch of a disk's partial parity log, when it may be there. Where `newest` has one and the disk's own superblock does
/// not, an update that put it on was cut, or the disk is a spare that it did not reach.
pub fn left_log_place(view: &View<'_>, newest: &Head) -> Option<Stretch> {
    view.head
        .ppl
        .or_else(|| super::left_log::as_in(newest, view.head.sector))
        .filter(|&log| log.sectors >= ppl::AREA_SECTORS_MIN && own_place(view, log))
}
