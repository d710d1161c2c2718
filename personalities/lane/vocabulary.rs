// SPDX-License-Identifier: GPL-2.0

//! The words between a step machine and its executor: jobs, steps, answers.
//!
//! # What an executor is
//!
//! It has two buffers a member, `Old` and `New`, each as long as the range, and a loop: call `step`
//! with what the last step came to, do what it says, until `Done`. What each step means byte for
//! byte is told at [`Step`] and [`Compute`]; the reference that says it in code is the simulated
//! executor of the host tests (`tests/host/tests/lane_sim/executor.rs`), and an executor that gives
//! the same bytes is right, however it does so.
//!
//! What an executor may rely on:
//! * a computation names only buffers that are filled, by a read that did not fail, by a computation
//!   before, or (`New` of a write's own slots) by itself;
//! * `New` of a member is worked out at most once (and added to, [`Compute::Add`]), and after that only
//!   logged, written or compared; so `Old` of P and Q may become `New` in place when a [`Compute::Parity`] or [`Compute::Syndromes`] names
//!   them in `old`: nothing asks for that `Old` again, nor, after a [`Compute::Syndromes`], for that of a member in both its `old` and `new`;
//! * members are read at most once, and written in one step, the last before `Done`.
//!
//! The exponents of Q are not in the vocabulary: they are the executor's to know, from
//! [`Geometry::q_exponent`](crate::personalities::Geometry::q_exponent).

use crate::model::Slot;
use crate::personalities::Mask;

/// What is to be done with a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// New data for these data slots, each covering the whole column range.
    Write {
        /// The slots; `New` of them is filled.
        written: Mask,
    },
    /// The data of these slots is wanted, in `Old`.
    Read {
        /// The slots.
        wanted: Mask,
    },
    /// What these members should hold is worked out from the others and written to them.
    Rebuild {
        /// The members.
        targets: Mask,
    },
    /// Data and parity are compared, as far as there is something to compare with: with two
    /// parities also while one member is missing.
    Sync {
        /// Put right what differs (see [`Outcome::corrected`]).
        fix: bool,
    },
}

/// Which members can be used in this range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usable {
    /// In sync over the whole range.
    pub readable: Mask,
    /// Present; members being rebuilt are among them.
    pub writable: Mask,
}

/// What the executor does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read the range of these members into `Old`.
    Read {
        /// The members; never empty.
        members: Mask,
    },
    /// Work something out in memory, over the whole range.
    Compute(Compute),
    /// Write `New` of these parities to their members' logs, before anything else is written
    /// ([`hole_log`](crate::personalities::hole_log)). What could not be logged counts as lost: the
    /// executor has the member failed, and says so in [`StepResult::lost`].
    Log {
        /// The parities; never empty.
        members: Mask,
        /// Members with data in the sum.
        covers: Mask,
    },
    /// Write the range of these members from `New`.
    Write {
        /// The members; never empty.
        members: Mask,
    },
    /// The end. Further calls answer the same.
    Done(Outcome),
}

/// Something to work out in memory. None of these can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compute {
    /// `New(p)` = exclusive or of `Old` of each in `old` and `New` of each in `new`.
    Parity {
        /// The member with P. `old` may name it: it is read before it is overwritten.
        p: Slot,
        /// Blocks from `Old`.
        old: Mask,
        /// Blocks from `New`.
        new: Mask,
    },
    /// `Old(slot)` = exclusive or of `Old` of each in `old`: a block of data, or P, that could not be
    /// read, or (after [`Compute::Locate`]) that was read and is wrong. `old` never names `slot`.
    Reconstruct {
        /// The block.
        slot: Slot,
        /// Where it comes from.
        old: Mask,
    },
    /// `New(slot)` = `Old(slot)`: a block that was reconstructed will be written. The two buffers
    /// may be the same one from here on.
    Restore {
        /// The block.
        slot: Slot,
    },
    /// Compare `New(p)` with `Old(p)`, where `p` has P or Q; the answer goes into
    /// [`StepResult::differs`].
    Compare {
        /// The member with the parity.
        p: Slot,
    },
    /// RAID 6: `New(q)` = the sum, over the members with data in `old`, of `Old` of each times its
    /// coefficient (2 to the power of its exponent), and over those in `new` of `New` of each times
    /// its coefficient; and of `Old(q)` when `old` names `q` (which is how a read-modify-write starts
    /// from what was there). A member may be in both. Never names P's member in `old` or `new`, except
    /// as `p`.
    ///
    /// With `p`: `New(p)` is worked out too, as by [`Compute::Parity`] over the same members, of which
    /// `old` names `p` exactly when it names `q`.
    Syndromes {
        /// The member with P, when `New(p)` is wanted too.
        p: Option<Slot>,
        /// The member with Q.
        q: Slot,
        /// Blocks from `Old`.
        old: Mask,
        /// Blocks from `New`.
        new: Mask,
    },
    /// `New` of each of these parities, which has a part of the sum, takes in `New` of each in `new`: by
    /// exclusive or for P, times its coefficient for Q.
    Add {
        /// The member with P.
        p: Option<Slot>,
        /// The member with Q.
        q: Option<Slot>,
        /// Blocks from `New`.
        new: Mask,
    },
    /// RAID 6: `Old(slot)`, a data block that could not be read, from Q and all other data, which are
    /// in `Old`: the sum of `Old(q)` and of all other data, each times its coefficient, divided by the
    /// coefficient of `slot`. P is of no use here; if it is wanted, it is worked out afterwards.
    ReconstructByQ {
        /// The block.
        slot: Slot,
        /// The member with Q.
        q: Slot,
    },
    /// RAID 6: `Old` of two data blocks that could not be read, from P, Q and all other data, which
    /// are in `Old`: the two unknowns that both sums hold with. `a` is the lower slot.
    ReconstructTwo {
        /// One block.
        a: Slot,
        /// The other.
        b: Slot,
        /// The member with P.
        p: Slot,
        /// The member with Q.
        q: Slot,
    },
    /// RAID 6, both parities differ from what the data says: is there one member with data that, being
    /// wrong alone, explains every byte of it? `Old` and `New` of P and Q are filled, `New` from the
    /// data. That is the member whose coefficient times `Old(p) ^ New(p)` is `Old(q) ^ New(q)` in every
    /// byte ([`gf256::locate`](crate::personalities::gf256::locate)). The answer goes into
    /// [`StepResult::wrong`].
    Locate {
        /// The member with P.
        p: Slot,
        /// The member with Q.
        q: Slot,
    },
    /// `New(to)` = `Old(from)`; mirrors only. The two may be the same buffer from here on, and so
    /// may those of several `to` of one `from`. `from` never is `to`.
    Copy {
        /// The member that was read.
        from: Slot,
        /// The member that will be written.
        to: Slot,
    },
    /// Compare `Old(a)` with `Old(b)`; mirrors only. The answer goes into
    /// [`StepResult::differs`].
    Match {
        /// A member that was read.
        a: Slot,
        /// Another.
        b: Slot,
    },
}

/// What a step came to. The first call of [`Lane::step`] takes the default.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StepResult {
    /// This step's I/O on these members failed, whether the medium or the member is at fault.
    pub failed: Mask,
    /// These members, whether the step touched them or not, can from now on neither be read nor
    /// written. What was read from them before stays good.
    pub lost: Mask,
    /// Mirrors: of `failed`, after a write, those that stay in use all the same: the last good member
    /// ([`Loss::Kept`](crate::personalities::loss::Loss::Kept)).
    pub kept: Mask,
    /// `Compare` or `Match` found a difference.
    pub differs: bool,
    /// After [`Compute::Locate`]: the data member that is wrong.
    pub wrong: Option<Slot>,
}

/// How the job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneResult {
    /// What was asked for holds.
    Good,
    /// Contents could be neither read nor reconstructed; see [`Outcome::unreadable`].
    Unreadable,
    /// What was to be written could not be made to hold.
    Unwritten,
}

/// How a lane ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The job's result. A `Read` is `Good` even if a repair on the way failed; a `Write` even if
    /// the write to some member failed, as long as redundancy makes up for it.
    pub result: LaneResult,
    /// A `Sync` found that parity, or a copy, disagreed.
    pub mismatch: bool,
    /// Members whose block could not be read and was written again.
    pub repaired: Mask,
    /// A `Sync` that was to put right what differs: members whose block was readable, and was written
    /// because it did not agree. Parity, or the one data member found wrong, or copies.
    pub corrected: Mask,
    /// Members whose contents were asked for on the way, and could be neither read nor
    /// reconstructed nor overwritten. Not empty with `Good` where the job could do without. For a
    /// `Read` that is `Unreadable`, `Old` of the wanted slots that are not named is good.
    pub unreadable: Mask,
    /// Members that should have taken a write and did not: what they hold in this range is out of
    /// date (unknown), so the executor must have them failed, or the range recorded as bad,
    /// *before* it acknowledges the job.
    pub write_failed: Mask,
    /// Mirrors: the member whose `Old` is what the range holds; a `Read` has its data there. `None`
    /// for parity levels, for writes, and when no member was read.
    pub source: Option<Slot>,
}

impl Outcome {
    /// `result`, and nothing else to tell.
    pub fn of(result: LaneResult) -> Self {
        Self {
            result,
            mismatch: false,
            repaired: Mask::EMPTY,
            corrected: Mask::EMPTY,
            unreadable: Mask::EMPTY,
            write_failed: Mask::EMPTY,
            source: None,
        }
    }
}
