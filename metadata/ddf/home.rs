// SPDX-License-Identifier: GPL-2.0

//! What is kept of a disk that metadata is written to: its header blocks, its configuration section,
//! its disk data, and which blocks each copy on it still lacks.

#[cfg(not(CONFIG_RUST))]
use super::super::bytes::slice;
use super::config::{self, Content, Record};
use super::layout::*;
use super::probe::Which;
use super::vendor_log::DiskLog;
use kernel::prelude::*;

/// Blocks in [`Home::headers`], by meaning.
pub mod slot {
    use super::Which;

    /// The anchor.
    pub const ANCHOR: usize = 0;
    /// The header of a copy that says "being updated".
    pub fn open(which: Which) -> usize {
        1 + 2 * which as usize
    }
    /// The header of a copy at rest; stands right behind the open one.
    pub fn closed(which: Which) -> usize {
        2 + 2 * which as usize
    }
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// A disk that metadata is written to.
#[derive(Debug)]
pub struct Home {
    /// Where its sections are.
    pub layout: Layout,
    /// Block of the anchor.
    pub anchor: u64,
    /// Blocks of the headers, by [`Which`]. The second may be absent.
    pub copies: [Option<u64>; 2],
    /// The copy that an update writes first: the one that is worth less now.
    pub first: Which,
    /// Sequence number of what is on the disk.
    pub sequence: u32,
    /// Header blocks, see [`slot`].
    pub headers: KVVec<u8>,
    /// Configuration section.
    pub config: KVVec<u8>,
    /// Disk data.
    pub data: KVVec<u8>,
    /// Bad block log; only on fresh disks whose layout has one.
    pub log: KVVec<u8>,
    /// EMD's own records, on sets that have them.
    pub vendor: Option<DiskLog>,
    /// Blocks (from the header) that each copy lacks, as bit maps.
    pub dirty: [KVec<u64>; 2],
    /// Nothing of it has been written yet.
    pub fresh: bool,
    /// It is [`Home::fresh`], and what the disk holds counts: until its new metadata can be read its old one can.
    pub holds_data: bool,
    /// The update under way gives it a volume's record that it had not.
    pub gains: bool,
}

impl Home {
    /// One of the header blocks.
    #[cfg(not(CONFIG_RUST))]
    pub fn header(&self, index: usize) -> &[u8] {
        let len = self.layout.block_bytes as usize;
        slice(&self.headers, index * len, len).unwrap_or(&[])
    }

    /// One of the header blocks, to be changed.
    pub fn header_mut(&mut self, index: usize) -> &mut [u8] {
        let len = self.layout.block_bytes as usize;
        super::super::bytes::slice_mut(&mut self.headers, index * len, len).unwrap_or(&mut [])
    }

    /// Notes that `len` bytes from `at` of a section differ from what is on the disk in `which`
    /// copy. The block with the section's checksum goes along.
    pub fn mark(&mut self, which: Which, section: Section, at: usize, len: usize) {
        let block = (self.layout.block_bytes as usize).max(1);
        let place = self.layout.place(section);
        let first = at / block;
        let last = at.saturating_add(len.max(1) - 1) / block;
        let [primary, secondary] = &mut self.dirty;
        let map = match which {
            Which::Primary => primary,
            Which::Secondary => secondary,
        };
        // Configuration records have checksums of their own; their section has none.
        let with_head = !matches!(section, Section::Config);
        if with_head {
            set_bit(map, place.offset as usize);
        }
        for index in first..=last {
            if index < place.blocks as usize {
                set_bit(map, place.offset as usize + index);
            }
        }
    }

    /// [`Home::mark`] for both copies.
    pub fn mark_both(&mut self, section: Section, at: usize, len: usize) {
        self.mark(Which::Primary, section, at, len);
        self.mark(Which::Secondary, section, at, len);
    }

    /// Block of a copy's header.
    pub fn copy(&self, which: Which) -> Option<u64> {
        let [primary, secondary] = self.copies;
        match which {
            Which::Primary => primary,
            Which::Secondary => secondary,
        }
    }

    /// The bit map of a copy.
    pub fn map(&self, which: Which) -> &[u64] {
        let [primary, secondary] = &self.dirty;
        match which {
            Which::Primary => primary,
            Which::Secondary => secondary,
        }
    }

    /// Whether `block` (from the header) has to be written to `which` copy.
    pub fn is_dirty(&self, which: Which, block: usize) -> bool {
        self.map(which)
            .get(block / 64)
            .is_some_and(|word| (word >> (block % 64)) & 1 == 1)
    }

    /// Slot of the record of volume `guid`, span `span`.
    pub fn record_slot(&self, guid: &Guid, span: u8) -> Option<u16> {
        self.slots().find(|&index| {
            self.record(index)
                .is_some_and(|record| record.guid() == *guid && record.span() == span)
        })
    }

    /// The volume record in a slot.
    pub fn record(&self, index: u16) -> Option<Record<'_>> {
        Record::new(
            config::slot_bytes(&self.config, &self.layout, index),
            &self.layout,
        )
    }

    /// Slots of the configuration section.
    pub fn slots(&self) -> core::ops::Range<u16> {
        0..self.layout.config_slots
    }

    /// What a slot holds.
    pub fn content(&self, index: u16) -> Content {
        let bytes = config::slot_bytes(&self.config, &self.layout, index);
        config::content(bytes, &self.layout)
    }

    /// Changes a slot by `edit`, seals it and notes it.
    pub fn edit_slot(&mut self, index: u16, edit: impl FnOnce(&mut [u8])) {
        let layout = self.layout;
        let bytes = config::slot_bytes_mut(&mut self.config, &layout, index);
        edit(bytes);
        if config::content(bytes, &layout) != Content::Unused {
            layout.crc.seal(bytes, layout.endian);
        }
        let len = layout.record_bytes as usize;
        self.mark_both(Section::Config, usize::from(index) * len, len);
    }

    /// Erases the records of volume `guid`, but for one of span `kept`.
    pub fn drop_records(&mut self, guid: &Guid, kept: Option<u16>) {
        let kept = kept.and_then(|span| self.record_slot(guid, u8::try_from(span).ok()?));
        for index in self.slots() {
            let of_volume = |record: Record<'_>| record.guid() == *guid;
            if Some(index) != kept && self.record(index).is_some_and(of_volume) {
                self.edit_slot(index, |bytes| bytes.fill(0xFF));
            }
        }
    }

    /// The slot of the spare record.
    pub fn spare_slot(&self) -> Option<u16> {
        self.slots()
            .find(|&index| self.content(index) == Content::Spare)
    }

    /// Erases the spare record, when there is one.
    pub fn drop_spare(&mut self) {
        if let Some(index) = self.spare_slot() {
            self.edit_slot(index, |bytes| bytes.fill(0xFF));
        }
    }
}

fn set_bit(map: &mut [u64], bit: usize) {
    if let Some(word) = map.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}
