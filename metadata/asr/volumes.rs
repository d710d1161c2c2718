// SPDX-License-Identifier: GPL-2.0

//! Volumes: creation, deletion, renaming. A disk holds a part of one volume, from its first sector:
//! dmraid and the others ignore the field for where it starts.

use super::disks::spare_line;
use super::layout::*;
pub use super::read_volumes::capacity_sectors;
use super::set::{AsrSet, Form, Touched, VolumeMeta};
use crate::metadata::check_region_log;
use crate::model::{
    Access, Checked, Consistency, Context, CrashPolicy, DiskIndex, Identity, Layout, Level, Member,
    MemberState, Shape, Text, Volume, VolumeIndex, VolumeSpec,
};
use crate::reason;
use kernel::prelude::*;

/// Smallest chunk: 4 KiB.
pub const CHUNK_SECTORS_MIN: u32 = 8;
/// Largest chunk: 1 MiB. (The field has 16 bits, and of an array it counts all members.)
pub const CHUNK_SECTORS_MAX: u32 = 2048;
/// Chunk when the caller leaves it to the format: 64 KiB.
pub const CHUNK_SECTORS_DEFAULT: u32 = 128;

/// A volume that could be made.
struct Draft {
    shape: Shape,
    /// What lines have as their strip; mirrors too.
    strip: u32,
    size_sectors: u64,
}

impl AsrSet {
    /// [`crate::metadata::MetadataSet::largest_volume`].
    pub fn largest(&self, spec: &VolumeSpec<'_>) -> Checked<u64> {
        crate::metadata::largest_of(spec, |spec| Ok(self.draft(spec)?.size_sectors))
    }

    /// Checks a specification and works out what it comes to.
    #[inline(never)]
    fn draft(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        self.check_name(spec.name.as_str(), None)?;
        let mut draft = draft_level(spec)?;
        check_region_log("ASR", &super::CAPABILITIES, spec.level, spec.regions)?;
        self.check_company(spec.level)?;
        self.check_spec_disks(spec)?;
        let unit = u64::from(draft.strip);
        let data = capacity_sectors(&Shape {
            member_sectors: 1,
            ..draft.shape
        })
        .max(1);
        // The volume's size has 32 bits, too.
        let most = self
            .smallest_disk(spec)
            .min(u64::from(u32::MAX).checked_div(data).unwrap_or(0));
        let most = most - most.checked_rem(unit).unwrap_or(0);
        draft.shape.member_sectors = most;
        draft.size_sectors = capacity_sectors(&draft.shape);
        if most == 0 {
            return Err(reason!(ENOSPC, "the disks do not have {unit} sectors each"));
        }
        if spec.size_sectors != 0 {
            let largest = draft.size_sectors;
            let each = spec.size_sectors.div_ceil(data);
            // A mirror's members need not be of whole strips.
            let each = match draft.shape.chunk_sectors {
                0 => Some(each),
                chunk => each.checked_next_multiple_of(u64::from(chunk)),
            };
            draft.shape.member_sectors = each
                .filter(|&each| each <= most)
                .ok_or_else(|| reason!(ENOSPC, "at most {largest} sectors fit onto these disks"))?;
            draft.size_sectors = spec.size_sectors;
        }
        Ok(draft)
    }

    /// Sectors for data on the smallest of the named disks.
    fn smallest_disk(&self, spec: &VolumeSpec<'_>) -> u64 {
        spec.disks
            .iter()
            .flatten()
            .filter_map(|&disk| self.set.disk(disk))
            .map(|model| model.usable_sectors)
            .min()
            .unwrap_or(0)
    }

    /// dmraid takes all disks of a table that has a line of two levels for parts of that array.
    fn check_company(&self, level: Level) -> Checked {
        let two_levels = self
            .set
            .live_volumes()
            .any(|(_, volume)| volume.shape.level == Level::Raid10);
        let alone = self.table.volumes().next().is_none();
        if two_levels || level == Level::Raid10 && !alone {
            return Err(reason!(
                EOPNOTSUPP,
                "a raid10 is alone in a table: readers take all disks of such a table for its members"
            ));
        }
        let now = self.set.live_volumes().count();
        if now >= usize::from(super::CAPABILITIES.volumes_max) {
            return Err(reason!(ENOSPC, "the set has {now} volumes already"));
        }
        Ok(())
    }

    /// Disks must work, differ and be free; open slots must leave the data whole.
    #[inline(never)]
    fn check_spec_disks(&self, spec: &VolumeSpec<'_>) -> Checked {
        for (at, disk) in spec.disks.iter().enumerate() {
            let Some(disk) = *disk else { continue };
            self.usable_disk(disk)?;
            if let Some((volume, _, _)) = self.set.memberships(disk).next() {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is a member of volume {volume}: ASR has one volume on a disk"
                ));
            }
            if self.disk_line(disk).is_none() {
                return Err(reason!(ENODEV, "the table does not list disk {disk}"));
            }
            let twice = spec
                .disks
                .iter()
                .skip(at + 1)
                .any(|other| *other == Some(disk));
            if twice {
                return Err(reason!(EINVAL, "disk {disk} is named twice"));
            }
        }
        let width = match spec.level {
            Level::Raid0 => 1,
            _ => 2,
        };
        let empty = spec
            .disks
            .chunks(width)
            .any(|array| array.iter().all(Option::is_none));
        if empty {
            return Err(reason!(
                EINVAL,
                "{} cannot be without these of its members",
                spec.level
            ));
        }
        // Every line that is added: those of the arrays, and of open slots.
        let open = spec.disks.iter().filter(|disk| disk.is_none()).count();
        let arrays = match spec.level {
            Level::Raid10 => 3,
            _ => 1,
        };
        self.check_room(open.saturating_add(arrays))
    }

    fn check_name(&self, name: &str, own: Option<VolumeIndex>) -> Checked {
        let good = name
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'/');
        if name.len() > NAME_BYTES || !good || name.starts_with(' ') || name.ends_with(' ') {
            return Err(reason!(
                EINVAL,
                "a name is at most {NAME_BYTES} printable ASCII characters but /, no blank first or last"
            ));
        }
        let taken = self
            .set
            .live_volumes()
            .any(|(index, volume)| Some(index) != own && volume.name.as_str() == name);
        if taken && !name.is_empty() {
            return Err(reason!(EEXIST, "a volume called {name} exists"));
        }
        Ok(())
    }

    /// [`crate::model::Event::VolumeCreated`].
    #[inline(never)]
    pub fn volume_created(&mut self, spec: &VolumeSpec<'_>, context: &Context) -> Checked {
        let draft = self.draft(spec)?;
        let volume = u16::try_from(self.volumes.len())
            .map_err(|_| reason!(ENOSPC, "the set has seen too many volumes"))?;
        let magic = self.new_magic(context, 1 << 32);
        // dmraid knows arrays by name only: there has to be one.
        let name = if spec.name.is_empty() {
            Text::from_fmt(format_args!("{magic:08x}"))
        } else {
            spec.name
        };
        self.set.volumes.reserve(1, GFP_KERNEL)?;
        self.volumes.reserve(1, GFP_KERNEL)?;
        let mut members = KVec::with_capacity(spec.disks.len(), GFP_KERNEL)?;
        for disk in spec.disks {
            let state = match disk {
                Some(_) => MemberState::InSync,
                None => MemberState::Missing,
            };
            let member = Member {
                disk: *disk,
                offset_sectors: 0,
                state,
            };
            members.push(member, GFP_KERNEL)?;
        }
        for disk in spec.disks.iter().flatten() {
            let magic = self.disk_meta(*disk).map_or(0, |meta| meta.magic);
            self.unlist_spare(magic);
        }
        let clean = spec.assume_clean || !draft.shape.level.is_redundant();
        self.insert_lines(spec.disks, &draft, magic, name, clean, context);
        self.volumes.push(
            VolumeMeta {
                form: form_of(spec.level),
                magic,
                dirty: false,
            },
            GFP_KERNEL,
        )?;
        self.set.volumes.push(
            Volume {
                id: Identity::new(&magic.to_be_bytes()),
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
                regions: None,
                stretches: KVec::new(),
                scrub: None,
                crash_policy: CrashPolicy::Resync,
                block_bytes: 0,
                deleted: false,
            },
            GFP_KERNEL,
        )?;
        self.touch(Touched::Lines);
        self.refresh_volume(volume);
        for disk in spec.disks.iter().flatten() {
            self.refresh_role(*disk);
        }
        Ok(())
    }

    /// Puts the lines of a new volume in front of the list of spares.
    #[inline(never)]
    fn insert_lines(
        &mut self,
        disks: &[Option<DiskIndex>],
        draft: &Draft,
        magic: u32,
        name: Text<32>,
        clean: bool,
        context: &Context,
    ) {
        let mut at = self.table.spares().unwrap_or(self.table.len());
        let size = u32::try_from(draft.size_sectors).unwrap_or(u32::MAX);
        let each = u32::try_from(draft.shape.member_sectors).unwrap_or(u32::MAX);
        let form = form_of(draft.shape.level);
        let arrays = if form == Form::Stripes { 2 } else { 1 };
        let width = disks.len() / arrays;
        let strip = |count: usize| {
            let strip = u64::from(draft.strip).saturating_mul(count as u64);
            u16::try_from(strip).unwrap_or(u16::MAX)
        };
        let raid = match draft.shape.level {
            Level::Raid1 => raid::RAID1,
            _ => raid::RAID0,
        };
        let mut add = |set: &mut Self, mut line: Line| {
            line.set_name(name.as_str());
            set.table.insert(at, &line);
            at += 1;
        };
        let top = Line {
            magic,
            flags: if clean { FLAG_BUILT } else { 0 },
            capacity: size,
            strip: strip(width),
            ..Line::default()
        };
        if form == Form::Stripes {
            let line = Line {
                count: 2,
                kind: kind::DUAL,
                raid: raid::RAID1,
                ..top
            };
            add(self, line);
        }
        for nth in 0..arrays {
            let own = match form {
                Form::Stripes => self.new_magic(context, (2u64 << 32) + nth as u64),
                _ => magic,
            };
            let line = Line {
                count: u16::try_from(width).unwrap_or(0),
                magic: own,
                kind: kind::ARRAY,
                raid,
                ..top
            };
            add(self, line);
            for (slot, disk) in (0u16..).zip(disks) {
                if form.place_of(slot).0 != nth {
                    continue;
                }
                let magic = disk.and_then(|disk| self.disk_meta(disk).map(|meta| meta.magic));
                let line = Line {
                    magic: magic.unwrap_or(NO_MAGIC),
                    kind: kind::DISK,
                    raid,
                    state: match magic {
                        Some(_) => state::OPTIMAL,
                        None => state::FAILED,
                    },
                    id: u32::from(slot),
                    capacity: each,
                    strip: strip(1),
                    ..Line::default()
                };
                add(self, line);
            }
        }
    }

    /// [`crate::model::Event::VolumeDeleted`].
    #[inline(never)]
    pub fn volume_deleted(&mut self, volume: VolumeIndex) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        self.delete_lines(volume);
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.deleted = true;
        }
        self.touch(Touched::Lines);
        for index in 0..self.set.disks.len() {
            self.refresh_role(u16::try_from(index).unwrap_or(u16::MAX));
        }
        Ok(())
    }

    /// Takes the lines of a volume out, from the last to the first. Its disks become unconfigured
    /// ones; lines of unknown levels stay.
    fn delete_lines(&mut self, volume: VolumeIndex) {
        for _ in 0..LINES_MAX {
            let Some(top) = self.volume_line(volume) else {
                break;
            };
            let last =
                self.table.volume(top).rev().find_map(|index| {
                    Some((index, self.table.line(index).filter(Line::is_known)?))
                });
            let Some((index, line)) = last else { break };
            self.table.remove(index);
            if !line.names_disk() {
                continue;
            }
            let disk = self.by_magic(line.magic);
            let usable = disk
                .and_then(|disk| self.set.disk(disk))
                .map_or(u64::from(line.capacity), |model| model.usable_sectors);
            let state = if line.is_lost() {
                state::FAILED
            } else {
                state::UNCONFIGURED
            };
            if self.table.disk(line.magic).is_none() {
                self.list_spare(None, &spare_line(line.magic, state, usable));
            }
        }
    }

    /// [`crate::model::Event::VolumeRenamed`].
    #[inline(never)]
    pub fn volume_renamed(&mut self, volume: VolumeIndex, name: Text<32>) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        self.check_name(name.as_str(), Some(volume))?;
        if name.is_empty() {
            return Err(reason!(
                EINVAL,
                "ASR's readers know volumes by name: there has to be one"
            ));
        }
        let Some(top) = self.volume_line(volume) else {
            return Ok(());
        };
        for index in self.table.volume(top) {
            self.edit_line(index, Touched::Lines, |line| {
                if line.is_known() {
                    line.set_name(name.as_str());
                }
            });
        }
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.name = name;
        }
        Ok(())
    }
}

/// How EMD puts a volume's lines together. RAID 10 is a mirror over two stripes: dmraid takes every
/// array of arrays for a mirror, so this is the only way in which it finds the data.
fn form_of(level: Level) -> Form {
    match level {
        Level::Raid10 => Form::Stripes,
        _ => Form::One,
    }
}

/// Level, layout, members, chunk.
#[inline(never)]
fn draft_level(spec: &VolumeSpec<'_>) -> Checked<Draft> {
    let can = super::CAPABILITIES
        .levels
        .iter()
        .find(|can| can.level == spec.level);
    let Some(can) = can else {
        return Err(reason!(
            EOPNOTSUPP,
            "ASR has no {} that others could read: raid0, raid1 and raid10 only",
            spec.level
        ));
    };
    if spec.spans != 1 {
        return Err(reason!(EOPNOTSUPP, "ASR has no volumes of several spans"));
    }
    let layout = spec.layout.or_else(|| can.layouts.first().copied());
    let Some(layout) = layout.filter(|layout| can.layouts.contains(layout)) else {
        return Err(reason!(
            EOPNOTSUPP,
            "ASR has no {} with layout {}",
            spec.level,
            spec.layout.unwrap_or(Layout::Plain)
        ));
    };
    let count = spec.disks.len();
    let (least, most) = can.members;
    let even = spec.level != Level::Raid10 || count % 2 == 0;
    if count < usize::from(least) || count > usize::from(most) || !even {
        return Err(reason!(
            EINVAL,
            "{} takes {least} to {most} disks here{}, not {count}",
            spec.level,
            if even { "" } else { ", two for each mirror" }
        ));
    }
    let chunk = match spec.chunk_sectors {
        0 => CHUNK_SECTORS_DEFAULT,
        chunk => chunk,
    };
    let striped = spec.level != Level::Raid1;
    let fits = chunk.is_power_of_two()
        && (CHUNK_SECTORS_MIN..=CHUNK_SECTORS_MAX).contains(&chunk)
        && u64::from(chunk).saturating_mul(count as u64) <= u64::from(u16::MAX);
    if striped && !fits {
        return Err(reason!(
            EINVAL,
            "a chunk is a power of two from {CHUNK_SECTORS_MIN} to {CHUNK_SECTORS_MAX} sectors, and one \
             of each disk at most {} in all",
            u16::MAX
        ));
    }
    let strip = if striped {
        chunk
    } else {
        CHUNK_SECTORS_DEFAULT
    };
    Ok(Draft {
        shape: Shape {
            level: spec.level,
            layout,
            members: u16::try_from(count).unwrap_or(0),
            spans: 1,
            chunk_sectors: if striped { chunk } else { 0 },
            member_sectors: 0,
        },
        strip,
        size_sectors: 0,
    })
}
