// SPDX-License-Identifier: GPL-2.0

//! A partial parity log of another driver: what is found in it, and what is made of that after a crash, beside what md makes
//! of it. Here a sector is a byte that fills it.

use emd_core::metadata::ppl::{encode, read, signature_of, Dialect};
use emd_core::model::{Layout, Level, LogRow, LoggedWrite, Rotation, Shape, Slot};
use emd_core::personalities::hole_log::entry::crc32c;
use emd_core::personalities::hole_log::replay::mend;
use emd_core::personalities::hole_log::row::{is_run, logged};
use emd_core::personalities::hole_log::{left, Refusal, Row};
use emd_core::personalities::{Geometry, Mask};
use host_tests::crash::Random;
use host_tests::ppl::{crc, log, recover_as_md, seal, Area, Entry};
use kernel::prelude::*;
use proptest::prelude::*;

const SIGNATURE: u32 = 0x4B58_0AF9;

const MD: Dialect = Dialect {
    signature: SIGNATURE,
    unit_sectors: 1,
};

const STRIPES: u64 = 12;

fn geometry(level: Level, rotation: Rotation, members: u16, chunk: u32) -> Geometry {
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

fn raid5(members: u16, chunk: u32) -> Geometry {
    geometry(Level::Raid5, Rotation::LeftSymmetric, members, chunk)
}

/// A sum, or what else is logged: each byte fills a sector.
fn sectors(of: &[u8]) -> Vec<u8> {
    of.iter().flat_map(|&byte| [byte; 512]).collect()
}

fn found(area: &[u8], slot: Slot) -> (bool, Vec<LoggedWrite>) {
    let mut writes = KVVec::new();
    let is_whole = read(MD, slot, area, &mut writes).expect("memory");
    (is_whole, writes.iter().copied().collect())
}

/// Replays logs on members as the driver does. False when they do not tell all.
fn replay(geometry: &Geometry, members: &mut [Vec<u8>], here: Mask, areas: &[Area]) -> bool {
    let mut is_whole = true;
    let mut writes = KVVec::new();
    for slot in here {
        let area = &areas[usize::from(slot)].bytes;
        is_whole &= read(MD, slot, area, &mut writes).expect("memory");
    }
    let mut stretches = KVVec::new();
    for write in writes.iter() {
        is_whole &= left::stretches(geometry, write, &mut stretches).expect("memory");
    }
    for stretch in stretches.iter() {
        let len = stretch.sectors as usize;
        let start = |slot| {
            let start = geometry.member_sector(stretch.stripe, slot).expect("here");
            start as usize + stretch.column as usize
        };
        let roles = geometry.roles(stretch.stripe);
        let mut blocks = Vec::new();
        for (slot, member) in (0u16..).zip(members.iter()) {
            let held = match here.contains(slot) && roles.all().contains(slot) {
                true => sectors(&member[start(slot)..][..len]),
                false => vec![0xDD; len * 512],
            };
            let mut block = KVVec::from_elem(0, len * 512, GFP_KERNEL).expect("memory");
            block.copy_from_slice(&held);
            blocks.push(block);
        }
        let sum = stretch.p.map(|at| {
            let from = (at.start_sectors + at.skip_sectors) as usize * 512;
            &areas[usize::from(at.slot)].bytes[from..from + len * 512]
        });
        let write = mend(
            geometry,
            stretch,
            here,
            Mask::EMPTY,
            &mut blocks,
            [sum, None],
        )
        .expect("one missing member");
        assert!(write.is_within(roles.parity()), "data is never written");
        for slot in write {
            let from = start(slot);
            for (sector, byte) in blocks[usize::from(slot)].chunks(512).enumerate() {
                members[usize::from(slot)][from + sector] = byte[0];
            }
        }
    }
    is_whole
}

/// An array and its logs, as md has them.
struct Array {
    geometry: Geometry,
    members: Vec<Vec<u8>>,
    areas: Vec<Area>,
    random: Random,
}

/// Columns `column ..` of data chunks `chunks` of a stripe, to be written.
#[derive(Clone, Debug)]
struct Write {
    stripe: u64,
    chunks: std::ops::Range<u16>,
    column: u64,
    sectors: u64,
}

impl Array {
    fn new(geometry: Geometry, area_sectors: usize, random: Random) -> Self {
        let mut array = Self {
            geometry,
            members: vec![
                vec![0; geometry.shape().member_sectors as usize];
                geometry.members().into()
            ],
            areas: vec![Area::new(SIGNATURE, area_sectors); geometry.members().into()],
            random,
        };
        for member in &mut array.members {
            member.fill_with(|| array.random.next() as u8);
        }
        for stripe in 0..STRIPES {
            let chunk = u64::from(geometry.chunk_sectors());
            for column in 0..chunk {
                let parity = array.sum(stripe, column, geometry.roles(stripe).data);
                *array.at(stripe, array.parity(stripe), column) = parity;
            }
        }
        array
    }

    fn parity(&self, stripe: u64) -> Slot {
        self.geometry.roles(stripe).p.expect("parity")
    }

    fn at(&mut self, stripe: u64, slot: Slot, column: u64) -> &mut u8 {
        let start = self.geometry.member_sector(stripe, slot).expect("a member");
        &mut self.members[usize::from(slot)][(start + column) as usize]
    }

    fn sum(&mut self, stripe: u64, column: u64, of: Mask) -> u8 {
        of.iter()
            .fold(0, |sum, slot| sum ^ *self.at(stripe, slot, column))
    }

    fn written(&self, write: &Write) -> Mask {
        let slots = write.chunks.clone();
        slots.fold(Mask::EMPTY, |mask, index| {
            mask.with(self.geometry.data_slot(write.stripe, index))
        })
    }

    fn entry(&mut self, write: &Write) -> Entry {
        let chunk = u64::from(self.geometry.chunk_sectors());
        let left_alone = self
            .geometry
            .roles(write.stripe)
            .data
            .minus(self.written(write));
        let sum = match left_alone.is_empty() {
            true => Vec::new(),
            false => (write.column..write.column + write.sectors)
                .map(|column| self.sum(write.stripe, column, left_alone))
                .collect(),
        };
        Entry {
            first: self.geometry.stripe_start(write.stripe)
                + u64::from(write.chunks.start) * chunk
                + write.column,
            data_bytes: (write.chunks.len() as u64 * write.sectors * 512) as u32,
            parity: self.parity(write.stripe).into(),
            sum: sectors(&sum),
        }
    }

    /// A write that touches stripes of one parity's member.
    fn any_write(&mut self, stripe: u64) -> Write {
        let (chunk, data) = (
            u64::from(self.geometry.chunk_sectors()),
            u64::from(self.geometry.data_members()),
        );
        let first = self.random.below(data);
        let count = 1 + self.random.below(data - first);
        let column = self.random.below(chunk);
        Write {
            stripe,
            chunks: first as u16..(first + count) as u16,
            column,
            sectors: 1 + self.random.below(chunk - column),
        }
    }

    /// Writes new data and parity; of each sector with odds `odds` in 4 only.
    fn carry_out(&mut self, write: &Write, odds: u64) {
        let roles = self.geometry.roles(write.stripe);
        for column in write.column..write.column + write.sectors {
            let mut parity = self.sum(write.stripe, column, roles.data);
            for slot in self.written(write) {
                let new = self.random.next() as u8;
                parity ^= *self.at(write.stripe, slot, column) ^ new;
                if self.random.below(4) < odds {
                    *self.at(write.stripe, slot, column) = new;
                }
            }
            if self.random.below(4) < odds {
                *self.at(write.stripe, self.parity(write.stripe), column) = parity;
            }
        }
    }

    /// A log for each member that has some of `writes`, in place before them.
    fn log(&mut self, generation: u64, writes: &[Write]) {
        for slot in 0..self.geometry.members() {
            let mut entries = Vec::new();
            for write in writes {
                if self.parity(write.stripe) == slot {
                    entries.push(self.entry(write));
                }
            }
            if !entries.is_empty() {
                self.areas[usize::from(slot)].write(generation, &entries, usize::MAX);
            }
        }
    }
}

/// Whatever part of the writes in flight gets there, whichever member is gone then: data that was not being written is what
/// it was, and parity is what md makes it.
#[test]
fn torn_writes_are_put_right_as_md_does() {
    let rotations = [
        Rotation::LeftAsymmetric,
        Rotation::LeftSymmetric,
        Rotation::RightAsymmetric,
        Rotation::RightSymmetric,
        Rotation::ParityFirst,
        Rotation::ParityLast,
    ];
    let (mut with_loss, mut mended) = (0, 0);
    for seed in 1..200u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let members = 3 + random.below(4) as u16;
        let chunk = [8u32, 16, 128, 256][random.below(4) as usize];
        let rotation = rotations[random.below(6) as usize];
        let geometry = geometry(Level::Raid5, rotation, members, chunk);
        let area = 8 + [3usize, 9][random.below(2) as usize] * chunk as usize;
        let mut array = Array::new(geometry, area, random);
        // Some logs whose writes are through, and one whose writes are not.
        let logs = 1 + array.random.below(5);
        let mut in_flight = Vec::new();
        for generation in 1..=logs {
            let count = 1 + array.random.below(3);
            let first = array.random.below(STRIPES);
            in_flight = (0..count)
                .map(|index| array.any_write((first + index * 5) % STRIPES))
                .collect();
            array.log(generation, &in_flight);
            if generation < logs {
                for write in &in_flight {
                    array.carry_out(write, 4);
                }
            }
        }
        let before = array.members.clone();
        let odds = array.random.below(5);
        for write in &in_flight {
            array.carry_out(write, odds);
        }
        let mut here = Mask::all(members);
        if array.random.below(3) > 0 {
            here = here.without(array.random.below(u64::from(members)) as Slot);
            with_loss += 1;
        }
        let torn = array.members.clone();
        let mut result = torn.clone();
        let areas = array.areas.clone();
        assert!(
            replay(&geometry, &mut result, here, &areas),
            "seed {seed}: the log is whole"
        );
        // md's own rule on the same.
        let mut as_md = torn.clone();
        for slot in here {
            let (_, writes) = found(&areas[usize::from(slot)].bytes, slot);
            for write in writes {
                let from = write.sum_start as usize * 512;
                let sum =
                    &areas[usize::from(slot)].bytes[from..from + write.sum_sectors as usize * 512];
                let sum: Vec<u8> = sum.iter().step_by(512).copied().collect();
                recover_as_md(
                    &geometry,
                    &mut as_md,
                    here,
                    write.first_sector,
                    write.data_sectors.into(),
                    &sum,
                );
            }
        }
        for slot in here {
            assert_eq!(
                result[usize::from(slot)],
                as_md[usize::from(slot)],
                "seed {seed}: member {slot} is what md makes of it"
            );
        }
        mended += usize::from(result != torn);
        // Power that goes in the middle of the replay changes nothing of what comes out in the end.
        let mut cut = torn.clone();
        for (member, then) in cut.iter_mut().zip(&result) {
            for (byte, then) in member.iter_mut().zip(then) {
                if array.random.below(2) == 0 {
                    *byte = *then;
                }
            }
        }
        assert!(replay(&geometry, &mut cut, here, &areas));
        assert_eq!(cut, result, "seed {seed}: the replay was cut");
        // And that is right.
        array.members = result;
        for sector in 0..geometry.size_sectors() {
            let place = geometry.locate(sector);
            let column = sector % u64::from(chunk);
            let was = before[usize::from(place.slot)][place.member_sector as usize];
            let is_in_flight = in_flight.iter().any(|write| {
                write.stripe == place.stripe
                    && write.chunks.contains(&place.data_index)
                    && (write.column..write.column + write.sectors).contains(&column)
            });
            let others = geometry.roles(place.stripe).all().without(place.slot);
            let now = match here.contains(place.slot) {
                true => *array.at(place.stripe, place.slot, column),
                false => array.sum(place.stripe, column, others),
            };
            if is_in_flight {
                let torn = torn[usize::from(place.slot)][place.member_sector as usize];
                assert!(!here.contains(place.slot) || now == torn, "seed {seed}");
            } else {
                assert_eq!(now, was, "seed {seed}: sector {sector}");
            }
            if others.is_within(here) && here.contains(place.slot) {
                let worked_out = array.sum(place.stripe, column, others);
                assert_eq!(worked_out, now, "seed {seed}: parity at {sector}");
            }
        }
    }
    assert!(with_loss > 80 && mended > 50, "{with_loss} {mended}");
}

/// A log whose data was not yet written is not taken for one when it is torn: the one before counts, and changes nothing.
#[test]
fn a_torn_log_is_none() {
    let geometry = raid5(4, 16);
    for (whole, counts) in [(0, 1), (512, 1), (544, 1), (4096, 2), (4096 + 512, 2)] {
        let mut array = Array::new(geometry, 64, Random(99));
        let write = Write {
            stripe: 3,
            chunks: 0..2,
            column: 4,
            sectors: 6,
        };
        array.log(1, std::slice::from_ref(&write));
        array.carry_out(&write, 4);
        let slot = array.parity(3);
        let next = Write {
            chunks: 1..2,
            ..write.clone()
        };
        let entry = array.entry(&next);
        array.areas[usize::from(slot)].write(2, &[entry], whole);
        let (is_whole, writes) = found(&array.areas[usize::from(slot)].bytes, slot);
        let first = geometry.stripe_start(3) + 4;
        match counts {
            1 => {
                assert!(is_whole, "{whole}");
                assert_eq!(writes[0].first_sector, first, "{whole}");
            }
            // The header is whole and says that the sum is not.
            _ => assert!(!is_whole && writes.is_empty(), "{whole}"),
        }
        let before = array.members.clone();
        let mut members = before.clone();
        let areas = array.areas.clone();
        replay(&geometry, &mut members, Mask::all(4), &areas);
        assert_eq!(before, members, "{whole}");
    }
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
    let one: [(&str, Lie<'_>); 7] = [
        ("the sum differs", &|area| area[4096] ^= 1),
        ("another member's", &reseal(|area| area[536 + 16] = 2)),
        ("half a sector written", &reseal(|area| area[536 + 12] = 1)),
        ("the sum's checksum", &reseal(|area| area[536 + 20] ^= 1)),
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

/// Entries with the sum of a whole chunk: a stretch of the volume, from the middle of one chunk to the middle of another.
#[test]
fn stretches_of_the_volume() {
    let geometry = raid5(4, 16);
    let chunk = 16u64;
    // (first column, length): within a stripe of three chunks.
    for (first, written) in [
        (0, 16),
        (8, 16),
        (8, 32),
        (4, 20),
        (0, 48),
        (8, 24),
        (20, 28),
        (12, 8),
    ] {
        for lost in 0..=4u16 {
            let mut array = Array::new(geometry, 64, Random(7 + first));
            let stripe = 5;
            let slot = array.parity(stripe);
            let start = geometry.stripe_start(stripe) + first;
            let end = start + written;
            // What is left alone in the columns from the first sector's on.
            let mut sum = Vec::new();
            for row in 0..chunk {
                let column = (first + row) % chunk;
                let left_alone = geometry.roles(stripe).data.iter().filter(|&slot| {
                    let index = u64::from(geometry.data_index(stripe, slot).expect("data"));
                    let sector = geometry.stripe_start(stripe) + index * chunk + column;
                    !(start..end).contains(&sector)
                });
                let mask = left_alone.fold(Mask::EMPTY, |mask, slot| mask.with(slot));
                sum.push(array.sum(stripe, column, mask));
            }
            let before = array.members.clone();
            for sector in start..end {
                let place = geometry.locate(sector);
                array.members[usize::from(place.slot)][place.member_sector as usize] = 0x55;
            }
            let entry = Entry {
                first: start,
                data_bytes: (written * 512) as u32,
                parity: slot.into(),
                sum: sectors(&sum),
            };
            array.areas[usize::from(slot)].write(1, &[entry], usize::MAX);
            let here = Mask::all(4).without(lost);
            let (mut ours, mut as_md) = (array.members.clone(), array.members.clone());
            let areas = array.areas.clone();
            assert!(replay(&geometry, &mut ours, here, &areas));
            // (md takes the rows of all chunks from the log, too: nothing is left alone there.)
            if here.contains(slot) {
                recover_as_md(&geometry, &mut as_md, here, start, written, &sum);
            }
            for member in here {
                assert_eq!(
                    ours[usize::from(member)],
                    as_md[usize::from(member)],
                    "{first}+{written} without {lost}: member {member}"
                );
            }
            if lost == 4 {
                array.members = ours;
                let roles = geometry.roles(stripe);
                for column in 0..chunk {
                    assert_eq!(
                        array.sum(stripe, column, roles.all()),
                        0,
                        "{first}+{written}"
                    );
                }
                assert_ne!(before, array.members);
            }
        }
    }
}

proptest! {
    /// Nothing that a log says makes it panic, or touch what is not parity and not there.
    #[test]
    fn hostile_logs(
        entries in prop::collection::vec(any::<[u32; 6]>(), 0..150),
        small in any::<bool>(),
        count in any::<u32>(),
        chunk_shift in 3u32..9,
        level in 0usize..3,
        slot in 0u16..6,
        length in 0usize..40 * 512,
    ) {
        let mut area = log(SIGNATURE, 1, &[]);
        area.resize(40 * 512, 0xA5);
        for (index, words) in entries.iter().enumerate().take(148) {
            let at = 536 + 24 * index;
            for (word, value) in words.iter().enumerate() {
                // Numbers that nearly make sense, and others.
                let value = match (word, small) {
                    (1, true) => 0,
                    (4, true) => value % 6,
                    (0, true) => value % 4096,
                    (5, true) => crc(&vec![0xA5; (words[2] % 8 * 512) as usize]),
                    (_, true) => value % 8 * 512,
                    (_, false) => *value,
                };
                area[at + 4 * word..at + 4 * word + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        let count = if small { entries.len() as u32 } else { count };
        area[528..532].copy_from_slice(&count.to_le_bytes());
        seal(&mut area);
        area.truncate(length.max(4096));
        let geometry = match level {
            0 => geometry(Level::Raid5, Rotation::LeftSymmetric, 5, 1 << chunk_shift),
            1 => geometry(Level::Raid6, Rotation::LeftSymmetric, 5, 1 << chunk_shift),
            _ => geometry(Level::Raid5, Rotation::RightAsymmetric, 3, 1 << chunk_shift),
        };
        let mut writes = KVVec::new();
        let _ = read(MD, slot, &area, &mut writes);
        prop_assert!(writes.len() <= 148);
        let mut stretches = KVVec::new();
        for write in writes.iter() {
            prop_assert_eq!(write.slot, slot);
            let end = (write.sum_start + write.sum_sectors) as usize * 512;
            prop_assert!(end <= area.len());
            let before = stretches.len();
            let fits = left::stretches(&geometry, write, &mut stretches).unwrap();
            prop_assert!(fits || stretches.len() == before);
        }
        prop_assert!(level != 1 || stretches.is_empty());
        for stretch in stretches.iter() {
            prop_assert!(stretch.stripe < geometry.stripes());
            prop_assert!((1..=128).contains(&stretch.sectors));
            prop_assert!(stretch.column + stretch.sectors <= geometry.chunk_sectors());
            prop_assert!(stretch.covers.is_within(geometry.roles(stretch.stripe).data));
            prop_assert_eq!(geometry.roles(stretch.stripe).p, Some(slot));
            if let Some(sum) = stretch.p {
                let end = (sum.start_sectors + sum.skip_sectors + stretch.sectors) as usize * 512;
                prop_assert!(end <= area.len());
            }
        }
    }
}

/// What EMD writes is what it reads, and what md reads.
#[test]
fn emd_writes_such_a_log() {
    let geometry = raid5(5, 128);
    let row = LogRow {
        sectors: 400,
        signature: SIGNATURE,
        unit_sectors: 1,
    };
    let mut area = vec![0; 400 * 512];
    encode(&row, 0, None, crc32c, &mut area);
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
    assert!(Row::new(135).is_err());
    let mut row = Row::new(8 + 2 * 136).expect("a row");
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
