// SPDX-License-Identifier: GPL-2.0

//! Replies of any length, read: what a program does with the records that [`records`](super::records) lays
//! down.

use super::constants::*;
use super::info::{
    AccessKind, DiskInfo, FormatInfo, LevelInfo, MemberInfo, RangeInfo, RepairReason, ScanNote,
    SetInfo, TaskInfo, TaskKind, TaskState, VolumeInfo, VolumeState,
};
use super::layout::{
    DiskRec, FormatRec, LevelRec, MemberRec, NoteRec, RangeRec, Rec, SetRec, VolumeRec,
};
use super::records::text;
use super::request::DevNumber;
use super::wire::Wire;
use super::words::policy_from;
use crate::model::{BadRange, Checked, Consistency, DiskRole, DiskState, MemberState};
use crate::personalities::pace::Rates;
use kernel::prelude::*;

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

/// Reads the records of `MISMATCHES`: the places, and whether there were more than are kept.
pub fn decode_mismatches(bytes: &[u8]) -> Checked<(KVVec<RangeInfo>, bool)> {
    let (mut ranges, mut lost_some) = (KVVec::new(), false);
    for (_, record) in Records::new(bytes).filter(|&(kind, _)| kind == REC_RANGE) {
        let record = RangeRec::from_bytes(record);
        if record.what == RANGE_MISMATCH {
            lost_some |= record.flags & RANGE_MORE != 0;
            ranges.push(mismatch(&record), GFP_KERNEL)?;
        }
    }
    Ok((ranges, lost_some))
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
        level: super::fields::level(&volume.level)?,
        layout: super::fields::layout(&volume.layout)?,
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
        limits: Rates {
            min_kib: volume.rate_min_kib,
            max_kib: volume.rate_max_kib,
        },
    })
}

fn decode_range(set: &mut SetInfo, range: &RangeRec) -> Checked {
    match range.what {
        RANGE_MISMATCH => {
            let volume = set.volumes.last_mut().ok_or_else(orphan)?;
            volume.mismatches_lost = range.flags & RANGE_MORE != 0;
            volume.mismatches.push(mismatch(range), GFP_KERNEL)?;
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

fn mismatch(range: &RangeRec) -> RangeInfo {
    RangeInfo {
        first_sector: range.first_sector,
        sectors: range.sectors,
        slot: Some(range.slot).filter(|&slot| slot != u16::MAX),
        // One of a later version is none that we know.
        reason: RepairReason::from_code(range.reason),
    }
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
        rebuild_checkpoints: format.flags & FORMAT_REBUILDS_ANEW == 0,
        region_log: format.flags & FORMAT_REGION_LOG != 0,
        bad_ranges: format.flags & FORMAT_BAD_RANGES != 0,
        hole_log: format.flags & FORMAT_HOLE_LOG != 0,
        spans_max: small(format.spans_max),
        levels: KVec::new(),
    }
}

fn decode_level(level: &LevelRec) -> Checked<LevelInfo> {
    Ok(LevelInfo {
        level: super::fields::level(&level.level)?,
        layout: super::fields::layout(&level.layout)?,
        members: (small(level.members_min), small(level.members_max)),
        usual: level.flags & LEVEL_USUAL != 0,
        hole_log: level.flags & LEVEL_HOLE_LOG != 0,
    })
}
