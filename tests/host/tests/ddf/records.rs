// SPDX-License-Identifier: GPL-2.0

//! EMD's own records in the vendor log: marks and regions outlive a restart and a crash, and cost little.

use crate::ddf_common::records::{all, clean, dirty, mark, regions, reopened, unmark};
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{
    assert_same, carry_out, context, cut_everywhere, open, open_keyed, show, writes, Random,
};
use emd_core::metadata::ddf::vendor_log::Plan;
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, Event, Level, MemberState, Scrub, SpareRole, VolumeSpec};
use host_tests::samples::Disk;

#[test]
fn regions_outlive_a_crash() {
    for (level, count, block) in [
        (Level::Raid1, 2, 512),
        (Level::Raid5, 3, 4096),
        (Level::Raid10, 4, 512),
        (Level::Raid6, 4, 512),
    ] {
        let mut world = clean(level, count, block);
        assert_eq!(dirty(&world.set), []);
        world.apply(&Event::Dirty(0));
        world.apply(&mark(3, 2));
        world.apply(&mark(7, 1));
        world.apply(&unmark(4, 1));
        let set = reopened(&world.disks);
        assert_eq!(dirty(&set), [3, 7], "{level}");
        assert_eq!(set.set().volume(0).unwrap().consistency, Consistency::Dirty);
        // Any one member that is left tells, too.
        for key in 0..count {
            let one = open_keyed(&[(u64::from(key), &world.disks[usize::from(key)])]).unwrap();
            assert_eq!(dirty(&one), [3, 7], "{level}: disk {key}");
        }
        // Once redundancy agrees, what was noted before means nothing.
        world.apply(&Event::Clean(0));
        assert_eq!(dirty(&reopened(&world.disks)), []);
        world.apply(&Event::Dirty(0));
        world.apply(&mark(1, 1));
        let after = dirty(&reopened(&world.disks));
        assert!(after.contains(&1), "{after:?}");
    }
}

/// A volume keeps regions of the length with which it was made. What no volume of its size could have counts
/// as damage: everything may be dirty then.
#[test]
fn the_recorded_length_of_regions_counts() {
    let mut world = clean(Level::Raid5, 3, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    let usual = regions(&world.set).region_sectors;
    let extent = world.set.set().volume(0).unwrap().shape.member_sectors;
    let plan = Plan::new(512);
    for (sectors, counts) in [(64, true), (1 << 15, true), (3 << 12, false), (8, false)] {
        let mut disks = world.disks.clone();
        for (key, disk) in (0u16..).zip(disks.iter_mut()) {
            let home = world.set.home(key).unwrap();
            let first = home.vendor.as_ref().unwrap().block;
            for n in 0..plan.region_blocks {
                let at = first + u64::from(plan.region(0, n));
                let mut block = disk.read(at, 1);
                block[0x30..0x38].copy_from_slice(&u64::to_be_bytes(sectors));
                let count = extent.div_ceil(sectors) as u32;
                block[0x38..0x3C].copy_from_slice(&count.to_be_bytes());
                home.layout.crc.seal(&mut block, home.layout.endian);
                disk.write(at, &block);
            }
        }
        let set = reopened(&disks);
        let log = regions(&set);
        if counts {
            assert_eq!(log.region_sectors, sectors);
            assert_eq!(u64::from(log.regions), extent.div_ceil(sectors));
            assert_eq!(dirty(&set), [3], "{sectors}");
        } else {
            assert_eq!(log.region_sectors, usual, "{sectors}");
            assert_eq!(dirty(&set), all(&set), "{sectors}");
        }
    }
}

/// A mark of a region is one block on each member, in one phase, and nothing when it is marked already.
#[test]
fn a_region_costs_one_block_a_member() {
    for block in [512, 4096] {
        let mut world = clean(Level::Raid5, 3, block);
        world.add(128, SpareRole::Global);
        world.apply(&Event::Dirty(0));
        world.apply(&mark(5, 1));
        let plan = writes(&world.set);
        assert_eq!(plan.len(), 3, "on the members, not on the spare");
        for write in &plan {
            assert_eq!((write.phase, write.bytes.len()), (0, block as usize));
        }
        let before = world.set.sequence;
        world.apply(&mark(5, 1));
        assert!(world.set.plan().is_empty());
        world.apply(&unmark(5, 1));
        assert_eq!(world.set.plan().writes().len(), 3);
        world.apply(&unmark(5, 1));
        assert!(world.set.plan().is_empty());
        assert_eq!(before, world.set.sequence, "headers stay as they are");
        let last = regions(&world.set).regions;
        world.refuse(&mark(last, 1));
        world.refuse(&mark(0, last + 1));
        world.refuse(&mark(u32::MAX, 2));
    }
}

/// A volume of many regions has its bits in several blocks.
#[test]
fn bits_of_large_volumes() {
    use emd_core::metadata::ddf::vendor_log::region_log;
    use emd_core::model::{Layout, Shape};
    for shift in [14u32, 20, 25, 30, 33, 40, 50] {
        for odd in [0u64, 1] {
            let shape = Shape {
                level: Level::Raid1,
                layout: Layout::Plain,
                members: 2,
                spans: 1,
                chunk_sectors: 0,
                member_sectors: (1 << shift) + odd,
            };
            let log = region_log(&shape, shape.member_sectors).unwrap();
            assert!(
                log.regions >= 1 && log.regions <= 8192,
                "{shift}: {}",
                log.regions
            );
            assert!(log.region_sectors.is_power_of_two());
            let covered = log.region_sectors * u64::from(log.regions);
            assert!(covered >= shape.member_sectors);
            assert!(covered - log.region_sectors < shape.member_sectors);
        }
    }
    for block in [512, 4096] {
        let plan = Plan::new(block);
        assert!(plan.regions_per_block() * plan.region_blocks >= 8192);
        assert!(u64::from(plan.blocks()) * u64::from(block) < 400 << 10);
        // Some block always has room for three ranges more.
        assert!(plan.bad_blocks as usize * (plan.bad_per_block() - 2) > 1024);
    }
    // 20 GiB in regions of 4 MiB: bits beyond the first block.
    let mut disks = crate::ddf_common::blanks(2, 20 << 10, 512);
    let mut set = crate::ddf_common::create(&mut disks, "big");
    let two = [Some(0), Some(1)];
    let spec = VolumeSpec {
        assume_clean: true,
        ..spec("big", Level::Raid1, &two)
    };
    let mut n = 1;
    let mut apply = |set: &mut DdfSet, event: &Event<'_>| {
        n += 1;
        set.apply(event, &context(n)).unwrap();
        let plan = writes(set);
        carry_out(&mut disks, &plan);
        assert_same(set, &disks, &format!("{event:?}"));
        plan.len()
    };
    apply(&mut set, &Event::VolumeCreated(spec));
    assert!(regions(&set).regions > 4000);
    apply(&mut set, &Event::Dirty(0));
    assert_eq!(
        apply(&mut set, &mark(3583, 2)),
        2,
        "neighbours are one write"
    );
    assert_eq!(apply(&mut set, &mark(4100, 1)), 2);
    assert_eq!(dirty(&reopened(&disks)), [3583, 3584, 4100]);
}

#[test]
fn marks_outlive_a_restart() {
    for (level, count) in [(Level::Raid1, 2), (Level::Raid5, 3), (Level::Raid10, 4)] {
        let mut world = World::created(usize::from(count), 128, 512, 0);
        let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
        world.apply(&Event::VolumeCreated(spec("vol", level, &disks)));
        let volume = 0;
        let resync = |world: &World| world_consistency(&world.disks);
        let initialising = |done_sectors| Consistency::Initialising { done_sectors };
        assert_eq!(resync(&world), initialising(0));
        for done_sectors in [0, 4096, 50_000] {
            world.apply(&Event::ResyncProgress {
                volume,
                done_sectors,
            });
            assert_eq!(resync(&world), initialising(done_sectors), "{level}");
        }
        // Writes in flight below the mark: it is no farther than they.
        world.apply(&Event::Dirty(0));
        world.apply(&mark(2, 1));
        assert_eq!(resync(&world), initialising(2 * 8192));
        world.apply(&unmark(2, 1));
        assert_eq!(resync(&world), initialising(50_000));
        world.apply(&mark(20, 1));
        assert_eq!(resync(&world), initialising(50_000));
        world.apply(&unmark(20, 1));
        world.apply(&Event::Clean(0));
        world.apply(&Event::ResyncDone(volume));
        assert_eq!(resync(&world), Consistency::Clean);
        // Again from the start: the old mark is gone.
        world.apply(&Event::ResyncProgress {
            volume,
            done_sectors: 0,
        });
        assert_eq!(resync(&world), initialising(0));
    }
}

/// A check or a repair that was going on is known after a restart, next to marks of rebuilds, until it ends.
#[test]
fn scrubs_outlive_a_restart() {
    let mut world = World::created(6, 128, 512, 2);
    let disks: Vec<Option<u16>> = (0..6).map(Some).collect();
    let mut raid6 = spec("vol", Level::Raid6, &disks);
    raid6.assume_clean = true;
    world.apply(&Event::VolumeCreated(raid6));
    let scrub = |world: &World| open(&world.disks).unwrap().set().volume(0).unwrap().scrub;
    assert_eq!(scrub(&world), None);
    for (repairs, done_sectors) in [(false, 0), (false, 4096), (true, 12_345)] {
        let said = Some(Scrub {
            repairs,
            done_sectors,
        });
        world.apply(&Event::ScrubProgress(0, said));
        assert_eq!(scrub(&world), said);
    }
    world.refuse(&Event::ScrubProgress(
        0,
        Some(Scrub {
            repairs: false,
            done_sectors: u64::MAX,
        }),
    ));
    // Others write marks beside it.
    world.apply(&Event::ResyncProgress {
        volume: 0,
        done_sectors: 64,
    });
    assert!(scrub(&world).is_some());
    world.apply(&Event::ScrubProgress(0, None));
    assert_eq!(scrub(&world), None);
}

fn world_consistency(disks: &[Disk]) -> Consistency {
    reopened(disks).set().volume(0).unwrap().consistency
}

#[test]
fn rebuild_marks_are_their_disks() {
    let mut world = World::created(4, 128, 512, 0);
    let first = [Some(0), Some(1), Some(2)];
    let second = [Some(0), Some(1)];
    for (name, level, disks) in [
        ("five", Level::Raid5, &first[..]),
        ("one", Level::Raid1, &second[..]),
    ] {
        world.apply(&Event::VolumeCreated(VolumeSpec {
            size_sectors: 32_768,
            assume_clean: true,
            ..spec(name, level, disks)
        }));
    }
    let member = |world: &World, volume, slot: usize| {
        reopened(&world.disks).set().volume(volume).unwrap().members[slot].state
    };
    world.apply(&Event::DiskFailed(0));
    for volume in [0, 1] {
        world.apply(&Event::SpareActivated {
            volume,
            slot: 0,
            disk: 3,
        });
    }
    let at = |done_sectors| MemberState::Rebuilding { done_sectors };
    for (volume, done_sectors) in [(0, 8192), (1, 1000)] {
        world.apply(&Event::RebuildProgress {
            volume,
            slot: 0,
            done_sectors,
        });
    }
    assert_eq!(member(&world, 0, 0), at(8192));
    assert_eq!(member(&world, 1, 0), at(1000));
    // DDF's bit is the disk's: that one of two volumes is done is known from the records only.
    world.apply(&Event::RebuildDone { volume: 0, slot: 0 });
    assert_eq!(member(&world, 0, 0), MemberState::InSync);
    assert_eq!(member(&world, 1, 0), at(1000));
    // The rebuilding disk fails and returns as a blank one: from the start.
    world.apply(&Event::DiskFailed(3));
    let facts = world.set.set().disk(3).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(3, facts));
    world.apply(&Event::SpareActivated {
        volume: 1,
        slot: 0,
        disk: 3,
    });
    assert_eq!(member(&world, 1, 0), at(0));
    world.apply(&Event::RebuildDone { volume: 1, slot: 0 });
    // In sync in one volume, a spare that is activated in another.
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: 3,
    });
    assert_eq!(member(&world, 1, 0), MemberState::InSync);
    assert_eq!(member(&world, 0, 0), at(0));
}

/// Every event around the records cut at every block: marks and regions are the old or the new ones,
/// or on the safe side of both.
#[test]
fn records_cut_anywhere() {
    for (level, count, block) in [(Level::Raid1, 2u16, 512), (Level::Raid5, 3, 4096)] {
        let mut world = World::created(usize::from(count), 128, block, 6);
        let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
        let volume = 0;
        world.apply(&Event::VolumeCreated(spec("vol", level, &disks)));
        world.apply(&Event::ResyncProgress {
            volume,
            done_sectors: 0,
        });
        world.apply(&Event::ResyncProgress {
            volume,
            done_sectors: 20_000,
        });
        world.apply(&Event::Dirty(volume));
        world.apply(&mark(1, 2));
        world.apply(&unmark(1, 1));
        world.apply(&Event::ResyncDone(volume));
        world.apply(&mark(4, 3));
        let spare = world.add(128, SpareRole::Global);
        world.apply(&Event::DiskFailed(1));
        world.apply(&Event::SpareActivated {
            volume,
            slot: 1,
            disk: spare,
        });
        world.apply(&Event::RebuildProgress {
            volume,
            slot: 1,
            done_sectors: 3000,
        });
        world.apply(&Event::RebuildProgress {
            volume,
            slot: 1,
            done_sectors: 6000,
        });
        world.apply(&unmark(0, 7));
        world.apply(&Event::Clean(volume));
        world.apply(&Event::RebuildDone { volume, slot: 1 });
    }
}

/// Cut in the middle of a mark over several blocks and disks: no region of the old state is lost.
#[test]
fn regions_of_the_old_state_stay() {
    let mut world = clean(Level::Raid5, 3, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    let mut random = Random(3);
    for event in [mark(4, 9), unmark(3, 1), mark(10, 10)] {
        world.set.apply(&event, &context(5)).unwrap();
        let plan = writes(&world.set);
        let old = show(open(&world.disks).unwrap().set());
        let mut after = world.disks.clone();
        carry_out(&mut after, &plan);
        let new = show(open(&after).unwrap().set());
        let keys = [0, 1, 2];
        cut_everywhere(&world.disks, &plan, &keys, &mut random, 20, &|state, at| {
            assert!(state == old || state == new, "{event:?} {at}: {state}");
        });
        world.disks = after;
    }
}

/// A disk that joined a volume has its records, too: alone it tells what all did.
#[test]
fn a_new_member_knows() {
    let mut world = clean(Level::Raid1, 2, 512);
    let spare = world.add(128, SpareRole::Global);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    world.apply(&Event::DiskFailed(0));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 0 });
    let key = u64::from(spare);
    let alone = open_keyed(&[(key, &world.disks[usize::from(spare)])]).unwrap();
    assert_eq!(dirty(&alone), [3]);
}
