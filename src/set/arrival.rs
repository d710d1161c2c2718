// SPDX-License-Identifier: GPL-2.0

//! Disks of an active set that come (back): what the set makes of them.
//!
//! ```text
//!  not known, or here already ───────────────────────────────► left alone
//!  recorded as failed ───────────────────────────────────────► left alone: a person may add it again
//!  recorded as lost, and all there is of a part of a volume without redundancy ► the same: by force what it holds counts
//!  its metadata, beside what the others hold, ── newer, or used apart ──► left alone: its data may be wanted
//!                        ── of a volume that lacks too much to run ──► waits for the volume's other disks; with all of them
//!                        │                                            here they take their places, with their data
//!                        └─ else ──► blank: may take its old place, to be rebuilt
//! ```
//!
//! All disks that are claimed are read again for that and judged together by the format, as when a set is assembled. The
//! inner lock is held meanwhile, so nothing is being written to them.

use super::managed::{assemble, assemble_one, claim, ManagedSet};
use super::probe;
use super::start::Policy;
use super::state::Inner;
use crate::block::bdev::{BlockDevice, Dev};
use crate::metadata::{DiskImage, MetadataSet};
use crate::model::{
    Access, Checked, DiskIndex, DiskRole, DiskState, Event, MemberState, Set, SpareRole, Text,
    Volume, VolumeIndex,
};
use crate::personalities::Health;
use crate::reason;
use crate::uapi::EventKind;
use core::mem::discriminant;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What the metadata of an arrived disk is to those of the set.
enum Standing {
    /// It may count as a blank one.
    Old,
    /// It knows what the set does not.
    Apart,
    /// It is of a volume that lacks more than this disk.
    Early,
    /// With it a volume is complete, all of which is as this metadata has it.
    Complete(KBox<dyn MetadataSet>),
}

impl ManagedSet {
    /// A disk of this active set came (back).
    #[inline(never)]
    pub(super) fn take_back(self: &Arc<Self>, image: DiskImage) -> Checked {
        let change = self.change.lock();
        let dev = Dev(image.facts.key);
        let alone = assemble_one(self.format, &image)?;
        let place = self.old_place(dev, alone.set())?;
        let may_start = match place {
            _ if self.irreplaceable(dev, alone.set())?.is_some() => {
                self.tell_stranger(
                    dev,
                    "a volume lost it and cannot do without it: stop that one, then add this by force",
                );
                false
            }
            None => {
                self.tell_stranger(dev, "its set does not know it, or has it already");
                false
            }
            Some((_, DiskState::Failed)) => {
                self.tell_stranger(dev, "its set has it as failed: add it again by hand");
                false
            }
            Some((index, _)) => self.take_known(index, alone.set(), dev)?,
        };
        drop(change);
        if may_start {
            self.start(Policy::COMPLETE, None)?;
        }
        self.kick_keeper();
        Ok(())
    }

    /// The same for a disk that the set misses. True when a volume is complete with it.
    fn take_known(&self, index: DiskIndex, alone: &Set, dev: Dev) -> Checked<bool> {
        let mut claimed = KVec::with_capacity(1, GFP_KERNEL)?;
        claimed.push(claim(dev)?, GFP_KERNEL)?;
        for early in self.early_ones(dev)? {
            claimed.push(claim(early)?, GFP_KERNEL)?;
        }
        // Disks are closed without the lock: it goes first.
        let mut inner = self.lock();
        let spare_for = inner.spare_for(dev, alone);
        match inner.standing_of(self, index, alone, &claimed)? {
            Standing::Apart => {
                drop(inner);
                self.tell_stranger(
                    dev,
                    "it was used apart from the set, what it holds may be newer: add it by hand to give that up",
                );
                Ok(false)
            }
            Standing::Old => {
                drop(inner);
                claimed.truncate(1);
                if let Some(device) = claimed.pop() {
                    self.return_claimed(index, &device, spare_for)?;
                }
                Ok(false)
            }
            Standing::Early => {
                inner.early.push(dev, GFP_KERNEL)?;
                drop(inner);
                self.shared.say(
                    EventKind::Note,
                    &self.id,
                    format_args!("disk {dev} waits for the other disks of its volume"),
                );
                Ok(false)
            }
            Standing::Complete(metadata) => {
                inner.adopt(metadata, &claimed)?;
                drop(inner);
                for device in claimed.iter() {
                    self.say_back(device.dev());
                }
                Ok(true)
            }
        }
    }

    /// The disks that wait for others of their volumes, but for `dev`, which is not one of them any more.
    fn early_ones(&self, dev: Dev) -> Checked<KVec<Dev>> {
        let mut inner = self.lock();
        inner.early.retain(|early| *early != dev);
        let mut early = KVec::with_capacity(inner.early.len(), GFP_KERNEL)?;
        early.extend_from_slice(&inner.early, GFP_KERNEL)?;
        Ok(early)
    }

    /// Which disk of this active set the disk `dev` was, of which alone the set `alone` was made, and the state that it
    /// has there; `None` when there is none such, or it is here already.
    #[inline(never)]
    pub(super) fn old_place(
        &self,
        dev: Dev,
        alone: &Set,
    ) -> Checked<Option<(DiskIndex, DiskState)>> {
        let inner = self.lock();
        let place = inner.known_place(dev, alone)?;
        Ok(place.filter(|(index, _)| inner.device(*index).is_none()))
    }

    /// Which disk of this set the disk `dev` was, as above, when a volume without redundancy lost it
    /// ([`Set::irreplaceable`]), and that volume. Arrays may still have the device that is gone.
    #[inline(never)]
    pub(super) fn irreplaceable(
        &self,
        dev: Dev,
        alone: &Set,
    ) -> Checked<Option<(DiskIndex, VolumeIndex)>> {
        let inner = self.lock();
        let Some((index, _)) = inner.known_place(dev, alone)? else {
            return Ok(None);
        };
        let is_away = inner.device(index).is_none_or(|device| device.is_gone());
        let lone = inner.known()?.irreplaceable(index);
        Ok(lone.filter(|_| is_away).map(|lone| (index, lone)))
    }

    /// Refuses a disk of this very set, of which alone the set `alone` is made, that was used apart from it.
    #[inline(never)]
    pub(super) fn check_outlived(&self, dev: Dev, alone: &Set) -> Checked {
        // Closed without the lock: it is declared first.
        let claimed = [claim(dev)?];
        match self.lock().joined_with(self, alone, &claimed)? {
            Some(_) => Ok(()),
            None => Err(reason!(
                EEXIST,
                "disk {dev} was used apart from the set, what it holds may be newer; use it by force to give that up"
            )),
        }
    }

    /// Claims a disk that was missing, of which alone the set `alone` was made, and records that it is here as a blank one.
    /// Called with `change` held.
    #[inline(never)]
    pub(super) fn return_disk(&self, index: DiskIndex, dev: Dev, alone: &Set) -> Checked {
        let spare_for = self.lock().spare_for(dev, alone);
        self.return_claimed(index, &claim(dev)?, spare_for)
    }

    /// `spare_for`: by its own metadata it is a spare for this volume, which the set's need not say.
    fn return_claimed(
        &self,
        index: DiskIndex,
        device: &Arc<BlockDevice>,
        spare_for: Option<VolumeIndex>,
    ) -> Checked {
        let dev = device.dev();
        let facts = probe::facts(device);
        let mut inner = self.lock();
        let event = Event::DiskReturned(index, facts);
        inner.note_places(index)?;
        inner.record_with(&self.shared, &event, device, || Ok(()))?;
        inner.returned.insert(index);
        inner.early.retain(|early| *early != dev);
        let role = inner.known()?.disk(index).map(|disk| disk.role);
        if let (Some(volume), Some(DiskRole::Unused)) = (spare_for, role) {
            let event = Event::SpareAssigned(index, SpareRole::Dedicated(volume));
            if let Err(reason) = inner.record(&self.shared, &event) {
                log!(pr_warn, "disk {dev} is no spare any more: {reason}");
            }
        }
        drop(inner);
        self.say_back(dev);
        Ok(())
    }

    fn say_back(&self, dev: Dev) {
        self.shared.say(
            EventKind::DiskAdded,
            &self.id,
            format_args!("disk {dev} is here again"),
        );
    }

    #[inline(never)]
    fn tell_stranger(&self, dev: Dev, why: &str) {
        self.shared.say(
            EventKind::Note,
            &self.id,
            format_args!("disk {dev} is left alone: {why}"),
        );
    }
}

impl Inner {
    /// Whether what is on the disk `dev`, of which alone the set `alone` was made, is all there is of something: a volume
    /// cannot do without it, and has it no more.
    pub(super) fn lacks_contents(&self, dev: Dev, alone: &Set) -> Checked<bool> {
        let Some((index, _)) = self.known_place(dev, alone)? else {
            return Ok(false);
        };
        let set = self.known()?;
        let mut places = set.memberships(index);
        let counts = places.any(|(_, _, member)| member.state == MemberState::InSync);
        let is_away = self.device(index).is_none_or(|device| device.is_gone());
        let is_needed = counts && !self.bears_loss(index) || set.irreplaceable(index).is_some();
        Ok(is_away && is_needed)
    }

    /// Whether the disk `dev`, of which alone the set `alone` was made, is still one of this set: it may have been taken out while it was
    /// away. Where the format cannot say it is.
    pub(super) fn still_has(&self, dev: Dev, alone: &Set) -> Checked<bool> {
        let metadata = self.metadata.as_ref();
        let can_say = metadata.is_some_and(|metadata| metadata.names_lost_disks());
        Ok(!can_say || self.known_place(dev, alone)?.is_some())
    }

    /// Which disk of the set the disk `dev` was, of which alone the set `alone` was made, and its state.
    fn known_place(&self, dev: Dev, alone: &Set) -> Checked<Option<(DiskIndex, DiskState)>> {
        let label = alone
            .disk_by_key(dev.0)
            .and_then(|index| alone.disk(index))
            .map(|disk| disk.label)
            .ok_or_else(|| reason!(ENOENT, "the metadata of disk {dev} does not name it"))?;
        let place = self.disk_called(&label);
        let ours = self.known()?;
        Ok(place.and_then(|index| ours.disk(index).map(|disk| (index, disk.state))))
    }

    /// How the disk at `index`, of which alone the set `alone` was made, stands to those that are here. It is the first of
    /// the `claimed`; the others are those that wait.
    #[inline(never)]
    fn standing_of(
        &mut self,
        set: &ManagedSet,
        index: DiskIndex,
        alone: &Set,
        claimed: &[Arc<BlockDevice>],
    ) -> Checked<Standing> {
        let Some(joint) = self.joined_with(set, alone, claimed)? else {
            return Ok(Standing::Apart);
        };
        if !self.is_awaited(index, joint.set()) {
            return Ok(Standing::Old);
        }
        Ok(match self.may_be_adopted(joint.set(), claimed) {
            true => Standing::Complete(joint),
            false => Standing::Early,
        })
    }

    /// The set that the format makes of the disks that are here and of the `claimed`, of which the first alone makes the set
    /// `alone`; `None` when that one was used apart, and knows what the set does not.
    #[inline(never)]
    fn joined_with(
        &mut self,
        set: &ManagedSet,
        alone: &Set,
        claimed: &[Arc<BlockDevice>],
    ) -> Checked<Option<KBox<dyn MetadataSet>>> {
        // What is on the disks has to be what is known.
        self.catch_up(&set.shared)?;
        if self.calls_lost(alone) || self.knows_nobody(alone) {
            return Ok(None);
        }
        let joint = assemble(set.format, &self.read_all(set, claimed)?)?;
        Ok((!self.is_outdone(joint.set())).then_some(joint))
    }

    /// The volume that the disk `dev` is a spare for, by the set `alone` that was made of it alone.
    fn spare_for(&self, dev: Dev, alone: &Set) -> Option<VolumeIndex> {
        let role = alone
            .disk_by_key(dev.0)
            .and_then(|index| alone.disk(index))
            .map(|disk| disk.role);
        let Some(DiskRole::DedicatedSpare(volume)) = role else {
            return None;
        };
        let id = alone.volume(volume)?.id;
        let mut ours = self.model()?.live_volumes();
        ours.find(|(_, volume)| volume.id == id)
            .map(|(index, _)| index)
    }

    /// Lets `metadata` stand for the set, with the `claimed` disks in their places.
    fn adopt(&mut self, metadata: KBox<dyn MetadataSet>, claimed: &[Arc<BlockDevice>]) -> Checked {
        // Room first, so that nothing fails in between.
        let disks = metadata.set().disks.len();
        while self.devices.len() < disks {
            self.devices.push(None, GFP_KERNEL)?;
        }
        self.metadata = Some(metadata);
        self.make_room()?;
        for device in claimed {
            let index = self.known()?.disk_by_key(device.dev().0);
            if let Some(index) = index {
                self.put_device(index, device.clone())?;
                self.told_gone.remove(index);
            }
        }
        self.early = KVec::new();
        Ok(())
    }

    /// Which disk of the set is the one that other disks' metadata calls `label`.
    fn disk_called(&self, label: &Text<32>) -> Option<DiskIndex> {
        self.metadata.as_ref()?.disk_called(label)
    }

    /// Whether a set made of one disk alone has a disk as failed that works here.
    fn calls_lost(&self, alone: &Set) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let mut lost = alone
            .live_disks()
            .filter(|(_, disk)| disk.state == DiskState::Failed && disk.facts.is_none());
        lost.any(|(_, lost)| {
            self.disk_called(&lost.label).is_some_and(|index| {
                let state = ours.disk(index).map(|disk| disk.state);
                state == Some(DiskState::Online) && self.device(index).is_some()
            })
        })
    }

    /// Whether a set made of one disk alone has a volume of ours in which nobody is where our members are: all of them were
    /// lost to that disk. (One of them may be new to it.)
    fn knows_nobody(&self, alone: &Set) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let mut volumes = ours.live_volumes();
        volumes.any(|(index, volume)| {
            let Some(theirs) = alone.volume(index).filter(|theirs| theirs.id == volume.id) else {
                return false;
            };
            let mut working = volume
                .members
                .iter()
                .zip(theirs.members.iter())
                .filter(|(member, _)| {
                    member.state == MemberState::InSync
                        && member.disk.is_some_and(|disk| self.device(disk).is_some())
                })
                .peekable();
            working.peek().is_some() && working.all(|(_, theirs)| theirs.disk.is_none())
        })
    }

    /// Whether the format, with all disks before it, does not count on those that work here any more.
    fn is_outdone(&self, joint: &Set) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let mut works = ours
            .live_disks()
            .filter(|(index, disk)| {
                disk.state == DiskState::Online && self.device(*index).is_some()
            })
            .filter_map(|(_, disk)| disk.facts);
        let is_left_out = works.any(|facts| {
            let disk = joint.disk_by_key(facts.key).and_then(|at| joint.disk(at));
            disk.is_none_or(|disk| disk.state != DiskState::Online)
        });
        let is_refused = |volume: &Volume| matches!(volume.access, Access::Refused(_));
        let refused = |set: &Set| {
            let volumes = set.live_volumes();
            volumes.filter(|(_, volume)| is_refused(volume)).count()
        };
        is_left_out || refused(joint) > refused(ours)
    }

    /// Whether a disk is, by `joint`, of a volume that does not run and could not with the disks that are claimed.
    fn is_awaited(&self, disk: DiskIndex, joint: &Set) -> bool {
        let could_run = |volume: VolumeIndex| {
            let model = self.model().and_then(|set| set.volume(volume));
            model.is_some_and(|model| !matches!(model.access, Access::Refused(_)))
                && self.health(volume, self.usable(volume)) != Health::Failed
        };
        let mut places = joint.memberships(disk);
        places.any(|(volume, _, _)| self.running(volume).is_none() && !could_run(volume))
    }

    /// Whether `joint` can stand for the set: what runs is in it as it is here, and of the `arrived` disks all are up to
    /// date members of volumes that do not run and lack nothing any more.
    fn may_be_adopted(&self, joint: &Set, arrived: &[Arc<BlockDevice>]) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let is_same_disk = |at: DiskIndex| {
            let (Some(one), Some(other)) = (ours.disk(at), joint.disk(at)) else {
                return false;
            };
            self.disk_called(&other.label) == Some(at)
                && (self.device(at).is_none() || one.state == other.state)
        };
        let is_same_volume = |volume: VolumeIndex| {
            let (Some(one), Some(other)) = (ours.volume(volume), joint.volume(volume)) else {
                return ours.volume(volume).is_none() && joint.volume(volume).is_none();
            };
            one.id == other.id && (self.running(volume).is_none() || is_same_run(one, other))
        };
        let is_whole = |volume: VolumeIndex| {
            joint.volume(volume).is_some_and(|volume| {
                let mut members = volume.members.iter();
                members.all(|member| member.state == MemberState::InSync)
            })
        };
        let completes = |device: &Arc<BlockDevice>| {
            joint.disk_by_key(device.dev().0).is_some_and(|disk| {
                let mut places = joint.memberships(disk).peekable();
                places.peek().is_some()
                    && places
                        .all(|(volume, _, _)| self.running(volume).is_none() && is_whole(volume))
            })
        };
        let (disks, volumes) = (ours.disks.len(), ours.volumes.len());
        (disks, volumes) == (joint.disks.len(), joint.volumes.len())
            && arrived.iter().all(completes)
            && (0..disks as DiskIndex).all(is_same_disk)
            && (0..volumes as VolumeIndex).all(is_same_volume)
    }
}

/// Whether a volume that runs is read as it is known. How far its task is does not count: some formats keep that in memory
/// only, and it is told again when the task goes on or ends.
fn is_same_run(ours: &Volume, read: &Volume) -> bool {
    let mut members = ours.members.iter().zip(read.members.iter());
    ours.members.len() == read.members.len()
        && discriminant(&ours.consistency) == discriminant(&read.consistency)
        && discriminant(&ours.access) == discriminant(&read.access)
        && members.all(|(one, other)| {
            one.disk == other.disk && discriminant(&one.state) == discriminant(&other.state)
        })
}
