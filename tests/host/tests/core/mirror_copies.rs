// SPDX-License-Identifier: GPL-2.0

//! Mirrors over some of a volume's members (RAID 10, 1E): which slots the copies are in changes
//! nothing, and what else the volume has is never touched.
//!
//! A machine for copies in any slots is driven side by side with one for slots 0, 1, 2 …, which the
//! other mirror tests judge: the answers have to be the same, slot for slot.

use crate::sim_common::Random;
use emd_core::model::Slot;
use emd_core::personalities::lane::{Compute, Job, Outcome, Step, StepResult, Usable};
use emd_core::personalities::mirror::{MirrorLane, STEPS_MAX};
use emd_core::personalities::Mask;

/// Where each copy is, slots ascending.
struct Places(Vec<Slot>);

impl Places {
    fn slot(&self, copy: Slot) -> Slot {
        self.0[usize::from(copy)]
    }

    fn all(&self) -> Mask {
        self.0
            .iter()
            .fold(Mask::EMPTY, |mask, &slot| mask.with(slot))
    }

    fn mask(&self, copies: Mask) -> Mask {
        copies
            .iter()
            .fold(Mask::EMPTY, |mask, copy| mask.with(self.slot(copy)))
    }

    fn job(&self, job: Job, others: Mask) -> Job {
        let others = others.minus(self.all());
        match job {
            Job::Write { written } => Job::Write {
                written: self.mask(written).union(others),
            },
            Job::Read { wanted } => Job::Read {
                wanted: self.mask(wanted).union(others),
            },
            Job::Rebuild { targets } => Job::Rebuild {
                targets: self.mask(targets).union(others),
            },
            Job::Sync { fix } => Job::Sync { fix },
        }
    }

    fn step(&self, step: Step) -> Step {
        match step {
            Step::Read { members } => Step::Read {
                members: self.mask(members),
            },
            Step::Write { members } => Step::Write {
                members: self.mask(members),
            },
            Step::Compute(Compute::Copy { from, to }) => Step::Compute(Compute::Copy {
                from: self.slot(from),
                to: self.slot(to),
            }),
            Step::Compute(Compute::Match { a, b }) => Step::Compute(Compute::Match {
                a: self.slot(a),
                b: self.slot(b),
            }),
            Step::Compute(_) | Step::Log { .. } => panic!("{step:?} is not for mirrors"),
            Step::Done(outcome) => Step::Done(Outcome {
                repaired: self.mask(outcome.repaired),
                corrected: self.mask(outcome.corrected),
                unreadable: self.mask(outcome.unreadable),
                write_failed: self.mask(outcome.write_failed),
                source: outcome.source.map(|copy| self.slot(copy)),
                ..outcome
            }),
        }
    }
}

fn some(random: &mut Random, of: Mask) -> Mask {
    match random.below(3) {
        0 => of,
        1 => Mask(random.next()).intersect(of),
        _ => Mask::EMPTY,
    }
}

/// One run; answers with its steps, and whether anything was written.
fn side_by_side(seed: u64) -> (usize, bool) {
    let mut random = Random(seed);
    let copies = 1 + random.below(4) as u16;
    let mut places = random.distinct(copies.into(), 64);
    places.sort_unstable();
    let places = Places(places.into_iter().map(Slot::from).collect());
    let all = Mask::all(copies);

    let job = match random.below(5) {
        0 => Job::Write {
            written: some(&mut random, all),
        },
        1 => Job::Read {
            wanted: some(&mut random, all),
        },
        2 => Job::Rebuild {
            targets: some(&mut random, all),
        },
        kind => Job::Sync { fix: kind == 3 },
    };
    let writable = all.minus(some(&mut random, all).intersect(Mask(random.next())));
    let readable = all.minus(some(&mut random, all).intersect(Mask(random.next())));
    // Members of the volume that have no copy: in any state, and any of them in the job.
    let others = Mask(random.next()).minus(places.all());
    let mut plain = MirrorLane::new(all, job, Usable { readable, writable });
    let mut placed = MirrorLane::new(
        places.all(),
        places.job(job, some(&mut random, others)),
        Usable {
            readable: places.mask(readable).union(some(&mut random, others)),
            writable: places.mask(writable).union(some(&mut random, others)),
        },
    );
    let (mut result, mut placed_result) = (StepResult::default(), StepResult::default());
    let mut wrote = false;
    for steps in 1..=STEPS_MAX {
        let step = plain.step(result);
        assert_eq!(
            placed.step(placed_result),
            places.step(step),
            "seed {seed}: {:?}, {job:?}",
            places.0
        );
        wrote |= matches!(step, Step::Write { .. });
        if let Step::Done(_) = step {
            return (steps, wrote);
        }
        let fault = |random: &mut Random| {
            let some = Mask(random.next()).intersect(all);
            some.intersect(if random.chance(3) { all } else { Mask::EMPTY })
        };
        result = StepResult {
            failed: fault(&mut random),
            lost: fault(&mut random).intersect(Mask(random.next())),
            differs: random.chance(2),
            ..StepResult::default()
        };
        // Others may fail too: that is not for this machine.
        placed_result = StepResult {
            failed: places.mask(result.failed).union(some(&mut random, others)),
            lost: places.mask(result.lost).union(some(&mut random, others)),
            ..result
        };
    }
    panic!("seed {seed}: no end");
}

#[test]
fn copies_in_any_slots_are_like_those_in_the_first() {
    let runs: Vec<(usize, bool)> = (0..100_000).map(side_by_side).collect();
    let writes = runs.iter().filter(|(_, wrote)| *wrote).count();
    let longest = runs.iter().map(|(steps, _)| *steps).max().unwrap();
    assert!(writes > 10_000, "only {writes} writes");
    assert!(longest > 6, "at most {longest} steps");
}
