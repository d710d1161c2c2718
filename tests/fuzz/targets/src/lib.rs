// SPDX-License-Identifier: GPL-2.0

//! The fuzz targets: what is done with the bytes that libFuzzer (`tests/fuzz/fuzzers`) makes up.
//!
//! Nothing here knows of libFuzzer, so that an input that it found is replayed by an ordinary test
//! (`tests/replay.rs`). A target ends with a panic when something is wrong; else it returns.
//!
//! | file | subject |
//! |---|---|
//! | [`input`] | numbers out of bytes |
//! | [`cases`] | sets to begin with: the samples, and sets that EMD makes |
//! | [`repair`] | checksums made right again, so that lies get past them |
//! | [`shell`] | probing, assembling, writing; what must hold of it |
//! | [`metadata`] | the targets `ddf`, `imsm`, `asr`, `md` |
//! | [`ioctl`] | the target `ioctl` |

#![forbid(unsafe_code)]

pub mod cases;
pub mod input;
pub mod ioctl;
pub mod metadata;
pub mod repair;
pub mod shell;

/// Names of all targets. The formats' are families: the beginnings of formats' names.
pub const TARGETS: [&str; 5] = ["ddf", "imsm", "asr", "md", "ioctl"];

/// Runs one input. Panics when it finds something, or when there is no such target.
pub fn run(target: &str, data: &[u8]) {
    match target {
        "ioctl" => ioctl::run(data),
        family if TARGETS.contains(&family) => metadata::run(family, data),
        _ => panic!("there is no target {target}"),
    }
}

/// Inputs to begin with, by name.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "ioctl" => ioctl::seeds(),
        family => metadata::seeds(family),
    }
}
