// SPDX-License-Identifier: GPL-2.0

//! The log of partial parity of EMD's own sets: it is put on, kept up, changed and taken off, and power goes anywhere in
//! between.

use crate::ddf_common::records::{bump, clean, drop_section, reopened};
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{open, writes};
use emd_core::metadata::ddf::hole::{RINGS, RING_UNITS};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Consistency, CrashPolicy, Event, HoleLog, Level, SpareRole};
use host_tests::samples::load;
use host_tests::share;

const UNIT_SECTORS: u64 = 8;

/// The session of the log of a volume that has one.
fn session(set: &DdfSet, volume: u16) -> Option<[u64; 2]> {
    match set.hole_log(volume) {
        Some(HoleLog::Ring { units, session }) => {
            assert_eq!(units, RING_UNITS);
            session
        }
        other => panic!("{other:?}"),
    }
}

/// A clean volume whose updates are cut.
fn cut(level: Level, count: u16, block: u32) -> World {
    let mut world = clean(level, count, block);
    world.crashes = share(6);
    world
}

/// Applies an event that changes what the records say: one block on each of `disks`, cut everywhere.
fn records(world: &mut World, event: &Event<'_>, disks: usize) {
    let before = world.cuts;
    world.apply(event);
    assert!(world.cuts > before + disks, "{event:?} is cut");
    let plan = writes(&world.set);
    assert_eq!(plan.len(), disks, "{event:?}: {plan:?}");
    for write in &plan {
        let block = world.disks[write.key as usize].logical_block_bytes as usize;
        assert_eq!((write.phase, write.bytes.len()), (0, block), "{event:?}");
    }
}

/// The rings of all logs: behind the data, on whole units, and no two of them on the same sectors.
fn assert_places(world: &World) {
    let set = reopened(&world.disks);
    let mut places: Vec<(u64, u64, u64)> = Vec::new();
    for (index, volume) in set.set().live_volumes() {
        let mut here = world.set.set().live_volumes();
        let known = here.find(|(_, other)| other.id == volume.id).unwrap().0;
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let own = world.set.hole_log_sector(known, slot);
            assert_eq!(set.hole_log_sector(index, slot), own);
            let Some(first) = own else { continue };
            assert_eq!(first % UNIT_SECTORS, 0);
            let disk = set.set().disk(member.disk.unwrap()).unwrap();
            let end = first + u64::from(RING_UNITS) * UNIT_SECTORS;
            assert!(first >= disk.usable_sectors && end <= disk.facts.unwrap().size_sectors);
            let others = places
                .iter()
                .filter(|(key, ..)| *key == disk.facts.unwrap().key);
            for &(_, from, to) in others {
                assert!(end <= from || to <= first, "{first} lies in {from}..{to}");
            }
            places.push((disk.facts.unwrap().key, first, end));
        }
    }
}

#[test]
fn it_is_put_on_and_kept_up() {
    let kinds = [(Level::Raid5, 3, 512), (Level::Raid6, 4, 4096)];
    for &(level, count, block) in &kinds[..share(2)] {
        let members = usize::from(count);
        let mut world = cut(level, count, block);
        let why = world.refuse(&Event::HoleLogStarted(0));
        assert!(why.contains("no log"), "{why}");
        world.apply(&Event::CrashPolicySet(0, CrashPolicy::Resync));
        assert!(world.set.plan().is_empty(), "it has that");
        assert!(world.set.hole_log(0).is_none());
        records(
            &mut world,
            &Event::CrashPolicySet(0, CrashPolicy::Log),
            members,
        );
        let set = reopened(&world.disks);
        assert_eq!(set.set().volume(0).unwrap().crash_policy, CrashPolicy::Log);
        assert_eq!(session(&set, 0), None, "nothing in it counts yet");
        assert_places(&world);
        world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
        assert!(world.set.plan().is_empty(), "it has that");

        records(&mut world, &Event::HoleLogStarted(0), members);
        let first = session(&reopened(&world.disks), 0);
        assert!(first.is_some());
        records(&mut world, &Event::HoleLogStarted(0), members);
        let second = session(&reopened(&world.disks), 0);
        assert!(
            second.is_some() && second != first,
            "what was in it is void"
        );
        world.apply(&Event::Dirty(0));
        assert_eq!(session(&reopened(&world.disks), 0), second);

        // A member is lost, and another one joins: it has a place for the ring, and knows the session.
        world.apply(&Event::DiskFailed(1));
        assert_eq!(session(&reopened(&world.disks), 0), second);
        let spare = world.add(128, SpareRole::Global);
        let event = Event::SpareActivated {
            volume: 0,
            slot: 1,
            disk: spare,
        };
        world.apply(&event);
        assert!(world.set.hole_log_sector(0, 1).is_some());
        assert_places(&world);
        records(&mut world, &Event::HoleLogStarted(0), members);
        let third = session(&reopened(&world.disks), 0);
        assert!(third.is_some() && third != second);
        let key = world.set.set().disk(spare).unwrap().facts.unwrap().key;
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        world.apply(&Event::Clean(0));
        assert_eq!(session(&reopened(&world.disks), 0), third);
        let alone = [(key, &world.disks[key as usize])];
        let alone = crate::ddf_common::open_keyed(&alone).unwrap();
        assert_eq!(session(&alone, 0), third, "the new disk says so by itself");

        // Changed, and taken off.
        for policy in [CrashPolicy::None, CrashPolicy::Log, CrashPolicy::Resync] {
            records(&mut world, &Event::CrashPolicySet(0, policy), members);
            let set = reopened(&world.disks);
            let volume = set.set().volume(0).unwrap();
            assert_eq!(volume.crash_policy, policy);
            assert!(matches!(volume.access, Access::ReadWrite));
            assert_eq!(volume.consistency, Consistency::Clean);
            match policy {
                CrashPolicy::Log => assert_eq!(session(&set, 0), None, "a new log is empty"),
                _ => assert!(set.hole_log(0).is_none()),
            }
        }
        let why = world.refuse(&Event::HoleLogStarted(0));
        assert!(why.contains("no log"), "{why}");
        let why = world.refuse(&Event::LeftLogOff {
            volume: 0,
            is_settled: true,
        });
        assert!(why.contains("no log of another driver"), "{why}");
    }
}

/// As many volumes as there are rings have one; who gives his up, or is deleted, makes room.
#[test]
fn every_log_has_rings_of_its_own() {
    let mut world = World::created(3, 160, 512, 0);
    let all: Vec<Option<u16>> = (0..3).map(Some).collect();
    let names: Vec<String> = (0..=RINGS).map(|n| format!("v{n}")).collect();
    for name in &names {
        let spec = emd_core::model::VolumeSpec {
            size_sectors: 16 << 10,
            assume_clean: true,
            ..spec(name, Level::Raid5, &all)
        };
        world.apply(&Event::VolumeCreated(spec));
    }
    world.crashes = share(3);
    for volume in 0..RINGS {
        world.apply(&Event::CrashPolicySet(volume, CrashPolicy::Log));
        world.apply(&Event::HoleLogStarted(volume));
    }
    assert_places(&world);
    let sessions: Vec<_> = (0..RINGS).map(|n| session(&world.set, n)).collect();
    let why = world.refuse(&Event::CrashPolicySet(RINGS, CrashPolicy::Log));
    assert!(why.contains("no place for more"), "{why}");
    let given_up = world.set.hole_log_sector(1, 0);
    world.apply(&Event::CrashPolicySet(1, CrashPolicy::Resync));
    world.apply(&Event::CrashPolicySet(RINGS, CrashPolicy::Log));
    assert_eq!(world.set.hole_log_sector(RINGS, 0), given_up);
    assert_eq!(
        session(&world.set, RINGS),
        None,
        "the other's entries do not count"
    );
    let why = world.refuse(&Event::CrashPolicySet(1, CrashPolicy::Log));
    assert!(why.contains("no place for more"), "{why}");
    let deleted = world.set.hole_log_sector(2, 0);
    world.apply(&Event::VolumeDeleted(2));
    world.apply(&Event::CrashPolicySet(1, CrashPolicy::Log));
    assert_eq!(world.set.hole_log_sector(1, 0), deleted);
    assert_places(&world);
    let set = reopened(&world.disks);
    for (name, wanted) in [
        ("v0", sessions[0]),
        ("v1", None),
        ("v3", sessions[3]),
        ("v4", None),
    ] {
        let mut volumes = set.set().live_volumes();
        let volume = volumes.find(|(_, volume)| volume.name.as_str() == name);
        assert_eq!(session(&set, volume.unwrap().0), wanted, "{name}");
    }
}

/// Somebody else wrote to the set: what is in the log is of no use any more, that there is one is kept.
#[test]
fn what_others_wrote_over_does_not_count() {
    let mut world = cut(Level::Raid5, 3, 512);
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    world.apply(&Event::HoleLogStarted(0));
    let place = world.set.hole_log_sector(0, 2);
    let set = reopened(&world.disks);
    let first = session(&set, 0);
    assert!(first.is_some());
    let mut disks = world.disks.clone();
    bump(&set, &mut disks, 1);
    let set = open(&disks).unwrap();
    assert_eq!(set.set().volume(0).unwrap().crash_policy, CrashPolicy::Log);
    assert_eq!((session(&set, 0), set.hole_log_sector(0, 2)), (None, place));
    // It goes on from there.
    let mut world = World::new(set, disks, 20);
    world.apply(&Event::HoleLogStarted(0));
    let next = session(&reopened(&world.disks), 0);
    assert!(next.is_some() && next != first);
}

/// A disk without EMD's section has no ring. Where one of the members is such a disk, there is no log, whatever the others say:
/// its entries would be written over what the disk holds.
#[test]
fn a_member_without_a_ring() {
    for without in 0..3 {
        // It is not put on.
        let world = clean(Level::Raid5, 3, 512);
        let mut disks = world.disks.clone();
        drop_section(&world.set, &mut disks, without);
        let mut before = World::new(open(&disks).unwrap(), disks, share(6));
        let why = before.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
        assert!(why.contains("no place for a log"), "{without}: {why}");
        assert!(before.set.hole_log(0).is_none());

        // It does not stay; what was chosen before is said.
        let mut world = clean(Level::Raid5, 3, 512);
        world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
        world.apply(&Event::HoleLogStarted(0));
        world.apply(&Event::Dirty(0));
        for others in [0, 1] {
            let mut disks = world.disks.clone();
            drop_section(&world.set, &mut disks, without);
            if others > 0 {
                bump(&world.set, &mut disks, others);
            }
            let set = open(&disks).unwrap();
            let at = format!("{without}, {others} updates by others");
            assert!(set.hole_log(0).is_none(), "{at}");
            let volume = set.set().volume(0).unwrap();
            assert_eq!(volume.crash_policy, CrashPolicy::Resync, "{at}");
            assert_eq!(volume.consistency, Consistency::Dirty, "{at}");
            let mut notes = set.set().notes.iter();
            assert!(
                notes.any(|note| note.as_str().contains("no place for the log")),
                "{at}"
            );
            // It goes on without one.
            let mut world = World::new(set, disks, share(3));
            world.apply(&Event::Clean(0));
            world.refuse(&Event::HoleLogStarted(0));
            world.apply(&Event::DiskFailed(without));
            // Its place has nobody in it who lacks a ring.
            world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
        }
    }
}

/// A spare without a ring takes no place in a volume with a log, and any place once there is none.
#[test]
fn a_spare_without_a_ring() {
    let mut world = clean(Level::Raid5, 3, 512);
    let spare = world.add(128, SpareRole::Global);
    let mut disks = world.disks.clone();
    drop_section(&world.set, &mut disks, spare);
    let mut world = World::new(open(&disks).unwrap(), disks, share(6));
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Log));
    world.apply(&Event::HoleLogStarted(0));
    world.apply(&Event::DiskFailed(1));
    let event = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    };
    let why = world.refuse(&event);
    assert!(why.contains("no place for the log"), "{why}");
    world.apply(&Event::CrashPolicySet(0, CrashPolicy::Resync));
    world.apply(&event);
    let why = world.refuse(&Event::CrashPolicySet(0, CrashPolicy::Log));
    assert!(why.contains("no place for a log"), "{why}");
}

#[test]
fn who_has_none() {
    let mut world = cut(Level::Raid1, 2, 512);
    for policy in [CrashPolicy::None, CrashPolicy::Resync, CrashPolicy::Log] {
        let why = world.refuse(&Event::CrashPolicySet(0, policy));
        assert!(why.contains("keeps no parity"), "{why}");
    }
    world.refuse(&Event::CrashPolicySet(7, CrashPolicy::Log));
    world.refuse(&Event::HoleLogStarted(7));
    // Sets of others have no place for EMD's records.
    let disks = load("ddf/gen-freebsd/ddfle-raid5-la-3d");
    let mut world = World::new(open(&disks).unwrap(), disks, 20);
    for policy in [CrashPolicy::None, CrashPolicy::Log] {
        let why = world.refuse(&Event::CrashPolicySet(0, policy));
        assert!(why.contains("no place"), "{why}");
    }
}
