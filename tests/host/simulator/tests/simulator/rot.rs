// SPDX-License-Identifier: GPL-2.0

//! Members that are wrong, which nobody but a repair notices.

use crate::directed::small;
use emd_core::model::Level;
use emd_simulator::history::{Config, History, Op};
use emd_simulator::mistake::Mistake;
use emd_simulator::sim::{run, Violation};

fn outcome(
    config: Config,
    ops: &[Op],
    schedule: u64,
    mistake: Option<Mistake>,
) -> Option<Violation> {
    let history = History {
        config,
        ops: ops.to_vec(),
        schedule,
    };
    run(&history, mistake, false).violation
}

/// Different members are wrong in different sectors of one lane, or cannot be read there: each sector has enough that
/// is right.
#[test]
fn a_repair_goes_by_sectors_where_a_lane_has_no_one_explanation() {
    let mistake = Some(Mistake::LaneAsOneThing);
    // Of the RAID 6, members with data there.
    for (level, members, one) in [(Level::Raid1, 3, 0), (Level::Raid6, 5, 1)] {
        let config = small("md-1.2", level, members);
        for other in [Op::Rot(one + 1, 6), Op::Spoil(one + 1, 6)] {
            // Of the lane from 4 on.
            let ops = [Op::Rot(one, 5), other, Op::Check(true), Op::Settle];
            for schedule in 1..=8 {
                let right = outcome(config, &ops, schedule, None);
                assert_eq!(right, None, "{level:?}, {other:?}: {schedule}");
                let wrong = outcome(config, &ops, schedule, mistake);
                assert!(wrong.is_some(), "{level:?}, {other:?}: {schedule}");
            }
        }
    }
}

/// A sector cannot be read, and who has what it held is wrong a little further on: nobody is told what is there, nor is it
/// written.
#[test]
fn only_what_cannot_be_read_is_taken_from_others() {
    let mistake = Some(Mistake::RangeFromOthers);
    // Of the first lane; data of the RAID 5, and its parity.
    for (level, members, other) in [(Level::Raid1, 2, 1), (Level::Raid5, 3, 2)] {
        let config = small("md-1.2", level, members);
        let read = Op::Read {
            sector: 0,
            sectors: 4,
        };
        let ops = [
            Op::Spoil(0, 1),
            Op::Rot(other, 2),
            read,
            Op::Check(true),
            Op::Settle,
        ];
        for schedule in 1..=8 {
            let right = outcome(config, &ops, schedule, None);
            assert_eq!(right, None, "{level:?}: {schedule}");
            let wrong = outcome(config, &ops, schedule, mistake);
            assert!(wrong.is_some(), "{level:?}: {schedule}");
        }
    }
}
