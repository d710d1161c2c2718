// SPDX-License-Identifier: GPL-2.0

//! Events that may come while memory is short allocate nothing.

mod asr_common;

use asr_common::world::spec;
use asr_common::{apply, blanks, carry_out, context, create, open, writes};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Event, Level, SpareRole, Text, VolumeSpec};
use host_tests::samples::Disk;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything to the system's allocator; only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's duties are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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

fn check(set: &mut emd_core::metadata::asr::AsrSet, disks: &mut [Disk], events: &[Event<'_>]) {
    for (n, event) in events.iter().enumerate() {
        let context = context(n as u64 + 100);
        let before = COUNT.with(Cell::get);
        let result = set.apply(event, &context);
        let after = COUNT.with(Cell::get);
        result.unwrap_or_else(|why| panic!("{event:?}: {why}"));
        assert_eq!(after, before, "{event:?} allocated");
        carry_out(disks, &writes(set));
    }
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
        let before = COUNT.with(Cell::get);
        apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
        assert!(COUNT.with(Cell::get) > before, "the counter counts");
        check(&mut set, &mut disks, &quiet(0, 1, members as u16));
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
    check(&mut set, &mut disks, &quiet(0, 1, 2));
}
