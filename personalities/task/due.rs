// SPDX-License-Identifier: GPL-2.0

//! Which task a volume is due, and which one makes way for it.

use crate::model::{Consistency, MemberState, TaskKind, Volume};
use crate::personalities::rebuild::{Late, Pass, Trust};
use crate::personalities::Mask;

/// What says which task a volume needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// The volume, as the metadata has it.
    pub volume: &'a Volume,
    /// Members that its array has and writes to, and whose rebuild is not withheld.
    pub fillable: Mask,
    /// How far recorded marks of rebuilds count.
    pub trust: Trust,
    /// Members with a second pass before them.
    pub late: Late,
    /// Where the sync that is due goes on; `None`: none is.
    pub sync_from: Option<u64>,
    /// Enough members are in sync for what they hold to be compared.
    pub can_compare: bool,
}

impl Needs<'_> {
    /// The task that it needs, if any, and which pass of it: what fills members goes first.
    pub fn task(&self) -> Option<(TaskKind, Pass)> {
        let members = (0u16..).zip(self.volume.members.iter());
        let rebuilding = members.filter_map(|(slot, member)| match member.state {
            MemberState::Rebuilding { done_sectors } if self.fillable.contains(slot) => {
                Some((slot, self.trust.of(done_sectors)))
            }
            _ => None,
        });
        if let Some(pass) = Pass::next(rebuilding, self.late) {
            return Some((TaskKind::Rebuild, pass));
        }
        let from = self.sync_from.filter(|_| self.can_compare)?;
        let kind = match self.volume.consistency {
            Consistency::Initialising { .. } => TaskKind::Initialise,
            Consistency::Clean | Consistency::Dirty => TaskKind::Resync,
        };
        Some((kind, Pass::sync(from)))
    }
}

/// Whether a task at work ends for the one that its volume needs: redundancy comes first. A sync goes on at its mark later.
pub fn makes_way(at_work: TaskKind, needed: Option<TaskKind>) -> bool {
    at_work != TaskKind::Rebuild && needed == Some(TaskKind::Rebuild)
}

/// Whether a rebuild at work ends so that another member may join it, at the mark. One that is held is not let go by that.
pub fn lets_join(pass: &Pass, is_held: bool) -> bool {
    pass.may_be_joined() && !is_held
}

/// The task that comes next, and that people may hold: what is `needed`, else a rebuild that is about to be, else what
/// somebody `asked` for.
pub fn waiting(
    needed: Option<TaskKind>,
    awaits_rebuild: impl FnOnce() -> bool,
    asked: Option<TaskKind>,
) -> Option<TaskKind> {
    match needed {
        Some(kind) => Some(kind),
        None if awaits_rebuild() => Some(TaskKind::Rebuild),
        None => asked,
    }
}
