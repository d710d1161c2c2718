// SPDX-License-Identifier: GPL-2.0

//! Tasks of volumes: which are due or asked for, which wait for others, and which are started now.
//!
//! Tasks start with `ManagedSet::change` held, and `inner`: where an array has to be empty for a moment for that, it is
//! given up in time. What only looks needs `inner`. Marks are in sectors, as [`Pass`] counts them.

use super::keeper::LATER_MS;
use super::managed::ManagedSet;
use super::recorder::Wishes;
use super::shared::{now, Shared};
use super::state::{Asked, Inner};
use super::turns::Turn;
use crate::array::{Array, Scope};
use crate::model::{Checked, DiskIndex, Event, MemberState, VolumeIndex};
use crate::personalities::rebuild::Pass;
use crate::personalities::task::due::{makes_way, waiting, Needs};
use crate::personalities::Health;
use crate::reason;
use crate::uapi::{EventKind, TaskKind, TaskOp};
use kernel::prelude::*;
use kernel::sync::Arc;

impl ManagedSet {
    /// Starts the tasks that are due.
    #[inline(never)]
    pub(super) fn start_tasks(&self) {
        let mut inner = self.lock();
        inner.end_idle_turns();
        inner.make_way();
        inner.forget_holds();
        // What redundancy needs goes first, on all volumes.
        for volume in 0..inner.entries_len() {
            if !inner.has_room_for_task(volume) {
                continue;
            }
            let due = inner.due_task(self, volume);
            if let Some((kind, pass)) = due.filter(|&(kind, _)| !inner.is_held(volume, kind)) {
                let _ = self.start_task(&mut inner, volume, kind, &pass);
            }
        }
        for volume in 0..inner.entries_len() {
            if !inner.has_room_for_task(volume) || inner.task_needed(volume).is_some() {
                continue;
            }
            match inner.running(volume).and_then(|run| run.asked) {
                Some(asked) if inner.is_held(volume, asked.kind) => {}
                Some(asked) => {
                    let pass = Pass::sync(asked.from_sectors);
                    let started = self.start_task(&mut inner, volume, asked.kind, &pass);
                    if started.is_err_and(|reason| reason.errno() != EAGAIN) {
                        inner.withdraw(&self.shared, volume);
                    }
                }
                None if !inner.has_busy_disks(volume, TaskKind::Check) => {
                    inner.start_repairs(volume);
                }
                None => {}
            }
        }
    }

    /// Starts a task, unless it has to wait for others or for a while; an error of the array's. What was not started is
    /// looked at again.
    #[inline(never)]
    fn start_task(
        &self,
        inner: &mut Inner,
        volume: VolumeIndex,
        kind: TaskKind,
        pass: &Pass,
    ) -> Checked {
        if inner.has_busy_disks(volume, kind) {
            return Ok(());
        }
        let Some(running) = inner.running_mut(volume) else {
            return Ok(());
        };
        if now() < running.retry_at || !inner.take_turn(self, volume, kind) {
            self.keep_later(LATER_MS);
            return Ok(());
        }
        let Some(running) = inner.running_mut(volume) else {
            return Ok(());
        };
        let number = running.number.get();
        let scope = if kind == TaskKind::Resync && !running.resync_all {
            Scope::DirtyRegions
        } else {
            Scope::All
        };
        let started = Array::start_task(&running.array, kind, pass, scope);
        match &started {
            Ok(()) => {
                running.told_per_mille = 0;
                running.checkpoint_at = now();
                self.tell_started(number, kind);
            }
            Err(reason) => {
                log!(
                    pr_warn,
                    "emd{}: {} cannot start: {}",
                    number,
                    kind.word(),
                    reason
                );
                running.turn = None;
                self.keep_later(LATER_MS);
            }
        }
        started
    }

    /// Does with a volume's task what a person asks for.
    #[inline(never)]
    pub(super) fn change_task(self: &Arc<Self>, volume: VolumeIndex, op: TaskOp) -> Checked {
        let changed = self.try_change_task(volume, op);
        if changed.is_err() {
            self.lock().end_idle_turns();
        }
        // A task whose end was noted on the way may be what others waited for.
        self.kick_keeper();
        changed
    }

    #[inline(never)]
    fn try_change_task(self: &Arc<Self>, volume: VolumeIndex, op: TaskOp) -> Checked {
        let change = self.change.lock();
        let mut inner = self.lock();
        if let (TaskOp::Start(_), Some(array)) = (op, inner.array(volume)) {
            // What ended just before is no task any more.
            inner.note_finished(&self.shared, volume, &array, &mut Wishes::default());
        }
        let is_idle = inner
            .running(volume)
            .is_some_and(|running| running.array.task().is_none());
        let must_wait = match op {
            TaskOp::Start(kind) if is_idle && kind != TaskKind::Rebuild => {
                inner.has_busy_disks(volume, kind) || !inner.take_turn(self, volume, kind)
            }
            _ => false,
        };
        let waiting = match op {
            TaskOp::Pause => inner.task_waiting(volume, self.keeper_is_busy()),
            _ => None,
        };
        let Some(running) = inner.running_mut(volume) else {
            return Err(reason!(ENODEV, "the volume is not started"));
        };
        let number = running.number.get();
        match op {
            TaskOp::Start(kind) => {
                if let Some(task) = running.array.task() {
                    return Err(reason!(
                        EBUSY,
                        "emd{number} has a {} at work",
                        task.kind.word()
                    ));
                }
                if kind != TaskKind::Rebuild && running.array.has_finished() {
                    // Its end counts for what is asked for now otherwise.
                    return Err(reason!(
                        EBUSY,
                        "emd{number} has a task whose end could not be recorded yet"
                    ));
                }
                if running.read_only || running.array.is_broken() {
                    return Err(reason!(EROFS, "emd{number} cannot be written"));
                }
                let begins;
                match kind {
                    TaskKind::Rebuild => {
                        running.paused = None;
                        running.retry_at = 0;
                        drop(inner);
                        drop(change);
                        self.kick_keeper();
                        return Ok(());
                    }
                    TaskKind::Resync | TaskKind::Initialise => {
                        running.array.can_check()?;
                        begins = inner.ask_resync(&self.shared, volume, kind, must_wait)?;
                    }
                    TaskKind::Check | TaskKind::Repair => {
                        if let Some(asked) = running.asked {
                            let what = asked.kind.word();
                            return Err(reason!(EBUSY, "emd{number} has a {what} waiting"));
                        }
                        running.array.can_check()?;
                        if !must_wait {
                            Array::start_task(&running.array, kind, &Pass::sync(0), Scope::All)?;
                        }
                        begins = !must_wait;
                        running.asked = Some(Asked {
                            kind,
                            from_sectors: 0,
                        });
                        running.told_per_mille = 0;
                        running.checkpoint_at = now();
                        inner.note_scrub(&self.shared, volume, kind.scrub_at(0));
                    }
                }
                if let Some(running) = inner.running_mut(volume) {
                    running.paused = None;
                }
                if begins {
                    self.tell_started(number, kind);
                }
            }
            TaskOp::Pause => {
                running.paused = match (running.array.task(), waiting) {
                    (None, Some(kind)) => Some(kind),
                    (task, _) => {
                        running.array.pause_task(true)?;
                        running.turn = None;
                        task.map(|task| task.kind)
                    }
                };
            }
            TaskOp::Resume => {
                running.paused = None;
                if let Some(task) = running.array.task() {
                    running.array.pause_task(false)?;
                    // Who has these disks meanwhile goes on beside it.
                    let _ = inner.take_turn(self, volume, task.kind);
                }
            }
            TaskOp::Cancel => match running.array.task() {
                Some(task) if task.kind.is_scrub() => {
                    running.array.cancel_task();
                    running.paused = running.paused.filter(|&kind| kind != task.kind);
                }
                // One that waits, perhaps for what is at work.
                _ if running.asked.is_some() => inner.withdraw(&self.shared, volume),
                None => return Err(reason!(ENOENT, "emd{number} has no task")),
                Some(task) => {
                    return Err(reason!(
                        EINVAL,
                        "emd{number} needs its {}: it can be paused, not cancelled",
                        task.kind.word()
                    ))
                }
            },
            TaskOp::Limits { min_kib, max_kib } => running.array.set_limits(min_kib, max_kib),
        }
        drop(inner);
        drop(change);
        self.kick();
        self.kick_keeper();
        Ok(())
    }

    /// Tells people that a task started.
    pub(super) fn tell_started(&self, number: u32, kind: TaskKind) {
        log!(pr_info, "emd{}: {} started", number, kind.word());
        self.shared.post(EventKind::TaskStarted, &self.id, |event| {
            event.number = Some(number);
            event.value = u64::from(kind.code());
            event.text = crate::model::Text::from_text(kind.word());
        });
    }
}

impl Inner {
    /// Has redundancy established anew, as a whole, whatever is known of it. That it is wanted is recorded
    /// first, so that it outlives a stop and a power cut. True when it is at work; else the keeper starts it.
    #[inline(never)]
    fn ask_resync(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        kind: TaskKind,
        must_wait: bool,
    ) -> Checked<bool> {
        let done_sectors = 0;
        let event = Event::ResyncProgress {
            volume,
            done_sectors,
        };
        self.record(shared, &event)?;
        let Some(running) = self.running_mut(volume) else {
            return Ok(false);
        };
        running.needs_resync = true;
        running.resync_all = true;
        running.resync_from_sectors = 0;
        running.told_per_mille = 0;
        running.checkpoint_at = now();
        let all = Pass::sync(0);
        Ok(!must_wait && Array::start_task(&running.array, kind, &all, Scope::All).is_ok())
    }

    /// Drops a check or repair that waits, and tells people that it ended before it ran.
    fn withdraw(&mut self, shared: &Shared, volume: VolumeIndex) {
        let running = self.running_mut(volume);
        let asked = running.and_then(|running| {
            let asked = running.asked.take()?;
            running.paused = running.paused.filter(|&kind| kind != asked.kind);
            Some((running.number.get(), asked))
        });
        let (Some((number, asked)), Some(id)) = (asked, self.model().map(|set| set.id)) else {
            return;
        };
        self.note_scrub(shared, volume, None);
        shared.post(EventKind::TaskStopped, &id, |event| {
            event.number = Some(number);
            event.value = 0;
            event.text = crate::model::Text::from_text(asked.kind.word());
        });
    }

    /// Ends checks, repairs and syncs, held ones too, of volumes that need a rebuild: redundancy comes first. A sync goes on at
    /// its mark after it.
    fn make_way(&self) {
        for volume in 0..self.entries_len() {
            let Some(running) = self.running(volume) else {
                continue;
            };
            let needed = self.task_needed(volume).map(|(kind, _)| kind);
            let task = running.array.task();
            if task.is_some_and(|task| makes_way(task.kind, needed)) {
                running.array.cancel_task();
            }
        }
    }

    /// Whether a task of another volume is at work on a disk of this one, for which one of this kind
    /// waits. Nothing waits for a task that is held, and what establishes redundancy for no check.
    pub(super) fn has_busy_disks(&self, volume: VolumeIndex, kind: TaskKind) -> bool {
        let disks = self.disks_of(volume);
        (0..self.entries_len()).any(|other| {
            let task = self
                .running(other)
                .filter(|_| other != volume)
                .and_then(|running| running.array.task());
            let is_waited_for = task.is_some_and(|task| !task.paused && kind.waits_for(task.kind));
            is_waited_for && self.disks_of(other).meets(&disks)
        })
    }

    /// Gives up the turns of volumes without a task.
    fn end_idle_turns(&mut self) {
        for volume in 0..self.entries_len() {
            if let Some(running) = self.running_mut(volume) {
                if running.array.task().is_none() {
                    running.turn = None;
                }
            }
        }
    }

    /// Takes a turn for a task of this kind on a volume's disks; false while another set's task, for which one of this kind
    /// waits, is at work on one of them.
    fn take_turn(&mut self, set: &ManagedSet, volume: VolumeIndex, kind: TaskKind) -> bool {
        let Some(running) = self.running_mut(volume) else {
            return false;
        };
        // One at a time: the end of an old one would be that of the new one.
        running.turn = None;
        let number = running.number.get();
        let model = self.model().and_then(|model| model.volume(volume));
        let members = model.map_or(&[][..], |model| &model.members);
        let disks = members
            .iter()
            .filter_map(|member| Some(self.device(member.disk?)?.whole()));
        let turn = Turn::take(&set.shared, number, kind, disks);
        let is_taken = turn.is_some();
        if let Some(running) = self.running_mut(volume).filter(|_| is_taken) {
            running.turn = turn;
        }
        is_taken
    }

    /// Whether a person holds a volume's task of this kind.
    fn is_held(&self, volume: VolumeIndex, kind: TaskKind) -> bool {
        self.running(volume)
            .is_some_and(|running| running.paused == Some(kind))
    }

    /// Forgets that tasks are held which are not due any more: what comes after them is not held.
    fn forget_holds(&mut self) {
        for volume in 0..self.entries_len() {
            let held = self.running(volume).and_then(|running| running.paused);
            let Some(kind) = held.filter(|_| self.has_room_for_task(volume)) else {
                continue;
            };
            let is_due = match kind {
                TaskKind::Rebuild => {
                    matches!(self.task_needed(volume), Some((TaskKind::Rebuild, _)))
                        || self.awaits_rebuild(volume, true)
                }
                TaskKind::Resync | TaskKind::Initialise => self
                    .running(volume)
                    .is_some_and(|running| running.needs_resync),
                TaskKind::Check | TaskKind::Repair => self
                    .running(volume)
                    .and_then(|running| running.asked)
                    .is_some_and(|asked| asked.kind == kind),
            };
            if let Some(running) = self.running_mut(volume).filter(|_| !is_due) {
                running.paused = None;
            }
        }
    }

    /// The task of a volume that is due and has not begun: one that a person may hold.
    fn task_waiting(&self, volume: VolumeIndex, keeper_is_busy: bool) -> Option<TaskKind> {
        if !self.has_room_for_task(volume) {
            return None;
        }
        let needed = self.task_needed(volume).map(|(kind, _)| kind);
        let awaits_rebuild = || self.awaits_rebuild(volume, keeper_is_busy);
        let asked = self.running(volume)?.asked.map(|asked| asked.kind);
        waiting(needed, awaits_rebuild, asked)
    }

    /// Whether a volume's array could have a task, and has none, held or not.
    pub(super) fn has_room_for_task(&self, volume: VolumeIndex) -> bool {
        self.running(volume).is_some_and(|running| {
            running.disk.is_some()
                && !running.stopping
                && !running.read_only
                && !running.array.is_broken()
                && running.array.task().is_none()
                && !running.array.has_finished()
        })
    }

    /// The task that a volume needs: what, and which pass of it.
    #[inline(never)]
    fn due_task(&mut self, set: &ManagedSet, volume: VolumeIndex) -> Option<(TaskKind, Pass)> {
        let due = self.task_needed(volume);
        let needs_resync = self.running(volume)?.needs_resync;
        if due.is_none() && needs_resync && self.nothing_to_agree(volume) {
            // What is left has nothing to agree with.
            let array = self.array(volume)?;
            if self.record_agreement(&set.shared, volume, &array).is_ok() {
                if let Some(running) = self.running_mut(volume) {
                    running.needs_resync = false;
                    running.resync_from_sectors = 0;
                    running.array.sync_recorded();
                }
            }
        }
        due
    }

    /// The same, only looked at.
    #[inline(never)]
    pub(super) fn task_needed(&self, volume: VolumeIndex) -> Option<(TaskKind, Pass)> {
        let running = self.running(volume)?;
        let array = &running.array;
        let fillable = running.attached.intersect(array.present());
        let can_compare = array.geometry().can_compare(self.in_sync(volume, None));
        let needs = Needs {
            volume: self.model()?.volume(volume)?,
            fillable: fillable.minus(running.withheld),
            trust: running.trust,
            late: running.late,
            sync_from: running.needs_resync.then_some(running.resync_from_sectors),
            can_compare,
        };
        needs.task()
    }

    /// Whether the keeper is about to start a rebuild: a member was given a disk that the array does
    /// not have yet, or was lost just now, and a spare is there.
    pub(super) fn awaits_rebuild(&self, volume: VolumeIndex, keeper_is_busy: bool) -> bool {
        let (Some(running), Some(set)) = (self.running(volume), self.model()) else {
            return false;
        };
        let Some(model) = set.volume(volume) else {
            return false;
        };
        let unrecorded = running.array.unrecorded();
        let is_left = running.withheld.union(running.unfit);
        if !model.shape.level.is_redundant() || !keeper_is_busy && unrecorded.is_empty() {
            return false;
        }
        let has_spare = || {
            (0..self.devices.len() as DiskIndex).any(|disk| self.spare_rank(volume, disk).is_some())
        };
        (0u16..)
            .zip(model.members.iter())
            .any(|(slot, member)| match member.state {
                MemberState::Rebuilding { .. } => {
                    !is_left.contains(slot) && member.disk.is_some_and(|disk| self.is_online(disk))
                }
                MemberState::Failed | MemberState::Missing => has_spare(),
                MemberState::InSync => unrecorded.contains(slot) && has_spare(),
            })
    }

    /// Has copies that could not be read written again.
    fn start_repairs(&self, volume: VolumeIndex) {
        let Some(running) = self.running(volume).filter(|run| run.array.wants_repair()) else {
            return;
        };
        // When it cannot be now, the next error asks again.
        let _ = Array::start_task(
            &running.array,
            TaskKind::Check,
            &Pass::sync(0),
            Scope::Repairs,
        );
    }

    /// Whether so much is lost that every sector is there just once.
    fn nothing_to_agree(&self, volume: VolumeIndex) -> bool {
        let in_sync = self.in_sync(volume, None);
        // A member that is withheld is read below its mark: it has to agree there.
        self.running(volume).is_some_and(|running| {
            running.withheld.is_empty() && !running.array.geometry().can_compare(in_sync)
        }) && self.health(volume, in_sync) != Health::Failed
    }
}
