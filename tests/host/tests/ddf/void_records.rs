// SPDX-License-Identifier: GPL-2.0

//! EMD's own records that are damaged, missing, or of a state that somebody else has changed since:
//! what they say counts for nothing, on the safe side.

use crate::ddf_common::damage::edited;
use crate::ddf_common::records::{all, bump, clean, dirty, drop_section, mark, reopened, unmark};
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{
    assert_same, blanks, carry_out, context, open, open_keyed, show, writes, Random,
};
use emd_core::metadata::ddf::hole::section_blocks;
use emd_core::metadata::ddf::layout::{vde, Section, TABLE_HEAD};
use emd_core::metadata::ddf::vendor_log::Plan;
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, BadRange, Consistency, CrashPolicy, Event, Level, MemberState, SpareRole, Text,
    VolumeSpec,
};
use host_tests::samples::{load, Disk};

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
    for case in ["gen-freebsd/ddf-raid1-2d", "gen-freebsd/ddf-raid1-2d-4kn"] {
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
        assert!(!set.keeps_bad_ranges(0));
        let header = disks[0].read(disks[0].size_sectors - 1, 1);
        crate::ddf_common::apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
        assert_eq!(header, disks[0].read(disks[0].size_sectors - 1, 1));
    }
}

/// Sets that mdadm made have them in the workspace, which mdadm never uses: behind the copy that it puts at its start, in
/// front of the other one.
#[test]
fn sets_of_mdadms_have_them_in_the_workspace() {
    for case in [
        "gen/raid1",
        "gen/raid5-la",
        "gen/raid10",
        "gen/raid6-ddf-N-restart",
    ] {
        let mut disks = load(&format!("ddf/{case}"));
        let mut set = open(&disks).unwrap();
        assert!(dirty(&set).is_empty(), "{case}: it is clean");
        let home = set.home(0).unwrap();
        let [primary, secondary] = home.copies.map(|at| at.expect("two copies"));
        let span = u64::from(home.layout.span_blocks());
        let section = home.vendor.as_ref().expect("a place for them");
        assert!(section.rings.is_some(), "{case}: and for logs");
        let end = section.block + u64::from(section_blocks(&Plan::new(512)));
        assert!(
            secondary + span <= section.block && end <= primary,
            "{case}"
        );
        let first = section.block;

        let outside = |disk: &Disk| disk.read(secondary, (first - secondary) as usize);
        let before = disks.iter().map(outside).collect::<Vec<_>>();
        let dirtied = crate::ddf_common::apply(&mut set, &mut disks, &Event::Dirty(0), 1);
        dirtied.unwrap();
        assert_ne!(
            disks.iter().map(outside).collect::<Vec<_>>(),
            before,
            "{case}: headers are written"
        );
        let before = disks.iter().map(outside).collect::<Vec<_>>();
        crate::ddf_common::apply(&mut set, &mut disks, &mark(0, 1), 2).unwrap();
        let bad = BadRange {
            disk: 1,
            sector: 8,
            sectors: 8,
        };
        crate::ddf_common::apply(&mut set, &mut disks, &Event::BadRangeAdded(bad), 3).unwrap();
        assert_eq!(
            disks.iter().map(outside).collect::<Vec<_>>(),
            before,
            "{case}: headers are not"
        );
        assert!(
            !set.keeps_bad_ranges(1),
            "{case}: mdadm reads there as if it held data"
        );
        let again = open(&disks).unwrap();
        assert_eq!(dirty(&again), [0], "{case}");
        assert_eq!(again.set().bad_ranges.to_vec(), [bad], "{case}");

        // mdadm goes on with it: what was noted is void, but for the bad place.
        bump(&set, &mut disks, 1);
        let again = open(&disks).unwrap();
        assert_eq!(dirty(&again), all(&again), "{case}");
        assert_eq!(again.set().bad_ranges.to_vec(), [bad], "{case}");
    }
}

/// While a controller migrates a volume of such a set, the workspace is scratch in earnest: nothing is read from there, and
/// nothing is written.
#[test]
fn the_workspace_is_anothers_while_a_volume_is_migrated() {
    let mut disks = load("ddf/gen/raid5-la");
    let set = open(&disks).unwrap();
    let home = set.home(0).unwrap();
    let section = home.vendor.as_ref().expect("a place for them").block;
    let workspace = section..home.copies[0].unwrap();
    let disk_count = disks.len();
    // Two volumes in place of its one.
    let mut world = World::new(set, disks, 0);
    world.apply(&Event::VolumeDeleted(0));
    let all: Vec<Option<u16>> = (0..disk_count as u16).map(Some).collect();
    for name in ["first", "other"] {
        world.apply(&Event::VolumeCreated(VolumeSpec {
            size_sectors: 1024,
            assume_clean: true,
            ..spec(name, Level::Raid5, &all)
        }));
    }
    world.set = open(&world.disks).unwrap();
    world.apply(&Event::CrashPolicySet(1, CrashPolicy::Log));
    world.apply(&Event::Dirty(1));
    world.apply(&Event::RegionsDirty {
        volume: 1,
        first: 0,
        count: 1,
    });
    disks = edited(&world.disks, &world.set, Section::Volumes, &|_, bytes| {
        bytes[TABLE_HEAD + vde::STATE] |= vde::MORPHING;
    });
    let mut set = open(&disks).unwrap();
    let [first, other] = [0, 1].map(|volume| set.set().volume(volume).unwrap().access);
    assert!(matches!(
        (first, other),
        (Access::Refused(_), Access::ReadWrite)
    ));
    assert!(set.log.is_none());
    assert!(set.set().volume(1).unwrap().regions.is_none());
    assert!(set.hole_log(1).is_none());
    let mut notes = set.set().notes.iter();
    assert!(notes.any(|note| note.as_str().contains("migrated")));
    for event in [
        Event::Clean(1),
        Event::Dirty(1),
        Event::DiskFailed(0),
        Event::VolumeRenamed(1, Text::from_text("renamed")),
    ] {
        set.apply(&event, &context(5)).unwrap();
        let plan = writes(&set);
        assert!(!plan.is_empty(), "{event:?}");
        for write in &plan {
            let end = write.sector + write.bytes.len() as u64 / 512;
            let apart = end <= workspace.start || workspace.end <= write.sector;
            assert!(apart, "{event:?}: {}..{end}", write.sector);
        }
        carry_out(&mut disks, &plan);
    }
    // That is over: what was noted before says nothing of what was written meanwhile.
    let disks = edited(&disks, &set, Section::Volumes, &|_, bytes| {
        bytes[TABLE_HEAD + vde::STATE] &= !vde::MORPHING;
    });
    let set = open(&disks).unwrap();
    let log = set.set().volume(1).unwrap().regions.as_ref().unwrap();
    assert!((0..log.regions).all(|region| log.is_dirty(region)));
}

/// The section is taken out of the headers: the set goes on without.
#[test]
fn without_the_section_the_set_goes_on() {
    let mut world = clean(Level::Raid1, 2, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    let mut disks = world.disks.clone();
    for index in 0..2 {
        drop_section(&world.set, &mut disks, index);
    }
    let mut set = open(&disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(volume.regions.is_none());
    assert_eq!(volume.consistency, Consistency::Dirty);
    assert!(set.apply(&mark(0, 1), &context(1)).is_err());
    crate::ddf_common::apply(&mut set, &mut disks, &Event::DiskFailed(1), 2).unwrap();
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
            let of = |write: &&crate::ddf_common::Write| write.phase == phase;
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

/// The states of the disks after each phase of adding disk 2 to `world`, after `before`, when power goes and the set
/// starts without the new disk and records `events`.
fn cut_while_added(world: &mut World, events: &[Event<'_>], judge: impl Fn(&DdfSet, &str)) {
    let before = world.disks.clone();
    world.add(128, SpareRole::Global);
    let plan = writes(&world.set);
    let last = plan.iter().map(|write| write.phase).max().unwrap();
    for phase in 3..=last + 1 {
        let mut disks = before.clone();
        disks.extend(blanks(1, 128, 512));
        let done: Vec<_> = plan.iter().filter(|w| w.phase < phase).cloned().collect();
        carry_out(&mut disks, &done);
        for event in events {
            let mut without = open(&disks[..2]).unwrap();
            crate::ddf_common::apply(&mut without, &mut disks, event, 90).unwrap();
        }
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let here = order.map(|key: usize| (key as u64, &disks[key]));
            let set = open_keyed(&here).unwrap();
            judge(&set, &format!("before phase {phase}, {order:?}"));
        }
    }
}

/// A disk is being added when power goes: it alone has the new state, and no other. The set starts without it, and what is
/// recorded then is no new state; beside the new disk it counts all the same. (Found by the simulator.)
#[test]
fn records_go_on_without_a_disk_that_was_being_added() {
    let mut world = clean(Level::Raid1, 2, 512);
    world.apply(&Event::Dirty(0));
    world.apply(&mark(3, 1));
    let bad = BadRange {
        disk: 1,
        sector: 100,
        sectors: 8,
    };
    let events = [mark(9, 1), unmark(3, 1), Event::BadRangeAdded(bad)];
    cut_while_added(&mut world, &events, |set, at| {
        assert_eq!(dirty(set), [9], "{at}");
        assert_eq!(set.set().bad_ranges.to_vec(), [bad], "{at}");
    });
}

/// The same, and what is recorded then is a new state, with the number that the new disk has already.
#[test]
fn a_disk_that_was_being_added_has_no_say() {
    for (first, then) in [
        (Event::Clean(0), Event::Dirty(0)),
        (Event::Dirty(0), Event::Clean(0)),
    ] {
        let mut world = clean(Level::Raid1, 2, 512);
        world.apply(&first);
        let events = [then];
        let wanted = match events {
            [Event::Dirty(_)] => Consistency::Dirty,
            _ => Consistency::Clean,
        };
        cut_while_added(&mut world, &events, |set, at| {
            let volume = set.set().volume(0).unwrap();
            assert_eq!(volume.consistency, wanted, "{at}");
        });
    }
    let mut world = clean(Level::Raid1, 2, 512);
    cut_while_added(&mut world, &[Event::DiskFailed(0)], |set, at| {
        let member = set.set().volume(0).unwrap().members[0];
        assert_eq!(member.state, MemberState::Failed, "{at}");
    });
}
