// SPDX-License-Identifier: GPL-2.0

//! From the members' states to the volume's: optimal, partially optimal, degraded, failed.

use super::info::VolumeState;
use crate::model::{Layout, Level, Member, MemberState, Shape, Volume};

/// State of `volume`, going by its members: the worst of its spans'.
pub fn of(volume: &Volume) -> VolumeState {
    let per_span = usize::from(volume.shape.members).max(1);
    let mut worst = VolumeState::Optimal;
    for span in volume.members.chunks(per_span) {
        let state = of_span(&volume.shape, span);
        if state.code() > worst.code() {
            worst = state;
        }
    }
    worst
}

fn works(member: &Member) -> bool {
    matches!(member.state, MemberState::InSync)
}

/// State of one span. A member that is being rebuilt counts as lost: part of it is.
fn of_span(shape: &Shape, members: &[Member]) -> VolumeState {
    if members.iter().all(works) {
        return VolumeState::Optimal;
    }
    // How many more losses the weakest place bears; `None`: one too many happened there already.
    let spare = match shape.level {
        Level::Concat | Level::Raid0 => None,
        Level::Raid1 => count_left(members, members.len()),
        Level::Raid4 | Level::Raid5 | Level::Raid6 => {
            let lost = members.iter().filter(|m| !works(m)).count();
            usize::from(shape.level.parity_members()).checked_sub(lost)
        }
        Level::Raid1e | Level::Raid10 => weakest_mirror(shape.layout, members),
    };
    match spare {
        None => VolumeState::Failed,
        Some(0) => VolumeState::Degraded,
        Some(_) => VolumeState::PartiallyOptimal,
    }
}

/// Of the first `copies` members: how many may still be lost.
fn count_left(members: &[Member], copies: usize) -> Option<usize> {
    members
        .iter()
        .take(copies)
        .filter(|m| works(m))
        .count()
        .checked_sub(1)
}

/// Copies of a chunk are on `copies` neighbours, cyclically. With the near layout the groups
/// start at every `copies`-th place of the endless row of members; with far and offset at every
/// member. The weakest group decides.
fn weakest_mirror(layout: Layout, members: &[Member]) -> Option<usize> {
    let (copies, step) = match layout {
        Layout::Near(copies) => (usize::from(copies), usize::from(copies)),
        Layout::Far(copies) | Layout::Offset(copies) => (usize::from(copies), 1),
        Layout::Plain | Layout::Parity(_) => (2, 2),
    };
    let total = members.len();
    if total == 0 || copies == 0 {
        return None;
    }
    let mut weakest = usize::MAX;
    let mut first = 0usize;
    // After `total` groups every start that the step can reach has been seen.
    for _ in 0..total {
        let group = members.iter().cycle().skip(first).take(copies.min(total));
        let left = group.filter(|m| works(m)).count().checked_sub(1)?;
        weakest = weakest.min(left);
        first = (first + step) % total;
    }
    Some(weakest)
}
