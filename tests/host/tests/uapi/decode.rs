// SPDX-License-Identifier: GPL-2.0

//! The ioctl decoder against wrong and random arguments: the right errno, never a panic.

use crate::uapi_support::Program;
use emd_core::model::{Layout, Level, Reason, Rotation};
use emd_core::uapi::args::*;
use emd_core::uapi::constants::*;
use emd_core::uapi::decode::{decode, CallKind};
use emd_core::uapi::wire::Wire;
use emd_core::uapi::words::{layout_by_name, level_by_name};
use emd_core::uapi::{DevNumber, MemberDisk, Request, Target, TaskOp};
use kernel::prelude::*;
use proptest::prelude::*;

fn call(nr: u32) -> CallKind {
    CallKind::ALL
        .into_iter()
        .find(|call| call.nr == nr)
        .unwrap()
}

fn bytes_of<T: Wire>(arg: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::BYTES];
    arg.to_bytes(&mut bytes);
    if Head::from_bytes(&bytes).size == 0 {
        bytes[..4].copy_from_slice(&(T::BYTES as u32).to_ne_bytes());
    }
    bytes
}

pub fn ask<T: Wire>(nr: u32, arg: &T, program: &mut Program) -> Result<Request, Reason> {
    decode(&call(nr), &bytes_of(arg), program)
}

#[track_caller]
pub fn refused<T: Wire>(nr: u32, arg: &T, errno: Error, words: &str) {
    match ask(nr, arg, &mut Program::root()) {
        Ok(request) => panic!("accepted: {request:?}"),
        Err(reason) => {
            assert_eq!(reason.errno(), errno, "{reason}");
            assert!(
                reason.text().contains(words),
                "\"{reason}\" lacks \"{words}\""
            );
        }
    }
}

pub fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

fn devs(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|dev| dev.to_ne_bytes()).collect()
}

const SDA: u64 = 8 << 32;
const SDB: u64 = (8 << 32) | 16;
const SDC: u64 = (8 << 32) | 32;

pub fn create() -> CreateArg {
    CreateArg {
        format: text("ddf"),
        volume_name: text("data"),
        level: text("raid5"),
        members_ptr: 0x1000,
        members_count: 3,
        ..CreateArg::default()
    }
}

pub fn members() -> Program {
    Program::root().with(0x1000, devs(&[SDA, SDB, SDC]))
}

#[test]
fn create_is_understood() {
    let mut arg = create();
    arg.layout = text("left-symmetric");
    arg.chunk_sectors = 128;
    arg.size_sectors = 1000;
    arg.head.flags = CREATE_ASSUME_CLEAN | CREATE_FORCE;
    arg.members_count = 4;
    arg.spares_ptr = 0x2000;
    arg.spares_count = 1;
    let mut program = Program::root()
        .with(0x1000, devs(&[SDA, 0, SDB, SDC]))
        .with(0x2000, devs(&[9 << 32]));
    let Ok(Request::Create(request)) = ask(NR_CREATE, &arg, &mut program) else {
        panic!("refused");
    };
    assert_eq!(request.format.as_str(), "ddf");
    assert_eq!(request.set_id, None);
    assert!(request.force);
    let volume = request.volume.unwrap();
    assert_eq!(volume.name.as_str(), "data");
    assert_eq!(volume.level, Level::Raid5);
    assert_eq!(volume.layout, Some(Layout::Parity(Rotation::LeftSymmetric)));
    assert_eq!((volume.chunk_sectors, volume.size_sectors), (128, 1000));
    assert!(volume.assume_clean && !volume.zeroed);
    let sd = |minor| DevNumber::new(8, minor);
    assert_eq!(&*request.members, &[sd(0), None, sd(16), sd(32)]);
    assert_eq!(&*request.spares, &[DevNumber::new(9, 0).unwrap()]);
}

#[test]
fn create_refuses() {
    let with = |change: &dyn Fn(&mut CreateArg)| {
        let mut arg = create();
        change(&mut arg);
        ask(NR_CREATE, &arg, &mut members())
    };
    let errno = |change: &dyn Fn(&mut CreateArg)| with(change).map_err(|reason| reason.errno());
    assert!(with(&|_| ()).is_ok());
    assert_eq!(errno(&|a| a.format = [0; 16]), Err(EINVAL));
    assert_eq!(errno(&|a| a.level = text("raid9")), Err(EINVAL));
    let zeroed = with(&|a| a.head.flags = CREATE_ZERO);
    assert!(
        matches!(zeroed, Ok(Request::Create(request)) if request.volume.as_ref().is_some_and(|volume| volume.zeroed))
    );
    assert_eq!(
        errno(&|a| a.head.flags = CREATE_ZERO | CREATE_ASSUME_CLEAN),
        Err(EINVAL)
    );
    assert_eq!(errno(&|a| a.layout = text("upside-down")), Err(EINVAL));
    assert_eq!(errno(&|a| a.layout = text("near=0")), Err(EINVAL));
    assert_eq!(errno(&|a| a.layout = text("near=256")), Err(EINVAL));
    assert_eq!(errno(&|a| a.volume_name = [b'x'; 40]), Err(EINVAL));
    assert_eq!(
        errno(&|a| a.volume_name = text(&"x".repeat(33))),
        Err(EINVAL)
    );
    assert_eq!(errno(&|a| a.volume_name = text("a\nb")), Err(EINVAL));
    assert_eq!(
        errno(&|a| a.volume_name[..2].copy_from_slice(&[0xff, 0xfe])),
        Err(EINVAL)
    );
    assert_eq!(errno(&|a| a.volume_name[39] = b'x'), Err(EINVAL));
    assert_eq!(errno(&|a| a.members_count = 65), Err(E2BIG));
    assert_eq!(errno(&|a| a.members_count = u32::MAX), Err(E2BIG));
    assert_eq!(errno(&|a| a.spares_count = 257), Err(E2BIG));
    assert_eq!(errno(&|a| a.spares_count = 1), Err(EINVAL), "no pointer");
    assert_eq!(
        errno(&|a| a.members_count = 4),
        Err(EFAULT),
        "beyond what is there"
    );
    assert_eq!(errno(&|a| a.members_ptr = u64::MAX - 3), Err(EFAULT));
    assert_eq!(
        errno(&|a| a.members_count = 0),
        Err(EINVAL),
        "new set of nothing"
    );
    assert!(with(&|a| {
        a.members_count = 0;
        a.set_id = [1; 16]
    })
    .is_ok());
    assert_eq!(
        errno(&|a| {
            a.set_id = [1; 16];
            a.set_name = text("n")
        }),
        Err(EINVAL)
    );
    assert_eq!(
        errno(&|a| a.level = [0; 16]),
        Err(EINVAL),
        "volume without level"
    );
    assert!(
        with(&|a| {
            a.level = [0; 16];
            a.volume_name = [0; 40]
        })
        .is_ok(),
        "a bare set"
    );
    assert_eq!(
        errno(&|a| {
            a.spares_ptr = 0x1008;
            a.spares_count = 1
        }),
        Err(EINVAL),
        "member and spare"
    );
    let twice = |list: &[u64]| {
        ask(
            NR_CREATE,
            &create(),
            &mut Program::root().with(0x1000, devs(list)),
        )
        .map_err(|reason| reason.errno())
        .map(drop)
    };
    assert_eq!(twice(&[SDA, SDB, SDA]), Err(EINVAL));
    assert_eq!(twice(&[0, 0, SDA]), Ok(()), "two empty places");
    assert_eq!(twice(&[0, 0, 0]), Err(EINVAL));
    assert_eq!(twice(&[SDA, SDB, 1 << 60]), Err(EINVAL), "no device number");
    assert_eq!(
        twice(&[SDA, SDB, (8 << 32) | (1 << 20)]),
        Err(EINVAL),
        "minor too large"
    );
}

#[test]
fn targets() {
    let query = |kind, number, id| {
        let target = TargetArg { kind, number, id };
        let arg = QueryArg {
            target,
            ..QueryArg::default()
        };
        ask(NR_QUERY, &arg, &mut Program::root()).map_err(|reason| reason.errno())
    };
    let some = [7; 16];
    let none = [0; 16];
    assert_eq!(
        query(TARGET_NUMBER, 3, none),
        Ok(Request::Query(Target::Number(3)))
    );
    assert_eq!(
        query(TARGET_ARRAY, 0, some),
        Ok(Request::Query(Target::Array(some)))
    );
    assert_eq!(
        query(TARGET_SET, 0, some),
        Ok(Request::Query(Target::Set(some)))
    );
    for (kind, number, id) in [
        (TARGET_NONE, 0, none),
        (TARGET_ALL, 0, none),
        (TARGET_NUMBER, 1 << 20, none),
        (TARGET_NUMBER, 0, some),
        (TARGET_ARRAY, 0, none),
        (TARGET_ARRAY, 1, some),
        (TARGET_SET, 0, none),
        (5, 0, none),
        (u32::MAX, 0, none),
    ] {
        assert_eq!(
            query(kind, number, id),
            Err(EINVAL),
            "{kind} {number} {id:?}"
        );
    }
    let all = TargetArg {
        kind: TARGET_ALL,
        ..TargetArg::default()
    };
    let set = TargetArg {
        kind: TARGET_SET,
        number: 0,
        id: some,
    };
    assert!(ask(
        NR_STOP,
        &StopArg {
            target: all,
            ..StopArg::default()
        },
        &mut Program::root()
    )
    .is_ok());
    refused(
        NR_DELETE,
        &DeleteArg {
            target: all,
            ..DeleteArg::default()
        },
        EINVAL,
        "not all",
    );
    refused(
        NR_RENAME,
        &RenameArg {
            target: set,
            ..RenameArg::default()
        },
        EINVAL,
        "not a set",
    );
}

#[test]
fn members_and_tasks() {
    let target = TargetArg {
        kind: TARGET_NUMBER,
        ..TargetArg::default()
    };
    let set = TargetArg {
        kind: TARGET_SET,
        number: 0,
        id: [1; 16],
    };
    let member = |op, flags, target| {
        let mut arg = MemberArg {
            target,
            dev: SDA,
            op,
            ..MemberArg::default()
        };
        arg.head.flags = flags;
        ask(NR_MEMBER, &arg, &mut Program::root())
            .map_err(|reason| reason.errno())
            .map(drop)
    };
    for op in 1..=5 {
        assert_eq!(member(op, 0, target), Ok(()));
    }
    assert_eq!(member(0, 0, target), Err(EINVAL));
    assert_eq!(member(6, 0, target), Err(EINVAL));
    assert_eq!(member(4, MEMBER_DEDICATED, target), Ok(()));
    assert_eq!(member(4, MEMBER_DEDICATED, set), Err(EINVAL));
    assert_eq!(member(1, MEMBER_DEDICATED, target), Err(EINVAL));
    assert_eq!(member(2, MEMBER_FORCE, target), Ok(()));
    assert_eq!(member(3, MEMBER_FORCE, target), Ok(()));
    assert_eq!(member(1, MEMBER_FORCE, target), Ok(()));
    assert_eq!(member(4, MEMBER_FORCE, target), Ok(()));
    assert_eq!(member(5, MEMBER_FORCE, target), Err(EINVAL));
    assert_eq!(member(1, 8, target), Err(EINVAL));
    let bad = MemberArg {
        target,
        op: 1,
        ..MemberArg::default()
    };
    refused(NR_MEMBER, &bad, EINVAL, "device number");
    refused(
        NR_MEMBER,
        &MemberArg {
            dev: SDA,
            reserved0: 1,
            ..bad
        },
        EINVAL,
        "reserved0",
    );
    refused(
        NR_MEMBER,
        &MemberArg {
            dev: SDA,
            reserved1: 1,
            ..bad
        },
        EINVAL,
        "reserved1",
    );

    // A disk by its index: to take it out.
    let by_index = |op, index| {
        let mut arg = MemberArg {
            target,
            dev: index,
            op,
            ..MemberArg::default()
        };
        arg.head.flags = MEMBER_INDEX;
        ask(NR_MEMBER, &arg, &mut Program::root()).map_err(|reason| reason.errno())
    };
    for index in [0, 1, DISKS_MAX as u16 - 1] {
        let Ok(Request::Member(request)) = by_index(2, index.into()) else {
            panic!("index {index} is refused");
        };
        assert_eq!(request.disk, MemberDisk::Index(index));
    }
    for index in [u64::from(DISKS_MAX), 1 << 16, SDA, u64::MAX] {
        assert_eq!(by_index(2, index), Err(EINVAL), "{index}");
    }
    for op in [1, 3, 4, 5] {
        assert_eq!(by_index(op, 1), Err(EINVAL), "operation {op}");
    }

    let task = |op, kind, min, max| {
        let arg = TaskArg {
            target,
            op,
            kind,
            rate_min_kib: min,
            rate_max_kib: max,
            ..TaskArg::default()
        };
        match ask(NR_TASK, &arg, &mut Program::root()) {
            Ok(Request::Task(request)) => Ok(request.op),
            Ok(other) => panic!("{other:?}"),
            Err(reason) => Err(reason.errno()),
        }
    };
    assert!(matches!(task(TASK_OP_START, 4, 0, 0), Ok(TaskOp::Start(_))));
    assert_eq!(task(TASK_OP_START, 0, 0, 0), Err(EINVAL));
    assert_eq!(task(TASK_OP_PAUSE, 1, 0, 0), Err(EINVAL));
    assert_eq!(task(TASK_OP_PAUSE, 0, 0, 0), Ok(TaskOp::Pause));
    assert_eq!(task(TASK_OP_CANCEL, 0, 1, 0), Err(EINVAL));
    assert_eq!(
        task(TASK_OP_LIMITS, 0, 5, 0),
        Ok(TaskOp::Limits {
            min_kib: 5,
            max_kib: 0
        })
    );
    assert_eq!(task(TASK_OP_LIMITS, 0, 5, 4), Err(EINVAL));
    assert_eq!(task(9, 0, 0, 0), Err(EINVAL));
}

#[test]
fn every_call_judges_its_head() {
    for call in CallKind::ALL {
        let errno = |bytes: &[u8]| {
            decode(&call, bytes, &mut Program::root())
                .map(drop)
                .map_err(|reason| reason.errno())
        };
        let sized = |said: u32, len: usize| {
            let mut bytes = vec![0u8; len];
            bytes[..4].copy_from_slice(&said.to_ne_bytes());
            bytes
        };
        let bytes = call.bytes as u32;
        // Too small, by one and by all.
        assert_eq!(errno(&sized(bytes - 1, call.bytes - 1)), Err(EINVAL));
        assert_eq!(errno(&sized(0, Head::BYTES)), Err(EINVAL));
        assert_eq!(errno(&[]), Err(EINVAL));
        // Too large for any version.
        assert_eq!(
            errno(&sized(ARG_BYTES_MAX + 1, ARG_BYTES_MAX as usize + 1)),
            Err(E2BIG)
        );
        assert_eq!(errno(&sized(u32::MAX, call.bytes)), Err(E2BIG));
        // Size and length differ.
        assert_eq!(errno(&sized(bytes + 8, call.bytes)), Err(EINVAL));
        // A later version's fields: refused when used, no matter when not.
        let mut later = sized(bytes + 16, call.bytes + 16);
        let plain = errno(&sized(bytes, call.bytes));
        assert_eq!(errno(&later), plain, "zero tail");
        *later.last_mut().unwrap() = 1;
        assert_eq!(errno(&later), Err(E2BIG), "tail in use");
        // Unknown flags, each alone.
        for bit in 0..32 {
            let mut flagged = sized(bytes, call.bytes);
            flagged[4..8].copy_from_slice(&(1u32 << bit).to_ne_bytes());
            let known = call.flags & (1 << bit) != 0;
            let result = decode(&call, &flagged, &mut Program::root());
            let unknown = matches!(&result, Err(reason) if reason.text().contains("unknown flags"));
            assert_eq!(unknown, !known, "call {} bit {bit}", call.nr);
        }
        // Reserved.
        let mut reserved = sized(bytes, call.bytes);
        reserved[20] = 1;
        assert_eq!(errno(&reserved), Err(EINVAL));
    }
}

#[test]
fn ioctl_numbers() {
    let numbers = [
        IOC_VERSION,
        IOC_FORMATS,
        IOC_LIST,
        IOC_QUERY,
        IOC_SCAN,
        IOC_CREATE,
        IOC_STOP,
        IOC_DELETE,
        IOC_MEMBER,
        IOC_RENAME,
        IOC_TASK,
        IOC_EVENTS,
        IOC_POLICY,
        IOC_MISMATCHES,
    ];
    for (nr, cmd) in (0u32..).zip(numbers) {
        assert_eq!(CallKind::from_ioctl(cmd).map(|call| call.nr), Some(nr));
        // Another version's size is the same call; another type, direction or number is none.
        assert_eq!(
            CallKind::from_ioctl(cmd ^ (1 << 20)).map(|call| call.nr),
            Some(nr)
        );
        assert_eq!(CallKind::from_ioctl(cmd ^ (1 << 8)), None);
        assert_eq!(CallKind::from_ioctl(cmd ^ (1 << 30)), None);
        assert_eq!(CallKind::from_ioctl(cmd ^ (1 << 31)), None);
        assert_eq!(CallKind::from_ioctl(cmd | 0x80), None);
    }
    // SCSI, block and terminal ioctls that tools try on anything.
    for cmd in [0x5401, 0x1272, 0x2285, 0x8008_1272, 0, u32::MAX] {
        assert_eq!(CallKind::from_ioctl(cmd), None);
    }
}

#[test]
fn names_of_levels_and_layouts_survive() {
    for level in Level::ALL {
        assert_eq!(level_by_name(level.name()), Some(level));
    }
    // What people type.
    for (typed, level) in [
        ("0", Level::Raid0),
        ("1", Level::Raid1),
        ("1e", Level::Raid1e),
        ("4", Level::Raid4),
        ("5", Level::Raid5),
        ("6", Level::Raid6),
        ("10", Level::Raid10),
        ("linear", Level::Concat),
    ] {
        assert_eq!(level_by_name(typed), Some(level), "{typed}");
    }
    for nothing in [
        "",
        "raid",
        "7",
        "05",
        "raid05",
        "raidraid5",
        "cat",
        "raid50",
        "50",
        "-1",
    ] {
        assert_eq!(level_by_name(nothing), None, "{nothing}");
    }
    let mut layouts = vec![Layout::Plain];
    layouts.extend(Rotation::ALL.map(Layout::Parity));
    for copies in [1, 2, 3, 255] {
        layouts.extend([
            Layout::Near(copies),
            Layout::Far(copies),
            Layout::Offset(copies),
        ]);
    }
    for layout in layouts {
        let name = layout.to_string();
        assert!(name.len() < 24, "{name} fits its field");
        assert_eq!(layout_by_name(&name), Some(layout));
    }
}

#[test]
fn device_numbers() {
    for (major, minor) in [(8, 0), (0, 1), (4095, (1 << 20) - 1), (259, 7)] {
        let dev = DevNumber::new(major, minor).unwrap();
        assert_eq!(DevNumber::from_wire(dev.to_wire()), Some(dev));
        assert_eq!(DevNumber::from_key(u64::from(dev.key())), Some(dev));
        assert_eq!(dev.to_string(), format!("{major}:{minor}"));
    }
    assert_eq!(DevNumber::new(0, 0), None);
    assert_eq!(DevNumber::new(4096, 0), None);
    assert_eq!(DevNumber::new(1, 1 << 20), None);
    assert_eq!(DevNumber::from_key(1 << 32), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Random bytes: an answer, in bounded time, and never a list longer than the limits.
    #[test]
    fn random_arguments(at in 0..CallKind::ALL.len(), mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
                        honest in any::<bool>(), small_flags in any::<bool>(), memory in any::<[u64; 8]>()) {
        let call = CallKind::ALL[at];
        if honest {
            bytes.resize(bytes.len().max(call.bytes), 0);
            let size = bytes.len() as u32;
            bytes[..4].copy_from_slice(&size.to_ne_bytes());
            bytes[call.bytes..].fill(0);
            bytes[20..24].fill(0);
            if small_flags {
                let flags = u32::from_ne_bytes(bytes[4..8].try_into().unwrap()) & call.flags;
                bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
            }
        }
        let mut program = Program::root().with(0x1000, devs(&memory));
        let result = decode(&call, &bytes, &mut program);
        let reads = *program.accesses.borrow();
        prop_assert!(reads <= u64::from(DISKS_MAX + MEMBERS_MAX), "{} reads", reads);
        if let Err(reason) = result {
            prop_assert!(!reason.text().is_empty());
            prop_assert!(reason.errno().to_errno() < 0);
        }
    }

    /// Every single byte of a good argument, changed: never a panic.
    #[test]
    fn damaged_create(at in 0usize..CreateArg::BYTES, value in any::<u8>(), at2 in 0usize..CreateArg::BYTES, value2 in any::<u8>()) {
        let mut bytes = bytes_of(&create());
        bytes[at] = value;
        bytes[at2] = value2;
        let _ = decode(&call(NR_CREATE), &bytes, &mut members());
    }
}
