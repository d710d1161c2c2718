// SPDX-License-Identifier: GPL-2.0

//! Sample disks: metadata and data that other people's tools wrote.
//!
//! `tests/host/samples/<family>/<group>/<case>/dN.sparse.xz` is disk N of a case, in the compact form
//! that `samples/pack.py` describes. [`load`] gives a case's disks in the order of their names, which
//! is not always raid-disk order (`mdadm` picks its own).
//!
//! ```no_run
//! for disk in host_tests::samples::load("ddf/gen/raid5-la") {
//!     println!("{}: {} sectors", disk.name, disk.size_sectors);
//!     let last = disk.read(disk.size_sectors - 1, 1);
//!     assert_eq!(&last[..4], &[0xde, 0x11, 0xde, 0x11]);
//! }
//! ```
//!
//! Cases made by mdadm (`ddf/gen/*`) and graid (`ddf/gen-freebsd/*`) that ran `golden` have in volume
//! sectors 0–4095 and in the last 512 the little-endian u64 (sector number + 1), 64 times a sector.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// One sample disk. Sparse: what is not stored reads as zeros.
#[derive(Clone, Debug)]
pub struct Disk {
    /// File name without the suffix: `d0`.
    pub name: String,
    /// Size in sectors of 512 bytes.
    pub size_sectors: u64,
    /// Logical block size in bytes, 512 or 4096.
    pub logical_block_bytes: u32,
    /// Stored runs by first sector; they do not touch.
    runs: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    /// An empty disk of zeros.
    pub fn blank(name: &str, size_sectors: u64, logical_block_bytes: u32) -> Self {
        Self {
            name: name.into(),
            size_sectors,
            logical_block_bytes,
            runs: BTreeMap::new(),
        }
    }

    /// The bytes of `count` sectors from `sector`. Panics beyond the end of the disk.
    pub fn read(&self, sector: u64, count: usize) -> Vec<u8> {
        assert!(
            sector + count as u64 <= self.size_sectors,
            "read of sectors {sector}+{count} beyond {}",
            self.size_sectors
        );
        let mut out = vec![0u8; count * 512];
        let end = sector + count as u64;
        let first = self
            .runs
            .range(..=sector)
            .next_back()
            .map_or(sector, |(&s, _)| s);
        for (&start, bytes) in self.runs.range(first..end) {
            let stop = start + (bytes.len() / 512) as u64;
            let (from, to) = (start.max(sector), stop.min(end));
            if from < to {
                let src = (from - start) as usize * 512;
                let dst = (from - sector) as usize * 512;
                let len = (to - from) as usize * 512;
                out[dst..dst + len].copy_from_slice(&bytes[src..src + len]);
            }
        }
        out
    }

    /// Overwrites whole sectors from `sector`. Panics beyond the end of the disk.
    pub fn write(&mut self, sector: u64, bytes: &[u8]) {
        assert_eq!(bytes.len() % 512, 0);
        let end = sector + (bytes.len() / 512) as u64;
        assert!(end <= self.size_sectors, "write beyond the end");
        // Take in every run that touches the range, so that runs stay apart.
        let mut first = sector;
        let mut last = end;
        if let Some((&s, b)) = self.runs.range(..=sector).next_back() {
            if s + (b.len() / 512) as u64 >= sector {
                first = s;
            }
        }
        for (&s, b) in self.runs.range(first..=end) {
            last = last.max(s + (b.len() / 512) as u64);
        }
        if let Some(run) = self.runs.get_mut(&first) {
            if first + (run.len() / 512) as u64 >= end {
                let at = (sector - first) as usize * 512;
                run[at..at + bytes.len()].copy_from_slice(bytes);
                return;
            }
        }
        let mut run = self.read(first, (last - first) as usize);
        let at = (sector - first) as usize * 512;
        run[at..at + bytes.len()].copy_from_slice(bytes);
        let stale: Vec<u64> = self.runs.range(first..last).map(|(&s, _)| s).collect();
        for s in stale {
            self.runs.remove(&s);
        }
        self.runs.insert(first, run);
    }

    /// Forgets what is stored in front of the last `count` sectors.
    pub fn keep_last(&mut self, count: u64) {
        let first = self.size_sectors.saturating_sub(count);
        let runs = std::mem::take(&mut self.runs);
        for (start, mut bytes) in runs {
            let skip = (first.saturating_sub(start) as usize * 512).min(bytes.len());
            bytes.drain(..skip);
            if !bytes.is_empty() {
                self.runs.insert(start + (skip / 512) as u64, bytes);
            }
        }
    }

    /// Stored runs: first sector and bytes.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> + '_ {
        self.runs.iter().map(|(&s, b)| (s, b.as_slice()))
    }
}

/// `tests/host/samples`.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

/// The disks of `case` (a folder under `tests/host/samples`), by name. Panics when there are none.
pub fn load(case: &str) -> Vec<Disk> {
    let folder = root().join(case);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.ends_with(".sparse.xz"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no *.sparse.xz in {}", folder.display());
    names
        .iter()
        .map(|name| load_file(&folder.join(name)))
        .collect()
}

/// Every case below `prefix` (`ddf`, `ddf/gen`), sorted.
pub fn cases(prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from(prefix)];
    while let Some(folder) = todo.pop() {
        let mut has_disks = false;
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(folder.join(name));
            } else if name.ends_with(".sparse.xz") {
                has_disks = true;
            }
        }
        if has_disks {
            found.push(folder.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Reads one packed disk.
pub fn load_file(path: &Path) -> Disk {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut data = Vec::new();
    lzma_rs::xz_decompress(&mut BufReader::new(file), &mut data)
        .unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
    let name = path.file_name().unwrap().to_str().unwrap();
    let u64_at = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
    assert_eq!(&data[..8], b"EMDSPRS1", "{name} is not a packed disk");
    let block = u32::from_le_bytes(data[16..20].try_into().unwrap());
    let mut disk = Disk::blank(name.trim_end_matches(".sparse.xz"), u64_at(8) / 512, block);
    let mut at = 24;
    while at < data.len() {
        let (first, count) = (u64_at(at), u64_at(at + 8) as usize);
        at += 16;
        disk.runs.insert(first, data[at..at + count * 512].to_vec());
        at += count * 512;
    }
    disk
}
