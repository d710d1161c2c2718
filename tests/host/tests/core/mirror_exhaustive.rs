// SPDX-License-Identifier: GPL-2.0

//! Mirrors of 2 to 4 members: every start, every job, every combination of faults up to a number.

use crate::mirror_sim::{explore, genuine, jobs, patterns, starts};
use emd_core::personalities::lane::Job;

fn all_but_sync(n: u16, budget: u32) {
    let mut runs = 0;
    for lab in starts(n) {
        for job in jobs(n) {
            runs += explore(&lab, &genuine, job, budget).unwrap_or_else(|why| panic!("{why}"));
        }
    }
    println!("{n} members, {budget} faults: {runs} runs");
}

fn sync(n: u16, budget: u32) {
    let mut runs = 0;
    for start in starts(n) {
        for lab in patterns(&start) {
            for fix in [false, true] {
                runs += explore(&lab, &genuine, Job::Sync { fix }, budget)
                    .unwrap_or_else(|why| panic!("{why}"));
            }
        }
    }
    println!("{n} members, {budget} faults: {runs} runs");
}

#[test]
fn two_members_any_four_faults() {
    all_but_sync(2, 4);
    sync(2, 4);
}

#[test]
fn three_members_any_three_faults() {
    all_but_sync(3, 3);
}

#[test]
fn four_members_any_two_faults() {
    all_but_sync(4, 2);
}

#[test]
fn three_members_sync_any_three_faults() {
    sync(3, 3);
}

#[test]
fn four_members_sync_any_two_faults() {
    sync(4, 2);
}
