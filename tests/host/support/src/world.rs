// SPDX-License-Identifier: GPL-2.0

//! A set in memory beside its disks: every event is cut everywhere, carried out, and compared with
//! what the disks say.

use crate::crash::{cut_everywhere, Cut, Random};
use crate::samples::Disk;
use crate::shell::{
    assert_same, blanks, carry_out, context, create, facts, open, present, state_of, writes,
    Family, Write,
};
use crate::tally::Tally;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Checked, Consistency, DiskOffer, DiskRole, DiskState, Event, MemberState, SpareRole, DISKS_MAX,
};
use kernel::prelude::KBox;

/// A set in memory and its disks.
pub struct World<F: Family> {
    pub family: F,
    pub set: KBox<F::Set>,
    pub disks: Vec<Disk>,
    pub step: u64,
    /// Random subsets of the writes of each phase that are tried; 0: no cuts at all.
    pub crashes: usize,
    /// Cuts that were judged.
    pub cuts: usize,
    /// What came of the events.
    pub tally: Tally,
    /// Whether the disks that are here know all of a set; else there is nothing to compare or to cut.
    pub is_known: fn(&F::Set) -> bool,
    pub random: Random,
}

impl<F: Family + Default> World<F> {
    /// [`World::of`] a format that has one version.
    pub fn new(set: KBox<F::Set>, disks: Vec<Disk>, crashes: usize) -> Self {
        Self::of(F::default(), set, disks, crashes)
    }

    /// [`World::made`] by a format that has one version.
    pub fn created(count: usize, mib: u64, block: u32, crashes: usize) -> Self {
        Self::made(F::default(), count, mib, block, crashes)
    }
}

impl<F: Family> World<F> {
    /// A new set on `count` blank disks of `mib` MiB with blocks of `block` bytes.
    pub fn made(family: F, count: usize, mib: u64, block: u32, crashes: usize) -> Self {
        let mut disks = blanks(family, count, mib, block);
        let set = create(family, &mut disks);
        Self::of(family, set, disks, crashes)
    }

    /// A set and its disks as they are. `crashes`: see the field; that of a whole run.
    pub fn of(family: F, set: KBox<F::Set>, mut disks: Vec<Disk>, crashes: usize) -> Self {
        for disk in &mut disks {
            family.thin(disk);
        }
        let mut world = Self {
            family,
            set,
            disks,
            step: 0,
            crashes: family.rounds(crashes),
            cuts: 0,
            tally: Tally::default(),
            is_known: |_| true,
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        world.check("start");
        world.random.next();
        world
    }

    /// What is in memory is on the disks, as far as the format records it.
    pub fn check(&self, what: &str) {
        self.compare(what);
    }

    /// [`World::check`]; says whether there was anything to compare.
    fn compare(&self, what: &str) -> bool {
        let compares = self.family.is_recorded(&self.set) && (self.is_known)(&self.set);
        if compares {
            assert_same(self.family, &self.set, &self.disks, what);
        }
        compares
    }

    /// Applies an event, cuts it everywhere, carries it out, compares.
    pub fn apply(&mut self, event: &Event<'_>) {
        let step = self.step + 1;
        self.attempt(event)
            .unwrap_or_else(|why| panic!("step {step}: {event:?}: {why:?}"));
    }

    /// [`World::attempt`], in a history: the update is cut `rounds` times if chance (`is_drawn`) has it so, and when none of its kind was cut yet.
    pub fn attempt_in_history(
        &mut self,
        event: &Event<'_>,
        is_drawn: bool,
        rounds: usize,
    ) -> Checked {
        let is_cut = is_drawn || self.tally.is_uncut(event);
        self.crashes = if is_cut { rounds } else { 0 };
        self.attempt(event)
    }

    /// [`World::apply`] of an event that may be refused: then nothing has changed.
    pub fn attempt(&mut self, event: &Event<'_>) -> Checked {
        self.step += 1;
        let what = format!("step {}: {event:?}", self.step);
        let mut keys = match event {
            Event::DiskMissing(_) => Vec::new(),
            _ => present(&*self.set),
        };
        let subject = match event {
            Event::DiskAdded(offer) => Some(offer.facts.key),
            Event::DiskReturned(_, facts) | Event::DiskReinstated(_, facts) => Some(facts.key),
            Event::DiskRemoved(disk) => self
                .set
                .set()
                .disk(*disk)
                .and_then(|disk| disk.facts)
                .map(|facts| facts.key),
            _ => None,
        };
        let was_known = (self.is_known)(&self.set);
        if let Err(why) = self.applied(event, self.step) {
            self.tally.of(event).refused += 1;
            return Err(why);
        }
        let plan = writes(self.family, &self.set);
        let cuts = self.cuts;
        let is_known = was_known && (self.is_known)(&self.set);
        let is_cut = self.crashes > 0 && !plan.is_empty() && is_known;
        if is_cut && self.family.bears_cuts(&self.set, event) {
            keys.extend(present(&*self.set));
            keys.extend(plan.iter().map(|write| write.key));
            keys.sort_unstable();
            keys.dedup();
            self.cut(event, subject, &plan, &keys, &what);
        }
        carry_out(&mut self.disks, &plan);
        let compared = self.compare(&what);
        let cuts = self.cuts - cuts;
        let count = self.tally.of(event);
        count.applied += 1;
        count.wrote += usize::from(!plan.is_empty());
        count.compared += usize::from(compared);
        count.cuts += cuts;
        Ok(())
    }

    /// Applies an event to the set in memory. A refusal changes nothing.
    fn applied(&mut self, event: &Event<'_>, n: u64) -> Checked {
        let (family, set) = (self.family, &mut *self.set);
        let before = (family.show(set), family.bytes(set));
        let result = set.apply(event, &context(n));
        if let Err(why) = &result {
            assert_eq!(before.0, family.show(set), "{event:?} changed something");
            assert!(before.1 == family.bytes(set), "{event:?} changed bytes");
            assert!(set.plan().is_empty(), "{event:?}: {why}");
            assert!(!why.text().starts_with("internal"), "{event:?}: {why}");
        }
        result
    }

    /// Cut anywhere, the disks say the old state or the new one, or what the format allows besides.
    fn cut(
        &mut self,
        event: &Event<'_>,
        subject: Option<u64>,
        plan: &[Write],
        keys: &[u64],
        what: &str,
    ) {
        let (family, set, before) = (self.family, &*self.set, &self.disks);
        let mut after = before.clone();
        carry_out(&mut after, plan);
        let old = state_of(family, before, keys).0;
        let new = state_of(family, &after, keys).0;
        let cuts = &mut self.cuts;
        let mut judge = |disks: &[Disk], at: &str| {
            *cuts += 1;
            let (state, torn) = state_of(family, disks, keys);
            assert!(
                torn.len() <= family.torn_max(),
                "{what}: {at}: torn {torn:?}"
            );
            let without_torn = |disks: &[Disk]| {
                let rest: Vec<u64> = keys
                    .iter()
                    .copied()
                    .filter(|key| !torn.contains(key))
                    .collect();
                state_of(family, disks, &rest).0
            };
            let pair = (!torn.is_empty()).then(|| (without_torn(before), without_torn(&after)));
            let (old, new) = pair.as_ref().map_or((&old, &new), |(old, new)| (old, new));
            let cut = Cut {
                event,
                subject,
                set,
                old,
                new,
            };
            assert!(
                family.allows(&cut, &state),
                "{what}: {at}:\n{state}\n--- old\n{old}\n--- new\n{new}"
            );
        };
        cut_everywhere(before, plan, &mut self.random, self.crashes, &mut judge);
    }

    /// An event that is refused, with nothing changed; gives the reason.
    pub fn refuse(&mut self, event: &Event<'_>) -> String {
        match self.applied(event, 999) {
            Ok(()) => panic!("{event:?} is taken"),
            Err(why) => why.text().to_owned(),
        }
    }

    /// Adds a blank disk of `mib` MiB; gives its index.
    pub fn add(&mut self, mib: u64, role: SpareRole) -> u16 {
        let block = self.disks[0].logical_block_bytes;
        let key = self.disks.len() as u64;
        let name = self.family.blank_name(key);
        self.disks.push(Disk::blank(&name, mib * 2048, block));
        let offer = DiskOffer {
            facts: facts(self.family, &self.disks[key as usize], key),
            role,
        };
        self.apply(&Event::DiskAdded(offer));
        (self.set.set().disks.len() - 1) as u16
    }

    /// Adds a disk of `mib` MiB and takes it out again for as long as the set takes it, and once more after a restart: disks
    /// that were removed keep their index as long as the set runs, and what is kept by index has room for so many.
    pub fn add_and_remove_to_the_limit(&mut self, mib: u64) {
        let members = self.disks.len();
        self.crashes = 0;
        let first = self.add(mib, SpareRole::Global);
        let key = members as u64;
        let facts = facts(self.family, &self.disks[members], key);
        let added = Event::DiskAdded(DiskOffer {
            facts,
            role: SpareRole::Global,
        });
        self.apply(&Event::DiskRemoved(first));
        for wanted in first + 1..DISKS_MAX as u16 {
            self.apply(&added);
            let index = self.set.set().disk_by_key(key).unwrap();
            assert_eq!(index, wanted);
            self.apply(&Event::DiskRemoved(index));
        }
        let why = self.refuse(&added);
        assert!(why.contains("start it anew"), "{why}");
        self.set = open(self.family, &self.disks[..members]).unwrap();
        self.apply(&added);
    }

    /// Members of volume 0 fail (`lost`), and from then on others (`late`) take data and no metadata, however long; then
    /// all stops. The set as the next start finds it, and its disks.
    pub fn restarted_without_metadata(
        mut self,
        lost: &[u16],
        late: &[u16],
    ) -> (KBox<F::Set>, Vec<Disk>) {
        for &disk in lost {
            self.apply(&Event::DiskFailed(disk));
        }
        let before = self.disks.clone();
        for event in [Event::Dirty(0), Event::Clean(0)].iter().cycle().take(4) {
            self.apply(event);
            for &disk in late {
                self.set.missed(disk, 0);
            }
        }
        for disk in late.iter().map(|&disk| usize::from(disk)) {
            self.disks[disk] = before[disk].clone();
        }
        (open(self.family, &self.disks).unwrap(), self.disks)
    }

    pub fn state(&self, disk: u16) -> DiskState {
        self.set.set().disk(disk).expect("a disk").state
    }

    pub fn role(&self, disk: u16) -> DiskRole {
        self.set.set().disk(disk).expect("a disk").role
    }

    pub fn consistency(&self, volume: u16) -> Consistency {
        self.set.set().volume(volume).expect("a volume").consistency
    }

    /// The disk in a slot.
    pub fn disk_in(&self, volume: u16, slot: usize) -> u16 {
        let volume = self.set.set().volume(volume).expect("a volume");
        volume.members[slot].disk.expect("a disk")
    }

    pub fn member(&self, volume: u16, slot: usize) -> MemberState {
        self.set.set().volume(volume).expect("a volume").members[slot].state
    }
}
