// SPDX-License-Identifier: GPL-2.0

//! Update plans: metadata writes in the order in which a crash does no harm.

use super::{Checked, DiskIndex};
use core::ops::Range;
use kernel::prelude::*;

/// A stretch of one of the format's own buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Which buffer; only the format knows what the number means.
    pub buffer: u32,
    /// First byte.
    pub offset_bytes: u32,
    /// Length; a multiple of the disk's logical block.
    pub len_bytes: u32,
}

/// One write of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanWrite {
    /// Writes of one phase may reach the disks in any order. Between phases every disk that was
    /// written is flushed, and after the last one too.
    pub phase: u16,
    /// The disk.
    pub disk: DiskIndex,
    /// First sector (of 512 bytes); aligned to the disk's logical block.
    pub sector: u64,
    /// Where the bytes come from: `MetadataSet::bytes`.
    pub source: Source,
}

/// Ordered metadata writes. The room for them is reserved when the set is assembled, so that
/// recording a failure never allocates.
#[derive(Debug)]
pub struct UpdatePlan {
    writes: KVec<PlanWrite>,
}

impl UpdatePlan {
    /// A plan with no room.
    pub const fn new() -> Self {
        Self {
            writes: KVec::new(),
        }
    }

    /// Makes room for `writes` writes in all. Allocates; for set-up only.
    pub fn reserve(&mut self, writes: usize) -> Checked {
        let missing = writes.saturating_sub(self.writes.len());
        self.writes.reserve(missing, GFP_KERNEL)?;
        Ok(())
    }

    /// Forgets all writes and keeps the room.
    pub fn clear(&mut self) {
        self.writes.clear();
    }

    /// Adds a write, in room that `reserve` made. Fails with `ENOSPC` when the room was too small,
    /// which is a fault of the format's own arithmetic.
    pub fn push(&mut self, write: PlanWrite) -> Checked {
        if self.writes.len() >= self.writes.capacity() {
            return Err(crate::reason!(
                ENOSPC,
                "internal: update plan has room for {} writes only",
                self.writes.capacity()
            ));
        }
        // There is room: this does not allocate.
        self.writes.push(write, GFP_KERNEL)?;
        Ok(())
    }

    /// Takes the writes of some phases out.
    pub fn leave_out(&mut self, phases: Range<u16>) {
        self.writes.retain(|write| !phases.contains(&write.phase));
    }

    /// The writes, phases ascending.
    pub fn writes(&self) -> &[PlanWrite] {
        &self.writes
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl Default for UpdatePlan {
    fn default() -> Self {
        Self::new()
    }
}
