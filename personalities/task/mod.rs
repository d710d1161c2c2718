// SPDX-License-Identifier: GPL-2.0

//! Tasks: rebuild, resync, initialise, check, repair: one walk over all lanes of an array.
//!
//! [`Engine`] decides all that a task does. Whoever has the array (`src/array/task.rs`, and the simulator) asks it for the
//! next [`Step`], carries that out, and tells it of each lane that is back:
//!
//! ```text
//!   View of the array ──► next() ──► Send: a lane goes to the step machines  ──►  back() ──► Back: marks to publish,
//!                          ▲         Skip, Nothing: marks to publish                │          whether to ask again
//!                          │         Later, WhenBack: ask again then                │
//!                          └────────────────────────────────────────────────────────┘
//!                                    End: result(), in the order that order.rs says
//! ```
//!
//! Lanes come back in any order; the mark (what is done from the start on) follows the first that is not back good
//! ([`Window`]). Nothing here waits, allocates or knows what time it is.

pub mod course;
pub mod due;
pub mod order;
pub mod record;

pub use course::{Course, Members, Moved, Scope};

use super::choice::Choice;
use super::headway::Headway;
use super::lane::Job;
use super::likeness::Likeness;
use super::pace::{Pace, Rates, Speed};
use super::rebuild::Pass;
use super::regions::Regions;
use super::walk::WalkLane;
use super::window::Window;
use crate::model::{Slot, TaskKind};

/// How far a task is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskStatus {
    /// What it does.
    pub kind: TaskKind,
    /// The members it fills, and from where to where it goes.
    pub pass: Pass,
    /// Sectors done, of `total_sectors`.
    pub done_sectors: u64,
    /// Sectors of each member in all (of the volume, where a sync counts so).
    pub total_sectors: u64,
    /// KiB/s of each member, since it started, was let go, or got other limits.
    pub rate_kib: u32,
    /// Seconds left, when that can be said.
    pub eta_seconds: Option<u32>,
    /// Sectors (of members) in lanes that did not agree.
    pub mismatch_sectors: u64,
    /// Somebody stopped it for now.
    pub paused: bool,
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskResult {
    /// What it did.
    pub kind: TaskKind,
    /// The members it filled, and from where to where it went.
    pub pass: Pass,
    /// It got to the end, and everything on the way worked.
    pub completed: bool,
    /// Sectors done, in the space of its marks.
    pub done_sectors: u64,
    /// Sectors (of members) in lanes that did not agree.
    pub mismatch_sectors: u64,
    /// What it went over.
    pub scope: Scope,
}

impl TaskResult {
    /// Whether it is of a check or repair that went on from a mark: what it had found before is not known any more.
    pub fn is_part(&self) -> bool {
        self.kind.is_scrub() && self.pass.from_sectors > 0
    }
}

/// What a lane's redundancy was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It agreed.
    Alike,
    /// It did not; the first member that was written for that, and why.
    Different(Option<(Slot, Choice)>),
    /// It did not, and that was told block by block.
    DifferentAsTold,
    /// Nobody looked.
    Unseen,
}

/// How many lanes a task has in flight at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// While nobody else wants the members.
    pub full: u64,
    /// While users do I/O.
    pub busy: u64,
}

impl Windows {
    /// Those of the driver.
    pub const USUAL: Self = Self { full: 32, busy: 2 };
}

/// What a task has to know of its array to say what comes next.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its members.
    pub members: Members,
    /// Users do I/O on its disks.
    pub is_busy: bool,
    /// The limits in force.
    pub rates: Rates,
    /// The tick that it is, of any clock that may wrap.
    pub now: u64,
    /// Ticks of a second.
    pub second: u64,
    /// Which regions may have writes in flight, where the metadata keeps that.
    pub regions: Option<&'a Regions>,
}

/// A lane to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskLane {
    /// Its number, by which it comes back.
    pub number: u64,
    /// Where it is.
    pub range: WalkLane,
    /// What is done there.
    pub job: Job,
    /// It is most likely wrong: it is written without a look at what is there.
    pub is_overwriting: bool,
}

/// What a task does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// This lane is sent; or, if it cannot be now, it is [taken back](Engine::unsend).
    Send(TaskLane),
    /// So many lanes are left out, as nothing is to be done there. What comes next is to be asked at once.
    Skip {
        /// How many.
        lanes: u64,
        /// What is published.
        moved: Moved,
    },
    /// A lane of the way has nothing of its members. What comes next is to be asked at once.
    Nothing(Moved),
    /// Nothing before a while has passed.
    Later,
    /// Nothing before a lane is back, or before somebody asks for something else.
    WhenBack,
    /// It is over, and no lane is on the way.
    End,
}

/// What follows from a lane that is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Back {
    /// A place that did not agree, and what was put right there.
    pub differing: Option<(WalkLane, Option<(Slot, Choice)>)>,
    /// What is published.
    pub moved: Moved,
    /// What comes next is to be asked.
    pub wakes: bool,
}

/// A task at work.
#[derive(Clone, Debug)]
pub struct Engine {
    course: Course,
    windows: Windows,
    window: Window,
    pace: Pace,
    /// As it was before the lane that was sent last.
    pace_before: Pace,
    headway: Headway,
    likeness: Likeness,
    has_begun: bool,
    is_cancelled: bool,
    is_paused: bool,
    mismatch_sectors: u64,
}

impl Engine {
    /// A task that has not [begun](Self::begin), at tick `now`, under these limits.
    pub fn new(course: &Course, windows: Windows, now: u64, rates: Rates) -> Self {
        let (walk, from_sectors) = (course.walk(), course.pass().from_sectors);
        let pace = Pace::new(now);
        Self {
            course: *course,
            windows,
            window: Window::new(walk.first(from_sectors), course.lanes()),
            pace,
            pace_before: pace,
            headway: Headway::new(now, from_sectors, rates),
            likeness: Likeness::new(),
            has_begun: false,
            is_cancelled: false,
            is_paused: false,
            mismatch_sectors: 0,
        }
    }

    /// What is fixed.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Its lanes.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Sectors done, in the space of its marks.
    pub fn done_sectors(&self) -> u64 {
        self.course.walk().mark(self.window.base())
    }

    /// Whether somebody holds it.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The array is ready for it ([`order::Begin::Work`]): before that it does nothing.
    pub fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Whether it was told so.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Asks it to end.
    pub fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    /// Holds it, or lets it go on, at tick `now`.
    pub fn set_paused(&mut self, is_paused: bool, now: u64) {
        if self.is_paused && !is_paused {
            self.headway.begin(now, self.done_sectors());
        }
        self.is_paused = is_paused;
    }

    /// What it does next. Of a task of [`Scope::Repairs`], `to_repair` has the first mark from a mark on where something
    /// is to be written again; it is asked at most once.
    pub fn next(&mut self, view: &View<'_>, to_repair: impl FnOnce(u64) -> Option<u64>) -> Step {
        if !self.has_begun {
            return Step::WhenBack;
        }
        let ends = self.is_cancelled || self.course.members_lost(view.members);
        if ends || self.window.has_failed() || self.window.is_all_sent() {
            return match self.window.flying() {
                0 => Step::End,
                _ => Step::WhenBack,
            };
        }
        if self.is_paused {
            return Step::WhenBack;
        }
        let next = self.window.next();
        let needed = self.next_needed(view, to_repair);
        if needed > next {
            return self.skip_to(needed);
        }
        let (walk, base) = (self.course.walk(), self.window.base());
        let mark = || walk.mark(base);
        self.headway.under(view.rates, view.now, mark);
        let pace = &mut self.pace;
        let speed = pace.speed(view.now, view.second, view.rates, view.is_busy);
        let most = match speed {
            Speed::Full => self.windows.full,
            Speed::Gentle => self.windows.busy,
            Speed::Rest => return Step::Later,
        };
        let Some(number) = self.window.send(most) else {
            return match speed {
                Speed::Gentle => Step::Later,
                _ => Step::WhenBack,
            };
        };
        let Some(range) = walk.lane(number) else {
            return Step::Nothing(self.lane_back(number, true));
        };
        self.pace_before = self.pace;
        self.pace.count(range.sectors, walk.share());
        Step::Send(TaskLane {
            number,
            range,
            job: self.course.job(range.targets),
            is_overwriting: self.course.establishes() && self.likeness.is_hopeless(number),
        })
    }

    /// The lane that [`next`](Self::next) answered with last could not be sent.
    pub fn unsend(&mut self, lane: &TaskLane) {
        self.window.unsend(lane.number);
        self.pace = self.pace_before;
    }

    /// The first lane that is not sent and that there is something to do for.
    fn next_needed(&self, view: &View<'_>, to_repair: impl FnOnce(u64) -> Option<u64>) -> u64 {
        let next = self.window.next();
        let mark = || self.course.walk().mark(next);
        let needed = match (self.course.scope(), view.regions) {
            (Scope::DirtyRegions, Some(regions)) => regions.next_dirty(mark()),
            (Scope::Repairs, _) => to_repair(mark()),
            (Scope::All | Scope::DirtyRegions, _) => return next,
        };
        match needed {
            Some(mark) => self.course.walk().first(mark).max(next),
            None => self.course.lanes(),
        }
    }

    fn skip_to(&mut self, lane: u64) -> Step {
        let (base, done) = (self.window.base(), self.done_sectors());
        if !self.window.skip_to(lane) {
            return Step::WhenBack;
        }
        self.headway.skip(self.done_sectors().saturating_sub(done));
        let now_at = self.window.base();
        Step::Skip {
            lanes: now_at.saturating_sub(base),
            moved: self.course.moved_to(now_at),
        }
    }

    /// A lane is back. With `is_good`, all that was to be done there is.
    pub fn back(&mut self, lane: u64, is_good: bool, found: Found) -> Back {
        let differed = matches!(found, Found::Different(_) | Found::DifferentAsTold);
        if found != Found::Unseen {
            self.likeness.note(differed);
        }
        let range = match differed {
            true => self.course.walk().lane(lane),
            false => None,
        };
        if let Some(range) = range {
            let sectors = u64::from(range.sectors);
            self.mismatch_sectors = self.mismatch_sectors.saturating_add(sectors);
        }
        let differing = match found {
            Found::Different(fixed) => range.map(|range| (range, fixed)),
            Found::Alike | Found::DifferentAsTold | Found::Unseen => None,
        };
        Back {
            differing,
            moved: self.lane_back(lane, is_good),
            wakes: self.window.flying() <= self.windows.full / 2,
        }
    }

    /// Where the array's marks are with it.
    pub fn moved(&self) -> Moved {
        self.course.moved_to(self.window.base())
    }

    fn lane_back(&mut self, lane: u64, is_good: bool) -> Moved {
        match self.window.back(lane, is_good) {
            true => self.moved(),
            false => Moved::Nothing,
        }
    }

    /// Whether a lane is back good, though no mark may say so yet: the task does not come by there again.
    pub fn is_done(&self, lane: u64) -> bool {
        self.window.is_done(lane)
    }

    /// For people, at tick `now`; a second has `second` ticks.
    pub fn status(&self, now: u64, second: u64) -> TaskStatus {
        let walk = self.course.walk();
        let (done_sectors, total_sectors) = (self.done_sectors(), walk.mark(self.course.lanes()));
        let headway = &self.headway;
        // While it is held it has no rate, and nobody knows how long that will be.
        let estimate = (!self.is_paused)
            .then(|| headway.estimate(now, second, walk, done_sectors, total_sectors));
        TaskStatus {
            kind: self.course.kind(),
            pass: *self.course.pass(),
            done_sectors,
            total_sectors,
            rate_kib: estimate.map_or(0, |estimate| estimate.rate_kib),
            eta_seconds: estimate.and_then(|estimate| estimate.eta_seconds),
            mismatch_sectors: self.mismatch_sectors,
            paused: self.is_paused,
        }
    }

    /// What it came to.
    pub fn result(&self) -> TaskResult {
        TaskResult {
            kind: self.course.kind(),
            pass: *self.course.pass(),
            completed: self.window.is_complete(),
            done_sectors: self.done_sectors(),
            mismatch_sectors: self.mismatch_sectors,
            scope: self.course.scope(),
        }
    }
}
