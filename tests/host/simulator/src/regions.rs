// SPDX-License-Identifier: GPL-2.0

//! Regions: those that formats make are of megabytes, and volumes here of a few dozen sectors. So sets are
//! made with the format's own, and what the metadata says of their length is changed, as if another one had
//! made them: mdadm's user chooses it, and DDF's is on record.

use crate::disk::Disk;
use crate::history::Config;
use crate::rng::Rng;
use emd_core::metadata::bytes::Endian;
use emd_core::metadata::ddf::crc::Crc;
use emd_core::metadata::md::{bitmap, head, layout};
use emd_core::model::Volume;

/// Whether a format's sets can be made with small regions. md has no bitmap beside a log.
pub fn can_be_small(format: &str, has_log: bool) -> bool {
    format == "ddf" || (format == "md-1.2" && !has_log)
}

/// Gives the volume of a new set regions of `config.region_sectors`.
pub fn make_small(config: &Config, disks: &mut [Disk], volume: &Volume) -> Result<(), String> {
    let sectors = u64::from(config.region_sectors);
    let extent = volume.shape.sync_sectors(volume.size_sectors);
    let mut changed = 0;
    for disk in disks.iter_mut() {
        changed += match config.format {
            "ddf" => small_in_ddf(disk, sectors, extent),
            _ => small_in_md(disk, sectors, extent, config.assume_clean),
        };
    }
    (changed > 0)
        .then_some(())
        .ok_or_else(|| "its metadata keeps no regions".into())
}

/// The blocks of a region log, among EMD's own records.
fn small_in_ddf(disk: &mut Disk, region: u64, extent: u64) -> usize {
    let mut changed = 0;
    disk.edit(|block| {
        if block.starts_with(b"EMDR") && block[0x28] == 3 {
            let crc = Crc::detect(block, Endian::Big);
            block[0x30..0x38].copy_from_slice(&region.to_be_bytes());
            let regions = extent.div_ceil(region) as u32;
            block[0x38..0x3C].copy_from_slice(&regions.to_be_bytes());
            if let Some(crc) = crc {
                crc.seal(block, Endian::Big);
                changed += 1;
            }
        }
    });
    changed
}

/// Sector of the superblock of 1.2, and of the bitmap that its disk gets: right behind it.
const SUPERBLOCK: u64 = 8;
const BITMAP: u64 = 16;

/// A bitmap like `mdadm --bitmap=internal --bitmap-chunk`.
fn small_in_md(disk: &mut Disk, region: u64, extent: u64, is_clean: bool) -> usize {
    use layout::{get32, get64, put32, v1};
    let mut rng = Rng::new(0);
    let mut bytes = disk.read_bytes(SUPERBLOCK, 8);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&bytes[v1::UUID..v1::UUID + 16]);
    let features = get32(&bytes, v1::FEATURES) | layout::feature::BITMAP;
    put32(&mut bytes, v1::FEATURES, features);
    put32(&mut bytes, v1::BITMAP, (BITMAP - SUPERBLOCK) as u32);
    let roles = get32(&bytes, v1::ROLES_MAX);
    let sum = head::checksum_1(&bytes, roles);
    put32(&mut bytes, v1::CHECKSUM, sum);
    let events = get64(&bytes, v1::EVENTS);
    let regions = extent.div_ceil(region) as u32;
    let mut bits = vec![0; bitmap::sectors(regions, 8) as usize * 512];
    bitmap::format(&mut bits, &uuid, events, extent, region);
    if is_clean {
        let _ = bitmap::mark(&mut bits, 0, regions, false);
    }
    let _ = disk.write_bytes(&mut rng, SUPERBLOCK, &bytes, true);
    let _ = disk.write_bytes(&mut rng, BITMAP, &bits, true);
    1
}
