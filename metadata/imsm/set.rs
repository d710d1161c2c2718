// SPDX-License-Identifier: GPL-2.0

//! The metadata of one set in memory.
//!
//! Every disk of the table has the same MPB, so it is kept once. A disk that is in no volume (a spare)
//! is not in the table; it has a small MPB of its own, for which room is kept for every disk, because
//! any of them may become a spare when the last volume is deleted.

use super::super::bytes::slice;
use super::layout::*;
use super::mpb::Mpb;
use super::reshape::Record;
use super::serial::{self, Serial};
use crate::model::{
    Access, Checked, Disk, DiskIndex, DiskRole, DiskState, Set, Source, UpdatePlan, Volume,
    VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Buffer numbers of [`Source::buffer`].
pub mod buffer {
    /// The set's MPB.
    pub const MPB: u32 = 0;
    /// A block of zeros.
    pub const ZEROS: u32 = 1;
    /// Disk 0's own MPB; those of the others follow.
    pub const FIRST_DISK: u32 = 8;
}

/// What is written to a disk, when it is present and works.
#[derive(Debug)]
pub struct Home {
    /// The set's MPB, as it was before the current event, is on the disk.
    pub synced: bool,
    /// Nothing of ours is on it yet.
    pub fresh: bool,
    /// The MPB that it has when it is in no volume, one block.
    pub own: KVVec<u8>,
    /// That one is to be written.
    pub own_changed: bool,
}

/// What the format knows of a disk beyond the model. Parallel to `Set::disks`.
#[derive(Debug)]
pub struct DiskMeta {
    /// Its serial number in the table's form; what is left of it for a disk that is not here.
    pub serial: Serial,
    /// Its entry in the table; `None` for spares.
    pub entry: Option<u8>,
    /// Block of the anchor, when the disk is present.
    pub anchor: Option<u64>,
    /// Its last block, as it was at assembly.
    pub migration: Record,
    /// What is written to it.
    pub home: Option<Home>,
}

/// The metadata of one set.
#[derive(Debug)]
pub struct ImsmSet {
    /// The model.
    pub set: Set,
    /// The plan of the last event.
    pub plan: UpdatePlan,
    /// Bytes of a block of every disk.
    pub block_bytes: u32,
    /// The MPB; without volumes it is on no disk.
    pub mpb: Mpb,
    /// The MPB as synced disks have it.
    pub shadow: Mpb,
    /// Nothing is written, because …
    pub frozen: Option<crate::model::Reason>,
    /// A block of zeros.
    pub zeros: KVVec<u8>,
    /// Disks, parallel to the model's.
    pub disks: KVec<DiskMeta>,
    /// Of each of the model's volumes the index in the MPB.
    pub volumes: KVec<Option<u8>>,
    /// The disk that the last event took out.
    pub leaving: Option<DiskIndex>,
    /// The current event changed the MPB.
    pub changed: bool,
}

impl ImsmSet {
    /// Sectors of a block.
    pub fn block_sectors(&self) -> u64 {
        u64::from(self.block_bytes / 512).max(1)
    }

    /// What the format knows of a disk.
    pub fn disk_meta(&self, disk: DiskIndex) -> Option<&DiskMeta> {
        self.disks.get(usize::from(disk))
    }

    /// What the format knows of a disk, to be changed.
    pub fn disk_meta_mut(&mut self, disk: DiskIndex) -> Option<&mut DiskMeta> {
        self.disks.get_mut(usize::from(disk))
    }

    /// Entry of a disk in the table.
    pub fn entry(&self, disk: DiskIndex) -> Option<u8> {
        self.disk_meta(disk)?.entry
    }

    /// The disk with an entry.
    pub fn disk_of_entry(&self, entry: u32) -> Option<DiskIndex> {
        let found = self
            .disks
            .iter()
            .position(|meta| meta.entry.is_some_and(|index| u32::from(index) == entry))?;
        DiskIndex::try_from(found).ok()
    }

    /// Where the record of a volume starts in the MPB.
    pub fn record(&self, volume: VolumeIndex) -> Option<usize> {
        let index = (*self.volumes.get(usize::from(volume))?)?;
        Some(self.mpb.raw().volume_at(index))
    }

    /// The model's disk, unless it was removed.
    pub fn live_disk(&self, disk: DiskIndex) -> Checked<&Disk> {
        self.set
            .disk(disk)
            .filter(|model| model.state != DiskState::Removed)
            .ok_or_else(|| reason!(ENODEV, "the set has no disk {disk}"))
    }

    /// A disk of the model that is present, working and written to.
    pub fn usable_disk(&self, disk: DiskIndex) -> Checked<&DiskMeta> {
        let model = self.live_disk(disk)?;
        let meta = self.disk_meta(disk).filter(|meta| meta.home.is_some());
        match (model.state, model.facts, meta) {
            (DiskState::Online, Some(_), Some(meta)) => Ok(meta),
            _ => Err(reason!(
                ENODEV,
                "disk {disk} ({}) is not a working, present disk of the set",
                model.label
            )),
        }
    }

    /// The volume, unless it was deleted or is not to be used.
    pub fn live_volume(&self, volume: VolumeIndex) -> Checked<&Volume> {
        let model = self
            .set
            .volume(volume)
            .ok_or_else(|| reason!(ENOENT, "the set has no volume {volume}"))?;
        match &model.access {
            Access::Refused(why) => Err(reason!(EACCES, "volume {volume}: {}", why.text())),
            _ => Ok(model),
        }
    }

    /// Recomputes a disk's role in the model.
    pub fn refresh_role(&mut self, disk: DiskIndex) {
        let member = self.set.memberships(disk).next().is_some();
        let spare = match self.entry(disk) {
            Some(entry) => self.is_spare_entry(entry),
            None => true,
        };
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.role = match (member, spare) {
                (true, _) => DiskRole::Member,
                (false, true) if model.state == DiskState::Online => DiskRole::GlobalSpare,
                _ => DiskRole::Unused,
            };
        }
    }

    /// Whether an entry is that of a spare: firmware keeps its own in the table of the set, where no volume names them.
    pub fn is_spare_entry(&self, entry: u8) -> bool {
        self.mpb.raw().status(entry) & disk::SPARE != 0 && !self.is_named(entry)
    }

    /// Has the entry of a disk, if it has one, say that it is no spare any more. (mdadm takes a disk whose entry says so for
    /// one in no volume, whatever the maps name.)
    pub fn configure(&mut self, disk: DiskIndex) {
        let Some(entry) = self.entry(disk) else {
            return;
        };
        let raw = self.mpb.raw();
        let status = raw.status(entry);
        if status & disk::SPARE != 0 {
            let at = raw.disk_at(entry) + disk::STATUS;
            let status = status & !disk::SPARE | disk::CONFIGURED;
            self.mpb.put32(at, status);
        }
    }

    /// Writes the MPB that a disk has in no volume. `family`: any number; `generation`: no newer
    /// than the set's, unless the set has lost its last volume.
    pub fn fill_own(&mut self, disk: DiskIndex, family: u32, generation: u32) {
        let block = self.block_sectors();
        let orig = self.mpb.raw().family();
        let Some(facts) = self.set.disk(disk).and_then(|model| model.facts) else {
            return;
        };
        let Some(meta) = self.disks.get_mut(usize::from(disk)) else {
            return;
        };
        let serial = meta.serial;
        if let Some(home) = meta.home.as_mut() {
            let blocks = facts.size_sectors.checked_div(block).unwrap_or(0);
            fill_spare(&mut home.own, family, orig, generation, &serial, blocks);
            home.own_changed = true;
        }
    }

    /// The bytes of a planned write.
    pub fn source_bytes(&self, source: &Source) -> &[u8] {
        let bytes: &[u8] = match source.buffer {
            buffer::MPB => self.mpb.bytes(),
            buffer::ZEROS => &self.zeros,
            number => {
                let disk = number
                    .checked_sub(buffer::FIRST_DISK)
                    .and_then(|disk| DiskIndex::try_from(disk).ok());
                match disk.and_then(|disk| self.disk_meta(disk)?.home.as_ref()) {
                    Some(home) => &home.own,
                    None => return &[],
                }
            }
        };
        let (at, len) = (source.offset_bytes as usize, source.len_bytes as usize);
        slice(bytes, at, len).unwrap_or(&[])
    }

    /// Shows every stretch that belongs on `disk`, as (first block, bytes), checksums computed anew:
    /// anchor, and the blocks before it. For tests and for repair tools.
    #[cfg(not(CONFIG_RUST))]
    pub fn encode(&mut self, disk: DiskIndex, visit: &mut dyn FnMut(u64, &[u8])) {
        let Some((anchor, entry)) = self
            .disk_meta(disk)
            .and_then(|meta| Some((meta.anchor?, meta.entry)))
        else {
            return;
        };
        let block = self.block_bytes as usize;
        if entry.is_none() {
            if let Some(home) = self.disk_meta(disk).and_then(|meta| meta.home.as_ref()) {
                visit(anchor, &home.own);
            }
            return;
        }
        self.mpb.seal();
        let more = self
            .mpb
            .raw()
            .size()
            .div_ceil(block.max(1))
            .saturating_sub(1);
        let bytes = self.mpb.bytes();
        visit(anchor, slice(bytes, 0, block).unwrap_or(&[]));
        if more > 0 {
            let rest = slice(bytes, block, more * block).unwrap_or(&[]);
            visit(anchor - more as u64, rest);
        }
    }
}

/// Fills a block with the MPB of a disk that is in no volume, as mdadm writes it.
pub fn fill_spare(
    block: &mut [u8],
    family: u32,
    orig_family: u32,
    generation: u32,
    serial: &Serial,
    blocks: u64,
) {
    use super::super::bytes::{put, Endian};
    let le = Endian::Little;
    let at = header::BYTES;
    let big = if blocks >> 32 != 0 {
        attribute::BIG_DISK
    } else {
        0
    };
    block.fill(0);
    let _ = put(block, 0, SIGNATURE);
    let _ = put(block, header::VERSION, VERSION_ATTRIBUTES);
    for (offset, value) in [
        (header::SIZE, (header::BYTES + disk::BYTES) as u32),
        (header::FAMILY, family),
        (header::GENERATION, generation),
        (header::ATTRIBUTES, attribute::CHECKSUM | big),
        (header::ORIG_FAMILY, orig_family),
        (header::POWER_CYCLES, 1),
        (at + disk::BLOCKS_LO, (blocks & 0xFFFF_FFFF) as u32),
        (at + disk::STATUS, disk::SPARE),
        (at + disk::BLOCKS_HI, (blocks >> 32) as u32),
    ] {
        let _ = le.put_u32(block, offset, value);
    }
    let _ = put(block, header::DISKS, &[1]);
    let _ = put(block, at + disk::SERIAL, serial);
    let sum = Raw {
        anchor: block,
        rest: &[],
    }
    .sum();
    let _ = le.put_u32(block, header::CHECKSUM, sum);
}

/// A number from the context's random ones, never 0 (splitmix64's finish).
pub fn random_number(context: &crate::model::Context, salt: u64) -> u32 {
    let [first, second] = context.random;
    let mut value = first
        .wrapping_add(second.rotate_left(32))
        .wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((value ^ (value >> 31)) & 0xFFFF_FFFF).max(1) as u32
}

/// The label of a disk with this serial number, or of one without any.
pub fn label_of(serial: &Serial) -> crate::model::Text<32> {
    serial::label(serial)
}
