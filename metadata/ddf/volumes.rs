// SPDX-License-Identifier: GPL-2.0

//! Events about volumes: creation, deletion, renaming.

use super::config::{self, NewRecord, LOST_REFERENCE};
use super::create::volume_guid;
use super::draft::Draft;
use super::layout::*;
use super::set::{ddf_time, DdfSet, VolumeMeta};
use super::tables;
use super::vendor_log::region_log;
use crate::model::{
    Access, Checked, Consistency, Context, CrashPolicy, DiskIndex, Identity, Member, MemberState,
    Shape, Text, Volume, VolumeIndex, VolumeSpec, VOLUMES_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 16;

impl DdfSet {
    /// The volume, unless it was deleted or is not to be used.
    pub fn live_volume(&self, volume: VolumeIndex) -> Checked<&Volume> {
        let model = self
            .set
            .volume(volume)
            .ok_or_else(|| reason!(ENOENT, "the set has no volume {volume}"))?;
        match &model.access {
            Access::Refused(why) => Err(reason!(EACCES, "volume {volume}: {}", why.text())),
            _ => Ok(model),
        }
    }

    /// Checks a volume's name; `own` is the volume that may have it already.
    pub fn check_name(&self, name: &str, own: Option<VolumeIndex>) -> Checked {
        let printable = name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if name.len() > NAME_BYTES_MAX || !printable || name.ends_with(' ') {
            return Err(reason!(
                EINVAL,
                "a name is at most {NAME_BYTES_MAX} printable ASCII characters, no blank last"
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
        let endian = self.layout.endian;
        let entry = tables::first_unused(&self.vd, endian, self.layout.vd_entries);
        let Some(entry) = entry.filter(|_| self.set.live_volumes().count() < VOLUMES_MAX) else {
            return Err(reason!(
                ENOSPC,
                "the set's list of {} volumes is full",
                self.layout.vd_entries
            ));
        };
        let volume = u16::try_from(self.volumes.len())
            .map_err(|_| reason!(ENOSPC, "the set has seen too many volumes"))?;
        let members = self.place_members(spec, &draft.shape)?;
        let regions = region_log(&draft.shape, draft.size_sectors)?;
        let guid = volume_guid(context);
        let records = self.make_records(&draft, &members, &guid, ddf_time(context))?;
        let clean = spec.assume_clean || !draft.shape.level.is_redundant();
        let number = self.unused_number();
        let meta = VolumeMeta {
            entry: Some(entry),
            guid,
            record_guid: guid,
            width: draft.width,
            records,
            log_slot: None,
            hole: Default::default(),
        };
        self.push_volume(spec.name, &draft, members, clean, meta)?;
        self.fill_volume_entry(entry, &guid, number, spec.name, clean);
        self.refresh_vde(volume);
        self.spread_records(volume);
        self.start_volume_log(volume, regions);
        self.touched.records_first = true;
        Ok(())
    }

    /// Appends a new volume to the model.
    #[inline(never)]
    fn push_volume(
        &mut self,
        name: Text<32>,
        draft: &Draft,
        members: KVec<Member>,
        clean: bool,
        meta: VolumeMeta,
    ) -> Checked {
        self.set.volumes.reserve(1, GFP_KERNEL)?;
        self.volumes.reserve(1, GFP_KERNEL)?;
        let volume = Volume {
            id: Identity::new(&meta.guid),
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
        };
        self.volumes.push(meta, GFP_KERNEL)?;
        self.set.volumes.push(volume, GFP_KERNEL)?;
        Ok(())
    }

    /// Finds a stretch for every member.
    fn place_members(&self, spec: &VolumeSpec<'_>, shape: &Shape) -> Checked<KVec<Member>> {
        let mut members = KVec::with_capacity(spec.disks.len(), GFP_KERNEL)?;
        for disk in spec.disks {
            let start = match *disk {
                Some(disk) => self
                    .first_fit(disk, shape.member_sectors, u64::from(shape.chunk_sectors))
                    .ok_or_else(|| reason!(ENOSPC, "disk {disk} has no free stretch left"))?,
                None => 0,
            };
            members.push(new_member(*disk, start), GFP_KERNEL)?;
        }
        Ok(members)
    }

    /// The configuration records of a new volume, one for each span.
    fn make_records(
        &self,
        draft: &Draft,
        members: &[Member],
        guid: &Guid,
        time: u32,
    ) -> Checked<KVVec<u8>> {
        let layout = self.layout;
        let len = layout.record_bytes as usize;
        let spans = usize::from(draft.spans);
        let width = usize::from(draft.width).max(1);
        let mut records = KVVec::from_elem(0xFFu8, spans.saturating_mul(len), GFP_KERNEL)?;
        let new = NewRecord {
            guid: *guid,
            time,
            members: draft.width,
            strip: draft.strip,
            level: draft.prl,
            qualifier: draft.rlq,
            spans: u8::try_from(spans).unwrap_or(u8::MAX),
            second_level: draft.second_level,
            member_blocks: layout.blocks(draft.shape.member_sectors),
            volume_blocks: layout.blocks(draft.size_sectors),
        };
        let pairs = records
            .chunks_exact_mut(len.max(1))
            .zip(members.chunks(width));
        for (span, (bytes, members)) in (0u8..).zip(pairs) {
            config::format(bytes, &layout, &new, span);
            for (position, member) in (0u16..).zip(members) {
                let reference = member
                    .disk
                    .and_then(|disk| self.disk_meta(disk))
                    .map_or(LOST_REFERENCE, |meta| meta.reference);
                let start = layout.blocks(member.offset_sectors);
                config::set_member(bytes, &layout, position, reference, start);
            }
            layout.crc.seal(bytes, layout.endian);
        }
        Ok(records)
    }

    /// Puts the records of a new volume onto its members' disks.
    fn spread_records(&mut self, volume: VolumeIndex) {
        let Some(model) = self.set.volume(volume) else {
            return;
        };
        let (total, width) = (model.members.len(), self.width(volume));
        let len = self.layout.record_bytes as usize;
        for slot in 0..u16::try_from(total).unwrap_or(0) {
            let disk = self
                .set
                .volume(volume)
                .and_then(|v| v.members.get(usize::from(slot)))
                .and_then(|member| member.disk);
            let Some(disk) = disk else { continue };
            let free = self.free_slot(disk);
            let from = usize::from(slot / width).saturating_mul(len);
            if let (Some(index), Some(meta), Some(home)) = (
                free,
                self.volumes.get(usize::from(volume)),
                self.disks
                    .get_mut(usize::from(disk))
                    .and_then(|meta| meta.home.as_mut()),
            ) {
                // A disk is no spare any more once it holds data.
                home.drop_spare();
                if let Some(bytes) = super::super::bytes::slice(&meta.records, from, len) {
                    home.edit_slot(index, |target| {
                        let _ = super::super::bytes::put(target, 0, bytes);
                    });
                }
                self.touched.homes = true;
            }
            self.edit_pde(disk, |kind, state| {
                let kind = kind & !(pde::GLOBAL_SPARE | pde::DEDICATED_SPARE);
                (kind | pde::ACTIVE, state | pde::ONLINE)
            });
            self.refresh_role(disk);
        }
    }

    /// Writes the entry of a new volume.
    fn fill_volume_entry(
        &mut self,
        entry: u16,
        guid: &Guid,
        number: u16,
        name: Text<32>,
        clean: bool,
    ) {
        let endian = self.layout.endian;
        let owner = get_guid(&self.controller, 8);
        let owner = super::crc::run(0, &owner).to_le_bytes();
        let mut bytes = tables::entry_mut(&mut self.vd, endian, entry);
        bytes.fill_volume(guid, number, u16::from_le_bytes([owner[0], owner[1]]));
        bytes.set_name(name.as_str());
        bytes.set_volume_init(if clean { vde::INIT_DONE } else { 0 });
        let count = tables::count(&self.vd, endian).saturating_add(1);
        tables::set_count(&mut self.vd, endian, count);
        self.touch_entry(Section::Volumes, entry);
    }

    /// Smallest unit number that no entry has.
    fn unused_number(&self) -> u16 {
        let endian = self.layout.endian;
        let taken = |number: u16| {
            (0..self.layout.vd_entries)
                .map(|index| tables::entry(&self.vd, endian, index))
                .any(|entry| entry.used() && entry.number() == number)
        };
        (0..self.layout.vd_entries)
            .find(|&number| !taken(number))
            .unwrap_or(0)
    }

    /// [`crate::model::Event::VolumeDeleted`].
    #[inline(never)]
    pub fn volume_deleted(&mut self, volume: VolumeIndex) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        let Some(meta) = self.volumes.get_mut(usize::from(volume)) else {
            return Ok(());
        };
        let (guid, record_guid) = (meta.guid, meta.record_guid);
        let entry = meta.entry.take();
        meta.log_slot = None;
        meta.hole = Default::default();
        self.forget_bad_ranges_of(volume);
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.deleted = true;
            model.regions = None;
        }
        for disk in 0..self.disks.len() {
            let Ok(disk) = u16::try_from(disk) else { break };
            self.erase_traces(disk, &guid, &record_guid);
        }
        if let Some(entry) = entry {
            self.drop_volume_entry(entry);
        }
        Ok(())
    }

    /// Bad ranges in the members of a volume that goes mean nothing any more.
    fn forget_bad_ranges_of(&mut self, volume: VolumeIndex) {
        for slot in 0.. {
            let Some(model) = self.set.volume(volume) else {
                return;
            };
            let Some(member) = model.members.get(slot) else {
                return;
            };
            let first = member.offset_sectors;
            let end = first.saturating_add(model.shape.member_sectors);
            if let Some(disk) = member.disk {
                self.forget_bad_ranges(disk, first, end);
            }
        }
    }

    /// Erases a deleted volume's records, and spare assignments to it alone, from a disk.
    fn erase_traces(&mut self, disk: DiskIndex, guid: &Guid, record_guid: &Guid) {
        let mut unspare = false;
        let mut touched = false;
        if let Some(home) = self.home_mut(disk) {
            for index in home.slots() {
                if home.record(index).is_some_and(|r| r.guid() == *record_guid) {
                    home.edit_slot(index, |bytes| bytes.fill(0xFF));
                    touched = true;
                }
            }
            if let Some(index) = home.spare_slot() {
                let bytes = config::slot_bytes(&home.config, &home.layout, index);
                let first = config::spare::volume(bytes, &home.layout, 0);
                let second = config::spare::volume(bytes, &home.layout, 1);
                unspare = config::spare::dedicated(bytes)
                    && second.is_none()
                    && first.is_some_and(|first| guid_same(&first, guid));
            }
            if unspare {
                home.drop_spare();
                touched = true;
            }
        }
        self.touched.homes |= touched;
        if unspare {
            self.edit_pde(disk, |kind, state| (kind & !pde::DEDICATED_SPARE, state));
        }
        let rebuilding = self
            .set
            .memberships(disk)
            .any(|(_, _, member)| matches!(member.state, MemberState::Rebuilding { .. }));
        if !rebuilding {
            self.edit_pde(disk, |kind, state| (kind, state & !pde::REBUILDING));
        }
        self.refresh_active(disk);
    }

    /// Takes an entry out of the volume table, which stays dense.
    fn drop_volume_entry(&mut self, entry: u16) {
        let endian = self.layout.endian;
        let last = tables::last_used(&self.vd, endian, self.layout.vd_entries).unwrap_or(entry);
        tables::move_entry(&mut self.vd, last, entry);
        for meta in self.volumes.iter_mut() {
            if meta.entry == Some(last) {
                meta.entry = Some(entry);
            }
        }
        let count = tables::count(&self.vd, endian).saturating_sub(1);
        tables::set_count(&mut self.vd, endian, count);
        self.touch_entry(Section::Volumes, entry);
        self.touch_entry(Section::Volumes, last);
    }

    /// [`crate::model::Event::VolumeRenamed`].
    #[inline(never)]
    pub fn volume_renamed(&mut self, volume: VolumeIndex, name: Text<32>) -> Checked {
        if self.set.volume(volume).is_none() {
            return Err(reason!(ENOENT, "the set has no volume {volume}"));
        }
        self.check_name(name.as_str(), Some(volume))?;
        let Some(entry) = self.volume_meta(volume).and_then(|meta| meta.entry) else {
            return Ok(());
        };
        tables::entry_mut(&mut self.vd, self.layout.endian, entry).set_name(name.as_str());
        self.touch_entry(Section::Volumes, entry);
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.name = name;
        }
        Ok(())
    }
}

/// A member of a new volume.
pub fn new_member(disk: Option<DiskIndex>, offset_sectors: u64) -> Member {
    Member {
        disk,
        offset_sectors,
        state: match disk {
            Some(_) => MemberState::InSync,
            None => MemberState::Missing,
        },
    }
}
