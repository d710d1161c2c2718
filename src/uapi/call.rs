// SPDX-License-Identifier: GPL-2.0

//! One ioctl from start to end: read the argument, check it, let the engine act, write the reply.

use super::args::{
    CreateArg, EventsArg, Head, ListArg, MemberArg, MismatchesArg, Out, QueryArg, ScanArg, StopArg,
    VersionArg,
};
use super::constants::*;
use super::decode::{arg_bytes, decode, CallKind};
use super::fields::UserMemory;
use super::info::{FormatInfo, SetInfo};
use super::layout::RangeRec;
use super::records::{put_text, Sink};
use super::request::{
    CreateReply, CreateRequest, DeleteRequest, EventsReply, MemberReply, MemberRequest,
    MismatchesReply, MismatchesRequest, PolicyRequest, RenameRequest, Request, ScanReply,
    ScanRequest, StopReply, StopRequest, Target, TaskRequest,
};
use super::wire::Wire;
use crate::metadata::registry;
use crate::model::{Checked, Reason};
use crate::reason;
use kernel::prelude::*;

/// What does the work. Each operation is one call: on an error nothing has changed, but for `stop` of several arrays
/// and `delete` of a set, which may end half done.
/// Requests are checked for form; whether they make sense is the engine's to judge.
pub trait Engine: Send + Sync {
    /// Every set that is held, as it is now.
    fn sets(&self) -> Checked<KVec<SetInfo>>;

    /// A page of the places of a started volume that did not agree at the last check, repair or sync. `ENODEV` when it is
    /// not started.
    fn mismatches(&self, request: &MismatchesRequest) -> Checked<MismatchesReply>;

    /// Looks for sets and starts their arrays.
    fn scan(&self, request: &ScanRequest) -> Checked<ScanReply>;

    /// Makes a set, a volume, or both, and starts the array.
    fn create(&self, request: &CreateRequest) -> Checked<CreateReply>;

    /// Stops arrays. `EBUSY` when one is in use.
    fn stop(&self, request: &StopRequest) -> Checked<StopReply>;

    /// Deletes a volume, or erases a set from its disks.
    fn delete(&self, request: &DeleteRequest) -> Checked;

    /// Adds, removes, fails a disk; makes it a spare or not.
    fn member(&self, request: &MemberRequest) -> Checked<MemberReply>;

    /// Renames a volume.
    fn rename(&self, request: &RenameRequest) -> Checked;

    /// Changes what is done about crashes in a volume that does not run.
    fn policy(&self, request: &PolicyRequest) -> Checked;

    /// Starts, pauses, resumes, cancels or limits a task.
    fn task(&self, _request: &TaskRequest) -> Checked {
        Err(reason!(
            EOPNOTSUPP,
            "this version of the module does not let tasks be controlled"
        ))
    }

    /// The set that `target` names. The default looks through [`Engine::sets`].
    fn set(&self, target: &Target) -> Checked<SetInfo> {
        let mut sets = self.sets()?;
        while let Some(set) = sets.pop() {
            let found = match target {
                Target::Number(number) => set.volumes.iter().any(|v| v.number == Some(*number)),
                Target::Array(id) => set.volumes.iter().any(|v| v.id == *id),
                Target::Set(id) => set.id == *id,
                Target::All => false,
            };
            if found {
                return Ok(set);
            }
        }
        Err(match target {
            Target::Number(number) => reason!(ENOENT, "there is no array emd{number}"),
            Target::Array(_) => reason!(ENOENT, "there is no array with this id"),
            Target::Set(_) | Target::All => reason!(ENOENT, "there is no set with this id"),
        })
    }
}

/// How much of a buffer is tried before a call that changes things, and how close: each page of a program's memory may be one
/// that cannot be written.
const TRIED_BYTES: u64 = 1 << 20;
const TRIED_STEP: usize = 4096;

/// The program that calls, and the file it calls on.
pub trait Caller: UserMemory {
    /// Copies `from` to `address` of the program.
    fn write(&mut self, address: u64, from: &[u8]) -> Checked;

    /// Whether it may change anything (`CAP_SYS_ADMIN`).
    fn may_modify(&self) -> bool;

    /// Version of the module.
    fn module_version(&self) -> &str;

    /// Moves the file's place in the stream of events; `None` only says where it is.
    fn seek_events(&mut self, seq: Option<u64>) -> EventsReply;
}

/// Carries out the ioctl `cmd` with the argument at `arg`.
///
/// `ENOTTY` for a number that is none of ours, `EFAULT` when the argument cannot be read or written
/// (found out before anything is done), `EPERM` when the caller may not; otherwise what
/// [`super::decode`] or the engine say. On failure the reason's text goes where the head says; on
/// success an empty text.
pub fn call(engine: &dyn Engine, caller: &mut dyn Caller, cmd: u32, arg: u64) -> Result<(), Error> {
    let Some(kind) = CallKind::from_ioctl(cmd) else {
        return Err(ENOTTY);
    };
    let mut head = [0u8; Head::BYTES];
    caller
        .read(arg, &mut head)
        .map_err(|reason| reason.errno())?;
    let head = Head::from_bytes(&head);
    let result = checked_call(engine, caller, &kind, &head, arg);
    // A caller too old or too wrong to have a whole head has no reason pointer either.
    if head.size as usize >= Head::BYTES {
        give_reason(caller, &head, result.as_ref().err());
    }
    result.map_err(|reason| reason.errno())
}

/// Writes the reason's text. That it cannot be written changes nothing about the call.
fn give_reason(caller: &mut dyn Caller, head: &Head, reason: Option<&Reason>) {
    if head.reason_ptr == 0 || head.reason_len == 0 {
        return;
    }
    let mut text = [0u8; REASON_BYTES as usize];
    let room = text.len().min(head.reason_len as usize);
    let mut used = 1;
    if let Some(reason) = reason {
        let text = text.get_mut(..room).unwrap_or(&mut []);
        put_text(text, reason.text());
        used = text.iter().position(|&byte| byte == 0).unwrap_or(0) + 1;
    }
    let _ = caller.write(head.reason_ptr, text.get(..used).unwrap_or(&[]));
}

/// A caller's memory alone. (Rust 1.85 cannot turn one trait object into the other.)
struct Memory<'a>(&'a mut dyn Caller);

impl UserMemory for Memory<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Checked {
        self.0.read(address, into)
    }
}

fn checked_call(
    engine: &dyn Engine,
    caller: &mut dyn Caller,
    kind: &CallKind,
    head: &Head,
    arg: u64,
) -> Checked {
    let bytes = arg_bytes(kind, head)?;
    if kind.modifies && !caller.may_modify() {
        return Err(reason!(
            EPERM,
            "only root (CAP_SYS_ADMIN) may change arrays"
        ));
    }
    let mut buffer = [0u8; ARG_ROOM];
    // Longer arguments have a tail that must be zero: it is looked at piece by piece.
    let known = bytes.min(ARG_ROOM);
    let argument = buffer.get_mut(..known).unwrap_or(&mut []);
    caller.read(arg, argument)?;
    tail_is_zero(caller, arg, known, bytes)?;
    // From here on the length is that of the part that can mean something.
    let mut whole = Head::from_bytes(argument);
    if whole != *head {
        return Err(reason!(EINVAL, "the argument changed while it was read"));
    }
    whole.size = known as u32;
    whole.to_bytes(argument);
    let request = decode(kind, argument, &mut Memory(caller))?;
    // Found out now, and not when the work is done, whether a reply can be written.
    head.to_bytes(argument);
    caller.write(arg, argument)?;
    let len = argument.len();
    perform(engine, caller, &request, argument)?;
    caller.write(arg, argument.get(..len).unwrap_or(&[]))
}

/// Room for any argument of this version; a multiple of 8.
const ARG_ROOM: usize = 320;

const _: () = {
    let mut nth = 0;
    while nth < CallKind::ALL.len() {
        assert!(CallKind::ALL[nth].bytes <= ARG_ROOM);
        nth += 1;
    }
};

fn tail_is_zero(caller: &mut dyn Caller, arg: u64, from: usize, to: usize) -> Checked {
    let mut done = from;
    while done < to {
        let mut piece = [0u8; 64];
        let len = piece.len().min(to - done);
        let piece = piece.get_mut(..len).unwrap_or(&mut []);
        let address = arg
            .checked_add(done as u64)
            .ok_or_else(|| reason!(EFAULT, "the argument is beyond the end of memory"))?;
        caller.read(address, piece)?;
        if piece.iter().any(|&byte| byte != 0) {
            return Err(reason!(
                E2BIG,
                "the argument has fields that this module does not know; it is of an older version"
            ));
        }
        done += len;
    }
    Ok(())
}

/// Lets the engine act and puts its reply into `argument` (and into the buffer that it names).
fn perform(
    engine: &dyn Engine,
    caller: &mut dyn Caller,
    request: &Request,
    argument: &mut [u8],
) -> Checked {
    match request {
        Request::Version => version(caller, argument),
        Request::Formats => formats(caller, argument),
        Request::List => list(engine, caller, argument),
        Request::Query(target) => query(engine, caller, target, argument),
        Request::Mismatches(request) => mismatches(engine, caller, request, argument),
        Request::Scan(request) => scan(engine, caller, request, argument),
        Request::Create(request) => {
            let reply = engine.create(request)?;
            let mut arg = CreateArg::from_bytes(argument);
            arg.set_id = reply.set_id;
            arg.array_id = reply.array_id;
            arg.number = reply.number.unwrap_or(NONE);
            arg.size_sectors = reply.size_sectors;
            arg.to_bytes(argument);
            Ok(())
        }
        Request::Stop(request) => {
            let reply = engine.stop(request)?;
            let mut arg = StopArg::from_bytes(argument);
            arg.arrays_stopped = reply.arrays_stopped;
            arg.to_bytes(argument);
            Ok(())
        }
        Request::Delete(request) => engine.delete(request),
        Request::Member(request) => {
            let reply = engine.member(request)?;
            let mut arg = MemberArg::from_bytes(argument);
            arg.slot = reply.slot.map_or(NONE, u32::from);
            arg.number = reply.number.unwrap_or(NONE);
            arg.to_bytes(argument);
            Ok(())
        }
        Request::Rename(request) => engine.rename(request),
        Request::Policy(request) => engine.policy(request),
        Request::Task(request) => engine.task(request),
        Request::Events(seq) => {
            let reply = caller.seek_events(Some(*seq));
            let mut arg = EventsArg::from_bytes(argument);
            arg.seq = reply.seq;
            arg.oldest_seq = reply.oldest_seq;
            arg.next_seq = reply.next_seq;
            arg.to_bytes(argument);
            Ok(())
        }
    }
}

fn version(caller: &mut dyn Caller, argument: &mut [u8]) -> Checked {
    let mut arg = VersionArg::from_bytes(argument);
    arg.api_major = API_MAJOR;
    arg.api_minor = API_MINOR;
    arg.members_max = MEMBERS_MAX;
    arg.disks_max = DISKS_MAX;
    arg.volumes_max = VOLUMES_MAX;
    arg.events_max = EVENTS_MAX;
    arg.event_next_seq = caller.seek_events(None).next_seq;
    arg.module = [0; NAME_BYTES as usize];
    put_text(&mut arg.module, caller.module_version());
    arg.to_bytes(argument);
    Ok(())
}

/// Writes a sink's records to the caller's buffer.
fn give_records(caller: &mut dyn Caller, out: &mut Out, sink: &Sink) -> Checked {
    if !sink.bytes().is_empty() {
        caller.write(out.ptr, sink.bytes())?;
    }
    out.needed = sink.needed();
    out.count = sink.count();
    Ok(())
}

/// Finds out, before anything is done, whether records can be written to the caller's buffer: what it holds is lost.
fn try_buffer(caller: &mut dyn Caller, out: &Out) -> Checked {
    let len = u64::from(out.len).min(TRIED_BYTES);
    let steps = Iterator::chain((0..len).step_by(TRIED_STEP), len.checked_sub(1));
    for at in steps {
        let address = out.ptr.checked_add(at);
        let address =
            address.ok_or_else(|| reason!(EFAULT, "`out` goes beyond the end of memory"))?;
        caller.write(address, &[0])?;
    }
    Ok(())
}

fn formats(caller: &mut dyn Caller, argument: &mut [u8]) -> Checked {
    let mut arg = ListArg::from_bytes(argument);
    let mut sink = Sink::new(arg.out.len as usize);
    for &format in registry::FORMATS {
        sink.format(&FormatInfo::from_format(format)?)?;
    }
    give_records(caller, &mut arg.out, &sink)?;
    arg.to_bytes(argument);
    Ok(())
}

fn list(engine: &dyn Engine, caller: &mut dyn Caller, argument: &mut [u8]) -> Checked {
    let mut arg = ListArg::from_bytes(argument);
    let mut sink = Sink::new(arg.out.len as usize);
    for set in engine.sets()?.iter() {
        sink.set(set, false)?;
    }
    give_records(caller, &mut arg.out, &sink)?;
    arg.to_bytes(argument);
    Ok(())
}

fn query(
    engine: &dyn Engine,
    caller: &mut dyn Caller,
    target: &Target,
    argument: &mut [u8],
) -> Checked {
    let mut arg = QueryArg::from_bytes(argument);
    let mut sink = Sink::new(arg.out.len as usize);
    sink.set(&engine.set(target)?, true)?;
    give_records(caller, &mut arg.out, &sink)?;
    arg.to_bytes(argument);
    Ok(())
}

fn mismatches(
    engine: &dyn Engine,
    caller: &mut dyn Caller,
    request: &MismatchesRequest,
    argument: &mut [u8],
) -> Checked {
    let mut arg = MismatchesArg::from_bytes(argument);
    let mut sink = Sink::new(arg.out.len as usize);
    let reply = engine.mismatches(request)?;
    for range in reply.ranges.iter() {
        sink.mismatch(range, reply.lost_some)?;
    }
    give_records(caller, &mut arg.out, &sink)?;
    let later = reply.left.saturating_mul(RangeRec::BYTES as u32);
    arg.out.needed = arg.out.needed.saturating_add(later);
    arg.from_sector = reply.next.from_sector;
    arg.from_order = reply.next.from_order;
    arg.left = reply.left;
    arg.to_bytes(argument);
    Ok(())
}

fn scan(
    engine: &dyn Engine,
    caller: &mut dyn Caller,
    request: &ScanRequest,
    argument: &mut [u8],
) -> Checked {
    let mut arg = ScanArg::from_bytes(argument);
    let mut sink = Sink::new(arg.out.len as usize);
    try_buffer(caller, &arg.out)?;
    let reply = engine.scan(request)?;
    // The scan is done: memory that is short now makes the answer shorter, not the scan undone.
    // Remarks go first: they are about devices, and belong to none of the sets.
    for note in reply.notes.iter() {
        let _ = sink.note(note);
    }
    for set in reply.sets.iter() {
        let _ = sink.set(set, true);
    }
    give_records(caller, &mut arg.out, &sink)?;
    arg.disks_seen = reply.disks_seen;
    arg.sets_found = u32::try_from(reply.sets.len()).unwrap_or(u32::MAX);
    arg.arrays_started = reply.arrays_started;
    arg.to_bytes(argument);
    Ok(())
}
