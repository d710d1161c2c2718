// SPDX-License-Identifier: GPL-2.0

//! EMD: a RAID driver that owns its metadata.
//!
//! This is the module's front door: options, start, end. `docs/architecture.md` shows the house.

// Modules say with `pub` what is for other modules; there is nothing outside this crate.
#![allow(unreachable_pub)]
// A reason is carried in place: there may be no memory for it when it is needed most.
#![allow(clippy::result_large_err)]

use kernel::prelude::*;

mod array;
mod block;
mod control;
// The pure half is also compiled for the host (`tools/emd-core`), which uses more of it.
#[allow(dead_code, unused_imports)]
#[path = "../metadata/mod.rs"]
mod metadata;
#[allow(dead_code, unused_imports)]
mod model;
#[allow(dead_code, unused_imports)]
#[path = "../personalities/mod.rs"]
mod personalities;
mod set;
#[allow(dead_code, unused_imports)]
mod uapi;

use kernel::sync::Arc;
use metadata::choice::Choice;

module! {
    type: EmdModule,
    name: "emd",
    authors: ["EMD developers"],
    description: "RAID with metadata in the kernel",
    license: "GPL",
    params: {
        checkpoint_ms: u32 {
            default: 10000,
            description: "Milliseconds between records of how far a task got",
        },
        clean_ms: u32 {
            default: 2000,
            description: "Milliseconds without writes after which an array is marked clean",
        },
        start_timeout_ms: u32 {
            default: 10000,
            description: "Milliseconds to wait for missing members before a degraded start",
        },
        take_back: u32 {
            default: 1,
            description: "Which disks that were left out are rebuilt without being added: 0 none, 1 those that went away while the set ran, 2 all",
        },
    },
}

/// What the parameter `auto` says.
fn autostart() -> Result<Choice> {
    let Some(given) = block::param::auto() else {
        return Ok(Choice::ALL);
    };
    Choice::parse(given.as_str()).map_err(|word| {
        pr_err!(
            "auto={}: '{}' is no format; it is 1, 0, or formats with commas between\n",
            given.as_str(),
            word
        );
        EINVAL
    })
}

/// What the module is while it is loaded. Fields are dropped in this order.
struct EmdModule {
    _control: control::Control,
    manager: Arc<set::Manager>,
}

impl kernel::Module for EmdModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        block::parity::calibrate()?;
        let options = set::Options {
            autostart: autostart()?,
            checkpoint_ms: module_parameters::checkpoint_ms.value(),
            clean_quiet_ms: module_parameters::clean_ms.value(),
            start_timeout_ms: module_parameters::start_timeout_ms.value(),
            takes_back: metadata::arrival::TakesBack::from_option(
                module_parameters::take_back.value(),
            ),
        };
        let events = control::EventRing::new()?;
        let manager = set::Manager::start(module, options, events.clone())?;
        let control = match control::Control::new(manager.clone(), events, "0.1.0") {
            Ok(control) => control,
            Err(errno) => {
                manager.shutdown();
                return Err(errno);
            }
        };
        Ok(Self {
            _control: control,
            manager,
        })
    }
}

impl Drop for EmdModule {
    fn drop(&mut self) {
        self.manager.shutdown();
    }
}
