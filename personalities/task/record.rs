// SPDX-License-Identifier: GPL-2.0

//! What is recorded of how far a task got, and of its end.

use crate::model::{Consistency, MemberState, Slot, Volume};
use crate::personalities::Mask;

/// How a volume stands when something of its task is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The volume, as the metadata has it.
    pub volume: &'a Volume,
    /// A sync is due.
    pub needs_sync: bool,
    /// Writes may be in flight: power that goes now may leave a mark behind below which redundancy is torn.
    pub may_tear: bool,
}

impl Standing<'_> {
    /// Whether the mark of a sync is recorded as it goes along: of an initialisation only (so is a resync recorded that people
    /// asked for), and while writes are in flight only where regions say where they are.
    pub fn keeps_mark(&self) -> bool {
        let is_begun = matches!(self.volume.consistency, Consistency::Initialising { .. });
        self.needs_sync && is_begun && (!self.may_tear || self.volume.regions.is_some())
    }

    /// Whether the mark of a resync after a crash is recorded once nothing is in flight, as of an initialisation, which then has
    /// the rest to do. Where there are regions these tell better, and become clean as it goes along.
    pub fn keeps_mark_when_quiet(&self) -> bool {
        let is_crashed = self.volume.consistency == Consistency::Dirty;
        self.needs_sync && is_crashed && self.volume.regions.is_none()
    }

    /// The furthest mark of these members, of those that are being rebuilt.
    pub fn furthest(&self, members: Mask) -> u64 {
        let marks = members.iter().filter_map(|slot| self.rebuilt_to(slot));
        marks.max().unwrap_or(0)
    }

    fn rebuilt_to(&self, slot: Slot) -> Option<u64> {
        match self.volume.members.get(usize::from(slot))?.state {
            MemberState::Rebuilding { done_sectors } => Some(done_sectors),
            _ => None,
        }
    }

    /// The mark that is recorded of a member whose rebuild got to `done_sectors`; `None`: none. Not past `unkept`, the first
    /// place that it left and that the metadata does not know to be bad.
    pub fn rebuilt_mark(&self, slot: Slot, done_sectors: u64, unkept: Option<u64>) -> Option<u64> {
        let before = self.rebuilt_to(slot)?;
        let mark = done_sectors.min(unkept.unwrap_or(u64::MAX));
        (before < mark && mark != u64::MAX).then_some(mark)
    }
}

/// What becomes of a member that a rebuild filled to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// It is recorded as in sync.
    Done,
    /// It stays one that is being rebuilt, as it left something that the metadata has no place for.
    Withheld,
    /// Nothing: it was lost before the end, and may have been replaced already, by one that nothing was filled of.
    Lost,
}

impl Filled {
    /// Of a member in this state (`None`: there is none), whose loss `is_unrecorded`, with the first place that it left.
    pub fn of(state: Option<MemberState>, is_unrecorded: bool, unkept: Option<u64>) -> Self {
        let is_rebuilding = matches!(state, Some(MemberState::Rebuilding { .. }));
        match (is_rebuilding && !is_unrecorded, unkept) {
            (false, _) => Self::Lost,
            (true, Some(_)) => Self::Withheld,
            (true, None) => Self::Done,
        }
    }
}
