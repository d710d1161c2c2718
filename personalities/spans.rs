// SPDX-License-Identifier: GPL-2.0

//! Two levels: a volume striped over several spans of the same shape (RAID 50, RAID 60).
//!
//! A span has its own members and its own stripes. The volume takes one full stripe of data of each
//! span in turn, as LSI's controllers do; so the stripes of all spans have one order, and
//! [`Geometry`](super::Geometry) needs no second level: stripe `inner × spans + span` is stripe
//! `inner` of that span. Slots are `span × members + position`.

use super::{Health, Mask};
use crate::model::{Shape, MEMBERS_MAX};

/// Members of span `span` among `members`, moved to slots 0 and up.
#[inline]
fn of_span(shape: &Shape, span: u16, members: Mask) -> Mask {
    let first = u32::from(span) * u32::from(shape.members);
    Mask(members.0.checked_shr(first).unwrap_or(0)).intersect(Mask::all(shape.members))
}

/// The health of the worst span; `health` is that of one, of whose slots those given are in sync.
pub(super) fn worst(shape: &Shape, in_sync: Mask, health: impl Fn(Mask) -> Health) -> Health {
    // No more spans than members, whatever the shape says.
    (0..shape.spans)
        .take(MEMBERS_MAX)
        .map(|span| health(of_span(shape, span, in_sync)))
        .max_by_key(|health| match health {
            Health::Optimal => 0,
            Health::PartiallyOptimal => 1,
            Health::Degraded => 2,
            Health::Failed => 3,
        })
        .unwrap_or(Health::Failed)
}
