// SPDX-License-Identifier: GPL-2.0

//! How arrays start.

use super::managed::{Bell, ManagedSet};
use super::shared::{now, Number};
use super::state::{Asked, Inner, Running};
use crate::array::{Array, ArrayParams, BadSpot, MemberSlot};
use crate::block::gate::Gated;
use crate::block::gendisk::Disk;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskState, Event, Member, MemberState, Set,
    VolumeIndex,
};
use crate::personalities::rebuild::{Late, Marks};
use crate::personalities::{for_level, Geometry, Health, Mask, Stretches};
use crate::reason;
use crate::uapi::{EventKind, VolumeState};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What may be started.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// With members missing that may still come, as long as no data is.
    pub degraded: bool,
    /// Also what is both dirty and degraded.
    pub force: bool,
}

impl Policy {
    /// What a person who just made it may expect.
    pub const ANY: Self = Self {
        degraded: true,
        force: true,
    };
}

impl ManagedSet {
    /// Starts the volumes that can be (only `only`, when given): claims the disks, makes arrays and
    /// their block devices. Says how many were started; why others were not is kept with them.
    ///
    /// Called with neither `change` nor the inner lock held.
    pub fn start(self: &Arc<Self>, policy: Policy, only: Option<VolumeIndex>) -> Checked<u32> {
        let change = self.change.lock();
        self.activate()?;
        let mut started = 0;
        let volumes = self.lock().entries_len();
        for volume in 0..volumes {
            if only.is_some_and(|only| only != volume) {
                continue;
            }
            match self.start_volume(volume, policy) {
                Ok(true) => started += 1,
                Ok(false) => {}
                Err(reason) => {
                    let mut inner = self.lock();
                    if let Some(entry) = inner.entries.get_mut(usize::from(volume)) {
                        entry.why = Some(reason);
                    }
                }
            }
        }
        if started > 0 {
            let mut inner = self.lock();
            inner.held = false;
            // What was read before is of no use any more.
            inner.images = KVec::new();
        }
        self.release_if_idle();
        drop(change);
        if started > 0 {
            self.kick();
            self.kick_keeper();
        }
        Ok(started)
    }

    /// True when it was started now, false when there was nothing to do.
    #[inline(never)]
    fn start_volume(self: &Arc<Self>, volume: VolumeIndex, policy: Policy) -> Checked<bool> {
        let number = Number::take(&self.shared)?;
        let n = number.get();
        let array = {
            let mut inner = self.lock();
            if inner.running(volume).is_some() || inner.known()?.volume(volume).is_none() {
                return Ok(false);
            }
            inner.may_start(volume, policy)?;
            inner.record_absent(self, volume);
            inner.record_dirty(self, volume);
            // A disk that did not take its metadata is lost by now.
            inner.may_start(volume, policy)?;
            let usable = inner.usable(volume);
            match inner.replay_hole(volume, usable) {
                Err(reason) if policy.force => {
                    log!(
                        pr_warn,
                        "volume {}: started all the same: {}",
                        volume,
                        reason
                    );
                }
                replayed => replayed?,
            }
            inner.start_hole(self, volume)?;
            inner.may_start(volume, policy)?;
            let bell = KBox::new(
                Bell {
                    set: self.clone(),
                    number: n,
                },
                GFP_KERNEL,
            )?;
            let mut running = inner.make_running(volume, number, bell)?;
            running.state = VolumeState::Inactive;
            let array = running.array.clone();
            let entry = inner
                .entries
                .get_mut(usize::from(volume))
                .ok_or(reason!(EIO, "internal: no room for volume {volume}"))?;
            entry.running = Some(running);
            entry.why = None;
            array
        };
        // The partition table is read through the array, which may need the recorder.
        match self.add_disk(volume, n, &array) {
            Ok(()) => Ok(true),
            Err(reason) => {
                // Nobody can have written to it.
                let _ = Array::stop(&array);
                drop(self.take_running(volume));
                Err(reason)
            }
        }
    }

    /// Takes what runs of a volume out; it is dropped without the lock held.
    pub fn take_running(&self, volume: VolumeIndex) -> Option<Running> {
        let mut inner = self.lock();
        inner.entries.get_mut(usize::from(volume))?.running.take()
    }

    #[inline(never)]
    fn add_disk(&self, volume: VolumeIndex, number: u32, array: &Arc<Gated<Array>>) -> Checked {
        let (size_sectors, read_only) = {
            let inner = self.lock();
            let size = inner
                .known()?
                .volume(volume)
                .map_or(0, |model| model.size_sectors);
            (size, inner.running(volume).is_some_and(|run| run.read_only))
        };
        let limits = Array::limits(array);
        let disk = Disk::add(
            array.clone(),
            &limits,
            format_args!("emd{number}"),
            size_sectors,
            read_only,
            self.shared.module,
        )
        .map_err(|errno| {
            reason!(
                errno,
                "the block device emd{number} cannot be made: errno {}",
                -errno.to_errno()
            )
        })?;
        let mut inner = self.lock();
        let state = {
            if let Some(running) = inner.running_mut(volume) {
                running.disk = Some(disk);
            }
            let state = inner.volume_state(volume);
            if let Some(running) = inner.running_mut(volume) {
                running.state = state;
            }
            state
        };
        inner.link_attached(volume);
        log!(pr_info, "emd{} is started, {}", number, state.word());
        self.shared
            .post(EventKind::ArrayStarted, &self.id, |event| {
                event.number = Some(number);
                event.value = u64::from(state.code());
            });
        Ok(())
    }
}

impl Inner {
    /// Whether a volume may be started, or why not.
    #[inline(never)]
    pub fn may_start(&self, volume: VolumeIndex, policy: Policy) -> Checked {
        let set = self.known()?;
        let Some(model) = set.volume(volume) else {
            return Err(reason!(ENOENT, "there is no volume {volume}"));
        };
        if let Access::Refused(reason) = &model.access {
            return Err(*reason);
        }
        let shape = &model.shape;
        let Some(level) = for_level(shape.level) else {
            return Err(reason!(EOPNOTSUPP, "{} is not supported yet", shape.level));
        };
        level.check(shape)?;
        let members = self.usable(volume);
        let lost = (shape.members_total() as u32).saturating_sub(members.len());
        if level.health(shape, members) == Health::Failed {
            return Err(reason!(
                EIO,
                "{} of {} members are lost, more than {} bears",
                lost,
                shape.members_total(),
                shape.level
            ));
        }
        let awaited = (0u16..).zip(model.members.iter()).filter(|(slot, member)| {
            let failed = member.state == MemberState::Failed
                || member
                    .disk
                    .and_then(|disk| set.disk(disk))
                    .is_none_or(|disk| disk.state == DiskState::Failed);
            !failed && member.disk.is_some_and(|disk| self.device(disk).is_none()) && {
                !members.contains(*slot)
            }
        });
        let awaited = awaited.count();
        if awaited > 0 && !policy.degraded {
            return Err(reason!(
                ENODEV,
                "{} of {} members are missing",
                awaited,
                shape.members_total()
            ));
        }
        if lost > 0 && !model.stretches.is_empty() {
            return Err(reason!(ENODEV, "being reshaped, and a member is missing"));
        }
        let has_parity = shape.level.parity_members() > 0;
        let is_exposed = match self.crash_policy(volume) {
            CrashPolicy::None => false,
            CrashPolicy::Resync => true,
            CrashPolicy::Log => self.hole_params(volume).is_none(),
        };
        let is_dirty = model.consistency == Consistency::Dirty;
        if lost > 0 && has_parity && is_dirty && is_exposed && !policy.force {
            return Err(reason!(
                EUCLEAN,
                "degraded, and writes were in flight when it stopped: what was being written \
                 may be wrong; start it by force"
            ));
        }
        Ok(())
    }

    /// The members in sync whose disks are claimed.
    fn usable(&self, volume: VolumeIndex) -> Mask {
        let mut usable = self.in_sync(volume, None);
        for slot in usable.iter() {
            let here = self
                .disk_in(volume, slot)
                .is_some_and(|disk| self.is_online(disk));
            if !here {
                usable = usable.without(slot);
            }
        }
        usable
    }

    /// Records the members that are not here, so that they are known to be old if they come back.
    /// That it cannot be recorded now does no harm: nothing is written before the dirty mark is.
    #[inline(never)]
    fn record_absent(&mut self, set: &ManagedSet, volume: VolumeIndex) {
        let Some(members) = self
            .model()
            .and_then(|model| model.volume(volume))
            .map(|volume| volume.members.len() as u16)
        else {
            return;
        };
        for slot in 0..members {
            let Some(disk) = self.disk_in(volume, slot) else {
                continue;
            };
            let failed = self
                .model()
                .and_then(|model| model.disk(disk))
                .is_none_or(|disk| disk.state == DiskState::Failed);
            if self.device(disk).is_some() || failed {
                continue;
            }
            if let Err(reason) = self.record(&set.shared, &Event::DiskMissing(disk)) {
                log!(
                    pr_warn,
                    "disk {} is missing, not recorded: {}",
                    disk,
                    reason
                );
            }
        }
    }

    /// Records once more that a volume is dirty: the mark may be on some of its disks only, when power
    /// failed while it was being written, and nobody writes it again before it is clean.
    #[inline(never)]
    fn record_dirty(&mut self, set: &ManagedSet, volume: VolumeIndex) {
        let dirty = self
            .model()
            .and_then(|model| model.volume(volume))
            .is_some_and(|volume| {
                matches!(volume.access, Access::ReadWrite)
                    && volume.consistency == Consistency::Dirty
            });
        if !dirty {
            return;
        }
        if let Err(reason) = self.record(&set.shared, &Event::Dirty(volume)) {
            log!(pr_warn, "the dirty mark is not renewed: {}", reason);
        }
    }

    #[inline(never)]
    fn make_running(
        &mut self,
        index: VolumeIndex,
        number: Number,
        bell: KBox<Bell>,
    ) -> Checked<Running> {
        let usable = self.usable(index);
        let set = self.known()?;
        let Some(volume) = set.volume(index) else {
            return Err(reason!(ENOENT, "there is no volume {index}"));
        };
        if !volume.stretches.is_empty() {
            return self.make_stretched(index, number, bell);
        }
        let geometry = Geometry::new(&volume.shape, volume.size_sectors)?;
        let mut members = KVec::with_capacity(volume.members.len(), GFP_KERNEL)?;
        let mut rebuilding = Mask::EMPTY;
        let mut rebuilt = Marks::NONE;
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let device = member
                .disk
                .filter(|&disk| self.is_online(disk))
                .and_then(|disk| self.device(disk));
            let mut done_sectors = 0;
            let device = match member.state {
                MemberState::InSync if usable.contains(slot) => device,
                MemberState::Rebuilding { done_sectors: done } if device.is_some() => {
                    rebuilding = rebuilding.with(slot);
                    done_sectors = done;
                    device
                }
                _ => None,
            };
            if let Some(device) = device {
                let end = member
                    .offset_sectors
                    .checked_add(geometry.used_member_sectors());
                if end.is_none_or(|end| end > device.size_sectors()) {
                    return Err(reason!(
                        EINVAL,
                        "the member in slot {slot} ends beyond disk {}",
                        device.dev()
                    ));
                }
            }
            let member = device.map(|device| MemberSlot {
                device: device.clone(),
                offset_sectors: member.offset_sectors,
                log_sector: self.hole_ring_sector(index, slot),
            });
            members.push(member, GFP_KERNEL)?;
            rebuilt.push(done_sectors)?;
        }
        let hole = self.hole_params(index);
        let redundant = volume.shape.level.is_redundant();
        // Who wants nothing done about crashes takes redundancy as right after one.
        let is_trusted = self.crash_policy(index) == CrashPolicy::None;
        let unsynced_from = match volume.consistency {
            Consistency::Initialising { done_sectors } if redundant => Some(done_sectors),
            Consistency::Dirty if redundant && !is_trusted => Some(0),
            _ => None,
        };
        let read_only = matches!(volume.access, Access::ReadOnly(_));
        let bad = bad_spots(set, &volume.members, volume.shape.member_sectors)?;
        let params = ArrayParams {
            number: number.get(),
            geometry,
            stretches: None,
            members,
            readable: usable,
            rebuilding,
            rebuilt,
            unsynced_from,
            // Where nothing has to agree nothing has to be recorded.
            dirty: !redundant || volume.consistency == Consistency::Dirty,
            regions: volume.regions.as_ref().filter(|_| redundant),
            bad: &bad,
            hole: hole.filter(|_| !read_only),
            read_only,
            notify: bell,
        };
        let needs_resync = unsynced_from.is_some();
        let attached = usable.union(rebuilding);
        let scrub = volume.scrub.filter(|_| redundant && !read_only);
        Ok(Running {
            read_only,
            asked: scrub.map(Asked::recorded),
            needs_resync,
            resync_from_sectors: unsynced_from.unwrap_or(0),
            ..fresh(Array::new(params)?, number, attached)
        })
    }

    /// As above, for a volume that lies in more than one shape: it is read from all of its members, each
    /// where the stretches say, or not at all.
    #[inline(never)]
    fn make_stretched(
        &self,
        index: VolumeIndex,
        number: Number,
        bell: KBox<Bell>,
    ) -> Checked<Running> {
        let set = self.known()?;
        let Some(volume) = set.volume(index) else {
            return Err(reason!(ENOENT, "there is no volume {index}"));
        };
        if !matches!(volume.access, Access::ReadOnly(_)) {
            return Err(reason!(EROFS, "what lies in several shapes is not written"));
        }
        let geometry = Geometry::new(&volume.shape, volume.size_sectors)?;
        let (stretches, table) = Stretches::new(volume)?;
        let mut members = KVec::with_capacity(table.len(), GFP_KERNEL)?;
        for (slot, member) in (0u16..).zip(table.iter()) {
            let device = member
                .disk
                .filter(|&disk| self.is_online(disk))
                .and_then(|disk| self.device(disk));
            let Some(device) = device else {
                return Err(reason!(ENODEV, "being reshaped, and a member is missing"));
            };
            let end = member
                .offset_sectors
                .checked_add(stretches.member_end(slot));
            if end.is_none_or(|end| end > device.size_sectors()) {
                return Err(reason!(
                    EINVAL,
                    "a member that is being reshaped ends beyond disk {}",
                    device.dev()
                ));
            }
            let member = MemberSlot {
                device: device.clone(),
                offset_sectors: member.offset_sectors,
                log_sector: 0,
            };
            members.push(Some(member), GFP_KERNEL)?;
        }
        let readable = Mask::all(table.len() as u16);
        let bad = bad_spots(set, &table, u64::MAX)?;
        let params = ArrayParams {
            number: number.get(),
            geometry,
            stretches: Some(stretches),
            members,
            readable,
            rebuilding: Mask::EMPTY,
            // Nothing is rebuilt in several shapes.
            rebuilt: Marks::NONE,
            unsynced_from: None,
            dirty: true,
            regions: None,
            bad: &bad,
            hole: None,
            read_only: true,
            notify: bell,
        };
        Ok(Running {
            read_only: true,
            ..fresh(Array::new(params)?, number, self.usable(index))
        })
    }

    /// Shows the attached members of a volume in sysfs.
    #[inline(never)]
    pub fn link_attached(&mut self, volume: VolumeIndex) {
        let Some(attached) = self.running(volume).map(|running| running.attached) else {
            return;
        };
        for slot in attached.iter() {
            let device = self
                .disk_in(volume, slot)
                .and_then(|disk| self.device(disk))
                .cloned();
            let (Some(device), Some(running)) = (device, self.running_mut(volume)) else {
                continue;
            };
            let Some(disk) = &running.disk else { return };
            if !running.linked.contains(slot) && disk.link_member(&device).is_ok() {
                running.linked = running.linked.with(slot);
            }
        }
    }

    /// Takes a member of a volume out of sysfs.
    #[inline(never)]
    pub fn unlink(&mut self, volume: VolumeIndex, slot: crate::model::Slot) {
        let device = self
            .disk_in(volume, slot)
            .and_then(|disk| self.device(disk))
            .cloned();
        let (Some(device), Some(running)) = (device, self.running_mut(volume)) else {
            return;
        };
        if running.linked.contains(slot) {
            running.linked = running.linked.without(slot);
            if let Some(disk) = &running.disk {
                disk.unlink_member(&device);
            }
        }
    }
}

/// What runs of a volume whose array was just made.
fn fresh(array: Arc<Gated<Array>>, number: Number, attached: Mask) -> Running {
    Running {
        array,
        disk: None,
        number,
        attached,
        linked: Mask::EMPTY,
        stopping: false,
        read_only: false,
        needs_resync: false,
        resync_all: false,
        resync_from_sectors: 0,
        late: Late::NONE,
        asked: None,
        paused: false,
        retry_at: now(),
        told_per_mille: 0,
        checkpoint_at: now(),
        state: VolumeState::Inactive,
        complained: false,
    }
}

/// What is bad on `members`, as far as they have `member_sectors`.
#[inline(never)]
fn bad_spots(set: &Set, members: &[Member], member_sectors: u64) -> Checked<KVec<BadSpot>> {
    let mut spots = KVec::new();
    for bad in set.bad_ranges.iter() {
        let end = bad.sector.saturating_add(u64::from(bad.sectors));
        for (slot, member) in (0u16..).zip(members.iter()) {
            if member.disk != Some(bad.disk) {
                continue;
            }
            let start = member.offset_sectors;
            let member_end = start.saturating_add(member_sectors);
            let first = bad.sector.max(start);
            let sectors = end.min(member_end).saturating_sub(first);
            if sectors > 0 {
                let first = first - start;
                spots.push(
                    BadSpot {
                        slot,
                        first,
                        sectors,
                    },
                    GFP_KERNEL,
                )?;
            }
        }
    }
    Ok(spots)
}
