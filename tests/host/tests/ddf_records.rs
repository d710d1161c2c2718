// SPDX-License-Identifier: GPL-2.0

//! EMD's own records in the vendor log: marks, regions and bad ranges outlive a restart and a crash,
//! count for nothing when somebody else was here in between, and cost little.

mod ddf_common;

use ddf_common::crash::{cut_everywhere, Random};
use ddf_common::world::{spec, World};
use ddf_common::{assert_same, carry_out, context, open, open_keyed, show, writes};
use emd_core::metadata::ddf::vendor_log::Plan;
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    BadRange, Consistency, Event, Level, MemberState, RegionLog, SpareRole, VolumeSpec,
};
use host_tests::samples::{load, Disk};

/// A clean volume on `count` disks of 128 MiB: 24 regions of 4 MiB on each member.
fn clean(level: Level, count: u16, block: u32) -> World {
    let mut world = World::created(usize::from(count), 128, block, 0);
    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
    let spec = VolumeSpec {
        assume_clean: true,
        ..spec("vol", level, &disks)
    };
    world.apply(&Event::VolumeCreated(spec));
    world
}

fn regions(set: &DdfSet) -> &RegionLog {
    set.set().volume(0).unwrap().regions.as_ref().unwrap()
}

fn dirty(set: &DdfSet) -> Vec<u32> {
    let log = regions(set);
    (0..log.regions).filter(|&r| log.is_dirty(r)).collect()
}

fn all(set: &DdfSet) -> Vec<u32> {
    (0..regions(set).regions).collect()
}

fn reopened(disks: &[Disk]) -> Box<DdfSet> {
    open(disks).unwrap()
}

fn mark(first: u32, count: u32) -> Event<'static> {
    Event::RegionsDirty {
        volume: 0,
        first,
        count,
    }
}

fn unmark(first: u32, count: u32) -> Event<'static> {
    Event::RegionsClean {
        volume: 0,
        first,
        count,
    }
}

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
    let mut disks = ddf_common::blanks(2, 20 << 10, 512);
    let mut set = ddf_common::create(&mut disks, "big");
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

/// Somebody else's update makes all of it void: any region may have been written, no mark is true.
#[test]
fn anothers_update_makes_records_void() {
    let mut world = clean(Level::Raid5, 3, 512);
    let spare = world.add(128, SpareRole::Global);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    world.apply(&Event::DiskFailed(0));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::RebuildProgress {
        volume: 0,
        slot: 0,
        done_sectors: 4096,
    });
    let bad = BadRange {
        disk: 1,
        sector: 100,
        sectors: 8,
    };
    world.apply(&Event::BadRangeAdded(bad));
    let state = |disks: &[Disk]| {
        let set = reopened(disks);
        let member = set.set().volume(0).unwrap().members[0].state;
        (dirty(&set), member, set.set().bad_ranges.to_vec())
    };
    let rebuilding = |done_sectors| MemberState::Rebuilding { done_sectors };
    assert_eq!(state(&world.disks), (vec![3], rebuilding(4096), vec![bad]));

    // As mdadm does: everything but the vendor log written anew, counted on.
    let mut disks = world.disks.clone();
    bump(&world.set, &mut disks, 1);
    let (dirty_now, member, ranges) = state(&disks);
    assert_eq!(dirty_now, all(&world.set));
    assert_eq!(member, rebuilding(0));
    assert_eq!(ranges, [bad], "a bad place is no better for it");

    // The next event of any kind makes the records count again, and they say so.
    let mut set = reopened(&disks);
    set.apply(&unmark(0, 1), &context(70)).unwrap();
    carry_out(&mut disks, &writes(&set));
    let again = reopened(&disks);
    assert_eq!(dirty(&again), all(&again)[1..]);
    assert_eq!(show(set.set()), show(again.set()));
}

/// Writes both copies on all disks with the headers' counter `by` higher.
fn bump(set: &DdfSet, disks: &mut [Disk], by: u32) {
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

/// The same counter, but other tables (an update of ours that was cut off, and then somebody else's).
#[test]
fn the_same_number_by_another_is_void_too() {
    let mut world = clean(Level::Raid1, 2, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(2, 1));
    // Ours, cut off before any header was closed.
    let mut ours = open(&world.disks).unwrap();
    ours.apply(&Event::Clean(0), &context(50)).unwrap();
    let plan = writes(&ours);
    let mut disks = world.disks.clone();
    let first: Vec<_> = plan.into_iter().filter(|write| write.phase < 2).collect();
    carry_out(&mut disks, &first);
    assert_eq!(dirty(&reopened(&disks)), [2], "the old state is back");
    // Theirs, with the number that ours would have had.
    for disk in &mut disks {
        let home = world.set.home(0).unwrap();
        for copy in home.copies.into_iter().flatten() {
            let mut header = disk.read(copy, 1);
            let was = world.disks[0].read(copy, 1);
            header[0x28..0x2C].copy_from_slice(&(world.set.sequence + 1).to_be_bytes());
            header[0x2C..0x30].copy_from_slice(&was[0x2C..0x30]);
            header[0x30] = 0;
            home.layout.crc.seal(&mut header, home.layout.endian);
            disk.write(copy, &header);
        }
        // With the volume table as it was.
        let place = home
            .layout
            .place(emd_core::metadata::ddf::layout::Section::Volumes);
        for copy in home.copies.into_iter().flatten() {
            let at = copy + u64::from(place.offset);
            let bytes = world.disks[0].read(at, place.blocks as usize);
            disk.write(at, &bytes);
        }
    }
    let set = reopened(&disks);
    assert_eq!(set.sequence, world.set.sequence + 1);
    assert_eq!(dirty(&set), all(&set));
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

#[test]
fn bad_ranges_outlive_a_restart() {
    let mut world = clean(Level::Raid5, 3, 512);
    let range = |disk, sector, sectors| BadRange {
        disk,
        sector,
        sectors,
    };
    let mut random = Random(23);
    for n in 0..120 {
        let disk = random.below(3) as u16;
        let bad = range(disk, random.below(200) * 8, 8 + random.below(9) as u32 * 8);
        if n % 3 == 2 {
            world.apply(&Event::BadRangeCleared(bad));
        } else {
            world.apply(&Event::BadRangeAdded(bad));
        }
    }
    assert!(world.set.set().bad_ranges.len() > 20);
    world.refuse(&Event::BadRangeAdded(range(7, 0, 8)));
    world.refuse(&Event::BadRangeAdded(range(0, 1 << 40, 8)));
    world.refuse(&Event::BadRangeAdded(range(0, u64::MAX - 3, 8)));
    // They go with their disk, and with the volume that lay there.
    world.apply(&Event::DiskFailed(1));
    let facts = world.set.set().disk(1).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(1, facts));
    let of = |set: &DdfSet, disk| {
        set.set()
            .bad_ranges
            .iter()
            .filter(|r| r.disk == disk)
            .count()
    };
    assert_eq!(of(&world.set, 1), 0);
    assert!(of(&world.set, 0) > 0);
    world.apply(&Event::VolumeDeleted(0));
    assert_eq!(world.set.set().bad_ranges.len(), 0);
}

/// As many as there is room for: refused then, with nothing changed.
#[test]
fn bad_ranges_up_to_the_last() {
    let mut world = clean(Level::Raid1, 2, 512);
    let range = |n: u64| BadRange {
        disk: (n % 2) as u16,
        sector: n * 16,
        sectors: 8,
    };
    let mut count = 0u64;
    while world
        .set
        .apply(&Event::BadRangeAdded(range(count)), &context(count))
        .is_ok()
    {
        let plan = writes(&world.set);
        assert!(plan.len() <= 2 * 2, "{count}: {}", plan.len());
        carry_out(&mut world.disks, &plan);
        count += 1;
    }
    assert!(count > 1000, "{count}");
    world.check("full");
    // Cutting one in two, moving on.
    world.apply(&Event::BadRangeCleared(range(3)));
    world.apply(&Event::BadRangeCleared(BadRange {
        sector: 4 * 16 + 2,
        sectors: 2,
        ..range(4)
    }));
    world.apply(&Event::BadRangeCleared(BadRange {
        disk: 0,
        sector: 0,
        sectors: 16 * 600,
    }));
    world.check("cleared");
}

/// Power is cut while a bad range is recorded: what is bad before and after never reads as good.
#[test]
fn bad_ranges_cut_anywhere() {
    let mut world = clean(Level::Raid1, 2, 512);
    let mut random = Random(41);
    let sectors = |set: &DdfSet| {
        let mut map = vec![false; 4096];
        for range in set.set().bad_ranges.iter().filter(|range| range.disk == 0) {
            for sector in range.sector..range.sector + u64::from(range.sectors) {
                map[sector as usize] = true;
            }
        }
        map
    };
    for n in 0..400u64 {
        let bad = BadRange {
            disk: 0,
            sector: random.below(380) * 10,
            sectors: 1 + random.below(1 + n % 60) as u32,
        };
        let event = if random.below(3) > 0 {
            Event::BadRangeAdded(bad)
        } else {
            Event::BadRangeCleared(bad)
        };
        let old = sectors(&world.set);
        world.set.apply(&event, &context(n)).unwrap();
        let new = sectors(&world.set);
        let plan = writes(&world.set);
        if n % 8 == 0 {
            let before = world.disks.clone();
            for cut in 0..=plan.len() {
                let mut disks = before.clone();
                carry_out(&mut disks, &plan[..cut]);
                for only in [vec![0u64], vec![0, 1]] {
                    let keyed: Vec<(u64, &Disk)> = only
                        .iter()
                        .map(|&key| (key, &disks[key as usize]))
                        .collect();
                    let now = sectors(&open_keyed(&keyed).unwrap());
                    for sector in 0..now.len() {
                        let kept = old[sector] && new[sector];
                        let known = old[sector] || new[sector];
                        assert!(!kept || now[sector], "{n}: {event:?} cut {cut}: {sector}");
                        assert!(known || !now[sector], "{n}: {event:?} cut {cut}: {sector}");
                    }
                }
            }
        }
        carry_out(&mut world.disks, &plan);
    }
    world.check("in the end");
    assert!(world.set.set().bad_ranges.len() > 60);
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

/// Damage anywhere in the records of all disks: regions dirty that were not, marks lower; never the
/// other way round, and the set itself is as it was.
#[test]
fn damage_is_on_the_safe_side() {
    let mut world = clean(Level::Raid5, 3, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 2));
    world.apply(&Event::DiskFailed(2));
    let spare = world.add(128, SpareRole::None);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: spare,
    });
    world.apply(&Event::RebuildProgress {
        volume: 0,
        slot: 2,
        done_sectors: 5000,
    });
    let mut random = Random(77);
    let mut weaker = 0;
    for round in 0..300 {
        let mut disks = world.disks.clone();
        for index in [0u16, 1, spare] {
            let section = world.set.home(index).unwrap().vendor.as_ref().unwrap();
            let blocks = u64::from(Plan::new(512).blocks());
            for _ in 0..12 {
                // The head and the first slot, mostly.
                let block = match random.below(3) {
                    0 => 0,
                    1 => 41 + random.below(4),
                    _ => random.below(blocks),
                };
                let at = section.block + block;
                let mut bytes = disks[usize::from(index)].read(at, 1);
                if round % 2 == 0 {
                    bytes[random.below(512) as usize] ^= 1 << random.below(8);
                } else {
                    bytes.fill(random.below(256) as u8);
                }
                disks[usize::from(index)].write(at, &bytes);
            }
        }
        let set = open(&disks).unwrap();
        let now = dirty(&set);
        assert!(now.contains(&3) && now.contains(&4), "{round}: {now:?}");
        let state = set.set().volume(0).unwrap().members[2].state;
        let MemberState::Rebuilding { done_sectors } = state else {
            panic!("{round}: {state:?}");
        };
        assert!(
            done_sectors == 0 || done_sectors == 5000,
            "{round}: {done_sectors}"
        );
        weaker += usize::from(now.len() > 2 || done_sectors == 0);
        // And it can be written again.
        let mut set = set;
        set.apply(&mark(9, 1), &context(round)).unwrap();
        carry_out(&mut disks, &writes(&set));
        let again = open(&disks).unwrap();
        assert_eq!(show(set.set()), show(again.set()), "{round}");
    }
    assert!(weaker > 20, "{weaker}");
}

/// Records with right checksums that say impossible things.
#[test]
fn sealed_lies_are_bounded() {
    let mut world = clean(Level::Raid1, 2, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    let mut random = Random(91);
    for round in 0..400 {
        let mut disks = world.disks.clone();
        for index in [0u16, 1] {
            let home = world.set.home(index).unwrap();
            let section = home.vendor.as_ref().unwrap();
            for _ in 0..4 {
                let block = [0, 1, 2, 41, 42, 43, 44][random.below(7) as usize];
                let mut bytes = disks[usize::from(index)].read(section.block + block, 1);
                for _ in 0..1 + random.below(4) {
                    let at = 8 + random.below(120) as usize;
                    let value = [0, 1, 0x7F, 0x80, 0xFF][random.below(5) as usize];
                    for byte in bytes.iter_mut().skip(at).take(1 << random.below(4)) {
                        *byte = value;
                    }
                }
                home.layout.crc.seal(&mut bytes, home.layout.endian);
                disks[usize::from(index)].write(section.block + block, &bytes);
            }
        }
        let mut set = open(&disks).unwrap();
        let model = set.set();
        for range in model.bad_ranges.iter() {
            let usable = model.disk(range.disk).unwrap().usable_sectors;
            assert!(range.sector + u64::from(range.sectors) <= usable, "{round}");
        }
        for (n, event) in [mark(5, 2), Event::Clean(0), Event::DiskFailed(1)]
            .iter()
            .enumerate()
        {
            set.apply(event, &context(n as u64)).unwrap();
            carry_out(&mut disks, &writes(&set));
        }
        let again = open(&disks).unwrap();
        assert_eq!(show(set.set()), show(again.set()), "{round}");
    }
}

/// Sets of others have no place for any of it: marks stay in memory, regions are refused.
#[test]
fn sets_of_others_have_none() {
    for case in ["gen/raid1", "gen-freebsd/ddf-raid1-2d", "dissect/raid5"] {
        let mut disks = load(&format!("ddf/{case}"));
        let mut set = open(&disks).unwrap();
        assert!(set.log.is_none());
        assert!(set.set().volume(0).unwrap().regions.is_none());
        let why = set.apply(&mark(0, 1), &context(1)).unwrap_err();
        assert!(why.text().contains("no place"), "{why}");
        let bad = BadRange {
            disk: 0,
            sector: 8,
            sectors: 8,
        };
        set.apply(&Event::BadRangeAdded(bad), &context(2)).unwrap();
        assert!(set.plan().is_empty());
        assert_eq!(set.set().bad_ranges.to_vec(), [bad]);
        let header = disks[0].read(disks[0].size_sectors - 1, 1);
        ddf_common::apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
        assert_eq!(header, disks[0].read(disks[0].size_sectors - 1, 1));
    }
}

/// The section is taken out of the headers: the set goes on without.
#[test]
fn without_the_section_the_set_goes_on() {
    let mut world = clean(Level::Raid1, 2, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    let mut disks = world.disks.clone();
    for (index, disk) in (0u16..).zip(disks.iter_mut()) {
        let home = world.set.home(index).unwrap();
        for block in home.copies.into_iter().flatten().chain([home.anchor]) {
            let mut header = disk.read(block, 1);
            header[0xF8..0xFC].fill(0xFF);
            header[0xFC..0x100].fill(0);
            home.layout.crc.seal(&mut header, home.layout.endian);
            disk.write(block, &header);
        }
    }
    let mut set = open(&disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(volume.regions.is_none());
    assert_eq!(volume.consistency, Consistency::Dirty);
    assert!(set.apply(&mark(0, 1), &context(1)).is_err());
    ddf_common::apply(&mut set, &mut disks, &Event::DiskFailed(1), 2).unwrap();
    assert_same(&set, &disks, "without");
}

/// A disk that mdadm adds has the section in its headers and something else in it.
#[test]
fn a_disk_with_something_else_in_the_section() {
    let mut world = clean(Level::Raid1, 2, 512);
    world.add(128, SpareRole::Global);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(6, 1));
    let mut disks = world.disks.clone();
    let section = world.set.home(2).unwrap().vendor.as_ref().unwrap().block;
    let theirs = world.disks[0].read(section, Plan::new(512).blocks() as usize);
    for junk in [vec![0x5A; theirs.len()], theirs] {
        disks[2].write(section, &junk);
        let mut set = open(&disks).unwrap();
        assert_eq!(dirty(&set), [6]);
        set.apply(&mark(7, 1), &context(1)).unwrap();
        let mut after = disks.clone();
        carry_out(&mut after, &writes(&set));
        assert_same(&set, &after, "mended");
        // Now the new disk alone has a section that counts.
        let alone = open_keyed(&[(2, &after[2])]).unwrap();
        assert!(alone.home(2).unwrap().vendor.as_ref().unwrap().valid);
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

/// Void records are made to count again, alone and along with an update of the headers, cut anywhere:
/// old blocks never count for a state that they know nothing of.
#[test]
fn void_records_cut_anywhere() {
    let mut world = clean(Level::Raid5, 3, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    bump(&world.set, &mut world.disks, 1);
    let every = all(&world.set);
    let mut random = Random(19);
    for event in [
        mark(3, 1),
        unmark(20, 2),
        Event::DiskFailed(1),
        Event::ResyncProgress {
            volume: 0,
            done_sectors: 0,
        },
    ] {
        let mut set = open(&world.disks).unwrap();
        assert_eq!(dirty(&set), every);
        set.apply(&event, &context(60)).unwrap();
        let plan = writes(&set);
        let new = dirty(&set);
        let cut = |disks: &[Disk], what: String| {
            let now = dirty(&open(disks).unwrap());
            assert!(now == every || now == new, "{event:?} {what}: {now:?}");
        };
        let mut disks = world.disks.clone();
        for phase in 0..=plan.last().map_or(0, |write| write.phase) {
            let of = |write: &&ddf_common::Write| write.phase == phase;
            for round in 0..30 {
                let mut partial = disks.clone();
                for write in plan.iter().filter(of) {
                    for (n, bytes) in write.bytes.chunks(512).enumerate() {
                        if random.below(4) > round % 4 {
                            partial[write.key as usize].write(write.sector + n as u64, bytes);
                        }
                    }
                }
                cut(&partial, format!("phase {phase}, round {round}"));
            }
            let now: Vec<_> = plan.iter().filter(of).cloned().collect();
            carry_out(&mut disks, &now);
        }
        cut(&disks, "whole".into());
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

/// A slot gets another volume: what a disk that is no member of it has there is older, and loses.
#[test]
fn older_blocks_of_others_lose() {
    let mut world = clean(Level::Raid1, 3, 512);
    world.apply(&Event::VolumeDeleted(0));
    let two = [Some(1), Some(2)];
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("new", Level::Raid1, &two)
    }));
    world.apply(&Event::Dirty(1));
    world.apply(&Event::RegionsDirty {
        volume: 1,
        first: 5,
        count: 1,
    });
    let slot = |volume| world.set.volume_meta(volume).unwrap().log_slot;
    assert_eq!((slot(0), slot(1)), (None, Some(0)));
    assert_eq!(dirty(&reopened(&world.disks)), [5]);
}
