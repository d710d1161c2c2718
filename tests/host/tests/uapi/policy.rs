// SPDX-License-Identifier: GPL-2.0

//! `EMD_IOC_POLICY`: each policy is understood, and every other field that is wrong is refused.

use crate::decode::{ask, refused};
use crate::uapi_support::Program;
use emd_core::model::CrashPolicy;
use emd_core::uapi::args::*;
use emd_core::uapi::constants::*;
use emd_core::uapi::{Request, Target};
use kernel::prelude::*;

#[test]
fn policy() {
    let arg = |policy, reserved0, reserved1| PolicyArg {
        target: TargetArg {
            kind: TARGET_NUMBER,
            number: 3,
            ..TargetArg::default()
        },
        policy,
        reserved0,
        reserved1,
        ..PolicyArg::default()
    };
    for (code, wanted) in [
        (POLICY_NONE, CrashPolicy::None),
        (POLICY_RESYNC, CrashPolicy::Resync),
        (POLICY_LOG, CrashPolicy::Log),
    ] {
        match ask(NR_POLICY, &arg(code, 0, 0), &mut Program::root()) {
            Ok(Request::Policy(request)) => {
                assert_eq!(request.target, Target::Number(3));
                assert_eq!(request.policy, wanted);
            }
            other => panic!("{other:?}"),
        }
    }
    for code in [0, POLICY_LOG + 1, 99, u16::MAX] {
        refused(NR_POLICY, &arg(code, 0, 0), EINVAL, "unknown policy");
    }
    refused(NR_POLICY, &arg(POLICY_LOG, 1, 0), EINVAL, "reserved0");
    refused(NR_POLICY, &arg(POLICY_LOG, 0, 1), EINVAL, "reserved1");
    for kind in [TARGET_SET, TARGET_ALL] {
        let mut of_many = arg(POLICY_LOG, 0, 0);
        of_many.target = TargetArg {
            kind,
            id: if kind == TARGET_SET { [7; 16] } else { [0; 16] },
            ..TargetArg::default()
        };
        refused(NR_POLICY, &of_many, EINVAL, "");
    }
}
