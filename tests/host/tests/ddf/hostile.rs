// SPDX-License-Identifier: GPL-2.0

//! Damaged, truncated and hostile metadata: never a panic, never a guess, always a reason. What one
//! copy or one disk still knows is used.

use crate::ddf_common::damage::{flip, spec, world};
use crate::ddf_common::{
    apply, carry_out, context, cut_everywhere, open, probe, show, writes, Random,
};
use emd_core::metadata::ddf::crc::Crc;
use emd_core::metadata::ddf::layout::Section;
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{DiskState, Event, Level, SpareRole, Text};
use host_tests::samples::{cases, load, Disk};
use host_tests::{share, whole};

/// Whatever is opened must be usable for events without a panic, too.
fn exercise(mut set: Box<DdfSet>) {
    let volumes = set.set().volumes.len() as u16;
    let disks = set.set().disks.len() as u16;
    let all: Vec<Option<u16>> = (0..disks.min(3)).map(Some).collect();
    let mut events = Vec::new();
    for volume in 0..volumes.min(4) {
        events.push(Event::Dirty(volume));
        events.push(Event::ResyncProgress {
            volume,
            done_sectors: 0,
        });
        for slot in 0..3 {
            for disk in 0..disks.min(4) {
                events.push(Event::SpareActivated { volume, slot, disk });
                events.push(Event::RebuildDone { volume, slot });
            }
        }
        events.push(Event::Clean(volume));
    }
    events.push(Event::VolumeCreated(spec("x", Level::Raid1, 64, &all)));
    for disk in 0..disks.min(6) {
        events.push(Event::SpareAssigned(disk, SpareRole::Global));
        events.push(Event::DiskFailed(disk));
        events.push(Event::DiskRemoved(disk));
        events.push(Event::DiskMissing(disk));
    }
    for volume in 0..volumes.min(4) {
        events.push(Event::VolumeDeleted(volume));
    }
    for (n, event) in events.iter().enumerate() {
        if let Err(why) = set.apply(event, &context(n as u64)) {
            assert!(!why.text().is_empty());
            assert!(!why.text().starts_with("internal"), "{event:?}: {why}");
        }
        let _ = writes(&set);
    }
}

/// From one byte that is flipped to the next: a daily run takes every third.
fn step() -> usize {
    if whole() {
        1
    } else {
        3
    }
}

/// Every byte of every header flipped: the other copy or the other disks carry the set.
#[test]
fn one_flipped_header_byte_loses_nothing() {
    for block in [512u32, 4096] {
        let (set, disks) = world(block);
        let good = show(set.set());
        let home = set.home(0).unwrap();
        let bytes = u64::from(block);
        for (copy, place) in [home.copies[0], home.copies[1]].into_iter().enumerate() {
            let first = place.unwrap() * bytes;
            for byte in (0..512).step_by(step()) {
                let mut broken = disks.clone();
                flip(&mut broken[0], first + byte, 1 << (byte % 8));
                let again = open(&broken).unwrap_or_else(|why| panic!("{copy} {byte}: {why:?}"));
                assert_eq!(good, show(again.set()), "copy {copy}, byte {byte}");
            }
        }
        // Without its anchor a disk is not found; the others go on without it.
        for byte in (0..512).step_by(step()) {
            let mut broken = disks.clone();
            flip(&mut broken[0], home.anchor * bytes + byte, 0x10);
            let (_, verdict, _) = probe(&broken[0], 0);
            assert!(
                matches!(verdict, Probe::Damaged(_) | Probe::NotMine),
                "byte {byte}: {verdict:?}"
            );
            if byte % 37 == 0 {
                let again = open(&broken).unwrap();
                assert_eq!(again.set().disk(0).unwrap().state, DiskState::Missing);
                assert_eq!(
                    again.set().notes.len(),
                    usize::from(byte >= 4),
                    "byte {byte}"
                );
            }
        }
    }
}

/// The same on disks with one copy only (graid), and in all three conventions and both byte orders.
#[test]
fn a_flipped_header_byte_of_a_lone_copy_is_damage() {
    for case in ["ddf-raid1-2d", "ddfle-raid1-2d", "ddf-raid1-2d-4kn"] {
        let disks = load(&format!("ddf/gen-freebsd/{case}"));
        let home = open(&disks).unwrap().home(0).unwrap().copies[0].unwrap();
        let first = home * u64::from(disks[0].logical_block_bytes);
        for byte in (0..512).step_by(step()) {
            let mut broken = disks[0].clone();
            flip(&mut broken, first + byte, 0x04);
            let (_, verdict, _) = probe(&broken, 0);
            let Probe::Damaged(why) = verdict else {
                panic!("{case} byte {byte}: {verdict:?}");
            };
            assert!(!why.text().is_empty());
        }
    }
}

/// A flipped byte anywhere in one copy's sections changes nothing: the other copy is taken.
#[test]
fn a_flipped_section_byte_loses_nothing() {
    let (set, disks) = world(512);
    let good = show(set.set());
    let home = set.home(1).unwrap();
    let mut random = Random(7);
    for round in 0..share(300) {
        let copy = home.copies[round % 2].unwrap();
        let span = u64::from(home.layout.span_blocks());
        let byte = 512 + random.below((span - 1) * 512);
        let mut broken = disks.clone();
        flip(&mut broken[1], copy * 512 + byte, 1 << random.below(8));
        let again = open(&broken).unwrap();
        assert_eq!(good, show(again.set()), "byte {byte} of copy {copy}");
        // The next update mends it.
        let mut again = again;
        let event = Event::VolumeRenamed(0, Text::from_text("mended"));
        apply(&mut again, &mut broken, &event, 9).unwrap();
        let mut other = broken.clone();
        let kept = home.copies[round % 2].unwrap();
        let wiped = home.copies[1 - round % 2].unwrap();
        for disk in &mut other {
            disk.write(wiped, &[0; 512]);
        }
        let mended = open(&other).unwrap_or_else(|why| panic!("{kept}: {why:?}"));
        assert_eq!(
            show(again.set()),
            show(mended.set()),
            "byte {byte} of copy {copy}"
        );
    }
}

/// The same copy is broken on every disk at the same place, and then an update is cut: the good copy
/// must not be touched before the broken one is mended.
#[test]
fn a_broken_copy_is_mended_first() {
    let (set, disks) = world(512);
    let good = show(set.set());
    let mut random = Random(17);
    for round in 0..12u64 {
        let section = [Section::Disks, Section::Volumes, Section::Data][(round % 3) as usize];
        let which = (round / 3 % 2) as usize;
        let mut broken = disks.clone();
        for (index, disk) in broken.iter_mut().enumerate() {
            let home = set.home(index as u16).unwrap();
            let place = home.layout.place(section);
            let first = (home.copies[which].unwrap() + u64::from(place.offset)) * 512;
            let len = home.layout.section_bytes(section) as u64;
            flip(
                disk,
                first + 4 + random.below(len - 4),
                1 << random.below(8),
            );
        }
        let mut again = open(&broken).unwrap();
        assert_eq!(good, show(again.set()), "{section:?} of copy {which}");
        assert!(!again.frozen);
        let all = [Some(0), Some(1), Some(2)];
        let third = Event::VolumeCreated(spec("third", Level::Raid0, 3000, &all));
        again.apply(&third, &context(round)).unwrap();
        let plan = writes(&again);
        let keys = [0, 1, 2];
        let new = {
            let mut after = broken.clone();
            carry_out(&mut after, &plan);
            show(open(&after).unwrap().set())
        };
        assert_ne!(good, new);
        cut_everywhere(&broken, &plan, &keys, &mut random, 4, &|state, at| {
            assert!(
                state == good || state == new,
                "{section:?} {which} {at}: {state}"
            );
        });
        // Afterwards the broken copy is as good as the other one.
        carry_out(&mut broken, &plan);
        for (index, disk) in broken.iter_mut().enumerate() {
            let other = set.home(index as u16).unwrap().copies[1 - which].unwrap();
            disk.write(other, &[0; 512]);
        }
        let mended = open(&broken).unwrap();
        assert!(!mended.frozen, "{section:?} of copy {which} is not mended");
        assert_eq!(new, show(mended.set()));
    }
}

/// Many random flips all over the metadata of all disks.
#[test]
fn random_damage_never_panics() {
    let mut random = Random(11);
    for case in cases("ddf") {
        let mut disks = load(&case);
        for disk in &mut disks {
            disk.keep_last(70_000);
        }
        let starts: Vec<Vec<(u64, usize)>> = disks
            .iter()
            .map(|disk| disk.runs().map(|(s, b)| (s, b.len() / 512)).collect())
            .collect();
        for _ in 0..share(40) {
            let mut broken = disks.clone();
            for (disk, runs) in broken.iter_mut().zip(&starts) {
                for _ in 0..random.below(12) {
                    let (start, len) = runs[random.below(runs.len() as u64) as usize];
                    let byte = start * 512 + random.below(len as u64 * 512);
                    flip(disk, byte, 1 << random.below(8));
                }
            }
            if let Ok(set) = open(&broken) {
                exercise(set);
            }
        }
    }
}

/// Fields changed on purpose, and the checksum made right again: the hostile case.
#[test]
fn sealed_lies_never_panic() {
    let mut random = Random(13);
    let sample = |case: &str| load(&format!("ddf/{case}"));
    for (round, disks) in [
        sample("gen/raid1"),
        sample("gen/raid10"),
        sample("gen-freebsd/ddfle-raid5-la-3d"),
        sample("native/dell-perc-raid5"),
        world(512).1,
    ]
    .into_iter()
    .enumerate()
    {
        let set = open(&disks).unwrap();
        let rounds = share(250);
        for n in 0..rounds {
            let mut broken = disks.clone();
            for (index, disk) in broken.iter_mut().enumerate() {
                lie(&set, index as u16, disk, &mut random);
            }
            match open(&broken) {
                Ok(set) => exercise(set),
                Err(why) => assert!(!why.text().is_empty(), "{round} {n}"),
            }
        }
    }
}

/// Overwrites a few bytes of a section or header with interesting values and reseals it.
fn lie(set: &DdfSet, index: u16, disk: &mut Disk, random: &mut Random) {
    let Some(home) = set.home(index) else { return };
    let layout = home.layout;
    let block = u64::from(layout.block_bytes);
    let interesting = [
        0u8, 1, 2, 3, 4, 5, 6, 7, 0x0F, 0x11, 0x1F, 0x7F, 0x80, 0xFE, 0xFF,
    ];
    for copy in home.copies.into_iter().flatten() {
        let choice = random.below(6);
        let (first, len) = match choice {
            0 => (copy, layout.block_bytes as usize),
            1 => (home.anchor, layout.block_bytes as usize),
            2 | 3 => {
                let place = layout.place(Section::Config);
                (copy + u64::from(place.offset), layout.record_bytes as usize)
            }
            4 => {
                let place = layout.place(Section::Disks);
                (
                    copy + u64::from(place.offset),
                    layout.section_bytes(Section::Disks),
                )
            }
            _ => {
                let place = layout.place(Section::Volumes);
                (
                    copy + u64::from(place.offset),
                    layout.section_bytes(Section::Volumes),
                )
            }
        };
        let sector = first * block / 512;
        let mut bytes = disk.read(sector, len / 512);
        let reach = match choice {
            0 | 1 => 0x100,
            _ => 0x240,
        };
        for _ in 0..=random.below(3) {
            let at = 8 + random.below(reach - 8) as usize;
            let run = 1 << random.below(4);
            let value = interesting[random.below(interesting.len() as u64) as usize];
            for byte in bytes.iter_mut().skip(at).take(run) {
                *byte = value;
            }
        }
        let crc: Crc = layout.crc;
        crc.seal(&mut bytes, layout.endian);
        disk.write(sector, &bytes);
    }
}

/// A disk cut short, or with its tail shifted, is not guessed at.
#[test]
fn truncated_disks() {
    let (_, disks) = world(512);
    for cut in [1u64, 8, 100, 256, 257, 300, 40_000, 100_000] {
        let mut short = Disk::blank("short", disks[0].size_sectors - cut, 512);
        for (sector, bytes) in disks[0].runs() {
            for (index, bytes) in bytes.chunks(512).enumerate() {
                let at = sector + index as u64;
                if at < short.size_sectors {
                    short.write(at, bytes);
                }
            }
        }
        let (_, verdict, _) = probe(&short, 0);
        assert!(
            matches!(verdict, Probe::NotMine | Probe::Damaged(_)),
            "{cut}: {verdict:?}"
        );
    }
}

/// The anchor where Adaptec keeps it, and one that is displaced within the last MiB.
#[test]
fn displaced_anchors_are_found() {
    let (set, disks) = world(512);
    let end = disks[0].size_sectors;
    let anchor = disks[0].read(end - 1, 1);
    for back in [257u64, 5, 200] {
        let mut moved = disks.clone();
        moved[0].write(end - 1, &[0; 512]);
        moved[0].write(end - back, &anchor);
        let again = open(&moved).unwrap();
        assert_eq!(show(set.set()), show(again.set()), "{back}");
    }
    // Farther away only with a hint in the tail.
    let mut moved = disks.clone();
    moved[0].write(end - 1, &[0; 512]);
    moved[0].write(end - 1500, &anchor);
    assert!(matches!(probe(&moved[0], 0).1, Probe::NotMine));
    let mut hint = vec![0xFF; 512];
    hint[..4].copy_from_slice(&0xAD11_1111u32.to_be_bytes());
    moved[0].write(end - 100, &hint);
    assert!(matches!(probe(&moved[0], 0).1, Probe::Found { .. }));
}
