// SPDX-License-Identifier: GPL-2.0

//! `make simulate SECONDS=n [SEED=n] [MISTAKE=…] [ALL=1]`, and the words of [`emd_simulator::words`].
//!
//! With `ALL` a failure is no end: those that were found are listed at the end.

#![forbid(unsafe_code)]

use emd_simulator::history::{Menu, GROUP};
use emd_simulator::mistake::Mistake;
use emd_simulator::shrink::shrink;
use emd_simulator::sim::{run, Report};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

fn main() {
    let menu = Menu::from_words(variable).unwrap_or_else(|why| panic!("{why}"));
    let mistake = variable("MISTAKE")
        .map(|name| Mistake::by_name(&name).unwrap_or_else(|| panic!("one of {:?}", Mistake::ALL)));
    if let Some(seed) = number("SEED") {
        std::process::exit(i32::from(replay(&menu, seed, mistake)));
    }
    let seconds = number("SECONDS").unwrap_or(10);
    let first = number("FROM").unwrap_or_else(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        clock.map_or(0, |since| since.as_secs()) << 24
    });
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let all = variable("ALL").is_some();
    let total = Mutex::new((0u64, Report::default()));
    let found = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut seeds = 0..0;
                while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                    let seed = seeds.next().unwrap_or_else(|| {
                        let first = next.fetch_add(GROUP, Ordering::Relaxed);
                        seeds = first + 1..first + GROUP;
                        first
                    });
                    let report = run(&menu.history(seed), mistake, false);
                    if let Some(violation) = &report.violation {
                        stop.fetch_or(!all, Ordering::Relaxed);
                        let mut found = found.lock().unwrap_or_else(|lock| lock.into_inner());
                        found.insert(seed, violation.clone());
                    }
                    let mut total = total.lock().unwrap_or_else(|lock| lock.into_inner());
                    total.0 += 1;
                    add(&mut total.1, &report);
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(|lock| lock.into_inner());
    let (count, sum) = total;
    println!(
        "{count} histories from seed {first} on, {} a second: {} steps, {} writes acknowledged, {} power cuts, \
         {} tasks done, {} starts refused, {} arrays lost; sectors left open: {} by the write hole, {} by \
         unfinished initialisation; {} lanes of clean regions left out, {} holes left by rebuilds, {} filled, {} rebuilds \
         withheld; {} disks left alone, {} wishes of people granted",
        (count as f64 / begin.elapsed().as_secs_f64()) as u64,
        sum.steps,
        sum.writes,
        sum.cuts,
        sum.tasks,
        sum.refused,
        sum.broken,
        sum.allowed[0],
        sum.allowed[1],
        sum.skipped,
        sum.holes,
        sum.filled,
        sum.withheld,
        sum.left_alone,
        sum.wishes,
    );
    let found = found.into_inner().unwrap_or_else(|lock| lock.into_inner());
    if all {
        for (seed, violation) in &found {
            println!("seed {seed}: {}: {}", violation.promise, violation.text);
        }
    } else if let Some(&seed) = found.keys().next() {
        replay(&menu, seed, mistake);
    }
    if !found.is_empty() {
        std::process::exit(1);
    }
}

fn add(sum: &mut Report, one: &Report) {
    sum.steps += one.steps;
    sum.writes += one.writes;
    sum.cuts += one.cuts;
    sum.tasks += one.tasks;
    sum.refused += one.refused;
    sum.broken += one.broken;
    sum.skipped += one.skipped;
    sum.holes += one.holes;
    sum.filled += one.filled;
    sum.withheld += one.withheld;
    sum.left_alone += one.left_alone;
    sum.wishes += one.wishes;
    for (sum, one) in sum.allowed.iter_mut().zip(one.allowed) {
        *sum += one;
    }
}

/// Runs one seed again; when it fails, makes it small, tells the story and says so.
fn replay(menu: &Menu, seed: u64, mistake: Option<Mistake>) -> bool {
    let history = menu.history(seed);
    let report = run(&history, mistake, true);
    let Some(violation) = &report.violation else {
        if variable("VERBOSE").is_some() {
            println!("{}", report.story.join("\n"));
        }
        println!(
            "seed {seed}: all promises kept ({:?}, {} steps)",
            history.config, report.steps
        );
        return false;
    };
    println!(
        "{}",
        emd_simulator::story(
            menu,
            seed,
            &history,
            violation,
            &shrink(&history, mistake),
            mistake
        )
    );
    true
}
