// SPDX-License-Identifier: GPL-2.0

//! What is done at once.

use super::{Action, Step, Wish, VOLUME};
use crate::array::Dirty;
use crate::hole::Replayed;
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::{DiskIndex, Event, MemberState, Slot, TaskKind};
use emd_core::personalities::bad::BadChange;
use emd_core::personalities::regions::Regions;
use emd_core::personalities::Mask;

impl Sim {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Nothing => {}
            Action::FailuresRecorded(slot) => self.failures_recorded(Mask::single(slot)),
            Action::DirtyRecorded => self.dirty_recorded(),
            Action::RecordRegions => {
                let regions = self.arr().regions.as_ref();
                if let Some((first, count)) = regions.and_then(Regions::take_wanted) {
                    let event = Event::RegionsDirty {
                        volume: VOLUME,
                        first,
                        count,
                    };
                    let done = Action::RegionsRecorded(first, count, true);
                    self.worker.steps = [Step::Record(event), Step::Do(done)].into();
                    self.worker.on_error = Action::RegionsRecorded(first, count, false);
                }
            }
            Action::RegionsRecorded(first, count, done) => {
                self.regions_recorded(first, count, done);
            }
            Action::Sweep => {
                self.sweep_regions(false);
                let regions = self.arr().regions.as_ref();
                if regions.is_some_and(Regions::are_leaving) {
                    let leave = Step::Do(Action::RecordLeaving);
                    self.worker.steps.push_front(leave);
                    if !self.has(Mistake::RegionsCleanWithoutFlush) {
                        self.worker.steps.push_front(Step::FlushMembers);
                    }
                }
            }
            Action::RecordLeaving => {
                let array = self.array.as_ref();
                let regions = array.and_then(|array| array.regions.as_ref());
                if let Some((first, count)) = regions.and_then(Regions::take_leaving) {
                    let event = Event::RegionsClean {
                        volume: VOLUME,
                        first,
                        count,
                    };
                    let again = Step::Do(Action::RecordLeaving);
                    self.worker.steps.push_front(again);
                    self.worker.steps.push_front(Step::TryRecord(event));
                }
            }
            Action::BadRecorded => {
                if !self.is_bad_change_kept() && !self.has(Mistake::UnkeptCounts) {
                    self.arr().bad.leave_unkept();
                }
                self.bad_change_recorded();
            }
            Action::Withhold(slot) => {
                let array = self.arr();
                array.withheld = array.withheld.with(slot);
                self.report.withheld += 1;
                self.tell(|_| format!("   member {slot} is not called rebuilt"));
            }
            Action::RebuiltAtLast(slot) => {
                let array = self.arr();
                let present = Mask::single(slot).intersect(array.writable);
                if array.unsynced_from != u64::MAX {
                    array.followers = array.followers.union(present);
                }
                array.readable = array.readable.union(present);
                array.rebuilt.forget(Mask::single(slot));
                array.withheld = array.withheld.without(slot);
            }
            Action::ForgetWithheld(slot) => {
                let array = self.arr();
                array.withheld = array.withheld.without(slot);
            }
            Action::ForgetBad(slot) => {
                for event in self.holes_of(slot) {
                    self.worker.steps.push_front(Step::TryRecord(event));
                }
                self.settle_returned();
            }
            Action::TakeFinished => {
                // Who holds a task holds that one, and not what comes after it.
                let end = self.arr().finished_task.take();
                let held = self.arr().held;
                self.arr().held =
                    held.filter(|&kind| end.as_ref().is_none_or(|end| end.result.kind != kind));
                if let Some(end) = end.filter(|end| !end.result.completed) {
                    let kind = end.result.kind;
                    let is_sync = matches!(kind, TaskKind::Initialise | TaskKind::Resync);
                    if is_sync && self.arr().needs_resync {
                        self.arr().resync_from = end.result.done_sectors;
                    }
                }
                let failed = end.is_some_and(|end| !end.result.completed && !end.let_go);
                self.worker.griefs += u32::from(failed);
            }
            Action::Grief => self.worker.griefs += 1,
            Action::Cleaning => {
                self.arr().dirty = Dirty::Cleaning;
                self.sweep_regions(true);
            }
            Action::CleanRecorded => {
                if self
                    .array
                    .as_ref()
                    .is_some_and(|array| array.dirty == Dirty::Cleaning)
                {
                    self.clean_recorded();
                }
            }
            Action::Rebuilt(targets, late) => {
                let array = self.arr();
                let present = targets.intersect(array.writable);
                if array.unsynced_from != u64::MAX {
                    array.followers = array.followers.union(present);
                }
                array.readable = array.readable.union(present);
                array.rebuilt.forget(targets);
                array.late = late;
                if !array.needs_resync {
                    array.unsynced_from = u64::MAX;
                }
                // Members that were recorded as lost and could not be done without until now.
                let present = array.writable;
                for slot in present.iter() {
                    let state = self.member_state(slot);
                    if matches!(state, Some(MemberState::Failed | MemberState::Missing)) {
                        self.drop_member(slot);
                    }
                }
            }
            Action::NoteScrub(repairs) => self.worker.noted_scrub = repairs,
            Action::ResyncAsked(is_recorded) => {
                self.worker.resync_asked = false;
                if is_recorded {
                    let array = self.arr();
                    (array.needs_resync, array.resync_all) = (true, true);
                    array.resync_from = 0;
                }
            }
            Action::Resynced => {
                self.is_untold = false;
                let array = self.arr();
                (array.needs_resync, array.resync_all) = (false, false);
                array.resync_from = 0;
                array.unsynced_from = u64::MAX;
                array.followers = Mask::EMPTY;
                // But what could not be compared.
                let loose = &self.loose;
                self.torn.retain(|row| loose.contains(row));
                self.under_way.retain(|(_, row)| loose.contains(row));
                self.virgin.retain(|row| loose.contains(row));
            }
            Action::Detach(slot) => {
                let array = self.arr();
                array.table[usize::from(slot)] = None;
                array.attached = array.attached.without(slot);
                array.late.forget(slot);
                array.withheld = array.withheld.without(slot);
                self.worker.unfit.clear();
            }
            Action::Release(disk) => {
                // First that, then it is let go, recorded or not (`next_dead`).
                let close = Step::Do(Action::Close(disk));
                match self.record_gone(disk) {
                    true => self.worker.steps.push_back(close),
                    false => self.worker.steps.push_front(close),
                }
            }
            Action::Close(disk) => {
                if let Some(place) = self.devices.get_mut(usize::from(disk)) {
                    *place = None;
                }
            }
            Action::NotePlaces(disk) => self.note_places(disk),
            Action::NoteReturned(disk) => self.note_returned(disk),
            Action::FillEmpty(disk) => self.fill_empty(disk),
            Action::FillWith(disk) => self.fill_with(disk),
            Action::LetGoOf(disk) => self.let_go_of_disk(disk),
            Action::TakeOut(disk) => self.take_out(disk),
            Action::Removed(disk) => self.disk_removed(disk),
            Action::RemoveAgain(disk, force, tries) => {
                if tries > 0 {
                    let wish = Wish::Remove(disk, force);
                    self.worker.wishes.push_back((wish, tries));
                }
            }
            Action::NoSpare(slot, disk) => {
                self.worker.unfit.insert((slot, disk));
            }
            Action::Attach(slot) => self.attach(slot),
            Action::StartTask(kind, pass) => {
                let task = self.new_task(kind, &pass);
                self.arr().task = Some(task);
            }
            Action::BeginTask(step) => self.begin_task(step),
            Action::GiveUpTask => self.give_up_task(),
            Action::LetJoin => {
                if let Some(task) = &mut self.arr().task {
                    task.let_go();
                }
            }
            Action::EmptyRows => {
                if let Some(disk) = self.empty_rows() {
                    self.start_without(
                        disk,
                        Action::EmptyRows,
                        "a disk does not take an empty log",
                    );
                }
            }
            Action::ReplayHole => self.replay_log(),
            Action::StartArray => self.start_array(),
        }
    }

    /// `Inner::replay_log`.
    fn replay_log(&mut self) {
        let refused = match self.replay_hole(self.usable_members()) {
            Replayed::Yes => return,
            Replayed::Refused(slot) => self.disk_in(slot),
            Replayed::Untold => None,
        };
        match refused.filter(|&disk| self.disk_is_online(disk)) {
            Some(disk) => {
                let why = "a disk does not take what the log says";
                self.start_without(disk, Action::ReplayHole, why);
            }
            None => {
                self.worker.steps.clear();
                self.refuse_for_disk("the log is damaged".into());
            }
        }
    }

    /// `Inner::start_without`: `again` without that disk, if its loss is borne.
    fn start_without(&mut self, disk: DiskIndex, again: Action, why: &str) {
        if !self.bears_loss(disk) {
            self.worker.steps.clear();
            return self.refuse_for_disk(why.into());
        }
        // A cut may come before the volume runs.
        for slot in self.last_readable.iter() {
            if self.disk_in(slot) == Some(disk) {
                self.last_readable = self.last_readable.without(slot);
            }
        }
        let event = self.loss_event(disk);
        self.worker.steps.push_front(Step::Do(again));
        self.worker.steps.push_front(Step::TryRecord(event));
    }

    /// `MetadataSet::keeps_bad_ranges` of the disk that the oldest change is about.
    fn is_bad_change_kept(&self) -> bool {
        let array = self.array.as_ref();
        let Some(BadChange::Added(spot)) = array.and_then(|array| array.bad.change()) else {
            return true;
        };
        let disk = self.disk_in(spot.slot);
        // A member that is gone has nothing to be recorded of.
        (self.set.as_ref().zip(disk)).is_none_or(|(set, disk)| set.keeps_bad_ranges(disk))
    }

    /// What makes a member's bad ranges good again, that is going to be filled.
    fn holes_of(&self, slot: Slot) -> Vec<Event<'static>> {
        let Some(volume) = self.volume() else {
            return Vec::new();
        };
        let holes = self.known_holes().into_iter();
        let own = holes.filter(|spot| spot.slot == slot);
        own.filter_map(|spot| BadChange::Cleared(spot).event(&volume.members))
            .collect()
    }

    pub(super) fn attach(&mut self, slot: Slot) {
        let Some(member) = self
            .volume()
            .and_then(|volume| volume.members.get(usize::from(slot)))
            .copied()
        else {
            return;
        };
        let disk = member
            .disk
            .and_then(|disk| *self.devices.get(usize::from(disk))?);
        let Some(disk) = disk else { return };
        if !self.hole_member_joins(slot, disk) {
            // `Inner::give_up_joining`.
            if let Some(disk) = member.disk.filter(|&disk| self.bears_loss(disk)) {
                let event = self.loss_event(disk);
                self.worker.steps.push_back(Step::Record(event));
            }
            return;
        }
        let trusted = self.has(Mistake::SpareTrustedAtOnce);
        let array = self.arr();
        array.table[usize::from(slot)] = Some((disk, member.offset_sectors));
        array.bad.forget(slot);
        array.rebuilt.forget(Mask::single(slot));
        array.writable = array.writable.with(slot);
        array.attached = array.attached.with(slot);
        if trusted {
            array.readable = array.readable.with(slot);
        }
        self.note_place(slot, (disk, member.offset_sectors));
        self.settle_returned();
    }

    /// A disk has a place, and no other one.
    pub(crate) fn note_place(&mut self, slot: Slot, place: (usize, u64)) {
        for held in &mut self.places {
            *held = held.filter(|held| held.0 != place.0);
        }
        self.places[usize::from(slot)] = Some(place);
    }
}
