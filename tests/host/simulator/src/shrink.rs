// SPDX-License-Identifier: GPL-2.0

//! Makes a failing history small: fewer happenings, fewer faults, as long as it still fails.

use crate::history::History;
use crate::mistake::Mistake;
use crate::sim::run;

/// Schedules that are tried for each smaller history.
const SCHEDULES: u64 = 24;

/// The smallest history found that still breaks a promise, and how often it was run.
pub fn shrink(history: &History, mistake: Option<Mistake>) -> History {
    let mut best = history.clone();
    let mut chunk = best.ops.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < best.ops.len() {
            let end = (at + chunk).min(best.ops.len());
            let mut ops = best.ops.clone();
            ops.drain(at..end);
            match failing(&best, ops, mistake) {
                Some(found) => {
                    best = found;
                    smaller = true;
                }
                None => at = end,
            }
        }
        if chunk == 1 && !smaller {
            return best;
        }
        if !smaller {
            chunk = (chunk / 2).max(1);
        }
    }
}

fn failing(
    like: &History,
    ops: Vec<crate::history::Op>,
    mistake: Option<Mistake>,
) -> Option<History> {
    for schedule in 0..SCHEDULES {
        let candidate = History {
            config: like.config,
            ops: ops.clone(),
            // The known one first.
            schedule: if schedule == 0 {
                like.schedule
            } else {
                schedule
            },
        };
        if run(&candidate, mistake, false).violation.is_some() {
            return Some(candidate);
        }
    }
    None
}
