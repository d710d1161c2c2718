// SPDX-License-Identifier: GPL-2.0

//! Disks that did not take all of an update and stay in use.

use crate::asr_common::{carry_out, context, open, spec, writes, Random, World, Write};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Consistency, Event, Level, SpareRole, VolumeSpec};
use host_tests::crash::cut_everywhere;
use host_tests::samples::Disk;

/// Of a write that failed: nothing, the first sector, all but that, all.
fn takes(disk: &mut Disk, sector: u64, bytes: &[u8], part: usize) {
    let middle = bytes.len().min(512);
    let (first, rest) = match part {
        0 => (0, bytes.len()),
        1 => (middle, bytes.len()),
        2 => (0, middle),
        _ => (bytes.len(), bytes.len()),
    };
    disk.write(sector, &bytes[..first]);
    disk.write(sector + rest as u64 / 512, &bytes[rest..]);
}

/// A table of several sectors, of which a disk takes some phases, and of the last one something or nothing; perhaps that is so
/// with the next update as well. Then one is cut: the table that its reserved block points at is whole all the time.
#[test]
fn the_table_that_counts_is_not_torn_after_an_error() {
    let mut world = World::created(8, 40, 512, 0);
    let slots: Vec<Option<u16>> = (0..8).map(Some).collect();
    world.apply(&Event::VolumeCreated(VolumeSpec {
        assume_clean: true,
        ..spec("v", Level::Raid10, &slots)
    }));
    world.apply(&Event::Dirty(0));
    let losses = [7, 5, 3].map(Event::DiskFailed);
    let phases = |plan: &[Write]| plan.iter().map(|write| write.phase).max().unwrap() + 1;
    let mut cuts = 0;
    for stops in (0..5).flat_map(|one| (0..6).map(move |other| [one, other])) {
        for part in 0..4 {
            let (mut set, mut disks) = (open(&world.disks).unwrap(), world.disks.clone());
            let mut stops = stops.into_iter();
            for (n, event) in (51..).zip(&losses) {
                set.apply(event, &context(n)).unwrap();
                let plan = writes(&set);
                let what = format!("{event:?}");
                cut_everywhere(&disks, &plan, &mut Random(5), 4, &mut |cut, at| {
                    let alone = open(&cut[..1]).unwrap_or_else(|why| panic!("{what}, {at}: {why}"));
                    assert!(alone.frozen.is_none(), "{what}, {at}");
                    cuts += 1;
                });
                let stop = stops.next().unwrap_or(u16::MAX).min(phases(&plan));
                let (own, others): (Vec<_>, Vec<_>) =
                    plan.into_iter().partition(|write| write.key == 0);
                carry_out(&mut disks, &others);
                for write in own.iter().filter(|write| write.phase <= stop) {
                    let part = if write.phase < stop { 3 } else { part };
                    takes(&mut disks[0], write.sector, &write.bytes, part);
                }
                if own.iter().any(|write| write.phase >= stop) {
                    set.missed(0, stop);
                }
            }
            // With the last one it has what the others have.
            let alone = open(&disks[..1]).unwrap();
            assert_eq!(alone.set().generation, set.set().generation);
        }
    }
    assert!(cuts > 1000, "{cuts}");
}

/// The end of a volume's first build is recorded on a spare alone, as power goes. The members go on with what they had, without
/// it, and are being written when power goes again: with the spare there it is not called clean.
#[test]
fn what_a_spare_alone_knows_of_marks_does_not_count() {
    let pair = [Some(0), Some(1)];
    for assume_clean in [false, true] {
        let mut world = World::created(2, 40, 512, 0);
        world.apply(&Event::VolumeCreated(VolumeSpec {
            assume_clean,
            ..spec("v", Level::Raid1, &pair)
        }));
        world.add(40, SpareRole::Global);
        let before = open(&world.disks).unwrap().set().volumes[0].consistency;
        let (mut set, mut disks) = (open(&world.disks).unwrap(), world.disks.clone());
        let cut = match assume_clean {
            false => Event::ResyncDone(0),
            // Anything that is written anew.
            true => Event::SpareAssigned(2, SpareRole::Dedicated(0)),
        };
        set.apply(&cut, &context(80)).unwrap();
        let (own, _): (Vec<_>, Vec<_>) = writes(&set).into_iter().partition(|one| one.key == 2);
        assert!(!own.is_empty());
        carry_out(&mut disks, &own);
        let mut set = open(&disks[..2]).unwrap();
        assert_eq!(set.set().volumes[0].consistency, before);
        set.apply(&Event::Dirty(0), &context(81)).unwrap();
        carry_out(&mut disks, &writes(&set));
        for _ in 0..3 {
            disks.rotate_left(1);
            let found = open(&disks).unwrap();
            let volume = &found.set().volumes[0];
            let is_right = match assume_clean {
                false => matches!(
                    volume.consistency,
                    Consistency::Initialising { done_sectors: 0 }
                ),
                true => volume.consistency == Consistency::Dirty,
            };
            assert!(is_right, "{assume_clean}: {:?}", volume.consistency);
        }
    }
}
