// SPDX-License-Identifier: GPL-2.0

//! The lane machine with P and Q, through every small case: each job, each state of any two members,
//! unreadable blocks, one more fault at each step. `lane_exhaustive` is the same for P alone.

use crate::lane_sim::{genuine, run_and_judge, Case, Lab, Random, Trace, Trouble};
use emd_core::model::Slot;
use emd_core::personalities::lane::{Job, Lane, LaneResult, Step, STEPS_MAX};
use emd_core::personalities::Mask;

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
        Step::Read { members } | Step::Log { members, .. } | Step::Write { members } => members,
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
fn all_cases(n: u16, bad_most: u32, p: Slot, q: Slot) -> Count {
    let mut random = Random(0x6a1d ^ u64::from(n));
    let mut count = Count::default();
    let exponents = random.distinct(usize::from(n) - 2, 255);
    let healthy = Lab::with_q(n, p, q, &exponents, &mut random);
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
        steps = steps.max(all_cases(3, 2, p, q).steps);
    }
    for (p, q) in [(2, 3), (1, 0)] {
        steps = steps.max(all_cases(4, 2, p, q).steps);
    }
    // The bound is reached, and `Lab::run` saw that it never was passed.
    assert_eq!(steps, STEPS_MAX);
}

#[test]
fn five_members_with_any_bad_block() {
    let count = all_cases(5, 1, 4, 1);
    assert!(count.runs > 100_000, "only {} runs", count.runs);
}

#[test]
fn six_members() {
    // The machine deals in sets: bad blocks among more members tell little new.
    let count = all_cases(6, 0, 2, 3);
    assert!(count.runs > 50_000, "only {} runs", count.runs);
}

/// P, Q and their exponents as md has them, and anything else.
fn placements(n: u16) -> impl Iterator<Item = (Slot, Slot)> {
    (0..n).flat_map(move |p| (0..n).map(move |q| (p, q)).filter(|(p, q)| p != q))
}

/// Silent faults in any one or two members: told; put right as `sync` says; also with a member
/// missing, and with one more fault at each step.
#[test]
fn sync_tells_what_is_wrong() {
    let mut random = Random(5);
    let mut count = Count::default();
    for (n, p, q) in [(3, 0, 1), (4, 3, 1), (6, 4, 5)] {
        for wrong in sets(n, 2) {
            for gone in sets(n, 1) {
                for (distrusted, overwriting) in [(false, false), (true, false), (true, true)] {
                    let mut lab = Lab::any_with_q(n, &mut random);
                    if random.chance(2) {
                        let exponents: Vec<u8> = (0..n as u8 - 2).collect();
                        lab = Lab::with_q(n, p, q, &exponents, &mut random);
                    }
                    (lab.distrusted, lab.overwriting) = (distrusted, overwriting);
                    for slot in wrong {
                        lab.at_mut(slot).content ^= random.next() >> (8 * random.below(8));
                    }
                    lab.lose(gone);
                    for fix in [false, true] {
                        all_faults(&lab, Job::Sync { fix }, &mut random, &mut count);
                    }
                }
            }
        }
    }
    println!("{} runs", count.runs);
}

/// A lane with one parity, any contents, that is overwritten: parity is written, data is not, whatever fails.
#[test]
fn overwriting_with_one_parity() {
    let mut random = Random(8);
    let mut count = Count::default();
    for n in 2..=5 {
        for p in 0..n {
            for bad in sets(n, 2) {
                let mut lab = Lab::new(n, p, &mut random);
                (lab.distrusted, lab.overwriting) = (true, true);
                lab.at_mut(p).content = random.next();
                bad.iter().for_each(|slot| lab.at_mut(slot).bad = true);
                all_faults(&lab, Job::Sync { fix: true }, &mut random, &mut count);
            }
        }
    }
    assert!(count.runs > 1000, "only {} runs", count.runs);
}

/// A sync of one wrong member, spelt out.
#[test]
fn sync_names_the_one_that_is_wrong() {
    let mut random = Random(6);
    for n in 3..=8 {
        for (p, q) in placements(n) {
            for wrong in 0..n {
                for (fix, distrusted) in [(true, false), (false, false), (true, true)] {
                    let exponents = random.distinct(usize::from(n) - 2, 255);
                    let mut lab = Lab::with_q(n, p, q, &exponents, &mut random);
                    lab.distrusted = distrusted;
                    let right = lab.at(wrong).content;
                    let fault = 1 << random.below(64);
                    lab.at_mut(wrong).content ^= fault;
                    let job = Job::Sync { fix };
                    let none = |_: usize, _: &Step| Trouble::default();
                    let trace = run_and_judge(&mut lab, job, &mut random, genuine, none)
                        .unwrap_or_else(|why| panic!("n={n} p={p} q={q} {wrong}: {why}"));
                    assert!(trace.outcome.mismatch);
                    let corrected = match (fix, distrusted) {
                        (false, _) => Mask::EMPTY,
                        (true, true) if wrong != p && wrong != q => lab.roles.parity(),
                        (true, _) => Mask::single(wrong),
                    };
                    assert_eq!(trace.outcome.corrected, corrected);
                    assert_eq!(lab.agrees(), fix);
                    let mended = corrected.contains(wrong);
                    assert_eq!(lab.at(wrong).content == right, mended);
                }
            }
        }
    }
}

/// Without faults: the method is the cheapest there is, counted member by member.
#[test]
fn healthy_writes_read_the_least() {
    let mut random = Random(7);
    for n in 3..=8u16 {
        for (p, q) in placements(n) {
            let exponents = random.distinct(usize::from(n) - 2, 255);
            let healthy = Lab::with_q(n, p, q, &exponents, &mut random);
            let data = healthy.roles.data;
            for written in sets(n, u32::from(n)).filter(|w| !w.is_empty() && w.is_within(data)) {
                let mut lab = healthy.clone();
                let usable = lab.usable();
                let none = |_: usize, _: &Step| Trouble::default();
                let job = Job::Write { written };
                let trace = run_and_judge(&mut lab, job, &mut random, genuine, none).unwrap();
                let untouched = data.minus(written);
                let modified = written.with(p).with(q);
                // Of equals, reconstruct: its reads are not of blocks about to be written.
                let reads = if untouched.len() <= modified.len() {
                    untouched
                } else {
                    modified
                };
                assert_eq!(trace.read_asked, reads);
                assert_eq!(trace.write_asked, modified);
                let nothing = Lane::reads_nothing(lab.roles, written, usable);
                assert_eq!(nothing, reads.is_empty());
                // Three calls for a full stripe: compute, write, done.
                assert_eq!(trace.steps, if nothing { 3 } else { 4 });
                assert!(lab.agrees());
            }
        }
    }
}

/// After a crash: a lane that disagrees with itself, in any one or two members, one member missing
/// or a block unreadable or not. Whatever is written follows from the others afterwards, and nobody
/// reads anything else than before.
#[test]
fn parity_that_is_not_trusted_is_not_built_upon() {
    let mut random = Random(8);
    let mut agreed = 0;
    for n in 3..=6 {
        for torn in sets(n, 2) {
            for gone in sets(n, 2) {
                for bad in sets(n, 1) {
                    // P alone, every third time.
                    let mut lab = if random.chance(3) {
                        let p = random.below(u64::from(n)) as Slot;
                        Lab::new(n, p, &mut random)
                    } else {
                        Lab::any_with_q(n, &mut random)
                    };
                    lab.distrusted = true;
                    for slot in torn {
                        lab.at_mut(slot).content ^= random.next();
                    }
                    lab.lose(gone);
                    for slot in bad {
                        lab.at_mut(slot).bad = true;
                    }
                    let data = lab.roles.data;
                    for written in sets(n, 8).filter(|w| !w.is_empty() && w.is_within(data)) {
                        let mut lab = lab.clone();
                        let none = |_: usize, _: &Step| Trouble::default();
                        let job = Job::Write { written };
                        let trace = run_and_judge(&mut lab, job, &mut random, genuine, none)
                            .unwrap_or_else(|why| panic!("{why}"));
                        // Good, and all that is left agrees: any member may go now.
                        let is_good = trace.outcome.result == LaneResult::Good;
                        agreed += u32::from(is_good && lab.sound() == lab.all());
                    }
                }
            }
        }
    }
    assert!(agreed > 1000, "only {agreed}");
}

/// Members in sync that take no writes: what a write leaves out of date on them is told, and new
/// data follows from the others.
#[test]
fn read_only_members_are_reported_as_out_of_date() {
    let mut random = Random(9);
    for n in 3..=6u16 {
        for frozen in sets(n, 3) {
            let lab = Lab::any_with_q(n, &mut random);
            let data = lab.roles.data;
            for written in sets(n, 8).filter(|w| !w.is_empty() && w.is_within(data)) {
                let mut lab = lab.clone();
                let mut usable = lab.usable();
                usable.writable = usable.writable.minus(frozen);
                let job = Job::Write { written };
                let mut machine = genuine(Case {
                    roles: lab.roles,
                    job,
                    usable,
                    distrusted: false,
                    overwriting: false,
                    logged: false,
                });
                let trace = lab
                    .run(machine.as_mut(), job, &[3; 8], |_, _| Trouble::default())
                    .unwrap();
                let owed = written.union(lab.roles.parity()).intersect(frozen);
                if owed.len() > 2 {
                    assert_eq!(trace.outcome.result, LaneResult::Unwritten);
                    assert!(trace.write_asked.is_empty());
                    continue;
                }
                assert_eq!(trace.outcome.result, LaneResult::Good);
                assert_eq!(trace.outcome.write_failed, owed);
                assert!(trace.write_asked.intersect(frozen).is_empty());
                for slot in owed {
                    lab.at_mut(slot).in_sync = false;
                }
                for slot in written {
                    assert_eq!(lab.read_back(slot), Some(3));
                }
            }
        }
    }
}
