// SPDX-License-Identifier: GPL-2.0

//! A table in memory: the bytes as they are on disk, edited in place, so that what is not understood
//! stays as it is. Nothing here allocates but [`Table::new`].

use super::super::bytes::{array, put, slice, slice_mut};
use super::layout::*;
use crate::model::Checked;
use core::ops::Range;
use kernel::prelude::*;

/// A table: [`TABLE_BYTES`] bytes, header and lines.
#[derive(Debug)]
pub struct Table {
    bytes: KVVec<u8>,
}

/// Byte of line `index`.
fn at(index: usize) -> usize {
    index.saturating_add(1).saturating_mul(LINE_BYTES)
}

impl Table {
    /// A copy of `bytes`, with zeros behind. Allocates.
    pub fn new(bytes: &[u8]) -> Checked<Self> {
        let mut copy = KVVec::from_elem(0u8, TABLE_BYTES, GFP_KERNEL)?;
        for (slot, &byte) in copy.iter_mut().zip(bytes) {
            *slot = byte;
        }
        Ok(Self { bytes: copy })
    }

    /// An empty table as EMD makes it. Allocates.
    pub fn fresh(set: u32) -> Checked<Self> {
        let mut this = Self::new(&[])?;
        let bytes = &mut this.bytes;
        put32(bytes, header::SIGNATURE_AT, header::SIGNATURE);
        put32(bytes, header::VERSION, 2);
        put16(bytes, header::ROOM, 127);
        put16(bytes, header::LINE, LINE_BYTES as u16);
        put8(bytes, header::PRIORITY, 16);
        put32(bytes, header::SET, set);
        Ok(this)
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The header.
    pub fn head(&self) -> &[u8] {
        slice(&self.bytes, 0, LINE_BYTES).unwrap_or(&[])
    }

    /// The header, to be changed.
    pub fn head_mut(&mut self) -> &mut [u8] {
        slice_mut(&mut self.bytes, 0, LINE_BYTES).unwrap_or(&mut [])
    }

    /// Takes over the first `len` bytes of another table.
    pub fn copy_front(&mut self, other: &Self, len: usize) {
        let from = other.bytes.get(..len).unwrap_or(&other.bytes);
        let _ = put(&mut self.bytes, 0, from);
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        usize::from(get16(&self.bytes, header::COUNT)).min(LINES_MAX)
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sectors in use.
    pub fn sectors(&self) -> u64 {
        (at(self.len()) as u64).div_ceil(512)
    }

    /// A line.
    pub fn line(&self, index: usize) -> Option<Line> {
        if index >= self.len() {
            return None;
        }
        slice(&self.bytes, at(index), LINE_BYTES).map(Line::decode)
    }

    /// All lines, with their indices.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = (usize, Line)> + '_ {
        (0..self.len()).filter_map(|index| Some((index, self.line(index)?)))
    }

    /// Replaces a line.
    pub fn set(&mut self, index: usize, line: &Line) {
        if index < self.len() {
            if let Some(bytes) = slice_mut(&mut self.bytes, at(index), LINE_BYTES) {
                line.encode(bytes);
            }
        }
    }

    /// Changes a line.
    pub fn edit(&mut self, index: usize, edit: impl FnOnce(&mut Line)) {
        if let Some(mut line) = self.line(index) {
            edit(&mut line);
            self.set(index, &line);
        }
    }

    /// Whether `more` lines can be added.
    pub fn has_room(&self, more: usize) -> bool {
        let room = usize::from(get16(&self.bytes, header::ROOM)).saturating_sub(1);
        self.len().saturating_add(more) <= room.min(LINES_WRITTEN_MAX)
    }

    /// Puts a line in front of line `index`; does nothing when the table is full.
    pub fn insert(&mut self, index: usize, line: &Line) {
        let count = self.len();
        let index = index.min(count);
        if count >= LINES_MAX {
            return;
        }
        for from in (index..count).rev() {
            self.copy(from, from + 1);
        }
        self.set_len(count + 1);
        self.set(index, line);
    }

    /// Takes a line out; zeros are left behind the last one.
    pub fn remove(&mut self, index: usize) {
        let count = self.len();
        if index >= count {
            return;
        }
        for to in index..count - 1 {
            self.copy(to + 1, to);
        }
        if let Some(bytes) = slice_mut(&mut self.bytes, at(count - 1), LINE_BYTES) {
            bytes.fill(0);
        }
        self.set_len(count - 1);
    }

    fn copy(&mut self, from: usize, to: usize) {
        if let Some(raw) = array::<LINE_BYTES>(&self.bytes, at(from)) {
            let _ = put(&mut self.bytes, at(to), &raw);
        }
    }

    fn set_len(&mut self, count: usize) {
        let count = u16::try_from(count).unwrap_or(0);
        put16(&mut self.bytes, header::COUNT, count);
    }

    /// The line of the disk with this magic number; the last one, as dmraid takes it.
    pub fn disk(&self, magic: u32) -> Option<usize> {
        self.lines()
            .rev()
            .find(|(_, line)| line.names_disk() && line.magic == magic)
            .map(|(index, _)| index)
    }

    /// Whether a disk is listed and not lost.
    fn has_in_use(&self, magic: u32) -> bool {
        let line = self.disk(magic).and_then(|index| self.line(index));
        line.is_some_and(|line| !line.is_lost())
    }

    /// Whether a disk that this table has as lost, and whose own is `own`, may just have been away: by its own it is in use, and
    /// so is everybody else who is by this one. One that went on by itself has lost the others.
    pub fn may_miss(&self, magic: u32, own: &Table) -> bool {
        let mut others = self
            .lines()
            .filter(|(_, line)| line.names_disk() && !line.is_lost());
        own.has_in_use(magic)
            && others.all(|(_, line)| own.disk(line.magic).is_none() || own.has_in_use(line.magic))
    }

    /// The array (or list of spares) that line `index` is listed under.
    pub fn parent(&self, index: usize) -> Option<usize> {
        self.lines()
            .rev()
            .find(|(at, line)| *at < index && line.is_array())
            .map(|(at, _)| at)
    }

    /// The list of spares for all: the first one.
    pub fn spares(&self) -> Option<usize> {
        self.lines()
            .find(|(_, line)| line.is_spares())
            .map(|(index, _)| index)
    }

    /// Lines of disks that are listed under the array in line `index`, and what is between them.
    pub fn below(&self, index: usize) -> Range<usize> {
        let first = index.saturating_add(1);
        let end = self
            .lines()
            .find(|(at, line)| *at >= first && matches!(line.kind, kind::ARRAY | kind::DUAL))
            .map_or(self.len(), |(at, _)| at);
        first..end
    }

    /// The lines of the volume that line `index` heads: of one with two levels, all arrays behind it.
    pub fn volume(&self, index: usize) -> Range<usize> {
        let dual = self.line(index).is_some_and(|line| line.kind == kind::DUAL);
        if !dual {
            return index..self.below(index).end;
        }
        let end = self
            .lines()
            .find(|(at, line)| *at > index && (line.kind == kind::DUAL || line.is_spares()))
            .map_or(self.len(), |(at, _)| at);
        index..end
    }

    /// Lines that head a volume: arrays, but for those that a line of two levels comprises.
    pub fn volumes(&self) -> impl Iterator<Item = (usize, Line)> + '_ {
        let mut inside = 0;
        self.lines().filter(move |(index, line)| {
            let heads = line.kind == kind::DUAL || line.is_array() && !line.is_spares();
            if !heads || *index < inside {
                return false;
            }
            inside = self.volume(*index).end;
            true
        })
    }

    /// The line that heads the volume with this magic number.
    pub fn volume_line(&self, magic: u32) -> Option<usize> {
        self.volumes()
            .find(|(_, line)| line.magic == magic)
            .map(|(index, _)| index)
    }

    /// How many arrays the volume in line `index` has: 1, or those of its second level.
    pub fn arrays(&self, index: usize) -> usize {
        let range = self.volume(index);
        self.lines()
            .filter(|(at, line)| range.contains(at) && line.is_array())
            .count()
    }

    /// Line of array number `nth` of the volume in line `index`.
    pub fn array_line(&self, index: usize, nth: usize) -> Option<usize> {
        let range = self.volume(index);
        self.lines()
            .filter(|(at, line)| range.contains(at) && line.is_array())
            .nth(nth)
            .map(|(at, _)| at)
    }

    /// How many members are listed under the array in line `index`.
    pub fn members(&self, index: usize) -> usize {
        let range = self.below(index);
        self.lines()
            .filter(|(at, line)| range.contains(at) && line.is_member())
            .count()
    }

    /// Line of member number `position` under the array in line `index`: members are ordered by
    /// address, then by line.
    pub fn member_line(&self, index: usize, position: usize) -> Option<usize> {
        let range = self.below(index);
        let members = || {
            self.lines()
                .filter(|(at, line)| range.contains(at) && line.is_member())
        };
        members()
            .find(|(at, line)| {
                let key = (line.address(), *at);
                members()
                    .filter(|(other, line)| (line.address(), *other) < key)
                    .count()
                    == position
            })
            .map(|(at, _)| at)
    }

    /// Highest sequence number of the lines that EMD knows, counting on over 65535.
    pub fn sequence(&self) -> u16 {
        let mut newest = None;
        for (_, line) in self.lines().filter(|(_, line)| line.is_known()) {
            if newest.is_none_or(|known| is_newer(line.sequence, known)) {
                newest = Some(line.sequence);
            }
        }
        newest.unwrap_or(0)
    }

    /// Gives all lines that EMD knows one sequence number.
    pub fn stamp(&mut self, sequence: u16) {
        for index in 0..self.len() {
            self.edit(index, |line| {
                if line.is_known() {
                    line.sequence = sequence;
                }
            });
        }
    }

    /// Whether EMD has ever written it.
    pub fn is_marked(&self) -> bool {
        slice(&self.bytes, header::MARK_AT, 2) == Some(&header::MARK)
    }

    /// Whether EMD was the last to write it, and all of it is there.
    pub fn is_sealed(&self) -> bool {
        self.is_marked() && get16(&self.bytes, header::SEAL) == self.check()
    }

    /// Whether its checksums do not speak against it. Those of others are no proof: tables with wrong
    /// ones have been seen, and dmraid does not mind.
    pub fn is_sound(&self) -> bool {
        !self.is_marked() || self.is_sealed() || get16(&self.bytes, header::SUM) == self.sum()
    }

    /// Sum of all bytes of the lines.
    pub fn sum(&self) -> u16 {
        let lines = slice(&self.bytes, LINE_BYTES, at(self.len()) - LINE_BYTES);
        lines
            .unwrap_or(&[])
            .iter()
            .fold(0u16, |sum, &byte| sum.wrapping_add(u16::from(byte)))
    }

    /// CRC-16 (CCITT, from FFFF) of header and lines, but for the place where it is kept.
    fn check(&self) -> u16 {
        let used = slice(&self.bytes, 0, at(self.len())).unwrap_or(&[]);
        let mut crc = u16::MAX;
        for (place, &byte) in used.iter().enumerate() {
            if place == header::SEAL || place == header::SEAL + 1 {
                continue;
            }
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                let carry = crc & 0x8000 != 0;
                crc <<= 1;
                if carry {
                    crc ^= 0x1021;
                }
            }
        }
        crc
    }

    /// Brings sum, mark and seal up to date.
    pub fn seal(&mut self) {
        let sum = self.sum();
        put16(&mut self.bytes, header::SUM, sum);
        let _ = put(&mut self.bytes, header::MARK_AT, &header::MARK);
        let check = self.check();
        put16(&mut self.bytes, header::SEAL, check);
    }
}

/// Whether sequence number `one` is after `other`, in numbers that start again at 0.
pub fn is_newer(one: u16, other: u16) -> bool {
    let ahead = one.wrapping_sub(other);
    ahead != 0 && ahead < 0x8000
}
