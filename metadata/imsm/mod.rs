// SPDX-License-Identifier: GPL-2.0

//! Intel Matrix Storage / Rapid Storage / VROC metadata ("IMSM", "isw"), as Intel's firmware, its drivers
//! and mdadm write it. `docs/formats/imsm.md` has the facts.
//!
//! | file | subject |
//! |---|---|
//! | `layout` | signature, field offsets, bits; the checked view of an MPB |
//! | `mpb` | an MPB that can be changed |
//! | `serial` | serial numbers, and those of failed disks |
//! | `units` | checkpoints in sectors |
//! | `model` | levels, states and sizes in IMSM's words and the model's |
//! | `probe` | finding an MPB on a disk |
//! | `assemble`, `read_volumes` | disks of a family to a set; volumes, and what may be done with them |
//! | `left_log` | the partial parity log: where it is, and how it is taken off |
//! | `reshape` | volumes that mdadm or the firmware is reshaping: what lies where |
//! | `room` | what lies where on the disks, and how far the MPB may grow |
//! | `set` | the metadata of a set in memory |
//! | `disks`, `losses` | events about disks that join, and that go |
//! | `volumes`, `sync`, `bad_log` | events about volumes, redundancy, bad blocks |
//! | `states` | what a volume's maps say, from the model |
//! | `plan` | the order of writes |
//! | `create` | new sets |

// Functions marked `#[inline(never)]` here are so to keep the kernel stack small: one big frame at a time.

pub mod assemble;
mod bad_log;
pub mod create;
mod disks;
pub mod layout;
mod left_log;
mod losses;
pub mod model;
pub mod mpb;
pub mod plan;
mod presume;
pub mod probe;
mod read_volumes;
pub mod reshape;
mod room;
pub mod serial;
pub mod set;
mod states;
mod sync;
pub mod units;
mod volumes;

use super::{Capabilities, DiskImage, Format, LevelCapability, MetadataSet, Presumed, Probe};
use crate::model::{
    Checked, Context, DiskFacts, DiskIndex, Event, HoleLog, Layout, LeftLog, Level, LoggedWrite,
    Rotation, Set, Slot, Source, Text, UpdatePlan, VolumeIndex, VolumeSpec,
};
use crate::reason;
use kernel::prelude::*;
pub use set::ImsmSet;

/// The format.
pub struct Imsm;

pub(crate) static CAPABILITIES: Capabilities = Capabilities {
    levels: &[
        LevelCapability {
            level: Level::Raid0,
            layouts: &[Layout::Plain],
            members: (2, 16),
        },
        LevelCapability {
            level: Level::Raid1,
            layouts: &[Layout::Plain],
            members: (2, 2),
        },
        LevelCapability {
            level: Level::Raid10,
            layouts: &[Layout::Near(2)],
            // An even number.
            members: (4, 16),
        },
        LevelCapability {
            level: Level::Raid5,
            layouts: &[Layout::Parity(Rotation::LeftAsymmetric)],
            members: (3, 16),
        },
    ],
    chunk_sectors: (volumes::CHUNK_SECTORS_MIN, volumes::CHUNK_SECTORS_MAX),
    chunk_sectors_default: volumes::CHUNK_SECTORS_DEFAULT,
    disks_max: 255,
    volumes_max: layout::VOLUMES_MADE_MAX as u16,
    name_bytes_max: layout::TEXT_BYTES as u16,
    spares_global: true,
    spares_dedicated: false,
    checkpoints: true,
    rebuild_checkpoints: true,
    spans_max: 1,
    region_log: false,
    bad_ranges: true,
    log_levels: &[Level::Raid5],
};

impl Imsm {
    /// [`Format::assemble`], with the type that shows more than the trait.
    pub fn open(disks: &[&DiskImage]) -> Checked<KBox<ImsmSet>> {
        assemble::assemble(disks)
    }
}

impl Format for Imsm {
    fn name(&self) -> &'static str {
        "imsm"
    }

    fn description(&self) -> &'static str {
        "Intel Matrix Storage, Rapid Storage, VROC (firmware RAID, mdadm)"
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

    fn presume(&self, images: &[&DiskImage]) -> Checked<Presumed> {
        presume::presume(images)
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

impl MetadataSet for ImsmSet {
    fn set(&self) -> &Set {
        &self.set
    }

    fn apply(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        self.plan.clear();
        self.leaving = None;
        self.changed = false;
        self.check_frozen(event)?;
        self.dispatch(event, context)?;
        self.finish(context)
    }

    fn missed(&mut self, disk: DiskIndex, _phase: u16) {
        let meta = self.disks.get_mut(usize::from(disk));
        if let Some(home) = meta.and_then(|meta| meta.home.as_mut()) {
            home.synced = false;
        }
    }

    fn keeps_place(&self, disk: DiskIndex) -> bool {
        self.has_kept_place(disk)
    }

    fn disk_called(&self, label: &Text<32>) -> Option<DiskIndex> {
        self.disk_with_label(label)
    }

    fn keeps_bad_ranges(&self, disk: DiskIndex) -> bool {
        self.entry(disk).is_some()
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

impl ImsmSet {
    /// On a set that cannot be trusted, or that is being reshaped, nothing is written; losses are
    /// followed in memory.
    fn check_frozen(&self, event: &Event<'_>) -> Checked {
        let harmless = matches!(
            event,
            Event::DiskFailed(_) | Event::DiskMissing(_) | Event::RebuildProgress { .. }
        );
        match self.frozen {
            Some(why) if !harmless => Err(reason!(EROFS, "nothing is written: {}", why.text())),
            _ => Ok(()),
        }
    }

    fn dispatch(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        match *event {
            Event::DiskFailed(disk) => self.disk_lost(disk, false),
            Event::DiskMissing(disk) => self.disk_lost(disk, true),
            Event::DiskAdded(ref offer) => self.disk_added(offer, context),
            Event::DiskReturned(disk, ref facts) => self.disk_returned(disk, facts, context),
            Event::DiskReinstated(disk, ref facts) => self.disk_reinstated(disk, facts, context),
            Event::DiskRemoved(disk) => self.disk_removed(disk),
            Event::SpareAssigned(disk, role) => self.spare_assigned(disk, role),
            Event::SpareActivated { volume, slot, disk } => {
                self.spare_activated(volume, slot, disk, context)
            }
            Event::RebuildProgress {
                volume,
                slot,
                done_sectors,
            } => self.rebuild_progress(volume, slot, done_sectors),
            Event::RebuildDone { volume, slot } => self.rebuild_done(volume, slot),
            Event::Dirty(volume) => self.set_in_flight(volume, true),
            Event::Clean(volume) => self.set_in_flight(volume, false),
            Event::ResyncProgress {
                volume,
                done_sectors,
            } => self.resync_progress(volume, done_sectors),
            Event::ResyncDone(volume) => self.resync_done(volume),
            Event::VolumeCreated(ref spec) => self.volume_created(spec, context),
            Event::VolumeDeleted(volume) => self.volume_deleted(volume, context),
            Event::VolumeRenamed(volume, name) => self.volume_renamed(volume, name),
            Event::RegionsDirty { .. } | Event::RegionsClean { .. } => Err(reason!(
                EOPNOTSUPP,
                "EMD keeps no record of regions in Intel metadata"
            )),
            Event::BadRangeAdded(range) => self.bad_range_added(range),
            Event::BadRangeCleared(range) => self.bad_range_cleared(range),
            Event::ScrubProgress(volume, scrub) => self.scrub_progress(volume, scrub),
            Event::LeftLogOff { volume, is_settled } => self.left_log_off(volume, is_settled),
            Event::CrashPolicySet(volume, policy) => self.crash_policy_set(volume, policy),
            // It is emptied; there is nothing to record.
            Event::HoleLogStarted(volume) => match self.hole_log_of(volume) {
                Some(_) => Ok(()),
                None => Err(reason!(EINVAL, "volume {volume} has no log")),
            },
        }
    }
}
