// SPDX-License-Identifier: GPL-2.0

//! One lane, simulated: members, the executor that a [`Machine`] drives, and the judge.
//!
//! # Fault model
//!
//! A block is 8 bytes; a lane has one a member. Before and between steps
//! * a block may have become unreadable (latent sector error); it stays so until it is written;
//! * a write may fail; what the medium then holds is garbage, and may be unreadable;
//! * a member may be lost, before the step's I/O reaches it (which then fails) or after it;
//! * a member may be absent, or present and out of date (being rebuilt), from the start.
//!
//! Power cuts in the middle of a write are judged where there is a log ([`Lab::logged`], `crash`); what one
//! leaves behind without, a lane that disagrees with itself, is where tests of [`Lab::distrusted`] lanes
//! start. Silent corruption is only what tests of `Sync` put in.
//!
//! # The judge
//!
//! Knows nothing of methods (`judge`, with arithmetic of its own in `field`): it compares what a
//! reader would get afterwards with what was there before and what was acknowledged; it refuses
//! unjustified failures, and reads beyond the least that linear algebra allows.

#![allow(dead_code)] // Each test uses a part.

mod crash;
mod executor;
pub mod field;
mod judge;
#[path = "../../../../tests/core/sim_common/mod.rs"]
mod sim_common;

pub use executor::{Trace, Trouble};
pub use sim_common::{Random, Verdict};

use emd_core::model::Slot;
use emd_core::personalities::lane::{Job, Lane, LaneResult, Step, StepResult, Usable};
use emd_core::personalities::{LaneRoles, Mask};
use field::{Basis, Row};

/// Most members of a simulated lane.
pub const SLOTS_MAX: usize = 8;

/// A block for each member, by slot.
pub type Blocks = [u64; SLOTS_MAX];

/// What is driven: the real machine, or one with a fault put in.
pub trait Machine {
    fn step(&mut self, result: StepResult) -> Step;
}

impl Machine for Lane {
    fn step(&mut self, result: StepResult) -> Step {
        Lane::step(self, result)
    }
}

/// What a machine is made for.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub roles: LaneRoles,
    pub job: Job,
    pub usable: Usable,
    pub distrusted: bool,
    pub overwriting: bool,
    pub logged: bool,
}

impl Case {
    pub fn lane(&self) -> Lane {
        let mut lane = Lane::new(self.roles, self.job, self.usable);
        if self.logged {
            lane = lane.with_log();
        }
        if self.overwriting {
            lane = lane.overwriting();
        }
        if self.distrusted {
            lane.distrust_parity()
        } else {
            lane
        }
    }
}

/// The machine as it is.
pub fn genuine(case: Case) -> Box<dyn Machine> {
    Box::new(case.lane())
}

#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub content: u64,
    /// The block cannot be read.
    pub bad: bool,
    pub present: bool,
    pub in_sync: bool,
}

#[derive(Clone, Debug)]
pub struct Lab {
    pub roles: LaneRoles,
    pub members: Vec<Member>,
    /// What Q takes each member's data times; by slot, 0 for parity.
    coefficients: Vec<u8>,
    /// The executor tells the machine that parity is not known to agree.
    pub distrusted: bool,
    /// And that it most likely does not.
    pub overwriting: bool,
    /// There is a log: a crash in the middle of a write is judged too.
    pub logged: bool,
}

impl Lab {
    /// A lane of `n` members that agrees with itself, P in slot `p`.
    pub fn new(n: u16, p: Slot, random: &mut Random) -> Self {
        Self::of(n, Some(p), None, &[], random)
    }

    /// The same with Q in slot `q`, and as exponents of the data members, slots ascending,
    /// `exponents`.
    pub fn with_q(n: u16, p: Slot, q: Slot, exponents: &[u8], random: &mut Random) -> Self {
        Self::of(n, Some(p), Some(q), exponents, random)
    }

    /// Any lane with Q.
    pub fn any_with_q(n: u16, random: &mut Random) -> Self {
        let p = random.below(u64::from(n)) as Slot;
        let q = (p + 1 + random.below(u64::from(n) - 1) as Slot) % n;
        let exponents = random.distinct(usize::from(n) - 2, 255);
        Self::with_q(n, p, q, &exponents, random)
    }

    fn of(n: u16, p: Option<Slot>, q: Option<Slot>, exponents: &[u8], random: &mut Random) -> Self {
        let data = Mask::all(n).minus(Mask::option(p)).minus(Mask::option(q));
        let mut coefficients = vec![0; usize::from(n)];
        for (slot, &exponent) in data.iter().zip(exponents) {
            coefficients[usize::from(slot)] = field::power(exponent);
        }
        let mut lab = Self {
            roles: LaneRoles { data, p, q },
            members: (0..n)
                .map(|_| Member {
                    content: random.next(),
                    bad: false,
                    present: true,
                    in_sync: true,
                })
                .collect(),
            coefficients,
            distrusted: false,
            overwriting: false,
            logged: false,
        };
        let contents = lab.contents();
        for parity in lab.roles.parity() {
            lab.at_mut(parity).content = lab.sum(parity, &contents);
        }
        lab
    }

    pub fn at(&self, slot: Slot) -> &Member {
        &self.members[usize::from(slot)]
    }

    pub fn at_mut(&mut self, slot: Slot) -> &mut Member {
        &mut self.members[usize::from(slot)]
    }

    pub fn all(&self) -> Mask {
        self.roles.all()
    }

    /// How many members may be missing.
    pub fn redundancy(&self) -> u32 {
        self.roles.parity().len()
    }

    fn contents(&self) -> Blocks {
        let mut blocks = Blocks::default();
        for (block, member) in blocks.iter_mut().zip(&self.members) {
            *block = member.content;
        }
        blocks
    }

    /// What `data` contributes to `parity`.
    pub fn factor(&self, parity: Slot, data: Slot) -> u8 {
        match self.roles.q {
            Some(q) if q == parity => self.coefficients[usize::from(data)],
            _ => 1,
        }
    }

    /// What `parity` should hold with `data`, by slot.
    fn sum(&self, parity: Slot, data: &Blocks) -> u64 {
        self.roles.data.iter().fold(0, |sum, d| {
            sum ^ field::scale(data[usize::from(d)], self.factor(parity, d))
        })
    }

    /// What follows for all data when just `known` members hold what they do, by slot. P before Q.
    /// `None` when it does not follow.
    fn solve(&self, known: Mask) -> Option<Blocks> {
        let mut data = self.contents();
        let unknown = self.roles.data.minus(known);
        for u in unknown {
            data[usize::from(u)] = 0;
        }
        let parity = |slot: Option<Slot>| slot.filter(|&slot| known.contains(slot));
        // What the unknown data gives to a parity.
        let rest = |slot: Slot, data: &Blocks| self.at(slot).content ^ self.sum(slot, data);
        let mut unknown = unknown.iter();
        match (unknown.next(), unknown.next(), unknown.next()) {
            (None, ..) => {}
            (Some(a), None, _) => {
                let parity = parity(self.roles.p).or(parity(self.roles.q))?;
                let by = field::inverse(self.factor(parity, a));
                data[usize::from(a)] = field::scale(rest(parity, &data), by);
            }
            (Some(a), Some(b), None) => {
                let (p, q) = (parity(self.roles.p)?, parity(self.roles.q)?);
                let (ga, gb) = (self.factor(q, a), self.factor(q, b));
                let (of_p, of_q) = (rest(p, &data), rest(q, &data));
                // q − b·p has a alone.
                let by = field::inverse(ga ^ gb);
                let found = field::scale(of_q ^ field::scale(of_p, gb), by);
                data[usize::from(a)] = found;
                data[usize::from(b)] = of_p ^ found;
            }
            _ => return None,
        }
        Some(data)
    }

    /// Whether what `known` members hold contradicts nothing.
    pub fn agrees_among(&self, known: Mask) -> bool {
        let Some(data) = self.solve(known) else {
            return true;
        };
        self.roles
            .parity()
            .intersect(known)
            .iter()
            .all(|parity| self.at(parity).content == self.sum(parity, &data))
    }

    pub fn agrees(&self) -> bool {
        self.agrees_among(self.all())
    }

    /// What `slot` should hold, going by `known` members.
    pub fn value(&self, slot: Slot, known: Mask) -> Option<u64> {
        if known.contains(slot) {
            return Some(self.at(slot).content);
        }
        let data = self.solve(known)?;
        Some(if self.roles.data.contains(slot) {
            data[usize::from(slot)]
        } else {
            self.sum(slot, &data)
        })
    }

    /// The member as a row of the code's matrix.
    fn row(&self, slot: Slot) -> Row {
        if self.roles.data.contains(slot) {
            let mut row = Row::default();
            row[usize::from(slot)] = 1;
            row
        } else {
            self.row_over(slot, self.roles.data)
        }
    }

    /// The parity's share of `data`.
    fn row_over(&self, parity: Slot, data: Mask) -> Row {
        let mut row = Row::default();
        for d in data {
            row[usize::from(d)] = self.factor(parity, d);
        }
        row
    }

    /// Whether all of `wanted` follow from what `known` members hold.
    fn follow(&self, wanted: &[Row], known: Mask) -> bool {
        let mut basis = Basis::default();
        for m in known {
            basis.insert(self.row(m));
        }
        wanted.iter().all(|&row| basis.has(row))
    }

    fn filter(&self, keep: impl Fn(&Member) -> bool) -> Mask {
        self.all()
            .iter()
            .filter(|&m| keep(self.at(m)))
            .fold(Mask::EMPTY, Mask::with)
    }

    pub fn usable(&self) -> Usable {
        Usable {
            readable: self.filter(|m| m.present && m.in_sync),
            writable: self.filter(|m| m.present),
        }
    }

    /// Members whose contents count.
    pub fn in_sync(&self) -> Mask {
        self.usable().readable
    }

    /// Members that a reader can trust and read.
    pub fn sound(&self) -> Mask {
        self.filter(|m| m.present && m.in_sync && !m.bad)
    }

    /// What a reader gets.
    pub fn read_back(&self, slot: Slot) -> Option<u64> {
        self.value(slot, self.sound())
    }

    pub fn lose(&mut self, members: Mask) {
        for m in members.intersect(self.all()) {
            let member = self.at_mut(m);
            member.present = false;
            member.in_sync = false;
        }
    }

    /// Present, but what it holds is out of date.
    pub fn make_stale(&mut self, slot: Slot) {
        let member = self.at_mut(slot);
        member.in_sync = false;
        member.content = !member.content;
    }

    /// Does what the executor owes after `Done`: members that missed a write are out of date,
    /// rebuilt ones are in sync.
    fn settle(&mut self, job: Job, trace: &Trace) {
        for m in trace.outcome.write_failed {
            self.at_mut(m).in_sync = false;
        }
        if let (Job::Rebuild { targets }, LaneResult::Good) = (job, trace.outcome.result) {
            for m in targets.minus(trace.lost) {
                self.at_mut(m).in_sync = true;
            }
        }
    }
}

/// Runs `job` on `lab` with the machine that `wrap` makes, and judges it. `lab` is left as the
/// executor leaves it.
pub fn run_and_judge(
    lab: &mut Lab,
    job: Job,
    random: &mut Random,
    wrap: impl FnOnce(Case) -> Box<dyn Machine>,
    trouble_at: impl FnMut(usize, &Step) -> Trouble,
) -> Verdict<Trace> {
    let before = lab.clone();
    let fresh: Vec<u64> = before.members.iter().map(|_| random.next()).collect();
    let mut machine = wrap(Case {
        roles: lab.roles,
        job,
        usable: lab.usable(),
        distrusted: lab.distrusted,
        overwriting: lab.overwriting,
        logged: lab.logged,
    });
    let trace = lab.run(machine.as_mut(), job, &fresh, trouble_at)?;
    lab.settle(job, &trace);
    judge::judge(&before, lab, job, &fresh, &trace).map_err(|why| {
        format!("{why}\njob {job:?}\nbefore {before:?}\nafter {lab:?}\n{trace:?}")
    })?;
    Ok(trace)
}
