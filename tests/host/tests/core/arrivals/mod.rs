// SPDX-License-Identifier: GPL-2.0

//! What a disk that comes is to a set that runs, case by case: the facts are given, the verdict is compared.

mod apart;
mod verdicts;

use emd_core::metadata::arrival::{LiveSet, Newcomer};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Checked, Consistency, Context, CrashPolicy, Disk, DiskFacts, DiskIndex, DiskRole,
    DiskState, Event, Identity, Layout, Level, Member, MemberState, Moves, Set, Shape, Source,
    Text, UpdatePlan, Volume, VolumeIndex, VolumeSpec,
};
use emd_core::reason;
use kernel::prelude::*;
use DiskState::{Failed, Missing, Online, Removed, Stale};

/// A disk of the tables: its label, its state, and its handle when it is here.
type Row = (&'static str, DiskState, Option<u64>);

fn disk((label, state, key): Row) -> Disk {
    Disk {
        facts: key.map(|key| DiskFacts {
            key,
            size_sectors: 1 << 20,
            logical_block_bytes: 512,
            serial: Text::from_text(label),
        }),
        label: Text::from_text(label),
        state,
        role: DiskRole::Member,
        usable_sectors: 1 << 20,
        failure_predicted: false,
    }
}

fn kvec<T>(all: impl IntoIterator<Item = T>) -> KVec<T> {
    let mut vec = KVec::new();
    for one in all {
        vec.push(one, GFP_KERNEL).unwrap();
    }
    vec
}

/// A volume of members on these disks. Those without a disk are missing.
fn volume(level: Level, members: &[(Option<DiskIndex>, MemberState)]) -> Volume {
    let count = members.len() as u16;
    Volume {
        id: Identity::new(b"volume"),
        name: Text::new(),
        shape: Shape {
            level,
            layout: Layout::Plain,
            members: count,
            spans: 1,
            chunk_sectors: 128,
            member_sectors: 1024,
        },
        size_sectors: 1024,
        members: kvec(members.iter().map(|&(disk, state)| Member {
            disk,
            offset_sectors: 0,
            state,
        })),
        consistency: Consistency::Clean,
        access: Access::ReadWrite,
        regions: None,
        stretches: KVec::new(),
        scrub: None,
        crash_policy: CrashPolicy::Resync,
        block_bytes: 0,
        deleted: false,
    }
}

/// What a member on a disk of this state is, and has.
fn member_on(index: DiskIndex, state: DiskState) -> (Option<DiskIndex>, MemberState) {
    match state {
        Online => (Some(index), MemberState::InSync),
        Failed => (Some(index), MemberState::Failed),
        Missing | Stale => (Some(index), MemberState::Missing),
        Removed => (None, MemberState::Missing),
    }
}

/// A set of these disks with a volume over the first three.
fn set_of(level: Level, generation: u64, rows: &[Row]) -> Set {
    let members: Vec<_> = (0..)
        .zip(rows.iter().take(3))
        .map(|(index, row)| member_on(index, row.1))
        .collect();
    Set {
        format: "played",
        id: Identity::new(b"set"),
        name: Text::new(),
        generation,
        lends_spares: false,
        disks: kvec(rows.iter().map(|&row| disk(row))),
        volumes: kvec([volume(level, &members)]),
        bad_ranges: KVec::new(),
        notes: KVec::new(),
    }
}

fn mirror(rows: &[Row]) -> Set {
    set_of(Level::Raid1, 10, rows)
}

/// Metadata that is looked at only.
struct Played {
    set: Set,
    names_lost: bool,
}

impl MetadataSet for Played {
    fn set(&self) -> &Set {
        &self.set
    }
    fn apply(&mut self, _: &Event<'_>, _: &Context) -> Checked {
        Err(reason!(EINVAL, "nothing is played"))
    }
    fn names_lost_disks(&self) -> bool {
        self.names_lost
    }
    fn keeps_bad_ranges(&self, _: DiskIndex) -> bool {
        true
    }
    fn plan(&self) -> &UpdatePlan {
        unimplemented!()
    }
    fn bytes(&self, _: &Source) -> &[u8] {
        &[]
    }
    fn largest_volume(&self, _: &VolumeSpec<'_>) -> Checked<u64> {
        Ok(0)
    }
}

/// A set whose disks are claimed.
struct Live {
    metadata: Played,
    moves: Moves,
    claimed: Vec<DiskIndex>,
    gone: Vec<DiskIndex>,
    needed: Vec<DiskIndex>,
    runs: bool,
    has_enough: bool,
}

impl Live {
    /// It runs, all disks that work are claimed, and nobody moved yet.
    fn of(set: Set) -> Self {
        let works = |state| state == Online;
        let all = (0..).zip(set.disks.iter());
        let claimed = all.filter(|(_, disk)| works(disk.state));
        let claimed = claimed.map(|(index, _)| index).collect();
        let mut moves = Moves::new();
        moves.begin(&set).unwrap();
        Self {
            metadata: Played {
                set,
                names_lost: true,
            },
            moves,
            claimed,
            gone: Vec::new(),
            needed: Vec::new(),
            runs: true,
            has_enough: true,
        }
    }

    /// An event: a disk has another state now, in the next generation.
    fn happens(&mut self, index: DiskIndex, state: DiskState) {
        let set = &mut self.metadata.set;
        set.generation += 1;
        set.disks[usize::from(index)].state = state;
        let key = u64::from(index);
        set.disks[usize::from(index)].facts = match state {
            Online => disk(("", Online, Some(key))).facts,
            _ => None,
        };
        let (disk, member) = member_on(index, state);
        if let Some(place) = set.volumes[0].members.get_mut(usize::from(index)) {
            (place.disk, place.state) = (disk, member);
        }
        self.claimed.retain(|&claimed| claimed != index);
        if state == Online {
            self.claimed.push(index);
        }
        self.moves.follow(set);
    }

    /// A disk joins as a new one.
    fn joins(&mut self, label: &'static str) {
        let index = self.metadata.set.disks.len() as DiskIndex;
        let new = disk((label, Missing, None));
        self.metadata.set.disks.push(new, GFP_KERNEL).unwrap();
        self.moves.make_room(usize::from(index) + 1).unwrap();
        self.happens(index, Online);
    }
}

impl LiveSet for Live {
    fn metadata(&self) -> Option<&dyn MetadataSet> {
        Some(&self.metadata)
    }
    fn moves(&self) -> &Moves {
        &self.moves
    }
    fn is_claimed(&self, disk: DiskIndex) -> bool {
        self.claimed.contains(&disk)
    }
    fn is_away(&self, disk: DiskIndex) -> bool {
        !self.claimed.contains(&disk) || self.gone.contains(&disk)
    }
    fn is_needed(&self, disk: DiskIndex) -> bool {
        self.needed.contains(&disk)
    }
    fn runs(&self, _: VolumeIndex) -> bool {
        self.runs
    }
    fn has_enough(&self, _: VolumeIndex) -> bool {
        self.has_enough
    }
}

const KEY: u64 = 2;

fn newcomer(alone: &Set) -> Newcomer<'_> {
    Newcomer { key: KEY, alone }
}
