// SPDX-License-Identifier: GPL-2.0

//! On-disk formats: bytes into the common model, and events into bytes.
//!
//! A format is one file or folder here and one line in [`registry`]. It is pure: it asks for byte
//! ranges and gets bytes; it is told what happened and answers with an ordered plan of writes. It
//! has no clock, no locks and no I/O, and nothing outside it knows its name.
//!
//! Everything read from a disk is hostile: every count, length, offset and LBA is checked against
//! the disk and against the limits in [`crate::model`] before use, with checked arithmetic.

#![forbid(unsafe_code)]

pub mod arrival;
pub mod asr;
pub mod bytes;
pub mod choice;
pub mod ddf;
pub mod imsm;
pub mod md;
pub mod ppl;
pub mod registry;

use crate::model::{
    Checked, Context, DiskFacts, DiskIndex, Event, HoleLog, Identity, Layout, LeftLog, Level,
    LoggedWrite, Reason, Set, Slot, Source, Text, UpdatePlan, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Most bytes that probing one disk may read, over all rounds.
pub const PROBE_BYTES_MAX: usize = 8 << 20;

/// Most rounds of reading that probing one disk may take.
pub const PROBE_ROUNDS_MAX: usize = 16;

/// Most sectors that the log of another driver may take on each member ([`MetadataSet::left_log_place`]): 32 MiB.
pub const LEFT_LOG_SECTORS_MAX: u32 = 65536;

/// A byte range of a disk that a format wants to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First sector (of 512 bytes); aligned to the disk's logical block.
    pub sector: u64,
    /// Length in sectors; a multiple of the disk's logical block.
    pub len_sectors: u32,
}

/// Bytes read from one region of a disk.
#[derive(Debug)]
pub struct Extent {
    /// The region.
    pub region: Region,
    /// Its bytes, `region.len_sectors × 512` of them. `None` when the disk could not read it.
    pub bytes: Option<KVVec<u8>>,
}

/// Everything read so far from one disk: what a format knows of it.
#[derive(Debug)]
pub struct DiskImage {
    /// The disk.
    pub facts: DiskFacts,
    /// Regions in the order in which they were asked for.
    pub extents: KVec<Extent>,
}

impl DiskImage {
    /// The bytes of `len_sectors` from `sector`, when one extent covers them.
    ///
    /// `None`: not read yet. `Some(None)`: read, and the disk returned an error.
    #[allow(clippy::option_option)]
    pub fn bytes(&self, sector: u64, len_sectors: u32) -> Option<Option<&[u8]>> {
        for extent in self.extents.iter() {
            let Some(skip) = sector.checked_sub(extent.region.sector) else {
                continue;
            };
            let Some(end) = skip.checked_add(u64::from(len_sectors)) else {
                continue;
            };
            if end > u64::from(extent.region.len_sectors) {
                continue;
            }
            let Some(bytes) = extent.bytes.as_ref() else {
                return Some(None);
            };
            let first = usize::try_from(skip).ok()?.checked_mul(512)?;
            let last = usize::try_from(end).ok()?.checked_mul(512)?;
            return Some(bytes.get(first..last));
        }
        None
    }
}

/// What a format says of a disk, given what has been read so far.
#[derive(Debug)]
pub enum Probe {
    /// Read this too, then ask again.
    Read(Region),
    /// The disk does not carry this format.
    NotMine,
    /// It carries this format but cannot be used; shown to people with the reason.
    Damaged(Reason),
    /// It belongs to the set with this identity; `generation` orders copies of it.
    Found {
        /// Set identity.
        set: Identity,
        /// Freshness: higher is newer.
        generation: u64,
    },
}

/// What can be said of images whose disks' serial numbers nobody knows ([`Format::presume`]).
#[derive(Debug)]
pub struct Presumed {
    /// For each image the serial number to take for it; empty where there is none to take.
    pub serials: KVec<Text<24>>,
    /// For each image whether there are more like it: these are the disks with these serial numbers, but which is which is
    /// not known.
    pub alike: KVec<bool>,
    /// Serial numbers of disks that work by the metadata, and that no image is taken for.
    pub left: KVec<Text<24>>,
}

impl Presumed {
    /// Nothing is known of any of `count` images.
    pub fn nothing(count: usize) -> Checked<Self> {
        let mut this = Self {
            serials: KVec::with_capacity(count, GFP_KERNEL)?,
            alike: KVec::with_capacity(count, GFP_KERNEL)?,
            left: KVec::new(),
        };
        for _ in 0..count {
            this.serials.push(Text::new(), GFP_KERNEL)?;
            this.alike.push(false, GFP_KERNEL)?;
        }
        Ok(this)
    }
}

/// What a format can express of one level.
#[derive(Clone, Copy, Debug)]
pub struct LevelCapability {
    /// The level.
    pub level: Level,
    /// Layouts, the usual one first.
    pub layouts: &'static [Layout],
    /// Fewest and most members of a span.
    pub members: (u16, u16),
}

/// What a format can express. `create` is refused by this table, so tools need none of their own.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Levels, in the order in which tables show them.
    pub levels: &'static [LevelCapability],
    /// Smallest and largest chunk in sectors; powers of two between them.
    pub chunk_sectors: (u32, u32),
    /// Usual chunk in sectors.
    pub chunk_sectors_default: u32,
    /// Most disks in a set.
    pub disks_max: u16,
    /// Most volumes in a set.
    pub volumes_max: u16,
    /// Most bytes in a volume's name.
    pub name_bytes_max: u16,
    /// Global spares are recorded.
    pub spares_global: bool,
    /// Spares for one volume are recorded.
    pub spares_dedicated: bool,
    /// How far an initialisation or a resync got is recorded.
    pub checkpoints: bool,
    /// How far a rebuild got is, too.
    pub rebuild_checkpoints: bool,
    /// Most spans of a two-level volume (RAID 50, 60); 1 when there are none.
    pub spans_max: u16,
    /// Which regions may have writes in flight is recorded ([`crate::model::RegionLog`]).
    pub region_log: bool,
    /// Bad ranges are recorded.
    pub bad_ranges: bool,
    /// Levels for which there is a place for a log of partial parity ([`crate::model::CrashPolicy::Log`]).
    pub log_levels: &'static [Level],
}

/// A mark that a user of disks leaves near their start.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Where it is.
    pub offset_bytes: usize,
    /// What it is.
    pub bytes: &'static [u8],
    /// Whose it is, as "holds" says it to people: `an XFS filesystem`.
    pub name: &'static str,
}

/// A metadata format.
pub trait Format: Sync {
    /// Short name, as people type it: `ddf`.
    fn name(&self) -> &'static str;

    /// One line for people.
    fn description(&self) -> &'static str;

    /// What it can express.
    fn capabilities(&self) -> &'static Capabilities;

    /// What its metadata shows in the first 72 KiB of a disk, valid or not: before something else is put there, or when it is
    /// inside of a volume, people hear that it was there.
    fn marks(&self) -> &'static [Mark] {
        &[]
    }

    /// Looks at what was read of a disk. Called again after each [`Probe::Read`], at most
    /// [`PROBE_ROUNDS_MAX`] times and for [`PROBE_BYTES_MAX`] bytes.
    fn probe(&self, disk: &DiskImage) -> Probe;

    /// Builds the set from all its disks that are here (at least one). Picks the freshest
    /// generation; marks stale, missing and ambiguous members instead of guessing.
    fn assemble(&self, disks: &[&DiskImage]) -> Checked<KBox<dyn MetadataSet>>;

    /// For formats that tell disks by their serial numbers: what can be said of images of one set that have none, as files
    /// do. For showing only: the kernel's disks have serial numbers, and it asks for no presumptions.
    fn presume(&self, images: &[&DiskImage]) -> Checked<Presumed> {
        Presumed::nothing(images.len())
    }

    /// Makes a new, empty set on blank `disks`. Nothing is written until the plan is carried out.
    fn create(
        &self,
        disks: &[DiskFacts],
        name: &str,
        context: &Context,
    ) -> Checked<KBox<dyn MetadataSet>>;
}

/// The metadata of one set, in memory.
///
/// `apply` changes the model and the format's buffers together and leaves the plan that brings the
/// disks to the same state. On an error nothing has changed. The caller carries the plan out before
/// it calls `apply` again; a disk that did not take all of it, once more from the phase on that it did not take.
pub trait MetadataSet: Send + Sync {
    /// The model.
    fn set(&self) -> &Set;

    /// Records an event. Does not allocate, except where [`Event`] says so.
    ///
    /// The plan may be empty when the format has nothing to write for it.
    fn apply(&mut self, event: &Event<'_>, context: &Context) -> Checked;

    /// The last plan, or a part of it, did not reach `disk`, which stays in use all the same: what is on it
    /// may be of any age, and torn. The next plan is not to build on it. `phase` is the last one in which something
    /// was sent to it, of all tries. Does not allocate. Formats whose plans write everything anew have nothing to note.
    fn missed(&mut self, _disk: DiskIndex, _phase: u16) {}

    /// A disk that some volume cannot do without does not take the plan, however often it is begun. `phase` is the last of which
    /// anything was sent to any disk; what comes after it nobody can have, and what comes before it that disk took. The plan is carried
    /// out once more now, and the others go on without it. Where it would count as old by that, and what makes it so can
    /// wait, the format takes that out of the plan, and says so: then all of the plan is another one. Does not allocate.
    fn leave_behind(&mut self, _phase: u16) -> bool {
        false
    }

    /// Whether a lost member's place is kept for `disk`, which is here, works, and does not fill it: it is back, or was before
    /// a restart, and may take the place without being asked to. For formats that say so on the disks.
    fn keeps_place(&self, _disk: DiskIndex) -> bool {
        false
    }

    /// The disk of the set that metadata on other disks, older or newer than this, calls `label`; `None` when there is none, or
    /// which it is is not certain. For formats that do not call lost disks as others they say how names belong together.
    fn disk_called(&self, label: &Text<32>) -> Option<DiskIndex> {
        let mut same = self
            .set()
            .live_disks()
            .filter(|(_, disk)| disk.label == *label);
        let disk = same.next().map(|(index, _)| index);
        disk.filter(|_| same.next().is_none())
    }

    /// Whether [`MetadataSet::disk_called`] knows each disk of the set that is lost: whom it does not know is none of the set's any more.
    fn names_lost_disks(&self) -> bool {
        true
    }

    /// Whether `disk`, which reads as failed, may just have been away: the format has one word for both, and nothing on the disk
    /// says that it went on without the others. As of the assembly.
    fn may_have_been_away(&self, disk: DiskIndex) -> bool {
        let _ = disk;
        false
    }

    /// Whether what the model has as bad on `disk` is still known after a restart, to all who may use the set then. Where it
    /// is not, a rebuild that left such a range must not be recorded as done: the range would be read as if it held data.
    fn keeps_bad_ranges(&self, disk: DiskIndex) -> bool;

    /// Whether how far a resync of `volume` got is still known after a restart. Where it is not, one after a crash stays
    /// what it is, and is not recorded as an initialisation that has come to some place.
    fn keeps_sync_mark(&self, _volume: VolumeIndex) -> bool {
        true
    }

    /// The plan of the last `apply` (or of `Format::create`).
    fn plan(&self) -> &UpdatePlan;

    /// The bytes of a planned write; empty when `source` is none of this set's.
    fn bytes(&self, source: &Source) -> &[u8];

    /// Largest volume (user-visible sectors) that `VolumeCreated` would accept on these disks, and
    /// the reason when none is.
    fn largest_volume(&self, spec: &crate::model::VolumeSpec<'_>) -> Checked<u64>;

    /// The log of partial parity of a volume whose policy is [`crate::model::CrashPolicy::Log`].
    fn hole_log(&self, _volume: VolumeIndex) -> Option<HoleLog> {
        None
    }

    /// First sector of the ring of that log on the disk of the member in `slot`, aligned to 4 KiB (a row: to blocks). `None`
    /// when there is no disk, or no place on it.
    fn hole_log_sector(&self, _volume: VolumeIndex, _slot: Slot) -> Option<u64> {
        None
    }

    /// The log that another driver keeps for a volume, when it has one. Its policy is [`crate::model::CrashPolicy::Log`] then;
    /// without a [`MetadataSet::hole_log`] it is not written to.
    fn left_log(&self, _volume: VolumeIndex) -> Option<LeftLog> {
        None
    }

    /// Where that log is on the disk of the member in `slot`: first sector and length, in whole logical blocks, at most
    /// [`LEFT_LOG_SECTORS_MAX`]. `None` when there is no disk, or no place on it.
    fn left_log_place(&self, _volume: VolumeIndex, _slot: Slot) -> Option<(u64, u32)> {
        None
    }

    /// Adds the writes that the log of the member in `slot` tells of to `writes`. `bytes` are what its place has.
    /// False when it is not all there. Allocates.
    fn read_left_log(
        &self,
        _volume: VolumeIndex,
        _slot: Slot,
        _bytes: &[u8],
        _writes: &mut KVVec<LoggedWrite>,
    ) -> Result<bool> {
        Ok(false)
    }
}

/// Why a format in which a disk is in one volume takes no [`Event::DiskReinstated`]: nothing records the loss of a disk that
/// its only volume cannot do without.
pub(crate) fn never_lost() -> Reason {
    reason!(
        EOPNOTSUPP,
        "the format calls no member of a volume without redundancy lost"
    )
}

/// Refuses a volume that is to have a log of regions (`wanted`, [`crate::model::VolumeSpec::regions`]), where neither level nor
/// format can: `EOPNOTSUPP`. `name` is the format's, for people. That a format can does not say that each set of it can.
pub fn check_region_log(
    name: &str,
    capabilities: &Capabilities,
    level: Level,
    wanted: Option<bool>,
) -> Checked {
    if wanted != Some(true) {
        return Ok(());
    }
    if !level.is_redundant() {
        return Err(reason!(
            EOPNOTSUPP,
            "no log of regions for {level}: it has no redundancy that would be resynced"
        ));
    }
    if !capabilities.region_log {
        return Err(reason!(
            EOPNOTSUPP,
            "{name} has no place for a log of the regions that are being written"
        ));
    }
    Ok(())
}

/// [`MetadataSet::largest_volume`] of a format whose `draft` checks a specification and gives the size, in sectors, that
/// it comes to: with 0 asked for, the largest.
pub(crate) fn largest_of(
    spec: &crate::model::VolumeSpec<'_>,
    draft: impl Fn(&crate::model::VolumeSpec<'_>) -> Checked<u64>,
) -> Checked<u64> {
    let largest = draft(&crate::model::VolumeSpec {
        size_sectors: 0,
        ..*spec
    })?;
    // What is refused is refused here, before a new set is written.
    if spec.size_sectors <= largest {
        draft(spec)?;
    }
    Ok(largest)
}
