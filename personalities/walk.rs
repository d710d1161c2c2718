// SPDX-License-Identifier: GPL-2.0

//! The way of a task over an array: lane after lane, and which mark belongs to how far it got.
//!
//! A sync (initialise, resync, check, repair) goes over rows in their order; its marks count in the
//! space of [`Geometry::sync_sectors`]. A rebuild's marks count sectors of the member: where a row is
//! at the same sectors of every member that is the same walk; where copies are not side by side
//! (RAID 10, 1E) it goes over the rows of the members being filled.

use super::{Geometry, Kind, Mask};
use crate::model::Slot;
use core::num::{NonZeroU32, NonZeroU64};

/// A piece of a task: part of one row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkLane {
    /// The row: [`super::Place::stripe`]; of a mirror or concatenation, the lane's own number.
    pub stripe: u64,
    /// First sector within the row's part of a member.
    pub column: u32,
    /// Length; never 0.
    pub sectors: u32,
    /// Members to fill; empty in a sync.
    pub targets: Mask,
}

/// Which part of a lane's sectors is of each member, on average: `of` of `among`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Members that a lane is of.
    pub of: u32,
    /// Members that lanes are of in turn; never 0.
    pub among: NonZeroU32,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self {
        of: 1,
        among: NonZeroU32::MIN,
    };
}

/// A walk over all lanes of an array. Small, and copied freely.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    geometry: Geometry,
    targets: Mask,
    lane_sectors: u32,
    /// Sectors of a row on a member.
    unit: u32,
    /// Lanes that stand for one `unit` of progress: of a row, or of one target's row.
    per_row: NonZeroU64,
    rows: u64,
}

impl Walk {
    /// The way of a sync (`targets` empty) or of a rebuild, in lanes of `lane_sectors` (not 0).
    pub fn new(geometry: &Geometry, targets: Mask, lane_sectors: u32) -> Self {
        let unit = match geometry.kind() {
            Kind::Parity | Kind::Copies | Kind::Striped => geometry.chunk_sectors(),
            Kind::Mirrored | Kind::Concat => lane_sectors,
        };
        let rows = match geometry.kind() {
            Kind::Copies if !targets.is_empty() => geometry
                .used_member_sectors()
                .div_ceil(u64::from(unit.max(1)))
                .saturating_mul(u64::from(targets.len())),
            Kind::Parity | Kind::Copies | Kind::Striped => geometry.rows(),
            Kind::Mirrored | Kind::Concat => geometry
                .used_member_sectors()
                .div_ceil(u64::from(unit.max(1))),
        };
        let per_row = u64::from(unit.div_ceil(lane_sectors.max(1)));
        Self {
            geometry: *geometry,
            targets,
            lane_sectors: lane_sectors.max(1),
            unit: unit.max(1),
            per_row: NonZeroU64::new(per_row).unwrap_or(NonZeroU64::MIN),
            rows,
        }
    }

    /// Number of lanes.
    pub fn lanes(&self) -> u64 {
        self.rows.saturating_mul(self.per_row.get())
    }

    /// The mark at the end.
    pub fn length(&self) -> u64 {
        if self.targets.is_empty() {
            self.geometry.sync_sectors()
        } else {
            self.geometry.used_member_sectors()
        }
    }

    /// How much of each member it is that the mark moves on by `sectors`, on average: less where it counts sectors of
    /// the volume.
    pub fn of_each_member(&self, sectors: u64) -> u64 {
        if self.targets.is_empty() {
            self.geometry.sync_of_each_member(sectors)
        } else {
            sectors
        }
    }

    /// How much of each lane is of each member, as [`of_each_member`](Self::of_each_member) is of the marks.
    pub fn share(&self) -> Share {
        let shape = self.geometry.shape();
        let (of, among) = match self.geometry.kind() {
            // A lane for each target.
            Kind::Copies if !self.targets.is_empty() => (1, self.targets.len()),
            Kind::Copies => (
                u32::from(self.geometry.copies()),
                u32::from(self.geometry.members()),
            ),
            // Lanes of spans without a target are none.
            Kind::Parity if !self.targets.is_empty() => {
                let spans = 0..shape.spans;
                let has_target = |span: &u16| {
                    let first = span.saturating_mul(shape.members);
                    self.targets
                        .iter()
                        .any(|slot| (first..first.saturating_add(shape.members)).contains(&slot))
                };
                (1, spans.filter(has_target).count() as u32)
            }
            Kind::Parity => (1, u32::from(shape.spans)),
            Kind::Mirrored | Kind::Concat | Kind::Striped => (1, 1),
        };
        match NonZeroU32::new(among) {
            Some(among) => Share { of, among },
            None => Share::WHOLE,
        }
    }

    /// The mark when all lanes below `lane` are done: everything below it is. Rises with `lane`.
    pub fn mark(&self, lane: u64) -> u64 {
        if lane >= self.lanes() {
            return self.length();
        }
        let row = lane / self.per_row;
        let within = (lane % self.per_row).saturating_mul(u64::from(self.lane_sectors));
        let mark = match self.geometry.kind() {
            Kind::Mirrored | Kind::Concat => row.saturating_mul(u64::from(self.unit)),
            Kind::Copies if !self.targets.is_empty() => {
                let targets = u64::from(self.targets.len().max(1));
                let full = (row / targets).saturating_mul(u64::from(self.unit));
                // Further on all targets have to be through.
                if targets == 1 {
                    full.saturating_add(within)
                } else {
                    full
                }
            }
            _ => {
                let full = self.geometry.row_mark(row);
                // Rows of several spans share their mark.
                if self.geometry.shape().spans == 1 {
                    full.saturating_add(within)
                } else {
                    full
                }
            }
        };
        mark.min(self.length())
    }

    /// The first lane that is not needed to be through below `until`: with all lanes below it done, so is
    /// all below `until`. `None`: the number of lanes.
    pub fn end(&self, until: Option<u64>) -> u64 {
        let (mut low, mut high) = (0, self.lanes());
        let Some(until) = until else { return high };
        // `mark(high) ≥ until`, or there is no such lane.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.mark(middle) >= until {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        high
    }

    /// The lane to go on with when everything below `mark` is done: the first of those that share the
    /// highest mark that is not beyond.
    pub fn first(&self, mark: u64) -> u64 {
        let (mut low, mut high) = (0, self.lanes());
        // `mark(low) ≤ mark`; all above `high` are beyond.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.mark(middle) <= mark {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        // Lanes of several targets, or spans, share a mark: none of them is known to be done.
        let shared = self.mark(low);
        let (mut first, mut last) = (0, low);
        while first < last {
            let middle = first + (last - first) / 2;
            if self.mark(middle) < shared {
                first = middle + 1;
            } else {
                last = middle;
            }
        }
        last
    }

    /// The number of the lane that a column of a row is in, which [`lane`](Self::lane) turns back; `None`
    /// where a rebuild goes over the rows of the members being filled.
    pub fn lane_at(&self, stripe: u64, column: u32) -> Option<u64> {
        if self.geometry.kind() == Kind::Copies && !self.targets.is_empty() {
            return None;
        }
        let within = column.checked_div(self.lane_sectors)?;
        let first = stripe.checked_mul(self.per_row.get())?;
        first.checked_add(u64::from(within))
    }

    /// What lane number `lane` is; `None` when there is nothing to do in it.
    pub fn lane(&self, lane: u64) -> Option<WalkLane> {
        let row = lane / self.per_row;
        // Below `unit`, which is a u32.
        let column = ((lane % self.per_row) as u32).saturating_mul(self.lane_sectors);
        let mut sectors = self.unit.checked_sub(column)?.min(self.lane_sectors);
        let (stripe, targets) = match self.geometry.kind() {
            Kind::Copies if !self.targets.is_empty() => {
                let count = u64::from(self.targets.len());
                let nth = row.checked_rem(count)? as usize;
                let slot: Slot = self.targets.iter().nth(nth)?;
                let member_row = row.checked_div(count)?;
                let (stripe, _) = self
                    .geometry
                    .row_at(slot, member_row.checked_mul(u64::from(self.unit))?)?;
                (stripe, Mask::single(slot))
            }
            Kind::Mirrored | Kind::Concat => {
                let left = self
                    .geometry
                    .used_member_sectors()
                    .checked_sub(row.checked_mul(u64::from(self.unit))?)?;
                sectors = sectors.min(u32::try_from(left).unwrap_or(u32::MAX));
                (row, self.targets)
            }
            _ => {
                let own = self.geometry.roles(row).all().intersect(self.targets);
                if own.is_empty() && !self.targets.is_empty() {
                    // Another span's.
                    return None;
                }
                (row, own)
            }
        };
        if sectors == 0 {
            return None;
        }
        Some(WalkLane {
            stripe,
            column,
            sectors,
            targets,
        })
    }
}
