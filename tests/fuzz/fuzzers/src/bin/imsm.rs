// SPDX-License-Identifier: GPL-2.0

//! The fuzz target `imsm`.

#![no_main]

fuzzers::program!("imsm");
