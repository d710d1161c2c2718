// SPDX-License-Identifier: GPL-2.0

//! Free stretches of disks: where a new member may lie, and how long it may be.

use super::set::DdfSet;
use crate::model::{DiskIndex, VolumeSpec, VOLUMES_MAX};

/// Members start at multiples of this, at least: 64 KiB.
pub const ALIGN_SECTORS: u64 = 128;

impl DdfSet {
    /// End of the first used stretch on `disk` that reaches beyond `from` and starts before `to`.
    fn blocked_until(&self, disk: DiskIndex, from: u64, to: u64) -> Option<u64> {
        self.set
            .memberships(disk)
            .filter_map(|(volume, _, member)| {
                let sectors = self.set.volume(volume)?.shape.member_sectors;
                let end = member.offset_sectors.saturating_add(sectors);
                (end > from && member.offset_sectors < to).then_some(end)
            })
            .max()
    }

    /// First sector of a free stretch of `sectors` on `disk`.
    pub fn first_fit(&self, disk: DiskIndex, sectors: u64, chunk_sectors: u64) -> Option<u64> {
        let align = chunk_sectors.max(ALIGN_SECTORS);
        let usable = self.set.disk(disk)?.usable_sectors;
        let mut start = 0u64;
        // Each round goes past at least one volume.
        for _ in 0..=VOLUMES_MAX {
            let end = start.checked_add(sectors)?;
            if end > usable {
                return None;
            }
            match self.blocked_until(disk, start, end) {
                Some(next) => start = next.checked_next_multiple_of(align)?,
                None => return Some(start),
            }
        }
        None
    }

    /// Length of the largest free stretch on `disk`.
    fn largest_gap(&self, disk: DiskIndex, align: u64) -> u64 {
        let Some(usable) = self.set.disk(disk).map(|model| model.usable_sectors) else {
            return 0;
        };
        let ends = self
            .set
            .memberships(disk)
            .filter_map(|(volume, _, member)| {
                let sectors = self.set.volume(volume)?.shape.member_sectors;
                Some(member.offset_sectors.saturating_add(sectors))
            });
        Iterator::chain(core::iter::once(0), ends)
            .filter_map(|start| {
                let start = start.checked_next_multiple_of(align)?;
                let inside = self.blocked_until(disk, start, start.saturating_add(1));
                if inside.is_some() {
                    return None;
                }
                let next = self
                    .set
                    .memberships(disk)
                    .map(|(_, _, member)| member.offset_sectors)
                    .filter(|&offset| offset >= start)
                    .min();
                next.unwrap_or(usable).min(usable).checked_sub(start)
            })
            .max()
            .unwrap_or(0)
    }

    /// Free sectors that every named disk has in one stretch, in whole units.
    pub fn largest_member(&self, spec: &VolumeSpec<'_>, unit: u64) -> u64 {
        let least = spec
            .disks
            .iter()
            .flatten()
            .map(|&disk| self.largest_gap(disk, unit.max(ALIGN_SECTORS)))
            .min()
            .unwrap_or(0);
        least.saturating_sub(least.checked_rem(unit).unwrap_or(0))
    }
}
