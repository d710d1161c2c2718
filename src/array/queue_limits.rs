// SPDX-License-Identifier: GPL-2.0

//! What an array's block device takes: the limits of its members, stacked, and the array's own.

use super::{Array, MemberSlot};
use crate::block::gate::Gated;
use crate::block::gendisk::{Disk, Limits, LARGE_SECTORS};
use crate::model::Checked;
use crate::personalities::Kind;
use crate::reason;

impl Array {
    /// Queue limits, stacked over the members that are here. Logical blocks have `block_bytes` at least.
    pub fn limits(this: &Gated<Array>, block_bytes: u32) -> Limits {
        let mut limits = Limits::stacking();
        limits.block_at_least(block_bytes);
        let mut all_discard = true;
        if let Some(pass) = this.enter() {
            for member in pass.table().members.iter().flatten() {
                limits.stack(&member.device, member.offset_sectors);
                all_discard &= member.device.takes_discards();
            }
        }
        this.own_limits(&mut limits, all_discard);
        limits
    }

    /// Has the queue limits of the array's `disk` take a member into account that is going to join. `EINVAL` when it does
    /// not fit. With the gate open: see [`Disk::stack_member`].
    pub fn stack_member(&self, disk: &Disk, member: &MemberSlot) -> Checked {
        let device = &member.device;
        disk.stack_member(device, member.offset_sectors, |limits, before| {
            let all_discard = before.takes_discards() && device.takes_discards();
            self.own_limits(limits, all_discard);
        })
        .map_err(|errno| {
            reason!(
                errno,
                "disk {} does not fit {}: its logical blocks are larger, or its limits others",
                device.dev(),
                self.name
            )
        })
    }

    /// What the array says of itself, on top of what is stacked over its members. `all_discard`: all of these take discards.
    fn own_limits(&self, limits: &mut Limits, all_discard: bool) {
        // Stacked limits are those of the members that take some.
        if !all_discard {
            limits.no_discard();
        }
        let geometry = &self.geometry;
        match geometry.kind() {
            Kind::Mirrored => {}
            Kind::Concat => {}
            Kind::Striped | Kind::Parity | Kind::Copies => {
                let stripe = u32::try_from(geometry.stripe_data_sectors()).unwrap_or(0);
                limits.io_hints(geometry.chunk_sectors(), stripe);
            }
        }
        limits.max_sectors(LARGE_SECTORS);
        if self.is_redundant() {
            // They go lane by lane.
            limits.max_write_zeroes(LARGE_SECTORS);
        }
        if matches!(geometry.kind(), Kind::Striped | Kind::Copies) {
            // They go chunk by chunk, and all of a bio's at once.
            let sectors = LARGE_SECTORS.saturating_mul(geometry.members().into());
            limits.max_discard(sectors);
            limits.max_write_zeroes(sectors);
        }
        if geometry.kind() == Kind::Parity {
            limits.parity();
            // What a disk gives back that only forgot is not known, and parity would not fit it.
            let stripe = u32::try_from(geometry.stripe_data_sectors()).unwrap_or(u32::MAX);
            limits.discard_by_zeroes(stripe, LARGE_SECTORS);
        }
    }
}
