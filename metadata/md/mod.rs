// SPDX-License-Identifier: GPL-2.0

//! Linux md's own superblocks: 0.90, 1.0, 1.1 and 1.2. `docs/formats/md.md` has the facts and what was
//! decided.
//!
//! Each version is a format of its own, of one implementation: they differ in where the superblock is,
//! and 0.90 in what it looks like.
//!
//! | file | subject |
//! |---|---|
//! | `layout` | versions, places, field offsets, flags |
//! | `head` | one superblock, checked, in words that are the same for all versions |
//! | `words` | levels, layouts and sizes in md's words and the model's |
//! | `bitmap`, `badblocks` | the write-intent bitmap, the bad-block log |
//! | `probe` | finding a superblock, and whose it is |
//! | `assemble`, `standing` | disks of an array to a set: which superblock counts, which disks are old |
//! | `read_disks`, `read_volume` | what such a set has |
//! | `set` | the metadata of an array in memory |
//! | `disks`, `sync` | events about disks, redundancy |
//! | `own_mark` | how far a check or repair got, and in 0.90 a rebuild: where md has nothing |
//! | `left_log` | the partial parity log: where it is, and how it is put on and taken off |
//! | `create` | new sets and arrays, renaming, deletion |
//! | `draft` | what a new array comes to |
//! | `fresh` | superblocks of disks that have none |
//! | `render`, `plan`, `erase` | the model into bytes, the order of writes |
//! | `rounds` | how many events an update takes |

// Functions marked `#[inline(never)]` here are so to keep the kernel stack small: one big frame at a time.

pub mod assemble;
pub mod badblocks;
pub mod bitmap;
pub mod create;
mod disks;
mod draft;
mod erase;
mod fresh;
pub mod head;
pub mod layout;
mod left_log;
mod own_mark;
mod plan;
pub mod probe;
mod read_disks;
mod read_volume;
mod render;
mod rounds;
pub mod set;
mod standing;
mod sync;
pub mod words;
mod zones;

use super::{Capabilities, DiskImage, Format, LevelCapability, Mark, MetadataSet, Probe};
use crate::model::{
    Checked, Context, DiskFacts, DiskIndex, Event, HoleLog, Layout, LeftLog, Level, LoggedWrite,
    Rotation, Set, Slot, Source, UpdatePlan, VolumeIndex, VolumeSpec,
};
use crate::reason;
use kernel::prelude::*;
pub use layout::Version;
pub use set::MdSet;

/// The format, in one of its versions.
pub struct Md(pub Version);

/// Superblock 1.2.
pub static MD_12: Md = Md(Version::V12);
/// Superblock 1.1.
pub static MD_11: Md = Md(Version::V11);
/// Superblock 1.0.
pub static MD_10: Md = Md(Version::V10);
/// Superblock 0.90.
pub static MD_090: Md = Md(Version::V090);

macro_rules! level {
    ($level:ident, $least:literal..=$most:expr, $layouts:expr) => {
        LevelCapability {
            level: Level::$level,
            layouts: $layouts,
            members: ($least, $most),
        }
    };
}

const PLAIN: &[Layout] = &[Layout::Plain];
const RAID10: &[Layout] = &[
    Layout::Near(2),
    Layout::Near(3),
    Layout::Near(4),
    Layout::Far(2),
    Layout::Far(3),
    Layout::Far(4),
    Layout::Offset(2),
    Layout::Offset(3),
    Layout::Offset(4),
];
const RAID4: &[Layout] = &[Layout::Parity(Rotation::ParityLast)];
const RAID5: &[Layout] = &[
    Layout::Parity(Rotation::LeftSymmetric),
    Layout::Parity(Rotation::LeftAsymmetric),
    Layout::Parity(Rotation::RightAsymmetric),
    Layout::Parity(Rotation::RightSymmetric),
    Layout::Parity(Rotation::ParityFirst),
    Layout::Parity(Rotation::ParityLast),
];
const RAID6: &[Layout] = &[
    Layout::Parity(Rotation::LeftSymmetric),
    Layout::Parity(Rotation::LeftAsymmetric),
    Layout::Parity(Rotation::RightAsymmetric),
    Layout::Parity(Rotation::RightSymmetric),
    Layout::Parity(Rotation::ParityFirst),
    Layout::Parity(Rotation::ParityLast),
    Layout::Parity(Rotation::DdfZeroRestart),
    Layout::Parity(Rotation::DdfNRestart),
    Layout::Parity(Rotation::DdfNContinue),
    Layout::Parity(Rotation::LeftAsymmetric6),
    Layout::Parity(Rotation::RightAsymmetric6),
    Layout::Parity(Rotation::LeftSymmetric6),
    Layout::Parity(Rotation::RightSymmetric6),
    Layout::Parity(Rotation::ParityFirst6),
];

const fn table(
    levels: &'static [LevelCapability],
    disks_max: u16,
    name_bytes_max: u16,
    is_new: bool,
) -> Capabilities {
    Capabilities {
        levels,
        chunk_sectors: (8, 1 << 20),
        chunk_sectors_default: 1024,
        disks_max,
        volumes_max: 1,
        name_bytes_max,
        spares_global: true,
        spares_dedicated: true,
        checkpoints: true,
        rebuild_checkpoints: true,
        spans_max: 1,
        region_log: true,
        bad_ranges: is_new,
        log_levels: if is_new { &[Level::Raid5] } else { &[] },
    }
}

/// Of 1.x.
static CAPABILITIES_1: Capabilities = table(
    &[
        level!(Concat, 1..=64, PLAIN),
        level!(Raid0, 1..=64, PLAIN),
        level!(Raid1, 2..=64, PLAIN),
        level!(Raid10, 2..=64, RAID10),
        level!(Raid4, 3..=64, RAID4),
        level!(Raid5, 3..=64, RAID5),
        level!(Raid6, 4..=64, RAID6),
    ],
    256,
    32,
    true,
);

/// Of 0.90, which has 27 descriptors, no name, no bad-block log and no partial parity log.
static CAPABILITIES_0: Capabilities = table(
    &[
        level!(Concat, 1..=27, PLAIN),
        level!(Raid0, 1..=27, PLAIN),
        level!(Raid1, 2..=27, PLAIN),
        level!(Raid10, 2..=27, RAID10),
        level!(Raid4, 3..=27, RAID4),
        level!(Raid5, 3..=27, RAID5),
        level!(Raid6, 4..=27, RAID6),
    ],
    27,
    0,
    false,
);

/// What a version can express.
pub fn capabilities(version: Version) -> &'static Capabilities {
    match version {
        Version::V090 => &CAPABILITIES_0,
        _ => &CAPABILITIES_1,
    }
}

impl Md {
    /// [`Format::assemble`], with the type that shows more than the trait.
    pub fn open(&self, disks: &[&DiskImage]) -> Checked<KBox<MdSet>> {
        assemble::assemble(self.0, disks)
    }
}

impl Format for Md {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn marks(&self) -> &'static [Mark] {
        const BYTES: &[u8] = &layout::MAGIC.to_le_bytes();
        const fn at(offset_bytes: usize) -> Mark {
            Mark {
                offset_bytes,
                bytes: BYTES,
                name: "an md member",
            }
        }
        match self.0 {
            Version::V12 => &[const { at(4096) }],
            Version::V11 => &[const { at(0) }],
            Version::V10 | Version::V090 => &[],
        }
    }

    fn description(&self) -> &'static str {
        match self.0 {
            Version::V12 => "Linux md, superblock 1.2 (4 KiB from the start)",
            Version::V11 => "Linux md, superblock 1.1 (at the start)",
            Version::V10 => "Linux md, superblock 1.0 (at the end)",
            Version::V090 => "Linux md, superblock 0.90 (at the end; up to 27 disks)",
        }
    }

    fn capabilities(&self) -> &'static Capabilities {
        capabilities(self.0)
    }

    fn probe(&self, disk: &DiskImage) -> Probe {
        probe::probe(self.0, disk)
    }

    fn assemble(&self, disks: &[&DiskImage]) -> Checked<KBox<dyn MetadataSet>> {
        Ok(self.open(disks)?)
    }

    fn create(
        &self,
        disks: &[DiskFacts],
        name: &str,
        context: &Context,
    ) -> Checked<KBox<dyn MetadataSet>> {
        Ok(create::create(self.0, disks, name, context)?)
    }
}

impl MetadataSet for MdSet {
    fn set(&self) -> &Set {
        &self.set
    }

    fn apply(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        self.settle();
        let done = self
            .check_frozen(event)
            .and_then(|()| self.dispatch(event, context))
            .and_then(|()| self.finish(context));
        if done.is_err() {
            self.plan.clear();
        }
        done
    }

    /// Roles by number say that somebody is lost, but not always who.
    fn names_lost_disks(&self) -> bool {
        false
    }

    fn keeps_bad_ranges(&self, disk: DiskIndex) -> bool {
        self.home(disk).is_some_and(|home| home.log.is_some())
    }

    fn missed(&mut self, disk: DiskIndex, phase: u16) {
        let has_bitmap = self.bitmap.is_some();
        let is_overwritten = self.overwrites_last(disk, phase);
        if let Some(home) = self.home_mut(disk) {
            home.missed = true;
            home.only_copy = is_overwritten.unwrap_or(home.only_copy);
            home.bitmap_whole = has_bitmap;
        }
    }

    fn leave_behind(&mut self, phase: u16) -> bool {
        self.end_rounds_early(phase)
    }

    fn plan(&self) -> &UpdatePlan {
        &self.plan
    }

    fn bytes(&self, source: &Source) -> &[u8] {
        self.source_bytes(source)
    }

    fn largest_volume(&self, spec: &VolumeSpec<'_>) -> Checked<u64> {
        self.largest(spec)
    }

    fn hole_log(&self, volume: VolumeIndex) -> Option<HoleLog> {
        self.hole_log_of(volume)
    }

    fn hole_log_sector(&self, volume: VolumeIndex, slot: Slot) -> Option<u64> {
        let (first, _) = self.left_log_at(volume, slot)?;
        Some(first)
    }

    fn left_log(&self, volume: VolumeIndex) -> Option<LeftLog> {
        self.left_log_of(volume)
    }

    fn left_log_place(&self, volume: VolumeIndex, slot: Slot) -> Option<(u64, u32)> {
        self.left_log_at(volume, slot)
    }

    fn read_left_log(
        &self,
        _volume: VolumeIndex,
        slot: Slot,
        bytes: &[u8],
        writes: &mut KVVec<LoggedWrite>,
    ) -> Result<bool> {
        self.read_left_log_of(slot, bytes, writes)
    }
}

impl MdSet {
    /// What is not understood is not written to; losses are followed in memory.
    fn check_frozen(&self, event: &Event<'_>) -> Checked {
        let harmless = matches!(
            event,
            Event::DiskFailed(_)
                | Event::DiskMissing(_)
                | Event::BadRangeAdded(_)
                | Event::BadRangeCleared(_)
        ) || (self.left_log && matches!(event, Event::LeftLogOff { .. }));
        match self.frozen.as_ref().filter(|_| !harmless) {
            Some(why) => Err(reason!(EROFS, "nothing is written to it: {}", why.text())),
            None => Ok(()),
        }
    }

    fn dispatch(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        match *event {
            Event::DiskFailed(disk) => self.disk_failed(disk),
            Event::DiskMissing(disk) => self.disk_missing(disk),
            Event::DiskAdded(ref offer) => self.disk_added(offer, context),
            Event::DiskReturned(disk, ref facts) => self.disk_returned(disk, facts, context),
            Event::DiskReinstated(..) => Err(super::never_lost()),
            Event::DiskRemoved(disk) => self.disk_removed(disk),
            Event::SpareAssigned(disk, role) => self.spare_assigned(disk, role),
            Event::SpareActivated { volume, slot, disk } => {
                self.spare_activated(volume, slot, disk)
            }
            Event::RebuildProgress {
                volume,
                slot,
                done_sectors,
            } => self.rebuild_progress(volume, slot, done_sectors),
            Event::RebuildDone { volume, slot } => self.rebuild_done(volume, slot),
            Event::Dirty(volume) => self.dirty(volume),
            Event::Clean(volume) => self.clean(volume),
            Event::ResyncProgress {
                volume,
                done_sectors,
            } => self.resync_progress(volume, done_sectors),
            Event::ResyncDone(volume) => self.resync_done(volume),
            Event::VolumeCreated(ref spec) => self.volume_created(spec, context),
            Event::VolumeDeleted(volume) => self.volume_deleted(volume),
            Event::VolumeRenamed(volume, name) => self.volume_renamed(volume, name),
            Event::RegionsDirty {
                volume,
                first,
                count,
            } => self.regions_dirty(volume, first, count),
            Event::RegionsClean {
                volume,
                first,
                count,
            } => self.regions_clean(volume, first, count),
            Event::BadRangeAdded(range) => self.bad_range(range, true),
            Event::BadRangeCleared(range) => self.bad_range(range, false),
            Event::ScrubProgress(volume, scrub) => self.scrub_progress(volume, scrub),
            Event::CrashPolicySet(volume, policy) => self.crash_policy_set(volume, policy),
            Event::LeftLogOff { volume, is_settled } => self.left_log_off(volume, is_settled),
            // What is in the log is emptied by who writes it: there is nothing to record.
            Event::HoleLogStarted(volume) => match self.hole_log_of(volume) {
                Some(_) => Ok(()),
                None => Err(reason!(EINVAL, "volume {volume} has no log")),
            },
        }
    }
}
