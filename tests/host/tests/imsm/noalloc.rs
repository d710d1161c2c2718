// SPDX-License-Identifier: GPL-2.0

//! Events that may come while memory is short allocate nothing.

use crate::imsm_common::{apply, blanks, create, facts, open, sample, Of};
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, DiskOffer, Event, Level, Scrub, SpareRole, Text, VolumeSpec};
use host_tests::counting::allocations;
use host_tests::samples::Disk;
use host_tests::shell::{apply_without_allocating, spec};

fn scrub(done_sectors: u64) -> Scrub {
    Scrub {
        repairs: false,
        done_sectors,
    }
}

/// Events that say nothing of allocating, in an order in which all succeed. Volume 0 is redundant,
/// slot 0 is on `first`, and `spare` is free.
fn quiet<'a>(first: u16, second: u16, spare: u16) -> Vec<Event<'a>> {
    vec![
        Event::Dirty(0),
        Event::ResyncProgress {
            volume: 0,
            done_sectors: 8,
        },
        Event::ResyncDone(0),
        Event::Clean(0),
        Event::ScrubProgress(0, Some(scrub(0))),
        Event::Dirty(0),
        Event::ScrubProgress(0, Some(scrub(4096))),
        Event::Clean(0),
        Event::ScrubProgress(0, None),
        Event::ScrubProgress(0, Some(scrub(0))),
        Event::SpareAssigned(spare, SpareRole::Global),
        Event::BadRangeAdded(BadRange {
            disk: second,
            sector: 64,
            sectors: 2048,
        }),
        Event::BadRangeCleared(BadRange {
            disk: second,
            sector: 128,
            sectors: 8,
        }),
        Event::DiskFailed(first),
        Event::SpareActivated {
            volume: 0,
            slot: 0,
            disk: spare,
        },
        Event::RebuildProgress {
            volume: 0,
            slot: 0,
            done_sectors: 8,
        },
        Event::RebuildDone { volume: 0, slot: 0 },
        Event::DiskRemoved(first),
        Event::DiskMissing(second),
        Event::VolumeRenamed(0, Text::from_text("y")),
        Event::VolumeDeleted(0),
    ]
}

#[test]
fn quiet_events_on_a_created_set() {
    let mut disks = blanks(4, 64, 512);
    let mut set = create(&mut disks);
    let three = [Some(0), Some(1), Some(2)];
    let spec = VolumeSpec {
        assume_clean: true,
        ..spec("x", Level::Raid5, &three)
    };
    let before = allocations();
    apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
    assert!(allocations() > before, "the counter counts");
    apply_without_allocating(Of, &mut set, &mut disks, &quiet(0, 1, 3));
}

#[test]
fn quiet_events_on_sets_of_others() {
    for case in [
        "gen/raid1",
        "gen/raid5-3",
        "gen/raid10",
        "gen-freebsd/intel-raid1-2d",
    ] {
        let mut disks = sample(case);
        let mut set = open(&disks).unwrap();
        let key = disks.len() as u64;
        disks.push(Disk::blank(
            "NEW-DISK",
            disks[0].size_sectors,
            disks[0].logical_block_bytes,
        ));
        let offer = DiskOffer {
            facts: facts(&disks[key as usize], key),
            role: SpareRole::None,
        };
        apply(&mut set, &mut disks, &Event::DiskAdded(offer), 1).unwrap();
        let members = &set.set().volume(0).unwrap().members;
        let (first, second) = (members[0].disk.unwrap(), members[1].disk.unwrap());
        let spare = (set.set().disks.len() - 1) as u16;
        apply_without_allocating(Of, &mut set, &mut disks, &quiet(first, second, spare));
    }
}
