// SPDX-License-Identifier: GPL-2.0

//! A set: the disks that one metadata family spans, and the volumes on them.

use super::{Checked, CrashPolicy, DiskIndex, Reason, Shape, Slot, Text, VolumeIndex};
use kernel::prelude::*;

/// What the shell knows of a disk before any metadata is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskFacts {
    /// The shell's own handle for the disk (in the kernel the `dev_t`, in tools an index).
    pub key: u64,
    /// Size in sectors of 512 bytes.
    pub size_sectors: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub logical_block_bytes: u32,
    /// Serial number or another stable name the disk has of itself, without blanks around it; of a
    /// longer one its last bytes. May be empty.
    pub serial: Text<24>,
}

/// Identity of a set or a volume in its format's own terms. Opaque to everything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    bytes: [u8; 32],
    len: u8,
}

impl Identity {
    /// Identity from at most 32 bytes; more are cut.
    pub fn new(source: &[u8]) -> Self {
        let mut bytes = [0; 32];
        let mut len = 0u8;
        for (slot, &byte) in bytes.iter_mut().zip(source) {
            *slot = byte;
            len += 1;
        }
        Self { bytes, len }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// A UUID-shaped digest for people and for ioctls: 16 bytes, stable for the same identity.
    ///
    /// Two FNV-1a 64-bit hashes with different starts; it names, it does not protect.
    pub fn digest(&self) -> [u8; 16] {
        let mut halves = [0xcbf2_9ce4_8422_2325u64, 0x6c62_272e_07bb_0142u64];
        for half in halves.iter_mut() {
            for &byte in self.as_bytes() {
                *half = (*half ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        let mut digest = [0u8; 16];
        for (room, half) in digest.chunks_exact_mut(8).zip(halves) {
            room.copy_from_slice(&half.to_be_bytes());
        }
        digest
    }
}

/// State of a disk as the metadata has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskState {
    /// Working.
    Online,
    /// Recorded as failed. It may be present; nothing on it is trusted.
    Failed,
    /// Known to the set, not here.
    Missing,
    /// Here, but left out of updates it should have had: its data is old.
    Stale,
    /// Taken out of the set; the entry only keeps the index stable.
    Removed,
}

/// What a disk is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskRole {
    /// In no volume and no spare.
    Unused,
    /// Holds part of at least one volume.
    Member,
    /// Spare for every volume of the set.
    GlobalSpare,
    /// Spare for one volume (the first one, where the format lists several).
    DedicatedSpare(VolumeIndex),
}

/// A disk of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The shell's disk, when it is present.
    pub facts: Option<DiskFacts>,
    /// What the metadata calls it: serial or reference.
    pub label: Text<32>,
    /// Its state.
    pub state: DiskState,
    /// Its role.
    pub role: DiskRole,
    /// Sectors from the start of the disk that volumes may use; metadata lies beyond (or, where a
    /// format keeps it at the front, volumes' offsets already allow for it).
    pub usable_sectors: u64,
    /// The metadata says that the disk predicts its own failure (SMART).
    pub failure_predicted: bool,
}

/// State of one member of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// Holds what it should.
    InSync,
    /// Being rebuilt; sectors of the member below the mark are right.
    Rebuilding {
        /// Sectors of the member, from its start in the volume, that are known right.
        done_sectors: u64,
    },
    /// Recorded as failed.
    Failed,
    /// No disk.
    Missing,
}

/// A member of a volume: a stretch of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The disk, when the metadata names one that the set knows.
    pub disk: Option<DiskIndex>,
    /// Where the member starts on the disk.
    pub offset_sectors: u64,
    /// Its state.
    pub state: MemberState,
}

/// Whether redundancy is known to agree with the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// It agrees.
    Clean,
    /// Writes were in flight when this was recorded: resync before trusting it.
    Dirty,
    /// Never established, or being established; the mark is how far (sectors of each member).
    Initialising {
        /// Sectors of each member (of the volume, where [`Shape::syncs_by_volume`]), from the start,
        /// that agree.
        done_sectors: u64,
    },
}

/// A stretch of a disk that could not be read or written, and holds nothing that may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRange {
    /// The disk.
    pub disk: DiskIndex,
    /// First sector of the disk.
    pub sector: u64,
    /// Length.
    pub sectors: u32,
}

/// Which parts of a volume may have had writes in flight, as far as its metadata says (md's bitmap).
#[derive(Debug)]
pub struct RegionLog {
    /// Length of a region: sectors of each member (of the volume, where
    /// [`Shape::syncs_by_volume`]). A power of two.
    pub region_sectors: u64,
    /// Number of regions; the last may be partial.
    pub regions: u32,
    /// One bit a region, lowest first; set: a resync has to go over it after a crash. As read at
    /// assembly, kept up to date by `RegionsDirty` and `RegionsClean`.
    pub dirty: KVec<u64>,
}

impl RegionLog {
    /// Whether `region` is dirty; regions that there are not are.
    pub fn is_dirty(&self, region: u32) -> bool {
        self.dirty
            .get((region / 64) as usize)
            .is_none_or(|word| (word >> (region % 64)) & 1 != 0)
    }

    /// Marks regions `first .. first + count`; those that there are not are left out.
    pub fn mark(&mut self, first: u32, count: u32, dirty: bool) {
        for region in first..first.saturating_add(count).min(self.regions) {
            if let Some(word) = self.dirty.get_mut((region / 64) as usize) {
                let bit = 1u64 << (region % 64);
                *word = if dirty { *word | bit } else { *word & !bit };
            }
        }
    }
}

/// What may be done with a volume.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Can be assembled, but only for reading, because …
    ReadOnly(Reason),
    /// Is shown and never assembled, because …
    Refused(Reason),
}

/// A volume.
#[derive(Debug)]
pub struct Volume {
    /// Identity; survives renaming and reassembly.
    pub id: Identity,
    /// Name for people; may be empty.
    pub name: Text<32>,
    /// Where everything is.
    pub shape: Shape,
    /// Size that users see.
    pub size_sectors: u64,
    /// Members in raid-disk order; `shape.members_total()` of them.
    pub members: KVec<Member>,
    /// Whether redundancy agrees.
    pub consistency: Consistency,
    /// What may be done with it.
    pub access: Access,
    /// Which regions may have had writes in flight, when the format records it for this volume.
    /// Only these need a resync after a crash; without it, all of the volume.
    pub regions: Option<RegionLog>,
    /// Of a volume that somebody else is reshaping, or a RAID 0 whose members differ in size: what lies where, from its start
    /// to its end. Empty: everything lies as `shape` and `members` say. The former is not written.
    pub stretches: KVec<Stretch>,
    /// A check or repair that a person asked for and that has not ended, as far as the format has a place
    /// to remember it.
    pub scrub: Option<Scrub>,
    /// What is done about crashes in the middle of a write.
    pub crash_policy: CrashPolicy,
    /// Bytes of a logical block that users have at least, whatever the members' are: 512 to 4096, or 0 where the format does
    /// not record it.
    pub block_bytes: u32,
    /// Deleted; the entry only keeps the index stable.
    pub deleted: bool,
}

/// A check, or a repair, that goes on after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scrub {
    /// It puts right what it finds.
    pub repairs: bool,
    /// How far it got: sectors of each member; of the volume, where [`Shape::syncs_by_volume`].
    pub done_sectors: u64,
}

impl Volume {
    /// `EINVAL` for a mark of a check or repair that lies beyond what there is to compare.
    pub fn check_scrub(&self, scrub: Option<Scrub>) -> Checked {
        let done = scrub.map_or(0, |scrub| scrub.done_sectors);
        let most = self.shape.sync_sectors(self.size_sectors);
        if done > most {
            return Err(crate::reason!(
                EINVAL,
                "{done} sectors checked on {} that has {most} to check is impossible",
                self.shape.level
            ));
        }
        Ok(())
    }
}

/// A part of a volume that lies in a shape of its own: while the volume goes from one to another, or because its members
/// differ in size.
#[derive(Debug)]
pub struct Stretch {
    /// Sector of the volume where it ends; it starts where the one before it ends.
    pub end_sectors: u64,
    /// The shape. Places are those that the stretch's sectors have in a whole volume of this shape.
    pub shape: Shape,
    /// Sector of such a volume that is the stretch's first.
    pub first_sectors: u64,
    /// Size of a volume of this shape.
    pub size_sectors: u64,
    /// Members of this shape, by slot; all in sync. Where only some stretch of a member is kept, its
    /// offset is where the member would start if it were there as a whole.
    pub members: KVec<Member>,
}

/// A set of disks with common metadata.
#[derive(Debug)]
pub struct Set {
    /// Name of the format (`Format::name`).
    pub format: &'static str,
    /// Identity; the same on every disk of the set.
    pub id: Identity,
    /// Name for people; may be empty.
    pub name: Text<32>,
    /// Generation of the freshest metadata.
    pub generation: u64,
    /// It has no volumes, and the metadata of each of its disks says that it is a spare for any set of the
    /// format: they may be taken for one.
    pub lends_spares: bool,
    /// Disks by [`DiskIndex`].
    pub disks: KVec<Disk>,
    /// Volumes by [`VolumeIndex`].
    pub volumes: KVec<Volume>,
    /// What is known to be bad on the disks, in no order, apart from each other. Room is reserved at
    /// assembly ([`Set::reserve_bad_ranges`]).
    pub bad_ranges: KVec<BadRange>,
    /// Remarks for people: what was odd, what was preserved without being understood.
    pub notes: KVec<Text<160>>,
}

impl BadRange {
    fn end(&self) -> u64 {
        self.sector.saturating_add(u64::from(self.sectors))
    }

    /// Whether both have a sector of the same disk.
    pub fn overlaps(&self, other: &BadRange) -> bool {
        self.disk == other.disk && self.sector < other.end() && other.sector < self.end()
    }

    /// Whether it has a sector of a member of `member_sectors`.
    pub fn is_in(&self, member: &Member, member_sectors: u64) -> bool {
        let end = member.offset_sectors.saturating_add(member_sectors);
        member.disk == Some(self.disk) && self.sector < end && member.offset_sectors < self.end()
    }

    /// Whether it goes on at both ends of `other`, which would cut it in two.
    pub fn reaches_around(&self, other: &BadRange) -> bool {
        self.disk == other.disk && self.sector < other.sector && other.end() < self.end()
    }

    /// What of this is before `other`, and what is after it; lengths may be 0.
    fn without(&self, other: &BadRange) -> [BadRange; 2] {
        // Both lengths are at most this range's own.
        let before = other.sector.saturating_sub(self.sector) as u32;
        let after = self.end().saturating_sub(other.end()) as u32;
        [
            BadRange {
                sectors: before,
                ..*self
            },
            BadRange {
                sector: other.end(),
                sectors: after,
                ..*self
            },
        ]
    }
}

/// Most remarks that a set has.
const NOTES_MAX: usize = 64;

/// Adds a remark for people to a set's [`Set::notes`]; with too many there it is left out. Allocates.
pub fn note(notes: &mut KVec<Text<160>>, args: core::fmt::Arguments<'_>) -> Checked {
    if notes.len() < NOTES_MAX {
        notes.push(Text::from_fmt(args), GFP_KERNEL)?;
    }
    Ok(())
}

impl Set {
    /// Makes room for [`super::BAD_RANGES_MAX`] bad ranges. Allocates; at assembly.
    pub fn reserve_bad_ranges(&mut self) -> Checked {
        let missing = super::BAD_RANGES_MAX.saturating_sub(self.bad_ranges.len());
        self.bad_ranges.reserve(missing, GFP_KERNEL)?;
        Ok(())
    }

    /// Notes a bad range, without allocating. What of it is noted already is taken in. Fails with
    /// `ENOSPC` when there is no room; nothing has changed then.
    pub fn add_bad_range(&mut self, range: BadRange) -> Checked {
        let known = self.bad_ranges.iter().any(|old| {
            old.disk == range.disk && old.sector <= range.sector && range.end() <= old.end()
        });
        if known || range.sectors == 0 {
            return Ok(());
        }
        // What it cuts in two leaves at most one more than there was.
        self.room_for_bad_ranges(2)?;
        self.clear_bad_range(range)?;
        self.bad_ranges.push(range, GFP_KERNEL)?;
        Ok(())
    }

    /// Forgets what of `range` is noted as bad, without allocating. Fails with `ENOSPC` only when that
    /// would cut a range in two and there is no room; nothing has changed then.
    pub fn clear_bad_range(&mut self, range: BadRange) -> Checked {
        if range.sectors == 0 || !self.bad_ranges.iter().any(|old| old.overlaps(&range)) {
            return Ok(());
        }
        // Ranges are apart, so at most one reaches beyond both ends.
        if self.bad_ranges.iter().any(|old| old.reaches_around(&range)) {
            self.room_for_bad_ranges(1)?;
        }
        let mut cut = None;
        for old in self
            .bad_ranges
            .iter_mut()
            .filter(|old| old.overlaps(&range))
        {
            let [before, after] = old.without(&range);
            *old = if before.sectors > 0 { before } else { after };
            if before.sectors > 0 && after.sectors > 0 {
                cut = Some(after);
            }
        }
        self.bad_ranges.retain(|old| old.sectors > 0);
        if let Some(after) = cut {
            self.bad_ranges.push(after, GFP_KERNEL)?;
        }
        Ok(())
    }

    fn room_for_bad_ranges(&self, more: usize) -> Checked {
        let room = self
            .bad_ranges
            .capacity()
            .saturating_sub(self.bad_ranges.len());
        if room < more {
            return Err(crate::reason!(
                ENOSPC,
                "no more than {} bad ranges can be noted; replace the disk",
                self.bad_ranges.capacity()
            ));
        }
        Ok(())
    }

    /// The disk at `index`.
    pub fn disk(&self, index: DiskIndex) -> Option<&Disk> {
        self.disks.get(usize::from(index))
    }

    /// The volume at `index`, unless it was deleted.
    pub fn volume(&self, index: VolumeIndex) -> Option<&Volume> {
        self.volumes
            .get(usize::from(index))
            .filter(|volume| !volume.deleted)
    }

    /// Volumes that exist, with their indices.
    pub fn live_volumes(&self) -> impl Iterator<Item = (VolumeIndex, &Volume)> + '_ {
        (0u16..)
            .zip(self.volumes.iter())
            .filter(|(_, v)| !v.deleted)
    }

    /// Disks that are part of the set now, with their indices.
    pub fn live_disks(&self) -> impl Iterator<Item = (DiskIndex, &Disk)> + '_ {
        (0u16..)
            .zip(self.disks.iter())
            .filter(|(_, d)| d.state != DiskState::Removed)
    }

    /// The index of a disk that joins. Disks that were removed keep theirs as long as the set is in memory, and what is kept by
    /// index has room for [`super::DISKS_MAX`]: then `ENOSPC`.
    pub fn index_to_join(&self) -> Checked<DiskIndex> {
        if self.disks.len() < super::DISKS_MAX {
            return Ok(self.disks.len() as DiskIndex);
        }
        Err(crate::reason!(
            ENOSPC,
            "the set has had {} disks since it was started: stop it and start it anew",
            super::DISKS_MAX
        ))
    }

    /// The index of the present disk with the shell's handle `key`.
    pub fn disk_by_key(&self, key: u64) -> Option<DiskIndex> {
        self.live_disks()
            .find(|(_, d)| d.facts.is_some_and(|facts| facts.key == key))
            .map(|(index, _)| index)
    }

    /// The present disk with the shell's handle `key`.
    pub fn present_disk(&self, key: u64) -> Option<&Disk> {
        self.disk(self.disk_by_key(key)?)
    }

    /// Whether it trusts a disk that is here, or a member on one, which `before` did not: a set of the same disks and of others.
    pub fn trusts_more_than(&self, before: &Set) -> bool {
        let key_of = |set: &Set, member: &Member| {
            let facts = member.disk.and_then(|disk| set.disk(disk)?.facts);
            facts
                .map(|facts| facts.key)
                .filter(|_| member.state == MemberState::InSync)
        };
        let is_new = |disk: &Disk| {
            let former = disk.facts.and_then(|facts| before.present_disk(facts.key));
            let is_online = disk.facts.is_some() && disk.state == DiskState::Online;
            is_online && former.is_none_or(|disk| disk.state != DiskState::Online)
        };
        let is_more = |volume: &Volume| {
            let mut all = before.live_volumes();
            let former = all.find(|(_, former)| former.id == volume.id);
            let former = former.map_or(&[][..], |(_, former)| former.members.as_slice());
            let mut members = volume.members.iter().enumerate();
            members.any(|(slot, member)| {
                let held = former.get(slot).and_then(|member| key_of(before, member));
                let holds = key_of(self, member);
                holds.is_some() && holds != held
            })
        };
        self.live_disks().any(|(_, disk)| is_new(disk))
            || self.live_volumes().any(|(_, volume)| is_more(volume))
    }

    /// `EINVAL` for the return of a disk to volumes without redundancy ([`super::Event::DiskReinstated`]) that none has lost.
    pub fn check_reinstated(&self, disk: DiskIndex) -> Checked {
        match self.irreplaceable(disk) {
            Some(_) => Ok(()),
            None => Err(crate::reason!(
                EINVAL,
                "no volume without redundancy lost disk {disk}"
            )),
        }
    }

    /// A volume without redundancy that has `disk` as a lost member: only what is on that disk can bring it back.
    pub fn irreplaceable(&self, disk: DiskIndex) -> Option<VolumeIndex> {
        let mut lost = self.memberships(disk).filter(|(volume, _, member)| {
            matches!(member.state, MemberState::Failed | MemberState::Missing)
                && self
                    .volume(*volume)
                    .is_some_and(|volume| !volume.shape.level.is_redundant())
        });
        lost.next().map(|(volume, _, _)| volume)
    }

    /// Every place where `disk` is a member: volume and slot.
    pub fn memberships(
        &self,
        disk: DiskIndex,
    ) -> impl Iterator<Item = (VolumeIndex, Slot, &Member)> + '_ {
        self.live_volumes().flat_map(move |(volume, v)| {
            (0u16..)
                .zip(v.members.iter())
                .filter(move |(_, m)| m.disk == Some(disk))
                .map(move |(slot, m)| (volume, slot, m))
        })
    }
}
