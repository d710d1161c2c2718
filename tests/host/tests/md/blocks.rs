// SPDX-License-Identifier: GPL-2.0

//! The array's own logical block, which newer kernels record in 1.x.

use crate::md_common::{apply, blanks, change, create, facts, open, open_keyed, ALL};
use emd_core::metadata::md::layout::v1;
use emd_core::metadata::md::{Version, MD_12};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, DiskOffer, Event, Level, SpareRole};
use host_tests::shell::spec;

/// New arrays have that of their disks, and so has who joins.
#[test]
fn new_arrays_record_it() {
    for format in ALL {
        for block in [512, 4096] {
            let mut disks = blanks(3, 40, block);
            let mut set = create(format, &disks[..2], "");
            let slots = [0, 1].map(Some);
            let offer = DiskOffer {
                facts: facts(&disks[2], 2),
                role: SpareRole::Global,
            };
            for event in [
                Event::VolumeCreated(spec("", Level::Raid1, &slots)),
                Event::DiskAdded(offer),
            ] {
                apply(&mut set, &mut disks, &event, 1).unwrap();
            }
            let expected = match format.0 {
                Version::V090 => 0,
                _ => block,
            };
            assert_eq!(set.set().volumes[0].block_bytes, expected);
            for keys in [vec![0, 1], vec![2]] {
                let keyed: Vec<_> = keys.iter().map(|&k| (k as u64, &disks[k])).collect();
                let again = open_keyed(format, &keyed).unwrap();
                let volume = &again.set().volumes[0];
                assert_eq!(volume.block_bytes, expected);
                assert!(matches!(volume.access, Access::ReadWrite));
            }
        }
    }
}

/// It counts whatever the members have; none is none; and what no array can have is refused.
#[test]
fn it_is_the_arrays_own() {
    let mut disks = blanks(2, 40, 512);
    let mut set = create(&MD_12, &disks, "");
    let slots = [0, 1].map(Some);
    let made = Event::VolumeCreated(spec("", Level::Raid1, &slots));
    apply(&mut set, &mut disks, &made, 1).unwrap();
    for (bytes, is_taken) in [
        (0u32, true),
        (1024, true),
        (4096, true),
        (8192, false),
        (1000, false),
        (1, false),
        (u32::MAX, false),
    ] {
        for disk in &mut disks {
            change(&MD_12, disk, v1::BLOCK, &bytes.to_le_bytes());
        }
        let mut set = open(&MD_12, &disks).unwrap();
        let volume = &set.set().volumes[0];
        assert_eq!(volume.block_bytes, bytes);
        match &volume.access {
            Access::ReadWrite => assert!(is_taken, "{bytes}"),
            Access::Refused(why) => assert!(!is_taken && why.text().contains("block"), "{bytes}"),
            other => panic!("{bytes}: {other:?}"),
        }
        if is_taken {
            apply(&mut set, &mut disks, &Event::Dirty(0), 2).unwrap();
            let again = open(&MD_12, &disks).unwrap();
            assert_eq!(again.set().volumes[0].block_bytes, bytes);
        }
    }
}
