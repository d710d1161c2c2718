// SPDX-License-Identifier: GPL-2.0

//! The log of partial parity (`personalities/hole_log`): where its rings are on sets that EMD or mdadm made, which volumes
//! have one, and the session whose entries count.
//!
//! The rings lie behind EMD's other records (`log_place`): [`RINGS`] on every disk, the
//! first at the next multiple of 4 KiB. A volume has the ring of one number on each of its disks. Number,
//! policy and session are in the head of its block of marks. So they count as long as that block does: when
//! anybody else has written to the set, what is in the log is of no use any more; the policy is kept.

use super::layout::*;
use super::log_read::Section;
use super::set::DdfSet;
use super::vendor_log::{Kind, Plan};
use crate::model::{Checked, Context, CrashPolicy, DiskIndex, HoleLog, Slot, VolumeIndex};
use crate::reason;
use kernel::prelude::*;

/// Rings on a disk: as many volumes of a set can have a log.
pub const RINGS: u16 = 4;
/// Units of a ring, of 4 KiB.
pub const RING_UNITS: u32 = 640;
/// Bytes of a unit.
const UNIT_BYTES: u32 = 4096;
/// Sectors of a unit.
const UNIT_SECTORS: u64 = 8;

/// Fields of the marks' head.
mod field {
    /// The session whose entries count, 8 bytes.
    pub const SESSION: usize = 0x30;
    /// What is done about crashes, 1 byte.
    pub const POLICY: usize = 0x38;
    /// The number of the volume's rings, 1 byte.
    pub const RING: usize = 0x39;
}

/// What the format knows of a volume's log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HoleMeta {
    /// The number of its rings, when it has a log.
    pub ring: Option<u16>,
    /// The session whose entries count.
    pub session: Option<u64>,
}

/// Blocks of a section, with all rings, and one unit for their alignment.
pub fn section_blocks(plan: &Plan) -> u32 {
    let units = u32::from(RINGS) * RING_UNITS + 1;
    let each = UNIT_BYTES.checked_div(plan.block_bytes).unwrap_or(1).max(1);
    plan.blocks().saturating_add(units.saturating_mul(each))
}

/// First sector of the rings in a section that starts at block `first` and has `blocks`; `None` when there are
/// none in it.
pub fn rings_sector(plan: &Plan, first: u64, blocks: u32) -> Option<u64> {
    if blocks < section_blocks(plan) {
        return None;
    }
    let block = first.checked_add(u64::from(plan.blocks()))?;
    let sector = block.checked_mul(u64::from(plan.block_bytes / 512))?;
    sector.checked_next_multiple_of(UNIT_SECTORS)
}

impl HoleMeta {
    /// As the block of marks in `bytes` has it, with the volume's policy.
    pub fn read(layout: &Layout, bytes: &[u8]) -> (CrashPolicy, Self) {
        let session = get64(layout.endian, bytes, field::SESSION);
        let policy = match get8(bytes, field::POLICY) {
            0 => CrashPolicy::None,
            2 => CrashPolicy::Log,
            _ => CrashPolicy::Resync,
        };
        let ring = u16::from(get8(bytes, field::RING));
        let ring = (policy == CrashPolicy::Log && ring < RINGS).then_some(ring);
        if policy == CrashPolicy::Log && ring.is_none() {
            return Default::default();
        }
        let session = Some(session).filter(|&of| of != u64::MAX && ring.is_some());
        (policy, Self { ring, session })
    }

    /// Writes it into a block of marks; says whether that changed anything.
    pub fn write(&self, policy: CrashPolicy, layout: &Layout, bytes: &mut [u8]) -> bool {
        let policy = match policy {
            CrashPolicy::None => 0,
            CrashPolicy::Resync => 0xFF,
            CrashPolicy::Log => 2,
        };
        let ring = self
            .ring
            .and_then(|ring| u8::try_from(ring).ok())
            .unwrap_or(0xFF);
        let session = self.session.unwrap_or(u64::MAX);
        let same = get8(bytes, field::POLICY) == policy
            && get8(bytes, field::RING) == ring
            && get64(layout.endian, bytes, field::SESSION) == session;
        put8(bytes, field::POLICY, policy);
        put8(bytes, field::RING, ring);
        put64(layout.endian, bytes, field::SESSION, session);
        !same
    }
}

impl DdfSet {
    /// The log of a volume that has one.
    pub fn hole_log_of(&self, volume: VolumeIndex) -> Option<HoleLog> {
        let meta = self.volume_meta(volume)?;
        meta.hole.ring?;
        // Random numbers of the start and of the volume.
        let volume = get64(self.layout.endian, &meta.guid, 16);
        Some(HoleLog::Ring {
            units: RING_UNITS,
            session: meta.hole.session.map(|session| [session, volume]),
        })
    }

    /// First sector of a volume's ring on the disk in `slot`.
    pub fn hole_ring_sector(&self, volume: VolumeIndex, slot: Slot) -> Option<u64> {
        let ring = self.volume_meta(volume)?.hole.ring?;
        let member = self.set.volume(volume)?.members.get(usize::from(slot))?;
        let first = self.home(member.disk?)?.vendor.as_ref()?.rings?;
        let units = u64::from(ring) * u64::from(RING_UNITS);
        first.checked_add(units * UNIT_SECTORS)
    }

    /// [`crate::model::Event::CrashPolicySet`].
    #[inline(never)]
    pub fn crash_policy_set(&mut self, volume: VolumeIndex, policy: CrashPolicy) -> Checked {
        let model = self.live_volume(volume)?;
        if model.shape.level.parity_members() == 0 {
            return Err(reason!(
                EINVAL,
                "{} keeps no parity: there is no hole for a crash to leave",
                model.shape.level
            ));
        }
        if model.crash_policy == policy {
            return Ok(());
        }
        let has_records = self.log.is_some()
            && self
                .volume_meta(volume)
                .is_some_and(|meta| meta.log_slot.is_some());
        if !has_records {
            return Err(reason!(
                EOPNOTSUPP,
                "the disks have no place for EMD's own records, as sets made by EMD or mdadm have"
            ));
        }
        let ring = match policy {
            CrashPolicy::Log => Some(self.free_ring(volume)?),
            CrashPolicy::None | CrashPolicy::Resync => None,
        };
        let session = None;
        self.record_hole(volume, policy, HoleMeta { ring, session });
        Ok(())
    }

    /// Whether metadata is written to `disk`, and it has no place for rings.
    pub fn lacks_rings(&self, disk: DiskIndex) -> bool {
        self.home(disk).is_some_and(|home| {
            let section = home.vendor.as_ref();
            section.is_none_or(|section| section.rings.is_none())
        })
    }

    /// A disk of `volume` that [lacks rings](Self::lacks_rings). There is no log then: entries would have no place there.
    fn member_without_ring(&self, volume: VolumeIndex) -> Option<DiskIndex> {
        let members = self.set.volume(volume)?.members.iter();
        let mut disks = members.filter_map(|member| member.disk);
        disks.find(|&disk| self.lacks_rings(disk))
    }

    /// The number of rings that no other volume has, and that all disks of `volume` have a place for.
    fn free_ring(&self, volume: VolumeIndex) -> Checked<u16> {
        if let Some(disk) = self.member_without_ring(volume) {
            return Err(reason!(
                EOPNOTSUPP,
                "disk {disk} has no place for a log: an older EMD or somebody else laid it out"
            ));
        }
        let is_taken = |ring: u16| {
            self.set
                .live_volumes()
                .filter_map(|(index, _)| self.volume_meta(index))
                .any(|meta| meta.hole.ring == Some(ring))
        };
        (0..RINGS).find(|&ring| !is_taken(ring)).ok_or_else(|| {
            reason!(
                ENOSPC,
                "{RINGS} volumes of the set have a log already; there is no place for more"
            )
        })
    }

    /// [`crate::model::Event::HoleLogStarted`].
    #[inline(never)]
    pub fn hole_log_started(&mut self, volume: VolumeIndex, context: &Context) -> Checked {
        let hole = self
            .volume_meta(volume)
            .map(|meta| meta.hole)
            .unwrap_or_default();
        if hole.ring.is_none() {
            return Err(reason!(EINVAL, "volume {volume} has no log"));
        }
        let [random, _] = context.random;
        let session = Some(random & !1);
        self.record_hole(volume, CrashPolicy::Log, HoleMeta { session, ..hole });
        Ok(())
    }

    fn record_hole(&mut self, volume: VolumeIndex, policy: CrashPolicy, hole: HoleMeta) {
        if let Some(index) = self.keep_hole(volume, policy, hole) {
            self.lacks(index, Some(volume));
        }
    }

    /// Takes it into the model and into the block of marks, whose number it gives if that has changed.
    fn keep_hole(
        &mut self,
        volume: VolumeIndex,
        policy: CrashPolicy,
        hole: HoleMeta,
    ) -> Option<u32> {
        let at = usize::from(volume);
        self.set.volumes.get_mut(at)?.crash_policy = policy;
        let meta = self.volumes.get_mut(at)?;
        meta.hole = hole;
        let (slot, log) = (meta.log_slot?, self.log.as_mut()?);
        let index = log.plan.marks(slot);
        let changed = hole.write(policy, &self.layout, log.block_mut(index));
        changed.then(|| {
            log.seal(&self.layout, index);
            index
        })
    }

    /// Reads what the chosen block of marks says of a volume's log. When the disks' records do not count, only
    /// the policy is taken over, from whichever disk has one. Where a member has no place for a ring there is no log,
    /// whatever they say.
    #[inline(never)]
    pub fn read_hole(&mut self, volume: VolumeIndex, others: &[Section<'_>]) -> Checked {
        let layout = self.layout;
        let meta = self.volumes.get(usize::from(volume));
        let place = meta.and_then(|meta| Some((meta.guid, meta.log_slot?)));
        let (Some((guid, slot)), Some(log)) = (place, self.log.as_ref()) else {
            return Ok(());
        };
        let (policy, hole) = if others.iter().any(|section| section.counts) {
            HoleMeta::read(&layout, log.block(log.plan.marks(slot)))
        } else {
            let mut newest = (0, Default::default());
            for section in others.iter().filter(|section| section.own) {
                for at in 0..log.plan.slots {
                    let body = section.body(&layout, log.plan.marks(at));
                    let Some(body) = body.filter(|body| body.is(Kind::Marks, &guid)) else {
                        continue;
                    };
                    if body.generation() >= newest.0 {
                        let (policy, mut hole) = HoleMeta::read(&layout, body.bytes());
                        hole.session = None;
                        newest = (body.generation(), (policy, hole));
                    }
                }
            }
            newest.1
        };
        let taken = hole.ring.is_some_and(|ring| {
            let before = self.volumes.get(..usize::from(volume)).unwrap_or(&[]);
            before.iter().any(|other| other.hole.ring == Some(ring))
        });
        let without = self.member_without_ring(volume);
        let without = without.filter(|_| hole.ring.is_some());
        if let Some(disk) = without {
            crate::model::note(
                &mut self.set.notes,
                format_args!(
                    "volume {volume} has no log any more: disk {disk} has no place for the log"
                ),
            )?;
        }
        // Two volumes cannot have one ring; nobody writes that.
        let (policy, hole) = match taken || without.is_some() {
            true => Default::default(),
            false => (policy, hole),
        };
        let _ = self.keep_hole(volume, policy, hole);
        Ok(())
    }
}
