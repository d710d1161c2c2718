// SPDX-License-Identifier: GPL-2.0

//! The mark of a rebuild in 0.90, where md has none: it outlives a restart, and is believed only of the very disk that is being
//! rebuilt, as EMD left it, and if that disk has missed nothing.

use crate::md_common::{change, open_keyed, Of, World};
use emd_core::metadata::md::{MdSet, MD_090};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Consistency, DiskIndex, DiskRole, Event, Level, MemberState, Slot, SpareRole, VolumeSpec,
};
use host_tests::ppl::crc;
use host_tests::samples::Disk;
use host_tests::shell::spec;
use kernel::prelude::KBox;

/// The levels that can be rebuilt, with a number of members.
const LEVELS: [(Level, u16); 6] = [
    (Level::Raid1, 2),
    (Level::Raid1, 3),
    (Level::Raid4, 3),
    (Level::Raid5, 3),
    (Level::Raid6, 4),
    (Level::Raid10, 4),
];

const SLOT: Slot = 1;

/// An array whose member in [`SLOT`] was lost, and the spare that is being rebuilt in its place. `cuts`: see [`World::made`].
fn world(level: Level, count: u16, cuts: usize) -> (World, DiskIndex) {
    let mut world = World::made(Of(&MD_090), usize::from(count), 40, 512, cuts);
    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("", level, &disks)
    }));
    let lost = world.disk_in(0, SLOT.into());
    world.apply(&Event::DiskFailed(lost));
    let spare = world.add(41, SpareRole::Global);
    activate(&mut world, SLOT, spare);
    (world, spare)
}

fn activate(world: &mut World, slot: Slot, disk: DiskIndex) {
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot,
        disk,
    });
}

fn progress(world: &mut World, slot: Slot, done_sectors: u64) {
    world.apply(&Event::RebuildProgress {
        volume: 0,
        slot,
        done_sectors,
    });
}

/// The set that these of the disks make.
fn read(disks: &[Disk], keys: &[u64]) -> KBox<MdSet> {
    let keyed: Vec<(u64, &Disk)> = keys
        .iter()
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    open_keyed(&MD_090, &keyed).unwrap()
}

/// What the disks with these keys say of a slot: the key of its disk, and how far that is rebuilt, if it is and has begun.
fn said_of(disks: &[Disk], keys: &[u64], slot: Slot) -> Option<(u64, u64)> {
    let set = read(disks, keys);
    let member = set.set().volume(0).unwrap().members[usize::from(slot)];
    match member.state {
        MemberState::Rebuilding { done_sectors } => {
            let disk = set.set().disk(member.disk.unwrap()).unwrap();
            assert_eq!(disk.role, DiskRole::Member);
            Some((disk.facts.unwrap().key, done_sectors))
        }
        MemberState::InSync => panic!("it is not rebuilt"),
        _ => None,
    }
}

fn all(disks: &[Disk]) -> Vec<u64> {
    (0..disks.len() as u64).collect()
}

fn superblock(disk: &Disk) -> Vec<u8> {
    disk.read(MD_090.0.sector(disk.size_sectors).unwrap(), 8)
}

fn word(disk: &Disk) -> u64 {
    u64::from_le_bytes(superblock(disk)[504..512].try_into().unwrap())
}

fn set_word(disk: &mut Disk, word: u64) {
    change(&MD_090, disk, 504, &word.to_le_bytes());
}

/// What someone who knows the place, and the seal, would leave there.
fn forged(disk: &Disk, kind: u8, slot: u64, units: u64) -> u64 {
    let bytes = superblock(disk);
    let bare = (u64::from(kind) << 56) | (slot << 32) | units;
    let own = &bytes[4 * 992..4 * 997];
    let sealed = [&bytes[..152], &bytes[156..504], own, &bare.to_le_bytes()].concat();
    bare | (u64::from(crc(&sealed) & 0xFFFF) << 40)
}

#[test]
fn rebuilds_outlive_a_restart() {
    for (level, count) in LEVELS {
        let (mut world, spare) = world(level, count, 2);
        let key = u64::from(spare);
        let said = |world: &World| said_of(&world.disks, &all(&world.disks), SLOT);
        assert_eq!(said(&world), None, "nothing is done yet");
        let events = world.set.set().generation;
        for done in [8, 4096, 12_344] {
            progress(&mut world, SLOT, done);
            assert_eq!(world.set.plan().writes().len(), 1, "a sector of its own");
            assert_eq!(said(&world), Some((key, done)), "{level}");
        }
        assert_eq!(world.set.set().generation, events, "no event");
        // Where there is no place for the odd sectors it is less.
        progress(&mut world, SLOT, 12_359);
        assert_eq!(said(&world), Some((key, 12_352)));
        // What else is written takes it along.
        for event in [Event::Dirty(0), Event::Clean(0)] {
            world.apply(&event);
            assert_eq!(said(&world), Some((key, 12_352)), "{event:?}");
        }
        // It goes on from there.
        let set = read(&world.disks, &all(&world.disks));
        let mut world = World::of(Of(&MD_090), set, world.disks, 2);
        let target = world.disk_in(0, SLOT.into());
        assert_eq!(
            world.set.set().disk(target).unwrap().facts.unwrap().key,
            key
        );
        progress(&mut world, SLOT, 16_000);
        assert_eq!(said(&world), Some((key, 16_000)));
        world.apply(&Event::RebuildDone {
            volume: 0,
            slot: SLOT,
        });
        let set = read(&world.disks, &all(&world.disks));
        let members = &set.set().volume(0).unwrap().members;
        assert!(members
            .iter()
            .all(|member| member.state == MemberState::InSync));
        for disk in &world.disks[..] {
            let is_lost = disk.name == world.disks[usize::from(SLOT)].name;
            assert!(is_lost || word(disk) == 0, "nothing is left of it");
        }
    }
}

/// Two members of a RAID 6 at once: each has its own.
#[test]
fn each_has_its_own() {
    let (mut world, first) = world(Level::Raid6, 5, 2);
    progress(&mut world, SLOT, 4096);
    let lost = world.disk_in(0, 3);
    world.apply(&Event::DiskFailed(lost));
    let second = world.add(41, SpareRole::Global);
    activate(&mut world, 3, second);
    progress(&mut world, 3, 800);
    progress(&mut world, SLOT, 8192);
    let keys = all(&world.disks);
    let said = |slot| said_of(&world.disks, &keys, slot);
    assert_eq!(said(SLOT), Some((first.into(), 8192)));
    assert_eq!(said(3), Some((second.into(), 800)));
    // Without one of them.
    let keys: Vec<u64> = keys
        .into_iter()
        .filter(|&key| key != first.into())
        .collect();
    assert_eq!(said_of(&world.disks, &keys, SLOT), None);
    assert_eq!(said_of(&world.disks, &keys, 3), Some((second.into(), 800)));
}

/// Another spare is none that was being rebuilt.
#[test]
fn another_spare_begins_anew() {
    let (mut world, target) = world(Level::Raid5, 3, 0);
    let other = world.add(41, SpareRole::Global);
    progress(&mut world, SLOT, 4096);
    let keys: Vec<u64> = all(&world.disks)
        .into_iter()
        .filter(|&key| key != target.into())
        .collect();
    let mut set = read(&world.disks, &keys);
    assert_eq!(said_of(&world.disks, &keys, SLOT), None);
    // Nor is it when it has a copy of the mark.
    let mut disks = world.disks.clone();
    let copied = word(&disks[usize::from(target)]);
    set_word(&mut disks[usize::from(other)], copied);
    assert_eq!(said_of(&disks, &keys, SLOT), None);
    // And once it takes that place, the first one is none either.
    let disk = set.set().disk_by_key(other.into()).unwrap();
    let mut disks = world.disks.clone();
    let mut apply = |event| crate::md_common::apply(&mut set, &mut disks, &event, 70).unwrap();
    apply(Event::SpareActivated {
        volume: 0,
        slot: SLOT,
        disk,
    });
    apply(Event::Dirty(0));
    apply(Event::RebuildProgress {
        volume: 0,
        slot: SLOT,
        done_sectors: 64,
    });
    let everyone = all(&disks);
    assert_eq!(said_of(&disks, &everyone, SLOT), Some((other.into(), 64)));
}

/// Whoever was away while anything was written, or may have been, is filled from the start.
#[test]
fn one_that_was_away_begins_anew() {
    for (level, count) in LEVELS {
        let (mut world, target) = world(level, count, 2);
        progress(&mut world, SLOT, 4096);
        let whole = all(&world.disks);
        let rest: Vec<u64> = whole
            .iter()
            .copied()
            .filter(|&key| key != u64::from(target))
            .collect();
        // Lost while the array runs, for either reason, cut anywhere (`world`): it is old by one event.
        for event in [Event::DiskMissing(target), Event::DiskFailed(target)] {
            let set = read(&world.disks, &whole);
            let mut world = World::of(Of(&MD_090), set, world.disks.clone(), 2);
            let target = world.disk_in(0, SLOT.into());
            world.apply(&match event {
                Event::DiskMissing(_) => Event::DiskMissing(target),
                _ => Event::DiskFailed(target),
            });
            assert_eq!(
                said_of(&world.disks, &whole, SLOT),
                None,
                "{level} {event:?}"
            );
        }
        // Not here when the array starts again: the first thing that is written without it tells.
        for event in [
            Event::Dirty(0),
            Event::ResyncProgress {
                volume: 0,
                done_sectors: 0,
            },
        ] {
            let mut disks = world.disks.clone();
            let mut set = read(&disks, &rest);
            crate::md_common::apply(&mut set, &mut disks, &event, 80).unwrap();
            assert_eq!(said_of(&disks, &whole, SLOT), None, "{level} {event:?}");
            // It is so even if it alone had got one more update, which was cut.
            let mut ahead = world.disks.clone();
            let mut set = read(&ahead, &whole);
            crate::md_common::apply(&mut set, &mut ahead, &Event::Dirty(0), 79).unwrap();
            let mut disks = world.disks.clone();
            disks[usize::from(target)] = ahead[usize::from(target)].clone();
            let mut set = read(&disks, &rest);
            crate::md_common::apply(&mut set, &mut disks, &event, 80).unwrap();
            assert_eq!(
                said_of(&disks, &whole, SLOT),
                None,
                "{level} {event:?}, ahead"
            );
        }
    }
}

/// An update that it did not get, or that others did not get, because it was cut.
#[test]
fn one_that_lacks_an_event_begins_anew() {
    let (mut world, target) = world(Level::Raid5, 3, 0);
    progress(&mut world, SLOT, 4096);
    let whole = all(&world.disks);
    let before = world.disks[usize::from(target)].clone();
    world.apply(&Event::Dirty(0));
    assert_eq!(world.consistency(0), Consistency::Dirty);
    let mut disks = world.disks.clone();
    disks[usize::from(target)] = before;
    assert_eq!(said_of(&disks, &whole, SLOT), None);
    // It is a spare then, as ever, and its mark is erased with the next update.
    let set = read(&disks, &whole);
    let index = set.set().disk_by_key(target.into()).unwrap();
    assert_eq!(set.set().disk(index).unwrap().role, DiskRole::GlobalSpare);
    assert_ne!(word(&disks[usize::from(target)]), 0);
    let mut world = World::of(Of(&MD_090), set, disks, 0);
    world.apply(&Event::Clean(0));
    assert_eq!(word(&world.disks[usize::from(target)]), 0);
}

/// md zeroes the mark when it writes; whatever others leave of it, they change what the seal is over.
#[test]
fn only_what_emd_left_is_believed() {
    let (mut world, target) = world(Level::Raid5, 3, 0);
    progress(&mut world, SLOT, 4096);
    let (at, key) = (usize::from(target), u64::from(target));
    let believed = |work: &dyn Fn(&mut Disk)| {
        let mut disks = world.disks.clone();
        work(&mut disks[at]);
        said_of(&disks, &all(&disks), SLOT)
    };
    assert_eq!(believed(&|_| ()), Some((key, 4096)));
    assert_eq!(believed(&|disk| set_word(disk, 0)), None);
    for bit in 0..64 {
        let flipped = word(&world.disks[at]) ^ (1 << bit);
        assert_eq!(believed(&|disk| set_word(disk, flipped)), None, "bit {bit}");
    }
    // Another time of the last update; others have one event more, or it has.
    for place in [4 * 32, 4 * 39] {
        let add = |disk: &mut Disk| {
            let byte = superblock(disk)[place].wrapping_add(1);
            change(&MD_090, disk, place, &[byte]);
        };
        assert_eq!(believed(&add), None, "{place}");
        let mut disks = world.disks.clone();
        (0..3).for_each(|disk| add(&mut disks[disk]));
        let expected = (place == 4 * 32).then_some((key, 4096));
        assert_eq!(said_of(&disks, &all(&disks), SLOT), expected, "{place}");
    }
    // What is right, what cannot be, and what it is not for.
    let forge = |kind, slot, units| {
        believed(&|disk| {
            let word = forged(disk, kind, slot, units);
            set_word(disk, word);
        })
    };
    assert_eq!(forge(0xEB, 1, 16), Some((key, 128)));
    assert_eq!(forge(0xEB, 1, 0), None, "nothing is done");
    assert_eq!(forge(0xEB, 1, 0xFFFF_FFFF), None, "more than there is");
    assert_eq!(forge(0xEB, 0, 16), None, "there is a member");
    assert_eq!(forge(0xEB, 3, 16), None, "there is no such slot");
    assert_eq!(forge(0xEC, 1, 16), None, "another seal is a check's");
    // A member in sync is none, whatever it says.
    let mut disks = world.disks.clone();
    let word = forged(&disks[0], 0xEB, 1, 16);
    set_word(&mut disks[0], word);
    assert_eq!(said_of(&disks, &all(&disks), SLOT), Some((key, 4096)));
}

/// Who had the place before may have got an update that was cut before the others had it, and that of its loss may have been cut when
/// these had the first event of it: as many as it has. It is two behind before anything is written without it, also when
/// the rebuild of another one has begun meanwhile.
#[test]
fn who_had_the_place_before_is_old() {
    for (level, count) in LEVELS {
        let mut world = World::made(Of(&MD_090), usize::from(count), 40, 512, 0);
        let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
        world.apply(&Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec("", level, &disks)
        }));
        let spare = world.add(41, SpareRole::Global);
        let lost = world.disk_in(0, SLOT.into());
        let events = |disk: &Disk| superblock(disk)[4 * 39];
        let then = events(&world.disks[0]) + 1;
        world.apply(&Event::DiskMissing(lost));
        let mut disks = world.disks.clone();
        for disk in &mut disks {
            change(&MD_090, disk, 4 * 39, &[then]);
        }
        let rest: Vec<u64> = all(&disks)
            .into_iter()
            .filter(|&key| key != u64::from(SLOT))
            .collect();
        let mut set = read(&disks, &rest);
        let disk = set.set().disk_by_key(spare.into()).unwrap();
        for event in [
            Event::SpareActivated {
                volume: 0,
                slot: SLOT,
                disk,
            },
            Event::RebuildProgress {
                volume: 0,
                slot: SLOT,
                done_sectors: 64,
            },
        ] {
            crate::md_common::apply(&mut set, &mut disks, &event, 90).unwrap();
        }
        let mut set = read(&disks, &rest);
        assert_eq!(said_of(&disks, &rest, SLOT), Some((spare.into(), 64)));
        crate::md_common::apply(&mut set, &mut disks, &Event::Dirty(0), 91).unwrap();
        for &key in &rest {
            let now = events(&disks[key as usize]);
            assert!(now >= then + 2, "{level}: {now}, the lost one has {then}");
        }
    }
}
