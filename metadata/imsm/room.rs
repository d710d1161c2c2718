// SPDX-License-Identifier: GPL-2.0

//! What lies where on the disks: volumes with their logs, and how far the MPB may grow towards them.

use super::layout::*;
use super::left_log::log_end;
use super::model::place_of;
use super::set::ImsmSet;
use crate::model::{Access, Checked, DiskIndex, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

/// Bytes that an MPB must be able to grow by: entries and maps of members that are replaced.
pub const ROOM_BYTES: usize = 1 << 10;

impl ImsmSet {
    /// First sector of a volume on each member, and where it ends there: with its log, when it has one that lies in
    /// what is set aside for it.
    pub fn volume_stretch(&self, volume: VolumeIndex) -> Option<(u64, u64)> {
        let model = self.set.volumes.get(usize::from(volume))?;
        let at = self.record(volume)?;
        let (raw, scale) = (self.mpb.raw(), self.block_sectors());
        let start = model.members.first()?.offset_sectors;
        let data_end = start.saturating_add(model.shape.member_sectors);
        let map = raw.map_at(at, Which::First);
        let log_end = match place_of(raw, map, model.size_sectors, scale) {
            Ok(place) => log_end(raw, at, scale, &place),
            Err(_) => None,
        };
        Some((start, log_end.unwrap_or(data_end).max(data_end)))
    }

    /// Whether `first .. end` of the members of `volume` is another volume's, too, on some disk.
    pub fn is_others(&self, volume: VolumeIndex, first: u64, end: u64) -> bool {
        self.set.live_volumes().any(|(other, _)| {
            let meets = self
                .volume_stretch(other)
                .is_some_and(|(from, to)| first < to && from < end);
            other != volume && meets && self.share_disks(volume, other)
        })
    }

    /// Whether some disk has slots of both volumes.
    pub fn share_disks(&self, one: VolumeIndex, other: VolumeIndex) -> bool {
        let raw = self.mpb.raw();
        let map = |volume| Some(raw.map_at(self.record(volume)?, Which::First));
        let (Some(ours), Some(theirs)) = (map(one), map(other)) else {
            return false;
        };
        let slots = |map: usize| 0..u16::from(raw.u8(map + map::MEMBERS));
        slots(ours).any(|slot| {
            let disk = raw.order(ours, slot) & map::DISK;
            slots(theirs).any(|slot| raw.order(theirs, slot) & map::DISK == disk)
        })
    }

    /// How long an MPB with its anchor in block `anchor` may be where volumes end at sector `end`.
    fn limit_on(&self, anchor: u64, end: u64) -> usize {
        let block = self.block_sectors();
        let free = anchor.saturating_mul(block).saturating_sub(end);
        let blocks = free.checked_div(block).unwrap_or(0).saturating_add(1);
        let bytes = blocks.saturating_mul(u64::from(self.block_bytes));
        usize::try_from(bytes).map_or(MPB_BYTES_MAX, |bytes| bytes.min(MPB_BYTES_MAX))
    }

    /// How long the MPB may become when volumes end at sector `end` of the disk with its anchor in block `anchor`, and
    /// `more_bytes` are added to it now.
    pub fn limit_with(&self, anchor: u64, end: u64, more_bytes: usize) -> Checked<usize> {
        let limit = self.limit_on(anchor, end);
        let needed = self.mpb.raw().size().saturating_add(more_bytes);
        if needed.saturating_add(ROOM_BYTES) > limit {
            return Err(reason!(
                ENOSPC,
                "there is no room for {needed} bytes of metadata behind sector {end} of the disk"
            ));
        }
        Ok(limit)
    }

    /// Sets how long the MPB may become: no longer than `limit` bytes, and than it could before.
    pub fn lower_limit(&mut self, limit: usize) {
        let now = self.mpb.raw().size().saturating_add(self.mpb.room());
        self.mpb.set_limit(now.min(limit));
    }

    /// Where volumes end on a disk.
    pub fn used_end(&self, disk: DiskIndex) -> u64 {
        let ends = self
            .set
            .memberships(disk)
            .filter_map(|(volume, ..)| self.volume_stretch(volume))
            .map(|(_, end)| end);
        ends.max().unwrap_or(0)
    }

    /// Finds out how long the MPB may become: it grows towards the volumes. At assembly.
    #[inline(never)]
    pub fn limit_size(&mut self) {
        let mut limit = MPB_BYTES_MAX;
        for (disk, meta) in (0u16..).zip(self.disks.iter()) {
            if let (Some(anchor), Some(_)) = (meta.anchor, meta.entry) {
                limit = limit.min(self.limit_on(anchor, self.used_end(disk)));
            }
        }
        self.mpb.set_limit(limit);
        if self.mpb.room() < ROOM_BYTES && self.frozen.is_none() {
            let why = reason!(
                ENOSPC,
                "there is no room behind the volumes for {ROOM_BYTES} bytes more of metadata"
            );
            self.frozen = Some(why);
            for model in self.set.volumes.iter_mut() {
                if matches!(model.access, Access::ReadWrite) {
                    model.access = Access::ReadOnly(why);
                }
            }
        }
    }
}
