// SPDX-License-Identifier: GPL-2.0

//! Which disks of a set left it, and which came to it, while it ran: what the set saw itself, and what no metadata says.

use super::{Checked, DiskIndex, DiskState, Set};
use kernel::prelude::*;

/// What was seen of one disk. Times count changes of the set; 0 is before all of them.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    /// It works.
    works: bool,
    /// When it last began to.
    came: u32,
    /// When it last ceased to.
    left: u32,
    /// The set's generation just before that: no newer metadata was ever sent to it.
    generation: u64,
}

impl Seen {
    /// Whether it did not work at a time, as far as that is still known.
    fn was_lost_at(&self, time: u32) -> bool {
        self.left < time && (self.came > time || !self.works)
    }
}

/// When disks of a set left it and came to it, since its disks were claimed.
#[derive(Default, Debug)]
pub struct Moves {
    disks: KVec<Seen>,
    now: u32,
    generation: u64,
}

impl Moves {
    /// None were seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was seen: the `set` was put together just now. Allocates.
    pub fn begin(&mut self, set: &Set) -> Checked {
        self.forget();
        self.make_room(set.disks.len())?;
        self.follow(set);
        Ok(())
    }

    /// Forgets what was seen.
    pub fn forget(&mut self) {
        self.disks.clear();
    }

    /// Makes room for so many disks; nothing is known of those that have none. Allocates.
    pub fn make_room(&mut self, disks: usize) -> Checked {
        while self.disks.len() < disks {
            self.disks.push(Seen::default(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The set has changed: who works in it and did not, came; who does not work and did, left.
    pub fn follow(&mut self, set: &Set) {
        self.now = self.now.saturating_add(1);
        for (seen, disk) in self.disks.iter_mut().zip(set.disks.iter()) {
            let works = disk.state == DiskState::Online;
            match (seen.works, works) {
                (false, true) => seen.came = self.now,
                (true, false) => (seen.left, seen.generation) = (self.now, self.generation),
                _ => {}
            }
            seen.works = works;
        }
        self.generation = set.generation;
    }

    /// Whether it is no news of `gone`, whose own metadata is of `generation`, that it calls the disk `back` of `set` lost: the
    /// set saw `gone` leave, `back` was lost then, and came later. What has a newer generation than the set had then was written
    /// elsewhere, and who was written elsewhere may call anybody lost.
    pub fn explain_loss(
        &self,
        set: &Set,
        gone: DiskIndex,
        generation: u64,
        back: DiskIndex,
    ) -> bool {
        let of = |disk: DiskIndex| self.disks.get(usize::from(disk));
        let (Some(gone), Some(came)) = (of(gone), of(back)) else {
            return false;
        };
        let Some(label) = set.disk(back).map(|disk| disk.label) else {
            return false;
        };
        // Who was taken out and added anew is another disk to the set, and the same to those that are away.
        let mut same = (self.disks.iter().zip(set.disks.iter()))
            .filter(|(_, disk)| disk.label == label)
            .map(|(seen, _)| seen);
        gone.left > 0
            && !gone.works
            && generation <= gone.generation
            && came.came > gone.left
            && same.all(|seen| seen.was_lost_at(gone.left))
    }
}
