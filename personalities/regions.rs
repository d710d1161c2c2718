// SPDX-License-Identifier: GPL-2.0

//! Which regions of an array may have writes in flight: what the metadata says, what writes want, and
//! what was written lately.
//!
//! A write goes on when the metadata has all its regions marked (`recorded`): that costs a load for
//! each. Else it wants them (`wanted`) and waits until the set's worker has recorded them. A *sweep*
//! takes back the marks of regions that no write touched for a while (`leaving`); the metadata hears of it
//! afterwards, which may take its time. A region that is written meanwhile is recorded anew and leaves no
//! more. So the metadata always has at least the regions with writes in flight.
//!
//! Any number of writers call [`Regions::admit`] at once; all else is for the set's worker, one call at
//! a time, in the order in which it writes the metadata.
//!
//! # Why no region with a write in flight is taken back
//!
//! Writes are counted in rounds ([`Writers`](super::writers::Writers)), and note in `touched` of their round what they write.
//! A sweep comes when all writes of the former round have ended, so what is in flight has noted it in the present one, or is
//! about to. A write notes first and looks at `recorded` then; a sweep takes out of `recorded` first and looks at `touched`
//! then (and puts it back). All of that is sequentially consistent: either the write sees that its region is not recorded,
//! and wants it, or the sweep sees that it was touched. What a write finds noted already counts as if it had noted it, as
//! `touched` of a round is emptied before the round begins, and then only while no write is in flight.

use super::{Geometry, Kind};
use crate::model::{Checked, RegionLog};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;

/// Wanted regions that are this near each other are recorded together, with those in between.
const GAP: u32 = 8;

/// One bit a region.
struct Bits(KVec<AtomicU64>);

impl Bits {
    fn new(regions: u32) -> Result<Self> {
        let words = regions.div_ceil(64) as usize;
        let mut bits = KVec::with_capacity(words, GFP_KERNEL)?;
        for _ in 0..words {
            bits.push(AtomicU64::new(0), GFP_KERNEL)?;
        }
        Ok(Self(bits))
    }

    fn place(&self, region: u32) -> Option<(&AtomicU64, u64)> {
        Some((self.0.get((region / 64) as usize)?, 1 << (region % 64)))
    }

    fn has(&self, region: u32) -> bool {
        self.place(region)
            .is_some_and(|(word, bit)| word.load(Ordering::SeqCst) & bit != 0)
    }

    fn set(&self, region: u32) {
        if let Some((word, bit)) = self.place(region) {
            // Mostly it is set already; then the cache line stays shared.
            if word.load(Ordering::SeqCst) & bit == 0 {
                word.fetch_or(bit, Ordering::SeqCst);
            }
        }
    }

    fn clear(&self, region: u32) {
        if let Some((word, bit)) = self.place(region) {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    fn clear_all(&self) {
        for word in self.0.iter() {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// The first set one from `from` on.
    fn next(&self, from: u32) -> Option<u32> {
        let mut mask = u64::MAX << (from % 64);
        let mut start = from & !63;
        for word in self.0.get((from / 64) as usize..)? {
            let word = word.load(Ordering::Acquire) & mask;
            if word != 0 {
                return start.checked_add(word.trailing_zeros());
            }
            mask = u64::MAX;
            start = start.saturating_add(64);
        }
        None
    }

    /// Takes out a stretch of set ones, with gaps of less than `gap`.
    fn take_stretch(&self, gap: u32) -> Option<(u32, u32)> {
        let first = self.next(0)?;
        let mut last = first;
        self.clear(first);
        while let Some(next) = self.next(last.saturating_add(1)) {
            if next.saturating_sub(last) > gap {
                break;
            }
            self.clear(next);
            last = next;
        }
        Some((first, last.saturating_sub(first).saturating_add(1)))
    }
}

/// The regions of an array.
///
/// # Invariants
///
/// No region is in `recorded` and in `leaving` once the worker's call is over.
pub struct Regions {
    /// log2 of a region's sectors (in the space in which syncs count).
    shift: u32,
    count: u32,
    recorded: Bits,
    /// In even rounds, and in odd ones.
    touched: [Bits; 2],
    wanted: Bits,
    leaving: Bits,
    someone_wants: AtomicBool,
}

impl Regions {
    /// As the metadata has them. Allocates; fails with `ENOMEM` only.
    pub fn new(log: &RegionLog) -> Checked<Self> {
        let recorded = Bits::new(log.regions)?;
        for region in 0..log.regions {
            if log.is_dirty(region) {
                recorded.set(region);
            }
        }
        Ok(Self {
            shift: log.region_sectors.trailing_zeros(),
            count: log.regions,
            recorded,
            touched: [Bits::new(log.regions)?, Bits::new(log.regions)?],
            wanted: Bits::new(log.regions)?,
            leaving: Bits::new(log.regions)?,
            someone_wants: AtomicBool::new(false),
        })
    }

    /// First and last region that a write touches.
    fn of(&self, geometry: &Geometry, sector: u64, sectors: u32) -> (u32, u32) {
        let last_sector = sector.saturating_add(u64::from(sectors.max(1)) - 1);
        let mark = |sector: u64, end: bool| match geometry.kind() {
            Kind::Parity => {
                let stripe = geometry.locate(sector).stripe;
                let chunk = u64::from(geometry.chunk_sectors());
                let more = if end { chunk.saturating_sub(1) } else { 0 };
                geometry.row_mark(stripe).saturating_add(more)
            }
            // Sectors of the volume, which are those of each member of a mirror.
            _ => sector,
        };
        let region = |mark: u64| {
            u32::try_from(mark.wrapping_shr(self.shift))
                .unwrap_or(u32::MAX)
                .min(self.count.saturating_sub(1))
        };
        (region(mark(sector, false)), region(mark(last_sector, true)))
    }

    fn touched(&self, in_odd_round: bool) -> &Bits {
        let [even, odd] = &self.touched;
        match in_odd_round {
            false => even,
            true => odd,
        }
    }

    /// Whether a write may go on as far as its regions go; else they are wanted from now on. It is counted, in an odd
    /// round or an even one.
    pub fn admit(
        &self,
        geometry: &Geometry,
        sector: u64,
        sectors: u32,
        in_odd_round: bool,
    ) -> bool {
        let (first, last) = self.of(geometry, sector, sectors);
        let touched = self.touched(in_odd_round);
        let mut all = true;
        for region in first..=last {
            // In this order: see above.
            touched.set(region);
            if !self.recorded.has(region) {
                self.wanted.set(region);
                all = false;
            }
        }
        if !all {
            self.someone_wants.store(true, Ordering::Release);
        }
        all
    }

    /// Whether writes wait for regions.
    pub fn are_wanted(&self) -> bool {
        self.someone_wants.load(Ordering::Acquire)
    }

    /// Regions to be recorded next: first and how many.
    pub fn take_wanted(&self) -> Option<(u32, u32)> {
        // Whoever wants more from here on sets it again.
        self.someone_wants.store(false, Ordering::Release);
        let wanted = self.wanted.take_stretch(GAP);
        if self.wanted.next(0).is_some() {
            self.someone_wants.store(true, Ordering::Release);
        }
        wanted
    }

    /// The metadata has these. The present round is an odd one, or an even one.
    pub fn recorded(&self, first: u32, count: u32, is_odd_round: bool) {
        for region in first..first.saturating_add(count).min(self.count) {
            // Before the first write to it goes on: it does not leave with what an earlier sweep left.
            self.leaving.clear(region);
            // So that the next sweep leaves it, whether its write has come or not.
            self.touched(is_odd_round).set(region);
            self.recorded.set(region);
        }
    }

    /// The metadata calls regions clean that were recorded, as redundancy agrees and no write was in flight: what `log` does not
    /// have counts as recorded no more, so that the next write to it has it recorded anew.
    pub fn follow(&self, log: &RegionLog) {
        let mut from = 0;
        while let Some(region) = self.recorded.next(from).filter(|&at| at < self.count) {
            from = region.saturating_add(1);
            if !log.is_dirty(region) {
                self.recorded.clear(region);
            }
        }
    }

    /// The metadata could not take them; they are wanted still.
    pub fn not_recorded(&self, first: u32, count: u32) {
        for region in first..first.saturating_add(count).min(self.count) {
            self.wanted.set(region);
        }
        self.someone_wants.store(true, Ordering::Release);
    }

    /// Takes back what was not touched in the present round, below `synced` (in the space in which syncs count). All writes
    /// of the former round have ended; others may come at any time.
    pub fn sweep(&self, is_odd_round: bool, synced: u64) {
        let touched = self.touched(is_odd_round);
        self.take_back(synced, |region| touched.has(region));
    }

    /// Takes back everything, below `synced`. No write is in flight, and none comes.
    pub fn sweep_all(&self, synced: u64) {
        self.take_back(synced, |_| false);
        for touched in &self.touched {
            touched.clear_all();
        }
    }

    fn take_back(&self, synced: u64, is_touched: impl Fn(u32) -> bool) {
        let mut from = 0;
        while let Some(region) = self.recorded.next(from).filter(|&at| at < self.count) {
            from = region.saturating_add(1);
            let end = u64::from(from).wrapping_shl(self.shift);
            if end > synced || is_touched(region) {
                continue;
            }
            self.recorded.clear(region);
            if is_touched(region) {
                // A write came in between. It goes on; or it has seen that, and waits until the region is recorded anew.
                self.recorded.set(region);
                continue;
            }
            self.leaving.set(region);
        }
    }

    /// A round is going to begin: nothing was touched in it yet.
    pub fn round_begins(&self, is_odd_round: bool) {
        self.touched(is_odd_round).clear_all();
    }

    /// Whether there are regions that the metadata is to hear are clean.
    pub fn are_leaving(&self) -> bool {
        self.leaving.next(0).is_some()
    }

    /// Regions that the metadata is to hear are clean: first and how many. What was written in them has
    /// to be on the media by then.
    pub fn take_leaving(&self) -> Option<(u32, u32)> {
        self.leaving.take_stretch(1)
    }

    /// The first mark from `mark` on that is in a region which may disagree; `None`: there is none.
    pub fn next_dirty(&self, mark: u64) -> Option<u64> {
        let region = u32::try_from(mark.wrapping_shr(self.shift)).ok()?;
        let next = self.recorded.next(region).filter(|&at| at < self.count)?;
        Some(mark.max(u64::from(next).wrapping_shl(self.shift)))
    }
}
