// SPDX-License-Identifier: GPL-2.0

//! SNIA Common RAID Disk Data Format, 1.0, 1.2 and 2.0: the format of LSI, Dell, Marvell and Adaptec
//! firmware, of mdadm and of FreeBSD's graid. `docs/formats/ddf.md` has the facts.
//!
//! | file | subject |
//! |---|---|
//! | `layout` | signatures, field offsets, the checked section layout |
//! | `crc` | the checksum and its three conventions |
//! | `header` | anchor, primary, secondary header |
//! | `tables` | physical and virtual disk table, disk data, bad block log |
//! | `config` | configuration records of volumes and spares |
//! | `probe` | finding DDF on a disk, choosing the better copy |
//! | `assemble`, `generation` | disks of a group to a set; which state counts, who is too old for it |
//! | `read_volumes`, `judge` | records to volumes, and what may be done with them |
//! | `model` | levels, states and sizes in DDF's words and the model's |
//! | `move_in` | the last part of assembly: buffers, newest records, what each copy lacks |
//! | `set`, `home` | the metadata of a set, and of a disk, in memory |
//! | `twins` | disks that have several entries |
//! | `disks`, `spares`, `volumes`, `sync` | events about disks, spares, volumes, redundancy |
//! | `draft`, `space` | what a new volume would be, and where its members fit |
//! | `plan` | the order of writes |
//! | `hole` | where the log of partial parity is, and for whom |
//! | `vendor_log` | EMD's own records in the vendor log: marks, regions, bad ranges |
//! | `log_read`, `log_events`, `log_plan` | these records to the model, events to these records, their writes |
//! | `create` | new sets and new disks |

// Functions marked `#[inline(never)]` here are so to keep the kernel stack small: one big frame at a time.

pub mod assemble;
pub mod config;
pub mod crc;
pub mod create;
mod disks;
mod draft;
mod generation;
pub mod header;
pub mod hole;
pub mod home;
mod judge;
pub mod layout;
mod log_events;
mod log_place;
mod log_plan;
mod log_read;
pub mod model;
mod move_in;
pub mod plan;
pub mod probe;
mod read_volumes;
pub mod set;
mod space;
pub mod spares;
mod sync;
pub mod tables;
mod twins;
pub mod vendor_log;
mod volumes;

use super::bytes::Endian;
use super::{Capabilities, DiskImage, Format, LevelCapability, MetadataSet, Probe};
use crate::model::{
    Checked, Context, DiskFacts, DiskIndex, Event, HoleLog, Layout, Level, Rotation, Set, Slot,
    Source, UpdatePlan, VolumeIndex, VolumeSpec,
};
use crate::reason;
use kernel::prelude::*;
pub use set::DdfSet;

/// The format.
pub struct Ddf;

/// Most spans of a two-level volume.
const SPANS_MAX: u16 = 16;

macro_rules! level {
    ($level:ident, $least:literal..=$most:literal, [$($layout:expr),+]) => {
        LevelCapability {
            level: Level::$level,
            layouts: &[$($layout),+],
            members: ($least, $most),
        }
    };
}

pub(crate) static CAPABILITIES: Capabilities = Capabilities {
    levels: &[
        level!(Concat, 1..=64, [Layout::Plain]),
        level!(Raid0, 1..=64, [Layout::Plain]),
        level!(Raid1, 2..=64, [Layout::Plain]),
        level!(Raid1e, 3..=64, [Layout::Near(2), Layout::Offset(2)]),
        level!(Raid10, 4..=64, [Layout::Near(2), Layout::Near(3)]),
        level!(
            Raid4,
            3..=64,
            [
                Layout::Parity(Rotation::ParityLast),
                Layout::Parity(Rotation::ParityFirst)
            ]
        ),
        level!(
            Raid5,
            3..=64,
            [
                Layout::Parity(Rotation::LeftSymmetric),
                Layout::Parity(Rotation::LeftAsymmetric),
                Layout::Parity(Rotation::RightAsymmetric),
                Layout::Parity(Rotation::RightSymmetric)
            ]
        ),
        level!(
            Raid6,
            4..=64,
            [
                Layout::Parity(Rotation::DdfNContinue),
                Layout::Parity(Rotation::DdfNRestart),
                Layout::Parity(Rotation::DdfZeroRestart)
            ]
        ),
    ],
    chunk_sectors: (1, 1 << model::STRIP_MAX),
    chunk_sectors_default: draft::CHUNK_SECTORS_DEFAULT,
    disks_max: 256,
    volumes_max: 128,
    name_bytes_max: 16,
    spares_global: true,
    spares_dedicated: true,
    checkpoints: true,
    rebuild_checkpoints: true,
    spans_max: SPANS_MAX,
    region_log: true,
    bad_ranges: true,
    log_levels: &[Level::Raid4, Level::Raid5, Level::Raid6],
};

impl Ddf {
    /// [`Format::assemble`], with the type that shows more than the trait.
    pub fn open(disks: &[&DiskImage]) -> Checked<KBox<DdfSet>> {
        assemble::assemble(disks)
    }
}

impl Format for Ddf {
    fn name(&self) -> &'static str {
        "ddf"
    }

    fn description(&self) -> &'static str {
        "SNIA Common RAID Disk Data Format (LSI, Dell, Adaptec, Marvell, graid, mdadm but for 1E offset)"
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

impl MetadataSet for DdfSet {
    fn set(&self) -> &Set {
        &self.set
    }

    fn apply(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        self.plan.clear();
        self.leaving = None;
        self.touched = set::Touched::default();
        self.check_frozen(event)?;
        self.dispatch(event, context)?;
        self.finish(context)
    }

    fn missed(&mut self, disk: DiskIndex, _phase: u16) {
        if let Some(home) = self.home_mut(disk) {
            // All blocks are to be written.
            for map in home.dirty.iter_mut() {
                map.fill(u64::MAX);
            }
        }
    }

    fn keeps_sync_mark(&self, volume: VolumeIndex) -> bool {
        let meta = self.volume_meta(volume);
        meta.is_some_and(|meta| meta.log_slot.is_some())
    }

    fn keeps_bad_ranges(&self, disk: DiskIndex) -> bool {
        self.has_recorded_bad_ranges(disk)
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
        self.hole_ring_sector(volume, slot)
    }
}

impl DdfSet {
    /// On a set whose tables cannot be trusted, or of which one disk is here twice, nothing is written;
    /// losses are followed in memory.
    fn check_frozen(&self, event: &Event<'_>) -> Checked {
        let harmless = matches!(
            event,
            Event::DiskFailed(_)
                | Event::DiskMissing(_)
                | Event::RebuildProgress { .. }
                | Event::BadRangeAdded(_)
                | Event::BadRangeCleared(_)
        );
        if self.frozen && !harmless {
            return Err(reason!(
                EROFS,
                "nothing is written to this set: its tables have wrong checksums, or a disk is there twice"
            ));
        }
        Ok(())
    }

    fn dispatch(&mut self, event: &Event<'_>, context: &Context) -> Checked {
        match *event {
            Event::DiskFailed(disk) => self.disk_failed(disk),
            Event::DiskMissing(disk) => self.disk_missing(disk),
            Event::DiskAdded(ref offer) => self.disk_added(offer, context),
            Event::DiskReturned(disk, ref facts) => self.disk_returned(disk, facts, context),
            Event::DiskReinstated(disk, ref facts) => self.disk_reinstated(disk, facts, context),
            Event::DiskRemoved(disk) => self.disk_removed(disk, context),
            Event::SpareAssigned(disk, role) => self.spare_assigned(disk, role, context),
            Event::SpareActivated { volume, slot, disk } => {
                self.spare_activated(volume, slot, disk, context)
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
            } => self.mark_regions(volume, first, count, true),
            Event::RegionsClean {
                volume,
                first,
                count,
            } => self.mark_regions(volume, first, count, false),
            Event::BadRangeAdded(range) => self.bad_range_added(range),
            Event::BadRangeCleared(range) => self.bad_range_cleared(range),
            Event::CrashPolicySet(volume, policy) => self.crash_policy_set(volume, policy),
            Event::ScrubProgress(volume, scrub) => self.scrub_progress(volume, scrub),
            Event::HoleLogStarted(volume) => self.hole_log_started(volume, context),
            Event::LeftLogOff { .. } => {
                Err(reason!(EINVAL, "the volume has no log of another driver"))
            }
        }
    }
}

/// Whether the controller data names an Adaptec controller.
pub(crate) fn is_adaptec(controller: Option<&[u8]>, endian: Endian) -> bool {
    controller.is_some_and(|bytes| {
        layout::get32(endian, bytes, 0) == layout::signature::CONTROLLER
            && layout::get16(endian, bytes, 0x20) == 0x9005
    })
}
