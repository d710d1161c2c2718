// SPDX-License-Identifier: GPL-2.0

//! Disks of one family to a set.
//!
//! The newest whole MPB decides what the set is; disks are found in its table by serial number, whatever
//! their own MPBs say. So a disk that was left out of updates is known by its mark in the table, or by
//! not being there. What cannot be decided (two newest MPBs that differ, two halves that each call the
//! other failed, a newest MPB that is torn) is shown, and nothing is written.

use super::super::DiskImage;
use super::layout::*;
use super::mpb::Mpb;
use super::probe::{self, examine, Exam, Found};
use super::read_volumes::changes_shape;
use super::reshape::Record;
use super::serial::{self, Serial};
use super::set::{DiskMeta, Home, ImsmSet};
use crate::model::alloc::boxed;
use crate::model::{
    note, Access, BadRange, Checked, Disk, DiskIndex, DiskRole, DiskState, Reason, Set, Text,
    UpdatePlan, VolumeIndex, DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// [`crate::metadata::Format::assemble`].
#[inline(never)]
pub fn assemble(images: &[&DiskImage]) -> Checked<KBox<ImsmSet>> {
    let mut found: KVec<Found<'_>> = KVec::new();
    for image in images {
        if let Exam::Found(one) = examine(image) {
            found.push(one, GFP_KERNEL)?;
        }
    }
    if found.len() > DISKS_MAX {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {DISKS_MAX}",
            found.len()
        ));
    }
    probe::drop_left_over(&mut found);
    let newest = newest(&found).ok_or_else(|| reason!(EINVAL, "no disk has a whole Intel MPB"))?;
    let mut set = empty_set(newest)?;
    set.frozen = why_frozen(&found, newest);
    add_listed(&mut set, &found)?;
    add_others(&mut set, &found)?;
    note_odd(&mut set, &found)?;
    add_volumes(&mut set)?;
    set.limit_size();
    add_bad_ranges(&mut set)?;
    for disk in 0..set.disks.len() {
        set.refresh_role(disk as DiskIndex);
    }
    set.set.lends_spares = set.frozen.is_none() && found.iter().all(is_spare_for_any);
    set.reserve_plan()?;
    Ok(set)
}

/// Whether a disk is a spare and belongs to no set, as mdadm and the firmware make them. What the firmware
/// passes through is none.
fn is_spare_for_any(one: &Found<'_>) -> bool {
    let status = one.raw.status(0);
    !one.torn
        && one.raw.is_spare()
        && one.raw.disks() == 1
        && one.raw.u32(header::ORIG_FAMILY) == 0
        && status & disk::SPARE != 0
        && status & (disk::FAILED | disk::PASS_THROUGH) == 0
        && serial::of_disk(one.facts.serial.as_str())
            .is_some_and(|own| own == serial::squeezed(&one.raw.serial(0)))
}

/// The newest whole MPB. Of one generation, that of a disk in volumes counts, and of those one that no
/// other one calls failed.
pub(super) fn newest<'a, 'b>(found: &'b [Found<'a>]) -> Option<&'b Found<'a>> {
    found.iter().filter(|one| !one.torn).max_by_key(|one| {
        (
            one.raw.generation(),
            !one.raw.is_spare(),
            !found.iter().any(|other| is_apart(one, other)),
            found
                .iter()
                .filter(|other| is_whole(other) && same_mpb(one.raw, other.raw))
                .count(),
        )
    })
}

/// Whether the disk has the set's MPB, in whatever state.
fn is_whole(one: &Found<'_>) -> bool {
    !one.torn && !one.raw.is_spare()
}

/// Whether `one` is an update of the same generation as `newest` that did not get far: a disk that is here
/// and works by both of them has neither `one` nor anything newer, so nobody went on with it.
fn was_cut(found: &[Found<'_>], one: Raw<'_>, newest: Raw<'_>) -> bool {
    let works = |raw: Raw<'_>, disk: &Found<'_>| {
        serial::of_disk(disk.facts.serial.as_str())
            .and_then(|serial| entry_of(raw, &serial))
            .is_some_and(|(_, works)| works)
    };
    let mut shared = found
        .iter()
        .filter(|disk| is_whole(disk) && works(one, disk) && works(newest, disk))
        .peekable();
    shared.peek().is_some() && shared.all(|disk| !same_mpb(disk.raw, one))
}

/// Whether `other`, of the same generation as `one`, calls it failed or does not list it, and not the
/// other way round.
///
/// A number can be given twice: an update reaches one disk only, power fails, and the others, which
/// start without it, record its loss with the number that it has already.
fn is_apart(one: &Found<'_>, other: &Found<'_>) -> bool {
    let fails = |by: &Found<'_>, disk: &Found<'_>| {
        serial::of_disk(disk.facts.serial.as_str())
            .and_then(|serial| entry_of(by.raw, &serial))
            .is_none_or(|(_, works)| !works)
    };
    is_whole(one)
        && is_whole(other)
        && one.raw.generation() == other.raw.generation()
        && fails(other, one)
        && !fails(one, other)
}

/// A set with the newest MPB, without disks and volumes of the model yet.
#[inline(never)]
fn empty_set(newest: &Found<'_>) -> Checked<KBox<ImsmSet>> {
    let raw = newest.raw;
    let block_bytes = newest.facts.logical_block_bytes;
    let (mut mpb, mut shadow) = (Mpb::copy_of(raw)?, Mpb::empty()?);
    if raw.is_spare() {
        // Spares have no table in common.
        let orig = raw.family();
        mpb.format(raw.u32(header::FAMILY), orig, 0);
        mpb.put32(header::GENERATION, raw.generation());
    }
    shadow.assign(&mpb);
    let mut name: Text<32> = Text::new();
    let _ = core::fmt::Write::write_fmt(&mut name, format_args!("{:08x}", raw.family()));
    boxed(ImsmSet {
        set: Set {
            format: "imsm",
            id: probe::identity(raw.family()),
            name,
            generation: u64::from(raw.generation()),
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        },
        plan: UpdatePlan::new(),
        block_bytes,
        mpb,
        shadow,
        frozen: None,
        zeros: KVVec::from_elem(0, block_bytes as usize, GFP_KERNEL)?,
        disks: KVec::new(),
        volumes: KVec::new(),
        leaving: None,
        changed: false,
    })
}

/// Whether the two MPBs are the same.
pub(super) fn same_mpb(one: Raw<'_>, other: Raw<'_>) -> bool {
    let size = one.size();
    size == other.size() && (0..size).all(|at| one.u8(at) == other.u8(at))
}

/// Why nothing may be written to these disks.
#[inline(never)]
fn why_frozen(found: &[Found<'_>], newest: &Found<'_>) -> Option<Reason> {
    let raw = newest.raw;
    let generation = raw.generation();
    for one in found {
        let label = one.facts.serial;
        if one.facts.logical_block_bytes != newest.facts.logical_block_bytes {
            return Some(reason!(
                EINVAL,
                "disk {label} has blocks of another length than the others"
            ));
        }
        if one.torn && one.raw.generation() > generation {
            return Some(reason!(
                EIO,
                "the newest metadata, that of disk {label}, is damaged"
            ));
        }
        if one.torn || one.raw.is_spare() {
            continue;
        }
        let same = same_mpb(one.raw, raw);
        if is_apart(one, newest) {
            continue;
        }
        if !same && one.raw.generation() == generation && !raw.is_spare() {
            if was_cut(found, one.raw, raw) {
                continue;
            }
            return Some(reason!(
                EINVAL,
                "disk {label} has metadata of the same generation that differs"
            ));
        }
        if !same && used_apart(found, one.raw, raw) {
            return Some(reason!(
                EINVAL,
                "the set was used in two parts: disk {label} knows nothing of what others did without it"
            ));
        }
    }
    let raw = newest.raw;
    for one in 0..raw.disks() {
        let serial = serial::squeezed(&raw.serial(one));
        // What is left of those of lost disks may be alike.
        let twice = (0..one).any(|other| serial::squeezed(&raw.serial(other)) == serial);
        if twice && !serial::is_marked(&serial) {
            return Some(reason!(
                EINVAL,
                "two disks have serial number {}: which is which is not certain",
                serial::label(&serial)
            ));
        }
    }
    let unknown = raw.attributes() & !attribute::KNOWN;
    if unknown != 0 {
        return Some(reason!(
            EOPNOTSUPP,
            "the metadata needs features {unknown:#x} that are not known"
        ));
    }
    let general = (0..raw.volumes()).any(|index| changes_shape(raw, raw.volume_at(index)));
    general.then(|| {
        reason!(
            EROFS,
            "a volume of the set is being reshaped: let mdadm or the firmware finish"
        )
    })
}

/// Whether `old` and `new` have no working disk in common, and `old` calls one failed that works by
/// `new`: the set was used in two parts, each for itself.
///
/// A part in which lost disks were replaced does not name them any more, but has another family number, while one that
/// still has the first number never had a disk replaced: neither comes after the other, then. (Two parts with replaced
/// disks cannot be told from disks that were replaced one after the other.)
///
/// A disk that works by both was there in both parts, so the later one knew of the earlier one and went on
/// with it: `old` is an update that did not get far. That holds also when this disk is not here now.
fn used_apart(found: &[Found<'_>], old: Raw<'_>, new: Raw<'_>) -> bool {
    let works = |raw: Raw<'_>, entry: u8| {
        let failed = raw.status(entry) & disk::FAILED != 0;
        (!failed).then(|| serial::squeezed(&raw.serial(entry)))
    };
    let is_shared = (0..old.disks())
        .filter_map(|entry| works(old, entry))
        .any(|serial| matches!(entry_of(new, &serial), Some((_, true))));
    let is_mutual = found
        .iter()
        .filter_map(|one| serial::of_disk(one.facts.serial.as_str()))
        .any(|serial| {
            let (by_old, by_new) = (entry_of(old, &serial), entry_of(new, &serial));
            matches!((by_old, by_new), (Some((_, false)), Some((_, true))))
        });
    let is_first = |raw: Raw<'_>| raw.u32(header::FAMILY) == raw.family();
    (is_mutual || is_first(new) && !is_first(old)) && !is_shared
}

/// The entry of the disk with `serial`, and whether it is in order there.
fn entry_of(raw: Raw<'_>, serial: &Serial) -> Option<(u8, bool)> {
    let exact = (0..raw.disks()).find(|&entry| serial::squeezed(&raw.serial(entry)) == *serial);
    if let Some(entry) = exact {
        return Some((entry, raw.status(entry) & disk::FAILED == 0));
    }
    (0..raw.disks())
        .filter(|&entry| raw.status(entry) & disk::FAILED != 0)
        .find(|&entry| serial::was(&raw.serial(entry), serial))
        .map(|entry| (entry, false))
}

/// The entry of a disk that is here. A spare has nothing to do with the entry of a failed disk, though
/// it may have been that very disk.
pub(super) fn entry_of_found(raw: Raw<'_>, one: &Found<'_>) -> Option<u8> {
    let serial = serial::of_disk(one.facts.serial.as_str())?;
    let spare = !one.torn && one.raw.is_spare();
    entry_of(raw, &serial)
        .filter(|&(entry, _)| !(spare && serial::is_marked(&serial::squeezed(&raw.serial(entry)))))
        .map(|(entry, _)| entry)
}

/// The disks of the table.
#[inline(never)]
fn add_listed(set: &mut ImsmSet, found: &[Found<'_>]) -> Checked {
    let count = set.mpb.raw().disks();
    for entry in 0..count {
        let raw = set.mpb.raw();
        let status = raw.status(entry);
        let at = raw.disk_at(entry);
        let gone = raw.u32(at + disk::SCSI) == disk::GONE;
        let listed = serial::squeezed(&raw.serial(entry));
        let blocks = raw.disk_blocks(entry);
        let mut here = found
            .iter()
            .filter(|one| entry_of_found(raw, one) == Some(entry));
        let one = here.next();
        // What two disks hold that were lost counts for nothing, whichever is which.
        let twice = here.next().is_some() && !serial::is_marked(&listed);
        let failed = status & disk::FAILED != 0;
        let state = match (one.is_some(), failed, gone) {
            // It was away: what it holds is old.
            (true, true, true) => DiskState::Stale,
            (_, true, false) => DiskState::Failed,
            (true, false, _) => DiskState::Online,
            (false, _, _) => DiskState::Missing,
        };
        let serial = one
            .and_then(|one| serial::of_disk(one.facts.serial.as_str()))
            .unwrap_or(listed);
        push_disk(set, one, serial, Some(entry), state, blocks)?;
        if state == DiskState::Stale {
            note(
                &mut set.set.notes,
                format_args!(
                    "disk {} was left out of the last updates",
                    serial::label(&serial)
                ),
            )?;
        }
        if twice && set.frozen.is_none() {
            set.frozen = Some(reason!(
                EINVAL,
                "two disks have serial number {}: which is which is not certain",
                serial::label(&serial)
            ));
        }
        if let Some(model) = set.set.disks.get_mut(usize::from(entry)) {
            model.failure_predicted = status & disk::SMART_EVENT != 0;
        }
    }
    Ok(())
}

/// Disks that the table does not have: spares, and those that were replaced.
#[inline(never)]
fn add_others(set: &mut ImsmSet, found: &[Found<'_>]) -> Checked {
    for one in found {
        if set.set.disk_by_key(one.facts.key).is_some() {
            continue;
        }
        if set.set.disks.len() >= DISKS_MAX {
            note(
                &mut set.set.notes,
                format_args!(
                    "disk {} is left out: it is not in the table, and there are {DISKS_MAX} disks",
                    one.facts.serial
                ),
            )?;
            continue;
        }
        let serial = serial::of_disk(one.facts.serial.as_str());
        let listed = entry_of_found(set.mpb.raw(), one).is_some();
        let state = match (one.torn, one.raw.is_spare(), serial) {
            // The second disk with one serial number.
            _ if listed => DiskState::Stale,
            (false, true, Some(_)) => DiskState::Online,
            _ => DiskState::Stale,
        };
        // A lone spare without a serial number to go by has one in its own table.
        let serial = serial.unwrap_or_else(|| match one.raw.is_spare() {
            true => serial::squeezed(&one.raw.serial(0)),
            false => [0; TEXT_BYTES],
        });
        let blocks = probe::blocks(&one.facts).map_or(0, |(blocks, _)| blocks);
        push_disk(set, Some(one), serial, None, state, blocks)?;
        if state == DiskState::Stale {
            note(
                &mut set.set.notes,
                format_args!(
                    "disk {} is not in the newest table of the set",
                    one.facts.serial
                ),
            )?;
        }
    }
    Ok(())
}

/// Adds a disk to the model.
#[inline(never)]
fn push_disk(
    set: &mut ImsmSet,
    found: Option<&Found<'_>>,
    serial: Serial,
    entry: Option<u8>,
    state: DiskState,
    blocks: u64,
) -> Checked {
    let anchor = found.map(|one| one.anchor);
    let usable = super::disks::usable_sectors(anchor.unwrap_or(blocks), set.block_sectors());
    let written = state == DiskState::Online
        && found.is_some_and(|one| one.facts.logical_block_bytes == set.block_bytes);
    let home = match found {
        Some(one) if written => Some(home_of(set, one, entry, &serial)?),
        _ => None,
    };
    set.set.disks.push(
        Disk {
            facts: found.map(|one| one.facts),
            label: serial::label(&serial),
            state,
            role: DiskRole::Unused,
            usable_sectors: usable,
            failure_predicted: false,
        },
        GFP_KERNEL,
    )?;
    set.disks.push(
        DiskMeta {
            serial,
            entry,
            anchor,
            migration: found.map_or(Record::Unread, |one| Record::decode(one.last)),
            home,
        },
        GFP_KERNEL,
    )?;
    Ok(())
}

/// What is written to a disk that is here.
fn home_of(set: &ImsmSet, one: &Found<'_>, entry: Option<u8>, serial: &Serial) -> Checked<Home> {
    let len = set.block_bytes as usize;
    let mut own = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
    if entry.is_none() {
        let bytes = one.raw.anchor.get(..len).unwrap_or(one.raw.anchor);
        let _ = super::super::bytes::put(&mut own, 0, bytes);
    } else {
        let blocks = probe::blocks(&one.facts).map_or(0, |(blocks, _)| blocks);
        let raw = set.mpb.raw();
        super::set::fill_spare(&mut own, raw.family(), raw.family(), 1, serial, blocks);
    }
    Ok(Home {
        synced: entry.is_some() && !one.torn && same_mpb(one.raw, set.mpb.raw()),
        fresh: false,
        own,
        own_changed: false,
    })
}

/// Remarks about what is odd.
#[inline(never)]
fn note_odd(set: &mut ImsmSet, found: &[Found<'_>]) -> Checked {
    if let Some(why) = set.frozen {
        note(
            &mut set.set.notes,
            format_args!("nothing is written to this set: {why}"),
        )?;
    }
    for one in found {
        if one.torn {
            note(
                &mut set.set.notes,
                format_args!(
                    "the metadata of disk {} is torn; the other disks' counts",
                    one.facts.serial
                ),
            )?;
        }
        if one.facts.serial.is_empty() {
            note(
                &mut set.set.notes,
                format_args!(
                    "a disk of {} sectors does not tell its serial number: its place is not known",
                    one.facts.size_sectors
                ),
            )?;
        }
    }
    Ok(())
}

#[inline(never)]
fn add_volumes(set: &mut ImsmSet) -> Checked {
    let count = set.mpb.raw().volumes();
    set.set.volumes.reserve(usize::from(count), GFP_KERNEL)?;
    for index in 0..count {
        let mut model = set.read_volume(index)?;
        if let Some(why) = set.frozen {
            // When the table itself is in doubt, not even that.
            let doubt = why.errno() == EINVAL || why.errno() == EIO;
            model.access = match model.access {
                Access::Refused(why) => Access::Refused(why),
                _ if doubt => Access::Refused(why),
                Access::ReadWrite => Access::ReadOnly(why),
                known => known,
            };
        }
        set.set.volumes.push(model, GFP_KERNEL)?;
        set.volumes.push(Some(index), GFP_KERNEL)?;
    }
    for index in 0..count {
        let Some(other) = (0..count).find(|&other| {
            other != index && set.overlap(VolumeIndex::from(index), VolumeIndex::from(other))
        }) else {
            continue;
        };
        // A write to one would be one to the other.
        if let Some(model) = set.set.volumes.get_mut(usize::from(index)) {
            model.access = Access::Refused(reason!(EINVAL, "the volume overlaps volume {other}"));
        }
    }
    set.note_policies();
    Ok(())
}

/// What the bad-block log says.
#[inline(never)]
fn add_bad_ranges(set: &mut ImsmSet) -> Checked {
    set.set.reserve_bad_ranges()?;
    let Some(at) = set.mpb.raw().bad_log_at() else {
        return Ok(());
    };
    let scale = set.block_sectors();
    let count = set.mpb.raw().u32(at + bad::COUNT).min(BAD_ENTRIES_MAX);
    for entry in 0..count as usize {
        let raw = set.mpb.raw();
        let from = at + bad::ENTRIES + entry * bad::ENTRY_BYTES;
        let blocks = u64::from(raw.u8(from)) + 1;
        let disk = raw.u8(from + 1);
        let [a, b, c, d, e, f] = raw.array::<6>(from + 2);
        let first = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        if disk >= raw.disks() {
            continue;
        }
        let range = BadRange {
            disk: DiskIndex::from(disk),
            sector: first.saturating_mul(scale),
            sectors: u32::try_from(blocks * scale).unwrap_or(0),
        };
        set.set.add_bad_range(range)?;
    }
    Ok(())
}
