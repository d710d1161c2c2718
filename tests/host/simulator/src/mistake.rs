// SPDX-License-Identifier: GPL-2.0

//! Classic mistakes, put into the engine on purpose: the simulator has to find each.
//!
//! One that was the driver's own is none any more: that a member of a mirror which was rebuilt since a crash leads the others
//! where no sync has passed. A rebuild begins where copies may differ first
//! ([`Trust`](emd_core::personalities::rebuild::Trust), [`Mistake::MarksBelieved`]), so its copy is that of the member that
//! leads otherwise; of more than two copies nobody promises which one is read before the sync.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// A user's flush is acknowledged without one going to the members.
    FlushLeftOut,
    /// FUA is dropped on the way to the members.
    FuaDropped,
    /// Writes go to the members while the dirty mark is still being recorded.
    DirtyAfterWrite,
    /// Clean is recorded while writes are in flight.
    CleanBeforeLastWrite,
    /// Clean is recorded while writes are in the members' caches.
    CleanWithoutFlush,
    /// Data changes between the computation of parity and the write.
    ParityFromChangedData,
    /// A member that was left out of writes is used again after a restart as if it was in sync.
    StaleTrusted,
    /// A disk that was left out of updates is rebuilt, whoever may want what it holds.
    StaleTakenBack,
    /// Where a format has one word for disks that failed and for such as are away, one that was away counts as used apart.
    AwayTakenForApart,
    /// One that calls another one lost counts as used apart, though the set saw that one lost, this one go, and that one come back.
    ReturnNotSeen,
    /// A disk that is here and cannot be read counts as one that the others do without.
    UnreadCounts,
    /// A rebuild's mark, below which the new member is read, is ahead of what is written.
    MarkAheadOfData,
    /// A mark passes a row of the members when one span of a two-level volume is through with it.
    MarkOfOneSpan,
    /// A checkpoint is recorded without a flush of what it promises.
    CheckpointWithoutFlush,
    /// A rebuild is recorded as done without a flush of the new member.
    RebuiltWithoutFlush,
    /// Writes are acknowledged before the failure of a member that missed them is recorded.
    AcknowledgedBeforeRecorded,
    /// Writes leave out members that are being rebuilt.
    RebuildNotWritten,
    /// Metadata is written without regard to phases.
    PhasesReordered,
    /// A plan that a disk did not take is carried out anew by all, and not from where each of them was.
    PlanBegunAnew,
    /// A disk that is gone with a part of a plan counts as one that has all of it.
    GoneCounts,
    /// No resync after a crash.
    ResyncSkipped,
    /// Lanes are not locked.
    LanesNotLocked,
    /// A read's repair goes on without having the lane for itself.
    RepairOverNew,
    /// Reads of copies are repaired while writes that took no lane locks are in flight.
    RepairMeetsWrites,
    /// An unreadable sector where parity is not known to agree has its whole lane written from parity.
    LaneFromDistrustedParity,
    /// All of a range of which a sector cannot be read is worked out from other members, and written again.
    RangeFromOthers,
    /// A read in a lane fails with the member that it asks first.
    ErrorNotServed,
    /// A repair takes a lane as one thing, though different members are wrong in different sectors of it.
    LaneAsOneThing,
    /// The mark of an initialisation is recorded, or stays recorded, while writes are in flight below it.
    MarkKeptWhileDirty,
    /// What was recorded in memory only, because no disk took it, counts as recorded.
    UnwrittenCounts,
    /// A spare counts as in sync as soon as it takes a place.
    SpareTrustedAtOnce,
    /// Parity where it was never established is built upon.
    UnsyncedParityTrusted,
    /// A write that cannot work parity out anew leaves it behind as if a rebuild was to come by.
    ParityLeftBehind,
    /// What a mirror's last good member did not take stays on the one that is being rebuilt.
    NotTakenBack,
    /// A logged write goes on as it was planned, though a member that it counts on is lost since.
    PlannedWithLost,
    /// After an unclean stop a mirror's rebuild goes on from its mark, below which copies may differ.
    MarksBelieved,
    /// The mark of a task passes a lane that failed.
    MarkPastFailedLane,
    /// A task on a mirror starts while writes that took no lane locks are in flight.
    TaskWithoutDrain,
    /// Copies that may differ after a crash are read wherever it is convenient, not where the resync
    /// will copy from.
    UnsyncedCopiesRead,
    /// Who reads copies that may differ does not wait for what a sync still writes from a member that was
    /// just lost.
    ReadBeforeLastSync,
    /// Where no sync has passed, that takes another copy than reads do.
    SyncTakesAnother,
    /// A write that cannot work parity out leaves it behind on a member that the rebuild has filled there,
    /// though its mark is not that far.
    FilledAheadLeftBehind,
    /// What a held task has in flight counts as done.
    HeldCounts,
    /// Whatever is cancelled ends, and counts as done.
    CancelCounts,
    /// A member that joined a rebuild late counts as right below the mark, where it was not filled yet.
    LateTrusted,
    /// Partial parity is not logged.
    LogLeftOut,
    /// It is, but into the member's cache.
    LogInCache,
    /// It is made of data that is only in caches.
    LogWithoutFlush,
    /// Writes that need no log leave what is there for their lane as it is.
    VoidLeftOut,
    /// The log is not looked at when the volume starts.
    ReplaySkipped,
    /// A member that did not take what the log says counts as if it had.
    UntakenReplayCounts,
    /// What the log put right is only in caches when its entries count no more.
    ReplayNotFlushed,
    /// Entries of the last start count after the next.
    SessionKept,
    /// A disk that comes back brings its old entries.
    RingNotCleared,
    /// A disk that cannot be done without need not take what the others do.
    WrittenWithoutNeeded,
    /// A task ends, and writes go around the lanes, while who read a copy there still writes it again.
    RepairOutlivesTask,
    /// A write goes to the members while its region is still being recorded.
    WriteBeforeRegion,
    /// Regions are taken for quiet while writes to them are in flight.
    RegionClearedInFlight,
    /// Regions are recorded as clean while what was written there is in the members' caches.
    RegionsCleanWithoutFlush,
    /// Regions are taken for quiet where a resync has not been yet.
    RegionClearedUnsynced,
    /// What the end of a sync has the metadata call clean counts as recorded still.
    RegionsNotFollowed,
    /// Bad ranges are read as if they were none.
    BadRangeRead,
    /// Where copies may differ, a bad range on one of them has all of a read go to another one.
    BadRangeMovesRead,
    /// A bad range makes all of its lane count as missing.
    BadRangeTakesLane,
    /// What a rebuild could not fill is not recorded.
    BadRangeNotRecorded,
    /// A rebuild is called done that left what the format has no place for.
    UnkeptCounts,
    /// The mark of a rebuild is recorded before what it could not fill.
    MarkPastBadRange,
    /// With a log, writes go on without a member while nobody recorded that it is lost.
    LossNotWaitedFor,
    /// A bad range that was written is recorded as good while what was written is in the member's cache.
    BadRangeClearedInCache,
    /// What was written to a bad range of which that cannot be recorded counts, if some of the write was not back by then.
    VoidClearingCounts,
}

impl Mistake {
    /// All of them.
    pub const ALL: &'static [Mistake] = &[
        Mistake::FlushLeftOut,
        Mistake::FuaDropped,
        Mistake::DirtyAfterWrite,
        Mistake::CleanBeforeLastWrite,
        Mistake::CleanWithoutFlush,
        Mistake::ParityFromChangedData,
        Mistake::StaleTrusted,
        Mistake::StaleTakenBack,
        Mistake::AwayTakenForApart,
        Mistake::ReturnNotSeen,
        Mistake::UnreadCounts,
        Mistake::MarkAheadOfData,
        Mistake::MarkOfOneSpan,
        Mistake::CheckpointWithoutFlush,
        Mistake::RebuiltWithoutFlush,
        Mistake::AcknowledgedBeforeRecorded,
        Mistake::RebuildNotWritten,
        Mistake::PhasesReordered,
        Mistake::PlanBegunAnew,
        Mistake::GoneCounts,
        Mistake::ResyncSkipped,
        Mistake::LanesNotLocked,
        Mistake::RepairOverNew,
        Mistake::RepairMeetsWrites,
        Mistake::LaneFromDistrustedParity,
        Mistake::RangeFromOthers,
        Mistake::ErrorNotServed,
        Mistake::LaneAsOneThing,
        Mistake::UnwrittenCounts,
        Mistake::MarkKeptWhileDirty,
        Mistake::SpareTrustedAtOnce,
        Mistake::UnsyncedParityTrusted,
        Mistake::ParityLeftBehind,
        Mistake::NotTakenBack,
        Mistake::PlannedWithLost,
        Mistake::MarksBelieved,
        Mistake::MarkPastFailedLane,
        Mistake::TaskWithoutDrain,
        Mistake::UnsyncedCopiesRead,
        Mistake::ReadBeforeLastSync,
        Mistake::SyncTakesAnother,
        Mistake::FilledAheadLeftBehind,
        Mistake::HeldCounts,
        Mistake::CancelCounts,
        Mistake::LateTrusted,
        Mistake::LogLeftOut,
        Mistake::LogInCache,
        Mistake::LogWithoutFlush,
        Mistake::VoidLeftOut,
        Mistake::LossNotWaitedFor,
        Mistake::ReplaySkipped,
        Mistake::UntakenReplayCounts,
        Mistake::ReplayNotFlushed,
        Mistake::SessionKept,
        Mistake::RingNotCleared,
        Mistake::WrittenWithoutNeeded,
        Mistake::RepairOutlivesTask,
        Mistake::WriteBeforeRegion,
        Mistake::RegionClearedInFlight,
        Mistake::RegionsCleanWithoutFlush,
        Mistake::RegionClearedUnsynced,
        Mistake::RegionsNotFollowed,
        Mistake::BadRangeRead,
        Mistake::BadRangeMovesRead,
        Mistake::BadRangeTakesLane,
        Mistake::BadRangeNotRecorded,
        Mistake::UnkeptCounts,
        Mistake::MarkPastBadRange,
        Mistake::BadRangeClearedInCache,
        Mistake::VoidClearingCounts,
    ];

    /// The mistake whose `Debug` name is `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|mistake| format!("{mistake:?}") == name)
    }
}
