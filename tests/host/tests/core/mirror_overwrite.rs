// SPDX-License-Identifier: GPL-2.0

//! A sync of copies that were never in sync, which does not look at what it overwrites.

use crate::ensure;
use crate::mirror_sim::{Faults, Lab, Member, Script, Trace, Verdict};
use emd_core::model::Slot;
use emd_core::personalities::lane::{Job, LaneResult, StepResult};
use emd_core::personalities::mirror::MirrorLane;
use emd_core::personalities::Mask;
use std::cell::Cell;

/// Members `n`, each with another content; those in `bad` cannot be read, those not in `in_sync` are rebuilt.
fn lab(n: u16, bad: Mask, in_sync: Mask) -> Lab {
    let member = |slot| Member {
        bad: bad.contains(slot),
        in_sync: in_sync.contains(slot),
        ..Member::in_sync(100 + u32::from(slot))
    };
    Lab {
        members: (0..n).map(member).collect(),
    }
}

/// Runs the sync.
fn run(lab: &mut Lab, leaders: Mask, faults: &mut Faults<'_>) -> Verdict<Trace> {
    let is_new = Cell::new(true);
    let stepper = |machine: &mut MirrorLane, result: StepResult| {
        if is_new.take() {
            *machine = machine.unsynced().led_by(leaders).overwriting();
        }
        machine.step(result)
    };
    lab.run(&stepper, Job::Sync { fix: true }, faults)
}

/// Every subset of `n` slots.
fn subsets(n: u16) -> impl Iterator<Item = Mask> {
    (0..1u64 << n).map(Mask)
}

fn slots(mask: Mask) -> Vec<Slot> {
    mask.iter().collect()
}

/// Without faults: the copy that counts is read, and no other; all others get it.
#[test]
fn the_others_are_not_looked_at() {
    for n in 2..=4 {
        for in_sync in subsets(n) {
            for bad in subsets(n) {
                for leaders in subsets(n) {
                    let mut lab = lab(n, bad, in_sync);
                    let mut none = Faults {
                        budget: 0,
                        pick: &mut |_| 0,
                    };
                    let trace = run(&mut lab, leaders, &mut none).unwrap();
                    // First those that lead, then the rest, each by number.
                    let order = [in_sync.intersect(leaders), in_sync.minus(leaders)];
                    let order: Vec<Slot> = order.into_iter().flat_map(slots).collect();
                    let source = order.iter().position(|&slot| !bad.contains(slot));
                    if order.len() < 2 {
                        assert!(trace.reads.is_empty() && trace.write_asked.is_empty());
                        assert_eq!(trace.outcome.result, LaneResult::Good);
                        continue;
                    }
                    let Some(source) = source else {
                        assert_eq!(trace.outcome.result, LaneResult::Unreadable);
                        assert_eq!(trace.outcome.unreadable, in_sync);
                        assert!(trace.write_asked.is_empty());
                        continue;
                    };
                    assert_eq!(trace.outcome.result, LaneResult::Good);
                    assert_eq!(trace.reads, order[..=source]);
                    assert_eq!(trace.write_asked, in_sync.without(order[source]));
                    // Of those that were not tried nobody knows.
                    let tried = order[..source].iter().copied();
                    assert_eq!(trace.outcome.repaired, tried.fold(Mask::EMPTY, Mask::with));
                    assert!(!trace.outcome.mismatch, "nobody has looked");
                    for slot in in_sync {
                        assert_eq!(lab.at(slot).content, 100 + u32::from(order[source]));
                        assert!(!lab.at(slot).bad);
                    }
                }
            }
        }
    }
}

/// With one or two faults at any step: who is still in use has one of the copies that there were, all the same one,
/// or the sync has failed.
#[test]
fn whatever_fails_they_agree_or_it_has_failed() {
    let mut runs = 0;
    for n in 2..=3 {
        for bad in subsets(n) {
            let mut script = Script::default();
            loop {
                let mut lab = lab(n, bad, Mask::all(n));
                let mut faults = Faults {
                    budget: 2,
                    pick: &mut |of| script.pick(of),
                };
                run(&mut lab, Mask::all(n), &mut faults)
                    .and_then(|trace| judge(&lab, &trace))
                    .unwrap_or_else(|why| panic!("{n} members, bad {bad:?}: {why}\n{lab:?}"));
                runs += 1;
                if !script.advance() {
                    break;
                }
            }
        }
    }
    assert!(runs > 1000, "only {runs} runs");
}

fn judge(lab: &Lab, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let in_use = lab.usable().readable.minus(outcome.write_failed);
    let mut contents: Vec<u32> = slots(in_use).iter().map(|&m| lab.at(m).content).collect();
    contents.dedup();
    match outcome.result {
        LaneResult::Good => {
            ensure!(contents.len() <= 1, "good, and {contents:?}");
            ensure!(
                in_use.iter().all(|m| !lab.at(m).bad) || in_use.len() < 2,
                "good, and unreadable"
            );
        }
        LaneResult::Unreadable => ensure!(trace.read_ok.is_empty(), "a copy could be read"),
        LaneResult::Unwritten => ensure!(trace.trouble, "failed without a reason"),
    }
    let known = |content: &u32| (100..100 + lab.members.len() as u32).contains(content);
    ensure!(contents.iter().all(known), "made up: {contents:?}");
    let missed = trace.write_asked.intersect(trace.write_failed);
    ensure!(
        missed
            .intersect(lab.usable().readable)
            .is_within(outcome.write_failed),
        "a write failed and nobody is told"
    );
    Ok(())
}
