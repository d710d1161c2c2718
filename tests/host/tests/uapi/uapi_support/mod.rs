// SPDX-License-Identifier: GPL-2.0

//! A program and an engine for tests of the ioctl path: memory that can fault, replies to order.

#![allow(dead_code)]

use emd_core::model::{
    BadRange, Checked, Consistency, CrashPolicy, DiskRole, DiskState, Layout, Level, MemberState,
    Rotation, Text,
};
use emd_core::personalities::choice::Choice;
use emd_core::personalities::pace::Rates;
use emd_core::personalities::ranges::{room, Ranges, SyncRange};
use emd_core::reason;
use emd_core::uapi::fields::UserMemory;
use emd_core::uapi::*;
use kernel::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A program: pieces of memory at addresses, everything else faults.
#[derive(Default)]
pub struct Program {
    /// Memory by its first address.
    pub pieces: BTreeMap<u64, Vec<u8>>,
    /// Writes to these first addresses fault.
    pub read_only: Vec<u64>,
    /// Has CAP_SYS_ADMIN.
    pub root: bool,
    /// Where its file stands.
    pub seek: Option<u64>,
    /// Reads and writes so far.
    pub accesses: RefCell<u64>,
}

impl Program {
    pub fn root() -> Self {
        Self {
            root: true,
            ..Self::default()
        }
    }

    pub fn with(mut self, address: u64, bytes: Vec<u8>) -> Self {
        self.pieces.insert(address, bytes);
        self
    }

    fn piece(&mut self, address: u64, len: usize) -> Option<(u64, &mut [u8])> {
        let (&start, bytes) = self.pieces.range_mut(..=address).next_back()?;
        let first = usize::try_from(address - start).ok()?;
        let end = first.checked_add(len)?;
        Some((start, bytes.get_mut(first..end)?))
    }

    pub fn bytes(&self, address: u64) -> &[u8] {
        &self.pieces[&address]
    }

    /// NUL-terminated text at `address`.
    pub fn text(&self, address: u64) -> &str {
        let bytes = self.bytes(address);
        let len = bytes.iter().position(|&b| b == 0).expect("NUL-terminated");
        std::str::from_utf8(&bytes[..len]).expect("UTF-8")
    }
}

impl UserMemory for Program {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Checked {
        *self.accesses.borrow_mut() += 1;
        match self.piece(address, into.len()) {
            Some((_, bytes)) => into.copy_from_slice(bytes),
            None => return Err(reason!(EFAULT, "fault reading {address:#x}")),
        }
        Ok(())
    }
}

impl Caller for Program {
    fn write(&mut self, address: u64, from: &[u8]) -> Checked {
        *self.accesses.borrow_mut() += 1;
        let read_only = self.read_only.clone();
        match self.piece(address, from.len()) {
            Some((start, bytes)) if !read_only.contains(&start) => bytes.copy_from_slice(from),
            _ => return Err(reason!(EFAULT, "fault writing {address:#x}")),
        }
        Ok(())
    }

    fn may_modify(&self) -> bool {
        self.root
    }

    fn module_version(&self) -> &str {
        "1.2.3-test"
    }

    fn seek_events(&mut self, seq: Option<u64>) -> EventsReply {
        if seq.is_some() {
            self.seek = seq;
        }
        EventsReply {
            seq: self.seek.unwrap_or(0),
            oldest_seq: 5,
            next_seq: 9,
        }
    }
}

/// An engine that notes what it is asked and answers with samples.
#[derive(Default)]
pub struct Recorder {
    pub asked: Mutex<Vec<String>>,
    pub refuse: bool,
    /// Places of its array that do not agree, and how many of them it keeps.
    pub places: (u64, usize),
}

impl Recorder {
    fn note(&self, what: String) -> Checked {
        self.asked.lock().unwrap().push(what);
        if self.refuse {
            return Err(reason!(EBUSY, "emd0 is in use; unmount it first"));
        }
        Ok(())
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Engine for Recorder {
    fn sets(&self) -> Checked<KVec<SetInfo>> {
        let mut sets = KVec::new();
        sets.push(sample_set(1), GFP_KERNEL)?;
        sets.push(sample_set(2), GFP_KERNEL)?;
        Ok(sets)
    }

    fn mismatches(&self, request: &MismatchesRequest) -> Checked<MismatchesReply> {
        self.note(format!("{request:?}"))?;
        let (found, kept) = self.places;
        let mut ranges = Ranges::new()?;
        drop(ranges.clear_into(room(kept)?));
        for nth in 0..found {
            ranges.add(sample_place(nth));
        }
        let mut page = room(request.most as usize)?;
        let end = ranges.page(request.start, &mut page);
        let mut given = KVVec::new();
        for range in page {
            push(&mut given, range.into());
        }
        Ok(MismatchesReply {
            ranges: given,
            next: end.next,
            left: end.left as u32,
            lost_some: end.lost_some,
        })
    }

    fn scan(&self, request: &ScanRequest) -> Checked<ScanReply> {
        self.note(format!("{request:?}"))?;
        let mut notes = KVec::new();
        notes.push(
            ScanNote {
                dev: DevNumber::new(8, 16),
                text: Text::from_text("checksum of the anchor is wrong"),
            },
            GFP_KERNEL,
        )?;
        Ok(ScanReply {
            disks_seen: 7,
            arrays_started: 3,
            sets: self.sets()?,
            notes,
        })
    }

    fn create(&self, request: &CreateRequest) -> Checked<CreateReply> {
        self.note(format!("{request:?}"))?;
        Ok(CreateReply {
            set_id: [0xaa; 16],
            array_id: [0xbb; 16],
            number: Some(4),
            size_sectors: 12345,
        })
    }

    fn stop(&self, request: &StopRequest) -> Checked<StopReply> {
        self.note(format!("{request:?}"))?;
        Ok(StopReply { arrays_stopped: 2 })
    }

    fn delete(&self, request: &DeleteRequest) -> Checked {
        self.note(format!("{request:?}"))
    }

    fn member(&self, request: &MemberRequest) -> Checked<MemberReply> {
        self.note(format!("{request:?}"))?;
        Ok(MemberReply {
            number: Some(1),
            slot: None,
        })
    }

    fn rename(&self, request: &RenameRequest) -> Checked {
        self.note(format!("{request:?}"))
    }

    fn policy(&self, request: &PolicyRequest) -> Checked {
        self.note(format!("{request:?}"))
    }
}

fn push<T>(list: &mut KVec<T>, value: T) {
    list.push(value, GFP_KERNEL).unwrap();
}

/// A place that does not agree; of two of which one is put right each time, in different ways.
pub fn sample_place(nth: u64) -> SyncRange {
    SyncRange {
        first: nth / 2 * 16,
        sectors: 8,
        fixed: (nth % 2 == 1).then_some((2, Choice::Syndromes)),
    }
}

/// A set in which every kind of value occurs.
pub fn sample_set(nth: u8) -> SetInfo {
    let dev = |minor| DevNumber::new(8, minor);
    let mut disks = KVec::new();
    let roles = [
        DiskRole::Member,
        DiskRole::Unused,
        DiskRole::GlobalSpare,
        DiskRole::DedicatedSpare(1),
    ];
    let states = [
        DiskState::Online,
        DiskState::Failed,
        DiskState::Missing,
        DiskState::Stale,
    ];
    for (index, (&role, &state)) in (0u16..).zip(roles.iter().zip(&states)) {
        push(
            &mut disks,
            DiskInfo {
                index,
                dev: (state != DiskState::Missing)
                    .then(|| dev(u32::from(index)))
                    .flatten(),
                label: Text::from_text("A label of 32 bytes, quite full."),
                state,
                role,
                size_sectors: 1 << 40,
                usable_sectors: (1 << 40) - 77,
                failure_predicted: index == 1,
                read_errors: 3,
                write_errors: u64::MAX,
            },
        );
    }
    let mut members = KVec::new();
    let member_states = [
        MemberState::InSync,
        MemberState::Rebuilding { done_sectors: 99 },
        MemberState::Failed,
        MemberState::Missing,
    ];
    for (slot, &state) in (0u16..).zip(&member_states) {
        push(
            &mut members,
            MemberInfo {
                slot,
                disk: (slot != 3).then_some(slot),
                dev: dev(u32::from(slot) * 16),
                offset_sectors: 1 << 33,
                state,
            },
        );
    }
    let volume = |index: u16, members: KVec<MemberInfo>| VolumeInfo {
        id: [nth; 16],
        index,
        number: (index == 0).then_some(u32::from(nth)),
        name: Text::from_text("Daten für alle"),
        level: Level::Raid6,
        layout: Layout::Parity(Rotation::DdfNContinue),
        members_per_span: 4,
        spans: 1,
        chunk_sectors: 128,
        member_sectors: 1 << 30,
        size_sectors: 1 << 31,
        state: VolumeState::ALL[usize::from(index) % 5],
        consistency: match index {
            0 => Consistency::Clean,
            1 => Consistency::Dirty,
            _ => Consistency::Initialising { done_sectors: 4096 },
        },
        crash_policy: [None, Some(CrashPolicy::None), Some(CrashPolicy::Log)]
            [usize::from(index) % 3],
        access: AccessKind::ALL[usize::from(index) % 3],
        reason: Text::from_text(if index == 0 {
            ""
        } else {
            "the layout is not known"
        }),
        members,
        task: (index == 2).then_some(TaskInfo {
            kind: TaskKind::Repair,
            state: TaskState::Paused,
            done_sectors: 1,
            total_sectors: 2,
            rate_kib: 3,
            eta_seconds: None,
            mismatch_sectors: 5,
        }),
        read_errors: 6,
        write_errors: 7,
        mismatches: KVec::from_elem(
            RangeInfo {
                first_sector: 128,
                sectors: 64,
                slot: (index == 1).then_some(3),
                reason: (index == 1).then_some(RepairReason::Syndromes),
            },
            usize::from(index),
            GFP_KERNEL,
        )
        .expect("memory"),
        mismatches_lost: index == 1,
        limits: match index {
            0 => Rates::NONE,
            _ => Rates {
                min_kib: 8,
                max_kib: 9,
            },
        },
    };
    let mut volumes = KVec::new();
    push(&mut volumes, volume(0, members));
    push(&mut volumes, volume(1, KVec::new()));
    push(&mut volumes, volume(2, KVec::new()));
    let mut notes = KVec::new();
    push(&mut notes, Text::from_text("vendor record kept as it is"));
    SetInfo {
        id: [0x50 + nth; 16],
        format: Text::from_text("ddf"),
        name: Text::from_text("shelf"),
        generation: 42,
        disks,
        volumes,
        bad_ranges: KVec::from_elem(
            BadRange {
                disk: 1,
                sector: 4096,
                sectors: 8,
            },
            1,
            GFP_KERNEL,
        )
        .expect("memory"),
        notes,
    }
}
