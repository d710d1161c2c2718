// SPDX-License-Identifier: GPL-2.0

//! Cutting power in the middle of a plan, for every format.
//!
//! Fault model: phases reach the disks in order; within the phase that is cut, any subset of the
//! logical blocks of its writes is on the disks (writes are torn at block boundaries, never inside a
//! block). Everything before the phase is there, nothing after it is.

use crate::samples::Disk;
use crate::shell::Write;
use crate::whole;
use emd_core::model::Event;

/// A small generator of random numbers, so that a failure replays from its seed.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[allow(clippy::should_implement_trait)] // An iterator ends.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
}

/// What a cut is judged by.
pub struct Cut<'a, S> {
    /// The event whose update is cut.
    pub event: &'a Event<'a>,
    /// The disk that the event adds, takes back or removes.
    pub subject: Option<u64>,
    /// The set in memory, after the event.
    pub set: &'a S,
    /// What the disks said before, and say after it.
    pub old: &'a str,
    pub new: &'a str,
}

/// Writes torn into blocks.
fn blocks(disks: &[Disk], writes: &[Write]) -> Vec<Write> {
    let mut out = Vec::new();
    for write in writes {
        let block = disks[write.key as usize].logical_block_bytes as usize;
        for (index, bytes) in write.bytes.chunks(block).enumerate() {
            out.push(Write {
                phase: write.phase,
                key: write.key,
                sector: write.sector + (index * block / 512) as u64,
                bytes: bytes.to_vec(),
            });
        }
    }
    out
}

/// So many blocks of a phase are cut one by one every day: what `Dirty` and `DiskFailed` change.
const FEW: usize = 64;

/// Cuts a plan everywhere, and `rounds` random subsets of each phase; `check` judges the disks after each cut.
pub fn cut_everywhere(
    before: &[Disk],
    writes: &[Write],
    random: &mut Random,
    rounds: usize,
    check: &mut dyn FnMut(&[Disk], &str),
) {
    let pieces = blocks(before, writes);
    let phases = writes.last().map_or(0, |write| write.phase + 1);
    let mut disks = before.to_vec();
    for phase in 0..phases {
        let now: Vec<&Write> = pieces.iter().filter(|piece| piece.phase == phase).collect();
        // In order, one by one: all prefixes when they are few or this is a whole run, else some.
        let step = match whole() || now.len() <= FEW {
            true => 1,
            false => now.len() / 12,
        };
        let mut partial = disks.clone();
        for (index, piece) in now.iter().enumerate() {
            if index % step == 0 {
                check(
                    &partial,
                    &format!("phase {phase}, first {index} of {}", now.len()),
                );
            }
            partial[piece.key as usize].write(piece.sector, &piece.bytes);
        }
        // Any subset.
        for round in 0..rounds {
            let mut partial = disks.clone();
            let odds = 1 + random.below(7);
            for piece in &now {
                if random.below(8) < odds {
                    partial[piece.key as usize].write(piece.sector, &piece.bytes);
                }
            }
            check(&partial, &format!("phase {phase}, subset {round}"));
        }
        for piece in &now {
            disks[piece.key as usize].write(piece.sector, &piece.bytes);
        }
    }
    check(&disks, "after the last phase");
}

/// Of disks that keep one copy only: between old and new, nothing may be said that neither says, but
/// that a disk is in no use.
pub fn is_between(state: &str, old: &str, new: &str) -> bool {
    state.lines().all(|line| {
        let known = old.lines().chain(new.lines()).any(|other| other == line);
        known || (line.starts_with("disk ") && line.contains(" Online Unused "))
    })
}

/// What is shown, but for the lines of one disk and of those that are not here.
pub fn without_disk(state: &str, key: u64) -> String {
    let own = [format!(" key Some({key}) "), format!(" key {key} ")];
    let lines = state.lines().filter(|line| {
        let gone = line.contains(" key None ");
        !(line.starts_with("disk ") && (gone || own.iter().any(|own| line.contains(own))))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A state without its lines of scrubs (and of other marks that are worth no more), which begin with "  scrub ", and those lines.
pub fn split_scrubs(state: &str) -> (String, Vec<&str>) {
    let lines = state.split_inclusive('\n');
    let (scrubs, rest): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("  scrub "));
    (rest.concat(), scrubs)
}

/// [`without_disk`], where a lost member is called failed while its disk is here, else missing.
pub fn without_lost(state: &str, key: u64) -> String {
    let state = without_disk(state, key);
    let lines = state.lines().map(|line| {
        let line = line.replace(" Failed", " Missing");
        match line.split_once(" at ") {
            Some((_, rest)) if rest.ends_with("Missing") => format!("  - at {rest}\n"),
            _ => line + "\n",
        }
    });
    lines.collect()
}

impl<S> Cut<'_, S> {
    /// Whether all scrubs of which `state` has a mark have it in the old state or the new one. It may have none: a mark counts
    /// only where all disks have it.
    pub fn bears_scrubs(&self, state: &str) -> bool {
        let of = |state| split_scrubs(state).1;
        let (old, new) = (of(self.old), of(self.new));
        of(state)
            .iter()
            .all(|line| old.contains(line) || new.contains(line))
    }

    /// Whether `state` is the old or the new one but for the disk that comes or goes: it is in the set, out of it, or
    /// shows as a leftover that is in no volume. `view` is what is to be compared of a state.
    pub fn leaves_only_the_subject(&self, state: &str, view: &dyn Fn(&str, u64) -> String) -> bool {
        self.subject.is_some_and(|key| {
            let state = view(state, key);
            state == view(self.old, key) || state == view(self.new, key)
        })
    }
}
