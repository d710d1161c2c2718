// SPDX-License-Identifier: GPL-2.0

//! Places that did not agree, or that are to be written again: bounded lists of ranges.

use crate::model::{Checked, Slot};
use crate::personalities::choice::Choice;
use kernel::prelude::*;

/// Ranges that there is always room for.
pub const RANGES_FEW: usize = 256;

/// Ranges that there is room for from the start of a check or repair on (1.5 MiB), unless memory is short.
pub const RANGES_MAX: usize = 64 << 10;

/// So many ranges in front of a new one are looked through for the one that it may be joined to. Mostly that is the last one or
/// nearly so; a longer way there is only beside other spans of a volume, whose places are put right in other ways. Where it is too
/// long, what touches stays two.
const LOOKED_BACK: usize = 512;

/// A stretch of an array, in the space in which syncs count: sectors of each member, or of the volume
/// for levels whose copies are not side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncRange {
    /// First sector.
    pub first: u64,
    /// Length.
    pub sectors: u64,
    /// What was put right there: the first member that was written, and why.
    pub fixed: Option<(Slot, Choice)>,
}

impl SyncRange {
    /// Takes in one that touches this one and was put right alike, if at all; false for any other.
    fn join(&mut self, other: &Self) -> bool {
        let (end, other_end) = (self.end(), other.end());
        let touches = other.first <= end && self.first <= other_end;
        if !touches || self.fixed != other.fixed {
            return false;
        }
        self.first = self.first.min(other.first);
        self.sectors = end.max(other_end) - self.first;
        true
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.sectors)
    }

    /// Its place among others.
    fn start(&self) -> PageStart {
        let of = |(slot, choice): (Slot, Choice)| ((u32::from(slot) << 8) | choice as u32) + 1;
        PageStart {
            from_sector: self.first,
            from_order: self.fixed.map_or(0, of),
        }
    }
}

/// Room for ranges.
pub type Room = KVVec<SyncRange>;

/// Room for `count` ranges. Fails with `ENOMEM` only.
pub fn room(count: usize) -> Checked<Room> {
    Ok(KVVec::with_capacity(count, GFP_KERNEL)?)
}

/// Room for [`RANGES_MAX`] ranges; when memory is short for half of them, and so on down to none, as there is always room for
/// [`RANGES_FEW`]. Allocates.
pub fn much_room() -> Room {
    let mut count = RANGES_MAX;
    while count > RANGES_FEW {
        if let Ok(room) = room(count) {
            return room;
        }
        count /= 2;
    }
    Room::new()
}

/// Where a page of [`Ranges`] begins. Ranges are in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PageStart {
    /// With this first sector.
    pub from_sector: u64,
    /// Of those that begin there, which: 0 for all; what was put right in different ways may overlap.
    pub from_order: u32,
}

impl PageStart {
    /// Behind the range that begins here.
    fn next(self) -> Self {
        Self {
            from_order: self.from_order.saturating_add(1),
            ..self
        }
    }
}

/// What is beside a page of [`Ranges`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageEnd {
    /// Where the next page begins.
    pub next: PageStart,
    /// Ranges that come after this page.
    pub left: usize,
    /// There were more than fit in memory.
    pub lost_some: bool,
}

/// Ranges by their first sectors. Those that touch and were put right alike, if at all, are one.
///
/// Adding is cheap as long as ranges come nearly in order, as a task's do, which has 32 lanes on the way: what comes behind a
/// new one is moved.
pub struct Ranges {
    list: Room,
    /// The room of the few, while `list` is in more; else none.
    few: Room,
    /// There were more than fit.
    lost_some: bool,
    /// The last one that did not: its neighbours are no news.
    beyond: Option<SyncRange>,
}

impl Ranges {
    /// None. Allocates the room for [`RANGES_FEW`]; fails with `ENOMEM` only.
    pub fn new() -> Checked<Self> {
        Ok(Self {
            list: room(RANGES_FEW)?,
            few: Room::new(),
            lost_some: false,
            beyond: None,
        })
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.list.capacity()
    }

    /// Forgets all. Gives the room that is not needed any more: to be dropped once no lock is held.
    #[must_use]
    pub fn clear(&mut self) -> Room {
        self.forget();
        self.give_back()
    }

    /// Forgets all, and has this room from now on, when it is more than before. Gives what is not needed, as
    /// [`Ranges::clear`].
    #[must_use]
    pub fn clear_into(&mut self, room: Room) -> Room {
        self.forget();
        if room.capacity() <= self.capacity() {
            return room;
        }
        let before = core::mem::replace(&mut self.list, room);
        if self.has_more() {
            return before;
        }
        self.few = before;
        Room::new()
    }

    /// Gives room for many when there are few, as [`Ranges::clear`].
    #[must_use]
    pub fn give_back(&mut self) -> Room {
        if !self.has_more() || self.list.len() > self.few.capacity() {
            return Room::new();
        }
        for &range in self.list.iter() {
            // There is room for all.
            let _ = self.few.push_within_capacity(range);
        }
        core::mem::swap(&mut self.list, &mut self.few);
        core::mem::take(&mut self.few)
    }

    fn has_more(&self) -> bool {
        self.few.capacity() > 0
    }

    fn forget(&mut self) {
        self.list.clear();
        self.lost_some = false;
        self.beyond = None;
    }

    /// Adds a range; joins it to its neighbours. True when there were none: it is news then, though there may be no room to keep
    /// it.
    pub fn add(&mut self, range: SyncRange) -> bool {
        let start = range.start();
        let at = self.list.partition_point(|known| known.start() <= start);
        if self.join(at, &range) {
            return false;
        }
        let beyond = self.beyond.as_mut();
        let is_news = !beyond.is_some_and(|beyond| beyond.join(&range));
        if self.list.insert_within_capacity(at, range).is_err() {
            self.lost_some = true;
            if is_news {
                self.beyond = Some(range);
            }
        }
        is_news
    }

    /// Joins a range that would be the one at `at` to all that it touches and that were put right alike; false when there are
    /// none.
    ///
    /// As those that are alike are apart, of those in front only the nearest one can reach as far, and of those behind only
    /// such as begin within the range or at its end.
    fn join(&mut self, at: usize, range: &SyncRange) -> bool {
        let from = at.saturating_sub(LOOKED_BACK);
        let in_front = self.list.get_mut(from..at).unwrap_or(&mut []);
        let nearest = in_front
            .iter_mut()
            .enumerate()
            .rfind(|(_, known)| known.fixed == range.fixed);
        let mut joined = nearest.and_then(|(nth, known)| known.join(range).then_some(from + nth));
        let mut nth = at;
        while let Some(&known) = self
            .list
            .get(nth)
            .filter(|known| known.first <= range.end())
        {
            match joined {
                _ if known.fixed != range.fixed => nth += 1,
                Some(into) => {
                    if let Some(into) = self.list.get_mut(into) {
                        into.join(&known);
                    }
                    let _ = self.list.remove(nth);
                }
                None => {
                    // It begins where the range does, now.
                    let moved = self.list.get_mut(at..=nth).unwrap_or(&mut []);
                    moved.rotate_right(1);
                    if let Some(first) = moved.first_mut() {
                        first.join(range);
                    }
                    joined = Some(at);
                    nth += 1;
                }
            }
        }
        joined.is_some()
    }

    /// Copies the ranges from `start` on, as many as `room` has room for. Allocates nothing.
    ///
    /// What is found or grows between two pages may be in neither; all else is in just one.
    pub fn page(&self, start: PageStart, room: &mut Room) -> PageEnd {
        let at = self.list.partition_point(|range| range.start() < start);
        let rest = self.list.get(at..).unwrap_or(&[]);
        let free = room.capacity().saturating_sub(room.len());
        let (given, left) = rest.split_at_checked(free).unwrap_or((rest, &[]));
        for &range in given {
            let _ = room.push_within_capacity(range);
        }
        PageEnd {
            next: given.last().map_or(start, |last| last.start().next()),
            left: left.len(),
            lost_some: self.lost_some,
        }
    }
}

/// Places whose copies could not be read: a task goes over them, and they are written again.
pub struct ToRepair {
    places: Ranges,
    /// What there was no room for lies in here.
    rest: Option<SyncRange>,
    /// Something came up since the last task began.
    is_wanted: bool,
}

impl ToRepair {
    /// None. Allocates the room for all; fails with `ENOMEM` only.
    pub fn new() -> Checked<Self> {
        Ok(Self {
            places: Ranges::new()?,
            rest: None,
            is_wanted: false,
        })
    }

    /// A place is to be written again.
    pub fn want(&mut self, place: SyncRange) {
        self.places.add(place);
        if let Some(beyond) = self.places.beyond.take() {
            let rest = self.rest.get_or_insert(beyond);
            let end = rest.end().max(beyond.end());
            rest.first = rest.first.min(beyond.first);
            rest.sectors = end - rest.first;
        }
        self.is_wanted = true;
    }

    /// Whether a task has to come by.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// A task begins, at the first place.
    pub fn begin(&mut self) {
        self.is_wanted = false;
    }

    /// The first mark from `mark` on that is in a place; `None`: there is none.
    pub fn next(&self, mark: u64) -> Option<u64> {
        Iterator::chain(self.places.list.iter(), self.rest.iter())
            .filter(|place| place.end() > mark)
            .map(|place| place.first.max(mark))
            .min()
    }

    /// A task has come by all that there was when it began. It may have passed what came up since then, which waits for the
    /// next one, with all others: what is written twice does no harm.
    pub fn end(&mut self) {
        if !self.is_wanted {
            self.places.forget();
            self.rest = None;
        }
    }
}
