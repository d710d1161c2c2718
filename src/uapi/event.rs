// SPDX-License-Identifier: GPL-2.0

//! Events: what `read` on `/dev/emd` gives.

use super::constants::{EVENT_PART, NONE};
use super::layout::EventWire;
use super::request::DevNumber;
use super::wire::Wire;
use crate::model::Text;

wire_enum! {
    /// What happened. What `value` means is said with each.
    pub enum EventKind as "EMD_EVENT_" {
        /// The reader fell behind: `value` events before the next one are lost. Made by `read`,
        /// never posted; its sequence number is that of the last one lost.
        Lost = 1, "LOST", "lost";
        /// A set was found and read. `value`: volumes.
        SetFound = 2, "SET_FOUND", "set-found";
        /// A set is no longer held.
        SetGone = 3, "SET_GONE", "set-gone";
        /// An array was started. `value`: its state (`EMD_STATE_*`).
        ArrayStarted = 4, "ARRAY_STARTED", "array-started";
        /// An array was stopped.
        ArrayStopped = 5, "ARRAY_STOPPED", "array-stopped";
        /// A volume was created. `value`: sectors.
        VolumeCreated = 6, "VOLUME_CREATED", "volume-created";
        /// A volume was deleted.
        VolumeDeleted = 7, "VOLUME_DELETED", "volume-deleted";
        /// A volume was renamed; the text is the new name.
        VolumeRenamed = 8, "VOLUME_RENAMED", "volume-renamed";
        /// An array's state changed. `value`: `EMD_STATE_*`.
        StateChanged = 9, "STATE_CHANGED", "state-changed";
        /// A member failed. `value`: sector of the member where the error was, or 0.
        MemberFailed = 10, "MEMBER_FAILED", "member-failed";
        /// A disk joined a set.
        DiskAdded = 11, "DISK_ADDED", "disk-added";
        /// A disk left a set.
        DiskRemoved = 12, "DISK_REMOVED", "disk-removed";
        /// A disk of a set is gone from the machine.
        DiskLost = 13, "DISK_LOST", "disk-lost";
        /// A disk became a spare, or stopped being one. `value`: 1 or 0.
        SpareChanged = 14, "SPARE_CHANGED", "spare-changed";
        /// A spare took the place of a member.
        SpareActivated = 15, "SPARE_ACTIVATED", "spare-activated";
        /// A task started. `value`: `EMD_TASK_*` (its kind); the text is its word.
        TaskStarted = 16, "TASK_STARTED", "task-started";
        /// A task got on. `value`: per mille; the text is the kind's word.
        TaskProgress = 17, "TASK_PROGRESS", "task-progress";
        /// A task is done. `value`: sectors that did not agree (check, repair), else 0; the text is the kind's word.
        TaskDone = 18, "TASK_DONE", "task-done";
        /// A task stopped before its end. `value`: per mille; the text is the kind's word.
        TaskStopped = 19, "TASK_STOPPED", "task-stopped";
        /// A member could not read. `value`: sector of the member, which begins at `offset_sectors` of the disk; 0 for
        /// what is of no single place. The text has the sector of the disk.
        ReadError = 20, "READ_ERROR", "read-error";
        /// A member could not write. `value`: likewise.
        WriteError = 21, "WRITE_ERROR", "write-error";
        /// A read error was put right by writing what the others say. `value`: likewise.
        ReadRepaired = 22, "READ_REPAIRED", "read-repaired";
        /// Redundancy did not agree. `value`: first sector, of each member, for RAID 10 and 1E of the volume; a
        /// repair says which member it wrote (`slot`), and the text why it was this one.
        Mismatch = 23, "MISMATCH", "mismatch";
        /// An array was started that takes no writes; the text says why.
        ReadOnly = 24, "READ_ONLY", "read-only";
        /// Metadata could not be written; the text says where and why.
        MetadataError = 25, "METADATA_ERROR", "metadata-error";
        /// Something a person should know; the text says what.
        Note = 26, "NOTE", "note";
    }
}

/// An event. Small and in place: posting one never allocates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRecord {
    /// Sequence number; the ring gives it.
    pub seq: u64,
    /// Nanoseconds since 1970; the ring gives it.
    pub time_ns: u64,
    /// What happened.
    pub kind: EventKind,
    /// The set; zeros for none.
    pub set_id: [u8; 16],
    /// N of `/dev/emdN`.
    pub number: Option<u32>,
    /// The member.
    pub slot: Option<u16>,
    /// The disk.
    pub dev: Option<DevNumber>,
    /// What the kind says.
    pub value: u64,
    /// Of a task that is done: it went on from a mark, and what it found before that is not known any more.
    pub is_part: bool,
    /// For people.
    pub text: Text<120>,
}

impl EventRecord {
    /// An event of `kind` about nothing in particular. Fill in what is known.
    pub const fn new(kind: EventKind) -> Self {
        Self {
            seq: 0,
            time_ns: 0,
            kind,
            set_id: [0; 16],
            number: None,
            slot: None,
            dev: None,
            value: 0,
            is_part: false,
            text: Text::new(),
        }
    }

    /// As `read` gives it.
    // By reference: a record is large.
    #[allow(clippy::wrong_self_convention)]
    pub fn to_wire(&self) -> EventWire {
        let mut text = [0u8; 128];
        super::records::put_text(&mut text, self.text.as_str());
        EventWire {
            size: EventWire::BYTES as u32,
            kind: self.kind.code(),
            slot: self.slot.unwrap_or(u16::MAX),
            seq: self.seq,
            time_ns: self.time_ns,
            set_id: self.set_id,
            number: self.number.unwrap_or(NONE),
            flags: if self.is_part { EVENT_PART } else { 0 },
            dev: self.dev.map_or(0, DevNumber::to_wire),
            value: self.value,
            text,
        }
    }

    /// From what `read` gave; `None` for a kind that this version does not know.
    pub fn from_wire(wire: &EventWire) -> Option<Self> {
        Some(Self {
            seq: wire.seq,
            time_ns: wire.time_ns,
            kind: EventKind::from_code(wire.kind)?,
            set_id: wire.set_id,
            number: Some(wire.number).filter(|&number| number != NONE),
            slot: Some(wire.slot).filter(|&slot| slot != u16::MAX),
            dev: DevNumber::from_wire(wire.dev),
            value: wire.value,
            is_part: wire.flags & EVENT_PART != 0,
            text: super::records::text(&wire.text),
        })
    }
}
