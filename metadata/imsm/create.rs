// SPDX-License-Identifier: GPL-2.0

//! New sets. Without a volume, every disk is a spare with an MPB of its own; their first family number
//! makes them one set.

use super::disks::{check_facts, SPARE_GENERATION};
use super::mpb::Mpb;
use super::probe;
use super::set::{random_number, ImsmSet};
use crate::model::alloc::boxed;
use crate::model::{Checked, Context, DiskFacts, DiskIndex, Set, Text, UpdatePlan};
use crate::reason;
use kernel::prelude::*;

/// [`crate::metadata::Format::create`].
#[inline(never)]
pub fn create(disks: &[DiskFacts], name: &str, context: &Context) -> Checked<KBox<ImsmSet>> {
    let Some(first) = disks.first() else {
        return Err(reason!(EINVAL, "a set needs at least one disk"));
    };
    let most = usize::from(super::CAPABILITIES.disks_max);
    if disks.len() > most {
        return Err(reason!(E2BIG, "{} disks are more than {most}", disks.len()));
    }
    if !name.is_empty() {
        return Err(reason!(
            EOPNOTSUPP,
            "Intel metadata has no place for a set's name; volumes have names"
        ));
    }
    for (index, disk) in disks.iter().enumerate() {
        check_disk(disk, first, disks.get(index + 1..).unwrap_or(&[]))?;
    }
    let family = random_number(context, 0x4F52);
    let mut set = empty_set(first.logical_block_bytes, family, context)?;
    set.set.disks.reserve(disks.len(), GFP_KERNEL)?;
    set.disks.reserve(disks.len(), GFP_KERNEL)?;
    for (index, facts) in disks.iter().enumerate() {
        let home = set.fresh_home()?;
        set.push_fresh(facts, check_facts(facts)?, home)?;
        let own = random_number(context, 0x5350_0000 + index as u64);
        set.fill_own(index as DiskIndex, own, SPARE_GENERATION);
    }
    set.set.reserve_bad_ranges()?;
    set.reserve_plan()?;
    set.finish(context)?;
    Ok(set)
}

/// Disks must have one block size and differ.
fn check_disk(disk: &DiskFacts, first: &DiskFacts, others: &[DiskFacts]) -> Checked {
    let serial = check_facts(disk)?;
    if disk.logical_block_bytes != first.logical_block_bytes {
        return Err(reason!(
            EINVAL,
            "disks with blocks of {} and of {} bytes cannot be in one set",
            first.logical_block_bytes,
            disk.logical_block_bytes
        ));
    }
    for other in others {
        if other.key == disk.key {
            return Err(reason!(EINVAL, "a disk is named twice"));
        }
        if check_facts(other)? == serial {
            return Err(reason!(
                EINVAL,
                "two disks have the same serial number (its last 16 characters): {}",
                disk.serial
            ));
        }
    }
    Ok(())
}

/// A set without disks.
#[inline(never)]
fn empty_set(block_bytes: u32, family: u32, context: &Context) -> Checked<KBox<ImsmSet>> {
    let (mut mpb, mut shadow) = (Mpb::empty()?, Mpb::empty()?);
    mpb.format(family, family, context.now_seconds);
    mpb.put32(super::layout::header::GENERATION, SPARE_GENERATION);
    shadow.assign(&mpb);
    boxed(ImsmSet {
        set: Set {
            format: "imsm",
            id: probe::identity(family),
            name: Text::from_fmt(format_args!("{family:08x}")),
            generation: u64::from(SPARE_GENERATION),
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        },
        plan: UpdatePlan::new(),
        block_bytes,
        mpb,
        shadow,
        frozen: None,
        zeros: KVVec::from_elem(0, block_bytes as usize, GFP_KERNEL)?,
        disks: KVec::new(),
        volumes: KVec::new(),
        leaving: None,
        changed: false,
    })
}
