// SPDX-License-Identifier: GPL-2.0

//! The states that a mirror's range can start in, and the jobs that it can be given.

use super::{Lab, Member};
use emd_core::personalities::lane::Job;
use emd_core::personalities::Mask;

/// All the states that `n` members can start in, and that still make sense for a set.
pub fn starts(n: u16) -> Vec<Lab> {
    let kinds = |slot: u16| {
        let good = Member::in_sync(0x600d);
        let stale = Member {
            content: 0x01d0 + u32::from(slot),
            in_sync: false,
            ..good
        };
        [
            good,
            stale,
            Member {
                writable: false,
                ..good
            },
            Member {
                writable: false,
                ..stale
            },
        ]
    };
    (0..4usize.pow(n.into()))
        .map(|code| Lab {
            members: (0..n)
                .map(|slot| kinds(slot)[code / 4usize.pow(slot.into()) % 4])
                .collect(),
        })
        .collect()
}

/// `lab` with every way in which its in-sync members can differ (which holds what others hold, not
/// what that is).
pub fn patterns(lab: &Lab) -> Vec<Lab> {
    let mut labs = vec![(lab.clone(), 0)];
    for slot in lab.usable().readable {
        labs = labs
            .into_iter()
            .flat_map(|(lab, used): (Lab, u32)| {
                (0..=used).map(move |content| {
                    let mut lab = lab.clone();
                    lab.at_mut(slot).content = content;
                    (lab, used.max(content + 1))
                })
            })
            .collect();
    }
    labs.into_iter().map(|(lab, _)| lab).collect()
}

/// The jobs that are not `Sync`, for `n` members, and with slots that there are not.
pub fn jobs(n: u16) -> Vec<Job> {
    let mut jobs = Vec::new();
    for bits in 0..1u64 << n {
        jobs.push(Job::Rebuild {
            targets: Mask(bits),
        });
    }
    // Only the lowest slot counts, or whether there is one.
    for first in 0..=n {
        let slots = Mask::all(n).minus(Mask::all(first));
        jobs.push(Job::Write { written: slots });
        jobs.push(Job::Read { wanted: slots });
        jobs.push(Job::Read {
            wanted: Mask::option(slots.first()),
        });
    }
    jobs
}
