// SPDX-License-Identifier: GPL-2.0

//! A simulated disk.
//!
//! # Fault model
//!
//! * A write that completes is in the disk's volatile cache: reads see it, a power cut may lose it.
//!   A flush makes durable what had completed when the flush was issued. A FUA write is durable when
//!   it completes.
//! * When power is cut each sector keeps, on its own, either what is durable or any one of the values
//!   written since (completed or just on the way): writes are torn between sectors, lost, and
//!   reordered, never torn inside a sector.
//! * A write that fails may have changed any of its sectors.
//! * A flush that fails has made durable any part of the cache; the rest stays in it.
//! * Latent sector errors: a sector cannot be read until it is written again.
//! * A disk that is dead or unplugged answers nothing. What it had in its cache when it went may be
//!   lost or not. It may come back later with what it had.
//! * Disks never return wrong data and never write to the wrong place; but for what [`Disk::rot`] is told to, which histories
//!   made by hand have a repair find.
//!
//! Data sectors hold a [`Token`] instead of 512 bytes; everything outside of the data window (which is
//! where volumes are) holds real bytes, for the formats.

use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The contents of a data sector.
pub type Token = u64;

/// Bytes of a sector outside of the data window.
pub type Sector = [u8; 512];

/// What the disk held when the history began, outside of the data window: runs of sectors.
#[derive(Debug, Default)]
pub struct Base {
    runs: BTreeMap<u64, Vec<u8>>,
}

impl Base {
    /// Runs made of single sectors.
    pub fn new(sectors: &BTreeMap<u64, Rc<Sector>>) -> Self {
        let mut runs: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut last: Option<(u64, u64)> = None;
        for (&at, bytes) in sectors {
            match last {
                Some((start, end)) if end == at => {
                    runs.entry(start).or_default().extend_from_slice(&bytes[..]);
                    last = Some((start, at + 1));
                }
                _ => {
                    runs.insert(at, bytes.to_vec());
                    last = Some((at, at + 1));
                }
            }
        }
        Self { runs }
    }

    fn read(&self, sector: u64, out: &mut [u8]) {
        let end = sector + (out.len() / 512) as u64;
        for (&start, bytes) in self.runs.range(..end).rev() {
            let stop = start + (bytes.len() / 512) as u64;
            let (from, to) = (start.max(sector), stop.min(end));
            if from < to {
                let len = (to - from) as usize * 512;
                let (source, dest) = (
                    (from - start) as usize * 512,
                    (from - sector) as usize * 512,
                );
                out[dest..dest + len].copy_from_slice(&bytes[source..source + len]);
            }
        }
    }
}

fn sector_of(bytes: &[u8]) -> Rc<Sector> {
    let mut sector = [0; 512];
    sector.copy_from_slice(bytes);
    Rc::new(sector)
}

/// Why I/O failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoError {
    /// The medium, or a passing fault.
    Medium,
    /// The disk does not answer.
    Offline,
}

/// A write that is not durable yet.
#[derive(Clone, Debug)]
enum Cached {
    Data {
        seq: u64,
        at: usize,
        token: Token,
    },
    Meta {
        seq: u64,
        sector: u64,
        bytes: Rc<Sector>,
    },
}

impl Cached {
    fn seq(&self) -> u64 {
        match self {
            Cached::Data { seq, .. } | Cached::Meta { seq, .. } => *seq,
        }
    }
}

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its length.
    pub size_sectors: u64,
    base: Rc<Base>,
    /// Sectors outside of the data window that were written since: what reads see, and what is durable.
    meta_now: BTreeMap<u64, Rc<Sector>>,
    meta_durable: BTreeMap<u64, Rc<Sector>>,
    /// First sector of the data window.
    pub data_start: u64,
    now: Vec<Token>,
    durable: Vec<Token>,
    cache: Vec<Cached>,
    seq: u64,
    bad: BTreeSet<u64>,
    /// Plugged in.
    pub present: bool,
    /// Answers nothing, though it is plugged in.
    pub dead: bool,
    /// So many reads (writes of data, of metadata, flushes) from now on fail.
    pub failing_reads: u32,
    /// See above.
    pub failing_writes: u32,
    /// See above.
    pub failing_metadata: u32,
    /// See above.
    pub failing_flushes: u32,
}

impl Disk {
    /// A blank disk: metadata sectors are 0, data sectors hold `data`.
    pub fn new(size_sectors: u64, data_start: u64, data: Vec<Token>) -> Self {
        Self {
            size_sectors,
            base: Rc::new(Base::default()),
            meta_now: BTreeMap::new(),
            meta_durable: BTreeMap::new(),
            data_start,
            durable: data.clone(),
            now: data,
            cache: Vec::new(),
            seq: 0,
            bad: BTreeSet::new(),
            present: true,
            dead: false,
            failing_reads: 0,
            failing_writes: 0,
            failing_metadata: 0,
            failing_flushes: 0,
        }
    }

    /// Makes what is there now the base that copies of the disk share.
    pub fn freeze(&mut self) {
        self.power_off(None);
        self.base = Rc::new(Base::new(&self.meta_durable));
        self.meta_durable.clear();
        self.meta_now.clear();
    }

    /// Changes what is outside of the data window, durably.
    pub fn edit(&mut self, mut edit: impl FnMut(&mut Sector)) {
        self.power_off(None);
        for bytes in self.meta_now.values_mut() {
            edit(Rc::make_mut(bytes));
        }
        self.meta_durable.clone_from(&self.meta_now);
    }

    /// Moves the data window.
    pub fn set_data(&mut self, start: u64, data: Vec<Token>) {
        self.data_start = start;
        self.durable = data.clone();
        self.now = data;
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        self.present && !self.dead
    }

    fn index(&self, sector: u64) -> Option<usize> {
        let at = usize::try_from(sector.checked_sub(self.data_start)?).ok()?;
        (at < self.now.len()).then_some(at)
    }

    /// What is in a data sector, as reads see it; errors do not matter here.
    pub fn peek(&self, sector: u64) -> Token {
        self.index(sector).map_or(0, |at| self.now[at])
    }

    /// Whether a sector of the stretch has a latent error.
    pub fn is_bad(&self, sector: u64, sectors: u64) -> bool {
        !self.bad.is_empty() && self.bad.range(sector..sector + sectors).next().is_some()
    }

    /// Gives a sector a latent error.
    pub fn spoil(&mut self, sector: u64) {
        self.bad.insert(sector);
    }

    /// Has a sector hold something else.
    pub fn rot(&mut self, sector: u64) {
        if let Some(at) = self.index(sector) {
            self.now[at] ^= 0x5A5A;
            self.durable[at] = self.now[at];
        }
    }

    /// Reads data.
    pub fn read(&mut self, sector: u64, sectors: u32) -> Result<Vec<Token>, IoError> {
        if !self.answers() {
            return Err(IoError::Offline);
        }
        if self.failing_reads > 0 {
            self.failing_reads -= 1;
            return Err(IoError::Medium);
        }
        if self.is_bad(sector, u64::from(sectors)) {
            return Err(IoError::Medium);
        }
        let first = self.index(sector).ok_or(IoError::Medium)?;
        let stretch = self.now.get(first..first + sectors as usize);
        stretch.map(<[Token]>::to_vec).ok_or(IoError::Medium)
    }

    /// Writes data.
    pub fn write(
        &mut self,
        rng: &mut Rng,
        sector: u64,
        data: &[Token],
        fua: bool,
    ) -> Result<(), IoError> {
        let first = self.index(sector).ok_or(IoError::Medium)?;
        if self.index(sector + data.len() as u64 - 1).is_none() {
            return Err(IoError::Medium);
        }
        if !self.answers() {
            return Err(IoError::Offline);
        }
        let fails = self.failing_writes > 0;
        self.seq += 1;
        for (offset, &token) in data.iter().enumerate() {
            if fails && rng.chance(50) {
                continue;
            }
            let at = first + offset;
            self.now[at] = token;
            self.bad.remove(&(sector + offset as u64));
            if fua && !fails {
                self.durable[at] = token;
                self.cache.retain(
                    |cached| !matches!(cached, Cached::Data { at: other, .. } if *other == at),
                );
            } else {
                self.cache.push(Cached::Data {
                    seq: self.seq,
                    at,
                    token,
                });
            }
        }
        if fails {
            self.failing_writes -= 1;
            return Err(IoError::Medium);
        }
        Ok(())
    }

    /// Reads bytes outside of the data window.
    pub fn read_bytes(&self, sector: u64, sectors: u32) -> Vec<u8> {
        let mut bytes = vec![0; sectors as usize * 512];
        self.base.read(sector, &mut bytes);
        self.update(sector, &mut bytes);
        bytes
    }

    /// Brings a stretch up to date that holds what it did when the history began.
    pub fn update(&self, sector: u64, bytes: &mut [u8]) {
        let end = sector + (bytes.len() / 512) as u64;
        for (&at, written) in self.meta_now.range(sector..end) {
            let dest = (at - sector) as usize * 512;
            bytes[dest..dest + 512].copy_from_slice(&written[..]);
        }
    }

    /// Puts back into a stretch what `written` sectors of it held when the history began.
    pub fn put_back(&self, sector: u64, bytes: &mut [u8], written: &BTreeSet<u64>) {
        let end = sector + (bytes.len() / 512) as u64;
        for &at in written.range(sector..end) {
            let dest = (at - sector) as usize * 512;
            bytes[dest..dest + 512].fill(0);
            self.base.read(at, &mut bytes[dest..dest + 512]);
        }
    }

    /// Sectors outside of the data window that were written since the history began.
    pub fn written(&self) -> BTreeSet<u64> {
        self.meta_now.keys().copied().collect()
    }

    /// Writes bytes outside of the data window.
    ///
    /// With `fua` it is durable when it comes back (and fails as data does).
    pub fn write_bytes(
        &mut self,
        rng: &mut Rng,
        sector: u64,
        bytes: &[u8],
        fua: bool,
    ) -> Result<(), IoError> {
        if !self.answers() {
            return Err(IoError::Offline);
        }
        let failing = match fua {
            true => &mut self.failing_writes,
            false => &mut self.failing_metadata,
        };
        let fails = *failing > 0;
        *failing -= u32::from(fails);
        self.seq += 1;
        for (offset, block) in bytes.chunks_exact(512).enumerate() {
            if fails && rng.chance(50) {
                continue;
            }
            let at = sector + offset as u64;
            let copy = sector_of(block);
            if fua && !fails {
                self.cache.retain(
                    |cached| !matches!(cached, Cached::Meta { sector, .. } if *sector == at),
                );
                self.meta_durable.insert(at, copy.clone());
            } else {
                self.cache.push(Cached::Meta {
                    seq: self.seq,
                    sector: at,
                    bytes: copy.clone(),
                });
            }
            self.meta_now.insert(at, copy);
        }
        if fails {
            return Err(IoError::Medium);
        }
        Ok(())
    }

    /// Makes a stretch outside of the data window zeroes, durably.
    pub fn wipe(&mut self, sector: u64, sectors: u64) {
        let stretch = sector..sector + sectors;
        self.cache.retain(
            |cached| !matches!(cached, Cached::Meta { sector, .. } if stretch.contains(sector)),
        );
        for at in stretch {
            for map in [&mut self.meta_now, &mut self.meta_durable] {
                if map.contains_key(&at) {
                    map.insert(at, Rc::new([0; 512]));
                }
            }
        }
    }

    /// Makes all outside of the data window zeroes, durably.
    pub fn erase(&mut self) {
        self.cache
            .retain(|cached| !matches!(cached, Cached::Meta { .. }));
        let base = self.base.clone();
        let based = base.runs.iter().flat_map(|(&start, bytes)| {
            let sectors = (bytes.len() / 512) as u64;
            start..start + sectors
        });
        let written: BTreeSet<u64> = based.chain(self.written()).collect();
        for at in written {
            for map in [&mut self.meta_now, &mut self.meta_durable] {
                map.insert(at, Rc::new([0; 512]));
            }
        }
    }

    /// What a flush that is issued now covers.
    pub fn flush_mark(&self) -> u64 {
        self.seq
    }

    /// A flush ends that covers what `mark` says.
    pub fn flush(&mut self, rng: &mut Rng, mark: u64) -> Result<(), IoError> {
        if !self.answers() {
            return Err(IoError::Offline);
        }
        let fails = self.failing_flushes > 0;
        if fails {
            self.failing_flushes -= 1;
            let part = rng.number() % (mark + 1);
            self.settle(part);
            return Err(IoError::Medium);
        }
        self.settle(mark);
        Ok(())
    }

    fn settle(&mut self, mark: u64) {
        let (durable, meta) = (&mut self.durable, &mut self.meta_durable);
        self.cache.retain(|cached| {
            if cached.seq() > mark {
                return true;
            }
            match cached {
                Cached::Data { at, token, .. } => durable[*at] = *token,
                Cached::Meta { sector, bytes, .. } => {
                    meta.insert(*sector, bytes.clone());
                }
            }
            false
        });
    }

    /// Data sectors whose contents are not durable.
    pub fn undurable(&self) -> impl Iterator<Item = u64> + '_ {
        self.cache.iter().filter_map(|cached| match cached {
            Cached::Data { at, .. } => Some(self.data_start + *at as u64),
            Cached::Meta { .. } => None,
        })
    }

    /// Part of a write that is on the way when power goes.
    pub fn tear_data(&mut self, sector: u64, data: &[Token]) {
        self.seq += 1;
        for (offset, &token) in data.iter().enumerate() {
            if let Some(at) = self.index(sector + offset as u64) {
                self.cache.push(Cached::Data {
                    seq: self.seq,
                    at,
                    token,
                });
            }
        }
    }

    /// The same, outside of the data window.
    pub fn tear_bytes(&mut self, sector: u64, bytes: &[u8]) {
        self.seq += 1;
        for (offset, block) in bytes.chunks_exact(512).enumerate() {
            let copy = sector_of(block);
            let sector = sector + offset as u64;
            self.cache.push(Cached::Meta {
                seq: self.seq,
                sector,
                bytes: copy,
            });
        }
    }

    /// Power goes: of what is not durable each sector keeps what chance says. Without `chance`
    /// everything is kept, as at an orderly shutdown.
    pub fn power_off(&mut self, chance: Option<&mut Rng>) {
        let cache = std::mem::take(&mut self.cache);
        match chance {
            None => {
                self.cache = cache;
                self.settle(u64::MAX);
            }
            Some(rng) => {
                // All, nothing, or some of it.
                let percent = *rng.pick(&[0, 100, 20, 50, 80]);
                for cached in cache {
                    if !rng.chance(percent) {
                        continue;
                    }
                    match cached {
                        Cached::Data { at, token, .. } => {
                            self.durable[at] = token;
                            self.bad.remove(&(self.data_start + at as u64));
                        }
                        Cached::Meta { sector, bytes, .. } => {
                            self.meta_durable.insert(sector, bytes);
                        }
                    }
                }
            }
        }
        self.now.clone_from(&self.durable);
        self.meta_now.clone_from(&self.meta_durable);
    }
}
