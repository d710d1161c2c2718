// SPDX-License-Identifier: GPL-2.0

//! The target `ioctl`: a call with any bytes, from a program whose memory faults and changes; and records
//! and events as a tool may get them.

use crate::input::Input;
use emd_core::model::{Checked, Text};
use emd_core::personalities::ranges::{room, Ranges, SyncRange};
use emd_core::reason;
use emd_core::uapi::args::{CreateArg, Head, ListArg, MismatchesArg, QueryArg, ScanArg};
use emd_core::uapi::constants::*;
use emd_core::uapi::decode::CallKind;
use emd_core::uapi::fields::UserMemory;
use emd_core::uapi::layout::EventWire;
use emd_core::uapi::read_records::{decode, Records};
use emd_core::uapi::wire::Wire;
use emd_core::uapi::*;
use kernel::prelude::*;

/// Where the argument is in the program's memory.
const ARG: u64 = 0x10_0000;

/// Addresses with this bit fault.
const FAULTS: u64 = 1 << 47;

/// Where seeds put lists, records and reasons.
const LIST: u64 = 0x20_0000;
const OUT: u64 = 0x30_0000;
const REASON: u64 = 0x40_0000;

/// Runs an input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (choice, flags) = (input.u8(), input.u8());
    if choice >= 0xF0 {
        return tool(input.bytes(1 << 16));
    }
    let kinds = CallKind::ALL;
    let kind = kinds[usize::from(choice) % kinds.len()];
    let cmd = if flags & 1 == 0 {
        iowr(kind.nr, kind.bytes)
    } else {
        input.u32()
    };
    let extra = usize::from(input.u8());
    let len = if flags & 2 == 0 {
        kind.bytes
    } else {
        kind.bytes / 2 + extra * 16
    };
    let mut argument = input.bytes(len).to_vec();
    argument.resize(len.max(Head::BYTES), 0);
    if flags & 4 == 0 {
        argument[..4].copy_from_slice(&(len as u32).to_ne_bytes());
    }
    let head = Head::from_bytes(&argument);
    let mut allowed = vec![
        (ARG, u64::from(head.size)),
        (head.reason_ptr, u64::from(head.reason_len)),
    ];
    let out = match kind.nr {
        NR_LIST | NR_FORMATS => Some(ListArg::from_bytes(&argument).out),
        NR_QUERY => Some(QueryArg::from_bytes(&argument).out),
        NR_MISMATCHES => Some(MismatchesArg::from_bytes(&argument).out),
        NR_SCAN => Some(ScanArg::from_bytes(&argument).out),
        _ => None,
    };
    allowed.extend(out.map(|out| (out.ptr, u64::from(out.len))));
    let mut program = Program {
        argument,
        rest: input.bytes(1 << 12).to_vec(),
        root: flags & 8 == 0,
        changes: flags & 16 != 0,
        accesses: 0,
        allowed,
    };
    let engine = Answers {
        refuses: flags & 32 != 0,
        sets: flags >> 6,
    };
    let _ = call(&engine, &mut program, cmd, ARG);
    // A list has an end.
    assert!(program.accesses < 4096, "{} accesses", program.accesses);
}

/// What a tool does with what it reads from the module.
fn tool(bytes: &[u8]) {
    if let Ok(decoded) = decode(bytes) {
        // What was understood is written in the same way as the module does.
        let mut sink = records::Sink::new(usize::MAX);
        for set in &decoded.sets {
            sink.set(set, true).expect("memory");
        }
        let again = decode(sink.bytes()).expect("what was written is read");
        assert_eq!(again.sets.len(), decoded.sets.len());
    }
    for (nth, _) in Records::new(bytes).enumerate() {
        assert!(nth <= bytes.len(), "records without an end");
    }
    for wire in bytes.chunks(EventWire::BYTES) {
        let wire = EventWire::from_bytes(wire);
        if let Some(event) = EventRecord::from_wire(&wire) {
            let again = EventRecord::from_wire(&event.to_wire());
            assert_eq!(again, Some(event));
        }
    }
}

/// A calling program. What is at an address beside its argument comes from a few bytes, again and again.
struct Program {
    argument: Vec<u8>,
    rest: Vec<u8>,
    root: bool,
    /// Another thread of it changes its memory all the time.
    changes: bool,
    accesses: usize,
    /// First addresses and lengths of what it asked to be written.
    allowed: Vec<(u64, u64)>,
}

impl Program {
    fn byte(&self, address: u64) -> u8 {
        let at = address.wrapping_sub(ARG);
        if let Some(byte) = usize::try_from(at)
            .ok()
            .and_then(|at| self.argument.get(at))
        {
            return *byte;
        }
        match self.rest.len() {
            0 => 0,
            len => self.rest[(address % len as u64) as usize],
        }
    }
}

impl UserMemory for Program {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Checked {
        self.accesses += 1;
        let end = address.checked_add(into.len() as u64);
        if (address & FAULTS) != 0 || end.is_none_or(|end| end > FAULTS) {
            return Err(reason!(EFAULT, "fault reading {address:#x}"));
        }
        for (nth, byte) in (0u64..).zip(into.iter_mut()) {
            *byte = self.byte(address + nth);
        }
        if self.changes && self.accesses % 2 == 0 {
            if let Some(byte) = self.argument.get_mut(self.accesses / 2) {
                *byte = byte.wrapping_add(1);
            }
        }
        Ok(())
    }
}

impl Caller for Program {
    fn write(&mut self, address: u64, from: &[u8]) -> Checked {
        self.accesses += 1;
        let len = from.len() as u64;
        let asked = self.allowed.iter().any(|(first, room)| {
            address
                .checked_sub(*first)
                .is_some_and(|skip| skip.saturating_add(len) <= *room)
        });
        // Where memory changes under way, what it asked for is not known.
        assert!(
            asked || self.changes,
            "{len} bytes are written to {address:#x}, which was not asked for"
        );
        if (address & FAULTS) != 0 || address.checked_add(len).is_none_or(|end| end > FAULTS) {
            return Err(reason!(EFAULT, "fault writing {address:#x}"));
        }
        for (nth, byte) in (0u64..).zip(from) {
            let at = (address + nth).wrapping_sub(ARG);
            if let Some(room) = usize::try_from(at)
                .ok()
                .and_then(|at| self.argument.get_mut(at))
            {
                *room = *byte;
            }
        }
        Ok(())
    }

    fn may_modify(&self) -> bool {
        self.root
    }

    fn module_version(&self) -> &str {
        "fuzz"
    }

    fn seek_events(&mut self, seq: Option<u64>) -> EventsReply {
        EventsReply {
            seq: seq.unwrap_or(0),
            oldest_seq: 1,
            next_seq: 2,
        }
    }
}

/// An engine that checks requests, and answers.
struct Answers {
    refuses: bool,
    sets: u8,
}

impl Answers {
    fn judge(&self) -> Checked {
        if self.refuses {
            return Err(reason!(EBUSY, "refused; {}", "a long reason ".repeat(30)));
        }
        Ok(())
    }
}

impl Engine for Answers {
    fn sets(&self) -> Checked<KVec<SetInfo>> {
        self.judge()?;
        let mut sets = KVec::new();
        for nth in 0..self.sets {
            sets.push(set(nth), GFP_KERNEL)?;
        }
        Ok(sets)
    }

    fn mismatches(&self, request: &MismatchesRequest) -> Checked<MismatchesReply> {
        assert!(!matches!(request.target, Target::All | Target::Set(_)));
        assert!(request.most <= MISMATCHES_PAGE_MAX);
        self.judge()?;
        let mut ranges = Ranges::new()?;
        for nth in 0..u64::from(self.sets) * 50 {
            ranges.add(SyncRange {
                first: nth * 16,
                sectors: 8,
                fixed: None,
            });
        }
        let mut page = room(request.most as usize)?;
        let end = ranges.page(request.start, &mut page);
        let mut given = KVVec::new();
        for range in page {
            given.push(range.into(), GFP_KERNEL)?;
        }
        Ok(MismatchesReply {
            ranges: given,
            next: end.next,
            left: u32::try_from(end.left).expect("few"),
            lost_some: end.lost_some,
        })
    }

    fn scan(&self, request: &ScanRequest) -> Checked<ScanReply> {
        assert!(request.devs.len() <= DISKS_MAX as usize);
        Ok(ScanReply {
            disks_seen: 1,
            arrays_started: 1,
            sets: self.sets()?,
            notes: KVec::new(),
        })
    }

    fn create(&self, request: &CreateRequest) -> Checked<CreateReply> {
        let members = if request.volume.is_some() {
            MEMBERS_MAX
        } else {
            DISKS_MAX
        };
        assert!(request.members.len() <= members as usize);
        assert!(request.spares.len() <= DISKS_MAX as usize);
        assert!(request.set_id.is_some() || request.members.iter().any(Option::is_some));
        assert!(request.set_id.is_some() || !request.format.is_empty());
        self.judge()?;
        Ok(CreateReply {
            set_id: [1; 16],
            array_id: [2; 16],
            number: None,
            size_sectors: 3,
        })
    }

    fn stop(&self, _request: &StopRequest) -> Checked<StopReply> {
        self.judge()?;
        Ok(StopReply { arrays_stopped: 0 })
    }

    fn delete(&self, request: &DeleteRequest) -> Checked {
        assert_ne!(request.target, Target::All);
        self.judge()
    }

    fn member(&self, request: &MemberRequest) -> Checked<MemberReply> {
        assert_ne!(request.target, Target::All);
        self.judge()?;
        Ok(MemberReply {
            number: Some(1),
            slot: Some(2),
        })
    }

    fn rename(&self, request: &RenameRequest) -> Checked {
        assert!(!matches!(request.target, Target::All | Target::Set(_)));
        self.judge()
    }

    fn policy(&self, request: &PolicyRequest) -> Checked {
        assert!(!matches!(request.target, Target::All | Target::Set(_)));
        self.judge()
    }

    fn task(&self, request: &TaskRequest) -> Checked {
        assert!(!matches!(request.target, Target::Set(_)));
        self.judge()
    }
}

fn set(nth: u8) -> SetInfo {
    SetInfo {
        id: [nth + 1; 16],
        format: Text::from_text("ddf"),
        name: Text::from_text("shelf"),
        generation: 42,
        disks: KVec::new(),
        volumes: KVec::new(),
        bad_ranges: KVec::new(),
        notes: KVec::from_elem(Text::from_text("a note"), 3, GFP_KERNEL).expect("memory"),
    }
}

/// A call of each kind with an argument that makes sense, and records.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = (0u8..)
        .zip(CallKind::ALL)
        .map(|(choice, kind)| {
            let mut argument = vec![0u8; kind.bytes];
            Head {
                size: kind.bytes as u32,
                flags: 0,
                reason_ptr: REASON,
                reason_len: 64,
                reserved: 0,
            }
            .to_bytes(&mut argument);
            fill(&kind, &mut argument);
            let mut bytes = vec![choice, 0x40, 0];
            bytes.extend(argument);
            // Device 8:16, again and again: a list of one.
            bytes.extend([0x10, 0, 0, 0, 8, 0, 0, 0]);
            (format!("call-{}", kind.nr), bytes)
        })
        .collect();
    let mut sink = records::Sink::new(1 << 12);
    sink.set(&set(1), true).expect("memory");
    let mut bytes = vec![0xff, 0];
    bytes.extend(sink.bytes());
    seeds.push(("records".into(), bytes));
    seeds
}

fn fill(kind: &CallKind, argument: &mut [u8]) {
    // Where there is a target, it stands right behind the head.
    let by_target = [
        NR_QUERY,
        NR_STOP,
        NR_DELETE,
        NR_MEMBER,
        NR_RENAME,
        NR_TASK,
        NR_POLICY,
        NR_MISMATCHES,
    ];
    if by_target.contains(&kind.nr) {
        argument[Head::BYTES..Head::BYTES + 4].copy_from_slice(&TARGET_NUMBER.to_ne_bytes());
    }
    match kind.nr {
        NR_LIST | NR_FORMATS => {
            let mut arg = ListArg::from_bytes(argument);
            (arg.out.ptr, arg.out.len) = (OUT, 4096);
            arg.to_bytes(argument);
        }
        NR_MISMATCHES => {
            let mut arg = MismatchesArg::from_bytes(argument);
            (arg.out.ptr, arg.out.len) = (OUT, 4096);
            arg.to_bytes(argument);
        }
        NR_SCAN => {
            let mut arg = ScanArg::from_bytes(argument);
            (arg.out.ptr, arg.out.len) = (OUT, 4096);
            (arg.devs_ptr, arg.devs_count) = (LIST, 1);
            arg.to_bytes(argument);
        }
        NR_CREATE => {
            let mut arg = CreateArg::from_bytes(argument);
            arg.format[..3].copy_from_slice(b"ddf");
            arg.level[..5].copy_from_slice(b"raid5");
            arg.layout[..14].copy_from_slice(b"left-symmetric");
            (arg.members_ptr, arg.members_count) = (LIST, 1);
            arg.to_bytes(argument);
        }
        NR_MEMBER | NR_TASK | NR_POLICY => {
            // The operation, behind the target; a disk first where there is one.
            if kind.nr == NR_MEMBER {
                argument[48..56].copy_from_slice(&((8u64 << 32) | 16).to_ne_bytes());
                argument[56] = 1;
            } else {
                argument[48] = 1;
            }
        }
        _ => {}
    }
}
