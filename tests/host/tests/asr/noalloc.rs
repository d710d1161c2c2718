// SPDX-License-Identifier: GPL-2.0

//! Events that may come while memory is short allocate nothing.

use crate::asr_common::{apply, blanks, create, open, spec, Of};
use emd_core::model::{Event, Level, Scrub, SpareRole, Text, VolumeSpec};
use host_tests::counting::allocations;
use host_tests::shell::apply_without_allocating;

/// Events that say nothing of allocating, in an order in which all succeed. Volume 0 is redundant,
/// slot 0 is on `first`, and `spare` is free.
fn quiet<'a>(first: u16, second: u16, spare: u16) -> Vec<Event<'a>> {
    let scrub = Scrub {
        repairs: false,
        done_sectors: 256,
    };
    vec![
        Event::Dirty(0),
        Event::ResyncProgress {
            volume: 0,
            done_sectors: 8,
        },
        Event::ResyncDone(0),
        Event::Clean(0),
        Event::ScrubProgress(0, Some(scrub)),
        Event::ScrubProgress(0, None),
        Event::SpareAssigned(spare, SpareRole::Global),
        Event::SpareAssigned(spare, SpareRole::Dedicated(0)),
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
fn quiet_events_on_created_sets() {
    // A table of one sector, and a longer one that takes the long way.
    for members in [2usize, 4, 12] {
        let mut disks = blanks(members + 1, 8);
        let mut set = create(&mut disks);
        let all: Vec<Option<u16>> = (0..members as u16).map(Some).collect();
        let level = if members == 2 {
            Level::Raid1
        } else {
            Level::Raid10
        };
        let spec = VolumeSpec {
            assume_clean: true,
            ..spec("x", level, &all)
        };
        let before = allocations();
        apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
        assert!(allocations() > before, "the counter counts");
        apply_without_allocating(Of, &mut set, &mut disks, &quiet(0, 1, members as u16));
    }
}

#[test]
fn quiet_events_on_a_set_read_from_disks() {
    let mut disks = blanks(3, 8);
    let mut set = create(&mut disks);
    let pair = [Some(0), Some(1)];
    let spec = VolumeSpec {
        assume_clean: true,
        ..spec("x", Level::Raid1, &pair)
    };
    apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
    let mut set = open(&disks).unwrap();
    apply_without_allocating(Of, &mut set, &mut disks, &quiet(0, 1, 2));
}
