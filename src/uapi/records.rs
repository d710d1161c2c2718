// SPDX-License-Identifier: GPL-2.0

//! Replies of any length: a stream of records, each with its own length and kind.
//!
//! The order says what belongs together: a set, then its disks, its volumes each followed by its
//! members, then its notes; a format, then its levels.

use super::constants::*;
use super::decode::{policy_code, policy_from};
use super::info::{
    AccessKind, DiskInfo, FormatInfo, LevelInfo, MemberInfo, RangeInfo, RepairReason, ScanNote,
    SetInfo, TaskInfo, TaskKind, TaskState, VolumeInfo, VolumeState,
};
use super::layout::{
    DiskRec, FormatRec, LevelRec, MemberRec, NoteRec, RangeRec, Rec, SetRec, VolumeRec,
};
use super::request::DevNumber;
use super::wire::Wire;
use crate::model::{BadRange, Checked, Consistency, DiskRole, DiskState, MemberState, Text};
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
                    self.push(&RangeRec {
                        rec: rec::<RangeRec>(REC_RANGE),
                        first_sector: range.first_sector,
                        sectors: range.sectors,
                        what: RANGE_MISMATCH,
                        flags: if volume.mismatches_lost {
                            RANGE_MORE
                        } else {
                            0
                        },
                        disk: NONE,
                        slot: range.slot.unwrap_or(u16::MAX),
                        reason: range.reason.map_or(0, RepairReason::code),
                        reserved: 0,
                    })?;
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
            self.push(&LevelRec {
                rec: rec::<LevelRec>(REC_LEVEL),
                level: text_field(level.level),
                layout: text_field(level.layout),
                members_min: u32::from(level.members.0),
                members_max: u32::from(level.members.1),
                flags: if level.usual { LEVEL_USUAL } else { 0 },
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
    }
}

/// Steps through a stream of records: kind and bytes of each. Ends at the first one whose length
/// cannot be.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Steps through `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.len() < Rec::BYTES {
            return None;
        }
        let head = Rec::from_bytes(self.bytes);
        let size = usize::try_from(head.size).ok()?;
        if size < Rec::BYTES {
            return None;
        }
        let record = self.bytes.get(..size)?;
        self.bytes = self.bytes.get(size..)?;
        Some((head.kind, record))
    }
}

/// What a stream of records says.
#[derive(PartialEq, Debug, Default)]
pub struct Decoded {
    /// Sets.
    pub sets: KVec<SetInfo>,
    /// Notes that came before any set, or are about a device.
    pub notes: KVec<ScanNote>,
    /// Formats.
    pub formats: KVec<FormatInfo>,
}

/// Reads a stream of records, as a program does that called `LIST`, `QUERY`, `SCAN` or `FORMATS`.
/// Unknown kinds are skipped; a known one with codes that this version does not know is refused.
pub fn decode(bytes: &[u8]) -> Checked<Decoded> {
    let mut decoded = Decoded::default();
    for (kind, record) in Records::new(bytes) {
        match kind {
            REC_SET => {
                let set = SetRec::from_bytes(record);
                decoded.sets.push(
                    SetInfo {
                        id: set.id,
                        format: text(&set.format),
                        name: text(&set.name),
                        generation: set.generation,
                        disks: KVec::new(),
                        volumes: KVec::new(),
                        bad_ranges: KVec::new(),
                        notes: KVec::new(),
                    },
                    GFP_KERNEL,
                )?;
            }
            REC_NOTE => {
                let note = NoteRec::from_bytes(record);
                let note = ScanNote {
                    dev: DevNumber::from_wire(note.dev),
                    text: text(&note.text),
                };
                match decoded.sets.last_mut() {
                    Some(set) if note.dev.is_none() => set.notes.push(note.text, GFP_KERNEL)?,
                    _ => decoded.notes.push(note, GFP_KERNEL)?,
                }
            }
            REC_DISK => {
                let set = decoded.sets.last_mut().ok_or_else(orphan)?;
                set.disks
                    .push(decode_disk(&DiskRec::from_bytes(record))?, GFP_KERNEL)?;
            }
            REC_VOLUME => {
                let set = decoded.sets.last_mut().ok_or_else(orphan)?;
                set.volumes
                    .push(decode_volume(&VolumeRec::from_bytes(record))?, GFP_KERNEL)?;
            }
            REC_MEMBER => {
                let set = decoded.sets.last_mut().ok_or_else(orphan)?;
                let volume = set.volumes.last_mut().ok_or_else(orphan)?;
                volume
                    .members
                    .push(decode_member(&MemberRec::from_bytes(record))?, GFP_KERNEL)?;
            }
            REC_RANGE => {
                let set = decoded.sets.last_mut().ok_or_else(orphan)?;
                decode_range(set, &RangeRec::from_bytes(record))?;
            }
            REC_FORMAT => decoded
                .formats
                .push(decode_format(&FormatRec::from_bytes(record)), GFP_KERNEL)?,
            REC_LEVEL => {
                let format = decoded.formats.last_mut().ok_or_else(orphan)?;
                format
                    .levels
                    .push(decode_level(&LevelRec::from_bytes(record))?, GFP_KERNEL)?;
            }
            _ => {}
        }
    }
    Ok(decoded)
}

fn orphan() -> crate::model::Reason {
    crate::reason!(EINVAL, "the kernel's answer has a record without its owner")
}

fn unknown(what: &str, code: u16) -> crate::model::Reason {
    crate::reason!(
        EINVAL,
        "the kernel's answer has {what} {code}, which this program does not know; use the emdadm that came with the module"
    )
}

fn small(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn decode_disk(disk: &DiskRec) -> Checked<DiskInfo> {
    Ok(DiskInfo {
        index: small(disk.index),
        dev: DevNumber::from_wire(disk.dev),
        label: text(&disk.label),
        state: match disk.state {
            DISK_ONLINE => DiskState::Online,
            DISK_FAILED => DiskState::Failed,
            DISK_MISSING => DiskState::Missing,
            DISK_STALE => DiskState::Stale,
            code => return Err(unknown("disk state", code)),
        },
        role: match disk.role {
            ROLE_UNUSED => DiskRole::Unused,
            ROLE_MEMBER => DiskRole::Member,
            ROLE_GLOBAL_SPARE => DiskRole::GlobalSpare,
            ROLE_DEDICATED_SPARE => DiskRole::DedicatedSpare(small(disk.dedicated_volume)),
            code => return Err(unknown("disk role", code)),
        },
        size_sectors: disk.size_sectors,
        usable_sectors: disk.usable_sectors,
        failure_predicted: disk.flags & DISK_FAILURE_PREDICTED != 0,
        read_errors: disk.read_errors,
        write_errors: disk.write_errors,
    })
}

fn decode_member(member: &MemberRec) -> Checked<MemberInfo> {
    Ok(MemberInfo {
        slot: small(member.slot),
        disk: Some(member.disk).filter(|&disk| disk != NONE).map(small),
        dev: DevNumber::from_wire(member.dev),
        offset_sectors: member.offset_sectors,
        state: match member.state {
            MEMBER_IN_SYNC => MemberState::InSync,
            MEMBER_REBUILDING => MemberState::Rebuilding {
                done_sectors: member.done_sectors,
            },
            MEMBER_FAILED => MemberState::Failed,
            MEMBER_MISSING => MemberState::Missing,
            code => return Err(unknown("member state", code)),
        },
    })
}

fn decode_volume(volume: &VolumeRec) -> Checked<VolumeInfo> {
    let task = match (volume.task_kind, volume.task_state) {
        (0, _) => None,
        (kind, state) => Some(TaskInfo {
            kind: TaskKind::from_code(kind).ok_or_else(|| unknown("task", kind))?,
            state: TaskState::from_code(state).ok_or_else(|| unknown("task state", state))?,
            done_sectors: volume.task_done_sectors,
            total_sectors: volume.task_total_sectors,
            rate_kib: volume.task_rate_kib,
            eta_seconds: Some(volume.task_eta_seconds).filter(|&eta| eta != NONE),
            mismatch_sectors: volume.task_mismatch_sectors,
        }),
    };
    Ok(VolumeInfo {
        id: volume.id,
        index: small(volume.index),
        number: Some(volume.number).filter(|&number| number != NONE),
        name: text(&volume.name),
        level: super::decode::level(&volume.level)?,
        layout: super::decode::layout(&volume.layout)?,
        members_per_span: volume.members,
        spans: volume.spans,
        chunk_sectors: volume.chunk_sectors,
        member_sectors: volume.member_sectors,
        size_sectors: volume.size_sectors,
        state: VolumeState::from_code(volume.state)
            .ok_or_else(|| unknown("volume state", volume.state))?,
        consistency: match volume.consistency {
            CONSISTENCY_CLEAN => Consistency::Clean,
            CONSISTENCY_DIRTY => Consistency::Dirty,
            CONSISTENCY_INITIALISING => Consistency::Initialising {
                done_sectors: volume.consistent_sectors,
            },
            code => return Err(unknown("consistency", code)),
        },
        crash_policy: match volume.crash_policy {
            0 => None,
            code => Some(policy_from(code).ok_or_else(|| unknown("policy", code))?),
        },
        access: AccessKind::from_code(volume.access)
            .ok_or_else(|| unknown("access", volume.access))?,
        reason: text(&volume.reason),
        members: KVec::new(),
        task,
        read_errors: volume.read_errors,
        write_errors: volume.write_errors,
        mismatches: KVec::new(),
        mismatches_lost: false,
    })
}

fn decode_range(set: &mut SetInfo, range: &RangeRec) -> Checked {
    match range.what {
        RANGE_MISMATCH => {
            let volume = set.volumes.last_mut().ok_or_else(orphan)?;
            volume.mismatches_lost = range.flags & RANGE_MORE != 0;
            let range = RangeInfo {
                first_sector: range.first_sector,
                sectors: range.sectors,
                slot: Some(range.slot).filter(|&slot| slot != u16::MAX),
                // One of a later version is none that we know.
                reason: RepairReason::from_code(range.reason),
            };
            volume.mismatches.push(range, GFP_KERNEL)?;
        }
        RANGE_BAD => {
            let range = BadRange {
                disk: small(range.disk),
                sector: range.first_sector,
                sectors: u32::try_from(range.sectors).unwrap_or(u32::MAX),
            };
            set.bad_ranges.push(range, GFP_KERNEL)?;
        }
        // Of a later version.
        _ => {}
    }
    Ok(())
}

fn decode_format(format: &FormatRec) -> FormatInfo {
    FormatInfo {
        name: text(&format.name),
        description: text(&format.description),
        chunk_sectors: (format.chunk_sectors_min, format.chunk_sectors_max),
        chunk_sectors_default: format.chunk_sectors_default,
        disks_max: small(format.disks_max),
        volumes_max: small(format.volumes_max),
        name_bytes_max: small(format.name_bytes_max),
        spares_global: format.flags & FORMAT_SPARES_GLOBAL != 0,
        spares_dedicated: format.flags & FORMAT_SPARES_DEDICATED != 0,
        checkpoints: format.flags & FORMAT_CHECKPOINTS != 0,
        region_log: format.flags & FORMAT_REGION_LOG != 0,
        bad_ranges: format.flags & FORMAT_BAD_RANGES != 0,
        hole_log: format.flags & FORMAT_HOLE_LOG != 0,
        spans_max: small(format.spans_max),
        levels: KVec::new(),
    }
}

fn decode_level(level: &LevelRec) -> Checked<LevelInfo> {
    Ok(LevelInfo {
        level: super::decode::level(&level.level)?,
        layout: super::decode::layout(&level.layout)?,
        members: (small(level.members_min), small(level.members_max)),
        usual: level.flags & LEVEL_USUAL != 0,
    })
}
