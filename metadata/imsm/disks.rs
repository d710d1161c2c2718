// SPDX-License-Identifier: GPL-2.0

//! Events about disks that join: added, returned, spares. A disk in no volume is a spare, and has no entry in the
//! table. (Those that go: `losses.rs`.)

use super::layout::*;
use super::model::{is_empty, is_lost, map_state};
use super::probe;
use super::serial::{self, Serial};
use super::set::{random_number, DiskMeta, Home, ImsmSet};
use crate::model::{
    Access, Checked, Context, Disk, DiskFacts, DiskIndex, DiskOffer, DiskRole, DiskState, Member,
    MemberState, Slot, SpareRole, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Sectors in front of the anchor that volumes never reach: graid leaves no more, all others far more.
const KEPT_SECTORS: u64 = 6;

/// Generation of the MPB of a disk that never was in a volume of the set.
pub const SPARE_GENERATION: u32 = 1;

impl ImsmSet {
    /// Checks a disk that is to join; gives its serial number.
    #[inline(never)]
    fn check_joining(&self, facts: &DiskFacts, own: Option<DiskIndex>) -> Checked<Serial> {
        if facts.logical_block_bytes != self.block_bytes {
            return Err(reason!(
                EINVAL,
                "the disk has blocks of {} bytes, the set's have {}",
                facts.logical_block_bytes,
                self.block_bytes
            ));
        }
        if let Some(disk) = self
            .set
            .disk_by_key(facts.key)
            .filter(|disk| Some(*disk) != own)
        {
            return Err(reason!(
                EEXIST,
                "the disk is disk {disk} of the set already"
            ));
        }
        let serial = check_facts(facts)?;
        let same = |(index, meta): (usize, &DiskMeta)| {
            let other = DiskIndex::try_from(index).ok();
            let live = other.is_some_and(|disk| self.live_disk(disk).is_ok());
            (live && other != own && meta.serial == serial).then_some(index)
        };
        match self.disks.iter().enumerate().find_map(same) {
            Some(index) => Err(reason!(
                EEXIST,
                "disk {index} of the set has serial number {} too",
                serial::label(&serial)
            )),
            None => Ok(serial),
        }
    }

    /// [`crate::model::Event::DiskAdded`]. A disk in no volume is a spare, whatever its role is to be.
    #[inline(never)]
    pub fn disk_added(&mut self, offer: &DiskOffer, context: &Context) -> Checked {
        if let SpareRole::Dedicated(_) = offer.role {
            return Err(no_dedicated());
        }
        let serial = self.check_joining(&offer.facts, None)?;
        let index = self.set.index_to_join()?;
        let home = self.fresh_home()?;
        self.set.disks.reserve(1, GFP_KERNEL)?;
        self.disks.reserve(1, GFP_KERNEL)?;
        self.reserve_plan()?;
        self.push_fresh(&offer.facts, serial, home)?;
        let family = random_number(context, 0x5350_0000 + u64::from(index));
        self.fill_own(index, family, SPARE_GENERATION);
        self.refresh_role(index);
        Ok(())
    }

    /// Adds a blank disk to the model, in room that is there.
    pub fn push_fresh(&mut self, facts: &DiskFacts, serial: Serial, home: Home) -> Checked {
        let (anchor, usable) = place_on(facts);
        self.set.disks.push(
            Disk {
                facts: Some(*facts),
                label: serial::label(&serial),
                state: DiskState::Online,
                role: DiskRole::GlobalSpare,
                usable_sectors: usable,
                failure_predicted: false,
            },
            GFP_KERNEL,
        )?;
        self.disks.push(
            DiskMeta {
                serial,
                entry: None,
                anchor: Some(anchor),
                migration: super::reshape::Record::Unread,
                home: Some(home),
            },
            GFP_KERNEL,
        )?;
        Ok(())
    }

    /// Buffers of a blank disk.
    pub fn fresh_home(&self) -> Checked<Home> {
        Ok(Home {
            synced: false,
            fresh: true,
            own: KVVec::from_elem(0u8, self.block_bytes as usize, GFP_KERNEL)?,
            own_changed: false,
        })
    }

    /// Refuses when what is on `disk` may be all that is left of a volume, or may decide what a
    /// volume is. `counts`: it stays in volumes without redundancy.
    fn check_expendable(&self, disk: DiskIndex, counts: bool) -> Checked {
        for (index, volume) in self.set.live_volumes() {
            if !volume.members.iter().any(|m| m.disk == Some(disk)) {
                continue;
            }
            let refused = matches!(volume.access, Access::Refused(_));
            if counts && !refused && !volume.shape.level.is_redundant() {
                continue;
            }
            if refused || map_state(&volume.shape, &volume.members, &is_lost) == map::LOST {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is kept as it is: volume {index} may not do without it"
                ));
            }
        }
        Ok(())
    }

    /// [`crate::model::Event::DiskReturned`]. Its old places are kept for it; what it holds is old. Without one it is a spare.
    #[inline(never)]
    pub fn disk_returned(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        context: &Context,
    ) -> Checked {
        self.take_back(disk, facts, false, context)
    }

    /// [`crate::model::Event::DiskReinstated`].
    #[inline(never)]
    pub fn disk_reinstated(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        context: &Context,
    ) -> Checked {
        self.set.check_reinstated(disk)?;
        self.take_back(disk, facts, true, context)
    }

    /// A lost disk is here again. `counts`: what it holds does in volumes without redundancy.
    fn take_back(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        counts: bool,
        context: &Context,
    ) -> Checked {
        let model = self.live_disk(disk)?;
        let (state, known) = (model.state, model.facts);
        if state == DiskState::Online && known.is_some() {
            return Err(reason!(EBUSY, "disk {disk} is working and was never gone"));
        }
        let serial = self.check_joining(facts, Some(disk))?;
        self.check_idle(disk)?;
        self.check_expendable(disk, counts)?;
        let entry = self.entry(disk);
        if entry.is_none() && state == DiskState::Stale {
            return Err(reason!(
                EPERM,
                "the set does not list disk {disk}: what is on it may be somebody's; remove it, then \
                 add it"
            ));
        }
        let (anchor, usable) = place_on(facts);
        let mut limit = MPB_BYTES_MAX;
        if let Some(end) = entry.and_then(|entry| self.named_end(entry)) {
            if end > usable {
                return Err(reason!(
                    ENOSPC,
                    "the disk has {usable} sectors, its place in a volume ends at sector {end}"
                ));
            }
            limit = self.limit_with(anchor, end, 0)?;
        }
        let blocks = probe::blocks(facts).map_or(0, |(blocks, _)| blocks);
        let home = self.fresh_home()?;
        self.reserve_plan()?;
        if let Some(meta) = self.disk_meta_mut(disk) {
            meta.serial = serial;
            meta.anchor = Some(anchor);
            meta.home = Some(home);
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = Some(*facts);
            model.state = DiskState::Online;
            model.label = serial::label(&serial);
            model.usable_sectors = usable;
            model.failure_predicted = false;
        }
        self.lower_limit(limit);
        if counts {
            self.reinstate(disk);
        }
        self.forget(disk);
        match entry.filter(|&entry| self.is_named(entry)) {
            Some(entry) => {
                self.mpb.fill_disk(entry, &serial, blocks, disk::CONFIGURED);
                self.changed = true;
                for volume in 0..self.set.volumes.len() {
                    self.refresh_volume(volume as VolumeIndex)?;
                }
            }
            // No place waits for it: it is a spare, as any disk in no volume.
            None => {
                if let Some(entry) = entry {
                    // Before the next one has its number. The log becomes shorter: that does not fail.
                    self.forget_bad_ranges(disk)?;
                    self.drop_entry(entry);
                }
                let family = random_number(context, 0x5350_0000 + u64::from(disk));
                self.fill_own(disk, family, SPARE_GENERATION);
            }
        }
        self.refresh_role(disk);
        Ok(())
    }

    /// [`crate::model::Event::SpareAssigned`].
    #[inline(never)]
    pub fn spare_assigned(&mut self, disk: DiskIndex, role: SpareRole) -> Checked {
        self.usable_disk(disk)?;
        self.check_idle(disk)?;
        let entry = self
            .entry(disk)
            .filter(|&entry| !self.is_spare_entry(entry));
        match (role, entry) {
            (SpareRole::Dedicated(_), _) => Err(no_dedicated()),
            (SpareRole::Global, None) | (SpareRole::None, Some(_)) => Ok(()),
            (SpareRole::Global, Some(_)) => Err(reason!(
                EBUSY,
                "disk {disk} has a place in a volume that waits for it"
            )),
            (SpareRole::None, None) => Err(reason!(
                EOPNOTSUPP,
                "in Intel metadata a disk in no volume is a spare: remove it instead"
            )),
        }
    }

    /// [`crate::model::Event::SpareActivated`].
    #[inline(never)]
    pub fn spare_activated(
        &mut self,
        volume: VolumeIndex,
        slot: Slot,
        disk: DiskIndex,
        context: &Context,
    ) -> Checked {
        let (offset_sectors, end) = self.check_activation(volume, slot, disk)?;
        // From the first change on nothing may fail.
        let raw = self.mpb.raw();
        let map_bytes = match self.record(volume) {
            Some(at) if raw.u8(at + volume::MIGRATING) == 0 => raw.map_len(at + volume::BYTES),
            _ => 0,
        };
        self.check_room_to_list(disk, map_bytes)?;
        let anchor = self.usable_disk(disk)?.anchor.unwrap_or(0);
        let more_bytes = map_bytes.saturating_add(disk::BYTES);
        let limit = self.limit_with(anchor, end.max(self.used_end(disk)), more_bytes)?;
        let Some(facts) = self.live_disk(disk)?.facts else {
            return Ok(());
        };
        if self.entry(disk).is_none() {
            let Some(meta) = self.disk_meta(disk) else {
                return Ok(());
            };
            let blocks = probe::blocks(&facts).map_or(0, |(blocks, _)| blocks);
            let serial = meta.serial;
            let entry = self.mpb.add_disk(&serial, blocks, disk::CONFIGURED)?;
            if let Some(meta) = self.disk_meta_mut(disk) {
                meta.entry = Some(entry);
            }
            self.log_listed(disk)?;
        }
        self.configure(disk);
        self.give_up_place(volume, slot, disk);
        // Members have changed: a disk that is left out must not be taken for one of them.
        let raw = self.mpb.raw();
        let (orig, family) = (raw.family(), random_number(context, 0x4641));
        self.mpb.put32(header::ORIG_FAMILY, orig);
        self.mpb.put32(header::FAMILY, family);
        if let Some(member) = self
            .set
            .volumes
            .get_mut(usize::from(volume))
            .and_then(|model| model.members.get_mut(usize::from(slot)))
        {
            *member = Member {
                disk: Some(disk),
                offset_sectors,
                state: MemberState::Rebuilding { done_sectors: 0 },
            };
        }
        self.refresh_volume(volume)?;
        self.drop_unnamed(true, context, SPARE_GENERATION)?;
        self.lower_limit(limit);
        self.refresh_role(disk);
        self.changed = true;
        Ok(())
    }

    /// A disk that is to take `slot` may have another place kept for it in the volume: that one is the
    /// lost disk's then whose place it takes, so that no disk is named twice.
    fn give_up_place(&mut self, volume: VolumeIndex, slot: Slot, disk: DiskIndex) {
        let (Some(at), Some(entry)) = (self.record(volume), self.entry(disk)) else {
            return;
        };
        let raw = self.mpb.raw();
        let map = raw.map_at(at, Which::First);
        let lost = raw.order(map, slot) & map::DISK;
        let slots = u16::from(raw.u8(map + map::MEMBERS));
        let kept = (0..slots)
            .find(|&other| other != slot && raw.order(map, other) & map::DISK == u32::from(entry));
        let Some(kept) = kept else { return };
        let order = map + map::ORDER + 4 * usize::from(kept);
        self.mpb.put32(order, lost | map::OUT_OF_SYNC);
        let owner = self.disk_of_entry(lost);
        let state = owner.and_then(|owner| Some((self.set.disk(owner)?.state, owner)));
        if let Some(member) = self
            .set
            .volumes
            .get_mut(usize::from(volume))
            .and_then(|model| model.members.get_mut(usize::from(kept)))
        {
            (member.disk, member.state) = match state {
                // Here and fit for use: the place is kept for it.
                Some((DiskState::Online, _)) | None => (None, MemberState::Missing),
                Some((DiskState::Missing, owner)) => (Some(owner), MemberState::Missing),
                Some((_, owner)) => (Some(owner), MemberState::Failed),
            };
        }
    }

    /// Everything that may speak against an activation; gives the member's first sector, and where the volume and its log
    /// end.
    #[inline(never)]
    fn check_activation(
        &self,
        volume: VolumeIndex,
        slot: Slot,
        disk: DiskIndex,
    ) -> Checked<(u64, u64)> {
        let model = self.writable_volume(volume)?;
        if !model.shape.level.is_redundant() {
            return Err(reason!(EINVAL, "{} cannot be rebuilt", model.shape.level));
        }
        let member = model
            .members
            .get(usize::from(slot))
            .ok_or_else(|| reason!(EINVAL, "volume {volume} has no member {slot}"))?;
        if !is_empty(member) {
            return Err(reason!(EBUSY, "member {slot} is in use"));
        }
        self.usable_disk(disk)?;
        if model.members.iter().any(|other| other.disk == Some(disk)) {
            return Err(reason!(
                EEXIST,
                "disk {disk} is a member of the volume already"
            ));
        }
        let start = member.offset_sectors;
        let data_end = start.saturating_add(model.shape.member_sectors);
        let stretch = self.volume_stretch(volume);
        let end = stretch.map_or(data_end, |(_, end)| end);
        let usable = self.live_disk(disk)?.usable_sectors;
        if end > usable {
            return Err(reason!(
                ENOSPC,
                "disk {disk} has {usable} sectors, the volume ends at sector {end}"
            ));
        }
        let mut taken = false;
        for (other, _, held) in self.set.memberships(disk) {
            let last = self.volume_stretch(other).map_or(u64::MAX, |(_, end)| end);
            taken |= held.offset_sectors < end && start < last;
        }
        if taken {
            return Err(reason!(ENOSPC, "disk {disk} holds another volume there"));
        }
        Ok((start, end))
    }
}

fn no_dedicated() -> crate::model::Reason {
    reason!(
        EOPNOTSUPP,
        "Intel metadata has spares for every volume of a set only"
    )
}

/// Block of the anchor, and sectors for volumes, of a disk.
pub fn place_on(facts: &DiskFacts) -> (u64, u64) {
    let Some((blocks, block)) = probe::blocks(facts) else {
        return (0, 0);
    };
    let anchor = blocks.saturating_sub(2);
    (anchor, usable_sectors(anchor, block))
}

/// Sectors for volumes on a disk with its anchor in block `anchor`.
pub fn usable_sectors(anchor: u64, block_sectors: u64) -> u64 {
    let end = anchor.saturating_mul(block_sectors);
    end.saturating_sub(KEPT_SECTORS.next_multiple_of(block_sectors.max(1)))
}

/// Checks a blank disk; gives its serial number.
pub fn check_facts(facts: &DiskFacts) -> Checked<Serial> {
    if probe::blocks(facts).is_none() {
        return Err(reason!(
            EINVAL,
            "a disk of {} sectors with blocks of {} bytes cannot be used",
            facts.size_sectors,
            facts.logical_block_bytes
        ));
    }
    serial::of_disk(facts.serial.as_str()).ok_or_else(|| {
        reason!(
            EOPNOTSUPP,
            "a disk does not tell its serial number; Intel metadata knows disks by nothing else"
        )
    })
}
