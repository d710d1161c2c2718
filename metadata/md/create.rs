// SPDX-License-Identifier: GPL-2.0

//! New sets and arrays; renaming and deletion.
//!
//! md knows no set without an array: a new set is in memory only, until its array is made.
//! Where things go is mdadm's choice: 1.1 and 1.2 leave room between superblock and data for the
//! bitmap, the bad-block log and a reshape; 1.0 has them between data and superblock.

use super::super::bytes::put;
use super::assemble::{empty_set, label_of, volume_identity};
use super::bitmap;
use super::draft::{bitmap_room, data_offset, data_size, tail, Draft, ROUND_SECTORS};
use super::fresh::{home_from, made_uuid};
use super::head::Head;
use super::layout::*;
use super::set::{Bitmap, Home, MdSet, Meta};
use super::words;
use crate::model::{
    Access, Checked, Consistency, Context, CrashPolicy, Disk, DiskFacts, DiskIndex, DiskRole,
    DiskState, Level, Member, MemberState, RegionLog, Shape, Text, Volume, VolumeIndex, VolumeSpec,
    DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

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
        let (offset, room) = place_of_data(version, facts);
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
                apart: false,
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

/// Where data starts on a disk before the array's shape is known, and how many sectors there is room for.
fn place_of_data(version: Version, facts: &DiskFacts) -> (u64, u64) {
    let size = facts.size_sectors;
    let offset = data_offset(version, size, 0, bitmap_room(size));
    let tail = tail(version, facts, false);
    (offset, data_size(version, size, offset, tail))
}

/// Whether there is redundancy that can be established, now or when the array is started again: parity, when as many members
/// are left out, is what the rest is known by. (mdadm makes such arrays clean as well; dirty ones are not started.)
fn can_be_synced(shape: &Shape, members: &[Member]) -> bool {
    let open = members
        .iter()
        .filter(|member| member.disk.is_none())
        .count();
    let parity = usize::from(shape.level.parity_members());
    shape.level.is_redundant() && (parity == 0 || open < parity)
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
        let (_, room) = place_of_data(version, disk);
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

pub(super) fn check_name(version: Version, name: &str) -> Checked {
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

impl MdSet {
    /// Makes the bitmap that was drafted. Gives its log.
    #[inline(never)]
    fn make_bitmap(&mut self, draft: &Draft, clean: bool) -> Checked<Option<RegionLog>> {
        let Some(new) = draft.bitmap else {
            return Ok(None);
        };
        let len = bitmap::sectors(new.regions, 8) as usize * 512;
        let mut bytes = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
        let sync_sectors = draft.shape.sync_sectors(draft.size_sectors);
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
        let clean = spec.assume_clean || !can_be_synced(&draft.shape, &members);
        let regions = self.make_bitmap(&draft, clean)?;
        self.take_homes(homes, spec);
        if !spec.name.is_empty() {
            self.set_name(spec.name);
        }
        let (level, layout) = draft.numbers;
        let first = super::words::head_of(&self.head, &draft.shape, level, layout);
        self.head = first;
        let block_bytes = match self.version {
            Version::V090 => 0,
            _ => get32(&template, v1::BLOCK),
        };
        self.head.block_bytes = block_bytes;
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
                crash_policy: match spec.log {
                    true => CrashPolicy::Log,
                    false => CrashPolicy::Resync,
                },
                block_bytes,
                deleted: false,
            },
            GFP_KERNEL,
        )?;
        if spec.log {
            self.head.features |= feature::PPLS;
            self.left_log = true;
            self.row_sectors = super::left_log::LOG_SECTORS;
            self.fill_log_head();
        }
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

    /// [`crate::model::Event::VolumeDeleted`]: all superblocks are erased, those of members that count last.
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
        self.left_log = false;
        self.set.bad_ranges.clear();
        for (meta, model) in self.disks.iter_mut().zip(self.set.disks.iter_mut()) {
            meta.home = None;
            model.role = DiskRole::Unused;
        }
        self.touched.deleted = Some(volume);
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
