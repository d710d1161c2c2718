// SPDX-License-Identifier: GPL-2.0

//! Properties of the geometry for any shape, and what each level refuses.

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
        5 => Just(Level::Raid5),
    ];
    let members = prop_oneof![4 => 2u16..=8, 1 => 9u16..=64];
    let length = prop_oneof![
        1u64..=200,
        1u64..=1 << 20,
        (1u64 << 30)..=1 << 40,
        Just(SECTORS_MAX / 64)
    ];
    (level, 0usize..6, members, 0u32..=11, length, any::<u64>()).prop_map(
        |(level, rotation, members, shift, length, size)| {
            let chunk_sectors = if level == Level::Concat && shift % 2 == 0 {
                0
            } else {
                1u32 << shift
            };
            let shape = Shape {
                level,
                layout: match level {
                    Level::Raid4 => Layout::Parity(ROTATIONS[4 + rotation % 2]),
                    Level::Raid5 => Layout::Parity(ROTATIONS[rotation]),
                    _ => Layout::Plain,
                },
                members,
                spans: 1,
                chunk_sectors,
                member_sectors: length.max(u64::from(chunk_sectors)),
            };
            let capacity = for_level(level).unwrap().capacity_sectors(&shape);
            // Mostly full volumes.
            let size = if size % 4 == 0 {
                1 + size % capacity
            } else {
                capacity
            };
            (shape, size)
        },
    )
}

/// Slots of P and of the data chunks in order, written out from the layouts' definition the slow
/// way: P walks, data is dealt out one by one.
fn slow_row(rotation: Rotation, members: u16, stripe: u64) -> (u16, Vec<u16>) {
    let mut p = match rotation {
        Rotation::LeftAsymmetric | Rotation::LeftSymmetric | Rotation::ParityLast => members - 1,
        _ => 0,
    };
    for _ in 0..stripe % u64::from(members) {
        match rotation {
            Rotation::LeftAsymmetric | Rotation::LeftSymmetric => {
                p = if p == 0 { members - 1 } else { p - 1 };
            }
            Rotation::RightAsymmetric | Rotation::RightSymmetric => {
                p = if p == members - 1 { 0 } else { p + 1 };
            }
            _ => {}
        }
    }
    let continues = matches!(rotation, Rotation::LeftSymmetric | Rotation::RightSymmetric);
    let mut slot = if continues { (p + 1) % members } else { 0 };
    let mut data = Vec::new();
    while data.len() < usize::from(members) - 1 {
        if slot != p {
            data.push(slot);
        }
        slot = (slot + 1) % members;
    }
    (p, data)
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
            prop_assert!(place.slot < shape.members);
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
                prop_assert!(place.stripe < geometry.stripes());
            }
        }
    }

    /// The other way round: what a member's sector says of itself is found there again.
    #[test]
    fn logical_and_locate_are_inverse((shape, size) in volumes(), slot in any::<u16>(), at in any::<u64>()) {
        let geometry = Geometry::new(&shape, size).unwrap();
        let (slot, at) = (slot % shape.members, at % shape.member_sectors);
        let chunk = u64::from(geometry.chunk_sectors());
        match geometry.logical(slot, at) {
            Some(sector) => {
                prop_assert!(sector < size);
                let place = geometry.locate(sector);
                prop_assert_eq!(place.member_sector, at);
                prop_assert!(place.slot == slot || geometry.kind() == Kind::Mirrored);
                prop_assert!(at < geometry.used_member_sectors());
            }
            None if chunk != 0 => {
                let stripe = at / chunk;
                prop_assert!(
                    stripe >= geometry.stripes()
                        || geometry.data_index(stripe, slot).is_none()
                        || (stripe * u64::from(geometry.data_members())
                            + u64::from(geometry.data_index(stripe, slot).unwrap())) * chunk
                            + at % chunk >= size
                );
            }
            None => {}
        }
        prop_assert_eq!(geometry.logical(shape.members, at), None);
        prop_assert_eq!(geometry.logical(slot, shape.member_sectors), None);
    }

    /// Every member has just one role in a stripe, and it is the slow table's.
    #[test]
    fn roles_follow_the_slow_table((shape, size) in volumes(), stripe in any::<u64>()) {
        let geometry = Geometry::new(&shape, size).unwrap();
        if geometry.chunk_sectors() == 0 {
            return Ok(());
        }
        let stripe = stripe % geometry.stripes();
        let roles = geometry.roles(stripe);
        prop_assert_eq!(roles.all(), Mask::all(shape.members));
        prop_assert_eq!(roles.data.len() as u16, geometry.data_members());
        prop_assert_eq!(roles.q, None);
        prop_assert!(!roles.p.is_some_and(|p| roles.data.contains(p)));
        if let Layout::Parity(rotation) = shape.layout {
            let (p, data) = slow_row(rotation, shape.members, stripe);
            prop_assert_eq!(roles.p, Some(p));
            prop_assert_eq!(geometry.data_index(stripe, p), None);
            for (index, &slot) in data.iter().enumerate() {
                prop_assert_eq!(geometry.data_slot(stripe, index as u16), slot);
                prop_assert_eq!(geometry.data_index(stripe, slot), Some(index as u16));
            }
        } else {
            prop_assert_eq!(roles.p, None);
        }
        // `locate` agrees, chunk by chunk.
        let chunk = u64::from(geometry.chunk_sectors());
        for index in 0..geometry.data_members() {
            let sector = (stripe * u64::from(geometry.data_members()) + u64::from(index)) * chunk;
            let place = geometry.locate(sector);
            prop_assert_eq!(place.stripe, stripe);
            prop_assert_eq!(place.data_index, index);
            prop_assert_eq!(place.slot, geometry.data_slot(stripe, index));
            prop_assert_eq!(place.member_sector, stripe * chunk);
        }
    }

    /// No shape and no sector makes it panic, and what is refused is refused by `check` or size.
    #[test]
    fn hostile_shapes_are_refused_or_run(
        level in 0usize..8, layout in 0usize..12, members in any::<u16>(), small in any::<bool>(),
        spans in 0u16..3, chunk in any::<u32>(), shift in 0u32..64,
        length in any::<u64>(), size in any::<u64>(), sector in any::<u64>(), slot in any::<u16>(),
    ) {
        let layout = match layout {
            0..=8 => Layout::Parity(Rotation::ALL[layout]),
            9 => Layout::Plain,
            10 => Layout::Near(members as u8),
            _ => Layout::Far(spans as u8),
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
    }
}

/// Small volumes whole: every logical sector once, every parity sector none.
#[test]
fn small_volumes_are_covered_exactly_once() {
    for rotation in ROTATIONS {
        for members in 2..=7u16 {
            for chunk_sectors in [1u32, 2, 8] {
                for stripes in 1..=2 * u64::from(members) + 1 {
                    let shape = Shape {
                        level: Level::Raid5,
                        layout: Layout::Parity(rotation),
                        members,
                        spans: 1,
                        chunk_sectors,
                        // A partial chunk at the end is never used.
                        member_sectors: stripes * u64::from(chunk_sectors)
                            + u64::from(chunk_sectors) / 2,
                    };
                    let size = stripes * u64::from(chunk_sectors) * u64::from(members - 1);
                    let geometry = Geometry::new(&shape, size).unwrap();
                    assert_eq!(geometry.stripes(), stripes);
                    assert_eq!(geometry.stripe_data_sectors() * stripes, size);
                    let mut seen = vec![false; size as usize];
                    let mut parity = 0;
                    for slot in 0..members {
                        for at in 0..shape.member_sectors {
                            match geometry.logical(slot, at) {
                                Some(sector) => {
                                    assert!(!seen[sector as usize]);
                                    seen[sector as usize] = true;
                                }
                                None if at < stripes * u64::from(chunk_sectors) => parity += 1,
                                None => {}
                            }
                        }
                    }
                    assert!(seen.iter().all(|&seen| seen));
                    assert_eq!(parity, stripes * u64::from(chunk_sectors));
                }
            }
        }
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
