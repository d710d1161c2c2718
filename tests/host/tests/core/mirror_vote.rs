// SPDX-License-Identifier: GPL-2.0

//! Mirrors: votes, large numbers of members, the step bound, answers that make no sense, and which
//! machine runs which level.

use crate::mirror_sim::{explore, genuine, run_and_judge, steps_max, Faults, Lab, Member, Trace};
use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::lane::{Compute, Job, LaneResult, Step, StepResult, Usable};
use emd_core::personalities::mirror::{MirrorLane, Work, STEPS_MAX, VOTERS_MAX};
use emd_core::personalities::{Geometry, Mask};

fn lab(contents: &[u32]) -> Lab {
    Lab {
        members: contents.iter().copied().map(Member::in_sync).collect(),
    }
}

/// Without faults.
fn run(lab: &Lab, job: Job) -> Trace {
    let mut faults = Faults {
        budget: 0,
        pick: &mut |_| 0,
    };
    run_and_judge(lab, &genuine, job, &mut faults).unwrap_or_else(|why| panic!("{why}"))
}

/// Who is written by a `Sync` that fixes.
fn fixed(contents: &[u32]) -> Mask {
    let trace = run(&lab(contents), Job::Sync { fix: true });
    let check = run(&lab(contents), Job::Sync { fix: false });
    assert!(check.write_asked.is_empty(), "a check wrote");
    assert_eq!(check.outcome.mismatch, trace.outcome.mismatch);
    trace.write_asked
}

fn slots(slots: &[u16]) -> Mask {
    slots.iter().copied().fold(Mask::EMPTY, Mask::with)
}

#[test]
fn votes() {
    assert_eq!(fixed(&[5, 5]), slots(&[]));
    assert_eq!(fixed(&[5, 6]), slots(&[1]), "two: the lowest wins");
    assert_eq!(fixed(&[5, 6, 6]), slots(&[0]), "the majority wins");
    assert_eq!(fixed(&[5, 6, 5]), slots(&[1]));
    assert_eq!(fixed(&[5, 6, 7]), slots(&[1, 2]), "tie: the lowest wins");
    assert_eq!(fixed(&[5, 6, 6, 5]), slots(&[1, 2]));
    assert_eq!(fixed(&[4, 5, 6, 6]), slots(&[0, 1]), "most, not half");
    assert_eq!(fixed(&[1, 2, 3, 4, 5, 6, 7, 7]), slots(&[0, 1, 2, 3, 4, 5]));
    assert_eq!(
        fixed(&[1, 2, 2, 2, 2, 2, 2, 2, 2]),
        slots(&[1, 2, 3, 4, 5, 6, 7, 8]),
        "more than VOTERS_MAX: the lowest wins"
    );
}

#[test]
fn compares_no_more_than_needed() {
    let compared = |contents: &[u32]| {
        let trace = run(&lab(contents), Job::Sync { fix: false });
        // Beside the comparisons: the read, the end.
        trace.steps - 2
    };
    assert_eq!(compared(&[5, 5]), 1);
    assert_eq!(compared(&[5, 6]), 1);
    assert_eq!(compared(&[5, 6, 5]), 2, "6 cannot win any more");
    assert_eq!(compared(&[5, 6, 6]), 3);
    assert_eq!(compared(&[5, 5, 6, 6]), 3, "6 cannot win any more");
    assert_eq!(compared(&[5, 6, 6, 6]), 5);
    assert_eq!(compared(&[1, 2, 3, 4, 5, 6, 7, 8]), 28);
    assert_eq!(compared(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), 8, "no vote");
}

/// Slots that there are not are left out, wherever they are named.
#[test]
fn no_slots_beyond() {
    let members = Mask::all(2);
    let all = Mask(u64::MAX);
    let beyond = all.minus(members);
    let usable = Usable {
        readable: all,
        writable: all,
    };
    let jobs = [
        Job::Write { written: all },
        Job::Read { wanted: all },
        Job::Rebuild {
            targets: beyond.with(0),
        },
        Job::Sync { fix: true },
    ];
    for job in jobs {
        let mut machine = MirrorLane::new(members, job, usable);
        let mut result = StepResult::default();
        loop {
            match machine.step(result) {
                Step::Read { members: named } | Step::Write { members: named } => {
                    assert!(named.is_within(members), "{job:?} names {named:?}");
                }
                Step::Compute(_) => {}
                Step::Log { .. } => panic!("mirrors have no log"),
                Step::Done(outcome) => {
                    assert_eq!(outcome.result, LaneResult::Good);
                    assert!(outcome.write_failed.is_empty());
                    break;
                }
            }
            result = StepResult::default();
        }
    }
    for job in [
        Job::Write { written: beyond },
        Job::Read { wanted: beyond },
        Job::Rebuild { targets: beyond },
    ] {
        let step = MirrorLane::new(members, job, usable).step(StepResult::default());
        assert!(matches!(step, Step::Done(o) if o.result == LaneResult::Good));
    }
}

#[test]
fn the_vote_is_among_those_that_were_read() {
    // Slot 1 cannot be read: 0 and 2 disagree, the lowest wins, and 1 gets its copy.
    let mut lab = lab(&[5, 6, 6]);
    lab.members[1].bad = true;
    let trace = run(&lab, Job::Sync { fix: true });
    assert_eq!(trace.write_asked, slots(&[1, 2]));
    assert_eq!(trace.outcome.repaired, slots(&[1]));
    // A check puts right what could not be read, and leaves what differs.
    let trace = run(&lab, Job::Sync { fix: false });
    assert_eq!(trace.write_asked, slots(&[1]));
    assert!(trace.outcome.mismatch);
    // A member that is being rebuilt has no vote.
    let mut lab = self::lab(&[5, 6, 6]);
    lab.members[1].in_sync = false;
    assert_eq!(run(&lab, Job::Sync { fix: true }).write_asked, slots(&[2]));
}

/// Up to 8 members, at most three different copies, in every order.
#[test]
fn votes_of_many() {
    for n in [5u32, 6, 7, 8, 9] {
        for code in 0..3usize.pow(n) {
            let contents: Vec<u32> = (0..n).map(|i| (code / 3usize.pow(i) % 3) as u32).collect();
            run(&lab(&contents), Job::Sync { fix: true });
        }
    }
}

/// All different: the most comparisons there can be.
#[test]
fn bounds() {
    for n in 1..=64u32 {
        let different: Vec<u32> = (0..n).collect();
        let job = Job::Sync { fix: true };
        let trace = run(&lab(&different), job);
        assert!(trace.steps <= steps_max(n as usize, job).min(STEPS_MAX));

        let mut all_but_one_bad = lab(&vec![7; n as usize]);
        for member in all_but_one_bad.members.iter_mut().rev().skip(1) {
            member.bad = true;
        }
        let trace = run(
            &all_but_one_bad,
            Job::Read {
                wanted: Mask::single(0),
            },
        );
        assert_eq!(trace.steps as u32, 2 * n + 1 - u32::from(n == 1));
        let trace = run(&all_but_one_bad, job);
        assert_eq!(trace.outcome.repaired.len(), n - 1);
    }
    assert_eq!(STEPS_MAX, 2 * 64 + 1, "reached by a read of 64 members");
    assert_eq!(VOTERS_MAX, 8);
}

#[test]
fn five_members_any_fault() {
    let contents = [1, 2, 2, 3, 3];
    for fix in [false, true] {
        explore(&lab(&contents), &genuine, Job::Sync { fix }, 2)
            .unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Large mirrors with many faults, from a seed.
#[test]
fn random_histories() {
    let mut state = 0x5eed_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..20_000 {
        let n = 1 + random(64) as u16;
        let sync = random(2) == 0;
        let copies = 1 + random(3);
        let members = (0..n)
            .map(|_| Member {
                content: if sync { random(copies) as u32 } else { 9 },
                bad: random(4) == 0,
                in_sync: random(8) != 0,
                writable: random(8) != 0,
            })
            .map(|m| Member {
                content: if m.in_sync { m.content } else { 0x57a1e },
                ..m
            })
            .collect();
        let mask = Mask((random(u64::MAX) << 1) & random(u64::MAX));
        let job = match (sync, random(3)) {
            (true, fix) => Job::Sync { fix: fix == 0 },
            (_, 0) => Job::Write { written: mask },
            (_, 1) => Job::Read { wanted: mask },
            _ => Job::Rebuild { targets: mask },
        };
        // Slots beyond the members are left out of the job: so does the judge.
        let job = match job {
            Job::Write { written } => Job::Write {
                written: written.intersect(Mask::all(n)),
            },
            Job::Read { wanted } => Job::Read {
                wanted: wanted.intersect(Mask::all(n)),
            },
            Job::Rebuild { targets } => Job::Rebuild {
                targets: targets.intersect(Mask::all(n)),
            },
            sync => sync,
        };
        let calm = 1 + random(40);
        let mut pick = |of: u16| {
            if random(calm) == 0 {
                random(of.into()) as u16
            } else {
                0
            }
        };
        let mut faults = Faults {
            budget: u32::MAX,
            pick: &mut pick,
        };
        run_and_judge(&Lab { members }, &genuine, job, &mut faults)
            .unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Whatever the executor answers, the machine ends.
#[test]
fn nonsense() {
    let mut state = 0xbad_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000u32 {
        let mask = Mask(random());
        let job = match round % 5 {
            0 => Job::Write { written: mask },
            1 => Job::Read { wanted: mask },
            2 => Job::Rebuild { targets: mask },
            k => Job::Sync { fix: k == 3 },
        };
        let usable = Usable {
            readable: Mask(random() | random()),
            writable: Mask(random() | random()),
        };
        let mut machine = MirrorLane::new(Mask(random() | random() | random()), job, usable);
        let done = (0..STEPS_MAX).any(|_| {
            let result = StepResult {
                failed: Mask(random()),
                lost: Mask(random() & random() & random() & random() & random()),
                differs: random() & 1 == 0,
                ..StepResult::default()
            };
            matches!(machine.step(result), Step::Done(_))
        });
        assert!(done, "round {round} does not end");
    }
}

#[test]
fn each_level_has_its_machine() {
    let shape = |level, members, layout| Shape {
        level,
        layout,
        members,
        chunk_sectors: 8,
        spans: 1,
        member_sectors: 1024,
    };
    let all = Usable {
        readable: Mask::all(3),
        writable: Mask::all(3),
    };
    let job = Job::Write {
        written: Mask::single(0),
    };
    let mirror = Geometry::new(&shape(Level::Raid1, 3, Layout::Plain), 1024).unwrap();
    let mut work = Work::new(&mirror, 0, job, all);
    assert!(matches!(work, Work::Mirror(_)));
    assert_eq!(
        work.step(StepResult::default()),
        Step::Write {
            members: Mask::all(3)
        }
    );
    let Step::Done(outcome) = work.step(StepResult::default()) else {
        panic!("not done");
    };
    assert_eq!(outcome.result, LaneResult::Good);

    let rotation = Layout::Parity(Rotation::LeftSymmetric);
    let parity = Geometry::new(&shape(Level::Raid5, 3, rotation), 1024).unwrap();
    let mut work = Work::new(&parity, 0, job, all);
    assert!(matches!(work, Work::Parity(_)));
    assert!(matches!(
        work.step(StepResult::default()),
        Step::Read { .. }
    ));
}

#[test]
fn where_no_sync_has_passed_the_lowest_copy_wins() {
    let all = Mask::all(3);
    let usable = Usable {
        readable: all,
        writable: all,
    };
    let job = Job::Sync { fix: true };
    let run = |unsynced: bool| {
        let lane = MirrorLane::new(all, job, usable);
        let mut lane = if unsynced { lane.unsynced() } else { lane };
        let mut step = lane.step(StepResult::default());
        for _ in 0..20 {
            let result = match step {
                // Slots 1 and 2 agree, 0 does not.
                Step::Compute(Compute::Match { a, .. }) => StepResult {
                    differs: a == 0,
                    ..StepResult::default()
                },
                Step::Done(outcome) => return outcome,
                _ => StepResult::default(),
            };
            step = lane.step(result);
        }
        panic!("no end");
    };
    let (voted, lowest) = (run(false), run(true));
    assert_eq!((voted.source, voted.corrected), (Some(1), Mask::single(0)));
    assert_eq!(
        (lowest.source, lowest.corrected),
        (Some(0), Mask::single(1).with(2))
    );
}

/// Where no sync has passed, a copy that was rebuilt since does not count as long as there is another: in a
/// sync, a rebuild or a read; and with more than two, whoever agrees with the one that counts is let be.
#[test]
fn where_no_sync_has_passed_a_rebuilt_copy_does_not_lead() {
    let all = Mask::all(3);
    let usable = Usable {
        readable: all.without(2),
        writable: all,
    };
    let first_read = |job: Job, leaders: Mask| {
        let lane = MirrorLane::new(all, job, usable).unsynced();
        lane.led_by(leaders).step(StepResult::default())
    };
    let one = |slot| Step::Read {
        members: Mask::single(slot),
    };
    let rebuild = Job::Rebuild {
        targets: Mask::single(2),
    };
    assert_eq!(first_read(rebuild, Mask::single(1)), one(1));
    assert_eq!(
        first_read(rebuild, Mask::EMPTY),
        one(0),
        "no leader is left"
    );
    let read = Job::Read {
        wanted: Mask::single(2),
    };
    assert_eq!(first_read(read, Mask::single(1)), one(1));
    let read = Job::Read {
        wanted: Mask::single(0),
    };
    assert_eq!(first_read(read, Mask::single(1)), one(1));
    let usable = Usable {
        readable: all,
        writable: all,
    };
    // Slots 0 and 1 agree, 2 does not; 2 leads, then 1.
    for (leader, corrected) in [(2, Mask::all(2)), (1, Mask::single(2))] {
        let lane = MirrorLane::new(all, Job::Sync { fix: true }, usable).unsynced();
        let mut lane = lane.led_by(Mask::single(leader));
        let mut step = lane.step(StepResult::default());
        let outcome = loop {
            let result = match step {
                Step::Compute(Compute::Match { a, b }) => StepResult {
                    differs: (a == 2) != (b == 2),
                    ..StepResult::default()
                },
                Step::Compute(Compute::Copy { from, .. }) => {
                    assert_eq!(from == 2, leader == 2);
                    StepResult::default()
                }
                Step::Done(outcome) => break outcome,
                _ => StepResult::default(),
            };
            step = lane.step(result);
        };
        assert_eq!(
            (outcome.source, outcome.corrected),
            (Some(leader), corrected)
        );
    }
}
