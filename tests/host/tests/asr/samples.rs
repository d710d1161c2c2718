// SPDX-License-Identifier: GPL-2.0

//! The real disk: what dmraid prints of it is what we read, and what we write back is what it had.

use crate::asr_common::{apply, open, open_keyed, probe, show, writes};
use emd_core::metadata::asr::layout::{header, reserved, Line, LINE_BYTES, TABLE_BYTES};
use emd_core::metadata::asr::table::Table;
use emd_core::metadata::asr::AsrSet;
use emd_core::metadata::{MetadataSet, Probe};
use emd_core::model::{
    Access, Consistency, DiskRole, DiskState, Event, Layout, Level, MemberState,
};
use host_tests::samples::{load, root, Disk};
use std::collections::BTreeMap;

const CASE: &str = "asr/util-linux/zero";

/// First sector of the sample's table.
const TABLE: u64 = 17_942_567;

/// What dmraid printed: (line of the table, or none for the rest; offset; label) to value.
fn printed() -> BTreeMap<(usize, u32, String), String> {
    let text = std::fs::read(root().join(CASE).join("dmraid-output.txt")).unwrap();
    let text = String::from_utf8_lossy(&text);
    let native = text
        .split("+ dmraid")
        .find(|part| part.contains("block magic"))
        .unwrap();
    let mut values = BTreeMap::new();
    // 0: reserved block. 1: header. 2 and on: lines.
    let mut part = 0;
    for line in native.lines() {
        let Some((offset, rest)) = line.strip_prefix("0x").and_then(|l| l.split_once(' ')) else {
            continue;
        };
        let (label, value) = rest.split_once(':').unwrap();
        let label = label.trim().to_string();
        part += usize::from(label == "ridcode" || label == "config ID");
        let offset = u32::from_str_radix(offset, 16).unwrap();
        values.insert((part, offset, label), value.trim().to_string());
    }
    values
}

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

#[test]
fn dmraid_reads_the_same_values() {
    let disk = &load(CASE)[0];
    let (image, verdict, bytes) = probe(disk, 0);
    assert!(matches!(verdict, Probe::Found { generation: 1, .. }));
    assert!(bytes <= 17 * 512 + 512, "{bytes} bytes are read");
    let block = image.bytes(disk.size_sectors - 1, 1).unwrap().unwrap();
    let table = Table::new(image.bytes(TABLE, 16).unwrap().unwrap()).unwrap();
    let mut checked = 0;
    for ((part, offset, label), value) in printed() {
        let at = offset as usize;
        let bytes: &[u8] = match part {
            0 => block,
            1 => table.head(),
            n => &table.bytes()[(n - 1) * LINE_BYTES..][..LINE_BYTES],
        };
        // By our own decoder, where there is one.
        let line = table.line(part.wrapping_sub(2)).unwrap_or_default();
        let short = u64::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let mut padded = bytes.to_vec();
        padded.extend([0; 4]);
        let long = u64::from(u32::from_be_bytes(padded[at..at + 4].try_into().unwrap()));
        let ours = match (part, label.as_str()) {
            (0, "block magic") => u64::from(reserved::SIGNATURE),
            (0, "smagic") => u64::from(reserved::VALID),
            (0, "resver") => u64::from(reserved::VERSION),
            (0, "drivemagic" | "raidtbl @ sector") => long,
            (0, "biosInfo" | "svBlockStorageTid" | "svtid") => short,
            (0, _) => u64::from(bytes[at]),
            (1, "ridcode") => u64::from(header::SIGNATURE),
            (1, "max configs" | "config sz") => short,
            (1, "configs") => table.len() as u64,
            (1, "checksum") => u64::from(table.sum()),
            (1, "irocFlags" | "dirt, rty" | "action prio" | "spareid") => u64::from(bytes[at]),
            (1, _) => long,
            (_, "config ID") => u64::from(line.magic),
            (_, "name") => {
                assert_eq!(format!("\"{}\"", line.name()), value);
                checked += 1;
                continue;
            }
            (_, "raidcount") => u64::from(line.count),
            (_, "sequence #") => u64::from(line.sequence),
            (_, "level") => u64::from(line.kind),
            (_, "type") => u64::from(line.raid),
            (_, "state") => u64::from(line.state),
            (_, "flags") => u64::from(line.flags),
            (_, "refcount") => u64::from(line.references),
            (_, "hba") => u64::from(line.hba),
            (_, "channel") => u64::from(line.channel),
            (_, "lun") => u64::from(line.lun),
            (_, "id") => u64::from(line.id),
            (_, "offset") => u64::from(line.offset),
            (_, "capacity") => u64::from(line.capacity),
            (_, "stripe size") => {
                assert_eq!(format!("{} KB", line.strip / 2), value);
                checked += 1;
                continue;
            }
            (_, "BIOS info") => u64::from(line.bios),
            (_, "phys/log lun") => u64::from(line.lsu),
            (_, "addedDrives") => u64::from(line.added),
            (_, "appSleepRate") => u64::from(line.sleep),
            (_, "blockStorageTid") => u64::from(line.target),
            (_, "curAppBlock") => u64::from(line.progress),
            (_, "appBurstCount") => u64::from(line.burst),
            other => panic!("unknown: {other:?}"),
        };
        assert_eq!(ours, number(&value), "part {part}, {label} at {offset:#x}");
        // What is a constant of ours must be at the place that dmraid names.
        if matches!(label.as_str(), "ridcode" | "block magic" | "smagic") {
            assert_eq!(long, ours);
        }
        checked += 1;
    }
    assert_eq!(checked, 10 + 16 + 5 * 23, "values of dmraid");
}

#[test]
fn the_sample_is_a_member_of_a_stripe_of_four() {
    let disks = load(CASE);
    let set = open(&disks).unwrap();
    let model = set.set();
    assert_eq!(model.disks.len(), 4);
    let states: Vec<DiskState> = model.disks.iter().map(|disk| disk.state).collect();
    use DiskState::{Missing, Online};
    assert_eq!(states, [Online, Missing, Missing, Missing]);
    assert!(model.disks.iter().all(|disk| disk.role == DiskRole::Member));
    assert_eq!(model.disks[0].label.as_str(), "91aa7059");
    assert_eq!(model.disks[0].usable_sectors, TABLE);
    let volume = model.volume(0).unwrap();
    assert_eq!(volume.name.as_str(), "ZERO");
    assert_eq!(volume.size_sectors, 71_770_112);
    assert_eq!(volume.shape.level, Level::Raid0);
    assert_eq!(volume.shape.layout, Layout::Plain);
    assert_eq!(volume.shape.members, 4);
    assert_eq!(volume.shape.chunk_sectors, 128);
    assert_eq!(volume.shape.member_sectors, 17_942_528);
    assert_eq!(volume.consistency, Consistency::Clean);
    assert!(matches!(volume.access, Access::ReadWrite));
    assert_eq!(volume.members[0].state, MemberState::InSync);
    assert_eq!(volume.members[3].state, MemberState::Missing);
    assert_eq!(volume.members[3].disk, Some(3));
    assert!(model.notes.is_empty(), "{:?}", model.notes.len());
}

/// The sample's disks, were they all there: the same table, each with its own number.
fn complete() -> Vec<Disk> {
    let disk = load(CASE).remove(0);
    let table = Table::new(&disk.read(TABLE, 16)).unwrap();
    (1..5)
        .map(|n| {
            let mut disk = disk.clone();
            let mut block = disk.read(disk.size_sectors - 1, 1);
            let magic = table.line(n).unwrap().magic;
            block[0x40..0x44].copy_from_slice(&magic.to_be_bytes());
            disk.write(disk.size_sectors - 1, &block);
            disk
        })
        .collect()
}

#[test]
fn members_are_in_order_whatever_comes_first() {
    let disks = complete();
    let labels = |order: &[u64]| {
        let keyed: Vec<(u64, &Disk)> = order.iter().map(|&k| (k, &disks[k as usize])).collect();
        let set = open_keyed(&keyed).unwrap();
        let volume = set.set().volume(0).unwrap();
        volume
            .members
            .iter()
            .map(|member| {
                set.set()
                    .disk(member.disk.unwrap())
                    .unwrap()
                    .facts
                    .unwrap()
                    .key
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&[0, 1, 2, 3]), [0, 1, 2, 3]);
    assert_eq!(labels(&[3, 1, 0, 2]), [0, 1, 2, 3]);
    // The order is that of the addresses, not of the table.
    let swapped: Vec<Disk> = disks
        .iter()
        .map(|disk| {
            let mut disk = disk.clone();
            let mut bytes = disk.read(TABLE, 16);
            bytes[0xC0 + 0x13] = 9;
            disk.write(TABLE, &bytes);
            disk
        })
        .collect();
    let set = open(&swapped).unwrap();
    let keys: Vec<_> = set
        .set()
        .volume(0)
        .unwrap()
        .members
        .iter()
        .map(|member| member.disk.unwrap())
        .collect();
    assert_eq!(keys, [0, 2, 3, 1]);
}

#[test]
fn every_line_is_encoded_as_it_was() {
    let disk = &load(CASE)[0];
    let bytes = disk.read(TABLE, 16);
    assert_eq!(bytes.len(), TABLE_BYTES);
    let table = Table::new(&bytes).unwrap();
    assert_eq!(table.bytes(), bytes);
    for (index, line) in table.lines() {
        let mut again = [0xEE; LINE_BYTES];
        line.encode(&mut again);
        assert_eq!(again, bytes[(index + 1) * LINE_BYTES..][..LINE_BYTES]);
    }
    // All 64 bytes are covered: any line comes back.
    for seed in 0..200u8 {
        let raw: Vec<u8> = (0..64u8)
            .map(|n| n.wrapping_mul(37).wrapping_add(seed.wrapping_mul(91)))
            .collect();
        let mut again = [0; LINE_BYTES];
        Line::decode(&raw).encode(&mut again);
        assert_eq!(again, raw[..]);
    }
    assert!(!table.is_marked());
    assert_eq!(table.sum(), 0x2026);
}

/// What a whole disk's metadata would be, written from memory.
fn encoded(set: &AsrSet, disk: u16) -> (Vec<u8>, Vec<u8>) {
    let home = set.home(disk).unwrap();
    (set.table.bytes().to_vec(), home.reserved.to_vec())
}

#[test]
fn the_disk_is_encoded_as_it_was() {
    let disks = complete();
    let set = open(&disks).unwrap();
    for (index, disk) in disks.iter().enumerate() {
        let (table, block) = encoded(&set, index as u16);
        assert_eq!(table, disk.read(TABLE, 16));
        assert_eq!(block, disk.read(disk.size_sectors - 1, 1));
    }
}

#[test]
fn an_update_keeps_what_it_is_not_about() {
    let mut disks = complete();
    let mut set = open(&disks).unwrap();
    // Nothing to record: nothing is written.
    set.apply(&Event::Dirty(0), &crate::asr_common::context(1))
        .unwrap();
    assert!(set.plan().is_empty());
    let old = disks[0].clone();
    apply(&mut set, &mut disks, &Event::DiskFailed(2), 2).unwrap();
    let all: Vec<(u64, &[u8])> = old.runs().collect();
    assert_eq!(all.len(), 2);
    let (before, after) = (old.read(TABLE, 16), disks[0].read(TABLE, 16));
    let changed: Vec<usize> = (0..TABLE_BYTES)
        .filter(|&at| before[at] != after[at])
        .collect();
    for at in changed {
        let inside = at % LINE_BYTES;
        let good = if at < LINE_BYTES {
            // Sum, time, EMD's marks.
            (0x0E..0x10).contains(&at) || (0x1C..0x20).contains(&at) || at >= 0x34
        } else {
            // Sequence number; states of the array and of the third disk.
            let line = at / LINE_BYTES - 1;
            (2..4).contains(&inside) || inside == 0x0A && (line == 0 || line == 3)
        };
        assert!(good, "byte {at:#x} changed");
    }
    let block = old.size_sectors - 1;
    assert_eq!(old.read(block, 1), disks[0].read(block, 1));
    // The disk that failed keeps its last words.
    assert_eq!(old.read(TABLE, 16), disks[2].read(TABLE, 16));
    let again = open(&disks).unwrap();
    assert_eq!(show(set.set()), show(again.set()));
    assert_eq!(again.set().disks[2].state, DiskState::Failed);
    assert_eq!(
        set.set().id.as_bytes(),
        0x2CA5_856Au32.to_be_bytes(),
        "the set keeps its identity"
    );
    assert!(writes(&set).iter().all(|write| write.bytes.len() == 512));
}
