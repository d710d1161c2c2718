// SPDX-License-Identifier: GPL-2.0

//! What each disk of an array is.
//!
//! The newest superblock's roles decide who is what. A disk is current when its event count is at most
//! one behind and it agrees that it has its role; everything else is old, and shown as such. Of what is old, a disk that
//! went on by itself is told from one that was left out.

use super::assemble::Reader;
use super::head::Head;
use super::layout::*;
use super::own_mark;
use super::probe::View;
use crate::model::Checked;
use crate::reason;
use kernel::prelude::*;

/// What a disk turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Current member in this slot.
    Member(u16),
    /// About to replace the member in this slot, which is here: it is given up, as md does when one fails.
    Replacement(u16),
    /// The same, and it may hold what no member does: nobody fills it before a person says so.
    OnlyCopy,
    /// Spare.
    Spare,
    /// Recorded as failed.
    Failed,
    /// Journal.
    Journal,
    /// Old.
    Stale,
    /// Old, and used without any of those that count: what it holds is nowhere else.
    Apart,
}

impl Standing {
    /// Whether the disk has no part in the array.
    pub(super) fn is_out(self) -> bool {
        matches!(self, Self::Stale | Self::Apart)
    }
}

/// Whether two disks are not known to be copies of each other: by their own identities, which 0.90 does not
/// have.
fn is_other_device(one: &View<'_>, other: &View<'_>) -> bool {
    let uuid = |view: &View<'_>| super::super::bytes::array::<16>(view.bytes, v1::DEVICE_UUID);
    one.head.version == Version::V090 || uuid(one) != uuid(other)
}

/// Whether a disk is a spare by its own account: it never held anything of the array's.
fn is_spare(view: &View<'_>) -> bool {
    view.head.role(view.bytes, view.head.number) == Role::Spare
}

/// Whether a disk holds more than a spare does: 2, all of a member; 1, a part of it.
fn worth(standing: Standing, view: &View<'_>) -> u8 {
    match standing {
        Standing::Spare | Standing::Stale | Standing::Apart => 0,
        Standing::Member(_) if view.head.recovery.is_some() => 1,
        _ => 2,
    }
}

/// Whether `old`, a member by its own account, and the members that `newest` knows were used apart: in none of the other
/// slots it has the disk that is there. (In its own slot may be one that took its place.) Who was only left out has
/// those that went on.
fn was_used_apart(old: &View<'_>, newest: &View<'_>) -> bool {
    let Role::Member(own) = old.head.role(old.bytes, old.head.number) else {
        return false;
    };
    let others = |view: &View<'_>, number: u32| match view.head.role(view.bytes, number) {
        Role::Member(slot) if slot != own => Some(slot),
        _ => None,
    };
    let numbers = 0..old.head.roles_max.max(newest.head.roles_max);
    let (mut knows_any, mut are_any) = (false, false);
    for number in numbers {
        let (its, now) = (others(old, number), others(newest, number));
        if its.is_some() && its == now {
            return false;
        }
        knows_any |= its.is_some();
        are_any |= now.is_some();
    }
    // Where all that is left is who took its place, that one was filled from others; which it has, if it was left out.
    are_any || !knows_any
}

impl Reader<'_> {
    /// Finds out what every disk is.
    #[inline(never)]
    pub(super) fn judge(&mut self) -> Checked {
        let newest = self.views.get(self.newest);
        let Some((head, bytes)) = newest.map(|view| (view.head, view.bytes)) else {
            return Ok(());
        };
        self.verdict.add(&head, head.events);
        for view in self.views.iter() {
            let number = view.head.number;
            let own = view.head.role(view.bytes, number);
            let current = view.head.events.saturating_add(1) >= head.events;
            let same = view.head.same_array(&head);
            let has_bitmap = |head: &Head| head.features & feature::BITMAP != 0;
            let same_spare = same && has_bitmap(&view.head) == has_bitmap(&head);
            let replaces = view.head.features & feature::REPLACEMENT != 0;
            let standing = match (head.role(bytes, number), own) {
                (Role::Member(slot), Role::Member(mine)) if current && same && slot == mine => {
                    if replaces {
                        Standing::Replacement(slot)
                    } else {
                        Standing::Member(slot)
                    }
                }
                // Its count may be any: it is what it was made for that tells whether it missed a change of the array.
                (Role::Spare, Role::Spare) if same_spare && head.may_be_spare(bytes, number) => {
                    Standing::Spare
                }
                (Role::Journal, _) | (_, Role::Journal) => Standing::Journal,
                (Role::Faulty, _) if head.version != Version::V090 => Standing::Failed,
                _ => Standing::Stale,
            };
            if current {
                self.verdict.add(&view.head, head.events);
            }
            self.standings.push(standing, GFP_KERNEL)?;
        }
        self.find_rebuilding();
        self.find_lone_replacements();
        self.find_only_copies()?;
        self.find_apart()?;
        self.find_old_spares();
        self.find_twins()
    }

    /// A spare of 0.90 that EMD was rebuilding is the member that it was to become, as far as it was filled: by its own mark. It
    /// must have missed nothing: it has all events, and the newest superblock lists it and nobody in that place. (A loss of it is
    /// an event, and whoever went on without it lists it no more.)
    #[inline(never)]
    fn find_rebuilding(&mut self) {
        let Some((head, bytes)) = self
            .views
            .get(self.newest)
            .map(|newest| (newest.head, newest.bytes))
        else {
            return;
        };
        for index in 0..self.views.len() {
            let is_spare = self.standings.get(index) == Some(&Standing::Spare);
            let Some(view) = self.views.get_mut(index).filter(|_| is_spare) else {
                continue;
            };
            let Some((slot, done)) = own_mark::find_rebuild(view.head.version, view.bytes) else {
                continue;
            };
            let is_current =
                view.head.events == head.events && head.lists_spare(bytes, view.head.number);
            let may_be =
                u32::from(slot) < head.raid_disks && (1..=head.size_sectors).contains(&done);
            let is_empty = head.role(bytes, slot.into()) != Role::Member(slot)
                && !self.standings.contains(&Standing::Member(slot));
            if !(is_current && may_be && is_empty) {
                continue;
            }
            view.head.recovery = Some(done);
            if let Some(standing) = self.standings.get_mut(index) {
                *standing = Standing::Member(slot);
            }
        }
    }

    /// Who was to replace a member that is not here is the member, as far as it was filled: as md has it
    /// (`raid5_run`, `raid10_run`: the replacement is all there is).
    #[inline(never)]
    fn find_lone_replacements(&mut self) {
        for index in 0..self.standings.len() {
            let Some(&Standing::Replacement(slot)) = self.standings.get(index) else {
                continue;
            };
            let is_here = self.standings.contains(&Standing::Member(slot));
            if let (false, Some(standing)) = (is_here, self.standings.get_mut(index)) {
                *standing = Standing::Member(slot);
            }
        }
    }

    /// A replacement was filled when all members were there, mostly because the one that it replaces has bad sectors. Where
    /// that one is known to have some, or another member is away now, it may hold what nobody else does.
    #[inline(never)]
    fn find_only_copies(&mut self) -> Checked {
        let slots = u16::try_from(self.head().raid_disks).unwrap_or(u16::MAX);
        let slots = 0..slots.min(crate::model::MEMBERS_MAX as u16);
        for index in 0..self.standings.len() {
            let Some(&Standing::Replacement(slot)) = self.standings.get(index) else {
                continue;
            };
            let is_whole = slots.clone().all(|slot| self.is_filled(slot));
            if is_whole && !self.has_bad_sectors(slot) {
                continue;
            }
            if let Some(standing) = self.standings.get_mut(index) {
                *standing = Standing::OnlyCopy;
            }
            self.note(format_args!(
                "a member was being replaced: it stays, and the replacement, which may hold what it lost, is left alone \
                 until it is added by hand"
            ))?;
        }
        Ok(())
    }

    /// The member in a slot that is here.
    fn in_slot(&self, slot: u16) -> Option<&View<'_>> {
        let mut here = self.views.iter().zip(self.standings.iter());
        let (view, _) = here.find(|(_, standing)| **standing == Standing::Member(slot))?;
        Some(view)
    }

    fn is_filled(&self, slot: u16) -> bool {
        self.in_slot(slot)
            .is_some_and(|view| view.head.recovery.is_none())
    }

    fn has_bad_sectors(&self, slot: u16) -> bool {
        self.in_slot(slot)
            .is_some_and(|view| view.head.features & feature::BAD_BLOCKS != 0)
    }

    /// Finds old disks that were used without the members that count now. They are not taken for blank ones: that is for a
    /// person to say. (mdadm leaves out who calls the newest one's place empty.)
    #[inline(never)]
    fn find_apart(&mut self) -> Checked {
        for index in 0..self.standings.len() {
            let number = match (self.views.get(index), self.standings.get_mut(index)) {
                (Some(view), Some(standing)) if *standing == Standing::Stale => {
                    let newest = self.views.get(self.newest);
                    if !newest.is_some_and(|newest| was_used_apart(view, newest)) {
                        continue;
                    }
                    *standing = Standing::Apart;
                    view.head.number
                }
                _ => continue,
            };
            self.note(format_args!(
                "device {number} was used apart from the others, which it calls lost: it is left alone; \
                 what it holds is overwritten when it is added by hand"
            ))?;
        }
        Ok(())
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
            if mine.is_out() || worth(mine, own) > 1 {
                continue;
            }
            let old = own.head.events.saturating_add(1) < newest;
            let others = self.views.iter().zip(self.standings.iter()).enumerate();
            let replaced = others
                .filter(|(other, (view, standing))| {
                    *other != index && !standing.is_out() && view.head.number == own.head.number
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

    /// No two disks may be the same one; what cannot be decided is not decided. But numbers of spares are listed nowhere (1.x), so
    /// one that is away may come back when another disk has its number, and that one was recorded as failed: nobody
    /// knows which of the two it was, so both are left alone.
    #[inline(never)]
    fn find_twins(&mut self) -> Checked {
        let mut twice = false;
        for (index, view) in self.views.iter().enumerate() {
            let standing = self.standings.get(index).copied();
            for (other, standing_of_other) in self.standings.iter().enumerate().skip(index + 1) {
                let number = self.views.get(other).map(|view| view.head.number);
                let live = standing.is_some_and(|standing| !standing.is_out())
                    && !standing_of_other.is_out();
                let are_failed =
                    standing == Some(Standing::Failed) && *standing_of_other == Standing::Failed;
                let any_empty = is_spare(view) || self.views.get(other).is_some_and(is_spare);
                if are_failed && any_empty {
                    continue;
                }
                let clash = matches!(
                    (standing, standing_of_other),
                    (Some(Standing::Member(one)), Standing::Member(two)) if one == *two
                );
                twice |= live && (clash || number == Some(view.head.number));
            }
        }
        if twice {
            self.verdict.refused = Some(reason!(
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
                "a member was being replaced: it stays, and the replacement is given up"
            ))?;
        }
        Ok(())
    }
}
