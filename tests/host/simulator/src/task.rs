// SPDX-License-Identifier: GPL-2.0

//! Tasks: what `src/array/task.rs` does.

use crate::array::Array;
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::personalities::lane::Job;
use emd_core::personalities::rebuild::Pass;
use emd_core::personalities::walk::Walk;
use emd_core::personalities::window::Window;
use emd_core::personalities::Mask;
use emd_core::uapi::TaskKind;

/// A task at work.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it does.
    pub kind: TaskKind,
    /// The members it fills, and from where to where it goes.
    pub pass: Pass,
    /// Members in sync when it started.
    pub in_sync: Mask,
    /// Its way.
    pub walk: Walk,
    /// How far it is.
    pub window: Window,
    /// It is asked to end.
    pub cancelled: bool,
    /// It is, by a person, or so that another member may join or be rebuilt.
    pub let_go: bool,
    /// A person holds it.
    pub is_held: bool,
    /// It goes over regions only that may have had writes in flight, where the metadata keeps them.
    pub dirty_only: bool,
}

/// How a task ended.
#[derive(Clone, Copy, Debug)]
pub struct TaskEnd {
    /// What it did.
    pub kind: TaskKind,
    /// The members it filled, and from where to where it went.
    pub pass: Pass,
    /// It got to the end, and all went well.
    pub completed: bool,
    /// It ended because it was asked to.
    pub let_go: bool,
    /// Its mark.
    pub done_sectors: u64,
}

impl Sim {
    /// Whether the task could send a lane.
    pub fn task_can_send(&self) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        let Some(task) = &array.task else {
            return false;
        };
        let ending = task.cancelled || task.window.has_failed() || self.members_lost();
        if ending || task.window.is_all_sent() {
            return task.window.flying() == 0 && (array.lanes_only || !self.has_repairs());
        }
        if task.is_held {
            return false;
        }
        let mut window = task.window;
        match self.clean_until(task) {
            Some(lane) => window.skip_to(lane),
            None => !array.gate_closed && window.send(array.task_window()).is_some(),
        }
    }

    /// The lane that a task goes on with, where there is nothing to do before (`Task::next_needed`).
    fn clean_until(&self, task: &Task) -> Option<u64> {
        let array = self.array.as_ref()?;
        let regions = array.regions.as_ref().filter(|_| task.dirty_only)?;
        let next = task.window.next();
        let lane = match regions.next_dirty(task.walk.mark(next)) {
            Some(mark) => task.walk.first(mark),
            None => task.walk.lanes(),
        };
        (lane > next).then_some(lane)
    }

    /// `Array::repairing`: whether reads of copies in lanes may still write what they read.
    fn has_repairs(&self) -> bool {
        let is_repair =
            |op: &crate::lanes::LaneOp| matches!(op.job, Job::Read { .. }) && !op.shared;
        self.is_copied()
            && self.ops.iter().flatten().any(is_repair)
            && !self.has(Mistake::RepairOutlivesTask)
    }

    fn members_lost(&self) -> bool {
        let Some(array) = &self.array else {
            return true;
        };
        let Some(task) = &array.task else { return true };
        match task.kind {
            TaskKind::Rebuild => !task.pass.targets.is_within(array.writable) || array.broken,
            _ => array.readable != task.in_sync,
        }
    }

    /// `Array::sync_outlives_source`.
    pub fn sync_outlives_source(&self) -> bool {
        let task = self.array.as_ref().and_then(|array| array.task.as_ref());
        task.is_some_and(|task| task.kind != TaskKind::Rebuild) && self.members_lost()
    }

    /// `Array::filled_ahead`.
    pub(super) fn filled_ahead(&self, op: &crate::lanes::LaneOp) -> Mask {
        let task = self.array.as_ref().and_then(|array| array.task.as_ref());
        let Some(task) = task.filter(|task| task.kind == TaskKind::Rebuild) else {
            return Mask::EMPTY;
        };
        let lane = task.walk.lane_at(op.stripe, op.run_column);
        lane.filter(|&lane| task.window.is_done(lane))
            .and_then(|lane| task.walk.lane(lane))
            .map_or(Mask::EMPTY, |lane| lane.targets)
    }

    /// Sends the next lane, or ends the task.
    pub fn task_send(&mut self) {
        let lost = self.members_lost();
        let Some(array) = self.array.as_mut() else {
            return;
        };
        let Some(task) = array.task.as_mut() else {
            return;
        };
        let ending = task.cancelled || task.window.has_failed() || lost;
        if (ending || task.window.is_all_sent()) && task.window.flying() == 0 {
            array.lanes_only = false;
            if self.has_repairs() {
                return;
            }
            return self.task_end();
        }
        let skipped = self.array.as_ref().and_then(|array| {
            let task = array.task.as_ref()?;
            self.clean_until(task)
        });
        let window = self.arr().task_window();
        let Some(task) = self.arr().task.as_mut() else {
            return;
        };
        if let Some(lane) = skipped {
            let left_out = lane - task.window.next();
            let _ = task.window.skip_to(lane);
            self.report.skipped += left_out;
            return self.publish();
        }
        let Some(lane) = task.window.send(window) else {
            return;
        };
        let Some(range) = task.walk.lane(lane) else {
            // Nothing to do there.
            return self.task_lane_done(lane, false);
        };
        let job = task_job(task, range.targets);
        self.publish();
        self.arr().inside += 1;
        let op = self.new_op(range.stripe, range.column, range.sectors, job);
        self.op(op).task = Some(lane);
        self.submit_op(op);
    }

    fn task_end(&mut self) {
        let counts = self.has(Mistake::CancelCounts);
        let array = self.arr();
        let Some(task) = array.task.take() else {
            return;
        };
        let completed = task.window.is_complete() || task.let_go && counts;
        if completed && matches!(task.kind, TaskKind::Initialise | TaskKind::Resync) {
            array.unsynced_from = u64::MAX;
            array.followers = Mask::EMPTY;
        }
        array.finished_task = Some(TaskEnd {
            kind: task.kind,
            pass: task.pass,
            completed,
            let_go: task.let_go,
            done_sectors: task.done_sectors(),
        });
        array.task_active = false;
        self.report.tasks += u64::from(completed);
        self.tell(|_| format!("   {:?} ends, completed: {completed}", task.kind));
    }

    /// A lane of the task is back.
    pub fn task_lane_done(&mut self, lane: u64, failed: bool) {
        let passes = self.has(Mistake::MarkPastFailedLane);
        let Some(task) = self.arr().task.as_mut() else {
            return;
        };
        task.window.back(lane, !failed || passes);
        task.cancelled |= failed && passes;
        self.publish();
    }

    /// Moves the array's marks along.
    fn publish(&mut self) {
        let ahead = self.has(Mistake::MarkAheadOfData);
        let late = self.has(Mistake::LateTrusted);
        let one_span = self.geometry.shape().spans > 1 && self.has(Mistake::MarkOfOneSpan);
        let chunk = u64::from(self.geometry.chunk_sectors());
        let array = self.arr();
        let Some(task) = array.task.as_ref() else {
            return;
        };
        let done = if ahead {
            task.walk.mark(task.window.base() + task.window.flying())
        } else if one_span {
            (task.done_sectors() + chunk).min(task.walk.length())
        } else {
            task.done_sectors()
        };
        match task.kind {
            TaskKind::Rebuild => {
                let mut pass = task.pass;
                if late {
                    pass.marked = pass.targets;
                }
                array.rebuilt.advance(&pass, done);
            }
            TaskKind::Initialise | TaskKind::Resync if array.unsynced_from != u64::MAX => {
                array.unsynced_from = done;
            }
            _ => {}
        }
    }
}

/// Lanes that a task has in flight.
const TASK_WINDOW: u64 = 3;

impl Array {
    /// Lanes that its task may have in flight.
    fn task_window(&self) -> u64 {
        match self.is_limited {
            true => 1,
            false => TASK_WINDOW,
        }
    }
}

impl Task {
    /// Its mark.
    pub fn done_sectors(&self) -> u64 {
        self.walk.mark(self.window.base())
    }
}

fn task_job(task: &Task, targets: Mask) -> Job {
    match task.kind {
        TaskKind::Rebuild => Job::Rebuild { targets },
        TaskKind::Check => Job::Sync { fix: false },
        _ => Job::Sync { fix: true },
    }
}
