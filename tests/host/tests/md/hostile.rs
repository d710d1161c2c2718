// SPDX-License-Identifier: GPL-2.0

//! Metadata as an attacker would write it: superblocks, bitmaps and logs with any field changed and
//! the checksum made right again. Nothing panics, loops or asks for impossible regions; what is taken
//! keeps its members on their disks; and events on it do no harm to data.

use crate::md_common::{apply, blanks, change, facts, open, probe, seal, version_of, Random, ALL};
use emd_core::metadata::md::{Md, MdSet, Version};
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{
    Access, BadRange, Event, MemberState, Scrub, SpareRole, Text, BAD_RANGES_MAX, MEMBERS_MAX,
};
use emd_core::personalities::for_level;
use host_tests::samples::{load, Disk};

/// What must hold of anything that is assembled.
fn check_model(set: &MdSet, what: &str) {
    let model = set.set();
    assert!(model.volumes.len() <= 1, "{what}");
    assert!(model.bad_ranges.len() <= BAD_RANGES_MAX, "{what}");
    let Some(volume) = set.array() else { return };
    let shape = &volume.shape;
    assert!(usize::from(shape.members) <= MEMBERS_MAX, "{what}");
    assert_eq!(volume.members.len(), shape.members_total(), "{what}");
    if matches!(volume.access, Access::Refused(_)) {
        return;
    }
    for member in volume.members.iter() {
        let Some(disk) = member.disk.and_then(|disk| model.disk(disk)) else {
            assert!(!matches!(member.state, MemberState::InSync), "{what}");
            continue;
        };
        if let (Some(facts), MemberState::InSync | MemberState::Rebuilding { .. }) =
            (disk.facts, member.state)
        {
            let end = member.offset_sectors.checked_add(shape.member_sectors);
            assert!(
                end.is_some_and(|end| end <= facts.size_sectors),
                "{what}: a member beyond its disk: {volume:?}"
            );
        }
    }
    if let Some(level) = for_level(shape.level) {
        if level.check(shape).is_ok() {
            assert_eq!(level.capacity_sectors(shape), volume.size_sectors, "{what}");
        }
    }
    if let Some(scrub) = volume.scrub {
        let most = shape.sync_sectors(volume.size_sectors);
        assert!(scrub.done_sectors <= most, "{what}");
    }
    if let Some(log) = &volume.regions {
        assert!(log.dirty.len() * 64 >= log.regions as usize, "{what}");
        assert!(log.region_sectors.is_power_of_two(), "{what}");
    }
}

/// Assembles hostile disks and lets things happen to what comes of it.
fn try_all(format: &'static Md, disks: &[Disk], what: &str) {
    let Ok(mut set) = open(format, disks) else {
        return;
    };
    check_model(&set, what);
    let mut disks = disks.to_vec();
    disks.push(Disk::blank("new", 90_000, disks[0].logical_block_bytes));
    let offer = emd_core::model::DiskOffer {
        facts: facts(disks.last().unwrap(), disks.len() as u64 - 1),
        role: SpareRole::Global,
    };
    let volume = 0;
    let scrub = Scrub {
        repairs: false,
        done_sectors: 8,
    };
    let events = [
        Event::DiskAdded(offer),
        Event::Dirty(volume),
        Event::RegionsDirty {
            volume,
            first: 0,
            count: 1,
        },
        Event::BadRangeAdded(BadRange {
            disk: 0,
            sector: 10,
            sectors: u32::MAX,
        }),
        Event::BadRangeAdded(BadRange {
            disk: 0,
            sector: u64::MAX - 5,
            sectors: 100,
        }),
        Event::ScrubProgress(volume, Some(scrub)),
        Event::DiskFailed(0),
        Event::SpareActivated {
            volume,
            slot: 0,
            disk: (set.set().disks.len()) as u16,
        },
        Event::RebuildProgress {
            volume,
            slot: 0,
            done_sectors: 8,
        },
        Event::RebuildDone { volume, slot: 0 },
        Event::ResyncDone(volume),
        Event::VolumeRenamed(volume, Text::from_text("x")),
        Event::Clean(volume),
        Event::DiskMissing(1),
        Event::DiskRemoved(0),
        Event::VolumeDeleted(volume),
    ];
    for (n, event) in events.iter().enumerate() {
        // `writes` in there sees that no write touches data.
        let _ = apply(&mut set, &mut disks, event, n as u64);
        check_model(&set, what);
    }
}

const CASES: [&str; 6] = [
    "12-raid5-dirty",
    "12-raid1-badblocks",
    "12-raid1-bitmap-wm",
    "10-raid1",
    "090-raid5-ls-bitmap",
    "12-raid10-f2",
];

/// A sample with its data left out, which makes copying slow.
fn thin(case: &str) -> (&'static Md, Vec<Disk>) {
    let disks = load(&format!("md/gen/{case}"));
    let format = version_of(&disks);
    let disks = disks
        .into_iter()
        .map(|disk| {
            let mut thin = Disk::blank(&disk.name, disk.size_sectors, disk.logical_block_bytes);
            let first = match format.0 {
                Version::V12 | Version::V11 => 0,
                _ => disk.size_sectors - 256,
            };
            thin.write(first, &disk.read(first, 256));
            thin
        })
        .collect();
    (format, disks)
}

#[test]
fn every_field_with_every_extreme() {
    for case in CASES {
        let (format, disks) = thin(case);
        let fields = match format.0 {
            Version::V090 => (0..272)
                .step_by(4)
                .chain((512..900).step_by(4))
                .chain((3968..3996).step_by(4))
                .collect::<Vec<_>>(),
            _ => (0..0x120).step_by(4).collect(),
        };
        for at in fields {
            for value in [
                0u32,
                1,
                2,
                0x7F,
                0xFFFF,
                0x7FFF_FFFF,
                0x8000_0000,
                u32::MAX,
                3,
                64,
                65,
            ] {
                for all in [false, true] {
                    let mut hostile = disks.clone();
                    let count = if all { hostile.len() } else { 1 };
                    for disk in &mut hostile[..count] {
                        change(format, disk, at, &value.to_le_bytes());
                    }
                    try_all(
                        format,
                        &hostile,
                        &format!("{case} {at:#x} = {value:#x} {all}"),
                    );
                }
            }
        }
    }
}

#[test]
fn random_mutations() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for case in CASES {
        let (format, disks) = thin(case);
        let start = format.0.sector(disks[0].size_sectors).unwrap();
        for round in 0..400 {
            let mut hostile = disks.clone();
            for _ in 0..1 + random.below(4) {
                let disk = random.below(hostile.len() as u64) as usize;
                // Superblock, bitmap and log.
                let sector = start - start.min(16) + random.below(40);
                let sector = sector.min(hostile[disk].size_sectors - 1);
                let mut bytes = hostile[disk].read(sector, 1);
                let at = random.below(512) as usize;
                match random.below(3) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = random.next() as u8,
                    _ => {
                        let end = (at + 8).min(512);
                        bytes[at..end].fill(if random.below(2) == 0 { 0xFF } else { 0 });
                    }
                }
                hostile[disk].write(sector, &bytes);
                seal(format, &mut hostile[disk]);
            }
            try_all(format, &hostile, &format!("{case} round {round}"));
        }
    }
}

#[test]
fn any_bytes() {
    let mut random = Random(77);
    for format in ALL {
        for round in 0..300 {
            let mut disk = blanks(1, 8, 512).remove(0);
            let start = format.0.sector(disk.size_sectors).unwrap();
            let mut bytes = vec![0u8; 4096];
            for byte in &mut bytes {
                *byte = if random.below(3) == 0 {
                    random.next() as u8
                } else {
                    0
                };
            }
            bytes[..4].copy_from_slice(&0xA92B_4EFCu32.to_le_bytes());
            let major = u32::from(format.0 != Version::V090);
            bytes[4..8].copy_from_slice(&major.to_le_bytes());
            if major == 1 {
                bytes[0x90..0x98].copy_from_slice(&start.to_le_bytes());
                bytes[0xDC..0xE0].copy_from_slice(&(round % 200u32).to_le_bytes());
            } else {
                bytes[8..12].copy_from_slice(&90u32.to_le_bytes());
            }
            disk.write(start, &bytes);
            seal(format, &mut disk);
            try_all(format, &[disk], "any bytes");
        }
    }
}

/// A single flipped bit in what the checksum covers is noticed.
#[test]
fn flipped_bits_are_noticed() {
    for case in CASES {
        let (format, disks) = thin(case);
        let sector = format.0.sector(disks[0].size_sectors).unwrap();
        for at in [8, 0x48, 0x50, 0x5C, 0x80, 0xC8, 0x100] {
            let mut disk = disks[0].clone();
            let mut bytes = disk.read(sector, 8);
            bytes[at] ^= 0x10;
            disk.write(sector, &bytes);
            let verdict = probe(format, &disk, 0).1;
            assert!(
                matches!(verdict, Probe::Damaged(_)),
                "{case} {at:#x}: {verdict:?}"
            );
        }
    }
}

/// The classic: 0.90 at the end of the last partition is at the same place as the disk's own would be.
#[test]
fn a_partitions_superblock_is_not_the_disks() {
    use emd_core::metadata::md::MD_090;
    let (format, disks) = thin("4k-090-raid1");
    assert_eq!(format.0, Version::V090);
    let size = disks[0].size_sectors;
    for block in [512u32, 4096] {
        let unit = u64::from(block / 512);
        let with = |first: u64, sectors: u64, gpt: bool| {
            let mut disk = Disk::blank("whole", size, block);
            for (sector, bytes) in disks[0].runs() {
                disk.write(sector, bytes);
            }
            let mut mbr = vec![0u8; 4096];
            mbr[510..512].copy_from_slice(&[0x55, 0xAA]);
            mbr[450] = if gpt { 0xEE } else { 0xFD };
            let (start, len) = if gpt {
                (1, size / unit - 1)
            } else {
                (first / unit, sectors / unit)
            };
            mbr[454..458].copy_from_slice(&(start as u32).to_le_bytes());
            mbr[458..462].copy_from_slice(&(len as u32).to_le_bytes());
            if gpt {
                let mut table = vec![0u8; 8192 * unit as usize];
                let at = block as usize;
                table[..4096].copy_from_slice(&mbr);
                table[at..at + 8].copy_from_slice(b"EFI PART");
                table[at + 72..at + 80].copy_from_slice(&2u64.to_le_bytes());
                table[at + 84..at + 88].copy_from_slice(&128u32.to_le_bytes());
                let entry = 2 * at + 128;
                table[entry] = 1;
                table[entry + 32..entry + 40].copy_from_slice(&(first / unit).to_le_bytes());
                table[entry + 40..entry + 48]
                    .copy_from_slice(&((first + sectors) / unit - 1).to_le_bytes());
                disk.write(0, &table);
            } else {
                disk.write(0, &mbr);
            }
            disk
        };
        for gpt in [false, true] {
            let theirs = with(2048, size - 2048, gpt);
            let verdict = probe(&MD_090, &theirs, 0).1;
            assert!(
                matches!(verdict, Probe::NotMine),
                "{gpt} {block}: {verdict:?}"
            );
            // A partition elsewhere: the array's own contents, as seen through its first member.
            for (first, sectors) in [(2048, 8192), (2048, size - 2048 - 256)] {
                let own = with(first, sectors, gpt);
                let verdict = probe(&MD_090, &own, 0).1;
                assert!(
                    matches!(verdict, Probe::Found { .. }),
                    "{gpt} {block}: {verdict:?}"
                );
            }
        }
    }
}

/// Of two versions on a disk the array that was created later counts, as for mdadm.
#[test]
fn the_later_of_two_versions_counts() {
    let (one, first) = thin("12-raid1-badblocks");
    let (two, second) = thin("10-raid1");
    let mut disk = first[0].clone();
    for (sector, bytes) in second[0].runs() {
        disk.write(sector, bytes);
    }
    let ctime = |format: &'static Md, disk: &Disk| {
        let bytes = disk.read(format.0.sector(disk.size_sectors).unwrap(), 1);
        u64::from_le_bytes(bytes[0x40..0x48].try_into().unwrap()) & 0xFF_FFFF_FFFF
    };
    let later = if ctime(one, &disk) > ctime(two, &disk) {
        one
    } else {
        two
    };
    for format in [one, two] {
        let found = matches!(probe(format, &disk, 0).1, Probe::Found { .. });
        assert_eq!(found, format.0 == later.0);
    }
}

/// The same disk twice is not guessed at.
#[test]
fn twins_are_refused() {
    for case in CASES {
        let (format, mut disks) = thin(case);
        disks.push(disks[0].clone());
        let set = open(format, &disks).unwrap();
        match &set.array().unwrap().access {
            Access::Refused(why) => assert!(why.text().contains("twice"), "{why}"),
            access => panic!("{case}: {access:?}"),
        }
    }
}
