// SPDX-License-Identifier: GPL-2.0

//! Events about disks: failed, missing, added, returned, removed, spares.
//!
//! A set of md's is one array, and what is in it and no member is a spare for it: there is no disk
//! without a role, and no difference between a global and a dedicated spare.

use super::fresh::fresh_home;
use super::layout::*;
use super::set::{MdSet, Meta};
use super::words;
use crate::model::{
    Access, Checked, Context, Disk, DiskFacts, DiskIndex, DiskOffer, DiskRole, DiskState,
    MemberState, Slot, SpareRole, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

impl MdSet {
    /// The model's disk, unless it was removed.
    pub fn live_disk(&self, disk: DiskIndex) -> Checked<&Disk> {
        self.set
            .disk(disk)
            .filter(|model| model.state != DiskState::Removed)
            .ok_or_else(|| reason!(ENODEV, "the set has no disk {disk}"))
    }

    /// [`crate::model::Event::DiskFailed`].
    #[inline(never)]
    pub fn disk_failed(&mut self, disk: DiskIndex) -> Checked {
        let state = self.live_disk(disk)?.state;
        if matches!(state, DiskState::Failed | DiskState::Missing) {
            return Ok(());
        }
        let state = match state {
            DiskState::Stale => state,
            _ => DiskState::Failed,
        };
        self.lose(disk, state, MemberState::Failed);
        Ok(())
    }

    /// [`crate::model::Event::DiskMissing`].
    #[inline(never)]
    pub fn disk_missing(&mut self, disk: DiskIndex) -> Checked {
        let was_here = self.live_disk(disk)?.facts.is_some();
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = None;
        }
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            meta.sector = None;
        }
        self.touched.leaves = was_here.then_some(disk);
        self.lose(disk, DiskState::Missing, MemberState::Missing);
        Ok(())
    }

    /// A disk counts for nothing any more. That is recorded as long as all data is there without it;
    /// beyond that it stays in memory, as with md, so that what is there is not given up for good.
    fn lose(&mut self, disk: DiskIndex, state: DiskState, member: MemberState) {
        let was_whole = self.bears();
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = state;
            if model.role != DiskRole::Member {
                model.role = DiskRole::Unused;
            }
        }
        for volume in self.set.volumes.iter_mut().filter(|volume| !volume.deleted) {
            for place in volume.members.iter_mut() {
                if place.disk == Some(disk) {
                    place.state = member;
                }
            }
        }
        let whole = self.bears();
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            // It keeps its last words; they are no longer kept up to date.
            meta.home = None;
            meta.keep_role |= !whole;
        }
        let change = self.array().is_some() && self.frozen.is_none();
        self.touched.all = change && whole && was_whole && self.devices_change(disk);
    }

    /// Whether the superblocks of others say something of `disk` that is not true any more.
    fn devices_change(&self, disk: DiskIndex) -> bool {
        let changed = self.roles_changed().any;
        // 0.90 lists spares too.
        let listed = self.version == Version::V090
            && self
                .meta(disk)
                .is_some_and(|meta| meta.number >= self.head.raid_disks && !meta.keep_role);
        changed || listed
    }

    /// Takes `disk` out of the place that it had in the array.
    fn forget(&mut self, disk: DiskIndex) {
        for volume in self.set.volumes.iter_mut() {
            for member in volume.members.iter_mut() {
                if member.disk == Some(disk) {
                    member.disk = None;
                    member.offset_sectors = 0;
                    member.state = MemberState::Missing;
                }
            }
        }
    }

    /// Refuses when `disk` holds data that is in use.
    fn check_idle(&self, disk: DiskIndex) -> Checked {
        match self.slot_of(disk) {
            Some((slot, MemberState::InSync | MemberState::Rebuilding { .. })) => Err(reason!(
                EBUSY,
                "disk {disk} is member {slot} of the array: fail it first"
            )),
            _ => Ok(()),
        }
    }

    /// [`crate::model::Event::DiskRemoved`].
    #[inline(never)]
    pub fn disk_removed(&mut self, disk: DiskIndex) -> Checked {
        self.live_disk(disk)?;
        self.check_idle(disk)?;
        if self.array().is_some() {
            self.check_whole()?;
        }
        self.forget(disk);
        self.set.bad_ranges.retain(|range| range.disk != disk);
        let present = self
            .set
            .disk(disk)
            .is_some_and(|model| model.facts.is_some());
        // A deleted array takes nothing along that was used apart from it.
        let is_gone = self.array().is_none();
        let sector = self.disks.get_mut(usize::from(disk)).and_then(|meta| {
            meta.home = None;
            meta.keep_role = false;
            meta.sector.take().filter(|_| !(is_gone && meta.apart))
        });
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = DiskState::Removed;
            model.role = DiskRole::Unused;
        }
        self.touched.leaving = sector.filter(|_| present).map(|sector| (disk, sector));
        self.touched.all = self.array().is_some() && self.devices_change(disk);
        Ok(())
    }

    /// Checks a disk that is to join.
    #[inline(never)]
    fn check_joining(&self, facts: &DiskFacts) -> Checked {
        let block = self
            .homes()
            .map(|(_, home)| home.block_bytes)
            .max()
            .unwrap_or(facts.logical_block_bytes);
        if facts.logical_block_bytes != block {
            return Err(reason!(
                EINVAL,
                "the disk has blocks of {} bytes, the set's have {block}",
                facts.logical_block_bytes
            ));
        }
        match self.set.disk_by_key(facts.key) {
            Some(disk) => Err(reason!(
                EEXIST,
                "the disk is disk {disk} of the set already"
            )),
            None => Ok(()),
        }
    }

    /// Refuses spares for arrays that cannot use any.
    fn check_takes_spares(&self) -> Checked {
        match self.array() {
            None => Err(reason!(
                EINVAL,
                "an md set is its array: make that first, with all its disks"
            )),
            Some(volume) if !volume.shape.level.is_redundant() => Err(reason!(
                EINVAL,
                "the array is {}: it has no use for another disk",
                volume.shape.level
            )),
            Some(_) => self.check_whole(),
        }
    }

    /// [`crate::model::Event::DiskAdded`]. Whatever it is offered as, it is a spare.
    #[inline(never)]
    pub fn disk_added(&mut self, offer: &DiskOffer, context: &Context) -> Checked {
        self.check_joining(&offer.facts)?;
        self.check_takes_spares()?;
        if let SpareRole::Dedicated(volume) = offer.role {
            self.live_volume(volume)?;
        }
        let index = self.set.index_to_join()?;
        let number = self
            .free_number(index)
            .ok_or_else(|| reason!(ENOSPC, "the array has no number left for another disk"))?;
        let meta = self.fresh_meta(&offer.facts, number, context)?;
        self.set.disks.reserve(1, GFP_KERNEL)?;
        self.disks.reserve(1, GFP_KERNEL)?;
        self.reserve_plan()?;
        let usable_sectors = usable_of(&meta);
        self.set.disks.push(
            Disk {
                facts: Some(offer.facts),
                label: super::assemble::label_of(number),
                state: DiskState::Online,
                role: DiskRole::GlobalSpare,
                usable_sectors,
                failure_predicted: false,
            },
            GFP_KERNEL,
        )?;
        self.disks.push(meta, GFP_KERNEL)?;
        self.touched.all = true;
        Ok(())
    }

    /// What is written to a disk that becomes a spare.
    fn fresh_meta(&self, facts: &DiskFacts, number: u32, context: &Context) -> Checked<Meta> {
        let home = fresh_home(self, facts, number, context)?;
        if !self.has_log_like_members(&home) {
            return Err(reason!(
                ENOSPC,
                "the disk has no place for a partial parity log like those of the members"
            ));
        }
        let needed = self.array().map_or(0, |volume| volume.shape.member_sectors);
        if home.data_size < needed {
            return Err(reason!(
                ENOSPC,
                "the disk has room for {} sectors, members have {needed}",
                home.data_size
            ));
        }
        Ok(Meta {
            number,
            sector: Some(home.sector),
            keep_role: false,
            apart: false,
            device: [0; 3],
            home: Some(home),
        })
    }

    /// [`crate::model::Event::DiskReturned`].
    #[inline(never)]
    pub fn disk_returned(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        context: &Context,
    ) -> Checked {
        let model = self.live_disk(disk)?;
        if model.state == DiskState::Online && model.facts.is_some() {
            return Err(reason!(EBUSY, "disk {disk} is working and was never gone"));
        }
        let same = model.facts.is_some_and(|known| known.key == facts.key);
        if !same {
            self.check_joining(facts)?;
        }
        self.check_idle(disk)?;
        self.check_takes_spares()?;
        let own = self.meta(disk).map(|meta| meta.number);
        let taken = |number: u32| {
            (0u16..).zip(self.disks.iter()).any(|(index, meta)| {
                let gone = self
                    .set
                    .disk(index)
                    .is_none_or(|model| model.state == DiskState::Removed);
                index != disk && meta.number == number && !gone
            })
        };
        let number = match own {
            Some(number) if self.may_have(number) && !taken(number) => number,
            _ => self
                .free_number(disk)
                .ok_or_else(|| reason!(ENOSPC, "the array has no number left for the disk"))?,
        };
        let meta = self.fresh_meta(facts, number, context)?;
        self.reserve_plan()?;
        let usable_sectors = usable_of(&meta);
        self.forget(disk);
        self.set.bad_ranges.retain(|range| range.disk != disk);
        if let Some(place) = self.disks.get_mut(usize::from(disk)) {
            *place = meta;
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = Some(*facts);
            model.state = DiskState::Online;
            model.role = DiskRole::GlobalSpare;
            model.label = super::assemble::label_of(number);
            model.usable_sectors = usable_sectors;
        }
        self.touched.all = true;
        Ok(())
    }

    /// [`crate::model::Event::SpareAssigned`].
    #[inline(never)]
    pub fn spare_assigned(&mut self, disk: DiskIndex, role: SpareRole) -> Checked {
        if self.live_disk(disk)?.state != DiskState::Online {
            return Err(reason!(ENODEV, "disk {disk} does not work or is not here"));
        }
        self.check_idle(disk)?;
        if let SpareRole::Dedicated(volume) = role {
            self.live_volume(volume)?;
        }
        let none = role == SpareRole::None;
        if self.array().is_some() {
            // A spare it is already.
            return if none {
                Err(reason!(
                    EOPNOTSUPP,
                    "in an md array every disk that is no member is a spare: remove it instead"
                ))
            } else {
                self.check_takes_spares()
            };
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.role = if none {
                DiskRole::Unused
            } else {
                DiskRole::GlobalSpare
            };
        }
        Ok(())
    }

    /// [`crate::model::Event::SpareActivated`]. In 0.90 it is a spare to all others until it is rebuilt, and has a mark of its own.
    #[inline(never)]
    pub fn spare_activated(&mut self, volume: VolumeIndex, slot: Slot, disk: DiskIndex) -> Checked {
        let offset_sectors = self.check_activation(volume, slot, disk)?;
        let recorded = self.version != Version::V090;
        let has_bitmap = self.bitmap.is_some();
        if let Some(member) = self
            .array_mut()
            .and_then(|array| array.members.get_mut(usize::from(slot)))
        {
            member.disk = Some(disk);
            member.offset_sectors = offset_sectors;
            member.state = MemberState::Rebuilding { done_sectors: 0 };
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.role = DiskRole::Member;
        }
        if let Some(home) = self.home_mut(disk) {
            home.first = recorded;
            home.bitmap_whole = has_bitmap;
        }
        self.touched.all = recorded;
        Ok(())
    }

    /// Everything that may speak against an activation; gives the member's first sector.
    #[inline(never)]
    fn check_activation(&self, volume: VolumeIndex, slot: Slot, disk: DiskIndex) -> Checked<u64> {
        let model = self.live_volume(volume)?;
        if let Access::ReadOnly(why) = &model.access {
            return Err(*why);
        }
        if !model.shape.level.is_redundant() {
            return Err(reason!(EINVAL, "{} cannot be rebuilt", model.shape.level));
        }
        match model.members.get(usize::from(slot)).map(|m| m.state) {
            Some(MemberState::Failed | MemberState::Missing) => {}
            Some(_) => return Err(reason!(EBUSY, "member {slot} is in use")),
            None => return Err(reason!(EINVAL, "volume {volume} has no member {slot}")),
        }
        let home = self.usable_disk(disk)?;
        if self.meta(disk).is_some_and(|meta| meta.keep_role) {
            return Err(reason!(EBUSY, "disk {disk} is no spare"));
        }
        if model.members.iter().any(|member| member.disk == Some(disk)) {
            return Err(reason!(
                EEXIST,
                "disk {disk} is a member of the volume already"
            ));
        }
        self.check_whole()?;
        if self.bitmap.is_some() && home.bitmap.is_none() {
            return Err(reason!(
                ENOSPC,
                "disk {disk} has no room for the array's bitmap"
            ));
        }
        if !self.has_log_like_members(home) {
            return Err(reason!(
                ENOSPC,
                "disk {disk} has no place for a partial parity log like those of the members"
            ));
        }
        if home.data_size < model.shape.member_sectors {
            return Err(reason!(
                ENOSPC,
                "disk {disk} has room for {} sectors, members have {}",
                home.data_size,
                model.shape.member_sectors
            ));
        }
        Ok(home.data_offset)
    }

    /// [`crate::model::Event::RebuildProgress`].
    #[inline(never)]
    pub fn rebuild_progress(&mut self, volume: VolumeIndex, slot: Slot, done: u64) -> Checked {
        let disk = self.rebuilding(volume, slot)?;
        let most = self.live_volume(volume)?.shape.member_sectors;
        if done > most {
            return Err(reason!(
                EINVAL,
                "{done} sectors are more than a member's {most}"
            ));
        }
        let state = MemberState::Rebuilding { done_sectors: done };
        self.set_member_state(slot, state);
        if let Some(home) = self.home_mut(disk) {
            home.touched = true;
        }
        // Who had the slot before, and is away, is old from then on.
        self.touched.all |= self.roles_changed().lost;
        Ok(())
    }

    /// [`crate::model::Event::RebuildDone`].
    #[inline(never)]
    pub fn rebuild_done(&mut self, volume: VolumeIndex, slot: Slot) -> Checked {
        let disk = self.rebuilding(volume, slot)?;
        self.set_member_state(slot, MemberState::InSync);
        // In 0.90 it gets its slot's number now; the others must not list it by that one earlier.
        let first = self.version == Version::V090;
        if let Some(home) = self.home_mut(disk) {
            home.first = first;
        }
        self.touched.all = true;
        Ok(())
    }

    /// The disk of a member that is being rebuilt. When more was lost meanwhile than the array bears, the
    /// rebuild cannot count: that would make the array whole without a loss that is not recorded.
    fn rebuilding(&self, volume: VolumeIndex, slot: Slot) -> Checked<DiskIndex> {
        let model = self.live_volume(volume)?;
        self.check_whole()?;
        match model.members.get(usize::from(slot)) {
            Some(member) => match (member.state, member.disk) {
                (MemberState::Rebuilding { .. }, Some(disk)) => Ok(disk),
                _ => Err(reason!(EINVAL, "member {slot} is not being rebuilt")),
            },
            None => Err(reason!(EINVAL, "volume {volume} has no member {slot}")),
        }
    }

    fn set_member_state(&mut self, slot: Slot, state: MemberState) {
        if let Some(member) = self
            .array_mut()
            .and_then(|array| array.members.get_mut(usize::from(slot)))
        {
            member.state = state;
        }
    }

    /// Whether `members` and the shape leave all data in reach; for tests.
    pub fn is_whole(&self) -> bool {
        self.array()
            .is_none_or(|volume| words::bears(&volume.shape, &volume.members))
    }
}

/// Sectors from the start of a disk that its array may use.
fn usable_of(meta: &Meta) -> u64 {
    meta.home
        .as_ref()
        .map_or(0, |home| home.data_offset.saturating_add(home.data_size))
}
