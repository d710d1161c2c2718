// SPDX-License-Identifier: GPL-2.0

//! Where things are: versions, places, field offsets, flags (`md_p.h` of the kernel's UAPI; mdadm's
//! `super0.c` and `super1.c`).

use super::super::bytes::Endian;

/// Magic number of every superblock.
pub const MAGIC: u32 = 0xA92B_4EFC;

/// Room of a superblock, whatever of it is in use.
pub const SUPER_BYTES: usize = 4096;

/// The same in sectors.
pub const SUPER_SECTORS: u32 = 8;

/// All fields of 1.x are little-endian; 0.90 is in its writer's order, of which EMD takes this one.
pub const LE: Endian = Endian::Little;

/// Where a superblock is, and of which kind it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 0.90: the last 64 KiB that start at a multiple of 64 KiB.
    V090,
    /// 1.0: 8 to 12 KiB before the end.
    V10,
    /// 1.1: at the start.
    V11,
    /// 1.2: 4 KiB from the start.
    V12,
}

impl Version {
    /// All of them.
    pub const ALL: [Version; 4] = [Version::V12, Version::V11, Version::V10, Version::V090];

    /// The format's name.
    pub fn name(self) -> &'static str {
        match self {
            Version::V090 => "md-0.90",
            Version::V10 => "md-1.0",
            Version::V11 => "md-1.1",
            Version::V12 => "md-1.2",
        }
    }

    /// First sector of the superblock on a disk of `size_sectors`; `None` when that is too small.
    pub fn sector(self, size_sectors: u64) -> Option<u64> {
        let sector = match self {
            Version::V090 => (size_sectors & !127).checked_sub(128)?,
            Version::V10 => size_sectors.checked_sub(16)? & !7,
            Version::V11 => 0,
            Version::V12 => 8,
        };
        let end = sector.checked_add(u64::from(SUPER_SECTORS))?;
        (end <= size_sectors).then_some(sector)
    }
}

/// Byte offsets in a 1.x superblock.
pub mod v1 {
    /// Major version: 1.
    pub const MAJOR: usize = 0x04;
    /// Feature bits.
    pub const FEATURES: usize = 0x08;
    /// UUID of the array.
    pub const UUID: usize = 0x10;
    /// Name, 32 bytes, by habit `host:name`.
    pub const NAME: usize = 0x20;
    /// Time of creation: 40 bits of seconds, 24 of microseconds.
    pub const CTIME: usize = 0x40;
    /// Level, signed.
    pub const LEVEL: usize = 0x48;
    /// Layout.
    pub const LAYOUT: usize = 0x4C;
    /// Sectors used of each member (0: RAID 0, linear).
    pub const SIZE: usize = 0x50;
    /// Chunk in sectors.
    pub const CHUNK: usize = 0x58;
    /// Members.
    pub const RAID_DISKS: usize = 0x5C;
    /// Bitmap: signed sectors from the superblock.
    pub const BITMAP: usize = 0x60;
    /// Partial parity log, at the same place: signed sectors from the superblock, 16 bits.
    pub const PPL_OFFSET: usize = 0x60;
    /// Its length in sectors, 16 bits.
    pub const PPL_SECTORS: usize = 0x62;
    /// First sector of data.
    pub const DATA_OFFSET: usize = 0x80;
    /// Sectors for data.
    pub const DATA_SIZE: usize = 0x88;
    /// Sector of this superblock.
    pub const SUPER_OFFSET: usize = 0x90;
    /// How far a recovery of this member got, in sectors; of one in sync, EMD's mark of a check or repair
    /// ([`own_mark`](super::super::own_mark)).
    pub const RECOVERY: usize = 0x98;
    /// Number of this device, index of the roles.
    pub const NUMBER: usize = 0xA0;
    /// UUID of the device.
    pub const DEVICE_UUID: usize = 0xA8;
    /// Flags: 1 write-mostly, 2 failfast.
    pub const DEVICE_FLAGS: usize = 0xB8;
    /// Unit of the bad-block log: sectors, as a power of two.
    pub const LOG_SHIFT: usize = 0xB9;
    /// Length of the bad-block log in sectors.
    pub const LOG_SECTORS: usize = 0xBA;
    /// Bad-block log: signed sectors from the superblock.
    pub const LOG_OFFSET: usize = 0xBC;
    /// Time of the last update, like [`CTIME`].
    pub const UTIME: usize = 0xC0;
    /// The seconds of a time.
    pub const SECONDS: u64 = 0xFF_FFFF_FFFF;
    /// Event count.
    pub const EVENTS: usize = 0xC8;
    /// How far redundancy agrees; all ones: everywhere.
    pub const RESYNC: usize = 0xD0;
    /// Checksum.
    pub const CHECKSUM: usize = 0xD8;
    /// Roles that there are.
    pub const ROLES_MAX: usize = 0xDC;
    /// Logical block of the array in bytes, from kernel 6.19 on (older ones refuse it); 0: as its members have it.
    pub const BLOCK: usize = 0xE0;
    /// Roles, 16 bits each.
    pub const ROLES: usize = 0x100;
    /// Most roles that fit.
    pub const ROLES_FIT: u32 = 1920;
    /// Roles of a new superblock.
    pub const ROLES_NEW: u32 = 128;
}

/// Feature bits of 1.x.
pub mod feature {
    /// There is an internal bitmap.
    pub const BITMAP: u32 = 0x1;
    /// This member is being recovered.
    pub const RECOVERY: u32 = 0x2;
    /// A reshape is under way.
    pub const RESHAPE: u32 = 0x4;
    /// The bad-block log has entries.
    pub const BAD_BLOCKS: u32 = 0x8;
    /// This device is to replace the member whose role it has.
    pub const REPLACEMENT: u32 = 0x10;
    /// A reshape goes backwards.
    pub const RESHAPE_BACK: u32 = 0x20;
    /// A reshape moves data.
    pub const NEW_OFFSET: u32 = 0x40;
    /// The recovery goes by the bitmap.
    pub const RECOVERY_BITMAP: u32 = 0x80;
    /// The bitmap is a cluster's.
    pub const CLUSTERED: u32 = 0x100;
    /// There is a journal.
    pub const JOURNAL: u32 = 0x200;
    /// There is a partial parity log.
    pub const PPL: u32 = 0x400;
    /// There are several partial parity logs.
    pub const PPLS: u32 = 0x800;
    /// The two above: there is a partial parity log.
    pub const LOGS: u32 = PPL | PPLS;
    /// The layout of RAID 0 is given.
    pub const RAID0_LAYOUT: u32 = 0x1000;
    /// All that are known.
    pub const KNOWN: u32 = 0x1FFF;
}

/// Roles of 1.x; smaller numbers are slots.
pub mod role {
    /// First number that is no slot.
    pub const SLOTS: u16 = 0xFF00;
    /// Journal.
    pub const JOURNAL: u16 = 0xFFFD;
    /// Failed.
    pub const FAULTY: u16 = 0xFFFE;
    /// Spare, or no device.
    pub const SPARE: u16 = 0xFFFF;
}

/// Byte offsets in a 0.90 superblock (1024 words of 32 bits).
pub mod v0 {
    /// Major version: 0.
    pub const MAJOR: usize = 4;
    /// Minor version: 90, or 91 during a reshape.
    pub const MINOR: usize = 4 * 2;
    /// First word of the UUID; the others are at [`UUID_REST`].
    pub const UUID: usize = 4 * 5;
    /// Time of creation.
    pub const CTIME: usize = 4 * 6;
    /// Level, signed.
    pub const LEVEL: usize = 4 * 7;
    /// KiB used of each member (0: RAID 0, linear).
    pub const SIZE: usize = 4 * 8;
    /// Devices.
    pub const DEVICES: usize = 4 * 9;
    /// Members.
    pub const RAID_DISKS: usize = 4 * 10;
    /// The other three words of the UUID.
    pub const UUID_REST: usize = 4 * 13;
    /// Time of the last update.
    pub const UTIME: usize = 4 * 32;
    /// State bits.
    pub const STATE: usize = 4 * 33;
    /// Active, working, failed, spare devices.
    pub const COUNTS: usize = 4 * 34;
    /// Checksum.
    pub const CHECKSUM: usize = 4 * 38;
    /// Event count, low word first.
    pub const EVENTS: usize = 4 * 39;
    /// Event count to which [`RESYNC`] belongs.
    pub const RESYNC_EVENTS: usize = 4 * 41;
    /// How far redundancy agrees, in sectors; all ones: everywhere.
    pub const RESYNC: usize = 4 * 43;
    /// Layout.
    pub const LAYOUT: usize = 4 * 64;
    /// Chunk in bytes.
    pub const CHUNK: usize = 4 * 65;
    /// Two words without a meaning: EMD's mark of a check, repair or rebuild ([`own_mark`](super::super::own_mark)).
    pub const MARK: usize = 4 * 126;
    /// First of the descriptors.
    pub const DEVICE: usize = 4 * 128;
    /// Length of a descriptor.
    pub const DEVICE_BYTES: usize = 128;
    /// Descriptor of the disk that the superblock is on.
    pub const THIS: usize = 4 * 992;
    /// Descriptors.
    pub const DEVICES_MAX: u32 = 27;
    /// Sectors that members may have: sizes are 32 bits of KiB.
    pub const MEMBER_SECTORS_MAX: u64 = 2 * (u32::MAX as u64);
    /// Sectors from the superblock to the bitmap.
    pub const BITMAP: i64 = 8;
    /// Sectors that the bitmap may have.
    pub const BITMAP_SECTORS: u64 = 120;

    /// State bit: clean.
    pub const CLEAN: u32 = 1;
    /// State bit: there is an internal bitmap.
    pub const BITMAP_PRESENT: u32 = 1 << 8;

    /// In a descriptor: number, major, minor, slot, state.
    pub mod device {
        /// Length of what is in use.
        pub const BYTES: usize = 20;
        /// Number.
        pub const NUMBER: usize = 0;
        /// Slot.
        pub const SLOT: usize = 12;
        /// State bits.
        pub const STATE: usize = 16;
        /// State: failed.
        pub const FAULTY: u32 = 1;
        /// State: active.
        pub const ACTIVE: u32 = 2;
        /// State: in sync.
        pub const SYNC: u32 = 4;
        /// State: removed.
        pub const REMOVED: u32 = 8;
        /// The bits above, which are what is understood.
        pub const KNOWN: u32 = 15;
    }
}

/// What a role says of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Member in this slot.
    Member(u16),
    /// Spare, or no device.
    Spare,
    /// Failed.
    Faulty,
    /// Journal.
    Journal,
}

/// The 16 bits at `at`, 0 beyond the end.
pub fn get16(bytes: &[u8], at: usize) -> u16 {
    LE.u16(bytes, at).unwrap_or(0)
}

/// The 32 bits at `at`, 0 beyond the end.
pub fn get32(bytes: &[u8], at: usize) -> u32 {
    LE.u32(bytes, at).unwrap_or(0)
}

/// The 64 bits at `at`, 0 beyond the end.
pub fn get64(bytes: &[u8], at: usize) -> u64 {
    LE.u64(bytes, at).unwrap_or(0)
}

/// Writes 16 bits at `at`.
pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    let _ = LE.put_u16(bytes, at, value);
}

/// Writes 32 bits at `at`.
pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    let _ = LE.put_u32(bytes, at, value);
}

/// Writes 64 bits at `at`.
pub fn put64(bytes: &mut [u8], at: usize, value: u64) {
    let _ = LE.put_u64(bytes, at, value);
}
