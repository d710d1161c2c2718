// SPDX-License-Identifier: GPL-2.0

//! Disks that people add, take out, fail, and make spares.

use super::candidate::{Candidate, MayHold};
use super::managed::{assemble_one, claim, ManagedSet};
use super::manager::{Manager, Operations};
use super::probe::{self, Found};
use super::start::Policy;
use crate::block::bdev::{BlockDevice, Dev, Mode};
use crate::metadata::MetadataSet;
use crate::model::{
    Checked, DiskIndex, DiskOffer, DiskState, Event, Identity, MemberState, Set, Slot, SpareRole,
    VolumeIndex,
};
use crate::personalities::Health;
use crate::reason;
use crate::uapi::{DevNumber, EventKind, MemberDisk, MemberOp, MemberReply, MemberRequest, Target};
use kernel::prelude::*;
use kernel::sync::Arc;

impl Manager {
    /// Does what a person wants done with a disk.
    #[inline(never)]
    pub(super) fn change_member(
        &self,
        operations: &mut Operations,
        request: &MemberRequest,
    ) -> Checked<MemberReply> {
        let (set, volume) = match self.find_volume(&request.target)? {
            Some((set, volume)) => (set, Some(volume)),
            None => match &request.target {
                Target::Set(id) => (self.find_set(id)?, None),
                _ => return Err(reason!(EINVAL, "say which set or array")),
            },
        };
        let change = set.change.lock();
        set.activate()?;
        set.drop_removed();
        let mut reinstated = None;
        let result = match (request.op, request.disk) {
            (MemberOp::Remove, disk) => set.remove_disk(disk, request.force),
            (_, MemberDisk::Index(_)) => Err(reason!(EINVAL, "say which device")),
            (op, MemberDisk::Device(dev)) => {
                let dev = Dev(dev.to_wire());
                match op {
                    MemberOp::Add => match set.reinstate(operations, dev, request.force) {
                        Ok(Some((index, lone))) => {
                            reinstated = Some((index, lone));
                            set.fill_places(index, volume)
                        }
                        Ok(None) => set.add_disk_to_set(self, operations, request, dev, volume),
                        Err(why) => Err(why),
                    },
                    MemberOp::Fail => set.fail_disk(dev, request.force),
                    MemberOp::Spare => set.make_spare(self, operations, request, dev, volume),
                    _ => set.unmake_spare(dev),
                }
            }
        };
        if reinstated.is_none() || result.is_err() {
            set.release_if_idle();
        }
        drop(change);
        if let (Some((index, lone)), Ok(_)) = (reinstated, &result) {
            set.start(Policy::COMPLETE, Some(lone))?;
            return Ok(set.place_of(index));
        }
        self.unlist_if_empty(&set);
        set.kick();
        set.kick_keeper();
        result
    }
}

impl ManagedSet {
    /// The index of a disk of the set.
    fn index_for(&self, dev: Dev) -> Checked<DiskIndex> {
        self.lock()
            .index_of(dev)
            .ok_or_else(|| reason!(ENOENT, "disk {dev} is not part of the set"))
    }

    /// The index of a disk of the set, which need not be here if that is how it is named.
    fn index_named(&self, disk: MemberDisk) -> Checked<DiskIndex> {
        match disk {
            MemberDisk::Device(dev) => self.index_for(Dev(dev.to_wire())),
            MemberDisk::Index(index) => {
                let inner = self.lock();
                let mut known = inner.known()?.live_disks();
                match known.any(|(live, _)| live == index) {
                    true => Ok(index),
                    false => Err(reason!(ENOENT, "the set has no disk {index}")),
                }
            }
        }
    }

    /// Where a disk is a member.
    fn place_of(&self, disk: DiskIndex) -> MemberReply {
        let inner = self.lock();
        let mut reply = MemberReply {
            number: None,
            slot: None,
        };
        if let Some(set) = inner.model() {
            if let Some((volume, slot, _)) = set.memberships(disk).next() {
                reply.slot = Some(slot);
                reply.number = inner.running(volume).map(|running| running.number.get());
            }
        }
        reply
    }

    /// Takes a disk into the set that is not part of it.
    #[inline(never)]
    fn take_in(
        &self,
        manager: &Manager,
        operations: &mut Operations,
        dev: Dev,
        role: SpareRole,
        force: bool,
    ) -> Checked<DiskIndex> {
        for other in manager.all_sets()? {
            if other.lock().index_of(dev).is_some() {
                return Err(reason!(EBUSY, "disk {dev} belongs to another set"));
            }
        }
        let alone = self.read_alone(operations, dev).unwrap_or(None);
        let candidate = match alone {
            Some(alone) => {
                // Closed without the lock.
                let device = claim(dev)?;
                // Taken in it is erased.
                let checked = self
                    .lock()
                    .check_expendable(self, alone.set(), &device, force);
                checked?;
                let may_hold = match force {
                    true => MayHold::Anything,
                    false => MayHold::FormerMember(&self.id),
                };
                Candidate::look_at(device, may_hold, operations.io.as_mut())?
            }
            None => Candidate::claim(dev, MayHold::by_force(force), operations.io.as_mut())?,
        };
        self.take_candidate(manager, operations, candidate, role)
    }

    /// Takes a spare of the set `from`, which lends its spares, into this one.
    #[inline(never)]
    pub(super) fn take_spare(
        &self,
        manager: &Manager,
        operations: &mut Operations,
        dev: Dev,
        from: &Identity,
        role: SpareRole,
    ) -> Checked<DiskIndex> {
        let io = operations.io.as_mut();
        let candidate = Candidate::claim_spare(dev, self.format, from, io)?;
        self.take_candidate(manager, operations, candidate, role)
    }

    #[inline(never)]
    fn take_candidate(
        &self,
        manager: &Manager,
        operations: &mut Operations,
        candidate: Candidate,
        role: SpareRole,
    ) -> Checked<DiskIndex> {
        let dev = candidate.device.dev();
        let event = Event::DiskAdded(DiskOffer {
            facts: probe::facts(&candidate.device),
            role,
        });
        // Not before the format takes the disk: what is on it stays there otherwise.
        let erase = || candidate.erase_old(operations.io.as_mut());
        let index = {
            let mut inner = self.lock();
            let index = inner.record_with(&self.shared, &event, &candidate.device, erase)?;
            inner.early.retain(|early| *early != dev);
            index
        };
        manager.forget_disk(operations, dev)?;
        self.shared.post(EventKind::DiskAdded, &self.id, |event| {
            event.dev = DevNumber::from_wire(dev.0);
        });
        Ok(index)
    }

    #[inline(never)]
    fn add_disk_to_set(
        self: &Arc<Self>,
        manager: &Manager,
        operations: &mut Operations,
        request: &MemberRequest,
        dev: Dev,
        only: Option<VolumeIndex>,
    ) -> Checked<MemberReply> {
        let known = self.lock().index_of(dev);
        let index = match known {
            None => match self.comes_back(operations, dev, request.force)? {
                Some(index) => index,
                None => self.take_in(manager, operations, dev, SpareRole::None, request.force)?,
            },
            Some(index) => {
                let mut inner = self.lock();
                let disk = *inner
                    .known()?
                    .disk(index)
                    .ok_or_else(|| reason!(ENOENT, "disk {dev} is not part of the set"))?;
                match (disk.state, disk.facts) {
                    (DiskState::Online, _) => {}
                    (_, Some(_)) if !inner.is_attached(index) => {
                        let device = inner
                            .device(index)
                            .ok_or_else(|| reason!(ENODEV, "disk {dev} is gone"))?
                            .clone();
                        let facts = probe::facts(&device);
                        let event = Event::DiskReturned(index, facts);
                        inner.note_places(index)?;
                        let recorded = inner.record(&self.shared, &event);
                        inner.note_returned(index);
                        inner.note_start(self, index, &device);
                        recorded?;
                    }
                    _ => return Err(reason!(EBUSY, "disk {dev} is being taken out: try again")),
                }
                index
            }
        };
        let filled = self.fill_empty(index, only);
        let place = self.place_of(index);
        if filled.is_none() && place.slot.is_some() && known.is_some() {
            return Err(reason!(EEXIST, "disk {dev} is a member already"));
        }
        self.keep_members()?;
        Ok(self.place_of(index))
    }

    /// Lets a disk take the places that it may.
    fn fill_places(
        self: &Arc<Self>,
        index: DiskIndex,
        only: Option<VolumeIndex>,
    ) -> Checked<MemberReply> {
        self.fill_empty(index, only);
        self.keep_members()?;
        Ok(self.place_of(index))
    }

    /// A disk of this very set, lost because others could do without it, that is all there is of a part of a volume without
    /// redundancy: by force what it holds counts there. That volume, and the disk's index, when it is such a disk.
    #[inline(never)]
    fn reinstate(
        &self,
        operations: &mut Operations,
        dev: Dev,
        force: bool,
    ) -> Checked<Option<(DiskIndex, VolumeIndex)>> {
        // It may be back already while its array, stopped by now, had the device that is gone.
        self.drop_dead();
        let known = self.lock().index_of(dev);
        let mut claimed = None;
        let place = match known {
            Some(index) => {
                let lone = self.lock().known()?.irreplaceable(index);
                lone.map(|lone| (index, lone))
            }
            None => match self.read_alone(operations, dev)? {
                Some(alone) => match self.irreplaceable(dev, alone.set())? {
                    Some(place) => {
                        let device = claim(dev)?;
                        if self.is_awaited(alone.set(), &device)? {
                            // It was late only.
                            return Ok(None);
                        }
                        claimed = Some(device);
                        Some(place)
                    }
                    None => None,
                },
                None => None,
            },
        };
        let Some((index, lone)) = place else {
            return Ok(None);
        };
        if !force {
            return Err(reason!(
                EBUSY,
                "volume {lone} cannot do without what is on disk {dev}: added by force it counts there as it is"
            ));
        }
        if let Some(running) = self.lock().running(lone) {
            return Err(reason!(
                EBUSY,
                "emd{} runs without disk {dev}: stop it first",
                running.number.get()
            ));
        }
        if known.is_none() && self.lock().device(index).is_some() {
            return Err(reason!(EBUSY, "disk {dev} is being taken out: try again"));
        }
        // A device that is not kept is not closed with the lock held.
        let mut inner = self.lock();
        match &claimed {
            Some(device) => {
                let event = Event::DiskReinstated(index, probe::facts(device));
                inner.note_places(index)?;
                inner.record_with(&self.shared, &event, device, || Ok(()))?;
                inner.early.retain(|early| *early != dev);
                inner.told_gone.remove(index);
            }
            None => inner.reinstate_claimed(&self.shared, index)?,
        }
        inner.returned.insert(index);
        inner.note_good(index);
        Ok(Some((index, lone)))
    }

    /// Whether a volume that does not run has the `claimed` disk, of which alone the set `alone` is made, as one that nobody
    /// recorded as lost.
    fn is_awaited(&self, alone: &Set, claimed: &Arc<BlockDevice>) -> Checked<bool> {
        let dev = claimed.dev();
        let mut inner = self.lock();
        let joint = inner.joined_with(self, dev, alone, core::slice::from_ref(claimed))?;
        Ok(joint.is_some_and(|joint| inner.volume_awaiting(dev, joint.set()).is_some()))
    }

    /// A disk of this very set that is missing, or failed and was taken away, keeps its identity.
    fn comes_back(
        &self,
        operations: &mut Operations,
        dev: Dev,
        force: bool,
    ) -> Checked<Option<DiskIndex>> {
        let Some(alone) = self.read_alone(operations, dev)? else {
            return Ok(None);
        };
        let Some((index, _)) = self.old_place(dev, alone.set())? else {
            return Ok(None);
        };
        self.return_disk(index, dev, alone.set(), force)?;
        Ok(Some(index))
    }

    /// The set that is made of this disk alone, if it is this one.
    #[inline(never)]
    fn read_alone(
        &self,
        operations: &mut Operations,
        dev: Dev,
    ) -> Checked<Option<KBox<dyn MetadataSet>>> {
        let device = BlockDevice::open(dev, Mode::Read)
            .map_err(|errno| reason!(errno, "disk {dev} cannot be opened"))?;
        let found = probe::probe_one(self.format, &device, operations.io.as_mut())?;
        drop(device);
        match found {
            Found::Set { id, image, .. } if id == self.id => {
                Ok(Some(assemble_one(self.format, &image)?))
            }
            _ => Ok(None),
        }
    }

    /// Puts a disk into the places that it held, and into the first empty one of each other volume that takes it.
    #[inline(never)]
    fn fill_empty(
        &self,
        disk: DiskIndex,
        only: Option<VolumeIndex>,
    ) -> Option<(VolumeIndex, Slot)> {
        let mut inner = self.lock();
        let mut filled = None;
        // Those that it held first.
        for is_own in [true, false] {
            for volume in 0..inner.entries_len() {
                let old = inner.returned.place_in(volume, disk);
                if only.is_some_and(|only| only != volume) || is_own != old.is_some() {
                    continue;
                }
                let old = old.filter(|&slot| inner.is_empty(volume, slot));
                let Some(slot) = old.or_else(|| inner.next_empty(volume, None)) else {
                    continue;
                };
                if inner.activate_disk(self, volume, slot, disk).is_ok() {
                    filled = filled.or(Some((volume, slot)));
                }
            }
        }
        filled
    }

    #[inline(never)]
    fn fail_disk(self: &Arc<Self>, dev: Dev, force: bool) -> Checked<MemberReply> {
        let index = self.index_for(dev)?;
        let place = self.place_of(index);
        let mut inner = self.lock();
        let state = inner.known()?.disk(index).map(|disk| disk.state);
        if state != Some(DiskState::Online) {
            return Err(reason!(EALREADY, "disk {dev} does not count as working"));
        }
        inner.check_not_filled(index)?;
        if let Some(volume) = inner.breaks_without(index) {
            if !force {
                return Err(reason!(
                    EBUSY,
                    "volume {volume} would be lost without disk {dev}; fail it by force"
                ));
            }
        }
        if !inner.bears_loss(index) && !inner.is_given_up(index) {
            return Err(reason!(
                EBUSY,
                "disk {dev} holds what no other disk does, so its arrays keep it: stop the volume or delete it instead"
            ));
        }
        // While no disk takes metadata it could not be recorded: then nothing has happened.
        inner.catch_up(&self.shared)?;
        inner.fail_on_arrays(index);
        if inner.bears_loss(index) {
            inner.record(&self.shared, &Event::DiskFailed(index))?;
        }
        if inner.tell_states(&self.shared) {
            drop(inner);
            self.kick_keeper();
        }
        Ok(place)
    }

    /// Refuses to forget a disk that is not here when a volume does not work without it: it may be what brings that back.
    fn check_forgettable(&self, index: DiskIndex) -> Checked {
        let inner = self.lock();
        for (volume, _, _) in inner.known()?.memberships(index) {
            if inner.health(volume, inner.usable(volume)) == Health::Failed {
                return Err(reason!(
                    EBUSY,
                    "volume {volume} does not work without disk {index}, which may come back; delete the volume if not"
                ));
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn remove_disk(self: &Arc<Self>, disk: MemberDisk, force: bool) -> Checked<MemberReply> {
        let index = self.index_named(disk)?;
        self.lock().check_not_filled(index)?;
        let place = self.place_of(index);
        let (active, dev) = {
            let inner = self.lock();
            let set = inner.known()?;
            let mut places = set.memberships(index);
            let active = places.any(|(_, _, member)| {
                matches!(
                    member.state,
                    MemberState::InSync | MemberState::Rebuilding { .. }
                )
            });
            (active, inner.device(index).map(|device| device.dev()))
        };
        if dev.is_none() {
            self.check_forgettable(index)?;
        }
        if active {
            let (true, Some(dev)) = (force, dev) else {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is an active member: fail it first, or take it out by force"
                ));
            };
            if let Some(volume) = self.lock().breaks_without(index) {
                return Err(reason!(
                    EBUSY,
                    "volume {volume} would be lost without disk {disk}"
                ));
            }
            self.fail_disk(dev, false)?;
        }
        self.let_writes_end(index)?;
        self.detach_lost()?;
        let mut inner = self.lock();
        if inner.is_attached(index) {
            return Err(reason!(EBUSY, "disk {disk} is still in use by an array"));
        }
        let recorded = inner.record(&self.shared, &Event::DiskRemoved(index));
        if recorded.is_err() && !inner.is_removed(index) {
            return recorded.map(|()| place);
        }
        inner.returned.forget(index);
        inner.had_good.remove(index);
        drop(inner);
        // When no disk took it yet, the keeper sees to it.
        self.drop_removed();
        self.shared.post(EventKind::DiskRemoved, &self.id, |event| {
            event.dev = dev.and_then(|dev| DevNumber::from_wire(dev.0));
        });
        recorded.map(|()| place)
    }

    /// What waits for a failure that is recorded by now may end: arrays let go of the disk then.
    fn let_writes_end(&self, disk: DiskIndex) -> Checked {
        let mut inner = self.lock();
        // What is known in memory only does not count.
        inner.catch_up(&self.shared)?;
        let set = inner.known()?;
        for (volume, slot, member) in set.memberships(disk) {
            let lost = matches!(member.state, MemberState::Failed | MemberState::Missing);
            if let (true, Some(running)) = (lost, inner.running(volume)) {
                let mask = crate::personalities::Mask::single(slot);
                running
                    .array
                    .failures_recorded(mask.intersect(running.array.unrecorded()));
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn make_spare(
        self: &Arc<Self>,
        manager: &Manager,
        operations: &mut Operations,
        request: &MemberRequest,
        dev: Dev,
        volume: Option<VolumeIndex>,
    ) -> Checked<MemberReply> {
        let role = match (request.dedicated, volume) {
            (true, Some(volume)) => SpareRole::Dedicated(volume),
            (true, None) => return Err(reason!(EINVAL, "say for which array the spare is to be")),
            (false, _) => SpareRole::Global,
        };
        let capabilities = self.format.capabilities();
        let can = match role {
            SpareRole::Dedicated(_) => capabilities.spares_dedicated,
            _ => capabilities.spares_global,
        };
        if !can {
            return Err(reason!(
                EOPNOTSUPP,
                "{} records no such spares",
                self.format.name()
            ));
        }
        let known = self.lock().index_of(dev);
        let index = match known {
            Some(index) => {
                let event = Event::SpareAssigned(index, role);
                self.lock().record(&self.shared, &event)?;
                index
            }
            None => self.take_in(manager, operations, dev, role, request.force)?,
        };
        self.tell_spare(dev, 1);
        self.keep_members()?;
        Ok(self.place_of(index))
    }

    #[inline(never)]
    fn unmake_spare(&self, dev: Dev) -> Checked<MemberReply> {
        let index = self.index_for(dev)?;
        let event = Event::SpareAssigned(index, SpareRole::None);
        self.lock().record(&self.shared, &event)?;
        self.tell_spare(dev, 0);
        Ok(self.place_of(index))
    }

    fn tell_spare(&self, dev: Dev, value: u64) {
        self.shared
            .post(EventKind::SpareChanged, &self.id, |event| {
                event.dev = DevNumber::from_wire(dev.0);
                event.value = value;
            });
    }
}
