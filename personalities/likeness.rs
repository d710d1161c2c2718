// SPDX-License-Identifier: GPL-2.0

//! Whether a sync had better look at what it finds.
//!
//! After a crash most copies and parities agree, and comparing saves the writes. On members that were never in sync
//! nothing agrees, and whoever reads what he overwrites anyway reads in vain. Which of the two it is shows after a few
//! lanes; and as it may change on the way, every now and then one is looked at.

/// So many lanes in a row that differ, and the next will too.
pub const HOPELESS: u32 = 16;

/// Of so many lanes one is looked at all the same.
pub const PROBED: u64 = 32;

/// What a sync has found lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Likeness {
    /// Lanes in a row that did not agree; not counted beyond [`HOPELESS`].
    differing: u32,
}

impl Likeness {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { differing: 0 }
    }

    /// A lane was looked at.
    pub fn note(&mut self, differs: bool) {
        self.differing = match differs {
            true => (self.differing + 1).min(HOPELESS),
            false => 0,
        };
    }

    /// Whether `lane` need not be looked at.
    pub fn is_hopeless(&self, lane: u64) -> bool {
        self.differing >= HOPELESS && lane % PROBED != 0
    }
}
