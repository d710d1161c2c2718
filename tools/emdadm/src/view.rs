// SPDX-License-Identifier: GPL-2.0

//! Sets and formats as JSON and as tables. docs/emdadm.md lists the fields.

use crate::size;
use crate::target::show_id;
use comfy_table::{presets, Table};
use emd_core::model::{Consistency, DiskRole, DiskState, MemberState};
use emd_core::uapi::{
    AccessKind, DevNumber, DiskInfo, FormatInfo, MemberInfo, RepairReason, SetInfo, TaskInfo,
    VolumeInfo, VolumeState,
};
use serde::Serialize;

/// How devices are called.
pub type Namer<'a> = &'a dyn Fn(DevNumber) -> String;

/// A set.
#[derive(Serialize)]
pub struct SetView {
    id: String,
    format: String,
    name: String,
    generation: u64,
    disks: Vec<DiskView>,
    volumes: Vec<VolumeView>,
    bad_ranges: Vec<RangeView>,
    notes: Vec<String>,
}

/// A disk of a set.
#[derive(Serialize)]
pub struct DiskView {
    index: u16,
    device: Option<String>,
    label: String,
    state: &'static str,
    role: &'static str,
    spare_of_volume: Option<u16>,
    size_sectors: u64,
    usable_sectors: u64,
    failure_predicted: bool,
    read_errors: u64,
    write_errors: u64,
}

/// A volume.
#[derive(Serialize)]
pub struct VolumeView {
    id: String,
    device: Option<String>,
    index: u16,
    name: String,
    level: String,
    layout: String,
    spans: u16,
    members_per_span: u16,
    chunk_sectors: u32,
    size_sectors: u64,
    member_sectors: u64,
    state: &'static str,
    consistency: &'static str,
    consistent_sectors: Option<u64>,
    crash_policy: Option<&'static str>,
    access: &'static str,
    reason: Option<String>,
    members: Vec<MemberView>,
    task: Option<TaskView>,
    read_errors: u64,
    write_errors: u64,
    mismatches: Vec<RangeView>,
    mismatches_more: bool,
}

/// A stretch: sectors of each member, or of the volume for RAID 10 and 1E; of a disk for bad ones.
#[derive(Serialize)]
pub struct RangeView {
    disk: Option<u16>,
    first_sector: u64,
    sectors: u64,
    slot: Option<u16>,
    reason: Option<&'static str>,
}

/// A member.
#[derive(Serialize)]
pub struct MemberView {
    slot: u16,
    disk: Option<u16>,
    device: Option<String>,
    offset_sectors: u64,
    state: &'static str,
    done_sectors: Option<u64>,
}

/// A task.
#[derive(Serialize)]
pub struct TaskView {
    kind: &'static str,
    state: &'static str,
    done_sectors: u64,
    total_sectors: u64,
    rate_kib_s: u32,
    eta_seconds: Option<u32>,
    mismatch_sectors: u64,
}

/// A format.
#[derive(Serialize)]
pub struct FormatView {
    name: String,
    description: String,
    chunk_sectors_min: u32,
    chunk_sectors_max: u32,
    chunk_sectors_default: u32,
    disks_max: u16,
    volumes_max: u16,
    name_bytes_max: u16,
    spares_global: bool,
    spares_dedicated: bool,
    checkpoints: bool,
    region_log: bool,
    bad_ranges: bool,
    hole_log: bool,
    spans_max: u16,
    levels: Vec<LevelView>,
}

/// A level in one layout.
#[derive(Serialize)]
pub struct LevelView {
    level: String,
    layout: String,
    members_min: u16,
    members_max: u16,
    usual: bool,
}

fn disk_state(state: DiskState) -> &'static str {
    match state {
        DiskState::Online => "online",
        DiskState::Failed => "failed",
        DiskState::Missing => "missing",
        DiskState::Stale => "stale",
        DiskState::Removed => "removed",
    }
}

fn disk_role(role: DiskRole) -> (&'static str, Option<u16>) {
    match role {
        DiskRole::Unused => ("unused", None),
        DiskRole::Member => ("member", None),
        DiskRole::GlobalSpare => ("global-spare", None),
        DiskRole::DedicatedSpare(volume) => ("dedicated-spare", Some(volume)),
    }
}

fn member_state(state: MemberState) -> (&'static str, Option<u64>) {
    match state {
        MemberState::InSync => ("in-sync", None),
        MemberState::Rebuilding { done_sectors } => ("rebuilding", Some(done_sectors)),
        MemberState::Failed => ("failed", None),
        MemberState::Missing => ("missing", None),
    }
}

fn consistency(consistency: Consistency) -> (&'static str, Option<u64>) {
    match consistency {
        Consistency::Clean => ("clean", None),
        Consistency::Dirty => ("dirty", None),
        Consistency::Initialising { done_sectors } => ("initialising", Some(done_sectors)),
    }
}

/// What is said of states when it is not known which disks are here.
const NOT_KNOWN: &str = "not-known";

/// A disk's state, as far as it is known.
fn seen_disk_state(state: DiskState, in_doubt: bool) -> &'static str {
    match state {
        DiskState::Missing | DiskState::Stale if in_doubt => NOT_KNOWN,
        state => disk_state(state),
    }
}

/// A member's state, as far as it is known.
fn seen_member_state(member: &MemberInfo, in_doubt: bool) -> (&'static str, Option<u64>) {
    match member.state {
        // Its disk may be here.
        MemberState::Missing if in_doubt => (NOT_KNOWN, None),
        state => member_state(state),
    }
}

/// A volume's state, as far as it is known.
fn seen_volume_state(volume: &VolumeInfo, in_doubt: bool) -> &'static str {
    match in_doubt && volume.state != VolumeState::Optimal {
        true => NOT_KNOWN,
        false => volume.state.word(),
    }
}

impl SetView {
    /// The view of a set. `in_doubt`: which of its disks are here is not known.
    pub fn new(set: &SetInfo, name: Namer<'_>, in_doubt: bool) -> Self {
        Self {
            id: show_id(&set.id),
            format: set.format.to_string(),
            name: set.name.to_string(),
            generation: set.generation,
            disks: set
                .disks
                .iter()
                .map(|disk| DiskView::new(disk, name, in_doubt))
                .collect(),
            volumes: set
                .volumes
                .iter()
                .map(|volume| VolumeView::new(volume, name, in_doubt))
                .collect(),
            bad_ranges: set
                .bad_ranges
                .iter()
                .map(|range| RangeView {
                    disk: Some(range.disk),
                    first_sector: range.sector,
                    sectors: range.sectors.into(),
                    slot: None,
                    reason: None,
                })
                .collect(),
            notes: set.notes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl DiskView {
    fn new(disk: &DiskInfo, name: Namer<'_>, in_doubt: bool) -> Self {
        let (role, spare_of_volume) = disk_role(disk.role);
        Self {
            index: disk.index,
            device: disk.dev.map(name),
            label: disk.label.to_string(),
            state: seen_disk_state(disk.state, in_doubt),
            role,
            spare_of_volume,
            size_sectors: disk.size_sectors,
            usable_sectors: disk.usable_sectors,
            failure_predicted: disk.failure_predicted,
            read_errors: disk.read_errors,
            write_errors: disk.write_errors,
        }
    }
}

impl VolumeView {
    fn new(volume: &VolumeInfo, name: Namer<'_>, in_doubt: bool) -> Self {
        let (consistency, consistent_sectors) = consistency(volume.consistency);
        Self {
            id: show_id(&volume.id),
            device: device(volume),
            index: volume.index,
            name: volume.name.to_string(),
            level: volume.level.to_string(),
            layout: volume.layout.to_string(),
            spans: volume.spans,
            members_per_span: volume.members_per_span,
            chunk_sectors: volume.chunk_sectors,
            size_sectors: volume.size_sectors,
            member_sectors: volume.member_sectors,
            state: seen_volume_state(volume, in_doubt),
            consistency,
            consistent_sectors,
            crash_policy: volume.crash_policy.map(|policy| policy.name()),
            access: volume.access.word(),
            reason: Some(volume.reason.to_string()).filter(|reason| !reason.is_empty()),
            members: volume
                .members
                .iter()
                .map(|member| MemberView::new(member, name, in_doubt))
                .collect(),
            task: volume.task.as_ref().map(TaskView::new),
            read_errors: volume.read_errors,
            write_errors: volume.write_errors,
            mismatches: volume
                .mismatches
                .iter()
                .map(|range| RangeView {
                    disk: None,
                    first_sector: range.first_sector,
                    sectors: range.sectors,
                    slot: range.slot,
                    reason: range.reason.map(RepairReason::word),
                })
                .collect(),
            mismatches_more: volume.mismatches_lost,
        }
    }
}

impl MemberView {
    fn new(member: &MemberInfo, name: Namer<'_>, in_doubt: bool) -> Self {
        let (state, done_sectors) = seen_member_state(member, in_doubt);
        Self {
            slot: member.slot,
            disk: member.disk,
            device: member.dev.map(name),
            offset_sectors: member.offset_sectors,
            state,
            done_sectors,
        }
    }
}

impl TaskView {
    fn new(task: &TaskInfo) -> Self {
        Self {
            kind: task.kind.word(),
            state: task.state.word(),
            done_sectors: task.done_sectors,
            total_sectors: task.total_sectors,
            rate_kib_s: task.rate_kib,
            eta_seconds: task.eta_seconds,
            mismatch_sectors: task.mismatch_sectors,
        }
    }
}

impl FormatView {
    /// The view of a format.
    pub fn new(format: &FormatInfo) -> Self {
        Self {
            name: format.name.to_string(),
            description: format.description.to_string(),
            chunk_sectors_min: format.chunk_sectors.0,
            chunk_sectors_max: format.chunk_sectors.1,
            chunk_sectors_default: format.chunk_sectors_default,
            disks_max: format.disks_max,
            volumes_max: format.volumes_max,
            name_bytes_max: format.name_bytes_max,
            spares_global: format.spares_global,
            spares_dedicated: format.spares_dedicated,
            checkpoints: format.checkpoints,
            region_log: format.region_log,
            bad_ranges: format.bad_ranges,
            hole_log: format.hole_log,
            spans_max: format.spans_max,
            levels: format
                .levels
                .iter()
                .map(|level| LevelView {
                    level: level.level.to_string(),
                    layout: level.layout.to_string(),
                    members_min: level.members.0,
                    members_max: level.members.1,
                    usual: level.usual,
                })
                .collect(),
        }
    }
}

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

/// Whether a volume is as it should be. In `examine` nothing is started, and that is no fault.
pub fn is_well(volume: &VolumeInfo) -> bool {
    volume.state == VolumeState::Optimal && volume.access == AccessKind::ReadWrite
}

/// A percentage of one decimal.
pub fn percent(done: u64, total: u64) -> String {
    let per_mille = match total {
        0 => 1000,
        _ => (u128::from(done) * 1000 / u128::from(total)).min(1000),
    };
    format!("{}.{}%", per_mille / 10, per_mille % 10)
}

/// Prints JSON.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("emdadm: JSON cannot be made: {error}"),
    }
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
        println!("{indent}{}", line.trim_end());
    }
}

/// A task in a few words: `rebuild 12.5%, 3 min`.
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
        text.push_str(&format!(", {}:{:02} left", eta / 60, eta % 60));
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
    println!("{} set{title}  {}", set.format, show_id(&set.id));
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
        println!(
            "  disk {}: {} bad sectors from sector {}",
            bad.disk, bad.sectors, bad.sector
        );
    }
    for note in &set.notes {
        println!("  note: {note}");
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
        println!("{device}: no place is known that does not agree");
        return;
    }
    println!("{device}: these did not agree at the last check, repair or resync");
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
        println!("  and more, which are not kept");
    }
}

fn print_volume(volume: &VolumeInfo, name: Namer<'_>, in_doubt: bool) {
    let title = match volume.name.as_str() {
        "" => String::new(),
        title => format!(" \"{title}\""),
    };
    let device = device(volume).map_or_else(String::new, |device| format!("  {device}"));
    println!(
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
    println!("    {shape}, {}", size::show(volume.size_sectors));
    println!("    id {}", show_id(&volume.id));
    match volume.consistency {
        Consistency::Clean => {}
        Consistency::Dirty => println!("    dirty: writes were in flight"),
        Consistency::Initialising { done_sectors } => println!(
            "    initialised up to {}",
            percent(done_sectors, volume.member_sectors)
        ),
    }
    if let Some(policy) = volume.crash_policy {
        println!("    policy for crashes: {}", policy.name());
    }
    if !volume.reason.is_empty() {
        let word = match volume.access {
            AccessKind::ReadWrite => "note",
            access => access.word(),
        };
        println!("    {word}: {}", volume.reason);
    }
    if let Some(task) = &volume.task {
        println!("    {}", task_text(task));
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
