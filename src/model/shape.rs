// SPDX-License-Identifier: GPL-2.0

//! Levels, layouts and the shape of a volume: everything that decides where a byte is.

use core::fmt;

/// RAID level of one span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Members one after another.
    Concat,
    /// Striped, no redundancy.
    Raid0,
    /// Every member holds everything.
    Raid1,
    /// Striped mirrors over any number of members.
    Raid1e,
    /// md's RAID 10: copies over any number of members.
    Raid10,
    /// Striped with one dedicated parity member.
    Raid4,
    /// Striped with rotating parity.
    Raid5,
    /// Striped with rotating parity and Q syndrome.
    Raid6,
}

impl Level {
    /// All levels, in the order in which tables show them.
    pub const ALL: [Level; 8] = [
        Level::Concat,
        Level::Raid0,
        Level::Raid1,
        Level::Raid1e,
        Level::Raid10,
        Level::Raid4,
        Level::Raid5,
        Level::Raid6,
    ];

    /// Short name as people type it: `raid5`, `concat`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Concat => "concat",
            Level::Raid0 => "raid0",
            Level::Raid1 => "raid1",
            Level::Raid1e => "raid1e",
            Level::Raid10 => "raid10",
            Level::Raid4 => "raid4",
            Level::Raid5 => "raid5",
            Level::Raid6 => "raid6",
        }
    }

    /// Whether the level keeps any redundancy.
    pub fn is_redundant(self) -> bool {
        !matches!(self, Level::Concat | Level::Raid0)
    }

    /// Whether marks of a sync (`ResyncProgress`, `Consistency::Initialising`, `RegionLog`) count
    /// sectors of the volume: RAID 10 and 1E, whose copies are not side by side. All other levels
    /// count sectors of each member. (Marks of a rebuild always count sectors of the member.)
    pub fn syncs_by_volume(self) -> bool {
        matches!(self, Level::Raid10 | Level::Raid1e)
    }

    /// What marks of a sync count up to, in a volume of `size_sectors` that takes `member_sectors` of each
    /// member. (An array's geometry may need less of the members than they have: its syncs end there.)
    pub fn sync_sectors(self, size_sectors: u64, member_sectors: u64) -> u64 {
        if self.syncs_by_volume() {
            size_sectors
        } else {
            member_sectors
        }
    }

    /// Parity members in each stripe (P, or P and Q).
    pub fn parity_members(self) -> u16 {
        match self {
            Level::Raid4 | Level::Raid5 => 1,
            Level::Raid6 => 2,
            _ => 0,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How parity moves from stripe to stripe, and where data starts.
///
/// Names are md's; the DDF qualifier is given in brackets (SNIA DDF 2.0 §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// P starts on the last member and moves down; data starts at member 0 (RLQ 2).
    LeftAsymmetric,
    /// P starts on the last member and moves down; data goes on after P (RLQ 3).
    LeftSymmetric,
    /// P starts on the first member and moves up; data starts at member 0 (RLQ 0).
    RightAsymmetric,
    /// P starts on the first member and moves up; data goes on after P (RLQ 1).
    RightSymmetric,
    /// P stays on the first member (RAID 4).
    ParityFirst,
    /// P stays on the last member (RAID 4).
    ParityLast,
    /// DDF RAID 6, parity from member 0, data restarts (RLQ 1).
    DdfZeroRestart,
    /// DDF RAID 6, parity from member N, data restarts (RLQ 2).
    DdfNRestart,
    /// DDF RAID 6, parity from member N, data continues (RLQ 3).
    DdfNContinue,
    /// RAID 6: left-asymmetric over all members but the last, which has Q (md layout 16).
    LeftAsymmetric6,
    /// RAID 6: right-asymmetric over all members but the last, which has Q (md layout 17).
    RightAsymmetric6,
    /// RAID 6: left-symmetric over all members but the last, which has Q (md layout 18).
    LeftSymmetric6,
    /// RAID 6: right-symmetric over all members but the last, which has Q (md layout 19).
    RightSymmetric6,
    /// RAID 6: P stays on the first member, Q on the last (md layout 20).
    ParityFirst6,
}

impl Rotation {
    /// Name as people type it.
    pub fn name(self) -> &'static str {
        match self {
            Rotation::LeftAsymmetric => "left-asymmetric",
            Rotation::LeftSymmetric => "left-symmetric",
            Rotation::RightAsymmetric => "right-asymmetric",
            Rotation::RightSymmetric => "right-symmetric",
            Rotation::ParityFirst => "parity-first",
            Rotation::ParityLast => "parity-last",
            Rotation::DdfZeroRestart => "ddf-zero-restart",
            Rotation::DdfNRestart => "ddf-N-restart",
            Rotation::DdfNContinue => "ddf-N-continue",
            Rotation::LeftAsymmetric6 => "left-asymmetric-6",
            Rotation::RightAsymmetric6 => "right-asymmetric-6",
            Rotation::LeftSymmetric6 => "left-symmetric-6",
            Rotation::RightSymmetric6 => "right-symmetric-6",
            Rotation::ParityFirst6 => "parity-first-6",
        }
    }

    /// All rotations.
    pub const ALL: [Rotation; 14] = [
        Rotation::LeftAsymmetric,
        Rotation::LeftSymmetric,
        Rotation::RightAsymmetric,
        Rotation::RightSymmetric,
        Rotation::ParityFirst,
        Rotation::ParityLast,
        Rotation::DdfZeroRestart,
        Rotation::DdfNRestart,
        Rotation::DdfNContinue,
        Rotation::LeftAsymmetric6,
        Rotation::RightAsymmetric6,
        Rotation::LeftSymmetric6,
        Rotation::RightSymmetric6,
        Rotation::ParityFirst6,
    ];
}

/// The part of a level's geometry that the level alone does not fix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Nothing to choose (concat, RAID 0, RAID 1).
    Plain,
    /// RAID 4, 5, 6: where parity and data are.
    Parity(Rotation),
    /// RAID 1E and 10: copies on adjacent members, as md's near.
    Near(u8),
    /// RAID 10: copies in distant halves, as md's far.
    Far(u8),
    /// RAID 1E and 10: copies in the next row, one member on, as md's offset.
    Offset(u8),
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Plain => f.write_str("-"),
            Layout::Parity(rotation) => f.write_str(rotation.name()),
            Layout::Near(copies) => write!(f, "near={copies}"),
            Layout::Far(copies) => write!(f, "far={copies}"),
            Layout::Offset(copies) => write!(f, "offset={copies}"),
        }
    }
}

/// Where everything in a volume is, but for the members' own offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Level of each span.
    pub level: Level,
    /// Layout of each span.
    pub layout: Layout,
    /// Members in each span.
    pub members: u16,
    /// Spans; more than one is a two-level volume (RAID 50, 60), striped over the spans: one full
    /// stripe of data (chunk × data members) of each in turn. (RAID 10 is a level of its own, one
    /// span of all members.)
    pub spans: u16,
    /// Chunk (strip) length; 0 where the level has none.
    pub chunk_sectors: u32,
    /// Sectors used on each member.
    pub member_sectors: u64,
}

impl Shape {
    /// [`Level::syncs_by_volume`].
    pub fn syncs_by_volume(&self) -> bool {
        self.level.syncs_by_volume()
    }

    /// [`Level::sync_sectors`], of a volume of `size_sectors`.
    pub fn sync_sectors(&self, size_sectors: u64) -> u64 {
        self.level.sync_sectors(size_sectors, self.member_sectors)
    }

    /// Members over all spans.
    pub fn members_total(&self) -> usize {
        usize::from(self.members) * usize::from(self.spans)
    }
}
