// SPDX-License-Identifier: GPL-2.0

//! What other makers of sets do in their own way: Adaptec's firmware, FreeBSD's graid, LSI's firmware. Their sets are made from
//! ours here, edited and sealed, where there is no sample.

use crate::ddf_common::damage::{edited, with_spare};
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{apply, blanks, create, facts, open, show};
use emd_core::metadata::ddf::layout::{pde, vde, Section, ENTRY_BYTES, TABLE_HEAD};
use emd_core::metadata::ddf::{Ddf, DdfSet};
use emd_core::metadata::{Format, MetadataSet};
use emd_core::model::{
    DiskOffer, DiskRole, DiskState, Event, Layout, Level, MemberState, Rotation, SpareRole,
    VolumeSpec,
};
use host_tests::samples::{load, Disk};

/// Where a field of an entry is in its table.
fn at(index: u16, field: usize) -> usize {
    TABLE_HEAD + usize::from(index) * ENTRY_BYTES + field
}

/// Names Adaptec as the vendor of the controller, on all disks.
fn of_adaptec(set: &DdfSet, disks: &[Disk]) -> Vec<Disk> {
    edited(disks, set, Section::Controller, &|_, bytes| {
        bytes[0x20..0x22].copy_from_slice(&0x9005u16.to_be_bytes());
    })
}

/// Sizes with a high half of all ones are 32-bit ones, and say nothing of the disk's state.
#[test]
fn adaptecs_sizes_hide_no_failure() {
    let (set, disks) = with_spare();
    let disks = of_adaptec(&set, &disks);
    let usable = set.set().disk(1).unwrap().usable_sectors;
    let disks = edited(&disks, &set, Section::Disks, &|_, bytes| {
        for index in 0..4 {
            bytes[at(index, pde::SIZE)..][..4].fill(0xFF);
        }
        bytes[at(1, pde::STATE)..][..2].copy_from_slice(&(pde::ONLINE | pde::FAILED).to_be_bytes());
    });
    let disks = edited(&disks, &set, Section::Volumes, &|_, bytes| {
        bytes[at(0, vde::STATE)] = vde::DEGRADED;
    });
    for here in [&disks[..], &disks[..1]] {
        let set = open(here).unwrap();
        let text = show(set.set());
        assert_eq!(
            set.set().disk(1).unwrap().state,
            DiskState::Failed,
            "{text}"
        );
        assert_eq!(set.set().disk(1).unwrap().usable_sectors, usable, "{text}");
    }
    let set = open(&disks).unwrap();
    let member = set.set().volume(0).unwrap().members[1];
    assert_eq!(member.state, MemberState::Failed);
}

/// Old versions of graid wrote the state into the high bits of the size, and a failed bit that means nothing. What others
/// write there hides no failure.
#[test]
fn only_graid_misplaced_states() {
    let disks = load("ddf/gen-freebsd/ddf-raid1-2d");
    let graid = (open(&disks).unwrap(), disks);
    for ((set, disks), state) in [
        (graid, DiskState::Online),
        (with_spare(), DiskState::Failed),
    ] {
        let usable = set.set().disk(1).unwrap().usable_sectors;
        let disks = edited(&disks, &set, Section::Disks, &|_, bytes| {
            bytes[at(1, pde::SIZE)..][..2].copy_from_slice(&pde::ONLINE.to_be_bytes());
            bytes[at(1, pde::STATE)..][..2]
                .copy_from_slice(&(pde::ONLINE | pde::FAILED).to_be_bytes());
        });
        let set = open(&disks).unwrap();
        let text = show(set.set());
        assert_eq!(set.set().disk(1).unwrap().state, state, "{text}");
        assert_eq!(set.set().disk(1).unwrap().usable_sectors, usable, "{text}");
    }
}

/// graid marks spares with the bit of dedicated ones, and writes a record that is for all volumes.
#[test]
fn the_record_says_what_a_spare_is_for() {
    let (set, disks) = with_spare();
    let dedicated = Event::SpareAssigned(3, SpareRole::Dedicated(0));
    let record = |edit: &dyn Fn(&mut [u8])| {
        let (mut set, mut disks) = with_spare();
        apply(&mut set, &mut disks, &dedicated, 3).unwrap();
        edited(&disks, &set, Section::Config, &|disk, bytes| {
            if disk == 3 {
                edit(bytes);
            }
        })
    };
    let own = record(&|_| {});
    let for_all = record(&|bytes| bytes[0x13] = 0);
    let unknown = record(&|bytes| bytes[0x30] ^= 0x55);
    let (global, bit3) = (pde::GLOBAL_SPARE, pde::DEDICATED_SPARE);
    for (disks, kind, role) in [
        (&own, bit3, DiskRole::DedicatedSpare(0)),
        (&own, bit3 | global, DiskRole::DedicatedSpare(0)),
        (&own, global, DiskRole::GlobalSpare),
        (&own, 0, DiskRole::Unused),
        (&for_all, bit3, DiskRole::GlobalSpare),
        (&for_all, bit3 | global, DiskRole::GlobalSpare),
        (&unknown, bit3, DiskRole::Unused),
        (&disks, bit3, DiskRole::Unused),
        (&disks, bit3 | global, DiskRole::GlobalSpare),
        (&disks, global, DiskRole::GlobalSpare),
    ] {
        let disks = edited(disks, &set, Section::Disks, &|_, bytes| {
            bytes[at(3, pde::TYPE)..][..2].copy_from_slice(&kind.to_be_bytes());
        });
        let set = open(&disks).unwrap();
        assert_eq!(set.set().disk(3).unwrap().role, role, "{kind:x}");
    }
}

/// What would be read back as another layout is not made.
#[test]
fn layouts_that_others_read_differently_are_not_made() {
    let adaptec = {
        let (set, disks) = with_spare();
        of_adaptec(&set, &disks)
    };
    let graid = {
        let disks = load("ddf/gen-freebsd/ddf-raid1-2d");
        let mut world = World::new(open(&disks).unwrap(), disks, 0);
        world.apply(&Event::VolumeDeleted(0));
        for _ in 0..2 {
            world.add(96, SpareRole::None);
        }
        world.disks
    };
    let all = [Some(0), Some(1), Some(2), Some(3)];
    for (disks, level, refused) in [
        (&adaptec, Level::Raid5, Rotation::RightAsymmetric),
        (&graid, Level::Raid6, Rotation::DdfZeroRestart),
    ] {
        let layouts = Ddf
            .capabilities()
            .levels
            .iter()
            .filter(|of| of.level == level);
        for layout in layouts.flat_map(|of| of.layouts) {
            let mut disks = disks.clone();
            let mut set = open(&disks).unwrap();
            let spec = VolumeSpec {
                layout: Some(*layout),
                ..spec("v", level, &all)
            };
            let refused = *layout == Layout::Parity(refused);
            let largest = set.largest_volume(&spec);
            assert_eq!(largest.is_err(), refused, "{layout}");
            let made = Event::VolumeCreated(spec);
            let result = apply(&mut set, &mut disks, &made, 3);
            if refused {
                let why = result.unwrap_err();
                assert!(why.text().contains("would be read"), "{why}");
                assert_eq!(why.errno(), kernel::error::code::EOPNOTSUPP);
                continue;
            }
            result.unwrap();
            let set = open(&disks).unwrap();
            let read = set
                .set()
                .live_volumes()
                .find(|(_, v)| v.name.as_str() == "v");
            assert_eq!(read.unwrap().1.shape.layout, *layout);
        }
    }
}

/// Sets of graid, with the anchor where Adaptec has it and the copy behind it.
fn with_copies_behind_the_anchor() -> Vec<Disk> {
    let mut disks = load("ddf/gen-freebsd/ddf-raid1-2d");
    let set = open(&disks).unwrap();
    for (index, disk) in (0..).zip(disks.iter_mut()) {
        let home = set.home(index).unwrap();
        let (layout, primary) = (home.layout, home.copies[0].unwrap());
        assert_eq!(home.copies[1], None);
        let moved = disk.size_sectors - 200;
        let anchor = disk.size_sectors - 257;
        let span = u64::from(layout.span_blocks());
        for (from, to, sectors) in [(primary, moved, span), (home.anchor, anchor, 1)] {
            let bytes = disk.read(from, sectors as usize);
            disk.write(from, &vec![0; bytes.len()]);
            disk.write(to, &bytes);
        }
        for header in [moved, anchor] {
            let mut bytes = disk.read(header, 1);
            bytes[0x60..0x68].copy_from_slice(&moved.to_be_bytes());
            layout.crc.seal(&mut bytes, layout.endian);
            disk.write(header, &bytes);
        }
    }
    disks
}

/// Distances of copies are counted from the anchor towards the start: a new disk would get no copy where that cannot be.
#[test]
fn a_disk_without_a_copy_is_not_made() {
    let disks = with_copies_behind_the_anchor();
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 0);
    let size = world.disks[0].size_sectors;
    let home = world.set.home(0).unwrap();
    assert_eq!(
        (home.anchor, home.copies[0]),
        (size - 257, Some(size - 200))
    );
    world.apply(&Event::Dirty(0));
    world.apply(&Event::DiskFailed(1));
    let back = facts(&world.disks[1], 1);
    let offer = DiskOffer {
        facts: facts(&Disk::blank("new", 2 * size, 512), 2),
        role: SpareRole::Global,
    };
    for event in [Event::DiskReturned(1, back), Event::DiskAdded(offer)] {
        let why = world.refuse(&event);
        assert!(why.contains("behind the anchor"), "{why}");
    }
}

/// Some firmware places the workspace where it cannot be, in the midst of the data: it does not make a new disk small.
#[test]
fn an_odd_workspace_takes_no_room() {
    const GIB: u64 = 1 << 21;
    let mut disks = blanks(1, 8 * 1024, 512);
    let set = create(&mut disks, "set");
    let usual = set.set().disk(0).unwrap().usable_sectors;
    let size = disks[0].size_sectors;
    for (workspace, added, wanted) in [
        (2048, size, usual),
        (size / 2, size, usual),
        (size - GIB / 2, size, size - GIB / 2),
        // More than a GiB, but a small part of a large disk.
        (size - 2 * GIB, 64 * GIB, 64 * GIB - 2 * GIB),
        (size - 5 * GIB, 64 * GIB, 64 * GIB - (size - usual)),
    ] {
        let mut disks = disks.clone();
        let home = set.home(0).unwrap();
        for header in home.copies.into_iter().flatten() {
            let mut bytes = disks[0].read(header, 1);
            bytes[0x78..0x80].copy_from_slice(&workspace.to_be_bytes());
            home.layout.crc.seal(&mut bytes, home.layout.endian);
            disks[0].write(header, &bytes);
        }
        let mut set = open(&disks).unwrap();
        disks.push(Disk::blank("new", added, 512));
        let offer = DiskOffer {
            facts: facts(&disks[1], 1),
            role: SpareRole::Global,
        };
        apply(&mut set, &mut disks, &Event::DiskAdded(offer), 3).unwrap();
        let usable = set.set().disk(1).unwrap().usable_sectors;
        assert_eq!(usable, wanted, "{workspace} of {size}");
    }
}
