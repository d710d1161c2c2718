// SPDX-License-Identifier: GPL-2.0

//! The last part of assembly: every working disk that is here gets its buffers, the newest records,
//! and a list of what its two copies lack.

use super::super::bytes::put;
use super::assemble::{owned, Reader};
use super::config::Record;
use super::home::{slot, Home};
use super::layout::*;
use super::probe::{Found, Which};
use super::set::kind_of;
use crate::model::{Access, Checked, DiskIndex, DiskState, Member};
use crate::reason;
use kernel::prelude::*;

impl Reader<'_> {
    /// Gives every working disk that is here its buffers.
    #[inline(never)]
    pub fn move_in(&mut self) -> Checked {
        for at in 0..self.found.len() {
            let Some(index) = self.disk_of.get(at).copied().flatten() else {
                continue;
            };
            let Some(model) = self.set.set.disk(index) else {
                continue;
            };
            let usable = model.usable_sectors;
            if model.state != DiskState::Online {
                let copy = self.found.get(at).and_then(Found::best);
                let spare_for = copy.and_then(|copy| {
                    let config = copy.section(Section::Config);
                    self.set.spare_for_in(config, &copy.layout)
                });
                if let Some(meta) = self.set.disks.get_mut(usize::from(index)) {
                    meta.spare_for = spare_for;
                }
                continue;
            }
            let home = match self.found.get(at) {
                Some(disk) => make_home(disk, usable)?,
                None => continue,
            };
            if let Some(meta) = self.set.disks.get_mut(usize::from(index)) {
                meta.home = Some(home);
            }
            self.drop_leftovers(index);
            self.reconcile(index)?;
            self.compare(at, index);
        }
        Ok(())
    }

    /// Erases records of volumes, or of spans of them, that a disk is no member of (in memory; the next update writes that).
    /// They lost against those of the members, but would count as much once the disk's header is as new as theirs.
    #[inline(never)]
    fn drop_leftovers(&mut self, disk: DiskIndex) {
        for volume in 0..self.set.volumes.len() {
            let Ok(volume) = u16::try_from(volume) else {
                break;
            };
            let Some(model) = self.set.set.volume(volume) else {
                continue;
            };
            // Where it is not certain who the members are, everything is kept.
            if matches!(model.access, Access::Refused(_)) || self.set.has_unsound_record(volume) {
                continue;
            }
            let width = self.set.width(volume);
            let span = (0u16..)
                .zip(model.members.iter())
                .find(|(_, member)| member.disk == Some(disk))
                .map(|(slot, _)| slot / width);
            let Some(guid) = self.set.volume_meta(volume).map(|meta| meta.record_guid) else {
                continue;
            };
            if let Some(home) = self.set.home_mut(disk) {
                home.drop_records(&guid, span);
            }
        }
    }

    /// Brings the records on a disk to the newest ones (in memory; the next update writes them).
    #[inline(never)]
    fn reconcile(&mut self, disk: DiskIndex) -> Checked {
        for volume in 0..self.set.volumes.len() {
            let Ok(volume) = u16::try_from(volume) else {
                break;
            };
            let Some(model) = self.set.set.volume(volume) else {
                continue;
            };
            if matches!(model.access, Access::Refused(_)) {
                continue;
            }
            let width = self.set.width(volume);
            let slot = model
                .members
                .iter()
                .position(|m: &Member| m.disk == Some(disk));
            let Some(slot) = slot.and_then(|slot| u16::try_from(slot).ok()) else {
                continue;
            };
            let span = slot / width;
            let Some(bytes) = self.set.master(volume, span).map(|record| record.bytes()) else {
                continue;
            };
            let bytes = owned(bytes)?;
            let layout = self.set.layout;
            let Some(master) = Record::new(&bytes, &layout) else {
                continue;
            };
            let (guid, sequence) = (master.guid(), master.sequence());
            let narrow = u8::try_from(span).unwrap_or(u8::MAX);
            let there = self
                .set
                .home(disk)
                .and_then(|home| home.record_slot(&guid, narrow));
            let current = there.is_some_and(|index| {
                self.set
                    .home(disk)
                    .and_then(|home| home.record(index))
                    .is_some_and(|mine| {
                        mine.intact() && mine.agrees(&master) && mine.sequence() == sequence
                    })
            });
            if current || !master.intact() {
                continue;
            }
            match there.or_else(|| self.set.free_slot(disk)) {
                Some(index) => {
                    if let Some(home) = self.set.home_mut(disk) {
                        home.edit_slot(index, |slot| {
                            let _ = put(slot, 0, &bytes);
                        });
                    }
                }
                None => self.note(format_args!(
                    "disk {disk} has no room for a record it lacks"
                ))?,
            }
        }
        Ok(())
    }

    /// Notes what each copy on a disk lacks, and which copy is worth less.
    fn compare(&mut self, at: usize, index: DiskIndex) {
        let set = &mut *self.set;
        let (Some(disk), layout) = (self.found.get(at), set.layout) else {
            return;
        };
        let (pd, vd, controller) = (&set.pd, &set.vd, &set.controller);
        let Some(home) = set
            .disks
            .get_mut(usize::from(index))
            .and_then(|meta| meta.home.as_mut())
        else {
            return;
        };
        let block = (layout.block_bytes as usize).max(1);
        let mut worse = None;
        for which in [Which::Primary, Which::Secondary] {
            if home.copy(which).is_none() {
                continue;
            }
            let copy = disk
                .copy(which)
                .filter(|copy| copy.layout.fits(&home.layout));
            let copy = copy.filter(|copy| copy.layout.places == home.layout.places);
            let mut same =
                copy.is_some_and(|copy| !copy.head.open && copy.head.sequence == home.sequence);
            for section in Section::ALL {
                let mut first = 0;
                while let Some(wanted) =
                    wanted_block(home, (pd, vd, controller), section, first, block)
                {
                    let there = copy.and_then(|copy| {
                        super::super::bytes::slice(copy.section(section), first, block)
                    });
                    if there != Some(wanted) {
                        home.mark(which, section, first, block);
                        same = false;
                    }
                    first = first.saturating_add(block);
                }
            }
            if !same && which != disk.chosen {
                worse = Some(which);
            }
        }
        home.first = worse.unwrap_or(Which::Primary);
    }
}

/// Block at byte `first` of a section as it should be; `None` beyond its end.
fn wanted_block<'h>(
    home: &'h Home,
    tables: (&'h [u8], &'h [u8], &'h [u8]),
    section: Section,
    first: usize,
    block: usize,
) -> Option<&'h [u8]> {
    let bytes = match section {
        Section::Controller => tables.2,
        Section::Disks => tables.0,
        Section::Volumes => tables.1,
        Section::Config => &home.config,
        Section::Data => &home.data,
        Section::BadBlocks => &home.log,
    };
    super::super::bytes::slice(bytes, first, block)
}

/// Buffers of a present disk, from its better copy.
#[inline(never)]
fn make_home(disk: &Found<'_>, usable_sectors: u64) -> Checked<Home> {
    let copy = disk
        .best()
        .ok_or_else(|| reason!(EINVAL, "no copy of the metadata can be used"))?;
    let layout = copy.layout;
    let span = u64::from(layout.span_blocks());
    let block = layout.block_bytes as usize;
    // A copy is written only where it cannot hit data or the anchor.
    let safe = |at: u64| {
        at.saturating_mul(layout.block_sectors()) >= usable_sectors
            && (at.saturating_add(span) <= disk.anchor || at > disk.anchor)
    };
    let apart = |at: u64| at.abs_diff(copy.head.primary) >= span;
    let mut home = Home {
        layout,
        anchor: disk.anchor,
        copies: [
            Some(copy.head.primary),
            copy.head.secondary.filter(|&at| safe(at) && apart(at)),
        ],
        first: Which::Primary,
        sequence: copy.head.sequence,
        headers: KVVec::from_elem(0, block * slot::COUNT, GFP_KERNEL)?,
        config: owned(copy.section(Section::Config))?,
        data: owned(copy.section(Section::Data))?,
        log: KVVec::new(),
        vendor: None,
        dirty: [dirty_map(&layout)?, dirty_map(&layout)?],
        fresh: false,
        holds_data: false,
        gains: false,
    };
    let _ = put(home.header_mut(slot::ANCHOR), 0, disk.anchor_bytes);
    for which in [Which::Primary, Which::Secondary] {
        let own = disk
            .copy(which)
            .filter(|other| other.layout.places == layout.places && other.layout.fits(&layout));
        let from = own.unwrap_or(copy).bytes.get(..block).unwrap_or(&[]);
        let target = home.header_mut(slot::closed(which));
        let _ = put(target, 0, from);
        if own.is_none() {
            put8(target, header::KIND, kind_of(which).code());
        }
    }
    Ok(home)
}

/// An empty bit map for one copy.
pub fn dirty_map(layout: &Layout) -> Checked<KVec<u64>> {
    let words = (layout.span_blocks() as usize).div_ceil(64);
    Ok(KVec::from_elem(0, words, GFP_KERNEL)?)
}
