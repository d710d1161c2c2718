// SPDX-License-Identifier: GPL-2.0

//! What the recorder has to do next (`recorder.rs`).

use super::{Action, Activity, Step, UNWRITTEN_TRIES, VOLUME};
use crate::array::{Array, Dirty};
use crate::mistake::Mistake;
use crate::setup;
use crate::sim::Sim;
use emd_core::model::{Consistency, Event, MemberState, Scrub, Slot, TaskKind};
use emd_core::personalities::bad::BadChange;
use emd_core::personalities::task::record::{Filled, Standing};
use emd_core::personalities::task::TaskResult;
use emd_core::personalities::Mask;

/// Steps between two sweeps of the regions.
const SWEEP_STEPS: u64 = 24;

impl Sim {
    /// What `look` or `keep` would do next.
    pub(super) fn next_activity(&self) -> Option<Activity> {
        self.set.as_ref()?;
        let array = self.array.as_ref()?;
        if let Some(tries) = self.worker.unwritten {
            // The keeper is another thread, and gives up what is gone all the same.
            if let Some(release) = self.drop_dead() {
                return Some(release);
            }
            let is_idle = self.flying.is_empty();
            let due = tries < UNWRITTEN_TRIES && (is_idle || self.now % 32 == 0);
            return due.then(|| (vec![Step::WriteAgain], Action::Nothing));
        }
        if let Some(slot) = array.unrecorded.first() {
            return Some(self.record_failure(slot));
        }
        if array.dirty == Dirty::Wanted {
            let mut steps = Vec::new();
            if self.is_redundant() {
                // Below a mark that is recorded writes may be torn from now on.
                let mark = self.volume().map(|volume| volume.consistency);
                let marked = matches!(mark, Some(Consistency::Initialising { done_sectors: 1.. }));
                if marked && array.regions.is_none() && !self.has(Mistake::MarkKeptWhileDirty) {
                    let (volume, done_sectors) = (VOLUME, 0);
                    steps.push(Step::TryRecord(Event::ResyncProgress {
                        volume,
                        done_sectors,
                    }));
                }
                steps.push(Step::Record(Event::Dirty(VOLUME)));
            }
            steps.push(Step::Do(Action::DirtyRecorded));
            return Some((steps, Action::Nothing));
        }
        if self.has(Mistake::MarkPastBadRange) {
            if let Some(mark) = self.checkpoint() {
                return Some(mark);
            }
        }
        let noted = self.note_regions().or_else(|| self.note_bad());
        if noted.is_some() {
            return noted;
        }
        // Between the two its end tells of it: nothing could be started before it is gone.
        if let Some(end) = array.finished_task.filter(|_| array.task.is_none()) {
            return Some(self.record_end(&end.result));
        }
        if let Some(asked) = self.note_asked() {
            return Some(asked);
        }
        // The keeper is another thread: members that are lost go, even if a record has to be tried again.
        self.detach_lost()
            .or_else(|| self.note_withheld())
            .or_else(|| self.checkpoint())
            .or_else(|| self.clean())
            .or_else(|| self.keep())
    }

    pub(super) fn record_failure(&self, slot: Slot) -> Activity {
        let recorded = Step::Do(Action::FailuresRecorded(slot));
        let lost = matches!(
            self.member_state(slot),
            None | Some(MemberState::Failed | MemberState::Missing)
        );
        match self.disk_in(slot).filter(|_| !lost) {
            Some(disk) => (
                vec![Step::Record(self.loss_event(disk)), recorded],
                Action::Nothing,
            ),
            None => (vec![recorded], Action::Nothing),
        }
    }

    /// `record_finished`, or `record_progress` of a task that did not get to its end.
    pub(super) fn record_end(&self, end: &TaskResult) -> Activity {
        let mut steps = vec![Step::Do(Action::TakeFinished)];
        if !end.completed {
            steps.extend(self.progress(end.kind, end.pass.marked, end.done_sectors));
            return (steps, Action::Grief);
        }
        let flushed = !self.has(Mistake::RebuiltWithoutFlush);
        let array = self
            .array
            .as_ref()
            .map(|array| (array.needs_resync, array.broken, array.writable));
        let (needs_resync, broken, writable) = array.unwrap_or((false, true, Mask::EMPTY));
        match end.kind {
            TaskKind::Rebuild => {
                if flushed {
                    steps.push(self.flush_rebuilt(end.pass.marked));
                }
                let mut rebuilt = Mask::EMPTY;
                for slot in end.pass.marked.intersect(writable).iter() {
                    // What is not recorded yet went before this (`next_activity`).
                    match Filled::of(self.member_state(slot), false, self.unkept_from(slot)) {
                        Filled::Lost => {}
                        Filled::Withheld => {
                            let mask = Mask::single(slot);
                            steps.extend(self.progress(end.kind, mask, u64::MAX));
                            steps.push(Step::Do(Action::Withhold(slot)));
                        }
                        Filled::Done => {
                            steps.push(Step::Record(Event::RebuildDone {
                                volume: VOLUME,
                                slot,
                            }));
                            rebuilt = rebuilt.with(slot);
                        }
                    }
                }
                steps.push(Step::Do(Action::Rebuilt(rebuilt, end.pass.late())));
            }
            TaskKind::Initialise | TaskKind::Resync if needs_resync && !broken => {
                steps.push(Step::FlushMembers);
                steps.push(Step::Record(Event::ResyncDone(VOLUME)));
                steps.push(Step::Do(Action::Resynced));
            }
            _ => {}
        }
        (steps, Action::Grief)
    }

    /// `note_scrub` and `ask_resync`, which the kernel does while the person waits.
    fn note_asked(&self) -> Option<Activity> {
        let volume = VOLUME;
        if self.worker.resync_asked {
            let done_sectors = 0;
            let event = Event::ResyncProgress {
                volume,
                done_sectors,
            };
            let steps = vec![Step::Record(event), Step::Do(Action::ResyncAsked(true))];
            return Some((steps, Action::ResyncAsked(false)));
        }
        let scrub = self.scrub_to_note()?;
        let noted = Action::NoteScrub(scrub.map(|scrub| scrub.repairs));
        let steps = vec![
            Step::Do(noted),
            Step::TryRecord(Event::ScrubProgress(volume, scrub)),
        ];
        Some((steps, Action::Nothing))
    }

    /// `note_regions`.
    fn note_regions(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        let regions = array.regions.as_ref()?;
        let steps = if regions.are_wanted() {
            vec![Step::Do(Action::RecordRegions)]
        } else if self.now % SWEEP_STEPS == 5 && array.dirty == Dirty::Dirty && !array.broken {
            let former_are_none = self.writers(!array.is_odd_round) == 0;
            let left_behind = !array.unrecorded.is_empty();
            if !self.has(Mistake::RegionClearedInFlight) && (!former_are_none || left_behind) {
                return None;
            }
            vec![Step::Do(Action::Sweep)]
        } else {
            return None;
        };
        Some((steps, Action::Nothing))
    }

    /// `note_bad`.
    fn note_bad(&self) -> Option<Activity> {
        let change = self.array.as_ref()?.bad.change()?;
        let event = change.event(&self.volume()?.members);
        let mut steps = Vec::new();
        match (change, event) {
            (_, None) => {}
            (BadChange::Added(_), Some(_)) if self.has(Mistake::BadRangeNotRecorded) => {}
            (BadChange::Added(_), Some(event)) => steps.push(Step::Record(event)),
            (BadChange::Cleared(spot), Some(event)) => {
                if !self.has(Mistake::BadRangeClearedInCache) {
                    steps.push(Step::FlushMember(spot.slot));
                }
                steps.push(Step::Record(event));
            }
        }
        steps.push(Step::Do(Action::BadRecorded));
        Some((steps, Action::Nothing))
    }

    /// `flush_rebuilt`.
    fn flush_rebuilt(&self, slots: Mask) -> Step {
        match self.is_copied() {
            // A copy is right by itself.
            true => Step::FlushSlots(slots),
            false => Step::FlushMembers,
        }
    }

    /// See [`BadSpots::unkept_from`](emd_core::personalities::bad::BadSpots::unkept_from).
    fn unkept_from(&self, slot: Slot) -> Option<u64> {
        self.array.as_ref()?.bad.unkept_from(slot)
    }

    /// `note_withheld`.
    fn note_withheld(&self) -> Option<Activity> {
        let array = self.array.as_ref().filter(|array| !array.broken)?;
        for slot in array.withheld.iter() {
            let state = self.member_state(slot);
            let is_rebuilding = matches!(state, Some(MemberState::Rebuilding { .. }));
            let steps = if !is_rebuilding || !array.writable.contains(slot) {
                vec![Step::Do(Action::ForgetWithheld(slot))]
            } else if self.unkept_from(slot).is_none() && array.bad.change().is_none() {
                let volume = VOLUME;
                vec![
                    self.flush_rebuilt(Mask::single(slot)),
                    Step::Record(Event::RebuildDone { volume, slot }),
                    Step::Do(Action::RebuiltAtLast(slot)),
                ]
            } else {
                continue;
            };
            return Some((steps, Action::Grief));
        }
        None
    }

    /// `Inner::standing`.
    fn standing(&self) -> Option<Standing<'_>> {
        let array = self.array.as_ref()?;
        Some(Standing {
            volume: self.volume()?,
            needs_sync: array.needs_resync,
            may_tear: array.dirty != Dirty::Clean && !self.has(Mistake::MarkKeptWhileDirty),
        })
    }

    pub(super) fn progress(&self, kind: TaskKind, marked: Mask, done_sectors: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_sound = |array: &&Array| !array.broken && array.unrecorded.is_empty();
        let array = self.array.as_ref().filter(|_| done_sectors > 0);
        let Some(array) = array.filter(is_sound) else {
            return steps;
        };
        match kind {
            TaskKind::Rebuild => {
                let filled = array.attached.intersect(marked);
                let Some(standing) = self.standing() else {
                    return steps;
                };
                let furthest = standing.furthest(filled);
                let mut trust = array.trust.get();
                trust.got_to(done_sectors, furthest);
                array.trust.set(trust);
                for slot in filled.iter() {
                    // `record_rebuilt_to`.
                    let unkept = self
                        .unkept_from(slot)
                        .filter(|_| !self.has(Mistake::MarkPastBadRange));
                    let mark = standing.rebuilt_mark(slot, done_sectors, unkept);
                    steps.extend(mark.map(|done_sectors| {
                        Step::TryRecord(Event::RebuildProgress {
                            volume: VOLUME,
                            slot,
                            done_sectors,
                        })
                    }));
                }
            }
            TaskKind::Initialise | TaskKind::Resync
                if self
                    .standing()
                    .is_some_and(|standing| standing.keeps_mark()) =>
            {
                let event = Event::ResyncProgress {
                    volume: VOLUME,
                    done_sectors,
                };
                steps.push(Step::TryRecord(event));
            }
            TaskKind::Check | TaskKind::Repair => return self.scrub_progress(kind, done_sectors),
            _ => {}
        }
        if !steps.is_empty() && !self.has(Mistake::CheckpointWithoutFlush) {
            steps.insert(0, Step::FlushMembers);
        }
        steps
    }

    /// `record_progress` of a check or repair; of one that has ended nothing is recorded.
    fn scrub_progress(&self, kind: TaskKind, done_sectors: u64) -> Vec<Step> {
        let is_at_work = self
            .array
            .as_ref()
            .is_some_and(|array| array.task.is_some());
        let scrub = Some(Scrub {
            repairs: kind == TaskKind::Repair,
            done_sectors,
        });
        let before = self.volume().and_then(|volume| volume.scrub);
        if !self.history.config.tasks || !is_at_work || before.is_none() || before == scrub {
            return Vec::new();
        }
        let mut steps = vec![Step::TryRecord(Event::ScrubProgress(VOLUME, scrub))];
        if kind == TaskKind::Repair && !self.has(Mistake::CheckpointWithoutFlush) {
            steps.insert(0, Step::FlushMembers);
        }
        steps
    }

    pub(super) fn checkpoint(&self) -> Option<Activity> {
        let task = self.array.as_ref()?.task.as_ref()?;
        let kept = setup::format_of(&self.history.config)
            .capabilities()
            .checkpoints;
        if !kept || self.now % 16 != 1 {
            return None;
        }
        let held = task.is_held() && self.has(Mistake::HeldCounts);
        let (walk, window) = (task.engine.course().walk(), task.engine.window());
        let ahead = if self.has(Mistake::MarkAheadOfData) || held {
            window.flying()
        } else {
            0
        };
        let done = walk.mark(window.base() + ahead);
        let steps = self.progress(task.kind(), task.pass().marked, done);
        (!steps.is_empty()).then_some((steps, Action::Nothing))
    }

    pub(super) fn clean(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        let at_end = self.at >= self.history.ops.len();
        let is_quiet = self.users_are_idle() && (self.quiet || self.settling || at_end);
        let due = is_quiet || self.now % 64 == 0;
        if !due || !self.is_redundant() || array.dirty != Dirty::Dirty || array.broken {
            return None;
        }
        let mark = self.resync_mark();
        if array.needs_resync && !self.is_initialising() && mark.is_none() {
            return None;
        }
        let in_flight = self.writers(false) + self.writers(true);
        let is_idle = in_flight == 0 && array.unrecorded.is_empty();
        if !is_idle && !self.has(Mistake::CleanBeforeLastWrite) {
            return None;
        }
        let mut steps = vec![Step::Do(Action::Cleaning)];
        if !self.has(Mistake::CleanWithoutFlush) {
            steps.push(Step::FlushMembers);
        }
        if array.regions.is_some() {
            steps.push(Step::Do(Action::RecordLeaving));
        }
        if let Some(done_sectors) = mark {
            steps.push(Step::Record(Event::ResyncProgress {
                volume: VOLUME,
                done_sectors,
            }));
        }
        steps.push(Step::Record(Event::Clean(VOLUME)));
        steps.push(Step::Do(Action::CleanRecorded));
        Some((steps, Action::CleanRecorded))
    }

    fn is_initialising(&self) -> bool {
        let consistency = self.volume().map(|volume| volume.consistency);
        matches!(consistency, Some(Consistency::Initialising { .. }))
    }

    /// `resync_mark`.
    fn resync_mark(&self) -> Option<u64> {
        let array = self.array.as_ref()?;
        let is_kept = self.set.as_ref()?.keeps_sync_mark(VOLUME);
        let is_wanted = is_kept && self.standing()?.keeps_mark_when_quiet();
        let task = array.task.as_ref().filter(|_| is_wanted)?;
        let done = task.engine.done_sectors();
        (task.engine.course().establishes() && done > 0).then_some(done)
    }
}
