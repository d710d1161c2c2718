// SPDX-License-Identifier: GPL-2.0

//! Volumes: creation, deletion, renaming. Places and sizes are those that mdadm chooses.

use super::disks::SPARE_GENERATION;
use super::layout::*;
use super::model::{data_members, place_of, MIB_SECTORS, MIRROR_STRIP_SECTORS};
use super::probe;
use super::set::ImsmSet;
use crate::metadata::check_region_log;
use crate::model::{
    Checked, Context, DiskIndex, Layout as Placement, Level, Shape, Text, VolumeIndex, VolumeSpec,
};
use crate::reason;
use kernel::prelude::*;

/// Chunk when the caller leaves it to the format: 128 KiB, mdadm's choice without firmware.
pub const CHUNK_SECTORS_DEFAULT: u32 = 256;
/// Smallest chunk: 4 KiB.
pub const CHUNK_SECTORS_MIN: u32 = 8;
/// Largest chunk: 1 MiB.
pub const CHUNK_SECTORS_MAX: u32 = 2048;

/// Sectors at the end of every disk that new volumes leave free: metadata (2210), and room for what
/// firmware keeps there (8192).
const RESERVED_SECTORS: u64 = 2210 + 8192;

/// Sectors between two volumes.
const GAP_SECTORS: u64 = 8192;

/// Sectors behind a volume's data on every member, where its partial parity log would be.
const LOG_SECTORS: u64 = 2048;

/// A volume that could be made.
struct Draft {
    shape: Shape,
    start_sectors: u64,
    size_sectors: u64,
}

impl ImsmSet {
    /// [`crate::metadata::MetadataSet::largest_volume`].
    pub fn largest(&self, spec: &VolumeSpec<'_>) -> Checked<u64> {
        crate::metadata::largest_of(spec, |spec| Ok(self.draft(spec)?.size_sectors))
    }

    /// Checks a specification and works out what it comes to.
    #[inline(never)]
    fn draft(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        if self.mpb.raw().volumes() >= VOLUMES_MADE_MAX {
            return Err(reason!(
                ENOSPC,
                "a set has {VOLUMES_MADE_MAX} volumes at most in Intel metadata"
            ));
        }
        self.check_name(spec.name.as_str(), None)?;
        let mut shape = self.draft_shape(spec)?;
        let own = &super::CAPABILITIES;
        check_region_log("Intel metadata", own, spec.level, spec.regions)?;
        self.check_spec_disks(spec)?;
        let (start_sectors, free) = self.free_stretch(spec);
        let data = data_members(&shape);
        let most = free - free % MIB_SECTORS;
        let largest = most.saturating_mul(data);
        if most == 0 {
            return Err(reason!(
                ENOSPC,
                "the disks have no free stretch of {MIB_SECTORS} sectors in common"
            ));
        }
        shape.member_sectors = most;
        let mut size_sectors = largest;
        if spec.size_sectors != 0 {
            let each = spec
                .size_sectors
                .div_ceil(data.max(1))
                .checked_next_multiple_of(MIB_SECTORS);
            shape.member_sectors = each
                .filter(|&sectors| sectors <= most)
                .ok_or_else(|| reason!(ENOSPC, "at most {largest} sectors fit onto these disks"))?;
            if spec.size_sectors.checked_rem(self.block_sectors()) != Some(0) {
                return Err(reason!(
                    EINVAL,
                    "a size of {} sectors is not a multiple of the disks' blocks",
                    spec.size_sectors
                ));
            }
            // All that is set aside belongs to it, as with mdadm: md would sync and compare the rest, too.
            size_sectors = shape.member_sectors.saturating_mul(data);
        }
        Ok(Draft {
            shape,
            start_sectors,
            size_sectors,
        })
    }

    /// Level, layout, members, chunk.
    #[inline(never)]
    fn draft_shape(&self, spec: &VolumeSpec<'_>) -> Checked<Shape> {
        let found = super::CAPABILITIES
            .levels
            .iter()
            .find(|capability| capability.level == spec.level);
        let Some(capability) = found else {
            return Err(reason!(EOPNOTSUPP, "Intel metadata has no {}", spec.level));
        };
        let layout = spec
            .layout
            .or(capability.layouts.first().copied())
            .unwrap_or(Placement::Plain);
        if !capability.layouts.contains(&layout) || spec.spans > 1 {
            return Err(reason!(
                EOPNOTSUPP,
                "Intel metadata has no {} with layout {layout} in {} spans",
                spec.level,
                spec.spans
            ));
        }
        let (least, most) = capability.members;
        let count = u16::try_from(spec.disks.len()).unwrap_or(u16::MAX);
        let even = spec.level != Level::Raid10 || count % 2 == 0;
        if count < least || count > most || !even {
            return Err(reason!(
                EINVAL,
                "{} takes {least} to {most} disks here{}, not {count}",
                spec.level,
                if even { "" } else { ", two for each mirror" }
            ));
        }
        let striped = spec.level != Level::Raid1;
        let chunk = match (striped, spec.chunk_sectors) {
            (false, _) => 0,
            (true, 0) => CHUNK_SECTORS_DEFAULT,
            (true, chunk) => chunk,
        };
        let fits =
            (CHUNK_SECTORS_MIN..=CHUNK_SECTORS_MAX).contains(&chunk) && chunk.is_power_of_two();
        if striped && !fits {
            return Err(reason!(
                EINVAL,
                "a chunk of {chunk} sectors is not a power of two from {CHUNK_SECTORS_MIN} to {CHUNK_SECTORS_MAX}"
            ));
        }
        Ok(Shape {
            level: spec.level,
            layout,
            members: count,
            spans: 1,
            chunk_sectors: chunk,
            member_sectors: 0,
        })
    }

    /// Disks must work and differ; a second volume is on the same disks as the first.
    #[inline(never)]
    fn check_spec_disks(&self, spec: &VolumeSpec<'_>) -> Checked {
        for (at, disk) in spec.disks.iter().enumerate() {
            let Some(disk) = *disk else {
                return Err(reason!(
                    EOPNOTSUPP,
                    "in Intel metadata a volume cannot start with a member missing"
                ));
            };
            self.usable_disk(disk)?;
            if spec
                .disks
                .iter()
                .skip(at + 1)
                .any(|other| *other == Some(disk))
            {
                return Err(reason!(EINVAL, "disk {disk} is named twice"));
            }
        }
        if self.mpb.raw().volumes() == 0 {
            return Ok(());
        }
        let is_listed = |entry: &u8| !self.is_spare_entry(*entry);
        let listed = (0..self.mpb.raw().disks()).filter(is_listed).count();
        let known = spec
            .disks
            .iter()
            .flatten()
            .filter(|&&disk| self.entry(disk).as_ref().is_some_and(is_listed))
            .count();
        if known != listed || known != spec.disks.len() {
            return Err(reason!(
                EINVAL,
                "a second volume is on the same {listed} disks as the first"
            ));
        }
        for (index, volume) in self.set.live_volumes() {
            if volume.members.iter().any(super::model::is_lost) {
                return Err(reason!(
                    EBUSY,
                    "volume {index} has lost a member: replace it first"
                ));
            }
        }
        Ok(())
    }

    /// First sector and length of the longest stretch that is free on all disks.
    fn free_stretch(&self, spec: &VolumeSpec<'_>) -> (u64, u64) {
        let end = spec
            .disks
            .iter()
            .flatten()
            .filter_map(|&disk| self.set.disk(disk)?.facts)
            .map(|facts| facts.size_sectors.saturating_sub(RESERVED_SECTORS))
            .min()
            .unwrap_or(0);
        let used = || {
            let raw = self.mpb.raw();
            (0..raw.volumes()).map(move |index| {
                let map = raw.map_at(raw.volume_at(index), Which::First);
                let start = raw.wide(map + map::START_LO, map + map::START_HI);
                let blocks = raw.wide(map + map::BLOCKS_LO, map + map::BLOCKS_HI);
                let scale = self.block_sectors();
                let start = start.saturating_mul(scale);
                (start, start.saturating_add(blocks.saturating_mul(scale)))
            })
        };
        let behind = |used_end: u64| {
            let start = used_end
                .saturating_add(GAP_SECTORS)
                .checked_next_multiple_of(MIB_SECTORS);
            start.unwrap_or(u64::MAX)
        };
        let starts = Iterator::chain(core::iter::once(0), used().map(|(_, end)| behind(end)));
        starts
            .filter(|&start| !used().any(|(from, to)| start >= from && start < to))
            .map(|start| {
                let next = used()
                    .map(|(from, _)| from)
                    .filter(|&from| from >= start)
                    .map(|from| from.saturating_sub(GAP_SECTORS + LOG_SECTORS))
                    .min()
                    .unwrap_or(end);
                (start, next.min(end).saturating_sub(start))
            })
            .max_by_key(|&(_, len)| len)
            .unwrap_or((0, 0))
    }

    /// [`crate::model::Event::VolumeCreated`].
    #[inline(never)]
    pub fn volume_created(&mut self, spec: &VolumeSpec<'_>, context: &Context) -> Checked {
        let draft = self.draft(spec)?;
        self.set.volumes.reserve(1, GFP_KERNEL)?;
        self.volumes.reserve(1, GFP_KERNEL)?;
        self.reserve_plan()?;
        let blocks = self.draft_blocks(&draft)?;
        self.list_disks(spec)?;
        self.go_modern();
        let index = self.mpb.raw().volumes();
        let members = u8::try_from(draft.shape.members).unwrap_or(0);
        let at = self.mpb.add_volume(members)?;
        self.fill_volume(at, spec, &draft, &blocks, context);
        let mut model = self.read_volume(index)?;
        model.name = Text::from_disk(&self.mpb.raw().array::<TEXT_BYTES>(at + volume::NAME));
        self.set.volumes.push(model, GFP_KERNEL)?;
        self.volumes.push(Some(index), GFP_KERNEL)?;
        for disk in spec.disks.iter().flatten() {
            self.refresh_role(*disk);
        }
        self.changed = true;
        Ok(())
    }

    /// Start, length on each member, stripes, strip: in blocks, as a map has them.
    fn draft_blocks(&self, draft: &Draft) -> Checked<[u64; 4]> {
        let scale = self.block_sectors();
        let strip = match draft.shape.chunk_sectors {
            0 => MIRROR_STRIP_SECTORS,
            chunk => u64::from(chunk),
        };
        let copies = match draft.shape.level {
            Level::Raid1 | Level::Raid10 => 2,
            _ => 1,
        };
        let whole = |sectors: u64| sectors.checked_div(scale).unwrap_or(0);
        let reserved = draft.shape.member_sectors.saturating_add(LOG_SECTORS);
        let stripes = draft
            .shape
            .member_sectors
            .checked_div(strip.saturating_mul(copies))
            .ok_or_else(|| reason!(EINVAL, "internal: a chunk of nothing"))?;
        Ok([
            whole(draft.start_sectors),
            whole(reserved),
            stripes,
            whole(strip),
        ])
    }

    /// Gives the disks of a new volume entries.
    fn list_disks(&mut self, spec: &VolumeSpec<'_>) -> Checked {
        for disk in spec.disks.iter().flatten() {
            let Some(facts) = self.set.disk(*disk).and_then(|model| model.facts) else {
                continue;
            };
            self.configure(*disk);
            let Some(meta) = self.disk_meta(*disk).filter(|meta| meta.entry.is_none()) else {
                continue;
            };
            let serial = meta.serial;
            let blocks = probe::blocks(&facts).map_or(0, |(blocks, _)| blocks);
            let entry = self.mpb.add_disk(&serial, blocks, disk::CONFIGURED)?;
            if let Some(meta) = self.disk_meta_mut(*disk) {
                meta.entry = Some(entry);
            }
            self.log_listed(*disk)?;
        }
        Ok(())
    }

    /// Raises the version to the one with attributes, as mdadm does for every volume it makes.
    fn go_modern(&mut self) {
        if self.mpb.raw().is_modern() {
            return;
        }
        self.mpb.put(header::VERSION, VERSION_ATTRIBUTES);
        self.mpb.put32(header::ATTRIBUTES, attribute::CHECKSUM);
        let log = self
            .mpb
            .raw()
            .bad_log_at()
            .map_or(0, |_| attribute::BAD_LOG);
        self.mpb.set_attributes(log, 0);
        for index in 0..self.mpb.raw().volumes() {
            let raw = self.mpb.raw();
            let at = raw.volume_at(index);
            let size = raw.pair(at + volume::SIZE, at + volume::SIZE + 4);
            let (level, members) = place_of(raw, raw.map_at(at, Which::First), size, 1)
                .map(|place| (place.shape.level, place.shape.members))
                .unwrap_or((Level::Raid0, 0));
            self.mpb
                .set_attributes(attributes_of(level, members, size), 0);
        }
    }

    /// Writes the record of a new volume at `at`.
    #[inline(never)]
    fn fill_volume(
        &mut self,
        at: usize,
        spec: &VolumeSpec<'_>,
        draft: &Draft,
        blocks: &[u64; 4],
        context: &Context,
    ) {
        let raw = self.mpb.raw();
        let number = raw.u16(header::VOLUMES_CREATED).saturating_add(1);
        if raw.volumes() == 1 && raw.pair(header::CREATED, header::CREATED + 4) == 0 {
            let now = context.now_seconds;
            self.mpb.put_pair(header::CREATED, header::CREATED + 4, now);
        }
        self.mpb.put16(header::VOLUMES_CREATED, number);
        let size = draft
            .size_sectors
            .checked_div(self.block_sectors())
            .unwrap_or(0);
        let mpb = &mut self.mpb;
        if spec.name.is_empty() {
            // The names that Intel's own tools give.
            let place = usize::from(number.saturating_sub(1) % 10);
            let digit = b"0123456789".get(place).copied().unwrap_or(b'0');
            mpb.put(at + volume::NAME, b"Volume");
            mpb.put8(at + volume::NAME + 6, digit);
        } else {
            mpb.put(at + volume::NAME, spec.name.as_str().as_bytes());
        }
        mpb.put_pair(at + volume::SIZE, at + volume::SIZE + 4, size);
        mpb.put32(at + volume::STATUS, volume::COALESCING);
        mpb.put16(at + volume::NUMBER, number);
        mpb.put8(at + volume::HOLE_POLICY, volume::POLICY_OFF);
        let map = at + volume::BYTES;
        let [start, reserved, stripes, strip] = *blocks;
        if (start | reserved | stripes) >> 32 != 0 {
            mpb.count_high_words();
        }
        mpb.put_pair(map + map::START_LO, map + map::START_HI, start);
        mpb.put_pair(map + map::BLOCKS_LO, map + map::BLOCKS_HI, reserved);
        mpb.put_pair(map + map::STRIPES_LO, map + map::STRIPES_HI, stripes);
        mpb.put16(map + map::STRIP, u16::try_from(strip).unwrap_or(0));
        let (level, members) = (draft.shape.level, draft.shape.members);
        let (code, domains) = match level {
            Level::Raid10 if members > 4 => (10, 2),
            // Of four members it has always been called that.
            Level::Raid1 | Level::Raid10 => (1, 2),
            Level::Raid5 => (5, 1),
            _ => (0, 1),
        };
        let unsynced = level.is_redundant() && !spec.assume_clean;
        let state = if unsynced {
            map::UNINITIALISED
        } else {
            map::NORMAL
        };
        for (offset, value) in [
            (map::STATE, state),
            (map::LEVEL, code),
            (map::DOMAINS, domains),
            (map::FAILED, u8::MAX),
            (map::DDF, 1),
        ] {
            mpb.put8(map + offset, value);
        }
        mpb.set_attributes(attributes_of(level, members, size), 0);
        for (slot, disk) in spec.disks.iter().enumerate() {
            let entry = disk.and_then(|disk| self.entry(disk)).unwrap_or(0);
            let order = map + map::ORDER + 4 * slot;
            self.mpb.put32(order, u32::from(entry));
        }
    }

    /// [`crate::model::Event::VolumeDeleted`]. Disks become spares that are in no other one, also those whose place in it was
    /// kept for them.
    #[inline(never)]
    pub fn volume_deleted(&mut self, volume: VolumeIndex, context: &Context) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        self.forget_bad_ranges_of(volume)?;
        let index = self
            .volumes
            .get_mut(usize::from(volume))
            .and_then(Option::take);
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.deleted = true;
        }
        if let Some(index) = index {
            self.mpb.drop_volume(index);
            for other in self.volumes.iter_mut().flatten() {
                if *other > index {
                    *other -= 1;
                }
            }
        }
        self.changed = true;
        if self.mpb.raw().volumes() == 0 {
            let _ = self.mpb.resize_bad_log(0)?;
            let generation = self.next_generation();
            self.drop_unnamed(true, context, generation)?;
        } else {
            self.drop_unnamed(false, context, SPARE_GENERATION)?;
        }
        for disk in 0..self.disks.len() {
            self.refresh_role(disk as DiskIndex);
        }
        Ok(())
    }

    /// [`crate::model::Event::VolumeRenamed`].
    #[inline(never)]
    pub fn volume_renamed(&mut self, volume: VolumeIndex, name: Text<32>) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        if name.is_empty() {
            return Err(reason!(EINVAL, "a volume needs a name"));
        }
        self.check_name(name.as_str(), Some(volume))?;
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        self.mpb.put(at + volume::NAME, &[0; TEXT_BYTES]);
        self.mpb.put(at + volume::NAME, name.as_str().as_bytes());
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.name = name;
        }
        self.changed = true;
        Ok(())
    }

    /// Names must be ones that firmware and mdadm take, and differ.
    fn check_name(&self, name: &str, own: Option<VolumeIndex>) -> Checked {
        let bytes = name.as_bytes();
        if bytes.len() > TEXT_BYTES {
            return Err(reason!(
                EINVAL,
                "\"{name}\" is longer than the {TEXT_BYTES} bytes that Intel metadata has for a name"
            ));
        }
        let printable = bytes
            .iter()
            .all(|byte| (b' '..0x7f).contains(byte) && *byte != b'/');
        let framed = bytes
            .first()
            .is_some_and(|byte| matches!(byte, b' ' | b'.'))
            || bytes.last() == Some(&b' ');
        if !printable || framed {
            return Err(reason!(
                EINVAL,
                "\"{name}\" cannot be a name here: printable ASCII without '/', no '.' or blank in front, \
                 no blank at the end"
            ));
        }
        let taken = self
            .set
            .live_volumes()
            .any(|(index, volume)| Some(index) != own && volume.name.as_str() == name);
        if taken && !name.is_empty() {
            return Err(reason!(EEXIST, "the set has a volume \"{name}\" already"));
        }
        Ok(())
    }
}

/// Attributes that a volume needs.
fn attributes_of(level: Level, members: u16, size_blocks: u64) -> u32 {
    let by_level = match level {
        Level::Raid0 => attribute::RAID0,
        Level::Raid1 => attribute::RAID1,
        Level::Raid10 if members > 4 => attribute::RAID10 | attribute::RAID10_WIDE,
        Level::Raid10 | Level::Raid1e => attribute::RAID10,
        Level::Raid5 => attribute::RAID5,
        _ => 0,
    };
    let big = if size_blocks >> 32 != 0 {
        attribute::BIG_VOLUME
    } else {
        0
    };
    by_level | big
}
