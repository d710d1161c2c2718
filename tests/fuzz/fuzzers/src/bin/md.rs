// SPDX-License-Identifier: GPL-2.0

//! The fuzz target `md`.

#![no_main]

fuzzers::program!("md");
