// SPDX-License-Identifier: GPL-2.0

//! I/O of users: `submit.rs`, `read.rs`, `write.rs` and `flush.rs`. What comes back is judged in [`crate::judge`].

use crate::disk::{IoError, Token};
use crate::io::{show, Owner, Request};
use crate::lanes::Fragment;
use crate::mistake::Mistake;
use crate::oracle::{Time, WriteId};
use crate::rng::mix;
use crate::sim::Sim;
use emd_core::model::Slot;
use emd_core::personalities::lane::Job;
use emd_core::personalities::{Kind, Mask};
use std::collections::BTreeSet;

/// What a user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To flush.
    Flush,
}

/// I/O of a user.
#[derive(Clone, Debug)]
pub struct UserIo {
    /// What it is.
    pub want: Want,
    /// First sector of the volume.
    pub sector: u64,
    /// Length.
    pub sectors: u32,
    /// Forced to the medium.
    pub fua: bool,
    /// Data: to be written, or read so far.
    pub tokens: Vec<Token>,
    /// What the user makes of the buffer under way.
    changed: Option<Vec<Token>>,
    has_changed: bool,
    /// Parts that are not back.
    pub refs: u32,
    /// Members that did not take it.
    failed_on: Mask,
    good: u32,
    /// It ends with an error.
    pub failed: bool,
    /// `IoRef::epoch`.
    epoch: u32,
    /// The number of a flush, for the log.
    flush: u64,
    /// It is counted as a write in flight: in an odd round?
    pub round: Option<bool>,
    /// When it was handed in, which names it.
    pub submitted: Time,
    /// Of each sector of a read: who lacked what is needed of its row when it was handed in.
    pub lacking: Vec<Mask>,
    /// Sectors of members that could not be read for it.
    pub unread: BTreeSet<(Slot, u64)>,
}

impl UserIo {
    /// The data of one sector, as it is just now.
    pub fn data_at(&mut self, index: usize) -> Token {
        match &self.changed {
            Some(changed) if self.has_changed => changed[index],
            _ => self.tokens[index],
        }
    }

    /// The user changes the buffer.
    pub fn change_now(&mut self) {
        self.has_changed = true;
    }

    /// As the oracle knows it.
    pub fn id(&self) -> WriteId {
        WriteId {
            sector: self.sector,
            sectors: self.sectors,
            submitted: self.submitted,
        }
    }
}

impl Sim {
    /// An I/O of a user.
    pub fn user(&mut self, user: usize) -> &mut UserIo {
        self.users[user].as_mut().expect("the I/O is under way")
    }

    fn new_user(&mut self, io: UserIo) -> usize {
        match self.users.iter().position(Option::is_none) {
            Some(free) => {
                self.users[free] = Some(io);
                free
            }
            None => {
                self.users.push(Some(io));
                self.users.len() - 1
            }
        }
    }

    fn submit(&mut self, want: Want, sector: u64, sectors: u32, fua: bool) -> Option<usize> {
        if self.array.is_none() || sector + u64::from(sectors) > self.geometry.size_sectors() {
            return None;
        }
        let io = UserIo {
            want,
            sector,
            sectors,
            fua,
            tokens: vec![0; sectors as usize],
            changed: None,
            has_changed: false,
            refs: 1,
            failed_on: Mask::EMPTY,
            good: 0,
            failed: false,
            epoch: 0,
            flush: 0,
            round: None,
            submitted: self.now,
            lacking: match want {
                Want::Read => self.all_lacking(sector, sectors),
                Want::Write | Want::Flush => Vec::new(),
            },
            unread: BTreeSet::new(),
        };
        Some(self.new_user(io))
    }

    /// A user writes.
    pub fn user_write(&mut self, sector: u64, sectors: u32, fua: bool, changing: bool) {
        let Some(user) = self.submit(Want::Write, sector, sectors, fua) else {
            return;
        };
        let now = self.now;
        let contents = |salt: u64| {
            let make = move |index| mix((now << 20) | (index << 4) | salt);
            (0..u64::from(sectors)).map(make).collect::<Vec<Token>>()
        };
        let tokens = contents(1);
        // Mirrors send the users' own pages, as others do: copies of changing data may differ.
        let changed = (changing && self.is_parity()).then(|| contents(2));
        let early = self.rng.chance(50);
        self.oracle.submitted(
            self.users[user]
                .as_ref()
                .map_or_else(unreachable_id, UserIo::id),
            &tokens,
            changed.as_deref(),
        );
        self.tell(|_| format!("   user writes {sector}+{sectors} = {}", show(&tokens)));
        let io = self.user(user);
        io.tokens = tokens;
        io.has_changed = changed.is_some() && early;
        io.changed = changed;
        if self.enter(user) {
            self.dispatch(user);
        }
    }

    /// A user reads.
    pub fn user_read(&mut self, sector: u64, sectors: u32) {
        let Some(user) = self.submit(Want::Read, sector, sectors, false) else {
            return;
        };
        if self.enter(user) {
            self.dispatch(user);
        }
    }

    /// A user flushes.
    pub fn user_flush(&mut self) {
        let Some(user) = self.submit(Want::Flush, 0, 0, false) else {
            return;
        };
        if self.enter(user) {
            self.dispatch(user);
        }
    }

    /// `submit::dispatch`.
    pub fn dispatch(&mut self, user: usize) {
        match self.user(user).want {
            Want::Read => {
                let sector = self.user(user).sector;
                let end = sector + u64::from(self.user(user).sectors);
                self.spread(user, sector, end);
                self.unref_user(user);
            }
            Want::Write => {
                if self.arr().broken {
                    self.user(user).failed = true;
                    return self.unref_user(user);
                }
                if self.admit(user) {
                    self.start_write(user);
                }
            }
            Want::Flush => self.start_flush(user),
        }
    }

    fn start_write(&mut self, user: usize) {
        let epoch = self.arr().void_clearings;
        self.user(user).epoch = epoch;
        let (sector, sectors, fua) = {
            let io = self.user(user);
            (
                io.sector,
                io.sectors,
                io.fua && self.mistake != Some(Mistake::FuaDropped),
            )
        };
        match self.geometry.kind() {
            Kind::Mirrored | Kind::Copies
                if !self.arr().task_active
                    && self.arr().bad.is_empty()
                    && !self.may_be_taken_back() =>
            {
                self.write_copies(user, (sector, sectors), fua);
            }
            Kind::Mirrored | Kind::Copies | Kind::Parity => self.write_by_lanes(user),
            _ => self.spread(user, sector, sector + u64::from(sectors)),
        }
        self.unref_user(user);
    }

    /// What a mirror's last good member does not take is taken back from those being rebuilt, by lanes.
    fn may_be_taken_back(&mut self) -> bool {
        let is_mirror = self.geometry.kind() == Kind::Mirrored && !self.has(Mistake::NotTakenBack);
        let array = self.arr();
        is_mirror && array.writable != array.readable
    }

    /// `write::copied`: one clone for each copy.
    fn write_copies(&mut self, user: usize, (start, sectors): (u64, u32), fua: bool) {
        let writable = if self.has(Mistake::RebuildNotWritten) {
            self.arr().readable
        } else {
            self.arr().writable
        };
        let end = start + u64::from(sectors);
        let mut sector = start;
        while sector < end {
            let place = self.geometry.locate(sector);
            let len = place.left_sectors.min(end - sector) as u32;
            let skip = (sector - start) as usize;
            let data = self.user(user).tokens[skip..skip + len as usize].to_vec();
            let mut sent = false;
            for (slot, at) in self.copies_of(sector) {
                if writable.contains(slot) {
                    self.send_piece(user, slot, sector, at, Some((data.clone(), fua)), len);
                    sent = true;
                }
            }
            if !sent {
                self.user(user).failed = true;
            }
            sector += u64::from(len);
        }
    }

    /// Where the copies of a sector are.
    pub fn copies_of(&self, sector: u64) -> Vec<(Slot, u64)> {
        let place = self.geometry.locate(sector);
        let column = match self.geometry.kind() {
            Kind::Copies => place.member_sector % u64::from(self.geometry.chunk_sectors()),
            _ => place.member_sector,
        };
        let copies =
            (0..self.geometry.copies()).filter_map(|index| self.geometry.copy(place.stripe, index));
        copies.map(|(slot, start)| (slot, start + column)).collect()
    }

    /// `read::spread`: each part to one member, or through lanes.
    fn spread(&mut self, user: usize, from: u64, end: u64) {
        let mut sector = from;
        while sector < end {
            let place = self.geometry.locate(sector);
            let sectors = place.left_sectors.min(end - sector) as u32;
            let is_write = self.user(user).want == Want::Write;
            let target = if is_write {
                let is_here = self.arr().readable.contains(place.slot);
                is_here.then_some((place.slot, place.member_sector))
            } else {
                self.read_target(sector, sectors)
            };
            match target {
                Some((slot, member_sector)) => {
                    let skip = (sector - from) as usize;
                    let fua = self.user(user).fua && !self.has(Mistake::FuaDropped);
                    let data = is_write.then(|| {
                        let tokens = &self.user(user).tokens;
                        (tokens[skip..skip + sectors as usize].to_vec(), fua)
                    });
                    self.send_piece(user, slot, sector, member_sector, data, sectors);
                }
                None if self.is_redundant() && !is_write => {
                    let at = (place.slot, place.member_sector);
                    self.read_by_lanes(user, at, (sector, sectors), false);
                }
                None => self.user(user).failed = true,
            }
            sector += u64::from(sectors);
        }
    }

    fn send_piece(
        &mut self,
        user: usize,
        slot: Slot,
        sector: u64,
        member_sector: u64,
        data: Option<(Vec<Token>, bool)>,
        sectors: u32,
    ) {
        let Some((disk, offset)) = self.arr().table[usize::from(slot)] else {
            self.user(user).failed = true;
            return;
        };
        self.user(user).refs += 1;
        let at = offset + member_sector;
        let request = match data {
            Some((data, fua)) => Request::Write(at, data, fua),
            None => Request::Read(at, sectors),
        };
        self.send(disk, request, Owner::Piece(user, slot, sector));
    }

    /// `Array::read_target`. Copies that may differ are read where the resync copies from.
    fn read_target(&mut self, sector: u64, sectors: u32) -> Option<(Slot, u64)> {
        let place = self.geometry.locate(sector);
        if !self.is_copied() {
            let end = place.member_sector + u64::from(sectors);
            let holds = self.holds(place.slot, place.member_sector, end);
            return holds.then_some((place.slot, place.member_sector));
        }
        let mut copies = self.copies_of(sector);
        let readable = self.arr().readable;
        let (stripe, column) = match self.geometry.kind() {
            Kind::Copies => (
                place.stripe,
                (place.member_sector % u64::from(self.unit())) as u32,
            ),
            _ => {
                let unit = u64::from(self.unit());
                (
                    place.member_sector / unit,
                    (place.member_sector % unit) as u32,
                )
            }
        };
        let unsynced = self.sync_mark(stripe, column + sectors) > self.arr().unsynced_from;
        if unsynced && !self.has(Mistake::UnsyncedCopiesRead) {
            if self.sync_outlives_source() && !self.has(Mistake::ReadBeforeLastSync) {
                return None;
            }
            // What is bad in part is read block by block: each one from where the sync takes it.
            let is_bad = |&(slot, at): &(Slot, u64)| {
                let rebuilt = &self.array.as_ref().expect("the volume runs").rebuilt;
                let end = at + u64::from(sectors);
                let is_held = readable.contains(slot) || rebuilt.hold(slot, at, end);
                is_held && self.is_bad(slot, at, u64::from(sectors))
            };
            if copies.iter().any(is_bad) && !self.has(Mistake::BadRangeMovesRead) {
                return None;
            }
            let leaders = self.leaders();
            copies.retain(|&(slot, at)| self.holds(slot, at, at + u64::from(sectors)));
            copies.sort_unstable_by_key(|(slot, _)| (!leaders.contains(*slot), *slot));
            return copies.first().copied();
        }
        copies.retain(|&(slot, at)| self.holds(slot, at, at + u64::from(sectors)));
        if copies.is_empty() {
            return None;
        }
        let nth = (place.member_sector / 16) as usize % copies.len();
        copies.get(nth).copied()
    }

    /// `read::by_lanes`.
    fn read_by_lanes(
        &mut self,
        user: usize,
        (slot, member_sector): (Slot, u64),
        part: (u64, u32),
        after_error: bool,
    ) {
        let (unit, lane) = (u64::from(self.unit()), self.lane_sectors());
        let (sector, sectors) = part;
        let start = self.user(user).sector;
        let mut done = 0;
        while done < sectors {
            let at = member_sector + u64::from(done);
            let row = match self.geometry.kind() {
                Kind::Mirrored => Some((at / unit, (at % unit) as u32)),
                _ => self.geometry.row_at(slot, at),
            };
            let Some((stripe, column)) = row else {
                self.user(user).failed = true;
                return;
            };
            let block_end = ((column / lane + 1) * lane).min(unit as u32);
            let len = (block_end - column).min(sectors - done);
            self.arr().inside += 1;
            let wanted = Mask::single(slot);
            let op = self.new_op(stripe, column, len, Job::Read { wanted });
            // Writes to copies take no lane locks while there is no task: a repair could put what was
            // there before over what has just been written.
            let may_meet = self.is_copied() && !self.arr().lanes_only;
            let repairs = !may_meet || self.has(Mistake::RepairMeetsWrites);
            self.op(op).shared = !(after_error && repairs);
            let fragment = Fragment {
                user,
                slot,
                column,
                sectors: len,
                skip: (sector - start) as u32 + done,
            };
            self.add_fragment(op, fragment);
            self.submit_op(op);
            done += len;
        }
    }

    /// `piece_done`.
    pub fn piece_done(
        &mut self,
        user: usize,
        slot: Slot,
        part: (u64, u32),
        result: Result<(), IoError>,
        data: Vec<Token>,
    ) {
        let (sector, _) = part;
        let is_read = self.user(user).want == Want::Read;
        match result {
            Ok(()) => {
                let io = self.user(user);
                io.good += 1;
                if is_read {
                    let skip = (sector - io.sector) as usize;
                    io.tokens[skip..skip + data.len()].copy_from_slice(&data);
                }
            }
            Err(_) if !self.is_redundant() => self.user(user).failed = true,
            Err(why) if is_read => {
                if why == IoError::Offline {
                    self.drop_member(slot);
                }
                let place = self.geometry.locate(sector);
                let copies = self.copies_of(sector);
                let at = copies.into_iter().find(|copy| copy.0 == slot);
                let at = at.unwrap_or((place.slot, place.member_sector));
                self.read_by_lanes(user, at, part, true);
            }
            Err(_) => {
                let io = self.user(user);
                io.failed_on = io.failed_on.with(slot);
                self.drop_member(slot);
            }
        }
        self.unref_user(user);
    }

    /// A part is back, or was never needed.
    pub fn unref_user(&mut self, user: usize) {
        let io = self.user(user);
        io.refs -= 1;
        if io.refs == 0 {
            self.user_done(user);
        }
    }

    /// `io_done`.
    fn user_done(&mut self, user: usize) {
        let early = self.has(Mistake::AcknowledgedBeforeRecorded);
        let broken = self.arr().broken;
        let readable = self.arr().readable;
        let unrecorded = self.must_record();
        let redundant = self.is_redundant();
        let voids = self.arr().void_clearings;
        let counts = self.has(Mistake::VoidClearingCounts);
        let io = self.user(user);
        if io.want != Want::Read && redundant {
            let nowhere = !io.failed_on.is_empty() && io.good == 0;
            let stale = !io.failed_on.intersect(readable).is_empty();
            // `Array::fail_if_void`.
            let void = io.want == Want::Write && io.epoch != voids && !counts;
            if nowhere || stale || broken || void {
                io.failed = true;
            }
            if unrecorded && !early && !broken {
                self.arr().finished.push(user);
                return;
            }
        }
        self.end_user(user);
    }

    /// `flush::start`.
    fn start_flush(&mut self, user: usize) {
        self.count_as_writer(user);
        if let Some(hole) = &self.hole {
            let number = hole.watch.flush_begins();
            self.user(user).flush = number;
        }
        let writable = if self.has(Mistake::FlushLeftOut) {
            Mask::EMPTY
        } else {
            self.arr().writable
        };
        for slot in writable.iter() {
            if let Some((disk, _)) = self.arr().table[usize::from(slot)] {
                self.user(user).refs += 1;
                self.send_flush(disk, Owner::UserFlush(user, slot));
            }
        }
        self.unref_flush(user);
    }

    /// A member's flush is back.
    pub fn user_flush_done(&mut self, user: usize, slot: Slot, result: Result<(), IoError>) {
        if result.is_err() {
            let io = self.user(user);
            io.failed_on = io.failed_on.with(slot);
            // `FlushOp::bio_failed`.
            self.drop_member(slot);
        }
        self.unref_flush(user);
    }

    /// `FlushOp::batch_done`.
    fn unref_flush(&mut self, user: usize) {
        let io = self.user(user);
        io.refs -= 1;
        if io.refs > 0 {
            return;
        }
        let failed = std::mem::take(&mut io.failed_on);
        let (broken, writable) = (self.arr().broken, self.arr().writable);
        let number = self.user(user).flush;
        if !self.has(Mistake::FlushLeftOut) && failed.intersect(writable).is_empty() {
            self.log_flushed(number);
        }
        let redundant = self.is_redundant();
        let lost =
            broken || !failed.is_empty() && (!redundant || !failed.intersect(writable).is_empty());
        if lost {
            self.user(user).failed = true;
            return self.end_user(user);
        }
        self.user_done(user);
    }
}

fn unreachable_id() -> WriteId {
    WriteId {
        sector: 0,
        sectors: 0,
        submitted: 0,
    }
}
