// SPDX-License-Identifier: GPL-2.0

//! Every level with chunks × layout × number of members × spans, against a slow reference
//! (`geometry_reference`): small volumes whole, and what must hold of any.

use crate::geometry_reference::{layouts, members_min, rows, Row};
use emd_core::model::{Layout, Level, Rotation, Shape, MEMBERS_MAX};
use emd_core::personalities::{for_level, Geometry, Health, Kind, Mask};
use std::collections::{HashMap, HashSet};

const CHUNKED: [Level; 6] = [
    Level::Raid0,
    Level::Raid1e,
    Level::Raid10,
    Level::Raid4,
    Level::Raid5,
    Level::Raid6,
];

/// Chunk of the small volumes: more than one sector, so that columns matter.
const CHUNK: u32 = 2;

fn spans_max(level: Level) -> u16 {
    match level {
        Level::Raid1e | Level::Raid10 => 1,
        _ => 3,
    }
}

/// Shapes of up to `members_max` members a span, all layouts and spans; and how many whole chunks
/// each member has: from one to more than two cycles of any rotation.
fn each_shape(members_max: u16, mut with: impl FnMut(&Shape, u64)) {
    for level in CHUNKED {
        for members in members_min(level)..=members_max {
            for layout in layouts(level, members) {
                for spans in 1..=spans_max(level) {
                    for member_chunks in [1, 2, 3, 5, 8, 2 * u64::from(members) + 1] {
                        let shape = Shape {
                            level,
                            layout,
                            members,
                            spans,
                            chunk_sectors: CHUNK,
                            // A partial chunk at the end is never used.
                            member_sectors: member_chunks * u64::from(CHUNK) + 1,
                        };
                        with(&shape, member_chunks);
                    }
                }
            }
        }
    }
}

/// How many logical sectors the rows hold.
fn data_sectors(shape: &Shape, rows: &[Row]) -> u64 {
    let chunks: usize = match shape.level {
        Level::Raid1e | Level::Raid10 => rows.len(),
        _ => rows.iter().map(|row| row.data.len()).sum(),
    };
    chunks as u64 * u64::from(CHUNK)
}

#[test]
fn capacity_is_the_references() {
    let mut shapes = 0;
    each_shape(9, |shape, member_chunks| {
        let size = data_sectors(shape, &rows(shape, member_chunks));
        let personality = for_level(shape.level).unwrap();
        assert_eq!(personality.capacity_sectors(shape), size, "{shape:?}");
        assert_eq!(Geometry::new(shape, size).is_ok(), size > 0, "{shape:?}");
        assert!(Geometry::new(shape, size + 1).is_err());
        shapes += 1;
    });
    assert!(shapes > 2000, "only {shapes}");
}

#[test]
fn every_row_is_the_references() {
    each_shape(9, |shape, member_chunks| {
        let expected = rows(shape, member_chunks);
        let size = data_sectors(shape, &expected);
        let Ok(geometry) = Geometry::new(shape, size) else {
            assert_eq!(size, 0);
            return;
        };
        let copies = geometry.kind() == Kind::Copies;
        let chunk = u64::from(CHUNK);
        assert_eq!(geometry.stripes(), expected.len() as u64, "{shape:?}");
        assert_eq!(geometry.rows(), geometry.stripes(), "{shape:?}");
        assert_eq!(geometry.members(), shape.members * shape.spans);
        assert_eq!(geometry.span_members(), shape.members);
        let mut logical = 0;
        for (stripe, row) in expected.iter().enumerate() {
            let stripe = stripe as u64;
            let about = || format!("stripe {stripe} of {shape:?}");
            // Roles.
            let roles = geometry.roles(stripe);
            let slots = |places: &[(u16, u64)]| {
                places
                    .iter()
                    .fold(Mask::EMPTY, |mask, &(slot, _)| mask.with(slot))
            };
            assert_eq!(roles.data, slots(&row.data), "{}", about());
            assert_eq!(roles.data.len() as usize, row.data.len(), "{}", about());
            assert_eq!(roles.p, row.p.map(|(slot, _)| slot), "{}", about());
            assert_eq!(roles.q, row.q.map(|(slot, _)| slot), "{}", about());
            assert!(roles.data.intersect(roles.parity()).is_empty());
            // Where it is on each member, and back.
            let mut places: HashMap<u16, u64> = row.data.iter().copied().collect();
            places.extend(row.p);
            places.extend(row.q);
            for slot in 0..geometry.members() + 1 {
                let start = places.get(&slot).map(|&at| at * chunk);
                assert_eq!(geometry.member_sector(stripe, slot), start, "{}", about());
                for column in 0..CHUNK {
                    if let Some(start) = start {
                        let at = start + u64::from(column);
                        assert_eq!(
                            geometry.row_at(slot, at),
                            Some((stripe, column)),
                            "{}",
                            about()
                        );
                    }
                }
            }
            // Data, in order.
            assert_eq!(geometry.stripe_start(stripe), logical, "{}", about());
            let first_copies = if copies {
                &row.data[..1]
            } else {
                &row.data[..]
            };
            for (index, &(slot, at)) in first_copies.iter().enumerate() {
                let index = index as u16;
                assert_eq!(geometry.data_slot(stripe, index), slot, "{}", about());
                for column in 0..chunk {
                    let place = geometry.locate(logical + column);
                    assert_eq!(place.slot, slot, "{}", about());
                    assert_eq!(place.member_sector, at * chunk + column);
                    assert_eq!(place.left_sectors, chunk - column);
                    assert_eq!((place.stripe, place.data_index), (stripe, index));
                }
                logical += chunk;
            }
            for (index, &(slot, at)) in row.data.iter().enumerate() {
                let data_index = if copies { 0 } else { index as u16 };
                assert_eq!(geometry.data_index(stripe, slot), Some(data_index));
                let sector = geometry.stripe_start(stripe) + u64::from(data_index) * chunk + 1;
                assert_eq!(geometry.logical(slot, at * chunk + 1), Some(sector));
                let copy = copies.then_some((slot, at * chunk));
                assert_eq!(geometry.copy(stripe, index as u16), copy, "{}", about());
            }
            assert_eq!(geometry.copy(stripe, geometry.copies()), None);
            for (slot, at) in row.p.into_iter().chain(row.q) {
                assert_eq!(geometry.data_index(stripe, slot), None);
                assert_eq!(geometry.logical(slot, at * chunk), None);
                assert_eq!(geometry.q_exponent(stripe, slot), None);
            }
            // Exponents.
            let exponents: Vec<u8> = row
                .data
                .iter()
                .filter_map(|&(slot, _)| geometry.q_exponent(stripe, slot))
                .collect();
            assert_eq!(exponents, row.exponents, "{}", about());
            assert_eq!(
                exponents.iter().collect::<HashSet<_>>().len(),
                row.exponents.len()
            );
            assert!(exponents.iter().all(|&e| u16::from(e) < geometry.q_width()));
        }
        assert_eq!(logical, size);
    });
}

/// Every sector of every member is in one row or in none, and all rows' sectors are found.
#[test]
fn members_are_covered_exactly_once() {
    each_shape(7, |shape, member_chunks| {
        let expected = rows(shape, member_chunks);
        let size = data_sectors(shape, &expected);
        if size == 0 {
            return;
        }
        let geometry = Geometry::new(shape, size).unwrap();
        let used: HashSet<(u16, u64)> = expected
            .iter()
            .flat_map(|row| row.data.iter().copied().chain(row.p).chain(row.q))
            .collect();
        let total: usize = expected
            .iter()
            .map(|row| row.data.len() + usize::from(row.p.is_some()) + usize::from(row.q.is_some()))
            .sum();
        assert_eq!(used.len(), total, "a place twice in {shape:?}");
        let mut seen: HashMap<u64, u32> = HashMap::new();
        for slot in 0..geometry.members() + 1 {
            for at in 0..shape.member_sectors + 2 * u64::from(CHUNK) {
                let row = geometry.row_at(slot, at);
                let is_used = used.contains(&(slot, at / u64::from(CHUNK)));
                assert_eq!(row.is_some(), is_used, "{slot} {at} {shape:?}");
                assert!(!is_used || at < geometry.used_member_sectors(), "{shape:?}");
                if let Some(sector) = geometry.logical(slot, at) {
                    *seen.entry(sector).or_default() += 1;
                }
            }
        }
        let times = match geometry.kind() {
            Kind::Copies => u32::from(geometry.copies()),
            _ => 1,
        };
        assert_eq!(seen.len() as u64, size, "{shape:?}");
        assert!(seen.values().all(|&count| count == times), "{shape:?}");
        let end = used.iter().map(|&(_, at)| at + 1).max().unwrap();
        assert_eq!(
            geometry.used_member_sectors(),
            end * u64::from(CHUNK),
            "{shape:?}"
        );
    });
}

/// Volumes that do not fill their members: rows, marks and inverses end where the volume does.
#[test]
fn small_sizes_end_early() {
    each_shape(6, |shape, member_chunks| {
        let expected = rows(shape, member_chunks);
        let capacity = data_sectors(shape, &expected);
        let chunk = u64::from(CHUNK);
        for size in (1..=capacity).step_by(3) {
            let geometry = Geometry::new(shape, size).unwrap();
            let rows = geometry.rows();
            let last = geometry.locate(size - 1);
            assert_eq!(rows, last.stripe + 1, "{shape:?} {size}");
            assert_eq!(
                geometry.logical(last.slot, last.member_sector),
                Some(size - 1)
            );
            // What the rows take of the members.
            let used = expected[..rows as usize]
                .iter()
                .flat_map(|row| row.data.iter().copied().chain(row.p).chain(row.q))
                .map(|(_, at)| (at + 1) * chunk)
                .max()
                .unwrap();
            // Far's copies of the first row already take most of the member.
            assert_eq!(geometry.used_member_sectors(), used, "{shape:?} {size}");
            for slot in 0..geometry.members() {
                for at in 0..shape.member_sectors {
                    let row = geometry.row_at(slot, at);
                    assert!(row.is_none_or(|(row, _)| row < rows));
                    let sector = geometry.logical(slot, at);
                    assert!(sector.is_none_or(|sector| sector < size));
                }
            }
            // Marks: never ahead of what is done, up to the end, back to where they came from.
            let end = geometry.sync_sectors();
            let by_volume = shape.syncs_by_volume();
            assert_eq!(end, if by_volume { size } else { used });
            assert_eq!(geometry.row_mark(0), 0);
            assert_eq!(geometry.row_mark(rows), end);
            assert_eq!(geometry.row_mark(u64::MAX), end);
            let mut before = 0;
            for row in 0..=rows {
                let mark = geometry.row_mark(row);
                assert!(mark >= before && mark <= end);
                before = mark;
                let again = geometry.row_from_mark(mark);
                assert!(again <= row && row - again < u64::from(shape.spans));
                assert_eq!(geometry.row_mark(again), mark);
                // All that the mark says is done is in rows below.
                for undone in row..rows {
                    let places = &expected[undone as usize];
                    let start = if by_volume {
                        geometry.stripe_start(undone)
                    } else {
                        places.data[0].1 * chunk
                    };
                    assert!(start >= mark, "{shape:?} {size}: row {undone} at {start}");
                }
            }
            for mark in 0..=end + 3 {
                let row = geometry.row_from_mark(mark);
                assert!(row <= rows && geometry.row_mark(row) <= mark);
                assert_eq!(
                    row == rows,
                    mark >= end || rows == 0,
                    "{shape:?} {size} {mark}"
                );
            }
        }
    });
}

/// Health against what it means: chunk by chunk of two periods, which copies are left.
#[test]
fn health_is_what_is_left_of_the_worst_row() {
    for level in CHUNKED {
        for members in members_min(level)..=6 {
            for layout in layouts(level, members) {
                for spans in 1..=spans_max(level).min(2) {
                    if members * spans > 10 {
                        continue;
                    }
                    let member_chunks = 2 * u64::from(members) * 6;
                    let shape = Shape {
                        level,
                        layout,
                        members,
                        spans,
                        chunk_sectors: CHUNK,
                        member_sectors: member_chunks * u64::from(CHUNK),
                    };
                    let rows = rows(&shape, member_chunks);
                    let total = members * spans;
                    for in_sync in 0..1u64 << total {
                        let here = |&(slot, _): &(u16, u64)| (in_sync >> slot) & 1 == 1;
                        // How many more members the worst row can lose; below 0 when data is gone.
                        let left = rows
                            .iter()
                            .map(|row| {
                                let all = row.data.iter().chain(&row.p).chain(&row.q);
                                let here = all.clone().filter(|place| here(place)).count() as i32;
                                match shape.level {
                                    Level::Raid10 | Level::Raid1e => here - 1,
                                    _ => here - row.data.len() as i32,
                                }
                            })
                            .min()
                            .unwrap();
                        let expected = match left {
                            _ if in_sync == (1 << total) - 1 => Health::Optimal,
                            ..0 => Health::Failed,
                            0 => Health::Degraded,
                            1.. => Health::PartiallyOptimal,
                        };
                        // Members that there are not change nothing.
                        for extra in [0, u64::MAX << total] {
                            let health = for_level(level)
                                .unwrap()
                                .health(&shape, Mask(in_sync | extra));
                            assert_eq!(health, expected, "{in_sync:b} of {shape:?}");
                        }
                    }
                }
            }
        }
    }
}

/// As many members as there can be, and far into a large volume.
#[test]
fn widest_shapes() {
    for level in CHUNKED {
        for members in [63, 64] {
            for layout in layouts(level, members) {
                let member_chunks = 2 * u64::from(members) + 3;
                let shape = Shape {
                    level,
                    layout,
                    members,
                    spans: 1,
                    chunk_sectors: 8,
                    member_sectors: member_chunks * 8,
                };
                let expected = rows(&shape, member_chunks);
                let capacity = for_level(level).unwrap().capacity_sectors(&shape);
                let geometry = Geometry::new(&shape, capacity).unwrap();
                for (stripe, row) in expected.iter().enumerate() {
                    let stripe = stripe as u64;
                    let roles = geometry.roles(stripe);
                    assert_eq!(roles.p, row.p.map(|(slot, _)| slot));
                    assert_eq!(roles.q, row.q.map(|(slot, _)| slot));
                    for (index, &(slot, at)) in row.data.iter().enumerate() {
                        assert!(roles.data.contains(slot));
                        assert_eq!(geometry.member_sector(stripe, slot), Some(at * 8));
                        assert_eq!(geometry.row_at(slot, at * 8 + 7), Some((stripe, 7)));
                        assert_eq!(
                            geometry.q_exponent(stripe, slot),
                            row.exponents.get(index).copied()
                        );
                    }
                }
            }
        }
    }
    for (members, spans) in [(32, 2), (4, 16), (5, 12), (21, 3)] {
        for layout in layouts(Level::Raid6, members) {
            let shape = Shape {
                level: Level::Raid6,
                layout,
                members,
                spans,
                chunk_sectors: 8,
                member_sectors: 8 * 150,
            };
            let expected = rows(&shape, 150);
            let capacity = for_level(Level::Raid6).unwrap().capacity_sectors(&shape);
            let geometry = Geometry::new(&shape, capacity).unwrap();
            for (stripe, row) in expected.iter().enumerate() {
                for (index, &(slot, at)) in row.data.iter().enumerate() {
                    let sector = geometry.stripe_start(stripe as u64) + index as u64 * 8;
                    let place = geometry.locate(sector);
                    assert_eq!((place.slot, place.member_sector), (slot, at * 8));
                    assert!(usize::from(slot) < MEMBERS_MAX);
                }
            }
        }
    }
}

/// What the new levels refuse.
#[test]
fn shapes_without_meaning_are_refused() {
    let good = |level, layout, members, spans| Shape {
        level,
        layout,
        members,
        spans,
        chunk_sectors: 8,
        member_sectors: 1 << 20,
    };
    let ls = Layout::Parity(Rotation::LeftSymmetric);
    let refused = |shape: Shape, word: &str| {
        let reason = Geometry::new(&shape, 8).unwrap_err();
        assert!(reason.text().contains(word), "{reason}: {shape:?}");
    };
    assert!(Geometry::new(&good(Level::Raid6, ls, 4, 16), 8).is_ok());
    refused(good(Level::Raid6, ls, 4, 17), "spans");
    refused(good(Level::Raid6, ls, 4, 16385), "spans");
    refused(good(Level::Raid6, ls, 3, 1), "members");
    refused(good(Level::Raid6, Layout::Plain, 4, 1), "layout");
    refused(good(Level::Raid6, Layout::Near(2), 4, 1), "layout");
    refused(good(Level::Raid10, ls, 4, 1), "layout");
    refused(good(Level::Raid10, Layout::Near(1), 4, 1), "copies");
    refused(good(Level::Raid10, Layout::Near(0), 4, 1), "copies");
    refused(good(Level::Raid10, Layout::Far(5), 4, 1), "copies");
    refused(good(Level::Raid10, Layout::Near(2), 1, 1), "members");
    refused(good(Level::Raid10, Layout::Near(2), 4, 2), "spans");
    refused(good(Level::Raid1e, Layout::Near(2), 2, 1), "members");
    refused(good(Level::Raid1e, Layout::Near(3), 4, 1), "layout");
    refused(good(Level::Raid1e, Layout::Far(2), 4, 1), "layout");
    let mut small = good(Level::Raid10, Layout::Far(4), 4, 1);
    small.member_sectors = 8 * 3;
    refused(small, "small");
    for rotation in Rotation::ALL {
        let five = Geometry::new(&good(Level::Raid5, Layout::Parity(rotation), 4, 1), 8);
        let fives = layouts(Level::Raid5, 4).contains(&Layout::Parity(rotation));
        assert_eq!(five.is_ok(), fives);
        assert!(Geometry::new(&good(Level::Raid6, Layout::Parity(rotation), 4, 1), 8).is_ok());
    }
}
