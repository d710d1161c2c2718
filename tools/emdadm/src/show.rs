// SPDX-License-Identifier: GPL-2.0

//! `list`, `show`, `formats`.

use crate::cli::{ListArgs, ShowArgs};
use crate::device::Device;
use crate::failure::{Outcome, Result};
use crate::mismatches;
use crate::out::say;
use crate::size;
use crate::target::{dev_name, find};
use crate::text;
use crate::view::{self, FormatView, SetView};
use emd_core::uapi::{SetInfo, Target};
use serde_json::json;

fn outcome<'a>(check: bool, mut sets: impl Iterator<Item = &'a SetInfo>) -> Outcome {
    match check && !sets.all(view::all_is_well) {
        true => Outcome::NotAllWell,
        false => Outcome::Done,
    }
}

/// `emdadm list`
pub fn list(args: &ListArgs, json: bool) -> Result<Outcome> {
    let sets = Device::open()?.list()?.sets;
    if json {
        let views: Vec<_> = sets
            .iter()
            .map(|set| SetView::new(set, &dev_name, false))
            .collect();
        view::print_json(&json!({ "sets": views }));
        return Ok(outcome(args.check, sets.iter()));
    }
    if sets.is_empty() {
        say!("no sets; look for some with: emdadm scan");
    }
    let mut table = text::table(&["ARRAY", "NAME", "LEVEL", "SIZE", "STATE", "TASK", "SET"]);
    for set in &sets {
        let set_name = match set.name.as_str() {
            "" => format!("{} {}", set.format, crate::target::show_id(&set.id)),
            name => format!("{} {name}", set.format),
        };
        if set.volumes.is_empty() {
            table.add_row(["-", "-", "-", "-", "no volumes", "-", &set_name]);
        }
        for volume in &set.volumes {
            table.add_row([
                text::device(volume).unwrap_or_else(|| "-".into()),
                volume.name.to_string(),
                text::level_text(volume),
                size::show(volume.size_sectors),
                text::state_text(volume),
                volume.task.as_ref().map_or("-".into(), text::task_text),
                set_name.clone(),
            ]);
        }
    }
    if !sets.is_empty() {
        text::print_table(&table, "");
    }
    Ok(outcome(args.check, sets.iter()))
}

/// `emdadm show`
pub fn show(args: &ShowArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    let targets: Vec<Target> = match args.targets.as_slice() {
        [] => {
            let sets = device.list()?.sets;
            sets.iter().map(|set| Target::Set(set.id)).collect()
        }
        named => named
            .iter()
            .map(|text| find(&device, text))
            .collect::<Result<_>>()?,
    };
    let mut sets: Vec<SetInfo> = Vec::new();
    for target in &targets {
        for set in device.query(target)?.sets {
            if sets.iter().all(|shown| shown.id != set.id) {
                sets.push(set);
            }
        }
    }
    if json || args.mismatches {
        for volume in sets.iter_mut().flat_map(|set| set.volumes.iter_mut()) {
            let array = Target::Array(volume.id);
            mismatches::complete(volume, |start| device.mismatches(&array, start))?;
        }
    }
    if json {
        let views: Vec<_> = sets
            .iter()
            .map(|set| SetView::new(set, &dev_name, false))
            .collect();
        view::print_json(&json!({ "sets": views }));
    } else {
        if sets.is_empty() {
            say!("no sets; look for some with: emdadm scan");
        }
        for (nth, set) in sets.iter().enumerate() {
            if nth != 0 {
                say!();
            }
            text::print_set(set, &dev_name, false);
        }
        if args.mismatches {
            say!();
            for volume in sets.iter().flat_map(|set| &set.volumes) {
                text::print_mismatches(volume);
            }
        }
    }
    Ok(outcome(args.check, sets.iter()))
}

/// `emdadm formats`
pub fn formats(json: bool) -> Result<Outcome> {
    let formats = Device::open()?.formats()?.formats;
    if json {
        let views: Vec<_> = formats.iter().map(FormatView::new).collect();
        view::print_json(&json!({ "formats": views }));
        return Ok(Outcome::Done);
    }
    for (nth, format) in formats.iter().enumerate() {
        if nth != 0 {
            say!();
        }
        say!("{}  {}", format.name, format.description);
        let (min, max) = format.chunk_sectors;
        say!(
            "  chunk {} to {}, usually {}; {} disks, {} volumes, names of {} bytes at most",
            size::show(min.into()),
            size::show(max.into()),
            size::show(format.chunk_sectors_default.into()),
            format.disks_max,
            format.volumes_max,
            format.name_bytes_max
        );
        let yes = |yes| if yes { "yes" } else { "no" };
        say!(
            "  global spares: {}; dedicated spares: {}; checkpoints: {}; regions being written: {}; bad ranges: {}; write-hole log: {}; spans: {}",
            yes(format.spares_global),
            yes(format.spares_dedicated),
            match (format.checkpoints, format.rebuild_checkpoints) {
                (true, false) => "yes (of rebuilds no)",
                (can, _) => yes(can),
            },
            yes(format.region_log),
            yes(format.bad_ranges),
            text::log_levels(format),
            format.spans_max
        );
        let mut table = text::table(&["LEVEL", "LAYOUT", "MEMBERS"]);
        for level in &format.levels {
            table.add_row([
                level.level.to_string(),
                match level.usual {
                    true => format!("{} (usual)", level.layout),
                    false => level.layout.to_string(),
                },
                format!("{} to {}", level.members.0, level.members.1),
            ]);
        }
        text::print_table(&table, "  ");
    }
    say!(
        "\nCheckpoints, regions, bad ranges and the log (of the levels named) are those of sets that EMD makes; sets of\n  \
         other makers may have no place for them (docs/formats/). Regions can be asked for, or left out where a format can,\n  \
         by: emdadm create --regions. Some formats have no log beside regions."
    );
    Ok(Outcome::Done)
}
