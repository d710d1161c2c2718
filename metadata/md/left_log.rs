// SPDX-License-Identifier: GPL-2.0

//! The partial parity log of a RAID 5, as md, mdadm and EMD keep it (`docs/formats/md.md`): where it is, whether it counts,
//! and how it is put on and taken off. What is in it, [`super::super::ppl`] knows.
//!
//! Sources: the kernel's `md.c` (`super_1_load`, `super_1_validate`) and `raid5-ppl.c` (`ppl_validate_rdev`); mdadm's `super1.c`
//! (`update_super1`, `write_init_super1`).

use super::super::bytes::slice;
use super::super::ppl::{self, Dialect};
use super::head::{Head, Stretch};
use super::layout::*;
use super::set::{image, Home, MdSet};
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskIndex, HoleLog, LeftLog, Level, LogRow,
    LoggedWrite, MemberState, Reason, Slot, VolumeIndex,
};
use crate::personalities::hole_log::entry::crc32c;
use crate::personalities::hole_log::row::{HEADER_SECTORS, SECTORS_MIN};
use crate::reason;
use kernel::prelude::*;

/// Sectors of the log of a new array, if there is room: 1 MiB.
pub(super) const LOG_SECTORS: u32 = 2048;

/// Least sectors of a log that is put on, as mdadm has it where there is no room for more: a header, and 128 KiB.
const PUT_ON_SECTORS_MIN: u32 = HEADER_SECTORS + 256;

/// Bytes of [`MdSet::log_head`]: an empty header, and the place where the next one would be.
pub(super) const HEAD_BYTES: usize = 2 * ppl::HEADER_BYTES;

/// The log of a disk whose superblock is at `sector`, where the superblock `newest` has its own.
pub(super) fn as_in(newest: &Head, sector: u64) -> Option<Stretch> {
    let log = newest.ppl?;
    let (there, here) = (i64::try_from(log.sector).ok()?, i64::try_from(sector).ok()?);
    let by = there.checked_sub(i64::try_from(newest.sector).ok()?)?;
    Some(Stretch {
        sector: u64::try_from(here.checked_add(by)?).ok()?,
        sectors: log.sectors,
    })
}

/// Says in a superblock at `sector` where its log is.
pub(super) fn put_place(bytes: &mut [u8], sector: u64, log: Stretch) {
    // Both are on one disk, and closer than 2^15 sectors: they come from such a field, or from `free_place`.
    let by = log.sector.wrapping_sub(sector) as u16;
    put16(bytes, v1::PPL_OFFSET, by);
    put16(
        bytes,
        v1::PPL_SECTORS,
        u16::try_from(log.sectors).unwrap_or(u16::MAX),
    );
}

impl MdSet {
    fn row(&self) -> LogRow {
        LogRow {
            sectors: self.row_sectors,
            signature: ppl::signature_of(&self.head.uuid),
            unit_sectors: 1,
            tells_all: true,
            encode: ppl::encode,
        }
    }

    /// The array, when it has a log that can be used.
    fn with_log(&self, volume: VolumeIndex) -> Option<&crate::model::Volume> {
        self.set.volume(volume).filter(|_| self.left_log)
    }

    /// [`crate::metadata::MetadataSet::left_log`]. md goes by it whenever the array is not clean.
    pub(super) fn left_log_of(&self, volume: VolumeIndex) -> Option<LeftLog> {
        let model = self.with_log(volume)?;
        Some(LeftLog {
            is_due: model.consistency != Consistency::Clean,
        })
    }

    /// [`crate::metadata::MetadataSet::hole_log`].
    pub(super) fn hole_log_of(&self, volume: VolumeIndex) -> Option<HoleLog> {
        let model = self.with_log(volume)?;
        let is_kept = matches!(model.access, Access::ReadWrite) && self.row_sectors > 0;
        is_kept.then(|| HoleLog::Row(self.row()))
    }

    /// [`crate::metadata::MetadataSet::left_log_place`].
    pub(super) fn left_log_at(&self, volume: VolumeIndex, slot: Slot) -> Option<(u64, u32)> {
        let model = self.with_log(volume)?;
        let disk = model.members.get(usize::from(slot))?.disk?;
        let place = self.home(disk)?.left_log?;
        Some((place.sector, place.sectors))
    }

    /// [`crate::metadata::MetadataSet::read_left_log`].
    pub(super) fn read_left_log_of(
        &self,
        slot: Slot,
        bytes: &[u8],
        writes: &mut KVVec<LoggedWrite>,
    ) -> Result<bool> {
        let dialect = Dialect {
            signature: ppl::signature_of(&self.head.uuid),
            unit_sectors: 1,
        };
        ppl::read(dialect, slot, bytes, writes)
    }

    /// The homes of the members that are here.
    fn member_homes(&self) -> impl Iterator<Item = (DiskIndex, &Home)> + '_ {
        self.homes().filter(|(disk, _)| {
            let slot = self.slot_of(*disk);
            matches!(
                slot,
                Some((_, MemberState::InSync | MemberState::Rebuilding { .. }))
            )
        })
    }

    /// How long the log of each member is, when EMD can keep it up.
    pub(super) fn kept_sectors(&self) -> Checked<u32> {
        let mut common = None;
        for (disk, home) in self.member_homes() {
            let Some(log) = home.left_log else {
                return Err(reason!(
                    EROFS,
                    "disk {disk} has no usable place for its partial parity log"
                ));
            };
            if common.is_some_and(|sectors| sectors != log.sectors) {
                return Err(reason!(
                    EROFS,
                    "its members have partial parity logs of different lengths"
                ));
            }
            common = Some(log.sectors);
        }
        let sectors = common.unwrap_or(0);
        if sectors < SECTORS_MIN {
            return Err(reason!(
                EROFS,
                "its partial parity log of {sectors} sectors is too small to be kept up: that takes \
                 {SECTORS_MIN}"
            ));
        }
        Ok(sectors)
    }

    /// Why an array that has a log is only read, if it is; notes how long the log is.
    pub(super) fn take_log(&mut self) -> Option<Reason> {
        match self.kept_sectors() {
            Ok(sectors) => {
                self.row_sectors = sectors;
                None
            }
            Err(why) => Some(reason!(
                EROFS,
                "{}: stop it, and emdadm policy VOLUME resync takes that off",
                why.text()
            )),
        }
    }

    /// Whether a spare's log, if the array has any, is as long as all others.
    pub(super) fn has_log_like_members(&self, home: &Home) -> bool {
        let own = home.left_log.map(|log| log.sectors);
        !self.left_log || own == Some(self.row_sectors)
    }

    /// [`crate::model::Event::CrashPolicySet`].
    #[inline(never)]
    pub(super) fn crash_policy_set(&mut self, volume: VolumeIndex, policy: CrashPolicy) -> Checked {
        let level = self.live_volume(volume)?.shape.level;
        match (policy, self.left_log_of(volume)) {
            (CrashPolicy::None, _) => Err(reason!(
                EOPNOTSUPP,
                "md's metadata has no place for that policy"
            )),
            (CrashPolicy::Resync, None) | (CrashPolicy::Log, Some(_)) => Ok(()),
            (CrashPolicy::Resync, Some(log)) if log.is_due && self.in_flight => Err(reason!(
                EBUSY,
                "writes were in flight: what its log tells of has to be put right first"
            )),
            (CrashPolicy::Resync, Some(_)) => self.left_log_off(volume, false),
            (CrashPolicy::Log, None) => self.put_log_on(level),
        }
    }

    /// The log is empty on all disks before any superblock says that it is there.
    #[inline(never)]
    fn put_log_on(&mut self, level: Level) -> Checked {
        self.check_whole()?;
        if level != Level::Raid5 || self.version == Version::V090 {
            return Err(reason!(
                EOPNOTSUPP,
                "md has a partial parity log for RAID 5 with superblocks 1.x only, not for {level} in {}",
                self.version.name()
            ));
        }
        if self.head.features & feature::BITMAP != 0 {
            return Err(reason!(
                EBUSY,
                "it has a bitmap, and md has none beside a partial parity log: \
                 mdadm --grow --bitmap=none takes it off"
            ));
        }
        if self.in_flight {
            return Err(reason!(
                EBUSY,
                "writes were in flight: have it resynced before it gets a log"
            ));
        }
        // All of one length, which every disk that may be a member has room for.
        let places = || self.homes().map(|(disk, home)| (disk, free_place(home)));
        let room = |place: Option<Stretch>| place.map_or(0, |place| place.sectors);
        let sectors = places().map(|(_, place)| room(place)).min().unwrap_or(0);
        if sectors < PUT_ON_SECTORS_MIN {
            return Err(reason!(
                ENOSPC,
                "there is no room for a log of {PUT_ON_SECTORS_MIN} sectors beside the superblocks of its disks"
            ));
        }
        for meta in self.disks.iter_mut() {
            if let Some(home) = meta.home.as_mut() {
                home.left_log = free_place(home).map(|place| Stretch { sectors, ..place });
            }
        }
        (self.left_log, self.row_sectors) = (true, sectors);
        self.head.features |= feature::PPLS;
        if let Some(model) = self.array_mut() {
            model.crash_policy = CrashPolicy::Log;
        }
        self.fill_log_head();
        self.touched.log_heads = true;
        self.touched.all = true;
        Ok(())
    }

    /// Makes the header that an empty log begins with. Does not allocate.
    pub(super) fn fill_log_head(&mut self) {
        let row = self.row();
        ppl::encode(&row, 0, None, true, crc32c, &mut self.log_head);
    }

    /// [`crate::model::Event::LeftLogOff`].
    #[inline(never)]
    pub(super) fn left_log_off(&mut self, volume: VolumeIndex, is_settled: bool) -> Checked {
        let now = self.live_volume(volume)?.consistency;
        self.check_whole()?;
        if !self.left_log {
            return Err(reason!(EINVAL, "the array has no partial parity log"));
        }
        (self.left_log, self.row_sectors, self.frozen) = (false, 0, None);
        self.head.features &= !feature::LOGS;
        if is_settled && now == Consistency::Dirty {
            self.in_flight = false;
            if let Some(model) = self.array_mut() {
                model.consistency = Consistency::Clean;
            }
        }
        if let Some(model) = self.array_mut() {
            model.access = Access::ReadWrite;
            model.crash_policy = CrashPolicy::Resync;
        }
        self.touched.all = true;
        Ok(())
    }
}

/// Where a log goes on a disk that has none: where mdadm puts it, or, where that is too short, behind the bad-block log; at
/// most [`LOG_SECTORS`].
fn free_place(home: &Home) -> Option<Stretch> {
    let unit = u64::from((home.block_bytes / 512).max(1));
    let bytes = slice(home.image(image::NEW), 0, SUPER_BYTES)?;
    // What the superblock says, not what of it is used: md keeps off it, used or not.
    let log_sectors = u64::from(get16(bytes, v1::LOG_SECTORS));
    let log_at = home
        .sector
        .checked_add_signed(i64::from(get32(bytes, v1::LOG_OFFSET) as i32))?;
    let log_end = log_at.checked_add(log_sectors)?;
    let has_log = log_sectors > 0 && get32(bytes, v1::LOG_OFFSET) != 0;
    let data_end = home.data_offset.checked_add(home.data_size)?;
    let gap = |from: u64, to: u64| {
        let from = from.checked_next_multiple_of(unit)?;
        let len = to.checked_sub(from)?.min(u64::from(LOG_SECTORS));
        let sectors = u32::try_from(len - len.checked_rem(unit.max(8))?).ok()?;
        // Signed 16 bits, counted from the superblock.
        let near = from.abs_diff(home.sector) <= i16::MAX as u64;
        (near && sectors >= PUT_ON_SECTORS_MIN).then_some(Stretch {
            sector: from,
            sectors,
        })
    };
    if home.sector < home.data_offset {
        let behind = home.sector.checked_add(u64::from(SUPER_SECTORS))?;
        let first = match has_log && log_at >= behind {
            true => gap(behind, log_at.min(home.data_offset)),
            false => None,
        };
        let start = match has_log {
            true => log_end.max(behind),
            false => behind,
        };
        return first.or_else(|| gap(start, home.data_offset));
    }
    // Between data and superblock; the bad-block log is right before that.
    let end = match has_log && log_at >= data_end && log_at < home.sector {
        true => log_at,
        false => home.sector,
    };
    gap(data_end, end)
}
