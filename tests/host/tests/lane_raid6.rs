// SPDX-License-Identifier: GPL-2.0

//! The lane machine with P and Q, through every small case: each job, each state of any two members,
//! unreadable blocks, one more fault at each step. `lane_exhaustive` is the same for P alone.

mod lane_sim;

use emd_core::model::Slot;
use emd_core::personalities::lane::{Job, Step, STEPS_MAX};
use emd_core::personalities::Mask;
use lane_sim::{genuine, run_and_judge, Lab, Random, Trace, Trouble};

/// Every job there is for a lane like `lab`.
fn jobs(lab: &Lab) -> Vec<Job> {
    let mut jobs = vec![Job::Sync { fix: true }, Job::Sync { fix: false }];
    for bits in 1..1u64 << lab.members.len() {
        let mask = Mask(bits);
        // Three at once is one more than can be had.
        if mask.len() <= 3 {
            jobs.push(Job::Rebuild { targets: mask });
        }
        if mask.is_within(lab.roles.data) {
            jobs.push(Job::Write { written: mask });
            jobs.push(Job::Read { wanted: mask });
        }
    }
    jobs
}

/// Members that are lost, and members that are being rebuilt; two in all at most.
fn starts(n: u16) -> Vec<(Mask, Mask)> {
    let few = (0..1u64 << n).map(Mask).filter(|mask| mask.len() <= 2);
    few.flat_map(|gone| {
        (0..1u64 << n)
            .map(Mask)
            .filter(move |lost| lost.is_within(gone))
            .map(move |lost| (lost, gone.minus(lost)))
    })
    .collect()
}

fn sets(n: u16, most: u32) -> impl Iterator<Item = Mask> {
    (0..1u64 << n)
        .map(Mask)
        .filter(move |mask| mask.len() <= most)
}

/// Everything that can go wrong in one step, if `step` is what it does: one member.
fn troubles(n: u16, step: &Step) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let io = match *step {
        Step::Read { members } | Step::Write { members } => members,
        _ => Mask::EMPTY,
    };
    for slot in 0..n {
        let one = Mask::single(slot);
        if io.contains(slot) {
            troubles.push(Trouble {
                media: one,
                ..Trouble::default()
            });
            troubles.push(Trouble {
                lost_before: one,
                ..Trouble::default()
            });
        }
        troubles.push(Trouble {
            lost_after: one,
            ..Trouble::default()
        });
    }
    troubles
}

/// Runs `job` on copies of `lab`: without a fault, then with each single fault at each step.
fn all_faults(lab: &Lab, job: Job, random: &mut Random, count: &mut Count) {
    let n = lab.members.len() as u16;
    let mut steps = Vec::new();
    let trace = run_and_judge(&mut lab.clone(), job, random, genuine, |_, step| {
        steps.push(*step);
        Trouble::default()
    })
    .unwrap_or_else(|why| panic!("no fault: {why}"));
    count.add(&trace);
    for (at, step) in steps.iter().enumerate() {
        for trouble in troubles(n, step) {
            let trace = run_and_judge(&mut lab.clone(), job, random, genuine, |step, _| {
                if step == at {
                    trouble
                } else {
                    Trouble::default()
                }
            })
            .unwrap_or_else(|why| panic!("{trouble:?} at step {at}: {why}"));
            count.add(&trace);
        }
    }
}

#[derive(Default)]
struct Count {
    runs: u64,
    steps: usize,
}

impl Count {
    fn add(&mut self, trace: &Trace) {
        self.runs += 1;
        self.steps = self.steps.max(trace.steps);
    }
}

/// All of it for one placement of P and Q.
fn all_cases(n: u16, bad_most: u32, p: Slot, q: Slot, distrusted: bool) -> Count {
    let mut random = Random(0x6a1d ^ u64::from(n));
    let mut count = Count::default();
    let exponents = random.distinct(usize::from(n) - 2, 255);
    let mut healthy = Lab::with_q(n, p, q, &exponents, &mut random);
    healthy.distrusted = distrusted;
    for job in jobs(&healthy) {
        for (lost, stale) in starts(n) {
            for bad in sets(n, bad_most) {
                let mut lab = healthy.clone();
                lab.lose(lost);
                for slot in stale {
                    lab.make_stale(slot);
                }
                for slot in bad {
                    lab.at_mut(slot).bad = true;
                }
                all_faults(&lab, job, &mut random, &mut count);
            }
        }
    }
    println!("{n} members, P {p}, Q {q}: {} runs", count.runs);
    count
}

#[test]
fn three_and_four_members_with_any_two_bad_blocks() {
    let mut steps = 0;
    for (p, q) in [(1, 2), (2, 1), (0, 2)] {
        steps = steps.max(all_cases(3, 2, p, q, false).steps);
    }
    for (p, q) in [(2, 3), (1, 0)] {
        steps = steps.max(all_cases(4, 2, p, q, false).steps);
    }
    // The bound is reached, and `Lab::run` saw that it never was passed.
    assert_eq!(steps, STEPS_MAX);
}

#[test]
fn four_members_whose_parity_is_not_trusted() {
    let count = all_cases(4, 2, 0, 3, true);
    assert!(count.steps <= STEPS_MAX);
}

#[test]
fn five_members_with_any_bad_block() {
    let count = all_cases(5, 1, 4, 1, false);
    assert!(count.runs > 100_000, "only {} runs", count.runs);
}

#[test]
fn six_members() {
    // The machine deals in sets: bad blocks among more members tell little new.
    let count = all_cases(6, 0, 2, 3, false);
    assert!(count.runs > 50_000, "only {} runs", count.runs);
}
