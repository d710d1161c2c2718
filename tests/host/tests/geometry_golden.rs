// SPDX-License-Identifier: GPL-2.0

//! Geometry against disks that mdadm and md wrote (`samples/`): each volume has in sectors 0–4095
//! and in its last 512 the little-endian u64 (sector number + 1), 64 times a sector. Every such
//! sector, and every copy of it, has to be where the geometry says; every P has to be the exclusive
//! or of its stripe's data, and every Q the sum that its exponents say, byte by byte.
//!
//! Member order, offsets, chunk and size come from what mdadm was told and said (`commands.sh` and
//! `out.log` of the samples): md keeps the order of the command line, DDF and IMSM take their own.

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

const fn parity(rotation: Rotation) -> Layout {
    Layout::Parity(rotation)
}

const PLAIN: Layout = Layout::Plain;
const LA: Layout = parity(Rotation::LeftAsymmetric);
const LS: Layout = parity(Rotation::LeftSymmetric);
const RA: Layout = parity(Rotation::RightAsymmetric);
const RS: Layout = parity(Rotation::RightSymmetric);
const FIRST: Layout = parity(Rotation::ParityFirst);
const LAST: Layout = parity(Rotation::ParityLast);
const DDF_N: Layout = parity(Rotation::DdfNRestart);
const DDF_0: Layout = parity(Rotation::DdfZeroRestart);
const LA_6: Layout = parity(Rotation::LeftAsymmetric6);
const RA_6: Layout = parity(Rotation::RightAsymmetric6);
const FIRST_6: Layout = parity(Rotation::ParityFirst6);
const N2: Layout = Layout::Near(2);
const N3: Layout = Layout::Near(3);
const F2: Layout = Layout::Far(2);

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
    "ddf/gen/raid0" Raid0 PLAIN, [1, 0], at 0, chunk 128, member 98304, size 196608;
    "ddf/gen/raid1" Raid1 PLAIN, [0, 1], at 0, chunk 0, member 98304, size 98304;
    "ddf/gen/raid10" Raid10 N2, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 196608;
    "ddf/gen/raid1e-n2" Raid1e N2, [1, 0, 2], at 0, chunk 128, member 98304, size 98304;
    "ddf/gen/raid4" Raid4 LAST, [1, 0, 2], at 0, chunk 128, member 98304, size 196608;
    "ddf/gen/raid5-la" Raid5 LA, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 294912;
    "ddf/gen/raid5-ls" Raid5 LS, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 294912;
    "ddf/gen/raid5-ra" Raid5 RA, [1, 3, 0, 2], at 0, chunk 128, member 98304, size 294912;
    "ddf/gen/raid6-ddf-N-restart" Raid6 DDF_N, [1, 3, 0, 2, 4], at 0, chunk 128, member 98304,
        size 294912;
    "ddf/gen/raid6-ddf-zero-restart" Raid6 DDF_0, [1, 3, 0, 2, 4], at 0, chunk 128, member 98304,
        size 294912;
    "imsm/gen/4k-raid0" Raid0 PLAIN, [1, 0], at 0, chunk 128, member 118784, size 237568;
    "imsm/gen/4k-raid1" Raid1 PLAIN, [1, 0], at 0, chunk 0, member 118784, size 118784;
    "imsm/gen/raid0" Raid0 PLAIN, [1, 0], at 0, chunk 128, member 118784, size 237568;
    "imsm/gen/raid1" Raid1 PLAIN, [1, 0], at 0, chunk 0, member 118784, size 118784;
    "imsm/gen/raid10" Raid10 N2, [1, 3, 0, 2], at 0, chunk 128, member 118784, size 237568;
    "imsm/gen/raid5-3" Raid5 LA, [0, 1, 2], at 0, chunk 128, member 118784, size 237568;
    "imsm/gen/raid5-4" Raid5 LA, [0, 3, 1, 2], at 0, chunk 256, member 118784, size 356352;
    "md/gen/090-linear" Concat PLAIN, [0, 1], at 0, chunk 128, member 81792, size 163584;
    "md/gen/090-raid0" Raid0 PLAIN, [0, 1], at 0, chunk 128, member 81792, size 163584;
    "md/gen/090-raid10-n2" Raid10 N2, [0, 1, 2, 3], at 0, chunk 128, member 81792, size 163584;
    "md/gen/090-raid5-ls-bitmap" Raid5 LS, [0, 1, 2], at 0, chunk 64, member 81792, size 163584;
    "md/gen/10-raid1" Raid1 PLAIN, [0, 1], at 0, chunk 0, member 81792, size 81792;
    "md/gen/11-raid5" Raid5 LS, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
    "md/gen/12-raid0" Raid0 PLAIN, [0, 1, 2], at 2048, chunk 128, member 79872, size 239616;
    "md/gen/12-raid1-badblocks" Raid1 PLAIN, [0, 1], at 2048, chunk 0, member 79872, size 79872;
    "md/gen/12-raid1-bitmap-wm" Raid1 PLAIN, [0, 1], at 2048, chunk 0, member 79872, size 79872;
    "md/gen/12-raid10-f2" Raid10 F2, [0, 1, 2], at 2048, chunk 128, member 79872, size 119808;
    "md/gen/12-raid10-f2-5d" Raid10 F2, [0, 1, 2, 3, 4], at 2048, chunk 128, member 79872,
        size 199680;
    "md/gen/12-raid10-n2-3d" Raid10 N2, [0, 1, 2], at 2048, chunk 128, member 79872, size 119808;
    "md/gen/12-raid10-n3-5d" Raid10 N3, [0, 1, 2, 3, 4], at 2048, chunk 128, member 79872,
        size 133120;
    "md/gen/12-raid10-replace" Raid10 N2, [0, 1, 2, 3], at 2048, chunk 128, member 79872,
        size 159744;
    "md/gen/12-raid4" Raid4 LAST, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
    "md/gen/12-raid5-dirty" Raid5 LS, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
    "md/gen/12-raid5-journal" Raid5 LS, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
    "md/gen/12-raid5-ls" Raid5 LS, [0, 1, 2, 3], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/12-raid5-parity-first" Raid5 FIRST, [0, 1, 2, 3], at 2048, chunk 32, member 79872,
        size 239616;
    "md/gen/12-raid5-ppl" Raid5 LS, [0, 1, 2], at 4096, chunk 128, member 77824, size 155648;
    "md/gen/12-raid5-ra" Raid5 RA, [0, 1, 2, 3], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/12-raid5-rs" Raid5 RS, [0, 1, 2, 3], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/12-raid6-ddf-N-restart" Raid6 DDF_N, [0, 1, 2, 3, 4], at 2048, chunk 32,
        member 79872, size 239616;
    "md/gen/12-raid6-ddf-zero-restart" Raid6 DDF_0, [0, 1, 2, 3, 4], at 2048, chunk 32,
        member 79872, size 239616;
    "md/gen/12-raid6-la-6" Raid6 LA_6, [0, 1, 2, 3, 4], at 2048, chunk 32, member 79872,
        size 239616;
    "md/gen/12-raid6-ls" Raid6 LS, [0, 1, 2, 3, 4], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/12-raid6-parity-first" Raid6 FIRST, [0, 1, 2, 3, 4], at 2048, chunk 32, member 79872,
        size 239616;
    "md/gen/12-raid6-parity-first-6" Raid6 FIRST_6, [0, 1, 2, 3, 4], at 2048, chunk 32,
        member 79872, size 239616;
    "md/gen/12-raid6-ra-6" Raid6 RA_6, [0, 1, 2, 3, 4], at 2048, chunk 32, member 79872,
        size 239616;
    "md/gen/12-raid6-rs" Raid6 RS, [0, 1, 2, 3, 4], at 2048, chunk 32, member 79872, size 239616;
    "md/gen/4k-090-raid1" Raid1 PLAIN, [0, 1], at 0, chunk 0, member 81792, size 81792;
    "md/gen/4k-12-raid5" Raid5 LS, [0, 1, 2], at 2048, chunk 128, member 79872, size 159744;
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

fn geometry(case: &Case) -> Geometry {
    Geometry::new(&shape(case), case.size_sectors).unwrap()
}

fn members(case: &Case) -> Vec<Disk> {
    let disks = load(case.path);
    case.disks.iter().map(|&d| disks[d].clone()).collect()
}

fn the(path: &str) -> &'static Case {
    CASES.iter().find(|case| case.path == path).unwrap()
}

/// Every place of a sector: slot and sector of the member.
fn places(geometry: &Geometry, sector: u64) -> Vec<(u16, u64)> {
    let place = geometry.locate(sector);
    match geometry.kind() {
        Kind::Mirrored => (0..geometry.members())
            .map(|slot| (slot, place.member_sector))
            .collect(),
        Kind::Copies => {
            let column = sector - geometry.stripe_start(place.stripe);
            let all: Vec<_> = (0..geometry.copies())
                .map(|index| geometry.copy(place.stripe, index).unwrap())
                .map(|(slot, start)| (slot, start + column))
                .collect();
            assert_eq!(all[0], (place.slot, place.member_sector));
            all
        }
        _ => vec![(place.slot, place.member_sector)],
    }
}

/// The first golden sector that is not everywhere where `geometry` says.
fn misplaced(case: &Case, geometry: &Geometry, members: &[Disk]) -> Option<u64> {
    golden(case.size_sectors).find(|&sector| {
        places(geometry, sector).iter().any(|&(slot, at)| {
            members[usize::from(slot)].read(case.offset_sectors + at, 1) != pattern(sector)
        })
    })
}

/// Product in GF(2⁸) modulo x⁸+x⁴+x³+x²+1, the schoolbook way.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        if (b >> bit) & 1 == 1 {
            product ^= a;
        }
        let carry = a >> 7 == 1;
        a <<= 1;
        if carry {
            a ^= 0x1d;
        }
    }
    product
}

/// All products with 2 to the power of `exponent`.
fn products(exponent: u8) -> [u8; 256] {
    let factor = (0..exponent).fold(1, |value, _| multiply(value, 2));
    std::array::from_fn(|byte| multiply(byte as u8, factor))
}

/// How many sectors of P, and of Q, of stripes with golden data are wrong.
fn wrong_parity(case: &Case, geometry: &Geometry, members: &[Disk]) -> (usize, usize) {
    let mut stripes: Vec<u64> = golden(case.size_sectors)
        .map(|sector| geometry.locate(sector).stripe)
        .collect();
    stripes.dedup();
    let chunk = geometry.chunk_sectors() as usize;
    let (mut wrong_p, mut wrong_q) = (0, 0);
    for stripe in stripes {
        let read = |slot: u16| {
            let at = geometry.member_sector(stripe, slot).unwrap();
            members[usize::from(slot)].read(case.offset_sectors + at, chunk)
        };
        let roles = geometry.roles(stripe);
        let (mut p, mut q) = (vec![0u8; chunk * 512], vec![0u8; chunk * 512]);
        for slot in roles.data {
            let bytes = read(slot);
            let exponent = geometry.q_exponent(stripe, slot);
            assert_eq!(exponent.is_some(), case.level == Level::Raid6);
            let products = products(exponent.unwrap_or(0));
            for (at, &byte) in bytes.iter().enumerate() {
                p[at] ^= byte;
                q[at] ^= products[usize::from(byte)];
            }
        }
        let wrong = |slot: u16, sum: &[u8]| {
            let stored = read(slot);
            // A parity of nothing would prove nothing.
            if stored.iter().all(|&byte| byte == 0) {
                return chunk;
            }
            stored
                .chunks(512)
                .zip(sum.chunks(512))
                .filter(|(stored, sum)| stored != sum)
                .count()
        };
        wrong_p += wrong(roles.p.unwrap(), &p);
        if let Some(slot) = roles.q {
            wrong_q += wrong(slot, &q);
        }
    }
    (wrong_p, wrong_q)
}

#[test]
fn data_and_copies_are_where_the_geometry_says() {
    for case in CASES {
        let members = members(case);
        assert_eq!(
            misplaced(case, &geometry(case), &members),
            None,
            "{}",
            case.path
        );
    }
}

#[test]
fn parity_is_where_and_what_the_geometry_says() {
    let (mut p, mut q) = (0, 0);
    for case in CASES.iter().filter(|case| case.level.parity_members() > 0) {
        let members = members(case);
        let wrong = wrong_parity(case, &geometry(case), &members);
        assert_eq!(wrong, (0, 0), "{}", case.path);
        p += 1;
        q += usize::from(case.level == Level::Raid6);
    }
    assert_eq!((p, q), (27, 10));
}

/// mdadm makes volumes of the full capacity; but DDF's RAID 1E of an odd number of members it
/// rounds down to whole members (`ddf.md` §8).
#[test]
fn capacity_is_what_mdadm_made_of_it() {
    for case in CASES {
        let mut shape = shape(case);
        let chunk = u64::from(case.chunk_sectors);
        if case.level == Level::Raid1e {
            assert!(Geometry::new(&shape, 147_456).is_ok());
            assert!(Geometry::new(&shape, 147_457).is_err());
            continue;
        }
        assert!(
            Geometry::new(&shape, case.size_sectors + 1).is_err(),
            "{}",
            case.path
        );
        // And not because it rounds too much off.
        shape.member_sectors += chunk.max(1) * 2;
        assert!(
            Geometry::new(&shape, case.size_sectors + 1).is_ok(),
            "{}",
            case.path
        );
    }
}

/// The tests above can fail: no wrong layout passes for the right one.
#[test]
fn wrong_layouts_are_caught() {
    let mut caught = 0;
    for case in CASES {
        let members = members(case);
        let mut others: Vec<Layout> = Rotation::ALL.map(Layout::Parity).to_vec();
        others.extend((2..=4).flat_map(|n| [Layout::Near(n), Layout::Far(n), Layout::Offset(n)]));
        for layout in others {
            let mut shape = shape(case);
            shape.layout = layout;
            // With fewer copies there is more room: the size stays.
            let Ok(geometry) = Geometry::new(&shape, case.size_sectors) else {
                continue;
            };
            // Data may be placed the same: DDF's zero-restart differs from right-asymmetric in Q only.
            let right = misplaced(case, &geometry, &members).is_none()
                && (case.level.parity_members() == 0
                    || wrong_parity(case, &geometry, &members) == (0, 0));
            assert_eq!(right, layout == case.layout, "{} {layout}", case.path);
            caught += usize::from(!right);
        }
        if matches!(case.level, Level::Raid5 | Level::Raid6 | Level::Raid10) {
            let mut shape = shape(case);
            shape.chunk_sectors /= 2;
            let geometry = Geometry::new(&shape, case.size_sectors).unwrap();
            let wrong = misplaced(case, &geometry, &members);
            assert!(wrong.is_some(), "{} chunk", case.path);
        }
    }
    assert!(caught > 200, "only {caught} wrong layouts tried");
}

/// And so is a wrong byte of parity.
#[test]
fn wrong_parity_is_caught() {
    let case = the("ddf/gen/raid6-ddf-N-restart");
    let geometry = geometry(case);
    let roles = geometry.roles(0);
    for (slot, wrong) in [(roles.p, (1, 0)), (roles.q, (0, 1))] {
        let mut members = members(case);
        let at = case.offset_sectors + 5;
        let disk = &mut members[usize::from(slot.unwrap())];
        let mut bytes = disk.read(at, 1);
        bytes[100] ^= 1;
        disk.write(at, &bytes);
        assert_eq!(wrong_parity(case, &geometry, &members), wrong);
    }
}
