// SPDX-License-Identifier: GPL-2.0

//! Which disks tasks are at work on, over all sets: two arrays on partitions of one disk take turns, as two volumes of a
//! set do.
//!
//! The table's lock is a leaf: nothing is allocated with it held.

use super::shared::Shared;
use crate::block::bdev::Dev;
use crate::uapi::TaskKind;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A whole disk that a task is at work on.
pub(super) struct Entry {
    disk: Dev,
    /// N of its array's `/dev/emdN`.
    number: u32,
    kind: TaskKind,
}

/// A task's turn. Over when dropped.
pub struct Turn {
    shared: Arc<Shared>,
    number: u32,
}

impl Turn {
    /// A turn for a task of this kind of array `number` on these whole disks; `None` while one that it waits for is at work
    /// on some of them. Without memory nobody is waited for.
    pub fn take(
        shared: &Arc<Shared>,
        number: u32,
        kind: TaskKind,
        disks: impl Iterator<Item = Dev> + Clone,
    ) -> Option<Self> {
        let is_waited_for = |entry: &Entry| {
            entry.number != number
                && kind.waits_for(entry.kind)
                && disks.clone().any(|disk| disk == entry.disk)
        };
        let own = disks.clone().map(|disk| Entry { disk, number, kind });
        let count = disks.clone().count();
        // Room is made outside of the lock, which recorders of all sets take.
        let mut longer = KVec::new();
        loop {
            let mut entries = shared.turns.lock();
            if entries.iter().any(is_waited_for) {
                return None;
            }
            let wanted = entries.len().saturating_add(count);
            if wanted > entries.capacity() && wanted <= longer.capacity() {
                for entry in entries.drain_all() {
                    let _ = longer.push_within_capacity(entry);
                }
                core::mem::swap(&mut *entries, &mut longer);
            }
            if wanted <= entries.capacity() {
                for entry in own {
                    let _ = entries.push_within_capacity(entry);
                }
                break;
            }
            drop(entries);
            match KVec::with_capacity(wanted, GFP_KERNEL) {
                Ok(room) => longer = room,
                Err(_) => break,
            }
        }
        Some(Self {
            shared: shared.clone(),
            number,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut entries = self.shared.turns.lock();
        entries.retain(|entry| entry.number != self.number);
    }
}
