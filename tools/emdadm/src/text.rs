// SPDX-License-Identifier: GPL-2.0

//! Sets as people read them: tables and sentences.

use crate::out::say;
use crate::size;
use crate::target::show_id;
use crate::view::{disk_role, seen_disk_state, seen_member_state, seen_volume_state, Namer};
use comfy_table::{presets, Table};
use emd_core::model::Consistency;
use emd_core::personalities::pace::Rates;
use emd_core::uapi::{AccessKind, FormatInfo, RepairReason, SetInfo, TaskInfo, VolumeInfo};

/// `/dev/emdN` of a started volume.
pub fn device(volume: &VolumeInfo) -> Option<String> {
    volume.number.map(|number| format!("/dev/emd{number}"))
}

/// What to call a volume in a line of text.
pub fn call(volume: &VolumeInfo) -> String {
    device(volume).unwrap_or_else(|| match volume.name.as_str() {
        "" => show_id(&volume.id),
        name => name.to_owned(),
    })
}

/// How a volume is: `degraded`, `optimal, read-only`.
pub fn state_text(volume: &VolumeInfo) -> String {
    match volume.access {
        AccessKind::ReadWrite => volume.state.word().to_owned(),
        access => format!("{}, {}", volume.state.word(), access.word()),
    }
}

/// A percentage of one decimal.
pub fn percent(done: u64, total: u64) -> String {
    let per_mille = match total {
        0 => 1000,
        _ => (u128::from(done) * 1000 / u128::from(total)).min(1000),
    };
    format!("{}.{}%", per_mille / 10, per_mille % 10)
}

/// An empty table with this heading.
pub fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(heading);
    table
}

/// Prints a table, each line indented, without blanks at the end.
pub fn print_table(table: &Table, indent: &str) {
    for line in table.to_string().lines() {
        // The table crate puts a blank before each line.
        let line = line.strip_prefix(' ').unwrap_or(line);
        say!("{indent}{}", line.trim_end());
    }
}

/// A length of time: `1:05`, `20:00:00`, `2 d 4:30:00`.
fn duration(seconds: u32) -> String {
    let (minutes, second) = (seconds / 60, seconds % 60);
    let (hours, minute) = (minutes / 60, minutes % 60);
    match (hours / 24, hours % 24) {
        (0, 0) => format!("{minute}:{second:02}"),
        (0, hour) => format!("{hour}:{minute:02}:{second:02}"),
        (days, hour) => format!("{days} d {hour}:{minute:02}:{second:02}"),
    }
}

/// A task in a few words: `rebuild 12.5%, 1024 KiB/s, 3:10 left`.
pub fn task_text(task: &TaskInfo) -> String {
    let mut text = format!(
        "{} {}",
        task.kind.word(),
        percent(task.done_sectors, task.total_sectors)
    );
    if task.state.word() != "running" {
        text.push_str(&format!(", {}", task.state.word()));
    }
    if task.rate_kib != 0 {
        text.push_str(&format!(", {} KiB/s", task.rate_kib));
    }
    if let Some(eta) = task.eta_seconds {
        text.push_str(&format!(", {} left", duration(eta)));
    }
    if task.mismatch_sectors != 0 {
        text.push_str(&format!(", {} sectors disagree", task.mismatch_sectors));
    }
    text
}

/// Prints a set in full. `in_doubt`: which of its disks are here is not known.
pub fn print_set(set: &SetInfo, name: Namer<'_>, in_doubt: bool) {
    let title = match set.name.as_str() {
        "" => String::new(),
        title => format!(" \"{title}\""),
    };
    say!(
        "{} set{title}  {}  generation {}",
        set.format,
        show_id(&set.id),
        set.generation
    );
    if !set.disks.is_empty() {
        let mut table = table(&["DISK", "DEVICE", "STATE", "ROLE", "SIZE", "ERRORS", "LABEL"]);
        for disk in &set.disks {
            let (role, volume) = disk_role(disk.role);
            let role = match volume {
                Some(volume) => format!("{role} of volume {volume}"),
                None => role.to_owned(),
            };
            let mut state = seen_disk_state(disk.state, in_doubt).to_owned();
            if disk.failure_predicted {
                state.push_str(", predicts failure");
            }
            table.add_row([
                disk.index.to_string(),
                disk.dev.map_or("-".into(), name),
                state,
                role,
                size::show(disk.size_sectors),
                (disk.read_errors + disk.write_errors).to_string(),
                disk.label.to_string(),
            ]);
        }
        print_table(&table, "  ");
    }
    for volume in &set.volumes {
        print_volume(volume, name, in_doubt);
    }
    for bad in &set.bad_ranges {
        say!(
            "  disk {}: {} bad sectors from sector {}",
            bad.disk,
            bad.sectors,
            bad.sector
        );
    }
    for note in &set.notes {
        say!("  note: {note}");
    }
}

/// What people call the level: RAID 5 over several spans is raid50.
pub fn level_text(volume: &VolumeInfo) -> String {
    match volume.spans {
        0 | 1 => volume.level.to_string(),
        _ => format!("{}0", volume.level),
    }
}

/// Prints the places of a volume that did not agree.
pub fn print_mismatches(volume: &VolumeInfo) {
    let device = device(volume).unwrap_or_else(|| show_id(&volume.id));
    if volume.mismatches.is_empty() {
        say!("{device}: no place is known that does not agree");
        return;
    }
    let of = match volume.level.syncs_by_volume() {
        true => "the volume",
        false => "each member",
    };
    say!("{device}: these sectors of {of} did not agree at the last check, repair or resync");
    let mut table = table(&["FIRST SECTOR", "SECTORS", "WRITTEN", "WHY"]);
    for range in &volume.mismatches {
        table.add_row([
            range.first_sector.to_string(),
            range.sectors.to_string(),
            range.slot.map_or("-".into(), |slot| format!("slot {slot}")),
            range.reason.map_or("-", RepairReason::word).to_string(),
        ]);
    }
    print_table(&table, "  ");
    if volume.mismatches_lost {
        say!("  and more, which are not kept");
    }
}

/// Whether redundancy agrees, where that is worth a line.
fn consistency_text(volume: &VolumeInfo) -> Option<String> {
    match volume.consistency {
        Consistency::Clean => None,
        Consistency::Dirty => Some("dirty: writes were in flight".into()),
        Consistency::Initialising { done_sectors } => Some(format!(
            "initialised up to {}",
            percent(done_sectors, volume.sync_sectors())
        )),
    }
}

/// The limits of tasks, where they are not the usual ones.
fn limits_text(volume: &VolumeInfo) -> Option<String> {
    let Rates { min_kib, max_kib } = volume.limits;
    if [Rates::NONE, Rates::USUAL].contains(&volume.limits) {
        return None;
    }
    let rate = |kib: u32| format!("{}/s", size::show(u64::from(kib) * 2));
    let most = match max_kib {
        0 => String::new(),
        kib => format!(", at most {}", rate(kib)),
    };
    let least = rate(min_kib);
    Some(format!(
        "tasks: at least {least} of each member beside users{most}"
    ))
}

fn print_volume(volume: &VolumeInfo, name: Namer<'_>, in_doubt: bool) {
    let title = match volume.name.as_str() {
        "" => String::new(),
        title => format!(" \"{title}\""),
    };
    let device = device(volume).map_or_else(String::new, |device| format!("  {device}"));
    say!(
        "\n  volume {}{title}{device}  {}",
        volume.index,
        seen_volume_state(volume, in_doubt)
    );
    let mut shape = level_text(volume);
    if volume.layout.to_string() != "-" {
        shape.push_str(&format!(" {}", volume.layout));
    }
    if volume.spans > 1 {
        shape.push_str(&format!(
            ", {} spans of {} members",
            volume.spans, volume.members_per_span
        ));
    }
    if volume.chunk_sectors != 0 {
        shape.push_str(&format!(
            ", chunk {}",
            size::show(volume.chunk_sectors.into())
        ));
    }
    say!("    {shape}, {}", size::show(volume.size_sectors));
    say!("    id {}", show_id(&volume.id));
    if let Some(text) = consistency_text(volume) {
        say!("    {text}");
    }
    if let Some(text) = limits_text(volume) {
        say!("    {text}");
    }
    if volume.read_errors != 0 || volume.write_errors != 0 {
        say!(
            "    errors of members: {} reads, {} writes",
            volume.read_errors,
            volume.write_errors
        );
    }
    if let Some(policy) = volume.crash_policy {
        say!("    policy for crashes: {}", policy.name());
    }
    if !volume.reason.is_empty() {
        let word = match volume.access {
            AccessKind::ReadWrite => "note",
            access => access.word(),
        };
        say!("    {word}: {}", volume.reason);
    }
    if let Some(task) = &volume.task {
        say!("    {}", task_text(task));
    }
    if volume.members.is_empty() {
        return;
    }
    let mut table = table(&["SLOT", "DISK", "DEVICE", "STATE", "OFFSET"]);
    for member in &volume.members {
        let (state, done) = seen_member_state(member, in_doubt);
        table.add_row([
            member.slot.to_string(),
            member.disk.map_or("-".into(), |disk| disk.to_string()),
            member.dev.map_or("-".into(), name),
            match done {
                Some(done) => format!("{state} {}", percent(done, volume.member_sectors)),
                None => state.to_owned(),
            },
            member.offset_sectors.to_string(),
        ]);
    }
    print_table(&table, "    ");
}

/// The levels whose volumes can have a write-hole log in a format, or that there are none.
pub fn log_levels(format: &FormatInfo) -> String {
    let with_log = format.levels.iter().filter(|level| level.hole_log);
    let mut names: Vec<String> = with_log.map(|level| level.level.to_string()).collect();
    names.dedup();
    match names.is_empty() {
        true => "no".into(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::volume;
    use emd_core::model::{Layout, Level};
    use emd_core::uapi::TaskKind;

    /// A mark of a sync of RAID 10 and 1E counts sectors of the volume, of other levels those of each member.
    #[test]
    fn half_initialised_is_half_at_every_level() {
        let mut volume = volume(1, TaskKind::Initialise, 1000);
        volume.consistency = Consistency::Initialising { done_sectors: 1000 };
        volume.member_sectors = 2000;
        volume.size_sectors = 6000;
        for (level, layout, text) in [
            (Level::Raid1, Layout::Plain, "initialised up to 50.0%"),
            (Level::Raid10, Layout::Near(2), "initialised up to 16.6%"),
            (Level::Raid1e, Layout::Offset(2), "initialised up to 16.6%"),
        ] {
            (volume.level, volume.layout) = (level, layout);
            assert_eq!(consistency_text(&volume).as_deref(), Some(text), "{level}");
        }
        volume.consistency = Consistency::Clean;
        assert_eq!(consistency_text(&volume), None);
    }

    #[test]
    fn limits_are_shown_where_somebody_set_them() {
        let mut volume = volume(1, TaskKind::Check, 0);
        assert_eq!(limits_text(&volume), None);
        volume.limits.max_kib = 50 << 10;
        assert_eq!(
            limits_text(&volume).as_deref(),
            Some("tasks: at least 1000 KiB/s of each member beside users, at most 50 MiB/s")
        );
        volume.limits.max_kib = 0;
        volume.limits.min_kib = 2048;
        assert_eq!(
            limits_text(&volume).as_deref(),
            Some("tasks: at least 2 MiB/s of each member beside users")
        );
        // Not started.
        volume.limits = Rates::NONE;
        assert_eq!(limits_text(&volume), None);
    }

    #[test]
    fn time_left_is_in_words_of_its_length() {
        let mut task = volume(1, TaskKind::Rebuild, 1000).task.expect("a task");
        for (seconds, left) in [
            (0, "0:00"),
            (65, "1:05"),
            (3599, "59:59"),
            (3600, "1:00:00"),
            (72_000, "20:00:00"),
            (86_399, "23:59:59"),
            (86_400, "1 d 0:00:00"),
            (u32::MAX, "49710 d 6:28:15"),
        ] {
            task.eta_seconds = Some(seconds);
            let text = format!("rebuild 50.0%, 1024 KiB/s, {left} left");
            assert_eq!(task_text(&task), text);
        }
    }
}
