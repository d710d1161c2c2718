// SPDX-License-Identifier: GPL-2.0

//! From lines to volumes: what they are, and what may be done with them.

use super::assemble::{was_cut, Reader};
use super::layout::*;
use super::set::{Form, VolumeMeta};
use super::table::Table;
use crate::model::{
    Access, Checked, Consistency, CrashPolicy, DiskState, Identity, Layout, Level, Member,
    MemberState, Shape, Slot, Volume, MEMBERS_MAX, VOLUMES_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// A volume as its lines have it.
struct Plan {
    shape: Shape,
    size_sectors: u64,
    access: Access,
}

impl Reader<'_> {
    /// Reads all volumes.
    #[inline(never)]
    pub fn read_volumes(&mut self) -> Checked {
        let mut from = 0;
        while let Some((top, line)) = self.next_volume(from) {
            from = top + 1;
            if self.set.volumes.len() >= VOLUMES_MAX {
                return Err(reason!(
                    E2BIG,
                    "the set lists more than {VOLUMES_MAX} volumes"
                ));
            }
            self.read_volume(top, &line)?;
        }
        self.check_apart()
    }

    fn next_volume(&self, from: usize) -> Option<(usize, Line)> {
        self.set.table.volumes().find(|(top, _)| *top >= from)
    }

    #[inline(never)]
    fn read_volume(&mut self, top: usize, line: &Line) -> Checked {
        let Plan {
            shape,
            size_sectors,
            access,
        } = self.plan_of(top, line)?;
        let mut volume = Volume {
            id: Identity::new(&line.magic.to_be_bytes()),
            name: self.name_of(line),
            shape,
            size_sectors,
            members: KVec::new(),
            consistency: Consistency::Clean,
            access,
            regions: None,
            stretches: KVec::new(),
            scrub: self.scrub(line.magic, &shape, size_sectors),
            crash_policy: CrashPolicy::Resync,
            block_bytes: 0,
            deleted: false,
        };
        let form = form_of(line);
        for slot in 0..shape.members {
            let member = self.member_of(top, &shape, form, slot);
            volume.members.push(member, GFP_KERNEL)?;
        }
        let dirty = shape.level.is_redundant() && self.is_dirty(line.magic);
        volume.consistency = match self.building(top, line) {
            _ if !shape.level.is_redundant() => Consistency::Clean,
            Some(done) => Consistency::Initialising { done_sectors: done },
            None if dirty => Consistency::Dirty,
            None => Consistency::Clean,
        };
        if matches!(volume.access, Access::ReadWrite) {
            if let Err(why) = self.check_members(&volume) {
                volume.access = Access::Refused(why);
            }
        }
        self.set.volumes.push(
            VolumeMeta {
                form,
                magic: line.magic,
                dirty,
            },
            GFP_KERNEL,
        )?;
        self.set.set.volumes.push(volume, GFP_KERNEL)?;
        Ok(())
    }

    /// The name of an array; where its line has none, the first line's.
    fn name_of(&self, line: &Line) -> crate::model::Text<32> {
        let name = line.name();
        if !name.is_empty() {
            return name;
        }
        self.set.table.line(0).map_or(name, |first| first.name())
    }

    /// Shape and size of a volume, or why it is not to be used.
    #[inline(never)]
    fn plan_of(&mut self, top: usize, line: &Line) -> Checked<Plan> {
        let twin = self
            .set
            .table
            .volumes()
            .any(|(other, theirs)| other != top && theirs.magic == line.magic);
        let shape = if twin {
            self.set.frozen = Some("two arrays have the same number");
            Err(reason!(
                EINVAL,
                "two arrays have the number {:08x}",
                line.magic
            ))
        } else {
            shape_of(&self.set.table, top, line)
        };
        match shape {
            Ok(shape) => {
                let most = capacity_sectors(&shape);
                let stated = u64::from(line.capacity);
                let size_sectors = if stated == 0 || stated > most {
                    self.note(format_args!(
                        "array {:08x}: its line says {stated} sectors, its members have {most}",
                        line.magic
                    ))?;
                    most
                } else {
                    stated
                };
                Ok(Plan {
                    shape,
                    size_sectors,
                    access: Access::ReadWrite,
                })
            }
            Err(why) => Ok(Plan {
                shape: fallback_shape(&self.set.table, top),
                size_sectors: u64::from(line.capacity),
                access: Access::Refused(why),
            }),
        }
    }

    /// The member in a slot.
    fn member_of(&self, top: usize, shape: &Shape, form: Form, slot: Slot) -> Member {
        let lost = Member {
            disk: None,
            offset_sectors: 0,
            state: MemberState::Missing,
        };
        let (array, position) = form.place_of(slot);
        let table = &self.set.table;
        let line = table
            .array_line(top, array)
            .and_then(|array| table.member_line(array, position))
            .and_then(|index| table.line(index));
        let Some(line) = line else { return lost };
        let disk = if line.names_disk() {
            self.set.by_magic(line.magic)
        } else {
            None
        };
        let Some(disk) = disk else { return lost };
        let present = self
            .set
            .set
            .disk(disk)
            .is_some_and(|model| model.facts.is_some());
        let most = shape.member_sectors;
        let state = match (present, line.is_good(), line.state) {
            (false, _, _) => MemberState::Missing,
            (true, false, _) => MemberState::Failed,
            (true, true, state::REBUILDING | state::REPLACED) => {
                if shape.level.is_redundant() {
                    let done_sectors = self.rebuilt(line.magic).min(most);
                    MemberState::Rebuilding { done_sectors }
                } else {
                    MemberState::Failed
                }
            }
            (true, true, _) => MemberState::InSync,
        };
        Member {
            disk: Some(disk),
            offset_sectors: u64::from(line.offset),
            state,
        }
    }

    /// What speaks against using the members.
    #[inline(never)]
    fn check_members(&self, volume: &Volume) -> Checked {
        for (slot, member) in volume.members.iter().enumerate() {
            let Some(disk) = member.disk else { continue };
            if self.is_contested(disk) {
                return Err(reason!(
                    EINVAL,
                    "member {slot} is listed twice, or its disk is there twice"
                ));
            }
            if member.offset_sectors != 0 {
                // dmraid ignores the field, so what it means has never been tried.
                return Err(reason!(
                    EOPNOTSUPP,
                    "member {slot} starts at sector {} of its disk: unknown to all other tools",
                    member.offset_sectors
                ));
            }
            let usable = self
                .set
                .set
                .disk(disk)
                .filter(|model| model.facts.is_some())
                .map(|model| model.usable_sectors);
            if usable.is_some_and(|usable| volume.shape.member_sectors > usable) {
                return Err(reason!(
                    EINVAL,
                    "member {slot} has {} sectors, its disk {} in front of the table",
                    volume.shape.member_sectors,
                    usable.unwrap_or(0)
                ));
            }
        }
        Ok(())
    }

    /// Disks that were used apart: a lost one whose own table calls lost what works here.
    #[inline(never)]
    fn check_apart(&mut self) -> Checked {
        for at in 0..self.set.set.volumes.len() {
            let why = match self.set.set.volumes.get(at) {
                Some(volume) if matches!(volume.access, Access::Refused(_)) => None,
                Some(volume) => self.used_apart(volume).err(),
                None => None,
            };
            if let (Some(why), Some(volume)) = (why, self.set.set.volumes.get_mut(at)) {
                volume.access = Access::Refused(why);
            }
        }
        Ok(())
    }

    fn used_apart(&self, volume: &Volume) -> Checked {
        let online = |disk| {
            self.set
                .set
                .disk(disk)
                .is_some_and(|model| model.state == DiskState::Online)
        };
        let lost_in = |table: &Table, magic: u32| {
            table
                .disk(magic)
                .and_then(|index| table.line(index))
                .map(|line| line.is_lost())
        };
        for one in self.candidates.iter() {
            let Some(disk) = one.disk.filter(|&disk| !online(disk)) else {
                continue;
            };
            let magic = one.found.magic();
            let member = volume
                .members
                .iter()
                .any(|member| member.disk == Some(disk));
            // It works by its own account only.
            if !member || lost_in(&one.table, magic) != Some(false) {
                continue;
            }
            if was_cut(&one.table, &self.candidates) {
                continue;
            }
            for other in volume.members.iter().filter_map(|member| member.disk) {
                let theirs = self.set.disk_meta(other).map_or(0, |meta| meta.magic);
                if online(other) && lost_in(&one.table, theirs) == Some(true) {
                    return Err(reason!(
                        EINVAL,
                        "disks {magic:08x} and {theirs:08x} were used apart: each calls the other one \
                         lost"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Sectors that users of a shape see.
pub fn capacity_sectors(shape: &Shape) -> u64 {
    let members = u64::from(shape.members);
    let data = match shape.level {
        Level::Raid0 => members,
        Level::Raid10 => members / 2,
        _ => 1,
    };
    shape.member_sectors.saturating_mul(data)
}

/// The shape of the volume in line `top`.
#[inline(never)]
fn shape_of(table: &Table, top: usize, line: &Line) -> Checked<Shape> {
    if line.state == state::AWAITS_FORMAT {
        return Err(reason!(EBUSY, "the array waits for being formatted"));
    }
    let level = level_of(table, top, line)?;
    let arrays = table.arrays(top);
    let mut members = 0usize;
    for nth in 0..arrays {
        let Some(array) = table.array_line(top, nth) else {
            continue;
        };
        let (said, there) = (
            table.line(array).map_or(0, |line| usize::from(line.count)),
            table.members(array),
        );
        if said != there {
            return Err(reason!(EINVAL, "an array of {said} members lists {there}"));
        }
        members = members.saturating_add(there);
    }
    let least = if level == Level::Raid0 { 1 } else { 2 };
    if members < least || members > MEMBERS_MAX {
        return Err(reason!(
            EINVAL,
            "{level} of {members} members is impossible"
        ));
    }
    let (capacity, strip) = check_lines(table, top, level)?;
    let striped = level != Level::Raid1;
    let chunk = if striped {
        chunk_of(table, top, strip)?
    } else {
        0
    };
    let whole = match chunk {
        0 => capacity,
        chunk => capacity - capacity % chunk,
    };
    if whole == 0 {
        return Err(reason!(
            EINVAL,
            "members of {capacity} sectors hold no strip of {chunk}"
        ));
    }
    Ok(Shape {
        level,
        layout: match level {
            Level::Raid10 => Layout::Near(2),
            _ => Layout::Plain,
        },
        members: u16::try_from(members).unwrap_or(0),
        spans: 1,
        chunk_sectors: chunk,
        member_sectors: u64::from(whole),
    })
}

/// The level of a volume.
fn level_of(table: &Table, top: usize, line: &Line) -> Checked<Level> {
    if line.kind != kind::DUAL {
        return match line.raid {
            raid::RAID0 => Ok(Level::Raid0),
            raid::RAID1 => Ok(Level::Raid1),
            raid::RAID4 | raid::RAID5 => Err(reason!(
                EOPNOTSUPP,
                "RAID {}: where this format has parity is not documented, and no tool maps it",
                line.raid
            )),
            other => Err(reason!(EOPNOTSUPP, "RAID type {other:02x} is unknown")),
        };
    }
    let arrays = table.arrays(top);
    let mut members = 0usize;
    let mut alike = true;
    let mut width = None;
    for nth in 0..arrays {
        let array = table.array_line(top, nth);
        let array = array
            .and_then(|index| table.line(index))
            .unwrap_or_default();
        let fits = match form_of(line) {
            Form::Stripes => array.raid == raid::RAID0 && array.count >= 2,
            _ => array.raid == raid::RAID1 && array.count == 2,
        };
        alike &= fits && width.is_none_or(|width| width == array.count);
        width = Some(array.count);
        members = members.saturating_add(usize::from(array.count));
    }
    let known = match form_of(line) {
        Form::Stripes => arrays == 2,
        _ => line.raid == raid::RAID0,
    };
    if !known || !alike {
        return Err(reason!(
            EOPNOTSUPP,
            "of arrays of arrays only stripes over pairs and pairs of stripes are known"
        ));
    }
    let said = usize::from(line.count);
    if arrays == 0 || said != arrays && said != members {
        return Err(reason!(EINVAL, "an array of {said} arrays lists {arrays}"));
    }
    Ok(Level::Raid10)
}

/// How the lines of the volume that this line heads are put together.
fn form_of(line: &Line) -> Form {
    match (line.kind, line.raid) {
        (kind::DUAL, raid::RAID1) => Form::Stripes,
        (kind::DUAL, _) => Form::Mirrors,
        _ => Form::One,
    }
}

/// Sectors and strip that the members' lines agree on. What is odd is refused.
#[inline(never)]
fn check_lines(table: &Table, top: usize, level: Level) -> Checked<(u32, u16)> {
    let range = table.volume(top);
    let mut found: Option<(u32, u16)> = None;
    for (index, line) in table.lines().filter(|(index, _)| range.contains(index)) {
        if !line.is_member() {
            continue;
        }
        let known = line.is_good()
            || matches!(
                line.state,
                state::DEGRADED | state::UNCONFIGURED | state::FAILED | state::UNINITIALISED
            );
        if !known {
            return Err(reason!(
                EINVAL,
                "the state {:02x} of disk {:08x} is unknown",
                line.state,
                line.magic
            ));
        }
        if !matches!(line.raid, raid::RAID0 | raid::RAID1) {
            return Err(reason!(
                EOPNOTSUPP,
                "disk {:08x} is a component of type {:02x}",
                line.magic,
                line.raid
            ));
        }
        let array = table.parent(index);
        let striped = array
            .and_then(|array| table.line(array))
            .is_some_and(|array| array.raid == raid::RAID0);
        let twin = striped
            && table.lines().any(|(other, theirs)| {
                other != index
                    && range.contains(&other)
                    && theirs.is_member()
                    && table.parent(other) == array
                    && theirs.address() == line.address()
            });
        if twin {
            return Err(reason!(
                EINVAL,
                "two members have the same address: their order is not certain"
            ));
        }
        found = match found {
            None => Some((line.capacity, line.strip)),
            Some((capacity, strip)) if level == Level::Raid1 => {
                Some((capacity.min(line.capacity), strip))
            }
            Some(known) if known == (line.capacity, line.strip) => Some(known),
            Some(_) => {
                return Err(reason!(
                    EINVAL,
                    "the members differ in size or strip: who takes what is not certain"
                ))
            }
        };
    }
    found.ok_or_else(|| reason!(EINVAL, "an array without members"))
}

/// The strip of a striped volume: that of the members; where they have none, their array's part.
fn chunk_of(table: &Table, top: usize, strip: u16) -> Checked<u32> {
    let line = table
        .array_line(top, 0)
        .and_then(|array| table.line(array))
        .unwrap_or_default();
    let strip = match strip {
        0 => line.strip.checked_div(line.count).unwrap_or(0),
        strip => strip,
    };
    if strip == 0 || !strip.is_power_of_two() {
        return Err(reason!(
            EINVAL,
            "a strip of {strip} sectors is not a power of two"
        ));
    }
    Ok(u32::from(strip))
}

/// What can be shown of a volume that is not to be used: its members.
fn fallback_shape(table: &Table, top: usize) -> Shape {
    let array = table.array_line(top, 0);
    let members = match table.line(top) {
        Some(line) if line.is_array() => array.map_or(0, |array| table.members(array)),
        _ => 0,
    };
    Shape {
        level: match table.line(top).map(|line| line.raid) {
            Some(raid::RAID0) => Level::Raid0,
            Some(raid::RAID1) => Level::Raid1,
            Some(raid::RAID4) => Level::Raid4,
            Some(raid::RAID5) => Level::Raid5,
            _ => Level::Concat,
        },
        layout: Layout::Plain,
        members: u16::try_from(members.min(MEMBERS_MAX)).unwrap_or(0),
        spans: 1,
        chunk_sectors: 0,
        member_sectors: 0,
    }
}
