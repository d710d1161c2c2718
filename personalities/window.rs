// SPDX-License-Identifier: GPL-2.0

//! The window of a task: which lanes are on the way, which are back, and where the mark may be.
//!
//! A task has several lanes of its [`walk`](super::walk) on the way at once, and they come back in any
//! order. [`Window::base`] is the first lane that is not back *good*: everything below it is done.
//! Only the mark of that lane may be published (members being rebuilt are read below it) or recorded
//! (after a flush of the members: what is below it may still be in their caches). A lane that failed
//! is never passed, however many behind it came back good: a task that goes on later from its mark
//! has to do it again.
//!
//! ```text
//!     lanes:  0  1  2  3   4  5   6  │ not sent yet
//!             good  │  ?   ok FAIL ok│
//!                  base             next      ok: back good, but behind one that is not
//! ```

/// Most lanes from the first that is not back to the next to be sent: one bit each.
pub const WINDOW_MAX: u64 = 64;

/// The lanes of a task that is at work.
///
/// # Invariants
///
/// * `first ≤ base ≤ next ≤ lanes`, `next − base ≤ WINDOW_MAX`, `flying ≤ next − base`.
/// * Bit `i` of `back` is set when lane `base + i` is back good; bit 0 never is.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    lanes: u64,
    first: u64,
    base: u64,
    back: u64,
    next: u64,
    flying: u64,
    failed: bool,
}

impl Window {
    /// For a task that begins with lane `first` of `lanes`.
    pub fn new(first: u64, lanes: u64) -> Self {
        let first = first.min(lanes);
        Self {
            lanes,
            first,
            base: first,
            back: 0,
            next: first,
            flying: 0,
            failed: false,
        }
    }

    /// The first lane that is not back good: all below are.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Whether a lane is back good: the task does not come by there again. No mark says so while one before it is not, nor
    /// where the mark, which several lanes share, waits for all of them.
    pub fn is_done(&self, lane: u64) -> bool {
        match lane.checked_sub(self.base) {
            None => lane >= self.first,
            Some(bit) => bit < WINDOW_MAX && (self.back >> bit) & 1 == 1,
        }
    }

    /// Lanes on the way.
    pub fn flying(&self) -> u64 {
        self.flying
    }

    /// Whether a lane came back that had failed. Then there is no sense in sending more.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether all lanes are back good.
    pub fn is_complete(&self) -> bool {
        self.base == self.lanes
    }

    /// Whether there is none left to send.
    pub fn is_all_sent(&self) -> bool {
        self.next == self.lanes
    }

    /// The next lane to send, while fewer than `most` (at most [`WINDOW_MAX`]) are on the way or back
    /// ahead of others. It counts as on the way.
    pub fn send(&mut self, most: u64) -> Option<u64> {
        if self.next >= self.lanes || self.next - self.base >= most.min(WINDOW_MAX) {
            return None;
        }
        let lane = self.next;
        self.next += 1;
        self.flying += 1;
        Some(lane)
    }

    /// The lane that [`send`](Self::send) answered with last was not sent after all.
    pub fn unsend(&mut self, lane: u64) {
        if self.flying > 0 && lane.checked_add(1) == Some(self.next) {
            self.next = lane;
            self.flying -= 1;
        }
    }

    /// Leaves out all lanes below `lane`: there is nothing to do for them. Only while none is on the way
    /// or back ahead of others (false: nothing was done).
    pub fn skip_to(&mut self, lane: u64) -> bool {
        let is_even = self.base == self.next;
        if is_even {
            self.base = self.base.max(lane.min(self.lanes));
            self.next = self.base;
        }
        is_even
    }

    /// The next lane that [`send`](Self::send) would answer with; the number of lanes at the end.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// A lane is back; true when that moved the base.
    pub fn back(&mut self, lane: u64, is_good: bool) -> bool {
        let Some(bit) = lane.checked_sub(self.base) else {
            return false;
        };
        if lane >= self.next || self.flying == 0 {
            return false;
        }
        self.flying -= 1;
        if !is_good {
            self.failed = true;
            return false;
        }
        // Below WINDOW_MAX.
        self.back |= 1u64.checked_shl(bit as u32).unwrap_or(0);
        let ready = self.back.trailing_ones();
        self.back = self.back.checked_shr(ready).unwrap_or(0);
        self.base += u64::from(ready);
        ready > 0
    }
}
