// SPDX-License-Identifier: GPL-2.0

//! From the model to the bytes of superblocks: only the fields that events change are written.

use super::super::bytes::put;
use super::head::{checksum_0, checksum_1, Head};
use super::layout::*;
use super::left_log::put_place;
use super::own_mark::{self, Mark};
use super::set::{image, MdSet};
use crate::model::{Consistency, Disk, DiskIndex, DiskState, MemberState};

/// Sectors of a superblock that are written: its bytes, in whole logical blocks.
pub fn used_sectors(head: &Head, block_bytes: u32) -> u32 {
    let bytes = match head.version {
        Version::V090 => SUPER_BYTES as u32,
        _ => v1::ROLES as u32 + 2 * head.roles_max,
    };
    bytes.next_multiple_of(block_bytes.clamp(512, 4096)) / 512
}

/// How the model's roles differ from those in superblocks.
#[derive(Clone, Copy, Default)]
pub struct RolesChanged {
    /// There is a difference.
    pub any: bool,
    /// A member goes.
    pub lost: bool,
    /// One that goes was not here, so it may have more events than those that are.
    pub unseen: bool,
}

impl MdSet {
    /// What the resync field says.
    fn resync_word(&self) -> u64 {
        let Some(volume) = self.array() else {
            return u64::MAX;
        };
        if !volume.shape.level.is_redundant() {
            return self.head.resync;
        }
        match volume.consistency {
            Consistency::Clean => u64::MAX,
            Consistency::Dirty => 0,
            // Below the mark writes may be in flight: it counts only while there are none.
            Consistency::Initialising { .. } if self.in_flight => 0,
            Consistency::Initialising { done_sectors } => done_sectors,
        }
    }

    /// The role that the model gives a disk; `None` leaves what is there.
    pub fn role_word(&self, disk: DiskIndex) -> Option<u16> {
        let (meta, model) = (self.meta(disk)?, self.set.disk(disk)?);
        if meta.keep_role {
            return None;
        }
        Some(match (model.state, self.slot_of(disk)) {
            (
                DiskState::Online,
                Some((slot, MemberState::InSync | MemberState::Rebuilding { .. })),
            ) => slot,
            (DiskState::Failed, _) => role::FAULTY,
            _ => role::SPARE,
        })
    }

    /// What some superblock says of roles that the model does not. Of spares those count that are not old.
    pub fn roles_changed(&self) -> RolesChanged {
        let forgotten = self.lacks_spare || self.has_forgotten_member();
        let mut tells = self
            .homes()
            .filter(|(disk, home)| {
                !home.fresh && (self.slot_of(*disk).is_some() || !self.is_behind(home))
            })
            .peekable();
        if tells.peek().is_none() {
            return RolesChanged::default();
        }
        let mut found = RolesChanged {
            any: forgotten,
            lost: forgotten,
            unseen: forgotten,
        };
        tells.for_each(|(_, home)| self.compare_roles(home.image(image::OLD), &mut found));
        found
    }

    /// The same of one superblock.
    fn compare_roles(&self, old: &[u8], found: &mut RolesChanged) {
        let is_seen = |disk: DiskIndex| {
            let model = self.set.disk(disk);
            self.touched.leaves == Some(disk) || model.is_some_and(|model| model.facts.is_some())
        };
        for disk in 0..self.disks.len() as DiskIndex {
            let (Some(meta), Some(word)) = (self.meta(disk), self.role_word(disk)) else {
                continue;
            };
            let is_lost = self
                .set
                .disk(disk)
                .is_some_and(|model| model.state != DiskState::Online);
            let shared = is_lost && self.is_number_taken(meta.number, disk);
            if self.version == Version::V090 || shared {
                continue;
            }
            let now = get16(old, v1::ROLES + 2 * meta.number as usize);
            found.any |= now != word;
            if now < role::SLOTS && word >= role::SLOTS {
                found.lost = true;
                found.unseen |= !is_seen(disk);
            }
        }
        if self.version == Version::V090 {
            let slots = self.array().map_or(0, |volume| volume.members.len());
            for slot in 0..slots as u32 {
                let now = self.head.role(old, slot) == Role::Member(slot as u16);
                let then = self
                    .array()
                    .and_then(|volume| volume.members.get(slot as usize))
                    .is_some_and(|member| {
                        let kept = member
                            .disk
                            .and_then(|disk| self.meta(disk))
                            .is_some_and(|meta| meta.keep_role);
                        kept || member.state == MemberState::InSync
                    });
                found.any |= now != then;
                if now && !then {
                    let mut disks = (0u16..).zip(self.disks.iter());
                    found.lost = true;
                    found.unseen |= !disks.any(|(disk, meta)| meta.number == slot && is_seen(disk));
                }
            }
        }
    }

    /// The numbers that a superblock (not of 0.90) gives to members of which the model knows nothing.
    fn forgotten<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let count = get32(bytes, v1::ROLES_MAX).min(self.head.roles_max);
        (0..count).filter(move |&number| self.is_forgotten(bytes, number))
    }

    fn is_forgotten(&self, bytes: &[u8], number: u32) -> bool {
        get16(bytes, v1::ROLES + 2 * number as usize) < role::SLOTS
            && !self.disks.iter().any(|meta| meta.number == number)
    }

    /// Whether some superblock has a member that the newest one did not have any more when the set was read.
    fn has_forgotten_member(&self) -> bool {
        if self.version == Version::V090 {
            return false;
        }
        self.homes()
            .filter(|(_, home)| !home.fresh)
            .any(|(_, home)| self.forgotten(home.image(image::OLD)).next().is_some())
    }

    /// Whether another disk that is here has this number.
    fn is_number_taken(&self, number: u32, but: DiskIndex) -> bool {
        (0u16..).zip(self.disks.iter()).any(|(index, meta)| {
            index != but
                && meta.number == number
                && self
                    .set
                    .disk(index)
                    .is_some_and(|model| model.state == DiskState::Online)
        })
    }

    /// Renders every superblock without an event, as if what is not here were; for tests.
    #[cfg(not(CONFIG_RUST))]
    pub fn reencode(&mut self) {
        for (meta, model) in self.disks.iter_mut().zip(self.set.disks.iter()) {
            meta.keep_role |= matches!(model.state, DiskState::Missing | DiskState::Stale);
        }
        for disk in 0..self.disks.len() as DiskIndex {
            let own = self
                .home(disk)
                .map(|home| (home.image(image::OLD), self.version))
                .map(|(bytes, version)| match version {
                    Version::V090 => (get64(bytes, v0::EVENTS), u64::from(get32(bytes, v0::UTIME))),
                    _ => (get64(bytes, v1::EVENTS), get64(bytes, v1::UTIME)),
                });
            if let Some((events, utime)) = own {
                self.render(disk, image::NEW, events, Some(utime));
            }
        }
    }

    /// Writes one image of a disk's superblock, from its old one. Without `utime` the event count and
    /// what goes with it are the old ones too.
    #[inline(never)]
    pub fn render(&mut self, disk: DiskIndex, which: usize, events: u64, utime: Option<u64>) {
        let Some(home) = self.home_mut(disk) else {
            return;
        };
        home.copy_image(image::OLD, which);
        // The image is taken out while the rest is read.
        let mut images = core::mem::take(&mut home.images);
        if let Some(bytes) = images.chunks_exact_mut(SUPER_BYTES).nth(which) {
            match self.version {
                Version::V090 => self.render_0(disk, bytes, events, utime),
                _ => self.render_1(disk, bytes, events, utime),
            }
        }
        if let Some(home) = self.home_mut(disk) {
            home.images = images;
        }
    }

    #[inline(never)]
    fn render_1(&self, disk: DiskIndex, bytes: &mut [u8], events: u64, utime: Option<u64>) {
        if let Some(utime) = utime {
            put64(bytes, v1::UTIME, utime);
            put64(bytes, v1::EVENTS, events);
            put64(bytes, v1::RESYNC, self.resync_word());
        }
        let _ = put(bytes, v1::NAME, &self.name);
        // Members that nobody knows any more: an update that took them out was cut, and reached others only.
        for number in 0..get32(bytes, v1::ROLES_MAX).min(self.head.roles_max) {
            if self.is_forgotten(bytes, number) {
                put_role(bytes, number, role::SPARE);
            }
        }
        // Numbers that are free now; one may have been taken again, by a disk that comes below.
        for (index, meta) in (0u16..).zip(self.disks.iter()) {
            let gone = self
                .set
                .disk(index)
                .is_some_and(|model| model.state != DiskState::Online);
            if let (true, Some(word)) = (gone, self.role_word(index)) {
                put_role(bytes, meta.number, word);
            }
        }
        for (index, meta) in (0u16..).zip(self.disks.iter()) {
            let here = self
                .set
                .disk(index)
                .is_some_and(|model| model.state == DiskState::Online);
            if let (true, Some(word)) = (here, self.role_word(index)) {
                put_role(bytes, meta.number, word);
            }
        }
        let Some(home) = self.home(disk) else { return };
        let mut features = get32(bytes, v1::FEATURES);
        if !home.keep_recovery {
            features &= !(feature::RECOVERY | feature::RECOVERY_BITMAP | feature::REPLACEMENT);
            match self.slot_of(disk) {
                Some((_, MemberState::Rebuilding { done_sectors })) => {
                    features |= feature::RECOVERY;
                    put64(bytes, v1::RECOVERY, done_sectors);
                }
                _ => put64(bytes, v1::RECOVERY, 0),
            }
        }
        if home.log.is_some() {
            features &= !feature::BAD_BLOCKS;
            if home.log_used > 0 {
                features |= feature::BAD_BLOCKS;
            }
        }
        if self.head.features & feature::LOGS == 0 {
            features &= !feature::LOGS;
        } else if let Some(log) = home.left_log {
            // A row of headers it is, whatever it was: today's md says so too as soon as it writes.
            features = (features & !feature::LOGS) | feature::PPLS;
            put_place(bytes, home.sector, log);
        }
        put32(bytes, v1::FEATURES, features);
        if features & feature::RECOVERY == 0 && !home.keep_recovery {
            own_mark::put(self.version, bytes, self.mark_on(disk));
        }
        let sum = checksum_1(bytes, get32(bytes, v1::ROLES_MAX));
        put32(bytes, v1::CHECKSUM, sum);
    }

    #[inline(never)]
    fn render_0(&self, disk: DiskIndex, bytes: &mut [u8], events: u64, utime: Option<u64>) {
        let redundant = self
            .array()
            .is_some_and(|volume| volume.shape.level.is_redundant());
        if let Some(utime) = utime {
            put32(bytes, v0::UTIME, utime as u32);
            put64(bytes, v0::EVENTS, events);
            let word = self.resync_word();
            if redundant {
                let state = get32(bytes, v0::STATE) & !v0::CLEAN;
                let clean = if word == u64::MAX { v0::CLEAN } else { 0 };
                put32(bytes, v0::STATE, state | clean);
                let mark = match word {
                    u64::MAX => u32::MAX,
                    mark => u32::try_from(mark).unwrap_or(0),
                };
                put32(bytes, v0::RESYNC, mark);
                if mark != 0 {
                    put64(bytes, v0::RESYNC_EVENTS, events);
                }
            }
        }
        self.render_devices(disk, bytes);
        own_mark::put(self.version, bytes, self.mark_on(disk));
        let sum = checksum_0(bytes);
        put32(bytes, v0::CHECKSUM, sum);
    }

    /// What the superblock of a disk has a mark of: of members in sync a check or repair, of one that is being rebuilt how far it is.
    /// (In 1.x that is elsewhere.)
    fn mark_on(&self, disk: DiskIndex) -> Option<Mark> {
        match self.slot_of(disk)? {
            (_, MemberState::InSync) => self.array()?.scrub.map(Mark::Scrub),
            (slot, MemberState::Rebuilding { done_sectors }) if done_sectors > 0 => {
                (self.version == Version::V090).then_some(Mark::Rebuild { slot, done_sectors })
            }
            _ => None,
        }
    }

    /// The descriptors of a 0.90 superblock, as the kernel writes them: members in sync by their
    /// slots, the others behind them, slots without a member as removed.
    #[inline(never)]
    fn render_devices(&self, own: DiskIndex, bytes: &mut [u8]) {
        let Some(volume) = self.array() else { return };
        let slots = volume.members.len() as u32;
        let [mut active, mut working, mut failed, mut spare] = [0u32; 4];
        for number in 0..v0::DEVICES_MAX {
            let at = v0::DEVICE + v0::DEVICE_BYTES * number as usize;
            let holder = (0u16..).zip(self.disks.iter()).find(|(index, meta)| {
                let here = self
                    .set
                    .disk(*index)
                    .is_some_and(|model| model.state == DiskState::Online || meta.keep_role);
                here && meta.number == number && meta.home.is_some() | meta.keep_role
            });
            let mut fields = [number, 0, 0, number, 0];
            match holder {
                Some((index, meta)) => {
                    let in_sync = meta.keep_role
                        || matches!(self.slot_of(index), Some((_, MemberState::InSync)));
                    let [major, minor, other] = meta.device;
                    let known = if in_sync {
                        v0::device::ACTIVE | v0::device::SYNC
                    } else {
                        0
                    };
                    working += 1;
                    active += u32::from(in_sync);
                    spare += u32::from(!in_sync);
                    fields = [number, major, minor, number, known | other];
                }
                None if number < slots => {
                    failed += 1;
                    let [.., state] = &mut fields;
                    *state = v0::device::REMOVED | v0::device::FAULTY;
                }
                None => fields = [0; 5],
            }
            put_device(bytes, at, &fields);
            if holder.is_some_and(|(index, _)| index == own) {
                put_device(bytes, v0::THIS, &fields);
            }
        }
        let counts = [active, working, failed, spare];
        for (index, count) in counts.into_iter().enumerate() {
            put32(bytes, v0::COUNTS + 4 * index, count);
        }
        put32(bytes, v0::DEVICES, working);
    }

    /// Gives 0.90's devices the numbers that their states ask for: members in sync their slot's,
    /// all others one behind the slots.
    pub fn renumber(&mut self) {
        if self.version != Version::V090 {
            return;
        }
        let slots = self.array().map_or(0, |volume| volume.members.len() as u32);
        for index in 0..self.disks.len() as DiskIndex {
            let online = self
                .set
                .disk(index)
                .is_some_and(|model| model.state == DiskState::Online);
            let (true, Some(number)) = (online, self.meta(index).map(|meta| meta.number)) else {
                continue;
            };
            let wanted = match self.slot_of(index) {
                Some((slot, MemberState::InSync)) => u32::from(slot),
                _ if number >= slots && !self.is_number_taken(number, index) => number,
                _ => self.free_number(index).unwrap_or(number),
            };
            if wanted != number {
                if let Some(meta) = self.disks.get_mut(usize::from(index)) {
                    meta.number = wanted;
                }
                if let Some(model) = self.set.disks.get_mut(usize::from(index)) {
                    model.label = super::assemble::label_of(wanted);
                }
            }
        }
    }

    /// A number behind the slots that no disk of the set has; `own`'s counts as free. When there is none, one of a disk that
    /// is lost and not here, as with md.
    pub fn free_number(&self, own: DiskIndex) -> Option<u32> {
        let is_gone = |_: DiskIndex, model: &Disk| model.state == DiskState::Removed;
        let is_lost = |disk: DiskIndex, model: &Disk| {
            let is_expected =
                self.slot_of(disk).is_some() || self.meta(disk).is_some_and(|meta| meta.keep_role);
            is_gone(disk, model) || model.facts.is_none() && !is_expected
        };
        self.number_without(own, &is_gone)
            .or_else(|| self.number_without(own, &is_lost))
    }

    /// The number that is no disk's but `own`'s and those that are `out`.
    fn number_without(
        &self,
        own: DiskIndex,
        out: &dyn Fn(DiskIndex, &Disk) -> bool,
    ) -> Option<u32> {
        let slots = self.array().map_or(0, |volume| volume.members.len() as u32);
        let most = match self.version {
            Version::V090 => v0::DEVICES_MAX,
            _ => self.roles_room(),
        };
        let used = |number: u32| {
            (0u16..).zip(self.disks.iter()).any(|(index, meta)| {
                let is_out = self.set.disk(index).is_none_or(|model| out(index, model));
                index != own && meta.number == number && !is_out
            })
        };
        let before = if self.version == Version::V090 {
            0..0
        } else {
            0..slots
        };
        Iterator::chain(slots..most, before).find(|&number| !used(number))
    }

    /// Whether a disk that has `number` may have it again: where numbers stay, if all superblocks have room for it.
    pub fn may_have(&self, number: u32) -> bool {
        self.version != Version::V090 && number < self.roles_room()
    }

    /// Roles that every superblock has room for.
    fn roles_room(&self) -> u32 {
        self.homes()
            .map(|(_, home)| get32(home.image(image::NEW), v1::ROLES_MAX))
            .min()
            .unwrap_or(v1::ROLES_NEW)
    }
}

fn put_role(bytes: &mut [u8], number: u32, word: u16) {
    if number < get32(bytes, v1::ROLES_MAX) {
        put16(bytes, v1::ROLES + 2 * number as usize, word);
    }
}

fn put_device(bytes: &mut [u8], at: usize, fields: &[u32; 5]) {
    for (index, &field) in fields.iter().enumerate() {
        put32(bytes, at + 4 * index, field);
    }
}
