// SPDX-License-Identifier: GPL-2.0

//! How arrays stop.

use super::fill::being_filled;
use super::managed::ManagedSet;
use crate::array::Array;
use crate::block::context;
use crate::block::gate::Gated;
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
    /// Refuses when a volume's block device is open.
    #[inline(never)]
    pub fn check_unused(&self, volume: VolumeIndex) -> Checked {
        if self.is_filling(volume) {
            return Err(being_filled());
        }
        for _ in 0..CLOSE_TRIES {
            {
                let inner = self.lock();
                let Some(running) = inner.running(volume) else {
                    return Ok(());
                };
                if running.disk.as_ref().is_none_or(|disk| disk.openers() == 0) {
                    return Ok(());
                }
            }
            context::sleep_us(CLOSE_PAUSE_US);
        }
        let number = self.lock().running(volume).map(|run| run.number.get());
        match number {
            Some(number) => Err(reason!(
                EBUSY,
                "emd{number} is in use: it is mounted, or some program has it open"
            )),
            None => Ok(()),
        }
    }

    /// Stops a volume's array: no more I/O, clean metadata, no block device. True when it ran.
    /// `EAGAIN` when writes in flight wait for metadata that cannot be written.
    ///
    /// Whether it is in use was checked before. Called with `change` held.
    #[inline(never)]
    pub fn stop_volume(self: &Arc<Self>, volume: VolumeIndex) -> Checked<bool> {
        {
            let mut inner = self.lock();
            inner.checkpoint(&self.shared, volume);
            match inner.running_mut(volume) {
                Some(running) => running.stopping = true,
                None => return Ok(false),
            }
        }
        self.hide_members(volume, None);
        let (disk, array) = match self.lock().running_mut(volume) {
            Some(running) => (running.disk.take(), running.array.clone()),
            None => return Ok(false),
        };
        // These wait for I/O, which may wait for the recorder: the inner lock must not be held.
        array.cancel_task();
        drop(disk);
        self.end_array(&array)?;
        let running = {
            let mut inner = self.lock();
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
            let result_of_one = self
                .check_unused(volume)
                .and_then(|()| self.stop_volume(volume));
            match result_of_one {
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
        let agrees = !running.needs_resync
            && !running.array.is_broken()
            && running.array.unrecorded().is_empty();
        let is_dirty = self
            .model()
            .and_then(|model| model.volume(volume))
            .is_some_and(|model| {
                model.shape.level.is_redundant() && model.consistency == Consistency::Dirty
            });
        if !agrees || !is_dirty {
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

    /// How far an initialisation got: nothing is in flight that could tear what is below.
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
        let recorded = self
            .model()
            .and_then(|model| model.volume(volume))
            .and_then(|model| match model.consistency {
                Consistency::Initialising { done_sectors } => Some(done_sectors),
                _ => None,
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
