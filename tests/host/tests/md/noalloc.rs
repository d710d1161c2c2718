// SPDX-License-Identifier: GPL-2.0

//! Events that may come while memory is short allocate nothing.

use crate::md_common::{apply, blanks, context, create, facts, open, show, version_of, Of, ALL};
use emd_core::metadata::md::MdSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{BadRange, DiskOffer, Event, Level, Scrub, SpareRole, Text, VolumeSpec};
use host_tests::counting::allocations;
use host_tests::samples::{load, Disk};
use host_tests::shell::{apply_without_allocating, spec};
use kernel::alloc::grant;
use kernel::prelude::*;

/// Events that say nothing of allocating, in an order in which all succeed. Slot 0 is on `first`, slot
/// 1 on `second`, `spare` is free.
fn quiet<'a>(set: &MdSet, first: u16, second: u16, spare: u16) -> Vec<Event<'a>> {
    let volume = 0;
    let mut events = vec![Event::Dirty(volume)];
    if set.bitmap.is_some() {
        events.extend([
            Event::RegionsDirty {
                volume,
                first: 0,
                count: 1,
            },
            Event::RegionsClean {
                volume,
                first: 0,
                count: 1,
            },
        ]);
    }
    let range = BadRange {
        disk: second,
        sector: 9000,
        sectors: 700,
    };
    let scrub = Scrub {
        repairs: true,
        done_sectors: 8,
    };
    events.extend([
        Event::ResyncProgress {
            volume,
            done_sectors: 8,
        },
        Event::ResyncDone(volume),
        Event::Clean(volume),
        Event::ScrubProgress(volume, Some(scrub)),
        Event::BadRangeAdded(range),
        Event::BadRangeCleared(range),
        Event::SpareAssigned(spare, SpareRole::Global),
        Event::ScrubProgress(volume, None),
        Event::DiskFailed(first),
        Event::SpareActivated {
            volume,
            slot: 0,
            disk: spare,
        },
        Event::RebuildProgress {
            volume,
            slot: 0,
            done_sectors: 8,
        },
        Event::RebuildDone { volume, slot: 0 },
        Event::DiskRemoved(first),
        Event::DiskMissing(second),
        Event::VolumeRenamed(volume, Text::new()),
        Event::VolumeDeleted(volume),
    ]);
    if set.version == emd_core::metadata::md::Version::V090 {
        events.retain(|event| !matches!(event, Event::VolumeRenamed(..)));
    }
    events
}

#[test]
fn quiet_events_on_created_arrays() {
    for format in ALL {
        for mib in [64, 150 << 10] {
            let mut disks = blanks(4, mib, 512);
            let mut set = create(format, &disks, "");
            let three = [Some(0), Some(1), Some(2)];
            let spec = VolumeSpec {
                assume_clean: true,
                ..spec("", Level::Raid5, &three)
            };
            let before = allocations();
            apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
            assert!(allocations() > before, "the counter counts");
            assert_eq!(set.bitmap.is_some(), mib > 64);
            let events = quiet(&set, 0, 1, 3);
            apply_without_allocating(Of(format), &mut set, &mut disks, &events);
        }
    }
}

#[test]
fn quiet_events_on_mdadms_arrays() {
    for case in [
        "12-raid1-bitmap-wm",
        "090-raid5-ls-bitmap",
        "11-raid5",
        "12-raid10-f2-5d",
        "10-raid1",
    ] {
        let mut disks = load(&format!("md/gen/{case}"));
        let version = version_of(&disks);
        let mut set = open(version, &disks).unwrap();
        let key = disks.len() as u64;
        disks.push(Disk::blank("new", disks[0].size_sectors, 512));
        let offer = DiskOffer {
            facts: facts(&disks[key as usize], key),
            role: SpareRole::None,
        };
        apply(&mut set, &mut disks, &Event::DiskAdded(offer), 1).unwrap();
        let members = &set.set().volume(0).unwrap().members;
        let (first, second) = (members[0].disk.unwrap(), members[1].disk.unwrap());
        let spare = (set.set().disks.len() - 1) as u16;
        let events = quiet(&set, first, second, spare);
        apply_without_allocating(Of(version), &mut set, &mut disks, &events);
    }
}

/// An event that fails for want of memory has changed nothing: at any of the allocations of a disk that is added.
#[test]
fn a_disk_that_there_is_no_memory_for() {
    for format in ALL {
        let mut disks = blanks(4, 64, 512);
        let mut set = create(format, &disks[..3], "");
        let three = [Some(0), Some(1), Some(2)];
        let spec = VolumeSpec {
            assume_clean: true,
            ..spec("", Level::Raid5, &three)
        };
        apply(&mut set, &mut disks, &Event::VolumeCreated(spec), 1).unwrap();
        let offer = DiskOffer {
            facts: facts(&disks[3], 3),
            role: SpareRole::Global,
        };
        let event = Event::DiskAdded(offer);
        let mut refused = 0;
        loop {
            // As it comes from the disks: with room for what it needs, and no more.
            let mut set = open(format, &disks[..3]).unwrap();
            let before = show(&set);
            grant(refused);
            let result = set.apply(&event, &context(2));
            grant(usize::MAX);
            let Err(why) = result else { break };
            assert_eq!(why.errno(), ENOMEM);
            assert_eq!(before, show(&set), "after {refused} allocations");
            refused += 1;
        }
        assert!(refused > 1, "{refused}");
    }
}
