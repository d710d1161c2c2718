// SPDX-License-Identifier: GPL-2.0

//! What people do with tasks: `src/set/tasks.rs`. Who is refused has changed nothing.

use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::Scrub;
use emd_core::uapi::{TaskKind, TaskOp};

impl Sim {
    /// `ManagedSet::change_task`.
    pub(crate) fn change_task(&mut self, op: TaskOp) {
        if self.array.is_none() {
            return;
        }
        match op {
            TaskOp::Start(kind) => self.ask_task(kind),
            TaskOp::Pause => self.hold_task(true),
            TaskOp::Resume => self.hold_task(false),
            TaskOp::Cancel => self.cancel_task(),
            TaskOp::Limits { max_kib, .. } => self.arr().is_limited = max_kib > 0,
        }
    }

    /// `TaskOp::Start`.
    fn ask_task(&mut self, kind: TaskKind) {
        let array = self.arr();
        let is_busy = array.task.is_some() || array.finished_task.is_some();
        let is_asked = self.worker.check.is_some() || self.worker.resync_asked;
        let may_be = !self.arr().broken && self.is_redundant() && self.can_compare();
        if is_busy || is_asked || !may_be {
            return self.tell(|_| "   that is refused".into());
        }
        self.arr().held = None;
        match kind {
            TaskKind::Check => self.ask_check(false),
            TaskKind::Repair => self.ask_check(true),
            TaskKind::Resync | TaskKind::Initialise => self.worker.resync_asked = true,
            // What is due comes by itself here.
            TaskKind::Rebuild => {}
        }
    }

    /// `TaskOp::Pause` and `TaskOp::Resume`. One that is due may be held before it begins.
    fn hold_task(&mut self, is_held: bool) {
        let has_room = !self.arr().broken && self.arr().finished_task.is_none();
        let due = self.task_due().filter(|_| has_room);
        let array = self.arr();
        let kind = match &mut array.task {
            Some(task) => {
                task.hold(is_held);
                Some(task.kind())
            }
            None if is_held && due.is_none() => return,
            None => due,
        };
        array.held = kind.filter(|_| is_held);
    }

    /// At last people let everything go on. False when nothing was held.
    pub(crate) fn let_go(&mut self) -> bool {
        let Some(array) = &mut self.array else {
            return false;
        };
        // Who cancels what waits for a held task does not let that one go.
        let task = array.task.as_mut();
        let was_held = task.is_some_and(|task| {
            let was_held = task.is_held();
            task.hold(false);
            was_held
        });
        array.held.take().is_some() || was_held
    }

    /// `TaskOp::Cancel`. What redundancy needs is not cancelled.
    fn cancel_task(&mut self) {
        let any = self.has(Mistake::CancelCounts);
        let task = self.array.as_mut().and_then(|array| array.task.as_mut());
        match task.filter(|task| task.kind().is_scrub() || any) {
            Some(task) => {
                task.let_go();
                task.hold(false);
                let kind = task.kind();
                self.let_go_of(kind);
            }
            // One that waits, perhaps for what is at work.
            None => {
                if let Some(kind) = self.asked() {
                    self.worker.check = None;
                    self.let_go_of(kind);
                }
            }
        }
    }

    /// A task of this kind is not held any more.
    fn let_go_of(&mut self, kind: TaskKind) {
        let array = self.arr();
        array.held = array.held.filter(|&held| held != kind);
    }

    /// What is to be recorded of a check or repair that has not ended (`Inner::note_scrub`); `None` when that is so.
    pub(crate) fn scrub_to_note(&self) -> Option<Option<Scrub>> {
        if !self.history.config.tasks {
            return None;
        }
        let array = self.array.as_ref()?;
        let at_work = array.task.as_ref();
        let at_work = at_work.and_then(|task| task.kind().scrub_at(task.pass().from_sectors));
        let wanted = at_work.or(self.worker.check);
        let is_noted = wanted.map(|scrub| scrub.repairs) == self.worker.noted_scrub;
        (!is_noted && array.finished_task.is_none()).then_some(wanted)
    }
}
