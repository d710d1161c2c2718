// SPDX-License-Identifier: GPL-2.0

//! Disks that are here again (`arrival.rs`, `returned.rs`): which are taken back, and the places that they held.

use super::standing::newcomer;
use super::{Action, Step, VOLUME};
use crate::mistake::Mistake;
use crate::setup;
use crate::sim::Sim;
use emd_core::metadata::arrival::{self, Consent, Standing};
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskIndex, DiskRole, DiskState, Event, MemberState, Set, Slot};

/// Whether a disk of this role is a spare.
fn is_spare(role: DiskRole) -> bool {
    matches!(role, DiskRole::GlobalSpare | DiskRole::DedicatedSpare(_))
}

impl Sim {
    /// `ManagedSet::take_back`.
    pub(super) fn take_back(&mut self, disk: usize) -> bool {
        if self.devices.contains(&Some(disk)) || !self.disks[disk].answers() {
            return false;
        }
        let Ok(Some(alone)) = self.read_alone(disk) else {
            return false;
        };
        let Some((index, state)) = self.old_place(disk, alone.set()) else {
            return false;
        };
        let is_lone = self.known().and_then(|set| set.irreplaceable(index));
        if state == DiskState::Failed || is_lone.is_some() {
            self.leave_alone(disk);
            return false;
        }
        if self.worker.unwritten.is_none() {
            match self.standing_of(index, disk, alone.set()) {
                Standing::Old => {}
                Standing::Apart => {
                    self.tell(|_| format!("   disk {disk} was used apart"));
                    self.leave_alone(disk);
                    self.judge_apart(disk, index);
                    return false;
                }
                // Its volume runs, and has redundancy or all its members.
                other @ (Standing::Lone | Standing::Early | Standing::Complete) => {
                    let text = format!("disk {disk} is {other:?}");
                    self.violate("who comes to a volume that runs is old", text);
                    return false;
                }
            }
        }
        let own = alone.set().present_disk(disk as u64);
        let is_spare = self.has_as_spare(index) || own.is_some_and(|own| is_spare(own.role));
        // By its own metadata it may be a spare, which the set's does not say.
        match self.may_take_back(index, is_spare) {
            true => self.left_alone.remove(&disk),
            false => self.leave_alone(disk),
        };
        if self.left_alone.contains(&disk) && !self.has(Mistake::StaleTakenBack) {
            return false;
        }
        self.note_places(index);
        let event = Event::DiskReturned(index, setup::facts(disk));
        self.record_with(event, disk, vec![Step::Do(Action::NoteReturned(index))])
    }

    /// A disk that the set saw go is the set's, and not used apart; but where the others could not do without it and went on,
    /// or an array broke or none of the others can be read, so that nobody is here who knows.
    fn judge_apart(&mut self, disk: usize, index: DiskIndex) {
        let mut claimed = self.devices.iter().flatten();
        let is_one_read = claimed.any(|&device| self.disks[device].answers());
        let is_less_here = self.arr_is_broken() || !is_one_read;
        let may_seem = self.overtaken.contains(&disk) || is_less_here;
        if self.worker.had_good.contains(&index) && !may_seem {
            let text = format!("disk {disk} went while the set ran, and counts as used apart");
            self.violate("who was seen to go is known again", text);
        }
    }

    /// The set that is made of a disk alone; `None` when there is none of the format on it.
    pub(super) fn read_alone(&self, disk: usize) -> Result<Option<Box<dyn MetadataSet>>, String> {
        let format = setup::format_of(&self.history.config);
        let Some(seen) = self.look_at(disk)? else {
            return Ok(None);
        };
        let made = format.assemble(&[&seen.image]);
        self.have_seen([seen]);
        made.map(Some).map_err(|why| why.to_string())
    }

    /// Which disk of the set a disk was, of which alone the set `alone` was made, and its state, where that one is not here.
    fn old_place(&self, disk: usize, alone: &Set) -> Option<(DiskIndex, DiskState)> {
        let place = arrival::known_place(self, &newcomer(disk, alone));
        place.filter(|(index, _)| self.device(*index).is_none())
    }

    pub(super) fn known(&self) -> Option<&Set> {
        self.set.as_ref().map(|set| set.set())
    }

    /// The claimed disk at an index.
    pub(super) fn device(&self, index: DiskIndex) -> Option<usize> {
        self.devices.get(usize::from(index)).copied().flatten()
    }

    fn has_as_spare(&self, index: DiskIndex) -> bool {
        let known = self.known().and_then(|set| set.disk(index));
        known.is_some_and(|disk| is_spare(disk.role))
    }

    /// `Inner::may_take_back`. No disk holds anything that is not known here.
    fn may_take_back(&self, index: DiskIndex, is_spare: bool) -> bool {
        let was_seen = self.worker.had_good.contains(&index);
        let mut places = self
            .known()
            .into_iter()
            .flat_map(|set| set.memberships(index));
        let has_place = places.next().is_some() || self.has_places(index);
        let option = self.history.config.takes_back.option();
        option.consent(was_seen, is_spare, has_place) != Consent::Refused
    }

    /// Whether the keeper takes back a disk that is here and old; else it is left alone (`take_back_stale`).
    pub(super) fn takes_stale(&self, index: DiskIndex) -> bool {
        let may = self.may_take_back(index, self.has_as_spare(index));
        may || self.has(Mistake::StaleTakenBack)
    }

    /// From now on nothing may be written to it, until a person adds it or takes it out.
    fn leave_alone(&mut self, disk: usize) -> bool {
        self.tell(|_| format!("   disk {disk} is left alone"));
        self.report.left_alone += 1;
        self.left_alone.insert(disk)
    }

    /// The disks of a set that was just read have their places (`put_device`).
    pub(crate) fn note_claimed(&mut self) {
        if let Some(set) = &self.set {
            let room = self.worker.moves.begin(set.set());
            room.expect("memory for the disks");
        }
        for index in 0..self.devices.len() as DiskIndex {
            self.note_good(index);
        }
        let Some(set) = self.known() else { return };
        let mut is_old = Vec::new();
        for (index, disk) in set.live_disks() {
            if let Some(device) = self.device(index) {
                is_old.push((index, device, disk.state));
            }
        }
        for (index, device, state) in is_old {
            match state {
                DiskState::Online => {
                    self.left_alone.remove(&device);
                }
                // Also one that was used apart when it last came: to a set that starts it is old.
                DiskState::Stale => {
                    match self.may_take_back(index, self.has_as_spare(index)) {
                        true => self.left_alone.remove(&device),
                        false => self.leave_alone(device),
                    };
                }
                _ => {}
            }
        }
    }

    /// `Inner::note_good`.
    pub(super) fn note_good(&mut self, index: DiskIndex) {
        match self.is_online(index) {
            true => self.worker.had_good.insert(index),
            false => self.worker.had_good.remove(&index),
        };
    }

    /// `Inner::note_returned`.
    pub(super) fn note_returned(&mut self, index: DiskIndex) {
        if self.is_online(index) {
            self.worker.returned.insert(index);
        }
        self.note_good(index);
    }

    /// `Returned::note_places`.
    pub(super) fn note_places(&mut self, index: DiskIndex) {
        let Some(set) = self.set.as_ref().map(|set| set.set()) else {
            return;
        };
        let places = set.memberships(index).map(|(_, slot, _)| (index, slot));
        self.worker.places.extend(places);
    }

    /// `Returned::settle`.
    pub(super) fn settle_returned(&mut self) {
        let states: Vec<_> = self.volume().map_or(Vec::new(), |volume| {
            volume.members.iter().map(|member| member.state).collect()
        });
        self.worker.places.retain(|(_, slot)| {
            let state = states.get(usize::from(*slot));
            matches!(state, Some(MemberState::Failed | MemberState::Missing))
        });
        let returned = std::mem::take(&mut self.worker.returned);
        let stays = |index: &DiskIndex| {
            let is_member = self
                .known()
                .is_some_and(|set| set.memberships(*index).next().is_some());
            !is_member || self.has_places(*index)
        };
        let left = returned.into_iter().filter(stays).collect();
        self.worker.returned = left;
    }

    fn has_places(&self, index: DiskIndex) -> bool {
        self.worker.places.iter().any(|place| place.0 == index)
    }

    /// Whether it came back, perhaps before a restart (`recall_returned`).
    fn is_returned(&self, index: DiskIndex) -> bool {
        let keeps = || self.set.as_ref().is_some_and(|set| set.keeps_place(index));
        self.worker.returned.contains(&index) || self.device(index).is_some() && keeps()
    }

    /// `Returned::place_in`.
    pub(super) fn place_in(&self, index: DiskIndex) -> Option<Slot> {
        let mut places = self.worker.places.iter();
        let place = places.find(|place| place.0 == index && self.is_returned(index));
        place.map(|place| place.1)
    }

    /// Who came back and held this place (`Returned::holder`).
    pub(super) fn holder(&self, slot: Slot) -> Option<DiskIndex> {
        let mut places = self.worker.places.iter();
        let place = places.find(|place| place.1 == slot && self.is_returned(place.0));
        place.map(|place| place.0)
    }

    /// `Inner::spare_rank`.
    pub(super) fn spare_rank(&self, index: DiskIndex) -> Option<u8> {
        if !self.is_online(index) || self.is_unplugged(index) {
            return None;
        }
        match self.known()?.disk(index)?.role {
            _ if self.place_in(index).is_some() => Some(0),
            DiskRole::DedicatedSpare(VOLUME) => Some(1),
            DiskRole::GlobalSpare => Some(2),
            _ if self.is_returned(index) && !self.has_places(index) => Some(3),
            _ => None,
        }
    }
}
