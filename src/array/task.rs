// SPDX-License-Identifier: GPL-2.0

//! Tasks: rebuild, resync, initialise, check, repair: one walk over all lanes of an array.
//!
//! What a task does is decided by [`Engine`] (`personalities/task/`). Here its steps are carried out: lanes are sent, marks
//! published, and its beginning and its end done in the order that the engine has for them. The task sleeps in no work item:
//! it fills its window, and lanes that come back wake it.

use super::lane_run::{self, Manner};
use super::pace;
use super::write::new_op;
use super::{Array, LANE_SECTORS};
use crate::block::context;
use crate::block::gate::{Drained, Gated};
use crate::block::queue;
use crate::model::{Checked, Reason, Slot, TaskKind};
use crate::personalities::choice::Choice;
use crate::personalities::ranges::SyncRange;
use crate::personalities::rebuild::Pass;
use crate::personalities::task::order::{beginning, Begin, Finish};
use crate::personalities::task::{
    Course, Engine, Found, Members, Moved, Scope, Step, TaskLane, TaskStatus, View, Windows,
};
use crate::personalities::Mask;
use crate::reason;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use kernel::workqueue::{impl_has_delayed_work, DelayedWork, WorkItem};

/// Users count as busy this long after their last I/O, and a busy task pauses that long after each
/// window.
const BUSY_MS: u32 = 20;
/// Longest that the start of a task keeps the gate closed: who starts it may hold what failures need.
const START_DRAIN_MS: u32 = 1_000;
/// How soon a task that could end looks again whether the last reads that repair are through.
const REPAIRS_MS: u32 = 1;

/// Where a task stands.
struct Progress {
    /// The array, until the end.
    array: Option<Arc<Gated<Array>>>,
    engine: Engine,
}

/// A task at work.
#[pin_data]
pub(super) struct Task {
    #[pin]
    work: DelayedWork<Task>,
    /// As the engine has it, for who has no lock.
    course: Course,
    #[pin]
    progress: SpinLockIrq<Progress>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Task { self.work }
}

impl Task {
    /// Starts a task on `array`.
    pub(super) fn start(
        array: &Arc<Gated<Array>>,
        kind: TaskKind,
        pass: &Pass,
        scope: Scope,
    ) -> Checked {
        let in_sync = array.readable();
        let course = Course::new(&array.geometry, LANE_SECTORS, kind, pass, scope, in_sync);
        let rates = array.limits.in_force();
        let engine = Engine::new(&course, Windows::USUAL, pace::now(), rates);
        let task = Arc::pin_init(
            pin_init!(Self {
                work <- kernel::new_delayed_work!("emd_task"),
                course,
                progress <- kernel::new_spinlock_irq!(Progress {
                    array: Some(array.clone()),
                    engine,
                }, "emd_task"),
            }),
            GFP_KERNEL,
        )?;
        let mut drained = None;
        for step in beginning(scope, array.is_copied()) {
            match step {
                Begin::Place => {
                    let mut running = array.task.lock();
                    if running.is_some() {
                        return Err(reason!(EBUSY, "{} is busy with another task", array.name));
                    }
                    *running = Some(task.clone());
                }
                Begin::Marks => {
                    let unsynced_from = array.unsynced_from.load(Ordering::Acquire);
                    if let Some(from) = course.begin_marks(&array.rebuilt, unsynced_from) {
                        array.unsynced_from.store(from, Ordering::Release);
                    }
                }
                Begin::Lanes => array.task_active.store(true, Ordering::Release),
                Begin::Drain => {
                    drained = Array::drain_for_task(array);
                    if drained.is_none() {
                        Array::release_gate(array);
                        return Err(task.give_up(array));
                    }
                }
                Begin::LanesOnly => array.lanes_only.store(true, Ordering::Release),
                Begin::OpenGate => {
                    drop(drained.take());
                    Array::release_gate(array);
                }
                Begin::Repairs => array.to_repair.lock().begin(),
                Begin::Work => task.progress.lock().engine.begin(),
            }
        }
        task.wake(0);
        Ok(())
    }

    /// It does not begin: a failure has to be recorded first, or a member does not answer; our caller may have to see to that.
    fn give_up(&self, array: &Array) -> Reason {
        self.progress.lock().array = None;
        array.task_active.store(false, Ordering::Release);
        let own = array.task.lock().take();
        drop(own);
        reason!(
            EAGAIN,
            "{} has failures to record first, or writes that take long",
            array.name
        )
    }

    fn wake(self: &Arc<Self>, delay_ms: u32) {
        let delay = if delay_ms == 0 {
            0
        } else {
            context::ticks(delay_ms)
        };
        // Queued already is as good.
        let _ = queue::system().enqueue_delayed(self.clone(), delay);
    }

    /// Asks it to end.
    pub(super) fn cancel(self: &Arc<Self>) {
        self.progress.lock().engine.cancel();
        self.wake(0);
    }

    /// Has it look whether it has to end.
    pub(super) fn nudge(self: &Arc<Self>) {
        self.wake(0);
    }

    /// Holds it, or lets it go on.
    pub(super) fn set_paused(self: &Arc<Self>, paused: bool) {
        let now = pace::now();
        self.progress.lock().engine.set_paused(paused, now);
        self.wake(0);
    }

    /// For people.
    pub(super) fn status(&self) -> TaskStatus {
        let (now, second) = (pace::now(), pace::second());
        self.progress.lock().engine.status(now, second)
    }

    /// A lane is back. Any context.
    pub(super) fn lane_done(self: Arc<Self>, lane: u64, failed: bool, found: Found) {
        let back = {
            let mut progress = self.progress.lock();
            let back = progress.engine.back(lane, !failed, found);
            if let Some(array) = &progress.array {
                if let Some((range, fixed)) = back.differing {
                    self.tell(array, range.stripe, (range.column, range.sectors), fixed);
                }
                array.publish(&back.moved);
            }
            back
        };
        if back.wakes {
            self.wake(0);
        }
    }

    /// Keeps a place (columns of a stripe) that did not agree, and tells people when it is news. Any context.
    pub(super) fn tell(
        &self,
        array: &Array,
        stripe: u64,
        columns: (u32, u32),
        fixed: Option<(Slot, Choice)>,
    ) {
        let range = array.sync_range(stripe, columns, fixed);
        let is_new = array.mismatches.lock().add(range);
        if is_new && self.course.tells_mismatches() {
            array.notify.mismatch(fixed, range.first);
        }
    }

    /// Members that a rebuild has filled in a column of a row already, though its mark is not there yet.
    fn filled_ahead(&self, stripe: u64, column: u32) -> Mask {
        self.course
            .filling_lane(stripe, column)
            .filter(|&lane| self.progress.lock().engine.is_done(lane))
            .map_or(Mask::EMPTY, |lane| self.course.filled_in(lane))
    }

    /// Sends lanes until there is none to send just now.
    fn fill(self: &Arc<Self>, array: &Arc<Gated<Array>>) {
        loop {
            let view = Array::view(array);
            let step = {
                let mut progress = self.progress.lock();
                let to_repair = |mark| array.to_repair.lock().next(mark);
                let step = progress.engine.next(&view, to_repair);
                if let Step::Skip { moved, .. } | Step::Nothing(moved) = &step {
                    array.publish(moved);
                }
                step
            };
            match step {
                Step::Skip { .. } | Step::Nothing(_) => {}
                Step::Send(lane) => {
                    if !self.send(array, &lane, view.is_busy) {
                        self.progress.lock().engine.unsend(&lane);
                        return self.wake(BUSY_MS);
                    }
                }
                Step::Later => return self.wake(BUSY_MS),
                Step::WhenBack => return,
                Step::End if array.end_repairs() => return self.end(),
                Step::End => return self.wake(REPAIRS_MS),
            }
        }
    }

    /// Sends one lane; false when the array does not let it in just now.
    fn send(self: &Arc<Self>, array: &Gated<Array>, lane: &TaskLane, is_busy: bool) -> bool {
        let Some(pass) = array.enter() else {
            return false;
        };
        let range = &lane.range;
        let Some(mut op) = new_op(&pass, range.stripe, range.column, range.sectors, lane.job)
        else {
            return false;
        };
        let body = op.as_mut().body_mut();
        body.task = Some(self.clone());
        body.task_lane = lane.number;
        body.overwriting = lane.is_overwriting;
        // While users are quiet, other CPUs get lanes too, where sending one takes long.
        let manner = match !is_busy && pass.table().members_copy() {
            true => Manner::Elsewhere,
            false => Manner::Here,
        };
        lane_run::submit(op, manner);
        true
    }

    /// Ends: tells the array, which tells its set.
    fn end(&self) {
        let (array, result) = {
            let mut progress = self.progress.lock();
            (progress.array.take(), progress.engine.result())
        };
        let Some(array) = array else { return };
        let mut own = None;
        for step in self.course.ending(&result) {
            match step {
                Finish::Agree => array.sync_recorded(),
                Finish::Result => *array.finished_task.lock() = Some(result),
                // What came up meanwhile was written again at once, but for what did since `end_repairs`.
                Finish::Repairs => array.to_repair.lock().end(),
                Finish::Lanes => array.task_active.store(false, Ordering::Release),
                Finish::Place => own = array.task.lock().take(),
            }
        }
        array.notify.kick();
        drop(own);
    }
}

impl WorkItem for Task {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let array = this.progress.lock().array.clone();
        if let Some(array) = array {
            this.fill(&array);
        }
    }
}

impl Array {
    /// What its task has to know of it.
    fn view(this: &Gated<Self>) -> View<'_> {
        View {
            members: this.task_members(),
            is_busy: Self::is_busy(this, BUSY_MS),
            rates: this.limits.in_force(),
            now: pace::now(),
            second: pace::second(),
            regions: this.regions.as_ref(),
        }
    }

    /// Closes the gate until nobody is inside; not for long.
    fn drain_for_task(this: &Gated<Self>) -> Option<Drained<'_, Self>> {
        let deadline = context::jiffies() as u64 + context::ticks(START_DRAIN_MS) as u64;
        let is_late = || context::jiffies() as u64 > deadline;
        this.try_drain(|| this.must_record() || is_late())
    }

    fn task_members(&self) -> Members {
        Members {
            readable: self.readable(),
            writable: self.writable(),
            is_broken: self.is_broken(),
        }
    }

    /// Publishes where its task moved marks to; with its progress locked.
    fn publish(&self, moved: &Moved) {
        let unsynced_from = self.unsynced_from.load(Ordering::Acquire);
        if let Some(from) = moved.publish(&self.rebuilt, unsynced_from) {
            self.unsynced_from.store(from, Ordering::Release);
        }
    }

    /// Where columns of a stripe (the first, and how many) are in the space of a sync's marks.
    fn sync_range(
        &self,
        stripe: u64,
        (column, sectors): (u32, u32),
        fixed: Option<(Slot, Choice)>,
    ) -> SyncRange {
        let slot = self.geometry.roles(stripe).all().first().unwrap_or(0);
        SyncRange {
            first: self.sync_row_sector(stripe, slot) + u64::from(column),
            sectors: u64::from(sectors),
            fixed,
        }
    }

    /// Where a row, that `slot` has a part of, is in the space of a sync's marks: a sector of the member, or of the
    /// volume.
    pub(super) fn sync_row_sector(&self, stripe: u64, slot: Slot) -> u64 {
        if self.geometry.shape().syncs_by_volume() {
            self.geometry.stripe_start(stripe)
        } else {
            self.row_sector(stripe, slot)
        }
    }

    /// Members that the rebuild has filled in a column of a row already, though its mark is not there yet:
    /// it does not come by again. For who has the lane: so nothing changes there.
    pub(super) fn filled_ahead(&self, stripe: u64, column: u32) -> Mask {
        let task = self.task.lock().clone();
        task.map_or(Mask::EMPTY, |task| task.filled_ahead(stripe, column))
    }

    /// Whether a sync may still write what it read from a member that was lost meanwhile: who reads what it
    /// has not put right waits for the lane, so as not to see what will not stay.
    pub(super) fn sync_outlives_source(&self) -> bool {
        if !self.lanes_only() {
            return false;
        }
        let task = self.task.lock().clone();
        task.is_some_and(|task| task.course.outlives_source(self.task_members()))
    }
}
