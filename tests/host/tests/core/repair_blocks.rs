// SPDX-License-Identifier: GPL-2.0

//! A repair of a range of several blocks, members wrong in different blocks of it: no byte is lost that each block by itself
//! would have saved. The executor here has one byte a block, and obeys `Work::is_too_coarse`.

use crate::sim_common::{geometry, Random};
use emd_core::model::{Layout, Level, Rotation, Slot};
use emd_core::personalities::choice::Choice;
use emd_core::personalities::lane::{Compute, Job, LaneResult, Outcome, Step, StepResult, Usable};
use emd_core::personalities::{gf256, Geometry, Mask, Work};
use std::collections::BTreeSet;
use std::ops::Range;

const BLOCKS: usize = 6;
const FIX: Job = Job::Sync { fix: true };
const CHECK: Job = Job::Sync { fix: false };

#[derive(Clone)]
struct Lab {
    geometry: Geometry,
    /// Block by block, of each member.
    members: Vec<Vec<u8>>,
    unreadable: BTreeSet<(Slot, usize)>,
    distrusted: bool,
    /// What each run told of its choice, and where.
    told: Vec<(usize, Slot, Choice)>,
    runs: usize,
}

fn at(slot: Slot) -> usize {
    usize::from(slot)
}

fn raid5() -> Geometry {
    geometry(
        640,
        Level::Raid5,
        Layout::Parity(Rotation::LeftSymmetric),
        4,
    )
}

fn raid6() -> Geometry {
    geometry(
        640,
        Level::Raid6,
        Layout::Parity(Rotation::LeftSymmetric),
        6,
    )
}

fn copies(members: u16) -> Geometry {
    geometry(640, Level::Raid1, Layout::Plain, members)
}

impl Lab {
    /// All agree.
    fn new(geometry: Geometry, random: &mut Random) -> Self {
        let mut lab = Self {
            geometry,
            members: vec![vec![0; BLOCKS]; at(geometry.members())],
            unreadable: BTreeSet::new(),
            distrusted: false,
            told: Vec::new(),
            runs: 0,
        };
        let roles = geometry.roles(0);
        for block in 0..BLOCKS {
            let copy = random.next() as u8;
            for slot in roles.data.iter() {
                lab.members[at(slot)][block] = match geometry.level() {
                    Level::Raid1 => copy,
                    _ => random.next() as u8,
                };
            }
            let row: Vec<u8> = lab.members.iter().map(|member| member[block]).collect();
            for parity in roles.parity().iter() {
                let q = roles.q == Some(parity);
                lab.members[at(parity)][block] = lab.sum(roles.data, &row, q);
            }
        }
        lab
    }

    fn sum(&self, slots: Mask, row: &[u8], is_q: bool) -> u8 {
        slots.iter().fold(0, |sum, slot| {
            let exponent = self.geometry.q_exponent(0, slot).unwrap_or(0);
            let factor = if is_q { gf256::power(exponent) } else { 1 };
            sum ^ gf256::multiply(factor, row[at(slot)])
        })
    }

    fn spoil(&mut self, slot: Slot, block: usize, by: u8) {
        self.members[at(slot)][block] ^= by;
    }

    /// What of a member cannot be read: nothing of a run that has any of it can.
    fn is_unreadable(&self, slot: Slot, run: &Range<usize>) -> bool {
        run.clone()
            .any(|block| self.unreadable.contains(&(slot, block)))
    }

    /// As the driver's executor does it: all at once, or block by block.
    fn sync(&mut self, job: Job) {
        let mut length = BLOCKS;
        let mut block = 0;
        while block < BLOCKS {
            match self.run(job, block..block + length) {
                Some(outcome) if outcome.result == LaneResult::Good => block += length,
                _ => {
                    assert_eq!(length, BLOCKS, "a block is never too coarse");
                    length = 1;
                }
            }
        }
    }

    fn run(&mut self, job: Job, run: Range<usize>) -> Option<Outcome> {
        self.runs += 1;
        let all = self.geometry.roles(0).all();
        let usable = Usable {
            readable: all,
            writable: all,
        };
        let mut work = Work::new(&self.geometry, 0, job, usable);
        if self.distrusted {
            work = work.distrust_parity();
        }
        let mut old = vec![vec![0; run.len()]; self.members.len()];
        let mut new = old.clone();
        let mut result = StepResult::default();
        loop {
            let step = work.step(result);
            result = StepResult::default();
            match step {
                Step::Read { members } => {
                    for slot in members.iter() {
                        old[at(slot)] = self.members[at(slot)][run.clone()].to_vec();
                        if self.is_unreadable(slot, &run) {
                            result.failed = result.failed.with(slot);
                            old[at(slot)].fill(0xee);
                        }
                    }
                }
                Step::Write { .. } if run.len() > 1 && work.is_too_coarse() => return None,
                Step::Write { members } => {
                    for slot in members.iter() {
                        self.members[at(slot)][run.clone()].copy_from_slice(&new[at(slot)]);
                        self.unreadable
                            .retain(|&(bad, block)| bad != slot || !run.contains(&block));
                    }
                }
                Step::Compute(compute) => self.compute(compute, &mut old, &mut new, &mut result),
                Step::Log { .. } => panic!("a sync logs nothing"),
                Step::Done(outcome) => {
                    let read = all.minus(outcome.repaired);
                    let choice =
                        Choice::of(&self.geometry, 0, outcome.corrected, read, self.distrusted);
                    let told = outcome.corrected.first().zip(choice);
                    self.told
                        .extend(told.map(|(slot, choice)| (run.start, slot, choice)));
                    return Some(outcome);
                }
            }
        }
    }

    fn compute(
        &self,
        compute: Compute,
        old: &mut [Vec<u8>],
        new: &mut [Vec<u8>],
        result: &mut StepResult,
    ) {
        let data = self.geometry.roles(0).data;
        let row = |buffers: &[Vec<u8>], block: usize| -> Vec<u8> {
            buffers.iter().map(|member| member[block]).collect()
        };
        let blocks = 0..old[0].len();
        match compute {
            Compute::Parity { p, old: olds, .. } => {
                for block in blocks {
                    new[at(p)][block] = self.sum(olds, &row(old, block), false);
                }
            }
            Compute::Syndromes { p, q, .. } => {
                for block in blocks {
                    let row = row(old, block);
                    new[at(q)][block] = self.sum(data, &row, true);
                    if let Some(p) = p {
                        new[at(p)][block] = self.sum(data, &row, false);
                    }
                }
            }
            Compute::Reconstruct { slot, old: olds } => {
                for block in blocks {
                    old[at(slot)][block] = self.sum(olds, &row(old, block), false);
                }
            }
            Compute::ReconstructByQ { slot, q } => {
                let exponent = self.geometry.q_exponent(0, slot).unwrap_or(0);
                for block in blocks {
                    let row = row(old, block);
                    let mut rest = [row[at(q)] ^ self.sum(data.without(slot), &row, true)];
                    gf256::recover_by_q(&mut rest, exponent);
                    old[at(slot)][block] = rest[0];
                }
            }
            Compute::ReconstructTwo { a, b, p, q } => {
                let exponent = |slot| self.geometry.q_exponent(0, slot).unwrap_or(0);
                let known = data.without(a).without(b);
                for block in blocks {
                    let row = row(old, block);
                    let mut first = [row[at(p)] ^ self.sum(known, &row, false)];
                    let mut second = [row[at(q)] ^ self.sum(known, &row, true)];
                    let (a_of, b_of) = (exponent(a), exponent(b));
                    assert!(gf256::recover_two(&mut first, &mut second, a_of, b_of));
                    old[at(a)][block] = first[0];
                    old[at(b)][block] = second[0];
                }
            }
            Compute::Compare { p } => result.differs = old[at(p)] != new[at(p)],
            Compute::Match { a, b } => result.differs = old[at(a)] != old[at(b)],
            Compute::Restore { slot } => new[at(slot)] = old[at(slot)].clone(),
            Compute::Copy { from, to } => new[at(to)] = old[at(from)].clone(),
            Compute::Locate { p, q } => {
                let (p, q) = (at(p), at(q));
                let found = gf256::locate(&old[p], &new[p], &old[q], &new[q]);
                let has = |&slot: &Slot| {
                    let exponent = self.geometry.q_exponent(0, slot);
                    found.is_some() && exponent == found
                };
                result.wrong = data.iter().find(has);
            }
            other => panic!("{other:?} is not for these"),
        }
    }
}

#[test]
fn three_copies_vote_in_each_block() {
    let mut lab = Lab::new(copies(3), &mut Random(1));
    let right = lab.members.clone();
    lab.spoil(0, 1, 0x55);
    lab.spoil(1, 4, 0x66);
    lab.sync(FIX);
    assert_eq!(lab.members, right);
    let told = [(1, 0, Choice::Majority), (4, 1, Choice::Majority)];
    assert_eq!(lab.told, told);
}

/// Half of the copies are no majority: a block may have one that the range has not.
#[test]
fn half_of_the_copies_do_not_decide_for_all_blocks() {
    let mut lab = Lab::new(copies(4), &mut Random(1));
    let right = lab.members.clone();
    lab.spoil(0, 4, 0x66);
    lab.spoil(2, 1, 0x55);
    lab.spoil(3, 1, 0x55);
    lab.sync(FIX);
    assert_eq!(lab.members, right);
    let told = [(1, 2, Choice::FirstCopy), (4, 0, Choice::Majority)];
    assert_eq!(lab.told, told);
}

#[test]
fn two_parities_find_a_member_in_each_block() {
    let roles = raid6().roles(0);
    let (p, q) = (roles.p.expect("P"), roles.q.expect("Q"));
    let data: Vec<Slot> = roles.data.iter().collect();
    for (one, other) in [(data[0], data[1]), (data[2], p), (q, data[3]), (p, q)] {
        let mut lab = Lab::new(raid6(), &mut Random(2));
        let right = lab.members.clone();
        lab.spoil(one, 1, 0x55);
        lab.spoil(other, 4, 0x66);
        lab.sync(FIX);
        assert_eq!(lab.members, right, "{one} and {other}");
        let why = |slot| match roles.data.contains(slot) {
            true => Choice::Syndromes,
            false => Choice::Parity,
        };
        assert_eq!(lab.told, [(1, one, why(one)), (4, other, why(other))]);
    }
}

/// What agrees, and what has one explanation, is one run.
#[test]
fn what_one_member_explains_is_not_cut_up() {
    for geometry in [raid5(), raid6(), copies(2), copies(3), copies(5)] {
        for slot in 0..geometry.members() {
            let mut lab = Lab::new(geometry, &mut Random(3));
            lab.sync(FIX);
            assert_eq!(lab.runs, 1);
            lab.spoil(slot, 1, 0x55);
            lab.spoil(slot, 4, 0x66);
            lab.sync(FIX);
            assert_eq!(lab.runs, 2, "{:?}, slot {slot}", geometry.level());
        }
    }
    // Two copies, and parity alone, can tell nothing of a block that they cannot tell of all.
    for geometry in [raid5(), copies(2)] {
        let mut lab = Lab::new(geometry, &mut Random(3));
        lab.spoil(0, 1, 0x55);
        lab.spoil(1, 4, 0x66);
        lab.sync(FIX);
        assert_eq!(lab.runs, 1);
    }
    // A check only looks.
    let mut lab = Lab::new(raid6(), &mut Random(3));
    lab.spoil(0, 1, 0x55);
    lab.spoil(1, 4, 0x66);
    lab.sync(CHECK);
    assert_eq!(lab.runs, 1);
}

/// After a crash nobody is looked for: parity, or the first copy, whatever the range. What cannot be read there an executor
/// has a rule of its own for, which needs no question.
#[test]
fn what_a_crash_left_is_not_cut_up() {
    for geometry in [raid6(), copies(3)] {
        let mut lab = Lab::new(geometry, &mut Random(4));
        lab.distrusted = true;
        lab.spoil(0, 1, 0x55);
        lab.spoil(1, 4, 0x66);
        lab.sync(FIX);
        lab.unreadable.insert((2, 3));
        lab.sync(FIX);
        assert_eq!(lab.runs, 2);
    }
}

/// A block that cannot be read is worked out; the others of that member are not, whatever is wrong there.
#[test]
fn what_cannot_be_read_takes_nothing_else_along() {
    for geometry in [raid5(), raid6(), copies(2), copies(3)] {
        for job in [CHECK, FIX] {
            for (unread, wrong) in [(0, 1), (1, 0), (1, 2), (2, 0)] {
                if wrong.max(unread) >= geometry.members() {
                    continue;
                }
                let mut lab = Lab::new(geometry, &mut Random(5));
                let mut right = lab.members.clone();
                lab.unreadable.insert((unread, 4));
                lab.members[at(unread)][4] = 0;
                lab.spoil(wrong, 1, 0x55);
                let spoilt = lab.members[at(wrong)][1];
                lab.sync(job);
                assert!(lab.unreadable.is_empty());
                let mends = job == FIX;
                let knows = matches!(geometry.level(), Level::Raid6) || geometry.members() == 3;
                if !(mends && knows) {
                    // Nothing is known of that block: it may come to what is wrong, but not of who could not be read elsewhere.
                    if mends {
                        assert!(!lab.told.is_empty());
                        continue;
                    }
                    right[at(wrong)][1] = spoilt;
                }
                assert_eq!(lab.members, right, "{:?} {job:?}", geometry.level());
            }
        }
    }
}

/// As many as each block bears by itself, anywhere.
#[test]
fn whatever_a_block_bears_a_range_does() {
    let mut random = Random(0xb10c);
    for round in 0..4_000 {
        let geometry = [raid6(), copies(3), copies(4), copies(5)][round % 4];
        let members = u64::from(geometry.members());
        let mut lab = Lab::new(geometry, &mut random);
        let right = lab.members.clone();
        for block in 0..BLOCKS {
            if random.chance(2) {
                let slot = random.below(members) as Slot;
                match random.chance(4) {
                    true => {
                        lab.unreadable.insert((slot, block));
                    }
                    false => lab.spoil(slot, block, 1 + random.below(255) as u8),
                }
            }
        }
        let spoilt = lab.clone();
        lab.sync(CHECK);
        for (slot, member) in lab.members.iter().enumerate() {
            for (block, &byte) in member.iter().enumerate() {
                // Where nothing could be read it is right now, elsewhere as it was.
                let was_unread = spoilt.unreadable.contains(&(slot as Slot, block));
                let wanted = if was_unread { &right } else { &spoilt.members };
                assert_eq!(byte, wanted[slot][block], "round {round}: a check");
            }
        }
        let mut lab = spoilt;
        lab.sync(FIX);
        assert_eq!(lab.members, right, "round {round}");
        assert!(lab.unreadable.is_empty());
    }
}
