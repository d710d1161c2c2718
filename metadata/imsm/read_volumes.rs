// SPDX-License-Identifier: GPL-2.0

//! Volumes of an MPB to volumes of the model, and what may be done with them.

use super::layout::*;
use super::left_log::{has_room, log_sectors};
use super::model::{mark_of, place_of, Place};
use super::reshape::{is_general, size_by_stripes, Progress};
use super::set::ImsmSet;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskState, Identity, Level, Member, MemberState,
    Reason, Scrub, Shape, Text, Volume, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

impl ImsmSet {
    /// The model of volume `index` of the table. The disks of the table are the model's first ones.
    #[inline(never)]
    pub fn read_volume(&self, index: u8) -> Checked<Volume> {
        let raw = self.mpb.raw();
        let at = raw.volume_at(index);
        let scale = self.block_sectors();
        let moves = self.read_moves(raw, at);
        let which = match &moves {
            Moves::InPlace(which) | Moves::Unclear(which, _) => *which,
            Moves::Apart(..) => Which::First,
        };
        let source = raw.map_at(at, which);
        let recorded = raw
            .pair(at + volume::SIZE, at + volume::SIZE + 4)
            .checked_mul(scale)
            .unwrap_or(0);
        let shown = match is_general(raw, at) {
            // Until it is over, no more is used than fits in both shapes.
            true => size_by_stripes(raw, raw.map_at(at, Which::Second), scale).min(recorded),
            false => recorded,
        };
        let size_sectors = if which == Which::Second {
            shown
        } else {
            recorded
        };
        let placed = place_of(raw, source, size_sectors, scale);
        let size_sectors = shown;
        let mut access = Access::ReadWrite;
        let place = match placed {
            Ok(place) => place,
            Err(reason) => {
                access = Access::Refused(reason);
                unknown_place(raw, source)
            }
        };
        if matches!(access, Access::ReadWrite) {
            access = self.access_of(raw, at, source, &place, &moves);
        }
        let mut stretches = KVec::new();
        if let (Access::ReadOnly(_), Moves::Apart(progress)) = (access, &moves) {
            match self.stretches(raw, at, &place, size_sectors, progress) {
                Ok(known) => stretches = known,
                Err(reason) => access = Access::Refused(reason),
            }
        }
        let consistency = consistency_of(raw, at, &place.shape, scale, size_sectors);
        let mut members = KVec::with_capacity(usize::from(place.shape.members), GFP_KERNEL)?;
        let most = place.shape.member_sectors;
        let mark = mark_of(raw, at, &place.shape, scale, most);
        for slot in 0..place.shape.members {
            members.push(
                self.read_member(raw, at, source, slot, mark, place.start_sectors),
                GFP_KERNEL,
            )?;
        }
        Ok(Volume {
            id: volume_identity(raw, at),
            name: Text::from_disk(&raw.array::<TEXT_BYTES>(at + volume::NAME)),
            shape: place.shape,
            size_sectors,
            members,
            consistency,
            access,
            regions: None,
            stretches,
            scrub: scrub_of(raw, at, &place.shape, scale, size_sectors),
            crash_policy: CrashPolicy::Resync,
            block_bytes: 0,
            deleted: false,
        })
    }

    /// Whether data of the volume at `at` is on its way.
    #[inline(never)]
    fn read_moves(&self, raw: Raw<'_>, at: usize) -> Moves {
        if !is_general(raw, at) {
            return Moves::InPlace(Which::First);
        }
        let units = raw.pair(at + volume::UNIT_LO, at + volume::UNIT_HI);
        let shown = if units == 0 {
            Which::Second
        } else {
            Which::First
        };
        let scale = self.block_sectors();
        let size = raw
            .pair(at + volume::SIZE, at + volume::SIZE + 4)
            .saturating_mul(scale);
        let new = place_of(raw, raw.map_at(at, Which::First), size, scale);
        match new.and_then(|new| self.reshape_progress(raw, at, &new)) {
            Ok(Progress {
                moved_sectors: 0,
                copied: None,
            }) => Moves::InPlace(Which::Second),
            Ok(progress) => Moves::Apart(progress),
            Err(reason) => Moves::Unclear(shown, reason),
        }
    }

    /// One member.
    fn read_member(
        &self,
        raw: Raw<'_>,
        at: usize,
        map: usize,
        slot: u16,
        mark: u64,
        offset_sectors: u64,
    ) -> Member {
        let order = raw.order(map, slot);
        let entry = order & map::DISK;
        let disk = self.disk_of_entry(entry);
        let migrating = raw.u8(at + volume::MIGRATING) != 0;
        let second = raw.map_at(at, Which::Second);
        let before = migrating
            && slot < u16::from(raw.u8(second + map::MEMBERS))
            && raw.order(second, slot) & map::OUT_OF_SYNC != 0;
        let now = order & map::OUT_OF_SYNC != 0;
        let rebuilding = migrating && raw.u8(at + volume::KIND) == volume::REBUILD;
        let state = disk
            .and_then(|disk| self.set.disk(disk))
            .map_or(DiskState::Missing, |disk| disk.state);
        let failed = raw.status(u8::try_from(entry).unwrap_or(u8::MAX)) & disk::FAILED != 0;
        let (disk, state) = match state {
            DiskState::Missing => (disk, MemberState::Missing),
            _ if failed || state != DiskState::Online => (disk, MemberState::Failed),
            _ if rebuilding && before && !now => {
                (disk, MemberState::Rebuilding { done_sectors: mark })
            }
            // The disk is here and fit for use, its old contents are not: its place is kept.
            _ if now || before => (None, MemberState::Missing),
            _ => (disk, MemberState::InSync),
        };
        Member {
            disk,
            offset_sectors,
            state,
        }
    }

    /// Whether two volumes use the same part of some disk. The model has both.
    pub fn overlap(&self, one: VolumeIndex, other: VolumeIndex) -> bool {
        let (first, second) = (self.volume_stretch(one), self.volume_stretch(other));
        let (Some(first), Some(second)) = (first, second) else {
            return false;
        };
        first.0 < second.1 && second.0 < first.1 && self.share_disks(one, other)
    }

    /// What may be done with the volume at `at`.
    #[inline(never)]
    fn access_of(
        &self,
        raw: Raw<'_>,
        at: usize,
        map: usize,
        place: &Place,
        moves: &Moves,
    ) -> Access {
        if let Err(reason) = self.check_place(raw, map, place) {
            return Access::Refused(reason);
        }
        if raw.u32(at + volume::STATUS) & volume::CLONE != 0 {
            return Access::Refused(reason!(
                EOPNOTSUPP,
                "a clone-and-go volume is not supported"
            ));
        }
        if raw.u8(at + volume::NV_CACHE) != 0 {
            return Access::Refused(reason!(
                EOPNOTSUPP,
                "the volume's data may be in a cache that only Intel's driver knows"
            ));
        }
        if changes_shape(raw, at) {
            return general_access(raw, at, moves);
        }
        if !is_of_one_shape(raw, at) {
            return Access::Refused(reason!(
                EINVAL,
                "its two maps are of different shapes, and it is not being reshaped"
            ));
        }
        let unknown = raw.attributes() & !attribute::KNOWN;
        if unknown != 0 {
            return Access::ReadOnly(reason!(
                EOPNOTSUPP,
                "the metadata needs features {unknown:#x} that are not known"
            ));
        }
        let log = log_sectors(raw, at, place.shape.level);
        if log.is_some_and(|sectors| !has_room(raw, map, self.block_sectors(), place, sectors)) {
            return Access::ReadOnly(reason!(
                EROFS,
                "its partial parity log would be where something else is: stop it, and \
                 emdadm policy VOLUME resync takes that off"
            ));
        }
        match raw.u8(at + volume::HOLE_POLICY) {
            2 | 4 => Access::ReadOnly(policy("a journaling drive")),
            6 => Access::ReadOnly(policy("a bitmap")),
            _ => Access::ReadWrite,
        }
    }

    /// Members must lie within their disks.
    fn check_place(&self, raw: Raw<'_>, map: usize, place: &Place) -> Checked {
        let end = place
            .start_sectors
            .saturating_add(place.shape.member_sectors);
        for slot in 0..place.shape.members {
            let order = raw.order(map, slot) & map::DISK;
            let twice = (0..slot).any(|other| raw.order(map, other) & map::DISK == order);
            if twice {
                return Err(reason!(EINVAL, "disk {order} is named twice"));
            }
            let usable = self
                .disk_of_entry(order)
                .and_then(|disk| self.set.disk(disk))
                .filter(|disk| disk.facts.is_some())
                .map_or(u64::MAX, |disk| disk.usable_sectors);
            if end > usable {
                return Err(reason!(
                    EINVAL,
                    "the volume ends at sector {end} of disk {order}, which has {usable} for use"
                ));
            }
        }
        Ok(())
    }
}

/// Whether data is on its way from one map to the other.
enum Moves {
    /// It is not: all of it is where this map says.
    InPlace(Which),
    /// It is.
    Apart(Progress),
    /// How far is not certain; what the volume is, this map says.
    Unclear(Which, Reason),
}

/// A kind of record that EMD does not keep: what was stale in it would be replayed later.
fn policy(what: &str) -> Reason {
    reason!(
        EROFS,
        "{what} is not kept: mdadm --grow --consistency-policy=resync turns it off"
    )
}

/// What may be done with a volume that changes its shape.
fn general_access(raw: Raw<'_>, at: usize, moves: &Moves) -> Access {
    match moves {
        _ if !is_general(raw, at) => Access::ReadOnly(reason!(
            EROFS,
            "a migration of kind {} is under way: its own tool has to finish it",
            raw.u8(at + volume::KIND)
        )),
        Moves::Unclear(_, reason) => Access::Refused(*reason),
        Moves::Apart(progress) => Access::ReadOnly(reason!(
            EROFS,
            "being reshaped, {} sectors are done: let mdadm or the firmware finish",
            progress.moved_sectors
        )),
        Moves::InPlace(_) => Access::ReadOnly(reason!(
            EROFS,
            "the volume is to be reshaped, nothing is done yet: let mdadm or the firmware go on"
        )),
    }
}

/// Whether a migration of the volume at `at` is one that EMD does not carry on.
pub fn changes_shape(raw: Raw<'_>, at: usize) -> bool {
    raw.u8(at + volume::MIGRATING) != 0
        && !matches!(
            raw.u8(at + volume::KIND),
            volume::INIT | volume::REBUILD | volume::VERIFY | volume::REPAIR
        )
}

/// Whether both maps of the volume at `at` have the same slots, in the same place.
fn is_of_one_shape(raw: Raw<'_>, at: usize) -> bool {
    let [first, second] = [Which::First, Which::Second].map(|which| {
        let map = raw.map_at(at, which);
        (
            raw.u8(map + map::MEMBERS),
            raw.u8(map + map::LEVEL),
            raw.u16(map + map::STRIP),
            raw.wide(map + map::START_LO, map + map::START_HI),
        )
    });
    first == second
}

/// A stand-in for a map that makes no sense.
fn unknown_place(raw: Raw<'_>, map: usize) -> Place {
    Place {
        shape: Shape {
            level: Level::Concat,
            layout: crate::model::Layout::Plain,
            members: u16::from(raw.u8(map + map::MEMBERS)),
            spans: 1,
            chunk_sectors: 0,
            member_sectors: 0,
        },
        start_sectors: 0,
        reserved_sectors: 0,
    }
}

/// Whether redundancy agrees.
fn consistency_of(raw: Raw<'_>, at: usize, shape: &Shape, scale: u64, size: u64) -> Consistency {
    if !shape.level.is_redundant() || is_general(raw, at) {
        return Consistency::Clean;
    }
    if is_dirty(raw, at) {
        return dirty_consistency(raw, at, shape.level);
    }
    let uninitialised = raw.u8(raw.map_at(at, Which::First) + map::STATE) == map::UNINITIALISED;
    match (is_resyncing(raw, at), uninitialised) {
        (true, _) => Consistency::Initialising {
            done_sectors: mark_of(raw, at, shape, scale, shape.sync_sectors(size)),
        },
        (false, true) => Consistency::Initialising { done_sectors: 0 },
        (false, false) => Consistency::Clean,
    }
}

/// The same of a volume in which writes may have been in flight: on either side of any mark.
///
/// What was in sync once is only dirty, also in a resync; but where there is a log, what that says would be taken for
/// all that is wrong.
pub fn dirty_consistency(raw: Raw<'_>, at: usize, level: Level) -> Consistency {
    let uninitialised = raw.u8(raw.map_at(at, Which::First) + map::STATE) == map::UNINITIALISED;
    let is_first = raw.u8(at + volume::KIND) == volume::INIT;
    let has_log = log_sectors(raw, at, level).is_some();
    if uninitialised || is_resyncing(raw, at) && (is_first || has_log) {
        Consistency::Initialising { done_sectors: 0 }
    } else {
        Consistency::Dirty
    }
}

/// Whether writes may have been in flight.
pub fn is_dirty(raw: Raw<'_>, at: usize) -> bool {
    raw.u8(at + volume::DIRTY) & volume::IN_FLIGHT != 0
}

/// The check that goes on. A repair that was cut is a resync from where it was ([`is_resyncing`]): the format has the
/// same for both. With writes in flight there is no check, but something to resync.
fn scrub_of(raw: Raw<'_>, at: usize, shape: &Shape, scale: u64, size: u64) -> Option<Scrub> {
    let is_check = raw.u8(at + volume::MIGRATING) != 0
        && raw.u8(at + volume::KIND) == volume::VERIFY
        && raw.u32(at + volume::STATUS) & volume::FIX == 0;
    (is_check && !is_dirty(raw, at) && shape.level.is_redundant()).then(|| Scrub {
        repairs: false,
        done_sectors: mark_of(raw, at, shape, scale, shape.sync_sectors(size)),
    })
}

/// Whether the migration of the volume at `at` establishes redundancy.
pub fn is_resyncing(raw: Raw<'_>, at: usize) -> bool {
    if raw.u8(at + volume::MIGRATING) == 0 {
        return false;
    }
    match raw.u8(at + volume::KIND) {
        volume::INIT | volume::REPAIR => true,
        volume::VERIFY => raw.u32(at + volume::STATUS) & volume::FIX != 0,
        _ => false,
    }
}

/// Identity of the volume at `at`: what neither a new name nor the end of another volume changes.
fn volume_identity(raw: Raw<'_>, at: usize) -> Identity {
    let map = raw.map_at(at, Which::First);
    let start = raw.wide(map + map::START_LO, map + map::START_HI);
    let mut bytes = [0u8; 15];
    let parts: [&[u8]; 4] = [
        &raw.family().to_le_bytes(),
        &raw.array::<2>(at + volume::NUMBER),
        &[raw.u8(at + volume::TID)],
        &start.to_le_bytes(),
    ];
    let mut slots = bytes.iter_mut();
    for part in parts {
        for (&byte, slot) in part.iter().zip(slots.by_ref()) {
            *slot = byte;
        }
    }
    Identity::new(&bytes)
}
