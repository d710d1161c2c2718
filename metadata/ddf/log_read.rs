// SPDX-License-Identifier: GPL-2.0

//! From EMD's own records on the disks to marks, region logs and bad ranges of the model.
//!
//! What is damaged, or belongs to another state of the set than the present one, counts as if there
//! were none: all regions dirty, no marks. Bad ranges are kept even then: that somebody else wrote in
//! between makes a bad place no better.
//!
//! A disk that was being added when power went is the only one with the new state, and has no other, so the set has to
//! take it (`generation`). Those that started without it meanwhile are in the state before, and went on with their
//! records; these count, too, as a head that counts now says what the state before was.

use super::assemble::Reader;
use super::layout::*;
use super::log_place::{is_scratch_in_use, room_on};
use super::probe::Found;
use super::set::state_of;
use super::vendor_log::{
    has_bit, head_tokens, recorded_log, region_log, set_bit, Body, DiskLog, Kind, Plan, Token,
    VendorLog, NO_MARK,
};
use crate::model::{
    Access, BadRange, Checked, Consistency, DiskIndex, DiskState, MemberState, RegionLog,
    VolumeIndex,
};
use kernel::prelude::*;

/// EMD's records as one disk has them.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    bytes: &'a [u8],
    /// They are this set's, and this disk's.
    pub own: bool,
    /// They count for the present state.
    pub counts: bool,
}

impl<'a> Section<'a> {
    /// Block `index`, when it is sound.
    pub fn body(&self, layout: &'a Layout, index: u32) -> Option<Body<'a>> {
        Body::new(self.bytes, layout, index)
    }
}

impl Reader<'_> {
    /// Reads EMD's own records. Without a place for them nothing happens.
    #[inline(never)]
    pub fn read_log(&mut self) -> Checked {
        self.set.set.reserve_bad_ranges()?;
        if self.set.frozen {
            return Ok(());
        }
        self.open_sections()?;
        if !self.set.disks.iter().any(|meta| {
            let home = meta.home.as_ref();
            home.is_some_and(|home| home.vendor.is_some())
        }) {
            return Ok(());
        }
        let mut log = VendorLog::new(&self.set.layout)?;
        self.choose_blocks(&mut log);
        self.set.log = Some(log);
        self.read_bad_ranges()?;
        self.find_slots();
        for index in 0..self.set.set.volumes.len() {
            if let Ok(volume) = u16::try_from(index) {
                self.read_volume_log(volume)?;
            }
        }
        self.note_lacks();
        Ok(())
    }

    /// Gives every disk that has the section its place there, and looks at its head.
    #[inline(never)]
    fn open_sections(&mut self) -> Checked {
        let layout = self.set.layout;
        let plan = Plan::new(layout.block_bytes);
        let now = self.set.token;
        let guid = get_guid(&self.set.template, header::GUID);
        if is_scratch_in_use(&guid, &self.set.vd, &layout) {
            return self.note(format_args!(
                "a volume is being migrated, which may need the place of EMD's own records: there are none meanwhile"
            ));
        }
        for at in 0..self.found.len() {
            let Some(index) = self.disk_of.get(at).copied().flatten() else {
                continue;
            };
            let Some(disk) = self.found.get(at) else {
                break;
            };
            let Some(room) = room_on(disk) else {
                continue;
            };
            let tokens = self.tokens_of(at);
            let Some(meta) = self.set.disks.get_mut(usize::from(index)) else {
                continue;
            };
            let Some(home) = meta.home.as_mut() else {
                continue;
            };
            if home.copy(super::probe::Which::Secondary).is_none() {
                continue;
            }
            let mut section = DiskLog::new(&plan, room.first, room.blocks)?;
            section.own = tokens.is_some();
            section.valid = tokens.is_some_and(|tokens| tokens.contains(&now));
            section.counts = section.valid;
            home.vendor = Some(section);
        }
        self.count_state_before();
        Ok(())
    }

    /// The states for which the section of present disk `at` counts, when it is this set's and this disk's.
    fn tokens_of(&self, at: usize) -> Option<[Token; 2]> {
        let layout = &self.set.layout;
        let index = self.disk_of.get(at).copied().flatten()?;
        let reference = self.set.disk_meta(index)?.reference;
        let set = get_guid(&self.set.template, header::GUID);
        let bytes = self.found.get(at)?.vendor?;
        let head = bytes.get(..layout.block_bytes as usize)?;
        head_tokens(head, layout, &set, reference)
    }

    /// Has sections count of disks that work and are in the state that the present one was made from.
    #[inline(never)]
    fn count_state_before(&mut self) {
        let now = self.set.token;
        let counting = (0..self.found.len())
            .filter(|&at| self.section(at).is_some_and(|section| section.valid));
        let mut tokens = counting.filter_map(|at| self.tokens_of(at)).flatten();
        // A later one is of an update that was cut and left.
        let Some(before) = tokens.find(|token| token.is_before(&now)) else {
            return;
        };
        for at in 0..self.found.len() {
            let copy = self.found.get(at).and_then(Found::best);
            let is_before = copy.is_some_and(|copy| state_of(copy) == before)
                && (self.tokens_of(at)).is_some_and(|tokens| tokens.contains(&before));
            let Some(index) = self.disk_of.get(at).copied().flatten() else {
                continue;
            };
            let disk = self.set.set.disk(index);
            let works = disk.is_some_and(|disk| disk.state == DiskState::Online);
            let meta = self.set.disks.get_mut(usize::from(index));
            let section = meta.and_then(|meta| meta.home.as_mut()?.vendor.as_mut());
            if let Some(section) = section.filter(|_| is_before && works) {
                section.counts = true;
            }
        }
    }

    /// Takes the newest sound copy of every block. Only bad ranges are taken from disks whose head
    /// tells of another state of the set.
    #[inline(never)]
    fn choose_blocks(&self, log: &mut VendorLog) {
        let layout = &self.set.layout;
        let bad = log.plan.bad(0)..log.plan.marks(0);
        let mut newest = log.generation;
        for index in 1..log.plan.blocks() {
            let mut best: Option<((bool, u64), Body<'_>)> = None;
            for (at, disk) in self.found.iter().enumerate() {
                // Disks mostly have the same, whose checksum is right once it has been found right.
                let Some(body) = disk.vendor.and_then(|bytes| {
                    best.as_ref()
                        .and_then(|(_, known)| Body::alike(known, bytes, index))
                        .or_else(|| Body::new(bytes, layout, index))
                }) else {
                    continue;
                };
                newest = newest.max(body.generation());
                let (own, counts) = self.trust(at);
                let rank = (counts, body.generation());
                let is_taken = counts || (own && bad.contains(&index));
                if is_taken && best.as_ref().is_none_or(|(other, _)| rank > *other) {
                    best = Some((rank, body));
                }
            }
            if let Some((_, body)) = best {
                let _ = super::super::bytes::put(log.block_mut(index), 0, body.bytes());
            }
        }
        log.generation = newest;
    }

    /// The section on present disk `at`.
    fn section(&self, at: usize) -> Option<&DiskLog> {
        let disk = self.disk_of.get(at).copied().flatten()?;
        self.set.home(disk)?.vendor.as_ref()
    }

    /// Whether the section on present disk `at` is this set's, and whether what was read of it counts.
    fn trust(&self, at: usize) -> (bool, bool) {
        self.section(at)
            .map_or((false, false), |section| (section.own, section.counts))
    }

    #[inline(never)]
    fn read_bad_ranges(&mut self) -> Checked {
        let layout = self.set.layout;
        let Some(plan) = self.set.log.as_ref().map(|log| log.plan) else {
            return Ok(());
        };
        for n in 0..plan.bad_blocks {
            if !self.is_bad_block(&layout, plan.bad(n)) {
                continue;
            }
            for entry in 0..plan.bad_per_block() {
                let Some(range) = self.bad_range(&layout, plan.bad(n), entry) else {
                    continue;
                };
                if self.set.set.add_bad_range(range).is_err() {
                    return self.note(format_args!(
                        "more bad ranges are recorded than can be kept"
                    ));
                }
            }
        }
        self.set.sync_bad_ranges(None, false);
        Ok(())
    }

    fn is_bad_block(&self, layout: &Layout, index: u32) -> bool {
        let body = self
            .set
            .log
            .as_ref()
            .and_then(|log| log.body(layout, index));
        body.is_some_and(|body| body.is(Kind::BadRanges, &[0xFF; GUID_BYTES]))
    }

    /// A range of a block that was found sound, when it can be.
    fn bad_range(&self, layout: &Layout, index: u32, entry: usize) -> Option<BadRange> {
        let log = self.set.log.as_ref()?;
        let (reference, sectors, sector) = log.body_unsealed(layout, index).bad_range(entry)?;
        let disk = self.by_reference(reference)?;
        let usable = self.set.set.disk(disk)?.usable_sectors;
        let end = sector.checked_add(u64::from(sectors))?;
        (end <= usable).then_some(BadRange {
            disk,
            sector,
            sectors,
        })
    }

    /// Finds out which volume each slot is of; volumes without one get a free one.
    #[inline(never)]
    fn find_slots(&mut self) {
        let set = &mut *self.set;
        let Some(log) = set.log.as_ref() else { return };
        let mut taken = 0u64;
        for (meta, model) in set.volumes.iter_mut().zip(set.set.volumes.iter()) {
            // Refused ones, whose level may not be known, keep theirs.
            if model.deleted {
                continue;
            }
            let guid = meta.guid;
            meta.log_slot = (0..log.plan.slots).find(|&slot| {
                let marks = log.body(&set.layout, log.plan.marks(slot));
                marks.is_some_and(|body| body.is(Kind::Marks, &guid))
                    && !has_bit(&[taken], u32::from(slot))
            });
            if let Some(slot) = meta.log_slot {
                set_bit(core::slice::from_mut(&mut taken), u32::from(slot));
            }
        }
        for (meta, model) in set.volumes.iter_mut().zip(set.set.volumes.iter()) {
            if model.deleted || !model.shape.level.is_redundant() || meta.log_slot.is_some() {
                continue;
            }
            meta.log_slot = (0..log.plan.slots).find(|&slot| !has_bit(&[taken], u32::from(slot)));
            if let Some(slot) = meta.log_slot {
                set_bit(core::slice::from_mut(&mut taken), u32::from(slot));
            }
        }
    }

    /// Region log and marks of a volume.
    #[inline(never)]
    fn read_volume_log(&mut self, volume: VolumeIndex) -> Checked {
        let Some(model) = self.set.set.volume(volume) else {
            return Ok(());
        };
        let Some(slot) = self.set.volume_meta(volume).and_then(|meta| meta.log_slot) else {
            return Ok(());
        };
        if matches!(model.access, Access::Refused(_)) {
            return Ok(());
        }
        let recorded = match self.recorded_region(volume, slot) {
            Some(sectors) => recorded_log(&model.shape, model.size_sectors, sectors)?,
            None => None,
        };
        let mut log = match recorded {
            Some(log) => log,
            None => region_log(&model.shape, model.size_sectors)?,
        };
        let clean = model.consistency == Consistency::Clean;
        self.read_regions(volume, slot, &mut log, clean);
        self.read_marks(volume, slot, &log);
        let mut sections = KVec::with_capacity(self.found.len(), GFP_KERNEL)?;
        for (at, disk) in self.found.iter().enumerate() {
            let (own, counts) = self.trust(at);
            if let Some(bytes) = disk.vendor {
                let section = Section { bytes, own, counts };
                sections.push(section, GFP_KERNEL)?;
            }
        }
        self.set.read_hole(volume, &sections)?;
        if let Some(model) = self.set.set.volumes.get_mut(usize::from(volume)) {
            model.regions = Some(log);
        }
        Ok(())
    }

    /// The length of the regions that are on record for a volume.
    fn recorded_region(&self, volume: VolumeIndex, slot: u16) -> Option<u64> {
        let log = self.set.log.as_ref()?;
        let guid = self.set.volume_meta(volume)?.guid;
        let body = log.body(&self.set.layout, log.plan.region(slot, 0))?;
        body.is(Kind::Regions, &guid).then(|| body.region_sectors())
    }

    /// Fills `log`; blocks that do not say it get to say the safe thing.
    #[inline(never)]
    fn read_regions(&mut self, volume: VolumeIndex, slot: u16, log: &mut RegionLog, clean: bool) {
        let layout = self.set.layout;
        let Some(guid) = self.set.volume_meta(volume).map(|meta| meta.guid) else {
            return;
        };
        let Some(vendor) = self.set.log.as_mut() else {
            return;
        };
        let per_block = vendor.plan.regions_per_block();
        for n in 0..vendor.plan.region_blocks {
            let first = n.saturating_mul(per_block);
            let count = log.regions.saturating_sub(first).min(per_block);
            let body = vendor
                .body(&layout, vendor.plan.region(slot, n))
                .filter(|body| body.is(Kind::Regions, &guid) && body.fits(log));
            let mut same = body.is_some();
            for bit in 0..count {
                let recorded = body.as_ref().is_none_or(|body| body.region(bit));
                // Redundancy agrees, whatever was noted before it did.
                let dirty = recorded && !clean;
                log.mark(first + bit, 1, dirty);
                same &= recorded == dirty;
            }
            if !same {
                vendor.put_regions(&layout, slot, n, &guid, log);
                vendor.seal(&layout, vendor.plan.region(slot, n));
            }
        }
    }

    /// Takes over marks of a resync and of rebuilds.
    #[inline(never)]
    fn read_marks(&mut self, volume: VolumeIndex, slot: u16, regions: &RegionLog) {
        let layout = self.set.layout;
        let in_flight = self
            .set
            .vde(volume)
            .is_some_and(|entry| entry.volume_state() & vde::DIRTY != 0);
        let Some(guid) = self.set.volume_meta(volume).map(|meta| meta.guid) else {
            return;
        };
        let set = &mut *self.set;
        let Some(vendor) = set.log.as_mut() else {
            return;
        };
        let index = vendor.plan.marks(slot);
        let fits = |body: &Body<'_>| body.is(Kind::Marks, &guid);
        if !vendor.body(&layout, index).is_some_and(|body| fits(&body)) {
            vendor.format(&layout, index, Kind::Marks, &guid);
            vendor.seal(&layout, index);
        }
        let (Some(body), Some(model)) = (
            vendor.body(&layout, index),
            set.set.volumes.get_mut(usize::from(volume)),
        ) else {
            return;
        };
        let most = model.shape.sync_sectors(model.size_sectors);
        if let Consistency::Initialising { done_sectors } = &mut model.consistency {
            let mark = body.resync_mark();
            if mark <= most {
                *done_sectors = mark;
            }
            if in_flight {
                // Below the mark all agrees but for what was being written.
                let first = (0..regions.regions).find(|&region| regions.is_dirty(region));
                let bound = first.map(|region| u64::from(region) * regions.region_sectors);
                *done_sectors = (*done_sectors).min(bound.unwrap_or(u64::MAX));
            }
        }
        model.scrub = body.scrub().filter(|scrub| scrub.done_sectors <= most);
        let member_sectors = model.shape.member_sectors;
        for member in model.members.iter_mut() {
            let MemberState::Rebuilding { .. } = member.state else {
                continue;
            };
            let reference = member
                .disk
                .and_then(|disk| set.disks.get(usize::from(disk)))
                .map(|meta| meta.reference);
            match reference.and_then(|reference| body.rebuild_mark(reference)) {
                Some(NO_MARK) => member.state = MemberState::InSync,
                Some(mark) if mark <= member_sectors => {
                    member.state = MemberState::Rebuilding { done_sectors: mark };
                }
                _ => {}
            }
        }
    }

    /// Notes which blocks each disk lacks. A disk whose head does not count lacks all of them; others
    /// do not need those of volumes that they are no member of.
    #[inline(never)]
    fn note_lacks(&mut self) {
        for at in 0..self.found.len() {
            let Some(index) = self.disk_of.get(at).copied().flatten() else {
                continue;
            };
            if self.section(at).is_some_and(|section| section.valid) {
                self.note_lacks_of(at, index);
            }
        }
    }

    #[inline(never)]
    fn note_lacks_of(&mut self, at: usize, disk: DiskIndex) {
        let set = &mut *self.set;
        let (Some(found), Some(log)) = (self.found.get(at), set.log.as_ref()) else {
            return;
        };
        let slots = set
            .set
            .memberships(disk)
            .filter_map(|(volume, _, _)| set.volumes.get(usize::from(volume))?.log_slot)
            .fold(0u64, |map, slot| map | (1 << (slot % 64)));
        let Some(section) = set
            .disks
            .get_mut(usize::from(disk))
            .and_then(|meta| meta.home.as_mut()?.vendor.as_mut())
        else {
            return;
        };
        let len = log.plan.block_bytes as usize;
        let lacks = |index: u32| {
            let there = found
                .vendor
                .and_then(|bytes| super::super::bytes::slice(bytes, index as usize * len, len));
            there != Some(log.block(index))
        };
        section.pending.fill(0);
        for index in log.plan.bad(0)..log.plan.marks(0) {
            if lacks(index) {
                set_bit(&mut section.pending, index);
            }
        }
        for slot in (0..log.plan.slots).filter(|&slot| has_bit(&[slots], u32::from(slot))) {
            for index in log.plan.slot_blocks(slot).filter(|&index| lacks(index)) {
                set_bit(&mut section.pending, index);
            }
        }
    }
}
