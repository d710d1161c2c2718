// SPDX-License-Identifier: GPL-2.0

//! Disks as formats see them. What a format reads of a disk is kept from history to history, and brought up
//! to date where the disk was written: reading all of it takes longer than a history.

use crate::disk::Disk;
use crate::setup;
use crate::sim::Sim;
use emd_core::metadata::{DiskImage, Extent, Format, Probe, Region};
use emd_core::metadata::{PROBE_BYTES_MAX, PROBE_ROUNDS_MAX};
use kernel::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What was read of the disks of a set, by key.
pub struct Images {
    /// What the format reads of a disk of the set.
    regions: Vec<Region>,
    kept: RefCell<BTreeMap<usize, Seen>>,
}

/// What was read of a disk.
pub struct Seen {
    key: usize,
    /// It.
    pub image: DiskImage,
    /// Sectors that had been written by then.
    written: BTreeSet<u64>,
}

impl Images {
    /// Those of a set that was just made; a disk of it says what the format reads.
    pub fn of(format: &dyn Format, disk: &Disk) -> Result<Self, String> {
        let mut seen = Seen::new(0);
        if !seen.probe(format, disk)? {
            return Err("what was made is not found".into());
        }
        let extents = seen.image.extents.iter();
        Ok(Self {
            regions: extents.map(|extent| extent.region).collect(),
            kept: RefCell::default(),
        })
    }
}

impl Seen {
    fn new(key: usize) -> Self {
        let facts = setup::facts(key);
        let extents = KVec::new();
        Self {
            key,
            image: DiskImage { facts, extents },
            written: BTreeSet::new(),
        }
    }

    /// Brings it up to date.
    fn refresh(&mut self, disk: &Disk) {
        for extent in self.image.extents.iter_mut() {
            if let Some(bytes) = extent.bytes.as_mut() {
                disk.put_back(extent.region.sector, bytes, &self.written);
                disk.update(extent.region.sector, bytes);
            }
        }
        self.written = disk.written();
    }

    fn read(&mut self, disk: &Disk, region: Region) -> Result<(), String> {
        let data = disk.read_bytes(region.sector, region.len_sectors);
        let mut copy = KVVec::with_capacity(data.len(), GFP_KERNEL).map_err(|_| "memory")?;
        copy.extend_from_slice(&data, GFP_KERNEL)
            .map_err(|_| "memory")?;
        let extent = Extent {
            region,
            bytes: Some(copy),
        };
        let pushed = self.image.extents.push(extent, GFP_KERNEL);
        pushed.map_err(|_| "memory".into())
    }

    /// Reads what the format asks for; false when it finds nothing of its own.
    fn probe(&mut self, format: &dyn Format, disk: &Disk) -> Result<bool, String> {
        let key = self.key;
        for _ in 0..=PROBE_ROUNDS_MAX {
            match format.probe(&self.image) {
                Probe::Read(region) => {
                    self.read(disk, region)?;
                    let extents = self.image.extents.iter();
                    let read: usize = extents
                        .map(|extent| extent.region.len_sectors as usize * 512)
                        .sum();
                    if read > PROBE_BYTES_MAX {
                        return Err(format!("disk {key}: probing reads too much"));
                    }
                }
                Probe::Found { .. } => return Ok(true),
                Probe::NotMine => return Ok(false),
                Probe::Damaged(why) => return Err(format!("disk {key} is damaged: {why}")),
            }
        }
        Err(format!("disk {key}: the format never has enough"))
    }
}

impl Sim {
    /// Reads of a disk what the format asks for; `None` when it finds nothing of its own.
    pub fn look_at(&self, key: usize) -> Result<Option<Seen>, String> {
        let images = &self.template.images;
        let disk = &self.disks[key];
        let kept = images.kept.borrow_mut().remove(&key);
        let mut seen = match kept {
            Some(mut seen) => {
                let was_first = seen.written.is_empty() && key < self.template.disks.len();
                seen.refresh(disk);
                if was_first && seen.written.is_empty() {
                    // As it was when it was last looked at.
                    return Ok(Some(seen));
                }
                seen
            }
            None => {
                let mut seen = Seen::new(key);
                for &region in &images.regions {
                    seen.read(disk, region)?;
                }
                seen.written = disk.written();
                seen
            }
        };
        let format = setup::format_of(&self.history.config);
        match seen.probe(format, disk) {
            Ok(true) => Ok(Some(seen)),
            Ok(false) => {
                self.have_seen([seen]);
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    /// Keeps what was read for the next time.
    pub fn have_seen(&self, all: impl IntoIterator<Item = Seen>) {
        let mut kept = self.template.images.kept.borrow_mut();
        kept.extend(all.into_iter().map(|seen| (seen.key, seen)));
    }
}
