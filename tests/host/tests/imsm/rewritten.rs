// SPDX-License-Identifier: GPL-2.0

//! Assembling keeps an MPB as it was read, so that it comes out byte for byte proves little about what is written. Here the writer's own
//! functions render records of others anew, from the model alone: the same bytes again.

use crate::imsm_common::{apply, cases, open, sample};
use emd_core::metadata::imsm::layout::{disk, header, map, volume, Which};
use emd_core::metadata::imsm::mpb::Mpb;
use emd_core::metadata::imsm::{probe, ImsmSet};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, BadRange, Consistency, Event, Level, Member, MemberState, VolumeIndex,
};

/// The record of volume `index` of the table.
fn record(set: &ImsmSet, index: u8) -> Vec<u8> {
    let raw = set.mpb.raw();
    let at = raw.volume_at(index);
    let end = at + raw.volume_len(at);
    (at..end).map(|at| raw.u8(at)).collect()
}

/// The MPB, without what goes up with every write.
fn lasting(set: &ImsmSet) -> Vec<u8> {
    let mut bytes = set.mpb.bytes()[..set.mpb.raw().size()].to_vec();
    for field in [header::CHECKSUM, header::GENERATION] {
        bytes[field..field + 4].fill(0);
    }
    bytes
}

/// `bytes`, in which the record of a volume starts at `at`, without its checkpoint where that may be in graid's units: it is
/// written so that mdadm, which has larger ones, goes on no later.
fn marked_alike(set: &ImsmSet, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    if set.mpb.raw().pair(header::CREATED, header::CREATED + 4) == 0 {
        bytes[at + volume::UNIT_LO..][..4].fill(0);
    }
    bytes
}

/// Volumes that EMD would write and whose disks are all here (but for those that the record calls lost), with their place in the table.
fn written(set: &ImsmSet) -> Vec<(VolumeIndex, u8)> {
    if set.frozen.is_some() {
        return Vec::new();
    }
    let volumes = (0u16..).zip(&set.volumes);
    volumes
        .filter_map(|(volume, index)| Some((volume, (*index)?)))
        .filter(|(volume, index)| {
            let model = set.set().volume(*volume).unwrap();
            let raw = set.mpb.raw();
            let first = raw.map_at(raw.volume_at(*index), Which::First);
            let is_recorded = |(slot, member): (u16, &Member)| {
                let is_away = matches!(member.state, MemberState::Missing | MemberState::Failed);
                is_away == (raw.order(first, slot) & map::OUT_OF_SYNC != 0)
            };
            matches!(model.access, Access::ReadWrite)
                && (0u16..).zip(model.members.iter()).all(is_recorded)
        })
        .collect()
}

/// Spoils all of a record that is said by the model alone: which disk is in which slot and whether in sync, the first lost slot, the
/// checkpoint, and the states of a volume that was in sync once (whether it was, only the record says).
fn spoil(set: &mut ImsmSet, index: u8, members: &[Member]) {
    let entries: Vec<bool> = members
        .iter()
        .map(|member| member.disk.is_some_and(|disk| set.entry(disk).is_some()))
        .collect();
    let raw = set.mpb.raw();
    let at = raw.volume_at(index);
    let migrating = raw.u8(at + volume::MIGRATING) != 0;
    let mut maps = vec![raw.map_at(at, Which::First)];
    if migrating {
        maps.push(raw.map_at(at, Which::Second));
    }
    let kind = raw.u8(at + volume::KIND);
    let never =
        raw.u8(maps[0] + map::STATE) == map::UNINITIALISED || (migrating && kind == volume::INIT);
    for &map in &maps {
        set.mpb.put8(map + map::FAILED, 0x5A);
        if !never {
            set.mpb.put8(map + map::STATE, map::LOST);
        }
        for (slot, has_entry) in entries.iter().enumerate() {
            let order = if *has_entry { 0x01A5_A5A5 } else { continue };
            set.mpb.put32(map + map::ORDER + 4 * slot, order);
        }
    }
    if migrating {
        set.mpb
            .put_pair(at + volume::UNIT_LO, at + volume::UNIT_HI, u64::MAX);
        set.mpb.put32(
            at + volume::STATUS,
            set.mpb.raw().u32(at + volume::STATUS) ^ volume::FIX,
        );
    }
}

/// States, places and marks of every volume of the samples.
#[test]
fn records_are_rendered_as_others_wrote_them() {
    let mut rendered = Vec::new();
    for case in cases() {
        let mut set = open(&sample(&case)).unwrap();
        for (volume, index) in written(&set) {
            let before = record(&set, index);
            let members: Vec<Member> = set.set().volume(volume).unwrap().members.to_vec();
            spoil(&mut set, index, &members);
            assert_ne!(record(&set, index), before, "{case} {volume}");
            set.refresh_volume(volume).unwrap();
            let (after, before) = (record(&set, index), marked_alike(&set, before, 0));
            assert_eq!(marked_alike(&set, after, 0), before, "{case} {volume}");
            rendered.push(format!("{case} {volume}"));
        }
    }
    assert!(rendered.len() >= 15, "{rendered:?}");
}

/// A disk's entry, from its serial number and its size. (EMD writes mdadm's status word; firmware has more in it.)
#[test]
fn entries_are_rendered_as_mdadm_wrote_them() {
    let mut rendered = 0;
    for case in cases() {
        let set = open(&sample(&case)).unwrap();
        let raw = set.mpb.raw();
        for (model, meta) in set.set().disks.iter().zip(&set.disks) {
            let (Some(facts), Some(entry)) = (model.facts, meta.entry) else {
                continue;
            };
            if raw.status(entry) != disk::CONFIGURED {
                continue;
            }
            let mut anew = Mpb::copy_of(raw).unwrap();
            let (blocks, _) = probe::blocks(&facts).unwrap();
            anew.fill_disk(entry, &meta.serial, blocks, disk::CONFIGURED);
            // Where the disk is attached is whoever's who looks last.
            let at = raw.disk_at(entry);
            anew.put32(at + disk::SCSI, raw.u32(at + disk::SCSI));
            let bytes = |raw: emd_core::metadata::imsm::layout::Raw<'_>| -> Vec<u8> {
                (at..at + disk::BYTES).map(|at| raw.u8(at)).collect()
            };
            assert_eq!(bytes(anew.raw()), bytes(raw), "{case} entry {entry}");
            rendered += 1;
        }
    }
    assert!(rendered >= 30, "{rendered}");
}

/// The bad-block log, from the model's ranges: also when one came and went again.
#[test]
fn the_bad_block_log_is_rendered_as_mdadm_wrote_it() {
    let mut disks = sample("gen/bbm");
    let mut set = open(&disks).unwrap();
    let before = lasting(&set);
    let known = set.set().bad_ranges[0];
    let other = BadRange {
        sector: known.sector + 1000,
        sectors: 8,
        ..known
    };
    apply(&mut set, &mut disks, &Event::BadRangeAdded(other), 1).unwrap();
    assert_ne!(lasting(&set), before);
    apply(&mut set, &mut disks, &Event::BadRangeCleared(other), 2).unwrap();
    assert_eq!(lasting(&set), before);
}

/// What is done and undone leaves nothing behind: marks of writes, a resync that a person asks for.
#[test]
fn events_that_are_undone_leave_nothing() {
    let mut undone = 0;
    for case in cases() {
        let mut disks = sample(&case);
        let mut set = open(&disks).unwrap();
        for (volume, index) in written(&set) {
            let model = set.set().volume(volume).unwrap();
            let (level, consistency) = (model.shape.level, model.consistency);
            if level == Level::Raid0 || consistency != Consistency::Clean {
                continue;
            }
            let before = lasting(&set);
            apply(&mut set, &mut disks, &Event::Dirty(volume), 1).unwrap();
            assert_ne!(lasting(&set), before, "{case} {volume}");
            apply(&mut set, &mut disks, &Event::Clean(volume), 2).unwrap();
            assert_eq!(lasting(&set), before, "{case} {volume}");
            undone += 1;
            let rebuilding = set.mpb.raw().migrates();
            if rebuilding {
                continue;
            }
            let began = Event::ResyncProgress {
                volume,
                done_sectors: 0,
            };
            apply(&mut set, &mut disks, &began, 3).unwrap();
            assert_ne!(lasting(&set), before, "{case} {volume}");
            apply(&mut set, &mut disks, &Event::ResyncDone(volume), 4).unwrap();
            let at = set.mpb.raw().volume_at(index);
            let (after, before) = (lasting(&set), marked_alike(&set, before, at));
            assert_eq!(marked_alike(&set, after, at), before, "{case} {volume}");
        }
    }
    assert!(undone >= 8, "{undone}");
}
