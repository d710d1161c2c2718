// SPDX-License-Identifier: GPL-2.0

//! Superblocks that are erased: those of disks that leave, and of arrays that are deleted.

use super::layout::*;
use super::set::{buffer, MdSet};
use crate::model::{
    Checked, Disk, DiskIndex, DiskState, MemberState, PlanWrite, Source, UpdatePlan, VolumeIndex,
};

impl MdSet {
    /// Superblocks that are erased. Of those that are longer than a block the first one goes by itself: a cut would leave a
    /// superblock that is damaged else.
    pub(super) fn erase_phase(&self, plan: &mut UpdatePlan, phase: u16) -> Checked {
        let mut phase = phase;
        if let Some((disk, sector)) = self.touched.leaving {
            plan.push(self.erase_start(phase, disk, sector))?;
            phase = phase.saturating_add(1);
            self.erase_rest(plan, phase, disk, sector)?;
        }
        let Some(volume) = self.touched.deleted else {
            return Ok(());
        };
        // Of two phases the first one may have no disk.
        for is_last in [false, true] {
            let before = plan.writes().len();
            for (disk, sector) in self.erased() {
                if self.counts_in(volume, disk) == is_last {
                    plan.push(self.erase_start(phase, disk, sector))?;
                }
            }
            phase = phase.saturating_add(u16::from(plan.writes().len() > before));
        }
        for (disk, sector) in self.erased() {
            self.erase_rest(plan, phase, disk, sector)?;
        }
        Ok(())
    }

    /// The disks that are here, whose superblocks go with a deleted array, and where these are.
    fn erased(&self) -> impl Iterator<Item = (DiskIndex, u64)> + '_ {
        let all = (0u16..).zip(self.disks.iter());
        all.filter_map(|(disk, meta)| {
            let model = self.set.disk(disk)?;
            let is_here = model.facts.is_some() && !meta.apart;
            meta.sector.filter(|_| is_here).map(|sector| (disk, sector))
        })
    }

    /// Bytes of a disk's superblock that are erased first: those without which it is none.
    fn erased_first(&self, disk: DiskIndex) -> u32 {
        let facts = self.set.disk(disk).and_then(|model| model.facts);
        let block = facts.map_or(512, |facts| facts.logical_block_bytes.max(512));
        match super::render::used_sectors(&self.head, block) * 512 > block {
            true => block.min(SUPER_BYTES as u32),
            false => SUPER_BYTES as u32,
        }
    }

    fn erase_start(&self, phase: u16, disk: DiskIndex, sector: u64) -> PlanWrite {
        let mut write = erase(phase, disk, sector);
        write.source.len_bytes = self.erased_first(disk);
        write
    }

    fn erase_rest(
        &self,
        plan: &mut UpdatePlan,
        phase: u16,
        disk: DiskIndex,
        sector: u64,
    ) -> Checked {
        let first = self.erased_first(disk);
        let left = (SUPER_BYTES as u32).saturating_sub(first);
        if left == 0 {
            return Ok(());
        }
        let mut write = erase(phase, disk, sector + u64::from(first / 512));
        write.source.len_bytes = left;
        plan.push(write)
    }

    /// Whether a disk's contents count in an array, also in one that is deleted.
    fn counts_in(&self, volume: VolumeIndex, disk: DiskIndex) -> bool {
        let works = |model: &Disk| model.state == DiskState::Online;
        self.set.disk(disk).is_some_and(works)
            && self
                .set
                .volumes
                .get(usize::from(volume))
                .is_some_and(|array| {
                    array.members.iter().any(|member| {
                        member.disk == Some(disk) && member.state == MemberState::InSync
                    })
                })
    }
}

/// All of a superblock, which is at `sector`.
pub(super) fn erase(phase: u16, disk: DiskIndex, sector: u64) -> PlanWrite {
    PlanWrite {
        phase,
        disk,
        sector,
        source: Source {
            buffer: buffer::ZEROS,
            offset_bytes: 0,
            len_bytes: SUPER_BYTES as u32,
        },
    }
}
