// SPDX-License-Identifier: GPL-2.0

//! The lane machine through every small case: each job, each state of one member, each unreadable
//! block (for few members: each pair), one more fault at each step.

use crate::lane_sim::{genuine, run_and_judge, Case, Lab, Random, Trouble};
use emd_core::model::Slot;
use emd_core::personalities::lane::{Job, Step};
use emd_core::personalities::Mask;

fn case(lab: &Lab, job: Job) -> Case {
    Case {
        roles: lab.roles,
        job,
        usable: lab.usable(),
        distrusted: false,
        overwriting: false,
        logged: false,
    }
}

fn jobs(n: u16, p: Slot) -> Vec<Job> {
    let mut jobs = vec![Job::Sync { fix: true }, Job::Sync { fix: false }];
    for bits in 1..(1u64 << n) {
        let mask = Mask(bits);
        jobs.push(Job::Rebuild { targets: mask });
        if !mask.contains(p) {
            jobs.push(Job::Write { written: mask });
            jobs.push(Job::Read { wanted: mask });
        }
    }
    jobs
}

/// State of one member at the start.
#[derive(Clone, Copy, Debug)]
enum Start {
    Whole,
    Lost(Slot),
    Rebuilding(Slot),
}

fn starts(n: u16) -> Vec<Start> {
    let mut starts = vec![Start::Whole];
    starts.extend((0..n).map(Start::Lost));
    starts.extend((0..n).map(Start::Rebuilding));
    starts
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Media(usize, Slot),
    LostBefore(usize, Slot),
    LostAfter(usize, Slot),
}

fn faults(n: u16) -> Vec<Fault> {
    let mut faults = vec![Fault::None];
    for step in 0..7 {
        for slot in 0..n {
            faults.push(Fault::Media(step, slot));
            faults.push(Fault::LostBefore(step, slot));
            faults.push(Fault::LostAfter(step, slot));
        }
    }
    faults
}

fn trouble(fault: Fault, step: usize) -> Trouble {
    let mut trouble = Trouble::default();
    match fault {
        Fault::Media(at, slot) if at == step => trouble.media = Mask::single(slot),
        Fault::LostBefore(at, slot) if at == step => trouble.lost_before = Mask::single(slot),
        Fault::LostAfter(at, slot) if at == step => trouble.lost_after = Mask::single(slot),
        _ => {}
    }
    trouble
}

fn bad_blocks(n: u16, pairs: bool) -> Vec<Mask> {
    let most = if pairs { 2 } else { 1 };
    (0..1u64 << n)
        .map(Mask)
        .filter(|mask| mask.len() <= most)
        .collect()
}

fn all_cases(n: u16, pairs: bool, parity_slots: impl Iterator<Item = Slot>) -> u64 {
    let mut random = Random(0x0e3d ^ u64::from(n));
    let mut runs = 0u64;
    let faults = faults(n);
    for p in parity_slots {
        let healthy = Lab::new(n, p, &mut random);
        for job in jobs(n, p) {
            for start in starts(n) {
                for bad in bad_blocks(n, pairs) {
                    for &fault in &faults {
                        let mut lab = healthy.clone();
                        match start {
                            Start::Whole => {}
                            Start::Lost(slot) => lab.lose(Mask::single(slot)),
                            Start::Rebuilding(slot) => lab.make_stale(slot),
                        }
                        for slot in bad {
                            lab.at_mut(slot).bad = true;
                        }
                        let trace =
                            run_and_judge(&mut lab, job, &mut random, genuine, |step, _| {
                                trouble(fault, step)
                            })
                            .unwrap_or_else(|why| {
                                panic!("n={n} p={p} {start:?} bad={bad:?} {fault:?}: {why}")
                            });
                        runs += 1;
                        // Later steps are never reached: so are later faults.
                        if let Fault::LostAfter(at, slot) = fault {
                            if at >= trace.steps && slot == n - 1 {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    runs
}

#[test]
fn two_to_four_members_with_any_two_bad_blocks() {
    let runs: u64 = (2..=4).map(|n| all_cases(n, true, 0..n)).sum();
    assert!(runs > 100_000, "only {runs} runs");
    println!("{runs} runs");
}

#[test]
fn five_members_with_any_bad_block() {
    let runs = all_cases(5, false, 0..5);
    assert!(runs > 100_000, "only {runs} runs");
    println!("{runs} runs");
}

#[test]
fn six_members_with_any_bad_block() {
    // The machine deals in sets: where P is among more members tells nothing new.
    let runs = all_cases(6, false, [0, 5].into_iter());
    assert!(runs > 100_000, "only {runs} runs");
    println!("{runs} runs");
}

/// Parity that disagrees is found, and mended only when asked.
#[test]
fn sync_tells_and_mends_disagreement() {
    let mut random = Random(5);
    for n in 2..=8 {
        for p in 0..n {
            for wrong in 0..n {
                for fix in [false, true] {
                    for fault in faults(n) {
                        let mut lab = Lab::new(n, p, &mut random);
                        lab.at_mut(wrong).content ^= 0x10;
                        let trace = run_and_judge(
                            &mut lab,
                            Job::Sync { fix },
                            &mut random,
                            genuine,
                            |step, _| trouble(fault, step),
                        )
                        .unwrap_or_else(|why| panic!("n={n} p={p} {wrong} {fault:?}: {why}"));
                        if !trace.trouble {
                            assert!(trace.outcome.mismatch);
                            assert_eq!(lab.agrees(), fix);
                        }
                    }
                }
            }
        }
    }
}

/// Without faults: the method is the cheapest there is, counted member by member.
#[test]
fn healthy_writes_read_the_least() {
    let mut random = Random(6);
    for n in 2..=8u16 {
        for p in 0..n {
            let data = u32::from(n) - 1;
            for bits in 1..(1u64 << n) {
                let written = Mask(bits);
                if written.contains(p) {
                    continue;
                }
                let mut lab = Lab::new(n, p, &mut random);
                let usable = lab.usable();
                let job = Job::Write { written };
                let none = |_: usize, _: &Step| Trouble::default();
                let trace = run_and_judge(&mut lab, job, &mut random, genuine, none).unwrap();
                let least = (data - written.len()).min(written.len() + 1);
                assert_eq!(trace.reads, least, "n={n} written={written:?}");
                assert_eq!(trace.write_asked, written.with(p));
                // Of equals, reconstruct: its reads are not of blocks about to be written.
                let untouched = lab.roles.data.minus(written);
                let reads = if untouched.len() <= written.len() + 1 {
                    untouched
                } else {
                    written.with(p)
                };
                assert_eq!(trace.read_asked, reads);
                let nothing =
                    emd_core::personalities::lane::Lane::reads_nothing(lab.roles, written, usable);
                assert_eq!(nothing, least == 0);
                // Three calls for a full stripe: compute, write, done.
                assert_eq!(trace.steps, if least == 0 { 3 } else { 4 });
            }
        }
    }
}

/// One lives beside every lane: it stays small.
#[test]
fn the_machine_is_small() {
    assert!(core::mem::size_of::<emd_core::personalities::lane::Lane>() <= 192);
}

/// RAID 0 and concat: nothing follows from anything, every member stands alone.
#[test]
fn without_parity_nothing_is_made_up() {
    use emd_core::personalities::lane::LaneResult;
    let mut random = Random(8);
    for n in 1..=5u16 {
        for bad in 0..n {
            for bits in 1..(1u64 << n) {
                let slots = Mask(bits);
                let mut lab = Lab::new(n.max(2), 0, &mut random);
                lab.roles.p = None;
                lab.roles.data = Mask::all(n);
                lab.at_mut(bad).bad = true;
                let run = |lab: &mut Lab, job: Job, at: usize| {
                    let mut machine = genuine(case(lab, job));
                    lab.run(machine.as_mut(), job, &[7; 6], |step, _| Trouble {
                        media: if step == at {
                            Mask::single(bad)
                        } else {
                            Mask::EMPTY
                        },
                        ..Trouble::default()
                    })
                    .unwrap()
                };
                let read = run(&mut lab, Job::Read { wanted: slots }, 9);
                assert_eq!(
                    read.outcome.unreadable,
                    slots.intersect(Mask::single(bad)),
                    "n={n} {slots:?}"
                );
                let failed = slots.contains(bad);
                assert_eq!(read.outcome.result == LaneResult::Good, !failed);
                for slot in slots.without(bad) {
                    assert_eq!(read.old[usize::from(slot)], Some(lab.at(slot).content));
                }
                assert_eq!(read.old[usize::from(bad)], None);

                let rebuilt = run(&mut lab, Job::Rebuild { targets: slots }, 9);
                assert_eq!(rebuilt.outcome.result, LaneResult::Unreadable);
                assert!(rebuilt.write_asked.is_empty());

                let written = run(&mut lab, Job::Write { written: slots }, 0);
                assert_eq!(written.reads, 0);
                assert_eq!(written.write_asked, slots);
                assert_eq!(written.outcome.result == LaneResult::Good, !failed);

                lab.lose(Mask::single(bad));
                let written = run(&mut lab, Job::Write { written: slots }, 9);
                assert_eq!(written.outcome.result == LaneResult::Good, !failed);
            }
        }
    }
}

/// Members in sync that take no writes: what a write leaves out of date on them is told.
#[test]
fn read_only_members_are_reported_as_out_of_date() {
    use emd_core::personalities::lane::LaneResult;
    let mut random = Random(9);
    for n in 3..=6u16 {
        for p in 0..n {
            for frozen in 0..n {
                for bits in 1..(1u64 << n) {
                    let written = Mask(bits);
                    if written.contains(p) {
                        continue;
                    }
                    let mut lab = Lab::new(n, p, &mut random);
                    let mut usable = lab.usable();
                    usable.writable = usable.writable.without(frozen);
                    let job = Job::Write { written };
                    let mut machine = genuine(Case {
                        usable,
                        ..case(&lab, job)
                    });
                    let trace = lab
                        .run(machine.as_mut(), job, &[3; 6], |_, _| Trouble::default())
                        .unwrap();
                    let owed = written.with(p).intersect(Mask::single(frozen));
                    assert_eq!(trace.outcome.result, LaneResult::Good);
                    assert_eq!(trace.outcome.write_failed, owed);
                    assert!(!trace.write_asked.contains(frozen));
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
}
