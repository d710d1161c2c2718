// SPDX-License-Identifier: GPL-2.0

//! Events that change EMD's own records: regions, marks, bad ranges; and which disks then lack which
//! blocks. Nothing here allocates, but for a new volume's region log.

use super::layout::*;
use super::log_place::is_ours;
use super::set::DdfSet;
use super::vendor_log::{set_bit, Kind, VendorLog, NO_MARK};
use crate::model::{
    BadRange, Checked, Consistency, DiskIndex, MemberState, RegionLog, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// A bad range as it is recorded: reference of the disk, sectors, first sector.
type Entry = (u32, u32, u64);

/// Bad ranges that one event adds at most.
const ADDED_MAX: usize = 3;

impl DdfSet {
    /// [`crate::model::Event::RegionsDirty`] and [`crate::model::Event::RegionsClean`].
    #[inline(never)]
    pub fn mark_regions(
        &mut self,
        volume: VolumeIndex,
        first: u32,
        count: u32,
        dirty: bool,
    ) -> Checked {
        let known = self.live_volume(volume)?.regions.as_ref();
        let slot = self.volume_meta(volume).and_then(|meta| meta.log_slot);
        let (Some(regions), Some(slot)) = (known.map(|log| log.regions), slot) else {
            return Err(reason!(
                EOPNOTSUPP,
                "the disks have no place for which regions of volume {volume} are being written"
            ));
        };
        let end = first.checked_add(count).filter(|&end| end <= regions);
        let Some(end) = end else {
            return Err(reason!(
                EINVAL,
                "regions {first}+{count} are not all among the volume's {regions}"
            ));
        };
        let per_block = self
            .log
            .as_ref()
            .map_or(1, |log| log.plan.regions_per_block());
        self.keep_lowered_mark(volume);
        let mut from = first;
        while from < end {
            let n = from.checked_div(per_block).unwrap_or(0);
            let to = end.min(n.saturating_add(1).saturating_mul(per_block));
            self.mark_block(volume, slot, n, from..to, dirty);
            from = to;
        }
        Ok(())
    }

    /// Marks regions that have their bits in one block.
    fn mark_block(
        &mut self,
        volume: VolumeIndex,
        slot: u16,
        n: u32,
        regions: core::ops::Range<u32>,
        dirty: bool,
    ) {
        let layout = self.layout;
        let Some(guid) = self.volume_meta(volume).map(|meta| meta.guid) else {
            return;
        };
        let model = self.set.volumes.get_mut(usize::from(volume));
        let (Some(known), Some(log)) = (model.and_then(|v| v.regions.as_mut()), self.log.as_mut())
        else {
            return;
        };
        if regions
            .clone()
            .all(|region| known.is_dirty(region) == dirty)
        {
            return;
        }
        let count = regions.end.saturating_sub(regions.start);
        known.mark(regions.start, count, dirty);
        log.put_regions(&layout, slot, n, &guid, known);
        let index = log.plan.region(slot, n);
        log.seal(&layout, index);
        self.lacks(index, Some(volume));
    }

    /// Notes that block `index` has to be written: to the members of `volume`, or to all disks.
    pub fn lacks(&mut self, index: u32, volume: Option<VolumeIndex>) {
        let members = volume.and_then(|volume| self.set.volume(volume));
        for (disk, meta) in (0u16..).zip(self.disks.iter_mut()) {
            let concerned = match members {
                Some(model) => model.members.iter().any(|m| m.disk == Some(disk)),
                None => volume.is_none(),
            };
            let section = meta.home.as_mut().and_then(|home| home.vendor.as_mut());
            if let Some(section) = section.filter(|_| concerned) {
                set_bit(&mut section.pending, index);
            }
        }
    }

    /// Notes that `disk` needs all blocks of `volume`, whose member it is now.
    pub fn lacks_volume(&mut self, disk: DiskIndex, volume: VolumeIndex) {
        let slot = self.volume_meta(volume).and_then(|meta| meta.log_slot);
        let (Some(slot), Some(plan)) = (slot, self.log.as_ref().map(|log| log.plan)) else {
            return;
        };
        if let Some(section) = self.home_mut(disk).and_then(|home| home.vendor.as_mut()) {
            for index in plan.slot_blocks(slot) {
                set_bit(&mut section.pending, index);
            }
        }
    }

    /// Writes down how far an initialisation is, if that is less than was recorded: after a crash it goes on where the first write may
    /// have been in flight, and that is told by regions and by the dirty bit only, which may be taken back before it gets there.
    pub(super) fn keep_lowered_mark(&mut self, volume: VolumeIndex) {
        let is_begun = self
            .set
            .volume(volume)
            .is_some_and(|model| matches!(model.consistency, Consistency::Initialising { .. }));
        if is_begun {
            self.record_marks(volume);
        }
    }

    /// Writes down how far resync and rebuilds of a volume are.
    #[inline(never)]
    pub fn record_marks(&mut self, volume: VolumeIndex) {
        let layout = self.layout;
        let slot = self.volume_meta(volume).and_then(|meta| meta.log_slot);
        let (Some(slot), Some(log), Some(model)) =
            (slot, self.log.as_mut(), self.set.volume(volume))
        else {
            return;
        };
        let resync = match model.consistency {
            Consistency::Initialising { done_sectors } => done_sectors,
            // An old mark is of no use, and of no harm: the entry says that nothing is to be done.
            Consistency::Clean | Consistency::Dirty => NO_MARK,
        };
        let (pd, disks) = (&self.pd, &self.disks);
        let rebuilds = model.members.iter().filter_map(|member| {
            let meta = disks.get(usize::from(member.disk?))?;
            meta.entry?;
            let bits = super::tables::worst_state(
                pd,
                layout.endian,
                layout.pd_entries,
                meta.reference,
                |entry| entry.disk_state(),
            );
            // The bit is the disk's, who may be rebuilding in another volume.
            let elsewhere = bits? & pde::REBUILDING != 0;
            match member.state {
                MemberState::Rebuilding { done_sectors } if done_sectors > 0 => {
                    Some((meta.reference, done_sectors))
                }
                MemberState::InSync if elsewhere => Some((meta.reference, NO_MARK)),
                _ => None,
            }
        });
        if log.put_marks(&layout, slot, resync, rebuilds, model.scrub) {
            let index = log.plan.marks(slot);
            log.seal(&layout, index);
            self.lacks(index, Some(volume));
        }
    }

    /// A slot of the records that no volume has.
    pub(super) fn free_log_slot(&self) -> Option<u16> {
        let slots = self.log.as_ref()?.plan.slots;
        (0..slots).find(|&slot| {
            !self
                .set
                .live_volumes()
                .any(|(index, _)| self.volume_meta(index).and_then(|m| m.log_slot) == Some(slot))
        })
    }

    /// Gives a new volume its region log and marks, when there is a place left.
    #[inline(never)]
    pub fn start_volume_log(&mut self, volume: VolumeIndex, regions: RegionLog) {
        let layout = self.layout;
        let slot = self.free_log_slot();
        let (Some(slot), Some(meta), Some(log), Some(model)) = (
            slot,
            self.volumes.get_mut(usize::from(volume)),
            self.log.as_mut(),
            self.set.volumes.get_mut(usize::from(volume)),
        ) else {
            return;
        };
        if !model.shape.level.is_redundant() {
            return;
        }
        meta.log_slot = Some(slot);
        let guid = meta.guid;
        log.format(&layout, log.plan.marks(slot), Kind::Marks, &guid);
        for n in 0..log.plan.region_blocks {
            log.put_regions(&layout, slot, n, &guid, &regions);
        }
        for index in log.plan.slot_blocks(slot) {
            log.seal(&layout, index);
        }
        model.regions = Some(regions);
        for index in log.plan.slot_blocks(slot) {
            self.lacks(index, Some(volume));
        }
        self.record_marks(volume);
    }

    /// [`crate::model::Event::BadRangeAdded`].
    #[inline(never)]
    pub fn bad_range_added(&mut self, range: BadRange) -> Checked {
        self.check_range(&range)?;
        self.set.add_bad_range(range)?;
        self.sync_bad_ranges(self.scope(&range), false);
        Ok(())
    }

    /// [`crate::model::Event::BadRangeCleared`].
    #[inline(never)]
    pub fn bad_range_cleared(&mut self, range: BadRange) -> Checked {
        self.check_range(&range)?;
        self.set.clear_bad_range(range)?;
        self.sync_bad_ranges(self.scope(&range), false);
        Ok(())
    }

    fn check_range(&self, range: &BadRange) -> Checked {
        let model = self.live_disk(range.disk)?;
        let end = range.sector.checked_add(u64::from(range.sectors));
        if end.is_none_or(|end| end > model.usable_sectors) {
            return Err(reason!(
                EINVAL,
                "sectors {}+{} are not all among the {} that disk {} has for data",
                range.sector,
                range.sectors,
                model.usable_sectors,
                range.disk
            ));
        }
        Ok(())
    }

    /// Whether the records have all that is bad on a disk, and all who use the set read them;
    /// [`crate::metadata::MetadataSet::keeps_bad_ranges`]. mdadm knows nothing of them: to it, a member of one of its own sets
    /// that counts as rebuilt holds data everywhere.
    pub fn has_recorded_bad_ranges(&self, disk: DiskIndex) -> bool {
        let (Some(log), Some(meta)) = (&self.log, self.disk_meta(disk)) else {
            return false;
        };
        let is_ours = is_ours(&get_guid(&self.template, header::GUID));
        is_ours
            && self
                .missing_ranges(log, None)
                .all(|(reference, ..)| reference != meta.reference)
    }

    /// Forgets the bad ranges of a disk, or of a stretch of it, that holds nothing any more. It is
    /// recorded after everything else, since the old state may come back until then.
    pub fn forget_bad_ranges(&mut self, disk: DiskIndex, first: u64, end: u64) {
        let old = self.set.bad_ranges.len();
        self.set
            .bad_ranges
            .retain(|range| range.disk != disk || range.sector < first || range.sector >= end);
        if self.set.bad_ranges.len() != old {
            self.sync_bad_ranges(None, true);
        }
    }

    /// What an event about `range` may change.
    fn scope(&self, range: &BadRange) -> Option<Entry> {
        self.recorded(range)
    }

    /// Brings the recorded bad ranges to those of the model; only those that touch `scope`, when it is
    /// given.
    ///
    /// What is added goes into one block, along with what goes from that block; what goes from others
    /// is written after that one. So at no time is a place missing that was bad before and after.
    #[inline(never)]
    pub fn sync_bad_ranges(&mut self, scope: Option<Entry>, late: bool) {
        let Some(mut log) = self.log.take() else {
            return;
        };
        let missing = self.missing_ranges(&log, scope).count();
        let chosen = (missing > 0)
            .then(|| self.block_for(&log, missing, scope))
            .flatten();
        if let Some(index) = chosen {
            self.drop_ranges(&mut log, index, scope);
            self.add_ranges(&mut log, index, scope);
        }
        for n in 0..log.plan.bad_blocks {
            let index = log.plan.bad(n);
            let dropped = Some(index) != chosen && self.drop_ranges(&mut log, index, scope);
            if dropped && (late || missing > 0) {
                set_bit(&mut log.late, index);
            }
        }
        // More than one event adds: read from disks that tell different things.
        for n in 0..log.plan.bad_blocks {
            if self.missing_ranges(&log, scope).next().is_none() {
                break;
            }
            let index = log.plan.bad(n);
            self.add_ranges(&mut log, index, scope);
        }
        self.log = Some(log);
    }

    /// As it is recorded.
    fn recorded(&self, range: &BadRange) -> Option<Entry> {
        let reference = self.disk_meta(range.disk)?.reference;
        Some((reference, range.sectors, range.sector))
    }

    fn listed(&self, log: &VendorLog, index: u32, range: Entry) -> bool {
        let body = log.body_unsealed(&self.layout, index);
        (0..log.plan.bad_per_block()).any(|n| body.bad_range(n) == Some(range))
    }

    /// Ranges of the model that are not recorded.
    fn missing_ranges<'s>(
        &'s self,
        log: &'s VendorLog,
        scope: Option<Entry>,
    ) -> impl Iterator<Item = Entry> + 's {
        self.set
            .bad_ranges
            .iter()
            .filter_map(|range| self.recorded(range))
            .filter(move |&range| {
                let mut blocks = (0..log.plan.bad_blocks).map(|n| log.plan.bad(n));
                touches(range, scope) && !blocks.any(|index| self.listed(log, index, range))
            })
    }

    /// Whether a recorded range is one of the model's.
    fn is_wanted(&self, range: Entry, scope: Option<Entry>) -> bool {
        let known = |known: &BadRange| self.recorded(known) == Some(range);
        !touches(range, scope) || self.set.bad_ranges.iter().any(known)
    }

    /// The block that takes `missing` ranges: one that loses some, else one with room.
    fn block_for(&self, log: &VendorLog, missing: usize, scope: Option<Entry>) -> Option<u32> {
        let measure = |n: u32| {
            let index = log.plan.bad(n);
            let body = log.body_unsealed(&self.layout, index);
            let (mut unused, mut lost) = (0usize, 0usize);
            for entry in 0..log.plan.bad_per_block() {
                match body.bad_range(entry) {
                    None => unused += 1,
                    Some(range) if !self.is_wanted(range, scope) => lost += 1,
                    Some(_) => {}
                }
            }
            (unused + lost >= missing.min(ADDED_MAX)).then_some((lost, index))
        };
        (0..log.plan.bad_blocks)
            .filter_map(measure)
            .reduce(|best, other| if other.0 > best.0 { other } else { best })
            .map(|(_, index)| index)
    }

    /// Takes ranges that are none of the model's out of block `index`; says whether there were any.
    fn drop_ranges(&mut self, log: &mut VendorLog, index: u32, scope: Option<Entry>) -> bool {
        let layout = self.layout;
        let mut dropped = false;
        for entry in 0..log.plan.bad_per_block() {
            let range = log.body_unsealed(&layout, index).bad_range(entry);
            if range.is_some_and(|range| !self.is_wanted(range, scope)) {
                log.put_bad(&layout, index, entry, None);
                dropped = true;
            }
        }
        if dropped {
            log.seal(&layout, index);
            self.lacks(index, None);
        }
        dropped
    }

    /// Puts missing ranges into block `index` as long as there is room.
    fn add_ranges(&mut self, log: &mut VendorLog, index: u32, scope: Option<Entry>) {
        let layout = self.layout;
        let mut added = false;
        for entry in 0..log.plan.bad_per_block() {
            if log.body_unsealed(&layout, index).bad_range(entry).is_some() {
                continue;
            }
            let Some(range) = self.missing_ranges(log, scope).next() else {
                break;
            };
            log.put_bad(&layout, index, entry, Some(range));
            added = true;
        }
        if added {
            log.seal(&layout, index);
            self.lacks(index, None);
        }
    }
}

/// Whether two ranges overlap or lie side by side; all do without a scope.
fn touches(range: Entry, scope: Option<Entry>) -> bool {
    scope.is_none_or(|other| {
        let end = |entry: Entry| entry.2.saturating_add(u64::from(entry.1));
        range.0 == other.0 && range.2 <= end(other) && other.2 <= end(range)
    })
}
