// SPDX-License-Identifier: GPL-2.0

//! The write hole: what a volume's metadata has done about it, and the logs of partial parity that there are.

use super::Slot;

/// What is done so that a crash in the middle of a write takes nothing with it (levels with parity).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CrashPolicy {
    /// Nothing: redundancy is taken as right after a crash. For volumes that are made anew then.
    None,
    /// Redundancy is established again after a crash. What a member held that is missing then, or is
    /// lost before that has passed, may be wrong in stripes that were being written.
    #[default]
    Resync,
    /// The same, and partial parity is logged before a stripe is written, so that nothing is lost with
    /// such a member (`personalities/hole_log`).
    Log,
}

impl CrashPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Resync, Self::Log];

    /// As people type it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Resync => "resync",
            Self::Log => "log",
        }
    }
}

/// The log of partial parity of a volume.
#[derive(Clone, Copy, Debug)]
pub enum HoleLog {
    /// EMD's own: a ring of entries on each member.
    Ring {
        /// Length of each member's ring, in units of 4 KiB.
        units: u32,
        /// What tells the entries that count from all others; `None` when none do.
        session: Option<[u64; 2]>,
    },
    /// One that other drivers of the format keep too.
    Row(LogRow),
}

/// A log of partial parity as other drivers have it: a row of headers and sums on each member
/// (`personalities/hole_log/row.rs`).
#[derive(Clone, Copy, Debug)]
pub struct LogRow {
    /// Length of each member's row.
    pub sectors: u32,
    /// What headers carry.
    pub signature: u32,
    /// Sectors of the unit in which entries give the place in the volume.
    pub unit_sectors: u32,
    /// All that was in flight when the volume was stopped is known. Else headers go on saying that it is not, until parity
    /// agrees everywhere again.
    pub tells_all: bool,
    /// What a header is on the disk; the format knows.
    pub encode: EncodeHeader,
}

/// Writes a header of a [`LogRow`], with one entry or with none, into the start of `unit`, which is one unit of the log
/// (4096 bytes) long at least; else nothing is written. `is_synced`: when the entry is put right, parity agrees
/// everywhere; without an entry, all that was in flight is known. With the entry goes CRC-32C of its sum, from all ones
/// on. `crc` is CRC-32C and goes on from a value; neither inverts. Writes of the volume wait for it: it neither allocates
/// nor sleeps.
pub type EncodeHeader = fn(
    row: &LogRow,
    generation: u64,
    entry: Option<(LoggedWrite, u32)>,
    is_synced: bool,
    crc: fn(u32, &[u8]) -> u32,
    unit: &mut [u8],
);

/// A log of partial parity that another driver keeps for a volume, or EMD as that does: what it tells of is put
/// right before the volume gets another policy, and then it is taken off ([`super::Event::LeftLogOff`]). Where EMD does
/// not keep it up, the volume is only read until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftLog {
    /// Writes may have been in flight: what it says counts.
    pub is_due: bool,
}

/// A write that such a log tells of. It covered the same columns of data chunks that follow one another in a stripe; for
/// the few shapes that are none of these see `personalities/hole_log/left.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedWrite {
    /// The member whose log says so, which is the one with the stripe's parity.
    pub slot: Slot,
    /// First sector of the volume that was written.
    pub first_sector: u64,
    /// Sectors that were written, on all members together.
    pub data_sectors: u32,
    /// Length of the sum of the data that was left alone; 0 when none was.
    pub sum_sectors: u32,
    /// Where in the log's place the sum starts, in sectors.
    pub sum_start: u32,
}
