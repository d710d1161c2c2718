// SPDX-License-Identifier: GPL-2.0

//! Disks that have more than one entry in the table of disks, and rebuilding bits that were left behind.
//!
//! When mdmon takes a lost disk out of the table, others move up, and of the entries left over at the end it
//! erases the GUID, not the reference. It counts such an entry as one of that disk's: its rebuilding bit may be
//! the only one that the disk has (`docs/formats/ddf.md`, section 13). The worst of the states counts. Entries
//! are kept as they were found until something happens to the disk; then all of them say the same.

use super::assemble::Reader;
use super::layout::*;
use super::model::volume_state;
use super::set::DdfSet;
use super::tables;
use crate::model::{Checked, DiskIndex, Member, MemberState, VolumeIndex};
use kernel::prelude::*;

impl DdfSet {
    /// The entries of `disk` in the disk table: one, unless somebody left more.
    fn pd_entries_of(&self, disk: DiskIndex) -> impl Iterator<Item = u16> + '_ {
        let layout = self.layout;
        self.disk_meta(disk)
            .filter(|meta| meta.entry.is_some())
            .into_iter()
            .flat_map(move |meta| {
                tables::entries_of(&self.pd, layout.endian, layout.pd_entries, meta.reference)
            })
    }

    /// Another entry of `disk` than its own.
    fn twin_entry(&self, disk: DiskIndex) -> Option<u16> {
        let own = self.disk_meta(disk)?.entry;
        self.pd_entries_of(disk).find(|&index| Some(index) != own)
    }

    /// What `state` says of the entry of `disk`; the worst, where it has several.
    pub fn disk_bits(
        &self,
        disk: DiskIndex,
        state: impl Fn(&tables::Entry<'_>) -> u16,
    ) -> Option<u16> {
        let layout = self.layout;
        let meta = self.disk_meta(disk).filter(|meta| meta.entry.is_some())?;
        tables::worst_state(
            &self.pd,
            layout.endian,
            layout.pd_entries,
            meta.reference,
            state,
        )
    }

    /// State bits that the table has for `disk`.
    pub fn disk_state(&self, disk: DiskIndex) -> Option<u16> {
        self.disk_bits(disk, |entry| entry.disk_state())
    }

    /// Type bits that the table has for `disk`; 0 when it is not listed.
    pub fn disk_type(&self, disk: DiskIndex) -> u16 {
        self.pd_entries_of(disk)
            .map(|index| tables::entry(&self.pd, self.layout.endian, index).disk_type())
            .fold(0, |all, bits| all | bits)
    }

    /// Takes all entries of a disk but its own out of the disk table.
    pub fn drop_twins(&mut self, disk: DiskIndex) {
        let (endian, entries) = (self.layout.endian, self.layout.pd_entries);
        while let Some(entry) = self.twin_entry(disk) {
            if tables::entry(&self.pd, endian, entry).used() {
                self.drop_entry(entry);
                continue;
            }
            tables::entry_mut(&mut self.pd, endian, entry).erase();
            // mdmon counts it.
            let used = tables::used(&self.pd, endian, entries);
            let count = tables::count(&self.pd, endian).saturating_sub(1);
            tables::set_count(&mut self.pd, endian, count.max(used));
            self.touch_entry(Section::Disks, entry);
        }
    }

    /// An entry of the disk table that nothing is in: no second one of a disk either.
    pub fn room_for_disk(&self) -> Option<u16> {
        let listed = |reference| {
            let mut known = self.disks.iter().filter(|meta| meta.entry.is_some());
            known.any(|meta| meta.reference == reference)
        };
        (0..self.layout.pd_entries)
            .map(|index| (index, tables::entry(&self.pd, self.layout.endian, index)))
            .find(|(_, entry)| !entry.used() && !listed(entry.reference()))
            .map(|(index, _)| index)
    }

    /// Takes the rebuilding bit from disks that are in sync with all their volumes. Beside an optimal volume
    /// it means nothing and is left alone, but not beside one that has lost a member.
    pub fn end_stale_rebuilds(&mut self) {
        for index in 0..self.set.disks.len() {
            let Ok(disk) = u16::try_from(index) else {
                break;
            };
            let marked = self
                .disk_state(disk)
                .is_some_and(|bits| bits & pde::REBUILDING != 0);
            let member = |state: fn(&MemberState) -> bool| {
                self.set
                    .memberships(disk)
                    .any(|(_, _, member)| state(&member.state))
            };
            let in_sync = member(|state| matches!(state, MemberState::InSync));
            let filled = member(|state| matches!(state, MemberState::Rebuilding { .. }));
            if marked && in_sync && !filled {
                self.edit_pde(disk, |kind, state| {
                    (kind, (state & !pde::REBUILDING) | pde::ONLINE)
                });
            }
        }
    }
}

impl Reader<'_> {
    /// A second entry that says rebuilding may have been left behind long ago. So it was when the volume,
    /// which counts as working, could not have worked without the disk: by what the tables say of the
    /// others, wherever they are now.
    #[inline(never)]
    pub fn twin_rebuilt(&mut self, index: VolumeIndex) -> Checked {
        let works = self.set.vde(index).is_some_and(|entry| {
            matches!(
                entry.volume_state() & vde::STATE_MASK,
                vde::DEGRADED | vde::PARTIAL
            )
        });
        let Some(volume) = self.set.set.volume(index).filter(|_| works) else {
            return Ok(());
        };
        let mut recorded: KVec<Member> = KVec::with_capacity(volume.members.len(), GFP_KERNEL)?;
        for member in volume.members.iter() {
            let bits = member.disk.and_then(|disk| self.set.disk_state(disk));
            let state = match bits {
                Some(bits) if bits & (pde::FAILED | pde::MISSING) != 0 => MemberState::Failed,
                Some(bits) if bits & pde::REBUILDING != 0 => {
                    MemberState::Rebuilding { done_sectors: 0 }
                }
                Some(bits) if bits & pde::ONLINE != 0 => MemberState::InSync,
                Some(_) => MemberState::Failed,
                None => MemberState::Missing,
            };
            recorded.push(Member { state, ..*member }, GFP_KERNEL)?;
        }
        if volume_state(&volume.shape, &recorded) != vde::FAILED {
            return Ok(());
        }
        for slot in 0..recorded.len() {
            let disk = recorded.get(slot).and_then(|member| member.disk);
            let by_twin = disk.is_some_and(|disk| {
                let own = self.set.pde(disk).map_or(0, |entry| entry.disk_state());
                own & pde::REBUILDING == 0
            });
            let member = self.set.set.volumes.get_mut(usize::from(index));
            let member = member.and_then(|volume| volume.members.get_mut(slot));
            if let Some(member) = member.filter(|_| by_twin) {
                if matches!(member.state, MemberState::Rebuilding { .. }) {
                    member.state = MemberState::InSync;
                }
            }
        }
        Ok(())
    }
}
