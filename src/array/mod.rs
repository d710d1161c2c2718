// SPDX-License-Identifier: GPL-2.0

//! Arrays: the data path of one running volume.
//!
//! One [`Array`] stands for one volume that has a block device. The set it belongs to (`src/set/`)
//! owns it, records in the metadata what it reports, and tells it what was recorded.
//!
//! ```text
//!                    submit ──► gate ──► dispatch
//!                                         │ reads of good members, RAID 0, RAID 1 writes: clones
//!                                         │ everything else: lanes (lane_run.rs), under lane locks
//!   failures, wish to be dirty, task news │
//!      └── flags + Notify::kick ──► the set's worker ──► metadata ──► *_recorded()
//! ```
//!
//! # Locks
//!
//! All are leaves with interrupts off, and but for the last none is held while another is taken:
//! * `Array::waiting`: the lists of what waits (for the gate, for the dirty mark, for a failure to be
//!   recorded, for buffers); and members' going out of use, one at a time.
//! * one a lane bucket (`lane_lock.rs`): who has its lanes, who waits for them.
//! * `PagePool`, `OpPool`, `FlushPool`: what is in stock. `Hole::rings`: what is in the write-hole log.
//! * `Array::bad`: ranges.
//! * the passes of `Background`, `Entrance` and `Holder`, and what `Sender` is to send.
//! * `Array::task`, `Array::finished_task`; `Task::progress`, and in it `Array::mismatches`, `Array::to_repair` and what
//!   [`Notify`] takes.
//!
//! The member table needs no lock: it changes only while the gate is closed and nobody is inside.

mod bad;
pub mod control;
mod dirty;
mod flush;
mod gather;
mod hole;
mod lane_buffers;
mod lane_compute;
mod lane_end;
mod lane_lock;
mod lane_op;
mod lane_run;
mod lane_zero;
mod pace;
mod queue_limits;
mod read;
mod repairs;
mod sender;
mod spread;
mod submit;
mod task;
mod users;
mod write;

pub use crate::personalities::task::{Scope, TaskResult};
pub use control::{ArrayParams, Notify};
pub use hole::HoleParams;
pub use pace::set_general_limits;

use crate::block::batch::BatchSet;
use crate::block::bdev::{BlockDevice, Dev};
use crate::block::bio::{BioList, DonePieces, FinishedList, IoSet, StalledList};
use crate::block::gate::{Behind, Pass};
use crate::block::pages::PagePool;
use crate::block::queue::WorkQueue;
use crate::model::{Slot, Text};
use crate::personalities::bad::BadSpots;
use crate::personalities::loss::Loss;
use crate::personalities::ranges::{Ranges, ToRepair};
use crate::personalities::rebuild::Marks;
use crate::personalities::regions::Regions;
use crate::personalities::{Geometry, Kind, Mask, Stretches};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SpinLockIrq};
use users::Users;

/// Sectors of a lane: 64 KiB of every member.
pub(crate) const LANE_SECTORS: u32 = 128;

/// A member's place: a stretch of a disk.
pub struct MemberSlot {
    /// The disk.
    pub device: Arc<BlockDevice>,
    /// Where the member starts on it.
    pub offset_sectors: u64,
    /// Where its ring of the write-hole log starts on it; 0 on arrays without a log.
    pub log_sector: u64,
}

/// What an event of an array is about.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The member.
    pub slot: Slot,
    /// The sector of the member (from its start in the volume); `None` for what is of no single place.
    pub sector: Option<u64>,
    /// Its disk, where that is at hand, and where the member starts on it, in sectors.
    pub disk: Option<(Dev, u64)>,
}

impl Place {
    /// A member, of which nothing else is at hand.
    fn of(slot: Slot) -> Self {
        Self {
            slot,
            sector: None,
            disk: None,
        }
    }
}

/// The members by slot; changes only while nobody is inside the array.
pub struct Table {
    members: KVec<Option<MemberSlot>>,
}

impl Table {
    /// The member in `slot`.
    fn member(&self, slot: Slot) -> Option<&MemberSlot> {
        self.members.get(usize::from(slot))?.as_ref()
    }

    /// Whether members do the work of a write before they come back, on the CPU that sends it.
    fn members_copy(&self) -> bool {
        let mut members = self.members.iter().flatten();
        members.any(|member| member.device.works_at_once())
    }

    /// What an event is about.
    fn place(&self, slot: Slot, sector: Option<u64>) -> Place {
        let member = self.member(slot);
        Place {
            slot,
            sector,
            disk: member.map(|member| (member.device.dev(), member.offset_sectors)),
        }
    }

    /// Users did I/O on the array at tick `now`.
    fn note_use(&self, now: u64) {
        for member in self.members.iter().flatten() {
            member.device.note_use(now);
        }
    }

    /// Whether a member was used, by this array or others, at most `ticks` before `now`.
    fn was_used(&self, now: u64, ticks: u64) -> bool {
        let mut members = self.members.iter().flatten();
        members.any(|member| now.wrapping_sub(member.device.last_use()) <= ticks)
    }

    /// Counts a read or write of a member that failed.
    fn count_error(&self, slot: Slot, is_read: bool) {
        if let Some(member) = self.member(slot) {
            member.device.count_error(is_read);
        }
    }
}

/// What waits, and for what.
struct Waiting {
    /// Bios that found the gate closed, or no op for their flush.
    at_gate: BioList,
    /// Writes that wait for the dirty mark.
    for_dirty: BioList,
    /// Finished writes that may be acknowledged once a failure is recorded.
    finished: FinishedList<Array>,
    /// Pieces of reads that failed, to be served another way.
    retry: DonePieces<Array>,
    /// Bios that could not get an op.
    stalled: StalledList<Array>,
    /// Ops that have their lane and could not get buffers.
    starved: Option<Pin<KBox<lane_op::LaneOp>>>,
    /// Ops that wait for room in the log.
    for_log: Option<Pin<KBox<lane_op::LaneOp>>>,
    /// Ops that wait until a member's loss is recorded, on arrays with a log; or for room among changes of bad ranges.
    for_record: Option<Pin<KBox<lane_op::LaneOp>>>,
    /// Lanes with a write that is held back for its neighbours (see `gather.rs`).
    held: KVec<u64>,
}

/// A running volume.
#[pin_data]
pub struct Array {
    number: u32,
    /// `emdN`, for messages.
    name: Text<16>,
    geometry: Geometry,
    /// Where things are instead, when that is in more than one shape; slots are the table's then. Such an
    /// array is only read, and from nowhere but there.
    stretches: Option<Stretches>,
    /// Sectors of a logical block.
    block_sectors: u32,
    read_only: bool,
    notify: KBox<dyn Notify>,
    /// Members in sync and present.
    readable: AtomicU64,
    /// Members present, those being rebuilt among them.
    writable: AtomicU64,
    /// Members that failed and are not recorded as failed yet.
    unrecorded: AtomicU64,
    /// More is lost than redundancy bears.
    broken: AtomicBool,
    /// A flush of the set's failed on a member that stays in use: the next one of a user fails.
    cache_lost: AtomicBool,
    /// Where members that are being rebuilt are right.
    rebuilt: Marks,
    /// Redundancy is not known to agree from here on (sectors of the member).
    unsynced_from: AtomicU64,
    /// A task is working on lanes, so RAID 1 writes have to take lane locks.
    task_active: AtomicBool,
    /// See `dirty.rs`.
    dirty: AtomicU8,
    /// Where the metadata keeps which regions may have writes in flight.
    regions: Option<Regions>,
    /// Ticks of the last sweep over them.
    swept: AtomicU64,
    /// Ticks when the last write came.
    last_write: AtomicU64,
    users: Users,
    read_errors: AtomicU64,
    write_errors: AtomicU64,
    /// `Waiting::stalled`, `starved` or `for_log` is not empty.
    someone_waits: AtomicBool,
    #[pin]
    waiting: SpinLockIrq<Waiting>,
    #[pin]
    task: SpinLockIrq<Option<Arc<task::Task>>>,
    #[pin]
    finished_task: SpinLockIrq<Option<TaskResult>>,
    limits: pace::Limits,
    /// See `bad.rs`. How many ranges there are, and whether changes wait to be recorded.
    #[pin]
    bad: SpinLockIrq<BadSpots>,
    bad_count: AtomicUsize,
    bad_unrecorded: AtomicBool,
    /// How often what was written to a bad range came to nothing, as that could not be recorded.
    void_clearings: AtomicU64,
    /// Too many changes wait for another one to be kept; ops wait for that in `Waiting::for_record`.
    bad_full: AtomicBool,
    /// Copies that could not be read, to be written again (in the space in which syncs count).
    #[pin]
    to_repair: SpinLockIrq<ToRepair>,
    /// Writes take lane locks, all of them: a task is at work, and what went around it is through.
    lanes_only: AtomicBool,
    /// Reads in lanes that write copies again that could not be read. The task's end, after which writes go
    /// around the lanes, waits for them: they would put what they read over what is newer.
    repairing: AtomicUsize,
    /// Members that were rebuilt while a sync was due: where it was not yet, copies of others count.
    followers: AtomicU64,
    /// What the last check, repair or sync found that did not agree.
    #[pin]
    mismatches: SpinLockIrq<Ranges>,
    /// The write-hole log, where the volume has one.
    hole: Option<Pin<KBox<hole::Hole>>>,
    ios: Pin<KBox<IoSet<Array>>>,
    further_ios: Pin<KBox<IoSet<Array>>>,
    batch_bios: Pin<KBox<BatchSet>>,
    lanes: lane_lock::LaneTable,
    pool: Pin<KBox<PagePool>>,
    ops: Pin<KBox<lane_op::OpPool>>,
    flushes: Pin<KBox<flush::FlushPool>>,
    background: Arc<submit::Background>,
    entrance: Arc<submit::Entrance>,
    sender: Arc<sender::Sender>,
    streams: gather::Streams,
    holder: Arc<gather::Holder>,
    queue: WorkQueue,
    /// Where bios that had to wait begin, which may wait for what `queue` and `spread` give back.
    arrivals: WorkQueue,
    /// Takes over lanes where there are several, so that several CPUs work on them.
    spread: spread::Spread,
}

impl Behind for Array {
    type Table = Table;
}

impl Array {
    fn readable(&self) -> Mask {
        Mask(self.readable.load(Ordering::Acquire))
    }

    /// Members that take writes.
    pub fn writable(&self) -> Mask {
        Mask(self.writable.load(Ordering::Acquire))
    }

    /// Whether redundancy is kept, so that failures and dirtiness matter.
    pub fn is_redundant(&self) -> bool {
        self.stretches.is_none()
            && matches!(
                self.geometry.kind(),
                Kind::Mirrored | Kind::Copies | Kind::Parity
            )
    }

    /// Whether each block is on several members as it is (and not in parity).
    fn is_copied(&self) -> bool {
        matches!(self.geometry.kind(), Kind::Mirrored | Kind::Copies)
    }

    /// Sectors of a member that one row takes (of a mirror: one lane).
    fn stripe_unit(&self) -> u32 {
        match self.geometry.kind() {
            Kind::Parity | Kind::Copies => self.geometry.chunk_sectors(),
            _ => LANE_SECTORS,
        }
    }

    /// Where a row starts on a member (sectors of the member). Rows of a mirror are its lanes.
    fn row_sector(&self, stripe: u64, slot: Slot) -> u64 {
        match self.geometry.kind() {
            Kind::Mirrored => stripe * u64::from(LANE_SECTORS),
            _ => self.geometry.member_sector(stripe, slot).unwrap_or(0),
        }
    }

    /// The row that a sector of a member is in, and the column there. Rows of a mirror are its lanes.
    fn row_at(&self, slot: Slot, member_sector: u64) -> Option<(u64, u32)> {
        let unit = u64::from(LANE_SECTORS);
        match self.geometry.kind() {
            Kind::Mirrored => Some((member_sector / unit, (member_sector % unit) as u32)),
            _ => self.geometry.row_at(slot, member_sector),
        }
    }

    /// Sectors of a lane.
    fn lane_sectors(&self) -> u32 {
        self.stripe_unit().min(LANE_SECTORS)
    }

    /// Whether [`Array::fail_member`] would take a member whose disk is here out of use.
    pub fn would_give_up(&self, slot: Slot) -> bool {
        let (readable, writable) = (self.readable(), self.writable());
        let loss = Loss::of(&self.geometry, readable, writable, slot, false);
        self.is_redundant() && matches!(loss, Loss::Borne | Loss::Beyond)
    }

    /// Marks a member as unusable at once. Returns false when that was known, or when the array
    /// would rather keep it (a mirror's last good member, unless its disk `is_gone`).
    ///
    /// Any context, but not with `waiting` held.
    fn drop_member(&self, slot: Slot, is_gone: bool) -> bool {
        // What lies in several shapes is read as it is, or not at all.
        if !self.is_redundant() {
            return false;
        }
        let bit = Mask::single(slot).0;
        // One at a time: what is left decides what becomes of the next.
        let _one_at_a_time = self.waiting.lock();
        let (readable, writable) = (self.readable(), self.writable());
        let loss = Loss::of(&self.geometry, readable, writable, slot, is_gone);
        match loss {
            Loss::Nothing | Loss::Kept => return false,
            Loss::Borne => {
                self.unrecorded.fetch_or(bit, Ordering::AcqRel);
            }
            // Before a write could pass by the member and be acknowledged.
            Loss::Beyond => self.broken.store(true, Ordering::SeqCst),
        }
        self.readable.fetch_and(!bit, Ordering::AcqRel);
        self.writable.fetch_and(!bit, Ordering::AcqRel);
        true
    }

    /// A write to a member failed, or its disk is gone. `sector`: of the member; `None` for what is of no single place.
    fn member_failed(
        pass: &ArrayPass,
        slot: Slot,
        kind: crate::uapi::event::EventKind,
        sector: Option<u64>,
    ) {
        let place = pass.table().place(slot, sector);
        pass.notify.event(kind, place);
        if pass.drop_member(slot, false) {
            pass.notify
                .event(crate::uapi::event::EventKind::MemberFailed, place);
            pass.notify.kick();
        }
    }

    /// Notes that a write came by.
    fn touch_written(&self) {
        let now = crate::block::context::jiffies() as u64;
        if self.last_write.load(Ordering::Relaxed) != now {
            self.last_write.store(now, Ordering::Relaxed);
        }
    }
}

/// Ends finished I/O that no longer waits for anything.
fn end_all(mut list: FinishedList<Array>) {
    while let Some(io) = list.pop() {
        io.end();
    }
}

/// The array that a pass leads to, with its disks.
type ArrayPass = Pass<Array>;
