// SPDX-License-Identifier: GPL-2.0

//! What the tests of EMD's own records share.

use super::open;
use super::world::{spec, World};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Event, Level, RegionLog, VolumeSpec};
use host_tests::samples::Disk;

/// A clean volume on `count` disks of 128 MiB: 24 regions of 4 MiB on each member.
pub fn clean(level: Level, count: u16, block: u32) -> World {
    let mut world = World::created(usize::from(count), 128, block, 0);
    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
    let spec = VolumeSpec {
        assume_clean: true,
        ..spec("vol", level, &disks)
    };
    world.apply(&Event::VolumeCreated(spec));
    world
}

pub fn regions(set: &DdfSet) -> &RegionLog {
    set.set().volume(0).unwrap().regions.as_ref().unwrap()
}

pub fn dirty(set: &DdfSet) -> Vec<u32> {
    let log = regions(set);
    (0..log.regions).filter(|&r| log.is_dirty(r)).collect()
}

pub fn all(set: &DdfSet) -> Vec<u32> {
    (0..regions(set).regions).collect()
}

pub fn reopened(disks: &[Disk]) -> Box<DdfSet> {
    open(disks).unwrap()
}

pub fn mark(first: u32, count: u32) -> Event<'static> {
    Event::RegionsDirty {
        volume: 0,
        first,
        count,
    }
}

pub fn unmark(first: u32, count: u32) -> Event<'static> {
    Event::RegionsClean {
        volume: 0,
        first,
        count,
    }
}

/// Writes both copies on all disks with the headers' counter `by` higher.
pub fn bump(set: &DdfSet, disks: &mut [Disk], by: u32) {
    for (index, _) in set.set().live_disks() {
        let Some(home) = set.home(index) else {
            continue;
        };
        let key = set.set().disk(index).unwrap().facts.unwrap().key as usize;
        for copy in home.copies.into_iter().flatten() {
            let mut header = disks[key].read(copy, 1);
            let next = set.sequence + by;
            header[0x28..0x2C].copy_from_slice(&next.to_be_bytes());
            home.layout.crc.seal(&mut header, home.layout.endian);
            disks[key].write(copy, &header);
        }
    }
}

/// Takes EMD's section out of the headers of disk `index`, as on a disk whose headers somebody else made.
pub fn drop_section(set: &DdfSet, disks: &mut [Disk], index: u16) {
    let home = set.home(index).unwrap();
    let disk = &mut disks[usize::from(index)];
    for block in home.copies.into_iter().flatten().chain([home.anchor]) {
        let mut header = disk.read(block, 1);
        header[0xF8..0xFC].fill(0xFF);
        header[0xFC..0x100].fill(0);
        home.layout.crc.seal(&mut header, home.layout.endian);
        disk.write(block, &header);
    }
}
