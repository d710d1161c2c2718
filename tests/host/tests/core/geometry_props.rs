// SPDX-License-Identifier: GPL-2.0

//! Properties of the geometry for any shape, and what each level refuses. What small volumes of
//! each level look like, whole: `geometry_levels.rs`.

use emd_core::model::{Layout, Level, Rotation, Shape, MEMBERS_MAX};
use emd_core::personalities::{for_level, Geometry, Health, Kind, Mask, SECTORS_MAX};
use proptest::prelude::*;

const ROTATIONS: [Rotation; 6] = [
    Rotation::LeftAsymmetric,
    Rotation::LeftSymmetric,
    Rotation::RightAsymmetric,
    Rotation::RightSymmetric,
    Rotation::ParityFirst,
    Rotation::ParityLast,
];

/// Any shape that some level runs, with any size that fits.
fn volumes() -> impl Strategy<Value = (Shape, u64)> {
    let level = prop_oneof![
        1 => Just(Level::Concat),
        2 => Just(Level::Raid0),
        1 => Just(Level::Raid1),
        1 => Just(Level::Raid4),
        4 => Just(Level::Raid5),
        5 => Just(Level::Raid6),
        5 => Just(Level::Raid10),
        2 => Just(Level::Raid1e),
    ];
    let members = prop_oneof![4 => 2u16..=8, 1 => 9u16..=64];
    let spans = prop_oneof![2 => Just(1u16), 1 => 2u16..=16];
    let length = prop_oneof![
        1u64..=200,
        1u64..=1 << 20,
        (1u64 << 30)..=1 << 40,
        Just(SECTORS_MAX / 64)
    ];
    (
        level,
        any::<prop::sample::Index>(),
        members,
        spans,
        0u32..=11,
        length,
        any::<u64>(),
    )
        .prop_map(|(level, layout, members, spans, shift, length, size)| {
            let chunk_sectors = if level == Level::Concat && shift % 2 == 0 {
                0
            } else {
                1u32 << shift
            };
            let members = members.max(crate::geometry_reference::members_min(level));
            let spans = match level {
                Level::Raid0 | Level::Raid4 | Level::Raid5 | Level::Raid6 => {
                    spans.min(MEMBERS_MAX as u16 / members)
                }
                _ => 1,
            };
            let layouts = crate::geometry_reference::layouts(level, members);
            let shape = Shape {
                level,
                layout: *layout.get(&layouts),
                members,
                spans,
                chunk_sectors,
                // Room for all copies of one chunk.
                member_sectors: length.max(u64::from(chunk_sectors) * 64),
            };
            let capacity = for_level(level).unwrap().capacity_sectors(&shape);
            // Mostly full volumes.
            let size = if size % 4 == 0 {
                1 + size % capacity
            } else {
                capacity
            };
            (shape, size)
        })
}

/// Where copy `j` of chunk `c` is, as `linux-md.md` §D has it: slot, chunk of the member.
fn copy_place(shape: &Shape, c: u64, j: u64) -> (u16, u64) {
    let n = u64::from(shape.members);
    let member_chunks = shape.member_sectors / u64::from(shape.chunk_sectors);
    match shape.layout {
        Layout::Near(x) => {
            let index = u128::from(c) * u128::from(x) + u128::from(j);
            (
                (index % u128::from(n)) as u16,
                (index / u128::from(n)) as u64,
            )
        }
        Layout::Far(x) => (
            ((c + j) % n) as u16,
            c / n + j * (member_chunks / u64::from(x)),
        ),
        Layout::Offset(x) => (((c + j) % n) as u16, (c / n) * u64::from(x) + j),
        _ => unreachable!(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// `logical` undoes `locate`; pieces are in one piece, on the member, and where they say.
    #[test]
    fn locate_and_logical_are_inverse((shape, size) in volumes(), picks in prop::collection::vec(any::<u64>(), 20)) {
        let geometry = Geometry::new(&shape, size).unwrap();
        for pick in picks {
            let sector = pick % size;
            let place = geometry.locate(sector);
            prop_assert!(place.slot < geometry.members());
            prop_assert!(place.left_sectors >= 1);
            prop_assert!(place.member_sector + place.left_sectors <= shape.member_sectors);
            prop_assert_eq!(geometry.logical(place.slot, place.member_sector), Some(sector));
            // The last sector of the piece is where the first says it is.
            let last = sector + place.left_sectors - 1;
            if last < size {
                let there = geometry.locate(last);
                prop_assert_eq!(there.slot, place.slot);
                prop_assert_eq!(there.member_sector, place.member_sector + place.left_sectors - 1);
                prop_assert_eq!(there.left_sectors, 1);
            }
            // And the piece could not be longer.
            if last + 1 < size {
                let next = geometry.locate(last + 1);
                prop_assert!(
                    next.slot != place.slot
                        || next.member_sector != place.member_sector + place.left_sectors
                        || geometry.chunk_sectors() != 0
                );
            }
            if geometry.chunk_sectors() != 0 {
                prop_assert_eq!(geometry.data_slot(place.stripe, place.data_index), place.slot);
                prop_assert_eq!(geometry.data_index(place.stripe, place.slot), Some(place.data_index));
                prop_assert!(place.stripe < geometry.rows());
                prop_assert!(geometry.rows() <= geometry.stripes());
                let column = place.member_sector % u64::from(geometry.chunk_sectors());
                prop_assert_eq!(
                    geometry.member_sector(place.stripe, place.slot),
                    Some(place.member_sector - column)
                );
                prop_assert_eq!(
                    geometry.row_at(place.slot, place.member_sector),
                    Some((place.stripe, column as u32))
                );
                let start = geometry.stripe_start(place.stripe);
                let index = u64::from(place.data_index);
                prop_assert_eq!(start + index * u64::from(geometry.chunk_sectors()) + column, sector);
                // A sync that has come to this stripe has not done it.
                let mark = geometry.row_mark(place.stripe);
                let done = match shape.syncs_by_volume() {
                    true => start,
                    false => place.member_sector,
                };
                prop_assert!(mark <= done);
                prop_assert!(geometry.row_from_mark(mark) <= place.stripe);
            }
        }
    }

    /// The other way round: what a member's sector says of itself is found there again.
    #[test]
    fn logical_and_locate_are_inverse((shape, size) in volumes(), slot in any::<u16>(), at in any::<u64>()) {
        let geometry = Geometry::new(&shape, size).unwrap();
        let (slot, at) = (slot % geometry.members(), at % shape.member_sectors);
        let row = geometry.row_at(slot, at);
        match geometry.logical(slot, at) {
            Some(sector) => {
                prop_assert!(sector < size);
                let place = geometry.locate(sector);
                prop_assert!(at < geometry.used_member_sectors());
                match geometry.kind() {
                    Kind::Mirrored => prop_assert_eq!(place.member_sector, at),
                    Kind::Copies => {
                        let column = sector - geometry.stripe_start(place.stripe);
                        let start = geometry.member_sector(place.stripe, slot).unwrap();
                        prop_assert_eq!(start + column, at);
                        prop_assert_eq!(row, Some((place.stripe, column as u32)));
                    }
                    _ => prop_assert_eq!((place.slot, place.member_sector), (slot, at)),
                }
            }
            // Parity, or data beyond the end in the last stripe, or nothing at all.
            None => {
                let is_right = row.is_none_or(|(stripe, _)| {
                    geometry.roles(stripe).parity().contains(slot) || stripe + 1 == geometry.rows()
                });
                prop_assert!(is_right);
            }
        }
        if let Some((stripe, column)) = row {
            prop_assert!(stripe < geometry.rows() && at < geometry.used_member_sectors());
            prop_assert_eq!(
                geometry.member_sector(stripe, slot).unwrap() + u64::from(column),
                at
            );
            prop_assert!(geometry.roles(stripe).all().contains(slot));
        }
        prop_assert_eq!(geometry.logical(geometry.members(), at), None);
        prop_assert_eq!(geometry.logical(slot, shape.member_sectors), None);
        prop_assert_eq!(geometry.row_at(geometry.members(), at), None);
    }

    /// Every member has at most one role in a stripe, however far into the volume, and it is the
    /// reference's.
    #[test]
    fn roles_are_the_references((shape, size) in volumes(), stripe in any::<u64>()) {
        let geometry = Geometry::new(&shape, size).unwrap();
        if geometry.chunk_sectors() == 0 {
            return Ok(());
        }
        let chunk = u64::from(geometry.chunk_sectors());
        let stripe = stripe % geometry.stripes();
        let roles = geometry.roles(stripe);
        if geometry.kind() == Kind::Copies {
            let mut holders = Mask::EMPTY;
            for index in 0..geometry.copies() {
                let (slot, at) = copy_place(&shape, stripe, u64::from(index));
                prop_assert_eq!(geometry.copy(stripe, index), Some((slot, at * chunk)));
                prop_assert_eq!(geometry.member_sector(stripe, slot), Some(at * chunk));
                prop_assert!((at + 1) * chunk <= shape.member_sectors);
                prop_assert!(!holders.contains(slot));
                holders = holders.with(slot);
            }
            prop_assert_eq!((roles.data, roles.p, roles.q), (holders, None, None));
            return Ok(());
        }
        let (inner, span) = (stripe / u64::from(shape.spans), stripe % u64::from(shape.spans));
        let first = span as u16 * shape.members;
        let six = shape.level == Level::Raid6;
        let (p, q, data) = match shape.layout {
            Layout::Parity(rotation) => {
                let (p, q, data) = crate::geometry_reference::stripe(rotation, shape.members, six, inner);
                (Some(p), q, data)
            }
            _ => (None, None, (0..shape.members).collect()),
        };
        prop_assert_eq!(roles.p, p.map(|p| first + p));
        prop_assert_eq!(roles.q, q.map(|q| first + q));
        prop_assert_eq!(roles.all(), Mask(Mask::all(shape.members).0 << first));
        prop_assert_eq!(roles.all().len(), roles.data.len() + roles.parity().len());
        prop_assert_eq!(roles.data.len() as u16, geometry.data_members());
        for (index, &slot) in data.iter().enumerate() {
            let (index, slot) = (index as u16, first + slot);
            prop_assert_eq!(geometry.data_slot(stripe, index), slot);
            prop_assert_eq!(geometry.data_index(stripe, slot), Some(index));
            let place = geometry.locate(geometry.stripe_start(stripe) + u64::from(index) * chunk);
            prop_assert_eq!((place.stripe, place.data_index), (stripe, index));
            prop_assert_eq!((place.slot, place.member_sector), (slot, inner * chunk));
        }
    }

    /// No shape and no sector makes it panic, and what is refused is refused by `check` or size.
    #[test]
    fn hostile_shapes_are_refused_or_run(
        level in 0usize..8, layout in 0usize..18, members in any::<u16>(), small in any::<bool>(),
        spans in prop_oneof![4 => 0u16..3, 1 => any::<u16>()], chunk in any::<u32>(), shift in 0u32..64,
        length in any::<u64>(), size in any::<u64>(), sector in any::<u64>(), slot in any::<u16>(),
    ) {
        let layout = match layout {
            0..=13 => Layout::Parity(Rotation::ALL[layout]),
            14 => Layout::Plain,
            15 => Layout::Near(length as u8),
            16 => Layout::Far(length as u8 % 8),
            _ => Layout::Offset(length as u8 % 8),
        };
        let shape = Shape {
            level: Level::ALL[level],
            layout,
            members: if small { members % 66 } else { members },
            spans,
            chunk_sectors: if shift < 32 { 1 << shift } else { chunk },
            member_sectors: length >> (shift % 64),
        };
        let geometry = match for_level(shape.level) {
            None => {
                prop_assert!(Geometry::new(&shape, size).is_err());
                return Ok(());
            }
            Some(personality) => {
                let capacity = personality.capacity_sectors(&shape);
                let _ = personality.health(&shape, Mask(length));
                let accepted = personality.check(&shape).is_ok();
                let size = if capacity == 0 { size } else { size % capacity };
                let geometry = Geometry::new(&shape, size);
                prop_assert_eq!(geometry.is_ok(), accepted && size > 0);
                match geometry {
                    Ok(geometry) => geometry,
                    Err(reason) => {
                        prop_assert!(!reason.text().is_empty());
                        return Ok(());
                    }
                }
            }
        };
        prop_assert!(geometry.size_sectors() <= SECTORS_MAX);
        prop_assert!(geometry.used_member_sectors() <= shape.member_sectors);
        let place = geometry.locate(sector);
        prop_assert!(place.slot < geometry.members());
        let _ = geometry.roles(sector);
        let _ = geometry.data_slot(sector, slot);
        let _ = geometry.data_index(sector, slot);
        let _ = geometry.logical(slot, sector);
        let _ = geometry.copy(sector, slot);
        let _ = geometry.member_sector(sector, slot);
        let _ = geometry.stripe_start(sector);
        let _ = geometry.row_at(slot, sector);
        let _ = geometry.q_exponent(sector, slot);
        let _ = geometry.row_mark(sector);
        let _ = geometry.row_from_mark(sector);
        prop_assert!(geometry.rows() <= geometry.stripes());
    }
}

#[test]
fn levels_refuse_what_they_cannot_run() {
    let good = Shape {
        level: Level::Raid5,
        layout: Layout::Parity(Rotation::LeftSymmetric),
        members: 3,
        spans: 1,
        chunk_sectors: 128,
        member_sectors: 1 << 20,
    };
    let plain = |level| Shape {
        level,
        layout: Layout::Plain,
        ..good
    };
    let refused = |shape: &Shape, word: &str| {
        let reason = Geometry::new(shape, 1).unwrap_err();
        assert!(reason.text().contains(word), "{reason}: {shape:?}");
    };
    assert!(Geometry::new(&good, 1 << 21).is_ok());
    assert!(Geometry::new(&Shape { spans: 2, ..good }, 1 << 22).is_ok());
    refused(&Shape { spans: 0, ..good }, "spans");
    refused(&Shape { spans: 22, ..good }, "spans");
    refused(
        &Shape {
            spans: 2,
            ..plain(Level::Raid1)
        },
        "spans",
    );
    refused(&Shape { members: 1, ..good }, "members");
    refused(
        &Shape {
            members: 65,
            ..good
        },
        "members",
    );
    refused(
        &Shape {
            members: 0,
            ..plain(Level::Raid0)
        },
        "members",
    );
    refused(
        &Shape {
            members: 0,
            ..plain(Level::Raid1)
        },
        "members",
    );
    refused(
        &Shape {
            chunk_sectors: 0,
            ..good
        },
        "chunk",
    );
    refused(
        &Shape {
            chunk_sectors: 96,
            ..good
        },
        "chunk",
    );
    refused(
        &Shape {
            chunk_sectors: 0,
            ..plain(Level::Raid0)
        },
        "chunk",
    );
    refused(
        &Shape {
            chunk_sectors: 3,
            ..plain(Level::Concat)
        },
        "chunk",
    );
    refused(
        &Shape {
            member_sectors: 127,
            ..good
        },
        "small",
    );
    refused(
        &Shape {
            member_sectors: 0,
            ..plain(Level::Raid1)
        },
        "small",
    );
    refused(
        &Shape {
            member_sectors: u64::MAX,
            ..good
        },
        "larger",
    );
    refused(
        &Shape {
            member_sectors: SECTORS_MAX,
            ..good
        },
        "larger",
    );
    refused(
        &Shape {
            layout: Layout::Plain,
            ..good
        },
        "layout",
    );
    refused(
        &Shape {
            layout: Layout::Near(2),
            ..good
        },
        "layout",
    );
    refused(
        &Shape {
            layout: Layout::Near(2),
            ..plain(Level::Raid1)
        },
        "layout",
    );
    for rotation in Rotation::ALL {
        let layout = Layout::Parity(rotation);
        let own = ROTATIONS.contains(&rotation);
        assert_eq!(Geometry::new(&Shape { layout, ..good }, 1).is_ok(), own);
        let fixed = matches!(rotation, Rotation::ParityFirst | Rotation::ParityLast);
        let raid4 = Shape {
            layout,
            ..plain(Level::Raid4)
        };
        assert_eq!(Geometry::new(&raid4, 1).is_ok(), fixed);
        refused(
            &Shape {
                layout,
                ..plain(Level::Raid0)
            },
            "layout",
        );
    }
    for level in [Level::Raid6, Level::Raid1e, Level::Raid10] {
        let four = Shape {
            members: 4,
            ..plain(level)
        };
        refused(&four, "layout");
    }
    let zero = Geometry::new(&good, 0).unwrap_err();
    assert!(zero.text().contains("does not fit"));
}

#[test]
fn health_counts_what_is_left_to_lose() {
    let shape = |level, layout, members| Shape {
        level,
        layout,
        members,
        spans: 1,
        chunk_sectors: 128,
        member_sectors: 1 << 20,
    };
    let health =
        |shape: &Shape, in_sync: u64| for_level(shape.level).unwrap().health(shape, Mask(in_sync));
    let raid5 = shape(Level::Raid5, Layout::Parity(Rotation::LeftSymmetric), 4);
    assert_eq!(health(&raid5, 0b1111), Health::Optimal);
    assert_eq!(health(&raid5, !0), Health::Optimal);
    assert_eq!(health(&raid5, 0b1011), Health::Degraded);
    assert_eq!(health(&raid5, 0b1111_0011), Health::Failed);
    let raid1 = shape(Level::Raid1, Layout::Plain, 3);
    assert_eq!(health(&raid1, 0b111), Health::Optimal);
    assert_eq!(health(&raid1, 0b101), Health::PartiallyOptimal);
    assert_eq!(health(&raid1, 0b100), Health::Degraded);
    assert_eq!(health(&raid1, 0b1000), Health::Failed);
    let one = shape(Level::Raid1, Layout::Plain, 1);
    assert_eq!(health(&one, 1), Health::Optimal);
    for level in [Level::Raid0, Level::Concat] {
        let plain = shape(level, Layout::Plain, 2);
        assert_eq!(health(&plain, 0b11), Health::Optimal);
        assert_eq!(health(&plain, 0b01), Health::Failed);
    }
}

#[test]
fn masks_behave_at_the_edges() {
    assert_eq!(Mask::all(0), Mask::EMPTY);
    assert_eq!(Mask::all(1), Mask(1));
    assert_eq!(Mask::all(63), Mask(u64::MAX >> 1));
    assert_eq!(Mask::all(64), Mask(u64::MAX));
    assert_eq!(Mask::all(u16::MAX), Mask(u64::MAX));
    assert_eq!(Mask::single(64), Mask::EMPTY);
    assert!(!Mask(u64::MAX).contains(64));
    assert_eq!(Mask::all(64).iter().count(), MEMBERS_MAX);
    assert_eq!(Mask(0b1010).iter().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(Mask(0b1010).first(), Some(1));
    assert_eq!(Mask::EMPTY.first(), None);
    assert_eq!(Mask(0b1010).with(0).without(3), Mask(0b0011));
    assert!(Mask(0b10).is_within(Mask(0b110)) && !Mask(0b110).is_within(Mask(0b10)));
    let union: Mask = Mask(1).union(Mask(4));
    assert_eq!(
        (union.len(), union.minus(Mask(1)), union.intersect(Mask(6))),
        (2, Mask(4), Mask(4))
    );
}
