// SPDX-License-Identifier: GPL-2.0

//! The structures that the kernel hands out: events and records of a reply.
//!
//! Each starts with its own length, by which a reader steps, so that later versions can add fields
//! at the end and kinds that older readers skip. Lengths are multiples of 8, without padding.

use super::args::{
    CreateArg, DeleteArg, EventsArg, Head, ListArg, MemberArg, MismatchesArg, Out, PolicyArg,
    QueryArg, RenameArg, ScanArg, StopArg, TargetArg, TaskArg, VersionArg,
};
use super::wire::Structure;

wire_struct! {
    /// What `read` on `/dev/emd` gives.
    pub struct EventWire as "emd_event" {
        /// Length of the record: step by it.
        pub size: u32,
        /// `EMD_EVENT_*`; skip unknown ones.
        pub kind: u16,
        /// Member, or 0xffff.
        pub slot: u16,
        /// Sequence number; rises by one from event to event.
        pub seq: u64,
        /// Nanoseconds since 1970.
        pub time_ns: u64,
        /// The set, or zeros.
        pub set_id: [u8; 16],
        /// N of `/dev/emdN`, or `EMD_NONE`.
        pub number: u32,
        /// `EMD_EVENT_PART`.
        pub flags: u32,
        /// The disk (`major << 32 | minor`), or 0.
        pub dev: u64,
        /// What the kind says.
        pub value: u64,
        /// For people, NUL-terminated.
        pub text: [u8; 128],
    }
}

wire_struct! {
    /// The start of every record.
    pub struct Rec as "emd_rec" {
        /// Length of the record: step by it.
        pub size: u32,
        /// `EMD_REC_*`; skip unknown ones.
        pub kind: u16,
        /// 0.
        pub reserved: u16,
    }
}

wire_struct! {
    /// Record: a set. Its disks, volumes and notes follow it.
    pub struct SetRec as "emd_rec_set" {
        /// Start.
        pub rec: Rec,
        /// Id.
        pub id: [u8; 16],
        /// Format's name.
        pub format: [u8; 16],
        /// Name.
        pub name: [u8; 40],
        /// Generation of the metadata.
        pub generation: u64,
        /// Disks it has (records follow in `QUERY` and `SCAN`).
        pub disks: u32,
        /// Volumes it has.
        pub volumes: u32,
    }
}

wire_struct! {
    /// Record: a disk of the set before it.
    pub struct DiskRec as "emd_rec_disk" {
        /// Start.
        pub rec: Rec,
        /// `major << 32 | minor`, or 0 when it is not here.
        pub dev: u64,
        /// Size; 0 when it is not here.
        pub size_sectors: u64,
        /// Part of it that volumes may use.
        pub usable_sectors: u64,
        /// Reads that failed.
        pub read_errors: u64,
        /// Writes that failed.
        pub write_errors: u64,
        /// Index in the set; stable while the set lives.
        pub index: u32,
        /// `EMD_DISK_ONLINE` ….
        pub state: u16,
        /// `EMD_ROLE_*`.
        pub role: u16,
        /// Index of the volume that a dedicated spare is for, or `EMD_NONE`.
        pub dedicated_volume: u32,
        /// `EMD_DISK_FAILURE_PREDICTED`.
        pub flags: u32,
        /// What the metadata calls it.
        pub label: [u8; 40],
    }
}

wire_struct! {
    /// Record: a volume of the set before it. Its members follow it (not in `LIST`).
    pub struct VolumeRec as "emd_rec_volume" {
        /// Start.
        pub rec: Rec,
        /// Id.
        pub id: [u8; 16],
        /// Name.
        pub name: [u8; 40],
        /// Level of each span.
        pub level: [u8; 16],
        /// Layout of each span; `-` where the level has none.
        pub layout: [u8; 24],
        /// Size that users see.
        pub size_sectors: u64,
        /// Sectors used on each member.
        pub member_sectors: u64,
        /// Sectors that agree, while initialising: of each member, for RAID 10 and 1E of the volume; else 0.
        pub consistent_sectors: u64,
        /// Reads of members that failed.
        pub read_errors: u64,
        /// Writes to members that failed.
        pub write_errors: u64,
        /// N of `/dev/emdN`, or `EMD_NONE` while it is not started.
        pub number: u32,
        /// Index in the set.
        pub index: u32,
        /// Chunk; 0 where the level has none.
        pub chunk_sectors: u32,
        /// Members of a span.
        pub members: u16,
        /// Spans.
        pub spans: u16,
        /// `EMD_STATE_*`.
        pub state: u16,
        /// `EMD_CONSISTENCY_*`.
        pub consistency: u16,
        /// `EMD_ACCESS_*`.
        pub access: u16,
        /// Running task, `EMD_TASK_*`, or 0.
        pub task_kind: u16,
        /// `EMD_TASK_STATE_*`, or 0.
        pub task_state: u16,
        /// What is done about crashes, `EMD_POLICY_*`; 0 for levels without parity.
        pub crash_policy: u16,
        /// KiB/s of each member, since it started, was let go, or got other limits.
        pub task_rate_kib: u32,
        /// Sectors done: of each member, for RAID 10 and 1E of the volume; of a rebuild always of the member.
        pub task_done_sectors: u64,
        /// Sectors to do in all, likewise.
        pub task_total_sectors: u64,
        /// Sectors that did not agree, as far as the task got.
        pub task_mismatch_sectors: u64,
        /// Seconds that the task will still take, or `EMD_NONE`.
        pub task_eta_seconds: u32,
        /// 0.
        pub reserved1: u32,
        /// Why it is read-only or refused; what a person should do; what is being done.
        pub reason: [u8; 208],
        /// What a task gets beside users at least, in KiB/s of each member: the limit in force; 0 while it is not started.
        pub rate_min_kib: u32,
        /// What it gets at most, likewise; 0 is no limit.
        pub rate_max_kib: u32,
    }
}

wire_struct! {
    /// Record: a member of the volume before it.
    pub struct MemberRec as "emd_rec_member" {
        /// Start.
        pub rec: Rec,
        /// `major << 32 | minor`, or 0 when it is not here.
        pub dev: u64,
        /// Where it starts on the disk.
        pub offset_sectors: u64,
        /// Sectors that are right, while rebuilding; else 0.
        pub done_sectors: u64,
        /// Index of the disk in the set, or `EMD_NONE`.
        pub disk: u32,
        /// Slot: `span × members + position`.
        pub slot: u32,
        /// `EMD_MEMBER_IN_SYNC` ….
        pub state: u16,
        /// 0.
        pub reserved0: u16,
        /// 0.
        pub reserved1: u32,
    }
}

wire_struct! {
    /// Record: a remark for people about the set before it, or about a device (in `SCAN`).
    pub struct NoteRec as "emd_rec_note" {
        /// Start.
        pub rec: Rec,
        /// `major << 32 | minor`, or 0.
        pub dev: u64,
        /// The remark.
        pub text: [u8; 208],
    }
}

wire_struct! {
    /// Record: a format. Its levels follow it.
    pub struct FormatRec as "emd_rec_format" {
        /// Start.
        pub rec: Rec,
        /// Name.
        pub name: [u8; 16],
        /// One line for people.
        pub description: [u8; 104],
        /// Smallest chunk.
        pub chunk_sectors_min: u32,
        /// Largest chunk.
        pub chunk_sectors_max: u32,
        /// Usual chunk.
        pub chunk_sectors_default: u32,
        /// Most disks in a set.
        pub disks_max: u32,
        /// Most volumes in a set.
        pub volumes_max: u32,
        /// Longest name in bytes.
        pub name_bytes_max: u32,
        /// `EMD_FORMAT_*`.
        pub flags: u32,
        /// Most spans of a volume; 1: no two-level volumes.
        pub spans_max: u32,
    }
}

wire_struct! {
    /// Record: a place that people should know of. Of the volume before it; bad stretches of disks of
    /// the set before it.
    pub struct RangeRec as "emd_rec_range" {
        /// Start.
        pub rec: Rec,
        /// First sector: of each member, or of the volume where a sync counts so (RAID 10, 1E); of the
        /// disk, for bad ones.
        pub first_sector: u64,
        /// Length.
        pub sectors: u64,
        /// `EMD_RANGE_*`.
        pub what: u16,
        /// `EMD_RANGE_MORE`: there are more (`QUERY`, `SCAN`: than are in the answer; `MISMATCHES`: than are kept).
        pub flags: u16,
        /// Index of the disk in the set, for bad ones; else `EMD_NONE`.
        pub disk: u32,
        /// The member that was written because it did not agree (of several, the first); 0xffff: none.
        pub slot: u16,
        /// Why it was that one: `EMD_REASON_*`; 0: none was.
        pub reason: u16,
        /// 0.
        pub reserved: u32,
    }
}

wire_struct! {
    /// Record: a level in one layout that the format before it can express.
    pub struct LevelRec as "emd_rec_level" {
        /// Start.
        pub rec: Rec,
        /// Level.
        pub level: [u8; 16],
        /// Layout.
        pub layout: [u8; 24],
        /// Fewest members of a span.
        pub members_min: u32,
        /// Most.
        pub members_max: u32,
        /// `EMD_LEVEL_*`.
        pub flags: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// Every structure of `emd.h`. For the test that compares the two.
pub const STRUCTURES: &[Structure] = &[
    Head::STRUCTURE,
    Out::STRUCTURE,
    TargetArg::STRUCTURE,
    VersionArg::STRUCTURE,
    ListArg::STRUCTURE,
    QueryArg::STRUCTURE,
    MismatchesArg::STRUCTURE,
    ScanArg::STRUCTURE,
    CreateArg::STRUCTURE,
    StopArg::STRUCTURE,
    DeleteArg::STRUCTURE,
    MemberArg::STRUCTURE,
    RenameArg::STRUCTURE,
    PolicyArg::STRUCTURE,
    TaskArg::STRUCTURE,
    EventsArg::STRUCTURE,
    EventWire::STRUCTURE,
    Rec::STRUCTURE,
    SetRec::STRUCTURE,
    DiskRec::STRUCTURE,
    VolumeRec::STRUCTURE,
    MemberRec::STRUCTURE,
    NoteRec::STRUCTURE,
    FormatRec::STRUCTURE,
    LevelRec::STRUCTURE,
    RangeRec::STRUCTURE,
];
