// SPDX-License-Identifier: GPL-2.0

//! What an array is made of, as the metadata has it, and how it is made.
//!
//! The inner lock is held while the parts are looked up, and not while the array is made of them: that takes
//! locks of the kernel (work queues', bio pools') under which others wait for memory, which may be written
//! to an array of this very set.

use super::managed::Bell;
use super::shared::{now, Number};
use super::state::{Asked, Inner, Running};
use crate::array::{Array, ArrayParams, MemberSlot};
use crate::model::{Access, Checked, Consistency, CrashPolicy, MemberState, VolumeIndex};
use crate::personalities::bad;
use crate::personalities::rebuild::{Late, Marks, Trust};
use crate::personalities::regions::Regions;
use crate::personalities::{Geometry, Mask, Stretches};
use crate::reason;
use crate::uapi::VolumeState;
use kernel::prelude::*;

/// What is going to run of a volume.
pub struct Plan {
    params: ArrayParams,
    number: Number,
    present: Present,
    asked: Option<Asked>,
    trust: Trust,
    resync_from_sectors: Option<u64>,
}

/// Members of a volume that its array has, as the metadata and the disks are at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Present {
    /// Slots in sync.
    pub in_sync: Mask,
    /// Slots being rebuilt.
    pub rebuilding: Mask,
}

impl Plan {
    /// The members that it counts on.
    pub fn present(&self) -> Present {
        self.present
    }

    /// Makes the array. Not with the inner lock held.
    #[inline(never)]
    pub fn build(self) -> Checked<Running> {
        let Present {
            in_sync,
            rebuilding,
        } = self.present;
        let read_only = self.params.read_only;
        let shown = KVec::with_capacity(self.params.members.len(), GFP_KERNEL)?;
        Ok(Running {
            array: Array::new(self.params)?,
            disk: None,
            number: self.number,
            attached: in_sync.union(rebuilding),
            shown,
            stopping: false,
            read_only,
            needs_resync: self.resync_from_sectors.is_some(),
            resync_all: false,
            resync_from_sectors: self.resync_from_sectors.unwrap_or(0),
            late: Late::NONE,
            trust: self.trust,
            withheld: Mask::EMPTY,
            unfit: Mask::EMPTY,
            asked: self.asked,
            paused: None,
            turn: None,
            retry_at: now(),
            told_per_mille: 0,
            checkpoint_at: now(),
            state: VolumeState::Inactive,
            unannounced: false,
            complained: false,
        })
    }
}

impl Inner {
    /// The members of a volume that an array may have now.
    pub fn present(&self, volume: VolumeIndex) -> Present {
        let in_sync = self.usable(volume);
        let mut rebuilding = Mask::EMPTY;
        let model = self.model().and_then(|set| set.volume(volume));
        let members = model.map_or(&[][..], |model| &model.members);
        for (slot, member) in (0u16..).zip(members) {
            let is_here = member.disk.is_some_and(|disk| self.is_online(disk));
            if is_here && matches!(member.state, MemberState::Rebuilding { .. }) {
                rebuilding = rebuilding.with(slot);
            }
        }
        Present {
            in_sync,
            rebuilding,
        }
    }

    /// What the array of a volume is made of.
    #[inline(never)]
    pub fn plan(&self, index: VolumeIndex, number: Number, bell: KBox<Bell>) -> Checked<Plan> {
        let present = self.present(index);
        let set = self.known()?;
        let Some(volume) = set.volume(index) else {
            return Err(reason!(ENOENT, "there is no volume {index}"));
        };
        if !volume.stretches.is_empty() {
            return self.plan_stretched(index, number, bell);
        }
        let geometry = Geometry::new(&volume.shape, volume.size_sectors)?;
        let redundant = volume.shape.level.is_redundant();
        let regions = volume.regions.as_ref().filter(|_| redundant);
        let regions = regions.map(Regions::new).transpose()?;
        // Who wants nothing done about crashes takes redundancy as right after one.
        let is_trusted = volume.crash_policy == CrashPolicy::None;
        let trust = match volume.consistency {
            Consistency::Dirty if is_trusted => Trust::FULL,
            consistency => Trust::at_start(&geometry, consistency, regions.as_ref()),
        };
        let mut members = KVec::with_capacity(volume.members.len(), GFP_KERNEL)?;
        let mut rebuilt = Marks::NONE;
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let attached = present.in_sync.union(present.rebuilding).contains(slot);
            let disk = member.disk.filter(|_| attached);
            let device = disk.and_then(|disk| self.device(disk));
            let done_sectors = match member.state {
                MemberState::Rebuilding { done_sectors } if attached => trust.of(done_sectors),
                _ => 0,
            };
            if let Some(device) = device {
                let end = member
                    .offset_sectors
                    .checked_add(geometry.used_member_sectors());
                if end.is_none_or(|end| end > device.size_sectors()) {
                    return Err(reason!(
                        EINVAL,
                        "the member in slot {slot} ends beyond disk {}",
                        device.dev()
                    ));
                }
            }
            let member = device.map(|device| MemberSlot {
                device: device.clone(),
                offset_sectors: member.offset_sectors,
                log_sector: self.hole_ring_sector(index, slot),
            });
            members.push(member, GFP_KERNEL)?;
            rebuilt.push(done_sectors)?;
        }
        let read_only = matches!(volume.access, Access::ReadOnly(_));
        let hole = self.hole_params(index).filter(|_| !read_only);
        if hole.is_some() {
            check_log_places(&members)?;
        }
        let unsynced_from = match volume.consistency {
            Consistency::Initialising { done_sectors } if redundant => Some(done_sectors),
            Consistency::Dirty if redundant && !is_trusted => Some(0),
            _ => None,
        };
        let params = ArrayParams {
            number: number.get(),
            geometry,
            stretches: None,
            members,
            readable: present.in_sync,
            rebuilding: present.rebuilding,
            rebuilt,
            unsynced_from,
            // Where nothing has to agree nothing has to be recorded. Where no disk took what had to be
            // recorded before it starts, the first write waits for that, as for the mark.
            dirty: !redundant || volume.consistency == Consistency::Dirty && !self.unwritten,
            regions,
            bad: bad::known(
                set,
                volume.shape.level,
                &volume.members,
                volume.shape.member_sectors,
            )?,
            bad_unkept: bad::unkept(&volume.members, |disk| {
                let metadata = self.metadata.as_ref();
                metadata.is_some_and(|metadata| metadata.keeps_bad_ranges(disk))
            }),
            hole,
            block_bytes: volume.block_bytes,
            read_only,
            notify: bell,
        };
        let scrub = volume.scrub.filter(|_| redundant && !read_only);
        Ok(Plan {
            params,
            number,
            present,
            asked: scrub.map(Asked::recorded),
            trust,
            resync_from_sectors: unsynced_from,
        })
    }

    /// As above, for a volume that lies in more than one shape: it is read from all of its members, each
    /// where the stretches say, or not at all.
    #[inline(never)]
    fn plan_stretched(
        &self,
        index: VolumeIndex,
        number: Number,
        bell: KBox<Bell>,
    ) -> Checked<Plan> {
        let set = self.known()?;
        let Some(volume) = set.volume(index) else {
            return Err(reason!(ENOENT, "there is no volume {index}"));
        };
        let read_only = matches!(volume.access, Access::ReadOnly(_));
        let geometry = Geometry::new(&volume.shape, volume.size_sectors)?;
        let (stretches, table) = Stretches::new(volume)?;
        let mut members = KVec::with_capacity(table.len(), GFP_KERNEL)?;
        for (slot, member) in (0u16..).zip(table.iter()) {
            let device = member
                .disk
                .filter(|&disk| self.is_online(disk))
                .and_then(|disk| self.device(disk));
            let Some(device) = device else {
                return Err(reason!(
                    ENODEV,
                    "it lies in several shapes, and a member is missing"
                ));
            };
            let end = member
                .offset_sectors
                .checked_add(stretches.member_end(slot));
            if end.is_none_or(|end| end > device.size_sectors()) {
                return Err(reason!(
                    EINVAL,
                    "a member ends beyond disk {}",
                    device.dev()
                ));
            }
            let member = MemberSlot {
                device: device.clone(),
                offset_sectors: member.offset_sectors,
                log_sector: 0,
            };
            members.push(Some(member), GFP_KERNEL)?;
        }
        let readable = Mask::all(table.len() as u16);
        let params = ArrayParams {
            number: number.get(),
            geometry,
            stretches: Some(stretches),
            members,
            readable,
            rebuilding: Mask::EMPTY,
            // Nothing is rebuilt in several shapes.
            rebuilt: Marks::NONE,
            unsynced_from: None,
            dirty: true,
            regions: None,
            bad: bad::known(set, volume.shape.level, &table, u64::MAX)?,
            bad_unkept: Mask::EMPTY,
            hole: None,
            block_bytes: volume.block_bytes,
            read_only,
            notify: bell,
        };
        Ok(Plan {
            params,
            number,
            present: self.present(index),
            asked: None,
            trust: Trust::FULL,
            resync_from_sectors: None,
        })
    }
}

/// Refuses where a member of an array with a log has no place for it: its entries would be written over what is at the start
/// of the disk.
fn check_log_places(members: &[Option<MemberSlot>]) -> Checked {
    let mut members = (0u16..).zip(members.iter());
    let without = members.find(|(_, member)| member.as_ref().is_some_and(|at| at.log_sector == 0));
    match without {
        Some((slot, _)) => Err(super::hole::no_log_place(slot)),
        None => Ok(()),
    }
}
