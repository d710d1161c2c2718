// SPDX-License-Identifier: GPL-2.0

//! The argument structures of `emd.h`: what each ioctl points at.
//!
//! Every structure is made of fixed-width integers and byte arrays, naturally aligned, with no
//! padding and a length that is a multiple of 8: it is the same for 32-bit and 64-bit programs.
//! `[in]` is read from the caller, `[out]` is written by the kernel and not looked at before.

wire_struct! {
    /// The start of every argument.
    pub struct Head as "emd_head" {
        /// `[in]` `sizeof` the whole argument structure, as the caller was compiled.
        pub size: u32,
        /// `[in]` Bits of the call; unknown ones are refused.
        pub flags: u32,
        /// `[in]` Where a readable reason goes, or 0.
        pub reason_ptr: u64,
        /// `[in]` Room there in bytes; the text is cut to it and always ends with NUL.
        pub reason_len: u32,
        /// Must be 0.
        pub reserved: u32,
    }
}

wire_struct! {
    /// A buffer for records.
    pub struct Out as "emd_out" {
        /// `[in]` Where records go, or 0.
        pub ptr: u64,
        /// `[in]` Room there in bytes.
        pub len: u32,
        /// `[out]` Bytes that all records take.
        pub needed: u32,
        /// `[out]` Whole records that were written.
        pub count: u32,
        /// Must be 0.
        pub reserved: u32,
    }
}

wire_struct! {
    /// What a call is about.
    pub struct TargetArg as "emd_target" {
        /// `[in]` `EMD_TARGET_*`.
        pub kind: u32,
        /// `[in]` N of `/dev/emdN`, with `EMD_TARGET_NUMBER` only.
        pub number: u32,
        /// `[in]` Id, with `EMD_TARGET_ARRAY` and `EMD_TARGET_SET` only.
        pub id: [u8; 16],
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_VERSION`.
    pub struct VersionArg as "emd_version" {
        /// Head; no flags.
        pub head: Head,
        /// `[out]` `EMD_API_MAJOR` of the module.
        pub api_major: u32,
        /// `[out]` `EMD_API_MINOR` of the module.
        pub api_minor: u32,
        /// `[out]` Most members of a volume.
        pub members_max: u32,
        /// `[out]` Most disks of a set.
        pub disks_max: u32,
        /// `[out]` Most volumes of a set.
        pub volumes_max: u32,
        /// `[out]` Events that are kept.
        pub events_max: u32,
        /// `[out]` Sequence number that the next event will have.
        pub event_next_seq: u64,
        /// `[out]` Version of the module, NUL-terminated.
        pub module: [u8; 40],
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_LIST` and `EMD_IOC_FORMATS`.
    pub struct ListArg as "emd_list" {
        /// Head; no flags.
        pub head: Head,
        /// Records.
        pub out: Out,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_QUERY`.
    pub struct QueryArg as "emd_query" {
        /// Head; no flags.
        pub head: Head,
        /// The set, or an array of it.
        pub target: TargetArg,
        /// Records.
        pub out: Out,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_MISMATCHES`.
    pub struct MismatchesArg as "emd_mismatches" {
        /// Head; no flags.
        pub head: Head,
        /// The array.
        pub target: TargetArg,
        /// `[in]` Ranges that begin before this sector are left out; 0 at first. `[out]` The same for the next page.
        pub from_sector: u64,
        /// `[in]` 0 at first, then as it was given. `[out]` Where among the ranges that begin there the next page begins.
        pub from_order: u32,
        /// `[out]` Ranges that come after this page; 0: it was the last one.
        pub left: u32,
        /// Records.
        pub out: Out,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_SCAN`.
    pub struct ScanArg as "emd_scan" {
        /// Head; flags `EMD_SCAN_*`.
        pub head: Head,
        /// `[in]` Array of device numbers (`major << 32 | minor`), or 0 for every block device. With some, only the sets
        /// that they are of are started and answered.
        pub devs_ptr: u64,
        /// `[in]` How many; at most `EMD_DISKS_MAX`.
        pub devs_count: u32,
        /// `[out]` Devices that were looked at.
        pub disks_seen: u32,
        /// `[in]` Only the set with this id; zeros for all.
        pub set_id: [u8; 16],
        /// `[out]` Sets found.
        pub sets_found: u32,
        /// `[out]` Arrays started (that would be started, with `EMD_SCAN_DRY_RUN`).
        pub arrays_started: u32,
        /// Records.
        pub out: Out,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_CREATE`.
    pub struct CreateArg as "emd_create" {
        /// Head; flags `EMD_CREATE_*`.
        pub head: Head,
        /// `[in]` Format's name; may be empty when `set_id` is given.
        pub format: [u8; 16],
        /// `[in]` An existing set to add the volume to, or zeros for a new set. `[out]` The set.
        pub set_id: [u8; 16],
        /// `[in]` Name of a new set.
        pub set_name: [u8; 40],
        /// `[in]` Name of the volume.
        pub volume_name: [u8; 40],
        /// `[in]` Level (`raid5`); empty makes a set without a volume.
        pub level: [u8; 16],
        /// `[in]` Layout (`left-symmetric`, `near=2`); empty takes the format's usual one.
        pub layout: [u8; 24],
        /// `[in]` Size that users see; 0 takes all that fits. `[out]` The size it got.
        pub size_sectors: u64,
        /// `[in]` Chunk; 0 takes the format's usual one.
        pub chunk_sectors: u32,
        /// `[in]` Members; at most `EMD_MEMBERS_MAX` (for a set without a volume, `EMD_DISKS_MAX`).
        pub members_count: u32,
        /// `[in]` Array of device numbers in raid-disk order; 0 leaves a slot empty.
        pub members_ptr: u64,
        /// `[in]` Array of device numbers of spares.
        pub spares_ptr: u64,
        /// `[in]` Spares; at most `EMD_DISKS_MAX`.
        pub spares_count: u32,
        /// `[out]` N of `/dev/emdN`, or `EMD_NONE`.
        pub number: u32,
        /// `[out]` Id of the volume.
        pub array_id: [u8; 16],
        /// `[in]` Spans of a two-level volume (RAID 50, 60), striped over them; 0 and 1 for none.
        /// `members_count` counts over all spans.
        pub spans: u32,
        /// `[in]` Whether it is recorded which regions are being written, `EMD_REGIONS_*`; 0 is what is usual.
        pub regions: u32,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_STOP`.
    pub struct StopArg as "emd_stop" {
        /// Head; no flags.
        pub head: Head,
        /// An array, a set, or everything.
        pub target: TargetArg,
        /// `[out]` Arrays stopped.
        pub arrays_stopped: u32,
        /// Must be 0.
        pub reserved: u32,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_DELETE`.
    pub struct DeleteArg as "emd_delete" {
        /// Head; flags `EMD_DELETE_*`.
        pub head: Head,
        /// An array (deletes the volume) or a set (erases its metadata from its disks).
        pub target: TargetArg,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_MEMBER`.
    pub struct MemberArg as "emd_member" {
        /// Head; flags `EMD_MEMBER_DEDICATED`, `EMD_MEMBER_FORCE`, `EMD_MEMBER_INDEX`.
        pub head: Head,
        /// The set, or an array of it.
        pub target: TargetArg,
        /// `[in]` The disk: `major << 32 | minor`; with `EMD_MEMBER_INDEX` its index in the set.
        pub dev: u64,
        /// `[in]` `EMD_MEMBER_OP_*`.
        pub op: u16,
        /// Must be 0.
        pub reserved0: u16,
        /// `[out]` Slot that the disk takes (or took), or `EMD_NONE`.
        pub slot: u32,
        /// `[out]` Array number that the slot belongs to, or `EMD_NONE`.
        pub number: u32,
        /// Must be 0.
        pub reserved1: u32,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_RENAME`.
    pub struct RenameArg as "emd_rename" {
        /// Head; no flags.
        pub head: Head,
        /// The array.
        pub target: TargetArg,
        /// `[in]` New name.
        pub name: [u8; 40],
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_POLICY`.
    pub struct PolicyArg as "emd_policy" {
        /// Head; no flags.
        pub head: Head,
        /// The array.
        pub target: TargetArg,
        /// `[in]` `EMD_POLICY_*`.
        pub policy: u16,
        /// Must be 0.
        pub reserved0: u16,
        /// Must be 0.
        pub reserved1: u32,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_TASK`.
    pub struct TaskArg as "emd_task" {
        /// Head; no flags.
        pub head: Head,
        /// The array, or everything (limits only).
        pub target: TargetArg,
        /// `[in]` `EMD_TASK_OP_*`.
        pub op: u16,
        /// `[in]` `EMD_TASK_*` with `EMD_TASK_OP_START`, else 0.
        pub kind: u16,
        /// `[in]` Least beside users in KiB/s of each member, with `EMD_TASK_OP_LIMITS`; else 0. 0 of one array
        /// is what all have; of all it is the usual limit, 1000.
        pub rate_min_kib: u32,
        /// `[in]` Most, likewise; 0 of one array is what all have; of all it is no limit.
        pub rate_max_kib: u32,
        /// Must be 0.
        pub reserved: u32,
    }
}

wire_struct! {
    /// Argument of `EMD_IOC_EVENTS`.
    pub struct EventsArg as "emd_events" {
        /// Head; no flags.
        pub head: Head,
        /// `[in]` Sequence number to go on from; 0 for the oldest kept. `[out]` Where it goes on.
        pub seq: u64,
        /// `[out]` Sequence number of the oldest event kept.
        pub oldest_seq: u64,
        /// `[out]` Sequence number that the next event will have.
        pub next_seq: u64,
    }
}
