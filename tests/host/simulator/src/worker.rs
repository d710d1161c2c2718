// SPDX-License-Identifier: GPL-2.0

//! The set's worker: `recorder.rs`, `record.rs` and `keeper.rs`, as a machine whose every write is
//! I/O of the scheduler.
//!
//! In the kernel recorder and keeper are two threads under one lock, which each holds while it
//! records; so they are one here. It does one activity at a time: a few steps, each of which may wait
//! for I/O.

use crate::array::{Dirty, Task};
use crate::disk::IoError;
use crate::mistake::Mistake;
use crate::setup;
use crate::sim::{Owner, Request, Sim};
use emd_core::model::{
    Consistency, DiskIndex, DiskOffer, DiskRole, DiskState, Event, MemberState, Slot, SpareRole,
    VolumeIndex,
};
use emd_core::personalities::rebuild::{Late, Pass};
use emd_core::personalities::walk::Walk;
use emd_core::personalities::window::Window;
use emd_core::personalities::{Health, Mask};
use emd_core::uapi::TaskKind;
use std::collections::{BTreeSet, VecDeque};

/// A step of an activity.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Carry the last plan out once more.
    WriteAgain,
    /// Flush all members; the end of the activity when one fails.
    FlushMembers,
    /// Record an event; the end of the activity when that cannot be.
    Record(Event<'static>),
    /// Record an event if that can be.
    TryRecord(Event<'static>),
    /// Close the gate and wait until nobody is inside; the end of the activity when failures have to
    /// be recorded first. The gate is open again after the next step.
    Drain,
    /// Do something at once.
    Do(Action),
}

/// What is done at once.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// `failures_recorded`.
    FailuresRecorded(Slot),
    /// `dirty_recorded`.
    DirtyRecorded,
    /// The way to clean begins.
    Cleaning,
    /// `clean_recorded`.
    CleanRecorded,
    /// A rebuild is recorded as done: of whom, and who has a second pass before them.
    Rebuilt(Mask, Late),
    /// A resync is.
    Resynced,
    /// A member that is lost leaves the table.
    Detach(Slot),
    /// A disk that is gone is given up.
    Release(DiskIndex),
    /// A disk that came back may take its place.
    Returned(DiskIndex),
    /// A lost member's place cannot be taken by this disk.
    NoSpare(Slot, DiskIndex),
    /// A member that is to be rebuilt enters the table.
    Attach(Slot),
    /// A task starts.
    StartTask(TaskKind, Pass),
    /// A rebuild ends so that another member may join.
    LetJoin,
    /// What the log says is put right.
    ReplayHole,
    /// The volume starts.
    StartArray,
}

/// What is being waited for.
#[derive(Clone, Debug)]
enum Stage {
    Plan(Plan),
    Flush { pending: u32, failed: Mask },
    Drain,
}

/// A plan being carried out.
#[derive(Clone, Debug, Default)]
struct Plan {
    phases: VecDeque<Vec<(DiskIndex, u64, Vec<u8>)>>,
    pending: u32,
    flushing: bool,
    touched: BTreeSet<DiskIndex>,
    written: BTreeSet<DiskIndex>,
    failed: BTreeSet<DiskIndex>,
    handled: BTreeSet<DiskIndex>,
    strict: bool,
}

/// The worker.
#[derive(Debug)]
pub struct Worker {
    steps: VecDeque<Step>,
    on_error: Action,
    stage: Option<Stage>,
    gone: VecDeque<usize>,
    here: VecDeque<usize>,
    blank: VecDeque<usize>,
    returned: BTreeSet<DiskIndex>,
    told_gone: BTreeSet<DiskIndex>,
    unfit: BTreeSet<(Slot, DiskIndex)>,
    check: Option<bool>,
    /// Tasks that came to grief. The kernel tries again every few seconds, for ever.
    griefs: u32,
    /// What is known in memory is on no disk; so often that was tried again.
    unwritten: Option<u32>,
}

/// So often a plan that no disk takes is tried again here.
const UNWRITTEN_TRIES: u32 = 3;

/// So often a task that cannot get to its end is tried here.
const GRIEFS_MAX: u32 = 6;

impl Default for Worker {
    fn default() -> Self {
        Self {
            steps: VecDeque::new(),
            on_error: Action::Nothing,
            stage: None,
            gone: VecDeque::new(),
            here: VecDeque::new(),
            blank: VecDeque::new(),
            returned: BTreeSet::new(),
            told_gone: BTreeSet::new(),
            unfit: BTreeSet::new(),
            check: None,
            griefs: 0,
            unwritten: None,
        }
    }
}

impl Worker {
    /// A disk was unplugged.
    pub fn note_gone(&mut self, disk: usize) {
        self.gone.push_back(disk);
    }

    /// One is plugged in again.
    pub fn note_here(&mut self, disk: usize) {
        self.here.push_back(disk);
    }

    /// A new one.
    pub fn note_blank(&mut self, disk: usize) {
        self.blank.push_back(disk);
    }

    /// Whether an activity is under way.
    pub fn is_busy(&self) -> bool {
        self.stage.is_some() || !self.steps.is_empty()
    }

    /// Whether memory knows something that no disk takes.
    pub fn is_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Begins an activity.
    pub fn begin(&mut self, steps: impl IntoIterator<Item = Step>, on_error: Action) {
        self.steps = steps.into_iter().collect();
        self.on_error = on_error;
    }
}

/// An activity: its steps, and what is done when it comes to grief.
type Activity = (Vec<Step>, Action);

const VOLUME: VolumeIndex = 0;

impl Sim {
    /// Whether the worker could do something now.
    pub fn worker_can_go(&self) -> bool {
        match &self.worker.stage {
            Some(Stage::Plan(_) | Stage::Flush { .. }) => false,
            Some(Stage::Drain) => self
                .array
                .as_ref()
                .is_some_and(|array| array.inside == 0 || !array.unrecorded.is_empty()),
            None if !self.worker.steps.is_empty() => true,
            None => self.worker_has_news() || self.next_activity().is_some(),
        }
    }

    /// Whether disks went or came that it has not looked at.
    pub fn worker_has_news(&self) -> bool {
        let worker = &self.worker;
        self.set.is_some()
            && !(worker.gone.is_empty() && worker.here.is_empty() && worker.blank.is_empty())
    }

    /// The worker's turn.
    pub fn worker_go(&mut self) {
        match &self.worker.stage {
            Some(Stage::Drain) => {
                self.worker.stage = None;
                if self.arr().inside > 0 {
                    self.open_gate();
                    return self.abort();
                }
                return self.next_step();
            }
            Some(_) => return,
            None => {}
        }
        if self.worker.steps.is_empty() && !self.take_news() {
            let Some((steps, on_error)) = self.next_activity() else {
                return;
            };
            self.tell(|_| format!("   worker: {steps:?}"));
            if matches!(steps.first(), Some(Step::Do(Action::StartTask(..)))) {
                self.worker.check = None;
            }
            self.take_finished(&steps);
            self.worker.begin(steps, on_error);
        }
        self.next_step();
    }

    /// Goes on with the activity until it waits for something.
    fn next_step(&mut self) {
        while let Some(step) = self.worker.steps.pop_front() {
            match step {
                Step::WriteAgain => return self.carry_out(true, BTreeSet::new()),
                Step::FlushMembers => {
                    if self.flush_members() {
                        return;
                    }
                }
                Step::Record(event) | Step::TryRecord(event) => {
                    let strict = matches!(step, Step::Record(_));
                    match self.apply(&event) {
                        Ok(()) => return self.carry_out(strict, BTreeSet::new()),
                        Err(why) => {
                            self.tell(|_| format!("   {event:?} is refused: {why}"));
                            if strict {
                                return self.abort();
                            }
                        }
                    }
                }
                Step::Drain => {
                    self.arr().gate_closed = true;
                    self.worker.stage = Some(Stage::Drain);
                    return;
                }
                Step::Do(action) => {
                    self.act(action);
                    if self.array.as_ref().is_some_and(|array| array.gate_closed) {
                        self.open_gate();
                    }
                }
            }
            if self.report.violation.is_some() {
                return;
            }
        }
    }

    fn abort(&mut self) {
        self.worker.steps.clear();
        let action = std::mem::replace(&mut self.worker.on_error, Action::Nothing);
        self.act(action);
        if self.array.as_ref().is_some_and(|array| array.gate_closed) {
            self.open_gate();
        }
    }

    // Recording (`record.rs`).

    fn apply(&mut self, event: &Event<'_>) -> Result<(), String> {
        self.events += 1;
        let context = setup::context(self.events);
        let set = self.set.as_mut().ok_or("no set")?;
        set.apply(event, &context).map_err(|why| why.to_string())
    }

    fn carry_out(&mut self, strict: bool, handled: BTreeSet<DiskIndex>) {
        let Some(set) = &self.set else { return };
        let mut plan = Plan {
            strict,
            handled,
            ..Plan::default()
        };
        let mut last = None;
        let reordered = self.has(Mistake::PhasesReordered);
        for write in set.plan().writes() {
            if last != Some(write.phase) && !(reordered && last.is_some()) {
                plan.phases.push_back(Vec::new());
            }
            last = Some(write.phase);
            let bytes = set.bytes(&write.source).to_vec();
            if let Some(phase) = plan.phases.back_mut() {
                phase.push((write.disk, write.sector, bytes));
            }
        }
        self.worker.stage = Some(Stage::Plan(plan));
        self.next_phase();
    }

    fn plan(&mut self) -> &mut Plan {
        match &mut self.worker.stage {
            Some(Stage::Plan(plan)) => plan,
            _ => unreachable!("a plan is being carried out"),
        }
    }

    fn next_phase(&mut self) {
        loop {
            let plan = self.plan();
            plan.flushing = false;
            let Some(writes) = plan.phases.pop_front() else {
                return self.plan_done();
            };
            let failed = plan.failed.clone();
            for (disk, sector, bytes) in writes {
                let device = self.devices.get(usize::from(disk)).copied().flatten();
                let Some(device) = device.filter(|_| !failed.contains(&disk)) else {
                    continue;
                };
                let plan = self.plan();
                plan.pending += 1;
                plan.touched.insert(disk);
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
        }
        let pending = plan.pending;
        let device = self.devices.get(usize::from(disk)).copied().flatten();
        match (device, result) {
            (Some(device), Err(_)) => {
                self.untaken.insert(device);
            }
            (Some(device), Ok(())) if is_flush && !self.plan().failed.contains(&disk) => {
                self.untaken.remove(&device);
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

    /// `write_out`: a disk that did not take its metadata is recorded as lost, if that is borne.
    fn plan_done(&mut self) {
        let plan = std::mem::take(self.plan());
        self.worker.stage = None;
        let written: Vec<_> = plan.written.difference(&plan.failed).collect();
        if !plan.failed.is_empty() && written.is_empty() {
            if !self.has(Mistake::UnwrittenCounts) {
                self.worker.unwritten = Some(self.worker.unwritten.map_or(0, |tries| tries + 1));
            }
            if plan.strict {
                return self.abort();
            }
            return self.next_step();
        }
        self.worker.unwritten = None;
        for &disk in &plan.failed {
            if let Some(set) = &mut self.set {
                set.missed(disk);
            }
        }
        let mut handled = plan.handled;
        for disk in plan.failed {
            if !handled.insert(disk) || !self.bears_loss(disk) {
                continue;
            }
            self.fail_on_array(disk);
            let event = self.loss_event(disk);
            self.tell(|_| format!("   disk {disk} does not take its metadata"));
            if self.apply(&event).is_ok() {
                return self.carry_out(plan.strict, handled);
            }
        }
        self.next_step();
    }

    /// True when something is on the way.
    fn flush_members(&mut self) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        let mut pending = 0;
        for slot in array.attached.iter() {
            let disk = self
                .disk_in(slot)
                .and_then(|disk| *self.devices.get(usize::from(disk))?);
            if let Some(disk) = disk {
                pending += 1;
                self.send_flush(disk, Owner::MemberFlush(slot));
            }
        }
        if pending > 0 {
            let failed = Mask::EMPTY;
            self.worker.stage = Some(Stage::Flush { pending, failed });
        }
        pending > 0
    }

    /// A flush of a member is back.
    pub fn member_flush_done(&mut self, slot: Slot, result: Result<(), IoError>) {
        let Some(Stage::Flush { pending, failed }) = &mut self.worker.stage else {
            return;
        };
        *pending -= 1;
        if result.is_err() {
            *failed = failed.with(slot);
        }
        if *pending > 0 {
            return;
        }
        let failed = *failed;
        self.worker.stage = None;
        for slot in failed.iter() {
            self.drop_member(slot);
        }
        if failed.is_empty() {
            self.next_step();
        } else {
            self.abort();
        }
    }

    // Looking at the model (`state.rs`).

    fn volume(&self) -> Option<&emd_core::model::Volume> {
        self.set.as_ref()?.set().volume(VOLUME)
    }

    /// The disk in a slot.
    pub fn disk_in(&self, slot: Slot) -> Option<DiskIndex> {
        self.volume()?.members.get(usize::from(slot))?.disk
    }

    fn member_state(&self, slot: Slot) -> Option<MemberState> {
        Some(self.volume()?.members.get(usize::from(slot))?.state)
    }

    /// Members in sync as the model has them, less those on a disk.
    pub fn model_in_sync(&self, without: Option<DiskIndex>) -> Mask {
        let mut mask = Mask::EMPTY;
        let Some(volume) = self.volume() else {
            return mask;
        };
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let lost = without.is_some() && member.disk == without;
            if member.state == MemberState::InSync && !lost {
                mask = mask.with(slot);
            }
        }
        mask
    }

    fn bears_loss(&self, disk: DiskIndex) -> bool {
        let Some(set) = &self.set else { return false };
        let mut is_member = false;
        for (_, _, member) in set.set().memberships(disk) {
            match member.state {
                MemberState::Failed | MemberState::Missing => continue,
                MemberState::Rebuilding { .. } => return true,
                MemberState::InSync => is_member = true,
            }
            let array = self.array.as_ref();
            let unrecorded = array.map_or(Mask::EMPTY, |array| array.unrecorded);
            let left = unrecorded
                .iter()
                .fold(self.model_in_sync(Some(disk)), Mask::without);
            if self.is_redundant() && self.health(left) != Health::Failed {
                return true;
            }
        }
        !is_member
    }

    fn is_unplugged(&self, disk: DiskIndex) -> bool {
        let device = self.devices.get(usize::from(disk)).copied().flatten();
        device.is_none_or(|device| !self.disks[device].present)
    }

    fn loss_event(&self, disk: DiskIndex) -> Event<'static> {
        if self.is_unplugged(disk) {
            Event::DiskMissing(disk)
        } else {
            Event::DiskFailed(disk)
        }
    }

    fn fail_on_array(&mut self, disk: DiskIndex) {
        let Some(set) = &self.set else { return };
        let slots: Vec<Slot> = set
            .set()
            .memberships(disk)
            .map(|(_, slot, _)| slot)
            .collect();
        for slot in slots {
            if self
                .array
                .as_ref()
                .is_some_and(|array| array.attached.contains(slot))
            {
                self.drop_member(slot);
            }
        }
    }

    fn is_online(&self, disk: DiskIndex) -> bool {
        let here = self
            .devices
            .get(usize::from(disk))
            .copied()
            .flatten()
            .is_some();
        let state = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk(disk))
            .map(|disk| disk.state);
        here && state == Some(DiskState::Online)
    }

    fn is_attached(&self, disk: DiskIndex) -> bool {
        let (Some(set), Some(array)) = (&self.set, &self.array) else {
            return false;
        };
        let mut places = set.set().memberships(disk);
        places.any(|(_, slot, _)| array.attached.contains(slot))
    }

    // What is due.

    /// Disks that came or went.
    fn take_news(&mut self) -> bool {
        if self.set.is_none() {
            return false;
        }
        if let Some(disk) = self.worker.gone.pop_front() {
            let index = self.devices.iter().position(|device| *device == Some(disk));
            if let Some(index) = index {
                self.fail_on_array(index as DiskIndex);
                return self.record_gone(index as DiskIndex);
            }
            return false;
        }
        if let Some(disk) = self.worker.here.pop_front() {
            return self.take_back(disk);
        }
        if let Some(disk) = self.worker.blank.pop_front() {
            let offer = DiskOffer {
                facts: setup::facts(disk),
                role: SpareRole::Global,
            };
            return self.record_with(Event::DiskAdded(offer), disk, None);
        }
        false
    }

    fn record_gone(&mut self, disk: DiskIndex) -> bool {
        self.worker.returned.remove(&disk);
        let state = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk(disk))
            .map(|disk| disk.state);
        if state.is_none_or(|state| state == DiskState::Missing)
            || self.worker.told_gone.contains(&disk)
        {
            return false;
        }
        if !self.bears_loss(disk) {
            self.worker.told_gone.insert(disk);
            return false;
        }
        let event = Event::DiskMissing(disk);
        self.worker.begin([Step::TryRecord(event)], Action::Nothing);
        true
    }

    /// `ManagedSet::take_back`.
    fn take_back(&mut self, disk: usize) -> bool {
        let format = setup::format_of(&self.history.config);
        if self.devices.contains(&Some(disk)) || !self.disks[disk].answers() {
            return false;
        }
        let Ok(Some(image)) = setup::probe(format, &self.disks[disk], disk, &self.regions) else {
            return false;
        };
        let Ok(alone) = format.assemble(&[&image]) else {
            return false;
        };
        let index = alone.set().disk_by_key(disk as u64);
        let Some(label) = index
            .and_then(|index| alone.set().disk(index))
            .map(|disk| disk.label)
        else {
            return false;
        };
        let Some(set) = &self.set else { return false };
        let same = set.set().live_disks().find(|(_, disk)| disk.label == label);
        let Some((index, state)) = same.map(|(index, disk)| (index, disk.state)) else {
            return false;
        };
        let taken = self
            .devices
            .get(usize::from(index))
            .copied()
            .flatten()
            .is_some();
        if taken || state == DiskState::Failed {
            return false;
        }
        let event = Event::DiskReturned(index, setup::facts(disk));
        self.record_with(event, disk, Some(index))
    }

    /// `Inner::record_with`.
    fn record_with(
        &mut self,
        event: Event<'static>,
        disk: usize,
        returned: Option<DiskIndex>,
    ) -> bool {
        if let Err(why) = self.apply(&event) {
            self.tell(|_| format!("   {event:?} is refused: {why}"));
            return false;
        }
        let index = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk_by_key(disk as u64));
        let Some(index) = index else {
            self.violate(
                "formats keep to their contract",
                format!("{event:?}: the disk is not in the set"),
            );
            return false;
        };
        let index = usize::from(index);
        if self.devices.len() <= index {
            self.devices.resize(index + 1, None);
        }
        self.devices[index] = Some(disk);
        self.worker.unfit.clear();
        let after = returned.map_or(Action::Nothing, Action::Returned);
        self.worker.begin([Step::Do(after)], Action::Nothing);
        self.carry_out(true, BTreeSet::new());
        true
    }

    /// A person wants a check.
    pub fn ask_check(&mut self, fix: bool) {
        self.worker.check = Some(fix);
    }

    /// What `look` or `keep` would do next.
    fn next_activity(&self) -> Option<Activity> {
        self.set.as_ref()?;
        let array = self.array.as_ref()?;
        if let Some(tries) = self.worker.unwritten {
            let due = tries < UNWRITTEN_TRIES && self.now % 32 == 0;
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
                if marked && !self.has(Mistake::MarkKeptWhileDirty) {
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
        if let Some(end) = array.finished_task {
            return Some(self.record_end(&end));
        }
        self.checkpoint()
            .or_else(|| self.clean())
            .or_else(|| self.keep())
    }

    fn record_failure(&self, slot: Slot) -> Activity {
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
    fn record_end(&self, end: &crate::array::TaskEnd) -> Activity {
        let mut steps = Vec::new();
        if !end.completed {
            steps.extend(self.progress(end.kind, end.pass.marked, end.done_sectors));
            return (steps, Action::Nothing);
        }
        let flushed = !self.has(Mistake::RebuiltWithoutFlush);
        let array = self
            .array
            .as_ref()
            .map(|array| (array.needs_resync, array.broken, array.unrecorded));
        let (needs_resync, broken, unrecorded) = array.unwrap_or((false, true, Mask::EMPTY));
        match end.kind {
            TaskKind::Rebuild => {
                if flushed {
                    steps.push(Step::FlushMembers);
                }
                let mut rebuilt = Mask::EMPTY;
                for slot in end.pass.marked.minus(unrecorded).iter() {
                    if matches!(
                        self.member_state(slot),
                        Some(MemberState::Rebuilding { .. })
                    ) {
                        steps.push(Step::Record(Event::RebuildDone {
                            volume: VOLUME,
                            slot,
                        }));
                        rebuilt = rebuilt.with(slot);
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
        (steps, Action::Nothing)
    }

    /// The end of a task is taken note of as soon as its activity begins.
    fn take_finished(&mut self, steps: &[Step]) {
        let failing = matches!(
            steps.first(),
            Some(Step::Record(Event::DiskFailed(_) | Event::DiskMissing(_)))
        );
        let Some(array) = self.array.as_mut() else {
            return;
        };
        if array.unrecorded.is_empty() && array.dirty != Dirty::Wanted && !failing {
            let end = array.finished_task.take();
            self.worker.griefs += u32::from(end.is_some_and(|end| !end.completed && !end.joined));
        }
    }

    fn progress(&self, kind: TaskKind, marked: Mask, done_sectors: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(array) = self.array.as_ref().filter(|_| done_sectors > 0) else {
            return steps;
        };
        match kind {
            TaskKind::Rebuild => {
                for slot in array.attached.intersect(marked).iter() {
                    if let Some(MemberState::Rebuilding {
                        done_sectors: before,
                    }) = self.member_state(slot)
                    {
                        if before < done_sectors {
                            let event = Event::RebuildProgress {
                                volume: VOLUME,
                                slot,
                                done_sectors,
                            };
                            steps.push(Step::TryRecord(event));
                        }
                    }
                }
            }
            TaskKind::Initialise
                if array.needs_resync
                    && (array.dirty == Dirty::Clean || self.has(Mistake::MarkKeptWhileDirty)) =>
            {
                let event = Event::ResyncProgress {
                    volume: VOLUME,
                    done_sectors,
                };
                steps.push(Step::TryRecord(event));
            }
            _ => {}
        }
        if !steps.is_empty() && !self.has(Mistake::CheckpointWithoutFlush) {
            steps.insert(0, Step::FlushMembers);
        }
        steps
    }

    fn checkpoint(&self) -> Option<Activity> {
        let task = self.array.as_ref()?.task.as_ref()?;
        let kept = setup::format_of(&self.history.config)
            .capabilities()
            .checkpoints;
        if !kept || self.now % 16 != 1 {
            return None;
        }
        let ahead = if self.has(Mistake::MarkAheadOfData) {
            task.window.flying()
        } else {
            0
        };
        let done = task.walk.mark(task.window.base() + ahead);
        let steps = self.progress(task.kind, task.pass.marked, done);
        (!steps.is_empty()).then_some((steps, Action::Nothing))
    }

    fn clean(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        let at_end = self.at >= self.history.ops.len();
        let is_quiet = self.users_are_idle() && (self.quiet || self.settling || at_end);
        let due = is_quiet || self.now % 64 == 0;
        if !due
            || !self.is_redundant()
            || array.dirty != Dirty::Dirty
            || array.needs_resync
            || array.broken
        {
            return None;
        }
        let mut steps = Vec::new();
        if !self.has(Mistake::CleanBeforeLastWrite) {
            steps.push(Step::Drain);
        }
        steps.push(Step::Do(Action::Cleaning));
        if !self.has(Mistake::CleanWithoutFlush) {
            steps.push(Step::FlushMembers);
        }
        steps.push(Step::Record(Event::Clean(VOLUME)));
        steps.push(Step::Do(Action::CleanRecorded));
        Some((steps, Action::CleanRecorded))
    }

    /// What the keeper would do next.
    fn keep(&self) -> Option<Activity> {
        let (set, array) = (self.set.as_ref()?, self.array.as_ref()?);
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
        for (index, disk) in set.set().live_disks() {
            let device = self.devices.get(usize::from(index)).copied().flatten();
            if device.is_some() && self.is_unplugged(index) && !self.is_attached(index) {
                return Some((vec![Step::Do(Action::Release(index))], Action::Nothing));
            }
            if let (Some(_), DiskState::Stale, Some(facts)) = (device, disk.state, disk.facts) {
                if self.worker.unfit.contains(&(Slot::MAX, index)) {
                    continue;
                }
                let steps = vec![
                    Step::Record(Event::DiskReturned(index, facts)),
                    Step::Do(Action::Returned(index)),
                ];
                return Some((steps, Action::NoSpare(Slot::MAX, index)));
            }
        }
        self.spare_activity()
            .or_else(|| self.attach_activity())
            .or_else(|| self.task_activity())
    }

    fn spare_activity(&self) -> Option<Activity> {
        let (set, array) = (self.set.as_ref()?, self.array.as_ref()?);
        if array.broken
            || !self.is_redundant()
            || self.health(self.model_in_sync(None)) == Health::Failed
        {
            return None;
        }
        let volume = self.volume()?;
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let lost = matches!(member.state, MemberState::Failed | MemberState::Missing);
            if !lost || array.attached.contains(slot) {
                continue;
            }
            for rank in 0..3 {
                for (index, disk) in set.set().live_disks() {
                    let own = if self.worker.returned.contains(&index) {
                        0
                    } else {
                        match disk.role {
                            DiskRole::DedicatedSpare(VOLUME) => 1,
                            DiskRole::GlobalSpare => 2,
                            _ => continue,
                        }
                    };
                    let unfit = self.worker.unfit.contains(&(slot, index));
                    if own != rank || unfit || !self.is_online(index) || self.is_unplugged(index) {
                        continue;
                    }
                    let event = Event::SpareActivated {
                        volume: VOLUME,
                        slot,
                        disk: index,
                    };
                    return Some((vec![Step::Record(event)], Action::NoSpare(slot, index)));
                }
            }
        }
        None
    }

    fn attach_activity(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        if array.broken {
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
                Some(task) if task.kind == TaskKind::Rebuild => {
                    if task.joined || !task.pass.may_be_joined() {
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

    fn task_activity(&self) -> Option<Activity> {
        let array = self.array.as_ref()?;
        if array.task.is_some()
            || array.finished_task.is_some()
            || array.broken
            || !self.is_redundant()
        {
            return None;
        }
        if self.worker.griefs >= GRIEFS_MAX {
            return None;
        }
        let (kind, pass) = match self.task_needed() {
            Some(needed) => needed,
            None => {
                let dirty = self.volume()?.consistency == Consistency::Dirty;
                let in_sync = self.model_in_sync(None);
                let alone =
                    !self.geometry.can_compare(in_sync) && self.health(in_sync) != Health::Failed;
                if array.needs_resync && dirty && alone {
                    let steps = vec![
                        Step::Record(Event::ResyncDone(VOLUME)),
                        Step::Do(Action::Resynced),
                    ];
                    return Some((steps, Action::Nothing));
                }
                let fix = self.worker.check.filter(|_| self.can_compare())?;
                let kind = if fix {
                    TaskKind::Repair
                } else {
                    TaskKind::Check
                };
                (kind, Pass::sync(0))
            }
        };
        let mut steps = Vec::new();
        if self.is_copied() && !self.has(Mistake::TaskWithoutDrain) {
            steps.push(Step::Drain);
        }
        steps.push(Step::Do(Action::StartTask(kind, pass)));
        Some((steps, Action::Nothing))
    }

    fn can_compare(&self) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        self.geometry.can_compare(array.readable)
    }

    /// `Inner::task_needed`.
    fn task_needed(&self) -> Option<(TaskKind, Pass)> {
        let array = self.array.as_ref()?;
        let volume = self.volume()?;
        let members = (0u16..).zip(volume.members.iter());
        let rebuilding = members.filter_map(|(slot, member)| match member.state {
            MemberState::Rebuilding { done_sectors }
                if array.attached.contains(slot) && array.writable.contains(slot) =>
            {
                Some((slot, done_sectors))
            }
            _ => None,
        });
        if let Some(pass) = Pass::next(rebuilding, array.late) {
            return Some((TaskKind::Rebuild, pass));
        }
        let in_sync = self.model_in_sync(None);
        if !array.needs_resync || !self.geometry.can_compare(in_sync) || !self.can_compare() {
            return None;
        }
        let kind = match volume.consistency {
            Consistency::Initialising { .. } => TaskKind::Initialise,
            _ => TaskKind::Resync,
        };
        Some((kind, Pass::sync(array.resync_from)))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Nothing => {}
            Action::FailuresRecorded(slot) => self.failures_recorded(Mask::single(slot)),
            Action::DirtyRecorded => self.dirty_recorded(),
            Action::Cleaning => self.arr().dirty = Dirty::Cleaning,
            Action::CleanRecorded => {
                if self
                    .array
                    .as_ref()
                    .is_some_and(|array| array.dirty == Dirty::Cleaning)
                {
                    self.clean_recorded();
                }
            }
            Action::Rebuilt(targets, late) => {
                let array = self.arr();
                let present = targets.intersect(array.writable);
                array.readable = array.readable.union(present);
                array.rebuilt.forget(targets);
                array.late = late;
                if !array.needs_resync {
                    array.unsynced_from = u64::MAX;
                }
            }
            Action::Resynced => {
                let array = self.arr();
                array.needs_resync = false;
                array.resync_from = 0;
                array.unsynced_from = u64::MAX;
                self.torn.clear();
                self.virgin.clear();
            }
            Action::Detach(slot) => {
                let array = self.arr();
                array.table[usize::from(slot)] = None;
                array.attached = array.attached.without(slot);
                array.late.forget(slot);
                self.worker.unfit.clear();
            }
            Action::Release(disk) => {
                let _ = self.record_gone(disk);
                if let Some(place) = self.devices.get_mut(usize::from(disk)) {
                    *place = None;
                }
            }
            Action::Returned(disk) => {
                self.worker.returned.insert(disk);
            }
            Action::NoSpare(slot, disk) => {
                self.worker.unfit.insert((slot, disk));
            }
            Action::Attach(slot) => self.attach(slot),
            Action::StartTask(kind, pass) => self.start_task(kind, pass),
            Action::LetJoin => {
                if let Some(task) = &mut self.arr().task {
                    (task.cancelled, task.joined) = (true, true);
                }
            }
            Action::ReplayHole => {
                let usable = self.usable_members();
                self.replay_hole(usable);
            }
            Action::StartArray => self.start_array(),
        }
    }

    fn attach(&mut self, slot: Slot) {
        let Some(member) = self
            .volume()
            .and_then(|volume| volume.members.get(usize::from(slot)))
            .copied()
        else {
            return;
        };
        let disk = member
            .disk
            .and_then(|disk| *self.devices.get(usize::from(disk))?);
        let Some(disk) = disk else { return };
        self.hole_member_joins(slot, disk);
        let trusted = self.has(Mistake::SpareTrustedAtOnce);
        let array = self.arr();
        array.table[usize::from(slot)] = Some((disk, member.offset_sectors));
        array.rebuilt.forget(Mask::single(slot));
        array.writable = array.writable.with(slot);
        array.attached = array.attached.with(slot);
        if trusted {
            array.readable = array.readable.with(slot);
        }
        self.places[usize::from(slot)] = Some((disk, member.offset_sectors));
        if let Some(index) = member.disk {
            self.worker.returned.remove(&index);
        }
    }

    fn start_task(&mut self, kind: TaskKind, mut pass: Pass) {
        let walk = Walk::new(&self.geometry, pass.targets, self.lane_sectors());
        let end = walk.end(pass.until_sectors);
        let window = Window::new(walk.first(pass.from_sectors), end);
        let done = walk.mark(window.base());
        pass.from_sectors = done;
        let late = self.has(Mistake::LateTrusted);
        let array = self.arr();
        if matches!(kind, TaskKind::Initialise | TaskKind::Resync)
            && array.unsynced_from == u64::MAX
        {
            array.unsynced_from = pass.from_sectors;
        }
        let mut begun = pass;
        if late {
            begun.marked = pass.targets;
        }
        array.rebuilt.begin(&begun, done);
        array.task_active = true;
        array.task = Some(Task {
            kind,
            pass,
            in_sync: array.readable,
            walk,
            window,
            cancelled: false,
            joined: false,
        });
        self.worker.check = None;
    }
}
