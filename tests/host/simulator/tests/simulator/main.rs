// SPDX-License-Identifier: GPL-2.0

//! The simulator's fixed budget, and proof that it can fail.
//!
//! `EMD_SEED=n` begins elsewhere, `EMD_HISTORIES=n` runs more. `make simulate SECONDS=n` runs as long as
//! one likes.

mod directed;
mod members;
mod replay;
mod rot;
mod words;

use emd_simulator::history::{Menu, TakesBack, GROUP};
use emd_simulator::mistake::Mistake;
use emd_simulator::shrink::shrink;
use emd_simulator::sim::{run, Report};
use emd_simulator::story;
use std::sync::atomic::{AtomicU64, Ordering};

/// Histories of the usual run, of each format.
const HISTORIES: &[(&str, u64)] = &[
    ("ddf", 300),
    ("asr", 800),
    ("imsm", 300),
    ("md-1.2", 600),
    ("md-1.1", 100),
    ("md-1.0", 100),
    ("md-0.90", 200),
];

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
                // What has the same set-up stays together.
                let start = next.fetch_add(GROUP, Ordering::Relaxed);
                if start >= first + count || start > found.load(Ordering::Relaxed) {
                    return;
                }
                for seed in start..(start + GROUP).min(first + count) {
                    let history = menu.history(seed);
                    let fails = |mistake| run(&history, mistake, false).violation.is_some();
                    // Found means: it is the mistake that breaks it.
                    if fails(mistake) && (mistake.is_none() || !fails(None)) {
                        found.fetch_min(seed, Ordering::Relaxed);
                        break;
                    }
                }
            });
        }
    });
    let found = found.into_inner();
    (found != u64::MAX).then_some(found)
}

fn of(format: &str) -> Menu {
    Menu::of(format).expect("a format")
}

fn keep_their_promises(menu: &Menu, usual: u64) {
    let (first, count) = (number("EMD_SEED", 1), number("EMD_HISTORIES", usual));
    if let Some(seed) = first_failure(menu, first, count, None) {
        let history = menu.history(seed);
        let report = run(&history, None, false);
        let violation = report.violation.expect("it failed before");
        panic!(
            "{}",
            story(
                menu,
                seed,
                &history,
                &violation,
                &shrink(&history, None),
                None
            )
        );
    }
}

#[test]
fn histories_keep_their_promises() {
    for &(format, count) in HISTORIES {
        keep_their_promises(&of(format), count);
    }
}

/// Writes of metadata fail too.
#[test]
fn metadata_errors_lose_nothing() {
    for (format, count) in [
        ("ddf", 40),
        ("asr", 400),
        ("imsm", 80),
        ("md-1.2", 300),
        ("md-0.90", 200),
    ] {
        let menu = Menu {
            metadata_errors: true,
            ..Menu::of(format).expect("a format")
        };
        keep_their_promises(&menu, count);
    }
}

/// A seed replays exactly, of each format, whatever was kept from other histories: every step of the story is the same.
#[test]
fn a_seed_replays() {
    for &(format, _) in HISTORIES {
        let story = |seed| run(&of(format).history(seed), None, true).story;
        let first: Vec<_> = (1..12).map(|seed| (seed, story(seed))).collect();
        // The last one first, so that others went before it.
        for (seed, first) in first.into_iter().rev() {
            assert!(first.len() > 10);
            assert_eq!(first, story(seed), "{format}: seed {seed}");
        }
    }
}

/// Each mistake is found within so many seeds, from 1 on, with this format.
///
/// Others are below, with histories made for them, and in `directed`.
const FOUND_WITHIN: &[(Mistake, &str, u64)] = &[
    (Mistake::FlushLeftOut, "ddf", 40),
    (Mistake::FuaDropped, "ddf", 40),
    (Mistake::DirtyAfterWrite, "ddf", 40),
    (Mistake::CleanBeforeLastWrite, "asr", 1500),
    (Mistake::ParityFromChangedData, "imsm", 400),
    (Mistake::StaleTrusted, "asr", 400),
    (Mistake::MarkAheadOfData, "asr", 1500),
    (Mistake::AcknowledgedBeforeRecorded, "asr", 1500),
    (Mistake::RebuildNotWritten, "asr", 9000),
    (Mistake::PhasesReordered, "ddf", 150),
    (Mistake::ResyncSkipped, "asr", 400),
    (Mistake::LanesNotLocked, "imsm", 400),
    (Mistake::RepairOverNew, "imsm", 400),
    (Mistake::RepairMeetsWrites, "asr", 4000),
    (Mistake::LaneFromDistrustedParity, "imsm", 400),
    (Mistake::ErrorNotServed, "md-1.2", 400),
    (Mistake::MarkKeptWhileDirty, "asr", 1500),
    (Mistake::SpareTrustedAtOnce, "asr", 1500),
    (Mistake::UnsyncedParityTrusted, "md-1.2", 9000),
    (Mistake::ParityLeftBehind, "md-1.2", 100),
    (Mistake::TaskWithoutDrain, "asr", 1500),
    (Mistake::UnsyncedCopiesRead, "asr", 1500),
    (Mistake::SyncTakesAnother, "asr", 1500),
];

#[test]
fn mistakes_are_found() {
    are_found(FOUND_WITHIN, |menu| menu);
}

/// The same, with disks that are always taken back: most of those histories are what they were before the seed said so.
fn taking_all_back(menu: Menu) -> Menu {
    Menu {
        takes_back: Some(TakesBack::Always),
        ..menu
    }
}

/// Each of these is found with histories of its format that `kind` makes special.
fn are_found(mistakes: &[(Mistake, &str, u64)], kind: impl Fn(Menu) -> Menu) {
    let mut missed = Vec::new();
    for &(mistake, format, within) in mistakes {
        match first_failure(&kind(of(format)), 1, within, Some(mistake)) {
            Some(seed) => println!("{mistake:?}: {format}, seed {seed}"),
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// What the first `count` histories came to in all, by what `of` says.
fn sum(menu: &Menu, count: u64, of: impl Fn(&Report) -> u64) -> u64 {
    (1..=count)
        .map(|seed| of(&run(&menu.history(seed), None, false)))
        .sum()
}

/// Mistakes with regions, found within so many seeds from 1 on.
const FOUND_WITH_REGIONS: &[(Mistake, &str, u64)] = &[
    (Mistake::WriteBeforeRegion, "md-1.2", 400),
    (Mistake::RegionClearedInFlight, "md-1.2", 2000),
    (Mistake::RegionsCleanWithoutFlush, "ddf", 1500),
    (Mistake::RegionClearedUnsynced, "md-1.2", 2000),
];

/// After a crash only the regions that were being written are resynced, and nothing is left out that should
/// not be.
#[test]
fn regions_keep_their_promises() {
    for (format, count) in [("ddf", 60), ("md-1.2", 300)] {
        let menu = of(format).with_regions();
        keep_their_promises(&menu, count);
        assert!(sum(&menu, 24, |report| report.skipped) > 0, "{format}");
    }
    are_found(FOUND_WITH_REGIONS, Menu::with_regions);
}

/// Mistakes with bad ranges, found within so many seeds from 1 on.
const FOUND_WITH_BAD_RANGES: &[(Mistake, &str, u64)] = &[
    (Mistake::BadRangeRead, "md-1.2", 400),
    (Mistake::BadRangeTakesLane, "imsm", 1000),
    (Mistake::BadRangeNotRecorded, "md-1.2", 400),
    (Mistake::UnkeptCounts, "asr", 100),
];

/// What a rebuild could not fill is an error until it is written, also after a crash.
#[test]
fn bad_ranges_keep_their_promises() {
    for (format, count) in [("ddf", 40), ("imsm", 60), ("md-1.2", 200)] {
        let menu = of(format).with_bad_ranges();
        keep_their_promises(&menu, count);
        assert!(sum(&menu, 24, |report| report.holes) > 0, "{format}");
    }
    let menu = of("md-1.2").with_bad_ranges();
    assert!(sum(&menu, 100, |report| report.filled) > 0);
    are_found(FOUND_WITH_BAD_RANGES, |menu| {
        taking_all_back(menu.with_bad_ranges())
    });
}

/// The usual histories have every level of their formats.
#[test]
fn every_level_is_there() {
    for format in ["ddf", "imsm", "asr", "md-1.2", "md-0.90"] {
        let menu = of(format);
        let made = (0..60).map(|group| menu.history(group * GROUP).config.level());
        let made: Vec<_> = made.collect();
        // Of md's 0.90 those without redundancy take whole disks.
        let levels = menu.levels_of(format);
        let small = levels.filter(|level| format != "md-0.90" || level.is_redundant());
        let missing: Vec<_> = small.filter(|level| !made.contains(level)).collect();
        assert!(missing.is_empty(), "{format}: {missing:?}");
    }
}

/// A member that joins a rebuild late is not right below the mark of the others.
#[test]
fn a_late_joiner_is_filled_in_a_second_pass() {
    let menu = of("md-1.2").with_late_joiners();
    keep_their_promises(&menu, 40);
    let found = first_failure(&menu, 1, 150, Some(Mistake::LateTrusted));
    println!("LateTrusted: seed {found:?}");
    assert!(found.is_some());
}

/// Mistakes with tasks that people hold and cancel, found within so many seeds from 1 on.
const FOUND_WITH_TASKS: &[(Mistake, &str, u64)] = &[
    (Mistake::HeldCounts, "asr", 1500),
    (Mistake::CancelCounts, "asr", 400),
];

/// People start, hold and cancel tasks, also in the middle of others, and power goes.
#[test]
fn tasks_of_people_keep_their_promises() {
    for (format, count) in [
        ("ddf", 40),
        ("asr", 100),
        ("imsm", 60),
        ("md-1.2", 200),
        ("md-0.90", 60),
    ] {
        keep_their_promises(&of(format).with_tasks(), count);
    }
    are_found(FOUND_WITH_TASKS, |menu| taking_all_back(menu.with_tasks()));
}

/// RAID 50 and 60.
#[test]
fn two_levels_keep_their_promises() {
    let menu = Menu::usual().with_two_levels();
    keep_their_promises(&menu, 60);
    let found = first_failure(&menu, 1, 600, Some(Mistake::MarkOfOneSpan));
    println!("MarkOfOneSpan: seed {found:?}");
    assert!(found.is_some());
}

/// What shrinking leaves still fails, but without any of its happenings no more, and its story ends with the broken promise.
#[test]
fn a_failure_is_made_small() {
    let menu = Menu::usual();
    let mistake = Some(Mistake::DirtyAfterWrite);
    let seed = first_failure(&menu, 1, 60, mistake).expect("a seed that fails");
    let history = menu.history(seed);
    let violation = run(&history, mistake, false).violation.expect("it fails");
    let small = shrink(&history, mistake);
    assert!(small.ops.len() < history.ops.len());
    assert!(run(&small, mistake, false).violation.is_some());
    for at in 0..small.ops.len() {
        let mut smaller = small.clone();
        smaller.ops.remove(at);
        let violation = run(&smaller, mistake, false).violation;
        assert_eq!(violation, None, "without {:?}", small.ops[at]);
    }
    let text = story(&menu, seed, &history, &violation, &small, mistake);
    assert!(text.contains("BROKEN PROMISE") && text.contains(&format!("SEED={seed}")));
}

/// With the log the write hole is closed: nothing is lost with a member but what was itself being written on
/// it when power went.
#[test]
fn the_log_closes_the_hole() {
    let menu = Menu::closed();
    keep_their_promises(&menu, 400);
    // Rows, as other drivers have them.
    for format in ["imsm", "md-1.2"] {
        let rows = Menu {
            formats: of(format).formats,
            ..Menu::closed()
        };
        keep_their_promises(&rows, 150);
    }
    // Without it, that would not be so.
    let found = first_failure(&menu, 1, 400, Some(Mistake::LogLeftOut));
    assert!(found.is_some(), "the hole makes no difference");
}

/// Mistakes with the log, found within so many seeds from 1 on.
const FOUND_WITH_LOG: &[(Mistake, u64)] = &[
    (Mistake::LogLeftOut, 400),
    (Mistake::LogInCache, 2000),
    (Mistake::LogWithoutFlush, 2000),
    (Mistake::VoidLeftOut, 2000),
    (Mistake::ReplaySkipped, 400),
    (Mistake::SessionKept, 2000),
    (Mistake::LossNotWaitedFor, 2000),
];

#[test]
fn mistakes_with_the_log_are_found() {
    let mut missed = Vec::new();
    for &(mistake, within) in FOUND_WITH_LOG {
        match first_failure(&Menu::closed(), 1, within, Some(mistake)) {
            Some(seed) => println!("{mistake:?}: seed {seed}"),
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
