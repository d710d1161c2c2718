// SPDX-License-Identifier: GPL-2.0

//! What the DDF tests share: what DDF is to the shell of all formats, and a way to print a model so that two of them can be
//! compared.

#![allow(dead_code)]

pub mod damage;
pub mod records;
pub mod world;

use emd_core::metadata::ddf::{Ddf, DdfSet};
use emd_core::metadata::{DiskImage, Format, MetadataSet, Probe};
use emd_core::model::{
    Access, Checked, Consistency, DiskFacts, DiskIndex, DiskState, Event, Level, MemberState, Set,
};
pub use host_tests::crash::{is_between, Random};
use host_tests::crash::{without_disk, Cut};
use host_tests::samples::Disk;
use host_tests::shell::{self, Family};
pub use host_tests::shell::{carry_out, context, Write};
use kernel::prelude::*;

/// DDF, as the shell has to know it.
#[derive(Clone, Copy, Default)]
pub struct Of;

impl Family for Of {
    type Set = DdfSet;

    fn format(&self) -> &'static dyn Format {
        &Ddf
    }

    fn open(&self, images: &[&DiskImage]) -> Checked<KBox<DdfSet>> {
        Ddf::open(images)
    }

    fn create(&self, disks: &[DiskFacts]) -> KBox<DdfSet> {
        emd_core::metadata::ddf::create::create(disks, "set", &context(0)).unwrap()
    }

    fn show(&self, set: &DdfSet) -> String {
        show(set.set()) + &show_logs(set)
    }

    fn bytes(&self, set: &DdfSet) -> Vec<u8> {
        [&set.pd[..], &set.vd[..]].concat()
    }

    fn assert_place(&self, set: &DdfSet, disk: DiskIndex, from: u64, _end: u64) {
        let usable = set.set().disk(disk).unwrap().usable_sectors;
        assert!(from >= usable, "metadata over data: {from}");
    }

    fn thin(&self, disk: &mut Disk) {
        disk.keep_last(70_000);
    }

    /// Known of disks that keep one copy: `docs/formats/ddf.md` §18.
    fn bears_cuts(&self, set: &DdfSet, event: &Event<'_>) -> bool {
        let is_raid10 = |level| level == Level::Raid10;
        !matches!(event, Event::VolumeCreated(spec) if is_raid10(spec.level) && has_single(set))
    }

    /// A disk that comes or goes may show as a leftover. Disks that keep one copy may be between old and new.
    fn allows(&self, cut: &Cut<'_, DdfSet>, state: &str) -> bool {
        state == cut.old
            || state == cut.new
            || cut.leaves_only_the_subject(state, &without_disk)
            || shows_no_stale(cut, state)
            || is_between(state, cut.old, cut.new) && has_single(cut.set)
            || is_between(&without_torn(cut, state), cut.old, cut.new) && has_single(cut.set)
            || matches!(cut.event, Event::VolumeDeleted(_)) && forgets_late(cut, state)
    }
}

/// The state, without what it says of tables that are torn: of one working disk, with one copy, there is nothing to
/// fall back on, and it is shown and not written (`docs/formats/ddf.md` §18).
fn without_torn(cut: &Cut<'_, DdfSet>, state: &str) -> String {
    let is_member = |line: &&str| line.starts_with("disk ") && line.contains(" Online Member ");
    if state.lines().filter(is_member).count() != 1 || cut.new.contains(TORN) {
        return state.to_owned();
    }
    let lines = state
        .lines()
        .map(|line| line.split_once(TORN).map_or(line, |(before, _)| before));
    lines.collect::<Vec<_>>().join("\n")
}

/// How a model tells of it.
const TORN: &str = " ReadOnly(the checksum of its configuration ";

/// Whether a state is the new one, with bad ranges that are forgotten: those outlive what lay there.
fn forgets_late(cut: &Cut<'_, DdfSet>, state: &str) -> bool {
    let is_bad = |line: &&str| line.starts_with("bad ");
    let rest = |text: &str| -> Vec<String> {
        let rest = text.lines().filter(|line| !is_bad(line));
        rest.map(str::to_owned).collect()
    };
    let has = |text: &str, line: &str| text.lines().any(|other| other == line);
    let mut kept = cut.new.lines().filter(is_bad);
    let mut bad = state.lines().filter(is_bad);
    rest(state) == rest(cut.new)
        && kept.all(|line| has(state, line))
        && bad.all(|line| has(cut.old, line) || has(cut.new, line))
}

/// Whether a state is the old one, but that a disk which was left out and is taken back is not here: its members, lost before and
/// after, are called failed while it is, else missing. What it says of itself is being written over.
fn shows_no_stale(cut: &Cut<'_, DdfSet>, state: &str) -> bool {
    let (Event::DiskReturned(..), Some(key)) = (cut.event, cut.subject) else {
        return false;
    };
    let stale = cut.old.lines().find_map(|line| {
        let (name, rest) = line.split_once(&format!(" key Some({key}) "))?;
        rest.starts_with("Stale ")
            .then(|| name.strip_prefix("disk "))?
    });
    let Some(name) = stale else {
        return false;
    };
    let own = format!("  {name} at ");
    let old = without_disk(cut.old, key);
    let old = old.lines().map(|line| {
        let lost = line
            .strip_suffix(" Failed")
            .filter(|_| line.starts_with(&own));
        lost.map_or(line.to_owned(), |lost| format!("{lost} Missing"))
    });
    without_disk(state, key) == old.collect::<Vec<_>>().join("\n")
}

/// Whether some disk keeps one copy only.
fn has_single(set: &DdfSet) -> bool {
    set.set().live_disks().any(|(index, _)| {
        let home = set.home(index);
        home.is_some_and(|home| home.copies[1].is_none())
    })
}

/// Facts of a sample disk; `key` is its handle.
pub fn facts(disk: &Disk, key: u64) -> DiskFacts {
    shell::facts(Of, disk, key)
}

/// Reads what the format asks for. Gives the image, the verdict and how much was read.
pub fn probe(disk: &Disk, key: u64) -> (DiskImage, Probe, usize) {
    shell::probe(Of, disk, key, &|_| true)
}

/// Assembles the disks that are given, with their keys.
pub fn open_keyed(disks: &[(u64, &Disk)]) -> Checked<KBox<DdfSet>> {
    shell::open_keyed(Of, disks)
}

/// Assembles all disks; the key of a disk is its index.
pub fn open(disks: &[Disk]) -> Checked<KBox<DdfSet>> {
    shell::open(Of, disks)
}

/// The writes of the last plan.
pub fn writes(set: &DdfSet) -> Vec<Write> {
    shell::writes(Of, set)
}

/// Applies an event and carries its plan out.
pub fn apply(set: &mut DdfSet, disks: &mut [Disk], event: &Event<'_>, n: u64) -> Checked {
    shell::apply(Of, set, disks, event, n)
}

/// Asserts that reassembling gives the model in memory.
pub fn assert_same(set: &DdfSet, disks: &[Disk], what: &str) {
    shell::assert_same(Of, set, disks, what);
}

/// Cuts a plan everywhere and demands `allowed` of what is reassembled from the disks `keys`.
pub fn cut_everywhere(
    before: &[Disk],
    writes: &[Write],
    keys: &[u64],
    random: &mut Random,
    rounds: usize,
    allowed: &dyn Fn(&str, &str),
) {
    shell::cut_everywhere(Of, before, writes, keys, random, rounds, allowed);
}

/// Blank disks of `mib` MiB.
pub fn blanks(count: usize, mib: u64, block: u32) -> Vec<Disk> {
    shell::blanks(Of, count, mib, block)
}

/// A new set on all `disks`, written.
pub fn create(disks: &mut [Disk], name: &str) -> KBox<DdfSet> {
    let facts = shell::all_facts(Of, disks);
    let set = emd_core::metadata::ddf::create::create(&facts, name, &context(0)).unwrap();
    carry_out(disks, &writes(&set));
    set
}

/// The model as text: what must be the same after reassembly. Marks, regions and bad ranges are shown
/// where EMD's own records keep them, else they count as 0; generation and notes do not count.
pub fn show(set: &Set) -> String {
    show_with(
        set,
        set.volumes.iter().any(|volume| volume.regions.is_some()),
    )
}

/// Sessions and places of the logs of partial parity.
fn show_logs(set: &DdfSet) -> String {
    let mut logs: Vec<String> = set
        .set()
        .live_volumes()
        .filter_map(|(index, volume)| {
            let log = set.hole_log(index)?;
            let places: Vec<Option<u64>> = (0u16..)
                .zip(volume.members.iter())
                .map(|(slot, _)| set.hole_log_sector(index, slot))
                .collect();
            let id = volume.id.as_bytes();
            Some(format!("log of {id:02x?}: {log:?} at {places:?}\n"))
        })
        .collect();
    logs.sort();
    logs.concat()
}

/// [`show`], with bad ranges when they are `kept`.
fn show_with(set: &Set, kept: bool) -> String {
    use std::fmt::Write;
    let mut out = format!("set {:02x?} {}\n", set.id.as_bytes(), set.name);
    let mut disks: Vec<String> = set
        .live_disks()
        .map(|(_, disk)| {
            format!(
                "disk {} key {:?} {:?} {} usable {} predicted {}\n",
                disk.label,
                disk.facts.map(|facts| facts.key),
                disk.state,
                match disk.role {
                    emd_core::model::DiskRole::DedicatedSpare(volume) =>
                        format!("spare of {}", set.volume(volume).unwrap().name),
                    role => format!("{role:?}"),
                },
                disk.usable_sectors,
                disk.failure_predicted,
            )
        })
        .collect();
    disks.sort();
    out.extend(disks);
    let rebuilding = |disk: Option<u16>| {
        disk.is_some_and(|disk| {
            set.memberships(disk)
                .any(|(_, _, member)| matches!(member.state, MemberState::Rebuilding { .. }))
        })
    };
    let mut volumes: Vec<String> = set
        .live_volumes()
        .map(|(_, volume)| {
            let mut text = format!(
                "volume {:02x?} {} {:?} size {} {}{}\n",
                volume.id.as_bytes(),
                volume.name,
                volume.shape,
                volume.size_sectors,
                match volume.consistency {
                    Consistency::Initialising { done_sectors } => match volume.regions.as_ref() {
                        None => "Initialising".into(),
                        // After a restart the mark is no farther than what was being written.
                        Some(log) => format!(
                            "Initialising {}",
                            (0..log.regions)
                                .find(|&region| log.is_dirty(region))
                                .map_or(u64::MAX, |region| u64::from(region) * log.region_sectors)
                                .min(done_sectors)
                        ),
                    },
                    state => format!("{state:?}"),
                },
                match &volume.access {
                    Access::ReadWrite => String::new(),
                    access => format!(" {access:?}"),
                }
            );
            let whole = volume
                .members
                .iter()
                .all(|member| member.state == MemberState::InSync);
            for member in volume.members.iter() {
                let disk = member.disk.and_then(|disk| set.disk(disk));
                writeln!(
                    text,
                    "  {} at {} {}",
                    disk.map_or("-".into(), |disk| disk.label.to_string()),
                    member.offset_sectors,
                    match member.state {
                        MemberState::Rebuilding { .. } if volume.regions.is_none() =>
                            "Rebuilding".into(),
                        // The rebuilding bit is the disk's: see `docs/formats/ddf.md`.
                        MemberState::InSync
                            if volume.regions.is_none() && !whole && rebuilding(member.disk) =>
                            "Rebuilding".into(),
                        state => format!("{state:?}"),
                    }
                )
                .unwrap();
            }
            // What is noted of regions means nothing once redundancy agrees.
            if let Some(log) = volume.regions.as_ref() {
                let dirty: Vec<u32> = (0..log.regions).filter(|&r| log.is_dirty(r)).collect();
                let agrees = volume.consistency == Consistency::Clean;
                let shown = if agrees { Vec::new() } else { dirty };
                writeln!(
                    text,
                    "  {} regions of {}: {shown:?}\n  {:?} {:?}",
                    log.regions, log.region_sectors, volume.crash_policy, volume.scrub
                )
                .unwrap();
            }
            text
        })
        .collect();
    volumes.sort();
    out.extend(volumes);
    let mut bad: Vec<String> = set
        .bad_ranges
        .iter()
        .filter(|_| kept)
        .filter_map(|range| {
            let label = set.disk(range.disk)?.label;
            Some(format!(
                "bad {label} {:012} {}\n",
                range.sector, range.sectors
            ))
        })
        .collect();
    bad.sort();
    out.extend(bad);
    out
}

/// The state of every disk, for messages.
pub fn states(set: &Set) -> Vec<DiskState> {
    set.disks.iter().map(|disk| disk.state).collect()
}
