// SPDX-License-Identifier: GPL-2.0

//! How arrays start.

use super::fill::being_filled;
use super::managed::{Bell, ManagedSet};
use super::probe;
use super::shared::{Number, Shared};
use super::state::{Inner, Running};
use crate::array::Array;
use crate::block::gate::Gated;
use crate::block::gendisk::Disk;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskIndex, DiskState, Event, MemberState, Reason,
    Text, VolumeIndex,
};
use crate::personalities::{for_level, Health, Mask};
use crate::reason;
use crate::uapi::EventKind;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How often a volume is started anew because members came or went while its array was made.
const START_TRIES: u32 = 4;

/// What may be started.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// With members missing that may still come, as long as no data is.
    pub degraded: bool,
    /// Also what is both dirty and degraded, and, without redundancy, with what disks hold that are recorded as lost.
    pub force: bool,
}

impl Policy {
    /// Nothing that lacks a member.
    pub const COMPLETE: Self = Self {
        degraded: false,
        force: false,
    };

    /// What a person who just made it may expect.
    pub const ANY: Self = Self {
        degraded: true,
        force: true,
    };
}

impl ManagedSet {
    /// Starts the volumes that can be (only `only`, when given): claims the disks, makes arrays and
    /// their block devices. Says how many were started; why others were not is kept with them.
    ///
    /// Called with neither `change` nor the inner lock held.
    pub fn start(self: &Arc<Self>, policy: Policy, only: Option<VolumeIndex>) -> Checked<u32> {
        let change = self.change.lock();
        self.activate()?;
        if policy.degraded && only.is_none() {
            // Without them it is started all the same, or says what it lacks.
            if let Err(reason) = self.take_early() {
                log!(pr_warn, "disks that waited are not used: {}", reason);
            }
        }
        if policy.force {
            self.lock().reinstate_lost(self, only);
        }
        let (mut started, mut may_pass) = (0, false);
        let volumes = self.lock().entries_len();
        for volume in 0..volumes {
            if only.is_some_and(|only| only != volume) {
                continue;
            }
            match self.start_volume(volume, policy) {
                Ok(true) => started += 1,
                Ok(false) => {}
                Err(reason) => {
                    let errno = reason.errno();
                    // The last, as a disk of what seemed complete could not be read again.
                    may_pass |= [ENOMEM, EAGAIN, EBUSY].contains(&errno)
                        || errno == ENODEV && !policy.degraded;
                    let mut inner = self.lock();
                    if let Some(entry) = inner.entries.get_mut(usize::from(volume)) {
                        entry.why = Some(reason);
                    }
                }
            }
        }
        // What is merely looked at or changed goes on waiting, and so does what may be had later; what is tried else does not.
        if started > 0 || !may_pass {
            self.lock().deadline = None;
        }
        if started > 0 {
            let mut inner = self.lock();
            inner.held = false;
            // What was read before is of no use any more.
            inner.images = KVec::new();
        }
        self.release_if_idle();
        drop(change);
        if started > 0 {
            self.kick();
            self.kick_keeper();
        }
        Ok(started)
    }

    /// True when it was started now, false when there was nothing to do.
    #[inline(never)]
    fn start_volume(self: &Arc<Self>, volume: VolumeIndex, policy: Policy) -> Checked<bool> {
        for _ in 0..START_TRIES {
            if let Some(started) = self.try_start_volume(volume, policy)? {
                return Ok(started);
            }
        }
        Err(reason!(
            EAGAIN,
            "its members come and go: try again when they are at rest"
        ))
    }

    /// As above; `None` when members came or went meanwhile.
    #[inline(never)]
    fn try_start_volume(
        self: &Arc<Self>,
        volume: VolumeIndex,
        policy: Policy,
    ) -> Checked<Option<bool>> {
        let number = Number::take(&self.shared)?;
        let n = number.get();
        let set = self.clone();
        let bell = KBox::new(Bell { set, number: n }, GFP_KERNEL)?;
        let plan = {
            let mut inner = self.lock();
            if inner.running(volume).is_some() || inner.known()?.volume(volume).is_none() {
                return Ok(Some(false));
            }
            inner.prepare_start(self, volume, policy)?;
            inner.plan(volume, number, bell)?
        };
        let present = plan.present();
        let running = plan.build()?;
        let array = running.array.clone();
        {
            let mut inner = self.lock();
            if inner.present(volume) != present {
                // The array is dropped without the lock.
                drop(inner);
                return Ok(None);
            }
            let entry = inner
                .entries
                .get_mut(usize::from(volume))
                .ok_or(reason!(EIO, "internal: no room for volume {volume}"))?;
            entry.running = Some(running);
            entry.why = None;
        }
        // The partition table is read through the array, which may need the recorder.
        match self.add_disk(volume, n, &array) {
            Ok(()) => Ok(Some(true)),
            Err(reason) => {
                // Nobody can have written to it.
                let _ = Array::stop(&array);
                drop(self.take_running(volume));
                Err(reason)
            }
        }
    }

    /// Takes what runs of a volume out; it is dropped without the lock held.
    pub fn take_running(&self, volume: VolumeIndex) -> Option<Running> {
        let mut inner = self.lock();
        inner.entries.get_mut(usize::from(volume))?.running.take()
    }

    #[inline(never)]
    fn add_disk(&self, volume: VolumeIndex, number: u32, array: &Arc<Gated<Array>>) -> Checked {
        let (size_sectors, block_bytes, read_only) = {
            let inner = self.lock();
            let model = inner.known()?.volume(volume);
            let (size, block) =
                model.map_or((0, 0), |model| (model.size_sectors, model.block_bytes));
            let read_only = inner.running(volume).is_some_and(|run| run.read_only);
            (size, block, read_only)
        };
        let limits = Array::limits(array, block_bytes);
        let disk = Disk::add(
            array.clone(),
            &limits,
            format_args!("emd{number}"),
            size_sectors,
            read_only,
            self.shared.module,
        )
        .map_err(|errno| {
            reason!(
                errno,
                "the block device emd{number} cannot be made: errno {}",
                -errno.to_errno()
            )
        })?;
        let disk = Arc::new(disk, GFP_KERNEL)?;
        let state = {
            let mut inner = self.lock();
            if let Some(running) = inner.running_mut(volume) {
                running.disk = Some(disk);
            }
            let state = inner.volume_state(volume);
            if let Some(running) = inner.running_mut(volume) {
                running.state = state;
            }
            state
        };
        self.show_members(volume);
        log!(pr_info, "emd{} is started, {}", number, state.word());
        self.shared
            .post(EventKind::ArrayStarted, &self.id, |event| {
                event.number = Some(number);
                event.value = u64::from(state.code());
            });
        if read_only {
            self.tell_read_only(volume, number);
        }
        Ok(())
    }

    /// Tells that an array takes no writes, and why.
    #[inline(never)]
    fn tell_read_only(&self, volume: VolumeIndex, number: u32) {
        let why = {
            let inner = self.lock();
            let access = inner.model().and_then(|set| set.volume(volume));
            match access.map(|volume| volume.access) {
                Some(Access::ReadOnly(why)) => Text::from_text(why.text()),
                _ => Text::new(),
            }
        };
        self.shared.post(EventKind::ReadOnly, &self.id, |event| {
            event.number = Some(number);
            event.text = why;
        });
    }
}

impl Inner {
    /// By force: where volumes without redundancy lack nothing but what is on disks that are here and recorded as lost, as
    /// others could do without them, that counts again.
    #[inline(never)]
    fn reinstate_lost(&mut self, set: &ManagedSet, only: Option<VolumeIndex>) {
        for volume in 0..self.entries_len() {
            if only.is_some_and(|only| only != volume) || !self.lacks_only_words(volume) {
                continue;
            }
            let mut lost = self.disks_of(volume);
            while let Some(disk) = lost.pop() {
                let model = self.model();
                if model.is_none_or(|set| set.irreplaceable(disk).is_none()) {
                    continue;
                }
                let reinstated = self.reinstate_claimed(&set.shared, disk);
                self.note_returned(disk);
                if let Err(reason) = reinstated {
                    log!(
                        pr_warn,
                        "disk {} stays lost to volume {}: {}",
                        disk,
                        volume,
                        reason
                    );
                }
            }
        }
    }

    /// What a claimed disk that is recorded as lost holds of volumes without redundancy counts again.
    pub(super) fn reinstate_claimed(&mut self, shared: &Shared, disk: DiskIndex) -> Checked {
        let device = self.device(disk).filter(|device| !device.is_gone());
        let device = device.ok_or_else(|| reason!(ENODEV, "disk {disk} is gone"))?;
        if self.is_attached(disk) {
            return Err(reason!(EBUSY, "disk {disk} is being taken out: try again"));
        }
        let facts = probe::facts(device);
        self.note_places(disk)?;
        self.record(shared, &Event::DiskReinstated(disk, facts))
    }

    /// Whether a volume without redundancy does not run, and all its members are on disks that are here.
    fn lacks_only_words(&self, volume: VolumeIndex) -> bool {
        let Some(model) = self.model().and_then(|set| set.volume(volume)) else {
            return false;
        };
        let mut members = model.members.iter();
        !model.shape.level.is_redundant()
            && matches!(model.access, Access::ReadWrite)
            && self.running(volume).is_none()
            && members.all(|member| {
                let device = member.disk.and_then(|disk| self.device(disk));
                device.is_some_and(|device| !device.is_gone())
            })
    }

    /// Whether a volume may be started, after what has to be written before was.
    #[inline(never)]
    fn prepare_start(&mut self, set: &ManagedSet, volume: VolumeIndex, policy: Policy) -> Checked {
        self.may_start(volume, policy)?;
        self.record_absent(set, volume);
        self.record_dirty(set, volume);
        // A disk that did not take its metadata is lost by now.
        self.may_start(volume, policy)?;
        let usable = self.usable(volume);
        let told_all = match self.replay_log(set, volume) {
            Err(reason) if policy.force => {
                log!(
                    pr_warn,
                    "volume {}: started all the same: {}",
                    volume,
                    reason
                );
                false
            }
            replayed => replayed?,
        };
        self.start_hole(set, volume, told_all, policy.force)?;
        if !told_all && !policy.force && self.usable(volume) != usable {
            // With all members here the resync would have made sure.
            return Err(super::left::not_all_told());
        }
        self.may_start(volume, policy)
    }

    /// Puts right what the log of a volume says, if that is due, and says whether it told all. Cut anywhere, that is done again: so too
    /// when a disk does not take it, without that one, if its loss is borne.
    #[inline(never)]
    fn replay_log(&mut self, set: &ManagedSet, volume: VolumeIndex) -> Checked<bool> {
        loop {
            let (usable, mut refused) = (self.usable(volume), None);
            let reason = match self.replay_hole(volume, usable, &mut refused) {
                Err(reason) => reason,
                told_all => return told_all,
            };
            let disk = refused.and_then(|slot| self.disk_in(volume, slot));
            match disk.filter(|&disk| self.is_online(disk)) {
                Some(disk) => self.start_without(&set.shared, disk, reason)?,
                None => return Err(reason),
            }
        }
    }

    /// A disk does not take what the log says, or an empty one, so it would not take writes either: its volume starts without it, if
    /// it may. `reason` when its loss is not borne, or says nothing of the disk.
    #[inline(never)]
    pub(super) fn start_without(
        &mut self,
        shared: &Shared,
        disk: DiskIndex,
        reason: Reason,
    ) -> Checked {
        if reason.errno() == ENOMEM || !self.bears_loss(disk) || self.is_needed(disk) {
            return Err(reason);
        }
        log!(pr_warn, "disk {} is lost: {}", disk, reason);
        self.fail_on_arrays(disk);
        let event = self.loss_event(disk);
        let recorded = self.record(shared, &event);
        match recorded {
            // In memory it is lost, and nothing is written before others know.
            Err(why) if !self.is_online(disk) => {
                log!(
                    pr_warn,
                    "the loss of disk {} is not recorded: {}",
                    disk,
                    why
                );
                Ok(())
            }
            recorded => recorded,
        }
    }

    /// Whether a volume may be started, or why not.
    #[inline(never)]
    pub fn may_start(&self, volume: VolumeIndex, policy: Policy) -> Checked {
        let set = self.known()?;
        let Some(model) = set.volume(volume) else {
            return Err(reason!(ENOENT, "there is no volume {volume}"));
        };
        let entry = self.entries.get(usize::from(volume));
        if entry.is_some_and(|entry| entry.filling) {
            return Err(being_filled());
        }
        if let Access::Refused(reason) = &model.access {
            return Err(*reason);
        }
        let shape = &model.shape;
        let Some(level) = for_level(shape.level) else {
            return Err(reason!(EOPNOTSUPP, "{} is not supported yet", shape.level));
        };
        level.check(shape)?;
        let members = self.usable(volume);
        let lost = (shape.members_total() as u32).saturating_sub(members.len());
        if level.health(shape, members) == Health::Failed {
            return Err(reason!(
                EIO,
                "{} of {} members are lost, more than {} bears",
                lost,
                shape.members_total(),
                shape.level
            ));
        }
        let awaited = (0u16..).zip(model.members.iter()).filter(|(slot, member)| {
            let failed = member.state == MemberState::Failed
                || member
                    .disk
                    .and_then(|disk| set.disk(disk))
                    .is_none_or(|disk| disk.state == DiskState::Failed);
            let is_away = member.disk.is_some_and(|disk| !self.is_here(disk));
            !failed && is_away && !members.contains(*slot)
        });
        let awaited = awaited.count();
        if awaited > 0 && !policy.degraded {
            return Err(reason!(
                ENODEV,
                "{} of {} members are missing",
                awaited,
                shape.members_total()
            ));
        }
        if lost > 0 && !model.stretches.is_empty() {
            return Err(reason!(
                ENODEV,
                "it lies in several shapes, and a member is missing"
            ));
        }
        let is_kept = matches!(model.access, Access::ReadWrite);
        let log_is_due = self.left_log(volume).is_some_and(|log| log.is_due);
        if lost > 0 && log_is_due && !is_kept && !policy.force {
            return Err(super::left::in_doubt());
        }
        let has_parity = shape.level.parity_members() > 0;
        let is_exposed = match model.crash_policy {
            CrashPolicy::None => false,
            CrashPolicy::Resync => true,
            CrashPolicy::Log => self.hole_params(volume).is_none(),
        };
        let may_disagree = match model.consistency {
            Consistency::Clean => None,
            Consistency::Dirty => Some("writes were in flight when it stopped"),
            // It may have been a resync after a crash: not all formats tell that from a first one.
            Consistency::Initialising { .. } => Some("redundancy was not established everywhere"),
        };
        match may_disagree {
            Some(why) if lost > 0 && has_parity && is_exposed && !policy.force => Err(reason!(
                EUCLEAN,
                "degraded, and {why}: what a lost member held may come out wrong; start it by force"
            )),
            _ => Ok(()),
        }
    }

    /// The members in sync whose disks are here and work.
    pub fn usable(&self, volume: VolumeIndex) -> Mask {
        let mut usable = self.in_sync(volume, None);
        for slot in usable.iter() {
            let works = self.disk_in(volume, slot).is_some_and(|disk| {
                let model = self.model().and_then(|set| set.disk(disk));
                self.is_here(disk) && model.is_some_and(|disk| disk.state == DiskState::Online)
            });
            if !works {
                usable = usable.without(slot);
            }
        }
        usable
    }

    /// Records the members that are not here, so that they are known to be old if they come back; and those
    /// that are here and old already, as it may be one disk only that knows.
    /// That it cannot be recorded now does no harm: nothing is written before the dirty mark is.
    #[inline(never)]
    pub(super) fn record_absent(&mut self, set: &ManagedSet, volume: VolumeIndex) {
        let Some(members) = self
            .model()
            .and_then(|model| model.volume(volume))
            .map(|volume| volume.members.len() as u16)
        else {
            return;
        };
        for slot in 0..members {
            let Some(disk) = self.disk_in(volume, slot) else {
                continue;
            };
            let state = self
                .model()
                .and_then(|model| model.disk(disk))
                .map(|disk| disk.state);
            let event = match (state, self.device(disk)) {
                (None | Some(DiskState::Failed), _) => continue,
                (_, None) => Event::DiskMissing(disk),
                (Some(DiskState::Stale), _) if self.bears_loss(disk) => Event::DiskFailed(disk),
                _ => continue,
            };
            if let Err(reason) = self.record(&set.shared, &event) {
                log!(
                    pr_warn,
                    "disk {} is missing or old, not recorded: {}",
                    disk,
                    reason
                );
            }
        }
    }

    /// Records once more that a volume is dirty: the mark may be on some of its disks only, when power
    /// failed while it was being written, and nobody writes it again before it is clean.
    #[inline(never)]
    fn record_dirty(&mut self, set: &ManagedSet, volume: VolumeIndex) {
        let dirty = self
            .model()
            .and_then(|model| model.volume(volume))
            .is_some_and(|volume| {
                matches!(volume.access, Access::ReadWrite)
                    && volume.consistency == Consistency::Dirty
            });
        if !dirty {
            return;
        }
        if let Err(reason) = self.record(&set.shared, &Event::Dirty(volume)) {
            log!(pr_warn, "the dirty mark is not renewed: {}", reason);
        }
    }
}
