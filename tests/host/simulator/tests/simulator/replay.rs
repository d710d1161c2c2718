// SPDX-License-Identifier: GPL-2.0

//! A member that does not take what the log says when its volume starts.

use crate::directed::{small, without};
use emd_core::model::Level;
use emd_simulator::history::{Absent, Config, History, Op, WriteHole};
use emd_simulator::mistake::Mistake;
use emd_simulator::sim::{run, Report};

/// Ways to interleave that are tried.
const WAYS: u64 = 200;

/// Power goes while stripes are written, and a member with parity takes no write as the log is replayed. Then `next`.
fn outcome(format: &'static str, schedule: u64, mistake: Option<Mistake>, next: &[Op]) -> Report {
    let forced = |sector| Op::Write {
        sector,
        sectors: 4,
        fua: true,
        changing: false,
    };
    // Some time passes: there is no such disk.
    let pause = Op::Return(usize::MAX);
    // It is recorded as dirty by then.
    let mut ops = vec![forced(16)];
    ops.extend([pause; 60]);
    ops.extend([forced(0), forced(4), forced(32), forced(36)]);
    ops.extend([pause; 6]);
    ops.extend([Op::FailWrites(2, 2), Op::PowerCut(Absent(0))]);
    ops.extend([Op::AwaitRebuild; 4]);
    ops.extend_from_slice(next);
    ops.push(Op::Settle);
    let config = Config {
        hole: WriteHole::Closed,
        log: true,
        ..small(format, Level::Raid5, 3)
    };
    run(
        &History {
            config,
            ops,
            schedule,
        },
        mistake,
        true,
    )
}

fn tells(report: &Report, what: &str) -> bool {
    report.story.iter().any(|line| line.contains(what))
}

/// It is lost, and the volume runs without it: what it did not take is missing nowhere.
#[test]
fn a_member_that_does_not_take_the_replay_is_lost() {
    for format in ["ddf", "md-1.2"] {
        let mut lost = 0;
        for schedule in 1..=WAYS {
            let report = outcome(format, schedule, None, &[]);
            assert_eq!(report.violation, None, "{format}: {schedule}");
            let is_refused = tells(&report, "member 2 does not take it");
            lost += u32::from(is_refused);
            let runs = tells(&report, "the volume runs: members 11 in sync");
            assert!(
                runs || !is_refused,
                "{format}: {schedule}: it does not run without that one"
            );
        }
        println!("{format}: lost in {lost} of {WAYS} ways");
        assert!(lost > 0, "{format}");
    }
}

/// If it counted as having taken it, another member's data would be worked out wrong.
#[test]
fn what_was_not_taken_does_not_count() {
    let mistake = Some(Mistake::UntakenReplayCounts);
    let next = [Op::PowerCut(without(1, 3, 0))];
    for format in ["ddf", "md-1.2"] {
        let is_wrong = |&schedule: &u64| {
            let right = outcome(format, schedule, None, &next).violation;
            assert_eq!(right, None, "{format}: {schedule}");
            outcome(format, schedule, mistake, &next)
                .violation
                .is_some()
        };
        let found = (1..=WAYS).find(is_wrong);
        println!("{format}: {found:?}");
        assert!(found.is_some(), "{format}: not found");
    }
}
