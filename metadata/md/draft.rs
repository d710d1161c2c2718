// SPDX-License-Identifier: GPL-2.0

//! What a new array comes to: its shape, where its data starts, how large it is, and its bitmap. Nothing is changed here.

use super::bitmap;
use super::create::check_name;
use super::layout::*;
use super::set::MdSet;
use super::words;
use crate::metadata::check_region_log;
use crate::model::{Checked, DiskFacts, DiskState, Layout, Level, Shape, VolumeSpec};
use crate::reason;
use kernel::prelude::*;

/// Sectors of a new bad-block log.
pub(super) const LOG_SECTORS: u32 = 8;

/// Members of levels without a chunk are whole multiples of this: 64 KiB.
pub(super) const ROUND_SECTORS: u64 = 128;

/// Data of 1.1 and 1.2 starts at a multiple of this: 1 MiB.
const ALIGN_SECTORS: u64 = 2048;

/// Most room left for a reshape: 128 MiB.
const HEADROOM_SECTORS: u64 = 1 << 18;

/// A volume that could be made.
pub(super) struct Draft {
    pub(super) shape: Shape,
    pub(super) numbers: (i32, u32),
    pub(super) data_offset: u64,
    pub(super) size_sectors: u64,
    pub(super) bitmap: Option<NewBitmap>,
}

/// A bitmap that is made.
#[derive(Clone, Copy)]
pub(super) struct NewBitmap {
    /// Sectors from the superblock.
    pub(super) offset: i32,
    pub(super) region_sectors: u64,
    pub(super) regions: u32,
}

/// Members of redundant arrays that are longer than this get a bitmap: 100 GiB.
const BITMAP_FROM_SECTORS: u64 = 100 << 21;

/// Regions of a new bitmap, unless it needs larger ones to fit: 64 MiB. What is shorter than [`REGIONS_USUAL`] of them has that
/// many smaller ones, down to 4 MiB.
const REGION_SECTORS: u64 = 1 << 17;
const REGION_SECTORS_MIN: u64 = 1 << 13;
const REGIONS_USUAL: u64 = 1024;

/// Room for a bitmap on a disk, as mdadm chooses it.
pub(super) fn bitmap_room(size_sectors: u64) -> u64 {
    const GIB: u64 = 1 << 21;
    match size_sectors {
        size if size < 128 => 0,
        size if size.saturating_sub(128) >= 200 * GIB => 256,
        size if size.saturating_sub(8) > 8 * GIB => 128,
        _ => 8,
    }
}

/// The same where the array has a partial parity log, which takes the bitmap's place.
pub(super) fn own_room(size_sectors: u64, has_log: bool) -> u64 {
    match has_log {
        true => super::left_log::LOG_SECTORS.into(),
        false => bitmap_room(size_sectors),
    }
}

/// Where data starts on a new array's smallest disk. `room` is for its bitmap or partial parity log.
pub(super) fn data_offset(
    version: Version,
    size_sectors: u64,
    chunk_sectors: u64,
    room: u64,
) -> u64 {
    if matches!(version, Version::V090 | Version::V10) {
        return 0;
    }
    let mut headroom = HEADROOM_SECTORS;
    while headroom << 10 > size_sectors && headroom > chunk_sectors.max(1) {
        headroom >>= 1;
    }
    let before = 24 + room + headroom;
    before.next_multiple_of(ALIGN_SECTORS)
}

/// Sectors for data on a disk. `tail` are those of 1.0's own between data and superblock.
pub(super) fn data_size(version: Version, size_sectors: u64, offset: u64, tail: u64) -> u64 {
    let end = match version {
        Version::V090 | Version::V10 => version.sector(size_sectors).unwrap_or(0),
        _ => size_sectors & !7,
    };
    end.saturating_sub(tail).saturating_sub(offset)
}

/// What 1.0 keeps between data and superblock on a new disk.
pub(super) fn tail(version: Version, facts: &DiskFacts, has_log: bool) -> u64 {
    match version {
        Version::V10 => u64::from(LOG_SECTORS) + own_room(facts.size_sectors, has_log),
        _ => 0,
    }
}

impl MdSet {
    /// [`crate::metadata::MetadataSet::largest_volume`].
    pub fn largest(&self, spec: &VolumeSpec<'_>) -> Checked<u64> {
        crate::metadata::largest_of(spec, |spec| Ok(self.draft(spec)?.size_sectors))
    }

    /// Checks a specification and works out what it comes to.
    #[inline(never)]
    pub(super) fn draft(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        if !self.set.volumes.is_empty() {
            return Err(reason!(
                EOPNOTSUPP,
                "an md set is one array: make another set for another one"
            ));
        }
        check_name(self.version, spec.name.as_str())?;
        let mut draft = self.draft_level(spec)?;
        if spec.log && (spec.level != Level::Raid5 || self.version == Version::V090) {
            return Err(reason!(
                EOPNOTSUPP,
                "md has a partial parity log for RAID 5 with superblocks 1.x only, not for {} in {}",
                spec.level,
                self.version.name()
            ));
        }
        self.check_spec_disks(spec, draft.shape.level)?;
        let smallest = spec
            .disks
            .iter()
            .flatten()
            .filter_map(|&disk| self.set.disk(disk)?.facts)
            .map(|facts| (facts.size_sectors, tail(self.version, &facts, spec.log)))
            .min()
            .unwrap_or((0, 0));
        let chunk = u64::from(draft.shape.chunk_sectors);
        let unit = if chunk == 0 { ROUND_SECTORS } else { chunk };
        let room = own_room(smallest.0, spec.log);
        draft.data_offset = data_offset(self.version, smallest.0, chunk, room);
        let room = data_size(self.version, smallest.0, draft.data_offset, smallest.1);
        let takes_all = self.version == Version::V090
            && matches!(draft.shape.level, Level::Concat | Level::Raid0);
        if takes_all {
            self.check_equal(spec, unit)?;
        }
        let room = match self.version {
            Version::V090 if !takes_all => room.min(v0::MEMBER_SECTORS_MAX),
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
            if takes_all {
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
        draft.bitmap = self.draft_bitmap(spec, &draft, smallest.0)?;
        Ok(draft)
    }

    /// Members of 0.90's linear and RAID 0 have no size but that of their disks, in whole units: what is left of a larger one
    /// would be the array's when it is read again.
    fn check_equal(&self, spec: &VolumeSpec<'_>, unit: u64) -> Checked {
        let mut units = spec
            .disks
            .iter()
            .flatten()
            .filter_map(|&disk| self.set.disk(disk)?.facts)
            .map(|facts| data_size(self.version, facts.size_sectors, 0, 0) / unit.max(1));
        let first = units.next();
        if units.any(|other| Some(other) != first) {
            return Err(reason!(
                EINVAL,
                "md-0.90 always takes whole disks for {}: they have to be of one size",
                spec.level
            ));
        }
        Ok(())
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

    /// The bitmap that is asked for, or that an array gets by itself, as with mdadm: when a resync of it takes long.
    #[inline(never)]
    fn draft_bitmap(
        &self,
        spec: &VolumeSpec<'_>,
        draft: &Draft,
        smallest: u64,
    ) -> Checked<Option<NewBitmap>> {
        let shape = &draft.shape;
        let own = super::capabilities(self.version);
        check_region_log("md", own, shape.level, spec.regions)?;
        let is_asked_for = spec.regions == Some(true);
        if is_asked_for && spec.log {
            return Err(reason!(
                EOPNOTSUPP,
                "md has no bitmap beside a partial parity log: it is the one or the other"
            ));
        }
        let is_usual =
            shape.level.is_redundant() && shape.member_sectors > BITMAP_FROM_SECTORS && !spec.log;
        if !spec.regions.unwrap_or(is_usual) {
            return Ok(None);
        }
        let room = match self.version {
            Version::V090 => v0::BITMAP_SECTORS,
            _ => bitmap_room(smallest),
        };
        let sync_sectors = shape.sync_sectors(draft.size_sectors);
        let mut region_sectors = (sync_sectors / REGIONS_USUAL)
            .next_power_of_two()
            .clamp(REGION_SECTORS_MIN, REGION_SECTORS);
        // Regions of 1 GiB are enough for what can be.
        while region_sectors < 1 << 21 {
            if let Ok(regions) = bitmap::regions(region_sectors, sync_sectors) {
                if u64::from(bitmap::sectors(regions, 8)) <= room {
                    break;
                }
            }
            region_sectors <<= 1;
        }
        let regions = bitmap::regions(region_sectors, sync_sectors).ok();
        let fits = |&regions: &u32| u64::from(bitmap::sectors(regions, 8)) <= room;
        let Some(regions) = regions.filter(fits) else {
            return match is_asked_for {
                true => Err(reason!(
                    ENOSPC,
                    "the {room} sectors for a bitmap on the smallest disk are too few"
                )),
                false => Ok(None),
            };
        };
        let offset = match self.version {
            Version::V10 => (room as i32 + LOG_SECTORS as i32).wrapping_neg(),
            _ => 8,
        };
        Ok(Some(NewBitmap {
            offset,
            region_sectors,
            regions,
        }))
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
