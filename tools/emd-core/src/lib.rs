// SPDX-License-Identifier: GPL-2.0

//! The pure core, compiled for the host from the very files that go into the module.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[path = "../../../metadata/mod.rs"]
pub mod metadata;
#[path = "../../../src/model/mod.rs"]
pub mod model;
#[path = "../../../personalities/mod.rs"]
pub mod personalities;
#[path = "../../../src/uapi/mod.rs"]
pub mod uapi;
