// SPDX-License-Identifier: GPL-2.0

//! The log that closes the write hole of RAID 4, 5 and 6: partial parity, written before a stripe is.
//!
//! # The hole
//!
//! Data and parity of a stripe are written to several members. Power that goes in between leaves them
//! disagreeing, and what a missing member held, before the crash or from now on, comes out wrong: data
//! that nobody was writing.
//!
//! # The way out
//!
//! Before a write that leaves some data of its lane alone, the *partial parity* goes to the log on the
//! member that has the parity: the sum of all data that the write leaves alone (as md's PPL has it), and
//! of the new data of those written members that are not there to take it. For RAID 6 both sums go, each
//! with its own parity. Data that is missing after a crash follows from these sums and the data that was
//! left alone; what was half written does not come into it. Then parity is worked out anew.
//!
//! * Where the parity's member is lost too, the log is, and as many losses fewer are to be made up for.
//! * A write of all data of a lane leaves nothing alone: it needs no sum, and costs nothing. But a sum
//!   that is still in the log for such a lane is out of date from then on, and must not be used: then a
//!   *void* entry goes first.
//! * What a sum is made of must be on the medium when the sum is: a lane that was written since the
//!   members' caches were flushed is logged after a flush only. So of several entries of a lane only the
//!   last one counts.
//! * An entry may be overwritten when what it was written for is on the medium.
//!
//! # What is not promised
//!
//! A write that was under way when power went, and of which a member is lost at the same time: what
//! was being written there may be anything. (On a member that was lost *before*, it is old or new.)
//!
//! # Where things are
//!
//! | file | |
//! |---|---|
//! | `entry` | what an entry looks like, and what is found in a log |
//! | `ring` | where the next one goes on its member, and when it may |
//! | `watch` | lanes with entries, and lanes whose data may be in a cache |
//! | `replay` | after a crash: what to put right, and how |
//! | `row` | the other kind of log, which other drivers keep too: when its next header may be written, and what it says |
//! | `kinds` | a log of either kind |
//! | `left` | what is to be put right by the other kind |
//!
//! Each member has a ring of its own, in a place that the format gives. Entries carry the *session*: a
//! random number that the metadata keeps, new at every start, so that nothing that was left behind, and
//! nothing that users wrote, is taken for an entry.

pub mod entry;
pub mod kinds;
pub mod left;
pub mod replay;
pub mod ring;
pub mod row;
pub mod watch;

pub use entry::{Entry, Session, Sum, UNIT_BYTES, UNIT_SECTORS};
pub use kinds::{Log, Spot};
pub use ring::{Place, Refusal, Ring};
pub use row::{Row, RowPlace};
pub use watch::Watch;

/// Most sectors that one entry covers.
pub const SECTORS_MAX: u32 = 128;

/// Least length of a ring, in units: three entries of the largest size.
pub const UNITS_MIN: u32 = 3 * (1 + SECTORS_MAX / UNIT_SECTORS);

/// Most units of a ring that are used.
pub const UNITS_MAX: u32 = 1024;
