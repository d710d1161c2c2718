// SPDX-License-Identifier: GPL-2.0

//! The constants and ioctl numbers of `emd.h`. There each has `EMD_` before its name.

use super::args::{
    CreateArg, DeleteArg, EventsArg, ListArg, MemberArg, MismatchesArg, PolicyArg, QueryArg,
    RenameArg, ScanArg, StopArg, TaskArg, VersionArg,
};
use super::wire::Wire;
use crate::model;
use crate::personalities::ranges;

/// Number of one ioctl as C's `_IOWR(EMD_IOC_TYPE, nr, struct)` makes it.
pub const fn iowr(nr: u32, bytes: usize) -> u32 {
    // asm-generic/ioctl.h: direction (read and write) 30, size 16, type 8, number 0.
    (3 << 30) | ((bytes as u32 & 0x3fff) << 16) | (IOC_TYPE << 8) | nr
}

wire_constants! {
    /// Version of the surface; a change here breaks callers.
    API_MAJOR: u32 = 1;
    /// Grows with every compatible addition; `emd.h` says what came with which.
    API_MINOR: u32 = 7;
    /// Type byte of every ioctl.
    IOC_TYPE: u32 = 0xed;

    /// Longest argument structure accepted, whatever a later version may need.
    ARG_BYTES_MAX: u32 = 4096;
    /// Most members of a volume.
    MEMBERS_MAX: u32 = model::MEMBERS_MAX as u32;
    /// Most disks of a set, and most devices or spares in one call.
    DISKS_MAX: u32 = model::DISKS_MAX as u32;
    /// Most volumes of a set.
    VOLUMES_MAX: u32 = model::VOLUMES_MAX as u32;
    /// Length of a name's field, NUL included.
    NAME_BYTES: u32 = 40;
    /// Longest name in bytes of UTF-8, NUL not counted.
    NAME_BYTES_MAX: u32 = 32;
    /// Room that holds every reason, NUL included.
    REASON_BYTES: u32 = 208;
    /// Events that are kept for readers that fell behind.
    EVENTS_MAX: u32 = 256;
    /// "None" in 32-bit fields that name an array, disk, volume or slot.
    NONE: u32 = 0xffff_ffff;
    /// Largest array number: minors are 20 bits.
    NUMBER_MAX: u32 = 0xf_ffff;

    /// Target: none.
    TARGET_NONE: u32 = 0;
    /// Target: the array `/dev/emdN`, N in `number`.
    TARGET_NUMBER: u32 = 1;
    /// Target: the array (volume) with this id.
    TARGET_ARRAY: u32 = 2;
    /// Target: the set with this id.
    TARGET_SET: u32 = 3;
    /// Target: everything.
    TARGET_ALL: u32 = 4;

    /// Scan: say what would be done and do nothing.
    SCAN_DRY_RUN: u32 = 1 << 0;
    /// Scan: start arrays with members missing, as long as no data is.
    SCAN_DEGRADED: u32 = 1 << 1;
    /// Scan: start also arrays that are both dirty and degraded.
    SCAN_FORCE: u32 = 1 << 2;

    /// Create: take the members' redundancy as right; no resync.
    CREATE_ASSUME_CLEAN: u32 = 1 << 0;
    /// Create: on disks that carry a known signature too.
    CREATE_FORCE: u32 = 1 << 1;
    /// Create: with a log that closes the write hole (levels with parity).
    CREATE_LOG: u32 = 1 << 2;
    /// Create: members are filled with zeroes, by disks that do that by themselves, and need no resync.
    CREATE_ZERO: u32 = 1 << 3;

    /// Create, regions: as is usual in the format.
    REGIONS_USUAL: u32 = 0;
    /// Create, regions: recorded, so that only what was being written is resynced after a crash.
    REGIONS_YES: u32 = 1;
    /// Create, regions: not recorded.
    REGIONS_NO: u32 = 2;

    /// Delete: a volume that holds a known signature too.
    DELETE_FORCE: u32 = 1 << 0;

    /// Member: the spare is for the target array only.
    MEMBER_DEDICATED: u32 = 1 << 0;
    /// Member: even if the array loses redundancy (remove, fail); whatever the disk holds (add, spare).
    MEMBER_FORCE: u32 = 1 << 1;
    /// Member: `dev` is the disk's index in the set (remove only): it need not be here.
    MEMBER_INDEX: u32 = 1 << 2;

    /// Record: a set.
    REC_SET: u16 = 1;
    /// Record: a disk of a set.
    REC_DISK: u16 = 2;
    /// Record: a volume of a set.
    REC_VOLUME: u16 = 3;
    /// Record: a member of a volume.
    REC_MEMBER: u16 = 4;
    /// Record: a remark for people.
    REC_NOTE: u16 = 5;
    /// Record: a format.
    REC_FORMAT: u16 = 6;
    /// Record: a level and layout that a format can express.
    REC_LEVEL: u16 = 7;
    /// Record: a place that people should know of.
    REC_RANGE: u16 = 8;

    /// Disk flag: it predicts its own failure.
    DISK_FAILURE_PREDICTED: u32 = 1 << 0;

    /// Disk state: working.
    DISK_ONLINE: u16 = 1;
    /// Disk state: recorded as failed.
    DISK_FAILED: u16 = 2;
    /// Disk state: known, not here.
    DISK_MISSING: u16 = 3;
    /// Disk state: here, its data old.
    DISK_STALE: u16 = 4;

    /// Disk role: in no volume, no spare.
    ROLE_UNUSED: u16 = 1;
    /// Disk role: member of a volume.
    ROLE_MEMBER: u16 = 2;
    /// Disk role: spare for every volume of the set.
    ROLE_GLOBAL_SPARE: u16 = 3;
    /// Disk role: spare for one volume.
    ROLE_DEDICATED_SPARE: u16 = 4;

    /// Member state: holds what it should.
    MEMBER_IN_SYNC: u16 = 1;
    /// Member state: being rebuilt.
    MEMBER_REBUILDING: u16 = 2;
    /// Member state: failed.
    MEMBER_FAILED: u16 = 3;
    /// Member state: no disk.
    MEMBER_MISSING: u16 = 4;

    /// Consistency: redundancy agrees with the data.
    CONSISTENCY_CLEAN: u16 = 1;
    /// Consistency: writes were in flight.
    CONSISTENCY_DIRTY: u16 = 2;
    /// Consistency: being established.
    CONSISTENCY_INITIALISING: u16 = 3;

    /// Event flag of a task that is done: it went on from a mark, and what it found before that is not known any more.
    EVENT_PART: u32 = 1 << 0;

    /// Format flag: records spares for the whole set.
    FORMAT_SPARES_GLOBAL: u32 = 1 << 0;
    /// Format flag: records spares for one volume.
    FORMAT_SPARES_DEDICATED: u32 = 1 << 1;
    /// Format flag: records how far an initialisation, a resync or (without `FORMAT_REBUILDS_ANEW`) a rebuild got.
    FORMAT_CHECKPOINTS: u32 = 1 << 2;
    /// Format flag: records which regions are being written, so that only these are resynced.
    FORMAT_REGION_LOG: u32 = 1 << 3;
    /// Format flag: records bad ranges.
    FORMAT_BAD_RANGES: u32 = 1 << 4;
    /// Format flag: has a place for a log that closes the write hole, of levels with `LEVEL_HOLE_LOG`.
    FORMAT_HOLE_LOG: u32 = 1 << 5;
    /// Format flag: how far a rebuild got is not recorded: after a restart it begins anew.
    FORMAT_REBUILDS_ANEW: u32 = 1 << 6;

    /// Policy for crashes: none; redundancy is taken as right after one.
    POLICY_NONE: u16 = 1;
    /// Policy for crashes: resync.
    POLICY_RESYNC: u16 = 2;
    /// Policy for crashes: resync, and a log that closes the write hole.
    POLICY_LOG: u16 = 3;

    /// Range: redundancy did not agree there.
    RANGE_MISMATCH: u16 = 1;
    /// Range: the disk holds nothing usable there.
    RANGE_BAD: u16 = 2;
    /// Range flag: there are more than are in the answer (`QUERY`, `SCAN`), or than are kept (`MISMATCHES`).
    RANGE_MORE: u16 = 1 << 0;

    /// Most places of a volume that a check or repair found not to agree, and that are kept.
    MISMATCHES_MAX: u32 = ranges::RANGES_MAX as u32;
    /// Most of them that `QUERY` and `SCAN` give, and that are kept of a resync.
    MISMATCHES_QUERY_MAX: u32 = ranges::RANGES_FEW as u32;
    /// Most of them that one `MISMATCHES` gives.
    MISMATCHES_PAGE_MAX: u32 = 1024;

    /// Level flag: the usual layout of the level in this format.
    LEVEL_USUAL: u32 = 1 << 0;
    /// Level flag: volumes of the level can have the log of `FORMAT_HOLE_LOG`.
    LEVEL_HOLE_LOG: u32 = 1 << 1;

    /// Task operation: start one of the kind given.
    TASK_OP_START: u16 = 1;
    /// Task operation: stop for now.
    TASK_OP_PAUSE: u16 = 2;
    /// Task operation: go on.
    TASK_OP_RESUME: u16 = 3;
    /// Task operation: stop for good.
    TASK_OP_CANCEL: u16 = 4;
    /// Task operation: set limits of rate.
    TASK_OP_LIMITS: u16 = 5;

    /// Number of the version call.
    NR_VERSION: u32 = 0x00;
    /// Number of the formats call.
    NR_FORMATS: u32 = 0x01;
    /// Number of the list call.
    NR_LIST: u32 = 0x02;
    /// Number of the query call.
    NR_QUERY: u32 = 0x03;
    /// Number of the scan call.
    NR_SCAN: u32 = 0x04;
    /// Number of the create call.
    NR_CREATE: u32 = 0x05;
    /// Number of the stop call.
    NR_STOP: u32 = 0x06;
    /// Number of the delete call.
    NR_DELETE: u32 = 0x07;
    /// Number of the member call.
    NR_MEMBER: u32 = 0x08;
    /// Number of the rename call.
    NR_RENAME: u32 = 0x09;
    /// Number of the task call.
    NR_TASK: u32 = 0x0a;
    /// Number of the events call.
    NR_EVENTS: u32 = 0x0b;
    /// Number of the policy call.
    NR_POLICY: u32 = 0x0c;
    /// Number of the mismatches call.
    NR_MISMATCHES: u32 = 0x0d;

    /// Version and limits.
    IOC_VERSION: u32 = iowr(NR_VERSION, VersionArg::BYTES);
    /// Formats and what they can express.
    IOC_FORMATS: u32 = iowr(NR_FORMATS, ListArg::BYTES);
    /// All sets and volumes in short.
    IOC_LIST: u32 = iowr(NR_LIST, ListArg::BYTES);
    /// One set in full.
    IOC_QUERY: u32 = iowr(NR_QUERY, QueryArg::BYTES);
    /// Looks for sets and starts them.
    IOC_SCAN: u32 = iowr(NR_SCAN, ScanArg::BYTES);
    /// Makes a set, a volume, or both.
    IOC_CREATE: u32 = iowr(NR_CREATE, CreateArg::BYTES);
    /// Stops arrays.
    IOC_STOP: u32 = iowr(NR_STOP, StopArg::BYTES);
    /// Deletes a volume or a set from its disks.
    IOC_DELETE: u32 = iowr(NR_DELETE, DeleteArg::BYTES);
    /// Adds, removes, fails a disk; makes it a spare or not.
    IOC_MEMBER: u32 = iowr(NR_MEMBER, MemberArg::BYTES);
    /// Renames a volume.
    IOC_RENAME: u32 = iowr(NR_RENAME, RenameArg::BYTES);
    /// Starts, pauses, resumes, cancels or limits a task.
    IOC_TASK: u32 = iowr(NR_TASK, TaskArg::BYTES);
    /// Moves this open file's place in the stream of events.
    IOC_EVENTS: u32 = iowr(NR_EVENTS, EventsArg::BYTES);
    /// Changes what is done about crashes.
    IOC_POLICY: u32 = iowr(NR_POLICY, PolicyArg::BYTES);
    /// Places of an array that did not agree, page by page.
    IOC_MISMATCHES: u32 = iowr(NR_MISMATCHES, MismatchesArg::BYTES);
}
