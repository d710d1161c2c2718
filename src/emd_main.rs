// SPDX-License-Identifier: GPL-2.0

//! EMD: a RAID driver that owns its metadata.

use kernel::prelude::*;

#[path = "../metadata/mod.rs"]
mod metadata;
#[path = "../personalities/mod.rs"]
mod personalities;
mod array;
mod block;
mod model;
mod uapi;

module! {
    type: EmdModule,
    name: "emd",
    authors: ["EMD developers"],
    description: "RAID with metadata in the kernel",
    license: "GPL",
}

struct EmdModule;

impl kernel::Module for EmdModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(EmdModule)
    }
}
