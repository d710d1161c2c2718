// SPDX-License-Identifier: GPL-2.0

//! The bad-block log has 254 entries: what does not fit is refused, before anything has changed, and
//! nothing falls out of it.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{open, reseal};
use emd_core::metadata::imsm::layout::{attribute, bad as log, header, Raw};
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, Event, Level, SpareRole, VolumeSpec};
use emd_core::personalities::bad;

const ENTRIES: u64 = 254;

fn mirror() -> World {
    let mut world = World::created(2, 64, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
    world
}

/// Ranges of three blocks, apart from each other.
fn range(disk: u16, nth: u64) -> BadRange {
    BadRange {
        disk,
        sector: 100 + 8 * nth,
        sectors: 3,
    }
}

fn add(world: &mut World, disk: u16, count: u64) {
    for nth in 0..count {
        world.step += 1;
        let event = Event::BadRangeAdded(range(disk, nth));
        world
            .set
            .apply(&event, &crate::imsm_common::context(world.step))
            .unwrap();
        let plan = crate::imsm_common::writes(&world.set);
        crate::imsm_common::carry_out(&mut world.disks, &plan);
    }
    world.check("ranges");
}

#[test]
fn a_full_log_takes_no_more() {
    let mut world = mirror();
    // One entry is kept back for a range that another one cuts.
    add(&mut world, 0, ENTRIES - 1);
    let why = world.refuse(&Event::BadRangeAdded(range(1, 0)));
    assert!(why.contains("full"), "{why}");
}

/// What becomes good in the middle of a range makes two of it.
#[test]
fn a_range_is_not_cut_when_the_second_half_has_no_room() {
    let mut world = mirror();
    add(&mut world, 0, ENTRIES - 1);
    let middle = |nth: u64| BadRange {
        sector: range(0, nth).sector + 1,
        sectors: 1,
        ..range(0, nth)
    };
    world.apply(&Event::BadRangeCleared(middle(0)));
    let why = world.refuse(&Event::BadRangeCleared(middle(1)));
    assert!(why.contains("full"), "{why}");
    // What makes it shorter is all right, and what ends it.
    world.apply(&Event::BadRangeCleared(BadRange {
        sectors: 1,
        ..range(0, 1)
    }));
    world.apply(&Event::BadRangeCleared(range(0, 2)));
    world.apply(&Event::BadRangeCleared(middle(3)));
}

/// Of a spare, ranges are kept in memory only; in the table they all have to be in the log.
#[test]
fn a_spare_with_more_than_the_log_holds_is_not_used() {
    let mut world = mirror();
    let spare = world.add(64, SpareRole::Global);
    for nth in 0..ENTRIES + 20 {
        world
            .set
            .apply(
                &Event::BadRangeAdded(range(spare, nth)),
                &crate::imsm_common::context(1),
            )
            .unwrap();
        assert!(world.set.plan().is_empty());
    }
    world
        .set
        .apply(&Event::DiskFailed(1), &crate::imsm_common::context(2))
        .unwrap();
    let activation = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    };
    let why = world.refuse(&activation);
    assert!(why.contains("full"), "{why}");
    for nth in 0..40 {
        world
            .set
            .apply(
                &Event::BadRangeCleared(range(spare, nth)),
                &crate::imsm_common::context(3),
            )
            .unwrap();
    }
    world.apply(&activation);
    let listed = world.set.set().bad_ranges.len() as u64;
    assert_eq!(listed, ENTRIES + 20 - 40);
}

/// The entries of the log, as they are: blocks, disk, first block.
fn entries(world: &World) -> Vec<(u64, u8, u64)> {
    let raw = world.set.mpb.raw();
    let Some(at) = raw.bad_log_at() else {
        return Vec::new();
    };
    (0..raw.u32(at + log::COUNT) as usize)
        .map(|nth| at + log::ENTRIES + nth * log::ENTRY_BYTES)
        .map(|at| {
            let [a, b, c, d, e, f] = raw.array::<6>(at + 2);
            let first = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
            (u64::from(raw.u8(at)) + 1, raw.u8(at + 1), first)
        })
        .collect()
}

/// mdadm counts an entry's sectors of 512 bytes in a byte, also where blocks are longer.
#[test]
fn entries_are_no_longer_than_mdadm_can_count() {
    for (block, most) in [(512u32, 256u64), (4096, 32)] {
        let mut world = World::created(2, 64, block, 0);
        let two = [Some(0), Some(1)];
        world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
        let scale = u64::from(block / 512);
        let sectors = 70 * 32 * 8;
        world.apply(&Event::BadRangeAdded(BadRange {
            disk: 1,
            sector: 4096,
            sectors: sectors as u32,
        }));
        let blocks = sectors / scale;
        let all = entries(&world);
        assert_eq!(all.len() as u64, blocks.div_ceil(most));
        assert!(all
            .iter()
            .all(|(blocks, disk, _)| *blocks <= most && *disk == 1));
        assert_eq!(all.iter().map(|(blocks, ..)| blocks).sum::<u64>(), blocks);
        // What does not fit so is refused.
        let much = BadRange {
            disk: 0,
            sector: 4096,
            sectors: (ENTRIES * most * scale) as u32,
        };
        let why = world.refuse(&Event::BadRangeAdded(much));
        assert!(why.contains("full"), "{why}");
    }
}

/// Longer ones, as others may have written them, are not lost when there is no room for more.
#[test]
fn long_entries_of_others_are_kept() {
    let mut world = World::created(2, 300, 4096, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
    for nth in 0..2u64 {
        world.apply(&Event::BadRangeAdded(BadRange {
            disk: 1,
            sector: 4096 * (1 + nth),
            sectors: 8,
        }));
    }
    // 20 times 256 blocks need 160 entries each for two disks.
    for disk in &mut world.disks {
        reseal(disk, &mut |mpb| {
            let raw = |mpb: &[u8]| {
                let raw = Raw {
                    anchor: mpb,
                    rest: &[],
                };
                (raw.size(), raw.bad_log_at().unwrap())
            };
            let (size, at) = raw(mpb);
            let end = size + 38 * log::ENTRY_BYTES;
            mpb.resize(mpb.len().max(end), 0);
            for nth in 0..40u64 {
                let first = 256 * (nth % 20) * 2;
                let mut entry = [0xFF, (nth / 20) as u8, 0, 0, 0, 0, 0, 0];
                entry[2..].copy_from_slice(&first.to_le_bytes()[..6]);
                let at = at + log::ENTRIES + nth as usize * log::ENTRY_BYTES;
                mpb[at..at + log::ENTRY_BYTES].copy_from_slice(&entry);
            }
            mpb[at + log::COUNT..][..4].copy_from_slice(&40u32.to_le_bytes());
            mpb[header::SIZE..][..4].copy_from_slice(&(end as u32).to_le_bytes());
            let log = (end - at) as u32;
            mpb[header::BAD_LOG_BYTES..][..4].copy_from_slice(&log.to_le_bytes());
        });
    }
    world.set = open(&world.disks).unwrap();
    let bad = |world: &World| -> u64 {
        let ranges = world.set.set().bad_ranges.iter();
        ranges.map(|range| u64::from(range.sectors)).sum()
    };
    assert_eq!(bad(&world), 40 * 256 * 8);
    world.apply(&Event::BadRangeCleared(BadRange {
        disk: 0,
        sector: 0,
        sectors: 8,
    }));
    assert_eq!(bad(&world), 40 * 256 * 8 - 8);
    world.set = open(&world.disks).unwrap();
    assert_eq!(bad(&world), 40 * 256 * 8 - 8);
}

/// What is bad on a disk that leaves the table is not what is bad on the one that gets its number.
#[test]
fn entries_go_with_their_disk() {
    let mut world = World::created(3, 64, 512, 4);
    let all = [Some(0), Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &all)));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::DiskMissing(0));
    let back = crate::imsm_common::facts(&world.disks[0], 0);
    world.apply(&Event::DiskReturned(0, back));
    // Its place is kept for it; meanwhile something on it turns bad.
    world.apply(&Event::BadRangeAdded(range(0, 0)));
    world.apply(&Event::BadRangeAdded(range(2, 5)));
    assert_eq!(entries(&world).len(), 2);
    // The spare takes its place, and it leaves the table.
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.set.entry(0), None);
    let disk = world.set.entry(2).unwrap();
    assert_eq!(entries(&world), [(3, disk, range(2, 5).sector)]);
    let again = open(&world.disks).unwrap();
    assert_eq!(again.set().bad_ranges.len(), 1);
}

/// What was bad of a volume is nothing to the one that comes into its place; what is bad of the other volume stays.
#[test]
fn ranges_go_with_their_volume() {
    for block in [512u32, 4096] {
        let mut world = World::created(3, 120, block, 0);
        let all = [Some(0), Some(1), Some(2)];
        for name in ["first", "second"] {
            world.apply(&Event::VolumeCreated(VolumeSpec {
                size_sectors: 80 << 11,
                ..spec(name, Level::Raid5, &all)
            }));
        }
        let start = |world: &World, volume| {
            let model = world.set.set().volume(volume).unwrap();
            let (first, sectors) = (model.members[0].offset_sectors, model.shape.member_sectors);
            assert!(model.members.iter().all(|one| one.offset_sectors == first));
            (first, first + sectors)
        };
        let ((first, first_end), (second, _)) = (start(&world, 0), start(&world, 1));
        let scale = u64::from(block / 512);
        let range = |disk, sector| BadRange {
            disk,
            sector,
            sectors: 8,
        };
        for lost in [
            range(0, first),
            range(1, first + 800),
            range(2, first_end - 8),
        ] {
            world.apply(&Event::BadRangeAdded(lost));
        }
        for kept in [range(0, second), range(2, second + 80)] {
            world.apply(&Event::BadRangeAdded(kept));
        }
        world.apply(&Event::VolumeDeleted(0));
        let blocks = 8 / scale;
        let names = |disk| world.set.entry(disk).unwrap();
        assert_eq!(
            entries(&world),
            [
                (blocks, names(0), second / scale),
                (blocks, names(2), (second + 80) / scale)
            ]
        );
        assert_eq!(open(&world.disks).unwrap().set().bad_ranges.len(), 2);
        // As mdadm has it: a log, and its attribute, only where something is in it.
        world.apply(&Event::BadRangeCleared(range(0, second)));
        world.apply(&Event::VolumeCreated(spec("third", Level::Raid5, &all)));
        world.apply(&Event::VolumeDeleted(1));
        assert!(entries(&world).is_empty());
        let raw = world.set.mpb.raw();
        assert_eq!(raw.attributes() & attribute::BAD_LOG, 0);
        assert_eq!(raw.u32(header::BAD_LOG_BYTES), 0);
        assert!(open(&world.disks).unwrap().set().bad_ranges.is_empty());
    }
}

/// A volume that keeps no redundancy has no holes, as nothing is rebuilt there: what the log says is of others, and its
/// data is read.
#[test]
fn a_volume_without_redundancy_has_no_bad_ranges() {
    for (level, known) in [(Level::Raid0, 0), (Level::Raid1, 1)] {
        let mut world = World::created(2, 64, 512, 0);
        let two = [Some(0), Some(1)];
        world.apply(&Event::VolumeCreated(spec("v", level, &two)));
        world.apply(&Event::BadRangeAdded(range(1, 0)));
        let set = world.set.set();
        let model = set.volume(0).unwrap();
        let (level, sectors) = (model.shape.level, model.shape.member_sectors);
        let spots = bad::known(set, level, &model.members, sectors).unwrap();
        assert_eq!(spots.len(), known, "{level:?}");
    }
}
