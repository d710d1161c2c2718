// SPDX-License-Identifier: GPL-2.0

//! Volumes that mdadm is reshaping: data is read from where it is, on both sides of how far that got, and
//! from the copy of what was being moved; or the volume is refused with the reason.
//!
//! The samples were cut off with 32 units of 6144 sectors moved. Sectors 0–4095 of the volume, and its last
//! 512, hold the little-endian u64 (sector number + 1).

use crate::imsm_common::{open, reseal, sample};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Level, Volume};
use emd_core::personalities::Stretches;
use host_tests::samples::Disk;

const CASES: [&str; 2] = ["gen/grow-r0", "gen/grow-r5"];
/// Sectors of a unit, and of a member in it, in both samples.
const UNIT: u64 = 6144;
const DEPTH: u64 = 2048;
/// Size before the reshape.
const SIZE: u64 = 237_568;

/// Offsets in the record.
const STATUS: usize = 0;
const CURRENT: usize = 4;
const FAMILY: usize = 8;
const ASCENDING: usize = 0xC;
const TARGET: usize = 0x1C;
const CURRENT_HI: usize = 0x30;
const COPY: usize = 0x18;

fn pattern(sector: u64) -> Vec<u8> {
    (sector + 1).to_le_bytes().repeat(64)
}

/// A sector of the volume, as the data path reads it.
fn read(set: &ImsmSet, disks: &[Disk], sector: u64) -> Vec<u8> {
    let volume = set.set().volume(0).unwrap();
    let (stretches, members) = Stretches::new(volume).unwrap();
    let place = stretches.locate(sector).unwrap();
    assert!(place.left_sectors >= 1 && sector + place.left_sectors <= SIZE);
    let member = members[usize::from(place.slot)];
    assert!(place.member_sector < stretches.member_end(place.slot));
    let key = set
        .set()
        .disk(member.disk.unwrap())
        .unwrap()
        .facts
        .unwrap()
        .key;
    disks[key as usize].read(member.offset_sectors + place.member_sector, 1)
}

fn access(disks: &[Disk]) -> Access {
    open(disks).unwrap().set().volume(0).unwrap().access
}

/// Why the volume is refused.
fn refusal(disks: &[Disk], what: &str) -> String {
    let set = open(disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(volume.stretches.is_empty(), "{what}");
    match volume.access {
        Access::Refused(why) => why.text().to_owned(),
        access => panic!("{what}: {access:?}"),
    }
}

/// Writes words of the record on disks.
fn patch(disks: &mut [Disk], which: &[usize], words: &[(usize, u32)]) {
    for &disk in which {
        let last = disks[disk].size_sectors - 1;
        let mut block = disks[disk].read(last, 1);
        for &(at, value) in words {
            block[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        disks[disk].write(last, &block);
    }
}

/// The disks with records: those in the first two slots.
fn holders(disks: &[Disk]) -> Vec<usize> {
    (0..disks.len())
        .filter(|&disk| {
            let last = disks[disk].size_sectors - 1;
            disks[disk].read(last, 1).iter().any(|&byte| byte != 0)
        })
        .collect()
}

/// Writes the checkpoint of the MPB on all disks.
fn set_checkpoint(disks: &mut [Disk], unit: u32) {
    for disk in disks.iter_mut() {
        reseal(disk, &mut |mpb| {
            let at = 0xD8 + 48 * usize::from(mpb[0x38]) + 0x50;
            mpb[at..at + 4].copy_from_slice(&unit.to_le_bytes());
        });
    }
}

fn ends(volume: &Volume) -> Vec<(u64, u16)> {
    volume
        .stretches
        .iter()
        .map(|stretch| (stretch.end_sectors, stretch.shape.members))
        .collect()
}

#[test]
fn both_sides_of_the_boundary_are_read() {
    for (case, level, members) in [
        ("gen/grow-r0", Level::Raid0, (2, 3)),
        ("gen/grow-r5", Level::Raid5, (3, 4)),
    ] {
        let disks = sample(case);
        let set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert!(matches!(volume.access, Access::ReadOnly(_)), "{case}");
        assert_eq!(volume.size_sectors, SIZE, "{case}");
        assert_eq!(volume.shape.level, level, "{case}");
        assert_eq!(volume.members.len(), usize::from(members.1), "{case}");
        assert_eq!(
            ends(volume),
            [(32 * UNIT, members.1), (SIZE, members.0)],
            "{case}"
        );
        for sector in (0..4096).chain(SIZE - 512..SIZE) {
            assert_eq!(
                read(&set, &disks, sector),
                pattern(sector),
                "{case}: {sector}"
            );
        }
        let (stretches, _) = Stretches::new(volume).unwrap();
        assert_eq!(stretches.locate(SIZE), None);
        // Cut at the boundary, though the chunk goes on.
        let place = stretches.locate(32 * UNIT - 1).unwrap();
        assert_eq!(place.left_sectors, 1, "{case}");
    }
}

/// The last sectors as they lie in the new shape must not be taken for those of the old one, nor the other
/// way round: with a boundary that is wrong the bytes are, too.
#[test]
fn the_boundary_counts() {
    for case in CASES {
        for unit in [0u32, 39] {
            let mut disks = sample(case);
            let held = holders(&disks);
            assert_eq!(held.len(), 2, "{case}");
            set_checkpoint(&mut disks, 0);
            patch(
                &mut disks,
                &held,
                &[(CURRENT, unit), (TARGET, unit * DEPTH as u32)],
            );
            let set = open(&disks).unwrap();
            let volume = set.set().volume(0).unwrap();
            if unit == 0 {
                // As if nothing had been moved: the source shape alone.
                assert!(volume.stretches.is_empty());
                assert_eq!(volume.shape.members, disks.len() as u16 - 1, "{case}");
                continue;
            }
            let wrong = (SIZE - 512..SIZE)
                .filter(|&sector| read(&set, &disks, sector) != pattern(sector))
                .count();
            assert!(wrong > 400, "{case}: {wrong}");
        }
    }
}

/// Power was cut in the first unit: the MPB says that nothing is done, the record knows better.
#[test]
fn the_record_counts_and_not_the_checkpoint() {
    for case in CASES {
        let mut disks = sample(case);
        set_checkpoint(&mut disks, 0);
        let set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert_eq!(ends(volume).len(), 2, "{case}");
        for sector in (0..4096).chain(SIZE - 512..SIZE) {
            assert_eq!(
                read(&set, &disks, sector),
                pattern(sector),
                "{case}: {sector}"
            );
        }
    }
}

/// What was being moved is read from the copy area, and only from there.
#[test]
fn the_unit_in_the_copy_area_is_read_from_there() {
    for case in CASES {
        let mut disks = sample(case);
        let held = holders(&disks);
        let set = open(&disks).unwrap();
        let copy = {
            let last = disks[held[0]].read(disks[0].size_sectors - 1, 1);
            u64::from(u32::from_le_bytes(last[COPY..COPY + 4].try_into().unwrap()))
        };
        drop(set);
        // The first unit, as it lies in the new shape, goes to the copy area; its place is wiped.
        set_checkpoint(&mut disks, 0);
        for disk in &mut disks {
            let unit = disk.read(0, DEPTH as usize);
            disk.write(copy, &unit);
            disk.write(0, &vec![0xEE; DEPTH as usize * 512]);
        }
        patch(&mut disks, &held, &[(STATUS, 1), (CURRENT, 0), (TARGET, 0)]);
        let set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        let (new, old) = (disks.len() as u16, disks.len() as u16 - 1);
        assert_eq!(ends(volume), [(UNIT, new), (SIZE, old)], "{case}");
        for sector in (0..4096).chain(SIZE - 512..SIZE) {
            assert_eq!(
                read(&set, &disks, sector),
                pattern(sector),
                "{case}: {sector}"
            );
        }
        // In the middle there are three stretches.
        patch(
            &mut disks,
            &held,
            &[(CURRENT, 7), (TARGET, 7 * DEPTH as u32)],
        );
        let set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert_eq!(
            ends(volume),
            [(7 * UNIT, new), (8 * UNIT, new), (SIZE, old)],
            "{case}"
        );
        let (stretches, members) = Stretches::new(volume).unwrap();
        assert_eq!(members.len(), 2 * disks.len());
        let place = stretches.locate(7 * UNIT).unwrap();
        let start = members[usize::from(place.slot)].offset_sectors;
        assert_eq!(start + place.member_sector, copy, "{case}");
        let place = stretches.locate(8 * UNIT - 1).unwrap();
        let start = members[usize::from(place.slot)].offset_sectors;
        assert_eq!(start + place.member_sector, copy + DEPTH - 1, "{case}");
        for index in 0..members.len() as u16 {
            let end = members[usize::from(index)].offset_sectors + stretches.member_end(index);
            assert!(end <= copy + DEPTH, "{case}: {end}");
        }
    }
}

#[test]
fn what_is_not_certain_is_refused() {
    for case in CASES {
        let whole = sample(case);
        let held = holders(&whole);
        type Case<'a> = (&'a str, &'a [usize], &'a [(usize, u32)], &'a str);
        let cases: [Case<'_>; 11] = [
            (
                "one record is older",
                &held[..1],
                &[(CURRENT, 31), (TARGET, 31 * 2048)],
                "differ",
            ),
            (
                "one record is in the copy area",
                &held[1..],
                &[(STATUS, 1)],
                "differ",
            ),
            ("another family", &held, &[(FAMILY, 1)], "another set"),
            ("descending", &held, &[(ASCENDING, 0)], "from the end"),
            (
                "behind the metadata",
                &held,
                &[(CURRENT, 31), (TARGET, 31 * 2048)],
                "same time",
            ),
            (
                "beyond its units",
                &held,
                &[(CURRENT, 59), (TARGET, 59 * 2048)],
                "same time",
            ),
            ("far beyond", &held, &[(CURRENT_HI, u32::MAX)], "same time"),
            ("a target elsewhere", &held, &[(TARGET, 1)], "no sense"),
            ("an unknown state", &held, &[(STATUS, 2)], "not known"),
            ("no unit", &held, &[(0x10, 0)], "no sense"),
            (
                "a copy beyond the disk",
                &held,
                &[(STATUS, 1), (COPY, 131_000)],
                "no sense",
            ),
        ];
        for (what, which, words, expected) in cases {
            let mut disks = whole.clone();
            patch(&mut disks, which, words);
            let why = refusal(&disks, what);
            assert!(
                why.contains(expected) && why.contains("reshaped"),
                "{what}: {why}"
            );
        }
        // Copies inside the volume.
        let mut disks = whole.clone();
        patch(&mut disks, &held, &[(STATUS, 1), (COPY, 70_000)]);
        assert!(refusal(&disks, "copy").contains("no sense"));
        // No record at all, though it has begun.
        let mut disks = whole.clone();
        for &disk in &held {
            let last = disks[disk].size_sectors - 1;
            disks[disk].write(last, &[0; 512]);
        }
        assert!(refusal(&disks, "wiped").contains("no record"));
        // Not begun, and no record: that is how it looks before mdadm moves anything.
        set_checkpoint(&mut disks, 0);
        assert!(
            matches!(access(&disks), Access::ReadOnly(why) if why.text().contains("nothing is done"))
        );
        // Members are missing: the one with a record, or the new one.
        for gone in 0..whole.len() {
            let keyed: Vec<(u64, &Disk)> = (0u64..)
                .zip(whole.iter())
                .filter(|(key, _)| *key != gone as u64)
                .collect();
            let set = crate::imsm_common::open_keyed(&keyed).unwrap();
            let volume = set.set().volume(0).unwrap();
            assert!(
                matches!(volume.access, Access::Refused(_)),
                "{case} without {gone}"
            );
        }
    }
}

/// A power cut within the first unit: in the copy area, with nothing counted yet.
#[test]
fn the_first_unit_is_not_read_in_the_old_shape_when_it_may_be_half_moved() {
    for case in CASES {
        let mut disks = sample(case);
        let held = holders(&disks);
        set_checkpoint(&mut disks, 0);
        patch(&mut disks, &held, &[(STATUS, 1), (CURRENT, 0), (TARGET, 0)]);
        let set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert_eq!(ends(volume)[0].0, UNIT, "{case}");
    }
}
