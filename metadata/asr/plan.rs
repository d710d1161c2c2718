// SPDX-License-Identifier: GPL-2.0

//! The order of writes.
//!
//! There is one table on a disk, and the reserved block points at it. So an update reaches a disk by
//! one write of one sector, the only thing that is atomic:
//!
//! * When one sector of the table changes (tables of up to seven lines have just one), it is that
//!   sector.
//! * Else the new table is written into the unused second half of its place and the reserved block
//!   is pointed at it. Then the table in front is written and the reserved block pointed back, since
//!   not everybody follows the pointer. At last the second half gets back what was there.
//!
//! All disks are written side by side. A crash may leave some of them with the new state and others
//! with the old one; each copy is whole, and assembly takes the newest. What the newest says of a
//! disk holds for it though its own copy is older. For marks (dirty, progress) that is not needed:
//! they keep the sequence number, and assembly takes the more careful of all copies; of all members where just spares have
//! the newest.
//!
//! | phase | |
//! |---|---|
//! | 0, 1, 2 | new disks: reserved block erased; table; reserved block |
//! | 3 | new table into the second half |
//! | 4 | the one sector; or the reserved block, pointing at the second half |
//! | 5 | table in front |
//! | 6 | reserved block, pointing there |
//! | 7 | second half as it was |
//! | 8, 9 | a disk that leaves: reserved block erased; first sector of the table |
//!
//! Phases in which nothing is written are left out. A disk that did not take all of a plan, and stays in use,
//! gets all of these the next time; but it depends on how far it came what is not written over. Where its reserved block
//! points at the second half, that is left alone (phases 5 and 6). Where that block itself may be either of two,
//! both halves are whole, and it is first pointed at the second one (phases 4 to 6).

use super::assemble::disk_buffer;
use super::layout::*;
use super::set::{buffer, AsrSet, Home, Live, Touched};
use crate::model::{Checked, Context, DiskIndex, PlanWrite, Source, UpdatePlan};

/// Most writes that one disk takes in one plan.
pub const WRITES_PER_DISK: usize = 5;

/// How a disk gets from the table that it has to the new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It has it.
    Nothing,
    /// New disk.
    Fresh,
    /// This sector of the table.
    Sector(u64),
    /// By way of the second half.
    Halves,
    /// Its reserved block points at the second half already.
    Back,
    /// Its reserved block may do so, and what is there is whole.
    Turned,
}

impl AsrSet {
    /// Makes room for the largest plan with the disks that are here now.
    pub fn reserve_plan(&mut self) -> Checked {
        let disks = self.disks.len().saturating_add(1);
        self.plan.reserve(disks.saturating_mul(WRITES_PER_DISK))
    }

    /// Most lines of a table that can be changed safely on all disks: those of one sector as long as one of them has no second
    /// half in which a longer one could be for a moment.
    pub fn lines_max(&self) -> usize {
        match self.each_home().all(|(_, home)| home.halves) {
            true => LINES_WRITTEN_MAX,
            false => LINES_OF_SECTOR,
        }
    }

    fn each_home(&self) -> impl Iterator<Item = (DiskIndex, &Home)> + '_ {
        (0u16..)
            .zip(self.disks.iter())
            .filter_map(|(index, meta)| Some((index, meta.home.as_ref()?)))
    }

    fn way(&self, home: &Home) -> Way {
        if home.fresh {
            return Way::Fresh;
        }
        let is_short = self.table.sectors() <= 1;
        match home.live {
            Live::Half => return Way::Back,
            // The sector in front is written as a whole.
            Live::Either if is_short => return Way::Back,
            Live::Either => return Way::Turned,
            Live::Front if home.unsure && is_short => return Way::Back,
            Live::Front if home.unsure => return Way::Halves,
            Live::Front => {}
        }
        let mut changed = None;
        for sector in 0..self.table.sectors() {
            let first = sector as usize * 512;
            let range = first..first + 512;
            if self.table.bytes().get(range.clone()) == home.there.bytes().get(range) {
                continue;
            }
            if changed.is_some() {
                return Way::Halves;
            }
            changed = Some(sector);
        }
        changed.map_or(Way::Nothing, Way::Sector)
    }

    /// Ends an event: brings header and sums up to date and lays down the writes. Without a change
    /// the plan is empty.
    pub fn finish(&mut self, context: &Context) -> Checked {
        for home in self.disks.iter_mut().filter_map(|meta| meta.home.as_mut()) {
            home.was_live = home.live;
        }
        let leaving = self.leaving.is_some();
        if !leaving && (self.frozen.is_some() || self.touched == Touched::Nothing) {
            return Ok(());
        }
        if self.frozen.is_none() {
            self.render_header(context);
        }
        // The plan is taken out while the buffers are read.
        let mut plan = core::mem::take(&mut self.plan);
        let result = self.lay_down(&mut plan);
        self.plan = plan;
        result?;
        self.settle();
        Ok(())
    }

    fn render_header(&mut self, context: &Context) {
        if self.touched == Touched::Lines {
            let sequence = self.sequence.wrapping_add(1);
            self.sequence = sequence;
            self.table.stamp(sequence);
            self.set.generation = u64::from(sequence);
            let head = self.table.head_mut();
            let now = u32::try_from(context.now_seconds).unwrap_or(u32::MAX);
            let later = get32(head, header::TIME).saturating_add(1);
            put32(head, header::TIME, now.max(later));
        }
        self.erase_unknown_scrubs();
        let mut which = 0u32;
        for (order, (_, line)) in (0u32..).zip(self.table.volumes()) {
            let dirty = self
                .volume_with(line.magic)
                .and_then(|volume| self.volumes.get(usize::from(volume)))
                .is_some_and(|meta| meta.dirty);
            if dirty {
                which |= 1u32.checked_shl(order).unwrap_or(0);
            }
        }
        let id = self.id;
        let head = self.table.head_mut();
        put8(
            head,
            header::DIRTY,
            if which == 0 {
                header::CLEAN
            } else {
                header::OPEN
            },
        );
        put32(head, header::DIRTY_VOLUMES, which);
        put32(head, header::SET, id);
        self.table.seal();
    }

    fn lay_down(&self, plan: &mut UpdatePlan) -> Checked {
        let mut phase = 0u16;
        if self.frozen.is_none() {
            for part in 0..8 {
                let before = plan.writes().len();
                for (disk, home) in self.each_home() {
                    self.push_part(plan, phase, part, disk, home)?;
                }
                if plan.writes().len() > before {
                    phase = phase.saturating_add(1);
                }
            }
        }
        if let Some((disk, spot)) = self.leaving {
            for sector in [spot.last, spot.table] {
                plan.push(PlanWrite {
                    phase,
                    disk,
                    sector,
                    source: source(buffer::ZEROS, 0, 1),
                })?;
                phase = phase.saturating_add(1);
            }
        }
        Ok(())
    }

    /// What a disk takes in one of the phases.
    fn push_part(
        &self,
        plan: &mut UpdatePlan,
        phase: u16,
        part: u16,
        disk: DiskIndex,
        home: &Home,
    ) -> Checked {
        let whole = self.table.sectors();
        let half = home.place.saturating_add(HALF_SECTORS);
        let reserved = |which| (home.last, source(disk_buffer(disk, which), 0, 1));
        let table = |at: u64, first: u64, count: u64| {
            (
                at.saturating_add(first),
                source(buffer::TABLE, first, count),
            )
        };
        let (sector, source) = match (part, self.way(home)) {
            (0, Way::Fresh) => (home.last, source(buffer::ZEROS, 0, 1)),
            (1, Way::Fresh) => table(home.place, 0, TABLE_SECTORS),
            (2, Way::Fresh) => reserved(buffer::RESERVED),
            (3, Way::Halves) => table(half, 0, whole),
            (4, Way::Sector(sector)) => table(home.place, sector, 1),
            (4, Way::Halves | Way::Turned) => reserved(buffer::MOVED),
            (5, Way::Halves | Way::Back | Way::Turned) => table(home.place, 0, whole),
            (6, Way::Halves | Way::Back | Way::Turned) => reserved(buffer::RESERVED),
            (7, Way::Halves) => (
                half,
                source(disk_buffer(disk, buffer::THERE), HALF_SECTORS, whole),
            ),
            _ => return Ok(()),
        };
        plan.push(PlanWrite {
            phase,
            disk,
            sector,
            source,
        })
    }

    /// Once a plan is laid down, the disks count as up to date. What is behind the lines of a table
    /// stays as it is, and is still needed for the plan's last phase.
    fn settle(&mut self) {
        let used = self.table.sectors() as usize * 512;
        let table = &self.table;
        for home in self.disks.iter_mut().filter_map(|meta| meta.home.as_mut()) {
            let len = if home.fresh { TABLE_BYTES } else { used };
            home.there.copy_front(table, len);
            home.fresh = false;
            home.live = Live::Front;
            home.unsure = false;
        }
    }

    /// Where the reserved block of a disk points that took the current plan up to something of `phase`, if at all.
    pub fn live_after(&self, disk: DiskIndex, phase: u16) -> Option<Live> {
        let home = self.disks.get(usize::from(disk))?.home.as_ref()?;
        let own = self.plan.writes().iter().filter(|write| write.disk == disk);
        let is_new = own
            .clone()
            .any(|write| write.source.buffer == buffer::ZEROS);
        let Some(last) = own.clone().rfind(|write| write.phase <= phase) else {
            return Some(home.was_live);
        };
        let moved = disk_buffer(disk, buffer::MOVED);
        let mut before = own.take_while(|write| write.phase < last.phase);
        let points = match before.any(|write| write.source.buffer == moved) {
            true => Live::Half,
            false => home.was_live,
        };
        let is_front = last.sector == home.place;
        Some(match points {
            // A table that goes, or one that comes: nothing but that may be whole.
            _ if is_new => Live::Front,
            _ if last.source.buffer == moved => Live::Either,
            Live::Half if is_front => Live::Half,
            Live::Half if last.sector == home.last => Live::Either,
            // The second half as it was, when all else is there.
            Live::Half | Live::Front => Live::Front,
            Live::Either => Live::Either,
        })
    }
}

/// `count` sectors from sector `first` of a buffer.
fn source(buffer: u32, first: u64, count: u64) -> Source {
    let bytes = |sectors: u64| u32::try_from(sectors.saturating_mul(512)).unwrap_or(0);
    Source {
        buffer,
        offset_bytes: bytes(first),
        len_bytes: bytes(count),
    }
}
