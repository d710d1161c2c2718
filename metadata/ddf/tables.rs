// SPDX-License-Identifier: GPL-2.0

//! The physical and the virtual disk table: entries of 64 bytes behind a head of 64 bytes.
//!
//! Everything is edited in place, so that whatever is not understood stays as it was.

use super::super::bytes::{all_are, array, put, slice, slice_mut, Endian};
use super::layout::*;

/// Where entry `index` starts.
fn entry_at(index: u16) -> usize {
    TABLE_HEAD + usize::from(index) * ENTRY_BYTES
}

/// One entry of a table.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    bytes: &'a [u8],
    endian: Endian,
}

/// Entry `index`; beyond the end one of all FF, which is an unused one.
pub fn entry(table: &[u8], endian: Endian, index: u16) -> Entry<'_> {
    Entry {
        bytes: slice(table, entry_at(index), ENTRY_BYTES).unwrap_or(&[]),
        endian,
    }
}

impl Entry<'_> {
    /// The GUID (both tables).
    pub fn guid(&self) -> Guid {
        get_guid(self.bytes, pde::GUID)
    }

    /// Whether the entry is in use.
    pub fn used(&self) -> bool {
        !guid_unused(&self.guid())
    }

    /// Disk: reference.
    pub fn reference(&self) -> u32 {
        get32(self.endian, self.bytes, pde::REFERENCE)
    }

    /// Disk: type bits.
    pub fn disk_type(&self) -> u16 {
        get16(self.endian, self.bytes, pde::TYPE)
    }

    /// Disk: state bits.
    pub fn disk_state(&self) -> u16 {
        get16(self.endian, self.bytes, pde::STATE)
    }

    /// Disk: state bits, as far as they mean something. Where graid (`by_graid`) misplaced the state, the failed bit is nothing.
    pub fn sane_disk_state(&self, by_graid: bool) -> u16 {
        if by_graid && self.has_graid_bug() {
            self.disk_state() & !pde::FAILED
        } else {
            self.disk_state()
        }
    }

    /// Disk: blocks usable for volumes. Adaptec leaves the high half FF; old versions of graid wrote the state into the high
    /// bits.
    pub fn disk_blocks(&self) -> u64 {
        let blocks = get64(self.endian, self.bytes, pde::SIZE);
        if is_half(blocks) {
            blocks & u64::from(u32::MAX)
        } else {
            blocks & 0x0000_FFFF_FFFF_FFFF
        }
    }

    /// Whether the size carries graid's misplaced state.
    fn has_graid_bug(&self) -> bool {
        let blocks = get64(self.endian, self.bytes, pde::SIZE);
        blocks >> 48 != 0 && !is_half(blocks)
    }

    /// Volume: unit number.
    pub fn number(&self) -> u16 {
        get16(self.endian, self.bytes, vde::NUMBER)
    }

    /// Volume: state byte.
    pub fn volume_state(&self) -> u8 {
        get8(self.bytes, vde::STATE)
    }

    /// Volume: initialisation and access byte.
    pub fn volume_init(&self) -> u8 {
        get8(self.bytes, vde::INIT)
    }

    /// Volume: name field.
    pub fn name(&self) -> &[u8] {
        slice(self.bytes, vde::NAME, 16).unwrap_or(&[])
    }
}

/// Whether a number of blocks is one of Adaptec's, of 32 bits: the high half is not set.
fn is_half(blocks: u64) -> bool {
    blocks >> 32 == u64::from(u32::MAX)
}

/// One entry of a table, to be changed.
#[derive(Debug)]
pub struct EntryMut<'a> {
    bytes: &'a mut [u8],
    endian: Endian,
}

/// Entry `index`, to be changed; beyond the end one whose changes vanish.
pub fn entry_mut(table: &mut [u8], endian: Endian, index: u16) -> EntryMut<'_> {
    EntryMut {
        bytes: slice_mut(table, entry_at(index), ENTRY_BYTES).unwrap_or(&mut []),
        endian,
    }
}

impl EntryMut<'_> {
    /// Makes the entry unused.
    pub fn erase(&mut self) {
        self.bytes.fill(0xFF);
    }

    /// Writes a fresh disk entry.
    pub fn fill_disk(&mut self, guid: &Guid, reference: u32, blocks: u64, block_bytes: u32) {
        self.erase();
        let _ = put(self.bytes, pde::GUID, guid);
        put32(self.endian, self.bytes, pde::REFERENCE, reference);
        self.set_disk_type(pde::FORCED_GUID);
        self.set_disk_state(pde::ONLINE);
        put64(self.endian, self.bytes, pde::SIZE, blocks);
        if block_bytes != 512 {
            let bytes = u16::try_from(block_bytes).unwrap_or(u16::MAX);
            put16(self.endian, self.bytes, pde::BLOCK_BYTES, bytes);
        }
    }

    /// Disk: type bits.
    pub fn set_disk_type(&mut self, value: u16) {
        put16(self.endian, self.bytes, pde::TYPE, value);
    }

    /// Disk: state bits.
    pub fn set_disk_state(&mut self, value: u16) {
        put16(self.endian, self.bytes, pde::STATE, value);
    }

    /// Writes a fresh volume entry.
    pub fn fill_volume(&mut self, guid: &Guid, number: u16, owner: u16) {
        self.erase();
        let _ = put(self.bytes, vde::GUID, guid);
        put16(self.endian, self.bytes, vde::NUMBER, number);
        put16(self.endian, self.bytes, vde::OWNER, owner);
        put16(self.endian, self.bytes, vde::TYPE, 0);
        self.set_volume_state(0);
        self.set_volume_init(0);
    }

    /// Volume: state byte.
    pub fn set_volume_state(&mut self, value: u8) {
        put8(self.bytes, vde::STATE, value);
    }

    /// Volume: initialisation and access byte.
    pub fn set_volume_init(&mut self, value: u8) {
        put8(self.bytes, vde::INIT, value);
    }

    /// Volume: name, padded with blanks.
    pub fn set_name(&mut self, name: &str) {
        if let Some(field) = slice_mut(self.bytes, vde::NAME, 16) {
            field.fill(b' ');
            for (slot, &byte) in field.iter_mut().zip(name.as_bytes()) {
                *slot = byte;
            }
        }
    }
}

/// Populated count of a table.
pub fn count(table: &[u8], endian: Endian) -> u16 {
    get16(endian, table, 8)
}

/// Sets the populated count.
pub fn set_count(table: &mut [u8], endian: Endian, value: u16) {
    put16(endian, table, 8, value);
}

/// Moves entry `from` over entry `to` and makes `from` unused.
pub fn move_entry(table: &mut [u8], from: u16, to: u16) {
    if let Some(bytes) = array::<ENTRY_BYTES>(table, entry_at(from)) {
        let _ = put(table, entry_at(to), &bytes);
    }
    if let Some(bytes) = slice_mut(table, entry_at(from), ENTRY_BYTES) {
        bytes.fill(0xFF);
    }
}

/// Indices of the entries with this reference. A disk has one; mdmon may leave another, and takes its GUID
/// away (`docs/formats/ddf.md`, section 13).
pub fn entries_of(
    table: &[u8],
    endian: Endian,
    entries: u16,
    reference: u32,
) -> impl Iterator<Item = u16> + '_ {
    let bytes = table.get(TABLE_HEAD..).unwrap_or(&[]);
    (0..entries)
        .zip(bytes.chunks_exact(ENTRY_BYTES))
        .filter(move |(_, bytes)| get32(endian, bytes, pde::REFERENCE) == reference)
        .map(|(index, _)| index)
}

/// State of the disk with this reference, from what `state` says of each of its entries: the worst of
/// them counts. `None` when none is in use.
pub fn worst_state(
    table: &[u8],
    endian: Endian,
    entries: u16,
    reference: u32,
    state: impl Fn(&Entry<'_>) -> u16,
) -> Option<u16> {
    let mut used = false;
    let bits = entries_of(table, endian, entries, reference)
        .map(|index| entry(table, endian, index))
        .inspect(|entry| used |= entry.used())
        .map(|entry| state(&entry))
        .reduce(worse);
    bits.filter(|_| used)
}

/// Type bits of the disk with this reference: what any of its entries says. 0 when there is none.
pub fn disk_type(table: &[u8], endian: Endian, entries: u16, reference: u32) -> u16 {
    entries_of(table, endian, entries, reference)
        .map(|index| entry(table, endian, index).disk_type())
        .fold(0, |all, bits| all | bits)
}

/// Two states of one disk: failed before missing and rebuilding, these before online; what else is said of
/// it stays said.
fn worse(one: u16, other: u16) -> u16 {
    let failed = |bits: u16| bits & pde::FAILED != 0 && bits & pde::MISSING == 0;
    let mut bits = one | other;
    if failed(one) || failed(other) {
        bits &= !pde::MISSING;
    }
    if bits & (pde::FAILED | pde::MISSING) != 0 {
        bits &= !(pde::ONLINE | pde::REBUILDING);
    }
    bits
}

/// Index of the first unused entry among `entries`.
pub fn first_unused(table: &[u8], endian: Endian, entries: u16) -> Option<u16> {
    (0..entries).find(|&index| !entry(table, endian, index).used())
}

/// Number of entries in use among `entries`.
pub fn used(table: &[u8], endian: Endian, entries: u16) -> u16 {
    let used = (0..entries).filter(|&index| entry(table, endian, index).used());
    u16::try_from(used.count()).unwrap_or(u16::MAX)
}

/// Index of the last used entry among `entries`.
pub fn last_used(table: &[u8], endian: Endian, entries: u16) -> Option<u16> {
    (0..entries)
        .rev()
        .find(|&index| entry(table, endian, index).used())
}

/// Writes an empty table: signature, no entries.
pub fn format(table: &mut [u8], endian: Endian, signature: u32, max: u16) {
    table.fill(0xFF);
    put32(endian, table, 0, signature);
    set_count(table, endian, 0);
    put16(endian, table, 10, max);
}

/// Fills and reads the one-block section that says which disk this is.
pub mod disk_data {
    use super::*;

    /// Its reference.
    pub fn reference(data: &[u8], endian: Endian) -> u32 {
        get32(endian, data, 0x20)
    }

    /// Its GUID.
    pub fn guid(data: &[u8]) -> Guid {
        get_guid(data, 8)
    }

    /// Writes a fresh one.
    pub fn format(data: &mut [u8], endian: Endian, guid: &Guid, reference: u32) {
        data.fill(0xFF);
        put32(endian, data, 0, signature::DISK_DATA);
        let _ = put(data, 8, guid);
        put32(endian, data, 0x20, reference);
        put8(data, 0x24, 1);
        put8(data, 0x25, 1);
    }
}

/// Whether a bad block log says that data lives elsewhere; `None` when it is no such log.
///
/// 2.0 and graid have a 32-bit count, 1.x (as mdadm declares it) a 16-bit count at the same place.
pub fn bad_blocks(log: &[u8], endian: Endian) -> Option<bool> {
    if get32(endian, log, 0) != signature::BAD_BLOCKS {
        return None;
    }
    let count32 = get32(endian, log, 8);
    let count16 = get16(endian, log, 8);
    let entries = slice(log, 0x20, log.len().saturating_sub(0x20)).unwrap_or(&[]);
    let listed = !all_are(entries, 0xFF) && !all_are(entries, 0);
    let counted = count32 != u32::MAX && count32 != 0 && count16 != u16::MAX;
    let counted = counted || (count16 != 0 && count16 != u16::MAX);
    Some(counted || listed)
}
