// SPDX-License-Identifier: GPL-2.0

//! Deterministic simulator of EMD: the real levels and the real task engine (`personalities/`), and the real formats
//! (`metadata/`), on simulated disks, under users, faults and power cuts.
//!
//! A [`history::History`] says what is set up and what happens; [`sim::run`] carries it out, with a
//! scheduler that draws from the history's own seed which of all outstanding I/O ends next, when the
//! next thing happens, and when the set's worker gets its turn. So the same history always runs the
//! same way, and a power cut falls between any two writes.
//!
//! # What is real and what is modelled
//!
//! Real: geometry, step machines and parity choices; of tasks the engine, which says what each does next, what is
//! published of it, in which order it begins and ends, which one is due and what is recorded of it
//! (`personalities/task/`); every format's probing, assembly, events and update plans. Modelled, after `src/array/` and
//! `src/set/` function by function: lane locks, the dirty mark, recording of failures, members coming and going (by themselves
//! and by people), when a task gets its turn, the recorder and the keeper, and the start of a set ([`array`], [`lanes`],
//! [`worker`], [`boot`]). Of tasks that leaves out rates (no time passes here), what each lane was found to be, and repairs
//! of single places.
//! A fault in that part of the kernel that the model does not share is not found here.
//!
//! # What is checked
//!
//! * Every read, and the whole volume at the end: acknowledged writes are there, others are old or
//!   new by sector, nothing else has changed ([`oracle`]).
//! * After each power cut, on the disks themselves: what the metadata promises is so: members in sync
//!   hold what they should, a clean volume agrees ([`check`]).
//! * An error is returned, or a start refused, only if so much is lost ([`check`]).
//! * At the end everything comes to rest, redundancy agrees, and each disk's metadata says so.
//!
//! Fault model: [`disk`]. Allowances, each with a name and a count: [`sim::Allowance`].

#![forbid(unsafe_code)]

pub mod array;
pub mod boot;
pub mod check;
pub mod disk;
pub mod faults;
pub mod history;
pub mod hole;
pub mod images;
pub mod io;
pub mod judge;
pub mod lanes;
pub mod mistake;
pub mod oracle;
pub mod parity;
pub mod people;
pub mod regions;
pub mod rng;
pub mod setup;
pub mod shrink;
pub mod sim;
pub mod task;
pub mod torn;
pub mod users;
pub mod words;
pub mod worker;

use history::{History, Menu};
use mistake::Mistake;
use sim::{run, Violation};

/// A failure for people: what broke, how to replay it, and the smallest history found that breaks a
/// promise too, step by step.
pub fn story(
    menu: &Menu,
    seed: u64,
    history: &History,
    violation: &Violation,
    small: &History,
    mistake: Option<Mistake>,
) -> String {
    let mut text = format!(
        "seed {seed}: broken promise: {}\n  {}\n  {:?}, {} happenings\nreplay: make simulate{} SEED={seed}",
        violation.promise,
        violation.text,
        history.config,
        history.ops.len(),
        menu.words(),
    );
    if let Some(mistake) = mistake {
        text += &format!(" MISTAKE={mistake:?}");
    }
    let report = run(small, mistake, true);
    text += &format!(
        "\nthe story, made small ({} happenings):\n",
        small.ops.len()
    );
    text += &report.story.join("\n");
    text
}
