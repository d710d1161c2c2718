// SPDX-License-Identifier: GPL-2.0

//! Random histories: events that all formats are given, and how often which was taken, refused, compared and cut. A
//! history in which nothing happens, or of which nothing is judged, proves nothing.

use crate::crash::Random;
use emd_core::model::{CrashPolicy, Event, Scrub, Set, Volume, VolumeIndex};
use std::collections::BTreeMap;

/// The kinds of all events.
pub const KINDS: [&str; 26] = [
    "DiskFailed",
    "DiskMissing",
    "DiskAdded",
    "DiskReturned",
    "DiskReinstated",
    "DiskRemoved",
    "SpareAssigned",
    "SpareActivated",
    "RebuildProgress",
    "RebuildDone",
    "Dirty",
    "Clean",
    "ResyncProgress",
    "ResyncDone",
    "VolumeCreated",
    "VolumeDeleted",
    "RegionsDirty",
    "RegionsClean",
    "BadRangeAdded",
    "BadRangeCleared",
    "VolumeRenamed",
    "CrashPolicySet",
    "ScrubProgress",
    "HoleLogStarted",
    "LeftLogOff",
    "LogSet",
];

/// The kind of an event; a policy that asks for a log is one of its own.
pub fn kind_of(event: &Event<'_>) -> &'static str {
    match event {
        Event::DiskFailed(_) => "DiskFailed",
        Event::DiskMissing(_) => "DiskMissing",
        Event::DiskAdded(_) => "DiskAdded",
        Event::DiskReturned(..) => "DiskReturned",
        Event::DiskReinstated(..) => "DiskReinstated",
        Event::DiskRemoved(_) => "DiskRemoved",
        Event::SpareAssigned(..) => "SpareAssigned",
        Event::SpareActivated { .. } => "SpareActivated",
        Event::RebuildProgress { .. } => "RebuildProgress",
        Event::RebuildDone { .. } => "RebuildDone",
        Event::Dirty(_) => "Dirty",
        Event::Clean(_) => "Clean",
        Event::ResyncProgress { .. } => "ResyncProgress",
        Event::ResyncDone(_) => "ResyncDone",
        Event::VolumeCreated(_) => "VolumeCreated",
        Event::VolumeDeleted(_) => "VolumeDeleted",
        Event::RegionsDirty { .. } => "RegionsDirty",
        Event::RegionsClean { .. } => "RegionsClean",
        Event::BadRangeAdded(_) => "BadRangeAdded",
        Event::BadRangeCleared(_) => "BadRangeCleared",
        Event::VolumeRenamed(..) => "VolumeRenamed",
        Event::CrashPolicySet(_, CrashPolicy::Log) => "LogSet",
        Event::CrashPolicySet(..) => "CrashPolicySet",
        Event::ScrubProgress(..) => "ScrubProgress",
        Event::HoleLogStarted(_) => "HoleLogStarted",
        Event::LeftLogOff { .. } => "LeftLogOff",
    }
}

/// What came of the events of one kind.
#[derive(Clone, Copy, Default, Debug)]
pub struct Count {
    /// Taken.
    pub applied: usize,
    /// Refused, with nothing changed.
    pub refused: usize,
    /// Taken, with something to write.
    pub wrote: usize,
    /// Taken, and the disks compared with the memory after that.
    pub compared: usize,
    /// Cuts that were judged.
    pub cuts: usize,
}

/// What came of the events of each kind.
#[derive(Clone, Default)]
pub struct Tally(BTreeMap<&'static str, Count>);

impl Tally {
    /// The count of an event's kind.
    pub fn of(&mut self, event: &Event<'_>) -> &mut Count {
        self.0.entry(kind_of(event)).or_default()
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            let own = self.0.entry(kind).or_default();
            own.applied += count.applied;
            own.wrote += count.wrote;
            own.refused += count.refused;
            own.compared += count.compared;
            own.cuts += count.cuts;
        }
    }

    /// All kinds together.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        for count in self.0.values() {
            total.applied += count.applied;
            total.wrote += count.wrote;
            total.refused += count.refused;
            total.compared += count.compared;
            total.cuts += count.cuts;
        }
        total
    }

    /// Every kind of event was taken and compared with the disks, but those that the format never takes: they were tried,
    /// and refused. `silent` are the kinds that write nothing, `last` those that leave nothing to compare.
    pub fn assert_all(&self, never: &[&str], silent: &[&str], last: &[&str]) {
        for kind in KINDS {
            let count = self.0.get(kind).copied().unwrap_or_default();
            if never.contains(&kind) {
                let is_refused = count.applied == 0 && count.refused > 0;
                assert!(is_refused, "{kind} is never taken: {count:?}");
                continue;
            }
            let is_compared = count.applied > 0 && (count.compared > 0 || last.contains(&kind));
            assert!(is_compared, "{kind}: {count:?}\n{self:?}");
            let is_silent = count.wrote == 0 || !silent.contains(&kind);
            assert!(is_silent, "{kind} writes: {count:?}");
        }
    }

    /// Of each kind that wrote something some were cut, but of those that are cut `elsewhere`.
    pub fn assert_cut(&self, elsewhere: &[&str]) {
        let is_uncut = |kind: &&str| {
            let count = self.0.get(kind).copied().unwrap_or_default();
            count.wrote > 0 && count.cuts == 0 && !elsewhere.contains(kind)
        };
        let uncut: Vec<_> = KINDS.into_iter().filter(is_uncut).collect();
        assert!(uncut.is_empty(), "not cut: {uncut:?}\n{self:?}");
    }

    /// None of the kind was cut yet.
    pub fn is_uncut(&self, event: &Event<'_>) -> bool {
        let count = self.0.get(kind_of(event));
        count.is_none_or(|count| count.cuts == 0)
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (kind, count) in &self.0 {
            writeln!(f, "{kind:16} {count:?}")?;
        }
        Ok(())
    }
}

/// Whether an event is rare, and its update better cut more often: disks that come and go, logs that are put on or taken off.
pub fn is_rare(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::DiskReturned(..)
            | Event::DiskReinstated(..)
            | Event::DiskRemoved(_)
            | Event::VolumeDeleted(_)
            | Event::CrashPolicySet(..)
            | Event::LeftLogOff { .. }
    )
}

/// Something about a log, a policy or a scrub of a volume of `set`: of `volume`, where none fits better.
pub fn of_logs(random: &mut Random, set: &Set, volume: VolumeIndex) -> Event<'static> {
    let has_log = |volume: &Volume| volume.crash_policy == CrashPolicy::Log;
    let mut find = |is_wanted: &dyn Fn(&Volume) -> bool| {
        let found = set.live_volumes().find(|(_, volume)| is_wanted(volume));
        let found = found.filter(|_| random.below(4) > 0);
        found.map_or(volume, |(index, _)| index)
    };
    let logged = find(&has_log);
    let bare = find(&|volume| volume.shape.level.parity_members() > 0 && !has_log(volume));
    match random.below(8) {
        0 | 1 => Event::CrashPolicySet(bare, CrashPolicy::Log),
        2 => {
            let policies = [CrashPolicy::None, CrashPolicy::Resync];
            Event::CrashPolicySet(logged, policies[random.below(2) as usize])
        }
        3 | 4 => Event::HoleLogStarted(logged),
        5 => Event::LeftLogOff {
            volume: logged,
            is_settled: random.below(2) == 0,
        },
        _ => {
            let scrub = Scrub {
                repairs: random.below(2) == 0,
                done_sectors: 8 * random.below(600),
            };
            Event::ScrubProgress(volume, (random.below(4) > 0).then_some(scrub))
        }
    }
}

/// Something about regions of a volume of `set`: of `volume`, where none has any.
pub fn of_regions(random: &mut Random, set: &Set, volume: VolumeIndex) -> Event<'static> {
    let found = set.live_volumes().find_map(|(index, volume)| {
        let log = volume.regions.as_ref()?;
        Some((index, u64::from(log.regions)))
    });
    let found = found.filter(|_| random.below(4) > 0);
    let (volume, regions) = found.unwrap_or((volume, 8));
    // One too many, now and then.
    let first = random.below(regions + 1) as u32;
    let count = random.below((regions + 1).min(3)) as u32;
    match random.below(2) {
        0 => Event::RegionsDirty {
            volume,
            first,
            count,
        },
        _ => Event::RegionsClean {
            volume,
            first,
            count,
        },
    }
}
