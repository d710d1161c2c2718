// SPDX-License-Identifier: GPL-2.0

//! A disk that is reinstated by a person's word (`host_tests::reinstated`).

use crate::ddf_common::damage::edited;
use crate::ddf_common::{context, facts, open, Of};
use emd_core::metadata::ddf::layout::{pde, Section, ENTRY_BYTES, TABLE_HEAD};
use emd_core::metadata::MetadataSet;
use emd_core::model::{Event, MemberState};
use host_tests::reinstated;
use host_tests::samples::load;

#[test]
fn what_it_holds_counts_in_volumes_without_redundancy() {
    reinstated::it_counts_where_nothing_else_does::<Of>();
}

#[test]
fn what_was_not_lost_is_not_reinstated() {
    reinstated::only_what_was_lost::<Of>();
}

/// Where disks keep one copy of their metadata none is reinstated: cut in the midst of that copy, with a new reference that the
/// others do not know yet, it would be nobody's, and what it holds could not be had any more.
#[test]
fn a_disk_with_one_copy_is_left_alone() {
    let disks = load("ddf/gen-freebsd/ddf-raid0-2d");
    let set = open(&disks).unwrap();
    assert_eq!(set.home(1).unwrap().copies[1], None);
    let reference = set.disk_meta(1).unwrap().reference;
    let disks = edited(&disks, &set, Section::Disks, &|_, bytes| {
        let entries = bytes[TABLE_HEAD..].chunks_exact_mut(ENTRY_BYTES);
        for entry in entries {
            if entry[pde::REFERENCE..][..4] == reference.to_be_bytes() {
                entry[pde::STATE..][..2].copy_from_slice(&pde::FAILED.to_be_bytes());
            }
        }
    });
    let mut set = open(&disks).unwrap();
    let lost = |set: &dyn MetadataSet| set.set().volume(0).unwrap().members[1].state;
    assert_eq!(lost(&*set), MemberState::Failed);
    let back = facts(&disks[1], 1);
    let event = Event::DiskReinstated(1, back);
    let why = set.apply(&event, &context(3)).unwrap_err();
    assert!(why.text().contains("one copy"), "{why}");
    assert_eq!(lost(&*set), MemberState::Failed);
    assert!(set.plan().is_empty());
}
