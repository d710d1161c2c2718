// SPDX-License-Identifier: GPL-2.0

//! The metadata of one set in memory, and the helpers that change it.
//!
//! The two tables and the controller data are the same on every disk and are kept once; header,
//! configuration records and disk data are kept for every disk that is written to (its *home*).
//! Everything is edited in place in the bytes that were read, so what is not understood survives.
//! Which blocks a copy on a disk still lacks is noted in that copy's bit map.

use super::super::bytes::slice;
use super::config::{self, Content, Record};
use super::header::Kind;
#[cfg(not(CONFIG_RUST))]
use super::home::slot;
use super::home::Home;
use super::layout::*;
use super::model::Quirks;
use super::probe::{CopyView, Which};
use super::spares::SpareFor;
use super::tables;
use super::vendor_log::{Token, VendorLog};
use crate::model::{
    Access, Checked, Context, DiskIndex, DiskRole, DiskState, Set, Source, UpdatePlan, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Buffer numbers of [`Source::buffer`].
pub mod buffer {
    /// Controller data.
    pub const CONTROLLER: u32 = 0;
    /// Physical disk table.
    pub const DISKS: u32 = 1;
    /// Virtual disk table.
    pub const VOLUMES: u32 = 2;
    /// A block of zeros.
    pub const ZEROS: u32 = 3;
    /// EMD's own records, but for their heads.
    pub const VENDOR_LOG: u32 = 4;
    /// First buffer of disk 0; each disk has [`PER_DISK`] of them.
    pub const FIRST_DISK: u32 = 8;
    /// Buffers of a disk.
    pub const PER_DISK: u32 = 5;
    /// Of a disk: header blocks.
    pub const HEADERS: u32 = 0;
    /// Of a disk: configuration section.
    pub const CONFIG: u32 = 1;
    /// Of a disk: disk data.
    pub const DATA: u32 = 2;
    /// Of a disk: bad block log, on fresh disks.
    pub const LOG: u32 = 3;
    /// Of a disk: head of EMD's own records.
    pub const VENDOR_HEAD: u32 = 4;
}

/// What the format knows of a disk beyond the model. Parallel to `Set::disks`.
#[derive(Debug)]
pub struct DiskMeta {
    /// Its reference.
    pub reference: u32,
    /// Its entry in the physical disk table.
    pub entry: Option<u16>,
    /// Blocks of anchor, primary and secondary header, when the disk is present.
    pub spots: [Option<u64>; 3],
    /// What is written to it, when it is.
    pub home: Option<Home>,
    /// What its spare record said, when it is not written to.
    pub spare_for: Option<SpareFor>,
}

/// What the format knows of a volume beyond the model. Parallel to `Set::volumes`.
#[derive(Debug)]
pub struct VolumeMeta {
    /// Its entry in the virtual disk table.
    pub entry: Option<u16>,
    /// GUID in its entry.
    pub guid: Guid,
    /// GUID in its records; differs on Marvell only.
    pub record_guid: Guid,
    /// Members of each basic volume, which has a record of its own: those of a span, or of one mirror
    /// of a RAID 10.
    pub width: u16,
    /// The newest record of every basic volume, one after another; zeros where there is none.
    pub records: KVVec<u8>,
    /// Its slot in EMD's own records.
    pub log_slot: Option<u16>,
    /// Its log of partial parity.
    pub hole: super::hole::HoleMeta,
}

/// Where a disk is that leaves the set: its headers are to be erased.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// The disk.
    pub disk: DiskIndex,
    /// Blocks of anchor, primary and secondary header.
    pub blocks: [Option<u64>; 3],
    /// Sectors of a block.
    pub block_sectors: u64,
}

/// What an event changed in the tables that all disks share.
#[derive(Clone, Copy, Default, Debug)]
pub struct Touched {
    /// The physical disk table.
    pub disks: bool,
    /// The virtual disk table.
    pub volumes: bool,
    /// Something on single disks.
    pub homes: bool,
    /// Records are to be written before tables, where these cannot be written at once.
    pub records_first: bool,
}

/// The metadata of one set.
#[derive(Debug)]
pub struct DdfSet {
    /// The model.
    pub set: Set,
    /// The plan of the last event.
    pub plan: UpdatePlan,
    /// Layout of the tables; the places are the first disk's.
    pub layout: Layout,
    /// Sequence number of what is on the disks.
    pub sequence: u32,
    /// What tells this state of the set from others.
    pub token: Token,
    /// EMD's own records, when there is a place for them.
    pub log: Option<VendorLog>,
    /// Controller data; empty when absent.
    pub controller: KVVec<u8>,
    /// Physical disk table.
    pub pd: KVVec<u8>,
    /// Virtual disk table.
    pub vd: KVVec<u8>,
    /// A primary header, from which those of new disks are made.
    pub template: KVVec<u8>,
    /// Distances of primary header, secondary header and workspace from the anchor, for new disks.
    pub from_anchor: [Option<u64>; 3],
    /// Who made the set, where that changes what is in its metadata.
    pub quirks: Quirks,
    /// The tables cannot be trusted, or a disk is here twice: nothing is written.
    pub frozen: bool,
    /// A block of zeros.
    pub zeros: KVVec<u8>,
    /// Disks, parallel to the model's.
    pub disks: KVec<DiskMeta>,
    /// Volumes, parallel to the model's.
    pub volumes: KVec<VolumeMeta>,
    /// The disk that the last event took out.
    pub leaving: Option<Leaving>,
    /// What the current event has changed.
    pub touched: Touched,
}

impl DdfSet {
    /// What the format knows of a disk.
    pub fn disk_meta(&self, disk: DiskIndex) -> Option<&DiskMeta> {
        self.disks.get(usize::from(disk))
    }

    /// What is written to a disk.
    pub fn home(&self, disk: DiskIndex) -> Option<&Home> {
        self.disk_meta(disk)?.home.as_ref()
    }

    /// What is written to a disk, to be changed.
    pub fn home_mut(&mut self, disk: DiskIndex) -> Option<&mut Home> {
        self.disks.get_mut(usize::from(disk))?.home.as_mut()
    }

    /// What the format knows of a volume.
    pub fn volume_meta(&self, volume: VolumeIndex) -> Option<&VolumeMeta> {
        self.volumes.get(usize::from(volume))
    }

    /// Members of each basic volume of `volume`; at least 1.
    pub fn width(&self, volume: VolumeIndex) -> u16 {
        self.volume_meta(volume).map_or(1, |meta| meta.width.max(1))
    }

    /// The disk entry of `disk` that is its own.
    pub fn pde(&self, disk: DiskIndex) -> Option<tables::Entry<'_>> {
        let index = self.disk_meta(disk)?.entry?;
        Some(tables::entry(&self.pd, self.layout.endian, index))
    }

    /// The volume entry of `volume`.
    pub fn vde(&self, volume: VolumeIndex) -> Option<tables::Entry<'_>> {
        let index = self.volume_meta(volume)?.entry?;
        Some(tables::entry(&self.vd, self.layout.endian, index))
    }

    /// Notes a change of entry `index` of one of the tables on every disk.
    pub fn touch_entry(&mut self, section: Section, index: u16) {
        let at = TABLE_HEAD + usize::from(index) * ENTRY_BYTES;
        match section {
            Section::Disks => self.touched.disks = true,
            _ => self.touched.volumes = true,
        }
        for meta in self.disks.iter_mut() {
            if let Some(home) = meta.home.as_mut() {
                home.mark_both(section, at, ENTRY_BYTES);
            }
        }
    }

    /// Sets type and state of an entry of the disk table; notes it when they differ.
    fn set_pde(&mut self, index: u16, kind: u16, state: u16) {
        let now = tables::entry(&self.pd, self.layout.endian, index);
        if now.disk_type() == kind && now.disk_state() == state {
            return;
        }
        let mut entry = tables::entry_mut(&mut self.pd, self.layout.endian, index);
        entry.set_disk_type(kind);
        entry.set_disk_state(state);
        self.touch_entry(Section::Disks, index);
    }

    /// Changes type and state of a disk's entry. Where it has several, they have one state afterwards.
    pub fn edit_pde(&mut self, disk: DiskIndex, edit: impl Fn(u16, u16) -> (u16, u16)) {
        let (Some(state), Some(meta)) = (self.disk_state(disk), self.disk_meta(disk)) else {
            return;
        };
        let reference = meta.reference;
        for index in 0..self.layout.pd_entries {
            let entry = tables::entry(&self.pd, self.layout.endian, index);
            if entry.reference() == reference {
                let (kind, state) = edit(entry.disk_type(), state);
                self.set_pde(index, kind, state);
            }
        }
    }

    /// Changes state and init byte of a volume's entry.
    pub fn edit_vde(&mut self, volume: VolumeIndex, edit: impl FnOnce(u8, u8) -> (u8, u8)) {
        let Some(index) = self.volume_meta(volume).and_then(|meta| meta.entry) else {
            return;
        };
        let now = tables::entry(&self.vd, self.layout.endian, index);
        let (old_state, old_init) = (now.volume_state(), now.volume_init());
        let (state, init) = edit(old_state, old_init);
        if (state, init) == (old_state, old_init) {
            return;
        }
        let mut entry = tables::entry_mut(&mut self.vd, self.layout.endian, index);
        entry.set_volume_state(state);
        entry.set_volume_init(init);
        self.touch_entry(Section::Volumes, index);
    }

    /// Recomputes the state of a volume's entry from its members. That of a refused volume, of which not even the level may be
    /// known, is left alone.
    pub fn refresh_vde(&mut self, volume: VolumeIndex) {
        let Some(model) = self.set.volume(volume) else {
            return;
        };
        if matches!(model.access, Access::Refused(_)) {
            return;
        }
        let value = super::model::volume_state(&model.shape, &model.members);
        if value != vde::OPTIMAL {
            self.say_who_works();
        }
        self.edit_vde(volume, |state, init| {
            ((state & !vde::STATE_MASK) | value, init)
        });
    }

    /// The newest record of a basic volume (`span`) of a volume.
    pub fn master(&self, volume: VolumeIndex, span: u16) -> Option<Record<'_>> {
        let len = self.layout.record_bytes as usize;
        let records = &self.volume_meta(volume)?.records;
        let bytes = slice(records, usize::from(span).checked_mul(len)?, len)?;
        Record::new(bytes, &self.layout)
    }

    /// Whether a record of `volume` has a wrong checksum on every disk that is here. Such records are never written: that
    /// would give them a right one.
    pub fn has_unsound_record(&self, volume: VolumeIndex) -> bool {
        let len = (self.layout.record_bytes as usize).max(1);
        self.volume_meta(volume).is_some_and(|meta| {
            let mut records = meta
                .records
                .chunks_exact(len)
                .filter_map(|bytes| Record::new(bytes, &self.layout));
            records.any(|record| !record.intact())
        })
    }

    /// Bumps the counter of every record of a volume and applies `edit` to those of `span`, in
    /// memory and on every disk that has one.
    pub fn edit_records(
        &mut self,
        volume: VolumeIndex,
        span: u16,
        time: u32,
        edit: &dyn Fn(&mut [u8], &Layout),
    ) {
        let layout = self.layout;
        let Some(meta) = self.volumes.get_mut(usize::from(volume)) else {
            return;
        };
        let len = (layout.record_bytes as usize).max(1);
        let newest = meta
            .records
            .chunks_exact(len)
            .filter_map(|bytes| Record::new(bytes, &layout))
            .map(|record| record.sequence())
            .max()
            .unwrap_or(0);
        let sequence = newest.wrapping_add(1);
        for (index, bytes) in (0u16..).zip(meta.records.chunks_exact_mut(len)) {
            if !Record::new(bytes, &layout).is_some_and(|record| record.intact()) {
                continue;
            }
            config::stamp(bytes, &layout, sequence, time);
            if index == span {
                edit(bytes, &layout);
            }
            layout.crc.seal(bytes, layout.endian);
        }
        let guid = meta.record_guid;
        for disk in self.disks.iter_mut() {
            let Some(home) = disk.home.as_mut() else {
                continue;
            };
            let found = home.slots().find(|&index| {
                home.record(index)
                    .is_some_and(|record| record.guid() == guid && record.intact())
            });
            let Some(index) = found else { continue };
            let mine = home.record(index).map_or(0, |record| record.span());
            home.edit_slot(index, |bytes| {
                config::stamp(bytes, &layout, sequence, time);
                if u16::from(mine) == span {
                    edit(bytes, &layout);
                }
            });
            self.touched.homes = true;
        }
    }

    /// A slot of the configuration section of `disk` that a record may be put in.
    pub fn free_slot(&self, disk: DiskIndex) -> Option<u16> {
        let home = self.home(disk)?;
        let unused = home
            .slots()
            .find(|&index| home.content(index) == Content::Unused);
        // A record of a volume that the table does not list counts for nothing.
        unused.or_else(|| {
            home.slots().find(|&index| {
                home.record(index)
                    .is_some_and(|record| !self.knows_record(&record.guid()))
            })
        })
    }

    /// Whether a volume that exists has records with this GUID.
    pub fn knows_record(&self, guid: &Guid) -> bool {
        self.set
            .live_volumes()
            .filter_map(|(index, _)| self.volume_meta(index))
            .any(|meta| meta.record_guid == *guid)
    }

    /// Whether `disk` may become a member of one volume more.
    pub fn check_partition(&self, disk: DiskIndex) -> Checked {
        let now = self.set.memberships(disk).count();
        let most = self.layout.partitions;
        if now >= usize::from(most) || self.free_slot(disk).is_none() {
            return Err(reason!(
                ENOSPC,
                "disk {disk} is in {now} volumes already; its metadata has room for {most}"
            ));
        }
        Ok(())
    }

    /// Recomputes a disk's role in the model.
    pub fn refresh_role(&mut self, disk: DiskIndex) {
        let role = self.role_of(disk);
        if let Some(model) = self.set.disks.get_mut(usize::from(disk)) {
            model.role = role;
        }
    }

    fn role_of(&self, disk: DiskIndex) -> DiskRole {
        if self.set.memberships(disk).next().is_some() {
            return DiskRole::Member;
        }
        self.spare_role_of(self.disk_type(disk), self.spare_for(disk))
    }

    /// A disk of the model that is present, working and written to.
    pub fn usable_disk(&self, disk: DiskIndex) -> Checked<&Home> {
        let model = self
            .set
            .disk(disk)
            .ok_or_else(|| reason!(ENODEV, "the set has no disk {disk}"))?;
        match (model.state, model.facts, self.home(disk)) {
            (DiskState::Online, Some(_), Some(home)) => Ok(home),
            _ => Err(reason!(
                ENODEV,
                "disk {disk} ({}) is not a working, present disk of the set",
                model.label
            )),
        }
    }

    /// The bytes of a planned write.
    pub fn source_bytes(&self, source: &Source) -> &[u8] {
        let bytes: &[u8] = match source.buffer {
            buffer::CONTROLLER => &self.controller,
            buffer::DISKS => &self.pd,
            buffer::VOLUMES => &self.vd,
            buffer::ZEROS => &self.zeros,
            buffer::VENDOR_LOG => self.log.as_ref().map_or(&[], |log| &log.image),
            number => {
                let Some(number) = number.checked_sub(buffer::FIRST_DISK) else {
                    return &[];
                };
                let disk = u16::try_from(number / buffer::PER_DISK).unwrap_or(u16::MAX);
                match (self.home(disk), number % buffer::PER_DISK) {
                    (Some(home), buffer::HEADERS) => &home.headers,
                    (Some(home), buffer::CONFIG) => &home.config,
                    (Some(home), buffer::DATA) => &home.data,
                    (Some(home), buffer::LOG) => &home.log,
                    (Some(home), _) => home.vendor.as_ref().map_or(&[], |log| &log.head),
                    (None, _) => return &[],
                }
            }
        };
        slice(
            bytes,
            source.offset_bytes as usize,
            source.len_bytes as usize,
        )
        .unwrap_or(&[])
    }

    /// The bytes of `section` as they belong on `disk`.
    #[cfg(not(CONFIG_RUST))]
    pub fn section_bytes(&self, disk: DiskIndex, section: Section) -> &[u8] {
        match section {
            Section::Controller => &self.controller,
            Section::Disks => &self.pd,
            Section::Volumes => &self.vd,
            Section::Config => self.home(disk).map_or(&[], |home| &home.config),
            Section::Data => self.home(disk).map_or(&[], |home| &home.data),
            Section::BadBlocks => self.home(disk).map_or(&[], |home| &home.log),
        }
    }

    /// Shows every stretch that belongs on `disk`, as (first block, bytes): both copies' headers
    /// and sections, and the anchor, all checksums computed anew. For tests and for repair tools.
    #[cfg(not(CONFIG_RUST))]
    pub fn encode(&mut self, disk: DiskIndex, visit: &mut dyn FnMut(u64, &[u8])) {
        self.seal_tables();
        let layout = self.layout;
        let Some(home) = self.home_mut(disk) else {
            return;
        };
        for index in 0..slot::COUNT {
            layout.crc.seal(home.header_mut(index), layout.endian);
        }
        layout.crc.seal(&mut home.data, layout.endian);
        for index in home.slots() {
            if home.record(index).is_some_and(|record| record.intact()) {
                let bytes = config::slot_bytes_mut(&mut home.config, &layout, index);
                layout.crc.seal(bytes, layout.endian);
            }
        }
        let Some(home) = self.home(disk) else { return };
        visit(home.anchor, home.header(slot::ANCHOR));
        for which in [Which::Primary, Which::Secondary] {
            let Some(block) = home.copy(which) else {
                continue;
            };
            visit(block, home.header(slot::closed(which)));
            for section in Section::ALL {
                let bytes = self.section_bytes(disk, section);
                let place = home.layout.place(section);
                if !bytes.is_empty() && place.blocks != 0 {
                    visit(block.saturating_add(u64::from(place.offset)), bytes);
                }
            }
        }
    }

    /// Computes the tables' checksums.
    pub fn seal_tables(&mut self) {
        let layout = self.layout;
        layout.crc.seal(&mut self.pd, layout.endian);
        layout.crc.seal(&mut self.vd, layout.endian);
    }
}

/// DDF's time of an event.
pub fn ddf_time(context: &Context) -> u32 {
    let seconds = context.now_seconds.saturating_sub(EPOCH);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What tells a state of the set from others: counter and time of its headers, checksums of its
/// tables.
pub fn token_of(layout: &Layout, sequence: u32, time: u32, pd: &[u8], vd: &[u8]) -> Token {
    Token([
        sequence,
        time,
        get32(layout.endian, pd, 4),
        get32(layout.endian, vd, 4),
    ])
}

/// The state of the set that a copy has.
pub fn state_of(copy: &CopyView<'_>) -> Token {
    token_of(
        &copy.layout,
        copy.head.sequence,
        get32(copy.layout.endian, copy.bytes, header::TIME),
        copy.section(Section::Disks),
        copy.section(Section::Volumes),
    )
}

/// The kind of header that a copy starts with.
pub fn kind_of(which: Which) -> Kind {
    match which {
        Which::Primary => Kind::Primary,
        Which::Secondary => Kind::Secondary,
    }
}
