// SPDX-License-Identifier: GPL-2.0

//! What every sector of the volume may hold.
//!
//! A write may be seen from the moment it is submitted. Once it is acknowledged, everything that had
//! been acknowledged before it was submitted must not be seen any more; of writes that overlapped in
//! time either may win. After a power cut only what was durable (a flush that was submitted after the
//! acknowledgement and came back good, or FUA) holds to that; acknowledged writes that were not
//! durable, and those that were not acknowledged, may be there or not, sector by sector.
//!
//! What is on the medium after a power cut does not change by being read: once a read returned one
//! of the possible values, the others are gone, until a member is lost that may have been the one
//! that had it ([`Oracle::forget_observations`]), or a copy could not be read
//! ([`Oracle::copy_unreadable`]): the resync may not have been there yet, so copies may differ.

use crate::disk::Token;

/// Moments, counted in steps of the scheduler.
pub type Time = u64;

#[derive(Clone, Debug)]
struct Entry {
    token: Token,
    /// Whatever token: a named allowance applied.
    any: bool,
    submitted: Time,
    /// Acknowledged, or failed.
    ended: Option<Time>,
    good: bool,
    durable: bool,
    /// It is there wholly or not at all: see [`Oracle::is_whole`].
    whole: bool,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    entries: Vec<Entry>,
    /// Seen since the last power cut, when several values were possible.
    observed: Option<Token>,
    /// A copy could not be read since then: which of them counts may change.
    unsteady: bool,
}

/// What is allowed where.
#[derive(Clone, Debug)]
pub struct Oracle {
    cells: Vec<Cell>,
    /// What was seen stays (see above). With more than two copies it may not: the resync takes what
    /// most have.
    pub holds_observed: bool,
    /// When observations were last forgotten: reads from before do not count.
    forgotten: Time,
}

/// A write as the oracle knows it.
#[derive(Clone, Copy, Debug)]
pub struct WriteId {
    /// Its first sector.
    pub sector: u64,
    /// Its length.
    pub sectors: u32,
    /// When it was submitted, which names it.
    pub submitted: Time,
}

impl Cell {
    /// Whether a read that began at `since` may return `token`; what was seen counts for those that began
    /// after `forgotten`.
    fn allows(&self, token: Token, since: Time, forgotten: Time) -> bool {
        if let Some(observed) = self.observed.filter(|_| since > forgotten) {
            if self.entries.iter().all(|entry| entry.submitted == 0) {
                return token == observed;
            }
        }
        self.has(token, since)
    }

    fn has(&self, token: Token, since: Time) -> bool {
        self.entries
            .iter()
            .any(|entry| (entry.any || entry.token == token) && !self.is_past(entry, since, false))
    }

    /// Whether a later write has taken the entry's place: acknowledged before `since`, or durable.
    fn is_past(&self, entry: &Entry, since: Time, durable: bool) -> bool {
        let Some(ended) = entry.ended else {
            return false;
        };
        self.entries.iter().any(|later| {
            let holds = if durable {
                later.durable
            } else {
                later.good && later.ended.is_some_and(|at| at < since)
            };
            holds && later.submitted > ended
        })
    }
}

impl Oracle {
    /// A volume whose sectors hold what `contents` says: one or several possible values each.
    pub fn new(contents: &[Vec<Token>]) -> Self {
        let cells = contents.iter().map(|tokens| Cell {
            entries: tokens.iter().map(|&token| base(token)).collect(),
            ..Cell::default()
        });
        Self {
            cells: cells.collect(),
            holds_observed: true,
            forgotten: 0,
        }
    }

    /// Sectors of the volume.
    pub fn sectors(&self) -> u64 {
        self.cells.len() as u64
    }

    /// A write was submitted. `tokens` has one for each sector, and more than one when the user
    /// changes the buffer under way.
    pub fn submitted(&mut self, id: WriteId, tokens: &[Token], changed: Option<&[Token]>) {
        for (index, &token) in tokens.iter().enumerate() {
            let cell = &mut self.cells[id.sector as usize + index];
            let entry = Entry {
                token,
                any: false,
                submitted: id.submitted,
                ended: None,
                good: false,
                durable: false,
                whole: false,
            };
            if let Some(changed) = changed {
                cell.entries.push(Entry {
                    token: changed[index],
                    ..entry.clone()
                });
            }
            cell.entries.push(entry);
        }
    }

    /// A write ended.
    pub fn ended(&mut self, id: WriteId, now: Time, good: bool, durable: bool) {
        for cell in self.stretch(id.sector, id.sectors) {
            for entry in &mut cell.entries {
                if entry.submitted == id.submitted {
                    entry.ended = Some(now);
                    entry.good = good;
                    entry.durable |= good && durable;
                }
            }
        }
    }

    /// A flush that was submitted at `submitted` came back good.
    pub fn flushed(&mut self, submitted: Time) {
        for cell in &mut self.cells {
            for entry in &mut cell.entries {
                if entry.good && entry.ended.is_some_and(|ended| ended < submitted) {
                    entry.durable = true;
                }
            }
        }
    }

    fn stretch(&mut self, sector: u64, sectors: u32) -> &mut [Cell] {
        let first = sector as usize;
        &mut self.cells[first..first + sectors as usize]
    }

    /// Whether a read that was submitted at `since` may return `token`. If it may, and several values
    /// were possible because of a power cut, it is the one from now on.
    pub fn check(&mut self, sector: u64, token: Token, since: Time) -> bool {
        let cell = &mut self.cells[sector as usize];
        if !cell.allows(token, since, self.forgotten) {
            return false;
        }
        let open = cell.entries.len() > 1
            && cell
                .entries
                .iter()
                .all(|entry| entry.submitted == 0 && !entry.any);
        if self.holds_observed && open && since > self.forgotten && !cell.unsteady {
            cell.observed = Some(token);
        }
        true
    }

    /// A write's member was known to be lost before any of it was sent, and a log has what goes there: power that goes does not
    /// leave anything else there than what was, or the write.
    pub fn is_whole(&mut self, sector: u64, submitted: Time) {
        if let Some(cell) = self.cells.get_mut(sector as usize) {
            for entry in &mut cell.entries {
                entry.whole |= entry.submitted == submitted;
            }
        }
    }

    /// Whether some member may hold `token` for the sector, whatever was read from others.
    pub fn may_hold(&self, sector: u64, token: Token, since: Time) -> bool {
        let cell = &self.cells[sector as usize];
        cell.has(token, since)
    }

    /// Whether more than one value is possible: what was written there last is not known to be durable. That which is there
    /// wholly or not at all does not count.
    pub fn is_open(&self, sector: u64) -> bool {
        let cell = &self.cells[sector as usize];
        let held = |entry: &&Entry| !entry.whole && !cell.is_past(entry, Time::MAX, true);
        cell.entries.iter().filter(held).count() > 1
    }

    /// The values that a sector may hold, for stories.
    pub fn possible(&self, sector: u64, since: Time) -> Vec<Token> {
        let cell = &self.cells[sector as usize];
        let tokens = cell.entries.iter().map(|entry| entry.token);
        tokens
            .filter(|&token| cell.allows(token, since, self.forgotten))
            .collect()
    }

    /// Anything may be in this sector, until it is written: a named allowance.
    pub fn make_wild(&mut self, sector: u64, now: Time) {
        let cell = &mut self.cells[sector as usize];
        // What was seen before it may be gone.
        cell.observed = None;
        cell.entries.push(Entry {
            any: true,
            ended: Some(now),
            good: false,
            durable: false,
            ..base(0)
        });
    }

    /// Whether that is so.
    pub fn is_wild(&self, sector: u64) -> bool {
        let cell = &self.cells[sector as usize];
        let mut entries = cell.entries.iter();
        entries.any(|entry| entry.any && !cell.is_past(entry, Time::MAX, false))
    }

    /// A member is gone: what was read may have been on that one only.
    pub fn forget_observations(&mut self, now: Time) {
        self.forgotten = now;
        for cell in &mut self.cells {
            cell.observed = None;
        }
    }

    /// A copy of the sector could not be read: what counts may be what another one has, until it is written.
    pub fn copy_unreadable(&mut self, sector: u64) {
        if let Some(cell) = self.cells.get_mut(sector as usize) {
            cell.observed = None;
            cell.unsteady = true;
        }
    }

    /// Power was cut, or the array stopped: what may be there is what is possible from now on.
    pub fn restart(&mut self) {
        for cell in &mut self.cells {
            cell.unsteady = false;
            if cell.entries.iter().all(|entry| entry.submitted == 0) {
                continue;
            }
            let left = cell
                .entries
                .iter()
                .filter(|entry| !cell.is_past(entry, 0, true));
            let left = left.map(|entry| Entry {
                any: entry.any,
                whole: entry.whole,
                ..base(entry.token)
            });
            cell.entries = left.collect();
            cell.observed = None;
        }
    }
}

fn base(token: Token) -> Entry {
    Entry {
        token,
        any: false,
        submitted: 0,
        ended: Some(0),
        good: true,
        durable: true,
        whole: false,
    }
}
