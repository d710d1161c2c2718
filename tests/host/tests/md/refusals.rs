// SPDX-License-Identifier: GPL-2.0

//! What EMD does not run: recognised, shown with the reason, and not written to. `md_samples.rs` has the
//! arrays of that kind that mdadm made; here bits are set that no sample has.

use crate::md_common::{
    apply, blanks, change, context, create, open, probe, thin, version_of, Of, World,
};
use emd_core::metadata::md::{MD_090, MD_10, MD_11, MD_12};
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{Access, BadRange, Event, Level};
use host_tests::samples::{load, Disk};
use host_tests::shell::spec;
use kernel::prelude::*;

/// Where a 1.x superblock has its feature bits, and a 0.90 one its minor version.
const AT: usize = 8;

/// What may be done with the array: the word, and the reason.
fn verdict(disks: &[Disk]) -> (&'static str, String) {
    let set = open(version_of(&disks[..1]), disks).unwrap();
    match &set.set().volume(0).unwrap().access {
        Access::ReadWrite => ("all", String::new()),
        Access::ReadOnly(why) => ("read", why.text().to_owned()),
        Access::Refused(why) => ("nothing", why.text().to_owned()),
    }
}

/// A case without its data, which makes copying slow.
fn case_of(case: &str) -> Vec<Disk> {
    let mut disks = load(&format!("md/gen/{case}"));
    let format = version_of(&disks);
    for disk in &mut disks {
        thin(format, disk);
    }
    disks
}

/// Sets feature bits on some disks.
fn with_features(disks: &[Disk], bits: u32, which: &[usize]) -> Vec<Disk> {
    let mut disks = disks.to_vec();
    let format = version_of(&disks);
    for &index in which {
        let disk = &mut disks[index];
        let sector = format.0.sector(disk.size_sectors).unwrap();
        let word: [u8; 4] = disk.read(sector, 1)[AT..AT + 4].try_into().unwrap();
        let word = u32::from_le_bytes(word) | bits;
        change(format, disk, AT, &word.to_le_bytes());
    }
    disks
}

/// Losses are followed in memory; everything else is refused, and no disk is written to.
fn nothing_is_written(disks: &[Disk], what: &str) {
    let mut set = open(version_of(&disks[..1]), disks).unwrap();
    for event in [
        Event::Dirty(0),
        Event::Clean(0),
        Event::ResyncDone(0),
        Event::VolumeDeleted(0),
    ] {
        assert!(set.apply(&event, &context(1)).is_err(), "{what}: {event:?}");
        assert!(set.plan().is_empty(), "{what}");
    }
    set.apply(&Event::DiskFailed(0), &context(2)).unwrap();
    assert!(set.plan().is_empty(), "{what}");
}

#[test]
fn features_that_emd_does_not_run() {
    let cases = ["10-raid1", "11-raid5", "12-raid5-ls"].map(|case| (case, case_of(case)));
    for (bits, access, part) in [
        (0x4, "nothing", "a reshape is under way"),
        (0x24, "nothing", "a reshape is under way"),
        (0x20, "nothing", "a reshape is under way"),
        (0x40, "nothing", "a reshape is under way"),
        (0x100, "nothing", "cluster"),
        (0x200, "nothing", "journal"),
        (0x400, "read", "partial parity log"),
        (0x800, "read", "partial parity log"),
        (0x2000, "nothing", "unknown features 0x2000"),
        (0x8000_0000, "nothing", "unknown features 0x80000000"),
    ] {
        for (case, disks) in &cases {
            let count = disks.len();
            let all: Vec<usize> = (0..count).collect();
            // One disk alone that says so is enough.
            for which in [&all[..], &[0], &[count - 1]] {
                let disks = with_features(disks, bits, which);
                let (got, why) = verdict(&disks);
                assert_eq!(got, access, "{case} {bits:#x} on {which:?}: {why}");
                assert!(why.contains(part), "{case} {bits:#x} on {which:?}: {why}");
                nothing_is_written(&disks, &format!("{case} {bits:#x} on {which:?}"));
            }
        }
    }
    // And what is known is taken.
    for (case, disks) in &cases {
        assert_eq!(
            verdict(&with_features(disks, 0, &[0, 1])).0,
            "all",
            "{case}"
        );
    }
}

/// A cluster's bitmap has a version of its own. Where only that says so, nobody may write.
#[test]
fn a_bitmap_of_a_cluster() {
    let whole = case_of("12-raid1-bitmap-wm");
    let disks = with_features(&whole, 0x100, &[0, 1]);
    let (access, why) = verdict(&disks);
    assert_eq!(access, "nothing");
    assert!(why.contains("another node may be writing"), "{why}");
    for (at, value) in [(4usize, 5u32), (4, 6), (68, 4)] {
        let mut disks = whole.clone();
        let format = version_of(&disks);
        let set = open(format, &disks).unwrap();
        let places: Vec<u64> = set.homes().filter_map(|(_, home)| home.bitmap).collect();
        assert_eq!(places.len(), 2);
        for (disk, sector) in disks.iter_mut().zip(places) {
            let mut bytes = disk.read(sector, 1);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            disk.write(sector, &bytes);
        }
        let (access, why) = verdict(&disks);
        assert_eq!(access, "read", "{at}: {why}");
        assert!(why.contains("bitmap has version"), "{why}");
        nothing_is_written(&disks, "bitmap");
    }
}

/// 0.90 has no feature bits: during a reshape its minor version is 91.
#[test]
fn a_reshape_of_090() {
    for case in ["090-raid5-ls-bitmap", "090-raid10-n2"] {
        let mut disks = case_of(case);
        let format = version_of(&disks);
        for disk in &mut disks {
            change(format, disk, AT, &91u32.to_le_bytes());
        }
        let (access, why) = verdict(&disks);
        assert_eq!(access, "nothing", "{case}");
        assert!(why.contains("a reshape is under way"), "{why}");
        nothing_is_written(&disks, case);
        change(format, &mut disks[0], AT, &92u32.to_le_bytes());
        match probe(format, &disks[0], 0).1 {
            Probe::Damaged(why) => assert!(why.text().contains("0.92"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Marks of a disk that there is not, or of places that are not data.
#[test]
fn impossible_bad_ranges() {
    let disks = case_of("12-raid1-badblocks");
    let mut set = open(version_of(&disks), &disks).unwrap();
    let before = set.set().bad_ranges.len();
    for (disk, sector, part) in [
        (7, 4096, "no disk 7"),
        (0, u64::MAX, "are not data of disk 0"),
        (1, disks[1].size_sectors, "are not data of disk 1"),
    ] {
        let range = BadRange {
            disk,
            sector,
            sectors: 8,
        };
        let why = set
            .apply(&Event::BadRangeAdded(range), &context(1))
            .unwrap_err();
        assert!(why.text().contains(part), "{why}");
        assert_eq!(set.set().bad_ranges.len(), before);
    }
}

/// A log that is full takes no more, and lets go of what is good again.
#[test]
fn a_full_log_lets_go() {
    let mut disks = blanks(2, 40, 512);
    let mut set = create(&MD_12, &disks, "a");
    let slots = [Some(0), Some(1)];
    let made = Event::VolumeCreated(spec("a", Level::Raid1, &slots));
    apply(&mut set, &mut disks, &made, 1).unwrap();
    let range = |n: u64| BadRange {
        disk: 0,
        sector: 4096 + 16 * n,
        sectors: 8,
    };
    let mut count = 0;
    let why = loop {
        match apply(
            &mut set,
            &mut disks,
            &Event::BadRangeAdded(range(count)),
            count,
        ) {
            Ok(()) => count += 1,
            Err(why) => break why,
        }
    };
    assert!(count > 500, "{count}");
    assert_eq!(why.errno(), ENOSPC, "{why}");
    // What is cut in two takes the last entry.
    let middle = BadRange {
        sector: range(7).sector + 2,
        sectors: 2,
        ..range(7)
    };
    apply(&mut set, &mut disks, &Event::BadRangeCleared(middle), 1).unwrap();
    for n in 0..count {
        let event = Event::BadRangeCleared(range(n));
        apply(&mut set, &mut disks, &event, n).unwrap_or_else(|why| panic!("{n}: {why}"));
    }
    assert_eq!(set.set().bad_ranges.len(), 0);
    assert_eq!(open(&MD_12, &disks).unwrap().set().bad_ranges.len(), 0);
}

/// Where there is no log they are known in memory only, and it is said so.
#[test]
fn bad_ranges_are_kept_where_there_is_a_log() {
    for (format, kept) in [
        (&MD_090, false),
        (&MD_10, true),
        (&MD_11, true),
        (&MD_12, true),
    ] {
        let mut world = World::made(Of(format), 2, 40, 512, 0);
        let slots = [Some(0), Some(1)];
        world.apply(&Event::VolumeCreated(spec("", Level::Raid1, &slots)));
        let range = BadRange {
            disk: 1,
            sector: 4096,
            sectors: 8,
        };
        apply(
            &mut world.set,
            &mut world.disks,
            &Event::BadRangeAdded(range),
            1,
        )
        .unwrap();
        assert_eq!(world.set.keeps_bad_ranges(1), kept, "{}", format.0.name());
        assert_eq!(world.set.set().bad_ranges.len(), 1);
        let again = open(format, &world.disks).unwrap();
        assert_eq!(again.set().bad_ranges.len(), usize::from(kept));
    }
}
