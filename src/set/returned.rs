// SPDX-License-Identifier: GPL-2.0

//! Disks that came back, and the places that they held: a disk takes its own place again, and not that of another
//! which happens to be empty too.

use crate::model::{Checked, DiskIndex, DiskMask, MemberState, Set, Slot, VolumeIndex};
use kernel::prelude::*;

/// A place that a disk held.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    disk: DiskIndex,
    volume: VolumeIndex,
    slot: Slot,
}

/// Disks that came back and may take their old places.
pub struct Returned {
    disks: DiskMask,
    /// As long as nobody has them; also of disks that are gone once more.
    places: KVec<Place>,
}

impl Returned {
    /// None.
    pub const fn new() -> Self {
        Self {
            disks: DiskMask::EMPTY,
            places: KVec::new(),
        }
    }

    /// Keeps in mind where in `set` a disk is a member that was lost. Before the set is told that it is here again: formats
    /// may forget it then. Allocates.
    pub fn note_places(&mut self, set: &Set, disk: DiskIndex) -> Checked {
        for (volume, slot, _) in set.memberships(disk) {
            let place = Place { disk, volume, slot };
            if !self.places.contains(&place) {
                self.places.push(place, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// A disk is here again.
    pub fn insert(&mut self, disk: DiskIndex) {
        self.disks.insert(disk);
    }

    /// It is gone once more, or failed.
    pub fn remove(&mut self, disk: DiskIndex) {
        self.disks.remove(disk);
    }

    /// It is none of the set's any more.
    pub fn forget(&mut self, disk: DiskIndex) {
        self.disks.remove(disk);
        self.places.retain(|place| place.disk != disk);
    }

    /// Whether a disk came back, and has not got a place in each volume that it was in.
    pub fn contains(&self, disk: DiskIndex) -> bool {
        self.disks.contains(disk)
    }

    /// The disk that came back and held this place.
    pub fn holder(&self, volume: VolumeIndex, slot: Slot) -> Option<DiskIndex> {
        let mut places = self.places.iter();
        places
            .find(|place| {
                (place.volume, place.slot) == (volume, slot) && self.disks.contains(place.disk)
            })
            .map(|place| place.disk)
    }

    /// The place in a volume that a disk which came back held.
    pub fn place_in(&self, volume: VolumeIndex, disk: DiskIndex) -> Option<Slot> {
        let mut places = self.places.iter();
        places
            .find(|place| (place.volume, place.disk) == (volume, disk) && self.contains(disk))
            .map(|place| place.slot)
    }

    /// Whether it is known of a disk that came back which places it held.
    pub fn has_places(&self, disk: DiskIndex) -> bool {
        self.places.iter().any(|place| place.disk == disk)
    }

    /// Places that somebody has are nobody's old ones any more. Who came back, and has all of its places or what else there
    /// was, is a member as others are; who found none stays at hand.
    pub fn settle(&mut self, set: &Set) {
        self.places.retain(|place| {
            let volume = set.volume(place.volume);
            volume
                .and_then(|volume| volume.members.get(usize::from(place.slot)))
                .is_some_and(|member| {
                    matches!(member.state, MemberState::Failed | MemberState::Missing)
                })
        });
        for disk in 0..set.disks.len() as DiskIndex {
            if set.memberships(disk).next().is_some() && !self.has_places(disk) {
                self.disks.remove(disk);
            }
        }
    }
}
