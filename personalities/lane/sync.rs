// SPDX-License-Identifier: GPL-2.0

//! Comparing parity with data, and putting right what differs.
//!
//! All members are read. With one block missing (a member, or one that cannot be read) a lane with
//! two parities still has one comparison left; with as many missing as there is parity, none.
//!
//! | what differs | what is written (`fix`) |
//! |---|---|
//! | one parity | that parity: were data wrong, both would differ |
//! | both, and one data member explains every byte | that member's data, from P |
//! | both, otherwise, or parity is distrusted | both parities |
//! | Q from what P and the rest say a missing block is | Q: missing blocks are read by P |
//! | parity from all data, the other parity missing | that parity |
//!
//! Blocks that could not be read are written again, also by a check.
//!
//! All of that is said of the range as a whole. Two members that are wrong in different blocks of it look like both wrong
//! in all, and what could not be read of a member takes the rest of it along: so before a longer range is written the
//! executor asks [`Work::is_too_coarse`](crate::personalities::mirror::Work::is_too_coarse), and goes through it block by
//! block.
//!
//! Where parity is distrusted and most likely wrong ([`Lane::overwriting`]), only data is read, and parity written.

use super::{Compute, Job, Lane, LaneResult, Located, Step};
use crate::model::Slot;
use crate::personalities::Mask;

impl Lane {
    pub(super) fn plan_sync(&self, fix: bool) -> Step {
        if self.wrote {
            return self.done(self.written_or(self.write_failed));
        }
        let all = self.roles.all();
        let is_new = self.have.union(self.bad).is_empty();
        if is_new && all.minus(self.readable).len() >= self.redundancy() {
            // Nothing to compare with.
            return self.done(LaneResult::Good);
        }
        if fix && self.distrusted && self.overwriting {
            if let Some(step) = self.overwrite() {
                return step;
            }
        }
        let unread = self.sources().minus(self.have);
        if !unread.is_empty() {
            return Step::Read { members: unread };
        }
        // What was not read, whether worked out since or not.
        let missing = all.minus(self.have).union(self.derived_missing());
        if missing.len() > self.redundancy() {
            return self.done(LaneResult::Unreadable);
        }
        let is_full = missing.len() == self.redundancy();
        let in_need = self.bad.intersect(self.readable);
        if !(is_full && in_need.is_empty()) {
            if let Some(step) = self.prepare(missing, in_need) {
                return step;
            }
        }
        self.settle(fix, in_need)
    }

    /// Works parity out from data, without reading it; `None` when not all data can be read.
    fn overwrite(&self) -> Option<Step> {
        let data = self.roles.data;
        if !data.is_within(self.sources()) {
            return None;
        }
        let unread = data.minus(self.have);
        if !unread.is_empty() {
            return Some(Step::Read { members: unread });
        }
        // Parity that is lost meanwhile is out of date anyway.
        let parity = self.roles.parity().intersect(self.readable);
        let wanted = parity.minus(self.new);
        let computed = self.compute_parity(wanted, data, Mask::EMPTY, false);
        if computed.is_some() {
            return computed;
        }
        Some(match parity.is_empty() {
            true => self.done(LaneResult::Good),
            false => self.write(parity),
        })
    }

    /// Works out what is missing and compares what can be; `None` when all of that is done.
    fn prepare(&self, missing: Mask, in_need: Mask) -> Option<Step> {
        let data = self.roles.data;
        if let Some(step) = self.derive(missing.intersect(data), Mask::EMPTY) {
            return Some(step);
        }
        if let Some(step) = self.mend(in_need.intersect(data), Mask::EMPTY) {
            return Some(step);
        }
        let to_compare = self.comparable(missing);
        let parity = self.roles.parity();
        let wanted = to_compare.union(in_need.intersect(parity)).minus(self.new);
        let computed = self.compute_parity(wanted, data, Mask::EMPTY, false);
        if computed.is_some() {
            return computed;
        }
        let p = to_compare.minus(self.compared).first()?;
        Some(Step::Compute(Compute::Compare { p }))
    }

    /// Data worked out because it was missing; what was found wrong is not.
    fn derived_missing(&self) -> Mask {
        self.derived.minus(Mask::option(self.located_slot()))
    }

    fn located_slot(&self) -> Option<Slot> {
        match self.located {
            Located::Member(slot) => Some(slot),
            Located::Unasked | Located::Nobody => None,
        }
    }

    /// Parities that were read, and that no missing data was worked out from.
    fn comparable(&self, missing: Mask) -> Mask {
        let read = self.roles.parity().intersect(self.have);
        match missing.intersect(self.roles.data).len() {
            0 => read,
            // P before Q, as `derive` has it.
            1 => read.minus(Mask::option(read_first(self.roles.p, self.roles.q, read))),
            _ => Mask::EMPTY,
        }
    }

    /// Everything is known: writes what has to be written.
    fn settle(&self, fix: bool, in_need: Mask) -> Step {
        let wrong = if !fix {
            Mask::EMPTY
        } else {
            match self.choose() {
                Ok(wrong) => wrong,
                Err(step) => return step,
            }
        };
        // Members lost in the meantime are out of date anyway.
        let due = in_need.union(wrong).intersect(self.readable);
        if due.is_empty() {
            return self.done(LaneResult::Good);
        }
        self.write(due)
    }

    /// See [`Work::is_too_coarse`](crate::personalities::mirror::Work::is_too_coarse).
    pub(crate) fn is_too_coarse(&self) -> bool {
        let Job::Sync { fix } = self.job else {
            return false;
        };
        let is_unread = !self.bad.intersect(self.readable).is_empty();
        let is_unexplained = fix && self.located == Located::Nobody;
        !self.distrusted && (is_unread || is_unexplained)
    }

    /// Which members are wrong; or the step that it takes to know, or to know better.
    fn choose(&self) -> Result<Mask, Step> {
        let (Some(p), Some(q)) = (self.roles.p, self.roles.q) else {
            return Ok(self.differing);
        };
        if self.distrusted || self.differing != Mask::single(p).with(q) {
            return Ok(self.differing);
        }
        match self.located {
            Located::Unasked => Err(Step::Compute(Compute::Locate { p, q })),
            Located::Nobody => Ok(self.differing),
            Located::Member(slot) if !self.derived.contains(slot) => {
                let old = self.roles.data.without(slot).with(p);
                Err(Step::Compute(Compute::Reconstruct { slot, old }))
            }
            Located::Member(slot) if !self.new.contains(slot) => {
                Err(Step::Compute(Compute::Restore { slot }))
            }
            Located::Member(slot) => Ok(Mask::single(slot)),
        }
    }
}

/// The first of the two that is in `read`.
fn read_first(p: Option<Slot>, q: Option<Slot>, read: Mask) -> Option<Slot> {
    p.filter(|&p| read.contains(p))
        .or(q.filter(|&q| read.contains(q)))
}
