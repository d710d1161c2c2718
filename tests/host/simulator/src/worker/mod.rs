// SPDX-License-Identifier: GPL-2.0

//! The set's worker: `recorder.rs`, `record.rs` and `keeper.rs`, as a machine whose every write is
//! I/O of the scheduler.
//!
//! In the kernel recorder and keeper are two threads under one lock, which each holds while it
//! records; so they are one here. It does one activity at a time: a few steps, each of which may wait
//! for I/O.

mod act;
mod arrival;
mod keeper;
mod members;
mod news;
mod record;
mod recorder;
mod standing;
mod state;

use crate::sim::Sim;
use emd_core::model::{DiskIndex, Event, Moves, Scrub, Slot, VolumeIndex};
use emd_core::personalities::rebuild::{Late, Pass};
use emd_core::personalities::task::order::Begin;
use emd_core::personalities::Mask;
use emd_core::uapi::TaskKind;
pub(crate) use members::Wish;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A step of an activity.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Carry the last plan out once more.
    WriteAgain,
    /// Flush all members; the end of the activity when one fails.
    FlushMembers,
    /// The same for some.
    FlushSlots(Mask),
    /// Flush one member for a bad range that was written; when it fails, that is not recorded.
    FlushMember(Slot),
    /// Flush the disks of the set before the volume runs; once more when one fails.
    FlushDisks,
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
    /// Regions that writes wait for are recorded.
    RecordRegions,
    /// `regions_recorded`: first, how many, whether it could be.
    RegionsRecorded(u32, u32, bool),
    /// `sweep_regions`.
    Sweep,
    /// `record_leaving`.
    RecordLeaving,
    /// `bad_change_recorded`, or `bad_change_unkept` where the format has no place for it.
    BadRecorded,
    /// `withhold`.
    Withhold(Slot),
    /// A member that was withheld is recorded as rebuilt.
    RebuiltAtLast(Slot),
    /// It was lost meanwhile.
    ForgetWithheld(Slot),
    /// `forget_bad`.
    ForgetBad(Slot),
    /// A task's end is taken note of.
    TakeFinished,
    /// It came to grief: its end could not be recorded.
    Grief,
    /// The way to clean begins.
    Cleaning,
    /// `clean_recorded`.
    CleanRecorded,
    /// A rebuild is recorded as done: of whom, and who has a second pass before them.
    Rebuilt(Mask, Late),
    /// A resync is.
    Resynced,
    /// `note_scrub` is about to.
    NoteScrub(Option<bool>),
    /// `ask_resync` is through, or was refused: whether it is recorded.
    ResyncAsked(bool),
    /// A member that is lost leaves the table.
    Detach(Slot),
    /// A disk that is gone is given up.
    Release(DiskIndex),
    /// Its device is closed.
    Close(DiskIndex),
    /// `note_places`.
    NotePlaces(DiskIndex),
    /// `note_returned`: a disk that came back may take its place.
    NoteReturned(DiskIndex),
    /// `fill_empty`, with a disk of the set.
    FillEmpty(DiskIndex),
    /// The same, with the disk that joined just now.
    FillWith(usize),
    /// Arrays let go of a disk that is to be taken out.
    LetGoOf(DiskIndex),
    /// It is taken out.
    TakeOut(DiskIndex),
    /// That is recorded, in memory at least.
    Removed(DiskIndex),
    /// A person's removal waits for failures to be recorded: by force, and how often yet.
    RemoveAgain(usize, bool, u32),
    /// A lost member's place cannot be taken by this disk.
    NoSpare(Slot, DiskIndex),
    /// A member that is to be rebuilt enters the table.
    Attach(Slot),
    /// A task starts.
    StartTask(TaskKind, Pass),
    /// What is next in that.
    BeginTask(Begin),
    /// It does not start.
    GiveUpTask,
    /// A rebuild ends so that another member may join.
    LetJoin,
    /// What the log says is put right.
    ReplayHole,
    /// The logs of all members are emptied, where they are rows.
    EmptyRows,
    /// The volume starts.
    StartArray,
}

/// What is being waited for.
#[derive(Clone, Debug)]
enum Stage {
    Plan(Plan),
    Flush {
        pending: u32,
        failed: Mask,
        alone: bool,
    },
    Drain,
}

/// Disk, sector, and bytes.
type PlannedWrite = (DiskIndex, u64, Vec<u8>);

/// A plan being carried out.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// Number and writes of each.
    phases: VecDeque<(u16, Vec<PlannedWrite>)>,
    /// Number of the one that is being written.
    phase: u16,
    pending: u32,
    flushing: bool,
    touched: BTreeSet<DiskIndex>,
    written: BTreeSet<DiskIndex>,
    /// Of these, such as are gone.
    gone: BTreeSet<DiskIndex>,
    failed: BTreeSet<DiskIndex>,
    /// Of the simulation's disks those that took all until now.
    behind: BTreeSet<usize>,
    handled: BTreeSet<DiskIndex>,
    /// Disks that failed in earlier rounds.
    overdue: BTreeSet<DiskIndex>,
    strict: bool,
    /// Disks that cannot be done without; how often it was begun for their sake.
    needed: BTreeSet<DiskIndex>,
    tries: u32,
    /// It ended early: one of them did not.
    stuck: bool,
    /// It is what no disk took before (`catch_up`); the next step waits for it.
    catching_up: bool,
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
    /// Disks that people want something of, and how often that is tried yet.
    wishes: VecDeque<(Wish, u32)>,
    returned: BTreeSet<DiskIndex>,
    /// Places that disks held which came back.
    places: BTreeSet<(DiskIndex, Slot)>,
    /// Disks that were up to date when they got their places, or were added since.
    had_good: BTreeSet<DiskIndex>,
    /// Who left and came since the set was put together.
    pub(crate) moves: Moves,
    told_gone: BTreeSet<DiskIndex>,
    unfit: BTreeSet<(Slot, DiskIndex)>,
    /// A check or repair that people want, and from where on.
    pub(crate) check: Option<Scrub>,
    /// What was to be recorded of one last: whether it repairs.
    pub(crate) noted_scrub: Option<bool>,
    /// A person wants redundancy established anew.
    pub(crate) resync_asked: bool,
    /// Tasks that came to grief. The kernel tries again every few seconds, for ever.
    griefs: u32,
    /// What is known in memory is on no disk; so often that was tried again.
    unwritten: Option<u32>,
    /// By disk: the last phase of the plan in which something was sent to it.
    reached: BTreeMap<DiskIndex, u16>,
    /// By disk: the first phase of the plan that it has not taken whole, where it took any.
    due: BTreeMap<DiskIndex, u16>,
}

/// So often a plan that no disk takes is tried again here.
const UNWRITTEN_TRIES: u32 = 3;

/// So often a plan is begun again for a disk that cannot be done without.
const INSISTENCE: u32 = 4;

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
            wishes: VecDeque::new(),
            returned: BTreeSet::new(),
            places: BTreeSet::new(),
            had_good: BTreeSet::new(),
            moves: Moves::new(),
            told_gone: BTreeSet::new(),
            unfit: BTreeSet::new(),
            check: None,
            noted_scrub: None,
            resync_asked: false,
            griefs: 0,
            unwritten: None,
            reached: BTreeMap::new(),
            due: BTreeMap::new(),
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
            Some(Stage::Drain) => {
                let array = self.array.as_ref();
                array.is_some_and(|array| array.inside == 0) || self.must_record()
            }
            None if !self.worker.steps.is_empty() => true,
            None => self.worker_has_news() || self.next_activity().is_some(),
        }
    }

    /// Whether disks went or came that it has not looked at.
    pub fn worker_has_news(&self) -> bool {
        let worker = &self.worker;
        self.set.is_some()
            && !(worker.gone.is_empty() && worker.here.is_empty() && worker.blank.is_empty())
            || self.has_wish()
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
            self.worker.begin(steps, on_error);
        }
        // Of a disk that joins, the plan is on its way.
        if self.worker.stage.is_none() {
            self.next_step();
        }
    }

    /// Goes on with the activity until it waits for something.
    pub(super) fn next_step(&mut self) {
        while let Some(step) = self.worker.steps.pop_front() {
            match step {
                Step::WriteAgain => return self.carry_out(true, BTreeSet::new()),
                Step::FlushMembers => {
                    if self.flush_members(None) {
                        return;
                    }
                }
                Step::FlushSlots(slots) => {
                    if self.flush_members(Some(slots)) {
                        return;
                    }
                }
                Step::FlushMember(slot) => {
                    if self.flush_member(slot) {
                        return;
                    }
                    self.member_not_flushed(Mask::single(slot));
                }
                Step::FlushDisks => {
                    if self.flush_disks() {
                        return;
                    }
                }
                Step::Record(_) | Step::TryRecord(_) if self.worker.unwritten.is_some() => {
                    self.worker.steps.push_front(step);
                    return self.catch_up(matches!(step, Step::Record(_)));
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

    pub(super) fn abort(&mut self) {
        self.worker.steps.clear();
        let action = std::mem::replace(&mut self.worker.on_error, Action::Nothing);
        self.act(action);
        if self.array.as_ref().is_some_and(|array| array.gate_closed) {
            self.open_gate();
        }
    }
}
