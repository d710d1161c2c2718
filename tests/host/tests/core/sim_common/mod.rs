// SPDX-License-Identifier: GPL-2.0

//! What the simulators of lanes and of mirrors share, and the tests of tasks.

#![allow(dead_code)] // Each test uses a part.

use emd_core::model::{Layout, Level, Shape};
use emd_core::personalities::lane::{LaneResult, Outcome};
use emd_core::personalities::{for_level, Geometry};

pub type Verdict<T = ()> = Result<T, String>;

#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// Distinct numbers below `limit`, in any order.
    pub fn distinct(&mut self, count: usize, limit: u64) -> Vec<u8> {
        let mut found: Vec<u8> = Vec::new();
        while found.len() < count {
            let next = self.below(limit) as u8;
            if !found.contains(&next) {
                found.push(next);
            }
        }
        found
    }
}

/// Nothing told yet.
pub fn blank_outcome() -> Outcome {
    Outcome::of(LaneResult::Good)
}

/// A volume as large as its members let it be, in chunks of 16 sectors.
pub fn geometry(member_sectors: u64, level: Level, layout: Layout, members: u16) -> Geometry {
    let shape = Shape {
        level,
        layout,
        members,
        spans: 1,
        chunk_sectors: 16,
        member_sectors,
    };
    let size = for_level(level).expect("level").capacity_sectors(&shape);
    Geometry::new(&shape, size).expect("shape")
}
