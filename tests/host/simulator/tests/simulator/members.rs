// SPDX-License-Identifier: GPL-2.0

//! Disks that were left out and are left alone, and what people do with disks.

use super::directed::{small, without};
use super::{first_failure, keep_their_promises, of, sum};
use emd_core::model::Level;
use emd_simulator::history::{Absent, Config, History, Menu, Op, TakesBack};
use emd_simulator::mistake::Mistake;
use emd_simulator::sim::{run, Report};

fn taking_back(format: &str, takes_back: TakesBack) -> Menu {
    Menu {
        takes_back: Some(takes_back),
        ..of(format)
    }
}

fn played(config: Config, ops: &[Op], schedule: u64, mistake: Option<Mistake>) -> Report {
    let history = History {
        config,
        ops: ops.to_vec(),
        schedule,
    };
    run(&history, mistake, true)
}

/// About half of the seeds have the driver's default, and the other options are there too.
#[test]
fn seeds_say_which_disks_are_taken_back() {
    let count = |option| {
        let seeds = (0..1000).filter(|&seed| TakesBack::of_seed(seed) == option);
        seeds.count()
    };
    assert!((400..600).contains(&count(TakesBack::Seen)));
    assert!(count(TakesBack::Always) > 300 && count(TakesBack::Never) > 50);
    for seed in 0..40 {
        let history = of("asr").history(seed);
        assert_eq!(history.config.takes_back, TakesBack::of_seed(seed));
    }
}

/// With the driver's default, and with the option off, nothing is written to a disk that was left out until a person adds it. One
/// that the set saw go is not taken for one that was used apart.
#[test]
fn who_was_left_out_is_left_alone() {
    for format in ["asr", "imsm", "md-1.2"] {
        for option in [TakesBack::Seen, TakesBack::Never] {
            let menu = taking_back(format, option);
            keep_their_promises(&menu, 60);
            assert!(sum(&menu, 60, |report| report.left_alone) > 0, "{format}");
        }
    }
    for (mistake, format) in [
        (Mistake::StaleTakenBack, "md-1.2"),
        (Mistake::AwayTakenForApart, "asr"),
    ] {
        let menu = taking_back(format, TakesBack::Seen);
        let found = first_failure(&menu, 1, 1500, Some(mistake));
        println!("{mistake:?}: {format}, seed {found:?}");
        assert!(found.is_some(), "{mistake:?}");
    }
}

/// Whether the story has each of these, in this order.
fn has(report: &Report, what: &[&str]) -> bool {
    let mut lines = report.story.iter();
    what.iter()
        .all(|what| lines.any(|line| line.contains(what)))
}

/// A member is away at a start, and there again later: it is left alone until it is added, and rebuilt then. One that the set
/// saw go is taken back by the default, and by `Never` when it is added.
#[test]
fn a_disk_that_is_back_waits_for_a_person() {
    let back = |disk| [Op::Return(disk), Op::Settle, Op::Add(disk), Op::Settle];
    let (left, added) = ("is left alone", "a person: Add");
    let done = "Rebuild ends, completed: true";
    for format in ["ddf", "asr", "imsm", "md-1.2", "md-0.90"] {
        for option in [TakesBack::Always, TakesBack::Seen, TakesBack::Never] {
            let config = Config {
                takes_back: option,
                ..small(format, Level::Raid1, 2)
            };
            let write = Op::Write {
                sector: 0,
                sectors: 4,
                fua: false,
                changing: false,
            };
            let mut was_away = vec![Op::Restart(without(1, 2, 0)), write, Op::Settle];
            was_away.extend(back(1));
            let mut was_seen = vec![write, Op::Pull(1), Op::Settle, write, Op::Settle];
            was_seen.extend(back(1));
            for schedule in 1..=4 {
                let about = format!("{format} {option:?} {schedule}");
                for (ops, is_seen) in [(&was_away, false), (&was_seen, true)] {
                    let report = played(config, ops, schedule, None);
                    assert_eq!(report.violation, None, "{about}");
                    let is_taken =
                        option == TakesBack::Always || is_seen && option == TakesBack::Seen;
                    let told = match is_taken {
                        true => has(&report, &[done]) && !has(&report, &[added, done]),
                        false => {
                            has(&report, &[left, added, done]) && !has(&report, &[done, added])
                        }
                    };
                    assert!(told, "{about} {is_seen}:\n{}", report.story.join("\n"));
                }
            }
        }
    }
}

/// People fail, take out and add disks, or are refused, also while tasks run.
#[test]
fn what_people_do_with_disks_loses_nothing() {
    for (format, count) in [
        ("ddf", 30),
        ("asr", 100),
        ("imsm", 100),
        ("md-1.2", 100),
        ("md-0.90", 100),
    ] {
        let menu = of(format).with_members();
        keep_their_promises(&menu, count);
        let granted = sum(&menu, 24, |report| report.wishes);
        assert!(granted > 8, "{format}: {granted}");
    }
    keep_their_promises(&of("md-1.2").with_members().with_tasks(), 60);
}

/// What `member.rs` of the driver refuses is refused, what it does by force is done, and a disk that was taken out is a new one.
#[test]
fn who_asks_for_too_much_is_refused() {
    let mirror = small("md-1.2", Level::Raid1, 2);
    let remove = "a person: Remove(0, false)";
    let told = |config, ops: &[Op], what: &[&str]| {
        for schedule in 1..=8 {
            let report = played(config, ops, schedule, None);
            assert_eq!(report.violation, None, "{schedule}");
            let story = report.story.join("\n");
            assert!(has(&report, what), "{schedule}: {what:?}\n{story}");
        }
    };
    // A member in use is not taken out but by force.
    let ops = [
        Op::Remove(0, false),
        Op::Settle,
        Op::Remove(0, true),
        Op::Settle,
    ];
    told(
        mirror,
        &ops,
        &[
            "is refused: it is an active member",
            "a person: Remove(0, true): [",
        ],
    );
    // Failed, taken out, and added: rebuilt.
    let mut ops = vec![
        Op::Fail(0, false),
        Op::Settle,
        Op::Remove(0, false),
        Op::Settle,
    ];
    ops.extend([Op::Add(0), Op::Settle]);
    let added = [
        "Record(DiskFailed(0))",
        remove,
        "a person: Add(0)",
        "completed: true",
    ];
    told(mirror, &ops, &added);
    // The last one is kept, also by force.
    let ops = [
        Op::Fail(1, false),
        Op::Settle,
        Op::Fail(0, false),
        Op::Settle,
        Op::Fail(0, true),
        Op::Settle,
    ];
    let kept = [
        "Fail(0, false) is refused: the volume would be lost",
        "holds what no other disk does",
    ];
    told(mirror, &ops, &kept);
    // Of RAID 5 by force the array is given up; by none without.
    let raid5 = small("md-1.2", Level::Raid5, 3);
    let broken = ["would be lost without it", "and with it the array"];
    told(raid5, &ops, &broken);
    // Nor is anything of a volume without redundancy.
    let plain = small("md-1.2", Level::Raid0, 2);
    told(
        plain,
        &[Op::Fail(0, true)],
        &["holds what no other disk does"],
    );
}

/// The superblock of a spare that is taken out is longer than a block, and power goes while it is erased.
#[test]
fn what_is_erased_is_not_damaged() {
    let mut config = small("md-0.90", Level::Raid1, 2);
    config.spares = 1;
    let ops = [
        Op::Remove(2, false),
        Op::Return(9),
        Op::Return(9),
        Op::Return(9),
        Op::PowerCut(Absent(0)),
    ];
    for schedule in 1..=400 {
        assert_eq!(
            played(config, &ops, schedule, None).violation,
            None,
            "{schedule}"
        );
    }
}

/// All members that an old disk knows are lost one after the other, but for one that it calls failed: that was taken out and is
/// added anew. By what is on the disks both could have been used apart, so nobody is blamed who says so.
#[test]
fn who_is_added_anew_may_seem_used_apart() {
    let config = Config {
        takes_back: TakesBack::Seen,
        spares: 1,
        lane_sectors: 8,
        ..small("imsm", Level::Raid10, 4)
    };
    let write = Op::Write {
        sector: 54,
        sectors: 1,
        fua: true,
        changing: false,
    };
    let ops = [
        Op::FailWrites(1, 1),
        write,
        Op::Fail(3, true),
        Op::Remove(3, false),
        Op::AddBlank,
        Op::Settle,
        Op::Fail(0, true),
        Op::Add(3),
        // Disks 2 and 6 are not there.
        Op::Restart(Absent(6417331226488784387)),
        Op::Restart(Absent(0)),
    ];
    let mut refused = 0;
    for schedule in 1..=200 {
        let report = played(config, &ops, schedule, None);
        assert_eq!(report.violation, None, "{schedule}");
        refused += report.refused;
    }
    assert!(refused > 0);
}

/// A spare takes a place; who cannot be done without is not flushed in the middle of it, the update is carried out once more, and
/// power goes.
#[test]
fn an_update_goes_on_where_it_was() {
    let mistake = Some(Mistake::PlanBegunAnew);
    let config = Config {
        spares: 1,
        assume_clean: false,
        region_sectors: 4,
        ..small("ddf", Level::Raid1, 2)
    };
    let write = Op::Write {
        sector: 0,
        sectors: 4,
        fua: true,
        changing: false,
    };
    let mut found = None;
    for pauses in 0..8 {
        let mut ops = vec![write, Op::Settle, Op::PowerCut(without(1, 3, 0))];
        ops.extend(std::iter::repeat_n(Op::Return(usize::MAX), pauses));
        ops.extend([Op::Pull(2), Op::FailFlush(0), Op::PowerCut(Absent(0))]);
        for schedule in 1..=100 {
            let right = played(config, &ops, schedule, None);
            assert_eq!(right.violation, None, "{pauses}, {schedule}");
            if found.is_none() && played(config, &ops, schedule, mistake).violation.is_some() {
                found = Some((pauses, schedule));
            }
        }
    }
    println!("PlanBegunAnew: {found:?}");
    assert!(found.is_some());
}

/// What happens to a mirror of three, or mirrors that bear as much, of which the default takes back who was seen to go, in these formats. Nobody counts as used
/// apart, but with the mistake, in some way to interleave it and in one of these `found_in`.
fn is_known_again(ops: &[Op], mistake: Mistake, found_in: &[&str]) {
    for format in ["ddf", "asr", "imsm", "md-1.2", "md-0.90"] {
        let (level, members) = match format {
            "asr" | "imsm" => (Level::Raid10, 4),
            _ => (Level::Raid1, 3),
        };
        let config = Config {
            takes_back: TakesBack::Seen,
            ..small(format, level, members)
        };
        let mut found = None;
        for schedule in 1..=20 {
            let report = played(config, ops, schedule, None);
            assert_eq!(report.violation, None, "{format} {schedule}");
            let story = report.story.join("\n");
            assert!(
                !story.contains("was used apart"),
                "{format} {schedule}:\n{story}"
            );
            if found.is_none()
                && played(config, ops, schedule, Some(mistake))
                    .violation
                    .is_some()
            {
                found = Some(schedule);
            }
        }
        println!("{mistake:?}: {format}: {found:?}");
        assert!(found.is_some() || !found_in.contains(&format), "{format}");
    }
}

/// One went that calls another one failed, which a person has added again since: that is no news to the set, which saw all of it.
#[test]
fn who_went_may_call_another_one_lost() {
    let ops = [
        Op::Fail(1, false),
        Op::Settle,
        Op::Pull(2),
        Op::Settle,
        Op::Add(1),
        Op::Settle,
        Op::Return(2),
        Op::Settle,
    ];
    is_known_again(&ops, Mistake::ReturnNotSeen, &["ddf", "imsm", "md-1.2"]);
}

/// One that is here is dead, which nobody has noticed yet, as another one is back.
#[test]
fn who_is_dead_is_not_left_out() {
    let ops = [
        Op::Pull(2),
        Op::Settle,
        Op::Kill(1),
        Op::Return(2),
        Op::Settle,
    ];
    is_known_again(
        &ops,
        Mistake::UnreadCounts,
        &["ddf", "asr", "imsm", "md-1.2", "md-0.90"],
    );
}

/// A member is lost, the other one does not take that, and of an update of many phases a spare takes the first ones and is unplugged:
/// nobody has it then, and writes wait.
#[test]
fn who_is_gone_with_a_part_keeps_nothing() {
    let mistake = Some(Mistake::GoneCounts);
    let config = Config {
        spares: 1,
        ..small("ddf", Level::Raid1, 2)
    };
    let write = |sector| Op::Write {
        sector,
        sectors: 4,
        fua: true,
        changing: false,
    };
    let pauses = |count| std::iter::repeat_n(Op::Return(usize::MAX), count);
    let mut found = None;
    for between in 0..8 {
        let mut ops = vec![write(0), Op::Quiet, write(0)];
        ops.extend(pauses(30));
        ops.extend([Op::FailMetadata(1, 60), Op::Pull(0), write(0)]);
        ops.extend(pauses(between));
        ops.extend([Op::Pull(2)]);
        ops.extend(pauses(60));
        ops.push(Op::PowerCut(without(2, 3, 0)));
        for schedule in 1..=100 {
            let right = played(config, &ops, schedule, None);
            assert_eq!(right.violation, None, "{between}, {schedule}");
            if found.is_none() && played(config, &ops, schedule, mistake).violation.is_some() {
                found = Some((between, schedule));
            }
        }
    }
    println!("GoneCounts: {found:?}");
    assert!(found.is_some());
}
