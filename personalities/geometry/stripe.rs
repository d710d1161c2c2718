// SPDX-License-Identifier: GPL-2.0

//! Who is what in a stripe, where it lies on each member, and from a member's sector back to the stripe and the
//! volume.

use super::{Geometry, LaneRoles, Plan};
use crate::model::Slot;
use crate::personalities::{Kind, Mask};

impl Geometry {
    /// What each member is in `stripe`: those of its span, or with its chunk's copies; no others.
    /// Levels without parity: all of them have data.
    #[inline]
    pub fn roles(&self, stripe: u64) -> LaneRoles {
        let span = |first: Slot| {
            let members = Mask::all(self.shape.members);
            Mask(members.0.wrapping_shl(u32::from(first)))
        };
        let data = match &self.plan {
            Plan::Linear => Mask::all(self.shape.members),
            Plan::Striped => span(self.first_slot(self.inner_of(stripe).span)),
            Plan::Copies(copies) => copies.holders_of(stripe),
            Plan::Parity(pattern) => {
                let inner = self.inner_of(stripe);
                let at = pattern.parities(inner.row);
                let first = self.first_slot(inner.span);
                let mut roles = LaneRoles {
                    data: span(first),
                    p: Some(first.wrapping_add(at.p)),
                    q: at.q.map(|q| first.wrapping_add(q)),
                };
                roles.data = roles.data.minus(roles.parity());
                return roles;
            }
        };
        LaneRoles {
            data,
            p: None,
            q: None,
        }
    }

    /// The member with data chunk `data_index` of `stripe`; `data_index` is below
    /// [`data_members`](Self::data_members). Of copies: the member with the first.
    #[inline]
    pub fn data_slot(&self, stripe: u64, data_index: u16) -> Slot {
        match &self.plan {
            Plan::Linear => data_index,
            Plan::Striped => self
                .first_slot(self.inner_of(stripe).span)
                .wrapping_add(data_index),
            Plan::Copies(copies) => copies.place(stripe, 0).0,
            Plan::Parity(pattern) => {
                let inner = self.inner_of(stripe);
                self.first_slot(inner.span)
                    .wrapping_add(pattern.data_slot(pattern.parities(inner.row), data_index))
            }
        }
    }

    /// Which data chunk of `stripe` the member has; `None` for parity, for members that have no
    /// part in the stripe, and for slots that there are not. Every member of a mirror, and every copy,
    /// has data chunk 0.
    #[inline]
    pub fn data_index(&self, stripe: u64, slot: Slot) -> Option<u16> {
        match &self.plan {
            Plan::Linear => (slot < self.shape.members).then_some(0),
            Plan::Striped => self.position(self.first_slot(self.inner_of(stripe).span), slot),
            Plan::Copies(copies) => copies.holders_of(stripe).contains(slot).then_some(0),
            Plan::Parity(_) => {
                let (pattern, at, first) = self.parities(stripe)?;
                pattern.data_index(at, self.position(first, slot)?)
            }
        }
    }

    /// Where copy `index` of `stripe`'s chunk starts: slot and sector of the member. Of a mirror:
    /// the start of the member. `None` from [`copies`](Self::copies) on, and for levels without any.
    #[inline]
    pub fn copy(&self, stripe: u64, index: u16) -> Option<(Slot, u64)> {
        match &self.plan {
            Plan::Copies(copies) if index < copies.copies() => {
                let (slot, member_chunk) = copies.place(stripe, index);
                Some((slot, member_chunk.wrapping_shl(self.chunk_shift)))
            }
            Plan::Linear if self.kind == Kind::Mirrored => {
                (index < self.shape.members).then_some((index, 0))
            }
            _ => None,
        }
    }

    /// Where the part of `stripe` that is on the member starts, in sectors of the member: data,
    /// parity or copy. `None` when it has no part in that stripe. Concat and mirrors: 0.
    #[inline]
    pub fn member_sector(&self, stripe: u64, slot: Slot) -> Option<u64> {
        let member_chunk = match &self.plan {
            Plan::Linear => return (slot < self.shape.members).then_some(0),
            Plan::Copies(copies) => copies.member_chunk(stripe, slot)?,
            Plan::Striped | Plan::Parity(_) => {
                let inner = self.inner_of(stripe);
                self.position(self.first_slot(inner.span), slot)?;
                inner.stripe
            }
        };
        Some(member_chunk.wrapping_shl(self.chunk_shift))
    }

    /// The sector of the volume where `stripe`'s data starts; 0 for concat and RAID 1.
    #[inline]
    pub fn stripe_start(&self, stripe: u64) -> u64 {
        stripe.wrapping_mul(self.stripe_data_sectors())
    }

    /// Which stripe a sector of a member belongs to, and how far into the stripe's chunk on that
    /// member it is: the inverse of [`member_sector`](Self::member_sector), for parity and every copy
    /// too. `None` where the volume has nothing (behind its last stripe, between far's copies), for
    /// slots that there are not, and for levels without chunks.
    #[inline]
    pub fn row_at(&self, slot: Slot, member_sector: u64) -> Option<(u64, u32)> {
        let member_chunk = member_sector.wrapping_shr(self.chunk_shift);
        let stripe = match &self.plan {
            Plan::Linear => return None,
            Plan::Copies(copies) => copies.chunk_at(slot, member_chunk)?,
            Plan::Striped | Plan::Parity(_) => {
                let span = slot.checked_div(self.shape.members)?;
                if span >= self.shape.spans {
                    return None;
                }
                member_chunk
                    .checked_mul(u64::from(self.shape.spans))?
                    .checked_add(u64::from(span))?
            }
        };
        // Below the chunk's length.
        let column = (member_sector & self.chunk_mask()) as u32;
        (stripe < self.rows).then_some((stripe, column))
    }

    /// The logical sector that is at `member_sector` of the member: the inverse of
    /// [`locate`](Self::locate), and of every copy. `None` for parity, beyond the volume's end, and
    /// for slots that there are not.
    #[inline]
    pub fn logical(&self, slot: Slot, member_sector: u64) -> Option<u64> {
        if member_sector >= self.member_sectors.get() {
            return None;
        }
        let sector = match self.kind {
            Kind::Mirrored | Kind::Concat if slot >= self.shape.members => return None,
            Kind::Mirrored => member_sector,
            Kind::Concat => self
                .member_sectors
                .get()
                .checked_mul(u64::from(slot))?
                .checked_add(member_sector)?,
            Kind::Striped | Kind::Parity | Kind::Copies => {
                let (stripe, column) = self.row_at(slot, member_sector)?;
                let index = match self.kind {
                    Kind::Copies => 0,
                    _ => self.data_index(stripe, slot)?,
                };
                self.stripe_start(stripe)
                    .checked_add(u64::from(index).wrapping_shl(self.chunk_shift))?
                    .checked_add(u64::from(column))?
            }
        };
        (sector < self.size_sectors).then_some(sector)
    }

    /// RAID 6: the exponent of Q's generator that the member's data in `stripe` has, below
    /// [`q_width`](Self::q_width): `Q = Σ gᵉ·D` with `g` = 2 in GF(2⁸) modulo 0x11d. `None` for P, Q,
    /// members without a part in the stripe, and all other levels.
    #[inline]
    pub fn q_exponent(&self, stripe: u64, slot: Slot) -> Option<u8> {
        let (pattern, at, first) = self.parities(stripe)?;
        pattern.q_exponent(at, self.position(first, slot)?)
    }
}
