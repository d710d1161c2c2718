// SPDX-License-Identifier: GPL-2.0

//! Where P, Q and data are in the rows of one span of RAID 4, 5 and 6: one table for all rotations.
//!
//! A *row* is the number of a stripe within the span, modulo the rotation's cycle. Four columns say
//! all there is to say of a [`Rotation`]:
//!
//! * how P walks from row to row, and where it is in row 0;
//! * where Q is, seen from P;
//! * whether data is dealt from member 0 on, past the parity, or starts behind the parity and goes
//!   round;
//! * whether P and data go round all members, or all but the last, which has Q (md's `…_6`).
//!
//! Sources: md's layouts 0–5, 8–10 and 16–20 of RAID 5 and 6; DDF 2.0 §4.2.9 to 4.2.13 (RAID
//! level qualifiers). Checked against disks that md wrote (`tests/host/tests/geometry_golden*.rs`).

use crate::model::{Level, Rotation, Slot};

/// How P moves from one row to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    Stay,
    Up,
    Down,
}

/// Where Q is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Second {
    /// There is none: RAID 4 and 5.
    None,
    /// On the member after P; after the last one comes member 0.
    After,
    /// On the member before P; before member 0 comes the last one.
    Before,
    /// On the last member.
    Last,
}

/// Where data starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deal {
    /// At member 0, leaving out parity.
    Restart,
    /// So many members after P, going round.
    Continue(u16),
}

/// P's and Q's places in one row, slots of the span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parities {
    pub(super) p: Slot,
    pub(super) q: Option<Slot>,
}

/// A rotation over a number of members.
///
/// # Invariants
///
/// `data_members < width ≤ members ≤ MEMBERS_MAX`, `first < width`, so no sum below overflows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// Members of the span.
    members: u16,
    /// Members that P and data go round: the first so many.
    width: u16,
    walk: Walk,
    /// Where P is in row 0.
    first: Slot,
    second: Second,
    deal: Deal,
    /// Exponents of Q: by the member's place in the span, not by that of its data.
    by_slot: bool,
}

/// `slot`, which is below `2 × width`, taken round.
#[inline]
fn turn(slot: u16, width: u16) -> Slot {
    slot.checked_sub(width).unwrap_or(slot)
}

impl Pattern {
    /// The table. `None` for rotations that the level does not have, and for fewer members than
    /// parity and one data member need.
    pub(super) fn new(level: Level, rotation: Rotation, members: u16) -> Option<Self> {
        use Deal::{Continue, Restart};
        use Rotation as R;
        use Second::{After, Before, Last, None as NoQ};
        use Walk::{Down, Stay, Up};
        let parities = level.parity_members();
        if parities == 0 || members <= parities {
            return None;
        }
        let n = members;
        let six = parities == 2;
        // Columns: width, walk, first, second, deal.
        let (width, walk, first, second, deal) = match rotation {
            R::ParityFirst if six => (n, Stay, 0, After, Restart),
            R::ParityLast if six => (n, Stay, n - 2, After, Restart),
            R::ParityFirst => (n, Stay, 0, NoQ, Restart),
            R::ParityLast => (n, Stay, n - 1, NoQ, Restart),
            _ if level == Level::Raid4 => return None,

            R::LeftAsymmetric if six => (n, Down, n - 1, After, Restart),
            R::RightAsymmetric if six => (n, Up, 0, After, Restart),
            R::LeftSymmetric if six => (n, Down, n - 1, After, Continue(2)),
            R::RightSymmetric if six => (n, Up, 0, After, Continue(2)),
            R::LeftAsymmetric => (n, Down, n - 1, NoQ, Restart),
            R::RightAsymmetric => (n, Up, 0, NoQ, Restart),
            R::LeftSymmetric => (n, Down, n - 1, NoQ, Continue(1)),
            R::RightSymmetric => (n, Up, 0, NoQ, Continue(1)),
            _ if !six => return None,

            R::DdfZeroRestart => (n, Up, 0, After, Restart),
            R::DdfNRestart => (n, Down, n - 2, After, Restart),
            R::DdfNContinue => (n, Down, n - 1, Before, Continue(1)),

            R::LeftAsymmetric6 => (n - 1, Down, n - 2, Last, Restart),
            R::RightAsymmetric6 => (n - 1, Up, 0, Last, Restart),
            R::LeftSymmetric6 => (n - 1, Down, n - 2, Last, Continue(1)),
            R::RightSymmetric6 => (n - 1, Up, 0, Last, Continue(1)),
            R::ParityFirst6 => (n - 1, Stay, 0, Last, Restart),
        };
        Some(Self {
            members,
            width,
            walk,
            first,
            second,
            deal,
            by_slot: matches!(
                rotation,
                R::DdfZeroRestart | R::DdfNRestart | R::DdfNContinue
            ),
        })
    }

    /// After how many rows it starts over; at least 1.
    #[inline]
    pub(super) fn cycle(&self) -> u16 {
        match self.walk {
            Walk::Stay => 1,
            Walk::Up | Walk::Down => self.width,
        }
    }

    /// Where P and Q are in `row`, which is below [`cycle`](Self::cycle).
    #[inline]
    pub(super) fn parities(&self, row: u16) -> Parities {
        let p = match self.walk {
            Walk::Stay => self.first,
            Walk::Up => turn(self.first.wrapping_add(row), self.width),
            Walk::Down => turn(
                self.first.wrapping_add(self.width).wrapping_sub(row),
                self.width,
            ),
        };
        let last = self.members.wrapping_sub(1);
        let q = match self.second {
            Second::None => None,
            Second::After => Some(turn(p.wrapping_add(1), self.members)),
            Second::Before => Some(p.checked_sub(1).unwrap_or(last)),
            Second::Last => Some(last),
        };
        Parities { p, q }
    }

    /// The slot of data chunk `index` in a row with these parities; `index` is below the number of
    /// data members.
    #[inline]
    pub(super) fn data_slot(&self, at: Parities, index: u16) -> Slot {
        match self.deal {
            Deal::Restart => {
                // Past the lower parity, then past the higher.
                let q = at.q.unwrap_or(self.members);
                let (low, high) = (at.p.min(q), at.p.max(q));
                let slot = index.wrapping_add(u16::from(index >= low));
                slot.wrapping_add(u16::from(slot >= high))
            }
            Deal::Continue(skip) => {
                let start = turn(at.p.wrapping_add(skip), self.width);
                turn(start.wrapping_add(index), self.width)
            }
        }
    }

    /// Which data chunk of a row with these parities is in `slot`, which is one of the span's;
    /// `None` for P and Q. Inverse of [`data_slot`](Self::data_slot).
    #[inline]
    pub(super) fn data_index(&self, at: Parities, slot: Slot) -> Option<u16> {
        if slot == at.p || Some(slot) == at.q {
            return None;
        }
        Some(match self.deal {
            Deal::Restart => {
                let after_p = u16::from(slot > at.p);
                let after_q = u16::from(at.q.is_some_and(|q| slot > q));
                slot.wrapping_sub(after_p).wrapping_sub(after_q)
            }
            Deal::Continue(skip) => {
                let start = turn(at.p.wrapping_add(skip), self.width);
                turn(
                    slot.wrapping_add(self.width).wrapping_sub(start),
                    self.width,
                )
            }
        })
    }

    /// The exponent of Q's generator for the data in `slot`, one of the span's; `None` for P and
    /// Q, and where there is no Q.
    ///
    /// md counts the data members from the one after Q on, going round. DDF's layouts count
    /// members of the span from the first on, those with parity too, as if they held zeroes.
    #[inline]
    pub(super) fn q_exponent(&self, at: Parities, slot: Slot) -> Option<u8> {
        let q = at.q?;
        if slot == at.p || slot == q {
            return None;
        }
        let exponent = if self.by_slot {
            slot
        } else {
            let after_q = |slot: Slot| {
                turn(
                    slot.wrapping_add(self.members)
                        .wrapping_sub(q)
                        .wrapping_sub(1),
                    self.members,
                )
            };
            let place = after_q(slot);
            place.wrapping_sub(u16::from(after_q(at.p) < place))
        };
        // Below MEMBERS_MAX.
        Some(exponent as u8)
    }

    /// The highest exponent of Q's generator, plus one; 0 where there is no Q.
    #[inline]
    pub(super) fn q_width(&self) -> u16 {
        match self.second {
            Second::None => 0,
            _ if self.by_slot => self.members,
            _ => self.members.wrapping_sub(2),
        }
    }
}
