// SPDX-License-Identifier: GPL-2.0

//! Disks that came or went (`recorder.rs`, `discover.rs`).

use super::{Action, Step};
use crate::setup;
use crate::sim::Sim;
use emd_core::model::{DiskIndex, DiskOffer, DiskState, Event, Scrub, SpareRole};
use std::collections::BTreeSet;

impl Sim {
    /// Disks that came or went.
    pub(super) fn take_news(&mut self) -> bool {
        if self.set.is_none() {
            return false;
        }
        if let Some(disk) = self.worker.gone.pop_front() {
            let index = self.devices.iter().position(|device| *device == Some(disk));
            if let Some(index) = index {
                self.fail_on_array(index as DiskIndex);
                return self.record_gone(index as DiskIndex);
            }
            return false;
        }
        if let Some(disk) = self.worker.here.pop_front() {
            return self.take_back(disk);
        }
        if let Some(disk) = self.worker.blank.pop_front() {
            let offer = DiskOffer {
                facts: setup::facts(disk),
                role: SpareRole::Global,
            };
            return self.record_with(Event::DiskAdded(offer), disk, Vec::new());
        }
        self.grant()
    }

    pub(super) fn record_gone(&mut self, disk: DiskIndex) -> bool {
        self.worker.returned.remove(&disk);
        let state = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk(disk))
            .map(|disk| disk.state);
        if state.is_none_or(|state| state == DiskState::Missing)
            || self.worker.told_gone.contains(&disk)
        {
            return false;
        }
        if !self.bears_loss(disk) {
            self.worker.told_gone.insert(disk);
            return false;
        }
        let event = Event::DiskMissing(disk);
        self.worker.begin([Step::TryRecord(event)], Action::Nothing);
        true
    }

    /// `Inner::record_with`.
    pub(super) fn record_with(
        &mut self,
        event: Event<'static>,
        disk: usize,
        then: Vec<Step>,
    ) -> bool {
        if let Err(why) = self.apply(&event) {
            self.tell(|_| format!("   {event:?} is refused: {why}"));
            return false;
        }
        let index = self
            .set
            .as_ref()
            .and_then(|set| set.set().disk_by_key(disk as u64));
        let Some(index) = index else {
            self.violate(
                "formats keep to their contract",
                format!("{event:?}: the disk is not in the set"),
            );
            return false;
        };
        let index = usize::from(index);
        if self.devices.len() <= index {
            self.devices.resize(index + 1, None);
        }
        self.devices[index] = Some(disk);
        self.note_good(index as DiskIndex);
        self.worker.unfit.clear();
        self.worker.begin(then, Action::Nothing);
        self.carry_out(true, BTreeSet::new());
        true
    }

    /// A person wants a check.
    pub fn ask_check(&mut self, fix: bool) {
        self.worker.check = Some(Scrub {
            repairs: fix,
            done_sectors: 0,
        });
    }
}
