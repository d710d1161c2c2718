// SPDX-License-Identifier: GPL-2.0

//! Configuration records: volumes (one record per basic volume and member disk) and spares.

use super::super::bytes::{put, slice, slice_mut};
use super::layout::*;

/// Fields of a volume's record (SNIA DDF 2.0, virtual disk configuration record; docs/formats/ddf.md §7.1).
mod at {
    /// GUID of the volume, 24 bytes.
    pub const GUID: usize = 0x08;
    /// When it was changed last, 4 bytes.
    pub const TIME: usize = 0x20;
    /// Rises with each change of the record, 4 bytes: the highest counts.
    pub const SEQUENCE: usize = 0x24;
    /// Primary element count: members of a span, 2 bytes.
    pub const MEMBERS: usize = 0x40;
    /// Strip size: the chunk is 512 bytes (2.0: a block) << this, 1 byte.
    pub const STRIP: usize = 0x42;
    /// Primary RAID level, 1 byte.
    pub const LEVEL: usize = 0x43;
    /// RAID level qualifier, 1 byte.
    pub const QUALIFIER: usize = 0x44;
    /// Secondary element count: spans, 1 byte.
    pub const SPANS: usize = 0x45;
    /// Secondary element sequence: which span this is, 1 byte.
    pub const SPAN: usize = 0x46;
    /// Secondary RAID level, 1 byte.
    pub const SECOND_LEVEL: usize = 0x47;
    /// Blocks of each member, 8 bytes.
    pub const MEMBER_BLOCKS: usize = 0x48;
    /// Blocks of the whole volume, 8 bytes.
    pub const VOLUME_BLOCKS: usize = 0x50;
    /// Length of a block (2.0; FFFF: 512), 2 bytes.
    pub const BLOCK_BYTES: usize = 0x58;
    /// Parity moves every 2ⁿ stripes (2.0), 1 byte.
    pub const ROTATE: usize = 0x5A;
    /// References of spares, 8 of 4 bytes.
    pub const SPARES: usize = 0x60;
    /// Cache policies, 8 bytes.
    pub const CACHE: usize = 0x80;
    /// Rate of background tasks, 1 byte.
    pub const RATE: usize = 0x88;
    /// References of the members, 4 bytes each; behind all there is room for, where they start, 8 bytes each.
    pub const REFERENCES: usize = 0x200;
}

/// A reference field that names no disk and is not counted.
pub const NO_REFERENCE: u32 = u32::MAX;
/// The reference that stands for a lost member (as mdadm writes it).
pub const LOST_REFERENCE: u32 = 0;

/// What a slot of the configuration section holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing.
    Unused,
    /// A volume's record.
    Volume,
    /// A spare assignment.
    Spare,
    /// Something else; preserved.
    Other,
}

/// The bytes of slot `slot`.
pub fn slot_bytes<'a>(section: &'a [u8], layout: &Layout, slot: u16) -> &'a [u8] {
    let len = layout.record_bytes as usize;
    slice(section, usize::from(slot).saturating_mul(len), len).unwrap_or(&[])
}

/// The bytes of slot `slot`, to be changed.
pub fn slot_bytes_mut<'a>(section: &'a mut [u8], layout: &Layout, slot: u16) -> &'a mut [u8] {
    let len = layout.record_bytes as usize;
    slice_mut(section, usize::from(slot).saturating_mul(len), len).unwrap_or(&mut [])
}

/// What `record` is.
pub fn content(record: &[u8], layout: &Layout) -> Content {
    match get32(layout.endian, record, 0) {
        signature::CONFIG => Content::Volume,
        signature::SPARE => Content::Spare,
        // Adaptec leaves unused ones 0.
        u32::MAX | 0 => Content::Unused,
        _ => Content::Other,
    }
}

/// A volume's record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    bytes: &'a [u8],
    layout: &'a Layout,
}

/// The facts that a new record is made from.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord {
    /// GUID of the volume.
    pub guid: Guid,
    /// DDF time.
    pub time: u32,
    /// Members of each basic volume.
    pub members: u16,
    /// Strip: block size << n, FF for none.
    pub strip: u8,
    /// Primary level.
    pub level: u8,
    /// Its qualifier.
    pub qualifier: u8,
    /// Basic volumes.
    pub spans: u8,
    /// Secondary level, FF for none.
    pub second_level: u8,
    /// Blocks of each member.
    pub member_blocks: u64,
    /// Blocks of the volume.
    pub volume_blocks: u64,
}

impl<'a> Record<'a> {
    /// Looks at `bytes` as a volume's record; `None` when they are none.
    pub fn new(bytes: &'a [u8], layout: &'a Layout) -> Option<Self> {
        if bytes.len() != layout.record_bytes as usize || content(bytes, layout) != Content::Volume
        {
            return None;
        }
        Some(Self { bytes, layout })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether its checksum is right.
    pub fn intact(&self) -> bool {
        self.layout.crc.holds(self.bytes, self.layout.endian)
    }

    /// GUID of the volume.
    pub fn guid(&self) -> Guid {
        get_guid(self.bytes, at::GUID)
    }

    /// Update counter of the volume.
    pub fn sequence(&self) -> u32 {
        get32(self.layout.endian, self.bytes, at::SEQUENCE)
    }

    /// Members of this basic volume.
    pub fn members(&self) -> u16 {
        get16(self.layout.endian, self.bytes, at::MEMBERS)
    }

    /// Strip exponent, FF for none.
    pub fn strip(&self) -> u8 {
        get8(self.bytes, at::STRIP)
    }

    /// Primary level.
    pub fn level(&self) -> u8 {
        get8(self.bytes, at::LEVEL)
    }

    /// Its qualifier.
    pub fn qualifier(&self) -> u8 {
        get8(self.bytes, at::QUALIFIER)
    }

    /// Basic volumes; 0 and FF mean one.
    pub fn spans(&self) -> u8 {
        match get8(self.bytes, at::SPANS) {
            0 | u8::MAX => 1,
            spans => spans,
        }
    }

    /// Index of this basic volume.
    pub fn span(&self) -> u8 {
        if self.spans() == 1 {
            0
        } else {
            get8(self.bytes, at::SPAN)
        }
    }

    /// Secondary level.
    pub fn second_level(&self) -> u8 {
        get8(self.bytes, at::SECOND_LEVEL)
    }

    /// Blocks of each member; 0 on some Adaptec disks.
    pub fn member_blocks(&self) -> u64 {
        get64(self.layout.endian, self.bytes, at::MEMBER_BLOCKS)
    }

    /// Blocks of the volume; Adaptec leaves the high half FF.
    pub fn volume_blocks(&self) -> u64 {
        let blocks = get64(self.layout.endian, self.bytes, at::VOLUME_BLOCKS);
        if blocks >> 32 == u64::from(u32::MAX) {
            blocks & u64::from(u32::MAX)
        } else {
            blocks
        }
    }

    /// Block size, when the record gives one (2.0).
    pub fn block_bytes(&self) -> Option<u16> {
        match get16(self.layout.endian, self.bytes, at::BLOCK_BYTES) {
            0 | u16::MAX => None,
            bytes => Some(bytes),
        }
    }

    /// Parity moves only every 2^n stripes (2.0).
    pub fn rotate(&self) -> u8 {
        match get8(self.bytes, at::ROTATE) {
            n @ 1..=31 => n,
            _ => 0,
        }
    }

    /// Reference of the disk at `position`.
    pub fn reference(&self, position: u16) -> u32 {
        if position >= self.layout.mppe {
            return NO_REFERENCE;
        }
        let at = at::REFERENCES + 4 * usize::from(position);
        get32(self.layout.endian, self.bytes, at)
    }

    /// First block of the member at `position` on its disk.
    pub fn start(&self, position: u16) -> u64 {
        get64(
            self.layout.endian,
            self.bytes,
            start_at(self.layout, position),
        )
    }

    /// What is fixed when a volume is made.
    fn fixed(&self) -> (u16, [u8; 5], u64, u64) {
        let bytes = [
            self.strip(),
            self.level(),
            self.qualifier(),
            self.spans(),
            self.second_level(),
        ];
        (
            self.members(),
            bytes,
            self.member_blocks(),
            self.volume_blocks(),
        )
    }

    /// Whether two records of different spans belong to the same kind of volume.
    pub fn same_kind(&self, other: &Record<'_>) -> bool {
        self.fixed() == other.fixed()
    }

    /// Whether two records describe the same basic volume the same way.
    pub fn agrees(&self, other: &Record<'_>) -> bool {
        self.same_kind(other)
            && (0..self.members().min(self.layout.mppe)).all(|position| {
                self.reference(position) == other.reference(position)
                    && (self.start(position) == other.start(position)
                        || matches!(self.reference(position), LOST_REFERENCE | NO_REFERENCE))
            })
    }
}

fn start_at(layout: &Layout, position: u16) -> usize {
    at::REFERENCES + 4 * usize::from(layout.mppe) + 8 * usize::from(position)
}

/// Sets the update counter and time of the record in `bytes`.
pub fn stamp(bytes: &mut [u8], layout: &Layout, sequence: u32, time: u32) {
    put32(layout.endian, bytes, at::SEQUENCE, sequence);
    put32(layout.endian, bytes, at::TIME, time);
}

/// Sets the member at `position`.
pub fn set_member(bytes: &mut [u8], layout: &Layout, position: u16, reference: u32, start: u64) {
    if position >= layout.mppe {
        return;
    }
    let slot = at::REFERENCES + 4 * usize::from(position);
    put32(layout.endian, bytes, slot, reference);
    put64(layout.endian, bytes, start_at(layout, position), start);
}

/// Writes a fresh record for basic volume `span`; members are set afterwards.
pub fn format(bytes: &mut [u8], layout: &Layout, new: &NewRecord, span: u8) {
    let endian = layout.endian;
    bytes.fill(0xFF);
    put32(endian, bytes, 0, signature::CONFIG);
    let _ = put(bytes, at::GUID, &new.guid);
    stamp(bytes, layout, 1, new.time);
    put16(endian, bytes, at::MEMBERS, new.members);
    put8(bytes, at::STRIP, new.strip);
    put8(bytes, at::LEVEL, new.level);
    put8(bytes, at::QUALIFIER, new.qualifier);
    put8(bytes, at::SPANS, new.spans);
    put8(bytes, at::SPAN, span);
    put8(bytes, at::SECOND_LEVEL, new.second_level);
    put64(endian, bytes, at::MEMBER_BLOCKS, new.member_blocks);
    put64(endian, bytes, at::VOLUME_BLOCKS, new.volume_blocks);
    if layout.block_bytes != 512 {
        let block = u16::try_from(layout.block_bytes).unwrap_or(u16::MAX);
        put16(endian, bytes, at::BLOCK_BYTES, block);
    }
    let _ = put(bytes, at::CACHE, &[0; 8]);
    put8(bytes, at::RATE, 0x80);
    if let Some(spares) = slice_mut(bytes, at::SPARES, 32) {
        spares.fill(0xFF);
    }
}

/// Spare assignment records.
pub mod spare {
    use super::*;

    const TIME: usize = 0x08;
    const TYPE: usize = 0x13;
    const COUNT: usize = 0x14;
    const MAX: usize = 0x16;
    const ENTRIES: usize = 0x20;
    const ENTRY: usize = 32;

    fn room(bytes: &[u8]) -> u16 {
        let entries = bytes.len().saturating_sub(ENTRIES) / ENTRY;
        u16::try_from(entries).unwrap_or(u16::MAX)
    }

    /// Whether the record assigns the disk to certain volumes (else to all).
    pub fn dedicated(bytes: &[u8]) -> bool {
        get8(bytes, TYPE) & 1 == 1
    }

    /// GUID of the `index`th volume that it is assigned to.
    pub fn volume(bytes: &[u8], layout: &Layout, index: u16) -> Option<Guid> {
        let count = get16(layout.endian, bytes, COUNT).min(room(bytes));
        (index < count).then(|| get_guid(bytes, ENTRIES + ENTRY * usize::from(index)))
    }

    /// Writes a record that assigns the disk to one volume.
    pub fn format(bytes: &mut [u8], layout: &Layout, guid: &Guid, time: u32) {
        bytes.fill(0xFF);
        let max = room(bytes);
        put32(layout.endian, bytes, 0, signature::SPARE);
        put32(layout.endian, bytes, TIME, time);
        put8(bytes, TYPE, 1);
        put16(layout.endian, bytes, COUNT, 1);
        put16(layout.endian, bytes, MAX, max);
        let _ = put(bytes, ENTRIES, guid);
        put16(layout.endian, bytes, ENTRIES + GUID_BYTES, 0);
    }
}
