// SPDX-License-Identifier: GPL-2.0

//! Where every sector is: a checked shape with what the data path needs worked out beforehand.
//!
//! Words: a *stripe* is what belongs together: one chunk of every member of a span, or, where chunks
//! have copies ([`Kind::Copies`]), one chunk with its copies. Stripes are numbered in the order of
//! their data in the volume. With one span, and no copies, a stripe's number is that of its chunks on
//! the members; with more, stripe `inner × spans + span` is chunk `inner` of that span's members.
//! Slots, and masks of them, are those of the whole volume. Sectors of a member count from the
//! member's start in the volume, not from the disk's.

mod marks;
mod stripe;

use super::raid10::Copies;
use super::rotation::{Parities, Pattern};
use super::{concat, for_level, Kind, Mask};
use crate::model::{Checked, Layout, Level, Shape, Slot};
use crate::reason;
use core::num::{NonZeroU32, NonZeroU64};
use kernel::prelude::*;

/// Where a logical sector is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The member. Of a mirror: slot 0, and all other members hold the same at the same sector. Of
    /// a chunk with copies: the member with the first.
    pub slot: Slot,
    /// Sector of the member, from the member's start.
    pub member_sector: u64,
    /// How many sectors from here on are on the same member in one piece: to the end of the chunk,
    /// or of the member where there are no chunks. At least 1. Not cut at the end of the volume.
    pub left_sectors: u64,
    /// The stripe; 0 where there are no chunks.
    pub stripe: u64,
    /// Which data chunk of the stripe; 0 where there are no chunks, and for copies.
    pub data_index: u16,
}

/// What each member is in one stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneRoles {
    /// Members with data; those with copies of one chunk all hold the same.
    pub data: Mask,
    /// The member with P; always there for parity levels.
    pub p: Option<Slot>,
    /// The member with Q; RAID 6 only.
    pub q: Option<Slot>,
}

impl LaneRoles {
    /// All members of the stripe.
    pub fn all(&self) -> Mask {
        self.data.union(self.parity())
    }

    /// The members with parity.
    pub fn parity(&self) -> Mask {
        Mask::option(self.p).union(Mask::option(self.q))
    }
}

/// What the kind of a level needs besides.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Concat and mirrors.
    Linear,
    Striped,
    Parity(Pattern),
    Copies(Copies),
}

/// Which stripe of which span.
#[derive(Clone, Copy)]
struct Inner {
    /// The stripe's number in its span: that of its chunks on the members.
    stripe: u64,
    span: u16,
    /// `stripe` modulo the rotation's cycle.
    row: u16,
}

/// A checked shape, ready for the data path. Small, and copied freely.
///
/// # Invariants
///
/// * The level's personality accepted `shape`; `0 < size_sectors ≤` its capacity. So
///   `members × spans ≤ MEMBERS_MAX`.
/// * `plan` is the one of `kind`.
/// * `data_members` is a span's members less its parity members, never 0; 1 for mirrors and copies.
/// * Levels with chunks: `chunk_sectors` is `1 << chunk_shift` (so the shift is below 32).
/// * Striped and parity: `cycle` is how many stripes of a span the rotation takes (1 without one),
///   `period_stripes` is `cycle × spans`, `period_chunks` is `period_stripes × data_members`; all
///   are small.
/// * Concat: `member_sectors` is the length that each member gives.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    shape: Shape,
    kind: Kind,
    plan: Plan,
    size_sectors: u64,
    /// Stripes that the size takes.
    rows: u64,
    /// Levels with chunks; 0 otherwise.
    chunk_shift: u32,
    data_members: NonZeroU32,
    spans: NonZeroU32,
    cycle: u16,
    period_stripes: NonZeroU64,
    period_chunks: NonZeroU64,
    member_sectors: NonZeroU64,
}

impl Geometry {
    /// Checks `shape` and that a volume of `size_sectors` fits in it.
    ///
    /// Fails with `EOPNOTSUPP` for levels that no personality runs, with what
    /// `Personality::check` says of the shape, and with `EINVAL` for a size of 0 or beyond the
    /// capacity.
    pub fn new(shape: &Shape, size_sectors: u64) -> Checked<Self> {
        let level = shape.level;
        let Some(personality) = for_level(level) else {
            return Err(reason!(EOPNOTSUPP, "{} is not supported yet", level));
        };
        personality.check(shape)?;
        let capacity_sectors = personality.capacity_sectors(shape);
        if size_sectors == 0 || size_sectors > capacity_sectors {
            return Err(reason!(
                EINVAL,
                "volume of {} sectors does not fit: {} of {} members has room for 1 to {}",
                size_sectors,
                level,
                shape.members_total(),
                capacity_sectors
            ));
        }
        match Self::prepare(shape, personality.kind(), size_sectors) {
            Some(geometry) => Ok(geometry),
            None => Err(reason!(EINVAL, "{} of this shape holds no data", level)),
        }
    }

    /// Works out the rest. `None` does not happen with shapes that the personality accepted.
    fn prepare(shape: &Shape, kind: Kind, size_sectors: u64) -> Option<Self> {
        let plan = match (kind, shape.layout) {
            (Kind::Concat | Kind::Mirrored, _) => Plan::Linear,
            (Kind::Striped, _) => Plan::Striped,
            (Kind::Parity, Layout::Parity(rotation)) => {
                Plan::Parity(Pattern::new(shape.level, rotation, shape.members)?)
            }
            (Kind::Parity, _) => return None,
            (Kind::Copies, _) => Plan::Copies(Copies::new(shape)?),
        };
        let has_chunks = !matches!(plan, Plan::Linear);
        let (data_members, cycle) = match plan {
            Plan::Linear if kind == Kind::Concat => (shape.members, 1),
            Plan::Linear | Plan::Copies(_) => (1, 1),
            Plan::Striped => (shape.members, 1),
            Plan::Parity(pattern) => (
                shape.members.checked_sub(shape.level.parity_members())?,
                pattern.cycle(),
            ),
        };
        let member_sectors = match kind {
            Kind::Concat => concat::member_sectors(shape),
            _ => shape.member_sectors,
        };
        let data_members = NonZeroU32::new(u32::from(data_members))?;
        let spans = NonZeroU32::new(u32::from(shape.spans))?;
        let period_stripes = u64::from(spans.get()).checked_mul(u64::from(cycle))?;
        let rows = if has_chunks {
            let stripe_sectors =
                u64::from(shape.chunk_sectors).checked_mul(u64::from(data_members.get()))?;
            size_sectors.div_ceil(NonZeroU64::new(stripe_sectors)?.get())
        } else {
            1
        };
        Some(Self {
            shape: *shape,
            kind,
            plan,
            size_sectors,
            rows,
            chunk_shift: if has_chunks {
                shape.chunk_sectors.trailing_zeros()
            } else {
                0
            },
            data_members,
            spans,
            cycle,
            period_stripes: NonZeroU64::new(period_stripes)?,
            period_chunks: NonZeroU64::new(
                period_stripes.checked_mul(u64::from(data_members.get()))?,
            )?,
            member_sectors: NonZeroU64::new(member_sectors)?,
        })
    }

    /// The shape.
    #[inline]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The level.
    #[inline]
    pub fn level(&self) -> Level {
        self.shape.level
    }

    /// The data path that runs it.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Size that users see.
    #[inline]
    pub fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    /// Number of members, over all spans.
    #[inline]
    pub fn members(&self) -> u16 {
        // At most MEMBERS_MAX.
        self.shape.members.wrapping_mul(self.shape.spans)
    }

    /// Number of members of each span.
    #[inline]
    pub fn span_members(&self) -> u16 {
        self.shape.members
    }

    /// Members that hold data of their own (not parity, not a further copy) in each stripe; 1 for
    /// mirrors and for copies.
    #[inline]
    pub fn data_members(&self) -> u16 {
        // At most MEMBERS_MAX.
        self.data_members.get() as u16
    }

    /// Members that hold the same data: copies of each chunk, members of a mirror; otherwise 1.
    #[inline]
    pub fn copies(&self) -> u16 {
        match &self.plan {
            Plan::Copies(copies) => copies.copies(),
            _ if self.kind == Kind::Mirrored => self.shape.members,
            _ => 1,
        }
    }

    /// Whether the level stripes: concat and mirrors have no chunks.
    #[inline]
    fn has_chunks(&self) -> bool {
        !matches!(self.plan, Plan::Linear)
    }

    /// Chunk length; 0 for concat and RAID 1.
    #[inline]
    pub fn chunk_sectors(&self) -> u32 {
        if self.has_chunks() {
            self.shape.chunk_sectors
        } else {
            0
        }
    }

    /// User data in one full stripe; 0 for concat and RAID 1.
    #[inline]
    pub fn stripe_data_sectors(&self) -> u64 {
        u64::from(self.chunk_sectors()) * u64::from(self.data_members.get())
    }

    /// Stripes over the members' full length (whole chunks); 1 for concat and RAID 1.
    #[inline]
    pub fn stripes(&self) -> u64 {
        let member_chunks = self.shape.member_sectors.wrapping_shr(self.chunk_shift);
        match &self.plan {
            Plan::Linear => 1,
            Plan::Striped | Plan::Parity(_) => {
                member_chunks.saturating_mul(u64::from(self.shape.spans))
            }
            Plan::Copies(copies) => copies.capacity_chunks(member_chunks),
        }
    }

    /// Stripes that the volume's size takes, the last one perhaps in part: what a sync walks, from
    /// 0 up. 1 for concat and RAID 1.
    #[inline]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Where `sector` is, and how much from there on is in one piece.
    ///
    /// `sector` is below the volume's size; beyond it the answer has no meaning (but its slot is
    /// still one of the members).
    #[inline]
    pub fn locate(&self, sector: u64) -> Place {
        match &self.plan {
            Plan::Linear if self.kind == Kind::Mirrored => self.locate_linear(0, sector),
            Plan::Linear => {
                let index = sector / self.member_sectors;
                let last = u64::from(self.shape.members).saturating_sub(1);
                // At most MEMBERS_MAX.
                let slot = index.min(last) as Slot;
                self.locate_linear(slot, sector % self.member_sectors)
            }
            Plan::Striped => self.locate_striped(None, sector),
            Plan::Parity(pattern) => self.locate_striped(Some(pattern), sector),
            Plan::Copies(copies) => {
                let stripe = sector.wrapping_shr(self.chunk_shift);
                let (slot, member_chunk) = copies.place(stripe, 0);
                self.place(sector, slot, member_chunk, stripe, 0)
            }
        }
    }

    #[inline]
    fn locate_linear(&self, slot: Slot, member_sector: u64) -> Place {
        Place {
            slot,
            member_sector,
            left_sectors: self
                .member_sectors
                .get()
                .saturating_sub(member_sector)
                .max(1),
            stripe: 0,
            data_index: 0,
        }
    }

    #[inline]
    fn locate_striped(&self, pattern: Option<&Pattern>, sector: u64) -> Place {
        let chunk = sector.wrapping_shr(self.chunk_shift);
        // One wide division, by the rotation's period over all spans; what is left is small.
        let period = chunk / self.period_chunks;
        let within = (chunk % self.period_chunks) as u32;
        let data_index = (within % self.data_members) as u16;
        let inner = self.inner(period, within / self.data_members);
        let position = match pattern {
            Some(pattern) => pattern.data_slot(pattern.parities(inner.row), data_index),
            None => data_index,
        };
        let stripe = inner
            .stripe
            .wrapping_mul(u64::from(self.shape.spans))
            .wrapping_add(u64::from(inner.span));
        let slot = self.first_slot(inner.span).wrapping_add(position);
        self.place(sector, slot, inner.stripe, stripe, data_index)
    }

    /// A place in a chunk of a member.
    #[inline]
    fn place(
        &self,
        sector: u64,
        slot: Slot,
        member_chunk: u64,
        stripe: u64,
        data_index: u16,
    ) -> Place {
        let offset = sector & self.chunk_mask();
        Place {
            slot,
            member_sector: member_chunk.wrapping_shl(self.chunk_shift) | offset,
            left_sectors: u64::from(self.shape.chunk_sectors).saturating_sub(offset),
            stripe,
            data_index,
        }
    }

    #[inline]
    fn chunk_mask(&self) -> u64 {
        u64::from(self.shape.chunk_sectors).wrapping_sub(1)
    }

    /// The first slot of a span.
    #[inline]
    fn first_slot(&self, span: u16) -> Slot {
        span.wrapping_mul(self.shape.members)
    }

    /// Stripe `line < period_stripes` of a period.
    #[inline]
    fn inner(&self, period: u64, line: u32) -> Inner {
        let (row, span) = (line / self.spans, line % self.spans);
        Inner {
            stripe: period
                .wrapping_mul(u64::from(self.cycle))
                .wrapping_add(u64::from(row)),
            // Both below MEMBERS_MAX.
            span: span as u16,
            row: row as u16,
        }
    }

    /// Which stripe of which span `stripe` is; one wide division. Striped and parity.
    #[inline]
    fn inner_of(&self, stripe: u64) -> Inner {
        self.inner(
            stripe / self.period_stripes,
            (stripe % self.period_stripes) as u32,
        )
    }

    /// A parity level's `stripe`: the rotation, where its parity is in the span, and the span's
    /// first slot.
    #[inline]
    fn parities(&self, stripe: u64) -> Option<(&Pattern, Parities, Slot)> {
        match &self.plan {
            Plan::Parity(pattern) => {
                let inner = self.inner_of(stripe);
                let at = pattern.parities(inner.row);
                Some((pattern, at, self.first_slot(inner.span)))
            }
            _ => None,
        }
    }

    /// The position in its span of `slot`, in a span that starts at `first`.
    #[inline]
    fn position(&self, first: Slot, slot: Slot) -> Option<u16> {
        slot.checked_sub(first)
            .filter(|&position| position < self.shape.members)
    }

    /// RAID 6: the highest exponent of any stripe, plus one: with DDF's layouts the members of a
    /// span (P's and Q's places count as zero data), with md's its data members. 0 for all other
    /// levels.
    #[inline]
    pub fn q_width(&self) -> u16 {
        match &self.plan {
            Plan::Parity(pattern) => pattern.q_width(),
            _ => 0,
        }
    }

    /// Whether there is something left that could disagree, when just `in_sync` hold what they
    /// should: somewhere a block is there twice, or a parity beside all that it stands for.
    pub fn can_compare(&self, in_sync: Mask) -> bool {
        match self.kind {
            Kind::Concat | Kind::Striped => false,
            Kind::Mirrored | Kind::Copies => in_sync.len() >= 2,
            Kind::Parity => {
                let members = self.span_members();
                let parity = u32::from(self.level().parity_members());
                (0..self.shape.spans).any(|span| {
                    let first = span.saturating_mul(members);
                    let lost = (first..first.saturating_add(members))
                        .filter(|&slot| !in_sync.contains(slot))
                        .count();
                    (lost as u32) < parity
                })
            }
        }
    }
}
