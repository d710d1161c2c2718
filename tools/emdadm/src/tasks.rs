// SPDX-License-Identifier: GPL-2.0

//! The commands for tasks: `check`, `repair`, `resync`, `pause`, `resume`, `cancel`, `limit`.

use crate::cli::{LimitArgs, TaskArgs, WaitArgs};
use crate::device::Device;
use crate::failure::{Failure, Outcome, Result};
use crate::out::say;
use crate::size::Size;
use crate::target::find;
use crate::view;
use crate::wait;
use emd_core::uapi::{Target, TaskKind, TaskOp};
use serde_json::json;

/// Starts a task on each target.
pub fn start(kind: TaskKind, args: &TaskArgs, json: bool) -> Result<Outcome> {
    const DONE: &str = "started";
    // Opened first: what the tasks' ends tell is read from here on.
    let device = Device::open()?;
    each(&device, &args.targets, TaskOp::Start(kind), DONE, json)?;
    if !args.wait {
        return Ok(told(&args.targets, DONE, json));
    }
    let wait = WaitArgs {
        timeout: None,
        check: args.check,
        targets: args.targets.clone(),
    };
    let begun = json!({ "targets": args.targets, "done": DONE });
    wait::wait_on(&device, &wait, json.then_some(begun))
}

/// Does `op` with each target; stops at the first that is refused.
pub fn change(targets: &[String], op: TaskOp, done: &str, json: bool) -> Result<Outcome> {
    each(&Device::open()?, targets, op, done, json)?;
    Ok(told(targets, done, json))
}

/// Says what was done in JSON: one object for all.
fn told(targets: &[String], done: &str, json: bool) -> Outcome {
    if json {
        view::print_json(&json!({ "targets": targets, "done": done }));
    }
    Outcome::Done
}

/// Does `op` with each target, and says so in text; not in JSON.
fn each(device: &Device, targets: &[String], op: TaskOp, done: &str, json: bool) -> Result<()> {
    for text in targets {
        device.task(&find(device, text)?, op)?;
        if !json {
            say!("{text}: {done}");
        }
    }
    Ok(())
}

/// KiB for each second; 0, which is no limit, only where none is given.
fn rate(size: Option<Size>) -> Result<u32> {
    let Some(size) = size else { return Ok(0) };
    match u32::try_from(size.sectors / 2) {
        Ok(0) => Err(Failure::Usage(
            "a rate is a number of KiB, 1K at least; leave the option out for none".into(),
        )),
        Ok(kib) => Ok(kib),
        Err(_) => Err(Failure::Usage("the rate is larger than any array's".into())),
    }
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
            say!("all arrays: limited");
        }
        return Ok(Outcome::Done);
    }
    change(&args.targets, op, "limited", json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_none_by_mistake() {
        let given = |sectors| rate(Some(Size { sectors }));
        assert!(matches!(rate(None), Ok(0)));
        assert!(matches!(given(1), Err(Failure::Usage(_))), "512 bytes");
        assert!(matches!(given(2), Ok(1)));
        assert!(matches!(given(u64::MAX), Err(Failure::Usage(_))));
    }
}
