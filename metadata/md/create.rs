// SPDX-License-Identifier: GPL-2.0

//! New sets, arrays and disks; renaming and deletion.
//!
//! md knows no set without an array: a new set is in memory only, until its array is made.
//! Where things go is mdadm's choice: 1.1 and 1.2 leave room between superblock and data for the
//! bitmap, the bad-block log and a reshape; 1.0 has them between data and superblock.

use super::super::bytes::{array, put};
use super::assemble::{empty_set, label_of, volume_identity};
use super::bitmap;
use super::head::{Head, Stretch};
use super::layout::*;
use super::set::{image, Bitmap, Home, MdSet, Meta};
use super::words;
use crate::model::{
    Access, Checked, Consistency, Context, Disk, DiskFacts, DiskIndex, DiskRole, DiskState, Layout,
    Level, Member, MemberState, RegionLog, Shape, Text, Volume, VolumeIndex, VolumeSpec, DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Sectors of a new bad-block log.
const LOG_SECTORS: u32 = 8;

/// Members of levels without a chunk are whole multiples of this: 64 KiB.
const ROUND_SECTORS: u64 = 128;

/// Data of 1.1 and 1.2 starts at a multiple of this: 1 MiB.
const ALIGN_SECTORS: u64 = 2048;

/// Most room left for a reshape: 128 MiB.
const HEADROOM_SECTORS: u64 = 1 << 18;

/// A volume that could be made.
struct Draft {
    shape: Shape,
    numbers: (i32, u32),
    data_offset: u64,
    size_sectors: u64,
    bitmap: Option<NewBitmap>,
}

/// A bitmap that is made.
#[derive(Clone, Copy)]
struct NewBitmap {
    /// Sectors from the superblock.
    offset: i32,
    region_sectors: u64,
    regions: u32,
}

/// Members of redundant arrays that are longer than this get a bitmap: 100 GiB.
const BITMAP_FROM_SECTORS: u64 = 100 << 21;

/// Regions of a new bitmap, unless it needs larger ones to fit: 64 MiB.
const REGION_SECTORS: u64 = 1 << 17;

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

fn made_uuid(context: &Context, salt: u64) -> [u8; 16] {
    let mut uuid = [0u8; 16];
    let _ = put(&mut uuid, 0, &mixed(context, salt).to_le_bytes());
    let _ = put(&mut uuid, 8, &mixed(context, salt ^ u64::MAX).to_le_bytes());
    uuid
}

/// Room for a bitmap on a disk, as mdadm chooses it.
fn bitmap_room(size_sectors: u64) -> u64 {
    const GIB: u64 = 1 << 21;
    match size_sectors {
        size if size < 128 => 0,
        size if size.saturating_sub(128) >= 200 * GIB => 256,
        size if size.saturating_sub(8) > 8 * GIB => 128,
        _ => 8,
    }
}

/// Where data starts on a new array's smallest disk.
fn data_offset(version: Version, size_sectors: u64, chunk_sectors: u64) -> u64 {
    if matches!(version, Version::V090 | Version::V10) {
        return 0;
    }
    let mut headroom = HEADROOM_SECTORS;
    while headroom << 10 > size_sectors && headroom > chunk_sectors.max(1) {
        headroom >>= 1;
    }
    let before = 24 + bitmap_room(size_sectors) + headroom;
    before.next_multiple_of(ALIGN_SECTORS)
}

/// Sectors for data on a disk. `tail` are those of 1.0's own between data and superblock.
fn data_size(version: Version, size_sectors: u64, offset: u64, tail: u64) -> u64 {
    let end = match version {
        Version::V090 | Version::V10 => version.sector(size_sectors).unwrap_or(0),
        _ => size_sectors & !7,
    };
    end.saturating_sub(tail).saturating_sub(offset)
}

/// [`crate::metadata::Format::create`].
#[inline(never)]
pub fn create(
    version: Version,
    disks: &[DiskFacts],
    name: &str,
    context: &Context,
) -> Checked<KBox<MdSet>> {
    check_disks(version, disks)?;
    let mut head = Head::blank(version);
    head.uuid = made_uuid(context, 0x6D64);
    let mut bytes = [0u8; 32];
    check_name(version, name)?;
    let _ = put(&mut bytes, 0, name.as_bytes());
    let mut set = empty_set(&head, bytes)?;
    set.set.disks.reserve(disks.len(), GFP_KERNEL)?;
    set.disks.reserve(disks.len(), GFP_KERNEL)?;
    for (number, facts) in (0u32..).zip(disks) {
        let offset = data_offset(version, facts.size_sectors, 0);
        let room = data_size(version, facts.size_sectors, offset, tail(version, facts));
        set.set.disks.push(
            Disk {
                facts: Some(*facts),
                label: label_of(number),
                state: DiskState::Online,
                role: DiskRole::Unused,
                usable_sectors: offset.saturating_add(room),
                failure_predicted: false,
            },
            GFP_KERNEL,
        )?;
        set.disks.push(
            Meta {
                number,
                sector: None,
                keep_role: false,
                device: [0; 3],
                home: None,
            },
            GFP_KERNEL,
        )?;
    }
    set.set.reserve_bad_ranges()?;
    set.reserve_plan()?;
    Ok(set)
}

/// What 1.0 keeps between data and superblock on a new disk.
fn tail(version: Version, facts: &DiskFacts) -> u64 {
    match version {
        Version::V10 => u64::from(LOG_SECTORS) + bitmap_room(facts.size_sectors),
        _ => 0,
    }
}

/// Disks must have one block size, differ, and be large enough.
#[inline(never)]
fn check_disks(version: Version, disks: &[DiskFacts]) -> Checked {
    let Some(first) = disks.first() else {
        return Err(reason!(EINVAL, "a set needs at least one disk"));
    };
    let most = match version {
        Version::V090 => v0::DEVICES_MAX as usize,
        _ => DISKS_MAX,
    };
    if disks.len() > most {
        return Err(reason!(
            E2BIG,
            "{} disks are more than the {most} of {}",
            disks.len(),
            version.name()
        ));
    }
    if !matches!(first.logical_block_bytes, 512 | 4096) {
        return Err(reason!(
            EINVAL,
            "disks with blocks of {} bytes are not supported",
            first.logical_block_bytes
        ));
    }
    for (index, disk) in disks.iter().enumerate() {
        if disk.logical_block_bytes != first.logical_block_bytes {
            return Err(reason!(
                EINVAL,
                "disks with blocks of {} and of {} bytes cannot be in one set",
                first.logical_block_bytes,
                disk.logical_block_bytes
            ));
        }
        let offset = data_offset(version, disk.size_sectors, 0);
        let room = data_size(version, disk.size_sectors, offset, tail(version, disk));
        if version.sector(disk.size_sectors).is_none() || room < ROUND_SECTORS {
            return Err(reason!(
                ENOSPC,
                "a disk of {} sectors is too small for {}",
                disk.size_sectors,
                version.name()
            ));
        }
        if disks
            .iter()
            .skip(index + 1)
            .any(|other| other.key == disk.key)
        {
            return Err(reason!(EINVAL, "a disk is named twice"));
        }
    }
    Ok(())
}

fn check_name(version: Version, name: &str) -> Checked {
    if version == Version::V090 && !name.is_empty() {
        return Err(reason!(EINVAL, "md-0.90 has no place for a name"));
    }
    if name.len() > 32 || !name.bytes().all(|byte| (0x20..0x7F).contains(&byte)) {
        return Err(reason!(
            EINVAL,
            "a name has at most 32 printable ASCII characters"
        ));
    }
    Ok(())
}

/// The superblock and its surroundings on a disk that has none, after another one of the array.
#[inline(never)]
pub fn fresh_home(set: &MdSet, facts: &DiskFacts, number: u32, context: &Context) -> Checked<Home> {
    let model = set
        .homes()
        .find(|(_, home)| !home.fresh && !home.keep_recovery)
        .or_else(|| set.homes().next())
        .ok_or_else(|| reason!(ENODEV, "no disk of the array is here"))?;
    home_from(
        set.version,
        model.1.image(image::NEW),
        facts,
        number,
        None,
        context,
    )
}

#[inline(never)]
fn home_from(
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
        log_touched: false,
        bitmap_whole: false,
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
    home.log_shift = array::<1>(bytes, v1::LOG_SHIFT).map_or(0, |[shift]| shift);
    home.data_offset = get64(bytes, v1::DATA_OFFSET);
    let tail = if version == Version::V10 {
        let first = [home.bitmap, home.log.map(|log| log.sector)]
            .into_iter()
            .flatten()
            .fold(sector, u64::min);
        sector.saturating_sub(first)
    } else {
        0
    };
    home.data_size = data_size(version, facts.size_sectors, home.data_offset, tail)
        .min(data_most.unwrap_or(u64::MAX));
    put64(bytes, v1::DATA_SIZE, home.data_size);
}

impl MdSet {
    /// [`crate::metadata::MetadataSet::largest_volume`].
    pub fn largest(&self, spec: &VolumeSpec<'_>) -> Checked<u64> {
        let all = VolumeSpec {
            size_sectors: 0,
            ..*spec
        };
        let largest = self.draft(&all)?.size_sectors;
        // What is refused is refused here, before a new set is written.
        if spec.size_sectors <= largest {
            self.draft(spec)?;
        }
        Ok(largest)
    }

    /// Checks a specification and works out what it comes to.
    #[inline(never)]
    fn draft(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        if !self.set.volumes.is_empty() {
            return Err(reason!(
                EOPNOTSUPP,
                "an md set is one array: make another set for another one"
            ));
        }
        check_name(self.version, spec.name.as_str())?;
        let mut draft = self.draft_level(spec)?;
        self.check_spec_disks(spec, draft.shape.level)?;
        let smallest = spec
            .disks
            .iter()
            .flatten()
            .filter_map(|&disk| self.set.disk(disk)?.facts)
            .map(|facts| (facts.size_sectors, tail(self.version, &facts)))
            .min()
            .unwrap_or((0, 0));
        let chunk = u64::from(draft.shape.chunk_sectors);
        let unit = if chunk == 0 { ROUND_SECTORS } else { chunk };
        draft.data_offset = data_offset(self.version, smallest.0, chunk);
        let room = data_size(self.version, smallest.0, draft.data_offset, smallest.1);
        let room = match self.version {
            Version::V090 => room.min(v0::MEMBER_SECTORS_MAX),
            _ => room,
        };
        let most = room - room.checked_rem(unit).unwrap_or(0);
        draft.shape.member_sectors = most;
        let largest = words::capacity_sectors(&draft.shape);
        if largest == 0 {
            return Err(reason!(
                ENOSPC,
                "the disks have no {unit} sectors for data in common"
            ));
        }
        draft.size_sectors = largest;
        if spec.size_sectors != 0 {
            let loose = matches!(draft.shape.level, Level::Concat | Level::Raid0);
            if loose && self.version == Version::V090 {
                return Err(reason!(
                    EINVAL,
                    "md-0.90 always takes whole disks for {}",
                    draft.shape.level
                ));
            }
            let wanted = member_sectors_for(&draft.shape, spec.size_sectors, unit);
            draft.shape.member_sectors = wanted
                .filter(|&wanted| wanted <= most)
                .ok_or_else(|| reason!(ENOSPC, "at most {largest} sectors fit onto these disks"))?;
            // md has no size but that which follows: whole rows.
            draft.size_sectors = words::capacity_sectors(&draft.shape);
        }
        draft.bitmap = self.draft_bitmap(&draft.shape, draft.size_sectors, smallest.0);
        Ok(draft)
    }

    /// Level, layout, members, chunk.
    #[inline(never)]
    fn draft_level(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        let capabilities = super::capabilities(self.version);
        let found = capabilities
            .levels
            .iter()
            .find(|capability| capability.level == spec.level);
        let Some(capability) = found else {
            return Err(reason!(EOPNOTSUPP, "md has no {}", spec.level));
        };
        let (least, most) = capability.members;
        let count = spec.disks.len();
        if spec.spans != 1 || count < usize::from(least) || count > usize::from(most) {
            return Err(reason!(
                EINVAL,
                "{} takes {least} to {most} disks in one span, not {count} in {}",
                spec.level,
                spec.spans
            ));
        }
        let usual = capability.layouts.first().copied().unwrap_or(Layout::Plain);
        let layout = spec.layout.unwrap_or(usual);
        let numbers = words::numbers_of(spec.level, layout)
            .filter(|_| capability.layouts.contains(&layout))
            .ok_or_else(|| reason!(EINVAL, "{} of md has no layout {layout}", spec.level))?;
        let striped = !matches!(spec.level, Level::Concat | Level::Raid1);
        let chunk_sectors = match spec.chunk_sectors {
            _ if !striped => 0,
            0 => capabilities.chunk_sectors_default,
            chunk => chunk,
        };
        let (low, high) = capabilities.chunk_sectors;
        if striped && !(chunk_sectors.is_power_of_two() && (low..=high).contains(&chunk_sectors)) {
            return Err(reason!(
                EINVAL,
                "a chunk of {chunk_sectors} sectors is no power of two from {low} to {high}"
            ));
        }
        let copies = match layout {
            Layout::Near(copies) | Layout::Far(copies) | Layout::Offset(copies) => copies,
            _ => 1,
        };
        if usize::from(copies) > count {
            return Err(reason!(
                EINVAL,
                "{copies} copies need as many disks, not {count}"
            ));
        }
        Ok(Draft {
            shape: Shape {
                level: spec.level,
                layout,
                members: count as u16,
                spans: 1,
                chunk_sectors,
                member_sectors: 0,
            },
            numbers,
            data_offset: 0,
            size_sectors: 0,
            bitmap: None,
        })
    }

    /// The bitmap that an array gets by itself, as with mdadm: when a resync of it takes long.
    fn draft_bitmap(&self, shape: &Shape, size_sectors: u64, smallest: u64) -> Option<NewBitmap> {
        if !shape.level.is_redundant() || shape.member_sectors <= BITMAP_FROM_SECTORS {
            return None;
        }
        let room = match self.version {
            Version::V090 => v0::BITMAP_SECTORS,
            _ => bitmap_room(smallest),
        };
        let sync_sectors = words::sync_sectors(shape, size_sectors);
        let mut region_sectors = REGION_SECTORS;
        // Regions of 1 GiB are enough for what can be.
        while region_sectors < 1 << 21 {
            if let Ok(regions) = bitmap::regions(region_sectors, sync_sectors) {
                if u64::from(bitmap::sectors(regions, 8)) <= room {
                    break;
                }
            }
            region_sectors <<= 1;
        }
        let regions = bitmap::regions(region_sectors, sync_sectors).ok()?;
        if u64::from(bitmap::sectors(regions, 8)) > room {
            return None;
        }
        let offset = match self.version {
            Version::V10 => (room as i32 + LOG_SECTORS as i32).wrapping_neg(),
            _ => 8,
        };
        Some(NewBitmap {
            offset,
            region_sectors,
            regions,
        })
    }

    /// Makes the bitmap that was drafted. Gives its log.
    #[inline(never)]
    fn make_bitmap(&mut self, draft: &Draft, clean: bool) -> Checked<Option<RegionLog>> {
        let Some(new) = draft.bitmap else {
            return Ok(None);
        };
        let len = bitmap::sectors(new.regions, 8) as usize * 512;
        let mut bytes = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
        let sync_sectors = words::sync_sectors(&draft.shape, draft.size_sectors);
        let uuid = self.head.uuid;
        bitmap::format(&mut bytes, &uuid, 0, sync_sectors, new.region_sectors);
        if clean {
            let _ = bitmap::mark(&mut bytes, 0, new.regions, false);
        }
        let log = bitmap::log_of(&bytes, new.region_sectors, new.regions)?;
        self.bitmap = Some(Bitmap {
            bytes,
            region_sectors: new.region_sectors,
            regions: new.regions,
        });
        self.head.features |= feature::BITMAP;
        Ok(Some(log))
    }

    /// Members must be different, working disks; what is not named becomes a spare.
    #[inline(never)]
    fn check_spec_disks(&self, spec: &VolumeSpec<'_>, level: Level) -> Checked {
        for (slot, disk) in spec.disks.iter().enumerate() {
            let Some(disk) = *disk else { continue };
            let works = self
                .set
                .disk(disk)
                .is_some_and(|model| model.state == DiskState::Online && model.facts.is_some());
            if !works {
                return Err(reason!(
                    ENODEV,
                    "the set has no disk {disk} that works and is here"
                ));
            }
            if spec
                .disks
                .iter()
                .skip(slot + 1)
                .any(|other| *other == Some(disk))
            {
                return Err(reason!(EINVAL, "disk {disk} is named twice"));
            }
        }
        if spec.disks.iter().all(|disk| disk.is_none()) {
            return Err(reason!(EINVAL, "an array needs at least one disk"));
        }
        let left = self
            .set
            .live_disks()
            .find(|(index, _)| !spec.disks.contains(&Some(*index)));
        if let (Some((disk, _)), false) = (left, level.is_redundant()) {
            return Err(reason!(
                EINVAL,
                "disk {disk} is not named, and {level} has no spares"
            ));
        }
        Ok(())
    }

    /// [`crate::model::Event::VolumeCreated`].
    #[inline(never)]
    pub fn volume_created(&mut self, spec: &VolumeSpec<'_>, context: &Context) -> Checked {
        let draft = self.draft(spec)?;
        let members = self.new_members(spec, &draft)?;
        if !words::bears(&draft.shape, &members) {
            return Err(reason!(
                EINVAL,
                "{} cannot do without the members that are left out",
                draft.shape.level
            ));
        }
        let template = self.first_super(spec, &draft, context)?;
        let homes = self.new_homes(spec, &draft, &template, context)?;
        self.set.volumes.reserve(1, GFP_KERNEL)?;
        let clean = spec.assume_clean || !draft.shape.level.is_redundant();
        let regions = self.make_bitmap(&draft, clean)?;
        self.take_homes(homes, spec);
        if !spec.name.is_empty() {
            self.set_name(spec.name);
        }
        let (level, layout) = draft.numbers;
        let first = super::words::head_of(&self.head, &draft.shape, level, layout);
        self.head = first;
        self.in_flight = false;
        let name = self.set.name;
        self.set.volumes.push(
            Volume {
                id: volume_identity(&self.head.uuid),
                name,
                shape: draft.shape,
                size_sectors: draft.size_sectors,
                members,
                consistency: if clean {
                    Consistency::Clean
                } else {
                    Consistency::Initialising { done_sectors: 0 }
                },
                access: Access::ReadWrite,
                regions,
                stretches: KVec::new(),
                scrub: None,
                deleted: false,
            },
            GFP_KERNEL,
        )?;
        self.touched.all = true;
        Ok(())
    }

    fn new_members(&self, spec: &VolumeSpec<'_>, draft: &Draft) -> Checked<KVec<Member>> {
        let mut members = KVec::with_capacity(spec.disks.len(), GFP_KERNEL)?;
        for disk in spec.disks {
            members.push(
                Member {
                    disk: *disk,
                    offset_sectors: if disk.is_some() { draft.data_offset } else { 0 },
                    state: if disk.is_some() {
                        MemberState::InSync
                    } else {
                        MemberState::Missing
                    },
                },
                GFP_KERNEL,
            )?;
        }
        Ok(members)
    }

    /// The number that a disk gets: its slot, or one behind the slots.
    fn new_number(&self, disk: DiskIndex, spec: &VolumeSpec<'_>) -> u32 {
        if let Some(slot) = spec.disks.iter().position(|named| *named == Some(disk)) {
            return slot as u32;
        }
        let before = self
            .set
            .live_disks()
            .filter(|(index, _)| *index < disk && !spec.disks.contains(&Some(*index)))
            .count();
        (spec.disks.len() + before) as u32
    }

    fn new_homes(
        &self,
        spec: &VolumeSpec<'_>,
        draft: &Draft,
        template: &[u8],
        context: &Context,
    ) -> Checked<KVec<Option<Home>>> {
        let loose = matches!(draft.shape.level, Level::Concat | Level::Raid0);
        let most = loose.then_some(draft.shape.member_sectors);
        let mut homes = KVec::with_capacity(self.disks.len(), GFP_KERNEL)?;
        for index in 0..self.disks.len() as DiskIndex {
            let disk = self
                .set
                .disk(index)
                .filter(|disk| disk.state == DiskState::Online);
            let home = match disk.and_then(|disk| disk.facts) {
                None => None,
                Some(facts) => {
                    let number = self.new_number(index, spec);
                    let room = match self.version {
                        Version::V090 => v0::DEVICES_MAX,
                        _ => get32(template, v1::ROLES_MAX),
                    };
                    if number >= room {
                        return Err(reason!(E2BIG, "the array has room for {room} disks"));
                    }
                    let home = home_from(self.version, template, &facts, number, most, context)?;
                    if home.data_size < draft.shape.member_sectors {
                        return Err(reason!(
                            ENOSPC,
                            "disk {index} has room for {} sectors, members have {}",
                            home.data_size,
                            draft.shape.member_sectors
                        ));
                    }
                    Some(home)
                }
            };
            homes.push(home, GFP_KERNEL)?;
        }
        Ok(homes)
    }

    fn take_homes(&mut self, homes: KVec<Option<Home>>, spec: &VolumeSpec<'_>) {
        for (index, home) in (0u16..).zip(homes) {
            let number = self.new_number(index, spec);
            let (Some(meta), Some(model)) = (
                self.disks.get_mut(usize::from(index)),
                self.set.disks.get_mut(usize::from(index)),
            ) else {
                continue;
            };
            let Some(home) = home else { continue };
            meta.number = number;
            meta.sector = Some(home.sector);
            model.label = label_of(number);
            model.usable_sectors = home.data_offset.saturating_add(home.data_size);
            model.role = if spec.disks.contains(&Some(index)) {
                DiskRole::Member
            } else {
                DiskRole::GlobalSpare
            };
            meta.home = Some(home);
        }
    }

    /// The superblock that all disks' first ones are made from.
    #[inline(never)]
    fn first_super(
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
        let smallest = spec
            .disks
            .iter()
            .flatten()
            .filter_map(|&disk| self.set.disk(disk)?.facts)
            .map(|facts| facts.size_sectors)
            .min()
            .unwrap_or(0);
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
        put32(&mut bytes, v1::FEATURES, features | bitmap);
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
            _ => 8 + bitmap_room(smallest) as i32,
        };
        put32(&mut bytes, v1::LOG_OFFSET, log as u32);
        let roles = v1::ROLES_NEW.max((self.disks.len() as u32).next_multiple_of(64));
        put32(&mut bytes, v1::ROLES_MAX, roles);
        for number in 0..roles as usize {
            put16(&mut bytes, v1::ROLES + 2 * number, role::SPARE);
        }
        Ok(bytes)
    }

    /// [`crate::model::Event::VolumeDeleted`]: all superblocks are erased.
    #[inline(never)]
    pub fn volume_deleted(&mut self, volume: VolumeIndex) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        if let Some(model) = self.array_mut() {
            model.deleted = true;
        }
        self.in_flight = false;
        self.bitmap = None;
        self.set.bad_ranges.clear();
        for (meta, model) in self.disks.iter_mut().zip(self.set.disks.iter_mut()) {
            meta.home = None;
            model.role = DiskRole::Unused;
        }
        self.touched.erase_all = true;
        Ok(())
    }

    /// [`crate::model::Event::VolumeRenamed`].
    #[inline(never)]
    pub fn volume_renamed(&mut self, volume: VolumeIndex, name: Text<32>) -> Checked {
        self.live_volume(volume)?;
        self.check_whole()?;
        check_name(self.version, name.as_str())?;
        if self.version == Version::V090 {
            return Ok(());
        }
        self.set_name(name);
        if let Some(model) = self.array_mut() {
            model.name = name;
        }
        self.touched.all = true;
        Ok(())
    }

    fn set_name(&mut self, name: Text<32>) {
        self.name = [0; 32];
        let _ = put(&mut self.name, 0, name.as_str().as_bytes());
        self.set.name = name;
    }
}

/// Sectors of each member for `size_sectors` of users, in whole units.
fn member_sectors_for(shape: &Shape, size_sectors: u64, unit: u64) -> Option<u64> {
    let members = u64::from(shape.members.max(1));
    let parity = u64::from(shape.level.parity_members());
    let units = match shape.level {
        Level::Raid1 => size_sectors.div_ceil(unit),
        Level::Raid10 | Level::Raid1e => {
            let chunks = size_sectors.div_ceil(unit);
            match shape.layout {
                Layout::Near(copies) => chunks.checked_mul(u64::from(copies))?.div_ceil(members),
                Layout::Far(copies) | Layout::Offset(copies) => {
                    chunks.div_ceil(members).checked_mul(u64::from(copies))?
                }
                _ => return None,
            }
        }
        _ => {
            let data = members.checked_sub(parity).filter(|&data| data > 0)?;
            size_sectors.div_ceil(data).div_ceil(unit)
        }
    };
    units.checked_mul(unit)
}
