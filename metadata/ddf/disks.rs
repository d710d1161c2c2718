// SPDX-License-Identifier: GPL-2.0

//! Events about disks: failed, missing, added, returned, removed. (Spares: `spares`.)

use super::config::{self, LOST_REFERENCE};
use super::create::{new_disk_guid, new_reference};
use super::home::Home;
use super::layout::*;
use super::model::{disk_state, volume_state};
use super::probe::Which;
use super::set::{ddf_time, DdfSet, DiskMeta, Leaving};
use super::tables;
use crate::model::{
    Access, Checked, Context, Disk, DiskFacts, DiskIndex, DiskOffer, DiskRole, DiskState,
    MemberState, SpareRole, Volume, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

impl DdfSet {
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
        // One that was away and is old may return.
        let away = match self.live_disk(disk)?.state {
            DiskState::Stale => pde::MISSING,
            _ => 0,
        };
        self.edit_pde(disk, |kind, state| {
            let state = state & !(pde::ONLINE | pde::REBUILDING);
            (kind, state | pde::FAILED | away)
        });
        self.lose(disk);
        Ok(())
    }

    /// [`crate::model::Event::DiskMissing`].
    #[inline(never)]
    pub fn disk_missing(&mut self, disk: DiskIndex) -> Checked {
        self.live_disk(disk)?;
        self.edit_pde(disk, |kind, state| {
            let state = state & !(pde::ONLINE | pde::REBUILDING);
            (kind, state | pde::FAILED | pde::MISSING)
        });
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = None;
        }
        self.lose(disk);
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            meta.spots = [None; 3];
        }
        Ok(())
    }

    /// A disk counts for nothing any more: its state, its members, its volumes' states, its role.
    fn lose(&mut self, disk: DiskIndex) {
        let bits = self.disk_state(disk);
        let present = self
            .set
            .disk(disk)
            .is_some_and(|model| model.facts.is_some());
        let state = match bits {
            Some(bits) => disk_state(bits, present),
            // The set does not list it: it only happened to be here.
            None if present => DiskState::Stale,
            None => DiskState::Removed,
        };
        let member_state = match state {
            DiskState::Missing => MemberState::Missing,
            _ => MemberState::Failed,
        };
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = state;
        }
        let spare_for = self.spare_for(disk);
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            // It keeps its last words; they are no longer kept up to date.
            if meta.home.take().is_some() {
                meta.spare_for = spare_for;
            }
        }
        for volume in self.set.volumes.iter_mut().filter(|volume| !volume.deleted) {
            for member in volume.members.iter_mut() {
                if member.disk == Some(disk) {
                    member.state = member_state;
                }
            }
        }
        self.end_stale_rebuilds();
        self.refresh_volumes_of(disk);
        self.refresh_role(disk);
    }

    /// Whether a disk is here, and works as far as its entry says: neither online nor failed.
    pub fn is_offline(&self, disk: DiskIndex) -> bool {
        let some = pde::ONLINE | pde::FAILED | pde::REBUILDING | pde::MISSING;
        let works = |model: &Disk| model.state == DiskState::Online && model.facts.is_some();
        self.set.disk(disk).is_some_and(works)
            && self.disk_state(disk).is_some_and(|bits| bits & some == 0)
    }

    /// Disks that work in a volume get the online bit where others left it out: it counts once a volume is not optimal.
    pub(super) fn say_who_works(&mut self) {
        for index in 0..self.set.disks.len() {
            let Ok(disk) = u16::try_from(index) else {
                break;
            };
            let in_sync = self
                .set
                .memberships(disk)
                .any(|(_, _, member)| member.state == MemberState::InSync);
            if in_sync && self.is_offline(disk) {
                self.edit_pde(disk, |kind, state| (kind, state | pde::ONLINE));
            }
        }
    }

    /// Recomputes the recorded state of every volume that `disk` is a member of.
    fn refresh_volumes_of(&mut self, disk: DiskIndex) {
        for index in 0..self.set.volumes.len() {
            let Ok(volume) = u16::try_from(index) else {
                break;
            };
            let member = self
                .set
                .volume(volume)
                .is_some_and(|v| v.members.iter().any(|m| m.disk == Some(disk)));
            if member {
                self.refresh_vde(volume);
            }
        }
    }

    /// Takes `disk` out of every volume whose lost member it was; their records lose its reference.
    fn forget(&mut self, disk: DiskIndex, time: u32) {
        self.forget_bad_ranges(disk, 0, u64::MAX);
        for index in 0..self.set.volumes.len() {
            let Ok(volume) = u16::try_from(index) else {
                break;
            };
            let Some(model) = self.set.volume(volume) else {
                continue;
            };
            let width = self.width(volume);
            let found = model
                .members
                .iter()
                .position(|m| m.disk == Some(disk) && m.state != MemberState::InSync);
            let Some(slot) = found.and_then(|slot| u16::try_from(slot).ok()) else {
                continue;
            };
            let position = slot % width;
            self.edit_records(volume, slot / width, time, &|bytes, layout| {
                config::set_member(bytes, layout, position, LOST_REFERENCE, 0);
            });
            if let Some(member) = self
                .set
                .volumes
                .get_mut(index)
                .and_then(|v| v.members.get_mut(usize::from(slot)))
            {
                member.disk = None;
                member.offset_sectors = 0;
                member.state = MemberState::Missing;
            }
            self.refresh_vde(volume);
        }
    }

    /// Refuses when `disk` holds data that is in use.
    pub(super) fn check_idle(&self, disk: DiskIndex) -> Checked {
        let busy = self.set.memberships(disk).find(|(_, _, member)| {
            matches!(
                member.state,
                MemberState::InSync | MemberState::Rebuilding { .. }
            )
        });
        match busy {
            Some((volume, slot, _)) => Err(reason!(
                EBUSY,
                "disk {disk} is member {slot} of volume {volume}: fail it first"
            )),
            None => Ok(()),
        }
    }

    /// Refuses when `disk` is a member of a volume whose record cannot be changed, as it is not sound.
    fn check_unsound(&self, disk: DiskIndex) -> Checked {
        let unsound = self
            .set
            .memberships(disk)
            .find(|&(volume, _, _)| self.has_unsound_record(volume));
        match unsound {
            Some((volume, slot, _)) => Err(reason!(
                EBUSY,
                "disk {disk} is member {slot} of volume {volume}, whose configuration has a wrong \
                 checksum on every disk: delete that volume first"
            )),
            None => Ok(()),
        }
    }

    /// [`crate::model::Event::DiskRemoved`].
    #[inline(never)]
    pub fn disk_removed(&mut self, disk: DiskIndex, context: &Context) -> Checked {
        self.live_disk(disk)?;
        self.check_idle(disk)?;
        self.check_unsound(disk)?;
        self.forget(disk, ddf_time(context));
        self.drop_twins(disk);
        let (spots, entry) = match self.disks.get_mut(usize::from(disk)) {
            Some(meta) => {
                meta.home = None;
                (core::mem::take(&mut meta.spots), meta.entry.take())
            }
            None => ([None; 3], None),
        };
        if let Some(entry) = entry {
            self.drop_entry(entry);
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = DiskState::Removed;
            model.role = DiskRole::Unused;
            if model.facts.is_some() {
                self.leaving = Some(Leaving {
                    disk,
                    blocks: spots,
                    block_sectors: self.layout.block_sectors(),
                });
            }
        }
        Ok(())
    }

    /// Takes an entry out of the disk table. The last one moves into its place: graid wants the
    /// table dense, and everybody else finds disks by reference.
    pub fn drop_entry(&mut self, entry: u16) {
        let endian = self.layout.endian;
        let last = tables::last_used(&self.pd, endian, self.layout.pd_entries).unwrap_or(entry);
        tables::move_entry(&mut self.pd, last, entry);
        for meta in self.disks.iter_mut() {
            if meta.entry == Some(last) {
                meta.entry = Some(entry);
            }
        }
        let count = tables::count(&self.pd, endian).saturating_sub(1);
        tables::set_count(&mut self.pd, endian, count);
        self.touch_entry(Section::Disks, entry);
        self.touch_entry(Section::Disks, last);
    }

    /// Checks a disk that is to join.
    fn check_joining(&self, facts: &DiskFacts) -> Checked {
        if facts.logical_block_bytes != self.layout.block_bytes {
            return Err(reason!(
                EINVAL,
                "the disk has blocks of {} bytes, the set's have {}",
                facts.logical_block_bytes,
                self.layout.block_bytes
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

    /// [`crate::model::Event::DiskAdded`].
    #[inline(never)]
    pub fn disk_added(&mut self, offer: &DiskOffer, context: &Context) -> Checked {
        self.check_joining(&offer.facts)?;
        let Some(entry) = self.room_for_disk() else {
            return Err(reason!(
                ENOSPC,
                "the set's list of {} disks is full",
                self.layout.pd_entries
            ));
        };
        let index = self.set.index_to_join()?;
        if let SpareRole::Dedicated(volume) = offer.role {
            self.check_dedicated(volume)?;
        }
        let guid = new_disk_guid(self, &offer.facts, None, context);
        let reference = new_reference(self, context, u64::from(index));
        let home = self.fresh_home(&offer.facts, &guid, reference)?;
        self.set.disks.reserve(1, GFP_KERNEL)?;
        self.disks.reserve(1, GFP_KERNEL)?;
        self.reserve_plan()?;
        let usable = self.usable_blocks(&home);
        self.set.disks.push(
            Disk {
                facts: Some(offer.facts),
                label: super::assemble::label_of(&guid, reference),
                state: DiskState::Online,
                role: DiskRole::Unused,
                usable_sectors: usable.saturating_mul(self.layout.block_sectors()),
                failure_predicted: false,
            },
            GFP_KERNEL,
        )?;
        self.disks.push(
            DiskMeta {
                reference,
                entry: Some(entry),
                spots: home_spots(&home),
                home: Some(home),
                spare_for: None,
            },
            GFP_KERNEL,
        )?;
        self.fill_entry(entry, &guid, reference, usable, true);
        self.assign(index, offer.role, context)
    }

    /// Writes a fresh entry of the disk table.
    fn fill_entry(&mut self, entry: u16, guid: &Guid, reference: u32, usable: u64, new: bool) {
        let layout = self.layout;
        let mut bytes = tables::entry_mut(&mut self.pd, layout.endian, entry);
        bytes.fill_disk(guid, reference, usable, layout.block_bytes);
        if new {
            let count = tables::count(&self.pd, layout.endian).saturating_add(1);
            tables::set_count(&mut self.pd, layout.endian, count);
        }
        self.touch_entry(Section::Disks, entry);
    }

    /// Refuses when what is on `disk` may be all that is left of a volume, or may decide what a
    /// volume is. `counts`: it stays in volumes without redundancy.
    #[inline(never)]
    fn check_expendable(&self, disk: DiskIndex, counts: bool) -> Checked {
        let stale = self
            .set
            .disk(disk)
            .is_some_and(|model| model.state == DiskState::Stale);
        for (index, volume) in self.set.live_volumes() {
            let member = volume.members.iter().any(|m| m.disk == Some(disk));
            let uncertain =
                matches!(volume.access, Access::Refused(_)) || self.has_unsound_record(index);
            if uncertain && (stale || member) {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is kept as it is: it is not certain what volume {index} is"
                ));
            }
            if counts && !volume.shape.level.is_redundant() {
                continue;
            }
            if member && volume_state(&volume.shape, &volume.members) == vde::FAILED {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is kept as it is: volume {index} cannot do without it"
                ));
            }
        }
        Ok(())
    }

    /// [`crate::model::Event::DiskReturned`]. The disk gets a new reference, so that whatever its
    /// old metadata said cannot be taken for the truth.
    #[inline(never)]
    pub fn disk_returned(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        context: &Context,
    ) -> Checked {
        self.take_back(disk, facts, false, context)
    }

    /// [`crate::model::Event::DiskReinstated`]. It gets a new reference, too: its old one is that of a disk whose places
    /// elsewhere are lost.
    #[inline(never)]
    pub fn disk_reinstated(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        context: &Context,
    ) -> Checked {
        self.set.check_reinstated(disk)?;
        let is_lone = |volume: VolumeIndex| {
            let model = self.set.volume(volume);
            model.is_some_and(|model| !model.shape.level.is_redundant())
        };
        let places = self.set.memberships(disk);
        for (volume, slot, _) in places.filter(|(volume, _, _)| is_lone(*volume)) {
            if self.master(volume, slot / self.width(volume)).is_none() {
                return Err(reason!(
                    ENODEV,
                    "no disk that works has the configuration of volume {volume}"
                ));
            }
        }
        self.take_back(disk, facts, true, context)
    }

    /// A lost disk is here again. `counts`: what it holds does in volumes without redundancy.
    fn take_back(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        counts: bool,
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
        self.check_expendable(disk, counts)?;
        if self.disk_meta(disk).is_none_or(|meta| meta.entry.is_none()) {
            return Err(reason!(
                EPERM,
                "the set does not list disk {disk}: what is on it may be somebody's; remove it, then \
                 add it"
            ));
        }
        let kind = self.disk_type(disk);
        let spare_for = self.disk_meta(disk).and_then(|meta| meta.spare_for);
        // What counts has to be known to disks that have nothing of this update, if it is cut.
        let kept = self.pde(disk).map(|entry| entry.guid());
        let kept = kept.filter(|guid| counts && !guid_unused(guid));
        let guid = kept.unwrap_or_else(|| new_disk_guid(self, facts, Some(disk), context));
        let reference = new_reference(self, context, u64::from(disk));
        let mut home = self.fresh_home(facts, &guid, reference)?;
        home.holds_data = counts;
        let usable = self.usable_blocks(&home);
        if counts {
            check_two_copies(&home)?;
            self.check_kept(disk, usable.saturating_mul(self.layout.block_sectors()))?;
        }
        self.reserve_plan()?;
        if counts {
            self.reinstate(disk);
        }
        self.forget(disk, ddf_time(context));
        self.drop_twins(disk);
        let entry = self.disk_meta(disk).and_then(|meta| meta.entry);
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            *meta = DiskMeta {
                reference,
                entry,
                spots: home_spots(&home),
                home: Some(home),
                spare_for: None,
            };
        }
        if let Some(entry) = entry {
            self.fill_entry(entry, &guid, reference, usable, false);
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = Some(*facts);
            model.state = DiskState::Online;
            model.label = super::assemble::label_of(&guid, reference);
            model.usable_sectors = usable.saturating_mul(self.layout.block_sectors());
            model.failure_predicted = false;
        }
        if counts {
            self.name_again(disk, context);
            return Ok(());
        }
        self.assign_again(disk, kind, spare_for, context)
    }

    /// Refuses when a volume without redundancy has more of `disk` than `usable` sectors.
    fn check_kept(&self, disk: DiskIndex, usable: u64) -> Checked {
        for (volume, _, member) in self.set.memberships(disk) {
            let shape = self.set.volume(volume).map(|model| &model.shape);
            let lone = shape.filter(|shape| !shape.level.is_redundant());
            let end = lone.map_or(0, |shape| {
                member.offset_sectors.saturating_add(shape.member_sectors)
            });
            if end > usable {
                return Err(reason!(
                    ENOSPC,
                    "metadata like that of the other disks would be where volume {volume} is"
                ));
            }
        }
        Ok(())
    }

    /// `disk` holds what it should in volumes without redundancy.
    fn reinstate(&mut self, disk: DiskIndex) {
        let lone = |model: &&mut Volume| !model.deleted && !model.shape.level.is_redundant();
        for model in self.set.volumes.iter_mut().filter(lone) {
            for member in model.members.iter_mut().filter(|m| m.disk == Some(disk)) {
                member.state = MemberState::InSync;
            }
        }
    }

    /// Names a disk with a new reference in the volumes that it is a member of, and gives it their records.
    fn name_again(&mut self, disk: DiskIndex, context: &Context) {
        let reference = self.disk_meta(disk).map_or(0, |meta| meta.reference);
        for index in 0..self.set.volumes.len() {
            let Ok(volume) = u16::try_from(index) else {
                break;
            };
            let members = self.set.volume(volume).map(|model| model.members.iter());
            let mut places = (0u16..).zip(members.into_iter().flatten());
            let place = places.find(|(_, member)| member.disk == Some(disk));
            let Some((slot, start)) = place.map(|(slot, member)| (slot, member.offset_sectors))
            else {
                continue;
            };
            let width = self.width(volume);
            let (span, position) = (slot / width, slot % width);
            let block = self.layout.blocks(start);
            self.edit_records(volume, span, ddf_time(context), &|bytes, layout| {
                config::set_member(bytes, layout, position, reference, block);
            });
            self.give_record(volume, span, disk);
            self.refresh_vde(volume);
            self.lacks_volume(disk, volume);
        }
        self.refresh_active(disk);
    }

    /// Sets the "in a volume" bit of a disk by whether it is in one.
    pub fn refresh_active(&mut self, disk: DiskIndex) {
        let active = self.set.memberships(disk).next().is_some();
        self.edit_pde(disk, |kind, state| {
            let bit = if active { pde::ACTIVE } else { 0 };
            ((kind & !pde::ACTIVE) | bit, state)
        });
        self.refresh_role(disk);
    }
}

/// Refuses to reinstate a disk that has room for one copy of its metadata. Its new reference and the data that counts have to be
/// known at any time: torn in the midst of its only copy it would be no disk of the set any more.
fn check_two_copies(home: &Home) -> Checked {
    match home.copy(Which::Secondary) {
        Some(_) => Ok(()),
        None => Err(reason!(
            EOPNOTSUPP,
            "the set's disks keep one copy of their metadata: were power cut while it is written, this disk would be lost"
        )),
    }
}

/// Where the headers of a disk are.
fn home_spots(home: &Home) -> [Option<u64>; 3] {
    let [primary, secondary] = home.copies;
    [Some(home.anchor), primary, secondary]
}
