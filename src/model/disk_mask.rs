// SPDX-License-Identifier: GPL-2.0

//! Some disks of a set, as bits.

use super::{DiskIndex, DISKS_MAX};

/// Some disks of a set.
#[derive(Clone, Copy, Debug)]
pub struct DiskMask([u64; DISKS_MAX / 64]);

impl DiskMask {
    /// None.
    pub const EMPTY: Self = Self([0; DISKS_MAX / 64]);

    /// Adds one.
    pub fn insert(&mut self, disk: DiskIndex) {
        if let Some(word) = self.0.get_mut(usize::from(disk / 64)) {
            *word |= 1 << (disk % 64);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, disk: DiskIndex) {
        if let Some(word) = self.0.get_mut(usize::from(disk / 64)) {
            *word &= !(1 << (disk % 64));
        }
    }

    /// Whether it is among them.
    pub fn contains(&self, disk: DiskIndex) -> bool {
        self.0
            .get(usize::from(disk / 64))
            .is_some_and(|word| word & (1 << (disk % 64)) != 0)
    }

    /// The first one, taken out.
    pub fn pop(&mut self) -> Option<DiskIndex> {
        let disk = (0..DISKS_MAX as DiskIndex).find(|&disk| self.contains(disk))?;
        self.remove(disk);
        Some(disk)
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// Whether both have a disk in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }
}
