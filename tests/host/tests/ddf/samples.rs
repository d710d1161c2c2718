// SPDX-License-Identifier: GPL-2.0

//! Every DDF sample is read to what its maker said of it, and encodes to the bytes it was read from.

use crate::ddf_common::damage::{flip, world};
use crate::ddf_common::{apply, open, open_keyed, probe, show};
use emd_core::metadata::ddf::crc::Crc;
use emd_core::metadata::ddf::layout::Section;
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{
    Access, Consistency, DiskRole, DiskState, Event, Layout, Level, MemberState, Rotation, Set,
};
use host_tests::samples::{cases, load, Disk};

/// What a case must come to: level, layout, members, spans, chunk, member sectors, size.
type Wanted = (Level, Layout, u16, u16, u32, u64, u64);

fn check(case: &str, name: &str, wanted: Wanted) -> Box<DdfSet> {
    let disks = load(case);
    let set = open(&disks).unwrap_or_else(|why| panic!("{case}: {why:?}"));
    let text = show(set.set());
    assert_eq!(set.set().live_volumes().count(), 1, "{case}: {text}");
    let (_, volume) = set.set().live_volumes().next().unwrap();
    let shape = volume.shape;
    assert_eq!(volume.name.as_str(), name, "{case}");
    assert_eq!(
        (
            shape.level,
            shape.layout,
            shape.members,
            shape.spans,
            shape.chunk_sectors,
            shape.member_sectors,
            volume.size_sectors
        ),
        wanted,
        "{case}: {text}"
    );
    assert_eq!(volume.members.len(), shape.members_total());
    set
}

fn parity(rotation: Rotation) -> Layout {
    Layout::Parity(rotation)
}

/// All disks present and in sync, the volume clean and usable.
fn healthy(case: &str, set: &Set) {
    let text = show(set);
    for (_, disk) in set.live_disks() {
        assert_eq!(disk.state, DiskState::Online, "{case}: {text}");
        assert_eq!(disk.role, DiskRole::Member, "{case}: {text}");
    }
    for (_, volume) in set.live_volumes() {
        assert!(matches!(volume.access, Access::ReadWrite), "{case}: {text}");
        assert_eq!(volume.consistency, Consistency::Clean, "{case}: {text}");
        for member in volume.members.iter() {
            assert_eq!(member.state, MemberState::InSync, "{case}: {text}");
        }
    }
}

/// Order of the members as indices into the sample's disks, from the golden data's point of view.
fn order(set: &Set) -> Vec<Option<u64>> {
    let (_, volume) = set.live_volumes().next().unwrap();
    volume
        .members
        .iter()
        .map(|member| set.disk(member.disk?)?.facts.map(|facts| facts.key))
        .collect()
}

const M: u64 = 98304;

#[test]
fn mdadm_healthy() {
    use Level::*;
    use Rotation::*;
    let plain = Layout::Plain;
    let cases: [(&str, Wanted); 11] = [
        ("raid0", (Raid0, plain, 2, 1, 128, M, 2 * M)),
        ("raid1", (Raid1, plain, 2, 1, 0, M, M)),
        ("raid4", (Raid4, parity(ParityLast), 3, 1, 128, M, 2 * M)),
        (
            "raid5-la",
            (Raid5, parity(LeftAsymmetric), 4, 1, 128, M, 3 * M),
        ),
        (
            "raid5-ls",
            (Raid5, parity(LeftSymmetric), 4, 1, 128, M, 3 * M),
        ),
        (
            "raid5-ra",
            (Raid5, parity(RightAsymmetric), 4, 1, 128, M, 3 * M),
        ),
        (
            "raid6-ddf-N-restart",
            (Raid6, parity(DdfNRestart), 5, 1, 128, M, 3 * M),
        ),
        (
            "raid6-ddf-zero-restart",
            (Raid6, parity(DdfZeroRestart), 5, 1, 128, M, 3 * M),
        ),
        ("raid10", (Raid10, Layout::Near(2), 4, 1, 128, M, 2 * M)),
        ("raid1e-n2", (Raid1e, Layout::Near(2), 3, 1, 128, M, M)),
        (
            "big-raid5",
            (
                Raid5,
                parity(LeftSymmetric),
                3,
                1,
                256,
                6_442_385_408,
                2 * 6_442_385_408,
            ),
        ),
    ];
    for (case, wanted) in cases {
        let case = format!("ddf/gen/{case}");
        let set = check(&case, "vol0", wanted);
        healthy(&case, set.set());
        assert!(set.plan().is_empty());
    }
}

/// `(2@0K 0@0K)` in out.log, by the disks' device letters.
#[test]
fn member_order_is_mdadms() {
    for (case, wanted) in [
        // out.log: sdb is d0, sda is d1, and so on; references decide, checked by hand.
        ("raid0", vec![Some(1), Some(0)]),
        ("raid5-init", vec![Some(0), Some(1), Some(2)]),
        ("raid10", vec![Some(1), Some(3), Some(0), Some(2)]),
        ("raid1e-n2", vec![Some(1), Some(0), Some(2)]),
    ] {
        let set = open(&load(&format!("ddf/gen/{case}"))).unwrap();
        assert_eq!(order(set.set()), wanted, "{case}");
    }
}

#[test]
fn mdadm_initialising() {
    let set = check(
        "ddf/gen/raid5-init",
        "vol0",
        (
            Level::Raid5,
            parity(Rotation::LeftSymmetric),
            3,
            1,
            128,
            M,
            2 * M,
        ),
    );
    let (_, volume) = set.set().live_volumes().next().unwrap();
    assert_eq!(
        volume.consistency,
        Consistency::Initialising { done_sectors: 0 }
    );
}

#[test]
fn mdadm_degraded_failed_disk_stays_listed() {
    for (case, members, failed) in [("raid5-degraded", 3, 0), ("raid5-2disk-degraded", 2, 0)] {
        let case = format!("ddf/gen/{case}");
        let set = check(
            &case,
            "vol0",
            (
                Level::Raid5,
                parity(Rotation::LeftSymmetric),
                members,
                1,
                128,
                M,
                M * u64::from(members - 1),
            ),
        );
        let (_, volume) = set.set().live_volumes().next().unwrap();
        assert!(matches!(volume.access, Access::ReadWrite));
        for (slot, member) in volume.members.iter().enumerate() {
            let wanted = if slot == failed {
                MemberState::Failed
            } else {
                MemberState::InSync
            };
            assert_eq!(member.state, wanted, "{case}: {}", show(set.set()));
        }
        let lost = volume.members[failed].disk.unwrap();
        assert_eq!(set.set().disk(lost).unwrap().state, DiskState::Failed);
    }
}

#[test]
fn mdadm_missing_disk_that_came_back_is_stale() {
    let disks = load("ddf/gen/raid1-missing");
    let set = open(&disks).unwrap();
    let (_, volume) = set.set().live_volumes().next().unwrap();
    assert_eq!(set.sequence, 0x0c);
    assert_eq!(volume.members[0].state, MemberState::InSync);
    // mdadm wrote reference 0 into the slot.
    assert_eq!(volume.members[1].disk, None);
    assert_eq!(volume.members[1].state, MemberState::Missing);
    let stale = set.set().disk_by_key(1).unwrap();
    assert_eq!(set.set().disk(stale).unwrap().state, DiskState::Stale);
    assert!(matches!(volume.access, Access::ReadWrite));
    // The newer disk alone says the same; the older one alone is a whole, older set.
    let alone = open_keyed(&[(0, &disks[0])]).unwrap();
    assert_eq!(alone.sequence, 0x0c);
    assert_eq!(alone.set().disks[1].state, DiskState::Missing);
    let old = open_keyed(&[(1, &disks[1])]).unwrap();
    assert_eq!(old.sequence, 9);
    let (_, volume) = old.set().live_volumes().next().unwrap();
    assert_eq!(volume.members[0].state, MemberState::Missing);
    assert_eq!(volume.members[1].state, MemberState::InSync);
}

#[test]
fn mdadm_rebuild() {
    let set = open(&load("ddf/gen/raid1-rebuild")).unwrap();
    let (_, volume) = set.set().live_volumes().next().unwrap();
    assert_eq!(order(set.set()), [Some(2), Some(0)]);
    assert_eq!(
        volume.members[0].state,
        MemberState::Rebuilding { done_sectors: 0 }
    );
    assert_eq!(volume.members[1].state, MemberState::InSync);
    assert_eq!(volume.consistency, Consistency::Clean);
    let failed = set.set().disk_by_key(1).unwrap();
    assert_eq!(set.set().disk(failed).unwrap().state, DiskState::Failed);
}

#[test]
fn graid() {
    use Level::*;
    use Rotation::*;
    let big = 131_072;
    for (case, wanted) in [
        (
            "ddf-raid0-2d",
            (Raid0, Layout::Plain, 2, 1, 128, big, 2 * big),
        ),
        ("ddf-raid1-2d", (Raid1, Layout::Plain, 2, 1, 0, big, big)),
        ("ddfle-raid1-2d", (Raid1, Layout::Plain, 2, 1, 0, big, big)),
        (
            "ddf-raid1-2d-4kn",
            (Raid1, Layout::Plain, 2, 1, 0, big, big),
        ),
        (
            "ddf-raid5-ls-3d",
            (Raid5, parity(LeftSymmetric), 3, 1, 128, big, 2 * big),
        ),
        (
            "ddfle-raid5-la-3d",
            (Raid5, parity(LeftAsymmetric), 3, 1, 128, big, 2 * big),
        ),
    ] {
        let case = format!("ddf/gen-freebsd/{case}");
        let set = check(&case, "vol", wanted);
        healthy(&case, set.set());
        let members = order(set.set());
        let wanted: Vec<Option<u64>> = (0..members.len() as u64).map(Some).collect();
        assert_eq!(members, wanted, "{case}");
    }
    let set = open(&load("ddf/gen-freebsd/ddf-raid1-2d-rebuild")).unwrap();
    let (_, volume) = set.set().live_volumes().next().unwrap();
    assert_eq!(volume.members[0].state, MemberState::InSync);
    assert_eq!(
        volume.members[1].state,
        MemberState::Rebuilding { done_sectors: 0 }
    );
}

#[test]
fn dissect() {
    use Level::*;
    let plain = Layout::Plain;
    let ls = parity(Rotation::LeftSymmetric);
    for (case, name, wanted) in [
        (
            "raid0",
            "ddf-raid0",
            (Raid0, plain, 3, 1, 1024, 8192, 24576),
        ),
        ("raid1", "ddf-raid1", (Raid1, plain, 2, 1, 0, 8192, 8192)),
        ("raid5", "ddf-raid5", (Raid5, ls, 3, 1, 1024, 8192, 16384)),
    ] {
        let case = format!("ddf/dissect/{case}");
        let set = check(&case, name, wanted);
        healthy(&case, set.set());
    }
}

#[test]
fn util_linux_container_without_volumes() {
    let set = open(&load("ddf/util-linux")).unwrap();
    assert_eq!(set.set().volumes.len(), 0);
    assert_eq!(set.set().disks.len(), 2);
    assert_eq!(set.set().disks[0].state, DiskState::Online);
    assert_eq!(set.set().disks[0].role, DiskRole::GlobalSpare);
    assert_eq!(set.set().disks[1].state, DiskState::Missing);
    assert_eq!(set.set().disks[0].usable_sectors, 36864);
}

/// A lone member of a Dell set: the published dump has holes, so that some checksums fail; it is
/// read all the same, and never for writing.
#[test]
fn dell_perc() {
    let set = open(&load("ddf/native/dell-perc-raid5")).unwrap();
    let text = show(set.set());
    assert_eq!(set.sequence, 8, "{text}");
    assert_eq!(set.set().disks.len(), 6, "{text}");
    assert_eq!(
        set.set().disks[5].label.as_str(),
        "ATA 200911172165a4591152"
    );
    assert_eq!(set.set().disks[5].state, DiskState::Online);
    assert_eq!(set.set().disks[5].usable_sectors, 1_952_448_512);
    assert_eq!(set.set().volumes.len(), 3, "{text}");
    for index in [0, 1] {
        let access = &set.set().volumes[index].access;
        assert!(matches!(access, Access::Refused(_)), "{text}");
    }
    let volume = &set.set().volumes[2];
    assert_eq!(volume.shape.level, Level::Raid5);
    assert_eq!(volume.shape.layout, parity(Rotation::LeftSymmetric));
    assert_eq!(volume.shape.members, 4);
    assert_eq!(volume.shape.chunk_sectors, 128);
    assert_eq!(volume.size_sectors, 2_927_099_904);
    let disks: Vec<_> = volume.members.iter().map(|member| member.disk).collect();
    assert_eq!(disks, [Some(2), Some(5), Some(3), Some(4)]);
    assert_eq!(volume.members[1].state, MemberState::InSync);
    assert_eq!(volume.members[0].state, MemberState::Missing);
    assert!(matches!(volume.access, Access::ReadOnly(_)), "{text}");
}

/// Decoding and encoding again gives the bytes that were read, for both copies and the anchor.
#[test]
fn encode_of_decode_is_the_same() {
    for case in cases("ddf") {
        let disks = load(&case);
        let damaged = case.contains("dell-perc");
        let mut set = open(&disks).unwrap();
        let shown = assert_encoded(&mut set, &disks, &case, damaged);
        for (key, disk) in (0u64..).zip(&disks) {
            if shown.contains(&key) {
                continue;
            }
            // It is none of the others' set, or not any more: by itself it is one.
            let alone = open_keyed(&[(key, disk)]);
            let mut alone = alone.unwrap_or_else(|why| panic!("{case} {}: {why}", disk.name));
            if assert_encoded(&mut alone, &disks, &case, damaged) == [key] {
                continue;
            }
            // It calls itself failed: nothing is written to it any more.
            let disks = &alone.set().disks;
            let own = disks.iter().find(|disk| disk.facts.is_some());
            let own = own.unwrap_or_else(|| panic!("{case} {}", disk.name));
            assert_eq!(own.state, DiskState::Failed, "{case} {}", disk.name);
        }
    }
}

/// What is encoded for each disk of the set is what is on it; gives the keys of those for which that is all that a disk has.
fn assert_encoded(set: &mut DdfSet, disks: &[Disk], case: &str, damaged: bool) -> Vec<u64> {
    let keys: Vec<Option<u64>> = set
        .set()
        .disks
        .iter()
        .map(|disk| disk.facts.map(|facts| facts.key))
        .collect();
    let mut encoded = Vec::new();
    for (index, key) in keys.into_iter().enumerate() {
        let Some(key) = key else { continue };
        let disk = &disks[key as usize];
        let block = u64::from(disk.logical_block_bytes / 512);
        let mut pieces = 0;
        set.encode(index as u16, &mut |at, bytes| {
            pieces += 1;
            let mut there = disk.read(at * block, bytes.len() / 512);
            let mut ours = bytes.to_vec();
            if damaged {
                // The dump's checksums are not all right.
                there[4..8].fill(0);
                ours[4..8].fill(0);
            }
            assert!(there == ours, "{case} {} block {at}", disk.name);
        });
        if pieces >= 7 {
            encoded.push(key);
        }
    }
    encoded
}

/// All disks of a case are of one set, and of no other case's.
#[test]
fn identities() {
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for case in cases("ddf") {
        for disk in load(&case) {
            let (_, verdict, bytes) = probe(&disk, 0);
            let Probe::Found { set, .. } = verdict else {
                panic!("{case} {}: {verdict:?}", disk.name);
            };
            assert!(bytes < 2 << 20, "{case}: {bytes} bytes were read");
            let id = set.as_bytes().to_vec();
            if case.contains("gen-freebsd") {
                // Made with a seeded generator: several share a GUID.
                continue;
            }
            match seen.iter().find(|(_, other)| *other == id) {
                Some((other, _)) => assert_eq!(*other, case),
                None => seen.push((case.clone(), id)),
            }
        }
    }
    assert_eq!(
        seen.len(),
        cases("ddf").len() - cases("ddf/gen-freebsd").len()
    );
}

/// A disk without DDF costs one read.
#[test]
fn an_ordinary_disk_costs_little() {
    for block in [512, 4096] {
        let mut disk = host_tests::samples::Disk::blank("blank", 1 << 20, block);
        let (_, verdict, bytes) = probe(&disk, 0);
        assert!(matches!(verdict, Probe::NotMine));
        assert_eq!(bytes, 264 * 512);
        disk.write((1 << 20) - 16, &[0x55; 16 * 512]);
        let (_, verdict, bytes) = probe(&disk, 0);
        assert!(matches!(verdict, Probe::NotMine));
        assert_eq!(bytes, 264 * 512);
    }
}

/// Seals everything on the disks that carries a checksum anew, as controllers do that leave the CRC uninverted.
fn seal_uninverted(set: &DdfSet, disks: &mut [Disk]) -> usize {
    let mut sealed = 0;
    for (index, disk) in disks.iter_mut().enumerate() {
        let home = set.home(index as u16).unwrap();
        let layout = home.layout;
        let mut pieces = vec![(home.anchor, layout.block_bytes as usize)];
        for copy in home.copies.into_iter().flatten() {
            pieces.push((copy, layout.block_bytes as usize));
            for section in Section::ALL {
                let place = layout.place(section);
                let (first, len) = (
                    copy + u64::from(place.offset),
                    layout.section_bytes(section),
                );
                let record = layout.record_bytes as usize;
                match section {
                    Section::Config => pieces.extend((0..len / record).map(|slot| {
                        let block = slot * record / layout.block_bytes as usize;
                        (first + block as u64, record)
                    })),
                    _ => pieces.push((first, len)),
                }
            }
        }
        // A section that is absent has no place.
        for (block, len) in pieces.into_iter().filter(|&(_, len)| len != 0) {
            let sector = block * layout.block_sectors();
            let mut bytes = disk.read(sector, len / 512);
            if layout.crc.holds(&bytes, layout.endian) {
                Crc::Jam.seal(&mut bytes, layout.endian);
                disk.write(sector, &bytes);
                sealed += 1;
            }
        }
    }
    sealed
}

/// The third convention of checksums, of which there is no sample: it is read, and kept in what is written.
#[test]
fn uninverted_checksums() {
    let (set, mut disks) = world(512);
    assert_ne!(set.home(0).unwrap().layout.crc, Crc::Jam);
    let wanted = show(set.set());
    // An anchor; two copies of header, four tables, and a record or two on each of three disks.
    assert!(seal_uninverted(&set, &mut disks) >= 3 * (1 + 2 * 6));
    let mut set = open(&disks).unwrap();
    assert_eq!(show(set.set()), wanted);
    for index in 0..3 {
        assert_eq!(set.home(index).unwrap().layout.crc, Crc::Jam);
    }
    let refused = |set: &DdfSet| {
        let mut volumes = set.set().live_volumes();
        volumes.any(|(_, volume)| !matches!(volume.access, Access::ReadWrite))
    };
    assert!(!refused(&set), "{wanted}");

    apply(&mut set, &mut disks, &Event::Dirty(0), 3).unwrap();
    let again = open(&disks).unwrap();
    assert_eq!(show(again.set()), show(set.set()));
    assert_ne!(show(again.set()), wanted);
    for (index, disk) in (0..).zip(&disks) {
        let home = again.home(index).unwrap();
        for copy in home.copies.into_iter().flatten() {
            let head = disk.read(copy * home.layout.block_sectors(), 1);
            assert_eq!(Crc::detect(&head, home.layout.endian), Some(Crc::Jam));
        }
    }

    // A wrong byte in every copy of a table is noticed under this convention too.
    for (index, disk) in (0..).zip(disks.iter_mut()) {
        let home = again.home(index).unwrap();
        let block = u64::from(home.layout.block_bytes);
        let place = home.layout.place(Section::Volumes);
        for copy in home.copies.into_iter().flatten() {
            flip(disk, (copy + u64::from(place.offset)) * block + 0x60, 1);
        }
    }
    let damaged = open(&disks).unwrap();
    assert!(refused(&damaged), "{}", show(damaged.set()));
}
