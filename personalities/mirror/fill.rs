// SPDX-License-Identifier: GPL-2.0

//! Writes to what is bad on members in sync (`bad.rs`): they fill it.

use super::{MirrorLane, Work};
use crate::personalities::lane::Job;
use crate::personalities::Mask;

impl MirrorLane {
    /// Says, before the first step, who is in sync, be it bad here or not: a write fills that. Where those in sync are the
    /// only ones to take it, they count as if they held something. Where members being rebuilt take it too, and nobody holds
    /// anything, the write counts once one in sync has it. One that keeps what was bad instead has nothing to take those others
    /// back to: they are bad there, too ([`LaneResult::Unreadable`](crate::personalities::lane::LaneResult::Unreadable)).
    #[must_use]
    pub fn filling(mut self, in_sync: Mask) -> Self {
        let in_sync = in_sync.intersect(self.writable);
        if !matches!(self.job, Job::Write { .. }) {
            return self;
        }
        if self.writable.is_within(in_sync) {
            self.readable = self.readable.union(in_sync);
        } else if self.readable.intersect(self.writable).is_empty() {
            self.readable = in_sync;
            self.bad = in_sync;
        }
        self
    }
}

impl Work {
    /// Says, before the first step, who is in sync ([`MirrorLane::filling`]); nothing to levels with parity.
    #[must_use]
    pub fn filling(self, in_sync: Mask) -> Self {
        match self {
            Self::Parity(lane) => Self::Parity(lane),
            Self::Mirror(lane) => Self::Mirror(lane.filling(in_sync)),
        }
    }
}
