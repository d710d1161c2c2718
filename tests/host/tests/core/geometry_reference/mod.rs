// SPDX-License-Identifier: GPL-2.0

//! Where everything is, written out the slow way from the layouts' definitions (md's layouts, DDF's
//! level qualifiers), and not from the code under test: members are dealt to one after another, P
//! and Q walk row by row, nothing is divided that can be counted.

#![allow(dead_code)] // Each test uses a part of it.

use emd_core::model::{Layout, Level, Rotation, Shape};

/// One row that belongs together: a stripe, or a chunk with its copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Slot, and chunk of the member, of each data chunk, in the order of the data; of copies: of
    /// each copy.
    pub data: Vec<(u16, u64)>,
    pub p: Option<(u16, u64)>,
    pub q: Option<(u16, u64)>,
    /// Exponent of Q's generator for each data chunk; empty without Q.
    pub exponents: Vec<u8>,
}

/// All rows of a volume whose members have `member_chunks` whole chunks, in order.
pub fn rows(shape: &Shape, member_chunks: u64) -> Vec<Row> {
    match shape.level {
        Level::Raid10 | Level::Raid1e => copies(shape, member_chunks),
        Level::Raid0 | Level::Raid4 | Level::Raid5 | Level::Raid6 => {
            let mut rows = Vec::new();
            for inner in 0..member_chunks {
                for span in 0..shape.spans {
                    rows.push(span_row(shape, inner, span * shape.members));
                }
            }
            rows
        }
        Level::Concat | Level::Raid1 => unreachable!("no chunks"),
    }
}

/// Row `inner` of the span that starts at slot `first`.
fn span_row(shape: &Shape, inner: u64, first: u16) -> Row {
    let at = |slot: u16| (first + slot, inner);
    let Layout::Parity(rotation) = shape.layout else {
        return Row {
            data: (0..shape.members).map(at).collect(),
            p: None,
            q: None,
            exponents: Vec::new(),
        };
    };
    let six = shape.level == Level::Raid6;
    let (p, q, data) = stripe(rotation, shape.members, six, inner);
    let exponents = match q {
        Some(q) => data
            .iter()
            .map(|&slot| exponent(rotation, shape.members, p, q, slot))
            .collect(),
        None => Vec::new(),
    };
    Row {
        data: data.into_iter().map(at).collect(),
        p: Some(at(p)),
        q: q.map(at),
        exponents,
    }
}

/// Slots of P, Q and data of one stripe.
pub fn stripe(rotation: Rotation, n: u16, six: bool, stripe: u64) -> (u16, Option<u16>, Vec<u16>) {
    use Rotation as R;
    let s = stripe as i64;
    let modulo = |value: i64, of: u16| value.rem_euclid(i64::from(of)) as u16;
    let last = i64::from(n) - 1;
    // The `…_6` ones are RAID 5 over all members but the last.
    let as_five = match rotation {
        R::LeftAsymmetric6 => Some(R::LeftAsymmetric),
        R::RightAsymmetric6 => Some(R::RightAsymmetric),
        R::LeftSymmetric6 => Some(R::LeftSymmetric),
        R::RightSymmetric6 => Some(R::RightSymmetric),
        R::ParityFirst6 => Some(R::ParityFirst),
        _ => None,
    };
    if let Some(five) = as_five {
        let (p, _, data) = self::stripe(five, n - 1, false, stripe);
        return (p, Some(n - 1), data);
    }
    let from = |start: u16, parity: &[u16]| -> Vec<u16> {
        (0..n)
            .map(|step| (start + step) % n)
            .filter(|slot| !parity.contains(slot))
            .collect()
    };
    let p = match rotation {
        R::LeftAsymmetric | R::LeftSymmetric | R::DdfNContinue => {
            (last - i64::from(modulo(s, n))) as u16
        }
        R::RightAsymmetric | R::RightSymmetric | R::DdfZeroRestart => modulo(s, n),
        R::DdfNRestart => (last - i64::from(modulo(s + 1, n))) as u16,
        R::ParityFirst => 0,
        R::ParityLast if six => n - 2,
        _ => n - 1,
    };
    if !six {
        let start = match rotation {
            R::LeftSymmetric | R::RightSymmetric => (p + 1) % n,
            _ => 0,
        };
        return (p, None, from(start, &[p]));
    }
    let q = match rotation {
        R::DdfNContinue => modulo(i64::from(p) - 1, n),
        _ => (p + 1) % n,
    };
    let start = match rotation {
        R::LeftSymmetric | R::RightSymmetric => (p + 2) % n,
        R::DdfNContinue => (p + 1) % n,
        _ => 0,
    };
    (p, Some(q), from(start, &[p, q]))
}

/// md counts data members from the one after Q on, going round; DDF counts members.
fn exponent(rotation: Rotation, n: u16, p: u16, q: u16, slot: u16) -> u8 {
    if matches!(
        rotation,
        Rotation::DdfZeroRestart | Rotation::DdfNRestart | Rotation::DdfNContinue
    ) {
        return slot as u8;
    }
    let mut count = 0;
    let mut at = (q + 1) % n;
    while at != slot {
        count += u8::from(at != p);
        at = (at + 1) % n;
    }
    count
}

/// Chunks with their copies.
fn copies(shape: &Shape, member_chunks: u64) -> Vec<Row> {
    let n = shape.members;
    let mut rows = Vec::new();
    let mut push = |data: Vec<(u16, u64)>| {
        rows.push(Row {
            data,
            p: None,
            q: None,
            exponents: Vec::new(),
        })
    };
    match shape.layout {
        Layout::Near(copies) => {
            // All places in row-major order, so many to each chunk.
            let places: Vec<(u16, u64)> = (0..member_chunks)
                .flat_map(|row| (0..n).map(move |slot| (slot, row)))
                .collect();
            places
                .chunks_exact(usize::from(copies))
                .for_each(|chunk| push(chunk.to_vec()));
        }
        Layout::Far(copies) => {
            let stride = member_chunks / u64::from(copies);
            for row in 0..stride {
                for k in 0..n {
                    push(
                        (0..u16::from(copies))
                            .map(|j| ((k + j) % n, row + u64::from(j) * stride))
                            .collect(),
                    );
                }
            }
        }
        Layout::Offset(copies) => {
            for row in 0..member_chunks / u64::from(copies) {
                for k in 0..n {
                    push(
                        (0..u16::from(copies))
                            .map(|j| ((k + j) % n, row * u64::from(copies) + u64::from(j)))
                            .collect(),
                    );
                }
            }
        }
        _ => unreachable!("no copies"),
    }
    rows
}

/// Every layout that `level` has over `members` members.
pub fn layouts(level: Level, members: u16) -> Vec<Layout> {
    use Rotation as R;
    let rotations: &[Rotation] = match level {
        Level::Concat | Level::Raid0 | Level::Raid1 => return vec![Layout::Plain],
        Level::Raid1e => return vec![Layout::Near(2), Layout::Offset(2)],
        Level::Raid10 => {
            return (2..=members as u8)
                .flat_map(|n| [Layout::Near(n), Layout::Far(n), Layout::Offset(n)])
                .collect()
        }
        Level::Raid4 => &[R::ParityFirst, R::ParityLast],
        Level::Raid5 => &[
            R::LeftAsymmetric,
            R::LeftSymmetric,
            R::RightAsymmetric,
            R::RightSymmetric,
            R::ParityFirst,
            R::ParityLast,
        ],
        Level::Raid6 => &R::ALL,
    };
    rotations.iter().copied().map(Layout::Parity).collect()
}

/// Fewest members of a span that `level` runs.
pub fn members_min(level: Level) -> u16 {
    match level {
        Level::Concat | Level::Raid0 | Level::Raid1 => 1,
        Level::Raid10 | Level::Raid4 | Level::Raid5 => 2,
        Level::Raid1e => 3,
        Level::Raid6 => 4,
    }
}
