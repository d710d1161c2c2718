// SPDX-License-Identifier: GPL-2.0

//! What the md tests share: a shell that reads regions and carries plans out on sample disks, and a
//! way to print a model so that two of them can be compared.

#![allow(dead_code)]

pub mod world;

use emd_core::metadata::md::head::{checksum_0, checksum_1};
use emd_core::metadata::md::{Md, MdSet, Version, MD_090, MD_10, MD_11, MD_12};
use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{
    Access, Checked, Consistency, Context, DiskFacts, DiskState, Event, MemberState, Set, Text,
};
use host_tests::samples::Disk;
use kernel::prelude::*;

/// All four formats.
pub const ALL: [&Md; 4] = [&MD_12, &MD_11, &MD_10, &MD_090];

/// Facts of a sample disk; `key` is its handle.
pub fn facts(disk: &Disk, key: u64) -> DiskFacts {
    DiskFacts {
        key,
        size_sectors: disk.size_sectors,
        logical_block_bytes: disk.logical_block_bytes,
        serial: Text::from_text(&format!("SERIAL-{key:04}")),
    }
}

/// Time and random bytes number `n`.
pub fn context(n: u64) -> Context {
    Context {
        now_seconds: 1_800_000_000 + n,
        random: [n.wrapping_mul(0x9E37_79B9_97F4_A7C1), !n],
    }
}

/// Reads what the format asks for. Gives the image, the verdict and how much was read.
pub fn probe(format: &Md, disk: &Disk, key: u64) -> (DiskImage, Probe, usize) {
    let mut image = DiskImage {
        facts: facts(disk, key),
        extents: KVec::new(),
    };
    let mut bytes = 0;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match format.probe(&image) {
            Probe::Read(region) => {
                bytes += read(&mut image, disk, region);
                assert!(bytes <= PROBE_BYTES_MAX, "too much is read: {bytes}");
            }
            verdict => return (image, verdict, bytes),
        }
    }
    panic!("the format never has enough");
}

fn read(image: &mut DiskImage, disk: &Disk, region: Region) -> usize {
    let block = u64::from(disk.logical_block_bytes / 512);
    assert_eq!(region.sector % block, 0, "{region:?}");
    assert_eq!(u64::from(region.len_sectors) % block, 0, "{region:?}");
    assert!(region.len_sectors > 0);
    assert!(image.extents.iter().all(|extent| extent.region != region));
    assert!(region.sector + u64::from(region.len_sectors) <= disk.size_sectors);
    let data = disk.read(region.sector, region.len_sectors as usize);
    let mut bytes = KVVec::new();
    bytes.extend_from_slice(&data, GFP_KERNEL).unwrap();
    image
        .extents
        .push(
            Extent {
                region,
                bytes: Some(bytes),
            },
            GFP_KERNEL,
        )
        .unwrap();
    data.len()
}

/// The version that a sample has, by what the formats themselves say of its first disk.
pub fn version_of(disks: &[Disk]) -> &'static Md {
    let mut found: Vec<&'static Md> = ALL
        .into_iter()
        .filter(|format| matches!(probe(format, &disks[0], 0).1, Probe::Found { .. }))
        .collect();
    assert_eq!(found.len(), 1, "one version is found");
    found.remove(0)
}

/// Assembles the disks that are given, with their keys.
pub fn open_keyed(format: &Md, disks: &[(u64, &Disk)]) -> Checked<KBox<MdSet>> {
    let images: Vec<DiskImage> = disks
        .iter()
        .map(|(key, disk)| probe(format, disk, *key))
        .filter(|(_, verdict, _)| !matches!(verdict, Probe::NotMine))
        .map(|(image, _, _)| image)
        .collect();
    let images: Vec<&DiskImage> = images.iter().collect();
    format.open(&images)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(format: &Md, disks: &[Disk]) -> Checked<KBox<MdSet>> {
    let keyed: Vec<(u64, &Disk)> = (0u64..).zip(disks.iter()).collect();
    open_keyed(format, &keyed)
}

/// One write of a plan, by the disk's key.
#[derive(Clone, Debug)]
pub struct Write {
    pub phase: u16,
    pub key: u64,
    pub sector: u64,
    pub bytes: Vec<u8>,
}

/// The writes of the last plan. None may touch data, or be of no use.
pub fn writes(set: &MdSet) -> Vec<Write> {
    let mut last = 0;
    set.plan()
        .writes()
        .iter()
        .map(|write| {
            assert!(write.phase >= last, "phases go down");
            last = write.phase;
            let disk = set.set().disk(write.disk).unwrap();
            let facts = disk.facts.expect("a write to a disk that is not here");
            let bytes = set.bytes(&write.source).to_vec();
            assert_eq!(bytes.len(), write.source.len_bytes as usize, "{write:?}");
            assert_eq!(bytes.len() % facts.logical_block_bytes as usize, 0);
            let end = write.sector + (bytes.len() / 512) as u64;
            assert!(end <= facts.size_sectors);
            assert_eq!(write.sector % u64::from(facts.logical_block_bytes / 512), 0);
            for (volume, _, member) in set.set().memberships(write.disk) {
                let sectors = set.set().volume(volume).unwrap().shape.member_sectors;
                let data = member.offset_sectors..member.offset_sectors + sectors;
                assert!(
                    end <= data.start || write.sector >= data.end,
                    "metadata over data: {write:?}"
                );
            }
            Write {
                phase: write.phase,
                key: facts.key,
                sector: write.sector,
                bytes,
            }
        })
        .collect()
}

/// Carries writes out.
pub fn carry_out(disks: &mut [Disk], writes: &[Write]) {
    for write in writes {
        disks[write.key as usize].write(write.sector, &write.bytes);
    }
}

/// Applies an event and carries its plan out.
pub fn apply(set: &mut MdSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    set.apply(event, &context(n))?;
    let writes = writes(set);
    carry_out(disks, &writes);
    Ok(())
}

/// The model as text: what must be the same after reassembly.
///
/// What md does not keep: which disk it was that is gone; on 0.90, rebuilds and failed disks. Marks
/// of a resync count only while no writes are in flight, and redundancy that was never established is
/// the same as writes in flight.
pub fn show(set: &MdSet) -> String {
    use std::fmt::Write;
    let old = set.version == Version::V090;
    let model: &Set = set.set();
    let mut out = format!("set {:02x?} {}\n", model.id.as_bytes(), model.name);
    let rebuilds = |disk: u16| {
        old && model
            .memberships(disk)
            .any(|(_, _, member)| matches!(member.state, MemberState::Rebuilding { .. }))
    };
    let mut disks: Vec<String> = model
        .live_disks()
        .filter(|(_, disk)| disk.facts.is_some())
        .map(|(index, disk)| {
            let state = match disk.state {
                DiskState::Failed if old => DiskState::Stale,
                state => state,
            };
            let member = model.memberships(index).next().is_some();
            let role = match state {
                DiskState::Online if rebuilds(index) => "GlobalSpare".to_owned(),
                DiskState::Online => format!("{:?}", disk.role),
                // What it was for is of no interest any more.
                _ => String::new(),
            };
            let _ = member;
            format!(
                "disk key {:?} {:?} {} {} usable {}\n",
                disk.facts.map(|facts| facts.key),
                state,
                if state == DiskState::Online {
                    disk.label.as_str()
                } else {
                    ""
                },
                role,
                disk.usable_sectors,
            )
        })
        .collect();
    disks.sort();
    out.extend(disks);
    for (_, volume) in model.live_volumes() {
        let consistency = match volume.consistency {
            Consistency::Initialising { .. } if set.in_flight => Consistency::Dirty,
            Consistency::Initialising { done_sectors: 0 } => Consistency::Dirty,
            state => state,
        };
        let access = match &volume.access {
            Access::ReadWrite => String::new(),
            access => format!(" {access:?}"),
        };
        writeln!(
            out,
            "volume {} {:?} size {} {consistency:?}{access}",
            volume.name, volume.shape, volume.size_sectors,
        )
        .unwrap();
        for member in volume.members.iter() {
            let here = member
                .disk
                .filter(|&disk| model.disk(disk).unwrap().state == DiskState::Online)
                .filter(|&disk| !rebuilds(disk));
            match here.map(|disk| model.disk(disk).unwrap()) {
                Some(disk) => writeln!(
                    out,
                    "  {} at {} {:?}",
                    disk.label, member.offset_sectors, member.state
                ),
                None => writeln!(out, "  none"),
            }
            .unwrap();
        }
        if let Some(log) = &volume.regions {
            let dirty: Vec<u32> = (0..log.regions)
                .filter(|&region| log.is_dirty(region))
                .collect();
            writeln!(
                out,
                "  {} regions of {}: {dirty:?}",
                log.regions, log.region_sectors
            )
            .unwrap();
        }
    }
    // The log of a disk that is not in use any more is not looked at.
    let mut bad: Vec<(u64, u64, u32)> = model
        .bad_ranges
        .iter()
        .filter(|range| {
            set.version != Version::V090
                && model.disk(range.disk).unwrap().state == DiskState::Online
        })
        .filter_map(|range| {
            let facts = model.disk(range.disk)?.facts?;
            Some((facts.key, range.sector, range.sectors))
        })
        .collect();
    bad.sort();
    // Long ranges take several entries.
    bad.dedup_by(|next, last| {
        let touches = next.0 == last.0 && last.1 + u64::from(last.2) == next.1;
        if touches {
            last.2 += next.2;
        }
        touches
    });
    writeln!(out, "bad {bad:?}").unwrap();
    out
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(format: &Md, set: &MdSet, disks: &[Disk], what: &str) {
    // Only disks that the set has now: others are blank or erased.
    let keyed: Vec<(u64, &Disk)> = set
        .set()
        .live_disks()
        .filter_map(|(_, disk)| disk.facts)
        .map(|facts| (facts.key, &disks[facts.key as usize]))
        .collect();
    let again = open_keyed(format, &keyed).unwrap_or_else(|why| panic!("{what}: {why:?}"));
    assert_eq!(show(set), show(&again), "{what}");
}

/// Blank disks of `mib` MiB.
pub fn blanks(count: usize, mib: u64, block: u32) -> Vec<Disk> {
    (0..count)
        .map(|n| Disk::blank(&format!("b{n}"), mib * 2048, block))
        .collect()
}

/// A new set on all `disks`, not yet written (md has no set without an array).
pub fn create(format: &Md, disks: &[Disk], name: &str) -> KBox<MdSet> {
    let facts: Vec<DiskFacts> = (0u64..)
        .zip(disks.iter())
        .map(|(key, disk)| facts(disk, key))
        .collect();
    let set = emd_core::metadata::md::create::create(format.0, &facts, name, &context(0)).unwrap();
    assert!(set.plan().is_empty());
    set
}

/// Makes the checksum of the superblock of a disk right.
pub fn seal(format: &Md, disk: &mut Disk) {
    let sector = format.0.sector(disk.size_sectors).unwrap();
    let mut bytes = disk.read(sector, 8);
    if format.0 == Version::V090 {
        let sum = checksum_0(&bytes);
        bytes[152..156].copy_from_slice(&sum.to_le_bytes());
    } else {
        let roles = u32::from_le_bytes(bytes[0xDC..0xE0].try_into().unwrap());
        let sum = checksum_1(&bytes, roles.min(1920));
        bytes[0xD8..0xDC].copy_from_slice(&sum.to_le_bytes());
    }
    disk.write(sector, &bytes);
}

/// Changes `len` bytes of a disk's superblock and seals it.
pub fn change(format: &Md, disk: &mut Disk, at: usize, value: &[u8]) {
    let sector = format.0.sector(disk.size_sectors).unwrap();
    let mut bytes = disk.read(sector, 8);
    bytes[at..at + value.len()].copy_from_slice(value);
    disk.write(sector, &bytes);
    seal(format, disk);
}

/// Forgets data, which makes copying slow.
pub fn thin(format: &Md, disk: &mut Disk) {
    let mut thin = Disk::blank(&disk.name, disk.size_sectors, disk.logical_block_bytes);
    let metadata = match format.0 {
        Version::V12 | Version::V11 => 0..2048,
        _ => disk.size_sectors - 256..disk.size_sectors,
    };
    for (sector, bytes) in disk.runs() {
        for (index, bytes) in bytes.chunks(512).enumerate() {
            let sector = sector + index as u64;
            if metadata.contains(&sector) {
                thin.write(sector, bytes);
            }
        }
    }
    *disk = thin;
}
