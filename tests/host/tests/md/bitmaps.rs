// SPDX-License-Identifier: GPL-2.0

//! The bitmap, and what a dirty mark costs.

use crate::md_common::{
    apply, blanks, context, create, open, open_keyed, thin, version_of, writes, Of, World, ALL,
};
use emd_core::metadata::md::set::MdSet;
use emd_core::metadata::md::{bitmap, Version, MD_090, MD_10, MD_11, MD_12};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, Event, Level, SpareRole, VolumeSpec};
use host_tests::samples::{load, Disk};
use host_tests::shell::{carry_out, spec};

/// Arrays with a bitmap: regions, and `Dirty` without them.
#[test]
fn bitmaps() {
    for case in [
        "12-raid1-bitmap-wm",
        "12-raid5-dirty",
        "090-raid5-ls-bitmap",
    ] {
        let mut disks = load(&format!("md/gen/{case}"));
        let format = version_of(&disks);
        for disk in &mut disks {
            thin(format, disk);
        }
        let set = open(format, &disks).unwrap();
        let mut world = World::of(Of(format), set, disks, 4);
        let volume = 0;
        let log = |world: &World| {
            let regions = world.set.set().volume(0).unwrap().regions.as_ref().unwrap();
            (0..regions.regions)
                .filter(|&region| regions.is_dirty(region))
                .collect::<Vec<_>>()
        };
        let most = world.set.bitmap.as_ref().unwrap().regions;
        if world.consistency(0) == Consistency::Dirty {
            world.apply(&Event::RegionsClean {
                volume,
                first: 0,
                count: most,
            });
            world.apply(&Event::Clean(volume));
        }
        assert!(log(&world).is_empty());
        let first = most / 2;
        let count = (most - first).min(3);
        let dirty = Event::RegionsDirty {
            volume,
            first,
            count,
        };
        world.apply(&dirty);
        assert_eq!(world.consistency(0), Consistency::Dirty, "{case}");
        let expected: Vec<u32> = (first..first + count).collect();
        assert_eq!(log(&world), expected);
        let again = open(format, &world.disks).unwrap();
        let model = again.set().volume(0).unwrap();
        assert_eq!(model.consistency, Consistency::Dirty);
        world.apply(&dirty);
        assert!(world.set.plan().is_empty(), "a dirty region costs nothing");
        let cleared = |world: &World| {
            let map = world.set.bitmap.as_ref().unwrap();
            u64::from_le_bytes(map.bytes[32..40].try_into().unwrap())
        };
        world.apply(&Event::RegionsClean {
            volume,
            first,
            count,
        });
        assert_eq!(cleared(&world), world.set.set().generation);
        world.apply(&Event::Clean(volume));

        // The mark of the volume first, then a region: the other order comes to the same.
        world.apply(&Event::Dirty(volume));
        assert!(log(&world).is_empty());
        world.apply(&Event::RegionsDirty {
            volume,
            first: 0,
            count: 1,
        });
        assert_eq!(log(&world), [0]);

        // Stale, or not kept up to date by who wrote last: all of it counts as dirty.
        let write = |disks: &mut [Disk], at: usize, value: u32| {
            for (key, disk) in disks.iter_mut().enumerate() {
                let index = world.set.set().disk_by_key(key as u64).unwrap();
                let sector = world.set.home(index).unwrap().bitmap.unwrap();
                let mut bytes = disk.read(sector, 8);
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                disk.write(sector, &bytes);
            }
        };
        for (at, value) in [(48, 2), (24, 1)] {
            let mut disks = world.disks.clone();
            write(&mut disks, at, value);
            let again = open(format, &disks).unwrap();
            let mut other = World::of(Of(format), again, disks, 0);
            assert_eq!(log(&other), (0..most).collect::<Vec<_>>());
            other.apply(&Event::RegionsDirty {
                volume,
                first: 0,
                count: 1,
            });
            let all = Event::RegionsClean {
                volume,
                first: 0,
                count: most,
            };
            other.apply(&all);
            assert!(log(&other).is_empty());
            other.apply(&Event::Clean(volume));
            // Redundancy has to be established again: all regions from there on.
            other.apply(&Event::ResyncProgress {
                volume,
                done_sectors: 0,
            });
            assert_eq!(log(&other), (0..most).collect::<Vec<_>>());
            other.apply(&Event::ResyncDone(volume));
            assert!(log(&other).is_empty());
        }
        world.refuse(&Event::RegionsDirty {
            volume,
            first: most,
            count: 1,
        });
        world.refuse(&Event::RegionsDirty {
            volume,
            first: u32::MAX,
            count: 2,
        });

        // A member that goes away and a spare that comes get the bitmap with everything else.
        let spare = world.add(41, SpareRole::Global);
        let lost = world.disk_in(0, 0);
        world.apply(&Event::DiskFailed(lost));
        world.apply(&Event::SpareActivated {
            volume,
            slot: 0,
            disk: spare,
        });
        world.apply(&Event::RegionsDirty {
            volume,
            first: most - 1,
            count: 1,
        });
        world.apply(&Event::RebuildDone { volume, slot: 0 });
        let home = world.set.home(spare).unwrap();
        let map = world.set.bitmap.as_ref().unwrap();
        let sectors = emd_core::metadata::md::bitmap::sectors(map.regions, 1) as usize;
        let key = world.set.set().disk(spare).unwrap().facts.unwrap().key as usize;
        assert!(
            world.disks[key].read(home.bitmap.unwrap(), sectors) == map.bytes[..sectors * 512],
            "{case}: the new member has the bitmap"
        );
    }
}

/// A disk that cannot be done without did not take a mark, the others go on, and all stops: the mark counts, whichever
/// disk comes first, and the disk gets it. (Found by the simulator.)
#[test]
fn marks_that_one_disk_has_count() {
    for case in [
        "12-raid1-bitmap-wm",
        "12-raid5-dirty",
        "090-raid5-ls-bitmap",
    ] {
        let mut disks = load(&format!("md/gen/{case}"));
        let format = version_of(&disks);
        for disk in &mut disks {
            thin(format, disk);
        }
        let mut set = open(format, &disks).unwrap();
        let most = set.bitmap.as_ref().unwrap().regions;
        let unmark = Event::RegionsClean {
            volume: 0,
            first: 0,
            count: most,
        };
        for (n, event) in [unmark, Event::Clean(0), Event::Dirty(0)]
            .iter()
            .enumerate()
        {
            apply(&mut set, &mut disks, event, n as u64).unwrap();
        }
        let dirty = |set: &MdSet| {
            let regions = set.set().volume(0).unwrap().regions.as_ref().unwrap();
            let all = 0..regions.regions;
            all.filter(|&region| regions.is_dirty(region))
                .collect::<Vec<_>>()
        };
        let mark = |first| Event::RegionsDirty {
            volume: 0,
            first,
            count: 1,
        };
        assert_eq!(dirty(&set), [], "{case}");
        let last = most - 1;
        set.apply(&mark(last), &context(9)).unwrap();
        for lacks in 0..disks.len() as u64 {
            let mut disks = disks.clone();
            let mut plan = writes(&set);
            plan.retain(|write| write.key != lacks);
            carry_out(&mut disks, &plan);
            let mut again = open(format, &disks).unwrap();
            assert_eq!(dirty(&again), [last], "{case}: disk {lacks}");
            // It has the mark with the next update.
            let lost = (lacks + 1) % disks.len() as u64;
            let lost = again.set().disk_by_key(lost).unwrap();
            apply(&mut again, &mut disks, &Event::DiskFailed(lost), 11).unwrap();
            let alone = open_keyed(format, &[(lacks, &disks[lacks as usize])]).unwrap();
            assert_eq!(dirty(&alone), [last], "{case}: disk {lacks} alone");
        }
    }
}

/// Recording that writes begin or end costs one sector a disk.
#[test]
fn dirty_is_cheap() {
    for format in [&MD_12, &MD_11, &MD_10, &MD_090] {
        let mut world = World::made(Of(format), 3, 64, 512, 0);
        let all = [Some(0), Some(1), Some(2)];
        let mut spec = spec("", Level::Raid5, &all);
        spec.assume_clean = true;
        world.apply(&Event::VolumeCreated(spec));
        world.apply(&Event::Dirty(0));
        let plan = crate::md_common::writes(&world.set);
        assert_eq!(plan.len(), 3);
        assert!(plan
            .iter()
            .all(|write| write.bytes.len() == 512 && write.phase == 0));
    }
}

/// Large redundant arrays get a bitmap, as from mdadm; others none.
#[test]
fn large_arrays_get_a_bitmap() {
    for format in ALL {
        for block in [512, 4096] {
            for (gib, level, expected) in [
                (90, Level::Raid1, false),
                (150, Level::Raid0, false),
                (150, Level::Raid1, true),
                (150, Level::Raid10, true),
            ] {
                let mut world = World::made(Of(format), 2, gib << 10, block, 0);
                let two = [Some(0), Some(1)];
                let mut spec = spec("", level, &two);
                spec.assume_clean = gib == 150;
                world.apply(&Event::VolumeCreated(spec));
                let volume = world.set.array().unwrap();
                assert_eq!(volume.regions.is_some(), expected, "{level} {gib}");
                if let Some(log) = &volume.regions {
                    assert_eq!(log.region_sectors, 1 << 17);
                    let regions = volume.size_sectors.div_ceil(1 << 17);
                    assert_eq!(u64::from(log.regions), regions);
                    assert!((0..log.regions).all(|region| !log.is_dirty(region)));
                    world.apply(&Event::RegionsDirty {
                        volume: 0,
                        first: 2000,
                        count: 2,
                    });
                    let spare = world.add((gib << 10) + 1, SpareRole::Global);
                    world.apply(&Event::DiskMissing(1));
                    world.apply(&Event::SpareActivated {
                        volume: 0,
                        slot: 1,
                        disk: spare,
                    });
                    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
                    world.apply(&Event::RegionsClean {
                        volume: 0,
                        first: 2000,
                        count: 1,
                    });
                }
            }
        }
    }
    let mut world = World::made(Of(&MD_12), 2, 150 << 10, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("", Level::Raid1, &two)));
    let log = world.set.array().unwrap().regions.as_ref().unwrap();
    assert!((0..log.regions).all(|region| log.is_dirty(region)));
}

/// Sectors that are used on a disk, with whose they are: no two of them overlap, and all are on the disk.
fn assert_apart(world: &World, disk: u16) {
    let home = world.set.home(disk).unwrap();
    let map = world.set.bitmap.as_ref().unwrap();
    let array = world.set.array().unwrap();
    let member = array
        .members
        .iter()
        .find(|member| member.disk == Some(disk));
    let bitmap = bitmap::sectors(map.regions, 1).into();
    let mut places = vec![
        ("superblock", home.sector, 8),
        ("bitmap", home.bitmap.unwrap(), bitmap),
    ];
    places.extend(
        home.log
            .map(|log| ("bad blocks", log.sector, log.sectors.into())),
    );
    if let Some(member) = member {
        places.push(("data", member.offset_sectors, array.shape.member_sectors));
    }
    places.sort_by_key(|&(_, first, _)| first);
    for pair in places.windows(2) {
        assert!(pair[0].1 + pair[0].2 <= pair[1].1, "{places:?}");
    }
    let (_, first, sectors) = places[places.len() - 1];
    assert!(first + sectors <= world.disks[usize::from(disk)].size_sectors);
}

/// Small arrays get one that is asked for, with several regions, where nothing else is; and it works.
#[test]
fn small_arrays_get_a_bitmap_that_is_asked_for() {
    for format in ALL {
        for (mib, block, level, count, clean) in [
            (40, 512, Level::Raid5, 3, true),
            (40, 4096, Level::Raid5, 3, false),
            (80, 512, Level::Raid1, 2, false),
            (80, 4096, Level::Raid1, 2, true),
            (300, 512, Level::Raid10, 4, true),
            (300, 4096, Level::Raid6, 4, true),
            (9 << 10, 512, Level::Raid4, 3, true),
            (90 << 10, 512, Level::Raid1, 3, true),
        ] {
            let crashes = if mib < 1 << 10 { 20 } else { 0 };
            let mut world = World::made(Of(format), count, mib, block, crashes);
            let slots: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            let made = VolumeSpec {
                regions: Some(true),
                assume_clean: clean,
                ..spec("", level, &slots)
            };
            let what = format!("{:?}, {level} of {mib} MiB", format.0);
            world.apply(&Event::VolumeCreated(made));
            let set = open(format, &world.disks).unwrap();
            let volume = set.array().unwrap();
            let log = volume.regions.as_ref().expect(&what);
            let extent = volume.shape.sync_sectors(volume.size_sectors);
            assert_eq!(
                u64::from(log.regions),
                extent.div_ceil(log.region_sectors),
                "{what}"
            );
            assert!((8..=2048).contains(&log.regions), "{what}: {}", log.regions);
            assert!((1 << 13..=1 << 17).contains(&log.region_sectors), "{what}");
            assert!(
                (0..log.regions).all(|region| log.is_dirty(region) != clean),
                "{what}"
            );
            let (region, regions) = (log.region_sectors, log.regions);
            for disk in 0..count as u16 {
                assert_apart(&world, disk);
                let place = world.set.home(disk).unwrap().bitmap.unwrap();
                let bytes = world.disks[usize::from(disk)].read(place, 1);
                let head = bitmap::decode(&bytes, &world.set.head.uuid).unwrap();
                assert_eq!((head.region_sectors, head.stale), (region, false));
                assert_eq!(head.events, world.set.set().generation);
            }
            if !clean {
                world.apply(&Event::ResyncDone(0));
            }
            world.apply(&Event::RegionsDirty {
                volume: 0,
                first: regions - 1,
                count: 1,
            });
            let again = open(format, &world.disks).unwrap();
            let log = again.array().unwrap().regions.as_ref().unwrap();
            assert!((0..regions).all(|at| log.is_dirty(at) == (at == regions - 1)));
            assert_eq!(world.consistency(0), Consistency::Dirty);
            // A disk that joins gets it, too.
            let spare = world.add(mib + 1, SpareRole::Global);
            world.apply(&Event::DiskFailed(0));
            world.apply(&Event::SpareActivated {
                volume: 0,
                slot: 0,
                disk: spare,
            });
            assert_apart(&world, spare);
            world.apply(&Event::RebuildDone { volume: 0, slot: 0 });
        }
    }
}

/// Large ones get none that somebody does without, and small ones none unasked.
#[test]
fn arrays_without_a_bitmap_where_none_is_wanted() {
    for format in ALL {
        for (gib, wanted) in [(1, None), (1, Some(false)), (150, Some(false))] {
            let mut world = World::made(Of(format), 2, gib << 10, 512, 0);
            let two = [Some(0), Some(1)];
            let made = VolumeSpec {
                regions: wanted,
                assume_clean: true,
                ..spec("", Level::Raid1, &two)
            };
            world.apply(&Event::VolumeCreated(made));
            let set = open(format, &world.disks).unwrap();
            assert!(set.array().unwrap().regions.is_none(), "{gib} {wanted:?}");
            assert!(set.bitmap.is_none());
            assert_eq!(set.home(0).unwrap().bitmap, None);
            world.refuse(&Event::RegionsDirty {
                volume: 0,
                first: 0,
                count: 1,
            });
        }
    }
}

/// What md cannot: a bitmap without redundancy, and one beside a partial parity log.
#[test]
fn bitmaps_that_cannot_be() {
    for format in ALL {
        let mut world = World::made(Of(format), 3, 80, 512, 0);
        let three = [Some(0), Some(1), Some(2)];
        let made = |level| VolumeSpec {
            regions: Some(true),
            ..spec("", level, &three)
        };
        let why = world.refuse(&Event::VolumeCreated(made(Level::Raid0)));
        assert!(why.contains("no redundancy"), "{why}");
        if format.0 != Version::V090 {
            let both = VolumeSpec {
                log: true,
                ..made(Level::Raid5)
            };
            let why = world.refuse(&Event::VolumeCreated(both));
            assert!(why.contains("beside"), "{why}");
            // One of them is no bitmap.
            world.apply(&Event::VolumeCreated(VolumeSpec {
                regions: Some(false),
                ..both
            }));
            assert!(world.set.array().unwrap().regions.is_none());
        }
    }
}

/// A member that the array cannot do without does not take that a region is written to, though it takes all else. After
/// a crash the region is dirty all the same, whoever is asked first; and with the next update all have it.
#[test]
fn what_one_bitmap_missed_is_in_the_others() {
    let volume = 0;
    let of = |first| (volume, first, 1);
    let dirty = |(volume, first, count)| Event::RegionsDirty {
        volume,
        first,
        count,
    };
    for format in ALL {
        // The second region is not in the first block, which the bitmap's superblock is in.
        for region in [3, 2100] {
            let mut disks = blanks(4, 150 << 10, 512);
            let mut set = create(format, &disks, "");
            let slots = [0, 1, 2, 3].map(Some);
            let made = Event::VolumeCreated(VolumeSpec {
                assume_clean: true,
                ..spec("", Level::Raid10, &slots)
            });
            let before = [made, Event::DiskFailed(1), dirty(of(7))];
            for (n, event) in (1..).zip(&before) {
                apply(&mut set, &mut disks, event, n).unwrap();
            }
            set.apply(&dirty(of(region)), &context(5)).unwrap();
            let plan = writes(&set);
            assert!(plan.iter().any(|write| write.key == 0));
            for write in plan.iter().filter(|write| write.key != 0) {
                disks[write.key as usize].write(write.sector, &write.bytes);
            }
            set.missed(0, u16::MAX);
            let is_marked = |disks: &[Disk], keys: &[u64]| {
                let keyed: Vec<_> = keys
                    .iter()
                    .map(|&key| (key, &disks[key as usize]))
                    .collect();
                let set = open_keyed(format, &keyed).unwrap();
                let log = set.set().volumes[0].regions.as_ref().unwrap();
                log.is_dirty(region) && log.is_dirty(7) && !log.is_dirty(8)
            };
            for keys in [[0, 2, 3], [3, 2, 0]] {
                assert!(is_marked(&disks, &keys), "{:?} {region}", format.0);
            }
            // After a restart.
            let keyed: Vec<_> = [0, 2, 3].map(|key| (key, &disks[key as usize])).to_vec();
            let mut again = open_keyed(format, &keyed).unwrap();
            let mut told = disks.clone();
            apply(&mut again, &mut told, &Event::Clean(0), 6).unwrap();
            assert!(is_marked(&told, &[0, 2]), "{:?} {region}", format.0);
            // Or without one: where others' bits are cleared next, its own do not count before it has all.
            let clear = Event::RegionsClean {
                volume,
                first: 7,
                count: 1,
            };
            set.apply(&clear, &context(7)).unwrap();
            let at = set.home(0).unwrap().bitmap.unwrap();
            let plan = writes(&set);
            let own = |sector: u64| {
                let mut own = plan.iter().filter(move |write| write.key == 0);
                own.find(|write| {
                    (write.sector..write.sector + write.bytes.len() as u64 / 512).contains(&sector)
                })
            };
            assert!(own(at).unwrap().phase > own(at + 1).unwrap().phase);
            carry_out(&mut disks, &plan);
            let sectors = emd_core::metadata::md::bitmap::sectors(2400, 1) as usize;
            assert_eq!(disks[0].read(at, sectors), disks[2].read(at, sectors));
        }
    }
}
