// SPDX-License-Identifier: GPL-2.0

//! SNIA Common RAID Disk Data Format.

use super::{Capabilities, DiskImage, Format, MetadataSet, Probe};
use crate::model::{Checked, Context, DiskFacts};
use kernel::prelude::*;

/// The format.
pub struct Ddf;

static CAPABILITIES: Capabilities = Capabilities {
    levels: &[],
    chunk_sectors: (1, 1 << 20),
    chunk_sectors_default: 128,
    disks_max: 256,
    volumes_max: 64,
    name_bytes_max: 16,
    spares_global: true,
    spares_dedicated: true,
    checkpoints: false,
};

impl Format for Ddf {
    fn name(&self) -> &'static str {
        "ddf"
    }

    fn description(&self) -> &'static str {
        "SNIA Common RAID Disk Data Format"
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn probe(&self, _disk: &DiskImage) -> Probe {
        Probe::NotMine
    }

    fn assemble(&self, _disks: &[&DiskImage]) -> Checked<KBox<dyn MetadataSet>> {
        Err(crate::reason!(EOPNOTSUPP, "not implemented yet"))
    }

    fn create(
        &self,
        _disks: &[DiskFacts],
        _name: &str,
        _context: &Context,
    ) -> Checked<KBox<dyn MetadataSet>> {
        Err(crate::reason!(EOPNOTSUPP, "not implemented yet"))
    }
}
