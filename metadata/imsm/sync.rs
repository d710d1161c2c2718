// SPDX-License-Identifier: GPL-2.0

//! Events about redundancy: rebuild, dirty and clean, resync.

use super::layout::*;
use super::read_volumes::{dirty_consistency, is_dirty, is_resyncing};
use super::set::ImsmSet;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskIndex, MemberState, Scrub, Slot, Volume,
    VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

impl ImsmSet {
    /// The volume, if it may be written.
    pub fn writable_volume(&self, volume: VolumeIndex) -> Checked<&Volume> {
        let model = self.live_volume(volume)?;
        match &model.access {
            Access::ReadOnly(why) => Err(reason!(EROFS, "volume {volume}: {}", why.text())),
            _ => Ok(model),
        }
    }

    /// The disk of a member that is being rebuilt.
    fn rebuilding(&self, volume: VolumeIndex, slot: Slot) -> Checked<DiskIndex> {
        self.live_volume(volume)?;
        let member = self
            .member(volume, slot)
            .ok_or_else(|| reason!(EINVAL, "volume {volume} has no member {slot}"))?;
        match (member.state, member.disk) {
            (MemberState::Rebuilding { .. }, Some(disk)) => Ok(disk),
            _ => Err(reason!(
                EINVAL,
                "member {slot} of volume {volume} is not being rebuilt"
            )),
        }
    }

    /// Sets a member's state in the model.
    pub fn set_member_state(&mut self, volume: VolumeIndex, slot: Slot, state: MemberState) {
        let model = self.set.volumes.get_mut(usize::from(volume));
        if let Some(member) = model.and_then(|v| v.members.get_mut(usize::from(slot))) {
            member.state = state;
        }
    }

    /// [`crate::model::Event::RebuildProgress`]. Written when it comes to another unit.
    #[inline(never)]
    pub fn rebuild_progress(&mut self, volume: VolumeIndex, slot: Slot, done: u64) -> Checked {
        self.rebuilding(volume, slot)?;
        let shape = self.live_volume(volume)?.shape;
        if done > shape.member_sectors {
            return Err(reason!(
                EINVAL,
                "{done} sectors are more than a member's {}",
                shape.member_sectors
            ));
        }
        self.set_member_state(volume, slot, MemberState::Rebuilding { done_sectors: done });
        let Some(at) = self.record(volume).filter(|_| self.frozen.is_none()) else {
            return Ok(());
        };
        let marks = self.live_volume(volume)?.members.iter();
        let least = marks
            .filter_map(|member| match member.state {
                MemberState::Rebuilding { done_sectors } => Some(done_sectors),
                _ => None,
            })
            .min();
        let units = self.units(at, &shape, volume::REBUILD, least.unwrap_or(0));
        self.put_units(at, units);
        Ok(())
    }

    /// Writes a checkpoint, when it is another one.
    pub fn put_units(&mut self, at: usize, units: u64) {
        let now = self
            .mpb
            .raw()
            .pair(at + volume::UNIT_LO, at + volume::UNIT_HI);
        if now != units {
            self.mpb
                .put_pair(at + volume::UNIT_LO, at + volume::UNIT_HI, units);
            self.changed = true;
        }
    }

    /// [`crate::model::Event::RebuildDone`].
    #[inline(never)]
    pub fn rebuild_done(&mut self, volume: VolumeIndex, slot: Slot) -> Checked {
        self.rebuilding(volume, slot)?;
        self.set_member_state(volume, slot, MemberState::InSync);
        self.refresh_volume(volume)
    }

    /// [`crate::model::Event::Dirty`] and [`crate::model::Event::Clean`]. Nothing to record without
    /// redundancy.
    #[inline(never)]
    pub fn set_in_flight(&mut self, volume: VolumeIndex, in_flight: bool) -> Checked {
        let model = self.writable_volume(volume)?;
        if !model.shape.level.is_redundant() {
            return Ok(());
        }
        let (before, level) = (model.consistency, model.shape.level);
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        let as_read = match in_flight {
            true => dirty_consistency(self.mpb.raw(), at, level),
            false => Consistency::Clean,
        };
        let is_initialising = |consistency| matches!(consistency, Consistency::Initialising { .. });
        // Redundancy is still to be established, whether or not writes are in flight.
        let stays = is_initialising(before) && (!in_flight || is_initialising(as_read));
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.consistency = if stays { before } else { as_read };
        }
        let value = match in_flight {
            true => self.in_flight_bits(volume),
            false => 0,
        };
        // A mark that is on some disks only, because an update was cut, may go with them.
        let uneven = self.disks.iter().any(|meta| {
            meta.entry.is_some() && meta.home.as_ref().is_some_and(|home| !home.synced)
        });
        self.changed |= in_flight && uneven;
        if self.mpb.raw().u8(at + volume::DIRTY) != value {
            self.mpb.put8(at + volume::DIRTY, value);
            self.changed = true;
        }
        // Also when the mark is there already: whoever left it may have gone by what the migration says.
        self.refresh_migration(volume, in_flight)
    }

    /// [`crate::model::Event::ResyncProgress`].
    #[inline(never)]
    pub fn resync_progress(&mut self, volume: VolumeIndex, done: u64) -> Checked {
        let model = self.writable_volume(volume)?;
        let (shape, before) = (model.shape, model.consistency);
        let most = shape.sync_sectors(model.size_sectors);
        if !shape.level.is_redundant() || done > most {
            return Err(reason!(
                EINVAL,
                "{done} of {most} sectors in sync on {} is impossible",
                shape.level
            ));
        }
        if done == 0 && before == Consistency::Dirty && model.crash_policy != CrashPolicy::Log {
            // That says as much.
            return Ok(());
        }
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.consistency = Consistency::Initialising { done_sectors: done };
        }
        let rebuilding = self.set.volume(volume).is_some_and(|model| {
            let mut members = model.members.iter();
            members.any(|member| matches!(member.state, MemberState::Rebuilding { .. }))
        });
        let was = matches!(before, Consistency::Initialising { .. });
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        if done > 0 && self.mpb.raw().u8(at + volume::DIRTY) != 0 {
            // There is no mark while writes are in flight, so none are; and beside the dirty bit it would count for nothing.
            self.mpb.put8(at + volume::DIRTY, 0);
            self.changed = true;
        }
        let kind = self.mpb.raw().u8(at + volume::KIND);
        let running = is_resyncing(self.mpb.raw(), at);
        match (was, running, rebuilding) {
            (true, true, false) => {
                let units = self.units(at, &shape, kind, done);
                self.put_units(at, units);
                Ok(())
            }
            // While members are rebuilt there is no place for it.
            (true, _, true) => Ok(()),
            _ => self.refresh_volume(volume),
        }
    }

    /// [`crate::model::Event::ScrubProgress`]. Written when it comes to another unit; not while a rebuild or a resync
    /// has the place, nor its mark while writes are in flight.
    #[inline(never)]
    pub fn scrub_progress(&mut self, volume: VolumeIndex, scrub: Option<Scrub>) -> Checked {
        let model = self.live_volume(volume)?;
        let shape = model.shape;
        model.check_scrub(scrub)?;
        if !shape.level.is_redundant() || !matches!(model.access, Access::ReadWrite) {
            return Ok(());
        }
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.scrub = scrub;
        }
        self.refresh_migration(volume, false)
    }

    /// [`crate::model::Event::ResyncDone`].
    #[inline(never)]
    pub fn resync_done(&mut self, volume: VolumeIndex) -> Checked {
        let model = self.writable_volume(volume)?;
        if !model.shape.level.is_redundant() {
            return Ok(());
        }
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        let in_flight = is_dirty(self.mpb.raw(), at);
        let then = match in_flight {
            true => Consistency::Dirty,
            false => Consistency::Clean,
        };
        let before = match self.set.volumes.get_mut(usize::from(volume)) {
            Some(model) => core::mem::replace(&mut model.consistency, then),
            None => then,
        };
        match before {
            Consistency::Initialising { .. } => self.refresh_volume(volume),
            _ => Ok(()),
        }
    }
}
