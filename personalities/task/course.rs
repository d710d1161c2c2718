// SPDX-License-Identifier: GPL-2.0

//! What is fixed of a task from its start on, and what follows from that alone.

use crate::model::TaskKind;
use crate::personalities::lane::Job;
use crate::personalities::rebuild::{Marks, Pass};
use crate::personalities::walk::Walk;
use crate::personalities::{Geometry, Mask};

/// What a task goes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everything.
    All,
    /// Only regions that may have had writes in flight, where the metadata keeps them.
    DirtyRegions,
    /// Only where copies could not be read; people need not hear of it.
    Repairs,
}

/// The members of an array, as far as a task goes on only with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Members {
    /// In sync and present.
    pub readable: Mask,
    /// Present; those being rebuilt among them.
    pub writable: Mask,
    /// More is lost than redundancy bears.
    pub is_broken: bool,
}

/// What is fixed from the start of a task on. Small, and copied freely: who has one needs no lock for it.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    kind: TaskKind,
    pass: Pass,
    /// Members in sync when it started.
    in_sync: Mask,
    walk: Walk,
    scope: Scope,
    /// Where its way ends.
    lanes: u64,
}

impl Course {
    /// Of a task on an array whose members `in_sync` are, in lanes of `lane_sectors` (not 0).
    pub fn new(
        geometry: &Geometry,
        lane_sectors: u32,
        kind: TaskKind,
        pass: &Pass,
        scope: Scope,
        in_sync: Mask,
    ) -> Self {
        let walk = Walk::new(geometry, pass.targets, lane_sectors);
        // Never beyond the mark.
        let from_sectors = walk.mark(walk.first(pass.from_sectors));
        Self {
            kind,
            pass: Pass {
                from_sectors,
                ..*pass
            },
            in_sync,
            walk,
            scope,
            lanes: walk.end(pass.until_sectors),
        }
    }

    /// What it does.
    pub fn kind(&self) -> TaskKind {
        self.kind
    }

    /// The members it fills, and from where (the mark of its first lane) to where it goes.
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// What it goes over.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Its way.
    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    /// The number of the lane at which its way ends.
    pub fn lanes(&self) -> u64 {
        self.lanes
    }

    /// Whether it has redundancy agree that was not known to.
    pub fn establishes(&self) -> bool {
        matches!(self.kind, TaskKind::Initialise | TaskKind::Resync)
    }

    /// Whether people hear of each place that does not agree: after a crash, and at first, differences are no news.
    pub fn tells_mismatches(&self) -> bool {
        self.kind.is_scrub()
    }

    /// Whether a member that is being filled, or compared, is gone: then it ends.
    pub fn members_lost(&self, members: Members) -> bool {
        match self.kind {
            TaskKind::Rebuild => {
                !self.pass.targets.is_within(members.writable) || members.is_broken
            }
            _ => members.readable != self.in_sync,
        }
    }

    /// Whether this is a sync that goes on only until its lanes are back, as members were lost: it may still
    /// write what it read from those.
    pub fn outlives_source(&self, members: Members) -> bool {
        self.kind != TaskKind::Rebuild && self.members_lost(members)
    }

    /// The lane in which a rebuild fills a column of a row; see [`Engine::is_done`].
    pub fn filling_lane(&self, stripe: u64, column: u32) -> Option<u64> {
        match self.kind {
            TaskKind::Rebuild => self.walk.lane_at(stripe, column),
            _ => None,
        }
    }

    /// The members that a lane fills.
    pub fn filled_in(&self, lane: u64) -> Mask {
        let lane = self.walk.lane(lane);
        lane.map_or(Mask::EMPTY, |lane| lane.targets)
    }

    pub(super) fn job(&self, targets: Mask) -> Job {
        match self.kind {
            TaskKind::Rebuild => Job::Rebuild { targets },
            TaskKind::Check => Job::Sync { fix: false },
            TaskKind::Initialise | TaskKind::Resync | TaskKind::Repair => Job::Sync { fix: true },
        }
    }

    /// The array's marks when all lanes below `base` are back good.
    pub(super) fn moved_to(&self, base: u64) -> Moved {
        let done = self.walk.mark(base);
        match self.kind {
            TaskKind::Rebuild => Moved::Rebuilt {
                pass: self.pass,
                done,
            },
            TaskKind::Initialise | TaskKind::Resync => Moved::Synced { done },
            TaskKind::Check | TaskKind::Repair => Moved::Nothing,
        }
    }
}

/// Marks of an array that its task moved: what others may rely on from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// None.
    Nothing,
    /// Members that are being rebuilt hold what they should below `done`.
    Rebuilt {
        /// Which.
        pass: Pass,
        /// Sectors of the member.
        done: u64,
    },
    /// Redundancy agrees below `done`.
    Synced {
        /// Sectors, as a sync counts them.
        done: u64,
    },
}

impl Moved {
    /// Publishes it: in `rebuilt`, or by what `unsynced_from` (from where on redundancy is not known to agree; [`u64::MAX`]:
    /// it agrees) becomes, which is answered then.
    pub fn publish(&self, rebuilt: &Marks, unsynced_from: u64) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Rebuilt { pass, done } => {
                rebuilt.advance(pass, *done);
                None
            }
            // Where all agrees already, no mark makes that less.
            Self::Synced { done } => (unsynced_from != u64::MAX).then_some(*done),
        }
    }
}
