// SPDX-License-Identifier: GPL-2.0

//! What cannot be is refused, changes nothing, and says why.

use crate::ddf_common::damage::edited;
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{apply, blanks, carry_out, context, create, facts, open, writes};
use emd_core::metadata::bytes::Endian;
use emd_core::metadata::ddf::create::{create_with, Room};
use emd_core::metadata::ddf::layout::Section;
use emd_core::metadata::ddf::tables::{entry_mut, set_count};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    DiskOffer, Event, Layout, Level, Rotation, SpareRole, Text, VolumeSpec, DISKS_MAX,
};
use host_tests::samples::Disk;

#[test]
fn refusals_say_why() {
    let mut world = World::created(3, 50, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    let says = |world: &mut World, spec: VolumeSpec<'_>, part: &str| {
        let why = world.refuse(&Event::VolumeCreated(spec));
        assert!(why.contains(part), "{why}");
    };
    says(
        &mut world,
        spec("a name that is long", Level::Raid5, &all),
        "16",
    );
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(0), Some(1)]),
        "twice",
    );
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(1)]),
        "3 to 64",
    );
    says(
        &mut world,
        spec("v", Level::Raid5, &[Some(0), Some(1), Some(9)]),
        "no disk 9",
    );
    says(
        &mut world,
        VolumeSpec {
            chunk_sectors: 3,
            ..spec("v", Level::Raid5, &all)
        },
        "power of two",
    );
    says(
        &mut world,
        VolumeSpec {
            size_sectors: 1 << 40,
            ..spec("v", Level::Raid5, &all)
        },
        "at most",
    );
    says(
        &mut world,
        VolumeSpec {
            layout: Some(Layout::Parity(Rotation::DdfNRestart)),
            ..spec("v", Level::Raid5, &all)
        },
        "layout",
    );
    for event in [
        Event::DiskFailed(7),
        Event::DiskMissing(7),
        Event::DiskRemoved(7),
        Event::SpareAssigned(7, SpareRole::Global),
        Event::SpareAssigned(0, SpareRole::Dedicated(0)),
        Event::SpareActivated {
            volume: 0,
            slot: 0,
            disk: 0,
        },
        Event::Dirty(0),
        Event::Clean(3),
        Event::ResyncDone(0),
        Event::RebuildDone { volume: 0, slot: 0 },
        Event::RebuildProgress {
            volume: 0,
            slot: 0,
            done_sectors: 0,
        },
        Event::VolumeDeleted(0),
        Event::VolumeRenamed(0, Text::from_text("x")),
        Event::DiskReturned(0, facts(&world.disks[0].clone(), 0)),
    ] {
        world.refuse(&event);
    }
    let small = DiskOffer {
        facts: facts(&Disk::blank("s", 32 * 2048, 512), 77),
        role: SpareRole::None,
    };
    let why = world.refuse(&Event::DiskAdded(small));
    assert!(why.contains("at least 67584"), "{why}");
    let other = DiskOffer {
        facts: facts(&Disk::blank("s", 64 * 2048, 4096), 77),
        role: SpareRole::None,
    };
    world.refuse(&Event::DiskAdded(other));
}

#[test]
fn create_refuses_what_cannot_be() {
    use emd_core::metadata::ddf::create::create;
    let disk = |mib: u64, block| facts(&Disk::blank("d", mib * 2048, block), mib);
    assert!(create(&[], "n", &context(1)).is_err());
    let why = create(&[disk(32, 512)], "n", &context(1)).unwrap_err();
    assert!(why.text().contains("at least 67584"), "{why}");
    assert!(create(&[disk(64, 512), disk(65, 4096)], "n", &context(1)).is_err());
    assert!(create(&[disk(64, 512), disk(64, 512)], "n", &context(1)).is_err());
    assert!(create(&[disk(33, 512), disk(65, 512)], "n", &context(1)).is_ok());
}

/// Disks that were removed keep their index as long as the set runs, and what is kept by index has room for so many.
#[test]
fn a_set_sees_so_many_disks_and_no_more() {
    let room = Room {
        disks: 15,
        volumes: 15,
        partitions: 4,
    };
    let mut disks = blanks(2, 40, 512);
    let first = facts(&disks[0], 0);
    let mut set = create_with(&room, &[first], "set", &context(0)).unwrap();
    carry_out(&mut disks, &writes(&set));
    let offer = DiskOffer {
        facts: facts(&disks[1], 1),
        role: SpareRole::Global,
    };
    for n in 1..DISKS_MAX as u16 {
        let added = Event::DiskAdded(offer);
        apply(&mut set, &mut disks, &added, u64::from(n)).unwrap();
        let index = set.set().disk_by_key(1).unwrap();
        assert_eq!(index, n);
        let removed = Event::DiskRemoved(index);
        apply(&mut set, &mut disks, &removed, u64::from(n)).unwrap();
    }
    let why = set
        .apply(&Event::DiskAdded(offer), &context(1))
        .unwrap_err();
    assert!(why.text().contains("start it anew"), "{why}");
    let mut set = open(&disks).unwrap();
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 2).unwrap();
}

/// The same when it starts: disks that it does not list are left out.
#[test]
fn a_set_starts_with_so_many_disks_and_no_more() {
    let mut disks = blanks(3, 40, 512);
    let mut set = create(&mut disks, "set");
    let unlisted = disks[2].clone();
    apply(&mut set, &mut disks, &Event::DiskRemoved(2), 1).unwrap();
    disks[2] = unlisted;
    let disks = edited(&disks, &set, Section::Disks, &|_, bytes| {
        for index in 2..DISKS_MAX as u16 {
            let mut entry = entry_mut(bytes, Endian::Big, index);
            let mut guid = *b"ATA                     ";
            guid[22..].copy_from_slice(&index.to_be_bytes());
            entry.fill_disk(&guid, u32::from(index), 1000, 512);
        }
        set_count(bytes, Endian::Big, DISKS_MAX as u16);
    });
    let set = open(&disks).unwrap();
    assert_eq!(set.set().disks.len(), DISKS_MAX);
    assert_eq!(set.set().disk_by_key(2), None);
    let notes = &set.set().notes;
    assert!(notes.iter().any(|note| note.as_str().contains("left out")));
}
