// SPDX-License-Identifier: GPL-2.0

//! The keeper: lost members out, spares in, tasks on.
//!
//! It changes the members of arrays, for which the array has to be empty for a moment; so it holds
//! `change`, and the inner lock only in between.

use super::managed::ManagedSet;
use super::shared::{now, Shared};
use super::state::Inner;
use crate::array::{Array, MemberSlot, Scope};
use crate::block::bdev::BlockDevice;
use crate::block::context;
use crate::block::gate::Gated;
use crate::model::{
    Checked, Consistency, DiskIndex, DiskRole, DiskState, Event, MemberState, Reason, Slot,
    VolumeIndex,
};
use crate::personalities::rebuild::Pass;
use crate::personalities::Health;
use crate::uapi::{DevNumber, EventKind, TaskKind};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How long a change of members may wait for failures to be recorded: 5 s; then later.
const CHANGE_TRIES: u32 = 500;
const CHANGE_PAUSE_US: usize = 10_000;
/// When what did not work now is tried again.
const LATER_MS: u32 = 2_000;
/// When the recorder looks at what the keeper did.
const LOOK_MS: u32 = 200;

impl ManagedSet {
    /// Does what there is to do.
    pub fn keep(self: &Arc<Self>) {
        let change = self.change.lock();
        let done = self.keep_members();
        if let Err(reason) = done {
            log!(pr_warn, "members cannot be changed now: {}", reason);
            self.keep_later(LATER_MS);
        }
        // Those that are new, and those of before.
        let _ = self.lock().tell_states(&self.shared);
        self.announce();
        drop(change);
        self.look_again(LOOK_MS);
    }

    /// Called with `change` held.
    pub fn keep_members(self: &Arc<Self>) -> Checked {
        if !self.lock().active {
            return Ok(());
        }
        self.detach_lost()?;
        self.drop_dead();
        self.take_back_stale();
        self.use_spares();
        self.attach_rebuilding()?;
        self.start_tasks();
        Ok(())
    }

    /// Lets `action` change an array's members, again while failures have to be recorded first.
    fn change_members<T>(self: &Arc<Self>, mut action: impl FnMut() -> Checked<T>) -> Checked<T> {
        let mut tries = 0;
        loop {
            let result = action();
            let again = result.as_ref().is_err_and(|why| why.errno() == EAGAIN);
            if !again || tries >= CHANGE_TRIES {
                return result;
            }
            tries += 1;
            self.kick();
            context::sleep_us(CHANGE_PAUSE_US);
        }
    }

    /// Takes members that are recorded as lost out of the arrays.
    #[inline(never)]
    pub fn detach_lost(self: &Arc<Self>) -> Checked {
        loop {
            let Some((volume, slot, array)) = self.lock().next_lost() else {
                return Ok(());
            };
            let removed = self.change_members(|| Array::remove_member(&array, slot))?;
            self.hide_members(volume, Some(slot));
            let mut inner = self.lock();
            if let Some(running) = inner.running_mut(volume) {
                running.attached = running.attached.without(slot);
                running.late.forget(slot);
                running.withheld = running.withheld.without(slot);
            }
            drop(inner);
            // Closing a disk may take its time.
            drop(removed);
        }
    }

    /// Gives up disks that are gone from the machine.
    #[inline(never)]
    fn drop_dead(&self) {
        loop {
            let dead = self.lock().next_dead(&self.shared);
            // Closing a disk may take its time, and locks of the kernel.
            let Some(dead) = dead else { return };
            drop(dead);
        }
    }

    /// A disk that was left out of updates and is here again counts as a blank one.
    #[inline(never)]
    fn take_back_stale(&self) {
        let mut inner = self.lock();
        let disks = inner.devices.len() as DiskIndex;
        for disk in 0..disks {
            let Some(facts) = inner
                .model()
                .and_then(|set| set.disk(disk))
                .filter(|disk| disk.state == DiskState::Stale)
                .and_then(|disk| disk.facts)
            else {
                continue;
            };
            if inner.device(disk).is_none() {
                continue;
            }
            match inner.record(&self.shared, &Event::DiskReturned(disk, facts)) {
                Ok(()) => inner.returned.insert(disk),
                Err(reason) => {
                    log!(
                        pr_warn,
                        "disk {} was left out and cannot be used again: {}",
                        disk,
                        reason
                    );
                }
            }
        }
    }

    /// Lets spares take the places of lost members.
    #[inline(never)]
    fn use_spares(&self) {
        let mut inner = self.lock();
        for volume in 0..inner.entries_len() {
            while let Some(slot) = inner.next_empty(volume, None) {
                let lost = inner.disk_in(volume, slot);
                let Some((disk, role)) = inner.activate_spare(self, volume, slot) else {
                    break;
                };
                if let (Some(lost), DiskRole::GlobalSpare) = (lost, role) {
                    inner.stand_in(self, lost, disk);
                }
            }
        }
        inner.settle_returned();
        let lacks = (0..inner.entries_len()).any(|volume| inner.lacks_spare(volume));
        drop(inner);
        if lacks {
            // There may be one that belongs to no set: `lend.rs`.
            self.wants_spare.store(true, Ordering::Release);
            self.shared.wish(0);
        }
    }

    /// Gives arrays the members that are to be rebuilt.
    #[inline(never)]
    fn attach_rebuilding(self: &Arc<Self>) -> Checked {
        self.lock().let_join();
        loop {
            let Some((volume, slot, array)) = self.lock().next_unattached() else {
                return Ok(());
            };
            let member = self.lock().member_slot(volume, slot);
            let Some(first) = member else { return Ok(()) };
            let MemberSlot {
                device,
                offset_sectors,
                log_sector,
            } = first;
            let cleared = self.lock().clear_ring(volume, slot);
            if let Err(reason) = cleared {
                self.lock()
                    .give_up_joining(&self.shared, volume, slot, reason)?;
                continue;
            }
            self.change_members(|| {
                let member = MemberSlot {
                    device: device.clone(),
                    offset_sectors,
                    log_sector,
                };
                Array::install_member(&array, slot, member)
            })?;
            let mut inner = self.lock();
            if let Some(running) = inner.running_mut(volume) {
                running.attached = running.attached.with(slot);
                running.retry_at = now();
            }
            drop(inner);
            self.show_members(volume);
        }
    }

    /// Starts the tasks that are due.
    #[inline(never)]
    fn start_tasks(&self) {
        let mut inner = self.lock();
        inner.make_way();
        for volume in 0..inner.entries_len() {
            if !inner.may_have_task(volume) {
                continue;
            }
            let due = inner.due_task(self, volume);
            let asked = inner.running(volume).and_then(|run| run.asked);
            let asked = asked.map(|asked| (asked.kind, Pass::sync(asked.from_sectors)));
            let Some((kind, pass)) = due.or(asked) else {
                if !inner.has_busy_disks(volume, TaskKind::Check) {
                    inner.start_repairs(volume);
                }
                continue;
            };
            if inner.has_busy_disks(volume, kind) {
                continue;
            }
            let Some(running) = inner.running_mut(volume) else {
                continue;
            };
            if now() < running.retry_at {
                self.keep_later(LATER_MS);
                continue;
            }
            let number = running.number.get();
            let scope = if kind == TaskKind::Resync && !running.resync_all {
                Scope::DirtyRegions
            } else {
                Scope::All
            };
            match Array::start_task(&running.array, kind, &pass, scope) {
                Ok(()) => {
                    running.told_per_mille = 0;
                    running.checkpoint_at = now();
                    self.tell_started(number, kind);
                }
                Err(reason) => {
                    log!(
                        pr_warn,
                        "emd{}: {} cannot start: {}",
                        number,
                        kind.word(),
                        reason
                    );
                    if due.is_none() && reason.errno() != EAGAIN {
                        running.asked = None;
                        inner.note_scrub(&self.shared, volume, None);
                    }
                    self.keep_later(LATER_MS);
                }
            }
        }
    }

    /// Tells people that a task started.
    pub fn tell_started(&self, number: u32, kind: TaskKind) {
        log!(pr_info, "emd{}: {} started", number, kind.word());
        self.shared.post(EventKind::TaskStarted, &self.id, |event| {
            event.number = Some(number);
            event.value = u64::from(kind.code());
            event.text = crate::model::Text::from_text(kind.word());
        });
    }
}

impl Inner {
    /// A disk that was to join does not take an empty log, so it would not take writes either: it counts as failed.
    /// `reason` when that cannot be recorded.
    #[inline(never)]
    fn give_up_joining(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        slot: Slot,
        reason: Reason,
    ) -> Checked {
        let disk = self.disk_in(volume, slot);
        let Some(disk) = disk.filter(|&disk| self.bears_loss(disk)) else {
            return Err(reason);
        };
        self.fail_on_arrays(disk);
        let event = self.loss_event(disk);
        self.record(shared, &event)?;
        log!(
            pr_warn,
            "disk {} cannot join volume {}: {}",
            disk,
            volume,
            reason
        );
        Ok(())
    }

    /// A member that an array still has and the metadata calls lost.
    fn next_lost(&self) -> Option<(VolumeIndex, Slot, Arc<Gated<Array>>)> {
        for volume in 0..self.entries_len() {
            let Some(running) = self.running(volume) else {
                continue;
            };
            let in_use = running.array.present().union(running.array.unrecorded());
            for slot in running.attached.minus(in_use).iter() {
                let state = self.member_state(volume, slot);
                if matches!(state, Some(MemberState::Failed | MemberState::Missing)) {
                    return Some((volume, slot, running.array.clone()));
                }
            }
        }
        None
    }

    /// Takes a disk out that is gone from the machine and of no array.
    fn next_dead(&mut self, shared: &Shared) -> Option<Arc<BlockDevice>> {
        for disk in 0..self.devices.len() as DiskIndex {
            let Some(dev) = self.device(disk).map(|device| device.dev()) else {
                continue;
            };
            if self.is_unplugged(disk) && !self.is_attached(disk) {
                self.record_gone(shared, disk, dev);
                return self.devices.get_mut(usize::from(disk))?.take();
            }
        }
        None
    }

    /// A lost member whose place can be taken.
    pub fn next_empty(&self, volume: VolumeIndex, lost: Option<DiskIndex>) -> Option<Slot> {
        let running = self.running(volume)?;
        let set = self.model()?;
        let model = set.volume(volume)?;
        let hopeless = running.read_only
            || running.array.is_broken()
            || !model.shape.level.is_redundant()
            || self.health(volume, self.in_sync(volume, None)) == Health::Failed;
        if hopeless {
            return None;
        }
        (0u16..)
            .zip(model.members.iter())
            .find(|(slot, member)| {
                matches!(member.state, MemberState::Failed | MemberState::Missing)
                    && !running.attached.contains(*slot)
                    && (lost.is_none() || member.disk == lost)
            })
            .map(|(slot, _)| slot)
    }

    /// Whether a disk may take a place in `volume` without a person's word, and how gladly: lower
    /// is better.
    fn spare_rank(&self, volume: VolumeIndex, disk: DiskIndex) -> Option<u8> {
        if !self.is_online(disk) || self.is_unplugged(disk) {
            return None;
        }
        let set = self.model()?;
        match set.disk(disk)?.role {
            // Its old place, or any: formats may have forgotten which it was.
            _ if self.returned.contains(disk) => Some(0),
            DiskRole::DedicatedSpare(of) if of == volume => Some(1),
            DiskRole::GlobalSpare => Some(2),
            _ => None,
        }
    }

    /// Whether a volume has a place to fill, and the set nothing to fill it with. A spare that does not fit
    /// counts: another may not fit either.
    pub fn lacks_spare(&self, volume: VolumeIndex) -> bool {
        self.next_empty(volume, None).is_some()
            && (0..self.devices.len() as DiskIndex)
                .all(|disk| self.spare_rank(volume, disk).is_none())
    }

    /// What came back and has a place again (in all volumes that could use it) is a member as others
    /// are; what found none stays at hand.
    fn settle_returned(&mut self) {
        for disk in 0..self.devices.len() as DiskIndex {
            let is_member = self
                .model()
                .is_some_and(|set| set.memberships(disk).next().is_some());
            if is_member {
                self.returned.remove(disk);
            }
        }
    }

    /// Lets the best spare take a place; says which, and what it was.
    #[inline(never)]
    fn activate_spare(
        &mut self,
        set: &ManagedSet,
        volume: VolumeIndex,
        slot: Slot,
    ) -> Option<(DiskIndex, DiskRole)> {
        for rank in 0..3 {
            for disk in 0..self.devices.len() as DiskIndex {
                if self.spare_rank(volume, disk) != Some(rank) {
                    continue;
                }
                let Some(role) = self.model()?.disk(disk).map(|disk| disk.role) else {
                    continue;
                };
                if self.activate_disk(set, volume, slot, disk).is_ok() {
                    return Some((disk, role));
                }
            }
        }
        None
    }

    /// A global spare replaces a disk, not a member: it takes the lost disk's places in the other
    /// volumes too, where it has room. (It is a member by now, and no spare any more.)
    #[inline(never)]
    fn stand_in(&mut self, set: &ManagedSet, lost: DiskIndex, disk: DiskIndex) {
        for volume in 0..self.entries_len() {
            if let Some(slot) = self.next_empty(volume, Some(lost)) {
                // Refused for want of room: the next spare may have it.
                let _ = self.activate_disk(set, volume, slot, disk);
            }
        }
    }

    /// Lets a disk take a lost member's place, as far as the metadata goes.
    #[inline(never)]
    pub fn activate_disk(
        &mut self,
        set: &ManagedSet,
        volume: VolumeIndex,
        slot: Slot,
        disk: DiskIndex,
    ) -> Checked {
        let event = Event::SpareActivated { volume, slot, disk };
        self.record(&set.shared, &event)?;
        self.forget_bad(&set.shared, volume, slot);
        let number = self.running(volume).map(|running| running.number.get());
        let dev = self.device(disk).map(|device| device.dev());
        log!(
            pr_info,
            "disk {} takes slot {} of volume {}",
            disk,
            slot,
            volume
        );
        set.shared
            .post(EventKind::SpareActivated, &set.id, |event| {
                event.number = number;
                event.slot = Some(slot);
                event.dev = dev.and_then(|dev| DevNumber::from_wire(dev.0));
            });
        Ok(())
    }

    /// A member that will be filled has no bad ranges any more: what cannot be filled is found out anew.
    #[inline(never)]
    fn forget_bad(&mut self, shared: &Shared, volume: VolumeIndex, slot: Slot) {
        for _ in 0..crate::model::BAD_RANGES_MAX {
            let bad = self.model().and_then(|set| {
                let model = set.volume(volume)?;
                let member = model.members.get(usize::from(slot))?;
                let end = member.offset_sectors + model.shape.member_sectors;
                set.bad_ranges.iter().copied().find(|bad| {
                    Some(bad.disk) == member.disk
                        && bad.sector >= member.offset_sectors
                        && bad.sector < end
                })
            });
            let Some(bad) = bad else { return };
            if self.record(shared, &Event::BadRangeCleared(bad)).is_err() {
                return;
            }
        }
    }

    /// Has rebuilds end that others wait to join: the next one begins at the mark, with all of them.
    fn let_join(&self) {
        for volume in 0..self.entries_len() {
            if self.unattached_in(volume).is_none() {
                continue;
            }
            let Some(running) = self.running(volume) else {
                continue;
            };
            // One that is held is not let go by that.
            let task = running.array.task();
            if task.is_some_and(|task| task.pass.may_be_joined() && !task.paused) {
                running.array.cancel_task();
            }
        }
    }

    /// A member that is to be rebuilt, and its array does not have it.
    fn unattached_in(&self, volume: VolumeIndex) -> Option<Slot> {
        let running = self.running(volume)?;
        if running.array.is_broken() || running.read_only {
            return None;
        }
        let members = self.model()?.volume(volume)?.members.iter();
        (0u16..)
            .zip(members)
            .find(|(slot, member)| {
                matches!(member.state, MemberState::Rebuilding { .. })
                    && !running.attached.contains(*slot)
                    && member.disk.is_some_and(|disk| self.is_online(disk))
            })
            .map(|(slot, _)| slot)
    }

    /// The same, where no rebuild is at work: its members are known.
    fn next_unattached(&self) -> Option<(VolumeIndex, Slot, Arc<Gated<Array>>)> {
        (0..self.entries_len()).find_map(|volume| {
            let array = &self.running(volume)?.array;
            let task = array.task();
            if task.is_some_and(|task| task.kind == TaskKind::Rebuild) {
                return None;
            }
            Some((volume, self.unattached_in(volume)?, array.clone()))
        })
    }

    fn member_slot(&self, volume: VolumeIndex, slot: Slot) -> Option<MemberSlot> {
        let member = *self
            .model()?
            .volume(volume)?
            .members
            .get(usize::from(slot))?;
        Some(MemberSlot {
            device: self.device(member.disk?)?.clone(),
            offset_sectors: member.offset_sectors,
            log_sector: self.hole_ring_sector(volume, slot),
        })
    }

    /// Ends checks and repairs, held ones too, of volumes that need a rebuild: redundancy comes first.
    fn make_way(&self) {
        for volume in 0..self.entries_len() {
            let Some(running) = self.running(volume) else {
                continue;
            };
            let is_check = running
                .array
                .task()
                .is_some_and(|task| matches!(task.kind, TaskKind::Check | TaskKind::Repair));
            let needed = self.task_needed(volume);
            if is_check && matches!(needed, Some((TaskKind::Rebuild, _))) {
                running.array.cancel_task();
            }
        }
    }

    /// Whether a task of another volume is at work on a disk of this one, for which one of this kind
    /// waits. Nothing waits for a task that is held, and a rebuild for no check.
    pub fn has_busy_disks(&self, volume: VolumeIndex, kind: TaskKind) -> bool {
        let disks = self.disks_of(volume);
        (0..self.entries_len()).any(|other| {
            let task = self
                .running(other)
                .filter(|_| other != volume)
                .and_then(|running| running.array.task());
            let is_waited_for = task.is_some_and(|task| {
                let is_check = matches!(task.kind, TaskKind::Check | TaskKind::Repair);
                let gives_way = kind == TaskKind::Rebuild && is_check;
                !task.paused && !gives_way
            });
            is_waited_for && self.disks_of(other).meets(&disks)
        })
    }

    pub fn may_have_task(&self, volume: VolumeIndex) -> bool {
        self.running(volume).is_some_and(|running| {
            running.disk.is_some()
                && !running.paused
                && !running.read_only
                && !running.array.is_broken()
                && running.array.task().is_none()
                && !running.array.has_finished()
        })
    }

    /// The task that a volume needs: what, and which pass of it.
    #[inline(never)]
    fn due_task(&mut self, set: &ManagedSet, volume: VolumeIndex) -> Option<(TaskKind, Pass)> {
        let due = self.task_needed(volume);
        let needs_resync = self.running(volume)?.needs_resync;
        let dirty = self.model()?.volume(volume)?.consistency == Consistency::Dirty;
        if due.is_none() && needs_resync && dirty && self.nothing_to_agree(volume) {
            // What is left has nothing to agree with.
            if self.record(&set.shared, &Event::ResyncDone(volume)).is_ok() {
                if let Some(running) = self.running_mut(volume) {
                    running.needs_resync = false;
                    running.resync_from_sectors = 0;
                    running.array.sync_recorded();
                }
            }
        }
        due
    }

    /// The same, only looked at.
    #[inline(never)]
    pub fn task_needed(&self, volume: VolumeIndex) -> Option<(TaskKind, Pass)> {
        let running = self.running(volume)?;
        let (attached, present) = (running.attached, running.array.present());
        let model = self.model()?.volume(volume)?;
        let members = (0u16..).zip(model.members.iter());
        let rebuilding = members.filter_map(|(slot, member)| match member.state {
            MemberState::Rebuilding { done_sectors }
                if attached.contains(slot)
                    && present.contains(slot)
                    && !running.withheld.contains(slot) =>
            {
                Some((slot, done_sectors))
            }
            _ => None,
        });
        if let Some(pass) = Pass::next(rebuilding, running.late) {
            return Some((TaskKind::Rebuild, pass));
        }
        let in_sync = self.in_sync(volume, None);
        if !running.needs_resync || !running.array.geometry().can_compare(in_sync) {
            return None;
        }
        let kind = match model.consistency {
            Consistency::Initialising { .. } => TaskKind::Initialise,
            _ => TaskKind::Resync,
        };
        Some((kind, Pass::sync(running.resync_from_sectors)))
    }

    /// Whether the keeper is about to start a rebuild: a member was given a disk that the array does
    /// not have yet, or was lost just now, and a spare is there.
    pub fn awaits_rebuild(&self, volume: VolumeIndex, keeper_is_busy: bool) -> bool {
        let (Some(running), Some(set)) = (self.running(volume), self.model()) else {
            return false;
        };
        let Some(model) = set.volume(volume) else {
            return false;
        };
        let (unrecorded, withheld) = (running.array.unrecorded(), running.withheld);
        if !model.shape.level.is_redundant() || !keeper_is_busy && unrecorded.is_empty() {
            return false;
        }
        let has_spare = || {
            (0..self.devices.len() as DiskIndex).any(|disk| self.spare_rank(volume, disk).is_some())
        };
        (0u16..)
            .zip(model.members.iter())
            .any(|(slot, member)| match member.state {
                MemberState::Rebuilding { .. } => {
                    !withheld.contains(slot) && member.disk.is_some_and(|disk| self.is_online(disk))
                }
                MemberState::Failed | MemberState::Missing => has_spare(),
                MemberState::InSync => unrecorded.contains(slot) && has_spare(),
            })
    }

    /// Has copies that could not be read written again.
    fn start_repairs(&self, volume: VolumeIndex) {
        let Some(running) = self.running(volume).filter(|run| run.array.wants_repair()) else {
            return;
        };
        // When it cannot be now, the next error asks again.
        let _ = Array::start_task(
            &running.array,
            TaskKind::Check,
            &Pass::sync(0),
            Scope::Repairs,
        );
    }

    /// Whether so much is lost that every sector is there just once.
    fn nothing_to_agree(&self, volume: VolumeIndex) -> bool {
        let in_sync = self.in_sync(volume, None);
        // A member that is withheld is read below its mark: it has to agree there.
        self.running(volume).is_some_and(|running| {
            running.withheld.is_empty() && !running.array.geometry().can_compare(in_sync)
        }) && self.health(volume, in_sync) != Health::Failed
    }
}
