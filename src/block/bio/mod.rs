// SPDX-License-Identifier: GPL-2.0

//! Bios: those that users hand to an array, and the clones that carry their pieces to members.
//!
//! ```text
//! submit_bio → UserBio ── IoRef::begin ──► Io (counted by IoRefs; lives in a carrier bio)
//!                                            │ pieces: clones of the user's bio, one a member
//!                                            ▼
//!                        each piece's end → IoOwner::piece_done → drop of its IoRef
//!                        last IoRef dropped → IoOwner::io_done(FinishedIo) → FinishedIo::end
//! ```
//!
//! C header: `include/linux/bio.h`.

mod io;
mod list;
mod piece;
mod set;
mod user;

pub use io::{FinishedIo, FinishedList, IoOwner, IoRef, IoSet, PieceInfo, StalledList};
pub use piece::{DonePiece, DonePieces, Piece, ReadyPiece, ReadyPieces};
pub use set::BioSet;
pub use user::{BioList, Status, UserBio};
