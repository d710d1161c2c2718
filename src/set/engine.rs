// SPDX-License-Identifier: GPL-2.0

//! What ioctls ask for: the [`Engine`]. All checks come before anything is changed.

use super::managed::ManagedSet;
use super::manager::Manager;
use super::probe;
use super::start::Policy;
use super::state::Inner;
use crate::array::set_general_limits;
use crate::block::bdev::{BlockDevice, Dev, Mode};
use crate::control::Engine;
use crate::model::{Checked, Event, Text, VolumeIndex};
use crate::reason;
use crate::uapi::{
    CreateReply, CreateRequest, DeleteRequest, DevNumber, EventKind, MemberReply, MemberRequest,
    MismatchesReply, MismatchesRequest, PolicyRequest, RenameRequest, ScanNote, ScanReply,
    ScanRequest, SetInfo, StopReply, StopRequest, Target, TaskOp, TaskRequest,
};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

impl Engine for Manager {
    fn sets(&self) -> Checked<KVec<SetInfo>> {
        let mut infos = KVec::new();
        for set in self.all_sets()? {
            push_info(&set, &mut infos)?;
        }
        Ok(infos)
    }

    fn mismatches(&self, request: &MismatchesRequest) -> Checked<MismatchesReply> {
        let (set, volume) = self.volume_of(&request.target)?;
        set.mismatches(volume, request)
    }

    fn scan(&self, request: &ScanRequest) -> Checked<ScanReply> {
        let mut operations = self.operations.lock();
        Self::check_open(&operations)?;
        self.disks_gone(&mut operations);
        let mut reply = ScanReply {
            disks_seen: 0,
            arrays_started: 0,
            sets: KVec::new(),
            notes: KVec::new(),
        };
        let policy = Policy {
            degraded: request.degraded || request.force,
            force: request.force,
        };
        let waiting = self.waiting_sets()?;
        for set in self.scan_disks(&mut operations, request, &mut reply)? {
            if !waiting.iter().any(|known| Arc::ptr_eq(known, &set)) {
                set.waits.store(false, Ordering::Release);
                set.lock().deadline = None;
            }
            if request.set_id.is_some_and(|id| id != set.id.digest()) {
                continue;
            }
            self.scan_set(&set, request, policy, &mut reply)?;
            push_info(&set, &mut reply.sets)?;
        }
        Ok(reply)
    }

    fn create(&self, request: &CreateRequest) -> Checked<CreateReply> {
        let mut operations = self.operations.lock();
        Self::check_open(&operations)?;
        let made = match &request.set_id {
            Some(id) => self.create_in_set(id, request)?,
            None => self.create_set(&mut operations, request)?,
        };
        let mut ready = Ok(());
        if let Some(volume) = made.volume.filter(|&volume| made.set.is_filling(volume)) {
            // Others need not wait for that.
            drop(operations);
            let filled = made.set.fill_members(volume);
            operations = self.operations.lock();
            ready = made.set.end_filling(volume, filled);
        }
        let reply = ready.and_then(|()| self.finish(&made));
        if reply.is_err() {
            self.undo(&made);
        }
        drop(operations);
        reply
    }

    fn stop(&self, request: &StopRequest) -> Checked<StopReply> {
        let operations = self.operations.lock();
        Self::check_open(&operations)?;
        let mut reply = StopReply { arrays_stopped: 0 };
        if let Some((set, volume)) = self.find_volume(&request.target)? {
            let change = set.change.lock();
            reply.arrays_stopped = u32::from(set.stop_volume(volume)?);
            if !set.lock().any_running() {
                set.lock().held = true;
            }
            set.release_if_idle();
            drop(change);
            self.unlist_if_empty(&set);
            return Ok(reply);
        }
        let mut sets = self.all_sets()?;
        if let Target::Set(id) = &request.target {
            sets = KVec::new();
            sets.push(self.find_set(id)?, GFP_KERNEL)?;
        }
        for set in sets.iter() {
            let volumes = set.lock().entries_len();
            for volume in 0..volumes {
                set.check_unused(volume)?;
            }
        }
        for set in sets.iter() {
            let stopped = set.stop_all();
            self.unlist_if_empty(set);
            reply.arrays_stopped += stopped?;
        }
        Ok(reply)
    }

    fn delete(&self, request: &DeleteRequest) -> Checked {
        let mut operations = self.operations.lock();
        Self::check_open(&operations)?;
        match self.find_volume(&request.target)? {
            Some((set, volume)) => {
                self.check_contents(&mut operations, &set, volume, request.force)?;
                set.delete_volume(volume)?;
                let last = set
                    .lock()
                    .model()
                    .is_some_and(|model| model.live_volumes().next().is_none());
                if last {
                    self.erase_set(&set)?;
                }
                Ok(())
            }
            None => {
                let Target::Set(id) = &request.target else {
                    return Err(reason!(EINVAL, "say which array or set to delete"));
                };
                let set = self.find_set(id)?;
                let volumes = set.lock().entries_len();
                for volume in 0..volumes {
                    let exists = set
                        .lock()
                        .model()
                        .is_some_and(|model| model.volume(volume).is_some());
                    if exists {
                        self.check_contents(&mut operations, &set, volume, request.force)?;
                    }
                }
                for volume in 0..volumes {
                    set.delete_volume(volume)?;
                }
                self.erase_set(&set)
            }
        }
    }

    fn member(&self, request: &MemberRequest) -> Checked<MemberReply> {
        let mut operations = self.operations.lock();
        Self::check_open(&operations)?;
        self.change_member(&mut operations, request)
    }

    fn rename(&self, request: &RenameRequest) -> Checked {
        let operations = self.operations.lock();
        Self::check_open(&operations)?;
        let (set, volume) = self.volume_of(&request.target)?;
        let change = set.change.lock();
        set.activate()?;
        let before = set.lock().name_of(volume);
        let (recorded, number) = {
            let mut inner = set.lock();
            let number = inner.running(volume).map(|running| running.number.get());
            let event = Event::VolumeRenamed(volume, request.name);
            (inner.record(&self.shared, &event), number)
        };
        set.release_if_idle();
        drop(change);
        // When no disk took it yet, a set that stays active has it all the same, and writes it later.
        let is_renamed = recorded.is_ok() || set.lock().name_of(volume) != before;
        self.unlist_if_empty(&set);
        if is_renamed {
            self.shared
                .post(EventKind::VolumeRenamed, &set.id, |event| {
                    event.number = number;
                    event.text = Text::from_text(request.name.as_str());
                });
        }
        recorded
    }

    fn policy(&self, request: &PolicyRequest) -> Checked {
        let operations = self.operations.lock();
        Self::check_open(&operations)?;
        let (set, volume) = self.volume_of(&request.target)?;
        let change = set.change.lock();
        set.activate()?;
        let mut inner = set.lock();
        let done = match inner.running(volume) {
            Some(running) => Err(reason!(
                EBUSY,
                "emd{} runs; its policy can be changed while it is stopped",
                running.number.get()
            )),
            None => inner.set_policy(&set, volume, request.policy),
        };
        drop(inner);
        set.release_if_idle();
        drop(change);
        self.unlist_if_empty(&set);
        done
    }

    fn task(&self, request: &TaskRequest) -> Checked {
        let operations = self.operations.lock();
        Self::check_open(&operations)?;
        match (request.op, request.target) {
            (TaskOp::Limits { min_kib, max_kib }, Target::All) => {
                set_general_limits(min_kib, max_kib);
                Ok(())
            }
            _ => {
                let (set, volume) = self.volume_of(&request.target)?;
                set.change_task(volume, request.op)
            }
        }
    }
}

#[inline(never)]
fn scan_start(set: &Arc<ManagedSet>, policy: Policy, reply: &mut ScanReply) -> Checked {
    match set.start(policy, None) {
        Ok(started) => reply.arrays_started += started,
        Err(reason) => note(reply, None, reason.text())?,
    }
    Ok(())
}

/// Counts the volumes of a set that would be started, and says why others would not. The disks are not claimed for
/// that: whether they could be, and what is in a log on them, is not known.
#[inline(never)]
fn would_start(inner: &Inner, policy: Policy, reply: &mut ScanReply) -> Checked {
    let model = match inner.known() {
        Ok(model) => model,
        Err(reason) => return note(reply, None, reason.text()),
    };
    for volume in 0..inner.entries_len() {
        if model.volume(volume).is_none() || inner.running(volume).is_some() {
            continue;
        }
        match inner.may_start(volume, policy) {
            Ok(()) => reply.arrays_started += 1,
            Err(reason) => note(reply, None, reason.text())?,
        }
    }
    Ok(())
}

/// Adds what there is to say of a set.
#[inline(never)]
fn push_info(set: &ManagedSet, infos: &mut KVec<SetInfo>) -> Checked {
    if let Some(info) = set.info()? {
        infos.push(info, GFP_KERNEL)?;
    }
    Ok(())
}

#[inline(never)]
fn note(reply: &mut ScanReply, dev: Option<Dev>, text: &str) -> Checked {
    let note = ScanNote {
        dev: dev.and_then(|dev| DevNumber::from_wire(dev.0)),
        text: Text::from_text(text),
    };
    reply.notes.push(note, GFP_KERNEL)?;
    Ok(())
}

impl Manager {
    /// The sets that wait for more of their disks. A scan leaves them to it; what did not wait before is not to start some time
    /// after a scan which did not start it.
    #[inline(never)]
    fn waiting_sets(&self) -> Checked<KVec<Arc<ManagedSet>>> {
        let mut sets = self.all_sets()?;
        sets.retain(|set| set.waits.load(Ordering::Acquire));
        Ok(sets)
    }

    /// Looks at the disks that a scan is about. The sets that it is about: those of the disks that are named, or all.
    #[inline(never)]
    fn scan_disks(
        &self,
        operations: &mut super::manager::Operations,
        request: &ScanRequest,
        reply: &mut ScanReply,
    ) -> Checked<KVec<Arc<ManagedSet>>> {
        let mut disks = KVec::new();
        for dev in request.devs.iter() {
            disks.push(Dev(dev.to_wire()), GFP_KERNEL)?;
        }
        let explicit = !disks.is_empty();
        if !explicit {
            disks = self.present_disks()?;
        }
        let mut named: KVec<Arc<ManagedSet>> = KVec::new();
        for &dev in disks.iter() {
            if let Some(set) = self.scan_disk(operations, dev, explicit, reply)? {
                if !named.iter().any(|known| Arc::ptr_eq(known, &set)) {
                    named.push(set, GFP_KERNEL)?;
                }
            }
        }
        for disk in operations.seen.iter() {
            if !explicit || disks.contains(&disk.dev) {
                note(reply, Some(disk.dev), disk.damaged.text())?;
            }
        }
        if explicit {
            Ok(named)
        } else {
            self.all_sets()
        }
    }

    /// Looks at one disk; the set that it is of.
    #[inline(never)]
    fn scan_disk(
        &self,
        operations: &mut super::manager::Operations,
        dev: Dev,
        explicit: bool,
        reply: &mut ScanReply,
    ) -> Checked<Option<Arc<ManagedSet>>> {
        match self.look_at(operations, dev) {
            Ok(set) => {
                reply.disks_seen += 1;
                return Ok(set);
            }
            // Drives without a medium and the like are of no interest.
            Err(reason) if explicit => note(reply, Some(dev), reason.text())?,
            Err(_) => {}
        }
        Ok(None)
    }

    /// Starts one set for a scan, and says what is odd about it.
    #[inline(never)]
    fn scan_set(
        &self,
        set: &Arc<ManagedSet>,
        request: &ScanRequest,
        policy: Policy,
        reply: &mut ScanReply,
    ) -> Checked {
        if set.lock().gone {
            return Ok(());
        }
        if request.dry_run {
            return would_start(&set.lock(), policy, reply);
        }
        let deadline = {
            let mut inner = set.lock();
            inner.tried = true;
            inner.deadline
        };
        let started = scan_start(set, policy, reply);
        if !set.lock().active {
            // It was active for a moment, perhaps, which ends waiting.
            set.lock().deadline = deadline;
        }
        started?;
        self.unlist_if_empty(set);
        let inner = set.lock();
        for entry in inner.entries.iter() {
            if let (None, Some(why)) = (&entry.running, &entry.why) {
                note(reply, None, why.text())?;
            }
        }
        Ok(())
    }

    /// The set with this id.
    #[inline(never)]
    pub(super) fn find_set(&self, id: &[u8; 16]) -> Checked<Arc<ManagedSet>> {
        for set in self.all_sets()? {
            if set.id.digest() == *id {
                return Ok(set);
            }
        }
        Err(reason!(ENOENT, "there is no set with this id"))
    }

    /// The volume that `target` names; `None` when it names a set, or everything.
    #[inline(never)]
    pub(super) fn find_volume(
        &self,
        target: &Target,
    ) -> Checked<Option<(Arc<ManagedSet>, VolumeIndex)>> {
        if matches!(target, Target::Set(_) | Target::All) {
            return Ok(None);
        }
        for set in self.all_sets()? {
            let found = {
                let inner = set.lock();
                let volume = inner.model().and_then(|model| {
                    let mut volumes = model.live_volumes();
                    volumes.find(|(index, volume)| match target {
                        Target::Number(number) => inner
                            .running(*index)
                            .is_some_and(|running| running.number.get() == *number),
                        Target::Array(id) => volume.id.digest() == *id,
                        Target::Set(_) | Target::All => false,
                    })
                });
                volume.map(|(index, _)| index)
            };
            if let Some(index) = found {
                return Ok(Some((set, index)));
            }
        }
        Err(match target {
            Target::Number(number) => reason!(ENOENT, "there is no array emd{number}"),
            _ => reason!(ENOENT, "there is no array with this id"),
        })
    }

    /// The volume that `target` has to name.
    #[inline(never)]
    pub(super) fn volume_of(&self, target: &Target) -> Checked<(Arc<ManagedSet>, VolumeIndex)> {
        self.find_volume(target)?
            .ok_or_else(|| reason!(EINVAL, "say which array"))
    }

    /// Refuses to delete a volume that is in use, or holds something known.
    #[inline(never)]
    fn check_contents(
        &self,
        operations: &mut super::manager::Operations,
        set: &Arc<ManagedSet>,
        volume: VolumeIndex,
        force: bool,
    ) -> Checked {
        set.check_unused(volume)?;
        if force {
            return Ok(());
        }
        let dev = {
            let inner = set.lock();
            let disk = inner
                .running(volume)
                .and_then(|running| running.disk.as_ref());
            disk.map(|disk| disk.dev())
        };
        let Some(dev) = dev else {
            return Err(reason!(
                EBUSY,
                "the volume is not started, so what it holds cannot be seen; delete it by force"
            ));
        };
        let device = BlockDevice::open(dev, Mode::Read)?;
        let found = probe::signature(&device, operations.io.as_mut());
        // Or the volume would be in use.
        device.close();
        match found? {
            Some(what) => Err(reason!(
                EBUSY,
                "the volume holds {what}; delete it by force"
            )),
            None => Ok(()),
        }
    }

    /// Erases a set without volumes from its disks.
    #[inline(never)]
    fn erase_set(&self, set: &Arc<ManagedSet>) -> Checked {
        let result = set.erase();
        if result.is_ok() {
            self.unlist(set);
        }
        result
    }
}

impl ManagedSet {
    /// Stops and deletes a volume, if there is one with this index.
    #[inline(never)]
    fn delete_volume(self: &Arc<Self>, volume: VolumeIndex) -> Checked {
        let _change = self.change.lock();
        let exists = self
            .lock()
            .model()
            .is_some_and(|model| model.volume(volume).is_some());
        if !exists {
            return Ok(());
        }
        self.activate()?;
        let number = self.lock().running(volume).map(|run| run.number.get());
        let deleted = self.stop_volume(volume).and_then(|_| {
            let event = Event::VolumeDeleted(volume);
            self.lock().record(&self.shared, &event)
        });
        // After the last one the set goes on to be erased, if that is recorded.
        let is_last = self
            .lock()
            .model()
            .is_some_and(|model| model.live_volumes().next().is_none());
        if !is_last || deleted.is_err() {
            self.release_if_idle();
        }
        deleted?;
        if let Some(entry) = self.lock().entries.get_mut(usize::from(volume)) {
            entry.why = None;
        }
        self.shared
            .post(EventKind::VolumeDeleted, &self.id, |event| {
                event.number = number;
            });
        Ok(())
    }

    /// Takes all disks out of the set, which erases its metadata, and gives them up.
    #[inline(never)]
    pub(super) fn erase(self: &Arc<Self>) -> Checked {
        let _change = self.change.lock();
        self.activate()?;
        let mut inner = self.lock();
        let mut result = Ok(());
        for disk in 0..inner.devices.len() as u16 {
            let is_member = inner
                .model()
                .and_then(|set| set.disk(disk))
                .is_some_and(|disk| disk.state != crate::model::DiskState::Removed);
            if !is_member {
                continue;
            }
            let here = inner.device(disk).is_some();
            match inner.record(&self.shared, &Event::DiskRemoved(disk)) {
                Ok(()) => {}
                // Of a disk that is not here nothing can be erased.
                Err(reason) if here => result = Err(reason),
                Err(_) => {}
            }
        }
        drop(inner);
        self.lock().held = true;
        self.release_if_idle();
        result
    }
}
