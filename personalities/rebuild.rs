// SPDX-License-Identifier: GPL-2.0

//! Which members a rebuild fills, and from where to where: also when they do not all stand at the same
//! mark, because one was added while others were being rebuilt.
//!
//! ```text
//!                 0            mark                end
//!     slot 2      ▓▓▓▓▓▓▓▓▓▓▓▓▓│                    │   is being rebuilt
//!     slot 5                   │                    │   is added
//!     first pass               │──── 2 and 5 ──────►│   slot 2 is done
//!     second pass │──── 5 ────►│                        slot 5 is done
//! ```
//!
//! So one added later costs no more than a rebuild of its own, and shares what can be shared. Until its
//! second pass its mark stays 0: it is not read, and after a restart it is begun anew.

use super::Mask;
use crate::model::Slot;

/// Members that joined a rebuild late, and got all from some place on: what is below is for their second
/// pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Late {
    /// Which members.
    pub members: Mask,
    /// They hold what they should from here on (sectors of the member).
    pub from_sectors: u64,
}

impl Late {
    /// Nobody.
    pub const NONE: Self = Self {
        members: Mask::EMPTY,
        from_sectors: 0,
    };

    /// A member left, or was replaced: what it got does not count.
    pub fn forget(&mut self, slot: Slot) {
        self.members = self.members.without(slot);
    }
}

/// One way of a task over the members, or over a part of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    /// Members to fill; empty in a sync.
    pub targets: Mask,
    /// Those of them whose mark is the task's: they hold what they should below it. The others joined
    /// late.
    pub marked: Mask,
    /// Where it starts.
    pub from_sectors: u64,
    /// Where it ends; `None`: at the end.
    pub until_sectors: Option<u64>,
}

impl Pass {
    /// A sync, from a mark to the end.
    pub fn sync(from_sectors: u64) -> Self {
        Self {
            targets: Mask::EMPTY,
            marked: Mask::EMPTY,
            from_sectors,
            until_sectors: None,
        }
    }

    /// The pass that comes next, of members that are to be filled and how far each is; `None` when there
    /// are none.
    pub fn next(members: impl Iterator<Item = (Slot, u64)> + Clone, late: Late) -> Option<Self> {
        let all = |members: &mut dyn Iterator<Item = (Slot, u64)>| {
            members.fold(Mask::EMPTY, |mask, (slot, _)| mask.with(slot))
        };
        let targets = all(&mut members.clone());
        if targets.is_within(late.members) {
            return Some(Self {
                targets,
                marked: targets,
                from_sectors: members.map(|(_, done)| done).min()?,
                until_sectors: Some(late.from_sectors),
            });
        }
        let from_sectors = members.clone().map(|(_, done)| done).max()?;
        let marked = all(&mut members.filter(|(_, done)| *done == from_sectors));
        Some(Self {
            targets,
            marked,
            from_sectors,
            until_sectors: None,
        })
    }

    /// Who is late once this pass got to its end.
    pub fn late(&self) -> Late {
        Late {
            members: self.targets.minus(self.marked),
            from_sectors: self.from_sectors,
        }
    }

    /// Whether another member may join: the pass ends for it, and another one begins at its mark. One that
    /// catches up is let through.
    pub fn may_be_joined(&self) -> bool {
        !self.targets.is_empty() && self.until_sectors.is_none()
    }
}
