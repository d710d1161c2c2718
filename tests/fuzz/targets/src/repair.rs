// SPDX-License-Identifier: GPL-2.0

//! Checksums made right again, so that lies get past them.

use crate::shell;
use emd_core::metadata::asr::layout::{header as asr_header, reserved};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::bytes::Endian;
use emd_core::metadata::ddf::crc::Crc;
use emd_core::metadata::ddf::layout::{signature, Section};
use emd_core::metadata::ddf::{Ddf, DdfSet};
use emd_core::metadata::imsm::layout::{header as imsm_header, Raw};
use emd_core::metadata::md::head::{checksum_0, checksum_1};
use emd_core::metadata::md::{Md, Version, MD_090, MD_10, MD_11, MD_12};
use emd_core::metadata::{DiskImage, Format, MetadataSet, Probe};
use host_tests::samples::Disk;

/// A stretch of a disk with one checksum of DDF's.
#[derive(Clone, Copy, Debug)]
struct Piece {
    sector: u64,
    sectors: usize,
    crc: Crc,
    endian: Endian,
}

/// What of a disk has a checksum, as far as it has to be known before anything is changed (DDF).
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: Vec<Piece>,
    /// First sectors of both copies, and how long they are.
    copies: Option<(u64, u64, u64)>,
}

impl Pieces {
    /// Of all disks of a set.
    pub fn of(format: &dyn Format, disks: &[Disk]) -> Vec<Self> {
        let none = vec![Self::default(); disks.len()];
        if format.name() != "ddf" {
            return none;
        }
        let images: Vec<DiskImage> = (0u64..)
            .zip(disks)
            .map(|(key, disk)| shell::probe(format, disk, key, &[]))
            .filter(|(_, verdict)| matches!(verdict, Probe::Found { .. }))
            .map(|(image, _)| image)
            .collect();
        let images: Vec<&DiskImage> = images.iter().collect();
        match Ddf::open(&images) {
            Ok(set) => (0u64..)
                .zip(disks)
                .map(|(key, disk)| Self::of_ddf(&set, key, disk))
                .collect(),
            Err(_) => none,
        }
    }

    fn of_ddf(set: &DdfSet, key: u64, disk: &Disk) -> Self {
        let Some(home) = set.set().disk_by_key(key).and_then(|index| set.home(index)) else {
            return Self::default();
        };
        let layout = home.layout;
        // Blocks of the disk, and bytes.
        let mut places = vec![(home.anchor, layout.block_bytes as usize)];
        for copy in home.copies.into_iter().flatten() {
            places.push((copy, layout.block_bytes as usize));
            for section in Section::ALL {
                let first = copy + u64::from(layout.place(section).offset);
                let (len, record) = (layout.section_bytes(section), layout.record_bytes as usize);
                if section != Section::Config {
                    places.push((first, len));
                    continue;
                }
                for slot in 0..len / record {
                    let block = slot * record / layout.block_bytes as usize;
                    places.push((first + block as u64, record));
                }
            }
        }
        if let Some(vendor) = home.vendor.as_ref() {
            let blocks = u64::from(layout.vendor.blocks).min(4096);
            places.extend((0..blocks).map(|n| (vendor.block + n, layout.block_bytes as usize)));
        }
        let pieces = places
            .into_iter()
            .map(|(block, len)| Piece {
                sector: block * layout.block_sectors(),
                sectors: len / 512,
                crc: layout.crc,
                endian: layout.endian,
            })
            .filter(|piece| piece.sectors > 0)
            .filter(|piece| piece.sector + piece.sectors as u64 <= disk.size_sectors)
            .filter(|piece| {
                let bytes = disk.read(piece.sector, piece.sectors);
                piece.crc.holds(&bytes, piece.endian)
            })
            .collect();
        let block = layout.block_sectors();
        let copies = match home.copies {
            [Some(one), Some(two)] => Some((
                one * block,
                two * block,
                u64::from(layout.span_blocks()) * block,
            )),
            _ => None,
        };
        Self { pieces, copies }
    }

    /// Where the other copy has what is in `sector` of the first one.
    pub fn twin(&self, sector: u64) -> Option<u64> {
        let (one, two, len) = self.copies?;
        let at = sector.checked_sub(one)?;
        (at < len).then_some(two + at)
    }

    /// Whether `sector` belongs to the second copy.
    pub fn is_second(&self, sector: u64) -> bool {
        self.copies
            .is_some_and(|(_, two, len)| (two..two + len).contains(&sector))
    }
}

/// Makes checksums right on a disk of which `touched` sectors were changed.
pub fn repair(format: &dyn Format, disk: &mut Disk, pieces: &Pieces, touched: &[u64]) {
    match format.name() {
        "ddf" => ddf(disk, pieces, touched),
        "imsm" => imsm(disk),
        "asr" => asr(disk),
        name => {
            let version = [&MD_12, &MD_11, &MD_10, &MD_090]
                .into_iter()
                .find(|format| format.name() == name);
            md(version.expect("one of md's"), disk);
        }
    }
}

fn ddf(disk: &mut Disk, pieces: &Pieces, touched: &[u64]) {
    for piece in &pieces.pieces {
        let sectors = piece.sector..piece.sector + piece.sectors as u64;
        if !touched.iter().any(|sector| sectors.contains(sector)) {
            continue;
        }
        let mut bytes = disk.read(piece.sector, piece.sectors);
        piece.crc.seal(&mut bytes, piece.endian);
        disk.write(piece.sector, &bytes);
    }
    if !pieces.pieces.is_empty() {
        return;
    }
    // What was made up from nothing: headers.
    let block = disk.logical_block_bytes as usize / 512;
    for &sector in touched {
        let sector = sector / block as u64 * block as u64;
        let mut bytes = disk.read(sector, block);
        for endian in [Endian::Big, Endian::Little] {
            if endian.u32(&bytes, 0) == Some(signature::HEADER) {
                Crc::Raw.seal(&mut bytes, endian);
                disk.write(sector, &bytes);
            }
        }
    }
}

fn imsm(disk: &mut Disk) {
    let block = u64::from(disk.logical_block_bytes / 512);
    let anchor = disk.size_sectors / block * block - 2 * block;
    let mut mpb = disk.read(anchor, block as usize);
    let size = Endian::Little.u32(&mpb, 0x24).unwrap_or(0);
    let more = u64::from(size).div_ceil(block * 512).max(1) - 1;
    let Some(first) = anchor.checked_sub(more * block).filter(|_| more < 4096) else {
        return;
    };
    mpb.extend(disk.read(first, (more * block) as usize));
    let whole = Raw {
        anchor: &mpb,
        rest: &[],
    };
    if !whole.is_mpb() {
        return;
    }
    let sum = whole.sum();
    let _ = Endian::Little.put_u32(&mut mpb, imsm_header::CHECKSUM, sum);
    disk.write(anchor, &mpb[..block as usize * 512]);
}

fn asr(disk: &mut Disk) {
    let last = disk.size_sectors - 1;
    let block = disk.read(last, 1);
    let at = Endian::Big.u32(&block, reserved::TABLE).map(u64::from);
    let Some(at) = at.filter(|at| *at > 0 && at + 16 <= last) else {
        return;
    };
    let Ok(mut table) = Table::new(&disk.read(at, 16)) else {
        return;
    };
    let marked = table.is_marked();
    table.seal();
    let mut bytes = table.bytes().to_vec();
    if !marked {
        bytes[asr_header::MARK_AT..asr_header::MARK_AT + 4].fill(0);
    }
    disk.write(at, &bytes);
}

fn md(format: &Md, disk: &mut Disk) {
    let Some(sector) = format.0.sector(disk.size_sectors) else {
        return;
    };
    if sector + 8 > disk.size_sectors {
        return;
    }
    let mut bytes = disk.read(sector, 8);
    if format.0 == Version::V090 {
        let sum = checksum_0(&bytes);
        let _ = Endian::Little.put_u32(&mut bytes, 152, sum);
    } else {
        let roles = Endian::Little.u32(&bytes, 0xDC).unwrap_or(0);
        let sum = checksum_1(&bytes, roles.min(1920));
        let _ = Endian::Little.put_u32(&mut bytes, 0xD8, sum);
    }
    disk.write(sector, &bytes);
}
