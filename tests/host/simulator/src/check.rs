// SPDX-License-Identifier: GPL-2.0

//! What is checked on the disks themselves: after each start, and at the end.

use crate::disk::Token;
use crate::oracle::Time;
use crate::parity;
use crate::setup;
use crate::sim::Sim;
use emd_core::model::{Access, Consistency, MemberState, RegionLog, Slot};
use emd_core::personalities::bad::BadSpot;
use emd_core::personalities::{Health, Kind, Mask};

impl Sim {
    /// The model must be one of this set: same volume, same places.
    pub fn check_model(&mut self) {
        let Some(set) = &self.set else { return };
        let wrong = match set.set().volume(0) {
            None => Some("the volume is gone".to_string()),
            Some(volume) => {
                let same = volume.shape == *self.geometry.shape()
                    && volume.size_sectors >= self.geometry.size_sectors();
                (!same).then(|| {
                    format!(
                        "it reads {:?} of {} sectors",
                        volume.shape, volume.size_sectors
                    )
                })
            }
        };
        if let Some(text) = wrong {
            self.violate("metadata reads back to a legal state", text);
        }
    }

    /// Where each member is as the model has it, for members whose disk is here.
    fn model_places(&self) -> Vec<Option<(usize, u64)>> {
        let members = usize::from(self.geometry.members());
        let mut places = vec![None; members];
        let Some(volume) = self.set.as_ref().and_then(|set| set.set().volume(0)) else {
            return places;
        };
        for (slot, member) in volume.members.iter().enumerate().take(members) {
            let disk = member
                .disk
                .and_then(|disk| *self.devices.get(usize::from(disk))?);
            places[slot] = disk.map(|disk| (disk, member.offset_sectors));
        }
        places
    }

    /// One row of the members, as the disks have it.
    fn row(&self, places: &[Option<(usize, u64)>], row: u64) -> Vec<Token> {
        let at = |place: &Option<(usize, u64)>| match place {
            Some((disk, offset)) => self.disks[*disk].peek(offset + row),
            None => 0,
        };
        places.iter().map(at).collect()
    }

    /// After a start: what the metadata promises holds on the disks.
    pub fn check_promises(&mut self) {
        let Some(volume) = self.set.as_ref().and_then(|set| set.set().volume(0)) else {
            return;
        };
        // What is shown and not started promises nothing.
        if matches!(volume.access, Access::Refused(_)) {
            return;
        }
        let consistency = volume.consistency;
        let mut in_sync = Mask::EMPTY;
        let mut below = vec![0u64; usize::from(self.geometry.members())];
        let places = self.model_places();
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            if places[usize::from(slot)].is_none() {
                continue;
            }
            match member.state {
                MemberState::InSync => {
                    let online = self.model_in_sync(None).contains(slot) && self.is_up(slot);
                    if online {
                        in_sync = in_sync.with(slot);
                        below[usize::from(slot)] = u64::MAX;
                    }
                }
                MemberState::Rebuilding { done_sectors } => below[usize::from(slot)] = done_sectors,
                _ => {}
            }
        }
        if self.is_redundant() && self.health(in_sync) == Health::Failed {
            return;
        }
        let agreed = Agreed::of(consistency, volume.regions.as_ref());
        let holes = self.known_holes();
        for row in 0..self.geometry.used_member_sectors() {
            // Those that are right here, it says.
            let whole =
                |&slot: &Slot| row < below[usize::from(slot)] && !is_hole(&holes, slot, row);
            let right = (0..self.geometry.members()).filter(whole);
            let right = right.fold(Mask::EMPTY, Mask::with);
            self.check_row(&places, in_sync, right, row, &agreed, &holes);
            if self.report.violation.is_some() {
                return;
            }
        }
    }

    fn is_up(&self, slot: Slot) -> bool {
        let Some(set) = &self.set else { return false };
        let disk = self.disk_in(slot).and_then(|disk| set.set().disk(disk));
        disk.is_some_and(|disk| disk.state == emd_core::model::DiskState::Online)
    }

    fn check_row(
        &mut self,
        places: &[Option<(usize, u64)>],
        in_sync: Mask,
        right: Mask,
        row: u64,
        agreed: &Agreed,
        holes: &[BadSpot],
    ) {
        let tokens = self.row(places, row);
        let members = Mask::all(self.geometry.members());
        let promise = "what the metadata promises holds on the disks";
        let is_copied = self.geometry.kind() == Kind::Copies;
        let is_agreed = !is_copied && agreed.has(row) && !self.loose.contains(&row);
        match self.geometry.kind() {
            Kind::Mirrored => {
                let copies: Vec<Token> =
                    right.iter().map(|slot| tokens[usize::from(slot)]).collect();
                let differ = copies.windows(2).any(|pair| pair[0] != pair[1]);
                if is_agreed && differ && consistent_rebuild(in_sync, right) {
                    let text = format!(
                        "row {row}: copies {} differ, and it is called clean",
                        crate::io::show(&copies)
                    );
                    return self.violate(promise, text);
                }
            }
            Kind::Parity => {
                for (stripe, _) in setup::rows_at(&self.geometry, row) {
                    let all = self.geometry.roles(stripe).all();
                    let torn = self.torn.contains(&row) && in_sync != members;
                    let whole = all.is_within(right);
                    if is_agreed
                        && whole
                        && !torn
                        && !parity::agrees(&self.geometry, stripe, &tokens)
                    {
                        let text = format!(
                            "row {row}: {} does not agree, and it is called clean",
                            crate::io::show(&tokens)
                        );
                        return self.violate(promise, text);
                    }
                }
            }
            _ => {}
        }
        let in_sync = in_sync.intersect(right);
        if is_copied {
            if let Some(text) = self.differing_copies(places, row, in_sync, agreed, holes) {
                return self.violate(promise, format!("{text} differ, and it is called clean"));
            }
        }
        for slot in in_sync.iter() {
            let Some(sector) = self.geometry.logical(slot, row) else {
                continue;
            };
            let token = tokens[usize::from(slot)];
            if !self.oracle.may_hold(sector, token, Time::MAX) {
                let possible = self.oracle.possible(sector, Time::MAX);
                let text = format!(
                    "member {slot} is called in sync and has {:04x} for sector {sector}; possible: {}",
                    token & 0xFFFF,
                    crate::io::show(&possible)
                );
                return self.violate(promise, text);
            }
        }
        self.check_lost(&tokens, in_sync, row);
    }

    /// What a lost member had must follow from the others, except in torn rows.
    fn check_lost(&mut self, tokens: &[Token], in_sync: Mask, row: u64) {
        if !self.is_parity() || self.torn.contains(&row) {
            return;
        }
        for (stripe, _) in setup::rows_at(&self.geometry, row) {
            let lost = self.geometry.roles(stripe).data.minus(in_sync);
            let Some(derived) = parity::derive(&self.geometry, stripe, tokens, in_sync) else {
                continue;
            };
            for slot in lost.iter() {
                let Some(sector) = self.geometry.logical(slot, row) else {
                    continue;
                };
                let token = derived[usize::from(slot)];
                if self.oracle.may_hold(sector, token, Time::MAX) {
                    continue;
                }
                let possible = self.oracle.possible(sector, Time::MAX);
                let text = format!(
                    "sector {sector} of lost member {slot} comes out as {:04x}; possible: {}",
                    token & 0xFFFF,
                    crate::io::show(&possible)
                );
                self.violate("acknowledged data is there, and nothing else changes", text);
            }
        }
    }

    /// Copies of what is at a row of the members differ, though they should not.
    fn differing_copies(
        &self,
        places: &[Option<(usize, u64)>],
        row: u64,
        right: Mask,
        agreed: &Agreed,
        holes: &[BadSpot],
    ) -> Option<String> {
        if self.geometry.kind() != Kind::Copies || self.loose.contains(&row) {
            return None;
        }
        for slot in 0..self.geometry.members() {
            let Some(sector) = self.geometry.logical(slot, row) else {
                continue;
            };
            // Marks and regions of copies count sectors of the volume, not of members.
            if !agreed.has(sector) {
                continue;
            }
            let copies = self
                .copies_of(sector)
                .into_iter()
                .filter(|&(slot, at)| right.contains(slot) && !is_hole(holes, slot, at));
            let tokens = copies.filter_map(|(slot, at)| {
                let (disk, offset) = places[usize::from(slot)]?;
                Some(self.disks[disk].peek(offset + at))
            });
            let tokens: Vec<Token> = tokens.collect();
            if tokens.windows(2).any(|pair| pair[0] != pair[1]) {
                return Some(format!(
                    "sector {sector}: copies {}",
                    crate::io::show(&tokens)
                ));
            }
        }
        None
    }

    /// Members that were in sync when the volume last ran, are here, and took the last metadata.
    pub fn fresh_members(&self) -> Mask {
        let fresh = self.last_readable.iter().filter(|&slot| {
            let place = self.places.get(usize::from(slot)).copied().flatten();
            place.is_some_and(|(disk, _)| {
                self.disks[disk].answers() && !self.untaken.contains(&disk)
            })
        });
        fresh.fold(Mask::EMPTY, Mask::with)
    }

    /// A start was refused: is that honest?
    pub fn judge_refusal(&mut self, why: &str) {
        let fresh = self.fresh_members();
        // Which of two accounts is to count, when a disk is back that was needed and dead, is for people to say.
        let mut overtaken = self.overtaken.iter();
        let are_two = why.contains("two parts") || why.contains("used apart");
        if are_two && overtaken.any(|&disk| self.disks[disk].answers()) {
            return;
        }
        // A spare alone has an update that was cut, which may tell of a member's loss: with that member it looks as if all
        // others had it too, and had gone on without that member. Where enough is here without those that it tells of, it is no reason.
        let mut ahead = self.ahead.iter();
        let tells = |(&disk, &lost): (&usize, &Mask)| {
            self.disks[disk].answers() && self.health(fresh.minus(lost)) == Health::Failed
        };
        if ahead.any(tells) {
            return;
        }
        // An old disk calls one lost that was taken out and works again, and all that works by the old one is lost: who
        // used whom apart nobody can know.
        let is_here = |&&disk: &&usize| self.disks[disk].answers();
        let has_rejoined = self.rejoined.iter().any(|disk| is_here(&disk));
        if are_two && has_rejoined && self.left_alone.iter().any(|disk| is_here(&disk)) {
            return;
        }
        if self.health(fresh) != Health::Failed {
            let text = format!("members {:b} are in sync and here, but: {why}", fresh.0);
            self.violate("what can be started is started", text);
        }
    }

    /// At the end: everything reads as it should, redundancy agrees, the metadata says so.
    pub fn last_checks(&mut self) {
        let Some(array) = &self.array else { return };
        let (readable, broken, needs_resync) = (array.readable, array.broken, array.needs_resync);
        if broken {
            return;
        }
        let answers = |slot: &Slot| {
            let place = array.table[usize::from(*slot)];
            place.is_some_and(|(disk, _)| self.disks[disk].answers())
        };
        // A mirror's last member stays in use although it is dead, as does all of RAID 0.
        let readable = readable
            .iter()
            .filter(answers)
            .fold(Mask::EMPTY, Mask::with);
        let places = array.table.clone();
        let holes = self.known_holes();
        let in_use = readable;
        for row in 0..self.geometry.used_member_sectors() {
            let tokens = self.row(&places, row);
            let mut derived = tokens.clone();
            let mut agrees = true;
            let whole = |&slot: &Slot| !is_hole(&holes, slot, row);
            let readable = in_use.iter().filter(whole).fold(Mask::EMPTY, Mask::with);
            let mut known = readable;
            if self.is_parity() {
                for (stripe, _) in setup::rows_at(&self.geometry, row) {
                    let all = self.geometry.roles(stripe).all();
                    if let Some(more) = parity::derive(&self.geometry, stripe, &derived, known) {
                        derived = more;
                        known = known.union(self.geometry.roles(stripe).data);
                    }
                    let whole = all.is_within(readable);
                    agrees &= !whole || parity::agrees(&self.geometry, stripe, &tokens);
                }
            }
            for slot in known.iter() {
                let Some(sector) = self.geometry.logical(slot, row) else {
                    continue;
                };
                let token = derived[usize::from(slot)];
                // Copies may differ that were not resynced yet, or could be by nobody.
                let may_differ = needs_resync || self.is_copied() && self.loose.contains(&row);
                if !may_differ || !self.oracle.may_hold(sector, token, self.now) {
                    self.judge(
                        sector,
                        derived[usize::from(slot)],
                        self.now,
                        "the last look",
                    );
                }
            }
            if self.geometry.kind() == Kind::Mirrored {
                let mut copies = readable.iter().map(|slot| tokens[usize::from(slot)]);
                let first = copies.next();
                agrees = copies.all(|copy| Some(copy) == first);
            }
            let copies = self.differing_copies(&places, row, readable, &Agreed::ALL, &holes);
            agrees &= copies.is_none();
            if !agrees && !needs_resync && !self.loose.contains(&row) {
                let text = format!("row {row}: {}", crate::io::show(&tokens));
                self.violate("redundancy agrees when everything has come to rest", text);
            }
            if self.report.violation.is_some() {
                return;
            }
        }
        self.check_written(readable);
    }

    /// What the disks say at the end is what is known in memory.
    fn check_written(&mut self, readable: Mask) {
        if self.worker.is_unwritten() || readable.is_empty() {
            return;
        }
        let format = crate::setup::format_of(&self.history.config);
        let here: Vec<usize> = self
            .devices
            .iter()
            .copied()
            .flatten()
            .filter(|&disk| self.disks[disk].answers())
            .collect();
        let images: Vec<_> = here
            .iter()
            .filter_map(|&disk| self.look_at(disk).ok()?)
            .collect();
        let seen: Vec<_> = images.iter().map(|seen| &seen.image).collect();
        let made = format.assemble(&seen);
        self.have_seen(images);
        let read = match made {
            Ok(set) => set,
            Err(why) => {
                return self.violate(
                    "metadata reads back to a legal state",
                    format!("at the end: {why}"),
                );
            }
        };
        let Some(volume) = read.set().volume(0) else {
            return self.violate(
                "metadata reads back to a legal state",
                "at the end the volume is gone".into(),
            );
        };
        let mut in_sync = Mask::EMPTY;
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            if member.state == MemberState::InSync {
                in_sync = in_sync.with(slot);
            }
        }
        // Of disks that do not answer nothing can be read.
        let memory = self.model_in_sync(None).iter().filter(|&slot| {
            let disk = self
                .disk_in(slot)
                .and_then(|disk| *self.devices.get(usize::from(disk))?);
            disk.is_some_and(|disk| self.disks[disk].answers())
        });
        let memory = memory.fold(Mask::EMPTY, Mask::with);
        let clean = volume.consistency;
        let known = self
            .set
            .as_ref()
            .and_then(|set| set.set().volume(0))
            .map(|volume| volume.consistency);
        // Formats that do not tell a resync from an initialisation mean the same by both: everything.
        let kind = |consistency| match consistency {
            Consistency::Initialising { done_sectors: 0 } => Consistency::Dirty,
            Consistency::Initialising { .. } => Consistency::Initialising { done_sectors: 1 },
            other => other,
        };
        let same_kind = known.is_some_and(|known| kind(known) == kind(clean));
        // A member that was lost beyond redundancy is not recorded, so memory counts, not the array.
        if in_sync != memory || !same_kind {
            let text = format!(
                "at the end the disks say {:b} in sync, {clean:?}; memory says {:b}, {known:?}; the array reads {:b}",
                in_sync.0, memory.0, readable.0
            );
            self.violate("metadata reads back to a legal state", text);
        }
    }
}

/// Where redundancy agrees, it says: sectors of each member, of the volume for copies.
struct Agreed {
    /// Below this mark.
    below: u64,
    /// And in regions of this length that are not dirty.
    region_sectors: u64,
    dirty: Vec<bool>,
}

impl Agreed {
    const ALL: Self = Self {
        below: u64::MAX,
        region_sectors: 1,
        dirty: Vec::new(),
    };

    fn of(consistency: Consistency, regions: Option<&RegionLog>) -> Self {
        let below = match consistency {
            Consistency::Clean => u64::MAX,
            Consistency::Dirty => 0,
            Consistency::Initialising { done_sectors } => done_sectors,
        };
        let regions = regions.filter(|_| consistency == Consistency::Dirty);
        Self {
            below,
            region_sectors: regions.map_or(1, |log| log.region_sectors),
            dirty: regions.map_or(Vec::new(), |log| {
                (0..log.regions).map(|of| log.is_dirty(of)).collect()
            }),
        }
    }

    fn has(&self, sector: u64) -> bool {
        let region = (sector / self.region_sectors) as usize;
        sector < self.below || self.dirty.get(region) == Some(&false)
    }
}

/// Whether a sector of a member is known to be bad.
fn is_hole(holes: &[BadSpot], slot: Slot, row: u64) -> bool {
    holes
        .iter()
        .any(|bad| bad.slot == slot && bad.first <= row && row < bad.first + bad.sectors)
}

/// Copies are compared when they are all in sync, or being rebuilt below the mark.
fn consistent_rebuild(in_sync: Mask, right: Mask) -> bool {
    !in_sync.is_empty() && right.len() >= 2
}
