// SPDX-License-Identifier: GPL-2.0

//! Sample volumes of every format, put together from nothing but their metadata: order of the members,
//! where they start and the volume's shape are what mdadm said; the data that was written through mdadm
//! or graid is where the assembled set and EMD's geometry say, on every copy; P and Q agree; and with
//! members missing, really or by being left out, it is worked out of the others.

use crate::golden_common::{golden, multiply, pattern, places, power, Case, CASES};
use emd_core::metadata::registry::FORMATS;
use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{DiskFacts, Level, MemberState, Shape, Slot, Text, Volume};
use emd_core::personalities::{Geometry, Kind};
use host_tests::samples::{cases, load, Disk};
use kernel::prelude::*;

/// Cases of mdadm or graid that are not compared here, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("ddf/gen/big-raid5", "no golden data"),
    ("imsm/gen/big-raid0", "no golden data"),
    ("imsm/gen/big-raid1", "no golden data"),
    ("imsm/gen/big-raid5", "no golden data"),
    ("ddf/gen/raid5-init", "no golden data"),
    ("md/gen/12-raid5-resync-ckpt", "no golden data"),
    ("imsm/gen/grow-r0", "a general migration"),
    ("imsm/gen/grow-r5", "a general migration"),
    ("md/gen/12-raid0-zones-alt", "in zones: see `zones`"),
    (
        "imsm/gen/raid5-degraded",
        "refused: serial numbers end alike",
    ),
];

fn disks_of(case: &str) -> Vec<Disk> {
    match case.strip_prefix("imsm/") {
        Some(case) => crate::imsm_common::sample(case),
        None => load(case),
    }
}

fn probed(format: &'static dyn Format, disk: &Disk, key: u64) -> Option<DiskImage> {
    let mut image = DiskImage {
        facts: DiskFacts {
            key,
            size_sectors: disk.size_sectors,
            logical_block_bytes: disk.logical_block_bytes,
            serial: Text::from_text(&disk.name),
        },
        extents: KVec::new(),
    };
    let mut read = 0;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match format.probe(&image) {
            Probe::Read(region) => {
                let data = disk.read(region.sector, region.len_sectors as usize);
                read += data.len();
                assert!(read <= PROBE_BYTES_MAX);
                let mut bytes = KVVec::new();
                bytes.extend_from_slice(&data, GFP_KERNEL).unwrap();
                let bytes = Some(bytes);
                let extent = Extent { region, bytes };
                image.extents.push(extent, GFP_KERNEL).unwrap();
            }
            Probe::Found { .. } => return Some(image),
            _ => return None,
        }
    }
    None
}

/// A volume that was put together from its disks' metadata.
struct Assembled<'a> {
    case: &'a str,
    set: KBox<dyn MetadataSet>,
    disks: &'a [Disk],
    geometry: Geometry,
}

/// What was compared.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Counted {
    /// Golden sectors, each copy of its own.
    sectors: usize,
    /// Golden sectors that no member has, worked out of the others.
    worked_out: usize,
    /// Golden sectors that neither is possible for.
    lost: usize,
    /// Chunks of P.
    p: usize,
    /// Chunks of Q.
    q: usize,
}

impl<'a> Assembled<'a> {
    /// The set of all disks but those that are left out; the format is found by asking all of them.
    fn new(case: &'a str, disks: &'a [Disk], left_out: &[usize]) -> Self {
        let mut found = Vec::new();
        for &format in FORMATS {
            let images: Vec<DiskImage> = (0u64..)
                .zip(disks)
                .filter(|(key, _)| !left_out.contains(&(*key as usize)))
                .filter_map(|(key, disk)| probed(format, disk, key))
                .collect();
            if !images.is_empty() {
                found.push((format, images));
            }
        }
        assert_eq!(found.len(), 1, "{case}: one format");
        let (format, images) = found.remove(0);
        let images: Vec<&DiskImage> = images.iter().collect();
        let set = format
            .assemble(&images)
            .unwrap_or_else(|why| panic!("{case}: {why}"));
        let volume = set.set().volume(0).unwrap();
        let geometry = Geometry::new(&volume.shape, volume.size_sectors)
            .unwrap_or_else(|why| panic!("{case}: {why}"));
        Self {
            case,
            set,
            disks,
            geometry,
        }
    }

    fn volume(&self) -> &Volume {
        self.set.set().volume(0).unwrap()
    }

    /// The disk of a member, as `dN`.
    fn disk_of(&self, slot: Slot) -> Option<usize> {
        let disk = self.volume().members[usize::from(slot)].disk?;
        Some(self.set.set().disk(disk)?.facts?.key as usize)
    }

    /// What a member has, when it counts: of one that is being rebuilt, up to its mark.
    fn read(&self, slot: Slot, sector: u64, count: u64) -> Option<Vec<u8>> {
        let member = self.volume().members[usize::from(slot)];
        let right = match member.state {
            MemberState::InSync => u64::MAX,
            MemberState::Rebuilding { done_sectors } => done_sectors,
            _ => 0,
        };
        (sector + count <= right).then(|| {
            self.disks[self.disk_of(slot).unwrap()]
                .read(member.offset_sectors + sector, count as usize)
        })
    }

    /// Compares all that can be of the golden sectors.
    fn compare(&self) -> Counted {
        self.compare_sectors(golden(self.volume().size_sectors))
    }

    fn compare_sectors(&self, sectors: impl Iterator<Item = u64>) -> Counted {
        let mut counted = Counted::default();
        let mut sectors = sectors.peekable();
        while let Some(&first) = sectors.peek() {
            let stripe = self.geometry.locate(first).stripe;
            let mut row = Vec::new();
            while let Some(sector) = sectors.next_if(|s| self.geometry.locate(*s).stripe == stripe)
            {
                row.push(sector);
            }
            if self.volume().shape.level.parity_members() == 0 {
                self.compare_copies(&row, &mut counted);
            } else {
                self.compare_stripe(stripe, &row, &mut counted);
            }
        }
        counted
    }

    fn compare_copies(&self, row: &[u64], counted: &mut Counted) {
        for &sector in row {
            let mut here = 0;
            for (slot, at) in places(&self.geometry, sector) {
                let Some(bytes) = self.read(slot, at, 1) else {
                    continue;
                };
                let case = self.case;
                assert_eq!(
                    bytes,
                    pattern(sector),
                    "{case}: sector {sector}, slot {slot}"
                );
                here += 1;
            }
            counted.sectors += here;
            counted.lost += usize::from(here == 0);
        }
    }

    fn compare_stripe(&self, stripe: u64, row: &[u64], counted: &mut Counted) {
        let case = self.case;
        let geometry = &self.geometry;
        let chunk = u64::from(geometry.chunk_sectors());
        let read = |slot: Slot| {
            let at = geometry.member_sector(stripe, slot).unwrap();
            self.read(slot, at, chunk)
        };
        let roles = geometry.roles(stripe);
        let data: Vec<Slot> = roles.data.into_iter().collect();
        let factors: Vec<u8> = data
            .iter()
            .map(|&slot| power(geometry.q_exponent(stripe, slot).unwrap_or(0)))
            .collect();
        let mut chunks: Vec<Option<Vec<u8>>> = data.iter().map(|&slot| read(slot)).collect();
        let here: Vec<bool> = chunks.iter().map(Option::is_some).collect();
        let p = roles.p.and_then(read);
        let q = roles.q.and_then(read);
        work_out(&mut chunks, &factors, p.as_deref(), q.as_deref());
        for &sector in row {
            let place = geometry.locate(sector);
            let index = data.iter().position(|&slot| slot == place.slot).unwrap();
            let at = place.member_sector - geometry.member_sector(stripe, place.slot).unwrap();
            let Some(bytes) = &chunks[index] else {
                counted.lost += 1;
                continue;
            };
            let bytes = &bytes[at as usize * 512..][..512];
            assert!(
                bytes == pattern(sector),
                "{case}: sector {sector}, slot {}",
                place.slot
            );
            counted.sectors += usize::from(here[index]);
            counted.worked_out += usize::from(!here[index]);
        }
        // What was worked out of parity cannot prove it.
        let known = here.iter().all(|&here| here);
        let Some(chunks) = chunks
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .filter(|_| known)
        else {
            return;
        };
        let (sum_p, sum_q) = sums(&chunks, &factors);
        for (stored, sum, count) in [(&p, sum_p, &mut counted.p), (&q, sum_q, &mut counted.q)] {
            if let Some(stored) = stored {
                assert!(*stored == sum, "{case}: parity of stripe {stripe}");
                // A parity of nothing would prove nothing.
                assert!(
                    stored.iter().any(|&byte| byte != 0),
                    "{case}: stripe {stripe}"
                );
                *count += 1;
            }
        }
    }
}

/// P and Q of what is given.
fn sums(chunks: &[Vec<u8>], factors: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let len = chunks[0].len();
    let (mut p, mut q) = (vec![0u8; len], vec![0u8; len]);
    for (bytes, &factor) in chunks.iter().zip(factors) {
        let products: [u8; 256] = std::array::from_fn(|byte| multiply(byte as u8, factor));
        for (at, &byte) in bytes.iter().enumerate() {
            p[at] ^= byte;
            q[at] ^= products[usize::from(byte)];
        }
    }
    (p, q)
}

/// What undoes a multiplication, found by trying.
fn inverse(of: u8) -> u8 {
    (1..=255).find(|&factor| multiply(of, factor) == 1).unwrap()
}

/// Puts in what is missing, where P and Q allow it: solved for each byte as one learns it at school.
fn work_out(chunks: &mut [Option<Vec<u8>>], factors: &[u8], p: Option<&[u8]>, q: Option<&[u8]>) {
    let missing: Vec<usize> = (0..chunks.len())
        .filter(|&at| chunks[at].is_none())
        .collect();
    let Some(len) = p.or(q).map(<[u8]>::len) else {
        return;
    };
    if missing.is_empty() {
        return;
    }
    let known: Vec<Vec<u8>> = chunks
        .iter()
        .map(|chunk| chunk.clone().unwrap_or_else(|| vec![0; len]))
        .collect();
    let (sum_p, sum_q) = sums(&known, factors);
    // What the missing ones sum up to.
    let rest = |stored: &[u8], sum: &[u8]| -> Vec<u8> {
        stored.iter().zip(sum).map(|(a, b)| a ^ b).collect()
    };
    let scaled = |bytes: Vec<u8>, factor: u8| -> Vec<u8> {
        let products: [u8; 256] = std::array::from_fn(|byte| multiply(byte as u8, factor));
        bytes
            .into_iter()
            .map(|byte| products[usize::from(byte)])
            .collect()
    };
    match (&missing[..], p, q) {
        (&[one], Some(p), _) => chunks[one] = Some(rest(p, &sum_p)),
        (&[one], None, Some(q)) => {
            chunks[one] = Some(scaled(rest(q, &sum_q), inverse(factors[one])));
        }
        (&[one, two], Some(p), Some(q)) => {
            // x + y = p, ax + by = q: y = (q + ap) / (a + b).
            let (p, q) = (rest(p, &sum_p), rest(q, &sum_q));
            let (a, b) = (factors[one], factors[two]);
            let y = scaled(rest(&q, &scaled(p.clone(), a)), inverse(a ^ b));
            chunks[one] = Some(rest(&p, &y));
            chunks[two] = Some(y);
        }
        _ => {}
    }
}

/// Cases that are put together without each of their disks: each format and each kind of redundancy.
const WITHOUT_ONE: &[&str] = &[
    "ddf/gen/raid10",
    "ddf/gen/raid1e-n2",
    "ddf/gen/raid4",
    "ddf/gen/raid5-ls",
    "ddf/gen/raid6-ddf-zero-restart",
    "imsm/gen/4k-raid1",
    "imsm/gen/raid10",
    "imsm/gen/raid10-6",
    "imsm/gen/raid5-4",
    "md/gen/090-raid10-n2",
    "md/gen/10-raid1",
    "md/gen/11-raid5",
    "md/gen/12-raid10-f2-5d",
    "md/gen/12-raid10-n3-5d",
    "md/gen/12-raid6-la-6",
    "md/gen/12-raid6-ls",
];

/// And those that are put together without each two.
const WITHOUT_TWO: &[&str] = &["ddf/gen/raid6-ddf-zero-restart", "md/gen/12-raid6-la-6"];

const GOLDEN: usize = 4096 + 512;

/// Every case with golden data of which mdadm said how it is: whole.
#[test]
fn the_metadata_says_what_mdadm_said_and_data_is_there() {
    let (mut p, mut q) = (0, 0);
    for case in CASES {
        let disks = disks_of(case.path);
        let array = Assembled::new(case.path, &disks, &[]);
        let volume = array.volume();
        assert_eq!(shape_said(case), volume.shape, "{}", case.path);
        assert_eq!(volume.size_sectors, case.size_sectors, "{}", case.path);
        for (slot, &disk) in case.disks.iter().enumerate() {
            let member = volume.members[slot];
            assert_eq!(member.state, MemberState::InSync, "{} {slot}", case.path);
            assert_eq!(
                array.disk_of(slot as Slot),
                Some(disk),
                "{} {slot}",
                case.path
            );
            assert_eq!(member.offset_sectors, case.offset_sectors, "{}", case.path);
        }
        let counted = array.compare();
        let geometry = &array.geometry;
        let copies = match geometry.kind() {
            Kind::Mirrored => geometry.members(),
            Kind::Copies => geometry.copies(),
            _ => 1,
        };
        assert_eq!(
            counted.sectors,
            GOLDEN * usize::from(copies),
            "{}",
            case.path
        );
        assert_eq!((counted.worked_out, counted.lost), (0, 0), "{}", case.path);
        let parities = case.level.parity_members();
        assert_eq!(counted.p > 5, parities > 0, "{}: {counted:?}", case.path);
        assert_eq!(counted.q > 5, parities > 1, "{}: {counted:?}", case.path);
        p += usize::from(parities > 0);
        q += usize::from(parities > 1);
    }
    assert_eq!((p, q), (27, 10));
}

/// The shape that mdadm said. md's linear has a chunk that places nothing.
fn shape_said(case: &Case) -> Shape {
    let mut shape = case.shape();
    if shape.level == Level::Concat {
        shape.chunk_sectors = 0;
    }
    shape
}

/// The same with disks left out: all that redundancy has is there.
#[test]
fn what_is_left_out_is_worked_out() {
    let mut worked_out = 0;
    for case in CASES.iter().filter(|case| WITHOUT_ONE.contains(&case.path)) {
        let count = case.disks.len();
        let mut sets: Vec<Vec<usize>> = (0..count).map(|one| vec![one]).collect();
        if WITHOUT_TWO.contains(&case.path) {
            sets.extend((0..count).flat_map(|one| (0..one).map(move |two| vec![one, two])));
        }
        let disks = disks_of(case.path);
        for left_out in sets {
            let array = Assembled::new(case.path, &disks, &left_out);
            let what = format!("{} without {left_out:?}", case.path);
            assert_eq!(array.volume().shape, case.shape(), "{what}");
            let missing = (0..count as Slot).filter(|&slot| array.disk_of(slot).is_none());
            assert_eq!(missing.count(), left_out.len(), "{what}");
            let counted = array.compare();
            assert_eq!(counted.lost, 0, "{what}");
            if case.level.parity_members() > 0 {
                assert_eq!(counted.sectors + counted.worked_out, GOLDEN, "{what}");
                worked_out += counted.worked_out;
            }
        }
    }
    assert!(worked_out > 50_000, "{worked_out}");
}

/// Volumes without a line in `CASES`, most of them degraded when they were left: what is compared of each,
/// copies, what is worked out of the others, chunks of P.
const OTHERS: &[(&str, usize, usize, usize)] = &[
    ("ddf/gen/raid1-missing", 4608, 0, 0),
    ("ddf/gen/raid1-rebuild", 4608, 0, 0),
    ("ddf/gen/raid5-degraded", 3072, 1536, 0),
    ("ddf/gen/raid5-2disk-degraded", 2304, 2304, 0),
    ("ddf/gen-freebsd/ddf-raid0-2d", 4608, 0, 0),
    ("ddf/gen-freebsd/ddf-raid1-2d", 9216, 0, 0),
    ("ddf/gen-freebsd/ddf-raid1-2d-4kn", 9216, 0, 0),
    ("ddf/gen-freebsd/ddf-raid1-2d-rebuild", 4608, 0, 0),
    ("ddf/gen-freebsd/ddf-raid5-ls-3d", 4608, 0, 18),
    ("ddf/gen-freebsd/ddfle-raid1-2d", 9216, 0, 0),
    ("ddf/gen-freebsd/ddfle-raid5-la-3d", 4608, 0, 18),
    ("imsm/gen/bbm", 9216, 0, 0),
    ("imsm/gen/raid1-bitmap", 9216, 0, 0),
    ("imsm/gen/raid1-missing", 4608, 0, 0),
    ("imsm/gen/raid1-rebuild", 8704, 0, 0),
    ("imsm/gen/raid5-dirty", 4608, 0, 18),
    ("imsm/gen/raid5-rebuild", 4480, 128, 16),
    ("imsm/gen-freebsd/intel-raid1-2d", 9216, 0, 0),
    ("imsm/gen-freebsd/intel-raid1-2d-rebuild", 8704, 0, 0),
];

#[test]
fn degraded_sets() {
    for &(case, sectors, worked_out, p) in OTHERS {
        let disks = disks_of(case);
        let counted = Assembled::new(case, &disks, &[]).compare();
        let wanted = Counted {
            sectors,
            worked_out,
            p,
            ..Counted::default()
        };
        assert_eq!(counted, wanted, "{case}");
    }
}

/// What was written while a member was missing is in parity alone: sectors 4096–4607.
#[test]
fn what_was_written_without_a_member() {
    let case = "ddf/gen/raid5-degraded";
    let disks = disks_of(case);
    let counted = Assembled::new(case, &disks, &[]).compare_sectors(4096..4608);
    assert_eq!(counted.sectors + counted.worked_out, 512);
    assert!(counted.worked_out >= 128, "{counted:?}");
    let case = "ddf/gen/raid1-missing";
    let disks = disks_of(case);
    let counted = Assembled::new(case, &disks, &[]).compare_sectors(4096..4608);
    assert_eq!(counted.sectors, 512);
}

/// No sample is forgotten.
#[test]
fn every_sample_with_golden_data_is_compared() {
    for prefix in [
        "ddf/gen",
        "ddf/gen-freebsd",
        "imsm/gen",
        "imsm/gen-freebsd",
        "md/gen",
    ] {
        for case in cases(prefix) {
            let known = CASES.iter().any(|known| known.path == case)
                || OTHERS.iter().any(|(known, ..)| *known == case)
                || LEFT_OUT.iter().any(|(known, _)| *known == case);
            assert!(known, "{case}");
        }
    }
}
