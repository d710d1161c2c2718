// SPDX-License-Identifier: GPL-2.0

//! The commands for tasks: `check`, `repair`, `resync`, `pause`, `resume`, `cancel`, `limit`.

use crate::cli::{LimitArgs, TaskArgs, WaitArgs};
use crate::device::Device;
use crate::failure::{Failure, Outcome, Result};
use crate::progress;
use crate::size::Size;
use crate::target::find;
use crate::view;
use emd_core::uapi::{Target, TaskKind, TaskOp};
use serde_json::json;

/// Starts a task on each target.
pub fn start(kind: TaskKind, args: &TaskArgs, json: bool) -> Result<Outcome> {
    each(
        &args.targets,
        TaskOp::Start(kind),
        "started",
        json && !args.wait,
    )?;
    if !args.wait {
        return Ok(Outcome::Done);
    }
    let wait = WaitArgs {
        timeout: None,
        targets: args.targets.clone(),
    };
    progress::wait(&wait, json)
}

/// Does `op` with each target; stops at the first that is refused.
pub fn change(targets: &[String], op: TaskOp, done: &str, json: bool) -> Result<Outcome> {
    each(targets, op, done, json)?;
    Ok(Outcome::Done)
}

fn each(targets: &[String], op: TaskOp, done: &str, json: bool) -> Result<()> {
    let device = Device::open()?;
    for text in targets {
        device.task(&find(&device, text)?, op)?;
        if !json {
            println!("{text}: {done}");
        }
    }
    if json {
        view::print_json(&json!({ "targets": targets, "done": done }));
    }
    Ok(())
}

/// KiB for each second.
fn rate(size: Option<Size>) -> Result<u32> {
    let kib = size.map_or(0, |size| size.sectors / 2);
    u32::try_from(kib).map_err(|_| Failure::Usage("the rate is larger than any array's".into()))
}

/// `emdadm limit`
pub fn limit(args: &LimitArgs, json: bool) -> Result<Outcome> {
    let op = TaskOp::Limits {
        min_kib: rate(args.min)?,
        max_kib: rate(args.max)?,
    };
    if args.targets.is_empty() {
        Device::open()?.task(&Target::All, op)?;
        if json {
            view::print_json(&json!({ "targets": "all", "done": "limited" }));
        } else {
            println!("all arrays: limited");
        }
        return Ok(Outcome::Done);
    }
    change(&args.targets, op, "limited", json)
}
