// SPDX-License-Identifier: GPL-2.0

//! What formats say that they can do, which `create` is refused by and people are shown: new volumes have just that.

use emd_core::metadata::registry::FORMATS;
use emd_core::metadata::{Format, LevelCapability, MetadataSet};
use emd_core::model::{
    Checked, Context, CrashPolicy, DiskFacts, DiskOffer, Event, Level, SpareRole, Text, VolumeSpec,
};
use host_tests::shell::spec;
use kernel::prelude::*;

const CONTEXT: Context = Context {
    now_seconds: 1_800_000_000,
    random: [7, 9],
};

/// A disk on which any chunk has room.
fn disk(key: u64) -> DiskFacts {
    DiskFacts {
        key,
        size_sectors: 64 << 21,
        logical_block_bytes: 512,
        serial: Text::from_text(&format!("disk{key}")),
    }
}

/// A set with one volume of the level, of as few members as it can have, which may be changed before it is made.
fn make(
    format: &dyn Format,
    level: &LevelCapability,
    change: impl Fn(&mut VolumeSpec<'_>),
) -> Checked<KBox<dyn MetadataSet>> {
    let count = level.members.0.max(2);
    let disks: Vec<DiskFacts> = (0..u64::from(count)).map(disk).collect();
    let mut set = format.create(&disks, "", &CONTEXT).expect("a set");
    let slots: Vec<Option<u16>> = (0..count).map(Some).collect();
    let mut wanted = VolumeSpec {
        assume_clean: true,
        ..spec("", level.level, &slots)
    };
    change(&mut wanted);
    set.apply(&Event::VolumeCreated(wanted), &CONTEXT)?;
    Ok(set)
}

fn level_of(format: &dyn Format, level: Level) -> &'static LevelCapability {
    let mut levels = format.capabilities().levels.iter();
    levels.find(|can| can.level == level).expect("the level")
}

#[test]
fn chunks_are_within_their_limits() {
    for format in FORMATS {
        let (name, can) = (format.name(), format.capabilities());
        let (least, most) = can.chunk_sectors;
        let level = level_of(*format, Level::Raid0);
        let chunk_of = |chunk_sectors| {
            let set = make(*format, level, |wanted| {
                wanted.chunk_sectors = chunk_sectors
            })?;
            Ok(set.set().volume(0).expect("a volume").shape.chunk_sectors)
        };
        let usual: Checked<u32> = chunk_of(0);
        assert_eq!(usual.ok(), Some(can.chunk_sectors_default), "{name}");
        for chunk in [least, can.chunk_sectors_default, most] {
            assert_eq!(chunk_of(chunk).ok(), Some(chunk), "{name}");
        }
        for chunk in [least / 2, least * 3, most - 1, most + 1, most * 2] {
            assert!(chunk == 0 || chunk_of(chunk).is_err(), "{name}: {chunk}");
        }
    }
}

#[test]
fn logs_are_for_the_levels_that_are_named() {
    for format in FORMATS {
        let (name, can) = (format.name(), format.capabilities());
        for level in can.levels {
            let made = make(*format, level, |wanted| wanted.log = true).and_then(|mut set| {
                set.apply(&Event::CrashPolicySet(0, CrashPolicy::Log), &CONTEXT)
            });
            let is_named = can.log_levels.contains(&level.level);
            assert_eq!(made.is_ok(), is_named, "{name}, {}", level.level);
        }
        let known = |level: &Level| can.levels.iter().any(|can| can.level == *level);
        assert!(can.log_levels.iter().all(known), "{name}");
    }
}

#[test]
fn spares_are_of_the_kinds_that_are_named() {
    for format in FORMATS {
        let (name, can) = (format.name(), format.capabilities());
        let level = level_of(*format, Level::Raid1);
        for (role, is_named) in [
            (SpareRole::Global, can.spares_global),
            (SpareRole::Dedicated(0), can.spares_dedicated),
        ] {
            let mut set = make(*format, level, |_| {}).expect("a mirror");
            let facts = disk(9);
            let added = set.apply(&Event::DiskAdded(DiskOffer { facts, role }), &CONTEXT);
            assert_eq!(added.is_ok(), is_named, "{name}, {role:?}");
        }
    }
}

/// What is not recorded leaves no plan.
#[test]
fn marks_and_bad_ranges_are_recorded_where_that_is_said() {
    for format in FORMATS {
        let (name, can) = (format.name(), format.capabilities());
        let level = level_of(*format, Level::Raid1);
        let mut set = make(*format, level, |wanted| wanted.assume_clean = false).expect("a mirror");
        assert_eq!(set.keeps_bad_ranges(0), can.bad_ranges, "{name}");
        let sectors = set.set().volume(0).expect("a volume").shape.member_sectors;
        let mut records = |event: Event<'_>| {
            set.apply(&event, &CONTEXT).expect("taken");
            !set.plan().is_empty()
        };
        let (volume, slot, done_sectors) = (0, 1, sectors / 4096 * 2048);
        let resync = Event::ResyncProgress {
            volume,
            done_sectors,
        };
        assert_eq!(records(resync), can.checkpoints, "{name}: a resync");
        records(Event::ResyncDone(volume));
        records(Event::DiskFailed(1));
        let offer = DiskOffer {
            facts: disk(9),
            role: SpareRole::Global,
        };
        records(Event::DiskAdded(offer));
        let disk = 2;
        records(Event::SpareActivated { volume, slot, disk });
        let rebuild = Event::RebuildProgress {
            volume,
            slot,
            done_sectors,
        };
        assert_eq!(
            records(rebuild),
            can.rebuild_checkpoints,
            "{name}: a rebuild"
        );
    }
}
