// SPDX-License-Identifier: GPL-2.0

//! The mark of a check or repair that has not ended, in the burst count of its volume's first line: a field of background
//! tasks, of which none is at work then, and which dmraid and the others only carry along. Where it is in use it stays as it is.

use super::assemble::Reader;
use super::layout::Line;
use super::set::AsrSet;
use super::table::Table;
use crate::model::{Scrub, Shape, VolumeIndex};

/// First byte of the mark of a check.
const CHECK: u8 = 0xE5;
/// The same of a repair.
const REPAIR: u8 = 0xE6;
/// The other bytes: how far it got, in units of [`UNIT_SECTORS`].
const UNITS: u32 = 0xFF_FFFF;
/// Sectors of a unit: what has 32 bits of sectors has 24 of these.
const UNIT_SECTORS: u64 = 256;

/// A mark as it can be kept: in whole units, rounded down. `None` when it is too far for its bits.
pub fn kept(scrub: Scrub) -> Option<Scrub> {
    let units = scrub.done_sectors / UNIT_SECTORS;
    (units <= u64::from(UNITS)).then_some(Scrub {
        done_sectors: units * UNIT_SECTORS,
        ..scrub
    })
}

/// The mark as it is written; without one, nothing.
pub fn word(scrub: Option<Scrub>) -> u32 {
    let Some(scrub) = scrub else { return 0 };
    let kind = if scrub.repairs { REPAIR } else { CHECK };
    let units = u32::try_from(scrub.done_sectors / UNIT_SECTORS).unwrap_or(0);
    (u32::from(kind) << 24) | (units & UNITS)
}

/// The mark that a line has, whoever left it.
fn mark_of(line: &Line) -> Option<Scrub> {
    let [kind, ..] = line.burst.to_be_bytes();
    Some(Scrub {
        repairs: match kind {
            CHECK => false,
            REPAIR => true,
            _ => return None,
        },
        done_sectors: u64::from(line.burst & UNITS) * UNIT_SECTORS,
    })
}

/// Whether a line can take a mark: nobody else has something there.
pub fn has_place(line: &Line) -> bool {
    line.burst == 0 || mark_of(line).is_some()
}

impl AsrSet {
    /// Takes marks out of the lines that the model knows nothing of: others have written the table since, or not all disks
    /// have them.
    pub fn erase_unknown_scrubs(&mut self) {
        for volume in 0..self.volumes.len() {
            let volume = VolumeIndex::try_from(volume).unwrap_or(VolumeIndex::MAX);
            let is_known = |model: &crate::model::Volume| model.scrub.is_some();
            if self.set.volume(volume).is_none_or(is_known) {
                continue;
            }
            if let Some(index) = self.volume_line(volume) {
                self.table.edit(index, |line| {
                    if mark_of(line).is_some() {
                        line.burst = 0;
                    }
                });
            }
        }
    }
}

impl Reader<'_> {
    /// The check or repair of the volume with this magic number that has not ended: what all disks say, if EMD was the last
    /// to write their tables, and how far the last of them is. An update that was cut may have left the mark on some only.
    pub fn scrub(&self, magic: u32, shape: &Shape, size_sectors: u64) -> Option<Scrub> {
        if !self.sealed || !shape.level.is_redundant() {
            return None;
        }
        let mark = |table: &Table| {
            let line = table.line(table.volume_line(magic)?)?;
            mark_of(&line).filter(|_| table.is_sealed())
        };
        let mut marks = self.peers().map(mark);
        let first = marks.next().flatten()?;
        let least = marks.try_fold(first, |least, mark| {
            let mark = mark.filter(|mark| mark.repairs == least.repairs)?;
            Some(Scrub {
                done_sectors: least.done_sectors.min(mark.done_sectors),
                ..least
            })
        });
        least.filter(|scrub| scrub.done_sectors <= shape.sync_sectors(size_sectors))
    }
}
