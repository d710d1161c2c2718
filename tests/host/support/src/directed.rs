// SPDX-License-Identifier: GPL-2.0

//! Events for random histories that have a chance to be taken: what is chosen at random among all that could be named
//! is refused nearly always where several things have to fit.

use crate::crash::Random;
use crate::shell::spec;
use emd_core::model::{
    BadRange, DiskIndex, DiskState, Event, Level, MemberState, Set, Slot, Text, VolumeIndex,
    VolumeSpec,
};

/// One of `all`.
fn pick<T: Copy>(random: &mut Random, all: &[T]) -> Option<T> {
    let count = all.len() as u64;
    (count > 0).then(|| all[random.below(count) as usize])
}

/// A place whose member is in a state that is wanted.
fn place(
    random: &mut Random,
    set: &Set,
    wanted: &dyn Fn(MemberState) -> bool,
) -> Option<(VolumeIndex, Slot)> {
    let mut places = Vec::new();
    for (index, volume) in set.live_volumes() {
        let members = (0u16..).zip(volume.members.iter());
        let fits = members.filter(|(_, member)| wanted(member.state));
        places.extend(fits.map(|(slot, _)| (index, slot)));
    }
    pick(random, &places)
}

/// A place that a disk was lost from.
pub fn lost(random: &mut Random, set: &Set) -> Option<(VolumeIndex, Slot)> {
    place(random, set, &|state| {
        matches!(state, MemberState::Missing | MemberState::Failed)
    })
}

/// A place that is being rebuilt.
pub fn rebuilding(random: &mut Random, set: &Set) -> Option<(VolumeIndex, Slot)> {
    place(random, set, &|state| {
        matches!(state, MemberState::Rebuilding { .. })
    })
}

/// A disk in order that is in no volume.
pub fn free(random: &mut Random, set: &Set) -> Option<DiskIndex> {
    let disks = set.live_disks().filter(|(index, disk)| {
        disk.state == DiskState::Online && set.memberships(*index).next().is_none()
    });
    let disks: Vec<DiskIndex> = disks.map(|(index, _)| index).collect();
    pick(random, &disks)
}

/// A disk that was lost, and the handle of one of `count` disks that it may be back as.
pub fn back(random: &mut Random, set: &Set, count: usize) -> Option<(DiskIndex, u64)> {
    let lost = set
        .live_disks()
        .filter(|(_, disk)| disk.state != DiskState::Online);
    let lost: Vec<_> = lost.map(|(index, disk)| (index, disk.facts)).collect();
    let (disk, facts) = pick(random, &lost)?;
    let is_free = |key: &u64| set.disk_by_key(*key).is_none();
    let free: Vec<u64> = (0..count as u64).filter(is_free).collect();
    let key = facts
        .map(|facts| facts.key)
        .or_else(|| pick(random, &free))?;
    Some((disk, key))
}

/// A stretch that is bad.
pub fn bad(random: &mut Random, set: &Set) -> Option<BadRange> {
    let ranges: Vec<BadRange> = set.bad_ranges.iter().copied().collect();
    pick(random, &ranges)
}

/// A volume.
pub fn volume(random: &mut Random, set: &Set) -> Option<VolumeIndex> {
    let volumes: Vec<VolumeIndex> = set.live_volumes().map(|(index, _)| index).collect();
    pick(random, &volumes)
}

/// A level, and disks that are in order for a volume of it.
pub fn members(random: &mut Random, set: &Set) -> Option<(Level, Vec<Option<DiskIndex>>)> {
    let disks = set
        .live_disks()
        .filter(|(_, disk)| disk.state == DiskState::Online);
    let mut disks: Vec<Option<DiskIndex>> = disks.map(|(index, _)| Some(index)).collect();
    for at in 1..disks.len() {
        disks.swap(at, random.below(at as u64 + 1) as usize);
    }
    let (level, count) = pick(
        random,
        &[
            (Level::Raid0, 2),
            (Level::Raid1, 2),
            (Level::Raid5, 3),
            (Level::Raid5, 4),
            (Level::Raid6, 4),
            (Level::Raid10, 4),
        ],
    )?;
    (disks.len() >= count).then(|| (level, disks[..count].to_vec()))
}

/// Finds a place in a set.
pub type Find = fn(&mut Random, &Set) -> Option<(VolumeIndex, Slot)>;

/// A random history, which chooses what has a chance, and now and then what has none.
pub trait Chance {
    /// Where chance comes from, and the set that things happen to.
    fn parts(&mut self) -> (&mut Random, &Set);

    /// Has an event happen, if it is taken; `n` is its number.
    fn attempt(&mut self, event: &Event<'_>, n: u64);

    /// One out of eight.
    fn is_rare(&mut self) -> bool {
        self.parts().0.below(8) == 0
    }

    /// A number below `n`, now and then `n`.
    fn below(&mut self, n: usize) -> u16 {
        self.parts().0.below(n.max(1) as u64 + 1).min(n as u64) as u16
    }

    /// A volume, now and then one that there is not.
    fn volume(&mut self) -> VolumeIndex {
        let (random, set) = self.parts();
        let some = volume(random, set);
        let count = set.volumes.len();
        match self.is_rare() {
            true => self.below(count),
            false => some.unwrap_or_else(|| self.below(count)),
        }
    }

    /// A place that `find` finds, now and then any.
    fn place(&mut self, find: Find, volume: VolumeIndex, slot: Slot) -> (VolumeIndex, Slot) {
        let (random, set) = self.parts();
        let place = find(random, set);
        let place = place.filter(|_| !self.is_rare());
        place.unwrap_or((volume, slot))
    }

    /// A volume that may be possible.
    fn create(&mut self, name: Text<32>, n: u64) {
        let (random, set) = self.parts();
        let Some((level, disks)) = members(random, set) else {
            return;
        };
        let spec = VolumeSpec {
            size_sectors: [4096, 6144, 8192][random.below(3) as usize],
            assume_clean: random.below(2) == 0,
            log: random.below(2) == 0,
            ..spec(name.as_str(), level, &disks)
        };
        self.attempt(&Event::VolumeCreated(spec), n);
    }

    /// A disk takes the place of a lost one.
    fn activate(&mut self, volume: VolumeIndex, slot: Slot, disk: DiskIndex, n: u64) {
        let (random, set) = self.parts();
        let free = free(random, set);
        let free = free.filter(|_| !self.is_rare());
        let (volume, slot) = self.place(lost, volume, slot);
        let disk = free.unwrap_or(disk);
        self.attempt(&Event::SpareActivated { volume, slot, disk }, n);
    }
}
