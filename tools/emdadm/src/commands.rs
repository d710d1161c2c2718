// SPDX-License-Identifier: GPL-2.0

//! The commands that change something.

use crate::cli::{
    AddArgs, CreateArgs, DeleteArgs, ForcedMemberArgs, PolicyArgs, RenameArgs, ScanArgs, SpareArgs,
    StopArgs,
};
use crate::device::{Create, Device};
use crate::failure::{Failure, Outcome, Result};
use crate::progress;
use crate::target::{dev_name, dev_number, dev_numbers, find, find_set, parse_id, show_id};
use crate::text;
use crate::view::{self, SetView};
use emd_core::model::CrashPolicy;
use emd_core::uapi::constants::*;
use emd_core::uapi::{MemberOp, Target};
use serde_json::json;
use std::path::{Path, PathBuf};

fn flag(wanted: bool, bit: u32) -> u32 {
    if wanted {
        bit
    } else {
        0
    }
}

/// Spans that raid50 and raid60 have when nothing is said.
const SPANS_USUAL: u16 = 2;

/// People call a RAID 5 over several spans raid50; the kernel wants the level of each span.
fn level_and_spans(level: &str, spans: Option<u16>) -> (String, u32) {
    let (level, usual) = match level {
        "raid50" | "50" => ("raid5", SPANS_USUAL),
        "raid60" | "60" => ("raid6", SPANS_USUAL),
        other => (other, 0),
    };
    (level.to_owned(), spans.unwrap_or(usual).into())
}

/// `emdadm create`
pub fn create(args: &CreateArgs, json: bool) -> Result<Outcome> {
    let members = args
        .devices
        .iter()
        .map(|path| match path.as_path() == Path::new("missing") {
            true => Ok(None),
            false => dev_number(path).map(Some),
        })
        .collect::<Result<_>>()?;
    let spares = dev_numbers(&args.spare)?;
    let chunk = args.chunk.map_or(0, |chunk| chunk.sectors);
    let chunk_sectors = u32::try_from(chunk)
        .map_err(|_| Failure::Usage("the chunk is larger than any format allows".into()))?;
    let device = Device::open()?;
    let set_id = match &args.set {
        Some(set) => find_set(&device, set)?,
        None => [0; 16],
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (level, spans) = level_and_spans(&text(&args.level), args.spans);
    let _patience = args.zero.then(|| {
        progress::patience(
            "the disks fill the members with zeroes; an interrupt takes the volume back",
        )
    });
    let made = device.create(&Create {
        format: text(&args.format),
        set_id,
        set_name: text(&args.set_name),
        volume_name: text(&args.name),
        level,
        spans,
        layout: text(&args.layout),
        chunk_sectors,
        size_sectors: args.size.map_or(0, |size| size.sectors),
        members,
        spares,
        flags: flag(args.assume_clean, CREATE_ASSUME_CLEAN)
            | flag(args.force, CREATE_FORCE)
            | flag(args.log, CREATE_LOG)
            | flag(args.zero, CREATE_ZERO),
    })?;
    let array = Some(made.number).filter(|&number| number != NONE);
    let path = array.map(|number| format!("/dev/emd{number}"));
    let volume = args.level.as_ref().map(|_| show_id(&made.array_id));
    if json {
        view::print_json(&json!({
            "set": show_id(&made.set_id),
            "volume": volume,
            "device": path,
            "size_sectors": made.size_sectors,
        }));
    } else {
        match (&path, &volume) {
            (Some(path), _) => {
                println!("{path}: {}", crate::size::show(made.size_sectors));
            }
            (None, Some(volume)) => println!("volume {volume} is made and not started"),
            (None, None) => println!("set {}", show_id(&made.set_id)),
        }
    }
    Ok(Outcome::Done)
}

/// `emdadm scan`
pub fn scan(args: &ScanArgs, json: bool) -> Result<Outcome> {
    let devs = dev_numbers(&args.devices)?;
    let set_id = match &args.set {
        Some(text) => parse_id(text).ok_or_else(|| {
            Failure::Usage(format!(
                "\"{text}\" is no set id (32 hexadecimal digits); see: emdadm examine DEVICE"
            ))
        })?,
        None => [0; 16],
    };
    let flags = flag(args.dry_run, SCAN_DRY_RUN)
        | flag(args.degraded, SCAN_DEGRADED)
        | flag(args.force, SCAN_FORCE);
    let scanned = Device::open()?.scan(&devs, set_id, flags)?;
    let sets = &scanned.records.sets;
    if json {
        let views: Vec<_> = sets
            .iter()
            .map(|set| SetView::new(set, &dev_name, false))
            .collect();
        let notes: Vec<_> = scanned
            .records
            .notes
            .iter()
            .map(|note| json!({ "device": note.dev.map(dev_name), "text": note.text.as_str() }))
            .collect();
        view::print_json(&json!({
            "disks_seen": scanned.disks_seen,
            "arrays_started": scanned.arrays_started,
            "sets": views,
            "notes": notes,
        }));
        return Ok(Outcome::Done);
    }
    for (nth, set) in sets.iter().enumerate() {
        if nth != 0 {
            println!();
        }
        text::print_set(set, &dev_name, false);
    }
    for note in &scanned.records.notes {
        match note.dev {
            Some(dev) => println!("{}: {}", dev_name(dev), note.text),
            None => println!("{}", note.text),
        }
    }
    println!(
        "{} disks looked at, {} sets found, {} arrays {}",
        scanned.disks_seen,
        sets.len(),
        scanned.arrays_started,
        match args.dry_run {
            true => "would be started",
            false => "started",
        }
    );
    Ok(Outcome::Done)
}

/// Does `op` with each of `paths`; stops at the first that is refused.
fn members(
    op: MemberOp,
    target: &str,
    paths: &[PathBuf],
    flags: u32,
    done: &str,
    json: bool,
) -> Result<Outcome> {
    let devs = dev_numbers(paths)?;
    let device = Device::open()?;
    let target = find(&device, target)?;
    let mut views = Vec::new();
    for (path, &dev) in paths.iter().zip(&devs) {
        let placed = device.member(op, &target, dev, flags)?;
        let array = placed.number.map(|number| format!("/dev/emd{number}"));
        if !json {
            match (&array, placed.slot) {
                (Some(array), Some(slot)) => {
                    println!("{}: {done}, slot {slot} of {array}", path.display());
                }
                _ => println!("{}: {done}", path.display()),
            }
        }
        views.push(json!({ "device": path, "array": array, "slot": placed.slot }));
    }
    if json {
        view::print_json(&json!({ "done": views }));
    }
    Ok(Outcome::Done)
}

/// `emdadm add`
pub fn add(args: &AddArgs, json: bool) -> Result<Outcome> {
    let flags = flag(args.force, MEMBER_FORCE);
    members(
        MemberOp::Add,
        &args.target,
        &args.devices,
        flags,
        "added",
        json,
    )
}

/// `emdadm fail`
pub fn fail(args: &ForcedMemberArgs, json: bool) -> Result<Outcome> {
    let flags = flag(args.force, MEMBER_FORCE);
    members(
        MemberOp::Fail,
        &args.target,
        &args.devices,
        flags,
        "failed",
        json,
    )
}

/// `emdadm remove`
pub fn remove(args: &ForcedMemberArgs, json: bool) -> Result<Outcome> {
    let flags = flag(args.force, MEMBER_FORCE);
    members(
        MemberOp::Remove,
        &args.target,
        &args.devices,
        flags,
        "removed",
        json,
    )
}

/// `emdadm spare`
pub fn spare(args: &SpareArgs, json: bool) -> Result<Outcome> {
    let (op, done) = match args.off {
        true => (MemberOp::Unspare, "no spare any more"),
        false => (MemberOp::Spare, "spare"),
    };
    let flags = flag(args.dedicated, MEMBER_DEDICATED) | flag(args.force, MEMBER_FORCE);
    members(op, &args.target, &args.devices, flags, done, json)
}

/// `emdadm stop`
pub fn stop(args: &StopArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    let mut stopped = 0;
    if args.all {
        stopped = device.stop(&Target::All)?;
    }
    for text in &args.targets {
        stopped += device.stop(&find(&device, text)?)?;
    }
    if json {
        view::print_json(&json!({ "arrays_stopped": stopped }));
    } else {
        println!("{stopped} arrays stopped");
    }
    Ok(Outcome::Done)
}

/// `emdadm delete`
pub fn delete(args: &DeleteArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    let target = find(&device, &args.target)?;
    device.delete(&target, args.force)?;
    if json {
        view::print_json(&json!({ "deleted": args.target }));
    } else {
        println!("{}: deleted", args.target);
    }
    Ok(Outcome::Done)
}

/// `emdadm policy`
pub fn policy(args: &PolicyArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    let target = find(&device, &args.target)?;
    let all = CrashPolicy::ALL.into_iter();
    let policy = all.clone().find(|policy| policy.name() == args.policy);
    device.policy(&target, policy.unwrap_or_default())?;
    if json {
        view::print_json(&json!({ "changed": args.target, "policy": args.policy }));
    } else {
        println!(
            "{}: policy {} from its next start on",
            args.target, args.policy
        );
    }
    Ok(Outcome::Done)
}

/// `emdadm rename`
pub fn rename(args: &RenameArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    let target = find(&device, &args.target)?;
    device.rename(&target, &args.name)?;
    if json {
        view::print_json(&json!({ "renamed": args.target, "name": args.name }));
    } else {
        println!("{}: now \"{}\"", args.target, args.name);
    }
    Ok(Outcome::Done)
}
