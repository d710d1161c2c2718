// SPDX-License-Identifier: GPL-2.0

//! Long random histories of one lane: jobs, latent sector errors, failing writes, members lost in
//! the middle, replaced and rebuilt. Each is replayed from its seed:
//!
//! `EMD_SEED=<seed> cargo test -p host-tests-heavy --test lane histories::` runs that one alone;
//! `EMD_HISTORIES=<n>` sets how many.

use crate::lane_sim::{genuine, run_and_judge, Lab, Random, Trouble, Verdict};
use emd_core::personalities::lane::{Job, LaneResult};
use emd_core::personalities::Mask;

const JOBS_MAX: u64 = 40;

fn random_mask(random: &mut Random, from: Mask) -> Mask {
    let mut mask = Mask(random.next()).intersect(from);
    // Full and single slots are the cases of the field: more of them.
    match random.below(4) {
        0 => mask = from,
        1 => mask = mask.first().map_or(mask, Mask::single),
        _ => {}
    }
    mask
}

fn random_job(lab: &Lab, random: &mut Random) -> Job {
    let rebuildable = lab.usable().writable.minus(lab.usable().readable);
    match random.below(8) {
        0..=3 => Job::Write {
            written: random_mask(random, lab.roles.data),
        },
        4..=5 => Job::Read {
            wanted: random_mask(random, lab.roles.data),
        },
        6 if !rebuildable.is_empty() => Job::Rebuild {
            targets: rebuildable,
        },
        6 => Job::Rebuild {
            targets: random_mask(random, lab.all()),
        },
        _ => Job::Sync {
            fix: random.chance(2),
        },
    }
}

fn history(seed: u64) -> Verdict<u64> {
    let mut random = Random(seed);
    let n = 2 + random.below(7) as u16;
    let harsh = 2 + random.below(60);
    let mut lab = if n >= 3 && random.chance(2) {
        Lab::any_with_q(n, &mut random)
    } else {
        let p = random.below(u64::from(n)) as u16;
        Lab::new(n, p, &mut random)
    };
    let mut acknowledged = 0;
    for _ in 0..JOBS_MAX {
        // The world between jobs.
        if random.chance(harsh) {
            let slot = random.below(u64::from(n)) as u16;
            lab.at_mut(slot).bad = true;
        }
        if random.chance(4) {
            // A replacement for a lost member; a failed one that is taken out and put back.
            let gone = lab.all().minus(lab.usable().readable);
            if let Some(slot) = gone.first() {
                let garbage = random.next();
                let member = lab.at_mut(slot);
                member.present = true;
                member.bad = false;
                member.content = garbage;
            }
        }
        let job = random_job(&lab, &mut random);
        let mut dice = random.clone();
        random.next();
        let all = lab.all();
        let trace = run_and_judge(&mut lab, job, &mut random, genuine, |_, _| {
            let mut pick = |one_in: u64| {
                if dice.chance(one_in) {
                    Mask(dice.next() & dice.next()).intersect(all)
                } else {
                    Mask::EMPTY
                }
            };
            Trouble {
                media: pick(harsh),
                lost_before: pick(harsh * 4),
                lost_after: pick(harsh * 4),
            }
        })?;
        if trace.outcome.result == LaneResult::Good {
            acknowledged += 1;
        }
        // Data that nobody has any more: the end of this history.
        if lab.roles.data.iter().any(|d| lab.read_back(d).is_none()) {
            break;
        }
        // Nor may parity be worth less than it claims.
        if !lab.agrees_among(lab.in_sync()) {
            return Err(format!("parity disagrees after {job:?}: {lab:?}"));
        }
    }
    Ok(acknowledged)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_history_loses_acknowledged_data() {
    if let Some(seed) = setting("EMD_SEED") {
        history(seed).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let histories = setting("EMD_HISTORIES").unwrap_or(20_000);
    let mut acknowledged = 0;
    for seed in 0..histories {
        acknowledged += history(seed).unwrap_or_else(|why| panic!("EMD_SEED={seed}: {why}"));
    }
    // The faults must not be so harsh that nothing gets done.
    assert!(acknowledged > histories * 4, "{acknowledged} jobs done");
    println!("{acknowledged} jobs done in {histories} histories");
}
