// SPDX-License-Identifier: GPL-2.0

//! The metadata of a set in memory. There is one table, the same for all disks; of every disk that
//! is written to (its *home*) there are its reserved block and the table as it is there.

use super::super::bytes::slice;
use super::layout::*;
use super::table::Table;
use crate::model::{
    Access, Checked, Context, DiskIndex, DiskRole, DiskState, Level, MemberState, Set, Slot,
    Source, UpdatePlan, Volume, VolumeIndex,
};
use crate::reason;
use kernel::prelude::*;

/// Buffer numbers of [`Source::buffer`].
pub mod buffer {
    /// The table.
    pub const TABLE: u32 = 0;
    /// A sector of zeros.
    pub const ZEROS: u32 = 1;
    /// First buffer of disk 0; each disk has [`PER_DISK`] of them.
    pub const FIRST_DISK: u32 = 8;
    /// Buffers of a disk.
    pub const PER_DISK: u32 = 4;
    /// Of a disk: the reserved block, pointing at the table's place.
    pub const RESERVED: u32 = 0;
    /// Of a disk: the reserved block, pointing at the second half of that place.
    pub const MOVED: u32 = 1;
    /// Of a disk: the table as it is there.
    pub const THERE: u32 = 2;
}

/// Which half of a table's place a disk's reserved block points at, and so which table is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Live {
    /// The front, as ever.
    Front,
    /// The second half: an update was cut, or did not reach the disk as a whole.
    Half,
    /// One of them; both are whole.
    Either,
}

/// A disk that metadata is written to.
#[derive(Debug)]
pub struct Home {
    /// First sector of the table's place.
    pub place: u64,
    /// The second half of that place can hold the new table for a moment.
    pub halves: bool,
    /// Where its reserved block points.
    pub live: Live,
    /// The same before the current plan.
    pub was_live: Live,
    /// Part of the last plan did not reach it: what is there is not known.
    pub unsure: bool,
    /// The last sector: where the reserved block is.
    pub last: u64,
    /// The reserved block, as it is when nothing is going on.
    pub reserved: KVVec<u8>,
    /// The same, pointing at the second half.
    pub moved: KVVec<u8>,
    /// What is at the table's place.
    pub there: Table,
    /// Nothing has been written yet.
    pub fresh: bool,
}

/// Where a disk's metadata is.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// First sector of the table.
    pub table: u64,
    /// Sector of the reserved block.
    pub last: u64,
}

/// What the format knows of a disk beyond the model. Parallel to `Set::disks`.
#[derive(Debug)]
pub struct DiskMeta {
    /// Its magic number.
    pub magic: u32,
    /// Where its metadata is, when it is here.
    pub spot: Option<Spot>,
    /// The set's table has it as lost. By its own it is in use, and so is everybody else who is by the set's.
    pub was_away: bool,
    /// What is written to it, when it is.
    pub home: Option<Home>,
}

/// How the lines of a volume are put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One array.
    One,
    /// RAID 10: a stripe over mirrors of two.
    Mirrors,
    /// RAID 10: a mirror over two stripes. The data are where those of a stripe over mirrors are, each
    /// of which has a disk of both.
    Stripes,
}

impl Form {
    /// Array and position in it of a slot.
    pub fn place_of(self, slot: Slot) -> (usize, usize) {
        let slot = usize::from(slot);
        match self {
            Form::One => (0, slot),
            Form::Mirrors => (slot / 2, slot % 2),
            Form::Stripes => (slot % 2, slot / 2),
        }
    }
}

/// What the format knows of a volume beyond the model. Parallel to `Set::volumes`.
#[derive(Clone, Copy, Debug)]
pub struct VolumeMeta {
    /// How its lines are put together.
    pub form: Form,
    /// Magic number of its first line.
    pub magic: u32,
    /// Writes may be in flight.
    pub dirty: bool,
}

/// What an event changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Touched {
    /// Nothing.
    #[default]
    Nothing,
    /// Marks that are right whether they are old or new: no new sequence number is needed.
    Marks,
    /// What the set consists of.
    Lines,
}

/// The metadata of one set.
#[derive(Debug)]
pub struct AsrSet {
    /// The model.
    pub set: Set,
    /// The plan of the last event.
    pub plan: UpdatePlan,
    /// The set's number ([`super::probe::identity`]).
    pub id: u32,
    /// The table.
    pub table: Table,
    /// Its sequence number.
    pub sequence: u16,
    /// Why nothing is written, when nothing is.
    pub frozen: Option<&'static str>,
    /// A sector of zeros.
    pub zeros: KVVec<u8>,
    /// Disks, parallel to the model's.
    pub disks: KVec<DiskMeta>,
    /// Volumes, parallel to the model's.
    pub volumes: KVec<VolumeMeta>,
    /// The disk that the last event took out, and where it is to be erased.
    pub leaving: Option<(DiskIndex, Spot)>,
    /// What the current event has changed.
    pub touched: Touched,
}

impl AsrSet {
    /// What the format knows of a disk.
    pub fn disk_meta(&self, disk: DiskIndex) -> Option<&DiskMeta> {
        self.disks.get(usize::from(disk))
    }

    /// What is written to a disk.
    pub fn home(&self, disk: DiskIndex) -> Option<&Home> {
        self.disk_meta(disk)?.home.as_ref()
    }

    /// Line of a disk.
    pub fn disk_line(&self, disk: DiskIndex) -> Option<usize> {
        self.table.disk(self.disk_meta(disk)?.magic)
    }

    /// The disk with this magic number.
    pub fn by_magic(&self, magic: u32) -> Option<DiskIndex> {
        (0u16..)
            .zip(self.disks.iter())
            .find(|(index, meta)| {
                meta.magic == magic
                    && self
                        .set
                        .disk(*index)
                        .is_some_and(|disk| disk.state != DiskState::Removed)
            })
            .map(|(index, _)| index)
    }

    /// The first line of a volume.
    pub fn volume_line(&self, volume: VolumeIndex) -> Option<usize> {
        let meta = self.volumes.get(usize::from(volume))?;
        self.table.volume_line(meta.magic)
    }

    /// The line of a member.
    pub fn slot_line(&self, volume: VolumeIndex, slot: Slot) -> Option<usize> {
        let top = self.volume_line(volume)?;
        let form = self.volumes.get(usize::from(volume))?.form;
        let (array, position) = form.place_of(slot);
        let array = self.table.array_line(top, array)?;
        self.table.member_line(array, position)
    }

    /// Notes that an event changed something.
    pub fn touch(&mut self, touched: Touched) {
        self.touched = self.touched.max(touched);
    }

    /// Changes a line, and notes it when it is different then.
    pub fn edit_line(&mut self, index: usize, touched: Touched, edit: impl FnOnce(&mut Line)) {
        let Some(old) = self.table.line(index) else {
            return;
        };
        let mut line = old;
        edit(&mut line);
        if line != old {
            self.table.set(index, &line);
            self.touch(touched);
        }
    }

    /// The model's disk, unless it was removed.
    pub fn live_disk(&self, disk: DiskIndex) -> Checked<&crate::model::Disk> {
        self.set
            .disk(disk)
            .filter(|model| model.state != DiskState::Removed)
            .ok_or_else(|| reason!(ENODEV, "the set has no disk {disk}"))
    }

    /// A disk of the model that is here, working and written to.
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

    /// The volume, unless it was deleted or is not to be used.
    pub fn live_volume(&self, volume: VolumeIndex) -> Checked<&Volume> {
        let model = self
            .set
            .volume(volume)
            .ok_or_else(|| reason!(ENOENT, "the set has no volume {volume}"))?;
        match &model.access {
            Access::Refused(why) => Err(reason!(EACCES, "volume {volume}: {}", why.text())),
            _ => Ok(model),
        }
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
        let Some(index) = self.disk_line(disk) else {
            return DiskRole::Unused;
        };
        let spare = self
            .table
            .line(index)
            .is_some_and(|line| line.raid == raid::SPARE && line.state == state::OPTIMAL);
        let parent = self.table.parent(index);
        let (true, Some(parent)) = (spare, parent) else {
            return DiskRole::Unused;
        };
        let list = self.table.line(parent).filter(Line::is_spares);
        // A list of spares may be for one array, too.
        let top = match list {
            Some(list) => self.table.volume_line(list.magic),
            None => self
                .table
                .volumes()
                .map(|(top, _)| top)
                .find(|&top| self.table.volume(top).contains(&parent)),
        };
        let volume = top
            .and_then(|top| self.table.line(top))
            .and_then(|line| self.volume_with(line.magic));
        match (volume, list) {
            (Some(volume), _) => DiskRole::DedicatedSpare(volume),
            (None, Some(_)) => DiskRole::GlobalSpare,
            (None, None) => DiskRole::Unused,
        }
    }

    /// The volume with this magic number.
    pub fn volume_with(&self, magic: u32) -> Option<VolumeIndex> {
        self.set
            .live_volumes()
            .map(|(index, _)| index)
            .find(|&index| {
                self.volumes
                    .get(usize::from(index))
                    .is_some_and(|meta| meta.magic == magic)
            })
    }

    /// Brings the states that the lines of a volume's arrays show up to date.
    pub fn refresh_volume(&mut self, volume: VolumeIndex) {
        let (Some(top), Some(model)) = (self.volume_line(volume), self.set.volume(volume)) else {
            return;
        };
        let building = matches!(
            model.consistency,
            crate::model::Consistency::Initialising { .. }
        );
        let form = match self.volumes.get(usize::from(volume)) {
            Some(meta) => meta.form,
            None => return,
        };
        let extra = if building { state::BUILDING } else { 0 };
        let state = |form: Form, nth: usize| {
            let model = self.set.volume(volume);
            model.map_or(0, |model| array_state(model, form, nth))
        };
        let whole = match form {
            Form::One => state(form, 0),
            // Whichever way it is written down: what counts is every pair of disks.
            _ => (0..model.members.len() / 2)
                .map(|pair| state(Form::Mirrors, pair))
                .fold(state::OPTIMAL, worse),
        };
        for nth in 0..self.table.arrays(top) {
            let now = self
                .set
                .volume(volume)
                .map_or(0, |model| array_state(model, form, nth));
            if let Some(index) = self.table.array_line(top, nth) {
                self.edit_line(index, Touched::Lines, |line| line.state = now | extra);
            }
        }
        if form != Form::One {
            self.edit_line(top, Touched::Lines, |line| line.state = whole | extra);
        }
    }

    /// The bytes of a planned write.
    pub fn source_bytes(&self, source: &Source) -> &[u8] {
        let bytes: &[u8] = match source.buffer {
            buffer::TABLE => self.table.bytes(),
            buffer::ZEROS => &self.zeros,
            number => {
                let Some(number) = number.checked_sub(buffer::FIRST_DISK) else {
                    return &[];
                };
                let disk = u16::try_from(number / buffer::PER_DISK).unwrap_or(u16::MAX);
                match (self.home(disk), number % buffer::PER_DISK) {
                    (Some(home), buffer::RESERVED) => &home.reserved,
                    (Some(home), buffer::MOVED) => &home.moved,
                    (Some(home), buffer::THERE) => home.there.bytes(),
                    _ => return &[],
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

    /// A magic number that nothing here has.
    pub fn new_magic(&self, context: &Context, salt: u64) -> u32 {
        let taken = |magic: u32| {
            matches!(magic, 0 | NO_MAGIC)
                || self.table.lines().any(|(_, line)| line.magic == magic)
                || self.disks.iter().any(|meta| meta.magic == magic)
        };
        // One more candidate than there can be numbers taken is not needed: they are random.
        (0..256u64)
            .map(|round| mix(context, salt.wrapping_mul(256).wrapping_add(round)))
            .find(|&magic| !taken(magic))
            .unwrap_or(1)
    }
}

/// 32 of the context's random bits, different for every `salt`.
pub fn mix(context: &Context, salt: u64) -> u32 {
    let [first, second] = context.random;
    let mut bits = first ^ second.rotate_left(17) ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (bits >> 32) as u32
}

/// State of array number `nth` of a volume, in the format's words.
pub fn array_state(volume: &Volume, form: Form, nth: usize) -> u8 {
    let (mut good, mut rebuilding, mut lost) = (0, 0, 0);
    for (slot, member) in (0u16..).zip(volume.members.iter()) {
        if form.place_of(slot).0 != nth {
            continue;
        }
        match member.state {
            MemberState::InSync => good += 1,
            MemberState::Rebuilding { .. } => rebuilding += 1,
            MemberState::Failed | MemberState::Missing => lost += 1,
        }
    }
    let needed = match form {
        Form::One if !volume.shape.level.is_redundant() => good + rebuilding + lost,
        Form::One | Form::Mirrors => 1,
        // Without one of its members a stripe is lost.
        Form::Stripes if lost > 0 => usize::MAX,
        Form::Stripes => 0,
    };
    match (good >= needed, rebuilding > 0, lost > 0) {
        (false, _, _) => state::FAILED,
        (true, true, _) => state::DEGRADED | state::REBUILDING,
        (true, false, true) => state::DEGRADED,
        (true, false, false) => state::OPTIMAL,
    }
}

/// Whether a volume can be read at all.
pub fn is_whole(volume: &Volume) -> bool {
    let (form, arrays) = match volume.shape.level {
        Level::Raid10 => (Form::Mirrors, volume.members.len() / 2),
        _ => (Form::One, 1),
    };
    (0..arrays).all(|nth| array_state(volume, form, nth) != state::FAILED)
}

/// The worse of two arrays' states.
fn worse(one: u8, other: u8) -> u8 {
    if one == state::FAILED || other == state::FAILED {
        return state::FAILED;
    }
    one | other
}
