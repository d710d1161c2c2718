// SPDX-License-Identifier: GPL-2.0

//! Histories: what is set up, and what happens to it. Made from a seed, and independent of how the
//! scheduler interleaves it, so that parts can be left out when a failure is shrunk.

use crate::rng::Rng;
use emd_core::metadata::Capabilities;
use emd_core::model::{Layout, Level};
use emd_core::uapi::TaskOp;

mod members;
mod tasks;

pub use members::TakesBack;

/// Who answers for the RAID 5 write hole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WriteHole {
    /// The allowance [`crate::sim::Allowance::WriteHole`] holds: a power cut during writes, together
    /// with the loss of a member (or of a sector) before the resync, may damage what that member had
    /// in just the places that were being written.
    Open,
    /// No such allowance.
    Closed,
}

/// What is set up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Config {
    /// Name of the format.
    pub format: &'static str,
    /// Level, by its place in [`Level::ALL`].
    pub level: usize,
    /// Which of the format's layouts for the level.
    pub layout: usize,
    /// Members, over all spans.
    pub members: u16,
    /// Spans; more than one is a two-level volume (RAID 50, 60).
    pub spans: u16,
    /// Disks beyond those: global spares.
    pub spares: u16,
    /// Chunk length.
    pub chunk_sectors: u32,
    /// Stripes (of a mirror: chunks).
    pub stripes: u32,
    /// Sectors of a lane.
    pub lane_sectors: u32,
    /// Redundancy agrees from the start.
    pub assume_clean: bool,
    /// Who answers for the write hole.
    pub hole: WriteHole,
    /// There is a log, which closes it.
    pub log: bool,
    /// Length of the regions that the metadata keeps; 0: as the format makes them, if it does.
    pub region_sectors: u32,
    /// People have to do with tasks, and how far a check is is recorded, where the format keeps that.
    pub tasks: bool,
    /// Which disks that were left out are rebuilt without being added.
    pub takes_back: TakesBack,
}

impl Config {
    /// Its level.
    pub fn level(&self) -> Level {
        Level::ALL[self.level]
    }
}

/// Something that happens. Disks are counted as in the simulation; those that there are not, or that
/// are in no state for it, make it a no-op, so that any subset of a history is a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// A user writes.
    Write {
        /// First sector.
        sector: u64,
        /// Length.
        sectors: u32,
        /// Forced to the medium.
        fua: bool,
        /// The user changes the buffer while it is being written.
        changing: bool,
    },
    /// A user reads.
    Read {
        /// First sector.
        sector: u64,
        /// Length.
        sectors: u32,
    },
    /// A user flushes.
    Flush,
    /// The user waits until all I/O is back, and for a while.
    Quiet,
    /// Everything comes to rest: tasks end, spares are in.
    Settle,
    /// Time passes until a rebuild has done some of its work, or nothing is left to do.
    AwaitRebuild,
    /// The next reads of a disk fail.
    FailReads(usize, u32),
    /// The next writes of a disk fail.
    FailWrites(usize, u32),
    /// The next writes of metadata to a disk fail.
    FailMetadata(usize, u32),
    /// The next flush of a disk fails.
    FailFlush(usize),
    /// A sector of a member becomes unreadable.
    Spoil(usize, u64),
    /// A sector of a member changes behind everybody's back: for a repair to find. Disks do not do that in histories of the menu.
    Rot(usize, u64),
    /// A disk stops answering.
    Kill(usize),
    /// A disk is unplugged.
    Pull(usize),
    /// A disk that was unplugged is back.
    Return(usize),
    /// A new disk is added as a spare.
    AddBlank,
    /// A person calls a disk failed, by force also one that the volume does not work without.
    Fail(usize, bool),
    /// A person takes a disk out, by force also one that is in use. If it is not here: one that the set misses, by its number.
    Remove(usize, bool),
    /// A person adds a disk, whatever it holds.
    Add(usize),
    /// A check (or, if true, a repair) is wanted: it starts when nothing else is at work, as if another
    /// volume's task had the disks until then.
    Check(bool),
    /// A person does something with the volume's task, or is refused.
    Task(TaskOp),
    /// Power is cut; at the next start some disks may not be there.
    PowerCut(Absent),
    /// An orderly stop and start.
    Restart(Absent),
}

/// Which disks are not there at a start: chosen when it comes to it, from this number; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absent(pub u64);

/// A history.
#[derive(Clone, Debug)]
pub struct History {
    /// What is set up.
    pub config: Config,
    /// What happens.
    pub ops: Vec<Op>,
    /// How it is interleaved.
    pub schedule: u64,
}

fn redundant() -> Vec<Level> {
    let all = Level::ALL.iter().copied();
    all.filter(|level| level.is_redundant()).collect()
}

/// So many seeds, from a multiple of it on, have what they set up in common.
pub const GROUP: u64 = 8;

/// What histories are made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Menu {
    /// Formats.
    pub formats: Vec<&'static str>,
    /// Levels; empty: all that there are.
    pub levels: Vec<Level>,
    /// Who answers for the write hole.
    pub hole: WriteHole,
    /// Writes of metadata may fail.
    pub metadata_errors: bool,
    /// Every history loses two members, and gets disks for them one after the other: the second joins the
    /// rebuild of the first.
    pub late_joiners: bool,
    /// Every volume has two levels.
    pub spans: bool,
    /// Every volume has many regions.
    pub regions: bool,
    /// Every history loses a member, and has sectors that cannot be read when it is rebuilt.
    pub bad_ranges: bool,
    /// In every history people start, hold, let go and cancel tasks.
    pub tasks: bool,
    /// In every history people fail, take out and add disks.
    pub members: bool,
    /// Which disks are taken back; `None`: the seed says so.
    pub takes_back: Option<TakesBack>,
}

impl Menu {
    /// The formats that hold, and every level.
    pub fn usual() -> Self {
        Self {
            formats: vec!["ddf"],
            levels: Vec::new(),
            hole: WriteHole::Open,
            metadata_errors: false,
            late_joiners: false,
            spans: false,
            regions: false,
            bad_ranges: false,
            tasks: false,
            members: false,
            takes_back: None,
        }
    }

    /// Volumes with regions that are small enough for some of them to be dirty and others not.
    pub fn with_regions(self) -> Self {
        Self {
            levels: redundant(),
            regions: true,
            ..self
        }
    }

    /// Rebuilds that meet what can neither be read nor worked out.
    pub fn with_bad_ranges(self) -> Self {
        Self {
            levels: redundant(),
            bad_ranges: true,
            ..self
        }
    }

    /// Tasks that people have to do with.
    pub fn with_tasks(self) -> Self {
        Self {
            levels: redundant(),
            tasks: true,
            ..self
        }
    }

    /// Disks that people fail, take out and add.
    pub fn with_members(self) -> Self {
        Self {
            levels: redundant(),
            members: true,
            ..self
        }
    }

    /// RAID 50 and 60 only.
    pub fn with_two_levels(self) -> Self {
        Self {
            levels: vec![Level::Raid5, Level::Raid6],
            spans: true,
            ..self
        }
        .of_formats(|format| format.spans_max > 1)
    }

    /// Volumes that bear the loss of two members, and lose them.
    pub fn with_late_joiners(self) -> Self {
        Self {
            levels: vec![Level::Raid6],
            late_joiners: true,
            ..self
        }
        .of_formats(|format| format.levels.iter().any(|of| of.level == Level::Raid6))
    }

    /// Without the formats that have none of what is wanted.
    fn of_formats(mut self, wanted: impl Fn(&Capabilities) -> bool) -> Self {
        self.formats.retain(|&format| {
            let known = emd_core::metadata::registry::by_name(format);
            known.is_some_and(|format| wanted(format.capabilities()))
        });
        self
    }

    /// Volumes with parity and a log, which have to do without an allowance for the write hole.
    pub fn closed() -> Self {
        Self {
            levels: vec![Level::Raid4, Level::Raid5, Level::Raid6],
            hole: WriteHole::Closed,
            ..Self::usual()
        }
    }

    /// One format, or `all` that are registered.
    pub fn of(format: &str) -> Option<Self> {
        let formats = emd_core::metadata::registry::FORMATS
            .iter()
            .map(|format| format.name());
        let formats: Vec<_> = formats
            .filter(|name| format == "all" || *name == format)
            .collect();
        (!formats.is_empty()).then_some(Self {
            formats,
            ..Self::usual()
        })
    }

    /// What can be set up of a format: level and layout with fewest and most members.
    fn choices(&self, format: &'static str) -> Vec<(usize, usize, Layout, u16, u16)> {
        let mut out = Vec::new();
        let Some(known) = emd_core::metadata::registry::by_name(format) else {
            return out;
        };
        for capability in known.capabilities().levels {
            let wanted = self.levels.is_empty() || self.levels.contains(&capability.level);
            let runs = emd_core::personalities::for_level(capability.level).is_some();
            if !wanted || !runs {
                continue;
            }
            let Some(level) = Level::ALL
                .iter()
                .position(|&level| level == capability.level)
            else {
                continue;
            };
            for (index, &layout) in capability.layouts.iter().enumerate() {
                let (least, most) = capability.members;
                out.push((level, index, layout, least, most));
            }
        }
        out
    }

    /// Levels that histories of a format may have.
    pub fn levels_of(&self, format: &'static str) -> impl Iterator<Item = Level> {
        let mut levels: Vec<usize> = self.choices(format).iter().map(|of| of.0).collect();
        levels.dedup();
        levels.into_iter().map(|level| Level::ALL[level])
    }

    /// So many times as long as usual volumes are: for tasks that are to last for a while.
    fn stretch(&self) -> u32 {
        match (self.late_joiners, self.tasks) {
            (true, _) => 8,
            (false, true) => 3,
            (false, false) => 1,
        }
    }

    /// Something to set up; `None` when the format does not make it after all.
    fn config(
        &self,
        rng: &mut Rng,
        format: &'static str,
        choices: &[(usize, usize, Layout, u16, u16)],
    ) -> Option<Config> {
        // Levels first, so that those with many layouts do not crowd out the others.
        let mut levels: Vec<usize> = choices.iter().map(|choice| choice.0).collect();
        levels.dedup();
        let level = *rng.pick(&levels);
        let of_level: Vec<_> = choices
            .iter()
            .filter(|choice| choice.0 == level)
            .copied()
            .collect();
        let (level, layout, _, least, most) = *rng.pick(&of_level);
        let (least, most) = (least.max(2), most.min(least.max(2) + 2));
        let chunk_sectors = *rng.pick(crate::setup::chunks(format));
        let capabilities =
            emd_core::metadata::registry::by_name(format).map(|of| of.capabilities());
        let may_span = capabilities.is_some_and(|format| format.spans_max > 1)
            && matches!(Level::ALL[level], Level::Raid5 | Level::Raid6);
        let percent = if self.spans { 100 } else { 25 };
        let spans = 1 + u16::from(may_span && rng.chance(percent));
        let mut config = Config {
            format,
            level,
            layout,
            members: spans * (least + rng.below(usize::from(most - least) + 1) as u16),
            spans,
            spares: rng.below(3).min(1) as u16,
            chunk_sectors,
            stripes: (4 + 4 * rng.below(2) as u32) * self.stretch(),
            lane_sectors: (chunk_sectors / (1 + rng.below(2) as u32)).min(8),
            assume_clean: rng.chance(75),
            hole: self.hole,
            log: false,
            region_sectors: 0,
            tasks: self.tasks,
            takes_back: TakesBack::Always,
        };
        let has_log = capabilities.is_some_and(|format| !format.log_levels.is_empty());
        config.log = has_log && config.level().parity_members() > 0;
        config.log &= self.hole == WriteHole::Closed;
        // Where there is no log, nobody promises that there is no hole.
        if config.level().parity_members() > 0 && !config.log {
            config.hole = WriteHole::Open;
        }
        let can_be_small = crate::regions::can_be_small(format, config.log);
        let keeps = can_be_small && config.level().is_redundant();
        if keeps && (self.regions || rng.chance(50)) {
            config.region_sectors = *rng.pick(&[4, 8, 16]);
        }
        // Formats refuse some numbers of members, spares, volumes that were never initialised.
        for _ in 0..40 {
            match crate::setup::template(&config) {
                Ok(_) => return Some(config),
                Err(why) if why.contains("internal") => panic!("{config:?}: {why}"),
                // Some formats have a log for some of the levels only.
                Err(why) if config.log && why.contains(" log for ") => return None,
                Err(_) => {
                    config.members =
                        spans * (least + rng.below(usize::from(most - least) + 1) as u16);
                    config.spares = rng.below(2) as u16;
                    config.assume_clean |= rng.chance(50);
                }
            }
        }
        None
    }

    /// The history of `seed`. What is set up is the same for [`GROUP`] of them: making it takes longer than
    /// a history.
    pub fn history(&self, seed: u64) -> History {
        let mut rng = Rng::new(!(seed / GROUP));
        let format = *rng.pick(&self.formats);
        let choices = self.choices(format);
        assert!(!choices.is_empty(), "{format} has none of these levels");
        // Some levels are not made small enough (RAID 0 of md's 0.90 takes whole disks).
        let config = (0..40).find_map(|_| self.config(&mut rng, format, &choices));
        let mut config = config.unwrap_or_else(|| panic!("seed {seed}: {format} makes nothing"));
        config.takes_back = self.takes_back.unwrap_or_else(|| TakesBack::of_seed(seed));
        let mut rng = Rng::new(seed);
        let mut ops = self.ops(&mut rng, &config);
        members::put_in(seed, self.members, &config, &mut ops);
        History {
            config,
            ops,
            schedule: rng.number(),
        }
    }
}

fn user_op(rng: &mut Rng, size: u64, hot: u64) -> Op {
    let near = if rng.chance(75) {
        (hot + rng.number() % 16) % size
    } else {
        rng.number() % size
    };
    let longest = if rng.chance(20) { 48 } else { 6 };
    let sectors = (1 + rng.number() % longest).min(size - near) as u32;
    match rng.below(20) {
        0..=11 => Op::Write {
            sector: near,
            sectors,
            fua: rng.chance(15),
            changing: rng.chance(8),
        },
        12..=15 => Op::Read {
            sector: near,
            sectors,
        },
        16 | 17 => Op::Flush,
        18 => Op::Quiet,
        _ => Op::Check(rng.chance(50)),
    }
}

/// Two members go; a disk comes for one of them, and later for the other.
fn late_joiner_ops(rng: &mut Rng, disks: usize, size: u64, hot: u64) -> Vec<Op> {
    let first = rng.below(disks);
    let second = (first + 1 + rng.below(disks - 1)) % disks;
    let mut ops = vec![Op::Kill(first), Op::Kill(second)];
    for _ in 0..1 + rng.below(3) {
        ops.push(user_op(rng, size, hot));
    }
    ops.extend([Op::AddBlank, Op::AwaitRebuild, Op::AddBlank]);
    ops
}

/// A member goes while others have sectors that cannot be read, and a disk comes for it.
fn bad_range_ops(rng: &mut Rng, disks: usize, member_sectors: u64, size: u64) -> Vec<Op> {
    let lost = rng.below(disks);
    let mut ops = Vec::new();
    for _ in 0..1 + rng.below(3) {
        let other = (lost + 1 + rng.below(disks - 1)) % disks;
        ops.push(Op::Spoil(other, rng.number() % member_sectors));
    }
    ops.insert(rng.below(ops.len() + 1), Op::Kill(lost));
    ops.push(Op::AddBlank);
    if rng.chance(70) {
        ops.push(Op::AwaitRebuild);
    }
    if rng.chance(50) {
        ops.push(Op::Settle);
    }
    // Wherever there is a hole now, something of this is written near it.
    for _ in 0..rng.below(4) {
        let sector = rng.number() % size;
        ops.push(Op::Write {
            sector,
            sectors: (1 + rng.number() % 48).min(size - sector) as u32,
            fua: rng.chance(15),
            changing: false,
        });
    }
    ops
}

impl Menu {
    fn ops(&self, rng: &mut Rng, config: &Config) -> Vec<Op> {
        let size = crate::setup::size_sectors(config);
        let disks = usize::from(config.members + config.spares);
        let mut ops = Vec::new();
        let boots = 1 + rng.below(3);
        for boot in 0..boots {
            // Where most I/O of this part goes: close together, so that it meets.
            let hot = rng.number() % size;
            let faults = rng.below(3);
            let count = 4 + rng.below(16);
            if self.late_joiners && boot == 0 {
                ops.extend(late_joiner_ops(rng, disks, size, hot));
            }
            if self.bad_ranges && boot == 0 {
                let members = usize::from(config.members);
                let member_sectors = u64::from(config.stripes * config.chunk_sectors);
                ops.extend(bad_range_ops(rng, members, member_sectors, size));
            }
            for _ in 0..count {
                ops.push(user_op(rng, size, hot));
            }
            for _ in 0..faults {
                let at = ops.len() - rng.below(count.min(ops.len()));
                let fault =
                    self.fault(rng, disks, u64::from(config.stripes * config.chunk_sectors));
                ops.insert(at.min(ops.len()), fault);
            }
            if rng.chance(15) {
                ops.push(Op::Settle);
                ops.push(user_op(rng, size, hot));
            }
            if boot + 1 < boots {
                let absent = Absent(if rng.chance(35) { rng.number() | 1 } else { 0 });
                ops.push(if rng.chance(80) {
                    Op::PowerCut(absent)
                } else {
                    Op::Restart(absent)
                });
                // Also while it starts: what the start itself writes may be cut.
                if rng.chance(15) {
                    ops.push(Op::PowerCut(Absent(0)));
                }
            }
        }
        if self.tasks {
            tasks::put_in(&mut rng.fork(), config, &mut ops);
        }
        ops
    }

    fn fault(&self, rng: &mut Rng, disks: usize, member_sectors: u64) -> Op {
        let disk = rng.below(disks);
        match rng.below(14) {
            0 | 1 => Op::FailReads(disk, 1 + rng.below(3) as u32),
            2 | 3 => Op::FailWrites(disk, 1 + rng.below(2) as u32),
            4 if self.metadata_errors && rng.chance(50) => {
                Op::FailMetadata(disk, 1 + rng.below(4) as u32)
            }
            4 => Op::FailFlush(disk),
            5 | 6 => Op::Spoil(disk, rng.number() % member_sectors),
            7 | 8 => Op::Kill(disk),
            9 | 10 => Op::Pull(disk),
            11 => Op::Return(disk),
            12 => Op::AddBlank,
            _ => Op::Settle,
        }
    }
}
