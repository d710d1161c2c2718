// SPDX-License-Identifier: GPL-2.0

//! How a set starts: `discover.rs` and `start.rs`.

use crate::array::{Array, Dirty};
use crate::history::Absent;
use crate::mistake::Mistake;
use crate::rng::Rng;
use crate::setup;
use crate::sim::Sim;
use crate::worker::{Action, Step};
use emd_core::model::{
    Access, Consistency, DiskIndex, DiskState, Event, HoleLog, MemberState, Slot,
};
use emd_core::personalities::bad::{self, BadSpots};
use emd_core::personalities::rebuild::{Late, Marks, Trust};
use emd_core::personalities::regions::Regions;
use emd_core::personalities::{Health, Mask};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

impl Sim {
    /// Chooses which disks are here. At least one that has the newest state is: without that nobody
    /// could know that what is left is old.
    fn choose_present(&mut self, absent: Absent) {
        let mut rng = Rng::new(absent.0);
        for disk in &mut self.disks {
            // What was pulled is mostly back, what was dead is sometimes.
            let back = if disk.dead { rng.chance(30) } else { true };
            disk.present = absent.0 == 0 || disk.present || rng.chance(70);
            disk.dead &= absent.0 == 0 || !back;
        }
        if absent.0 == 0 {
            return;
        }
        let leave_out = 1 + rng.below(4) / 3;
        for _ in 0..leave_out {
            let disk = rng.below(self.disks.len());
            let before = self.disks[disk].present;
            self.disks[disk].present = false;
            if !self.someone_is_fresh() {
                self.disks[disk].present = before;
            }
        }
    }

    fn someone_is_fresh(&self) -> bool {
        !self.fresh_members().is_empty()
    }

    /// The machine starts.
    pub fn boot(&mut self, absent: Absent) {
        self.choose_present(absent);
        let here: Vec<usize> = (0..self.disks.len())
            .filter(|&disk| self.disks[disk].answers())
            .collect();
        self.tell(|_| format!("=== start, with disks {here:?}"));
        if !self.someone_is_fresh() {
            // The last that had the newest state is dead. Nobody can know that what is left is old.
            self.report.blind += 1;
            self.refused = Some("no disk has the newest state".into());
            self.at = self.history.ops.len();
            return;
        }
        let format = setup::format_of(&self.history.config);
        let mut images = Vec::new();
        for disk in here {
            match self.look_at(disk) {
                Ok(Some(seen)) => images.push(seen),
                Ok(None) => {}
                Err(why) => return self.violate("metadata reads back to a legal state", why),
            }
        }
        let seen: Vec<_> = images.iter().map(|seen| &seen.image).collect();
        let made = format.assemble(&seen);
        self.have_seen(images);
        let set = match made {
            Ok(set) => set,
            Err(why) => {
                if self.health(self.fresh_members()) != Health::Failed {
                    let text = format!("disks that are fresh make no set: {why}");
                    self.violate("metadata reads back to a legal state", text);
                }
                self.refused = Some(why.to_string());
                return;
            }
        };
        self.devices = set
            .set()
            .disks
            .iter()
            .map(|disk| {
                let key = disk.facts.map(|facts| facts.key as usize);
                key.filter(|_| disk.state != DiskState::Removed)
            })
            .collect();
        let has_volume = set.set().volume(0).is_some();
        self.read_generation = set.set().generation;
        self.set = Some(set);
        if !has_volume {
            // Of too few members, torn metadata and spares are left.
            return self.refuse("nobody knows of the volume".into());
        }
        self.note_claimed();
        self.check_model();
        self.check_promises();
        if self.report.violation.is_some() {
            return;
        }
        if let Err(why) = self.may_start() {
            return self.refuse(why);
        }
        let absent = self.absent_disks();
        // They are recorded as lost before anything else; a cut may come before the volume runs.
        for slot in self.last_readable.iter() {
            let disk = self.disk_in(slot);
            if disk.is_some_and(|disk| absent.contains(&disk)) {
                self.last_readable = self.last_readable.without(slot);
            }
        }
        let mut steps: Vec<Step> = self.lost_disks().into_iter().map(Step::TryRecord).collect();
        // `record_dirty`.
        let volume = self.set.as_ref().and_then(|set| set.set().volume(0));
        if volume.is_some_and(|volume| volume.consistency == Consistency::Dirty) {
            steps.push(Step::TryRecord(Event::Dirty(0)));
        }
        if self.has_log() {
            steps.push(Step::Do(Action::ReplayHole));
            if !self.has(Mistake::ReplayNotFlushed) {
                steps.push(Step::FlushDisks);
            }
            let keeps = self.has(Mistake::SessionKept) && volume_has_session(self.set.as_deref());
            if !keeps {
                steps.push(Step::TryRecord(Event::HoleLogStarted(0)));
                steps.push(Step::Do(Action::EmptyRows));
                steps.push(Step::FlushDisks);
            }
        }
        steps.push(Step::Do(Action::StartArray));
        self.worker.begin(steps, Action::Nothing);
    }

    fn refuse(&mut self, why: String) {
        self.tell(|_| format!("   not started: {why}"));
        self.judge_refusal(&why);
        self.refuse_for_disk(why);
    }

    /// The same where a disk is to blame that was not known to be.
    pub fn refuse_for_disk(&mut self, why: String) {
        self.report.refused += 1;
        self.refused = Some(why);
        self.set = None;
        self.devices.clear();
    }

    /// The members in sync whose disks are here.
    pub fn usable_members(&self) -> Mask {
        let mut usable = self.model_in_sync(None);
        for slot in usable.iter() {
            let here = self
                .disk_in(slot)
                .is_some_and(|disk| self.disk_is_online(disk));
            if !here {
                usable = usable.without(slot);
            }
        }
        usable
    }

    pub fn disk_is_online(&self, disk: DiskIndex) -> bool {
        let state = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk(disk))
            .map(|disk| disk.state);
        self.devices
            .get(usize::from(disk))
            .copied()
            .flatten()
            .is_some()
            && state == Some(DiskState::Online)
    }

    /// `Inner::may_start`, by force.
    fn may_start(&self) -> Result<(), String> {
        let set = self.set.as_ref().ok_or("no set")?;
        let volume = set.set().volume(0).ok_or("no volume")?;
        if let Access::Refused(why) | Access::ReadOnly(why) = &volume.access {
            return Err(why.to_string());
        }
        let usable = self.usable_members();
        if self.health(usable) == Health::Failed && !self.has(Mistake::StaleTrusted) {
            return Err(format!("only members {:b} are in sync and here", usable.0));
        }
        Ok(())
    }

    /// Disks of members that are not here (`record_absent`).
    fn absent_disks(&self) -> Vec<DiskIndex> {
        let Some(set) = &self.set else {
            return Vec::new();
        };
        let Some(volume) = set.set().volume(0) else {
            return Vec::new();
        };
        let mut absent = Vec::new();
        for disk in volume.members.iter().filter_map(|member| member.disk) {
            let state = set.set().disk(disk).map(|disk| disk.state);
            let here = self
                .devices
                .get(usize::from(disk))
                .copied()
                .flatten()
                .is_some();
            if !here && state != Some(DiskState::Failed) && !absent.contains(&disk) {
                absent.push(disk);
            }
        }
        absent
    }

    /// Those, and disks of members that are here and old (`record_absent`).
    fn lost_disks(&self) -> Vec<Event<'static>> {
        let absent = self.absent_disks();
        let mut events: Vec<_> = absent.into_iter().map(Event::DiskMissing).collect();
        let Some(set) = &self.set else { return events };
        for (disk, model) in set.set().live_disks() {
            let mut places = set.set().memberships(disk);
            let is_here = self.devices.get(usize::from(disk)).copied().flatten();
            let is_old = model.state == DiskState::Stale && is_here.is_some();
            if is_old && places.next().is_some() && self.bears_loss(disk) {
                events.push(Event::DiskFailed(disk));
            }
        }
        events
    }

    /// `Inner::make_running`.
    pub fn start_array(&mut self) {
        // A disk that did not take its metadata is lost by now.
        if let Err(why) = self.may_start() {
            return self.refuse(why);
        }
        let usable = self.usable_members();
        // Who is here was heard.
        self.ahead.retain(|&disk, _| !self.disks[disk].answers());
        let Some(volume) = self.set.as_ref().and_then(|set| set.set().volume(0)) else {
            return;
        };
        let (consistency, scrub) = (volume.consistency, volume.scrub);
        let members: Vec<_> = volume.members.iter().copied().collect();
        let regions = volume.regions.as_ref().filter(|_| self.is_redundant());
        let regions = regions.map(Regions::new).transpose();
        let regions = regions.expect("memory for the regions");
        let set = self.set.as_ref();
        let unkept = bad::unkept(&members, |disk| {
            set.is_some_and(|set| set.keeps_bad_ranges(disk))
        });
        let bad = BadSpots::new(&self.known_holes(), unkept).expect("memory for the bad ranges");
        let trust = match self.has(Mistake::MarksBelieved) {
            true => Trust::FULL,
            false => Trust::at_start(&self.geometry, consistency, regions.as_ref()),
        };
        let mut table = vec![None; members.len()];
        let mut rebuilding = Mask::EMPTY;
        let mut rebuilt = Marks::NONE;
        for (slot, member) in (0u16..).zip(&members) {
            let disk = member.disk.filter(|&disk| self.disk_is_online(disk));
            let device = disk.and_then(|disk| self.devices[usize::from(disk)]);
            let mut done = 0;
            let used = match member.state {
                MemberState::InSync => usable.contains(slot),
                MemberState::Rebuilding { done_sectors } if device.is_some() => {
                    rebuilding = rebuilding.with(slot);
                    done = trust.of(done_sectors);
                    true
                }
                _ => false,
            };
            let _ = rebuilt.push(done);
            if let Some(device) = device.filter(|_| used) {
                let place = (device, member.offset_sectors);
                table[usize::from(slot)] = Some(place);
                self.note_place(slot, place);
            }
        }
        let mut readable = usable;
        if self.has(Mistake::StaleTrusted) {
            readable = readable.union(self.trust_stale(&mut table));
        }
        let redundant = self.is_redundant();
        let unsynced_from = match consistency {
            Consistency::Initialising { done_sectors } if redundant => done_sectors,
            Consistency::Dirty if redundant => 0,
            _ => u64::MAX,
        };
        let mut needs_resync = redundant && consistency != Consistency::Clean;
        let mut unsynced = unsynced_from;
        if self.has(Mistake::ResyncSkipped) && consistency == Consistency::Dirty {
            needs_resync = false;
            unsynced = u64::MAX;
        }
        self.array = Some(Array {
            table,
            readable,
            writable: readable.union(rebuilding),
            unrecorded: Mask::EMPTY,
            broken: false,
            rebuilt: Rc::new(rebuilt),
            late: Late::NONE,
            trust: Cell::new(trust),
            withheld: Mask::EMPTY,
            unsynced_from: unsynced,
            followers: Mask::EMPTY,
            held: None,
            is_limited: false,
            resync_all: false,
            task_active: false,
            lanes_only: false,
            // Where no disk took what had to be recorded first, the first write waits for that.
            dirty: if !redundant || consistency == Consistency::Dirty && !self.worker.is_unwritten()
            {
                Dirty::Dirty
            } else {
                Dirty::Clean
            },
            regions,
            is_odd_round: false,
            bad,
            for_dirty: VecDeque::new(),
            at_gate: VecDeque::new(),
            gate_closed: false,
            finished: Vec::new(),
            for_bad: Vec::new(),
            void_clearings: 0,
            inside: 0,
            locks: BTreeMap::new(),
            task: None,
            finished_task: None,
            attached: readable.union(rebuilding),
            needs_resync,
            resync_from: if unsynced == u64::MAX { 0 } else { unsynced },
        });
        self.open_hole();
        // A check or repair goes on where it was.
        self.worker.check = scrub;
        self.worker.noted_scrub = scrub.map(|scrub| scrub.repairs);
        self.tell(|sim| {
            format!(
                "   the volume runs: members {:b} in sync, {:b} being rebuilt, {:?}",
                readable.0,
                rebuilding.0,
                sim.set
                    .as_ref()
                    .and_then(|set| set.set().volume(0))
                    .map(|volume| volume.consistency),
            )
        });
        if readable != Mask::all(self.geometry.members()) {
            self.oracle.forget_observations(self.now);
        }
        for slot in 0..self.geometry.members() {
            if !readable.contains(slot) {
                self.taint(slot, None);
            }
        }
    }

    /// The mistake: whatever was a member once is one.
    fn trust_stale(&self, table: &mut [Option<(usize, u64)>]) -> Mask {
        let mut trusted = Mask::EMPTY;
        for (slot, place) in self.places.iter().enumerate() {
            if let (None, Some((disk, offset))) = (table[slot], *place) {
                if self.disks[disk].answers() {
                    table[slot] = Some((disk, offset));
                    trusted = trusted.with(slot as Slot);
                }
            }
        }
        trusted
    }
}

/// Whether entries of some session count.
fn volume_has_session(set: Option<&dyn emd_core::metadata::MetadataSet>) -> bool {
    let log = set.and_then(|set| set.hole_log(0));
    matches!(
        log,
        Some(HoleLog::Ring {
            session: Some(_),
            ..
        })
    )
}
