// SPDX-License-Identifier: GPL-2.0

//! The model's volume, with its bad ranges and what its bitmap says.

use super::assemble::{volume_identity, Reader};
use super::bitmap;
use super::layout::*;
use super::own_mark;
use super::probe::{bitmap_place, regions_of};
use super::set::Bitmap;
use super::standing::Standing;
use super::words;
use crate::model::{
    Access, BadRange, Checked, Consistency, CrashPolicy, DiskIndex, Member, MemberState, Scrub,
    Shape, Volume,
};
use crate::reason;
use kernel::prelude::*;

impl<'a> Reader<'a> {
    /// The array's shape. Members of RAID 0 and linear may differ in size: it has the largest one's.
    #[inline(never)]
    pub(super) fn shape(&self) -> Checked<Shape> {
        let head = self.head();
        let data = self.data_sizes().map(|(_, most)| most);
        words::shape_of(&head, data.unwrap_or(head.data_size))
    }

    /// A volume that cannot be understood, for people to see.
    #[inline(never)]
    pub(super) fn make_unknown_volume(&mut self) -> Checked {
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
    pub(super) fn make_volume(&mut self, shape: &Shape) -> Checked {
        let head = self.head();
        let mut members = KVec::with_capacity(usize::from(shape.members), GFP_KERNEL)?;
        for slot in 0..shape.members {
            members.push(self.member(slot), GFP_KERNEL)?;
        }
        let mut size_sectors = words::capacity_sectors(shape);
        let mut stretches = KVec::new();
        match self.stretches(shape, &members) {
            Ok(found) => stretches = found,
            Err(why) => self.verdict.refused = self.verdict.refused.or(Some(why)),
        }
        if let Some(last) = stretches.last() {
            size_sectors = last.end_sectors;
        }
        if !matches!(head.block_bytes, 0 | 512 | 1024 | 2048 | 4096) {
            self.verdict.refused = self.verdict.refused.or(Some(reason!(
                EOPNOTSUPP,
                "the array has logical blocks of {} bytes, which is not supported",
                head.block_bytes
            )));
        }
        let most = shape.sync_sectors(size_sectors);
        let consistency = match self.resync_word() {
            _ if !shape.level.is_redundant() => Consistency::Clean,
            u64::MAX => Consistency::Clean,
            0 => Consistency::Dirty,
            done_sectors if done_sectors <= most => Consistency::Initialising { done_sectors },
            _ => Consistency::Dirty,
        };
        self.set.in_flight = consistency == Consistency::Dirty;
        let name = self.set.set.name;
        let scrub = self.scrub(shape);
        let scrub = scrub.filter(|scrub| scrub.done_sectors <= most);
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
                stretches,
                scrub,
                crash_policy: CrashPolicy::Resync,
                block_bytes: head.block_bytes,
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

    /// The check or repair that has not ended: what all members in sync say, and how far the last of them is. An update that
    /// was cut may have left the mark on some only; so does md, which has written the others since.
    fn scrub(&self, shape: &Shape) -> Option<Scrub> {
        let views = self.views.iter().zip(self.standings.iter());
        let mut marks = views
            .filter(|(view, standing)| {
                matches!(standing, Standing::Member(_)) && view.head.recovery.is_none()
            })
            .map(|(view, _)| own_mark::find_scrub(view.head.version, view.bytes));
        let first = marks.next().flatten()?;
        let last = marks.try_fold(first, |least, mark| {
            let mark = mark.filter(|mark| mark.repairs == least.repairs)?;
            Some(Scrub {
                done_sectors: least.done_sectors.min(mark.done_sectors),
                ..least
            })
        });
        last.filter(|_| shape.level.is_redundant())
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
                    matches!(
                        standing,
                        Standing::Replacement(_) | Standing::OnlyCopy | Standing::Journal
                    )
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
    pub(super) fn read_logs(&mut self) -> Checked {
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
                self.verdict.read_only = self.verdict.read_only.or(Some(why));
            }
        }
        Ok(())
    }

    /// Takes the newest bitmap in. Of equals, a disk that cannot be done without may lack marks that it did not take, so
    /// what one of them has counts.
    #[inline(never)]
    pub(super) fn read_bitmap(&mut self) -> Checked {
        let head = self.head();
        if head.features & feature::BITMAP == 0 || self.verdict.refused.is_some() {
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
                self.verdict.read_only = self.verdict.read_only.or(Some(reason));
                return Ok(());
            }
        };
        // Whole blocks for all disks: one with blocks of 4 KiB may be among them.
        let len = bitmap::sectors(regions, 8) as usize * 512;
        let mut copy = KVVec::from_elem(0xFFu8, len, GFP_KERNEL)?;
        let _ = super::super::bytes::put(&mut copy, 0, bytes.get(..len).unwrap_or(bytes));
        let is_unsure = self.add_bitmaps(&mut copy, &bits);
        let doubtful = is_unsure || bits.events < head.events;
        for (index, view) in self.views.iter().enumerate() {
            let is_same = |own: &[u8]| copy.get(..own.len()) == Some(own);
            let same = matches!(&view.bitmap, Some(Ok((_, own))) if is_same(own));
            let place = bitmap_place(view, regions);
            let member = matches!(self.standings.get(index), Some(Standing::Member(_)));
            if place.is_none() && member {
                self.verdict.read_only = self.verdict.read_only.or(Some(reason!(
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

    /// Adds what other members' bitmaps of the same count as `best` have to `copy` of that one: bits change without a new
    /// count, and one of them may have missed some. Says whether one of those is marked as not to be trusted.
    #[inline(never)]
    fn add_bitmaps(&self, copy: &mut [u8], best: &bitmap::Head) -> bool {
        let mut is_unsure = best.stale;
        for (view, standing) in self.views.iter().zip(self.standings.iter()) {
            let Some(Ok((bits, bytes))) = &view.bitmap else {
                continue;
            };
            let is_member = matches!(standing, Standing::Member(_));
            if is_member && bits.events == best.events {
                is_unsure |= bits.stale || bits.region_sectors != best.region_sectors;
                bitmap::add(copy, bytes);
            }
        }
        is_unsure
    }
}
