// SPDX-License-Identifier: GPL-2.0

//! Recording (`record.rs`): an event, and its plan carried out phase by phase; flushes.

use super::{Plan, Stage, Step, INSISTENCE, VOLUME};
use crate::disk::IoError;
use crate::io::{Owner, Request};
use crate::mistake::Mistake;
use crate::setup;
use crate::sim::Sim;
use emd_core::model::{DiskIndex, Event, MemberState, Slot};
use emd_core::personalities::Mask;
use std::collections::BTreeSet;

impl Sim {
    pub(super) fn apply(&mut self, event: &Event<'_>) -> Result<(), String> {
        self.events += 1;
        let context = setup::context(self.events);
        let set = self.set.as_mut().ok_or("no set")?;
        self.worker.reached.clear();
        self.worker.due.clear();
        set.apply(event, &context).map_err(|why| why.to_string())?;
        let disks = set.set().disks.len();
        let room = self.worker.moves.make_room(disks);
        room.expect("memory for a disk");
        if self.mistake != Some(Mistake::ReturnNotSeen) {
            self.worker.moves.follow(set.set());
        }
        // `record_agreement`.
        let array = self
            .array
            .as_ref()
            .filter(|_| matches!(event, Event::ResyncDone(_)));
        let array = array.filter(|_| self.mistake != Some(Mistake::RegionsNotFollowed));
        let regions = array.and_then(|array| array.regions.as_ref());
        let log = set
            .set()
            .volume(VOLUME)
            .and_then(|volume| volume.regions.as_ref());
        if let (Some(regions), Some(log)) = (regions, log) {
            regions.follow(log);
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, strict: bool, handled: BTreeSet<DiskIndex>) {
        self.begin_plan(Plan {
            strict,
            handled,
            ..Plan::default()
        });
    }

    /// `catch_up`, before a step that records.
    pub(super) fn catch_up(&mut self, strict: bool) {
        self.begin_plan(Plan {
            strict,
            catching_up: true,
            ..Plan::default()
        });
    }

    /// `insist`: the plan begins, perhaps once more.
    fn begin_plan(&mut self, mut plan: Plan) {
        let Some(set) = &self.set else { return };
        let all = set.set().live_disks().map(|(disk, _)| disk);
        let needed = all.filter(|&disk| self.is_in_use(disk) && !self.bears_loss(disk));
        plan.needed = needed.collect();
        // Perhaps nothing is left for these. Those that are gone with a part of it are sent no more.
        plan.written = self.worker.due.keys().copied().collect();
        let is_gone = |&disk: &DiskIndex| self.is_unplugged(disk);
        match self.mistake == Some(Mistake::GoneCounts) {
            true => plan.gone = plan.written.iter().copied().filter(is_gone).collect(),
            false => plan.written.retain(|disk| !is_gone(disk)),
        }
        let mut last = None;
        let reordered = self.has(Mistake::PhasesReordered);
        for write in set.plan().writes() {
            if last != Some(write.phase) && !(reordered && last.is_some()) {
                plan.phases.push_back((write.phase, Vec::new()));
            }
            last = Some(write.phase);
            let bytes = set.bytes(&write.source).to_vec();
            if let Some((_, writes)) = plan.phases.back_mut() {
                writes.push((write.disk, write.sector, bytes));
            }
        }
        self.worker.stage = Some(Stage::Plan(plan));
        self.next_phase();
    }

    pub(super) fn plan(&mut self) -> &mut Plan {
        match &mut self.worker.stage {
            Some(Stage::Plan(plan)) => plan,
            _ => unreachable!("a plan is being carried out"),
        }
    }

    pub(super) fn next_phase(&mut self) {
        let insists = !self.has(Mistake::WrittenWithoutNeeded);
        loop {
            let plan = self.plan();
            plan.flushing = false;
            let lacks_needed = !plan.failed.is_disjoint(&plan.needed);
            plan.stuck = lacks_needed && plan.tries < INSISTENCE && insists;
            if plan.stuck {
                return self.plan_done();
            }
            let Some((phase, writes)) = plan.phases.pop_front() else {
                return self.plan_done();
            };
            plan.phase = phase;
            let failed = plan.failed.clone();
            for (disk, sector, bytes) in writes {
                let is_due = self.worker.due.get(&disk).is_none_or(|&due| phase >= due);
                let device = self.devices.get(usize::from(disk)).copied().flatten();
                let Some(device) = device.filter(|_| is_due && !failed.contains(&disk)) else {
                    continue;
                };
                let plan = self.plan();
                plan.pending += 1;
                plan.touched.insert(disk);
                let last = self.worker.reached.entry(disk).or_insert(phase);
                *last = phase.max(*last);
                self.send(
                    device,
                    Request::WriteBytes(sector, bytes, false),
                    Owner::Plan(disk),
                );
            }
            if self.plan().pending > 0 {
                let disks = self.plan().touched.clone();
                self.tell(|_| {
                    format!("   metadata is being written to disks {disks:?} of the set")
                });
                return;
            }
        }
    }

    /// A write or flush of the plan is back.
    pub fn plan_io_done(&mut self, disk: DiskIndex, result: Result<(), IoError>) {
        let plan = self.plan();
        plan.pending -= 1;
        let is_flush = plan.flushing;
        if result.is_err() {
            plan.failed.insert(disk);
        } else if is_flush {
            plan.written.insert(disk);
            let next = plan.phase.saturating_add(1);
            if !self.has(Mistake::PlanBegunAnew) {
                self.worker.due.insert(disk, next);
            }
        }
        let plan = self.plan();
        let pending = plan.pending;
        let device = self.devices.get(usize::from(disk)).copied().flatten();
        let plan = self.plan();
        // The others do not get ahead of who is needed; an error may pass.
        let is_waited_for = plan.needed.contains(&disk) && plan.tries < INSISTENCE;
        match (device, result) {
            (Some(_), Err(IoError::Medium)) if is_waited_for => {}
            (Some(device), Err(_)) => {
                if self.untaken.insert(device) {
                    self.plan().behind.insert(device);
                }
            }
            (Some(device), Ok(())) if is_flush && !self.plan().failed.contains(&disk) => {
                self.untaken.remove(&device);
                self.overtaken.remove(&device);
            }
            _ => {}
        }
        let plan = self.plan();
        if pending > 0 {
            return;
        }
        if plan.flushing {
            return self.next_phase();
        }
        plan.flushing = true;
        let touched = std::mem::take(&mut plan.touched);
        let failed = plan.failed.clone();
        for disk in touched.difference(&failed) {
            if let Some(device) = self.devices.get(usize::from(*disk)).copied().flatten() {
                self.plan().pending += 1;
                self.send_flush(device, Owner::Plan(*disk));
            }
        }
        if self.plan().pending == 0 {
            self.next_phase();
        }
    }

    /// The disks in no slot that the plan that is being carried out was sent to.
    pub fn spares_written_to(&self) -> Vec<usize> {
        let is_at_work = matches!(self.worker.stage, Some(Stage::Plan(_)));
        let reached = self.worker.reached.keys().filter(|_| is_at_work);
        let devices = reached.filter_map(|&disk| *self.devices.get(usize::from(disk))?);
        let has_place = |&disk: &usize| self.places.iter().flatten().any(|place| place.0 == disk);
        devices.filter(|disk| !has_place(disk)).collect()
    }

    /// `write_out`: a disk that did not take its metadata is recorded as lost, if that is borne.
    pub(super) fn plan_done(&mut self) {
        let plan = std::mem::take(self.plan());
        self.worker.stage = None;
        if plan.stuck {
            self.tell(|_| "   who is needed did not take it: once more".into());
            if plan.tries + 1 == INSISTENCE {
                let furthest = self.worker.reached.values().copied().max();
                if let (Some(set), Some(phase)) = (&mut self.set, furthest) {
                    if set.leave_behind(phase) {
                        self.worker.due.clear();
                    }
                }
            }
            return self.begin_plan(Plan {
                behind: plan.behind,
                strict: plan.strict,
                handled: plan.handled,
                overdue: plan.overdue,
                tries: plan.tries + 1,
                catching_up: plan.catching_up,
                ..Plan::default()
            });
        }
        let written: Vec<_> = plan.written.difference(&plan.failed).collect();
        let is_kept = written.iter().any(|disk| !plan.gone.contains(disk));
        if !plan.failed.is_empty() && !is_kept && self.fresh_members().is_empty() {
            // Nobody has it, so nobody can call the others old.
            self.untaken.retain(|disk| !plan.behind.contains(disk));
        }
        if !plan.failed.is_empty() && written.is_empty() {
            if !self.has(Mistake::UnwrittenCounts) {
                self.worker.unwritten = Some(self.worker.unwritten.map_or(0, |tries| tries + 1));
            }
            if self.arr_is_broken() {
                self.fail_writes();
            }
            if plan.strict {
                return self.abort();
            }
            if plan.catching_up {
                // What was to be recorded after it is not.
                self.worker.steps.pop_front();
            }
            return self.next_step();
        }
        self.worker.unwritten = None;
        let generation = self.set.as_ref().map_or(0, |set| set.set().generation);
        if is_kept && generation > self.read_generation {
            // What the others have now is as new.
            self.ahead.clear();
        }
        for &disk in plan.failed.intersection(&plan.needed) {
            let device = self.devices.get(usize::from(disk)).copied().flatten();
            self.overtaken.extend(device.filter(|_| is_kept));
        }
        for &disk in &plan.failed {
            if let Some(set) = &mut self.set {
                let phase = self.worker.reached.get(&disk);
                set.missed(disk, phase.copied().unwrap_or(u16::MAX));
            }
        }
        let mut handled = plan.handled;
        let overdue: BTreeSet<_> = plan.overdue.union(&plan.failed).copied().collect();
        for &disk in &overdue {
            if !handled.insert(disk) || !self.bears_loss(disk) {
                continue;
            }
            self.fail_on_array(disk);
            let event = self.loss_event(disk);
            self.tell(|_| format!("   disk {disk} does not take its metadata"));
            if self.apply(&event).is_ok() {
                return self.begin_plan(Plan {
                    strict: plan.strict,
                    handled,
                    overdue,
                    catching_up: plan.catching_up,
                    ..Plan::default()
                });
            }
        }
        self.next_step();
    }

    /// True when something is on the way.
    pub(super) fn flush_disks(&mut self) -> bool {
        let mut seats = self.usable_members();
        for slot in 0..self.geometry.members() {
            if let Some(MemberState::Rebuilding { .. }) = self.member_state(slot) {
                seats = seats.with(slot);
            }
        }
        let mut pending = 0;
        for slot in seats.iter() {
            let disk = self
                .disk_in(slot)
                .and_then(|disk| *self.devices.get(usize::from(disk))?)
                .filter(|&disk| self.disks[disk].answers());
            if let Some(disk) = disk {
                pending += 1;
                self.send_flush(disk, Owner::MemberFlush(slot));
            }
        }
        if pending > 0 {
            self.flush_sent(pending, false);
        }
        pending > 0
    }

    fn flush_sent(&mut self, pending: u32, alone: bool) {
        self.worker.stage = Some(Stage::Flush {
            pending,
            failed: Mask::EMPTY,
            alone,
        });
    }

    /// True when it is on the way.
    pub(super) fn flush_member(&mut self, slot: Slot) -> bool {
        let disk = self
            .disk_in(slot)
            .and_then(|disk| *self.devices.get(usize::from(disk))?);
        if let Some(disk) = disk {
            self.send_flush(disk, Owner::MemberFlush(slot));
            self.flush_sent(1, true);
        }
        disk.is_some()
    }

    /// True when something is on the way. `only` some members; all that are attached.
    pub(super) fn flush_members(&mut self, only: Option<Mask>) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        let slots = only.unwrap_or(array.attached);
        let mut pending = 0;
        for slot in slots.iter() {
            let disk = self
                .disk_in(slot)
                .and_then(|disk| *self.devices.get(usize::from(disk))?);
            if let Some(disk) = disk {
                pending += 1;
                self.send_flush(disk, Owner::MemberFlush(slot));
            }
        }
        if pending > 0 {
            self.flush_sent(pending, false);
        }
        pending > 0
    }

    /// A flush of a member is back.
    pub fn member_flush_done(&mut self, slot: Slot, result: Result<(), IoError>) {
        let Some(Stage::Flush {
            pending,
            failed,
            alone,
        }) = &mut self.worker.stage
        else {
            return;
        };
        *pending -= 1;
        if result.is_err() {
            *failed = failed.with(slot);
        }
        if *pending > 0 {
            return;
        }
        let (failed, alone) = (*failed, *alone);
        self.worker.stage = None;
        if self.array.is_none() {
            // The start comes to grief, and is tried again.
            if !failed.is_empty() {
                self.worker.steps.push_front(Step::FlushDisks);
            }
            return self.next_step();
        }
        for slot in failed.iter() {
            self.drop_member(slot);
        }
        match failed.is_empty() {
            true => self.next_step(),
            false if alone => {
                self.member_not_flushed(failed);
                self.next_step();
            }
            false => self.abort(),
        }
    }

    /// Of `note_bad`: what was written to one of `slots` does not count there. The others have it, or nobody.
    pub(super) fn member_not_flushed(&mut self, slots: Mask) {
        // It is not recorded.
        self.worker.steps.pop_front();
        let array = self.arr();
        if !slots.intersect(array.writable).is_empty() || array.broken {
            self.worker.steps.pop_front();
            self.bad_change_failed();
        }
    }
}
