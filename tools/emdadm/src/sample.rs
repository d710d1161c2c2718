// SPDX-License-Identifier: GPL-2.0

//! What the unit tests show: a set and its volume.

use emd_core::model::{Consistency, Layout, Level, Text};
use emd_core::personalities::pace::Rates;
use emd_core::uapi::{AccessKind, SetInfo, TaskInfo, TaskKind, TaskState, VolumeInfo, VolumeState};
use kernel::prelude::KVec;

/// A degraded RAID 1, `/dev/emdNUMBER`, with a task that runs on it.
pub fn volume(number: u32, kind: TaskKind, done_sectors: u64) -> VolumeInfo {
    VolumeInfo {
        id: [u8::try_from(number).expect("small"); 16],
        index: 0,
        number: Some(number),
        name: Text::from_text("data"),
        level: Level::Raid1,
        layout: Layout::Plain,
        members_per_span: 2,
        spans: 1,
        chunk_sectors: 0,
        member_sectors: 2000,
        size_sectors: 2000,
        state: VolumeState::Degraded,
        consistency: Consistency::Clean,
        crash_policy: None,
        access: AccessKind::ReadWrite,
        reason: Text::new(),
        members: KVec::new(),
        task: Some(TaskInfo {
            kind,
            state: TaskState::Running,
            done_sectors,
            total_sectors: 2000,
            rate_kib: 1024,
            eta_seconds: Some(65),
            mismatch_sectors: 0,
        }),
        read_errors: 0,
        write_errors: 0,
        mismatches: KVec::new(),
        mismatches_lost: false,
        limits: Rates::USUAL,
    }
}

/// A set without disks and volumes.
pub fn set() -> SetInfo {
    SetInfo {
        id: [1; 16],
        format: Text::from_text("sample"),
        name: Text::new(),
        generation: 1,
        disks: KVec::new(),
        volumes: KVec::new(),
        bad_ranges: KVec::new(),
        notes: KVec::new(),
    }
}
