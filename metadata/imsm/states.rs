// SPDX-License-Identifier: GPL-2.0

//! What the maps and the migration of a volume say, rewritten from the model.
//!
//! | model | migration | first map | second map |
//! |---|---|---|---|
//! | members rebuilding | rebuild | their slots in sync | out of sync, degraded |
//! | initialising, begun | init, or verify-and-fix when it once was in sync | normal | uninitialised, or normal |
//! | initialising, not begun | none | uninitialised | |
//! | being checked, all members there, clean | verify | normal | normal |
//! | being repaired, all members there, clean | verify-and-fix | normal | normal |
//! | being checked or repaired, all members there, dirty, no log | verify-and-fix, at its beginning | normal | normal |
//! | else | none | normal, degraded, failed | |
//!
//! Slots of lost members are out of sync in both maps. A volume that is rebuilding and was never in
//! sync has its first map uninitialised.
//!
//! While writes are in flight no mark of a sync counts, and nothing is only looked at: what mdadm reads of a
//! migration goes before the dirty mark, and it would resync too little, or nothing.

use super::layout::*;
use super::left_log::log_sectors;
use super::model::{is_empty, is_lost, map_state};
use super::room::ROOM_BYTES;
use super::set::ImsmSet;
use super::units::unit_of;
use crate::model::{Access, Checked, Consistency, MemberState, Scrub, Shape, Slot, VolumeIndex};

/// What goes on with a volume.
#[derive(Clone, Copy)]
struct Migration {
    kind: u8,
    /// A verification mends what it finds.
    fix: bool,
    /// How far it is.
    mark: u64,
    /// Not for redundancy, but because a person asked for it.
    is_scrub: bool,
}

impl Migration {
    fn new(kind: u8, mark: u64) -> Self {
        Self {
            kind,
            fix: kind == volume::VERIFY,
            mark,
            is_scrub: false,
        }
    }

    /// A check or repair that a person asked for. While writes are in flight it is a resync of everything.
    fn scrub(scrub: Scrub, is_dirty: bool) -> Self {
        Self {
            kind: volume::VERIFY,
            fix: scrub.repairs || is_dirty,
            mark: if is_dirty { 0 } else { scrub.done_sectors },
            is_scrub: true,
        }
    }
}

/// What is written of a volume.
struct Picture {
    shape: Shape,
    migration: Option<Migration>,
    /// State bytes of both maps.
    states: (u8, u8),
    /// First lost slot.
    failed: u8,
}

impl ImsmSet {
    /// Rewrites what the MPB says of a volume's members and redundancy.
    #[inline(never)]
    pub fn refresh_volume(&mut self, volume: VolumeIndex) -> Checked {
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        if self.frozen.is_some() {
            return Ok(());
        }
        let Some(mut picture) = self.picture(volume, at) else {
            // What it is is not certain; lost members are marked all the same.
            self.mark_lost_slots(volume, at);
            return Ok(());
        };
        if picture.migration.is_some_and(|one| one.is_scrub) && !self.has_place_for_scrub(at) {
            picture.migration = None;
            if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
                model.scrub = None;
            }
        }
        match picture.migration {
            Some(migration) => {
                self.mpb.add_second_map(at)?;
                self.set_migration(at, &picture.shape, migration);
            }
            None => self.mpb.drop_second_map(at),
        }
        let raw = self.mpb.raw();
        let (first, second) = (raw.map_at(at, Which::First), raw.map_at(at, Which::Second));
        let (state, before) = picture.states;
        self.mpb.put8(first + map::STATE, state);
        self.mpb.put8(first + map::FAILED, picture.failed);
        if second != first {
            self.mpb.put8(second + map::STATE, before);
            self.mpb.put8(second + map::FAILED, picture.failed);
        }
        self.write_orders(volume, first, second);
        self.changed = true;
        Ok(())
    }

    /// What to write; `None` for a volume that is not understood.
    fn picture(&self, volume: VolumeIndex, at: usize) -> Option<Picture> {
        let model = self.set.volume(volume)?;
        if matches!(model.access, Access::Refused(_)) {
            return None;
        }
        let raw = self.mpb.raw();
        let shape = model.shape;
        let marks = model
            .members
            .iter()
            .filter_map(|member| match member.state {
                MemberState::Rebuilding { done_sectors } => Some(done_sectors),
                _ => None,
            });
        let rebuilt = marks.min();
        let state = raw.u8(raw.map_at(at, Which::First) + map::STATE);
        let migrating = raw.u8(at + volume::MIGRATING) != 0;
        let kind = raw.u8(at + volume::KIND);
        let never = state == map::UNINITIALISED || (migrating && kind == volume::INIT);
        let lost = map_state(&shape, &model.members, &is_lost);
        let empty = map_state(&shape, &model.members, &is_empty);
        let begun = match model.consistency {
            Consistency::Initialising { done_sectors } => Some(done_sectors),
            _ => None,
        };
        let migration = |kind, mark| Some(Migration::new(kind, mark));
        let (migration, states) = match (rebuilt, begun) {
            (Some(mark), Some(_)) => (migration(volume::REBUILD, mark), (map::UNINITIALISED, lost)),
            (Some(mark), None) => (migration(volume::REBUILD, mark), (empty, lost)),
            (None, Some(0)) if never && !(migrating && kind == volume::INIT) => {
                (None, (map::UNINITIALISED, lost))
            }
            (None, Some(mark)) if never => {
                (migration(volume::INIT, mark), (empty, map::UNINITIALISED))
            }
            (None, Some(mark)) => (migration(volume::VERIFY, mark), (empty, empty)),
            (None, None) => {
                let is_dirty = model.consistency == Consistency::Dirty;
                // With a log, a resync of everything would be too much.
                let has_log = is_dirty && log_sectors(raw, at, shape.level).is_some();
                let scrub = model.scrub.filter(|_| empty == map::NORMAL && !has_log);
                let scrub = scrub.map(|scrub| Migration::scrub(scrub, is_dirty));
                (scrub, (empty, empty))
            }
        };
        let failed = model.members.iter().position(is_lost);
        Some(Picture {
            shape,
            migration,
            states,
            failed: failed
                .and_then(|slot| u8::try_from(slot).ok())
                .unwrap_or(u8::MAX),
        })
    }

    /// Whether a check or repair can be recorded: not at the cost of what members that are replaced need.
    fn has_place_for_scrub(&self, at: usize) -> bool {
        let raw = self.mpb.raw();
        let needed = raw.map_len(at + volume::BYTES) + ROOM_BYTES;
        raw.u8(at + volume::MIGRATING) != 0 || self.mpb.room() >= needed
    }

    /// Rewrites what a volume's migration is, where that is not what the model says. `in_flight`: no mark of a sync counts.
    #[inline(never)]
    pub fn refresh_migration(&mut self, volume: VolumeIndex, in_flight: bool) -> Checked {
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        let raw = self.mpb.raw();
        let is_migrating = raw.u8(at + volume::MIGRATING) != 0;
        if is_migrating && raw.u8(at + volume::KIND) == volume::REBUILD {
            // Its mark stays, as with mdadm.
            return Ok(());
        }
        let Some(Picture {
            shape, migration, ..
        }) = self.picture(volume, at)
        else {
            return Ok(());
        };
        let same = match migration {
            None => !is_migrating,
            Some(wanted) => {
                let fix = raw.u32(at + volume::STATUS) & volume::FIX != 0;
                is_migrating
                    && raw.u8(at + volume::KIND) == wanted.kind
                    && (wanted.kind != volume::VERIFY || fix == wanted.fix)
            }
        };
        if !same {
            self.refresh_volume(volume)?;
        }
        let Some(Migration { kind, mark, .. }) = migration else {
            return Ok(());
        };
        if self.mpb.raw().u8(at + volume::MIGRATING) != 0 {
            let mark = if in_flight { 0 } else { mark };
            let units = self.units(at, &shape, kind, mark);
            self.put_units(at, units);
        }
        Ok(())
    }

    /// Writes kind and checkpoint of a migration.
    fn set_migration(&mut self, at: usize, shape: &Shape, migration: Migration) {
        let status = self.mpb.raw().u32(at + volume::STATUS) & !volume::FIX;
        let fix = if migration.fix { volume::FIX } else { 0 };
        self.mpb.put32(at + volume::STATUS, status | fix);
        self.mpb.put8(at + volume::KIND, migration.kind);
        let units = self.units(at, shape, migration.kind, migration.mark);
        self.mpb
            .put_pair(at + volume::UNIT_LO, at + volume::UNIT_HI, units);
    }

    /// A mark in units, rounded down.
    pub fn units(&self, at: usize, shape: &Shape, kind: u8, mark: u64) -> u64 {
        let scale = self.block_sectors();
        let unit = unit_of(self.mpb.raw(), at, shape, kind, scale).written_sectors;
        let unit = unit.saturating_mul(scale).max(1);
        mark.checked_div(unit).unwrap_or(0)
    }

    /// Writes which disk is in which slot, and which of them are out of sync.
    fn write_orders(&mut self, volume: VolumeIndex, first: usize, second: usize) {
        let raw = self.mpb.raw();
        let [count, before] = [first, second].map(|map| u16::from(raw.u8(map + map::MEMBERS)));
        for slot in 0..count {
            let Some(member) = self.member(volume, slot) else {
                continue;
            };
            let (empty, lost) = (is_empty(&member), is_lost(&member));
            let entry = member.disk.and_then(|disk| self.entry(disk));
            let old = self.mpb.raw().order(first, slot) & map::DISK;
            let disk = entry.map_or(old, u32::from);
            let bit = |set: bool| if set { map::OUT_OF_SYNC } else { 0 };
            let at = map::ORDER + 4 * usize::from(slot);
            self.mpb.put32(first + at, disk | bit(empty));
            if second != first && slot < before {
                self.mpb.put32(second + at, disk | bit(lost));
            }
        }
    }

    /// A member of a volume.
    pub fn member(&self, volume: VolumeIndex, slot: Slot) -> Option<crate::model::Member> {
        self.set
            .volume(volume)?
            .members
            .get(usize::from(slot))
            .copied()
    }

    /// Marks lost members as out of sync, and nothing else.
    fn mark_lost_slots(&mut self, volume: VolumeIndex, at: usize) {
        for which in [Which::First, Which::Second] {
            let map = self.mpb.raw().map_at(at, which);
            for slot in 0..u16::from(self.mpb.raw().u8(map + map::MEMBERS)) {
                let lost = self
                    .member(volume, slot)
                    .is_some_and(|member| is_empty(&member));
                if lost {
                    let order = self.mpb.raw().order(map, slot);
                    let at = map + map::ORDER + 4 * usize::from(slot);
                    self.mpb.put32(at, order | map::OUT_OF_SYNC);
                    self.changed = true;
                }
            }
        }
    }
}
