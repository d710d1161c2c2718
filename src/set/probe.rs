// SPDX-License-Identifier: GPL-2.0

//! One disk: its facts, the metadata on it, and the marks of other users.

use crate::block::bdev::BlockDevice;
use crate::block::sync_io::SyncIo;
use crate::metadata::registry::FORMATS;
use crate::metadata::{
    DiskImage, Extent, Format, Mark, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use crate::model::{Checked, DiskFacts, Identity, Reason};
use crate::reason;
use core::num::NonZeroU64;
use kernel::prelude::*;

/// Smallest disk that is looked at: 1 MiB.
pub const DISK_SECTORS_MIN: u64 = 2048;

/// What was found on a disk.
pub enum Found {
    /// No metadata of a known format.
    Nothing,
    /// Part of the set with this identity.
    Set {
        /// The format.
        format: &'static dyn Format,
        /// The set.
        id: Identity,
        /// What was read.
        image: DiskImage,
    },
    /// Metadata that cannot be used.
    Damaged {
        /// The format.
        format: &'static dyn Format,
        /// Why.
        reason: Reason,
        /// What was read.
        image: DiskImage,
    },
}

/// What formats are told of a disk.
pub fn facts(device: &BlockDevice) -> DiskFacts {
    DiskFacts {
        key: device.dev().0,
        size_sectors: device.size_sectors(),
        logical_block_bytes: device.logical_block_bytes(),
        serial: device.serial(),
    }
}

/// Looks for metadata of every known format.
#[inline(never)]
pub fn probe(device: &BlockDevice, mut io: Pin<&mut SyncIo>) -> Checked<Found> {
    let mut found = Found::Nothing;
    for &format in FORMATS {
        let next = probe_one(format, device, io.as_mut())?;
        found = match (found, next) {
            (found, Found::Nothing) => found,
            (Found::Nothing, next) => next,
            // Damaged leftovers of one format do not hide a good one of another.
            (Found::Damaged { .. }, next @ Found::Set { .. }) => next,
            (
                Found::Set {
                    format: first,
                    image,
                    ..
                },
                Found::Set { format, .. },
            ) => Found::Damaged {
                format,
                reason: reason!(
                    EINVAL,
                    "carries metadata of both {} and {}: erase the one that is not wanted",
                    first.name(),
                    format.name()
                ),
                image,
            },
            (found, Found::Damaged { .. }) => found,
        };
    }
    Ok(found)
}

/// Looks for metadata of one format.
#[inline(never)]
pub fn probe_one(
    format: &'static dyn Format,
    device: &BlockDevice,
    mut io: Pin<&mut SyncIo>,
) -> Checked<Found> {
    let mut image = DiskImage {
        facts: facts(device),
        extents: KVec::new(),
    };
    let mut bytes_left = PROBE_BYTES_MAX;
    for _ in 0..=PROBE_ROUNDS_MAX {
        let region = match format.probe(&image) {
            Probe::Read(region) => region,
            Probe::NotMine => return Ok(Found::Nothing),
            Probe::Damaged(reason) => {
                return Ok(Found::Damaged {
                    format,
                    reason,
                    image,
                })
            }
            Probe::Found { set, .. } => {
                return Ok(Found::Set {
                    format,
                    id: set,
                    image,
                })
            }
        };
        let Some(len_bytes) = region_bytes(&image.facts, &region).filter(|&len| len <= bytes_left)
        else {
            return Ok(Found::Damaged {
                format,
                reason: reason!(
                    EINVAL,
                    "its {} metadata leads to {} sectors at {}, which cannot be read",
                    format.name(),
                    region.len_sectors,
                    region.sector
                ),
                image,
            });
        };
        bytes_left -= len_bytes;
        let mut bytes = KVVec::from_elem(0u8, len_bytes, GFP_KERNEL)?;
        let read = io.as_mut().read(device, region.sector, &mut bytes);
        image.extents.push(
            Extent {
                region,
                bytes: read.is_ok().then_some(bytes),
            },
            GFP_KERNEL,
        )?;
    }
    Ok(Found::Damaged {
        format,
        reason: reason!(
            EINVAL,
            "its {} metadata does not come to an end",
            format.name()
        ),
        image,
    })
}

/// Length of `region` in bytes, when it is on the disk and aligned to its blocks.
fn region_bytes(facts: &DiskFacts, region: &Region) -> Option<usize> {
    let block_sectors =
        NonZeroU64::new(u64::from(facts.logical_block_bytes / 512)).unwrap_or(NonZeroU64::MIN);
    let len = u64::from(region.len_sectors);
    let end = region.sector.checked_add(len)?;
    if len == 0
        || end > facts.size_sectors
        || region.sector % block_sectors != 0
        || len % block_sectors != 0
    {
        return None;
    }
    usize::try_from(len).ok()?.checked_mul(512)
}

const fn mark(offset_bytes: usize, bytes: &'static [u8], name: &'static str) -> Mark {
    Mark {
        offset_bytes,
        bytes,
        name,
    }
}

/// Marks in the first sectors of a disk, of other users than formats.
const MARKS: &[Mark] = &[
    mark(1080, &[0x53, 0xef], "an ext2, ext3 or ext4 filesystem"),
    mark(0, b"XFSB", "an XFS filesystem"),
    mark(0x10040, b"_BHRfS_M", "a btrfs filesystem"),
    mark(4096, b"bcachefs", "a bcachefs filesystem"),
    mark(0x400, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS filesystem"),
    mark(3, b"NTFS    ", "an NTFS filesystem"),
    mark(3, b"EXFAT   ", "an exFAT filesystem"),
    mark(54, b"FAT", "a FAT filesystem"),
    mark(82, b"FAT32", "a FAT filesystem"),
    mark(4086, b"SWAPSPACE2", "swap space"),
    mark(0, b"LUKS\xba\xbe", "a LUKS volume"),
    mark(512, b"LABELONE", "an LVM physical volume"),
    mark(0, b"LABELONE", "an LVM physical volume"),
    mark(512, b"EFI PART", "a GPT partition table"),
    mark(4096, b"EFI PART", "a GPT partition table"),
];

/// How much of a disk's start marks are in: 72 KiB.
const MARKED_BYTES: usize = 72 << 10;

/// What the start of `device` says that it is used for; `None` when nothing known is there.
pub fn signature(device: &BlockDevice, io: Pin<&mut SyncIo>) -> Checked<Option<&'static str>> {
    signature_besides(device, None, io)
}

/// The same of all but a format that is known to be there.
#[inline(never)]
pub fn signature_besides(
    device: &BlockDevice,
    own: Option<&dyn Format>,
    io: Pin<&mut SyncIo>,
) -> Checked<Option<&'static str>> {
    let blocks_bytes = u64::from(device.logical_block_bytes().max(512));
    let size_bytes = device.size_sectors().saturating_mul(512);
    let len = size_bytes.min(MARKED_BYTES as u64) / blocks_bytes * blocks_bytes;
    // At most `MARKED_BYTES`.
    let mut bytes = KVVec::from_elem(0u8, len as usize, GFP_KERNEL)?;
    io.read(device, 0, &mut bytes)
        .map_err(|errno| reason!(errno, "the start of disk {} cannot be read", device.dev()))?;
    let is_own = |format: &&dyn Format| own.is_some_and(|own| own.name() == format.name());
    let others = FORMATS.iter().copied().filter(|format| !is_own(format));
    let of_formats = others.map(|format| format.marks());
    for mark in Iterator::chain(core::iter::once(MARKS), of_formats).flatten() {
        let end = mark.offset_bytes.saturating_add(mark.bytes.len());
        if bytes.get(mark.offset_bytes..end) == Some(mark.bytes) {
            return Ok(Some(mark.name));
        }
    }
    // An MBR: its signature, and at least one partition with a type.
    let has_type = |entry: usize| {
        bytes
            .get(446 + 16 * entry + 4)
            .is_some_and(|&kind| kind != 0)
    };
    if bytes.get(510..512) == Some(&[0x55, 0xaa]) && (0..4).any(has_type) {
        return Ok(Some("a partition table"));
    }
    Ok(None)
}

/// Overwrites with zeroes what was read as metadata.
#[inline(never)]
pub fn erase(device: &BlockDevice, image: &DiskImage, mut io: Pin<&mut SyncIo>) -> Checked {
    for extent in image.extents.iter() {
        let Some(len_bytes) = region_bytes(&image.facts, &extent.region) else {
            continue;
        };
        let zeroes = KVVec::from_elem(0u8, len_bytes, GFP_KERNEL)?;
        io.as_mut()
            .write(device, extent.region.sector, &zeroes)
            .map_err(|errno| {
                reason!(
                    errno,
                    "disk {}: old metadata cannot be erased",
                    device.dev()
                )
            })?;
    }
    io.flush(device)
        .map_err(|errno| reason!(errno, "disk {} cannot be flushed", device.dev()))
}
