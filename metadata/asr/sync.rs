// SPDX-License-Identifier: GPL-2.0

//! Events about redundancy: rebuild, dirty and clean, resync, scrubs. How far they got is kept in the lines'
//! `current block` field: of the disk that is rebuilt, of the array that is resynced. Scrubs have a mark of their own.

use super::layout::*;
use super::scrub_mark;
use super::set::{AsrSet, Touched};
use crate::model::{Checked, Consistency, Level, MemberState, Scrub, Slot, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

impl AsrSet {
    /// Refuses members that are not being rebuilt.
    fn check_rebuilding(&self, volume: VolumeIndex, slot: Slot) -> Checked {
        let model = self.live_volume(volume)?;
        match model.members.get(usize::from(slot)).map(|m| m.state) {
            Some(MemberState::Rebuilding { .. }) => Ok(()),
            Some(_) => Err(reason!(
                EINVAL,
                "member {slot} of volume {volume} is not being rebuilt"
            )),
            None => Err(reason!(EINVAL, "volume {volume} has no member {slot}")),
        }
    }

    fn set_member_state(&mut self, volume: VolumeIndex, slot: Slot, state: MemberState) {
        let model = self.set.volumes.get_mut(usize::from(volume));
        if let Some(member) = model.and_then(|v| v.members.get_mut(usize::from(slot))) {
            member.state = state;
        }
    }

    /// [`crate::model::Event::RebuildProgress`].
    #[inline(never)]
    pub fn rebuild_progress(&mut self, volume: VolumeIndex, slot: Slot, done: u64) -> Checked {
        self.check_rebuilding(volume, slot)?;
        let most = self.live_volume(volume)?.shape.member_sectors;
        let progress = progress_of(done, most)?;
        if let Some(index) = self.slot_line(volume, slot) {
            self.edit_line(index, Touched::Marks, |line| {
                line.state = state::REBUILDING;
                line.progress = progress;
            });
        }
        let state = MemberState::Rebuilding { done_sectors: done };
        self.set_member_state(volume, slot, state);
        Ok(())
    }

    /// [`crate::model::Event::RebuildDone`].
    #[inline(never)]
    pub fn rebuild_done(&mut self, volume: VolumeIndex, slot: Slot) -> Checked {
        self.check_rebuilding(volume, slot)?;
        if let Some(index) = self.slot_line(volume, slot) {
            self.edit_line(index, Touched::Lines, |line| {
                line.state = state::OPTIMAL;
                line.progress = 0;
            });
        }
        self.set_member_state(volume, slot, MemberState::InSync);
        self.refresh_volume(volume);
        Ok(())
    }

    /// Level and consistency of a volume that can be used.
    fn redundancy(&self, volume: VolumeIndex) -> Checked<(Level, Consistency)> {
        let model = self.live_volume(volume)?;
        Ok((model.shape.level, model.consistency))
    }

    fn set_consistency(&mut self, volume: VolumeIndex, state: Consistency) {
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.consistency = state;
        }
    }

    /// Sets whether writes may be in flight; the header is made up from it when the plan is.
    fn set_dirty(&mut self, volume: VolumeIndex, dirty: bool) {
        let mut changed = false;
        if let Some(meta) = self.volumes.get_mut(usize::from(volume)) {
            changed = meta.dirty != dirty;
            meta.dirty = dirty;
        }
        if changed {
            self.touch(Touched::Marks);
        }
    }

    /// Whether some disk that is written to has another table than the set's.
    fn is_uneven(&self) -> bool {
        let used = self.table.sectors() as usize * 512;
        let ours = self.table.bytes().get(..used);
        let mut homes = self.disks.iter().filter_map(|meta| meta.home.as_ref());
        homes.any(|home| home.there.bytes().get(..used) != ours)
    }

    /// [`crate::model::Event::Dirty`]. Nothing to record without redundancy.
    #[inline(never)]
    pub fn dirty(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        if !level.is_redundant() {
            return Ok(());
        }
        if !matches!(now, Consistency::Initialising { .. }) {
            self.set_consistency(volume, Consistency::Dirty);
        }
        self.set_dirty(volume, true);
        // A mark that is on some disks only, because an update was cut, may go with them.
        if self.is_uneven() {
            self.touch(Touched::Marks);
        }
        Ok(())
    }

    /// [`crate::model::Event::Clean`].
    #[inline(never)]
    pub fn clean(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        if !level.is_redundant() {
            return Ok(());
        }
        // No writes are in flight; redundancy that is still to be established is so for longer.
        if !matches!(now, Consistency::Initialising { .. }) {
            self.set_consistency(volume, Consistency::Clean);
        }
        self.set_dirty(volume, false);
        Ok(())
    }

    /// [`crate::model::Event::ResyncProgress`].
    #[inline(never)]
    pub fn resync_progress(&mut self, volume: VolumeIndex, done: u64) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        let model = self.live_volume(volume)?;
        let most = if model.shape.syncs_by_volume() {
            super::volumes::capacity_sectors(&model.shape)
        } else {
            model.shape.member_sectors
        };
        if !level.is_redundant() {
            return Err(reason!(EINVAL, "{level} has nothing to be in sync"));
        }
        let progress = progress_of(done, most)?;
        let running = matches!(now, Consistency::Initialising { .. });
        self.set_consistency(volume, Consistency::Initialising { done_sectors: done });
        if let Some(index) = self.volume_line(volume) {
            self.edit_line(index, Touched::Marks, |line| line.progress = progress);
            if !running {
                self.edit_line(index, Touched::Lines, |line| line.flags &= !FLAG_BUILT);
                self.refresh_volume(volume);
            }
        }
        Ok(())
    }

    /// [`crate::model::Event::ScrubProgress`].
    #[inline(never)]
    pub fn scrub_progress(&mut self, volume: VolumeIndex, scrub: Option<Scrub>) -> Checked {
        let (level, _) = self.redundancy(volume)?;
        let model = self.live_volume(volume)?;
        model.check_scrub(scrub)?;
        let index = self.volume_line(volume).filter(|&index| {
            let line = self.table.line(index);
            line.is_some_and(|line| scrub_mark::has_place(&line))
        });
        let Some(index) = index.filter(|_| level.is_redundant()) else {
            return Ok(());
        };
        let then = scrub.and_then(scrub_mark::kept);
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.scrub = then;
        }
        self.edit_line(index, Touched::Marks, |line| {
            line.burst = scrub_mark::word(then);
        });
        Ok(())
    }

    /// [`crate::model::Event::ResyncDone`].
    #[inline(never)]
    pub fn resync_done(&mut self, volume: VolumeIndex) -> Checked {
        let (level, _) = self.redundancy(volume)?;
        if !level.is_redundant() {
            return Ok(());
        }
        let in_flight = self
            .volumes
            .get(usize::from(volume))
            .is_some_and(|meta| meta.dirty);
        let then = if in_flight {
            Consistency::Dirty
        } else {
            Consistency::Clean
        };
        self.set_consistency(volume, then);
        self.end_build(volume);
        Ok(())
    }

    /// Takes the marks of a build out of a volume's lines.
    fn end_build(&mut self, volume: VolumeIndex) {
        let Some(top) = self.volume_line(volume) else {
            return;
        };
        self.edit_line(top, Touched::Lines, |line| {
            line.flags |= FLAG_BUILT;
            line.progress = 0;
        });
        for index in self.table.volume(top) {
            self.edit_line(index, Touched::Lines, |line| {
                if line.is_member() && line.state == state::BUILDING {
                    line.state = state::OPTIMAL;
                }
            });
        }
        self.refresh_volume(volume);
    }
}

/// A mark as it is recorded.
fn progress_of(done: u64, most: u64) -> Checked<u32> {
    u32::try_from(done)
        .ok()
        .filter(|_| done <= most)
        .ok_or_else(|| reason!(EINVAL, "{done} sectors are more than there are: {most}"))
}
