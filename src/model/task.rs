// SPDX-License-Identifier: GPL-2.0

//! What work in the background does.

use super::Scrub;

/// Work in the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskKind {
    /// Establishing redundancy for the first time.
    Initialise,
    /// Filling a member from the others.
    Rebuild,
    /// Making redundancy agree after a crash.
    Resync,
    /// Reading everything and comparing.
    Check,
    /// Comparing, and putting right what does not agree.
    Repair,
}

impl TaskKind {
    /// Whether it looks at what is thought to agree already: what establishes redundancy does not wait for it.
    pub const fn is_scrub(self) -> bool {
        matches!(self, Self::Check | Self::Repair)
    }

    /// Whether one of this kind waits for another one on the same disks to end.
    pub const fn waits_for(self, at_work: Self) -> bool {
        !at_work.is_scrub() || self.is_scrub()
    }

    /// What is recorded of one that got to `done_sectors`; `None` of one that nobody asks for.
    pub const fn scrub_at(self, done_sectors: u64) -> Option<Scrub> {
        let repairs = match self {
            Self::Check => false,
            Self::Repair => true,
            Self::Initialise | Self::Resync | Self::Rebuild => return None,
        };
        Some(Scrub {
            repairs,
            done_sectors,
        })
    }
}

impl Scrub {
    /// The task that goes on with it.
    pub const fn kind(&self) -> TaskKind {
        match self.repairs {
            true => TaskKind::Repair,
            false => TaskKind::Check,
        }
    }
}
