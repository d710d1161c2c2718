// SPDX-License-Identifier: GPL-2.0

//! The recorder: what arrays report goes into the metadata. (How far their tasks are: [`super::progress`].)
//!
//! Writes wait for it (a failure, the dirty mark), so it never waits for an array, and allocates
//! nothing on these ways.

use super::managed::ManagedSet;
use super::shared::Shared;
use super::state::Inner;
use crate::array::Array;
use crate::block::bdev::Dev;
use crate::block::gate::Gated;
use crate::model::{Checked, Consistency, DiskIndex, DiskState, Event, MemberState, VolumeIndex};
use crate::personalities::Mask;
use crate::uapi::{DevNumber, EventKind, TaskKind};
use core::sync::atomic::Ordering;
use kernel::sync::Arc;

/// How often progress is looked at, and clean arrays are looked for.
const LOOK_MS: u32 = 500;
/// How often regions that are not written any more are looked for.
const SWEEP_MS: u32 = 5_000;
/// Stretches of regions recorded in one go, so that other arrays have their turn.
pub(super) const STRETCHES_MAX: u32 = 32;

/// What the recorder found to be done by others, or later.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) keeper: bool,
    pub(super) look_now: bool,
    pub(super) look_again: bool,
}

impl ManagedSet {
    /// Looks at all arrays once.
    pub fn look(self: &Arc<Self>) {
        let mut wishes = Wishes::default();
        self.wants_tick.store(false, Ordering::Release);
        {
            let mut inner = self.lock();
            let checkpoints = self.format.capabilities().checkpoints;
            for volume in 0..inner.entries_len() {
                let Some(array) = inner.array(volume) else {
                    continue;
                };
                inner.note_failures(&self.shared, volume, &array, &mut wishes);
                inner.note_dirty(&self.shared, volume, &array, &mut wishes);
                inner.note_regions(&self.shared, volume, &array, &mut wishes);
                inner.note_bad(&self.shared, volume, &array, &mut wishes);
                inner.note_finished(&self.shared, volume, &array, &mut wishes);
                inner.note_withheld(&self.shared, volume, &array, &mut wishes);
                inner.note_rebuilt(&self.shared, volume, &array, &mut wishes);
                inner.note_progress(&self.shared, volume, &array, checkpoints, &mut wishes);
                inner.note_clean(&self.shared, volume, &array, &mut wishes);
            }
            if self.shared.ending.load(Ordering::Acquire) {
                inner.settle(self);
            }
            wishes.keeper |= inner.tell_states(&self.shared);
            if wishes.keeper {
                // Before the lock is given back: who waits for a rebuild must not see a gap.
                self.keeper_wanted.store(true, Ordering::Release);
            }
        }
        wishes.keeper |= self.keeper_is_due();
        if wishes.keeper {
            self.kick_keeper();
        }
        if wishes.look_now {
            self.kick();
        } else if wishes.look_again {
            self.look_again(LOOK_MS);
        }
    }
}

impl Inner {
    /// Writes wait while what they need recorded cannot be; people are told once. Where more is lost than redundancy
    /// bears they fail instead: nothing comes of waiting.
    #[inline(never)]
    pub(super) fn hold_writes(&mut self, shared: &Shared, volume: VolumeIndex, result: &Checked) {
        let Some(id) = self.model().map(|set| set.id) else {
            return;
        };
        let Some(running) = self.running_mut(volume) else {
            return;
        };
        if result.is_err() && running.array.is_broken() {
            return running.array.fail_writes();
        }
        let first = !running.complained;
        running.complained = result.is_err();
        if let (true, Err(reason)) = (first, result) {
            shared.say(
                EventKind::MetadataError,
                &id,
                format_args!(
                    "emd{}: writes have to wait: {}",
                    running.number.get(),
                    reason
                ),
            );
        }
    }

    #[inline(never)]
    fn note_failures(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        let failed = array.unrecorded();
        if failed.is_empty() {
            return;
        }
        let mut recorded = Mask::EMPTY;
        for slot in failed.iter() {
            let result = self.record_failure(shared, volume, slot);
            self.hold_writes(shared, volume, &result);
            match result {
                Ok(()) => recorded = recorded.with(slot),
                Err(_) => wishes.look_again = true,
            }
        }
        if !recorded.is_empty() {
            array.failures_recorded(recorded);
            // A task that is held does not see by itself that it has to end.
            array.nudge_task();
            wishes.keeper = true;
        }
    }

    #[inline(never)]
    fn record_failure(&mut self, shared: &Shared, volume: VolumeIndex, slot: u16) -> Checked {
        if matches!(
            self.member_state(volume, slot),
            None | Some(MemberState::Failed | MemberState::Missing)
        ) {
            // In memory; perhaps no disk took it.
            return self.catch_up(shared);
        }
        let Some(disk) = self.disk_in(volume, slot) else {
            return Ok(());
        };
        let dev = self.device(disk).map(|device| device.dev());
        let number = self.running(volume).map(|running| running.number.get());
        let event = self.loss_event(disk);
        self.returned.remove(disk);
        self.record(shared, &event)?;
        self.fail_on_arrays(disk);
        let Some(set) = self.model() else {
            return Ok(());
        };
        log!(
            pr_warn,
            "emd{}: disk {} in slot {} failed",
            number.unwrap_or(0),
            disk,
            slot
        );
        if matches!(event, Event::DiskMissing(_)) {
            shared.post(EventKind::DiskLost, &set.id, |event| {
                event.number = number;
                event.slot = Some(slot);
                event.dev = dev.and_then(|dev| DevNumber::from_wire(dev.0));
            });
        }
        Ok(())
    }

    #[inline(never)]
    fn note_dirty(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        if !array.wants_dirty() {
            return;
        }
        let redundant = self
            .model()
            .and_then(|set| set.volume(volume))
            .is_some_and(|model| model.shape.level.is_redundant());
        if redundant {
            let result = self
                .take_back_mark(shared, volume)
                .and_then(|()| self.record(shared, &Event::Dirty(volume)));
            self.hold_writes(shared, volume, &result);
            if result.is_err() {
                // The writes go on waiting.
                wishes.look_again = true;
                return;
            }
        }
        Array::dirty_recorded(array);
        wishes.look_again = true;
    }

    /// Records regions that writes wait for, and takes back the marks of those that are quiet.
    #[inline(never)]
    fn note_regions(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        for _ in 0..STRETCHES_MAX {
            let Some((first, count)) = array.wanted_regions() else {
                break;
            };
            let event = Event::RegionsDirty {
                volume,
                first,
                count,
            };
            let result = self.record(shared, &event);
            self.hold_writes(shared, volume, &result);
            Array::regions_recorded(array, first, count, result.is_ok());
            wishes.look_again = true;
            if result.is_err() {
                return;
            }
        }
        Array::sweep_regions(array, SWEEP_MS);
        self.record_leaving(shared, volume, array);
    }

    /// Records regions as clean. When that fails they stay marked in the metadata, which does no harm.
    /// What is left is done the next time.
    #[inline(never)]
    fn record_leaving(&mut self, shared: &Shared, volume: VolumeIndex, array: &Arc<Gated<Array>>) {
        let are_due = || array.has_leaving_regions() && !array.has_left_behind();
        // What was written there has to be on the media first. (A flush of a user's may hear what this one does not.)
        if are_due() && self.flush_members(volume).is_ok() && are_due() {
            self.record_flushed(shared, volume, array);
        }
    }

    /// Of that: what was written there is on the media.
    #[inline(never)]
    fn record_flushed(&mut self, shared: &Shared, volume: VolumeIndex, array: &Arc<Gated<Array>>) {
        for _ in 0..STRETCHES_MAX {
            let Some((first, count)) = array.leaving_regions() else {
                return;
            };
            let event = Event::RegionsClean {
                volume,
                first,
                count,
            };
            let _ = self.record(shared, &event);
        }
    }

    /// Below the mark of an initialisation writes may be in flight from now on: after a crash it counts
    /// for nothing, unless regions say where they were.
    #[inline(never)]
    fn take_back_mark(&mut self, shared: &Shared, volume: VolumeIndex) -> Checked {
        let is_marked = self
            .model()
            .and_then(|set| set.volume(volume))
            .is_some_and(|model| {
                let done = match model.consistency {
                    Consistency::Initialising { done_sectors } => done_sectors,
                    _ => 0,
                };
                done > 0 && model.regions.is_none()
            });
        if !is_marked {
            return Ok(());
        }
        let event = Event::ResyncProgress {
            volume,
            done_sectors: 0,
        };
        self.record(shared, &event)
    }

    /// The machine ends: once all that can be clean is, how far tasks got is recorded, and that is the last word.
    #[inline(never)]
    fn settle(&mut self, set: &ManagedSet) {
        let volumes = 0..self.entries_len();
        let will_any_be_clean = volumes.clone().any(|volume| {
            self.array(volume)
                .is_some_and(|array| self.will_be_clean(volume, &array, self.resync_mark(volume)))
        });
        if will_any_be_clean || set.settled.load(Ordering::Acquire) {
            return;
        }
        for volume in volumes {
            self.checkpoint(&set.shared, volume);
        }
        set.settled.store(true, Ordering::Release);
    }

    /// Whether a volume is recorded as dirty, and is going to be recorded as clean, or as quiet while it is initialised, when
    /// no write comes.
    fn will_be_clean(&self, volume: VolumeIndex, array: &Array, mark: Option<u64>) -> bool {
        let may_be = self.may_be_clean(volume, mark);
        may_be && array.is_redundant() && array.is_dirty() && !array.is_broken()
    }

    /// Whether what is recorded of a volume without writes in flight says so: its redundancy agrees, or up to a mark.
    fn may_be_clean(&self, volume: VolumeIndex, mark: Option<u64>) -> bool {
        // While it is initialised its mark counts when nothing is in flight; after a crash there is none.
        self.running(volume).is_some_and(|running| {
            let has_mark = self.is_initialising(volume) || mark.is_some();
            !running.read_only && (!running.needs_resync || has_mark)
        })
    }

    /// How far the resync after a crash got, where that can be recorded once nothing is in flight.
    fn resync_mark(&self, volume: VolumeIndex) -> Option<u64> {
        let is_kept = self.metadata.as_ref()?.keeps_sync_mark(volume);
        let is_wanted = is_kept && self.standing(volume)?.keeps_mark_when_quiet();
        let status = self.array(volume)?.task().filter(|_| is_wanted)?;
        let is_sync = matches!(status.kind, TaskKind::Initialise | TaskKind::Resync);
        (is_sync && status.done_sectors > 0).then_some(status.done_sectors)
    }

    #[inline(never)]
    fn note_clean(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        if !self.will_be_clean(volume, array, self.resync_mark(volume)) {
            return;
        }
        wishes.look_again = true;
        if !array.unrecorded().is_empty() || !Array::begin_clean(array, shared.quiet_ms()) {
            return;
        }
        let mark = self.resync_mark(volume);
        if !self.may_be_clean(volume, mark) || array.has_left_behind() {
            // A resync whose mark was to be recorded has just ended, or lost a member.
            return Array::dirty_recorded(array);
        }
        let flushed = self.flush_members(volume);
        // A flush of a user's may have heard what this one did not: one that has ended has told, another one is counted.
        if !array.writers().are_none() || array.has_left_behind() {
            return Array::dirty_recorded(array);
        }
        if flushed.is_ok() {
            self.record_flushed(shared, volume, array);
        }
        let result = flushed
            .and_then(|()| match mark {
                Some(done_sectors) => {
                    let event = Event::ResyncProgress {
                        volume,
                        done_sectors,
                    };
                    self.record(shared, &event)
                }
                None => Ok(()),
            })
            .and_then(|()| self.record(shared, &Event::Clean(volume)));
        if let Err(reason) = result {
            log!(
                pr_warn,
                "volume {} not recorded as clean: {}",
                volume,
                reason
            );
        }
        let is_dirty = self
            .model()
            .and_then(|model| model.volume(volume))
            .is_some_and(|model| model.consistency == Consistency::Dirty);
        if is_dirty {
            // Not even in memory: it is tried again.
            Array::dirty_recorded(array);
        } else {
            // Recorded or half recorded: the next write asks for the dirty mark again.
            array.clean_recorded();
        }
    }

    /// A disk is gone from the machine. True when the set had it.
    #[inline(never)]
    pub fn note_unplugged(&mut self, shared: &Shared, dev: Dev) -> bool {
        let Some(disk) = self.index_of(dev) else {
            return false;
        };
        // First the data path, then the metadata.
        self.fail_on_arrays(disk);
        self.record_gone(shared, disk, dev);
        true
    }

    /// Records that a disk is not here any more, where that gives up no volume. One that failed
    /// before counts as missing from now on: its errors were those of its going, and who plugs it in
    /// again means it.
    #[inline(never)]
    pub fn record_gone(&mut self, shared: &Shared, disk: DiskIndex, dev: Dev) {
        self.returned.remove(disk);
        let counts = self
            .model()
            .and_then(|set| set.disk(disk))
            .is_some_and(|disk| disk.state != DiskState::Missing);
        if !counts || self.told_gone.contains(disk) {
            return;
        }
        if !self.bears_loss(disk) {
            self.told_gone.insert(disk);
        } else if let Err(reason) = self.record(shared, &Event::DiskMissing(disk)) {
            log!(pr_warn, "disk {dev} is gone, not recorded: {reason}");
        }
        if let Some(set) = self.model() {
            log!(pr_warn, "disk {dev} of a set is gone");
            shared.post(EventKind::DiskLost, &set.id, |event| {
                event.dev = DevNumber::from_wire(dev.0);
            });
        }
    }
}
