// SPDX-License-Identifier: GPL-2.0

//! What is known of a lane, and the way to what is not.

use super::{Compute, Lane, Step};
use crate::model::Slot;
use crate::personalities::Mask;

/// How the data blocks that cannot be read are worked out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// All data can be read.
    Direct,
    /// One block, from P.
    ByP(Slot, Slot),
    /// One block, from Q.
    ByQ(Slot, Slot),
    /// Two blocks, from P and Q.
    Both { a: Slot, b: Slot, p: Slot, q: Slot },
}

impl Lane {
    /// Members that can be read, as far as is known.
    pub(super) fn sources(&self) -> Mask {
        self.readable.minus(self.bad)
    }

    /// Members that could not be read, and still hold nothing readable.
    pub(super) fn unread_now(&self) -> Mask {
        self.bad.minus(self.have).minus(self.written_ok)
    }

    /// Members whose `Old` is there, or can be read. What is in `targets` is to be worked out, not
    /// read.
    fn known(&self, targets: Mask) -> Mask {
        self.have.union(self.sources().minus(targets))
    }

    /// Data that has to be worked out, if it is wanted.
    pub(super) fn unknown_data(&self, targets: Mask) -> Mask {
        self.roles.data.minus(self.known(targets))
    }

    /// What would have to be read to have `Old` of all of `members`; `None` when that cannot be.
    pub(super) fn cost(&self, members: Mask) -> Option<Mask> {
        let reads = members.minus(self.have);
        reads.is_within(self.sources()).then_some(reads)
    }

    /// How to have all data; P before Q. `None` when that cannot be.
    fn way(&self, targets: Mask) -> Option<Way> {
        let known = self.known(targets);
        let unknown = self.unknown_data(targets);
        let p = self.roles.p.filter(|&p| known.contains(p));
        let q = self.roles.q.filter(|&q| known.contains(q));
        let Some(a) = unknown.first() else {
            return Some(Way::Direct);
        };
        match (unknown.without(a).first(), p, q) {
            (None, Some(p), _) => Some(Way::ByP(a, p)),
            (None, None, Some(q)) => Some(Way::ByQ(a, q)),
            (Some(b), Some(p), Some(q)) if unknown.len() == 2 => Some(Way::Both { a, b, p, q }),
            _ => None,
        }
    }

    /// What would have to be read to have all data, read or worked out; `None` when that cannot be,
    /// as where there is no parity (RAID 0 and concat) and a member is missing.
    pub(super) fn cost_of_all(&self, targets: Mask) -> Option<Mask> {
        let parities = match self.way(targets)? {
            Way::Direct => Mask::EMPTY,
            Way::ByP(_, parity) | Way::ByQ(_, parity) => Mask::single(parity),
            Way::Both { p, q, .. } => Mask::single(p).with(q),
        };
        let blocks = self.roles.data.minus(self.unknown_data(targets));
        Some(blocks.union(parities).minus(self.have))
    }

    /// The next step towards `Old` of `wanted`, data and P that cannot be read (or, being
    /// `targets`, are not to be); `None` when there is nothing missing or no way.
    pub(super) fn derive(&self, wanted: Mask, targets: Mask) -> Option<Step> {
        let wanted = wanted.minus(self.have);
        if wanted.is_empty() {
            return None;
        }
        let way = self.way(targets)?;
        if way == Way::Direct && Mask::option(self.roles.p) != wanted {
            return None;
        }
        let reads = self.cost_of_all(targets)?;
        if !reads.is_empty() {
            return Some(Step::Read { members: reads });
        }
        let data = self.roles.data;
        Some(Step::Compute(match way {
            Way::Direct => Compute::Reconstruct {
                slot: self.roles.p?,
                old: data,
            },
            Way::ByP(slot, p) => Compute::Reconstruct {
                slot,
                old: data.without(slot).with(p),
            },
            Way::ByQ(slot, q) => Compute::ReconstructByQ { slot, q },
            Way::Both { a, b, p, q } => Compute::ReconstructTwo { a, b, p, q },
        }))
    }

    /// The next step towards `New` of blocks in `bad` that could not be read; `None` when all that
    /// can be done has been. Not for Q: where it can be worked out, jobs that want it do so.
    pub(super) fn mend(&self, bad: Mask, targets: Mask) -> Option<Step> {
        let bad = bad.minus(Mask::option(self.roles.q));
        if let Some(step) = self.derive(bad, targets) {
            return Some(step);
        }
        let slot = self.restorable().intersect(bad).minus(self.new).first()?;
        Some(Step::Compute(Compute::Restore { slot }))
    }

    /// Blocks that could not be read, are known now, and can be written back.
    pub(super) fn restorable(&self) -> Mask {
        self.bad
            .intersect(self.have)
            .intersect(self.readable)
            .intersect(self.writable)
    }
}
