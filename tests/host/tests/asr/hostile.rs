// SPDX-License-Identifier: GPL-2.0

//! Damaged and hostile metadata: never a panic, never a guess, always a reason.

use crate::asr_common::{
    apply, blanks, carry_out, context, create, open, open_keyed, probe, probe_with, show, spec,
    writes, Random,
};
use emd_core::metadata::asr::layout::{header, kind, raid, reserved, Line, LINE_BYTES};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::asr::AsrSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{Access, DiskState, Event, Level, Scrub, SpareRole, Text, VolumeSpec};
use host_tests::samples::{load, Disk};

const SAMPLE: &str = "asr/util-linux/zero";

/// Four disks: a mirror of two, a spare, a free one.
fn mirror() -> (Box<AsrSet>, Vec<Disk>) {
    let mut disks = blanks(4, 8);
    let mut set = create(&mut disks);
    let pair = [Some(0), Some(1)];
    let made = VolumeSpec {
        assume_clean: true,
        ..spec("a", Level::Raid1, &pair)
    };
    apply(&mut set, &mut disks, &Event::VolumeCreated(made), 1).unwrap();
    let event = Event::SpareAssigned(2, SpareRole::Global);
    apply(&mut set, &mut disks, &event, 2).unwrap();
    (set, disks)
}

fn place(disk: &Disk) -> u64 {
    disk.size_sectors - 17
}

fn flip(disk: &mut Disk, sector: u64, byte: usize, bits: u8) {
    let mut bytes = disk.read(sector, 1);
    bytes[byte] ^= bits;
    disk.write(sector, &bytes);
}

/// Changes a disk's table and makes its sums right again.
fn lie(disk: &mut Disk, edit: impl FnOnce(&mut Table)) {
    let at = place(disk);
    let mut table = Table::new(&disk.read(at, 16)).unwrap();
    edit(&mut table);
    let marked = table.is_marked();
    table.seal();
    let mut bytes = table.bytes().to_vec();
    if !marked {
        bytes[header::MARK_AT..header::MARK_AT + 4].fill(0);
    }
    disk.write(at, &bytes);
}

/// Whatever is opened must be usable for events without a panic, too.
fn exercise(mut set: Box<AsrSet>, disks: &mut [Disk]) {
    let volumes = set.set().volumes.len() as u16;
    let count = set.set().disks.len() as u16;
    let all: Vec<Option<u16>> = (0..count.min(2)).map(Some).collect();
    let mut events = Vec::new();
    for volume in 0..volumes.min(4) {
        events.push(Event::Dirty(volume));
        for slot in 0..3 {
            for disk in 0..count.min(4) {
                events.push(Event::SpareActivated { volume, slot, disk });
                events.push(Event::RebuildProgress {
                    volume,
                    slot,
                    done_sectors: 8,
                });
                events.push(Event::RebuildDone { volume, slot });
            }
        }
        events.push(Event::ResyncProgress {
            volume,
            done_sectors: 8,
        });
        events.push(Event::Clean(volume));
        let scrub = Scrub {
            repairs: true,
            done_sectors: 256,
        };
        events.push(Event::ScrubProgress(volume, Some(scrub)));
        events.push(Event::VolumeRenamed(volume, Text::from_text("new")));
    }
    events.push(Event::VolumeCreated(spec("x", Level::Raid1, &all)));
    for disk in 0..count.min(6) {
        events.push(Event::SpareAssigned(disk, SpareRole::Global));
        events.push(Event::DiskFailed(disk));
        if let Some(facts) = set.set().disk(disk).unwrap().facts {
            events.push(Event::DiskReturned(disk, facts));
        }
        events.push(Event::DiskRemoved(disk));
        events.push(Event::DiskMissing(disk));
    }
    for volume in 0..volumes.min(4) {
        events.push(Event::VolumeDeleted(volume));
    }
    for (n, event) in events.iter().enumerate() {
        let before = show(set.set());
        match set.apply(event, &context(n as u64)) {
            Ok(()) => carry_out(disks, &writes(&set)),
            Err(why) => {
                assert!(!why.text().is_empty());
                assert!(!why.text().starts_with("internal"), "{event:?}: {why}");
                assert_eq!(before, show(set.set()), "{event:?}: {why}");
            }
        }
    }
}

/// Every byte of a table flipped: the other disks carry the set, and the disk is brought up again.
#[test]
fn one_flipped_byte_loses_nothing() {
    let (set, disks) = mirror();
    let good = show(set.set());
    let used = (set.table.len() + 1) * LINE_BYTES;
    let mut left_out = 0;
    for byte in 0..used {
        for bits in [1u8, 0x80] {
            let mut broken = disks.clone();
            let at = place(&broken[0]);
            flip(&mut broken[0], at, byte, bits);
            let mut again = match open(&broken) {
                Ok(set) => set,
                // Only its set's number is not covered by the other disks: it is another set then.
                Err(why) => {
                    assert!(why.text().contains("different sets"), "{byte:#x}: {why}");
                    let other = (header::SET..header::SET + 4).contains(&byte)
                        || (header::MARK_AT..header::SEAL).contains(&byte);
                    assert!(other, "{byte:#x}");
                    continue;
                }
            };
            let state = again.set().disks[0].state;
            if state == DiskState::Missing {
                // Not even readable as a table.
                left_out += 1;
                assert_eq!(again.set().notes.len(), 1);
                continue;
            }
            let mut found = show(again.set());
            if byte == header::DIRTY {
                // Not EMD's mark any more, but it may be somebody's.
                found = found.replace(" Dirty", " Clean");
            }
            assert_eq!(good, found, "byte {byte:#x}");
            let event = Event::VolumeRenamed(0, Text::from_text("mended"));
            apply(&mut again, &mut broken, &event, 9).unwrap();
            let keyed = [(0, &broken[0])];
            let alone = open_keyed(&keyed).unwrap();
            assert_eq!(alone.set().volume(0).unwrap().name.as_str(), "mended");
        }
    }
    assert!(left_out > 10 && left_out < 30, "{left_out}");
}

/// A damaged table that is all there is: it can be read, and nothing is written.
#[test]
fn a_lone_damaged_table_is_only_read() {
    let (_, disks) = mirror();
    let mut broken = vec![disks[0].clone()];
    let at = place(&broken[0]);
    flip(&mut broken[0], at, 0x40 + 0x30, 4);
    let mut set = open(&broken).unwrap();
    let access = &set.set().volume(0).unwrap().access;
    assert!(matches!(access, Access::ReadOnly(_)), "{access:?}");
    let why = set.apply(&Event::Dirty(0), &context(1)).unwrap_err();
    assert!(why.text().contains("checksum"), "{why}");
    set.apply(&Event::DiskFailed(0), &context(1)).unwrap();
    assert!(set.plan().is_empty());
}

#[test]
fn bad_reserved_blocks() {
    let (_, disks) = mirror();
    let last = disks[0].size_sectors - 1;
    let write = |at: usize, bytes: &[u8]| {
        let mut disk = disks[0].clone();
        let mut block = disk.read(last, 1);
        block[at..at + bytes.len()].copy_from_slice(bytes);
        disk.write(last, &block);
        probe(&disk, 0).1
    };
    for (at, bytes) in [
        (reserved::SIGNATURE_AT, &[0u8][..]),
        (reserved::VALID_AT, b"DPTm"),
    ] {
        assert!(matches!(write(at, bytes), Probe::NotMine));
    }
    let version = write(reserved::VERSION_AT, &[7]);
    assert!(matches!(version, Probe::Damaged(why) if why.text().contains("version 7")));
    for at in [
        0u32,
        last as u32,
        last as u32 + 1,
        u32::MAX,
        3,
        last as u32 - 1,
    ] {
        let verdict = write(reserved::TABLE, &at.to_be_bytes());
        assert!(matches!(verdict, Probe::Damaged(_)), "{at}: {verdict:?}");
    }
    // A number that the table does not have: the disk is a stranger.
    let mut odd = disks.clone();
    let mut block = odd[0].read(last, 1);
    block[reserved::DRIVE] ^= 1;
    odd[0].write(last, &block);
    let set = open(&odd).unwrap();
    assert_eq!(set.set().disk_by_key(0).unwrap(), 4);
    assert_eq!(set.set().disks[4].state, DiskState::Stale);
    assert_eq!(set.set().disks[0].state, DiskState::Missing);
}

#[test]
fn unreadable_sectors() {
    let (_, disks) = mirror();
    let disk = &disks[0];
    let (at, last) = (place(disk), disk.size_sectors - 1);
    // Nothing can be said without the reserved block.
    let (_, verdict, _) = probe_with(disk, 0, &|sector| sector != last);
    assert!(matches!(verdict, Probe::NotMine));
    let (_, verdict, _) = probe_with(disk, 0, &|sector| sector != at);
    assert!(matches!(verdict, Probe::Damaged(why) if why.text().contains("cannot be read")));
    // A table elsewhere is found in spite of a bad sector in the usual place.
    let mut moved = disk.clone();
    moved.write(5000, &disk.read(at, 16));
    let mut block = disk.read(last, 1);
    block[reserved::TABLE..reserved::TABLE + 4].copy_from_slice(&5000u32.to_be_bytes());
    moved.write(last, &block);
    let (_, verdict, _) = probe_with(&moved, 0, &|sector| sector != at);
    assert!(matches!(verdict, Probe::Found { .. }), "{verdict:?}");
}

#[test]
fn the_same_disk_twice() {
    let (_, disks) = mirror();
    let twice = [(0, &disks[0]), (1, &disks[1]), (7, &disks[0])];
    let mut set = open_keyed(&twice).unwrap();
    let access = &set.set().volume(0).unwrap().access;
    assert!(matches!(access, Access::Refused(_)), "{access:?}");
    assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
    // A spare: the mirror is not in doubt, but neither that it is written to nor a loss could be recorded.
    let twice = [
        (0, &disks[0]),
        (1, &disks[1]),
        (2, &disks[2]),
        (7, &disks[2]),
    ];
    let mut set = open_keyed(&twice).unwrap();
    let access = &set.set().volume(0).unwrap().access;
    assert!(
        matches!(access, Access::ReadOnly(why) if why.text().contains("twice")),
        "{access:?}"
    );
    assert!(set.apply(&Event::Dirty(0), &context(1)).is_err());
}

/// Lines that contradict each other, or that nobody knows how to read.
#[test]
fn ambiguous_arrays_are_refused() {
    type Edit = fn(&mut Table);
    let cases: [(&str, Edit); 17] = [
        ("not documented", |t| edit_all(t, |l| l.raid = raid::RAID5)),
        ("not documented", |t| edit_all(t, |l| l.raid = raid::RAID4)),
        ("unknown", |t| edit_all(t, |l| l.raid = 9)),
        ("lists 4", |t| t.edit(0, |l| l.count = 3)),
        ("lists 3", |t| t.remove(4)),
        ("same address", |t| t.edit(2, |l| l.id = 0)),
        ("differ", |t| t.edit(2, |l| l.capacity -= 128)),
        ("differ", |t| t.edit(3, |l| l.strip = 64)),
        ("power of two", |t| edit_all(t, |l| l.strip = 96)),
        ("power of two", |t| edit_all(t, |l| l.strip = 0)),
        ("twice", |t| t.edit(2, |l| l.magic = 0x91AA_7059)),
        ("sector 8", |t| t.edit(1, |l| l.offset = 8)),
        ("state 30", |t| t.edit(4, |l| l.state = 0x30)),
        ("type fd", |t| t.edit(4, |l| l.raid = 0xFD)),
        ("in front of the table", |t| {
            edit_all(t, |l| l.capacity = 17_942_656)
        }),
        ("formatted", |t| t.edit(0, |l| l.state = 0x50)),
        ("lists 0", |t| t.edit(0, |l| l.kind = kind::DUAL)),
    ];
    fn edit_all(table: &mut Table, edit: impl Fn(&mut Line)) {
        for index in 0..table.len() {
            table.edit(index, |line| edit(line));
        }
    }
    for (wanted, edit) in cases {
        let mut disks = load(SAMPLE);
        lie(&mut disks[0], edit);
        let set = open(&disks).unwrap_or_else(|why| panic!("{wanted}: {why}"));
        let volume = set.set().volume(0).unwrap();
        match &volume.access {
            Access::Refused(why) => assert!(why.text().contains(wanted), "{wanted}: {why}"),
            other => panic!("{wanted}: {other:?}"),
        }
        exercise(set, &mut disks);
    }
}

/// RAID 4 and 5 have numbers, but nobody wrote down where their parity is: they are shown, never started.
#[test]
fn raid_4_and_5_are_shown_and_never_assembled() {
    for (number, level) in [(raid::RAID4, Level::Raid4), (raid::RAID5, Level::Raid5)] {
        let (_, mut disks) = mirror();
        for disk in &mut disks {
            lie(disk, |table| {
                for index in 0..table.len() {
                    table.edit(index, |line| {
                        if line.raid == raid::RAID1 {
                            line.raid = number;
                        }
                    });
                }
            });
        }
        let mut set = open(&disks).unwrap();
        let volume = set.set().volume(0).unwrap();
        assert_eq!(volume.shape.level, level);
        assert_eq!(volume.name.as_str(), "a");
        assert_eq!(volume.members.len(), 2);
        assert!(volume.members.iter().all(|member| member.disk.is_some()));
        match &volume.access {
            Access::Refused(why) => assert!(why.text().contains("not documented"), "{why}"),
            other => panic!("{level}: {other:?}"),
        }
        // As long as the set is as it was, nothing about the volume is written.
        for event in [
            Event::Dirty(0),
            Event::Clean(0),
            Event::ResyncDone(0),
            Event::RebuildDone { volume: 0, slot: 0 },
            Event::SpareActivated {
                volume: 0,
                slot: 0,
                disk: 2,
            },
        ] {
            set.apply(&event, &context(3)).unwrap_err();
            assert!(set.plan().is_empty(), "{event:?}");
        }
        let pair = [Some(2), Some(3)];
        for level in [Level::Raid4, Level::Raid5] {
            let made = Event::VolumeCreated(spec("b", level, &pair));
            set.apply(&made, &context(4)).unwrap_err();
        }
    }
}

/// What is odd but clear is read: with a remark.
#[test]
fn odd_arrays_are_read() {
    let mut disks = load(SAMPLE);
    // The strip is in the array's line only; the names are in the first line only; the sum is wrong.
    let at = place(&disks[0]);
    let mut table = Table::new(&disks[0].read(at, 16)).unwrap();
    for index in 1..5 {
        table.edit(index, |line| {
            line.strip = 0;
            line.name = [0; 16];
        });
    }
    table.edit(0, |line| line.capacity = 0);
    disks[0].write(at, table.bytes());
    let set = open(&disks).unwrap();
    let volume = set.set().volume(0).unwrap();
    assert!(matches!(volume.access, Access::ReadWrite));
    assert_eq!(volume.shape.chunk_sectors, 128);
    assert_eq!(volume.size_sectors, 71_770_112);
    assert_eq!(volume.name.as_str(), "ZERO");
    let notes: Vec<&str> = set.set().notes.iter().map(|note| note.as_str()).collect();
    assert!(
        notes.iter().any(|note| note.contains("checksum")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.contains("its members have")),
        "{notes:?}"
    );
}

/// Two arrays with one number: neither is touched.
#[test]
fn arrays_with_the_same_number() {
    let mut disks = blanks(4, 8);
    let mut set = create(&mut disks);
    for (name, pair) in [("a", [Some(0), Some(1)]), ("b", [Some(2), Some(3)])] {
        let made = VolumeSpec {
            assume_clean: true,
            ..spec(name, Level::Raid1, &pair)
        };
        apply(
            &mut set,
            &mut disks,
            &Event::VolumeCreated(made),
            1 + u64::from(name == "b"),
        )
        .unwrap();
    }
    let magic = set.volumes[0].magic;
    for disk in &mut disks {
        lie(disk, |table| {
            let second = table.volumes().nth(1).unwrap().0;
            table.edit(second, |line| line.magic = magic);
        });
    }
    let mut set = open(&disks).unwrap();
    for volume in 0..2 {
        let access = &set.set().volume(volume).unwrap().access;
        assert!(matches!(access, Access::Refused(_)));
    }
    assert!(set.apply(&Event::VolumeDeleted(0), &context(1)).is_err());
}

/// Tables as long as they can be, with anything in them, sums right: read, used, never a panic.
#[test]
fn random_tables_never_panic() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let (mut opened, mut refused, mut usable) = (0, 0, 0);
    for round in 0..500u64 {
        let (_, mut disks) = mirror();
        let lines = 1 + random.below(if round % 3 == 0 { 126 } else { 12 }) as usize;
        let magics: Vec<u32> = (0..6).map(|_| random.next() as u32).collect();
        let at = place(&disks[0]);
        let mut table = Table::new(&disks[0].read(at, 16)).unwrap();
        while table.len() > lines {
            table.remove(0);
        }
        while table.len() < lines {
            let mut line = Line {
                count: random.below(5) as u16,
                sequence: random.below(3) as u16,
                magic: magics[random.below(6) as usize],
                kind: [0, 0, 0, 1, 1, 2, 3][random.below(7) as usize],
                raid: [0, 0, 1, 1, 4, 5, 0xFE, 0xFF][random.below(8) as usize],
                state: [0, 0, 0, 1, 2, 3, 4, 0x0A, 0x10, 0x20, 0x50][random.below(11) as usize],
                id: random.below(5) as u32,
                capacity: [0, 1, 1000, 8192, 16_000, u32::MAX][random.below(6) as usize],
                strip: [0, 1, 8, 128, 96, u16::MAX][random.below(6) as usize],
                progress: random.next() as u32,
                ..Line::default()
            };
            if random.below(10) == 0 {
                line.offset = random.next() as u32;
            }
            let at = random.below(table.len() as u64 + 1) as usize;
            table.insert(at, &line);
        }
        table.seal();
        for (n, disk) in disks.iter_mut().enumerate() {
            if random.below(4) > 0 {
                disk.write(at, table.bytes());
                let mut block = disk.read(disk.size_sectors - 1, 1);
                if random.below(2) == 0 {
                    block[0x40..0x44].copy_from_slice(&magics[n].to_be_bytes());
                }
                disk.write(disk.size_sectors - 1, &block);
            }
        }
        match open(&disks) {
            Ok(set) => {
                opened += 1;
                let any = set.set().live_volumes();
                usable += any
                    .filter(|(_, volume)| matches!(volume.access, Access::ReadWrite))
                    .count();
                exercise(set, &mut disks);
            }
            Err(why) => {
                refused += 1;
                assert!(!why.text().is_empty());
            }
        }
    }
    assert!(
        opened > 200 && usable > 20,
        "{opened} opened, {usable} usable, {refused} refused"
    );
}

/// Random bytes changed anywhere in the metadata of any disk.
#[test]
fn random_damage_never_panics() {
    let mut random = Random(0xDEAD_BEEF_0BAD_CAFE);
    for _ in 0..500 {
        let (_, mut disks) = mirror();
        for _ in 0..1 + random.below(12) {
            let which = random.below(4) as usize;
            let disk = &mut disks[which];
            let sector = match random.below(3) {
                0 => disk.size_sectors - 1,
                _ => place(disk),
            };
            let byte = random.below(512) as usize;
            flip(disk, sector, byte, 1 << random.below(8));
        }
        if random.below(2) == 0 {
            for disk in &mut disks {
                lie(disk, |_| ());
            }
        }
        if let Ok(set) = open(&disks) {
            exercise(set, &mut disks);
        }
    }
}

#[test]
fn small_and_odd_disks() {
    for size in [0u64, 1, 16, 17, 18, 63, 64, 100] {
        let disk = Disk::blank("small", size.max(17), 512);
        let mut small = disk.clone();
        small.size_sectors = size;
        if size >= 17 || size == 0 {
            let verdict = probe(&small, 0).1;
            assert!(matches!(verdict, Probe::NotMine));
        }
    }
    let (_, disks) = mirror();
    let mut wide = disks[0].clone();
    wide.logical_block_bytes = 4096;
    assert!(matches!(probe(&wide, 0).1, Probe::NotMine));
}
