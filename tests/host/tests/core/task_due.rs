// SPDX-License-Identifier: GPL-2.0

//! Which task a volume is due, which one makes way or waits for which, and what is recorded of one.

use crate::task_stage::{regions_of, shape};
use emd_core::model::{
    Access, Consistency, CrashPolicy, Identity, Layout, Level, Member, MemberState, Scrub,
    TaskKind, Text, Volume,
};
use emd_core::personalities::rebuild::{Late, Pass, Trust};
use emd_core::personalities::task::due::{lets_join, makes_way, waiting, Needs};
use emd_core::personalities::task::record::{Filled, Standing};
use emd_core::personalities::Mask;
use kernel::prelude::{KVec, GFP_KERNEL};

use Consistency::{Clean, Dirty, Initialising};
use MemberState::{Failed, InSync, Missing, Rebuilding};
use TaskKind::{Check, Initialise, Rebuild, Repair, Resync};

const ALL: [TaskKind; 5] = [Initialise, Rebuild, Resync, Check, Repair];

fn volume(states: &[MemberState], consistency: Consistency) -> Volume {
    let mut members = KVec::new();
    for (disk, &state) in (0u16..).zip(states) {
        let member = Member {
            disk: Some(disk),
            offset_sectors: 0,
            state,
        };
        members.push(member, GFP_KERNEL).expect("memory");
    }
    Volume {
        id: Identity::new(b"one"),
        name: Text::new(),
        shape: shape(Level::Raid1, Layout::Plain, states.len() as u16, 1),
        size_sectors: 160,
        members,
        consistency,
        access: Access::ReadWrite,
        regions: None,
        stretches: KVec::new(),
        scrub: None,
        crash_policy: CrashPolicy::Resync,
        block_bytes: 0,
        deleted: false,
    }
}

/// What a volume needs whose members the array has.
fn needs(volume: &Volume) -> Needs<'_> {
    Needs {
        volume,
        fillable: Mask(0b111),
        trust: Trust::FULL,
        late: Late::NONE,
        sync_from: None,
        can_compare: true,
    }
}

fn filling(mask: u64, from_sectors: u64) -> Option<(TaskKind, Pass)> {
    let pass = Pass {
        targets: Mask(mask),
        marked: Mask(mask),
        ..Pass::sync(from_sectors)
    };
    Some((Rebuild, pass))
}

#[test]
fn which_task_is_due() {
    let fine = volume(&[InSync, InSync, InSync], Clean);
    assert_eq!(needs(&fine).task(), None);
    let sync = |volume: &Volume, can_compare| {
        let needs = Needs {
            sync_from: Some(32),
            can_compare,
            ..needs(volume)
        };
        needs.task()
    };
    let done_sectors = 32;
    for (consistency, kind) in [
        (Clean, Resync),
        (Dirty, Resync),
        (Initialising { done_sectors }, Initialise),
    ] {
        let fine = volume(&[InSync, InSync, InSync], consistency);
        assert_eq!(sync(&fine, true), Some((kind, Pass::sync(32))));
        // There is nothing that could be compared.
        assert_eq!(sync(&fine, false), None);
    }
    // What fills a member goes first.
    let filled = volume(&[InSync, Rebuilding { done_sectors: 48 }, InSync], Dirty);
    assert_eq!(sync(&filled, true), filling(0b010, 48));
    assert_eq!(needs(&filled).task(), filling(0b010, 48));
    let lost = volume(&[InSync, Failed, Missing], Clean);
    assert_eq!(needs(&lost).task(), None);
}

#[test]
fn only_what_the_array_has_is_filled() {
    let done_sectors = 48;
    let two = volume(
        &[
            InSync,
            Rebuilding { done_sectors },
            Rebuilding { done_sectors },
        ],
        Dirty,
    );
    assert_eq!(needs(&two).task(), filling(0b110, 48));
    // One is not there, or its rebuild is withheld.
    let one = Needs {
        fillable: Mask(0b101),
        ..needs(&two)
    };
    assert_eq!(one.task(), filling(0b100, 48));
    let none = Needs {
        fillable: Mask(0b001),
        sync_from: Some(0),
        ..needs(&two)
    };
    assert_eq!(none.task(), Some((Resync, Pass::sync(0))));
    // The second pass of one that joined late.
    let late = Needs {
        late: Late {
            members: Mask(0b100),
            from_sectors: 80,
        },
        ..one
    };
    let (kind, pass) = late.task().expect("a second pass");
    assert_eq!((kind, pass.until_sectors), (Rebuild, Some(80)));
}

#[test]
fn a_mark_that_is_not_believed_does_not_count() {
    let filled = volume(&[InSync, Rebuilding { done_sectors: 48 }, InSync], Dirty);
    let shape = shape(Level::Raid1, Layout::Plain, 3, 1);
    let geometry = crate::task_stage::geometry(&shape);
    let crashed = Needs {
        trust: Trust::at_start(&geometry, Dirty, None),
        ..needs(&filled)
    };
    assert_eq!(crashed.task(), filling(0b010, 0));
}

#[test]
fn what_makes_way_and_what_waits() {
    for at_work in ALL {
        for needed in ALL {
            let makes = at_work != Rebuild && needed == Rebuild;
            assert_eq!(makes_way(at_work, Some(needed)), makes);
        }
        assert!(!makes_way(at_work, None));
    }
    // Nobody who has redundancy agree waits for who only looks whether it does.
    for (kind, at_work, waits) in [
        (Rebuild, Check, false),
        (Resync, Repair, false),
        (Initialise, Check, false),
        (Check, Repair, true),
        (Repair, Rebuild, true),
        (Rebuild, Resync, true),
        (Initialise, Initialise, true),
    ] {
        assert_eq!(kind.waits_for(at_work), waits, "{kind:?}, {at_work:?}");
    }
}

#[test]
fn which_rebuild_ends_for_one_that_joins() {
    let (_, first) = filling(0b010, 48).expect("a rebuild");
    let second = Pass {
        until_sectors: Some(80),
        ..first
    };
    // One that catches up is let through, and one that is held is left alone.
    for (pass, is_held, joins) in [
        (first, false, true),
        (first, true, false),
        (second, false, false),
        (Pass::sync(0), false, false),
    ] {
        assert_eq!(lets_join(&pass, is_held), joins, "{pass:?}");
    }
}

#[test]
fn what_people_may_hold() {
    assert_eq!(waiting(Some(Resync), || true, Some(Check)), Some(Resync));
    assert_eq!(waiting(None, || true, Some(Check)), Some(Rebuild));
    assert_eq!(waiting(None, || false, Some(Check)), Some(Check));
    assert_eq!(waiting(None, || false, None), None);
}

#[test]
fn a_scrub_is_recorded_as_what_it_is() {
    for kind in [Check, Repair] {
        let scrub = kind.scrub_at(5).expect("people ask for it");
        let repairs = kind == Repair;
        let done_sectors = 5;
        assert_eq!(
            scrub,
            Scrub {
                repairs,
                done_sectors
            }
        );
        assert_eq!(scrub.kind(), kind);
    }
    for kind in [Initialise, Rebuild, Resync] {
        assert_eq!(kind.scrub_at(5), None);
    }
}

#[test]
fn when_the_mark_of_a_sync_is_recorded() {
    let begun = Initialising { done_sectors: 16 };
    // Consistency, is one due, may writes be in flight, are there regions: on the way, and once it is quiet.
    for (consistency, needs_sync, may_tear, has_regions, kept, kept_when_quiet) in [
        (begun, true, false, false, true, false),
        (begun, true, true, false, false, false),
        (begun, true, true, true, true, false),
        (begun, false, false, false, false, false),
        (Dirty, true, false, false, false, true),
        (Dirty, true, true, false, false, true),
        (Dirty, true, true, true, false, false),
        (Dirty, false, false, false, false, false),
        (Clean, true, false, false, false, false),
    ] {
        let mut volume = volume(&[InSync, InSync], consistency);
        volume.regions = has_regions.then(|| regions_of(&[]));
        let standing = Standing {
            volume: &volume,
            needs_sync,
            may_tear,
        };
        let case = format!("{consistency:?}, {needs_sync}, {may_tear}, {has_regions}");
        assert_eq!(standing.keeps_mark(), kept, "{case}");
        assert_eq!(standing.keeps_mark_when_quiet(), kept_when_quiet, "{case}");
    }
}

#[test]
fn how_far_a_member_is_recorded_as_rebuilt() {
    let volume = volume(&[InSync, Rebuilding { done_sectors: 48 }, Missing], Clean);
    let standing = Standing {
        volume: &volume,
        needs_sync: false,
        may_tear: false,
    };
    for (slot, done, unkept, mark) in [
        (1, 64, None, Some(64)),
        (1, 48, None, None),
        (1, 16, None, None),
        // Not past what the metadata does not know to be bad.
        (1, 64, Some(56), Some(56)),
        (1, 64, Some(80), Some(64)),
        (1, 64, Some(8), None),
        (1, u64::MAX, Some(56), Some(56)),
        (1, u64::MAX, None, None),
        (0, 64, None, None),
        (2, 64, None, None),
        (9, 64, None, None),
    ] {
        assert_eq!(standing.rebuilt_mark(slot, done, unkept), mark, "{slot}");
    }
    assert_eq!(standing.furthest(Mask(0b111)), 48);
    assert_eq!(standing.furthest(Mask(0b101)), 0);
}

#[test]
fn what_becomes_of_a_member_that_is_filled() {
    let rebuilding = Some(Rebuilding { done_sectors: 0 });
    for (state, is_unrecorded, unkept, filled) in [
        (rebuilding, false, None, Filled::Done),
        (rebuilding, false, Some(8), Filled::Withheld),
        (rebuilding, true, None, Filled::Lost),
        (rebuilding, true, Some(8), Filled::Lost),
        (Some(Failed), false, None, Filled::Lost),
        (Some(InSync), false, None, Filled::Lost),
        (None, false, None, Filled::Lost),
    ] {
        assert_eq!(Filled::of(state, is_unrecorded, unkept), filled);
    }
}
