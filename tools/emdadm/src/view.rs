// SPDX-License-Identifier: GPL-2.0

//! Sets and formats as JSON. docs/emdadm.md lists the fields.

use crate::out::say;
use crate::target::show_id;
use crate::text::device;
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
    rate_min_kib_s: Option<u32>,
    rate_max_kib_s: Option<u32>,
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
    rebuild_checkpoints: bool,
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
    hole_log: bool,
}

fn disk_state(state: DiskState) -> &'static str {
    match state {
        DiskState::Online => "online",
        DiskState::Failed => "failed",
        // A removed disk is not shown; should one be, it is not here.
        DiskState::Missing | DiskState::Removed => "missing",
        DiskState::Stale => "stale",
    }
}

/// A disk's role, and the volume that a dedicated spare is for.
pub fn disk_role(role: DiskRole) -> (&'static str, Option<u16>) {
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
pub fn seen_disk_state(state: DiskState, in_doubt: bool) -> &'static str {
    match state {
        DiskState::Missing | DiskState::Stale if in_doubt => NOT_KNOWN,
        state => disk_state(state),
    }
}

/// A member's state, as far as it is known.
pub fn seen_member_state(member: &MemberInfo, in_doubt: bool) -> (&'static str, Option<u64>) {
    match member.state {
        // Its disk may be here.
        MemberState::Missing if in_doubt => (NOT_KNOWN, None),
        state => member_state(state),
    }
}

/// A volume's state, as far as it is known.
pub fn seen_volume_state(volume: &VolumeInfo, in_doubt: bool) -> &'static str {
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
            rate_min_kib_s: Some(volume.limits.min_kib).filter(|&kib| kib != 0),
            rate_max_kib_s: Some(volume.limits.max_kib).filter(|&kib| kib != 0),
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
            rebuild_checkpoints: format.rebuild_checkpoints,
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
                    hole_log: level.hole_log,
                })
                .collect(),
        }
    }
}

/// Whether all of a set is as it should be, as far as is known of it: `list` is not told of bad sectors.
pub fn all_is_well(set: &SetInfo) -> bool {
    set.volumes.iter().all(is_well) && set.bad_ranges.is_empty()
}

/// Whether a volume is as it should be. In `examine` nothing is started, and that is no fault.
pub fn is_well(volume: &VolumeInfo) -> bool {
    volume.state == VolumeState::Optimal && volume.access == AccessKind::ReadWrite
}

/// Prints JSON.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say!("{text}"),
        Err(error) => crate::out::complain(format_args!("JSON cannot be made: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use emd_core::model::BadRange;
    use emd_core::uapi::TaskKind;
    use kernel::prelude::{KVec, GFP_KERNEL};

    #[test]
    fn well_is_every_volume_and_every_sector() {
        let mut set = sample::set();
        assert!(all_is_well(&set), "without volumes");
        let mut volume = sample::volume(1, TaskKind::Check, 0);
        volume.state = VolumeState::Optimal;
        set.volumes.push(volume, GFP_KERNEL).expect("memory");
        assert!(all_is_well(&set));
        let bad = BadRange {
            disk: 2,
            sector: 4096,
            sectors: 8,
        };
        set.bad_ranges.push(bad, GFP_KERNEL).expect("memory");
        assert!(!all_is_well(&set), "a disk has bad sectors");
        set.bad_ranges = KVec::new();
        set.volumes[0].access = AccessKind::ReadOnly;
        assert!(!all_is_well(&set), "it cannot be written");
        set.volumes[0].access = AccessKind::ReadWrite;
        set.volumes[0].state = VolumeState::Degraded;
        assert!(!all_is_well(&set), "a member is lost");
    }
}
