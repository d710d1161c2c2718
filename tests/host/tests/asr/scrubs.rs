// SPDX-License-Identifier: GPL-2.0

//! The mark of a check or repair: it outlives a restart, is believed only as EMD left it, and is gone with the scrub.

use crate::asr_common::{apply, blanks, create, open, spec, World};
use emd_core::metadata::asr::layout::{header, Line};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, Event, Level, MemberState, Scrub, SpareRole, VolumeSpec};
use host_tests::samples::Disk;

fn scrub(repairs: bool, done_sectors: u64) -> Scrub {
    Scrub {
        repairs,
        done_sectors,
    }
}

/// Clean volumes on disks of 8 MiB of their own. `cuts`: see [`World::made`].
fn world(volumes: &[(&str, Level, u16)], cuts: usize) -> World {
    let total = volumes
        .iter()
        .map(|(_, _, count)| usize::from(*count))
        .sum();
    let mut world = World::created(total, 8, 512, cuts);
    let mut first = 0;
    for &(name, level, count) in volumes {
        let disks: Vec<Option<u16>> = (first..first + count).map(Some).collect();
        first += count;
        world.apply(&Event::VolumeCreated(VolumeSpec {
            assume_clean: true,
            ..spec(name, level, &disks)
        }));
    }
    world
}

/// What the disks say.
fn said(disks: &[Disk], volume: u16) -> Option<Scrub> {
    open(disks).unwrap().set().volume(volume).unwrap().scrub
}

/// Changes a disk's table; `seals`: as EMD does it, who else leaves the seal as it is and writes the format's own sum.
fn edit(disk: &mut Disk, seals: bool, change: impl FnOnce(&mut Table)) {
    let place = disk.size_sectors - 17;
    let mut table = Table::new(&disk.read(place, 16)).unwrap();
    change(&mut table);
    if seals {
        table.seal();
    } else {
        let sum = table.sum();
        table.head_mut()[header::SUM..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    disk.write(place, table.bytes());
}

fn edit_line(disk: &mut Disk, index: usize, seals: bool, change: impl FnOnce(&mut Line)) {
    edit(disk, seals, |table| table.edit(index, change));
}

fn bursts(disk: &Disk) -> Vec<u32> {
    let table = Table::new(&disk.read(disk.size_sectors - 17, 16)).unwrap();
    let bursts = table.lines().map(|(_, line)| line.burst);
    bursts.collect()
}

#[test]
fn scrubs_outlive_a_restart() {
    for (level, count) in [(Level::Raid1, 2), (Level::Raid10, 4), (Level::Raid10, 12)] {
        let mut world = world(&[("x", level, count)], 2);
        let sequence = world.set.set().generation;
        for (repairs, done_sectors) in [(false, 0), (false, 4096), (true, 10_240), (true, 256)] {
            let mark = Some(scrub(repairs, done_sectors));
            world.apply(&Event::ScrubProgress(0, mark));
            assert!(!world.set.plan().is_empty());
            assert_eq!(said(&world.disks, 0), mark);
        }
        // Where there is no place for the odd sectors it is less.
        world.apply(&Event::ScrubProgress(0, Some(scrub(true, 511))));
        assert!(world.set.plan().is_empty());
        assert_eq!(said(&world.disks, 0), Some(scrub(true, 256)));
        world.refuse(&Event::ScrubProgress(0, Some(scrub(true, u64::MAX))));
        assert_eq!(world.set.set().generation, sequence, "a mark like others");
        // Others write beside it; a resync has another place.
        for event in [
            Event::Dirty(0),
            Event::ResyncProgress {
                volume: 0,
                done_sectors: 64,
            },
            Event::Clean(0),
            Event::ResyncDone(0),
        ] {
            world.apply(&event);
            assert_eq!(said(&world.disks, 0), Some(scrub(true, 256)), "{event:?}");
        }
        assert_eq!(world.consistency(0), Consistency::Clean);
        world.apply(&Event::ScrubProgress(0, None));
        assert_eq!(said(&world.disks, 0), None);
        let left = |disk| bursts(disk).iter().any(|&burst| burst != 0);
        assert!(!world.disks.iter().any(left), "nothing is left of it");
    }
}

#[test]
fn each_volume_has_its_own() {
    let mut world = world(&[("a", Level::Raid1, 2), ("b", Level::Raid1, 2)], 2);
    let (first, second) = (Some(scrub(false, 512)), Some(scrub(true, 1024)));
    world.apply(&Event::ScrubProgress(0, first));
    world.apply(&Event::ScrubProgress(1, second));
    let both = |world: &World| (said(&world.disks, 0), said(&world.disks, 1));
    assert_eq!(both(&world), (first, second));
    // A member is lost, and a spare takes over.
    let spare = world.add(9, SpareRole::Global);
    let lost = world.disk_in(0, 0);
    world.apply(&Event::DiskFailed(lost));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::RebuildProgress {
        volume: 0,
        slot: 0,
        done_sectors: 128,
    });
    assert_eq!(both(&world), (first, second));
    world.apply(&Event::RebuildDone { volume: 0, slot: 0 });
    assert_eq!(world.member(0, 0), MemberState::InSync);
    world.apply(&Event::ScrubProgress(0, None));
    assert_eq!(both(&world), (None, second));
    world.apply(&Event::VolumeDeleted(1));
    assert!(bursts(&world.disks[1]).iter().all(|&burst| burst == 0));
}

#[test]
fn what_has_no_redundancy_has_no_mark() {
    let mut world = world(&[("x", Level::Raid0, 2)], 0);
    world.apply(&Event::ScrubProgress(0, Some(scrub(false, 0))));
    assert!(world.set.plan().is_empty());
    for disk in &mut world.disks {
        edit_line(disk, 0, true, |line| line.burst = 0xE500_0001);
    }
    assert_eq!(said(&world.disks, 0), None);
}

/// Others leave the seal as it is, or no mark of EMD's at all; and what EMD would not have written is not believed.
#[test]
fn only_what_emd_left_is_believed() {
    let mut world = world(&[("x", Level::Raid1, 2)], 0);
    let mark = Some(scrub(true, 2048));
    world.apply(&Event::ScrubProgress(0, mark));
    let believed = |work: &dyn Fn(&mut [Disk])| {
        let mut disks = world.disks.clone();
        work(&mut disks);
        said(&disks, 0)
    };
    assert_eq!(believed(&|_| ()), mark);
    // Somebody wrote one table, or all, and left what they did not know.
    let other = |line: &mut Line| line.state ^= 1;
    assert_eq!(
        believed(&|disks| edit_line(&mut disks[0], 0, false, other)),
        None
    );
    let all = |disks: &mut [Disk]| {
        for disk in disks {
            edit_line(disk, 0, false, |line| line.bios = 7);
        }
    };
    assert_eq!(believed(&all), None);
    let burst = |burst: u32| {
        let both = believed(&|disks| {
            for disk in disks {
                edit_line(disk, 0, true, |line| line.burst = burst);
            }
        });
        let one = believed(&|disks| edit_line(&mut disks[1], 0, true, |line| line.burst = burst));
        (both, one)
    };
    assert_eq!(burst(0), (None, None), "an update was cut");
    assert_eq!(
        burst(0xE600_0001),
        (Some(scrub(true, 256)), Some(scrub(true, 256)))
    );
    assert_eq!(burst(0xE600_0010), (Some(scrub(true, 4096)), mark));
    assert_eq!(burst(0xE500_0008).1, None, "a check here, a repair there");
    assert_eq!(
        burst(0xE6FF_FFFF),
        (None, mark),
        "further than there is anything"
    );
    for kind in (0..=u8::MAX).filter(|kind| !matches!(kind, 0xE5 | 0xE6)) {
        assert_eq!(burst((u32::from(kind) << 24) | 8), (None, None));
    }
    // The next update of EMD's takes away what is not believed.
    let mut disks = world.disks.clone();
    all(&mut disks);
    let mut set = open(&disks).unwrap();
    apply(&mut set, &mut disks, &Event::Dirty(0), 7).unwrap();
    assert!(disks.iter().all(|disk| bursts(disk)[0] == 0));
    assert_eq!(said(&disks, 0), None);
}

/// A burst count of somebody else's stays, and there is no mark then.
#[test]
fn what_is_in_use_stays() {
    let mut disks = blanks(2, 8);
    let mut set = create(&mut disks);
    let pair = [Some(0), Some(1)];
    let mirror = VolumeSpec {
        assume_clean: true,
        ..spec("x", Level::Raid1, &pair)
    };
    apply(&mut set, &mut disks, &Event::VolumeCreated(mirror), 1).unwrap();
    for disk in &mut disks {
        edit_line(disk, 0, true, |line| line.burst = 77);
    }
    let mut world = World::new(open(&disks).unwrap(), disks, 0);
    world.apply(&Event::ScrubProgress(0, Some(scrub(false, 256))));
    assert!(world.set.plan().is_empty());
    world.apply(&Event::Dirty(0));
    assert!(world.disks.iter().all(|disk| bursts(disk)[0] == 77));
}
