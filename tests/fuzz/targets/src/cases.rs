// SPDX-License-Identifier: GPL-2.0

//! Sets to begin with: every sample disk set, a set that EMD makes for each level, and blank disks.

use crate::repair::Pieces;
use crate::shell;
use emd_core::metadata::registry::FORMATS;
use emd_core::metadata::{Format, LevelCapability, Probe};
use emd_core::model::{CrashPolicy, DiskFacts, DiskIndex, Event, Text, VolumeSpec};
use host_tests::samples::{self, Disk};
use std::sync::OnceLock;

/// A sector that is worth changing.
#[derive(Clone, Copy, Debug)]
pub struct Hot {
    /// It.
    pub sector: u64,
    /// The same sector of the other copy, where a disk has two.
    pub twin: Option<u64>,
}

/// A set to begin with.
pub struct Case {
    /// The format that it is of.
    pub format: &'static dyn Format,
    /// Its disks; only what formats read of them.
    pub disks: Vec<Disk>,
    /// By disk.
    pub hot: Vec<Vec<Hot>>,
    /// By disk: what has a checksum.
    pub pieces: Vec<Pieces>,
}

/// Where a case comes from.
#[derive(Clone, Debug)]
enum Source {
    /// A folder of sample disks.
    Sample(String),
    /// EMD makes it: the format, the level's place in its table, the block length.
    Made(usize, usize, u32),
    /// Blank disks, for a format.
    Blank(usize, u32),
}

struct Entry {
    name: String,
    hash: u16,
    source: Source,
    case: OnceLock<Case>,
}

/// The cases of one family of formats.
pub struct Cases {
    entries: Vec<Entry>,
}

/// A stable number for a name.
fn hash(name: &str) -> u16 {
    let wide = name.bytes().fold(0x811C_9DC5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (wide ^ (wide >> 16)) as u16
}

impl Cases {
    /// Every case of `family`.
    fn new(family: &str) -> Self {
        let mut sources: Vec<(String, Source)> = samples::cases(family)
            .into_iter()
            .map(|name| (name.clone(), Source::Sample(name)))
            .collect();
        for (nth, format) in FORMATS.iter().enumerate() {
            if !format.name().starts_with(family) {
                continue;
            }
            for block in [512, 4096] {
                let name = format!("blank {} {block}", format.name());
                sources.push((name, Source::Blank(nth, block)));
                for (level, table) in format.capabilities().levels.iter().enumerate() {
                    let name = format!("made {} {} {block}", format.name(), table.level.name());
                    sources.push((name, Source::Made(nth, level, block)));
                }
            }
        }
        let mut entries: Vec<Entry> = sources
            .into_iter()
            .map(|(name, source)| Entry {
                hash: hash(&name),
                name,
                source,
                case: OnceLock::new(),
            })
            .collect();
        entries.sort_by(|one, other| (one.hash, &one.name).cmp(&(other.hash, &other.name)));
        Self { entries }
    }

    /// The one that `choice` means: the first whose name's hash is not below it, so that new cases do not
    /// change what most old inputs mean.
    pub fn choose(&self, choice: u16) -> &Case {
        let at = self.entries.partition_point(|entry| entry.hash < choice);
        let entry = &self.entries[at % self.entries.len()];
        entry.case.get_or_init(|| entry.source.load())
    }

    /// All names, with the number that chooses each.
    pub fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.hash))
    }
}

/// The cases of `family`.
pub fn of(family: &str) -> &'static Cases {
    static ALL: [OnceLock<Cases>; 4] = [const { OnceLock::new() }; 4];
    let at = crate::TARGETS
        .iter()
        .position(|name| *name == family)
        .expect("a family of formats");
    ALL[at].get_or_init(|| Cases::new(family))
}

impl Source {
    fn load(&self) -> Case {
        match self {
            Source::Sample(name) => sample(name),
            Source::Made(format, level, block) => {
                let format = FORMATS[*format];
                made(format, &format.capabilities().levels[*level], *block)
            }
            Source::Blank(format, block) => {
                let disks = blanks(4, *block);
                let edge: Vec<Hot> = (0..64)
                    .chain((0..64).map(|n| disks[0].size_sectors - 1 - n))
                    .map(|sector| Hot { sector, twin: None })
                    .collect();
                Case {
                    format: FORMATS[*format],
                    hot: vec![edge; disks.len()],
                    pieces: disks.iter().map(|_| Pieces::default()).collect(),
                    disks,
                }
            }
        }
    }
}

fn blanks(count: usize, block: u32) -> Vec<Disk> {
    (0..count)
        .map(|n| Disk::blank(&format!("BLANK{n:04}"), 64 * 2048, block))
        .collect()
}

/// What a format that has serial numbers on its disks finds there.
fn serial(case: &str, disk: &Disk, index: usize) -> String {
    match case {
        _ if case.starts_with("imsm/gen-freebsd/") => format!("GRAID{:04}", index + 1),
        "imsm/native/raid0-volume0-gigabyte" => "9QG07LA9".into(),
        "imsm/native/raid1-volume0" => "3QJ00LH1".into(),
        "imsm/native/util-linux-isw" => "    Y25VXYQE".into(),
        _ if case.starts_with("imsm/gen/") => {
            format!("QM{index:05}i-{}", &case["imsm/gen/".len()..])
        }
        _ => format!("{}-{index:04}", disk.name),
    }
}

fn sample(name: &str) -> Case {
    let mut disks = samples::load(name);
    for (index, disk) in disks.iter_mut().enumerate() {
        disk.name = serial(name, disk, index);
    }
    let family = name.split('/').next().unwrap_or("");
    let mut formats = FORMATS
        .iter()
        .filter(|format| format.name().starts_with(family));
    let first = formats.clone().next().expect("a format of the family");
    let found = |format: &&&'static dyn Format| {
        matches!(
            shell::probe(**format, &disks[0], 0, &[]).1,
            Probe::Found { .. }
        )
    };
    let format = formats.find(found).unwrap_or(first);
    case(*format, disks)
}

/// A set with a spare, and as many volumes of the level, up to two, as there may be.
fn made(format: &'static dyn Format, level: &LevelCapability, block: u32) -> Case {
    let members = level.members.0.max(3).min(level.members.1);
    let mut disks = blanks(usize::from(members) + 1, block);
    let facts: Vec<DiskFacts> = (0u64..)
        .zip(&disks)
        .map(|(key, disk)| shell::facts(disk, key))
        .collect();
    let Ok(mut set) = format.create(&facts, "", &shell::context(0)) else {
        // Not on disks with such blocks.
        return case(format, disks);
    };
    shell::carry_out(set.as_ref(), &mut disks);
    let all: Vec<Option<DiskIndex>> = (0..members).map(Some).collect();
    let spec = VolumeSpec {
        name: Text::from_text("vol"),
        level: level.level,
        spans: 1,
        layout: None,
        chunk_sectors: 0,
        size_sectors: 0,
        disks: &all,
        assume_clean: true,
        log: false,
        regions: None,
    };
    let table = format.capabilities();
    let half = set.largest_volume(&spec).unwrap_or(0) / 2 / 4096 * 4096;
    let size_sectors = if table.volumes_max > 1 { half } else { 0 };
    let mut events = Vec::new();
    for name in ["one", "two"].into_iter().take(table.volumes_max.into()) {
        events.push(Event::VolumeCreated(VolumeSpec {
            name: Text::from_text(if table.name_bytes_max == 0 { "" } else { name }),
            size_sectors,
            ..spec
        }));
    }
    if !table.log_levels.is_empty() {
        events.push(Event::CrashPolicySet(0, CrashPolicy::Log));
    }
    for event in &events {
        // Not every level takes each of them.
        if set.apply(event, &shell::context(1)).is_ok() {
            shell::carry_out(set.as_ref(), &mut disks);
        }
    }
    case(format, disks)
}

/// Keeps what is read of the disks, and notes what is worth changing.
fn case(format: &'static dyn Format, disks: Vec<Disk>) -> Case {
    let pieces = Pieces::of(format, &disks);
    let mut thin = Vec::new();
    let mut hot = Vec::new();
    for ((index, disk), pieces) in disks.iter().enumerate().zip(&pieces) {
        let (image, _) = shell::probe(format, disk, index as u64, &[]);
        let mut kept = Disk::blank(&disk.name, disk.size_sectors, disk.logical_block_bytes);
        let mut sectors = Vec::new();
        for extent in image.extents.iter() {
            let bytes = extent.bytes.as_ref().expect("nothing is unreadable here");
            kept.write(extent.region.sector, bytes);
            sectors.extend(
                (extent.region.sector..)
                    .zip(bytes.chunks(512))
                    // What is all the same is mostly unused.
                    .filter(|(_, sector)| sector.iter().any(|byte| *byte != sector[0]))
                    .map(|(sector, _)| sector),
            );
        }
        sectors.sort_unstable();
        sectors.dedup();
        let hots: Vec<Hot> = sectors
            .into_iter()
            .filter(|sector| !pieces.is_second(*sector))
            .map(|sector| Hot {
                sector,
                twin: pieces.twin(sector),
            })
            .collect();
        hot.push(hots);
        thin.push(kept);
    }
    Case {
        format,
        disks: thin,
        hot,
        pieces,
    }
}
