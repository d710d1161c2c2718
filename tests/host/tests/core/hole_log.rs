// SPDX-License-Identifier: GPL-2.0

//! The log that closes the write hole: its entries, its rings, and what is made of them after a crash.

use emd_core::model::{Layout, Level, Rotation, Shape, Slot};
use emd_core::personalities::hole_log::entry::{hash_sum, scan, Found};
use emd_core::personalities::hole_log::replay::{mend, plan, Stretch};
use emd_core::personalities::hole_log::{
    Entry, Refusal, Ring, Session, Sum, Watch, UNITS_MIN, UNIT_BYTES,
};
use emd_core::personalities::{gf256, Geometry, Mask};
use host_tests::xxh64;
use kernel::prelude::*;
use proptest::prelude::*;

const SESSION: Session = Session([0x1234, 0xABCD]);

fn an_entry() -> Entry {
    Entry {
        number: 7,
        stripe: 3,
        column: 16,
        sectors: 9,
        covers: Mask(0b101),
        on: Mask(0b1000),
        slot: 3,
        sum: Sum::P,
        position: 40,
        oldest: 4,
    }
}

#[test]
fn an_entry_reads_back_and_any_changed_bit_of_its_head_voids_it() {
    let entry = an_entry();
    let mut unit = vec![0xEEu8; UNIT_BYTES];
    entry.encode(SESSION, 0x5555, &mut unit);
    assert_eq!(Entry::decode(SESSION, &unit), Some((entry, 0x5555)));
    assert_eq!(Entry::decode(Session([0x1234, 0xABCE]), &unit), None);
    for bit in 0..100 * 8 {
        unit[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Entry::decode(SESSION, &unit), None, "bit {bit}");
        unit[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(Entry::decode(SESSION, &unit[..100]), None);
}

proptest! {
    /// Whatever is in a ring: nothing panics, and nothing is found that has not the session.
    #[test]
    fn hostile_rings(mut bytes in prop::collection::vec(any::<u8>(), 0..3 * UNIT_BYTES), sectors in any::<u32>(), column in any::<u32>(), stripe in any::<u64>(), covers in any::<u64>()) {
        let mut found = KVVec::new();
        scan(SESSION, 3, &bytes, xxh64, &mut found).unwrap();
        prop_assert!(found.is_empty());
        // A head that is sound, with measures that are not.
        let entry = Entry { sectors, column, stripe, covers: Mask(covers), ..an_entry() };
        if bytes.len() >= UNIT_BYTES {
            entry.encode(SESSION, 0, &mut bytes);
            scan(SESSION, 3, &bytes, |_, _| 0, &mut found).unwrap();
            let geometry = geometry(Level::Raid5, Rotation::LeftSymmetric, 4);
            let _ = plan(&geometry, &mut found, Mask::all(4)).unwrap();
        }
    }
}

fn geometry(level: Level, rotation: Rotation, members: u16) -> Geometry {
    let shape = Shape {
        level,
        layout: Layout::Parity(rotation),
        members,
        spans: 1,
        chunk_sectors: 32,
        member_sectors: 32 * 8,
    };
    let data = u64::from(members - level.parity_members());
    Geometry::new(&shape, data * 32 * 8).unwrap()
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A ring on a disk: of each unit, which entry's head or sum it has; an entry is whole when all are its own.
struct Medium {
    units: Vec<u64>,
    /// First unit, units, bucket, position and what it says of others.
    entries: Vec<(u32, u32, u16, u64, u64)>,
}

impl Medium {
    /// Writes some or all units of entry `id`.
    fn write(&mut self, id: u64, torn: Option<&mut Rng>) {
        let (first, units, ..) = self.entries[id as usize];
        let len = self.units.len() as u32;
        let mut torn = torn;
        for unit in 0..units {
            if torn.as_mut().is_some_and(|rng| rng.below(2) == 0) {
                continue;
            }
            self.units[((first + unit) % len) as usize] = id;
        }
    }

    fn whole(&self) -> Vec<u64> {
        let len = self.units.len() as u32;
        let is_whole = |&id: &u64| {
            let (first, units, ..) = self.entries[id as usize];
            (0..units).all(|unit| self.units[((first + unit) % len) as usize] == id)
        };
        // Only those on the medium can be.
        let mut there: Vec<u64> = self
            .units
            .iter()
            .copied()
            .filter(|&id| id != u64::MAX)
            .collect();
        there.sort_unstable();
        there.dedup();
        there.into_iter().filter(is_whole).collect()
    }

    /// Those that a reader after a crash would go by.
    fn counting(&self) -> Vec<u64> {
        let whole = self.whole();
        let oldest = whole
            .iter()
            .map(|&id| self.entries[id as usize].4)
            .max()
            .unwrap_or(0);
        let counts = |&id: &u64| self.entries[id as usize].3 >= oldest;
        whole.into_iter().filter(counts).collect()
    }
}

/// Whatever is found on the medium is counted as long as it can be, nothing goes before its write is through
/// and flushed, and entries go in the order in which they came.
#[test]
fn rings_keep_what_counts() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let units = UNITS_MIN + rng.below(20) as u32;
        let mut ring = Ring::new(units).unwrap();
        let watch = Watch::new(seed % 2 == 0).unwrap();
        let mut medium = Medium {
            units: vec![u64::MAX; units as usize],
            entries: Vec::new(),
        };
        // Entries being written; written, and their write under way; done, and the flush that covers it.
        let (mut writing, mut under_way) = (Vec::new(), Vec::new());
        let mut done: Vec<(u64, u64)> = Vec::new();
        let mut refused = [0; 2];
        let mut through = Vec::new();
        for _ in 0..600 {
            match rng.below(6) {
                0 | 1 => {
                    let sectors = [0, 1, 8, 9, 128][rng.below(5) as usize];
                    let bucket = rng.below(7) as u16;
                    match ring.place(sectors, bucket, watch.flushed()) {
                        Ok(place) => {
                            watch.entry_put(bucket);
                            let units = 1 + u32::div_ceil(sectors, 8);
                            let id = medium.entries.len() as u64;
                            // What is in the way was done and flushed.
                            let before = medium.whole();
                            medium.entries.push((
                                place.unit,
                                units,
                                bucket,
                                place.position,
                                place.oldest,
                            ));
                            assert_eq!(
                                place.units_before_end,
                                units.min(medium.units.len() as u32 - place.unit)
                            );
                            let mut whole = Medium {
                                units: medium.units.clone(),
                                entries: medium.entries.clone(),
                            };
                            whole.write(id, None);
                            let after = whole.whole();
                            let gone: Vec<u64> = before
                                .iter()
                                .copied()
                                .filter(|id| !after.contains(id))
                                .collect();
                            for old in &gone {
                                let flush =
                                    done.iter().find(|done| done.0 == *old).map(|done| done.1);
                                assert!(
                                    flush.is_some_and(|flush| flush <= watch.flushed()),
                                    "{old} is in use"
                                );
                            }
                            // It may be torn for as long as it takes.
                            medium.write(id, Some(&mut rng));
                            writing.push((id, place));
                            through.push(false);
                        }
                        Err(Refusal::Busy) => refused[0] += 1,
                        Err(Refusal::Unflushed) => refused[1] += 1,
                    }
                }
                2 if !writing.is_empty() => {
                    let at = rng.below(writing.len() as u64) as usize;
                    let (id, place) = writing.remove(at);
                    medium.write(id, None);
                    through[id as usize] = true;
                    ring.written(place, |bucket| watch.entry_gone(bucket));
                    under_way.push((id, place));
                }
                3 if !under_way.is_empty() => {
                    let at = rng.below(under_way.len() as u64) as usize;
                    let (id, place) = under_way.remove(at);
                    let flush = watch.next_flush();
                    ring.done(place, flush);
                    done.push((id, flush));
                }
                4 => {
                    let number = watch.flush_begins();
                    watch.flush_ended(number);
                }
                _ => {}
            }
            let counting = medium.counting();
            for &id in &counting {
                let bucket = medium.entries[id as usize].2;
                assert!(
                    watch.has_entry(bucket),
                    "seed {seed}: entry {id} is found and not counted"
                );
                // Every later one that was written is found too.
                let later = (id..medium.entries.len() as u64)
                    .find(|&later| through[later as usize] && !counting.contains(&later));
                assert_eq!(
                    later, None,
                    "seed {seed}: {id} is found, and what came later is not"
                );
            }
        }
        assert!(medium.entries.len() > 20);
        ring.clear(|bucket| watch.entry_gone(bucket));
        assert!(
            (0..7).all(|bucket| !watch.has_entry(bucket)),
            "seed {seed}: counted, and gone"
        );
    }
}

#[test]
fn flushes_cover_what_was_written_before_they_began() {
    let watch = Watch::new(false).unwrap();
    assert!(!watch.is_unflushed(5));
    watch.lane_written(5);
    assert!(watch.is_unflushed(5) && !watch.is_unflushed(6));
    let first = watch.flush_begins();
    watch.lane_written(5);
    watch.flush_ended(first);
    assert!(watch.is_unflushed(5), "written while it went on");
    let (second, third) = (watch.flush_begins(), watch.flush_begins());
    watch.flush_ended(third);
    watch.flush_ended(second);
    assert!(!watch.is_unflushed(5));
    let durable = Watch::new(true).unwrap();
    durable.lane_written(5);
    assert!(!durable.is_unflushed(5));
}

/// Members' blocks of one stripe, and logs of one ring each.
struct World {
    geometry: Geometry,
    stripe: u64,
    blocks: Vec<Vec<u8>>,
    rings: Vec<Vec<u8>>,
    ends: Vec<usize>,
    number: u64,
}

const CHUNK: usize = 32 * 512;

impl World {
    fn new(geometry: Geometry, stripe: u64, rng: &mut Rng) -> Self {
        let n = usize::from(geometry.members());
        let mut world = Self {
            geometry,
            stripe,
            blocks: (0..n)
                .map(|_| (0..CHUNK).map(|_| rng.next() as u8).collect())
                .collect(),
            rings: vec![vec![0; UNITS_MIN as usize * UNIT_BYTES]; n],
            ends: vec![0; n],
            number: 0,
        };
        let roles = geometry.roles(stripe);
        for parity in roles.parity() {
            world.blocks[usize::from(parity)] = world.sum(parity, roles.data, 0, CHUNK);
        }
        world
    }

    fn sum(&self, parity: Slot, of: Mask, from: usize, len: usize) -> Vec<u8> {
        let mut sum = vec![0; len];
        for slot in of {
            let block = &self.blocks[usize::from(slot)][from..from + len];
            if self.geometry.roles(self.stripe).q == Some(parity) {
                let exponent = self.geometry.q_exponent(self.stripe, slot).unwrap();
                gf256::add_scaled(&mut sum, block, exponent);
            } else {
                gf256::add(&mut sum, block);
            }
        }
        sum
    }

    /// Logs the sums of `covers` over some columns; of the parities in `torn` the entry is not written whole.
    fn log(&mut self, column: u32, sectors: u32, covers: Mask, void: bool, torn: Mask) {
        let roles = self.geometry.roles(self.stripe);
        self.number += 1;
        for parity in roles.parity() {
            let sum = self.sum(
                parity,
                covers,
                column as usize * 512,
                sectors as usize * 512,
            );
            let entry = Entry {
                number: self.number,
                stripe: self.stripe,
                column,
                sectors,
                covers,
                on: roles.parity(),
                slot: parity,
                position: self.ends[usize::from(parity)] as u64,
                oldest: 0,
                sum: match (void, roles.q == Some(parity)) {
                    (true, _) => Sum::Void,
                    (_, false) => Sum::P,
                    (_, true) => Sum::Q,
                },
            };
            let mut bytes = vec![0; entry.units() as usize * UNIT_BYTES];
            let hash = hash_sum([&sum[..entry.sum_bytes()], &[]], xxh64);
            entry.encode(SESSION, hash, &mut bytes);
            bytes[UNIT_BYTES..][..entry.sum_bytes()].copy_from_slice(&sum[..entry.sum_bytes()]);
            let ring = &mut self.rings[usize::from(parity)];
            let len = bytes.len();
            for (at, byte) in bytes.into_iter().enumerate() {
                if torn.contains(parity) && at == len - 512 {
                    break;
                }
                let to = (self.ends[usize::from(parity)] + at) % ring.len();
                ring[to] = byte;
            }
            let ring_len = ring.len();
            self.ends[usize::from(parity)] = (self.ends[usize::from(parity)] + len) % ring_len;
        }
    }

    /// What the log has to say when `lost` are gone.
    fn stretches(&self, lost: Mask) -> KVVec<Stretch> {
        let here = Mask::all(self.geometry.members()).minus(lost);
        let mut found: KVVec<Found> = KVVec::new();
        for slot in here {
            scan(
                SESSION,
                slot,
                &self.rings[usize::from(slot)],
                xxh64,
                &mut found,
            )
            .unwrap();
        }
        plan(&self.geometry, &mut found, here).unwrap()
    }

    /// Mends everything; the whole blocks afterwards, of lost members too.
    fn replay(&self, lost: Mask) -> Vec<Vec<u8>> {
        let here = Mask::all(self.geometry.members()).minus(lost);
        let mut result = self.blocks.clone();
        for stretch in self.stretches(lost) {
            let (from, len) = (
                stretch.column as usize * 512,
                stretch.sectors as usize * 512,
            );
            let mut blocks: Vec<KVVec<u8>> = Vec::new();
            for (slot, block) in result.iter().enumerate() {
                let mut copy = KVVec::from_elem(0xDD, len, GFP_KERNEL).unwrap();
                if here.contains(slot as Slot) {
                    copy.copy_from_slice(&block[from..from + len]);
                }
                blocks.push(copy);
            }
            let sum = |at: Option<emd_core::personalities::hole_log::replay::SumAt>| {
                let at = at?;
                let ring = &self.rings[usize::from(at.slot)];
                let first = (at.start_sectors + at.skip_sectors) as usize * 512;
                Some(
                    (first..first + len)
                        .map(|at| ring[at % ring.len()])
                        .collect::<Vec<u8>>(),
                )
            };
            let (p, q) = (sum(stretch.p), sum(stretch.q));
            let write = mend(
                &self.geometry,
                &stretch,
                here,
                Mask::EMPTY,
                &mut blocks,
                [p.as_deref(), q.as_deref()],
            )
            .unwrap();
            assert!(
                write.is_within(self.geometry.roles(stretch.stripe).parity()),
                "data is never written"
            );
            for slot in write {
                result[usize::from(slot)][from..from + len]
                    .copy_from_slice(&blocks[usize::from(slot)]);
            }
        }
        result
    }
}

/// What lost members hold, going by the rest.
fn derive(world: &World, blocks: &[Vec<u8>], lost: Mask) -> Vec<Vec<u8>> {
    let roles = world.geometry.roles(world.stripe);
    let with = World {
        blocks: blocks.to_vec(),
        rings: Vec::new(),
        ends: Vec::new(),
        ..*world
    };
    let mut all = blocks.to_vec();
    let unknown: Vec<Slot> = roles.data.intersect(lost).iter().collect();
    let known = roles.data.minus(lost);
    let rest = |parity: Option<Slot>| {
        let parity = parity.filter(|&parity| !lost.contains(parity))?;
        let mut sum = with.sum(parity, known, 0, CHUNK);
        gf256::add(&mut sum, &blocks[usize::from(parity)]);
        Some(sum)
    };
    let e = |slot| world.geometry.q_exponent(world.stripe, slot).unwrap();
    match (&unknown[..], rest(roles.p), rest(roles.q)) {
        ([], ..) => {}
        (&[a], Some(p), _) => all[usize::from(a)] = p,
        (&[a], None, Some(mut q)) => {
            gf256::recover_by_q(&mut q, e(a));
            all[usize::from(a)] = q;
        }
        (&[a, b], Some(mut p), Some(mut q)) => {
            assert!(gf256::recover_two(&mut p, &mut q, e(a), e(b)));
            all[usize::from(a)] = p;
            all[usize::from(b)] = q;
        }
        other => panic!("{other:?}"),
    }
    all
}

/// Writes of parts of a stripe, the last of them torn, and any members lost with it: what that last write left
/// alone is what it was.
#[test]
fn what_was_left_alone_comes_back() {
    let shapes = [
        (Level::Raid5, Rotation::LeftSymmetric, 3),
        (Level::Raid5, Rotation::RightAsymmetric, 5),
        (Level::Raid6, Rotation::LeftSymmetric, 4),
        (Level::Raid6, Rotation::DdfNContinue, 6),
    ];
    let mut mended = 0;
    for seed in 0..60u64 {
        let mut rng = Rng(seed);
        let (level, rotation, members) = shapes[rng.below(4) as usize];
        let geometry = geometry(level, rotation, members);
        let stripe = rng.below(8);
        let mut world = World::new(geometry, stripe, &mut rng);
        let roles = geometry.roles(stripe);
        let writes = 1 + rng.below(9);
        for n in 0..writes {
            let is_last = n + 1 == writes;
            let column = rng.below(32) as u32;
            let sectors = 1 + rng.below(u64::from(32 - column)) as u32;
            let (from, len) = (column as usize * 512, sectors as usize * 512);
            let mut written = Mask(rng.next() & roles.data.0);
            if rng.below(4) == 0 {
                written = roles.data;
            }
            let left_alone = roles.data.minus(written);
            // The log was cut short: then nothing else of the write was begun.
            let torn = Mask(rng.next() & roles.parity().0);
            let cut = is_last && rng.below(4) == 0 && !torn.is_empty();
            world.log(
                column,
                sectors,
                left_alone,
                left_alone.is_empty(),
                if cut { torn } else { Mask::EMPTY },
            );
            if cut {
                break;
            }
            let mut fresh = world.blocks.clone();
            for slot in written {
                for byte in &mut fresh[usize::from(slot)][from..from + len] {
                    *byte = rng.next() as u8;
                }
            }
            let old = std::mem::replace(&mut world.blocks, fresh);
            for parity in roles.parity() {
                world.blocks[usize::from(parity)] = world.sum(parity, roles.data, 0, CHUNK);
            }
            if is_last {
                // Sector by sector, old or new.
                for (block, old) in world.blocks.iter_mut().zip(&old) {
                    for (sector, old) in block.chunks_exact_mut(512).zip(old.chunks_exact(512)) {
                        if rng.below(2) == 0 {
                            sector.copy_from_slice(old);
                        }
                    }
                }
                for lost in (0..1u64 << members).map(Mask) {
                    if lost.len() > u32::from(level.parity_members()) {
                        continue;
                    }
                    let after = world.replay(lost);
                    let all = derive(&world, &after, lost);
                    mended += 1;
                    for slot in roles.data {
                        let slot_at = usize::from(slot);
                        for (at, (byte, was)) in all[slot_at].iter().zip(&old[slot_at]).enumerate()
                        {
                            let in_write =
                                written.contains(slot) && (from..from + len).contains(&at);
                            assert!(
                                in_write || byte == was,
                                "seed {seed}: {level} lost {lost:?}, wrote {written:?} {column}+{sectors}: member {slot} byte {at}"
                            );
                        }
                    }
                    if lost.is_empty() {
                        for parity in roles.parity() {
                            let sum = World {
                                blocks: after.clone(),
                                rings: Vec::new(),
                                ends: Vec::new(),
                                ..world
                            }
                            .sum(parity, roles.data, from, len);
                            // A write of everything leaves that to the resync.
                            assert!(
                                left_alone.is_empty()
                                    || sum[..] == after[usize::from(parity)][from..from + len]
                            );
                        }
                    }
                }
            }
        }
        if world.number as usize == 0 {
            panic!("nothing was logged");
        }
    }
    assert!(mended > 300, "{mended}");
}
