// SPDX-License-Identifier: GPL-2.0

//! The entries of an op: which it has, and what is written of them: a head each, and a sum, which is the new
//! parity in the op's own buffer.
//!
//! No lock: an op has its entries to itself. Room for heads is the op's from the start, so nothing is allocated here.

use super::{HoleParams, Phase};
use crate::array::lane_op::{Body, LaneOp};
use crate::array::ArrayPass;
use crate::block::batch::{launch, Part};
use crate::block::checksum;
use crate::block::pages::{Pages, PAGE_BYTES};
use crate::block::raw::{REQ_FUA, REQ_META, REQ_OP_WRITE, REQ_SYNC};
use crate::model::{LoggedWrite, Slot};
use crate::personalities::hole_log::entry::hash_sum;
use crate::personalities::hole_log::row::logged;
use crate::personalities::hole_log::{Entry, Spot, Sum, UNIT_BYTES, UNIT_SECTORS};
use crate::personalities::Mask;
use core::sync::atomic::Ordering;
use kernel::bindings::gfp_t;
use kernel::prelude::*;

/// Most entries that a run of an op has at a time: P and Q, logged anew when members are lost on the way.
const ENTRIES_MAX: usize = 8;

/// An op's entries.
pub(in crate::array) struct OpLog {
    pub(in crate::array) phase: Phase,
    /// Room for the heads of two entries, on arrays with a log.
    heads: Option<Pages>,
    entries: [Option<(Slot, Spot)>; ENTRIES_MAX],
    /// How many of those are there; and how many of them are on their members.
    len: usize,
    written: usize,
    /// Earlier entries of this run's columns are void, or its own are there.
    pub(super) covered: bool,
    /// Members that took writes when the run was planned, and whether any of it was sent to them.
    pub(in crate::array) planned: Mask,
    pub(in crate::array) wrote: bool,
    /// A member did not take this run's write.
    pub(in crate::array) left_behind: bool,
    /// This run waited for room, and others may wait only to go behind it.
    pub(super) waited: bool,
}

impl OpLog {
    /// `flags` is a raw `gfp_t`.
    pub(in crate::array) fn new(has_log: bool, flags: gfp_t) -> Result<Self> {
        let heads = if has_log {
            let mut heads = Pages::alloc(1, flags).ok_or(ENOMEM)?;
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
            planned: Mask::EMPTY,
            wrote: false,
            left_behind: false,
            waited: false,
        })
    }

    /// There are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `count` more can be kept in mind.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.len + count <= ENTRIES_MAX
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Option<(Slot, Spot)>] {
        self.entries.get(..self.len).unwrap_or(&[])
    }

    /// The last one on a member.
    pub(super) fn latest_on(&self, slot: Slot) -> Option<Spot> {
        let mut entries = self.entries.iter().rev().flatten();
        entries.find(|(on, _)| *on == slot).map(|(_, spot)| *spot)
    }

    /// Adds one.
    pub(super) fn push(&mut self, slot: Slot, spot: Spot) {
        if let Some(room) = self.entries.get_mut(self.len) {
            *room = Some((slot, spot));
            self.len += 1;
        }
    }

    /// Entries that are on their way now.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = (Slot, Spot)> + '_ {
        let range = self.entries.get(self.written..self.len).unwrap_or(&[]);
        range.iter().copied().flatten()
    }

    /// Those are on their members.
    pub(super) fn note_written(&mut self) {
        self.written = self.len;
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.entries = [None; ENTRIES_MAX];
        (self.len, self.written) = (0, 0);
    }
}

/// What the entry of an op says where the log is a row.
pub(super) fn row_entry(
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

/// Fills in the header of the entry that is on its way, in a row.
pub(super) fn write_row_head(pass: &ArrayPass, body: &mut Body, write: LoggedWrite) {
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
        let sum_crc = checksum::crc32c(u32::MAX, sum.unwrap_or(&[]));
        let entry = Some((write, sum_crc));
        let is_synced = pass.unsynced_from.load(Ordering::Acquire) == u64::MAX;
        (row.encode)(
            row,
            place.generation,
            entry,
            is_synced,
            checksum::crc32c,
            heads.as_mut_slice(),
        );
    }
    body.log.heads = Some(heads);
}

/// Fills in the heads of the entries that are on their way.
pub(super) fn write_heads(
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
        let sum_hash = hash_sum([bytes.unwrap_or(&[]), &[]], checksum::xxh64);
        entry.encode(session, sum_hash, head);
    }
    body.log.heads = Some(heads);
}

/// Sends the entries that are on their way, each with its `sectors` of sum. Process context.
pub(super) fn send(op: Pin<KBox<LaneOp>>, sectors: u32) {
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
