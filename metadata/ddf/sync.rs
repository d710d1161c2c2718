// SPDX-License-Identifier: GPL-2.0

//! Events about redundancy: rebuild, dirty and clean, resync, scrubs. DDF has no place for how far they got:
//! marks go into EMD's own records (`log_events`); on disks that have no place for these either they are
//! kept in memory, and a restart begins anew.

use super::layout::*;
use super::set::DdfSet;
use crate::model::{Checked, Consistency, DiskIndex, Level, MemberState, Scrub, Slot, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

impl DdfSet {
    /// The disk of a member that is being rebuilt.
    fn rebuilding(&self, volume: VolumeIndex, slot: Slot) -> Checked<DiskIndex> {
        let model = self.live_volume(volume)?;
        let member = model
            .members
            .get(usize::from(slot))
            .ok_or_else(|| reason!(EINVAL, "volume {volume} has no member {slot}"))?;
        match (member.state, member.disk) {
            (MemberState::Rebuilding { .. }, Some(disk)) => Ok(disk),
            _ => Err(reason!(
                EINVAL,
                "member {slot} of volume {volume} is not being rebuilt"
            )),
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
        self.rebuilding(volume, slot)?;
        let most = self.live_volume(volume)?.shape.member_sectors;
        if done > most {
            return Err(reason!(
                EINVAL,
                "{done} sectors are more than a member's {most}"
            ));
        }
        let state = MemberState::Rebuilding { done_sectors: done };
        self.set_member_state(volume, slot, state);
        self.record_marks(volume);
        Ok(())
    }

    /// [`crate::model::Event::RebuildDone`].
    #[inline(never)]
    pub fn rebuild_done(&mut self, volume: VolumeIndex, slot: Slot) -> Checked {
        let disk = self.rebuilding(volume, slot)?;
        self.set_member_state(volume, slot, MemberState::InSync);
        let more = self
            .set
            .memberships(disk)
            .any(|(_, _, member)| matches!(member.state, MemberState::Rebuilding { .. }));
        if !more {
            self.edit_pde(disk, |kind, state| {
                (kind, (state & !pde::REBUILDING) | pde::ONLINE)
            });
        }
        self.refresh_vde(volume);
        if more {
            // The disk's bit stays: that this volume is through is noted here only.
            self.record_marks(volume);
        }
        Ok(())
    }

    /// Sets what the model and the entry say of a volume's redundancy.
    fn set_consistency(
        &mut self,
        volume: VolumeIndex,
        state: Consistency,
        edit: impl FnOnce(u8, u8) -> (u8, u8),
    ) {
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.consistency = state;
        }
        self.edit_vde(volume, edit);
    }

    /// Level and consistency of a volume that can be used.
    fn redundancy(&self, volume: VolumeIndex) -> Checked<(Level, Consistency)> {
        let model = self.live_volume(volume)?;
        Ok((model.shape.level, model.consistency))
    }

    /// [`crate::model::Event::Dirty`]. Nothing to record without redundancy.
    #[inline(never)]
    pub fn dirty(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        if !level.is_redundant() {
            return Ok(());
        }
        let then = match now {
            Consistency::Clean | Consistency::Dirty => Consistency::Dirty,
            initialising @ Consistency::Initialising { .. } => initialising,
        };
        self.set_consistency(volume, then, |state, init| (state | vde::DIRTY, init));
        // What some disk lacks, because an update was cut, may be all that is known at the next start.
        self.touched.homes |= self.is_uneven();
        Ok(())
    }

    /// Whether some disk that is written to lacks a part of the metadata.
    fn is_uneven(&self) -> bool {
        self.each_home().any(|(_, home)| {
            let lacks = |map: &KVec<u64>| map.iter().any(|&word| word != 0);
            !home.fresh && (home.sequence != self.sequence || home.dirty.iter().any(lacks))
        })
    }

    /// [`crate::model::Event::Clean`].
    #[inline(never)]
    pub fn clean(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        if !level.is_redundant() {
            return Ok(());
        }
        let then = match now {
            Consistency::Clean | Consistency::Dirty => Consistency::Clean,
            // No writes are in flight; redundancy is still to be established.
            initialising @ Consistency::Initialising { .. } => initialising,
        };
        self.set_consistency(volume, then, |state, init| (state & !vde::DIRTY, init));
        self.keep_lowered_mark(volume);
        Ok(())
    }

    /// [`crate::model::Event::ResyncProgress`].
    #[inline(never)]
    pub fn resync_progress(&mut self, volume: VolumeIndex, done: u64) -> Checked {
        let (level, _) = self.redundancy(volume)?;
        let model = self.live_volume(volume)?;
        let most = model.shape.sync_sectors(model.size_sectors);
        if !level.is_redundant() || done > most {
            return Err(reason!(
                EINVAL,
                "{done} sectors in sync on {level} that has {most} to bring in sync is impossible"
            ));
        }
        let then = Consistency::Initialising { done_sectors: done };
        self.set_consistency(volume, then, |state, init| {
            (state, (init & !vde::INIT_MASK) | vde::INIT_RUNNING)
        });
        self.record_marks(volume);
        Ok(())
    }

    /// [`crate::model::Event::ScrubProgress`].
    #[inline(never)]
    pub fn scrub_progress(&mut self, volume: VolumeIndex, scrub: Option<Scrub>) -> Checked {
        self.redundancy(volume)?;
        let model = self.live_volume(volume)?;
        model.check_scrub(scrub)?;
        let has_place = self
            .volume_meta(volume)
            .is_some_and(|meta| meta.log_slot.is_some());
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.scrub = scrub.filter(|_| has_place);
        }
        self.record_marks(volume);
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
            .vde(volume)
            .is_some_and(|entry| entry.volume_state() & vde::DIRTY != 0);
        let then = if in_flight {
            Consistency::Dirty
        } else {
            Consistency::Clean
        };
        self.set_consistency(volume, then, |state, init| {
            (state, (init & !vde::INIT_MASK) | vde::INIT_DONE)
        });
        Ok(())
    }
}
