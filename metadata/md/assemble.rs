// SPDX-License-Identifier: GPL-2.0

//! From the disks of an array to a set: which superblock counts, which disks are current, which are
//! old, what may be done with it.
//!
//! The newest superblock's roles decide who is what. A disk is current when its event count is at most
//! one behind and it agrees that it has its role; everything else is old, and shown as such.

use super::super::DiskImage;
use super::bitmap;
use super::head::Head;
use super::layout::*;
use super::probe::{
    bitmap_place, block_sectors, examine, identity, log_place, regions_of, Exam, View,
};
use super::set::{image, Bitmap, Home, MdSet, Meta, Touched};
use super::words;
use crate::model::alloc::boxed;
use crate::model::{
    Access, BadRange, Checked, Consistency, Disk, DiskIndex, DiskRole, DiskState, Identity, Member,
    MemberState, Reason, Set, Shape, Text, UpdatePlan, Volume, DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// Most remarks that a set keeps.
const NOTES_MAX: usize = 64;

/// What a disk turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Current member in this slot.
    Member(u16),
    /// About to replace the member in this slot.
    Replacement(u16),
    /// Spare.
    Spare,
    /// Recorded as failed.
    Failed,
    /// Journal.
    Journal,
    /// Old.
    Stale,
}

/// Whether two disks are not known to be copies of each other: by their own identities, which 0.90 does not
/// have.
fn is_other_device(one: &View<'_>, other: &View<'_>) -> bool {
    let uuid = |view: &View<'_>| super::super::bytes::array::<16>(view.bytes, v1::DEVICE_UUID);
    one.head.version == Version::V090 || uuid(one) != uuid(other)
}

/// Whether a disk holds more than a spare does: 2, all of a member; 1, a part of it.
fn worth(standing: Standing, view: &View<'_>) -> u8 {
    match standing {
        Standing::Spare | Standing::Stale => 0,
        Standing::Member(_) if view.head.recovery.is_some() => 1,
        _ => 2,
    }
}

/// The name of a disk: its number is all that the other disks know of it.
pub fn label_of(number: u32) -> Text<32> {
    Text::from_fmt(format_args!("device {number}"))
}

/// The identity of a volume.
pub fn volume_identity(uuid: &[u8; 16]) -> Identity {
    let mut bytes = [0u8; 17];
    let _ = super::super::bytes::put(&mut bytes, 0, uuid);
    Identity::new(&bytes)
}

/// An empty set.
#[inline(never)]
pub fn empty_set(head: &Head, name: [u8; 32]) -> Checked<KBox<MdSet>> {
    boxed(MdSet {
        set: Set {
            format: head.version.name(),
            id: identity(&head.uuid),
            name: Text::from_disk(&name),
            generation: head.events,
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        },
        plan: UpdatePlan::new(),
        version: head.version,
        head: *head,
        name,
        in_flight: false,
        frozen: None,
        bitmap: None,
        zeros: KVVec::from_elem(0, SUPER_BYTES, GFP_KERNEL)?,
        disks: KVec::new(),
        touched: Touched::default(),
    })
}

/// What assembly works on.
struct Reader<'a> {
    views: KVec<View<'a>>,
    /// The disk of each view.
    standings: KVec<Standing>,
    newest: usize,
    set: KBox<MdSet>,
    refused: Option<Reason>,
    read_only: Option<Reason>,
}

/// [`crate::metadata::Format::assemble`].
pub fn assemble(version: Version, images: &[&DiskImage]) -> Checked<KBox<MdSet>> {
    let mut reader = start(version, images)?;
    reader.judge()?;
    reader.list_disks()?;
    reader.list_missing()?;
    let shape = reader.shape();
    match shape {
        Ok(shape) => reader.make_volume(&shape)?,
        Err(why) => {
            reader.refused = Some(why);
            reader.make_unknown_volume()?;
        }
    }
    reader.read_logs()?;
    reader.read_bitmap()?;
    reader.finish()
}

#[inline(never)]
fn start<'a>(version: Version, images: &[&'a DiskImage]) -> Checked<Reader<'a>> {
    if images.len() > DISKS_MAX {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {DISKS_MAX}",
            images.len()
        ));
    }
    let mut views: KVec<View<'a>> = KVec::with_capacity(images.len(), GFP_KERNEL)?;
    let mut notes = KVec::new();
    let mut why = None;
    for image in images {
        if let Some(reason) = take(version, image, &mut views)? {
            note(
                &mut notes,
                format_args!("a disk is left out: {}", reason.text()),
            )?;
            why = Some(reason);
        }
    }
    let key = |view: &View<'_>| {
        let own = view.head.role(view.bytes, view.head.number);
        (view.head.events, matches!(own, Role::Member(_)))
    };
    let mut newest = 0;
    for index in 1..views.len() {
        if let (Some(one), Some(other)) = (views.get(index), views.get(newest)) {
            if key(one) > key(other) {
                newest = index;
            }
        }
    }
    let Some(first) = views.get(newest) else {
        return Err(why.unwrap_or_else(|| {
            reason!(ENODEV, "no disk carries an {} superblock", version.name())
        }));
    };
    if views.iter().any(|view| view.head.uuid != first.head.uuid) {
        return Err(reason!(EINVAL, "the disks belong to different md arrays"));
    }
    let name = super::super::bytes::array(first.bytes, v1::NAME)
        .filter(|_| version != Version::V090)
        .unwrap_or([0; 32]);
    let mut set = empty_set(&first.head, name)?;
    set.set.notes = notes;
    Ok(Reader {
        views,
        standings: KVec::new(),
        newest,
        set,
        refused: None,
        read_only: None,
    })
}

#[inline(never)]
fn take<'a>(
    version: Version,
    image: &'a DiskImage,
    views: &mut KVec<View<'a>>,
) -> Checked<Option<Reason>> {
    match examine(version, image) {
        Exam::Found(view) => {
            views.push(view, GFP_KERNEL)?;
            Ok(None)
        }
        Exam::Damaged(reason) => Ok(Some(reason)),
        Exam::NotMine | Exam::Read(_) => Ok(Some(reason!(
            ENODEV,
            "it carries no {} superblock",
            version.name()
        ))),
    }
}

fn note(notes: &mut KVec<Text<160>>, args: core::fmt::Arguments<'_>) -> Checked {
    if notes.len() < NOTES_MAX {
        notes.push(Text::from_fmt(args), GFP_KERNEL)?;
    }
    Ok(())
}

/// What the features speak against: refused, or only read.
fn feature_verdict(features: u32) -> (Option<Reason>, Option<Reason>) {
    let has = |bits: u32| features & bits != 0;
    let refused = if has(!feature::KNOWN) {
        Some(reason!(
            EOPNOTSUPP,
            "the md superblock has unknown features {:#x}",
            features & !feature::KNOWN
        ))
    } else if has(feature::RESHAPE | feature::RESHAPE_BACK | feature::NEW_OFFSET) {
        Some(reason!(
            EOPNOTSUPP,
            "a reshape is under way: let md finish it"
        ))
    } else if has(feature::JOURNAL) {
        Some(reason!(
            EOPNOTSUPP,
            "the array has a journal, which may hold data: take it off with mdadm"
        ))
    } else if has(feature::CLUSTERED) {
        Some(reason!(
            EOPNOTSUPP,
            "the bitmap is a cluster's: another node may be writing"
        ))
    } else {
        None
    };
    let read_only = has(feature::PPL | feature::PPLS).then(|| {
        reason!(
            EROFS,
            "the array has a partial parity log, which EMD does not keep: take it off with mdadm"
        )
    });
    (refused, read_only)
}

impl<'a> Reader<'a> {
    fn note(&mut self, args: core::fmt::Arguments<'_>) -> Checked {
        note(&mut self.set.set.notes, args)
    }

    fn head(&self) -> Head {
        self.set.head
    }

    /// Finds out what every disk is.
    #[inline(never)]
    fn judge(&mut self) -> Checked {
        let newest = self.views.get(self.newest);
        let Some((head, bytes)) = newest.map(|view| (view.head, view.bytes)) else {
            return Ok(());
        };
        (self.refused, self.read_only) = feature_verdict(head.features);
        for view in self.views.iter() {
            let number = view.head.number;
            let own = view.head.role(view.bytes, number);
            let current = view.head.events.saturating_add(1) >= head.events;
            let same = view.head.same_array(&head);
            let replaces = view.head.features & feature::REPLACEMENT != 0;
            let standing = match (head.role(bytes, number), own) {
                (Role::Member(slot), Role::Member(mine)) if current && same && slot == mine => {
                    if replaces {
                        Standing::Replacement(slot)
                    } else {
                        Standing::Member(slot)
                    }
                }
                (Role::Spare, Role::Spare) if head.may_be_spare(bytes, number) => Standing::Spare,
                (Role::Journal, _) | (_, Role::Journal) => Standing::Journal,
                (Role::Faulty, _) if head.version != Version::V090 => Standing::Failed,
                _ => Standing::Stale,
            };
            if current {
                let (refused, read_only) = feature_verdict(view.head.features);
                self.refused = self.refused.or(refused);
                self.read_only = self.read_only.or(read_only);
            }
            self.standings.push(standing, GFP_KERNEL)?;
        }
        self.find_old_spares();
        self.find_twins()
    }

    /// A spare, or one that was to be filled, was away and comes back when its number is another disk's: it is
    /// old, as nothing depends on it. Of two of one kind the one that is further counts. (Old spares whose
    /// number is free still are spares: md does not keep their count up to date.) What may be a copy of that
    /// disk, and is not older, is left for [`Self::find_twins`].
    #[inline(never)]
    fn find_old_spares(&mut self) {
        let newest = self.head().events;
        for index in 0..self.views.len() {
            let (Some(own), Some(&mine)) = (self.views.get(index), self.standings.get(index))
            else {
                continue;
            };
            // 0.90 does not say which members are being rebuilt: those are spares there.
            if mine == Standing::Stale || worth(mine, own) > 1 {
                continue;
            }
            let old = own.head.events.saturating_add(1) < newest;
            let others = self.views.iter().zip(self.standings.iter()).enumerate();
            let replaced = others
                .filter(|(other, (view, standing))| {
                    *other != index
                        && **standing != Standing::Stale
                        && view.head.number == own.head.number
                })
                .any(|(other, (view, standing))| {
                    let further = view.head.events > own.head.events;
                    let first = view.head.events == own.head.events && other < index;
                    let (its, own_worth) = (worth(*standing, view), worth(mine, own));
                    let takes_it = its > own_worth || its == own_worth && (further || first);
                    takes_it && is_other_device(own, view) || old && further
                });
            if replaced {
                if let Some(standing) = self.standings.get_mut(index) {
                    *standing = Standing::Stale;
                }
            }
        }
    }

    /// No two disks may be the same one; what cannot be decided is not decided.
    #[inline(never)]
    fn find_twins(&mut self) -> Checked {
        let mut twice = false;
        for (index, view) in self.views.iter().enumerate() {
            let standing = self.standings.get(index).copied();
            for (other, standing_of_other) in self.standings.iter().enumerate().skip(index + 1) {
                let number = self.views.get(other).map(|view| view.head.number);
                let live =
                    standing != Some(Standing::Stale) && *standing_of_other != Standing::Stale;
                let clash = matches!(
                    (standing, standing_of_other),
                    (Some(Standing::Member(one)), Standing::Member(two)) if one == *two
                );
                twice |= live && (clash || number == Some(view.head.number));
            }
        }
        if twice {
            self.refused = Some(reason!(
                EINVAL,
                "a device of the array is here twice: take the copy away"
            ));
        }
        let replaced = self
            .standings
            .iter()
            .any(|standing| matches!(standing, Standing::Replacement(_)));
        if replaced {
            self.note(format_args!(
                "a replacement of a member is under way: its device is left alone"
            ))?;
            self.read_only = self.read_only.or(Some(reason!(
                EROFS,
                "a member is being replaced: let md finish it, or take the replacement off"
            )));
        }
        Ok(())
    }

    /// Makes a disk of every view.
    #[inline(never)]
    fn list_disks(&mut self) -> Checked {
        for index in 0..self.views.len() {
            let (Some(view), Some(&standing)) = (self.views.get(index), self.standings.get(index))
            else {
                break;
            };
            let state = match standing {
                Standing::Failed => DiskState::Failed,
                Standing::Stale => DiskState::Stale,
                _ => DiskState::Online,
            };
            let role = match standing {
                Standing::Spare => DiskRole::GlobalSpare,
                Standing::Member(_) => DiskRole::Member,
                _ => DiskRole::Unused,
            };
            let special = matches!(standing, Standing::Replacement(_) | Standing::Journal);
            let home = match state {
                DiskState::Online => Some(home_of(view, special)?),
                _ => None,
            };
            let head = view.head;
            let disk = Disk {
                facts: Some(view.facts),
                label: label_of(head.number),
                state,
                role,
                usable_sectors: head.data_end(),
                failure_predicted: false,
            };
            let device = device_of(view);
            self.set.set.disks.push(disk, GFP_KERNEL)?;
            self.set.disks.push(
                Meta {
                    number: head.number,
                    sector: Some(head.sector),
                    keep_role: special,
                    device,
                    home,
                },
                GFP_KERNEL,
            )?;
            if standing == Standing::Stale {
                let newest = self.set.head.events;
                note(
                    &mut self.set.set.notes,
                    format_args!(
                        "device {} is old: {} events, the array has {newest}",
                        head.number, head.events
                    ),
                )?;
            }
        }
        Ok(())
    }

    /// Makes a disk of every device that the newest superblock has as a member, or as failed, and
    /// that is not here.
    #[inline(never)]
    fn list_missing(&mut self) -> Checked {
        let Some((head, bytes)) = self
            .views
            .get(self.newest)
            .map(|view| (view.head, view.bytes))
        else {
            return Ok(());
        };
        for number in 0..head.roles_max {
            let here = self.views.iter().any(|view| view.head.number == number);
            let state = match head.role(bytes, number) {
                Role::Member(_) => DiskState::Missing,
                Role::Faulty if head.version != Version::V090 => DiskState::Failed,
                _ => continue,
            };
            if here || self.set.disks.len() >= DISKS_MAX {
                continue;
            }
            let disk = Disk {
                facts: None,
                label: label_of(number),
                state,
                role: DiskRole::Unused,
                usable_sectors: 0,
                failure_predicted: false,
            };
            self.set.set.disks.push(disk, GFP_KERNEL)?;
            self.set.disks.push(
                Meta {
                    number,
                    sector: None,
                    keep_role: false,
                    device: match head.version {
                        Version::V090 => {
                            device_at(bytes, v0::DEVICE + v0::DEVICE_BYTES * number as usize)
                        }
                        _ => [0; 3],
                    },
                    home: None,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(())
    }

    /// The array's shape. Members of RAID 0 and linear may differ in size; EMD takes only equal ones.
    #[inline(never)]
    fn shape(&self) -> Checked<Shape> {
        let head = self.head();
        let unit = head.chunk_sectors.max(1);
        let mut data = None;
        for (view, standing) in self.views.iter().zip(self.standings.iter()) {
            if !matches!(standing, Standing::Member(_)) {
                continue;
            }
            let own = view.head.data_size - view.head.data_size.checked_rem(unit).unwrap_or(0);
            let loose = matches!(head.level, 0 | -1);
            if loose && data.is_some_and(|other| other != own) {
                return Err(reason!(
                    EOPNOTSUPP,
                    "members of {own} and of other numbers of sectors: EMD runs md level {} over \
                     equal ones only",
                    head.level
                ));
            }
            data = Some(own);
        }
        words::shape_of(&head, data.unwrap_or(head.data_size))
    }

    /// A volume that cannot be understood, for people to see.
    #[inline(never)]
    fn make_unknown_volume(&mut self) -> Checked {
        let head = self.head();
        let members = u16::try_from(head.raid_disks.clamp(1, 64)).unwrap_or(1);
        let (level, layout) = words::level_of(head.level, head.layout)
            .unwrap_or((crate::model::Level::Concat, crate::model::Layout::Plain));
        let shape = Shape {
            level,
            layout,
            members,
            spans: 1,
            chunk_sectors: u32::try_from(head.chunk_sectors).unwrap_or(0),
            member_sectors: head.size_sectors,
        };
        self.make_volume(&shape)
    }

    #[inline(never)]
    fn make_volume(&mut self, shape: &Shape) -> Checked {
        let head = self.head();
        let mut members = KVec::with_capacity(usize::from(shape.members), GFP_KERNEL)?;
        for slot in 0..shape.members {
            members.push(self.member(slot), GFP_KERNEL)?;
        }
        let size_sectors = words::capacity_sectors(shape);
        let most = words::sync_sectors(shape, size_sectors);
        let consistency = match self.resync_word() {
            _ if !shape.level.is_redundant() => Consistency::Clean,
            u64::MAX => Consistency::Clean,
            0 => Consistency::Dirty,
            done_sectors if done_sectors <= most => Consistency::Initialising { done_sectors },
            _ => Consistency::Dirty,
        };
        self.set.in_flight = consistency == Consistency::Dirty;
        let name = self.set.set.name;
        self.set.set.volumes.push(
            Volume {
                id: volume_identity(&head.uuid),
                name,
                shape: *shape,
                size_sectors,
                members,
                consistency,
                access: Access::ReadWrite,
                regions: None,
                stretches: KVec::new(),
                scrub: None,
                deleted: false,
            },
            GFP_KERNEL,
        )?;
        Ok(())
    }

    /// How far redundancy agrees: as the newest member has it. A spare may be away unrecorded, with a mark
    /// that a cut kept from all others; they go on from their own.
    fn resync_word(&self) -> u64 {
        let views = self.views.iter().zip(self.standings.iter());
        let members = views.filter(|(_, standing)| matches!(standing, Standing::Member(_)));
        members
            .map(|(view, _)| view.head)
            .max_by_key(|head| head.events)
            .filter(|head| head.events < self.head().events)
            .map_or(self.head().resync, |head| head.resync)
    }

    /// The member in a slot.
    fn member(&self, slot: u16) -> Member {
        let none = Member {
            disk: None,
            offset_sectors: 0,
            state: MemberState::Missing,
        };
        let current = (0u16..)
            .zip(self.standings.iter().zip(self.views.iter()))
            .find(|(_, (standing, _))| **standing == Standing::Member(slot));
        if let Some((disk, (_, view))) = current {
            let by_bitmap = view.head.features & feature::RECOVERY_BITMAP != 0;
            let state = match view.head.recovery {
                // What the bitmap says is to be recovered could be anywhere.
                Some(_) if by_bitmap => MemberState::Rebuilding { done_sectors: 0 },
                Some(done_sectors) => MemberState::Rebuilding { done_sectors },
                None => MemberState::InSync,
            };
            return Member {
                disk: Some(disk),
                offset_sectors: view.head.data_offset,
                state,
            };
        }
        let Some((head, bytes)) = self
            .views
            .get(self.newest)
            .map(|view| (view.head, view.bytes))
        else {
            return none;
        };
        let expected = (0u16..).zip(self.set.disks.iter()).find(|(index, meta)| {
            let special = self
                .standings
                .get(usize::from(*index))
                .is_some_and(|standing| {
                    matches!(standing, Standing::Replacement(_) | Standing::Journal)
                });
            !special && head.role(bytes, meta.number) == Role::Member(slot)
        });
        let Some((disk, _)) = expected else {
            return none;
        };
        match self.views.get(usize::from(disk)) {
            Some(view) => Member {
                disk: Some(disk),
                offset_sectors: view.head.data_offset,
                state: MemberState::Failed,
            },
            None => Member {
                disk: Some(disk),
                ..none
            },
        }
    }

    /// Takes the bad-block logs in.
    #[inline(never)]
    fn read_logs(&mut self) -> Checked {
        self.set.set.reserve_bad_ranges()?;
        for index in 0..self.views.len() {
            let current = matches!(
                self.standings.get(index),
                Some(Standing::Member(_) | Standing::Spare)
            );
            let Some(view) = self.views.get(index).filter(|_| current) else {
                continue;
            };
            let (shift, disk) = (view.head.log_shift, index as DiskIndex);
            let result = match &view.log {
                None => continue,
                Some(Err(why)) => Err(*why),
                Some(Ok(bytes)) => {
                    let ranges = &mut self.set.set;
                    super::badblocks::decode(bytes, shift, |sector, sectors| {
                        ranges.add_bad_range(BadRange {
                            disk,
                            sector,
                            sectors,
                        })
                    })
                }
            };
            if let Err(why) = result {
                self.read_only = self.read_only.or(Some(why));
            }
        }
        Ok(())
    }

    /// Takes the newest bitmap in.
    #[inline(never)]
    fn read_bitmap(&mut self) -> Checked {
        let head = self.head();
        if head.features & feature::BITMAP == 0 || self.refused.is_some() {
            return Ok(());
        }
        let mut best: Option<(bitmap::Head, &'a [u8])> = None;
        let mut why = reason!(EINVAL, "no member has the bitmap that the array has");
        for (index, view) in self.views.iter().enumerate() {
            let member = matches!(self.standings.get(index), Some(Standing::Member(_)));
            let better =
                |bits: &bitmap::Head| best.is_none_or(|(other, _)| bits.events > other.events);
            match view.bitmap.as_ref().filter(|_| member) {
                Some(Ok((bits, bytes))) if better(bits) => best = Some((*bits, bytes)),
                Some(Err(reason)) => why = *reason,
                _ => {}
            }
        }
        let found = best.map(|(bits, bytes)| Ok((bits, bytes, regions_of(&head, &bits)?)));
        let (bits, bytes, regions) = match found.unwrap_or(Err(why)) {
            Ok(found) => found,
            Err(reason) => {
                self.read_only = self.read_only.or(Some(reason));
                return Ok(());
            }
        };
        let doubtful = bits.stale || bits.events < head.events;
        // Whole blocks for all disks: one with blocks of 4 KiB may be among them.
        let len = bitmap::sectors(regions, 8) as usize * 512;
        let mut copy = KVVec::from_elem(0xFFu8, len, GFP_KERNEL)?;
        let _ = super::super::bytes::put(&mut copy, 0, bytes.get(..len).unwrap_or(bytes));
        for (index, view) in self.views.iter().enumerate() {
            let same = matches!(&view.bitmap, Some(Ok((_, own))) if *own == bytes);
            let place = bitmap_place(view, regions);
            let member = matches!(self.standings.get(index), Some(Standing::Member(_)));
            if place.is_none() && member {
                self.read_only = self.read_only.or(Some(reason!(
                    EINVAL,
                    "device {} has no room for the bitmap",
                    view.head.number
                )));
            }
            let meta = self.set.disks.get_mut(index);
            if let Some(home) = meta.and_then(|meta| meta.home.as_mut()) {
                home.bitmap = place;
                home.bitmap_whole = !same || doubtful;
            }
        }
        if doubtful {
            // All of it, and that is to be trusted once it is written.
            bitmap::mark(&mut copy, 0, regions, true);
            let state = get32(&copy, bitmap::at::STATE) & !bitmap::STALE;
            put32(&mut copy, bitmap::at::STATE, state);
            put64(&mut copy, bitmap::at::EVENTS, head.events);
        }
        let log = bitmap::log_of(&copy, bits.region_sectors, regions)?;
        self.set.bitmap = Some(Bitmap {
            bytes: copy,
            region_sectors: bits.region_sectors,
            regions,
        });
        if let Some(volume) = self.set.array_mut() {
            volume.regions = Some(log);
        }
        Ok(())
    }

    #[inline(never)]
    fn finish(mut self) -> Checked<KBox<MdSet>> {
        let access = match (self.refused, self.read_only) {
            (Some(why), _) => Access::Refused(why),
            (None, Some(why)) => Access::ReadOnly(why),
            (None, None) => Access::ReadWrite,
        };
        self.set.frozen = self.refused.or(self.read_only);
        if let Some(volume) = self.set.array_mut() {
            volume.access = access;
        }
        self.set.reserve_plan()?;
        Ok(self.set)
    }
}

/// Of a 0.90 descriptor: what is not understood and kept.
fn device_of(view: &View<'_>) -> [u32; 3] {
    if view.head.version != Version::V090 {
        return [0; 3];
    }
    device_at(view.bytes, v0::THIS)
}

fn device_at(bytes: &[u8], at: usize) -> [u32; 3] {
    [
        get32(bytes, at + 4),
        get32(bytes, at + 8),
        get32(bytes, at + v0::device::STATE) & !v0::device::KNOWN,
    ]
}

/// The home of a disk that was read.
#[inline(never)]
fn home_of(view: &View<'_>, special: bool) -> Checked<Home> {
    let head = &view.head;
    let mut images = KVVec::with_capacity(SUPER_BYTES * image::COUNT, GFP_KERNEL)?;
    for _ in 0..image::COUNT {
        images.extend_from_slice(view.bytes, GFP_KERNEL)?;
    }
    let log = log_place(view);
    let log_bytes = log.map_or(0, |log| log.sectors as usize * 512);
    // One without entries was not read, and may have anything: it is written whole when it gets one.
    let mut logs = KVVec::from_elem(0u8, 2 * log_bytes, GFP_KERNEL)?;
    let mut log_used = 0;
    if let (Some(Ok(bytes)), Some(_)) = (&view.log, log) {
        for half in [0, log_bytes] {
            let _ = super::super::bytes::put(&mut logs, half, bytes);
        }
        log_used = super::badblocks::used(bytes);
    }
    let by_bitmap = head.features & feature::RECOVERY_BITMAP != 0;
    Ok(Home {
        sector: head.sector,
        images,
        block_bytes: 512 * block_sectors(&view.facts),
        data_offset: head.data_offset,
        data_size: head.data_size,
        bitmap: None,
        log,
        log_shift: head.log_shift,
        logs,
        log_used,
        keep_recovery: special || by_bitmap,
        fresh: false,
        first: false,
        touched: false,
        log_touched: false,
        bitmap_whole: false,
        // A torn superblock is written whole, as is one that missed an update.
        missed: view.torn,
        unsure: false,
    })
}
