// SPDX-License-Identifier: GPL-2.0

//! Events about disks: failed, missing, added, returned, removed, spares.

use super::create::{check_size, fresh_home};
use super::layout::*;
use super::set::{is_whole, AsrSet, DiskMeta, Spot, Touched};
use crate::model::{
    Access, Checked, Context, Disk, DiskFacts, DiskIndex, DiskOffer, DiskRole, DiskState,
    MemberState, Slot, SpareRole, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// A spare's line.
pub fn spare_line(magic: u32, state: u8, usable_sectors: u64) -> Line {
    Line {
        magic,
        kind: kind::DISK,
        raid: raid::SPARE,
        state,
        // dmraid refuses disks of no sectors.
        capacity: u32::try_from(usable_sectors).unwrap_or(u32::MAX).max(1),
        ..Line::default()
    }
}

impl AsrSet {
    /// [`crate::model::Event::DiskFailed`].
    #[inline(never)]
    pub fn disk_failed(&mut self, disk: DiskIndex) -> Checked {
        self.live_disk(disk)?;
        self.lose(disk);
        Ok(())
    }

    /// [`crate::model::Event::DiskMissing`].
    #[inline(never)]
    pub fn disk_missing(&mut self, disk: DiskIndex) -> Checked {
        self.live_disk(disk)?;
        let capacity = self
            .disk_line(disk)
            .and_then(|index| self.table.line(index))
            .map(|line| u64::from(line.capacity));
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = None;
            // All that is known of its size while it is gone.
            model.usable_sectors = capacity.unwrap_or(0);
        }
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            meta.spot = None;
        }
        self.lose(disk);
        Ok(())
    }

    /// A disk counts for nothing any more: its line, its state, its members, its volumes' states.
    fn lose(&mut self, disk: DiskIndex) {
        let line = self.disk_line(disk);
        if let Some(index) = line {
            self.edit_line(index, Touched::Lines, |line| {
                if !line.is_lost() {
                    line.state = state::FAILED;
                }
            });
        }
        let present = self
            .set
            .disk(disk)
            .is_some_and(|model| model.facts.is_some());
        let state = match (line, present) {
            (Some(_), true) => DiskState::Failed,
            (Some(_), false) => DiskState::Missing,
            // The set does not list it: it only happened to be here.
            (None, true) => DiskState::Stale,
            (None, false) => DiskState::Removed,
        };
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = state;
        }
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            // It keeps its last words; they are no longer kept up to date.
            meta.home = None;
        }
        let member_state = match state {
            DiskState::Missing => MemberState::Missing,
            _ => MemberState::Failed,
        };
        for volume in self.set.volumes.iter_mut().filter(|volume| !volume.deleted) {
            for member in volume.members.iter_mut() {
                if member.disk == Some(disk) {
                    member.state = member_state;
                }
            }
        }
        for index in 0..self.set.volumes.len() {
            let Ok(volume) = u16::try_from(index) else {
                break;
            };
            let member = self
                .set
                .volume(volume)
                .is_some_and(|v| v.members.iter().any(|m| m.disk == Some(disk)));
            if member {
                self.refresh_volume(volume);
            }
        }
        self.refresh_role(disk);
    }

    /// Lists a spare: under the array in line `top`, or for all.
    pub fn list_spare(&mut self, top: Option<usize>, line: &Line) {
        let last = top.and_then(|top| {
            let arrays = self.table.arrays(top);
            self.table.array_line(top, arrays.saturating_sub(1))
        });
        let parent = match last.or_else(|| self.table.spares()) {
            Some(parent) => parent,
            None => {
                let head = Line {
                    magic: NO_MAGIC,
                    kind: kind::ARRAY,
                    raid: raid::SPARE,
                    capacity: line.capacity,
                    ..Line::default()
                };
                let end = self.table.len();
                self.table.insert(end, &head);
                end
            }
        };
        let end = self.table.below(parent).end;
        let mut line = *line;
        if last.is_some() {
            let name = self.table.line(parent).map(|parent| parent.name);
            line.name = name.unwrap_or_default();
        }
        self.table.insert(end, &line);
        self.count_spares(parent);
        self.touch(Touched::Lines);
    }

    /// Brings the number of spares in a list up to date; an empty list goes.
    fn count_spares(&mut self, parent: usize) {
        let Some(head) = self.table.line(parent).filter(Line::is_spares) else {
            return;
        };
        let range = self.table.below(parent);
        let count = self
            .table
            .lines()
            .filter(|(index, line)| range.contains(index) && line.is_disk())
            .count();
        if count == 0 && range.is_empty() {
            self.table.remove(parent);
        } else {
            let count = u16::try_from(count).unwrap_or(0);
            self.table.set(parent, &Line { count, ..head });
        }
    }

    /// Takes the spare's line of the disk with this magic number out.
    pub fn unlist_spare(&mut self, magic: u32) {
        let Some(index) = self.table.disk(magic) else {
            return;
        };
        let spare = self
            .table
            .line(index)
            .is_some_and(|line| line.raid == raid::SPARE);
        if !spare {
            return;
        }
        let parent = self.table.parent(index);
        self.table.remove(index);
        if let Some(parent) = parent {
            self.count_spares(parent);
        }
        let head = self.table.head_mut();
        if get32(head, header::SPARE_DRIVE) == magic {
            put32(head, header::SPARE_DRIVE, 0);
            put8(head, header::SPARE_ID, 0);
        }
        self.touch(Touched::Lines);
    }

    /// Takes `disk` out of every line: members lose its number, a spare's line goes.
    fn forget(&mut self, disk: DiskIndex) {
        let Some(magic) = self.disk_meta(disk).map(|meta| meta.magic) else {
            return;
        };
        self.unlist_spare(magic);
        if let Some(index) = self.table.disk(magic) {
            self.edit_line(index, Touched::Lines, |line| {
                line.magic = NO_MAGIC;
                line.state = state::FAILED;
                line.progress = 0;
            });
        }
        for index in 0..self.set.volumes.len() {
            let mut found = false;
            if let Some(volume) = self.set.volumes.get_mut(index) {
                for member in volume.members.iter_mut() {
                    if member.disk == Some(disk) && !volume.deleted {
                        member.disk = None;
                        member.offset_sectors = 0;
                        member.state = MemberState::Missing;
                        found = true;
                    }
                }
            }
            if found {
                self.refresh_volume(u16::try_from(index).unwrap_or(u16::MAX));
            }
        }
    }

    /// Refuses when `disk` holds data that is in use.
    fn check_idle(&self, disk: DiskIndex) -> Checked {
        let busy = self.set.memberships(disk).find(|(_, _, member)| {
            matches!(
                member.state,
                MemberState::InSync | MemberState::Rebuilding { .. }
            )
        });
        match busy {
            Some((volume, slot, _)) => Err(reason!(
                EBUSY,
                "disk {disk} is member {slot} of volume {volume}: fail it first"
            )),
            None => Ok(()),
        }
    }

    /// [`crate::model::Event::DiskRemoved`].
    #[inline(never)]
    pub fn disk_removed(&mut self, disk: DiskIndex) -> Checked {
        self.live_disk(disk)?;
        self.check_idle(disk)?;
        self.forget(disk);
        let spot = match self.disks.get_mut(usize::from(disk)) {
            Some(meta) => {
                meta.home = None;
                meta.spot.take()
            }
            None => None,
        };
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.state = DiskState::Removed;
            model.role = DiskRole::Unused;
            if model.facts.is_some() {
                self.leaving = spot.map(|spot| (disk, spot));
            }
        }
        Ok(())
    }

    /// Checks a disk that is to join.
    fn check_joining(&self, facts: &DiskFacts) -> Checked {
        check_size(facts)?;
        match self.set.disk_by_key(facts.key) {
            Some(disk) => Err(reason!(
                EEXIST,
                "the disk is disk {disk} of the set already"
            )),
            None => Ok(()),
        }
    }

    /// Refuses when the table has no room for `more` lines.
    pub fn check_room(&self, more: usize) -> Checked {
        let most = self.lines_max();
        if self.table.has_room(more) && self.table.len().saturating_add(more) <= most {
            return Ok(());
        }
        Err(reason!(
            ENOSPC,
            "the table has {} lines; {most} can be changed safely",
            self.table.len()
        ))
    }

    /// Refuses when the table has no room for one more spare, and for the head of a list of them where there is none. `goes`:
    /// a disk whose own line as a spare makes room.
    fn check_room_to_list(&self, goes: Option<DiskIndex>) -> Checked {
        let line = goes.and_then(|disk| self.table.line(self.disk_line(disk)?));
        let is_spare = line.is_some_and(|line| line.raid == raid::SPARE);
        let has_list = self.table.spares().is_some();
        self.check_room(usize::from(!is_spare) + usize::from(!has_list))
    }

    /// [`crate::model::Event::DiskAdded`].
    #[inline(never)]
    pub fn disk_added(&mut self, offer: &DiskOffer, context: &Context) -> Checked {
        self.check_joining(&offer.facts)?;
        self.check_room_to_list(None)?;
        if self.set.live_disks().count() >= usize::from(super::SET_DISKS_MAX) {
            return Err(reason!(
                ENOSPC,
                "a set has at most {} disks",
                super::SET_DISKS_MAX
            ));
        }
        let top = self.spare_target(offer.role)?;
        let index = self.set.index_to_join()?;
        let magic = self.new_magic(context, u64::from(index));
        let home = fresh_home(&offer.facts, magic)?;
        let usable = home.place;
        let spot = Spot {
            table: home.place,
            last: home.last,
        };
        self.set.disks.reserve(1, GFP_KERNEL)?;
        self.disks.reserve(1, GFP_KERNEL)?;
        self.reserve_plan()?;
        self.set.disks.push(
            Disk {
                facts: Some(offer.facts),
                label: super::assemble::label_of(magic),
                state: DiskState::Online,
                role: DiskRole::Unused,
                usable_sectors: usable,
                failure_predicted: false,
            },
            GFP_KERNEL,
        )?;
        self.disks.push(
            DiskMeta {
                magic,
                spot: Some(spot),
                was_away: false,
                home: Some(home),
            },
            GFP_KERNEL,
        )?;
        self.list_spare(top, &spare_line(magic, role_state(offer.role), usable));
        self.refresh_role(index);
        Ok(())
    }

    /// Refuses when what is on `disk` may be all that is left of a volume, or may decide what a
    /// volume is.
    #[inline(never)]
    fn check_expendable(&self, disk: DiskIndex) -> Checked {
        let stale = self
            .set
            .disk(disk)
            .is_some_and(|model| model.state == DiskState::Stale);
        for (index, volume) in self.set.live_volumes() {
            let member = volume.members.iter().any(|m| m.disk == Some(disk));
            let refused = matches!(volume.access, Access::Refused(_));
            if refused && (stale || member) {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is kept as it is: it is not certain what volume {index} is"
                ));
            }
            if member && !is_whole(volume) {
                return Err(reason!(
                    EBUSY,
                    "disk {disk} is kept as it is: volume {index} cannot do without it"
                ));
            }
        }
        Ok(())
    }

    /// [`crate::model::Event::DiskReturned`]. The disk gets a new number, so that whatever its old
    /// metadata said cannot be taken for the truth.
    #[inline(never)]
    pub fn disk_returned(
        &mut self,
        disk: DiskIndex,
        facts: &DiskFacts,
        context: &Context,
    ) -> Checked {
        let model = self.live_disk(disk)?;
        if model.state == DiskState::Online && model.facts.is_some() {
            return Err(reason!(EBUSY, "disk {disk} is working and was never gone"));
        }
        let same = model.facts.is_some_and(|known| known.key == facts.key);
        if same {
            check_size(facts)?;
        } else {
            self.check_joining(facts)?;
        }
        self.check_idle(disk)?;
        self.check_expendable(disk)?;
        self.check_room_to_list(Some(disk))?;
        if self.disk_line(disk).is_none() {
            return Err(reason!(
                EPERM,
                "the set does not list disk {disk}: what is on it may be somebody's; remove it, then \
                 add it"
            ));
        }
        let magic = self.new_magic(context, u64::from(disk));
        let home = fresh_home(facts, magic)?;
        let usable = home.place;
        let spot = Spot {
            table: home.place,
            last: home.last,
        };
        self.reserve_plan()?;
        self.forget(disk);
        if let Some(meta) = self.disks.get_mut(usize::from(disk)) {
            *meta = DiskMeta {
                magic,
                spot: Some(spot),
                was_away: false,
                home: Some(home),
            };
        }
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.facts = Some(*facts);
            model.state = DiskState::Online;
            model.label = super::assemble::label_of(magic);
            model.usable_sectors = usable;
            model.failure_predicted = false;
        }
        self.list_spare(None, &spare_line(magic, state::UNCONFIGURED, usable));
        self.refresh_role(disk);
        Ok(())
    }

    /// The line of the array that a spare is to be listed under; `None` for all.
    fn spare_target(&self, role: SpareRole) -> Checked<Option<usize>> {
        let SpareRole::Dedicated(volume) = role else {
            return Ok(None);
        };
        let model = self.live_volume(volume)?;
        if !model.shape.level.is_redundant() {
            return Err(reason!(
                EINVAL,
                "volume {volume} is {}: a spare is of no use to it",
                model.shape.level
            ));
        }
        self.volume_line(volume)
            .map(Some)
            .ok_or_else(|| reason!(ENOENT, "the table has no volume {volume}"))
    }

    /// [`crate::model::Event::SpareAssigned`].
    #[inline(never)]
    pub fn spare_assigned(&mut self, disk: DiskIndex, role: SpareRole) -> Checked {
        self.usable_disk(disk)?;
        self.check_idle(disk)?;
        self.check_room_to_list(Some(disk))?;
        self.spare_target(role)?;
        let now = match self.set.disk(disk).map(|model| model.role) {
            Some(DiskRole::GlobalSpare) => SpareRole::Global,
            Some(DiskRole::DedicatedSpare(volume)) => SpareRole::Dedicated(volume),
            _ => SpareRole::None,
        };
        let (magic, usable) = match (self.disk_meta(disk), self.set.disk(disk)) {
            (Some(meta), Some(model)) => (meta.magic, model.usable_sectors),
            _ => return Ok(()),
        };
        if now == role {
            return Ok(());
        }
        self.unlist_spare(magic);
        // Found again: the line may have moved up.
        let top = self.spare_target(role).unwrap_or(None);
        self.list_spare(top, &spare_line(magic, role_state(role), usable));
        self.refresh_role(disk);
        Ok(())
    }

    /// [`crate::model::Event::SpareActivated`].
    #[inline(never)]
    pub fn spare_activated(&mut self, volume: VolumeIndex, slot: Slot, disk: DiskIndex) -> Checked {
        self.check_activation(volume, slot, disk)?;
        let Some(magic) = self.disk_meta(disk).map(|meta| meta.magic) else {
            return Ok(());
        };
        self.unlist_spare(magic);
        // The line keeps its address: that is what orders the members.
        let Some(index) = self.slot_line(volume, slot) else {
            return Ok(());
        };
        self.edit_line(index, Touched::Lines, |line| {
            line.magic = magic;
            line.state = state::REBUILDING;
            line.progress = 0;
            line.offset = 0;
        });
        let mut old = None;
        if let Some(member) = self
            .set
            .volumes
            .get_mut(usize::from(volume))
            .and_then(|model| model.members.get_mut(usize::from(slot)))
        {
            old = member.disk;
            member.disk = Some(disk);
            member.offset_sectors = 0;
            member.state = MemberState::Rebuilding { done_sectors: 0 };
        }
        if let Some(old) = old {
            self.keep_lost(old);
        }
        self.refresh_volume(volume);
        self.refresh_role(disk);
        Ok(())
    }

    /// A lost disk whose line went to another one stays listed, as lost.
    fn keep_lost(&mut self, disk: DiskIndex) {
        let (Some(meta), Some(model)) = (self.disk_meta(disk), self.set.disk(disk)) else {
            return;
        };
        let line = spare_line(meta.magic, state::FAILED, model.usable_sectors);
        if self.table.disk(meta.magic).is_none() {
            self.list_spare(None, &line);
        }
        self.refresh_role(disk);
    }

    /// Everything that may speak against an activation.
    #[inline(never)]
    fn check_activation(&self, volume: VolumeIndex, slot: Slot, disk: DiskIndex) -> Checked {
        let model = self.live_volume(volume)?;
        if !model.shape.level.is_redundant() {
            return Err(reason!(EINVAL, "{} cannot be rebuilt", model.shape.level));
        }
        match model.members.get(usize::from(slot)).map(|m| m.state) {
            Some(MemberState::Failed | MemberState::Missing) => {}
            Some(_) => return Err(reason!(EBUSY, "member {slot} is in use")),
            None => return Err(reason!(EINVAL, "volume {volume} has no member {slot}")),
        }
        self.usable_disk(disk)?;
        if let Some((other, _, _)) = self.set.memberships(disk).next() {
            return Err(reason!(
                EEXIST,
                "disk {disk} is a member of volume {other} already"
            ));
        }
        self.check_room_to_list(Some(disk))?;
        if self.slot_line(volume, slot).is_none() {
            return Err(reason!(ENOENT, "the table has no line for member {slot}"));
        }
        let usable = self.set.disk(disk).map_or(0, |model| model.usable_sectors);
        if usable < model.shape.member_sectors {
            return Err(reason!(
                ENOSPC,
                "disk {disk} has {usable} sectors for data, a member has {}",
                model.shape.member_sectors
            ));
        }
        Ok(())
    }
}

/// State of the line of a spare with this role.
fn role_state(role: SpareRole) -> u8 {
    match role {
        SpareRole::None => state::UNCONFIGURED,
        SpareRole::Global | SpareRole::Dedicated(_) => state::OPTIMAL,
    }
}
