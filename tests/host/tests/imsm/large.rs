// SPDX-License-Identifier: GPL-2.0

//! Disks of 2 TiB and more in a set that had none.

use crate::imsm_common::open;
use crate::imsm_common::world::{spec, World};
use emd_core::metadata::imsm::layout::{disk as entry, map, volume};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, Event, Level, SpareRole, VolumeSpec};

/// What was not counted so far, since no disk was large, is not when the first one is: old firmware may have had something
/// there, and mdadm clears it.
#[test]
fn the_first_large_disk_makes_no_old_word_count() {
    let mut world = World::created(3, 64, 512, 0);
    let all = [Some(0), Some(1), Some(2)];
    let half = VolumeSpec {
        size_sectors: 2 * 16384,
        ..spec("v", Level::Raid5, &all)
    };
    world.apply(&Event::VolumeCreated(half));
    let raw = world.set.mpb.raw();
    let first = raw.volume_at(0) + volume::BYTES;
    let mut words: Vec<usize> = (0..3)
        .map(|disk| raw.disk_at(disk) + entry::BLOCKS_HI)
        .collect();
    words.extend([map::START_HI, map::BLOCKS_HI, map::STRIPES_HI].map(|at| first + at));
    for at in words {
        assert_eq!(world.set.mpb.raw().u32(at), 0);
        world.set.mpb.put32(at, 7);
    }
    world.apply(&Event::Dirty(0));
    world.apply(&Event::Clean(0));
    world.apply(&Event::DiskMissing(1));
    let spare = world.add(4 << 20, SpareRole::Global);
    // The second map of a rebuild is a copy of the first.
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    let again = open(&world.disks).unwrap();
    let volume = again.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite), "{volume:?}");
    let blocks: Vec<u64> = (0..again.mpb.raw().disks())
        .map(|entry| again.mpb.raw().disk_blocks(entry))
        .collect();
    assert_eq!(blocks, [131_072, 131_072, 1 << 33]);
}
