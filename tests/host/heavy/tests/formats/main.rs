// SPDX-License-Identifier: GPL-2.0

//! What formats do over whole disks and long histories.

mod geometry_golden;
mod golden_assembled;
mod golden_common;
#[path = "../../../tests/imsm/imsm_common/mod.rs"]
mod imsm_common;
mod imsm_histories;
#[path = "../../../tests/md/md_common/mod.rs"]
mod md_common;
mod md_histories;
mod md_samples;
