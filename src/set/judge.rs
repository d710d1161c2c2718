// SPDX-License-Identifier: GPL-2.0

//! What a disk that comes holds, beside what those hold that are here: old copies, what the set does not know, or what a
//! volume waits for.

use super::managed::{assemble, ManagedSet};
use super::state::Inner;
use crate::block::bdev::{BlockDevice, Dev};
use crate::metadata::MetadataSet;
use crate::model::{
    Access, Checked, DiskIndex, DiskRole, DiskState, Member, MemberState, Set, SpareRole, Text,
    Volume, VolumeIndex,
};
use crate::personalities::{for_level, Health, Mask};
use crate::reason;
use core::mem::discriminant;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What the metadata of an arrived disk is to those of the set.
pub(super) enum Standing {
    /// It may count as a blank one.
    Old,
    /// It knows what the set does not.
    Apart,
    /// This volume, without redundancy, lost it.
    Lone,
    /// It is of a volume that lacks more than this disk.
    Early,
    /// With it a volume is complete, all of which is as this metadata has it.
    Complete(KBox<dyn MetadataSet>),
}

impl Inner {
    /// Whether what is on the disk `dev`, of which alone the set `alone` was made, is all there is of something: a volume
    /// cannot do without it, and has it no more.
    fn lacks_contents(&self, dev: Dev, alone: &Set) -> Checked<bool> {
        let Some((index, _)) = self.known_place(dev, alone)? else {
            return Ok(false);
        };
        let set = self.known()?;
        let mut places = set.memberships(index);
        let counts = places.any(|(_, _, member)| member.state == MemberState::InSync);
        let is_away = self.device(index).is_none_or(|device| device.is_gone());
        let is_needed = counts && self.is_needed(index) || set.irreplaceable(index).is_some();
        Ok(is_away && is_needed)
    }

    /// Which disk of the set the disk `dev` was, of which alone the set `alone` was made, and its state.
    pub(super) fn known_place(
        &self,
        dev: Dev,
        alone: &Set,
    ) -> Checked<Option<(DiskIndex, DiskState)>> {
        let label = alone
            .present_disk(dev.0)
            .map(|disk| disk.label)
            .ok_or_else(|| reason!(ENOENT, "the metadata of disk {dev} does not name it"))?;
        let place = self.disk_called(&label);
        let ours = self.known()?;
        Ok(place.and_then(|index| ours.disk(index).map(|disk| (index, disk.state))))
    }

    /// How the disk at `index`, which is `dev` and of which alone the set `alone` was made, stands to those that are here. It is the first of
    /// the `claimed`; the others are those that wait.
    #[inline(never)]
    pub(super) fn standing_of(
        &mut self,
        set: &ManagedSet,
        index: DiskIndex,
        dev: Dev,
        alone: &Set,
        claimed: &[Arc<BlockDevice>],
    ) -> Checked<Standing> {
        let Some(joint) = self.joined_with(set, dev, alone, claimed)? else {
            return Ok(Standing::Apart);
        };
        if self.volume_awaiting(dev, joint.set()).is_none() {
            let is_lone = self.known()?.irreplaceable(index).is_some();
            return Ok(match is_lone {
                true => Standing::Lone,
                false => Standing::Old,
            });
        }
        Ok(match self.may_be_adopted(joint.set(), claimed, true) {
            true => Standing::Complete(joint),
            false => Standing::Early,
        })
    }

    /// The set that the format makes of the disks that are here and of the `claimed`, of which the first, `dev`, alone makes
    /// the set `alone`; `None` when that one was used apart, and knows what the set does not.
    #[inline(never)]
    pub(super) fn joined_with(
        &mut self,
        set: &ManagedSet,
        dev: Dev,
        alone: &Set,
        claimed: &[Arc<BlockDevice>],
    ) -> Checked<Option<KBox<dyn MetadataSet>>> {
        // What is on the disks has to be what is known.
        self.catch_up(&set.shared)?;
        if self.calls_lost(alone) || self.knows_nobody(alone) {
            return Ok(None);
        }
        let joint = assemble(set.format, &self.read_all(set, claimed)?)?;
        let by_joint = joint.set().present_disk(dev.0);
        let is_turned_down = by_joint.is_none_or(|disk| disk.state == DiskState::Failed);
        let was_away = || {
            let disk = joint.set().disk_by_key(dev.0);
            disk.is_some_and(|disk| joint.may_have_been_away(disk))
        };
        // Those that the set has as failed are known as such; some formats say so of those that are missing as well.
        let is_news = match self.known_place(dev, alone).unwrap_or(None) {
            Some((_, DiskState::Failed)) => false,
            Some((_, DiskState::Missing)) => !was_away(),
            _ => true,
        };
        if self.is_outdone(joint.set()) || is_turned_down && is_news {
            return Ok(None);
        }
        Ok(Some(joint))
    }

    /// Refuses to have a disk of this very set, `claimed` and of which alone the set `alone` is made, used for something else
    /// when what it holds is wanted, or may be: with `force` only where a volume cannot do without it.
    #[inline(never)]
    pub(super) fn check_expendable(
        &mut self,
        set: &ManagedSet,
        alone: &Set,
        claimed: &Arc<BlockDevice>,
        force: bool,
    ) -> Checked {
        let dev = claimed.dev();
        match self.joined_with(set, dev, alone, core::slice::from_ref(claimed)) {
            Ok(Some(joint)) => self.check_not_awaited(dev, joint.set(), force)?,
            _ if force => {}
            Ok(None) => {
                return Err(reason!(
                    EEXIST,
                    "disk {dev} was used apart from the set, what it holds may be newer; use it by force to give that up"
                ))
            }
            Err(reason) => return Err(reason),
        }
        if self.lacks_contents(dev, alone).unwrap_or(false) {
            return Err(reason!(
                EBUSY,
                "disk {dev} is one of the set that a volume cannot do without: stop that volume, then scan"
            ));
        }
        let is_known = matches!(self.known_place(dev, alone), Ok(Some(_)));
        if force || is_known {
            return Ok(());
        }
        if self
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.names_lost_disks())
        {
            return Err(reason!(
                EEXIST,
                "disk {dev} carries {} metadata of this set, which does not know it: use it by force",
                set.format.name()
            ));
        }
        // Whoever it is: nobody may miss it.
        if let Some(volume) = self.volume_lacking() {
            return Err(reason!(
                EEXIST,
                "disk {dev} is of this set, and volume {volume} lacks members: use it by force if it is none of them"
            ));
        }
        if self.has_successor(dev, alone) {
            return Err(reason!(
                EEXIST,
                "disk {dev} calls itself a member of this set in place of another one: use it by force to give up what it holds"
            ));
        }
        Ok(())
    }

    /// The same of a disk that a volume waits for by the set `joint`, which is made of all.
    fn check_not_awaited(&self, dev: Dev, joint: &Set, force: bool) -> Checked {
        let Some(volume) = self.volume_awaiting(dev, joint) else {
            return Ok(());
        };
        if !force {
            return Err(reason!(
                EBUSY,
                "disk {dev} is a member of volume {volume}, which does not run: scan, so that it takes its place there; by force it is given up"
            ));
        }
        let is_another = |member: &Member| {
            let disk = member.disk.and_then(|disk| joint.disk(disk));
            let facts = disk.and_then(|disk| disk.facts);
            member.state == MemberState::InSync && facts.is_some_and(|facts| facts.key != dev.0)
        };
        let works = joint.volume(volume).is_some_and(|model| {
            let rest = (0u16..)
                .zip(model.members.iter())
                .filter(|(_, member)| is_another(member))
                .fold(Mask::EMPTY, |rest, (slot, _)| rest.with(slot));
            for_level(model.shape.level)
                .is_some_and(|level| level.health(&model.shape, rest) != Health::Failed)
        });
        match works {
            true => Ok(()),
            false => Err(reason!(
                EBUSY,
                "disk {dev} is one of the set that volume {volume} cannot do without: scan when its other disks are here, or delete that volume"
            )),
        }
    }

    /// A volume that cannot be started with the disks that are here, or of which that is not known.
    fn volume_lacking(&self) -> Option<VolumeIndex> {
        let set = self.model()?;
        let mut volumes = set.live_volumes();
        let lacking = volumes.find(|(index, volume)| {
            matches!(volume.access, Access::Refused(_))
                || self.running(*index).is_none()
                    && self.health(*index, self.usable(*index)) == Health::Failed
        });
        lacking.map(|(index, _)| index)
    }

    /// Whether a disk of which alone the set `alone` was made is a member by that in a place where ours has another one that
    /// works.
    fn has_successor(&self, dev: Dev, alone: &Set) -> bool {
        let (Some(ours), Some(disk)) = (self.model(), alone.disk_by_key(dev.0)) else {
            return false;
        };
        let mut places = alone.memberships(disk);
        places.any(|(index, slot, member)| {
            let theirs = alone.volume(index);
            let volume = ours
                .volume(index)
                .filter(|volume| theirs.is_some_and(|theirs| theirs.id == volume.id));
            let place = volume.and_then(|volume| volume.members.get(usize::from(slot)));
            member.state == MemberState::InSync
                && place.is_some_and(|place| {
                    place.state == MemberState::InSync
                        && place.disk.is_some_and(|disk| self.device(disk).is_some())
                })
        })
    }

    /// What the disk `dev` is a spare for, by the set `alone` that was made of it alone.
    pub(super) fn spare_for(&self, dev: Dev, alone: &Set) -> Option<SpareRole> {
        let volume = match alone.present_disk(dev.0)?.role {
            DiskRole::GlobalSpare => return Some(SpareRole::Global),
            DiskRole::DedicatedSpare(volume) => volume,
            DiskRole::Unused | DiskRole::Member => return None,
        };
        let id = alone.volume(volume)?.id;
        let mut ours = self.model()?.live_volumes();
        ours.find(|(_, volume)| volume.id == id)
            .map(|(index, _)| SpareRole::Dedicated(index))
    }

    /// Which disk of the set is the one that other disks' metadata calls `label`.
    fn disk_called(&self, label: &Text<32>) -> Option<DiskIndex> {
        self.metadata.as_ref()?.disk_called(label)
    }

    /// Whether a set made of one disk alone has a disk as failed that works here.
    fn calls_lost(&self, alone: &Set) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let mut lost = alone
            .live_disks()
            .filter(|(_, disk)| disk.state == DiskState::Failed && disk.facts.is_none());
        lost.any(|(_, lost)| {
            self.disk_called(&lost.label).is_some_and(|index| {
                let state = ours.disk(index).map(|disk| disk.state);
                state == Some(DiskState::Online) && self.device(index).is_some()
            })
        })
    }

    /// Whether a set made of one disk alone has a volume of ours in which nobody is where our members are: all of them were
    /// lost to that disk. (One of them may be new to it.)
    fn knows_nobody(&self, alone: &Set) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let mut volumes = ours.live_volumes();
        volumes.any(|(index, volume)| {
            let Some(theirs) = alone.volume(index).filter(|theirs| theirs.id == volume.id) else {
                return false;
            };
            let mut working = volume
                .members
                .iter()
                .zip(theirs.members.iter())
                .filter(|(member, _)| {
                    member.state == MemberState::InSync
                        && member.disk.is_some_and(|disk| self.device(disk).is_some())
                })
                .peekable();
            working.peek().is_some() && working.all(|(_, theirs)| theirs.disk.is_none())
        })
    }

    /// Whether the format, with all disks before it, does not count on those that work here any more.
    fn is_outdone(&self, joint: &Set) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let mut works = ours
            .live_disks()
            .filter(|(index, disk)| {
                disk.state == DiskState::Online && self.device(*index).is_some()
            })
            .filter_map(|(_, disk)| disk.facts);
        let is_left_out = works.any(|facts| {
            let disk = joint.present_disk(facts.key);
            disk.is_none_or(|disk| disk.state != DiskState::Online)
        });
        let is_refused = |volume: &Volume| matches!(volume.access, Access::Refused(_));
        let refused = |set: &Set| {
            let volumes = set.live_volumes();
            volumes.filter(|(_, volume)| is_refused(volume)).count()
        };
        is_left_out || refused(joint) > refused(ours)
    }

    /// The volume that does not run and has the disk `dev` as a member that is up to date, by `joint`: whoever recorded that it
    /// is lost would be newer.
    pub(super) fn volume_awaiting(&self, dev: Dev, joint: &Set) -> Option<VolumeIndex> {
        let disk = joint.disk_by_key(dev.0)?;
        let mut places = joint.memberships(disk).filter(|(volume, _, member)| {
            member.state == MemberState::InSync && self.running(*volume).is_none()
        });
        places.next().map(|(volume, _, _)| volume)
    }

    /// Whether `joint` can stand for the set: what runs is in it as it is here, and of the `arrived` disks all are up to
    /// date members of volumes that do not run, and, if they have to be `whole`, lack nothing any more.
    pub(super) fn may_be_adopted(
        &self,
        joint: &Set,
        arrived: &[Arc<BlockDevice>],
        whole: bool,
    ) -> bool {
        let Some(ours) = self.model() else {
            return false;
        };
        let is_same_disk = |at: DiskIndex| {
            let (Some(one), Some(other)) = (ours.disk(at), joint.disk(at)) else {
                return false;
            };
            self.disk_called(&other.label) == Some(at)
                && (self.device(at).is_none() || one.state == other.state)
        };
        let is_same_volume = |volume: VolumeIndex| {
            let (Some(one), Some(other)) = (ours.volume(volume), joint.volume(volume)) else {
                return ours.volume(volume).is_none() && joint.volume(volume).is_none();
            };
            one.id == other.id && (self.running(volume).is_none() || is_same_run(one, other))
        };
        let is_whole = |volume: VolumeIndex| {
            joint.volume(volume).is_some_and(|volume| {
                let mut members = volume.members.iter();
                members.all(|member| member.state == MemberState::InSync)
            })
        };
        let completes = |device: &Arc<BlockDevice>| {
            joint.disk_by_key(device.dev().0).is_some_and(|disk| {
                let mut places = joint.memberships(disk).peekable();
                places.peek().is_some()
                    && places.all(|(volume, _, member)| {
                        self.running(volume).is_none()
                            && member.state == MemberState::InSync
                            && (!whole || is_whole(volume))
                    })
            })
        };
        let (disks, volumes) = (ours.disks.len(), ours.volumes.len());
        (disks, volumes) == (joint.disks.len(), joint.volumes.len())
            && arrived.iter().all(completes)
            && (0..disks as DiskIndex).all(is_same_disk)
            && (0..volumes as VolumeIndex).all(is_same_volume)
    }
}

/// Whether a volume that runs is read as it is known. How far its task is does not count: some formats keep that in memory
/// only, and it is told again when the task goes on or ends.
fn is_same_run(ours: &Volume, read: &Volume) -> bool {
    let mut members = ours.members.iter().zip(read.members.iter());
    ours.members.len() == read.members.len()
        && discriminant(&ours.consistency) == discriminant(&read.consistency)
        && discriminant(&ours.access) == discriminant(&read.access)
        && members.all(|(one, other)| {
            one.disk == other.disk && discriminant(&one.state) == discriminant(&other.state)
        })
}
