// SPDX-License-Identifier: GPL-2.0

//! The log of one member, of either kind: EMD's ring, or a row as other drivers have it.

use super::{Place, Refusal, Ring, Row, RowPlace};

/// The log of one member.
#[derive(Debug)]
pub enum Log {
    /// EMD's own.
    Ring(Ring),
    /// As other drivers have it.
    Row(Row),
}

/// Where an entry was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spot {
    /// In a ring.
    Ring(Place),
    /// In a row.
    Row(RowPlace),
}

impl Spot {
    fn in_row(self) -> Option<RowPlace> {
        match self {
            Self::Row(place) => Some(place),
            Self::Ring(_) => None,
        }
    }
}

impl Log {
    /// Whether [`Log::place`] would find room.
    pub fn has_room(
        &mut self,
        sectors: u32,
        flushed: u64,
        own: Option<Spot>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Ring(ring) => ring.has_room(sectors, flushed),
            Self::Row(row) => row.has_room(flushed, own.and_then(Spot::in_row)),
        }
    }

    /// A place for an entry with a sum of `sectors` (0: none): [`Ring::place`], [`Row::place`].
    pub fn place(
        &mut self,
        sectors: u32,
        bucket: u16,
        flushed: u64,
        own: Option<Spot>,
    ) -> Result<Spot, Refusal> {
        match self {
            Self::Ring(ring) => ring.place(sectors, bucket, flushed).map(Spot::Ring),
            Self::Row(row) => row
                .place(sectors, flushed, own.and_then(Spot::in_row))
                .map(Spot::Row),
        }
    }

    /// The entry is on the member: [`Ring::written`].
    pub fn written(&mut self, spot: Spot, gone: impl FnMut(u16)) {
        if let (Self::Ring(ring), Spot::Ring(place)) = (self, spot) {
            ring.written(place, gone);
        }
    }

    /// What it was written for is through; flush number `flush` makes it durable.
    pub fn done(&mut self, spot: Spot, flush: u64) {
        match (self, spot) {
            (Self::Ring(ring), Spot::Ring(place)) => ring.done(place, flush),
            (Self::Row(row), Spot::Row(place)) => row.done(place, flush),
            _ => {}
        }
    }

    /// The member is another one now: [`Ring::clear`].
    pub fn clear(&mut self, gone: impl FnMut(u16)) {
        match self {
            Self::Ring(ring) => ring.clear(gone),
            Self::Row(row) => row.clear(),
        }
    }
}
