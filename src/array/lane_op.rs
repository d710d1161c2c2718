// SPDX-License-Identifier: GPL-2.0

//! An op: one piece of work on one lane, with its buffers, from a pool.

use super::hole::{self, OpLog};
use super::lane_zero::Zeroing;
use super::task::Task;
use super::{Array, ArrayPass, LANE_SECTORS};
use crate::block::batch::{Batch, BatchOwner, BatchSet};
use crate::block::bio::{IoRef, Status};
use crate::block::context;
use crate::block::pages::Pages;
use crate::block::raw;
use crate::block::syndrome::Spare;
use crate::model::{Slot, MEMBERS_MAX};
use crate::personalities::choice::Choice;
use crate::personalities::lane::{Job, Step};
use crate::personalities::mirror::Work as LaneWork;
use crate::personalities::Mask;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use kernel::workqueue::{impl_has_work, Work, WorkItem};

/// Most stretches of user data in one op: one for each member, at least.
pub(super) const FRAGMENTS_MAX: usize = MEMBERS_MAX;

/// Ops kept ready for each array.
const OPS_READY: usize = 128;

/// From so many on (an op has 3 KiB, with a log 11) writes wait for one that comes back, however many users hand in.
const OPS_MAX: usize = 2048;

/// A stretch of a user's bio that belongs to an op.
pub(super) struct Fragment {
    pub(super) io: IoRef<Array>,
    /// The member.
    pub(super) slot: Slot,
    /// First sector within the stripe unit.
    pub(super) column: u32,
    /// Length in sectors.
    pub(super) sectors: u32,
    /// Where it is in the user's bio.
    pub(super) io_offset_bytes: usize,
}

/// Buffers of one member.
#[derive(Default)]
pub(super) struct Buffers {
    /// What the member holds.
    pub(super) old: Option<Pages>,
    /// What is to be written to it.
    pub(super) new: Option<Pages>,
}

/// What an op does, and how far it is.
pub(super) struct Body {
    /// The array; `None` only in the pool.
    pub(super) pass: Option<ArrayPass>,
    pub(super) job: Job,
    /// The stripe (of a mirror: the lane).
    pub(super) stripe: u64,
    /// First sector within the stripe unit, and length: what the op covers.
    pub(super) column: u32,
    pub(super) sectors: u32,
    /// The part that the present run covers: all of it, or one block after an error.
    pub(super) run_column: u32,
    pub(super) run_sectors: u32,
    /// The lane's number, and whether the lock on it is shared.
    pub(super) lane: u64,
    pub(super) shared: bool,
    /// It counts in `Array::repairing`.
    pub(super) repairs: bool,
    /// Force unit access was asked for.
    pub(super) fua: bool,
    /// Whether members are told to fill the lane with zeroes.
    pub(super) zeroing: Zeroing,
    pub(super) work: Option<LaneWork>,
    pub(super) step: Option<Step>,
    /// Room for [`FRAGMENTS_MAX`].
    pub(super) fragments: KVec<Fragment>,
    pub(super) buffers: KVec<Buffers>,
    /// Its part in the write-hole log.
    pub(super) log: OpLog,
    /// RAID 6: for its arithmetic.
    pub(super) spare: Option<Spare>,
    /// `New(slot)` is `Old(alias[slot])` or, in a mirror write, `New(alias[slot])`.
    pub(super) alias: [u8; MEMBERS_MAX],
    pub(super) task: Option<Arc<Task>>,
    /// The number of this lane in the task's walk.
    pub(super) task_lane: u64,
    /// A run could not be done; with `task` this tells it.
    pub(super) failed: bool,
    pub(super) mismatch: bool,
    /// A sync that is not to look at what it overwrites.
    pub(super) overwriting: bool,
    /// Members that took the run's write.
    pub(super) taken: Mask,
    /// The first member that a sync put right, and why.
    pub(super) fixed: Option<(Slot, Choice)>,
    /// Of the block before, in a sync by blocks: members that could not be read, and those of them that were written again. A
    /// stretch of such blocks is told of once.
    pub(super) unread: Mask,
    pub(super) repaired: Mask,
    /// Its task was told, block by block, what did not agree.
    pub(super) told: bool,
    /// Another CPU has it: it counts in `Array::spread`.
    pub(super) spread: bool,
    next: Option<Pin<KBox<LaneOp>>>,
}

/// What the ops of an array need.
#[derive(Clone, Copy)]
pub(super) struct OpKind {
    /// Members of the array.
    pub(super) members: usize,
    /// There is a Q syndrome.
    pub(super) has_q: bool,
    /// There is a write-hole log.
    pub(super) has_log: bool,
}

/// No alias.
pub(super) const NO_ALIAS: u8 = u8::MAX;

/// A piece of work on a lane.
#[pin_data]
pub(super) struct LaneOp {
    #[pin]
    work: Work<LaneOp>,
    batch: Batch,
    pub(super) body: Body,
}

impl_has_work! {
    impl HasWork<Self> for LaneOp { self.work }
}

impl LaneOp {
    /// Without `may_wait` it takes what memory is free right now, and does not sleep.
    fn new(kind: OpKind, may_wait: bool) -> Result<Pin<KBox<Self>>> {
        let (flags, page_flags) = match may_wait {
            true => (GFP_KERNEL, raw::GFP_NOIO),
            false => (GFP_NOWAIT | __GFP_NOWARN, raw::GFP_OPPORTUNISTIC),
        };
        let members = kind.members;
        let spare = if kind.has_q {
            Some(Spare::alloc(page_flags).ok_or(ENOMEM)?)
        } else {
            None
        };
        let log = OpLog::new(kind.has_log, page_flags)?;
        let mut buffers = KVec::with_capacity(members, flags)?;
        for _ in 0..members {
            let _ = buffers.push_within_capacity(Buffers::default());
        }
        let fragments = KVec::with_capacity(FRAGMENTS_MAX, flags)?;
        KBox::pin_init(
            pin_init!(Self {
                work <- kernel::new_work!("emd_lane_op"),
                batch: Batch::new(),
                body: Body {
                    pass: None,
                    job: Job::Sync { fix: false },
                    stripe: 0,
                    column: 0,
                    sectors: 0,
                    run_column: 0,
                    run_sectors: 0,
                    lane: 0,
                    shared: false,
                    repairs: false,
                    fua: false,
                    zeroing: Zeroing::Possible,
                    work: None,
                    step: None,
                    fragments,
                    buffers,
                    log,
                    spare,
                    alias: [NO_ALIAS; MEMBERS_MAX],
                    task: None,
                    task_lane: 0,
                    failed: false,
                    mismatch: false,
                    overwriting: false,
                    taken: Mask::EMPTY,
                    fixed: None,
                    unread: Mask::EMPTY,
                    repaired: Mask::EMPTY,
                    told: false,
                    spread: false,
                    next: None,
                },
            }),
            flags,
        )
    }

    /// The changeable part.
    pub(super) fn body_mut(self: Pin<&mut Self>) -> &mut Body {
        self.project().body
    }

    /// The op linked behind this one.
    pub(super) fn take_next(self: Pin<&mut Self>) -> Option<Pin<KBox<LaneOp>>> {
        self.body_mut().next.take()
    }

    /// Links an op behind this one.
    pub(super) fn set_next(self: Pin<&mut Self>, next: Option<Pin<KBox<LaneOp>>>) {
        self.body_mut().next = next;
    }

    /// The op linked behind this one, to look at and to change.
    pub(super) fn next_mut(self: Pin<&mut Self>) -> &mut Option<Pin<KBox<LaneOp>>> {
        &mut self.body_mut().next
    }

    /// Members whose I/O of the last step failed, and those whose disk is gone.
    pub(super) fn batch_failures(&self) -> (Mask, Mask) {
        (Mask(self.batch.failed()), Mask(self.batch.offline()))
    }
}

impl Body {
    /// The array.
    pub(super) fn array(&self) -> Option<&ArrayPass> {
        self.pass.as_ref()
    }

    /// Adds a stretch of user data. There is room for one of each member.
    pub(super) fn add_fragment(&mut self, fragment: Fragment) {
        if let Err(error) = self.fragments.push_within_capacity(fragment) {
            // Cannot be; but never acknowledge what was not taken in.
            error.0.io.fail(Status::IO_ERROR);
        }
    }

    /// Takes `other`'s user data in, when both are writes that together are one: the same columns of
    /// other members, or neighbouring columns of the same members.
    pub(super) fn try_merge(&mut self, other: &mut Body) -> bool {
        let (Job::Write { written: mine }, Job::Write { written: theirs }) = (self.job, other.job)
        else {
            return false;
        };
        if self.lane != other.lane
            || self.stripe != other.stripe
            || self.fragments.len() + other.fragments.len() > FRAGMENTS_MAX
        {
            return false;
        }
        let same_columns = self.column == other.column && self.sectors == other.sectors;
        let follows = self.column + self.sectors == other.column;
        let precedes = other.column + other.sectors == self.column;
        let lane_of = |column: u32| column / LANE_SECTORS;
        let both = mine.union(theirs);
        let may_be_one = |pass: &ArrayPass| hole::may_be_one(pass, self.stripe, both);
        if same_columns && mine.intersect(theirs).is_empty() {
            if !self.pass.as_ref().is_some_and(may_be_one) {
                return false;
            }
            self.job = Job::Write { written: both };
        } else if mine == theirs
            && (follows || precedes)
            && lane_of(self.column) == lane_of(other.column)
        {
            self.column = self.column.min(other.column);
            self.sectors += other.sectors;
        } else {
            return false;
        }
        self.fua |= other.fua;
        while let Some(fragment) = other.fragments.pop() {
            self.add_fragment(fragment);
        }
        true
    }

    /// Lets go of everything but buffers (the caller has put these back).
    pub(super) fn reset(&mut self) -> Option<ArrayPass> {
        self.fragments.clear();
        self.work = None;
        self.step = None;
        self.run_sectors = 0;
        self.task = None;
        self.failed = false;
        self.mismatch = false;
        self.overwriting = false;
        self.taken = Mask::EMPTY;
        self.fixed = None;
        self.unread = Mask::EMPTY;
        self.repaired = Mask::EMPTY;
        self.told = false;
        self.fua = false;
        self.zeroing = Zeroing::Possible;
        self.shared = false;
        self.alias = [NO_ALIAS; MEMBERS_MAX];
        self.pass.take()
    }
}

impl BatchOwner for LaneOp {
    fn batch(&self) -> &Batch {
        &self.batch
    }

    fn bios(&self) -> Option<&BatchSet> {
        Some(&self.body.pass.as_ref()?.batch_bios)
    }

    fn batch_done(this: Pin<KBox<Self>>) {
        super::lane_run::io_done(this);
    }
}

impl WorkItem for LaneOp {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        let was_given = core::mem::take(&mut this.as_mut().body_mut().spread);
        let pass = this.body.array().filter(|_| was_given);
        let pass = pass.map(|pass| pass.again());
        super::lane_run::go_on(this);
        if let Some(pass) = pass {
            pass.spread.ended();
        }
    }
}

/// Ops of an array, ready for use.
#[pin_data]
pub(super) struct OpPool {
    #[pin]
    ready: SpinLockIrq<KVec<Pin<KBox<LaneOp>>>>,
    /// Ops that there are beyond [`OPS_READY`].
    further: AtomicUsize,
    kind: OpKind,
}

impl OpPool {
    /// A pool of ops of this kind.
    pub(super) fn new(kind: OpKind) -> Result<impl PinInit<Self>> {
        let mut ready = KVec::with_capacity(OPS_READY, GFP_KERNEL)?;
        for _ in 0..OPS_READY {
            ready.push(LaneOp::new(kind, true)?, GFP_KERNEL)?;
        }
        Ok(pin_init!(Self {
            ready <- kernel::new_spinlock_irq!(ready, "emd_op_pool"),
            further: AtomicUsize::new(0),
            kind,
        }))
    }

    /// An op: of the pool, or one more if there is memory for it right now. `None` when there is neither, when there are
    /// [`OPS_MAX`], and for who frees memory: all that are kept ready are in use then, and one comes back. Who waited for
    /// memory instead might wait for what those who have ops are about to free.
    pub(super) fn take(&self) -> Option<Pin<KBox<LaneOp>>> {
        let ready = self.ready.lock().pop();
        ready.or_else(|| {
            let may_grow = OPS_READY + self.further.load(Ordering::Relaxed) < OPS_MAX;
            (may_grow && !context::frees_memory())
                .then(|| self.further())
                .flatten()
        })
    }

    /// One more.
    fn further(&self) -> Option<Pin<KBox<LaneOp>>> {
        let op = LaneOp::new(self.kind, false).ok()?;
        self.further.fetch_add(1, Ordering::Relaxed);
        Some(op)
    }

    /// Whether one is ready.
    pub(super) fn has_some(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// Gives an op back, reset.
    pub(super) fn put(&self, op: Pin<KBox<LaneOp>>) {
        let surplus = {
            let mut ready = self.ready.lock();
            match ready.push_within_capacity(op) {
                Ok(()) => None,
                Err(error) => Some(error.0),
            }
        };
        if surplus.is_some() {
            self.further.fetch_sub(1, Ordering::Relaxed);
        }
        drop(surplus);
    }
}
