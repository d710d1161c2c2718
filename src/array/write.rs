// SPDX-License-Identifier: GPL-2.0

//! Writes, discards and write-zeroes: clones where there is no parity, lanes where there is.
//!
//! Write-zeroes of redundant arrays go by lanes, as writes of zeroes; a lane that is all zeroes is not sent, its members are
//! told to fill it (`lane_zero.rs`). A discard of an array with parity is such a write of the lanes that it covers.

use super::lane_op::{Fragment, LaneOp};
use super::lane_run::{self, Manner};
use super::sender::Sender;
use super::{Array, ArrayPass, Waiting, LANE_SECTORS};
use crate::block::bio::{IoRef, Piece, PieceInfo, ReadyPiece, ReadyPieces, Status, UserBio};
use crate::block::raw::{
    REQ_FUA, REQ_NOWAIT, REQ_OP_DISCARD, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES, REQ_PREFLUSH,
};
use crate::model::Slot;
use crate::personalities::lane::Job;
use crate::personalities::{Kind, Mask};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// From this size on another CPU may send a write's copies ([`Sender`]): below it waking one costs more than sending does.
/// 256 KiB.
const LARGE_SECTORS: u32 = 512;

/// Carries out a write.
pub(super) fn start(pass: ArrayPass, bio: UserBio) {
    match pass.geometry.kind() {
        // There are none: `Array::new` refuses them.
        Kind::Concat | Kind::Striped => striped(pass, bio),
        Kind::Mirrored | Kind::Copies
            if bio.op() != REQ_OP_WRITE_ZEROES
                && !pass.task_active.load(Ordering::Acquire)
                && !pass.has_bad_spots()
                // What the last good member did not take is taken back from those being rebuilt.
                && (pass.geometry.kind() != Kind::Mirrored || pass.writable() == pass.readable()) =>
        {
            copied(pass, bio)
        }
        Kind::Mirrored | Kind::Copies if bio.op() == REQ_OP_DISCARD => {
            // It promises nothing; during a task it is left out.
            bio.end(Status::OK);
        }
        Kind::Mirrored | Kind::Copies | Kind::Parity => {
            let io = IoRef::begin_without_piece(bio, pass);
            let pass = io.owner().again();
            resume(&pass, io);
        }
    }
}

fn striped(pass: ArrayPass, bio: UserBio) {
    let Some((io, first)) = IoRef::begin(bio, pass) else {
        return;
    };
    let pass = io.owner();
    let mut copier = Copier::new(&io, first);
    let end = io.sector() + u64::from(io.sectors());
    let mut sector = io.sector();
    while sector < end {
        let here = pass.locate(sector);
        let Some(place) = here.filter(|place| pass.readable().contains(place.slot)) else {
            io.fail(Status::IO_ERROR);
            break;
        };
        let sectors = place.left_sectors.min(end - sector) as u32;
        copier.copy(PieceInfo {
            slot: place.slot,
            sector,
            sectors,
            member_sector: place.member_sector,
        });
        sector += u64::from(sectors.max(1));
    }
    copier.send_held();
}

/// One clone for each copy.
fn copied(pass: ArrayPass, bio: UserBio) {
    let Some((io, first)) = IoRef::begin(bio, pass) else {
        return;
    };
    let pass = io.owner();
    if pass.has_bad_spots() && io.op() != REQ_OP_DISCARD {
        // There are none only as seen before it began: `Array::fail_if_void` goes by what is seen after that.
        let pass = pass.again();
        return resume(&pass, io);
    }
    let mut copier = Copier::new(&io, first);
    let end = io.sector() + u64::from(io.sectors());
    let mut sector = io.sector();
    while sector < end {
        let place = pass.geometry.locate(sector);
        let sectors = place.left_sectors.min(end - sector) as u32;
        let mut sent = false;
        let mut copy = |slot, member_sector| {
            if pass.writable().contains(slot) {
                let info = PieceInfo {
                    slot,
                    sector,
                    sectors,
                    member_sector,
                };
                copier.copy(info);
                sent = true;
            }
        };
        if pass.geometry.kind() == Kind::Mirrored {
            for slot in pass.writable().iter() {
                copy(slot, place.member_sector);
            }
        } else {
            let column = place.member_sector & (u64::from(pass.geometry.chunk_sectors()) - 1);
            for index in 0..pass.geometry.copies() {
                if let Some((slot, start)) = pass.geometry.copy(place.stripe, index) {
                    copy(slot, start + column);
                }
            }
        }
        if !sent {
            io.fail(Status::IO_ERROR);
        }
        sector += u64::from(sectors.max(1));
    }
    copier.send_held();
}

/// Makes the clones of a write and sends them.
struct Copier<'a> {
    io: &'a IoRef<Array>,
    unused: Option<Piece<Array>>,
    /// To the sender, instead of sending them at once.
    hand_over: bool,
    /// What it gets, and how much that is.
    held: ReadyPieces<Array>,
    held_sectors: u32,
}

impl<'a> Copier<'a> {
    fn new(io: &'a IoRef<Array>, first: Piece<Array>) -> Self {
        let pass = io.owner();
        Self {
            io,
            unused: Some(first),
            hand_over: io.sectors() >= LARGE_SECTORS
                && io.op() == REQ_OP_WRITE
                && pass.table().members_copy()
                && pass.sender.has_room(),
            held: ReadyPieces::new(),
            held_sectors: 0,
        }
    }

    /// Sends one copy, or part.
    fn copy(&mut self, info: PieceInfo) {
        let pass = self.io.owner();
        let Some(mut piece) = self.piece() else {
            if self.io.op() == REQ_OP_DISCARD {
                return;
            }
            if !pass.is_redundant() {
                return self.io.fail(Status::IO_ERROR);
            }
            self.io.mark_failed(info.slot);
            return Array::member_failed(
                pass,
                info.slot,
                crate::uapi::event::EventKind::WriteError,
                Some(info.member_sector),
            );
        };
        piece.clear_flags(REQ_PREFLUSH | REQ_NOWAIT);
        let piece = piece.prepare(self.io.clone(), info);
        if self.hand_over {
            self.held.push(piece);
            self.held_sectors = self.held_sectors.saturating_add(info.sectors);
            // The sender begins while the rest is cut.
            if self.held_sectors >= LARGE_SECTORS {
                self.send_held();
            }
        } else {
            send(pass, piece);
        }
    }

    fn piece(&mut self) -> Option<Piece<Array>> {
        if let Some(piece) = self.unused.take() {
            return Some(piece);
        }
        if self.hand_over {
            if let Some(piece) = self.io.piece_now() {
                return Some(piece);
            }
            // What waits for memory holds none.
            self.send_held();
        }
        self.io.piece()
    }

    fn send_held(&mut self) {
        if !self.held.is_empty() {
            let sectors = core::mem::take(&mut self.held_sectors);
            Sender::send(self.io.owner(), self.held.take(), sectors);
        }
    }
}

/// Sends a piece to its member.
pub(super) fn send(pass: &ArrayPass, piece: ReadyPiece<Array>) {
    let info = piece.info();
    match pass.table().member(info.slot) {
        Some(member) => piece.send(&member.device, member.offset_sectors + info.member_sector),
        // Dropped, it counts as failed.
        None => drop(piece),
    }
}

/// First and last column (exclusive) of the lane that `column` of a stripe unit is in.
pub(super) fn block_of(pass: &ArrayPass, column: u32) -> (u32, u32) {
    let first = column - column % LANE_SECTORS;
    (first, (first + LANE_SECTORS).min(pass.stripe_unit()))
}

/// A fresh op; `None` when there is neither one in the pool nor memory for another right now ([`stall`] waits for one).
pub(super) fn new_op(
    pass: &ArrayPass,
    stripe: u64,
    column: u32,
    sectors: u32,
    job: Job,
) -> Option<Pin<KBox<LaneOp>>> {
    let mut op = pass.ops.take()?;
    let body = op.as_mut().body_mut();
    let lanes_per_unit = u64::from(pass.stripe_unit().div_ceil(LANE_SECTORS));
    body.pass = Some(pass.again());
    body.job = job;
    body.stripe = stripe;
    body.column = column;
    body.sectors = sectors;
    body.lane = stripe * lanes_per_unit + u64::from(column / LANE_SECTORS);
    Some(op)
}

/// Cuts a write into ops, from its cursor on: one for each range of columns in which the same
/// members are written throughout. When ops run out, the rest waits for some to come back.
pub(super) fn resume(pass: &ArrayPass, io: IoRef<Array>) {
    let fua = io.opf() & REQ_FUA != 0;
    let mut cut = Cut::new(&io);
    let mut index = 0u64;
    let skip = io.cursor();
    let is_parity = pass.geometry.kind() == Kind::Parity;
    let may_hold =
        is_parity && !fua && skip == 0 && pass.is_worth_holding(io.sector(), io.sectors());
    let lane_data = u64::from(pass.lane_sectors()) * u64::from(pass.geometry.data_members());
    let is_large = is_parity && u64::from(io.sectors()) >= 2 * lane_data;
    let is_discard = io.op() == REQ_OP_DISCARD;
    while let Some(rect) = cut.next(pass) {
        index += 1;
        if index <= skip {
            continue;
        }
        if is_discard && !rect.covers_lane(pass) {
            // It promises nothing, and of these there is nothing that a disk could forget.
            continue;
        }
        let written = rect.written(pass);
        let Some(mut op) = new_op(
            pass,
            rect.stripe,
            rect.column,
            rect.sectors,
            Job::Write { written },
        ) else {
            io.set_cursor(index - 1);
            return stall(io);
        };
        let body = op.as_mut().body_mut();
        body.fua = fua;
        for data_index in rect.first..=rect.last {
            body.add_fragment(rect.fragment(pass, &io, data_index));
        }
        // Lanes of a large write go to other CPUs that have time for them, but for the last: there is nothing else to do then.
        let manner = match rect.covers_lane(pass) {
            false if may_hold => Manner::Held,
            true if is_large && !cut.is_through(pass) => Manner::Elsewhere,
            _ => Manner::Here,
        };
        lane_run::submit(op, manner);
    }
}

/// A range of columns of one stripe in which the data members `first..=last` are written throughout.
pub(super) struct Rect {
    pub(super) stripe: u64,
    /// Sector of the volume where the stripe's data starts.
    pub(super) stripe_start: u64,
    /// Sectors of a stripe unit.
    pub(super) unit: u32,
    pub(super) column: u32,
    pub(super) sectors: u32,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Rect {
    /// Whether all data of the lane is written.
    fn covers_lane(&self, pass: &ArrayPass) -> bool {
        let (first, last) = block_of(pass, self.column);
        self.first == 0
            && self.last + 1 == pass.geometry.data_members()
            && self.column == first
            && self.column + self.sectors == last
    }

    /// Sector of the volume where the part of data member `data_index` starts.
    pub(super) fn sector(&self, data_index: u16) -> u64 {
        self.stripe_start + u64::from(data_index) * u64::from(self.unit) + u64::from(self.column)
    }

    /// The part of data member `data_index`.
    pub(super) fn fragment(
        &self,
        pass: &ArrayPass,
        io: &IoRef<Array>,
        data_index: u16,
    ) -> Fragment {
        let slot = self.slot(pass, data_index);
        Fragment {
            io: io.clone(),
            slot,
            column: self.column,
            sectors: self.sectors,
            io_offset_bytes: (self.sector(data_index) - io.sector()) as usize * 512,
        }
    }

    /// The members written.
    pub(super) fn written(&self, pass: &ArrayPass) -> Mask {
        (self.first..=self.last).fold(Mask::EMPTY, |mask, index| mask.with(self.slot(pass, index)))
    }

    /// The member with data `data_index`; of several copies, the one that stands for all.
    fn slot(&self, pass: &ArrayPass, data_index: u16) -> Slot {
        match pass.geometry.kind() {
            Kind::Mirrored => 0,
            Kind::Copies => pass.geometry.roles(self.stripe).data.first().unwrap_or(0),
            _ => pass.geometry.data_slot(self.stripe, data_index),
        }
    }
}

/// Walks over a bio and yields its [`Rect`]s: stripe by stripe, column by column.
pub(super) struct Cut {
    sector: u64,
    end: u64,
    /// The next column of the current stripe.
    column: u32,
}

impl Cut {
    pub(super) fn new(io: &IoRef<Array>) -> Self {
        Self {
            sector: io.sector(),
            end: io.sector() + u64::from(io.sectors()),
            column: 0,
        }
    }

    /// Whether what it gave last was the end of the bio, or of what is whole in it.
    fn is_through(&self, pass: &ArrayPass) -> bool {
        let unit = u64::from(pass.stripe_unit());
        let stripe_sectors = unit * u64::from(pass.geometry.data_members());
        let next_stripe = (self.sector / stripe_sectors.max(1) + 1) * stripe_sectors;
        u64::from(self.column) >= unit && next_stripe + stripe_sectors > self.end
    }

    pub(super) fn next(&mut self, pass: &ArrayPass) -> Option<Rect> {
        let unit = pass.stripe_unit();
        let data_members = match pass.geometry.kind() {
            Kind::Mirrored | Kind::Copies => 1,
            _ => u64::from(pass.geometry.data_members()),
        };
        let stripe_sectors = u64::from(unit) * data_members;
        while self.sector < self.end {
            let stripe = self.sector / stripe_sectors;
            let stripe_start = stripe * stripe_sectors;
            // What the bio covers of this stripe's data.
            let from = self.sector - stripe_start;
            let to = (self.end - stripe_start).min(stripe_sectors);
            while self.column < unit {
                let column = self.column;
                let next = next_boundary(pass, column, unit, from, to);
                self.column = next;
                // Data members written throughout column..next: i with from ≤ i·unit+column and
                // i·unit+next ≤ to.
                let unit64 = u64::from(unit);
                let first = from.saturating_sub(u64::from(column)).div_ceil(unit64);
                let Some(room) = to.checked_sub(u64::from(next)) else {
                    continue;
                };
                let last = room / unit64;
                // Boundaries fall between the members too: without one in the whole range, skip.
                if first > last || last >= data_members {
                    continue;
                }
                return Some(Rect {
                    stripe,
                    stripe_start,
                    unit,
                    column,
                    sectors: next - column,
                    first: first as u16,
                    last: last as u16,
                });
            }
            self.column = 0;
            self.sector = stripe_start + to;
        }
        None
    }
}

/// The next column after `column` where a lane ends, or where what is covered (`from..to` of the
/// stripe's data) begins or ends in some member.
fn next_boundary(pass: &ArrayPass, column: u32, unit: u32, from: u64, to: u64) -> u32 {
    let mut next = block_of(pass, column).1;
    for edge in [from % u64::from(unit), to % u64::from(unit)] {
        let edge = edge as u32;
        if edge > column && edge < next {
            next = edge;
        }
    }
    next
}

/// Keeps a bio until there are ops for it; then it is resumed. Any context.
pub(super) fn stall(io: IoRef<Array>) {
    let pass = io.owner().again();
    wait_for_op(pass, |waiting| waiting.stalled.push(io));
}

/// Has what `put` puts into a list looked at again when there is an op. Any context.
pub(super) fn wait_for_op(pass: ArrayPass, put: impl FnOnce(&mut Waiting)) {
    {
        let mut waiting = pass.waiting.lock();
        put(&mut waiting);
        pass.someone_waits.store(true, Ordering::SeqCst);
    }
    // Whoever gives one back after this sees the flag.
    if pass.ops.has_some() {
        super::submit::Background::kick(pass);
    }
}
