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
//!
//! | file | subject |
//! |---|---|
//! | here | an array's log: what has a place in it, and which flushes count |
//! | [`step`] | what an op logs, and when it goes on |
//! | [`wait`] | ops that wait, for a record or for room |
//! | [`entry`] | an op's entries, and what is written of them |
//!
//! `Hole::rings` is a leaf, with interrupts off; so is `Array::waiting`, which has the lists of those that wait.

mod entry;
mod step;
mod wait;

pub(super) use entry::OpLog;
pub(super) use step::{batch_back, begin, may_be_one, must_end, needs_void, run_is_through, Phase};
pub(super) use wait::{
    begin_anew, begin_waiting, go_on_recorded, is_out_of_date, must_wait, wait_for_record,
    waits_for_losses,
};

use super::{Array, MemberSlot};
use crate::model::{Checked, LogRow, Slot};
use crate::personalities::hole_log::{Log, Refusal, Ring, Row, Session, Spot, Watch};
use crate::personalities::Mask;
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
    watch: Watch,
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
        let mut rings = self.rings.lock();
        for slot in members.iter() {
            if let Some(ring) = rings.get_mut(usize::from(slot)) {
                ring.has_room(sectors, flushed, log.latest_on(slot))?;
            }
        }
        for slot in members.iter() {
            if let Some(ring) = rings.get_mut(usize::from(slot)) {
                let spot = ring.place(sectors, bucket, flushed, log.latest_on(slot))?;
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
