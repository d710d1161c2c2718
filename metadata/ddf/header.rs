// SPDX-License-Identifier: GPL-2.0

//! Headers: anchor, primary, secondary.

use super::super::bytes::{array, Endian};
use super::crc::Crc;
use super::layout::*;
use crate::model::Checked;
use crate::reason;
use kernel::prelude::*;

/// Most bytes of one copy of the metadata (header and sections) that are read. Two copies, the
/// anchor search and slack stay below `PROBE_BYTES_MAX`.
pub const COPY_BYTES_MAX: u64 = 3 << 20;

/// What a header was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// In the last block; says where the others are.
    Anchor,
    /// First copy.
    Primary,
    /// Second copy.
    Secondary,
}

impl Kind {
    /// The value of the type field.
    pub fn code(self) -> u8 {
        match self {
            Kind::Anchor => 0,
            Kind::Primary => 1,
            Kind::Secondary => 2,
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Anchor => "anchor",
            Kind::Primary => "primary header",
            Kind::Secondary => "secondary header",
        }
    }
}

/// A header's own fields; sections are in [`Layout`].
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Byte order of the disk.
    pub endian: Endian,
    /// Checksum convention of the disk.
    pub crc: Crc,
    /// GUID of the group of disks.
    pub guid: Guid,
    /// Update counter; all ones counts as 0 (graid and Marvell never set it).
    pub sequence: u32,
    /// Being updated when it was written.
    pub open: bool,
    /// Marked as configured elsewhere.
    pub foreign: bool,
    /// Block of the primary header.
    pub primary: u64,
    /// Block of the secondary header.
    pub secondary: Option<u64>,
    /// The type field.
    pub kind: u8,
}

/// Byte order, when the bytes start with a header's signature.
pub fn signature_endian(block: &[u8]) -> Option<Endian> {
    let raw: [u8; 4] = array(block, 0)?;
    if u32::from_be_bytes(raw) == signature::HEADER {
        Some(Endian::Big)
    } else if u32::from_le_bytes(raw) == signature::HEADER {
        Some(Endian::Little)
    } else {
        None
    }
}

impl Header {
    /// Decodes one block. Signature and checksum must be right.
    pub fn decode(block: &[u8], kind: Kind) -> Checked<Header> {
        let Some(endian) = signature_endian(block) else {
            return Err(reason!(
                EINVAL,
                "no DDF {} where one should be",
                kind.name()
            ));
        };
        let Some(crc) = Crc::detect(block, endian) else {
            return Err(reason!(
                EINVAL,
                "the checksum of the DDF {} is wrong",
                kind.name()
            ));
        };
        let sequence = get32(endian, block, header::SEQUENCE);
        let secondary = get64(endian, block, header::SECONDARY);
        Ok(Header {
            endian,
            crc,
            guid: get_guid(block, header::GUID),
            sequence: if sequence == u32::MAX { 0 } else { sequence },
            open: (1..=15).contains(&get8(block, header::OPEN)),
            foreign: get8(block, header::FOREIGN) == 1,
            primary: get64(endian, block, header::PRIMARY),
            secondary: (secondary != u64::MAX).then_some(secondary),
            kind: get8(block, header::KIND),
        })
    }
}

/// Reads and checks the section layout of the header in `block`.
#[inline(never)]
pub fn layout_of(block: &[u8], head: &Header, block_bytes: u32) -> Checked<Layout> {
    let endian = head.endian;
    let mut layout = Layout {
        endian,
        crc: head.crc,
        block_bytes,
        places: [Place::ABSENT; 6],
        vendor: Place::ABSENT,
        pd_entries: 0,
        vd_entries: 0,
        config_slots: 0,
        partitions: 0,
        record_bytes: 0,
        mppe: 0,
    };
    for (at, place) in (header::SECTIONS..)
        .step_by(8)
        .zip(layout.places.iter_mut())
    {
        let found = Place {
            offset: get32(endian, block, at),
            blocks: get32(endian, block, at.saturating_add(4)),
        };
        if found.offset != u32::MAX && found.blocks != 0 {
            *place = found;
        }
    }
    let vendor = Place {
        offset: get32(endian, block, header::VENDOR),
        blocks: get32(endian, block, header::VENDOR + 4),
    };
    if vendor.offset != u32::MAX && vendor.blocks != 0 {
        layout.vendor = vendor;
    }
    check_places(&layout)?;
    layout.pd_entries = entries(
        &layout,
        Section::Disks,
        get16(endian, block, header::PD_MAX),
    )?;
    layout.vd_entries = entries(
        &layout,
        Section::Volumes,
        get16(endian, block, header::VD_MAX),
    )?;
    records(&mut layout, block)?;
    Ok(layout)
}

/// Sections must exist, lie close behind the header and not overlap.
#[inline(never)]
fn check_places(layout: &Layout) -> Checked {
    for section in Section::ALL {
        let place = layout.place(section);
        if place.blocks == 0 {
            if matches!(section, Section::Controller | Section::BadBlocks) {
                continue;
            }
            return Err(reason!(
                EINVAL,
                "the DDF header names no {}",
                section.name()
            ));
        }
        let end = u64::from(place.offset) + u64::from(place.blocks);
        if place.offset == 0 || end * u64::from(layout.block_bytes) > COPY_BYTES_MAX {
            return Err(reason!(
                EINVAL,
                "the DDF header places the {} at block {}+{}, out of bounds",
                section.name(),
                place.offset,
                place.blocks
            ));
        }
        for other in Section::ALL {
            let theirs = layout.place(other);
            if (other as usize) < (section as usize)
                && place.offset < theirs.end()
                && theirs.offset < place.end()
            {
                return Err(reason!(
                    EINVAL,
                    "the DDF header lets {} and {} overlap",
                    section.name(),
                    other.name()
                ));
            }
        }
    }
    Ok(())
}

fn entries(layout: &Layout, section: Section, max: u16) -> Checked<u16> {
    let room = layout.section_bytes(section).saturating_sub(TABLE_HEAD) / ENTRY_BYTES;
    let room = u16::try_from(room).unwrap_or(u16::MAX - 1);
    if max == 0 || room == 0 {
        return Err(reason!(EINVAL, "the DDF {} has no room", section.name()));
    }
    Ok(max.min(room))
}

#[inline(never)]
fn records(layout: &mut Layout, block: &[u8]) -> Checked {
    let endian = layout.endian;
    let blocks = get16(endian, block, header::RECORD_BLOCKS);
    let bytes = u32::from(blocks) * layout.block_bytes;
    let section = layout.section_bytes(Section::Config);
    if blocks == 0 || bytes as usize > section {
        return Err(reason!(
            EINVAL,
            "DDF configuration records of {blocks} blocks do not fit into {section} bytes"
        ));
    }
    let room = (bytes - 512) / 12;
    let mppe = get16(endian, block, header::MPPE);
    layout.mppe = if mppe == u16::MAX {
        // Adaptec: as many as the record, and the disk table, have room for.
        layout
            .pd_entries
            .min(u16::try_from(room).unwrap_or(u16::MAX))
    } else {
        mppe
    };
    if layout.mppe == 0 || u32::from(layout.mppe) > room {
        return Err(reason!(
            EINVAL,
            "DDF records of {bytes} bytes have no room for {mppe} members"
        ));
    }
    layout.record_bytes = bytes;
    let slots = section / (bytes as usize);
    layout.config_slots = u16::try_from(slots).unwrap_or(u16::MAX);
    layout.partitions = match get16(endian, block, header::PARTITIONS_MAX) {
        0 => layout.config_slots,
        partitions => partitions.min(layout.config_slots),
    };
    Ok(())
}
