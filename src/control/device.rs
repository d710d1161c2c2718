// SPDX-License-Identifier: GPL-2.0

//! `/dev/emd`: from file operations to [`uapi::call`](crate::uapi::call()), and the reading of events.

use super::EventRing;
use crate::block::chardev::{may_administer, CharDevice, CharFile, Wait};
use crate::model::Checked;
use crate::reason;
use crate::uapi::fields::UserMemory;
use crate::uapi::layout::EventWire;
use crate::uapi::wire::Wire;
use crate::uapi::{self, Caller, Engine, EventsReply};
use kernel::prelude::*;
use kernel::sync::atomic::{ordering, Atomic};
use kernel::sync::Arc;
use kernel::uaccess::{UserPtr, UserSlice};

/// What all open files share.
pub struct Shared {
    engine: Arc<dyn Engine>,
    events: Arc<EventRing>,
    version: &'static str,
}

/// The registered device. Drop it before what the engine needs goes.
pub struct Control {
    _device: Pin<KBox<CharDevice<ControlFile>>>,
}

impl Control {
    /// Registers `/dev/emd`. The last thing to do when the module loads.
    pub fn new(
        engine: Arc<dyn Engine>,
        events: Arc<EventRing>,
        version: &'static str,
    ) -> Result<Self> {
        let shared = Arc::new(
            Shared {
                engine,
                events,
                version,
            },
            GFP_KERNEL,
        )?;
        let device = KBox::pin_init(CharDevice::register(c"emd", shared), GFP_KERNEL)?;
        Ok(Self { _device: device })
    }
}

/// An open file: a place in the stream of events.
pub struct ControlFile {
    shared: Arc<Shared>,
    /// Sequence number that the next read starts at. Whoever moves it from a value owns the record
    /// there: of several readers of one file each event goes to just one.
    position: Atomic<u64>,
}

impl CharFile for ControlFile {
    type Device = Shared;

    fn open(shared: &Arc<Shared>) -> Result<Self> {
        Ok(Self {
            shared: shared.clone(),
            position: Atomic::new(shared.events.next_seq()),
        })
    }

    fn ioctl(&self, cmd: u32, arg: u64) -> Result<u32> {
        let mut caller = KernelCaller { file: self };
        uapi::call(&*self.shared.engine, &mut caller, cmd, arg)?;
        Ok(0)
    }

    fn read(&self, to: UserPtr, len: usize, wait: bool) -> Result<usize> {
        if len < EventWire::BYTES {
            return Err(EINVAL);
        }
        loop {
            let done = self.read_now(to, len)?;
            if done != 0 {
                return Ok(done);
            }
            if !wait {
                return Err(EAGAIN);
            }
            self.shared.events.wait(|| self.position())?;
        }
    }

    fn poll(&self, wait: &Wait<'_>) -> bool {
        wait.on(self.shared.events.posted());
        self.shared.events.read(self.position()).is_some()
    }
}

impl ControlFile {
    fn position(&self) -> u64 {
        self.position.load(ordering::Relaxed)
    }

    /// Reads what there is, as many whole records as fit.
    fn read_now(&self, to: UserPtr, len: usize) -> Result<usize> {
        let mut done = 0;
        while len - done >= EventWire::BYTES {
            let position = self.position();
            let Some((event, next)) = self.shared.events.read(position) else {
                break;
            };
            let mut bytes = [0u8; EventWire::BYTES];
            event.to_wire().to_bytes(&mut bytes);
            let room = UserSlice::new(to.wrapping_byte_add(done), bytes.len());
            if let Err(fault) = room.writer().write_slice(&bytes) {
                // What was read before is read; the fault is for the next call.
                return if done != 0 { Ok(done) } else { Err(fault) };
            }
            // A reader that lost the race overwrites this record with the next one.
            if self
                .position
                .cmpxchg(position, next, ordering::Relaxed)
                .is_ok()
            {
                done += bytes.len();
            }
        }
        Ok(done)
    }
}

/// The program that called an ioctl.
struct KernelCaller<'a> {
    file: &'a ControlFile,
}

fn user_slice(address: u64, len: usize) -> Checked<UserSlice> {
    let address =
        usize::try_from(address).map_err(|_| reason!(EFAULT, "{address:#x} is no address"))?;
    Ok(UserSlice::new(UserPtr::from_addr(address), len))
}

impl UserMemory for KernelCaller<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Checked {
        user_slice(address, into.len())?
            .reader()
            .read_slice(into)
            .map_err(|errno| reason!(errno, "memory at {address:#x} cannot be read"))
    }
}

impl Caller for KernelCaller<'_> {
    fn write(&mut self, address: u64, from: &[u8]) -> Checked {
        user_slice(address, from.len())?
            .writer()
            .write_slice(from)
            .map_err(|errno| reason!(errno, "memory at {address:#x} cannot be written"))
    }

    fn may_modify(&self) -> bool {
        may_administer()
    }

    fn module_version(&self) -> &str {
        self.file.shared.version
    }

    fn seek_events(&mut self, seq: Option<u64>) -> EventsReply {
        let reply = self.file.shared.events.place(self.file.position(), seq);
        if seq.is_some() {
            self.file.position.store(reply.seq, ordering::Relaxed);
        }
        reply
    }
}
