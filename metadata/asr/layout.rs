// SPDX-License-Identifier: GPL-2.0

//! What is where on a disk: the reserved block, the table's header, its lines. Big-endian, in
//! sectors of 512 bytes. Offsets are those of Adaptec's structures as dmraid names them
//! (`lib/format/ataraid/asr.h`).

use super::super::bytes::{put, Endian};
use crate::model::Text;

/// Sectors that are set aside for a table.
pub const TABLE_SECTORS: u64 = 16;
/// Bytes of these.
pub const TABLE_BYTES: usize = 16 * 512;
/// Sectors from the usual place of the table to the end of the disk: the table and the reserved block.
pub const TAIL_SECTORS: u64 = TABLE_SECTORS + 1;
/// Sectors of a table that EMD writes, at most: the other half holds the new table while it is
/// brought in (`plan.rs`).
pub const HALF_SECTORS: u64 = TABLE_SECTORS / 2;
/// Bytes of a line, and of the header in front of them.
pub const LINE_BYTES: usize = 64;
/// Lines that fit behind the header of a table.
pub const LINES_MAX: usize = TABLE_BYTES / LINE_BYTES - 1;
/// Lines of a table that EMD writes, at most.
pub const LINES_WRITTEN_MAX: usize = HALF_SECTORS as usize * 512 / LINE_BYTES - 1;
/// Most lines of a table of one sector.
pub const LINES_OF_SECTOR: usize = 512 / LINE_BYTES - 1;
/// Bytes of a name.
pub const NAME_BYTES: usize = 16;
/// A magic number that belongs to nothing.
pub const NO_MAGIC: u32 = u32::MAX;

/// The reserved block: the last sector of the disk.
pub mod reserved {
    /// Offset of the signature.
    pub const SIGNATURE_AT: usize = 0;
    /// The signature.
    pub const SIGNATURE: u32 = 0x37FC_4D1E;
    /// Offset of the version.
    pub const VERSION_AT: usize = 0x3F;
    /// The only version that is understood.
    pub const VERSION: u8 = 8;
    /// Offset of the disk's own magic number.
    pub const DRIVE: usize = 0x40;
    /// Offset of the second signature: the part for RAID is valid.
    pub const VALID_AT: usize = 0x100;
    /// The second signature, `DPTM`.
    pub const VALID: u32 = 0x4450_544D;
    /// Offset of the table's first sector.
    pub const TABLE: usize = 0x104;
}

/// The table's header.
pub mod header {
    /// Offset of the signature.
    pub const SIGNATURE_AT: usize = 0;
    /// The signature.
    pub const SIGNATURE: u32 = 0x9007_65C4;
    /// Version of the table.
    pub const VERSION: usize = 0x04;
    /// Room for lines, 16 bits; the number of lines is below it.
    pub const ROOM: usize = 0x08;
    /// Number of lines, 16 bits.
    pub const COUNT: usize = 0x0A;
    /// Bytes of a line, 16 bits.
    pub const LINE: usize = 0x0C;
    /// Sum of all bytes of the lines, 16 bits.
    pub const SUM: usize = 0x0E;
    /// Time of the last change ("a stamp to find which is latest").
    pub const TIME: usize = 0x1C;
    /// Whether writes may be in flight.
    pub const DIRTY: usize = 0x21;
    /// [`DIRTY`]: no writes are in flight.
    pub const CLEAN: u8 = 0;
    /// [`DIRTY`]: they may be.
    pub const OPEN: u8 = 3;
    /// Priority of background tasks.
    pub const PRIORITY: usize = 0x22;
    /// Address of the spare that belongs to the table's mirror.
    pub const SPARE_ID: usize = 0x23;
    /// Magic number of that spare.
    pub const SPARE_DRIVE: usize = 0x24;
    /// On a spare: magic number of the array it belongs to; all FF for any.
    pub const ARRAY: usize = 0x28;
    /// Reserved bytes. EMD keeps there what the format has no place for: [`MARK`], [`SEAL`],
    /// [`SET`], [`DIRTY_VOLUMES`].
    pub const MARK_AT: usize = 0x34;
    /// At [`MARK_AT`]: EMD has written this table once.
    pub const MARK: [u8; 2] = *b"EM";
    /// Check sum over table and header, 16 bits. Right only when EMD wrote last.
    pub const SEAL: usize = 0x36;
    /// Identity of the set, 32 bits.
    pub const SET: usize = 0x38;
    /// Which arrays are dirty, in the order of the table: one bit each, lowest first.
    pub const DIRTY_VOLUMES: usize = 0x3C;
}

/// Line levels.
pub mod kind {
    /// A disk.
    pub const DISK: u8 = 0;
    /// An array of disks.
    pub const ARRAY: u8 = 1;
    /// An array of arrays.
    pub const DUAL: u8 = 3;
}

/// RAID types.
pub mod raid {
    /// RAID 0.
    pub const RAID0: u8 = 0;
    /// RAID 1.
    pub const RAID1: u8 = 1;
    /// RAID 4.
    pub const RAID4: u8 = 4;
    /// RAID 5.
    pub const RAID5: u8 = 5;
    /// A spare, or an array of spares.
    pub const SPARE: u8 = 0xFE;
}

/// States of a line.
pub mod state {
    /// Works.
    pub const OPTIMAL: u8 = 0;
    /// An array without some of its members.
    pub const DEGRADED: u8 = 1;
    /// A disk in no use.
    pub const UNCONFIGURED: u8 = 2;
    /// Lost.
    pub const FAILED: u8 = 3;
    /// A disk that was put in for another one.
    pub const REPLACED: u8 = 4;
    /// Never built.
    pub const UNINITIALISED: u8 = 0x0A;
    /// Being built for the first time; added to an array's state.
    pub const BUILDING: u8 = 0x10;
    /// Being rebuilt; added to an array's state.
    pub const REBUILDING: u8 = 0x20;
    /// Waits for being formatted.
    pub const AWAITS_FORMAT: u8 = 0x50;
}

/// Flag of an array's line: it was built once.
pub const FLAG_BUILT: u8 = 0x10;

/// 32-bit integer at `at`; 0 when the bytes end before it.
pub fn get32(bytes: &[u8], at: usize) -> u32 {
    Endian::Big.u32(bytes, at).unwrap_or(0)
}

/// 16-bit integer at `at`; 0 when the bytes end before it.
pub fn get16(bytes: &[u8], at: usize) -> u16 {
    Endian::Big.u16(bytes, at).unwrap_or(0)
}

/// Byte at `at`; 0 when the bytes end before it.
pub fn get8(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Writes a 32-bit integer, when there is room.
pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    let _ = Endian::Big.put_u32(bytes, at, value);
}

/// Writes a 16-bit integer, when there is room.
pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    let _ = Endian::Big.put_u16(bytes, at, value);
}

/// Writes a byte, when there is room.
pub fn put8(bytes: &mut [u8], at: usize, value: u8) {
    let _ = put(bytes, at, &[value]);
}

/// A line of the table: all of its 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Line {
    /// Components of an array; 0 for disks.
    pub count: u16,
    /// Sequence number.
    pub sequence: u16,
    /// Magic number of the array or disk.
    pub magic: u32,
    /// What it describes: [`kind`].
    pub kind: u8,
    /// RAID type: [`raid`].
    pub raid: u8,
    /// State: [`state`].
    pub state: u8,
    /// Flags.
    pub flags: u8,
    /// Reference count.
    pub references: u8,
    /// Address: host adapter.
    pub hba: u8,
    /// Address: channel.
    pub channel: u8,
    /// Address: logical unit.
    pub lun: u8,
    /// Address: SCSI id or port.
    pub id: u32,
    /// First sector of the component's data.
    pub offset: u32,
    /// Sectors: of an array, all that users see; of a disk, what the array uses of it.
    pub capacity: u32,
    /// Strip in sectors; of an array, times its components.
    pub strip: u16,
    /// BIOS information.
    pub bios: u16,
    /// Pointer to a logical unit.
    pub lsu: u32,
    /// Added drives.
    pub added: u8,
    /// Sleep rate of a background task.
    pub sleep: u8,
    /// Block storage's target id.
    pub target: u16,
    /// Block that a background task has got to.
    pub progress: u32,
    /// Its burst count; of a volume's first line, EMD's mark of a check or repair too.
    pub burst: u32,
    /// Name, padded with blanks.
    pub name: [u8; NAME_BYTES],
}

impl Line {
    /// From 64 bytes; fields that they do not reach are 0.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            count: get16(bytes, 0x00),
            sequence: get16(bytes, 0x02),
            magic: get32(bytes, 0x04),
            kind: get8(bytes, 0x08),
            raid: get8(bytes, 0x09),
            state: get8(bytes, 0x0A),
            flags: get8(bytes, 0x0B),
            references: get8(bytes, 0x0C),
            hba: get8(bytes, 0x0D),
            channel: get8(bytes, 0x0E),
            lun: get8(bytes, 0x0F),
            id: get32(bytes, 0x10),
            offset: get32(bytes, 0x14),
            capacity: get32(bytes, 0x18),
            strip: get16(bytes, 0x1C),
            bios: get16(bytes, 0x1E),
            lsu: get32(bytes, 0x20),
            added: get8(bytes, 0x24),
            sleep: get8(bytes, 0x25),
            target: get16(bytes, 0x26),
            progress: get32(bytes, 0x28),
            burst: get32(bytes, 0x2C),
            name: super::super::bytes::array(bytes, 0x30).unwrap_or_default(),
        }
    }

    /// Into 64 bytes.
    pub fn encode(&self, bytes: &mut [u8]) {
        put16(bytes, 0x00, self.count);
        put16(bytes, 0x02, self.sequence);
        put32(bytes, 0x04, self.magic);
        put8(bytes, 0x08, self.kind);
        put8(bytes, 0x09, self.raid);
        put8(bytes, 0x0A, self.state);
        put8(bytes, 0x0B, self.flags);
        put8(bytes, 0x0C, self.references);
        put8(bytes, 0x0D, self.hba);
        put8(bytes, 0x0E, self.channel);
        put8(bytes, 0x0F, self.lun);
        put32(bytes, 0x10, self.id);
        put32(bytes, 0x14, self.offset);
        put32(bytes, 0x18, self.capacity);
        put16(bytes, 0x1C, self.strip);
        put16(bytes, 0x1E, self.bios);
        put32(bytes, 0x20, self.lsu);
        put8(bytes, 0x24, self.added);
        put8(bytes, 0x25, self.sleep);
        put16(bytes, 0x26, self.target);
        put32(bytes, 0x28, self.progress);
        put32(bytes, 0x2C, self.burst);
        let _ = put(bytes, 0x30, &self.name);
    }

    /// Whether it is of a level that EMD knows.
    pub fn is_known(&self) -> bool {
        matches!(self.kind, kind::DISK | kind::ARRAY | kind::DUAL)
    }

    /// Whether it heads an array of disks or spares.
    pub fn is_array(&self) -> bool {
        self.kind == kind::ARRAY
    }

    /// Whether it heads a list of spares.
    pub fn is_spares(&self) -> bool {
        self.kind == kind::ARRAY && self.raid == raid::SPARE
    }

    /// Whether it is a disk.
    pub fn is_disk(&self) -> bool {
        self.kind == kind::DISK
    }

    /// Whether it is a disk that holds data.
    pub fn is_member(&self) -> bool {
        self.is_disk() && self.raid != raid::SPARE
    }

    /// Whether its magic number says which disk it is.
    pub fn names_disk(&self) -> bool {
        self.is_disk() && !matches!(self.magic, 0 | NO_MAGIC)
    }

    /// A member whose disk is to be read: dmraid refuses all others. (`REPLACED` counts as being
    /// rebuilt, as dmraid has it.)
    pub fn is_good(&self) -> bool {
        matches!(
            self.state,
            state::OPTIMAL | state::BUILDING | state::REBUILDING | state::REPLACED
        )
    }

    /// Whether the disk counts for nothing any more.
    pub fn is_lost(&self) -> bool {
        if self.is_member() {
            !self.is_good()
        } else {
            self.state == state::FAILED
        }
    }

    /// What orders the members of an array (dmraid: "the way the binary driver does it").
    pub fn address(&self) -> u64 {
        (u64::from(self.hba) << 48)
            | (u64::from(self.channel) << 40)
            | (u64::from(self.lun) << 32)
            | u64::from(self.id)
    }

    /// Its name.
    pub fn name(&self) -> Text<32> {
        Text::from_disk(&self.name)
    }

    /// Gives it a name, padded with blanks.
    pub fn set_name(&mut self, name: &str) {
        self.name = [b' '; NAME_BYTES];
        for (slot, byte) in self.name.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
    }
}
