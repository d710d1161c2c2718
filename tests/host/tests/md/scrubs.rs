// SPDX-License-Identifier: GPL-2.0

//! The mark of a check or repair: it outlives a restart, is believed only as EMD left it, and is gone with the scrub.

use crate::md_common::{change, open, Of, World, ALL};
use emd_core::metadata::md::{Md, Version};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, Event, Level, MemberState, Scrub, SpareRole, VolumeSpec};
use host_tests::ppl::crc;
use host_tests::samples::Disk;
use host_tests::shell::spec;

/// The levels that have something to check, with a number of members.
const LEVELS: [(Level, u16); 5] = [
    (Level::Raid1, 2),
    (Level::Raid4, 3),
    (Level::Raid5, 3),
    (Level::Raid6, 4),
    (Level::Raid10, 4),
];

fn scrub(repairs: bool, done_sectors: u64) -> Scrub {
    Scrub {
        repairs,
        done_sectors,
    }
}

/// A clean array of disks of 40 MiB. `cuts`: see [`World::made`].
fn world(format: &'static Md, level: Level, count: u16, cuts: usize) -> World {
    let mut world = World::made(Of(format), usize::from(count), 40, 512, cuts);
    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("", level, &disks)
    }));
    world
}

/// What the disks say.
fn said(format: &'static Md, disks: &[Disk]) -> Option<Scrub> {
    open(format, disks).unwrap().set().volume(0).unwrap().scrub
}

/// Where the mark is in a superblock.
fn place(format: &Md) -> usize {
    match format.0 {
        Version::V090 => 4 * 126,
        _ => 0x98,
    }
}

fn superblock(format: &Md, disk: &Disk) -> Vec<u8> {
    disk.read(format.0.sector(disk.size_sectors).unwrap(), 8)
}

fn word(format: &Md, disk: &Disk) -> u64 {
    let at = place(format);
    u64::from_le_bytes(superblock(format, disk)[at..at + 8].try_into().unwrap())
}

/// What someone who knows the place, and the seal, would leave there.
fn forged(format: &Md, disk: &Disk, kind: u8, units: u64) -> u64 {
    let bytes = superblock(format, disk);
    let parts = match format.0 {
        Version::V090 => [&bytes[..152], &bytes[156..504]],
        _ => [&bytes[..0x98], &bytes[0xA0..0xD8]],
    };
    let bare = (u64::from(kind) << 56) | units;
    let sealed = [parts[0], parts[1], &bare.to_le_bytes()].concat();
    bare | (u64::from(crc(&sealed) & 0xFFFF) << 40)
}

fn set_word(format: &Md, disk: &mut Disk, word: u64) {
    change(format, disk, place(format), &word.to_le_bytes());
}

#[test]
fn scrubs_outlive_a_restart() {
    for format in ALL {
        for (level, count) in LEVELS {
            let mut world = world(format, level, count, 2);
            assert_eq!(said(format, &world.disks), None);
            let events = world.set.set().generation;
            for (repairs, done_sectors) in [(false, 0), (false, 4096), (true, 12_344), (true, 64)] {
                let mark = Some(scrub(repairs, done_sectors));
                world.apply(&Event::ScrubProgress(0, mark));
                assert_eq!(
                    world.set.plan().writes().len(),
                    usize::from(count),
                    "one sector each"
                );
                assert_eq!(said(format, &world.disks), mark, "{level}");
            }
            // Where there is no place for the odd sectors it is less.
            world.apply(&Event::ScrubProgress(0, Some(scrub(true, 71))));
            assert!(world.set.plan().is_empty());
            assert_eq!(said(format, &world.disks), Some(scrub(true, 64)));
            world.refuse(&Event::ScrubProgress(0, Some(scrub(true, u64::MAX))));
            assert_eq!(world.set.set().generation, events, "no event");
            // Others write beside it.
            for event in [
                Event::Dirty(0),
                Event::ResyncProgress {
                    volume: 0,
                    done_sectors: 64,
                },
                Event::Clean(0),
                Event::ResyncProgress {
                    volume: 0,
                    done_sectors: 128,
                },
                Event::ResyncDone(0),
            ] {
                world.apply(&event);
                assert_eq!(
                    said(format, &world.disks),
                    Some(scrub(true, 64)),
                    "{event:?}"
                );
            }
            assert_eq!(world.consistency(0), Consistency::Clean);
            world.apply(&Event::ScrubProgress(0, None));
            assert_eq!(said(format, &world.disks), None);
            for disk in &world.disks {
                assert_eq!(word(format, disk), 0, "nothing is left of it");
            }
        }
    }
}

#[test]
fn members_go_and_come() {
    for format in ALL {
        let mut world = world(format, Level::Raid6, 4, 2);
        let mark = Some(scrub(false, 800));
        world.apply(&Event::ScrubProgress(0, mark));
        let spare = world.add(41, SpareRole::Global);
        let lost = world.disk_in(0, 1);
        world.apply(&Event::DiskFailed(lost));
        assert_eq!(said(format, &world.disks), mark, "the others have it");
        world.apply(&Event::SpareActivated {
            volume: 0,
            slot: 1,
            disk: spare,
        });
        world.apply(&Event::RebuildProgress {
            volume: 0,
            slot: 1,
            done_sectors: 128,
        });
        assert_eq!(
            world.member(0, 1),
            MemberState::Rebuilding { done_sectors: 128 }
        );
        let word_of_spare = word(format, &world.disks[usize::from(spare)]);
        match format.0 {
            Version::V090 => assert_eq!(word_of_spare >> 56, 0xEB, "one of a rebuild"),
            _ => assert_eq!(word_of_spare, 128),
        }
        world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
        assert_eq!(said(format, &world.disks), mark);
        world.apply(&Event::ScrubProgress(0, None));
        assert_eq!(said(format, &world.disks), None);
    }
}

#[test]
fn what_has_no_redundancy_has_no_mark() {
    for format in ALL {
        for level in [Level::Raid0, Level::Concat] {
            let mut world = world(format, level, 2, 0);
            world.apply(&Event::ScrubProgress(0, Some(scrub(false, 0))));
            assert!(world.set.plan().is_empty());
            for disk in &mut world.disks {
                let word = forged(format, disk, 0xEC, 0);
                set_word(format, disk, word);
            }
            assert_eq!(said(format, &world.disks), None);
        }
    }
}

/// md zeroes the mark when it writes; whatever others leave of it, they change what the seal is over.
#[test]
fn only_what_emd_left_is_believed() {
    for format in ALL {
        let mut world = world(format, Level::Raid5, 3, 0);
        let mark = Some(scrub(true, 2048));
        world.apply(&Event::ScrubProgress(0, mark));
        let (events, utime, chunk) = match format.0 {
            Version::V090 => (4 * 39, 4 * 32, 4 * 65),
            _ => (0xC8, 0xC0, 0x58),
        };
        let believed = |work: &dyn Fn(&mut [Disk])| {
            let mut disks = world.disks.clone();
            work(&mut disks);
            said(format, &disks)
        };
        assert_eq!(believed(&|_| ()), mark);
        let add = |disk: &mut Disk, at: usize, more: u8| {
            let byte = superblock(format, disk)[at].wrapping_add(more);
            change(format, disk, at, &[byte]);
        };
        // md wrote one of them, and was cut.
        let zeroed = |disks: &mut [Disk]| set_word(format, &mut disks[1], 0);
        assert_eq!(believed(&zeroed), None);
        // Somebody wrote and left what they did not know: one more event, another time, another shape.
        for at in [events, utime] {
            assert_eq!(believed(&|disks| add(&mut disks[0], at, 1)), None, "{at}");
            let all = |disks: &mut [Disk]| disks.iter_mut().for_each(|disk| add(disk, at, 1));
            assert_eq!(believed(&all), None, "{at}");
        }
        // Chunks of half the size (512 KiB are made).
        let half: &[u8] = match format.0 {
            Version::V090 => &[0, 0, 4, 0],
            _ => &[0, 2, 0, 0],
        };
        let reshaped = |disks: &mut [Disk]| {
            for disk in disks {
                change(format, disk, chunk, half);
            }
        };
        assert_eq!(believed(&reshaped), None);
        // Copied from another member; of another kind; further than there is anything; and what is right.
        let other = word(format, &world.disks[1]);
        let copied = believed(&|disks| set_word(format, &mut disks[0], other));
        // (What 0.90 says in front of its descriptors is the same on all.)
        assert_eq!(copied, mark.filter(|_| format.0 == Version::V090));
        let forge = |kind, units| {
            believed(&|disks| {
                let word = forged(format, &disks[0], kind, units);
                set_word(format, &mut disks[0], word);
            })
        };
        assert_eq!(forge(0xEC, 256), None, "a check here, a repair there");
        assert_eq!(forge(0xED, 16), Some(scrub(true, 128)), "the least");
        assert_eq!(forge(0xED, (1 << 40) - 1), mark);
        let beyond = believed(&|disks| {
            for disk in disks {
                let word = forged(format, disk, 0xED, (1 << 40) - 1);
                set_word(format, disk, word);
            }
        });
        assert_eq!(beyond, None);
        for bit in 0..64 {
            let flipped = word(format, &world.disks[0]) ^ (1 << bit);
            let found = believed(&|disks| set_word(format, &mut disks[0], flipped));
            assert_eq!(found, None, "bit {bit}");
        }
    }
}

/// What is not believed is gone with the next update of EMD's.
#[test]
fn what_is_not_believed_is_erased() {
    for format in ALL {
        let mut made = world(format, Level::Raid1, 2, 0);
        made.apply(&Event::ScrubProgress(0, Some(scrub(false, 2048))));
        let mut disks = made.disks;
        set_word(format, &mut disks[1], 0);
        let set = open(format, &disks).unwrap();
        let mut world = World::of(Of(format), set, disks, 0);
        world.apply(&Event::Dirty(0));
        for disk in &world.disks {
            assert_eq!(word(format, disk), 0);
        }
    }
}
