// SPDX-License-Identifier: GPL-2.0

//! The order of writes of EMD's own records, alone or along with an update of the headers.
//!
//! | phase | alone | with headers (`plan`) |
//! |---|---|---|
//! | first | changed blocks | phase 0 |
//! | then | heads that do not let them count yet | phase 1: all heads, for the old state and the new |
//! | last | blocks that take away what must outlive the others | after all copies |
//!
//! A head counts for a state of the set that nobody else can have written, so an update by somebody
//! else makes the records void. On a disk whose head does not count all blocks are written first.

use super::home::Home;
use super::layout::*;
use super::set::{buffer, DdfSet};
use super::vendor_log::{format_head, has_bit, DiskLog, Plan, Token};
use crate::model::{Checked, DiskIndex, PlanWrite, Source, UpdatePlan};

/// Runs of changed blocks that are written one by one in each part; the last one takes what is left.
const RUNS_MAX: usize = 4;

/// Most writes of one disk's records in a plan.
pub const LOG_WRITES_MAX: usize = 2 * RUNS_MAX + 1;

/// What of the records is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Changed blocks.
    Early,
    /// Heads.
    Head,
    /// Blocks that go last.
    Late,
}

impl DdfSet {
    /// Ends an event that changed no headers: writes down what EMD's own records lack.
    #[inline(never)]
    pub fn finish_log_only(&mut self) -> Checked {
        if self.log.is_none() {
            return Ok(());
        }
        self.render_heads([self.token, self.token]);
        let mut plan = core::mem::take(&mut self.plan);
        let result = self.log_phases(&mut plan);
        self.plan = plan;
        result?;
        self.settle_log();
        Ok(())
    }

    fn log_phases(&self, plan: &mut UpdatePlan) -> Checked {
        let all = |_: &Home| true;
        let void = |home: &Home| home.vendor.as_ref().is_some_and(|section| !section.valid);
        let mut phase = self.push_log(plan, 0, Part::Early, &all)?;
        phase = self.push_log(plan, phase, Part::Head, &void)?;
        self.push_log(plan, phase, Part::Late, &all)?;
        Ok(())
    }

    /// Makes all heads count for two states.
    pub fn render_heads(&mut self, tokens: [Token; 2]) {
        if self.log.is_none() {
            return;
        }
        let layout = self.layout;
        let set = get_guid(&self.template, header::GUID);
        for meta in self.disks.iter_mut() {
            let home = meta.home.as_mut();
            if let Some(section) = home.and_then(|home| home.vendor.as_mut()) {
                format_head(&mut section.head, &layout, &set, meta.reference, tokens);
            }
        }
    }

    /// Writes one part, on the disks that `which` takes, in `phase`; gives the next phase, which is the
    /// same one when nothing was to be written.
    pub fn push_log(
        &self,
        plan: &mut UpdatePlan,
        phase: u16,
        part: Part,
        which: &dyn Fn(&Home) -> bool,
    ) -> Checked<u16> {
        let Some(log) = self.log.as_ref() else {
            return Ok(phase);
        };
        let before = plan.writes().len();
        for (disk, home) in self.each_home().filter(|(_, home)| which(home)) {
            let Some(section) = home.vendor.as_ref() else {
                continue;
            };
            match part {
                Part::Head => plan.push(head_write(phase, disk, home, section))?,
                Part::Early | Part::Late if section.pending.iter().all(|&word| word == 0) => {}
                Part::Early | Part::Late => {
                    let late = part == Part::Late;
                    let wanted = |block: u32| {
                        has_bit(&section.pending, block) && has_bit(&log.late, block) == late
                    };
                    push_runs(&log.plan, &wanted, &mut |first, blocks| {
                        plan.push(body_write(phase, disk, home, section, first, blocks))
                    })?;
                }
            }
        }
        let written = plan.writes().len() > before;
        Ok(phase.saturating_add(u16::from(written)))
    }

    /// Once a plan is laid down, all disks have all of the records.
    pub fn settle_log(&mut self) {
        let Some(log) = self.log.as_mut() else { return };
        log.late.fill(0);
        for meta in self.disks.iter_mut() {
            let home = meta.home.as_mut();
            if let Some(section) = home.and_then(|home| home.vendor.as_mut()) {
                section.pending.fill(0);
                section.own = true;
                section.valid = true;
            }
        }
    }
}

/// Groups wanted blocks into runs.
fn push_runs(
    plan: &Plan,
    wanted: &dyn Fn(u32) -> bool,
    push: &mut dyn FnMut(u32, u32) -> Checked,
) -> Checked {
    let blocks = plan.blocks();
    let mut next = 1;
    for run in 1..=RUNS_MAX {
        let Some(first) = (next..blocks).find(|&block| wanted(block)) else {
            break;
        };
        let end = if run < RUNS_MAX {
            (first..blocks).find(|&block| !wanted(block))
        } else {
            let last = (first..blocks).rev().find(|&block| wanted(block));
            last.map(|last| last.saturating_add(1))
        };
        let end = end.unwrap_or(blocks);
        push(first, end.saturating_sub(first))?;
        next = end;
    }
    Ok(())
}

fn body_write(
    phase: u16,
    disk: DiskIndex,
    home: &Home,
    section: &DiskLog,
    first: u32,
    blocks: u32,
) -> PlanWrite {
    let len = home.layout.block_bytes;
    let block = section.block.saturating_add(u64::from(first));
    PlanWrite {
        phase,
        disk,
        sector: block.saturating_mul(home.layout.block_sectors()),
        source: Source {
            buffer: buffer::VENDOR_LOG,
            offset_bytes: first.saturating_mul(len),
            len_bytes: blocks.saturating_mul(len),
        },
    }
}

fn head_write(phase: u16, disk: DiskIndex, home: &Home, section: &DiskLog) -> PlanWrite {
    PlanWrite {
        phase,
        disk,
        sector: section.block.saturating_mul(home.layout.block_sectors()),
        source: Source {
            buffer: buffer::FIRST_DISK + u32::from(disk) * buffer::PER_DISK + buffer::VENDOR_HEAD,
            offset_bytes: 0,
            len_bytes: home.layout.block_bytes,
        },
    }
}
