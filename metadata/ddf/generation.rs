// SPDX-License-Identifier: GPL-2.0

//! Which of the disks' states counts, and who is too old for it.
//!
//! The order of an update (`plan.rs`) is what these rules rest on.

use super::assemble::Reader;
use super::config::{self, Record};
use super::layout::*;
use super::log_place::{is_ours, keeps_order};
use super::probe::{CopyView, Found};
use super::read_volumes::recorded_state;
use super::tables;
use crate::model::{Checked, DiskIndex, DiskState, MemberState, DISKS_MAX};
use crate::personalities::{for_level, Health, Mask};
use kernel::prelude::*;

/// The generation to use. Goes back when an update did not get its first copy onto all disks and every
/// disk still has the state before it whole (`plan.rs`).
///
/// Disks that the newest tables call lost (or do not list) have no say: they were left out of the
/// update on purpose, and going back for their sake would make old data good again.
pub(super) fn settle_generation(found: &mut [Found<'_>]) -> u32 {
    leave_cut_updates(found);
    let newest = found.iter().map(Found::generation).max().unwrap_or(0);
    let source = freshest(found, newest);
    let Some(tables) = found.get(source).and_then(Found::best) else {
        return newest;
    };
    let late = |disk: &Found<'_>| {
        disk.generation() < newest
            && disk.best().is_some_and(|copy| {
                let state = recorded_state(tables, copy.reference());
                state.is_some_and(|bits| bits & (pde::FAILED | pde::MISSING) == 0)
            })
    };
    let before = found
        .iter()
        .filter(|disk| late(disk))
        .map(Found::generation)
        .max();
    let Some(before) = before else {
        return newest;
    };
    // One that the newest tables call lost wrote its own newest ones apart from them.
    let lost = |disk: &Found<'_>| disk.best().is_some_and(|copy| calls_lost(tables, copy));
    let whole = found
        .iter()
        .filter(|disk| {
            let newest = disk.generation() == newest && !lost(disk);
            newest || (late(disk) && disk.generation() == before)
        })
        .all(|disk| disk.with_generation(before).is_some());
    if !whole {
        let late_of = |disk: &Found<'_>| late(disk).then(|| disk.generation());
        let settled = before_uneven(found, newest, tables, late_of);
        for disk in found.iter_mut().filter(|_| settled.is_some()) {
            if disk.generation() == newest {
                disk.chosen = disk.chosen.other();
            }
        }
        return settled.unwrap_or(newest);
    }
    for disk in found.iter_mut() {
        if let Some(which) = disk.with_generation(before) {
            disk.chosen = which;
        }
    }
    before
}

/// The generation before a cut update `newest` where the disks' own ones differed: a new disk is written before all
/// others, power went right then, and the set went on from there. `None` where the update may have reached all disks.
///
/// It was cut if every disk that has it has its own state before it whole, and one of them that of a disk that
/// lacks it: so that one was not left out of more than those in use were. `late_of` gives the generation of a disk that
/// lacks it and works by `tables`, the newest ones. Only on EMD's own sets, whose updates go to all disks in step.
#[inline(never)]
fn before_uneven(
    found: &[Found<'_>],
    newest: u32,
    tables: &CopyView<'_>,
    late_of: impl Fn(&Found<'_>) -> Option<u32>,
) -> Option<u32> {
    if !is_ours(&tables.head.guid) {
        return None;
    }
    let mut settled = None;
    let mut shared = false;
    for disk in found {
        let before = if disk.generation() == newest {
            if disk.best().is_some_and(|copy| calls_lost(tables, copy)) {
                return None;
            }
            let before = whole_before(disk, newest)?;
            shared |= found.iter().any(|other| late_of(other) == Some(before));
            before
        } else if let Some(before) = late_of(disk) {
            disk.with_generation(before)?;
            before
        } else {
            continue;
        };
        settled = settled.max(Some(before));
    }
    settled.filter(|_| shared)
}

/// Generation of the state before `newest` that a disk has whole in its other copy.
fn whole_before(disk: &Found<'_>, newest: u32) -> Option<u32> {
    let copy = disk.copy(disk.chosen.other())?;
    let sequence = copy.head.sequence;
    (copy.intact && !copy.head.open && sequence < newest).then_some(sequence)
}

/// Has disks go back, each for itself, from updates that nobody else went on with, where their number was given
/// again.
///
/// An update reaches a spare only, power fails, and the members, which start without it, record something else with
/// that number: the spare's loss is nothing to them. Members that the spare knows as working would all have had its
/// update before anything rested on it. Only on EMD's own sets, whose updates go to all disks in step.
#[inline(never)]
fn leave_cut_updates(found: &mut [Found<'_>]) {
    for at in 0..found.len() {
        let Some(disk) = found.get(at) else { break };
        let before = disk.generation().checked_sub(1);
        let older = before.and_then(|before| disk.with_generation(before));
        if let Some(which) = older.filter(|_| was_cut(found, disk)) {
            if let Some(disk) = found.get_mut(at) {
                disk.chosen = which;
            }
        }
    }
}

/// Whether another disk of the same generation has other tables, is a working member by those of `disk`, and not the
/// other way round.
fn was_cut(found: &[Found<'_>], disk: &Found<'_>) -> bool {
    let Some(mine) = disk.best().filter(|mine| is_ours(&mine.head.guid)) else {
        return false;
    };
    found
        .iter()
        .filter(|other| other.generation() == disk.generation())
        .filter_map(Found::best)
        .filter(|theirs| theirs.intact && !theirs.head.open)
        .any(|theirs| {
            let differ = [Section::Disks, Section::Volumes]
                .into_iter()
                .any(|section| theirs.section(section) != mine.section(section));
            differ && calls_member(mine, theirs) && !calls_member(theirs, mine)
        })
}

/// Whether the tables of `copy` call the disk with `other` a member that works.
fn calls_member(copy: &CopyView<'_>, other: &CopyView<'_>) -> bool {
    let (endian, table) = (copy.layout.endian, copy.section(Section::Disks));
    let entries = tables::entries_of(table, endian, copy.layout.pd_entries, other.reference());
    let mut entries = entries
        .map(|index| tables::entry(table, endian, index))
        .peekable();
    entries.peek().is_some()
        && entries.all(|entry| {
            entry.disk_type() & pde::ACTIVE != 0
                && entry.disk_state() & (pde::FAILED | pde::MISSING) == 0
        })
}

/// Whether the tables of `copy` call the disk with `other` lost.
fn calls_lost(copy: &CopyView<'_>, other: &CopyView<'_>) -> bool {
    recorded_state(copy, other.reference())
        .is_some_and(|bits| bits & (pde::FAILED | pde::MISSING) != 0)
}

/// Whether another disk of the same generation calls `disk` lost, and not the other way round.
///
/// Generations are numbers, and a number can be given twice: an update reaches one disk only, power
/// fails, and the others, which start without it, record its loss with the number that it has already.
fn is_outvoted(found: &[Found<'_>], disk: &Found<'_>) -> bool {
    let Some(mine) = disk.best() else {
        return false;
    };
    found
        .iter()
        .filter(|other| other.generation() == disk.generation())
        .filter_map(Found::best)
        .any(|theirs| theirs.intact && calls_lost(theirs, mine) && !calls_lost(mine, theirs))
}

/// Which older disks are members that work by the tables of some disk of `generation`, by place in `found`. If another one of
/// that generation calls such a disk lost, it is: that is recorded before anything is written without it, and nobody records it
/// of a disk that is in use. So on sets that EMD runs like its own; of others' nothing is said.
///
/// Generations are numbers (see `is_outvoted`): a disk that was being reinstated had all of an update, and the others nothing
/// of it. One of them went on alone, with the same number.
fn disputed(found: &[Found<'_>], generation: u32) -> [bool; DISKS_MAX] {
    let mut disputed = [false; DISKS_MAX];
    for (old, flag) in found.iter().zip(disputed.iter_mut()) {
        let Some(theirs) = old.best().filter(|_| old.generation() < generation) else {
            continue;
        };
        *flag = keeps_order(&theirs.head.guid)
            && found
                .iter()
                .filter(|disk| disk.generation() == generation)
                .filter_map(Found::best)
                .any(|copy| copy.intact && !copy.head.open && calls_member(copy, theirs));
    }
    disputed
}

/// The disk whose tables are used.
pub(super) fn freshest(found: &[Found<'_>], generation: u32) -> usize {
    let disputed = disputed(found, generation);
    let knows_loss = |copy: &CopyView<'_>| {
        let mut olds = found.iter().zip(disputed.iter()).filter(|(_, flag)| **flag);
        olds.any(|(old, _)| old.best().is_some_and(|old| calls_lost(copy, old)))
    };
    let key = |disk: &Found<'_>| {
        let copy = disk.best();
        (
            disk.generation() == generation,
            copy.is_some_and(|copy| copy.intact),
            !is_outvoted(found, disk),
            copy.is_some_and(|copy| !copy.head.open),
            copy.is_some_and(knows_loss),
            copy.map_or(0, newest_record),
        )
    };
    // Of equals the first.
    let keys = (0..).zip(found).map(|(index, disk)| (key(disk), index));
    let best = keys.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map_or(0, |(_, index)| index)
}

/// Highest counter of the sound volume records in a copy. It orders copies of graid, which never
/// counts its headers.
fn newest_record(copy: &CopyView<'_>) -> u32 {
    let section = copy.section(Section::Config);
    (0..copy.layout.config_slots)
        .filter_map(|index| {
            Record::new(
                config::slot_bytes(section, &copy.layout, index),
                &copy.layout,
            )
        })
        .filter(Record::intact)
        .map(|record| record.sequence())
        .filter(|&sequence| sequence != u32::MAX)
        .max()
        .unwrap_or(0)
}

impl Reader<'_> {
    /// Notes which disks were left out of at least two updates. One may be missing after a crash.
    #[inline(never)]
    pub(super) fn find_behind(&mut self, generation: u32) -> Checked {
        let newest = self
            .found
            .iter()
            .filter_map(Found::best)
            .map(newest_record)
            .max();
        let newest = newest.unwrap_or(0);
        for disk in self.found.iter() {
            // A header that was left open has its last whole update's number.
            let sequence = disk.best().map_or(0, |copy| copy.head.sequence);
            let late = generation.saturating_sub(sequence) >= 2;
            // graid counts its records only.
            let records = disk.best().map_or(0, newest_record);
            let late_records = self.set.quirks.freebsd
                && disk.generation() == generation
                && records != 0
                && self.found.len() > 1
                && newest.saturating_sub(records) >= 2
                && self.set.layout.partitions == 1;
            self.behind.push(late || late_records, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Disks that are behind, and members of redundant volumes that can do without them, are stale: their data is old.
    #[inline(never)]
    pub(super) fn mark_stale(&mut self) -> Checked {
        let mut needed = KVec::with_capacity(self.found.len(), GFP_KERNEL)?;
        for at in 0..self.found.len() {
            needed.push(self.was_needed(at) || self.was_alike(at), GFP_KERNEL)?;
        }
        for at in 0..self.found.len() {
            let late = self.behind.get(at).copied().unwrap_or(false);
            let needed = needed.get(at).copied().unwrap_or(false);
            let Some(index) = self.disk_of.get(at).copied().flatten() else {
                continue;
            };
            let Some(model) = self.set.set.disk(index) else {
                continue;
            };
            let label = model.label;
            let fits = self
                .found
                .get(at)
                .and_then(Found::best)
                .is_some_and(|copy| copy.layout.fits(&self.set.layout));
            if model.state != DiskState::Online {
                // Of one that is in no list that has been said.
                if model.state == DiskState::Stale && self.set.disk_state(index).is_some() {
                    self.note(format_args!(
                        "disk {label} was left out of the last updates"
                    ))?;
                }
                continue;
            }
            if !fits {
                self.set_stale(index, false);
                self.note(format_args!(
                    "disk {label}: its tables are laid out differently"
                ))?;
            } else if late {
                let redundant = self.set.set.memberships(index).any(|(volume, _, _)| {
                    self.set
                        .set
                        .volume(volume)
                        .is_some_and(|volume| volume.shape.level.is_redundant())
                });
                self.note(format_args!(
                    "disk {label} was left out of the last updates"
                ))?;
                if redundant && !needed {
                    self.set_stale(index, true);
                }
            }
        }
        Ok(())
    }

    /// Whether no redundant volume that a disk is a member of could have run without it, by the newest tables: so it
    /// was not written without it, and the disk did not take its metadata. Only where losses are recorded
    /// before anything is written without the disk, as EMD and mdadm do: on EMD's own sets.
    fn was_needed(&self, at: usize) -> bool {
        let copy = self.found.get(at).and_then(Found::best);
        let index = self.disk_of.get(at).copied().flatten();
        let Some((copy, index)) = copy.zip(index) else {
            return false;
        };
        let set = &self.set.set;
        let mut members = set.memberships(index);
        is_ours(&copy.head.guid)
            && members.all(|(volume, slot, member)| {
                let Some(volume) = set.volume(volume) else {
                    return false;
                };
                if !volume.shape.level.is_redundant() {
                    return true;
                }
                let in_sync = (0..)
                    .zip(volume.members.iter())
                    .filter(|(other, member)| *other != slot && member.state == MemberState::InSync)
                    .fold(Mask::EMPTY, |mask, (other, _)| mask.with(other));
                let level = for_level(volume.shape.level);
                member.state == MemberState::InSync
                    && level
                        .is_some_and(|level| level.health(&volume.shape, in_sync) == Health::Failed)
            })
    }

    /// Whether the other members of the redundant volumes that a disk is a member of were left out of the same updates: those
    /// were about other volumes, while this one did not run. On sets of others all of them have to be here; on EMD's own the
    /// loss of a disk would be in the newest tables, had one been used without it.
    fn was_alike(&self, at: usize) -> bool {
        let copy = self.found.get(at).and_then(Found::best);
        let index = self.disk_of.get(at).copied().flatten();
        let Some((copy, index)) = copy.zip(index) else {
            return false;
        };
        let is_ours = is_ours(&copy.head.guid);
        let sequence = copy.head.sequence;
        let set = &self.set.set;
        let sequence_of = |disk: Option<DiskIndex>| {
            let mut places = self.disk_of.iter();
            let other = places.position(|place| place.is_some() && *place == disk)?;
            Some(self.found.get(other).and_then(Found::best)?.head.sequence)
        };
        let mut members = set.memberships(index).peekable();
        members.peek().is_some()
            && members.all(|(volume, _, member)| {
                let others = set.volume(volume).map(|volume| volume.members.iter());
                let mut others = others.into_iter().flatten();
                member.state == MemberState::InSync
                    && others.all(|other| match sequence_of(other.disk) {
                        _ if other.state != MemberState::InSync => is_ours,
                        Some(theirs) => theirs.abs_diff(sequence) < 2,
                        None => is_ours,
                    })
            })
    }

    fn set_stale(&mut self, index: DiskIndex, redundant_only: bool) {
        let set = &mut self.set.set;
        if let Some(model) = set.disks.get_mut(usize::from(index)) {
            model.state = DiskState::Stale;
        }
        for volume in set.volumes.iter_mut() {
            if redundant_only && !volume.shape.level.is_redundant() {
                continue;
            }
            for member in volume.members.iter_mut() {
                if member.disk == Some(index) && member.state != MemberState::Missing {
                    member.state = MemberState::Failed;
                }
            }
        }
    }
}
