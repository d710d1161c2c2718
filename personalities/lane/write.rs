// SPDX-License-Identifier: GPL-2.0

//! Writing data, and the parity that belongs to it; with a log, in two parts.

use super::{Compute, Lane, LaneResult, Step};
use crate::personalities::Mask;

/// How the new parity is worked out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    /// From the old parity, and what is written over.
    Modify { reads: Mask },
    /// From the data that stays, and the new.
    Reconstruct { reads: Mask },
    /// As `Reconstruct`, but some of the data that stays has to be worked out first.
    Derive { reads: Mask },
}

impl Method {
    fn reads(self) -> Mask {
        match self {
            Self::Modify { reads } | Self::Reconstruct { reads } | Self::Derive { reads } => reads,
        }
    }
}

impl Lane {
    pub(super) fn plan_write(&self, written: Mask) -> Step {
        let parity = self.roles.parity();
        if written.is_empty() {
            return self.done(LaneResult::Good);
        }
        if !self.can_hold(written) {
            return self.done(LaneResult::Unwritten);
        }
        if self.wrote {
            return self.done(LaneResult::Good);
        }
        // A block that neither method overwrites and that could not be read: put it right.
        let untouched = self.roles.data.minus(written);
        let bad = self.bad.intersect(self.readable).intersect(untouched);
        if let Some(step) = self.mend(bad, Mask::EMPTY) {
            return step;
        }
        let kept = parity.intersect(self.writable);
        let ready = !parity.intersect(self.new).is_empty();
        if kept.is_empty() {
            // No parity to keep.
            return self.write(written.union(self.new));
        }
        if ready {
            // All that can be kept is worked out, or the first part of it.
            let next = self.log_and_complete(written, kept.intersect(self.new));
            return next.unwrap_or_else(|| self.write(written.union(self.new)));
        }
        if let Some(method) = self.method(written, kept) {
            return self.follow(method, written, kept);
        }
        // A parity that is being rebuilt may stay behind: the rebuild comes by later.
        let in_use = kept.intersect(self.readable);
        if in_use.is_empty() {
            return self.write(written.union(self.new));
        }
        match self.method(written, in_use) {
            Some(method) if in_use != kept => self.follow(method, written, in_use),
            _ => self.done(LaneResult::Unwritten),
        }
    }

    /// The cheapest way to `New` of the parities in `kept`, counted in members to be read. Of
    /// equals, what has fewer blocks to work out.
    fn method(&self, written: Mask, kept: Mask) -> Option<Method> {
        let untouched = self.roles.data.minus(written);
        let modify = self
            .cost(written.union(kept))
            .filter(|_| self.may_modify(kept))
            .map(|reads| Method::Modify { reads });
        let reconstruct = match self.cost(untouched) {
            Some(reads) => Some(Method::Reconstruct { reads }),
            None => self
                .cost_of_all(Mask::EMPTY)
                .map(|reads| Method::Derive { reads }),
        };
        match (modify, reconstruct) {
            (Some(modify), Some(other)) => {
                let (these, those) = (modify.reads().len(), other.reads().len());
                let derives = matches!(other, Method::Derive { .. });
                Some(if these < those || (these == those && derives) {
                    modify
                } else {
                    other
                })
            }
            (one, other) => one.or(other),
        }
    }

    /// Whether parity may be worked out from itself: it is known to be right, or as many members
    /// are missing as there is parity, so that it is right by definition.
    fn may_modify(&self, kept: Mask) -> bool {
        !self.distrusted || self.unknown_data(Mask::EMPTY).len() >= kept.len()
    }

    fn follow(&self, method: Method, written: Mask, kept: Mask) -> Step {
        let reads = method.reads();
        if !reads.is_empty() {
            return Step::Read { members: reads };
        }
        let untouched = self.roles.data.minus(written);
        let new = match self.must_log(written) {
            true => written.minus(self.readable),
            false => written,
        };
        let step = match method {
            Method::Derive { .. } => {
                let unknown = untouched.intersect(self.unknown_data(Mask::EMPTY));
                self.derive(unknown, Mask::EMPTY)
            }
            Method::Modify { .. } => self.compute_parity(kept, written, new, true),
            Method::Reconstruct { .. } => self.compute_parity(kept, untouched, new, false),
        };
        // There always is one; if there were not, nothing was written.
        step.unwrap_or_else(|| self.done(LaneResult::Unwritten))
    }

    /// Whether a write of `written` has to go through the log, for a crash in the middle of it not to take
    /// data that it leaves alone, or to leave a member that is not there with neither old data nor new.
    pub(super) fn must_log(&self, written: Mask) -> bool {
        let kept = self.roles.parity().intersect(self.writable);
        if !self.has_log || kept.is_empty() {
            return false;
        }
        let missing = self.roles.all().minus(self.readable);
        let untouched = self.roles.data.minus(written);
        let may_lose_more = missing.len() < self.redundancy();
        let in_place = written.intersect(self.writable).union(kept);
        (may_lose_more && !untouched.is_empty())
            || !untouched.intersect(missing).is_empty()
            || (!written.intersect(missing).is_empty() && in_place.len() > 1)
    }

    /// The steps from the first part of the parities in `kept` to all of it; `None`: it is there.
    fn log_and_complete(&self, written: Mask, kept: Mask) -> Option<Step> {
        // What is to be written to a member that is not there, or was lost on the way, goes into the log.
        let absent = written.minus(self.readable);
        let covers = self.roles.data.minus(written).union(absent);
        let is_logged = self.logged.is_some_and(|logged| covers.is_within(logged));
        if self.must_log(written) && !is_logged {
            let log = Step::Log {
                members: kept,
                covers,
            };
            return Some(self.bring_to(absent, kept).unwrap_or(log));
        }
        self.bring_to(written, kept)
    }

    /// The step after which the parities in `kept` have just `wanted` of the written blocks; `None`: they do.
    fn bring_to(&self, wanted: Mask, kept: Mask) -> Option<Step> {
        // What is added for the second time is taken out.
        let new = wanted.minus(self.summed).union(self.summed.minus(wanted));
        (!new.is_empty()).then_some(Step::Compute(Compute::Add {
            p: self.roles.p.filter(|&p| kept.contains(p)),
            q: self.roles.q.filter(|&q| kept.contains(q)),
            new,
        }))
    }

    /// Members that are out of date in this range, or will be once `written` and the parity are
    /// written.
    fn stale(&self, written: Mask) -> Mask {
        self.roles
            .all()
            .minus(self.readable)
            .union(written.union(self.roles.parity()).minus(self.writable))
            .union(self.write_failed)
    }

    /// Whether new data of `written` holds, or can still be made to: no more members are out of
    /// date than there is parity, and if new data is on one of those, every other block can be
    /// read, or worked out together with it.
    fn can_hold(&self, written: Mask) -> bool {
        let redundancy = self.redundancy();
        let stale = self.stale(written);
        if redundancy == 0 {
            // Every member stands alone.
            return written.intersect(stale).is_empty();
        }
        let overwritten = if self.wrote {
            self.written_ok
        } else {
            written
                .union(self.roles.parity())
                .union(self.have)
                .intersect(self.writable)
        };
        let blocked = if written.intersect(stale).is_empty() {
            Mask::EMPTY
        } else {
            self.bad.minus(overwritten)
        };
        stale.union(blocked).len() <= redundancy
    }
}
