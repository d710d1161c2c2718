// SPDX-License-Identifier: GPL-2.0

//! What the IMSM tests share: what IMSM is to the shell of all formats, and a way to print a model so that two of them can
//! be compared. The name of a disk is its serial number.

#![allow(dead_code, unused_imports)]

pub mod world;

use emd_core::metadata::imsm::layout::{header, Raw};
use emd_core::metadata::imsm::{Imsm, ImsmSet};
use emd_core::metadata::{DiskImage, Format, MetadataSet, Probe};
use emd_core::model::{
    Access, Checked, Consistency, DiskFacts, DiskIndex, DiskState, Event, MemberState, Set, Volume,
};
pub use host_tests::crash::Random;
use host_tests::crash::{without_lost, Cut};
use host_tests::samples::{self, Disk};
use host_tests::shell::{self, Family};
pub use host_tests::shell::{carry_out, context, Write};
use kernel::prelude::*;

/// IMSM, as the shell has to know it.
#[derive(Clone, Copy, Default)]
pub struct Of;

impl Family for Of {
    type Set = ImsmSet;

    fn format(&self) -> &'static dyn Format {
        &Imsm
    }

    fn open(&self, images: &[&DiskImage]) -> Checked<KBox<ImsmSet>> {
        Imsm::open(images)
    }

    fn create(&self, disks: &[DiskFacts]) -> KBox<ImsmSet> {
        emd_core::metadata::imsm::create::create(disks, "", &context(0)).unwrap()
    }

    fn show(&self, set: &ImsmSet) -> String {
        show(set.set())
    }

    fn bytes(&self, set: &ImsmSet) -> Vec<u8> {
        set.mpb.bytes().to_vec()
    }

    fn assert_place(&self, set: &ImsmSet, disk: DiskIndex, from: u64, _end: u64) {
        for (volume, _, member) in set.set().memberships(disk) {
            let sectors = set.set().volume(volume).unwrap().shape.member_sectors;
            let end = member.offset_sectors + sectors;
            assert!(from >= end, "metadata over data: {from}");
        }
        let usable = set.set().disk(disk).unwrap().usable_sectors;
        assert!(from + 256 + 16 >= usable, "{from}");
    }

    fn serial(&self, disk: &Disk, _key: u64) -> String {
        disk.name.clone()
    }

    fn blank_name(&self, key: u64) -> String {
        format!("EMDTEST-SERIAL-{key:04}")
    }

    fn thin(&self, disk: &mut Disk) {
        disk.keep_last(70_000);
    }

    /// They are small and quick.
    fn rounds(&self, crashes: usize) -> usize {
        crashes
    }

    /// Known: graid leaves no room for a copy of the only MPB (`docs/formats/imsm.md`).
    fn bears_cuts(&self, set: &ImsmSet, _event: &Event<'_>) -> bool {
        let homes: Vec<DiskIndex> = (0..set.disks.len() as DiskIndex)
            .filter(|&disk| set.entry(disk).is_some())
            .filter(|&disk| set.disks[usize::from(disk)].home.is_some())
            .collect();
        let is_full = |disk: DiskIndex| {
            let room = u64::from(set.block_bytes / 512) * 256;
            let anchor = set.disks[usize::from(disk)].anchor.unwrap();
            let anchor = anchor * u64::from(set.block_bytes / 512);
            set.set().memberships(disk).any(|(volume, _, member)| {
                let sectors = set.set().volume(volume).unwrap().shape.member_sectors;
                member.offset_sectors + sectors + room > anchor
            })
        };
        homes.len() != 1 || !is_full(homes[0])
    }

    /// A disk that comes or goes may show as a leftover. With the last volume every disk becomes a spare by itself; those
    /// that have not yet are left over, and in no use.
    fn allows(&self, cut: &Cut<'_, ImsmSet>, state: &str) -> bool {
        let freed = || {
            matches!(cut.event, Event::VolumeDeleted(_))
                && state.replace("Stale Unused", "Online GlobalSpare") == cut.new
        };
        state == cut.old
            || state == cut.new
            || cut.leaves_only_the_subject(state, &without_lost)
            || freed()
    }
}

/// Facts of a sample disk; `key` is its handle.
pub fn facts(disk: &Disk, key: u64) -> DiskFacts {
    shell::facts(Of, disk, key)
}

/// Reads what the format asks for. Gives the image, the verdict and how much was read.
pub fn probe(disk: &Disk, key: u64) -> (DiskImage, Probe, usize) {
    shell::probe(Of, disk, key, &|_| true)
}

/// Assembles the disks that are given, with their keys.
pub fn open_keyed(disks: &[(u64, &Disk)]) -> Checked<KBox<ImsmSet>> {
    shell::open_keyed(Of, disks)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(disks: &[Disk]) -> Checked<KBox<ImsmSet>> {
    shell::open(Of, disks)
}

/// The writes of the last plan.
pub fn writes(set: &ImsmSet) -> Vec<Write> {
    shell::writes(Of, set)
}

/// Applies an event and carries its plan out.
pub fn apply(set: &mut ImsmSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    shell::apply(Of, set, disks, event, n)
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(set: &ImsmSet, disks: &[Disk], what: &str) {
    shell::assert_same(Of, set, disks, what);
}

/// Cuts a plan everywhere and demands `allowed` of what is reassembled from the disks `keys`.
pub fn cut_everywhere(
    before: &[Disk],
    writes: &[Write],
    keys: &[u64],
    random: &mut Random,
    rounds: usize,
    allowed: &dyn Fn(&str, &str),
) {
    shell::cut_everywhere(Of, before, writes, keys, random, rounds, allowed);
}

/// Blank disks of `mib` MiB.
pub fn blanks(count: usize, mib: u64, block: u32) -> Vec<Disk> {
    shell::blanks(Of, count, mib, block)
}

/// A new set on all `disks`, written.
pub fn create(disks: &mut [Disk]) -> KBox<ImsmSet> {
    shell::create(Of, disks)
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
            "gen/raid10-6" => format!("disk{}", number + 1),
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
                    // Whoever reads a repair goes on with it as a resync.
                    Consistency::Clean if is_repaired(volume) => "Initialising".into(),
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

/// Whether a repair is recorded: while all members are there.
fn is_repaired(volume: &Volume) -> bool {
    let mut members = volume.members.iter();
    volume.scrub.is_some_and(|scrub| scrub.repairs)
        && members.all(|member| member.state == MemberState::InSync)
}

/// The model as text without marks of syncs.
pub fn show(set: &Set) -> String {
    show_with(set, false)
}

/// The state of every disk, for messages.
pub fn states(set: &Set) -> Vec<DiskState> {
    set.disks.iter().map(|disk| disk.state).collect()
}
