// SPDX-License-Identifier: GPL-2.0

//! What the rest of the machine sees of an array: its members in sysfs (`slaves`, `holders`), and the word that
//! its state changed.
//!
//! Both take locks of the kernel under which others wait for memory, which may be written to an array of this
//! very set. So it is done with `change` held, under which nobody waits, and not with the inner lock.

use super::managed::ManagedSet;
use super::state::Inner;
use crate::block::bdev::BlockDevice;
use crate::block::gendisk::Disk;
use crate::model::{Slot, VolumeIndex};
use kernel::prelude::*;
use kernel::sync::Arc;

impl ManagedSet {
    /// Shows the attached members of a volume. Called with `change` held, and not the inner lock.
    #[inline(never)]
    pub fn show_members(&self, volume: VolumeIndex) {
        let mut next = 0;
        loop {
            let Some((slot, disk, device)) = self.lock().next_unshown(volume, next) else {
                return;
            };
            next = slot + 1;
            if disk.link_member(&device).is_err() {
                // It works all the same.
                continue;
            }
            let mut inner = self.lock();
            let shown = inner.running_mut(volume).is_some_and(|running| {
                // There is room for every slot.
                running
                    .shown
                    .push((slot, device.clone()), GFP_KERNEL)
                    .is_ok()
            });
            drop(inner);
            if !shown {
                disk.unlink_member(&device);
            }
        }
    }

    /// Shows a member no more; all of them without `slot`. Called with `change` held, and not the inner lock.
    #[inline(never)]
    pub fn hide_members(&self, volume: VolumeIndex, slot: Option<Slot>) {
        loop {
            let Some((disk, device)) = self.lock().next_shown(volume, slot) else {
                return;
            };
            if let Some(disk) = disk {
                disk.unlink_member(&device);
            }
        }
    }

    /// Tells user space of the arrays whose state changed. Called with `change` held, and not the inner lock.
    #[inline(never)]
    pub fn announce(&self) {
        let volumes = self.lock().entries_len();
        for volume in 0..volumes {
            let disk = match self.lock().running_mut(volume) {
                Some(running) if running.unannounced => {
                    running.unannounced = false;
                    running.disk.clone()
                }
                _ => None,
            };
            if let Some(disk) = disk {
                disk.notify();
            }
        }
    }
}

impl Inner {
    /// The first attached member from `first` on that is not shown.
    fn next_unshown(
        &self,
        volume: VolumeIndex,
        first: Slot,
    ) -> Option<(Slot, Arc<Disk>, Arc<BlockDevice>)> {
        let running = self.running(volume)?;
        let disk = running.disk.as_ref()?;
        let mut slots = running.attached.iter().filter(|&slot| slot >= first);
        slots.find_map(|slot| {
            if running.shown.iter().any(|(shown, _)| *shown == slot) {
                return None;
            }
            let device = self.device(self.disk_in(volume, slot)?)?;
            Some((slot, disk.clone(), device.clone()))
        })
    }

    /// Takes one that is shown (just `slot`, when given) off the list.
    fn next_shown(
        &mut self,
        volume: VolumeIndex,
        slot: Option<Slot>,
    ) -> Option<(Option<Arc<Disk>>, Arc<BlockDevice>)> {
        let running = self.running_mut(volume)?;
        let mut shown = running.shown.iter();
        let at = shown.position(|(shown, _)| slot.is_none_or(|slot| slot == *shown))?;
        let (_, device) = running.shown.remove(at).ok()?;
        Some((running.disk.clone(), device))
    }
}
