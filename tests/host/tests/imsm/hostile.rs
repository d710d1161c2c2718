// SPDX-License-Identifier: GPL-2.0

//! Damaged, truncated and hostile metadata: never a panic, never a guess, always a reason, and no write
//! to what is in doubt.

use crate::imsm_common::world::{spec, World};
use crate::imsm_common::{
    anchor, carry_out, context, facts, open, open_keyed, probe, reseal, sample, show, writes,
    Random,
};
use emd_core::metadata::imsm::layout::{disk as disk_entry, header, map, Which};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{
    Access, BadRange, CrashPolicy, DiskState, Event, Level, Scrub, SpareRole, VolumeSpec,
};
use emd_core::personalities::Stretches;
use host_tests::samples::Disk;

/// Whatever is opened must be usable for events without a panic, too.
fn exercise(mut set: Box<ImsmSet>) {
    for volume in set.set().volumes.iter() {
        if volume.stretches.is_empty() {
            continue;
        }
        // What overlaps another one, say, is refused altogether.
        assert!(!matches!(volume.access, Access::ReadWrite));
        // A shape that no level runs is refused when it is started.
        let Ok((stretches, members)) = Stretches::new(volume) else {
            continue;
        };
        for sector in [0, 1, volume.size_sectors / 2, volume.size_sectors - 1] {
            let place = stretches.locate(sector).unwrap();
            assert!(usize::from(place.slot) < members.len());
            assert!(place.member_sector < stretches.member_end(place.slot));
        }
    }
    let volumes = set.set().volumes.len() as u16;
    let disks = set.set().disks.len() as u16;
    let all: Vec<Option<u16>> = (0..disks.min(3)).map(Some).collect();
    let mut events = Vec::new();
    for volume in 0..volumes.min(4) {
        events.push(Event::Dirty(volume));
        events.push(Event::ResyncProgress {
            volume,
            done_sectors: 0,
        });
        for slot in 0..3 {
            for disk in 0..disks.min(4) {
                events.push(Event::SpareActivated { volume, slot, disk });
                events.push(Event::RebuildDone { volume, slot });
            }
        }
        events.push(Event::Clean(volume));
        for repairs in [false, true] {
            let scrub = Scrub {
                repairs,
                done_sectors: 8,
            };
            events.push(Event::ScrubProgress(volume, Some(scrub)));
            events.push(Event::Dirty(volume));
            events.push(Event::CrashPolicySet(volume, CrashPolicy::Log));
            events.push(Event::Clean(volume));
        }
    }
    events.push(Event::VolumeCreated(VolumeSpec {
        size_sectors: 64,
        ..spec("x", Level::Raid0, &all)
    }));
    for disk in 0..disks.min(6) {
        let range = BadRange {
            disk,
            sector: u64::MAX - 5,
            sectors: 5,
        };
        events.push(Event::BadRangeAdded(range));
        events.push(Event::BadRangeAdded(BadRange { sector: 5, ..range }));
        events.push(Event::SpareAssigned(disk, SpareRole::Global));
        events.push(Event::DiskFailed(disk));
        events.push(Event::DiskRemoved(disk));
        events.push(Event::DiskMissing(disk));
    }
    for volume in 0..volumes.min(4) {
        events.push(Event::VolumeDeleted(volume));
    }
    for (n, event) in events.iter().enumerate() {
        if let Err(why) = set.apply(event, &context(n as u64)) {
            assert!(!why.text().is_empty());
            assert!(!why.text().starts_with("internal"), "{event:?}: {why}");
        }
        let frozen = set.frozen.is_some();
        assert!(
            !frozen || set.plan().is_empty(),
            "{event:?} writes to a set in doubt"
        );
    }
}

fn flip(disk: &mut Disk, byte: u64, mask: u8) {
    let sector = byte / 512;
    let mut bytes = disk.read(sector, 1);
    bytes[(byte % 512) as usize] ^= mask;
    disk.write(sector, &bytes);
}

const CASES: [&str; 10] = [
    "gen/raid0",
    "gen/raid1",
    "gen/raid10",
    "gen/raid5-4",
    "gen/4k-raid1",
    "gen/bbm",
    "gen/raid1-rebuild",
    "gen/raid5-rebuild",
    "gen/grow-r5",
    "gen-freebsd/intel-raid1-2d",
];

fn tails(case: &str) -> Vec<Disk> {
    let mut disks = sample(case);
    for disk in &mut disks {
        disk.keep_last(3000);
    }
    disks
}

/// One byte of one MPB flipped: the disk is not known, or known as torn, and the others carry the set.
#[test]
fn a_flipped_byte_on_one_disk_loses_nothing() {
    for case in ["gen/raid1", "gen/raid10", "gen/4k-raid1"] {
        let disks = tails(case);
        let good = show(open(&disks).unwrap().set());
        let (first, _) = anchor(&disks[0]);
        for byte in 0..480u64 {
            let mut broken = disks.clone();
            flip(&mut broken[0], first + byte, 1 << (byte % 8));
            let set = open(&broken).unwrap_or_else(|why| panic!("{case} {byte}: {why}"));
            let generation = (0x2C..0x30).contains(&byte);
            let identity = byte < 24
                || (0x24..0x28).contains(&byte)
                || (0x28..0x2C).contains(&byte)
                || (0x40..0x44).contains(&byte);
            if generation {
                // It may seem to be the newest.
                assert!(
                    set.frozen.is_some() || show(set.set()) == good,
                    "{case} {byte}"
                );
            } else if !identity {
                assert_eq!(show(set.set()), good, "{case} {byte}");
                assert!(set
                    .set()
                    .notes
                    .iter()
                    .any(|note| note.as_str().contains("torn")));
            }
        }
    }
}

#[test]
fn random_damage_never_panics() {
    let mut random = Random(11);
    for case in CASES {
        let disks = tails(case);
        for _ in 0..150 {
            let mut broken = disks.clone();
            for disk in &mut broken {
                let (first, block) = anchor(disk);
                for _ in 0..random.below(4) {
                    let byte = first - block + random.below(3 * block);
                    flip(disk, byte, random.below(256) as u8);
                }
            }
            if let Ok(set) = open(&broken) {
                exercise(set);
            }
        }
    }
}

/// Bytes that lie, under a right checksum, on one disk or on all.
#[test]
fn sealed_lies_never_panic() {
    let mut random = Random(5);
    let mut opened = 0;
    for case in CASES {
        let disks = tails(case);
        for round in 0..300 {
            let mut broken = disks.clone();
            let lies: Vec<(usize, u8)> = (0..1 + random.below(3))
                .map(|_| {
                    let at = 0x24 + random.below(620) as usize;
                    let value = [0, 1, 2, 3, 0x7F, 0x80, 0xFF, random.below(256) as u8];
                    (at, value[random.below(8) as usize])
                })
                .collect();
            let many = round % 3 > 0;
            for disk in broken.iter_mut().take(if many { 9 } else { 1 }) {
                reseal(disk, &mut |mpb| {
                    for &(at, value) in &lies {
                        if let Some(byte) = mpb.get_mut(at) {
                            *byte = value;
                        }
                    }
                });
            }
            if let Ok(set) = open(&broken) {
                opened += 1;
                exercise(set);
            }
        }
    }
    assert!(opened > 500, "only {opened}");
}

#[test]
fn truncated_disks() {
    let disks = tails("gen/raid5-4");
    for size in [0, 1, 2, 15, 16, 17, 2047, 2048, 2049] {
        let mut short = Disk::blank("short", size, 512);
        let (first, _) = anchor(&disks[0]);
        let mpb = disks[0].read(first / 512 - 1, 3);
        if size >= 3 {
            short.write(size - 3, &mpb);
        }
        let (_, verdict, _) = probe(&short, 0);
        let found = matches!(verdict, Probe::Found { .. });
        assert_eq!(found, size >= 2048, "{size}: {verdict:?}");
        if found {
            let set = open_keyed(&[(0, &short)]).unwrap();
            assert!(matches!(set.set().disks[0].state, DiskState::Missing));
            exercise(set);
        }
    }
}

/// The newest MPB is torn, and what is whole is older: nothing is believed, nothing written.
#[test]
fn an_old_half_does_not_stand_in_for_a_torn_new_one() {
    let mut disks = tails("gen/raid1-missing");
    let set = open(&disks).unwrap();
    assert!(set.frozen.is_none());
    let (first, _) = anchor(&disks[0]);
    flip(&mut disks[0], first + 300, 1);
    let set = open(&disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::Refused(why) if why.text().contains("damaged")));
    exercise(set);
}

/// Both halves of a mirror were used, each without the other.
#[test]
fn a_set_used_in_two_parts_is_not_guessed_about() {
    let mut world = World::created(2, 40, 512, 0);
    let two = [Some(0), Some(1)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid1, &two)));
    let both = world.disks.clone();
    let mut halves = both.clone();
    for half in 0..2u64 {
        let mut set = open_keyed(&[(half, &both[half as usize])]).unwrap();
        let gone = set
            .set()
            .live_disks()
            .find(|(_, disk)| disk.facts.is_none())
            .map(|(index, _)| index)
            .unwrap();
        for event in [Event::DiskMissing(gone), Event::Dirty(0), Event::Clean(0)]
            .iter()
            .take(3 - half as usize)
        {
            set.apply(event, &context(3)).unwrap();
            carry_out(&mut halves, &writes(&set));
        }
    }
    let set = open(&halves).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(
        matches!(volume.access, Access::Refused(why) if why.text().contains("two parts")),
        "{:?}",
        volume.access
    );
    exercise(set);
}

/// What the first disk of `disks` takes of an event that no other one hears of before power goes.
fn first_disk_only(disks: &[Disk], event: &Event<'_>) -> Disk {
    let mut set = open(disks).unwrap();
    set.apply(event, &context(3)).unwrap();
    let mut after = disks.to_vec();
    carry_out(&mut after, &writes(&set));
    after.swap_remove(0)
}

/// A loss that only one disk heard of, and then that disk is away: the others go on without it. All the
/// same nobody used the set apart from them, and that is known also while the disks that both parts call
/// good are away.
#[test]
fn a_loss_that_only_one_disk_heard_of_is_no_second_part() {
    let mut world = World::created(4, 40, 512, 0);
    let four = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid10, &four)));
    let lone = first_disk_only(&world.disks, &Event::DiskFailed(2));
    let keyed = |skip: u64| {
        let keys = (0..4).filter(move |key| *key != skip);
        keys.collect::<Vec<u64>>()
    };
    let mut disks = world.disks.clone();
    for event in [Event::DiskMissing(0), Event::Dirty(0), Event::Clean(0)] {
        let here: Vec<_> = keyed(0)
            .into_iter()
            .map(|key| (key, &disks[key as usize]))
            .collect();
        let mut set = open_keyed(&here).unwrap();
        set.apply(&event, &context(4)).unwrap();
        let plan = writes(&set);
        carry_out(&mut disks, &plan);
    }
    let set = open_keyed(&[(0, &lone), (2, &disks[2])]).unwrap();
    assert!(set.frozen.is_none(), "{:?}", set.frozen);
    assert_eq!(set.set().disk(2).unwrap().state, DiskState::Online);
    assert_ne!(set.set().disk(0).unwrap().state, DiskState::Online);
}

/// Two updates of one generation, each cut after its first disk, of which each was away during the other's:
/// the others, which have neither, say that nobody went on with them.
#[test]
fn two_updates_that_were_cut_at_their_first_disk_are_no_contradiction() {
    let mut world = World::created(4, 40, 512, 0);
    let four = [Some(0), Some(1), Some(2), Some(3)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &four)));
    let spare = world.add(40, SpareRole::Global);
    world.apply(&Event::DiskMissing(1));
    let taken = Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: spare,
    };
    let key = |disk: u16| world.set.set().disk(disk).unwrap().facts.unwrap().key;
    let spare_key = key(spare);
    let before = world.disks.clone();
    // One that reaches the spare only …
    let mut set = open_keyed(&[
        (0, &before[0]),
        (2, &before[2]),
        (3, &before[3]),
        (spare_key, &before[spare_key as usize]),
    ])
    .unwrap();
    let index = set.set().disk_by_key(spare_key).unwrap();
    let Event::SpareActivated { volume, slot, .. } = taken else {
        unreachable!()
    };
    set.apply(
        &Event::SpareActivated {
            volume,
            slot,
            disk: index,
        },
        &context(5),
    )
    .unwrap();
    let mut disks = before.clone();
    carry_out(&mut disks, &writes(&set));
    let with_spare = disks[spare_key as usize].clone();
    // … and one that reaches the disk that comes back only, while the spare is away.
    let mut set = open_keyed(&[
        (0, &before[0]),
        (1, &before[1]),
        (2, &before[2]),
        (3, &before[3]),
    ])
    .unwrap();
    let index = set.set().disk_by_key(1).unwrap();
    let event = Event::DiskReturned(index, facts(&before[1], 1));
    set.apply(&event, &context(6)).unwrap();
    let mut disks = before.clone();
    carry_out(&mut disks, &writes(&set));
    let back = disks[1].clone();
    let all = [
        (0, &before[0]),
        (1, &back),
        (2, &before[2]),
        (3, &before[3]),
        (spare_key, &with_spare),
    ];
    let set = open_keyed(&all).unwrap();
    assert!(set.frozen.is_none(), "{:?}", set.frozen);
    assert!(matches!(
        set.set().volume(0).unwrap().access,
        Access::ReadWrite
    ));
    // Had one of the others heard of one of them, that one would count.
    for (key, disk) in [(1, &back), (spare_key, &with_spare)] {
        let set = open_keyed(&[
            (0, &before[0]),
            (2, &before[2]),
            (3, &before[3]),
            (key, disk),
        ])
        .unwrap();
        assert!(set.frozen.is_none(), "{:?}", set.frozen);
    }
    exercise(set);
}

/// Disks of one serial number, and disks that tell none.
#[test]
fn disks_that_cannot_be_told_apart() {
    let mut disks = tails("gen/raid1");
    disks[1].name = disks[0].name.clone();
    let set = open(&disks).unwrap();
    assert!(set.frozen.is_some());
    assert!(matches!(
        set.set().volume(0).unwrap().access,
        Access::Refused(_)
    ));
    exercise(set);
    let mut disks = tails("gen/raid1");
    disks[1].name = String::new();
    let set = open(&disks).unwrap();
    let unknown = set.set().disk_by_key(1).unwrap();
    assert_eq!(set.set().disk(unknown).unwrap().state, DiskState::Stale);
    assert!(set
        .set()
        .notes
        .iter()
        .any(|note| note.as_str().contains("serial number")));
    exercise(set);
}

/// Features that are not known: nothing is written, and what can be read is read-only.
#[test]
fn unknown_attributes_are_not_written() {
    let mut disks = tails("gen/raid1");
    for disk in &mut disks {
        reseal(disk, &mut |mpb| mpb[0x37] |= 0x02);
    }
    let set = open(&disks).unwrap();
    assert!(matches!(
        set.set().volume(0).unwrap().access,
        Access::ReadOnly(_)
    ));
    exercise(set);
}

/// mdadm marks the serial number of a disk that fails once for each volume it is in, and drops characters
/// in front when they do not fit: it is that disk all the same.
#[test]
fn disks_marked_for_each_volume_are_known() {
    for (marks, kept) in [(1, 16), (2, 16), (2, 5)] {
        let mut world = World::created(3, 64, 512, 0);
        let all = [Some(0), Some(1), Some(2)];
        world.apply(&Event::VolumeCreated(spec("one", Level::Raid5, &all)));
        world.apply(&Event::DiskFailed(2));
        let mut disks = world.disks;
        for disk in disks.iter_mut().take(2) {
            reseal(disk, &mut |mpb| {
                let serial = &mut mpb[header::BYTES + 2 * disk_entry::BYTES..][..16];
                let end = serial.iter().position(|&byte| byte == 0).unwrap();
                assert_eq!(&serial[end - 2..end], b":0");
                let stem = &serial[..end - 2];
                let mut marked = stem[stem.len().saturating_sub(kept)..].to_vec();
                marked.extend(b":0".repeat(marks));
                marked.drain(..marked.len().saturating_sub(15));
                marked.resize(16, 0);
                serial.copy_from_slice(&marked);
            });
        }
        let set = open(&disks).unwrap();
        assert_eq!(set.set().disks.len(), 3, "{marks} marks");
        assert_eq!(set.set().disk(2).unwrap().state, DiskState::Failed);
        assert!(set.set().disk(2).unwrap().facts.is_some());
        assert_eq!(set.set().disk_by_key(2), Some(2));
    }
}

/// Without a reshape both maps of a volume are of one shape. Where they are not, what is behind the shorter one stays as it is,
/// also when a loss is recorded.
#[test]
fn maps_of_two_shapes() {
    let mut world = World::created(4, 64, 512, 0);
    let four = [Some(0), Some(1), Some(2), Some(3)];
    let first = VolumeSpec {
        size_sectors: 2 * 16384,
        assume_clean: false,
        ..spec("first", Level::Raid10, &four)
    };
    world.apply(&Event::VolumeCreated(first));
    world.apply(&Event::ResyncProgress {
        volume: 0,
        done_sectors: 8192,
    });
    let second = VolumeSpec {
        size_sectors: 16384,
        ..spec("second", Level::Raid0, &four)
    };
    world.apply(&Event::VolumeCreated(second));
    type Lie = fn(&mut Vec<u8>, usize, usize);
    let lies: [Lie; 4] = [
        // Its second map has one member.
        |mpb, map, len| {
            let end = map + len;
            mpb.drain(end - 12..end);
            mpb.extend([0; 12]);
            mpb[map + map::MEMBERS] = 1;
            let size = u32::from_le_bytes(mpb[0x24..0x28].try_into().unwrap()) - 12;
            mpb[0x24..0x28].copy_from_slice(&size.to_le_bytes());
        },
        |mpb, map, _| mpb[map + map::LEVEL] = 0,
        |mpb, map, _| mpb[map + map::STRIP] ^= 0x80,
        |mpb, map, _| mpb[map + map::START_LO] ^= 0x80,
    ];
    let raw = world.set.mpb.raw();
    let at = raw.map_at(raw.volume_at(0), Which::Second);
    assert_ne!(at, raw.map_at(raw.volume_at(0), Which::First));
    let len = raw.map_len(at);
    for (which, lie) in lies.iter().enumerate() {
        let mut disks = world.disks.clone();
        for disk in &mut disks {
            reseal(disk, &mut |mpb| lie(mpb, at, len));
        }
        let mut set = open(&disks).unwrap();
        let access = set.set().volume(0).unwrap().access;
        assert!(matches!(access, Access::Refused(_)), "{which}: {access:?}");
        set.apply(&Event::DiskFailed(3), &context(9)).unwrap();
        carry_out(&mut disks, &writes(&set));
        let again = open(&disks[..3]).unwrap();
        let other = again.set().volume(1).unwrap();
        assert_eq!(other.name.as_str(), "second", "{which}");
        exercise(set);
    }
}
