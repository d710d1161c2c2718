// SPDX-License-Identifier: GPL-2.0

//! The model's disks: those that are here, and those that the newest superblock knows of.

use super::assemble::{label_of, Reader};
use super::head::Head;
use super::layout::*;
use super::probe::{block_sectors, left_log_place, log_place, View};
use super::set::{image, Home, Meta};
use super::standing::Standing;
use crate::model::note;
use crate::model::{Checked, Disk, DiskRole, DiskState, DISKS_MAX};
use kernel::prelude::*;

impl Reader<'_> {
    /// Makes a disk of every view.
    #[inline(never)]
    pub(super) fn list_disks(&mut self) -> Checked {
        for index in 0..self.views.len() {
            let (Some(view), Some(&standing)) = (self.views.get(index), self.standings.get(index))
            else {
                break;
            };
            let state = match standing {
                // Nothing takes it back but a person.
                Standing::Failed | Standing::Apart | Standing::OnlyCopy => DiskState::Failed,
                Standing::Stale | Standing::Replacement(_) => DiskState::Stale,
                _ => DiskState::Online,
            };
            let role = match standing {
                // What a replacement has is a copy of what is here.
                Standing::Spare | Standing::Replacement(_) => DiskRole::GlobalSpare,
                Standing::Member(_) => DiskRole::Member,
                _ => DiskRole::Unused,
            };
            let special = standing == Standing::Journal;
            let home = match state {
                DiskState::Online => Some(home_of(view, special, &self.set.head)?),
                _ => None,
            };
            let head = view.head;
            let disk = Disk {
                facts: Some(view.facts),
                label: label_of(head.number),
                state,
                role,
                usable_sectors: head.data_end(),
                failure_predicted: false,
            };
            let device = device_of(view);
            self.set.set.disks.push(disk, GFP_KERNEL)?;
            self.set.disks.push(
                Meta {
                    number: head.number,
                    sector: Some(head.sector),
                    keep_role: special,
                    apart: standing == Standing::Apart,
                    device,
                    home,
                },
                GFP_KERNEL,
            )?;
            if standing == Standing::Stale {
                let newest = self.set.head.events;
                note(
                    &mut self.set.set.notes,
                    format_args!(
                        "device {} is old: {} events, the array has {newest}",
                        head.number, head.events
                    ),
                )?;
            }
        }
        Ok(())
    }

    /// Makes a disk of every device that the newest superblock has as a member, or as failed, and
    /// that is not here.
    #[inline(never)]
    pub(super) fn list_missing(&mut self) -> Checked {
        let Some((head, bytes)) = self
            .views
            .get(self.newest)
            .map(|view| (view.head, view.bytes))
        else {
            return Ok(());
        };
        self.set.lacks_spare = (0..head.roles_max).any(|number| {
            let mut here = self.views.iter().zip(self.standings.iter());
            let is_it = |(view, standing): (&View<'_>, &Standing)| {
                view.head.number == number && !standing.is_out()
            };
            head.lists_spare(bytes, number) && !here.any(is_it)
        });
        let is_here = |number: u32| self.views.iter().any(|view| view.head.number == number);
        let are = |wanted: Role| {
            let absent = (0..head.roles_max).filter(|&number| !is_here(number));
            absent
                .filter(|&number| head.role(bytes, number) == wanted)
                .count()
        };
        // Kernels up to 4.10 write that of every number that no disk has.
        let means_nobody = are(Role::Faulty) > are(Role::Spare);
        for number in 0..head.roles_max {
            let here = is_here(number);
            let state = match head.role(bytes, number) {
                Role::Member(_) => DiskState::Missing,
                Role::Faulty if head.version != Version::V090 && !means_nobody => DiskState::Failed,
                _ => continue,
            };
            if here || self.set.disks.len() >= DISKS_MAX {
                continue;
            }
            let disk = Disk {
                facts: None,
                label: label_of(number),
                state,
                role: DiskRole::Unused,
                usable_sectors: 0,
                failure_predicted: false,
            };
            self.set.set.disks.push(disk, GFP_KERNEL)?;
            self.set.disks.push(
                Meta {
                    number,
                    sector: None,
                    keep_role: false,
                    apart: false,
                    device: match head.version {
                        Version::V090 => {
                            device_at(bytes, v0::DEVICE + v0::DEVICE_BYTES * number as usize)
                        }
                        _ => [0; 3],
                    },
                    home: None,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(())
    }
}

/// Of a 0.90 descriptor: what is not understood and kept.
fn device_of(view: &View<'_>) -> [u32; 3] {
    if view.head.version != Version::V090 {
        return [0; 3];
    }
    device_at(view.bytes, v0::THIS)
}

fn device_at(bytes: &[u8], at: usize) -> [u32; 3] {
    [
        get32(bytes, at + 4),
        get32(bytes, at + 8),
        get32(bytes, at + v0::device::STATE) & !v0::device::KNOWN,
    ]
}

/// The home of a disk that was read.
#[inline(never)]
fn home_of(view: &View<'_>, special: bool, newest: &Head) -> Checked<Home> {
    let head = &view.head;
    let mut images = KVVec::with_capacity(SUPER_BYTES * image::COUNT, GFP_KERNEL)?;
    for _ in 0..image::COUNT {
        images.extend_from_slice(view.bytes, GFP_KERNEL)?;
    }
    let log = log_place(view);
    let log_bytes = log.map_or(0, |log| log.sectors as usize * 512);
    // One without entries was not read, and may have anything: it is written whole when it gets one.
    let mut logs = KVVec::from_elem(0u8, 2 * log_bytes, GFP_KERNEL)?;
    let mut log_used = 0;
    if let (Some(Ok(bytes)), Some(_)) = (&view.log, log) {
        for half in [0, log_bytes] {
            let _ = super::super::bytes::put(&mut logs, half, bytes);
        }
        log_used = super::badblocks::used(bytes);
    }
    Ok(Home {
        sector: head.sector,
        images,
        block_bytes: 512 * block_sectors(&view.facts),
        data_offset: head.data_offset,
        data_size: head.data_size,
        bitmap: None,
        log,
        log_shift: head.log_shift,
        logs,
        log_used,
        keep_recovery: special,
        fresh: false,
        first: false,
        touched: false,
        ends_recovery: false,
        log_touched: false,
        bitmap_whole: false,
        // A torn superblock is written whole, as is one that missed an update.
        missed: view.torn,
        unsure: false,
        only_copy: view.torn,
        left_log: left_log_place(view, newest),
    })
}
