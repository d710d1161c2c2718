// SPDX-License-Identifier: GPL-2.0

//! What the ASR tests share: what ASR is to the shell of all formats, and a way to print a model so that two of them can be
//! compared.

#![allow(dead_code)]

use emd_core::metadata::asr::layout::{header, kind, raid, Line};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::asr::{Asr, AsrSet};
use emd_core::metadata::{DiskImage, Format, MetadataSet, Probe};
use emd_core::model::{Access, Checked, DiskFacts, DiskIndex, DiskRole, Event, Set};
pub use host_tests::crash::Random;
use host_tests::crash::{split_scrubs, without_lost, Cut};
use host_tests::samples::Disk;
use host_tests::shell::{self, Family};
pub use host_tests::shell::{carry_out, context, spec, Write};
use kernel::prelude::*;

/// A set in memory and its disks.
pub type World = host_tests::world::World<Of>;

/// ASR, as the shell has to know it.
#[derive(Clone, Copy, Default)]
pub struct Of;

impl Family for Of {
    type Set = AsrSet;

    fn format(&self) -> &'static dyn Format {
        &Asr
    }

    fn open(&self, images: &[&DiskImage]) -> Checked<KBox<AsrSet>> {
        Asr::open(images)
    }

    fn create(&self, disks: &[DiskFacts]) -> KBox<AsrSet> {
        emd_core::metadata::asr::create::create(disks, "", &context(0)).unwrap()
    }

    fn show(&self, set: &AsrSet) -> String {
        show(set.set())
    }

    fn bytes(&self, set: &AsrSet) -> Vec<u8> {
        set.table.bytes().to_vec()
    }

    fn assert_place(&self, set: &AsrSet, disk: DiskIndex, from: u64, _end: u64) {
        let usable = set.set().disk(disk).unwrap().usable_sectors;
        assert!(from >= usable, "metadata over data: {from}");
    }

    fn bears_cuts(&self, set: &AsrSet, _event: &Event<'_>) -> bool {
        self.is_recorded(set)
    }

    /// When there is a disk that is written to.
    fn is_recorded(&self, set: &AsrSet) -> bool {
        let mut disks = set.set().live_disks();
        disks.any(|(disk, _)| set.home(disk).is_some())
    }

    /// A disk that leaves, or that is made anew, may be seen in the way; one that is added is there or not. The mark of a
    /// scrub may be lost.
    fn allows(&self, cut: &Cut<'_, AsrSet>, state: &str) -> bool {
        let comes = matches!(cut.event, Event::DiskAdded(_));
        let bears_scrubs = cut.bears_scrubs(state);
        let [state, old, new] = [state, cut.old, cut.new].map(|text| split_scrubs(text).0);
        let cut = Cut {
            old: &old,
            new: &new,
            ..*cut
        };
        bears_scrubs
            && (state == old
                || state == new
                || !comes && cut.leaves_only_the_subject(&state, &without_lost))
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
pub fn open_keyed(disks: &[(u64, &Disk)]) -> Checked<KBox<AsrSet>> {
    shell::open_keyed(Of, disks)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(disks: &[Disk]) -> Checked<KBox<AsrSet>> {
    shell::open(Of, disks)
}

/// The writes of the last plan.
pub fn writes(set: &AsrSet) -> Vec<Write> {
    shell::writes(Of, set)
}

/// Applies an event and carries its plan out.
pub fn apply(set: &mut AsrSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    shell::apply(Of, set, disks, event, n)
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(set: &AsrSet, disks: &[Disk], what: &str) {
    shell::assert_same(Of, set, disks, what);
}

/// [`probe`] of a disk that cannot read some sectors.
pub fn probe_with(
    disk: &Disk,
    key: u64,
    readable: &dyn Fn(u64) -> bool,
) -> (DiskImage, Probe, usize) {
    shell::probe(Of, disk, key, readable)
}

/// What the disks `keys` say.
pub fn state_of(disks: &[Disk], keys: &[u64]) -> String {
    shell::state_of(Of, disks, keys).0
}

/// Blank disks of `mib` MiB.
pub fn blanks(count: usize, mib: u64) -> Vec<Disk> {
    shell::blanks(Of, count, mib, 512)
}

/// A new set on all `disks`, written.
pub fn create(disks: &mut [Disk]) -> KBox<AsrSet> {
    shell::create(Of, disks)
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
            if let Some(scrub) = volume.scrub {
                writeln!(text, "  scrub of {}: {scrub:?}", volume.name).unwrap();
            }
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

/// Makes a disk whose table is `at` a spare as firmware has it, with the number `magic`: its table is its own, and names the
/// `array` that it is for, or none.
pub fn make_lone_spare(disk: &mut Disk, at: u64, array: u32, magic: u32) {
    let mut table = Table::new(&disk.read(at, 16)).unwrap();
    while !table.is_empty() {
        table.remove(0);
    }
    let head = Line {
        count: 1,
        magic: u32::MAX,
        kind: kind::ARRAY,
        raid: raid::SPARE,
        ..Line::default()
    };
    let own = Line {
        magic,
        raid: raid::SPARE,
        capacity: 16_000,
        ..Line::default()
    };
    table.insert(0, &head);
    table.insert(1, &own);
    table.head_mut()[header::ARRAY..header::ARRAY + 4].copy_from_slice(&array.to_be_bytes());
    disk.write(at, table.bytes());
    let mut block = disk.read(disk.size_sectors - 1, 1);
    block[0x40..0x44].copy_from_slice(&magic.to_be_bytes());
    disk.write(disk.size_sectors - 1, &block);
}
