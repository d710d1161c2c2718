// SPDX-License-Identifier: GPL-2.0

//! A set in memory and its disks: every event is cut everywhere, carried out and compared.
//!
//! Fault model: phases reach the disks in order; within the phase that is cut, any subset of the
//! logical blocks of its writes is on the disks (writes are torn at block boundaries, never inside a
//! block). A cut may tear one superblock that is longer than a block: that disk is then left out, and
//! the others must say the old or the new state of the array without it.

use super::*;
use emd_core::metadata::md::Md;
use emd_core::model::{DiskOffer, SpareRole};

/// A small generator of random numbers, so that a failure replays from its seed.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
}

/// A set in memory and its disks.
pub struct World {
    pub format: &'static Md,
    pub set: Box<MdSet>,
    pub disks: Vec<Disk>,
    pub step: u64,
    /// Random subsets of each phase that are tried.
    pub cuts: usize,
    pub random: Random,
}

/// What reassembly gives: the model, and the disks that are damaged.
fn state_of(format: &Md, disks: &[Disk], keys: &[u64]) -> (String, Vec<u64>) {
    let damaged: Vec<u64> = keys
        .iter()
        .copied()
        .filter(|&key| {
            matches!(
                probe(format, &disks[key as usize], key).1,
                Probe::Damaged(_)
            )
        })
        .collect();
    let keyed: Vec<(u64, &Disk)> = keys
        .iter()
        .filter(|key| !damaged.contains(key))
        .map(|&key| (key, &disks[key as usize]))
        .collect();
    let text = match open_keyed(format, &keyed) {
        Ok(set) => show(&set),
        Err(why) => format!("refused: {why}"),
    };
    (text, damaged)
}

/// Without the line of regions, and the regions that are dirty.
fn split_regions(text: &str) -> (String, Vec<u32>) {
    let mut regions = Vec::new();
    let mut rest = String::new();
    for line in text.lines() {
        match line.split_once(" regions of ") {
            Some((_, list)) => {
                let list = list.split_once('[').unwrap().1.trim_end_matches(']');
                regions = list
                    .split(", ")
                    .filter(|n| !n.is_empty())
                    .map(|n| n.parse().unwrap())
                    .collect();
            }
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (rest, regions)
}

/// Without the lines of disk `key` and of disks that are in no use.
fn without(text: &str, key: u64) -> String {
    let own = format!("disk key Some({key}) ");
    text.lines()
        .filter(|line| !line.starts_with(&own))
        .collect::<Vec<_>>()
        .join("\n")
}

impl World {
    pub fn new(format: &'static Md, set: Box<MdSet>, disks: Vec<Disk>, cuts: usize) -> Self {
        let mut world = Self {
            format,
            set,
            disks,
            step: 0,
            cuts,
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        if world.set.array().is_some() {
            world.check("start");
        }
        world.random.next();
        world
    }

    pub fn created(format: &'static Md, count: usize, mib: u64, block: u32, cuts: usize) -> Self {
        let disks = blanks(count, mib, block);
        let set = create(format, &disks, "");
        Self::new(format, set, disks, cuts)
    }

    pub fn check(&self, what: &str) {
        assert_same(self.format, &self.set, &self.disks, what);
    }

    /// Keys of the disks that are here.
    pub fn present(&self) -> Vec<u64> {
        self.set
            .set()
            .live_disks()
            .filter_map(|(_, disk)| disk.facts.map(|facts| facts.key))
            .collect()
    }

    /// Applies an event, cuts it everywhere, carries it out, compares.
    pub fn apply(&mut self, event: &Event<'_>) {
        let step = self.step + 1;
        self.attempt(event)
            .unwrap_or_else(|why| panic!("step {step}: {event:?}: {why:?}"));
    }

    /// [`World::apply`] of an event that may be refused: then nothing has changed.
    pub fn attempt(&mut self, event: &Event<'_>) -> Checked {
        self.step += 1;
        let what = format!("step {}: {event:?}", self.step);
        let before = self.present();
        let by_index: Vec<Option<u64>> = self
            .set
            .set()
            .disks
            .iter()
            .map(|disk| disk.facts.map(|facts| facts.key))
            .collect();
        let shown = show(&self.set);
        if let Err(why) = self.set.apply(event, &context(self.step)) {
            assert_eq!(shown, show(&self.set), "{what}: {why} changed something");
            assert!(self.set.plan().is_empty(), "{what}: {why}");
            assert!(!why.text().starts_with("internal"), "{what}: {why}");
            return Err(why);
        }
        let plan = writes(&self.set);
        let creation = matches!(event, Event::VolumeCreated(_) | Event::VolumeDeleted(_));
        let known = self.set.bears();
        if self.cuts > 0 && !plan.is_empty() && !creation && known {
            let mut keys = self.present();
            keys.extend(plan.iter().map(|write| write.key));
            if !matches!(event, Event::DiskMissing(_)) {
                keys.extend(&before);
            }
            keys.sort();
            keys.dedup();
            let subject = match event {
                Event::DiskAdded(offer) => Some(offer.facts.key),
                Event::DiskReturned(_, facts) => Some(facts.key),
                Event::DiskRemoved(disk) => by_index.get(usize::from(*disk)).copied().flatten(),
                _ => None,
            };
            self.cut(&plan, &keys, subject, &what);
        }
        carry_out(&mut self.disks, &plan);
        // What was lost beyond what the array bears is in memory only.
        if self.set.array().is_some() && known {
            self.check(&what);
        }
        Ok(())
    }

    fn cut(&mut self, plan: &[Write], keys: &[u64], subject: Option<u64>, what: &str) {
        let format = self.format;
        let mut after = self.disks.clone();
        carry_out(&mut after, plan);
        let mut pieces = Vec::new();
        for write in plan {
            let block = self.disks[write.key as usize].logical_block_bytes as usize;
            for (index, bytes) in write.bytes.chunks(block).enumerate() {
                pieces.push(Write {
                    phase: write.phase,
                    key: write.key,
                    sector: write.sector + (index * block / 512) as u64,
                    bytes: bytes.to_vec(),
                });
            }
        }
        let before = self.disks.clone();
        let check = |disks: &[Disk], at: &str| {
            let (state, damaged) = state_of(format, disks, keys);
            assert!(damaged.len() <= 1, "{what}: {at}: several torn");
            let rest: Vec<u64> = keys
                .iter()
                .copied()
                .filter(|key| !damaged.contains(key))
                .collect();
            let (old, _) = state_of(format, &before, &rest);
            let (new, _) = state_of(format, &after, &rest);
            let (state, dirty) = split_regions(&state);
            let (old, old_dirty) = split_regions(&old);
            let (new, new_dirty) = split_regions(&new);
            let fine = state == old
                || state == new
                || subject.is_some_and(|key| {
                    let state = without(&state, key);
                    state == without(&old, key) || state == without(&new, key)
                });
            assert!(
                fine,
                "{what}: {at}:\n{state}\n--- old\n{old}\n--- new\n{new}"
            );
            // What is dirty before and after is dirty in between.
            for region in &old_dirty {
                assert!(
                    !new_dirty.contains(region) || dirty.contains(region),
                    "{what}: {at}: region {region}"
                );
            }
        };
        let phases = plan.last().map_or(0, |write| write.phase + 1);
        let mut disks = before.clone();
        for phase in 0..phases {
            let now: Vec<&Write> = pieces.iter().filter(|piece| piece.phase == phase).collect();
            let step = (now.len() / 8).max(1);
            let mut partial = disks.clone();
            for (index, piece) in now.iter().enumerate() {
                if index % step == 0 {
                    check(&partial, &format!("phase {phase}, first {index}"));
                }
                partial[piece.key as usize].write(piece.sector, &piece.bytes);
            }
            for round in 0..self.cuts {
                let mut partial = disks.clone();
                let odds = 1 + self.random.below(7);
                for piece in &now {
                    if self.random.below(8) < odds {
                        partial[piece.key as usize].write(piece.sector, &piece.bytes);
                    }
                }
                check(&partial, &format!("phase {phase}, subset {round}"));
            }
            for piece in &now {
                disks[piece.key as usize].write(piece.sector, &piece.bytes);
            }
        }
        check(&disks, "after the last phase");
    }

    pub fn refuse(&mut self, event: &Event<'_>) -> String {
        let before = show(&self.set);
        let why = match self.set.apply(event, &context(999)) {
            Ok(()) => panic!("{event:?} is taken"),
            Err(why) => why,
        };
        assert_eq!(before, show(&self.set), "{event:?} changed something");
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

    pub fn member(&self, slot: usize) -> MemberState {
        self.set.set().volume(0).unwrap().members[slot].state
    }

    pub fn disk_in(&self, slot: usize) -> u16 {
        self.set.set().volume(0).unwrap().members[slot]
            .disk
            .unwrap()
    }

    pub fn consistency(&self) -> Consistency {
        self.set.set().volume(0).unwrap().consistency
    }
}
