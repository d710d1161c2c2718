// SPDX-License-Identifier: GPL-2.0

//! What may be done with the volumes that were read: the checks that need all volumes and the states of
//! all disks.

use super::assemble::Reader;
use super::layout::*;
use super::log_place::is_ours;
use super::model::capacity_sectors;
use super::probe::{CopyView, Found};
use super::read_volumes::{candidate, recorded_state};
use super::set::VolumeMeta;
use super::tables;
use crate::model::{Access, Checked, DiskIndex, DiskState, MemberState, Slot, Volume, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

impl Reader<'_> {
    /// Disks that are here and neither online nor failed by their entries have failed where a volume of theirs is not
    /// optimal: a controller took them offline, and may have written without them. Beside optimal volumes it means nothing.
    #[inline(never)]
    pub fn fail_offline(&mut self) -> Checked {
        let mut offline = KVec::new();
        for index in 0..self.set.set.disks.len() {
            let Ok(disk) = u16::try_from(index) else {
                break;
            };
            let missed = |volume| {
                let state = self.set.vde(volume).map(|entry| entry.volume_state());
                state.is_some_and(|state| state & vde::STATE_MASK != vde::OPTIMAL)
            };
            let mut members = self.set.set.memberships(disk);
            if self.set.is_offline(disk) && members.any(|(volume, _, _)| missed(volume)) {
                offline.push(disk, GFP_KERNEL)?;
            }
        }
        for &disk in offline.iter() {
            self.set_failed(disk)?;
        }
        Ok(())
    }

    /// A disk counts as failed. What is recorded of its volumes is left alone: it is not certain yet that they are understood.
    fn set_failed(&mut self, disk: DiskIndex) -> Checked {
        self.set
            .edit_pde(disk, |kind, state| (kind, state | pde::FAILED));
        let set = &mut self.set.set;
        for volume in set.volumes.iter_mut() {
            for member in volume.members.iter_mut() {
                if member.disk == Some(disk) {
                    member.state = MemberState::Failed;
                }
            }
        }
        let Some(model) = set.disks.get_mut(usize::from(disk)) else {
            return Ok(());
        };
        model.state = DiskState::Failed;
        let label = model.label;
        self.note(format_args!(
            "disk {label} was taken offline: it counts as failed"
        ))
    }

    /// Second look, once all volumes and all disks' states are known.
    pub fn judge_volumes(&mut self) -> Checked {
        for index in 0..self.set.set.volumes.len() {
            let Ok(index) = u16::try_from(index) else {
                break;
            };
            self.spare_rebuilt(index);
            self.twin_rebuilt(index)?;
            let verdict = self.judge(index);
            let Some(volume) = self.set.set.volumes.get_mut(usize::from(index)) else {
                break;
            };
            match (&volume.access, verdict) {
                (Access::Refused(_), _) | (_, Access::ReadWrite) => {}
                (Access::ReadOnly(_), Access::ReadOnly(_)) => {}
                (_, verdict) => volume.access = verdict,
            }
        }
        self.cut_sizes()
    }

    /// A disk's entry says that it is rebuilding, but not in which of its volumes: one that counts as
    /// optimal has been rebuilt.
    fn spare_rebuilt(&mut self, index: VolumeIndex) {
        let optimal = self
            .set
            .vde(index)
            .is_some_and(|entry| entry.volume_state() & vde::STATE_MASK == vde::OPTIMAL);
        let Some(volume) = self.set.set.volumes.get_mut(usize::from(index)) else {
            return;
        };
        let whole = volume.members.iter().all(|m| {
            matches!(
                m.state,
                MemberState::InSync | MemberState::Rebuilding { .. }
            )
        });
        if optimal && whole {
            for member in volume.members.iter_mut() {
                member.state = MemberState::InSync;
            }
        }
    }

    /// What may be done with a volume whose records could be read.
    #[inline(never)]
    fn judge(&self, index: VolumeIndex) -> Access {
        let Some(volume) = self.set.set.volume(index) else {
            return Access::ReadWrite;
        };
        let entry_state = self.set.vde(index).map_or(0, |entry| entry.volume_state());
        let policy = self.set.vde(index).map_or(0, |entry| entry.volume_init()) & vde::ACCESS_MASK;
        if let Err(reason) = self.check_members(index, volume) {
            return Access::Refused(reason);
        }
        if let Err(reason) = self.check_split(index, volume) {
            return Access::Refused(reason);
        }
        if let Err(reason) = check_entry(entry_state, policy) {
            return Access::Refused(reason);
        }
        if !self.set.quirks.adaptec && volume.size_sectors > capacity_sectors(&volume.shape) {
            return Access::Refused(reason!(
                EINVAL,
                "a size of {} sectors does not fit into the members' {}",
                volume.size_sectors,
                capacity_sectors(&volume.shape)
            ));
        }
        if !self.intact {
            return Access::ReadOnly(reason!(
                EINVAL,
                "the checksum of a table is wrong on every copy"
            ));
        }
        if policy != 0 {
            return Access::ReadOnly(reason!(EROFS, "its metadata says read-only"));
        }
        Access::ReadWrite
    }

    /// Members must lie inside their disks, apart from metadata and from each other.
    #[inline(never)]
    fn check_members(&self, index: VolumeIndex, volume: &Volume) -> Checked {
        for member in volume.members.iter() {
            let Some(disk) = member.disk else { continue };
            let Some(end) = member
                .offset_sectors
                .checked_add(volume.shape.member_sectors)
            else {
                return Err(reason!(EINVAL, "a member ends beyond any disk"));
            };
            let Some(at) = self.found_of(disk) else {
                continue;
            };
            let bound = self.metadata_start(at);
            if end > bound {
                return Err(reason!(
                    EINVAL,
                    "the member on disk {disk} ends at sector {end}, behind the start of metadata \
                     at {bound}"
                ));
            }
            if self.found.get(at).is_some_and(has_bad_blocks) {
                return Err(reason!(
                    EOPNOTSUPP,
                    "disk {disk} has a bad block log: some of its data lies elsewhere"
                ));
            }
            for (other, _, theirs) in self.set.set.memberships(disk) {
                let Some(sectors) = self.set.set.volume(other).map(|v| v.shape.member_sectors)
                else {
                    continue;
                };
                let their_end = theirs.offset_sectors.saturating_add(sectors);
                let apart = end <= theirs.offset_sectors || their_end <= member.offset_sectors;
                if other != index && !apart {
                    return Err(reason!(EINVAL, "it overlaps volume {other} on disk {disk}"));
                }
            }
        }
        Ok(())
    }

    /// Two disks that each say that the other one is lost were used apart from each other, unless what one says is of an
    /// update that was cut.
    #[inline(never)]
    fn check_split(&self, index: VolumeIndex, volume: &Volume) -> Checked {
        let Some(meta) = self.set.volume_meta(index) else {
            return Ok(());
        };
        let lost = |bits: u16| bits & (pde::FAILED | pde::MISSING) != 0;
        for disk in self.found.iter() {
            let Some(copy) = disk.best() else { continue };
            let one = copy.reference();
            // It was a member by its own account, and works by its own account only.
            let member = (0..copy.layout.config_slots)
                .any(|slot| candidate(disk, copy, slot, &meta.guid, false).is_some());
            let here = self.by_reference(one);
            let bits = here.and_then(|disk| self.set.disk_state(disk));
            let healthy_here = bits.is_some_and(|bits| !lost(bits));
            if !member || healthy_here || recorded_state(copy, one).is_none_or(lost) {
                continue;
            }
            for (slot, member) in (0u16..).zip(volume.members.iter()) {
                let Some(other) = member.disk else { continue };
                let Some(theirs) = self.set.disk_meta(other) else {
                    continue;
                };
                if self.came_later(disk, copy, meta, slot, theirs.reference) {
                    continue;
                }
                let here = self.found_of(other).is_some();
                let healthy = self.set.disk_state(other).is_some_and(|bits| !lost(bits));
                let calls_lost =
                    |copy: &CopyView<'_>| recorded_state(copy, theirs.reference).is_some_and(lost);
                let rests_on_it = state_before(disk).is_none_or(calls_lost);
                if here && healthy && calls_lost(copy) && rests_on_it {
                    return Err(reason!(
                        EINVAL,
                        "disks {one:08x} and {:08x} were used apart: each calls the other one lost",
                        theirs.reference
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether the disk called `reference` was given member `slot` after the account of `copy` ends: by that account the
    /// disk is a spare, and the place is one's that is lost here. Who misses no more than a spare (one that was away when
    /// power went) did not use the volume without any of its members.
    fn came_later(
        &self,
        disk: &Found<'_>,
        copy: &CopyView<'_>,
        meta: &VolumeMeta,
        slot: Slot,
        reference: u32,
    ) -> bool {
        let width = meta.width.max(1);
        let (span, position) = (slot / width, slot % width);
        let own = (0..copy.layout.config_slots)
            .filter_map(|at| candidate(disk, copy, at, &meta.guid, false))
            .find(|own| u16::from(own.record.span()) == span);
        let Some(own) = own else { return false };
        let holder = own.record.reference(position);
        let is_member = (0..width).any(|at| own.record.reference(at) == reference);
        let bits = self
            .by_reference(holder)
            .and_then(|disk| self.set.disk_state(disk));
        let kind = tables::disk_type(
            copy.section(Section::Disks),
            copy.layout.endian,
            copy.layout.pd_entries,
            reference,
        );
        let is_spare = kind & (pde::GLOBAL_SPARE | pde::DEDICATED_SPARE) != 0;
        is_spare && !is_member && bits.is_some_and(|bits| bits & (pde::FAILED | pde::MISSING) != 0)
    }

    /// Adaptec's sizes may exceed what whole strips hold.
    fn cut_sizes(&mut self) -> Checked {
        let is_adaptec = self.set.quirks.adaptec;
        for index in 0..self.set.set.volumes.len() {
            let Some(volume) = self.set.set.volumes.get_mut(index) else {
                break;
            };
            if volume.shape.members == 0 {
                continue;
            }
            let capacity = capacity_sectors(&volume.shape);
            let adaptec = is_adaptec && volume.size_sectors > capacity;
            if volume.size_sectors == 0 || adaptec {
                volume.size_sectors = capacity;
                crate::model::note(
                    &mut self.set.set.notes,
                    format_args!("volume {index}: size taken from its members"),
                )?;
            }
        }
        Ok(())
    }
}

/// The state before that of a disk of EMD's own sets, where its last update was cut: the disk has that whole still, so
/// not all disks had the new one, and nothing rests on it (`plan.rs`).
fn state_before<'a>(disk: &'a Found<'_>) -> Option<&'a CopyView<'a>> {
    let copy = disk.best().filter(|copy| is_ours(&copy.head.guid))?;
    let before = copy.head.sequence.checked_sub(1)?;
    disk.copy(disk.with_generation(before)?)
}

fn has_bad_blocks(disk: &Found<'_>) -> bool {
    disk.best().is_some_and(|copy| {
        let log = copy.section(Section::BadBlocks);
        tables::bad_blocks(log, copy.layout.endian) == Some(true)
    })
}

fn check_entry(state: u8, policy: u8) -> Checked {
    if state & vde::MORPHING != 0 {
        return Err(reason!(EBUSY, "it is being migrated to another shape"));
    }
    if state & vde::STATE_MASK == vde::OFFLINE {
        return Err(reason!(
            EACCES,
            "its metadata says that it was taken offline"
        ));
    }
    if policy == vde::ACCESS_BLOCKED {
        return Err(reason!(EACCES, "its metadata says that access is blocked"));
    }
    Ok(())
}
