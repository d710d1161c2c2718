// SPDX-License-Identifier: GPL-2.0

//! What the md tests share: what md's versions are to the shell of all formats, and a way to print a model so that two of
//! them can be compared.

#![allow(dead_code)]

use emd_core::metadata::md::head::{checksum_0, checksum_1};
use emd_core::metadata::md::{Md, MdSet, Version, MD_090, MD_10, MD_11, MD_12};
use emd_core::metadata::{DiskImage, Format, MetadataSet, Probe};
use emd_core::model::{
    Access, Checked, Consistency, DiskFacts, DiskIndex, DiskState, Event, Level, MemberState, Set,
    VolumeSpec,
};
pub use host_tests::crash::Random;
use host_tests::crash::{split_scrubs, Cut};
use host_tests::samples::Disk;
use host_tests::shell::{self, Family};
pub use host_tests::shell::{context, Write};
use kernel::prelude::*;

/// All four formats.
pub const ALL: [&Md; 4] = [&MD_12, &MD_11, &MD_10, &MD_090];

/// A set in memory and its disks.
pub type World = host_tests::world::World<Of>;

/// One of md's versions, as the shell has to know it.
#[derive(Clone, Copy)]
pub struct Of(pub &'static Md);

impl Family for Of {
    type Set = MdSet;

    fn format(&self) -> &'static dyn Format {
        self.0
    }

    fn open(&self, images: &[&DiskImage]) -> Checked<KBox<MdSet>> {
        self.0.open(images)
    }

    /// Not yet written: md has no set without an array.
    fn create(&self, disks: &[DiskFacts]) -> KBox<MdSet> {
        let set =
            emd_core::metadata::md::create::create(self.0 .0, disks, "", &context(0)).unwrap();
        assert!(set.plan().is_empty());
        set
    }

    fn show(&self, set: &MdSet) -> String {
        show(set)
    }

    /// Superblocks are made from the model when they are written.
    fn bytes(&self, _set: &MdSet) -> Vec<u8> {
        Vec::new()
    }

    fn assert_place(&self, set: &MdSet, disk: DiskIndex, from: u64, end: u64) {
        for (volume, _, member) in set.set().memberships(disk) {
            let sectors = set.set().volume(volume).unwrap().shape.member_sectors;
            let data = member.offset_sectors..member.offset_sectors + sectors;
            assert!(
                end <= data.start || from >= data.end,
                "metadata over data: {from}..{end}"
            );
        }
    }

    /// They are small and quick.
    fn rounds(&self, crashes: usize) -> usize {
        crashes
    }

    /// A superblock that is longer than a block may be torn.
    fn torn_max(&self) -> usize {
        1
    }

    /// Arrays that are made or deleted may have fewer disks after a cut: `made_and_deleted.rs` judges that.
    fn bears_cuts(&self, set: &MdSet, event: &Event<'_>) -> bool {
        set.bears() && !matches!(event, Event::VolumeCreated(_) | Event::VolumeDeleted(_))
    }

    /// What was lost beyond what the array bears is in memory only.
    fn is_recorded(&self, set: &MdSet) -> bool {
        set.array().is_some() && set.bears()
    }

    /// A disk that comes or goes may show as either. What is dirty before and after is dirty in between. The mark of a scrub
    /// may be lost: it counts only where all members have one.
    fn allows(&self, cut: &Cut<'_, MdSet>, state: &str) -> bool {
        if !cut.bears_scrubs(state) {
            return false;
        }
        let [state, old, new] = [state, cut.old, cut.new].map(|text| split_scrubs(text).0);
        let (state, dirty) = split_regions(&state);
        let (old, old_dirty) = split_regions(&old);
        let (new, new_dirty) = split_regions(&new);
        let same = state == old
            || state == new
            || cut.subject.is_some_and(|key| {
                let state = without(&state, key);
                state == without(&old, key) || state == without(&new, key)
            });
        let mut both = old_dirty.iter().filter(|region| new_dirty.contains(region));
        same && both.all(|region| dirty.contains(region))
    }
}

/// Without the line of regions, and the regions that are dirty.
fn split_regions(text: &str) -> (String, Vec<u32>) {
    let mut regions = Vec::new();
    let mut rest = String::new();
    for line in text.lines() {
        match line.split_once(" regions of ") {
            Some((_, list)) => {
                let list = list.split_once('[').unwrap().1.trim_end_matches(']');
                regions = list
                    .split(", ")
                    .filter(|n| !n.is_empty())
                    .map(|n| n.parse().unwrap())
                    .collect();
            }
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (rest, regions)
}

/// Without the lines of disk `key` and of disks that are in no use.
fn without(text: &str, key: u64) -> String {
    let own = format!("disk key Some({key}) ");
    text.lines()
        .filter(|line| !line.starts_with(&own))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Facts of a sample disk; `key` is its handle.
pub fn facts(disk: &Disk, key: u64) -> DiskFacts {
    shell::facts(Of(&MD_12), disk, key)
}

/// Reads what the format asks for. Gives the image, the verdict and how much was read.
pub fn probe(format: &'static Md, disk: &Disk, key: u64) -> (DiskImage, Probe, usize) {
    shell::probe(Of(format), disk, key, &|_| true)
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
pub fn open_keyed(format: &'static Md, disks: &[(u64, &Disk)]) -> Checked<KBox<MdSet>> {
    shell::open_keyed(Of(format), disks)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(format: &'static Md, disks: &[Disk]) -> Checked<KBox<MdSet>> {
    shell::open(Of(format), disks)
}

/// The writes of the last plan. None may touch data, or be of no use.
pub fn writes(set: &MdSet) -> Vec<Write> {
    shell::writes(Of(&MD_12), set)
}

/// Applies an event and carries its plan out.
pub fn apply(set: &mut MdSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    shell::apply(Of(&MD_12), set, disks, event, n)
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(format: &'static Md, set: &MdSet, disks: &[Disk], what: &str) {
    shell::assert_same(Of(format), set, disks, what);
}

/// Blank disks of `mib` MiB.
pub fn blanks(count: usize, mib: u64, block: u32) -> Vec<Disk> {
    shell::blanks(Of(&MD_12), count, mib, block)
}

/// A new set on all `disks`, not yet written (md has no set without an array).
pub fn create(format: &'static Md, disks: &[Disk], name: &str) -> KBox<MdSet> {
    let facts = shell::all_facts(Of(format), disks);
    let set = emd_core::metadata::md::create::create(format.0, &facts, name, &context(0)).unwrap();
    assert!(set.plan().is_empty());
    set
}

/// An array of `members` in sync on the first of the disks.
pub fn made_of(
    format: &'static Md,
    level: Level,
    members: u16,
    mut disks: Vec<Disk>,
) -> (KBox<MdSet>, Vec<Disk>) {
    let mut set = create(format, &disks[..usize::from(members)], "");
    let slots: Vec<Option<DiskIndex>> = (0..members).map(Some).collect();
    let made = Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..shell::spec("", level, &slots)
    });
    apply(&mut set, &mut disks, &made, 1).unwrap();
    (set, disks)
}

/// The model as text: what must be the same after reassembly.
///
/// What md does not keep: which disk it was that is gone; on 0.90, failed disks. Its rebuilds are shown as EMD's own marks of
/// them, which like those of a scrub a cut may cost, and the disks as the spares that they are without. Marks
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
            "volume {} {:?} size {} {consistency:?} {:?}{access}",
            volume.name, volume.shape, volume.size_sectors, volume.crash_policy,
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
        if let Some(scrub) = volume.scrub {
            writeln!(out, "  scrub {scrub:?}").unwrap();
        }
        for (slot, member) in volume.members.iter().enumerate().filter(|_| old) {
            let disk = member.disk.and_then(|disk| model.disk(disk));
            let key = disk.and_then(|disk| disk.facts).map(|facts| facts.key);
            match (member.state, key) {
                (MemberState::Rebuilding { done_sectors }, Some(key)) if done_sectors >= 8 => {
                    let done = done_sectors / 8 * 8;
                    writeln!(
                        out,
                        "  scrub none, rebuild of slot {slot}: disk {key}, {done}"
                    )
                    .unwrap();
                }
                _ => {}
            }
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
