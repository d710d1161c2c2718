// SPDX-License-Identifier: GPL-2.0

//! The ioctl surface of `/dev/emd`: layouts, checks, typed requests and replies.
//!
//! Pure, and all of it: from the bytes a caller points at to the typed [`Request`], and from the
//! engine's typed reply to bytes again. The module gives it a [`Caller`] (user memory, privilege)
//! and an [`Engine`]; the host tests and the fuzzer give it their own, so that what they run is the
//! very path an ioctl takes. `emdadm` uses the same layouts from the other side.
//!
//! What a caller passes is hostile: every length, count, code, flag and text is checked in
//! [`decode`] before an engine sees it.
//!
//! | file | subject |
//! |---|---|
//! | [`wire`] | integers and structures to bytes and back, without unsafe |
//! | [`constants`], [`args`], [`layout`] | the constants, ioctl arguments and records of `emd.h` |
//! | [`info`], [`event`] | what a reply says of sets, disks, volumes, formats; events |
//! | [`event_log`] | the last events, and where a reader stands among them |
//! | [`volume_state`] | optimal, degraded, failed: from the members' states |
//! | [`request`] | what may be asked for |
//! | [`decode`], [`fields`] | bytes to requests: all checks; those of a field, whichever call it is of |
//! | [`words`] | words and codes of levels, layouts and policies |
//! | [`records`], [`read_records`] | replies of any length: records to bytes; and back |
//! | [`call`] | one ioctl from start to end; the [`Engine`] trait |
//! | `emd.h` | the same for C; a host test compares every size, offset and constant |

#![forbid(unsafe_code)]

#[macro_use]
pub mod wire;

pub mod args;
pub mod call;
pub mod constants;
pub mod decode;
pub mod event;
pub mod event_log;
pub mod fields;
pub mod info;
pub mod layout;
pub mod read_records;
pub mod records;
pub mod request;
pub mod volume_state;
pub mod words;

// The module and the tools each use a part of these.
#[allow(unused_imports)]
pub use call::{call, Caller, Engine};
#[allow(unused_imports)]
pub use event::{EventKind, EventRecord};
#[allow(unused_imports)]
pub use event_log::EventLog;
#[allow(unused_imports)]
pub use info::{
    AccessKind, DiskInfo, FormatInfo, LevelInfo, MemberInfo, RangeInfo, RepairReason, ScanNote,
    SetInfo, TaskInfo, TaskKind, TaskState, VolumeInfo, VolumeState,
};
#[allow(unused_imports)]
pub use request::{
    CreateReply, CreateRequest, DeleteRequest, DevNumber, EventsReply, MemberDisk, MemberOp,
    MemberReply, MemberRequest, MismatchesReply, MismatchesRequest, PolicyRequest, RenameRequest,
    Request, ScanReply, ScanRequest, StopReply, StopRequest, Target, TaskOp, TaskRequest,
};
