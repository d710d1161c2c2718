// SPDX-License-Identifier: GPL-2.0

//! Events into the metadata, and the metadata's plans onto the disks.
//!
//! [`Inner::record`] is the only way to change metadata. Recording a failure, or that an array is
//! dirty, allocates nothing: the plan, the bytes and the bios were made when the set was claimed.

use super::shared::Shared;
use super::state::Inner;
use crate::array::Array;
use crate::block::bdev::BlockDevice;
use crate::block::context;
use crate::block::gate::Gated;
use crate::block::sync_io::SyncIo;
use crate::metadata::MetadataSet;
use crate::model::{
    Checked, Context, DiskIndex, DiskMask, Event, PlanWrite, Slot, Text, VolumeIndex, DISKS_MAX,
    MEMBERS_MAX,
};
use crate::personalities::Mask;
use crate::reason;
use crate::uapi::{DevNumber, EventKind};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What became of a plan.
struct Outcome {
    /// Disks that took all their writes.
    written: DiskMask,
    /// Disks that did not.
    failed: DiskMask,
    /// What the last one of those said.
    error: Option<(DiskIndex, Error)>,
    /// Disks that could not be flushed.
    unflushed: DiskMask,
    /// It ended early: a disk that cannot be done without did not take its part of a phase.
    is_stuck: bool,
}

/// So often a plan is begun again for a disk that cannot be done without.
const INSISTENCE: u32 = 4;

impl Outcome {
    fn fail(&mut self, disk: DiskIndex, errno: Error) {
        self.failed.insert(disk);
        self.error = Some((disk, errno));
    }
}

/// The time, and randomness.
pub fn context() -> Context {
    Context {
        now_seconds: context::now_seconds(),
        random: context::random(),
    }
}

impl Inner {
    /// Records `event`: in memory, then on the disks. On an error from the format nothing has
    /// changed. `EIO` when no disk took the news, and it is not that just those for which it was are lost; then it is true in
    /// memory only.
    ///
    /// A disk that does not take its metadata is recorded as failed on the others, where redundancy
    /// bears that.
    #[inline(never)]
    pub fn record(&mut self, shared: &Shared, event: &Event<'_>) -> Checked {
        self.catch_up(shared)?;
        self.apply(event)?;
        self.write_out(shared)
    }

    /// Writes what no disk took before: until then nothing counts as recorded.
    pub fn catch_up(&mut self, shared: &Shared) -> Checked {
        if self.unwritten {
            self.write_out(shared)?;
        }
        Ok(())
    }

    /// As [`Inner::record`], for events that bring in a disk: `device` has the key of the event's
    /// facts. `prepare` makes it ready for the set's metadata, once the format takes it; when that fails the disk is none of
    /// the set's again. Who calls keeps `device` until the inner lock is given back: no disk is closed with it held.
    #[inline(never)]
    pub fn record_with(
        &mut self,
        shared: &Shared,
        event: &Event<'_>,
        device: &Arc<BlockDevice>,
        prepare: impl FnOnce() -> Checked,
    ) -> Checked<DiskIndex> {
        self.catch_up(shared)?;
        // Room first, so that nothing fails between the change in memory and its writing.
        let places = self.model().map_or(0, |set| set.disks.len()) + 1;
        while self.devices.len() < places {
            self.devices.push(None, GFP_KERNEL)?;
        }
        self.moves.make_room(places)?;
        self.apply(event)?;
        let Some(index) = self.known()?.disk_by_key(device.dev().0) else {
            return Err(reason!(EIO, "internal: the format lost the new disk"));
        };
        if let Err(reason) = prepare() {
            // It is not claimed: nothing of what the set writes about this goes to it. Nor did the others get what brought it in,
            // which the format is not to build on.
            let mut untold = DiskMask::EMPTY;
            for disk in (0..).take(places).filter(|disk| *disk != index) {
                untold.insert(disk);
            }
            self.note_missed(untold);
            self.apply(&Event::DiskRemoved(index))?;
            self.write_out(shared)?;
            return Err(reason);
        }
        self.put_device(index, device.clone())?;
        self.joins = Some(index);
        let written = self.write_out(shared);
        self.joins = None;
        written.map(|()| index)
    }

    /// Carries out the plan that `Format::create` left.
    #[inline(never)]
    pub fn write_out(&mut self, shared: &Shared) -> Checked {
        if shared.ended.load(Ordering::Acquire) {
            // Disks are switched off one after the other: that is no loss for those that still are on to remember.
            self.unwritten = true;
            return Err(reason!(ESHUTDOWN, "the machine is about to end"));
        }
        let mut pending = DiskMask::EMPTY;
        let mut handled = DiskMask::EMPTY;
        // Each round but the first deals with one more disk.
        for _ in 0..=DISKS_MAX {
            let outcome = self.insist(shared);
            pending.add_all(&outcome.failed);
            let lost = self.next_borne(&mut pending, &mut handled);
            if let Some((disk, errno)) = outcome.error {
                self.complain(shared, disk, errno);
                // The news may have been for few disks only: then the others hear of the loss of those.
                let is_told = lost.is_some() && self.others_know(&outcome.failed);
                if !self.is_kept_by(&outcome.written) && !is_told {
                    self.unwritten = true;
                    return Err(reason!(
                        EIO,
                        "the metadata could be written to no disk (errno {})",
                        -errno.to_errno()
                    ));
                }
            }
            self.unwritten = false;
            self.note_missed(outcome.failed);
            let Some(next) = lost else {
                return Ok(());
            };
            self.fail_on_arrays(next);
            let event = self.loss_event(next);
            if self.apply(&event).is_err() {
                // It is out of use in memory; there is nothing to write about it.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether one of the disks that took their metadata is there to tell of it: not one that only joins with it, or leaves.
    fn is_kept_by(&self, written: &DiskMask) -> bool {
        (0..self.devices.len() as DiskIndex).any(|disk| {
            written.contains(disk) && !self.is_removed(disk) && self.joins != Some(disk)
        })
    }

    /// Of `pending`, a disk that was not dealt with before and whose loss is borne; it is among the `handled` then.
    fn next_borne(&self, pending: &mut DiskMask, handled: &mut DiskMask) -> Option<DiskIndex> {
        loop {
            let disk = pending.pop()?;
            if !handled.contains(disk) {
                handled.insert(disk);
                if self.bears_loss(disk) {
                    return Some(disk);
                }
            }
        }
    }

    /// Whether there are disks beside `failed` that volumes use: these may be told.
    fn others_know(&self, failed: &DiskMask) -> bool {
        (0..self.devices.len() as DiskIndex).any(|disk| {
            self.device(disk).is_some() && !failed.contains(disk) && self.is_in_use(disk)
        })
    }

    /// How the loss of a disk is called.
    pub fn loss_event(&self, disk: DiskIndex) -> Event<'static> {
        if self.is_unplugged(disk) {
            Event::DiskMissing(disk)
        } else {
            Event::DiskFailed(disk)
        }
    }

    #[inline(never)]
    fn apply(&mut self, event: &Event<'_>) -> Checked {
        self.reached.fill(0);
        self.due.fill(0);
        match self.metadata.as_mut() {
            Some(metadata) => metadata.apply(event, &context())?,
            None => return Err(reason!(ENODEV, "the set has no metadata")),
        }
        if let Some(metadata) = &self.metadata {
            self.moves.follow(metadata.set());
        }
        Ok(())
    }

    /// The format hears who did not take its plan.
    fn note_missed(&mut self, mut failed: DiskMask) {
        while let (Some(disk), Some(metadata)) = (failed.pop(), self.metadata.as_mut()) {
            let phase = self.reached.get(usize::from(disk));
            metadata.missed(disk, phase.copied().unwrap_or(u16::MAX));
        }
    }

    /// Carries out the plan. Who cannot be done without has to take it as the others do: started without
    /// these he would be believed, and what he does not know of counted for good. So a phase that he does not
    /// take is the last one, and the plan begins again; an error may pass. When it does not, the others go on, as far as the
    /// format has them.
    #[inline(never)]
    fn insist(&mut self, shared: &Shared) -> Outcome {
        for _ in 0..INSISTENCE {
            let needed = self.indispensable();
            let outcome = self.carry_out(&needed);
            self.note_unflushed(outcome.unflushed);
            match outcome.error {
                Some((disk, errno)) if outcome.is_stuck => self.complain(shared, disk, errno),
                _ => return outcome,
            }
        }
        let furthest = self.reached.iter().copied().max();
        if let (Some(metadata), Some(phase)) = (self.metadata.as_mut(), furthest) {
            if metadata.leave_behind(phase) {
                self.due.fill(0);
            }
        }
        let outcome = self.carry_out(&DiskMask::EMPTY);
        self.note_unflushed(outcome.unflushed);
        outcome
    }

    /// Disks could not be flushed: arrays hear of it that keep them all the same.
    fn note_unflushed(&self, mut disks: DiskMask) {
        let Some(set) = self.model() else { return };
        while let Some(disk) = disks.pop() {
            for (volume, slot, _) in set.memberships(disk) {
                let running = self.running(volume);
                let keeps = |array: &Array| {
                    array.present().contains(slot) && !self.works_without(volume, disk)
                };
                if let Some(running) = running.filter(|running| keeps(&running.array)) {
                    running.array.note_cache_lost();
                }
            }
        }
    }

    /// Disks that are in use and whose loss is not borne, by some volume at least.
    #[inline(never)]
    fn indispensable(&self) -> DiskMask {
        let mut needed = DiskMask::EMPTY;
        for disk in 0..self.devices.len() as DiskIndex {
            if self.device(disk).is_some() && self.is_indispensable(disk) {
                needed.insert(disk);
            }
        }
        needed
    }

    /// Carries out the plan, of each disk what is due, up to a phase that one of the `needed` does not take.
    #[inline(never)]
    fn carry_out(&mut self, needed: &DiskMask) -> Outcome {
        let mut outcome = Outcome {
            written: DiskMask::EMPTY,
            failed: DiskMask::EMPTY,
            error: None,
            unflushed: DiskMask::EMPTY,
            is_stuck: false,
        };
        let Self {
            metadata,
            devices,
            reached,
            due,
            io,
            ..
        } = self;
        let Some(metadata) = metadata.as_ref() else {
            return outcome;
        };
        for ((disk, device), &phase) in (0..).zip(devices.iter()).zip(due.iter()) {
            // Perhaps nothing is left for it. One that is gone with a part of it is sent no more.
            let is_here = device.as_ref().is_some_and(|device| !device.is_gone());
            if phase > 0 && is_here {
                outcome.written.insert(disk);
            }
        }
        let mut rest = metadata.plan().writes();
        while let Some(first) = rest.first() {
            let len = rest
                .iter()
                .position(|write| write.phase != first.phase)
                .unwrap_or(rest.len());
            let (phase, after) = rest.split_at(len);
            rest = after;
            for write in phase {
                let is_left = outcome.failed.contains(write.disk) || !is_due(due, write);
                if let Some(last) = reached
                    .get_mut(usize::from(write.disk))
                    .filter(|_| !is_left)
                {
                    *last = write.phase.max(*last);
                }
            }
            let touched = write_phase(
                &**metadata,
                devices,
                io.as_mut(),
                (phase, due),
                &mut outcome,
            );
            let written = (0..)
                .zip(devices.iter())
                .filter(|(disk, _)| touched.contains(*disk))
                .filter_map(|(disk, device)| Some((disk, &**device.as_ref()?)));
            flush_together(io.as_mut(), written, |disk, result| match result {
                Ok(()) => {
                    outcome.written.insert(disk);
                    if let Some(due) = due.get_mut(usize::from(disk)) {
                        *due = first.phase.saturating_add(1);
                    }
                }
                Err(errno) => {
                    outcome.fail(disk, errno);
                    outcome.unflushed.insert(disk);
                }
            });
            if outcome.failed.meets(needed) {
                outcome.is_stuck = true;
                break;
            }
        }
        // Who failed later did not take all of it.
        let mut failed = outcome.failed;
        while let Some(disk) = failed.pop() {
            outcome.written.remove(disk);
        }
        outcome
    }

    #[inline(never)]
    fn complain(&self, shared: &Shared, disk: DiskIndex, errno: Error) {
        let Some(set) = self.model() else { return };
        let dev = self.device(disk).map(|device| device.dev());
        log!(
            pr_err,
            "disk {} of a set does not take its metadata: errno {}",
            disk,
            -errno.to_errno()
        );
        shared.post(EventKind::MetadataError, &set.id, |event| {
            event.dev = dev.and_then(|dev| DevNumber::from_wire(dev.0));
            event.value = u64::from(errno.to_errno().unsigned_abs());
            event.text = Text::from_fmt(format_args!(
                "metadata of disk {disk} could not be written: errno {}",
                -errno.to_errno()
            ));
        });
    }

    /// Flushes the caches of a volume's members, before the metadata promises what is in them. A
    /// member that cannot is failed, and the promise is off.
    #[inline(never)]
    pub fn flush_members(&mut self, volume: VolumeIndex) -> Checked {
        let Some(running) = self.running(volume) else {
            return Ok(());
        };
        let (array, attached) = (running.array.clone(), running.attached);
        let number = array.flush_begins();
        self.flush_slots(volume, &array, attached)?;
        array.flush_ended(number, Mask::EMPTY);
        Ok(())
    }

    /// The same for some members.
    #[inline(never)]
    pub fn flush_slots(
        &mut self,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        slots: Mask,
    ) -> Checked {
        let mut disks = [None; MEMBERS_MAX];
        for slot in slots.iter() {
            if let Some(place) = disks.get_mut(usize::from(slot)) {
                *place = self.disk_in(volume, slot);
            }
        }
        let Self { devices, io, .. } = self;
        let due = (0..).zip(disks).filter_map(|(slot, disk)| {
            let device = devices.get(usize::from(disk?))?.as_ref()?;
            Some((slot, &**device))
        });
        let mut result = Ok(());
        flush_together(io.as_mut(), due, |slot, flushed| {
            if let Err(errno) = flushed {
                array.flush_failed(slot);
                result = Err(reason!(
                    errno,
                    "the member in slot {slot} cannot be flushed"
                ));
            }
        });
        result
    }

    /// The same for one member; false when it cannot.
    #[inline(never)]
    pub fn flush_member(&mut self, volume: VolumeIndex, slot: Slot) -> bool {
        let array = self.running(volume).map(|running| running.array.clone());
        let Some((array, disk)) = array.zip(self.disk_in(volume, slot)) else {
            return false;
        };
        let Self { devices, io, .. } = self;
        let device = devices.get(usize::from(disk)).and_then(Option::as_ref);
        let mut is_flushed = false;
        let due = device.map(|device| (slot, &**device));
        flush_together(io.as_mut(), due.into_iter(), |slot, flushed| {
            is_flushed = flushed.is_ok();
            if !is_flushed {
                array.flush_failed(slot);
            }
        });
        is_flushed
    }
}

/// Whether a disk has not taken this phase of the plan yet.
fn is_due(due: &[u16; DISKS_MAX], write: &PlanWrite) -> bool {
    let first = due.get(usize::from(write.disk));
    first.is_some_and(|&first| write.phase >= first)
}

/// Writes what belongs to one phase and is due, to all disks at a time. Says which disks took all of theirs.
/// Disks that are not here are none of the plan's; those that failed before are left.
#[inline(never)]
fn write_phase(
    metadata: &dyn MetadataSet,
    devices: &[Option<Arc<BlockDevice>>],
    mut io: Pin<&mut SyncIo>,
    (phase, due): (&[PlanWrite], &[u16; DISKS_MAX]),
    outcome: &mut Outcome,
) -> DiskMask {
    let mut touched = DiskMask::EMPTY;
    let mut writes = phase.iter();
    let mut next = writes.next();
    // Of the next write, what is under way already.
    let mut sent_bytes = 0;
    while next.is_some() {
        let mut round = io.as_mut().round();
        while let Some(write) = next {
            let disk = write.disk;
            let device = devices.get(usize::from(disk)).and_then(Option::as_ref);
            let bytes = metadata.bytes(&write.source);
            let usable = !bytes.is_empty() && bytes.len() % 512 == 0;
            let left = bytes.get(sent_bytes..).unwrap_or(&[]);
            match device {
                Some(device) if usable && is_due(due, write) && !outcome.failed.contains(disk) => {
                    let sector = write.sector + (sent_bytes as u64 >> 9);
                    let taken = round.write(disk, device, sector, left);
                    touched.insert(disk);
                    sent_bytes += taken;
                    if taken < left.len() {
                        break;
                    }
                }
                Some(_) if !usable => outcome.fail(disk, EINVAL),
                _ => {}
            }
            next = writes.next();
            sent_bytes = 0;
        }
        round.finish(|disk, result, _| {
            if let Err(errno) = result {
                outcome.fail(disk, errno);
            }
        });
    }
    let mut failed = outcome.failed;
    while let Some(disk) = failed.pop() {
        touched.remove(disk);
    }
    touched
}

/// Flushes devices, all at a time; `told` gets the outcome of each.
#[inline(never)]
fn flush_together<'d>(
    mut io: Pin<&mut SyncIo>,
    due: impl Iterator<Item = (u16, &'d BlockDevice)>,
    mut told: impl FnMut(u16, Result),
) {
    let mut due = due.peekable();
    while due.peek().is_some() {
        let mut round = io.as_mut().round();
        while let Some(&(tag, device)) = due.peek() {
            if !round.flush(tag, device) {
                break;
            }
            due.next();
        }
        round.finish(|tag, result, _| told(tag, result));
    }
}
