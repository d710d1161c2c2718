// SPDX-License-Identifier: GPL-2.0

//! New sets and new disks: geometry, identities, empty sections.
//!
//! Geometry is mdadm's, so that mdadm reads what EMD writes: 32 MiB are reserved at the end of every
//! disk; the secondary copy starts 32 MiB, the primary one 16 MiB before the end; the anchor is the
//! last block; 1023 disk and 255 volume entries; 64 configuration records and one for a spare.
//! Records have room for 64 members (EMD's own bound) where mdadm's have 256. Unlike mdadm's, the
//! workspace lies between the two copies and overlaps neither.

use super::super::bytes::{put, slice, slice_mut, Endian};
use super::crc::Crc;
use super::header::{layout_of, Header, Kind};
use super::home::{slot, Home};
use super::layout::*;
use super::log_place::Spots;
use super::model::Quirks;
use super::probe::{identity, Which};
use super::set::{ddf_time, DdfSet, DiskMeta, Touched};
use super::tables;
use super::vendor_log::{DiskLog, Plan, Token, VendorLog};
use crate::model::alloc::boxed;
use crate::model::{
    Checked, Context, Disk, DiskFacts, DiskIndex, DiskRole, DiskState, Set, Text, UpdatePlan,
    DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Bytes that are reserved at the end of a disk.
const RESERVE_BYTES: u64 = 32 << 20;
/// Bytes from the primary header to the end.
const PRIMARY_BYTES: u64 = 16 << 20;
/// Least bytes in front of the reserve.
const DATA_BYTES_MIN: u64 = 1 << 20;
/// Most sectors of a small disk that a workspace is let have: 1 GiB.
const WORKSPACE_SECTORS_MAX: u64 = 1 << 21;
/// How much a set's metadata has room for; it says so itself.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Entries of the disk table.
    pub disks: u16,
    /// Entries of the volume table.
    pub volumes: u16,
    /// Configuration records of a disk, but for the spare's.
    pub partitions: u16,
}

/// What sets are made with.
const USUAL: Room = Room {
    disks: 1023,
    volumes: 255,
    partitions: 64,
};
/// Members of a record.
const MPPE: u16 = 64;
/// Who writes this: the T10 vendor id of GUIDs.
pub const VENDOR: &[u8; 8] = b"EMD     ";

/// [`crate::metadata::Format::create`].
pub fn create(disks: &[DiskFacts], name: &str, context: &Context) -> Checked<KBox<DdfSet>> {
    create_with(&USUAL, disks, name, context)
}

/// The same, with room for more or less.
pub fn create_with(
    room: &Room,
    disks: &[DiskFacts],
    name: &str,
    context: &Context,
) -> Checked<KBox<DdfSet>> {
    let block_bytes = check_disks(disks)?;
    let mut set = empty_set(room, block_bytes, name, context)?;
    set.set.disks.reserve(disks.len(), GFP_KERNEL)?;
    set.disks.reserve(disks.len(), GFP_KERNEL)?;
    for facts in disks {
        add_first_disk(&mut set, facts, context)?;
    }
    set.set.reserve_bad_ranges()?;
    set.reserve_plan()?;
    set.finish(context)?;
    Ok(set)
}

/// A set without disks.
#[inline(never)]
fn empty_set(
    room: &Room,
    block_bytes: u32,
    name: &str,
    context: &Context,
) -> Checked<KBox<DdfSet>> {
    let header = first_header(room, block_bytes, context)?;
    let head = Header::decode(&header, Kind::Primary)?;
    let layout = layout_of(&header, &head, block_bytes)?;
    let from_end = |bytes: u64| Some(layout.blocks(bytes / 512).saturating_sub(1));
    let section = |which| KVVec::from_elem(0xFFu8, layout.section_bytes(which), GFP_KERNEL);
    let mut controller = section(Section::Controller)?;
    fill_controller(&mut controller, &layout, name);
    let mut pd = section(Section::Disks)?;
    tables::format(&mut pd, layout.endian, signature::DISKS, layout.pd_entries);
    let mut vd = section(Section::Volumes)?;
    tables::format(
        &mut vd,
        layout.endian,
        signature::VOLUMES,
        layout.vd_entries,
    );
    boxed(DdfSet {
        set: Set {
            format: "ddf",
            id: identity(&head.guid),
            name: set_name(&controller),
            generation: 0,
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        },
        plan: UpdatePlan::new(),
        layout,
        sequence: 0,
        controller,
        pd,
        vd,
        template: header,
        from_anchor: [
            from_end(PRIMARY_BYTES),
            from_end(RESERVE_BYTES),
            from_end(RESERVE_BYTES - DATA_BYTES_MIN),
        ],
        token: Token::default(),
        log: Some(VendorLog::new(&layout)?),
        quirks: Quirks::default(),
        frozen: false,
        zeros: KVVec::from_elem(0, block_bytes as usize, GFP_KERNEL)?,
        disks: KVec::new(),
        volumes: KVec::new(),
        leaving: None,
        touched: Touched::default(),
    })
}

/// Disks must have one block size, differ, and be large enough.
#[inline(never)]
fn check_disks(disks: &[DiskFacts]) -> Checked<u32> {
    let Some(first) = disks.first() else {
        return Err(reason!(EINVAL, "a set needs at least one disk"));
    };
    if disks.len() > DISKS_MAX {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {DISKS_MAX}",
            disks.len()
        ));
    }
    let block_bytes = first.logical_block_bytes;
    if block_bytes != 512 && block_bytes != 4096 {
        return Err(reason!(
            EINVAL,
            "disks with blocks of {block_bytes} bytes are not supported"
        ));
    }
    for (index, disk) in disks.iter().enumerate() {
        if disk.logical_block_bytes != block_bytes {
            return Err(reason!(
                EINVAL,
                "disks with blocks of {block_bytes} and of {} bytes cannot be in one set",
                disk.logical_block_bytes
            ));
        }
        check_size(disk, RESERVE_BYTES)?;
        if disks
            .iter()
            .skip(index + 1)
            .any(|other| other.key == disk.key)
        {
            return Err(reason!(EINVAL, "a disk is named twice"));
        }
    }
    Ok(block_bytes)
}

fn check_size(disk: &DiskFacts, reserve_bytes: u64) -> Checked {
    let least = (reserve_bytes + DATA_BYTES_MIN) / 512;
    if disk.size_sectors < least {
        return Err(reason!(
            ENOSPC,
            "a disk of {} sectors is too small: DDF here takes at least {least}",
            disk.size_sectors
        ));
    }
    Ok(())
}

/// The header that all disks' headers are made from; places are filled in later.
#[inline(never)]
fn first_header(room: &Room, block_bytes: u32, context: &Context) -> Checked<KVVec<u8>> {
    let mut block = KVVec::from_elem(0xFFu8, block_bytes as usize, GFP_KERNEL)?;
    let endian = Endian::Big;
    let time = ddf_time(context);
    put32(endian, &mut block, 0, signature::HEADER);
    let _ = put(&mut block, header::GUID, &made_guid(context, 0));
    let _ = put(&mut block, header::REVISION, b"01.02.00");
    put32(endian, &mut block, header::SEQUENCE, 0);
    put32(endian, &mut block, header::TIME, time);
    put8(&mut block, header::OPEN, 0);
    put8(&mut block, header::FOREIGN, 0);
    put8(&mut block, header::GROUPING, 0);
    put8(&mut block, header::KIND, Kind::Primary.code());
    let blocks = |bytes: u64| {
        u32::try_from(bytes.checked_div(u64::from(block_bytes)).unwrap_or(0)).unwrap_or(0)
    };
    let workspace = blocks(RESERVE_BYTES - PRIMARY_BYTES - DATA_BYTES_MIN);
    put32(endian, &mut block, header::WORKSPACE_LEN, workspace);
    put16(endian, &mut block, header::PD_MAX, room.disks);
    put16(endian, &mut block, header::VD_MAX, room.volumes);
    put16(endian, &mut block, header::PARTITIONS_MAX, room.partitions);
    put16(endian, &mut block, header::MPPE, MPPE);
    let table = |entries: u16| (TABLE_HEAD + ENTRY_BYTES * usize::from(entries)) as u64;
    let record = (512 + 12 * u64::from(MPPE)).div_ceil(u64::from(block_bytes.max(512)));
    let record = u16::try_from(record).unwrap_or(1);
    put16(endian, &mut block, header::RECORD_BLOCKS, record);
    let lengths = [
        1,
        blocks(table(room.disks)),
        blocks(table(room.volumes)),
        u32::from(record) * (u32::from(room.partitions) + 1),
        1,
    ];
    let mut offset = 1u32;
    for (at, len) in (header::SECTIONS..).step_by(8).zip(lengths) {
        put32(endian, &mut block, at, offset);
        put32(endian, &mut block, at + 4, len);
        offset = offset.saturating_add(len);
    }
    for at in (header::SECTIONS + 8 * lengths.len()..header::VENDOR).step_by(8) {
        put32(endian, &mut block, at + 4, 0);
    }
    put32(endian, &mut block, header::VENDOR, offset);
    let vendor = super::hole::section_blocks(&Plan::new(block_bytes));
    put32(endian, &mut block, header::VENDOR + 4, vendor);
    Crc::Raw.seal(&mut block, endian);
    Ok(block)
}

/// A GUID of EMD's: vendor, controller (none), time, random bytes.
fn made_guid(context: &Context, salt: u64) -> Guid {
    let mut guid = [0u8; GUID_BYTES];
    let _ = put(&mut guid, 0, VENDOR);
    put32(Endian::Big, &mut guid, 16, ddf_time(context));
    let [random, _] = mixed(context, salt);
    put32(Endian::Big, &mut guid, 20, random);
    guid
}

/// The GUID of a new volume.
pub fn volume_guid(context: &Context) -> Guid {
    made_guid(context, 0x564F_4C55)
}

/// Bytes from the context's random numbers (splitmix64's finish).
fn mixed(context: &Context, salt: u64) -> [u32; 2] {
    let [first, second] = context.random;
    let mut value = first
        .wrapping_add(second.rotate_left(32))
        .wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^= value >> 31;
    [(value >> 32) as u32, (value & 0xFFFF_FFFF) as u32]
}

/// GUID of a new disk: its serial number, or made up when it has none or another disk has the same.
pub fn new_disk_guid(
    set: &DdfSet,
    facts: &DiskFacts,
    own: Option<DiskIndex>,
    context: &Context,
) -> Guid {
    let serial = facts.serial.as_str().as_bytes();
    let mut guid = [b' '; GUID_BYTES];
    let _ = put(&mut guid, 0, b"EMD ");
    // The end of a serial number tells disks apart.
    let tail = serial.get(serial.len().saturating_sub(20)..).unwrap_or(&[]);
    let _ = put(&mut guid, GUID_BYTES - tail.len(), tail);
    let endian = set.layout.endian;
    let own = own
        .and_then(|disk| set.disk_meta(disk))
        .and_then(|meta| meta.entry);
    let taken = (0..set.layout.pd_entries)
        .filter(|&index| Some(index) != own)
        .any(|index| tables::entry(&set.pd, endian, index).guid() == guid);
    if serial.is_empty() || taken {
        return made_guid(context, set.disks.len() as u64 + 1);
    }
    guid
}

/// A reference that no disk of the set has.
pub fn new_reference(set: &DdfSet, context: &Context, salt: u64) -> u32 {
    let endian = set.layout.endian;
    let taken = |reference: u32| {
        let listed = (0..set.layout.pd_entries)
            .map(|index| tables::entry(&set.pd, endian, index))
            .any(|entry| entry.used() && entry.reference() == reference);
        listed || set.disks.iter().any(|meta| meta.reference == reference)
    };
    (0u64..)
        .map(|round| {
            let [_, value] = mixed(context, salt.wrapping_add(round << 32).wrapping_add(0x5245));
            value
        })
        .take(1024)
        .find(|&value| value != 0 && value != u32::MAX && !taken(value))
        .unwrap_or(1)
}

/// Controller data: EMD's name, and the set's in the vendor part.
#[inline(never)]
fn fill_controller(bytes: &mut [u8], layout: &Layout, name: &str) {
    put32(layout.endian, bytes, 0, signature::CONTROLLER);
    if let Some(guid) = slice_mut(bytes, 8, GUID_BYTES) {
        guid.fill(b' ');
    }
    let _ = put(bytes, 8, VENDOR);
    if let Some(product) = slice_mut(bytes, 0x28, 16) {
        product.fill(b' ');
    }
    let _ = put(bytes, 0x28, b"EMD");
    if let Some(vendor) = slice_mut(bytes, 0x40, 448) {
        vendor.fill(0);
        for (slot, &byte) in vendor.iter_mut().zip(name.as_bytes().iter().take(32)) {
            *slot = byte;
        }
    }
    layout.crc.seal(bytes, layout.endian);
}

/// The name that EMD put into the controller data; empty for sets of others.
pub fn set_name(controller: &[u8]) -> Text<32> {
    if slice(controller, 8, 8) == Some(VENDOR) {
        Text::from_disk(slice(controller, 0x40, 32).unwrap_or(&[]))
    } else {
        Text::new()
    }
}

#[inline(never)]
fn add_first_disk(set: &mut DdfSet, facts: &DiskFacts, context: &Context) -> Checked {
    let index = u16::try_from(set.disks.len()).unwrap_or(u16::MAX);
    let guid = new_disk_guid(set, facts, None, context);
    let reference = new_reference(set, context, u64::from(index));
    let home = set.fresh_home(facts, &guid, reference)?;
    let usable = set.usable_blocks(&home);
    let layout = set.layout;
    tables::entry_mut(&mut set.pd, layout.endian, index).fill_disk(
        &guid,
        reference,
        usable,
        layout.block_bytes,
    );
    tables::set_count(&mut set.pd, layout.endian, index.saturating_add(1));
    set.touched.disks = true;
    set.set.disks.push(
        Disk {
            facts: Some(*facts),
            label: super::assemble::label_of(&guid, reference),
            state: DiskState::Online,
            role: DiskRole::Unused,
            usable_sectors: usable.saturating_mul(layout.block_sectors()),
            failure_predicted: false,
        },
        GFP_KERNEL,
    )?;
    let [primary, secondary] = home.copies;
    set.disks.push(
        DiskMeta {
            reference,
            entry: Some(index),
            spots: [Some(home.anchor), primary, secondary],
            home: Some(home),
            spare_for: None,
        },
        GFP_KERNEL,
    )?;
    Ok(())
}

impl DdfSet {
    /// Buffers of a new disk, laid out as the set's other disks are, counted from the end.
    pub fn fresh_home(&self, facts: &DiskFacts, guid: &Guid, reference: u32) -> Checked<Home> {
        let layout = self.layout;
        let block = layout.block_bytes as usize;
        let [primary, _, _] = self.from_anchor;
        if primary.is_none() {
            return Err(reason!(
                EOPNOTSUPP,
                "the set's disks have their metadata behind the anchor: no disk can be made like them"
            ));
        }
        let reserve = self.from_anchor.iter().take(2).flatten().max();
        let reserve = reserve.copied().unwrap_or(0).saturating_add(1);
        check_size(facts, reserve.saturating_mul(u64::from(layout.block_bytes)))?;
        let anchor = layout.blocks(facts.size_sectors).saturating_sub(1);
        let [primary, secondary, workspace] = self
            .from_anchor
            .map(|distance| distance.and_then(|distance| anchor.checked_sub(distance)));
        let mut home = Home {
            layout,
            anchor,
            copies: [primary, secondary],
            first: Which::Primary,
            sequence: self.sequence,
            headers: KVVec::from_elem(0, block * slot::COUNT, GFP_KERNEL)?,
            config: KVVec::from_elem(0xFF, layout.section_bytes(Section::Config), GFP_KERNEL)?,
            data: KVVec::from_elem(0xFF, layout.section_bytes(Section::Data), GFP_KERNEL)?,
            log: self.fresh_log()?,
            vendor: None,
            dirty: [
                super::move_in::dirty_map(&layout)?,
                super::move_in::dirty_map(&layout)?,
            ],
            fresh: true,
            holds_data: false,
            gains: false,
        };
        home.vendor = self.fresh_section(&Spots {
            primary: primary.unwrap_or(u64::MAX),
            secondary,
            anchor,
            workspace,
            workspace_blocks: get32(layout.endian, &self.template, header::WORKSPACE_LEN),
            end: layout.blocks(facts.size_sectors),
        })?;
        tables::disk_data::format(&mut home.data, layout.endian, guid, reference);
        layout.crc.seal(&mut home.data, layout.endian);
        let places = [primary, secondary, workspace];
        for (index, kind) in [
            (slot::ANCHOR, Kind::Anchor),
            (slot::closed(Which::Primary), Kind::Primary),
            (slot::closed(Which::Secondary), Kind::Secondary),
        ] {
            self.fresh_header(home.header_mut(index), kind, places);
        }
        Ok(home)
    }

    /// A header of a new disk, from the template.
    fn fresh_header(&self, block: &mut [u8], kind: Kind, places: [Option<u64>; 3]) {
        let (endian, crc) = (self.layout.endian, self.layout.crc);
        let [primary, secondary, workspace] = places;
        let _ = put(block, 0, &self.template);
        put64(endian, block, header::PRIMARY, primary.unwrap_or(u64::MAX));
        put64(
            endian,
            block,
            header::SECONDARY,
            secondary.unwrap_or(u64::MAX),
        );
        if let Some(workspace) = workspace {
            put64(endian, block, header::WORKSPACE, workspace);
        }
        put8(block, header::KIND, kind.code());
        put8(block, header::OPEN, 0);
        if kind == Kind::Anchor {
            put8(block, header::OPEN, 0xFF);
            put32(endian, block, header::SEQUENCE, u32::MAX);
        }
        // Diagnostic space and vendor logs of other disks mean nothing here, but for EMD's own.
        for at in [header::DIAGNOSTIC, header::VENDOR] {
            if at == header::DIAGNOSTIC || self.log.is_none() {
                put32(endian, block, at, u32::MAX);
                put32(endian, block, at + 4, 0);
            }
        }
        crc.seal(block, endian);
    }

    /// EMD's own records on a new disk, when the set has them.
    fn fresh_section(&self, spots: &Spots) -> Checked<Option<DiskLog>> {
        let guid = get_guid(&self.template, header::GUID);
        let (Some(log), Some(room)) = (self.log.as_ref(), spots.room(&guid, &self.layout)) else {
            return Ok(None);
        };
        Ok(Some(DiskLog::new(&log.plan, room.first, room.blocks)?))
    }

    /// An empty bad block log, when the set's disks have one.
    fn fresh_log(&self) -> Checked<KVVec<u8>> {
        let layout = self.layout;
        let len = layout.section_bytes(Section::BadBlocks);
        let mut log = KVVec::from_elem(0xFFu8, len, GFP_KERNEL)?;
        if len > 0 {
            put32(layout.endian, &mut log, 0, signature::BAD_BLOCKS);
            put32(layout.endian, &mut log, 8, 0);
            put32(layout.endian, &mut log, 12, 0);
            layout.crc.seal(&mut log, layout.endian);
        }
        Ok(log)
    }

    /// Blocks of a new disk that volumes may use: all in front of its metadata and its workspace. A workspace that would take
    /// more than a GiB and more than a sixteenth of the disk is not believed.
    pub fn usable_blocks(&self, home: &Home) -> u64 {
        let copies = home
            .copies
            .into_iter()
            .flatten()
            .fold(home.anchor, u64::min);
        let [_, _, workspace] = self.from_anchor;
        let Some(workspace) = workspace.and_then(|distance| home.anchor.checked_sub(distance))
        else {
            return copies;
        };
        let taken = copies.saturating_sub(workspace);
        let much = self
            .layout
            .blocks(WORKSPACE_SECTORS_MAX)
            .max(home.anchor / 16);
        if taken > much {
            copies
        } else {
            workspace.min(copies)
        }
    }
}
