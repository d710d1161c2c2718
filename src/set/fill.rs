// SPDX-License-Identifier: GPL-2.0

//! New volumes whose members the disks fill with zeroes: all of them agree then, parity too.
//!
//! That takes as long as the disks like, hours perhaps, so no lock is held meanwhile: the volume is recorded, as one that was
//! never initialised, and kept from being started or deleted by [`Entry::filling`](super::state::Entry). It counts as redundant
//! once the last disk is through and that is recorded; cut before that, or ended by a signal, it never was.

use super::managed::ManagedSet;
use super::state::Inner;
use crate::block::bdev::BlockDevice;
use crate::model::{Checked, DiskIndex, Event, Reason, VolumeIndex};
use crate::personalities::Geometry;
use crate::reason;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Refuses a member that would have to be sent the zeroes that it is to be filled with.
pub fn check_zeroes(device: &BlockDevice) -> Checked {
    if device.zeroes_itself() {
        return Ok(());
    }
    Err(reason!(
        EOPNOTSUPP,
        "disk {} does not fill itself with zeroes: leave that to an initialisation",
        device.dev()
    ))
}

/// Why a volume cannot be had yet.
pub fn being_filled() -> Reason {
    reason!(
        EBUSY,
        "its members are being filled with zeroes: wait for that, or end the program that makes it"
    )
}

/// A stretch of a disk.
struct Area {
    device: Arc<BlockDevice>,
    first_sector: u64,
    sectors: u64,
}

impl ManagedSet {
    /// Whether a volume's members are being filled.
    pub(super) fn is_filling(&self, volume: VolumeIndex) -> bool {
        let inner = self.lock();
        let entry = inner.entries.get(usize::from(volume));
        entry.is_some_and(|entry| entry.filling)
    }

    /// Fills the members of a volume that was just made. No lock is held.
    #[inline(never)]
    pub(super) fn fill_members(&self, volume: VolumeIndex) -> Checked {
        for area in self.areas(volume)?.iter() {
            let Area {
                device,
                first_sector,
                sectors,
            } = area;
            device.zero(*first_sector, *sectors).map_err(|errno| {
                reason!(
                    errno,
                    "disk {} cannot be filled with zeroes: errno {}",
                    device.dev(),
                    -errno.to_errno()
                )
            })?;
        }
        Ok(())
    }

    /// What that writes.
    #[inline(never)]
    fn areas(&self, volume: VolumeIndex) -> Checked<KVec<Area>> {
        let inner = self.lock();
        let Some(model) = inner.known()?.volume(volume) else {
            return Err(reason!(EIO, "internal: there is no volume {volume}"));
        };
        let sectors = Geometry::new(&model.shape, model.size_sectors)?.used_member_sectors();
        let mut areas = KVec::with_capacity(model.members.len(), GFP_KERNEL)?;
        for member in model.members.iter() {
            if let Some(device) = member.disk.and_then(|disk| inner.device(disk)) {
                let area = Area {
                    device: device.clone(),
                    first_sector: member.offset_sectors,
                    sectors,
                };
                areas.push(area, GFP_KERNEL)?;
            }
        }
        Ok(areas)
    }

    /// The members are filled, or `filled` says why not: the volume can be started, or deleted. Records that they agree.
    #[inline(never)]
    pub(super) fn end_filling(&self, volume: VolumeIndex, filled: Checked) -> Checked {
        let _change = self.change.lock();
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get_mut(usize::from(volume)) {
            entry.filling = false;
        }
        filled?;
        let Some(model) = inner.known()?.volume(volume) else {
            return Err(reason!(EIO, "internal: there is no volume {volume}"));
        };
        if model.shape.level.is_redundant() {
            inner.record(&self.shared, &Event::ResyncDone(volume))?;
        }
        Ok(())
    }
}

impl Inner {
    /// Refuses to give up a disk that is being filled: that goes on as long as the volume is made.
    pub(super) fn check_not_filled(&self, disk: DiskIndex) -> Checked {
        let Some(set) = self.model() else {
            return Ok(());
        };
        for (volume, _, _) in set.memberships(disk) {
            let entry = self.entries.get(usize::from(volume));
            if entry.is_some_and(|entry| entry.filling) {
                return Err(being_filled());
            }
        }
        Ok(())
    }
}
