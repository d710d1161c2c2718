// SPDX-License-Identifier: GPL-2.0

//! Events into the metadata, and the metadata's plans onto the disks.
//!
//! [`Inner::record`] is the only way to change metadata. Recording a failure, or that an array is
//! dirty, allocates nothing: the plan, the bytes and the bios were made when the set was claimed.

use super::shared::Shared;
use super::state::{DiskMask, Inner};
use crate::block::bdev::BlockDevice;
use crate::block::context;
use crate::model::{Checked, Context, DiskIndex, Event, Text, VolumeIndex, DISKS_MAX};
use crate::reason;
use crate::uapi::{DevNumber, EventKind};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What became of a plan.
struct Outcome {
    /// Disks that took all their writes.
    written: DiskMask,
    /// Disks that did not.
    failed: DiskMask,
    /// What the last one of those said.
    error: Option<(DiskIndex, Error)>,
}

/// The time, and randomness.
pub fn context() -> Context {
    Context {
        now_seconds: context::now_seconds(),
        random: context::random(),
    }
}

impl Inner {
    /// Records `event`: in memory, then on the disks. On an error from the format nothing has
    /// changed. `EIO` when no disk took the news; then it is true in memory only.
    ///
    /// A disk that does not take its metadata is recorded as failed on the others, where redundancy
    /// bears that.
    #[inline(never)]
    pub fn record(&mut self, shared: &Shared, event: &Event<'_>) -> Checked {
        self.apply(event)?;
        self.write_out(shared)
    }

    /// As [`Inner::record`], for events that bring in a disk: `device` has the key of the event's
    /// facts.
    #[inline(never)]
    pub fn record_with(
        &mut self,
        shared: &Shared,
        event: &Event<'_>,
        device: Arc<BlockDevice>,
    ) -> Checked<DiskIndex> {
        // Room first, so that nothing fails between the change in memory and its writing.
        let places = self.model().map_or(0, |set| set.disks.len()) + 1;
        while self.devices.len() < places {
            self.devices.push(None, GFP_KERNEL)?;
        }
        self.apply(event)?;
        let Some(index) = self.known()?.disk_by_key(device.dev().0) else {
            return Err(reason!(EIO, "internal: the format lost the new disk"));
        };
        self.put_device(index, device)?;
        self.write_out(shared)?;
        Ok(index)
    }

    /// Carries out the plan that `Format::create` left.
    #[inline(never)]
    pub fn write_out(&mut self, shared: &Shared) -> Checked {
        let mut pending = DiskMask::EMPTY;
        let mut handled = DiskMask::EMPTY;
        // Each round but the first deals with one more disk.
        for _ in 0..=DISKS_MAX {
            let outcome = self.carry_out();
            if let Some((disk, errno)) = outcome.error {
                self.complain(shared, disk, errno);
                if outcome.written.is_empty() {
                    return Err(reason!(
                        EIO,
                        "the metadata could be written to no disk (errno {})",
                        -errno.to_errno()
                    ));
                }
            }
            pending.add_all(&outcome.failed);
            let next = loop {
                match pending.pop() {
                    None => return Ok(()),
                    Some(disk) if handled.contains(disk) => {}
                    Some(disk) => {
                        handled.insert(disk);
                        if self.bears_loss(disk) {
                            break disk;
                        }
                    }
                }
            };
            self.fail_on_arrays(next);
            let event = self.loss_event(next);
            if self.apply(&event).is_err() {
                // It is out of use in memory; there is nothing to write about it.
                return Ok(());
            }
        }
        Ok(())
    }

    /// How the loss of a disk is called.
    pub fn loss_event(&self, disk: DiskIndex) -> Event<'static> {
        if self.is_unplugged(disk) {
            Event::DiskMissing(disk)
        } else {
            Event::DiskFailed(disk)
        }
    }

    #[inline(never)]
    fn apply(&mut self, event: &Event<'_>) -> Checked {
        match self.metadata.as_mut() {
            Some(metadata) => metadata.apply(event, &context()),
            None => Err(reason!(ENODEV, "the set has no metadata")),
        }
    }

    #[inline(never)]
    fn carry_out(&mut self) -> Outcome {
        let mut outcome = Outcome {
            written: DiskMask::EMPTY,
            failed: DiskMask::EMPTY,
            error: None,
        };
        let Self {
            metadata,
            devices,
            io,
            ..
        } = self;
        let Some(metadata) = metadata.as_ref() else {
            return outcome;
        };
        let mut rest = metadata.plan().writes();
        while let Some(first) = rest.first() {
            let len = rest
                .iter()
                .position(|write| write.phase != first.phase)
                .unwrap_or(rest.len());
            let (phase, after) = rest.split_at(len);
            rest = after;
            let mut touched = DiskMask::EMPTY;
            for write in phase {
                let device = devices
                    .get(usize::from(write.disk))
                    .and_then(|device| device.as_ref());
                // Disks that are not here are none of the plan's; one that failed once is left.
                let Some(device) = device else { continue };
                if outcome.failed.contains(write.disk) {
                    continue;
                }
                let bytes = metadata.bytes(&write.source);
                let result = if bytes.is_empty() || bytes.len() % 512 != 0 {
                    Err(EINVAL)
                } else {
                    io.as_mut().write(device, write.sector, bytes)
                };
                match result {
                    Ok(()) => touched.insert(write.disk),
                    Err(errno) => {
                        outcome.failed.insert(write.disk);
                        outcome.error = Some((write.disk, errno));
                    }
                }
            }
            while let Some(disk) = touched.pop() {
                if outcome.failed.contains(disk) {
                    continue;
                }
                let Some(device) = devices
                    .get(usize::from(disk))
                    .and_then(|device| device.as_ref())
                else {
                    continue;
                };
                match io.as_mut().flush(device) {
                    Ok(()) => outcome.written.insert(disk),
                    Err(errno) => {
                        outcome.failed.insert(disk);
                        outcome.error = Some((disk, errno));
                    }
                }
            }
        }
        // Who failed later did not take all of it.
        let mut failed = outcome.failed;
        while let Some(disk) = failed.pop() {
            outcome.written.remove(disk);
        }
        outcome
    }

    #[inline(never)]
    fn complain(&self, shared: &Shared, disk: DiskIndex, errno: Error) {
        let Some(set) = self.model() else { return };
        let dev = self.device(disk).map(|device| device.dev());
        log!(
            pr_err,
            "disk {} of a set does not take its metadata: errno {}",
            disk,
            -errno.to_errno()
        );
        shared.post(EventKind::MetadataError, &set.id, |event| {
            event.dev = dev.and_then(|dev| DevNumber::from_wire(dev.0));
            event.value = u64::from(errno.to_errno().unsigned_abs());
            event.text = Text::from_fmt(format_args!(
                "metadata of disk {disk} could not be written: errno {}",
                -errno.to_errno()
            ));
        });
    }

    /// Flushes the caches of a volume's members, before the metadata promises what is in them. A
    /// member that cannot is failed, and the promise is off.
    #[inline(never)]
    pub fn flush_members(&mut self, volume: VolumeIndex) -> Checked {
        let Some(running) = self.running(volume) else {
            return Ok(());
        };
        let (array, attached) = (running.array.clone(), running.attached);
        let mut result = Ok(());
        for slot in attached.iter() {
            let Some(disk) = self.disk_in(volume, slot) else {
                continue;
            };
            let Self { devices, io, .. } = self;
            let Some(Some(device)) = devices.get(usize::from(disk)) else {
                continue;
            };
            if let Err(errno) = io.as_mut().flush(device) {
                array.fail_member(slot);
                result = Err(reason!(errno, "disk {disk} cannot be flushed"));
            }
        }
        result
    }
}
