// SPDX-License-Identifier: GPL-2.0

//! A shell around a format, as the driver is one: it reads what the format asks for and carries its plans out, on sample
//! disks. A [`Family`] says what is different from one format to the next.

use crate::counting::allocations;
use crate::crash::{self, Cut, Random};
use crate::samples::Disk;
use crate::share;
use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{Checked, Context, DiskFacts, DiskIndex, Event, Level, Text, VolumeSpec};
use kernel::prelude::*;

/// What the tests have to know of a format.
pub trait Family: Copy {
    /// Its sets.
    type Set: MetadataSet;

    /// The format itself.
    fn format(&self) -> &'static dyn Format;

    /// Makes a set of images, as [`Format::assemble`] does, of the format's own type.
    fn open(&self, images: &[&DiskImage]) -> Checked<KBox<Self::Set>>;

    /// Makes a new set on disks.
    fn create(&self, disks: &[DiskFacts]) -> KBox<Self::Set>;

    /// The model as text: what must be the same after reassembly.
    fn show(&self, set: &Self::Set) -> String;

    /// Metadata as bytes, as far as the set keeps any: what a refusal must not change.
    fn bytes(&self, set: &Self::Set) -> Vec<u8>;

    /// Asserts that a set may write sectors `from .. end` of a disk: no data is there.
    fn assert_place(&self, set: &Self::Set, disk: DiskIndex, from: u64, end: u64);

    /// The serial number of a disk whose handle is `key`.
    fn serial(&self, _disk: &Disk, key: u64) -> String {
        format!("SERIAL-{key:04}")
    }

    /// The name of blank disk number `key`.
    fn blank_name(&self, key: u64) -> String {
        format!("b{key}")
    }

    /// Forgets data, which makes copying slow.
    fn thin(&self, _disk: &mut Disk) {}

    /// Whether a cut may leave what is shown in `state`.
    fn allows(&self, cut: &Cut<'_, Self::Set>, state: &str) -> bool {
        state == cut.old || state == cut.new
    }

    /// How many disks a cut may tear, so that they are left out: the others must then say the old or the new state
    /// without them.
    fn torn_max(&self) -> usize {
        0
    }

    /// How many random subsets of a phase are tried today, of those that a whole run tries.
    fn rounds(&self, crashes: usize) -> usize {
        share(crashes)
    }

    /// Whether an update for `event` may be cut anywhere. `set` is the set after it.
    fn bears_cuts(&self, _set: &Self::Set, _event: &Event<'_>) -> bool {
        true
    }

    /// Whether all that is in memory is on the disks, too.
    fn is_recorded(&self, _set: &Self::Set) -> bool {
        true
    }
}

/// Facts of a disk; `key` is its handle.
pub fn facts<F: Family>(family: F, disk: &Disk, key: u64) -> DiskFacts {
    DiskFacts {
        key,
        size_sectors: disk.size_sectors,
        logical_block_bytes: disk.logical_block_bytes,
        serial: Text::from_text(&family.serial(disk, key)),
    }
}

/// Facts of all `disks`; the key of a disk is its index.
pub fn all_facts<F: Family>(family: F, disks: &[Disk]) -> Vec<DiskFacts> {
    (0u64..)
        .zip(disks)
        .map(|(key, disk)| facts(family, disk, key))
        .collect()
}

/// Time and random bytes number `n`.
pub fn context(n: u64) -> Context {
    Context {
        now_seconds: 1_800_000_000 + n,
        random: [n.wrapping_mul(0x9E37_79B9_97F4_A7C1), !n],
    }
}

/// Reads what the format asks for; `readable` says which sectors can be read. Gives the image, the verdict and how many
/// bytes were read.
pub fn probe<F: Family>(
    family: F,
    disk: &Disk,
    key: u64,
    readable: &dyn Fn(u64) -> bool,
) -> (DiskImage, Probe, usize) {
    let format = family.format();
    let mut image = DiskImage {
        facts: facts(family, disk, key),
        extents: KVec::new(),
    };
    let mut bytes = 0;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match format.probe(&image) {
            Probe::Read(region) => {
                bytes += read(&mut image, disk, region, readable);
                assert!(bytes <= PROBE_BYTES_MAX, "too much is read: {bytes}");
            }
            verdict => return (image, verdict, bytes),
        }
    }
    panic!("the format never has enough");
}

fn read(
    image: &mut DiskImage,
    disk: &Disk,
    region: Region,
    readable: &dyn Fn(u64) -> bool,
) -> usize {
    let block = u64::from(disk.logical_block_bytes / 512);
    let end = region.sector + u64::from(region.len_sectors);
    assert_eq!(region.sector % block, 0, "{region:?}");
    assert_eq!(u64::from(region.len_sectors) % block, 0, "{region:?}");
    assert!(region.len_sectors > 0 && end <= disk.size_sectors);
    assert!(image.extents.iter().all(|extent| extent.region != region));
    let data = disk.read(region.sector, region.len_sectors as usize);
    let mut bytes = KVVec::new();
    bytes.extend_from_slice(&data, GFP_KERNEL).expect("memory");
    let good = (region.sector..end).all(readable);
    let extent = Extent {
        region,
        bytes: good.then_some(bytes),
    };
    image.extents.push(extent, GFP_KERNEL).expect("memory");
    data.len()
}

/// Assembles the disks that are given, with their keys.
pub fn open_keyed<F: Family>(family: F, disks: &[(u64, &Disk)]) -> Checked<KBox<F::Set>> {
    let images: Vec<DiskImage> = disks
        .iter()
        .map(|(key, disk)| probe(family, disk, *key, &|_| true))
        .filter(|(_, verdict, _)| !matches!(verdict, Probe::NotMine))
        .map(|(image, _, _)| image)
        .collect();
    let images: Vec<&DiskImage> = images.iter().collect();
    family.open(&images)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open<F: Family>(family: F, disks: &[Disk]) -> Checked<KBox<F::Set>> {
    let keyed: Vec<(u64, &Disk)> = (0u64..).zip(disks).collect();
    open_keyed(family, &keyed)
}

/// One write of a plan, by the disk's key.
#[derive(Clone, Debug)]
pub struct Write {
    pub phase: u16,
    pub key: u64,
    pub sector: u64,
    pub bytes: Vec<u8>,
}

/// The writes of the last plan. None may touch data, or be of no use.
pub fn writes<F: Family>(family: F, set: &F::Set) -> Vec<Write> {
    let mut last = 0;
    set.plan()
        .writes()
        .iter()
        .map(|write| {
            assert!(write.phase >= last, "phases go down");
            last = write.phase;
            let disk = set.set().disk(write.disk).expect("a disk");
            let facts = disk.facts.expect("a write to a disk that is not here");
            let bytes = set.bytes(&write.source).to_vec();
            assert!(!bytes.is_empty(), "{write:?}");
            assert_eq!(bytes.len(), write.source.len_bytes as usize, "{write:?}");
            assert_eq!(bytes.len() % facts.logical_block_bytes as usize, 0);
            let end = write.sector + (bytes.len() / 512) as u64;
            assert!(end <= facts.size_sectors, "{write:?}");
            assert_eq!(write.sector % u64::from(facts.logical_block_bytes / 512), 0);
            family.assert_place(set, write.disk, write.sector, end);
            Write {
                phase: write.phase,
                key: facts.key,
                sector: write.sector,
                bytes,
            }
        })
        .collect()
}

/// Carries writes out.
pub fn carry_out(disks: &mut [Disk], writes: &[Write]) {
    for write in writes {
        disks[write.key as usize].write(write.sector, &write.bytes);
    }
}

/// Applies an event and carries its plan out.
pub fn apply<F: Family>(
    family: F,
    set: &mut F::Set,
    disks: &mut [Disk],
    event: &Event<'_>,
    n: u64,
) -> Checked {
    set.apply(event, &context(n))?;
    carry_out(disks, &writes(family, set));
    Ok(())
}

/// Applies events, none of which may allocate, and carries their plans out.
pub fn apply_without_allocating<F: Family>(
    family: F,
    set: &mut F::Set,
    disks: &mut [Disk],
    events: &[Event<'_>],
) {
    for (n, event) in (100..).zip(events) {
        let context = context(n);
        let before = allocations();
        let result = set.apply(event, &context);
        let after = allocations();
        result.unwrap_or_else(|why| panic!("{event:?}: {why}"));
        assert_eq!(after, before, "{event:?} allocated");
        carry_out(disks, &writes(family, set));
    }
}

/// What reassembly of the disks `keys` shows. Leaves out disks that are damaged, and says which.
pub fn state_of<F: Family>(family: F, disks: &[Disk], keys: &[u64]) -> (String, Vec<u64>) {
    let mut torn = Vec::new();
    let mut images = Vec::new();
    for &key in keys {
        let (image, verdict, _) = probe(family, &disks[key as usize], key, &|_| true);
        match verdict {
            Probe::NotMine => {}
            Probe::Damaged(_) if family.torn_max() > 0 => torn.push(key),
            _ => images.push(image),
        }
    }
    let images: Vec<&DiskImage> = images.iter().collect();
    let text = match family.open(&images) {
        Ok(set) => family.show(&set),
        Err(why) => format!("refused: {why}"),
    };
    (text, torn)
}

/// Keys of the disks that are in a set and here: others are blank or erased.
pub fn present<S: MetadataSet>(set: &S) -> Vec<u64> {
    set.set()
        .live_disks()
        .filter_map(|(_, disk)| disk.facts.map(|facts| facts.key))
        .collect()
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same<F: Family>(family: F, set: &F::Set, disks: &[Disk], what: &str) {
    let keyed: Vec<(u64, &Disk)> = present(set)
        .into_iter()
        .map(|key| (key, &disks[key as usize]))
        .collect();
    let again = open_keyed(family, &keyed).unwrap_or_else(|why| panic!("{what}: {why:?}"));
    assert_eq!(family.show(set), family.show(&again), "{what}");
}

/// Blank disks of `mib` MiB, with logical blocks of `block` bytes.
pub fn blanks<F: Family>(family: F, count: usize, mib: u64, block: u32) -> Vec<Disk> {
    (0..count as u64)
        .map(|key| Disk::blank(&family.blank_name(key), mib * 2048, block))
        .collect()
}

/// A new set on all `disks`, written.
pub fn create<F: Family>(family: F, disks: &mut [Disk]) -> KBox<F::Set> {
    let set = family.create(&all_facts(family, disks));
    carry_out(disks, &writes(family, &set));
    set
}

/// Cuts a plan everywhere, and demands `allowed` of what the disks `keys` say, and of where it was cut.
pub fn cut_everywhere<F: Family>(
    family: F,
    before: &[Disk],
    writes: &[Write],
    keys: &[u64],
    random: &mut Random,
    rounds: usize,
    allowed: &dyn Fn(&str, &str),
) {
    crash::cut_everywhere(before, writes, random, rounds, &mut |disks, at| {
        allowed(&state_of(family, disks, keys).0, at);
    });
}

/// A volume over `disks` as large as fits, in the format's own layout and chunk.
pub fn spec<'a>(name: &str, level: Level, disks: &'a [Option<u16>]) -> VolumeSpec<'a> {
    VolumeSpec {
        name: Text::from_text(name),
        level,
        spans: 1,
        layout: None,
        chunk_sectors: 0,
        size_sectors: 0,
        disks,
        assume_clean: false,
        log: false,
        regions: None,
    }
}
