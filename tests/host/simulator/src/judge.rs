// SPDX-License-Identifier: GPL-2.0

//! The judge of what users get back, and whether everything is at rest.

use crate::array::Dirty;
use crate::disk::Token;
use crate::io::show;
use crate::oracle::Time;
use crate::sim::Sim;
use crate::users::{UserIo, Want};
use emd_core::personalities::Health;

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
            Want::Read if io.failed => {}
            Want::Read => {
                for (index, &token) in io.tokens.iter().enumerate() {
                    self.judge(io.sector + index as u64, token, io.submitted, "a read");
                }
            }
        }
        if io.failed {
            self.judge_failure(&io);
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

    /// An error is honest only if so much is lost.
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
            && array.task.as_ref().is_none_or(|task| task.is_held)
            && array.finished_task.is_none()
            && matches!(array.dirty, Dirty::Clean | Dirty::Dirty)
            && !self.worker_can_go()
            && !self.worker.is_busy()
    }
}
