// SPDX-License-Identifier: GPL-2.0

//! Reads: clones to good members, lanes for the rest.

use super::lane_op::Fragment;
use super::write::{block_of, new_op};
use super::{lane_run, Array, ArrayPass};
use crate::block::bio::{IoRef, Piece, PieceInfo, Status, UserBio};
use crate::model::Slot;
use crate::personalities::lane::Job;
use crate::personalities::{Kind, Mask, Place};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// Serves a read.
pub(super) fn start(pass: ArrayPass, bio: UserBio) {
    let Some((io, first)) = IoRef::begin(bio, pass) else {
        return;
    };
    spread(&io, first, |pass, place, sectors| pass.read_target(place, sectors));
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
            Some(slot) => match (unused.take().or_else(|| io.piece()), pass.table().member(slot)) {
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
        lane_run::submit(op);
        done += sectors;
    }
}

impl Array {
    /// The member to read a place from; `None` when that takes more than one.
    fn read_target(&self, place: &Place, sectors: u32) -> Option<Slot> {
        let mut readable = self.readable();
        if place.member_sector + u64::from(sectors) <= self.rebuild_done.load(Ordering::Acquire) {
            readable = readable.union(self.writable());
        }
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
