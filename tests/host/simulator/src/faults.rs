// SPDX-License-Identifier: GPL-2.0

//! What happens from outside: disks that fail, go and come, power cuts and restarts.

use crate::history::{Absent, Op};
use crate::oracle::Time;
use crate::setup;
use crate::sim::Sim;
use crate::worker::Worker;
use emd_core::model::Slot;
use emd_core::personalities::{Health, Mask};

impl Sim {
    pub(crate) fn fault(&mut self, op: Op) {
        let slot_row = |sim: &Self, disk: usize, row: u64| {
            let place = sim.places.iter().flatten().find(|place| place.0 == disk);
            place.map_or(row, |place| place.1 + row)
        };
        self.faulty = true;
        match op {
            Op::Spoil(disk, row) if disk < self.disks.len() => {
                let sector = slot_row(self, disk, row % self.geometry.used_member_sectors());
                self.disks[disk].spoil(sector);
                self.oracle.forget_observations(self.now);
            }
            Op::Rot(disk, row) if disk < self.disks.len() => {
                let sector = slot_row(self, disk, row % self.geometry.used_member_sectors());
                self.disks[disk].rot(sector);
            }
            Op::FailReads(disk, count) if disk < self.disks.len() => {
                self.disks[disk].failing_reads += count;
            }
            Op::FailWrites(disk, count) if disk < self.disks.len() => {
                self.disks[disk].failing_writes += count;
            }
            Op::FailMetadata(disk, count) if disk < self.disks.len() => {
                self.disks[disk].failing_metadata += count;
            }
            Op::FailFlush(disk) if disk < self.disks.len() => {
                self.disks[disk].failing_flushes += 1;
            }
            Op::Kill(disk) if disk < self.disks.len() => {
                self.tear_flying(disk);
                self.disks[disk].dead = true;
                self.oracle.forget_observations(self.now);
            }
            Op::Pull(disk) if disk < self.disks.len() && self.disks[disk].present => {
                self.lose_cache(disk);
                self.disks[disk].present = false;
                self.oracle.forget_observations(self.now);
                self.worker.note_gone(disk);
            }
            // What is unplugged stays dead for who has it open.
            Op::Return(disk)
                if disk < self.disks.len()
                    && !self.disks[disk].present
                    && !self.devices.contains(&Some(disk)) =>
            {
                self.disks[disk].present = true;
                self.disks[disk].dead = false;
                self.worker.note_here(disk);
            }
            _ => {}
        }
    }

    /// A disk goes, and its cache with it.
    pub(crate) fn lose_cache(&mut self, disk: usize) {
        self.tear_flying(disk);
        self.lossy |= !self.is_redundant();
        let slot = self
            .places
            .iter()
            .position(|place| place.is_some_and(|place| place.0 == disk));
        let readable = self
            .array
            .as_ref()
            .map_or(Mask::EMPTY, |array| array.readable);
        // One that more was lost with than is borne is in sync on record, and its cache counts as well. So does that of
        // one that is being rebuilt, below its mark, and of one whose loss no disk may have yet.
        let unrecorded = self.array.as_ref().map(|array| array.unrecorded);
        let counting = readable.union(self.model_in_use());
        let counting = counting.union(unrecorded.unwrap_or(Mask::EMPTY));
        if let Some(slot) = slot.filter(|&slot| counting.contains(slot as Slot)) {
            let rows = self.undurable_rows(slot);
            self.unplugged_rows.push((slot as Slot, rows));
            // One more than is borne: what is left of the stripes may not agree.
            if self.is_redundant() && self.health(readable.without(slot as Slot)) == Health::Failed
            {
                self.tear_rows(slot);
                self.lossy = true;
            }
        }
        self.disks[disk].power_off(Some(&mut self.rng));
    }

    pub(crate) fn add_blank(&mut self) {
        if self.disks.len() >= 12 || self.set.is_none() {
            return;
        }
        let key = self.disks.len();
        let window = self.geometry.used_member_sectors() as usize + self.window_slack();
        self.disks.push(setup::blank(key, &self.disks[0], window));
        self.worker.note_blank(key);
    }

    pub(crate) fn window_slack(&self) -> usize {
        let starts: Vec<u64> = self.places.iter().flatten().map(|place| place.1).collect();
        let least = starts.iter().min().copied().unwrap_or(0);
        starts
            .iter()
            .max()
            .map_or(0, |most| (most - least) as usize)
    }

    /// Power is cut, and comes back.
    pub(crate) fn power_cut(&mut self, absent: Absent) {
        self.report.cuts += 1;
        for disk in 0..self.disks.len() {
            self.tear_flying(disk);
        }
        self.note_torn();
        let all = Mask::all(self.geometry.members());
        let lost = all.minus(self.model_in_sync(None));
        let spares = self.spares_written_to().into_iter();
        self.ahead.extend(spares.map(|disk| (disk, lost)));
        for disk in 0..self.disks.len() {
            self.disks[disk].power_off(Some(&mut self.rng));
        }
        self.go_down();
        self.oracle.restart();
        self.boot(absent);
    }

    /// An orderly end and a new beginning.
    pub(crate) fn restart(&mut self, absent: Absent) {
        for disk in &mut self.disks {
            disk.power_off(None);
        }
        let broken = self.array.as_ref().is_some_and(|array| array.broken);
        self.go_down();
        if !self.lossy && !broken {
            self.oracle.flushed(Time::MAX);
        }
        self.lossy = false;
        self.unplugged_rows.clear();
        self.oracle.restart();
        self.boot(absent);
    }

    pub(crate) fn go_down(&mut self) {
        if let Some(array) = self.array.take() {
            self.last_readable = array.readable;
        }
        self.set = None;
        self.devices.clear();
        self.flying.clear();
        self.hole = None;
        self.ops.clear();
        self.users.clear();
        self.worker = Worker::default();
        self.refused = None;
        self.quiet = false;
        self.settling = false;
        self.now += 1;
    }
}
