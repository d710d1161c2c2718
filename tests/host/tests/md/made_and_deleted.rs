// SPDX-License-Identifier: GPL-2.0

//! Arrays that are being made or deleted when power goes. Both are more than one disk can take in at once, so that fewer
//! disks may have the array than is meant; but what they have is that array, and no disk counts that had old data.

use crate::md_common::{show, thin, version_of, Of, World, Write, ALL};
use emd_core::metadata::md::{create, Md, MdSet, Version};
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{Event, Level, MemberState, SpareRole, VolumeSpec};
use host_tests::crash::{cut_everywhere, Random};
use host_tests::samples::{load, Disk};
use host_tests::share;
use host_tests::shell::{self, spec};

/// The keys of those disks that say something sound.
fn sound(format: &'static Md, disks: &[Disk]) -> Vec<u64> {
    let found = |key: &u64| {
        let verdict = shell::probe(Of(format), &disks[*key as usize], *key, &|_| true).1;
        matches!(verdict, Probe::Found { .. })
    };
    (0..disks.len() as u64).filter(found).collect()
}

/// The set that the disks `keys` make; none have one.
fn set_of(format: &'static Md, disks: &[Disk], keys: &[u64]) -> Option<Box<MdSet>> {
    let keyed: Vec<(u64, &Disk)> = keys
        .iter()
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    (!keyed.is_empty()).then(|| {
        shell::open_keyed(Of(format), &keyed).unwrap_or_else(|why| panic!("{keys:?}: {why}"))
    })
}

/// The keys of the disks whose contents count.
fn in_sync(set: &MdSet) -> Vec<u64> {
    let members = set
        .array()
        .into_iter()
        .flat_map(|array| array.members.iter());
    members
        .filter(|member| member.state == MemberState::InSync)
        .filter_map(|member| set.set().disk(member.disk?)?.facts)
        .map(|facts| facts.key)
        .collect()
}

/// Cuts `event`. Each state has to be what those of its disks that say something say in `whole`, all of which is on the
/// disks before (an array that is deleted) or after it (one that is made). Gives how many states had some of the disks, but
/// not all.
fn cut(world: &mut World, event: &Event<'_>, is_made: bool) -> usize {
    let format = world.family.0;
    let before = world.disks.clone();
    let counted = in_sync(&world.set);
    world.set.apply(event, &shell::context(70)).unwrap();
    let plan: Vec<Write> = shell::writes(world.family, &world.set);
    assert!(plan.len() > 1);
    let mut after = before.clone();
    shell::carry_out(&mut after, &plan);
    let (whole, none) = match is_made {
        true => (&after, &before),
        false => (&before, &after),
    };
    assert_eq!(sound(format, none), [0u64; 0], "{event:?}: nothing is left");
    let all = sound(format, whole);
    let made = in_sync(&set_of(format, whole, &all).unwrap());
    let mut parts = 0;
    let mut random = Random(77);
    cut_everywhere(&before, &plan, &mut random, share(12), &mut |disks, at| {
        let keys = sound(format, disks);
        let Some(set) = set_of(format, disks, &keys) else {
            return;
        };
        parts += usize::from(keys.len() < all.len());
        let wanted = set_of(format, whole, &keys).map(|set| show(&set));
        assert_eq!(Some(show(&set)), wanted, "{event:?}: {at}: {keys:?}");
        let allowed = if is_made { &made } else { &counted };
        for key in in_sync(&set) {
            let what = "has old data, and counts";
            assert!(
                allowed.contains(&key),
                "{event:?}: {at}: {keys:?}: disk {key} {what}"
            );
        }
    });
    world.disks = after;
    parts
}

fn made(level: Level, disks: &[Option<u16>]) -> VolumeSpec<'_> {
    VolumeSpec {
        assume_clean: true,
        ..spec("", level, disks)
    }
}

#[test]
fn a_cut_leaves_some_disks_of_the_array() {
    for format in ALL {
        for (level, count, block, mib) in [
            (Level::Raid1, 2, 512, 40),
            (Level::Raid5, 3, 4096, 40),
            (Level::Raid10, 4, 512, 40),
            // With a bitmap.
            (Level::Raid6, 4, 512, 101 << 10),
            (Level::Raid0, 2, 512, 40),
        ] {
            let mut world = World::made(Of(format), count, mib, block, 0);
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            let parts = cut(&mut world, &Event::VolumeCreated(made(level, &disks)), true);
            assert!(parts > 0, "{level}");
            world.check("made");
            // With writes in flight, and a spare.
            if level.is_redundant() {
                world.apply(&Event::Dirty(0));
                world.add(mib, SpareRole::Global);
            }
            let parts = cut(&mut world, &Event::VolumeDeleted(0), false);
            assert!(parts > 0, "{level}");
        }
    }
}

/// What the disks say, each set of them by itself.
fn sets(format: &'static Md, disks: &[Disk]) -> Vec<(Vec<u8>, Vec<u64>)> {
    let mut sets: Vec<(Vec<u8>, Vec<u64>)> = Vec::new();
    for (key, disk) in (0u64..).zip(disks) {
        let Probe::Found { set, .. } = shell::probe(Of(format), disk, key, &|_| true).1 else {
            continue;
        };
        match sets.iter_mut().find(|(id, _)| id[..] == *set.as_bytes()) {
            Some((_, keys)) => keys.push(key),
            None => sets.push((set.as_bytes().to_vec(), vec![key])),
        }
    }
    sets
}

/// Over an old array: of each disk either the old superblock counts or the new one, never a mixture of both.
#[test]
fn made_over_another_one() {
    for format in ALL {
        let all: Vec<Option<u16>> = (0..3).map(Some).collect();
        let mut old = World::made(Of(format), 3, 40, 512, 0);
        let spec = VolumeSpec {
            assume_clean: false,
            ..made(Level::Raid5, &all)
        };
        old.apply(&Event::VolumeCreated(spec));
        old.apply(&Event::Dirty(0));
        let before = old.disks.clone();
        let facts = shell::all_facts(Of(format), &before);
        let mut set = create::create(format.0, &facts, "", &shell::context(60)).unwrap();
        let event = Event::VolumeCreated(made(Level::Raid1, &all));
        set.apply(&event, &shell::context(61)).unwrap();
        let plan = shell::writes(Of(format), &set);
        let mut after = before.clone();
        shell::carry_out(&mut after, &plan);
        let (first, last) = (sets(format, &before), sets(format, &after));
        assert_eq!((first.len(), last.len()), (1, 1));
        assert_ne!(first[0].0, last[0].0);
        let (mut mixed, mut parts) = (0, 0);
        let mut random = Random(78);
        cut_everywhere(&before, &plan, &mut random, share(30), &mut |disks, at| {
            let now = sets(format, disks);
            mixed += usize::from(now.len() > 1);
            parts += usize::from(now.iter().map(|(_, keys)| keys.len()).sum::<usize>() < 3);
            for (id, keys) in now {
                let whole = if id == first[0].0 { &before } else { &after };
                assert!(id == first[0].0 || id == last[0].0, "{at}: another set");
                let wanted = show(&set_of(format, whole, &keys).unwrap());
                assert_eq!(show(&set_of(format, disks, &keys).unwrap()), wanted, "{at}");
            }
        });
        // Where a superblock is longer than a block, the old ones are erased first, all of them.
        match format.0 {
            Version::V090 => assert!(mixed == 0 && parts > 0),
            _ => assert!(mixed > 0),
        }
    }
}

/// A member that was lost still has its superblock, which calls it one in sync: it may not be what is left.
#[test]
fn members_with_old_data_go_first() {
    for format in ALL {
        for (level, count, lost) in [
            (Level::Raid1, 2, vec![1u16]),
            (Level::Raid1, 3, vec![0, 2]),
            (Level::Raid6, 5, vec![1, 4]),
            (Level::Raid10, 4, vec![0]),
        ] {
            let mut world = World::made(Of(format), count, 40, 512, 0);
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            world.apply(&Event::VolumeCreated(made(level, &disks)));
            for disk in lost {
                world.apply(&Event::DiskFailed(disk));
            }
            world.apply(&Event::Dirty(0));
            assert!(cut(&mut world, &Event::VolumeDeleted(0), false) > 0);
        }
    }
}

/// Arrays of mdadm, one of which has a member that is being rebuilt.
#[test]
fn arrays_of_mdadm() {
    let mut deleted = 0;
    for case in [
        "12-raid1-bitmap-wm",
        "090-raid5-ls-bitmap",
        "12-raid5-ppl",
        "10-raid1",
    ] {
        let mut disks = load(&format!("md/gen/{case}"));
        let format = version_of(&disks);
        for disk in &mut disks {
            thin(format, disk);
        }
        let set = crate::md_common::open(format, &disks).unwrap();
        let mut world = World::of(Of(format), set, disks, 0);
        assert!(
            cut(&mut world, &Event::VolumeDeleted(0), false) > 0,
            "{case}"
        );
        deleted += usize::from(format.0 != Version::V090);
    }
    assert_eq!(deleted, 3);
}

/// A disk that leaves is one of the set or none, wherever power goes: its superblock is never one that is damaged.
#[test]
fn a_disk_that_leaves_is_never_damaged() {
    for format in ALL {
        let mut world = World::made(Of(format), 3, 40, 512, 0);
        world.apply(&Event::VolumeCreated(made(
            Level::Raid1,
            &[Some(0), Some(1)],
        )));
        let mut random = Random(91);
        // A spare, and a member that failed.
        for leaving in [2u16, 1] {
            if leaving == 1 {
                world.apply(&Event::DiskFailed(1));
            }
            let before = world.disks.clone();
            let event = Event::DiskRemoved(leaving);
            world.set.apply(&event, &shell::context(80)).unwrap();
            let plan = shell::writes(world.family, &world.set);
            cut_everywhere(&before, &plan, &mut random, share(60), &mut |disks, at| {
                let key = u64::from(leaving);
                let verdict = shell::probe(Of(format), &disks[key as usize], key, &|_| true).1;
                let is_sound = matches!(verdict, Probe::Found { .. } | Probe::NotMine);
                assert!(is_sound, "{} {leaving}: {at}", format.0.name());
            });
            shell::carry_out(&mut world.disks, &plan);
        }
    }
}
