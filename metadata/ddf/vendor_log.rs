// SPDX-License-Identifier: GPL-2.0

//! EMD's own records in the vendor-specific log section: what DDF has no place for. Where everything is
//! and what a block of it looks like; `log_read` reads them, `log_events` keeps them up to date.
//!
//! Sets that EMD or mdadm made have them (the group GUID says who made a set), once on a disk; redundancy is that
//! all disks have them. Where, `log_place` says, and why others leave them alone.
//!
//! | block | content |
//! |---|---|
//! | 0 | head: whose disk this is, and for which states of the set the rest counts |
//! | then | bad ranges, 16 bytes each |
//! | then | slots: per volume one block of marks, then its region log |
//! | last | rings of the log of partial parity: not blocks of this kind, see `hole` |
//!
//! Every block has a checksum of its own and is replaced as one, so a crash leaves it old or new. Blocks
//! behind the head are the same on every disk that has them; the highest generation counts.

use super::super::bytes::{slice, slice_mut};
use super::layout::*;
use crate::model::{Checked, RegionLog, Scrub, Shape, BAD_RANGES_MAX};
use kernel::prelude::*;

/// Signature of the head: DDF's of a vendor log.
const HEAD: u32 = 0x01DB_EEF0;
/// Signature of all other blocks: "EMDR".
const BODY: u32 = 0x454D_4452;
/// Version of this layout.
const VERSION: u32 = 1;
/// Bytes of a block in front of what it holds.
const BODY_HEAD: usize = 64;
/// Most regions of a volume.
pub const REGIONS_MAX: u64 = 8192;
/// Least length of a region of a new volume: 4 MiB.
pub const REGION_SECTORS_MIN: u64 = 8192;
/// Bytes at the end of a block of marks that say which check or repair has not ended.
const SCRUB_BYTES: usize = 24;
/// A mark that is none.
pub const NO_MARK: u64 = u64::MAX;

/// Fields of the head.
mod head {
    /// Whose log it is, 8 bytes: EMD's T10 vendor id.
    pub const OWNER: usize = 0x08;
    /// [`VERSION`], 4 bytes.
    pub const VERSION: usize = 0x10;
    /// Blocks that have a checksum, the head among them, 4 bytes.
    pub const BLOCKS: usize = 0x14;
    /// GUID of the set's header, 24 bytes.
    pub const SET: usize = 0x18;
    /// Reference of the disk, 4 bytes.
    pub const REFERENCE: usize = 0x30;
    /// States of the set for which the rest counts.
    pub const TOKENS: usize = 0x38;
    /// Length of one.
    pub const TOKEN_BYTES: usize = 16;
}

/// Fields of every other block.
mod body {
    /// Rises with each change, 8 bytes.
    pub const GENERATION: usize = 0x08;
    /// GUID of the volume, 24 bytes.
    pub const VOLUME: usize = 0x10;
    /// [`Kind`], 1 byte.
    pub const KIND: usize = 0x28;
    /// Number of the block, 4 bytes.
    pub const INDEX: usize = 0x2C;
    /// Length of a region, 8 bytes (marks).
    pub const REGION_SECTORS: usize = 0x30;
    /// Regions, 4 bytes (marks).
    pub const REGIONS: usize = 0x38;
}

/// Fields of the last [`SCRUB_BYTES`] of a block of marks. The rest of them is FF.
mod scrub {
    /// What it is; all other values: none.
    pub const KIND: usize = 0;
    /// A check.
    pub const CHECK: u32 = 1;
    /// A repair.
    pub const REPAIR: u32 = 2;
    /// How far it got, in sectors.
    pub const DONE: usize = 8;
}

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bad ranges.
    BadRanges = 1,
    /// Marks of a volume.
    Marks = 2,
    /// Part of a volume's region log.
    Regions = 3,
}

/// A state of the set, told from all others that anybody may write: counter and time of the headers,
/// checksums of both tables.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Token(pub [u32; 4]);

impl Token {
    /// Whether the counter of its headers is lower than that of `other`.
    pub fn is_before(&self, other: &Self) -> bool {
        let ([mine, ..], [theirs, ..]) = (self.0, other.0);
        mine < theirs
    }
}

/// Where things are in the section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks of bad ranges.
    pub bad_blocks: u32,
    /// Slots for volumes.
    pub slots: u16,
    /// Blocks of a volume's region log.
    pub region_blocks: u32,
}

impl Plan {
    /// The plan for disks with blocks of `block_bytes` (512 or 4096).
    pub fn new(block_bytes: u32) -> Self {
        let room = block_bytes.saturating_sub(BODY_HEAD as u32);
        // In some block there is always room for the three ranges that one event may add.
        let each = (room / BAD_BYTES as u32).saturating_sub(2);
        let most = BAD_RANGES_MAX as u32;
        let last_region = (REGIONS_MAX as u32) - 1;
        let bits = room.saturating_mul(8);
        Self {
            block_bytes,
            bad_blocks: most.checked_div(each).unwrap_or(most) + 1,
            slots: if block_bytes > 512 { 32 } else { 64 },
            region_blocks: last_region.checked_div(bits).unwrap_or(last_region) + 1,
        }
    }

    /// Blocks of the section.
    pub fn blocks(&self) -> u32 {
        self.marks(self.slots)
    }

    /// Block of bad ranges number `n`.
    pub fn bad(&self, n: u32) -> u32 {
        n.saturating_add(1)
    }

    /// Block of the marks of slot `slot`.
    pub fn marks(&self, slot: u16) -> u32 {
        let first = 1 + self.bad_blocks;
        first + u32::from(slot) * (1 + self.region_blocks)
    }

    /// Block `n` of the region log of slot `slot`.
    pub fn region(&self, slot: u16, n: u32) -> u32 {
        self.marks(slot) + 1 + n
    }

    /// All blocks of slot `slot`.
    pub fn slot_blocks(&self, slot: u16) -> core::ops::Range<u32> {
        self.marks(slot)..self.marks(slot) + 1 + self.region_blocks
    }

    /// Bytes that a block holds.
    pub fn room(&self) -> usize {
        (self.block_bytes as usize).saturating_sub(BODY_HEAD)
    }

    /// Regions whose bits one block holds.
    pub fn regions_per_block(&self) -> u32 {
        u32::try_from(self.room() * 8).unwrap_or(u32::MAX).max(1)
    }

    /// Bad ranges that one block holds.
    pub fn bad_per_block(&self) -> usize {
        self.room() / BAD_BYTES
    }
}

/// Bytes of a bad range: reference of the disk, sectors, first sector.
pub const BAD_BYTES: usize = 16;

/// Bytes of a rebuild's mark: reference of the disk, mark.
const REBUILD_BYTES: usize = 12;

/// The records of a set in memory: the blocks as they belong on every disk, but for the head.
#[derive(Debug)]
pub struct VendorLog {
    /// Where things are.
    pub plan: Plan,
    /// All blocks; the head's is not used.
    pub image: KVVec<u8>,
    /// Highest generation of any block.
    pub generation: u64,
    /// Blocks of the next update that must be written after everything else, as a bit map.
    pub late: KVec<u64>,
}

/// The section on one disk.
#[derive(Debug)]
pub struct DiskLog {
    /// First block of the section.
    pub block: u64,
    /// The head.
    pub head: KVVec<u8>,
    /// The head on the disk is of this set and disk.
    pub own: bool,
    /// The head on the disk lets the rest count for the set's present state.
    pub valid: bool,
    /// What was read of it counts: it is valid, or was for the state that the present one was made from, and the disk
    /// has no other (an update was cut).
    pub counts: bool,
    /// Blocks that the disk lacks, as a bit map.
    pub pending: KVec<u64>,
    /// First sector of the rings of the log of partial parity, when there are any (`hole`).
    pub rings: Option<u64>,
}

impl DiskLog {
    /// A section of `blocks` from `block` on, of which nothing is known to be on the disk. Allocates.
    pub fn new(plan: &Plan, block: u64, blocks: u32) -> Checked<Self> {
        let mut this = Self {
            block,
            head: KVVec::from_elem(0xFF, plan.block_bytes as usize, GFP_KERNEL)?,
            own: false,
            valid: false,
            counts: false,
            pending: bit_map(plan)?,
            rings: super::hole::rings_sector(plan, block, blocks),
        };
        this.lacks_all(plan);
        Ok(this)
    }

    /// Notes that the disk lacks all blocks.
    pub fn lacks_all(&mut self, plan: &Plan) {
        for block in 1..plan.blocks() {
            set_bit(&mut self.pending, block);
        }
    }
}

/// An empty bit map of a section's blocks.
pub fn bit_map(plan: &Plan) -> Checked<KVec<u64>> {
    let words = (plan.blocks() as usize).div_ceil(64);
    Ok(KVec::from_elem(0, words, GFP_KERNEL)?)
}

/// Sets a bit; nothing happens beyond the end.
pub fn set_bit(map: &mut [u64], bit: u32) {
    if let Some(word) = map.get_mut(bit as usize / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// Whether a bit is set.
pub fn has_bit(map: &[u64], bit: u32) -> bool {
    map.get(bit as usize / 64)
        .is_some_and(|word| (word >> (bit % 64)) & 1 == 1)
}

/// Writes a head.
pub fn format_head(
    bytes: &mut [u8],
    layout: &Layout,
    set: &Guid,
    reference: u32,
    tokens: [Token; 2],
) {
    let endian = layout.endian;
    bytes.fill(0xFF);
    put32(endian, bytes, 0, HEAD);
    let _ = super::super::bytes::put(bytes, head::OWNER, super::create::VENDOR);
    put32(endian, bytes, head::VERSION, VERSION);
    let blocks = Plan::new(layout.block_bytes).blocks();
    put32(endian, bytes, head::BLOCKS, blocks);
    let _ = super::super::bytes::put(bytes, head::SET, set);
    put32(endian, bytes, head::REFERENCE, reference);
    for (index, token) in tokens.into_iter().enumerate() {
        let at = head::TOKENS + index * head::TOKEN_BYTES;
        for (part, value) in token.0.into_iter().enumerate() {
            put32(endian, bytes, at + 4 * part, value);
        }
    }
    layout.crc.seal(bytes, endian);
}

/// The states of the set for which a section counts, when `bytes` is the head of this set's disk.
pub fn head_tokens(
    bytes: &[u8],
    layout: &Layout,
    set: &Guid,
    reference: u32,
) -> Option<[Token; 2]> {
    let endian = layout.endian;
    let blocks = Plan::new(layout.block_bytes).blocks();
    let own = get32(endian, bytes, 0) == HEAD
        && layout.crc.holds(bytes, endian)
        && slice(bytes, head::OWNER, 8) == Some(super::create::VENDOR)
        && get32(endian, bytes, head::VERSION) == VERSION
        && get32(endian, bytes, head::BLOCKS) == blocks
        && get_guid(bytes, head::SET) == *set
        && get32(endian, bytes, head::REFERENCE) == reference;
    let token = |index: usize| {
        let at = head::TOKENS + index * head::TOKEN_BYTES;
        Token([0, 4, 8, 12].map(|part| get32(endian, bytes, at + part)))
    };
    own.then(|| [token(0), token(1)])
}

/// A sound block of a section, other than the head.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    layout: &'a Layout,
}

impl<'a> Body<'a> {
    /// Looks at block number `index` of a section; `None` when it is not sound.
    pub fn new(section: &'a [u8], layout: &'a Layout, index: u32) -> Option<Self> {
        let len = layout.block_bytes as usize;
        let bytes = slice(section, (index as usize).checked_mul(len)?, len)?;
        let sound = get32(layout.endian, bytes, 0) == BODY
            && get32(layout.endian, bytes, body::INDEX) == index
            && layout.crc.holds(bytes, layout.endian);
        sound.then_some(Self { bytes, layout })
    }

    /// Block number `index` of a section when it is, byte by byte, one that is `known` to be sound.
    pub fn alike(known: &Body<'a>, section: &'a [u8], index: u32) -> Option<Self> {
        let len = known.layout.block_bytes as usize;
        let bytes = slice(section, (index as usize).checked_mul(len)?, len)?;
        (known.bytes == bytes).then_some(Self { bytes, ..*known })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its generation.
    pub fn generation(&self) -> u64 {
        get64(self.layout.endian, self.bytes, body::GENERATION)
    }

    /// Whether it holds `kind` of volume `volume`.
    pub fn is(&self, kind: Kind, volume: &Guid) -> bool {
        get8(self.bytes, body::KIND) == kind as u8 && get_guid(self.bytes, body::VOLUME) == *volume
    }

    /// Whether its region log has these measures.
    pub fn fits(&self, log: &RegionLog) -> bool {
        self.region_sectors() == log.region_sectors
            && get32(self.layout.endian, self.bytes, body::REGIONS) == log.regions
    }

    /// The length of its regions.
    pub fn region_sectors(&self) -> u64 {
        get64(self.layout.endian, self.bytes, body::REGION_SECTORS)
    }

    /// Bit `bit` of a block of a region log.
    pub fn region(&self, bit: u32) -> bool {
        let at = BODY_HEAD + (bit / 8) as usize;
        (get8(self.bytes, at) >> (bit % 8)) & 1 == 1
    }

    /// The mark of a resync; [`NO_MARK`] for none.
    pub fn resync_mark(&self) -> u64 {
        get64(self.layout.endian, self.bytes, BODY_HEAD)
    }

    /// The mark of the rebuild of the disk with reference `reference`. [`NO_MARK`]: it is in sync.
    pub fn rebuild_mark(&self, reference: u32) -> Option<u64> {
        let endian = self.layout.endian;
        let first = BODY_HEAD + 8;
        let end = self.bytes.len().saturating_sub(SCRUB_BYTES);
        let count = end.saturating_sub(first) / REBUILD_BYTES;
        (0..count)
            .map(|entry| first + entry * REBUILD_BYTES)
            .find(|&at| get32(endian, self.bytes, at) == reference)
            .map(|at| get64(endian, self.bytes, at + 4))
    }

    /// The check or repair that has not ended.
    pub fn scrub(&self) -> Option<Scrub> {
        let endian = self.layout.endian;
        let tail = self.bytes.len().saturating_sub(SCRUB_BYTES);
        let kind = get32(endian, self.bytes, tail + scrub::KIND);
        let repairs = match kind {
            scrub::CHECK => false,
            scrub::REPAIR => true,
            _ => return None,
        };
        Some(Scrub {
            repairs,
            done_sectors: get64(endian, self.bytes, tail + scrub::DONE),
        })
    }

    /// Bad range number `n`: reference of the disk, sectors, first sector.
    pub fn bad_range(&self, n: usize) -> Option<(u32, u32, u64)> {
        let endian = self.layout.endian;
        let at = BODY_HEAD + n * BAD_BYTES;
        let reference = get32(endian, self.bytes, at);
        let sectors = get32(endian, self.bytes, at + 4);
        (reference != u32::MAX && sectors != 0)
            .then(|| (reference, sectors, get64(endian, self.bytes, at + 8)))
    }
}

impl VendorLog {
    /// Records of a set that has none yet. Allocates.
    pub fn new(layout: &Layout) -> Checked<Self> {
        let plan = Plan::new(layout.block_bytes);
        let len = (plan.blocks() as usize).saturating_mul(plan.block_bytes as usize);
        let mut this = Self {
            plan,
            image: KVVec::from_elem(0, len, GFP_KERNEL)?,
            generation: 0,
            late: bit_map(&plan)?,
        };
        for n in 0..plan.bad_blocks {
            this.format(layout, plan.bad(n), Kind::BadRanges, &[0xFF; GUID_BYTES]);
            this.seal(layout, plan.bad(n));
        }
        Ok(this)
    }

    /// Block `index`, to be changed.
    pub fn block_mut(&mut self, index: u32) -> &mut [u8] {
        let len = self.plan.block_bytes as usize;
        slice_mut(&mut self.image, index as usize * len, len).unwrap_or(&mut [])
    }

    /// Block `index`.
    pub fn block(&self, index: u32) -> &[u8] {
        let len = self.plan.block_bytes as usize;
        slice(&self.image, index as usize * len, len).unwrap_or(&[])
    }

    /// Block `index`, when it is sound.
    pub fn body<'a>(&'a self, layout: &'a Layout, index: u32) -> Option<Body<'a>> {
        Body::new(&self.image, layout, index)
    }

    /// Block `index` as it is, sealed or not.
    pub fn body_unsealed<'a>(&'a self, layout: &'a Layout, index: u32) -> Body<'a> {
        Body {
            bytes: self.block(index),
            layout,
        }
    }

    /// Makes block `index` an empty one (of all FF, which means no mark and no range); it is sealed
    /// afterwards.
    pub fn format(&mut self, layout: &Layout, index: u32, kind: Kind, volume: &Guid) {
        let endian = layout.endian;
        let bytes = self.block_mut(index);
        bytes.fill(0xFF);
        put32(endian, bytes, 0, BODY);
        put32(endian, bytes, body::INDEX, index);
        put8(bytes, body::KIND, kind as u8);
        let _ = super::super::bytes::put(bytes, body::VOLUME, volume);
    }

    /// Gives block `index` the next generation and its checksum.
    pub fn seal(&mut self, layout: &Layout, index: u32) {
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        let bytes = self.block_mut(index);
        put64(layout.endian, bytes, body::GENERATION, generation);
        layout.crc.seal(bytes, layout.endian);
    }

    /// Writes the marks of the volume in `slot`: of its resync, of rebuilds by the disks' references, of a check or repair.
    /// Returns whether anything changed; then the block has to be sealed.
    pub fn put_marks(
        &mut self,
        layout: &Layout,
        slot: u16,
        resync: u64,
        rebuilds: impl Iterator<Item = (u32, u64)>,
        scrub: Option<Scrub>,
    ) -> bool {
        let endian = layout.endian;
        let index = self.plan.marks(slot);
        let bytes = self.block_mut(index);
        let mut changed = get64(endian, bytes, BODY_HEAD) != resync;
        put64(endian, bytes, BODY_HEAD, resync);
        let first = BODY_HEAD + 8;
        let tail = bytes.len().saturating_sub(SCRUB_BYTES);
        let room = tail.saturating_sub(first) / REBUILD_BYTES;
        let unused = core::iter::repeat((u32::MAX, NO_MARK));
        for (entry, (reference, mark)) in Iterator::chain(rebuilds, unused).take(room).enumerate() {
            let at = first + entry * REBUILD_BYTES;
            changed |=
                get32(endian, bytes, at) != reference || get64(endian, bytes, at + 4) != mark;
            put32(endian, bytes, at, reference);
            put64(endian, bytes, at + 4, mark);
        }
        let (kind, done) = match scrub {
            None => (u32::MAX, NO_MARK),
            Some(scrub) if scrub.repairs => (scrub::REPAIR, scrub.done_sectors),
            Some(scrub) => (scrub::CHECK, scrub.done_sectors),
        };
        let (was, before) = (
            get32(endian, bytes, tail + scrub::KIND),
            get64(endian, bytes, tail + scrub::DONE),
        );
        put32(endian, bytes, tail + scrub::KIND, kind);
        put64(endian, bytes, tail + scrub::DONE, done);
        changed || (was, before) != (kind, done)
    }

    /// Makes block `n` of the region log in `slot` say what `log` says. It is sealed afterwards.
    pub fn put_regions(
        &mut self,
        layout: &Layout,
        slot: u16,
        n: u32,
        volume: &Guid,
        log: &RegionLog,
    ) {
        let index = self.plan.region(slot, n);
        let per_block = self.plan.regions_per_block();
        self.format(layout, index, Kind::Regions, volume);
        let bytes = self.block_mut(index);
        put64(
            layout.endian,
            bytes,
            body::REGION_SECTORS,
            log.region_sectors,
        );
        put32(layout.endian, bytes, body::REGIONS, log.regions);
        let first = n.saturating_mul(per_block);
        for (at, byte) in bytes.iter_mut().skip(BODY_HEAD).enumerate() {
            let region = first.saturating_add(u32::try_from(at).unwrap_or(0).saturating_mul(8));
            // Eight bits of a word at a multiple of eight; regions beyond the end are clean.
            let word = log.dirty.get((region / 64) as usize).copied().unwrap_or(0);
            *byte = (word >> (region % 64)) as u8;
        }
    }

    /// Writes bad range number `n` of block `index`; `None` erases it.
    pub fn put_bad(
        &mut self,
        layout: &Layout,
        index: u32,
        n: usize,
        range: Option<(u32, u32, u64)>,
    ) {
        let (reference, sectors, sector) = range.unwrap_or((u32::MAX, u32::MAX, u64::MAX));
        let at = BODY_HEAD + n * BAD_BYTES;
        let bytes = self.block_mut(index);
        put32(layout.endian, bytes, at, reference);
        put32(layout.endian, bytes, at + 4, sectors);
        put64(layout.endian, bytes, at + 8, sector);
    }
}

/// An empty region log for a new volume. Allocates.
pub fn region_log(shape: &Shape, size_sectors: u64) -> Checked<RegionLog> {
    let extent = shape.sync_sectors(size_sectors);
    let least = extent
        .div_ceil(REGIONS_MAX)
        .max(REGION_SECTORS_MIN)
        .max(u64::from(shape.chunk_sectors));
    log_with(least.checked_next_power_of_two().unwrap_or(1 << 63), extent)
}

/// The same with the regions that a volume was made with, which may be of another length; `None` when
/// they are none that a volume of this size could have.
pub fn recorded_log(
    shape: &Shape,
    size_sectors: u64,
    region_sectors: u64,
) -> Checked<Option<RegionLog>> {
    let extent = shape.sync_sectors(size_sectors);
    if !region_sectors.is_power_of_two() || extent.div_ceil(region_sectors) > REGIONS_MAX {
        return Ok(None);
    }
    log_with(region_sectors, extent).map(Some)
}

fn log_with(region_sectors: u64, extent: u64) -> Checked<RegionLog> {
    let regions = u32::try_from(extent.div_ceil(region_sectors.max(1))).unwrap_or(0);
    let words = (regions as usize).div_ceil(64);
    Ok(RegionLog {
        region_sectors,
        regions,
        dirty: KVec::from_elem(0, words, GFP_KERNEL)?,
    })
}
