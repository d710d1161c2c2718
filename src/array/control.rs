// SPDX-License-Identifier: GPL-2.0

//! What the set that owns an array does with it. Process context only, except where said.

use super::hole::{self, Hole, HoleParams};
use super::task::Task;
use super::{
    dirty, end_all, flush, gather, lane_lock, lane_op, pace, submit, Array, MemberSlot, Place,
    Table, Waiting,
};
use crate::block::bio::{BioList, BioSet, DonePieces, FinishedList, StalledList};
use crate::block::context;
use crate::block::gate::{Drained, Gated};
use crate::block::pages::PagePool;
use crate::block::queue::{self, WorkQueue};
use crate::model::{Checked, Slot, Text};
use crate::personalities::bad::{BadSpot, BadSpots};
use crate::personalities::choice::Choice;
use crate::personalities::pace::Rates;
use crate::personalities::ranges::{self, PageEnd, PageStart, Ranges, Room, ToRepair};
use crate::personalities::rebuild::{Marks, Pass};
use crate::personalities::regions::Regions;
use crate::personalities::task::{Scope, TaskResult, TaskStatus};
use crate::personalities::{Geometry, Kind, Mask, Stretches};
use crate::reason;
use crate::uapi::event::EventKind;
use crate::uapi::info::TaskKind;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Who hears of an array.
pub trait Notify: Send + Sync + 'static {
    /// The set's worker should look at the array. Any context.
    fn kick(&self);

    /// Something that people should know. Any context; neither sleeps nor allocates.
    fn event(&self, kind: EventKind, place: Place);

    /// A place did not agree: what was put right there, if anything, and its first sector, of each member or of
    /// the volume, as a sync counts. As [`Notify::event`].
    fn mismatch(&self, fixed: Option<(Slot, Choice)>, sector: u64);
}

/// What an array is made of.
pub struct ArrayParams {
    /// N of `/dev/emdN`.
    pub number: u32,
    /// Where everything is.
    pub geometry: Geometry,
    /// Where it is instead, when that is in more than one shape. Needs `read_only` where there is redundancy; slots in
    /// the other fields are those of its table then.
    pub stretches: Option<Stretches>,
    /// Members by slot.
    pub members: KVec<Option<MemberSlot>>,
    /// Members in sync.
    pub readable: Mask,
    /// Members present and being rebuilt.
    pub rebuilding: Mask,
    /// How far that is.
    pub rebuilt: Marks,
    /// Redundancy is not known to agree from here on (sectors of the member).
    pub unsynced_from: Option<u64>,
    /// The metadata says dirty.
    pub dirty: bool,
    /// Which regions it has marked, when it keeps them.
    pub regions: Option<Regions>,
    /// What is known to be bad on the members.
    pub bad: KVec<BadSpot>,
    /// Of which members that does not count as kept: their rebuilds are not done before it was written.
    pub bad_unkept: Mask,
    /// The write-hole log, when there is one.
    pub hole: Option<HoleParams>,
    /// Bytes that a logical block has at least, whatever members have; 0 where nothing says so.
    pub block_bytes: u32,
    /// No writes.
    pub read_only: bool,
    /// Who hears of it.
    pub notify: KBox<dyn Notify>,
}

/// Most memory for buffers of an array that uses lanes.
const POOL_LIMIT_BYTES: usize = 48 << 20;

/// Bios that an array has in reserve.
const BIOS_RESERVED: u32 = 64;

impl Array {
    /// Sets an array up. It does nothing before its disk is added.
    pub fn new(params: ArrayParams) -> Checked<Arc<Gated<Array>>> {
        // Members that join later may have blocks as large as that.
        let mut block_sectors = (params.block_bytes / 512).max(1);
        for member in params.members.iter().flatten() {
            block_sectors = block_sectors.max(member.device.logical_block_bytes() / 512);
        }
        let members = usize::from(params.geometry.members());
        let is_plain = matches!(params.geometry.kind(), Kind::Concat | Kind::Striped);
        if params.stretches.is_some() && !params.read_only && !is_plain {
            return Err(reason!(EROFS, "what lies in several shapes is not written"));
        }
        let has_lanes = params.stretches.is_none() && !is_plain;
        // One op with everything: old and new of every member.
        let reserve = if has_lanes { 2 * members } else { 0 };
        let limit = if has_lanes { POOL_LIMIT_BYTES } else { 0 };
        let present = params.readable.union(params.rebuilding);
        let op_kind = lane_op::OpKind {
            members,
            has_q: params.geometry.level().parity_members() > 1,
            has_log: params.hole.is_some(),
        };
        let durable = hole::are_durable(params.members.iter().flatten());
        let hole = match params.hole {
            Some(of) => Some(KBox::pin_init(
                Hole::new(of, members, durable)?,
                GFP_KERNEL,
            )?),
            None => None,
        };
        let mismatches = Ranges::new()?;
        let to_repair = ToRepair::new()?;
        let bad = BadSpots::new(&params.bad, params.bad_unkept)?;
        let now = context::jiffies() as u64;
        let pool = KBox::pin_init(PagePool::new(reserve, limit)?, GFP_KERNEL)?;
        let ops = KBox::pin_init(lane_op::OpPool::new(op_kind)?, GFP_KERNEL)?;
        let flushes = KBox::pin_init(flush::FlushPool::new()?, GFP_KERNEL)?;
        let ios = KBox::pin_init(BioSet::new(BIOS_RESERVED), GFP_KERNEL)?;
        let further_ios = KBox::pin_init(BioSet::new(BIOS_RESERVED), GFP_KERNEL)?;
        let batch_bios = KBox::pin_init(BioSet::new(BIOS_RESERVED), GFP_KERNEL)?;
        let lanes = lane_lock::LaneTable::new()?;
        let background = submit::Background::new()?;
        let entrance = submit::Entrance::new()?;
        let sender = super::sender::Sender::new()?;
        let holder = gather::Holder::new()?;
        let held = KVec::with_capacity(gather::HELD_MAX, GFP_KERNEL)?;
        let queue = WorkQueue::new(c"emd_lane", queue::Kind::PerCpu)?;
        let arrivals = WorkQueue::new(c"emd_arrivals", queue::Kind::PerCpu)?;
        let spread = super::spread::Spread::new()?;
        let dirty = if params.dirty {
            dirty::DIRTY
        } else {
            dirty::CLEAN
        };
        let array = pin_init!(Array {
            number: params.number,
            name: Text::from_fmt(format_args!("emd{}", params.number)),
            geometry: params.geometry,
            stretches: params.stretches,
            block_sectors,
            read_only: params.read_only,
            notify: params.notify,
            readable: AtomicU64::new(params.readable.0),
            writable: AtomicU64::new(present.0),
            unrecorded: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            cache_lost: AtomicBool::new(false),
            rebuilt: params.rebuilt,
            unsynced_from: AtomicU64::new(params.unsynced_from.unwrap_or(u64::MAX)),
            task_active: AtomicBool::new(false),
            dirty: AtomicU8::new(dirty),
            regions: params.regions,
            swept: AtomicU64::new(now),
            last_write: AtomicU64::new(now),
            users: super::users::Users::new(),
            read_errors: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            someone_waits: AtomicBool::new(false),
            waiting <- kernel::new_spinlock_irq!(
                Waiting {
                    at_gate: BioList::new(),
                    for_dirty: BioList::new(),
                    finished: FinishedList::new(),
                    retry: DonePieces::new(),
                    stalled: StalledList::new(),
                    starved: None,
                    for_log: None,
                    for_record: None,
                    held,
                },
                "emd_waiting"
            ),
            task <- kernel::new_spinlock_irq!(None, "emd_array_task"),
            finished_task <- kernel::new_spinlock_irq!(None, "emd_finished_task"),
            limits: pace::Limits::none(),
            bad_count: AtomicUsize::new(bad.len()),
            bad <- kernel::new_spinlock_irq!(bad, "emd_bad"),
            bad_unrecorded: AtomicBool::new(false),
            void_clearings: AtomicU64::new(0),
            bad_full: AtomicBool::new(false),
            to_repair <- kernel::new_spinlock_irq!(to_repair, "emd_to_repair"),
            lanes_only: AtomicBool::new(false),
            repairing: AtomicUsize::new(0),
            followers: AtomicU64::new(0),
            mismatches <- kernel::new_spinlock_irq!(mismatches, "emd_mismatches"),
            hole,
            ios,
            further_ios,
            batch_bios,
            lanes,
            pool,
            ops,
            flushes,
            background,
            entrance,
            sender,
            streams: gather::Streams::new(),
            holder,
            queue,
            arrivals,
            spread,
        });
        let table = Table {
            members: params.members,
        };
        Ok(Arc::pin_init(Gated::init(array, table), GFP_KERNEL)?)
    }

    /// Takes a member out of use at once: it was unplugged (`is_gone`), or a person says that it failed. Any
    /// context. Writes that depend on this wait until [`Array::failures_recorded`].
    pub fn fail_member(&self, slot: Slot, is_gone: bool) {
        if self.drop_member(slot, is_gone) {
            self.notify.event(EventKind::MemberFailed, Place::of(slot));
            self.notify.kick();
        }
    }

    /// The set could not flush a member, so that one is failed. Any context.
    pub fn flush_failed(&self, slot: Slot) {
        self.fail_member(slot, false);
        if self.present().contains(slot) {
            self.note_cache_lost();
        }
    }

    /// A member that stays in use lost what was in its cache, perhaps, and told the set: who flushes next has to hear of it,
    /// as the member may tell of that once. Any context.
    pub fn note_cache_lost(&self) {
        self.cache_lost.store(true, Ordering::Release);
    }

    /// Whether writes may not be acknowledged yet: a failure, or a change of bad ranges, has to be
    /// recorded first.
    pub fn must_record(&self) -> bool {
        self.unrecorded.load(Ordering::Acquire) != 0 || self.bad_unrecorded.load(Ordering::Acquire)
    }

    /// Members that failed and are not recorded yet.
    pub fn unrecorded(&self) -> Mask {
        Mask(self.unrecorded.load(Ordering::Acquire))
    }

    /// The metadata says on disk that `slots` failed: writes that waited for that end now, or go on.
    pub fn failures_recorded(&self, slots: Mask) {
        self.unrecorded.fetch_and(!slots.0, Ordering::AcqRel);
        if self.unrecorded().is_empty() {
            self.wake_ops();
        }
        self.end_recorded();
    }

    /// Ends the writes that waited for records, when nothing is left to be recorded.
    pub(super) fn end_recorded(&self) {
        // What is to be recorded next becomes known under `waiting`, before a write that missed it comes here: so that one
        // is not taken along.
        let list = {
            let mut waiting = self.waiting.lock();
            if self.must_record() {
                return;
            }
            waiting.finished.take()
        };
        end_all(list);
    }

    /// Ends with an error what waits for a record: the array lost more than it bears, and no disk takes metadata. Those
    /// that come later do not wait.
    pub fn fail_writes(&self) {
        let for_dirty = self.waiting.lock().for_dirty.take();
        // They fail by being dropped.
        drop(for_dirty);
        self.fail_finished();
        self.wake_ops();
    }

    /// Ends finished writes that wait for a record with an error.
    pub(super) fn fail_finished(&self) {
        let finished = self.waiting.lock().finished.take();
        drop(finished);
    }

    /// Has ops that wait for a record look again.
    pub(super) fn wake_ops(&self) {
        let waiting = self.waiting.lock();
        let first = waiting.for_record.as_ref();
        let pass = first
            .and_then(|op| op.body.array())
            .map(|pass| pass.again());
        drop(waiting);
        if let Some(pass) = pass {
            submit::Background::kick(pass);
        }
    }

    /// Members that take writes: those in sync, and those being rebuilt.
    pub fn present(&self) -> Mask {
        self.writable()
    }

    /// More is lost than redundancy bears. Such a last failure is not to be recorded.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Where everything is.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Reads and writes of members that failed.
    pub fn errors(&self) -> (u64, u64) {
        (
            self.read_errors.load(Ordering::Relaxed),
            self.write_errors.load(Ordering::Relaxed),
        )
    }

    /// Closes the gate for a moment; gives up when a failure has to be recorded first, since writes
    /// inside wait for that.
    fn quiesce(this: &Gated<Array>) -> Checked<Drained<'_, Array>> {
        let drained = this.try_drain(|| this.must_record());
        if drained.is_none() {
            // It may have been closed for a moment.
            Self::release_gate(this);
        }
        drained.ok_or_else(|| reason!(EAGAIN, "{} has failures to record first", this.name))
    }

    /// Puts a member into an empty slot, to be rebuilt. `EAGAIN` when failures have to be recorded
    /// first.
    pub fn install_member(this: &Arc<Gated<Array>>, slot: Slot, member: MemberSlot) -> Checked {
        let mut drained = Self::quiesce(this)?;
        let room = drained.table_mut().members.get_mut(usize::from(slot));
        let installed = match room {
            Some(room @ None) => {
                if let Some(hole) = this.hole.as_ref() {
                    hole.member_joins(slot, !member.device.has_write_cache());
                }
                *room = Some(member);
                Ok(())
            }
            Some(Some(_)) => Err(reason!(EBUSY, "slot {} of {} is taken", slot, this.name)),
            None => Err(reason!(EINVAL, "{} has no slot {}", this.name, slot)),
        };
        if installed.is_ok() {
            let mut bad = this.bad.lock();
            bad.forget(slot);
            this.bad_count.store(bad.len(), Ordering::Release);
            drop(bad);
            this.rebuilt.forget(Mask::single(slot));
            this.writable
                .fetch_or(Mask::single(slot).0, Ordering::AcqRel);
        }
        drop(drained);
        Self::release_gate(this);
        installed
    }

    /// Takes a member that is out of use out of the table. `EAGAIN` when failures have to be recorded
    /// first.
    pub fn remove_member(this: &Arc<Gated<Array>>, slot: Slot) -> Checked<Option<MemberSlot>> {
        if this.writable().contains(slot) {
            return Err(reason!(EBUSY, "slot {} of {} is in use", slot, this.name));
        }
        let mut drained = Self::quiesce(this)?;
        // What is to be recorded yet may be of this member, and its place must not have another one by then.
        let member = match this.must_record() {
            true => Err(reason!(
                EAGAIN,
                "{} has failures to record first",
                this.name
            )),
            false => Ok(drained
                .table_mut()
                .members
                .get_mut(usize::from(slot))
                .and_then(|room| room.take())),
        };
        drop(drained);
        Self::release_gate(this);
        member
    }

    /// Starts a task: one pass over the members. A rebuild's has targets, and no other's.
    pub fn start_task(
        this: &Arc<Gated<Array>>,
        kind: TaskKind,
        pass: &Pass,
        scope: Scope,
    ) -> Checked {
        if (kind == TaskKind::Rebuild) == pass.targets.is_empty() {
            return Err(reason!(EINVAL, "a rebuild, and only that, has targets"));
        }
        if kind != TaskKind::Rebuild {
            this.can_check()?;
        }
        if this.has_finished() {
            return Err(reason!(
                EBUSY,
                "{} has a task whose end is not recorded yet",
                this.name
            ));
        }
        if kind != TaskKind::Rebuild && scope != Scope::Repairs {
            this.forget_mismatches(kind);
        }
        Task::start(this, kind, pass, scope)
    }

    /// A task that looks anew is about to begin: forgets what did not agree. A check or repair gets room for much, all others
    /// give it back. Allocates; no task is at work.
    fn forget_mismatches(&self, kind: TaskKind) {
        if !kind.is_scrub() {
            let unused = self.mismatches.lock().clear();
            drop(unused);
            return;
        }
        let before = self.mismatches.lock().capacity();
        let room = match before < ranges::RANGES_MAX {
            true => ranges::much_room(),
            false => Room::new(),
        };
        let most = before.max(room.capacity());
        let unused = self.mismatches.lock().clear_into(room);
        drop(unused);
        if most < ranges::RANGES_MAX {
            pr_warn!(
                "{}: memory is short, so no more than {} places that do not agree are kept of this {}\n",
                self.name.as_str(),
                most,
                kind.word()
            );
        }
    }

    /// What the last check, repair or sync found that did not agree: a page of as much as `room` has room for.
    pub fn mismatches(&self, start: PageStart, room: &mut Room) -> PageEnd {
        self.mismatches.lock().page(start, room)
    }

    /// Limits the rate of tasks, in KiB/s of each member; 0: as for all arrays. A task at work finds them by itself.
    pub fn set_limits(&self, min_kib: u32, max_kib: u32) {
        self.limits.set(min_kib, max_kib);
    }

    /// The limits of tasks that count for it.
    pub fn limits_in_force(&self) -> Rates {
        self.limits.in_force()
    }

    /// Asks the task to end; it is told like any other end.
    pub fn cancel_task(&self) {
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.cancel();
        }
    }

    /// Has the task look whether it has to end: members were lost.
    pub fn nudge_task(&self) {
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.nudge();
        }
    }

    /// Whether there is redundancy that could be checked. `EINVAL` when there is not.
    pub fn can_check(&self) -> Checked {
        if !self.is_redundant() {
            return Err(reason!(
                EINVAL,
                "{} keeps no redundancy: there is nothing to do",
                self.geometry.level()
            ));
        }
        if !self.geometry.can_compare(self.readable()) {
            return Err(reason!(
                EINVAL,
                "{} has lost members: there is nothing to compare with",
                self.name
            ));
        }
        Ok(())
    }

    /// Holds the task, or lets it go on. `ENOENT` when there is none.
    pub fn pause_task(&self, paused: bool) -> Checked {
        let task = self.task.lock().clone();
        match task {
            Some(task) => {
                task.set_paused(paused);
                Ok(())
            }
            None => Err(reason!(ENOENT, "{} has no task", self.name)),
        }
    }

    /// The task at work.
    pub fn task(&self) -> Option<TaskStatus> {
        let task = self.task.lock().clone();
        task.map(|task| task.status())
    }

    /// A task that has ended and that nobody took note of yet.
    pub fn finished(&self) -> Option<TaskResult> {
        *self.finished_task.lock()
    }

    /// Whether there is one.
    pub fn has_finished(&self) -> bool {
        self.finished().is_some()
    }

    /// The task that has ended, once. Frees memory.
    pub fn take_finished(&self) -> Option<TaskResult> {
        let finished = self.finished_task.lock().take();
        if finished.is_some() {
            let unused = self.mismatches.lock().give_back();
            drop(unused);
        }
        finished
    }

    /// The metadata says that `targets` are in sync: they are read from now on.
    pub fn rebuilt_recorded(&self, targets: Mask) {
        {
            // A member that is lost meanwhile must not be read again: `drop_member` has the lock, too.
            let _waiting = self.waiting.lock();
            let present = targets.intersect(self.writable());
            if self.unsynced_from.load(Ordering::Acquire) != u64::MAX {
                self.followers.fetch_or(present.0, Ordering::AcqRel);
            }
            // Their marks stay: who asked just before whether they are read asks these next. A new member's are reset.
            self.readable.fetch_or(present.0, Ordering::AcqRel);
        }
    }

    /// Members that are written, and read only as far as they are rebuilt.
    pub fn unread(&self) -> Mask {
        self.writable().minus(self.readable())
    }

    /// The metadata says that redundancy agrees everywhere, or that what is left has nothing to agree
    /// with: it is built upon from now on. No sync is at work.
    pub fn sync_recorded(&self) {
        self.unsynced_from.store(u64::MAX, Ordering::Release);
        self.followers.store(0, Ordering::Release);
    }

    /// Ends the array: no task, nobody inside, nobody comes in. Nobody may have its disk open, nor open it.
    /// `EAGAIN` when failures have to be recorded first, or the task has not ended yet.
    pub fn stop(this: &Arc<Gated<Array>>) -> Checked {
        this.cancel_task();
        if this.task.lock().is_some() {
            context::sleep_us(1000);
            if this.task.lock().is_some() {
                return Err(reason!(EAGAIN, "the task of {} is ending", this.name));
            }
        }
        Self::quiesce(this)?.keep_closed();
        // Nothing is held any more, but the holder's last timer may still be on its way to the queue.
        queue::cancel_delayed(&this.holder);
        Ok(())
    }
}
