// SPDX-License-Identifier: GPL-2.0

//! The order of an update.
//!
//! A disk has one superblock; events decide which is newer, and md takes disks whose count is at most
//! one behind as current. What an update changes fits into one sector as a rule (and is then written
//! whole or not), so:
//!
//! | phase | what |
//! |---|---|
//! | 0 … | the bad-block log of a disk, a sector at a time, so that a cut doubles entries, never loses one |
//! | next | when bits are cleared, superblocks of members that are to be recovered by the bitmap: all of them is |
//! | next | bits of the bitmap (where its superblock has to change first: that before) |
//! | next | the start of partial parity logs that are put on, or are a new disk's: empty |
//! | next | a new disk's superblock, when it is longer than a block: first block erased, the others written |
//! | next | the superblock of a disk that becomes a member: the others must not call it one earlier |
//! | next | all superblocks, with the next event count, and the bitmap's |
//! | next | when a member was lost: all superblocks again, with one count more; perhaps once more |
//! | last | superblocks that are erased: of a deleted array those of spares and of members that do not count, after them the others; what is longer than a block from its first one on |
//!
//! A lost member is left two events behind: by its count alone it is old for everyone, though every
//! survivor of a cut in between is current. (Where an earlier update was cut and some disks are one
//! behind, the first write leaves the count as it is: nobody may come to be two behind. The lost one may have
//! what the newest have then. One that was not here may have one event more than all that are. So in these cases
//! there are three writes. And as a cut may leave all survivors at the first, an array that starts without a member
//! has its dirty mark written in the same way. What may be left out of that: [`rounds`](super::rounds).)
//!
//! Superblocks that change in more than one sector may be torn by a cut. Those of 0.90 (its descriptors) are
//! first written as a copy, behind the superblock ([`safety_place`](super::probe::safety_place)), which counts
//! while the superblock is torn. Where there is no room for it (a bitmap; 1.x with many devices) disks are
//! written one after the other, so that a cut tears at most one of them.
//!
//! An array cannot be deleted in one go. A cut leaves it with fewer disks, of which each has what it had. A member that was
//! lost takes itself for one in sync as long as no other one says otherwise: so it goes first.
//!
//! The bitmap's superblock goes along with the superblocks: when the cut leaves its count behind it
//! counts as out of date, which costs a full resync and nothing else.

use super::bitmap;
use super::erase::erase;
use super::head::checksum_1;
use super::layout::*;
use super::rounds::ROUNDS_MAX;
use super::set::{buffer, image, Home, MdSet};
use crate::model::{Checked, Context, DiskIndex, PlanWrite, Source, UpdatePlan};

/// Most writes of one disk in a plan, its bad-block log apart.
const WRITES_PER_DISK: usize = 16;

/// Which image a write takes, and against which one it is compared.
type Images = (usize, usize);

impl MdSet {
    /// Makes room for the largest plan with the disks that are here now. Allocates.
    pub fn reserve_plan(&mut self) -> Checked {
        let disks = self.disks.len().saturating_add(1);
        // Those of disks that missed a plan, and that of a new one.
        let logs = self.homes().map(|(_, home)| home.logs.len() / 1024);
        let logs = logs.sum::<usize>() + super::badblocks::SECTORS_MAX as usize;
        self.plan
            .reserve(disks.saturating_mul(WRITES_PER_DISK).saturating_add(logs))
    }

    /// Ends an event: renders what changed and lays down the writes.
    #[inline(never)]
    pub fn finish(&mut self, context: &Context) -> Checked {
        if self.frozen.is_some() {
            return Ok(());
        }
        self.end_recoveries();
        self.touched.rounds = self.rounds();
        let rounds = self.touched.rounds.images;
        if self.touched.all {
            self.renumber();
            self.owes_events = None;
            // Where an update was cut, some disks are one behind: they must not become two behind when
            // this one is cut, too. So the count stays until all have it.
            let mut next = self.head.events;
            if self.lags() {
                next = next.saturating_sub(1);
            }
            let utime = Some(context.now_seconds);
            for &round in rounds {
                next = next.saturating_add(1);
                for disk in 0..self.disks.len() as DiskIndex {
                    self.render(disk, round, next, utime);
                }
            }
            if let Some(map) = self.bitmap.as_mut() {
                put64(&mut map.bytes, bitmap::at::EVENTS, next);
            }
            self.head.events = next;
            self.set.generation = next;
        } else {
            let events = self.head.events;
            for disk in 0..self.disks.len() as DiskIndex {
                if self.home(disk).is_some_and(|home| home.touched) {
                    self.render(disk, image::NEW, events, None);
                }
            }
        }
        // The plan is taken out while the buffers are read.
        let mut plan = core::mem::take(&mut self.plan);
        let result = self.lay_down(&mut plan, rounds);
        self.plan = plan;
        let result = result.map(|ends| self.touched.rounds.ends = ends);
        for home in self.disks.iter_mut().filter_map(|meta| meta.home.as_mut()) {
            home.bitmap_whole &= result.is_err();
        }
        result
    }

    /// Lets superblocks that say that a member is to be recovered by the bitmap say that all of it is. They are written
    /// before all else, so they are what is there already for the rest of the plan.
    fn end_recoveries(&mut self) {
        if !self.touched.recoveries {
            return;
        }
        let version = self.version;
        let homes = self.disks.iter_mut().filter_map(|meta| meta.home.as_mut());
        for home in homes.filter(|home| home.goes_by_bitmap(version)) {
            let bytes = home.image_mut(image::OLD);
            let features = get32(bytes, v1::FEATURES) & !feature::RECOVERY_BITMAP;
            put32(bytes, v1::FEATURES, features | feature::RECOVERY);
            put64(bytes, v1::RECOVERY, 0);
            let sum = checksum_1(bytes, get32(bytes, v1::ROLES_MAX));
            put32(bytes, v1::CHECKSUM, sum);
            home.copy_image(image::OLD, image::NEW);
            home.ends_recovery = true;
        }
    }

    /// Gives the phases behind those of each round.
    fn lay_down(&self, plan: &mut UpdatePlan, rounds: &[usize]) -> Checked<[u16; ROUNDS_MAX]> {
        let mut phase = self.log_phases(plan, 0)?;
        phase = self.recovery_phase(plan, phase)?;
        phase = self.bit_phases(plan, phase)?;
        phase = self.log_head_phase(plan, phase)?;
        phase = self.fresh_phases(plan, phase)?;
        let mut before = image::OLD;
        let mut ends = [0; ROUNDS_MAX];
        for (&round, end) in rounds.iter().zip(&mut ends) {
            for first in [true, false] {
                phase = self.super_phase(plan, phase, (before, round), first)?;
            }
            before = round;
            *end = phase;
        }
        self.erase_phase(plan, phase)?;
        Ok(ends)
    }

    /// Bad-block logs.
    fn log_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked<u16> {
        let mut phase = start;
        for (disk, home) in self.homes().filter(|(_, home)| home.log_touched) {
            let Some(log) = home.log else { continue };
            let half = home.logs.len() / 2;
            let (old, new) = home.logs.split_at(half);
            let unit = (home.block_bytes as usize).max(512);
            let grows = super::badblocks::used(new) > super::badblocks::used(old);
            let blocks = half / unit;
            for step in 0..blocks {
                // Entries move towards the end when there are more: from the end, then.
                let block = if grows { blocks - 1 - step } else { step };
                let at = block * unit;
                if old.get(at..at + unit) == new.get(at..at + unit) {
                    continue;
                }
                plan.push(PlanWrite {
                    phase,
                    disk,
                    sector: log.sector + (at / 512) as u64,
                    source: Source {
                        buffer: own_buffer(disk, buffer::LOG),
                        offset_bytes: (half + at) as u32,
                        len_bytes: unit as u32,
                    },
                })?;
                phase = phase.saturating_add(1);
            }
        }
        Ok(phase)
    }

    /// Superblocks of members that are not to be recovered by the bitmap any more: their first blocks, where it says so.
    fn recovery_phase(&self, plan: &mut UpdatePlan, phase: u16) -> Checked<u16> {
        let before = plan.writes().len();
        for (disk, home) in self.homes().filter(|(_, home)| home.ends_recovery) {
            plan.push(PlanWrite {
                phase,
                disk,
                sector: home.sector,
                source: Source {
                    buffer: own_buffer(disk, buffer::SUPER),
                    offset_bytes: (image::OLD * SUPER_BYTES) as u32,
                    len_bytes: home.block_bytes.max(512),
                },
            })?;
        }
        Ok(phase.saturating_add(u16::from(plan.writes().len() > before)))
    }

    /// Bits of the bitmap.
    fn bit_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked<u16> {
        let Some(map) = self.bitmap.as_ref() else {
            return Ok(start);
        };
        let mut phase = start;
        if self.touched.bitmap_head_first {
            // Not where all of it is written anyway: what is there lacks bits, and does not count before it has them.
            let before = plan.writes().len();
            for (disk, home) in self.homes().filter(|(disk, _)| self.keeps_bitmap(*disk)) {
                if !home.bitmap_whole && !home.fresh {
                    push_bits(plan, phase, disk, home, (0, 0), self.regions())?;
                }
            }
            phase = phase.saturating_add(u16::from(plan.writes().len() > before));
        }
        // A spare gets one for show: mdadm misses it otherwise.
        let has_one = |disk: DiskIndex, home: &Home| home.fresh || self.keeps_bitmap(disk);
        let whole = |home: &Home| home.bitmap_whole || home.fresh;
        // Where it is not yet: all but its superblock's block first, which says that it is good.
        let before = plan.writes().len();
        for (disk, home) in self.homes().filter(|(disk, home)| has_one(*disk, home)) {
            let unit = (home.block_bytes as usize).max(512);
            if whole(home) && map.bytes.len() > unit {
                let bytes = (unit, map.bytes.len() - 1);
                push_bits(plan, phase, disk, home, bytes, map.regions)?;
            }
        }
        phase = phase.saturating_add(u16::from(plan.writes().len() > before));
        let before = plan.writes().len();
        for (disk, home) in self.homes().filter(|(disk, home)| has_one(*disk, home)) {
            if whole(home) {
                push_bits(plan, phase, disk, home, (0, 0), map.regions)?;
            } else if let Some(bits) = self.touched.bits {
                push_bits(plan, phase, disk, home, bits, map.regions)?;
            }
        }
        Ok(phase.saturating_add(u16::from(plan.writes().len() > before)))
    }

    /// Partial parity logs: an empty header, with nothing where the next one would be.
    fn log_head_phase(&self, plan: &mut UpdatePlan, phase: u16) -> Checked<u16> {
        let before = plan.writes().len();
        for (disk, home) in self.homes().filter(|_| self.left_log) {
            let Some(log) = home.left_log else { continue };
            if self.touched.log_heads || home.fresh {
                plan.push(PlanWrite {
                    phase,
                    disk,
                    sector: log.sector,
                    source: Source {
                        buffer: buffer::LOG_HEAD,
                        offset_bytes: 0,
                        len_bytes: self.log_head.len() as u32,
                    },
                })?;
            }
        }
        Ok(phase.saturating_add(u16::from(plan.writes().len() > before)))
    }

    /// Superblocks of new disks that are longer than a block: what was there is erased, then all but
    /// the first block is written. (Checksums are sums: an old superblock with parts of a new one may
    /// pass for a good one.)
    fn fresh_phases(&self, plan: &mut UpdatePlan, start: u16) -> Checked<u16> {
        let long = |home: &Home| {
            home.fresh && self.used(home) as usize * 512 > (home.block_bytes as usize).max(512)
        };
        let mut phase = start;
        for (disk, home) in self.homes().filter(|(_, home)| long(home)) {
            let mut write = erase(phase, disk, home.sector);
            write.source.len_bytes = home.block_bytes;
            plan.push(write)?;
        }
        if plan
            .writes()
            .last()
            .is_some_and(|write| write.phase == phase)
        {
            phase = phase.saturating_add(1);
        }
        let before = plan.writes().len();
        for (disk, home) in self.homes().filter(|(_, home)| long(home)) {
            let unit = home.block_bytes.max(512);
            plan.push(PlanWrite {
                phase,
                disk,
                sector: home.sector + u64::from(unit / 512),
                source: Source {
                    buffer: own_buffer(disk, buffer::SUPER),
                    offset_bytes: (image::NEW * SUPER_BYTES) as u32 + unit,
                    len_bytes: self.used(home) * 512 - unit,
                },
            })?;
        }
        if plan.writes().len() > before {
            phase = phase.saturating_add(1);
        }
        Ok(phase)
    }

    /// Superblocks: those that go first, or those that do not.
    fn super_phase(
        &self,
        plan: &mut UpdatePlan,
        start: u16,
        images: Images,
        first: bool,
    ) -> Checked<u16> {
        let mut phase = start;
        let whole = |home: &Home| home.fresh && images.0 == image::OLD;
        let chosen = |home: &Home| {
            let wanted = self.touched.all || home.touched || home.fresh || home.unsure;
            home.first == first && wanted
        };
        let torn = self
            .homes()
            .filter(|(_, home)| chosen(home))
            .any(|(_, home)| !whole(home) && self.may_tear(home, images));
        let copies = match torn {
            true => self.push_copies(plan, phase, images, &chosen)?,
            false => 0,
        };
        let torn = torn && copies == 0;
        phase = phase.saturating_add(copies);
        let before = plan.writes().len();
        for (disk, home) in self.homes().filter(|(_, home)| chosen(home)) {
            if self.touched.all && self.keeps_bitmap(disk) && !home.bitmap_whole && !home.fresh {
                push_bits(plan, phase, disk, home, (0, 0), self.regions())?;
            }
            push_super(
                plan,
                phase,
                disk,
                home,
                self.used(home),
                images,
                whole(home),
            )?;
            if torn {
                phase = phase.saturating_add(1);
            }
        }
        if !torn && plan.writes().len() > before {
            phase = phase.saturating_add(1);
        }
        Ok(phase)
    }

    /// Whether a cut may tear a superblock: more than a block of it changes, as far as is known.
    fn may_tear(&self, home: &Home, images: Images) -> bool {
        let is_unknown = home.unsure && images.0 == image::OLD;
        is_unknown || changed_blocks(home, self.used(home), images) > 1
    }

    /// Copies of the superblocks that a cut may tear, where there is room for them on all disks; gives the
    /// phases that they take. A superblock that may be torn already is made whole before its copy changes; one of which
    /// only the copy may be torn is not touched before that one is whole.
    #[inline(never)]
    fn push_copies(
        &self,
        plan: &mut UpdatePlan,
        start: u16,
        images: Images,
        chosen: &dyn Fn(&Home) -> bool,
    ) -> Checked<u16> {
        if self.version != Version::V090 || self.bitmap.is_some() {
            return Ok(0);
        }
        let whole = |phase, disk, sector, which: usize| PlanWrite {
            phase,
            disk,
            sector,
            source: Source {
                buffer: own_buffer(disk, buffer::SUPER),
                offset_bytes: (which * SUPER_BYTES) as u32,
                len_bytes: SUPER_BYTES as u32,
            },
        };
        let mut phase = start;
        let may_be_torn =
            |home: &Home| home.unsure && home.only_copy && !home.fresh && images.0 == image::OLD;
        for (disk, home) in self.homes() {
            if chosen(home) && may_be_torn(home) {
                plan.push(whole(start, disk, home.sector, image::OLD))?;
                phase = start.saturating_add(1);
            }
        }
        for (disk, home) in self.homes().filter(|(_, home)| chosen(home)) {
            let copy = home.sector.saturating_add(u64::from(SUPER_SECTORS));
            plan.push(whole(phase, disk, copy, images.1))?;
        }
        Ok(phase.saturating_add(1).saturating_sub(start))
    }

    /// Whether what `disk` got last, up to a phase of the plan, is written over its superblock, while there is a copy
    /// of that; not, when it is that copy, or when nothing of either was sent.
    pub fn overwrites_last(&self, disk: DiskIndex, phase: u16) -> Option<bool> {
        let home = self.home(disk)?;
        let copy = home.sector.saturating_add(u64::from(SUPER_SECTORS));
        let mut sent = self.plan.writes().iter().filter(|write| write.disk == disk);
        let has_copy = sent.clone().any(|write| write.sector == copy);
        let last = sent.rfind(|write| {
            let is_super = write.sector >= home.sector && write.sector <= copy;
            is_super && write.phase <= phase
        })?;
        Some(has_copy && last.sector != copy)
    }

    fn regions(&self) -> u32 {
        self.bitmap.as_ref().map_or(0, |map| map.regions)
    }

    /// Sectors of a home's superblock that are written.
    fn used(&self, home: &Home) -> u32 {
        let mut head = self.head;
        head.roles_max = get32(home.image(image::NEW), v1::ROLES_MAX);
        super::render::used_sectors(&head, home.block_bytes)
    }
}

fn own_buffer(disk: DiskIndex, which: u32) -> u32 {
    buffer::FIRST_DISK + u32::from(disk) * buffer::PER_DISK + which
}

/// Writes the blocks of the bitmap from byte `bytes.0` to byte `bytes.1`.
fn push_bits(
    plan: &mut UpdatePlan,
    phase: u16,
    disk: DiskIndex,
    home: &Home,
    bytes: (usize, usize),
    regions: u32,
) -> Checked {
    let Some(sector) = home.bitmap else {
        return Ok(());
    };
    let unit = (home.block_bytes as usize).max(512);
    let most = bitmap::sectors(regions, unit as u32 / 512) as usize * 512 / unit;
    let (first, end) = (bytes.0 / unit, (bytes.1 / unit + 1).min(most));
    if first >= end {
        return Ok(());
    }
    plan.push(PlanWrite {
        phase,
        disk,
        sector: sector + (first * unit / 512) as u64,
        source: Source {
            buffer: buffer::BITMAP,
            offset_bytes: (first * unit) as u32,
            len_bytes: ((end - first) * unit) as u32,
        },
    })
}

/// Whether block `block` of an image differs from that of another, or from what may be on the disk.
fn differs(home: &Home, images: Images, block: usize) -> bool {
    if home.unsure && images.0 == image::OLD {
        return true;
    }
    let unit = (home.block_bytes as usize).max(512);
    let range = block * unit..(block + 1) * unit;
    home.image(images.0).get(range.clone()) != home.image(images.1).get(range)
}

fn changed_blocks(home: &Home, used_sectors: u32, images: Images) -> usize {
    (0..blocks_of(home, used_sectors))
        .filter(|&block| differs(home, images, block))
        .count()
}

/// Blocks of a superblock that has `used_sectors`.
fn blocks_of(home: &Home, used_sectors: u32) -> usize {
    let unit = (home.block_bytes as usize).max(512);
    (used_sectors as usize * 512 / unit).min(SUPER_BYTES / unit)
}

/// Writes the blocks of a superblock that change (all that it has on a disk that has nothing yet), as
/// one write: blocks in between are the same as on the disk.
fn push_super(
    plan: &mut UpdatePlan,
    phase: u16,
    disk: DiskIndex,
    home: &Home,
    used_sectors: u32,
    images: Images,
    whole: bool,
) -> Checked {
    let unit = (home.block_bytes as usize).max(512);
    let blocks = blocks_of(home, used_sectors);
    // Of a new one the others are there already (`fresh_phases`).
    let changed = |block: &usize| match whole {
        true => *block == 0,
        false => differs(home, images, *block),
    };
    let (Some(first), Some(last)) = ((0..blocks).find(changed), (0..blocks).rev().find(changed))
    else {
        return Ok(());
    };
    plan.push(PlanWrite {
        phase,
        disk,
        sector: home.sector + (first * unit / 512) as u64,
        source: Source {
            buffer: own_buffer(disk, buffer::SUPER),
            offset_bytes: (images.1 * SUPER_BYTES + first * unit) as u32,
            len_bytes: ((last + 1 - first) * unit) as u32,
        },
    })
}
