// SPDX-License-Identifier: GPL-2.0

//! The metadata of one array in memory.
//!
//! Superblocks are kept as the bytes that were read, one for each disk that is written to (its
//! *home*), and edited in place, so that what is not understood survives. The bitmap is the same on
//! all members and is kept once.

use super::super::bytes::slice;
use super::head::{Head, Stretch};
use super::layout::*;
use super::rounds::Rounds;
use super::words;
use crate::model::{
    Access, Checked, DiskIndex, DiskState, MemberState, Reason, Set, Slot, Source, UpdatePlan,
    Volume, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Buffer numbers of [`Source::buffer`].
pub mod buffer {
    /// Zeros, as long as a superblock's room.
    pub const ZEROS: u32 = 0;
    /// The bitmap.
    pub const BITMAP: u32 = 1;
    /// The start of an empty partial parity log.
    pub const LOG_HEAD: u32 = 2;
    /// First buffer of disk 0; each disk has [`PER_DISK`] of them.
    pub const FIRST_DISK: u32 = 8;
    /// Buffers of a disk.
    pub const PER_DISK: u32 = 2;
    /// Of a disk: its superblock, in all its images ([`super::image`]).
    pub const SUPER: u32 = 0;
    /// Of a disk: its bad-block log, twice (as it was, as it is to be).
    pub const LOG: u32 = 1;
}

/// The images of a superblock.
pub mod image {
    /// What is on the disk before the plan.
    pub const OLD: usize = 0;
    /// What is written first, when it is written more than once.
    pub const STEP: usize = 1;
    /// What is written next, when it is written three times.
    pub const SECOND: usize = 2;
    /// What is on the disk after the plan.
    pub const NEW: usize = 3;
    /// Images.
    pub const COUNT: usize = 4;
}

/// A disk that is written to.
#[derive(Debug)]
pub struct Home {
    /// Sector of the superblock.
    pub sector: u64,
    /// The superblock, [`image::COUNT`] times.
    pub images: KVVec<u8>,
    /// Logical block of the disk.
    pub block_bytes: u32,
    /// First sector of data.
    pub data_offset: u64,
    /// Sectors for data.
    pub data_size: u64,
    /// Where the bitmap goes.
    pub bitmap: Option<u64>,
    /// Where the bad-block log goes.
    pub log: Option<Stretch>,
    /// Unit of the log.
    pub log_shift: u8,
    /// The log, twice.
    pub logs: KVVec<u8>,
    /// Entries of the log in use.
    pub log_used: usize,
    /// The recovery fields are left as they were read: it is a journal.
    pub keep_recovery: bool,
    /// The disk has nothing of this array's yet.
    pub fresh: bool,
    /// Written before all others.
    pub first: bool,
    /// Its own superblock changes, whatever the others do.
    pub touched: bool,
    /// It is not to be recovered by the bitmap any more, and its superblock says so before any bit is cleared.
    pub ends_recovery: bool,
    /// Its bad-block log changes.
    pub log_touched: bool,
    /// It lacks the bitmap, or has another one.
    pub bitmap_whole: bool,
    /// The last plan, or a part of it, did not reach it.
    pub missed: bool,
    /// What is on the disk may be of any age, and torn: the current plan writes all of it.
    pub unsure: bool,
    /// Of that the superblock may be torn, and its copy (0.90) is whole; else it is the other way round.
    pub only_copy: bool,
    /// Where its partial parity log is.
    pub left_log: Option<Stretch>,
}

impl Home {
    /// One of the images.
    pub fn image(&self, which: usize) -> &[u8] {
        slice(&self.images, which * SUPER_BYTES, SUPER_BYTES).unwrap_or(&[])
    }

    /// One of the images, to be changed.
    pub fn image_mut(&mut self, which: usize) -> &mut [u8] {
        self.images
            .chunks_exact_mut(SUPER_BYTES)
            .nth(which)
            .unwrap_or(&mut [])
    }

    /// Makes one image a copy of another.
    pub fn copy_image(&mut self, from: usize, to: usize) {
        let from = from * SUPER_BYTES;
        let inside = from + SUPER_BYTES <= self.images.len();
        if inside && (to + 1) * SUPER_BYTES <= self.images.len() {
            self.images
                .copy_within(from..from + SUPER_BYTES, to * SUPER_BYTES);
        }
    }

    /// Whether its superblock says that it is to be recovered by the bitmap. (0.90 has no such thing.)
    pub fn goes_by_bitmap(&self, version: Version) -> bool {
        let features = get32(self.image(image::OLD), v1::FEATURES);
        version != Version::V090 && features & feature::RECOVERY_BITMAP != 0
    }

    /// The log as it is to be.
    pub fn log_new(&mut self) -> &mut [u8] {
        let half = self.logs.len() / 2;
        self.logs.get_mut(half..).unwrap_or(&mut [])
    }
}

/// What the format knows of a disk beyond the model. Parallel to `Set::disks`.
#[derive(Debug)]
pub struct Meta {
    /// Its number in the array.
    pub number: u32,
    /// Sector of its superblock, when it is present and has one.
    pub sector: Option<u64>,
    /// Its role is left as it is: it is a journal, or its loss is not recorded.
    pub keep_role: bool,
    /// It was used apart from the others: what it holds is nowhere else.
    pub apart: bool,
    /// Of a 0.90 descriptor: major, minor, and state bits that are not understood.
    pub device: [u32; 3],
    /// What is written to it, when it is.
    pub home: Option<Home>,
}

/// The bitmap.
#[derive(Debug)]
pub struct Bitmap {
    /// Superblock and bits, in whole blocks of 4 KiB (or of the disk).
    pub bytes: KVVec<u8>,
    /// Sectors of a region.
    pub region_sectors: u64,
    /// Regions.
    pub regions: u32,
}

/// What the current event has changed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Touched {
    /// All superblocks are to be written, with the next event count.
    pub all: bool,
    /// This disk goes, and was here until now: it has no more events than are known.
    pub leaves: Option<DiskIndex>,
    /// Bytes of the bitmap: first and last.
    pub bits: Option<(usize, usize)>,
    /// Bits are cleared, and there are members that are to be recovered by the bitmap: before that, all of each of those is.
    pub recoveries: bool,
    /// The bitmap's superblock goes before its bits.
    pub bitmap_head_first: bool,
    /// Superblocks are to be erased on all disks that are here: those of this array, which is deleted.
    pub deleted: Option<VolumeIndex>,
    /// Partial parity logs are to be emptied, on all disks that are written to.
    pub log_heads: bool,
    /// The superblock of this disk is to be erased: disk and sector.
    pub leaving: Option<(DiskIndex, u64)>,
    /// The events that the change takes.
    pub rounds: Rounds,
}

/// The metadata of one array.
#[derive(Debug)]
pub struct MdSet {
    /// The model.
    pub set: Set,
    /// The plan of the last event.
    pub plan: UpdatePlan,
    /// Kind and place of superblocks.
    pub version: Version,
    /// The newest superblock; of a set without a volume, what its first one will say.
    pub head: Head,
    /// The array's name as it is on the disks.
    pub name: [u8; 32],
    /// Writes may be in flight.
    pub in_flight: bool,
    /// Nothing is written, because …
    pub frozen: Option<Reason>,
    /// It has a partial parity log; if nothing is written, it is because of that, and of nothing else.
    pub left_log: bool,
    /// How long the log of each member is; 0 where it is not kept up.
    pub row_sectors: u32,
    /// The start of an empty log.
    pub log_head: KVVec<u8>,
    /// The bitmap.
    pub bitmap: Option<Bitmap>,
    /// Zeros.
    pub zeros: KVVec<u8>,
    /// Disks, parallel to the model's.
    pub disks: KVec<Meta>,
    /// What the current event has changed.
    pub touched: Touched,
    /// A spare that the newest superblock lists is not here. 0.90 lists those so that are being filled: by its own
    /// superblock it may be a member by now, and has to be old before anything is written without it.
    pub lacks_spare: bool,
    /// The update that took a lost member out may have been cut: before anything is written without it, it has to be two events
    /// behind. It has at most so many, as all members knew of its loss when the set was read, and one had no more; all ones,
    /// if there was one that did not know.
    pub owes_events: Option<u64>,
}

impl MdSet {
    /// What the format knows of a disk.
    pub fn meta(&self, disk: DiskIndex) -> Option<&Meta> {
        self.disks.get(usize::from(disk))
    }

    /// What is written to a disk.
    pub fn home(&self, disk: DiskIndex) -> Option<&Home> {
        self.meta(disk)?.home.as_ref()
    }

    /// What is written to a disk, to be changed.
    pub fn home_mut(&mut self, disk: DiskIndex) -> Option<&mut Home> {
        self.disks.get_mut(usize::from(disk))?.home.as_mut()
    }

    /// The array, when there is one.
    pub fn array(&self) -> Option<&Volume> {
        self.set.live_volumes().next().map(|(_, volume)| volume)
    }

    /// The array, to be changed.
    pub fn array_mut(&mut self) -> Option<&mut Volume> {
        self.set.volumes.iter_mut().find(|volume| !volume.deleted)
    }

    /// The array, called `volume`.
    pub fn live_volume(&self, volume: VolumeIndex) -> Checked<&Volume> {
        let model = self
            .set
            .volume(volume)
            .ok_or_else(|| reason!(ENOENT, "the set has no volume {volume}"))?;
        match &model.access {
            Access::Refused(why) => Err(reason!(EACCES, "volume {volume}: {}", why.text())),
            _ => Ok(model),
        }
    }

    /// Whether all data is there.
    pub fn bears(&self) -> bool {
        self.array()
            .is_none_or(|volume| words::bears(&volume.shape, &volume.members))
    }

    /// Refuses what would change an array that is not all there: members that are away would count
    /// as old when they are back.
    pub fn check_whole(&self) -> Checked {
        if !self.bears() {
            return Err(reason!(
                EIO,
                "more members are lost than the array bears: nothing is recorded until they are back"
            ));
        }
        Ok(())
    }

    /// The slot that a disk has in the array.
    pub fn slot_of(&self, disk: DiskIndex) -> Option<(Slot, MemberState)> {
        self.set
            .memberships(disk)
            .next()
            .map(|(_, slot, member)| (slot, member.state))
    }

    /// Whether a disk keeps the bitmap.
    pub fn keeps_bitmap(&self, disk: DiskIndex) -> bool {
        let active = matches!(
            self.slot_of(disk),
            Some((_, MemberState::InSync | MemberState::Rebuilding { .. }))
        );
        active && self.home(disk).is_some_and(|home| home.bitmap.is_some())
    }

    /// A disk of the model that is present, working and written to.
    pub fn usable_disk(&self, disk: DiskIndex) -> Checked<&Home> {
        let model = self
            .set
            .disk(disk)
            .ok_or_else(|| reason!(ENODEV, "the set has no disk {disk}"))?;
        match (model.state, model.facts, self.home(disk)) {
            (DiskState::Online, Some(_), Some(home)) => Ok(home),
            _ => Err(reason!(
                ENODEV,
                "disk {disk} ({}) is not a working, present disk of the set",
                model.label
            )),
        }
    }

    /// Homes with the indices of their disks.
    pub fn homes(&self) -> impl Iterator<Item = (DiskIndex, &Home)> + '_ {
        (0u16..)
            .zip(self.disks.iter())
            .filter_map(|(index, meta)| Some((index, meta.home.as_ref()?)))
    }

    /// The bytes of a planned write.
    pub fn source_bytes(&self, source: &Source) -> &[u8] {
        let bytes: &[u8] = match source.buffer {
            buffer::ZEROS => &self.zeros,
            buffer::LOG_HEAD => &self.log_head,
            buffer::BITMAP => self.bitmap.as_ref().map_or(&[], |bitmap| &bitmap.bytes),
            number => {
                let Some(number) = number.checked_sub(buffer::FIRST_DISK) else {
                    return &[];
                };
                let disk = u16::try_from(number / buffer::PER_DISK).unwrap_or(u16::MAX);
                match (self.home(disk), number % buffer::PER_DISK) {
                    (Some(home), buffer::SUPER) => &home.images,
                    (Some(home), _) => &home.logs,
                    (None, _) => return &[],
                }
            }
        };
        slice(
            bytes,
            source.offset_bytes as usize,
            source.len_bytes as usize,
        )
        .unwrap_or(&[])
    }

    /// What is on the disks becomes what the last plan brought there. An event that was refused has none: who was to be
    /// written whole still is.
    pub fn settle(&mut self) {
        let was_sent = !self.plan.is_empty();
        self.plan.clear();
        // Superblocks that were written since do not list it any more.
        self.lacks_spare &= !self.touched.all;
        self.touched = Touched::default();
        for home in self.disks.iter_mut().filter_map(|meta| meta.home.as_mut()) {
            home.copy_image(image::NEW, image::OLD);
            home.unsure = core::mem::take(&mut home.missed) || (home.unsure && !was_sent);
            home.only_copy &= home.unsure;
            // What was to be its first is still to come, and so is what was to be written to its log.
            home.fresh &= home.unsure;
            home.log_touched &= home.unsure;
            if !home.log_touched {
                let half = home.logs.len() / 2;
                home.logs.copy_within(half.., 0);
            }
            home.first = false;
            home.touched = false;
            home.ends_recovery = false;
        }
    }
}
