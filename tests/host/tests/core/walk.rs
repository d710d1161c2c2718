// SPDX-License-Identifier: GPL-2.0

//! The way of tasks: every place of every shape once, and marks that never run ahead.

use emd_core::model::{Layout, Level, Rotation, Shape};
use emd_core::personalities::walk::Walk;
use emd_core::personalities::{Geometry, Kind, Mask};
use std::collections::BTreeSet;

const LANE: u32 = 16;

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    let mut add = |level, layout, members, spans, chunk_sectors, member_sectors| {
        shapes.push(Shape {
            level,
            layout,
            members,
            spans,
            chunk_sectors,
            member_sectors,
        });
    };
    for chunk in [8, 16, 64] {
        add(
            Level::Raid5,
            Layout::Parity(Rotation::LeftSymmetric),
            3,
            1,
            chunk,
            640,
        );
        add(
            Level::Raid5,
            Layout::Parity(Rotation::LeftAsymmetric),
            4,
            2,
            chunk,
            640,
        );
        add(
            Level::Raid6,
            Layout::Parity(Rotation::DdfNContinue),
            5,
            1,
            chunk,
            640,
        );
        add(
            Level::Raid6,
            Layout::Parity(Rotation::LeftSymmetric),
            4,
            2,
            chunk,
            640,
        );
        for members in [3, 4, 5] {
            add(Level::Raid10, Layout::Near(2), members, 1, chunk, 640);
            add(Level::Raid10, Layout::Far(2), members, 1, chunk, 640);
            add(Level::Raid10, Layout::Offset(2), members, 1, chunk, 640);
            add(Level::Raid1e, Layout::Offset(2), members, 1, chunk, 640);
        }
    }
    add(Level::Raid1, Layout::Plain, 2, 1, 0, 333);
    shapes
}

fn geometry(shape: &Shape) -> Geometry {
    let size = emd_core::personalities::for_level(shape.level)
        .expect("level")
        .capacity_sectors(shape);
    Geometry::new(shape, size).expect("shape")
}

/// Sectors of members that a lane covers, by slot.
fn covered(geometry: &Geometry, walk: &Walk, lane: u64) -> Vec<(u16, u64)> {
    let Some(range) = walk.lane(lane) else {
        return Vec::new();
    };
    let mirrored = geometry.kind() == Kind::Mirrored;
    let slots = if mirrored {
        Mask::all(geometry.members())
    } else {
        geometry.roles(range.stripe).all()
    };
    let mut sectors = Vec::new();
    for slot in slots.iter() {
        let start = if mirrored {
            range.stripe * u64::from(LANE)
        } else {
            geometry
                .member_sector(range.stripe, slot)
                .expect("part of the row")
        };
        for n in 0..u64::from(range.sectors) {
            sectors.push((slot, start + u64::from(range.column) + n));
        }
    }
    sectors
}

#[test]
fn a_sync_goes_over_everything_once() {
    for shape in shapes() {
        let geometry = geometry(&shape);
        let walk = Walk::new(&geometry, Mask::EMPTY, LANE);
        let mut seen = BTreeSet::new();
        for lane in 0..walk.lanes() {
            for place in covered(&geometry, &walk, lane) {
                assert!(seen.insert(place), "{shape:?}: {place:?} twice");
            }
        }
        for sector in 0..geometry.size_sectors() {
            let place = geometry.locate(sector);
            assert!(
                seen.contains(&(place.slot, place.member_sector)),
                "{shape:?}: sector {sector} left out"
            );
        }
        assert_eq!(
            walk.mark(walk.lanes()),
            geometry.sync_sectors(),
            "{shape:?}"
        );
    }
}

#[test]
fn a_rebuild_fills_all_of_its_targets_and_its_marks_are_true() {
    for shape in shapes() {
        let geometry = geometry(&shape);
        let total = geometry.members();
        for targets in [
            Mask::single(0),
            Mask::single(total - 1),
            Mask::single(0).with(total - 1),
        ] {
            let walk = Walk::new(&geometry, targets, LANE);
            let mut filled = BTreeSet::new();
            let mut before = 0;
            for lane in 0..walk.lanes() {
                // All that is below the mark has been filled.
                let mark = walk.mark(lane);
                assert!(mark >= before, "{shape:?} lane {lane}");
                for sector in before..mark {
                    for slot in targets.iter() {
                        let holds = match geometry.kind() {
                            Kind::Mirrored => true,
                            _ => geometry.row_at(slot, sector).is_some(),
                        };
                        assert!(
                            !holds || filled.contains(&(slot, sector)),
                            "{shape:?}: {sector} of slot {slot} is below the mark of lane {lane} and not filled"
                        );
                    }
                }
                before = mark;
                let range = walk.lane(lane);
                for (slot, sector) in covered(&geometry, &walk, lane) {
                    if range.is_some_and(|range| range.targets.contains(slot)) {
                        assert!(
                            filled.insert((slot, sector)),
                            "{shape:?}: {slot} {sector} twice"
                        );
                    }
                }
            }
            assert_eq!(walk.mark(walk.lanes()), geometry.used_member_sectors());
            for sector in 0..geometry.used_member_sectors() {
                for slot in targets.iter() {
                    let holds = match geometry.kind() {
                        Kind::Mirrored => true,
                        _ => geometry.row_at(slot, sector).is_some(),
                    };
                    assert!(
                        !holds || filled.contains(&(slot, sector)),
                        "{shape:?}: {slot} {sector}"
                    );
                }
            }
        }
    }
}

/// A lane is found again from any of its columns, where lanes of the walk are lanes of the array.
#[test]
fn a_lane_is_found_by_its_columns() {
    for shape in shapes() {
        let geometry = geometry(&shape);
        for targets in [Mask::EMPTY, Mask::single(1), Mask::all(2)] {
            let walk = Walk::new(&geometry, targets, LANE);
            let apart = geometry.kind() == Kind::Copies && !targets.is_empty();
            for (index, lane) in
                (0..walk.lanes()).filter_map(|index| Some((index, walk.lane(index)?)))
            {
                for column in lane.column..lane.column + lane.sectors {
                    let found = walk.lane_at(lane.stripe, column);
                    assert_eq!(found, (!apart).then_some(index), "{shape:?} {column}");
                }
            }
        }
    }
}

#[test]
fn going_on_from_a_mark_never_skips() {
    for shape in shapes() {
        let geometry = geometry(&shape);
        for targets in [Mask::EMPTY, Mask::single(1), Mask::all(2)] {
            let walk = Walk::new(&geometry, targets, LANE);
            for mark in 0..=walk.length() {
                let first = walk.first(mark);
                assert!(walk.mark(first) <= mark, "{shape:?} {mark}");
                // Of lanes that share a mark none is known to be done …
                let before = first.checked_sub(1).map(|lane| walk.mark(lane));
                assert!(before < Some(walk.mark(first)), "{shape:?} {mark}");
                // … and those before it are done again only if their mark was not reached.
                let next = (first..=walk.lanes()).find(|&lane| walk.mark(lane) > walk.mark(first));
                assert!(
                    next.is_none_or(|lane| walk.mark(lane) > mark),
                    "{shape:?} {mark}"
                );
            }
        }
    }
}
