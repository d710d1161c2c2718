// SPDX-License-Identifier: GPL-2.0

//! What a disk that comes holds, beside what those hold that are here (`judge.rs`): old copies, or what the set does not know.

use crate::mistake::Mistake;
use crate::setup;
use crate::sim::Sim;
use emd_core::metadata::MetadataSet;
use emd_core::model::{Access, DiskIndex, DiskState, MemberState, Set, Volume};

impl Sim {
    /// Whether a disk, of which alone the set `alone` was made, was used apart from those that are here, or makes no set with
    /// them (`Inner::joined_with`).
    pub(super) fn was_used_apart(&self, disk: usize, alone: &Set) -> bool {
        let Some(ours) = self.known() else {
            return false;
        };
        if self.calls_lost(ours, alone) || self.knows_nobody(ours, alone) {
            return true;
        }
        let Some(joint) = self.joined_with(disk) else {
            return true;
        };
        let key = disk as u64;
        let by_joint = joint.set().present_disk(key);
        let is_turned_down = by_joint.is_none_or(|disk| disk.state == DiskState::Failed);
        let was_away = || {
            if self.has(Mistake::AwayTakenForApart) {
                return false;
            }
            let index = joint.set().disk_by_key(key);
            index.is_some_and(|index| joint.may_have_been_away(index))
        };
        let is_news = match self.known_place(disk, alone) {
            Some((_, DiskState::Failed)) => false,
            Some((_, DiskState::Missing)) => !was_away(),
            _ => true,
        };
        self.is_outdone(ours, joint.set()) || is_turned_down && is_news
    }

    /// The set that the format makes of the disks that are here and of this one; `None` when it makes none.
    fn joined_with(&self, disk: usize) -> Option<Box<dyn MetadataSet>> {
        let claimed = self.devices.iter().flatten().copied();
        let answer = claimed.filter(|&device| self.disks[device].answers());
        let seen = answer.filter_map(|device| self.look_at(device).ok().flatten());
        let mut seen: Vec<_> = seen.collect();
        seen.extend(self.look_at(disk).ok().flatten());
        let images: Vec<_> = seen.iter().map(|seen| &seen.image).collect();
        let format = setup::format_of(&self.history.config);
        let made = format.assemble(&images);
        self.have_seen(seen);
        made.ok()
    }

    fn works_here(&self, ours: &Set, index: DiskIndex) -> bool {
        let state = ours.disk(index).map(|disk| disk.state);
        state == Some(DiskState::Online) && self.device(index).is_some()
    }

    /// `Inner::calls_lost`.
    fn calls_lost(&self, ours: &Set, alone: &Set) -> bool {
        let set = self.set.as_ref();
        let mut lost = alone
            .live_disks()
            .filter(|(_, disk)| disk.state == DiskState::Failed && disk.facts.is_none());
        lost.any(|(_, lost)| {
            let index = set.and_then(|set| set.disk_called(&lost.label));
            index.is_some_and(|index| self.works_here(ours, index))
        })
    }

    /// `Inner::knows_nobody`.
    fn knows_nobody(&self, ours: &Set, alone: &Set) -> bool {
        let mut volumes = ours.live_volumes();
        volumes.any(|(index, volume)| {
            let Some(theirs) = alone.volume(index).filter(|theirs| theirs.id == volume.id) else {
                return false;
            };
            let both = volume.members.iter().zip(theirs.members.iter());
            let mut working = both
                .filter(|(member, _)| {
                    let disk = member.disk.and_then(|disk| self.device(disk));
                    member.state == MemberState::InSync && disk.is_some()
                })
                .peekable();
            working.peek().is_some() && working.all(|(_, theirs)| theirs.disk.is_none())
        })
    }

    /// `Inner::is_outdone`.
    fn is_outdone(&self, ours: &Set, joint: &Set) -> bool {
        let works = ours
            .live_disks()
            .filter(|(index, _)| self.works_here(ours, *index));
        let mut works = works.filter_map(|(_, disk)| disk.facts);
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
}
