// SPDX-License-Identifier: GPL-2.0

//! How arrays stop.

use super::fill::being_filled;
use super::managed::ManagedSet;
use super::recorder::Wishes;
use crate::array::Array;
use crate::block::context;
use crate::block::gate::Gated;
use crate::block::gendisk::Disk;
use crate::model::{Checked, Consistency, Event, VolumeIndex};
use crate::reason;
use crate::uapi::{EventKind, TaskKind};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Who just closes it (udev, say) is waited for so long.
const CLOSE_TRIES: u32 = 20;
const CLOSE_PAUSE_US: usize = 50_000;

/// How long an array's end may take: 20 s.
const STOP_TRIES: u32 = 2000;
const STOP_PAUSE_US: usize = 10_000;

impl ManagedSet {
    /// Refuses when a volume's block device is open. It may be opened right afterwards; [`Self::stop_volume`] asks again.
    #[inline(never)]
    pub fn check_unused(&self, volume: VolumeIndex) -> Checked {
        self.wait_unused(volume, |disk| disk.openers() == 0)
            .map(|_| ())
    }

    /// A volume's block device, if there is one, once it is not used as `is_unused` sees it. Called without the inner
    /// lock.
    #[inline(never)]
    fn wait_unused(
        &self,
        volume: VolumeIndex,
        is_unused: impl Fn(&Disk) -> bool,
    ) -> Checked<Option<Arc<Disk>>> {
        if self.is_filling(volume) {
            return Err(being_filled());
        }
        let mut tries = 0;
        loop {
            let (disk, number) = match self.lock().running(volume) {
                Some(running) => (running.disk.clone(), running.number.get()),
                None => return Ok(None),
            };
            if disk.as_ref().is_none_or(|disk| is_unused(disk)) {
                return Ok(disk);
            }
            tries += 1;
            if tries >= CLOSE_TRIES {
                return Err(reason!(
                    EBUSY,
                    "emd{number} is in use: it is mounted, or some program has it open"
                ));
            }
            drop(disk);
            context::sleep_us(CLOSE_PAUSE_US);
        }
    }

    /// Stops a volume's array: no more I/O, clean metadata, no block device. True when it ran. Refuses when it is in
    /// use, and with `EAGAIN` when its task does not end; it runs on then.
    ///
    /// Called with `change` held.
    #[inline(never)]
    pub fn stop_volume(self: &Arc<Self>, volume: VolumeIndex) -> Checked<bool> {
        let disk = self.wait_unused(volume, Disk::shut)?;
        {
            let mut inner = self.lock();
            inner.checkpoint(&self.shared, volume);
            match inner.running_mut(volume) {
                Some(running) => running.stopping = true,
                None => return Ok(false),
            }
        }
        let Some(array) = self.lock().array(volume) else {
            return Ok(false);
        };
        // These wait for I/O, which may wait for the recorder: the inner lock must not be held.
        if let Err(reason) = self.end_array(&array) {
            if let Some(running) = self.lock().running_mut(volume) {
                running.stopping = false;
            }
            if let Some(disk) = disk {
                disk.unshut();
            }
            self.kick();
            return Err(reason);
        }
        self.hide_members(volume, None);
        if let Some(running) = self.lock().running_mut(volume) {
            running.disk = None;
        }
        drop(disk);
        let running = {
            let mut inner = self.lock();
            // What ended just before counts as it would have.
            let mut wishes = Wishes::default();
            inner.note_finished(&self.shared, volume, &array, &mut wishes);
            inner.record_stopped(self, volume);
            let entry = inner.entries.get_mut(usize::from(volume));
            entry.and_then(|entry| entry.running.take())
        };
        if let Some(running) = &running {
            let number = running.number.get();
            log!(pr_info, "emd{} is stopped", number);
            self.shared
                .post(EventKind::ArrayStopped, &self.id, |event| {
                    event.number = Some(number);
                });
        }
        drop(array);
        // Others may have waited for what ended here.
        self.kick_keeper();
        Ok(running.is_some())
    }

    /// Ends an array, letting the recorder do in between what its writes wait for.
    #[inline(never)]
    fn end_array(self: &Arc<Self>, array: &Arc<Gated<Array>>) -> Checked {
        let mut tries = 0;
        loop {
            let result = Array::stop(array);
            let again = result.as_ref().is_err_and(|why| why.errno() == EAGAIN);
            if !again || tries >= STOP_TRIES {
                return result;
            }
            tries += 1;
            self.kick();
            context::sleep_us(STOP_PAUSE_US);
        }
    }

    /// Stops all arrays of the set and gives up its disks. Says how many there were.
    #[inline(never)]
    pub fn stop_all(self: &Arc<Self>) -> Checked<u32> {
        let change = self.change.lock();
        let mut stopped = 0;
        let mut result = Ok(());
        let volumes = self.lock().entries_len();
        for volume in 0..volumes {
            // Who opened it while others were stopped keeps it.
            match self.stop_volume(volume) {
                Ok(done) => stopped += u32::from(done),
                Err(reason) => result = Err(reason),
            }
        }
        self.lock().held = true;
        self.release_if_idle();
        drop(change);
        result.map(|()| stopped)
    }
}

impl super::state::Inner {
    /// The last words about an array in which nothing is in flight any more.
    #[inline(never)]
    fn record_stopped(&mut self, set: &ManagedSet, volume: VolumeIndex) {
        self.record_stopped_mark(set, volume);
        let Some(running) = self.running(volume) else {
            return;
        };
        let is_settled = !running.array.is_broken() && running.array.unrecorded().is_empty();
        let is_due = self
            .model()
            .and_then(|model| model.volume(volume))
            .is_some_and(|model| match model.consistency {
                _ if !model.shape.level.is_redundant() => false,
                Consistency::Clean => false,
                Consistency::Dirty => !running.needs_resync,
                // Its mark counts only when nothing is in flight.
                Consistency::Initialising { .. } => running.array.is_dirty(),
            });
        if !is_settled || !is_due {
            return;
        }
        let recorded = self
            .flush_members(volume)
            .and_then(|()| self.record(&set.shared, &Event::Clean(volume)));
        if let Err(reason) = recorded {
            set.shared.say(
                EventKind::MetadataError,
                &set.id,
                format_args!("volume {volume} is stopped and stays marked as dirty: {reason}"),
            );
        }
    }

    /// How far an initialisation or a resync got: nothing is in flight that could tear what is below.
    #[inline(never)]
    fn record_stopped_mark(&mut self, set: &ManagedSet, volume: VolumeIndex) {
        let Some(running) = self.running(volume) else {
            return;
        };
        let array = running.array.clone();
        let mark = match array.take_finished() {
            Some(result) if matches!(result.kind, TaskKind::Initialise | TaskKind::Resync) => {
                result.done_sectors
            }
            _ => running.resync_from_sectors,
        };
        let needs_resync = running.needs_resync;
        let metadata = self.metadata.as_ref();
        let keeps_mark = metadata.is_some_and(|metadata| metadata.keeps_sync_mark(volume));
        let recorded = self
            .model()
            .and_then(|model| model.volume(volume))
            .and_then(|model| match model.consistency {
                Consistency::Initialising { done_sectors } => Some(done_sectors),
                // Regions tell better.
                Consistency::Dirty if needs_resync && keeps_mark && model.regions.is_none() => {
                    Some(0)
                }
                Consistency::Dirty | Consistency::Clean => None,
            });
        let is_ahead = recorded.is_some_and(|done_sectors| done_sectors < mark);
        if !is_ahead || array.is_broken() || array.must_record() {
            return;
        }
        let event = Event::ResyncProgress {
            volume,
            done_sectors: mark,
        };
        // Without it the next start begins further down.
        let _ = self
            .flush_members(volume)
            .and_then(|()| self.record(&set.shared, &event));
    }
}
