// SPDX-License-Identifier: GPL-2.0

//! What follows for a disk that comes: where it goes, who wants it, who it was, and whether a person is asked.

use super::{mirror, newcomer, set_of, Live, Row, KEY};
use emd_core::metadata::arrival::{
    expendable, known_place, spare_for, standing, Consent, Newcomer, Standing, TakesBack, Wanted,
};
use emd_core::model::DiskState::{Failed, Missing, Online, Stale};
use emd_core::model::{Access, DiskRole, Level, MemberState, SpareRole};
use emd_core::reason;
use kernel::prelude::*;

#[test]
fn how_it_stands() {
    let old = [
        ("a", Online, Some(0)),
        ("b", Online, Some(1)),
        ("c", Missing, None),
    ];
    let whole = [old[0], old[1], ("c", Online, Some(KEY))];
    let torn = [old[0], ("b", Missing, None), whole[2]];
    let stale = [old[0], old[1], ("c", Stale, Some(KEY))];
    type Case<'a> = (&'a str, Level, &'a [Row], bool, Option<&'a [Row]>, Standing);
    let cases: &[Case<'_>] = &[
        ("apart", Level::Raid1, &old, true, None, Standing::Apart),
        (
            "its array runs",
            Level::Raid1,
            &old,
            true,
            Some(&whole),
            Standing::Old,
        ),
        (
            "its array runs, it is old",
            Level::Raid1,
            &old,
            true,
            Some(&stale),
            Standing::Old,
        ),
        (
            "it is old",
            Level::Raid1,
            &old,
            false,
            Some(&stale),
            Standing::Old,
        ),
        (
            "lost to RAID 0",
            Level::Raid0,
            &old,
            true,
            Some(&whole),
            Standing::Lone,
        ),
        (
            "the last one",
            Level::Raid1,
            &old,
            false,
            Some(&whole),
            Standing::Complete,
        ),
        (
            "not the last one",
            Level::Raid1,
            &torn,
            false,
            Some(&torn),
            Standing::Early,
        ),
    ];
    for &(what, level, ours, runs, joint, expected) in cases {
        let mut live = Live::of(set_of(level, 10, ours));
        live.claimed.retain(|&index| index != 2);
        live.runs = runs;
        let joint = joint.map(|rows| set_of(level, 10, rows));
        let found = standing(&live, 2, KEY, joint.as_ref(), [KEY].into_iter());
        assert_eq!(found, expected, "{what}");
    }
}

/// By whom a disk of this set is wanted.
#[test]
fn who_wants_it() {
    let old = [
        ("a", Online, Some(0)),
        ("b", Online, Some(1)),
        ("c", Missing, None),
    ];
    let unknown = [old[0], old[1], ("d", Missing, None)];
    let own = ("c", Online, Some(KEY));
    let joint_rows = [old[0], old[1], own];
    let alone = mirror(&[("a", Missing, None), ("b", Missing, None), own]);
    struct Case<'a> {
        what: &'a str,
        ours: &'a [Row],
        joint: bool,
        change: fn(&mut Live),
        asked: Option<Wanted>,
        forced: Option<Wanted>,
    }
    let case = |what, ours, joint, change, asked, forced| Case {
        what,
        ours,
        joint,
        change,
        asked,
        forced,
    };
    let nothing: fn(&mut Live) = |_| {};
    let cases = [
        case("old", &old[..], true, nothing, None, None),
        case("apart", &old, false, nothing, Some(Wanted::Apart), None),
        case(
            "awaited",
            &old,
            true,
            |live| live.runs = false,
            Some(Wanted::Awaited(0)),
            None,
        ),
        case(
            "gone, and needed",
            &old,
            true,
            |live| {
                live.metadata.set.volumes[0].members[2].state = MemberState::InSync;
                live.needed.push(2);
            },
            Some(Wanted::Contents),
            Some(Wanted::Contents),
        ),
        case(
            "needed, and here",
            &old,
            true,
            |live| {
                live.metadata.set.volumes[0].members[2].state = MemberState::InSync;
                live.needed.push(2);
                live.claimed.push(2);
            },
            None,
            None,
        ),
        case(
            "lost to RAID 0",
            &old,
            true,
            |live| live.metadata.set.volumes[0].shape.level = Level::Raid0,
            Some(Wanted::Contents),
            Some(Wanted::Contents),
        ),
        case(
            "the set does not know it",
            &unknown,
            true,
            nothing,
            Some(Wanted::Unknown),
            None,
        ),
        case(
            "the set knows none that is lost",
            &unknown,
            true,
            |live| live.metadata.names_lost = false,
            None,
            None,
        ),
        case(
            "and its place is another one's",
            &unknown,
            true,
            |live| {
                live.metadata.names_lost = false;
                live.metadata.set.volumes[0].members[2].state = MemberState::InSync;
                live.claimed.push(2);
            },
            Some(Wanted::Succeeded),
            None,
        ),
        case(
            "and a volume is refused",
            &unknown,
            true,
            |live| {
                live.metadata.names_lost = false;
                let why = reason!(EINVAL, "two parts");
                live.metadata.set.volumes[0].access = Access::Refused(why);
            },
            Some(Wanted::Lacked(0)),
            None,
        ),
    ];
    for case in cases {
        let mut live = Live::of(mirror(case.ours));
        (case.change)(&mut live);
        let joint = case.joint.then(|| mirror(&joint_rows));
        for (force, expected) in [(false, case.asked), (true, case.forced)] {
            let found = expendable(&live, &newcomer(&alone), joint.as_ref(), force);
            assert_eq!(found.err(), expected, "{}, force: {force}", case.what);
        }
    }
    // A volume that does not run, and that may miss it.
    let mut live = Live::of(mirror(&unknown));
    live.metadata.names_lost = false;
    live.runs = false;
    let joint = mirror(&[old[0], old[1], ("c", Stale, Some(KEY))]);
    for (has_enough, expected) in [(true, None), (false, Some(Wanted::Lacked(0)))] {
        live.has_enough = has_enough;
        let found = expendable(&live, &newcomer(&alone), Some(&joint), false);
        assert_eq!(found.err(), expected, "{has_enough}");
    }
    // A volume that does not run, and cannot without it, keeps it from force too.
    let mut live = Live::of(set_of(Level::Raid5, 10, &old));
    live.runs = false;
    for (rows, expected) in [
        ([old[0], old[1], own], None),
        ([old[0], ("b", Missing, None), own], Some(Wanted::Only(0))),
    ] {
        let joint = set_of(Level::Raid5, 10, &rows);
        let found = expendable(&live, &newcomer(&alone), Some(&joint), true);
        assert_eq!(found.err(), expected);
    }
}

#[test]
fn who_it_was() {
    let ours = [
        ("a", Online, Some(0)),
        ("b", Failed, None),
        ("c", Missing, None),
    ];
    let live = Live::of(mirror(&ours));
    for (label, expected) in [
        ("a", Some((0, Online))),
        ("b", Some((1, Failed))),
        ("c", Some((2, Missing))),
        ("d", None),
    ] {
        let mut alone = mirror(&[(label, Online, Some(KEY))]);
        assert_eq!(known_place(&live, &newcomer(&alone)), expected, "{label}");
        for (role, spare) in [
            (DiskRole::Member, None),
            (DiskRole::Unused, None),
            (DiskRole::GlobalSpare, Some(SpareRole::Global)),
            (DiskRole::DedicatedSpare(0), Some(SpareRole::Dedicated(0))),
            (DiskRole::DedicatedSpare(1), None),
        ] {
            alone.disks[0].role = role;
            assert_eq!(spare_for(&live, &newcomer(&alone)), spare, "{role:?}");
        }
    }
    let stranger = Newcomer {
        key: 9,
        alone: &mirror(&ours),
    };
    assert_eq!(known_place(&live, &stranger), None);
}

/// The option `take_back`: who was left out and counts as blank without being added.
#[test]
fn who_is_taken_back() {
    use Consent::{Given, IfBlank, Refused};
    // Of a member; of one that was seen to go; of a spare in a place; of a spare in none.
    for (option, expected) in [
        (0, [Refused; 4]),
        (1, [Refused, Given, IfBlank, IfBlank]),
        (2, [Given, Given, Given, IfBlank]),
        (3, [Given, Given, Given, IfBlank]),
    ] {
        let option = TakesBack::from_option(option);
        let asked = [
            (false, false, true),
            (true, false, true),
            (false, true, true),
            (false, true, false),
        ];
        let found = asked.map(|(seen, spare, place)| option.consent(seen, spare, place));
        assert_eq!(found, expected, "{option:?}");
    }
    // A spare in a place that was seen to go, and one in none.
    assert_eq!(TakesBack::Seen.consent(true, true, true), Given);
    assert_eq!(TakesBack::Seen.consent(true, true, false), IfBlank);
}
