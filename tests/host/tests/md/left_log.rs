// SPDX-License-Identifier: GPL-2.0

//! The partial parity log of an array that mdadm made: where it is, what it says, and how it is taken off.

use crate::md_common::{apply, change, open, open_keyed, thin, version_of, Of, World, ALL};
use emd_core::metadata::md::layout::{feature, v1};
use emd_core::metadata::md::{MdSet, Version};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Consistency, CrashPolicy, DiskState, Event, HoleLog, Level, LogRow, LoggedWrite,
    MemberState, SpareRole, VolumeSpec,
};
use emd_core::personalities::hole_log::left;
use emd_core::personalities::{Geometry, Mask};
use host_tests::ppl;
use host_tests::samples::{load, Disk};
use host_tests::shell::spec;
use kernel::prelude::*;

const CASE: &str = "md/gen/12-raid5-ppl";

/// What the logs of all members say.
fn logged(set: &MdSet, disks: &[Disk]) -> Vec<LoggedWrite> {
    let volume = set.set().volume(0).unwrap();
    let mut writes = KVVec::new();
    for (slot, member) in (0u16..).zip(volume.members.iter()) {
        let disk = set.set().disk(member.disk.unwrap()).unwrap();
        let (sector, sectors) = set.left_log_place(0, slot).unwrap();
        let bytes = disks[disk.facts.unwrap().key as usize].read(sector, sectors as usize);
        let is_whole = set.read_left_log(0, slot, &bytes, &mut writes).unwrap();
        assert!(is_whole, "the log of member {slot}");
    }
    writes.iter().copied().collect()
}

/// The log that is kept up.
fn row_of(set: &dyn MetadataSet) -> LogRow {
    match set.hole_log(0) {
        Some(HoleLog::Row(row)) => row,
        other => panic!("{other:?}"),
    }
}

fn features(disk: &Disk) -> u32 {
    let bytes = disk.read(8, 1);
    u32::from_le_bytes(bytes[v1::FEATURES..][..4].try_into().unwrap())
}

/// Power went while it was being written: `mdadm -E` says "PPL : 2048 sectors at offset 8 sectors from superblock".
#[test]
fn what_md_left() {
    let disks = load(CASE);
    let set = open(version_of(&disks), &disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite));
    let row = row_of(&*set);
    assert_eq!((row.sectors, row.signature), (2048, 0x4B58_0AF9));
    assert_eq!(set.set().volume(0).unwrap().crash_policy, CrashPolicy::Log);
    assert_eq!(set.left_log(0).map(|log| log.is_due), Some(true));
    for slot in 0..3 {
        assert_eq!(set.left_log_place(0, slot), Some((16, 2048)));
    }
    let writes = logged(&set, &disks);
    assert!(!writes.is_empty(), "writes were in flight");
    // Some are of the place that was being written, and each is on the member with its parity.
    assert!(writes.iter().any(|write| write.first_sector < 96));
    let geometry = Geometry::new(&volume.shape, volume.size_sectors).unwrap();
    for write in &writes {
        let mut stretches = KVVec::new();
        assert!(
            left::stretches(&geometry, write, &mut stretches).unwrap(),
            "{write:?}"
        );
        let roles = geometry.roles(stretches[0].stripe);
        assert_eq!(roles.parity(), Mask::single(write.slot), "{write:?}");
    }
}

fn world(disks: &[Disk]) -> World {
    let mut disks = disks.to_vec();
    let format = version_of(&disks);
    for disk in &mut disks {
        thin(format, disk);
    }
    let set = open(format, &disks).unwrap();
    World::of(Of(format), set, disks, 20)
}

#[test]
fn it_is_taken_off() {
    let mut world = world(&load(CASE));
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::None));
    assert!(why.contains("no place"), "{why}");
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Resync));
    assert!(why.contains("in flight"), "{why}");
    let before = world.disks.clone();
    assert!(before
        .iter()
        .all(|disk| features(disk) & feature::LOGS == feature::PPLS));
    world.apply(&Event::LeftLogOff {
        volume: 0,
        is_settled: false,
    });
    assert!(world.cuts > 3);
    let set = open(version_of(&world.disks), &world.disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite));
    assert_eq!(volume.consistency, Consistency::Dirty, "it is resynced");
    assert_eq!(
        set.set().volume(0).unwrap().crash_policy,
        CrashPolicy::Resync
    );
    assert_eq!((set.left_log(0), set.left_log_place(0, 0)), (None, None));
    for (disk, was) in world.disks.iter().zip(&before) {
        assert_eq!(features(disk), features(was) & !feature::LOGS);
    }
    world.apply(&Event::Dirty(0));
    world.apply(&Event::Clean(0));
    let why = world.refuse(&Event::LeftLogOff {
        volume: 0,
        is_settled: false,
    });
    assert!(why.contains("no partial parity log"), "{why}");
}

/// Where a member is missing, what the log told of is settled; the member is old from then on.
#[test]
fn a_degraded_array_is_clean_then() {
    let disks = load(CASE);
    let format = version_of(&disks);
    for lost in 0..3usize {
        let mut own = disks.clone();
        let keyed: Vec<(u64, &Disk)> = (0u64..)
            .zip(disks.iter())
            .filter(|(key, _)| *key != lost as u64)
            .collect();
        let mut set = open_keyed(format, &keyed).unwrap();
        let missing = (0..3u16)
            .find(|&disk| set.set().disk(disk).unwrap().state == DiskState::Missing)
            .unwrap();
        apply(&mut set, &mut own, &Event::DiskMissing(missing), 1).unwrap();

        let event = Event::LeftLogOff {
            volume: 0,
            is_settled: true,
        };
        apply(&mut set, &mut own, &event, 2).unwrap();
        let again = open(format, &own).unwrap();
        let volume = again.set().volume(0).unwrap();
        assert!(matches!(volume.access, Access::ReadWrite));
        assert_eq!(volume.consistency, Consistency::Clean);
        assert_eq!(volume.crash_policy, CrashPolicy::Resync);
        let in_sync = |state: MemberState| state == MemberState::InSync;
        let count = volume
            .members
            .iter()
            .filter(|member| in_sync(member.state))
            .count();
        assert_eq!(count, 2, "the one that was away is old");
    }
}

/// A log that is not where md has one.
#[test]
fn places_that_cannot_be() {
    let disks = load(CASE);
    let format = version_of(&disks);
    assert_eq!(format.0, Version::V12);
    // Offset and length: over the superblock; over data; less than a header and a sum; before the disk.
    for (offset, sectors) in [(0i16, 2048u16), (8, 4200), (8, 8), (-16, 8), (3000, 2048)] {
        let mut disks = disks.clone();
        change(format, &mut disks[0], v1::PPL_OFFSET, &offset.to_le_bytes());
        change(
            format,
            &mut disks[0],
            v1::PPL_SECTORS,
            &sectors.to_le_bytes(),
        );
        let set = open(format, &disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let disk = set.set().disk(member.disk.unwrap()).unwrap();
            let wanted = (disk.facts.unwrap().key != 0).then_some((16, 2048));
            assert_eq!(set.left_log_place(0, slot), wanted, "{offset} {sectors}");
        }
    }
}

/// The empty log that EMD leaves on a disk before anybody hears of it.
fn assert_empty(set: &MdSet, disks: &[Disk], slot: u16) {
    let (sector, _) = set.left_log_place(0, slot).unwrap();
    let disk = set.set().volume(0).unwrap().members[usize::from(slot)].disk;
    let key = set.set().disk(disk.unwrap()).unwrap().facts.unwrap().key;
    let start = disks[key as usize].read(sector, 16);
    let empty = ppl::log(row_of(set).signature, 0, &[]);
    assert_eq!(start[..4096], empty);
    assert!(start[4096..].iter().all(|&byte| byte == 0), "slot {slot}");
}

/// Puts something into a log's place, as it may be there from before.
fn soil(disks: &mut [Disk], sector: u64) {
    for disk in disks {
        disk.write(sector, &[0xA5; 8192]);
    }
}

#[test]
fn it_is_put_on_and_kept_up() {
    let mut disks = load("md/gen/12-raid5-ls");
    // Between the superblock and the bad-block log are 8 sectors, which are too few; behind that log are 2016 more.
    soil(&mut disks, 32);
    let mut world = world(&disks);
    let why = world.refuse(&Event::HoleLogStarted(0));
    assert!(why.contains("no log"), "{why}");
    world.refuse(&Event::CrashPolicySet(0, CrashPolicy::None));
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Resync));
    assert!(world.set.plan().is_empty(), "it has that");
    world.apply(&Event::Dirty(0));
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(why.contains("in flight"), "{why}");
    world.apply(&Event::Clean(0));
    assert!(world.set.hole_log(0).is_none());
    let before = world.cuts;
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(world.cuts > before + 3);
    let set = open(version_of(&world.disks), &world.disks).unwrap();
    let row = row_of(&*set);
    assert_eq!((row.sectors, row.unit_sectors), (2016, 1));
    assert_eq!(row.signature, ppl::crc(&set.head.uuid));
    assert_eq!(set.left_log(0).map(|log| log.is_due), Some(false));
    for slot in 0..3 {
        assert_eq!(set.hole_log_sector(0, slot), Some(32));
        assert_empty(&set, &world.disks, slot);
    }
    for disk in &world.disks {
        assert_eq!(features(disk) & feature::LOGS, feature::PPLS);
    }
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(world.set.plan().is_empty(), "it has that");
    world.apply(&Event::HoleLogStarted(0));
    world.apply(&Event::Dirty(0));
    let set = open(version_of(&world.disks), &world.disks).unwrap();
    assert_eq!(set.left_log(0).map(|log| log.is_due), Some(true));
    // A member is lost, and another one joins: its log is there before it is called a member.
    world.apply(&Event::DiskFailed(1));
    let spare = world.add(41, SpareRole::Global);
    let key = world.set.set().disk(spare).unwrap().facts.unwrap().key;
    assert_eq!(
        features(&world.disks[key as usize]) & feature::LOGS,
        feature::PPLS
    );
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    });
    assert_empty(&world.set, &world.disks, 1);
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    world.apply(&Event::Clean(0));
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Resync));
    let set = open(version_of(&world.disks), &world.disks).unwrap();
    assert!(set.hole_log(0).is_none());
    assert_eq!(set.left_log(0), None);
    assert_eq!(
        set.set().volume(0).unwrap().crash_policy,
        CrashPolicy::Resync
    );
}

/// An update that puts it on reaches some disks only: whoever has it makes it so everywhere.
#[test]
fn one_that_is_half_on_is_all_on() {
    let disks = load("md/gen/12-raid5-ls");
    let format = version_of(&disks);
    for first in 0..3 {
        let mut world = world(&disks);
        let before = world.disks.clone();
        world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
        // The logs are there by then.
        let mut disks = before;
        for (key, disk) in disks.iter_mut().enumerate() {
            if key == first {
                *disk = world.disks[key].clone();
            } else {
                disk.write(32, &world.disks[key].read(32, 16));
            }
        }
        let set = open(format, &disks).unwrap();
        assert_eq!(row_of(&*set).sectors, 2016);
        assert_eq!(set.hole_log_sector(0, 0), Some(32));
        let mut world = World::of(Of(format), set, disks, 20);
        world.apply(&Event::Dirty(0));
        for disk in &world.disks {
            assert_eq!(features(disk) & feature::LOGS, feature::PPLS, "{first}");
            let place = disk.read(8, 1)[v1::PPL_OFFSET..][..4].to_vec();
            assert_eq!(place, [24, 0, 0xE0, 7], "{first}");
        }
    }
}

#[test]
fn arrays_are_made_with_one() {
    let all: Vec<Option<u16>> = (0..3).map(Some).collect();
    for format in ALL {
        for block in [512, 4096] {
            let with = |level| VolumeSpec {
                log: true,
                ..spec("", level, &all)
            };
            let mut world = World::made(Of(format), 4, 80, block, 20);
            let why = world.refuse(&Event::VolumeCreated(with(Level::Raid4)));
            assert!(why.contains("RAID 5"), "{why}");
            let made = Event::VolumeCreated(with(Level::Raid5));
            if format.0 == Version::V090 {
                let why = world.refuse(&made);
                assert!(why.contains("1.x"), "{why}");
                continue;
            }
            soil(&mut world.disks, 16);
            world.apply(&made);
            let set = open(format, &world.disks).unwrap();
            assert_eq!(row_of(&*set).sectors, 2048, "{format:?}", format = format.0);
            let volume = set.set().volume(0).unwrap();
            assert_eq!(volume.crash_policy, CrashPolicy::Log);
            for (slot, member) in (0u16..).zip(volume.members.iter()) {
                assert_empty(&set, &world.disks, slot);
                let (first, sectors) = set.left_log_place(0, slot).unwrap();
                let (start, end) = (first, first + u64::from(sectors));
                let data_end = member.offset_sectors + volume.shape.member_sectors;
                assert!(end <= member.offset_sectors || start >= data_end);
                assert!(end <= world.disks[0].size_sectors);
            }
            world.apply(&Event::Dirty(0));
            world.apply(&Event::DiskFailed(0));
            world.apply(&Event::SpareActivated {
                volume: 0,
                slot: 0,
                disk: 3,
            });
            assert_empty(&world.set, &world.disks, 0);
        }
    }
}

#[test]
fn where_there_is_no_room_or_a_bitmap() {
    let all: Vec<Option<u16>> = (0..3).map(Some).collect();
    let format = ALL[0];
    // Members over 100 GiB have a bitmap.
    let mut world = World::made(Of(format), 3, 110 << 10, 512, 0);
    let made = VolumeSpec {
        assume_clean: true,
        ..spec("", Level::Raid5, &all)
    };
    world.apply(&Event::VolumeCreated(made));
    assert!(world.set.bitmap.is_some());
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(why.contains("bitmap"), "{why}");
    // Asked for with a log, it has none.
    let mut world = World::made(Of(format), 3, 110 << 10, 512, 0);
    world.apply(&Event::VolumeCreated(VolumeSpec { log: true, ..made }));
    assert!(world.set.bitmap.is_none());
    assert!(world.set.hole_log(0).is_some());
    // 1.0: data goes up to what it keeps for itself.
    let disks = load("md/gen/11-raid5");
    let mut world = self::world(&disks);
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(world.set.hole_log(0).is_some());
    let mut world = World::made(Of(ALL[2]), 3, 80, 512, 0);
    world.apply(&Event::VolumeCreated(made));
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(why.contains("no room"), "{why}");
    for level in [Level::Raid4, Level::Raid1] {
        let mut world = World::made(Of(format), 3, 80, 512, 0);
        world.apply(&Event::VolumeCreated(spec("", level, &all)));
        let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
        assert!(why.contains("RAID 5"), "{why}");
    }
}

/// Logs that EMD cannot keep up: the array is only read, until its log is taken off.
#[test]
fn logs_that_are_only_read() {
    let disks = load(CASE);
    let format = version_of(&disks);
    for (which, sectors, word) in [
        (0..1, 1024u16, "different lengths"),
        (0..3, 151, "too small"),
        (1..2, 4200, "no usable place"),
    ] {
        let mut disks = disks.clone();
        for disk in &mut disks[which] {
            change(format, disk, v1::PPL_SECTORS, &sectors.to_le_bytes());
        }
        let set = open(format, &disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        let Access::ReadOnly(why) = &volume.access else {
            panic!("{word}");
        };
        assert!(why.text().contains(word), "{}", why.text());
        assert_eq!(volume.crash_policy, CrashPolicy::Log);
        assert!(set.hole_log(0).is_none());
        assert!(set.left_log(0).is_some());
        let mut world = self::world(&disks);
        let why = world.refuse(&Event::Dirty(0));
        assert!(why.contains(word), "{why}");
        world.apply(&Event::LeftLogOff {
            volume: 0,
            is_settled: false,
        });
        world.apply(&Event::Dirty(0));
    }
}

/// What old kernels had is a row of one header: with the first update it is what today's have.
#[test]
fn a_single_log_becomes_several() {
    let mut disks = load(CASE);
    let format = version_of(&disks);
    for disk in &mut disks {
        let features = features(disk) & !feature::LOGS | feature::PPL;
        change(format, disk, v1::FEATURES, &features.to_le_bytes());
    }
    let mut world = world(&disks);
    assert_eq!(row_of(&*world.set).sectors, 2048);
    world.apply(&Event::DiskFailed(0));
    for disk in world.disks.iter().skip(1) {
        assert_eq!(features(disk) & feature::LOGS, feature::PPLS);
    }
}
