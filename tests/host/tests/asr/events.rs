// SPDX-License-Identifier: GPL-2.0

//! Every event, one after the other, on sets of our own and on the sample's: after each one, the
//! disks say what the memory says; cut anywhere, they say the old or the new state and never a mix.

use crate::asr_common::{
    apply, blanks, carry_out, context, facts, open, show, spec, writes, World,
};
use emd_core::metadata::asr::layout::{header, kind, raid, state, Line};
use emd_core::metadata::asr::Asr;
use emd_core::metadata::{Format, MetadataSet};
use emd_core::model::{
    BadRange, Consistency, DiskRole, DiskState, Event, Layout, Level, MemberState, SpareRole, Text,
    VolumeSpec,
};
use host_tests::share;

/// The life of a redundant volume, with everything that can happen to it.
fn life(world: &mut World, volume: u16, spare_mib: u64) {
    world.apply(&Event::Dirty(volume));
    assert_eq!(world.set.table.head()[header::DIRTY], header::OPEN);
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 0,
    });
    for done_sectors in [64, 4096, 128] {
        world.apply(&Event::ResyncProgress {
            volume,
            done_sectors,
        });
        assert!(!world.set.plan().is_empty(), "a mark is recorded");
    }
    world.apply(&Event::ResyncDone(volume));
    assert_eq!(
        world.set.set().volume(volume).unwrap().consistency,
        Consistency::Dirty
    );
    world.apply(&Event::Clean(volume));
    assert_eq!(world.set.table.head()[header::DIRTY], header::CLEAN);
    world.apply(&Event::Clean(volume));
    assert!(world.set.plan().is_empty(), "clean twice writes once");
    world.apply(&Event::Dirty(volume));

    let spare = world.add(spare_mib, SpareRole::Global);
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::SpareAssigned(spare, SpareRole::None));
    assert_eq!(world.role(spare), DiskRole::Unused);
    world.apply(&Event::SpareAssigned(spare, SpareRole::Dedicated(volume)));
    assert_eq!(world.role(spare), DiskRole::DedicatedSpare(volume));
    world.apply(&Event::SpareAssigned(spare, SpareRole::Dedicated(volume)));
    assert!(world.set.plan().is_empty(), "assigned twice writes once");

    let lost = world.set.set().volume(volume).unwrap().members[0]
        .disk
        .unwrap();
    world.refuse(&Event::DiskRemoved(lost));
    world.refuse(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::DiskFailed(lost));
    assert_eq!(world.member(volume, 0), MemberState::Failed);
    world.apply(&Event::DiskFailed(lost));
    assert!(world.set.plan().is_empty(), "failed twice writes once");
    world.apply(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.role(spare), DiskRole::Member);
    assert_eq!(world.state(lost), DiskState::Failed);
    for done_sectors in [128, 1024] {
        world.apply(&Event::RebuildProgress {
            volume,
            slot: 0,
            done_sectors,
        });
        assert_eq!(
            world.member(volume, 0),
            MemberState::Rebuilding { done_sectors }
        );
    }
    world.refuse(&Event::RebuildProgress {
        volume,
        slot: 0,
        done_sectors: 1 << 40,
    });
    world.apply(&Event::RebuildDone { volume, slot: 0 });
    assert_eq!(world.member(volume, 0), MemberState::InSync);

    // The failed disk comes back as a blank one and takes the place of another.
    let returned = world.set.set().disk(lost).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(lost, returned));
    assert_eq!(world.state(lost), DiskState::Online);
    assert_eq!(world.role(lost), DiskRole::Unused);
    let gone = world.set.set().volume(volume).unwrap().members[1]
        .disk
        .unwrap();
    world.apply(&Event::DiskMissing(gone));
    assert_eq!(world.member(volume, 1), MemberState::Missing);
    assert_eq!(world.state(gone), DiskState::Missing);
    world.apply(&Event::SpareActivated {
        volume,
        slot: 1,
        disk: lost,
    });
    world.apply(&Event::RebuildDone { volume, slot: 1 });
    world.apply(&Event::DiskRemoved(gone));
    world.apply(&Event::Clean(volume));

    world.apply(&Event::VolumeRenamed(volume, Text::from_text("renamed")));
    for bad in ["a name of 17 char", "", "a/b", " a", "a "] {
        world.refuse(&Event::VolumeRenamed(volume, Text::from_text(bad)));
    }
    world.refuse(&Event::RegionsDirty {
        volume,
        first: 0,
        count: 1,
    });
}

#[test]
fn life_of_created_sets() {
    let mut cuts = 0;
    for (level, count, crashes) in [
        (Level::Raid1, 2, 6),
        (Level::Raid10, 4, 6),
        // More than seven lines: the table does not fit into one sector.
        (Level::Raid10, 8, 4),
        (Level::Raid10, 40 - 2, 0),
    ] {
        let mut world = World::created(count, 8, 512, share(crashes));
        let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
        world.apply(&Event::VolumeCreated(spec("vol", level, &disks)));
        life(&mut world, 0, 8);
        world.apply(&Event::VolumeDeleted(0));
        assert!(world.set.table.volumes().next().is_none());
        for (disk, _) in world.set.set().live_disks() {
            assert_eq!(world.role(disk), DiskRole::Unused);
        }
        cuts += world.cuts;
    }
    assert!(cuts > share(1000), "{cuts} cuts");
}

#[test]
fn a_small_table_changes_by_one_sector_on_each_disk() {
    let mut world = World::created(4, 8, 512, 0);
    let disks = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("r10", Level::Raid10, &disks)
    }));
    for event in [
        Event::Dirty(0),
        Event::DiskFailed(2),
        Event::Clean(0),
        Event::VolumeRenamed(0, Text::from_text("x")),
    ] {
        world.apply(&event);
        let plan = world.set.plan().writes();
        assert!(plan.iter().all(|write| write.phase == 0));
        assert!(plan.iter().all(|write| write.source.len_bytes == 512));
        assert!(plan.len() >= 3);
    }
}

/// A long table passes through the second half of its place, which is given back as it was.
#[test]
fn the_second_half_is_left_as_it_was() {
    let mut world = World::created(9, 8, 512, 4);
    for (n, disk) in world.disks.iter_mut().enumerate() {
        let place = disk.size_sectors - 9;
        disk.write(place, &[n as u8 + 1; 8 * 512]);
    }
    world.set = open(&world.disks).unwrap();
    let disks: Vec<Option<u16>> = (0..9).map(Some).collect();
    world.apply(&Event::VolumeCreated(spec("r0", Level::Raid0, &disks)));
    world.apply(&Event::VolumeRenamed(0, Text::from_text("other")));
    let phases = world.set.plan().writes().last().unwrap().phase;
    assert_eq!(phases, 4, "half, pointer, front, pointer, half");
    for (n, disk) in world.disks.iter().enumerate() {
        assert_eq!(disk.read(disk.size_sectors - 9, 8), [n as u8 + 1; 8 * 512]);
        let block = disk.read(disk.size_sectors - 1, 1);
        let place = (disk.size_sectors - 17) as u32;
        assert_eq!(block[0x104..0x108], place.to_be_bytes());
    }
    // Whatever a power cut left: what comes next puts the table back in front.
    world
        .set
        .apply(
            &Event::VolumeRenamed(0, Text::from_text("third")),
            &context(50),
        )
        .unwrap();
    let plan = writes(&world.set);
    let mut torn = world.disks.clone();
    let early: Vec<_> = plan
        .iter()
        .filter(|write| write.phase <= 1)
        .cloned()
        .collect();
    carry_out(&mut torn, &early);
    let set = open(&torn).unwrap();
    assert_eq!(set.set().volume(0).unwrap().name.as_str(), "third");
    let mut again = World::new(set, torn, 4);
    again.apply(&Event::VolumeRenamed(0, Text::from_text("fourth")));
    for disk in &again.disks {
        let block = disk.read(disk.size_sectors - 1, 1);
        let place = (disk.size_sectors - 17) as u32;
        assert_eq!(block[0x104..0x108], place.to_be_bytes());
    }
}

/// RAID 10 is written down as a mirror over two stripes, where dmraid finds its data, or as a stripe
/// over mirrors. Both are the same volume.
#[test]
fn both_forms_of_raid10() {
    let mut world = World::created(6, 8, 512, 0);
    let all: Vec<Option<u16>> = (0..6).map(Some).collect();
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("t", Level::Raid10, &all)
    }));
    let lines: Vec<Line> = world.set.table.lines().map(|(_, line)| line).collect();
    let shape: Vec<_> = lines
        .iter()
        .map(|line| (line.kind, line.raid, line.count, line.id, line.strip))
        .collect();
    let (dual, array, disk) = (kind::DUAL, kind::ARRAY, kind::DISK);
    assert_eq!(
        shape,
        [
            (dual, raid::RAID1, 2, 0, 384),
            (array, raid::RAID0, 3, 0, 384),
            (disk, raid::RAID0, 0, 0, 128),
            (disk, raid::RAID0, 0, 2, 128),
            (disk, raid::RAID0, 0, 4, 128),
            (array, raid::RAID0, 3, 0, 384),
            (disk, raid::RAID0, 0, 1, 128),
            (disk, raid::RAID0, 0, 3, 128),
            (disk, raid::RAID0, 0, 5, 128),
        ]
    );
    // One of each pair may be lost, in whichever stripe.
    world.apply(&Event::DiskFailed(0));
    world.apply(&Event::DiskFailed(3));
    let states = |world: &World| -> Vec<u8> {
        let heads = world.set.table.lines().filter(|(_, line)| !line.is_disk());
        heads.map(|(_, line)| line.state).collect()
    };
    assert_eq!(
        states(&world),
        [state::DEGRADED, state::FAILED, state::FAILED]
    );
    world.apply(&Event::DiskFailed(1));
    assert_eq!(states(&world), [state::FAILED; 3]);

    // The same volume, the other way.
    let mut world = World::created(6, 8, 512, 0);
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("t", Level::Raid10, &all)
    }));
    let ours = show(world.set.set());
    let lines: Vec<Line> = world.set.table.lines().map(|(_, line)| line).collect();
    for (count, disk) in (0..).zip(&mut world.disks) {
        let at = disk.size_sectors - 17;
        let mut table = emd_core::metadata::asr::table::Table::new(&disk.read(at, 16)).unwrap();
        while !table.is_empty() {
            table.remove(0);
        }
        let mut add = |line: Line| {
            let end = table.len();
            table.insert(end, &line);
        };
        add(Line {
            raid: raid::RAID0,
            // Whether arrays or disks are counted here is not documented.
            count: if count < 6 { 3 } else { 6 },
            ..lines[0]
        });
        for pair in 0..3u32 {
            add(Line {
                raid: raid::RAID1,
                count: 2,
                magic: 0x1000 + pair,
                capacity: lines[2].capacity,
                strip: 256,
                ..lines[1]
            });
            for slot in [2 * pair, 2 * pair + 1] {
                let own = lines.iter().find(|line| line.is_disk() && line.id == slot);
                add(Line {
                    raid: raid::RAID1,
                    ..*own.unwrap()
                });
            }
        }
        table.seal();
        disk.write(at, table.bytes());
    }
    let set = open(&world.disks).unwrap();
    assert_eq!(ours, show(set.set()));
    life(&mut World::new(set, world.disks, 3), 0, 8);
}

#[test]
fn several_volumes_in_one_table() {
    let mut world = World::created(7, 8, 512, 3);
    let pair = [Some(4), Some(1)];
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("mirror", Level::Raid1, &pair)
    }));
    let three = [Some(6), Some(0), Some(2)];
    world.apply(&Event::VolumeCreated(spec("stripe", Level::Raid0, &three)));
    let busy = [Some(3), Some(0)];
    let why = world.refuse(&Event::VolumeCreated(spec("x", Level::Raid1, &busy)));
    assert!(why.contains("one volume on a disk"), "{why}");
    let other = [Some(3), Some(5)];
    world.refuse(&Event::VolumeCreated(spec("mirror", Level::Raid1, &other)));
    let sized = VolumeSpec {
        size_sectors: 5001,
        ..spec("second", Level::Raid1, &other)
    };
    world.apply(&Event::VolumeCreated(sized));
    assert_eq!(world.set.set().volume(2).unwrap().size_sectors, 5001);

    // Which of them is dirty is known for each.
    world.apply(&Event::ResyncDone(2));
    world.apply(&Event::Dirty(2));
    let state = |world: &World, volume| world.set.set().volume(volume).unwrap().consistency;
    assert_eq!(state(&world, 0), Consistency::Clean);
    assert_eq!(state(&world, 2), Consistency::Dirty);
    world.apply(&Event::Dirty(0));
    world.apply(&Event::Clean(2));
    world.apply(&Event::VolumeDeleted(1));
    assert_eq!(state(&world, 0), Consistency::Dirty);
    let why = world.refuse(&Event::VolumeCreated(spec(
        "ten",
        Level::Raid10,
        &[Some(0), Some(2), Some(6), None],
    )));
    assert!(why.contains("alone"), "{why}");
    world.apply(&Event::VolumeDeleted(0));
    world.apply(&Event::VolumeDeleted(2));
    let four = [Some(0), Some(2), Some(6), None];
    world.apply(&Event::VolumeCreated(spec("ten", Level::Raid10, &four)));
    assert_eq!(world.member(3, 3), MemberState::Missing);
    let why = world.refuse(&Event::VolumeCreated(spec("late", Level::Raid1, &other)));
    assert!(why.contains("alone"), "{why}");
    world.apply(&Event::SpareActivated {
        volume: 3,
        slot: 3,
        disk: 5,
    });
    world.apply(&Event::RebuildDone { volume: 3, slot: 3 });
}

#[test]
fn what_capabilities_say_can_be_created() {
    for can in Asr.capabilities().levels {
        for &layout in can.layouts {
            for count in [can.members.0, can.members.1] {
                for chunk in [0, 8, 1024] {
                    let mut world = World::created(usize::from(count), 4, 512, 0);
                    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
                    let wanted = VolumeSpec {
                        layout: Some(layout),
                        chunk_sectors: chunk,
                        ..spec("v", can.level, &disks)
                    };
                    let largest = world.set.largest_volume(&wanted).unwrap();
                    world.apply(&Event::VolumeCreated(wanted));
                    let volume = world.set.set().volume(0).unwrap();
                    assert_eq!(volume.size_sectors, largest);
                    assert!(volume.shape.member_sectors <= 4 * 2048 - 17);
                    assert!(volume.shape.member_sectors > 4 * 2048 - 17 - 1024);
                    // A volume and all its disks still leave room for one lost disk's line.
                    assert!(world.set.table.has_room(0));
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    let mut world = World::created(4, 8, 512, 0);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    for level in Level::ALL {
        let can = Asr
            .capabilities()
            .levels
            .iter()
            .any(|can| can.level == level);
        let result = world.set.largest_volume(&spec(
            "x",
            level,
            &all[..if level == Level::Raid1 { 2 } else { 4 }],
        ));
        assert_eq!(result.is_ok(), can, "{level}");
    }
    let bad: [(&str, VolumeSpec<'_>); 9] = [
        ("three mirrors", spec("x", Level::Raid1, &all[..3])),
        ("odd", spec("x", Level::Raid10, &all[..3])),
        (
            "spans",
            VolumeSpec {
                spans: 2,
                ..spec("x", Level::Raid0, &all)
            },
        ),
        (
            "layout",
            VolumeSpec {
                layout: Some(Layout::Near(3)),
                ..spec("x", Level::Raid10, &all)
            },
        ),
        (
            "chunk",
            VolumeSpec {
                chunk_sectors: 96,
                ..spec("x", Level::Raid0, &all)
            },
        ),
        (
            "large chunk",
            VolumeSpec {
                chunk_sectors: 4096,
                ..spec("x", Level::Raid0, &all)
            },
        ),
        (
            "size",
            VolumeSpec {
                size_sectors: 1 << 20,
                ..spec("x", Level::Raid0, &all)
            },
        ),
        ("hole", spec("x", Level::Raid0, &[Some(0), None])),
        (
            "empty pair",
            spec("x", Level::Raid10, &[None, None, Some(0), Some(1)]),
        ),
    ];
    for (what, spec) in bad {
        let why = world.refuse(&Event::VolumeCreated(spec));
        assert!(why.len() > 10, "{what}: {why}");
    }
    // Disks that the format has no numbers for.
    let disk = blanks(1, 8).remove(0);
    for (size, block) in [(1 << 32, 512), (100, 512), (8192, 4096)] {
        let mut facts = facts(&disk, 0);
        facts.size_sectors = size;
        facts.logical_block_bytes = block;
        assert!(Asr.create(&[facts], "", &context(1)).is_err());
    }
    assert!(Asr.create(&[facts(&disk, 0)], "name", &context(1)).is_err());
    assert!(Asr.create(&[facts(&disk, 0); 2], "", &context(1)).is_err());
}

/// A long table on the only disk that is left: no other one helps when it is torn.
#[test]
fn a_lone_long_table_is_never_torn() {
    let mut world = World::created(9, 8, 512, 0);
    let eight: Vec<Option<u16>> = (0..8).map(Some).collect();
    world.apply(&Event::VolumeCreated(spec("t", Level::Raid10, &eight)));
    let alone = vec![world.disks[0].clone()];
    let mut world = World::new(open(&alone).unwrap(), alone, 12);
    for name in ["one", "two", "three"] {
        world.apply(&Event::VolumeRenamed(0, Text::from_text(name)));
    }
    world.apply(&Event::ResyncDone(0));
    for disk in 1..9 {
        world.apply(&Event::DiskMissing(disk));
    }
    assert!(world.cuts > 300, "{}", world.cuts);
}

/// A disk that takes only the first phases of an update, and stays in use: the next one is whole there, even
/// if it changes one sector only.
#[test]
fn a_disk_that_missed_phases_gets_all_of_the_next_update() {
    let mut world = World::created(6, 40, 512, 0);
    let slots: Vec<Option<u16>> = (0..6).map(Some).collect();
    let made = Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("v", Level::Raid10, &slots)
    });
    world.apply(&made);
    world.apply(&Event::Dirty(0));
    world
        .set
        .apply(&Event::DiskFailed(5), &context(50))
        .unwrap();
    let plan = writes(&world.set);
    let last = plan.iter().map(|write| write.phase).max().unwrap();
    assert!(last > 1, "the table has more than a sector");
    for until in 0..=last {
        let (mut set, mut disks) = (open(&world.disks).unwrap(), world.disks.clone());
        set.apply(&Event::DiskFailed(5), &context(50)).unwrap();
        let plan = writes(&set);
        let taken = plan
            .into_iter()
            .filter(|write| write.key != 0 || write.phase < until);
        carry_out(&mut disks, &taken.collect::<Vec<_>>());
        set.missed(0, 0);
        for event in [Event::ResyncDone(0), Event::Clean(0)] {
            apply(&mut set, &mut disks, &event, 60).unwrap();
        }
        let alone = open(&disks[..1]).unwrap();
        let volume = alone.set().volume(0).unwrap();
        assert_eq!(
            volume.consistency,
            Consistency::Clean,
            "phases below {until}"
        );
        assert_eq!(show(open(&disks).unwrap().set()), show(set.set()));
    }
}

/// There is no place for bad ranges: they are known in memory only, and it is said so.
#[test]
fn bad_ranges_are_not_kept() {
    let mut world = World::created(2, 8, 512, 0);
    let pair = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("a", Level::Raid1, &pair)));
    let range = BadRange {
        disk: 1,
        sector: 64,
        sectors: 8,
    };
    world
        .set
        .apply(&Event::BadRangeAdded(range), &context(1))
        .unwrap();
    assert_eq!(world.set.set().bad_ranges.to_vec(), [range]);
    assert!(world.set.plan().is_empty());
    assert!(!world.set.keeps_bad_ranges(1));
}

/// A disk that the volume cannot do without takes data and no metadata, however long, and then all stops: it
/// counts at the next start, and hears of everything.
#[test]
fn who_could_not_be_done_without_counts() {
    let mut world = World::created(4, 40, 512, 0);
    let slots: Vec<Option<u16>> = (0..4).map(Some).collect();
    let made = Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("v", Level::Raid10, &slots)
    });
    world.apply(&made);
    let (mut set, mut disks) = world.restarted_without_metadata(&[0], &[1]);
    let volume = set.set().volume(0).unwrap();
    assert_ne!(volume.members[0].state, MemberState::InSync);
    let in_sync = |slot: usize| volume.members[slot].state == MemberState::InSync;
    assert!(in_sync(1) && in_sync(2) && in_sync(3), "{volume:?}");
    apply(&mut set, &mut disks, &Event::Dirty(0), 92).unwrap();
    assert_eq!(show(open(&disks).unwrap().set()), show(set.set()));
}

#[test]
fn a_set_sees_so_many_disks_and_no_more() {
    let mut world = World::created(2, 8, 512, 0);
    let both = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &both)));
    world.add_and_remove_to_the_limit(8);
}
