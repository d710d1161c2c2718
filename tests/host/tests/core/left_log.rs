// SPDX-License-Identifier: GPL-2.0

//! A partial parity log of another driver: what is made of it after a crash, beside what md makes of it. Its bytes are in
//! `row_log`. Here a sector is a byte that fills it.

use crate::row_log::{found, geometry, raid5, sectors, MD, SIGNATURE, STRIPES};
use emd_core::metadata::ppl::read;
use emd_core::model::{Level, Rotation, Slot};
use emd_core::personalities::hole_log::left;
use emd_core::personalities::hole_log::replay::mend;
use emd_core::personalities::{Geometry, Mask};
use host_tests::crash::Random;
use host_tests::ppl::{crc, log, recover_as_md, seal, Area, Entry};
use kernel::prelude::*;
use proptest::prelude::*;

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
            // The header is whole and says that the sum is not: its write had not begun, and the one before is through.
            _ => assert!(is_whole && writes.is_empty(), "{whole}"),
        }
        let before = array.members.clone();
        let mut members = before.clone();
        let areas = array.areas.clone();
        replay(&geometry, &mut members, Mask::all(4), &areas);
        assert_eq!(before, members, "{whole}");
    }
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
