// SPDX-License-Identifier: GPL-2.0

//! The order of an update.
//!
//! A disk has two copies of its metadata. An update goes, on all disks in step and with a flush
//! after every phase:
//!
//! | phase | first copy | second copy |
//! |---|---|---|
//! | 0 | header: open, old sequence number | |
//! | 1 | changed blocks of the sections | |
//! | 2 | header: closed, new sequence number | |
//! | 3 | | header: open, old sequence number |
//! | 4 | | changed blocks of the sections |
//! | 5 | | header: closed, new sequence number |
//!
//! Until phase 2 is through, every disk has the old state whole in its second copy; from phase 3
//! on every disk has the new state whole in its first one. Assembly goes back to the old state
//! when some disk did not finish phase 2, so that the set changes as one (`assemble.rs`). The first
//! copy is the primary one, unless it is the only good one: then the other is mended first.
//!
//! A disk with only one copy cannot hold old and new at once. When at most one block changes (dirty,
//! clean), that block's write is atomic and nothing more is needed. Otherwise such disks are written
//! one after the other, so that a crash tears at most one of them and its open header tells; and the
//! tables are written on all of them before the records are on any. In between, a spare that takes a
//! member's place already counts as rebuilding, though no record names it yet; never is it named
//! before it counts so. For a new volume the records come first: without an entry they mean nothing.
//!
//! EMD's own records (`log_plan`) go along: changed blocks in phase 0, their heads, which let them count
//! for the old and the new state, in phase 1. Blocks that must not be there before the new state is go last.
//!
//! A new disk is written before all others: anchor erased, everything but the anchor, anchor. One that is back with
//! data that counts has to be known at any time: one copy after the other is written anew, then its anchor. A
//! disk that leaves is erased after all others. Anchors of disks that stay are never written.

use super::super::bytes::put;
use super::home::{slot, Home};
use super::layout::*;
use super::log_plan::{Part, LOG_WRITES_MAX};
use super::probe::Which;
use super::set::{buffer, ddf_time, kind_of, token_of, DdfSet};
use crate::model::{Checked, Context, DiskIndex, PlanWrite, Source, UpdatePlan};

/// Runs of changed blocks that are written one by one; beyond them, a section is written from its
/// first to its last changed block.
const RUNS_MAX: u32 = 2;

/// Clean blocks between two changed ones that are written along rather than starting a new run.
const GAP_BLOCKS: u32 = 8;

/// Most writes that one disk takes in one plan.
pub const WRITES_PER_DISK: usize = 2 * (2 + 6 * RUNS_MAX as usize) + 5 + LOG_WRITES_MAX;

/// The sections in the order in which they are written.
const WRITTEN: [Section; 6] = [
    Section::Controller,
    Section::Disks,
    Section::Volumes,
    Section::Config,
    Section::Data,
    Section::BadBlocks,
];

/// The tables and what belongs to them.
const TABLES: [Section; 4] = [
    Section::Controller,
    Section::Disks,
    Section::Volumes,
    Section::Data,
];

/// The configuration records.
const RECORDS: [Section; 1] = [Section::Config];

impl DdfSet {
    /// Makes room for the largest plan with the disks that are here now.
    pub fn reserve_plan(&mut self) -> Checked {
        let disks = self.disks.len().saturating_add(1);
        self.plan.reserve(disks.saturating_mul(WRITES_PER_DISK))
    }

    /// Ends an event: seals what changed and lays down the writes. Without a change the plan is
    /// empty.
    pub fn finish(&mut self, context: &Context) -> Checked {
        if self.frozen {
            return Ok(());
        }
        let touched = self.touched;
        let fresh = self.each_home().any(|(_, home)| home.fresh);
        if !(touched.disks || touched.volumes || touched.homes || fresh || self.leaving.is_some()) {
            return self.finish_log_only();
        }
        self.seal_tables();
        let next = self.sequence.saturating_add(1).min(u32::MAX - 1);
        let time = ddf_time(context);
        for meta in self.disks.iter_mut() {
            if let Some(home) = meta.home.as_mut() {
                render_headers(home, next, time);
            }
        }
        let token = token_of(&self.layout, next, time, &self.pd, &self.vd);
        self.render_heads([self.token, token]);
        self.lay_down()?;
        self.token = token;
        self.settle_log();
        self.sequence = next;
        self.set.generation = u64::from(next);
        for meta in self.disks.iter_mut() {
            if let Some(home) = meta.home.as_mut() {
                settle(home, next);
            }
        }
        Ok(())
    }

    /// The disks that hold metadata, with what is known of it there.
    pub fn each_home(&self) -> impl Iterator<Item = (DiskIndex, &Home)> + '_ {
        (0u16..)
            .zip(self.disks.iter())
            .filter_map(|(index, meta)| Some((index, meta.home.as_ref()?)))
    }

    fn lay_down(&mut self) -> Checked {
        // The plan is taken out while the buffers are read.
        let mut plan = core::mem::take(&mut self.plan);
        let result = self.write_phases(&mut plan);
        self.plan = plan;
        result
    }

    fn write_phases(&self, plan: &mut UpdatePlan) -> Checked {
        let mut phase = self.fresh_phases(plan)?;
        phase = self.paired_phases(plan, phase)?;
        phase = self.single_phases(plan, phase)?;
        phase = self.push_log(plan, phase, Part::Late, &is_old)?;
        self.leaving_phases(plan, phase)
    }

    /// New disks: anchor erased, all but the anchor, anchor.
    fn fresh_phases(&self, plan: &mut UpdatePlan) -> Checked<u16> {
        if !self.each_home().any(|(_, home)| home.fresh) {
            return Ok(0);
        }
        let blank = || {
            self.each_home()
                .filter(|(_, home)| home.fresh && !home.holds_data)
        };
        for (disk, home) in blank() {
            plan.push(erase(0, disk, home.anchor, &home.layout))?;
        }
        self.push_log(plan, 0, Part::Early, &is_fresh)?;
        self.push_log(plan, 0, Part::Late, &is_fresh)?;
        self.push_log(plan, 1, Part::Head, &is_fresh)?;
        for (disk, home) in blank() {
            for which in [Which::Primary, Which::Secondary] {
                if home.copy(which).is_some() {
                    for section in WRITTEN {
                        let blocks = home.layout.place(section).blocks;
                        push_run(plan, 1, disk, home, which, section, (0, blocks))?;
                    }
                    push_header(plan, 1, disk, home, which, slot::closed(which))?;
                }
            }
        }
        for (disk, home) in blank() {
            plan.push(header_write(2, disk, home, home.anchor, slot::ANCHOR))?;
        }
        let mut phase = 3;
        for (disk, home) in self
            .each_home()
            .filter(|(_, home)| home.fresh && home.holds_data)
        {
            phase = self.renew(plan, phase, disk, home)?;
        }
        Ok(phase)
    }

    /// Writes all of a disk's metadata, one copy after the other. Gives the next phase.
    fn renew(
        &self,
        plan: &mut UpdatePlan,
        start: u16,
        disk: DiskIndex,
        home: &Home,
    ) -> Checked<u16> {
        let mut phase = start;
        for which in [Which::Secondary, Which::Primary] {
            if home.copy(which).is_none() {
                continue;
            }
            push_header(plan, phase, disk, home, which, slot::open(which))?;
            for section in WRITTEN {
                let blocks = home.layout.place(section).blocks;
                push_run(plan, phase + 1, disk, home, which, section, (0, blocks))?;
            }
            push_header(plan, phase + 2, disk, home, which, slot::closed(which))?;
            phase += 3;
        }
        plan.push(header_write(phase, disk, home, home.anchor, slot::ANCHOR))?;
        Ok(phase + 1)
    }

    /// Disks with two copies, all in step.
    fn paired_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked<u16> {
        let paired = || {
            self.each_home()
                .filter(|(_, home)| !home.fresh && home.copy(Which::Secondary).is_some())
        };
        if paired().next().is_none() {
            return Ok(start);
        }
        let mut phase = start;
        for second in [false, true] {
            for part in 0..3 {
                for (disk, home) in paired() {
                    let which = if second {
                        home.first.other()
                    } else {
                        home.first
                    };
                    push_part(plan, phase, part, disk, home, which, &WRITTEN)?;
                }
                match (second, part) {
                    (false, 0) => self.push_log(plan, phase, Part::Early, &is_old)?,
                    (false, 1) => self.push_log(plan, phase, Part::Head, &is_old)?,
                    _ => phase,
                };
                phase = phase.saturating_add(1);
            }
        }
        Ok(phase)
    }

    /// Disks with one copy.
    fn single_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked<u16> {
        let single = || {
            self.each_home()
                .filter(|(_, home)| !home.fresh && home.copy(Which::Secondary).is_none())
        };
        let mut phase = start;
        if single().next().is_none() {
            return Ok(start);
        }
        if single().all(|(_, home)| dirty_blocks(home) <= 1) {
            for part in 0..3 {
                for (disk, home) in single() {
                    push_part(plan, phase, part, disk, home, Which::Primary, &WRITTEN)?;
                }
                phase = phase.saturating_add(1);
            }
            return Ok(phase);
        }
        let passes: [&[Section]; 2] = if self.touched.records_first {
            [&RECORDS, &TABLES]
        } else {
            [&TABLES, &RECORDS]
        };
        for (pass, sections) in passes.into_iter().enumerate() {
            // A disk that gets its first record of a volume goes before those that have an old one.
            for gains in [true, false] {
                for (disk, home) in single().filter(|(_, home)| home.gains == gains) {
                    if pass > 0 && !changes(home, sections) {
                        continue;
                    }
                    for part in 0..3 {
                        push_part(plan, phase, part, disk, home, Which::Primary, sections)?;
                        phase = phase.saturating_add(1);
                    }
                }
            }
        }
        Ok(phase)
    }

    /// The disk that leaves: anchor first, then the headers.
    fn leaving_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked {
        let Some(leaving) = self.leaving.as_ref() else {
            return Ok(());
        };
        for (index, block) in leaving.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            let phase = start.saturating_add(u16::from(index != 0));
            plan.push(PlanWrite {
                phase,
                disk: leaving.disk,
                sector: block.saturating_mul(leaving.block_sectors),
                source: Source {
                    buffer: buffer::ZEROS,
                    offset_bytes: 0,
                    len_bytes: u32::try_from(leaving.block_sectors).unwrap_or(1) * 512,
                },
            })?;
        }
        Ok(())
    }
}

fn is_fresh(home: &Home) -> bool {
    home.fresh
}

fn is_old(home: &Home) -> bool {
    !home.fresh
}

/// One third of writing a copy: header open, sections, header closed.
fn push_part(
    plan: &mut UpdatePlan,
    phase: u16,
    part: u16,
    disk: DiskIndex,
    home: &Home,
    which: Which,
    sections: &[Section],
) -> Checked {
    match part {
        0 => push_header(plan, phase, disk, home, which, slot::open(which)),
        1 => push_sections(plan, phase, disk, home, which, sections),
        _ => push_header(plan, phase, disk, home, which, slot::closed(which)),
    }
}

fn push_header(
    plan: &mut UpdatePlan,
    phase: u16,
    disk: DiskIndex,
    home: &Home,
    which: Which,
    index: usize,
) -> Checked {
    match home.copy(which) {
        Some(block) => plan.push(header_write(phase, disk, home, block, index)),
        None => Ok(()),
    }
}

fn header_write(phase: u16, disk: DiskIndex, home: &Home, block: u64, index: usize) -> PlanWrite {
    let len = home.layout.block_bytes;
    PlanWrite {
        phase,
        disk,
        sector: block.saturating_mul(home.layout.block_sectors()),
        source: Source {
            buffer: buffer::FIRST_DISK + u32::from(disk) * buffer::PER_DISK + buffer::HEADERS,
            offset_bytes: u32::try_from(index).unwrap_or(0).saturating_mul(len),
            len_bytes: len,
        },
    }
}

fn erase(phase: u16, disk: DiskIndex, block: u64, layout: &Layout) -> PlanWrite {
    PlanWrite {
        phase,
        disk,
        sector: block.saturating_mul(layout.block_sectors()),
        source: Source {
            buffer: buffer::ZEROS,
            offset_bytes: 0,
            len_bytes: layout.block_bytes,
        },
    }
}

/// The changed blocks of all sections of one copy.
fn push_sections(
    plan: &mut UpdatePlan,
    phase: u16,
    disk: DiskIndex,
    home: &Home,
    which: Which,
    sections: &[Section],
) -> Checked {
    for &section in sections {
        let place = home.layout.place(section);
        let dirty = |block: u32| home.is_dirty(which, (place.offset as usize) + block as usize);
        let mut runs = 0;
        let mut next = 0;
        while let Some(first) = (next..place.blocks).find(|&block| dirty(block)) {
            let mut end = first + 1;
            for block in first + 1..place.blocks {
                let near = block < end + GAP_BLOCKS;
                if !near && runs + 1 < RUNS_MAX {
                    break;
                }
                if dirty(block) {
                    end = block + 1;
                }
            }
            push_run(plan, phase, disk, home, which, section, (first, end))?;
            runs += 1;
            next = end;
        }
    }
    Ok(())
}

/// One write: blocks `run.0 .. run.1` of a section.
fn push_run(
    plan: &mut UpdatePlan,
    phase: u16,
    disk: DiskIndex,
    home: &Home,
    which: Which,
    section: Section,
    run: (u32, u32),
) -> Checked {
    let own = buffer::FIRST_DISK + u32::from(disk) * buffer::PER_DISK;
    let number = match section {
        Section::Controller => buffer::CONTROLLER,
        Section::Disks => buffer::DISKS,
        Section::Volumes => buffer::VOLUMES,
        Section::Config => own + buffer::CONFIG,
        Section::Data => own + buffer::DATA,
        Section::BadBlocks if home.log.is_empty() => return Ok(()),
        Section::BadBlocks => own + buffer::LOG,
    };
    let (Some(block), blocks) = (home.copy(which), run.1.saturating_sub(run.0)) else {
        return Ok(());
    };
    if blocks == 0 {
        return Ok(());
    }
    let place = home.layout.place(section);
    let at = block + u64::from(place.offset) + u64::from(run.0);
    plan.push(PlanWrite {
        phase,
        disk,
        sector: at.saturating_mul(home.layout.block_sectors()),
        source: Source {
            buffer: number,
            offset_bytes: run.0.saturating_mul(home.layout.block_bytes),
            len_bytes: blocks.saturating_mul(home.layout.block_bytes),
        },
    })
}

/// How many blocks of a disk's only copy change.
fn dirty_blocks(home: &Home) -> u32 {
    home.map(Which::Primary)
        .iter()
        .map(|word| word.count_ones())
        .sum()
}

/// Whether any of `sections` changes on a disk.
fn changes(home: &Home, sections: &[Section]) -> bool {
    sections.iter().any(|&section| {
        let place = home.layout.place(section);
        (place.offset..place.end()).any(|block| home.is_dirty(Which::Primary, block as usize))
    })
}

/// Prepares the header blocks of both copies for an update to `next`.
fn render_headers(home: &mut Home, next: u32, time: u32) {
    let layout = home.layout;
    let (endian, crc) = (layout.endian, layout.crc);
    // What a disk has of an update that it did not take part in until now is no part of the state before it.
    let old = if home.holds_data { 0 } else { home.sequence };
    let len = (layout.block_bytes as usize).max(1);
    for which in [Which::Primary, Which::Secondary] {
        if home.copy(which).is_none() {
            continue;
        }
        // The open header's block stands right before the closed one's.
        let mut blocks = home.headers.chunks_exact_mut(len).skip(slot::open(which));
        let (Some(open), Some(closed)) = (blocks.next(), blocks.next()) else {
            continue;
        };
        let _ = put(open, 0, closed);
        put32(endian, open, header::SEQUENCE, old);
        put8(open, header::OPEN, 1);
        crc.seal(open, endian);
        put32(endian, closed, header::SEQUENCE, next);
        put32(endian, closed, header::TIME, time);
        put8(closed, header::OPEN, 0);
        put8(closed, header::KIND, kind_of(which).code());
        crc.seal(closed, endian);
    }
}

/// Once a plan is laid down, the disk counts as up to date.
fn settle(home: &mut Home, sequence: u32) {
    home.sequence = sequence;
    home.fresh = false;
    home.holds_data = false;
    home.gains = false;
    home.first = Which::Primary;
    for map in home.dirty.iter_mut() {
        map.fill(0);
    }
}
