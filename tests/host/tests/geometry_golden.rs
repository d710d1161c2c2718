// SPDX-License-Identifier: GPL-2.0

//! Geometry against disks that mdadm and md wrote (`samples/`): each volume has in sectors 0–4095
//! and in its last 512 the little-endian u64 (sector number + 1), 64 times a sector. Every such
//! sector has to be where the geometry says, and every parity block has to be the exclusive or of
//! its stripe's data, byte by byte.
//!
//! Member order, offsets, chunk and size come from what mdadm was told and said (`commands.sh` and
//! `out.log` of the samples): md keeps the order of the command line, DDF takes its own.

use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::{Geometry, Kind};
use host_tests::samples::{load, Disk};

struct Case {
    path: &'static str,
    level: Level,
    layout: Layout,
    /// Disk `dN` of each slot.
    disks: &'static [usize],
    offset_sectors: u64,
    chunk_sectors: u32,
    member_sectors: u64,
    size_sectors: u64,
}

const LA: Layout = Layout::Parity(Rotation::LeftAsymmetric);
const LS: Layout = Layout::Parity(Rotation::LeftSymmetric);
const RA: Layout = Layout::Parity(Rotation::RightAsymmetric);
const RS: Layout = Layout::Parity(Rotation::RightSymmetric);
const FIRST: Layout = Layout::Parity(Rotation::ParityFirst);
const LAST: Layout = Layout::Parity(Rotation::ParityLast);

macro_rules! cases {
    ($($path:literal $level:ident $layout:expr, $disks:expr, at $offset:literal,
       chunk $chunk:literal, member $member:literal, size $size:literal;)*) => {
        [$(Case {
            path: $path,
            level: Level::$level,
            layout: $layout,
            disks: &$disks,
            offset_sectors: $offset,
            chunk_sectors: $chunk,
            member_sectors: $member,
            size_sectors: $size,
        },)*]
    };
}

const CASES: &[Case] = &cases! {
    "ddf/gen/raid0" Raid0 Layout::Plain, [1, 0], at 0, chunk 128, member 98304, size 196608;
    "ddf/gen/raid1" Raid1 Layout::Plain, [0, 1], at 0, chunk 0, member 98304, size 98304;
    "ddf/gen/raid4" Raid4 LAST, [1, 0, 2], at 0, chunk 128, member 98304, size 196608;
    "ddf/gen/raid5-la" Raid5 LA, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 294912;
    "ddf/gen/raid5-ls" Raid5 LS, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 294912;
    "ddf/gen/raid5-ra" Raid5 RA, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 294912;
    "md/gen/090-linear" Concat Layout::Plain, [0, 1], at 0, chunk 128, member 81792, size 163584;
    "md/gen/090-raid0" Raid0 Layout::Plain, [0, 1], at 0, chunk 128, member 81792, size 163584;
    "md/gen/10-raid1" Raid1 Layout::Plain, [0, 1], at 0, chunk 0, member 81792, size 81792;
    "md/gen/11-raid5" Raid5 LS, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
    "md/gen/12-raid0" Raid0 Layout::Plain, [0, 1, 2], at 2048, chunk 128, member 79872, size 239616;
    "md/gen/12-raid4" Raid4 LAST, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
    "md/gen/12-raid5-ls" Raid5 LS, [0, 1, 2, 3], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/12-raid5-parity-first" Raid5 FIRST, [0, 1, 2, 3], at 2048, chunk 32, member 79872,
        size 239616;
    "md/gen/12-raid5-ra" Raid5 RA, [0, 1, 2, 3], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/12-raid5-rs" Raid5 RS, [0, 1, 2, 3], at 2048, chunk 32, member 79872, size 239616;
};

/// Sectors with the pattern.
fn golden(size_sectors: u64) -> impl Iterator<Item = u64> {
    (0..4096).chain(size_sectors - 512..size_sectors)
}

fn pattern(sector: u64) -> Vec<u8> {
    (sector + 1).to_le_bytes().repeat(64)
}

fn shape(case: &Case) -> Shape {
    Shape {
        level: case.level,
        layout: case.layout,
        members: case.disks.len() as u16,
        spans: 1,
        chunk_sectors: case.chunk_sectors,
        member_sectors: case.member_sectors,
    }
}

fn members(case: &Case) -> Vec<Disk> {
    let disks = load(case.path);
    case.disks.iter().map(|&d| disks[d].clone()).collect()
}

/// How many golden sectors are not where `geometry` says.
fn misplaced(case: &Case, geometry: &Geometry, members: &[Disk]) -> usize {
    golden(case.size_sectors)
        .filter(|&sector| {
            let place = geometry.locate(sector);
            let at = case.offset_sectors + place.member_sector;
            let holders = match geometry.kind() {
                Kind::Mirrored => members,
                _ => &members[usize::from(place.slot)..][..1],
            };
            holders
                .iter()
                .any(|disk| disk.read(at, 1) != pattern(sector))
        })
        .count()
}

/// How many parity sectors of stripes with golden data are not the exclusive or of the data.
fn wrong_parity(case: &Case, geometry: &Geometry, members: &[Disk]) -> usize {
    let mut stripes: Vec<u64> = golden(case.size_sectors)
        .map(|sector| geometry.locate(sector).stripe)
        .collect();
    stripes.dedup();
    let chunk = geometry.chunk_sectors() as usize;
    let mut wrong = 0;
    for stripe in stripes {
        let at = case.offset_sectors + stripe * chunk as u64;
        let roles = geometry.roles(stripe);
        let mut sum = vec![0u8; chunk * 512];
        for slot in roles.data {
            let bytes = members[usize::from(slot)].read(at, chunk);
            sum.iter_mut()
                .zip(bytes)
                .for_each(|(sum, byte)| *sum ^= byte);
        }
        let p = members[usize::from(roles.p.unwrap())].read(at, chunk);
        wrong += p
            .chunks(512)
            .zip(sum.chunks(512))
            .filter(|(p, sum)| p != sum)
            .count();
        // A parity of nothing would prove nothing.
        assert!(
            p.iter().any(|&byte| byte != 0) || roles.data.len() == 1,
            "empty stripe"
        );
    }
    wrong
}

#[test]
fn data_is_where_the_geometry_says() {
    for case in CASES {
        let geometry = Geometry::new(&shape(case), case.size_sectors).unwrap();
        let members = members(case);
        assert_eq!(misplaced(case, &geometry, &members), 0, "{}", case.path);
    }
}

#[test]
fn parity_is_where_the_geometry_says() {
    let mut checked = 0;
    for case in CASES.iter().filter(|case| case.level.parity_members() == 1) {
        let geometry = Geometry::new(&shape(case), case.size_sectors).unwrap();
        let members = members(case);
        assert_eq!(wrong_parity(case, &geometry, &members), 0, "{}", case.path);
        checked += 1;
    }
    assert_eq!(checked, 10);
}

#[test]
fn capacity_is_what_mdadm_made_of_it() {
    for case in CASES {
        let shape = shape(case);
        assert!(
            Geometry::new(&shape, case.size_sectors).is_ok(),
            "{}",
            case.path
        );
        assert!(
            Geometry::new(&shape, case.size_sectors + 1).is_err(),
            "{}",
            case.path
        );
    }
}

/// The tests above can fail: no wrong layout passes for the right one.
#[test]
fn wrong_layouts_are_caught() {
    for case in CASES.iter().filter(|case| case.level == Level::Raid5) {
        let members = members(case);
        for layout in [LA, LS, RA, RS, FIRST, LAST] {
            let mut shape = shape(case);
            shape.layout = layout;
            let geometry = Geometry::new(&shape, case.size_sectors).unwrap();
            let misplaced = misplaced(case, &geometry, &members);
            assert_eq!(
                misplaced == 0,
                layout == case.layout,
                "{} {layout}",
                case.path
            );
        }
        let mut shape = shape(case);
        shape.chunk_sectors *= 2;
        let geometry = Geometry::new(&shape, case.size_sectors).unwrap();
        assert_ne!(
            misplaced(case, &geometry, &members),
            0,
            "{} chunk",
            case.path
        );
    }
}

/// And so is a wrong byte of parity.
#[test]
fn wrong_parity_is_caught() {
    let case = &CASES[4];
    let geometry = Geometry::new(&shape(case), case.size_sectors).unwrap();
    let mut members = members(case);
    let p = geometry.roles(0).p.unwrap();
    let at = case.offset_sectors + 5;
    let mut bytes = members[usize::from(p)].read(at, 1);
    bytes[100] ^= 1;
    members[usize::from(p)].write(at, &bytes);
    assert_eq!(wrong_parity(case, &geometry, &members), 1);
}
