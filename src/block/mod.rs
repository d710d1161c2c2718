// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers over the kernel's block layer. Every `unsafe` of the driver is in this folder.
//!
//! One kernel object a file. A wrapper has no policy: it knows nothing of RAID, sets or formats.
//! Constants and functions that `bindings` lacks are declared in [`raw`].

pub mod batch;
pub mod bdev;
pub mod bio;
pub mod chardev;
pub mod checksum;
pub mod class;
pub mod context;
pub mod gate;
pub mod gendisk;
pub mod hibernation;
pub mod hub;
pub mod noio;
pub mod pages;
pub mod param;
pub mod parity;
pub mod queue;
pub mod raw;
pub mod reboot;
mod serial;
pub mod sync_io;
pub mod syndrome;
