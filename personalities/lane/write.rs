// SPDX-License-Identifier: GPL-2.0

//! Writing data, and the parity that belongs to it.

use super::{Lane, LaneResult, Step};
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
        if kept.is_empty() || ready {
            // No parity to keep; or all that can be kept is worked out.
            return self.write(written.union(self.new));
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
        let step = match method {
            Method::Derive { .. } => {
                let unknown = untouched.intersect(self.unknown_data(Mask::EMPTY));
                self.derive(unknown, Mask::EMPTY)
            }
            Method::Modify { .. } => self.compute_parity(kept, written, written, true),
            Method::Reconstruct { .. } => self.compute_parity(kept, untouched, written, false),
        };
        // There always is one; if there were not, nothing was written.
        step.unwrap_or_else(|| self.done(LaneResult::Unwritten))
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
