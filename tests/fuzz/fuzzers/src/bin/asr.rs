// SPDX-License-Identifier: GPL-2.0

//! The fuzz target `asr`.

#![no_main]

fuzzers::program!("asr");
