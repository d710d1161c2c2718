// SPDX-License-Identifier: GPL-2.0

//! The fuzz target `ddf`.

#![no_main]

fuzzers::program!("ddf");
