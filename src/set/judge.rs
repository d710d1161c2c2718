// SPDX-License-Identifier: GPL-2.0

//! What a disk that comes holds, beside what those hold that are here: the facts for the verdicts of
//! [`crate::metadata::arrival`], and what is said of them.

use super::managed::{assemble, ManagedSet};
use super::state::Inner;
use crate::block::bdev::{BlockDevice, Dev};
use crate::metadata::arrival::{self, Joint, LiveSet, Newcomer, Standing, Wanted};
use crate::metadata::{DiskImage, MetadataSet};
use crate::model::{
    Checked, DiskIndex, DiskMask, DiskState, Moves, Reason, Set, SpareRole, VolumeIndex,
};
use crate::personalities::Health;
use crate::reason;
use kernel::prelude::*;
use kernel::sync::Arc;

impl LiveSet for Inner {
    fn metadata(&self) -> Option<&dyn MetadataSet> {
        self.metadata.as_deref()
    }

    fn moves(&self) -> &Moves {
        &self.moves
    }

    fn is_claimed(&self, disk: DiskIndex) -> bool {
        self.device(disk).is_some()
    }

    fn is_away(&self, disk: DiskIndex) -> bool {
        self.is_unplugged(disk)
    }

    fn is_needed(&self, disk: DiskIndex) -> bool {
        Inner::is_needed(self, disk)
    }

    fn runs(&self, volume: VolumeIndex) -> bool {
        self.running(volume).is_some()
    }

    fn has_enough(&self, volume: VolumeIndex) -> bool {
        self.health(volume, self.usable(volume)) != Health::Failed
    }
}

/// The disk `dev`, of which alone the set `alone` was made.
fn newcomer(dev: Dev, alone: &Set) -> Newcomer<'_> {
    Newcomer { key: dev.0, alone }
}

/// The handles of disks.
fn keys(devices: &[Arc<BlockDevice>]) -> impl Iterator<Item = u64> + '_ {
    devices.iter().map(|device| device.dev().0)
}

impl Inner {
    /// Which disk of the set the disk `dev` was, of which alone the set `alone` was made, and its state.
    pub(super) fn known_place(
        &self,
        dev: Dev,
        alone: &Set,
    ) -> Checked<Option<(DiskIndex, DiskState)>> {
        if alone.present_disk(dev.0).is_none() {
            return Err(reason!(
                ENOENT,
                "the metadata of disk {dev} does not name it"
            ));
        }
        self.known()?;
        Ok(arrival::known_place(self, &newcomer(dev, alone)))
    }

    /// How the disk at `index`, which is `dev` and of which alone the set `alone` was made, stands to those that are here. It is
    /// the first of the `claimed`; the others are those that wait. With the set that the format makes of all, but of one that was
    /// used apart.
    #[inline(never)]
    pub(super) fn standing_of(
        &mut self,
        set: &ManagedSet,
        index: DiskIndex,
        dev: Dev,
        alone: &Set,
        claimed: &[Arc<BlockDevice>],
    ) -> Checked<(Standing, Option<KBox<dyn MetadataSet>>)> {
        let joint = self.joined_with(set, dev, alone, claimed)?;
        let model = joint.as_ref().map(|joint| joint.set());
        let standing = arrival::standing(self, index, dev.0, model, keys(claimed));
        Ok((standing, joint))
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
        let newcomer = newcomer(dev, alone);
        if arrival::contradicts(self, &newcomer) {
            return Ok(None);
        }
        let images = self.read_all(set, claimed)?;
        let made = assemble(set.format, &images)?;
        let joint = Joint::of(&*made, &newcomer, self.not_among(&images));
        let is_apart = arrival::is_apart(self, &newcomer, &joint);
        Ok((!is_apart).then_some(made))
    }

    /// The claimed disks of which there is no image.
    fn not_among(&self, images: &[DiskImage]) -> DiskMask {
        let mut missing = DiskMask::EMPTY;
        for (index, device) in (0u16..).zip(self.devices.iter()) {
            let is_read = |dev: Dev| images.iter().any(|image| image.facts.key == dev.0);
            if device.as_ref().is_some_and(|device| !is_read(device.dev())) {
                missing.insert(index);
            }
        }
        missing
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
        let joint = match self.joined_with(set, dev, alone, core::slice::from_ref(claimed)) {
            Ok(joint) => joint,
            Err(_) if force => None,
            Err(reason) => return Err(reason),
        };
        let model = joint.as_ref().map(|joint| joint.set());
        let expendable = arrival::expendable(self, &newcomer(dev, alone), model, force);
        expendable.map_err(|why| wanted(why, dev, set.format.name()))
    }

    /// What the disk `dev` is a spare for, by the set `alone` that was made of it alone.
    pub(super) fn spare_for(&self, dev: Dev, alone: &Set) -> Option<SpareRole> {
        arrival::spare_for(self, &newcomer(dev, alone))
    }

    /// The volume that does not run and has the disk `dev` as a member that is up to date, by `joint`.
    pub(super) fn volume_awaiting(&self, dev: Dev, joint: &Set) -> Option<VolumeIndex> {
        arrival::volume_awaiting(self, dev.0, joint)
    }

    /// Whether `joint` can stand for the set, with the `arrived` disks in their places there ([`arrival::may_be_adopted`]).
    pub(super) fn may_be_adopted(
        &self,
        joint: &Set,
        arrived: &[Arc<BlockDevice>],
        whole: bool,
    ) -> bool {
        arrival::may_be_adopted(self, joint, keys(arrived), whole)
    }
}

/// Why the disk `dev` of a set of this `format` is not to be used for something else, for people.
fn wanted(why: Wanted, dev: Dev, format: &str) -> Reason {
    match why {
        Wanted::Apart => reason!(
            EEXIST,
            "disk {dev} was used apart from the set, what it holds may be newer; use it by force to give that up"
        ),
        Wanted::Awaited(volume) => reason!(
            EBUSY,
            "disk {dev} is a member of volume {volume}, which does not run: scan, so that it takes its place there; by force it is given up"
        ),
        Wanted::Only(volume) => reason!(
            EBUSY,
            "disk {dev} is one of the set that volume {volume} cannot do without: scan when its other disks are here, or delete that volume"
        ),
        Wanted::Contents => reason!(
            EBUSY,
            "disk {dev} is one of the set that a volume cannot do without: stop that volume, then scan"
        ),
        Wanted::Unknown => reason!(
            EEXIST,
            "disk {dev} carries {format} metadata of this set, which does not know it: use it by force"
        ),
        Wanted::Lacked(volume) => reason!(
            EEXIST,
            "disk {dev} is of this set, and volume {volume} lacks members: use it by force if it is none of them"
        ),
        Wanted::Succeeded => reason!(
            EEXIST,
            "disk {dev} calls itself a member of this set in place of another one: use it by force to give up what it holds"
        ),
    }
}
