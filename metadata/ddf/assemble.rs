// SPDX-License-Identifier: GPL-2.0

//! From the disks of a group to a set: which disks belong. (Which generation counts, and what is stale: `generation.rs`.)
//!
//! The rules are those of `docs/formats/ddf.md`. Nothing is guessed: what contradicts itself is
//! shown with the reason and not assembled (`read_volumes.rs`).

use super::super::DiskImage;
use super::config::Content;
use super::generation::{freshest, settle_generation};
use super::layout::*;
use super::model::{disk_state, Quirks};
use super::probe::{examine, identity, Exam, Found};
use super::set::{state_of, DdfSet, DiskMeta, Touched};
use super::tables;
use crate::model::alloc::boxed;
use crate::model::{
    note, Access, Checked, Disk, DiskIndex, DiskRole, DiskState, Reason, Set, Text, UpdatePlan,
    DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// What assembly works on.
pub struct Reader<'a> {
    /// What was found, one for each disk that can be used.
    pub found: KVec<Found<'a>>,
    /// The model's disk for each of `found`; `None` for a second claimant.
    pub disk_of: KVec<Option<DiskIndex>>,
    /// Two disks claim to be this one, by disk.
    pub contested: KVec<bool>,
    /// Left out of at least two updates, by `found`.
    pub behind: KVec<bool>,
    /// The checksums of the tables in use are right.
    pub intact: bool,
    /// The set.
    pub set: KBox<DdfSet>,
}

/// [`crate::metadata::Format::assemble`].
pub fn assemble(images: &[&DiskImage]) -> Checked<KBox<DdfSet>> {
    let mut notes = KVec::new();
    let mut found = examine_all(images, &mut notes)?;
    let generation = settle_generation(&mut found);
    let source = freshest(&found, generation);
    let mut reader = start(found, source, notes)?;
    reader.set.sequence = generation;
    reader.set.set.generation = u64::from(generation);
    reader.list_disks()?;
    reader.place_disks()?;
    reader.find_behind(generation)?;
    reader.read_volumes()?;
    reader.fail_offline()?;
    reader.mark_stale()?;
    reader.judge_volumes()?;
    reader.move_in()?;
    reader.finish()
}

#[inline(never)]
fn examine_all<'a>(
    images: &[&'a DiskImage],
    notes: &mut KVec<Text<160>>,
) -> Checked<KVec<Found<'a>>> {
    let mut found: KVec<Found<'a>> = KVec::with_capacity(images.len().min(DISKS_MAX), GFP_KERNEL)?;
    if images.len() > DISKS_MAX {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {DISKS_MAX}",
            images.len()
        ));
    }
    let mut why = None;
    for image in images {
        if let Some(reason) = take(image, &mut found)? {
            note(notes, format_args!("a disk is left out: {}", reason.text()))?;
            why = Some(reason);
        }
    }
    let group = match found.first().and_then(Found::best) {
        Some(copy) => identity(&copy.head.guid),
        None => {
            return Err(why.unwrap_or_else(|| reason!(ENODEV, "no disk carries DDF metadata")));
        }
    };
    if found.iter().any(|disk| {
        disk.best()
            .is_none_or(|copy| identity(&copy.head.guid) != group)
    }) {
        return Err(reason!(EINVAL, "the disks belong to different DDF groups"));
    }
    Ok(found)
}

/// Examines one disk; says why when it cannot be used.
#[inline(never)]
fn take<'a>(image: &'a DiskImage, found: &mut KVec<Found<'a>>) -> Checked<Option<Reason>> {
    match examine(image) {
        Exam::Found(disk) => {
            found.push(disk, GFP_KERNEL)?;
            Ok(None)
        }
        Exam::Damaged(reason) => Ok(Some(reason)),
        Exam::NotMine | Exam::Read(_) => Ok(Some(reason!(ENODEV, "it carries no DDF metadata"))),
    }
}

/// A copy of `bytes` on the heap.
pub fn owned(bytes: &[u8]) -> Checked<KVVec<u8>> {
    let mut copy = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(copy)
}

/// Starts the set from the tables of disk `source`.
#[inline(never)]
fn start(found: KVec<Found<'_>>, source: usize, notes: KVec<Text<160>>) -> Checked<Reader<'_>> {
    let disk = found
        .get(source)
        .ok_or_else(|| reason!(ENODEV, "no disk carries DDF metadata"))?;
    let copy = disk
        .best()
        .ok_or_else(|| reason!(ENODEV, "no disk carries DDF metadata"))?;
    let layout = copy.layout;
    let controller = owned(copy.section(Section::Controller))?;
    let block = (layout.block_bytes as usize).min(copy.bytes.len());
    let starts_with = |text: &[u8]| copy.head.guid.starts_with(text);
    let quirks = Quirks {
        adaptec: super::is_adaptec(Some(&controller), layout.endian),
        freebsd: starts_with(b"FreeBSD "),
        lsi: starts_with(b"LSI     "),
    };
    let from = |block: Option<u64>| block.and_then(|block| disk.anchor.checked_sub(block));
    let set = boxed(DdfSet {
        set: Set {
            format: "ddf",
            id: identity(&copy.head.guid),
            name: super::create::set_name(&controller),
            generation: 0,
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes,
        },
        plan: UpdatePlan::new(),
        layout,
        sequence: 0,
        token: state_of(copy),
        log: None,
        pd: owned(copy.section(Section::Disks))?,
        vd: owned(copy.section(Section::Volumes))?,
        template: owned(copy.bytes.get(..block).unwrap_or(&[]))?,
        from_anchor: [
            from(Some(copy.head.primary)),
            from(copy.head.secondary),
            from(Some(get64(layout.endian, copy.bytes, header::WORKSPACE))),
        ],
        quirks,
        frozen: !copy.intact,
        zeros: KVVec::from_elem(0, layout.block_bytes as usize, GFP_KERNEL)?,
        controller,
        disks: KVec::new(),
        volumes: KVec::new(),
        leaving: None,
        touched: Touched::default(),
    })?;
    let foreign = copy.head.foreign;
    let intact = copy.intact;
    let mut reader = Reader {
        found,
        disk_of: KVec::new(),
        contested: KVec::new(),
        behind: KVec::new(),
        intact,
        set,
    };
    if foreign {
        reader.note(format_args!(
            "the set is marked foreign: configured by another controller"
        ))?;
    }
    Ok(reader)
}

impl Reader<'_> {
    /// Adds a remark for people.
    pub fn note(&mut self, args: core::fmt::Arguments<'_>) -> Checked {
        note(&mut self.set.set.notes, args)
    }

    /// Makes a disk of the model of every used entry.
    #[inline(never)]
    fn list_disks(&mut self) -> Checked {
        let layout = self.set.layout;
        for index in 0..layout.pd_entries {
            let entry = tables::entry(&self.set.pd, layout.endian, index);
            let (reference, kind) = (entry.reference(), entry.disk_type());
            if !entry.used() || matches!(reference, 0 | u32::MAX) {
                continue;
            }
            let label = label_of(&entry.guid(), reference);
            let blocks = entry.disk_blocks();
            if kind & pde::FOREIGN != 0 {
                self.note(format_args!("disk {label} is marked foreign"))?;
            }
            if self.by_reference(reference).is_some() {
                continue;
            }
            let entries =
                tables::entries_of(&self.set.pd, layout.endian, layout.pd_entries, reference);
            if entries.count() > 1 {
                self.note(format_args!(
                    "disk {label} has more than one entry: the worst of their states counts"
                ))?;
            }
            if self.set.disks.len() >= DISKS_MAX {
                return Err(reason!(E2BIG, "the set lists more than {DISKS_MAX} disks"));
            }
            let by_graid = self.set.quirks.freebsd;
            let bits = tables::worst_state(
                &self.set.pd,
                layout.endian,
                layout.pd_entries,
                reference,
                |entry| entry.sane_disk_state(by_graid),
            );
            let bits = bits.unwrap_or(0);
            self.push_disk(
                Disk {
                    facts: None,
                    label,
                    state: disk_state(bits, false),
                    role: DiskRole::Unused,
                    usable_sectors: blocks.saturating_mul(layout.block_sectors()),
                    failure_predicted: bits & pde::PREDICTIVE != 0,
                },
                reference,
                Some(index),
            )?;
        }
        Ok(())
    }

    fn push_disk(&mut self, disk: Disk, reference: u32, entry: Option<u16>) -> Checked<DiskIndex> {
        let index = u16::try_from(self.set.disks.len()).unwrap_or(u16::MAX);
        self.set.set.disks.push(disk, GFP_KERNEL)?;
        self.set.disks.push(
            DiskMeta {
                reference,
                entry,
                spots: [None; 3],
                home: None,
                spare_for: None,
            },
            GFP_KERNEL,
        )?;
        self.contested.push(false, GFP_KERNEL)?;
        Ok(index)
    }

    fn contest(&mut self, disk: DiskIndex) {
        if let Some(flag) = self.contested.get_mut(usize::from(disk)) {
            *flag = true;
        }
    }

    /// The disk with this reference.
    pub fn by_reference(&self, reference: u32) -> Option<DiskIndex> {
        (0u16..)
            .zip(self.set.disks.iter())
            .find(|(_, meta)| meta.reference == reference && meta.entry.is_some())
            .map(|(index, _)| index)
    }

    fn by_guid(&self, guid: &Guid) -> Option<DiskIndex> {
        let endian = self.set.layout.endian;
        (0u16..)
            .zip(self.set.disks.iter())
            .find(|(_, meta)| {
                meta.entry.is_some_and(|entry| {
                    !guid_unused(guid) && tables::entry(&self.set.pd, endian, entry).guid() == *guid
                })
            })
            .map(|(index, _)| index)
    }

    /// Finds out which of the set's disks each present disk is.
    #[inline(never)]
    fn place_disks(&mut self) -> Checked {
        for at in 0..self.found.len() {
            let Some(disk) = self.found.get(at) else {
                break;
            };
            let Some(copy) = disk.best() else { continue };
            let facts = disk.facts;
            let spots = [
                Some(disk.anchor),
                Some(copy.head.primary),
                copy.head.secondary,
            ];
            let reference = copy.reference();
            let guid = tables::disk_data::guid(copy.section(Section::Data));
            let known = self.by_reference(reference).or_else(|| self.by_guid(&guid));
            let Some(index) = known else {
                let label = label_of(&guid, reference);
                if self.set.disks.len() >= DISKS_MAX {
                    self.disk_of.push(None, GFP_KERNEL)?;
                    self.note(format_args!(
                        "disk {label} is left out: it is not in the newest list of disks, and there are \
                         {DISKS_MAX}"
                    ))?;
                    continue;
                }
                let index = self.push_disk(
                    Disk {
                        facts: Some(facts),
                        label,
                        state: DiskState::Stale,
                        role: DiskRole::Unused,
                        usable_sectors: 0,
                        failure_predicted: false,
                    },
                    reference,
                    None,
                )?;
                self.set_spots(index, spots);
                self.disk_of.push(Some(index), GFP_KERNEL)?;
                self.note(format_args!(
                    "disk {label} is not in the newest list of disks"
                ))?;
                continue;
            };
            let taken = self
                .set
                .set
                .disk(index)
                .is_some_and(|model| model.facts.is_some());
            if taken {
                self.contest(index);
                self.disk_of.push(None, GFP_KERNEL)?;
                self.note(format_args!("two disks claim to be disk {reference:08x}"))?;
                continue;
            }
            let by_graid = self.set.quirks.freebsd;
            let bits = self
                .set
                .disk_bits(index, |entry| entry.sane_disk_state(by_graid));
            let bits = bits.unwrap_or(0);
            if let Some(model) = self.set.set.disks.get_mut(usize::from(index)) {
                model.facts = Some(facts);
                model.state = disk_state(bits, true);
            }
            self.set_spots(index, spots);
            self.limit_usable(at, index)?;
            self.disk_of.push(Some(index), GFP_KERNEL)?;
        }
        Ok(())
    }

    fn set_spots(&mut self, index: DiskIndex, spots: [Option<u64>; 3]) {
        if let Some(meta) = self.set.disks.get_mut(usize::from(index)) {
            meta.spots = spots;
        }
    }

    /// A disk's usable part ends where its metadata starts, whatever its entry says.
    #[inline(never)]
    fn limit_usable(&mut self, at: usize, index: DiskIndex) -> Checked {
        let bound = self.metadata_start(at);
        let Some(model) = self.set.set.disks.get_mut(usize::from(index)) else {
            return Ok(());
        };
        if model.usable_sectors > bound {
            let label = model.label;
            model.usable_sectors = bound;
            self.note(format_args!(
                "disk {label}: its usable size reaches into its metadata; cut to {bound} sectors"
            ))?;
        }
        Ok(())
    }

    /// First sector of the metadata on present disk `at`.
    pub fn metadata_start(&self, at: usize) -> u64 {
        let Some(disk) = self.found.get(at) else {
            return 0;
        };
        let Some(copy) = disk.best() else { return 0 };
        let mut first = disk.anchor.min(copy.head.primary);
        if let Some(block) = copy.head.secondary {
            first = first.min(block);
        }
        first.saturating_mul(copy.layout.block_sectors())
    }

    /// The present disk that is disk `index` of the model.
    pub fn found_of(&self, index: DiskIndex) -> Option<usize> {
        self.disk_of.iter().position(|disk| *disk == Some(index))
    }

    /// Recomputes roles and reserves the plan.
    #[inline(never)]
    fn finish(mut self) -> Checked<KBox<DdfSet>> {
        if self.contested.iter().any(|&contested| contested) {
            // Which of two disks is the right one is not for a program to decide.
            self.set.frozen = true;
        }
        if self.set.frozen {
            self.forbid_writes();
        }
        if !self.intact {
            self.note(format_args!(
                "the checksum of a table is wrong on every copy"
            ))?;
        }
        self.read_log()?;
        for index in 0..self.set.disks.len() {
            if let Ok(index) = u16::try_from(index) {
                self.set.refresh_role(index);
            }
        }
        self.note_contents()?;
        self.set.reserve_plan()?;
        Ok(self.set)
    }

    /// Volumes of a set that nothing can be recorded in are not written: what was dirty, or failed, would be forgotten.
    fn forbid_writes(&mut self) {
        for volume in self.set.set.volumes.iter_mut() {
            if matches!(volume.access, Access::ReadWrite) {
                volume.access = Access::ReadOnly(reason!(
                    EROFS,
                    "two disks claim to be the same one of its set: nothing is written to it"
                ));
            }
        }
    }

    /// Remarks on what is kept without being understood.
    fn note_contents(&mut self) -> Checked {
        let mut others = 0usize;
        for meta in self.set.disks.iter() {
            if let Some(home) = meta.home.as_ref() {
                others += home
                    .slots()
                    .filter(|&index| home.content(index) == Content::Other)
                    .count();
            }
        }
        if others > 0 {
            self.note(format_args!("{others} vendor records are kept as they are"))?;
        }
        Ok(())
    }
}

/// What people call a disk: its GUID when that is text, else its reference.
pub fn label_of(guid: &Guid, reference: u32) -> Text<32> {
    if guid.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        Text::from_disk(guid)
    } else {
        Text::from_fmt(format_args!("{reference:08x}"))
    }
}
