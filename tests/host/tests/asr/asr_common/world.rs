// SPDX-License-Identifier: GPL-2.0

//! A set in memory beside its disks: every event is cut everywhere, carried out, and compared with
//! what the disks say.

use super::crash::{cut_everywhere, Random};
use super::{
    assert_same, blanks, carry_out, context, create, facts, open_keyed, show, writes, Write,
};
use emd_core::metadata::asr::AsrSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    DiskOffer, DiskRole, DiskState, Event, Level, MemberState, SpareRole, Text, VolumeSpec,
};
use host_tests::samples::Disk;
use host_tests::share;

/// A set in memory and its disks.
pub struct World {
    pub set: Box<AsrSet>,
    pub disks: Vec<Disk>,
    pub step: u64,
    /// Random subsets of the writes of each phase that are tried; 0: no cuts at all.
    pub crashes: usize,
    pub cuts: std::cell::Cell<usize>,
    pub random: Random,
}

impl World {
    pub fn new(set: Box<AsrSet>, disks: Vec<Disk>, crashes: usize) -> Self {
        let mut world = Self {
            set,
            disks,
            step: 0,
            crashes: share(crashes),
            cuts: std::cell::Cell::new(0),
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        world.check("start");
        world.random.next();
        world
    }

    pub fn created(count: usize, mib: u64, crashes: usize) -> Self {
        let mut disks = blanks(count, mib);
        let set = create(&mut disks);
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
        let subject = match event {
            Event::DiskReturned(_, facts) => Some(facts.key),
            Event::DiskRemoved(disk) => self
                .set
                .set()
                .disk(*disk)
                .and_then(|d| d.facts)
                .map(|f| f.key),
            _ => None,
        };
        self.set
            .apply(event, &context(self.step))
            .unwrap_or_else(|why| panic!("{what}: {why:?}"));
        let plan = writes(&self.set);
        if self.crashes > 0 && !plan.is_empty() {
            let keys = self.keys(&plan);
            self.cut(&what, &plan, &keys, subject);
        }
        carry_out(&mut self.disks, &plan);
        self.check(&what);
    }

    /// Cut anywhere, the disks say the old state or the new one. A disk that leaves, or that is
    /// made anew, may be seen in the way.
    pub fn cut(&mut self, what: &str, plan: &[Write], keys: &[u64], subject: Option<u64>) {
        let old = state_of(&self.disks, keys);
        let mut after = self.disks.clone();
        carry_out(&mut after, plan);
        let new = state_of(&after, keys);
        cut_everywhere(
            &self.disks,
            plan,
            keys,
            &mut self.random,
            self.crashes,
            &|state, at| {
                self.cuts.set(self.cuts.get() + 1);
                let same = |other: &str| {
                    state == other
                        || subject.is_some_and(|key| without(state, key) == without(other, key))
                };
                assert!(
                    same(&old) || same(&new),
                    "{what}: {at}:\n{state}\n--- old\n{old}\n--- new\n{new}"
                );
            },
        );
    }

    pub fn refuse(&mut self, event: &Event<'_>) -> String {
        let before = show(self.set.set());
        let table = self.set.table.bytes().to_vec();
        let why = self.set.apply(event, &context(999)).unwrap_err();
        assert_eq!(before, show(self.set.set()), "{event:?} changed something");
        assert_eq!(table, self.set.table.bytes(), "{event:?} changed bytes");
        assert!(self.set.plan().is_empty());
        assert!(!why.text().starts_with("internal"), "{why}");
        why.text().to_owned()
    }

    pub fn add(&mut self, mib: u64, role: SpareRole) -> u16 {
        let key = self.disks.len() as u64;
        self.disks.push(Disk::blank("new", mib * 2048, 512));
        let offer = DiskOffer {
            facts: facts(&self.disks[key as usize], key),
            role,
        };
        self.apply(&Event::DiskAdded(offer));
        (self.set.set().disks.len() - 1) as u16
    }

    pub fn role(&self, disk: u16) -> DiskRole {
        self.set.set().disk(disk).unwrap().role
    }

    pub fn state(&self, disk: u16) -> DiskState {
        self.set.set().disk(disk).unwrap().state
    }

    pub fn member(&self, volume: u16, slot: usize) -> MemberState {
        self.set.set().volume(volume).unwrap().members[slot].state
    }
}

/// The state without what it says of one disk: present or not, and of those that are not here.
fn without(state: &str, key: u64) -> String {
    let own = format!(" key Some({key}) ");
    state
        .lines()
        .filter(|line| {
            let gone = line.contains(" key None ");
            !(line.starts_with("disk ") && (gone || line.contains(&own)))
        })
        .map(|line| {
            // A lost member is failed while its disk is here, else missing.
            let line = line.replace(" Failed", " Missing");
            match line.split_once(" at ") {
                Some((_, rest)) if rest.ends_with("Missing") => format!("  - at {rest}\n"),
                _ => line + "\n",
            }
        })
        .collect()
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
