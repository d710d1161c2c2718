// SPDX-License-Identifier: GPL-2.0

//! A small set to damage.

use super::{apply, blanks, create, open};
use emd_core::metadata::ddf::layout::Section;
use emd_core::metadata::ddf::DdfSet;
use emd_core::model::{Event, Level, SpareRole, VolumeSpec};
use host_tests::samples::Disk;
use host_tests::shell;

pub fn spec<'a>(name: &str, level: Level, size: u64, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        size_sectors: size,
        assume_clean: true,
        ..shell::spec(name, level, disks)
    }
}

/// Three disks, a RAID 5 and a RAID 1 on them.
pub fn world(block: u32) -> (Box<DdfSet>, Vec<Disk>) {
    let mut disks = blanks(3, 64, block);
    let mut set = create(&mut disks, "set");
    let all = [Some(0), Some(1), Some(2)];
    let five = Event::VolumeCreated(spec("five", Level::Raid5, 32768, &all));
    apply(&mut set, &mut disks, &five, 1).unwrap();
    let two = [Some(1), Some(2)];
    let one = Event::VolumeCreated(spec("one", Level::Raid1, 16384, &two));
    apply(&mut set, &mut disks, &one, 2).unwrap();
    (set, disks)
}

/// A RAID 5 on disks 0 to 2, and a spare, disk 3.
pub fn with_spare() -> (Box<DdfSet>, Vec<Disk>) {
    let slots = [Some(0), Some(1), Some(2)];
    let mut disks = blanks(4, 64, 512);
    let mut set = create(&mut disks, "set");
    let one = Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("one", Level::Raid5, 16384, &slots)
    });
    apply(&mut set, &mut disks, &one, 1).unwrap();
    let assigned = Event::SpareAssigned(3, SpareRole::Global);
    apply(&mut set, &mut disks, &assigned, 2).unwrap();
    (set, disks)
}

pub fn flip(disk: &mut Disk, byte: u64, mask: u8) {
    let mut sector = disk.read(byte / 512, 1);
    sector[(byte % 512) as usize] ^= mask;
    disk.write(byte / 512, &sector);
}

/// Changes a record or entry on every disk and copy, seals it, and opens the result.
pub fn with_edit(
    disks: &[Disk],
    set: &DdfSet,
    section: Section,
    edit: &dyn Fn(usize, &mut [u8]),
) -> Box<DdfSet> {
    let changed = edited(disks, set, section, edit);
    open(&changed).unwrap_or_else(|why| panic!("{why:?}"))
}

/// As above: the changed disks.
pub fn edited(
    disks: &[Disk],
    set: &DdfSet,
    section: Section,
    edit: &dyn Fn(usize, &mut [u8]),
) -> Vec<Disk> {
    let mut changed = disks.to_vec();
    for (index, disk) in changed.iter_mut().enumerate() {
        let Some(home) = set.home(index as u16) else {
            continue;
        };
        let layout = home.layout;
        for copy in home.copies.into_iter().flatten() {
            let place = layout.place(section);
            let sector = (copy + u64::from(place.offset)) * layout.block_sectors();
            let len = match section {
                Section::Config => layout.record_bytes as usize,
                _ => layout.section_bytes(section),
            };
            let mut bytes = disk.read(sector, len / 512);
            edit(index, &mut bytes);
            layout.crc.seal(&mut bytes, layout.endian);
            disk.write(sector, &bytes);
        }
    }
    changed
}
