// SPDX-License-Identifier: GPL-2.0

//! Volumes of sample sets, put together from nothing but the metadata: the data that was written through
//! mdadm, or graid, is where the assembled set and EMD's geometry say, on every copy, and parity agrees.
//! Sectors 0–4095 and the last 512 of a volume hold the little-endian u64 (sector number + 1).

mod imsm_common;

use emd_core::metadata::MetadataSet;
use emd_core::model::{MemberState, Slot};
use emd_core::personalities::{Geometry, Kind};
use imsm_common::{open, sample};

fn pattern(sector: u64) -> Vec<u8> {
    (sector + 1).to_le_bytes().repeat(64)
}

/// Checks one case; gives the numbers of sectors and of parity chunks that were compared.
fn compare(case: &str) -> (usize, usize) {
    let disks = sample(case);
    let set = open(&disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    let geometry = Geometry::new(&volume.shape, volume.size_sectors).unwrap();
    // A member that is being rebuilt has what it should up to its mark.
    let read = |slot: Slot, sector: u64, count: u64| -> Option<Vec<u8>> {
        let member = volume.members[usize::from(slot)];
        let right = match member.state {
            MemberState::InSync => u64::MAX,
            MemberState::Rebuilding { done_sectors } => done_sectors,
            _ => 0,
        };
        let key = set.set().disk(member.disk?)?.facts?.key;
        (sector + count <= right)
            .then(|| disks[key as usize].read(member.offset_sectors + sector, count as usize))
    };
    let (mut sectors, mut parities, mut last) = (0, 0, None);
    for sector in (0..4096).chain(volume.size_sectors - 512..volume.size_sectors) {
        let place = geometry.locate(sector);
        let mut places = vec![(place.slot, place.member_sector)];
        match geometry.kind() {
            Kind::Mirrored => {
                places = (0..geometry.members())
                    .map(|slot| (slot, place.member_sector))
                    .collect();
            }
            Kind::Copies => {
                let column = sector - geometry.stripe_start(place.stripe);
                places = (0..geometry.copies())
                    .map(|index| geometry.copy(place.stripe, index).unwrap())
                    .map(|(slot, start)| (slot, start + column))
                    .collect();
            }
            _ => {}
        }
        for (slot, at) in places {
            if let Some(bytes) = read(slot, at, 1) {
                assert_eq!(
                    bytes,
                    pattern(sector),
                    "{case}: sector {sector} in slot {slot}"
                );
                sectors += 1;
            }
        }
        if volume.shape.level.parity_members() == 0 || last == Some(place.stripe) {
            continue;
        }
        last = Some(place.stripe);
        let chunk = u64::from(geometry.chunk_sectors());
        let lane: Option<Vec<Vec<u8>>> = (0..geometry.members())
            .map(|slot| {
                read(
                    slot,
                    geometry.member_sector(place.stripe, slot).unwrap(),
                    chunk,
                )
            })
            .collect();
        if let Some(lane) = lane {
            let mut sum = vec![0u8; chunk as usize * 512];
            for bytes in &lane {
                for (byte, other) in sum.iter_mut().zip(bytes) {
                    *byte ^= other;
                }
            }
            assert!(
                sum.iter().all(|&byte| byte == 0),
                "{case}: stripe {}",
                place.stripe
            );
            parities += 1;
        }
    }
    (sectors, parities)
}

#[test]
fn data_is_where_the_metadata_says() {
    let once = 4096 + 512;
    for (case, copies, parity) in [
        ("gen/raid0", 1, false),
        ("gen/4k-raid0", 1, false),
        ("gen/raid1", 2, false),
        ("gen/4k-raid1", 2, false),
        ("gen/bbm", 2, false),
        ("gen/raid1-bitmap", 2, false),
        ("gen/raid10", 2, false),
        ("gen/raid5-3", 1, true),
        ("gen/raid5-4", 1, true),
    ] {
        let (sectors, parities) = compare(case);
        assert_eq!(sectors, once * copies, "{case}");
        assert_eq!(parities > 5, parity, "{case}: {parities}");
    }
}

#[test]
fn what_is_left_of_degraded_sets_is_right() {
    for (case, least, parity) in [
        ("gen/raid1-missing", 4608, 0),
        // The mark is beyond the first stretch, not beyond the last.
        ("gen/raid1-rebuild", 2 * 4096 + 512, 0),
        ("gen/raid5-rebuild", 4096 + 256, 10),
        ("gen-freebsd/intel-raid1-2d-rebuild", 2 * 4096 + 512, 0),
        ("gen-freebsd/intel-raid1-2d", 2 * 4608, 0),
    ] {
        let (sectors, parities) = compare(case);
        assert!(
            sectors >= least && parities >= parity,
            "{case}: {sectors} {parities}"
        );
    }
}
