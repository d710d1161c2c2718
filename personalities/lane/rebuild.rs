// SPDX-License-Identifier: GPL-2.0

//! Filling members with what they should hold: one at a time, or as many as there is parity.

use super::{Compute, Lane, LaneResult, Step};
use crate::personalities::Mask;

impl Lane {
    pub(super) fn plan_rebuild(&self, targets: Mask) -> Step {
        let wanted = targets.intersect(self.writable);
        if targets.is_empty() {
            return self.done(LaneResult::Good);
        }
        if self.wrote {
            let unheld = targets.minus(self.written_ok);
            return self.done(self.written_or(unheld));
        }
        if wanted.is_empty() {
            return self.done(LaneResult::Unwritten);
        }
        let left = wanted.minus(self.new);
        if left.is_empty() {
            // Sources that could not be read, and are known now.
            let bad = self.bad.intersect(self.readable).minus(wanted);
            return match self.mend(bad, wanted) {
                Some(step) => step,
                None => self.write(wanted.union(self.new)),
            };
        }
        match self.fill(left, wanted) {
            Some(step) => step,
            None => self.done_without(LaneResult::Unreadable, left),
        }
    }

    /// The next step towards `New` of `left`, the targets that are not done yet; `None` when there
    /// is no way.
    fn fill(&self, left: Mask, wanted: Mask) -> Option<Step> {
        let data = left.intersect(self.roles.data);
        if let Some(slot) = data.intersect(self.have).first() {
            return Some(Step::Compute(Compute::Restore { slot }));
        }
        if !data.is_empty() {
            return self.derive(data, wanted);
        }
        // Parity only, from all data.
        let unknown = self.unknown_data(wanted);
        if !unknown.is_empty() {
            return self.derive(unknown, wanted);
        }
        let reads = self.cost(self.roles.data)?;
        if !reads.is_empty() {
            return Some(Step::Read { members: reads });
        }
        self.compute_parity(left, self.roles.data, Mask::EMPTY, false)
    }
}
