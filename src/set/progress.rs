// SPDX-License-Identifier: GPL-2.0

//! How far tasks got and what came of them, into the metadata.
//!
//! Part of the recorder's work, with `ManagedSet::inner` held: it waits for no array, and allocates nothing. What a task
//! wrote is flushed before it counts. Marks are in sectors: of each member, of the member that is rebuilt, or of the
//! volume, as the task counts them.

use super::recorder::Wishes;
use super::shared::{now, ticks, Shared};
use super::state::Inner;
use crate::array::{Array, Scope, TaskResult};
use crate::block::gate::Gated;
use crate::model::{Checked, Event, MemberState, Scrub, VolumeIndex};
use crate::personalities::task::record::{Filled, Standing};
use crate::personalities::{Kind, Mask};
use crate::uapi::{EventKind, TaskKind};
use kernel::sync::Arc;

/// How long after a task came to grief the next one may start.
const RETRY_MS: u32 = 5_000;

impl Inner {
    /// Records what came of a task that has ended, and tells people.
    #[inline(never)]
    pub(super) fn note_finished(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        wishes.keeper |= array.wants_repair() && array.task().is_none();
        // A rebuild counts as done only with the holes that it left recorded; and what went without a member that was lost on
        // the way, only when that is.
        if array.bad_change().is_some() || (!array.is_broken() && !array.unrecorded().is_empty()) {
            wishes.look_again = true;
            return;
        }
        // Between the two its end tells of it, by the next look: nothing could be started before it is gone.
        if array.has_finished() && array.task().is_some() {
            wishes.look_again = true;
            return;
        }
        let Some(result) = array.take_finished() else {
            return;
        };
        wishes.keeper = true;
        if let Some(running) = self.running_mut(volume) {
            // Who holds a task holds that one, and not what comes after it.
            running.paused = running.paused.filter(|&kind| kind != result.kind);
            running.turn = None;
        }
        if result.scope == Scope::Repairs {
            return;
        }
        // A scrub that ends because the array does goes on when that starts again.
        let is_over = result.completed || self.running(volume).is_some_and(|run| !run.stopping);
        if result.kind.is_scrub() && is_over {
            if let Some(running) = self.running_mut(volume) {
                running.asked = None;
            }
            self.note_scrub(shared, volume, None);
        }
        let done = if result.completed {
            self.record_finished(shared, volume, array, &result)
        } else {
            self.record_progress(
                shared,
                volume,
                result.kind,
                result.pass.marked,
                result.done_sectors,
            );
            Ok(())
        };
        let Some(id) = self.model().map(|set| set.id) else {
            return;
        };
        // It may have made way for a rebuild, which waits for nothing.
        let needs_rebuild = matches!(self.task_needed(volume), Some((TaskKind::Rebuild, _)));
        let made_way = result.kind.is_scrub() || result.kind != TaskKind::Rebuild && needs_rebuild;
        let Some(running) = self.running_mut(volume) else {
            return;
        };
        let number = running.number.get();
        let is_withheld = !running.withheld.intersect(result.pass.targets).is_empty();
        let fine = result.completed && done.is_ok() && !is_withheld;
        if let Err(reason) = &done {
            log!(
                pr_warn,
                "emd{}: {} is done, not recorded: {}",
                number,
                result.kind.word(),
                reason
            );
        }
        if !fine {
            if !made_way {
                running.retry_at = now() + ticks(RETRY_MS);
            }
            wishes.look_again = true;
        }
        let kind = if fine {
            EventKind::TaskDone
        } else {
            EventKind::TaskStopped
        };
        let value = if fine {
            result.mismatch_sectors
        } else {
            running.told_per_mille
        };
        running.told_per_mille = 0;
        log!(
            pr_info,
            "emd{}: {} {}",
            number,
            result.kind.word(),
            if fine { "is done" } else { "stopped" }
        );
        shared.post(kind, &id, |event| {
            event.number = Some(number);
            event.value = value;
            event.is_part = fine && result.is_part();
            event.text = crate::model::Text::from_text(result.kind.word());
        });
    }

    /// Members whose rebuild has ended, which no disk took the record of, or not of all that ended with it: once that is
    /// written the array reads them.
    #[inline(never)]
    pub(super) fn note_rebuilt(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        let mut rebuilt = Mask::EMPTY;
        for slot in array.unread().iter() {
            if self.member_state(volume, slot) == Some(MemberState::InSync) {
                rebuilt = rebuilt.with(slot);
            }
        }
        if rebuilt.is_empty() || array.has_finished() {
            return;
        }
        if self.catch_up(shared).is_ok() {
            array.rebuilt_recorded(rebuilt);
            wishes.keeper = true;
        } else {
            wishes.look_again = true;
        }
    }

    #[inline(never)]
    fn record_finished(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        result: &TaskResult,
    ) -> Checked {
        match result.kind {
            TaskKind::Rebuild => {
                self.flush_rebuilt(volume, array, result.pass.marked)?;
                let mut rebuilt = Mask::EMPTY;
                for slot in result.pass.marked.intersect(array.writable()).iter() {
                    let state = self.member_state(volume, slot);
                    let is_unrecorded = array.unrecorded().contains(slot);
                    match Filled::of(state, is_unrecorded, array.unkept_from(slot)) {
                        Filled::Lost => {}
                        Filled::Withheld => self.withhold(shared, volume, array, slot),
                        Filled::Done => {
                            self.record(shared, &Event::RebuildDone { volume, slot })?;
                            rebuilt = rebuilt.with(slot);
                            self.tell_of_holes(shared, volume, array, slot);
                        }
                    }
                }
                array.rebuilt_recorded(rebuilt);
                // Members that were recorded as lost and could not be done without until now.
                for slot in array.present().iter() {
                    let state = self.member_state(volume, slot);
                    if matches!(state, Some(MemberState::Failed | MemberState::Missing)) {
                        array.fail_member(slot, false);
                    }
                }
                if let Some(running) = self.running_mut(volume) {
                    running.late = result.pass.late();
                }
                if self.running(volume).is_some_and(|run| !run.needs_resync) {
                    // What was filled was worked out from the rest.
                    array.sync_recorded();
                }
            }
            TaskKind::Initialise | TaskKind::Resync => {
                let needed = self.running(volume).is_some_and(|run| run.needs_resync);
                if needed && !array.is_broken() {
                    self.flush_members(volume)?;
                    self.record_agreement(shared, volume, array)?;
                    self.forget_untold(volume);
                    if let Some(running) = self.running_mut(volume) {
                        running.needs_resync = false;
                        running.resync_all = false;
                        running.resync_from_sectors = 0;
                    }
                }
            }
            TaskKind::Check | TaskKind::Repair => {}
        }
        Ok(())
    }

    /// Records that redundancy agrees everywhere. Which regions the metadata has then, the array hears of also when no disk took that:
    /// what is recorded next goes out along with it.
    pub(super) fn record_agreement(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Array,
    ) -> Checked {
        let done = self.record(shared, &Event::ResyncDone(volume));
        let model = self.model().and_then(|set| set.volume(volume));
        if let Some(log) = model.and_then(|model| model.regions.as_ref()) {
            array.follow_regions(log);
        }
        done
    }

    /// Flushes what a rebuild of `slots` made right.
    pub(super) fn flush_rebuilt(
        &mut self,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        slots: Mask,
    ) -> Checked {
        match array.geometry().kind() {
            // A copy is right by itself; the one that it was made from may be gone by now, and kept in use as a
            // mirror's last.
            Kind::Mirrored | Kind::Copies => self.flush_slots(volume, array, slots),
            _ => self.flush_members(volume),
        }
    }

    /// Tells people how far a task is, and has it recorded now and then, where the format keeps that (`checkpoints`).
    #[inline(never)]
    pub(super) fn note_progress(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        checkpoints: bool,
        wishes: &mut Wishes,
    ) {
        let Some(status) = array.task() else { return };
        wishes.look_again = true;
        let Some(id) = self.model().map(|set| set.id) else {
            return;
        };
        let Some(running) = self.running_mut(volume) else {
            return;
        };
        // Sectors are below 2^54.
        let per_mille = status.done_sectors.saturating_mul(1000) / status.total_sectors.max(1);
        if per_mille / 10 > running.told_per_mille / 10 {
            running.told_per_mille = per_mille;
            let number = running.number.get();
            shared.post(EventKind::TaskProgress, &id, |event| {
                event.number = Some(number);
                event.value = per_mille;
                event.text = crate::model::Text::from_text(status.kind.word());
            });
        }
        if checkpoints && now() >= running.checkpoint_at + ticks(shared.options.checkpoint_ms) {
            running.checkpoint_at = now();
            self.checkpoint(shared, volume);
        }
    }

    /// Records how far a check or repair got, or that there is none any more. Where it cannot be recorded it
    /// begins anew after a restart, or not at all: nobody loses anything.
    #[inline(never)]
    pub(super) fn note_scrub(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        scrub: Option<Scrub>,
    ) {
        let before = self
            .model()
            .and_then(|set| set.volume(volume))
            .and_then(|model| model.scrub);
        if before != scrub {
            let _ = self.record(shared, &Event::ScrubProgress(volume, scrub));
        }
    }

    /// Records how far a task got, where that outlives a restart.
    #[inline(never)]
    pub(super) fn checkpoint(&mut self, shared: &Shared, volume: VolumeIndex) {
        let Some(array) = self.array(volume) else {
            return;
        };
        let Some(status) = array.task() else { return };
        self.record_progress(
            shared,
            volume,
            status.kind,
            status.pass.marked,
            status.done_sectors,
        );
    }

    /// How a volume stands when something of its task is to be recorded.
    pub(super) fn standing(&self, volume: VolumeIndex) -> Option<Standing<'_>> {
        let running = self.running(volume)?;
        Some(Standing {
            volume: self.model()?.volume(volume)?,
            needs_sync: running.needs_resync,
            may_tear: running.array.is_dirty(),
        })
    }

    #[inline(never)]
    fn record_progress(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        kind: TaskKind,
        marked: Mask,
        done_sectors: u64,
    ) {
        if let Some(scrub) = kind.scrub_at(done_sectors) {
            let is_wanted = self.running(volume).is_some_and(|run| run.asked.is_some());
            // What a repair wrote is on the disks before it counts.
            if is_wanted && (!scrub.repairs || self.flush_members(volume).is_ok()) {
                self.note_scrub(shared, volume, Some(scrub));
            }
            return;
        }
        // Lanes that went without a member count only when its loss is recorded: else it is one like any other after a crash,
        // in sync up to a mark that passed what it lacks. On a broken array the last loss never is.
        let is_sound = self
            .array(volume)
            .is_some_and(|array| !array.has_left_behind());
        if done_sectors == 0 || !is_sound || self.flush_members(volume).is_err() {
            return;
        }
        let Some(running) = self.running_mut(volume) else {
            return;
        };
        if matches!(kind, TaskKind::Initialise | TaskKind::Resync) && running.needs_resync {
            running.resync_from_sectors = done_sectors;
        }
        let attached = running.attached;
        match kind {
            TaskKind::Rebuild => {
                let Some(array) = self.array(volume) else {
                    return;
                };
                let filled = attached.intersect(marked);
                let standing = self.standing(volume);
                let furthest = standing.map_or(0, |standing| standing.furthest(filled));
                if let Some(running) = self.running_mut(volume) {
                    running.trust.got_to(done_sectors, furthest);
                }
                for slot in filled.iter() {
                    self.record_rebuilt_to(shared, volume, &array, slot, done_sectors);
                }
            }
            // A resync that people asked for is recorded as an initialisation.
            TaskKind::Initialise | TaskKind::Resync
                if self
                    .standing(volume)
                    .is_some_and(|standing| standing.keeps_mark()) =>
            {
                let event = Event::ResyncProgress {
                    volume,
                    done_sectors,
                };
                let _ = self.record(shared, &event);
            }
            // Of a resync after a crash a mark is recorded when the array is quiet (`resync_mark`): while it is not, writes may be
            // in flight below it.
            _ => {}
        }
    }
}
