// SPDX-License-Identifier: GPL-2.0

//! Family numbers: what belongs together when disks were in other machines, or were written by those who keep no first
//! family number. What mdadm does is in `docs/formats/imsm.md`, §6.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{blanks, carry_out, context, facts, open, open_keyed};
use crate::imsm_common::{probe, reseal, sample, show, writes};
use emd_core::metadata::imsm::layout::header;
use emd_core::metadata::imsm::{create, ImsmSet};
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{Access, DiskState, Event, Level, MemberState, SpareRole};
use host_tests::samples::Disk;

/// The sets that the disks say they are in, each with its disks, as discovery puts them together.
fn sets_of(disks: &[Disk]) -> Vec<Vec<u64>> {
    let mut sets: Vec<(Vec<u8>, Vec<u64>)> = Vec::new();
    for (key, disk) in (0u64..).zip(disks) {
        let Probe::Found { set, .. } = probe(disk, key).1 else {
            continue;
        };
        match sets.iter_mut().find(|(id, _)| id[..] == *set.as_bytes()) {
            Some((_, keys)) => keys.push(key),
            None => sets.push((set.as_bytes().to_vec(), vec![key])),
        }
    }
    sets.into_iter().map(|(_, keys)| keys).collect()
}

fn set_of(disks: &[Disk], keys: &[u64]) -> Box<ImsmSet> {
    let keyed: Vec<(u64, &Disk)> = keys
        .iter()
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    open_keyed(&keyed).unwrap()
}

/// The disks in the slots of volume 0 that are in sync; the volume is in use.
fn in_sync(set: &ImsmSet) -> Vec<Option<u64>> {
    let volume = set.set().volume(0).unwrap();
    assert!(
        matches!(volume.access, Access::ReadWrite),
        "{:?}",
        volume.access
    );
    let members = volume.members.iter();
    members
        .map(|member| {
            let disk = set.set().disk(member.disk?)?;
            (member.state == MemberState::InSync).then(|| disk.facts.unwrap().key)
        })
        .collect()
}

fn refused(set: &ImsmSet, why: &str) {
    match set.set().volume(0).unwrap().access {
        Access::Refused(reason) => assert!(reason.text().contains(why), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// First family number and family number.
fn numbers(disk: &Disk) -> (u32, u32) {
    let at = disk.size_sectors - 2;
    let mpb = disk.read(at, 1);
    let get = |at: usize| u32::from_le_bytes(mpb[at..at + 4].try_into().unwrap());
    (get(header::ORIG_FAMILY), get(header::FAMILY))
}

/// Takes a disk's first family number off, as old drivers have none.
fn without_first(disk: &mut Disk) {
    reseal(disk, &mut |mpb| mpb[header::ORIG_FAMILY..][..4].fill(0));
}

/// A mirror of the disks 0 and 1.
fn mirror() -> World {
    let mut world = World::created(2, 64, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
    world
}

/// The mirror of `disks` without disk 1 - `own`, as another machine has it: the loss is recorded.
fn alone(disks: &[Disk], own: u16) -> World {
    let mut disks = disks.to_vec();
    let key = u64::from(own);
    disks.push(Disk::blank("unused", 2048, 512));
    if own == 1 {
        disks.push(Disk::blank("unused", 2048, 512));
    }
    let set = set_of(&disks, &[key]);
    let mut world = World::new(set, disks, 0);
    world.apply(&Event::DiskMissing(1 - own));
    world
}

/// A spare takes the lost place and is rebuilt. Gives its key.
fn rebuild(world: &mut World, slot: u16) -> u64 {
    let disk = world.add(64, SpareRole::Global);
    let event = Event::SpareActivated {
        volume: 0,
        slot,
        disk,
    };
    world.apply(&event);
    world.apply(&Event::RebuildDone { volume: 0, slot });
    world.set.set().disk(disk).unwrap().facts.unwrap().key
}

/// Updates that change nothing in the end.
fn go_on(world: &mut World, times: usize) {
    for _ in 0..times {
        world.apply(&Event::Dirty(0));
        world.apply(&Event::Clean(0));
    }
}

#[test]
fn two_sets_are_two() {
    let (one, other) = (sample("gen/raid1"), sample("gen/raid5-3"));
    let (first, second) = (open(&one).unwrap(), open(&other).unwrap());
    let mut disks = one.clone();
    disks.extend(other.iter().cloned());
    assert_eq!((one.len(), other.len()), (2, 3));
    assert_eq!(sets_of(&disks), [vec![0, 1], vec![2, 3, 4]]);
    let mut slots = in_sync(&first);
    slots.sort();
    assert_eq!(slots, [Some(0), Some(1)]);
    assert_eq!(show(set_of(&disks, &[0, 1]).set()), show(first.set()));
    let mut slots = in_sync(&set_of(&disks, &[2, 3, 4]));
    let alone: Vec<_> = in_sync(&second)
        .iter()
        .map(|key| key.map(|key| key + 2))
        .collect();
    assert_eq!(slots, alone);
    slots.sort();
    assert_eq!(slots, [Some(2), Some(3), Some(4)]);
}

/// A disk joined another set elsewhere, without the first one's other disk hearing of it: that one does without.
#[test]
fn a_disk_that_joined_another_set() {
    let world = mirror();
    let mut others = blanks(2, 64, 512);
    others[0].name = world.disks[1].name.clone();
    others[1].name = "ANOTHER".into();
    let facts: Vec<_> = (0u64..)
        .zip(&others)
        .map(|(key, disk)| facts(disk, key))
        .collect();
    let mut set = create::create(&facts, "", &context(5)).unwrap();
    carry_out(&mut others, &writes(&set));
    let two = [Some(0), Some(1)];
    let event = Event::VolumeCreated(spec("w", Level::Raid1, &two));
    set.apply(&event, &context(6)).unwrap();
    carry_out(&mut others, &writes(&set));

    let disks = [world.disks[0].clone(), others[0].clone(), others[1].clone()];
    assert_eq!(sets_of(&disks), [vec![0], vec![1, 2]]);
    let first = set_of(&disks, &[0]);
    assert_eq!(in_sync(&first), [Some(0), None]);
    assert_eq!(
        first.set().volume(0).unwrap().members[1].state,
        MemberState::Missing
    );
    let second = set_of(&disks, &[1, 2]);
    assert_eq!(in_sync(&second), [Some(1), Some(2)]);
    assert_eq!(second.set().volume(0).unwrap().name.as_str(), "w");
}

/// Old metadata has 0 there; mdadm fills it in with its next write, which may not reach all disks.
#[test]
fn a_first_number_that_is_filled_in() {
    let world = mirror();
    let whole = show(open(&world.disks).unwrap().set());
    let mut old = world.disks.clone();
    old.iter_mut().for_each(without_first);
    assert_eq!(sets_of(&old), [[0, 1]]);
    assert_eq!(show(open(&old).unwrap().set()), whole);
    for filled in 0..2 {
        let mut disks = old.clone();
        let (first, family) = numbers(&world.disks[filled]);
        assert_eq!(first, family);
        reseal(&mut disks[filled], &mut |mpb| {
            mpb[header::ORIG_FAMILY..][..4].copy_from_slice(&family.to_le_bytes());
            mpb[header::GENERATION] += 1;
        });
        assert_eq!(sets_of(&disks), [[0, 1]]);
        let set = open(&disks).unwrap();
        assert_eq!(in_sync(&set), [Some(0), Some(1)], "{filled}");
        assert_eq!(show(set.set()), whole);
    }
}

/// EMD rebuilds a set without a first number: the family number changes, and the disk that was lost still belongs to it, as
/// an old one.
#[test]
fn a_rebuild_keeps_what_the_set_is_known_by() {
    let mut old = mirror().disks;
    old.iter_mut().for_each(without_first);
    for lost in 0..2u16 {
        let own = 1 - lost;
        let was = numbers(&old[0]);
        let mut world = alone(&old, own);
        let spare = rebuild(&mut world, lost);
        let mut disks = world.disks.clone();
        let (first, family) = numbers(&disks[usize::from(own)]);
        assert_eq!((0, first), was);
        assert_ne!(family, first);
        disks[usize::from(lost)] = old[usize::from(lost)].clone();
        let mut all = vec![0, 1, spare];
        all.sort();
        assert_eq!(sets_of(&disks), [&all[..]]);
        let set = set_of(&disks, &all);
        let mut members = [Some(u64::from(own)); 2];
        members[usize::from(lost)] = Some(spare);
        assert_eq!(in_sync(&set), members);
        let back = set.set().disk_by_key(u64::from(lost)).unwrap();
        assert_eq!(set.set().disk(back).unwrap().state, DiskState::Stale);
    }
}

/// Somebody else rebuilds it, and gives it another family number without a first one. Nothing ties the disk that was lost to
/// it any more: it is a set of its own, of one disk, and the others are whole without it.
#[test]
fn a_rebuild_by_who_keeps_no_first_number() {
    let old = mirror().disks;
    let mut world = alone(&old, 0);
    let spare = rebuild(&mut world, 1);
    let mut disks = world.disks.clone();
    disks[1] = old[1].clone();
    disks.iter_mut().for_each(|disk| {
        if disk.name != "unused" {
            without_first(disk);
        }
    });
    assert_eq!(sets_of(&disks), [vec![0, spare], vec![1]]);
    assert_eq!(
        in_sync(&set_of(&disks, &[0, spare])),
        [Some(0), Some(spare)]
    );
    assert_eq!(in_sync(&set_of(&disks, &[1])), [None, Some(1)]);
}

/// Each half of a mirror was rebuilt in a machine of its own. Neither names a disk of the other any more, as with disks that
/// were replaced one after the other; so the newer one counts, as mdadm chooses one family, and nothing is written to the
/// other. Of one generation, nobody can say.
#[test]
fn both_halves_were_rebuilt() {
    let old = mirror().disks;
    let (mut one, mut other) = (alone(&old, 0), alone(&old, 1));
    let spares = [rebuild(&mut one, 1), rebuild(&mut other, 0)];
    assert_ne!(spares[0], spares[1]);
    let keys = [0, 1, spares[0], spares[1]];
    let merged = |one: &World, other: &World| {
        let mut disks = other.disks.clone();
        disks[0] = one.disks[0].clone();
        disks[spares[0] as usize] = one.disks[spares[0] as usize].clone();
        disks
    };
    assert_eq!(one.set.set().generation, other.set.set().generation);
    let disks = merged(&one, &other);
    assert_eq!(sets_of(&disks).len(), 1, "the first number is the same");
    let set = set_of(&disks, &keys);
    refused(&set, "same generation");
    // One of them goes on.
    go_on(&mut one, 1);
    let disks = merged(&one, &other);
    let set = set_of(&disks, &keys);
    assert_eq!(in_sync(&set), [Some(0), Some(spares[0])]);
    for key in [1, spares[1]] {
        let disk = set.set().disk_by_key(key).unwrap();
        assert_eq!(set.set().disk(disk).unwrap().state, DiskState::Stale);
    }
    let mut world = World::new(set, disks, 20);
    go_on(&mut world, 2);
    world.apply(&Event::DiskFailed(world.set.set().disk_by_key(0).unwrap()));
    for key in [1, spares[1]] {
        let tail = |disk: &Disk| disk.read(disk.size_sectors - 600, 600);
        let (now, was) = (&world.disks[key as usize], &other.disks[key as usize]);
        assert!(tail(now) == tail(was), "disk {key} was written");
    }
}

/// One half went on alone, the other one was rebuilt elsewhere. The family number changed there only, so neither comes
/// after the other, whichever wrote more.
#[test]
fn one_half_was_rebuilt() {
    let old = mirror().disks;
    for more in 0..2 {
        let (mut one, mut other) = (alone(&old, 0), alone(&old, 1));
        let spare = rebuild(&mut other, 0);
        go_on(&mut one, 20 * more);
        go_on(&mut other, 20 * (1 - more));
        let (first, second) = (one.set.set().generation, other.set.set().generation);
        assert_eq!(first > second, more == 1, "{first} {second}");
        let mut disks = other.disks.clone();
        disks[0] = one.disks[0].clone();
        let set = set_of(&disks, &[0, 1, spare]);
        refused(&set, "used in two parts");
        // Either half alone is one.
        assert_eq!(in_sync(&set_of(&disks, &[0])), [Some(0), None]);
        assert_eq!(
            in_sync(&set_of(&disks, &[1, spare])),
            [Some(spare), Some(1)]
        );
    }
}
