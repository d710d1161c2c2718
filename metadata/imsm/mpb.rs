// SPDX-License-Identifier: GPL-2.0

//! An MPB that can be changed: the bytes as they were read, with room to grow, edited in place. What
//! is not understood stays as it was.

use super::super::bytes::{put, slice_mut, Endian};
use super::layout::*;
use super::serial::Serial;
use crate::model::Checked;
use crate::reason;
use kernel::prelude::*;

/// An MPB in memory. It always has [`MPB_BYTES_MAX`] bytes; those beyond its size are padding.
#[derive(Debug)]
pub struct Mpb {
    bytes: KVVec<u8>,
    /// It may become this long.
    limit: usize,
}

impl Mpb {
    /// All zeros. Allocates.
    pub fn empty() -> Checked<Self> {
        Ok(Self {
            bytes: KVVec::from_elem(0u8, MPB_BYTES_MAX, GFP_KERNEL)?,
            limit: MPB_BYTES_MAX,
        })
    }

    /// A copy of what was read, padding and all. Allocates.
    pub fn copy_of(raw: Raw<'_>) -> Checked<Self> {
        let mut this = Self::empty()?;
        let beyond = raw.anchor.len();
        let _ = put(&mut this.bytes, 0, raw.anchor);
        let room = MPB_BYTES_MAX.saturating_sub(beyond).min(raw.rest.len());
        let _ = put(&mut this.bytes, beyond, raw.rest.get(..room).unwrap_or(&[]));
        Ok(this)
    }

    /// An MPB without disks and volumes.
    pub fn format(&mut self, family: u32, orig_family: u32, created: u64) {
        self.bytes.fill(0);
        let _ = put(&mut self.bytes, 0, SIGNATURE);
        let _ = put(&mut self.bytes, header::VERSION, VERSION_ATTRIBUTES);
        self.put32(header::SIZE, header::BYTES as u32);
        self.put32(header::FAMILY, family);
        self.put32(header::ORIG_FAMILY, orig_family);
        self.put32(header::ATTRIBUTES, attribute::CHECKSUM);
        self.put32(header::POWER_CYCLES, 1);
        let _ = put(&mut self.bytes, header::CREATED, &created.to_le_bytes());
    }

    /// For reading.
    pub fn raw(&self) -> Raw<'_> {
        Raw {
            anchor: &self.bytes,
            rest: &[],
        }
    }

    /// All bytes, with the padding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes this the same as `other`.
    pub fn assign(&mut self, other: &Self) {
        let _ = put(&mut self.bytes, 0, &other.bytes);
    }

    /// Writes a byte.
    pub fn put8(&mut self, at: usize, value: u8) {
        let _ = put(&mut self.bytes, at, &[value]);
    }

    /// Writes a 16-bit integer.
    pub fn put16(&mut self, at: usize, value: u16) {
        let _ = Endian::Little.put_u16(&mut self.bytes, at, value);
    }

    /// Writes a 32-bit integer.
    pub fn put32(&mut self, at: usize, value: u32) {
        let _ = Endian::Little.put_u32(&mut self.bytes, at, value);
    }

    /// Writes the low word of `value` at `lo`, the high one at `hi`.
    pub fn put_pair(&mut self, lo: usize, hi: usize, value: u64) {
        self.put32(lo, (value & 0xFFFF_FFFF) as u32);
        self.put32(hi, (value >> 32) as u32);
    }

    /// Writes bytes.
    pub fn put(&mut self, at: usize, source: &[u8]) {
        let _ = put(&mut self.bytes, at, source);
    }

    /// Sets how long it may become.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MPB_BYTES_MAX);
    }

    /// Bytes that it can grow by.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.raw().size())
    }

    /// Opens a gap of `len` zero bytes at `at`.
    fn insert(&mut self, at: usize, len: usize) -> Checked {
        let size = self.raw().size();
        if at > size || self.room() < len {
            return Err(reason!(
                ENOSPC,
                "the Intel MPB has no room for {len} bytes more"
            ));
        }
        self.bytes.copy_within(at..size, at + len);
        if let Some(gap) = slice_mut(&mut self.bytes, at, len) {
            gap.fill(0);
        }
        self.put32(header::SIZE, u32::try_from(size + len).unwrap_or(0));
        Ok(())
    }

    /// Takes `len` bytes at `at` out.
    fn remove(&mut self, at: usize, len: usize) {
        let size = self.raw().size();
        let Some(from) = at.checked_add(len).filter(|&from| from <= size) else {
            return;
        };
        self.bytes.copy_within(from..size, at);
        if let Some(freed) = slice_mut(&mut self.bytes, size - len, len) {
            freed.fill(0);
        }
        self.put32(header::SIZE, u32::try_from(size - len).unwrap_or(0));
    }

    /// Computes the checksum.
    pub fn seal(&mut self) {
        let sum = self.raw().sum();
        self.put32(header::CHECKSUM, sum);
    }

    /// Adds an entry for a disk at the end of the table; gives its index.
    pub fn add_disk(&mut self, serial: &Serial, blocks: u64, status: u32) -> Checked<u8> {
        let index = self.raw().disks();
        let Some(count) = index.checked_add(1) else {
            return Err(reason!(ENOSPC, "the set's table of 255 disks is full"));
        };
        self.insert(self.raw().disk_at(index), disk::BYTES)?;
        self.put8(header::DISKS, count);
        self.fill_disk(index, serial, blocks, status);
        Ok(index)
    }

    /// Writes a fresh entry.
    pub fn fill_disk(&mut self, index: u8, serial: &Serial, blocks: u64, status: u32) {
        let at = self.raw().disk_at(index);
        if let Some(entry) = slice_mut(&mut self.bytes, at, disk::BYTES) {
            entry.fill(0);
        }
        if blocks >> 32 != 0 {
            self.count_high_words();
        }
        self.put(at + disk::SERIAL, serial);
        self.put_pair(at + disk::BLOCKS_LO, at + disk::BLOCKS_HI, blocks);
        self.put32(at + disk::STATUS, status);
    }

    /// High words of blocks count from now on. Whatever is there while they do not is cleared first, as mdadm does.
    pub fn count_high_words(&mut self) {
        if self.raw().is_big() || !self.raw().is_modern() {
            return;
        }
        for index in 0..self.raw().disks() {
            self.put32(self.raw().disk_at(index) + disk::BLOCKS_HI, 0);
        }
        for index in 0..self.raw().volumes() {
            let at = self.raw().volume_at(index);
            for which in [Which::First, Which::Second] {
                let map = self.raw().map_at(at, which);
                for offset in [map::START_HI, map::BLOCKS_HI, map::STRIPES_HI] {
                    self.put32(map + offset, 0);
                }
            }
        }
        self.set_attributes(attribute::BIG_DISK, 0);
    }

    /// Takes the entry of a disk out, which no volume names; those behind it move up.
    pub fn drop_disk(&mut self, index: u8) {
        let raw = self.raw();
        let (count, volumes) = (raw.disks(), raw.volumes());
        if index >= count {
            return;
        }
        for volume in 0..volumes {
            for which in [Which::First, Which::Second] {
                let raw = self.raw();
                let at = raw.volume_at(volume);
                if which == Which::Second && raw.u8(at + volume::MIGRATING) == 0 {
                    continue;
                }
                let map = raw.map_at(at, which);
                for slot in 0..u16::from(raw.u8(map + map::MEMBERS)) {
                    let order = self.raw().order(map, slot);
                    if order & map::DISK > u32::from(index) {
                        self.put32(map + map::ORDER + 4 * usize::from(slot), order - 1);
                    }
                }
            }
        }
        if let Some(log) = self.raw().bad_log_at() {
            let entries = self.raw().u32(log + bad::COUNT).min(BAD_ENTRIES_MAX);
            for entry in 0..entries as usize {
                let at = log + bad::ENTRIES + entry * bad::ENTRY_BYTES + 1;
                let named = self.raw().u8(at);
                if named > index {
                    self.put8(at, named - 1);
                }
            }
        }
        self.remove(self.raw().disk_at(index), disk::BYTES);
        self.put8(header::DISKS, count - 1);
    }

    /// Writes serial number, SCSI address and status of a disk's entry.
    pub fn set_disk(&mut self, index: u8, serial: &Serial, scsi: u32, status: u32) {
        let at = self.raw().disk_at(index);
        self.put(at + disk::SERIAL, serial);
        self.put32(at + disk::SCSI, scsi);
        self.put32(at + disk::STATUS, status);
    }

    /// Sets and clears attributes. Those of old versions are left alone.
    pub fn set_attributes(&mut self, set: u32, clear: u32) {
        if !self.raw().is_modern() {
            return;
        }
        let now = self.raw().u32(header::ATTRIBUTES);
        self.put32(header::ATTRIBUTES, (now & !clear) | set);
    }

    /// Adds an empty volume with one map of `members`; gives where it starts.
    pub fn add_volume(&mut self, members: u8) -> Checked<usize> {
        let count = self.raw().volumes();
        let at = self.raw().volume_at(count);
        let map_len = map::ORDER + 4 * usize::from(members);
        self.insert(at, volume::BYTES + map_len)?;
        self.put8(at + volume::BYTES + map::MEMBERS, members);
        self.put8(header::VOLUMES, count.saturating_add(1));
        Ok(at)
    }

    /// Takes a volume out; those behind it move up.
    pub fn drop_volume(&mut self, index: u8) {
        let raw = self.raw();
        let count = raw.volumes();
        if index < count {
            let at = raw.volume_at(index);
            let len = raw.volume_len(at);
            self.remove(at, len);
            self.put8(header::VOLUMES, count - 1);
        }
    }

    /// Gives the volume at `at` a second map, a copy of the first, unless it has one.
    pub fn add_second_map(&mut self, at: usize) -> Checked {
        let raw = self.raw();
        if raw.u8(at + volume::MIGRATING) != 0 {
            return Ok(());
        }
        let first = at + volume::BYTES;
        let len = raw.map_len(first);
        self.insert(first + len, len)?;
        self.bytes.copy_within(first..first + len, first + len);
        self.put8(at + volume::MIGRATING, 1);
        Ok(())
    }

    /// Takes the second map of the volume at `at` away, if it has one, and ends its migration.
    pub fn drop_second_map(&mut self, at: usize) {
        let raw = self.raw();
        if raw.u8(at + volume::MIGRATING) == 0 {
            return;
        }
        let second = raw.map_at(at, Which::Second);
        let len = raw.map_len(second);
        self.remove(second, len);
        self.put8(at + volume::MIGRATING, 0);
        self.put8(at + volume::KIND, 0);
        self.put_pair(at + volume::UNIT_LO, at + volume::UNIT_HI, 0);
        let status = self.raw().u32(at + volume::STATUS);
        self.put32(at + volume::STATUS, status & !volume::FIX);
    }

    /// Sets the length of the bad-block log at the end to hold `entries`; 0 takes it away.
    pub fn resize_bad_log(&mut self, entries: u32) -> Checked<usize> {
        let old = self.raw().u32(header::BAD_LOG_BYTES) as usize;
        let new = match entries {
            0 => 0,
            count => bad::ENTRIES + count as usize * bad::ENTRY_BYTES,
        };
        let at = self.raw().size().saturating_sub(old);
        if new > old {
            self.insert(at + old, new - old)?;
        } else {
            self.remove(at + new, old - new);
        }
        self.put32(header::BAD_LOG_BYTES, u32::try_from(new).unwrap_or(0));
        if new == 0 {
            self.set_attributes(0, attribute::BAD_LOG);
        } else {
            self.set_attributes(attribute::BAD_LOG, 0);
            self.put32(at, bad::SIGNATURE);
            self.put32(at + bad::COUNT, entries);
        }
        Ok(at)
    }
}
