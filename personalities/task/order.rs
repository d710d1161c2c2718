// SPDX-License-Identifier: GPL-2.0

//! How a task begins and ends: what of its array changes, in which order.
//!
//! Writes to copies go around the lanes while no task is at work. So a task begins in two halves: from
//! [`Begin::Lanes`] on writes that come take lanes, from [`Begin::LanesOnly`] on those that did not are through as well. Who
//! reads a copy in a lane may write it again only then, and stops to before the task ends
//! (`Array::end_repairs`): else old data could go over new.
//!
//! Each step is carried out whole before the next; others may look at the array in between.

use super::{Course, Scope, TaskResult};
use crate::personalities::rebuild::Marks;

/// A step of the beginning of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// It takes the array's place for a task, if no other has it: else it does not begin.
    Place,
    /// Marks begin where it does ([`Course::begin_marks`]).
    Marks,
    /// Writes that come take lanes.
    Lanes,
    /// The gate is closed until what is inside is through, which may have gone around the lanes. If that cannot be, the gate
    /// opens, [`Finish::Lanes`] and [`Finish::Place`] follow, and the task has not begun.
    Drain,
    /// All writes take lanes.
    LanesOnly,
    /// The gate opens.
    OpenGate,
    /// What is to be written again, and comes up from now on, asks for a task of its own.
    Repairs,
    /// The task goes to work ([`super::Engine::begin`]).
    Work,
}

impl Begin {
    /// All of them, in their order.
    pub const ORDER: [Self; 8] = [
        Self::Place,
        Self::Marks,
        Self::Lanes,
        Self::Drain,
        Self::LanesOnly,
        Self::OpenGate,
        Self::Repairs,
        Self::Work,
    ];
}

/// A step of the end of a task, no lane of which is on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// Redundancy agrees everywhere, and no member follows others.
    Agree,
    /// The result is left for who records it. Whoever finds no task finds this, and starts none before it is recorded.
    Result,
    /// What was to be written again is.
    Repairs,
    /// Writes need not take lanes.
    Lanes,
    /// The array has no task.
    Place,
}

impl Finish {
    /// All of them, in their order.
    pub const ORDER: [Self; 5] = [
        Self::Agree,
        Self::Result,
        Self::Repairs,
        Self::Lanes,
        Self::Place,
    ];
}

/// The steps in which a task begins on an array; `is_copied`: of copies, whose writes may go around the lanes.
pub fn beginning(scope: Scope, is_copied: bool) -> impl Iterator<Item = Begin> {
    Begin::ORDER.into_iter().filter(move |step| match step {
        Begin::Drain | Begin::LanesOnly | Begin::OpenGate => is_copied,
        Begin::Repairs => scope == Scope::Repairs,
        Begin::Place | Begin::Marks | Begin::Lanes | Begin::Work => true,
    })
}

impl Course {
    /// [`Begin::Marks`], and what `unsynced_from` (see [`super::Moved::publish`]) becomes, if it changes: ahead of the mark
    /// parity is not to be built upon.
    pub fn begin_marks(&self, rebuilt: &Marks, unsynced_from: u64) -> Option<u64> {
        let first = self.pass().from_sectors;
        rebuilt.begin(self.pass(), first);
        (self.establishes() && unsynced_from == u64::MAX).then_some(first)
    }

    /// The steps in which it ends with this result.
    pub fn ending(&self, result: &TaskResult) -> impl Iterator<Item = Finish> {
        let completed = result.completed;
        let agrees = completed && self.establishes();
        let has_repaired = completed && self.scope() == Scope::Repairs;
        Finish::ORDER.into_iter().filter(move |step| match step {
            Finish::Agree => agrees,
            Finish::Repairs => has_repaired,
            Finish::Result | Finish::Lanes | Finish::Place => true,
        })
    }
}
