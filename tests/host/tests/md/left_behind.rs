// SPDX-License-Identifier: GPL-2.0

//! What others left in superblocks: roles as older kernels fill them, spares that missed a change of the array, recoveries
//! that go by the bitmap, data where a superblock is.

use crate::md_common::{apply, blanks, change, facts, made_of, open, open_keyed, Of, ALL};
use emd_core::metadata::md::layout::{feature, role, v0, v1};
use emd_core::metadata::md::{Md, MdSet, Version, MD_10, MD_11, MD_12};
use emd_core::metadata::MetadataSet;
use emd_core::model::{
    Access, DiskOffer, DiskRole, DiskState, Event, Level, MemberState, SpareRole,
};
use host_tests::crash::{cut_everywhere, Random};
use host_tests::samples::{load, Disk};
use host_tests::shell::{carry_out, context, writes};
use kernel::prelude::*;

/// An array of `members` in sync on the first of `count` disks; the others are blank.
fn made(format: &'static Md, level: Level, members: u16, count: usize) -> (KBox<MdSet>, Vec<Disk>) {
    made_of(format, level, members, blanks(count, 40, 512))
}

/// The event that a disk is added.
fn added(disks: &[Disk], key: usize) -> Event<'static> {
    Event::DiskAdded(DiskOffer {
        facts: facts(&disks[key], key as u64),
        role: SpareRole::Global,
    })
}

/// A disk's superblock.
fn super_of(format: &Md, disk: &Disk) -> Vec<u8> {
    disk.read(format.0.sector(disk.size_sectors).unwrap(), 8)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Gives a role to each of `numbers`, in all superblocks.
fn put_roles(format: &Md, disks: &mut [Disk], numbers: std::ops::Range<usize>, value: u16) {
    for disk in disks {
        for number in numbers.clone() {
            change(format, disk, v1::ROLES + 2 * number, &value.to_le_bytes());
        }
    }
}

/// Kernels up to 4.10 call every number failed that no disk has (`super_1_sync`): nobody failed, and there is room for
/// more disks.
#[test]
fn numbers_of_nobody_are_no_failed_disks() {
    for format in [&MD_10, &MD_11, &MD_12] {
        for has_spare in [false, true] {
            let (mut set, mut disks) = made(format, Level::Raid1, 2, 4);
            if has_spare {
                let event = added(&disks, 2);
                apply(&mut set, &mut disks, &event, 2).unwrap();
            }
            let here = if has_spare { 3 } else { 2 };
            put_roles(format, &mut disks[..here], here..128, role::FAULTY);
            let mut set = open(format, &disks[..here]).unwrap();
            assert_eq!(set.set().live_disks().count(), here);
            let event = added(&disks, 3);
            apply(&mut set, &mut disks, &event, 3).unwrap();
            // The spare is away: it is the only one of nobody that did not fail.
            let set = open(format, &disks[..2]).unwrap();
            assert_eq!(set.set().live_disks().count(), 2);
        }
    }
}

/// A disk that failed and is not here keeps its number as long as there is another one for who is added; not longer.
#[test]
fn the_number_of_a_failed_disk_is_given_away_last() {
    for format in [&MD_10, &MD_11, &MD_12] {
        let (_, mut disks) = made(format, Level::Raid1, 2, 4);
        put_roles(format, &mut disks[..2], 2..3, role::FAULTY);
        for disk in &mut disks[..2] {
            change(format, disk, v1::ROLES_MAX, &4u32.to_le_bytes());
        }
        let mut set = open(format, &disks[..2]).unwrap();
        assert_eq!(set.set().live_disks().count(), 3);
        for (key, number) in [(2, 3), (3, 2)] {
            let event = added(&disks, key);
            apply(&mut set, &mut disks, &event, 3).unwrap();
            assert_eq!(word(&super_of(format, &disks[key]), v1::NUMBER), number);
        }
        let again = open(format, &disks).unwrap();
        let online = |disk: &emd_core::model::Disk| disk.state == DiskState::Online;
        assert_eq!(
            again
                .set()
                .live_disks()
                .filter(|(_, disk)| online(disk))
                .count(),
            4
        );
    }
}

/// A spare that was away when the array was changed: it is old, and as good as blank.
#[test]
fn a_spare_of_another_shape_is_old() {
    for format in ALL {
        let is_old = format.0 == Version::V090;
        let places: &[usize] = match is_old {
            true => &[v0::RAID_DISKS, v0::SIZE, v0::CHUNK, v0::LAYOUT],
            false => &[
                v1::RAID_DISKS,
                v1::SIZE,
                v1::CHUNK,
                v1::LAYOUT,
                v1::FEATURES,
            ],
        };
        for &at in places {
            let (mut set, mut disks) = made(format, Level::Raid5, 3, 5);
            let event = added(&disks, 3);
            apply(&mut set, &mut disks, &event, 2).unwrap();
            let bytes = super_of(format, &disks[3]);
            let now = word(&bytes, at);
            let then = match at {
                v1::FEATURES if !is_old => now ^ feature::BITMAP,
                v0::RAID_DISKS | v1::RAID_DISKS | v0::LAYOUT | v1::LAYOUT => now ^ 1,
                _ => now / 2,
            };
            change(format, &mut disks[3], at, &then.to_le_bytes());
            // It is read first, and still nothing is made like it.
            let copies = disks.clone();
            let keyed: Vec<_> = [3, 0, 1, 2]
                .map(|key| (key, &copies[key as usize]))
                .to_vec();
            let mut set = open_keyed(format, &keyed).unwrap();
            let disk = set.set().disk_by_key(3).unwrap();
            assert_eq!(
                set.set().disk(disk).unwrap().state,
                DiskState::Stale,
                "{at:#x}"
            );
            let back = Event::DiskReturned(disk, facts(&disks[3], 3));
            for event in [added(&disks, 4), back] {
                apply(&mut set, &mut disks, &event, 3).unwrap();
            }
            for key in [3, 4] {
                let bytes = super_of(format, &disks[key]);
                let member = super_of(format, &disks[0]);
                assert_eq!(word(&bytes, at), word(&member, at), "{at:#x} {key}");
            }
            let set = open(format, &disks).unwrap();
            let role = set.set().disk(3).unwrap().role;
            assert_eq!(role, DiskRole::GlobalSpare);
        }
    }
}

/// A spare that comes when the array is in use already: the array knows nobody of its name, it calls itself a spare that is in no
/// place, and all disks together have it as one (in 0.90 as an old one, once its entry was erased). Added as a new disk it is one,
/// and nobody else changes his name.
#[test]
fn a_spare_that_comes_late_is_added_as_new() {
    for format in ALL {
        for (is_lost, is_used) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut set, mut disks) = made(format, Level::Raid1, 2, 4);
            let event = added(&disks, 2);
            apply(&mut set, &mut disks, &event, 2).unwrap();

            let copies = disks.clone();
            let first = if is_lost { 1 } else { 0 };
            let keyed: Vec<_> = (first..2).map(|key| (key, &copies[key as usize])).collect();
            let mut set = open_keyed(format, &keyed).unwrap();
            if is_used {
                for (n, event) in [Event::Dirty(0), Event::Clean(0)].iter().enumerate() {
                    apply(&mut set, &mut disks, event, 3 + n as u64).unwrap();
                }
            }
            let alone = open_keyed(format, &[(2, &disks[2])]).unwrap();
            let own = alone.set().disk_by_key(2).unwrap();
            let model = alone.set().disk(own).unwrap();
            assert_eq!(
                (model.state, model.role),
                (DiskState::Online, DiskRole::GlobalSpare)
            );
            assert_eq!(alone.set().memberships(own).count(), 0);
            assert_eq!(set.disk_called(&model.label), None);

            let copies = disks.clone();
            let keyed: Vec<_> = (first..3).map(|key| (key, &copies[key as usize])).collect();
            let joint = open_keyed(format, &keyed).unwrap();
            let index = joint.set().disk_by_key(2).unwrap();
            let state = joint.set().disk(index).unwrap().state;
            let is_erased = format.0 == Version::V090 && is_used;
            let expected = match is_erased {
                true => DiskState::Stale,
                false => DiskState::Online,
            };
            assert_eq!(state, expected, "{:?} {is_lost} {is_used}", format.0);
            assert_eq!(joint.set().memberships(index).count(), 0);

            let names = |set: &MdSet| -> Vec<_> {
                let disks = set.set().live_disks();
                disks.map(|(index, disk)| (index, disk.label)).collect()
            };
            let before = names(&set);
            let event = added(&disks, 2);
            apply(&mut set, &mut disks, &event, 5).unwrap();
            assert_eq!(names(&set)[..before.len()], before[..]);
            let copies = disks.clone();
            let keyed: Vec<_> = (first..3).map(|key| (key, &copies[key as usize])).collect();
            let again = open_keyed(format, &keyed).unwrap();
            let index = again.set().disk_by_key(2).unwrap();
            let model = again.set().disk(index).unwrap();
            assert_eq!(
                (model.state, model.role),
                (DiskState::Online, DiskRole::GlobalSpare)
            );
        }
    }
}

/// The disks with these keys, in this order.
fn of_keys<'a>(disks: &'a [Disk], keys: &[u64]) -> Vec<(u64, &'a Disk)> {
    let keyed = keys.iter().map(|&key| (key, &disks[key as usize]));
    keyed.collect()
}

/// A spare is away while another disk is added, which gets its number, as spares are listed nowhere. One of the two fails. With
/// both here the array starts as ever, and neither is used before a person says so: nobody knows which of them failed.
#[test]
fn two_spares_of_one_number_of_which_one_failed() {
    for format in [&MD_10, &MD_11, &MD_12] {
        let (mut set, mut disks) = made(format, Level::Raid1, 2, 4);
        let event = added(&disks, 2);
        apply(&mut set, &mut disks, &event, 2).unwrap();
        let mut set = open(format, &disks[..2]).unwrap();
        let event = added(&disks, 3);
        apply(&mut set, &mut disks, &event, 3).unwrap();
        let numbers = [2, 3].map(|key| word(&super_of(format, &disks[key]), v1::NUMBER));
        assert_eq!(numbers, [2, 2]);
        for (failed, keys) in [
            (2, [0, 1, 2, 3]),
            (3, [0, 1, 2, 3]),
            (2, [3, 2, 1, 0]),
            (3, [2, 3, 0, 1]),
        ] {
            let mut disks = disks.clone();
            let copies = disks.clone();
            let mut set = open_keyed(format, &of_keys(&copies, &[0, 1, failed])).unwrap();
            let disk = set.set().disk_by_key(failed).unwrap();
            apply(&mut set, &mut disks, &Event::DiskFailed(disk), 4).unwrap();

            let copies = disks.clone();
            let mut set = open_keyed(format, &of_keys(&copies, &keys)).unwrap();
            let volume = set.set().volume(0).unwrap();
            assert!(matches!(volume.access, Access::ReadWrite), "{failed}");
            for (slot, member) in (0..).zip(&volume.members) {
                assert_eq!(member.state, MemberState::InSync);
                assert_eq!(member.disk, set.set().disk_by_key(slot));
            }
            let states = |set: &MdSet| {
                let state = |key| {
                    let disk = set.set().disk_by_key(key).unwrap();
                    assert_eq!(set.slot_of(disk), None);
                    set.set().disk(disk).unwrap().state
                };
                [2, 3].map(state)
            };
            assert_eq!(states(&set), [DiskState::Failed; 2]);
            for event in [Event::Dirty(0), Event::Clean(0)] {
                apply(&mut set, &mut disks, &event, 5).unwrap();
            }
            // One that a person takes back gets a number of its own; the other one is still left alone.
            let disk = set.set().disk_by_key(3).unwrap();
            let returned = Event::DiskReturned(disk, facts(&disks[3], 3));
            apply(&mut set, &mut disks, &returned, 6).unwrap();
            let number = word(&super_of(format, &disks[3]), v1::NUMBER);
            assert_ne!(number, 2);
            let copies = disks.clone();
            let again = open_keyed(format, &of_keys(&copies, &keys)).unwrap();
            let expected = [DiskState::Failed, DiskState::Online];
            assert_eq!(states(&again), expected, "{failed}");
        }
    }
}

/// A spare comes back when its number is a member's that failed: the array starts, and what that member holds is not taken for the
/// spare's. A copy of a member that failed is one disk too many.
#[test]
fn a_spare_with_the_number_of_a_failed_member() {
    for format in [&MD_10, &MD_11, &MD_12] {
        let (mut set, mut disks) = made(format, Level::Raid1, 3, 5);
        let event = added(&disks, 3);
        apply(&mut set, &mut disks, &event, 2).unwrap();
        let mut set = open(format, &disks[..3]).unwrap();
        let (volume, slot) = (0, 2);
        for event in [Event::DiskFailed(2), added(&disks, 4)] {
            apply(&mut set, &mut disks, &event, 3).unwrap();
        }
        let disk = set.set().disk_by_key(4).unwrap();
        for event in [
            Event::SpareActivated { volume, slot, disk },
            Event::RebuildDone { volume, slot },
            Event::DiskFailed(disk),
        ] {
            apply(&mut set, &mut disks, &event, 4).unwrap();
        }
        let numbers = [3, 4].map(|key| word(&super_of(format, &disks[key]), v1::NUMBER));
        assert_eq!(numbers, [3, 3]);
        for keys in [[0, 1, 3, 4], [4, 3, 1, 0]] {
            let set = open_keyed(format, &of_keys(&disks, &keys)).unwrap();
            let volume = set.set().volume(0).unwrap();
            assert!(matches!(volume.access, Access::ReadWrite));
            let failed = set.set().disk_by_key(4).unwrap();
            assert_eq!(set.set().disk(failed).unwrap().state, DiskState::Failed);
            let spare = set.set().disk_by_key(3).unwrap();
            assert_ne!(set.set().disk(spare).unwrap().state, DiskState::Online);
            let states = [0, 1, 2].map(|slot| volume.members[slot].state);
            assert_eq!(states[..2], [MemberState::InSync; 2]);
            assert_ne!(states[2], MemberState::InSync);
        }
        let copy = disks[4].clone();
        let twins = [(0, &disks[0]), (1, &disks[1]), (4, &disks[4]), (5, &copy)];
        let set = open_keyed(format, &twins).unwrap();
        let access = &set.set().volume(0).unwrap().access;
        assert!(matches!(access, Access::Refused(why) if why.text().contains("twice")));
    }
}

/// What is to be told goes by what members have, not by an old spare that comes first and happens to have it.
#[test]
fn an_old_spare_does_not_know_who_is_lost() {
    for format in [&MD_10, &MD_11, &MD_12] {
        let (mut set, mut disks) = made(format, Level::Raid5, 3, 4);
        let event = added(&disks, 3);
        apply(&mut set, &mut disks, &event, 2).unwrap();
        let before = disks[3].clone();
        for _ in 0..3 {
            for event in [Event::Dirty(0), Event::Clean(0)] {
                apply(&mut set, &mut disks, &event, 3).unwrap();
            }
        }
        disks[3] = before;
        change(
            format,
            &mut disks[3],
            v1::ROLES + 2,
            &role::FAULTY.to_le_bytes(),
        );
        let copies = disks.clone();
        let keyed: Vec<_> = [3, 0, 1, 2]
            .map(|key| (key, &copies[key as usize]))
            .to_vec();
        let mut set = open_keyed(format, &keyed).unwrap();
        let lost = set.set().disk_by_key(1).unwrap();
        apply(&mut set, &mut disks, &Event::DiskFailed(lost), 4).unwrap();
        let set = open(format, &disks).unwrap();
        assert_ne!(set.set().volumes[0].members[1].state, MemberState::InSync);
    }
}

/// A member that md was about to bring up to date by the bitmap: before any bit is cleared, its superblock says that
/// all of it is to be recovered. Whatever the first event is, and wherever it is cut.
#[test]
fn bits_that_a_member_is_recovered_by_stay() {
    let format = &MD_12;
    for event in [
        Event::RegionsClean {
            volume: 0,
            first: 0,
            count: 4,
        },
        Event::ResyncDone(0),
        Event::Clean(0),
        Event::Dirty(0),
    ] {
        // So large that it has a bitmap.
        let (mut set, mut disks) = made_of(format, Level::Raid1, 2, blanks(2, 150 << 10, 512));
        for event in [
            Event::RegionsDirty {
                volume: 0,
                first: 0,
                count: 4,
            },
            Event::Clean(0),
        ] {
            apply(&mut set, &mut disks, &event, 5).unwrap();
        }
        let sector = set.home(1).unwrap().bitmap.unwrap();
        let features = word(&super_of(format, &disks[1]), v1::FEATURES);
        let by_bitmap = features | feature::RECOVERY | feature::RECOVERY_BITMAP;
        change(
            format,
            &mut disks[1],
            v1::FEATURES,
            &by_bitmap.to_le_bytes(),
        );
        let bits = |disk: &Disk| disk.read(sector, 1)[256..].to_vec();
        let before = bits(&disks[0]);
        let mut set = open(format, &disks).unwrap();
        let member = set.set().volumes[0].members[1];
        assert_eq!(member.state, MemberState::Rebuilding { done_sectors: 0 });
        set.apply(&event, &context(6)).unwrap();
        let plan = writes(Of(format), &set);
        cut_everywhere(&disks, &plan, &mut Random(3), 30, &mut |cut, at| {
            let features = word(&super_of(format, &cut[1]), v1::FEATURES);
            let is_cleared = cut[..2].iter().any(|disk| bits(disk) != before);
            let goes_by_bits = features & feature::RECOVERY_BITMAP != 0;
            assert!(!(is_cleared && goes_by_bits), "{event:?}, {at}");
        });
        carry_out(&mut disks, &plan);
        if !plan.is_empty() {
            let features = word(&super_of(format, &disks[1]), v1::FEATURES);
            let both = feature::RECOVERY | feature::RECOVERY_BITMAP;
            assert_eq!(features & both, feature::RECOVERY, "{event:?}");
        }
    }
}

/// Data that starts where the superblock is, or is written: that cannot be.
#[test]
fn data_is_not_where_the_superblock_is_written() {
    for (format, starts, least) in [(&MD_11, [1u64, 2, 7], 8u64), (&MD_12, [9, 10, 15], 16)] {
        let (_, disks) = made(format, Level::Raid1, 2, 2);
        // One sector of 512 bytes is all that 128 roles take; with 256 it is two.
        for start in starts {
            for (roles, fits_from) in [(128u32, least - 7), (256, least - 6), (1920, least)] {
                let mut disk = disks[0].clone();
                change(format, &mut disk, v1::ROLES_MAX, &roles.to_le_bytes());
                change(format, &mut disk, v1::DATA_OFFSET, &start.to_le_bytes());
                let is_taken = open(format, &[disk]).is_ok();
                assert_eq!(is_taken, start >= fits_from, "{start} {roles}");
            }
        }
    }
}

/// A replacement that is given up may have what the original could not be read of: it is no spare by itself where another
/// member is away, which was there when it was filled, or where the original has bad sectors.
#[test]
fn a_replacement_with_the_only_copy_is_left_alone() {
    let format = &MD_12;
    let disks = load("md/gen/12-raid10-replace");
    let mut bad = disks.clone();
    let log = u64::from(word(&super_of(format, &bad[1]), v1::LOG_OFFSET)) + 8;
    let mut entries = [0xFF; 512];
    entries[..8].copy_from_slice(&((4096u64 << 10) | 7).to_le_bytes());
    bad[1].write(log, &entries);
    let features = word(&super_of(format, &bad[1]), v1::FEATURES) | feature::BAD_BLOCKS;
    change(format, &mut bad[1], v1::FEATURES, &features.to_le_bytes());
    for (disks, keys, expected) in [
        (&disks, vec![0, 1, 2, 3, 4], DiskState::Stale),
        (&disks, vec![0, 1, 3, 4], DiskState::Failed),
        (&bad, vec![0, 1, 2, 3, 4], DiskState::Failed),
    ] {
        let mut now = disks.clone();
        let keyed: Vec<_> = keys
            .iter()
            .map(|&key| (key, &disks[key as usize]))
            .collect();
        let mut set = open_keyed(format, &keyed).unwrap();
        let state = |set: &MdSet| {
            let disk = set.set().disk_by_key(4).unwrap();
            (set.set().disk(disk).unwrap().state, set.slot_of(disk))
        };
        assert_eq!(state(&set), (expected, None), "{keys:?}");
        assert!(set.set().notes[0].as_str().contains("replacement"));
        let slot = set.set().volumes[0].members[1];
        assert_eq!(slot.disk, set.set().disk_by_key(1));
        assert_eq!(slot.state, MemberState::InSync);
        // It stays so, also when all are here again, and nobody takes it for a member.
        apply(&mut set, &mut now, &Event::Dirty(0), 3).unwrap();
        let events = |disk: &Disk| {
            let bytes = super_of(format, disk);
            u64::from_le_bytes(bytes[v1::EVENTS..][..8].try_into().unwrap())
        };
        assert!(events(&now[1]) >= events(&now[4]) + 2);
        let keyed: Vec<_> = keys.iter().map(|&key| (key, &now[key as usize])).collect();
        let again = open_keyed(format, &keyed).unwrap();
        assert_eq!(state(&again), (expected, None), "{keys:?}");
        // A person's word is enough.
        let disk = set.set().disk_by_key(4).unwrap();
        let returned = Event::DiskReturned(disk, facts(&now[4], 4));
        apply(&mut set, &mut now, &returned, 4).unwrap();
        assert_eq!(state(&set), (DiskState::Online, None));
    }
}

/// A disk whose number is beyond what the others' superblocks have room for: it comes back with another one, so that they
/// name it, and it is not rebuilt at each start anew.
#[test]
fn who_comes_back_has_a_number_that_the_others_can_name() {
    for format in [&MD_10, &MD_11, &MD_12] {
        let (_, mut disks) = made(format, Level::Raid5, 3, 3);
        let before = disks[2].clone();
        let mut set = open_keyed(format, &[(0, &disks[0]), (1, &disks[1])]).unwrap();
        let absent = set
            .set()
            .live_disks()
            .find(|(_, disk)| disk.facts.is_none());
        let lost = absent.map(|(index, _)| index).unwrap();
        apply(&mut set, &mut disks, &Event::DiskMissing(lost), 2).unwrap();
        disks[2] = before;
        for disk in &mut disks[..2] {
            change(format, disk, v1::ROLES_MAX, &64u32.to_le_bytes());
        }
        change(format, &mut disks[2], v1::NUMBER, &70u32.to_le_bytes());
        let mut set = open(format, &disks).unwrap();
        let disk = set.set().disk_by_key(2).unwrap();
        assert_eq!(set.set().disk(disk).unwrap().state, DiskState::Stale);
        let returned = Event::DiskReturned(disk, facts(&disks[2], 2));
        apply(&mut set, &mut disks, &returned, 3).unwrap();
        let (volume, slot) = (0, 2);
        for event in [
            Event::SpareActivated { volume, slot, disk },
            Event::RebuildDone { volume, slot },
        ] {
            apply(&mut set, &mut disks, &event, 4).unwrap();
        }
        let again = open(format, &disks).unwrap();
        let member = again.set().volumes[0].members[2];
        assert_eq!(member.state, MemberState::InSync);
        assert_eq!(member.disk, again.set().disk_by_key(2));
    }
}
