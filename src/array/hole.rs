// SPDX-License-Identifier: GPL-2.0

//! The log that closes the write hole, at work: `personalities/hole_log` says what goes where and when, here
//! it goes there.
//!
//! ```text
//!  Step::Log ─► begin ── lane unflushed, or ring full of what is ──► flush of all members ─┐
//!                 │ ◄───────────────────────────────────────────────────────────────────────┘
//!                 │ ── ring busy ──► waits in `for_log`; whoever makes room starts it again
//!                 └─► heads, sums ──► one bio a parity, FUA ──► batch_back ─► the machine's next step
//! ```
//!
//! Entries, and what writes do after them, wait in `for_record` while a member's loss is not recorded. On an array
//! that lost more than it bears, a loss that nobody will record, nothing is logged any more, and what a member
//! did not take stays logged.
//!
//! An op has its lane all the time, so entries of a lane are numbered in the order of its writes. It waits for
//! room with its buffers in hand: those that it waits for have all they need, and end without it. Where one op at a
//! time has a member's log (a row, as other drivers have it), those that wait go before those that come.

use super::lane_op::{Body, LaneOp};
use super::lane_run;
use super::submit::Background;
use super::{Array, ArrayPass, MemberSlot};
use crate::block::batch::{launch, Part};
use crate::block::context;
use crate::block::crc;
use crate::block::pages::{Pages, PAGE_BYTES};
use crate::block::raw::{REQ_FUA, REQ_META, REQ_OP_WRITE, REQ_SYNC};
use crate::metadata::ppl;
use crate::model::{Checked, LogRow, LoggedWrite, Slot};
use crate::personalities::hole_log::row::{is_run, logged};
use crate::personalities::hole_log::{
    Entry, Log, Refusal, Ring, Row, Session, Spot, Sum, Watch, UNIT_BYTES, UNIT_SECTORS,
};
use crate::personalities::lane::{Job, Step, StepResult};
use crate::personalities::Mask;
use crate::uapi::event::EventKind;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::SpinLockIrq;

/// What an array needs to know to keep a log.
#[derive(Clone, Copy)]
pub enum HoleParams {
    /// EMD's own kind.
    Ring {
        /// Tells this start's entries from all others.
        session: Session,
        /// Length of each member's ring, in units.
        units: u32,
    },
    /// As other drivers have it.
    Row(LogRow),
}

/// The log of an array.
#[pin_data]
pub(super) struct Hole {
    params: HoleParams,
    pub(super) watch: Watch,
    /// The last entry's number.
    numbers: AtomicU64,
    /// How often room was made in a ring.
    changes: AtomicU64,
    /// Ops that wait for room.
    waiters: AtomicU32,
    /// Where the log is a row: an op flushes all members, and others wait for that.
    flushing: AtomicBool,
    /// By slot. One lock for all: entries of P and Q get their places together, or not at all.
    #[pin]
    rings: SpinLockIrq<KVec<Log>>,
}

/// Most entries that a run of an op has at a time: P and Q, logged anew when members are lost on the way.
const ENTRIES_MAX: usize = 8;

/// What an op waits for, beside its steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Idle,
    /// A flush of all members, with its number.
    Flushing(u64),
    /// Entries on their way.
    Logging,
}

/// An op's entries.
pub(super) struct OpLog {
    pub(super) phase: Phase,
    /// Room for the heads of two entries, on arrays with a log.
    heads: Option<Pages>,
    entries: [Option<(Slot, Spot)>; ENTRIES_MAX],
    /// How many of those are there; and how many of them are on their members.
    len: usize,
    written: usize,
    /// Earlier entries of this run's columns are void, or its own are there.
    covered: bool,
    /// A member did not take this run's write.
    pub(super) left_behind: bool,
}

impl OpLog {
    pub(super) fn new(has_log: bool) -> Result<Self> {
        let heads = if has_log {
            let mut heads = Pages::alloc(1, crate::block::raw::GFP_NOIO).ok_or(ENOMEM)?;
            // Heads are written over one another; behind them it stays like that.
            heads.as_mut_slice().fill(0);
            Some(heads)
        } else {
            None
        };
        Ok(Self {
            phase: Phase::Idle,
            heads,
            entries: [None; ENTRIES_MAX],
            len: 0,
            written: 0,
            covered: false,
            left_behind: false,
        })
    }

    fn push(&mut self, slot: Slot, spot: Spot) {
        if let Some(room) = self.entries.get_mut(self.len) {
            *room = Some((slot, spot));
            self.len += 1;
        }
    }

    /// Entries that are on their way now.
    fn unwritten(&self) -> impl Iterator<Item = (Slot, Spot)> + '_ {
        let range = self.entries.get(self.written..self.len).unwrap_or(&[]);
        range.iter().copied().flatten()
    }
}

impl Hole {
    /// A log for arrays of `members` members. `durable`: none of them has a volatile cache.
    pub(super) fn new(
        params: HoleParams,
        members: usize,
        durable: bool,
    ) -> Checked<impl PinInit<Self>> {
        let mut rings = KVec::with_capacity(members, GFP_KERNEL)?;
        for _ in 0..members {
            let log = match params {
                HoleParams::Ring { units, .. } => Log::Ring(Ring::new(units)?),
                HoleParams::Row(row) => Log::Row(Row::new(row.sectors)?),
            };
            rings.push(log, GFP_KERNEL)?;
        }
        let watch = Watch::new(durable)?;
        Ok(pin_init!(Self {
            params,
            watch,
            numbers: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            waiters: AtomicU32::new(0),
            flushing: AtomicBool::new(false),
            rings <- kernel::new_spinlock_irq!(rings, "emd_hole_rings"),
        }))
    }

    /// The member in `slot` is another one: its ring is empty, and its cache, if it has one, counts.
    pub(super) fn member_joins(&self, slot: Slot, durable: bool) {
        if !durable {
            self.watch.not_durable();
        }
        let mut rings = self.rings.lock();
        if let Some(ring) = rings.get_mut(usize::from(slot)) {
            ring.clear(|bucket| self.watch.entry_gone(bucket));
        }
    }

    /// Places for an entry on each of `members`, or none. `log` has the op's earlier ones, and gets these.
    fn place(
        &self,
        members: Mask,
        sectors: u32,
        bucket: u16,
        log: &mut OpLog,
    ) -> Result<(), Refusal> {
        let flushed = self.watch.flushed();
        let own = |log: &OpLog, slot| {
            let mut entries = log.entries.iter().rev().flatten();
            entries.find(|(on, _)| *on == slot).map(|(_, spot)| *spot)
        };
        let mut rings = self.rings.lock();
        for slot in members.iter() {
            if let Some(ring) = rings.get_mut(usize::from(slot)) {
                ring.has_room(sectors, flushed, own(log, slot))?;
            }
        }
        for slot in members.iter() {
            if let Some(ring) = rings.get_mut(usize::from(slot)) {
                let spot = ring.place(sectors, bucket, flushed, own(log, slot))?;
                log.push(slot, spot);
                if self.row().is_none() {
                    self.watch.entry_put(bucket);
                }
            }
        }
        Ok(())
    }

    /// The row that other drivers know, where it is one.
    fn row(&self) -> Option<&LogRow> {
        match &self.params {
            HoleParams::Row(row) => Some(row),
            HoleParams::Ring { .. } => None,
        }
    }

    /// Entries are on their members, or those are lost.
    fn written(&self, entries: impl Iterator<Item = (Slot, Spot)>) {
        let mut rings = self.rings.lock();
        for (slot, place) in entries {
            if let Some(ring) = rings.get_mut(usize::from(slot)) {
                ring.written(place, |bucket| self.watch.entry_gone(bucket));
            }
        }
        drop(rings);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// What they were written for is through.
    fn done(&self, entries: &[Option<(Slot, Spot)>]) {
        let flush = self.watch.next_flush();
        let mut rings = self.rings.lock();
        for &(slot, place) in entries.iter().flatten() {
            if let Some(ring) = rings.get_mut(usize::from(slot)) {
                ring.done(place, flush);
            }
        }
        drop(rings);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether a `Step::Write` has to wait for an entry without a sum: the log may have a sum for this lane that it makes
/// out of date; or it is a row, in which all writes are.
pub(super) fn needs_void(pass: &ArrayPass, body: &Body, members: Mask) -> bool {
    let Some(hole) = pass.hole.as_ref() else {
        return false;
    };
    let parity = pass.geometry.roles(body.stripe).parity();
    changes_data(pass, body, members)
        && !body.log.covered
        && (hole.row().is_some() || hole.watch.has_entry(hole.watch.bucket(body.lane)))
        && !parity.intersect(pass.writable()).is_empty()
}

/// Whether a `Step::Write` changes what data members hold.
fn changes_data(pass: &ArrayPass, body: &Body, members: Mask) -> bool {
    match body.job {
        Job::Write { .. } => true,
        Job::Sync { .. } => {
            let data = pass.geometry.roles(body.stripe).data;
            !members.intersect(data).is_empty()
        }
        // These write what was there.
        Job::Read { .. } | Job::Rebuild { .. } => false,
    }
}

/// Whether an op's step has to wait until a member's loss is recorded ([`wait_for_record`]).
///
/// Power that goes before the record makes the member one like any other again. What is left of the lane then must
/// not hinge on its being lost: no sum that has it among what is missing, no write of parity that goes without it,
/// and of a write that it did not take the entry has to stay. Writes that were planned before the loss, and their
/// entries, may be on their way: they count it as here.
pub(super) fn must_wait(pass: &ArrayPass, body: &Body) -> bool {
    let hinges = match (body.step, body.job) {
        (Some(Step::Log { .. } | Step::Write { .. }), Job::Write { .. }) => true,
        (Some(Step::Done(_)), _) => body.log.left_behind,
        _ => false,
    };
    hinges && waits_for_losses(pass)
}

/// Whether a loss will be recorded and is not yet. On a broken array nobody waits: it may be that nothing can be
/// recorded any more, and writes fail.
fn waits_for_losses(pass: &ArrayPass) -> bool {
    !pass.unrecorded().is_empty() && !pass.is_broken()
}

/// Whether an op must not go on, also with what needs no entry: more is lost than the level bears, so nobody will record
/// the last loss, and what that member does not get is to stay logged. Its log may be on that member.
pub(super) fn must_end(pass: &ArrayPass, body: &Body) -> bool {
    let changes = match body.step {
        Some(Step::Log { .. }) => true,
        Some(Step::Write { members }) => changes_data(pass, body, members),
        _ => false,
    };
    changes && pass.is_broken()
}

/// Keeps an op until losses are recorded; gives it back when they are. Its lane and its buffers stay its own: who
/// records needs neither.
pub(super) fn wait_for_record(mut op: Pin<KBox<LaneOp>>) -> Option<Pin<KBox<LaneOp>>> {
    let pass = op.body.array().map(|pass| pass.again())?;
    {
        let mut waiting = pass.waiting.lock();
        // Who records clears the mark before it looks at the list.
        if !waits_for_losses(&pass) {
            drop(waiting);
            return Some(op);
        }
        let rest = waiting.for_record.take();
        op.as_mut().set_next(rest);
        waiting.for_record = Some(op);
    }
    pass.notify.kick();
    None
}

/// Goes on with ops that waited for a record. Process context.
pub(super) fn go_on_recorded(mut list: Option<Pin<KBox<LaneOp>>>) {
    while let Some(mut op) = list {
        list = op.as_mut().take_next();
        lane_run::perform(op);
    }
}

/// Whether one write may have all of `written` in a stripe: an entry of a row names chunks that follow one another.
pub(super) fn may_be_one(pass: &ArrayPass, stripe: u64, written: Mask) -> bool {
    let is_row = pass.hole.as_ref().is_some_and(|hole| hole.row().is_some());
    !is_row || is_run(&pass.geometry, stripe, written)
}

/// What is to be logged now, by the machine's step: on which members, with what in the sums, and whether the
/// sums go along.
fn wanted(pass: &ArrayPass, body: &Body) -> Option<(Mask, Mask, bool)> {
    match body.step? {
        Step::Log { members, covers } => Some((members, covers, true)),
        Step::Write { .. } => {
            let roles = pass.geometry.roles(body.stripe);
            let members = roles.parity().intersect(pass.writable());
            Some((members, Mask::EMPTY, false))
        }
        _ => None,
    }
}

/// Logs what the op's step asks for, then goes on with it. Process context.
pub(super) fn begin(op: Pin<KBox<LaneOp>>) {
    let pass = op.body.array().map(|pass| pass.again());
    if let Some(pass) = pass {
        if let Some(hole) = pass.hole.as_ref().filter(|hole| hole.row().is_some()) {
            let seen = hole.changes.load(Ordering::SeqCst);
            // One that logs anew may have what the others wait for.
            let is_first = op.body.log.len == 0;
            if is_first && hole.waiters.load(Ordering::SeqCst) > 0 {
                return wait(&pass, op, seen);
            }
        }
    }
    try_begin(op);
}

/// The same for ops that waited, given newest first: the oldest goes first.
pub(super) fn begin_waiting(mut list: Option<Pin<KBox<LaneOp>>>) {
    let mut oldest_first = None;
    while let Some(mut op) = list {
        list = op.as_mut().take_next();
        op.as_mut().set_next(oldest_first);
        oldest_first = Some(op);
    }
    while let Some(mut op) = oldest_first {
        oldest_first = op.as_mut().take_next();
        if let Some(hole) = op.body.array().and_then(|pass| pass.hole.as_ref()) {
            hole.waiters.fetch_sub(1, Ordering::SeqCst);
            // Who is about to wait behind this one looks again.
            hole.changes.fetch_add(1, Ordering::SeqCst);
        }
        try_begin(op);
    }
}

/// What the entry of an op says where the log is a row.
fn row_entry(
    pass: &ArrayPass,
    body: &Body,
    members: Mask,
    covers: Option<Mask>,
) -> Option<LoggedWrite> {
    pass.hole.as_ref()?.row()?;
    let columns = (body.run_column, body.run_sectors);
    let slot = members.first()?;
    Some(logged(&pass.geometry, body.stripe, columns, covers, slot))
}

fn try_begin(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    let body = op.as_mut().body_mut();
    let Some(pass) = body.array().map(|pass| pass.again()) else {
        return;
    };
    let (Some(hole), Some((members, covers, with_sums))) =
        (pass.hole.as_ref(), wanted(&pass, body))
    else {
        return lane_run::fail_op(op);
    };
    if waits_for_losses(&pass) {
        // An entry may take the place of one that is needed if the member is here again.
        if let Some(ready) = wait_for_record(op) {
            lane_run::perform(ready);
        }
        return;
    }
    if pass.is_broken() {
        // Nor may any, where a loss is not to be recorded.
        return lane_run::fail_op(op);
    }
    let bucket = hole.watch.bucket(body.lane);
    let seen = hole.changes.load(Ordering::SeqCst);
    if hole.watch.is_unflushed(bucket) {
        return flush(&pass, hole, op, seen);
    }
    let in_row = row_entry(&pass, body, members, with_sums.then_some(covers));
    let sectors = match in_row {
        Some(write) => write.sum_sectors,
        None if with_sums => body.run_sectors,
        None => 0,
    };
    if body.log.len + members.len() as usize > ENTRIES_MAX {
        // Not with the losses that a level bears.
        return lane_run::fail_op(op);
    }
    match hole.place(members, sectors, bucket, &mut body.log) {
        Ok(()) => {}
        Err(Refusal::Unflushed) => return flush(&pass, hole, op, seen),
        Err(Refusal::Busy) => return wait(&pass, op, seen),
    }
    let number = hole.numbers.fetch_add(1, Ordering::Relaxed) + 1;
    match in_row {
        Some(write) => write_row_head(&pass, body, write),
        None => write_heads(&pass, body, number, members, covers, with_sums),
    }
    body.log.phase = Phase::Logging;
    launch(op, |op, launcher| {
        let body = &op.body;
        let Some(pass) = body.array() else { return };
        let sum_bytes = sectors as usize * 512;
        let Some(heads) = body.log.heads.as_ref() else {
            return;
        };
        for (index, (slot, spot)) in body.log.unwritten().enumerate() {
            let sum = body
                .buffers
                .get(usize::from(slot))
                .and_then(|buffers| buffers.new.as_ref());
            let member = pass.table().member(slot);
            let (Some(member), Some(sum)) = (member, sum.or(Some(heads))) else {
                launcher.fail(slot);
                continue;
            };
            let opf = REQ_OP_WRITE | REQ_SYNC | REQ_META | REQ_FUA;
            let head = Part {
                pages: heads,
                offset_bytes: index * PAGE_BYTES,
                len_bytes: UNIT_BYTES,
            };
            // What does not fit before a ring's end goes to its start.
            let (start_sectors, before) = match spot {
                Spot::Ring(place) => (
                    u64::from(place.unit) * u64::from(UNIT_SECTORS),
                    (place.units_before_end as usize - 1) * UNIT_BYTES,
                ),
                Spot::Row(place) => (u64::from(place.sector), sum_bytes),
            };
            let before = before.min(sum_bytes);
            let first = Part {
                pages: sum,
                offset_bytes: 0,
                len_bytes: before,
            };
            let rest = Part {
                pages: sum,
                offset_bytes: before,
                len_bytes: sum_bytes - before,
            };
            let at = member.log_sector + start_sectors;
            launcher.send_parts(slot, &member.device, opf, at, &[head, first]);
            if rest.len_bytes > 0 {
                launcher.send_parts(slot, &member.device, opf, member.log_sector, &[rest]);
            }
        }
    });
}

/// Fills in the header of the entry that is on its way, in a row.
fn write_row_head(pass: &ArrayPass, body: &mut Body, write: LoggedWrite) {
    let Some(row) = pass.hole.as_ref().and_then(|hole| hole.row()) else {
        return;
    };
    let Some(mut heads) = body.log.heads.take() else {
        return;
    };
    if let Some((slot, Spot::Row(place))) = body.log.unwritten().next() {
        let buffers = body.buffers.get(usize::from(slot));
        let new = buffers.and_then(|buffers| buffers.new.as_ref());
        let len = write.sum_sectors as usize * 512;
        let sum = new.and_then(|pages| pages.as_slice().get(..len));
        let sum_crc = crc::crc32c(u32::MAX, sum.unwrap_or(&[]));
        let entry = Some((write, sum_crc));
        let is_synced = pass.unsynced_from.load(Ordering::Acquire) == u64::MAX;
        ppl::encode(
            row,
            place.generation,
            entry,
            is_synced,
            crc::crc32c,
            heads.as_mut_slice(),
        );
    }
    body.log.heads = Some(heads);
}

/// Fills in the heads of the entries that are on their way.
fn write_heads(
    pass: &ArrayPass,
    body: &mut Body,
    number: u64,
    members: Mask,
    covers: Mask,
    with_sums: bool,
) {
    let Some(HoleParams::Ring { session, .. }) = pass.hole.as_ref().map(|hole| hole.params) else {
        return;
    };
    let Some(mut heads) = body.log.heads.take() else {
        return;
    };
    let roles = pass.geometry.roles(body.stripe);
    let pages = heads.as_mut_slice().chunks_exact_mut(PAGE_BYTES);
    for ((slot, spot), head) in body.log.unwritten().zip(pages) {
        let Spot::Ring(place) = spot else { continue };
        let sum = match (with_sums, roles.q == Some(slot)) {
            (false, _) => Sum::Void,
            (true, false) => Sum::P,
            (true, true) => Sum::Q,
        };
        let entry = Entry {
            number,
            stripe: body.stripe,
            column: body.run_column,
            sectors: body.run_sectors,
            covers,
            on: members,
            slot,
            sum,
            position: place.position,
            oldest: place.oldest,
        };
        let buffers = body.buffers.get(usize::from(slot));
        let new = buffers.and_then(|buffers| buffers.new.as_ref());
        let bytes = new.and_then(|pages| pages.as_slice().get(..entry.sum_bytes()));
        entry.encode(session, crc::crc32c(0, bytes.unwrap_or(&[])), head);
    }
    body.log.heads = Some(heads);
}

/// Flushes all members, then begins again; or waits for the op that does so.
fn flush(pass: &ArrayPass, hole: &Hole, mut op: Pin<KBox<LaneOp>>, seen: u64) {
    // Each write of a row waits for a flush: together, not one after the other.
    if hole.row().is_some() && hole.flushing.swap(true, Ordering::SeqCst) {
        return wait(pass, op, seen);
    }
    let number = pass.flush_begins();
    op.as_mut().body_mut().log.phase = Phase::Flushing(number);
    launch(op, |op, launcher| {
        let Some(pass) = op.body.array() else { return };
        for slot in pass.writable().iter() {
            if let Some(member) = pass.table().member(slot) {
                launcher.flush(slot, &member.device);
            }
        }
    });
}

/// Keeps an op until there is room. `seen` is how much room had been made when there was none.
fn wait(pass: &ArrayPass, mut op: Pin<KBox<LaneOp>>, seen: u64) {
    if let Some(hole) = pass.hole.as_ref() {
        hole.waiters.fetch_add(1, Ordering::SeqCst);
    }
    {
        let mut waiting = pass.waiting.lock();
        let rest = waiting.for_log.take();
        op.as_mut().set_next(rest);
        waiting.for_log = Some(op);
        pass.someone_waits.store(true, Ordering::SeqCst);
    }
    // Who makes room says so before it looks at the flag.
    let has_changed = |hole: &Hole| hole.changes.load(Ordering::SeqCst) != seen;
    if pass.hole.as_ref().is_some_and(|hole| has_changed(hole)) {
        Background::kick(pass.again());
    }
}

/// A batch of the log's is back. Process context.
pub(super) fn batch_back(mut op: Pin<KBox<LaneOp>>) {
    context::may_sleep();
    let (failed, _) = op.batch_failures();
    let body = op.as_mut().body_mut();
    let phase = core::mem::replace(&mut body.log.phase, Phase::Idle);
    let Some(pass) = body.array().map(|pass| pass.again()) else {
        return;
    };
    for slot in failed.iter() {
        pass.table().count_error(slot, false);
        pass.write_errors.fetch_add(1, Ordering::Relaxed);
        pass.member_failed(slot, EventKind::WriteError, 0);
    }
    let Some(hole) = pass.hole.as_ref() else {
        return lane_run::fail_op(op);
    };
    if let Phase::Flushing(number) = phase {
        pass.flush_ended(number, failed);
        if hole.row().is_some() {
            hole.flushing.store(false, Ordering::SeqCst);
            hole.changes.fetch_add(1, Ordering::SeqCst);
            if pass.someone_waits.load(Ordering::SeqCst) {
                Background::kick(pass.again());
            }
        }
        if !failed.intersect(pass.writable()).is_empty() {
            // It stays in use, and its cache cannot be relied on.
            return lane_run::fail_op(op);
        }
        return try_begin(op);
    }
    hole.written(body.log.unwritten());
    body.log.written = body.log.len;
    body.log.covered = true;
    if pass.someone_waits.load(Ordering::SeqCst) {
        Background::kick(pass.again());
    }
    if let Some(Step::Log { .. }) = body.step {
        let result = StepResult {
            failed,
            lost: failed,
            ..StepResult::default()
        };
        body.step = body.work.as_mut().map(|work| work.step(result));
    }
    lane_run::perform(op);
}

/// A run is through: what it logged may be overwritten once what it wrote is durable. Any context.
pub(super) fn run_is_through(pass: &ArrayPass, body: &mut Body) {
    let Some(hole) = pass.hole.as_ref() else {
        return;
    };
    if body.shared {
        return;
    }
    hole.watch.lane_written(hole.watch.bucket(body.lane));
    let log = &mut body.log;
    if log.len > 0 {
        // Of what a lost member did not take the entries stay as they are when nobody records the loss.
        if log.left_behind && pass.is_broken() {
            hole.changes.fetch_add(1, Ordering::SeqCst);
        } else {
            hole.done(log.entries.get(..log.len).unwrap_or(&[]));
        }
        log.entries = [None; ENTRIES_MAX];
        (log.len, log.written) = (0, 0);
        if pass.someone_waits.load(Ordering::SeqCst) {
            Background::kick(pass.again());
        }
    }
    log.left_behind = false;
    log.covered = false;
}

impl Array {
    /// All members are about to be flushed; the number is for [`Array::flush_ended`].
    pub fn flush_begins(&self) -> u64 {
        self.hole
            .as_ref()
            .map_or(0, |hole| hole.watch.flush_begins())
    }

    /// A flush of all members came to its end. It counts when none that is still in use failed, and none is lost
    /// without a record: what that one had in its cache may be missing when it is one like any other again.
    pub fn flush_ended(&self, number: u64, failed: Mask) {
        if let Some(hole) = self.hole.as_ref() {
            if !self.has_left_behind() && failed.intersect(self.writable()).is_empty() {
                hole.watch.flush_ended(number);
            }
        }
    }
}

/// Whether no member has a volatile cache.
pub(super) fn are_durable<'a>(members: impl Iterator<Item = &'a MemberSlot>) -> bool {
    let mut members = members;
    members.all(|member| !member.device.has_write_cache())
}
