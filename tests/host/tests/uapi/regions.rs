// SPDX-License-Identifier: GPL-2.0

//! `regions` of `EMD_IOC_CREATE`: what was reserved in earlier versions.

use crate::decode::{ask, create, members, refused, text};
use crate::uapi_support::Program;
use emd_core::uapi::args::*;
use emd_core::uapi::constants::*;
use emd_core::uapi::Request;
use kernel::prelude::*;

/// What a volume that is described with `regions` is to have.
fn wanted(regions: u32) -> Option<bool> {
    let arg = CreateArg {
        regions,
        ..create()
    };
    match ask(NR_CREATE, &arg, &mut members()) {
        Ok(Request::Create(request)) => request.volume.expect("a volume").regions,
        other => panic!("{regions}: {other:?}"),
    }
}

#[test]
fn each_choice_is_understood() {
    assert_eq!(wanted(REGIONS_USUAL), None);
    assert_eq!(wanted(REGIONS_YES), Some(true));
    assert_eq!(wanted(REGIONS_NO), Some(false));
}

/// A program of an earlier version left zeroes there.
#[test]
fn zeroes_are_what_is_usual() {
    assert_eq!(REGIONS_USUAL, 0);
    assert_eq!(CreateArg::default().regions, 0);
    assert_eq!(wanted(0), None);
}

#[test]
fn other_values_are_refused() {
    for regions in [3, 4, 255, 256, (1 << 16) | 1, 1 << 31, u32::MAX] {
        let arg = CreateArg {
            regions,
            ..create()
        };
        let Err(reason) = ask(NR_CREATE, &arg, &mut members()) else {
            panic!("{regions} is accepted");
        };
        assert_eq!(reason.errno(), EINVAL);
        let says = format!("regions {regions} is none of 0 ");
        assert!(reason.text().starts_with(&says), "{reason}");
    }
    // Before any list is read, too.
    let arg = CreateArg {
        regions: 3,
        ..create()
    };
    let unread = ask(NR_CREATE, &arg, &mut Program::root());
    assert_eq!(unread.map_err(|reason| reason.errno()), Err(EINVAL));
}

#[test]
fn a_set_without_a_volume_has_none() {
    for regions in [REGIONS_YES, REGIONS_NO] {
        let arg = CreateArg {
            regions,
            level: [0; 16],
            volume_name: [0; 40],
            ..create()
        };
        refused(NR_CREATE, &arg, EINVAL, "no level");
    }
    let arg = CreateArg {
        format: text("ddf"),
        level: [0; 16],
        volume_name: [0; 40],
        ..create()
    };
    assert!(ask(NR_CREATE, &arg, &mut members()).is_ok());
}
