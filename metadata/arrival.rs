// SPDX-License-Identifier: GPL-2.0

//! What a disk that comes to a set whose disks are claimed holds, beside what those hold that are here: old copies, what the
//! set does not know, or what a volume waits for.
//!
//! Facts in, verdicts out. The shell reads the disks, has the format make sets of them, says by [`LiveSet`] what else it
//! knows, and does what comes of it.

use super::MetadataSet;
use crate::model::{
    Access, DiskIndex, DiskMask, DiskRole, DiskState, Member, MemberState, Moves, Set, SpareRole,
    Volume, VolumeIndex,
};
use crate::personalities::{for_level, Health, Mask};
use core::mem::discriminant;

/// A set whose disks are claimed.
pub trait LiveSet {
    /// Its metadata; `None` when it has none.
    fn metadata(&self) -> Option<&dyn MetadataSet>;

    /// Which of its disks were seen to leave and to come.
    fn moves(&self) -> &Moves;

    /// Whether a disk of it is claimed.
    fn is_claimed(&self, disk: DiskIndex) -> bool;

    /// Whether a disk of it is not claimed, or gone from the machine.
    fn is_away(&self, disk: DiskIndex) -> bool;

    /// Whether some volume has what is on a disk nowhere else.
    fn is_needed(&self, disk: DiskIndex) -> bool;

    /// Whether a volume runs.
    fn runs(&self, volume: VolumeIndex) -> bool;

    /// Whether the members that are here and up to date are enough for a volume.
    fn has_enough(&self, volume: VolumeIndex) -> bool;

    /// The model.
    fn model(&self) -> Option<&Set> {
        self.metadata().map(|metadata| metadata.set())
    }

    /// Whether a disk is here, and counts.
    fn works_here(&self, disk: DiskIndex) -> bool {
        let state = self
            .model()
            .and_then(|set| set.disk(disk))
            .map(|disk| disk.state);
        state == Some(DiskState::Online) && self.is_claimed(disk)
    }
}

/// A disk that comes.
#[derive(Clone, Copy)]
pub struct Newcomer<'a> {
    /// The shell's handle for it.
    pub key: u64,
    /// The set that the format makes of it alone.
    pub alone: &'a Set,
}

/// What the format makes of the disks that are here, the newcomer and those that wait.
pub struct Joint<'a> {
    /// The set.
    pub set: &'a Set,
    /// [`MetadataSet::may_have_been_away`] of the newcomer.
    pub may_have_been_away: bool,
    /// Disks that are claimed and could not be read: they are missing in it, and that says nothing of them.
    pub unread: DiskMask,
}

impl<'a> Joint<'a> {
    /// As the format made it with `newcomer`.
    pub fn of(made: &'a dyn MetadataSet, newcomer: &Newcomer<'_>, unread: DiskMask) -> Self {
        let set = made.set();
        let disk = set.disk_by_key(newcomer.key);
        Self {
            set,
            may_have_been_away: disk.is_some_and(|disk| made.may_have_been_away(disk)),
            unread,
        }
    }
}

/// What the metadata of an arrived disk is to those of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It may count as a blank one.
    Old,
    /// It knows what the set does not.
    Apart,
    /// A volume without redundancy lost it.
    Lone,
    /// It is of a volume that lacks more than this disk.
    Early,
    /// With it a volume is complete, all of which is as the joint set has it.
    Complete,
}

/// Which disk of the set a newcomer was, and its state there.
pub fn known_place(live: &dyn LiveSet, newcomer: &Newcomer<'_>) -> Option<(DiskIndex, DiskState)> {
    let own = newcomer.alone.present_disk(newcomer.key)?;
    let metadata = live.metadata()?;
    let index = metadata.disk_called(&own.label)?;
    Some((index, metadata.set().disk(index)?.state))
}

/// How a newcomer, which was the disk at `index` and has the handle `key`, stands to those that are here. `joint` is the set that
/// the format makes of all; `None` of one that [`contradicts`] the set or [`is_apart`]. `arrived` are the handles of all that
/// are not claimed yet: its own, and those of the disks that wait.
pub fn standing(
    live: &dyn LiveSet,
    index: DiskIndex,
    key: u64,
    joint: Option<&Set>,
    arrived: impl Iterator<Item = u64>,
) -> Standing {
    let Some(joint) = joint else {
        return Standing::Apart;
    };
    if volume_awaiting(live, key, joint).is_none() {
        let lone = live.model().and_then(|set| set.irreplaceable(index));
        return match lone {
            Some(_) => Standing::Lone,
            None => Standing::Old,
        };
    }
    match may_be_adopted(live, joint, arrived, true) {
        true => Standing::Complete,
        false => Standing::Early,
    }
}

/// Whether a newcomer was used apart by its own word: it has those lost that work here.
///
/// Asked before disks are read for the joint set.
pub fn contradicts(live: &dyn LiveSet, newcomer: &Newcomer<'_>) -> bool {
    calls_lost(live, newcomer) || knows_nobody(live, newcomer.alone)
}

/// Whether a newcomer that does not contradict the set was used apart, and knows what the set does not.
pub fn is_apart(live: &dyn LiveSet, newcomer: &Newcomer<'_>, joint: &Joint<'_>) -> bool {
    let by_joint = joint.set.present_disk(newcomer.key);
    let is_turned_down = by_joint.is_none_or(|disk| disk.state == DiskState::Failed);
    // Those that the set has as failed are known as such; some formats say so of those that are missing as well.
    let is_news = match known_place(live, newcomer) {
        Some((_, DiskState::Failed)) => false,
        Some((_, DiskState::Missing)) => !joint.may_have_been_away,
        _ => true,
    };
    is_outdone(live, joint) || is_turned_down && is_news
}

/// Whether the newcomer has a disk as failed that works here, and the set did not see how that came.
fn calls_lost(live: &dyn LiveSet, newcomer: &Newcomer<'_>) -> bool {
    let Some(metadata) = live.metadata() else {
        return false;
    };
    let (ours, alone) = (metadata.set(), newcomer.alone);
    let own = known_place(live, newcomer).map(|(index, _)| index);
    let is_explained = |lost| {
        let explains = |own| live.moves().explain_loss(ours, own, alone.generation, lost);
        own.is_some_and(explains)
    };
    let mut lost = alone
        .live_disks()
        .filter(|(_, disk)| disk.state == DiskState::Failed && disk.facts.is_none());
    lost.any(|(_, lost)| {
        let index = metadata.disk_called(&lost.label);
        index.is_some_and(|index| live.works_here(index) && !is_explained(index))
    })
}

/// Whether a set made of one disk alone has a volume of ours in which nobody is where our members are: all of them were
/// lost to that disk. (One of them may be new to it.)
fn knows_nobody(live: &dyn LiveSet, alone: &Set) -> bool {
    let Some(ours) = live.model() else {
        return false;
    };
    let mut volumes = ours.live_volumes();
    volumes.any(|(index, volume)| {
        let Some(theirs) = alone.volume(index).filter(|theirs| theirs.id == volume.id) else {
            return false;
        };
        let mut working = volume
            .members
            .iter()
            .zip(theirs.members.iter())
            .filter(|(member, _)| {
                member.state == MemberState::InSync
                    && member.disk.is_some_and(|disk| live.is_claimed(disk))
            })
            .peekable();
        working.peek().is_some() && working.all(|(_, theirs)| theirs.disk.is_none())
    })
}

/// Whether the format, with all disks before it, does not count on those that work here any more. Of those that could not be
/// read it says nothing; when that is all of them, nobody here can answer for the set.
fn is_outdone(live: &dyn LiveSet, joint: &Joint<'_>) -> bool {
    let Some(ours) = live.model() else {
        return false;
    };
    let works = || {
        let disks = ours.live_disks();
        disks.filter(move |(index, _)| live.works_here(*index))
    };
    let mut read = works()
        .filter(|(index, _)| !joint.unread.contains(*index))
        .filter_map(|(_, disk)| disk.facts)
        .peekable();
    let is_mute = read.peek().is_none() && works().next().is_some();
    let is_left_out = read.any(|facts| {
        let disk = joint.set.present_disk(facts.key);
        disk.is_none_or(|disk| disk.state != DiskState::Online)
    });
    is_mute || is_left_out || refused(joint.set) > refused(ours)
}

/// How many volumes are not to be used.
fn refused(set: &Set) -> usize {
    let is_refused = |volume: &Volume| matches!(volume.access, Access::Refused(_));
    let volumes = set.live_volumes();
    volumes.filter(|(_, volume)| is_refused(volume)).count()
}

/// The volume that does not run and has the disk `key` as a member that is up to date, by `joint`: whoever recorded that it
/// is lost would be newer.
pub fn volume_awaiting(live: &dyn LiveSet, key: u64, joint: &Set) -> Option<VolumeIndex> {
    let disk = joint.disk_by_key(key)?;
    let mut places = joint
        .memberships(disk)
        .filter(|(volume, _, member)| member.state == MemberState::InSync && !live.runs(*volume));
    places.next().map(|(volume, _, _)| volume)
}

/// Whether `joint` can stand for the set: what runs is in it as it is here, and of the `arrived` disks all are up to
/// date members of volumes that do not run, and, if they have to be `whole`, lack nothing any more.
pub fn may_be_adopted(
    live: &dyn LiveSet,
    joint: &Set,
    mut arrived: impl Iterator<Item = u64>,
    whole: bool,
) -> bool {
    let Some(metadata) = live.metadata() else {
        return false;
    };
    let ours = metadata.set();
    let is_same_disk = |at: DiskIndex| {
        let (Some(one), Some(other)) = (ours.disk(at), joint.disk(at)) else {
            return false;
        };
        metadata.disk_called(&other.label) == Some(at)
            && (!live.is_claimed(at) || one.state == other.state)
    };
    let is_same_volume = |volume: VolumeIndex| {
        let (Some(one), Some(other)) = (ours.volume(volume), joint.volume(volume)) else {
            return ours.volume(volume).is_none() && joint.volume(volume).is_none();
        };
        one.id == other.id && (!live.runs(volume) || is_same_run(one, other))
    };
    let is_whole = |volume: VolumeIndex| {
        joint.volume(volume).is_some_and(|volume| {
            let mut members = volume.members.iter();
            members.all(|member| member.state == MemberState::InSync)
        })
    };
    let completes = |key: u64| {
        joint.disk_by_key(key).is_some_and(|disk| {
            let mut places = joint.memberships(disk).peekable();
            places.peek().is_some()
                && places.all(|(volume, _, member)| {
                    !live.runs(volume)
                        && member.state == MemberState::InSync
                        && (!whole || is_whole(volume))
                })
        })
    };
    let (disks, volumes) = (ours.disks.len(), ours.volumes.len());
    (disks, volumes) == (joint.disks.len(), joint.volumes.len())
        && arrived.all(completes)
        && (0..disks as DiskIndex).all(is_same_disk)
        && (0..volumes as VolumeIndex).all(is_same_volume)
}

/// Whether a volume that runs is read as it is known. How far its task is does not count: some formats keep that in memory
/// only, and it is told again when the task goes on or ends.
fn is_same_run(ours: &Volume, read: &Volume) -> bool {
    let mut members = ours.members.iter().zip(read.members.iter());
    ours.members.len() == read.members.len()
        && discriminant(&ours.consistency) == discriminant(&read.consistency)
        && discriminant(&ours.access) == discriminant(&read.access)
        && members.all(|(one, other)| {
            one.disk == other.disk && discriminant(&one.state) == discriminant(&other.state)
        })
}

/// Why a disk of a set is not to be used for something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// It was used apart: what it holds may be newer.
    Apart,
    /// This volume, which does not run, has it as a member.
    Awaited(VolumeIndex),
    /// The same, and that volume cannot do without it.
    Only(VolumeIndex),
    /// A volume cannot do without what it holds, and has it no more.
    Contents,
    /// The set does not know it, and would.
    Unknown,
    /// The set may not know it, and this volume lacks members.
    Lacked(VolumeIndex),
    /// It calls itself a member in a place where another disk is.
    Succeeded,
}

/// Whether a disk of this very set may be used for something else, or why not: when what it holds is wanted, or may be; by
/// `force` only where a volume cannot do without it. `joint` as for [`standing`]; `None` also when the format makes no set of all.
pub fn expendable(
    live: &dyn LiveSet,
    newcomer: &Newcomer<'_>,
    joint: Option<&Set>,
    force: bool,
) -> Result<(), Wanted> {
    match joint {
        Some(joint) => not_awaited(live, newcomer.key, joint, force)?,
        None if force => {}
        None => return Err(Wanted::Apart),
    }
    if lacks_contents(live, newcomer) {
        return Err(Wanted::Contents);
    }
    if force || known_place(live, newcomer).is_some() {
        return Ok(());
    }
    if live.metadata().is_some_and(|set| set.names_lost_disks()) {
        return Err(Wanted::Unknown);
    }
    // Whoever it is: nobody may miss it.
    if let Some(volume) = volume_lacking(live) {
        return Err(Wanted::Lacked(volume));
    }
    match has_successor(live, newcomer) {
        true => Err(Wanted::Succeeded),
        false => Ok(()),
    }
}

/// The same of a disk that a volume waits for by the set `joint`, which is made of all.
fn not_awaited(live: &dyn LiveSet, key: u64, joint: &Set, force: bool) -> Result<(), Wanted> {
    let Some(volume) = volume_awaiting(live, key, joint) else {
        return Ok(());
    };
    if !force {
        return Err(Wanted::Awaited(volume));
    }
    let is_another = |member: &Member| {
        let disk = member.disk.and_then(|disk| joint.disk(disk));
        let facts = disk.and_then(|disk| disk.facts);
        member.state == MemberState::InSync && facts.is_some_and(|facts| facts.key != key)
    };
    let works = joint.volume(volume).is_some_and(|model| {
        let rest = (0u16..)
            .zip(model.members.iter())
            .filter(|(_, member)| is_another(member))
            .fold(Mask::EMPTY, |rest, (slot, _)| rest.with(slot));
        for_level(model.shape.level)
            .is_some_and(|level| level.health(&model.shape, rest) != Health::Failed)
    });
    match works {
        true => Ok(()),
        false => Err(Wanted::Only(volume)),
    }
}

/// Whether what is on a newcomer is all there is of something: a volume cannot do without it, and has it no more.
pub fn lacks_contents(live: &dyn LiveSet, newcomer: &Newcomer<'_>) -> bool {
    let (Some((index, _)), Some(set)) = (known_place(live, newcomer), live.model()) else {
        return false;
    };
    let mut places = set.memberships(index);
    let counts = places.any(|(_, _, member)| member.state == MemberState::InSync);
    let is_needed = counts && live.is_needed(index) || set.irreplaceable(index).is_some();
    live.is_away(index) && is_needed
}

/// A volume that cannot be started with the disks that are here, or of which that is not known.
fn volume_lacking(live: &dyn LiveSet) -> Option<VolumeIndex> {
    let mut volumes = live.model()?.live_volumes();
    let lacking = volumes.find(|(index, volume)| {
        matches!(volume.access, Access::Refused(_))
            || !live.runs(*index) && !live.has_enough(*index)
    });
    lacking.map(|(index, _)| index)
}

/// Whether a newcomer is a member by its own word in a place where the set has another one that works.
fn has_successor(live: &dyn LiveSet, newcomer: &Newcomer<'_>) -> bool {
    let alone = newcomer.alone;
    let (Some(ours), Some(disk)) = (live.model(), alone.disk_by_key(newcomer.key)) else {
        return false;
    };
    let mut places = alone.memberships(disk);
    places.any(|(index, slot, member)| {
        let theirs = alone.volume(index);
        let volume = ours
            .volume(index)
            .filter(|volume| theirs.is_some_and(|theirs| theirs.id == volume.id));
        let place = volume.and_then(|volume| volume.members.get(usize::from(slot)));
        member.state == MemberState::InSync
            && place.is_some_and(|place| {
                place.state == MemberState::InSync
                    && place.disk.is_some_and(|disk| live.is_claimed(disk))
            })
    })
}

/// What a newcomer is a spare for, by its own word.
pub fn spare_for(live: &dyn LiveSet, newcomer: &Newcomer<'_>) -> Option<SpareRole> {
    let alone = newcomer.alone;
    let volume = match alone.present_disk(newcomer.key)?.role {
        DiskRole::GlobalSpare => return Some(SpareRole::Global),
        DiskRole::DedicatedSpare(volume) => volume,
        DiskRole::Unused | DiskRole::Member => return None,
    };
    let id = alone.volume(volume)?.id;
    let mut ours = live.model()?.live_volumes();
    ours.find(|(_, volume)| volume.id == id)
        .map(|(index, _)| SpareRole::Dedicated(index))
}

/// Which disks that were left out of updates are rebuilt without being added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TakesBack {
    /// None.
    Never,
    /// Those that went away while the set ran: what they held until then is known to have been the set's.
    Seen,
    /// All, also those that were found to be behind, which somebody may have kept as they are.
    Always,
}

impl TakesBack {
    /// What the module's parameter `take_back` says: 0, 1, or more.
    pub const fn from_option(value: u32) -> Self {
        match value {
            0 => Self::Never,
            1 => Self::Seen,
            _ => Self::Always,
        }
    }

    /// Whether a disk that was left out of updates counts as blank without being added. `was_seen`: the set saw it go.
    /// `is_spare`: it or the set says that there is nothing on it; `has_place`: it is a member of some volume, or was one that has
    /// its place yet.
    pub const fn consent(self, was_seen: bool, is_spare: bool, has_place: bool) -> Consent {
        match self {
            Self::Always | Self::Seen if is_spare && !has_place => Consent::IfBlank,
            Self::Always => Consent::Given,
            Self::Seen if was_seen => Consent::Given,
            Self::Seen if is_spare => Consent::IfBlank,
            Self::Seen | Self::Never => Consent::Refused,
        }
    }
}

/// Whether a disk that was left out may count as blank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consent {
    /// It may.
    Given,
    /// Where it holds nothing that is somebody else's.
    IfBlank,
    /// A person has to add it.
    Refused,
}
