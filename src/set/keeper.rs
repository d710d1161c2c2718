// SPDX-License-Identifier: GPL-2.0

//! The keeper: lost members out, spares in ([`super::spares`]), tasks on ([`super::tasks`]).
//!
//! It changes the members of arrays, for which the array has to be empty for a moment; so it holds
//! `change`, and the inner lock only in between.

use super::managed::ManagedSet;
use super::shared::{now, Shared};
use super::state::Inner;
use crate::array::{Array, MemberSlot};
use crate::block::bdev::BlockDevice;
use crate::block::context;
use crate::block::gate::Gated;
use crate::model::{Checked, DiskIndex, DiskState, Event, MemberState, Reason, Slot, VolumeIndex};
use crate::personalities::task::due::lets_join;
use crate::uapi::{EventKind, TaskKind};
use kernel::prelude::*;
use kernel::sync::Arc;

/// How long a change of members may wait for failures to be recorded: 5 s; then later.
const CHANGE_TRIES: u32 = 500;
const CHANGE_PAUSE_US: usize = 10_000;
/// When what did not work now is tried again.
pub(super) const LATER_MS: u32 = 2_000;
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
        self.drop_removed();
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
    pub(super) fn drop_dead(&self) {
        loop {
            let dead = self.lock().next_dead(&self.shared);
            // Closing a disk may take its time, and locks of the kernel.
            let Some(dead) = dead else { return };
            drop(dead);
        }
    }

    /// Lets go of disks that were taken out of the set, once it is written that they were: until then what the set writes may
    /// have to go to them too, so that they forget it.
    pub(super) fn drop_removed(&self) {
        loop {
            let mut inner = self.lock();
            let places = 0..inner.devices.len() as DiskIndex;
            let removed = places
                .into_iter()
                .find(|&disk| inner.device(disk).is_some() && inner.is_removed(disk));
            let Some(disk) = removed else { return };
            if inner.catch_up(&self.shared).is_err() {
                drop(inner);
                return self.keep_later(LATER_MS);
            }
            let place = inner.devices.get_mut(usize::from(disk));
            let device = place.and_then(|place| place.take());
            drop(inner);
            // Closing a disk may take its time, and locks of the kernel.
            drop(device);
        }
    }

    /// A disk that was left out of updates and is here again counts as a blank one, where that is wished; else it is left alone.
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
            let device = inner.device(disk).cloned();
            let Some(device) = device.filter(|_| !inner.told_old.contains(disk)) else {
                continue;
            };
            let is_spare = inner.has_as_spare(disk);
            if let Err(why) = inner.may_take_back(self, disk, &device, is_spare) {
                inner.told_old.insert(disk);
                self.tell_stranger(device.dev(), why.text());
                continue;
            }
            let returned = inner
                .note_places(disk)
                .and_then(|()| inner.record(&self.shared, &Event::DiskReturned(disk, facts)));
            inner.note_returned(disk);
            inner.note_start(self, disk, &device);
            if let Err(reason) = returned {
                log!(
                    pr_warn,
                    "disk {} was left out and cannot be used again: {}",
                    disk,
                    reason
                );
            }
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
            let (member, disk, joining) = {
                let inner = self.lock();
                let disk = inner.running(volume).and_then(|run| run.disk.clone());
                let joining = inner.disk_in(volume, slot);
                (inner.member_slot(volume, slot), disk, joining)
            };
            let Some(first) = member else { return Ok(()) };
            let stacked = disk.map_or(Ok(()), |disk| array.stack_member(&disk, &first));
            let MemberSlot {
                device,
                offset_sectors,
                log_sector,
            } = first;
            let fits = stacked.and_then(|()| self.lock().clear_ring(volume, slot));
            if let Err(reason) = fits {
                if reason.errno() == ENOMEM {
                    // That says nothing of the disk: later.
                    return Err(reason);
                }
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
            inner.drop_if_lost(volume, slot, joining);
            drop(inner);
            self.show_members(volume);
        }
    }
}

impl Inner {
    /// A disk that was to join does not fit the array's limits, or does not take an empty log, so it would not take writes
    /// either: it counts as failed. `reason` when that cannot be recorded.
    #[inline(never)]
    fn give_up_joining(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        slot: Slot,
        reason: Reason,
    ) -> Checked {
        let disk = self.disk_in(volume, slot);
        if let Some(disk) = disk.filter(|&disk| self.is_needed(disk)) {
            // Another volume lives on it, and no write passed it by: it gives up this place only.
            let running = self.running_mut(volume).ok_or(reason)?;
            running.unfit = running.unfit.with(slot);
            let set = self.known()?;
            shared.say(
                EventKind::Note,
                &set.id,
                format_args!("disk {disk} cannot join volume {volume}: {reason}"),
            );
            return Ok(());
        }
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

    /// Takes a member that was attached just now out of use again, if the loss of its disk was recorded meanwhile: nobody
    /// told the array then, as it did not have it yet. It is detached as others are.
    fn drop_if_lost(&self, volume: VolumeIndex, slot: Slot, disk: Option<DiskIndex>) {
        let state = self.member_state(volume, slot);
        let joins = matches!(state, Some(MemberState::Rebuilding { .. }));
        if joins && self.disk_in(volume, slot) == disk {
            return;
        }
        if let Some(running) = self.running(volume) {
            let is_gone = disk.is_none_or(|disk| self.is_unplugged(disk));
            running.array.fail_member(slot, is_gone);
        }
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

    /// Has rebuilds end that others wait to join: the next one begins at the mark, with all of them.
    fn let_join(&self) {
        for volume in 0..self.entries_len() {
            if self.unattached_in(volume).is_none() {
                continue;
            }
            let Some(running) = self.running(volume) else {
                continue;
            };
            let task = running.array.task();
            if task.is_some_and(|task| lets_join(&task.pass, task.paused)) {
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
                    && !running.attached.union(running.unfit).contains(*slot)
                    && member.disk.is_some_and(|disk| self.is_online(disk))
            })
            .map(|(slot, _)| slot)
    }

    /// The same, where no rebuild is at work, and none has ended without its record: its members are known.
    fn next_unattached(&self) -> Option<(VolumeIndex, Slot, Arc<Gated<Array>>)> {
        (0..self.entries_len()).find_map(|volume| {
            let array = &self.running(volume)?.array;
            let task = array.task();
            if task.is_some_and(|task| task.kind == TaskKind::Rebuild) || array.has_finished() {
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
}
