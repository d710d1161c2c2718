// SPDX-License-Identifier: GPL-2.0

//! Reads: clones to good members, lanes for the rest.

use super::lane_op::Fragment;
use super::lane_run::{self, Manner};
use super::write::{block_of, new_op, Cut};
use super::{Array, ArrayPass};
use crate::block::bio::{IoRef, Piece, PieceInfo, Status, UserBio};
use crate::model::Slot;
use crate::personalities::lane::Job;
use crate::personalities::{Kind, Mask, Place};
use core::sync::atomic::Ordering;

/// Serves a read.
pub(super) fn start(pass: ArrayPass, bio: UserBio) {
    let is_degraded = pass.geometry.kind() == Kind::Parity
        && pass.readable() != Mask::all(pass.geometry.members());
    let Some((io, first)) = IoRef::begin(bio, pass) else {
        return;
    };
    let whole_chunk = u64::from(io.owner().geometry.chunk_sectors());
    if is_degraded && u64::from(io.sectors()) > whole_chunk {
        return by_rects(&io, first);
    }
    spread(&io, first, |pass, place, sectors| {
        pass.read_target(place, sectors)
    });
}

/// Sends the parts of a bio to one member each: the one that `target` says, or through lanes.
pub(super) fn spread(
    io: &IoRef<Array>,
    first: Piece<Array>,
    target: impl Fn(&ArrayPass, &Place, u32) -> Option<Slot>,
) {
    let pass = io.owner();
    let mut unused = Some(first);
    let mut sector = io.sector();
    let end = sector + u64::from(io.sectors());
    while sector < end {
        let place = pass.geometry.locate(sector);
        let sectors = place.left_sectors.min(end - sector) as u32;
        let info = |slot| PieceInfo {
            slot,
            sector,
            sectors,
            member_sector: place.member_sector,
        };
        match target(pass, &place, sectors) {
            Some(slot) => match (
                unused.take().or_else(|| io.piece()),
                pass.table().member(slot),
            ) {
                (Some(piece), Some(member)) => piece.send(
                    io.clone(),
                    info(slot),
                    &member.device,
                    member.offset_sectors + place.member_sector,
                ),
                _ => io.fail(Status::IO_ERROR),
            },
            None if pass.is_redundant() && io.opf() & 1 == 0 => {
                by_lanes(pass, io, info(place.slot), false)
            }
            None => io.fail(Status::IO_ERROR),
        }
        sector += u64::from(sectors.max(1));
    }
}

/// Serves a large read of a degraded parity array, column by column: where a lost member is among those
/// wanted, the others are read once, for themselves and for it.
fn by_rects(io: &IoRef<Array>, first: Piece<Array>) {
    let pass = io.owner();
    let mut unused = Some(first);
    let mut cut = Cut::new(io);
    while let Some(rect) = cut.next(pass) {
        let wanted = rect.written(pass);
        let member_sector = rect.stripe * u64::from(rect.unit) + u64::from(rect.column);
        let readable = pass.readable_up_to(member_sector + u64::from(rect.sectors));
        if !wanted.is_within(readable) {
            let Some(mut op) = new_op(
                pass,
                rect.stripe,
                rect.column,
                rect.sectors,
                Job::Read { wanted },
            ) else {
                io.fail(Status::IO_ERROR);
                continue;
            };
            let body = op.as_mut().body_mut();
            body.shared = true;
            for index in rect.first..=rect.last {
                body.add_fragment(rect.fragment(pass, io, index));
            }
            lane_run::submit(op, Manner::Here);
            continue;
        }
        for index in rect.first..=rect.last {
            let slot = pass.geometry.data_slot(rect.stripe, index);
            let info = PieceInfo {
                slot,
                sector: rect.sector(index),
                sectors: rect.sectors,
                member_sector,
            };
            match (
                unused.take().or_else(|| io.piece()),
                pass.table().member(slot),
            ) {
                (Some(piece), Some(member)) => piece.send(
                    io.clone(),
                    info,
                    &member.device,
                    member.offset_sectors + member_sector,
                ),
                _ => io.fail(Status::IO_ERROR),
            }
        }
    }
}

/// Serves a stretch of one member through lanes: from redundancy, or (after an error) from wherever
/// it can be had, with the bad place written again.
pub(super) fn by_lanes(pass: &ArrayPass, io: &IoRef<Array>, info: PieceInfo, after_error: bool) {
    let unit = u64::from(pass.stripe_unit());
    let mut done = 0u32;
    while done < info.sectors {
        let member_sector = info.member_sector + u64::from(done);
        let column = (member_sector % unit) as u32;
        let sectors = (block_of(pass, column).1 - column).min(info.sectors - done);
        let Some(mut op) = new_op(
            pass,
            member_sector / unit,
            column,
            sectors,
            Job::Read {
                wanted: Mask::single(info.slot),
            },
        ) else {
            // No memory at all, in a context that may not wait for the pool.
            io.fail(Status::IO_ERROR);
            return;
        };
        let body = op.as_mut().body_mut();
        body.shared = !after_error;
        let skip = (info.sector - io.sector()) as usize + done as usize;
        body.add_fragment(Fragment {
            io: io.clone(),
            slot: info.slot,
            column,
            sectors,
            io_offset_bytes: skip * 512,
        });
        lane_run::submit(op, Manner::Here);
        done += sectors;
    }
}

impl Array {
    /// Members that hold what they should below `end` (sectors of the member).
    pub(super) fn readable_up_to(&self, end: u64) -> Mask {
        let readable = self.readable();
        if end <= self.rebuild_done.load(Ordering::Acquire) {
            readable.union(self.writable())
        } else {
            readable
        }
    }

    /// The member to read a place from; `None` when that takes more than one.
    fn read_target(&self, place: &Place, sectors: u32) -> Option<Slot> {
        let readable = self.readable_up_to(place.member_sector + u64::from(sectors));
        if self.geometry.kind() != Kind::Mirrored {
            return readable.contains(place.slot).then_some(place.slot);
        }
        // Streams stay on one member for a while; different regions spread over all.
        let count = u64::from(readable.len());
        if count == 0 {
            return None;
        }
        let nth = (place.member_sector >> READ_REGION_SHIFT) % count;
        readable.iter().nth(nth as usize)
    }
}

/// log2 of the sectors that are read from one copy of a mirror before the next takes over (1 MiB).
const READ_REGION_SHIFT: u32 = 11;
