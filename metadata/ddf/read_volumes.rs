// SPDX-License-Identifier: GPL-2.0

//! From configuration records to volumes of the model. What may be done with them: `judge`.

use super::assemble::Reader;
use super::config::{self, Record, LOST_REFERENCE, NO_REFERENCE};
use super::layout::*;
use super::model::{level, shape_of};
use super::probe::{CopyView, Found};
use super::set::VolumeMeta;
use super::tables;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskIndex, DiskState, Identity, Layout as Placement,
    Level, Member, MemberState, Reason, Shape, Text, Volume, MEMBERS_MAX, VOLUMES_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// A record found on a disk, and how much it counts.
pub struct Candidate<'r> {
    /// The record.
    pub record: Record<'r>,
    rank: Rank,
}

/// Sound before unsound, those of disks that work before those of lost ones (which may have been used
/// apart), newer disks before older ones, closed before open, newer records before older ones.
type Rank = (bool, bool, u32, bool, u32);

impl Reader<'_> {
    /// Makes a volume of every used entry of the virtual disk table.
    pub fn read_volumes(&mut self) -> Checked {
        let layout = self.set.layout;
        for index in 0..layout.vd_entries {
            let entry = tables::entry(&self.set.vd, layout.endian, index);
            let state = entry.volume_state() & vde::STATE_MASK;
            if !entry.used() || state == vde::DELETED {
                continue;
            }
            if self.set.volumes.len() >= VOLUMES_MAX {
                return Err(reason!(
                    E2BIG,
                    "the set lists more than {VOLUMES_MAX} volumes"
                ));
            }
            self.read_volume(index)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn read_volume(&mut self, index: u16) -> Checked {
        let layout = self.set.layout;
        let entry = tables::entry(&self.set.vd, layout.endian, index);
        let (guid, number) = (entry.guid(), entry.number());
        let (state, init) = (entry.volume_state(), entry.volume_init());
        let name = Text::from_disk(entry.name());
        let lone = tables::count(&self.set.vd, layout.endian) == 1;
        let mut volume = Volume {
            id: self.volume_id(&guid, entry.name(), number),
            name,
            shape: no_shape(),
            size_sectors: 0,
            members: KVec::new(),
            consistency: Consistency::Clean,
            access: Access::ReadWrite,
            regions: None,
            stretches: KVec::new(),
            scrub: None,
            crash_policy: CrashPolicy::Resync,
            block_bytes: 0,
            deleted: false,
        };
        let mut meta = VolumeMeta {
            entry: Some(index),
            guid,
            record_guid: guid,
            width: 0,
            records: KVVec::new(),
            log_slot: None,
            hole: Default::default(),
        };
        match self.fill(&mut volume, &mut meta, lone) {
            Ok(()) => {}
            Err(reason) if reason.errno() == ENOMEM => return Err(reason),
            Err(reason) => volume.access = Access::Refused(reason),
        }
        if volume.shape.level.is_redundant() {
            volume.consistency = consistency(state, init);
        }
        self.set.set.volumes.push(volume, GFP_KERNEL)?;
        self.set.volumes.push(meta, GFP_KERNEL)?;
        Ok(())
    }

    /// Identity of a volume. LSI's GUIDs change with every boot but for their first half; there the
    /// group, name and number stand in.
    fn volume_id(&self, guid: &Guid, name: &[u8], number: u16) -> Identity {
        if !self.set.quirks.lsi {
            return Identity::new(guid);
        }
        let mut mixed = [0u8; 32];
        let group = self.set.set.id.digest();
        // `Init` of the kernel's prelude has a `chain` too.
        let parts = Iterator::chain(guid.iter().take(8), group.iter().take(6));
        let parts = Iterator::chain(parts, name.iter().take(16));
        for (slot, &byte) in mixed.iter_mut().zip(parts) {
            *slot = byte;
        }
        let [high, low] = number.to_be_bytes();
        put8(&mut mixed, 30, high);
        put8(&mut mixed, 31, low);
        Identity::new(&mixed)
    }

    /// Every record of the volume with entry GUID `guid`.
    fn records_of<'s>(
        &'s self,
        guid: &'s Guid,
        lone: bool,
    ) -> impl Iterator<Item = Candidate<'s>> + 's {
        self.found.iter().enumerate().flat_map(move |(at, disk)| {
            let copy = disk.best();
            let slots = copy.map_or(0, |copy| copy.layout.config_slots);
            let works = self.works(at);
            (0..slots).filter_map(move |index| {
                let mut found = candidate(disk, copy?, index, guid, lone)?;
                found.rank.1 = works;
                Some(found)
            })
        })
    }

    /// Whether present disk `at` works by the tables in use.
    fn works(&self, at: usize) -> bool {
        let disk = self.disk_of.get(at).copied().flatten();
        disk.and_then(|disk| self.set.set.disk(disk))
            .is_some_and(|model| model.state == DiskState::Online)
    }

    /// Reads the newest records into `meta` and the volume.
    #[inline(never)]
    fn fill(&self, volume: &mut Volume, meta: &mut VolumeMeta, lone: bool) -> Checked {
        let guid = meta.guid;
        let mut top: Option<Candidate<'_>> = None;
        for candidate in self.records_of(&guid, lone) {
            if top.as_ref().is_none_or(|best| candidate.rank > best.rank) {
                top = Some(candidate);
            }
        }
        let Some(top) = top else {
            return Err(reason!(
                ENODEV,
                "no disk that is here has the configuration of this volume"
            ));
        };
        meta.record_guid = top.record.guid();
        let layout = self.set.layout;
        let spans = usize::from(top.record.spans()).min(MEMBERS_MAX);
        let len = layout.record_bytes as usize;
        meta.records = KVVec::from_elem(0, spans * len, GFP_KERNEL)?;
        let shape = self.shape(&top.record);
        volume.shape = match shape.as_ref() {
            Ok(shape) => *shape,
            Err(_) => fallback_shape(&top.record, &layout),
        };
        if volume.shape.members > 0 {
            meta.width = top.record.members();
        }
        let size = top.record.volume_blocks();
        volume.size_sectors = size.saturating_mul(layout.block_sectors());
        let mut trouble = shape.err();
        for span in 0..spans {
            if let Some(reason) = self.fill_span(volume, meta, span, &top, lone)? {
                trouble.get_or_insert(reason);
            }
        }
        if let Some(disk) = twice(&volume.members) {
            trouble
                .get_or_insert_with(|| reason!(EINVAL, "disk {disk} is listed twice as a member"));
        }
        match trouble {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn shape(&self, record: &Record<'_>) -> Checked<Shape> {
        let usable = (0..record.members())
            .filter_map(|position| self.by_reference(record.reference(position)))
            .filter_map(|disk| self.set.set.disk(disk))
            .map(|disk| self.set.layout.blocks(disk.usable_sectors))
            .min();
        shape_of(
            record,
            &self.set.layout,
            self.set.quirks,
            usable.unwrap_or(0),
        )
    }

    /// Finds the newest record of one span and appends its members. Returns what speaks against
    /// using the volume.
    #[inline(never)]
    fn fill_span(
        &self,
        volume: &mut Volume,
        meta: &mut VolumeMeta,
        span: usize,
        top: &Candidate<'_>,
        lone: bool,
    ) -> Checked<Option<Reason>> {
        let guid = meta.guid;
        let of_span = |candidate: &Candidate<'_>| usize::from(candidate.record.span()) == span;
        let mut best: Option<Candidate<'_>> = None;
        let mut trouble = None;
        for candidate in self.records_of(&guid, lone).filter(of_span) {
            match best.as_ref() {
                Some(other) if candidate.rank < other.rank => continue,
                Some(other) if candidate.rank == other.rank => {
                    if !candidate.record.agrees(&other.record) {
                        trouble = Some(reason!(
                            EINVAL,
                            "disks of the same age disagree on the members of span {span}"
                        ));
                    }
                    continue;
                }
                _ => best = Some(candidate),
            }
        }
        let width = meta.width;
        let Some(best) = best else {
            for _ in 0..width {
                volume.members.push(lost_member(), GFP_KERNEL)?;
            }
            return Ok(trouble);
        };
        if !best.rank.0 {
            volume.access = Access::ReadOnly(reason!(
                EINVAL,
                "the checksum of its configuration (of span {span}) is wrong on every disk"
            ));
        }
        if !best.record.same_kind(&top.record) {
            trouble = Some(contradiction(&best.record, &top.record));
        }
        let len = self.set.layout.record_bytes as usize;
        if let Some(slot) = meta.records.chunks_exact_mut(len.max(1)).nth(span) {
            let _ = super::super::bytes::put(slot, 0, best.record.bytes());
        }
        for position in 0..width {
            let member = self.member(&best.record, position, &mut trouble);
            volume.members.push(member, GFP_KERNEL)?;
        }
        if let Some(reason) = holes(&best.record, &self.set.layout) {
            trouble.get_or_insert(reason);
        }
        Ok(trouble)
    }

    /// The member at `position` of a record.
    #[inline(never)]
    fn member(&self, record: &Record<'_>, position: u16, trouble: &mut Option<Reason>) -> Member {
        let reference = record.reference(position);
        if matches!(reference, LOST_REFERENCE | NO_REFERENCE) {
            return lost_member();
        }
        let Some(index) = self.by_reference(reference) else {
            return lost_member();
        };
        let contested = self
            .contested
            .get(usize::from(index))
            .copied()
            .unwrap_or(false);
        if contested {
            trouble.get_or_insert_with(|| {
                reason!(EINVAL, "two disks claim to be its member {reference:08x}")
            });
        }
        let twice = (0..record.members())
            .any(|other| other != position && record.reference(other) == reference);
        if twice {
            trouble.get_or_insert_with(|| {
                reason!(EINVAL, "disk {reference:08x} is listed twice as a member")
            });
        }
        let offset = record
            .start(position)
            .checked_mul(self.set.layout.block_sectors());
        if offset.is_none() {
            trouble
                .get_or_insert_with(|| reason!(EINVAL, "member {position} starts beyond any disk"));
        }
        Member {
            disk: Some(index),
            offset_sectors: offset.unwrap_or(0),
            state: self.member_state(index),
        }
    }

    fn member_state(&self, index: DiskIndex) -> MemberState {
        let Some(model) = self.set.set.disk(index) else {
            return MemberState::Missing;
        };
        let bits = self.set.disk_state(index).unwrap_or(0);
        match model.state {
            DiskState::Online if bits & pde::REBUILDING != 0 => {
                MemberState::Rebuilding { done_sectors: 0 }
            }
            DiskState::Online => MemberState::InSync,
            DiskState::Failed | DiskState::Stale => MemberState::Failed,
            DiskState::Missing | DiskState::Removed => MemberState::Missing,
        }
    }
}

/// The record in slot `index`, when it is one of the volume with entry GUID `guid`.
pub fn candidate<'r>(
    disk: &Found<'_>,
    copy: &'r CopyView<'_>,
    index: u16,
    guid: &Guid,
    lone: bool,
) -> Option<Candidate<'r>> {
    let bytes = config::slot_bytes(copy.section(Section::Config), &copy.layout, index);
    let record = Record::new(bytes, &copy.layout)?;
    let theirs = record.guid();
    // Marvell: entry and record agree in the vendor part only.
    let marvell =
        lone && copy.layout.crc == super::crc::Crc::Jam && theirs.get(..8) == guid.get(..8);
    if !guid_same(&theirs, guid) && !marvell {
        return None;
    }
    let sequence = match record.sequence() {
        u32::MAX => 0,
        sequence => sequence,
    };
    Some(Candidate {
        rank: (
            record.intact(),
            true,
            disk.generation(),
            !copy.head.open,
            sequence,
        ),
        record,
    })
}

/// State bits that a copy's own disk table has for `reference`.
pub fn recorded_state(copy: &CopyView<'_>, reference: u32) -> Option<u16> {
    tables::worst_state(
        copy.section(Section::Disks),
        copy.layout.endian,
        copy.layout.pd_entries,
        reference,
        |entry| entry.disk_state(),
    )
}

/// References of all FF before a used one: tools count members differently there. In a mirror, where order means nothing, the
/// used one is a member to all of them, unless it stands beyond the mirror's members.
fn holes(record: &Record<'_>, layout: &Layout) -> Option<Reason> {
    let members = record.members().min(layout.mppe);
    let mirror = record.level() == level::RAID1 && record.spans() == 1;
    let first = (0..members).find(|&position| record.reference(position) == NO_REFERENCE)?;
    let later = if mirror {
        (members..layout.mppe)
            .any(|position| !matches!(record.reference(position), NO_REFERENCE | LOST_REFERENCE))
    } else {
        (first..layout.mppe).any(|position| record.reference(position) != NO_REFERENCE)
    };
    later.then(|| {
        reason!(
            EINVAL,
            "member {first} is left open before others: their order is not certain"
        )
    })
}

/// Consistency from the bytes of a volume's entry.
fn consistency(state: u8, init: u8) -> Consistency {
    if init & vde::INIT_MASK != vde::INIT_DONE {
        Consistency::Initialising { done_sectors: 0 }
    } else if state & vde::DIRTY != 0 {
        Consistency::Dirty
    } else {
        Consistency::Clean
    }
}

/// What is wrong with basic volumes of one volume that differ.
fn contradiction(one: &Record<'_>, other: &Record<'_>) -> Reason {
    let (mine, theirs) = (
        (one.members(), one.member_blocks()),
        (other.members(), other.member_blocks()),
    );
    if mine == theirs {
        return reason!(EINVAL, "the spans' configurations contradict each other");
    }
    reason!(
        EOPNOTSUPP,
        "unequal spans are not supported: span {} has {} members of {} blocks, span {} has {} of {}",
        one.span(),
        mine.0,
        mine.1,
        other.span(),
        theirs.0,
        theirs.1
    )
}

/// A disk that holds two members.
fn twice(members: &[Member]) -> Option<DiskIndex> {
    members.iter().enumerate().find_map(|(at, member)| {
        let same = |other: &Member| other.disk == member.disk;
        member
            .disk
            .filter(|_| members.iter().skip(at + 1).any(same))
    })
}

fn lost_member() -> Member {
    Member {
        disk: None,
        offset_sectors: 0,
        state: MemberState::Missing,
    }
}

/// Shape of a volume of which nothing is known.
fn no_shape() -> Shape {
    Shape {
        level: Level::Concat,
        layout: Placement::Plain,
        members: 0,
        spans: 1,
        chunk_sectors: 0,
        member_sectors: 0,
    }
}

/// Shape to show of a volume that cannot be assembled: its members and their extents.
fn fallback_shape(record: &Record<'_>, layout: &Layout) -> Shape {
    let total = usize::from(record.members()) * usize::from(record.spans());
    let sectors = record.member_blocks().checked_mul(layout.block_sectors());
    Shape {
        members: if total <= MEMBERS_MAX {
            record.members()
        } else {
            0
        },
        spans: if total <= MEMBERS_MAX {
            u16::from(record.spans())
        } else {
            1
        },
        member_sectors: sectors.unwrap_or(0),
        ..no_shape()
    }
}
