// SPDX-License-Identifier: GPL-2.0

//! The order of an update.
//!
//! A disk has one MPB, which is overwritten in place: the blocks before the anchor, a flush, the
//! anchor. What fits into the anchor changes at once, on all disks in one phase. Anything longer is
//! torn on a disk when power fails in between, so such disks are written one after the other: first
//! those that do not have the current MPB whole, then the others. Then at most one disk that mattered
//! is torn, and another one has the old MPB or the new one whole; assembly takes the newest whole one,
//! and knows the torn disk by its serial number.
//!
//! With no more than two disks to write (a mirror's, one of which may be lost along with the power), a copy of the
//! whole new MPB goes to a place in the reserved stretch at the end of each first ([`safety_block`]). It counts only
//! while the MPB proper is torn, only if it is exactly one generation newer, and only if no other disk has what was torn
//! whole.
//!
//! | phase | |
//! |---|---|
//! | 0 | new disks: the migration record, in the last block, is erased |
//! | then | MPBs of disks that are in no volume |
//! | then | the set's MPB: in one phase (anchors only), or two for each disk |
//! | last | a disk that leaves: its anchor is erased |

use super::super::bytes::slice;
use super::layout::*;
use super::set::{buffer, ImsmSet};
use crate::model::{Checked, Context, DiskIndex, PlanWrite, Source, UpdatePlan};

/// Most writes that one disk takes in one plan.
const WRITES_PER_DISK: usize = 6;

/// Of so many disks each may be the only one at the next start, and its volumes run.
const ALONE_MAX: usize = 2;

/// How far in front of the anchor the copy of an MPB is put.
const SAFETY_SECTORS: u64 = 256;

/// First block of the copy of the MPB that is written when no other disk has one.
pub fn safety_block(anchor: u64, block_sectors: u64) -> Option<u64> {
    anchor.checked_sub(SAFETY_SECTORS.checked_div(block_sectors)?)
}

/// One write in the making.
struct Piece {
    phase: u16,
    disk: DiskIndex,
    block: u64,
    buffer: u32,
    offset_bytes: usize,
    len_bytes: usize,
}

impl ImsmSet {
    /// Makes room for the largest plan with the disks that are here now.
    pub fn reserve_plan(&mut self) -> Checked {
        let disks = self.disks.len().saturating_add(1);
        self.plan.reserve(disks.saturating_mul(WRITES_PER_DISK))
    }

    /// Ends an event: a new generation, checksums, the writes. Without a change the plan is empty.
    pub fn finish(&mut self, _context: &Context) -> Checked {
        if self.frozen.is_some() {
            return Ok(());
        }
        let owns = self
            .disks
            .iter()
            .any(|meta| meta.home.as_ref().is_some_and(|home| home.own_changed));
        if !(self.changed || owns || self.leaving.is_some()) {
            return Ok(());
        }
        let written = self.changed && self.mpb.raw().volumes() > 0;
        if self.changed {
            let next = self.next_generation();
            self.mpb.put32(header::GENERATION, next);
            self.mpb.seal();
            self.set.generation = u64::from(next);
        }
        let mut plan = core::mem::take(&mut self.plan);
        let result = self.write_phases(&mut plan, written);
        self.plan = plan;
        result?;
        self.settle(written);
        Ok(())
    }

    /// The generation that the current event makes.
    pub fn next_generation(&self) -> u32 {
        u32::try_from(self.set.generation)
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    /// Once a plan is laid down, the disks count as up to date.
    fn settle(&mut self, written: bool) {
        if written {
            self.shadow.assign(&self.mpb);
        }
        for meta in self.disks.iter_mut() {
            let listed = meta.entry.is_some();
            if let Some(home) = meta.home.as_mut() {
                home.fresh = false;
                home.own_changed = false;
                home.synced = listed && (written || home.synced);
            }
        }
    }

    /// Disks that the set's MPB is written to: those without it first.
    fn targets(&self) -> impl Iterator<Item = (DiskIndex, u64, bool)> + '_ {
        let pass = move |synced: bool| {
            (0u16..)
                .zip(self.disks.iter())
                .filter_map(move |(disk, meta)| {
                    let home = meta.home.as_ref()?;
                    let wanted = meta.entry.is_some() && home.synced == synced;
                    wanted.then_some((disk, meta.anchor?, synced))
                })
        };
        Iterator::chain(pass(false), pass(true))
    }

    #[inline(never)]
    fn write_phases(&self, plan: &mut UpdatePlan, written: bool) -> Checked {
        let block = self.block_bytes as usize;
        let homes = || {
            (0u16..)
                .zip(self.disks.iter())
                .filter_map(|(disk, meta)| Some((disk, meta.home.as_ref()?, meta.anchor?)))
        };
        let mut phase = 0u16;
        if homes().any(|(_, home, _)| home.fresh) {
            for (disk, _, anchor) in homes().filter(|(_, home, _)| home.fresh) {
                self.push(
                    plan,
                    &Piece {
                        phase,
                        disk,
                        block: anchor.saturating_add(1),
                        buffer: buffer::ZEROS,
                        offset_bytes: 0,
                        len_bytes: block,
                    },
                )?;
            }
            phase += 1;
        }
        let own = |home: &super::set::Home| home.own_changed;
        if homes().any(|(_, home, _)| own(home)) {
            for (disk, _, anchor) in homes().filter(|(_, home, _)| own(home)) {
                self.push(
                    plan,
                    &Piece {
                        phase,
                        disk,
                        block: anchor,
                        buffer: buffer::FIRST_DISK + u32::from(disk),
                        offset_bytes: 0,
                        len_bytes: block,
                    },
                )?;
            }
            phase += 1;
        }
        if written {
            phase = self.mpb_phases(plan, phase)?;
        }
        let leaving = self
            .leaving
            .and_then(|disk| Some((disk, self.disk_meta(disk)?.anchor?)));
        if let Some((disk, anchor)) = leaving {
            self.push(
                plan,
                &Piece {
                    phase,
                    disk,
                    block: anchor,
                    buffer: buffer::ZEROS,
                    offset_bytes: 0,
                    len_bytes: block,
                },
            )?;
        }
        Ok(())
    }

    /// The set's MPB; gives the next phase.
    #[inline(never)]
    fn mpb_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked<u16> {
        let block = (self.block_bytes as usize).max(1);
        let more = self
            .mpb
            .raw()
            .size()
            .div_ceil(block.max(1))
            .saturating_sub(1);
        let mut phase = start;
        let anchor_of = |phase, disk, anchor| Piece {
            phase,
            disk,
            block: anchor,
            buffer: buffer::MPB,
            offset_bytes: 0,
            len_bytes: block,
        };
        if more == 0
            || (self.rest_is_unchanged(more * block) && self.targets().all(|(_, _, synced)| synced))
        {
            for (disk, anchor, _) in self.targets() {
                self.push(plan, &anchor_of(phase, disk, anchor))?;
            }
            return Ok(phase + 1);
        }
        let may_be_alone = self.targets().count() <= ALONE_MAX;
        for (disk, anchor, _) in self.targets() {
            if let Some(at) = (self.safety_place(disk, anchor)).filter(|_| may_be_alone) {
                self.push(
                    plan,
                    &Piece {
                        block: at,
                        len_bytes: (more + 1) * block,
                        ..anchor_of(phase, disk, anchor)
                    },
                )?;
                phase += 1;
            }
            self.push(
                plan,
                &Piece {
                    block: anchor.saturating_sub(more as u64),
                    offset_bytes: block,
                    len_bytes: more * block,
                    ..anchor_of(phase, disk, anchor)
                },
            )?;
            self.push(plan, &anchor_of(phase + 1, disk, anchor))?;
            phase += 2;
        }
        Ok(phase)
    }

    /// Whether the `len` bytes behind the first block are those that synced disks have.
    fn rest_is_unchanged(&self, len: usize) -> bool {
        let block = self.block_bytes as usize;
        let blocks = |mpb: &super::mpb::Mpb| mpb.raw().size().div_ceil(block.max(1));
        blocks(&self.mpb) == blocks(&self.shadow)
            && slice(self.mpb.bytes(), block, len) == slice(self.shadow.bytes(), block, len)
    }

    /// Where the copy of the MPB goes, unless a volume is there.
    fn safety_place(&self, disk: DiskIndex, anchor: u64) -> Option<u64> {
        let block_sectors = self.block_sectors();
        let at = safety_block(anchor, block_sectors)?;
        let entry = self.entry(disk)?;
        let raw = self.mpb.raw();
        for volume in 0..raw.volumes() {
            let start = raw.volume_at(volume);
            for which in [Which::First, Which::Second] {
                let map = raw.map_at(start, which);
                let named = (0..u16::from(raw.u8(map + map::MEMBERS)))
                    .any(|slot| raw.order(map, slot) & map::DISK == u32::from(entry));
                let first = raw.wide(map + map::START_LO, map + map::START_HI);
                let blocks = raw.wide(map + map::BLOCKS_LO, map + map::BLOCKS_HI);
                if named && first.saturating_add(blocks) > at {
                    return None;
                }
            }
        }
        Some(at)
    }

    fn push(&self, plan: &mut UpdatePlan, piece: &Piece) -> Checked {
        plan.push(PlanWrite {
            phase: piece.phase,
            disk: piece.disk,
            sector: piece.block.saturating_mul(self.block_sectors()),
            source: Source {
                buffer: piece.buffer,
                offset_bytes: u32::try_from(piece.offset_bytes).unwrap_or(0),
                len_bytes: u32::try_from(piece.len_bytes).unwrap_or(0),
            },
        })
    }
}
