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
    CreateArg, DeleteArg, EventsArg, Head, ListArg, MemberArg, Out, PolicyArg, QueryArg, RenameArg,
    ScanArg, StopArg, TargetArg, TaskArg, VersionArg,
};
use super::constants::*;
use super::info::TaskKind;
use super::request::{
    CreateRequest, CreateVolume, DeleteRequest, DevNumber, MemberOp, MemberRequest, PolicyRequest,
    RenameRequest, Request, ScanRequest, StopRequest, Target, TaskOp, TaskRequest,
};
use super::wire::Wire;
use crate::model::{Checked, CrashPolicy, Layout, Level, Rotation, Text};
use crate::reason;
use kernel::prelude::*;

/// Reads memory of the calling program.
pub trait UserMemory {
    /// Fills `into` from `address`.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Checked;
}

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
    pub const ALL: [CallKind; 13] = [
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
            MEMBER_DEDICATED | MEMBER_FORCE,
            true,
        ),
        Self::new(NR_RENAME, RenameArg::BYTES, 0, true),
        Self::new(NR_TASK, TaskArg::BYTES, 0, true),
        Self::new(NR_EVENTS, EventsArg::BYTES, 0, false),
        Self::new(NR_POLICY, PolicyArg::BYTES, 0, true),
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

fn zero(value: u64, name: &str) -> Checked {
    if value != 0 {
        return Err(reason!(EINVAL, "{name} must be 0"));
    }
    Ok(())
}

fn out(out: &Out) -> Checked {
    zero(out.reserved.into(), "out.reserved")?;
    if out.ptr == 0 && out.len != 0 {
        return Err(reason!(EINVAL, "out.len is {} but out.ptr is 0", out.len));
    }
    Ok(())
}

fn id(bytes: [u8; 16]) -> Option<[u8; 16]> {
    Some(bytes).filter(|id| id.iter().any(|&byte| byte != 0))
}

fn target(arg: &TargetArg) -> Checked<Target> {
    let id = id(arg.id);
    let by_id = matches!(arg.kind, TARGET_ARRAY | TARGET_SET);
    if !by_id && id.is_some() {
        return Err(reason!(
            EINVAL,
            "target.id must be 0 with target.kind {}",
            arg.kind
        ));
    }
    if arg.kind != TARGET_NUMBER {
        zero(arg.number.into(), "target.number (without its kind)")?;
    }
    let missing = || reason!(EINVAL, "target.id is missing");
    match arg.kind {
        TARGET_NUMBER if arg.number <= NUMBER_MAX => Ok(Target::Number(arg.number)),
        TARGET_NUMBER => Err(reason!(
            EINVAL,
            "array number {} is larger than {NUMBER_MAX}",
            arg.number
        )),
        TARGET_ARRAY => id.map(Target::Array).ok_or_else(missing),
        TARGET_SET => id.map(Target::Set).ok_or_else(missing),
        TARGET_ALL => Ok(Target::All),
        TARGET_NONE => Err(reason!(
            EINVAL,
            "no target is given; name an array or a set"
        )),
        kind => Err(reason!(EINVAL, "unknown target.kind {kind}")),
    }
}

/// The same, where everything at once makes no sense.
fn one_target(arg: &TargetArg) -> Checked<Target> {
    match target(arg)? {
        Target::All => Err(reason!(
            EINVAL,
            "this call is about one array or set, not all"
        )),
        target => Ok(target),
    }
}

/// The same, where only an array makes sense.
fn array_target(arg: &TargetArg) -> Checked<Target> {
    match one_target(arg)? {
        Target::Set(_) => Err(reason!(EINVAL, "this call is about an array, not a set")),
        target => Ok(target),
    }
}

/// A text field: NUL-terminated UTF-8 without control characters, zeros after it, at most `N` bytes.
fn text<const N: usize>(field: &[u8], name: &str) -> Checked<Text<N>> {
    let Some(len) = field.iter().position(|&byte| byte == 0) else {
        return Err(reason!(EINVAL, "{name} does not end with NUL"));
    };
    let (bytes, rest) = field.split_at_checked(len).unwrap_or((&[], &[]));
    if rest.iter().any(|&byte| byte != 0) {
        return Err(reason!(EINVAL, "{name} has bytes after its NUL"));
    }
    if len > N {
        return Err(reason!(
            EINVAL,
            "{name} has {len} bytes; {N} are the most there can be"
        ));
    }
    let text =
        core::str::from_utf8(bytes).map_err(|_| reason!(EINVAL, "{name} is not UTF-8 text"))?;
    if text.chars().any(char::is_control) {
        return Err(reason!(EINVAL, "{name} has control characters"));
    }
    Ok(Text::from_text(text))
}

/// A level by its name in a field.
pub fn level(field: &[u8; 16]) -> Checked<Level> {
    let name: Text<15> = text(field, "level")?;
    level_by_name(name.as_str())
        .ok_or_else(|| reason!(EINVAL, "there is no level called \"{name}\""))
}

/// A level by the name that [`Level::name`] gives, or by the number alone, as people type it (`5`
/// and `1e` for `raid5` and `raid1e`). Concatenation is `linear` too.
pub fn level_by_name(name: &str) -> Option<Level> {
    if name == "linear" {
        return Some(Level::Concat);
    }
    Level::ALL
        .into_iter()
        .find(|level| level.name() == name || level.name().strip_prefix("raid") == Some(name))
}

/// A layout by its name in a field.
pub fn layout(field: &[u8; 24]) -> Checked<Layout> {
    let name: Text<23> = text(field, "layout")?;
    layout_by_name(name.as_str())
        .ok_or_else(|| reason!(EINVAL, "there is no layout called \"{name}\""))
}

/// A layout by the name that its `Display` gives.
pub fn layout_by_name(name: &str) -> Option<Layout> {
    if name == "-" {
        return Some(Layout::Plain);
    }
    if let Some((kind, copies)) = name.split_once('=') {
        let copies = copies.parse::<u8>().ok().filter(|&copies| copies >= 1)?;
        return match kind {
            "near" => Some(Layout::Near(copies)),
            "far" => Some(Layout::Far(copies)),
            "offset" => Some(Layout::Offset(copies)),
            _ => None,
        };
    }
    Rotation::ALL
        .into_iter()
        .find(|rotation| rotation.name() == name)
        .map(Layout::Parity)
}

/// Reads a list of device numbers from user memory. 0 is an empty place.
fn devices(
    ptr: u64,
    count: u32,
    count_max: u32,
    name: &str,
    user: &mut dyn UserMemory,
) -> Checked<KVec<Option<DevNumber>>> {
    if count > count_max {
        return Err(reason!(
            E2BIG,
            "{count} {name} are given; {count_max} are the most there can be"
        ));
    }
    if count != 0 && ptr == 0 {
        return Err(reason!(
            EINVAL,
            "a list of {name} is announced but not given"
        ));
    }
    let mut list = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for nth in 0..u64::from(count) {
        let address = ptr
            .checked_add(nth * u64::BYTES as u64)
            .ok_or_else(|| reason!(EFAULT, "the list of {name} is beyond the end of memory"))?;
        let mut bytes = [0u8; u64::BYTES];
        user.read(address, &mut bytes)?;
        let wire = u64::from_ne_bytes(bytes);
        let dev = DevNumber::from_wire(wire);
        if wire != 0 && dev.is_none() {
            return Err(reason!(
                EINVAL,
                "{:#x} among the {name} is no device number (major << 32 | minor)",
                wire
            ));
        }
        if let Some(dev) = dev.filter(|_| list.contains(&dev)) {
            return Err(reason!(
                EINVAL,
                "device {dev} stands twice among the {name}"
            ));
        }
        list.push(dev, GFP_KERNEL)?;
    }
    Ok(list)
}

/// The same, with no empty places.
fn whole_devices(
    ptr: u64,
    count: u32,
    name: &str,
    user: &mut dyn UserMemory,
) -> Checked<KVec<DevNumber>> {
    let list = devices(ptr, count, DISKS_MAX, name, user)?;
    let mut whole = KVec::with_capacity(list.len(), GFP_KERNEL)?;
    for dev in list.iter() {
        let dev = dev.ok_or_else(|| reason!(EINVAL, "0 among the {name} is no device"))?;
        whole.push(dev, GFP_KERNEL)?;
    }
    Ok(whole)
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
    zero(arg.reserved.into(), "reserved")?;
    let name: Text<32> = text(&arg.volume_name, "volume_name")?;
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
            || log;
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
    }))
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
    let dev = DevNumber::from_wire(arg.dev)
        .ok_or_else(|| reason!(EINVAL, "{:#x} is no device number", arg.dev))?;
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
    if force && !matches!(op, MemberOp::Remove | MemberOp::Fail) {
        return Err(reason!(EINVAL, "only remove and fail can be forced"));
    }
    Ok(Request::Member(MemberRequest {
        op,
        target,
        dev,
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

/// The policy that a code means.
pub fn policy_from(code: u16) -> Option<CrashPolicy> {
    match code {
        POLICY_NONE => Some(CrashPolicy::None),
        POLICY_RESYNC => Some(CrashPolicy::Resync),
        POLICY_LOG => Some(CrashPolicy::Log),
        _ => None,
    }
}

/// The code of a policy.
pub fn policy_code(policy: CrashPolicy) -> u16 {
    match policy {
        CrashPolicy::None => POLICY_NONE,
        CrashPolicy::Resync => POLICY_RESYNC,
        CrashPolicy::Log => POLICY_LOG,
    }
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
