// SPDX-License-Identifier: GPL-2.0

//! One history at work: the scheduler, the disks' I/O, and what happens from outside.

use crate::array::Array;
use crate::disk::Disk;
use crate::history::{Absent, History, Op};
use crate::io::Io;
use crate::lanes::LaneOp;
use crate::mistake::Mistake;
use crate::oracle::{Oracle, Time};
use crate::rng::Rng;
use crate::setup;
use crate::users::UserIo;
use crate::worker::{Wish, Worker};
use emd_core::metadata::MetadataSet;
use emd_core::model::Slot;
use emd_core::personalities::{Geometry, Mask};
use emd_core::uapi::TaskKind;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Steps after which a history counts as stuck.
const STEPS_MAX: Time = 60_000;

/// I/O of users that is under way at most.
const USERS_MAX: usize = 4;

/// A limit of what is promised, that made the difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// RAID 5: a power cut tore a stripe and, before it was resynced, a member (or one of its sectors)
    /// was lost: what that member had in the torn places is not known. With [`WriteHole::Closed`] only
    /// what was itself being written on that member.
    WriteHole,
    /// The volume was still being initialised when a member was lost: what that one had, where parity
    /// was not there yet, is not known.
    NotInitialised,
}

/// What a promise was broken by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// Where and how.
    pub text: String,
}

/// How a history went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// Steps of the scheduler.
    pub steps: Time,
    /// Sectors made free, by [`Allowance`].
    pub allowed: [u64; 2],
    /// Power cuts, starts that were refused, arrays that lost more than they bear.
    pub cuts: u64,
    /// See above.
    pub refused: u64,
    /// See above.
    pub broken: u64,
    /// Histories that ended because all disks with the newest state were dead.
    pub blind: u64,
    /// Writes that were acknowledged; resyncs and rebuilds that came to their end.
    pub writes: u64,
    /// See above.
    pub tasks: u64,
    /// Lanes that a resync left out, as their regions were clean; bad ranges that rebuilds left, and those
    /// that writes filled.
    pub skipped: u64,
    /// See above.
    pub holes: u64,
    /// See above.
    pub filled: u64,
    /// Rebuilds that were not called done, as the format has no place for what they left.
    pub withheld: u64,
    /// Disks that were left out of updates, and were left alone when they were here again.
    pub left_alone: u64,
    /// What people wanted done with disks, and was not refused.
    pub wishes: u64,
    /// What happened, when asked for.
    pub story: Vec<String>,
}

/// A history at work.
pub struct Sim {
    /// Its seed's numbers.
    pub rng: Rng,
    /// The history.
    pub history: History,
    /// The mistake put in, if any.
    pub mistake: Option<Mistake>,
    /// Disks, by key.
    pub disks: Vec<Disk>,
    /// I/O on the way.
    pub flying: Vec<Io>,
    /// The moment.
    pub now: Time,
    /// What may be where.
    pub oracle: Oracle,
    /// The volume's geometry.
    pub geometry: Geometry,
    /// The set, while the machine is up.
    pub set: Option<Box<dyn MetadataSet>>,
    /// Which simulated disk each disk of the set is, while it is claimed.
    pub devices: Vec<Option<usize>>,
    /// The data path, while the volume is started.
    pub array: Option<Array>,
    /// Lane ops by number.
    pub ops: Vec<Option<LaneOp>>,
    /// I/O of users by number.
    pub users: Vec<Option<UserIo>>,
    /// The recorder and keeper.
    pub worker: Worker,
    /// Where in the history we are.
    pub at: usize,
    /// Why the volume is not started, when it is not.
    pub refused: Option<String>,
    /// Rows (sectors of members) that a power cut may have torn, or that were never in agreement.
    pub torn: BTreeSet<u64>,
    /// Rows of those that were never in agreement.
    pub virgin: BTreeSet<u64>,
    /// Rows of whose redundancy nothing is promised: a block of theirs can be neither read nor worked out,
    /// or was forgotten to be so by a format that has no place for it.
    pub loose: BTreeSet<u64>,
    /// What was being written itself when power went, by slot and row.
    pub under_way: BTreeSet<(Slot, u64)>,
    /// The log of the running volume, if it has one.
    pub hole: Option<crate::hole::Hole>,
    /// It runs though its log, a row, did not tell all, and no resync has passed since (`Entry::untold`).
    pub is_untold: bool,
    /// Disk and place of each slot as last seen, for judging.
    pub places: Vec<Option<(usize, u64)>>,
    /// Members that the array read from when it last ran.
    pub last_readable: Mask,
    /// Disks that did not take the last metadata that they were to have: who has what they hold may be
    /// called old by the others.
    pub untaken: BTreeSet<usize>,
    /// Those of them that could not be done without when the others went on: who relied on them alone until then
    /// may hold what they do not know of, and they what it cannot have read.
    pub overtaken: BTreeSet<usize>,
    /// Spares that may have got what others did not, as power was cut in that update, and that have not been here since: which
    /// members it was without.
    pub ahead: BTreeMap<usize, Mask>,
    /// Disks that people took out and added again.
    pub rejoined: BTreeSet<usize>,
    /// Disks that were left out of updates, and that the set leaves alone: nothing may be written to them until a person adds
    /// them, or takes them out.
    pub left_alone: BTreeSet<usize>,
    /// The generation that the metadata had when it was read.
    pub read_generation: u64,
    /// Last time that a passing error was returned.
    pub last_fault: Time,
    /// When members were lost last.
    pub lost: BTreeMap<Slot, Time>,
    /// Faults were put in that may take a member.
    pub faulty: bool,
    /// Rows that members lost with their caches when they were unplugged: torn, if power goes before
    /// the disks say that those members are gone.
    pub unplugged_rows: Vec<(Slot, Vec<u64>)>,
    /// A cache was lost that nobody makes up for.
    pub lossy: bool,
    /// The user waits for quiet.
    pub quiet: bool,
    /// Everything comes to rest.
    pub settling: bool,
    /// A number for events' contexts.
    pub events: u64,
    /// How it went so far.
    pub report: Report,
    /// What it began with.
    pub template: Rc<setup::Template>,
    tracing: bool,
}

/// Carries out a history.
pub fn run(history: &History, mistake: Option<Mistake>, tracing: bool) -> Report {
    let mut sim = Sim::new(history, mistake, tracing);
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.play()));
    if played.is_err() {
        sim.violate("nothing panics", "see above".into());
    }
    sim.report.steps = sim.now;
    sim.report
}

impl Sim {
    fn new(history: &History, mistake: Option<Mistake>, tracing: bool) -> Self {
        let template = setup::template(&history.config);
        let template = template.unwrap_or_else(|why| panic!("{:?}: {why}", history.config));
        let mut sim = Self {
            rng: Rng::new(history.schedule),
            history: history.clone(),
            mistake,
            disks: template.disks.clone(),
            flying: Vec::new(),
            now: 1,
            oracle: Oracle::new(&template.contents),
            geometry: template.geometry,
            set: None,
            devices: Vec::new(),
            array: None,
            ops: Vec::new(),
            users: Vec::new(),
            worker: Worker::default(),
            at: 0,
            refused: None,
            torn: BTreeSet::new(),
            virgin: BTreeSet::new(),
            loose: BTreeSet::new(),
            under_way: BTreeSet::new(),
            hole: None,
            is_untold: false,
            places: template.places.clone(),
            last_readable: Mask::all(history.config.members),
            untaken: BTreeSet::new(),
            overtaken: BTreeSet::new(),
            ahead: BTreeMap::new(),
            rejoined: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            read_generation: 0,
            last_fault: 0,
            lost: BTreeMap::new(),
            faulty: false,
            unplugged_rows: Vec::new(),
            lossy: false,
            quiet: false,
            settling: false,
            events: 100,
            report: Report::default(),
            template: template.clone(),
            tracing,
        };
        sim.oracle.holds_observed = sim.geometry.copies() <= 2;
        if !history.config.assume_clean && sim.is_parity() {
            let rows = sim.geometry.used_member_sectors();
            sim.torn = (0..rows).collect();
            sim.virgin = sim.torn.clone();
        }
        sim
    }

    /// Whether there is parity.
    pub fn is_parity(&self) -> bool {
        self.geometry.kind() == emd_core::personalities::Kind::Parity
    }

    /// Whether a mistake was put in.
    pub fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// A line of the story.
    pub fn tell(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.tracing {
            let line = format!("{:5}  {}", self.now, text(self));
            self.report.story.push(line);
        }
    }

    /// A promise is broken; the first counts.
    pub fn violate(&mut self, promise: &'static str, text: String) {
        self.tell(|_| format!("BROKEN PROMISE: {promise}: {text}"));
        if self.report.violation.is_none() {
            self.report.violation = Some(Violation { promise, text });
        }
    }

    fn play(&mut self) {
        self.boot(Absent(0));
        while self.report.violation.is_none() && self.step() {
            self.now += 1;
            if self.now > STEPS_MAX {
                let text = format!("after {STEPS_MAX} steps something still goes on");
                self.violate("everything comes to an end", text);
            }
        }
        if self.report.violation.is_none() {
            self.last_checks();
        }
    }

    /// Something happens; false when nothing can any more.
    fn step(&mut self) -> bool {
        if self.settling && self.is_at_rest() {
            self.settling = false;
        }
        let mut choices: Vec<(u32, Choice)> = Vec::new();
        if !self.flying.is_empty() {
            choices.push((6, Choice::Complete));
        }
        if self.may_do_next() {
            choices.push((3, Choice::Next));
        }
        if self.task_can_send() {
            let is_limited = self.array.as_ref().is_some_and(|array| array.is_limited);
            choices.push((2 - u32::from(is_limited), Choice::Task));
        }
        if self.worker_can_go() {
            choices.push((2, Choice::Worker));
        }
        let total: u32 = choices.iter().map(|choice| choice.0).sum();
        if total == 0 {
            return self.nothing_left();
        }
        let mut drawn = self.rng.below(total as usize) as u32;
        for (weight, choice) in choices {
            if drawn >= weight {
                drawn -= weight;
                continue;
            }
            match choice {
                Choice::Complete => self.complete_one(),
                Choice::Next => self.next_op(),
                Choice::Task => self.task_send(),
                Choice::Worker => self.worker_go(),
            }
            break;
        }
        true
    }

    /// Nothing can happen: the end, or a knot.
    fn nothing_left(&mut self) -> bool {
        let busy = self.users.iter().flatten().count() + self.ops.iter().flatten().count();
        let is_unwritten = self.worker.is_unwritten();
        if is_unwritten && (busy == 0 || !self.arr_is_broken()) {
            // Writes wait for ever because no disk takes the metadata: that is honest while a disk may come back that
            // makes them good.
            return false;
        }
        if is_unwritten && self.array.as_ref().is_some_and(Array::keeps_writes) {
            // It broke after the last try that is made here. The kernel goes on trying, and has them fail.
            self.fail_writes();
            return true;
        }
        if busy > 0 || self.worker.is_busy() {
            let text = format!(
                "{} I/Os of users, {} lane ops and the worker ({}) wait for nothing",
                self.users.iter().flatten().count(),
                self.ops.iter().flatten().count(),
                self.worker.is_busy(),
            );
            self.violate("everything comes to an end", text);
            return false;
        }
        if self.at < self.history.ops.len() {
            let text = format!("op {} cannot be done", self.at);
            self.violate("everything comes to an end", text);
            return false;
        }
        self.let_go()
    }

    fn may_do_next(&self) -> bool {
        let Some(op) = self.history.ops.get(self.at) else {
            return false;
        };
        if self.settling {
            return false;
        }
        let users = self.users.iter().flatten().count();
        if self.quiet && users > 0 {
            return false;
        }
        match op {
            Op::Write {
                sector, sectors, ..
            } if self.meets_write(*sector, *sectors) => false,
            Op::Write { .. } | Op::Read { .. } | Op::Flush => {
                // Nobody sends I/O to a volume that is not there yet.
                (self.array.is_some() || self.refused.is_some()) && users < USERS_MAX
            }
            // An orderly stop waits until what is known to be lost is recorded (`Array::stop`).
            Op::Restart(_) => users == 0 && !self.worker.is_busy() && !self.awaits_record(),
            Op::PowerCut(_) => true,
            Op::Task(_) if self.is_starting() => false,
            Op::AwaitRebuild => self.is_rebuilding() || self.is_at_rest(),
            _ => self.array.is_some() || self.refused.is_some(),
        }
    }

    fn is_rebuilding(&self) -> bool {
        let task = self.array.as_ref().and_then(|array| array.task.as_ref());
        let task = task.filter(|task| task.kind() == TaskKind::Rebuild);
        let engine = task.map(|task| &task.engine);
        engine.is_some_and(|engine| engine.window().base() > engine.course().walk().lanes() / 8)
    }

    /// Whether a loss is known, and not recorded yet.
    fn awaits_record(&self) -> bool {
        let broken = self.array.as_ref().is_some_and(|array| array.broken);
        !broken && self.must_record() || self.worker_has_news()
    }

    /// Mirrors, as everybody's, keep no order between writes that overlap in time, so that copies
    /// could differ afterwards: users of block devices do not do that. Parity levels do keep it.
    fn meets_write(&self, sector: u64, sectors: u32) -> bool {
        let end = sector + u64::from(sectors);
        self.is_copied()
            && self.users.iter().flatten().any(|io| {
                io.want == crate::users::Want::Write
                    && io.sector < end
                    && sector < io.sector + u64::from(io.sectors)
            })
    }

    fn next_op(&mut self) {
        let op = self.history.ops[self.at];
        self.at += 1;
        self.quiet = false;
        self.tell(|_| format!("— {op:?}"));
        match op {
            Op::Write {
                sector,
                sectors,
                fua,
                changing,
            } => self.user_write(sector, sectors, fua, changing),
            Op::Read { sector, sectors } => self.user_read(sector, sectors),
            Op::Flush => self.user_flush(),
            Op::Quiet => self.quiet = true,
            Op::AwaitRebuild => {}
            Op::Settle => self.settling = true,
            Op::Check(fix) => self.ask_check(fix),
            Op::Task(op) => self.change_task(op),
            Op::PowerCut(absent) => self.power_cut(absent),
            Op::Restart(absent) => self.restart(absent),
            Op::AddBlank => self.add_blank(),
            Op::Fail(disk, force) => self.ask_for(Wish::Fail(disk, force)),
            Op::Remove(disk, force) => self.ask_for(Wish::Remove(disk, force)),
            Op::Add(disk) => self.ask_for(Wish::Add(disk)),
            fault => self.fault(fault),
        }
    }
}

#[derive(Clone, Copy)]
enum Choice {
    Complete,
    Next,
    Task,
    Worker,
}
