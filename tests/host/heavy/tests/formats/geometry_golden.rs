// SPDX-License-Identifier: GPL-2.0

//! Geometry against disks that mdadm and md wrote (`samples/`): each volume has in sectors 0–4095
//! and in its last 512 the little-endian u64 (sector number + 1), 64 times a sector. Every such
//! sector, and every copy of it, has to be where the geometry says; every P has to be the exclusive
//! or of its stripe's data, and every Q the sum that its exponents say, byte by byte.
//!
//! Member order, offsets, chunk and size come from what mdadm was told and said (`golden_common`);
//! `golden_assembled.rs` takes them from the metadata.

use crate::golden_common::{golden, pattern, places, products, Case, CASES};
use emd_core::model::{Layout, Level, Rotation};
use emd_core::personalities::Geometry;
use host_tests::samples::{load, Disk};

fn geometry(case: &Case) -> Geometry {
    Geometry::new(&case.shape(), case.size_sectors).unwrap()
}

fn members(case: &Case) -> Vec<Disk> {
    let disks = load(case.path);
    case.disks.iter().map(|&d| disks[d].clone()).collect()
}

fn the(path: &str) -> &'static Case {
    CASES.iter().find(|case| case.path == path).unwrap()
}

/// The first golden sector that is not everywhere where `geometry` says.
fn misplaced(case: &Case, geometry: &Geometry, members: &[Disk]) -> Option<u64> {
    golden(case.size_sectors).find(|&sector| {
        places(geometry, sector).iter().any(|&(slot, at)| {
            members[usize::from(slot)].read(case.offset_sectors + at, 1) != pattern(sector)
        })
    })
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
        let mut shape = case.shape();
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
            let mut shape = case.shape();
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
            let mut shape = case.shape();
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
