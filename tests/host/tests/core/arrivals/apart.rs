// SPDX-License-Identifier: GPL-2.0

//! Who was used apart.

use super::{mirror, newcomer, set_of, Live, KEY};
use emd_core::metadata::arrival::{contradicts, is_apart, Joint};
use emd_core::model::DiskState::{self, Failed, Missing, Online, Removed, Stale};
use emd_core::model::{Access, DiskIndex, DiskMask, Identity, Level};
use emd_core::reason;
use kernel::prelude::*;

/// What happens before the disk `c` is back.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A disk gets a state.
    To(DiskIndex, DiskState),
    /// A disk with this label is added as a new one.
    Joins(&'static str),
    /// The set is stopped and started.
    Restart,
}
use Happens::{Joins, Restart, To};

/// A disk that calls another one lost was used apart, but where the set saw that one lost, this one go, and that one come back;
/// and never where its metadata is newer than what it had as it went.
#[test]
fn who_calls_a_working_disk_lost() {
    let (a, b, c) = (0, 1, 2);
    let seen = [To(b, Failed), To(c, Missing), To(b, Online)];
    type Case<'a> = (
        &'a str,
        [DiskState; 3],
        &'a [Happens],
        u64,
        &'a [&'static str],
        bool,
    );
    let all = [Online; 3];
    let cases: &[Case<'_>] = &[
        (
            "b was lost, c went, b is back",
            all,
            &seen,
            11,
            &["b"],
            false,
        ),
        (
            "c missed the last update before it went",
            all,
            &seen,
            10,
            &["b"],
            false,
        ),
        ("c was written since it went", all, &seen, 12, &["b"], true),
        ("c has no one lost", all, &seen, 11, &[], false),
        (
            "c has the other one lost too",
            all,
            &seen,
            11,
            &["b", "a"],
            true,
        ),
        (
            "whom c has lost is none of the set's",
            all,
            &seen,
            11,
            &["x"],
            false,
        ),
        ("b is lost still", all, &seen[..2], 11, &["b"], false),
        ("b was never lost", all, &[To(c, Missing)], 10, &["b"], true),
        (
            "b was lost only after c went",
            all,
            &[To(c, Missing), To(b, Failed), To(b, Online)],
            10,
            &["b"],
            true,
        ),
        (
            "b came before c went",
            all,
            &[To(b, Failed), To(b, Online), To(c, Missing)],
            12,
            &["b"],
            true,
        ),
        (
            "b was away, and not failed",
            all,
            &[To(b, Missing), To(c, Missing), To(b, Online)],
            11,
            &["b"],
            false,
        ),
        (
            "c failed before it was pulled",
            all,
            &[To(b, Failed), To(c, Failed), To(c, Missing), To(b, Online)],
            11,
            &["b"],
            false,
        ),
        (
            "c was back in between, beside b",
            all,
            &[
                To(b, Failed),
                To(c, Missing),
                To(b, Online),
                To(c, Online),
                To(c, Missing),
            ],
            11,
            &["b"],
            true,
        ),
        (
            "b went once more: how it was as c went is forgotten",
            all,
            &[
                To(b, Failed),
                To(c, Missing),
                To(b, Online),
                To(b, Failed),
                To(b, Online),
            ],
            11,
            &["b"],
            true,
        ),
        (
            "b was lost as the set was started",
            [Online, Failed, Online],
            &[To(c, Missing), To(b, Online)],
            10,
            &["b"],
            false,
        ),
        (
            "c was away as the set was started",
            [Online, Online, Missing],
            &[To(b, Failed), To(b, Online)],
            10,
            &["b"],
            true,
        ),
        (
            "the set was stopped since c went",
            all,
            &[To(b, Failed), To(c, Missing), Restart, To(b, Online)],
            11,
            &["b"],
            true,
        ),
        (
            "the set was stopped since b came",
            all,
            &[To(b, Failed), To(c, Missing), To(b, Online), Restart],
            11,
            &["b"],
            true,
        ),
        (
            "b was taken out and added anew",
            all,
            &[To(b, Failed), To(c, Missing), To(b, Removed), Joins("b")],
            11,
            &["b"],
            false,
        ),
        (
            "b was taken out before c went, and added anew",
            all,
            &[To(b, Failed), To(b, Removed), To(c, Missing), Joins("b")],
            12,
            &["b"],
            false,
        ),
        (
            "b was taken out while it worked, after c went",
            all,
            &[To(c, Missing), To(b, Removed), Joins("b")],
            10,
            &["b"],
            true,
        ),
        (
            "b was added anew before c went",
            all,
            &[To(b, Failed), To(b, Removed), Joins("b"), To(c, Missing)],
            13,
            &["b"],
            true,
        ),
    ];
    for &(what, begin, happens, generation, lost, expected) in cases {
        let row = |label, index: DiskIndex, state| {
            let key = (state == Online).then_some(u64::from(index));
            (label, state, key)
        };
        let rows = [
            row("a", a, begin[0]),
            row("b", b, begin[1]),
            row("c", c, begin[2]),
        ];
        let mut live = Live::of(mirror(&rows));
        for &one in happens {
            match one {
                To(index, state) => live.happens(index, state),
                Joins(label) => live.joins(label),
                Restart => live.moves.begin(&live.metadata.set).unwrap(),
            }
        }
        let others = ["a", "b", "x"].map(|label| match lost.contains(&label) {
            true => (label, Failed, None),
            false => (label, Missing, None),
        });
        let own = ("c", Online, Some(KEY));
        let alone = set_of(
            Level::Raid1,
            generation,
            &[others[0], others[1], own, others[2]],
        );
        assert_eq!(contradicts(&live, &newcomer(&alone)), expected, "{what}");
    }
}

/// A disk with whose metadata nobody of ours has a place was used apart, whatever it calls them.
#[test]
fn who_knows_nobody() {
    let ours = [
        ("a", Online, Some(0)),
        ("b", Online, Some(1)),
        ("c", Missing, None),
    ];
    let live = Live::of(mirror(&ours));
    let own = ("c", Online, Some(KEY));
    for (a, b, expected) in [
        (Missing, Missing, false),
        (Missing, Removed, false),
        (Removed, Missing, false),
        (Removed, Removed, true),
    ] {
        let alone = mirror(&[("a", a, None), ("b", b, None), own]);
        let apart = contradicts(&live, &newcomer(&alone));
        assert_eq!(apart, expected, "{a:?} {b:?}");
    }
    let mut other = mirror(&[("a", Removed, None), ("b", Removed, None), own]);
    other.volumes[0].id = Identity::new(b"another");
    assert!(!contradicts(&live, &newcomer(&other)), "another volume");
}

/// What the format makes of all: whom it leaves out that works here, and whom it turns down.
#[test]
fn what_the_format_makes_of_all() {
    let (here, out) = (Online, Missing);
    type Case<'a> = (
        &'a str,
        DiskState,
        [DiskState; 3],
        &'a [DiskIndex],
        bool,
        bool,
    );
    let cases: &[Case<'_>] = &[
        ("c is old", Missing, [here, here, Stale], &[], false, false),
        (
            "c is as good as they are",
            Missing,
            [here, here, here],
            &[],
            false,
            false,
        ),
        (
            "b is left out",
            Missing,
            [here, out, here],
            &[],
            false,
            true,
        ),
        (
            "b counts as failed",
            Missing,
            [here, Failed, here],
            &[],
            false,
            true,
        ),
        (
            "b is old by c",
            Missing,
            [here, Stale, here],
            &[],
            false,
            true,
        ),
        (
            "b could not be read",
            Missing,
            [here, out, here],
            &[1],
            false,
            false,
        ),
        (
            "b could not be read, a is left out",
            Missing,
            [out, out, here],
            &[1],
            false,
            true,
        ),
        (
            "nobody could be read",
            Missing,
            [out, out, here],
            &[0, 1],
            false,
            true,
        ),
        (
            "c is called failed, and was away",
            Missing,
            [here, here, Failed],
            &[],
            false,
            true,
        ),
        (
            "the format has one word for that",
            Missing,
            [here, here, Failed],
            &[],
            true,
            false,
        ),
        (
            "that is known",
            Failed,
            [here, here, Failed],
            &[],
            false,
            false,
        ),
        (
            "c was old, and is called failed",
            Stale,
            [here, here, Failed],
            &[],
            true,
            true,
        ),
        (
            "c has no place any more",
            Missing,
            [here, here, Removed],
            &[],
            false,
            true,
        ),
    ];
    for &(what, known, states, unread, may_have_been_away, expected) in cases {
        let ours = [
            ("a", Online, Some(0)),
            ("b", Online, Some(1)),
            ("c", known, None),
        ];
        let live = Live::of(mirror(&ours));
        let alone = mirror(&[
            ("a", Missing, None),
            ("b", Missing, None),
            ("c", Online, Some(KEY)),
        ]);
        let row = |label, index: u64, state| {
            let is_here = !matches!(state, Missing | Removed);
            (label, state, is_here.then_some(index))
        };
        let joint = mirror(&[
            row("a", 0, states[0]),
            row("b", 1, states[1]),
            row("c", 2, states[2]),
        ]);
        let mut mask = DiskMask::EMPTY;
        unread.iter().for_each(|&index| mask.insert(index));
        let joint = Joint {
            set: &joint,
            may_have_been_away,
            unread: mask,
        };
        let apart = is_apart(&live, &newcomer(&alone), &joint);
        assert_eq!(apart, expected, "{what}");
    }
}

/// A volume that is refused with the newcomer and was not without: two accounts of it.
#[test]
fn who_makes_a_volume_refused() {
    let ours = [
        ("a", Online, Some(0)),
        ("b", Online, Some(1)),
        ("c", Missing, None),
    ];
    let mut live = Live::of(mirror(&ours));
    let own = ("c", Online, Some(KEY));
    let alone = mirror(&[("a", Missing, None), ("b", Missing, None), own]);
    let mut joint = mirror(&[ours[0], ours[1], own]);
    let refused = || Access::Refused(reason!(EINVAL, "two parts"));
    joint.volumes[0].access = refused();
    let joint = Joint {
        set: &joint,
        may_have_been_away: false,
        unread: DiskMask::EMPTY,
    };
    assert!(is_apart(&live, &newcomer(&alone), &joint));
    live.metadata.set.volumes[0].access = refused();
    assert!(!is_apart(&live, &newcomer(&alone), &joint));
}

/// One of two disks of the same name has been here all the time: which of them the newcomer means is not certain.
#[test]
fn who_is_one_of_two() {
    let rows = ["a", "b", "c"].map(|label| (label, Online, None));
    let mut live = Live::of(mirror(&rows));
    live.happens(2, Missing);
    live.joins("b");
    live.joins("d");
    let set = &live.metadata.set;
    assert!(live.moves.explain_loss(set, 2, 10, 4));
    assert!(!live.moves.explain_loss(set, 2, 11, 4));
    assert!(!live.moves.explain_loss(set, 2, 10, 3));
    assert!(!live.moves.explain_loss(set, 2, 10, 1));
}
