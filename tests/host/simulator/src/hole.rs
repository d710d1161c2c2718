// SPDX-License-Identifier: GPL-2.0

//! The log that closes the write hole: `array/hole/` and `set/hole.rs`, on the real rings and entries.
//! Entries are real bytes on the disks; of a sum each sector's token is the first eight. What becomes of
//! them when the volume starts is in [`replay`].

use crate::disk::Token;
use crate::io::{Owner, Request};
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::{DiskIndex, HoleLog, LogRow, Slot};
use emd_core::personalities::hole_log::entry::{crc32c, hash_sum};
use emd_core::personalities::hole_log::row::logged;
use emd_core::personalities::hole_log::{
    Entry, Log, Refusal, Ring, Row, Session, Spot, Sum, Watch, UNITS_MIN, UNIT_BYTES,
};
use emd_core::personalities::lane::{Job, Step, StepResult};
use emd_core::personalities::Mask;
use kernel::prelude::KVVec;
use std::collections::VecDeque;

mod replay;

pub use replay::Replayed;

/// The hash of the kernel.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, seed)
}

/// Units of a ring that are used here: few, so that it goes around.
const UNITS: u32 = UNITS_MIN;

/// Sectors of a row that are used here.
const ROW_SECTORS: u32 = 3 * (8 + 128);

/// The log of the running volume.
#[derive(Debug)]
pub struct Hole {
    session: Session,
    row: Option<LogRow>,
    /// Lanes with entries, and lanes in caches.
    pub watch: Watch,
    rings: Vec<Log>,
    /// First sector of each member's ring on its disk.
    sectors: Vec<u64>,
    number: u64,
    waiting: VecDeque<usize>,
    /// Ops that wait until a loss is recorded.
    for_record: Vec<usize>,
}

impl Hole {
    /// Whether it is the format's own, and not as other drivers have it.
    pub fn is_ring(&self) -> bool {
        self.row.is_none()
    }
}

/// What an op waits for, beside its steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing.
    Idle,
    /// A flush.
    Flushing(u64),
    /// Entries.
    Logging,
}

/// An op's entries.
#[derive(Clone, Debug)]
pub struct OpLog {
    /// See there.
    pub phase: Phase,
    entries: Vec<(Slot, Spot)>,
    written: usize,
    covered: bool,
    /// Members that took writes when the run was planned, and whether any of it was sent.
    pub planned: Mask,
    /// See above.
    pub wrote: bool,
    /// Members that were known to be lost by then.
    pub missing: Mask,
    /// A member did not take this run's write.
    pub left_behind: bool,
}

impl OpLog {
    /// None.
    pub fn new() -> Self {
        Self {
            phase: Phase::Idle,
            entries: Vec::new(),
            written: 0,
            covered: false,
            planned: Mask::EMPTY,
            wrote: false,
            missing: Mask::EMPTY,
            left_behind: false,
        }
    }
}

impl Default for OpLog {
    fn default() -> Self {
        Self::new()
    }
}

fn bytes_of(tokens: &[Token]) -> Vec<u8> {
    let mut bytes = vec![0; tokens.len() * 512];
    for (sector, token) in bytes.chunks_exact_mut(512).zip(tokens) {
        sector[..8].copy_from_slice(&token.to_le_bytes());
    }
    bytes
}

impl Sim {
    /// The log of the volume as the metadata has it: the session that counts.
    fn session(&self) -> Option<Session> {
        match self.set.as_ref()?.hole_log(0)? {
            HoleLog::Ring { session, .. } => session.map(Session),
            HoleLog::Row(_) => Some(Session([0; 2])),
        }
    }

    /// The row that other drivers know, where the log is one.
    fn log_row(&self) -> Option<LogRow> {
        match self.set.as_ref()?.hole_log(0)? {
            HoleLog::Ring { .. } => None,
            HoleLog::Row(row) => Some(LogRow {
                sectors: row.sectors.min(ROW_SECTORS),
                tells_all: !self.is_untold,
                ..row
            }),
        }
    }

    /// `Inner::start_hole`, where the log is a row: one of the members' disks that did not take it.
    pub fn empty_rows(&mut self) -> Option<DiskIndex> {
        let row = self.log_row()?;
        let mut rows = Vec::new();
        for slot in 0..self.geometry.members() {
            let set = self.set.as_ref();
            let sector = set.and_then(|set| set.hole_log_sector(0, slot));
            let disk = self.disk_in(slot);
            let disk = disk.filter(|&disk| self.disk_is_online(disk));
            let disk = disk.and_then(|disk| self.devices[usize::from(disk)]);
            let disk = disk.filter(|&disk| self.disks[disk].answers());
            if let (Some(sector), Some(disk)) = (sector, disk) {
                rows.push((slot, disk, sector));
            }
        }
        // Before any of them is empty.
        let tells_all = rows.iter().all(|&place| self.row_tells_all(place, &row));
        self.is_untold = !tells_all;
        let mut refused = None;
        for (slot, disk, sector) in rows {
            if !self.empty_row(disk, sector, &row, tells_all) {
                refused = refused.or(self.disk_in(slot));
            }
        }
        refused
    }

    /// What `Inner::replay_hole` says, of one member: its slot, its disk, and where its row is.
    fn row_tells_all(&self, (slot, disk, sector): (Slot, usize, u64), row: &LogRow) -> bool {
        let Some(set) = &self.set else { return true };
        if !set.left_log(0).is_some_and(|log| log.is_due) {
            return true;
        }
        let bytes = self.disks[disk].read_bytes(sector, row.sectors);
        let told = set.read_left_log(0, slot, &bytes, &mut KVVec::new());
        told.expect("memory")
    }

    fn empty_row(&mut self, disk: usize, sector: u64, row: &LogRow, tells_all: bool) -> bool {
        self.disks[disk].wipe(sector, row.sectors.into());
        let mut header = vec![0; UNIT_BYTES];
        (row.encode)(row, 0, None, tells_all, crc32c, &mut header);
        let written = self.disks[disk].write_bytes(&mut self.rng, sector, &header, true);
        written.is_ok()
    }

    /// Whether the volume has a log.
    pub fn has_log(&self) -> bool {
        let set = self.set.as_ref();
        set.is_some_and(|set| set.hole_log(0).is_some())
    }

    /// The volume starts with a log, if it has one.
    pub fn open_hole(&mut self) {
        let Some(session) = self.session() else {
            self.hole = None;
            return;
        };
        let row = self.log_row();
        let members = self.geometry.members();
        let sector = |slot| {
            self.set
                .as_ref()
                .and_then(|set| set.hole_log_sector(0, slot))
        };
        self.hole = Some(Hole {
            session,
            row,
            watch: Watch::new(false).expect("memory"),
            rings: (0..members)
                .map(|_| match row {
                    Some(row) => Log::Row(Row::new(row.sectors).expect("memory")),
                    None => Log::Ring(Ring::new(UNITS).expect("memory")),
                })
                .collect(),
            sectors: (0..members).map(|slot| sector(slot).unwrap_or(0)).collect(),
            number: 0,
            waiting: VecDeque::new(),
            for_record: Vec::new(),
        });
    }

    /// A member joins: its ring is emptied.
    /// False: it does not take that, and does not join.
    pub fn hole_member_joins(&mut self, slot: Slot, disk: usize) -> bool {
        let sector = self
            .set
            .as_ref()
            .and_then(|set| set.hole_log_sector(0, slot));
        let Some(hole) = &mut self.hole else {
            return true;
        };
        let (ring, watch) = (&mut hole.rings[usize::from(slot)], &hole.watch);
        ring.clear(|bucket| watch.entry_gone(bucket));
        hole.sectors[usize::from(slot)] = sector.unwrap_or(0);
        let sector = hole.sectors[usize::from(slot)];
        let row = hole.row;
        match row {
            _ if self.has(Mistake::RingNotCleared) => true,
            Some(row) => self.empty_row(disk, sector, &row, row.tells_all),
            None => {
                self.disks[disk].wipe(sector, u64::from(UNITS) * 8);
                true
            }
        }
    }

    /// `hole::must_wait` and `wait_for_record`: whether an op is kept until a loss is recorded.
    pub fn waits_for_record(&mut self, op: usize) -> bool {
        let body = self.op(op);
        let hinges = match (body.step, body.job) {
            (Step::Log { .. } | Step::Write { .. }, Job::Write { .. }) => true,
            (Step::Done(_), _) => body.log.left_behind,
            _ => false,
        };
        hinges && self.keep_for_record(op)
    }

    /// `hole::is_out_of_date`.
    pub fn is_out_of_date(&mut self, op: usize) -> bool {
        let writable = self.arr().writable;
        let may_be = self.hole.is_some() && !self.has(Mistake::PlannedWithLost);
        let body = self.op(op);
        may_be
            && matches!(body.job, Job::Write { .. })
            && matches!(body.step, Step::Log { .. } | Step::Write { .. })
            && !body.log.wrote
            && !body.log.planned.minus(writable).is_empty()
    }

    /// `hole::begin_anew`.
    pub fn begin_anew(&mut self, op: usize) {
        self.log_run_is_through(op);
        self.begin(op);
    }

    /// `hole::must_end`.
    pub fn write_must_end(&mut self, op: usize) -> bool {
        let changes = match self.op(op).step {
            Step::Log { .. } => true,
            Step::Write { members } => self.changes_data(op, members),
            _ => false,
        };
        changes && self.hole.is_some() && self.arr().broken
    }

    /// `hole::changes_data`.
    fn changes_data(&mut self, op: usize, members: Mask) -> bool {
        let body = self.op(op);
        let (job, stripe) = (body.job, body.stripe);
        match job {
            Job::Write { .. } => true,
            Job::Sync { .. } => {
                let data = self.geometry.roles(stripe).data;
                !members.intersect(data).is_empty()
            }
            Job::Read { .. } | Job::Rebuild { .. } => false,
        }
    }

    fn keep_for_record(&mut self, op: usize) -> bool {
        let waits = !self.arr().unrecorded.is_empty() && !self.arr().broken;
        if !waits || self.has(Mistake::LossNotWaitedFor) {
            return false;
        }
        let Some(hole) = &mut self.hole else {
            return false;
        };
        hole.for_record.push(op);
        true
    }

    /// `hole::go_on_recorded`.
    pub fn go_on_recorded(&mut self) {
        let Some(hole) = &mut self.hole else { return };
        for op in std::mem::take(&mut hole.for_record) {
            self.perform(op);
        }
    }

    /// `hole::needs_void`.
    pub fn needs_void(&mut self, op: usize, members: Mask) -> bool {
        if self.hole.is_none() || self.has(Mistake::VoidLeftOut) {
            return false;
        }
        let body = self.op(op);
        let (lane, stripe, covered) = (body.lane, body.stripe, body.log.covered);
        let roles = self.geometry.roles(stripe);
        let changes_data = self.changes_data(op, members);
        let writable = self.arr().writable;
        let Some(hole) = &self.hole else { return false };
        changes_data
            && !covered
            && (hole.row.is_some() || hole.watch.has_entry(hole.watch.bucket(lane)))
            && !roles.parity().intersect(writable).is_empty()
    }

    /// `hole::begin`.
    pub fn log_begin(&mut self, op: usize) {
        if self.keep_for_record(op) {
            return;
        }
        if self.arr().broken {
            return self.fail_op(op);
        }
        if self.is_out_of_date(op) {
            return self.begin_anew(op);
        }
        let body = self.op(op);
        let (lane, stripe, step) = (body.lane, body.stripe, body.step);
        let (column, sectors) = (body.run_column, body.run_sectors);
        let (members, covers, with_sums) = match step {
            Step::Log { members, covers } => (members, covers, true),
            _ => {
                let parity = self.geometry.roles(stripe).parity();
                (parity.intersect(self.arr().writable), Mask::EMPTY, false)
            }
        };
        if with_sums && self.has(Mistake::LogLeftOut) {
            let body = self.op(op);
            body.next(StepResult::default());
            return self.perform(op);
        }
        let no_flush = self.has(Mistake::LogWithoutFlush);
        let geometry = self.geometry;
        let Some(hole) = &mut self.hole else { return };
        let bucket = hole.watch.bucket(lane);
        if hole.watch.is_unflushed(bucket) && !no_flush {
            return self.log_flush(op);
        }
        let flushed = hole.watch.flushed();
        let in_row = hole.row.zip(members.first()).map(|(row, slot)| {
            let covers = with_sums.then_some(covers);
            (
                row,
                logged(&geometry, stripe, (column, sectors), covers, slot),
            )
        });
        let of = match in_row {
            Some((_, write)) => write.sum_sectors,
            None if with_sums => sectors,
            None => 0,
        };
        let flushed = match hole.row {
            Some(_) if no_flush => u64::MAX,
            _ => flushed,
        };
        let earlier = self.op(op).log.entries.clone();
        let own = |slot| {
            let mut entries = earlier.iter().rev();
            entries.find(|(on, _)| *on == slot).map(|(_, spot)| *spot)
        };
        let Some(hole) = &mut self.hole else { return };
        let refused = members.iter().find_map(|slot| {
            let ring = &mut hole.rings[usize::from(slot)];
            ring.has_room(of, flushed, own(slot)).err()
        });
        match refused {
            Some(Refusal::Busy) => return hole.waiting.push_back(op),
            Some(Refusal::Unflushed) => return self.log_flush(op),
            None => {}
        }
        let mut places = Vec::new();
        for slot in members.iter() {
            let spot = hole.rings[usize::from(slot)].place(of, bucket, flushed, own(slot));
            places.push((slot, spot.expect("there is room")));
            if hole.row.is_none() {
                hole.watch.entry_put(bucket);
            }
        }
        hole.number += 1;
        let (number, session, starts) = (hole.number, hole.session, hole.sectors.clone());
        let roles = self.geometry.roles(stripe);
        let not_fua = self.has(Mistake::LogInCache);
        let is_synced = self.arr().unsynced_from == u64::MAX;
        let body = self.op(op);
        body.log.phase = Phase::Logging;
        body.log.entries.extend(&places);
        body.begin_batch();
        for (slot, spot) in places {
            let sum = match of > 0 {
                true => bytes_of(&self.op(op).new_of(slot)),
                false => Vec::new(),
            };
            let mut bytes = vec![0; UNIT_BYTES];
            let start = starts[usize::from(slot)];
            let (first, before) = match (spot, in_row) {
                (Spot::Ring(place), _) => {
                    let entry = Entry {
                        number,
                        stripe,
                        column,
                        sectors,
                        covers,
                        on: members,
                        slot,
                        sum: match (with_sums, roles.q == Some(slot)) {
                            (false, _) => Sum::Void,
                            (true, false) => Sum::P,
                            (true, true) => Sum::Q,
                        },
                        position: place.position,
                        oldest: place.oldest,
                    };
                    entry.encode(session, hash_sum([&sum, &[]], hash), &mut bytes);
                    let before = place.units_before_end as usize * UNIT_BYTES;
                    (start + u64::from(place.unit) * 8, before)
                }
                (Spot::Row(place), Some((row, write))) => {
                    let entry = Some((write, crc32c(!0, &sum)));
                    (row.encode)(&row, place.generation, entry, is_synced, crc32c, &mut bytes);
                    (start + u64::from(place.sector), usize::MAX)
                }
                (Spot::Row(_), None) => unreachable!("a place in a row"),
            };
            bytes.extend(sum);
            let rest = bytes.split_off(before.min(bytes.len()));
            let Some((disk, _)) = self.arr().table[usize::from(slot)] else {
                self.op(op).fail_in_batch(slot);
                continue;
            };
            let mut parts = vec![(first, bytes)];
            if !rest.is_empty() {
                parts.push((start, rest));
            }
            for (sector, bytes) in parts {
                self.op(op).count_in_batch();
                let request = Request::WriteBytes(sector, bytes, !not_fua);
                self.send(disk, request, Owner::Lane(op, slot));
            }
        }
        if self.op(op).is_batch_back() {
            self.log_back(op);
        }
    }

    fn log_flush(&mut self, op: usize) {
        let Some(hole) = &self.hole else { return };
        let number = hole.watch.flush_begins();
        let body = self.op(op);
        body.log.phase = Phase::Flushing(number);
        body.begin_batch();
        for slot in self.arr().writable.iter() {
            if let Some((disk, _)) = self.arr().table[usize::from(slot)] {
                self.op(op).count_in_batch();
                self.send_flush(disk, Owner::Lane(op, slot));
            }
        }
        if self.op(op).is_batch_back() {
            self.log_back(op);
        }
    }

    /// `hole::batch_back`.
    pub fn log_back(&mut self, op: usize) {
        let failed = self.op(op).failed_in_batch();
        for slot in failed.iter() {
            self.drop_member(slot);
        }
        let writable = self.arr().writable;
        let body = self.op(op);
        let phase = std::mem::replace(&mut body.log.phase, Phase::Idle);
        if let Phase::Flushing(number) = phase {
            if failed.intersect(writable).is_empty() {
                self.log_flushed(number);
            }
            return self.log_begin(op);
        }
        let body = self.op(op);
        let from = std::mem::replace(&mut body.log.written, body.log.entries.len());
        let entries = body.log.entries[from..].to_vec();
        body.log.covered = true;
        if matches!(body.step, Step::Log { .. }) {
            body.next(StepResult {
                failed,
                lost: failed,
                ..StepResult::default()
            });
        }
        if let Some(hole) = &mut self.hole {
            for (slot, place) in entries {
                let watch = &hole.watch;
                hole.rings[usize::from(slot)].written(place, |bucket| watch.entry_gone(bucket));
            }
        }
        self.perform(op);
        self.log_wake();
    }

    /// `Array::flush_ended`.
    pub fn log_flushed(&mut self, number: u64) {
        let array = self.arr();
        let is_known = array.unrecorded.is_empty() && !array.broken;
        if let Some(hole) = self.hole.as_ref().filter(|_| is_known) {
            hole.watch.flush_ended(number);
        }
    }

    /// `hole::run_is_through`.
    pub fn log_run_is_through(&mut self, op: usize) {
        if self.hole.is_none() || self.op(op).shared {
            return;
        }
        let body = self.op(op);
        let lane = body.lane;
        let entries = std::mem::take(&mut body.log.entries);
        (body.log.written, body.log.covered, body.log.wrote) = (0, false, false);
        body.log.missing = Mask::EMPTY;
        let left_behind = std::mem::take(&mut body.log.left_behind);
        let stays = left_behind && self.arr().broken;
        let Some(hole) = &mut self.hole else { return };
        hole.watch.lane_written(hole.watch.bucket(lane));
        let flush = hole.watch.next_flush();
        for (slot, place) in entries.iter().filter(|_| !stays) {
            hole.rings[usize::from(*slot)].done(*place, flush);
        }
        if !entries.is_empty() {
            self.log_wake();
        }
    }

    /// Those that waited for room try again.
    fn log_wake(&mut self) {
        let Some(hole) = &mut self.hole else { return };
        for op in std::mem::take(&mut hole.waiting) {
            self.log_begin(op);
        }
    }
}
