// SPDX-License-Identifier: GPL-2.0

//! Every event, one after the other, on sets of our own and of others: after each one, the disks say
//! what the memory says; cut anywhere, they say the old or the new state and never a mix.

use crate::ddf_common::open;
use crate::ddf_common::world::{life, spec, World};
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskRole, Event, Layout, Level, MemberState, SpareRole, VolumeSpec};
use host_tests::samples::load;
use host_tests::{share, whole};

#[test]
fn life_of_created_sets() {
    for (level, count, spans, crashes) in [
        (Level::Raid1, 2, 1, 6),
        (Level::Raid1, 3, 1, 0),
        (Level::Raid5, 3, 1, 4),
        (Level::Raid6, 4, 1, 0),
        (Level::Raid4, 3, 1, 0),
        (Level::Raid1e, 3, 1, 0),
        (Level::Raid10, 4, 1, 4),
        (Level::Raid5, 6, 2, 1),
        (Level::Raid6, 12, 3, 0),
    ] {
        // The other levels have the same life in metadata: `volumes_of_every_level_and_layout` has them every day.
        let daily = matches!(
            (level, count),
            (Level::Raid1 | Level::Raid10, 2 | 4) | (Level::Raid5, _)
        );
        if !daily && !whole() {
            continue;
        }
        // Blocks of 4096 bytes make other metadata, not other lives: one level shows it every day.
        let blocks: &[u32] = match level {
            Level::Raid1 => &[512, 4096],
            _ if whole() => &[512, 4096],
            _ => &[512],
        };
        for &block in blocks {
            // Six disks cut at every write take half a minute.
            let crashes = if block == 512 && (spans == 1 || whole()) {
                share(crashes)
            } else {
                0
            };
            let mut world = World::created(count, 40, block, crashes);
            let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
            let spec = VolumeSpec {
                spans,
                ..spec("vol", level, &disks)
            };
            world.apply(&Event::VolumeCreated(spec));
            life(&mut world, 0, 40);
            world.apply(&Event::VolumeDeleted(0));
            for (index, _) in world.set.set().live_disks() {
                let Some(home) = world.set.home(index) else {
                    continue;
                };
                assert!(home.slots().all(|slot| home.record(slot).is_none()));
            }
            for disk in 0..count as u16 {
                assert_ne!(world.role(disk), DiskRole::Member);
            }
        }
    }
}

#[test]
fn life_of_mdadms_sets() {
    for (case, crashes) in [
        ("raid1", 4),
        ("raid10", 2),
        ("raid5-la", 0),
        ("raid6-ddf-N-restart", 0),
    ] {
        let disks = load(&format!("ddf/gen/{case}"));
        let set = open(&disks).unwrap();
        life(&mut World::new(set, disks, crashes), 0, 80);
    }
}

#[test]
fn life_of_graids_sets() {
    for (case, crashes) in [
        ("ddf-raid1-2d", 6),
        ("ddfle-raid1-2d", 3),
        ("ddf-raid1-2d-4kn", 3),
        ("ddf-raid5-ls-3d", 2),
        ("ddfle-raid5-la-3d", 2),
    ] {
        let disks = load(&format!("ddf/gen-freebsd/{case}"));
        let set = open(&disks).unwrap();
        life(&mut World::new(set, disks, crashes), 0, 96);
    }
}

#[test]
fn unfinished_sets_go_on() {
    let disks = load("ddf/gen/raid1-rebuild");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 3);
    world.apply(&Event::RebuildDone { volume: 0, slot: 0 });
    world.apply(&Event::DiskRemoved(1));

    // A failed member that returns is a stranger to the volume until it is activated.
    let failed = world.set.set().volume(0).unwrap().members[1].disk.unwrap();
    let back = world.set.set().disk(failed).unwrap().facts.unwrap();
    let reference = world.set.master(0, 0).unwrap().reference(1);
    assert_ne!(reference, 0);
    world.apply(&Event::DiskFailed(failed));
    world.apply(&Event::DiskReturned(failed, back));
    assert_eq!(world.set.master(0, 0).unwrap().reference(1), 0);
    assert_ne!(world.set.disk_meta(failed).unwrap().reference, reference);
    let at = world.set.set().volume(0).unwrap().members[1];
    assert_eq!((at.disk, at.state), (None, MemberState::Missing));

    let disks = load("ddf/gen/raid1-missing");
    let set = open(&disks).unwrap();
    let mut world = World::new(set, disks, 3);
    let stale = world.set.set().disk_by_key(1).unwrap();
    let back = world.set.set().disk(stale).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(stale, back));
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: stale,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
}

#[test]
fn several_volumes_on_the_same_disks() {
    let mut world = World::created(4, 64, 512, 2);
    let all = [Some(0), Some(1), Some(2), Some(3)];
    let mut first = spec("first", Level::Raid5, &all);
    first.size_sectors = 3 * 8192;
    first.chunk_sectors = 64;
    world.apply(&Event::VolumeCreated(first));
    let two = [Some(2), Some(0)];
    let mut second = spec("second", Level::Raid1, &two);
    second.size_sectors = 10_000;
    second.assume_clean = true;
    world.apply(&Event::VolumeCreated(second));
    let third = spec("third", Level::Raid0, &all);
    let largest = world.set.largest_volume(&third).unwrap();
    world.apply(&Event::VolumeCreated(third));
    assert_eq!(world.set.set().volume(2).unwrap().size_sectors, largest);
    world.refuse(&Event::VolumeCreated(spec("full", Level::Raid0, &all)));
    world.refuse(&Event::VolumeDeleted(3));

    // One disk carries all three: its failure shows in each.
    world.apply(&Event::DiskFailed(2));
    assert_eq!(world.member(0, 2), MemberState::Failed);
    assert_eq!(world.member(1, 0), MemberState::Failed);
    assert_eq!(world.member(2, 2), MemberState::Failed);
    world.apply(&Event::VolumeDeleted(2));
    let spare = world.add(64, SpareRole::Global);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 2,
        disk: spare,
    });
    world.apply(&Event::SpareActivated {
        volume: 1,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 2 });
    world.apply(&Event::RebuildDone { volume: 1, slot: 0 });
    // Volume 1 lies behind volume 0 on the new disk.
    let offsets: Vec<u64> = world
        .set
        .set()
        .memberships(spare)
        .map(|(_, _, member)| member.offset_sectors)
        .collect();
    assert_eq!(offsets[0], 0);
    assert!(offsets[1] >= 8192);
    world.apply(&Event::VolumeDeleted(0));
    // The gap in front is found again, and the table stays dense.
    let disks = [Some(0), Some(1), Some(3)];
    let mut again = spec("again", Level::Raid5, &disks);
    again.size_sectors = 2 * 8192;
    world.apply(&Event::VolumeCreated(again));
    let volume = world.set.set().volume(3).unwrap();
    assert!(volume
        .members
        .iter()
        .all(|member| member.offset_sectors == 0));
}

#[test]
fn volumes_of_every_level_and_layout() {
    for capability in emd_core::metadata::Format::capabilities(&emd_core::metadata::ddf::Ddf).levels
    {
        for layout in capability.layouts {
            for chunk in [0, 8, 2048] {
                let count = match (capability.level, layout) {
                    (Level::Raid10, Layout::Near(copies)) => 2 * usize::from(*copies),
                    _ => usize::from(capability.members.0.max(3)),
                };
                let mut world = World::created(count, 50, 512, 0);
                let disks: Vec<Option<u16>> = (0..count as u16).map(Some).collect();
                let mut spec = spec("v", capability.level, &disks);
                spec.layout = Some(*layout);
                spec.chunk_sectors = chunk;
                world.apply(&Event::VolumeCreated(spec));
            }
        }
    }
}

#[test]
fn degraded_creation() {
    let mut world = World::created(3, 50, 512, 3);
    let open = [Some(0), None, Some(2)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid5, &open)));
    assert_eq!(world.member(0, 1), MemberState::Missing);
    world.apply(&Event::SpareActivated {
        volume: 0,
        slot: 1,
        disk: 1,
    });
    world.apply(&Event::RebuildDone { volume: 0, slot: 1 });
    world.refuse(&Event::VolumeCreated(spec("w", Level::Raid0, &open)));
}
