// SPDX-License-Identifier: GPL-2.0

//! Whole ioctls: what a program passes, what the engine is asked, what the program gets.

use crate::uapi_support::{sample_set, Program, Recorder};
use emd_core::uapi::args::*;
use emd_core::uapi::constants::*;
use emd_core::uapi::decode::CallKind;
use emd_core::uapi::wire::Wire;
use emd_core::uapi::{call, read_records};
use kernel::prelude::*;
use proptest::prelude::*;

const ARG: u64 = 0x10_0000;
const REASON: u64 = 0x20_0000;
const OUT: u64 = 0x30_0000;
const LIST: u64 = 0x40_0000;

fn head<T: Wire>() -> Head {
    Head {
        size: T::BYTES as u32,
        reason_ptr: REASON,
        reason_len: REASON_BYTES,
        ..Head::default()
    }
}

fn program<T: Wire>(arg: &T) -> Program {
    let mut bytes = vec![0; T::BYTES];
    arg.to_bytes(&mut bytes);
    Program::root()
        .with(ARG, bytes)
        .with(REASON, vec![b'?'; REASON_BYTES as usize])
}

fn reply<T: Wire>(program: &Program) -> T {
    T::from_bytes(program.bytes(ARG))
}

fn number(number: u32) -> TargetArg {
    TargetArg {
        kind: TARGET_NUMBER,
        number,
        id: [0; 16],
    }
}

#[test]
fn version() {
    let engine = Recorder::default();
    let mut program = program(&VersionArg {
        head: head::<VersionArg>(),
        ..VersionArg::default()
    });
    program.root = false;
    assert_eq!(call(&engine, &mut program, IOC_VERSION, ARG), Ok(()));
    let version: VersionArg = reply(&program);
    assert_eq!(
        (version.api_major, version.api_minor),
        (API_MAJOR, API_MINOR)
    );
    assert_eq!(version.members_max, 64);
    assert_eq!(version.event_next_seq, 9);
    assert!(version.module.starts_with(b"1.2.3-test\0"));
    assert_eq!(program.text(REASON), "", "no reason on success");
}

#[test]
fn list_and_query_with_any_room() {
    let engine = Recorder::default();
    let ask = |cmd, target: Option<TargetArg>, room: usize| {
        let out = Out {
            ptr: OUT,
            len: room as u32,
            ..Out::default()
        };
        let list = ListArg {
            head: head::<ListArg>(),
            out,
        };
        let query = QueryArg {
            head: head::<QueryArg>(),
            target: target.unwrap_or_default(),
            out,
        };
        let mut program = match target {
            None => program(&list),
            Some(_) => program(&query),
        }
        .with(OUT, vec![0; room]);
        assert_eq!(call(&engine, &mut program, cmd, ARG), Ok(()));
        let out = match target {
            None => reply::<ListArg>(&program).out,
            Some(_) => reply::<QueryArg>(&program).out,
        };
        (out, program.bytes(OUT).to_vec())
    };
    for (cmd, target) in [(IOC_LIST, None), (IOC_QUERY, Some(number(2)))] {
        let (out, _) = ask(cmd, target, 0);
        assert_eq!(out.count, 0);
        let needed = out.needed as usize;
        assert!(needed > 0);
        // Just enough, and more.
        for room in [needed, needed + 100] {
            let (out, bytes) = ask(cmd, target, room);
            assert_eq!(out.needed as usize, needed);
            let decoded = read_records::decode(&bytes[..needed]).unwrap();
            match target {
                None => {
                    assert_eq!(decoded.sets.len(), 2);
                    assert!(decoded.sets[0].disks.is_empty(), "in short");
                    assert_eq!(decoded.sets[0].volumes.len(), 3);
                }
                Some(_) => {
                    assert_eq!(decoded.sets.len(), 1);
                    assert_eq!(decoded.sets[0], sample_set(2));
                }
            }
            assert_eq!(
                read_records::Records::new(&bytes[..needed]).count(),
                out.count as usize
            );
        }
        // Too little: whole records only, the rest of the buffer untouched.
        for room in (0..needed).step_by(41) {
            let (out, bytes) = ask(cmd, target, room);
            assert_eq!(out.needed as usize, needed);
            let whole: usize = read_records::Records::new(&bytes)
                .map(|(_, record)| record.len())
                .sum();
            assert!(whole <= room);
            assert!(bytes[whole..].iter().all(|&byte| byte == 0));
            assert_eq!(
                read_records::Records::new(&bytes).count(),
                out.count as usize
            );
        }
    }
}

#[test]
fn query_of_what_is_not_there() {
    let engine = Recorder::default();
    let mut program = program(&QueryArg {
        head: head::<QueryArg>(),
        target: number(77),
        ..QueryArg::default()
    });
    assert_eq!(call(&engine, &mut program, IOC_QUERY, ARG), Err(ENOENT));
    assert_eq!(program.text(REASON), "there is no array emd77");
}

#[test]
fn modifying_needs_the_capability() {
    for kind in CallKind::ALL {
        let engine = Recorder::default();
        let mut bytes = vec![0u8; kind.bytes];
        Head {
            size: kind.bytes as u32,
            reason_ptr: REASON,
            reason_len: REASON_BYTES,
            ..Head::default()
        }
        .to_bytes(&mut bytes);
        let mut program = Program::default()
            .with(ARG, bytes)
            .with(REASON, vec![b'?'; REASON_BYTES as usize]);
        let result = call(&engine, &mut program, iowr(kind.nr, kind.bytes), ARG);
        assert_eq!(result == Err(EPERM), kind.modifies, "call {}", kind.nr);
        if kind.modifies {
            assert!(program.text(REASON).contains("CAP_SYS_ADMIN"));
        }
        assert!(engine.asked().is_empty(), "the engine was asked");
    }
}

#[test]
fn refusals_carry_the_engines_words() {
    let engine = Recorder {
        refuse: true,
        ..Recorder::default()
    };
    let arg = StopArg {
        head: head::<StopArg>(),
        target: number(0),
        ..StopArg::default()
    };
    let mut program = program(&arg);
    assert_eq!(call(&engine, &mut program, IOC_STOP, ARG), Err(EBUSY));
    assert_eq!(program.text(REASON), "emd0 is in use; unmount it first");
    // Little room for the reason: cut, terminated.
    let mut short = arg;
    short.head.reason_len = 8;
    let mut program = self::program(&short);
    assert_eq!(call(&engine, &mut program, IOC_STOP, ARG), Err(EBUSY));
    assert_eq!(program.text(REASON), "emd0 is");
    assert_eq!(program.bytes(REASON)[8], b'?', "nothing beyond the room");
    // No room, or a place that faults: the errno all the same.
    for (ptr, len) in [(0, 100), (REASON, 0), (0xdead_0000, 100)] {
        let mut arg = arg;
        arg.head.reason_ptr = ptr;
        arg.head.reason_len = len;
        assert_eq!(
            call(&engine, &mut self::program(&arg), IOC_STOP, ARG),
            Err(EBUSY)
        );
    }
}

#[test]
fn replies_come_back() {
    let engine = Recorder::default();
    let mut program = program(&CreateArg {
        head: head::<CreateArg>(),
        format: *b"ddf\0\0\0\0\0\0\0\0\0\0\0\0\0",
        level: *b"raid1\0\0\0\0\0\0\0\0\0\0\0",
        members_ptr: LIST,
        members_count: 2,
        ..CreateArg::default()
    })
    .with(
        LIST,
        [
            (8u64 << 32).to_ne_bytes(),
            ((8u64 << 32) | 16).to_ne_bytes(),
        ]
        .concat(),
    );
    assert_eq!(call(&engine, &mut program, IOC_CREATE, ARG), Ok(()));
    let made: CreateArg = reply(&program);
    assert_eq!((made.set_id, made.array_id), ([0xaa; 16], [0xbb; 16]));
    assert_eq!((made.number, made.size_sectors), (4, 12345));
    assert_eq!(made.members_ptr, LIST, "the rest is as it was");

    let mut program = self::program(&MemberArg {
        head: head::<MemberArg>(),
        target: number(1),
        dev: 8 << 32,
        op: 1,
        ..MemberArg::default()
    });
    assert_eq!(call(&engine, &mut program, IOC_MEMBER, ARG), Ok(()));
    let placed: MemberArg = reply(&program);
    assert_eq!((placed.number, placed.slot), (1, NONE));

    let mut program = self::program(&EventsArg {
        head: head::<EventsArg>(),
        seq: 7,
        ..EventsArg::default()
    });
    assert_eq!(call(&engine, &mut program, IOC_EVENTS, ARG), Ok(()));
    let events: EventsArg = reply(&program);
    assert_eq!((events.seq, events.oldest_seq, events.next_seq), (7, 5, 9));

    let mut program = self::program(&TaskArg {
        head: head::<TaskArg>(),
        target: number(1),
        op: TASK_OP_PAUSE,
        ..TaskArg::default()
    });
    assert_eq!(
        call(&engine, &mut program, IOC_TASK, ARG),
        Err(EOPNOTSUPP),
        "not yet"
    );

    let out = Out {
        ptr: OUT,
        len: 1 << 16,
        ..Out::default()
    };
    let mut program = self::program(&ScanArg {
        head: head::<ScanArg>(),
        out,
        ..ScanArg::default()
    })
    .with(OUT, vec![0; 1 << 16]);
    assert_eq!(call(&engine, &mut program, IOC_SCAN, ARG), Ok(()));
    let scanned: ScanArg = reply(&program);
    assert_eq!(
        (
            scanned.disks_seen,
            scanned.sets_found,
            scanned.arrays_started
        ),
        (7, 2, 3)
    );
    let decoded = read_records::decode(&program.bytes(OUT)[..scanned.out.needed as usize]).unwrap();
    assert_eq!(decoded.sets.len(), 2);
    assert_eq!(decoded.notes.len(), 1);
    assert_eq!(decoded.notes[0].dev.unwrap().to_string(), "8:16");
}

#[test]
fn formats_are_the_registrys() {
    let engine = Recorder::default();
    let out = Out {
        ptr: OUT,
        len: 1 << 16,
        ..Out::default()
    };
    let mut program = program(&ListArg {
        head: head::<ListArg>(),
        out,
    })
    .with(OUT, vec![0; 1 << 16]);
    assert_eq!(call(&engine, &mut program, IOC_FORMATS, ARG), Ok(()));
    let needed = reply::<ListArg>(&program).out.needed as usize;
    let formats = read_records::decode(&program.bytes(OUT)[..needed])
        .unwrap()
        .formats;
    let registry = emd_core::metadata::registry::FORMATS;
    assert_eq!(formats.len(), registry.len());
    for (said, format) in formats.iter().zip(registry) {
        assert_eq!(
            *said,
            emd_core::uapi::FormatInfo::from_format(*format).unwrap()
        );
    }
}

#[test]
fn nothing_is_done_when_the_reply_cannot_be_written() {
    let engine = Recorder::default();
    let mut program = program(&StopArg {
        head: head::<StopArg>(),
        target: number(0),
        ..StopArg::default()
    });
    program.read_only.push(ARG);
    assert_eq!(call(&engine, &mut program, IOC_STOP, ARG), Err(EFAULT));
    assert!(engine.asked().is_empty());
}

/// A scan starts things, so its buffer is tried before: at both ends, and in each page.
#[test]
fn nothing_is_scanned_for_a_buffer_that_cannot_be_written() {
    for len in [1u32, 4096, 9000] {
        for hole in [0, len / 2, len - 1] {
            let engine = Recorder::default();
            let mut program = program(&ScanArg {
                head: head::<ScanArg>(),
                out: Out {
                    ptr: OUT,
                    len,
                    ..Out::default()
                },
                ..ScanArg::default()
            });
            // Pages that can be written, but for the one with `hole`.
            let missing = OUT + u64::from(hole) / 4096 * 4096;
            for page in (OUT..OUT + u64::from(len)).step_by(4096) {
                if page != missing {
                    program = program.with(page, vec![0; 4096]);
                }
            }
            assert_eq!(call(&engine, &mut program, IOC_SCAN, ARG), Err(EFAULT));
            assert!(engine.asked().is_empty(), "{len} {hole}");
        }
    }
    let engine = Recorder::default();
    let mut around = program(&ScanArg {
        head: head::<ScanArg>(),
        out: Out {
            ptr: u64::MAX - 9,
            len: 20,
            ..Out::default()
        },
        ..ScanArg::default()
    });
    assert_eq!(call(&engine, &mut around, IOC_SCAN, ARG), Err(EFAULT));
    assert!(engine.asked().is_empty());
}

#[test]
fn faults_and_foreign_numbers() {
    let engine = Recorder::default();
    let mut program = Program::root();
    assert_eq!(call(&engine, &mut program, IOC_LIST, 0), Err(EFAULT));
    assert_eq!(call(&engine, &mut program, IOC_LIST, u64::MAX), Err(EFAULT));
    assert_eq!(call(&engine, &mut program, 0x5401, 0), Err(ENOTTY));
    // The head is there, the rest is not.
    let mut half = vec![0; Head::BYTES];
    head::<ScanArg>().to_bytes(&mut half);
    let mut program = Program::root().with(ARG, half);
    assert_eq!(call(&engine, &mut program, IOC_SCAN, ARG), Err(EFAULT));
}

/// A program compiled against a later header, with larger structures, up to the limit.
#[test]
fn later_callers() {
    let engine = Recorder::default();
    for size in [StopArg::BYTES + 8, 320, 328, 400, ARG_BYTES_MAX as usize] {
        let mut arg = StopArg {
            head: head::<StopArg>(),
            target: number(0),
            ..StopArg::default()
        };
        arg.head.size = size as u32;
        let mut bytes = vec![0; size];
        arg.to_bytes(&mut bytes);
        let mut program = Program::root()
            .with(ARG, bytes.clone())
            .with(REASON, vec![b'?'; 208]);
        assert_eq!(call(&engine, &mut program, IOC_STOP, ARG), Ok(()), "{size}");
        assert_eq!(reply::<StopArg>(&program).arrays_stopped, 2);
        assert_eq!(reply::<StopArg>(&program).head.size, size as u32);
        for at in [StopArg::BYTES, size - 1] {
            let mut used = bytes.clone();
            used[at] = 1;
            let mut program = Program::root()
                .with(ARG, used)
                .with(REASON, vec![b'?'; 208]);
            assert_eq!(
                call(&engine, &mut program, IOC_STOP, ARG),
                Err(E2BIG),
                "{size} {at}"
            );
            assert!(program.text(REASON).contains("older version"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Any number, any bytes, any memory: an answer.
    #[test]
    fn random_calls(nr in 0u32..14, cmd in any::<u32>(), ours in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..600),
                    size in prop_oneof![Just(None), (0u32..5000).prop_map(Some)], arg in prop_oneof![Just(ARG), any::<u64>()], root in any::<bool>()) {
        let cmd = if ours { iowr(nr, 48) } else { cmd };
        let mut bytes = bytes;
        if bytes.len() >= 24 {
            let size = size.unwrap_or(bytes.len() as u32);
            bytes[..4].copy_from_slice(&size.to_ne_bytes());
        }
        let mut program = Program { root, ..Program::default() }.with(ARG, bytes);
        let _ = call(&Recorder::default(), &mut program, cmd, arg);
        prop_assert!(*program.accesses.borrow() < 1000);
    }
}
