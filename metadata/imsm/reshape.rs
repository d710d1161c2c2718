// SPDX-License-Identifier: GPL-2.0

//! Volumes that mdadm or the firmware is reshaping ("general migration").
//!
//! The volume goes from the shape of its second map to that of its first, unit by unit, from its start to
//! its end. How far it got is in the record in the last block of the members in the first two slots; the
//! MPB's own checkpoint lags behind. EMD moves nothing: it reads from where the record says that
//! the data is, or refuses.
//!
//! ```text
//! volume     0 ────────────── U × unit ──── (U + 1) × unit ──────────── end
//! status 0     new shape        │ old shape
//! status 1     new shape        │ copy area   │ old shape
//! ```
//!
//! The copy area holds the unit in the new shape: of each member the stretch that will be at
//! `U × depth`. It is on the same disk.

use super::layout::*;
use super::model::{data_members, place_of, Place};
use super::set::ImsmSet;
use crate::model::{Checked, DiskState, Level, Member, MemberState, Reason, Stretch, MEMBERS_MAX};
use crate::reason;
use kernel::prelude::*;

/// What the last block of a disk says of a migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// The block was not read, or could not be.
    Unread,
    /// Zeros: no migration has begun.
    Empty,
    /// A record.
    Some(Migration),
}

/// The record of a migration. Blocks are the disk's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Migration {
    /// [`migration::STATUS`].
    pub status: u32,
    /// The current unit.
    pub unit: u64,
    /// Family number of the set.
    pub family: u32,
    /// From the start of the volume to its end.
    pub ascending: bool,
    /// Blocks of the volume in a unit.
    pub unit_blocks: u32,
    /// Blocks of each member in a unit.
    pub unit_depth: u32,
    /// First block of the copy area.
    pub copy: u64,
    /// Block of each member at which the current unit goes.
    pub target: u64,
    /// Units.
    pub units: u64,
}

impl Record {
    /// What a block says.
    pub fn decode(block: Option<&[u8]>) -> Self {
        let Some(block) = block.filter(|block| block.len() >= migration::BYTES) else {
            return Self::Unread;
        };
        let raw = Raw {
            anchor: block,
            rest: &[],
        };
        if (0..migration::BYTES).all(|at| raw.u8(at) == 0) {
            return Self::Empty;
        }
        Self::Some(Migration {
            status: raw.u32(migration::STATUS),
            unit: raw.pair(migration::UNIT_LO, migration::UNIT_HI),
            family: raw.u32(migration::FAMILY),
            ascending: raw.u32(migration::ASCENDING) != 0,
            unit_blocks: raw.u32(migration::UNIT_BLOCKS),
            unit_depth: raw.u32(migration::UNIT_DEPTH),
            copy: raw.pair(migration::COPY_LO, migration::COPY_HI),
            target: raw.pair(migration::TARGET_LO, migration::TARGET_HI),
            units: raw.pair(migration::UNITS_LO, migration::UNITS_HI),
        })
    }
}

/// How far a reshape got, in sectors of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Up to here data is in the new shape.
    pub moved_sectors: u64,
    /// The copy of what comes next, when that counts.
    pub copied: Option<Copied>,
}

/// What is in the copy area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Length, in sectors of the volume.
    pub sectors: u64,
    /// Sectors of each member (from its start, in the new shape) in front of it.
    pub member_sectors: u64,
    /// Its length on each member.
    pub depth_sectors: u64,
    /// Where it is on the disks.
    pub disk_sector: u64,
}

/// Whether the volume at `at` is being reshaped.
pub fn is_general(raw: Raw<'_>, at: usize) -> bool {
    raw.u8(at + volume::MIGRATING) != 0 && raw.u8(at + volume::KIND) == volume::GENERAL
}

/// Size of a volume by the number of stripes of its map: the size in its record is already the new one.
pub fn size_by_stripes(raw: Raw<'_>, map: usize, scale: u64) -> u64 {
    let strip = u64::from(raw.u16(map + map::STRIP)).saturating_mul(scale);
    let members = u64::from(raw.u8(map + map::MEMBERS));
    // Of mirrors, a stripe is counted once for every copy.
    let rows = match raw.u8(map + map::LEVEL) {
        5 => members.saturating_sub(1),
        _ => members,
    };
    raw.wide(map + map::STRIPES_LO, map + map::STRIPES_HI)
        .checked_mul(strip)
        .and_then(|one| one.checked_mul(rows))
        .unwrap_or(0)
}

impl ImsmSet {
    /// How far the reshape of the volume at `at` got, by the records; `new` is its new shape.
    ///
    /// Fails when that is not certain: a record is missing, they differ, or contradict the MPB.
    #[inline(never)]
    pub fn reshape_progress(&self, raw: Raw<'_>, at: usize, new: &Place) -> Checked<Progress> {
        if (0..raw.volumes())
            .filter(|&one| is_general(raw, raw.volume_at(one)))
            .count()
            > 1
        {
            return Err(unclear("the set has two of them, and one record"));
        }
        let units = raw.pair(at + volume::UNIT_LO, at + volume::UNIT_HI);
        let first = raw.map_at(at, Which::First);
        let holders = u16::from(raw.u8(first + map::MEMBERS)).min(2);
        let mut record = None;
        for slot in 0..holders {
            let found = self
                .disk_of_entry(raw.order(first, slot) & map::DISK)
                .and_then(|disk| {
                    let model = self.set.disk(disk)?;
                    let usable = model.state == DiskState::Online && model.facts.is_some();
                    usable.then_some(self.disk_meta(disk)?.migration)
                });
            let found = match found {
                Some(Record::Unread) | None => {
                    return Err(unclear(
                        "a disk with the record of it is not here, or unreadable",
                    ))
                }
                Some(found) => found,
            };
            if record.is_some_and(|other| other != found) {
                return Err(unclear("two disks have records of it that differ"));
            }
            record = Some(found);
        }
        match record {
            Some(Record::Some(record)) => self.progress_of(raw, &record, units, new),
            Some(Record::Empty) if units == 0 => Ok(Progress {
                moved_sectors: 0,
                copied: None,
            }),
            _ => Err(unclear("it has begun, and there is no record of it")),
        }
    }

    /// What one record says.
    #[inline(never)]
    fn progress_of(
        &self,
        raw: Raw<'_>,
        record: &Migration,
        units: u64,
        new: &Place,
    ) -> Checked<Progress> {
        let scale = self.block_sectors();
        if record.family != raw.u32(header::FAMILY) {
            return Err(unclear("the record is of another set"));
        }
        if !record.ascending {
            return Err(unclear("it goes from the end to the start"));
        }
        if record.unit < units || record.unit > record.units {
            return Err(unclear(
                "the record is not of the same time as the metadata",
            ));
        }
        let wide = |blocks: u64| blocks.checked_mul(scale);
        let unit = wide(u64::from(record.unit_blocks)).unwrap_or(0);
        let depth = wide(u64::from(record.unit_depth)).unwrap_or(0);
        let place = |each: u64| record.unit.checked_mul(each);
        let (moved, target) = (place(unit), place(depth));
        let chunk = u64::from(new.shape.chunk_sectors).max(1);
        let sound = unit > 0
            && unit == depth.saturating_mul(data_members(&new.shape))
            && depth.checked_rem(chunk) == Some(0)
            && target.is_some()
            && target == wide(record.target);
        let (Some(moved_sectors), Some(member_sectors), true) = (moved, target, sound) else {
            return Err(unclear("the record makes no sense"));
        };
        let copied = match record.status {
            migration::IN_SOURCE => None,
            migration::IN_COPY => Some(Copied {
                sectors: unit,
                member_sectors,
                depth_sectors: depth,
                disk_sector: wide(record.copy)
                    .ok_or_else(|| unclear("the record makes no sense"))?,
            }),
            _ => return Err(unclear("the record has a state that is not known")),
        };
        Ok(Progress {
            moved_sectors,
            copied,
        })
    }

    /// What lies where in the volume at `at`, whose first map is `new` and of which `size_sectors` are
    /// shown. Fails when that is not certain, or a member is missing.
    #[inline(never)]
    pub fn stretches(
        &self,
        raw: Raw<'_>,
        at: usize,
        new: &Place,
        size_sectors: u64,
        progress: &Progress,
    ) -> Checked<KVec<Stretch>> {
        let scale = self.block_sectors();
        let (first, second) = (raw.map_at(at, Which::First), raw.map_at(at, Which::Second));
        let new_size = raw
            .pair(at + volume::SIZE, at + volume::SIZE + 4)
            .saturating_mul(scale);
        let old_size = size_by_stripes(raw, second, scale);
        let old = place_of(raw, second, old_size, scale)?;
        for level in [old.shape.level, new.shape.level] {
            if !matches!(level, Level::Raid0 | Level::Raid5) {
                return Err(reason!(
                    EOPNOTSUPP,
                    "a reshape from {} to {} is not known; let mdadm or the firmware finish",
                    old.shape.level,
                    new.shape.level
                ));
            }
        }
        let mut stretches = KVec::with_capacity(3, GFP_KERNEL)?;
        let moved = progress.moved_sectors.min(size_sectors);
        let copied_end = progress
            .copied
            .map_or(moved, |copied| moved.saturating_add(copied.sectors))
            .min(size_sectors);
        if moved > 0 {
            stretches.push(
                Stretch {
                    end_sectors: moved,
                    first_sectors: 0,
                    shape: new.shape,
                    size_sectors: new_size,
                    members: self.members_at(raw, first, new.start_sectors)?,
                },
                GFP_KERNEL,
            )?;
        }
        if let (Some(copied), true) = (progress.copied, copied_end > moved) {
            let start = self.check_copy(raw, first, new, &copied)?;
            stretches.push(
                Stretch {
                    end_sectors: copied_end,
                    first_sectors: moved,
                    shape: new.shape,
                    size_sectors: new_size,
                    members: self.members_at(raw, first, start)?,
                },
                GFP_KERNEL,
            )?;
        }
        if copied_end < size_sectors {
            stretches.push(
                Stretch {
                    end_sectors: size_sectors,
                    first_sectors: copied_end,
                    shape: old.shape,
                    size_sectors: old_size,
                    members: self.members_at(raw, second, old.start_sectors)?,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(stretches)
    }

    /// Where members would start if their copies were in their places.
    fn check_copy(&self, raw: Raw<'_>, map: usize, new: &Place, copied: &Copied) -> Checked<u64> {
        let end = copied.disk_sector.saturating_add(copied.depth_sectors);
        let volume_end = new.start_sectors.saturating_add(new.shape.member_sectors);
        for slot in 0..new.shape.members {
            let entry = raw.order(map, slot) & map::DISK;
            // mdadm saves by the number of the disk and restores by slot.
            if entry != u32::from(slot) {
                return Err(unclear(
                    "the order of the copies of its unit is not certain",
                ));
            }
            let size = self
                .disk_of_entry(entry)
                .and_then(|disk| self.set.disk(disk)?.facts)
                .map_or(0, |facts| facts.size_sectors);
            if end > size || copied.disk_sector < volume_end {
                return Err(unclear("the record makes no sense"));
            }
        }
        copied
            .disk_sector
            .checked_sub(copied.member_sectors)
            .ok_or_else(|| unclear("the record makes no sense"))
    }

    /// The members of a map. All must be here and in sync.
    fn members_at(&self, raw: Raw<'_>, map: usize, offset_sectors: u64) -> Checked<KVec<Member>> {
        let count = usize::from(raw.u8(map + map::MEMBERS)).min(MEMBERS_MAX) as u16;
        let mut members = KVec::with_capacity(usize::from(count), GFP_KERNEL)?;
        for slot in 0..count {
            let order = raw.order(map, slot);
            let disk = self.disk_of_entry(order & map::DISK).filter(|&disk| {
                self.set
                    .disk(disk)
                    .is_some_and(|model| model.state == DiskState::Online && model.facts.is_some())
            });
            if disk.is_none() || order & map::OUT_OF_SYNC != 0 {
                return Err(reason!(
                    ENODEV,
                    "being reshaped, and a member is missing; let mdadm or the firmware finish"
                ));
            }
            members.push(
                Member {
                    disk,
                    offset_sectors,
                    state: MemberState::InSync,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(members)
    }
}

/// Why a volume that is being reshaped is not read.
fn unclear(what: &str) -> Reason {
    reason!(
        EIO,
        "being reshaped, and {what}; let mdadm or the firmware finish"
    )
}
