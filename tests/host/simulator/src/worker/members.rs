// SPDX-License-Identifier: GPL-2.0

//! Disks that people fail, take out and add (`member.rs`). Who is refused has changed nothing.

use super::standing::newcomer;
use super::{Action, Step};
use crate::setup;
use crate::sim::Sim;
use emd_core::metadata::arrival;
use emd_core::model::{DiskIndex, DiskOffer, DiskState, Event, MemberState, Slot, SpareRole};
use emd_core::personalities::{loss::Loss, Health, Mask};

/// What a person wants done with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// It counts as failed; whether by force.
    Fail(usize, bool),
    /// It leaves the set; whether by force.
    Remove(usize, bool),
    /// It joins the set, by force.
    Add(usize),
}

/// So often a person's removal waits for what has to be recorded first.
const REMOVE_TRIES: u32 = 8;

/// What is to be done, or why not.
type Granted = Result<Vec<Step>, &'static str>;

impl Sim {
    /// A person wants something.
    pub(crate) fn ask_for(&mut self, wish: Wish) {
        if self.array.is_some() {
            self.worker.wishes.push_back((wish, REMOVE_TRIES));
        }
    }

    /// Whether somebody waits for the worker. Who was told to wait does so until failures are recorded.
    pub(super) fn has_wish(&self) -> bool {
        let first = self.worker.wishes.front();
        let is_new = first.is_some_and(|(_, tries)| *tries == REMOVE_TRIES);
        first.is_some() && self.array.is_some() && (is_new || !self.must_record())
    }

    /// Does what is wished; true when an activity begins.
    pub(super) fn grant(&mut self) -> bool {
        if !self.has_wish() {
            return false;
        }
        let Some((wish, tries)) = self.worker.wishes.pop_front() else {
            return false;
        };
        let (granted, on_error) = match wish {
            // What is known in memory only would have to be written first.
            _ if self.worker.unwritten.is_some() => {
                (Err("no disk takes metadata"), Action::Nothing)
            }
            Wish::Fail(disk, force) => {
                let index = self.index_of(disk).ok_or("it is not part of the set");
                let granted = index.and_then(|index| self.fail_disk(index, force));
                (granted, Action::Nothing)
            }
            Wish::Remove(disk, force) => {
                let index = self.index_of(disk).or_else(|| self.missed_disk());
                let index = index.ok_or("it is not part of the set");
                let granted = index.and_then(|index| self.remove_disk(index, force));
                let again = Action::RemoveAgain(disk, force, tries.saturating_sub(1));
                (granted, again)
            }
            Wish::Add(disk) => (self.add_disk(disk), Action::Nothing),
        };
        match granted {
            Ok(steps) => {
                self.tell(|_| format!("   a person: {wish:?}: {steps:?}"));
                self.report.wishes += 1;
                // Of a disk that joins, the plan is on its way.
                if self.worker.stage.is_some() {
                    return true;
                }
                let is_something = !steps.is_empty();
                self.worker.begin(steps, on_error);
                is_something
            }
            Err(why) => {
                self.tell(|_| format!("   a person: {wish:?} is refused: {why}"));
                false
            }
        }
    }

    /// `Inner::index_of`.
    fn index_of(&self, disk: usize) -> Option<DiskIndex> {
        let index = self.devices.iter().position(|one| *one == Some(disk))?;
        Some(index as DiskIndex)
    }

    /// A disk of the set that is not here.
    fn missed_disk(&self) -> Option<DiskIndex> {
        let mut disks = self.known()?.live_disks();
        let missed = disks.find(|(index, _)| self.device(*index).is_none());
        missed.map(|(index, _)| index)
    }

    /// `ManagedSet::fail_disk`.
    fn fail_disk(&mut self, index: DiskIndex, force: bool) -> Granted {
        let state = self.known().and_then(|set| set.disk(index));
        if state.map(|disk| disk.state) != Some(DiskState::Online) {
            return Err("it does not count as working");
        }
        if self.breaks_without(index) && !force {
            return Err("the volume would be lost without it");
        }
        if !self.bears_loss(index) && !self.is_given_up(index) {
            return Err("it holds what no other disk does");
        }
        self.fail_on_array(index);
        Ok(match self.bears_loss(index) {
            true => vec![Step::Record(Event::DiskFailed(index))],
            false => Vec::new(),
        })
    }

    /// `Inner::breaks_without`.
    fn breaks_without(&self, index: DiskIndex) -> bool {
        let Some(set) = self.known() else {
            return false;
        };
        let mut places = set.memberships(index);
        places.any(|(_, _, member)| member.state == MemberState::InSync)
            && self.health(self.model_in_sync(None)) != Health::Failed
            && self.health(self.model_in_sync(Some(index))) == Health::Failed
    }

    /// `Inner::is_given_up`, of [`Loss`].
    fn is_given_up(&self, index: DiskIndex) -> bool {
        let (Some(set), Some(array)) = (self.known(), &self.array) else {
            return false;
        };
        let mut places = set.memberships(index);
        self.is_redundant()
            && places.any(|(_, slot, _)| {
                let (readable, writable) = (array.readable, array.writable);
                let loss = Loss::of(&self.geometry, readable, writable, slot, false);
                array.attached.contains(slot) && matches!(loss, Loss::Borne | Loss::Beyond)
            })
    }

    /// `ManagedSet::remove_disk`.
    fn remove_disk(&mut self, index: DiskIndex, force: bool) -> Granted {
        let is_here = self.device(index).is_some();
        let places: Vec<MemberState> = self.known().map_or(Vec::new(), |set| {
            let places = set.memberships(index);
            places.map(|(_, _, member)| member.state).collect()
        });
        let is_active = places
            .iter()
            .any(|state| matches!(state, MemberState::InSync | MemberState::Rebuilding { .. }));
        let works = self.health(self.usable_members()) != Health::Failed;
        if !is_here && !places.is_empty() && !works {
            return Err("the volume does not work without it, and it may come back");
        }
        let mut steps = Vec::new();
        if is_active {
            if !force || !is_here {
                return Err("it is an active member");
            }
            if self.breaks_without(index) {
                return Err("the volume would be lost without it");
            }
            steps = self.fail_disk(index, false)?;
        }
        steps.push(Step::Do(Action::LetGoOf(index)));
        Ok(steps)
    }

    /// `ManagedSet::let_writes_end`, and what goes before the removal is recorded.
    pub(super) fn let_go_of_disk(&mut self, index: DiskIndex) {
        let lost: Vec<Slot> = self.known().map_or(Vec::new(), |set| {
            let is_lost = |state| matches!(state, MemberState::Failed | MemberState::Missing);
            let places = set.memberships(index);
            let lost = places.filter(|(_, _, member)| is_lost(member.state));
            lost.map(|(_, slot, _)| slot).collect()
        });
        for slot in lost {
            if self
                .array
                .as_ref()
                .is_some_and(|array| array.unrecorded.contains(slot))
            {
                self.failures_recorded(Mask::single(slot));
            }
        }
        self.worker
            .steps
            .push_front(Step::Do(Action::TakeOut(index)));
        // `detach_lost`, of one after the other.
        if let Some((steps, _)) = self.detach_lost() {
            let again = Step::Do(Action::LetGoOf(index));
            self.worker.steps = steps.into_iter().chain([again]).collect();
        }
    }

    /// The end of `remove_disk`.
    pub(super) fn take_out(&mut self, index: DiskIndex) {
        if self.is_attached(index) {
            return self.tell(|_| "   it is still in use: that is refused".into());
        }
        if let Some(device) = self.device(index) {
            self.left_alone.remove(&device);
            self.rejoined.insert(device);
        }
        let removed = Action::Removed(index);
        self.worker.on_error = removed;
        self.worker.steps.push_front(Step::Do(removed));
        let event = Event::DiskRemoved(index);
        self.worker.steps.push_front(Step::Record(event));
    }

    /// `DiskRemoved` is known, if no more.
    pub(super) fn disk_removed(&mut self, index: DiskIndex) {
        if !self.is_removed(index) {
            return;
        }
        self.worker.returned.remove(&index);
        self.worker.places.retain(|place| place.0 != index);
        self.worker.had_good.remove(&index);
        if !self.worker.is_unwritten() {
            self.drop_removed(index);
        }
    }

    /// Whether a disk was taken out.
    pub(super) fn is_removed(&self, index: DiskIndex) -> bool {
        let disk = self.known().and_then(|set| set.disk(index));
        disk.is_some_and(|disk| disk.state == DiskState::Removed)
    }

    /// `ManagedSet::drop_removed`.
    pub(super) fn drop_removed(&mut self, index: DiskIndex) {
        if let Some(place) = self.devices.get_mut(usize::from(index)) {
            *place = None;
        }
    }

    /// `ManagedSet::add_disk_to_set`, by force.
    fn add_disk(&mut self, disk: usize) -> Granted {
        let Some(facts) = self.disks.get(disk).map(|_| setup::facts(disk)) else {
            return Err("there is no such disk");
        };
        if let Some(index) = self.index_of(disk) {
            if self
                .known()
                .is_some_and(|set| set.irreplaceable(index).is_some())
            {
                return Err("the volume runs without it");
            }
            let state = self.known().and_then(|set| set.disk(index));
            let is_online = state.is_some_and(|disk| disk.state == DiskState::Online);
            if is_online && self.empty_slots().is_empty() {
                return Err("it is a member already, or there is no place");
            }
            if is_online {
                return Ok(vec![Step::Do(Action::FillEmpty(index))]);
            }
            if self.is_attached(index) {
                return Err("it is being taken out");
            }
            self.left_alone.remove(&disk);
            self.note_places(index);
            let event = Event::DiskReturned(index, facts);
            return Ok(vec![
                Step::Record(event),
                Step::Do(Action::NoteReturned(index)),
                Step::Do(Action::FillEmpty(index)),
            ]);
        }
        if !self.disks[disk].answers() {
            return Err("it is gone");
        }
        let alone = self
            .read_alone(disk)
            .map_err(|_| "its metadata cannot be read")?;
        let own = alone.as_ref().map(|alone| newcomer(disk, alone.set()));
        let known = own.and_then(|own| arrival::known_place(self, &own));
        let known = known.map(|(index, _)| index);
        // `Inner::check_expendable`, by force: the volume runs, so it waits for nobody.
        if own.is_some_and(|own| arrival::expendable(self, &own, None, true).is_err()) {
            return Err("the volume cannot do without it");
        }
        let old = known.filter(|&index| self.device(index).is_none());
        let (event, returns) = match old {
            Some(index) => {
                self.note_places(index);
                (
                    Event::DiskReturned(index, facts),
                    Action::NoteReturned(index),
                )
            }
            None => {
                let role = SpareRole::None;
                (Event::DiskAdded(DiskOffer { facts, role }), Action::Nothing)
            }
        };
        self.left_alone.remove(&disk);
        let steps = vec![Step::Do(returns), Step::Do(Action::FillWith(disk))];
        if old.is_none() && alone.is_some() {
            self.disks[disk].erase();
        }
        match self.record_with(event, disk, steps) {
            true => Ok(Vec::new()),
            false => Err("the format does not take it"),
        }
    }

    /// `ManagedSet::fill_empty`.
    pub(super) fn fill_empty(&mut self, index: DiskIndex) {
        let old = self.place_in(index).filter(|&slot| self.is_empty(slot));
        let Some(slot) = old.or_else(|| self.empty_slots().first()) else {
            return;
        };
        for step in self.activation(slot, index).into_iter().rev() {
            self.worker.steps.push_front(step);
        }
    }

    /// The same for the disk that joined just now.
    pub(super) fn fill_with(&mut self, disk: usize) {
        if let Some(index) = self.index_of(disk) {
            self.fill_empty(index);
        }
    }
}
