// SPDX-License-Identifier: GPL-2.0

//! Looking at the model of the set (`state.rs`).

use super::VOLUME;
use crate::array::Array;
use crate::sim::Sim;
use emd_core::model::{DiskIndex, DiskState, Event, MemberState, Slot};
use emd_core::personalities::{Health, Mask};

impl Array {
    /// Whether writes wait for a record.
    pub fn keeps_writes(&self) -> bool {
        !self.finished.is_empty() || !self.for_dirty.is_empty()
    }
}

impl Sim {
    pub(super) fn volume(&self) -> Option<&emd_core::model::Volume> {
        self.set.as_ref()?.set().volume(VOLUME)
    }

    /// The disk in a slot.
    pub fn disk_in(&self, slot: Slot) -> Option<DiskIndex> {
        self.volume()?.members.get(usize::from(slot))?.disk
    }

    pub(super) fn member_state(&self, slot: Slot) -> Option<MemberState> {
        Some(self.volume()?.members.get(usize::from(slot))?.state)
    }

    /// Members that are in sync, or are being rebuilt, by what the metadata says.
    pub fn model_in_use(&self) -> Mask {
        let members = self.volume().into_iter().flat_map(|volume| &volume.members);
        let in_use = (0u16..).zip(members).filter(|(_, member)| {
            let state = member.state;
            matches!(state, MemberState::InSync | MemberState::Rebuilding { .. })
        });
        in_use.fold(Mask::EMPTY, |mask, (slot, _)| mask.with(slot))
    }

    /// Members in sync as the model has them, less those on a disk.
    pub fn model_in_sync(&self, without: Option<DiskIndex>) -> Mask {
        let mut mask = Mask::EMPTY;
        let Some(volume) = self.volume() else {
            return mask;
        };
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let lost = without.is_some() && member.disk == without;
            if member.state == MemberState::InSync && !lost {
                mask = mask.with(slot);
            }
        }
        mask
    }

    pub fn bears_loss(&self, disk: DiskIndex) -> bool {
        let Some(set) = &self.set else { return false };
        let mut is_member = false;
        for (_, _, member) in set.set().memberships(disk) {
            match member.state {
                MemberState::Failed | MemberState::Missing => continue,
                MemberState::Rebuilding { .. } => return true,
                MemberState::InSync => is_member = true,
            }
            let array = self.array.as_ref();
            let unrecorded = array.map_or(Mask::EMPTY, |array| array.unrecorded);
            let left = unrecorded
                .iter()
                .fold(self.model_in_sync(Some(disk)), Mask::without);
            if self.is_redundant() && self.health(left) != Health::Failed {
                return true;
            }
        }
        !is_member
    }

    /// Whether the volume has a disk as a member in sync, and has not given it up.
    pub(super) fn is_in_use(&self, disk: DiskIndex) -> bool {
        let Some(set) = &self.set else { return false };
        let is_here = self.devices.get(usize::from(disk)).copied().flatten();
        let mut members = set.set().memberships(disk);
        is_here.is_some()
            && members.any(|(_, slot, member)| {
                let is_kept = self
                    .array
                    .as_ref()
                    .is_none_or(|array| !array.broken && array.writable.contains(slot));
                member.state == MemberState::InSync && is_kept
            })
    }

    pub(super) fn is_unplugged(&self, disk: DiskIndex) -> bool {
        let device = self.devices.get(usize::from(disk)).copied().flatten();
        device.is_none_or(|device| !self.disks[device].present)
    }

    pub(super) fn loss_event(&self, disk: DiskIndex) -> Event<'static> {
        if self.is_unplugged(disk) {
            Event::DiskMissing(disk)
        } else {
            Event::DiskFailed(disk)
        }
    }

    pub(super) fn fail_on_array(&mut self, disk: DiskIndex) {
        let Some(set) = &self.set else { return };
        let slots: Vec<Slot> = set
            .set()
            .memberships(disk)
            .map(|(_, slot, _)| slot)
            .collect();
        let device = self.devices.get(usize::from(disk)).copied().flatten();
        let is_gone = device.is_none_or(|device| !self.disks[device].present);
        for slot in slots {
            if self
                .array
                .as_ref()
                .is_some_and(|array| array.attached.contains(slot))
            {
                self.drop_member_that(slot, is_gone);
            }
        }
    }

    pub(super) fn is_online(&self, disk: DiskIndex) -> bool {
        let here = self
            .devices
            .get(usize::from(disk))
            .copied()
            .flatten()
            .is_some();
        let state = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk(disk))
            .map(|disk| disk.state);
        here && state == Some(DiskState::Online)
    }

    pub(super) fn is_attached(&self, disk: DiskIndex) -> bool {
        let (Some(set), Some(array)) = (&self.set, &self.array) else {
            return false;
        };
        let mut places = set.set().memberships(disk);
        places.any(|(_, slot, _)| array.attached.contains(slot))
    }
}
