// SPDX-License-Identifier: GPL-2.0

//! After a crash: what the log says is to be put right, and how.
//!
//! Nothing is read or written here. The caller reads the rings ([`entry::scan`](super::entry::scan)), has
//! [`plan`] pick the entries that count, and for each stretch reads the blocks and sums, calls [`mend`],
//! and writes the members that it names: parity, and members that are being rebuilt. That may be cut anywhere
//! and done again: data that is in use is never written.

use super::entry::{Found, Sum};
use super::{SECTORS_MAX, UNIT_SECTORS};
use crate::model::{Checked, Slot};
use crate::personalities::{gf256, Geometry, Kind, LaneRoles, Mask};
use crate::reason;
use kernel::prelude::*;

/// A sum, or part of one, in the ring of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumAt {
    /// The member.
    pub slot: Slot,
    /// Where in the ring the sum begins, in sectors; it goes on at the ring's start when it reaches the end. (May be
    /// the end itself.)
    pub start_sectors: u32,
    /// Sectors of the sum in front of the part.
    pub skip_sectors: u32,
}

/// Columns of a stripe in which a write may have been under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The stripe.
    pub stripe: u64,
    /// First column.
    pub column: u32,
    /// Length.
    pub sectors: u32,
    /// Data members in the sums.
    pub covers: Mask,
    /// The sum as P has it.
    pub p: Option<SumAt>,
    /// The sum as Q has it.
    pub q: Option<SumAt>,
}

/// The stretches to be mended, from all entries of a volume. `read` are the members whose rings could be
/// read. Sorts `found`. Allocates.
pub fn plan(geometry: &Geometry, found: &mut [Found], read: Mask) -> Checked<KVVec<Stretch>> {
    let lane_of = |found: &Found| (found.entry.stripe, found.entry.column / SECTORS_MAX);
    heap_sort(found, |one, other| {
        let newest_first = other.entry.number.cmp(&one.entry.number);
        lane_of(one).cmp(&lane_of(other)).then(newest_first).is_lt()
    });
    let mut stretches = KVVec::new();
    for lane in found.chunk_by(|one, other| lane_of(one) == lane_of(other)) {
        // Columns of the lane that a later entry was about.
        let mut claimed = 0u128;
        for together in lane.chunk_by(|one, other| one.entry.number == other.entry.number) {
            let Some(write) = Write::new(geometry, together, read) else {
                continue;
            };
            let mut free = write.columns & !claimed;
            claimed |= write.columns;
            while let (true, Some(whole)) = (free != 0, write.stretch) {
                let first = free.trailing_zeros();
                let run = (free >> first).trailing_ones();
                free &= !bits(first, run);
                stretches.push(whole.part(first, run), GFP_KERNEL)?;
            }
        }
    }
    Ok(stretches)
}

/// Sorts in place, without recursion; equal ones come in any order. (The sort of `core` panics when it finds the order to
/// be none; this one has no way to.)
fn heap_sort<T>(items: &mut [T], comes_before: impl Fn(&T, &T) -> bool) {
    let sift = |items: &mut [T], mut parent: usize| loop {
        let left = 2 * parent + 1;
        let Some(mut child) = items.get(left) else {
            return;
        };
        let mut at = left;
        if let Some(right) = items.get(left + 1) {
            if comes_before(child, right) {
                (child, at) = (right, left + 1);
            }
        }
        if items
            .get(parent)
            .is_none_or(|parent| !comes_before(parent, child))
        {
            return;
        }
        items.swap(parent, at);
        parent = at;
    };
    for parent in (0..items.len() / 2).rev() {
        sift(items, parent);
    }
    for last in (1..items.len()).rev() {
        items.swap(0, last);
        if let Some(heap) = items.get_mut(..last) {
            sift(heap, 0);
        }
    }
}

/// `count` bits from `first` on.
fn bits(first: u32, count: u32) -> u128 {
    let ones = match count {
        128.. => u128::MAX,
        _ => (1u128 << count) - 1,
    };
    ones.checked_shl(first).unwrap_or(0)
}

/// What the entries of one number say.
struct Write {
    /// Columns, a bit each from the lane's first on.
    columns: u128,
    /// What there is to mend, if anything.
    stretch: Option<Stretch>,
}

impl Write {
    /// `None` when these are no entries that EMD writes.
    fn new(geometry: &Geometry, together: &[Found], read: Mask) -> Option<Self> {
        let first = together.first()?.entry;
        let end = first.column.checked_add(first.sectors)?;
        let start = first.column % SECTORS_MAX;
        let in_lane = start + first.sectors <= SECTORS_MAX;
        if geometry.kind() != Kind::Parity
            || first.stripe >= geometry.stripes()
            || end > geometry.chunk_sectors()
            || !in_lane
        {
            return None;
        }
        let roles = geometry.roles(first.stripe);
        let mut stretch = Stretch {
            stripe: first.stripe,
            column: first.column,
            sectors: first.sectors,
            covers: first.covers,
            p: None,
            q: None,
        };
        let mut is_void = false;
        let mut here = Mask::EMPTY;
        for found in together {
            let entry = found.entry;
            let alike = (entry.column, entry.sectors, entry.covers, entry.on)
                == (first.column, first.sectors, first.covers, first.on);
            let sum = Some(SumAt {
                slot: entry.slot,
                start_sectors: found.unit.saturating_add(1).saturating_mul(UNIT_SECTORS),
                skip_sectors: 0,
            });
            match entry.sum {
                Sum::Void => is_void = true,
                Sum::P if roles.p == Some(entry.slot) => stretch.p = sum,
                Sum::Q if roles.q == Some(entry.slot) => stretch.q = sum,
                Sum::P | Sum::Q => return None,
            }
            if !alike || !roles.parity().contains(entry.slot) {
                return None;
            }
            here = here.with(entry.slot);
        }
        if !first.covers.is_within(roles.data) || !first.on.is_within(roles.parity()) {
            return None;
        }
        // An entry that should be there and is not was never finished, so its write was never begun; or it
        // was overwritten, so its write is long through. Either way the lane agrees.
        let is_whole = first.on.intersect(read).is_within(here);
        Some(Self {
            columns: bits(start, first.sectors),
            stretch: (is_whole && !is_void).then_some(stretch),
        })
    }
}

impl Stretch {
    /// The part of it in the columns from `first` (of the lane) on.
    fn part(&self, first: u32, sectors: u32) -> Self {
        self.piece(first.saturating_sub(self.column % SECTORS_MAX), sectors)
    }

    /// The part of it that begins `skip` sectors later.
    pub fn piece(&self, skip: u32, sectors: u32) -> Self {
        let part = |sum: SumAt| SumAt {
            skip_sectors: sum.skip_sectors.saturating_add(skip),
            ..sum
        };
        Self {
            column: self.column.saturating_add(skip),
            sectors,
            p: self.p.map(part),
            q: self.q.map(part),
            ..*self
        }
    }
}

/// Works out the parities of a stretch. `blocks`, by slot, have what the members in `readable` hold; others
/// are overwritten, with what they should hold as far as that is known. `sums` are as P and as Q has it. All
/// are of one length. Returns the members that have to be written, from `blocks`: readable ones whose parity
/// is another now, and `targets` (being rebuilt, or unreadable there), which are not among the readable.
/// Allocates. `EIO`: more is lost than the log makes up for.
pub fn mend(
    geometry: &Geometry,
    stretch: &Stretch,
    readable: Mask,
    targets: Mask,
    blocks: &mut [KVVec<u8>],
    sums: [Option<&[u8]>; 2],
) -> Checked<Mask> {
    let roles = geometry.roles(stretch.stripe);
    let len = stretch.sectors as usize * 512;
    let mut work = Work {
        geometry,
        stripe: stretch.stripe,
        roles,
        blocks,
        p: KVVec::from_elem(0, len, GFP_KERNEL)?,
        q: KVVec::from_elem(0, len, GFP_KERNEL)?,
    };
    let missing = roles.data.minus(readable);
    let left_alone = missing.intersect(stretch.covers);
    let under_way = missing.minus(stretch.covers);
    let known = stretch.covers.intersect(readable);
    let [p_sum, q_sum] = sums;
    if !left_alone.is_empty() {
        let has = (p_sum.is_some(), q_sum.is_some());
        work.start(p_sum, q_sum);
        work.add(known);
        if !work.solve(left_alone, has) {
            return Err(reason!(
                EIO,
                "stripe {}: the log does not tell what {} lost members held",
                stretch.stripe,
                left_alone.len()
            ));
        }
    }
    if !under_way.is_empty() {
        // Whatever it comes to: it was being written. The parities must not disagree about it.
        let read = |parity: Option<Slot>| parity.filter(|&slot| readable.contains(slot));
        let has = (read(roles.p).is_some(), read(roles.q).is_some());
        work.start_from_parity(read(roles.p), read(roles.q));
        work.add(roles.data.minus(under_way));
        if !work.solve(under_way, has) {
            return Ok(Mask::EMPTY);
        }
    }
    work.start(None, None);
    work.add(roles.data);
    Ok(work.settle(readable, targets.intersect(roles.all())))
}

/// Blocks, and two sums.
struct Work<'a> {
    geometry: &'a Geometry,
    stripe: u64,
    roles: LaneRoles,
    blocks: &'a mut [KVVec<u8>],
    p: KVVec<u8>,
    q: KVVec<u8>,
}

impl Work<'_> {
    fn start(&mut self, p: Option<&[u8]>, q: Option<&[u8]>) {
        for (sum, from) in [(&mut self.p, p), (&mut self.q, q)] {
            sum.fill(0);
            gf256::add(sum, from.unwrap_or(&[]));
        }
    }

    fn start_from_parity(&mut self, p: Option<Slot>, q: Option<Slot>) {
        for (sum, from) in [(&mut self.p, p), (&mut self.q, q)] {
            sum.fill(0);
            let block = from.and_then(|slot| self.blocks.get(usize::from(slot)));
            gf256::add(sum, block.map_or(&[], |block| block));
        }
    }

    /// Adds what these members hold to both sums.
    fn add(&mut self, members: Mask) {
        for slot in members.iter() {
            let Some(block) = self.blocks.get(usize::from(slot)) else {
                continue;
            };
            gf256::add(&mut self.p, block);
            if let Some(exponent) = self.geometry.q_exponent(self.stripe, slot) {
                gf256::add_scaled(&mut self.q, block, exponent);
            }
        }
    }

    /// Works out the blocks of `unknown` from the sums, of which `has` says whether they are any.
    fn solve(&mut self, unknown: Mask, has: (bool, bool)) -> bool {
        let Some(a) = unknown.first() else {
            return true;
        };
        let exponent = |slot| self.geometry.q_exponent(self.stripe, slot);
        match (unknown.without(a).first(), has) {
            (None, (true, _)) => self.keep(a, true),
            (None, (false, true)) => match exponent(a) {
                Some(e) => {
                    gf256::recover_by_q(&mut self.q, e);
                    self.keep(a, false)
                }
                None => false,
            },
            (Some(b), (true, true)) if unknown.len() == 2 => match (exponent(a), exponent(b)) {
                (Some(ea), Some(eb)) => {
                    gf256::recover_two(&mut self.p, &mut self.q, ea, eb)
                        && self.keep(a, true)
                        && self.keep(b, false)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Takes a sum for what a member holds.
    fn keep(&mut self, slot: Slot, from_p: bool) -> bool {
        let Some(block) = self.blocks.get_mut(usize::from(slot)) else {
            return false;
        };
        let sum = if from_p { &self.p } else { &self.q };
        block.fill(0);
        gf256::add(block, sum);
        true
    }

    /// Puts the sums where the parities are; which of them differ, and can be written.
    fn settle(&mut self, readable: Mask, targets: Mask) -> Mask {
        let mut differ = targets;
        let used = readable.union(targets);
        for (parity, sum) in [(self.roles.p, &self.p), (self.roles.q, &self.q)] {
            let Some(slot) = parity.filter(|&slot| used.contains(slot)) else {
                continue;
            };
            let Some(block) = self.blocks.get_mut(usize::from(slot)) else {
                continue;
            };
            if block.get(..) != sum.get(..) {
                block.fill(0);
                gf256::add(block, sum);
                differ = differ.with(slot);
            }
        }
        differ
    }
}
