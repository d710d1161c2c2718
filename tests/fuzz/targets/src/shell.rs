// SPDX-License-Identifier: GPL-2.0

//! What the module does around a format: reading what it asks for, assembling, carrying plans out. And
//! what must hold of all that, whatever is on the disks.

use emd_core::metadata::{
    DiskImage, Extent, Format, MetadataSet, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{
    Access, Checked, Context, DiskFacts, Identity, Level, Member, MemberState, Reason, Set, Text,
    Volume, BAD_RANGES_MAX, DISKS_MAX, MEMBERS_MAX, VOLUMES_MAX,
};
use emd_core::personalities::{for_level, Stretches};
use host_tests::samples::Disk;
use kernel::prelude::*;

/// Facts of a disk; `key` is its handle, its name the serial number.
pub fn facts(disk: &Disk, key: u64) -> DiskFacts {
    DiskFacts {
        key,
        size_sectors: disk.size_sectors,
        logical_block_bytes: disk.logical_block_bytes,
        serial: Text::from_text(&disk.name),
    }
}

/// Time and random bytes number `n`.
pub fn context(n: u64) -> Context {
    Context {
        now_seconds: 1_800_000_000 + n,
        random: [n.wrapping_mul(0x9E37_79B9_97F4_A7C1), !n],
    }
}

/// Reads what the format asks for; sectors in `bad` cannot be read.
pub fn probe(format: &dyn Format, disk: &Disk, key: u64, bad: &[u64]) -> (DiskImage, Probe) {
    let mut image = DiskImage {
        facts: facts(disk, key),
        extents: KVec::new(),
    };
    let mut bytes = 0;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match format.probe(&image) {
            Probe::Read(region) => {
                bytes += read(&mut image, disk, region, bad);
                assert!(bytes <= PROBE_BYTES_MAX, "too much is read: {bytes}");
            }
            verdict => {
                if let Probe::Damaged(why) = &verdict {
                    check_reason(why, "probe");
                }
                return (image, verdict);
            }
        }
    }
    panic!("the format never has enough");
}

fn read(image: &mut DiskImage, disk: &Disk, region: Region, bad: &[u64]) -> usize {
    let block = u64::from(disk.logical_block_bytes / 512);
    assert_eq!(region.sector % block, 0, "{region:?}");
    assert_eq!(u64::from(region.len_sectors) % block, 0, "{region:?}");
    assert!(region.len_sectors > 0, "{region:?}");
    let end = region.sector.checked_add(region.len_sectors.into());
    assert!(
        end.is_some_and(|end| end <= disk.size_sectors),
        "{region:?}"
    );
    let again = image.extents.iter().any(|extent| extent.region == region);
    assert!(!again, "asked for twice: {region:?}");
    let sectors = region.sector..region.sector + u64::from(region.len_sectors);
    let bytes = (!bad.iter().any(|sector| sectors.contains(sector))).then(|| {
        let mut bytes = KVVec::new();
        let data = disk.read(region.sector, region.len_sectors as usize);
        bytes.extend_from_slice(&data, GFP_KERNEL).expect("memory");
        bytes
    });
    let extent = Extent { region, bytes };
    image.extents.push(extent, GFP_KERNEL).expect("memory");
    region.len_sectors as usize * 512
}

/// Assembles what belongs to the set of the first disk that has one, as discovery does; `None` when no
/// disk has. `present` says by key which disks are there.
pub fn open(
    format: &dyn Format,
    disks: &[Disk],
    bad: &[Vec<u64>],
    present: u32,
) -> Option<Checked<KBox<dyn MetadataSet>>> {
    let mut first: Option<Identity> = None;
    let mut images = Vec::new();
    for (key, disk) in disks.iter().enumerate() {
        if present & (1 << (key % 32)) == 0 {
            continue;
        }
        let bad = bad.get(key).map_or(&[][..], Vec::as_slice);
        let (image, verdict) = probe(format, disk, key as u64, bad);
        let Probe::Found { set, .. } = verdict else {
            continue;
        };
        if *first.get_or_insert(set) == set {
            images.push(image);
        }
    }
    first?;
    let images: Vec<&DiskImage> = images.iter().collect();
    let opened = format.assemble(&images);
    match &opened {
        Ok(set) => check_model(set.set()),
        Err(why) => check_reason(why, "assemble"),
    }
    Some(opened)
}

/// A refusal says something to people, and nothing of faults of ours.
pub fn check_reason(why: &Reason, what: &str) {
    assert!(!why.text().is_empty(), "{what}: no reason");
    assert!(!why.text().starts_with("internal"), "{what}: {why}");
}

/// What must hold of any model.
pub fn check_model(set: &Set) {
    assert!(set.disks.len() <= DISKS_MAX);
    assert!(set.volumes.len() <= VOLUMES_MAX);
    assert!(set.bad_ranges.len() <= BAD_RANGES_MAX);
    for (_, volume) in set.live_volumes() {
        check_volume(set, volume);
    }
}

fn check_volume(set: &Set, volume: &Volume) {
    let shape = &volume.shape;
    assert!(volume.members.len() <= MEMBERS_MAX, "{volume:?}");
    if matches!(volume.access, Access::Refused(_)) {
        return;
    }
    assert_eq!(volume.members.len(), shape.members_total(), "{volume:?}");
    if let Some(level) = for_level(shape.level) {
        if level.check(shape).is_ok() {
            let capacity = level.capacity_sectors(shape);
            assert!(capacity >= 1, "{volume:?}");
        }
    }
    if let Some(scrub) = volume.scrub {
        let most = shape.sync_sectors(volume.size_sectors);
        assert!(scrub.done_sectors <= most, "{volume:?}");
        assert!(shape.level.is_redundant(), "{volume:?}");
    }
    if let Some(log) = &volume.regions {
        assert!(log.dirty.len() * 64 >= log.regions as usize, "{volume:?}");
        assert!(log.region_sectors.is_power_of_two(), "{volume:?}");
    }
    if !volume.stretches.is_empty() {
        // Members of a RAID 0 may differ in size; any other volume is on its way to another shape.
        let may_be_written = shape.level == Level::Raid0;
        assert!(
            may_be_written || !matches!(volume.access, Access::ReadWrite),
            "{volume:?}"
        );
        check_stretches(volume);
        return;
    }
    let is_lost =
        |member: &Member| matches!(member.state, MemberState::Failed | MemberState::Missing);
    if shape.level == Level::Raid0 && volume.members.iter().any(is_lost) {
        // It cannot run, and how long its members are is not known where one of them, which may be longer, is not here.
        return;
    }
    for member in volume.members.iter() {
        let Some(disk) = member.disk.and_then(|disk| set.disk(disk)) else {
            let lost = matches!(member.state, MemberState::Failed | MemberState::Missing);
            assert!(lost, "a member without a disk: {volume:?}");
            continue;
        };
        if let (Some(facts), MemberState::InSync | MemberState::Rebuilding { .. }) =
            (disk.facts, member.state)
        {
            let end = member.offset_sectors.checked_add(shape.member_sectors);
            assert!(
                end.is_some_and(|end| end <= facts.size_sectors),
                "a member beyond its disk: {volume:?}"
            );
        }
    }
}

fn check_stretches(volume: &Volume) {
    // A shape that no level runs is refused when it is started.
    let Ok((stretches, members)) = Stretches::new(volume) else {
        return;
    };
    let last = volume.size_sectors.saturating_sub(1);
    for sector in [0, 1, last / 2, last] {
        if let Some(place) = stretches.locate(sector) {
            assert!(usize::from(place.slot) < members.len(), "{volume:?}");
            let end = stretches.member_end(place.slot);
            assert!(place.member_sector < end, "{volume:?}");
        }
    }
}

/// Carries the set's plan out, and checks it. True when something was written.
pub fn carry_out(set: &dyn MetadataSet, disks: &mut [Disk]) -> bool {
    let model = set.set();
    let mut phase = 0;
    for write in set.plan().writes() {
        assert!(write.phase >= phase, "phases go down");
        phase = write.phase;
        let facts = model.disk(write.disk).and_then(|disk| disk.facts);
        let facts = facts.unwrap_or_else(|| panic!("a write to no disk: {write:?}"));
        let bytes = set.bytes(&write.source);
        assert_eq!(bytes.len(), write.source.len_bytes as usize, "{write:?}");
        assert!(!bytes.is_empty(), "{write:?}");
        assert_eq!(
            bytes.len() % facts.logical_block_bytes as usize,
            0,
            "{write:?}"
        );
        assert_eq!(
            write.sector % u64::from(facts.logical_block_bytes / 512),
            0,
            "{write:?}"
        );
        let end = write.sector.checked_add((bytes.len() / 512) as u64);
        let end = end.filter(|end| *end <= facts.size_sectors);
        let end = end.unwrap_or_else(|| panic!("beyond the disk: {write:?}"));
        for (index, _, member) in model.memberships(write.disk) {
            let Some(volume) = model.volume(index) else {
                continue;
            };
            if !matches!(volume.access, Access::ReadWrite) {
                continue;
            }
            let first = member.offset_sectors;
            let data = first..first.saturating_add(volume.shape.member_sectors);
            assert!(
                end <= data.start || write.sector >= data.end,
                "metadata over data: {write:?} of {volume:?}"
            );
        }
        disks[facts.key as usize].write(write.sector, bytes);
    }
    !set.plan().is_empty()
}
