// SPDX-License-Identifier: GPL-2.0

//! Power goes in the middle of a write, with a log: each member has taken its block or not, and more members
//! may be lost with it, as many as the level bears.

use super::executor::Logged;
use super::{Lab, Verdict};
use crate::ensure;
use emd_core::model::Slot;
use emd_core::personalities::Mask;

fn subsets(of: Mask) -> impl Iterator<Item = Mask> {
    let mut next = Some(0u64);
    core::iter::from_fn(move || {
        let now = next?;
        // The next subset, counting within the bits of `of`.
        let after = (now | !of.0).wrapping_add(1) & of.0;
        next = (after != 0).then_some(after);
        Some(Mask(now))
    })
}

/// What the missing data of a lane comes to, by slot: from the log as far as it covers it, else from the
/// parity on the members.
fn recover(lab: &Lab, known: Mask, log: &Option<Logged>) -> Option<Vec<u64>> {
    let roles = lab.roles;
    let mut with = lab.clone();
    let mut sources = known;
    if let Some(log) = log {
        let lost = roles.data.minus(known);
        let by_log = lost.intersect(log.covers);
        if !by_log.is_empty() {
            // A lane of what the log covers alone: its parities are the sums.
            let mut part = lab.clone();
            for m in roles.data.minus(log.covers) {
                part.at_mut(m).content = 0;
            }
            let mut have = roles.data.minus(by_log);
            for &(parity, sum) in &log.sums {
                if known.contains(parity) {
                    part.at_mut(parity).content = sum;
                    have = have.with(parity);
                }
            }
            for m in by_log {
                with.at_mut(m).content = part.value(m, have)?;
                sources = sources.with(m);
            }
        }
    }
    let blocks = roles
        .data
        .iter()
        .map(|m| with.value(m, sources).unwrap_or(0));
    let mut all = vec![0; lab.members.len()];
    for (m, block) in roles.data.iter().zip(blocks) {
        all[usize::from(m)] = block;
    }
    Some(all)
}

/// Whatever of the write reached the members, and whoever is lost with the power: data that was left alone is
/// what it was, and on members that were missing before, what was written is old or new.
pub fn judge(
    lab: &Lab,
    written: Mask,
    fresh: &[u64],
    members: Mask,
    new: &dyn Fn(Slot) -> u64,
    log: &Option<Logged>,
) -> Verdict {
    let here = lab.sound();
    let missing = lab.all().minus(here);
    let bears = lab.redundancy().saturating_sub(missing.len());
    // A lane with blocks that could not be read is judged by what could be known.
    for taken in subsets(members) {
        let mut torn = lab.clone();
        for m in taken {
            let member = torn.at_mut(m);
            member.content = new(m);
            member.bad = false;
        }
        for lost in subsets(here).filter(|lost| lost.len() <= bears) {
            let known = torn.sound().minus(lost);
            let found = recover(&torn, known, log);
            for m in lab.roles.data.minus(known) {
                let Some(before) = lab.read_back(m) else {
                    continue;
                };
                let found = found.as_ref().map(|found| found[usize::from(m)]);
                let slot = usize::from(m);
                let is_new = written.contains(m) && found == Some(fresh[slot]);
                // Its block was being written, and was good before, or could not be read at all.
                let may_be_anything = written.contains(m) && lab.in_sync().contains(m);
                ensure!(
                    found == Some(before) || is_new || may_be_anything,
                    "power goes when {taken:?} of {members:?} are written, {lost:?} lost: {m} is {found:x?}, was {before:x}; {written:?} {log:x?} {lab:x?}"
                );
            }
        }
    }
    Ok(())
}
