// SPDX-License-Identifier: GPL-2.0

//! Images without serial numbers, as files are: what is presumed of them is what is known with them, or nothing.

use crate::imsm_common::{cases, open, probe, sample};
use emd_core::metadata::imsm::{Imsm, ImsmSet};
use emd_core::metadata::{DiskImage, Format, MetadataSet, Presumed};
use emd_core::model::{MemberState, Text};
use host_tests::samples::Disk;
use kernel::prelude::KBox;

/// The images of disks, without serial numbers but for those in `known`.
fn images(disks: &[Disk], known: &[usize]) -> Vec<DiskImage> {
    disks
        .iter()
        .enumerate()
        .map(|(nth, disk)| {
            let (mut image, _, _) = probe(disk, nth as u64);
            if !known.contains(&nth) {
                image.facts.serial = Text::new();
            }
            image
        })
        .collect()
}

fn presume(images: &[DiskImage]) -> Presumed {
    Imsm.presume(&images.iter().collect::<Vec<_>>()).unwrap()
}

/// The set as it is with what is presumed.
fn open_presumed(images: &mut [DiskImage], presumed: &Presumed) -> KBox<ImsmSet> {
    for (image, serial) in images.iter_mut().zip(presumed.serials.iter()) {
        if !serial.is_empty() {
            image.facts.serial = *serial;
        }
    }
    Imsm::open(&images.iter().collect::<Vec<_>>()).unwrap()
}

/// States of the volumes, and of their members whatever their order. Of a lost member it makes no difference whether its disk
/// is known to be here.
fn states(set: &ImsmSet) -> Vec<String> {
    let volumes = set.set().volumes.iter();
    volumes
        .map(|volume| {
            let name = |state: &MemberState| format!("{state:?}").replace("Failed", "Missing");
            let mut members: Vec<_> = volume.members.iter().map(|m| name(&m.state)).collect();
            members.sort();
            format!("{:?} {:?} {members:?}", volume.consistency, volume.access)
        })
        .collect()
}

#[test]
fn samples_without_serial_numbers_are_as_they_are_with_them() {
    let mut doubtful = Vec::new();
    for case in cases() {
        let disks = sample(&case);
        let mut images = images(&disks, &[]);
        let presumed = presume(&images);
        if !presumed.left.is_empty() {
            doubtful.push(case);
            continue;
        }
        let set = open_presumed(&mut images, &presumed);
        assert_eq!(states(&set), states(&open(&disks).unwrap()), "{case}");
    }
    assert_eq!(doubtful, DOUBTFUL);
}

/// One disk of several each; and one table whose serial numbers are alike, in which one disk is that of three entries.
const DOUBTFUL: [&str; 4] = [
    "gen/raid5-degraded",
    "native/raid0-volume0-gigabyte",
    "native/raid1-volume0",
    "native/util-linux-isw",
];

#[test]
fn what_is_presumed_is_no_serial_number_that_is_known() {
    let disks = sample("gen/raid5-3");
    let serials = |known: &[usize]| {
        let presumed = presume(&images(&disks, known));
        assert!(presumed.left.is_empty());
        presumed
    };
    let all = serials(&[]);
    let mut names: Vec<_> = all
        .serials
        .iter()
        .map(|serial| serial.to_string())
        .collect();
    names.sort();
    let own: Vec<_> = disks.iter().map(|disk| disk.name.clone()).collect();
    assert_eq!(names, own);
    assert_eq!(all.alike[..], [true; 3]);
    // Two are known: so is the third one.
    let one = serials(&[0, 2]);
    assert_eq!(one.serials[1].as_str(), disks[1].name);
    assert_eq!(one.alike[..], [false; 3]);
    assert!(one.serials[0].is_empty() && one.serials[2].is_empty());
}

#[test]
fn nothing_is_presumed_when_disks_are_missing_or_old() {
    let mut disks = sample("gen/raid5-3");
    let presumed = presume(&images(&disks[..2], &[]));
    assert!(presumed.serials.iter().all(Text::is_empty));
    assert_eq!(presumed.left.len(), 3);
    // One took an update that the others did not: it is not known that these are not failed ones.
    crate::imsm_common::reseal(&mut disks[0], &mut |mpb| {
        mpb[emd_core::metadata::imsm::layout::header::GENERATION] += 1;
    });
    let presumed = presume(&images(&disks, &[]));
    assert!(presumed.serials.iter().all(Text::is_empty));
    assert_eq!(presumed.left.len(), 3);
}

/// The kernel does not ask; and what assembles a set presumes nothing by itself.
#[test]
fn assembling_presumes_nothing() {
    let images = images(&sample("gen/raid1"), &[]);
    let set = Imsm::open(&images.iter().collect::<Vec<_>>()).unwrap();
    let members = &set.set().volume(0).unwrap().members;
    assert!(members.iter().all(|m| m.state == MemberState::Missing));
}
