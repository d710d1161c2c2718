// SPDX-License-Identifier: GPL-2.0

//! The fuzz target `ioctl`.

#![no_main]

fuzzers::program!("ioctl");
