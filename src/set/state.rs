// SPDX-License-Identifier: GPL-2.0

//! What a set's inner lock protects: its metadata, its claimed disks, and what runs.

use super::returned::Returned;
use super::shared::{Number, Shared};
use super::turns::Turn;
use crate::array::Array;
use crate::block::bdev::{BlockDevice, Dev};
use crate::block::gate::Gated;
use crate::block::gendisk::Disk;
use crate::block::sync_io::SyncIo;
use crate::metadata::{DiskImage, MetadataSet};
use crate::model::{
    Checked, Consistency, DiskIndex, DiskMask, DiskState, MemberState, Moves, Reason, Scrub, Set,
    Slot, Text, VolumeIndex, DISKS_MAX,
};
use crate::personalities::rebuild::{Late, Trust};
use crate::personalities::{for_level, Health, Mask};
use crate::reason;
use crate::uapi::volume_state;
use crate::uapi::{EventKind, TaskKind, VolumeState};
use kernel::prelude::*;
use kernel::sync::Arc;

/// A check or repair that a person asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which of them.
    pub kind: TaskKind,
    /// Where it starts, in the space in which syncs count.
    pub from_sectors: u64,
}

impl Asked {
    /// One that was recorded.
    pub fn recorded(scrub: Scrub) -> Self {
        Self {
            kind: scrub.kind(),
            from_sectors: scrub.done_sectors,
        }
    }
}

/// What runs of a volume.
pub struct Running {
    /// Its block device. `None` for the moments between an array's start and its device's, and
    /// between their ends. Declared first, as it has to go before its number does.
    pub disk: Option<Arc<Disk>>,
    /// Its data path.
    pub array: Arc<Gated<Array>>,
    /// N of `/dev/emdN`.
    pub number: Number,
    /// Slots whose members the array has.
    pub attached: Mask,
    /// Members that are shown in sysfs. Changes only with `change` held too; room for every slot.
    pub shown: KVec<(Slot, Arc<BlockDevice>)>,
    /// It is being stopped: its tasks end because it does.
    pub stopping: bool,
    /// It may not be written.
    pub read_only: bool,
    /// Redundancy has to be established, or established again, before it may be called clean.
    pub needs_resync: bool,
    /// A person wants all of it looked at, not only regions that may have had writes in flight.
    pub resync_all: bool,
    /// Where a resync that was stopped goes on.
    pub resync_from_sectors: u64,
    /// Members that joined a rebuild late and have a second pass before them.
    pub late: Late,
    /// How far the recorded marks of members that are being rebuilt count.
    pub trust: Trust,
    /// Members that are rebuilt and must not be recorded so, as they have bad ranges that would be forgotten.
    pub withheld: Mask,
    /// Members that are to be rebuilt and did not take what they need for that: they are not tried again.
    pub unfit: Mask,
    /// A check or repair that a person asked for and that has not ended, before a restart perhaps; it may wait for its turn.
    pub asked: Option<Asked>,
    /// The kind of the task that a person holds: at work, or due.
    pub paused: Option<TaskKind>,
    /// Its task's turn on its disks, while one is at work.
    pub turn: Option<Turn>,
    /// No task is started before this tick: the last one came to grief.
    pub retry_at: u64,
    /// Progress when it was last told, in per mille, and last recorded, in ticks.
    pub told_per_mille: u64,
    /// See above.
    pub checkpoint_at: u64,
    /// State that people were last told.
    pub state: VolumeState,
    /// The keeper is to tell user space that it changed.
    pub unannounced: bool,
    /// People know that the metadata cannot be written.
    pub complained: bool,
}

/// What there is of a volume besides its model.
#[derive(Default)]
pub struct Entry {
    /// What runs.
    pub running: Option<Running>,
    /// Why nothing does.
    pub why: Option<Reason>,
    /// Its members are being filled with zeroes: it is not to be started, stopped or deleted, and its disks are not given up.
    pub filling: bool,
    /// It was started though its log did not tell all that was in flight, and redundancy was not established since.
    pub untold: bool,
}

/// What a set's inner lock protects.
pub struct Inner {
    /// The metadata; `None` while the disks that are here make no set.
    pub metadata: Option<KBox<dyn MetadataSet>>,
    /// Claimed disks by disk index.
    pub devices: KVec<Option<Arc<BlockDevice>>>,
    /// By volume index.
    pub entries: KVec<Entry>,
    /// What was read of disks that are not claimed.
    pub images: KVec<DiskImage>,
    /// Disks that came while the set was active, and wait for others of their volumes.
    pub early: KVec<Dev>,
    /// The disks are claimed and the metadata is ours to change.
    pub active: bool,
    /// A person stopped it: only a scan starts it again.
    pub held: bool,
    /// The set is no longer one; whoever still finds it leaves it alone.
    pub gone: bool,
    /// By disk: the last phase of the plan in which something was sent to it, of all tries.
    pub reached: [u16; DISKS_MAX],
    /// By disk: the first phase of the plan that it has not taken whole. There it goes on when the plan is carried out once
    /// more: begun anew, a first copy would be written again while the second one is half written, and a crash leave neither.
    pub due: [u16; DISKS_MAX],
    /// No disk took the last plan: what is in memory is not recorded.
    pub unwritten: bool,
    /// The disk that joins with what is being written.
    pub joins: Option<DiskIndex>,
    /// Why the set as a whole is not active.
    pub why: Option<Reason>,
    /// When to start with what there is, in ticks.
    pub deadline: Option<u64>,
    /// It was tried to start what there is; the next time is at the deadline.
    pub tried: bool,
    /// Disks that came back and may take their old places.
    pub returned: Returned,
    /// Disks that are gone and could not be recorded as missing: people know.
    pub told_gone: DiskMask,
    /// Disks that came back while the set was active, with something at their start.
    pub hold_remains: DiskMask,
    /// Disks that were up to date when they got their places, or were added since: those of them that are not here went away
    /// while the set was active.
    pub had_good: DiskMask,
    /// Which disks left the set and came to it while it was active.
    pub moves: Moves,
    /// Disks that are here and left alone, as they are old: people know.
    pub told_old: DiskMask,
    /// For the metadata.
    pub io: Pin<KBox<SyncIo>>,
}

impl Inner {
    /// Nothing yet. Allocates.
    pub fn new() -> Result<Self> {
        Ok(Self {
            metadata: None,
            devices: KVec::new(),
            entries: KVec::new(),
            images: KVec::new(),
            early: KVec::new(),
            active: false,
            held: false,
            gone: false,
            reached: [0; DISKS_MAX],
            due: [0; DISKS_MAX],
            unwritten: false,
            joins: None,
            why: None,
            deadline: None,
            tried: false,
            returned: Returned::new(),
            told_gone: DiskMask::EMPTY,
            hold_remains: DiskMask::EMPTY,
            had_good: DiskMask::EMPTY,
            moves: Moves::new(),
            told_old: DiskMask::EMPTY,
            io: KBox::pin_init(SyncIo::new()?, GFP_KERNEL)?,
        })
    }

    /// The model.
    pub fn model(&self) -> Option<&Set> {
        self.metadata.as_ref().map(|metadata| metadata.set())
    }

    /// The model, or why there is none.
    pub fn known(&self) -> Checked<&Set> {
        match (self.model(), &self.why) {
            (Some(set), _) => Ok(set),
            (None, Some(why)) => Err(*why),
            (None, None) => Err(reason!(ENOENT, "the set has no disks")),
        }
    }

    /// What runs of a volume.
    pub fn running(&self, volume: VolumeIndex) -> Option<&Running> {
        self.entries.get(usize::from(volume))?.running.as_ref()
    }

    /// What runs of a volume.
    pub fn running_mut(&mut self, volume: VolumeIndex) -> Option<&mut Running> {
        self.entries.get_mut(usize::from(volume))?.running.as_mut()
    }

    /// The array of a volume.
    pub fn array(&self, volume: VolumeIndex) -> Option<Arc<Gated<Array>>> {
        self.running(volume).map(|running| running.array.clone())
    }

    /// How many volumes to look through.
    pub fn entries_len(&self) -> VolumeIndex {
        self.entries.len() as VolumeIndex
    }

    /// Whether any array runs, or is about to.
    pub fn any_running(&self) -> bool {
        let is_used = |entry: &Entry| entry.running.is_some() || entry.filling;
        self.entries.iter().any(is_used)
    }

    /// Makes entries for all volumes and places for all disks of the model. Allocates.
    #[inline(never)]
    pub fn make_room(&mut self) -> Checked {
        let (volumes, disks) = match self.model() {
            Some(set) => (set.volumes.len(), set.disks.len()),
            None => return Ok(()),
        };
        while self.entries.len() < volumes {
            self.entries.push(Entry::default(), GFP_KERNEL)?;
        }
        while self.devices.len() < disks {
            self.devices.push(None, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The claimed disk at `index`.
    pub fn device(&self, index: DiskIndex) -> Option<&Arc<BlockDevice>> {
        self.devices.get(usize::from(index))?.as_ref()
    }

    /// Puts a claimed disk in its place. Allocates.
    pub fn put_device(&mut self, index: DiskIndex, device: Arc<BlockDevice>) -> Checked {
        while self.devices.len() <= usize::from(index) {
            self.devices.push(None, GFP_KERNEL)?;
        }
        if let Some(place) = self.devices.get_mut(usize::from(index)) {
            *place = Some(device);
        }
        self.note_good(index);
        Ok(())
    }

    /// The index of the claimed disk `dev`.
    pub fn index_of(&self, dev: Dev) -> Option<DiskIndex> {
        (0u16..)
            .zip(self.devices.iter())
            .find(|(_, device)| device.as_ref().is_some_and(|device| device.dev() == dev))
            .map(|(index, _)| index)
    }

    /// Whether a disk was taken out of the set.
    pub(super) fn is_removed(&self, disk: DiskIndex) -> bool {
        let state = self.model().and_then(|set| set.disk(disk));
        state.is_some_and(|disk| disk.state == DiskState::Removed)
    }

    /// Keeps in mind which places a disk held that is about to be recorded as here again. Allocates.
    pub(super) fn note_places(&mut self, disk: DiskIndex) -> Checked {
        let Self {
            metadata, returned, ..
        } = self;
        match metadata {
            Some(metadata) => returned.note_places(metadata.set(), disk),
            None => Ok(()),
        }
    }

    /// The disk in a slot of a volume.
    pub fn disk_in(&self, volume: VolumeIndex, slot: Slot) -> Option<DiskIndex> {
        let volume = self.model()?.volume(volume)?;
        volume.members.get(usize::from(slot))?.disk
    }

    /// What a volume is called.
    pub fn name_of(&self, volume: VolumeIndex) -> Option<Text<32>> {
        Some(self.model()?.volume(volume)?.name)
    }

    /// State of a member.
    pub fn member_state(&self, volume: VolumeIndex, slot: Slot) -> Option<MemberState> {
        let volume = self.model()?.volume(volume)?;
        Some(volume.members.get(usize::from(slot))?.state)
    }

    /// Whether the metadata says that redundancy is yet to be established.
    pub fn is_initialising(&self, volume: VolumeIndex) -> bool {
        self.model()
            .and_then(|set| set.volume(volume))
            .is_some_and(|model| matches!(model.consistency, Consistency::Initialising { .. }))
    }

    /// The members in sync as the model has them, less those on `without`.
    pub fn in_sync(&self, volume: VolumeIndex, without: Option<DiskIndex>) -> Mask {
        let mut mask = Mask::EMPTY;
        let Some(volume) = self.model().and_then(|set| set.volume(volume)) else {
            return mask;
        };
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let lost = without.is_some() && member.disk == without;
            if member.state == MemberState::InSync && !lost {
                mask = mask.with(slot);
            }
        }
        mask
    }

    /// What a volume has left when just `in_sync` are; `Failed` for what no level runs.
    pub fn health(&self, volume: VolumeIndex, in_sync: Mask) -> Health {
        let Some(volume) = self.model().and_then(|set| set.volume(volume)) else {
            return Health::Failed;
        };
        match for_level(volume.shape.level) {
            Some(level) => level.health(&volume.shape, in_sync),
            _ => Health::Failed,
        }
    }

    /// Whether the loss of a disk can be recorded without giving up a volume for it: it takes part
    /// in no volume, or in one that bears it.
    pub fn bears_loss(&self, disk: DiskIndex) -> bool {
        let Some(set) = self.model() else {
            return false;
        };
        let mut is_member = false;
        for (volume, _, member) in set.memberships(disk) {
            match member.state {
                MemberState::Failed | MemberState::Missing => continue,
                MemberState::Rebuilding { .. } => return true,
                MemberState::InSync => is_member = true,
            }
            if self.works_without(volume, disk) {
                return true;
            }
        }
        !is_member
    }

    /// Whether some volume has what is on a disk nowhere else: its loss gives that volume up, whatever others bear.
    pub fn is_needed(&self, disk: DiskIndex) -> bool {
        let Some(set) = self.model() else {
            return false;
        };
        let mut members = set.memberships(disk);
        members.any(|(volume, _, member)| {
            member.state == MemberState::InSync && !self.works_without(volume, disk)
        })
    }

    /// Whether a volume bears the loss of a disk.
    pub(super) fn works_without(&self, volume: VolumeIndex, disk: DiskIndex) -> bool {
        let redundant = self
            .model()
            .and_then(|set| set.volume(volume))
            .is_some_and(|volume| volume.shape.level.is_redundant());
        // Who is lost already, and about to be recorded, is not what is left.
        let running = self.running(volume);
        let unrecorded = running.map_or(Mask::EMPTY, |running| running.array.unrecorded());
        let mut left = self.in_sync(volume, Some(disk));
        for slot in unrecorded.iter() {
            left = left.without(slot);
        }
        redundant && self.health(volume, left) != Health::Failed
    }

    /// Whether a volume has a disk as a member in sync, and has not given it up.
    pub fn is_in_use(&self, disk: DiskIndex) -> bool {
        let Some(set) = self.model() else {
            return false;
        };
        let mut members = set.memberships(disk);
        members.any(|(volume, slot, member)| self.is_kept(volume, slot, member.state))
    }

    /// Whether a volume that has not given a disk up that is in use does not bear its loss.
    pub fn is_indispensable(&self, disk: DiskIndex) -> bool {
        let Some(set) = self.model() else {
            return false;
        };
        let mut members = set.memberships(disk);
        members.any(|(volume, slot, member)| {
            self.is_kept(volume, slot, member.state) && !self.works_without(volume, disk)
        })
    }

    fn is_kept(&self, volume: VolumeIndex, slot: Slot, state: MemberState) -> bool {
        let array = self.running(volume).map(|running| &running.array);
        let is_kept =
            array.is_none_or(|array| !array.is_broken() && array.present().contains(slot));
        state == MemberState::InSync && is_kept
    }

    /// A volume that works now and would not without `disk`.
    pub fn breaks_without(&self, disk: DiskIndex) -> Option<VolumeIndex> {
        let set = self.model()?;
        let mut broken = set.memberships(disk).filter(|(volume, _, member)| {
            member.state == MemberState::InSync
                && self.health(*volume, self.in_sync(*volume, None)) != Health::Failed
                && self.health(*volume, self.in_sync(*volume, Some(disk))) == Health::Failed
        });
        broken.next().map(|(volume, _, _)| volume)
    }

    /// Whether some array would give up a disk that is here when it is told to: not as a mirror's last, nor without redundancy.
    pub fn is_given_up(&self, disk: DiskIndex) -> bool {
        let mut places = self
            .model()
            .into_iter()
            .flat_map(|set| set.memberships(disk));
        places.any(|(volume, slot, _)| {
            self.running(volume).is_some_and(|running| {
                running.attached.contains(slot) && running.array.would_give_up(slot)
            })
        })
    }

    /// Tells all arrays that a disk is of no more use.
    pub fn fail_on_arrays(&self, disk: DiskIndex) {
        let Some(set) = self.model() else { return };
        let is_gone = self.is_unplugged(disk);
        for (volume, slot, _) in set.memberships(disk) {
            if let Some(running) = self.running(volume) {
                if running.attached.contains(slot) {
                    running.array.fail_member(slot, is_gone);
                }
            }
        }
    }

    /// Whether a disk is in use by an array.
    pub fn is_attached(&self, disk: DiskIndex) -> bool {
        let Some(set) = self.model() else {
            return false;
        };
        let mut places = set.memberships(disk);
        places.any(|(volume, slot, _)| {
            self.running(volume)
                .is_some_and(|running| running.attached.contains(slot))
        })
    }

    /// Whether the device of a claimed disk is gone from the machine.
    pub fn is_unplugged(&self, disk: DiskIndex) -> bool {
        self.device(disk).is_none_or(|device| device.is_gone())
    }

    /// The disks of a volume.
    pub fn disks_of(&self, volume: VolumeIndex) -> DiskMask {
        let mut mask = DiskMask::EMPTY;
        if let Some(volume) = self.model().and_then(|set| set.volume(volume)) {
            for disk in volume.members.iter().filter_map(|member| member.disk) {
                mask.insert(disk);
            }
        }
        mask
    }

    /// State of a volume for people.
    pub fn volume_state(&self, volume: VolumeIndex) -> VolumeState {
        let Some(model) = self.model().and_then(|set| set.volume(volume)) else {
            return VolumeState::Failed;
        };
        let state = volume_state::of(model);
        match self.running(volume) {
            // Its device is not there yet, or is no more.
            Some(running) if running.disk.is_none() => VolumeState::Inactive,
            Some(running) if running.array.is_broken() => VolumeState::Failed,
            // Without redundancy nothing is recorded and nothing breaks: its I/O just fails.
            // So it is while somebody reshapes it: nothing is read from redundancy then.
            Some(_)
                if (!model.shape.level.is_redundant() || !model.stretches.is_empty())
                    && self.lacks_disk(volume) =>
            {
                VolumeState::Failed
            }
            Some(_) => state,
            None if state == VolumeState::Failed => state,
            None => VolumeState::Inactive,
        }
    }

    /// Whether the disk of an attached member is gone.
    fn lacks_disk(&self, volume: VolumeIndex) -> bool {
        let attached = self
            .running(volume)
            .map_or(Mask::EMPTY, |running| running.attached);
        let mut slots = attached.iter();
        slots.any(|slot| {
            self.disk_in(volume, slot)
                .is_some_and(|disk| self.is_unplugged(disk))
        })
    }

    /// Tells people of volumes whose state changed. True when there are some: the keeper has to `announce` them.
    #[inline(never)]
    #[must_use]
    pub fn tell_states(&mut self, shared: &Shared) -> bool {
        let mut changed = false;
        for volume in 0..self.entries_len() {
            let state = self.volume_state(volume);
            let id = match self.model() {
                Some(set) => set.id,
                None => return changed,
            };
            let Some(running) = self.running_mut(volume) else {
                continue;
            };
            if running.state == state {
                continue;
            }
            running.state = state;
            let number = running.number.get();
            running.unannounced = true;
            changed = true;
            log!(pr_notice, "emd{} is {}", number, state.word());
            shared.post(EventKind::StateChanged, &id, |event| {
                event.number = Some(number);
                event.value = u64::from(state.code());
            });
        }
        changed
    }

    /// Whether a disk is here: claimed, or, while the set is not active, among those that were read.
    pub fn is_here(&self, disk: DiskIndex) -> bool {
        if self.active {
            return self.device(disk).is_some();
        }
        let disk = self.model().and_then(|set| set.disk(disk));
        disk.is_some_and(|disk| disk.facts.is_some())
    }

    /// Whether a disk is claimed and works, as the model has it.
    pub fn is_online(&self, disk: DiskIndex) -> bool {
        self.device(disk).is_some()
            && self
                .model()
                .and_then(|set| set.disk(disk))
                .is_some_and(|disk| disk.state == DiskState::Online)
    }
}
