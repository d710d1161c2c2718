// SPDX-License-Identifier: GPL-2.0

//! New sets and volumes.

use super::candidate::{Candidate, MayHold};
use super::fill::check_zeroes;
use super::managed::ManagedSet;
use super::manager::{Manager, Operations};
use super::probe;
use super::record::context;
use super::start::Policy;
use crate::block::bdev::Dev;
use crate::metadata::{check_region_log, registry, Format, LevelCapability, MetadataSet};
use crate::model::{
    Checked, CrashPolicy, DiskFacts, DiskIndex, DiskRole, DiskState, Event, Level, Shape,
    SpareRole, VolumeIndex, VolumeSpec,
};
use crate::personalities::for_level;
use crate::reason;
use crate::uapi::request::CreateVolume;
use crate::uapi::{CreateReply, CreateRequest, EventKind};
use core::fmt;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The levels of a format, for people: each once.
struct Levels(&'static [LevelCapability]);

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, can) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str(", ")?;
            }
            f.write_str(can.level.name())?;
        }
        Ok(())
    }
}

/// Refuses what neither the format nor any level can do. Shapes are checked as far as they are known
/// before there is a volume.
#[inline(never)]
fn check_volume(format: &dyn Format, volume: &CreateVolume, members: u16) -> Checked {
    let capabilities = format.capabilities();
    let level = volume.level;
    let Some(can) = capabilities.levels.iter().find(|can| can.level == level) else {
        return Err(reason!(
            EOPNOTSUPP,
            "{} does not know {}; it knows {}",
            format.name(),
            level,
            Levels(capabilities.levels)
        ));
    };
    if volume.log && !capabilities.log_levels.contains(&level) {
        return Err(reason!(
            EOPNOTSUPP,
            "no log for {} in {}: it is for levels with parity, where the format has a place for it (emdadm formats)",
            level,
            format.name()
        ));
    }
    check_region_log(format.name(), capabilities, level, volume.regions)?;
    let spans = volume.spans.max(1);
    if spans > capabilities.spans_max || members % spans != 0 {
        return Err(reason!(
            EINVAL,
            "{} members cannot be {} spans; {} has volumes of 1 to {} spans of the same number of members",
            members,
            spans,
            format.name(),
            capabilities.spans_max
        ));
    }
    let members = members / spans;
    let (fewest, most) = can.members;
    if members < fewest || members > most {
        return Err(reason!(
            EINVAL,
            "{} of {} needs {} to {} members, not {}",
            level,
            format.name(),
            fewest,
            most,
            members
        ));
    }
    let Some(layout) = volume.layout.or_else(|| can.layouts.first().copied()) else {
        return Err(reason!(
            EINVAL,
            "{} has no layout for {}",
            format.name(),
            level
        ));
    };
    if !can.layouts.contains(&layout) {
        return Err(reason!(
            EINVAL,
            "{} does not know {} with layout {}",
            format.name(),
            level,
            layout
        ));
    }
    let chunk_sectors = match (level, volume.chunk_sectors) {
        (Level::Raid1 | Level::Concat, _) => 0,
        (_, 0) => capabilities.chunk_sectors_default,
        (_, chunk) => chunk,
    };
    let Some(personality) = for_level(level) else {
        return Err(reason!(EOPNOTSUPP, "{} is not supported yet", level));
    };
    // The real length of the members is the format's to find; any that is large enough will do.
    personality.check(&Shape {
        level,
        layout,
        members,
        spans,
        chunk_sectors,
        member_sectors: u64::from(chunk_sectors).max(1) << 10,
    })
}

/// What was made, and is not started yet.
pub(super) struct Made {
    pub(super) set: Arc<ManagedSet>,
    pub(super) volume: Option<VolumeIndex>,
    /// The set is new too.
    pub(super) is_new: bool,
}

/// Claims all disks of a new set, members first.
#[inline(never)]
fn claim_disks(operations: &mut Operations, request: &CreateRequest) -> Checked<KVec<Candidate>> {
    let mut candidates: KVec<Candidate> = KVec::new();
    let members = request.members.iter().flatten();
    // (By its full name: pin-init's trait has a `chain` too.)
    for dev in Iterator::chain(members, request.spares.iter()) {
        let dev = Dev(dev.to_wire());
        if candidates.iter().any(|other| other.device.dev() == dev) {
            return Err(reason!(EINVAL, "disk {dev} is named twice"));
        }
        let candidate = Candidate::claim(
            dev,
            MayHold::by_force(request.force),
            operations.io.as_mut(),
        )?;
        candidates.push(candidate, GFP_KERNEL)?;
    }
    if candidates.is_empty() {
        return Err(reason!(EINVAL, "a set needs at least one disk"));
    }
    Ok(candidates)
}

/// The metadata of a new set, in memory only.
#[inline(never)]
fn draft(
    format: &dyn Format,
    candidates: &KVec<Candidate>,
    request: &CreateRequest,
) -> Checked<KBox<dyn MetadataSet>> {
    let mut facts: KVec<DiskFacts> = KVec::with_capacity(candidates.len(), GFP_KERNEL)?;
    for candidate in candidates.iter() {
        facts.push(probe::facts(&candidate.device), GFP_KERNEL)?;
    }
    format.create(&facts, request.set_name.as_str(), &context())
}

/// The members that a request names, as disks of the set.
#[inline(never)]
fn place_members(
    metadata: &dyn MetadataSet,
    request: &CreateRequest,
) -> Checked<KVec<Option<DiskIndex>>> {
    let mut disks = KVec::with_capacity(request.members.len(), GFP_KERNEL)?;
    for member in request.members.iter() {
        let index = match member {
            Some(dev) => Some(
                metadata
                    .set()
                    .disk_by_key(dev.to_wire())
                    .ok_or_else(|| reason!(EIO, "internal: the format lost disk {dev}"))?,
            ),
            None => None,
        };
        disks.push(index, GFP_KERNEL)?;
    }
    Ok(disks)
}

/// Refuses a volume that does not fit.
#[inline(never)]
fn check_room(
    metadata: &dyn MetadataSet,
    volume: &CreateVolume,
    disks: &[Option<DiskIndex>],
) -> Checked {
    let largest = metadata.largest_volume(&spec(volume, disks))?;
    if volume.size_sectors > largest {
        return Err(reason!(
            ENOSPC,
            "{} sectors are wanted, at most {} fit",
            volume.size_sectors,
            largest
        ));
    }
    Ok(())
}

fn spec<'a>(volume: &CreateVolume, disks: &'a [Option<DiskIndex>]) -> VolumeSpec<'a> {
    VolumeSpec {
        name: volume.name,
        level: volume.level,
        spans: volume.spans,
        layout: volume.layout,
        chunk_sectors: volume.chunk_sectors,
        size_sectors: volume.size_sectors,
        disks,
        assume_clean: volume.assume_clean,
        log: volume.log,
        regions: volume.regions,
    }
}

impl Manager {
    /// Makes a set of disks, and a volume on it.
    #[inline(never)]
    pub(super) fn create_set(
        &self,
        operations: &mut Operations,
        request: &CreateRequest,
    ) -> Checked<Made> {
        let Some(format) = registry::by_name(request.format.as_str()) else {
            return Err(reason!(
                EOPNOTSUPP,
                "there is no format \"{}\"",
                request.format
            ));
        };
        if let Some(volume) = &request.volume {
            check_volume(format, volume, request.members.len() as u16)?;
        }
        let candidates = claim_disks(operations, request)?;
        let metadata = draft(format, &candidates, request)?;
        let disks = place_members(&*metadata, request)?;
        if let Some(volume) = &request.volume {
            check_room(&*metadata, volume, &disks)?;
            let is_member = |dev: Dev| {
                request
                    .members
                    .iter()
                    .flatten()
                    .any(|to| to.to_wire() == dev.0)
            };
            let members = candidates
                .iter()
                .filter(|disk| is_member(disk.device.dev()));
            for disk in members.filter(|_| volume.zeroed) {
                check_zeroes(&disk.device)?;
            }
        }
        // Everything is checked; from here on disks are changed.
        let set = ManagedSet::new(&self.shared, format, metadata.set().id)?;
        set.adopt(metadata, &candidates)?;
        for candidate in candidates.iter() {
            candidate.erase_old(operations.io.as_mut())?;
            self.forget_disk(operations, candidate.device.dev())?;
        }
        drop(candidates);
        let mut made = Made {
            set,
            volume: None,
            is_new: true,
        };
        match self.record_set(&mut made, request, &disks) {
            Ok(()) => Ok(made),
            Err(reason) => {
                self.undo(&made);
                Err(reason)
            }
        }
    }

    /// A disk is about to become part of a set: what was found on it before counts no more.
    #[inline(never)]
    pub(super) fn forget_disk(&self, operations: &mut Operations, dev: Dev) -> Checked {
        operations.seen.retain(|disk| disk.dev != dev);
        for other in self.all_sets()? {
            if other.scatter(dev) {
                self.unlist(&other);
            }
        }
        Ok(())
    }

    /// Writes the new set, makes its spares and its volume.
    #[inline(never)]
    fn record_set(
        &self,
        made: &mut Made,
        request: &CreateRequest,
        disks: &[Option<DiskIndex>],
    ) -> Checked {
        let set = &made.set;
        {
            let mut inner = set.lock();
            inner.write_out(&self.shared)?;
            for spare in request.spares.iter() {
                let index = inner
                    .known()?
                    .disk_by_key(spare.to_wire())
                    .ok_or_else(|| reason!(EIO, "internal: the format lost disk {spare}"))?;
                let event = Event::SpareAssigned(index, SpareRole::Global);
                inner.record(&self.shared, &event)?;
            }
        }
        if let Some(volume) = &request.volume {
            made.volume = Some(set.add_volume(volume, disks)?);
        }
        self.list(&made.set)?;
        self.tell_found(&made.set);
        Ok(())
    }

    /// Takes back what was made and cannot be started.
    #[inline(never)]
    pub(super) fn undo(&self, made: &Made) {
        let Made { set, volume, .. } = made;
        let is_other = |index| Some(index) != *volume;
        let is_alone = {
            let inner = set.lock();
            let set = inner.model();
            set.is_none_or(|set| !set.live_volumes().any(|(index, _)| is_other(index)))
        };
        if made.is_new && is_alone {
            // No half-made set stays on the disks.
            self.unlist(set);
            return set.take_apart_or_tell();
        }
        let _change = set.change.lock();
        if let Some(volume) = *volume {
            let undone = set
                .lock()
                .record(&self.shared, &Event::VolumeDeleted(volume));
            if let Err(why) = undone {
                log!(pr_warn, "a volume that could not be started stays: {}", why);
            }
        }
        set.release_if_idle();
    }

    /// Starts what was made and says what it is.
    #[inline(never)]
    pub(super) fn finish(&self, made: &Made) -> Checked<CreateReply> {
        let (set, volume) = (&made.set, made.volume);
        let mut reply = CreateReply {
            set_id: set.id.digest(),
            array_id: [0; 16],
            number: None,
            size_sectors: 0,
        };
        let Some(volume) = volume else {
            let _change = set.change.lock();
            set.release_if_idle();
            return Ok(reply);
        };
        set.start(Policy::ANY, Some(volume))?;
        let inner = set.lock();
        let running = inner.running(volume);
        let why = inner.entries.get(usize::from(volume));
        match (running, why.and_then(|entry| entry.why)) {
            (Some(running), _) => reply.number = Some(running.number.get()),
            (None, Some(why)) => return Err(why),
            (None, None) => return Err(reason!(EIO, "the array did not start")),
        }
        if let Some(model) = inner.known()?.volume(volume) {
            reply.array_id = model.id.digest();
            reply.size_sectors = model.size_sectors;
        }
        Ok(reply)
    }

    /// Makes a volume on disks of a set that there is.
    #[inline(never)]
    pub(super) fn create_in_set(&self, id: &[u8; 16], request: &CreateRequest) -> Checked<Made> {
        let set = self.find_set(id)?;
        let Some(volume) = &request.volume else {
            return Err(reason!(EINVAL, "the set exists: say which volume to make"));
        };
        if !request.format.is_empty() && request.format.as_str() != set.format.name() {
            return Err(reason!(
                EINVAL,
                "the set is of format {}, not {}",
                set.format.name(),
                request.format
            ));
        }
        if !request.spares.is_empty() {
            return Err(reason!(
                EINVAL,
                "the set exists: add spares to it on their own"
            ));
        }
        let change = set.change.lock();
        set.activate()?;
        let made = set.pick_disks(request).and_then(|disks| {
            check_volume(set.format, volume, disks.len() as u16)?;
            set.add_volume(volume, &disks)
        });
        if made.is_err() {
            set.release_if_idle();
        }
        let volume = Some(made?);
        drop(change);
        Ok(Made {
            set,
            volume,
            is_new: false,
        })
    }
}

impl ManagedSet {
    /// The disks that a request names, or all that a volume may be on.
    #[inline(never)]
    fn pick_disks(&self, request: &CreateRequest) -> Checked<KVec<Option<DiskIndex>>> {
        let inner = self.lock();
        let set = inner.known()?;
        let mut disks = KVec::new();
        for member in request.members.iter() {
            let index = match member {
                None => None,
                Some(dev) => Some(set.disk_by_key(dev.to_wire()).ok_or_else(|| {
                    reason!(ENOENT, "disk {dev} is not part of the set: add it first")
                })?),
            };
            if index.is_some_and(|index| !inner.is_online(index)) {
                return Err(reason!(ENODEV, "a disk of the set does not work"));
            }
            disks.push(index, GFP_KERNEL)?;
        }
        if request.members.is_empty() {
            for (index, disk) in set.live_disks() {
                let fit = disk.state == DiskState::Online
                    && matches!(disk.role, DiskRole::Unused | DiskRole::Member)
                    && inner.is_online(index);
                if fit {
                    disks.push(Some(index), GFP_KERNEL)?;
                }
            }
        }
        Ok(disks)
    }

    /// Records a new volume and says its index. The set is active.
    #[inline(never)]
    fn add_volume(
        &self,
        volume: &CreateVolume,
        disks: &[Option<DiskIndex>],
    ) -> Checked<VolumeIndex> {
        let mut inner = self.lock();
        if volume.zeroed {
            for disk in disks.iter().flatten() {
                if let Some(device) = inner.device(*disk) {
                    check_zeroes(device)?;
                }
            }
        }
        let mut before = KVec::new();
        for index in 0..inner.known()?.volumes.len() as VolumeIndex {
            before.push(inner.known()?.volume(index).is_some(), GFP_KERNEL)?;
        }
        let event = Event::VolumeCreated(spec(volume, disks));
        inner.record(&self.shared, &event)?;
        let is_new = |index: VolumeIndex| before.get(usize::from(index)) != Some(&true);
        let made = inner
            .known()?
            .live_volumes()
            .find(|(index, _)| is_new(*index))
            .map(|(index, volume)| (index, volume.size_sectors));
        let Some((index, size_sectors)) = made else {
            return Err(reason!(EIO, "internal: the format made no volume"));
        };
        inner.make_room()?;
        if volume.log {
            let event = Event::CrashPolicySet(index, CrashPolicy::Log);
            if let Err(reason) = inner.record(&self.shared, &event) {
                // All or nothing: it was asked for with a log.
                inner.record(&self.shared, &Event::VolumeDeleted(index))?;
                return Err(reason);
            }
        }
        if let Some(entry) = inner.entries.get_mut(usize::from(index)) {
            entry.filling = volume.zeroed;
        }
        drop(inner);
        self.shared
            .post(EventKind::VolumeCreated, &self.id, |event| {
                event.value = size_sectors;
            });
        Ok(index)
    }

    /// Takes over the metadata of a new set, and its disks. Nothing is written yet.
    #[inline(never)]
    fn adopt(&self, metadata: KBox<dyn MetadataSet>, candidates: &KVec<Candidate>) -> Checked {
        let mut inner = self.lock();
        self.shared.check_awake()?;
        inner.moves.begin(metadata.set())?;
        inner.metadata = Some(metadata);
        inner.active = true;
        inner.make_room()?;
        for candidate in candidates.iter() {
            let dev = candidate.device.dev();
            let index = inner
                .known()?
                .disk_by_key(dev.0)
                .ok_or_else(|| reason!(EIO, "internal: the format lost disk {dev}"))?;
            inner.put_device(index, candidate.device.clone())?;
        }
        Ok(())
    }

    #[inline(never)]
    fn take_apart_or_tell(self: &Arc<Self>) {
        if let Err(why) = self.take_apart() {
            log!(
                pr_warn,
                "remains of a set that could not be made stay: {}",
                why
            );
        }
    }

    /// Undoes a set that could not be made.
    #[inline(never)]
    fn take_apart(self: &Arc<Self>) -> Checked {
        {
            let _change = self.change.lock();
            // Of those that were never started there is only what the metadata says.
            let volumes = self.lock().known()?.volumes.len() as VolumeIndex;
            for volume in 0..volumes {
                self.stop_volume(volume)?;
                let mut inner = self.lock();
                if inner.known()?.volume(volume).is_some() {
                    inner.record(&self.shared, &Event::VolumeDeleted(volume))?;
                }
            }
        }
        self.erase()
    }
}
