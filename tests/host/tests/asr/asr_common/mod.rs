// SPDX-License-Identifier: GPL-2.0

//! What the ASR tests share: a shell that reads regions and carries plans out on sample disks, and
//! a way to print a model so that two of them can be compared.

#![allow(dead_code)]

#[path = "../../ddf/ddf_common/crash.rs"]
pub mod crash;
pub mod world;

use emd_core::metadata::asr::{Asr, AsrSet};
use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{Access, Checked, Context, DiskFacts, DiskRole, Event, Set, Text};
use host_tests::samples::Disk;
use kernel::prelude::*;

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
pub fn probe(disk: &Disk, key: u64) -> (DiskImage, Probe, usize) {
    probe_with(disk, key, &|_| true)
}

/// [`probe`] of a disk that cannot read some sectors.
pub fn probe_with(
    disk: &Disk,
    key: u64,
    readable: &dyn Fn(u64) -> bool,
) -> (DiskImage, Probe, usize) {
    let mut image = DiskImage {
        facts: facts(disk, key),
        extents: KVec::new(),
    };
    let mut bytes = 0;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match Asr.probe(&image) {
            Probe::Read(region) => {
                bytes += read(&mut image, disk, region, readable);
                assert!(bytes <= PROBE_BYTES_MAX, "too much is read: {bytes}");
            }
            verdict => return (image, verdict, bytes),
        }
    }
    panic!("the format never has enough");
}

fn read(
    image: &mut DiskImage,
    disk: &Disk,
    region: Region,
    readable: &dyn Fn(u64) -> bool,
) -> usize {
    let block = u64::from(disk.logical_block_bytes / 512);
    assert_eq!(region.sector % block, 0);
    assert_eq!(u64::from(region.len_sectors) % block, 0);
    assert!(region.len_sectors > 0);
    assert!(image.extents.iter().all(|extent| extent.region != region));
    let data = disk.read(region.sector, region.len_sectors as usize);
    let mut bytes = KVVec::new();
    bytes.extend_from_slice(&data, GFP_KERNEL).unwrap();
    let end = region.sector + u64::from(region.len_sectors);
    let good = (region.sector..end).all(readable);
    image
        .extents
        .push(
            Extent {
                region,
                bytes: good.then_some(bytes),
            },
            GFP_KERNEL,
        )
        .unwrap();
    data.len()
}

/// Assembles the disks that are given, with their keys.
pub fn open_keyed(disks: &[(u64, &Disk)]) -> Checked<KBox<AsrSet>> {
    let images: Vec<DiskImage> = disks
        .iter()
        .map(|(key, disk)| probe(disk, *key))
        .filter(|(_, verdict, _)| !matches!(verdict, Probe::NotMine))
        .map(|(image, _, _)| image)
        .collect();
    let images: Vec<&DiskImage> = images.iter().collect();
    Asr::open(&images)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(disks: &[Disk]) -> Checked<KBox<AsrSet>> {
    let keyed: Vec<(u64, &Disk)> = (0u64..).zip(disks.iter()).collect();
    open_keyed(&keyed)
}

/// One write of a plan, by the disk's key.
#[derive(Clone, Debug)]
pub struct Write {
    pub phase: u16,
    pub key: u64,
    pub sector: u64,
    pub bytes: Vec<u8>,
}

/// The writes of the last plan.
pub fn writes(set: &AsrSet) -> Vec<Write> {
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
            assert!(!bytes.is_empty());
            assert_eq!(bytes.len() % facts.logical_block_bytes as usize, 0);
            assert!(write.sector + (bytes.len() / 512) as u64 <= facts.size_sectors);
            assert!(
                write.sector >= disk.usable_sectors,
                "metadata over data: {write:?}"
            );
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
pub fn apply(set: &mut AsrSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    set.apply(event, &context(n))?;
    let writes = writes(set);
    carry_out(disks, &writes);
    Ok(())
}

/// The model as text: what must be the same after reassembly. Generation and notes do not count.
pub fn show(set: &Set) -> String {
    use std::fmt::Write;
    let mut out = format!("set {:02x?} {}\n", set.id.as_bytes(), set.name);
    let mut disks: Vec<String> = set
        .live_disks()
        .map(|(_, disk)| {
            format!(
                "disk {} key {:?} {:?} {} usable {} predicted {}\n",
                disk.label,
                disk.facts.map(|facts| facts.key),
                disk.state,
                match disk.role {
                    DiskRole::DedicatedSpare(volume) =>
                        format!("spare of {}", set.volume(volume).unwrap().name),
                    role => format!("{role:?}"),
                },
                disk.usable_sectors,
                disk.failure_predicted,
            )
        })
        .collect();
    disks.sort();
    out.extend(disks);
    let mut volumes: Vec<String> = set
        .live_volumes()
        .map(|(_, volume)| {
            let mut text = format!(
                "volume {:02x?} {} {:?} size {} {:?}{}\n",
                volume.id.as_bytes(),
                volume.name,
                volume.shape,
                volume.size_sectors,
                volume.consistency,
                match &volume.access {
                    Access::ReadWrite => String::new(),
                    access => format!(" {access:?}"),
                }
            );
            for member in volume.members.iter() {
                let disk = member.disk.and_then(|disk| set.disk(disk));
                writeln!(
                    text,
                    "  {} at {} {:?}",
                    disk.map_or("-".into(), |disk| disk.label.to_string()),
                    member.offset_sectors,
                    member.state
                )
                .unwrap();
            }
            text
        })
        .collect();
    volumes.sort();
    out.extend(volumes);
    out
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(set: &AsrSet, disks: &[Disk], what: &str) {
    // Only disks that the set has now: others are blank or erased.
    let keyed: Vec<(u64, &Disk)> = set
        .set()
        .live_disks()
        .filter_map(|(_, disk)| disk.facts)
        .map(|facts| (facts.key, &disks[facts.key as usize]))
        .collect();
    let again = open_keyed(&keyed).unwrap_or_else(|why| panic!("{what}: {why:?}"));
    assert_eq!(show(set.set()), show(again.set()), "{what}");
}

/// Blank disks of `mib` MiB.
pub fn blanks(count: usize, mib: u64) -> Vec<Disk> {
    (0..count)
        .map(|n| Disk::blank(&format!("b{n}"), mib * 2048, 512))
        .collect()
}

/// A new set on all `disks`, written.
pub fn create(disks: &mut [Disk]) -> KBox<AsrSet> {
    let facts: Vec<DiskFacts> = (0u64..)
        .zip(disks.iter())
        .map(|(key, disk)| facts(disk, key))
        .collect();
    let set = emd_core::metadata::asr::create::create(&facts, "", &context(0)).unwrap();
    carry_out(disks, &writes(&set));
    set
}
