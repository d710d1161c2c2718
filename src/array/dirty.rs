// SPDX-License-Identifier: GPL-2.0

//! The dirty mark: recorded before the first write goes to a member, cleared after quiet time.
//!
//! ```text
//!   CLEAN ──first write──► WANTED ──dirty_recorded──► DIRTY ──begin_clean──► CLEANING
//!     ▲                                                ▲                        │
//!     └──────────────── clean_recorded ────────────────┼────────────────────────┤
//!                                                      └─ dirty_recorded (not recorded after all)
//! ```
//!
//! Only in DIRTY do writes go on; else they wait in `Waiting::for_dirty`. On an array that is dirty
//! already a write pays one load. Where the metadata keeps regions (`personalities/regions.rs`), a write waits for its
//! regions in the same way.
//!
//! Who takes a mark back holds no I/O up for that, and does not mind reads and scrubs. Writes (and flushes) are counted,
//! before they look at the marks, by their passes (`personalities/writers.rs`, which says why none gets by). Such a pass is
//! the `Io`'s: it is dropped when all is back from the members, what they came to is known, and the bio has ended.

use super::submit::Entrance;
use super::{Array, ArrayPass};
use crate::block::bio::{BioList, UserBio};
use crate::block::context;
use crate::block::gate::Gated;
use crate::model::RegionLog;
use crate::personalities::regions::Regions;
use crate::personalities::writers::Counted;
use core::sync::atomic::Ordering;

pub(super) const CLEAN: u8 = 0;
const WANTED: u8 = 1;
pub(super) const DIRTY: u8 = 2;
const CLEANING: u8 = 3;

impl Array {
    /// Lets a write go on, or keeps it (and gives up the pass) until the mark is recorded.
    pub(super) fn admit(mut pass: ArrayPass, bio: UserBio) -> Option<(ArrayPass, UserBio)> {
        if !pass.is_redundant() {
            pass.touch_written();
            return Some((pass, bio));
        }
        // Before it looks at the marks, and until it has ended, or waits.
        let counted = pass.count_as_writer();
        if pass.dirty.load(Ordering::SeqCst) == DIRTY && pass.regions_admit(&bio, counted) {
            pass.touch_written();
            return Some((pass, bio));
        }
        let mut waiting = pass.waiting.lock();
        match pass.dirty.load(Ordering::SeqCst) {
            // Regions are recorded, and the mark with them, under `waiting`.
            DIRTY if pass.regions_admit(&bio, counted) => {
                drop(waiting);
                pass.touch_written();
                return Some((pass, bio));
            }
            CLEAN => {
                // Both are recorded together then.
                pass.regions_admit(&bio, counted);
                pass.dirty.store(WANTED, Ordering::Release);
            }
            _ => {}
        }
        waiting.for_dirty.push(bio);
        drop(waiting);
        pass.notify.kick();
        None
    }

    fn regions_admit(&self, bio: &UserBio, counted: Counted) -> bool {
        self.regions.as_ref().is_none_or(|regions| {
            let in_odd_round = counted.in_odd_round;
            regions.admit(&self.geometry, bio.sector(), bio.sectors(), in_odd_round)
        })
    }

    /// Regions that writes wait for, to be recorded: first and how many.
    pub fn wanted_regions(&self) -> Option<(u32, u32)> {
        let regions = self
            .regions
            .as_ref()
            .filter(|regions| regions.are_wanted())?;
        regions.take_wanted()
    }

    /// The metadata has these regions on disk now, or could not take them.
    pub fn regions_recorded(this: &Gated<Self>, first: u32, count: u32, done: bool) {
        let Some(regions) = this.regions.as_ref() else {
            return;
        };
        {
            let _waiting = this.waiting.lock();
            if done {
                regions.recorded(first, count, this.writers().is_odd_round());
            } else {
                regions.not_recorded(first, count);
            }
        }
        if done {
            // Those that waited for it come in a moment: until then the array is not to be taken for quiet.
            this.touch_written();
            Self::let_writes_go(this);
        }
    }

    /// A sync is recorded as done: what the metadata's `log` calls clean from now on counts as recorded no more. Where it does so no
    /// write is in flight ([`Array::begin_clean`]), and those that wait for the mark look at their regions again.
    pub fn follow_regions(&self, log: &RegionLog) {
        if let Some(regions) = &self.regions {
            regions.follow(log);
        }
    }

    /// Takes back the marks of regions that were not written for a while, when that is due; what the
    /// metadata should hear then is in [`Array::leaving_regions`].
    pub fn sweep_regions(this: &Gated<Self>, every_ms: u32) {
        let Some(regions) = this.regions.as_ref() else {
            return;
        };
        let now = context::jiffies() as u64;
        let since = now.wrapping_sub(this.swept.load(Ordering::Relaxed));
        if since < context::ticks(every_ms) as u64 || !this.is_dirty() {
            return;
        }
        let writers = this.writers();
        // Those that have ended have told by then what they came to. Else a look later.
        if !writers.former_are_none() || this.has_left_behind() {
            return;
        }
        let is_odd = writers.is_odd_round();
        regions.sweep(is_odd, this.unsynced_from.load(Ordering::Acquire));
        regions.round_begins(!is_odd);
        writers.begin_round();
        this.swept.store(now, Ordering::Relaxed);
    }

    /// Whether a lost member may lack writes that others have, and counts as in sync as far as the metadata knows: its
    /// loss is not recorded yet, or, where more is lost than redundancy bears, never will be.
    pub fn has_left_behind(&self) -> bool {
        self.is_broken() || !self.unrecorded().is_empty()
    }

    /// Whether there are regions that may be recorded as clean once the members are flushed.
    pub fn has_leaving_regions(&self) -> bool {
        self.regions.as_ref().is_some_and(Regions::are_leaving)
    }

    /// Regions that may be recorded as clean: first and how many.
    pub fn leaving_regions(&self) -> Option<(u32, u32)> {
        self.regions.as_ref()?.take_leaving()
    }

    /// Whether writes wait for the mark.
    pub fn wants_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire) == WANTED
    }

    /// Whether the array may have writes in flight, as far as its metadata says.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire) == DIRTY
    }

    /// The metadata says dirty on disk now (or still): writes go on.
    pub fn dirty_recorded(this: &Gated<Self>) {
        this.touch_written();
        {
            let _waiting = this.waiting.lock();
            this.dirty.store(DIRTY, Ordering::Release);
        }
        Self::let_writes_go(this);
    }

    /// Has the writes that waited for the mark go on, if it is there. From the array's own work: our
    /// caller may hold locks that writes wait for.
    pub(super) fn let_writes_go(this: &Gated<Self>) {
        let is_due = {
            let waiting = this.waiting.lock();
            !waiting.for_dirty.is_empty() && this.dirty.load(Ordering::Acquire) == DIRTY
        };
        // With the gate closed whoever opens it comes by here again.
        if let Some(pass) = this.enter().filter(|_| is_due) {
            Entrance::kick(pass);
        }
    }

    /// The writes that may go on now.
    pub(super) fn take_writes(&self) -> BioList {
        let mut waiting = self.waiting.lock();
        if self.dirty.load(Ordering::Acquire) == DIRTY {
            waiting.for_dirty.take()
        } else {
            BioList::new()
        }
    }

    /// Begins the way to clean: true when no write came for `quiet_ms`, and none is in flight or waits. New
    /// writes wait from then on, until [`Array::clean_recorded`] or [`Array::dirty_recorded`].
    pub fn begin_clean(this: &Gated<Self>, quiet_ms: u32) -> bool {
        let now = context::jiffies() as u64;
        let quiet = now.wrapping_sub(this.last_write.load(Ordering::Relaxed));
        if this.dirty.load(Ordering::Acquire) != DIRTY || quiet < context::ticks(quiet_ms) as u64 {
            return false;
        }
        // One that takes that long is in flight: none has to wait to find that out.
        if !this.writers().are_none() {
            return false;
        }
        // It would only be turned away once more, and its regions with it.
        if !this.waiting.lock().for_dirty.is_empty() {
            return false;
        }
        this.dirty.store(CLEANING, Ordering::SeqCst);
        // What is not in flight by now waits; and what those came to that have ended is known.
        if this.writers().are_none() && !this.has_left_behind() {
            if let Some(regions) = &this.regions {
                regions.sweep_all(this.unsynced_from.load(Ordering::Acquire));
            }
            return true;
        }
        {
            let _waiting = this.waiting.lock();
            this.dirty.store(DIRTY, Ordering::Release);
        }
        Self::let_writes_go(this);
        false
    }

    /// The metadata says clean on disk now.
    pub fn clean_recorded(&self) {
        let waiting = self.waiting.lock();
        let next = if waiting.for_dirty.is_empty() {
            CLEAN
        } else {
            WANTED
        };
        self.dirty.store(next, Ordering::Release);
        drop(waiting);
        if next == WANTED {
            self.notify.kick();
        }
    }
}
