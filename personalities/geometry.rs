// SPDX-License-Identifier: GPL-2.0

//! Where every sector is: a checked shape with what the data path needs worked out beforehand.
//!
//! Words: a *stripe* is one chunk of every member; its number is the chunk's number on the member.
//! Sectors of a member count from the member's start in the volume, not from the disk's.

use super::{concat, for_level, raid5, Kind, Mask};
use crate::model::{Checked, Layout, Level, Rotation, Shape, Slot};
use crate::reason;
use core::num::{NonZeroU32, NonZeroU64};
use kernel::prelude::*;

/// Where a logical sector is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The member. Of a mirror: slot 0, and all other members hold the same at the same sector.
    pub slot: Slot,
    /// Sector of the member, from the member's start.
    pub member_sector: u64,
    /// How many sectors from here on are on the same member in one piece: to the end of the chunk,
    /// or of the member where there are no chunks. At least 1. Not cut at the end of the volume.
    pub left_sectors: u64,
    /// The stripe; 0 where there are no chunks.
    pub stripe: u64,
    /// Which data chunk of the stripe; 0 where there are no chunks.
    pub data_index: u16,
}

/// What each member is in one stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneRoles {
    /// Members with data.
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

/// A checked shape, ready for the data path. Small, and copied freely.
///
/// # Invariants
///
/// * The level's personality accepted `shape`; `0 < size_sectors ≤` its capacity.
/// * `data_members` is the shape's members less its parity members, never 0.
/// * Striped and parity: `chunk_sectors` is `1 << chunk_shift` (so the shift is below 32), `period_chunks` is
///   `data_members × members` for parity levels and `data_members` otherwise.
/// * Concat: `member_sectors` is the length that each member gives.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    shape: Shape,
    kind: Kind,
    size_sectors: u64,
    /// Striped and parity; 0 otherwise.
    chunk_shift: u32,
    data_members: NonZeroU32,
    period_chunks: NonZeroU64,
    member_sectors: NonZeroU64,
    /// Parity levels; unused otherwise.
    rotation: Rotation,
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
                shape.members,
                capacity_sectors
            ));
        }
        let kind = personality.kind();
        let (data_members, chunk_shift, member_sectors) = match kind {
            Kind::Concat => (shape.members, 0, concat::member_sectors(shape)),
            Kind::Mirrored => (1, 0, shape.member_sectors),
            Kind::Striped | Kind::Parity => (
                shape.members.saturating_sub(level.parity_members()),
                shape.chunk_sectors.trailing_zeros(),
                shape.member_sectors,
            ),
        };
        let rows = if kind == Kind::Parity {
            u64::from(shape.members)
        } else {
            1
        };
        let rotation = match shape.layout {
            Layout::Parity(rotation) => rotation,
            _ => Rotation::ParityLast,
        };
        let (Some(data_members), Some(period_chunks), Some(member_sectors)) = (
            NonZeroU32::new(u32::from(data_members)),
            NonZeroU64::new(u64::from(data_members).saturating_mul(rows)),
            NonZeroU64::new(member_sectors),
        ) else {
            return Err(reason!(EINVAL, "{} of this shape holds no data", level));
        };
        Ok(Self {
            shape: *shape,
            kind,
            size_sectors,
            chunk_shift,
            data_members,
            period_chunks,
            member_sectors,
            rotation,
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

    /// Number of members.
    #[inline]
    pub fn members(&self) -> u16 {
        self.shape.members
    }

    /// Members that hold data (not parity) in each stripe; 1 for a mirror.
    #[inline]
    pub fn data_members(&self) -> u16 {
        // At most MEMBERS_MAX.
        self.data_members.get() as u16
    }

    /// Whether the level stripes: concat and mirrors have no chunks.
    #[inline]
    fn has_chunks(&self) -> bool {
        matches!(self.kind, Kind::Striped | Kind::Parity)
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
        if self.has_chunks() {
            self.shape.member_sectors.wrapping_shr(self.chunk_shift)
        } else {
            1
        }
    }

    /// Where `sector` is, and how much from there on is in one piece.
    ///
    /// `sector` is below the volume's size; beyond it the answer has no meaning (but its slot is
    /// still one of the members).
    #[inline]
    pub fn locate(&self, sector: u64) -> Place {
        match self.kind {
            Kind::Mirrored => self.locate_linear(0, sector),
            Kind::Concat => {
                let index = sector / self.member_sectors;
                let last = u64::from(self.shape.members).saturating_sub(1);
                // At most MEMBERS_MAX.
                let slot = index.min(last) as Slot;
                self.locate_linear(slot, sector % self.member_sectors)
            }
            Kind::Striped | Kind::Parity => self.locate_striped(sector),
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
    fn locate_striped(&self, sector: u64) -> Place {
        let chunk = sector.wrapping_shr(self.chunk_shift);
        let offset = sector & self.chunk_mask();
        // One wide division, by the rotation's period; what is left is small.
        let period = chunk / self.period_chunks;
        let within = (chunk % self.period_chunks) as u32;
        let row = (within / self.data_members) as u16;
        let data_index = (within % self.data_members) as u16;
        let (stripe, slot) = if self.kind == Kind::Parity {
            let members = self.shape.members;
            let p = raid5::parity_slot(self.rotation, members, row);
            // No overflow: period × members × data_members ≤ chunk, and members ≥ 1.
            let stripe = period
                .wrapping_mul(u64::from(members))
                .wrapping_add(u64::from(row));
            (
                stripe,
                raid5::data_slot(self.rotation, members, p, data_index),
            )
        } else {
            (period, data_index)
        };
        Place {
            slot,
            member_sector: stripe.wrapping_shl(self.chunk_shift) | offset,
            left_sectors: u64::from(self.shape.chunk_sectors).saturating_sub(offset),
            stripe,
            data_index,
        }
    }

    #[inline]
    fn chunk_mask(&self) -> u64 {
        u64::from(self.shape.chunk_sectors).wrapping_sub(1)
    }

    /// The slot of P in `stripe`, for parity levels.
    #[inline]
    fn parity_slot(&self, stripe: u64) -> Option<Slot> {
        if self.kind != Kind::Parity {
            return None;
        }
        let members = NonZeroU64::new(u64::from(self.shape.members))?;
        // Below MEMBERS_MAX.
        let row = (stripe % members) as u16;
        Some(raid5::parity_slot(self.rotation, self.shape.members, row))
    }

    /// What each member is in `stripe`. Levels without parity: all members have data.
    #[inline]
    pub fn roles(&self, stripe: u64) -> LaneRoles {
        let all = Mask::all(self.shape.members);
        let p = self.parity_slot(stripe);
        LaneRoles {
            data: all.minus(Mask::option(p)),
            p,
            q: None,
        }
    }

    /// The member with data chunk `data_index` of `stripe`; `data_index` is below
    /// [`data_members`](Self::data_members).
    #[inline]
    pub fn data_slot(&self, stripe: u64, data_index: u16) -> Slot {
        match self.parity_slot(stripe) {
            Some(p) => raid5::data_slot(self.rotation, self.shape.members, p, data_index),
            None => data_index,
        }
    }

    /// Which data chunk of `stripe` the member has; `None` for parity and for slots that there are
    /// not. Every member of a mirror has data chunk 0.
    #[inline]
    pub fn data_index(&self, stripe: u64, slot: Slot) -> Option<u16> {
        if slot >= self.shape.members {
            return None;
        }
        match self.kind {
            Kind::Parity => {
                let p = self.parity_slot(stripe)?;
                raid5::data_index(self.rotation, self.shape.members, p, slot)
            }
            Kind::Striped => Some(slot),
            Kind::Concat | Kind::Mirrored => Some(0),
        }
    }

    /// The logical sector that is at `member_sector` of the member: the inverse of
    /// [`locate`](Self::locate). `None` for parity, beyond the volume's end, and for slots that
    /// there are not.
    #[inline]
    pub fn logical(&self, slot: Slot, member_sector: u64) -> Option<u64> {
        if slot >= self.shape.members || member_sector >= self.member_sectors.get() {
            return None;
        }
        let sector = match self.kind {
            Kind::Mirrored => member_sector,
            Kind::Concat => self
                .member_sectors
                .get()
                .checked_mul(u64::from(slot))?
                .checked_add(member_sector)?,
            Kind::Striped | Kind::Parity => {
                let stripe = member_sector.wrapping_shr(self.chunk_shift);
                // A partial chunk at the member's end comes out beyond the volume's.
                let index = self.data_index(stripe, slot)?;
                let chunk = stripe
                    .checked_mul(u64::from(self.data_members.get()))?
                    .checked_add(u64::from(index))?;
                chunk.wrapping_shl(self.chunk_shift) | (member_sector & self.chunk_mask())
            }
        };
        (sector < self.size_sectors).then_some(sector)
    }

    /// How much of each member the volume's data and parity take, from the member's start, in
    /// sectors: what a resync or a rebuild has to go over. At most the shape's `member_sectors`.
    pub fn used_member_sectors(&self) -> u64 {
        match self.kind {
            Kind::Mirrored => self.size_sectors,
            Kind::Concat => self.member_sectors.get().min(self.size_sectors),
            Kind::Striped | Kind::Parity => {
                let chunks = self
                    .size_sectors
                    .saturating_add(self.chunk_mask())
                    .wrapping_shr(self.chunk_shift);
                let per_stripe = u64::from(self.data_members.get());
                (chunks.saturating_add(per_stripe.wrapping_sub(1))
                    / NonZeroU64::from(self.data_members))
                .saturating_mul(u64::from(self.shape.chunk_sectors))
            }
        }
    }
}
