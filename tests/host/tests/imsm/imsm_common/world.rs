// SPDX-License-Identifier: GPL-2.0

//! A set in memory beside its disks: every event is cut everywhere, carried out, and compared with
//! what the disks say.

use super::crash::{cut_everywhere, Random};
use super::{
    assert_same, blanks, carry_out, context, create, facts, open_keyed, show, writes, Write,
};
use emd_core::metadata::imsm::ImsmSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Consistency, DiskOffer, DiskRole, DiskState, Event, Level, MemberState, SpareRole, Text,
    VolumeSpec,
};
use host_tests::samples::Disk;

/// A set in memory and its disks.
pub struct World {
    pub set: Box<ImsmSet>,
    pub disks: Vec<Disk>,
    pub step: u64,
    pub crashes: usize,
    pub random: Random,
}

impl World {
    pub fn new(set: Box<ImsmSet>, mut disks: Vec<Disk>, crashes: usize) -> Self {
        // Data is of no interest here, and makes copying slow.
        for disk in &mut disks {
            disk.keep_last(70_000);
        }
        let mut world = Self {
            set,
            disks,
            step: 0,
            crashes,
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        world.check("start");
        world.random.next();
        world
    }

    pub fn created(count: usize, mib: u64, block: u32, crashes: usize) -> Self {
        let mut disks = blanks(count, mib, block);
        let set = create(&mut disks);
        Self::new(set, disks, crashes)
    }

    pub fn check(&self, what: &str) {
        assert_same(&self.set, &self.disks, what);
    }

    /// Marks of syncs are on the disks, too: rounded down to units, less than 2 MiB.
    pub fn check_marks(&self) {
        let keyed: Vec<(u64, &Disk)> = self
            .set
            .set()
            .live_disks()
            .filter_map(|(_, disk)| disk.facts)
            .map(|facts| (facts.key, &self.disks[facts.key as usize]))
            .collect();
        let again = open_keyed(&keyed).unwrap();
        let mut seen = 0;
        for (index, volume) in self.set.set().live_volumes() {
            let other = again.set().volume(index).unwrap();
            let mut near = |here: u64, there: u64| {
                seen += 1;
                assert!(there <= here && here - there < 4096, "{here} {there}");
            };
            if let Consistency::Initialising { done_sectors: here } = volume.consistency {
                match other.consistency {
                    Consistency::Initialising { done_sectors } => near(here, done_sectors),
                    state => panic!("{state:?}"),
                }
            }
            for (here, there) in volume.members.iter().zip(other.members.iter()) {
                if let MemberState::Rebuilding { done_sectors: here } = here.state {
                    match there.state {
                        MemberState::Rebuilding { done_sectors } => near(here, done_sectors),
                        state => panic!("{state:?}"),
                    }
                }
            }
        }
        assert!(seen > 0, "there is no mark");
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
                    let leftover = without_leftovers(event, &by_index, state, &old, &new);
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
        let mpb = self.set.mpb.bytes().to_vec();
        let why = self.set.apply(event, &context(999)).unwrap_err();
        assert_eq!(before, show(self.set.set()), "{event:?} changed something");
        assert!(mpb == *self.set.mpb.bytes(), "{event:?} changed bytes");
        assert!(self.set.plan().is_empty());
        why.text().to_owned()
    }

    pub fn add(&mut self, mib: u64, role: SpareRole) -> u16 {
        let block = self.disks[0].logical_block_bytes;
        let key = self.disks.len() as u64;
        self.disks
            .push(Disk::blank(&format!("ADDED-{key:04}"), mib * 2048, block));
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
    if let Event::VolumeDeleted(_) = event {
        // With the last volume every disk becomes a spare by itself; those that have not yet are left
        // over, and in no use.
        return state.replace("Stale Unused", "Online GlobalSpare") == new;
    }
    let subject = match event {
        Event::DiskAdded(offer) => offer.facts.key,
        Event::DiskReturned(_, facts) => facts.key,
        Event::DiskRemoved(disk) => keys.get(usize::from(*disk)).copied().unwrap_or(u64::MAX),
        _ => return false,
    };
    let strip = |text: &str| -> String {
        let own = format!(" key {subject} ");
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

/// A volume over `disks`, of a size that fits 40 MiB twice.
pub fn spec<'a>(name: &str, level: Level, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        name: Text::from_text(name),
        level,
        spans: 1,
        layout: None,
        chunk_sectors: 128,
        size_sectors: 0,
        disks,
        assume_clean: true,
    }
}
