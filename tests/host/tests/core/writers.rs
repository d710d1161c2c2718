// SPDX-License-Identifier: GPL-2.0

//! Writes in flight, counted by several threads while another one looks: nothing gets by.

use emd_core::model::{Layout, Level, RegionLog, Shape};
use emd_core::personalities::regions::Regions;
use emd_core::personalities::writers::Writers;
use emd_core::personalities::{for_level, Geometry};
use kernel::prelude::{KVec, GFP_KERNEL};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

const WRITERS: usize = 3;

/// Has threads run one at a time, and others in between by chance: also on a busy machine, where hardly two run at once.
struct Turns {
    state: Mutex<State>,
    come: Condvar,
}

struct State {
    now: usize,
    alive: Vec<bool>,
    random: u64,
}

/// A thread that takes turns; thread 0 is the test's own.
struct Turn<'a>(&'a Turns, usize);

impl Turns {
    fn new(seed: u64) -> Self {
        let state = Mutex::new(State {
            now: 0,
            alive: vec![true; 1 + WRITERS],
            random: seed * 2 + 1,
        });
        let come = Condvar::new();
        Self { state, come }
    }

    /// Waits for the first turn.
    fn begin(&self, me: usize) -> Turn<'_> {
        let state = self.state.lock().unwrap();
        drop(self.come.wait_while(state, |state| state.now != me));
        Turn(self, me)
    }
}

impl State {
    fn choose(&mut self) {
        loop {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.now = (self.random >> 20) as usize % self.alive.len();
            if self.alive[self.now] || !self.alive.contains(&true) {
                return;
            }
        }
    }
}

impl Turn<'_> {
    /// Somebody's turn, perhaps this one's.
    fn over(&self) {
        let Turn(turns, me) = self;
        let mut state = turns.state.lock().unwrap();
        state.choose();
        if state.now != *me {
            turns.come.notify_all();
            drop(turns.come.wait_while(state, |state| state.now != *me));
        }
    }

    fn test_goes_on(&self) -> bool {
        self.0.state.lock().unwrap().alive[0]
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Turn(turns, me) = self;
        let mut state = turns.state.lock().unwrap();
        state.alive[*me] = false;
        state.choose();
        turns.come.notify_all();
    }
}

#[test]
fn who_is_counted_is_seen_until_it_has_ended() {
    let writers = Writers::new();
    let early = writers.count(5);
    assert!(!writers.are_none() && writers.former_are_none());
    writers.begin_round();
    assert!(writers.is_odd_round());
    let late = writers.count(21);
    assert!(late.in_odd_round && !early.in_odd_round);
    assert!(!writers.former_are_none());
    writers.uncount(early);
    assert!(writers.former_are_none() && !writers.are_none());
    writers.begin_round();
    assert!(!writers.former_are_none());
    writers.uncount(late);
    assert!(writers.are_none());
}

/// What `begin_clean` and `admit` do (`src/array/dirty.rs`).
#[test]
fn nothing_is_in_flight_once_clean_is_begun() {
    let writers = Writers::new();
    let dirty = AtomicBool::new(true);
    let in_flight = AtomicU32::new(0);
    let turns = Turns::new(1);
    let mut clean = 0;
    thread::scope(|scope| {
        for me in 1..=WRITERS {
            let (writers, dirty, in_flight, turns) = (&writers, &dirty, &in_flight, &turns);
            scope.spawn(move || {
                let turn = turns.begin(me);
                while turn.test_goes_on() {
                    let counted = writers.count(me);
                    turn.over();
                    if dirty.load(Ordering::SeqCst) {
                        turn.over();
                        in_flight.fetch_add(1, Ordering::SeqCst);
                        turn.over();
                        in_flight.fetch_sub(1, Ordering::SeqCst);
                    }
                    writers.uncount(counted);
                    (0..8).for_each(|_| turn.over());
                }
            });
        }
        let turn = turns.begin(0);
        for _ in 0..2000 {
            dirty.store(false, Ordering::SeqCst);
            turn.over();
            if writers.are_none() {
                clean += 1;
                for _ in 0..2 {
                    turn.over();
                    let count = in_flight.load(Ordering::SeqCst);
                    assert_eq!(count, 0, "writes in flight, and it is called clean");
                }
            }
            dirty.store(true, Ordering::SeqCst);
            turn.over();
            if writers.former_are_none() {
                writers.begin_round();
            }
        }
    });
    assert!(writers.are_none());
    assert!(clean > 100, "it was clean {clean} times only");
}

/// Sweeps under load: no region leaves while a write to it is in flight.
#[test]
fn no_region_leaves_that_is_written() {
    const REGIONS: u32 = 4;
    let shape = Shape {
        level: Level::Raid1,
        layout: Layout::Plain,
        members: 2,
        spans: 1,
        chunk_sectors: 0,
        member_sectors: 16 * u64::from(REGIONS),
    };
    let size = for_level(shape.level)
        .expect("level")
        .capacity_sectors(&shape);
    let geometry = Geometry::new(&shape, size).expect("shape");
    let log = RegionLog {
        region_sectors: 16,
        regions: REGIONS,
        dirty: KVec::from_elem(0, 1, GFP_KERNEL).expect("memory"),
    };
    let regions = Regions::new(&log).expect("memory");
    let writers = Writers::new();
    let in_flight: [AtomicU32; REGIONS as usize] = Default::default();
    let turns = Turns::new(2);
    let mut left = 0;
    thread::scope(|scope| {
        for me in 1..=WRITERS {
            let (writers, regions, geometry) = (&writers, &regions, &geometry);
            let (in_flight, turns) = (&in_flight, &turns);
            scope.spawn(move || {
                let turn = turns.begin(me);
                let mut region = me as u32;
                while turn.test_goes_on() {
                    region = (region * 5 + 1) % REGIONS;
                    let counted = writers.count(me);
                    turn.over();
                    let sector = u64::from(region) * 16;
                    if regions.admit(geometry, sector, 16, counted.in_odd_round) {
                        turn.over();
                        let count = &in_flight[region as usize];
                        count.fetch_add(1, Ordering::SeqCst);
                        // Some take longer than a round.
                        (0..12).for_each(|_| turn.over());
                        count.fetch_sub(1, Ordering::SeqCst);
                    }
                    writers.uncount(counted);
                    // Some are quiet for longer than that.
                    (0..region * 8).for_each(|_| turn.over());
                }
            });
        }
        let turn = turns.begin(0);
        let mut recorded = [false; REGIONS as usize];
        for _ in 0..3000 {
            while let Some((first, count)) = regions.take_wanted() {
                recorded[first as usize..(first + count) as usize].fill(true);
                regions.recorded(first, count, writers.is_odd_round());
            }
            turn.over();
            if writers.former_are_none() {
                turn.over();
                let is_odd = writers.is_odd_round();
                regions.sweep(is_odd, u64::MAX);
                turn.over();
                regions.round_begins(!is_odd);
                turn.over();
                writers.begin_round();
            }
            while let Some((first, count)) = regions.take_leaving() {
                left += count;
                recorded[first as usize..(first + count) as usize].fill(false);
            }
            turn.over();
            for (region, _) in recorded.iter().enumerate().filter(|(_, &is)| !is) {
                let count = in_flight[region].load(Ordering::SeqCst);
                assert_eq!(count, 0, "region {region} is clean, and written");
            }
        }
    });
    assert!(left > 10, "{left} regions left only");
}
