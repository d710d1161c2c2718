// SPDX-License-Identifier: GPL-2.0

//! Images whose serial number nobody knows: which disks of the table they may be.
//!
//! For looking only: what is worked out here is a presumption, and nothing is written by it. An image with the newest MPB is
//! a disk that took the last update, so it is one that works by the table and has its length. Where as many images as
//! entries are of one length, all of those disks are there, though which is which is not known. In all other cases nothing is presumed.

use super::super::{DiskImage, Presumed};
use super::assemble::{entry_of_found, newest, same_mpb};
use super::layout::{disk, Raw};
use super::probe::{self, examine, Exam, Found};
use super::serial::{self, Serial};
use crate::model::{Checked, Text};
use kernel::prelude::*;

/// [`crate::metadata::Format::presume`].
#[inline(never)]
pub fn presume(images: &[&DiskImage]) -> Checked<Presumed> {
    let mut found: KVec<Found<'_>> = KVec::new();
    let mut presumed = Presumed::nothing(images.len())?;
    for image in images {
        if let Exam::Found(one) = examine(image) {
            found.push(one, GFP_KERNEL)?;
        }
    }
    probe::drop_left_over(&mut found);
    for (image, slot) in Iterator::zip(images.iter(), presumed.serials.iter_mut()) {
        match examine(image) {
            // A spare is alone in its own table.
            Exam::Found(one) if is_nameless(&one) && !one.torn && one.raw.is_spare() => {
                *slot = text_of(one.raw, 0).unwrap_or_default();
            }
            _ => {}
        }
    }
    let Some(newest) = newest(&found).filter(|newest| !newest.raw.is_spare()) else {
        return Ok(presumed);
    };
    for entry in 0..newest.raw.disks() {
        if is_open(newest.raw, entry, &found) {
            presume_entry(newest.raw, entry, images, &found, &mut presumed)?;
        }
    }
    Ok(presumed)
}

/// Gives the serial number of `entry` to the image that has the same place among its likes, or lists it as left.
fn presume_entry(
    raw: Raw<'_>,
    entry: u8,
    images: &[&DiskImage],
    found: &[Found<'_>],
    presumed: &mut Presumed,
) -> Checked {
    let blocks = raw.disk_blocks(entry);
    let is_like = |other: &u8| is_open(raw, *other, found) && raw.disk_blocks(*other) == blocks;
    let entries = (0..raw.disks()).filter(is_like).count();
    let place = (0..entry).filter(is_like).count();
    let fits = |image: &&DiskImage| match examine(image) {
        Exam::Found(one) => {
            is_nameless(&one)
                && !one.torn
                && same_mpb(one.raw, raw)
                && probe::blocks(&one.facts).is_some_and(|(own, _)| own == blocks)
        }
        _ => false,
    };
    let text = text_of(raw, entry);
    let is_known = entries == images.iter().filter(|image| fits(image)).count();
    let mut likes = (0..).zip(images).filter(|(_, image)| fits(image));
    let image: Option<usize> = likes.nth(place).map(|(at, _)| at);
    match (text, image) {
        (Some(text), Some(image)) if is_known => {
            if let Some(slot) = presumed.serials.get_mut(image) {
                *slot = text;
            }
            if let Some(slot) = presumed.alike.get_mut(image) {
                *slot = entries > 1;
            }
        }
        _ => presumed.left.push(
            Text::from_disk(serial::text(&serial::squeezed(&raw.serial(entry)))),
            GFP_KERNEL,
        )?,
    }
    Ok(())
}

/// Whether nobody knows the serial number of a disk.
fn is_nameless(one: &Found<'_>) -> bool {
    serial::of_disk(one.facts.serial.as_str()).is_none()
}

/// Whether `entry` works by the table and is none of the disks whose serial number is known.
fn is_open(raw: Raw<'_>, entry: u8, found: &[Found<'_>]) -> bool {
    raw.status(entry) & disk::FAILED == 0
        && !found
            .iter()
            .any(|one| entry_of_found(raw, one) == Some(entry))
}

/// The serial number of an entry, as a disk that says it has it. `None` when no disk could.
fn text_of(raw: Raw<'_>, entry: u8) -> Option<Text<24>> {
    let serial: Serial = serial::squeezed(&raw.serial(entry));
    let text = Text::from_disk(serial::text(&serial));
    (serial::of_disk(text.as_str()) == Some(serial)).then_some(text)
}
