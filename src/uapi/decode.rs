// SPDX-License-Identifier: GPL-2.0

//! Bytes to requests. Every check that needs no knowledge of sets is here.
//!
//! Order of checks, so that each has its own errno:
//! 1. the head: `size` too small `EINVAL`, larger than [`ARG_BYTES_MAX`] or with a tail that is
//!    not zero `E2BIG`;
//! 2. unknown flags, reserved fields that are not 0, codes, texts, counts: `EINVAL` (counts above
//!    a limit `E2BIG`);
//! 3. lists in user memory: `EFAULT` when they cannot be read, `EINVAL` for what is in them.

use super::args::{
    CreateArg, DeleteArg, EventsArg, Head, ListArg, MemberArg, MismatchesArg, PolicyArg, QueryArg,
    RenameArg, ScanArg, StopArg, TaskArg, VersionArg,
};
use super::constants::*;
use super::fields::{
    array_target, devices, id, layout, level, one_target, out, target, text, whole_devices, zero,
    UserMemory,
};
use super::info::TaskKind;
use super::layout::RangeRec;
use super::request::{
    CreateRequest, CreateVolume, DeleteRequest, DevNumber, MemberDisk, MemberOp, MemberRequest,
    MismatchesRequest, PolicyRequest, RenameRequest, Request, ScanRequest, StopRequest, Target,
    TaskOp, TaskRequest,
};
use super::wire::Wire;
use super::words::policy_from;
use crate::model::{Checked, Text};
use crate::personalities::ranges::PageStart;
use crate::reason;
use kernel::prelude::*;

/// One of the calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallKind {
    /// Number, `EMD_NR_*`.
    pub nr: u32,
    /// Length of its argument in this version.
    pub bytes: usize,
    /// Length in the first version; shorter ones are refused.
    pub bytes_min: usize,
    /// Flags that it knows.
    pub flags: u32,
    /// Needs `CAP_SYS_ADMIN`.
    pub modifies: bool,
}

impl CallKind {
    const fn new(nr: u32, bytes: usize, flags: u32, modifies: bool) -> Self {
        Self {
            nr,
            bytes,
            bytes_min: bytes,
            flags,
            modifies,
        }
    }

    /// Every call.
    pub const ALL: [CallKind; 14] = [
        Self::new(NR_VERSION, VersionArg::BYTES, 0, false),
        Self::new(NR_FORMATS, ListArg::BYTES, 0, false),
        Self::new(NR_LIST, ListArg::BYTES, 0, false),
        Self::new(NR_QUERY, QueryArg::BYTES, 0, false),
        Self::new(
            NR_SCAN,
            ScanArg::BYTES,
            SCAN_DRY_RUN | SCAN_DEGRADED | SCAN_FORCE,
            true,
        ),
        Self::new(
            NR_CREATE,
            CreateArg::BYTES,
            CREATE_ASSUME_CLEAN | CREATE_FORCE | CREATE_LOG | CREATE_ZERO,
            true,
        ),
        Self::new(NR_STOP, StopArg::BYTES, 0, true),
        Self::new(NR_DELETE, DeleteArg::BYTES, DELETE_FORCE, true),
        Self::new(
            NR_MEMBER,
            MemberArg::BYTES,
            MEMBER_DEDICATED | MEMBER_FORCE | MEMBER_INDEX,
            true,
        ),
        Self::new(NR_RENAME, RenameArg::BYTES, 0, true),
        Self::new(NR_TASK, TaskArg::BYTES, 0, true),
        Self::new(NR_EVENTS, EventsArg::BYTES, 0, false),
        Self::new(NR_POLICY, PolicyArg::BYTES, 0, true),
        Self::new(NR_MISMATCHES, MismatchesArg::BYTES, 0, false),
    ];

    /// The call that an ioctl number means. Its size field is not looked at: the head's is.
    pub fn from_ioctl(cmd: u32) -> Option<Self> {
        let nr = cmd & 0xff;
        let same = iowr(nr, 0) ^ cmd;
        if same & !(0x3fff << 16) != 0 {
            return None;
        }
        Self::ALL.into_iter().find(|call| call.nr == nr)
    }
}

/// Judges `head.size`: how many bytes to read in all.
pub fn arg_bytes(call: &CallKind, head: &Head) -> Checked<usize> {
    if head.size > ARG_BYTES_MAX {
        return Err(reason!(
            E2BIG,
            "the argument's size {} is larger than any this call ever had",
            head.size
        ));
    }
    let size = head.size as usize;
    if size < call.bytes_min {
        return Err(reason!(
            EINVAL,
            "the argument's size {size} is smaller than the call's first version, {}",
            call.bytes_min
        ));
    }
    Ok(size)
}

/// Turns the bytes of a call's argument into a request. `bytes` is all of it, `head.size` long.
pub fn decode(call: &CallKind, bytes: &[u8], user: &mut dyn UserMemory) -> Checked<Request> {
    let head = Head::from_bytes(bytes);
    let size = arg_bytes(call, &head)?;
    if size != bytes.len() {
        return Err(reason!(
            EINVAL,
            "the argument's size changed while it was read"
        ));
    }
    let tail = bytes.get(call.bytes..).unwrap_or(&[]);
    if tail.iter().any(|&byte| byte != 0) {
        return Err(reason!(
            E2BIG,
            "the argument has fields that this module does not know; it is of an older version"
        ));
    }
    let unknown = head.flags & !call.flags;
    if unknown != 0 {
        return Err(reason!(EINVAL, "unknown flags {unknown:#x}"));
    }
    zero(head.reserved.into(), "head.reserved")?;
    match call.nr {
        NR_VERSION => Ok(Request::Version),
        NR_FORMATS => list(bytes, Request::Formats),
        NR_LIST => list(bytes, Request::List),
        NR_QUERY => query(bytes),
        NR_MISMATCHES => mismatches(bytes),
        NR_SCAN => scan(bytes, user),
        NR_CREATE => create(bytes, user),
        NR_STOP => stop(bytes),
        NR_DELETE => delete(bytes),
        NR_MEMBER => member(bytes),
        NR_RENAME => rename(bytes),
        NR_POLICY => policy(bytes),
        NR_TASK => task(bytes),
        NR_EVENTS => Ok(Request::Events(EventsArg::from_bytes(bytes).seq)),
        nr => Err(reason!(ENOTTY, "no such call: {nr}")),
    }
}

fn list(bytes: &[u8], request: Request) -> Checked<Request> {
    out(&ListArg::from_bytes(bytes).out)?;
    Ok(request)
}

fn query(bytes: &[u8]) -> Checked<Request> {
    let arg = QueryArg::from_bytes(bytes);
    out(&arg.out)?;
    Ok(Request::Query(one_target(&arg.target)?))
}

fn mismatches(bytes: &[u8]) -> Checked<Request> {
    let arg = MismatchesArg::from_bytes(bytes);
    out(&arg.out)?;
    let fit = arg.out.len / RangeRec::BYTES as u32;
    Ok(Request::Mismatches(MismatchesRequest {
        target: array_target(&arg.target)?,
        start: PageStart {
            from_sector: arg.from_sector,
            from_order: arg.from_order,
        },
        most: fit.min(MISMATCHES_PAGE_MAX),
    }))
}

fn scan(bytes: &[u8], user: &mut dyn UserMemory) -> Checked<Request> {
    let arg = ScanArg::from_bytes(bytes);
    out(&arg.out)?;
    let flag = |bit| arg.head.flags & bit != 0;
    Ok(Request::Scan(ScanRequest {
        devs: whole_devices(arg.devs_ptr, arg.devs_count, "devices", user)?,
        set_id: id(arg.set_id),
        dry_run: flag(SCAN_DRY_RUN),
        degraded: flag(SCAN_DEGRADED),
        force: flag(SCAN_FORCE),
    }))
}

fn create(bytes: &[u8], user: &mut dyn UserMemory) -> Checked<Request> {
    let arg = CreateArg::from_bytes(bytes);
    let set_id = id(arg.set_id);
    let format: Text<15> = text(&arg.format, "format")?;
    if format.is_empty() && set_id.is_none() {
        return Err(reason!(
            EINVAL,
            "no format is given; name one, or the set to add the volume to"
        ));
    }
    let set_name: Text<32> = text(&arg.set_name, "set_name")?;
    if !set_name.is_empty() && set_id.is_some() {
        return Err(reason!(EINVAL, "set_name is for a new set only"));
    }
    let volume = create_volume(&arg)?;
    let members_max = if volume.is_some() {
        MEMBERS_MAX
    } else {
        DISKS_MAX
    };
    let members = devices(
        arg.members_ptr,
        arg.members_count,
        members_max,
        "members",
        user,
    )?;
    let spares = whole_devices(arg.spares_ptr, arg.spares_count, "spares", user)?;
    if let Some(dev) = spares.iter().find(|&&dev| members.contains(&Some(dev))) {
        return Err(reason!(EINVAL, "device {dev} is both member and spare"));
    }
    if set_id.is_none() && members.iter().all(Option::is_none) {
        return Err(reason!(EINVAL, "a new set needs at least one disk"));
    }
    if volume.is_none() && (set_id.is_some() || members.contains(&None)) {
        return Err(reason!(
            EINVAL,
            "no level is given; only a new set of whole disks can be made without a volume"
        ));
    }
    Ok(Request::Create(CreateRequest {
        format,
        set_id,
        set_name,
        volume,
        members,
        spares,
        force: arg.head.flags & CREATE_FORCE != 0,
    }))
}

fn create_volume(arg: &CreateArg) -> Checked<Option<CreateVolume>> {
    let name: Text<32> = text(&arg.volume_name, "volume_name")?;
    let regions = regions(arg.regions)?;
    let assume_clean = arg.head.flags & CREATE_ASSUME_CLEAN != 0;
    let log = arg.head.flags & CREATE_LOG != 0;
    let zeroed = arg.head.flags & CREATE_ZERO != 0;
    if assume_clean && zeroed {
        return Err(reason!(
            EINVAL,
            "members are either taken as they are or filled with zeroes"
        ));
    }
    let given = |field: &[u8]| field.iter().any(|&byte| byte != 0);
    if !given(&arg.level) {
        let more = !name.is_empty()
            || given(&arg.layout)
            || arg.chunk_sectors != 0
            || arg.spans != 0
            || arg.size_sectors != 0
            || assume_clean
            || zeroed
            || log
            || regions.is_some();
        if more {
            return Err(reason!(EINVAL, "a volume is described but has no level"));
        }
        return Ok(None);
    }
    Ok(Some(CreateVolume {
        name,
        level: level(&arg.level)?,
        layout: if given(&arg.layout) {
            Some(layout(&arg.layout)?)
        } else {
            None
        },
        chunk_sectors: arg.chunk_sectors,
        spans: u16::try_from(arg.spans.max(1))
            .ok()
            .filter(|&spans| u32::from(spans) <= MEMBERS_MAX)
            .ok_or_else(|| reason!(E2BIG, "{} spans are more than any volume has", arg.spans))?,
        size_sectors: arg.size_sectors,
        assume_clean,
        zeroed,
        log,
        regions,
    }))
}

/// Whether regions are to be recorded; `None` for what is usual.
fn regions(code: u32) -> Checked<Option<bool>> {
    match code {
        REGIONS_USUAL => Ok(None),
        REGIONS_YES => Ok(Some(true)),
        REGIONS_NO => Ok(Some(false)),
        code => Err(reason!(
            EINVAL,
            "regions {code} is none of {REGIONS_USUAL} (as is usual), {REGIONS_YES} (yes) and {REGIONS_NO} (no)"
        )),
    }
}

fn stop(bytes: &[u8]) -> Checked<Request> {
    let arg = StopArg::from_bytes(bytes);
    zero(arg.reserved.into(), "reserved")?;
    Ok(Request::Stop(StopRequest {
        target: target(&arg.target)?,
    }))
}

fn delete(bytes: &[u8]) -> Checked<Request> {
    let arg = DeleteArg::from_bytes(bytes);
    Ok(Request::Delete(DeleteRequest {
        target: one_target(&arg.target)?,
        force: arg.head.flags & DELETE_FORCE != 0,
    }))
}

fn member(bytes: &[u8]) -> Checked<Request> {
    let arg = MemberArg::from_bytes(bytes);
    zero(arg.reserved0.into(), "reserved0")?;
    zero(arg.reserved1.into(), "reserved1")?;
    let op = MemberOp::from_code(arg.op)
        .ok_or_else(|| reason!(EINVAL, "unknown member operation {}", arg.op))?;
    let disk = if arg.head.flags & MEMBER_INDEX == 0 {
        DevNumber::from_wire(arg.dev)
            .map(MemberDisk::Device)
            .ok_or_else(|| reason!(EINVAL, "{:#x} is no device number", arg.dev))?
    } else if op != MemberOp::Remove {
        return Err(reason!(
            EINVAL,
            "only a disk that is taken out may be named by its index"
        ));
    } else {
        u16::try_from(arg.dev)
            .ok()
            .filter(|&index: &u16| u32::from(index) < DISKS_MAX)
            .map(MemberDisk::Index)
            .ok_or_else(|| reason!(EINVAL, "no set has a disk {}", arg.dev))?
    };
    let target = one_target(&arg.target)?;
    let dedicated = arg.head.flags & MEMBER_DEDICATED != 0;
    let force = arg.head.flags & MEMBER_FORCE != 0;
    if dedicated && op != MemberOp::Spare {
        return Err(reason!(EINVAL, "only a spare can be dedicated"));
    }
    if dedicated && matches!(target, Target::Set(_)) {
        return Err(reason!(
            EINVAL,
            "a dedicated spare is for an array; the target is a set"
        ));
    }
    if force && op == MemberOp::Unspare {
        return Err(reason!(EINVAL, "there is nothing to force about that"));
    }
    Ok(Request::Member(MemberRequest {
        op,
        target,
        disk,
        dedicated,
        force,
    }))
}

fn rename(bytes: &[u8]) -> Checked<Request> {
    let arg = RenameArg::from_bytes(bytes);
    Ok(Request::Rename(RenameRequest {
        target: array_target(&arg.target)?,
        name: text(&arg.name, "name")?,
    }))
}

fn policy(bytes: &[u8]) -> Checked<Request> {
    let arg = PolicyArg::from_bytes(bytes);
    zero(arg.reserved0.into(), "reserved0")?;
    zero(arg.reserved1.into(), "reserved1")?;
    Ok(Request::Policy(PolicyRequest {
        target: array_target(&arg.target)?,
        policy: policy_from(arg.policy)
            .ok_or_else(|| reason!(EINVAL, "unknown policy {}", arg.policy))?,
    }))
}

fn task(bytes: &[u8]) -> Checked<Request> {
    let arg = TaskArg::from_bytes(bytes);
    zero(arg.reserved.into(), "reserved")?;
    if arg.op != TASK_OP_START {
        zero(arg.kind.into(), "kind (without start)")?;
    }
    if arg.op != TASK_OP_LIMITS {
        zero(arg.rate_min_kib.into(), "rate_min_kib (without limits)")?;
        zero(arg.rate_max_kib.into(), "rate_max_kib (without limits)")?;
    }
    let op = match arg.op {
        TASK_OP_START => TaskOp::Start(
            TaskKind::from_code(arg.kind)
                .ok_or_else(|| reason!(EINVAL, "unknown task {}", arg.kind))?,
        ),
        TASK_OP_PAUSE => TaskOp::Pause,
        TASK_OP_RESUME => TaskOp::Resume,
        TASK_OP_CANCEL => TaskOp::Cancel,
        TASK_OP_LIMITS => TaskOp::Limits {
            min_kib: arg.rate_min_kib,
            max_kib: arg.rate_max_kib,
        },
        op => return Err(reason!(EINVAL, "unknown task operation {op}")),
    };
    if let TaskOp::Limits { min_kib, max_kib } = op {
        if max_kib != 0 && min_kib > max_kib {
            return Err(reason!(
                EINVAL,
                "the least rate {min_kib} KiB/s is above the most, {max_kib} KiB/s"
            ));
        }
    }
    let target = match target(&arg.target)? {
        Target::All if matches!(op, TaskOp::Limits { .. }) => Target::All,
        _ => array_target(&arg.target)?,
    };
    Ok(Request::Task(TaskRequest { target, op }))
}
