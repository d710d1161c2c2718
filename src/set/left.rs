// SPDX-License-Identifier: GPL-2.0

//! The log of partial parity as other drivers keep it: what it tells of is put right, and it is taken off, when a
//! person says so.
//!
//! ```text
//!  policy RESYNC, the volume is stopped ─► members that are not here recorded ─┐
//!   ┌───────────────────────────────────────────────────────────────────────────┘
//!   └─► due? logs read ─► stretches mended on the disks ─► flush ─► LeftLogOff on disk
//! ```
//!
//! Where EMD cannot keep such a log up, the volume is only read until then. Cut anywhere before the last step, it is all done again: mending
//! changes parity only, and what the log goes by is data that mending leaves alone.

use super::hole::{tell, Replay};
use super::managed::ManagedSet;
use super::start::Policy;
use super::state::Inner;
use crate::model::{Checked, Consistency, CrashPolicy, Event, LeftLog, Slot, VolumeIndex};
use crate::personalities::hole_log::left;
use crate::reason;
use kernel::prelude::*;

impl Inner {
    /// The log of another driver that a volume has.
    pub fn left_log(&self, volume: VolumeIndex) -> Option<LeftLog> {
        self.metadata.as_ref()?.left_log(volume)
    }

    /// Where such a log is on a member's disk: first sector and length; 0 when it is nowhere.
    fn left_log_place(&self, volume: VolumeIndex, slot: Slot) -> (u64, u64) {
        let metadata = self.metadata.as_ref();
        let place = metadata.and_then(|metadata| metadata.left_log_place(volume, slot));
        place.map_or((0, 0), |(first, sectors)| (first, u64::from(sectors)))
    }

    /// Gives a volume that does not run another policy for crashes.
    #[inline(never)]
    pub fn set_policy(
        &mut self,
        set: &ManagedSet,
        volume: VolumeIndex,
        policy: CrashPolicy,
    ) -> Checked {
        let event = match (self.left_log(volume), policy) {
            (Some(log), CrashPolicy::Resync) => self.settle_left_log(set, volume, log)?,
            // That is what it has.
            (Some(_), CrashPolicy::Log) => return Ok(()),
            _ => {
                self.check_log_over(volume, policy)?;
                Event::CrashPolicySet(volume, policy)
            }
        };
        self.record(&set.shared, &event)
    }

    /// Refuses to drop a log that the next start goes by.
    fn check_log_over(&self, volume: VolumeIndex, policy: CrashPolicy) -> Checked {
        let model = self.model().and_then(|set| set.volume(volume));
        let is_needed = model.is_some_and(|model| {
            model.crash_policy == CrashPolicy::Log && model.consistency == Consistency::Dirty
        });
        if is_needed && policy != CrashPolicy::Log && self.hole_params(volume).is_some() {
            return Err(reason!(
                EUCLEAN,
                "it was not stopped cleanly, and its log tells what was being written: start it once \
                 (emdadm scan) and stop it before"
            ));
        }
        Ok(())
    }

    /// Puts right what the log tells of; what is to be recorded then.
    #[inline(never)]
    fn settle_left_log(
        &mut self,
        set: &ManagedSet,
        volume: VolumeIndex,
        log: LeftLog,
    ) -> Checked<Event<'static>> {
        self.may_start(volume, Policy::ANY)?;
        // Who is not here now has another parity than the rest, and must not be one of them when it is back.
        self.record_absent(set, volume);
        let is_whole = !log.is_due || self.replay_row(volume, &mut None)?;
        if !is_whole {
            log!(
                pr_warn,
                "volume {}: its log does not tell all that was being written",
                volume
            );
        }
        let members = self
            .model()
            .and_then(|set| set.volume(volume))
            .map_or(0, |model| model.members.len() as u32);
        // With all members here a resync makes sure, as after every crash; without, there is nothing to compare.
        let is_degraded = self.usable(volume).len() < members;
        Ok(Event::LeftLogOff {
            volume,
            is_settled: log.is_due && is_whole && is_degraded,
        })
    }

    /// Replays the log; says whether it was all there. `refused` gets the member that does not take it, when that is why it fails: if
    /// all was there, so that its loss is borne.
    #[inline(never)]
    pub fn replay_row(&mut self, volume: VolumeIndex, refused: &mut Option<Slot>) -> Checked<bool> {
        let usable = self.usable(volume);
        let place = |inner: &Self, slot| inner.left_log_place(volume, slot);
        let mut replay = Replay::new(self, volume, usable, place)?;
        let mut is_whole = true;
        let mut area = KVVec::new();
        let mut writes = KVVec::new();
        for slot in replay.here().iter() {
            if !replay.read_ring(slot, &mut area)? {
                is_whole = false;
                continue;
            }
            let metadata = replay.inner.metadata.as_ref();
            is_whole &= match metadata {
                Some(metadata) => metadata.read_left_log(volume, slot, &area, &mut writes)?,
                None => false,
            };
        }
        let mut stretches = KVVec::new();
        for write in writes.iter() {
            is_whole &= left::stretches(&replay.geometry, write, &mut stretches)?;
        }
        let mended = replay.mend_all(&stretches);
        *refused = replay.refused.filter(|_| is_whole);
        mended?;
        tell(volume, stretches.len());
        Ok(is_whole)
    }
}

/// Why a volume that lacks members and whose log is damaged is not started.
pub fn not_all_told() -> crate::model::Reason {
    reason!(
        EUCLEAN,
        "degraded, and its log does not tell all that was being written: some of it may be wrong; \
         start it by force"
    )
}

/// Why a volume that lacks members and has such a log with writes in flight is not started.
pub fn in_doubt() -> crate::model::Reason {
    reason!(
        EUCLEAN,
        "degraded, and writes were in flight: its log tells of them, and \
         emdadm policy VOLUME resync puts them right"
    )
}
