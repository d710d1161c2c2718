// SPDX-License-Identifier: GPL-2.0

//! The commands that change something.

use crate::cli::{
    AddArgs, Choice, CreateArgs, DeleteArgs, FailArgs, PolicyArgs, RemoveArgs, RenameArgs,
    ScanArgs, SpareArgs, StartArgs, StopArgs,
};
use crate::device::{Create, Device, Placed, Scanned};
use crate::failure::{Failure, Outcome, Result};
use crate::out::say;
use crate::progress;
use crate::target::{dev_name, dev_number, dev_numbers, find, find_set, parse_id, show_id};
use crate::text;
use crate::view::{self, SetView};
use emd_core::model::{CrashPolicy, DiskRole};
use emd_core::uapi::constants::*;
use emd_core::uapi::{DevNumber, MemberDisk, MemberOp, Target, VolumeInfo};
use serde_json::{json, Value};
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
        regions: match args.regions {
            None => REGIONS_USUAL,
            Some(Choice::Yes) => REGIONS_YES,
            Some(Choice::No) => REGIONS_NO,
        },
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
                say!("{path}: {}", crate::size::show(made.size_sectors));
            }
            (None, Some(volume)) => say!("volume {volume} is made and not started"),
            (None, None) => say!("set {}", show_id(&made.set_id)),
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
    if let (Some(text), true) = (&args.set, scanned.records.sets.is_empty()) {
        return Err(Failure::NothingFound {
            text: format!("there is no set {text} on what was looked at"),
            report: scan_json(&scanned),
        });
    }
    tell_scan(&scanned, args.dry_run, json);
    Ok(Outcome::Done)
}

/// What a scan found, for people or as JSON.
fn tell_scan(scanned: &Scanned, dry_run: bool, json: bool) {
    let sets = &scanned.records.sets;
    if json {
        return view::print_json(&scan_json(scanned));
    }
    for (nth, set) in sets.iter().enumerate() {
        if nth != 0 {
            say!();
        }
        text::print_set(set, &dev_name, false);
    }
    tell_notes(scanned);
    say!(
        "{} disks looked at, {} sets found, {} arrays {}",
        scanned.disks_seen,
        sets.len(),
        scanned.arrays_started,
        match dry_run {
            true => "would be started",
            false => "started",
        }
    );
}

fn tell_notes(scanned: &Scanned) {
    for note in &scanned.records.notes {
        match note.dev {
            Some(dev) => say!("{}: {}", dev_name(dev), note.text),
            None => say!("{}", note.text),
        }
    }
}

fn scan_json(scanned: &Scanned) -> Value {
    let records = &scanned.records;
    let sets: Vec<_> = records
        .sets
        .iter()
        .map(|set| SetView::new(set, &dev_name, false))
        .collect();
    let notes: Vec<_> = records
        .notes
        .iter()
        .map(|note| json!({ "device": note.dev.map(dev_name), "text": note.text.as_str() }))
        .collect();
    json!({
        "disks_seen": scanned.disks_seen,
        "arrays_started": scanned.arrays_started,
        "sets": sets,
        "notes": notes,
    })
}

/// `emdadm start`
pub fn start(args: &StartArgs, json: bool) -> Result<Outcome> {
    let flags = flag(args.degraded, SCAN_DEGRADED) | flag(args.force, SCAN_FORCE);
    let device = Device::open()?;
    let target = find(&device, &args.target)?;
    let set_id = find_set(&device, &args.target).map_err(|failure| match (target, failure) {
        (Target::Number(number), Failure::Refused { errno: 2, .. }) => Failure::NotThere(format!(
            "there is no array emd{number}: what is stopped has no number; give its name or id, see: emdadm list"
        )),
        (_, failure) => failure,
    })?;
    let scanned = device.scan(&[], set_id, flags)?;
    let volumes = scanned.records.sets.iter().flat_map(|set| &set.volumes);
    let (running, stopped): (Vec<_>, Vec<_>) = volumes.partition(|v| v.number.is_some());
    let is_meant = |volume: &VolumeInfo| match target {
        Target::Array(id) => volume.id == id,
        _ => true,
    };
    if !running.iter().any(|volume| is_meant(volume)) {
        let is_told = |volume: &&&VolumeInfo| is_meant(volume) && !volume.reason.is_empty();
        let why = stopped
            .iter()
            .find(is_told)
            .map(|volume| volume.reason.as_str());
        let note = scanned.records.notes.iter().find(|note| note.dev.is_none());
        let note = note.map(|note| note.text.as_str());
        let why = why.or(note).unwrap_or("it is not said why");
        return Err(Failure::Refused {
            errno: 0,
            reason: format!("{} is not started: {why}", args.target),
        });
    }
    if json {
        tell_scan(&scanned, false, json);
        return Ok(Outcome::Done);
    }
    for volume in &running {
        say!("{}: {}", text::call(volume), text::state_text(volume));
    }
    for volume in &stopped {
        say!("{}: not started: {}", text::call(volume), volume.reason);
    }
    Ok(Outcome::Done)
}

/// What became of a disk that is in no slot: a spare, or just part of the set.
fn role_of(device: &Device, target: &Target, dev: DevNumber) -> Option<DiskRole> {
    let sets = device.query(target).ok()?.sets;
    let mut disks = sets.iter().flat_map(|set| &set.disks);
    disks
        .find(|disk| disk.dev == Some(dev))
        .map(|disk| disk.role)
}

/// What is said of a disk that was dealt with. `role` is that of an added one which is in no slot.
fn placed_text(
    done: &str,
    placed: &Placed,
    role: Option<DiskRole>,
    target: &str,
    path: &Path,
) -> String {
    let path = path.display();
    match (placed.number, placed.slot, role) {
        (Some(number), Some(slot), _) => format!("{path}: {done}, slot {slot} of /dev/emd{number}"),
        (None, Some(slot), _) => format!("{path}: {done}, slot {slot}"),
        (_, None, Some(DiskRole::GlobalSpare | DiskRole::DedicatedSpare(_))) => {
            format!("{path}: {done} as a spare, as no running array lacks a member")
        }
        (_, None, Some(DiskRole::Unused)) => format!(
            "{path}: {done} to the set, and no spare, as no running array lacks a member; to make it one: emdadm spare {target} {path}"
        ),
        _ => format!("{path}: {done}"),
    }
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
    let named = target;
    let target = find(&device, named)?;
    let mut views = Vec::new();
    for (path, &dev) in paths.iter().zip(&devs) {
        let placed = device.member(op, &target, MemberDisk::Device(dev), flags)?;
        let array = placed.number.map(|number| format!("/dev/emd{number}"));
        let is_loose = op == MemberOp::Add && placed.slot.is_none();
        let role = is_loose.then(|| role_of(&device, &target, dev)).flatten();
        if !json {
            say!("{}", placed_text(done, &placed, role, named, path));
        }
        let role = role.map(|role| view::disk_role(role).0);
        views.push(json!({ "device": path, "array": array, "slot": placed.slot, "role": role }));
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
pub fn fail(args: &FailArgs, json: bool) -> Result<Outcome> {
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
pub fn remove(args: &RemoveArgs, json: bool) -> Result<Outcome> {
    let flags = flag(args.force, MEMBER_FORCE);
    let Some(index) = args.disk else {
        let (op, done) = (MemberOp::Remove, "removed");
        return members(op, &args.target, &args.devices, flags, done, json);
    };
    let device = Device::open()?;
    let target = find(&device, &args.target)?;
    let disk = MemberDisk::Index(index);
    let placed = device.member(MemberOp::Remove, &target, disk, flags)?;
    if json {
        let array = placed.number.map(|number| format!("/dev/emd{number}"));
        let view = json!({
            "device": null, "disk": index, "array": array, "slot": placed.slot, "role": null
        });
        view::print_json(&json!({ "done": [view] }));
    } else {
        say!("disk {index}: removed");
    }
    Ok(Outcome::Done)
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
        say!("{stopped} arrays stopped");
    }
    Ok(Outcome::Done)
}

/// `emdadm delete`
pub fn delete(args: &DeleteArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    let target = find(&device, &args.target)?;
    let set_id = find_set(&device, &args.target)?;
    device.delete(&target, args.force)?;
    let sets = device.list()?.sets;
    // With its last volume a set goes too.
    let is_erased = sets.iter().all(|set| set.id != set_id);
    if json {
        view::print_json(&json!({ "deleted": args.target, "set_erased": is_erased }));
    } else if is_erased {
        say!(
            "{}: deleted; nothing is left of its set, whose metadata is erased from all its disks, spares too",
            args.target
        );
    } else {
        say!("{}: deleted", args.target);
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
        say!(
            "{}: policy {} from its next start on",
            args.target,
            args.policy
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
        say!("{}: now \"{}\"", args.target, args.name);
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_became_of_a_disk() {
        let said = |number, slot, role| {
            let placed = Placed { number, slot };
            placed_text("added", &placed, role, "data", Path::new("/dev/sdg"))
        };
        assert_eq!(
            said(Some(0), Some(2), None),
            "/dev/sdg: added, slot 2 of /dev/emd0"
        );
        assert_eq!(said(None, Some(2), None), "/dev/sdg: added, slot 2");
        assert_eq!(said(None, None, None), "/dev/sdg: added");
        let spare = said(None, None, Some(DiskRole::GlobalSpare));
        assert!(spare.contains("as a spare"), "{spare}");
        let loose = said(None, None, Some(DiskRole::Unused));
        assert!(
            loose.contains("no spare") && loose.ends_with("emdadm spare data /dev/sdg"),
            "{loose}"
        );
    }
}
