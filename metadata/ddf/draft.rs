// SPDX-License-Identifier: GPL-2.0

//! What a new volume would be: level, layout, spans, chunk and size of a specification, checked
//! against the format, the set and its disks. Nothing is changed here.

use super::layout::*;
use super::model::{
    capacity_sectors, ddf_level, level_read, member_sectors_for, volume_state, STRIP_MAX,
};
use super::set::DdfSet;
use super::space::ALIGN_SECTORS;
use super::volumes::new_member;
use crate::metadata::check_region_log;
use crate::model::{
    Checked, Layout as Placement, Level, Member, Rotation, Shape, VolumeSpec, MEMBERS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Chunk when the caller leaves it to the format: 64 KiB.
pub const CHUNK_SECTORS_DEFAULT: u32 = 128;

/// Secondary level of all volumes with several basic ones: spanned, as mdadm and LSI write it. With
/// basic volumes of one size it is the same as striped.
const SPANNED: u8 = 3;

/// A volume that could be made.
pub struct Draft {
    /// Where everything is.
    pub shape: Shape,
    /// Members of each basic volume.
    pub width: u16,
    /// Basic volumes.
    pub spans: u16,
    /// Strip exponent, FF for none.
    pub strip: u8,
    /// Primary level.
    pub prl: u8,
    /// Its qualifier.
    pub rlq: u8,
    /// Secondary level, FF for none.
    pub second_level: u8,
    /// Size that users see.
    pub size_sectors: u64,
}

impl DdfSet {
    /// [`crate::metadata::MetadataSet::largest_volume`].
    pub fn largest(&self, spec: &VolumeSpec<'_>) -> Checked<u64> {
        crate::metadata::largest_of(spec, |spec| Ok(self.draft(spec)?.size_sectors))
    }

    /// Checks a specification and works out what it comes to.
    #[inline(never)]
    pub fn draft(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        self.check_name(spec.name.as_str(), None)?;
        let mut draft = self.draft_level(spec)?;
        self.draft_chunk(spec, &mut draft)?;
        self.check_spec_disks(spec, &draft)?;
        self.check_regions(spec)?;
        let unit = match u64::from(draft.shape.chunk_sectors) {
            0 => ALIGN_SECTORS,
            chunk => chunk,
        };
        let most = self.largest_member(spec, unit);
        let mut shape = draft.shape;
        shape.member_sectors = most;
        let largest = capacity_sectors(&shape);
        if largest == 0 {
            return Err(reason!(
                ENOSPC,
                "the disks have no free stretch of {unit} sectors in common"
            ));
        }
        if spec.size_sectors != 0 {
            let needed = member_sectors_for(&shape, spec.size_sectors, unit);
            let needed = needed
                .filter(|&sectors| sectors <= most)
                .ok_or_else(|| reason!(ENOSPC, "at most {largest} sectors fit onto these disks"))?;
            if self.layout.blocks(spec.size_sectors) * self.layout.block_sectors()
                != spec.size_sectors
            {
                return Err(reason!(
                    EINVAL,
                    "a size of {} sectors is not a multiple of the disks' blocks",
                    spec.size_sectors
                ));
            }
            shape.member_sectors = needed;
            // mdadm goes by what the members hold, whatever the record says, so both say the same.
            draft.size_sectors = capacity_sectors(&shape);
        } else {
            draft.size_sectors = largest;
        }
        draft.shape = shape;
        Ok(draft)
    }

    /// Sets that have EMD's own records keep regions of each volume with redundancy, others of none.
    #[inline(never)]
    fn check_regions(&self, spec: &VolumeSpec<'_>) -> Checked {
        check_region_log("DDF", &super::CAPABILITIES, spec.level, spec.regions)?;
        let keeps = self.log.is_some() && self.free_log_slot().is_some();
        match spec.regions {
            Some(true) if !keeps => Err(reason!(
                EOPNOTSUPP,
                "there is no place for a log of regions: its disks were laid out by somebody else, or other volumes have it all"
            )),
            Some(false) if keeps && spec.level.is_redundant() => Err(reason!(
                EOPNOTSUPP,
                "DDF volumes of such a set always have a log of regions"
            )),
            _ => Ok(()),
        }
    }

    /// Level, layout, members, spans.
    #[inline(never)]
    fn draft_level(&self, spec: &VolumeSpec<'_>) -> Checked<Draft> {
        let members = self.span_members(spec)?;
        let layout = spec.layout.unwrap_or_else(|| usual_layout(spec.level));
        // A RAID 10 is a secondary level over mirrors, each a basic volume.
        let (width, spans) = match (spec.level, layout) {
            (Level::Raid10, Placement::Near(copies)) => mirrors(members, u16::from(copies))?,
            _ => (members, spec.spans),
        };
        let Some((prl, rlq)) = ddf_level(spec.level, layout, width) else {
            return Err(reason!(
                EOPNOTSUPP,
                "DDF has no {} with layout {layout}",
                spec.level
            ));
        };
        let basic = match spec.level {
            Level::Raid10 => (Level::Raid1, Placement::Plain),
            level => (level, layout),
        };
        if level_read(prl, rlq, self.quirks).ok() != Some(basic) {
            return Err(reason!(
                EOPNOTSUPP,
                "{} with layout {layout} would be read as another one on a set of this maker",
                spec.level
            ));
        }
        Ok(Draft {
            shape: Shape {
                level: spec.level,
                layout,
                members,
                spans: spec.spans,
                chunk_sectors: 0,
                member_sectors: 0,
            },
            width,
            spans,
            strip: u8::MAX,
            prl,
            rlq,
            second_level: if spans > 1 { SPANNED } else { u8::MAX },
            size_sectors: 0,
        })
    }

    /// Members of each span, within the level's and the records' bounds.
    #[inline(never)]
    fn span_members(&self, spec: &VolumeSpec<'_>) -> Checked<u16> {
        let (count, spans) = (spec.disks.len(), usize::from(spec.spans));
        let bounds = super::CAPABILITIES
            .levels
            .iter()
            .find(|capability| capability.level == spec.level)
            .map(|capability| capability.members);
        let Some((least, top)) = bounds else {
            return Err(reason!(EOPNOTSUPP, "DDF has no {}", spec.level));
        };
        if spans != 1 {
            check_spans(spec)?;
        }
        // Records of a RAID 10 have room for one mirror's members only.
        let room = match spec.level {
            Level::Raid10 => MEMBERS_MAX,
            _ => usize::from(self.layout.mppe),
        };
        let top = usize::from(top).min(room).min(MEMBERS_MAX);
        let members = count.checked_div(spans).unwrap_or(0);
        if members < usize::from(least) || members > top || members * spans != count {
            return Err(reason!(
                EINVAL,
                "{} takes {least} to {top} disks here, not {count} over {spans} spans",
                spec.level
            ));
        }
        if count > MEMBERS_MAX {
            return Err(reason!(
                EINVAL,
                "{count} disks are more than the {MEMBERS_MAX} that a volume may have"
            ));
        }
        Ok(u16::try_from(members).unwrap_or(0))
    }

    /// Chunk length.
    #[inline(never)]
    fn draft_chunk(&self, spec: &VolumeSpec<'_>, draft: &mut Draft) -> Checked {
        let plain = matches!(draft.shape.level, Level::Concat | Level::Raid1);
        if plain {
            return Ok(());
        }
        let chunk = match spec.chunk_sectors {
            0 => CHUNK_SECTORS_DEFAULT,
            chunk => chunk,
        };
        let block = u32::try_from(self.layout.block_sectors())
            .unwrap_or(1)
            .max(1);
        let exponent = (chunk / block).checked_ilog2().unwrap_or(0);
        if !chunk.is_power_of_two() || chunk < block || exponent > u32::from(STRIP_MAX) {
            return Err(reason!(
                EINVAL,
                "a chunk of {chunk} sectors is not a power of two from {block} to {}",
                u64::from(block) << STRIP_MAX
            ));
        }
        draft.strip = u8::try_from(exponent).unwrap_or(0);
        draft.shape.chunk_sectors = chunk;
        Ok(())
    }

    /// Disks must work, differ and have room; open slots must leave the data whole.
    #[inline(never)]
    fn check_spec_disks(&self, spec: &VolumeSpec<'_>, draft: &Draft) -> Checked {
        for (at, disk) in spec.disks.iter().enumerate() {
            let Some(disk) = *disk else { continue };
            self.usable_disk(disk)?;
            self.check_partition(disk)?;
            if spec
                .disks
                .iter()
                .skip(at + 1)
                .any(|other| *other == Some(disk))
            {
                return Err(reason!(EINVAL, "disk {disk} is named twice"));
            }
        }
        let open = spec.disks.iter().filter(|disk| disk.is_none()).count();
        if open == 0 {
            return Ok(());
        }
        // A basic volume without any disk would have its record nowhere.
        let empty = spec
            .disks
            .chunks(usize::from(draft.width).max(1))
            .any(|span| span.iter().all(Option::is_none));
        let mut members: KVec<Member> = KVec::new();
        for disk in spec.disks {
            members.push(new_member(*disk, 0), GFP_KERNEL)?;
        }
        if empty || volume_state(&draft.shape, &members) == vde::FAILED {
            return Err(reason!(
                EINVAL,
                "{} cannot be without {open} of its members",
                spec.level
            ));
        }
        Ok(())
    }
}

/// Only parity levels are striped over spans; RAID 10 is a level of its own.
fn check_spans(spec: &VolumeSpec<'_>) -> Checked {
    if !matches!(spec.level, Level::Raid5 | Level::Raid6) {
        return Err(reason!(
            EINVAL,
            "{} over {} spans: DDF here has spans of raid5 and raid6 only",
            spec.level,
            spec.spans
        ));
    }
    if spec.spans == 0 || spec.spans > super::SPANS_MAX {
        return Err(reason!(
            EINVAL,
            "{} spans: there may be 1 to {}",
            spec.spans,
            super::SPANS_MAX
        ));
    }
    Ok(())
}

/// Members of each mirror of a RAID 10, and how many mirrors there are.
fn mirrors(members: u16, copies: u16) -> Checked<(u16, u16)> {
    let count = members.checked_div(copies).unwrap_or(0);
    if !(2..=3).contains(&copies) || count < 2 || count * copies != members {
        return Err(reason!(
            EINVAL,
            "raid10 with {copies} copies on {members} disks: there may be 2 or 3 copies, on a \
             multiple of that many disks"
        ));
    }
    Ok((copies, count))
}

/// The layout that a level gets when the caller does not choose.
fn usual_layout(level: Level) -> Placement {
    match level {
        Level::Raid1e | Level::Raid10 => Placement::Near(2),
        Level::Raid4 => Placement::Parity(Rotation::ParityLast),
        Level::Raid5 => Placement::Parity(Rotation::LeftSymmetric),
        Level::Raid6 => Placement::Parity(Rotation::DdfNContinue),
        Level::Concat | Level::Raid0 | Level::Raid1 => Placement::Plain,
    }
}
