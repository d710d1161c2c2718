// SPDX-License-Identifier: GPL-2.0

//! Adaptec HostRAID (ASR): the format of Adaptec's a320raid and SATA HostRAID controllers, of DPT's
//! before them, and of the EMD of 2004. `docs/formats/asr.md` has the facts.
//!
//! | file | subject |
//! |---|---|
//! | `layout` | signatures, field offsets, the line |
//! | `table` | a table in memory: lines in and out, members in order, sums |
//! | `probe` | finding the format on a disk; which set a disk is of |
//! | `assemble` | disks to a set: whose table counts, stale and doubtful disks |
//! | `read_volumes` | lines to volumes, and what may be done with them |
//! | `marks` | what all tables together say of how far things got |
//! | `set` | the metadata of a set in memory |
//! | `disks`, `volumes`, `sync` | events about disks, volumes, redundancy |
//! | `scrub_mark` | how far a check or repair got |
//! | `plan` | the order of writes |
//! | `create` | new sets and new disks |

// Functions marked `#[inline(never)]` here are so to keep the kernel stack small: one big frame at a time.

pub mod assemble;
pub mod create;
mod disks;
pub mod layout;
mod marks;
mod plan;
pub mod probe;
mod read_volumes;
mod scrub_mark;
pub mod set;
mod sync;
pub mod table;
mod volumes;

use super::{Capabilities, DiskImage, Format, LevelCapability, MetadataSet, Probe};
use crate::model::{
    Checked, Context, CrashPolicy, DiskFacts, DiskIndex, Event, Layout, Level, Set, Source,
    UpdatePlan, VolumeSpec,
};
use crate::reason;
use kernel::prelude::*;
pub use set::AsrSet;

/// The format.
pub struct Asr;

/// Most disks of a set: with a line for every disk and a mirror for every two of them, there is still
/// room in the half of a table's place that EMD writes ([`layout::LINES_WRITTEN_MAX`]).
pub const SET_DISKS_MAX: u16 = 40;

pub(crate) static CAPABILITIES: Capabilities = Capabilities {
    levels: &[
        LevelCapability {
            level: Level::Raid0,
            layouts: &[Layout::Plain],
            members: (2, SET_DISKS_MAX),
        },
        LevelCapability {
            level: Level::Raid1,
            layouts: &[Layout::Plain],
            members: (2, 2),
        },
        LevelCapability {
            level: Level::Raid10,
            layouts: &[Layout::Near(2)],
            members: (4, SET_DISKS_MAX),
        },
    ],
    chunk_sectors: (volumes::CHUNK_SECTORS_MIN, volumes::CHUNK_SECTORS_MAX),
    chunk_sectors_default: volumes::CHUNK_SECTORS_DEFAULT,
    disks_max: SET_DISKS_MAX,
    volumes_max: SET_DISKS_MAX / 2,
    name_bytes_max: layout::NAME_BYTES as u16,
    spares_global: true,
    spares_dedicated: true,
    checkpoints: true,
    rebuild_checkpoints: true,
    spans_max: 1,
    region_log: false,
    bad_ranges: false,
    log_levels: &[],
};

impl Asr {
    /// [`Format::assemble`], with the type that shows more than the trait.
    pub fn open(disks: &[&DiskImage]) -> Checked<KBox<AsrSet>> {
        assemble::assemble(disks)
    }
}

impl Format for Asr {
    fn name(&self) -> &'static str {
        "asr"
    }

    fn description(&self) -> &'static str {
        "Adaptec HostRAID (a320raid, SATA HostRAID, ICH HostRAID; dmraid's asr)"
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn probe(&self, disk: &DiskImage) -> Probe {
        probe::probe(disk)
    }

    fn assemble(&self, disks: &[&DiskImage]) -> Checked<KBox<dyn MetadataSet>> {
        Ok(Self::open(disks)?)
    }

    fn create(
        &self,
        disks: &[DiskFacts],
        name: &str,
        context: &Context,
    ) -> Checked<KBox<dyn MetadataSet>> {
        Ok(create::create(disks, name, context)?)
    }
}

impl MetadataSet for AsrSet {
    fn set(&self) -> &Set {
        &self.set
    }

    fn may_have_been_away(&self, disk: DiskIndex) -> bool {
        self.disk_meta(disk).is_some_and(|meta| meta.was_away)
    }

    fn apply(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        self.plan.clear();
        self.leaving = None;
        self.touched = set::Touched::Nothing;
        self.check_frozen(event)?;
        self.dispatch(event, context)?;
        self.finish(context)
    }

    fn missed(&mut self, disk: DiskIndex, phase: u16) {
        let live = self.live_after(disk, phase);
        let meta = self.disks.get_mut(usize::from(disk));
        if let Some(home) = meta.and_then(|meta| meta.home.as_mut()) {
            home.unsure = true;
            home.live = live.unwrap_or(home.live);
        }
    }

    fn keeps_bad_ranges(&self, _disk: DiskIndex) -> bool {
        false
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
}

impl AsrSet {
    /// Where nothing is written, losses are followed in memory. Spares of no set can be taken out.
    fn check_frozen(&self, event: &Event<'_>) -> Checked {
        let harmless = matches!(
            event,
            Event::DiskFailed(_) | Event::DiskMissing(_) | Event::RebuildProgress { .. }
        ) || matches!(event, Event::DiskRemoved(_)) && self.id == layout::NO_MAGIC;
        match self.frozen {
            Some(why) if !harmless => Err(reason!(EROFS, "nothing is written to this set: {why}")),
            _ => Ok(()),
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
            Event::RegionsDirty { .. } | Event::RegionsClean { .. } => Err(reason!(
                EOPNOTSUPP,
                "ASR has no place for which regions are being written"
            )),
            Event::BadRangeAdded(range) => self.set.add_bad_range(range),
            Event::BadRangeCleared(range) => self.set.clear_bad_range(range),
            Event::ScrubProgress(volume, scrub) => self.scrub_progress(volume, scrub),
            Event::CrashPolicySet(_, CrashPolicy::Resync) => Ok(()),
            Event::CrashPolicySet(..) | Event::HoleLogStarted(_) | Event::LeftLogOff { .. } => {
                Err(reason!(
                    EOPNOTSUPP,
                    "EMD has no place for its log in Adaptec metadata"
                ))
            }
        }
    }
}
