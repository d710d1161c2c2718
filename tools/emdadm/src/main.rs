// SPDX-License-Identifier: GPL-2.0

//! `emdadm`: makes, starts, shows and watches EMD arrays.
//!
//! It knows no format and no level: those are the kernel's, and for `examine` the same pure code
//! that the kernel runs. What it does is to put words into ioctls and answers into tables or JSON.

// They panic when nobody reads what is printed: `out`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod device;
mod examine;
mod failure;
mod mismatches;
mod monitor;
mod out;
mod progress;
#[cfg(test)]
mod sample;
mod show;
mod size;
mod sys;
mod target;
mod tasks;
mod text;
mod view;
mod wait;

use clap::Parser;
use emd_core::uapi::{TaskKind, TaskOp};
use failure::Outcome;
use out::say;

fn main() -> std::process::ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => misused(&error),
    };
    let code = match run(&cli) {
        Ok(Outcome::Done) => failure::EXIT_DONE,
        Ok(Outcome::NotAllWell) => failure::EXIT_NOT_ALL_WELL,
        Err(failure) => {
            if cli.json {
                say!("{}", failure.to_json());
            }
            out::complain(format_args!("{failure}"));
            failure.exit_code()
        }
    };
    if let Some(error) = out::error() {
        out::complain(format_args!("standard output cannot be written: {error}"));
        return failure::EXIT_REFUSED.into();
    }
    code.into()
}

/// Ends the program, as clap does: with help that was asked for, or with what is wrong. Who wants JSON gets that too.
fn misused(error: &clap::Error) -> ! {
    let wants_json = std::env::args_os().any(|word| word == "--json");
    if error.use_stderr() && wants_json {
        let text = error.to_string();
        // What is behind the first empty line is how it is used.
        let what = text.split("\n\n").next().unwrap_or_default();
        let what = what.trim_start_matches("error: ");
        let words: Vec<_> = what.split_whitespace().collect();
        say!("{}", failure::Failure::Usage(words.join(" ")).to_json());
    }
    error.exit()
}

fn run(cli: &cli::Cli) -> failure::Result<Outcome> {
    use cli::Command;
    let json = cli.json;
    match &cli.command {
        Command::Create(args) => commands::create(args, json),
        Command::Scan(args) => commands::scan(args, json),
        Command::Start(args) => commands::start(args, json),
        Command::List(args) => show::list(args, json),
        Command::Show(args) => show::show(args, json),
        Command::Examine(args) => examine::run(args, json),
        Command::Formats => show::formats(json),
        Command::Add(args) => commands::add(args, json),
        Command::Fail(args) => commands::fail(args, json),
        Command::Remove(args) => commands::remove(args, json),
        Command::Spare(args) => commands::spare(args, json),
        Command::Stop(args) => commands::stop(args, json),
        Command::Delete(args) => commands::delete(args, json),
        Command::Rename(args) => commands::rename(args, json),
        Command::Policy(args) => commands::policy(args, json),
        Command::Check(args) => tasks::start(TaskKind::Check, args, json),
        Command::Repair(args) => tasks::start(TaskKind::Repair, args, json),
        Command::Resync(args) => tasks::start(TaskKind::Resync, args, json),
        Command::Pause(args) => tasks::change(&args.targets, TaskOp::Pause, "paused", json),
        Command::Resume(args) => tasks::change(&args.targets, TaskOp::Resume, "goes on", json),
        Command::Cancel(args) => tasks::change(&args.targets, TaskOp::Cancel, "cancelled", json),
        Command::Limit(args) => tasks::limit(args, json),
        Command::Monitor(args) => monitor::run(args, json),
        Command::Wait(args) => wait::wait(args, json),
    }
}
