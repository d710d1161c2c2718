// SPDX-License-Identifier: GPL-2.0

//! Events about spares: assigned, activated.

use super::super::bytes::put;
use super::config;
use super::layout::*;
use super::set::{ddf_time, DdfSet};
use crate::model::{Checked, Context, DiskIndex, MemberState, Slot, SpareRole, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

impl DdfSet {
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
    fn give_record(&mut self, volume: VolumeIndex, span: u16, disk: DiskIndex) {
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
