// SPDX-License-Identifier: GPL-2.0

//! Records whose checksum is wrong on every disk: what they say is shown, may be read, and is never made to look sound.

use crate::ddf_common::damage::flip;
use crate::ddf_common::open;
use crate::ddf_common::world::{spec, World};
use emd_core::metadata::ddf::config::Record;
use emd_core::metadata::ddf::layout::Section;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Event, Level, SpareRole, Text, VolumeSpec};

/// A volume on all of `count` disks, of which some are [`damage`]d.
fn with_damage(level: Level, count: u16, damaged: &[u16]) -> World {
    let mut world = World::created(usize::from(count), 64, 512, 0);
    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
    let spec = VolumeSpec {
        assume_clean: true,
        ..spec("vol", level, &disks)
    };
    world.apply(&Event::VolumeCreated(spec));
    damage(&mut world, damaged);
    world
}

/// Makes the record in slot 0 of disks unsound in both copies, and starts the set anew.
fn damage(world: &mut World, damaged: &[u16]) {
    for &disk in damaged {
        let home = world.set.home(disk).unwrap();
        let place = home.layout.place(Section::Config);
        for copy in home.copies.into_iter().flatten() {
            let first = (copy + u64::from(place.offset)) * 512;
            // The rate of background tasks.
            flip(&mut world.disks[usize::from(disk)], first + 0x88, 1);
        }
    }
    world.set = open(&world.disks).unwrap();
}

/// Whether the record of volume 0 on a disk has a right checksum.
fn is_sound(world: &World, disk: u16) -> bool {
    let home = world.set.home(disk).unwrap();
    let mut records = home.slots().filter_map(|slot| home.record(slot));
    records.next().as_ref().is_some_and(Record::intact)
}

fn is_read_only(world: &World) -> bool {
    let access = &world.set.set().volume(0).unwrap().access;
    match access {
        Access::ReadOnly(why) => {
            assert!(why.text().contains("checksum"), "{why}");
            true
        }
        Access::ReadWrite => false,
        Access::Refused(why) => panic!("{why}"),
    }
}

#[test]
fn one_span_is_enough() {
    for (damaged, read_only) in [
        (&[][..], false),
        (&[0], false),
        (&[2], false),
        (&[0, 2], false),
        (&[0, 1], true),
        (&[2, 3], true),
        (&[0, 1, 2, 3], true),
    ] {
        let world = with_damage(Level::Raid10, 4, damaged);
        assert_eq!(is_read_only(&world), read_only, "{damaged:?}");
        // What is sound on another disk is mended.
        for &disk in damaged {
            assert_eq!(is_sound(&world, disk), !read_only, "{damaged:?}");
        }
    }
}

/// Events that would write such a record, and so give it a right checksum, are refused; others leave it alone.
#[test]
fn it_is_never_sealed() {
    let mut world = with_damage(Level::Raid5, 3, &[0, 1, 2]);
    let spare = world.add(64, SpareRole::Global);
    let sound = |world: &World| [0, 1].map(|disk| is_sound(world, disk));
    assert!(is_read_only(&world));
    world.apply(&Event::DiskFailed(2));
    let back = world.set.set().disk(2).unwrap().facts.unwrap();
    for event in [
        Event::DiskReturned(2, back),
        Event::DiskRemoved(2),
        Event::SpareActivated {
            volume: 0,
            slot: 2,
            disk: spare,
        },
    ] {
        world.refuse(&event);
        assert_eq!(sound(&world), [false; 2], "{event:?}");
    }
    world.apply(&Event::VolumeRenamed(0, Text::from_text("other")));
    world.apply(&Event::DiskMissing(2));
    assert_eq!(sound(&world), [false; 2]);
    let set = open(&world.disks[..2]).unwrap();
    world.set = set;
    assert_eq!(sound(&world), [false; 2]);
    assert!(is_read_only(&world));
    // A way out: without the volume nothing is to be kept.
    world.refuse(&Event::DiskRemoved(2));
    world.apply(&Event::VolumeDeleted(0));
    world.apply(&Event::DiskRemoved(2));
}

/// Another volume of the same disks is not held up, but for what concerns both.
#[test]
fn a_sound_volume_beside_it_goes_on() {
    let mut world = World::created(4, 64, 512, 0);
    let five = [Some(0), Some(1), Some(2)];
    let one = [Some(1), Some(3)];
    for (level, disks) in [(Level::Raid5, &five[..]), (Level::Raid1, &one[..])] {
        let spec = VolumeSpec {
            assume_clean: true,
            size_sectors: 16384,
            ..spec(&level.to_string(), level, disks)
        };
        world.apply(&Event::VolumeCreated(spec));
    }
    damage(&mut world, &[0, 1, 2]);
    assert!(is_read_only(&world));
    assert!(matches!(
        world.set.set().volume(1).unwrap().access,
        Access::ReadWrite
    ));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::DiskFailed(3));
    let activated = Event::SpareActivated {
        volume: 1,
        slot: 1,
        disk: spare,
    };
    world.apply(&activated);
    world.apply(&Event::RebuildDone { volume: 1, slot: 1 });
    world.apply(&Event::DiskRemoved(3));
    assert_eq!([0, 1].map(|disk| is_sound(&world, disk)), [false; 2]);
    world.set = open(&world.disks).unwrap();
    assert!(is_read_only(&world));
}
