// SPDX-License-Identifier: GPL-2.0

//! What may be asked for, with every check behind it: an engine needs to judge meaning only.

use super::info::{RangeInfo, ScanNote, SetInfo, TaskKind};
use crate::model::{CrashPolicy, DiskIndex, Layout, Level, Slot, Text};
use crate::personalities::ranges::PageStart;
use core::fmt;
use kernel::prelude::*;

/// Number of a block device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DevNumber {
    major: u32,
    minor: u32,
}

impl DevNumber {
    /// Linux' `dev_t` has 12 bits for the major number and 20 for the minor (`linux/kdev_t.h`).
    const MINOR_BITS: u32 = 20;

    /// From both numbers; `None` when they do not fit a `dev_t`, or are both 0.
    pub const fn new(major: u32, minor: u32) -> Option<Self> {
        if major >= 1 << 12 || minor >= 1 << Self::MINOR_BITS || (major == 0 && minor == 0) {
            return None;
        }
        Some(Self { major, minor })
    }

    /// From `major << 32 | minor`.
    pub const fn from_wire(wire: u64) -> Option<Self> {
        Self::new((wire >> 32) as u32, wire as u32)
    }

    /// As `major << 32 | minor`.
    pub const fn to_wire(self) -> u64 {
        ((self.major as u64) << 32) | self.minor as u64
    }

    /// From the kernel's `dev_t`, as [`crate::model::DiskFacts::key`] has it.
    pub const fn from_key(key: u64) -> Option<Self> {
        if key > u32::MAX as u64 {
            return None;
        }
        Self::new(
            (key >> Self::MINOR_BITS) as u32,
            key as u32 & ((1 << Self::MINOR_BITS) - 1),
        )
    }

    /// The kernel's `dev_t`.
    pub const fn key(self) -> u32 {
        (self.major << Self::MINOR_BITS) | self.minor
    }

    /// Major number.
    pub const fn major(self) -> u32 {
        self.major
    }

    /// Minor number.
    pub const fn minor(self) -> u32 {
        self.minor
    }
}

impl fmt::Display for DevNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What a call is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The array `/dev/emdN`.
    Number(u32),
    /// The volume with this id.
    Array([u8; 16]),
    /// The set with this id.
    Set([u8; 16]),
    /// Everything.
    All,
}

/// A page of the places of a volume that did not agree. The target is an array.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MismatchesRequest {
    /// The array.
    pub target: Target,
    /// Where the page begins.
    pub start: PageStart,
    /// Most ranges in it; at most [`MISMATCHES_PAGE_MAX`](super::constants::MISMATCHES_PAGE_MAX).
    pub most: u32,
}

/// The page.
#[derive(PartialEq, Debug)]
pub struct MismatchesReply {
    /// Ranges by their first sectors.
    pub ranges: KVVec<RangeInfo>,
    /// Where the next page begins.
    pub next: PageStart,
    /// Ranges that come after this page.
    pub left: u32,
    /// There were more than are kept.
    pub lost_some: bool,
}

/// Look for sets, and start them.
#[derive(PartialEq, Debug)]
pub struct ScanRequest {
    /// Devices to look at; empty means every block device.
    pub devs: KVec<DevNumber>,
    /// Only this set.
    pub set_id: Option<[u8; 16]>,
    /// Say what would be done and do nothing.
    pub dry_run: bool,
    /// Start arrays with members missing, as long as no data is.
    pub degraded: bool,
    /// Start also what is both dirty and degraded.
    pub force: bool,
}

/// What a scan found and did.
#[derive(PartialEq, Debug)]
pub struct ScanReply {
    /// Devices that were looked at.
    pub disks_seen: u32,
    /// Arrays started (or that would be).
    pub arrays_started: u32,
    /// The sets found, as they are after the scan.
    pub sets: KVec<SetInfo>,
    /// What was odd: damaged metadata, why an array was not started.
    pub notes: KVec<ScanNote>,
}

/// Make a set, or a volume in a set, or both.
#[derive(PartialEq, Debug)]
pub struct CreateRequest {
    /// Format's name. Empty only when `set_id` is given; the engine checks that it exists.
    pub format: Text<15>,
    /// The set to add the volume to; `None` makes a new one of `members` and `spares`.
    pub set_id: Option<[u8; 16]>,
    /// Name of a new set.
    pub set_name: Text<32>,
    /// The volume to make. `None` makes an empty set of the disks in `members`.
    pub volume: Option<CreateVolume>,
    /// Members in raid-disk order; `None` leaves a slot empty (starts degraded). With `set_id` it
    /// may have no entries: the engine picks disks of the set.
    pub members: KVec<Option<DevNumber>>,
    /// Spares for the set.
    pub spares: KVec<DevNumber>,
    /// On disks that carry a known signature too.
    pub force: bool,
}

/// The volume of a [`CreateRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateVolume {
    /// Name.
    pub name: Text<32>,
    /// Level.
    pub level: Level,
    /// Layout; `None` takes the format's usual one.
    pub layout: Option<Layout>,
    /// Chunk; 0 takes the format's usual one.
    pub chunk_sectors: u32,
    /// Spans; 1 for a volume of one level.
    pub spans: u16,
    /// Size that users see; 0 takes all that fits.
    pub size_sectors: u64,
    /// Take redundancy as right.
    pub assume_clean: bool,
    /// Fill the members with zeroes instead of a resync. Not with `assume_clean`.
    pub zeroed: bool,
    /// With a log that closes the write hole.
    pub log: bool,
    /// With a log of the regions that are being written; `None` takes what is usual in the format.
    pub regions: Option<bool>,
}

/// What was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateReply {
    /// The set.
    pub set_id: [u8; 16],
    /// The volume; zeros when none was asked for.
    pub array_id: [u8; 16],
    /// N of `/dev/emdN`.
    pub number: Option<u32>,
    /// Size that users see.
    pub size_sectors: u64,
}

/// Stop arrays. The target may be anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopRequest {
    /// What to stop.
    pub target: Target,
}

/// What was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopReply {
    /// Arrays stopped.
    pub arrays_stopped: u32,
}

/// Delete a volume, or a whole set from its disks. The target is never [`Target::All`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeleteRequest {
    /// What to delete.
    pub target: Target,
    /// Even if the volume holds a known signature.
    pub force: bool,
}

wire_enum! {
    /// What to do with a disk.
    pub enum MemberOp as "EMD_MEMBER_OP_" {
        /// Make it part of the set; it fills a lost member's place when there is one.
        Add = 1, "ADD", "add";
        /// Take it out of the set.
        Remove = 2, "REMOVE", "remove";
        /// Treat it as failed.
        Fail = 3, "FAIL", "fail";
        /// Make it a spare (part of the set too, when it is not yet).
        Spare = 4, "SPARE", "spare";
        /// It is no spare any more.
        Unspare = 5, "UNSPARE", "unspare";
    }
}

/// A disk as somebody names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberDisk {
    /// It is here.
    Device(DevNumber),
    /// By its index in the set, here or not; only to take it out.
    Index(DiskIndex),
}

impl fmt::Display for MemberDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(dev) => write!(f, "{dev}"),
            Self::Index(index) => write!(f, "{index} of the set"),
        }
    }
}

/// Do something with one disk. The target is a set, or an array of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberRequest {
    /// What to do.
    pub op: MemberOp,
    /// The set, or an array of it.
    pub target: Target,
    /// The disk.
    pub disk: MemberDisk,
    /// Spare for the target array only (then the target is an array).
    pub dedicated: bool,
    /// Even if redundancy is lost.
    pub force: bool,
}

/// Where the disk ended up (or was).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberReply {
    /// Array.
    pub number: Option<u32>,
    /// Slot in it.
    pub slot: Option<Slot>,
}

/// Rename a volume. The target is an array.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RenameRequest {
    /// The array.
    pub target: Target,
    /// Its new name.
    pub name: Text<32>,
}

/// Change what is done about crashes. The target is an array, which must not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyRequest {
    /// The array.
    pub target: Target,
    /// Its new policy.
    pub policy: CrashPolicy,
}

/// What to do with a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskOp {
    /// Start one of this kind.
    Start(TaskKind),
    /// Stop for now.
    Pause,
    /// Go on.
    Resume,
    /// Stop for good.
    Cancel,
    /// Set limits of rate.
    Limits {
        /// Least beside users, in KiB/s of each member; 0: as for all arrays, or of all the usual one.
        min_kib: u32,
        /// Most, likewise.
        max_kib: u32,
    },
}

/// Do something with a task. The target is an array, or everything for [`TaskOp::Limits`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskRequest {
    /// The array.
    pub target: Target,
    /// What to do.
    pub op: TaskOp,
}

/// Where an open file stands in the stream of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventsReply {
    /// Sequence number that the next `read` starts at.
    pub seq: u64,
    /// Oldest that is kept.
    pub oldest_seq: u64,
    /// Number that the next event will have.
    pub next_seq: u64,
}

/// Any request, decoded and checked.
#[derive(PartialEq, Debug)]
pub enum Request {
    /// Version and limits.
    Version,
    /// Formats.
    Formats,
    /// All sets in short.
    List,
    /// One set in full.
    Query(Target),
    /// See [`MismatchesRequest`].
    Mismatches(MismatchesRequest),
    /// See [`ScanRequest`].
    Scan(ScanRequest),
    /// See [`CreateRequest`].
    Create(CreateRequest),
    /// See [`StopRequest`].
    Stop(StopRequest),
    /// See [`DeleteRequest`].
    Delete(DeleteRequest),
    /// See [`MemberRequest`].
    Member(MemberRequest),
    /// See [`RenameRequest`].
    Rename(RenameRequest),
    /// See [`PolicyRequest`].
    Policy(PolicyRequest),
    /// See [`TaskRequest`].
    Task(TaskRequest),
    /// Go on from this event.
    Events(u64),
}
