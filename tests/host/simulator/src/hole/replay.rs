// SPDX-License-Identifier: GPL-2.0

//! The log is replayed when the volume starts: `set/hole.rs`, on what is on the disks.

use super::{bytes_of, UNITS};
use crate::disk::{IoError, Token};
use crate::mistake::Mistake;
use crate::sim::Sim;
use emd_core::model::{Consistency, MemberState, Slot};
use emd_core::personalities::bad::BadSpot;
use emd_core::personalities::hole_log::entry::scan;
use emd_core::personalities::hole_log::left;
use emd_core::personalities::hole_log::replay::{mend, plan, Stretch, SumAt};
use emd_core::personalities::Mask;
use kernel::prelude::*;

/// What became of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replayed {
    /// All is put right that there was, or the resync makes sure.
    Yes,
    /// This member did not take what the log says.
    Refused(Slot),
    /// The log does not tell what is needed of it.
    Untold,
}

/// What became of putting a stretch right.
#[derive(PartialEq, Eq)]
enum Mended {
    Yes,
    /// Something in it cannot be read, and it is not the last try.
    Unreadable,
    /// It is not.
    No(Replayed),
}

fn token_of(sector: &[u8]) -> Token {
    let mut first = [0; 8];
    first.copy_from_slice(&sector[..8]);
    Token::from_le_bytes(first)
}

impl Sim {
    /// `Inner::replay_hole`.
    pub fn replay_hole(&mut self, usable: Mask) -> Replayed {
        let Some(session) = self.session() else {
            return Replayed::Yes;
        };
        let Some(volume) = self.set.as_ref().and_then(|set| set.set().volume(0)) else {
            return Replayed::Yes;
        };
        let is_due = match self.log_row() {
            Some(_) => {
                let log = self.set.as_ref().and_then(|set| set.left_log(0));
                log.is_some_and(|log| log.is_due)
            }
            None => volume.consistency != Consistency::Clean,
        };
        if !is_due || self.has(Mistake::ReplaySkipped) {
            return Replayed::Yes;
        }
        let mut seats = Vec::new();
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            let right = match member.state {
                MemberState::InSync if usable.contains(slot) => u64::MAX,
                MemberState::Rebuilding { done_sectors } => done_sectors,
                _ => 0,
            };
            let disk = member.disk.and_then(|disk| self.devices[usize::from(disk)]);
            let disk = disk.filter(|&disk| right > 0 && self.disks[disk].answers());
            seats.push(disk.map(|disk| (disk, member.offset_sectors, right)));
        }
        if self.log_row().is_some() {
            let all_here = usable.len() == u32::from(self.geometry.members());
            return self.replay_row(&seats, all_here);
        }
        let mut found = KVVec::new();
        let mut read = Mask::EMPTY;
        let mut rings = vec![Vec::new(); seats.len()];
        for slot in usable.iter() {
            let sector = self
                .set
                .as_ref()
                .and_then(|set| set.hole_log_sector(0, slot));
            let (Some((disk, ..)), Some(sector)) = (seats[usize::from(slot)], sector) else {
                continue;
            };
            read = read.with(slot);
            let bytes = self.disks[disk].read_bytes(sector, UNITS * 8);
            scan(session, slot, &bytes, super::hash, &mut found).expect("memory");
            rings[usize::from(slot)] = bytes;
        }
        let stretches = plan(&self.geometry, &mut found, read).expect("memory");
        self.mend_all(&stretches, &seats, &rings)
    }

    /// The same, where the log is a row.
    fn replay_row(&mut self, seats: &[Option<(usize, u64, u64)>], all_here: bool) -> Replayed {
        let Some(row) = self.log_row() else {
            return Replayed::Yes;
        };
        let mut writes = KVVec::new();
        let mut areas = vec![Vec::new(); seats.len()];
        let mut all_whole = true;
        for (slot, seat) in (0u16..).zip(seats) {
            let Some(set) = self.set.as_ref() else {
                return Replayed::Yes;
            };
            if let (Some((disk, ..)), Some(sector)) = (seat, set.hole_log_sector(0, slot)) {
                let bytes = self.disks[*disk].read_bytes(sector, row.sectors);
                let is_whole = set.read_left_log(0, slot, &bytes, &mut writes);
                let is_whole = is_whole.expect("memory");
                areas[usize::from(slot)] = bytes;
                all_whole &= is_whole;
                self.tell(|_| format!("   the log of member {slot}: whole: {is_whole}"));
            }
        }
        let mut stretches = KVVec::new();
        for write in &writes {
            let fits = left::stretches(&self.geometry, write, &mut stretches);
            assert!(fits.expect("memory"), "{write:?} does not fit");
        }
        match self.mend_all(&stretches, seats, &areas) {
            Replayed::Yes if !all_whole && !all_here => Replayed::Untold,
            // Nor is it lost for that: it may have what the log does not tell.
            Replayed::Refused(_) if !all_whole => Replayed::Untold,
            replayed => replayed,
        }
    }

    fn mend_all(
        &mut self,
        stretches: &[Stretch],
        seats: &[Option<(usize, u64, u64)>],
        rings: &[Vec<u8>],
    ) -> Replayed {
        let ends = stretches
            .iter()
            .map(|stretch| self.mend(stretch, seats, rings));
        let mut ends = ends.filter(|end| *end != Replayed::Yes);
        ends.next().unwrap_or(Replayed::Yes)
    }

    fn mend(
        &mut self,
        stretch: &Stretch,
        seats: &[Option<(usize, u64, u64)>],
        rings: &[Vec<u8>],
    ) -> Replayed {
        match self.mend_piece(stretch, seats, rings, stretch.sectors == 1) {
            Mended::Yes => return Replayed::Yes,
            Mended::No(end) => return end,
            Mended::Unreadable => {}
        }
        for skip in 0..stretch.sectors {
            let piece = stretch.piece(skip, 1);
            if let Mended::No(end) = self.mend_piece(&piece, seats, rings, true) {
                return end;
            }
        }
        Replayed::Yes
    }

    fn is_known_bad(&self, slot: Slot, first: u64, sectors: u32) -> bool {
        let spot = BadSpot {
            slot,
            first,
            sectors: sectors.into(),
        };
        self.known_holes().iter().any(|bad| bad.overlaps(&spot))
    }

    fn mend_piece(
        &mut self,
        stretch: &Stretch,
        seats: &[Option<(usize, u64, u64)>],
        rings: &[Vec<u8>],
        is_last: bool,
    ) -> Mended {
        let len = stretch.sectors as usize * 512;
        let (mut readable, mut targets) = (Mask::EMPTY, Mask::EMPTY);
        let mut blocks: Vec<KVVec<u8>> = Vec::new();
        for (slot, &seat) in (0..).zip(seats) {
            let mut block = KVVec::from_elem(0, len, GFP_KERNEL).expect("memory");
            let start = self.geometry.member_sector(stretch.stripe, slot);
            if let (Some((disk, offset, right)), Some(start)) = (seat, start) {
                let sector = start + u64::from(stretch.column);
                let is_right = sector + u64::from(stretch.sectors) <= right;
                if is_right && self.is_known_bad(slot, sector, stretch.sectors) {
                    if !is_last {
                        return Mended::Unreadable;
                    }
                    blocks.push(block);
                    continue;
                }
                let mut tries =
                    (0..4).map(|_| self.disks[disk].read(offset + sector, stretch.sectors));
                let tokens = tries.find(Result::is_ok).unwrap_or(Err(IoError::Medium));
                if is_right && tokens.is_err() && !is_last {
                    return Mended::Unreadable;
                }
                if is_right && tokens.is_err() {
                    self.taint(slot, Some((sector, sector + u64::from(stretch.sectors))));
                }
                match tokens {
                    Ok(tokens) if is_right => {
                        readable = readable.with(slot);
                        block.copy_from_slice(&bytes_of(&tokens));
                    }
                    _ => targets = targets.with(slot),
                }
            }
            blocks.push(block);
        }
        let sum = |at: Option<SumAt>| {
            let at = at?;
            let ring = &rings[usize::from(at.slot)];
            let start = (at.start_sectors + at.skip_sectors) as usize * 512;
            let bytes = (start..start + len).map(|at| ring[at % ring.len()]);
            Some(bytes.collect::<Vec<u8>>())
        };
        let (p, q) = (sum(stretch.p), sum(stretch.q));
        let sums = [p.as_deref(), q.as_deref()];
        let write = mend(
            &self.geometry,
            stretch,
            readable,
            targets,
            &mut blocks,
            sums,
        );
        let write = match write {
            Ok(write) => write,
            Err(why) => {
                self.tell(|_| format!("   the log does not help: {why}"));
                return Mended::No(Replayed::Untold);
            }
        };
        self.tell(|_| format!("   the log puts members {:b} right: {stretch:?}", write.0));
        for slot in write.iter() {
            let start = self.geometry.member_sector(stretch.stripe, slot);
            if let (Some((disk, offset, _)), Some(start)) = (seats[usize::from(slot)], start) {
                let tokens: Vec<Token> = blocks[usize::from(slot)]
                    .chunks_exact(512)
                    .map(token_of)
                    .collect();
                let sector = offset + start + u64::from(stretch.column);
                let taken = self.disks[disk].write(&mut self.rng, sector, &tokens, false);
                if taken.is_err() && !self.has(Mistake::UntakenReplayCounts) {
                    self.tell(|_| format!("   member {slot} does not take it"));
                    return Mended::No(Replayed::Refused(slot));
                }
            }
        }
        Mended::Yes
    }
}
