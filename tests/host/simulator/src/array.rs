// SPDX-License-Identifier: GPL-2.0

//! The running volume: what `Array` of `src/array/` keeps, and what its `drop_member`, `dirty.rs` and
//! `gate` do with it.

use crate::mistake::Mistake;
use crate::sim::Sim;
use crate::task::{Task, TaskEnd};
use emd_core::model::Slot;
use emd_core::personalities::bad::{BadSpot, BadSpots, Noted};
use emd_core::personalities::lane::{Job, LaneResult, Outcome, Usable};
use emd_core::personalities::loss::Loss;
use emd_core::personalities::rebuild::{Late, Marks, Trust};
use emd_core::personalities::regions::Regions;
use emd_core::personalities::{for_level, Health, Kind, Mask};
use emd_core::uapi::TaskKind;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Where the dirty mark stands (`dirty.rs`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dirty {
    /// Recorded as clean: writes wait.
    Clean,
    /// A write waits for the mark.
    Wanted,
    /// Recorded: writes go on.
    Dirty,
    /// Clean is being recorded: writes wait.
    Cleaning,
}

/// Who has a lane.
#[derive(Clone, Debug, Default)]
pub struct LaneLock {
    /// An op has it for itself.
    pub exclusive: bool,
    /// Ops that share it.
    pub readers: u32,
    /// Ops that wait.
    pub waiting: VecDeque<usize>,
}

/// A running volume.
pub struct Array {
    /// Disk and first sector of each member in use or just lost.
    pub table: Vec<Option<(usize, u64)>>,
    /// Members in sync and present.
    pub readable: Mask,
    /// Members present.
    pub writable: Mask,
    /// Failed and not recorded.
    pub unrecorded: Mask,
    /// More is lost than redundancy bears.
    pub broken: bool,
    /// Where members being rebuilt are right.
    pub rebuilt: Rc<Marks>,
    /// Members with a second pass of their rebuild before them.
    pub late: Late,
    /// How far recorded marks of a rebuild count.
    pub trust: Cell<Trust>,
    /// Members whose rebuild is over and must not be recorded as done (`set/bad.rs`).
    pub withheld: Mask,
    /// Redundancy is not known to agree from here on.
    pub unsynced_from: u64,
    /// Members that were rebuilt while a sync was due.
    pub followers: Mask,
    /// The kind of the task that a person holds: at work, or due.
    pub held: Option<TaskKind>,
    /// Tasks are to leave the members to users, mostly.
    pub is_limited: bool,
    /// The next resync goes over everything, also where regions are clean.
    pub resync_all: bool,
    /// A task works on lanes.
    pub task_active: bool,
    /// Who reads a copy in a lane may write it again.
    pub lanes_only: bool,
    /// The dirty mark.
    pub dirty: Dirty,
    /// Where the metadata keeps which regions may have writes in flight.
    pub regions: Option<Regions>,
    /// Writes are counted in rounds: whether the present one is odd (`personalities/writers.rs`).
    pub is_odd_round: bool,
    /// What is bad on the members, though they are in use.
    pub bad: BadSpots,
    /// Writes that wait for the mark, or for their regions.
    pub for_dirty: VecDeque<usize>,
    /// I/O that waits for the gate.
    pub at_gate: VecDeque<usize>,
    /// The gate is closed.
    pub gate_closed: bool,
    /// Finished writes that wait until failures are recorded.
    pub finished: Vec<usize>,
    /// Ops that wait for room among changes of bad ranges.
    pub for_bad: Vec<usize>,
    /// `Array::void_clearings`.
    pub void_clearings: u32,
    /// I/Os and ops inside of the gate.
    pub inside: usize,
    /// Lanes in use.
    pub locks: BTreeMap<u64, LaneLock>,
    /// The task.
    pub task: Option<Task>,
    /// The task that ended, until somebody takes note.
    pub finished_task: Option<TaskEnd>,
    /// Slots whose members the table has.
    pub attached: Mask,
    /// A resync is due before it may be called clean.
    pub needs_resync: bool,
    /// Where it goes on.
    pub resync_from: u64,
}

impl Sim {
    /// The running volume; only where there is one.
    pub fn arr(&mut self) -> &mut Array {
        self.array.as_mut().expect("the volume runs")
    }

    /// Whether failures and dirtiness matter.
    pub fn is_redundant(&self) -> bool {
        matches!(
            self.geometry.kind(),
            Kind::Mirrored | Kind::Copies | Kind::Parity
        )
    }

    /// Sectors of a member that one stripe takes.
    pub fn unit(&self) -> u32 {
        match self.geometry.kind() {
            Kind::Parity | Kind::Copies => self.geometry.chunk_sectors(),
            _ => self.lane_sectors(),
        }
    }

    /// Whether there are copies.
    pub fn is_copied(&self) -> bool {
        matches!(self.geometry.kind(), Kind::Mirrored | Kind::Copies)
    }

    /// Where a row starts on a member (`Array::row_sector`).
    pub fn row_sector(&self, stripe: u64, slot: Slot) -> u64 {
        match self.geometry.kind() {
            Kind::Mirrored => stripe * u64::from(self.lane_sectors()),
            _ => self.geometry.member_sector(stripe, slot).unwrap_or(0),
        }
    }

    /// How far a sync has to be to be through with a part of a row.
    pub fn sync_mark(&self, stripe: u64, end_column: u32) -> u64 {
        let slot = self.geometry.roles(stripe).all().first().unwrap_or(0);
        match self.geometry.kind() {
            Kind::Copies => self.geometry.stripe_start(stripe) + u64::from(end_column),
            _ => self.row_sector(stripe, slot) + u64::from(end_column),
        }
    }

    /// Sectors of a lane.
    pub fn lane_sectors(&self) -> u32 {
        let wanted = self.history.config.lane_sectors.max(1);
        match self.geometry.kind() {
            Kind::Parity | Kind::Copies => wanted.min(self.geometry.chunk_sectors()),
            _ => wanted,
        }
    }

    /// What is left when only `members` are in sync.
    pub fn health(&self, members: Mask) -> Health {
        for_level(self.geometry.level()).map_or(Health::Failed, |level| {
            level.health(self.geometry.shape(), members)
        })
    }

    /// `Array::drop_member`.
    pub fn drop_member(&mut self, slot: Slot) -> bool {
        self.drop_member_that(slot, false)
    }

    /// As above; a mirror gives up its last good member only when that one's disk `is_gone`.
    pub fn drop_member_that(&mut self, slot: Slot, is_gone: bool) -> bool {
        let (readable, writable) = (self.arr().readable, self.arr().writable);
        let loss = Loss::of(&self.geometry, readable, writable, slot, is_gone);
        let beyond = match loss {
            Loss::Nothing | Loss::Kept => return false,
            Loss::Borne => false,
            Loss::Beyond => true,
        };
        self.lost.insert(slot, self.now);
        let array = self.arr();
        if !beyond {
            array.unrecorded = array.unrecorded.with(slot);
        }
        array.readable = array.readable.without(slot);
        array.writable = array.writable.without(slot);
        if beyond {
            array.broken = true;
            self.report.broken += 1;
        }
        self.tell(|_| {
            let end = if beyond {
                ", and with it the array"
            } else {
                ""
            };
            format!("   member {slot} fails{end}")
        });
        if beyond {
            self.tear_under_way();
        } else {
            self.note_missed(slot);
        }
        self.taint(slot, None);
        self.oracle.forget_observations(self.now);
        true
    }

    /// Members that hold what they should in a row, up to a column (`Array::readable_in`).
    pub fn readable_in(&self, stripe: u64, column: u32, end_column: u32) -> Mask {
        let Some(array) = &self.array else {
            return Mask::EMPTY;
        };
        let held = array.writable.union(array.readable).iter().filter(|&slot| {
            let row = self.row_sector(stripe, slot);
            self.holds(slot, row + u64::from(column), row + u64::from(end_column))
        });
        held.fold(Mask::EMPTY, Mask::with)
    }

    /// Whether a member holds what it should in `start .. end`.
    pub fn holds(&self, slot: Slot, start: u64, end: u64) -> bool {
        let Some(array) = &self.array else {
            return false;
        };
        let counts = array.readable.contains(slot)
            || array.writable.contains(slot) && array.rebuilt.hold(slot, start, end);
        counts && !self.is_bad(slot, start, end - start)
    }

    /// `Array::is_bad`.
    pub fn is_bad(&self, slot: Slot, first: u64, sectors: u64) -> bool {
        let spot = BadSpot {
            slot,
            first,
            sectors,
        };
        let array = self.array.as_ref();
        array.is_some_and(|array| array.bad.has(&spot)) && !self.has(Mistake::BadRangeRead)
    }

    /// `Array::must_record`.
    pub fn must_record(&self) -> bool {
        let array = self.array.as_ref();
        array.is_some_and(|array| !array.unrecorded.is_empty() || array.bad.change().is_some())
    }

    /// `Array::leaders`.
    pub fn leaders(&self) -> Mask {
        let array = self.array.as_ref();
        array.map_or(Mask::EMPTY, |array| array.readable.minus(array.followers))
    }

    /// Enters the gate, or waits there.
    pub fn enter(&mut self, user: usize) -> bool {
        let array = self.arr();
        if array.gate_closed {
            array.at_gate.push_back(user);
            return false;
        }
        array.inside += 1;
        true
    }

    /// Leaves the gate.
    pub fn leave(&mut self) {
        self.arr().inside -= 1;
    }

    /// Opens the gate: those who waited come in.
    pub fn open_gate(&mut self) {
        self.arr().gate_closed = false;
        let waiting = std::mem::take(&mut self.arr().at_gate);
        for user in waiting {
            if self.enter(user) {
                self.dispatch(user);
            }
        }
        self.let_writes_go();
    }

    /// `Array::admit`: lets a write go on, or keeps it until the mark is recorded, and its regions are.
    pub fn admit(&mut self, user: usize) -> bool {
        if !self.is_redundant() {
            return true;
        }
        self.count_as_writer(user);
        let is_admitted = self.is_admitted(user);
        if !is_admitted {
            self.user(user).round = None;
            let array = self.arr();
            array.for_dirty.push_back(user);
            array.inside -= 1;
        }
        is_admitted
    }

    /// `Pass::count_as_writer`.
    pub fn count_as_writer(&mut self, user: usize) {
        self.user(user).round = Some(self.arr().is_odd_round);
    }

    /// Writes and flushes in flight, of odd rounds or of even ones.
    pub fn writers(&self, of_odd_rounds: bool) -> usize {
        let users = self.users.iter().flatten();
        users.filter(|io| io.round == Some(of_odd_rounds)).count()
    }

    fn is_admitted(&mut self, user: usize) -> bool {
        let dirty = self.arr().dirty;
        match dirty {
            Dirty::Dirty if self.regions_admit(user) => true,
            Dirty::Dirty => self.has(Mistake::WriteBeforeRegion),
            Dirty::Clean => {
                // Both are recorded together then.
                self.regions_admit(user);
                self.arr().dirty = Dirty::Wanted;
                self.has(Mistake::DirtyAfterWrite)
            }
            Dirty::Wanted | Dirty::Cleaning => self.has(Mistake::DirtyAfterWrite),
        }
    }

    /// `Array::regions_admit`.
    fn regions_admit(&mut self, user: usize) -> bool {
        let (sector, sectors) = (self.user(user).sector, self.user(user).sectors);
        let round = self.user(user).round.unwrap_or(false);
        let regions = self.array.as_ref().and_then(|array| array.regions.as_ref());
        regions.is_none_or(|regions| regions.admit(&self.geometry, sector, sectors, round))
    }

    /// `Array::regions_recorded`.
    pub fn regions_recorded(&mut self, first: u32, count: u32, done: bool) {
        let is_odd_round = self.arr().is_odd_round;
        let Some(regions) = self.arr().regions.as_ref() else {
            return;
        };
        if done {
            regions.recorded(first, count, is_odd_round);
            self.let_writes_go();
        } else {
            regions.not_recorded(first, count);
        }
    }

    /// Takes back the marks of regions that no write touched since the last time; `all`: of all.
    pub fn sweep_regions(&mut self, all: bool) {
        let ahead = self.has(Mistake::RegionClearedUnsynced);
        let array = self.arr();
        let synced = if ahead { u64::MAX } else { array.unsynced_from };
        let is_odd = array.is_odd_round;
        match &array.regions {
            None => {}
            Some(regions) if all => regions.sweep_all(synced),
            Some(regions) => {
                regions.sweep(is_odd, synced);
                regions.round_begins(!is_odd);
                array.is_odd_round = !is_odd;
            }
        }
    }

    /// `Array::dirty_recorded`.
    pub fn dirty_recorded(&mut self) {
        self.arr().dirty = Dirty::Dirty;
        self.let_writes_go();
    }

    /// Writes that waited for the mark go on, if it is there and the gate is open.
    fn let_writes_go(&mut self) {
        let array = self.arr();
        if array.dirty != Dirty::Dirty || array.gate_closed {
            return;
        }
        let waiting = std::mem::take(&mut array.for_dirty);
        for user in waiting {
            if self.enter(user) {
                self.dispatch(user);
            }
        }
    }

    /// `Array::clean_recorded`.
    pub fn clean_recorded(&mut self) {
        let array = self.arr();
        array.dirty = if array.for_dirty.is_empty() {
            Dirty::Clean
        } else {
            Dirty::Wanted
        };
    }

    /// `Array::failures_recorded`.
    pub fn failures_recorded(&mut self, slots: Mask) {
        let array = self.arr();
        array.unrecorded = array.unrecorded.minus(slots);
        if array.unrecorded.is_empty() {
            self.go_on_recorded();
        }
        self.end_finished();
    }

    /// `Array::bad_change_recorded`.
    pub fn bad_change_recorded(&mut self) {
        let _ = self.arr().bad.change_recorded();
        self.go_on_noting();
        self.end_finished();
    }

    /// `Array::bad_change_failed`.
    pub fn bad_change_failed(&mut self) {
        let _ = self.arr().bad.change_failed();
        self.arr().void_clearings += 1;
        for user in std::mem::take(&mut self.arr().finished) {
            self.user(user).failed = true;
            self.end_user(user);
        }
        self.go_on_noting();
    }

    /// `Array::fail_writes`.
    pub fn fail_writes(&mut self) {
        let finished = std::mem::take(&mut self.arr().finished);
        let for_dirty = std::mem::take(&mut self.arr().for_dirty);
        for user in finished {
            self.user(user).failed = true;
            self.end_user(user);
        }
        for user in for_dirty {
            // It is not inside; who ends leaves.
            self.arr().inside += 1;
            self.user(user).failed = true;
            self.unref_user(user);
        }
        self.go_on_recorded();
        self.go_on_noting();
    }

    /// Whether the array lost more than it bears.
    pub fn arr_is_broken(&self) -> bool {
        self.array.as_ref().is_some_and(|array| array.broken)
    }

    /// Writes that waited for a record end, when nothing is left to be recorded.
    fn end_finished(&mut self) {
        if !self.must_record() {
            for user in std::mem::take(&mut self.arr().finished) {
                self.end_user(user);
            }
        }
    }

    /// The stretch of a member that an op's run covers.
    fn run_spot(&self, op: &crate::lanes::LaneOp, slot: Slot) -> BadSpot {
        BadSpot {
            slot,
            first: self.row_sector(op.stripe, slot) + u64::from(op.run_column),
            sectors: u64::from(op.run_sectors),
        }
    }

    /// `Array::is_bad_in`.
    pub fn is_bad_in(&self, op: usize) -> bool {
        self.ops[op].as_ref().is_some_and(|body| {
            self.geometry.roles(body.stripe).all().iter().any(|slot| {
                let first = self.row_sector(body.stripe, slot) + u64::from(body.column);
                self.is_bad(slot, first, u64::from(body.sectors))
            })
        })
    }

    /// `Array::note_taken`.
    pub fn note_taken(&mut self, op: usize) -> Noted {
        let Some(body) = self.ops[op].as_ref() else {
            return Noted::Done;
        };
        let taken = body.taken.iter().map(|slot| self.run_spot(body, slot));
        let mut worst = Noted::Done;
        for spot in taken.collect::<Vec<_>>() {
            if self.arr().bad.has(&spot) {
                match self.arr().bad.clear(spot) {
                    Noted::Done => {
                        self.report.filled += 1;
                        self.tell(|_| format!("   {spot:?} is good again"));
                    }
                    Noted::Later if worst == Noted::NoRoom => {}
                    cleared => worst = cleared,
                }
            }
        }
        worst
    }

    /// `Background`, of ops that waited for room among changes of bad ranges.
    fn go_on_noting(&mut self) {
        for op in std::mem::take(&mut self.arr().for_bad) {
            self.perform(op);
        }
    }

    /// `Array::leave_hole`.
    pub fn leave_hole(&mut self, op: usize, outcome: Outcome) -> Noted {
        let Some(body) = self.ops[op].as_ref() else {
            return Noted::NoRoom;
        };
        if outcome.result != LaneResult::Unreadable {
            return Noted::NoRoom;
        }
        let Some(array) = &self.array else {
            return Noted::NoRoom;
        };
        let (targets, held_up) = match body.job {
            Job::Rebuild { targets } => (targets, false),
            Job::Sync { .. } => return Noted::Done,
            // `Array::leave_hole_of_write`.
            Job::Write { .. } if self.geometry.kind() == Kind::Mirrored => {
                (outcome.unreadable.minus(array.readable), true)
            }
            Job::Read { .. } | Job::Write { .. } => return Noted::NoRoom,
        };
        let targets = targets.intersect(array.writable);
        let spots: Vec<BadSpot> = targets
            .iter()
            .map(|slot| self.run_spot(body, slot))
            .collect();
        let broken = array.broken;
        for spot in spots {
            match self.arr().bad.add(spot) {
                Noted::Done => {
                    self.tell(|_| format!("   {spot:?} cannot be filled"));
                    self.report.holes += 1;
                }
                Noted::Later if !broken => return Noted::Later,
                Noted::Later | Noted::NoRoom if held_up => {
                    self.drop_member(spot.slot);
                }
                Noted::Later | Noted::NoRoom => return Noted::NoRoom,
            }
        }
        match held_up {
            true => Noted::NoRoom,
            false => Noted::Done,
        }
    }

    /// Which members can be used by an op for what its run covers (`Array::usable`), and whether
    /// parity is not known to agree there.
    pub fn usable(&self, op: &crate::lanes::LaneOp) -> (Usable, bool) {
        let Some(array) = &self.array else {
            let (readable, writable) = (Mask::EMPTY, Mask::EMPTY);
            return (Usable { readable, writable }, false);
        };
        let end_column = op.run_column + op.run_sectors;
        let unsynced = self.sync_mark(op.stripe, end_column) > array.unsynced_from;
        let writable = if op.shared && !self.has(Mistake::RepairOverNew) {
            Mask::EMPTY
        } else if self.has(Mistake::RebuildNotWritten) && op.task.is_none() {
            array.readable
        } else {
            array.writable
        };
        let mut readable = self.readable_in(op.stripe, op.run_column, end_column);
        let is_write = matches!(op.job, Job::Write { .. });
        if is_write && self.is_parity() && !self.has(Mistake::FilledAheadLeftBehind) {
            let ahead = self.filled_ahead(op).intersect(array.writable);
            for slot in ahead.iter() {
                let spot = self.run_spot(op, slot);
                if !self.is_bad(slot, spot.first, spot.sectors) {
                    readable = readable.with(slot);
                }
            }
        }
        let roles = self.geometry.roles(op.stripe);
        if self.has(Mistake::ParityLeftBehind) {
            // As if a rebuild of the parity was to come by.
            if is_write && unsynced && roles.all().is_within(readable) {
                readable = readable.minus(roles.parity());
            }
            return (Usable { readable, writable }, false);
        }
        let distrusted = unsynced && !self.has(Mistake::UnsyncedParityTrusted);
        (Usable { readable, writable }, distrusted)
    }
}
