// SPDX-License-Identifier: GPL-2.0

//! Disks of an active set that come (back): what the set makes of them.
//!
//! ```text
//!  not known, or here already ── a spare by its own metadata ─► added, as new (late_spares)
//!                             └─ else ──────────────────────► left alone
//!  recorded as failed ───────────────────────────────────────► left alone: a person may add it again
//!  recorded as lost, and all there is of a part of a volume without redundancy ► the same: by force what it holds counts
//!  its metadata, beside what the others hold, ── newer, or used apart ──► left alone: its data may be wanted
//!                        ── of a volume that lacks too much to run ──► waits for the volume's other disks; with all of them
//!                        │                                            here they take their places, with their data
//!                        └─ else: left out of updates ── the set saw it go ──► blank: may take its old place, to be rebuilt
//!                                                     └─ else ──► left alone, until a person adds it (option take_back)
//! ```
//!
//! All disks that are claimed are read again for that and judged together by the format, as when a set is assembled. The
//! inner lock is held meanwhile, so nothing is being written to them.

use super::managed::{assemble, assemble_one, claim, ManagedSet};
use super::probe;
use super::start::Policy;
use super::state::Inner;
use crate::block::bdev::{BlockDevice, Dev};
use crate::metadata::arrival::{Consent, Standing};
use crate::metadata::{DiskImage, MetadataSet};
use crate::model::{Checked, DiskIndex, DiskRole, DiskState, Event, Set, SpareRole, VolumeIndex};
use crate::reason;
use crate::uapi::EventKind;
use kernel::prelude::*;
use kernel::sync::Arc;

impl ManagedSet {
    /// A disk of this active set came (back).
    #[inline(never)]
    pub(super) fn take_back(self: &Arc<Self>, image: DiskImage) -> Checked {
        let change = self.change.lock();
        let dev = Dev(image.facts.key);
        let alone = assemble_one(self.format, &image)?;
        // It may be here again before the keeper gave up what is gone.
        self.drop_dead();
        let place = self.old_place(dev, alone.set())?;
        let is_lone = self.irreplaceable(dev, alone.set())?.is_some();
        let is_complete = match place {
            None | Some((_, DiskState::Failed)) if is_lone => {
                self.tell_lone(dev);
                false
            }
            None if self.lock().is_given_up_later(dev, alone.set())? => {
                self.kick_keeper();
                return Err(reason!(
                    EAGAIN,
                    "disk {dev} is here again before its set has given up what is gone"
                ));
            }
            None => {
                self.take_unlisted(dev, alone.set())?;
                false
            }
            Some((_, DiskState::Failed)) => {
                self.tell_stranger(dev, "its set has it as failed: add it again by hand");
                false
            }
            Some((index, _)) => self.take_known(index, alone.set(), dev)?,
        };
        drop(change);
        if is_complete {
            self.start_refused()?;
        }
        self.kick_keeper();
        Ok(())
    }

    /// Starts the volumes that were not when somebody wanted it, as they lacked something. Those that a person stopped are
    /// left alone.
    fn start_refused(self: &Arc<Self>) -> Checked {
        let volumes = self.lock().entries_len();
        for volume in 0..volumes {
            let was_refused = {
                let inner = self.lock();
                let entry = inner.entries.get(usize::from(volume));
                entry.is_some_and(|entry| entry.running.is_none() && entry.why.is_some())
            };
            if was_refused {
                self.start(Policy::COMPLETE, Some(volume))?;
            }
        }
        Ok(())
    }

    /// Lets disks take their places that wait for others of their volumes: who starts these now does without those.
    #[inline(never)]
    pub(super) fn take_early(&self) -> Checked {
        let early = self.early_ones(None)?;
        let claimed = self.claim_early(&early, KVec::new())?;
        if claimed.is_empty() {
            return Ok(());
        }
        // Disks are closed without the lock: it goes first.
        let mut inner = self.lock();
        inner.catch_up(&self.shared)?;
        let joint = assemble(self.format, &inner.read_all(self, &claimed)?)?;
        if inner.may_be_adopted(joint.set(), &claimed, false) {
            inner.adopt(joint, &claimed)?;
        }
        Ok(())
    }

    /// Claims those of the disks that wait which can be, and are of this set still, beside the `claimed`.
    fn claim_early(
        &self,
        early: &[Dev],
        mut claimed: KVec<Arc<BlockDevice>>,
    ) -> Checked<KVec<Arc<BlockDevice>>> {
        for &dev in early {
            match self.claim_own(dev) {
                Ok(device) => claimed.push(device, GFP_KERNEL)?,
                Err(reason) => {
                    self.lock().early.retain(|early| *early != dev);
                    self.shared.say(
                        EventKind::Note,
                        &self.id,
                        format_args!(
                            "disk {dev} waits no more for the other disks of its volume: {reason}"
                        ),
                    );
                }
            }
        }
        Ok(claimed)
    }

    /// Claims a disk that was of this set when it was looked at, if it still is.
    fn claim_own(&self, dev: Dev) -> Checked<Arc<BlockDevice>> {
        let device = claim(dev)?;
        // Closed without the lock.
        let own = self.lock().check_own(self, &device);
        own.map(|()| device)
    }

    /// The same for a disk that the set misses. True when a volume is complete with it.
    fn take_known(&self, index: DiskIndex, alone: &Set, dev: Dev) -> Checked<bool> {
        let mut claimed = KVec::with_capacity(1, GFP_KERNEL)?;
        claimed.push(claim(dev)?, GFP_KERNEL)?;
        let early = self.early_ones(Some(dev))?;
        let mut claimed = self.claim_early(&early, claimed)?;
        // Disks are closed without the lock: it goes first.
        let mut inner = self.lock();
        let spare_for = inner.spare_for(dev, alone);
        match inner.standing_of(self, index, dev, alone, &claimed)? {
            (Standing::Apart, _) => {
                drop(inner);
                self.tell_stranger(
                    dev,
                    "it was used apart from the set, what it holds may be newer: add it by force to give that up",
                );
                Ok(false)
            }
            (Standing::Lone, _) => {
                drop(inner);
                self.tell_lone(dev);
                Ok(false)
            }
            (Standing::Old, _) => {
                let is_spare = inner.has_as_spare(index) || is_spare_alone(alone, dev);
                let may = match claimed.first() {
                    Some(device) => inner.may_take_back(self, index, device, is_spare),
                    None => return Ok(false),
                };
                drop(inner);
                claimed.truncate(1);
                match (may, claimed.pop()) {
                    (Ok(()), Some(device)) => self.return_claimed(index, &device, spare_for)?,
                    (Err(why), _) => self.tell_stranger(dev, why.text()),
                    (Ok(()), None) => {}
                }
                Ok(false)
            }
            (Standing::Early, _) | (Standing::Complete, None) => {
                inner.early.push(dev, GFP_KERNEL)?;
                drop(inner);
                self.shared.say(
                    EventKind::Note,
                    &self.id,
                    format_args!("disk {dev} waits for the other disks of its volume"),
                );
                Ok(false)
            }
            (Standing::Complete, Some(metadata)) => {
                inner.adopt(metadata, &claimed)?;
                drop(inner);
                for device in claimed.iter() {
                    self.say_back(device.dev());
                }
                Ok(true)
            }
        }
    }

    /// The disks that wait for others of their volumes, but for the one that is not one of them any more.
    fn early_ones(&self, but: Option<Dev>) -> Checked<KVec<Dev>> {
        let mut inner = self.lock();
        inner.early.retain(|early| Some(*early) != but);
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

    /// Claims a disk that was missing, of which alone the set `alone` was made, and records that it is here as a blank one, for
    /// a person: without `force` only if nobody may want what it holds. Called with `change` held.
    #[inline(never)]
    pub(super) fn return_disk(
        &self,
        index: DiskIndex,
        dev: Dev,
        alone: &Set,
        force: bool,
    ) -> Checked {
        // Closed without the lock.
        let device = claim(dev)?;
        let spare_for = {
            let mut inner = self.lock();
            inner.check_expendable(self, alone, &device, force)?;
            inner.spare_for(dev, alone)
        };
        self.return_claimed(index, &device, spare_for)
    }

    /// `spare_for`: by its own metadata it is a spare for this, which the set's need not say any more.
    fn return_claimed(
        &self,
        index: DiskIndex,
        device: &Arc<BlockDevice>,
        spare_for: Option<SpareRole>,
    ) -> Checked {
        let dev = device.dev();
        let facts = probe::facts(device);
        let mut inner = self.lock();
        let event = Event::DiskReturned(index, facts);
        inner.note_places(index)?;
        let role_of = |set: &Set| set.disk(index).map(|disk| disk.role);
        let was_spare = role_of(inner.known()?) == Some(DiskRole::GlobalSpare);
        let spare_for = spare_for.or(was_spare.then_some(SpareRole::Global));
        let recorded = inner.record_with(&self.shared, &event, device, || Ok(()));
        inner.note_returned(index);
        recorded?;
        inner.note_start(self, index, device);
        inner.early.retain(|early| *early != dev);
        if let (Some(spare), Some(DiskRole::Unused)) = (spare_for, role_of(inner.known()?)) {
            let event = Event::SpareAssigned(index, spare);
            if let Err(reason) = inner.record(&self.shared, &event) {
                log!(pr_warn, "disk {dev} is no spare any more: {reason}");
            }
        }
        drop(inner);
        self.say_back(dev);
        Ok(())
    }

    pub(super) fn say_back(&self, dev: Dev) {
        self.shared.say(
            EventKind::DiskAdded,
            &self.id,
            format_args!("disk {dev} is here again"),
        );
    }

    fn tell_lone(&self, dev: Dev) {
        self.tell_stranger(
            dev,
            "a volume lost it and cannot do without it: stop that one, then add this by force",
        );
    }

    #[inline(never)]
    pub(super) fn tell_stranger(&self, dev: Dev, why: &str) {
        self.shared.say(
            EventKind::Note,
            &self.id,
            format_args!("disk {dev} is left alone: {why}"),
        );
    }
}

/// Whether the disk `dev`, of which alone the set `alone` was made, calls itself a spare: it holds nothing that anybody wants.
fn is_spare_alone(alone: &Set, dev: Dev) -> bool {
    let own = alone.present_disk(dev.0);
    own.is_some_and(|disk| is_spare(disk.role))
}

/// Whether a disk of this role is a spare.
pub(super) fn is_spare(role: DiskRole) -> bool {
    matches!(role, DiskRole::GlobalSpare | DiskRole::DedicatedSpare(_))
}

impl Inner {
    /// Whether the disk `dev`, of which alone the set `alone` was made, is one of the set whose device is gone, and which the
    /// keeper will take out of arrays. (Of one that a volume cannot do without people were told.)
    fn is_given_up_later(&self, dev: Dev, alone: &Set) -> Checked<bool> {
        let place = self.known_place(dev, alone)?;
        Ok(place.is_some_and(|(index, _)| {
            let is_gone = self.device(index).is_some_and(|device| device.is_gone());
            is_gone && !self.told_gone.contains(index)
        }))
    }

    /// Refuses to use a disk that was left out of updates without its being added, unless the option says so: `device`, which
    /// is `disk` of the set. With `is_spare` it, or the set, says that there is nothing on it.
    #[inline(never)]
    pub(super) fn may_take_back(
        &mut self,
        set: &ManagedSet,
        disk: DiskIndex,
        device: &BlockDevice,
        is_spare: bool,
    ) -> Checked {
        let was_seen = self.had_good.contains(disk);
        let has_place = !self.has_no_place(disk);
        let option = set.shared.options.takes_back;
        match option.consent(was_seen, is_spare, has_place) {
            Consent::Given => Ok(()),
            Consent::IfBlank => self.check_holds_nothing(set, device),
            Consent::Refused => Err(reason!(
                EEXIST,
                "it was left out of the last updates: add it to have it rebuilt"
            )),
        }
    }

    /// Notes whether there is something at the start of a disk that came back: as a spare it keeps what it held as a member.
    pub(super) fn note_start(&mut self, set: &ManagedSet, disk: DiskIndex, device: &BlockDevice) {
        match self.check_holds_nothing(set, device) {
            Err(reason) if reason.errno() == EEXIST => self.hold_remains.insert(disk),
            _ => self.hold_remains.remove(disk),
        }
    }

    /// Whether a disk is a member of no volume, was none that has its place yet, and had nothing at its start: what is there by now is
    /// somebody else's.
    fn has_no_place(&self, disk: DiskIndex) -> bool {
        let mut places = self
            .model()
            .into_iter()
            .flat_map(|set| set.memberships(disk));
        let has_place = places.next().is_some() || self.returned.has_places(disk);
        !has_place && !self.hold_remains.contains(disk)
    }

    /// Whether the set has a disk as a spare.
    pub(super) fn has_as_spare(&self, disk: DiskIndex) -> bool {
        let known = self.model().and_then(|set| set.disk(disk));
        known.is_some_and(|disk| is_spare(disk.role))
    }

    /// Notes whether a disk that just got its place, or was added, is up to date.
    pub(super) fn note_good(&mut self, disk: DiskIndex) {
        match self.is_online(disk) {
            true => self.had_good.insert(disk),
            false => self.had_good.remove(disk),
        }
        self.told_old.remove(disk);
    }

    /// A disk came back, if its return counts: it does in memory, too, when no disk took the news yet.
    pub(super) fn note_returned(&mut self, disk: DiskIndex) {
        if self.is_online(disk) {
            self.returned.insert(disk);
        }
        self.note_good(disk);
    }

    /// Lets `metadata` stand for the set, with the `claimed` disks in their places.
    fn adopt(&mut self, metadata: KBox<dyn MetadataSet>, claimed: &[Arc<BlockDevice>]) -> Checked {
        // Room first, so that nothing fails in between.
        let disks = metadata.set().disks.len();
        while self.devices.len() < disks {
            self.devices.push(None, GFP_KERNEL)?;
        }
        // Who took its place with its data was waited for, and not lost: what was seen of the others means nothing beside it.
        self.moves.begin(metadata.set())?;
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
}
