// SPDX-License-Identifier: GPL-2.0

//! One history at work: the scheduler, the disks' I/O, and what happens from outside.

use crate::array::Array;
use crate::disk::{Disk, IoError, Token};
use crate::history::{Absent, History, Op, WriteHole};
use crate::lanes::LaneOp;
use crate::mistake::Mistake;
use crate::oracle::{Oracle, Time};
use crate::rng::Rng;
use crate::setup;
use crate::users::UserIo;
use crate::worker::Worker;
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskIndex, Slot};
use emd_core::personalities::{Geometry, Health, Mask};
use std::collections::BTreeSet;

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
    /// Sectors made free by [`Allowance::WriteHole`], by [`Allowance::NotInitialised`].
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
    /// What happened, when asked for.
    pub story: Vec<String>,
}

/// What a disk is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Data, from the disk's first sector on.
    Read(u64, u32),
    /// New data; whether it is forced to the medium.
    Write(u64, Vec<Token>, bool),
    /// New metadata, or log entries; whether it is forced to the medium.
    WriteBytes(u64, Vec<u8>, bool),
    /// A flush that covers what the number says.
    Flush(u64),
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A lane op's step.
    Lane(usize, Slot),
    /// Piece of a user's I/O on a member.
    Piece(usize, Slot, u64),
    /// A user's flush of a member.
    UserFlush(usize, Slot),
    /// The worker's plan, on a disk of the set.
    Plan(DiskIndex),
    /// The worker's flush of a member.
    MemberFlush(Slot),
}

/// I/O on the way.
#[derive(Clone, Debug)]
pub struct Io {
    disk: usize,
    request: Request,
    owner: Owner,
    /// It takes long.
    is_slow: bool,
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
    /// What was being written itself when power went, by slot and row.
    pub under_way: BTreeSet<(Slot, u64)>,
    /// The log of the running volume, if it has one.
    pub hole: Option<crate::hole::Hole>,
    /// Disk and place of each slot as last seen, for judging.
    pub places: Vec<Option<(usize, u64)>>,
    /// Members that the array read from when it last ran.
    pub last_readable: Mask,
    /// Disks that did not take the last metadata that they were to have: who has what they hold may be
    /// called old by the others.
    pub untaken: BTreeSet<usize>,
    /// Last time that a passing error was returned.
    pub last_fault: Time,
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
    /// What the format reads of a disk of the set.
    pub regions: Vec<emd_core::metadata::Region>,
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
            under_way: BTreeSet::new(),
            hole: None,
            places: template.places.clone(),
            last_readable: Mask::all(history.config.members),
            untaken: BTreeSet::new(),
            last_fault: 0,
            faulty: false,
            unplugged_rows: Vec::new(),
            lossy: false,
            quiet: false,
            settling: false,
            events: 100,
            report: Report::default(),
            regions: template.regions.clone(),
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
            choices.push((2, Choice::Task));
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
        if self.worker.is_unwritten() {
            // Writes wait for ever because no disk takes the metadata: that is honest.
            return false;
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
        }
        false
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
            _ => self.array.is_some() || self.refused.is_some(),
        }
    }

    /// Whether a loss is known, and not recorded yet.
    fn awaits_record(&self) -> bool {
        let unrecorded = self
            .array
            .as_ref()
            .is_some_and(|array| !array.broken && !array.unrecorded.is_empty());
        unrecorded || self.worker_has_news()
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
            Op::Settle => self.settling = true,
            Op::Check(fix) => self.ask_check(fix),
            Op::PowerCut(absent) => self.power_cut(absent),
            Op::Restart(absent) => self.restart(absent),
            Op::AddBlank => self.add_blank(),
            fault => self.fault(fault),
        }
    }

    fn fault(&mut self, op: Op) {
        let slot_row = |sim: &Self, disk: usize, row: u64| {
            let place = sim.places.iter().flatten().find(|place| place.0 == disk);
            place.map_or(row, |place| place.1 + row)
        };
        self.faulty = true;
        match op {
            Op::Spoil(disk, row) if disk < self.disks.len() => {
                let sector = slot_row(self, disk, row % self.geometry.used_member_sectors());
                self.disks[disk].spoil(sector);
                self.oracle.forget_observations(self.now);
            }
            Op::FailReads(disk, count) if disk < self.disks.len() => {
                self.disks[disk].failing_reads += count;
            }
            Op::FailWrites(disk, count) if disk < self.disks.len() => {
                self.disks[disk].failing_writes += count;
            }
            Op::FailMetadata(disk, count) if disk < self.disks.len() => {
                self.disks[disk].failing_metadata += count;
            }
            Op::FailFlush(disk) if disk < self.disks.len() => {
                self.disks[disk].failing_flushes += 1;
            }
            Op::Kill(disk) if disk < self.disks.len() => {
                self.disks[disk].dead = true;
                self.oracle.forget_observations(self.now);
            }
            Op::Pull(disk) if disk < self.disks.len() && self.disks[disk].present => {
                self.disks[disk].present = false;
                self.lose_cache(disk);
                self.oracle.forget_observations(self.now);
                self.worker.note_gone(disk);
            }
            // What is unplugged stays dead for who has it open.
            Op::Return(disk)
                if disk < self.disks.len()
                    && !self.disks[disk].present
                    && !self.devices.contains(&Some(disk)) =>
            {
                self.disks[disk].present = true;
                self.disks[disk].dead = false;
                self.worker.note_here(disk);
            }
            _ => {}
        }
    }

    /// A disk goes, and its cache with it.
    fn lose_cache(&mut self, disk: usize) {
        self.tear_flying(disk);
        self.lossy |= !self.is_redundant();
        let slot = self
            .places
            .iter()
            .position(|place| place.is_some_and(|place| place.0 == disk));
        let readable = self
            .array
            .as_ref()
            .map_or(Mask::EMPTY, |array| array.readable);
        if let Some(slot) = slot.filter(|&slot| readable.contains(slot as Slot)) {
            let rows = self.undurable_rows(slot);
            self.unplugged_rows.push((slot as Slot, rows));
            // One more than is borne: what is left of the stripes may not agree.
            if self.is_redundant() && self.health(readable.without(slot as Slot)) == Health::Failed
            {
                self.tear_rows(slot);
                self.lossy = true;
            }
        }
        self.disks[disk].power_off(Some(&mut self.rng));
    }

    /// Rows that are not durable on a member may be torn.
    fn tear_rows(&mut self, slot: usize) {
        let rows = self.undurable_rows(slot);
        self.under_way
            .extend(rows.iter().map(|&row| (slot as Slot, row)));
        self.torn.extend(rows);
    }

    fn undurable_rows(&self, slot: usize) -> Vec<u64> {
        let Some((disk, offset)) = self.places[slot] else {
            return Vec::new();
        };
        self.disks[disk]
            .undurable()
            .filter_map(|sector| sector.checked_sub(offset))
            .collect()
    }

    /// What is on its way to a disk when it goes may be there or not; it does not come back good.
    fn tear_flying(&mut self, disk: usize) {
        for io in self.flying.iter().filter(|io| io.disk == disk) {
            match &io.request {
                Request::Write(sector, data, _) => self.disks[disk].tear_data(*sector, data),
                Request::WriteBytes(sector, bytes, _) => {
                    self.disks[disk].tear_bytes(*sector, bytes)
                }
                _ => {}
            }
        }
    }

    fn add_blank(&mut self) {
        if self.disks.len() >= 12 || self.set.is_none() {
            return;
        }
        let key = self.disks.len();
        let window = self.geometry.shape().member_sectors as usize + self.window_slack();
        self.disks.push(setup::blank(key, &self.disks[0], window));
        self.worker.note_blank(key);
    }

    fn window_slack(&self) -> usize {
        let starts: Vec<u64> = self.places.iter().flatten().map(|place| place.1).collect();
        let least = starts.iter().min().copied().unwrap_or(0);
        starts
            .iter()
            .max()
            .map_or(0, |most| (most - least) as usize)
    }

    /// Power is cut, and comes back.
    fn power_cut(&mut self, absent: Absent) {
        self.report.cuts += 1;
        for disk in 0..self.disks.len() {
            self.tear_flying(disk);
        }
        self.note_torn();
        for disk in 0..self.disks.len() {
            self.disks[disk].power_off(Some(&mut self.rng));
        }
        self.go_down();
        self.oracle.restart();
        self.boot(absent);
    }

    /// An orderly end and a new beginning.
    fn restart(&mut self, absent: Absent) {
        for disk in &mut self.disks {
            disk.power_off(None);
        }
        let broken = self.array.as_ref().is_some_and(|array| array.broken);
        self.go_down();
        if !self.lossy && !broken {
            self.oracle.flushed(Time::MAX);
        }
        self.lossy = false;
        self.unplugged_rows.clear();
        self.oracle.restart();
        self.boot(absent);
    }

    fn go_down(&mut self) {
        if let Some(array) = self.array.take() {
            self.last_readable = array.readable;
        }
        self.set = None;
        self.devices.clear();
        self.flying.clear();
        self.hole = None;
        self.ops.clear();
        self.users.clear();
        self.worker = Worker::default();
        self.refused = None;
        self.quiet = false;
        self.settling = false;
        self.now += 1;
    }

    /// Takes note of rows that the cut may tear.
    fn note_torn(&mut self) {
        for slot in 0..self.places.len() {
            self.tear_rows(slot);
        }
        let unrecorded = self
            .array
            .as_ref()
            .is_some_and(|array| !array.unrecorded.is_empty());
        if unrecorded || self.worker.is_busy() {
            // A member that was just lost may be taken for good again.
            self.oracle.forget_observations(self.now);
        }
        for (slot, rows) in std::mem::take(&mut self.unplugged_rows) {
            if self.model_in_sync(None).contains(slot) || self.worker.is_busy() {
                self.under_way.extend(rows.iter().map(|&row| (slot, row)));
                self.torn.extend(rows);
            }
        }
        let Some(array) = &self.array else { return };
        let readable = array.readable;
        for slot in 0..self.geometry.members() {
            if !readable.contains(slot) {
                self.taint(slot, None);
            }
        }
    }

    /// A member (or one sector of it) is of no use: what it had in torn rows is not known any more.
    pub fn taint(&mut self, slot: Slot, only: Option<(u64, u64)>) {
        if !self.is_parity() || self.torn.is_empty() {
            return;
        }
        let (from, to) = only.unwrap_or((0, u64::MAX));
        let rows: Vec<u64> = self.torn.range(from..to).copied().collect();
        for row in rows {
            let virgin = self.virgin.contains(&row);
            let closed = self.history.config.hole == WriteHole::Closed;
            if !virgin && closed && !self.under_way.contains(&(slot, row)) {
                continue;
            }
            let Some(sector) = self.geometry.logical(slot, row) else {
                continue;
            };
            if !self.oracle.is_wild(sector) {
                self.oracle.make_wild(sector, self.now);
                self.report.allowed[usize::from(virgin)] += 1;
            }
        }
    }

    /// The array breaks in the middle of writes: what they leave behind does not agree.
    pub fn tear_under_way(&mut self) {
        let mut rows = Vec::new();
        for op in self.ops.iter().flatten() {
            for slot in self.geometry.roles(op.stripe).all().iter() {
                let start = self.row_sector(op.stripe, slot) + u64::from(op.column);
                if let emd_core::personalities::lane::Job::Write { written } = op.job {
                    let here = start..start + u64::from(op.sectors);
                    let of = here
                        .filter(|_| written.contains(slot))
                        .map(|row| (slot, row));
                    self.under_way.extend(of);
                }
                rows.extend(start..start + u64::from(op.sectors));
            }
        }
        self.torn.extend(rows);
        let readable = self
            .array
            .as_ref()
            .map_or(Mask::EMPTY, |array| array.readable);
        for slot in 0..self.geometry.members() {
            if !readable.contains(slot) {
                self.taint(slot, None);
            }
        }
    }

    /// A member is lost: until that is recorded, what is being written counts as torn if power goes, since
    /// the member would be taken for good then.
    pub fn note_missed(&mut self, slot: Slot) {
        let ops: Vec<usize> = (0..self.ops.len()).collect();
        for op in ops {
            self.note_missed_by(slot, op);
        }
    }

    /// The same for one op.
    pub fn note_missed_by(&mut self, slot: Slot, op: usize) {
        let Some(body) = self.ops[op].as_ref() else {
            return;
        };
        if matches!(body.job, emd_core::personalities::lane::Job::Write { .. }) {
            let start = self.row_sector(body.stripe, slot) + u64::from(body.column);
            let rows = (start..start + u64::from(body.sectors)).collect();
            self.unplugged_rows.push((slot, rows));
        }
    }

    /// Redundancy of these rows agrees.
    pub fn untear(&mut self, from: u64, to: u64) {
        let rows: Vec<u64> = self.torn.range(from..to).copied().collect();
        for row in rows {
            self.torn.remove(&row);
            self.under_way.retain(|&(_, other)| other != row);
            // What made it agree may still be in a cache; that counts where nothing else is allowed.
            if self.history.config.hole == WriteHole::Open {
                self.virgin.remove(&row);
            }
        }
    }

    /// Sends a request to a disk.
    pub fn send(&mut self, disk: usize, request: Request, owner: Owner) {
        let is_slow = self.rng.chance(2);
        self.flying.push(Io {
            disk,
            request,
            owner,
            is_slow,
        });
    }

    fn complete_one(&mut self) {
        let index = self.rng.below(self.flying.len());
        if self.flying[index].is_slow && self.rng.chance(96) {
            return;
        }
        let io = self.flying.swap_remove(index);
        let disk = &mut self.disks[io.disk];
        let mut data = Vec::new();
        let result = match &io.request {
            Request::Read(sector, sectors) => disk.read(*sector, *sectors).map(|read| data = read),
            Request::Write(sector, data, fua) => disk.write(&mut self.rng, *sector, data, *fua),
            Request::WriteBytes(sector, bytes, fua) => {
                disk.write_bytes(&mut self.rng, *sector, bytes, *fua)
            }
            Request::Flush(mark) => disk.flush(&mut self.rng, *mark),
        };
        if result.is_err() {
            self.last_fault = self.now;
        }
        let is_metadata = matches!(io.owner, Owner::Plan(_));
        if !is_metadata || result.is_err() {
            self.tell_io(&io, result, &data);
        }
        self.completed(&io, result, data);
    }

    fn tell_io(&mut self, io: &Io, result: Result<(), IoError>, data: &[Token]) {
        self.tell(|_| {
            let what = match &io.request {
                Request::Read(sector, sectors) => {
                    format!("read {sector}+{sectors} = {}", show(data))
                }
                Request::Write(sector, data, fua) => {
                    let fua = if *fua { " FUA" } else { "" };
                    format!("write{fua} {sector}+{} = {}", data.len(), show(data))
                }
                Request::WriteBytes(sector, bytes, _) => {
                    format!("metadata write {sector}+{}", bytes.len() / 512)
                }
                Request::Flush(_) => "flush".into(),
            };
            let end = match result {
                Ok(()) => String::new(),
                Err(why) => format!(": {why:?} ERROR"),
            };
            format!("      disk {} {what} ({:?}){end}", io.disk, io.owner)
        });
    }

    fn completed(&mut self, io: &Io, result: Result<(), IoError>, data: Vec<Token>) {
        if let (Request::Read(sector, sectors), Err(IoError::Medium)) = (&io.request, result) {
            let place = self.places.iter().position(|place| {
                place.is_some_and(|place| place.0 == io.disk && place.1 <= *sector)
            });
            if let Some(slot) = place {
                let row = *sector - self.places[slot].map_or(0, |place| place.1);
                for row in row..row + u64::from(*sectors) {
                    let sector = row + self.places[slot].map_or(0, |place| place.1);
                    if *sectors == 1 || self.disks[io.disk].is_bad(sector, 1) {
                        self.taint(slot as Slot, Some((row, row + 1)));
                    }
                }
            }
        }
        match io.owner {
            Owner::Lane(op, slot) => self.lane_io_done(op, slot, result, data),
            Owner::Piece(user, slot, sector) => {
                let sectors = match &io.request {
                    Request::Read(_, sectors) => *sectors,
                    Request::Write(_, data, _) => data.len() as u32,
                    _ => 0,
                };
                self.piece_done(user, slot, (sector, sectors), result, data);
            }
            Owner::UserFlush(user, slot) => self.user_flush_done(user, slot, result),
            Owner::Plan(disk) => self.plan_io_done(disk, result),
            Owner::MemberFlush(slot) => self.member_flush_done(slot, result),
        }
    }

    /// Sends a flush to a disk.
    pub fn send_flush(&mut self, disk: usize, owner: Owner) {
        let mark = self.disks[disk].flush_mark();
        self.send(disk, Request::Flush(mark), owner);
    }
}

#[derive(Clone, Copy)]
enum Choice {
    Complete,
    Next,
    Task,
    Worker,
}

/// Contents for people: four digits of each sector.
pub fn show(tokens: &[Token]) -> String {
    let mut text: Vec<String> = tokens
        .iter()
        .take(8)
        .map(|token| format!("{:04x}", token & 0xFFFF))
        .collect();
    if tokens.len() > 8 {
        text.push("…".into());
    }
    text.join(" ")
}
