// SPDX-License-Identifier: GPL-2.0

//! The other kind of log: a row of headers, as other drivers keep it too (PPL; `metadata/ppl.rs` has its bytes). Whoever
//! reads it goes by the newest header of each member alone. So:
//!
//! * A member's next header is written only when all that the one before tells of is through, and flushed where
//!   members have volatile caches. Each header here has one entry: one write at a time for each member's
//!   parity.
//! * Every write whose parity is written has an entry, also those of whole lanes: who replays the log may call
//!   the volume clean then.
//!
//! So at any moment the newest whole header of a member is that of the write under way, or of one that is durable;
//! and replaying the latter changes nothing, as no lane with its parity there was written since. An operation
//! that loses a member on its way logs anew, over its own entry: both have the same columns, and what either sums up
//! is left alone.

use super::{Refusal, SECTORS_MAX, UNIT_SECTORS};
use crate::model::{Checked, LoggedWrite, Slot};
use crate::personalities::{Geometry, Mask};
use crate::reason;
use kernel::prelude::*;

/// Sectors of a header.
pub const HEADER_SECTORS: u32 = 8;

/// Least length of a row: the largest entry, and behind it a place where the next header could be.
pub const SECTORS_MIN: u32 = 2 * HEADER_SECTORS + SECTORS_MAX + UNIT_SECTORS;

/// Where a header was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowPlace {
    /// Later ones have higher numbers.
    pub generation: u64,
    /// Its sector in the row; the sum is behind it.
    pub sector: u32,
}

/// What became of what the last header was written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Last {
    /// There is none.
    None,
    /// It is not through.
    UnderWay(u64),
    /// It is; this flush makes it durable.
    Done(u64),
}

/// The row of one member.
#[derive(Debug)]
pub struct Row {
    sectors: u32,
    next: u32,
    generation: u64,
    last: Last,
}

impl Row {
    /// A row of `sectors`, which has the empty header of generation 0 at its start. `ENOSPC` when the largest entry
    /// does not fit.
    pub fn new(sectors: u32) -> Checked<Self> {
        if sectors < SECTORS_MIN {
            return Err(reason!(
                ENOSPC,
                "a log of {sectors} sectors is too small: it takes {SECTORS_MIN}"
            ));
        }
        Ok(Self {
            // md uses whole units only.
            sectors: sectors - sectors % UNIT_SECTORS,
            next: HEADER_SECTORS,
            generation: 0,
            last: Last::None,
        })
    }

    /// Whether [`Row::place`] would find room.
    pub fn has_room(&self, flushed: u64, own: Option<RowPlace>) -> Result<(), Refusal> {
        match self.last {
            Last::UnderWay(generation) if own.is_none_or(|own| own.generation != generation) => {
                Err(Refusal::Busy)
            }
            Last::Done(flush) if flush > flushed => Err(Refusal::Unflushed),
            _ => Ok(()),
        }
    }

    /// Puts a header with a sum of `sectors` (0: none) behind the last one. `flushed` is the last flush that came to
    /// its end; `own`, the last header of who asks, if that was here.
    pub fn place(
        &mut self,
        sectors: u32,
        flushed: u64,
        own: Option<RowPlace>,
    ) -> Result<RowPlace, Refusal> {
        self.has_room(flushed, own)?;
        let len = HEADER_SECTORS.saturating_add(sectors.min(SECTORS_MAX));
        // md looks for a header in all but the last unit, and where it stops because the row ends, not because there is no
        // newer one, it looks for the sums in the wrong place (`ppl_load_distributed`). So there is always room for one more.
        let end = self.next.saturating_add(len).saturating_add(HEADER_SECTORS);
        if end >= self.sectors {
            self.next = 0;
        }
        self.generation = self.generation.saturating_add(1);
        let place = RowPlace {
            generation: self.generation,
            sector: self.next,
        };
        self.next = self.next.saturating_add(len);
        self.last = Last::UnderWay(place.generation);
        Ok(place)
    }

    /// What it was written for is through; flush number `flush` makes it durable.
    pub fn done(&mut self, place: RowPlace, flush: u64) {
        if self.last == Last::UnderWay(place.generation) {
            self.last = Last::Done(flush);
        }
    }

    /// The member is another one now, with an empty header at its start.
    pub fn clear(&mut self) {
        (self.next, self.generation, self.last) = (HEADER_SECTORS, 0, Last::None);
    }
}

/// What the entry for a write to `sectors` columns from `column` of a stripe says, of which the sum, if there is one,
/// has the data of `covers`; for the log of the member in `slot`. What is not in the sum counts as written. When that is
/// no row of chunks that follow one another, there is no sum, and all data counts as written: parity is worked
/// out from data then, if all of that is there.
pub fn logged(
    geometry: &Geometry,
    stripe: u64,
    (column, sectors): (u32, u32),
    covers: Option<Mask>,
    slot: Slot,
) -> LoggedWrite {
    let data = geometry.data_members();
    let (first, count, has_sum) = covers
        .and_then(|covers| run_of(geometry, stripe, covers))
        .map_or((0, data, false), |(first, count)| (first, count, true));
    let chunk = u64::from(geometry.chunk_sectors());
    LoggedWrite {
        slot,
        first_sector: geometry
            .stripe_start(stripe)
            .saturating_add(u64::from(first).saturating_mul(chunk))
            .saturating_add(u64::from(column)),
        data_sectors: u32::from(count).saturating_mul(sectors),
        sum_sectors: if has_sum { sectors } else { 0 },
        sum_start: 0,
    }
}

/// Whether data members of a stripe have chunks that follow one another.
pub fn is_run(geometry: &Geometry, stripe: u64, written: Mask) -> bool {
    let covers = geometry.roles(stripe).data.minus(written);
    run_of(geometry, stripe, covers).is_some()
}

/// First and number of the data chunks of a stripe that are not in `covers`, if they follow one another, and there are
/// some.
fn run_of(geometry: &Geometry, stripe: u64, covers: Mask) -> Option<(u16, u16)> {
    let written = geometry.roles(stripe).data.minus(covers);
    let mut run: Option<(u16, u16)> = None;
    for index in 0..geometry.data_members() {
        if !written.contains(geometry.data_slot(stripe, index)) {
            continue;
        }
        run = match run {
            None => Some((index, 1)),
            Some((first, count)) if first + count == index => Some((first, count + 1)),
            Some(_) => return None,
        };
    }
    run
}
