// SPDX-License-Identifier: GPL-2.0

//! One superblock, of either kind, checked and in words that are the same for both.

use super::super::bytes::{array, put, slice};
use super::layout::*;
use crate::model::{Checked, DiskFacts, Text};
use crate::reason;
use kernel::prelude::*;

/// A stretch of a disk beside the superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// First sector.
    pub sector: u64,
    /// Length.
    pub sectors: u32,
}

/// What a superblock says, but for the roles of other devices ([`Head::role`]).
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Kind and place.
    pub version: Version,
    /// Its sector.
    pub sector: u64,
    /// UUID of the array.
    pub uuid: [u8; 16],
    /// Name of the array.
    pub name: Text<32>,
    /// Time of creation.
    pub ctime: u64,
    /// Level in md's numbers.
    pub level: i32,
    /// Layout in md's numbers.
    pub layout: u32,
    /// Sectors used of each member; 0 where members may differ.
    pub size_sectors: u64,
    /// Chunk.
    pub chunk_sectors: u64,
    /// Members.
    pub raid_disks: u32,
    /// Feature bits; those that 0.90 has in other places too.
    pub features: u32,
    /// First sector of data.
    pub data_offset: u64,
    /// Sectors for data.
    pub data_size: u64,
    /// How far a recovery of this member got. (0.90 has no such thing; there it is what EMD's own mark says, where that counts.)
    pub recovery: Option<u64>,
    /// Number of this device.
    pub number: u32,
    /// Where the bitmap starts.
    pub bitmap: Option<u64>,
    /// The bad-block log.
    pub log: Option<Stretch>,
    /// Unit of the bad-block log: sectors, as a power of two.
    pub log_shift: u8,
    /// The partial parity log.
    pub ppl: Option<Stretch>,
    /// Event count.
    pub events: u64,
    /// How far redundancy agrees; `u64::MAX`: everywhere.
    pub resync: u64,
    /// Numbers that roles are given for.
    pub roles_max: u32,
    /// Logical block of the array in bytes, whatever its members have; 0: theirs.
    pub block_bytes: u32,
}

/// What was found where a superblock would be.
#[derive(Debug)]
pub enum Found {
    /// None of this version, or another device's.
    Nothing,
    /// One that cannot be used.
    Damaged(crate::model::Reason),
    /// One.
    Head(Head),
}

/// Reads the superblock of `version` in `bytes`, which start at `sector`.
pub fn decode(version: Version, sector: u64, bytes: &[u8], facts: &DiskFacts) -> Found {
    if version == Version::V090 && get32(bytes, 0) == MAGIC.swap_bytes() {
        let major = get32(bytes, v0::MAJOR);
        if major == 0 {
            return Found::Damaged(reason!(
                EOPNOTSUPP,
                "its md superblock 0.90 is of a machine with the other byte order"
            ));
        }
    }
    if get32(bytes, 0) != MAGIC {
        return Found::Nothing;
    }
    let decoded = match version {
        Version::V090 if get32(bytes, v0::MAJOR) != 0 => return Found::Nothing,
        Version::V090 => decode_0(sector, bytes),
        _ if get32(bytes, v1::MAJOR) != 1 => return Found::Nothing,
        // That of a partition that ends where the disk ends, or starts where it starts.
        _ if get64(bytes, v1::SUPER_OFFSET) != sector => return Found::Nothing,
        _ => decode_1(version, sector, bytes),
    };
    match decoded.and_then(|head| check_places(&head, bytes, facts).map(|()| head)) {
        Ok(head) => Found::Head(head),
        Err(why) => Found::Damaged(why),
    }
}

/// Data must be on the disk, apart from the superblock.
fn check_places(head: &Head, bytes: &[u8], facts: &DiskFacts) -> Checked {
    let end = head.data_offset.checked_add(head.data_size);
    let fits = end.is_some_and(|end| end <= facts.size_sectors);
    let apart = match head.version {
        Version::V090 | Version::V10 => end.is_some_and(|end| end <= head.sector),
        // A journal has its data where it likes; so does a spare that was never used.
        _ => {
            let used = super::render::used_sectors(head, facts.logical_block_bytes);
            head.data_offset >= head.sector.saturating_add(used.into()) || head.data_size == 0
        }
    };
    if !fits || !apart {
        return Err(reason!(
            EINVAL,
            "its md superblock says that data is in {} sectors at {}, which it cannot be",
            head.data_size,
            head.data_offset
        ));
    }
    // (Spares may be too small: they are refused when they are wanted.)
    let member = matches!(head.role(bytes, head.number), Role::Member(_));
    if member && head.size_sectors > head.data_size {
        return Err(reason!(
            EINVAL,
            "its md superblock wants {} sectors of it and has room for {}",
            head.size_sectors,
            head.data_size
        ));
    }
    Ok(())
}

/// The checksum of a 1.x superblock with `roles` roles.
pub fn checksum_1(bytes: &[u8], roles: u32) -> u32 {
    let len = v1::ROLES.saturating_add(2 * roles as usize);
    let used = bytes.get(..len).unwrap_or(&[]);
    let mut sum = 0u64;
    let mut words = used.chunks_exact(4);
    for (index, word) in words.by_ref().enumerate() {
        if index * 4 != v1::CHECKSUM {
            sum += u64::from(get32(word, 0));
        }
    }
    sum += u64::from(get16(words.remainder(), 0));
    ((sum & 0xFFFF_FFFF) + (sum >> 32)) as u32
}

/// The checksum of a 0.90 superblock.
pub fn checksum_0(bytes: &[u8]) -> u32 {
    let mut sum = 0u64;
    for (index, word) in bytes.chunks_exact(4).enumerate() {
        if index * 4 != v0::CHECKSUM {
            sum += u64::from(get32(word, 0));
        }
    }
    ((sum & 0xFFFF_FFFF) + (sum >> 32)) as u32
}

fn bad_checksum(stored: u32, right: u32) -> crate::model::Reason {
    reason!(
        EINVAL,
        "its md superblock has checksum {stored:08x}, {right:08x} would be right"
    )
}

/// `sector` moved by a signed distance.
fn moved(sector: u64, by: i64) -> Option<u64> {
    sector.checked_add_signed(by)
}

#[inline(never)]
fn decode_1(version: Version, sector: u64, bytes: &[u8]) -> Checked<Head> {
    let roles_max = get32(bytes, v1::ROLES_MAX);
    if roles_max > v1::ROLES_FIT {
        return Err(reason!(
            EINVAL,
            "its md superblock has {roles_max} roles, more than fit"
        ));
    }
    let (stored, right) = (get32(bytes, v1::CHECKSUM), checksum_1(bytes, roles_max));
    if stored != right {
        return Err(bad_checksum(stored, right));
    }
    let features = get32(bytes, v1::FEATURES);
    let signed = |at| i64::from(get32(bytes, at) as i32);
    let log_sectors = get16(bytes, v1::LOG_SECTORS);
    let log = moved(sector, signed(v1::LOG_OFFSET))
        .filter(|_| log_sectors != 0 && get32(bytes, v1::LOG_OFFSET) != 0);
    let bitmap = (features & feature::BITMAP != 0)
        .then(|| moved(sector, signed(v1::BITMAP)))
        .flatten();
    let ppl = moved(sector, i64::from(get16(bytes, v1::PPL_OFFSET) as i16))
        .filter(|_| features & feature::LOGS != 0);
    Ok(Head {
        version,
        sector,
        uuid: array(bytes, v1::UUID).unwrap_or([0; 16]),
        name: Text::from_disk(slice(bytes, v1::NAME, 32).unwrap_or(&[])),
        ctime: get64(bytes, v1::CTIME) & 0xFF_FFFF_FFFF,
        level: get32(bytes, v1::LEVEL) as i32,
        layout: get32(bytes, v1::LAYOUT),
        size_sectors: get64(bytes, v1::SIZE),
        chunk_sectors: u64::from(get32(bytes, v1::CHUNK)),
        raid_disks: get32(bytes, v1::RAID_DISKS),
        features,
        data_offset: get64(bytes, v1::DATA_OFFSET),
        data_size: get64(bytes, v1::DATA_SIZE),
        recovery: (features & feature::RECOVERY != 0).then(|| get64(bytes, v1::RECOVERY)),
        number: get32(bytes, v1::NUMBER),
        bitmap,
        log: log.map(|sector| Stretch {
            sector,
            sectors: u32::from(log_sectors),
        }),
        log_shift: bytes.get(v1::LOG_SHIFT).copied().unwrap_or(0),
        ppl: ppl.map(|sector| Stretch {
            sector,
            sectors: u32::from(get16(bytes, v1::PPL_SECTORS)),
        }),
        events: get64(bytes, v1::EVENTS),
        resync: get64(bytes, v1::RESYNC),
        roles_max,
        block_bytes: get32(bytes, v1::BLOCK),
    })
}

#[inline(never)]
fn decode_0(sector: u64, bytes: &[u8]) -> Checked<Head> {
    let (stored, right) = (get32(bytes, v0::CHECKSUM), checksum_0(bytes));
    if stored != right {
        return Err(bad_checksum(stored, right));
    }
    // The checksum is a sum, so some tears pass; but a superblock names its disk twice.
    let number = get32(bytes, v0::THIS + v0::device::NUMBER);
    let listed = v0::DEVICE + v0::DEVICE_BYTES * number.min(v0::DEVICES_MAX) as usize;
    if number >= v0::DEVICES_MAX
        || slice(bytes, listed, v0::device::BYTES) != slice(bytes, v0::THIS, v0::device::BYTES)
    {
        return Err(reason!(
            EINVAL,
            "its md superblock says two things of its own disk (number {number})"
        ));
    }
    let chunk_bytes = get32(bytes, v0::CHUNK);
    let state = get32(bytes, v0::STATE);
    let mut uuid = [0u8; 16];
    let _ = put(&mut uuid, 0, slice(bytes, v0::UUID, 4).unwrap_or(&[]));
    let _ = put(&mut uuid, 4, slice(bytes, v0::UUID_REST, 12).unwrap_or(&[]));
    let mut features = 0;
    if state & v0::BITMAP_PRESENT != 0 {
        features |= feature::BITMAP;
    }
    match get32(bytes, v0::MINOR) {
        90 => {}
        91 => features |= feature::RESHAPE,
        minor => {
            return Err(reason!(
                EOPNOTSUPP,
                "its md superblock has version 0.{minor}, which is unknown"
            ))
        }
    }
    if chunk_bytes % 512 != 0 {
        return Err(reason!(
            EINVAL,
            "its md superblock has a chunk of {chunk_bytes} bytes, which is impossible"
        ));
    }
    let checkpoint = get64(bytes, v0::RESYNC_EVENTS) == get64(bytes, v0::EVENTS);
    let resync = match get32(bytes, v0::RESYNC) {
        _ if state & v0::CLEAN != 0 => u64::MAX,
        u32::MAX if checkpoint => u64::MAX,
        mark if checkpoint => u64::from(mark),
        _ => 0,
    };
    Ok(Head {
        version: Version::V090,
        sector,
        uuid,
        name: Text::new(),
        ctime: u64::from(get32(bytes, v0::CTIME)),
        level: get32(bytes, v0::LEVEL) as i32,
        layout: get32(bytes, v0::LAYOUT),
        size_sectors: u64::from(get32(bytes, v0::SIZE)) * 2,
        chunk_sectors: u64::from(chunk_bytes / 512),
        raid_disks: get32(bytes, v0::RAID_DISKS),
        features,
        data_offset: 0,
        data_size: sector,
        recovery: None,
        number,
        bitmap: (features & feature::BITMAP != 0)
            .then(|| moved(sector, v0::BITMAP))
            .flatten(),
        log: None,
        log_shift: 0,
        ppl: None,
        events: get64(bytes, v0::EVENTS),
        resync,
        roles_max: v0::DEVICES_MAX,
        block_bytes: 0,
    })
}

impl Head {
    /// Of a set without an array.
    pub fn blank(version: Version) -> Self {
        Self {
            version,
            sector: 0,
            uuid: [0; 16],
            name: Text::new(),
            ctime: 0,
            level: 0,
            layout: 0,
            size_sectors: 0,
            chunk_sectors: 0,
            raid_disks: 0,
            features: 0,
            data_offset: 0,
            data_size: 0,
            recovery: None,
            number: 0,
            bitmap: None,
            log: None,
            log_shift: 0,
            ppl: None,
            events: 0,
            resync: u64::MAX,
            roles_max: match version {
                Version::V090 => v0::DEVICES_MAX,
                _ => v1::ROLES_NEW,
            },
            block_bytes: 0,
        }
    }

    /// What the superblock in `bytes` says of device `number`.
    pub fn role(&self, bytes: &[u8], number: u32) -> Role {
        if number >= self.roles_max {
            return Role::Spare;
        }
        if self.version == Version::V090 {
            return role_0(bytes, number);
        }
        match get16(bytes, v1::ROLES + 2 * number as usize) {
            role::JOURNAL => Role::Journal,
            role::FAULTY => Role::Faulty,
            slot if slot < role::SLOTS => Role::Member(slot),
            _ => Role::Spare,
        }
    }

    /// Whether the superblock in `bytes` can have a spare of that number: 0.90 lists its spares.
    pub fn may_be_spare(&self, bytes: &[u8], number: u32) -> bool {
        let at = v0::DEVICE + v0::DEVICE_BYTES * number as usize;
        number < self.roles_max
            && (self.version != Version::V090 || get32(bytes, at + v0::device::NUMBER) == number)
    }

    /// Whether the superblock in `bytes` lists a spare of that number, as 0.90 does.
    pub fn lists_spare(&self, bytes: &[u8], number: u32) -> bool {
        let may_be_one = number >= self.raid_disks && self.may_be_spare(bytes, number);
        self.version == Version::V090 && may_be_one && self.role(bytes, number) == Role::Spare
    }

    /// Whether two superblocks describe the same array, their states and devices apart.
    pub fn same_array(&self, other: &Head) -> bool {
        let reshape = feature::RESHAPE | feature::RESHAPE_BACK;
        self.level == other.level
            && self.layout == other.layout
            && self.size_sectors == other.size_sectors
            && self.chunk_sectors == other.chunk_sectors
            && self.raid_disks == other.raid_disks
            && (self.features ^ other.features) & reshape == 0
    }

    /// First sector behind the data.
    pub fn data_end(&self) -> u64 {
        self.data_offset.saturating_add(self.data_size)
    }
}

fn role_0(bytes: &[u8], number: u32) -> Role {
    let at = v0::DEVICE + v0::DEVICE_BYTES * number as usize;
    let state = get32(bytes, at + v0::device::STATE);
    let slot = get32(bytes, at + v0::device::SLOT);
    if state & v0::device::FAULTY != 0 {
        return Role::Faulty;
    }
    match u16::try_from(slot) {
        Ok(slot) if state & v0::device::SYNC != 0 => Role::Member(slot),
        _ => Role::Spare,
    }
}
