// SPDX-License-Identifier: GPL-2.0

//! Where things are: signatures, field offsets, and the section layout that a header describes.
//!
//! Source of every number: `docs/formats/ddf.md` (SNIA DDF 1.2/2.0 and what real disks carry).

use super::super::bytes::Endian;
use super::crc::Crc;

/// Signatures, as the first integer of a section or record.
pub mod signature {
    /// Anchor, primary and secondary header.
    pub const HEADER: u32 = 0xDE11_DE11;
    /// Controller data.
    pub const CONTROLLER: u32 = 0xAD11_1111;
    /// Physical disk records.
    pub const DISKS: u32 = 0x2222_2222;
    /// Virtual disk records.
    pub const VOLUMES: u32 = 0xDDDD_DDDD;
    /// Virtual disk configuration record.
    pub const CONFIG: u32 = 0xEEEE_EEEE;
    /// Spare assignment record.
    pub const SPARE: u32 = 0x5555_5555;
    /// Physical disk data; also the physical disk records of mdadm in 2010.
    pub const DISK_DATA: u32 = 0x3333_3333;
    /// Bad block log.
    pub const BAD_BLOCKS: u32 = 0xABAD_B10C;
}

/// Fields of the header.
pub mod header {
    /// Group GUID, 24 bytes.
    pub const GUID: usize = 0x08;
    /// Revision text, 8 bytes.
    pub const REVISION: usize = 0x20;
    /// Update counter.
    pub const SEQUENCE: usize = 0x28;
    /// Seconds since 1980.
    pub const TIME: usize = 0x2C;
    /// 0 closed, 1..=15 being updated, FF not used.
    pub const OPEN: usize = 0x30;
    /// 1: configured elsewhere.
    pub const FOREIGN: usize = 0x31;
    /// Whether disk grouping is enforced.
    pub const GROUPING: usize = 0x32;
    /// Block of the primary header.
    pub const PRIMARY: usize = 0x60;
    /// Block of the secondary header, all ones for none.
    pub const SECONDARY: usize = 0x68;
    /// 0 anchor, 1 primary, 2 secondary.
    pub const KIND: usize = 0x70;
    /// Blocks of the workspace.
    pub const WORKSPACE_LEN: usize = 0x74;
    /// First block of the workspace.
    pub const WORKSPACE: usize = 0x78;
    /// Most physical disk entries.
    pub const PD_MAX: usize = 0x80;
    /// Most virtual disk entries.
    pub const VD_MAX: usize = 0x82;
    /// Most configuration records a disk.
    pub const PARTITIONS_MAX: usize = 0x84;
    /// Blocks of a configuration record.
    pub const RECORD_BLOCKS: usize = 0x86;
    /// Most members of a basic volume.
    pub const MPPE: usize = 0x88;
    /// Offset and length of eight sections, 4 bytes each.
    pub const SECTIONS: usize = 0xC0;
    /// Offset and length of the diagnostic space.
    pub const DIAGNOSTIC: usize = 0xF0;
    /// Offset and length of the vendor-specific logs.
    pub const VENDOR: usize = 0xF8;
}

/// Fields of a physical disk entry (64 bytes).
pub mod pde {
    /// GUID, 24 bytes.
    pub const GUID: usize = 0x00;
    /// Reference: the key of configuration records.
    pub const REFERENCE: usize = 0x18;
    /// Type bits.
    pub const TYPE: usize = 0x1C;
    /// State bits.
    pub const STATE: usize = 0x1E;
    /// Blocks usable for volumes.
    pub const SIZE: usize = 0x20;
    /// Block size, FFFF for 512.
    pub const BLOCK_BYTES: usize = 0x3A;

    /// Type: the GUID was made up.
    pub const FORCED_GUID: u16 = 1;
    /// Type: in a volume.
    pub const ACTIVE: u16 = 2;
    /// Type: global spare.
    pub const GLOBAL_SPARE: u16 = 4;
    /// Type: dedicated spare.
    pub const DEDICATED_SPARE: u16 = 8;
    /// Type: foreign.
    pub const FOREIGN: u16 = 16;

    /// State: working.
    pub const ONLINE: u16 = 1;
    /// State: failed; overrides online.
    pub const FAILED: u16 = 2;
    /// State: being rebuilt.
    pub const REBUILDING: u16 = 4;
    /// State: predicts its failure.
    pub const PREDICTIVE: u16 = 16;
    /// State: missing.
    pub const MISSING: u16 = 64;
}

/// Fields of a virtual disk entry (64 bytes).
pub mod vde {
    /// GUID, 24 bytes.
    pub const GUID: usize = 0x00;
    /// Unit number.
    pub const NUMBER: usize = 0x18;
    /// Low half of the owner's GUID checksum.
    pub const OWNER: usize = 0x1C;
    /// Type bits.
    pub const TYPE: usize = 0x1E;
    /// State.
    pub const STATE: usize = 0x20;
    /// Initialisation and access.
    pub const INIT: usize = 0x21;
    /// Name, 16 bytes.
    pub const NAME: usize = 0x30;

    /// State: the mask of the value.
    pub const STATE_MASK: u8 = 7;
    /// State: optimal.
    pub const OPTIMAL: u8 = 0;
    /// State: degraded.
    pub const DEGRADED: u8 = 1;
    /// State: deleted.
    pub const DELETED: u8 = 2;
    /// State: failed.
    pub const FAILED: u8 = 4;
    /// State: partially optimal.
    pub const PARTIAL: u8 = 5;
    /// State: taken offline.
    pub const OFFLINE: u8 = 6;
    /// State bit: morphing.
    pub const MORPHING: u8 = 8;
    /// State bit: inconsistent.
    pub const DIRTY: u8 = 16;
    /// Init: the mask of the value.
    pub const INIT_MASK: u8 = 3;
    /// Init: quick, or in progress.
    pub const INIT_RUNNING: u8 = 1;
    /// Init: done.
    pub const INIT_DONE: u8 = 2;
    /// Init: the mask of the access policy: 00 read and write, 80 read-only, C0 blocked.
    pub const ACCESS_MASK: u8 = 0xC0;
    /// Access: blocked.
    pub const ACCESS_BLOCKED: u8 = 0xC0;
}

/// Bytes before the first entry of the two tables, and bytes of an entry.
pub const TABLE_HEAD: usize = 64;
/// Bytes of an entry of the two tables.
pub const ENTRY_BYTES: usize = 64;
/// Bytes of a GUID.
pub const GUID_BYTES: usize = 24;
/// A GUID.
pub type Guid = [u8; GUID_BYTES];
/// Seconds from 1970 to 1980: DDF's time starts there.
pub const EPOCH: u64 = 315_532_800;

/// The sections that this code reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Controller data.
    Controller = 0,
    /// Physical disk records.
    Disks = 1,
    /// Virtual disk records.
    Volumes = 2,
    /// Configuration records.
    Config = 3,
    /// Physical disk data: which disk this is.
    Data = 4,
    /// Bad block log.
    BadBlocks = 5,
}

impl Section {
    /// All of them, in the order of the header's fields.
    pub const ALL: [Section; 6] = [
        Section::Controller,
        Section::Disks,
        Section::Volumes,
        Section::Config,
        Section::Data,
        Section::BadBlocks,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Section::Controller => "controller data",
            Section::Disks => "physical disk table",
            Section::Volumes => "virtual disk table",
            Section::Config => "configuration records",
            Section::Data => "disk data",
            Section::BadBlocks => "bad block log",
        }
    }
}

/// Where a section is, in blocks from the header that names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// First block.
    pub offset: u32,
    /// Blocks; 0 when the section is absent.
    pub blocks: u32,
}

impl Place {
    /// No such section.
    pub const ABSENT: Place = Place {
        offset: u32::MAX,
        blocks: 0,
    };

    /// First block after it; 0 when absent.
    pub fn end(&self) -> u32 {
        if self.blocks == 0 {
            0
        } else {
            self.offset.saturating_add(self.blocks)
        }
    }
}

/// What a header says of its sections, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Byte order.
    pub endian: Endian,
    /// Checksum convention.
    pub crc: Crc,
    /// Bytes of a logical block: 512 or 4096.
    pub block_bytes: u32,
    /// Places by [`Section`].
    pub places: [Place; 6],
    /// Vendor-specific logs; not checked against the other places.
    pub vendor: Place,
    /// Entries of the physical disk table.
    pub pd_entries: u16,
    /// Entries of the virtual disk table.
    pub vd_entries: u16,
    /// Configuration records that fit into their section.
    pub config_slots: u16,
    /// Volumes that a disk may be a member of (one slot more may hold a spare record).
    pub partitions: u16,
    /// Bytes of a configuration record.
    pub record_bytes: u32,
    /// Members that a record has room for.
    pub mppe: u16,
}

impl Layout {
    /// Sectors of 512 bytes in a block.
    pub fn block_sectors(&self) -> u64 {
        u64::from(self.block_bytes / 512).max(1)
    }

    /// Whole blocks in `sectors` of 512 bytes.
    pub fn blocks(&self, sectors: u64) -> u64 {
        sectors.checked_div(self.block_sectors()).unwrap_or(0)
    }

    /// The place of a section.
    pub fn place(&self, section: Section) -> Place {
        self.places
            .get(section as usize)
            .copied()
            .unwrap_or(Place::ABSENT)
    }

    /// Bytes of a section.
    pub fn section_bytes(&self, section: Section) -> usize {
        (self.place(section).blocks as usize).saturating_mul(self.block_bytes as usize)
    }

    /// Blocks from the header to the end of its last section.
    pub fn span_blocks(&self) -> u32 {
        self.places.iter().map(Place::end).max().unwrap_or(0).max(1)
    }

    /// Whether tables of one can be used with the other.
    pub fn fits(&self, other: &Layout) -> bool {
        let same = |section| self.place(section).blocks == other.place(section).blocks;
        self.endian == other.endian
            && self.crc == other.crc
            && self.block_bytes == other.block_bytes
            && self.pd_entries == other.pd_entries
            && self.vd_entries == other.vd_entries
            && self.record_bytes == other.record_bytes
            && self.config_slots == other.config_slots
            && self.mppe == other.mppe
            && same(Section::Controller)
            && same(Section::Disks)
            && same(Section::Volumes)
            && same(Section::Config)
            && same(Section::Data)
    }

    /// The bytes of `section` in a copy that starts with its header.
    pub fn section<'a>(&self, copy: &'a [u8], section: Section) -> Option<&'a [u8]> {
        let place = self.place(section);
        if place.blocks == 0 {
            return None;
        }
        let first = (place.offset as usize).checked_mul(self.block_bytes as usize)?;
        super::super::bytes::slice(copy, first, self.section_bytes(section))
    }
}

/// The 16-bit integer at `at`; all ones (DDF's "not set") beyond the end.
pub fn get16(endian: Endian, bytes: &[u8], at: usize) -> u16 {
    endian.u16(bytes, at).unwrap_or(u16::MAX)
}

/// The 32-bit integer at `at`; all ones beyond the end.
pub fn get32(endian: Endian, bytes: &[u8], at: usize) -> u32 {
    endian.u32(bytes, at).unwrap_or(u32::MAX)
}

/// The 64-bit integer at `at`; all ones beyond the end.
pub fn get64(endian: Endian, bytes: &[u8], at: usize) -> u64 {
    endian.u64(bytes, at).unwrap_or(u64::MAX)
}

/// The byte at `at`; all ones beyond the end.
pub fn get8(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(u8::MAX)
}

/// Writes a 16-bit integer; nothing happens beyond the end.
pub fn put16(endian: Endian, bytes: &mut [u8], at: usize, value: u16) {
    let _ = endian.put_u16(bytes, at, value);
}

/// Writes a 32-bit integer; nothing happens beyond the end.
pub fn put32(endian: Endian, bytes: &mut [u8], at: usize, value: u32) {
    let _ = endian.put_u32(bytes, at, value);
}

/// Writes a 64-bit integer; nothing happens beyond the end.
pub fn put64(endian: Endian, bytes: &mut [u8], at: usize, value: u64) {
    let _ = endian.put_u64(bytes, at, value);
}

/// Writes a byte; nothing happens beyond the end.
pub fn put8(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(slot) = bytes.get_mut(at) {
        *slot = value;
    }
}

/// The GUID at `at`; all FF beyond the end.
pub fn get_guid(bytes: &[u8], at: usize) -> Guid {
    super::super::bytes::array(bytes, at).unwrap_or([0xFF; GUID_BYTES])
}

/// Whether a GUID field is unused: all FF, or (Adaptec) all 0.
pub fn guid_unused(guid: &Guid) -> bool {
    super::super::bytes::all_are(guid, 0xFF) || super::super::bytes::all_are(guid, 0)
}

/// Whether two GUIDs name the same thing. Adaptec leaves the last four bytes FF in some places, so
/// these count only when both have them.
pub fn guid_same(one: &Guid, other: &Guid) -> bool {
    let short = |guid: &Guid| guid.get(20..) == Some(&[0xFF; 4][..]);
    if short(one) || short(other) {
        one.get(..20) == other.get(..20)
    } else {
        one == other
    }
}
