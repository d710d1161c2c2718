// SPDX-License-Identifier: GPL-2.0

//! Arrays that mdadm and the kernel made: every one decodes to what mdadm said of it (`out.log` of the
//! sample), and goes back to the same bytes.

use crate::md_common::{apply, assert_same, facts, open, open_keyed, probe, version_of, ALL};
use emd_core::metadata::md::badblocks;
use emd_core::metadata::md::layout::{get64, v1};
use emd_core::metadata::md::set::image;
use emd_core::metadata::md::{Md, MdSet, Version, MD_12};
use emd_core::metadata::{Format, MetadataSet, Probe};
use emd_core::model::{
    Access, Consistency, DiskRole, DiskState, Event, Layout, Level, MemberState, Rotation,
};
use host_tests::samples::{cases, load, Disk};
use kernel::prelude::*;

fn opened(case: &str) -> (&'static Md, KBox<MdSet>) {
    let disks = load(case);
    let format = version_of(&disks);
    let set = open(format, &disks).unwrap_or_else(|why| panic!("{case}: {why}"));
    (format, set)
}

/// What mdadm said: version, level and layout, members, chunk, size of a member, size of the array,
/// where data starts, events.
struct Said {
    case: &'static str,
    version: Version,
    level: Level,
    layout: Layout,
    members: u16,
    chunk: u32,
    member: u64,
    size: u64,
    offset: u64,
    events: u64,
}

macro_rules! said {
    ($case:literal, $version:ident, $level:ident, $layout:expr, $members:literal, $chunk:literal,
     $member:literal, $size:literal, $offset:literal, $events:literal) => {
        Said {
            case: $case,
            version: Version::$version,
            level: Level::$level,
            layout: $layout,
            members: $members,
            chunk: $chunk,
            member: $member,
            size: $size,
            offset: $offset,
            events: $events,
        }
    };
}

const P: Layout = Layout::Plain;
const fn r(rotation: Rotation) -> Layout {
    Layout::Parity(rotation)
}

/// From the samples' `out.log` (sizes there are in KiB).
const SAID: &[Said] = &[
    said!("090-linear", V090, Concat, P, 2, 0, 81792, 163_584, 0, 1),
    said!("090-raid0", V090, Raid0, P, 2, 128, 81792, 163_584, 0, 1),
    said!(
        "090-raid10-n2",
        V090,
        Raid10,
        Layout::Near(2),
        4,
        128,
        81792,
        163_584,
        0,
        19
    ),
    said!(
        "090-raid5-ls-bitmap",
        V090,
        Raid5,
        r(Rotation::LeftSymmetric),
        3,
        64,
        81792,
        163_584,
        0,
        21
    ),
    said!("4k-090-raid1", V090, Raid1, P, 2, 0, 81792, 81792, 0, 20),
    said!("10-raid1", V10, Raid1, P, 2, 0, 81792, 81792, 0, 18),
    said!(
        "11-raid5",
        V11,
        Raid5,
        r(Rotation::LeftSymmetric),
        3,
        128,
        79872,
        159_744,
        2048,
        20
    ),
    said!("12-raid0", V12, Raid0, P, 3, 128, 79872, 239_616, 2048, 0),
    said!(
        "12-raid10-f2",
        V12,
        Raid10,
        Layout::Far(2),
        3,
        128,
        79872,
        119_808,
        2048,
        19
    ),
    said!(
        "12-raid10-f2-5d",
        V12,
        Raid10,
        Layout::Far(2),
        5,
        128,
        79872,
        199_680,
        2048,
        18
    ),
    said!(
        "12-raid10-n2-3d",
        V12,
        Raid10,
        Layout::Near(2),
        3,
        128,
        79872,
        119_808,
        2048,
        19
    ),
    said!(
        "12-raid10-n3-5d",
        V12,
        Raid10,
        Layout::Near(3),
        5,
        128,
        79872,
        133_120,
        2048,
        19
    ),
    said!(
        "12-raid4",
        V12,
        Raid4,
        r(Rotation::ParityLast),
        3,
        128,
        79872,
        159_744,
        2048,
        19
    ),
    said!(
        "12-raid5-dirty",
        V12,
        Raid5,
        r(Rotation::LeftSymmetric),
        3,
        128,
        79872,
        159_744,
        2048,
        21
    ),
    said!(
        "12-raid5-resync-ckpt",
        V12,
        Raid5,
        r(Rotation::LeftSymmetric),
        3,
        128,
        79872,
        159_744,
        2048,
        9
    ),
    said!(
        "4k-12-raid5",
        V12,
        Raid5,
        r(Rotation::LeftSymmetric),
        3,
        128,
        79872,
        159_744,
        2048,
        20
    ),
];

#[test]
fn documented_values() {
    for said in SAID {
        let case = format!("md/gen/{}", said.case);
        let (format, set) = opened(&case);
        let model = set.set();
        assert_eq!(format.0, said.version, "{case}");
        assert_eq!(model.format, format.name());
        let volume = model.volume(0).unwrap();
        let shape = &volume.shape;
        assert_eq!(
            (
                shape.level,
                shape.layout,
                shape.members,
                shape.chunk_sectors
            ),
            (said.level, said.layout, said.members, said.chunk),
            "{case}"
        );
        assert_eq!(
            (shape.member_sectors, volume.size_sectors),
            (said.member, said.size),
            "{case}"
        );
        assert_eq!(model.generation, said.events, "{case}");
        assert!(
            matches!(volume.access, Access::ReadWrite),
            "{case}: {:?}",
            volume.access
        );
        assert_eq!(volume.members.len(), usize::from(said.members));
        for member in volume.members.iter() {
            assert_eq!(member.state, MemberState::InSync, "{case}");
            assert_eq!(member.offset_sectors, said.offset, "{case}");
            let disk = model.disk(member.disk.unwrap()).unwrap();
            assert_eq!(
                (disk.state, disk.role),
                (DiskState::Online, DiskRole::Member)
            );
        }
        assert!(model.notes.is_empty(), "{case}: {:?}", model.notes);
    }
}

#[test]
fn parity_layouts() {
    for (name, rotation) in [
        ("12-raid5-ra", Rotation::RightAsymmetric),
        ("12-raid5-rs", Rotation::RightSymmetric),
        ("12-raid5-ls", Rotation::LeftSymmetric),
        ("12-raid5-parity-first", Rotation::ParityFirst),
        ("12-raid6-ddf-N-restart", Rotation::DdfNRestart),
        ("12-raid6-ddf-zero-restart", Rotation::DdfZeroRestart),
        ("12-raid6-la-6", Rotation::LeftAsymmetric6),
        ("12-raid6-ls", Rotation::LeftSymmetric),
        ("12-raid6-parity-first", Rotation::ParityFirst),
        ("12-raid6-parity-first-6", Rotation::ParityFirst6),
        ("12-raid6-ra-6", Rotation::RightAsymmetric6),
        ("12-raid6-rs", Rotation::RightSymmetric),
    ] {
        let (_, set) = opened(&format!("md/gen/{name}"));
        let volume = set.set().volume(0).unwrap();
        assert_eq!(volume.shape.layout, Layout::Parity(rotation), "{name}");
        assert!(matches!(volume.access, Access::ReadWrite), "{name}");
        assert_eq!(volume.consistency, Consistency::Clean, "{name}");
    }
}

fn refused(case: &str) -> (bool, String) {
    let (_, set) = opened(&format!("md/gen/{case}"));
    match &set.set().volume(0).unwrap().access {
        Access::ReadWrite => panic!("{case} is taken"),
        Access::ReadOnly(why) => (false, why.text().to_owned()),
        Access::Refused(why) => (true, why.text().to_owned()),
    }
}

#[test]
fn what_is_not_supported_says_why() {
    let (refused, why) = refused("12-raid5-journal");
    assert!(refused);
    assert!(why.contains("journal"), "{why}");
}

#[test]
fn states() {
    // Dirty, with a bitmap whose only bit is set.
    let (_, set) = opened("md/gen/12-raid5-dirty");
    let volume = set.set().volume(0).unwrap();
    assert_eq!(volume.consistency, Consistency::Dirty);
    let log = volume.regions.as_ref().unwrap();
    assert_eq!((log.region_sectors, log.regions), (131_072, 1));
    assert!(log.is_dirty(0));

    // Clean, with a bitmap of 64 KiB and no bit set.
    let (_, set) = opened("md/gen/12-raid1-bitmap-wm");
    let log = set.set().volume(0).unwrap().regions.as_ref().unwrap();
    assert_eq!((log.region_sectors, log.regions), (128, 624));
    assert!((0..624).all(|region| !log.is_dirty(region)));
    let (_, set) = opened("md/gen/090-raid5-ls-bitmap");
    let log = set.set().volume(0).unwrap().regions.as_ref().unwrap();
    assert_eq!((log.regions, log.is_dirty(0)), (1, false));

    // A resync that was stopped: 0x7300.
    let (_, set) = opened("md/gen/12-raid5-resync-ckpt");
    assert_eq!(
        set.set().volume(0).unwrap().consistency,
        Consistency::Initialising {
            done_sectors: 0x7300
        }
    );

    // `mdadm --examine-badblocks`.
    let (_, set) = opened("md/gen/12-raid1-badblocks");
    let mut bad: Vec<_> = set
        .set()
        .bad_ranges
        .iter()
        .map(|range| (range.disk, range.sector, range.sectors))
        .collect();
    bad.sort();
    assert_eq!(bad, [(0, 8192, 16), (0, 30000, 8), (1, 100, 1)]);

    let (_, set) = opened("md/gen/10-raid1");
    assert_eq!(set.set().name.as_str(), "test:r1");
}

/// A replacement under way is given up; it is old before anything is written, and may be a spare then. The original is away: it
/// is the member, as far as it was filled, and the original is old.
#[test]
fn a_replacement_is_given_up_or_takes_over() {
    let disks = load("md/gen/12-raid10-replace");
    let mut set = open(&MD_12, &disks).unwrap();
    let slot = |set: &MdSet| set.set().volume(0).unwrap().members[1];
    let state = |set: &MdSet, key| {
        let disk = set.set().disk_by_key(key).unwrap();
        set.set().disk(disk).unwrap().state
    };
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite));
    assert_eq!(
        (slot(&set).disk, slot(&set).state),
        (Some(1), MemberState::InSync)
    );
    assert_eq!(state(&set, 4), DiskState::Stale);
    assert!(set.set().notes[0].as_str().contains("replacement"));

    // What was written without it is not looked for on it, whoever is away then.
    let mut now = disks.clone();
    apply(&mut set, &mut now, &Event::Dirty(0), 1).unwrap();
    let of_md = |disk: &Disk| get64(&disk.read(8, 1), v1::EVENTS);
    assert_eq!(
        (of_md(&now[1]), of_md(&now[4])),
        (of_md(&disks[1]) + 2, of_md(&disks[4]))
    );
    for keys in [vec![0, 1, 2, 3, 4], vec![0, 2, 3, 4]] {
        let keyed: Vec<_> = keys.iter().map(|&key| (key, &now[key as usize])).collect();
        let again = open_keyed(&MD_12, &keyed).unwrap();
        assert_eq!(state(&again, 4), DiskState::Stale);
        assert_ne!(slot(&again).disk, again.set().disk_by_key(4));
    }
    let returned = Event::DiskReturned(4, facts(&now[4], 4));
    apply(&mut set, &mut now, &returned, 2).unwrap();
    let again = open(&MD_12, &now).unwrap();
    assert_eq!(again.set().disk(4).unwrap().role, DiskRole::GlobalSpare);
    assert_same(&MD_12, &set, &now, "as a spare");

    // Without the original.
    let left = [0, 2, 3, 4].map(|key| (key, &disks[key as usize]));
    let mut set = open_keyed(&MD_12, &left).unwrap();
    let filled = get64(&disks[4].read(8, 1), v1::RECOVERY);
    let expected = MemberState::Rebuilding {
        done_sectors: filled,
    };
    assert_eq!(
        (slot(&set).disk, slot(&set).state),
        (set.set().disk_by_key(4), expected)
    );
    for event in [
        Event::RebuildProgress {
            volume: 0,
            slot: 1,
            done_sectors: filled + 8,
        },
        Event::RebuildDone { volume: 0, slot: 1 },
    ] {
        let mut now = disks.clone();
        apply(&mut set, &mut now, &event, 3).unwrap();
        let again = open(&MD_12, &now).unwrap();
        assert_eq!(state(&again, 1), DiskState::Stale, "{event:?}");
        assert_eq!(slot(&again).disk, again.set().disk_by_key(4), "{event:?}");
        assert_eq!(slot(&again).state, slot(&set).state, "{event:?}");
    }
}

/// Disks of others: dissect.volume's and libblkid's.
#[test]
fn samples_of_others() {
    for case in cases("md/dissect") {
        let (_, set) = opened(&case);
        let volume = set.set().volume(0).unwrap();
        assert!(
            matches!(volume.access, Access::ReadWrite),
            "{case}: {:?}",
            volume.access
        );
        // Its disks have 4, 4 and 3 MiB.
        let zones = if case.ends_with("md-raid0") { 2 } else { 0 };
        assert_eq!(volume.stretches.len(), zones, "{case}");
    }
    // What `blkid` says of them.
    let (format, set) = opened("md/util-linux/mdraid-1");
    assert_eq!(format.0, Version::V12);
    assert_eq!(set.set().name.as_str(), "troy.t-8ch.de:0");
    assert_eq!(
        set.head.uuid,
        [
            0x77, 0xe6, 0x1b, 0xaf, 0xc0, 0xb5, 0xd7, 0xd0, 0x39, 0xcf, 0x57, 0x5b, 0x64, 0xd4,
            0x87, 0x8c
        ]
    );
    let (format, set) = opened("md/util-linux/mdraid");
    assert_eq!(format.0, Version::V090);
    // Shown in words.
    let words: Vec<u32> = set
        .head
        .uuid
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    assert!(
        words == [0x37c7_6b91, 0x011a_05c5, 0xd30c_1fd4, 0xc5c3_dbbc]
            || words == [0x916b_c737, 0xc505_1a01, 0xd41f_0cd3, 0xbcdb_c3c5],
        "{words:08x?}"
    );
}

/// Every sample: decoded and encoded again it has the same bytes.
#[test]
fn round_trip() {
    let (mut count, mut bitmaps, mut entries) = (0, 0, 0);
    for case in cases("md") {
        let disks = load(&case);
        let format = version_of(&disks);
        let mut set = open(format, &disks).unwrap();
        set.reencode();
        for (index, home) in set.homes() {
            let key = set.set().disk(index).unwrap().facts.unwrap().key as usize;
            let bytes = disks[key].read(home.sector, 8);
            assert!(home.image(image::NEW) == bytes, "{case} disk {key}");
            count += 1;
        }
        let read = |index: u16, sector: u64, bytes: usize| {
            let key = set.set().disk(index).unwrap().facts.unwrap().key as usize;
            disks[key].read(sector, bytes.div_ceil(512))
        };
        // Each disk's own bitmap, byte for byte.
        if let Some(map) = &set.bitmap {
            for (index, home) in set.homes().filter(|(disk, _)| set.keeps_bitmap(*disk)) {
                assert!(!home.bitmap_whole, "{case}");
                let own = read(index, home.bitmap.unwrap(), map.bytes.len());
                assert!(own == *map.bytes, "{case} disk {index}");
                bitmaps += 1;
            }
        }
        // The bad-block logs, from the model: up to the entry that ends them.
        for (index, home) in set.homes() {
            let Some(log) = home.log else { continue };
            let own = read(index, log.sector, log.sectors as usize * 512);
            let mut encoded = vec![0u8; own.len()];
            let ranges = &set.set().bad_ranges;
            let used = badblocks::encode(&mut encoded, home.log_shift, ranges, index);
            assert_eq!(used, home.log_used, "{case} disk {index}");
            if used > 0 {
                let end = 8 * (used + 1);
                assert!(own[..end] == encoded[..end], "{case} disk {index}");
                entries += used;
            }
        }
    }
    assert_eq!(entries, 3);
    assert!(bitmaps >= 8, "{bitmaps} bitmaps");
    assert!(count > 100, "{count} superblocks");
}

/// Only the version that is there is found, and probing reads little.
#[test]
fn probes_of_other_versions_do_not_match() {
    for case in cases("md") {
        let disks = load(&case);
        let right = version_of(&disks);
        for disk in &disks {
            for format in ALL {
                let (_, verdict, bytes) = probe(format, disk, 0);
                assert!(bytes <= 256 << 10, "{case}: {bytes} bytes");
                assert_eq!(
                    matches!(verdict, Probe::Found { .. }),
                    format.0 == right.0,
                    "{case} {}: {verdict:?}",
                    format.name()
                );
                if format.0 != right.0 {
                    assert!(matches!(verdict, Probe::NotMine), "{case}: {verdict:?}");
                }
            }
        }
    }
}

/// Every array without one of its disks: that member is missing, and the rest is as it was.
#[test]
fn without_each_disk() {
    for case in cases("md/gen") {
        let disks = load(&case);
        let format = version_of(&disks);
        let whole = open(format, &disks).unwrap();
        let replaced = case.ends_with("replace") || case.ends_with("journal");
        for left_out in 0..disks.len() as u64 {
            let keyed: Vec<_> = (0u64..)
                .zip(&disks)
                .filter(|(key, _)| *key != left_out)
                .collect();
            let set = open_keyed(format, &keyed).unwrap();
            let (all, some) = (whole.set().volume(0).unwrap(), set.set().volume(0).unwrap());
            if !replaced {
                assert_eq!(all.members.len(), some.members.len(), "{case}");
                let missing = some
                    .members
                    .iter()
                    .filter(|member| member.state == MemberState::Missing)
                    .count();
                assert_eq!(missing, 1, "{case} without {left_out}");
            }
            assert_eq!(
                set.is_whole(),
                all.shape.level.is_redundant()
                    || case.ends_with("raid0-zones-alt") && set.is_whole(),
                "{case} without {left_out}"
            );
        }
    }
}
