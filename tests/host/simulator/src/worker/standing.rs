// SPDX-License-Identifier: GPL-2.0

//! How a disk that comes stands to those that are here: the facts for the driver's own judge (`src/set/judge.rs`).

use super::VOLUME;
use crate::mistake::Mistake;
use crate::setup;
use crate::sim::Sim;
use emd_core::metadata::arrival::{self, Joint, LiveSet, Newcomer, Standing};
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskIndex, DiskMask, MemberState, Moves, Set, VolumeIndex};
use emd_core::personalities::Health;

impl LiveSet for Sim {
    fn metadata(&self) -> Option<&dyn MetadataSet> {
        self.set.as_deref()
    }

    fn moves(&self) -> &Moves {
        &self.worker.moves
    }

    fn is_claimed(&self, disk: DiskIndex) -> bool {
        self.device(disk).is_some()
    }

    fn is_away(&self, disk: DiskIndex) -> bool {
        self.is_unplugged(disk)
    }

    fn is_needed(&self, disk: DiskIndex) -> bool {
        let set = self.known();
        let mut places = set.into_iter().flat_map(|set| set.memberships(disk));
        places.any(|(_, _, member)| member.state == MemberState::InSync) && !self.bears_loss(disk)
    }

    fn runs(&self, volume: VolumeIndex) -> bool {
        volume == VOLUME && self.array.is_some()
    }

    fn has_enough(&self, _volume: VolumeIndex) -> bool {
        self.health(self.usable_members()) != Health::Failed
    }
}

/// A disk of which alone the set `alone` was made.
pub(super) fn newcomer(disk: usize, alone: &Set) -> Newcomer<'_> {
    Newcomer {
        key: disk as u64,
        alone,
    }
}

impl Sim {
    /// `Inner::standing_of`; used apart is also who makes no set with those that are here.
    pub(super) fn standing_of(&self, index: DiskIndex, disk: usize, alone: &Set) -> Standing {
        let joint = self.joined_with(disk, alone);
        let model = joint.as_ref().map(|joint| joint.set());
        arrival::standing(self, index, disk as u64, model, [disk as u64].into_iter())
    }

    /// `Inner::joined_with`.
    fn joined_with(&self, disk: usize, alone: &Set) -> Option<Box<dyn MetadataSet>> {
        let newcomer = newcomer(disk, alone);
        if arrival::contradicts(self, &newcomer) {
            return None;
        }
        let claimed = self.devices.iter().flatten().copied();
        let answer = claimed.filter(|&device| self.disks[device].answers());
        let seen = answer.filter_map(|device| self.look_at(device).ok().flatten());
        let mut seen: Vec<_> = seen.collect();
        let mut unread = DiskMask::EMPTY;
        for (index, device) in (0..).zip(&self.devices) {
            let is_read = |key: usize| seen.iter().any(|seen| seen.image.facts.key == key as u64);
            if device.is_some_and(|device| !is_read(device)) && !self.has(Mistake::UnreadCounts) {
                unread.insert(index);
            }
        }
        seen.extend(self.look_at(disk).ok().flatten());
        let images: Vec<_> = seen.iter().map(|seen| &seen.image).collect();
        let format = setup::format_of(&self.history.config);
        let made = format.assemble(&images);
        self.have_seen(seen);
        let made = made.ok()?;
        let mut joint = Joint::of(&*made, &newcomer, unread);
        joint.may_have_been_away &= !self.has(Mistake::AwayTakenForApart);
        let is_apart = arrival::is_apart(self, &newcomer, &joint);
        (!is_apart).then_some(made)
    }
}
