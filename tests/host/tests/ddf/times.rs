// SPDX-License-Identifier: GPL-2.0

//! When it was, in DDF's own count of seconds: each update says so in the headers it closes, and in the records it changes.

use crate::ddf_common::damage::spec;
use crate::ddf_common::{apply, blanks, create, open};
use emd_core::metadata::bytes::Endian;
use emd_core::metadata::ddf::config::slot_bytes;
use emd_core::metadata::ddf::layout::{get32, Section};
use emd_core::metadata::ddf::set::DdfSet;
use emd_core::model::{DiskIndex, Event, Level, SpareRole};
use host_tests::samples::{load, Disk};

/// Seconds from 1970 to 1980, where DDF begins to count.
const FROM_1970_TO_1980: u64 = 315_532_800;
const VOLUME_RECORD: u32 = 0xEEEE_EEEE;

/// The time of the tests' event `n`, as DDF says it.
fn time(n: u64) -> u32 {
    u32::try_from(host_tests::shell::context(n).now_seconds - FROM_1970_TO_1980).unwrap()
}

/// Asserts that the headers of all copies on a disk are closed, of the set's state, and of event `n`.
fn headers_are_of(set: &DdfSet, disks: &[Disk], disk: DiskIndex, n: u64) {
    let home = set.home(disk).unwrap();
    for copy in home.copies.into_iter().flatten() {
        let header = disks[usize::from(disk)].read(copy * home.layout.block_sectors(), 1);
        let said = [0x28, 0x2C].map(|at| get32(home.layout.endian, &header, at));
        assert_eq!(said, [set.sequence, time(n)], "disk {disk}, event {n}");
        assert_eq!(header[0x30], 0, "disk {disk}, event {n}: open");
    }
}

/// The time and the counter of each volume's record on a disk, which are the same in all copies.
fn records(set: &DdfSet, disks: &[Disk], disk: DiskIndex) -> Vec<[u32; 2]> {
    let home = set.home(disk).unwrap();
    let layout = home.layout;
    let place = layout.place(Section::Config);
    let sectors = layout.block_sectors();
    let of_copy = |copy: u64| {
        let first = (copy + u64::from(place.offset)) * sectors;
        let section =
            disks[usize::from(disk)].read(first, place.blocks as usize * sectors as usize);
        home.slots()
            .map(|slot| slot_bytes(&section, &layout, slot))
            .filter(|record| get32(layout.endian, record, 0) == VOLUME_RECORD)
            .map(|record| [0x20, 0x24].map(|at| get32(layout.endian, record, at)))
            .collect::<Vec<_>>()
    };
    let copies: Vec<_> = home.copies.into_iter().flatten().map(of_copy).collect();
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    copies[0].clone()
}

#[test]
fn each_update_says_when_it_was() {
    let mut disks = blanks(4, 80, 512);
    let mut set = create(&mut disks, "set");
    for disk in 0..4 {
        headers_are_of(&set, &disks, disk, 0);
    }
    let all = [Some(0), Some(1), Some(2)];
    let five = spec("five", Level::Raid5, 65536, &all);
    apply(&mut set, &mut disks, &Event::VolumeCreated(five), 1).unwrap();
    assert_eq!(records(&set, &disks, 0), [[time(1), 1]]);
    assert_eq!(records(&set, &disks, 3), [[0; 2]; 0]);
    // What changes no record leaves its time; the headers have the new one.
    let spare = Event::SpareAssigned(3, SpareRole::Global);
    apply(&mut set, &mut disks, &spare, 2).unwrap();
    apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
    apply(&mut set, &mut disks, &Event::DiskFailed(1), 4).unwrap();
    for disk in [0, 2, 3] {
        headers_are_of(&set, &disks, disk, 4);
    }
    let before = records(&set, &disks, 0);
    assert_eq!(before, records(&set, &disks, 2));
    let activated = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: 3,
    };
    apply(&mut set, &mut disks, &activated, 5).unwrap();
    for disk in [0, 2, 3] {
        headers_are_of(&set, &disks, disk, 5);
        assert_eq!(records(&set, &disks, disk), [[time(5), before[0][1] + 1]]);
    }
    apply(&mut set, &mut disks, &Event::Clean(0), 6).unwrap();
    headers_are_of(&set, &disks, 0, 6);
    assert_eq!(records(&set, &disks, 0), [[time(5), before[0][1] + 1]]);
}

#[test]
fn in_little_endian_too() {
    let mut disks = load("ddf/gen-freebsd/ddfle-raid1-2d");
    let mut set = open(&disks).unwrap();
    assert_eq!(set.layout.endian, Endian::Little);
    let before = records(&set, &disks, 0);
    apply(&mut set, &mut disks, &Event::Dirty(0), 7).unwrap();
    for disk in 0..2 {
        headers_are_of(&set, &disks, disk, 7);
        assert_eq!(records(&set, &disks, disk), before);
    }
}
