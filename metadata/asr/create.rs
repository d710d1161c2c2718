// SPDX-License-Identifier: GPL-2.0

//! New sets and new disks.
//!
//! The table is 17 sectors before the end, where everybody looks for it. A set without volumes has
//! its disks in a list of spares, as unconfigured ones: dmraid wants every disk to have a line.

use super::assemble::{label_of, make_home};
use super::disks::spare_line;
use super::layout::*;
use super::probe::identity_of;
use super::set::{mix, AsrSet, DiskMeta, Home, Spot, Touched};
use super::table::Table;
use crate::model::alloc::boxed;
use crate::model::{Checked, Context, Disk, DiskFacts, DiskRole, DiskState, Set, Text, UpdatePlan};
use crate::reason;
use kernel::prelude::*;

/// Fewest sectors of a new disk: 1 MiB.
const SECTORS_MIN: u64 = 2048;

/// [`crate::metadata::Format::create`].
pub fn create(disks: &[DiskFacts], name: &str, context: &Context) -> Checked<KBox<AsrSet>> {
    check_disks(disks)?;
    if !name.is_empty() {
        return Err(reason!(
            EOPNOTSUPP,
            "ASR has no place for the name of a set; its volumes have names"
        ));
    }
    let id = (0..256u64)
        .map(|round| mix(context, u64::MAX - round))
        .find(|&id| !matches!(id, 0 | NO_MAGIC))
        .unwrap_or(1);
    let mut set = boxed(AsrSet {
        set: Set {
            format: "asr",
            id: identity_of(id),
            name: Text::new(),
            generation: 0,
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        },
        plan: UpdatePlan::new(),
        id,
        table: Table::fresh(id)?,
        sequence: 0,
        frozen: None,
        zeros: KVVec::from_elem(0, 512, GFP_KERNEL)?,
        disks: KVec::new(),
        volumes: KVec::new(),
        leaving: None,
        touched: Touched::Lines,
    })?;
    set.set.reserve_bad_ranges()?;
    for facts in disks {
        add_first_disk(&mut set, facts, context)?;
    }
    set.reserve_plan()?;
    set.finish(context)?;
    Ok(set)
}

#[inline(never)]
fn add_first_disk(set: &mut AsrSet, facts: &DiskFacts, context: &Context) -> Checked {
    let magic = set.new_magic(context, set.disks.len() as u64);
    let home = fresh_home(facts, magic)?;
    let usable_sectors = home.place;
    let spot = Spot {
        table: home.place,
        last: home.last,
    };
    set.set.disks.push(
        Disk {
            facts: Some(*facts),
            label: label_of(magic),
            state: DiskState::Online,
            role: DiskRole::Unused,
            usable_sectors,
            failure_predicted: false,
        },
        GFP_KERNEL,
    )?;
    set.disks.push(
        DiskMeta {
            magic,
            spot: Some(spot),
            was_away: false,
            home: Some(home),
        },
        GFP_KERNEL,
    )?;
    set.list_spare(
        None,
        &spare_line(magic, state::UNCONFIGURED, usable_sectors),
    );
    Ok(())
}

/// Buffers of a new disk.
pub fn fresh_home(facts: &DiskFacts, magic: u32) -> Checked<Home> {
    check_size(facts)?;
    let last = facts.size_sectors.saturating_sub(1);
    let place = facts.size_sectors.saturating_sub(TAIL_SECTORS);
    let mut block = KVVec::from_elem(0u8, 512, GFP_KERNEL)?;
    put32(&mut block, reserved::SIGNATURE_AT, reserved::SIGNATURE);
    put8(&mut block, reserved::VERSION_AT, reserved::VERSION);
    put32(&mut block, reserved::DRIVE, magic);
    put32(&mut block, reserved::VALID_AT, reserved::VALID);
    let mut home = make_home(place, last, &block)?;
    home.fresh = true;
    Ok(home)
}

/// A disk must have blocks of 512 bytes, and sectors that 32 bits can number.
pub fn check_size(facts: &DiskFacts) -> Checked {
    if facts.logical_block_bytes != 512 {
        return Err(reason!(
            EINVAL,
            "ASR is for disks with blocks of 512 bytes, not {}",
            facts.logical_block_bytes
        ));
    }
    if facts.size_sectors < SECTORS_MIN {
        return Err(reason!(
            ENOSPC,
            "a disk of {} sectors is too small; {SECTORS_MIN} are needed",
            facts.size_sectors
        ));
    }
    if facts.size_sectors > u64::from(u32::MAX) {
        return Err(reason!(
            EFBIG,
            "ASR numbers sectors with 32 bits: disks of 2 TiB and more do not fit"
        ));
    }
    Ok(())
}

#[inline(never)]
fn check_disks(disks: &[DiskFacts]) -> Checked {
    if disks.is_empty() {
        return Err(reason!(EINVAL, "a set needs at least one disk"));
    }
    if disks.len() > usize::from(super::SET_DISKS_MAX) {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {}",
            disks.len(),
            super::SET_DISKS_MAX
        ));
    }
    for (index, disk) in disks.iter().enumerate() {
        check_size(disk)?;
        let twin = disks.iter().skip(index + 1).any(|d| d.key == disk.key);
        if twin {
            return Err(reason!(EINVAL, "disk {index} is named twice"));
        }
    }
    Ok(())
}
