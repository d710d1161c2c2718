// SPDX-License-Identifier: GPL-2.0

//! Real IMSM metadata: what mdadm, FreeBSD's graid and Intel's firmware wrote decodes to what is known
//! of it, and comes out again byte for byte.

use crate::imsm_common::{cases, context, open, open_keyed, probe, sample, writes};
use emd_core::metadata::imsm::layout::Raw;
use emd_core::metadata::imsm::mpb::Mpb;
use emd_core::metadata::imsm::probe::{examine, Exam};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{
    Access, Consistency, DiskRole, DiskState, Layout, Level, MemberState, Rotation, Volume,
};
use host_tests::samples::{self, Disk};
use std::collections::BTreeMap;

/// What `mdadm --examine` says of one disk.
#[derive(Debug)]
struct Said {
    serial: String,
    lines: BTreeMap<String, String>,
}

impl Said {
    fn get(&self, name: &str) -> &str {
        self.lines
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The first number of a value.
    fn number(&self, name: &str) -> u64 {
        let word = self.get(name).split_whitespace().next().unwrap();
        word.parse().unwrap_or_else(|_| panic!("{name}: {word}"))
    }
}

/// The last thing that mdadm said of every disk of a case, by serial number.
fn said(case: &str) -> Vec<Said> {
    let path = samples::root().join(format!("imsm/{case}/out.log"));
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let Some((_, last)) = text.rsplit_once("=== EXAMINE ") else {
        return Vec::new();
    };
    last.split("--- disk ")
        .skip(1)
        .map(|block| {
            let start = block.find("QM0").or(block.find("disk")).unwrap();
            let serial = block[start..].split(')').next().unwrap().to_owned();
            let mut lines = BTreeMap::new();
            for line in block.lines() {
                if let Some((name, value)) = line.split_once(" : ") {
                    lines
                        .entry(name.trim().to_owned())
                        .or_insert(value.trim().to_owned());
                }
            }
            Said { serial, lines }
        })
        .collect()
}

fn level_of(text: &str) -> (Level, Layout) {
    match text.split_whitespace().next().unwrap() {
        "0" => (Level::Raid0, Layout::Plain),
        "1" => (Level::Raid1, Layout::Plain),
        "10" => (Level::Raid10, Layout::Near(2)),
        "5" => (Level::Raid5, Layout::Parity(Rotation::LeftAsymmetric)),
        other => panic!("level {other}"),
    }
}

/// The MPB on a disk, as bytes.
fn mpb(disk: &Disk) -> Vec<u8> {
    let (image, verdict, _) = probe(disk, 0);
    assert!(matches!(verdict, Probe::Found { .. }), "{verdict:?}");
    match examine(&image) {
        Exam::Found(found) => {
            let raw: Raw<'_> = found.raw;
            (0..raw.size()).map(|at| raw.u8(at)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_disk_is_recognised_within_two_reads() {
    let mut seen = 0;
    for case in cases() {
        for (key, disk) in (0..).zip(sample(&case)) {
            let (image, verdict, bytes) = probe(&disk, key);

            assert!(
                matches!(verdict, Probe::Found { .. }),
                "{case}/{}: {verdict:?}",
                disk.name
            );
            assert!(image.extents.len() <= 2 && bytes <= 64 << 10, "{case}");
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} disks");
}

#[test]
fn other_disks_are_not_mine() {
    let mut seen = 0;
    for case in samples::cases("ddf") {
        for (key, disk) in (0..).zip(samples::load(&case)) {
            let (_, verdict, _) = probe(&disk, key);
            assert!(matches!(verdict, Probe::NotMine), "{case}: {verdict:?}");
            seen += 1;
        }
    }
    assert!(seen > 20);
    let blank = Disk::blank("x", 4096, 512);
    assert!(matches!(probe(&blank, 0).1, Probe::NotMine));
    let tiny = Disk::blank("x", 16, 512);
    assert!(matches!(probe(&tiny, 0).1, Probe::NotMine));
}

/// Values of the table and of the volume, as mdadm printed them.
#[test]
fn samples_decode_to_what_mdadm_said() {
    let mut compared = 0;
    for case in cases().into_iter().filter(|case| case.starts_with("gen/")) {
        let disks = sample(&case);
        let set = open(&disks).unwrap_or_else(|why| panic!("{case}: {why}"));
        // Its serial numbers are all alike: see below.
        if set.frozen.is_some() && case == "gen/raid5-degraded" {
            continue;
        }
        for said in said(&case) {
            let Some(disk) = disks.iter().find(|disk| disk.name == said.serial) else {
                continue;
            };
            if !said.lines.contains_key("Magic") {
                continue;
            }
            let bytes = mpb(disk);
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let hex = |name: &str| {
                let text = said.get(name).split_whitespace().next().unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            // A crash or another writer came after the last word of some cases.
            let same = word(0x20) == hex("Checksum") && word(0x2C) == hex("Generation");
            let newest = u64::from(word(0x2C)) == set.set().generation;
            if !same || !newest || said.number("RAID Devices") == 0 {
                continue;
            }
            assert_eq!(word(0x28), hex("Family"), "{case}");
            assert_eq!(word(0x40), hex("Orig Family"), "{case}");
            assert_eq!(word(0x34), hex("Attributes"), "{case}");
            let volume = set.set().volume(0).unwrap();
            compare_volume(&case, volume, &said);
            compared += 1;
        }
    }
    assert!(compared >= 25, "only {compared} disks were compared");
}

fn compare_volume(case: &str, volume: &Volume, said: &Said) {
    let scale = said.number("Sector Size") / 512;
    // While it is being reshaped the table has the size that it will have.
    if said.get("Migrate State") != "general migration" {
        assert_eq!(
            volume.size_sectors,
            said.number("Array Size") * scale,
            "{case}"
        );
    }
    assert_eq!(
        volume.members[0].offset_sectors,
        said.number("Sector Offset") * scale,
        "{case}"
    );
    let members = said.number("Members") as usize;
    assert_eq!(volume.members.len(), members, "{case}");
    let (level, layout) = level_of(said.get("RAID Level"));
    assert_eq!(
        (volume.shape.level, volume.shape.layout),
        (level, layout),
        "{case}"
    );
    let chunk = said.number("Chunk Size") as u32 * 2;
    let expected = if level == Level::Raid1 { 0 } else { chunk };
    assert_eq!(volume.shape.chunk_sectors, expected, "{case}");
    let copies = match level {
        Level::Raid1 | Level::Raid10 => 2,
        _ => 1,
    };
    let stripes = said.number("Num Stripes");
    assert_eq!(
        volume.shape.member_sectors,
        stripes * u64::from(chunk) * copies,
        "{case}"
    );
    let dirty = said.get("Dirty State") == "dirty" && level.is_redundant();
    let map = said.get("Map State");
    let slots = said.get("Slots");
    if said.get("Migrate State") == "idle" && map == "normal" {
        assert_eq!(slots, format!("[{}]", "U".repeat(members)), "{case}");
        assert!(
            volume
                .members
                .iter()
                .all(|m| m.state == MemberState::InSync),
            "{case}"
        );
        let consistency = if dirty {
            Consistency::Dirty
        } else {
            Consistency::Clean
        };
        assert_eq!(volume.consistency, consistency, "{case}");
    } else if said.get("Migrate State") == "idle" {
        assert_eq!(map, "degraded", "{case}");
        for (slot, mark) in slots.trim_matches(['[', ']']).chars().enumerate() {
            let there = volume.members[slot].state == MemberState::InSync;
            assert_eq!(mark == 'U', there, "{case} slot {slot}");
        }
    } else if said.get("Migrate State") == "rebuild" {
        let (units, unit) = said.get("Checkpoint").split_once(" (").unwrap();
        let mark: u64 =
            units.parse::<u64>().unwrap() * unit.trim_end_matches(')').parse::<u64>().unwrap();
        let (_, before) = slots.split_once("<-- ").unwrap();
        for (slot, was) in before.trim_matches(['[', ']']).chars().enumerate() {
            let expected = match was {
                'U' => MemberState::InSync,
                _ => MemberState::Rebuilding { done_sectors: mark },
            };
            assert_eq!(volume.members[slot].state, expected, "{case} slot {slot}");
        }
    }
}

/// Assembling changes nothing; what is encoded is what was read.
#[test]
fn every_sample_comes_out_byte_for_byte() {
    let mut older = 0;
    for case in cases() {
        let disks = sample(&case);
        let mut set = open(&disks).unwrap_or_else(|why| panic!("{case}: {why}"));
        assert!(set.plan().is_empty());
        let shown = assert_encoded(&mut set, &disks, &case);
        for (key, disk) in (0u64..).zip(&disks) {
            if shown.contains(&key) {
                continue;
            }
            // It is older than the others: by itself it is a set, too.
            let alone = open_keyed(&[(key, disk)]);
            let mut alone = alone.unwrap_or_else(|why| panic!("{case} {}: {why}", disk.name));
            if assert_encoded(&mut alone, &disks, &case) == [key] {
                older += 1;
                continue;
            }
            // Its serial numbers are all alike, so nobody knows which entry is whose: see below.
            assert_eq!(case, "gen/raid5-degraded");
            let (image, _, _) = probe(disk, 0);
            let Exam::Found(found) = examine(&image) else {
                panic!("{case} {}", disk.name);
            };
            let mut copy = Mpb::copy_of(found.raw).unwrap();
            copy.seal();
            let bytes = mpb(disk);
            assert!(copy.bytes()[..bytes.len()] == bytes, "{case} {}", disk.name);
        }
    }
    assert!(older >= 3, "{older} older disks");
}

/// What is encoded for disks that are as new as their set is what is on them; gives their keys.
fn assert_encoded(set: &mut ImsmSet, disks: &[Disk], case: &str) -> Vec<u64> {
    let newest = set.set().generation as u32;
    let mut encoded = Vec::new();
    for index in 0..set.set().disks.len() as u16 {
        let Some(facts) = set.set().disk(index).unwrap().facts else {
            continue;
        };
        let disk = &disks[facts.key as usize];
        let block = u64::from(disk.logical_block_bytes / 512);
        let bytes = mpb(disk);
        if u32::from_le_bytes(bytes[0x2C..0x30].try_into().unwrap()) != newest {
            continue;
        }
        let mut shown = 0;
        set.encode(index, &mut |at, bytes| {
            assert!(!bytes.is_empty());
            let read = disk.read(at * block, bytes.len() / 512);
            assert!(bytes == read, "{case} {} block {at}", disk.name);
            shown += bytes.len();
        });
        if shown > 0 {
            encoded.push(facts.key);
        }
    }
    encoded
}

#[test]
fn firmware_metadata_decodes_to_the_documented_values() {
    let gigabyte = open(&sample("native/raid0-volume0-gigabyte")).unwrap();
    let set = gigabyte.set();
    assert_eq!(set.generation, 45);
    let volume = set.volume(0).unwrap();
    assert_eq!(volume.name.as_str(), "Volume0");
    assert_eq!(volume.size_sectors, 1_953_536_000);
    assert_eq!(volume.shape.level, Level::Raid0);
    assert_eq!(volume.shape.chunk_sectors, 256);
    assert_eq!(volume.shape.member_sectors, 3_815_500 * 256);
    assert_eq!(volume.members[0].state, MemberState::InSync);
    assert_eq!(volume.members[1].state, MemberState::Missing);
    assert!(matches!(volume.access, Access::ReadWrite));
    assert_eq!(set.disks[1].label.as_str(), "9QG07KT6");
    assert_eq!(set.disks[1].state, DiskState::Missing);

    let mirror = open(&sample("native/raid1-volume0")).unwrap();
    let volume = mirror.set().volume(0).unwrap();
    assert_eq!(volume.shape.level, Level::Raid1);
    assert_eq!(volume.size_sectors, 1_953_519_616);
    assert_eq!(volume.shape.member_sectors, 1_953_519_616);
    assert_eq!(volume.consistency, Consistency::Clean);

    // Its serial numbers are padded in front by what printed them, and one is not here.
    let old = open(&sample("native/util-linux-isw")).unwrap();
    let volume = old.set().volume(0).unwrap();
    assert_eq!(volume.name.as_str(), "RAID_Volume1");
    assert_eq!(volume.size_sectors, 320_172_032);
    assert_eq!(volume.shape.member_sectors, 160_086_016);
    assert_eq!(old.set().disks[0].role, DiskRole::Member);
    assert_eq!(old.set().disks[0].state, DiskState::Online);
}

#[test]
fn graid_volumes_decode_to_what_graid_says() {
    let clean = open(&sample("gen-freebsd/intel-raid1-2d")).unwrap();
    let volume = clean.set().volume(0).unwrap();
    assert_eq!(volume.size_sectors, 196_600);
    assert_eq!(volume.shape.member_sectors, 196_600);
    assert_eq!(volume.consistency, Consistency::Clean);
    assert!(volume
        .members
        .iter()
        .all(|m| m.state == MemberState::InSync));
    let rebuild = open(&sample("gen-freebsd/intel-raid1-2d-rebuild")).unwrap();
    let volume = rebuild.set().volume(0).unwrap();
    assert_eq!(volume.members[0].state, MemberState::InSync);
    // "rebuild_pos 16384" in its log.
    assert_eq!(
        volume.members[1].state,
        MemberState::Rebuilding {
            done_sectors: 16384
        }
    );
}

/// Whether one of the set's notes, which are for people, has `words` in it.
fn says(set: &ImsmSet, words: &str) -> bool {
    let mut notes = set.set().notes.iter();
    notes.any(|note| note.as_str().contains(words))
}

#[test]
fn disks_that_were_left_out_are_told() {
    // The failed disk was replaced: the table does not name it any more.
    for case in ["gen/raid1-rebuild", "gen/raid5-rebuild"] {
        let disks = sample(case);
        let failed = usize::from(case == "gen/raid1-rebuild");
        let set = open(&disks).unwrap();
        let index = set.set().disk_by_key(failed as u64).unwrap();
        assert_eq!(
            set.set().disk(index).unwrap().state,
            DiskState::Stale,
            "{case}"
        );
        assert_eq!(set.set().memberships(index).count(), 0, "{case}");
        assert!(says(&set, "is not in the newest table"), "{case}");
        let spare = set.set().disk_by_key(disks.len() as u64 - 1).unwrap();
        assert_eq!(
            set.set().disk(spare).unwrap().role,
            DiskRole::Member,
            "{case}"
        );
    }
    // It was away while the other was used.
    let set = open(&sample("gen/raid1-missing")).unwrap();
    let disk = set.set().disk_by_key(1).unwrap();
    assert_eq!(set.set().disk(disk).unwrap().state, DiskState::Stale);
    assert!(says(&set, "was left out of the last updates"));
    let volume = set.set().volume(0).unwrap();
    assert_eq!(volume.members[0].state, MemberState::InSync);
    assert_eq!(volume.members[1].state, MemberState::Failed);
    assert!(matches!(volume.access, Access::ReadWrite));
}

#[test]
fn bad_blocks_are_known() {
    let set = open(&sample("gen/bbm")).unwrap();
    let mut ranges: Vec<_> = set
        .set()
        .bad_ranges
        .iter()
        .map(|range| {
            let key = set.set().disk(range.disk).unwrap().facts.unwrap().key;
            (key, range.sector, range.sectors)
        })
        .collect();
    ranges.sort();
    assert_eq!(ranges, [(0, 100_000, 8), (1, 8192, 16)]);
}

#[test]
fn what_is_not_kept_up_is_not_written() {
    let bitmap = open(&sample("gen/raid1-bitmap")).unwrap();
    let volume = bitmap.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadOnly(why) if why.text().contains("bitmap")));
    for case in ["gen/grow-r0", "gen/grow-r5"] {
        let mut set = open(&sample(case)).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert!(
            matches!(volume.access, Access::ReadOnly(why) if why.text().contains("reshaped, 196608 sectors")),
            "{case}: {:?}",
            volume.access
        );
        let refused = set.apply(&emd_core::model::Event::Dirty(0), &context(1));
        assert!(refused.is_err());
        set.apply(&emd_core::model::Event::DiskFailed(0), &context(2))
            .unwrap();
        assert!(writes(&set).is_empty(), "{case}");
    }
}

/// Four disks whose serial numbers end alike: mdadm could not tell them apart when it wrote this.
#[test]
fn alike_serial_numbers_are_not_guessed_about() {
    let set = open(&sample("gen/raid5-degraded")).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(
        matches!(volume.access, Access::Refused(_)),
        "{:?}",
        volume.access
    );
    assert!(set.frozen.is_some());
}
