// SPDX-License-Identifier: GPL-2.0

//! Rows that a power cut may have torn, and what the allowances make of them ([`crate::sim::Allowance`]).

use crate::history::WriteHole;
use crate::hole::Hole;
use crate::io::Request;
use crate::lanes::LaneOp;
use crate::sim::Sim;
use emd_core::model::Slot;
use emd_core::personalities::bad::{self, BadChange, BadSpot};
use emd_core::personalities::lane::Job;
use emd_core::personalities::Mask;

impl Sim {
    /// Rows that are not durable on a member may be torn.
    pub(crate) fn tear_rows(&mut self, slot: usize) {
        let rows = self.undurable_rows(slot);
        self.under_way
            .extend(rows.iter().map(|&row| (slot as Slot, row)));
        self.torn.extend(rows);
    }

    pub(crate) fn undurable_rows(&self, slot: usize) -> Vec<u64> {
        let Some((disk, offset)) = self.places[slot] else {
            return Vec::new();
        };
        self.disks[disk]
            .undurable()
            .filter_map(|sector| sector.checked_sub(offset))
            .collect()
    }

    /// What is on its way to a disk when it goes may be there or not; it does not come back good.
    pub(crate) fn tear_flying(&mut self, disk: usize) {
        if !self.disks[disk].answers() {
            // Nothing gets there.
            return;
        }
        for io in self.flying.iter().filter(|io| io.disk == disk) {
            match &io.request {
                Request::Write(sector, data, _) => self.disks[disk].tear_data(*sector, data),
                Request::WriteBytes(sector, bytes, _) => {
                    self.disks[disk].tear_bytes(*sector, bytes)
                }
                _ => {}
            }
        }
    }

    /// Takes note of rows that the cut may tear.
    pub(crate) fn note_torn(&mut self) {
        // What the log has of them is put in its place at the next start, whether or not they got there. Without one, a
        // member that takes no writes any more, whose loss is not recorded, lacks what others may have in their media.
        let has_log = self.hole.is_some();
        let rows = self
            .note_under_way(|op| matches!(op.job, Job::Write { .. }) && (has_log || op.log.wrote));
        self.torn.extend(rows);
        for slot in 0..self.places.len() {
            self.tear_rows(slot);
        }
        let unrecorded = self
            .array
            .as_ref()
            .is_some_and(|array| !array.unrecorded.is_empty());
        if unrecorded || self.worker.is_busy() {
            // A member that was just lost may be taken for good again.
            self.oracle.forget_observations(self.now);
        }
        for (slot, rows) in std::mem::take(&mut self.unplugged_rows) {
            if self.model_in_use().contains(slot) || self.worker.is_busy() {
                self.under_way.extend(rows.iter().map(|&row| (slot, row)));
                self.torn.extend(rows);
            }
        }
        // What is bad on a member is worked out from the rest of its row, as all of a lost one is; also what was just
        // filled, as long as the disks may not say so.
        let change = self.array.as_ref().and_then(|array| array.bad.change());
        let filled = change.and_then(|change| match change {
            BadChange::Cleared(spot) => Some(spot),
            BadChange::Added(_) => None,
        });
        for spot in self.known_holes().into_iter().chain(filled) {
            self.taint(spot.slot, Some((spot.first, spot.first + spot.sectors)));
        }
        let Some(array) = &self.array else { return };
        let readable = array.readable;
        for slot in 0..self.geometry.members() {
            if !readable.contains(slot) {
                self.taint(slot, None);
            }
        }
    }

    /// A member (or one sector of it) is of no use: what it had in torn rows is not known any more.
    pub fn taint(&mut self, slot: Slot, only: Option<(u64, u64)>) {
        if !self.is_parity() || self.torn.is_empty() {
            return;
        }
        let (from, to) = only.unwrap_or((0, u64::MAX));
        let rows: Vec<u64> = self.torn.range(from..to).copied().collect();
        for row in rows {
            let virgin = self.virgin.contains(&row);
            let closed = self.history.config.hole == WriteHole::Closed;
            let Some(sector) = self.geometry.logical(slot, row) else {
                continue;
            };
            // What is not durable on all members counts as being written.
            let is_written = self.under_way.contains(&(slot, row)) || self.oracle.is_open(sector);
            if !virgin && closed && !is_written {
                continue;
            }
            if !self.oracle.is_wild(sector) {
                self.oracle.make_wild(sector, self.now);
                self.report.allowed[usize::from(virgin)] += 1;
            }
        }
    }

    /// What lane ops are writing is under way, though some of it may be durable; answers with the rows of those
    /// that count.
    fn note_under_way(&mut self, counts: impl Fn(&LaneOp) -> bool) -> Vec<u64> {
        let mut rows = Vec::new();
        for op in self.ops.iter().flatten() {
            for slot in self.geometry.roles(op.stripe).all().iter() {
                let start = self.row_sector(op.stripe, slot) + u64::from(op.column);
                let here = start..start + u64::from(op.sectors);
                if let Job::Write { written } = op.job {
                    let written = written.minus(op.log.missing);
                    let of = here.clone().filter(|_| written.contains(slot));
                    self.under_way.extend(of.map(|row| (slot, row)));
                }
                rows.extend(here.filter(|_| counts(op)));
            }
        }
        rows
    }

    /// A write of a lane begins to be sent. What it has for members that are known to be lost is in the log's sum, where that is
    /// the format's own: old or new, whatever comes.
    pub(crate) fn note_missing(&mut self, op: usize) {
        let (Some(array), Some(body)) = (&self.array, &self.ops[op]) else {
            return;
        };
        let here = array.writable.union(array.unrecorded);
        let missing = Mask::all(self.geometry.members()).minus(here);
        let is_run = body.run_sectors < body.sectors;
        if missing.is_empty() || is_run || !self.hole.as_ref().is_some_and(Hole::is_ring) {
            return;
        }
        for fragment in body.fragments.iter().filter(|of| missing.contains(of.slot)) {
            let Some(user) = self.users.get(fragment.user).and_then(Option::as_ref) else {
                continue;
            };
            let first = user.sector + u64::from(fragment.skip);
            for sector in first..first + u64::from(fragment.sectors) {
                self.oracle.is_whole(sector, user.submitted);
            }
        }
        self.op(op).log.missing = missing;
    }

    /// The array breaks in the middle of writes: what they leave behind does not agree.
    pub fn tear_under_way(&mut self) {
        let rows = self.note_under_way(|_| true);
        self.torn.extend(rows);
        // What went with members before that is of the last state that counts.
        for (slot, rows) in std::mem::take(&mut self.unplugged_rows) {
            self.under_way.extend(rows.iter().map(|&row| (slot, row)));
            self.torn.extend(rows);
        }
        let readable = self
            .array
            .as_ref()
            .map_or(Mask::EMPTY, |array| array.readable);
        for slot in 0..self.geometry.members() {
            if !readable.contains(slot) {
                self.taint(slot, None);
            }
        }
    }

    /// A member is lost: until that is recorded, what is being written counts as torn if power goes, since
    /// the member would be taken for good then.
    pub fn note_missed(&mut self, slot: Slot) {
        let ops: Vec<usize> = (0..self.ops.len()).collect();
        for op in ops {
            self.note_missed_by(slot, op);
        }
    }

    /// The same for one op.
    pub fn note_missed_by(&mut self, slot: Slot, op: usize) {
        let Some(body) = self.ops[op].as_ref() else {
            return;
        };
        if matches!(body.job, Job::Write { .. }) {
            let start = self.row_sector(body.stripe, slot) + u64::from(body.column);
            let rows = (start..start + u64::from(body.sectors)).collect();
            self.unplugged_rows.push((slot, rows));
        }
    }

    /// Bad ranges of the volume, as the model of the set has them.
    pub(crate) fn known_holes(&self) -> Vec<BadSpot> {
        let Some(set) = self.set.as_ref().map(|set| set.set()) else {
            return Vec::new();
        };
        let known = set.volume(0).and_then(|volume| {
            let (level, sectors) = (volume.shape.level, volume.shape.member_sectors);
            bad::known(set, level, &volume.members, sectors).ok()
        });
        known.map_or(Vec::new(), |known| known.to_vec())
    }

    /// Redundancy of these rows agrees.
    pub fn untear(&mut self, from: u64, to: u64) {
        let rows: Vec<u64> = self.torn.range(from..to).copied().collect();
        for row in rows {
            self.torn.remove(&row);
            // What made it agree may still be in a cache; that counts where nothing else is allowed.
            if self.history.config.hole == WriteHole::Open {
                self.under_way.retain(|&(_, other)| other != row);
                self.virgin.remove(&row);
            }
        }
    }
}
