// SPDX-License-Identifier: GPL-2.0

//! What the IMSM tests share: a shell that reads regions and carries plans out on sample disks, and
//! a way to print a model so that two of them can be compared. The name of a disk is its serial number.

#![allow(dead_code)]

#[path = "../../ddf/ddf_common/crash.rs"]
pub mod crash;
pub mod world;

use emd_core::metadata::imsm::layout::{header, Raw};
use emd_core::metadata::imsm::{Imsm, ImsmSet};
use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{
    Access, Checked, Consistency, Context, DiskFacts, DiskState, Event, MemberState, Set, Text,
};
use host_tests::samples::{self, Disk};
use kernel::prelude::*;

/// Facts of a sample disk; `key` is its handle.
pub fn facts(disk: &Disk, key: u64) -> DiskFacts {
    DiskFacts {
        key,
        size_sectors: disk.size_sectors,
        logical_block_bytes: disk.logical_block_bytes,
        serial: Text::from_text(&disk.name),
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
        match Imsm.probe(&image) {
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
pub fn open_keyed(disks: &[(u64, &Disk)]) -> Checked<KBox<ImsmSet>> {
    let images: Vec<DiskImage> = disks
        .iter()
        .map(|(key, disk)| probe(disk, *key))
        .filter(|(_, verdict, _)| !matches!(verdict, Probe::NotMine))
        .map(|(image, _, _)| image)
        .collect();
    let images: Vec<&DiskImage> = images.iter().collect();
    Imsm::open(&images)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(disks: &[Disk]) -> Checked<KBox<ImsmSet>> {
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
pub fn writes(set: &ImsmSet) -> Vec<Write> {
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
            for (volume, _, member) in set.set().memberships(write.disk) {
                let end =
                    member.offset_sectors + set.set().volume(volume).unwrap().shape.member_sectors;
                assert!(write.sector >= end, "metadata over data: {write:?}");
            }
            assert!(write.sector + 256 + 16 >= disk.usable_sectors, "{write:?}");
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
pub fn apply(set: &mut ImsmSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    set.apply(event, &context(n))?;
    let writes = writes(set);
    carry_out(disks, &writes);
    Ok(())
}

/// The first byte of the anchor, and the size of its block.
pub fn anchor(disk: &Disk) -> (u64, u64) {
    let block = u64::from(disk.logical_block_bytes);
    (disk.size_sectors * 512 - 2 * block, block)
}

/// Changes the MPB of a disk with `lie`, and makes the checksum right again.
pub fn reseal(disk: &mut Disk, lie: &mut dyn FnMut(&mut Vec<u8>)) {
    let (at, block) = anchor(disk);
    let sectors = (block / 512) as usize;
    let mut mpb = disk.read(at / 512, sectors);
    let size = u32::from_le_bytes(mpb[0x24..0x28].try_into().unwrap()) as u64;
    let more = size.div_ceil(block) - 1;
    mpb.extend(disk.read(at / 512 - more * block / 512, more as usize * sectors));
    lie(&mut mpb);
    let sum = Raw {
        anchor: &mpb,
        rest: &[],
    }
    .sum();
    mpb[header::CHECKSUM..header::CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
    let (first, rest) = mpb.split_at(block as usize);
    disk.write(at / 512, first);
    if more > 0 {
        disk.write(at / 512 - more * block / 512, rest);
    }
}

/// A sample case, its disks named by their serial numbers.
pub fn sample(case: &str) -> Vec<Disk> {
    let mut disks = samples::load(&format!("imsm/{case}"));
    for (index, disk) in disks.iter_mut().enumerate() {
        let number: usize = disk.name.trim_start_matches('d').parse().unwrap();
        assert_eq!(number, index);
        disk.name = match case {
            _ if case.starts_with("gen-freebsd/") => format!("GRAID{:04}", number + 1),
            "native/raid0-volume0-gigabyte" => "9QG07LA9".into(),
            "native/raid1-volume0" => "3QJ00LH1".into(),
            "native/util-linux-isw" => "    Y25VXYQE".into(),
            _ => format!("QM{number:05}i-{}", case.trim_start_matches("gen/")),
        };
    }
    disks
}

/// All sample cases.
pub fn cases() -> Vec<String> {
    samples::cases("imsm")
        .into_iter()
        .map(|case| case.trim_start_matches("imsm/").to_owned())
        .collect()
}

/// The model as text: what must be the same after reassembly. Of disks only those that are here are
/// shown; what the table keeps of others has no use but to hold a slot's place. Generation and notes
/// do not count. `marks`: show how far syncs got.
pub fn show_with(set: &Set, marks: bool) -> String {
    use std::fmt::Write;
    let mut out = format!("set {:02x?} {}\n", set.id.as_bytes(), set.name);
    let present = |disk: u16| set.disk(disk).filter(|disk| disk.facts.is_some());
    let mut disks: Vec<String> = set
        .live_disks()
        .filter_map(|(_, disk)| Some((disk, disk.facts?)))
        .map(|(disk, facts)| {
            format!(
                "disk {} key {} {:?} {:?} usable {}\n",
                disk.label, facts.key, disk.state, disk.role, disk.usable_sectors,
            )
        })
        .collect();
    disks.sort();
    out.extend(disks);
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
                    Consistency::Initialising { .. } if !marks => "Initialising".into(),
                    state => format!("{state:?}"),
                },
                match &volume.access {
                    Access::ReadWrite => String::new(),
                    access => format!(" {access:?}"),
                }
            );
            for member in volume.members.iter() {
                let disk = member.disk.and_then(present);
                writeln!(
                    text,
                    "  {} at {} {}",
                    disk.map_or("-".into(), |disk| disk.label.to_string()),
                    member.offset_sectors,
                    match member.state {
                        MemberState::Rebuilding { .. } if !marks => "Rebuilding".into(),
                        // Of a disk that is not here, whether it failed or is gone is the disk's.
                        MemberState::Failed if disk.is_none() => "Missing".into(),
                        state => format!("{state:?}"),
                    }
                )
                .unwrap();
            }
            text
        })
        .collect();
    volumes.sort();
    out.extend(volumes);
    // How a stretch is divided does not matter.
    let mut ranges: Vec<(String, u64, u64)> = set
        .bad_ranges
        .iter()
        .map(|range| {
            let label = set.disk(range.disk).unwrap().label.to_string();
            (label, range.sector, range.sector + u64::from(range.sectors))
        })
        .collect();
    ranges.sort();
    let mut merged: Vec<(String, u64, u64)> = Vec::new();
    for (label, from, to) in ranges {
        match merged.last_mut() {
            Some(last) if last.0 == label && last.2 == from => last.2 = to,
            _ => merged.push((label, from, to)),
        }
    }
    let bad = merged
        .into_iter()
        .map(|(label, from, to)| format!("bad {label} {from}..{to}\n"));
    out.extend(bad);
    out
}

/// The model as text without marks of syncs.
pub fn show(set: &Set) -> String {
    show_with(set, false)
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(set: &ImsmSet, disks: &[Disk], what: &str) {
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
        .map(|n| Disk::blank(&format!("EMDTEST-SERIAL-{n:04}"), mib * 2048, block))
        .collect()
}

/// A new set on all `disks`, written.
pub fn create(disks: &mut [Disk]) -> KBox<ImsmSet> {
    let facts: Vec<DiskFacts> = (0u64..)
        .zip(disks.iter())
        .map(|(key, disk)| facts(disk, key))
        .collect();
    let set = emd_core::metadata::imsm::create::create(&facts, "", &context(0)).unwrap();
    carry_out(disks, &writes(&set));
    set
}

/// The state of every disk, for messages.
pub fn states(set: &Set) -> Vec<DiskState> {
    set.disks.iter().map(|disk| disk.state).collect()
}
