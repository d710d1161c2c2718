// SPDX-License-Identifier: GPL-2.0

//! The bad-block log: rewritten whole from the model when it changes.

use super::layout::*;
use super::set::ImsmSet;
use crate::model::{BadRange, Checked, DiskIndex, DiskState, Set, Volume, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

/// Bytes of the MPB's room that the log does not take.
const ROOM_KEPT_BYTES: usize = 1 << 10;

impl ImsmSet {
    /// [`crate::model::Event::BadRangeAdded`]. Of disks in no volume it is kept in memory
    /// only; of disks that count for nothing, not at all.
    #[inline(never)]
    pub fn bad_range_added(&mut self, range: BadRange) -> Checked {
        if self.live_disk(range.disk)?.state != DiskState::Online {
            // Nothing on it is used.
            return Ok(());
        }
        let block = self.block_sectors();
        let first = range.sector - range.sector.checked_rem(block).unwrap_or(0);
        let end = range
            .sector
            .checked_add(u64::from(range.sectors))
            .and_then(|end| end.checked_next_multiple_of(block))
            .filter(|end| end - first <= u64::from(u32::MAX))
            .ok_or_else(|| reason!(EINVAL, "a range that long is impossible"))?;
        let whole = BadRange {
            sector: first,
            sectors: (end - first) as u32,
            ..range
        };
        if range.sectors == 0 {
            return Ok(());
        }
        let listed = self.entry(range.disk).is_some();
        // What the range cuts in two makes one entry more.
        let needed = self.log_entries() + self.entries_for(&whole) + 1;
        // Room is left for members that are replaced.
        let bytes = (needed as usize).saturating_mul(bad::ENTRY_BYTES) + ROOM_KEPT_BYTES;
        let now = self.mpb.raw().u32(header::BAD_LOG_BYTES) as usize;
        let short = bytes > self.mpb.room().saturating_add(now);
        if listed && (needed > u64::from(BAD_ENTRIES_MAX) || short) {
            return Err(reason!(
                ENOSPC,
                "the bad-block log is full; replace the disk"
            ));
        }
        self.set.add_bad_range(whole)?;
        if listed {
            self.write_bad_log()?;
        }
        Ok(())
    }

    /// [`crate::model::Event::BadRangeCleared`].
    #[inline(never)]
    pub fn bad_range_cleared(&mut self, range: BadRange) -> Checked {
        self.live_disk(range.disk)?;
        let block = self.block_sectors();
        // Only whole blocks become good.
        let first = range
            .sector
            .checked_next_multiple_of(block)
            .unwrap_or(u64::MAX);
        let end = range.sector.saturating_add(u64::from(range.sectors));
        let end = end - end.checked_rem(block).unwrap_or(0);
        let Some(len) = end
            .checked_sub(first)
            .and_then(|len| u32::try_from(len).ok())
        else {
            return Ok(());
        };
        let whole = BadRange {
            sector: first,
            sectors: len,
            ..range
        };
        if !self
            .set
            .bad_ranges
            .iter()
            .any(|known| known.overlaps(&whole))
        {
            return Ok(());
        }
        let listed = self.entry(range.disk).is_some();
        if listed {
            self.check_log_room(self.entries_of_cut(&whole), 0)?;
        }
        self.set.clear_bad_range(whole)?;
        if listed {
            self.write_bad_log()?;
        }
        Ok(())
    }

    /// Entries that the log needs more when `range` is cut out of what is bad.
    fn entries_of_cut(&self, range: &BadRange) -> u64 {
        let end = |one: &BadRange| one.sector.saturating_add(u64::from(one.sectors));
        // Ranges are apart, so at most one reaches beyond both ends.
        let mut known = self.set.bad_ranges.iter();
        let cut = known.find(|old| old.reaches_around(range));
        cut.map_or(0, |old| {
            let before = BadRange {
                sectors: range.sector.saturating_sub(old.sector) as u32,
                ..*old
            };
            let after = BadRange {
                sectors: end(old).saturating_sub(end(range)) as u32,
                ..*old
            };
            (self.entries_for(&before) + self.entries_for(&after))
                .saturating_sub(self.entries_for(old))
        })
    }

    /// Refuses when there is no room for `entries` more in the log, and `bytes` more of the MPB besides.
    fn check_log_room(&self, entries: u64, bytes: usize) -> Checked {
        if entries == 0 && bytes == 0 {
            return Ok(());
        }
        let needed = self.log_entries().saturating_add(entries);
        let log = match needed {
            0 => 0,
            count => bad::ENTRIES + (count as usize).saturating_mul(bad::ENTRY_BYTES),
        };
        let now = self.mpb.raw().u32(header::BAD_LOG_BYTES) as usize;
        let room = self.mpb.room().saturating_add(now);
        if (entries > 0 && needed > u64::from(BAD_ENTRIES_MAX)) || log.saturating_add(bytes) > room
        {
            return Err(reason!(
                ENOSPC,
                "the bad-block log is full; replace the disk"
            ));
        }
        Ok(())
    }

    /// Whether a disk that is not in the table can come into it, and a second map into a volume's record.
    #[inline(never)]
    pub fn check_room_to_list(&self, disk: DiskIndex, map_bytes: usize) -> Checked {
        if self.entry(disk).is_some() {
            return self.check_log_room(0, map_bytes);
        }
        let own = self.set.bad_ranges.iter().filter(|one| one.disk == disk);
        let entries = own.map(|range| self.entries_for(range)).sum();
        self.check_log_room(entries, disk::BYTES.saturating_add(map_bytes))
    }

    /// Records what is bad on a disk that was not in the table before.
    pub fn log_listed(&mut self, disk: DiskIndex) -> Checked {
        match self.set.bad_ranges.iter().any(|range| range.disk == disk) {
            true => self.write_bad_log(),
            false => Ok(()),
        }
    }

    /// Forgets what is bad on a disk that counts for nothing any more.
    pub fn forget_bad_ranges(&mut self, disk: DiskIndex) -> Checked {
        if !self.set.bad_ranges.iter().any(|range| range.disk == disk) {
            return Ok(());
        }
        self.set.bad_ranges.retain(|range| range.disk != disk);
        if self.frozen.is_none() && self.mpb.raw().bad_log_at().is_some() {
            self.write_bad_log()?;
        }
        Ok(())
    }

    /// Forgets what is bad where a volume that is deleted has its members: what comes there next is written first. What is
    /// of another volume, too, stays.
    pub fn forget_bad_ranges_of(&mut self, volume: VolumeIndex) -> Checked {
        let Set {
            bad_ranges,
            volumes,
            ..
        } = &mut self.set;
        let before = bad_ranges.len();
        bad_ranges.retain(|range| {
            let has = |model: &Volume| {
                let sectors = model.shape.member_sectors;
                let mut members = model.members.iter();
                members.any(|member| range.is_in(member, sectors))
            };
            let live = (0..).zip(volumes.iter()).filter(|(_, one)| !one.deleted);
            let mut owners = live.filter(|(_, model)| has(model));
            !matches!((owners.next(), owners.next()), (Some((owner, _)), None) if owner == volume)
        });
        if bad_ranges.len() != before && self.mpb.raw().bad_log_at().is_some() {
            self.write_bad_log()?;
        }
        Ok(())
    }

    /// Most blocks of an entry: mdadm counts its sectors of 512 bytes in one byte.
    fn entry_blocks(&self) -> u64 {
        let blocks = bad::BLOCKS_MAX.checked_div(self.block_sectors());
        blocks.unwrap_or(bad::BLOCKS_MAX).max(1)
    }

    /// Entries that a range takes.
    fn entries_for(&self, range: &BadRange) -> u64 {
        self.entries_of(range, self.entry_blocks())
    }

    /// Entries that a range takes when one has `most` blocks.
    fn entries_of(&self, range: &BadRange, most: u64) -> u64 {
        let blocks = u64::from(range.sectors).div_ceil(self.block_sectors().max(1));
        blocks.div_ceil(most.max(1))
    }

    /// Entries that all ranges of disks of the table take.
    fn log_entries(&self) -> u64 {
        self.all_entries(self.entry_blocks())
    }

    /// The same, when one has `most` blocks.
    fn all_entries(&self, most: u64) -> u64 {
        self.set
            .bad_ranges
            .iter()
            .filter(|range| self.entry(range.disk).is_some())
            .map(|range| self.entries_of(range, most))
            .sum()
    }

    /// Writes the log from the model.
    #[inline(never)]
    fn write_bad_log(&mut self) -> Checked {
        let needed = self.log_entries();
        let bytes = bad::ENTRIES + (needed as usize).saturating_mul(bad::ENTRY_BYTES);
        let now = self.mpb.raw().u32(header::BAD_LOG_BYTES) as usize;
        let fits = bytes <= now.saturating_add(self.mpb.room());
        let most = match fits && needed <= u64::from(BAD_ENTRIES_MAX) {
            true => self.entry_blocks(),
            // What others wrote may fit only as they wrote it.
            false => bad::BLOCKS_MAX,
        };
        let count = u32::try_from(self.all_entries(most))
            .unwrap_or(u32::MAX)
            .min(BAD_ENTRIES_MAX);
        let log = self.mpb.resize_bad_log(count)?;
        let block = self.block_sectors();
        let mut at = log + bad::ENTRIES;
        let end = at + count as usize * bad::ENTRY_BYTES;
        for index in 0..self.set.bad_ranges.len() {
            let Some(range) = self.set.bad_ranges.get(index).copied() else {
                break;
            };
            let Some(entry) = self.entry(range.disk) else {
                continue;
            };
            let mut first = range.sector.checked_div(block).unwrap_or(0);
            let mut left = u64::from(range.sectors).div_ceil(block.max(1));
            while left > 0 && at < end {
                let blocks = left.min(most);
                self.mpb.put8(at, (blocks - 1) as u8);
                self.mpb.put8(at + 1, entry);
                let [a, b, c, d, e, f, ..] = first.to_le_bytes();
                self.mpb.put(at + 2, &[a, b, c, d, e, f]);
                at += bad::ENTRY_BYTES;
                first += blocks;
                left -= blocks;
            }
        }
        self.changed = true;
        Ok(())
    }
}
