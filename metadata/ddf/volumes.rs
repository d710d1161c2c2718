// SPDX-License-Identifier: GPL-2.0

//! Volumes: free extents, creation, deletion, renaming.

use super::config::{self, NewRecord, LOST_REFERENCE};
use super::create::volume_guid;
use super::layout::*;
use super::model::{capacity_sectors, ddf_level, member_sectors_for, volume_state, STRIP_MAX};
use super::set::{ddf_time, DdfSet, VolumeMeta};
use super::tables;
use crate::model::{
    Access, Checked, Consistency, Context, DiskIndex, Identity, Layout as Placement, Level, Member,
    MemberState, Rotation, Shape, Text, Volume, VolumeIndex, VolumeSpec, MEMBERS_MAX, VOLUMES_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Chunk when the caller leaves it to the format: 64 KiB.
pub const CHUNK_SECTORS_DEFAULT: u32 = 128;

/// Members start at multiples of this, at least: 64 KiB.
const ALIGN_SECTORS: u64 = 128;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 16;

/// A volume that could be made.
struct Draft {
    shape: Shape,
    strip: u8,
    prl: u8,
    rlq: u8,
    second_level: u8,
    size_sectors: u64,
}

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

    /// End of the first used stretch on `disk` that reaches beyond `from` and starts before `to`.
    fn blocked_until(&self, disk: DiskIndex, from: u64, to: u64) -> Option<u64> {
        self.set
            .memberships(disk)
            .filter_map(|(volume, _, member)| {
                let sectors = self.set.volume(volume)?.shape.member_sectors;
                let end = member.offset_sectors.saturating_add(sectors);
                (end > from && member.offset_sectors < to).then_some(end)
            })
            .max()
    }

    /// First sector of a free stretch of `sectors` on `disk`.
    pub fn first_fit(&self, disk: DiskIndex, sectors: u64, chunk_sectors: u64) -> Option<u64> {
        let align = chunk_sectors.max(ALIGN_SECTORS);
        let usable = self.set.disk(disk)?.usable_sectors;
        let mut start = 0u64;
        // Each round goes past at least one volume.
        for _ in 0..=VOLUMES_MAX {
            let end = start.checked_add(sectors)?;
            if end > usable {
                return None;
            }
            match self.blocked_until(disk, start, end) {
                Some(next) => start = next.checked_next_multiple_of(align)?,
                None => return Some(start),
            }
        }
        None
    }

    /// Length of the largest free stretch on `disk`.
    fn largest_gap(&self, disk: DiskIndex, align: u64) -> u64 {
        let Some(usable) = self.set.disk(disk).map(|model| model.usable_sectors) else {
            return 0;
        };
        let ends = self
            .set
            .memberships(disk)
            .filter_map(|(volume, _, member)| {
                let sectors = self.set.volume(volume)?.shape.member_sectors;
                Some(member.offset_sectors.saturating_add(sectors))
            });
        Iterator::chain(core::iter::once(0), ends)
            .filter_map(|start| {
                let start = start.checked_next_multiple_of(align)?;
                let inside = self.blocked_until(disk, start, start.saturating_add(1));
                if inside.is_some() {
                    return None;
                }
                let next = self
                    .set
                    .memberships(disk)
                    .map(|(_, _, member)| member.offset_sectors)
                    .filter(|&offset| offset >= start)
                    .min();
                next.unwrap_or(usable).min(usable).checked_sub(start)
            })
            .max()
            .unwrap_or(0)
    }

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
        self.check_name(spec.name.as_str(), None)?;
        let mut draft = self.draft_level(spec)?;
        self.draft_chunk(spec, &mut draft)?;
        self.check_spec_disks(spec, &draft.shape)?;
        let unit = match u64::from(draft.shape.chunk_sectors) {
            0 => ALIGN_SECTORS,
            chunk => chunk,
        };
        let most = self.largest_member(spec, unit);
        let mut shape = draft.shape;
        shape.member_sectors = most;
        let largest = capacity_sectors(&shape);
        if largest == 0 {
            return Err(reason!(
                ENOSPC,
                "the disks have no free stretch of {unit} sectors in common"
            ));
        }
        if spec.size_sectors != 0 {
            let needed = member_sectors_for(&shape, spec.size_sectors, unit);
            let needed = needed
                .filter(|&sectors| sectors <= most)
                .ok_or_else(|| reason!(ENOSPC, "at most {largest} sectors fit onto these disks"))?;
            if self.layout.blocks(spec.size_sectors) * self.layout.block_sectors()
                != spec.size_sectors
            {
                return Err(reason!(
                    EINVAL,
                    "a size of {} sectors is not a multiple of the disks' blocks",
                    spec.size_sectors
                ));
            }
            shape.member_sectors = needed;
            draft.size_sectors = spec.size_sectors;
        } else {
            draft.size_sectors = largest;
        }
        draft.shape = shape;
        Ok(draft)
    }

    /// Free sectors that every named disk has in one stretch, in whole units.
    fn largest_member(&self, spec: &VolumeSpec<'_>, unit: u64) -> u64 {
        let least = spec
            .disks
            .iter()
            .flatten()
            .map(|&disk| self.largest_gap(disk, unit.max(ALIGN_SECTORS)))
            .min()
            .unwrap_or(0);
        least.saturating_sub(least.checked_rem(unit).unwrap_or(0))
    }

    /// Level, layout, members, spans.
    #[inline(never)]
    fn draft_level(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        let count = spec.disks.len();
        let most = usize::from(self.layout.mppe).min(MEMBERS_MAX);
        let bounds = super::CAPABILITIES
            .levels
            .iter()
            .find(|capability| capability.level == spec.level)
            .map(|capability| capability.members);
        let Some((least, top)) = bounds else {
            return Err(reason!(EOPNOTSUPP, "DDF has no {}", spec.level));
        };
        if count < usize::from(least) || count > usize::from(top).min(most) {
            return Err(reason!(
                EINVAL,
                "{} takes {least} to {} disks here, not {count}",
                spec.level,
                usize::from(top).min(most)
            ));
        }
        let members = u16::try_from(count).unwrap_or(0);
        let layout = spec.layout.unwrap_or_else(|| usual_layout(spec.level));
        let (level, placement, members, spans) = match (spec.level, layout) {
            (Level::Raid10, Placement::Near(copies)) if (2..=3).contains(&copies) => {
                let copies = u16::from(copies);
                if members % copies != 0 || members / copies < 2 {
                    return Err(reason!(
                        EINVAL,
                        "raid10 with {copies} copies takes a multiple of {copies} disks, at least \
                         {}",
                        2 * copies
                    ));
                }
                (Level::Raid1, Placement::Plain, copies, members / copies)
            }
            (level, layout) => (level, layout, members, 1),
        };
        let Some((prl, rlq)) = ddf_level(level, placement, members) else {
            return Err(reason!(
                EOPNOTSUPP,
                "DDF has no {} with layout {layout}",
                spec.level
            ));
        };
        Ok(Draft {
            shape: Shape {
                level,
                layout: placement,
                members,
                spans,
                chunk_sectors: 0,
                member_sectors: 0,
            },
            strip: u8::MAX,
            prl,
            rlq,
            second_level: if spans > 1 { 3 } else { u8::MAX },
            size_sectors: 0,
        })
    }

    /// Chunk length.
    #[inline(never)]
    fn draft_chunk(&self, spec: &VolumeSpec<'_>, draft: &mut Draft) -> Checked {
        let plain = matches!(draft.shape.level, Level::Concat | Level::Raid1);
        if plain && draft.shape.spans == 1 {
            return Ok(());
        }
        let chunk = match spec.chunk_sectors {
            0 => CHUNK_SECTORS_DEFAULT,
            chunk => chunk,
        };
        let block = u32::try_from(self.layout.block_sectors())
            .unwrap_or(1)
            .max(1);
        let exponent = (chunk / block).checked_ilog2().unwrap_or(0);
        if !chunk.is_power_of_two() || chunk < block || exponent > u32::from(STRIP_MAX) {
            return Err(reason!(
                EINVAL,
                "a chunk of {chunk} sectors is not a power of two from {block} to {}",
                u64::from(block) << STRIP_MAX
            ));
        }
        draft.strip = u8::try_from(exponent).unwrap_or(0);
        draft.shape.chunk_sectors = chunk;
        Ok(())
    }

    /// Disks must work, differ and have room; open slots must leave the data whole.
    #[inline(never)]
    fn check_spec_disks(&self, spec: &VolumeSpec<'_>, shape: &Shape) -> Checked {
        for (at, disk) in spec.disks.iter().enumerate() {
            let Some(disk) = *disk else { continue };
            self.usable_disk(disk)?;
            self.check_partition(disk)?;
            if spec
                .disks
                .iter()
                .skip(at + 1)
                .any(|other| *other == Some(disk))
            {
                return Err(reason!(EINVAL, "disk {disk} is named twice"));
            }
        }
        let open = spec.disks.iter().filter(|disk| disk.is_none()).count();
        if open == 0 {
            return Ok(());
        }
        let width = usize::from(shape.members).max(1);
        let empty = spec
            .disks
            .chunks(width)
            .any(|span| span.iter().all(Option::is_none));
        let mut members: KVec<Member> = KVec::new();
        for disk in spec.disks {
            members.push(new_member(*disk, 0), GFP_KERNEL)?;
        }
        if empty || volume_state(shape, &members) == vde::FAILED {
            return Err(reason!(
                EINVAL,
                "{} cannot be without {open} of its members",
                spec.level
            ));
        }
        Ok(())
    }

    fn check_name(&self, name: &str, own: Option<VolumeIndex>) -> Checked {
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
        let guid = volume_guid(context);
        let records = self.make_records(&draft, &members, &guid, ddf_time(context))?;
        let clean = spec.assume_clean || !draft.shape.level.is_redundant();
        let number = self.unused_number();
        let meta = VolumeMeta {
            entry: Some(entry),
            guid,
            record_guid: guid,
            records,
        };
        self.push_volume(spec.name, &draft, members, clean, meta)?;
        self.fill_volume_entry(entry, &guid, number, spec.name, clean);
        self.refresh_vde(volume);
        self.spread_records(volume);
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
        let spans = usize::from(draft.shape.spans);
        let width = usize::from(draft.shape.members).max(1);
        let mut records = KVVec::from_elem(0xFFu8, spans.saturating_mul(len), GFP_KERNEL)?;
        let new = NewRecord {
            guid: *guid,
            time,
            members: draft.shape.members,
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
        let (total, width) = (model.members.len(), model.shape.members.max(1));
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
                (kind | pde::ACTIVE, state)
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
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.deleted = true;
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

/// The layout that a level gets when the caller does not choose.
fn usual_layout(level: Level) -> Placement {
    match level {
        Level::Raid1e | Level::Raid10 => Placement::Near(2),
        Level::Raid4 => Placement::Parity(Rotation::ParityLast),
        Level::Raid5 => Placement::Parity(Rotation::LeftSymmetric),
        Level::Raid6 => Placement::Parity(Rotation::DdfNContinue),
        Level::Concat | Level::Raid0 | Level::Raid1 => Placement::Plain,
    }
}

fn new_member(disk: Option<DiskIndex>, offset_sectors: u64) -> Member {
    Member {
        disk,
        offset_sectors,
        state: match disk {
            Some(_) => MemberState::InSync,
            None => MemberState::Missing,
        },
    }
}
