// SPDX-License-Identifier: GPL-2.0

//! Tasks: the real engine (`personalities/task/`), as `src/array/task.rs` carries it out. Modelled is when it gets its turn,
//! and what it is asked from other threads; and mistakes are put in between what it says and what is done.

use crate::array::Array;
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::TaskKind;
use emd_core::personalities::lane::Job;
use emd_core::personalities::pace::Rates;
use emd_core::personalities::rebuild::Pass;
use emd_core::personalities::task::order::{Begin, Finish};
use emd_core::personalities::task::{
    Course, Engine, Found, Members, Moved, Scope, Step, TaskResult, View, Windows,
};
use emd_core::personalities::Mask;
use std::collections::VecDeque;

/// A task at work.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it does.
    pub engine: Engine,
    /// It is asked to end, by a person, or so that another member may join or be rebuilt.
    pub let_go: bool,
    /// It is over, and this is left to do.
    ending: Option<(TaskEnd, VecDeque<Finish>)>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug)]
pub struct TaskEnd {
    /// What it came to.
    pub result: TaskResult,
    /// It ended because it was asked to.
    pub let_go: bool,
}

/// Volumes have a few dozen lanes.
const WINDOWS: Windows = Windows { full: 3, busy: 1 };

impl Sim {
    /// Whether the task could do something.
    pub fn task_can_send(&self) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        let Some(task) = &array.task else {
            return false;
        };
        if task.ending.is_some() {
            return true;
        }
        match task.engine.clone().next(&array.view(), |_| None) {
            Step::Send(_) => !array.gate_closed,
            Step::Skip { .. } | Step::Nothing(_) => true,
            Step::Later | Step::WhenBack => false,
            Step::End => array.lanes_only || !self.has_repairs(),
        }
    }

    /// `Array::repairing`: whether reads of copies in lanes may still write what they read.
    fn has_repairs(&self) -> bool {
        let is_repair =
            |op: &crate::lanes::LaneOp| matches!(op.job, Job::Read { .. }) && !op.shared;
        self.is_copied()
            && self.ops.iter().flatten().any(is_repair)
            && !self.has(Mistake::RepairOutlivesTask)
    }

    /// `Array::sync_outlives_source`.
    pub fn sync_outlives_source(&self) -> bool {
        let array = self.array.as_ref().filter(|array| array.lanes_only);
        array.is_some_and(|array| {
            let task = array.task.as_ref();
            task.is_some_and(|task| task.engine.course().outlives_source(array.members()))
        })
    }

    /// `Array::filled_ahead`.
    pub(super) fn filled_ahead(&self, op: &crate::lanes::LaneOp) -> Mask {
        let task = self.array.as_ref().and_then(|array| array.task.as_ref());
        let Some(task) = task else {
            return Mask::EMPTY;
        };
        let course = task.engine.course();
        course
            .filling_lane(op.stripe, op.run_column)
            .filter(|&lane| task.engine.is_done(lane))
            .map_or(Mask::EMPTY, |lane| course.filled_in(lane))
    }

    /// A task is there that has not begun: `Task::start`.
    pub(super) fn new_task(&mut self, kind: TaskKind, pass: &Pass) -> Task {
        let resync_all = self.arr().resync_all;
        let scope = match kind {
            TaskKind::Resync if !resync_all => Scope::DirtyRegions,
            _ => Scope::All,
        };
        let (sectors, in_sync) = (self.lane_sectors(), self.arr().readable);
        let course = Course::new(&self.geometry, sectors, kind, pass, scope, in_sync);
        Task {
            engine: Engine::new(&course, WINDOWS, 0, Rates::NONE),
            let_go: false,
            ending: None,
        }
    }

    /// Whether a task has its place and has not begun: `ManagedSet::change` is held, and no person does anything.
    pub(super) fn is_starting(&self) -> bool {
        let task = self.array.as_ref().and_then(|array| array.task.as_ref());
        task.is_some_and(|task| !task.engine.has_begun())
    }

    /// A step of the beginning of the task that has its place. The gate is the worker's.
    pub(super) fn begin_task(&mut self, step: Begin) {
        let late = self.has(Mistake::LateTrusted);
        let keeps_asked = self.history.config.tasks;
        let array = self.arr();
        match step {
            Begin::Place => {}
            Begin::Marks => {
                let Some(task) = &array.task else { return };
                let course = task.engine.course();
                if let Some(from) = course.begin_marks(&array.rebuilt, array.unsynced_from) {
                    array.unsynced_from = from;
                }
                if late {
                    let pass = all_marked(course.pass());
                    array.rebuilt.begin(&pass, pass.from_sectors);
                }
            }
            Begin::Lanes => array.task_active = true,
            Begin::LanesOnly => array.lanes_only = true,
            Begin::Drain | Begin::OpenGate | Begin::Repairs => {}
            Begin::Work => {
                let Some(task) = &mut array.task else { return };
                task.engine.begin();
                if task.kind().is_scrub() || !keeps_asked {
                    self.worker.check = None;
                }
            }
        }
    }

    /// `Task::give_up`.
    pub(super) fn give_up_task(&mut self) {
        let array = self.arr();
        array.task_active = false;
        array.task = None;
    }

    /// The task does what is next.
    pub fn task_send(&mut self) {
        let Some(array) = self.array.as_mut() else {
            return;
        };
        let Some(mut task) = array.task.take() else {
            return;
        };
        if let Some((end, mut steps)) = task.ending.take() {
            let step = steps.pop_front();
            task.ending = Some((end, steps));
            array.task = Some(task);
            return self.finish_task(&end, step);
        }
        let step = task.engine.next(&array.view(), |_| None);
        array.task = Some(task);
        match step {
            Step::Later | Step::WhenBack => {}
            Step::End => {
                self.arr().lanes_only = false;
                if !self.has_repairs() {
                    self.task_end();
                }
            }
            Step::Skip { lanes, moved } => {
                self.report.skipped += lanes;
                self.publish(moved);
            }
            Step::Nothing(moved) => self.publish(moved),
            Step::Send(lane) => {
                self.publish(Moved::Nothing);
                self.arr().inside += 1;
                let range = lane.range;
                let op = self.new_op(range.stripe, range.column, range.sectors, lane.job);
                self.op(op).task = Some(lane.number);
                self.submit_op(op);
            }
        }
    }

    /// It is over. Others have their turns between the steps of its end.
    fn task_end(&mut self) {
        let counts = self.has(Mistake::CancelCounts);
        let Some(task) = &mut self.arr().task else {
            return;
        };
        let let_go = task.let_go;
        let mut result = task.engine.result();
        result.completed |= let_go && counts;
        let steps = task.engine.course().ending(&result).collect();
        task.ending = Some((TaskEnd { result, let_go }, steps));
        let (kind, completed) = (result.kind, result.completed);
        self.report.tasks += u64::from(completed);
        self.tell(|_| format!("   {kind:?} ends, completed: {completed}"));
    }

    fn finish_task(&mut self, end: &TaskEnd, step: Option<Finish>) {
        let array = self.arr();
        match step {
            Some(Finish::Agree) => {
                array.unsynced_from = u64::MAX;
                array.followers = Mask::EMPTY;
            }
            Some(Finish::Result) => array.finished_task = Some(*end),
            Some(Finish::Repairs) => {}
            Some(Finish::Lanes) => array.task_active = false,
            Some(Finish::Place) | None => array.task = None,
        }
    }

    /// A lane of the task is back.
    pub fn task_lane_done(&mut self, lane: u64, failed: bool) {
        let passes = self.has(Mistake::MarkPastFailedLane);
        let Some(task) = self.arr().task.as_mut() else {
            return;
        };
        let back = task.engine.back(lane, !failed || passes, Found::Unseen);
        if failed && passes {
            task.engine.cancel();
        }
        self.publish(back.moved);
    }

    /// Moves the array's marks along, as the task says, or a mistake.
    fn publish(&mut self, moved: Moved) {
        let ahead = self.has(Mistake::MarkAheadOfData);
        let late = self.has(Mistake::LateTrusted);
        let one_span = self.geometry.shape().spans > 1 && self.has(Mistake::MarkOfOneSpan);
        let chunk = u64::from(self.geometry.chunk_sectors());
        let array = self.arr();
        let Some(task) = array.task.as_ref() else {
            return;
        };
        let engine = &task.engine;
        let (walk, window) = (engine.course().walk(), engine.window());
        let mut moved = match ahead || one_span {
            true => engine.moved(),
            false => moved,
        };
        match &mut moved {
            Moved::Nothing => {}
            Moved::Rebuilt { done, .. } | Moved::Synced { done } if ahead => {
                *done = walk.mark(window.base() + window.flying());
            }
            Moved::Rebuilt { done, .. } | Moved::Synced { done } if one_span => {
                *done = (*done + chunk).min(walk.length());
            }
            Moved::Rebuilt { pass, .. } if late => *pass = all_marked(pass),
            Moved::Rebuilt { .. } | Moved::Synced { .. } => {}
        }
        if let Some(from) = moved.publish(&array.rebuilt, array.unsynced_from) {
            array.unsynced_from = from;
        }
    }
}

/// [`Mistake::LateTrusted`].
fn all_marked(pass: &Pass) -> Pass {
    Pass {
        marked: pass.targets,
        ..*pass
    }
}

impl Array {
    /// `Array::task_members`.
    fn members(&self) -> Members {
        Members {
            readable: self.readable,
            writable: self.writable,
            is_broken: self.broken,
        }
    }

    /// `Array::view`. A limit stands for busy users: no time passes, so that its turns are rare is left to chance.
    fn view(&self) -> View<'_> {
        View {
            members: self.members(),
            is_busy: self.is_limited,
            rates: Rates::NONE,
            now: 0,
            second: u64::MAX,
            regions: self.regions.as_ref(),
        }
    }
}

impl Task {
    /// What it does.
    pub fn kind(&self) -> TaskKind {
        self.engine.course().kind()
    }

    /// The members it fills, and from where to where it goes.
    pub fn pass(&self) -> &Pass {
        self.engine.course().pass()
    }

    /// Whether a person holds it.
    pub fn is_held(&self) -> bool {
        self.engine.is_paused()
    }

    /// A person holds it, or lets it go on.
    pub fn hold(&mut self, is_held: bool) {
        self.engine.set_paused(is_held, 0);
    }

    /// It is asked to end, and that is no failure.
    pub fn let_go(&mut self) {
        self.engine.cancel();
        self.let_go = true;
    }
}
