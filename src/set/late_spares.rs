// SPDX-License-Identifier: GPL-2.0

//! Spares that come when their set is active already: a set starts as soon as its members are here, and one of its spares may
//! take longer to spin up.
//!
//! A spare holds nothing that anybody may want to keep, so it is one again without being added. Where the format lists its
//! spares, its place is known. Where it does not (in md 1.x a spare's own metadata is all that tells of it), the disk is added as
//! one that is new: no index of the set that runs changes, and what it was called by may be another disk's by now.

use super::arrival::is_spare;
use super::managed::{claim, ManagedSet};
use super::probe;
use super::state::Inner;
use crate::block::bdev::{BlockDevice, Dev};
use crate::model::{Checked, DiskOffer, DiskState, Event, Set, SpareRole};
use crate::reason;
use kernel::prelude::*;
use kernel::sync::Arc;

impl ManagedSet {
    /// The disk `dev`, of which alone the set `alone` was made, is none that this active set misses: it is added if it is a
    /// spare of it. Called with `change` held.
    #[inline(never)]
    pub(super) fn take_unlisted(&self, dev: Dev, alone: &Set) -> Checked {
        let may_be_spare = {
            let inner = self.lock();
            // Whom the set knows is here already, or somebody else is under its name.
            inner.known_place(dev, alone)?.is_none()
                && !inner.was_taken_out(dev, alone)
                && inner.lone_spare(dev, alone).is_some()
        };
        if !may_be_spare {
            self.tell_stranger(dev, "its set does not know it, or has it already");
            return Ok(());
        }
        // Closed without the lock.
        let device = claim(dev)?;
        let added = self.lock().add_late_spare(self, &device, alone);
        match added {
            Ok(()) => self.say_back(dev),
            Err(why) => self.tell_stranger(dev, why.text()),
        }
        Ok(())
    }
}

impl Inner {
    /// Adds the `claimed` disk, of which alone the set `alone` was made, if it is a spare.
    #[inline(never)]
    fn add_late_spare(
        &mut self,
        set: &ManagedSet,
        claimed: &Arc<BlockDevice>,
        alone: &Set,
    ) -> Checked {
        let dev = claimed.dev();
        let arrived = core::slice::from_ref(claimed);
        let Some(joint) = self.joined_with(set, dev, alone, arrived)? else {
            return Err(reason!(
                EEXIST,
                "it was used apart from the set: add it by force"
            ));
        };
        let theirs = joint.set().present_disk(dev.0);
        let is_one = theirs.is_some_and(|disk| match disk.state {
            DiskState::Online => is_spare(disk.role),
            // The set went on without it, and forgot it. Where a set knows all disks that it lost, this one was taken out.
            DiskState::Stale => !joint.names_lost_disks(),
            _ => false,
        });
        let Some(role) = self.lone_spare(dev, alone).filter(|_| is_one) else {
            return Err(reason!(
                EEXIST,
                "it calls itself a spare, and its set has it as none"
            ));
        };
        self.check_holds_nothing(set, claimed)?;
        let event = Event::DiskAdded(DiskOffer {
            facts: probe::facts(claimed),
            role,
        });
        self.record_with(&set.shared, &event, claimed, || Ok(()))?;
        self.early.retain(|early| *early != dev);
        Ok(())
    }

    /// Refuses a spare whose start says that something else is on it: metadata at a disk's end outlives what comes after it.
    #[inline(never)]
    pub(super) fn check_holds_nothing(&mut self, set: &ManagedSet, spare: &BlockDevice) -> Checked {
        match probe::signature_besides(spare, Some(set.format), self.io.as_mut())? {
            Some(what) => Err(reason!(
                EEXIST,
                "it is a spare, and holds {what}: add it by hand"
            )),
            None => Ok(()),
        }
    }

    /// Whether a person took a disk out of the set, while it is active, that is called as the disk `dev` calls itself.
    fn was_taken_out(&self, dev: Dev, alone: &Set) -> bool {
        let label = alone.present_disk(dev.0).map(|disk| disk.label);
        let mut ours = self.model().into_iter().flat_map(|set| set.disks.iter());
        ours.any(|disk| disk.state == DiskState::Removed && Some(disk.label) == label)
    }

    /// What the disk `dev` is a spare for, by the set `alone` that was made of it alone; `None` when it is none, or is a member
    /// of anything as well.
    fn lone_spare(&self, dev: Dev, alone: &Set) -> Option<SpareRole> {
        let index = alone.disk_by_key(dev.0)?;
        let is_member = alone.memberships(index).next().is_some();
        match alone.disk(index)?.state {
            DiskState::Online if !is_member => self.spare_for(dev, alone),
            _ => None,
        }
    }
}
