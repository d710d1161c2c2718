// SPDX-License-Identifier: GPL-2.0

//! Volumes of several basic volumes: RAID 10, 50, 60. Which record each disk carries, what the entries
//! say when members are lost, and what is refused.

use crate::ddf_common::damage::with_edit;
use crate::ddf_common::world::{spec, World};
use crate::ddf_common::{apply, open, open_keyed};
use emd_core::metadata::ddf::config::Record;
use emd_core::metadata::ddf::layout::{vde, Section};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, Event, Layout, Level, MemberState, Rotation, Shape, SpareRole, VolumeSpec,
};
use host_tests::samples::{load, Disk};

const MIB: u64 = 2048;

fn created(level: Level, layout: Option<Layout>, count: u16, spans: u16) -> World {
    let mut world = World::created(usize::from(count), 40, 512, 0);
    let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
    let spec = VolumeSpec {
        layout,
        spans,
        size_sectors: 0,
        assume_clean: true,
        ..spec("vol", level, &disks)
    };
    world.apply(&Event::VolumeCreated(spec));
    world
}

fn shape(set: &DdfSet) -> Shape {
    set.set().volume(0).unwrap().shape
}

/// The volume records that `disk` carries.
fn records(set: &DdfSet, disk: u16) -> Vec<Record<'_>> {
    let home = set.home(disk).unwrap();
    home.slots().filter_map(|slot| home.record(slot)).collect()
}

fn state(world: &World) -> u8 {
    world.set.vde(0).unwrap().volume_state() & vde::STATE_MASK
}

#[test]
fn every_disk_carries_its_own_basic_volumes_record() {
    // Level, layout, disks, spans; members of a basic volume, level byte, qualifier.
    for (level, layout, count, spans, width, bytes) in [
        (Level::Raid10, Layout::Near(2), 4, 1, 2u16, (1, 0)),
        (Level::Raid10, Layout::Near(2), 8, 1, 2, (1, 0)),
        (Level::Raid10, Layout::Near(3), 6, 1, 3, (1, 1)),
        (
            Level::Raid5,
            Layout::Parity(Rotation::LeftAsymmetric),
            6,
            2,
            3,
            (5, 2),
        ),
        (
            Level::Raid6,
            Layout::Parity(Rotation::DdfNContinue),
            12,
            3,
            4,
            (6, 3),
        ),
    ] {
        let world = created(level, Some(layout), count, spans);
        let set = open(&world.disks).unwrap();
        let what = format!("{level} {layout} {count} {spans}");
        let shape = shape(&set);
        assert_eq!((shape.level, shape.layout), (level, layout), "{what}");
        assert_eq!((shape.members, shape.spans), (count / spans, spans));
        let volume = set.set().volume(0).unwrap();
        let data = match level {
            Level::Raid10 => u64::from(count / width),
            _ => u64::from((width - level.parity_members()) * spans),
        };
        assert_eq!(volume.size_sectors, data * shape.member_sectors, "{what}");
        for (slot, member) in (0u16..).zip(volume.members.iter()) {
            assert_eq!(member.disk, Some(slot), "{what}");
            let records = records(&set, slot);
            assert_eq!(records.len(), 1, "{what}: disk {slot}");
            let record = records[0];
            assert_eq!(record.members(), width, "{what}");
            assert_eq!((record.level(), record.qualifier()), bytes, "{what}");
            assert_eq!(u16::from(record.spans()), count / width, "{what}");
            assert_eq!(u16::from(record.span()), slot / width, "{what}");
            assert_eq!(record.second_level(), 3, "{what}: spanned, as mdadm writes");
            assert_eq!(record.volume_blocks(), volume.size_sectors, "{what}");
            let position = slot % width;
            let own = set.disk_meta(slot).unwrap().reference;
            assert_eq!(record.reference(position), own, "{what}");
        }
    }
}

/// Volume states as members of different basic volumes go (mdadm's rules).
#[test]
fn states_of_two_levels() {
    use vde::{DEGRADED, FAILED, OPTIMAL, PARTIAL};
    for (level, layout, count, spans, losses) in [
        // Mirrors are (0 1) and (2 3).
        (
            Level::Raid10,
            Layout::Near(2),
            4,
            1,
            vec![(0, DEGRADED), (3, DEGRADED), (1, FAILED)],
        ),
        (
            Level::Raid10,
            Layout::Near(3),
            6,
            1,
            vec![(0, PARTIAL), (4, PARTIAL), (1, DEGRADED), (2, FAILED)],
        ),
        (
            Level::Raid5,
            Layout::Parity(Rotation::LeftSymmetric),
            6,
            2,
            vec![(0, DEGRADED), (5, DEGRADED), (4, FAILED)],
        ),
        (
            Level::Raid6,
            Layout::Parity(Rotation::DdfNRestart),
            8,
            2,
            vec![(0, PARTIAL), (4, PARTIAL), (1, DEGRADED), (2, FAILED)],
        ),
    ] {
        let mut world = created(level, Some(layout), count, spans);
        assert_eq!(state(&world), OPTIMAL);
        for (disk, wanted) in losses {
            world.apply(&Event::DiskFailed(disk));
            assert_eq!(state(&world), wanted, "{level} {layout} without {disk}");
        }
    }
}

#[test]
fn a_spare_gets_the_record_of_the_span_it_joins() {
    for (level, count, spans, slot) in [
        (Level::Raid10, 4, 1, 3u16),
        (Level::Raid5, 6, 2, 4),
        (Level::Raid6, 8, 2, 1),
    ] {
        let mut world = created(level, None, count, spans);
        let spare = world.add(40, SpareRole::Global);
        let volume = 0;
        world.apply(&Event::DiskFailed(slot));
        world.apply(&Event::SpareActivated {
            volume,
            slot,
            disk: spare,
        });
        let wanted = slot / world.set.width(0);
        let set = open(&world.disks).unwrap();
        let mine = records(&set, spare);
        assert_eq!(mine.len(), 1);
        assert_eq!(u16::from(mine[0].span()), wanted);
        // All basic volumes' records count on together.
        for disk in (0..count).filter(|&disk| disk != slot) {
            assert_eq!(records(&set, disk)[0].sequence(), mine[0].sequence());
        }
        assert_eq!(
            state(&world),
            if level == Level::Raid6 {
                vde::PARTIAL
            } else {
                vde::DEGRADED
            }
        );
        world.apply(&Event::RebuildDone { volume, slot });
        assert_eq!(state(&world), vde::OPTIMAL);
    }
}

/// Any one disk of each basic volume tells all; a basic volume without a disk is shown as missing.
#[test]
fn one_disk_of_each_span_is_enough_to_know() {
    let world = created(Level::Raid6, None, 8, 2);
    let some = |keys: &[u64]| {
        let disks: Vec<(u64, &Disk)> = keys
            .iter()
            .map(|&key| (key, &world.disks[key as usize]))
            .collect();
        open_keyed(&disks).unwrap()
    };
    let set = some(&[2, 7]);
    let volume = set.set().volume(0).unwrap();
    let disks: Vec<_> = volume.members.iter().map(|member| member.disk).collect();
    assert_eq!(disks, (0..8).map(Some).collect::<Vec<_>>());
    let set = some(&[4, 5, 6, 7]);
    let volume = set.set().volume(0).unwrap();
    assert_eq!(volume.members.len(), 8);
    assert!(volume.members[..4]
        .iter()
        .all(|m| m.disk.is_none() && m.state == MemberState::Missing));
    assert!(volume.members[4..]
        .iter()
        .all(|m| m.state == MemberState::InSync));
}

fn why(set: &DdfSet) -> String {
    match &set.set().volumes[0].access {
        Access::Refused(why) => why.text().to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn secondary_levels_and_spans() {
    let world = created(Level::Raid5, None, 6, 2);
    let record = |edit: &dyn Fn(usize, &mut [u8])| {
        with_edit(&world.disks, &world.set, Section::Config, edit)
    };
    // Striped is the same as spanned here.
    let striped = record(&|_, bytes| bytes[0x47] = 0);
    assert_eq!(why(&striped), "ReadWrite");
    assert_eq!(shape(&striped), shape(&world.set));
    assert!(why(&record(&|_, bytes| bytes[0x47] = 1)).contains("mirrored spans"));
    assert!(why(&record(&|_, bytes| bytes[0x47] = 2)).contains("concatenated"));
    assert!(why(&record(&|_, bytes| bytes[0x47] = 9)).contains("unknown"));
    // The second span has shorter members, or fewer.
    let short = record(&|disk, bytes| {
        if disk >= 3 {
            bytes[0x48..0x50].copy_from_slice(&(4 * MIB).to_be_bytes());
        }
    });
    assert!(why(&short).contains("unequal spans"), "{}", why(&short));
    let narrow = record(&|disk, bytes| {
        if disk >= 3 {
            bytes[0x41] = 2;
        }
    });
    assert!(why(&narrow).contains("unequal spans"), "{}", why(&narrow));
    let other = record(&|disk, bytes| {
        if disk >= 3 {
            bytes[0x44] = 2;
        }
    });
    assert!(why(&other).contains("contradict"), "{}", why(&other));
    // A disk in both spans.
    let first = world.set.disk_meta(0).unwrap().reference;
    let both = record(&|disk, bytes| {
        if disk >= 3 {
            bytes[0x200..0x204].copy_from_slice(&first.to_be_bytes());
        }
    });
    assert!(why(&both).contains("listed twice"), "{}", why(&both));
    // Spans of RAID 1E are nothing that EMD knows.
    let mirror = record(&|_, bytes| bytes[0x43..0x45].copy_from_slice(&[0x11, 0]));
    assert!(
        why(&mirror).contains("2 spans of raid1e"),
        "{}",
        why(&mirror)
    );
    // Of RAID 0 they are one RAID 0.
    let stripe = record(&|_, bytes| bytes[0x43..0x45].copy_from_slice(&[0, 0]));
    assert_eq!(why(&stripe), "ReadWrite");
    let stripe = shape(&stripe);
    assert_eq!(
        (stripe.level, stripe.members, stripe.spans),
        (Level::Raid0, 6, 1)
    );
}

/// RAID 1E with qualifier 1 has its copies in the next row, but mdadm writes it for far=2.
#[test]
fn offset_of_mdadm_is_not_certain() {
    let mut disks = load("ddf/gen/raid1e-n2");
    for disk in &mut disks {
        disk.keep_last(70_000);
    }
    let set = open(&disks).unwrap();
    assert_eq!(shape(&set).layout, Layout::Near(2));
    let theirs = with_edit(&disks, &set, Section::Config, &|_, bytes| bytes[0x44] = 1);
    assert!(why(&theirs).contains("where data lies"), "{}", why(&theirs));
    let ours = with_edit(&disks, &set, Section::Config, &|_, bytes| {
        bytes[0x44] = 1;
        bytes[0x08..0x10].copy_from_slice(b"EMD     ");
    });
    // The entry's GUID is another one now.
    assert!(
        why(&ours).contains("no disk that is here"),
        "{}",
        why(&ours)
    );
    let world = created(Level::Raid1e, Some(Layout::Offset(2)), 3, 1);
    assert_eq!(
        shape(&open(&world.disks).unwrap()).layout,
        Layout::Offset(2)
    );
}

#[test]
fn specifications_that_cannot_be() {
    let mut world = World::created(12, 40, 512, 0);
    let disks: Vec<Option<u16>> = (0..12).map(Some).collect();
    let mut says = |spec: VolumeSpec<'_>, part: &str| {
        let why = world.refuse(&Event::VolumeCreated(spec));
        assert!(why.contains(part), "{why}");
    };
    let with = |level, spans, count: usize| VolumeSpec {
        spans,
        ..spec("v", level, &disks[..count])
    };
    says(with(Level::Raid10, 2, 8), "raid5 and raid6 only");
    says(with(Level::Raid0, 2, 4), "raid5 and raid6 only");
    says(with(Level::Raid5, 0, 6), "0 spans");
    says(with(Level::Raid5, 17, 12), "1 to 16");
    says(with(Level::Raid5, 2, 7), "not 7 over 2 spans");
    says(with(Level::Raid5, 4, 8), "not 8 over 4 spans");
    says(with(Level::Raid6, 2, 6), "not 6 over 2 spans");
    says(with(Level::Raid10, 1, 5), "multiple");
    // One mirror without any disk.
    let open = [Some(0), Some(1), None, None];
    says(spec("v", Level::Raid10, &open), "cannot be without 2");
    let half = [Some(0), None, None, Some(3)];
    world.apply(&Event::VolumeCreated(spec("v", Level::Raid10, &half)));
    assert_eq!(state(&world), vde::DEGRADED);
}

/// A two-level volume and a plain one share disks; deleting one leaves the other's records.
#[test]
fn two_levels_beside_one() {
    let mut world = World::created(6, 64, 512, 0);
    let all: Vec<Option<u16>> = (0..6).map(Some).collect();
    let fifty = VolumeSpec {
        spans: 2,
        size_sectors: 16 * MIB,
        ..spec("fifty", Level::Raid5, &all)
    };
    world.apply(&Event::VolumeCreated(fifty));
    let ten = VolumeSpec {
        size_sectors: 6 * MIB,
        ..spec("ten", Level::Raid10, &all)
    };
    world.apply(&Event::VolumeCreated(ten));
    for disk in 0..6 {
        assert_eq!(records(&world.set, disk).len(), 2);
    }
    let (set, disks) = (&mut world.set, &mut world.disks);
    apply(set, disks, &Event::VolumeDeleted(0), 90).unwrap();
    world.check("deleted");
    for disk in 0..6 {
        let left = records(&world.set, disk);
        assert_eq!((left.len(), left[0].level()), (1, 1));
    }
}

/// A size that is asked for is rounded up to what the members hold: md, which works a volume's size out from its members',
/// would show a larger one than EMD otherwise.
#[test]
fn sizes_are_whole_stripes() {
    use emd_core::metadata::ddf::model::capacity_sectors;
    for (level, layout, count, spans) in [
        (Level::Raid0, None, 3, 1),
        (Level::Raid1, None, 2, 1),
        (Level::Raid5, None, 4, 1),
        (Level::Raid6, None, 5, 1),
        (Level::Raid10, None, 4, 1),
        (Level::Raid1e, Some(Layout::Near(2)), 3, 1),
        (Level::Raid5, None, 6, 2),
        (Level::Concat, None, 2, 1),
    ] {
        let mut world = World::created(usize::from(count), 40, 512, 0);
        let disks: Vec<Option<u16>> = (0..count).map(Some).collect();
        let asked = 2 * MIB + 9;
        let spec = VolumeSpec {
            layout,
            spans,
            size_sectors: asked,
            ..spec("vol", level, &disks)
        };
        world.apply(&Event::VolumeCreated(spec));
        let volume = world.set.set().volume(0).unwrap();
        let size = volume.size_sectors;
        assert_eq!(size, capacity_sectors(&volume.shape), "{level} of {count}");
        assert!(size >= asked, "{level} of {count}: {size}");
    }
}

/// A volume of a given size gets members that hold it, and no chunk more.
#[test]
fn members_are_as_long_as_the_size_needs() {
    use emd_core::metadata::ddf::model::{capacity_sectors, member_sectors_for};
    let mut checked = 0;
    for capability in emd_core::metadata::Format::capabilities(&emd_core::metadata::ddf::Ddf).levels
    {
        for &layout in capability.layouts {
            for members in capability.members.0..13 {
                if let Layout::Near(copies) = layout {
                    if capability.level == Level::Raid10 && members % u16::from(copies) != 0 {
                        continue;
                    }
                }
                for spans in [1, 3] {
                    let spanned = matches!(capability.level, Level::Raid5 | Level::Raid6);
                    if spans > 1 && !spanned {
                        continue;
                    }
                    let plain = matches!(capability.level, Level::Raid1 | Level::Concat);
                    let mut shape = Shape {
                        level: capability.level,
                        layout,
                        members,
                        spans,
                        chunk_sectors: if plain { 0 } else { 64 },
                        member_sectors: 0,
                    };
                    for size in [1, 63, 64, 65, 640, 1000, 4096, 99_999, 1 << 33] {
                        let what = format!("{shape:?} size {size}");
                        let each = member_sectors_for(&shape, size, 64).unwrap();
                        shape.member_sectors = each;
                        assert!(capacity_sectors(&shape) >= size, "{what}");
                        shape.member_sectors = each - 64;
                        assert!(capacity_sectors(&shape) < size, "{what}");
                        checked += 1;
                    }
                }
            }
        }
    }
    assert!(checked > 1000, "{checked}");
}
