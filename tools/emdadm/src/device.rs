// SPDX-License-Identifier: GPL-2.0

//! `/dev/emd`, typed: one method for each call.

use crate::failure::{Failure, Result};
use crate::mismatches::Page;
use crate::sys;
use emd_core::model::CrashPolicy;
use emd_core::personalities::ranges::PageStart;
use emd_core::uapi::args::*;
use emd_core::uapi::constants::*;
use emd_core::uapi::layout::{EventWire, RangeRec};
use emd_core::uapi::read_records::{self, Decoded};
use emd_core::uapi::records;
use emd_core::uapi::wire::Wire;
use emd_core::uapi::words::policy_code;
use emd_core::uapi::{DevNumber, EventRecord, MemberDisk, MemberOp, Target, TaskOp};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::Duration;

/// Where the device is.
pub const PATH: &str = "/dev/emd";

/// An open `/dev/emd`.
pub struct Device {
    file: File,
}

/// What a new volume is to be; empty and 0 leave the choice to the format.
#[derive(Default)]
pub struct Create {
    /// Format's name.
    pub format: String,
    /// Existing set.
    pub set_id: [u8; 16],
    /// Name of a new set.
    pub set_name: String,
    /// Name.
    pub volume_name: String,
    /// Level of each span.
    pub level: String,
    /// Spans; 0 is as good as 1.
    pub spans: u32,
    /// Layout.
    pub layout: String,
    /// Chunk.
    pub chunk_sectors: u32,
    /// Size.
    pub size_sectors: u64,
    /// Members; `None` is an empty place.
    pub members: Vec<Option<DevNumber>>,
    /// Spares.
    pub spares: Vec<DevNumber>,
    /// `EMD_CREATE_*`.
    pub flags: u32,
    /// `EMD_REGIONS_*`.
    pub regions: u32,
}

/// What a scan did.
pub struct Scanned {
    /// Devices looked at.
    pub disks_seen: u32,
    /// Arrays started.
    pub arrays_started: u32,
    /// Sets and remarks.
    pub records: Decoded,
}

/// Where a disk ended up.
pub struct Placed {
    /// Array.
    pub number: Option<u32>,
    /// Slot.
    pub slot: Option<u32>,
}

fn wire_target(target: &Target) -> TargetArg {
    let (kind, number, id) = match target {
        Target::Number(number) => (TARGET_NUMBER, *number, [0; 16]),
        Target::Array(id) => (TARGET_ARRAY, 0, *id),
        Target::Set(id) => (TARGET_SET, 0, *id),
        Target::All => (TARGET_ALL, 0, [0; 16]),
    };
    TargetArg { kind, number, id }
}

fn field<const N: usize>(text: &str, what: &str) -> Result<[u8; N]> {
    if text.len() >= N || text.contains('\0') {
        return Err(Failure::Usage(format!(
            "{what} \"{text}\" is too long: {} bytes are the most there can be",
            N - 1
        )));
    }
    let mut field = [0; N];
    records::put_text(&mut field, text);
    Ok(field)
}

fn some(value: u32) -> Option<u32> {
    Some(value).filter(|&value| value != NONE)
}

impl Device {
    /// Opens it, and says what to do when that fails.
    pub fn open() -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(PATH)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => Failure::NotThere(format!(
                    "{PATH} is not there: the module is not loaded; load it with: insmod emd.ko (or: modprobe emd)"
                )),
                ErrorKind::PermissionDenied => Failure::Refused {
                    errno: error.raw_os_error().unwrap_or(0),
                    reason: format!("{PATH} may be opened by root only; try again with sudo"),
                },
                _ => match error.raw_os_error() {
                    Some(6 | 19) => Failure::NotThere(format!(
                        "{PATH} has no driver behind it: the module is not loaded; load it with: insmod emd.ko (or: modprobe emd)"
                    )),
                    _ => Failure::Io(format!("{PATH} cannot be opened: {error}")),
                },
            })?;
        let device = Self { file };
        device.check_version()?;
        Ok(device)
    }

    fn check_version(&self) -> Result<()> {
        let version = self.call::<IOC_VERSION, _>(VersionArg::default())?;
        if version.api_major != API_MAJOR {
            return Err(Failure::Refused {
                errno: 0,
                reason: format!(
                    "the module speaks version {} of the interface, this program {API_MAJOR}; use the emdadm that came with the module",
                    version.api_major
                ),
            });
        }
        Ok(())
    }

    /// One ioctl: fills in the head, gives the argument back as the kernel left it.
    fn call<const CMD: u32, T: Wire>(&self, arg: T) -> Result<T> {
        let mut reason = [0u8; REASON_BYTES as usize];
        let mut argument = vec![0u8; T::BYTES];
        arg.to_bytes(&mut argument);
        // Every argument starts with a head, in which the caller filled in the flags only.
        let mut head = Head::from_bytes(&argument);
        head.size = T::BYTES as u32;
        head.reason_ptr = reason.as_mut_ptr() as u64;
        head.reason_len = REASON_BYTES;
        head.to_bytes(&mut argument);
        loop {
            match sys::ioctl::<CMD>(&self.file, &mut argument) {
                Ok(()) => return Ok(T::from_bytes(&argument)),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let text = records::text::<208>(&reason);
                    let errno = errno.raw_os_error();
                    let reason = match text.as_str() {
                        "" => format!(
                            "the kernel refused: {}",
                            std::io::Error::from_raw_os_error(errno)
                        ),
                        text => text.to_owned(),
                    };
                    return Err(Failure::Refused { errno, reason });
                }
            }
        }
    }

    /// A call that answers with records. Asks again with more room while it did not suffice.
    fn call_records<const CMD: u32, T: Wire>(
        &self,
        mut arg: T,
        out: impl Fn(&mut T) -> &mut Out,
    ) -> Result<(T, Decoded)> {
        let mut room = 64 << 10;
        loop {
            let mut buffer = vec![0u8; room];
            *out(&mut arg) = Out {
                ptr: buffer.as_mut_ptr() as u64,
                len: u32::try_from(room).unwrap_or(u32::MAX),
                ..Out::default()
            };
            arg = self.call::<CMD, _>(arg)?;
            let needed = out(&mut arg).needed as usize;
            // A scan is not done twice for a longer answer.
            if needed <= room || CMD == IOC_SCAN {
                buffer.truncate(needed.min(room));
                let records = read_records::decode(&buffer)
                    .map_err(|reason| Failure::Io(reason.text().to_owned()))?;
                return Ok((arg, records));
            }
            // Some more, since it may have grown again by then.
            room = needed + needed / 4;
        }
    }

    /// The formats.
    pub fn formats(&self) -> Result<Decoded> {
        let (_, records) =
            self.call_records::<IOC_FORMATS, _>(ListArg::default(), |arg| &mut arg.out)?;
        Ok(records)
    }

    /// All sets in short.
    pub fn list(&self) -> Result<Decoded> {
        let (_, records) =
            self.call_records::<IOC_LIST, _>(ListArg::default(), |arg| &mut arg.out)?;
        Ok(records)
    }

    /// One set in full.
    pub fn query(&self, target: &Target) -> Result<Decoded> {
        let arg = QueryArg {
            target: wire_target(target),
            ..QueryArg::default()
        };
        let (_, records) = self.call_records::<IOC_QUERY, _>(arg, |arg| &mut arg.out)?;
        Ok(records)
    }

    /// A page of the places of an array that did not agree.
    pub fn mismatches(&self, target: &Target, start: PageStart) -> Result<Page> {
        let mut buffer = vec![0u8; MISMATCHES_PAGE_MAX as usize * RangeRec::BYTES];
        let arg = MismatchesArg {
            target: wire_target(target),
            from_sector: start.from_sector,
            from_order: start.from_order,
            out: Out {
                ptr: buffer.as_mut_ptr() as u64,
                len: count(buffer.len(), "bytes")?,
                ..Out::default()
            },
            ..MismatchesArg::default()
        };
        let arg = self.call::<IOC_MISMATCHES, _>(arg)?;
        let (ranges, lost_some) = read_records::decode_mismatches(&buffer)
            .map_err(|reason| Failure::Io(reason.text().to_owned()))?;
        Ok(Page {
            ranges,
            lost_some,
            next: PageStart {
                from_sector: arg.from_sector,
                from_order: arg.from_order,
            },
            left: arg.left,
        })
    }

    /// Looks for sets.
    pub fn scan(&self, devs: &[DevNumber], set_id: [u8; 16], flags: u32) -> Result<Scanned> {
        let devs: Vec<u64> = devs.iter().map(|dev| dev.to_wire()).collect();
        let mut arg = ScanArg {
            devs_ptr: if devs.is_empty() {
                0
            } else {
                devs.as_ptr() as u64
            },
            devs_count: count(devs.len(), "devices")?,
            set_id,
            ..ScanArg::default()
        };
        arg.head.flags = flags;
        let (arg, records) = self.call_records::<IOC_SCAN, _>(arg, |arg| &mut arg.out)?;
        drop(devs);
        Ok(Scanned {
            disks_seen: arg.disks_seen,
            arrays_started: arg.arrays_started,
            records,
        })
    }

    /// Makes a set or volume: ids of both and the array's number.
    pub fn create(&self, create: &Create) -> Result<CreateArg> {
        let members: Vec<u64> = create
            .members
            .iter()
            .map(|dev| dev.map_or(0, DevNumber::to_wire))
            .collect();
        let spares: Vec<u64> = create.spares.iter().map(|dev| dev.to_wire()).collect();
        let mut arg = CreateArg {
            format: field(&create.format, "the format")?,
            set_id: create.set_id,
            set_name: field(&create.set_name, "the set's name")?,
            volume_name: field(&create.volume_name, "the name")?,
            level: field(&create.level, "the level")?,
            layout: field(&create.layout, "the layout")?,
            size_sectors: create.size_sectors,
            chunk_sectors: create.chunk_sectors,
            spans: create.spans,
            regions: create.regions,
            members_count: count(members.len(), "members")?,
            members_ptr: if members.is_empty() {
                0
            } else {
                members.as_ptr() as u64
            },
            spares_ptr: if spares.is_empty() {
                0
            } else {
                spares.as_ptr() as u64
            },
            spares_count: count(spares.len(), "spares")?,
            ..CreateArg::default()
        };
        arg.head.flags = create.flags;
        let done = self.call::<IOC_CREATE, _>(arg);
        drop((members, spares));
        done
    }

    /// Stops arrays; says how many.
    pub fn stop(&self, target: &Target) -> Result<u32> {
        let arg = StopArg {
            target: wire_target(target),
            ..StopArg::default()
        };
        Ok(self.call::<IOC_STOP, _>(arg)?.arrays_stopped)
    }

    /// Deletes a volume or a set.
    pub fn delete(&self, target: &Target, force: bool) -> Result<()> {
        let mut arg = DeleteArg {
            target: wire_target(target),
            ..DeleteArg::default()
        };
        arg.head.flags = if force { DELETE_FORCE } else { 0 };
        self.call::<IOC_DELETE, _>(arg).map(drop)
    }

    /// Does something with a disk.
    pub fn member(
        &self,
        op: MemberOp,
        target: &Target,
        disk: MemberDisk,
        flags: u32,
    ) -> Result<Placed> {
        let (dev, index_flag) = match disk {
            MemberDisk::Device(dev) => (dev.to_wire(), 0),
            MemberDisk::Index(index) => (index.into(), MEMBER_INDEX),
        };
        let mut arg = MemberArg {
            target: wire_target(target),
            dev,
            op: op.code(),
            ..MemberArg::default()
        };
        arg.head.flags = flags | index_flag;
        let arg = self.call::<IOC_MEMBER, _>(arg)?;
        Ok(Placed {
            number: some(arg.number),
            slot: some(arg.slot),
        })
    }

    /// Changes what is done about crashes in a volume.
    pub fn policy(&self, target: &Target, policy: CrashPolicy) -> Result<()> {
        let arg = PolicyArg {
            target: wire_target(target),
            policy: policy_code(policy),
            ..PolicyArg::default()
        };
        self.call::<IOC_POLICY, _>(arg).map(drop)
    }

    /// Renames a volume.
    pub fn rename(&self, target: &Target, name: &str) -> Result<()> {
        let arg = RenameArg {
            target: wire_target(target),
            name: field(name, "the name")?,
            ..RenameArg::default()
        };
        self.call::<IOC_RENAME, _>(arg).map(drop)
    }

    /// Starts, holds or ends a task, or limits its rate.
    pub fn task(&self, target: &Target, op: TaskOp) -> Result<()> {
        let mut arg = TaskArg {
            target: wire_target(target),
            ..TaskArg::default()
        };
        match op {
            TaskOp::Start(kind) => {
                arg.op = TASK_OP_START;
                arg.kind = kind.code();
            }
            TaskOp::Pause => arg.op = TASK_OP_PAUSE,
            TaskOp::Resume => arg.op = TASK_OP_RESUME,
            TaskOp::Cancel => arg.op = TASK_OP_CANCEL,
            TaskOp::Limits { min_kib, max_kib } => {
                arg.op = TASK_OP_LIMITS;
                (arg.rate_min_kib, arg.rate_max_kib) = (min_kib, max_kib);
            }
        }
        self.call::<IOC_TASK, _>(arg).map(drop)
    }

    /// Moves the place in the stream of events.
    pub fn events_from(&self, seq: u64) -> Result<()> {
        let arg = EventsArg {
            seq,
            ..EventsArg::default()
        };
        self.call::<IOC_EVENTS, _>(arg).map(drop)
    }

    /// Waits for events, at most `timeout`. Empty: there were none.
    pub fn events(&self, timeout: Option<Duration>) -> Result<Vec<EventRecord>> {
        // In milliseconds, and rather a bit longer; below 0 is without end.
        let timeout = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(errno) => return Err(Failure::Io(format!("waiting on {PATH} failed: {errno}"))),
        }
        let mut bytes = vec![0u8; EventWire::BYTES * 64];
        let len = (&self.file)
            .read(&mut bytes)
            .map_err(|error| Failure::Io(format!("{PATH} cannot be read: {error}")))?;
        bytes.truncate(len);
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= 4 {
            let wire = EventWire::from_bytes(rest);
            events.extend(EventRecord::from_wire(&wire));
            // At least 4, so that this ends whatever the kernel says.
            rest = rest.get((wire.size as usize).max(4)..).unwrap_or(&[]);
        }
        Ok(events)
    }
}

fn count(len: usize, what: &str) -> Result<u32> {
    u32::try_from(len).map_err(|_| Failure::Usage(format!("too many {what}")))
}
