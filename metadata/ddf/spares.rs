// SPDX-License-Identifier: GPL-2.0

//! Spares: what a disk is one for, and the events that make it one, or a member.

use super::super::bytes::put;
use super::config::{self, Content};
use super::layout::*;
use super::set::{ddf_time, DdfSet};
use crate::model::{
    Checked, Context, DiskIndex, DiskRole, MemberState, Slot, SpareRole, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// What a spare record is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpareFor {
    /// All volumes.
    All,
    /// The volume whose entry has this GUID.
    Volume(Guid),
    /// Volumes that the set has not.
    Nothing,
}

impl DdfSet {
    /// What the spare record on `disk` is for.
    pub fn spare_for(&self, disk: DiskIndex) -> Option<SpareFor> {
        let home = self.home(disk)?;
        self.spare_for_in(&home.config, &home.layout)
    }

    /// What the spare record in a configuration section is for. The first volume that it names counts.
    pub fn spare_for_in(&self, config: &[u8], layout: &Layout) -> Option<SpareFor> {
        let bytes = (0..layout.config_slots)
            .map(|slot| config::slot_bytes(config, layout, slot))
            .find(|bytes| config::content(bytes, layout) == Content::Spare)?;
        if !config::spare::dedicated(bytes) {
            return Some(SpareFor::All);
        }
        let known = (0..64)
            .map_while(|index| config::spare::volume(bytes, layout, index))
            .find_map(|guid| self.volume_called(&guid))
            .and_then(|volume| self.volume_meta(volume));
        Some(known.map_or(SpareFor::Nothing, |meta| SpareFor::Volume(meta.guid)))
    }

    /// The volume with entry GUID `guid`.
    fn volume_called(&self, guid: &Guid) -> Option<VolumeIndex> {
        self.set
            .live_volumes()
            .map(|(index, _)| index)
            .find(|&index| {
                self.volume_meta(index)
                    .is_some_and(|meta| guid_same(&meta.guid, guid))
            })
    }

    /// What a disk is that is no member, by its type bits and its spare record. Where there is a record it says more: graid
    /// sets the bit of dedicated spares for all.
    pub fn spare_role_of(&self, kind: u16, record: Option<SpareFor>) -> DiskRole {
        let record = record.filter(|_| kind & pde::DEDICATED_SPARE != 0);
        match record {
            Some(SpareFor::All) => return DiskRole::GlobalSpare,
            Some(SpareFor::Volume(guid)) => {
                if let Some(volume) = self.volume_called(&guid) {
                    return DiskRole::DedicatedSpare(volume);
                }
            }
            Some(SpareFor::Nothing) | None => {}
        }
        if kind & pde::GLOBAL_SPARE != 0 {
            DiskRole::GlobalSpare
        } else {
            DiskRole::Unused
        }
    }

    /// A disk that returned, made anew, is a spare for the same as before, by its type bits then and what its record said.
    pub(super) fn assign_again(
        &mut self,
        disk: DiskIndex,
        kind: u16,
        record: Option<SpareFor>,
        context: &Context,
    ) -> Checked {
        let role = match self.spare_role_of(kind, record) {
            DiskRole::GlobalSpare => SpareRole::Global,
            DiskRole::DedicatedSpare(volume) if self.check_dedicated(volume).is_ok() => {
                SpareRole::Dedicated(volume)
            }
            _ => SpareRole::None,
        };
        self.assign(disk, role, context)
    }

    /// Refuses when a spare is of no use to `volume`.
    pub(super) fn check_dedicated(&self, volume: VolumeIndex) -> Checked {
        match self.set.volume(volume) {
            Some(model) if model.shape.level.is_redundant() => Ok(()),
            Some(model) => Err(reason!(
                EINVAL,
                "volume {volume} is {}: a spare is of no use to it",
                model.shape.level
            )),
            None => Err(reason!(ENOENT, "the set has no volume {volume}")),
        }
    }

    /// [`crate::model::Event::SpareAssigned`].
    #[inline(never)]
    pub fn spare_assigned(
        &mut self,
        disk: DiskIndex,
        role: SpareRole,
        context: &Context,
    ) -> Checked {
        let home = self.usable_disk(disk)?;
        let has_slot = home.spare_slot().is_some() || self.free_slot(disk).is_some();
        self.check_idle(disk)?;
        if let SpareRole::Dedicated(volume) = role {
            self.check_dedicated(volume)?;
            if !has_slot {
                return Err(reason!(
                    ENOSPC,
                    "disk {disk} has no room for a spare record"
                ));
            }
        }
        self.assign(disk, role, context)
    }

    /// Records a spare role; everything was checked.
    pub(super) fn assign(
        &mut self,
        disk: DiskIndex,
        role: SpareRole,
        context: &Context,
    ) -> Checked {
        let (layout, time) = (self.layout, ddf_time(context));
        let bits = match role {
            SpareRole::None => 0,
            SpareRole::Global => pde::GLOBAL_SPARE,
            SpareRole::Dedicated(_) => pde::DEDICATED_SPARE,
        };
        let guid = match role {
            SpareRole::Dedicated(volume) => self.volume_meta(volume).map(|meta| meta.guid),
            _ => None,
        };
        let free = self.free_slot(disk);
        if let Some(home) = self.home_mut(disk) {
            let slot = home.spare_slot();
            match (guid, slot.or(free)) {
                (Some(guid), Some(index)) => home.edit_slot(index, |bytes| {
                    config::spare::format(bytes, &layout, &guid, time);
                }),
                _ => home.drop_spare(),
            }
            self.touched.homes |= guid.is_some() || slot.is_some();
        }
        self.edit_pde(disk, |kind, state| {
            let kind = kind & !(pde::GLOBAL_SPARE | pde::DEDICATED_SPARE);
            (kind | bits, state)
        });
        self.refresh_role(disk);
        Ok(())
    }

    /// [`crate::model::Event::SpareActivated`].
    #[inline(never)]
    pub fn spare_activated(
        &mut self,
        volume: VolumeIndex,
        slot: Slot,
        disk: DiskIndex,
        context: &Context,
    ) -> Checked {
        let start = self.check_activation(volume, slot, disk)?;
        let width = self.width(volume);
        let Some(model) = self.set.volumes.get_mut(usize::from(volume)) else {
            return Ok(());
        };
        let (span, position) = (slot / width, slot % width);
        let old = model.members.get(usize::from(slot)).and_then(|m| m.disk);
        if let Some(member) = model.members.get_mut(usize::from(slot)) {
            member.disk = Some(disk);
            member.offset_sectors = start;
            member.state = MemberState::Rebuilding { done_sectors: 0 };
        }
        let reference = self.disk_meta(disk).map_or(0, |meta| meta.reference);
        let block = self.layout.blocks(start);
        self.edit_records(volume, span, ddf_time(context), &|bytes, layout| {
            config::set_member(bytes, layout, position, reference, block);
        });
        self.give_record(volume, span, disk);
        self.edit_pde(disk, |kind, state| {
            let kind = kind & !(pde::GLOBAL_SPARE | pde::DEDICATED_SPARE);
            (kind | pde::ACTIVE, state | pde::ONLINE | pde::REBUILDING)
        });
        if let Some(old) = old {
            self.refresh_active(old);
        }
        self.refresh_vde(volume);
        self.refresh_role(disk);
        self.lacks_volume(disk, volume);
        // The disk's rebuilding bit would speak of the volumes that it is in sync with, too.
        for index in 0..self.set.volumes.len() {
            let Ok(other) = u16::try_from(index) else {
                break;
            };
            let model = self.set.volume(other);
            if model.is_some_and(|v| v.members.iter().any(|m| m.disk == Some(disk))) {
                self.record_marks(other);
            }
        }
        Ok(())
    }

    /// Everything that may speak against an activation; gives the member's first sector.
    #[inline(never)]
    fn check_activation(&self, volume: VolumeIndex, slot: Slot, disk: DiskIndex) -> Checked<u64> {
        let model = self.live_volume(volume)?;
        if !model.shape.level.is_redundant() {
            return Err(reason!(EINVAL, "{} cannot be rebuilt", model.shape.level));
        }
        match model.members.get(usize::from(slot)).map(|m| m.state) {
            Some(MemberState::Failed | MemberState::Missing) => {}
            Some(_) => return Err(reason!(EBUSY, "member {slot} is in use")),
            None => return Err(reason!(EINVAL, "volume {volume} has no member {slot}")),
        }
        self.usable_disk(disk)?;
        if model.members.iter().any(|member| member.disk == Some(disk)) {
            return Err(reason!(
                EEXIST,
                "disk {disk} is a member of the volume already"
            ));
        }
        if self.has_unsound_record(volume) {
            return Err(reason!(
                EROFS,
                "the configuration of volume {volume} has a wrong checksum on every disk: it is not written"
            ));
        }
        if self.master(volume, slot / self.width(volume)).is_none() {
            return Err(reason!(
                ENODEV,
                "no disk that is here has the configuration of that span"
            ));
        }
        self.check_partition(disk)?;
        let has_log = |meta: &super::set::VolumeMeta| meta.hole.ring.is_some();
        if self.volume_meta(volume).is_some_and(has_log) && self.lacks_rings(disk) {
            return Err(reason!(
                EOPNOTSUPP,
                "disk {disk} has no place for the log of volume {volume}"
            ));
        }
        let chunk = u64::from(model.shape.chunk_sectors);
        self.first_fit(disk, model.shape.member_sectors, chunk)
            .ok_or_else(|| {
                reason!(
                    ENOSPC,
                    "disk {disk} has no free stretch of {} sectors",
                    model.shape.member_sectors
                )
            })
    }

    /// Puts the newest record of a span onto a disk that joins it, in place of a spare record.
    pub(super) fn give_record(&mut self, volume: VolumeIndex, span: u16, disk: DiskIndex) {
        if let Some(home) = self.home_mut(disk) {
            home.drop_spare();
        }
        let Some(guid) = self.master(volume, span).map(|record| record.guid()) else {
            return;
        };
        // A record of its former life in the same volume comes first.
        let former = self.home(disk).and_then(|home| {
            home.slots()
                .find(|&i| home.record(i).is_some_and(|record| record.guid() == guid))
        });
        let Some(index) = former.or_else(|| self.free_slot(disk)) else {
            return;
        };
        let len = self.layout.record_bytes as usize;
        let from = usize::from(span).saturating_mul(len);
        let (Some(meta), Some(home)) = (
            self.volumes.get(usize::from(volume)),
            self.disks
                .get_mut(usize::from(disk))
                .and_then(|meta| meta.home.as_mut()),
        ) else {
            return;
        };
        if let Some(bytes) = super::super::bytes::slice(&meta.records, from, len) {
            home.edit_slot(index, |slot| {
                let _ = put(slot, 0, bytes);
            });
            home.gains = true;
            self.touched.homes = true;
        }
    }
}
