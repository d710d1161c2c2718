// SPDX-License-Identifier: GPL-2.0

//! A write cut into lane ops: `write::resume` and `Cut`.

use super::Fragment;
use crate::sim::Sim;
use emd_core::personalities::lane::Job;
use emd_core::personalities::{Kind, Mask};

/// A range of columns in which the data members `first..=last` are covered.
#[derive(Clone, Copy, Debug)]
pub struct Rect {
    /// The stripe.
    pub stripe: u64,
    /// Sector of the volume where it starts.
    pub start: u64,
    /// First column.
    pub column: u32,
    /// Length.
    pub sectors: u32,
    /// First data member.
    pub first: u16,
    /// Last data member.
    pub last: u16,
}

impl Sim {
    /// Cuts a write into ops (`write::resume` and `Cut`).
    pub fn write_by_lanes(&mut self, user: usize) {
        let (sector, sectors, fua) = {
            let io = self.user(user);
            (io.sector, u64::from(io.sectors), io.fua)
        };
        for rect in self.cut(sector, sector + sectors) {
            let slot_of = |sim: &Self, index: u16| match sim.geometry.kind() {
                Kind::Mirrored => 0,
                Kind::Copies => sim.geometry.roles(rect.stripe).data.first().unwrap_or(0),
                _ => sim.geometry.data_slot(rect.stripe, index),
            };
            let mut written = Mask::EMPTY;
            for index in rect.first..=rect.last {
                written = written.with(slot_of(self, index));
            }
            self.arr().inside += 1;
            let op = self.new_op(
                rect.stripe,
                rect.column,
                rect.sectors,
                Job::Write { written },
            );
            self.op(op).fua = fua;
            for index in rect.first..=rect.last {
                let at =
                    rect.start + u64::from(index) * u64::from(self.unit()) + u64::from(rect.column);
                let fragment = Fragment {
                    user,
                    slot: slot_of(self, index),
                    column: rect.column,
                    sectors: rect.sectors,
                    skip: (at - sector) as u32,
                };
                self.add_fragment(op, fragment);
            }
            self.submit_op(op);
        }
    }

    /// Stretches of columns in which the same data members are covered throughout.
    pub fn cut(&self, sector: u64, end: u64) -> Vec<Rect> {
        let unit = u64::from(self.unit());
        let data = match self.geometry.kind() {
            Kind::Mirrored | Kind::Copies => 1,
            _ => u64::from(self.geometry.data_members()),
        };
        let (stripe_sectors, lane) = (unit * data, u64::from(self.lane_sectors()));
        let mut rects: Vec<Rect> = Vec::new();
        for stripe in sector / stripe_sectors..=(end - 1) / stripe_sectors {
            let start = stripe * stripe_sectors;
            let covered = |index: u64, column: u64| {
                let at = start + index * unit + column;
                sector <= at && at < end
            };
            let mut last: Option<Rect> = None;
            for column in 0..unit {
                let mut members = (0..data).filter(|&index| covered(index, column));
                let first = members.next();
                let here =
                    first.map(|first| (first as u16, members.next_back().unwrap_or(first) as u16));
                let joins = last.as_ref().is_some_and(|rect| {
                    Some((rect.first, rect.last)) == here && column % lane != 0
                });
                if joins {
                    if let Some(rect) = last.as_mut() {
                        rect.sectors += 1;
                    }
                    continue;
                }
                rects.extend(last.take());
                last = here.map(|(first, last)| Rect {
                    stripe,
                    start,
                    column: column as u32,
                    sectors: 1,
                    first,
                    last,
                });
            }
            rects.extend(last.take());
        }
        rects
    }
}
