// SPDX-License-Identifier: GPL-2.0

//! The common vocabulary: everything that can happen to a set.

use super::Layout;
use super::{BadRange, CrashPolicy, DiskFacts, DiskIndex, Level, Scrub, Slot, Text, VolumeIndex};

/// What a format may not know by itself: the time, and bytes to make identities from.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Seconds since 1970.
    pub now_seconds: u64,
    /// Random, new for every event.
    pub random: [u64; 2],
}

/// What a disk is offered to the set as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpareRole {
    /// Not a spare (any more).
    None,
    /// For every volume of the set.
    Global,
    /// For one volume.
    Dedicated(VolumeIndex),
}

/// A disk that is to become part of a set. Its old contents count for nothing.
#[derive(Clone, Copy, Debug)]
pub struct DiskOffer {
    /// The disk.
    pub facts: DiskFacts,
    /// What it is to be.
    pub role: SpareRole,
}

/// A volume to be created.
#[derive(Clone, Copy, Debug)]
pub struct VolumeSpec<'a> {
    /// Name; the format checks length and characters.
    pub name: Text<32>,
    /// Level of each span.
    pub level: Level,
    /// Spans; 1 is a volume of one level. `disks` counts over all of them.
    pub spans: u16,
    /// Layout; `None` takes the format's usual one for the level.
    pub layout: Option<Layout>,
    /// Chunk length; 0 takes the format's usual one.
    pub chunk_sectors: u32,
    /// Size that users will see; 0 takes all that fits.
    pub size_sectors: u64,
    /// The members in raid-disk order. `None` leaves a slot empty: the volume starts degraded.
    pub disks: &'a [Option<DiskIndex>],
    /// Redundancy agrees already (known-zero members, or the caller says so).
    pub assume_clean: bool,
    /// It is to have the policy [`CrashPolicy::Log`]: formats that have to set room aside for that log do, or refuse. It has
    /// the policy when [`Event::CrashPolicySet`] says so, if not at once.
    pub log: bool,
    /// Whether it is to have a log of the regions that are being written ([`RegionLog`](super::RegionLog)): formats that cannot,
    /// or cannot leave it out, refuse with `EOPNOTSUPP`, and with `ENOSPC` where there is no room for it. `None` takes what is
    /// usual in the format.
    pub regions: Option<bool>,
}

/// Something that happened, or that is wanted, and has to be recorded.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A disk failed; it counts for nothing from now on in every volume. One that is here and old
    /// ([`DiskState::Stale`](super::DiskState::Stale)) stays so, and may return; what the others say of it
    /// is that it is lost.
    DiskFailed(DiskIndex),
    /// A disk is gone (unplugged, or not there at assembly). Its `facts` are cleared.
    DiskMissing(DiskIndex),
    /// A disk joins the set with fresh metadata. Allocates.
    DiskAdded(DiskOffer),
    /// A disk that failed or went missing is here again as a blank one of the same identity:
    /// it may be used for a rebuild. Allocates.
    DiskReturned(DiskIndex, DiskFacts),
    /// The same, but a person says that what it holds counts where nothing can stand in for it: in volumes without redundancy
    /// that lost it ([`Set::irreplaceable`](super::Set::irreplaceable)) it is a member in sync again. `EINVAL` when there
    /// are none, `EOPNOTSUPP` where the format never calls a member of such volumes lost. Allocates.
    DiskReinstated(DiskIndex, DiskFacts),
    /// A disk leaves the set; refused while it is an active member of a volume. The plan erases
    /// the set's metadata from it when it is present.
    DiskRemoved(DiskIndex),
    /// A disk's role as a spare changes.
    SpareAssigned(DiskIndex, SpareRole),
    /// A spare (or unused, or returned disk) takes the place of a lost member. The format chooses
    /// the stretch of the disk; the member becomes `Rebuilding { done_sectors: 0 }`.
    SpareActivated {
        /// The volume.
        volume: VolumeIndex,
        /// The slot to fill; its member must be failed or missing.
        slot: Slot,
        /// The disk.
        disk: DiskIndex,
    },
    /// A rebuild got this far. Formats without a place for it keep it in memory only, and their
    /// plan is empty.
    RebuildProgress {
        /// The volume.
        volume: VolumeIndex,
        /// The member.
        slot: Slot,
        /// Sectors of the member that are right.
        done_sectors: u64,
    },
    /// A rebuilt member is in sync.
    RebuildDone {
        /// The volume.
        volume: VolumeIndex,
        /// The member.
        slot: Slot,
    },
    /// Writes are about to happen.
    Dirty(VolumeIndex),
    /// No writes are in flight and redundancy agrees.
    Clean(VolumeIndex),
    /// Redundancy has to be established (again), or has been up to the mark (sectors of each member;
    /// of the volume, where [`Shape::syncs_by_volume`](super::Shape::syncs_by_volume)).
    ResyncProgress {
        /// The volume.
        volume: VolumeIndex,
        /// Sectors of each member (or of the volume) that agree.
        done_sectors: u64,
    },
    /// Redundancy agrees everywhere. Whether writes are in flight does not change.
    ResyncDone(VolumeIndex),
    /// A volume is created. Allocates.
    VolumeCreated(VolumeSpec<'a>),
    /// A volume is deleted.
    VolumeDeleted(VolumeIndex),
    /// Writes are about to happen in regions `first .. first + count` of the volume's
    /// [`RegionLog`](super::RegionLog). Volumes without one: refused with `EOPNOTSUPP`.
    RegionsDirty {
        /// The volume.
        volume: VolumeIndex,
        /// First region.
        first: u32,
        /// Regions.
        count: u32,
    },
    /// Redundancy agrees in these regions, and no writes are in flight there.
    RegionsClean {
        /// The volume.
        volume: VolumeIndex,
        /// First region.
        first: u32,
        /// Regions.
        count: u32,
    },
    /// What is on this stretch of a disk is of no use, and is not to be read from there. `ENOSPC`
    /// when no more can be recorded. Formats without a place for it keep it in memory only, and their
    /// plan is empty.
    BadRangeAdded(BadRange),
    /// This stretch was written and is good again (all of it, or part of a larger bad one).
    BadRangeCleared(BadRange),
    /// A volume gets a new name.
    VolumeRenamed(VolumeIndex, Text<32>),
    /// A volume gets another policy for crashes. `EOPNOTSUPP` when it has no place for that, `ENOSPC` when
    /// as many volumes as there is room for have a log.
    CrashPolicySet(VolumeIndex, CrashPolicy),
    /// A check or repair that a person asked for got so far; `None`: it ended, or is wanted no more. Formats
    /// without a place for it, and volumes without redundancy: nothing changes, and the plan is empty.
    ScrubProgress(VolumeIndex, Option<Scrub>),
    /// A volume with a log is about to be written: a new session begins, and nothing that is in the log
    /// counts any more. Refused with `EINVAL` for volumes without.
    HoleLogStarted(VolumeIndex),
    /// The log that another driver kept for a volume ([`super::LeftLog`]) is taken off: what it told of, if that was
    /// due, is right on the disks. `is_settled`: nothing that was in flight is left in doubt, so a dirty volume is
    /// clean with that. Refused with `EINVAL` for volumes without.
    LeftLogOff {
        /// The volume.
        volume: VolumeIndex,
        /// Nothing is left in doubt.
        is_settled: bool,
    },
}
