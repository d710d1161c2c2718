// SPDX-License-Identifier: GPL-2.0

//! The judge: what a run came to, against what could be had.

use super::field::{self, Row, BLOCK_BYTES};
use super::{Lab, Trace, Verdict};
use crate::ensure;
use emd_core::model::Slot;
use emd_core::personalities::lane::{Job, LaneResult};
use emd_core::personalities::Mask;
use std::cell::RefCell;
use std::collections::HashMap;

pub fn judge(before: &Lab, after: &Lab, job: Job, fresh: &[u64], trace: &Trace) -> Verdict {
    judge_report(before, after, job, trace)?;
    match job {
        Job::Write { written } => judge_write(before, after, written, fresh, trace),
        Job::Read { wanted } => judge_read(before, after, wanted, trace),
        Job::Rebuild { targets } => judge_rebuild(before, after, targets, trace),
        Job::Sync { fix } => judge_sync(before, after, fix, trace),
    }
}

/// What is told is what happened; and what every job owes.
fn judge_report(before: &Lab, after: &Lab, job: Job, trace: &Trace) -> Verdict {
    let outcome = &trace.outcome;
    let unread = trace.read_asked.minus(trace.read_ok);
    let written_ok = trace.write_asked.minus(trace.write_failed);
    ensure!(
        outcome.repaired == unread.intersect(written_ok),
        "repairs told are not those made"
    );
    let corrected = match job {
        Job::Sync { .. } => written_ok.minus(unread),
        _ => Mask::EMPTY,
    };
    ensure!(
        outcome.corrected == corrected,
        "corrections told are not those made"
    );
    for m in unread.minus(written_ok) {
        ensure!(
            trace.old[usize::from(m)].is_some() || outcome.unreadable.contains(m),
            "block of {m} stays unreadable, and that is not told"
        );
    }
    ensure!(
        trace.read_ok.intersect(outcome.unreadable).is_empty(),
        "a block that was read is told unreadable"
    );
    ensure!(
        trace.write_failed.is_within(outcome.write_failed),
        "a failed write was not reported"
    );
    ensure!(
        outcome.write_failed.is_within(trace.write_failed),
        "a failed write was made up"
    );
    for m in trace.write_asked.minus(trace.write_failed) {
        ensure!(!after.at(m).bad, "written and still bad");
    }
    if trace.write_asked.is_empty() {
        for m in before.all() {
            ensure!(
                before.at(m).content == after.at(m).content,
                "contents of {m} changed without a write"
            );
        }
    }
    ensure!(
        !before.agrees_among(before.in_sync()) || after.agrees_among(after.in_sync()),
        "agreed before, and does not now"
    );
    // What could not be read, is still in use, and follows from what was read, is put right.
    let is_done = outcome.result == LaneResult::Good || matches!(job, Job::Read { .. });
    for m in unread.intersect(after.in_sync()).minus(written_ok) {
        ensure!(
            !is_done || !before.follow(&[before.row(m)], trace.read_ok),
            "the block of {m} was left bad"
        );
    }
    Ok(())
}

/// Blocks that are known somewhere at the end, or were read on the way.
fn known(after: &Lab, trace: &Trace) -> Mask {
    after.sound().union(trace.read_ok)
}

type Question = (u64, u32, Vec<Row>, Vec<Row>);

thread_local! {
    static ENOUGH: RefCell<HashMap<Question, bool>> = RefCell::new(HashMap::new());
}

/// Whether some `reads` of the `readable` members are enough for all of `wanted` to follow.
fn are_enough(lab: &Lab, readable: Mask, reads: u32, wanted: &[Row]) -> bool {
    let code = lab.all().iter().map(|m| lab.row(m)).collect();
    let question = (readable.0, reads, code, wanted.to_vec());
    ENOUGH.with_borrow_mut(|answers| {
        *answers.entry(question).or_insert_with(|| {
            (0..1u64 << lab.members.len())
                .map(Mask)
                .any(|set| set.len() == reads && set.is_within(readable) && lab.follow(wanted, set))
        })
    })
}

fn rows(lab: &Lab, slots: Mask) -> Vec<Row> {
    slots.iter().map(|slot| lab.row(slot)).collect()
}

/// What the data that stays gives to each of these parities.
fn shares(lab: &Lab, parities: Mask, untouched: Mask) -> Vec<Row> {
    let share = |parity| lab.row_over(parity, untouched);
    parities.iter().map(share).collect()
}

fn judge_least(lab: &Lab, readable: Mask, wanted: &[Row], trace: &Trace) -> Verdict {
    if trace.trouble || trace.reads == 0 {
        return Ok(());
    }
    ensure!(
        !are_enough(lab, readable, trace.reads - 1, wanted),
        "{} reads where fewer do",
        trace.reads
    );
    Ok(())
}

/// Nobody reads anything but what was there before, outside of `changed`.
fn judge_untouched(before: &Lab, after: &Lab, changed: Mask) -> Verdict {
    for d in before.roles.data.minus(changed) {
        let (was, is) = (before.read_back(d), after.read_back(d));
        ensure!(
            is.is_none() || was.is_none() || is == was,
            "data of {d} was {was:x?} and reads {is:x?}"
        );
        ensure!(
            !(was.is_none() && is.is_some()),
            "data of {d} could not be read before, and now reads {is:x?}"
        );
    }
    Ok(())
}

fn judge_write(before: &Lab, after: &Lab, written: Mask, fresh: &[u64], trace: &Trace) -> Verdict {
    judge_untouched(before, after, written)?;
    let all = before.all();
    let is_good = trace.outcome.result == LaneResult::Good;
    // Latent errors that the run had no reason to find, together with writes that failed, are
    // nobody's fault: the acknowledged block must follow from what the others hold.
    let mut without_latent = after.clone();
    for m in all.minus(trace.read_asked) {
        without_latent.at_mut(m).bad = false;
    }
    for w in written {
        let new = Some(fresh[usize::from(w)]);
        let was = before.read_back(w);
        let is = after.read_back(w);
        if is_good {
            ensure!(
                is == new || (is.is_none() && without_latent.read_back(w) == new),
                "acknowledged data of {w} reads {is:x?}"
            );
        } else if !before.distrusted {
            ensure!(
                is.is_none() || is == new || is == was,
                "refused data of {w} was {was:x?}, new {new:x?}, and reads {is:x?}"
            );
        }
    }
    if before.distrusted && is_good && !written.is_empty() {
        ensure!(
            after.agrees_among(after.sound()),
            "parity that was not to be trusted was built upon"
        );
    }

    // No superfluous reads.
    let untouched = before.roles.data.minus(written);
    let usable = before.usable();
    let kept = before.roles.parity().intersect(usable.writable);
    let unknown = before.roles.data.minus(usable.readable);
    let anew = before.distrusted && unknown.len() < kept.len();
    if !written.is_empty() && !anew {
        let wanted = shares(before, kept, untouched);
        judge_least(before, usable.readable, &wanted, trace)?;
    }
    if !written.is_empty() && anew {
        let wanted = rows(before, untouched);
        judge_least(before, usable.readable, &wanted, trace)?;
    }

    match trace.outcome.result {
        LaneResult::Good => Ok(()),
        LaneResult::Unreadable => Err("a write is no read".into()),
        LaneResult::Unwritten => judge_refusal(before, after, written, trace),
    }
}

/// A write is justly refused when more members are out of date than there is parity; or when new
/// data has no place of its own, and with the blocks that cannot be read that is too many; or when
/// new parity cannot be had.
fn judge_refusal(before: &Lab, after: &Lab, written: Mask, trace: &Trace) -> Verdict {
    let (all, in_use) = (before.all(), after.in_sync());
    let stale = all.minus(in_use);
    if stale.len() > before.redundancy() {
        return Ok(());
    }
    let known = known(after, trace);
    let unknown = all.minus(known);
    let homeless = !written.intersect(stale).is_empty();
    let overwritten = trace.write_asked.minus(trace.write_failed);
    if homeless && stale.union(unknown.minus(overwritten)).len() > before.redundancy() {
        return Ok(());
    }
    let parity = before.roles.parity();
    let kept = parity.intersect(in_use).intersect(before.in_sync());
    ensure!(
        !kept.is_empty(),
        "refused although there is no parity to keep"
    );
    let untouched = before.roles.data.minus(written);
    let wanted = if before.distrusted {
        rows(before, untouched)
    } else {
        shares(before, kept, untouched)
    };
    ensure!(
        !before.follow(&wanted, known),
        "refused although there is a way; known {known:?}"
    );
    ensure!(
        trace.write_asked.is_empty(),
        "wrote although parity could not be had"
    );
    Ok(())
}

fn judge_read(before: &Lab, after: &Lab, wanted: Mask, trace: &Trace) -> Verdict {
    judge_untouched(before, after, Mask::EMPTY)?;
    let outcome = &trace.outcome;
    let unread = match outcome.result {
        LaneResult::Good => Mask::EMPTY,
        LaneResult::Unreadable => outcome.unreadable,
        LaneResult::Unwritten => return Err("a read is no write".into()),
    };
    for w in wanted.minus(unread) {
        let (was, got) = (before.read_back(w), trace.old[usize::from(w)]);
        ensure!(
            got.is_some() && (was.is_none() || got == was),
            "data of {w} is {was:x?} and was read as {got:x?}"
        );
    }
    let unread = unread.intersect(wanted);
    if outcome.result == LaneResult::Unreadable {
        ensure!(!unread.is_empty(), "unreadable, but what?");
        let known = known(after, trace);
        for w in unread {
            ensure!(
                !before.follow(&[before.row(w)], known),
                "refused although there is a way; known {known:?}"
            );
        }
    }
    judge_least(before, before.in_sync(), &rows(before, wanted), trace)
}

fn judge_rebuild(before: &Lab, after: &Lab, targets: Mask, trace: &Trace) -> Verdict {
    judge_untouched(before, after, Mask::EMPTY)?;
    let all = before.all();
    let written = targets.intersect(before.usable().writable);
    match trace.outcome.result {
        LaneResult::Good => {
            for t in targets {
                let right = before.value(t, before.in_sync().minus(targets));
                ensure!(
                    right == Some(after.at(t).content) && !after.at(t).bad,
                    "{t} was rebuilt wrong"
                );
            }
            let sources = before.in_sync().minus(written);
            judge_least(before, sources, &rows(before, written), trace)
        }
        LaneResult::Unwritten => {
            let writable = before.usable().writable.minus(trace.lost);
            ensure!(
                !trace.write_failed.is_empty() || !targets.is_within(writable),
                "refused although targets take writes"
            );
            Ok(())
        }
        LaneResult::Unreadable => {
            let written = written.minus(trace.lost);
            let known = known(after, trace).minus(written);
            ensure!(
                !before.follow(&rows(before, written), known),
                "refused although there is a way; {known:?} of {all:?}"
            );
            ensure!(trace.write_asked.is_empty(), "wrote nonsense");
            Ok(())
        }
    }
}

/// The one data member whose contents explain both differences, found by trying each.
pub fn locate(lab: &Lab, p: u64, q: u64) -> Option<Slot> {
    if p == 0 && q == 0 {
        return None;
    }
    let slot_of_q = lab.roles.q?;
    lab.roles.data.iter().find(|&d| {
        let factor = lab.factor(slot_of_q, d);
        (0..BLOCK_BYTES).all(|at| {
            let byte = |block: u64| block.to_le_bytes()[at];
            byte(q) == field::times(byte(p), factor)
        })
    })
}

/// What a `Sync` that finds all members there, and none of the `stale` ones, has to write.
fn due_corrections(lab: &Lab, stale: Mask) -> Mask {
    let Some(data) = lab.solve(lab.all().minus(stale)) else {
        return Mask::EMPTY;
    };
    let wrong = |parity: Slot| lab.at(parity).content ^ lab.sum(parity, &data);
    let parities = lab.roles.parity().minus(stale).iter();
    let differing = parities
        .filter(|&parity| wrong(parity) != 0)
        .fold(Mask::EMPTY, Mask::with);
    match (lab.roles.p, lab.roles.q) {
        (Some(p), Some(q)) if differing.len() == 2 && !lab.distrusted => {
            locate(lab, wrong(p), wrong(q)).map_or(differing, Mask::single)
        }
        _ => differing,
    }
}

fn judge_sync(before: &Lab, after: &Lab, fix: bool, trace: &Trace) -> Verdict {
    let all = before.all();
    let outcome = &trace.outcome;
    let stale = all.minus(before.in_sync());
    if stale.len() >= before.redundancy() {
        ensure!(
            trace.steps == 1 && outcome.result == LaneResult::Good,
            "nothing to compare with, and yet {} steps",
            trace.steps
        );
        return Ok(());
    }
    let due = due_corrections(before, stale);
    // Data that could be read is touched only when it is known to be wrong.
    for d in before.roles.data.intersect(trace.read_ok) {
        ensure!(
            before.at(d).content == after.at(d).content || (fix && due.contains(d)),
            "sync changed data"
        );
    }
    let data = before.roles.data;
    let overwrites = fix && before.distrusted && before.overwriting;
    if !trace.trouble && overwrites && stale.intersect(data).is_empty() {
        let parity = before.roles.parity().minus(stale);
        ensure!(!outcome.mismatch, "told what it cannot know");
        ensure!(
            outcome.result == LaneResult::Good,
            "failed without a reason"
        );
        ensure!(trace.read_asked == data, "read more than data");
        ensure!(trace.write_asked == parity, "wrote something else");
    } else if !trace.trouble {
        ensure!(
            outcome.mismatch != before.agrees_among(before.in_sync()),
            "mismatch not told from agreement"
        );
        ensure!(
            outcome.result == LaneResult::Good,
            "failed without a reason"
        );
        ensure!(fix || trace.write_asked.is_empty(), "a check wrote");
        ensure!(
            !fix || trace.write_asked == due,
            "wrote {:?} where {due:?} was due",
            trace.write_asked
        );
    }
    match outcome.result {
        LaneResult::Good => {
            let gone = stale.union(trace.lost);
            if gone.len() < before.redundancy() && (fix || !outcome.mismatch) {
                ensure!(
                    after.agrees_among(after.in_sync()),
                    "disagrees after a good sync"
                );
                ensure!(
                    after.sound() == after.in_sync(),
                    "bad blocks after a good sync"
                );
            }
            Ok(())
        }
        LaneResult::Unwritten => {
            ensure!(!trace.write_failed.is_empty(), "no write failed");
            Ok(())
        }
        LaneResult::Unreadable => {
            ensure!(
                all.minus(known(after, trace)).len() > before.redundancy(),
                "refused although there is a way"
            );
            Ok(())
        }
    }
}
