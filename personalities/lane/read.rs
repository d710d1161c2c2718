// SPDX-License-Identifier: GPL-2.0

//! Reading data.

use super::{Lane, LaneResult, Step};
use crate::personalities::Mask;

impl Lane {
    pub(super) fn plan_read(&self, wanted: Mask) -> Step {
        let missing = wanted.minus(self.have).minus(self.sources());
        if !self.wrote {
            if let Some(step) = self.derive(missing, Mask::EMPTY) {
                return step;
            }
            let direct = wanted.minus(self.have).minus(missing);
            if !direct.is_empty() {
                return Step::Read { members: direct };
            }
            // All is here that can be. Put right what could not be read and is known now.
            if let Some(step) = self.mend(self.bad.intersect(self.readable), Mask::EMPTY) {
                return step;
            }
            if !self.restorable().is_empty() {
                return self.write(self.restorable());
            }
        }
        if missing.is_empty() {
            self.done(LaneResult::Good)
        } else {
            self.done_without(LaneResult::Unreadable, missing)
        }
    }
}
