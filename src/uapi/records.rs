// SPDX-License-Identifier: GPL-2.0

//! Replies of any length, written: a stream of records, each with its own length and kind.
//!
//! The order says what belongs together: a set, then its disks, its volumes each followed by its
//! members, then its notes; a format, then its levels.

use super::constants::*;
use super::info::{
    DiskInfo, FormatInfo, MemberInfo, RangeInfo, RepairReason, ScanNote, SetInfo, VolumeInfo,
};
use super::layout::{
    DiskRec, FormatRec, LevelRec, MemberRec, NoteRec, RangeRec, Rec, SetRec, VolumeRec,
};
use super::request::DevNumber;
use super::wire::Wire;
use super::words::policy_code;
use crate::model::{Checked, Consistency, DiskRole, DiskState, MemberState, Text};
use core::fmt;
use kernel::prelude::*;

/// Puts `text` into a zeroed field; the last byte stays NUL. Cut at a character's boundary.
pub fn put_text(field: &mut [u8], text: &str) {
    let mut used = 0usize;
    let room = field.len().saturating_sub(1);
    for ch in text.chars() {
        let mut utf8 = [0u8; 4];
        let encoded = ch.encode_utf8(&mut utf8).as_bytes();
        let end = used + encoded.len();
        if end > room {
            return;
        }
        if let Some(slot) = field.get_mut(used..end) {
            slot.copy_from_slice(encoded);
        }
        used = end;
    }
}

/// A field filled with `text`, the rest NUL.
fn text_field<const N: usize>(text: impl fmt::Display) -> [u8; N] {
    let text = Text::<208>::from_fmt(format_args!("{text}"));
    let mut field = [0u8; N];
    put_text(&mut field, text.as_str());
    field
}

/// The text of a field: up to NUL, and only if it is UTF-8; else empty.
pub fn text<const N: usize>(field: &[u8]) -> Text<N> {
    let len = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    let bytes = field.get(..len).unwrap_or(&[]);
    Text::from_text(core::str::from_utf8(bytes).unwrap_or(""))
}

/// Collects records up to a limit, and counts what does not fit.
#[derive(Debug)]
pub struct Sink {
    bytes: KVVec<u8>,
    limit: usize,
    needed: usize,
    count: u32,
}

impl Sink {
    /// A sink that keeps at most `limit` bytes of whole records.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: KVVec::new(),
            limit,
            needed: 0,
            count: 0,
        }
    }

    /// The records that fitted.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that all records take.
    pub fn needed(&self) -> u32 {
        u32::try_from(self.needed).unwrap_or(u32::MAX)
    }

    /// Records that fitted.
    pub fn count(&self) -> u32 {
        self.count
    }

    fn push<T: Wire>(&mut self, record: &T) -> Checked {
        let start = self.needed;
        self.needed = start.saturating_add(T::BYTES);
        // Once one did not fit, none may follow: records are written without gaps.
        if self.needed > self.limit || start != self.bytes.len() {
            return Ok(());
        }
        self.bytes.extend_with(T::BYTES, 0, GFP_KERNEL)?;
        if let Some(room) = self.bytes.get_mut(start..) {
            record.to_bytes(room);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// A set; `full` with its disks, members and notes.
    pub fn set(&mut self, set: &SetInfo, full: bool) -> Checked {
        self.push(&SetRec {
            rec: rec::<SetRec>(REC_SET),
            id: set.id,
            format: text_field(set.format),
            name: text_field(set.name),
            generation: set.generation,
            disks: count(set.disks.len()),
            volumes: count(set.volumes.len()),
        })?;
        if full {
            for disk in set.disks.iter() {
                self.push(&disk_record(disk))?;
            }
        }
        for volume in set.volumes.iter() {
            self.push(&volume_record(volume))?;
            if full {
                for member in volume.members.iter() {
                    self.push(&member_record(member))?;
                }
                for range in volume.mismatches.iter() {
                    self.mismatch(range, volume.mismatches_lost)?;
                }
            }
        }
        if full {
            for bad in set.bad_ranges.iter() {
                self.push(&RangeRec {
                    rec: rec::<RangeRec>(REC_RANGE),
                    first_sector: bad.sector,
                    sectors: u64::from(bad.sectors),
                    what: RANGE_BAD,
                    flags: 0,
                    disk: u32::from(bad.disk),
                    slot: u16::MAX,
                    reason: 0,
                    reserved: 0,
                })?;
            }
            for note in set.notes.iter() {
                self.note(&ScanNote {
                    dev: None,
                    text: *note,
                })?;
            }
        }
        Ok(())
    }

    /// A place that did not agree; whether there are more than these.
    pub fn mismatch(&mut self, range: &RangeInfo, is_more: bool) -> Checked {
        self.push(&RangeRec {
            rec: rec::<RangeRec>(REC_RANGE),
            first_sector: range.first_sector,
            sectors: range.sectors,
            what: RANGE_MISMATCH,
            flags: if is_more { RANGE_MORE } else { 0 },
            disk: NONE,
            slot: range.slot.unwrap_or(u16::MAX),
            reason: range.reason.map_or(0, RepairReason::code),
            reserved: 0,
        })
    }

    /// A remark.
    pub fn note(&mut self, note: &ScanNote) -> Checked {
        self.push(&NoteRec {
            rec: rec::<NoteRec>(REC_NOTE),
            dev: wire_dev(note.dev),
            text: text_field(note.text),
        })
    }

    /// A format with its levels.
    pub fn format(&mut self, format: &FormatInfo) -> Checked {
        let mut flags = 0;
        if format.spares_global {
            flags |= FORMAT_SPARES_GLOBAL;
        }
        if format.spares_dedicated {
            flags |= FORMAT_SPARES_DEDICATED;
        }
        if format.checkpoints {
            flags |= FORMAT_CHECKPOINTS;
        }
        if !format.rebuild_checkpoints {
            flags |= FORMAT_REBUILDS_ANEW;
        }
        if format.region_log {
            flags |= FORMAT_REGION_LOG;
        }
        if format.bad_ranges {
            flags |= FORMAT_BAD_RANGES;
        }
        if format.hole_log {
            flags |= FORMAT_HOLE_LOG;
        }
        self.push(&FormatRec {
            rec: rec::<FormatRec>(REC_FORMAT),
            name: text_field(format.name),
            description: text_field(format.description),
            chunk_sectors_min: format.chunk_sectors.0,
            chunk_sectors_max: format.chunk_sectors.1,
            chunk_sectors_default: format.chunk_sectors_default,
            disks_max: u32::from(format.disks_max),
            volumes_max: u32::from(format.volumes_max),
            name_bytes_max: u32::from(format.name_bytes_max),
            flags,
            spans_max: u32::from(format.spans_max),
        })?;
        for level in format.levels.iter() {
            let mut flags = 0;
            if level.usual {
                flags |= LEVEL_USUAL;
            }
            if level.hole_log {
                flags |= LEVEL_HOLE_LOG;
            }
            self.push(&LevelRec {
                rec: rec::<LevelRec>(REC_LEVEL),
                level: text_field(level.level),
                layout: text_field(level.layout),
                members_min: u32::from(level.members.0),
                members_max: u32::from(level.members.1),
                flags,
                reserved: 0,
            })?;
        }
        Ok(())
    }
}

fn rec<T: Wire>(kind: u16) -> Rec {
    Rec {
        size: T::BYTES as u32,
        kind,
        reserved: 0,
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn wire_dev(dev: Option<DevNumber>) -> u64 {
    dev.map_or(0, DevNumber::to_wire)
}

fn disk_record(disk: &DiskInfo) -> DiskRec {
    let (role, dedicated_volume) = match disk.role {
        DiskRole::Unused => (ROLE_UNUSED, NONE),
        DiskRole::Member => (ROLE_MEMBER, NONE),
        DiskRole::GlobalSpare => (ROLE_GLOBAL_SPARE, NONE),
        DiskRole::DedicatedSpare(volume) => (ROLE_DEDICATED_SPARE, u32::from(volume)),
    };
    DiskRec {
        rec: rec::<DiskRec>(REC_DISK),
        dev: wire_dev(disk.dev),
        size_sectors: disk.size_sectors,
        usable_sectors: disk.usable_sectors,
        read_errors: disk.read_errors,
        write_errors: disk.write_errors,
        index: u32::from(disk.index),
        state: match disk.state {
            DiskState::Online => DISK_ONLINE,
            DiskState::Failed => DISK_FAILED,
            // A removed disk is not shown; should one be, it is not here.
            DiskState::Missing | DiskState::Removed => DISK_MISSING,
            DiskState::Stale => DISK_STALE,
        },
        role,
        dedicated_volume,
        flags: if disk.failure_predicted {
            DISK_FAILURE_PREDICTED
        } else {
            0
        },
        label: text_field(disk.label),
    }
}

fn member_record(member: &MemberInfo) -> MemberRec {
    let (state, done_sectors) = match member.state {
        MemberState::InSync => (MEMBER_IN_SYNC, 0),
        MemberState::Rebuilding { done_sectors } => (MEMBER_REBUILDING, done_sectors),
        MemberState::Failed => (MEMBER_FAILED, 0),
        MemberState::Missing => (MEMBER_MISSING, 0),
    };
    MemberRec {
        rec: rec::<MemberRec>(REC_MEMBER),
        dev: wire_dev(member.dev),
        offset_sectors: member.offset_sectors,
        done_sectors,
        disk: member.disk.map_or(NONE, u32::from),
        slot: u32::from(member.slot),
        state,
        reserved0: 0,
        reserved1: 0,
    }
}

fn volume_record(volume: &VolumeInfo) -> VolumeRec {
    let (consistency, consistent_sectors) = match volume.consistency {
        Consistency::Clean => (CONSISTENCY_CLEAN, 0),
        Consistency::Dirty => (CONSISTENCY_DIRTY, 0),
        Consistency::Initialising { done_sectors } => (CONSISTENCY_INITIALISING, done_sectors),
    };
    let task = volume.task.as_ref();
    VolumeRec {
        rec: rec::<VolumeRec>(REC_VOLUME),
        id: volume.id,
        name: text_field(volume.name),
        level: text_field(volume.level),
        layout: text_field(volume.layout),
        size_sectors: volume.size_sectors,
        member_sectors: volume.member_sectors,
        consistent_sectors,
        read_errors: volume.read_errors,
        write_errors: volume.write_errors,
        number: volume.number.unwrap_or(NONE),
        index: u32::from(volume.index),
        chunk_sectors: volume.chunk_sectors,
        members: volume.members_per_span,
        spans: volume.spans,
        state: volume.state.code(),
        consistency,
        access: volume.access.code(),
        task_kind: task.map_or(0, |task| task.kind.code()),
        task_state: task.map_or(0, |task| task.state.code()),
        crash_policy: volume.crash_policy.map_or(0, policy_code),
        task_rate_kib: task.map_or(0, |task| task.rate_kib),
        task_done_sectors: task.map_or(0, |task| task.done_sectors),
        task_total_sectors: task.map_or(0, |task| task.total_sectors),
        task_mismatch_sectors: task.map_or(0, |task| task.mismatch_sectors),
        task_eta_seconds: task.and_then(|task| task.eta_seconds).unwrap_or(NONE),
        reserved1: 0,
        reason: text_field(volume.reason),
        rate_min_kib: volume.limits.min_kib,
        rate_max_kib: volume.limits.max_kib,
    }
}
