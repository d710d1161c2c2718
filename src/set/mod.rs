// SPDX-License-Identifier: GPL-2.0

//! The control plane: the sets that are held, their metadata, and what is done about failures.
//!
//! One [`Manager`] stands for all of it; there is one in a module. A [`ManagedSet`](managed) stands
//! for one set of disks with common metadata, whether its arrays run or not. What runs of a volume
//! is a [`Running`](state::Running): the array, its block device, and what is being done to it.
//!
//! ```text
//! disk arrives ─► discover ─► probe ─► gather ─► start ─► Array + Disk
//! array kicks ──► recorder ─► record (metadata, flushes) ─► *_recorded()
//!                    └──────► keeper ─► spares, install_member, start_task
//! ioctl ────────► engine (create, stop, delete, member, task)
//! ```
//!
//! | file | subject |
//! |---|---|
//! | [`manager`] | the list of sets, numbers, the clock; module start and end |
//! | [`shared`] | what all sets use: events, work queue, numbers of arrays, the clock's state |
//! | [`probe`] | one disk: facts, metadata, signatures of other users |
//! | [`discover`] | disks that come and go; sets that wait to be complete |
//! | [`managed`] | one set: locks, works, claims of its disks |
//! | [`state`] | what a set's lock protects |
//! | [`record`] | events into metadata, and plans onto disks |
//! | [`start`], [`stop`] | arrays' beginning and end |
//! | [`construct`] | what an array is made of |
//! | [`links`] | what sysfs shows of it |
//! | [`recorder`] | what arrays report, into the metadata. Never waits for an array |
//! | [`progress`] | how far their tasks got and what came of them, as well |
//! | [`bad`] | bad ranges into the metadata; rebuilds that must not count as done because of them |
//! | [`keeper`] | lost members out, new ones in, what else there is to do. May wait for an array |
//! | [`spares`] | which disks take lost members' places |
//! | [`tasks`] | which tasks of volumes are due or asked for, and start |
//! | [`fill`] | new volumes whose disks fill themselves with zeroes |
//! | [`late_spares`] | spares that come when their set is active already |
//! | [`lend`] | spares that belong to no set, for sets that have none |
//! | [`engine`], [`create`], [`member`], [`info`] | what ioctls ask for |
//! | [`arrival`], [`judge`] | disks that come (back) to a set that is active: what they are to it, and what is done |
//! | [`candidate`] | disks that are about to become part of a set |
//!
//! # Locks
//!
//! In this order; each is taken with only those above it held:
//! 1. `Manager::operations`: one operation of a person, or one round of discovery, at a time.
//! 2. `ManagedSet::change`: who changes the arrays of a set: members, start, stop.
//! 3. `ManagedSet::inner`: the metadata, and what runs. Held while metadata is written.
//! 4. Leaves, held for moments: `Manager::sets`, `Manager::news`, `Shared`'s own; the arrays'.
//!
//! Writes to an array may wait until something is recorded, which needs `inner`. So whoever holds
//! `inner` never waits for an array (no `install_member`, `stop`, no adding or removing of a block
//! device), and does not allocate with I/O (see [`crate::block::noio`]). And while arrays run, it takes no
//! lock of the kernel under which others allocate: no opening or closing of disks, no links in sysfs, no new
//! work queues or bio pools, no news for user space. For the same reason the recorder has a work queue of its
//! own: its rescuer must never be at work that waits for memory.

/// Says something in the kernel's log. (The `pr_*` macros take only the kernel's own `Display`.)
macro_rules! log {
    ($level:ident, $($arg:tt)+) => {
        ::kernel::$level!("{}\n", ::core::format_args!($($arg)+))
    };
}

mod activate;
mod arrival;
mod bad;
mod candidate;
mod construct;
mod create;
mod discover;
mod engine;
mod fill;
mod hole;
mod info;
mod judge;
mod keeper;
mod late_spares;
mod left;
mod lend;
mod links;
mod managed;
pub mod manager;
mod member;
mod probe;
mod progress;
mod record;
mod recorder;
mod returned;
mod shared;
mod spares;
mod start;
mod state;
mod stop;
mod tasks;
mod turns;

use crate::metadata::arrival::TakesBack;
use crate::metadata::choice::Choice;

pub use manager::Manager;

/// What the module's parameters say.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a set may wait for members before it starts without them.
    pub start_timeout_ms: u32,
    /// How long no write has to come before an array is recorded as clean.
    pub clean_quiet_ms: u32,
    /// How often it is recorded how far a task got. Looked at every half second.
    pub checkpoint_ms: u32,
    /// Which disks that were left out of updates and are here (again) count as blank, to be rebuilt, without being added.
    pub takes_back: TakesBack,
    /// The formats whose sets are started when their disks appear. Others only a scan starts.
    pub autostart: Choice,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start_timeout_ms: 10_000,
            clean_quiet_ms: 2_000,
            checkpoint_ms: 10_000,
            takes_back: TakesBack::Seen,
            autostart: Choice::ALL,
        }
    }
}
