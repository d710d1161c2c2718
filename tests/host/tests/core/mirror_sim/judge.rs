// SPDX-License-Identifier: GPL-2.0

//! The judge of a mirror's range.
//!
//! Knows no method: it compares what members hold afterwards with what was there before, and
//! works out for itself which failures and which writes are justified.

use super::{Lab, Trace, FRESH};
use crate::ensure;
use crate::sim_common::Verdict;
use emd_core::personalities::lane::{Job, LaneResult, Usable};
use emd_core::personalities::mirror::VOTERS_MAX;
use emd_core::personalities::Mask;

pub fn judge(before: &Lab, after: &Lab, job: Job, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let took = trace.write_asked.minus(trace.write_failed);
    let usable = before.usable();
    // Untouched otherwise.
    for m in before.all().minus(trace.write_asked) {
        ensure!(
            before.at(m).content == after.at(m).content,
            "{m} was changed without a write"
        );
    }
    ensure!(
        outcome.repaired == trace.read_failed.intersect(took).minus(trace.kept),
        "repaired is not what failed to read and took a write"
    );
    if !matches!(job, Job::Write { .. }) {
        ensure!(
            outcome.write_failed == trace.write_failed,
            "failed writes are not reported as they were"
        );
    }
    if !matches!(job, Job::Sync { .. }) {
        ensure!(!outcome.mismatch, "made up a mismatch");
        if !trace.trouble {
            ensure!(
                outcome.unreadable.is_empty() || trace.reads.is_empty(),
                "unreadable?"
            );
        }
    }
    if outcome.result != LaneResult::Unreadable {
        ensure!(outcome.unreadable.is_empty(), "done, and yet unreadable");
    }
    // A block that could not be read is put right where another has it.
    if !trace.read_ok.is_empty() {
        for m in trace.read_failed.minus(trace.write_failed) {
            let still = after.at(m);
            ensure!(
                !(still.bad && still.in_sync && still.writable),
                "block of {m} was left bad"
            );
        }
    }
    match job {
        Job::Write { written } => judge_write(before, after, written, trace),
        Job::Read { wanted } => judge_read(&usable, before, wanted, trace),
        Job::Rebuild { targets } => judge_rebuild(&usable, after, targets, trace),
        Job::Sync { fix } => judge_sync(before, after, fix, trace),
    }?;
    match job {
        Job::Write { .. } | Job::Sync { .. } => Ok(()),
        // What is in sync holds what it did.
        _ => judge_contents(before, after, value(before)),
    }
}

/// What the in-sync members hold, who all hold the same.
fn value(lab: &Lab) -> Option<u32> {
    let first = lab.usable().readable.first()?;
    Some(lab.at(first).content)
}

fn judge_contents(before: &Lab, after: &Lab, value: Option<u32>) -> Verdict {
    for m in before.all() {
        let member = after.at(m);
        ensure!(
            !member.in_sync || Some(member.content) == value,
            "{m} is in sync and does not hold {value:x?}"
        );
    }
    Ok(())
}

fn judge_write(before: &Lab, after: &Lab, written: Mask, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let usable = before.usable();
    let took = trace.write_asked.minus(trace.write_failed);
    ensure!(
        trace.reads.iter().all(|&m| trace.kept.contains(m)),
        "a write that reads who took it, or needs not"
    );
    if written.is_empty() || usable.readable.intersect(usable.writable).is_empty() {
        ensure!(trace.steps == 1, "wrote nothing, or what cannot hold");
        ensure!(
            (outcome.result == LaneResult::Good) == written.is_empty(),
            "wrong result of doing nothing"
        );
        ensure!(
            outcome.write_failed.is_empty(),
            "nothing was written, and yet a write failed"
        );
        return Ok(());
    }
    ensure!(
        trace.write_asked == usable.writable,
        "not all members were written"
    );
    let left_out = usable.readable.minus(trace.write_asked).minus(trace.lost);
    ensure!(
        outcome.write_failed == trace.write_failed.union(left_out).union(trace.back_failed),
        "members that missed the write are not all reported"
    );
    if !trace.kept.is_empty() {
        return judge_taken_back(after, took, trace);
    }
    ensure!(
        trace.back_asked.is_empty(),
        "taken back though nobody stays who missed it"
    );
    let holds = !took.intersect(usable.readable).is_empty();
    let result = if holds {
        LaneResult::Good
    } else {
        LaneResult::Unwritten
    };
    ensure!(outcome.result == result, "wrong result");
    // Acknowledged data is on all members that are not reported.
    for m in before.all().minus(outcome.write_failed).minus(trace.lost) {
        let member = after.at(m);
        ensure!(
            !member.writable || (member.content == FRESH && !member.bad),
            "{m} does not hold the new data"
        );
    }
    judge_contents(before, after, Some(FRESH))
}

/// The last good member missed a write and stays in use: nobody may hold something else than it does and count.
fn judge_taken_back(after: &Lab, took: Mask, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    ensure!(
        outcome.result != LaneResult::Good,
        "good, though the last good member missed it"
    );
    ensure!(
        trace.back_asked.is_within(took),
        "taken back from who did not take it"
    );
    let Some(last) = trace.kept.minus(trace.lost).first() else {
        // It went after all: there is nothing to compare with.
        return Ok(());
    };
    let named = outcome.unreadable.union(outcome.write_failed);
    for m in took.minus(trace.lost).minus(named) {
        ensure!(
            after.at(m).content == after.at(last).content,
            "{m} holds something else than {last}"
        );
    }
    ensure!(
        outcome.unreadable.is_empty()
            || outcome.result == LaneResult::Unreadable && after.at(last).bad,
        "not taken back, though the last good member can be read"
    );
    Ok(())
}

fn judge_read(usable: &Usable, before: &Lab, wanted: Mask, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    ensure!(
        trace.write_asked.is_within(trace.read_failed),
        "wrote without need"
    );
    if wanted.is_empty() {
        ensure!(trace.steps == 1, "did what was not asked for");
        return Ok(());
    }
    let preferred = Mask::option(wanted.first()).intersect(usable.readable);
    ensure!(
        trace.reads.first().copied() == preferred.first().or(usable.readable.first()),
        "read another member first"
    );
    let others = trace.reads.get(1..).unwrap_or(&[]);
    ensure!(others.is_sorted(), "not in the order of slots");
    match outcome.result {
        LaneResult::Good => {
            let got = outcome.source.and_then(|s| trace.old[usize::from(s)]);
            ensure!(got.is_some() && got == value(before), "read {got:x?}");
            ensure!(trace.read_ok.len() == 1, "read more than needed");
            Ok(())
        }
        LaneResult::Unreadable => {
            let left = usable.readable.minus(trace.read_failed).minus(trace.lost);
            ensure!(
                left.is_empty() && trace.read_ok.is_empty(),
                "gave up although {left:?} may have it"
            );
            ensure!(
                outcome.unreadable == wanted.union(trace.read_failed),
                "unreadable is not what was wanted and failed"
            );
            Ok(())
        }
        LaneResult::Unwritten => Err("a read is no write".into()),
    }
}

fn judge_rebuild(usable: &Usable, after: &Lab, targets: Mask, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let took = trace.write_asked.minus(trace.write_failed);
    ensure!(
        trace
            .write_asked
            .is_within(trace.read_failed.union(targets)),
        "wrote without need"
    );
    ensure!(
        trace.read_ok.intersect(targets).is_empty() && trace.read_ok.len() <= 1,
        "read a target, or more than needed"
    );
    match outcome.result {
        LaneResult::Good => {
            let still = targets.intersect(after.usable().writable);
            ensure!(still.is_within(took), "left out a target");
            ensure!(
                targets.is_empty() || !took.intersect(targets).is_empty(),
                "rebuilt nothing"
            );
            ensure!(
                targets.intersect(trace.write_failed).is_empty(),
                "a target did not take it"
            );
            // That they hold the right thing: they are in sync now.
            ensure!(
                still.is_within(after.usable().readable),
                "rebuilt and not in sync"
            );
            Ok(())
        }
        LaneResult::Unwritten => {
            let gone = targets
                .intersect(usable.writable)
                .minus(trace.lost)
                .is_empty();
            ensure!(
                gone || !targets.intersect(trace.write_failed).is_empty(),
                "refused although targets take writes"
            );
            Ok(())
        }
        LaneResult::Unreadable => {
            let left = usable
                .readable
                .minus(targets)
                .minus(trace.read_failed)
                .minus(trace.lost);
            ensure!(
                left.is_empty() && trace.read_ok.is_empty(),
                "gave up although {left:?} may have it"
            );
            ensure!(trace.write_asked.is_empty(), "wrote nonsense");
            ensure!(
                !outcome.unreadable.intersect(targets).is_empty(),
                "unreadable, but what?"
            );
            Ok(())
        }
    }
}

/// The copy that most of `read` have; of equals, the one that the lowest slot has.
fn winner(read: &[Option<u32>]) -> Option<u32> {
    let copies: Vec<u32> = read.iter().copied().flatten().collect();
    if copies.len() > VOTERS_MAX as usize {
        return copies.first().copied();
    }
    let votes = |block: u32| copies.iter().filter(|&&c| c == block).count();
    let most = copies.iter().map(|&c| votes(c)).max()?;
    copies.iter().copied().find(|&c| votes(c) == most)
}

fn judge_sync(before: &Lab, after: &Lab, fix: bool, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let in_sync = before.usable().readable;
    let took = trace.write_asked.minus(trace.write_failed);
    if in_sync.len() < 2 {
        ensure!(
            trace.steps == 1 && outcome.result == LaneResult::Good && !outcome.mismatch,
            "nothing to compare with, and yet it did something"
        );
        return Ok(());
    }
    ensure!(
        trace.reads.iter().copied().eq(in_sync.iter()),
        "did not read all that is in sync"
    );
    let best = winner(&trace.old);
    let differing = trace
        .read_ok
        .iter()
        .filter(|&m| Some(before.at(m).content) != best)
        .fold(Mask::EMPTY, Mask::with);
    ensure!(
        outcome.mismatch != differing.is_empty(),
        "mismatch not told from agreement"
    );
    let due = if fix { differing } else { Mask::EMPTY }.union(trace.read_failed);
    ensure!(trace.write_asked.is_within(due), "wrote without need");
    for m in took {
        ensure!(
            Some(after.at(m).content) == best && !after.at(m).bad,
            "{m} got another copy than {best:x?}"
        );
    }
    let left = due.intersect(after.usable().readable).minus(took);
    match outcome.result {
        LaneResult::Good => {
            ensure!(left.is_empty(), "{left:?} is left wrong");
            ensure!(trace.write_failed.is_empty(), "good, with a failed write");
            ensure!(!trace.read_ok.is_empty(), "good, with nothing read");
            let source = outcome.source.and_then(|s| trace.old[usize::from(s)]);
            ensure!(source.is_some() && source == best, "wrong source");
            if fix {
                return judge_contents(before, after, best);
            }
            Ok(())
        }
        LaneResult::Unwritten => {
            ensure!(
                !left.is_empty() || !trace.write_failed.is_empty(),
                "refused for nothing"
            );
            Ok(())
        }
        LaneResult::Unreadable => {
            ensure!(trace.read_ok.is_empty(), "something was read");
            ensure!(
                outcome.unreadable == trace.read_failed,
                "unreadable is not what failed"
            );
            ensure!(trace.write_asked.is_empty(), "wrote nonsense");
            Ok(())
        }
    }
}
