// SPDX-License-Identifier: GPL-2.0

//! Bad ranges into the metadata, and what becomes of a rebuild that left some where there is no place for them.
//!
//! A member with a range that is not recorded must not be recorded as rebuilt: after a restart the range would be
//! read as if it held data. So its rebuild is *withheld*: the member serves what it holds, its mark in the
//! metadata stays before the range, the array stays degraded, and people are told why. Once the range was
//! written the member is recorded as rebuilt; after a restart the rebuild goes on at its mark.

use super::recorder::{Wishes, STRETCHES_MAX};
use super::shared::Shared;
use super::state::Inner;
use crate::array::Array;
use crate::block::gate::Gated;
use crate::model::{Checked, Event, MemberState, Slot, Text, VolumeIndex};
use crate::personalities::bad::BadChange;
use crate::personalities::Mask;
use crate::uapi::EventKind;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What is said of a member that is withheld, behind "the member in slot N". With that it fits into an event.
pub(super) const WITHHELD: &str =
    "is not rebuilt before its bad ranges are written: the metadata has no place to remember them";

/// And of one whose bad ranges are recorded.
const LEFT_HOLES: &str =
    "has bad ranges: these sectors could be neither read nor worked out, and fail until written";

/// What became of a change.
enum Recorded {
    /// What is bad on that disk outlives a restart.
    Kept,
    /// It does not.
    Unkept,
    /// What was written there is not known to be on the medium, so it stays on record as bad.
    Unflushed,
}

impl Inner {
    /// Records what became bad, and what is good again.
    #[inline(never)]
    pub(super) fn note_bad(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        for _ in 0..STRETCHES_MAX {
            let Some(change) = array.bad_change() else {
                return;
            };
            wishes.look_again = true;
            let result = self.record_bad(shared, volume, change);
            let is_full = result.as_ref().is_err_and(|why| why.errno() == ENOSPC);
            let is_kept = matches!(result, Ok(Recorded::Kept));
            let is_unflushed = matches!(result, Ok(Recorded::Unflushed));
            if result.is_err() && !is_full {
                self.hold_writes(shared, volume, &result.map(drop));
                return;
            }
            self.hold_writes(shared, volume, &Ok(()));
            match change {
                BadChange::Added(_) if !is_kept => Array::bad_change_unkept(array),
                BadChange::Cleared(spot) if is_full || is_unflushed => {
                    // What was written there would count for nothing after a restart. The others have it, or nobody.
                    array.fail_member(spot.slot, false);
                    match array.present().contains(spot.slot) || array.is_broken() {
                        true => Array::bad_change_failed(array),
                        false => Array::bad_change_recorded(array),
                    }
                }
                BadChange::Added(_) | BadChange::Cleared(_) => Array::bad_change_recorded(array),
            }
        }
        wishes.look_now = true;
    }

    /// Records one change.
    #[inline(never)]
    fn record_bad(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        change: BadChange,
    ) -> Checked<Recorded> {
        let model = self.model().and_then(|set| set.volume(volume));
        let Some(event) = model.and_then(|model| change.event(&model.members)) else {
            // A member that is gone has nothing to be recorded of.
            return Ok(Recorded::Kept);
        };
        let (Event::BadRangeAdded(range) | Event::BadRangeCleared(range)) = event else {
            return Ok(Recorded::Kept);
        };
        if let BadChange::Cleared(spot) = change {
            // What was written there is on the medium before it counts. Else it stays on record as bad.
            if !self.flush_member(volume, spot.slot) {
                return Ok(Recorded::Unflushed);
            }
        }
        self.record(shared, &event)?;
        let metadata = self.metadata.as_ref();
        Ok(
            match metadata.is_some_and(|metadata| metadata.keeps_bad_ranges(range.disk)) {
                true => Recorded::Kept,
                false => Recorded::Unkept,
            },
        )
    }

    /// A rebuild is over whose end must not be recorded yet.
    #[inline(never)]
    pub(super) fn withhold(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        slot: Slot,
    ) {
        if let Some(running) = self.running_mut(volume) {
            running.withheld = running.withheld.with(slot);
        }
        self.record_rebuilt_to(shared, volume, array, slot, u64::MAX);
        self.tell_of_member(shared, volume, slot, WITHHELD);
    }

    /// Records rebuilds as done that were withheld, once all is written that was missing.
    #[inline(never)]
    pub(super) fn note_withheld(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        wishes: &mut Wishes,
    ) {
        let Some(withheld) = self.running(volume).map(|running| running.withheld) else {
            return;
        };
        if array.is_broken() {
            // Its members cannot be flushed any more, and nothing is recorded of it.
            return;
        }
        for slot in withheld.iter() {
            let is_rebuilding = matches!(
                self.member_state(volume, slot),
                Some(MemberState::Rebuilding { .. })
            );
            // One that was lost meanwhile is none of ours any more.
            if is_rebuilding && array.present().contains(slot) {
                if array.unkept_from(slot).is_some() || array.bad_change().is_some() {
                    continue;
                }
                let recorded = self
                    .flush_rebuilt(volume, array, Mask::single(slot))
                    .and_then(|()| self.record(shared, &Event::RebuildDone { volume, slot }));
                self.hold_writes(shared, volume, &recorded);
                if recorded.is_err() {
                    wishes.look_again = true;
                    continue;
                }
                array.rebuilt_recorded(Mask::single(slot));
                self.tell_of_member(
                    shared,
                    volume,
                    slot,
                    "holds all that it should: it is rebuilt",
                );
            }
            wishes.keeper = true;
            if let Some(running) = self.running_mut(volume) {
                running.withheld = running.withheld.without(slot);
            }
        }
    }

    /// Records how far a member is rebuilt: up to `done_sectors`, and not past what the metadata does not know to
    /// be bad.
    #[inline(never)]
    pub(super) fn record_rebuilt_to(
        &mut self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        slot: Slot,
        done_sectors: u64,
    ) {
        let unkept = array.unkept_from(slot);
        let mark = self
            .standing(volume)
            .and_then(|standing| standing.rebuilt_mark(slot, done_sectors, unkept));
        if let Some(done_sectors) = mark {
            let event = Event::RebuildProgress {
                volume,
                slot,
                done_sectors,
            };
            let _ = self.record(shared, &event);
        }
    }

    /// Tells people of bad ranges that a rebuild left, if it did.
    #[inline(never)]
    pub(super) fn tell_of_holes(
        &self,
        shared: &Shared,
        volume: VolumeIndex,
        array: &Arc<Gated<Array>>,
        slot: Slot,
    ) {
        if array.has_bad_spots_of(slot) {
            self.tell_of_member(shared, volume, slot, LEFT_HOLES);
        }
    }

    #[inline(never)]
    fn tell_of_member(&self, shared: &Shared, volume: VolumeIndex, slot: Slot, text: &str) {
        let (Some(set), Some(running)) = (self.model(), self.running(volume)) else {
            return;
        };
        let number = running.number.get();
        log!(
            pr_notice,
            "emd{}: the member in slot {} {}",
            number,
            slot,
            text
        );
        shared.post(EventKind::Note, &set.id, |event| {
            event.number = Some(number);
            event.slot = Some(slot);
            event.text = Text::from_fmt(format_args!("the member in slot {slot} {text}"));
        });
    }
}
