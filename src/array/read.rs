// SPDX-License-Identifier: GPL-2.0

//! Reads: clones to good members, lanes for the rest.

use super::lane_op::Fragment;
use super::lane_run::{self, Manner};
use super::write::{block_of, new_op, send, stall, Cut};
use super::{Array, ArrayPass};
use crate::block::bio::{IoRef, Piece, PieceInfo, Status, UserBio};
use crate::model::{Layout, Slot};
use crate::personalities::lane::Job;
use crate::personalities::{Kind, Mask, Place};
use core::sync::atomic::Ordering;

/// Serves a read.
pub(super) fn start(pass: ArrayPass, bio: UserBio) {
    let is_degraded = pass.is_redundant()
        && pass.geometry.kind() == Kind::Parity
        && pass.readable() != Mask::all(pass.geometry.members());
    let Some((io, first)) = IoRef::begin(bio, pass) else {
        return;
    };
    let whole_chunk = u64::from(io.owner().geometry.chunk_sectors());
    if is_degraded && u64::from(io.sectors()) > whole_chunk {
        return by_rects(&io, Some(first), 0);
    }
    spread(&io, first, |pass, place, sectors| {
        pass.read_target(place, sectors)
    });
}

/// In the cursor of a read that waits for an op: it counts rectangles. Else it counts sectors.
const IN_RECTS: u64 = 1 << 63;

/// Keeps what is left of a read until there are ops for it.
fn stall_at(io: &IoRef<Array>, cursor: u64) {
    io.set_cursor(cursor);
    stall(io.clone());
}

/// Goes on with a read that waited for an op. All that is left of it goes by lanes: whoever goes on may not wait for clones,
/// which others hold that wait for him.
pub(super) fn resume(pass: &ArrayPass, io: &IoRef<Array>) {
    let cursor = io.cursor();
    if cursor & IN_RECTS != 0 {
        return by_rects(io, None, cursor & !IN_RECTS);
    }
    let mut done = cursor;
    let total = u64::from(io.sectors());
    while done < total {
        let sector = io.sector() + done;
        let Some(place) = pass.locate(sector) else {
            return io.fail(Status::IO_ERROR);
        };
        let info = PieceInfo {
            slot: place.slot,
            sector,
            sectors: place.left_sectors.min(total - done) as u32,
            member_sector: place.member_sector,
        };
        let handed_in = by_lanes(pass, io, info, false);
        done += u64::from(handed_in);
        if handed_in < info.sectors {
            return stall_at(io, done);
        }
    }
}

/// Sends the parts of a bio to one member each: the one that `target` says, or through lanes.
fn spread(
    io: &IoRef<Array>,
    first: Piece<Array>,
    target: impl Fn(&ArrayPass, &Place, u32) -> Option<(Slot, u64)>,
) {
    let pass = io.owner();
    let mut unused = Some(first);
    let mut sector = io.sector();
    let end = sector + u64::from(io.sectors());
    while sector < end {
        let Some(place) = pass.locate(sector) else {
            io.fail(Status::IO_ERROR);
            return;
        };
        let sectors = place.left_sectors.min(end - sector) as u32;
        let info = |(slot, member_sector)| PieceInfo {
            slot,
            sector,
            sectors,
            member_sector,
        };
        match target(pass, &place, sectors) {
            Some(target) => match unused.take().or_else(|| io.piece()) {
                Some(piece) => send(pass, piece.prepare(io.clone(), info(target))),
                None => io.fail(Status::IO_ERROR),
            },
            None if pass.is_redundant() && io.opf() & 1 == 0 => {
                let info = info((place.slot, place.member_sector));
                let handed_in = by_lanes(pass, io, info, false);
                if handed_in < sectors {
                    return stall_at(io, sector - io.sector() + u64::from(handed_in));
                }
            }
            None => io.fail(Status::IO_ERROR),
        }
        sector += u64::from(sectors.max(1));
    }
}

/// Serves a large read of a degraded parity array, column by column: where a lost member is among those
/// wanted, the others are read once, for themselves and for it. Without its first piece it is one that has waited, after
/// `skip` rectangles.
fn by_rects(io: &IoRef<Array>, first: Option<Piece<Array>>, skip: u64) {
    let pass = io.owner();
    let has_waited = first.is_none();
    let mut unused = first;
    let mut cut = Cut::new(io);
    let mut index = 0u64;
    while let Some(rect) = cut.next(pass) {
        index += 1;
        if index <= skip {
            continue;
        }
        let wanted = rect.written(pass);
        let readable = pass.readable_in(rect.stripe, rect.column, rect.column + rect.sectors);
        if has_waited || !wanted.is_within(readable) {
            let Some(mut op) = new_op(
                pass,
                rect.stripe,
                rect.column,
                rect.sectors,
                Job::Read { wanted },
            ) else {
                return stall_at(io, IN_RECTS | (index - 1));
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
                member_sector: pass.row_sector(rect.stripe, slot) + u64::from(rect.column),
            };
            match unused.take().or_else(|| io.piece()) {
                Some(piece) => send(pass, piece.prepare(io.clone(), info)),
                None => io.fail(Status::IO_ERROR),
            }
        }
    }
}

/// Serves a stretch of one member through lanes: from redundancy, or (after an error) from wherever
/// it can be had, with the bad place written again. Gives how many sectors of it that was handed in for: the rest has to wait
/// for an op.
#[must_use]
pub(super) fn by_lanes(
    pass: &ArrayPass,
    io: &IoRef<Array>,
    info: PieceInfo,
    after_error: bool,
) -> u32 {
    let mut done = 0u32;
    while done < info.sectors {
        let member_sector = info.member_sector + u64::from(done);
        let Some((stripe, column)) = pass.row_at(info.slot, member_sector) else {
            io.fail(Status::IO_ERROR);
            return info.sectors;
        };
        let sectors = (block_of(pass, column).1 - column).min(info.sectors - done);
        let Some(mut op) = new_op(
            pass,
            stripe,
            column,
            sectors,
            Job::Read {
                wanted: Mask::single(info.slot),
            },
        ) else {
            return done;
        };
        let body = op.as_mut().body_mut();
        // Where writes go around the lanes, what could not be read is written again later, by a task:
        // from here it might put old data over new.
        body.repairs = after_error && pass.is_copied() && pass.begin_repair();
        let may_repair = body.repairs || after_error && !pass.is_copied() && !pass.read_only;
        body.shared = !may_repair;
        if after_error && !may_repair && !pass.read_only {
            pass.want_repair(info.slot, stripe, column, sectors);
        }
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
    done
}

impl Array {
    /// Members that hold what they should in these columns of a row.
    pub(super) fn readable_in(&self, stripe: u64, column: u32, end_column: u32) -> Mask {
        let mut readable = self.readable();
        let rebuilding = self.writable().minus(readable);
        if rebuilding.is_empty() && !self.has_bad_spots() {
            return readable;
        }
        // Members being rebuilt are right below their marks.
        for slot in rebuilding.iter() {
            let row = self.row_sector(stripe, slot);
            let (start, end) = (row + u64::from(column), row + u64::from(end_column));
            if self.rebuilt.hold(slot, start, end) {
                readable = readable.with(slot);
            }
        }
        for slot in readable.iter() {
            let first = self.row_sector(stripe, slot) + u64::from(column);
            if self.is_bad(slot, first, u64::from(end_column - column)) {
                readable = readable.without(slot);
            }
        }
        readable
    }

    /// Where a sector of the volume is. `None` does not happen below its size.
    pub(super) fn locate(&self, sector: u64) -> Option<Place> {
        match &self.stretches {
            Some(stretches) => stretches.locate(sector),
            None => Some(self.geometry.locate(sector)),
        }
    }

    /// The member to read a place from, and where; `None` when that takes more than one.
    fn read_target(&self, place: &Place, sectors: u32) -> Option<(Slot, u64)> {
        let readable = self.readable();
        if self.stretches.is_some() {
            let is_good = readable.contains(place.slot)
                && !self.is_bad(place.slot, place.member_sector, u64::from(sectors));
            return is_good.then_some((place.slot, place.member_sector));
        }
        if self.geometry.kind() == Kind::Copies {
            return self.read_copy(place, sectors);
        }
        if self.geometry.kind() == Kind::Mirrored {
            return self.read_mirror(place, sectors);
        }
        let is_good = (readable.contains(place.slot)
            || self.is_rebuilt(place.slot, place.member_sector, sectors))
            && !self.is_bad(place.slot, place.member_sector, u64::from(sectors));
        is_good.then_some((place.slot, place.member_sector))
    }

    /// Whether a member that is being rebuilt holds what it should there.
    fn is_rebuilt(&self, slot: Slot, start: u64, sectors: u32) -> bool {
        self.rebuilt.hold(slot, start, start + u64::from(sectors)) && self.writable().contains(slot)
    }

    fn read_mirror(&self, place: &Place, sectors: u32) -> Option<(Slot, u64)> {
        let mut readable = self.readable();
        for slot in self.writable().minus(readable).iter() {
            if self.is_rebuilt(slot, place.member_sector, sectors) {
                readable = readable.with(slot);
            }
        }
        let mut bad = Mask::EMPTY;
        if self.has_bad_spots() {
            for slot in readable.iter() {
                if self.is_bad(slot, place.member_sector, u64::from(sectors)) {
                    bad = bad.with(slot);
                }
            }
            readable = readable.minus(bad);
        }
        if self.is_unsynced_up_to(place.member_sector + u64::from(sectors)) {
            // What is read now is what the sync will make of it: block by block, where a copy is bad in part.
            if self.sync_outlives_source() || !bad.is_empty() {
                return None;
            }
            let leaders = readable.intersect(self.leaders());
            let slot = leaders.first().or(readable.first());
            return slot.map(|slot| (slot, place.member_sector));
        }
        // Streams stay on one member for a while; different regions spread over all.
        let count = u64::from(readable.len());
        if count == 0 {
            return None;
        }
        let nth = (place.member_sector >> READ_REGION_SHIFT) % count;
        let slot = readable.iter().nth(nth as usize)?;
        Some((slot, place.member_sector))
    }

    /// One of a chunk's copies. Those of the far layout are read in front, where they are striped.
    fn read_copy(&self, place: &Place, sectors: u32) -> Option<(Slot, u64)> {
        let readable = self.readable();
        let column = place.member_sector & (u64::from(self.geometry.chunk_sectors()) - 1);
        let copies = self.geometry.copies();
        let first = match self.geometry.shape().layout {
            Layout::Far(_) => 0,
            _ => ((place.member_sector >> READ_REGION_SHIFT) % u64::from(copies.max(1))) as u16,
        };
        let volume_end = self.geometry.stripe_start(place.stripe) + column + u64::from(sectors);
        let unsynced = self.is_unsynced_up_to(volume_end);
        let held = Iterator::chain(first..copies, 0..first).filter_map(|index| {
            let (slot, start) = self.geometry.copy(place.stripe, index)?;
            let sector = start + column;
            let is_held = readable.contains(slot) || self.is_rebuilt(slot, sector, sectors);
            is_held.then_some((slot, sector))
        });
        let is_good =
            |&(slot, sector): &(Slot, u64)| !self.is_bad(slot, sector, u64::from(sectors));
        if unsynced && (self.sync_outlives_source() || !held.clone().all(|copy| is_good(&copy))) {
            // As above.
            return None;
        }
        let mut good = held.filter(is_good);
        if unsynced {
            let leaders = self.leaders();
            good.min_by_key(|(slot, _)| (!leaders.contains(*slot), *slot))
        } else {
            good.next()
        }
    }

    /// Members whose copies count where no sync has passed: of those in sync, the ones that were not rebuilt
    /// since. What others got may be from before the writes that were in flight.
    pub(super) fn leaders(&self) -> Mask {
        let followers = Mask(self.followers.load(Ordering::Acquire));
        self.readable().minus(followers)
    }

    /// Whether copies may disagree somewhere below `end` (in the space in which syncs count).
    fn is_unsynced_up_to(&self, end: u64) -> bool {
        let from = self.unsynced_from.load(Ordering::Acquire);
        from != u64::MAX && end > from
    }
}

/// log2 of the sectors that are read from one copy of a mirror before the next takes over (1 MiB).
const READ_REGION_SHIFT: u32 = 11;
