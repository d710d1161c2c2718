// SPDX-License-Identifier: GPL-2.0

//! The formats that exist: one line each.

use super::Format;

/// Every format, in the order in which disks are probed.
pub static FORMATS: &[&dyn Format] = &[
    &super::ddf::Ddf,
    &super::asr::Asr,
    &super::imsm::Imsm,
    &super::md::MD_12,
    &super::md::MD_11,
    &super::md::MD_10,
    &super::md::MD_090,
];

/// The format called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}
