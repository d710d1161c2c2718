// SPDX-License-Identifier: GPL-2.0

//! The judge of what users get back, and whether everything is at rest.

use crate::array::Dirty;
use crate::disk::{IoError, Token};
use crate::io::{show, Io, Owner, Request};
use crate::oracle::Time;
use crate::sim::Sim;
use crate::users::{UserIo, Want};
use emd_core::model::Slot;
use emd_core::personalities::bad::BadSpot;
use emd_core::personalities::{Health, Mask};

impl Sim {
    /// The user hears of it: is it as promised?
    pub fn end_user(&mut self, user: usize) {
        self.leave();
        let Some(io) = self.users[user].take() else {
            return;
        };
        let now = self.now;
        self.tell(|_| {
            let end = if io.failed { "FAILS" } else { "is good" };
            format!(
                "   user's {:?} {}+{} {end}: {}",
                io.want,
                io.sector,
                io.sectors,
                show(&io.tokens)
            )
        });
        match io.want {
            Want::Write => {
                self.oracle.ended(io.id(), now, !io.failed, io.fua);
                self.report.writes += u64::from(!io.failed);
            }
            Want::Flush if !io.failed => self.oracle.flushed(io.submitted),
            Want::Flush => {}
            Want::Read if io.failed => self.judge_unread(&io),
            Want::Read => {
                for (index, &token) in io.tokens.iter().enumerate() {
                    self.judge(io.sector + index as u64, token, io.submitted, "a read");
                }
            }
        }
        if io.failed && io.want != Want::Read {
            self.judge_failure(&io);
        }
    }

    /// Who has anything of a sector's row, and where: its copies, or its data and all that goes with it.
    fn row_of(&self, sector: u64) -> Vec<(Slot, u64)> {
        let place = self.geometry.locate(sector);
        if self.is_copied() {
            return self.copies_of(sector);
        }
        if !self.is_parity() {
            return vec![(place.slot, place.member_sector)];
        }
        let start = |slot| self.row_sector(place.stripe, slot);
        let column = place.member_sector - start(place.slot);
        let roles = self.geometry.roles(place.stripe);
        let all = roles.all().iter();
        all.map(|slot| (slot, start(slot) + column)).collect()
    }

    /// Members of a sector's row that cannot give what they should have of it.
    fn lacking(&self, sector: u64) -> Mask {
        let Some(array) = &self.array else {
            return Mask::EMPTY;
        };
        let lacks = |&(slot, first): &(Slot, u64)| {
            let spot = BadSpot {
                slot,
                first,
                sectors: 1,
            };
            let is_spoilt = array.table[usize::from(slot)]
                .is_none_or(|(disk, offset)| self.disks[disk].is_bad(offset + first, 1));
            is_spoilt || !array.readable.contains(slot) || array.bad.has(&spot)
        };
        let row = self.row_of(sector).into_iter().filter(lacks);
        row.fold(Mask::EMPTY, |mask, (slot, _)| mask.with(slot))
    }

    /// For [`UserIo::lacking`].
    pub(crate) fn all_lacking(&self, sector: u64, sectors: u32) -> Vec<Mask> {
        let end = sector + u64::from(sectors);
        (sector..end).map(|sector| self.lacking(sector)).collect()
    }

    /// A member's sectors could not be read: for whom. An error over several sectors says of none that it cannot be read, but
    /// of those that are spoilt, and of a disk that does not answer.
    pub(crate) fn note_unread(&mut self, io: &Io, why: IoError) {
        let Request::Read(sector, sectors) = io.request else {
            return;
        };
        let (slot, users) = match io.owner {
            Owner::Piece(user, slot, _) => (slot, vec![user]),
            Owner::Lane(op, slot) => {
                let parts = self.op(op).fragments.iter();
                (slot, parts.map(|part| part.user).collect())
            }
            _ => return,
        };
        let place = self.array.as_ref();
        let Some((_, offset)) = place.and_then(|array| array.table[usize::from(slot)]) else {
            return;
        };
        for at in sector..sector + u64::from(sectors) {
            // Without redundancy nobody asks again.
            let is_all = sectors == 1 || why == IoError::Offline || !self.is_redundant();
            if is_all || self.disks[io.disk].is_bad(at, 1) {
                for &user in &users {
                    self.user(user).unread.insert((slot, at - offset));
                }
            }
        }
    }

    /// A read may fail only if for one of its sectors not enough members could give what they have of its row, all the time: in
    /// the end or at the beginning, or when they were asked.
    fn judge_unread(&mut self, io: &UserIo) {
        let Some(array) = self.array.as_ref().filter(|array| !array.broken) else {
            return;
        };
        let readable = array.readable;
        let is_there = |(index, &lacking): (usize, &Mask)| {
            let sector = io.sector + index as u64;
            let lacking = lacking.union(self.lacking(sector));
            let place = self.geometry.locate(sector);
            let row = self.row_of(sector);
            let left = row.iter().filter(|&&(slot, at)| {
                let is_lost = self.lost.get(&slot).is_some_and(|&at| at >= io.submitted);
                !is_lost && !lacking.contains(slot) && !io.unread.contains(&(slot, at))
            });
            let left = left.fold(Mask::EMPTY, |mask, &(slot, _)| mask.with(slot));
            let borne = match self.is_copied() {
                true => row.len() - 1,
                false => self.geometry.roles(place.stripe).parity().len() as usize,
            };
            left.contains(place.slot) || row.len() - left.len() as usize <= borne
        };
        if io.lacking.iter().enumerate().all(is_there) {
            let text = format!(
                "Read {}+{} fails, though with members {:b} in sync enough is there",
                io.sector, io.sectors, readable.0
            );
            self.violate("errors only if more is lost than redundancy bears", text);
        }
    }

    /// What a sector was seen to hold.
    pub fn judge(&mut self, sector: u64, token: Token, since: Time, who: &str) {
        if self.oracle.check(sector, token, since) {
            return;
        }
        let possible = self.oracle.possible(sector, since);
        let text = format!(
            "{who} finds {:04x} in sector {sector}; possible: {}",
            token & 0xFFFF,
            show(&possible),
        );
        self.violate("acknowledged data is there, and nothing else changes", text);
    }

    /// An error of a write or a flush is honest only if so much is lost.
    fn judge_failure(&mut self, io: &UserIo) {
        let Some(array) = &self.array else { return };
        if array.broken || !self.is_redundant() {
            return;
        }
        let readable = array.readable;
        let at_the_edge = readable
            .iter()
            .any(|slot| self.health(readable.without(slot)) == Health::Failed);
        // A passing error on the way, or unreadable sectors.
        let fault = self.last_fault >= io.submitted
            || !array.bad.is_empty()
            || self
                .disks
                .iter()
                .any(|disk| disk.is_bad(0, disk.size_sectors));
        if fault && (at_the_edge || self.faulty) {
            return;
        }
        let text = format!(
            "{:?} {}+{} fails, with members {:b} in sync and no fault",
            io.want, io.sector, io.sectors, readable.0
        );
        self.violate("errors only if more is lost than redundancy bears", text);
    }

    /// Whether all that users asked for is done.
    pub fn users_are_idle(&self) -> bool {
        self.users.iter().all(Option::is_none)
    }

    /// Whether nothing goes on, and nothing is due.
    pub fn is_at_rest(&self) -> bool {
        let Some(array) = &self.array else {
            return true;
        };
        self.users_are_idle()
            && self.flying.is_empty()
            && array.task.as_ref().is_none_or(|task| task.is_held())
            && array.finished_task.is_none()
            && matches!(array.dirty, Dirty::Clean | Dirty::Dirty)
            && !self.worker_can_go()
            && !self.worker.is_busy()
    }
}
