// SPDX-License-Identifier: GPL-2.0

//! Where EMD's own records (`vendor_log`) lie on a disk.
//!
//! | set made by | place |
//! |---|---|
//! | EMD | the vendor-specific log section, behind the disk data of the primary copy |
//! | mdadm | the workspace, behind the secondary copy, which mdadm puts at the start of it |
//! | others | none: section and workspace are theirs |
//!
//! The workspace is scratch for what a controller does to volumes (SNIA DDF 2.0, 4.2.1, "Workspace_LBA"). mdadm
//! (`super-ddf.c`) writes the fields and never uses it. A controller that was given the set may: so there are no records as
//! long as a volume is being migrated. Both kinds of place lie behind the first copy of the metadata, where
//! no volume can have data.

use super::layout::*;
use super::probe::Found;
use super::tables;
use super::vendor_log::Plan;

/// Who made a set, where EMD's records are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Maker {
    Emd,
    Mdadm,
    Other,
}

/// The vendor in GUIDs of mdadm's (`make_header_guid`).
const MDADM: &[u8; 8] = b"Linux-MD";

/// Places are aligned to this, for disks with longer blocks than they tell.
const ALIGN_SECTORS: u64 = 8;

impl Maker {
    fn of(guid: &Guid) -> Self {
        if is_ours(guid) {
            Self::Emd
        } else if guid.starts_with(MDADM) {
            Self::Mdadm
        } else {
            Self::Other
        }
    }
}

/// Whether a group was made by EMD, so that the vendor log is EMD's.
pub fn is_ours(guid: &Guid) -> bool {
    guid.starts_with(super::create::VENDOR)
}

/// Whether all who use a group record losses before they write without a disk, as EMD and mdadm do.
pub fn keeps_order(guid: &Guid) -> bool {
    Maker::of(guid) != Maker::Other
}

/// Whether the records of the set `guid` lie in the workspace, and a volume of its table `vd` is being migrated: whoever does
/// that may need the workspace now.
pub fn is_scratch_in_use(guid: &Guid, vd: &[u8], layout: &Layout) -> bool {
    let entries = (0..layout.vd_entries).map(|index| tables::entry(vd, layout.endian, index));
    let mut used = entries.filter(tables::Entry::used);
    Maker::of(guid) == Maker::Mdadm && used.any(|entry| entry.volume_state() & vde::MORPHING != 0)
}

/// Room for EMD's records on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// First block.
    pub first: u64,
    /// Blocks.
    pub blocks: u32,
}

/// What is where on a disk, in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Spots {
    /// Header of the primary copy.
    pub primary: u64,
    /// Header of the secondary copy; without one there are no records.
    pub secondary: Option<u64>,
    /// The anchor.
    pub anchor: u64,
    /// First block of the workspace.
    pub workspace: Option<u64>,
    /// Blocks of the workspace.
    pub workspace_blocks: u32,
    /// Blocks of the disk.
    pub end: u64,
}

impl Spots {
    /// Room for the records of the set `guid`, when it has any and they hit nothing else there.
    pub fn room(&self, guid: &Guid, layout: &Layout) -> Option<Room> {
        let least = Plan::new(layout.block_bytes).blocks();
        let room = match Maker::of(guid) {
            Maker::Emd => self.section(layout)?,
            Maker::Mdadm => self.in_workspace(layout)?,
            Maker::Other => return None,
        };
        (room.blocks >= least && self.is_free(room, layout)).then_some(room)
    }

    /// The vendor-specific log section.
    fn section(&self, layout: &Layout) -> Option<Room> {
        let place = layout.vendor;
        let first = self.primary.checked_add(u64::from(place.offset))?;
        (place.offset >= layout.span_blocks()).then_some(Room {
            first,
            blocks: place.blocks,
        })
    }

    /// What lies behind the secondary copy of the workspace that starts with it, as far as it is free.
    fn in_workspace(&self, layout: &Layout) -> Option<Room> {
        let (start, copy) = (self.workspace?, self.secondary?);
        let end = start.checked_add(u64::from(self.workspace_blocks))?;
        if copy < start || copy >= end {
            return None;
        }
        let align = ALIGN_SECTORS.checked_div(layout.block_sectors())?.max(1);
        let first = copy
            .checked_add(u64::from(layout.span_blocks()))?
            .checked_next_multiple_of(align)?;
        let behind = [self.primary, self.anchor, self.end];
        let next = behind.into_iter().filter(|&other| other >= first).min()?;
        let blocks = end.min(next).checked_sub(first)?;
        Some(Room {
            first,
            blocks: u32::try_from(blocks).ok()?,
        })
    }

    /// Whether a place hits neither copy nor the anchor, and lies on the disk, behind a copy.
    fn is_free(&self, room: Room, layout: &Layout) -> bool {
        let Some(secondary) = self.secondary else {
            return false;
        };
        let Some(end) = room.first.checked_add(u64::from(room.blocks)) else {
            return false;
        };
        let span = u64::from(layout.span_blocks());
        let apart = |copy: u64| {
            end <= copy
                || copy
                    .checked_add(span)
                    .is_some_and(|copy_end| copy_end <= room.first)
        };
        apart(self.primary)
            && apart(secondary)
            && (end <= self.anchor || self.anchor < room.first)
            && end <= self.end
            && room.first >= self.primary.min(secondary)
    }
}

/// Room for EMD's records on a disk that was looked at.
pub fn room_on(disk: &Found<'_>) -> Option<Room> {
    let copy = disk.best()?;
    let at = get64(copy.layout.endian, copy.bytes, header::WORKSPACE);
    let spots = Spots {
        primary: copy.head.primary,
        secondary: copy.head.secondary,
        anchor: disk.anchor,
        workspace: Some(at).filter(|&at| at != u64::MAX),
        workspace_blocks: get32(copy.layout.endian, copy.bytes, header::WORKSPACE_LEN),
        end: copy.layout.blocks(disk.facts.size_sectors),
    };
    spots.room(&copy.head.guid, &copy.layout)
}
