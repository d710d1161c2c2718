// SPDX-License-Identifier: GPL-2.0

//! Cutting power in the middle of a plan.
//!
//! Fault model: phases reach the disks in order; within the phase that is cut, any subset of the
//! logical blocks of its writes is on the disks (writes are torn at block boundaries, never inside a
//! block). Everything before the phase is there, nothing after it is.

use super::{open_keyed, show, Write};
use emd_core::metadata::MetadataSet;
use host_tests::samples::Disk;

/// A small generator of random numbers, so that a failure replays from its seed.
pub struct Random(pub u64);

impl Random {
    /// The next number.
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

/// Cuts a plan everywhere and demands `allowed` of what is reassembled.
pub fn cut_everywhere(
    before: &[Disk],
    writes: &[Write],
    keys: &[u64],
    random: &mut Random,
    rounds: usize,
    allowed: &dyn Fn(&str, &str),
) {
    let pieces = blocks(before, writes);
    let phases = writes.last().map_or(0, |write| write.phase + 1);
    let mut disks = before.to_vec();
    let check = |disks: &[Disk], what: &str| {
        let keyed: Vec<(u64, &Disk)> = keys
            .iter()
            .map(|&key| (key, &disks[key as usize]))
            .collect();
        match open_keyed(&keyed) {
            Ok(set) => allowed(&show(set.set()), what),
            Err(why) => allowed(&format!("refused: {why}"), what),
        }
    };
    for phase in 0..phases {
        let now: Vec<&Write> = pieces.iter().filter(|piece| piece.phase == phase).collect();
        // In order, one by one: all prefixes when they are few, else some.
        let step = (now.len() / 12).max(1);
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
