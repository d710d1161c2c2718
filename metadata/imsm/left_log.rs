// SPDX-License-Identifier: GPL-2.0

//! The partial parity log that mdadm and Intel's own drivers keep for a RAID 5 (`docs/formats/imsm.md`, §8): where
//! it is, and how it is taken off. What is in it, [`super::super::ppl`] reads.

use super::super::ppl::{self, Dialect};
use super::layout::*;
use super::read_volumes::changes_shape;
use super::set::ImsmSet;
use crate::model::{
    Access, Checked, Consistency, LeftLog, Level, LoggedWrite, Slot, Volume, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Sectors of a log of [`volume::POLICY_LOG`]: a header, and 128 KiB of sums.
const ONE_LOG_SECTORS: u32 = ppl::HEADER_SECTORS + 256;

/// Sectors of the logs of [`volume::POLICY_LOGS`]: 1 MiB.
const LOGS_SECTORS: u32 = 2048;

/// Sectors of the log of each member of the volume at `at`, if its policy has one.
pub fn log_sectors(raw: Raw<'_>, at: usize, level: Level) -> Option<u32> {
    match raw.u8(at + volume::HOLE_POLICY) {
        volume::POLICY_LOG if level == Level::Raid5 => Some(ONE_LOG_SECTORS),
        volume::POLICY_LOGS if level == Level::Raid5 => Some(LOGS_SECTORS),
        _ => None,
    }
}

impl ImsmSet {
    /// A volume that is only read because of its log, and for no other reason; where its record is; how long its logs
    /// are.
    fn with_log(&self, volume: VolumeIndex) -> Option<(&Volume, usize, u32)> {
        let model = self.set.volume(volume)?;
        let at = self.record(volume)?;
        let raw = self.mpb.raw();
        let sectors = log_sectors(raw, at, model.shape.level)?;
        let is_all = matches!(model.access, Access::ReadOnly(_))
            && self.frozen.is_none()
            && !changes_shape(raw, at)
            && raw.attributes() & !attribute::KNOWN == 0;
        is_all.then_some((model, at, sectors))
    }

    /// [`crate::metadata::MetadataSet::left_log`].
    pub fn left_log_of(&self, volume: VolumeIndex) -> Option<LeftLog> {
        let (model, at, _) = self.with_log(volume)?;
        let dirty = self.mpb.raw().u8(at + volume::DIRTY);
        Some(LeftLog {
            is_due: dirty & (volume::IN_FLIGHT | volume::LOG_VALID) != 0
                || model.consistency != Consistency::Clean,
        })
    }

    /// [`crate::metadata::MetadataSet::left_log_place`]: behind the data.
    pub fn left_log_at(&self, volume: VolumeIndex, slot: Slot) -> Option<(u64, u32)> {
        let (model, at, sectors) = self.with_log(volume)?;
        let disk = model.members.get(usize::from(slot))?.disk?;
        let size = self.set.disk(disk)?.facts?.size_sectors;
        let raw = self.mpb.raw();
        let map = raw.map_at(at, Which::First);
        let start = raw.wide(map + map::START_LO, map + map::START_HI);
        let stripes = raw.wide(map + map::STRIPES_LO, map + map::STRIPES_HI);
        let blocks = stripes
            .checked_mul(u64::from(raw.u16(map + map::STRIP)))?
            .checked_add(start)?;
        let first = blocks.checked_mul(self.block_sectors())?;
        let end = first.checked_add(u64::from(sectors))?;
        let anchor = self
            .disk_meta(disk)?
            .anchor?
            .checked_mul(self.block_sectors())?;
        // Not where the volume's own data is, whatever the map says of stripes.
        let data = model.members.get(usize::from(slot))?.offset_sectors;
        let data_end = data.checked_add(model.shape.member_sectors)?;
        (end <= size.min(anchor) && first >= data_end).then_some((first, sectors))
    }

    /// [`crate::metadata::MetadataSet::read_left_log`].
    pub fn read_left_log_of(
        &self,
        slot: Slot,
        bytes: &[u8],
        writes: &mut KVVec<LoggedWrite>,
    ) -> Result<bool> {
        let dialect = Dialect {
            signature: self.mpb.raw().u32(header::ORIG_FAMILY),
            unit_sectors: u32::try_from(self.block_sectors()).unwrap_or(1),
        };
        ppl::read(dialect, slot, bytes, writes)
    }

    /// [`crate::model::Event::LeftLogOff`]: what mdadm writes for `--consistency-policy=resync`.
    #[inline(never)]
    pub fn left_log_off(&mut self, volume: VolumeIndex, is_settled: bool) -> Checked {
        let Some((model, at, _)) = self.with_log(volume) else {
            return Err(reason!(EINVAL, "volume {volume} has no partial parity log"));
        };
        let is_clean = is_settled && model.consistency == Consistency::Dirty;
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.access = Access::ReadWrite;
            if is_clean {
                model.consistency = Consistency::Clean;
            }
        }
        let dirty = self.mpb.raw().u8(at + volume::DIRTY) & volume::IN_FLIGHT;
        self.mpb
            .put8(at + volume::DIRTY, if is_clean { 0 } else { dirty });
        self.mpb.put8(at + volume::HOLE_POLICY, volume::POLICY_OFF);
        self.changed = true;
        Ok(())
    }
}
