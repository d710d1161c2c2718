// SPDX-License-Identifier: GPL-2.0

//! The shared model: what a set of disks, its volumes and their states are, in no format's words.
//!
//! Formats (`metadata/`) turn bytes into this model and back; levels (`personalities/`) take its
//! [`Shape`]; the shell (the rest of `src/`) acts on it; `emdadm` prints it. It is pure: no unsafe,
//! no I/O, no clock. It is compiled into the module and into the host tests from these same files.
//!
//! Units: every `_sectors` and every LBA in the model counts sectors of 512 bytes, whatever the
//! logical block size of a disk. Formats convert.

#![forbid(unsafe_code)]

pub mod alloc;
pub mod disk_mask;
pub mod event;
pub mod hole;
pub mod moves;
pub mod plan;
pub mod set;
pub mod shape;
pub mod task;
pub mod text;

pub use disk_mask::DiskMask;
pub use event::{Context, DiskOffer, Event, SpareRole, VolumeSpec};
pub use hole::{CrashPolicy, EncodeHeader, HoleLog, LeftLog, LogRow, LoggedWrite};
pub use moves::Moves;
pub use plan::{PlanWrite, Source, UpdatePlan};
pub use set::{
    note, Access, BadRange, Consistency, Disk, DiskFacts, DiskRole, DiskState, Identity, Member,
    MemberState, RegionLog, Scrub, Set, Stretch, Volume,
};
pub use shape::{Layout, Level, Rotation, Shape};
pub use task::TaskKind;
pub use text::{Checked, Reason, Text};

/// Bytes in a sector of the model.
pub const SECTOR_BYTES: usize = 512;

/// Most members (over all spans) that a volume may have. Member masks are `u64`.
pub const MEMBERS_MAX: usize = 64;

/// Most disks in one set.
pub const DISKS_MAX: usize = 256;

/// Most volumes in one set.
pub const VOLUMES_MAX: usize = 128;

/// Most bad ranges of a set; more bad places on a disk than that, and it is better replaced.
pub const BAD_RANGES_MAX: usize = 1024;

/// Index of a disk in [`Set::disks`]. Stable while the set lives: a removed disk leaves its entry
/// behind with [`DiskState::Removed`].
pub type DiskIndex = u16;

/// Index of a volume in [`Set::volumes`]. Stable while the set lives: a deleted volume leaves its
/// entry behind with [`Volume::deleted`] set.
pub type VolumeIndex = u16;

/// Index of a member in [`Volume::members`] (raid-disk order: `span × members_per_span + position`).
pub type Slot = u16;
