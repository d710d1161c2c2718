// SPDX-License-Identifier: GPL-2.0

//! A task on a small volume, for tests of its engine.

use emd_core::model::{Layout, Level, RegionLog, Rotation, Shape, TaskKind};
use emd_core::personalities::pace::Rates;
use emd_core::personalities::rebuild::Pass;
use emd_core::personalities::regions::Regions;
use emd_core::personalities::task::{
    Course, Engine, Found, Members, Moved, Scope, Step, View, Windows,
};
use emd_core::personalities::{Geometry, Mask};
use kernel::prelude::{KVec, GFP_KERNEL};

pub const LANE: u32 = 16;
/// Lanes of the volumes here.
pub const LANES: u64 = 10;
pub const WINDOWS: Windows = Windows { full: 4, busy: 2 };
/// Ticks of a second.
pub const SECOND: u64 = 250;

pub fn shape(level: Level, layout: Layout, members: u16, spans: u16) -> Shape {
    Shape {
        level,
        layout,
        members,
        spans,
        chunk_sectors: if level == Level::Raid1 { 0 } else { LANE },
        member_sectors: LANES * u64::from(LANE),
    }
}

pub fn geometry(shape: &Shape) -> Geometry {
    let personality = emd_core::personalities::for_level(shape.level).expect("level");
    Geometry::new(shape, personality.capacity_sectors(shape)).expect("shape")
}

pub fn mirror() -> Geometry {
    geometry(&shape(Level::Raid1, Layout::Plain, 2, 1))
}

/// Two of RAID 5, of which a rebuild of one leaves out every second lane.
pub fn two_spans() -> Geometry {
    let layout = Layout::Parity(Rotation::LeftSymmetric);
    geometry(&shape(Level::Raid5, layout, 3, 2))
}

pub fn filling(targets: Mask) -> Pass {
    Pass {
        targets,
        marked: targets,
        ..Pass::sync(0)
    }
}

/// A task, and what it sees of its array.
pub struct Stage {
    pub engine: Engine,
    pub members: Members,
    pub is_busy: bool,
    pub rates: Rates,
    pub now: u64,
    pub regions: Option<Regions>,
    pub to_repair: Option<u64>,
}

impl Stage {
    pub fn on(geometry: &Geometry, kind: TaskKind, pass: &Pass, scope: Scope) -> Self {
        let all = Mask((1 << geometry.shape().members_total()) - 1);
        let readable = all.minus(pass.targets);
        let course = Course::new(geometry, LANE, kind, pass, scope, readable);
        Self {
            engine: Engine::new(&course, WINDOWS, 0, Rates::NONE),
            members: Members {
                readable,
                writable: all,
                is_broken: false,
            },
            is_busy: false,
            rates: Rates::NONE,
            now: 0,
            regions: None,
            to_repair: None,
        }
    }

    /// A task of a mirror, at work.
    pub fn of(kind: TaskKind) -> Self {
        let pass = match kind {
            TaskKind::Rebuild => filling(Mask::single(1)),
            _ => Pass::sync(0),
        };
        let mut stage = Self::on(&mirror(), kind, &pass, Scope::All);
        stage.engine.begin();
        stage
    }

    pub fn next(&mut self) -> Step {
        let view = View {
            members: self.members,
            is_busy: self.is_busy,
            rates: self.rates,
            now: self.now,
            second: SECOND,
            regions: self.regions.as_ref(),
        };
        let to_repair = self.to_repair;
        let later = |mark: u64| to_repair.map(|first| first.max(mark));
        self.engine.next(&view, later)
    }

    /// The same, in a word and the number of a lane.
    pub fn says(&mut self) -> String {
        match self.next() {
            Step::Send(lane) => format!("send {}", lane.number),
            Step::Skip { lanes, .. } => format!("skip {lanes}"),
            Step::Nothing(_) => "nothing".into(),
            Step::Later => "later".into(),
            Step::WhenBack => "when back".into(),
            Step::End => "end".into(),
        }
    }

    pub fn send(&mut self, count: u64) {
        for _ in 0..count {
            assert!(matches!(self.next(), Step::Send(_)));
        }
    }

    pub fn back(&mut self, lane: u64, is_good: bool) -> Moved {
        self.engine.back(lane, is_good, Found::Alike).moved
    }

    /// Does all that is left.
    pub fn run(&mut self) {
        loop {
            match self.next() {
                Step::Send(lane) => _ = self.back(lane.number, true),
                Step::Skip { .. } | Step::Nothing(_) => {}
                Step::End => return,
                step => panic!("{step:?}"),
            }
        }
    }
}

pub fn regions(dirty: &[u32]) -> Regions {
    Regions::new(&regions_of(dirty)).expect("memory")
}

/// A region for each lane.
pub fn regions_of(dirty: &[u32]) -> RegionLog {
    let count = LANES as u32;
    let mut log = RegionLog {
        region_sectors: u64::from(LANE),
        regions: count,
        dirty: KVec::from_elem(0, count.div_ceil(64) as usize, GFP_KERNEL).expect("memory"),
    };
    for &region in dirty {
        log.mark(region, 1, true);
    }
    log
}
