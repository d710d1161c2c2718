// SPDX-License-Identifier: GPL-2.0

//! Events about disks that go: failed, missing, removed; and what becomes of their entries.
//!
//! Slots always name an entry of the table, so the entry of a lost disk stays until another disk has
//! its places.

use super::layout::*;
use super::model::{is_empty, map_state};
use super::serial;
use super::set::{random_number, ImsmSet};
use crate::model::{
    Checked, Context, DiskIndex, DiskRole, DiskState, Member, MemberState, Text, Volume,
    VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

impl ImsmSet {
    /// [`crate::model::Event::DiskFailed`] and [`crate::model::Event::DiskMissing`].
    ///
    /// Disks of the same volumes that are not here either do not get this update. They are called lost by it, not by
    /// the next one: one that had an update which the others did not get may have the number that this one has,
    /// and nobody could say which of them counts.
    #[inline(never)]
    pub fn disk_lost(&mut self, disk: DiskIndex, gone: bool) -> Checked {
        self.lose_disk(disk, gone)?;
        for other in 0..self.set.disks.len() as DiskIndex {
            if gone && self.is_lost_with(other, disk) {
                self.lose_disk(other, true)?;
            }
        }
        Ok(())
    }

    /// Whether `other` is away, in the same volumes as `disk`, and none of them is lost with it.
    fn is_lost_with(&self, other: DiskIndex, disk: DiskIndex) -> bool {
        let state = self.set.disk(other).map(|model| model.state);
        if other == disk || state != Some(DiskState::Missing) || self.entry(other).is_none() {
            return false;
        }
        let mut any = false;
        for (_, model) in self.set.live_volumes() {
            let has = |disk| model.members.iter().any(|m| m.disk == Some(disk));
            if has(other) != has(disk) {
                return false;
            }
            let lost = |member: &Member| is_empty(member) || member.disk == Some(other);
            if has(other) && map_state(&model.shape, &model.members, &lost) == map::LOST {
                return false;
            }
            any |= has(other);
        }
        any
    }

    fn lose_disk(&mut self, disk: DiskIndex, gone: bool) -> Checked {
        self.live_disk(disk)?;
        let entry = self.entry(disk);
        let before = self.live_disk(disk)?.state;
        let state = match (gone, entry, before) {
            // The set does not list it: it only happened to be here.
            (true, None, _) => DiskState::Removed,
            (true, Some(_), _) => DiskState::Missing,
            // It counts for nothing already.
            (false, _, DiskState::Missing | DiskState::Stale) => before,
            (false, _, _) => DiskState::Failed,
        };
        if let (Some(entry), None) = (entry, self.frozen) {
            self.mark_entry(entry, gone);
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = state;
            if gone {
                model.facts = None;
            }
        }
        if let Some(meta) = self.disk_meta_mut(disk) {
            // It keeps its last words; they are no longer kept up to date.
            meta.home = None;
            if gone {
                meta.anchor = None;
            }
        }
        let member_state = match state {
            DiskState::Missing | DiskState::Removed => MemberState::Missing,
            _ => MemberState::Failed,
        };
        self.forget_bad_ranges(disk)?;
        for volume in 0..self.set.volumes.len() as VolumeIndex {
            if self.lose_members(volume, disk, member_state) {
                self.refresh_volume(volume)?;
            }
        }
        self.refresh_role(disk);
        Ok(())
    }

    /// Sets the state of the members of a volume that are on a lost disk, or whose place was kept for it;
    /// says whether there are any.
    fn lose_members(&mut self, volume: VolumeIndex, disk: DiskIndex, state: MemberState) -> bool {
        let entry = self.entry(disk);
        let Some(at) = self.record(volume) else {
            return false;
        };
        let raw = self.mpb.raw();
        let map = raw.map_at(at, Which::First);
        let mut any = false;
        let Some(model) = self.set.volumes.get_mut(usize::from(volume)) else {
            return false;
        };
        for (slot, member) in (0u16..).zip(model.members.iter_mut()) {
            let named =
                entry.is_some_and(|entry| raw.order(map, slot) & map::DISK == u32::from(entry));
            let kept = member.disk.is_none() && named;
            if member.disk == Some(disk) || kept {
                member.disk = Some(disk);
                member.state = state;
                any = true;
            }
        }
        any
    }

    /// Marks an entry as that of a disk that failed, or is gone.
    fn mark_entry(&mut self, entry: u8, gone: bool) {
        let raw = self.mpb.raw();
        let (old, status) = (raw.serial(entry), raw.status(entry));
        let scsi = raw.u32(raw.disk_at(entry) + disk::SCSI);
        let done = status & disk::FAILED != 0 && (scsi == disk::GONE || !gone);
        if done {
            return;
        }
        let (serial, scsi) = match gone {
            true => (serial::mark_gone(&old), disk::GONE),
            false => (serial::mark_failed(&old), scsi),
        };
        self.mpb
            .set_disk(entry, &serial, scsi, status | disk::FAILED);
        self.changed = true;
    }

    /// Refuses when `disk` holds data that is in use.
    pub(super) fn check_idle(&self, disk: DiskIndex) -> Checked {
        let busy = self
            .set
            .memberships(disk)
            .find(|(_, _, member)| !is_empty(member));
        match busy {
            Some((volume, slot, _)) => Err(reason!(
                EBUSY,
                "disk {disk} is member {slot} of volume {volume}: fail it first"
            )),
            None => Ok(()),
        }
    }

    /// `disk` holds what it should in volumes without redundancy.
    pub(super) fn reinstate(&mut self, disk: DiskIndex) {
        let lone = |model: &&mut Volume| !model.deleted && !model.shape.level.is_redundant();
        for model in self.set.volumes.iter_mut().filter(lone) {
            for member in model.members.iter_mut().filter(|m| m.disk == Some(disk)) {
                member.state = MemberState::InSync;
            }
        }
    }

    /// Takes `disk` out of every volume whose lost member it was.
    pub(super) fn forget(&mut self, disk: DiskIndex) {
        for model in self.set.volumes.iter_mut().filter(|model| !model.deleted) {
            let lost = |member: &&mut Member| member.disk == Some(disk) && is_empty(member);
            for member in model.members.iter_mut().filter(lost) {
                member.disk = None;
                member.state = MemberState::Missing;
            }
        }
    }

    /// Whether some volume names an entry.
    pub(super) fn is_named(&self, entry: u8) -> bool {
        let raw = self.mpb.raw();
        (0..raw.volumes()).any(|index| {
            let at = raw.volume_at(index);
            [Which::First, Which::Second].into_iter().any(|which| {
                let map = raw.map_at(at, which);
                (0..u16::from(raw.u8(map + map::MEMBERS)))
                    .any(|slot| raw.order(map, slot) & map::DISK == u32::from(entry))
            })
        })
    }

    /// The disk with a label: its serial number as it is, or, when none has that, as it is once the disk is lost.
    pub(super) fn disk_with_label(&self, label: &Text<32>) -> Option<DiskIndex> {
        let only = |is_it: &dyn Fn(&Text<32>) -> bool| {
            let mut those = self.set.live_disks().filter(|(_, disk)| is_it(&disk.label));
            let disk = those.next().map(|(index, _)| index);
            let others = those.count();
            (disk, others)
        };
        match only(&|ours| ours == label) {
            (None, _) => {}
            (disk, others) => return disk.filter(|_| others == 0),
        }
        let wanted = serial::of_label(label);
        let (disk, others) = only(&|ours| {
            let ours = serial::of_label(ours);
            serial::was(&ours, &wanted) || serial::was(&wanted, &ours)
        });
        disk.filter(|_| others == 0)
    }

    /// Whether a volume names a disk that works in a slot that is empty.
    pub(super) fn has_kept_place(&self, disk: DiskIndex) -> bool {
        let works = self
            .live_disk(disk)
            .is_ok_and(|model| model.state == DiskState::Online && model.facts.is_some());
        let Some(entry) = self.entry(disk).filter(|_| works && self.frozen.is_none()) else {
            return false;
        };
        let raw = self.mpb.raw();
        self.set.live_volumes().any(|(index, model)| {
            self.record(index).is_some_and(|at| {
                let map = raw.map_at(at, Which::First);
                (0u16..).zip(model.members.iter()).any(|(slot, member)| {
                    member.disk.is_none() && raw.order(map, slot) & map::DISK == u32::from(entry)
                })
            })
        })
    }

    /// Where the last member ends that an entry has a slot of, with its log.
    pub(super) fn named_end(&self, entry: u8) -> Option<u64> {
        let raw = self.mpb.raw();
        let ends = self.set.live_volumes().filter_map(|(index, model)| {
            let map = raw.map_at(self.record(index)?, Which::First);
            let named = (0..model.shape.members)
                .any(|slot| raw.order(map, slot) & map::DISK == u32::from(entry));
            let (_, end) = self.volume_stretch(index)?;
            named.then_some(end)
        });
        ends.max()
    }

    /// Takes an entry out of the table.
    pub fn drop_entry(&mut self, entry: u8) {
        self.mpb.drop_disk(entry);
        for meta in self.disks.iter_mut() {
            meta.entry = match meta.entry {
                Some(index) if index == entry => None,
                Some(index) if index > entry => Some(index - 1),
                other => other,
            };
        }
        self.changed = true;
    }

    /// Takes entries out that no volume names any more. Disks that are here and work become spares; with `all` also those of
    /// others, which are not known to the set any more, and of spares that firmware keeps in the table.
    #[inline(never)]
    pub fn drop_unnamed(&mut self, all: bool, context: &Context, generation: u32) -> Checked {
        for entry in (0..self.mpb.raw().disks()).rev() {
            let disk = self.disk_of_entry(u32::from(entry));
            let meta = disk.and_then(|disk| self.disk_meta(disk));
            let works = meta.is_some_and(|meta| meta.home.is_some());
            let is_wanted = all || works && !self.is_spare_entry(entry);
            if self.is_named(entry) || !is_wanted {
                continue;
            }
            if let Some(disk) = disk {
                // Before the next one has its number. The log becomes shorter: that does not fail.
                self.forget_bad_ranges(disk)?;
            }
            self.drop_entry(entry);
            if let Some(disk) = disk {
                self.unlist(disk, context, generation);
            }
        }
        Ok(())
    }

    /// What becomes of a disk whose entry was taken out.
    fn unlist(&mut self, disk: DiskIndex, context: &Context, generation: u32) {
        self.forget(disk);
        let here = self.disk_meta(disk).is_some_and(|meta| meta.home.is_some());
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = match (here, model.facts.is_some()) {
                (true, _) => DiskState::Online,
                (false, true) => DiskState::Stale,
                (false, false) => DiskState::Removed,
            };
        }
        if here {
            let family = random_number(context, 0x5350_0000 + u64::from(disk));
            self.fill_own(disk, family, generation);
        }
        self.refresh_role(disk);
    }

    /// [`crate::model::Event::DiskRemoved`].
    #[inline(never)]
    pub fn disk_removed(&mut self, disk: DiskIndex) -> Checked {
        let present = self.live_disk(disk)?.facts.is_some();
        self.check_idle(disk)?;
        self.forget_bad_ranges(disk)?;
        self.forget(disk);
        if let Some(entry) = self.entry(disk) {
            if self.is_named(entry) {
                self.mark_entry(entry, true);
                for volume in 0..self.set.volumes.len() {
                    self.refresh_volume(volume as VolumeIndex)?;
                }
            } else {
                self.drop_entry(entry);
            }
        }
        if let Some(meta) = self.disk_meta_mut(disk) {
            // The entry stays behind, for the slots that name it; it is nobody's.
            meta.entry = None;
            meta.home = None;
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = DiskState::Removed;
            model.role = DiskRole::Unused;
        }
        if present {
            self.leaving = Some(disk);
        }
        Ok(())
    }
}
