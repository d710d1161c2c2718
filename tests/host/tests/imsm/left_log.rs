// SPDX-License-Identifier: GPL-2.0

//! The partial parity log of a volume: where it is, and how it is taken off. mdadm's samples have none: they get one here.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{context, open, sample};
use crate::readings::change;
use emd_core::metadata::imsm::layout::{header, map, volume};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Consistency, CrashPolicy, Event, HoleLog, Level, VolumeSpec};
use host_tests::ppl::{Area, Entry};
use host_tests::samples::Disk;
use kernel::prelude::*;

/// RAID 5 of three disks with a log of `policy`.
fn with_log(policy: u8, dirty: u8) -> Vec<Disk> {
    let mut disks = sample("gen/raid5-3");
    change(&mut disks, 0, &|record| {
        record[volume::HOLE_POLICY] = policy;
        record[volume::DIRTY] = dirty;
    });
    disks
}

fn record(set: &ImsmSet) -> (u8, u8) {
    let raw = set.mpb.raw();
    let at = raw.volume_at(0);
    (raw.u8(at + volume::HOLE_POLICY), raw.u8(at + volume::DIRTY))
}

#[test]
fn where_it_is_and_what_it_says() {
    for (policy, sectors) in [(1u8, 264u32), (3, 2048)] {
        let mut disks = with_log(policy, 3);
        let set = open(&disks).unwrap();
        assert_eq!(set.set().volume(0).unwrap().crash_policy, CrashPolicy::Log);
        let signature = set.mpb.raw().u32(header::ORIG_FAMILY);
        assert_ne!(signature, 0);
        let members: Vec<(u16, u64)> = set
            .set()
            .volume(0)
            .unwrap()
            .members
            .iter()
            .map(|member| (member.disk.unwrap(), member.offset_sectors))
            .collect();
        let member_sectors = set.set().volume(0).unwrap().shape.member_sectors;
        for (slot, (disk, offset)) in (0u16..).zip(members) {
            // Behind the data: `ppl_sector` of a member that mdadm made is 118784 where it has 59 MiB less 1 MiB.
            let place = (offset + member_sectors, sectors);
            assert_eq!(set.left_log_place(0, slot), Some(place));
            let key = set.set().disk(disk).unwrap().facts.unwrap().key as usize;
            let mut area = Area::new(signature, sectors as usize);
            let entry = Entry {
                first: 8,
                data_bytes: 4096,
                parity: slot.into(),
                sum: vec![7; 4096],
            };
            area.write(5, &[entry], usize::MAX);
            disks[key].write(place.0, &area.bytes);
            let mut writes = KVVec::new();
            let bytes = disks[key].read(place.0, sectors as usize);
            assert!(set.read_left_log(0, slot, &bytes, &mut writes).unwrap());
            assert_eq!((writes[0].first_sector, writes[0].slot), (8, slot));
            // Of another set it is none.
            let mut other = Area::new(signature ^ 1, sectors as usize);
            other.write(5, &[], usize::MAX);
            assert!(!set
                .read_left_log(0, slot, &other.bytes, &mut writes)
                .unwrap());
        }
    }
}

#[test]
fn it_is_taken_off() {
    for policy in [1, 3] {
        for (dirty, is_settled) in [(0, false), (1, false), (3, false), (3, true), (2, true)] {
            let what = format!("{policy} {dirty} {is_settled}");
            let disks = with_log(policy, dirty);
            let set = open(&disks).unwrap();
            let mut world = World::new(set, disks, 20);
            if dirty != 0 {
                let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Resync));
                assert!(why.contains("put right first"), "{why}");
            }
            world.apply(&Event::LeftLogOff {
                volume: 0,
                is_settled,
            });
            let set = open(&world.disks).unwrap();
            let model = set.set().volume(0).unwrap();
            assert!(matches!(model.access, Access::ReadWrite), "{what}");
            let is_dirty = dirty & 1 != 0 && !is_settled;
            let wanted = match is_dirty {
                true => Consistency::Dirty,
                false => Consistency::Clean,
            };
            assert_eq!(model.consistency, wanted, "{what}");
            // As mdadm has it for `--consistency-policy=resync`.
            assert_eq!(record(&set), (5, u8::from(is_dirty)), "{what}");
            assert_eq!(
                set.set().volume(0).unwrap().crash_policy,
                CrashPolicy::Resync
            );
            assert_eq!(set.left_log(0), None);
            world.apply(&Event::Dirty(0));
            let refused = world.refuse(&Event::LeftLogOff {
                volume: 0,
                is_settled,
            });
            assert!(refused.contains("no partial parity log"), "{refused}");
        }
    }
}

#[test]
fn it_is_put_on_and_kept_up() {
    let disks = with_log(5, 0);
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 20);
    let why = world.refuse(&Event::HoleLogStarted(0));
    assert!(why.contains("no log"), "{why}");
    world.refuse(&Event::CrashPolicySet(0, CrashPolicy::None));
    // Old logs may be there, and would count.
    world.apply(&Event::Dirty(0));
    assert_eq!(record(&world.set), (5, 1));
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(why.contains("in flight"), "{why}");
    world.apply(&Event::Clean(0));
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert_eq!(record(&open(&world.disks).unwrap()), (3, 0));
    let Some(HoleLog::Row(row)) = world.set.hole_log(0) else {
        panic!("no row");
    };
    let signature = world.set.mpb.raw().u32(header::ORIG_FAMILY);
    assert_eq!(
        (row.sectors, row.signature, row.unit_sectors),
        (2048, signature, 1)
    );
    assert_eq!(world.set.hole_log_sector(0, 1), Some(118784));
    assert_eq!(world.set.left_log(0).map(|log| log.is_due), Some(false));
    world.apply(&Event::HoleLogStarted(0));
    // Dirty, and the log counts.
    world.apply(&Event::Dirty(0));
    let again = open(&world.disks).unwrap();
    assert_eq!(record(&again), (3, 3));
    assert_eq!(again.left_log(0).map(|log| log.is_due), Some(true));
    world.apply(&Event::Clean(0));
    assert_eq!(record(&open(&world.disks).unwrap()), (3, 0));
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Resync));
    assert_eq!(record(&open(&world.disks).unwrap()), (5, 0));
    assert!(world.set.hole_log(0).is_none());
}

/// Another volume is where the log is, or would be: neither is used, or it is not put on.
#[test]
fn it_is_not_where_another_volume_is() {
    let mut world = World::created(3, 128, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    for name in ["one", "two"] {
        world.apply(&Event::VolumeCreated(VolumeSpec {
            size_sectors: 2 * (16 << 11),
            ..spec(name, Level::Raid5, &all)
        }));
    }
    let first = world.set.set().volume(0).unwrap();
    let end = (first.members[0].offset_sectors + first.shape.member_sectors) as u32;
    for (start, meets) in [(end + 2047, true), (end + 2048, false)] {
        let mut disks = world.disks.clone();
        change(&mut disks, 1, &|record| {
            record[volume::BYTES + map::START_LO..][..4].copy_from_slice(&start.to_le_bytes());
        });
        let mut set = open(&disks).unwrap();
        assert!(matches!(set.set().volumes[0].access, Access::ReadWrite));
        let put_on = set.apply(&Event::CrashPolicySet(0, CrashPolicy::Log), &context(1));
        assert_eq!(put_on.is_err(), meets, "{put_on:?}");
        change(&mut disks, 0, &|record| {
            record[volume::HOLE_POLICY] = volume::POLICY_LOGS;
        });
        let set = open(&disks).unwrap();
        for model in set.set().volumes.iter() {
            let is_used = matches!(model.access, Access::ReadWrite);
            assert_eq!(is_used, !meets, "{:?}", model.access);
        }
    }
}
