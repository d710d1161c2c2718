// SPDX-License-Identifier: GPL-2.0

//! What the DDF tests share: a shell that reads regions and carries plans out on sample disks, and
//! a way to print a model so that two of them can be compared.

#![allow(dead_code)]

pub mod crash;
pub mod damage;
pub mod records;
pub mod world;

use emd_core::metadata::ddf::{Ddf, DdfSet};
use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{
    Access, Checked, Consistency, Context, DiskFacts, DiskState, Event, MemberState, Set, Text,
};
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
    let mut image = DiskImage {
        facts: facts(disk, key),
        extents: KVec::new(),
    };
    let mut bytes = 0;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match Ddf.probe(&image) {
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
    assert_eq!(region.sector % block, 0);
    assert_eq!(u64::from(region.len_sectors) % block, 0);
    assert!(region.len_sectors > 0);
    assert!(image.extents.iter().all(|extent| extent.region != region));
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

/// Assembles the disks that are given, with their keys.
pub fn open_keyed(disks: &[(u64, &Disk)]) -> Checked<KBox<DdfSet>> {
    let images: Vec<DiskImage> = disks
        .iter()
        .map(|(key, disk)| probe(disk, *key))
        .filter(|(_, verdict, _)| !matches!(verdict, Probe::NotMine))
        .map(|(image, _, _)| image)
        .collect();
    let images: Vec<&DiskImage> = images.iter().collect();
    Ddf::open(&images)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(disks: &[Disk]) -> Checked<KBox<DdfSet>> {
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
pub fn writes(set: &DdfSet) -> Vec<Write> {
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
            assert!(write.sector + (bytes.len() / 512) as u64 <= facts.size_sectors);
            assert_eq!(write.sector % u64::from(facts.logical_block_bytes / 512), 0);
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
pub fn apply(set: &mut DdfSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    set.apply(event, &context(n))?;
    let writes = writes(set);
    carry_out(disks, &writes);
    Ok(())
}

/// The model as text: what must be the same after reassembly. Marks, regions and bad ranges are shown
/// where EMD's own records keep them, else they count as 0; generation and notes do not count.
pub fn show(set: &Set) -> String {
    show_with(
        set,
        set.volumes.iter().any(|volume| volume.regions.is_some()),
    )
}

/// [`show`], with bad ranges when they are `kept`.
fn show_with(set: &Set, kept: bool) -> String {
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
                    emd_core::model::DiskRole::DedicatedSpare(volume) =>
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
    let rebuilding = |disk: Option<u16>| {
        disk.is_some_and(|disk| {
            set.memberships(disk)
                .any(|(_, _, member)| matches!(member.state, MemberState::Rebuilding { .. }))
        })
    };
    let mut volumes: Vec<String> = set
        .live_volumes()
        .map(|(_, volume)| {
            let mut text = format!(
                "volume {:02x?} {} {:?} size {} {}{}\n",
                volume.id.as_bytes(),
                volume.name,
                volume.shape,
                volume.size_sectors,
                match volume.consistency {
                    Consistency::Initialising { done_sectors } => match volume.regions.as_ref() {
                        None => "Initialising".into(),
                        // After a restart the mark is no farther than what was being written.
                        Some(log) => format!(
                            "Initialising {}",
                            (0..log.regions)
                                .find(|&region| log.is_dirty(region))
                                .map_or(u64::MAX, |region| u64::from(region) * log.region_sectors)
                                .min(done_sectors)
                        ),
                    },
                    state => format!("{state:?}"),
                },
                match &volume.access {
                    Access::ReadWrite => String::new(),
                    access => format!(" {access:?}"),
                }
            );
            let whole = volume
                .members
                .iter()
                .all(|member| member.state == MemberState::InSync);
            for member in volume.members.iter() {
                let disk = member.disk.and_then(|disk| set.disk(disk));
                writeln!(
                    text,
                    "  {} at {} {}",
                    disk.map_or("-".into(), |disk| disk.label.to_string()),
                    member.offset_sectors,
                    match member.state {
                        MemberState::Rebuilding { .. } if volume.regions.is_none() =>
                            "Rebuilding".into(),
                        // The rebuilding bit is the disk's: see `docs/formats/ddf.md`.
                        MemberState::InSync
                            if volume.regions.is_none() && !whole && rebuilding(member.disk) =>
                            "Rebuilding".into(),
                        state => format!("{state:?}"),
                    }
                )
                .unwrap();
            }
            // What is noted of regions means nothing once redundancy agrees.
            if let Some(log) = volume.regions.as_ref() {
                let dirty: Vec<u32> = (0..log.regions).filter(|&r| log.is_dirty(r)).collect();
                let agrees = volume.consistency == Consistency::Clean;
                let shown = if agrees { Vec::new() } else { dirty };
                writeln!(
                    text,
                    "  {} regions of {}: {shown:?}",
                    log.regions, log.region_sectors
                )
                .unwrap();
            }
            text
        })
        .collect();
    volumes.sort();
    out.extend(volumes);
    let mut bad: Vec<String> = set
        .bad_ranges
        .iter()
        .filter(|_| kept)
        .filter_map(|range| {
            let label = set.disk(range.disk)?.label;
            Some(format!(
                "bad {label} {:012} {}\n",
                range.sector, range.sectors
            ))
        })
        .collect();
    bad.sort();
    out.extend(bad);
    out
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(set: &DdfSet, disks: &[Disk], what: &str) {
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
pub fn blanks(count: usize, mib: u64, block: u32) -> Vec<Disk> {
    (0..count)
        .map(|n| Disk::blank(&format!("b{n}"), mib * 2048, block))
        .collect()
}

/// A new set on all `disks`, written.
pub fn create(disks: &mut [Disk], name: &str) -> KBox<DdfSet> {
    let facts: Vec<DiskFacts> = (0u64..)
        .zip(disks.iter())
        .map(|(key, disk)| facts(disk, key))
        .collect();
    let set = emd_core::metadata::ddf::create::create(&facts, name, &context(0)).unwrap();
    carry_out(disks, &writes(&set));
    set
}

/// The state of every disk, for messages.
pub fn states(set: &Set) -> Vec<DiskState> {
    set.disks.iter().map(|disk| disk.state).collect()
}
