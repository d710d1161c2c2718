// SPDX-License-Identifier: GPL-2.0

//! Which of several copies counts.

use super::VOTERS_MAX;
use crate::model::Slot;
use crate::personalities::Mask;

/// The vote of a `Sync`: members that hold the same are a class. Classes are found one after
/// another, each around the lowest slot that is in none yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    /// In no class yet, and not in question for the current one.
    rest: Mask,
    /// The class that is being found; its lowest slot stands for it.
    class: Mask,
    /// To be compared with `class`.
    pending: Mask,
    /// The largest class so far; the earliest among equals, which has the lowest slot.
    pub(super) best: Mask,
    /// The first that is looked at wins, whatever the others hold: this one, or the lowest slot.
    first_wins: bool,
    leader: Option<Slot>,
}

impl Vote {
    pub(super) const EMPTY: Self = Self {
        rest: Mask::EMPTY,
        class: Mask::EMPTY,
        pending: Mask::EMPTY,
        best: Mask::EMPTY,
        first_wins: false,
        leader: None,
    };

    pub(super) fn start(voters: Mask, first_wins: bool, leader: Option<Slot>) -> Self {
        let mut vote = Self {
            rest: voters,
            first_wins,
            leader: leader.filter(|_| first_wins),
            ..Self::EMPTY
        };
        vote.advance(voters);
        vote
    }

    /// Who has what won.
    pub(super) fn winner(&self) -> Option<Slot> {
        let leader = self.leader.filter(|&slot| self.best.contains(slot));
        leader.or(self.best.first())
    }

    /// The next two to compare; `None` when `best` has won.
    pub(super) fn next(&self) -> Option<(Slot, Slot)> {
        Some((self.class.first()?, self.pending.first()?))
    }

    /// Takes the answer to [`next`](Self::next).
    pub(super) fn answer(&mut self, slot: Slot, differs: bool, voters: Mask) {
        self.pending = self.pending.without(slot);
        if differs {
            self.rest = self.rest.with(slot);
        } else {
            self.class = self.class.with(slot);
        }
        self.advance(voters);
    }

    /// Whether there was a vote, and nobody has more than half of it. (Of two the first wins.)
    pub(super) fn is_undecided(&self, voters: Mask) -> bool {
        let is_vote = !self.first_wins && (3..=VOTERS_MAX).contains(&voters.len());
        is_vote && 2 * self.best.len() <= voters.len()
    }

    /// Ends classes that are complete and opens the next, unless none can be larger any more.
    fn advance(&mut self, voters: Mask) {
        if !self.pending.is_empty() {
            return;
        }
        if self.class.len() > self.best.len() {
            self.best = self.class;
        }
        self.class = Mask::EMPTY;
        let decided = self.rest.len() <= self.best.len();
        let no_vote = (self.first_wins || voters.len() > VOTERS_MAX) && !self.best.is_empty();
        if decided || no_vote {
            return;
        }
        let leader = self.leader.filter(|&slot| self.rest.contains(slot));
        self.class = Mask::option(leader.or(self.rest.first()));
        self.pending = self.rest.minus(self.class);
        self.rest = Mask::EMPTY;
        if self.pending.is_empty() && self.best.is_empty() {
            // One voter.
            self.best = self.class;
        }
    }
}
