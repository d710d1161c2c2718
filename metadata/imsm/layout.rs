// SPDX-License-Identifier: GPL-2.0

//! Where fields are, what bits mean, and a checked view of an MPB ("metadata parameter block").
//!
//! All integers are little-endian. Field offsets: `docs/formats/imsm.md`.

use crate::model::{Checked, MEMBERS_MAX};
use crate::reason;
use kernel::prelude::*;

/// First bytes of an MPB; the version text follows.
pub const SIGNATURE: &[u8; 24] = b"Intel Raid ISM Cfg Sig. ";

/// From this version on the attributes say what an MPB needs.
pub const VERSION_ATTRIBUTES: &[u8; 8] = b"1.3.00\0\0";

/// Room for an MPB: 255 disks, the most volumes with two maps each, a full bad-block log.
pub const MPB_BYTES_MAX: usize = 32 << 10;

/// Most volumes that are read. Firmware and EMD make no more than [`VOLUMES_MADE_MAX`].
pub const VOLUMES_READ_MAX: u8 = 8;

/// Most volumes of a set that EMD makes.
pub const VOLUMES_MADE_MAX: u8 = 2;

/// Entries of a full bad-block log.
pub const BAD_ENTRIES_MAX: u32 = 254;

/// Bytes of a serial number and of a volume's name.
pub const TEXT_BYTES: usize = 16;

/// Offsets in the header.
pub mod header {
    /// Version text, 8 bytes.
    pub const VERSION: usize = 0x18;
    /// Checksum.
    pub const CHECKSUM: usize = 0x20;
    /// Bytes of the MPB.
    pub const SIZE: usize = 0x24;
    /// Family number.
    pub const FAMILY: usize = 0x28;
    /// Generation.
    pub const GENERATION: usize = 0x2C;
    /// Attributes.
    pub const ATTRIBUTES: usize = 0x34;
    /// Number of disks, 1 byte.
    pub const DISKS: usize = 0x38;
    /// Number of volumes, 1 byte.
    pub const VOLUMES: usize = 0x39;
    /// First family number.
    pub const ORIG_FAMILY: usize = 0x40;
    /// Power cycles.
    pub const POWER_CYCLES: usize = 0x44;
    /// Bytes of the bad-block log at the end.
    pub const BAD_LOG_BYTES: usize = 0x48;
    /// Volumes ever made, 2 bytes.
    pub const VOLUMES_CREATED: usize = 0x4C;
    /// Time of creation, 8 bytes.
    pub const CREATED: usize = 0x50;
    /// Length.
    pub const BYTES: usize = 0xD8;
}

/// Offsets in a disk's entry.
pub mod disk {
    /// Serial number, 16 bytes.
    pub const SERIAL: usize = 0;
    /// Blocks, low word.
    pub const BLOCKS_LO: usize = 0x10;
    /// SCSI address; all ones for a disk that is gone.
    pub const SCSI: usize = 0x14;
    /// Status.
    pub const STATUS: usize = 0x18;
    /// Blocks, high word.
    pub const BLOCKS_HI: usize = 0x20;
    /// Length.
    pub const BYTES: usize = 48;
    /// Status: spare.
    pub const SPARE: u32 = 1;
    /// Status: in use.
    pub const CONFIGURED: u32 = 2;
    /// Status: failed.
    pub const FAILED: u32 = 4;
    /// Status: not used for RAID.
    pub const PASS_THROUGH: u32 = 0x40;
    /// Status: SMART predicts failure.
    pub const SMART_EVENT: u32 = 0x400;
    /// SCSI address of a disk that is gone.
    pub const GONE: u32 = u32::MAX;
}

/// Offsets in a volume's fixed part.
pub mod volume {
    /// Name, 16 bytes.
    pub const NAME: usize = 0;
    /// Size in blocks, low word; the high one follows.
    pub const SIZE: usize = 0x10;
    /// Status.
    pub const STATUS: usize = 0x18;
    /// Number in FreeBSD's and the firmware's counting, 1 byte.
    pub const TID: usize = 0x22;
    /// Number in mdadm's counting, 2 bytes.
    pub const NUMBER: usize = 0x28;
    /// Caching in non-volatile memory, 1 byte.
    pub const NV_CACHE: usize = 0x2A;
    /// What closes the write hole, 1 byte.
    pub const HOLE_POLICY: usize = 0x32;
    /// Checkpoint, low word.
    pub const UNIT_LO: usize = 0x50;
    /// Whether there is a migration, and so a second map; 1 byte.
    pub const MIGRATING: usize = 0x58;
    /// Kind of migration, 1 byte.
    pub const KIND: usize = 0x59;
    /// Dirty bits, 1 byte.
    pub const DIRTY: usize = 0x5A;
    /// Checkpoint, high word.
    pub const UNIT_HI: usize = 0x60;
    /// Length without maps.
    pub const BYTES: usize = 0x70;
    /// Status: read and write coalescing, as the firmware and mdadm set them.
    pub const COALESCING: u32 = 0x4 | 0x8;
    /// Status: the verification mends.
    pub const FIX: u32 = 0x80;
    /// Status: clone-and-go.
    pub const CLONE: u32 = 0x400;
    /// Dirty: writes in flight.
    pub const IN_FLIGHT: u8 = 1;
    /// Dirty: the partial parity log counts.
    pub const LOG_VALID: u8 = 2;
    /// Kind: first synchronisation.
    pub const INIT: u8 = 0;
    /// Kind: rebuild of members.
    pub const REBUILD: u8 = 1;
    /// Kind: verification (with [`FIX`]: resync).
    pub const VERIFY: u8 = 2;
    /// Kind: another level, chunk or number of members.
    pub const GENERAL: u8 = 3;
    /// Kind: resync, in some firmware.
    pub const REPAIR: u8 = 5;
    /// Policy: a partial parity log on each member.
    pub const POLICY_LOG: u8 = 1;
    /// Policy: several, one behind the other.
    pub const POLICY_LOGS: u8 = 3;
    /// Policy of volumes that mdadm makes: none.
    pub const POLICY_OFF: u8 = 5;
}

/// Offsets in a map.
pub mod map {
    /// First block on each member, low word.
    pub const START_LO: usize = 0;
    /// Blocks of each member, low word.
    pub const BLOCKS_LO: usize = 4;
    /// Stripes, low word.
    pub const STRIPES_LO: usize = 8;
    /// Blocks of a strip, 2 bytes.
    pub const STRIP: usize = 0xC;
    /// State, 1 byte.
    pub const STATE: usize = 0xE;
    /// Level, 1 byte.
    pub const LEVEL: usize = 0xF;
    /// Members, 1 byte.
    pub const MEMBERS: usize = 0x10;
    /// Copies, 1 byte.
    pub const DOMAINS: usize = 0x11;
    /// First failed slot, 1 byte; all ones for none.
    pub const FAILED: usize = 0x12;
    /// Always 1.
    pub const DDF: usize = 0x13;
    /// First block, high word.
    pub const START_HI: usize = 0x14;
    /// Blocks of each member, high word.
    pub const BLOCKS_HI: usize = 0x18;
    /// Stripes, high word.
    pub const STRIPES_HI: usize = 0x1C;
    /// Disks by slot, 4 bytes each.
    pub const ORDER: usize = 0x30;
    /// State: normal.
    pub const NORMAL: u8 = 0;
    /// State: redundancy never established.
    pub const UNINITIALISED: u8 = 1;
    /// State: degraded.
    pub const DEGRADED: u8 = 2;
    /// State: failed.
    pub const LOST: u8 = 3;
    /// In the order: the member does not hold what it should.
    pub const OUT_OF_SYNC: u32 = 1 << 24;
    /// In the order: the disk.
    pub const DISK: u32 = OUT_OF_SYNC - 1;
}

/// Attribute bits.
pub mod attribute {
    /// The checksum counts.
    pub const CHECKSUM: u32 = 0x8000_0000;
    /// Volumes beyond 2 TiB.
    pub const BIG_VOLUME: u32 = 0x2000_0000;
    /// There is a bad-block log.
    pub const BAD_LOG: u32 = 0x0800_0000;
    /// Disks beyond 2 TiB: high words count.
    pub const BIG_DISK: u32 = 0x0400_0000;
    /// RAID 0.
    pub const RAID0: u32 = 0x1;
    /// RAID 1.
    pub const RAID1: u32 = 0x2;
    /// RAID 10.
    pub const RAID10: u32 = 0x4;
    /// RAID 5.
    pub const RAID5: u32 = 0x10;
    /// RAID 10 of more than 4 disks.
    pub const RAID10_WIDE: u32 = 0x80;
    /// Bits that EMD understands (0x40: strips up to 1 MiB).
    pub const KNOWN: u32 = CHECKSUM
        | BIG_VOLUME
        | BAD_LOG
        | BIG_DISK
        | RAID0
        | RAID1
        | RAID10
        | RAID5
        | RAID10_WIDE
        | 0x40
        // Firmware never uses it; mdadm ignores it.
        | 0x4000_0000;
}

/// Offsets in the bad-block log.
pub mod bad {
    /// Its signature.
    pub const SIGNATURE: u32 = 0xABAD_B10C;
    /// Number of entries.
    pub const COUNT: usize = 4;
    /// First entry.
    pub const ENTRIES: usize = 8;
    /// Length of an entry: blocks less one (1 byte), disk (1 byte), first block (6 bytes).
    pub const ENTRY_BYTES: usize = 8;
    /// Most blocks that one entry has room for.
    pub const BLOCKS_MAX: u64 = 256;
}

/// Offsets in the record of a general migration, in the last block of the members in the first two slots.
pub mod migration {
    /// Where the data of the current unit is.
    pub const STATUS: usize = 0;
    /// The current unit, low word: those below it have been moved.
    pub const UNIT_LO: usize = 4;
    /// Family number of the set.
    pub const FAMILY: usize = 8;
    /// Not 0: from the start of the volume to its end.
    pub const ASCENDING: usize = 0xC;
    /// Blocks of the volume in a unit.
    pub const UNIT_BLOCKS: usize = 0x10;
    /// Blocks of each member in a unit, in the new shape.
    pub const UNIT_DEPTH: usize = 0x14;
    /// First block of the copy area on each member, low word; counted from the start of the disk.
    pub const COPY_LO: usize = 0x18;
    /// Block of each member, from its start, at which the current unit goes; low word.
    pub const TARGET_LO: usize = 0x1C;
    /// Units, low word.
    pub const UNITS_LO: usize = 0x20;
    /// The current unit, high word.
    pub const UNIT_HI: usize = 0x30;
    /// First block of the copy area, high word.
    pub const COPY_HI: usize = 0x34;
    /// Where the current unit goes, high word.
    pub const TARGET_HI: usize = 0x38;
    /// Units, high word.
    pub const UNITS_HI: usize = 0x3C;
    /// Bytes that are used.
    pub const BYTES: usize = 0x40;
    /// Status: where it came from.
    pub const IN_SOURCE: u32 = 0;
    /// Status: in the copy area; its places in both shapes may hold anything.
    pub const IN_COPY: u32 = 1;
}

/// Bytes of an MPB that may lie in two pieces: its first block, and the blocks that hold the rest.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// The first block.
    pub anchor: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

/// Which map of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Where it goes, or the only one.
    First,
    /// Where a migration came from.
    Second,
}

impl Raw<'_> {
    /// The byte at `at`; 0 beyond the end.
    pub fn u8(self, at: usize) -> u8 {
        let byte = match at.checked_sub(self.anchor.len()) {
            None => self.anchor.get(at),
            Some(beyond) => self.rest.get(beyond),
        };
        byte.copied().unwrap_or(0)
    }

    /// `N` bytes from `at`.
    pub fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut out = [0u8; N];
        for (offset, slot) in out.iter_mut().enumerate() {
            *slot = self.u8(at.saturating_add(offset));
        }
        out
    }

    /// The 16-bit integer at `at`.
    pub fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    /// The 32-bit integer at `at`.
    pub fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// The integer of a low word at `lo` and a high one at `hi`.
    pub fn pair(self, lo: usize, hi: usize) -> u64 {
        (u64::from(self.u32(hi)) << 32) | u64::from(self.u32(lo))
    }

    /// Whether it starts with the signature.
    pub fn is_mpb(self) -> bool {
        self.anchor.get(..SIGNATURE.len()) == Some(SIGNATURE.as_slice())
    }

    /// Its length by its own word.
    pub fn size(self) -> usize {
        self.u32(header::SIZE) as usize
    }

    /// Generation.
    pub fn generation(self) -> u32 {
        self.u32(header::GENERATION)
    }

    /// The family number that stays: the first one, or in old metadata the only one.
    pub fn family(self) -> u32 {
        match self.u32(header::ORIG_FAMILY) {
            0 => self.u32(header::FAMILY),
            first => first,
        }
    }

    /// Attributes; 0 in versions in which the word means something else.
    pub fn attributes(self) -> u32 {
        if self.is_modern() {
            self.u32(header::ATTRIBUTES)
        } else {
            0
        }
    }

    /// Whether the version is one with attributes.
    pub fn is_modern(self) -> bool {
        self.array::<8>(header::VERSION) >= *VERSION_ATTRIBUTES
    }

    /// Whether high words count.
    pub fn is_big(self) -> bool {
        self.attributes() & attribute::BIG_DISK != 0
    }

    /// Disks in the table.
    pub fn disks(self) -> u8 {
        self.u8(header::DISKS)
    }

    /// Volumes.
    pub fn volumes(self) -> u8 {
        self.u8(header::VOLUMES)
    }

    /// Where the entry of a disk starts.
    pub fn disk_at(self, disk: u8) -> usize {
        header::BYTES + usize::from(disk) * disk::BYTES
    }

    /// Serial number in a disk's entry.
    pub fn serial(self, disk: u8) -> [u8; TEXT_BYTES] {
        self.array(self.disk_at(disk) + disk::SERIAL)
    }

    /// Status in a disk's entry.
    pub fn status(self, disk: u8) -> u32 {
        self.u32(self.disk_at(disk) + disk::STATUS)
    }

    /// Blocks of a disk by its entry.
    pub fn disk_blocks(self, disk: u8) -> u64 {
        let at = self.disk_at(disk);
        self.wide(at + disk::BLOCKS_LO, at + disk::BLOCKS_HI)
    }

    /// A pair whose high word counts only with [`attribute::BIG_DISK`].
    pub fn wide(self, lo: usize, hi: usize) -> u64 {
        if self.is_big() {
            self.pair(lo, hi)
        } else {
            u64::from(self.u32(lo))
        }
    }

    /// Where a volume starts; the end of the volumes for the first number beyond them.
    pub fn volume_at(self, volume: u8) -> usize {
        let mut at = self.disk_at(self.disks());
        for _ in 0..volume.min(VOLUMES_READ_MAX) {
            at = at.saturating_add(self.volume_len(at));
        }
        at
    }

    /// Length of the volume at `at` with its maps.
    pub fn volume_len(self, at: usize) -> usize {
        let first = volume::BYTES + self.map_len(at + volume::BYTES);
        if self.u8(at + volume::MIGRATING) == 0 {
            return first;
        }
        first + self.map_len(at + first)
    }

    /// Length of the map at `at`.
    pub fn map_len(self, at: usize) -> usize {
        map::ORDER + 4 * usize::from(self.u8(at + map::MEMBERS))
    }

    /// Where a map of the volume at `at` starts. Without a migration there is only the first.
    pub fn map_at(self, at: usize, which: Which) -> usize {
        let first = at + volume::BYTES;
        match which {
            Which::Second if self.u8(at + volume::MIGRATING) != 0 => first + self.map_len(first),
            _ => first,
        }
    }

    /// What the map at `map_at` says of a slot.
    pub fn order(self, map_at: usize, slot: u16) -> u32 {
        self.u32(map_at + map::ORDER + 4 * usize::from(slot))
    }

    /// Where the bad-block log starts, when there is one.
    pub fn bad_log_at(self) -> Option<usize> {
        match self.u32(header::BAD_LOG_BYTES) as usize {
            0 => None,
            len => self.size().checked_sub(len),
        }
    }

    /// The sum of all words but the checksum's own.
    pub fn sum(self) -> u32 {
        let size = self.size().min(MPB_BYTES_MAX);
        let mut sum = 0u32;
        let (first, rest) = match self.anchor.get(..size) {
            Some(all) => (all, &[][..]),
            None => {
                let beyond = size - self.anchor.len();
                (self.anchor, self.rest.get(..beyond).unwrap_or(self.rest))
            }
        };
        for piece in [first, rest] {
            for word in piece.chunks_exact(4) {
                sum = sum.wrapping_add(u32::from_le_bytes(word.try_into().unwrap_or([0; 4])));
            }
        }
        sum.wrapping_sub(self.u32(header::CHECKSUM))
    }

    /// Whether the checksum is right.
    pub fn is_sound(self) -> bool {
        self.sum() == self.u32(header::CHECKSUM)
    }

    /// Whether it is one that a disk without volumes has of its own.
    pub fn is_spare(self) -> bool {
        self.volumes() == 0
    }

    /// Whether a volume is being reshaped. The checksum may be wrong: counts are limited here.
    pub fn migrates(self) -> bool {
        (0..self.volumes().min(VOLUMES_READ_MAX)).any(|volume| {
            let at = self.volume_at(volume);
            self.u8(at + volume::MIGRATING) != 0 && self.u8(at + volume::KIND) == volume::GENERAL
        })
    }

    /// Checks the size word against `room`.
    pub fn check_size(self) -> Checked<usize> {
        let size = self.size();
        if !(header::BYTES..=MPB_BYTES_MAX).contains(&size) || size % 4 != 0 {
            return Err(reason!(
                EINVAL,
                "an Intel MPB of {size} bytes is impossible"
            ));
        }
        Ok(size)
    }

    /// Checks every count and length; the size has been checked, and all of the MPB is here.
    #[inline(never)]
    pub fn check(self) -> Checked {
        let size = self.check_size()?;
        if self.anchor.len().saturating_add(self.rest.len()) < size {
            return Err(reason!(EINVAL, "the Intel MPB ends too early"));
        }
        let log = self.u32(header::BAD_LOG_BYTES) as usize;
        let end = size.saturating_sub(log);
        if self.disk_at(self.disks()) > end {
            return Err(reason!(
                EINVAL,
                "an Intel MPB of {size} bytes cannot have {} disks",
                self.disks()
            ));
        }
        if self.volumes() > VOLUMES_READ_MAX {
            return Err(reason!(
                EINVAL,
                "{} volumes are more than {VOLUMES_READ_MAX}",
                self.volumes()
            ));
        }
        let mut at = self.disk_at(self.disks());
        for volume in 0..self.volumes() {
            at = self.check_volume(volume, at, end)?;
        }
        self.check_bad_log(log)
    }

    /// Checks one volume; gives its end.
    fn check_volume(self, volume: u8, at: usize, end: usize) -> Checked<usize> {
        let short = || reason!(EINVAL, "the Intel MPB ends within volume {volume}");
        if at + volume::BYTES + map::ORDER > end {
            return Err(short());
        }
        let maps: &[Which] = match self.u8(at + volume::MIGRATING) {
            0 => &[Which::First],
            _ => &[Which::First, Which::Second],
        };
        let mut next = at + volume::BYTES;
        for &which in maps {
            let map = self.map_at(at, which);
            if map + map::ORDER > end || map + self.map_len(map) > end {
                return Err(short());
            }
            let members = self.u8(map + map::MEMBERS);
            if members == 0 || usize::from(members) > MEMBERS_MAX {
                return Err(reason!(
                    EINVAL,
                    "volume {volume} has {members} members; 1 to {MEMBERS_MAX} are possible"
                ));
            }
            for slot in 0..u16::from(members) {
                let disk = self.order(map, slot) & map::DISK;
                if disk >= u32::from(self.disks()) {
                    return Err(reason!(
                        EINVAL,
                        "slot {slot} of volume {volume} names disk {disk} of {}",
                        self.disks()
                    ));
                }
            }
            next = map + self.map_len(map);
        }
        Ok(next)
    }

    fn check_bad_log(self, len: usize) -> Checked {
        let Some(at) = self.bad_log_at() else {
            return Ok(());
        };
        let count = self.u32(at + bad::COUNT);
        let needed = bad::ENTRIES + (count.min(BAD_ENTRIES_MAX) as usize) * bad::ENTRY_BYTES;
        if len < bad::ENTRIES
            || self.u32(at) != bad::SIGNATURE
            || count > BAD_ENTRIES_MAX
            || needed > len
        {
            return Err(reason!(
                EINVAL,
                "the bad-block log ({count} entries in {len} bytes) makes no sense"
            ));
        }
        Ok(())
    }
}
