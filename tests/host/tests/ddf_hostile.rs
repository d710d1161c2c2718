// SPDX-License-Identifier: GPL-2.0

//! Damaged, truncated, contradicting and hostile metadata: never a panic, never a guess, always a
//! reason. What one copy or one disk still knows is used.

mod ddf_common;

use ddf_common::crash::{cut_everywhere, Random};
use ddf_common::{apply, blanks, carry_out, context, create, facts, open, probe, show, writes};
use emd_core::metadata::ddf::crc::Crc;
use emd_core::metadata::ddf::layout::{self, Section};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{Access, DiskState, Event, Level, MemberState, SpareRole, Text, VolumeSpec};
use host_tests::samples::{cases, load, Disk};

fn spec<'a>(name: &str, level: Level, size: u64, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        name: Text::from_text(name),
        level,
        spans: 1,
        layout: None,
        chunk_sectors: 0,
        size_sectors: size,
        disks,
        assume_clean: true,
    }
}

/// Three disks, a RAID 5 and a RAID 1 on them.
fn world(block: u32) -> (Box<DdfSet>, Vec<Disk>) {
    let mut disks = blanks(3, 64, block);
    let mut set = create(&mut disks, "set");
    let all = [Some(0), Some(1), Some(2)];
    let five = Event::VolumeCreated(spec("five", Level::Raid5, 32768, &all));
    apply(&mut set, &mut disks, &five, 1).unwrap();
    let two = [Some(1), Some(2)];
    let one = Event::VolumeCreated(spec("one", Level::Raid1, 16384, &two));
    apply(&mut set, &mut disks, &one, 2).unwrap();
    (set, disks)
}

fn flip(disk: &mut Disk, byte: u64, mask: u8) {
    let mut sector = disk.read(byte / 512, 1);
    sector[(byte % 512) as usize] ^= mask;
    disk.write(byte / 512, &sector);
}

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
            for byte in 0..512 {
                let mut broken = disks.clone();
                flip(&mut broken[0], first + byte, 1 << (byte % 8));
                let again = open(&broken).unwrap_or_else(|why| panic!("{copy} {byte}: {why:?}"));
                assert_eq!(good, show(again.set()), "copy {copy}, byte {byte}");
            }
        }
        // Without its anchor a disk is not found; the others go on without it.
        for byte in 0..512 {
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
        for byte in 0..512 {
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
    for round in 0..300 {
        let copy = home.copies[(round % 2) as usize].unwrap();
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
        let kept = home.copies[(round % 2) as usize].unwrap();
        let wiped = home.copies[1 - (round % 2) as usize].unwrap();
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
        for _ in 0..40 {
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
    for (round, case) in [
        "gen/raid1",
        "gen/raid10",
        "gen-freebsd/ddfle-raid5-la-3d",
        "native/dell-perc-raid5",
    ]
    .into_iter()
    .enumerate()
    {
        let disks = load(&format!("ddf/{case}"));
        let set = open(&disks).unwrap();
        let rounds = 250;
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

/// Changes a record or entry on every disk and copy, seals it, and opens the result.
fn with_edit(
    disks: &[Disk],
    set: &DdfSet,
    section: Section,
    edit: &dyn Fn(usize, &mut [u8]),
) -> Box<DdfSet> {
    let mut changed = disks.to_vec();
    for (index, disk) in changed.iter_mut().enumerate() {
        let Some(home) = set.home(index as u16) else {
            continue;
        };
        let layout = home.layout;
        for copy in home.copies.into_iter().flatten() {
            let place = layout.place(section);
            let sector = (copy + u64::from(place.offset)) * layout.block_sectors();
            let len = match section {
                Section::Config => layout.record_bytes as usize,
                _ => layout.section_bytes(section),
            };
            let mut bytes = disk.read(sector, len / 512);
            edit(index, &mut bytes);
            layout.crc.seal(&mut bytes, layout.endian);
            disk.write(sector, &bytes);
        }
    }
    open(&changed).unwrap_or_else(|why| panic!("{why:?}"))
}

fn refused(set: &DdfSet, volume: usize, part: &str) {
    let access = &set.set().volumes[volume].access;
    let Access::Refused(why) = access else {
        panic!("{part}: {access:?}\n{}", show(set.set()));
    };
    assert!(why.text().contains(part), "{part}: {why}");
}

#[test]
fn contradictions_are_refused_with_the_reason() {
    let (set, disks) = world(512);
    // Records of volume 0 are in slot 0 of every disk.
    let record = |edit: &dyn Fn(usize, &mut [u8])| with_edit(&disks, &set, Section::Config, edit);
    for (at, value, part) in [
        (0x43usize, 0x03u8, "RAID 3"),
        (0x43, 0x15, "RAID 5E"),
        (0x43, 0x77, "unknown"),
        (0x44, 0x09, "where data lies"),
        (0x42, 0x40, "strip"),
        (0x5A, 0x02, "rotates"),
        (0x45, 0x21, "spans"),
    ] {
        refused(&record(&|_, bytes| bytes[at] = value), 0, part);
    }
    let two_levels = |bytes: &mut [u8], second| {
        bytes[0x45] = 2;
        bytes[0x46] = 0;
        bytes[0x47] = second;
    };
    refused(
        &record(&|_, bytes| two_levels(bytes, 1)),
        0,
        "mirrored spans",
    );
    refused(
        &record(&|_, bytes| two_levels(bytes, 2)),
        0,
        "concatenated spans",
    );
    // Members: counts, twice the same, starts and lengths beyond the disk.
    refused(&record(&|_, bytes| bytes[0x40] = 1), 0, "members");
    refused(
        &record(&|_, bytes| bytes.copy_within(0x200..0x204, 0x204)),
        0,
        "listed twice",
    );
    refused(&record(&|_, bytes| bytes[0x48] = 0x7F), 0, "impossible");
    refused(
        &record(&|_, bytes| bytes[0x4B] = 1),
        0,
        "behind the start of metadata",
    );
    refused(
        &record(&|_, bytes| bytes[0x300..0x308].fill(0xFF)),
        0,
        "beyond any disk",
    );
    refused(&record(&|_, bytes| bytes[0x53] = 1), 0, "does not fit");
    refused(
        &record(&|_, bytes| bytes[0x58..0x5A].copy_from_slice(&4096u16.to_be_bytes())),
        0,
        "blocks of 4096",
    );
    // A hole before another member.
    refused(
        &record(&|_, bytes| bytes[0x200..0x204].fill(0xFF)),
        0,
        "order is not certain",
    );
    // Disks disagree.
    refused(
        &record(&|disk, bytes| {
            if disk == 1 {
                bytes[0x42] = 5;
            }
        }),
        0,
        "disagree",
    );
    // Overlap of two volumes on one disk: volume 0 grows over volume 1.
    let overlapping = record(&|_, bytes| {
        bytes[0x48..0x50].copy_from_slice(&20_000u64.to_be_bytes());
    });
    refused(&overlapping, 0, "overlaps volume 1");
    refused(&overlapping, 1, "overlaps volume 0");
    // Entry: morphing, offline, blocked, read-only.
    let entry = |at: usize, value: u8| {
        with_edit(&disks, &set, Section::Volumes, &|_, bytes| {
            bytes[layout::TABLE_HEAD + at] = value;
        })
    };
    refused(&entry(layout::vde::STATE, 8), 0, "migrated");
    refused(&entry(layout::vde::STATE, 6), 0, "offline");
    refused(&entry(layout::vde::INIT, 0xC2), 0, "blocked");
    let read_only = entry(layout::vde::INIT, 0x82);
    assert!(matches!(
        read_only.set().volumes[0].access,
        Access::ReadOnly(_)
    ));
    assert_eq!(
        entry(layout::vde::STATE, 2).set().volumes.len(),
        1,
        "deleted"
    );
    // And an untouched set is fine, so that the above means something.
    let fine = record(&|_, _| {});
    assert!(matches!(fine.set().volumes[0].access, Access::ReadWrite));
}

#[test]
fn a_clone_makes_the_volume_ambiguous() {
    let (_, mut disks) = world(512);
    disks.push(disks[1].clone());
    let set = open(&disks).unwrap();
    refused(&set, 0, "two disks claim");
    refused(&set, 1, "two disks claim");
    assert!(!set.set().notes.is_empty());
    let mut set = set;
    assert!(set.apply(&Event::VolumeDeleted(0), &context(1)).is_err());
    set.apply(&Event::DiskMissing(0), &context(2)).unwrap();
    assert!(set.plan().is_empty(), "nothing is written to either");
}

/// Each half of a mirror was used without the other: neither is right.
#[test]
fn split_brain_is_refused() {
    let mut disks = blanks(2, 64, 512);
    let mut set = create(&mut disks, "set");
    let two = [Some(0), Some(1)];
    let one = Event::VolumeCreated(spec("one", Level::Raid1, 16384, &two));
    apply(&mut set, &mut disks, &one, 1).unwrap();
    for extra in 0..3 {
        let mut left = disks.clone();
        let mut half = open(&left).unwrap();
        apply(&mut half, &mut left, &Event::DiskMissing(1), 2).unwrap();
        let mut right = disks.clone();
        let mut half = open(&right).unwrap();
        apply(&mut half, &mut right, &Event::DiskMissing(0), 3).unwrap();
        for n in 0..extra {
            apply(&mut half, &mut right, &Event::Dirty(0), 4 + 2 * n).unwrap();
            apply(&mut half, &mut right, &Event::Clean(0), 5 + 2 * n).unwrap();
        }
        let both = [left[0].clone(), right[1].clone()];
        let mut set = open(&both).unwrap();
        refused(&set, 0, "used apart");
        // The half that lost is not wiped behind its owner's back.
        let stale = (0..2)
            .find(|&disk| set.set().disk(disk).unwrap().state == DiskState::Stale)
            .unwrap();
        let facts = set.set().disk(stale).unwrap().facts.unwrap();
        let returned = Event::DiskReturned(stale, facts);
        assert!(set.apply(&returned, &context(9)).is_err());
    }
}

/// A disk that a volume cannot do without is not made blank; neither is one that the set does not list.
#[test]
fn what_may_be_needed_is_kept() {
    let mut disks = blanks(3, 64, 512);
    let mut set = create(&mut disks, "set");
    let two = [Some(0), Some(1)];
    let stripe = Event::VolumeCreated(spec("s", Level::Raid0, 16384, &two));
    apply(&mut set, &mut disks, &stripe, 1).unwrap();
    let removed = disks[2].clone();
    apply(&mut set, &mut disks, &Event::DiskRemoved(2), 2).unwrap();
    apply(&mut set, &mut disks, &Event::DiskFailed(0), 3).unwrap();
    disks[2] = removed;
    let mut set = open(&disks).unwrap();
    let unlisted = set.set().disk_by_key(2).unwrap();
    assert_eq!(set.set().disk(unlisted).unwrap().state, DiskState::Stale);
    for (disk, part) in [(0, "cannot do without"), (unlisted, "does not list")] {
        let facts = set.set().disk(disk).unwrap().facts.unwrap();
        let why = set
            .apply(&Event::DiskReturned(disk, facts), &context(4))
            .unwrap_err();
        assert!(why.text().contains(part), "{why}");
    }
    // It can be had all the same: removed, then added.
    let facts = set.set().disk(unlisted).unwrap().facts.unwrap();
    apply(&mut set, &mut disks, &Event::DiskRemoved(unlisted), 5).unwrap();
    let offer = emd_core::model::DiskOffer {
        facts,
        role: SpareRole::None,
    };
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 6).unwrap();
}

#[test]
fn a_bad_block_log_is_refused() {
    use emd_core::metadata::ddf::tables::bad_blocks;
    let endian = emd_core::metadata::bytes::Endian::Big;
    let mut log = vec![0xFF; 512];
    assert_eq!(bad_blocks(&log, endian), None);
    log[..4].copy_from_slice(&0xABAD_B10Cu32.to_be_bytes());
    assert_eq!(bad_blocks(&log, endian), Some(false));
    log[8..12].fill(0);
    assert_eq!(bad_blocks(&log, endian), Some(false));
    log[11] = 1;
    assert_eq!(bad_blocks(&log, endian), Some(true), "2.0 count");
    log[8..12].copy_from_slice(&[0, 1, 0, 0]);
    assert_eq!(bad_blocks(&log, endian), Some(true), "1.x count");
    log[8..12].fill(0);
    log[0x20] = 0;
    assert_eq!(
        bad_blocks(&log, endian),
        Some(true),
        "entries without a count"
    );
}

/// Sets of different groups are not mixed.
#[test]
fn two_groups_are_refused() {
    let mut disks = load("ddf/gen/raid1");
    disks.extend(load("ddf/gen/raid0"));
    let why = open(&disks).unwrap_err();
    assert!(why.text().contains("different"), "{why}");
}

/// Vendor records and orphans stay where they are through every change.
#[test]
fn unknown_records_survive() {
    let (set, disks) = world(512);
    let mut changed = disks.clone();
    let home = set.home(0).unwrap();
    let layout = home.layout;
    let record = layout.record_bytes as usize;
    let mut vendor = vec![0xA5; record];
    vendor[..4].copy_from_slice(&0x8888_8888u32.to_be_bytes());
    let at = |copy: u64| {
        copy + u64::from(layout.place(Section::Config).offset) + 9 * record as u64 / 512
    };
    for copy in home.copies.into_iter().flatten() {
        changed[0].write(at(copy), &vendor);
    }
    let mut set = open(&changed).unwrap();
    assert!(set
        .set()
        .notes
        .iter()
        .any(|note| note.as_str().contains("vendor")));
    for (n, event) in [
        Event::Dirty(0),
        Event::VolumeRenamed(0, Text::from_text("x")),
        Event::DiskFailed(1),
        Event::VolumeDeleted(1),
    ]
    .iter()
    .enumerate()
    {
        apply(&mut set, &mut changed, event, 20 + n as u64).unwrap();
    }
    for copy in home.copies.into_iter().flatten() {
        assert_eq!(changed[0].read(at(copy), record / 512), vendor);
    }
}

/// Tables with wrong checksums on every copy: shown, readable, never written.
#[test]
fn untrusted_tables_are_never_written() {
    let (set, disks) = world(512);
    let mut broken = disks.clone();
    for (index, disk) in broken.iter_mut().enumerate() {
        let home = set.home(index as u16).unwrap();
        for copy in home.copies.into_iter().flatten() {
            let place = home.layout.place(Section::Volumes);
            flip(disk, (copy + u64::from(place.offset)) * 512 + 4, 1);
        }
    }
    let mut set = open(&broken).unwrap();
    assert!(matches!(set.set().volumes[0].access, Access::ReadOnly(_)));
    assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
    set.apply(&Event::DiskFailed(0), &context(1)).unwrap();
    assert!(set.plan().is_empty());
    assert_eq!(set.set().volumes[0].members[0].state, MemberState::Failed);
}

/// Removing a disk leaves nothing on it that would be found again.
#[test]
fn a_removed_disk_is_blank() {
    let mut disks = blanks(3, 64, 512);
    let mut set = create(&mut disks, "set");
    set.apply(&Event::DiskRemoved(1), &context(1)).unwrap();
    let plan = writes(&set);
    carry_out(&mut disks, &plan);
    assert!(matches!(probe(&disks[1], 1).1, Probe::NotMine));
    assert_eq!(open(&disks).unwrap().set().disks.len(), 2);
    // Its key may join again.
    let offer = emd_core::model::DiskOffer {
        facts: facts(&disks[1], 1),
        role: SpareRole::Global,
    };
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 2).unwrap();
    assert_eq!(open(&disks).unwrap().set().disks.len(), 3);
}
