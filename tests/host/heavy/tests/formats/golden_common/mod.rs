// SPDX-License-Identifier: GPL-2.0

//! Sample volumes with golden data, and what mdadm was told and said of them (`commands.sh` and
//! `out.log` of the samples): member order, offset, chunk and size. md keeps the order of the command
//! line, DDF and IMSM take their own. Sectors 0–4095 and the last 512 of a volume hold the
//! little-endian u64 (sector number + 1), 64 times a sector.

#![allow(dead_code)] // Each test uses a part of it.

use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::{Geometry, Kind};

/// A volume as it was made.
pub struct Case {
    pub path: &'static str,
    pub level: Level,
    pub layout: Layout,
    /// Disk `dN` of each slot.
    pub disks: &'static [usize],
    pub offset_sectors: u64,
    pub chunk_sectors: u32,
    pub member_sectors: u64,
    pub size_sectors: u64,
}

impl Case {
    /// Its shape, from what mdadm said.
    pub fn shape(&self) -> Shape {
        Shape {
            level: self.level,
            layout: self.layout,
            members: self.disks.len() as u16,
            spans: 1,
            chunk_sectors: self.chunk_sectors,
            member_sectors: self.member_sectors,
        }
    }
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

/// All of them.
pub const CASES: &[Case] = &cases! {
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
    "imsm/gen/raid10-6" Raid10 N2, [2, 0, 5, 3, 1, 4], at 0, chunk 128, member 118784, size 356352;
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
pub fn golden(size_sectors: u64) -> impl Iterator<Item = u64> {
    (0..4096).chain(size_sectors - 512..size_sectors)
}

/// What a golden sector holds.
pub fn pattern(sector: u64) -> Vec<u8> {
    (sector + 1).to_le_bytes().repeat(64)
}

/// Every place of a sector: slot and sector of the member.
pub fn places(geometry: &Geometry, sector: u64) -> Vec<(u16, u64)> {
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

/// Product in GF(2⁸) modulo x⁸+x⁴+x³+x²+1, the schoolbook way.
pub fn multiply(a: u8, b: u8) -> u8 {
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

/// 2 to the power of `exponent`.
pub fn power(exponent: u8) -> u8 {
    (0..exponent).fold(1, |value, _| multiply(value, 2))
}

/// All products with 2 to the power of `exponent`.
pub fn products(exponent: u8) -> [u8; 256] {
    let factor = power(exponent);
    std::array::from_fn(|byte| multiply(byte as u8, factor))
}
