// SPDX-License-Identifier: GPL-2.0

//! The simulator's fixed budget, and proof that it can fail.
//!
//! `EMD_SEED=n` begins elsewhere, `EMD_HISTORIES=n` runs more. `make simulate SECONDS=n` runs as long as
//! one likes.

use emd_simulator::history::Menu;
use emd_simulator::mistake::Mistake;
use emd_simulator::shrink::shrink;
use emd_simulator::sim::run;
use emd_simulator::story;
use std::sync::atomic::{AtomicU64, Ordering};

/// Histories of the usual run.
const HISTORIES: u64 = 150;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// The lowest seed of `first .. first + count` that breaks a promise.
fn first_failure(menu: &Menu, first: u64, count: u64, mistake: Option<Mistake>) -> Option<u64> {
    let next = AtomicU64::new(first);
    let found = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count || seed > found.load(Ordering::Relaxed) {
                    return;
                }
                if run(&menu.history(seed), mistake, false).violation.is_some() {
                    found.fetch_min(seed, Ordering::Relaxed);
                }
            });
        }
    });
    let found = found.into_inner();
    (found != u64::MAX).then_some(found)
}

fn keep_their_promises(menu: &Menu) {
    let (first, count) = (number("EMD_SEED", 1), number("EMD_HISTORIES", HISTORIES));
    if let Some(seed) = first_failure(menu, first, count, None) {
        let history = menu.history(seed);
        let report = run(&history, None, false);
        let violation = report.violation.expect("it failed before");
        panic!(
            "{}",
            story(seed, &history, &violation, &shrink(&history, None), None)
        );
    }
}

#[test]
fn histories_keep_their_promises() {
    keep_their_promises(&Menu::usual());
}

/// A seed replays exactly: every step of the story is the same.
#[test]
fn a_seed_replays() {
    let menu = Menu::usual();
    for seed in 1..12 {
        let history = menu.history(seed);
        let (one, other) = (run(&history, None, true), run(&history, None, true));
        assert!(one.story.len() > 10);
        assert_eq!(one.story, other.story, "seed {seed}");
    }
}

/// Each mistake is found within so many seeds, from 1 on.
const FOUND_WITHIN: &[(Mistake, u64)] = &[
    (Mistake::FlushLeftOut, 40),
    (Mistake::FuaDropped, 40),
    (Mistake::DirtyAfterWrite, 40),
    (Mistake::CleanWithoutFlush, 400),
    (Mistake::ParityFromChangedData, 100),
    (Mistake::StaleTrusted, 100),
    (Mistake::AcknowledgedBeforeRecorded, 150),
    (Mistake::PhasesReordered, 100),
    (Mistake::ResyncSkipped, 100),
    (Mistake::LanesNotLocked, 60),
    (Mistake::RepairOverNew, 300),
    (Mistake::SpareTrustedAtOnce, 150),
    (Mistake::ParityLeftBehind, 200),
    (Mistake::MarkPastFailedLane, 150),
];

#[test]
fn mistakes_are_found() {
    let menu = Menu::usual();
    let mut missed = Vec::new();
    for &(mistake, within) in FOUND_WITHIN {
        match first_failure(&menu, 1, within, Some(mistake)) {
            Some(seed) => println!("{mistake:?}: seed {seed}"),
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// What shrinking leaves still fails, is no larger, and its story ends with the broken promise.
#[test]
fn a_failure_is_made_small() {
    let menu = Menu::usual();
    let mistake = Some(Mistake::DirtyAfterWrite);
    let seed = first_failure(&menu, 1, 60, mistake).expect("a seed that fails");
    let history = menu.history(seed);
    let violation = run(&history, mistake, false).violation.expect("it fails");
    let small = shrink(&history, mistake);
    assert!(small.ops.len() <= history.ops.len());
    assert!(run(&small, mistake, false).violation.is_some());
    let text = story(seed, &history, &violation, &small, mistake);
    assert!(text.contains("BROKEN PROMISE") && text.contains(&format!("SEED={seed}")));
}
