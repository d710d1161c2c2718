// SPDX-License-Identifier: GPL-2.0

//! The partial parity log of a RAID 5, as mdadm, Intel's own drivers and EMD keep it (`docs/formats/imsm.md`, §8 and
//! §20): where it is, whether it counts, and how it is put on and taken off. What is in it, [`super::super::ppl`] knows.

use super::super::ppl::{self, Dialect};
use super::layout::*;
use super::model::{place_of, Place};
use super::read_volumes::{changes_shape, dirty_consistency};
use super::set::ImsmSet;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, HoleLog, LeftLog, Level, LogRow, LoggedWrite, Slot,
    Volume, VolumeIndex,
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

/// First sector of the log of each member of the volume whose map is at `map`: behind the stripes.
fn log_start(raw: Raw<'_>, map: usize, scale: u64) -> Option<u64> {
    let start = raw.wide(map + map::START_LO, map + map::START_HI);
    let stripes = raw.wide(map + map::STRIPES_LO, map + map::STRIPES_HI);
    stripes
        .checked_mul(u64::from(raw.u16(map + map::STRIP)))?
        .checked_add(start)?
        .checked_mul(scale)
}

/// Whether a log of `sectors` lies behind the data of each member, in what is set aside for the volume.
pub fn has_room(raw: Raw<'_>, map: usize, scale: u64, place: &Place, sectors: u32) -> bool {
    let end = place.start_sectors.saturating_add(place.reserved_sectors);
    let data_end = place
        .start_sectors
        .saturating_add(place.shape.member_sectors);
    log_start(raw, map, scale)
        .is_some_and(|first| first >= data_end && first.saturating_add(u64::from(sectors)) <= end)
}

/// Where the log of each member of the volume at `at`, which is at `place`, ends; `None` without one that lies where it
/// should.
pub fn log_end(raw: Raw<'_>, at: usize, scale: u64, place: &Place) -> Option<u64> {
    let sectors = log_sectors(raw, at, place.shape.level)?;
    let map = raw.map_at(at, Which::First);
    has_room(raw, map, scale, place, sectors).then_some(())?;
    log_start(raw, map, scale)?.checked_add(u64::from(sectors))
}

impl ImsmSet {
    /// A volume with a log that can be used; where its record is; how long its logs are.
    fn with_log(&self, volume: VolumeIndex) -> Option<(&Volume, usize, u32)> {
        let model = self.set.volume(volume)?;
        let at = self.record(volume)?;
        let raw = self.mpb.raw();
        let sectors = log_sectors(raw, at, model.shape.level)?;
        let is_all = !matches!(model.access, Access::Refused(_))
            && self.frozen.is_none()
            && !changes_shape(raw, at)
            && raw.attributes() & !attribute::KNOWN == 0;
        is_all.then_some((model, at, sectors))
    }

    /// [`crate::metadata::MetadataSet::left_log`]. It counts when writes may have been in flight. (mdadm and EMD set
    /// both bits then.)
    pub fn left_log_of(&self, volume: VolumeIndex) -> Option<LeftLog> {
        let (_, at, _) = self.with_log(volume)?;
        let dirty = self.mpb.raw().u8(at + volume::DIRTY);
        Some(LeftLog {
            is_due: dirty & (volume::IN_FLIGHT | volume::LOG_VALID) != 0,
        })
    }

    /// Has the model say which volumes have one.
    pub fn note_policies(&mut self) {
        for volume in 0..self.set.volumes.len() as VolumeIndex {
            let policy = match self.left_log_of(volume) {
                Some(_) => CrashPolicy::Log,
                None => CrashPolicy::Resync,
            };
            if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
                model.crash_policy = policy;
            }
        }
    }

    /// [`crate::metadata::MetadataSet::hole_log`].
    pub fn hole_log_of(&self, volume: VolumeIndex) -> Option<HoleLog> {
        let (model, _, sectors) = self.with_log(volume)?;
        matches!(model.access, Access::ReadWrite).then(|| {
            HoleLog::Row(LogRow {
                sectors,
                signature: self.mpb.raw().u32(header::ORIG_FAMILY),
                unit_sectors: u32::try_from(self.block_sectors()).unwrap_or(1),
                tells_all: true,
                encode: ppl::encode,
            })
        })
    }

    /// [`crate::metadata::MetadataSet::left_log_place`]: behind the data.
    pub fn left_log_at(&self, volume: VolumeIndex, slot: Slot) -> Option<(u64, u32)> {
        let (model, at, sectors) = self.with_log(volume)?;
        let member = model.members.get(usize::from(slot))?;
        let meta = self.disk_meta(member.disk?)?;
        let size = self.set.disk(member.disk?)?.facts?.size_sectors;
        let raw = self.mpb.raw();
        let map = raw.map_at(at, Which::First);
        let first = log_start(raw, map, self.block_sectors())?;
        let end = first.checked_add(u64::from(sectors))?;
        let anchor = meta.anchor?.checked_mul(self.block_sectors())?;
        // Not where the volume's own data is, whatever the map says of stripes.
        let data_end = member
            .offset_sectors
            .checked_add(model.shape.member_sectors)?;
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

    /// [`crate::model::Event::CrashPolicySet`].
    #[inline(never)]
    pub fn crash_policy_set(&mut self, volume: VolumeIndex, policy: CrashPolicy) -> Checked {
        let model = self.writable_volume(volume)?;
        let (level, size) = (model.shape.level, model.size_sectors);
        if level.parity_members() == 0 {
            return Err(reason!(
                EINVAL,
                "{level} keeps no parity: there is no hole for a crash to leave"
            ));
        }
        let now = self.left_log_of(volume);
        match (policy, now) {
            (CrashPolicy::None, _) => Err(reason!(
                EOPNOTSUPP,
                "Intel metadata has no place for that policy"
            )),
            (CrashPolicy::Resync, None) | (CrashPolicy::Log, Some(_)) => Ok(()),
            (CrashPolicy::Resync, Some(log)) if log.is_due => Err(reason!(
                EBUSY,
                "writes were in flight: what its log tells of has to be put right first"
            )),
            (CrashPolicy::Resync, Some(_)) => self.left_log_off(volume, false),
            (CrashPolicy::Log, None) => self.put_log_on(volume, level, size),
        }
    }

    /// What is in the log's place then does not count: nothing is in flight, and before something is, it is emptied.
    fn put_log_on(&mut self, volume: VolumeIndex, level: Level, size_sectors: u64) -> Checked {
        let Some(at) = self.record(volume) else {
            return Ok(());
        };
        let (raw, scale) = (self.mpb.raw(), self.block_sectors());
        if raw.u8(at + volume::DIRTY) != 0 {
            return Err(reason!(
                EBUSY,
                "writes were in flight: have it resynced before it gets a log"
            ));
        }
        let map = raw.map_at(at, Which::First);
        let place = place_of(raw, map, size_sectors, scale)?;
        if level != Level::Raid5 || !has_room(raw, map, scale, &place, LOGS_SECTORS) {
            return Err(reason!(
                EOPNOTSUPP,
                "there is no room of {LOGS_SECTORS} sectors behind the data of its members"
            ));
        }
        let first = log_start(raw, map, scale).unwrap_or(u64::MAX);
        let end = first.saturating_add(u64::from(LOGS_SECTORS));
        let limit = self.check_log_place(volume, first, end)?;
        self.mpb.put8(at + volume::HOLE_POLICY, volume::POLICY_LOGS);
        self.lower_limit(limit);
        self.note_policies();
        self.changed = true;
        Ok(())
    }

    /// Refuses a log at `first .. end` of each member when something else is or may be there; gives how long the MPB may
    /// become beside it.
    fn check_log_place(&self, volume: VolumeIndex, first: u64, end: u64) -> Checked<usize> {
        if self.is_others(volume, first, end) {
            return Err(reason!(
                EOPNOTSUPP,
                "another volume is where the log of volume {volume} would be"
            ));
        }
        let mut limit = MPB_BYTES_MAX;
        let members = self.set.volume(volume).into_iter();
        for disk in members.flat_map(|model| model.members.iter().filter_map(|m| m.disk)) {
            let Some(anchor) = self.disk_meta(disk).and_then(|meta| meta.anchor) else {
                continue;
            };
            let usable = self.live_disk(disk)?.usable_sectors;
            if end > usable {
                return Err(reason!(
                    EOPNOTSUPP,
                    "disk {disk} has {usable} sectors, the log would end at sector {end}"
                ));
            }
            let end = end.max(self.used_end(disk));
            limit = limit.min(self.limit_with(anchor, end, 0)?);
        }
        Ok(limit)
    }

    /// The dirty bits of a volume in which writes are in flight.
    pub fn in_flight_bits(&self, volume: VolumeIndex) -> u8 {
        match self.hole_log_of(volume) {
            Some(_) => volume::IN_FLIGHT | volume::LOG_VALID,
            None => volume::IN_FLIGHT,
        }
    }

    /// [`crate::model::Event::LeftLogOff`]: what mdadm writes for `--consistency-policy=resync`.
    #[inline(never)]
    pub fn left_log_off(&mut self, volume: VolumeIndex, is_settled: bool) -> Checked {
        let Some((model, at, _)) = self.with_log(volume) else {
            return Err(reason!(EINVAL, "volume {volume} has no partial parity log"));
        };
        let level = model.shape.level;
        let is_clean = is_settled && model.consistency == Consistency::Dirty;
        let dirty = match self.mpb.raw().u8(at + volume::DIRTY) & volume::IN_FLIGHT {
            _ if is_clean => 0,
            dirty => dirty,
        };
        self.mpb.put8(at + volume::DIRTY, dirty);
        self.mpb.put8(at + volume::HOLE_POLICY, volume::POLICY_OFF);
        let then = match dirty {
            0 => None,
            // Without the log there is no need to tell a resync from a dirty volume.
            _ => Some(dirty_consistency(self.mpb.raw(), at, level)),
        };
        if let Some(model) = self.set.volumes.get_mut(usize::from(volume)) {
            model.access = Access::ReadWrite;
            if is_clean {
                model.consistency = Consistency::Clean;
            } else if then == Some(Consistency::Dirty) {
                model.consistency = Consistency::Dirty;
            }
        }
        self.note_policies();
        self.changed = true;
        self.refresh_migration(volume, dirty != 0)
    }
}
