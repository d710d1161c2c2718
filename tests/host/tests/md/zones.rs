// SPDX-License-Identifier: GPL-2.0

//! RAID 0 and linear over members of different sizes, against what `drivers/md/raid0.c` computes, and against an array
//! that the kernel wrote (`md/gen/12-raid0-zones-alt`).

use crate::md_common::{apply, blanks, change, create, open, open_keyed, version_of, ALL};
use emd_core::metadata::md::layout::v1;
use emd_core::metadata::md::{Version, MD_12};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Event, Level, MemberState, Volume};
use emd_core::personalities::Stretches;
use host_tests::crash::Random;
use host_tests::samples::{load, Disk};
use host_tests::shell::spec;

const CHUNK: u64 = 128;
const OFFSET: u64 = 2048;

/// Where a sector is: member and sector of its data, as `find_zone` and `map_sector` have it.
fn of_kernel(sizes: &[u64], is_original: bool, sector: u64) -> (usize, u64) {
    let (mut zone_start, mut dev_start) = (0, 0);
    loop {
        let devices: Vec<usize> = (0..sizes.len()).filter(|&n| sizes[n] > dev_start).collect();
        let dev_end = devices.iter().map(|&n| sizes[n]).min().expect("in a zone");
        let zone_end = zone_start + (dev_end - dev_start) * devices.len() as u64;
        if sector < zone_end {
            let width = devices.len() as u64;
            let in_zone = sector - zone_start;
            let chunk = in_zone / (CHUNK * width);
            let turn = if is_original { sector } else { in_zone };
            let device = devices[(turn / CHUNK % width) as usize];
            return (device, dev_start + chunk * CHUNK + in_zone % CHUNK);
        }
        (zone_start, dev_start) = (zone_end, dev_end);
    }
}

/// Disks of an array of three whose superblocks give other sizes, rounded to chunks.
fn with_sizes(disks: &[Disk], sizes: &[u64], layout: Option<u32>) -> Vec<Disk> {
    let mut disks = disks.to_vec();
    let format = version_of(&disks);
    for (disk, &size) in disks.iter_mut().zip(sizes) {
        // What is behind the last chunk counts for nothing.
        change(
            format,
            disk,
            v1::DATA_SIZE,
            &(size + size % 7).to_le_bytes(),
        );
        change(format, disk, v1::LAYOUT, &layout.unwrap_or(0).to_le_bytes());
        let features = if layout.is_some() { 0x1000u32 } else { 0 };
        change(format, disk, v1::FEATURES, &features.to_le_bytes());
    }
    disks
}

fn volume(disks: &[Disk], then: impl FnOnce(&Volume)) {
    let set = open(version_of(disks), disks).unwrap();
    then(set.set().volume(0).unwrap());
}

#[test]
fn every_sector_is_where_the_kernel_has_it() {
    let disks = load("md/gen/12-raid0-zones-alt");
    let mut random = Random(5);
    let mut zones = [0; 4];
    for round in 0..60 {
        let mut sizes = [0; 3].map(|_| CHUNK * (1 + random.below(9)));
        if round % 4 == 0 {
            // Two of the same size.
            sizes[1] = sizes[random.below(2) as usize * 2];
        }
        for is_original in [true, false] {
            let layout = if is_original { 1 } else { 2 };
            let changed = with_sizes(&disks, &sizes, Some(layout));
            volume(&changed, |volume| {
                assert!(
                    matches!(volume.access, Access::ReadWrite),
                    "{:?}",
                    volume.access
                );
                assert_eq!(volume.size_sectors, sizes.iter().sum::<u64>());
                if volume.stretches.is_empty() {
                    assert!(sizes.iter().all(|&size| size == sizes[0]), "{sizes:?}");
                    return;
                }
                zones[volume.stretches.len()] += 1;
                let (stretches, table) = Stretches::new(volume).unwrap();
                for sector in 0..volume.size_sectors {
                    let place = stretches.locate(sector).unwrap();
                    let member = table[usize::from(place.slot)];
                    let found = (
                        usize::from(member.disk.unwrap()),
                        member.offset_sectors + place.member_sector - OFFSET,
                    );
                    let expected = of_kernel(&sizes, is_original, sector);
                    assert_eq!(found, expected, "{sizes:?}, {is_original}, sector {sector}");
                    // What follows lies together, up to there.
                    let last = sector + place.left_sectors - 1;
                    let (device, at) = of_kernel(&sizes, is_original, last);
                    assert_eq!((device, at + 1 - place.left_sectors), expected);
                    let end = member.offset_sectors + stretches.member_end(place.slot) - OFFSET;
                    assert!(end <= sizes[found.0], "beyond the member: {sizes:?}");
                }
                assert!(stretches.locate(volume.size_sectors).is_none());
            });
        }
    }
    assert!(zones[2] > 5 && zones[3] > 20, "{zones:?}");
}

#[test]
fn what_the_kernel_wrote_is_found() {
    let disks = load("md/gen/12-raid0-zones-alt");
    volume(&disks, |volume| {
        // `mdadm --detail`: 78912 blocks.
        assert_eq!(volume.size_sectors, 2 * 78912);
        let (stretches, table) = Stretches::new(volume).unwrap();
        for sector in 0..volume.size_sectors {
            let place = stretches.locate(sector).unwrap();
            let member = table[usize::from(place.slot)];
            let disk = &disks[usize::from(member.disk.unwrap())];
            let bytes = disk.read(member.offset_sectors + place.member_sector, 1);
            assert!(
                bytes == (sector + 1).to_le_bytes().repeat(64),
                "sector {sector}"
            );
        }
    });
}

#[test]
fn what_is_not_known_or_not_here_is_not_run() {
    let disks = load("md/gen/12-raid0-zones-alt");
    let sizes = [CHUNK, 2 * CHUNK, 2 * CHUNK];
    for layout in [None, Some(0), Some(3)] {
        volume(
            &with_sizes(&disks, &sizes, layout),
            |volume| match &volume.access {
                Access::Refused(why) => assert!(why.text().contains("layout"), "{why}"),
                other => panic!("{layout:?}: {other:?}"),
            },
        );
    }
    // Of equal ones nobody needs it.
    volume(&with_sizes(&disks, &[CHUNK; 3], Some(2)), |volume| {
        assert!(volume.stretches.is_empty());
        assert!(matches!(volume.access, Access::ReadWrite));
    });
    let left = open_keyed(version_of(&disks), &[(0, &disks[0]), (2, &disks[2])]);
    let left = left.unwrap();
    let volume = left.set().volume(0).unwrap();
    assert!(volume.stretches.is_empty());
    assert_eq!(volume.members[1].state, MemberState::Missing);
}

#[test]
fn linear_members_follow_one_another() {
    let mut disks = blanks(3, 40, 512);
    let mut set = create(&MD_12, &disks, "");
    let slots = [0, 1, 2].map(Some);
    let made = Event::VolumeCreated(spec("", Level::Concat, &slots));
    apply(&mut set, &mut disks, &made, 1).unwrap();
    // Without a chunk all of them counts.
    let sizes = [5 * CHUNK, 2 * CHUNK, 9 * CHUNK].map(|size| size + size % 7);
    let plain = [5 * CHUNK, 2 * CHUNK, 9 * CHUNK];
    let changed = with_sizes(&disks, &plain, Some(0));
    volume(&changed, |volume| {
        assert!(
            matches!(volume.access, Access::ReadWrite),
            "{:?}",
            volume.access
        );
        let (stretches, table) = Stretches::new(volume).unwrap();
        let mut sector = 0;
        for (disk, &size) in (0u16..).zip(&sizes) {
            for (at, left) in [(0, size), (size - 1, 1)] {
                let place = stretches.locate(sector + at).unwrap();
                let member = table[usize::from(place.slot)];
                assert_eq!(member.disk, Some(disk));
                let expected = volume.members[usize::from(disk)].offset_sectors + at;
                assert_eq!(member.offset_sectors + place.member_sector, expected);
                assert_eq!(place.left_sectors, left);
            }
            sector += size;
        }
        assert_eq!(volume.size_sectors, sector);
    });
}

/// Disks of different sizes: an array that is made is the same one when it is read again, or it is not made. 0.90 has no
/// size of its own for these levels, so md and EMD take all of each disk there.
#[test]
fn what_is_made_of_unequal_disks_is_the_same_when_it_is_read_again() {
    let mib = |sizes: &[u64]| sizes.iter().map(|size| size << 11).collect::<Vec<_>>();
    // Beyond what 0.90 can say of members of other levels; and a rest that is no whole chunk.
    let sizes = [
        mib(&[40, 50]),
        mib(&[50, 40]),
        vec![(5 << 31) + 4096; 2],
        mib(&[40; 2]),
        vec![(40 << 11) + 128, (40 << 11) + 384],
    ];
    let mut made = [0; 2];
    for format in ALL {
        for level in [Level::Concat, Level::Raid0] {
            for sizes in &sizes {
                let what = format!("{} {level} {sizes:?}", format.0.name());
                let blank = |&size: &u64| Disk::blank("", size, 512);
                let mut disks: Vec<Disk> = sizes.iter().map(blank).collect();
                let mut set = create(format, &disks, "");
                let slots = [0, 1].map(Some);
                let event = Event::VolumeCreated(spec("", level, &slots));
                let units = sizes.iter().map(|size| (size / 128 - 1) / 8);
                let is_equal = match level {
                    Level::Raid0 => units.clone().all(|unit| Some(unit) == units.clone().next()),
                    _ => sizes[0] / 128 == sizes[1] / 128,
                };
                if format.0 == Version::V090 && !is_equal {
                    let why = apply(&mut set, &mut disks, &event, 1).unwrap_err();
                    assert!(why.text().contains("one size"), "{what}: {why}");
                    continue;
                }
                made[usize::from(format.0 == Version::V090)] += 1;
                apply(&mut set, &mut disks, &event, 1).expect(&what);
                let again = open(format, &disks).unwrap();
                let (was, is) = (set.set().volume(0).unwrap(), again.set().volume(0).unwrap());
                assert!(matches!(is.access, Access::ReadWrite), "{what}");
                assert_eq!(was.shape, is.shape, "{what}");
                assert_eq!(was.size_sectors, is.size_sectors, "{what}");
                assert!(
                    was.stretches.is_empty() && is.stretches.is_empty(),
                    "{what}"
                );
            }
        }
    }
    assert_eq!(made, [30, 5]);
}
