// SPDX-License-Identifier: GPL-2.0

//! Events about redundancy: dirty, clean, resync, scrubs, regions, bad ranges.
//!
//! A volume with a bitmap: `Dirty` says that writes may be in flight in regions that are marked; those
//! that are not are marked (`RegionsDirty`) before the first write.

use super::badblocks;
use super::bitmap;
use super::layout::*;
use super::own_mark;
use super::set::MdSet;
use crate::model::{
    BadRange, Checked, Consistency, DiskIndex, DiskState, Level, MemberState, Scrub, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

impl MdSet {
    /// Level and consistency of a volume that can be used and is all there.
    fn redundancy(&self, volume: VolumeIndex) -> Checked<(Level, Consistency)> {
        let model = self.live_volume(volume)?;
        let found = (model.shape.level, model.consistency);
        if found.0.is_redundant() {
            self.check_whole()?;
        }
        Ok(found)
    }

    fn set_consistency(&mut self, then: Consistency) {
        if let Some(model) = self.array_mut() {
            model.consistency = then;
        }
    }

    /// [`crate::model::Event::Dirty`].
    #[inline(never)]
    pub fn dirty(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        // A mark that is on some disks only, because an update was cut, may go with them. And who is in no slot any
        // more must be in none of the superblocks, and old for everyone, before something is written without it.
        let is_old = || self.owes_events.is_some() || self.lags() || self.roles_changed().lost;
        if level.is_redundant() && (!self.in_flight || is_old()) {
            self.begin_writes(now);
            self.touched.all = true;
        }
        Ok(())
    }

    fn begin_writes(&mut self, now: Consistency) {
        self.in_flight = true;
        if now == Consistency::Clean {
            self.set_consistency(Consistency::Dirty);
        }
    }

    /// [`crate::model::Event::Clean`].
    #[inline(never)]
    pub fn clean(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        if !level.is_redundant() || !self.in_flight {
            return Ok(());
        }
        self.in_flight = false;
        if now == Consistency::Dirty {
            self.set_consistency(Consistency::Clean);
        }
        self.touched.all = true;
        Ok(())
    }

    /// [`crate::model::Event::ResyncProgress`].
    #[inline(never)]
    pub fn resync_progress(&mut self, volume: VolumeIndex, done: u64) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        let model = self.live_volume(volume)?;
        let most = model.shape.sync_sectors(model.size_sectors);
        if !level.is_redundant() || done > most {
            return Err(reason!(
                EINVAL,
                "{done} sectors in sync on {level} with {most} is impossible"
            ));
        }
        let then = Consistency::Initialising { done_sectors: done };
        let progress = matches!(
            now,
            Consistency::Initialising { done_sectors } if done_sectors <= done
        );
        self.set_consistency(then);
        if let Some((region, regions)) = self
            .bitmap
            .as_ref()
            .filter(|_| !progress)
            .map(|map| (done / map.region_sectors.max(1), map.regions))
        {
            // A resync after a crash goes by the bitmap alone.
            let first = u32::try_from(region).unwrap_or(regions).min(regions);
            self.mark(first, regions, true);
        }
        // While writes are in flight there is no mark on the disks.
        self.touched.all = !self.in_flight && now != then;
        Ok(())
    }

    /// [`crate::model::Event::ResyncDone`].
    #[inline(never)]
    pub fn resync_done(&mut self, volume: VolumeIndex) -> Checked {
        let (level, now) = self.redundancy(volume)?;
        if !level.is_redundant() {
            return Ok(());
        }
        let then = if self.in_flight {
            Consistency::Dirty
        } else {
            Consistency::Clean
        };
        self.set_consistency(then);
        self.touched.all = !self.in_flight && now != then;
        if let Some(regions) = self
            .bitmap
            .as_ref()
            .filter(|_| !self.in_flight)
            .map(|map| map.regions)
        {
            self.mark(0, regions, false);
            self.note_cleared();
        }
        Ok(())
    }

    /// [`crate::model::Event::ScrubProgress`]. It is a matter of each superblock by itself: the event count stays.
    #[inline(never)]
    pub fn scrub_progress(&mut self, volume: VolumeIndex, scrub: Option<Scrub>) -> Checked {
        let (level, _) = self.redundancy(volume)?;
        let model = self.live_volume(volume)?;
        model.check_scrub(scrub)?;
        let then = scrub.and_then(own_mark::kept);
        if !level.is_redundant() || model.scrub == then {
            return Ok(());
        }
        if let Some(model) = self.array_mut() {
            model.scrub = then;
        }
        for disk in 0..self.disks.len() as DiskIndex {
            let in_sync = matches!(self.slot_of(disk), Some((_, MemberState::InSync)));
            if let Some(home) = self.home_mut(disk) {
                home.touched |= in_sync;
            }
        }
        Ok(())
    }

    /// Checks regions of a volume's log; gives the one behind the last.
    #[inline(never)]
    fn check_regions(&self, volume: VolumeIndex, first: u32, count: u32) -> Checked<u32> {
        self.redundancy(volume)?;
        let Some(map) = self.bitmap.as_ref() else {
            return Err(reason!(
                EOPNOTSUPP,
                "the array has no bitmap of which regions are being written"
            ));
        };
        first
            .checked_add(count)
            .filter(|&end| end <= map.regions)
            .ok_or_else(|| {
                reason!(
                    EINVAL,
                    "{count} regions from {first} are not in a bitmap of {}",
                    map.regions
                )
            })
    }

    /// [`crate::model::Event::RegionsDirty`]. The array is dirty too from now on.
    #[inline(never)]
    pub fn regions_dirty(&mut self, volume: VolumeIndex, first: u32, count: u32) -> Checked {
        let end = self.check_regions(volume, first, count)?;
        let (_, now) = self.redundancy(volume)?;
        if !self.in_flight {
            self.touched.all = true;
        }
        self.begin_writes(now);
        self.mark(first, end, true);
        Ok(())
    }

    /// [`crate::model::Event::RegionsClean`].
    #[inline(never)]
    pub fn regions_clean(&mut self, volume: VolumeIndex, first: u32, count: u32) -> Checked {
        let end = self.check_regions(volume, first, count)?;
        self.mark(first, end, false);
        self.note_cleared();
        Ok(())
    }

    /// Bits were cleared: members that were left out before cannot be brought up to date by the bitmap
    /// any more, nor those that somebody was about to.
    fn note_cleared(&mut self) {
        let events = self.head.events;
        let changed = self.touched.bits.is_some();
        let version = self.version;
        self.touched.recoveries =
            changed && self.homes().any(|(_, home)| home.goes_by_bitmap(version));
        if let Some(map) = self.bitmap.as_mut().filter(|_| changed) {
            if get64(&map.bytes, bitmap::at::CLEARED) < events {
                put64(&mut map.bytes, bitmap::at::CLEARED, events);
                self.touched.bitmap_head_first = true;
            }
        }
    }

    /// Marks regions in the bitmap and in the model.
    fn mark(&mut self, first: u32, end: u32, dirty: bool) {
        if let Some(map) = self.bitmap.as_mut() {
            let changed = bitmap::mark(&mut map.bytes, first, end, dirty);
            self.touched.bits = match (self.touched.bits, changed) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (one, other) => one.or(other),
            };
        }
        if let Some(log) = self.array_mut().and_then(|array| array.regions.as_mut()) {
            log.mark(first, end - first, dirty);
        }
    }

    /// [`crate::model::Event::BadRangeAdded`] and [`crate::model::Event::BadRangeCleared`].
    #[inline(never)]
    pub fn bad_range(&mut self, range: BadRange, bad: bool) -> Checked {
        let model = self.live_disk(range.disk)?;
        let end = range.sector.checked_add(u64::from(range.sectors));
        if model.state != DiskState::Online {
            // Nothing on it is used.
            return Ok(());
        }
        if bad && end.is_none_or(|end| end > model.usable_sectors) {
            return Err(reason!(
                EINVAL,
                "{} sectors at {} are not data of disk {}",
                range.sectors,
                range.sector,
                range.disk
            ));
        }
        if let Some(home) = self.home(range.disk).filter(|home| home.log.is_some()) {
            // What is cut in two takes one more.
            let more = if bad {
                badblocks::entries_of(&range, home.log_shift) + 1
            } else {
                usize::from(
                    self.set
                        .bad_ranges
                        .iter()
                        .any(|known| known.reaches_around(&range)),
                )
            };
            if home.log_used + more > badblocks::room(&home.logs) / 2 {
                return Err(reason!(
                    ENOSPC,
                    "the bad-block log of disk {} is full; replace the disk",
                    range.disk
                ));
            }
        }
        if bad {
            self.set.add_bad_range(range)?;
        } else {
            self.set.clear_bad_range(range)?;
        }
        if self.frozen.is_none() {
            self.write_log(range.disk);
        }
        Ok(())
    }

    /// Brings a disk's log to what the model has.
    fn write_log(&mut self, disk: crate::model::DiskIndex) {
        let ranges = core::mem::take(&mut self.set.bad_ranges);
        if let Some(home) = self.home_mut(disk).filter(|home| home.log.is_some()) {
            let shift = home.log_shift;
            let used = badblocks::encode(home.log_new(), shift, &ranges, disk);
            let half = home.logs.len() / 2;
            let (old, new) = home.logs.split_at(half);
            home.log_touched = old != new;
            // The superblock says whether there are entries.
            home.touched = (used > 0) != (home.log_used > 0);
            home.log_used = used;
        }
        self.set.bad_ranges = ranges;
    }
}
