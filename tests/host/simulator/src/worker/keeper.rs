// SPDX-License-Identifier: GPL-2.0

//! What the keeper has to do next (`keeper.rs`).

use super::{Action, Activity, Step, GRIEFS_MAX, VOLUME};
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::{DiskIndex, DiskState, Event, MemberState, Slot, TaskKind};
use emd_core::personalities::rebuild::Pass;
use emd_core::personalities::task::due::{lets_join, makes_way, waiting, Needs};
use emd_core::personalities::task::order::{beginning, Begin};
use emd_core::personalities::task::Scope;
use emd_core::personalities::{Health, Mask};

impl Sim {
    /// What the keeper would do next.
    pub(super) fn keep(&self) -> Option<Activity> {
        let set = self.set.as_ref()?;
        if let Some(detach) = self.detach_lost() {
            return Some(detach);
        }
        let mut places = 0..self.devices.len() as DiskIndex;
        let removed = places.find(|&disk| self.device(disk).is_some() && self.is_removed(disk));
        if let Some(disk) = removed {
            return Some((vec![Step::Do(Action::Removed(disk))], Action::Nothing));
        }
        if let Some(release) = self.drop_dead() {
            return Some(release);
        }
        for (index, disk) in set.set().live_disks() {
            let device = self.devices.get(usize::from(index)).copied().flatten();
            if let (Some(_), DiskState::Stale, Some(facts)) = (device, disk.state, disk.facts) {
                if self.worker.unfit.contains(&(Slot::MAX, index)) || !self.takes_stale(index) {
                    continue;
                }
                let steps = vec![
                    Step::Do(Action::NotePlaces(index)),
                    Step::Record(Event::DiskReturned(index, facts)),
                    Step::Do(Action::NoteReturned(index)),
                ];
                return Some((steps, Action::NoSpare(Slot::MAX, index)));
            }
        }
        self.spare_activity()
            .or_else(|| self.attach_activity())
            .or_else(|| self.task_activity())
    }

    /// `drop_dead`.
    pub(super) fn drop_dead(&self) -> Option<Activity> {
        let mut disks = self.set.as_ref()?.set().live_disks();
        let (dead, _) = disks.find(|&(disk, _)| {
            let device = self.devices.get(usize::from(disk)).copied().flatten();
            device.is_some() && self.is_unplugged(disk) && !self.is_attached(disk)
        })?;
        Some((vec![Step::Do(Action::Release(dead))], Action::Nothing))
    }

    /// `detach_lost`.
    pub(super) fn detach_lost(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        let in_use = array.writable.union(array.unrecorded);
        for slot in array.attached.minus(in_use).iter() {
            if matches!(
                self.member_state(slot),
                Some(MemberState::Failed | MemberState::Missing)
            ) {
                return Some((
                    vec![Step::Drain, Step::Do(Action::Detach(slot))],
                    Action::Nothing,
                ));
            }
        }
        None
    }

    /// The lost members whose places can be taken (`empty_slots`).
    pub(super) fn empty_slots(&self) -> Mask {
        let (Some(array), Some(volume)) = (&self.array, self.volume()) else {
            return Mask::EMPTY;
        };
        if array.broken
            || !self.is_redundant()
            || self.health(self.model_in_sync(None)) == Health::Failed
        {
            return Mask::EMPTY;
        }
        let members = (0u16..).zip(volume.members.iter());
        let empty = members.filter(|(slot, member)| {
            matches!(member.state, MemberState::Failed | MemberState::Missing)
                && !array.attached.contains(*slot)
        });
        empty.fold(Mask::EMPTY, |mask, (slot, _)| mask.with(slot))
    }

    pub(super) fn is_empty(&self, slot: Slot) -> bool {
        self.empty_slots().contains(slot)
    }

    /// `activate_disk`.
    pub(super) fn activation(&self, slot: Slot, disk: DiskIndex) -> Vec<Step> {
        let event = Event::SpareActivated {
            volume: VOLUME,
            slot,
            disk,
        };
        vec![Step::Record(event), Step::Do(Action::ForgetBad(slot))]
    }

    /// `use_spares`.
    pub(super) fn spare_activity(&self) -> Option<Activity> {
        let empty = self.empty_slots();
        let fits = |slot, disk| !self.worker.unfit.contains(&(slot, disk));
        let activity = |slot, disk| {
            let steps = self.activation(slot, disk);
            Some((steps, Action::NoSpare(slot, disk)))
        };
        // `take_old_places`.
        for slot in empty.iter() {
            let holder = self.holder(slot).filter(|&disk| fits(slot, disk));
            if let Some(disk) = holder.filter(|&disk| self.spare_rank(disk).is_some()) {
                return activity(slot, disk);
            }
        }
        let set = self.set.as_ref()?;
        for slot in empty.iter() {
            let ranked = set.set().live_disks().filter_map(|(disk, _)| {
                let rank = self.spare_rank(disk).filter(|_| fits(slot, disk))?;
                Some((rank, disk))
            });
            if let Some((_, disk)) = ranked.min() {
                return activity(slot, disk);
            }
        }
        None
    }

    pub(super) fn attach_activity(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        if array.broken || array.finished_task.is_some() {
            return None;
        }
        for (slot, member) in (0u16..).zip(self.volume()?.members.iter()) {
            let due = matches!(member.state, MemberState::Rebuilding { .. })
                && !array.attached.contains(slot)
                && member.disk.is_some_and(|disk| self.is_online(disk));
            if !due {
                continue;
            }
            let steps = match &array.task {
                Some(task) if task.kind() == TaskKind::Rebuild => {
                    if task.let_go || !lets_join(task.pass(), task.is_held()) {
                        return None;
                    }
                    vec![Step::Do(Action::LetJoin)]
                }
                _ => vec![Step::Drain, Step::Do(Action::Attach(slot))],
            };
            return Some((steps, Action::Nothing));
        }
        None
    }

    pub(super) fn task_activity(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        if let Some(task) = &array.task {
            // `make_way`.
            let needed = self.task_needed().map(|(kind, _)| kind);
            let is_due = !task.let_go && makes_way(task.kind(), needed);
            return is_due.then(|| (vec![Step::Do(Action::LetJoin)], Action::Nothing));
        }
        if array.finished_task.is_some() || array.broken || !self.is_redundant() {
            return None;
        }
        if self.worker.griefs >= GRIEFS_MAX {
            return None;
        }
        let (kind, pass) = match self.task_needed() {
            Some(needed) => needed,
            None => {
                let in_sync = self.model_in_sync(None);
                let alone =
                    !self.geometry.can_compare(in_sync) && self.health(in_sync) != Health::Failed;
                if array.needs_resync && alone && array.withheld.is_empty() {
                    let steps = vec![
                        Step::Record(Event::ResyncDone(VOLUME)),
                        Step::Do(Action::Resynced),
                    ];
                    return Some((steps, Action::Nothing));
                }
                let asked = self.worker.check.filter(|_| self.can_compare())?;
                (self.asked()?, Pass::sync(asked.done_sectors))
            }
        };
        if array.held == Some(kind) {
            return None;
        }
        let order = beginning(Scope::All, self.is_copied());
        let order =
            order.filter(|&step| step != Begin::Drain || !self.has(Mistake::TaskWithoutDrain));
        let steps = order.map(|step| match step {
            Begin::Place => Step::Do(Action::StartTask(kind, pass)),
            Begin::Drain => Step::Drain,
            step => Step::Do(Action::BeginTask(step)),
        });
        Some((steps.collect(), Action::GiveUpTask))
    }

    /// `Inner::task_waiting`.
    pub(crate) fn task_due(&self) -> Option<TaskKind> {
        let awaits_rebuild = || self.spare_activity().is_some() || self.attach_activity().is_some();
        let needed = self.task_needed().map(|(kind, _)| kind);
        waiting(needed, awaits_rebuild, self.asked())
    }

    /// The check or repair that people asked for and that waits.
    pub(crate) fn asked(&self) -> Option<TaskKind> {
        self.worker.check.map(|asked| asked.kind())
    }

    pub(crate) fn can_compare(&self) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        self.geometry.can_compare(array.readable)
    }

    /// `Inner::task_needed`.
    pub(super) fn task_needed(&self) -> Option<(TaskKind, Pass)> {
        let array = self.array.as_ref()?;
        let volume = self.volume()?;
        let in_sync = self.model_in_sync(None);
        let fillable = array.attached.intersect(array.writable);
        let needs = Needs {
            volume,
            fillable: fillable.minus(array.withheld),
            trust: array.trust.get(),
            late: array.late,
            sync_from: array.needs_resync.then_some(array.resync_from),
            can_compare: self.geometry.can_compare(in_sync) && self.can_compare(),
        };
        needs.task()
    }
}
