// SPDX-License-Identifier: GPL-2.0

//! What a reply says: sets, disks, volumes, members, tasks, formats.
//!
//! The engine fills these; [`super::records`] turns them into bytes and, for `emdadm`, back.
//! [`SetInfo::from_model`] does most of the engine's work: it copies a [`Set`], to which the engine
//! adds what only it knows (array numbers, tasks, counters, refusals of its own).

use super::request::DevNumber;
use super::volume_state;
use crate::metadata::Format;
pub use crate::model::TaskKind;
use crate::model::{
    Access, BadRange, Checked, Consistency, CrashPolicy, DiskRole, DiskState, Identity, Layout,
    Level, MemberState, Set, Slot, Text, Volume, VolumeIndex,
};
use crate::personalities::choice::Choice;
use crate::personalities::pace::Rates;
use crate::personalities::ranges::SyncRange;
use kernel::prelude::*;

wire_enum! {
    /// How a volume is, in one word.
    pub enum VolumeState as "EMD_STATE_" {
        /// Every member is in sync.
        Optimal = 1, "OPTIMAL", "optimal";
        /// Members are lost, and there is redundancy left everywhere.
        PartiallyOptimal = 2, "PARTIALLY_OPTIMAL", "partially-optimal";
        /// Members are lost; somewhere one more would lose data.
        Degraded = 3, "DEGRADED", "degraded";
        /// Data is lost or out of reach.
        Failed = 4, "FAILED", "failed";
        /// Not started, although it could be.
        Inactive = 5, "INACTIVE", "inactive";
    }
}

wire_enum! {
    /// What may be done with a volume.
    pub enum AccessKind as "EMD_ACCESS_" {
        /// Read and write.
        ReadWrite = 1, "READ_WRITE", "read-write";
        /// Only read; the reason is given.
        ReadOnly = 2, "READ_ONLY", "read-only";
        /// Never started; the reason is given.
        Refused = 3, "REFUSED", "refused";
    }
}

wire_codes! {
    TaskKind as "EMD_TASK_" {
        Initialise = 1, "INITIALISE", "initialise";
        Rebuild = 2, "REBUILD", "rebuild";
        Resync = 3, "RESYNC", "resync";
        Check = 4, "CHECK", "check";
        Repair = 5, "REPAIR", "repair";
    }
}

wire_enum! {
    /// What a task is doing.
    pub enum TaskState as "EMD_TASK_STATE_" {
        /// It works.
        Running = 1, "RUNNING", "running";
        /// Somebody stopped it for now.
        Paused = 2, "PAUSED", "paused";
        /// It waits for another one on the same disks.
        Waiting = 3, "WAITING", "waiting";
    }
}

wire_enum! {
    /// Why a repair, or a sync, wrote the member that it wrote.
    pub enum RepairReason as "EMD_REASON_" {
        /// Parity was worked out anew from data.
        Parity = 1, "PARITY", "parity-rewritten";
        /// Both parities of a RAID 6 say that this member, and no other, was wrong.
        Syndromes = 2, "SYNDROMES", "syndromes-named-it";
        /// More copies agreed than did not.
        Majority = 3, "MAJORITY", "outvoted";
        /// There was no majority of copies: of equal ones the one with the lowest slot was taken.
        FirstCopy = 4, "FIRST_COPY", "first-copy-taken";
    }
}

impl From<Choice> for RepairReason {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Parity => Self::Parity,
            Choice::Syndromes => Self::Syndromes,
            Choice::Majority => Self::Majority,
            Choice::FirstCopy => Self::FirstCopy,
        }
    }
}

/// A task on a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskInfo {
    /// What it does.
    pub kind: TaskKind,
    /// Whether it works.
    pub state: TaskState,
    /// Sectors done: of each member, of the volume where a sync counts so
    /// ([`Level::syncs_by_volume`]); of a rebuild always of the member.
    pub done_sectors: u64,
    /// Sectors in all, likewise.
    pub total_sectors: u64,
    /// KiB/s of each member, since it started, was let go, or got other limits.
    pub rate_kib: u32,
    /// Seconds left, when that can be said.
    pub eta_seconds: Option<u32>,
    /// Sectors that did not agree so far.
    pub mismatch_sectors: u64,
}

/// A disk of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskInfo {
    /// Index in the set.
    pub index: u16,
    /// The block device, when it is here.
    pub dev: Option<DevNumber>,
    /// What the metadata calls it.
    pub label: Text<32>,
    /// State.
    pub state: DiskState,
    /// Role.
    pub role: DiskRole,
    /// Size; 0 when it is not here.
    pub size_sectors: u64,
    /// Part that volumes may use.
    pub usable_sectors: u64,
    /// It predicts its own failure.
    pub failure_predicted: bool,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
}

/// A member of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberInfo {
    /// Slot.
    pub slot: Slot,
    /// Index of its disk in the set.
    pub disk: Option<u16>,
    /// Its block device, when it is here.
    pub dev: Option<DevNumber>,
    /// Where it starts on the disk.
    pub offset_sectors: u64,
    /// State, with the progress of a rebuild.
    pub state: MemberState,
}

/// A volume.
#[derive(PartialEq, Debug)]
pub struct VolumeInfo {
    /// Id ([`Identity::digest`]).
    pub id: [u8; 16],
    /// Index in the set.
    pub index: VolumeIndex,
    /// N of `/dev/emdN`, when it is started.
    pub number: Option<u32>,
    /// Name.
    pub name: Text<32>,
    /// Level of each span.
    pub level: Level,
    /// Layout of each span.
    pub layout: Layout,
    /// Members of a span.
    pub members_per_span: u16,
    /// Spans.
    pub spans: u16,
    /// Chunk; 0 where the level has none.
    pub chunk_sectors: u32,
    /// Sectors used on each member.
    pub member_sectors: u64,
    /// Size that users see.
    pub size_sectors: u64,
    /// State.
    pub state: VolumeState,
    /// Whether redundancy agrees.
    pub consistency: Consistency,
    /// What is done about crashes; `None` for levels without parity.
    pub crash_policy: Option<CrashPolicy>,
    /// What may be done with it.
    pub access: AccessKind,
    /// Why not more. With [`AccessKind::ReadWrite`] mostly empty, else what a person should do.
    pub reason: Text<200>,
    /// Members by slot.
    pub members: KVec<MemberInfo>,
    /// What is running on it.
    pub task: Option<TaskInfo>,
    /// Reads of members that failed.
    pub read_errors: u64,
    /// Writes to members that failed.
    pub write_errors: u64,
    /// Places that did not agree, as the last check, repair or sync found them; of many the first
    /// ([`super::constants::MISMATCHES_QUERY_MAX`]).
    pub mismatches: KVec<RangeInfo>,
    /// There are more of them than these.
    pub mismatches_lost: bool,
    /// The limits of tasks in force; none while it is not started.
    pub limits: Rates,
}

/// A stretch of an array: sectors of each member, or of the volume where a sync counts so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeInfo {
    /// First sector.
    pub first_sector: u64,
    /// Length.
    pub sectors: u64,
    /// The member that was written there because it did not agree (of several, the first).
    pub slot: Option<u16>,
    /// Why it was that one.
    pub reason: Option<RepairReason>,
}

impl From<SyncRange> for RangeInfo {
    fn from(range: SyncRange) -> Self {
        Self {
            first_sector: range.first,
            sectors: range.sectors,
            slot: range.fixed.map(|(slot, _)| slot),
            reason: range.fixed.map(|(_, choice)| choice.into()),
        }
    }
}

/// A set.
#[derive(PartialEq, Debug)]
pub struct SetInfo {
    /// Id ([`Identity::digest`]).
    pub id: [u8; 16],
    /// Format's name.
    pub format: Text<15>,
    /// Name.
    pub name: Text<32>,
    /// Generation of the metadata.
    pub generation: u64,
    /// Disks that belong to it.
    pub disks: KVec<DiskInfo>,
    /// Volumes that exist.
    pub volumes: KVec<VolumeInfo>,
    /// What is known to be bad on its disks.
    pub bad_ranges: KVec<BadRange>,
    /// Remarks for people.
    pub notes: KVec<Text<200>>,
}

/// A remark of a scan about one device or in general.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanNote {
    /// The device.
    pub dev: Option<DevNumber>,
    /// The remark.
    pub text: Text<200>,
}

/// A level in one layout that a format can express.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LevelInfo {
    /// Level.
    pub level: Level,
    /// Layout.
    pub layout: Layout,
    /// Fewest and most members of a span.
    pub members: (u16, u16),
    /// What `create` takes when no layout is given.
    pub usual: bool,
    /// A volume of the level can have a log that closes the write hole.
    pub hole_log: bool,
}

/// A format and what it can express.
#[derive(PartialEq, Debug)]
pub struct FormatInfo {
    /// Name.
    pub name: Text<15>,
    /// One line for people.
    pub description: Text<96>,
    /// Smallest and largest chunk.
    pub chunk_sectors: (u32, u32),
    /// Usual chunk.
    pub chunk_sectors_default: u32,
    /// Most disks in a set.
    pub disks_max: u16,
    /// Most volumes in a set.
    pub volumes_max: u16,
    /// Longest name in bytes.
    pub name_bytes_max: u16,
    /// Records spares for the whole set.
    pub spares_global: bool,
    /// Records spares for one volume.
    pub spares_dedicated: bool,
    /// Records how far an initialisation or a resync got.
    pub checkpoints: bool,
    /// Records how far a rebuild got.
    pub rebuild_checkpoints: bool,
    /// Records which regions are being written.
    pub region_log: bool,
    /// Records bad ranges.
    pub bad_ranges: bool,
    /// There is a place for a log that closes the write hole, for some of the levels at least.
    pub hole_log: bool,
    /// Most spans of a volume.
    pub spans_max: u16,
    /// Levels and layouts.
    pub levels: KVec<LevelInfo>,
}

impl SetInfo {
    /// What the model says of a set. Volumes are without number and task; their state is that of
    /// their members (never [`VolumeState::Inactive`]). Allocates.
    ///
    /// `dev` turns a disk's handle ([`crate::model::DiskFacts::key`]) into a block device:
    /// in the kernel [`DevNumber::from_key`], in tools that read image files `|_| None`.
    pub fn from_model(set: &Set, dev: &dyn Fn(u64) -> Option<DevNumber>) -> Checked<Self> {
        let mut info = Self {
            id: set.id.digest(),
            format: Text::from_text(set.format),
            name: set.name,
            generation: set.generation,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        };
        info.bad_ranges
            .extend_from_slice(&set.bad_ranges, GFP_KERNEL)?;
        for (index, disk) in set.live_disks() {
            info.disks.push(
                DiskInfo {
                    index,
                    dev: disk.facts.and_then(|facts| dev(facts.key)),
                    label: disk.label,
                    state: disk.state,
                    role: disk.role,
                    size_sectors: disk.facts.map_or(0, |facts| facts.size_sectors),
                    usable_sectors: disk.usable_sectors,
                    failure_predicted: disk.failure_predicted,
                    read_errors: 0,
                    write_errors: 0,
                },
                GFP_KERNEL,
            )?;
        }
        for (index, volume) in set.live_volumes() {
            info.volumes
                .push(VolumeInfo::from_model(set, index, volume, dev)?, GFP_KERNEL)?;
        }
        for note in set.notes.iter() {
            info.notes
                .push(Text::from_text(note.as_str()), GFP_KERNEL)?;
        }
        Ok(info)
    }
}

impl VolumeInfo {
    /// What [`Consistency::Initialising`] counts up to ([`Level::sync_sectors`]).
    pub fn sync_sectors(&self) -> u64 {
        self.level
            .sync_sectors(self.size_sectors, self.member_sectors)
    }

    fn from_model(
        set: &Set,
        index: VolumeIndex,
        volume: &Volume,
        dev: &dyn Fn(u64) -> Option<DevNumber>,
    ) -> Checked<Self> {
        let mut members = KVec::with_capacity(volume.members.len(), GFP_KERNEL)?;
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let facts = member
                .disk
                .and_then(|disk| set.disk(disk))
                .and_then(|disk| disk.facts);
            members.push(
                MemberInfo {
                    slot,
                    disk: member.disk,
                    dev: facts.and_then(|facts| dev(facts.key)),
                    offset_sectors: member.offset_sectors,
                    state: member.state,
                },
                GFP_KERNEL,
            )?;
        }
        let (access, reason) = match &volume.access {
            Access::ReadWrite => (AccessKind::ReadWrite, Text::new()),
            Access::ReadOnly(reason) => (AccessKind::ReadOnly, Text::from_text(reason.text())),
            Access::Refused(reason) => (AccessKind::Refused, Text::from_text(reason.text())),
        };
        Ok(Self {
            id: volume.id.digest(),
            index,
            number: None,
            name: volume.name,
            level: volume.shape.level,
            layout: volume.shape.layout,
            members_per_span: volume.shape.members,
            spans: volume.shape.spans,
            chunk_sectors: volume.shape.chunk_sectors,
            member_sectors: volume.shape.member_sectors,
            size_sectors: volume.size_sectors,
            state: volume_state::of(volume),
            consistency: volume.consistency,
            crash_policy: (volume.shape.level.parity_members() > 0).then_some(volume.crash_policy),
            access,
            reason,
            members,
            task: None,
            read_errors: 0,
            write_errors: 0,
            mismatches: KVec::new(),
            mismatches_lost: false,
            limits: Rates::NONE,
        })
    }
}

impl FormatInfo {
    /// What a format says of itself. Allocates.
    pub fn from_format(format: &dyn Format) -> Checked<Self> {
        let capabilities = format.capabilities();
        let mut levels = KVec::new();
        for level in capabilities.levels {
            for (order, &layout) in level.layouts.iter().enumerate() {
                levels.push(
                    LevelInfo {
                        level: level.level,
                        layout,
                        members: level.members,
                        usual: order == 0,
                        hole_log: capabilities.log_levels.contains(&level.level),
                    },
                    GFP_KERNEL,
                )?;
            }
        }
        Ok(Self {
            name: Text::from_text(format.name()),
            description: Text::from_text(format.description()),
            chunk_sectors: capabilities.chunk_sectors,
            chunk_sectors_default: capabilities.chunk_sectors_default,
            disks_max: capabilities.disks_max,
            volumes_max: capabilities.volumes_max,
            name_bytes_max: capabilities.name_bytes_max,
            spares_global: capabilities.spares_global,
            spares_dedicated: capabilities.spares_dedicated,
            checkpoints: capabilities.checkpoints,
            rebuild_checkpoints: capabilities.rebuild_checkpoints,
            region_log: capabilities.region_log,
            bad_ranges: capabilities.bad_ranges,
            hole_log: !capabilities.log_levels.is_empty(),
            spans_max: capabilities.spans_max,
            levels,
        })
    }
}

/// Whether `id` (16 bytes of a digest) names `identity`.
pub fn names(id: &[u8; 16], identity: &Identity) -> bool {
    *id == identity.digest()
}
