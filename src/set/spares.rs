// SPDX-License-Identifier: GPL-2.0

//! Spares: which of a set's disks takes the place of a lost member.
//!
//! Part of the keeper's work, with `ManagedSet::change` held: a spare is in the metadata as rebuilding before an array
//! has it. What looks and records here works under `inner`, and waits for no array. `lend.rs` has spares that belong to
//! no set.

use super::managed::ManagedSet;
use super::shared::Shared;
use super::state::Inner;
use crate::model::{Checked, DiskIndex, DiskRole, Event, MemberState, Slot, VolumeIndex};
use crate::personalities::{Health, Mask};
use crate::uapi::{DevNumber, EventKind};
use core::sync::atomic::Ordering;

impl ManagedSet {
    /// Lets spares take the places of lost members.
    #[inline(never)]
    pub(super) fn use_spares(&self) {
        let mut inner = self.lock();
        inner.take_old_places(self);
        inner.settle_returned();
        inner.recall_returned();
        for volume in 0..inner.entries_len() {
            while let Some(slot) = inner.next_empty(volume, None) {
                let lost = inner.disk_in(volume, slot);
                let Some((disk, role)) = inner.activate_spare(self, volume, slot) else {
                    break;
                };
                if let (Some(lost), DiskRole::GlobalSpare) = (lost, role) {
                    inner.stand_in(self, lost, disk);
                }
            }
        }
        inner.settle_returned();
        let lacks = (0..inner.entries_len()).any(|volume| inner.lacks_spare(volume));
        drop(inner);
        if lacks {
            // There may be one that belongs to no set: `lend.rs`.
            self.wants_spare.store(true, Ordering::Release);
            self.shared.wish(0);
        }
    }
}

impl Inner {
    /// A lost member whose place can be taken; only one of the disk `lost`, when given.
    pub(super) fn next_empty(&self, volume: VolumeIndex, lost: Option<DiskIndex>) -> Option<Slot> {
        let is_wanted = |slot: &Slot| lost.is_none() || self.disk_in(volume, *slot) == lost;
        self.empty_slots(volume).iter().find(is_wanted)
    }

    /// Whether the place of a member can be taken.
    pub(super) fn is_empty(&self, volume: VolumeIndex, slot: Slot) -> bool {
        self.empty_slots(volume).contains(slot)
    }

    /// The lost members whose places can be taken.
    fn empty_slots(&self, volume: VolumeIndex) -> Mask {
        let mut empty = Mask::EMPTY;
        let Some((running, model)) = self
            .running(volume)
            .zip(self.model().and_then(|set| set.volume(volume)))
        else {
            return empty;
        };
        let hopeless = running.read_only
            || running.array.is_broken()
            || !model.shape.level.is_redundant()
            || self.health(volume, self.in_sync(volume, None)) == Health::Failed;
        if hopeless {
            return empty;
        }
        for (slot, member) in (0u16..).zip(model.members.iter()) {
            let is_lost = matches!(member.state, MemberState::Failed | MemberState::Missing);
            if is_lost && !running.attached.contains(slot) {
                empty = empty.with(slot);
            }
        }
        empty
    }

    /// Whether a disk may take a place in `volume` without a person's word, and how gladly: lower
    /// is better.
    pub(super) fn spare_rank(&self, volume: VolumeIndex, disk: DiskIndex) -> Option<u8> {
        if !self.is_online(disk) || self.is_unplugged(disk) {
            return None;
        }
        let set = self.model()?;
        match set.disk(disk)?.role {
            _ if self.returned.place_in(volume, disk).is_some() => Some(0),
            DiskRole::DedicatedSpare(of) => (of == volume).then_some(1),
            DiskRole::GlobalSpare => Some(2),
            // Who has its place by now, or the format had forgotten which it was: any.
            _ if self.returned.contains(disk) && !self.returned.has_places(disk) => Some(3),
            _ => None,
        }
    }

    /// Whether a volume has a place to fill, and the set nothing to fill it with. A spare that does not fit
    /// counts: another may not fit either.
    pub(super) fn lacks_spare(&self, volume: VolumeIndex) -> bool {
        self.next_empty(volume, None).is_some()
            && (0..self.devices.len() as DiskIndex)
                .all(|disk| self.spare_rank(volume, disk).is_none())
    }

    /// What came back before a restart, and has its place kept, may take it as well.
    fn recall_returned(&mut self) {
        for disk in 0..self.devices.len() as DiskIndex {
            if self
                .metadata
                .as_ref()
                .is_some_and(|set| set.keeps_place(disk))
            {
                self.returned.insert(disk);
            }
        }
    }

    /// Disks that came back take the places that they held, in all volumes that run, before others may.
    #[inline(never)]
    fn take_old_places(&mut self, set: &ManagedSet) {
        for volume in 0..self.entries_len() {
            for slot in self.empty_slots(volume).iter() {
                let holder = self.returned.holder(volume, slot);
                let may = |disk: &DiskIndex| self.spare_rank(volume, *disk).is_some();
                if let Some(disk) = holder.filter(may) {
                    // Refused: a spare may have the place.
                    let _ = self.activate_disk(set, volume, slot, disk);
                }
            }
        }
    }

    fn settle_returned(&mut self) {
        let Self {
            metadata, returned, ..
        } = self;
        if let Some(metadata) = metadata {
            returned.settle(metadata.set());
        }
    }

    /// Lets the best spare take a place; says which, and what it was.
    #[inline(never)]
    fn activate_spare(
        &mut self,
        set: &ManagedSet,
        volume: VolumeIndex,
        slot: Slot,
    ) -> Option<(DiskIndex, DiskRole)> {
        for rank in 0..4 {
            for disk in 0..self.devices.len() as DiskIndex {
                if self.spare_rank(volume, disk) != Some(rank) {
                    continue;
                }
                let Some(role) = self.model()?.disk(disk).map(|disk| disk.role) else {
                    continue;
                };
                if self.activate_disk(set, volume, slot, disk).is_ok() {
                    return Some((disk, role));
                }
            }
        }
        None
    }

    /// A global spare replaces a disk, not a member: it takes the lost disk's places in the other
    /// volumes too, where it has room. (It is a member by now, and no spare any more.)
    #[inline(never)]
    fn stand_in(&mut self, set: &ManagedSet, lost: DiskIndex, disk: DiskIndex) {
        for volume in 0..self.entries_len() {
            if let Some(slot) = self.next_empty(volume, Some(lost)) {
                // Refused for want of room: the next spare may have it.
                let _ = self.activate_disk(set, volume, slot, disk);
            }
        }
    }

    /// Lets a disk take a lost member's place, as far as the metadata goes.
    #[inline(never)]
    pub(super) fn activate_disk(
        &mut self,
        set: &ManagedSet,
        volume: VolumeIndex,
        slot: Slot,
        disk: DiskIndex,
    ) -> Checked {
        let event = Event::SpareActivated { volume, slot, disk };
        self.record(&set.shared, &event)?;
        self.forget_bad(&set.shared, volume, slot);
        if let Some(running) = self.running_mut(volume) {
            running.unfit = running.unfit.without(slot);
        }
        let number = self.running(volume).map(|running| running.number.get());
        let dev = self.device(disk).map(|device| device.dev());
        log!(
            pr_info,
            "disk {} takes slot {} of volume {}",
            disk,
            slot,
            volume
        );
        set.shared
            .post(EventKind::SpareActivated, &set.id, |event| {
                event.number = number;
                event.slot = Some(slot);
                event.dev = dev.and_then(|dev| DevNumber::from_wire(dev.0));
            });
        Ok(())
    }

    /// A member that will be filled has no bad ranges any more: what cannot be filled is found out anew.
    #[inline(never)]
    fn forget_bad(&mut self, shared: &Shared, volume: VolumeIndex, slot: Slot) {
        for _ in 0..crate::model::BAD_RANGES_MAX {
            let bad = self.model().and_then(|set| {
                let model = set.volume(volume)?;
                let member = model.members.get(usize::from(slot))?;
                let end = member.offset_sectors + model.shape.member_sectors;
                set.bad_ranges.iter().copied().find(|bad| {
                    Some(bad.disk) == member.disk
                        && bad.sector >= member.offset_sectors
                        && bad.sector < end
                })
            });
            let Some(bad) = bad else { return };
            if self.record(shared, &Event::BadRangeCleared(bad)).is_err() {
                return;
            }
        }
    }
}
