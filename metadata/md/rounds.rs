// SPDX-License-Identifier: GPL-2.0

//! How many events an update takes, and how many of them can wait.
//!
//! An update that is written without a member that was lost takes two events or three, so that the member is old by its count
//! alone (`plan`). When a member that the array cannot do without does not take its superblock and the others go on, it would be
//! as old by that. What it holds is true all the same: nothing was written without it. So then the update ends
//! with the event that leaves it one behind, and the rest is owed.
//!
//! That may be only where the lost member is out by the others' word: all have its loss, and it has fewer events than
//! they come to. An update that records a loss is never made shorter: who goes by what each disk says of itself would believe the lost
//! member as much as the late one.

use super::bitmap;
use super::layout::*;
use super::set::{image, Home, MdSet};

/// Most events of an update.
pub const ROUNDS_MAX: usize = 3;

/// The events of an update.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rounds {
    /// The images in which superblocks are written, one after the other, each with one event more.
    pub images: &'static [usize],
    /// The phases behind those of each.
    pub ends: [u16; ROUNDS_MAX],
    /// Events that all members have that are written to.
    sure_events: u64,
    /// If there is more than one event for a loss that was recorded before: the most events that a lost member can have.
    lost_events: Option<u64>,
}

impl MdSet {
    /// The events of the update that was begun.
    pub(super) fn rounds(&self) -> Rounds {
        let roles = self.roles_changed();
        // What is lost may have as many events as the newest of the disks that are here, of which others are behind; or one
        // more than all of them.
        let may_lead = roles.unseen || self.lags();
        let is_due = self.touched.all && (roles.lost || self.owes_events.is_some());
        let images: &[usize] = match (is_due, may_lead) {
            (false, _) => &[image::NEW],
            (true, false) => &[image::STEP, image::NEW],
            (true, true) => &[image::STEP, image::SECOND, image::NEW],
        };
        let mut members = self
            .homes()
            .filter(|(disk, _)| self.slot_of(*disk).is_some());
        let does_one_lag = members.any(|(_, home)| self.may_lag(home));
        Rounds {
            images,
            ends: [0; ROUNDS_MAX],
            sure_events: self.head.events.saturating_sub(u64::from(does_one_lag)),
            lost_events: self.owes_events.filter(|_| !roles.lost),
        }
    }

    /// Whether some disk that is written to is behind the others, or may be.
    pub fn lags(&self) -> bool {
        self.homes().any(|(_, home)| self.may_lag(home))
    }

    fn may_lag(&self, home: &Home) -> bool {
        !home.fresh && (home.unsure || self.is_behind(home))
    }

    /// Whether the superblock of a disk has fewer events than the newest one.
    pub fn is_behind(&self, home: &Home) -> bool {
        let at = match self.version {
            Version::V090 => v0::EVENTS,
            _ => v1::EVENTS,
        };
        get64(home.image(image::OLD), at) < self.head.events
    }

    /// [`crate::metadata::MetadataSet::leave_behind`]: who is left behind has all events before that whose superblocks `phase` is of, and
    /// the update ends one further. Says whether it changed.
    pub(super) fn end_rounds_early(&mut self, phase: u16) -> bool {
        let rounds = self.touched.rounds;
        let (Some(last), Some(most)) = (rounds.images.len().checked_sub(1), rounds.lost_events)
        else {
            return false;
        };
        let events = self.head.events;
        let first = events.saturating_sub(last as u64);
        let passed = rounds.ends.iter().take(last).filter(|&&end| end <= phase);
        let has = match passed.count() {
            0 => rounds.sure_events,
            passed => first.saturating_add(passed as u64 - 1),
        };
        // Who missed what costs no event has one more than is sure.
        let then = has.max(most).saturating_add(1);
        if then >= events {
            return false;
        }
        let kept = then.saturating_sub(first) as usize;
        let (Some(&from), Some(&to)) = (rounds.ends.get(kept), rounds.ends.get(last)) else {
            return false;
        };
        let Some((&shown, images)) = rounds
            .images
            .get(..=kept)
            .and_then(|images| Some((images.last()?, images)))
        else {
            return false;
        };
        self.plan.leave_out(from..to);
        for home in self.disks.iter_mut().filter_map(|meta| meta.home.as_mut()) {
            home.copy_image(shown, image::NEW);
        }
        if let Some(map) = self.bitmap.as_mut() {
            put64(&mut map.bytes, bitmap::at::EVENTS, then);
        }
        self.head.events = then;
        self.set.generation = then;
        self.touched.rounds.images = images;
        self.owes_events = rounds.lost_events;
        true
    }
}
