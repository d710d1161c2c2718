// SPDX-License-Identifier: GPL-2.0

//! The log of partial parity when an array starts: what it says is put right, then a new session begins.
//!
//! ```text
//!  dirty, and a session is recorded ─► rings read ─► stretches mended on the disks ─► flush
//!                                                                                       │
//!  any start for writing ────────────────────────► HoleLogStarted on disk ◄──────────────┘ ─► the array starts
//! ```
//!
//! Cut anywhere, it is done again at the next start: mending changes parity only, and what the log goes by is
//! data that mending leaves alone.

use super::state::Inner;
use crate::array::HoleParams;
use crate::block::bdev::BlockDevice;
use crate::block::checksum;
use crate::model::{
    Access, Checked, Consistency, Event, HoleLog, LogRow, MemberState, Reason, Slot, VolumeIndex,
};
use crate::personalities::bad::{self, BadSpot};
use crate::personalities::hole_log::entry::{scan, Found};
use crate::personalities::hole_log::replay::{mend, plan, Stretch, SumAt};
use crate::personalities::hole_log::row::HEADER_SECTORS;
use crate::personalities::hole_log::{Session, SECTORS_MAX, UNITS_MAX, UNIT_SECTORS};
use crate::personalities::{Geometry, Mask};
use crate::reason;
use kernel::prelude::*;
use kernel::sync::Arc;

/// So often a read that fails is tried.
const READ_TRIES: u32 = 4;

/// A member's disk, where the member and its ring start on it, and what of the member may be used.
struct Seat {
    device: Arc<BlockDevice>,
    offset_sectors: u64,
    ring_sector: u64,
    ring_sectors: u64,
    /// Sectors of the member that hold what they should.
    right_sectors: u64,
}

/// A replay at work.
pub(super) struct Replay<'a> {
    pub(super) inner: &'a mut Inner,
    pub(super) geometry: Geometry,
    seats: KVec<Option<Seat>>,
    /// What members are known not to hold as they should.
    bad: KVec<BadSpot>,
    blocks: KVVec<KVVec<u8>>,
    sums: [KVVec<u8>; 2],
    /// The member that did not take what it was sent.
    pub(super) refused: Option<Slot>,
}

impl Inner {
    /// The log that EMD keeps for a volume.
    fn hole_log(&self, volume: VolumeIndex) -> Option<HoleLog> {
        self.metadata.as_ref()?.hole_log(volume)
    }

    /// What an array needs of its log; `None` when it has none.
    pub fn hole_params(&self, volume: VolumeIndex) -> Option<HoleParams> {
        match self.hole_log(volume)? {
            HoleLog::Ring { units, session } => Some(HoleParams::Ring {
                session: Session(session?),
                units,
            }),
            HoleLog::Row(row) => Some(HoleParams::Row(LogRow {
                tells_all: !self.is_untold(volume),
                ..row
            })),
        }
    }

    /// Whether it was started though its log did not tell all, and redundancy was not established since.
    fn is_untold(&self, volume: VolumeIndex) -> bool {
        let entry = self.entries.get(usize::from(volume));
        entry.is_some_and(|entry| entry.untold)
    }

    /// Redundancy is established: what a log did not tell is of no account any more.
    pub(super) fn forget_untold(&mut self, volume: VolumeIndex) {
        if let Some(entry) = self.entries.get_mut(usize::from(volume)) {
            entry.untold = false;
        }
    }

    /// Where the ring of a member starts on its disk; 0 when there is none.
    pub fn hole_ring_sector(&self, volume: VolumeIndex, slot: Slot) -> u64 {
        let metadata = self.metadata.as_ref();
        metadata
            .and_then(|metadata| metadata.hole_log_sector(volume, slot))
            .unwrap_or(0)
    }

    /// Puts right what the log of a volume says, if that is due, and says whether it told all. `usable` are the members in
    /// sync whose disks are claimed; `refused` gets the one that does not take what the log says, when that is why it fails.
    #[inline(never)]
    pub fn replay_hole(
        &mut self,
        volume: VolumeIndex,
        usable: Mask,
        refused: &mut Option<Slot>,
    ) -> Checked<bool> {
        let Some(log) = self.hole_log(volume) else {
            return Ok(true);
        };
        let Some(model) = self.model().and_then(|set| set.volume(volume)) else {
            return Ok(true);
        };
        let is_due = match log {
            HoleLog::Row(_) => self.left_log(volume).is_some_and(|log| log.is_due),
            HoleLog::Ring { .. } => model.consistency != Consistency::Clean,
        } && matches!(model.access, Access::ReadWrite);
        let members = model.members.len() as u32;
        let (units, session) = match log {
            _ if !is_due => return Ok(true),
            HoleLog::Ring {
                units,
                session: Some(session),
            } => (units, Session(session)),
            HoleLog::Ring { session: None, .. } => return Ok(true),
            HoleLog::Row(_) => {
                let is_whole = self.replay_row(volume, refused)?;
                // With all members here the resync makes sure.
                return match is_whole || usable.len() == members {
                    true => Ok(is_whole),
                    false => Err(super::left::not_all_told()),
                };
            }
        };
        let sectors = u64::from(units.min(UNITS_MAX)) * u64::from(UNIT_SECTORS);
        let ring = |inner: &Self, slot| (inner.hole_ring_sector(volume, slot), sectors);
        let mut replay = Replay::new(self, volume, usable, ring)?;
        let (mut found, read) = replay.read_rings(session, usable)?;
        let stretches = plan(&replay.geometry, &mut found, read)?;
        let mended = replay.mend_all(&stretches);
        *refused = replay.refused;
        mended?;
        tell(volume, stretches.len());
        Ok(true)
    }
}

/// Why a member cannot be used in an array with a log.
pub(super) fn no_log_place(slot: Slot) -> Reason {
    reason!(
        EOPNOTSUPP,
        "the disk in slot {slot} has no place for the log"
    )
}

/// Says what came of a replay.
pub(super) fn tell(volume: VolumeIndex, mended: usize) {
    if mended > 0 {
        log!(
            pr_info,
            "volume {}: {} stretches that were being written are put right by the log",
            volume,
            mended
        );
    }
}

impl<'a> Replay<'a> {
    /// For a volume whose members in `usable` are in sync, and their disks claimed. `ring` says where a member has its
    /// ring: first sector (0: nowhere) and length.
    #[inline(never)]
    pub(super) fn new(
        inner: &'a mut Inner,
        volume: VolumeIndex,
        usable: Mask,
        ring: impl Fn(&Inner, Slot) -> (u64, u64),
    ) -> Checked<Self> {
        let Some(model) = inner.model().and_then(|set| set.volume(volume)) else {
            return Err(reason!(ENOENT, "there is no volume {volume}"));
        };
        let geometry = Geometry::new(&model.shape, model.size_sectors)?;
        let (level, member_sectors) = (model.shape.level, model.shape.member_sectors);
        let bad = match inner.model() {
            Some(set) => bad::known(set, level, &model.members, member_sectors)?,
            None => KVec::new(),
        };
        let mut seats = KVec::with_capacity(model.members.len(), GFP_KERNEL)?;
        for (slot, member) in (0u16..).zip(model.members.iter()) {
            let right_sectors = match member.state {
                MemberState::InSync if usable.contains(slot) => u64::MAX,
                MemberState::Rebuilding { done_sectors } => done_sectors,
                _ => 0,
            };
            let device = member.disk.and_then(|disk| inner.device(disk)).cloned();
            let (ring_sector, ring_sectors) = ring(inner, slot);
            let seat = device.filter(|_| right_sectors > 0).map(|device| Seat {
                device,
                offset_sectors: member.offset_sectors,
                ring_sector,
                ring_sectors,
                right_sectors,
            });
            seats.push(seat, GFP_KERNEL)?;
        }
        let len = SECTORS_MAX as usize * 512;
        let mut blocks = KVVec::with_capacity(seats.len(), GFP_KERNEL)?;
        for _ in 0..seats.len() {
            blocks.push(KVVec::with_capacity(len, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let sums = [
            KVVec::from_elem(0, len, GFP_KERNEL)?,
            KVVec::from_elem(0, len, GFP_KERNEL)?,
        ];
        Ok(Self {
            inner,
            geometry,
            seats,
            bad,
            blocks,
            sums,
            refused: None,
        })
    }

    /// Mends all there is to mend, in this order, and makes it durable.
    pub(super) fn mend_all(&mut self, stretches: &[Stretch]) -> Checked {
        for stretch in stretches {
            self.mend(stretch)?;
        }
        if !stretches.is_empty() {
            self.flush()?;
        }
        Ok(())
    }

    /// All entries of a session that count, and the members whose rings could be read.
    fn read_rings(&mut self, session: Session, in_sync: Mask) -> Checked<(KVVec<Found>, Mask)> {
        let mut found = KVVec::new();
        let mut read = Mask::EMPTY;
        let mut ring = KVVec::new();
        for slot in in_sync.iter() {
            if self.read_ring(slot, &mut ring)? {
                read = read.with(slot);
                scan(session, slot, &ring, checksum::xxh64, &mut found)?;
            }
        }
        Ok((found, read))
    }

    /// The members whose disks are here.
    pub(super) fn here(&self) -> Mask {
        let seats = (0u16..).zip(self.seats.iter());
        seats
            .filter(|(_, seat)| seat.is_some())
            .fold(Mask::EMPTY, |here, (slot, _)| here.with(slot))
    }

    /// Reads a member's ring; false, and it is said, when it cannot be read.
    pub(super) fn read_ring(&mut self, slot: Slot, ring: &mut KVVec<u8>) -> Checked<bool> {
        let Some(seat) = self.seats.get(usize::from(slot)).and_then(Option::as_ref) else {
            return Ok(false);
        };
        let bytes = usize::try_from(seat.ring_sectors)
            .ok()
            .and_then(|sectors| sectors.checked_mul(512))
            .unwrap_or(0);
        ring.resize(bytes, 0, GFP_KERNEL)?;
        let io = self.inner.io.as_mut();
        if seat.ring_sector == 0
            || bytes == 0
            || io.read(&seat.device, seat.ring_sector, ring).is_err()
        {
            log!(
                pr_warn,
                "the log on disk {} cannot be read",
                seat.device.dev()
            );
            return Ok(false);
        }
        Ok(true)
    }

    /// Mends a stretch; block by block when something in it cannot be read, so that no more is made of that
    /// than it is.
    fn mend(&mut self, stretch: &Stretch) -> Checked {
        let block = self.block_sectors();
        if self.mend_piece(stretch, stretch.sectors <= block)? {
            return Ok(());
        }
        let mut skip = 0;
        while skip < stretch.sectors {
            let sectors = block.min(stretch.sectors - skip);
            self.mend_piece(&stretch.piece(skip, sectors), true)?;
            skip += sectors;
        }
        Ok(())
    }

    fn block_sectors(&self) -> u32 {
        let seats = self.seats.iter().flatten();
        let blocks = seats.map(|seat| seat.device.logical_block_bytes() / 512);
        blocks.max().unwrap_or(1).max(1)
    }

    /// Reads what a member holds, several times if it must be: errors may pass.
    fn read_block(&mut self, slot: usize, sector: u64) -> bool {
        let (Some(Some(seat)), Some(block)) = (self.seats.get(slot), self.blocks.get_mut(slot))
        else {
            return false;
        };
        (0..READ_TRIES).any(|_| {
            let io = self.inner.io.as_mut();
            io.read(&seat.device, seat.offset_sectors + sector, block)
                .is_ok()
        })
    }

    /// Mends a stretch that is read as one. False: something in it cannot be read, and it is not the
    /// last try.
    fn mend_piece(&mut self, stretch: &Stretch, is_last: bool) -> Checked<bool> {
        let len = stretch.sectors as usize * 512;
        let mut readable = Mask::EMPTY;
        let mut targets = Mask::EMPTY;
        for slot in self.geometry.roles(stretch.stripe).all().iter() {
            let at = usize::from(slot);
            let Some(block) = self.blocks.get_mut(at) else {
                continue;
            };
            block.resize(len, 0, GFP_KERNEL)?;
            let (Some(Some(seat)), Some(start)) = (
                self.seats.get(at),
                self.geometry.member_sector(stretch.stripe, slot),
            ) else {
                continue;
            };
            let sector = start + u64::from(stretch.column);
            let is_right = sector + u64::from(stretch.sectors) <= seat.right_sectors;
            let spot = BadSpot {
                slot,
                first: sector,
                sectors: u64::from(stretch.sectors),
            };
            if is_right && self.bad.iter().any(|bad| bad.overlaps(&spot)) {
                if !is_last {
                    return Ok(false);
                }
                // Whatever can be read there; and it stays bad as it is.
                continue;
            }
            if is_right && self.read_block(at, sector) {
                readable = readable.with(slot);
                continue;
            }
            if is_right && !is_last {
                return Ok(false);
            }
            // It is being rebuilt around here, or cannot be read: it is written with what it should hold.
            targets = targets.with(slot);
        }
        let p = self.read_sum(stretch.p, 0, len);
        let q = self.read_sum(stretch.q, 1, len);
        let [p_sum, q_sum] = &self.sums;
        let sums = [
            p_sum.get(..len).filter(|_| p),
            q_sum.get(..len).filter(|_| q),
        ];
        let write = mend(
            &self.geometry,
            stretch,
            readable,
            targets,
            &mut self.blocks,
            sums,
        )?;
        for slot in write.iter() {
            self.write(stretch, slot)?;
        }
        Ok(true)
    }

    /// Reads (part of) a sum; false when there is none.
    fn read_sum(&mut self, sum: Option<SumAt>, which: usize, len: usize) -> bool {
        let Some((sum, room)) = sum.zip(self.sums.get_mut(which)) else {
            return false;
        };
        let Some(seat) = self
            .seats
            .get(usize::from(sum.slot))
            .and_then(Option::as_ref)
        else {
            return false;
        };
        let ring_sectors = seat.ring_sectors;
        let start = u64::from(sum.start_sectors) + u64::from(sum.skip_sectors);
        let start = start.checked_rem(ring_sectors).unwrap_or(0);
        let before = usize::try_from(ring_sectors - start)
            .unwrap_or(usize::MAX)
            .saturating_mul(512);
        let Some((first, rest)) = room
            .get_mut(..len)
            .and_then(|room| room.split_at_mut_checked(before.min(len)))
        else {
            return false;
        };
        let ring = seat.ring_sector;
        let mut io = self.inner.io.as_mut();
        let first_read = io.as_mut().read(&seat.device, ring + start, first);
        first_read.is_ok() && (rest.is_empty() || io.read(&seat.device, ring, rest).is_ok())
    }

    fn write(&mut self, stretch: &Stretch, slot: Slot) -> Checked {
        let at = usize::from(slot);
        let (Some(Some(seat)), Some(block), Some(start)) = (
            self.seats.get(at),
            self.blocks.get(at),
            self.geometry.member_sector(stretch.stripe, slot),
        ) else {
            return Ok(());
        };
        let sector = seat.offset_sectors + start + u64::from(stretch.column);
        let mut done = 0;
        let mut outcome = Ok(());
        while done < block.len() && outcome.is_ok() {
            let mut round = self.inner.io.as_mut().round();
            let part = block.get(done..).unwrap_or(&[]);
            let taken = round.write(slot, &seat.device, sector + (done as u64 >> 9), part);
            round.finish(|_, result, _| outcome = outcome.and(result));
            done += taken.max(512);
        }
        self.refused = outcome.is_err().then_some(slot);
        outcome.map_err(|errno| {
            reason!(
                errno,
                "disk {} does not take what the log says: it is needed as it is",
                seat.device.dev()
            )
        })
    }

    fn flush(&mut self) -> Checked {
        let mut outcome = Ok(());
        for (slot, seat) in (0u16..).zip(self.seats.iter()) {
            let Some(seat) = seat else { continue };
            let mut round = self.inner.io.as_mut().round();
            round.flush(slot, &seat.device);
            round.finish(|_, result, _| {
                if result.is_err() {
                    self.refused = Some(slot);
                }
                outcome = outcome.and(result);
            });
        }
        outcome.map_err(|errno| reason!(errno, "what the log put right cannot be made durable"))
    }
}

impl Inner {
    /// Begins a volume's log anew, if it has one: what is in it counts no more, but for that it did not tell all
    /// ([`Inner::replay_hole`]), where it is a row. (Each member's next entry takes the place of that, and says so too.) A member that does
    /// not take it is lost if the log told all, or with `force`: else only with all members here the resync makes sure.
    #[inline(never)]
    pub fn start_hole(
        &mut self,
        set: &super::managed::ManagedSet,
        volume: VolumeIndex,
        told_all: bool,
        force: bool,
    ) -> Checked {
        let writable = self
            .model()
            .and_then(|model| model.volume(volume))
            .is_some_and(|model| matches!(model.access, Access::ReadWrite));
        match self.hole_log(volume).filter(|_| writable) {
            None => Ok(()),
            Some(HoleLog::Ring { .. }) => self.record(&set.shared, &Event::HoleLogStarted(volume)),
            Some(HoleLog::Row(row)) => {
                if let Some(entry) = self.entries.get_mut(usize::from(volume)) {
                    entry.untold = !told_all;
                }
                let members = self.model().and_then(|model| model.volume(volume));
                let members = members.map_or(0, |volume| volume.members.len() as u16);
                for slot in 0..members {
                    let disk = self.disk_in(volume, slot);
                    let Some(disk) = disk.filter(|&disk| self.is_online(disk)) else {
                        continue;
                    };
                    self.ring_of(volume, slot)?;
                    match self.empty_row(volume, slot, &row, told_all) {
                        Err(reason) if told_all || force => {
                            self.start_without(&set.shared, disk, reason)?;
                        }
                        emptied => emptied?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Empties the ring of a member that is about to join: it may have been one before, in this session.
    #[inline(never)]
    pub fn clear_ring(&mut self, volume: VolumeIndex, slot: Slot) -> Checked {
        let units = match self.hole_log(volume) {
            None => return Ok(()),
            Some(HoleLog::Row(row)) => {
                let told_all = !self.is_untold(volume);
                return self.empty_row(volume, slot, &row, told_all);
            }
            Some(HoleLog::Ring { units, .. }) => units,
        };
        let (device, first) = self.ring_of(volume, slot)?;
        let sectors = u64::from(units) * u64::from(UNIT_SECTORS);
        self.fill_ring(&device, first, first + sectors, &[])
    }

    /// Makes an empty log of the row of a member, which says whether all is known that was in flight.
    #[inline(never)]
    fn empty_row(
        &mut self,
        volume: VolumeIndex,
        slot: Slot,
        row: &LogRow,
        told_all: bool,
    ) -> Checked {
        let (device, first) = self.ring_of(volume, slot)?;
        // An old header may be behind the one at the start; those further away are found by nobody then.
        let sectors = 2 * HEADER_SECTORS;
        let mut start = KVVec::from_elem(0u8, sectors as usize * 512, GFP_KERNEL)?;
        (row.encode)(row, 0, None, told_all, checksum::crc32c, &mut start);
        let behind = first + u64::from(sectors);
        self.fill_ring(&device, first, behind, &start)?;
        self.fill_ring(&device, behind, first + u64::from(row.sectors), &[])
    }

    /// The disk of a member, and where the log starts on it.
    fn ring_of(&self, volume: VolumeIndex, slot: Slot) -> Checked<(Arc<BlockDevice>, u64)> {
        let first = self.hole_ring_sector(volume, slot);
        let device = self
            .disk_in(volume, slot)
            .and_then(|disk| self.device(disk))
            .cloned();
        device
            .filter(|_| first > 0)
            .map(|device| (device, first))
            .ok_or_else(|| no_log_place(slot))
    }

    /// Writes `bytes`, or zeros where there are none, to the sectors from `first` to `end` of a log, and flushes.
    fn fill_ring(
        &mut self,
        device: &Arc<BlockDevice>,
        first: u64,
        end: u64,
        bytes: &[u8],
    ) -> Checked {
        let mut left = usize::try_from(end.saturating_sub(first)).unwrap_or(0) * 512;
        let zeroes = KVVec::from_elem(0u8, left.min(1 << 18), GFP_KERNEL)?;
        let mut rest = bytes;
        let mut sector = first;
        let mut outcome = Ok(());
        while left > 0 && outcome.is_ok() {
            let from: &[u8] = if rest.is_empty() { &zeroes } else { rest };
            let part = from.get(..left.min(from.len())).unwrap_or(&[]);
            let mut round = self.io.as_mut().round();
            let taken = round.write(0, device, sector, part).max(512).min(left);
            round.finish(|_, result, _| outcome = outcome.and(result));
            left -= taken;
            rest = rest.get(taken..).unwrap_or(&[]);
            sector += taken as u64 >> 9;
        }
        if outcome.is_ok() {
            let mut round = self.io.as_mut().round();
            round.flush(0, device);
            round.finish(|_, result, _| outcome = outcome.and(result));
        }
        outcome
            .map_err(|errno| reason!(errno, "the log on disk {} cannot be emptied", device.dev()))
    }
}
