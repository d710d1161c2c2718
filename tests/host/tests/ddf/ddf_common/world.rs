// SPDX-License-Identifier: GPL-2.0

//! A set in memory beside its disks: every event is cut everywhere, carried out, and compared with
//! what the disks say.

use super::crash::{cut_everywhere, is_between, Random};
use super::{
    assert_same, blanks, carry_out, context, create, facts, open_keyed, show, writes, Write,
};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Consistency, DiskOffer, DiskRole, DiskState, Event, Level, MemberState, SpareRole, Text,
    VolumeSpec,
};
use host_tests::samples::Disk;
use host_tests::share;

/// A set in memory and its disks.
pub struct World {
    pub set: Box<DdfSet>,
    pub disks: Vec<Disk>,
    pub step: u64,
    pub crashes: usize,
    pub random: Random,
}

impl World {
    pub fn new(set: Box<DdfSet>, mut disks: Vec<Disk>, crashes: usize) -> Self {
        // Data is of no interest here, and makes copying slow.
        for disk in &mut disks {
            disk.keep_last(70_000);
        }
        let mut world = Self {
            set,
            disks,
            step: 0,
            crashes: share(crashes),
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        world.check("start");
        world.random.next();
        world
    }

    pub fn created(count: usize, mib: u64, block: u32, crashes: usize) -> Self {
        let mut disks = blanks(count, mib, block);
        let set = create(&mut disks, "set");
        Self::new(set, disks, crashes)
    }

    pub fn check(&self, what: &str) {
        assert_same(&self.set, &self.disks, what);
    }

    /// Keys of the disks that are in the set or that the plan writes.
    pub fn keys(&self, plan: &[Write]) -> Vec<u64> {
        let mut keys: Vec<u64> = self
            .set
            .set()
            .live_disks()
            .filter_map(|(_, disk)| disk.facts.map(|facts| facts.key))
            .chain(plan.iter().map(|write| write.key))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Applies an event, cuts it everywhere, carries it out, compares.
    pub fn apply(&mut self, event: &Event<'_>) {
        self.step += 1;
        let what = format!("step {}: {event:?}", self.step);
        let keys_before = self.keys(&[]);
        let by_index: Vec<u64> = self
            .set
            .set()
            .disks
            .iter()
            .map(|disk| disk.facts.map_or(u64::MAX, |facts| facts.key))
            .collect();
        self.set
            .apply(event, &context(self.step))
            .unwrap_or_else(|why| panic!("{what}: {why:?}"));
        let plan = writes(&self.set);
        if self.crashes > 0 && !plan.is_empty() {
            let mut keys = self.keys(&plan);
            if let Event::DiskMissing(_) = event {
                keys.retain(|key| keys_before.contains(key));
            }
            let single = self.set.set().live_disks().any(|(index, _)| {
                self.set
                    .home(index)
                    .is_some_and(|home| home.copies[1].is_none())
            });
            let old = state_of(&self.disks, &keys);
            let mut after = self.disks.clone();
            carry_out(&mut after, &plan);
            let new = state_of(&after, &keys);
            cut_everywhere(
                &self.disks,
                &plan,
                &keys,
                &mut self.random,
                self.crashes,
                &|state, at| {
                    let single = single && is_between(state, &old, &new);
                    let leftover = single || without_leftovers(event, &by_index, state, &old, &new);
                    assert!(
                        state == old || state == new || leftover,
                        "{what}: {at}:\n{state}\n--- old\n{old}\n--- new\n{new}"
                    );
                },
            );
        }
        carry_out(&mut self.disks, &plan);
        self.check(&what);
    }

    pub fn refuse(&mut self, event: &Event<'_>) -> String {
        let before = show(self.set.set());
        let pd = self.set.pd.to_vec();
        let vd = self.set.vd.to_vec();
        let why = self.set.apply(event, &context(999)).unwrap_err();
        assert_eq!(before, show(self.set.set()), "{event:?} changed something");
        assert!(
            pd == *self.set.pd && vd == *self.set.vd,
            "{event:?} changed bytes"
        );
        assert!(self.set.plan().is_empty());
        why.text().to_owned()
    }

    pub fn add(&mut self, mib: u64, role: SpareRole) -> u16 {
        let block = self.disks[0].logical_block_bytes;
        let key = self.disks.len() as u64;
        self.disks.push(Disk::blank("added", mib * 2048, block));
        let offer = DiskOffer {
            facts: facts(&self.disks[key as usize], key),
            role,
        };
        self.apply(&Event::DiskAdded(offer));
        (self.set.set().disks.len() - 1) as u16
    }

    pub fn state(&self, disk: u16) -> DiskState {
        self.set.set().disk(disk).unwrap().state
    }

    pub fn role(&self, disk: u16) -> DiskRole {
        self.set.set().disk(disk).unwrap().role
    }

    pub fn member(&self, volume: u16, slot: usize) -> MemberState {
        self.set.set().volume(volume).unwrap().members[slot].state
    }
}

pub fn state_of(disks: &[Disk], keys: &[u64]) -> String {
    let keyed: Vec<(u64, &Disk)> = keys
        .iter()
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    match open_keyed(&keyed) {
        Ok(set) => show(set.set()),
        Err(why) => format!("refused: {why}"),
    }
}

/// A disk that is being added, taken back or removed is in the set, out of it, or shows as a leftover
/// that is in no volume. Everything else must be the old or the new state.
pub fn without_leftovers(
    event: &Event<'_>,
    keys: &[u64],
    state: &str,
    old: &str,
    new: &str,
) -> bool {
    let subject = match event {
        Event::DiskAdded(offer) => offer.facts.key,
        Event::DiskReturned(_, facts) => facts.key,
        Event::DiskRemoved(disk) => keys.get(usize::from(*disk)).copied().unwrap_or(u64::MAX),
        _ => return false,
    };
    let strip = |text: &str| -> String {
        let own = format!(" key Some({subject}) ");
        text.lines()
            .filter(|line| {
                let gone = line.contains(" key None ");
                !(line.starts_with("disk ") && (gone || line.contains(&own)))
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    strip(state) == strip(old) || strip(state) == strip(new)
}

pub fn spec<'a>(name: &str, level: Level, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        name: Text::from_text(name),
        level,
        spans: 1,
        layout: None,
        chunk_sectors: 0,
        size_sectors: 0,
        disks,
        assume_clean: false,
    }
}

/// The life of a redundant volume, with everything that can happen to it.
pub fn life(world: &mut World, volume: u16, spare_mib: u64) {
    world.apply(&Event::Dirty(volume));
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 0,
    });
    world.apply(&Event::ResyncProgress {
        volume,
        done_sectors: 64,
    });
    only_marks(world);
    world.apply(&Event::ResyncDone(volume));
    assert_eq!(
        world.set.set().volume(volume).unwrap().consistency,
        Consistency::Dirty
    );
    world.apply(&Event::Clean(volume));
    world.apply(&Event::Clean(volume));
    assert!(world.set.plan().is_empty(), "clean twice writes once");
    world.apply(&Event::Dirty(volume));

    let spare = world.add(spare_mib, SpareRole::Global);
    assert_eq!(world.role(spare), DiskRole::GlobalSpare);
    world.apply(&Event::SpareAssigned(spare, SpareRole::None));
    world.apply(&Event::SpareAssigned(spare, SpareRole::Dedicated(volume)));
    assert_eq!(world.role(spare), DiskRole::DedicatedSpare(volume));

    let lost = world.set.set().volume(volume).unwrap().members[0]
        .disk
        .unwrap();
    world.refuse(&Event::DiskRemoved(lost));
    world.refuse(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    world.apply(&Event::DiskFailed(lost));
    assert_eq!(world.member(volume, 0), MemberState::Failed);
    world.apply(&Event::DiskFailed(lost));
    assert!(world.set.plan().is_empty(), "failed twice writes once");
    world.apply(&Event::SpareActivated {
        volume,
        slot: 0,
        disk: spare,
    });
    assert_eq!(world.role(spare), DiskRole::Member);
    let home = world.set.home(spare).unwrap();
    assert_eq!(home.spare_slot(), None, "no spare any more");
    world.apply(&Event::RebuildProgress {
        volume,
        slot: 0,
        done_sectors: 128,
    });
    only_marks(world);
    assert_eq!(
        world.member(volume, 0),
        MemberState::Rebuilding { done_sectors: 128 }
    );
    world.apply(&Event::RebuildDone { volume, slot: 0 });
    assert_eq!(world.member(volume, 0), MemberState::InSync);

    // The failed disk comes back as a blank one and is a spare; then it goes.
    let returned = world.set.set().disk(lost).unwrap().facts.unwrap();
    world.apply(&Event::DiskReturned(lost, returned));
    assert_eq!(world.state(lost), DiskState::Online);
    assert_eq!(world.role(lost), DiskRole::Unused);
    let gone = world.set.set().volume(volume).unwrap().members[1]
        .disk
        .unwrap();
    world.apply(&Event::DiskMissing(gone));
    assert_eq!(world.member(volume, 1), MemberState::Missing);
    assert_eq!(world.state(gone), DiskState::Missing);
    world.apply(&Event::SpareActivated {
        volume,
        slot: 1,
        disk: lost,
    });
    world.apply(&Event::RebuildDone { volume, slot: 1 });
    world.apply(&Event::DiskRemoved(gone));
    world.apply(&Event::Clean(volume));

    world.apply(&Event::VolumeRenamed(volume, Text::from_text("renamed")));
    world.refuse(&Event::VolumeRenamed(
        volume,
        Text::from_text("a name of 17 char"),
    ));
}

/// The last event changed marks: one block on each member where EMD's own records have a place, and
/// nothing elsewhere.
fn only_marks(world: &World) {
    let plan = writes(&world.set);
    if world.set.log.is_none() {
        assert!(plan.is_empty(), "a mark is not recorded");
        return;
    }
    assert!(!plan.is_empty());
    for write in &plan {
        let block = world.disks[write.key as usize].logical_block_bytes as usize;
        assert_eq!((write.phase, write.bytes.len()), (0, block));
    }
}
