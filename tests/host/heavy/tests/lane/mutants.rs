// SPDX-License-Identifier: GPL-2.0

//! Proof that the lane tests can fail: machines with one fault put in each, all of which the judge
//! has to find.

use crate::lane_sim::{run_and_judge, Case, Lab, Machine, Random, Trouble, Verdict};
use emd_core::personalities::lane::{Compute, Job, Lane, LaneResult, Step, StepResult};
use emd_core::personalities::{LaneRoles, Mask};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Mutation {
    /// None: the control.
    Genuine,
    /// Data is written, parity is not.
    SkipParityWrite,
    /// Parity of the new data alone.
    ParityWithoutOld,
    /// Read-modify-write that forgets the old parity.
    ParityWithoutOldParity,
    /// Failed reads count as good.
    TrustFailedReads,
    /// Members being rebuilt are read.
    ReadUnreadable,
    /// Failed writes are not noticed.
    TrustFailedWrites,
    /// A lost member is noticed by its failed I/O, and forgotten.
    ForgetLost,
    /// All is acknowledged.
    AlwaysGood,
    /// Nothing is reported as failed.
    HideFailedWrites,
    /// Reads all there is, always.
    ReadEverything,
    /// Reconstructed blocks are not written back.
    SkipRepair,
    /// Nothing ever works.
    AlwaysRefuse,
    /// A mismatch is not told.
    HideMismatch,
    /// A check mends.
    CheckMends,
    /// Q is not written.
    SkipQWrite,
    /// Q of the new data alone.
    QWithoutOld,
    /// Read-modify-write that forgets the old Q.
    QWithoutOldQ,
    /// P and Q are taken for each other where one of them is compared.
    CompareTheOther,
    /// The one wrong member is not looked at: parity is rewritten.
    IgnoreLocated,
    /// The first data member is always to blame.
    BlameTheFirst,
    /// What was corrected is not told.
    HideCorrected,
    /// Parity is trusted although nobody says that it agrees.
    TrustParity,
    /// A write that more members missed than there is parity for is acknowledged.
    AcknowledgeTooFew,
}

const MUTANTS: [Mutation; 23] = [
    Mutation::SkipParityWrite,
    Mutation::ParityWithoutOld,
    Mutation::ParityWithoutOldParity,
    Mutation::TrustFailedReads,
    Mutation::ReadUnreadable,
    Mutation::TrustFailedWrites,
    Mutation::ForgetLost,
    Mutation::AlwaysGood,
    Mutation::HideFailedWrites,
    Mutation::ReadEverything,
    Mutation::SkipRepair,
    Mutation::AlwaysRefuse,
    Mutation::HideMismatch,
    Mutation::CheckMends,
    Mutation::SkipQWrite,
    Mutation::QWithoutOld,
    Mutation::QWithoutOldQ,
    Mutation::CompareTheOther,
    Mutation::IgnoreLocated,
    Mutation::BlameTheFirst,
    Mutation::HideCorrected,
    Mutation::TrustParity,
    Mutation::AcknowledgeTooFew,
];

struct Mutant {
    lane: Lane,
    roles: LaneRoles,
    written: Mask,
    mutation: Mutation,
    reading: bool,
    writing: bool,
}

impl Mutant {
    fn new(mutation: Mutation, mut case: Case) -> Self {
        if mutation == Mutation::ReadUnreadable {
            case.usable.readable = case.usable.writable;
        }
        if mutation == Mutation::CheckMends && matches!(case.job, Job::Sync { .. }) {
            case.job = Job::Sync { fix: true };
        }
        if mutation == Mutation::TrustParity {
            case.distrusted = false;
        }
        Self {
            lane: case.lane(),
            roles: case.roles,
            written: match case.job {
                Job::Write { written } => written,
                _ => Mask::EMPTY,
            },
            mutation,
            reading: false,
            writing: false,
        }
    }
}

impl Machine for Mutant {
    fn step(&mut self, mut result: StepResult) -> Step {
        let trust = match self.mutation {
            Mutation::TrustFailedReads => self.reading,
            Mutation::TrustFailedWrites => self.writing,
            _ => false,
        };
        if trust {
            result.failed = Mask::EMPTY;
        }
        if self.mutation == Mutation::ForgetLost {
            result.lost = Mask::EMPTY;
        }
        match self.mutation {
            Mutation::IgnoreLocated => result.wrong = None,
            Mutation::BlameTheFirst => result.wrong = self.roles.data.first(),
            _ => {}
        }
        let mut step = self.lane.step(result);
        match (self.mutation, &mut step) {
            (Mutation::SkipParityWrite, Step::Write { members }) => {
                *members = members.minus(self.roles.parity());
                if members.is_empty() {
                    return self.step(StepResult::default());
                }
            }
            (Mutation::ParityWithoutOld, Step::Compute(Compute::Parity { old, .. })) => {
                *old = Mask::EMPTY;
            }
            (Mutation::ParityWithoutOldParity, Step::Compute(Compute::Parity { p, old, .. })) => {
                *old = old.without(*p);
            }
            (Mutation::AlwaysGood, Step::Done(outcome)) => outcome.result = LaneResult::Good,
            (Mutation::AlwaysRefuse, Step::Done(outcome)) => {
                outcome.result = LaneResult::Unwritten;
            }
            (Mutation::HideFailedWrites, Step::Done(outcome)) => {
                outcome.write_failed = Mask::EMPTY;
            }
            (Mutation::AcknowledgeTooFew, Step::Done(outcome))
                if outcome.write_failed.len() > self.roles.parity().len() =>
            {
                outcome.result = LaneResult::Good;
            }
            (Mutation::SkipQWrite, Step::Write { members }) => {
                *members = members.minus(Mask::option(self.roles.q));
                if members.is_empty() {
                    return self.step(StepResult::default());
                }
            }
            (Mutation::QWithoutOld, Step::Compute(Compute::Syndromes { old, .. })) => {
                *old = Mask::EMPTY;
            }
            (Mutation::QWithoutOldQ, Step::Compute(Compute::Syndromes { p, q, old, .. })) => {
                *old = old.minus(Mask::option(*p)).without(*q);
            }
            (Mutation::CompareTheOther, Step::Compute(Compute::Compare { p })) => {
                if let (Some(one), Some(other)) = (self.roles.p, self.roles.q) {
                    *p = if *p == one { other } else { one };
                }
            }
            (Mutation::HideCorrected, Step::Done(outcome)) => outcome.corrected = Mask::EMPTY,
            (Mutation::HideMismatch, Step::Done(outcome)) => outcome.mismatch = false,
            (Mutation::ReadEverything, Step::Read { members }) => *members = self.roles.all(),
            (Mutation::SkipRepair, Step::Write { members }) => {
                *members = members.intersect(self.written.union(self.roles.parity()));
                if members.is_empty() {
                    return self.step(StepResult::default());
                }
            }
            _ => {}
        }
        self.reading = matches!(step, Step::Read { .. });
        self.writing = matches!(step, Step::Write { .. });
        step
    }
}

/// One random run of one job on a lane in a random state.
fn one_run(mutation: Mutation, seed: u64) -> Verdict {
    let mut random = Random(seed);
    let n = 3 + random.below(4) as u16;
    let mut lab = if random.chance(2) {
        Lab::any_with_q(n, &mut random)
    } else {
        let p = random.below(u64::from(n)) as u16;
        Lab::new(n, p, &mut random)
    };
    for _ in 0..lab.redundancy() {
        let slot = random.below(u64::from(n)) as u16;
        match random.below(6) {
            0 => lab.lose(Mask::single(slot)),
            1 if lab.at(slot).in_sync => lab.make_stale(slot),
            2 => lab.at_mut(slot).bad = true,
            _ => {}
        }
    }
    let slot = random.below(u64::from(n)) as u16;
    let mask = Mask(random.next()).intersect(lab.roles.data).with(
        // Never empty.
        lab.roles.data.first().unwrap(),
    );
    let job = match random.below(6) {
        0..=2 => Job::Write { written: mask },
        3 => Job::Read { wanted: mask },
        4 => Job::Rebuild {
            targets: Mask::single(slot),
        },
        _ => {
            if random.chance(2) {
                lab.at_mut(slot).content ^= 1;
            }
            Job::Sync {
                fix: random.chance(2),
            }
        }
    };
    // What a crash may leave; then without faults, for P and Q each tell another story.
    let torn = random.chance(8) && matches!(job, Job::Write { .. });
    if torn {
        lab.distrusted = true;
        lab.at_mut(slot).content ^= random.next();
    }
    let at = random.below(5) as usize;
    let victim = (0..=random.below(3)).fold(Mask::EMPTY, |mask, _| {
        mask.with(random.below(u64::from(n)) as u16)
    });
    let how = random.below(4);
    run_and_judge(
        &mut lab,
        job,
        &mut random,
        |case| Box::new(Mutant::new(mutation, case)),
        |step, _| {
            let mut trouble = Trouble::default();
            if step == at && !torn {
                match how {
                    0 => trouble.media = victim,
                    1 => trouble.lost_before = victim,
                    2 => trouble.lost_after = victim,
                    _ => {}
                }
            }
            trouble
        },
    )
    .map(|_| ())
}

const RUNS: u64 = 20_000;

#[test]
fn every_mutant_is_caught() {
    for mutation in MUTANTS {
        let caught = (0..RUNS)
            .filter(|&seed| one_run(mutation, seed).is_err())
            .count();
        println!("{mutation:?}: caught in {caught} of {RUNS} runs");
        assert!(caught > 0, "{mutation:?} was not caught");
    }
}

#[test]
fn the_genuine_machine_passes() {
    for seed in 0..RUNS {
        one_run(Mutation::Genuine, seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}
