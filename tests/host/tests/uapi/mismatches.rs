// SPDX-License-Identifier: GPL-2.0

//! `EMD_IOC_MISMATCHES`: all places, page by page, however long pages are; every field that is wrong is refused.

use crate::uapi_support::{sample_place, Program, Recorder};
use emd_core::uapi::args::*;
use emd_core::uapi::constants::*;
use emd_core::uapi::layout::RangeRec;
use emd_core::uapi::wire::Wire;
use emd_core::uapi::{call, read_records, RangeInfo};
use kernel::prelude::*;

const ARG: u64 = 0x10_0000;
const REASON: u64 = 0x20_0000;
const OUT: u64 = 0x30_0000;

fn argument() -> MismatchesArg {
    MismatchesArg {
        head: Head {
            size: MismatchesArg::BYTES as u32,
            reason_ptr: REASON,
            reason_len: REASON_BYTES,
            ..Head::default()
        },
        target: TargetArg {
            kind: TARGET_NUMBER,
            number: 2,
            id: [0; 16],
        },
        ..MismatchesArg::default()
    }
}

/// Calls with a buffer of `len` bytes, and gives back the argument, the buffer and the reason.
fn ask(
    engine: &Recorder,
    mut arg: MismatchesArg,
    len: usize,
) -> (Result<MismatchesArg>, Vec<u8>, String) {
    if len > 0 {
        (arg.out.ptr, arg.out.len) = (OUT, len as u32);
    }
    let mut bytes = vec![0; MismatchesArg::BYTES];
    arg.to_bytes(&mut bytes);
    let mut program = Program::default()
        .with(ARG, bytes)
        .with(REASON, vec![b'?'; REASON_BYTES as usize])
        .with(OUT, vec![0; len]);
    let result = call(engine, &mut program, IOC_MISMATCHES, ARG);
    (
        result.map(|()| MismatchesArg::from_bytes(program.bytes(ARG))),
        program.bytes(OUT).to_vec(),
        program.text(REASON).to_owned(),
    )
}

/// All pages, with buffers of `len` bytes; how many there were, and whether some were lost.
fn all(engine: &Recorder, len: usize) -> (Vec<RangeInfo>, usize, bool) {
    let (mut places, mut pages) = (Vec::new(), 0);
    let mut arg = argument();
    loop {
        let (reply, buffer, said) = ask(engine, arg, len);
        let reply = reply.unwrap_or_else(|errno| panic!("{errno:?}: {said}"));
        pages += 1;
        let given = reply.out.count as usize * RangeRec::BYTES;
        let rest = reply.left as usize * RangeRec::BYTES;
        assert_eq!(reply.out.needed as usize, given + rest);
        assert!(given <= len && buffer[given..].iter().all(|&byte| byte == 0));
        assert!(reply.out.count <= MISMATCHES_PAGE_MAX);
        let (page, lost_some) = read_records::decode_mismatches(&buffer).unwrap();
        assert_eq!(page.len(), reply.out.count as usize);
        places.extend(page);
        if reply.left == 0 {
            return (places, pages, lost_some);
        }
        assert!(given > 0, "it goes no further");
        (arg.from_sector, arg.from_order) = (reply.from_sector, reply.from_order);
    }
}

#[test]
fn all_places_come_page_by_page() {
    let record = RangeRec::BYTES;
    for found in [0, 1, 2, 7, 3_000] {
        let engine = Recorder {
            places: (found, 5_000),
            ..Recorder::default()
        };
        let expected: Vec<RangeInfo> = (0..found).map(|nth| sample_place(nth).into()).collect();
        for len in [record * 3, record * 4 + 7, 1 << 16, 1 << 20] {
            let (places, pages, lost_some) = all(&engine, len);
            assert_eq!(places, expected, "{len}");
            assert!(!lost_some);
            let most = (len / record).min(MISMATCHES_PAGE_MAX as usize);
            assert_eq!(pages, expected.len().div_ceil(most).max(1));
        }
    }
}

#[test]
fn one_at_a_time() {
    let engine = Recorder {
        places: (9, 300),
        ..Recorder::default()
    };
    let (places, pages, _) = all(&engine, RangeRec::BYTES);
    assert_eq!((places.len(), pages), (9, 9));
}

#[test]
fn that_there_were_more_than_are_kept_is_told() {
    let engine = Recorder {
        places: (2_000, 1_200),
        ..Recorder::default()
    };
    let (places, pages, lost_some) = all(&engine, 1 << 20);
    assert_eq!((places.len(), pages, lost_some), (1_200, 2, true));
}

#[test]
fn without_room_it_says_how_many_there_are() {
    let engine = Recorder {
        places: (700, 1_000),
        ..Recorder::default()
    };
    for len in [0, RangeRec::BYTES - 1] {
        let (reply, buffer, _) = ask(&engine, argument(), len);
        let reply = reply.unwrap();
        assert_eq!((reply.out.count, reply.left), (0, 700));
        assert_eq!(reply.out.needed as usize, 700 * RangeRec::BYTES);
        assert_eq!((reply.from_sector, reply.from_order), (0, 0));
        assert!(buffer.iter().all(|&byte| byte == 0));
    }
}

/// Nobody has to begin where the kernel said.
#[test]
fn it_may_begin_anywhere() {
    let engine = Recorder {
        places: (20, 1_000),
        ..Recorder::default()
    };
    for (from_sector, from_order, left) in [
        (0, 1, 19),
        (0, u32::MAX, 18),
        (1, 0, 18),
        (16, 0, 18),
        (144, 0, 2),
        (144, 1, 1),
        (145, 0, 0),
        (u64::MAX, u32::MAX, 0),
    ] {
        let arg = MismatchesArg {
            from_sector,
            from_order,
            left: 77,
            ..argument()
        };
        let (reply, ..) = ask(&engine, arg, 1 << 12);
        let reply = reply.unwrap();
        assert_eq!((reply.out.count, reply.left), (left, 0), "{from_sector}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let engine = Recorder::default();
    let refused = |change: &dyn Fn(&mut MismatchesArg)| {
        let mut arg = argument();
        change(&mut arg);
        let (reply, _, said) = ask(&engine, arg, 0);
        let errno = reply.expect_err("refused");
        assert!(!said.is_empty() && !said.starts_with('?'));
        errno
    };
    assert_eq!(refused(&|arg| arg.head.flags = 1), EINVAL);
    assert_eq!(refused(&|arg| arg.head.reserved = 1), EINVAL);
    assert_eq!(refused(&|arg| arg.out.reserved = 1), EINVAL);
    assert_eq!(refused(&|arg| arg.out.len = 64), EINVAL, "no place");
    for kind in [TARGET_NONE, TARGET_ALL] {
        let change = |arg: &mut MismatchesArg| {
            arg.target = TargetArg {
                kind,
                ..TargetArg::default()
            };
        };
        assert_eq!(refused(&change), EINVAL);
    }
    let of_a_set = |arg: &mut MismatchesArg| {
        arg.target = TargetArg {
            kind: TARGET_SET,
            number: 0,
            id: [7; 16],
        };
    };
    assert_eq!(refused(&of_a_set), EINVAL, "a set");
    assert_eq!(refused(&|arg| arg.target.number = NUMBER_MAX + 1), EINVAL);
    assert!(engine.asked().is_empty());
    // A buffer that cannot be written.
    let engine = Recorder {
        places: (3, 1_000),
        ..Recorder::default()
    };
    let (ptr, len) = (0xdead_0000, 1 << 10);
    let mut arg = argument();
    (arg.out.ptr, arg.out.len) = (ptr, len);
    assert_eq!(ask(&engine, arg, 0).0, Err(EFAULT));
}
