// SPDX-License-Identifier: GPL-2.0

//! Disks with more than one entry in the table of disks, as mdmon leaves them: the worst of their states
//! counts, what was found is kept, and what happens to the disk afterwards is said in all of them.

use crate::ddf_common::damage::{edited, world};
use crate::ddf_common::{apply, assert_same, facts, open, show};
use emd_core::metadata::ddf::layout::{pde, vde, Section};
use emd_core::metadata::ddf::tables::{count, entry};
use emd_core::metadata::ddf::DdfSet;
use emd_core::metadata::MetadataSet;
use emd_core::model::{DiskOffer, DiskState, Event, MemberState, SpareRole};
use host_tests::samples::Disk;

/// The disk that is listed twice, a member of both volumes.
const DISK: u16 = 1;

/// The entry that it has besides its own.
const TWIN: u16 = 3;

const GONE: u16 = pde::FAILED | pde::MISSING;
const FILLED: u16 = pde::ONLINE | pde::REBUILDING;

/// How an entry is found in the table.
fn at(index: u16) -> usize {
    0x40 + usize::from(index) * 0x40
}

/// [`world`], with the disk listed a second time. `named`: the second entry has the GUID too. The volumes'
/// entries have `state`; disk 2's has `other`.
fn twins(own: u16, second: u16, named: bool, state: u8, other: u16) -> Vec<Disk> {
    let (set, disks) = world(512);
    let disks = edited(&disks, &set, Section::Disks, &|_, bytes| {
        bytes.copy_within(at(DISK)..at(DISK + 1), at(TWIN));
        if !named {
            bytes[at(TWIN)..at(TWIN) + 24].fill(0xFF);
        }
        for (index, bits) in [(DISK, own), (TWIN, second), (2, other)] {
            bytes[at(index) + pde::STATE..][..2].copy_from_slice(&bits.to_be_bytes());
        }
        bytes[8..10].copy_from_slice(&4u16.to_be_bytes());
    });
    edited(&disks, &set, Section::Volumes, &|_, bytes| {
        for index in [0, 1] {
            bytes[at(index) + vde::STATE] = state;
        }
    })
}

/// Both entries' states, in the tables of the set.
fn entries(set: &DdfSet) -> [u16; 2] {
    [DISK, TWIN].map(|index| entry(&set.pd, set.layout.endian, index).disk_state())
}

fn members(set: &DdfSet) -> [MemberState; 2] {
    // Slot 1 of the RAID 5, slot 0 of the RAID 1.
    let volumes = &set.set().volumes;
    [volumes[0].members[1].state, volumes[1].members[0].state]
}

const REBUILDING: MemberState = MemberState::Rebuilding { done_sectors: 0 };

#[test]
fn the_worst_state_counts() {
    for named in [false, true] {
        for (one, other, disk, member) in [
            (
                pde::ONLINE,
                pde::ONLINE,
                DiskState::Online,
                MemberState::InSync,
            ),
            (pde::ONLINE, FILLED, DiskState::Online, REBUILDING),
            (FILLED, FILLED, DiskState::Online, REBUILDING),
            (
                pde::ONLINE,
                pde::FAILED,
                DiskState::Failed,
                MemberState::Failed,
            ),
            (FILLED, pde::FAILED, DiskState::Failed, MemberState::Failed),
            (pde::ONLINE, GONE, DiskState::Stale, MemberState::Failed),
            (pde::FAILED, GONE, DiskState::Failed, MemberState::Failed),
        ] {
            for (own, second) in [(one, other), (other, one)] {
                let disks = twins(own, second, named, vde::DEGRADED, pde::ONLINE);
                let set = open(&disks).unwrap();
                let text = format!("{own:x} {second:x} {named}\n{}", show(set.set()));
                assert_eq!(set.set().disks.len(), 3, "{text}");
                assert_eq!(set.set().disks[1].state, disk, "{text}");
                assert_eq!(members(&set), [member; 2], "{text}");
                assert_eq!(entries(&set), [own, second], "{text}");
            }
        }
    }
}

#[test]
fn optimal_volumes_are_rebuilt() {
    let set = open(&twins(
        pde::ONLINE,
        FILLED,
        false,
        vde::OPTIMAL,
        pde::ONLINE,
    ))
    .unwrap();
    assert_eq!(members(&set), [MemberState::InSync; 2]);
}

/// A RAID 5 whose entry says degraded, while another member is recorded as failed, worked with this one: it
/// was rebuilt. It was not when the other one is only not here.
#[test]
fn what_was_left_behind_long_ago_does_not_count() {
    let disks = twins(pde::ONLINE, FILLED, false, vde::DEGRADED, pde::FAILED);
    let set = open(&disks).unwrap();
    assert_eq!(
        members(&set),
        [MemberState::InSync; 2],
        "{}",
        show(set.set())
    );
    let disks = twins(pde::ONLINE, FILLED, false, vde::DEGRADED, pde::ONLINE);
    let set = open(&disks[..2]).unwrap();
    assert_eq!(members(&set), [REBUILDING; 2], "{}", show(set.set()));
    // By the disk's own entry it is not rebuilt, whatever the volume's says.
    let disks = twins(FILLED, pde::ONLINE, false, vde::DEGRADED, pde::FAILED);
    let set = open(&disks).unwrap();
    assert_eq!(members(&set), [REBUILDING; 2], "{}", show(set.set()));
}

#[test]
fn both_are_kept_until_something_happens_to_the_disk() {
    for named in [false, true] {
        let mut disks = twins(pde::ONLINE, FILLED, named, vde::DEGRADED, pde::ONLINE);
        let mut set = open(&disks).unwrap();
        apply(&mut set, &mut disks, &Event::Dirty(0), 5).unwrap();
        assert_eq!(entries(&open(&disks).unwrap()), [pde::ONLINE, FILLED]);
        let done = |volume, slot| Event::RebuildDone { volume, slot };
        apply(&mut set, &mut disks, &done(0, 1), 6).unwrap();
        assert_eq!(entries(&set), [pde::ONLINE, FILLED]);
        apply(&mut set, &mut disks, &done(1, 0), 7).unwrap();
        let set = open(&disks).unwrap();
        assert_eq!(entries(&set), [pde::ONLINE; 2]);
        assert_eq!(members(&set), [MemberState::InSync; 2]);

        let mut disks = twins(pde::ONLINE, FILLED, named, vde::DEGRADED, pde::ONLINE);
        let mut set = open(&disks).unwrap();
        apply(&mut set, &mut disks, &Event::DiskFailed(DISK), 5).unwrap();
        assert_eq!(entries(&set), [pde::FAILED; 2]);
        // What the others have; it keeps its last words.
        let set = open(&[disks[0].clone(), disks[2].clone()]).unwrap();
        assert_eq!(entries(&set), [pde::FAILED; 2]);
    }
}

/// The bit of a rebuild that ended would count again once the volume is degraded.
#[test]
fn a_stale_bit_goes_when_another_disk_fails() {
    let mut disks = twins(pde::ONLINE, FILLED, false, vde::OPTIMAL, pde::ONLINE);
    let mut set = open(&disks).unwrap();
    apply(&mut set, &mut disks, &Event::DiskFailed(0), 5).unwrap();
    assert_eq!(entries(&set), [pde::ONLINE; 2]);
    let set = open(&disks[1..]).unwrap();
    assert_eq!(
        members(&set),
        [MemberState::InSync; 2],
        "{}",
        show(set.set())
    );
}

#[test]
fn a_disk_that_goes_takes_both_along() {
    for named in [false, true] {
        let make = || {
            let mut disks = twins(pde::ONLINE, FILLED, named, vde::DEGRADED, pde::ONLINE);
            let mut set = open(&disks).unwrap();
            apply(&mut set, &mut disks, &Event::DiskFailed(DISK), 5).unwrap();
            let reference = set.disk_meta(DISK).unwrap().reference;
            (set, disks, reference)
        };
        let listed = |set: &DdfSet, reference: u32| {
            (0..set.layout.pd_entries)
                .filter(|&index| entry(&set.pd, set.layout.endian, index).reference() == reference)
                .count()
        };
        let (mut set, mut disks, reference) = make();
        apply(&mut set, &mut disks, &Event::DiskRemoved(DISK), 6).unwrap();
        assert_eq!(
            (listed(&set, reference), count(&set.pd, set.layout.endian)),
            (0, 2)
        );
        assert_same(&set, &disks, "removed");

        let (mut set, mut disks, reference) = make();
        let back = Event::DiskReturned(DISK, facts(&disks[1], 1));
        apply(&mut set, &mut disks, &back, 6).unwrap();
        assert_eq!(
            (listed(&set, reference), count(&set.pd, set.layout.endian)),
            (0, 3)
        );
        assert_same(&set, &disks, "returned");
    }
}

#[test]
fn a_new_disk_does_not_take_the_place_of_the_second_entry() {
    let mut disks = twins(pde::ONLINE, FILLED, false, vde::DEGRADED, pde::ONLINE);
    let mut set = open(&disks).unwrap();
    disks.push(Disk::blank("new", 64 * 2048, 512));
    let offer = DiskOffer {
        facts: facts(&disks[3], 3),
        role: SpareRole::Global,
    };
    apply(&mut set, &mut disks, &Event::DiskAdded(offer), 5).unwrap();
    let set = open(&disks).unwrap();
    assert_eq!(entries(&set), [pde::ONLINE, FILLED]);
    assert_eq!(members(&set), [REBUILDING; 2]);
    assert_eq!(set.set().disks.len(), 4);
}
