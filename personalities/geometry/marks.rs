// SPDX-License-Identifier: GPL-2.0

//! How much of the members a volume takes, and the marks of a sync: how far it came.

use super::{Geometry, Plan};
use crate::personalities::Kind;
use core::num::NonZeroU64;

impl Geometry {
    /// How much of each member the volume's data and parity take, from the member's start, in
    /// sectors: what a rebuild has to go over, and all of it that is used (with far copies there may
    /// be gaps). At most the shape's `member_sectors`.
    pub fn used_member_sectors(&self) -> u64 {
        let chunk_sectors = u64::from(self.shape.chunk_sectors);
        match &self.plan {
            Plan::Linear if self.kind == Kind::Mirrored => self.size_sectors,
            Plan::Linear => self.member_sectors.get().min(self.size_sectors),
            Plan::Striped | Plan::Parity(_) => self
                .rows
                .div_ceil(u64::from(self.spans.get()))
                .saturating_mul(chunk_sectors),
            Plan::Copies(copies) => copies.used_chunks(self.rows).saturating_mul(chunk_sectors),
        }
    }

    /// Length of the space in which marks of a sync count ([`Shape::syncs_by_volume`]): sectors of
    /// the volume for copies, sectors of each member otherwise.
    pub fn sync_sectors(&self) -> u64 {
        if self.shape.syncs_by_volume() {
            self.size_sectors
        } else {
            self.used_member_sectors()
        }
    }

    /// How much of each member a stretch of that space is, on average, in sectors.
    pub fn sync_of_each_member(&self, sectors: u64) -> u64 {
        if !self.shape.syncs_by_volume() {
            return sectors;
        }
        sectors
            .saturating_mul(u64::from(self.copies()))
            .checked_div(u64::from(self.members()))
            .unwrap_or(sectors)
    }

    /// The mark of a sync (see [`sync_sectors`](Self::sync_sectors)) when all stripes below `row`
    /// are done. With several spans, whose stripes are walked in turn, only what is done in all of
    /// them counts.
    pub fn row_mark(&self, row: u64) -> u64 {
        let end = self.sync_sectors();
        if row >= self.rows {
            return end;
        }
        self.rows_in_space(row)
            .saturating_mul(u64::from(self.chunk_sectors()))
            .min(end)
    }

    /// The first stripe that a sync with this mark may not have done: where it goes on.
    /// [`rows`](Self::rows) when there is none. Inverse of [`row_mark`](Self::row_mark), rounded down.
    pub fn row_from_mark(&self, mark_sectors: u64) -> u64 {
        if mark_sectors >= self.sync_sectors() {
            return self.rows;
        }
        if !self.has_chunks() {
            return 0;
        }
        mark_sectors
            .wrapping_shr(self.chunk_shift)
            .saturating_mul(u64::from(self.spans.get()))
            .min(self.rows)
    }

    /// Chunks of the space of sync marks that the stripes below `row` fill in all spans.
    fn rows_in_space(&self, row: u64) -> u64 {
        row / NonZeroU64::from(self.spans)
    }
}
