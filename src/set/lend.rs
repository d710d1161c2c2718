// SPDX-License-Identifier: GPL-2.0

//! Spares that belong to no set ([`crate::model::Set::lends_spares`]): a set that lost a member and has no
//! spare of its own takes one of them.
//!
//! The keeper sees that a spare is wanted, but it takes disks only from its own set. So it rings, and a
//! round of discovery, which has `Manager::operations`, hands one over: claimed for the set that wants it,
//! its old metadata erased, added. From there on it is a spare like any other, and the keeper uses it.

use super::managed::ManagedSet;
use super::manager::{Manager, Operations};
use crate::block::bdev::Dev;
use crate::model::{Checked, DiskFacts, SpareRole};
use crate::uapi::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What a disk has to be for a set to use it.
struct Wanted {
    /// Sectors, at least.
    size_sectors: u64,
    logical_block_bytes: u32,
}

impl Manager {
    /// Hands spares that belong to no set to the sets that want one, one to each.
    #[inline(never)]
    pub(super) fn lend_spares(&self, operations: &mut Operations) {
        let Ok(sets) = self.all_sets() else { return };
        for set in sets.iter() {
            if !set.wants_spare.swap(false, Ordering::AcqRel) {
                continue;
            }
            let change = set.change.lock();
            let lent = self.lend_to(operations, set, &sets);
            drop(change);
            match lent {
                Ok(false) => {}
                Ok(true) => {
                    set.told_no_spare.store(false, Ordering::Release);
                    set.kick_keeper();
                }
                Err(reason) if set.told_no_spare.swap(true, Ordering::AcqRel) => {
                    log!(pr_debug, "no spare is taken from elsewhere: {}", reason);
                }
                Err(reason) => {
                    log!(pr_warn, "no spare is taken from elsewhere: {}", reason);
                    set.shared.say(
                        EventKind::Note,
                        &set.id,
                        format_args!("no spare of no set is taken: {reason}"),
                    );
                }
            }
        }
    }

    /// Takes one spare from elsewhere into `set`; why the last one could not be had, when none could. Called with its `change`
    /// held.
    #[inline(never)]
    fn lend_to(
        &self,
        operations: &mut Operations,
        set: &Arc<ManagedSet>,
        sets: &[Arc<ManagedSet>],
    ) -> Checked<bool> {
        let Some(wanted) = set.lock().wanted_spare() else {
            return Ok(false);
        };
        let mut fitting = KVec::new();
        for other in sets.iter() {
            if Arc::ptr_eq(set, other) || other.format.name() != set.format.name() {
                continue;
            }
            let lendable = other.lock().lendable()?;
            for facts in lendable.iter() {
                if facts.size_sectors >= wanted.size_sectors
                    && facts.logical_block_bytes == wanted.logical_block_bytes
                {
                    fitting.push((facts.size_sectors, Dev(facts.key), other), GFP_KERNEL)?;
                }
            }
        }
        // The smallest that can be had.
        let mut refused = Ok(false);
        let mut tried = None;
        loop {
            let next = fitting
                .iter()
                .filter(|(size, dev, _)| tried.is_none_or(|tried| (*size, dev.0) > tried))
                .min_by_key(|(size, dev, _)| (*size, dev.0));
            let Some(&(size, dev, from)) = next else {
                return refused;
            };
            tried = Some((size, dev.0));
            match set.take_spare(self, operations, dev, &from.id, SpareRole::Global) {
                Ok(_) => {
                    set.shared.say(
                        EventKind::Note,
                        &set.id,
                        format_args!("disk {dev}, a spare of no set, is taken as a spare"),
                    );
                    return Ok(true);
                }
                Err(reason) => refused = Err(reason),
            }
        }
    }
}

impl super::state::Inner {
    /// What a spare from elsewhere would have to be; `None` when none is wanted.
    #[inline(never)]
    fn wanted_spare(&self) -> Option<Wanted> {
        if !self.active {
            return None;
        }
        let set = self.model()?;
        let volume = (0..self.entries_len()).find(|&volume| self.lacks_spare(volume))?;
        let model = set.volume(volume)?;
        let ends = model.members.iter().map(|member| {
            member
                .offset_sectors
                .saturating_add(model.shape.member_sectors)
        });
        let block = set.live_disks().find_map(|(_, disk)| disk.facts)?;
        Some(Wanted {
            // With some room for metadata; how much, the format will say.
            size_sectors: ends.max()?.saturating_add(1),
            logical_block_bytes: block.logical_block_bytes,
        })
    }

    /// The disks that any set may take.
    #[inline(never)]
    fn lendable(&self) -> Checked<KVec<DiskFacts>> {
        let mut disks = KVec::new();
        let Some(set) = self.model().filter(|set| set.lends_spares) else {
            return Ok(disks);
        };
        if self.active || self.gone || self.held {
            return Ok(disks);
        }
        for facts in set.live_disks().filter_map(|(_, disk)| disk.facts) {
            disks.push(facts, GFP_KERNEL)?;
        }
        Ok(disks)
    }
}
