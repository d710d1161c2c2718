// SPDX-License-Identifier: GPL-2.0

//! Superblocks of disks that have none: of a new array's, and of one that joins an array.

use super::super::bytes::{array, put};
use super::draft::{data_size, own_room, Draft, LOG_SECTORS, ROUND_SECTORS};
use super::head::Stretch;
use super::layout::*;
use super::set::{image, Home, MdSet};
use crate::model::{Checked, Context, DiskFacts, DiskIndex, Level, VolumeSpec};
use crate::reason;
use kernel::prelude::*;

/// Bytes from the context's random numbers (splitmix64's finish).
fn mixed(context: &Context, salt: u64) -> u64 {
    let [first, second] = context.random;
    let mut value = first
        .wrapping_add(second.rotate_left(32))
        .wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

pub(super) fn made_uuid(context: &Context, salt: u64) -> [u8; 16] {
    let mut uuid = [0u8; 16];
    let _ = put(&mut uuid, 0, &mixed(context, salt).to_le_bytes());
    let _ = put(&mut uuid, 8, &mixed(context, salt ^ u64::MAX).to_le_bytes());
    uuid
}

/// The superblock and its surroundings on a disk that has none, after another one of the array.
#[inline(never)]
pub fn fresh_home(set: &MdSet, facts: &DiskFacts, number: u32, context: &Context) -> Checked<Home> {
    let model = set
        .newest_home()
        .ok_or_else(|| reason!(ENODEV, "no disk of the array is here"))?;
    home_from(
        set.version,
        model.image(image::NEW),
        facts,
        number,
        None,
        context,
    )
}

#[inline(never)]
pub(super) fn home_from(
    version: Version,
    template: &[u8],
    facts: &DiskFacts,
    number: u32,
    data_most: Option<u64>,
    context: &Context,
) -> Checked<Home> {
    let too_small = || {
        reason!(
            ENOSPC,
            "a disk of {} sectors is too small for this array",
            facts.size_sectors
        )
    };
    let sector = version.sector(facts.size_sectors).ok_or_else(too_small)?;
    let mut images = KVVec::with_capacity(SUPER_BYTES * image::COUNT, GFP_KERNEL)?;
    images.extend_from_slice(template, GFP_KERNEL)?;
    let mut home = Home {
        sector,
        images: KVVec::new(),
        block_bytes: facts.logical_block_bytes,
        data_offset: 0,
        data_size: sector,
        bitmap: None,
        log: None,
        log_shift: 0,
        logs: KVVec::new(),
        log_used: 0,
        keep_recovery: false,
        fresh: true,
        first: false,
        touched: false,
        ends_recovery: false,
        log_touched: false,
        bitmap_whole: false,
        missed: false,
        unsure: false,
        only_copy: false,
        left_log: None,
    };
    if version == Version::V090 {
        let state = get32(&images, v0::STATE);
        home.bitmap = (state & v0::BITMAP_PRESENT != 0).then(|| sector + 8);
        put32(&mut images, v0::THIS + v0::device::NUMBER, number);
    } else {
        place_1(version, &mut images, &mut home, facts, data_most);
        if home.data_size == 0 {
            return Err(too_small());
        }
        put32(&mut images, v1::NUMBER, number);
        let uuid = made_uuid(context, u64::from(number));
        let _ = put(&mut images, v1::DEVICE_UUID, &uuid);
        let log_bytes = home.log.map_or(0, |log| log.sectors as usize * 512);
        home.logs = KVVec::from_elem(0u8, 2 * log_bytes, GFP_KERNEL)?;
    }
    let mut all = KVVec::with_capacity(SUPER_BYTES * image::COUNT, GFP_KERNEL)?;
    for _ in 0..image::COUNT {
        all.extend_from_slice(&images, GFP_KERNEL)?;
    }
    home.images = all;
    Ok(home)
}

/// Fills in what a 1.x superblock says of its own disk.
#[inline(never)]
fn place_1(
    version: Version,
    bytes: &mut [u8],
    home: &mut Home,
    facts: &DiskFacts,
    data_most: Option<u64>,
) {
    let sector = home.sector;
    let features = get32(bytes, v1::FEATURES)
        & !(feature::RECOVERY
            | feature::RECOVERY_BITMAP
            | feature::REPLACEMENT
            | feature::BAD_BLOCKS);
    put32(bytes, v1::FEATURES, features);
    put64(bytes, v1::RECOVERY, 0);
    put64(bytes, v1::SUPER_OFFSET, sector);
    put32(bytes, v1::NUMBER + 4, 0);
    let _ = put(bytes, v1::DEVICE_FLAGS, &[0]);
    let at = |offset: u32| sector.checked_add_signed(i64::from(offset as i32));
    if features & feature::BITMAP != 0 {
        home.bitmap = at(get32(bytes, v1::BITMAP));
    }
    let log_sectors = u32::from(get16(bytes, v1::LOG_SECTORS));
    let log_offset = get32(bytes, v1::LOG_OFFSET);
    let usable = (1..=super::badblocks::SECTORS_MAX).contains(&log_sectors);
    if usable && log_offset != 0 {
        home.log = at(log_offset).map(|sector| Stretch {
            sector,
            sectors: log_sectors,
        });
    }
    if features & feature::LOGS != 0 {
        let by = i64::from(get16(bytes, v1::PPL_OFFSET) as i16);
        let log = sector.checked_add_signed(by).map(|sector| Stretch {
            sector,
            sectors: u32::from(get16(bytes, v1::PPL_SECTORS)),
        });
        let end = |log: &Stretch| log.sector.checked_add(u64::from(log.sectors));
        home.left_log = log.filter(|log| end(log).is_some_and(|end| end <= facts.size_sectors));
    }
    home.log_shift = array::<1>(bytes, v1::LOG_SHIFT).map_or(0, |[shift]| shift);
    home.data_offset = get64(bytes, v1::DATA_OFFSET);
    let tail = if version == Version::V10 {
        let logs = [home.log, home.left_log].map(|log| log.map(|log| log.sector));
        let places = [home.bitmap].into_iter().flatten();
        let first = Iterator::chain(places, logs.into_iter().flatten()).fold(sector, u64::min);
        sector.saturating_sub(first)
    } else {
        0
    };
    home.data_size = data_size(version, facts.size_sectors, home.data_offset, tail)
        .min(data_most.unwrap_or(u64::MAX));
    put64(bytes, v1::DATA_SIZE, home.data_size);
}

impl MdSet {
    /// The disk whose superblock tells most: a member's that has the newest count, where there is one. (Spares may be old.)
    fn newest_home(&self) -> Option<&Home> {
        let worth = |disk: DiskIndex, home: &Home| {
            let is_newest = !home.fresh && !self.is_behind(home);
            let is_member = self.slot_of(disk).is_some();
            (is_newest && is_member, is_newest, !home.fresh)
        };
        let mut best: Option<(DiskIndex, &Home)> = None;
        for (disk, home) in self.homes() {
            if best.is_none_or(|(other, known)| worth(disk, home) > worth(other, known)) {
                best = Some((disk, home));
            }
        }
        best.map(|(_, home)| home)
    }

    /// The superblock that all disks' first ones are made from.
    #[inline(never)]
    pub(super) fn first_super(
        &self,
        spec: &VolumeSpec<'_>,
        draft: &Draft,
        context: &Context,
    ) -> Checked<KVVec<u8>> {
        let mut bytes = KVVec::from_elem(0u8, SUPER_BYTES, GFP_KERNEL)?;
        let shape = &draft.shape;
        let (level, layout) = draft.numbers;
        let loose = matches!(shape.level, Level::Concat | Level::Raid0);
        let size = if loose { 0 } else { shape.member_sectors };
        put32(&mut bytes, 0, MAGIC);
        if self.version == Version::V090 {
            let [a, b, c, d] = [0, 4, 8, 12].map(|at| get32(&self.head.uuid, at));
            put32(&mut bytes, v0::MINOR, 90);
            put32(&mut bytes, v0::UUID, a);
            for (index, word) in [b, c, d].into_iter().enumerate() {
                put32(&mut bytes, v0::UUID_REST + 4 * index, word);
            }
            put32(&mut bytes, v0::CTIME, context.now_seconds as u32);
            put32(&mut bytes, v0::LEVEL, level as u32);
            put32(&mut bytes, v0::SIZE, (size / 2) as u32);
            put32(&mut bytes, v0::RAID_DISKS, u32::from(shape.members));
            let bitmap = draft.bitmap.map_or(0, |_| v0::BITMAP_PRESENT);
            put32(&mut bytes, v0::STATE, u32::from(loose) | bitmap);
            put32(&mut bytes, v0::LAYOUT, layout);
            // Linear members are counted in chunks too.
            let chunk = match shape.level {
                Level::Concat => ROUND_SECTORS as u32,
                _ => shape.chunk_sectors,
            };
            put32(&mut bytes, v0::CHUNK, chunk.saturating_mul(512));
            return Ok(bytes);
        }
        let members = spec.disks.iter().flatten();
        let members = members.filter_map(|&disk| self.set.disk(disk)?.facts);
        let sizes = members.clone().map(|facts| facts.size_sectors);
        let smallest = sizes.min().unwrap_or(0);
        // As md has it of new arrays: its blocks stay what they are, whatever disks join and leave.
        let block_bytes = members.map(|facts| facts.logical_block_bytes).max();
        put32(&mut bytes, v1::BLOCK, block_bytes.unwrap_or(0));
        put32(&mut bytes, v1::MAJOR, 1);
        // RAID 0 over equal members is the same in both layouts; the kernel wants one named.
        let (features, layout) = match shape.level {
            Level::Raid0 => (feature::RAID0_LAYOUT, 2),
            _ => (0, layout),
        };
        if let Some(new) = draft.bitmap {
            put32(&mut bytes, v1::BITMAP, new.offset as u32);
        }
        let bitmap = draft.bitmap.map_or(0, |_| feature::BITMAP);
        let own_room = own_room(smallest, spec.log) as i32;
        let ppl = match spec.log {
            true => {
                let offset = match self.version {
                    Version::V10 => (own_room + LOG_SECTORS as i32).wrapping_neg(),
                    _ => 8,
                };
                put16(&mut bytes, v1::PPL_OFFSET, offset as u16);
                put16(&mut bytes, v1::PPL_SECTORS, own_room as u16);
                feature::PPLS
            }
            false => 0,
        };
        put32(&mut bytes, v1::FEATURES, features | bitmap | ppl);
        let _ = put(&mut bytes, v1::UUID, &self.head.uuid);
        put64(&mut bytes, v1::CTIME, context.now_seconds & 0xFF_FFFF_FFFF);
        put32(&mut bytes, v1::LEVEL, level as u32);
        put32(&mut bytes, v1::LAYOUT, layout);
        put64(&mut bytes, v1::SIZE, size);
        put32(&mut bytes, v1::CHUNK, shape.chunk_sectors);
        put32(&mut bytes, v1::RAID_DISKS, u32::from(shape.members));
        put64(&mut bytes, v1::DATA_OFFSET, draft.data_offset);
        put64(&mut bytes, v1::RESYNC, u64::MAX);
        put16(&mut bytes, v1::LOG_SECTORS, LOG_SECTORS as u16);
        let log = match self.version {
            Version::V10 => (LOG_SECTORS as i32).wrapping_neg(),
            _ => 8 + own_room,
        };
        put32(&mut bytes, v1::LOG_OFFSET, log as u32);
        let roles = v1::ROLES_NEW.max((self.disks.len() as u32).next_multiple_of(64));
        put32(&mut bytes, v1::ROLES_MAX, roles);
        for number in 0..roles as usize {
            put16(&mut bytes, v1::ROLES + 2 * number, role::SPARE);
        }
        Ok(bytes)
    }
}
