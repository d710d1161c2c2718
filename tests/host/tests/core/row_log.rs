// SPDX-License-Identifier: GPL-2.0

//! The bytes of a partial parity log as other drivers have it: which of its headers counts, what is damaged, what EMD writes,
//! and when a row takes the next header. Here a sector is a byte that fills it.

use emd_core::metadata::ppl::{encode, read, signature_of, Dialect};
use emd_core::model::{Layout, Level, LogRow, LoggedWrite, Rotation, Shape, Slot};
use emd_core::personalities::hole_log::entry::crc32c;
use emd_core::personalities::hole_log::row::{is_run, logged};
use emd_core::personalities::hole_log::{left, Refusal, Row};
use emd_core::personalities::{Geometry, Mask};
use host_tests::crash::Random;
use host_tests::ppl::{crc, log, seal, Area, Entry};
use kernel::prelude::*;

pub const SIGNATURE: u32 = 0x4B58_0AF9;

pub const MD: Dialect = Dialect {
    signature: SIGNATURE,
    unit_sectors: 1,
};

pub const STRIPES: u64 = 12;

pub fn geometry(level: Level, rotation: Rotation, members: u16, chunk: u32) -> Geometry {
    let member_sectors = u64::from(chunk) * STRIPES;
    let shape = Shape {
        level,
        layout: Layout::Parity(rotation),
        members,
        spans: 1,
        chunk_sectors: chunk,
        member_sectors,
    };
    let data = u64::from(members - level.parity_members());
    Geometry::new(&shape, member_sectors * data).expect("a shape")
}

pub fn raid5(members: u16, chunk: u32) -> Geometry {
    geometry(Level::Raid5, Rotation::LeftSymmetric, members, chunk)
}

/// A sum, or what else is logged: each byte fills a sector.
pub fn sectors(of: &[u8]) -> Vec<u8> {
    of.iter().flat_map(|&byte| [byte; 512]).collect()
}

pub fn found(area: &[u8], slot: Slot) -> (bool, Vec<LoggedWrite>) {
    let mut writes = KVVec::new();
    let is_whole = read(MD, slot, area, &mut writes).expect("memory");
    (is_whole, writes.iter().copied().collect())
}

#[test]
fn the_newest_of_a_row_counts() {
    let entry = |first: u64, sum: usize| Entry {
        first,
        data_bytes: 512 * sum as u32,
        parity: 2,
        sum: sectors(&vec![7; sum]),
    };
    let mut area = Area::new(SIGNATURE, 64);
    let newest = |area: &Area| {
        let (is_whole, writes) = found(&area.bytes, 2);
        assert!(is_whole);
        writes
            .iter()
            .map(|write| write.first_sector)
            .collect::<Vec<_>>()
    };
    assert_eq!(newest(&area), [] as [u64; 0], "the empty one");
    // 9, 12, 8 and 30 sectors; the fifth does not fit any more and goes to the start.
    area.write(1, &[entry(10, 1)], usize::MAX);
    assert_eq!(newest(&area), [10]);
    area.write(2, &[entry(20, 3), entry(21, 1)], usize::MAX);
    assert_eq!(newest(&area), [20, 21]);
    area.write(3, &[], usize::MAX);
    assert_eq!(newest(&area), [] as [u64; 0]);
    area.write(4, &[entry(40, 22)], usize::MAX);
    assert_eq!(newest(&area), [40]);
    area.write(5, &[entry(50, 1)], usize::MAX);
    // What lies behind it is older.
    assert_eq!(newest(&area), [50]);
    area.write(6, &[entry(60, 9)], usize::MAX);
    // This one overwrote the header that was behind it.
    assert_eq!(newest(&area), [60]);
    // A header that is no part of the row does not count, whatever it says.
    let forged = log(SIGNATURE, 999, &[entry(70, 1)]);
    let at = 40 * 512;
    area.bytes[at..at + forged.len()].copy_from_slice(&forged);
    assert_eq!(newest(&area), [60]);
}

/// Changes an area.
type Lie<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn what_is_damaged_is_said() {
    let whole = Entry {
        first: 64,
        data_bytes: 1024,
        parity: 1,
        sum: sectors(&[1, 2]),
    };
    let case = |entries: &[Entry], edit: &dyn Fn(&mut Vec<u8>)| {
        let mut area = log(SIGNATURE, 3, entries);
        area.resize(32 * 512, 0);
        edit(&mut area);
        found(&area, 1)
    };
    let (is_whole, writes) = case(std::slice::from_ref(&whole), &|_| {});
    assert!(is_whole);
    let wanted = LoggedWrite {
        slot: 1,
        first_sector: 64,
        data_sectors: 2,
        sum_sectors: 2,
        sum_start: 8,
    };
    assert_eq!(writes, [wanted]);
    let reseal = |edit: fn(&mut [u8])| {
        move |area: &mut Vec<u8>| {
            edit(area);
            seal(area);
        }
    };
    // No log at all.
    let none: [(&str, Lie<'_>); 5] = [
        ("another signature", &reseal(|area| area[512] ^= 1)),
        ("a changed bit", &|area| area[100] ^= 1),
        ("149 entries", &reseal(|area| area[528] = 149)),
        ("2^32 entries", &reseal(|area| area[528..532].fill(0xFF))),
        ("half a header", &|area| area.truncate(4095)),
    ];
    for (what, edit) in none {
        let (is_whole, writes) = case(std::slice::from_ref(&whole), edit);
        assert!(!is_whole && writes.is_empty(), "{what}");
    }
    // One entry is no good, the other is.
    let other = Entry {
        first: 128,
        ..whole.clone()
    };
    let one: [(&str, Lie<'_>); 5] = [
        ("another member's", &reseal(|area| area[536 + 16] = 2)),
        ("half a sector written", &reseal(|area| area[536 + 12] = 1)),
        (
            "a place beyond all",
            &reseal(|area| area[536..544].fill(0xFF)),
        ),
        ("no data", &reseal(|area| area[536 + 12..536 + 16].fill(0))),
        (
            "no sum, but a checksum",
            &reseal(|area| area[536 + 8..536 + 12].fill(0)),
        ),
    ];
    let torn: [(&str, Lie<'_>); 2] = [
        ("the sum differs", &|area| area[4096] ^= 1),
        ("the sum's checksum", &reseal(|area| area[536 + 20] ^= 1)),
    ];
    for (what, edit) in torn {
        // Then the log's write was cut, and what it was for had not begun.
        let (is_whole, writes) = case(&[whole.clone(), other.clone()], edit);
        assert!(is_whole, "{what}");
        assert_eq!(writes.len(), 1, "{what}");
        assert_eq!(writes[0].first_sector, 128, "{what}");
    }
    for (what, edit) in one {
        let (is_whole, writes) = case(&[whole.clone(), other.clone()], edit);
        let fits: Vec<bool> = writes
            .iter()
            .map(|write| {
                let mut stretches = KVVec::new();
                left::stretches(&raid5(3, 16), write, &mut stretches).expect("memory")
            })
            .collect();
        assert!(!is_whole || fits.contains(&false), "{what}");
    }
    // mdadm's way of saying that nothing was in flight; and its way of saying that nobody knows.
    let nothing = Entry {
        first: 0,
        data_bytes: 0,
        parity: 0,
        sum: Vec::new(),
    };
    let (is_whole, writes) = case(std::slice::from_ref(&nothing), &|_| {});
    assert!(is_whole && writes.is_empty());
    let (is_whole, writes) = case(&[nothing], &reseal(|area| area[536 + 20] = 1));
    assert!(!is_whole && writes.is_empty());
}

#[test]
fn the_signature_is_the_checksum_of_the_uuid() {
    assert_eq!(signature_of(&[0; 16]), crc(&[0; 16]));
    assert_eq!(crc(b"123456789"), 0xE306_9283);
}

/// The unit of Intel's entries is a logical block.
#[test]
fn places_may_be_in_blocks() {
    let entry = Entry {
        first: 9,
        data_bytes: 4096,
        parity: 0,
        sum: sectors(&[1; 8]),
    };
    let mut area = log(SIGNATURE, 1, &[entry]);
    area.resize(64 * 512, 0);
    let mut writes = KVVec::new();
    let blocks = Dialect {
        unit_sectors: 8,
        ..MD
    };
    assert!(read(blocks, 0, &area, &mut writes).expect("memory"));
    assert_eq!(writes[0].first_sector, 72);
}

/// What EMD writes is what it reads, and what md reads.
#[test]
fn emd_writes_such_a_log() {
    let geometry = raid5(5, 128);
    let row = LogRow {
        sectors: 400,
        signature: SIGNATURE,
        unit_sectors: 1,
        tells_all: true,
        encode,
    };
    let mut area = vec![0; 400 * 512];
    encode(&row, 0, None, true, crc32c, &mut area);
    assert_eq!(area[..4096], log(SIGNATURE, 0, &[]));
    let stripe = 7;
    let roles = geometry.roles(stripe);
    let slot = roles.p.expect("parity");
    let chunk = |indices: &[u16]| {
        let slots = indices
            .iter()
            .map(|&index| geometry.data_slot(stripe, index));
        slots.fold(Mask::EMPTY, |mask, slot| mask.with(slot))
    };
    let start = geometry.stripe_start(stripe);
    // What is written, and what that comes to: first chunk, chunks, whether there is a sum.
    for (written, first, count, has_sum) in [
        (&[0u16][..], 0, 1, true),
        (&[3], 3, 1, true),
        (&[1, 2], 1, 2, true),
        (&[0, 1, 2, 3], 0, 4, true),
        // Chunks that do not follow one another; nothing.
        (&[0, 2], 0, 4, false),
        (&[], 0, 4, false),
    ] {
        for (column, sectors) in [(0, 128u32), (8, 5), (127, 1)] {
            let covers = roles.data.minus(chunk(written));
            let write = logged(&geometry, stripe, (column, sectors), Some(covers), slot);
            let sum_sectors = if has_sum { sectors } else { 0 };
            assert_eq!(write.first_sector, start + 128 * first + u64::from(column));
            assert_eq!(write.data_sectors, count * sectors);
            assert_eq!(write.sum_sectors, sum_sectors);
            let sum = sectors_of_noise(sum_sectors);
            encode(
                &row,
                5,
                Some((write, crc32c(!0, &sum))),
                true,
                crc32c,
                &mut area[4096..],
            );
            area[8192..][..sum.len()].copy_from_slice(&sum);
            let entry = Entry {
                first: write.first_sector,
                data_bytes: write.data_sectors * 512,
                parity: slot.into(),
                sum,
            };
            let as_md = log(SIGNATURE, 5, &[entry]);
            assert_eq!(area[4096..][..as_md.len()], as_md, "{written:?}");
            let (is_whole, writes) = found(&area, slot);
            assert!(is_whole, "{written:?}");
            let wanted = LoggedWrite {
                sum_start: 16,
                ..write
            };
            assert_eq!(writes, [wanted]);
            let mut stretches = KVVec::new();
            assert!(left::stretches(&geometry, &write, &mut stretches).expect("memory"));
            let covers = if has_sum { covers } else { Mask::EMPTY };
            assert!(stretches.iter().all(|stretch| stretch.covers == covers));
        }
    }
    assert!(is_run(&geometry, stripe, chunk(&[1, 2, 3])));
    assert!(!is_run(&geometry, stripe, chunk(&[1, 3])));
}

fn sectors_of_noise(count: u32) -> Vec<u8> {
    let mut random = Random(77);
    (0..count * 512).map(|_| random.next() as u8).collect()
}

/// One write at a time has a row, and the next one waits until that is durable.
#[test]
fn a_row_has_one_write_at_a_time() {
    assert!(Row::new(151).is_err());
    let mut row = Row::new(8 + 2 * 136 + 16).expect("a row");
    let first = row.place(128, 0, None).expect("nothing is there");
    assert_eq!((first.sector, first.generation), (8, 1));
    assert_eq!(row.place(1, u64::MAX, None), Err(Refusal::Busy));
    // Who logs anew goes over its own.
    let again = row.place(128, 0, Some(first)).expect("its own");
    assert_eq!((again.sector, again.generation), (144, 2));
    assert_eq!(row.has_room(u64::MAX, Some(first)), Err(Refusal::Busy));
    row.done(first, 0);
    assert_eq!(
        row.has_room(u64::MAX, None),
        Err(Refusal::Busy),
        "not the last"
    );
    row.done(again, 4);
    assert_eq!(row.place(128, 3, None), Err(Refusal::Unflushed));
    // What does not fit any more goes to the start.
    let next = row.place(128, 4, None).expect("flushed");
    assert_eq!((next.sector, next.generation), (0, 3));
    row.done(next, 5);
    let next = row.place(0, 5, None).expect("flushed");
    assert_eq!((next.sector, next.generation), (136, 4));
    row.clear();
    let next = row.place(0, 0, None).expect("another member");
    assert_eq!((next.sector, next.generation), (8, 1));
}

/// While parity does not agree everywhere, headers have md resync the array when it has replayed them.
#[test]
fn what_is_not_in_sync_stays_so() {
    let row = LogRow {
        sectors: 400,
        signature: SIGNATURE,
        unit_sectors: 1,
        tells_all: true,
        encode,
    };
    let write = LoggedWrite {
        slot: 2,
        first_sector: 40,
        data_sectors: 2,
        sum_sectors: 2,
        sum_start: 8,
    };
    let sum = sectors_of_noise(2);
    let mut area = vec![0; 400 * 512];
    area[4096..][..1024].copy_from_slice(&sum);
    let entry = Some((write, crc32c(!0, &sum)));
    encode(&row, 7, entry, false, crc32c, &mut area);
    // To EMD it says all there was in flight.
    assert_eq!(found(&area, 2), (true, vec![write]));
    // To md it has a second entry, of nothing, whose checksum is wrong (of nothing it is 0).
    let word = |at: usize| u32::from_le_bytes(area[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(word(528), 2);
    assert_eq!(crc(&[]), 0);
    assert_eq!([0, 4, 8, 12].map(|at| word(536 + 24 + at)), [0; 4]);
    assert_ne!(word(536 + 24 + 20), 0);
    // What another driver says it does not know, EMD does not know.
    let at = 536 + 24 + 20;
    area[at] ^= 1;
    seal(&mut area);
    assert_eq!(found(&area, 2), (false, vec![write]));
}

/// That nobody knows all that was in flight before is said by each header that takes the place of one that said so, until
/// parity agrees everywhere.
#[test]
fn what_nobody_knows_outlives_writes() {
    let write = LoggedWrite {
        slot: 2,
        first_sector: 40,
        data_sectors: 2,
        sum_sectors: 2,
        sum_start: 8,
    };
    let sum = sectors_of_noise(2);
    for tells_all in [true, false] {
        for is_synced in [true, false] {
            let row = LogRow {
                sectors: 400,
                signature: SIGNATURE,
                unit_sectors: 1,
                tells_all,
                encode,
            };
            let mut area = vec![0; 400 * 512];
            area[4096..][..1024].copy_from_slice(&sum);
            let entry = Some((write, crc32c(!0, &sum)));
            encode(&row, 7, entry, is_synced, crc32c, &mut area);
            assert_eq!(found(&area, 2), (tells_all || is_synced, vec![write]));
        }
    }
}

/// A log that is begun anew while nobody knows all that was in flight: without a write it says just that, to md as well.
#[test]
fn what_nobody_knows_is_not_forgotten() {
    let row = LogRow {
        sectors: 400,
        signature: SIGNATURE,
        unit_sectors: 1,
        tells_all: true,
        encode,
    };
    for tells_all in [true, false] {
        let mut area = vec![0; 400 * 512];
        encode(&row, 0, None, tells_all, crc32c, &mut area);
        assert_eq!(found(&area, 2), (tells_all, Vec::new()));
        let word = |at: usize| u32::from_le_bytes(area[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(word(528), u32::from(!tells_all));
        assert_eq!([0, 4, 8, 12, 16].map(|at| word(536 + at)), [0; 5]);
        assert_eq!(word(536 + 20) != crc(&[]), !tells_all);
    }
}

/// md finds the sums of the newest header only where there is room for another one behind it.
#[test]
fn the_end_of_a_row_is_not_used() {
    for sectors in 152..600u32 {
        let mut row = Row::new(sectors).expect("a row");
        let mut random = Random(sectors.into());
        let mut next = 8;
        for generation in 1..200 {
            let sum = (random.next() % 129) as u32;
            let place = row.place(sum, u64::MAX, None).expect("room");
            assert_eq!(place.generation, generation);
            assert!(place.sector == next || place.sector == 0);
            next = place.sector + 8 + sum;
            assert!(next + 8 < sectors, "{sectors}: {place:?} and {sum}");
            row.done(place, 0);
        }
    }
}
