// SPDX-License-Identifier: GPL-2.0

//! The disks' I/O: sent, and back in any order.

use crate::disk::{IoError, Token};
use crate::sim::Sim;
use emd_core::model::{DiskIndex, Slot};

/// What a disk is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Data, from the disk's first sector on.
    Read(u64, u32),
    /// New data; whether it is forced to the medium.
    Write(u64, Vec<Token>, bool),
    /// New metadata, or log entries; whether it is forced to the medium.
    WriteBytes(u64, Vec<u8>, bool),
    /// A flush that covers what the number says.
    Flush(u64),
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A lane op's step.
    Lane(usize, Slot),
    /// Piece of a user's I/O on a member.
    Piece(usize, Slot, u64),
    /// A user's flush of a member.
    UserFlush(usize, Slot),
    /// The worker's plan, on a disk of the set.
    Plan(DiskIndex),
    /// The worker's flush of a member.
    MemberFlush(Slot),
}

/// I/O on the way.
#[derive(Clone, Debug)]
pub struct Io {
    /// The disk.
    pub disk: usize,
    /// What it is asked.
    pub request: Request,
    /// Who asked.
    pub owner: Owner,
    /// It takes long.
    is_slow: bool,
}

/// Contents for people: four digits of each sector.
pub fn show(tokens: &[Token]) -> String {
    let mut text: Vec<String> = tokens
        .iter()
        .take(8)
        .map(|token| format!("{:04x}", token & 0xFFFF))
        .collect();
    if tokens.len() > 8 {
        text.push("…".into());
    }
    text.join(" ")
}

impl Sim {
    /// Sends a request to a disk.
    pub fn send(&mut self, disk: usize, request: Request, owner: Owner) {
        let is_write = matches!(request, Request::Write(..) | Request::WriteBytes(..));
        if is_write && self.left_alone.contains(&disk) {
            let text = format!("{owner:?} writes to disk {disk}, which nobody added");
            self.violate("who was left out is left alone", text);
        }
        let is_slow = self.rng.chance(2);
        self.flying.push(Io {
            disk,
            request,
            owner,
            is_slow,
        });
    }

    pub(crate) fn complete_one(&mut self) {
        let index = self.rng.below(self.flying.len());
        if self.flying[index].is_slow && self.rng.chance(96) {
            return;
        }
        let io = self.flying.swap_remove(index);
        let disk = &mut self.disks[io.disk];
        let mut data = Vec::new();
        let result = match &io.request {
            Request::Read(sector, sectors) => disk.read(*sector, *sectors).map(|read| data = read),
            Request::Write(sector, data, fua) => disk.write(&mut self.rng, *sector, data, *fua),
            Request::WriteBytes(sector, bytes, fua) => {
                disk.write_bytes(&mut self.rng, *sector, bytes, *fua)
            }
            Request::Flush(mark) => disk.flush(&mut self.rng, *mark),
        };
        if result.is_err() {
            self.last_fault = self.now;
        }
        let is_metadata = matches!(io.owner, Owner::Plan(_));
        if !is_metadata || result.is_err() {
            self.tell_io(&io, result, &data);
        }
        self.completed(&io, result, data);
    }

    pub(crate) fn tell_io(&mut self, io: &Io, result: Result<(), IoError>, data: &[Token]) {
        self.tell(|_| {
            let what = match &io.request {
                Request::Read(sector, sectors) => {
                    format!("read {sector}+{sectors} = {}", show(data))
                }
                Request::Write(sector, data, fua) => {
                    let fua = if *fua { " FUA" } else { "" };
                    format!("write{fua} {sector}+{} = {}", data.len(), show(data))
                }
                Request::WriteBytes(sector, bytes, _) => {
                    format!("metadata write {sector}+{}", bytes.len() / 512)
                }
                Request::Flush(_) => "flush".into(),
            };
            let end = match result {
                Ok(()) => String::new(),
                Err(why) => format!(": {why:?} ERROR"),
            };
            format!("      disk {} {what} ({:?}){end}", io.disk, io.owner)
        });
    }

    pub(crate) fn completed(&mut self, io: &Io, result: Result<(), IoError>, data: Vec<Token>) {
        if let Err(why) = result {
            self.note_unread(io, why);
        }
        if let (Request::Read(sector, sectors), Err(IoError::Medium)) = (&io.request, result) {
            let place = self.places.iter().position(|place| {
                place.is_some_and(|place| place.0 == io.disk && place.1 <= *sector)
            });
            if let Some(slot) = place {
                let row = *sector - self.places[slot].map_or(0, |place| place.1);
                for row in row..row + u64::from(*sectors) {
                    let sector = row + self.places[slot].map_or(0, |place| place.1);
                    if let Some(logical) = self.geometry.logical(slot as Slot, row) {
                        if self.is_copied() {
                            self.oracle.copy_unreadable(logical);
                        }
                    }
                    if *sectors == 1 || self.disks[io.disk].is_bad(sector, 1) {
                        self.taint(slot as Slot, Some((row, row + 1)));
                    }
                }
            }
        }
        match io.owner {
            Owner::Lane(op, slot) => self.lane_io_done(op, slot, result, data),
            Owner::Piece(user, slot, sector) => {
                let sectors = match &io.request {
                    Request::Read(_, sectors) => *sectors,
                    Request::Write(_, data, _) => data.len() as u32,
                    _ => 0,
                };
                self.piece_done(user, slot, (sector, sectors), result, data);
            }
            Owner::UserFlush(user, slot) => self.user_flush_done(user, slot, result),
            Owner::Plan(disk) => self.plan_io_done(disk, result),
            Owner::MemberFlush(slot) => self.member_flush_done(slot, result),
        }
    }

    /// Sends a flush to a disk.
    pub fn send_flush(&mut self, disk: usize, owner: Owner) {
        let mark = self.disks[disk].flush_mark();
        self.send(disk, Request::Flush(mark), owner);
    }
}
