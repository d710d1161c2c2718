// SPDX-License-Identifier: GPL-2.0

//! Which disks are taken back without a word, and what people do with disks, put into a history that is made as ever.

use super::{Config, Op};
use crate::rng::{mix, Rng};
use emd_core::metadata::arrival;

/// Which disks that were left out of updates are rebuilt without being added: the driver's option `take_back`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TakesBack {
    /// None.
    Never,
    /// Those that went away while the set ran: the driver's default.
    Seen,
    /// All.
    Always,
}

impl TakesBack {
    /// What a seed says: about half of them have the default.
    pub fn of_seed(seed: u64) -> Self {
        match Rng::new(mix(seed ^ 0x7A6B)).below(20) {
            0..=9 => Self::Seen,
            10 | 11 => Self::Never,
            _ => Self::Always,
        }
    }

    /// What the driver makes of its option.
    pub fn option(self) -> arrival::TakesBack {
        match self {
            Self::Never => arrival::TakesBack::Never,
            Self::Seen => arrival::TakesBack::Seen,
            Self::Always => arrival::TakesBack::Always,
        }
    }

    /// Its word: what the driver's option is.
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "0",
            Self::Seen => "1",
            Self::Always => "2",
        }
    }

    /// The one with this word.
    pub fn by_word(word: &str) -> Option<Self> {
        let all = [Self::Never, Self::Seen, Self::Always];
        all.into_iter().find(|one| one.word() == word)
    }
}

/// Something that a person does with a disk, and often what goes with it later.
fn put_in_one(rng: &mut Rng, disks: usize, ops: &mut Vec<Op>) {
    let disk = rng.below(disks);
    let at = rng.below(ops.len() + 1);
    let force = rng.chance(60);
    let first = match rng.below(6) {
        0 | 1 => Op::Fail(disk, force),
        2..=4 => Op::Remove(disk, force),
        _ => Op::Add(disk),
    };
    ops.insert(at, first);
    let mut later = at + 1;
    let mut put_later = |rng: &mut Rng, op| {
        later = (later + rng.below(4)).min(ops.len());
        ops.insert(later, op);
        later += 1;
    };
    match first {
        Op::Fail(..) if rng.chance(50) => put_later(rng, Op::Remove(disk, false)),
        Op::Add(_) => return,
        _ => {}
    }
    if rng.chance(60) {
        put_later(rng, Op::Add(disk));
    }
}

/// After a start some of what was not there comes, and people add what is left alone.
fn bring_in(rng: &mut Rng, disks: usize, ops: &mut Vec<Op>) {
    let starts = (0..ops.len()).filter(|&at| matches!(ops[at], Op::PowerCut(_) | Op::Restart(_)));
    let starts: Vec<usize> = starts.collect();
    for start in starts.into_iter().rev() {
        let at = |rng: &mut Rng, ops: &Vec<Op>| (start + 1 + rng.below(8)).min(ops.len());
        if rng.chance(40) {
            let adds = at(rng, ops);
            ops.splice(adds..adds, (0..disks).map(Op::Add));
        }
        if rng.chance(60) {
            let returns = at(rng, ops);
            ops.splice(returns..returns, (0..disks).map(Op::Return));
        }
    }
}

/// Puts them into `ops`, of some seeds or, with `all`, of each. What the other seeds have stays what it is.
pub(super) fn put_in(seed: u64, all: bool, config: &Config, ops: &mut Vec<Op>) {
    let mut rng = Rng::new(mix(seed ^ 0x6D62));
    let disks = usize::from(config.members + config.spares);
    if config.takes_back != TakesBack::Always {
        bring_in(&mut rng, disks, ops);
    }
    if all || rng.chance(20) {
        for _ in 0..1 + rng.below(3) {
            // Also of disks that were new.
            put_in_one(&mut rng, disks + 1, ops);
        }
    }
}
