// SPDX-License-Identifier: GPL-2.0

//! Tasks: rebuild, resync, initialise, check, repair: one walk over all lanes of an array.
//!
//! A task keeps up to [`WINDOW_FULL`] lanes in flight (`personalities/window.rs`). Lanes may come back in
//! any order; the mark (what is done from the start on) follows the first that is not back good. The task
//! sleeps in no work item: it fills its window, and lanes that come back wake it.

use super::lane_run::{self, Manner};
use super::pace;
use super::write::new_op;
use super::{Array, LANE_SECTORS};
use crate::block::context;
use crate::block::gate::Gated;
use crate::block::queue;
use crate::model::Checked;
use crate::model::Slot;
use crate::personalities::choice::Choice;
use crate::personalities::headway::Headway;
use crate::personalities::lane::Job;
use crate::personalities::likeness::Likeness;
use crate::personalities::pace::{Pace, Speed};
use crate::personalities::ranges::SyncRange;
use crate::personalities::rebuild::Pass;
use crate::personalities::walk::{Walk, WalkLane};
use crate::personalities::window::Window;
use crate::personalities::Mask;
use crate::reason;
use crate::uapi::info::TaskKind;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use kernel::workqueue::{impl_has_delayed_work, DelayedWork, WorkItem};

/// Most lanes in flight.
const WINDOW_FULL: u64 = 32;

/// Lanes in flight while users do I/O.
const WINDOW_BUSY: u64 = 2;

/// Users count as busy this long after their last I/O, and a busy task pauses that long after each
/// window.
const BUSY_MS: u32 = 20;
/// Longest that the start of a task keeps the gate closed: who starts it may hold what failures need.
const START_DRAIN_MS: u32 = 1_000;
/// How soon a task that could end looks again whether the last reads that repair are through.
const REPAIRS_MS: u32 = 1;

/// How far a task is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskStatus {
    /// What it does.
    pub kind: TaskKind,
    /// The members it fills, and from where to where it goes.
    pub pass: Pass,
    /// Sectors done, of `total_sectors`.
    pub done_sectors: u64,
    /// Sectors of each member in all (of the volume, where a sync counts so).
    pub total_sectors: u64,
    /// KiB/s of each member, since it started, was let go, or got other limits.
    pub rate_kib: u32,
    /// Seconds left, when that can be said.
    pub eta_seconds: Option<u32>,
    /// Sectors (of members) in lanes that did not agree.
    pub mismatch_sectors: u64,
    /// Somebody stopped it for now.
    pub paused: bool,
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskResult {
    /// What it did.
    pub kind: TaskKind,
    /// The members it filled, and from where to where it went.
    pub pass: Pass,
    /// It got to the end, and everything on the way worked.
    pub completed: bool,
    /// Sectors done, in the space of its marks.
    pub done_sectors: u64,
    /// Sectors (of members) in lanes that did not agree.
    pub mismatch_sectors: u64,
    /// What it went over.
    pub scope: Scope,
}

impl TaskResult {
    /// Whether it is of a check or repair that went on from a mark: what it had found before is not known any more.
    pub fn is_part(&self) -> bool {
        self.kind.is_scrub() && self.pass.from_sectors > 0
    }
}

/// What a task goes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everything.
    All,
    /// Only regions that may have had writes in flight, where the metadata keeps them.
    DirtyRegions,
    /// Only where copies could not be read; people need not hear of it.
    Repairs,
}

/// What a lane's redundancy was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// It agreed.
    Alike,
    /// It did not; the first member that was written for that, and why.
    Different(Option<(Slot, Choice)>),
    /// It did not, as [`Task::tell`] was told of each block.
    DifferentAsTold,
    /// Nobody looked.
    Unseen,
}

/// Where a task stands.
struct Progress {
    /// The array, until the end.
    array: Option<Arc<Gated<Array>>>,
    window: Window,
    pace: Pace,
    headway: Headway,
    likeness: Likeness,
}

/// A task at work.
#[pin_data]
pub(super) struct Task {
    #[pin]
    work: DelayedWork<Task>,
    kind: TaskKind,
    pass: Pass,
    /// Members in sync when it started.
    in_sync: Mask,
    walk: Walk,
    scope: Scope,
    /// Where its way ends.
    lanes: u64,
    #[pin]
    progress: SpinLockIrq<Progress>,
    cancelled: AtomicBool,
    paused: AtomicBool,
    mismatch_sectors: AtomicU64,
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
        let mut pass = *pass;
        let walk = Walk::new(&array.geometry, pass.targets, LANE_SECTORS);
        // Never beyond the mark.
        let first = walk.first(pass.from_sectors);
        let lanes = walk.end(pass.until_sectors);
        pass.from_sectors = walk.mark(first);
        let window = Window::new(first, lanes);
        let headway = Headway::new(pace::now(), pass.from_sectors, array.limits.in_force());
        let task = Arc::pin_init(
            pin_init!(Self {
                work <- kernel::new_delayed_work!("emd_task"),
                kind,
                pass,
                in_sync: array.readable(),
                walk,
                lanes,
                scope,
                progress <- kernel::new_spinlock_irq!(Progress {
                    array: Some(array.clone()),
                    window,
                    pace: Pace::new(pace::now()),
                    headway,
                    likeness: Likeness::new(),
                }, "emd_task"),
                cancelled: AtomicBool::new(false),
                paused: AtomicBool::new(false),
                mismatch_sectors: AtomicU64::new(0),
            }),
            GFP_KERNEL,
        )?;
        {
            let mut running = array.task.lock();
            if running.is_some() {
                return Err(reason!(EBUSY, "{} is busy with another task", array.name));
            }
            *running = Some(task.clone());
        }
        array.rebuilt.begin(&pass, pass.from_sectors);
        array.task_active.store(true, Ordering::Release);
        if array.is_copied() {
            // Writes that went around the lane locks have to be through before the first lane is
            // touched; the gate tells.
            let deadline = context::jiffies() as u64 + context::ticks(START_DRAIN_MS) as u64;
            let is_late = || context::jiffies() as u64 > deadline;
            let is_idle = array
                .try_drain(|| array.must_record() || is_late())
                .is_some();
            array.lanes_only.store(is_idle, Ordering::Release);
            Array::release_gate(array);
            if !is_idle {
                // A failure has to be recorded first, or a member does not answer; our caller may have to see to that.
                let own = array.task.lock().take();
                task.progress.lock().array = None;
                array.task_active.store(false, Ordering::Release);
                drop(own);
                return Err(reason!(
                    EAGAIN,
                    "{} has failures to record first, or writes that take long",
                    array.name
                ));
            }
        }
        if scope == Scope::Repairs {
            array.to_repair.lock().begin();
        }
        task.wake(0);
        Ok(())
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
        self.cancelled.store(true, Ordering::Release);
        self.wake(0);
    }

    /// Has it look whether it has to end.
    pub(super) fn nudge(self: &Arc<Self>) {
        self.wake(0);
    }

    /// Holds it, or lets it go on.
    pub(super) fn set_paused(self: &Arc<Self>, paused: bool) {
        {
            let mut progress = self.progress.lock();
            let was_paused = self.paused.swap(paused, Ordering::AcqRel);
            if was_paused && !paused {
                let mark = self.walk.mark(progress.window.base());
                progress.headway.begin(pace::now(), mark);
            }
        }
        self.wake(0);
    }

    /// For people.
    pub(super) fn status(&self) -> TaskStatus {
        let (base, headway) = {
            let progress = self.progress.lock();
            (progress.window.base(), progress.headway)
        };
        let done_sectors = self.walk.mark(base);
        let total_sectors = self.walk.mark(self.lanes);
        let paused = self.paused.load(Ordering::Relaxed);
        // While it is held it has no rate, and nobody knows how long that will be.
        let estimate = (!paused).then(|| {
            let (now, second) = (pace::now(), pace::second());
            headway.estimate(now, second, &self.walk, done_sectors, total_sectors)
        });
        TaskStatus {
            kind: self.kind,
            pass: self.pass,
            done_sectors,
            total_sectors,
            rate_kib: estimate.map_or(0, |estimate| estimate.rate_kib),
            eta_seconds: estimate.and_then(|estimate| estimate.eta_seconds),
            mismatch_sectors: self.mismatch_sectors.load(Ordering::Relaxed),
            paused,
        }
    }

    /// A lane is back. Any context.
    pub(super) fn lane_done(self: Arc<Self>, lane: u64, failed: bool, found: Found) {
        let differed = matches!(found, Found::Different(_) | Found::DifferentAsTold);
        let range = self.walk.lane(lane).filter(|_| differed);
        if let Some(range) = range {
            self.mismatch_sectors
                .fetch_add(u64::from(range.sectors), Ordering::Relaxed);
        }
        let in_flight = {
            let mut progress = self.progress.lock();
            if found != Found::Unseen {
                progress.likeness.note(differed);
            }
            if let (Some(array), Some(range), Found::Different(fixed)) =
                (&progress.array, range, found)
            {
                self.tell(array, range.stripe, (range.column, range.sectors), fixed);
            }
            if progress.window.back(lane, !failed) {
                if let Some(array) = &progress.array {
                    self.publish(array, progress.window.base());
                }
            }
            progress.window.flying()
        };
        if in_flight <= WINDOW_FULL / 2 {
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
        if is_new && self.tells_mismatches() {
            array.notify.mismatch(fixed, range.first);
        }
    }

    /// Moves the array's marks along: all lanes below `base` are back good.
    fn publish(&self, array: &Array, base: u64) {
        let done = self.walk.mark(base);
        match self.kind {
            TaskKind::Rebuild => array.rebuilt.advance(&self.pass, done),
            TaskKind::Initialise | TaskKind::Resync => {
                if array.unsynced_from.load(Ordering::Acquire) != u64::MAX {
                    array.unsynced_from.store(done, Ordering::Release);
                }
            }
            TaskKind::Check | TaskKind::Repair => {}
        }
    }

    /// Members that a rebuild has filled in a column of a row already, though its mark is not there yet.
    fn filled_ahead(&self, stripe: u64, column: u32) -> Mask {
        let lane = match self.kind {
            TaskKind::Rebuild => self.walk.lane_at(stripe, column),
            _ => None,
        };
        lane.filter(|&lane| self.progress.lock().window.is_done(lane))
            .and_then(|lane| self.walk.lane(lane))
            .map_or(Mask::EMPTY, |lane| lane.targets)
    }

    /// Whether this is a sync that goes on only until its lanes are back, as members were lost: it may still
    /// write what it read from those.
    fn outlives_source(&self, array: &Array) -> bool {
        self.kind != TaskKind::Rebuild && self.members_lost(array)
    }

    fn job(&self, targets: Mask) -> Job {
        match self.kind {
            TaskKind::Rebuild => Job::Rebuild { targets },
            TaskKind::Check => Job::Sync { fix: false },
            TaskKind::Initialise | TaskKind::Resync | TaskKind::Repair => Job::Sync { fix: true },
        }
    }

    /// The first lane from `lane` on that there is something to do for.
    fn next_needed(&self, array: &Array, lane: u64) -> u64 {
        let mark = self.walk.mark(lane);
        let next = match (self.scope, &array.regions) {
            (Scope::DirtyRegions, Some(regions)) => regions.next_dirty(mark),
            (Scope::Repairs, _) => array.to_repair.lock().next(mark),
            _ => return lane,
        };
        match next {
            Some(mark) => self.walk.first(mark).max(lane),
            None => self.lanes,
        }
    }

    /// Sends lanes until the window is full; says when to come again.
    fn fill(self: &Arc<Self>, array: &Arc<Gated<Array>>) -> Next {
        loop {
            let ending = self.cancelled.load(Ordering::Acquire) || self.members_lost(array);
            let is_busy = Array::is_busy(array, BUSY_MS);
            let lane = {
                let mut progress = self.progress.lock();
                let in_flight = progress.window.flying();
                if ending || progress.window.has_failed() || progress.window.is_all_sent() {
                    return if in_flight == 0 {
                        Next::End
                    } else {
                        Next::WhenBack
                    };
                }
                if self.paused.load(Ordering::Acquire) {
                    return Next::WhenBack;
                }
                let next = progress.window.next();
                let jump = self.next_needed(array, next);
                if jump > next {
                    let before = self.walk.mark(progress.window.base());
                    if !progress.window.skip_to(jump) {
                        return Next::WhenBack;
                    }
                    let base = progress.window.base();
                    let skipped = self.walk.mark(base).saturating_sub(before);
                    progress.headway.skip(skipped);
                    self.publish(array, base);
                    continue;
                }
                let (rates, now) = (array.limits.in_force(), pace::now());
                let base = progress.window.base();
                let mark = || self.walk.mark(base);
                progress.headway.under(rates, now, mark);
                let speed = progress.pace.speed(now, pace::second(), rates, is_busy);
                let most = match speed {
                    Speed::Full => WINDOW_FULL,
                    Speed::Gentle => WINDOW_BUSY,
                    Speed::Rest => return Next::Later,
                };
                match progress.window.send(most) {
                    Some(lane) => lane,
                    None if speed == Speed::Gentle => return Next::Later,
                    None => return Next::WhenBack,
                }
            };
            let Some(range) = self.walk.lane(lane) else {
                // Nothing to do there.
                self.clone().lane_done(lane, false, Found::Unseen);
                continue;
            };
            if !self.send(array, lane, &range, is_busy) {
                self.progress.lock().window.unsend(lane);
                return Next::Later;
            }
        }
    }

    /// Sends one lane; false when the array does not let it in just now.
    fn send(
        self: &Arc<Self>,
        array: &Gated<Array>,
        lane: u64,
        range: &WalkLane,
        is_busy: bool,
    ) -> bool {
        let Some(pass) = array.enter() else {
            return false;
        };
        let job = self.job(range.targets);
        let Some(mut op) = new_op(&pass, range.stripe, range.column, range.sectors, job) else {
            return false;
        };
        let body = op.as_mut().body_mut();
        body.task = Some(self.clone());
        body.task_lane = lane;
        {
            let mut progress = self.progress.lock();
            progress.pace.count(range.sectors, self.walk.share());
            body.overwriting = matches!(self.kind, TaskKind::Initialise | TaskKind::Resync)
                && progress.likeness.is_hopeless(lane);
        }
        // While users are quiet, other CPUs get lanes too, where sending one takes long.
        let manner = match !is_busy && pass.table().members_copy() {
            true => Manner::Elsewhere,
            false => Manner::Here,
        };
        lane_run::submit(op, manner);
        true
    }

    /// Whether people hear of each place: after a crash, and at first, differences are no news.
    fn tells_mismatches(&self) -> bool {
        self.kind.is_scrub()
    }

    /// Whether a member that is being filled, or compared, is gone.
    fn members_lost(&self, array: &Array) -> bool {
        match self.kind {
            TaskKind::Rebuild => {
                !self.pass.targets.is_within(array.writable())
                    || array.broken.load(Ordering::Acquire)
            }
            _ => array.readable() != self.in_sync,
        }
    }

    /// Ends: tells the array, which tells its set.
    fn end(&self) {
        let (array, window) = {
            let mut progress = self.progress.lock();
            (progress.array.take(), progress.window)
        };
        let Some(array) = array else { return };
        let completed = window.is_complete();
        if completed && matches!(self.kind, TaskKind::Initialise | TaskKind::Resync) {
            array.unsynced_from.store(u64::MAX, Ordering::Release);
            array.followers.store(0, Ordering::Release);
        }
        // The result first: whoever finds no task finds this, and starts none before it is recorded.
        *array.finished_task.lock() = Some(TaskResult {
            kind: self.kind,
            pass: self.pass,
            completed,
            done_sectors: self.walk.mark(window.base()),
            mismatch_sectors: self.mismatch_sectors.load(Ordering::Relaxed),
            scope: self.scope,
        });
        if completed && self.scope == Scope::Repairs {
            // What came up meanwhile was written again at once, but for what did since `end_repairs`.
            array.to_repair.lock().end();
        }
        array.task_active.store(false, Ordering::Release);
        let own = array.task.lock().take();
        array.notify.kick();
        drop(own);
    }
}

/// When a task comes again.
enum Next {
    /// When a lane is back.
    WhenBack,
    /// After a while.
    Later,
    /// Never.
    End,
}

impl WorkItem for Task {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let Some(array) = this.progress.lock().array.clone() else {
            return;
        };
        match this.fill(&array) {
            Next::WhenBack => {}
            Next::Later => this.wake(BUSY_MS),
            Next::End if array.end_repairs() => this.end(),
            Next::End => this.wake(REPAIRS_MS),
        }
    }
}

impl Array {
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
        task.is_some_and(|task| task.outlives_source(self))
    }
}
