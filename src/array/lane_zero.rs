// SPDX-License-Identifier: GPL-2.0

//! Lanes that are all zeroes: members fill them by themselves (`REQ_OP_WRITE_ZEROES`), and forget what was there if they
//! can, instead of being sent them.
//!
//! Data that is all zeroes has parities that are, so every member of such a lane gets the same command. Disks advertise it
//! and refuse it all the same. Then all of the lane is sent as data, to all members: whatever those that took the command
//! hold by then, they all hold zeroes afterwards, and whoever does not take data either has failed.

use super::lane_op::{Body, LaneOp};
use super::lane_run::covers_lane;
use super::Array;
use crate::block::batch::launch;
use crate::block::bio::IoRef;
use crate::block::raw::{REQ_NOUNMAP, REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES};
use crate::personalities::lane::Job;
use crate::personalities::{Kind, Mask};
use kernel::prelude::*;

/// How far it is with that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Zeroing {
    /// Nothing was sent.
    Possible,
    /// Members were told.
    Told,
    /// One of them refused, or failed: data is to be sent.
    Refused,
    /// Data was sent.
    GivenUp,
}

/// Whether a user's bio stands for zeroes, and has no data.
pub(super) fn has_no_data(io: &IoRef<Array>) -> bool {
    matches!(io.op(), REQ_OP_WRITE_ZEROES | REQ_OP_DISCARD)
}

/// Decides, right before the write to `members`, whether they are told. What is written through (FUA) is sent: the command
/// knows no such thing.
pub(super) fn begin(body: &mut Body, members: Mask) -> bool {
    let is_told = body.zeroing == Zeroing::Possible
        && matches!(body.job, Job::Write { .. })
        && !body.fua
        && body.run_sectors == body.sectors
        && !body.fragments.is_empty()
        && body.fragments.iter().all(|part| has_no_data(&part.io))
        && body.array().is_some_and(|pass| {
            let all_is_zero = match pass.geometry.kind() {
                Kind::Parity => covers_lane(pass, body),
                // Copies of what is written, and nothing else.
                Kind::Mirrored | Kind::Copies => true,
                Kind::Concat | Kind::Striped => false,
            };
            let zeroes_itself = |slot| {
                let member = pass.table().member(slot);
                member.is_some_and(|member| member.device.zeroes_itself())
            };
            all_is_zero && members.iter().all(zeroes_itself)
        });
    body.zeroing = match (is_told, body.zeroing) {
        (true, _) => Zeroing::Told,
        // A second write, of what a member holds, is none of zeroes.
        (false, Zeroing::Possible | Zeroing::Refused) => Zeroing::GivenUp,
        (false, zeroing) => zeroing,
    };
    is_told
}

/// Tells the members.
pub(super) fn send(op: Pin<KBox<LaneOp>>, members: Mask) {
    launch(op, |op, launcher| {
        let body = &op.body;
        let Some(pass) = body.array() else { return };
        // One user who wants the room kept is enough.
        let mut opfs = body.fragments.iter().map(|part| part.io.opf());
        let keeps_room = match opfs.any(|opf| opf & REQ_NOUNMAP != 0) {
            true => REQ_NOUNMAP,
            false => 0,
        };
        for slot in members.iter() {
            match pass.table().member(slot) {
                Some(member) => launcher.zero(
                    slot,
                    &member.device,
                    member.offset_sectors + pass.run_sector(body, slot),
                    body.run_sectors,
                    keeps_room,
                ),
                None => launcher.fail(slot),
            }
        }
    });
}

/// A batch with failures is back: whether these are of members that were told to zero. Then the same step is due once more,
/// which sends data.
pub(super) fn refused(body: &mut Body) -> bool {
    let is_refused = body.zeroing == Zeroing::Told;
    if is_refused {
        body.zeroing = Zeroing::Refused;
    }
    is_refused
}
