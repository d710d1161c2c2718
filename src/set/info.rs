// SPDX-License-Identifier: GPL-2.0

//! What people are told of sets.

use super::bad::WITHHELD;
use super::fill::being_filled;
use super::managed::ManagedSet;
use super::state::Inner;
use crate::array::Scope;
use crate::model::{Checked, Text, VolumeIndex};
use crate::personalities::ranges::{self, PageEnd, PageStart};
use crate::reason;
use crate::uapi::{
    AccessKind, DevNumber, MismatchesReply, MismatchesRequest, RangeInfo, SetInfo, TaskInfo,
    TaskKind, TaskState, VolumeInfo,
};
use kernel::prelude::*;

impl ManagedSet {
    /// The set as it is now; `None` while its disks make no set. Allocates.
    #[inline(never)]
    pub fn info(&self) -> Checked<Option<SetInfo>> {
        let inner = self.lock();
        let Some(set) = inner.model() else {
            return Ok(None);
        };
        let mut info = SetInfo::from_model(set, &DevNumber::from_wire)?;
        if let Some(why) = &inner.why {
            info.notes.push(Text::from_text(why.text()), GFP_KERNEL)?;
        }
        for disk in info.disks.iter_mut() {
            if let Some(device) = inner.device(disk.index) {
                (disk.read_errors, disk.write_errors) = device.errors();
            }
        }
        for volume in info.volumes.iter_mut() {
            complete(&inner, volume, self.keeper_is_busy());
        }
        Ok(Some(info))
    }

    /// A page of the places of a volume that did not agree. Allocates. `ENODEV` while it is not started.
    #[inline(never)]
    pub fn mismatches(
        &self,
        volume: VolumeIndex,
        request: &MismatchesRequest,
    ) -> Checked<MismatchesReply> {
        let mut page = ranges::room(request.most as usize)?;
        let end = {
            let inner = self.lock();
            let running = inner.running(volume);
            running.map(|running| running.array.mismatches(request.start, &mut page))
        };
        let PageEnd {
            next,
            left,
            lost_some,
        } = end.ok_or_else(|| reason!(ENODEV, "the volume is not started"))?;
        let mut reply = MismatchesReply {
            ranges: KVVec::with_capacity(page.len(), GFP_KERNEL)?,
            next,
            left: u32::try_from(left).unwrap_or(u32::MAX),
            lost_some,
        };
        for &range in page.iter() {
            reply.ranges.push(range.into(), GFP_KERNEL)?;
        }
        Ok(reply)
    }
}

/// Adds to a volume what the model does not know.
#[inline(never)]
fn complete(inner: &Inner, volume: &mut VolumeInfo, keeper_is_busy: bool) {
    volume.state = inner.volume_state(volume.index);
    let Some(entry) = inner.entries.get(usize::from(volume.index)) else {
        return;
    };
    if entry.filling {
        volume.reason = Text::from_text(being_filled().text());
    }
    match (&entry.running, &entry.why) {
        (Some(running), _) => {
            fill(volume, running);
            if let Some(slot) = running.withheld.first() {
                volume.reason =
                    Text::from_fmt(format_args!("the member in slot {slot} {WITHHELD}"));
            }
            if volume.task.is_none() {
                volume.task = waiting(inner, volume, keeper_is_busy);
            }
        }
        (None, Some(why)) => {
            if volume.reason.is_empty() {
                volume.reason = Text::from_text(why.text());
            }
            if why.errno() == EOPNOTSUPP {
                volume.access = AccessKind::Refused;
            }
        }
        (None, None) => {}
    }
}

#[inline(never)]
fn fill(volume: &mut VolumeInfo, running: &super::state::Running) {
    volume.number = Some(running.number.get());
    let (read_errors, write_errors) = running.array.errors();
    volume.read_errors = read_errors;
    volume.write_errors = write_errors;
    volume.limits = running.array.limits_in_force();
    if let Ok(mut first) = ranges::room(ranges::RANGES_FEW) {
        let end = running.array.mismatches(PageStart::default(), &mut first);
        volume.mismatches_lost = end.lost_some || end.left > 0;
        for &range in first.iter() {
            if volume
                .mismatches
                .push(RangeInfo::from(range), GFP_KERNEL)
                .is_err()
            {
                volume.mismatches_lost = true;
            }
        }
    }
    let Some(status) = running.array.task() else {
        return;
    };
    let state = if status.paused {
        TaskState::Paused
    } else {
        TaskState::Running
    };
    volume.task = Some(TaskInfo {
        kind: status.kind,
        state,
        done_sectors: status.done_sectors,
        total_sectors: status.total_sectors,
        rate_kib: status.rate_kib,
        eta_seconds: status.eta_seconds,
        mismatch_sectors: status.mismatch_sectors,
    });
    for member in volume.members.iter_mut() {
        if let crate::model::MemberState::Rebuilding { done_sectors } = &mut member.state {
            if status.pass.marked.contains(member.slot) {
                *done_sectors = status.done_sectors.max(*done_sectors);
            }
        }
    }
}

/// The task that is due, and waits for one on the same disks, or for the keeper to start it; or one that has ended and is
/// not recorded yet: what comes after it is not known before.
#[inline(never)]
fn waiting(inner: &Inner, volume: &VolumeInfo, keeper_is_busy: bool) -> Option<TaskInfo> {
    let running = inner.running(volume.index)?;
    let finished = running.array.finished();
    let finished = finished.filter(|result| result.scope != Scope::Repairs);
    if finished.is_none() && !inner.has_room_for_task(volume.index) {
        return None;
    }
    let needed = inner.task_needed(volume.index);
    let (kind, done_sectors) = match (finished, needed) {
        (Some(result), _) => (result.kind, result.done_sectors),
        (None, Some((kind, pass))) => (kind, pass.from_sectors),
        (None, None) if inner.awaits_rebuild(volume.index, keeper_is_busy) => {
            (TaskKind::Rebuild, 0)
        }
        (None, None) => {
            let asked = running.asked?;
            (asked.kind, asked.from_sectors)
        }
    };
    let state = match finished.is_none() && running.paused == Some(kind) {
        true => TaskState::Paused,
        false => TaskState::Waiting,
    };
    let geometry = running.array.geometry();
    let total_sectors = match kind {
        TaskKind::Rebuild => geometry.used_member_sectors(),
        _ => geometry.sync_sectors(),
    };
    Some(TaskInfo {
        kind,
        state,
        done_sectors: done_sectors.min(total_sectors),
        total_sectors,
        rate_kib: 0,
        eta_seconds: None,
        mismatch_sectors: 0,
    })
}
