// SPDX-License-Identifier: GPL-2.0

//! What the host tests share.

pub mod counting;
pub mod crash;
pub mod directed;
pub mod ppl;
pub mod reinstated;
pub mod samples;
pub mod shell;
pub mod tally;
pub mod world;

/// Says that a test is skipped for want of `what`. In the toolbox, which has all that tests need, that is a failure.
pub fn skip(what: &str) {
    assert!(
        std::env::var_os("EMD_IN_TOOLBOX").is_none_or(|value| value != "1"),
        "there is no {what} in the toolbox"
    );
    println!("skipped: no {what} here");
}

/// Whether this is a run of everything (`make test-whole`, which sets `EMD_WHOLE`). The daily one goes less deep.
pub fn whole() -> bool {
    std::env::var_os("EMD_WHOLE").is_some_and(|value| !value.is_empty())
}

/// How often of `times` the daily run does what the whole one does `times` times: a third, at least once if at all.
pub fn share(times: usize) -> usize {
    if whole() {
        times
    } else {
        times.div_ceil(3)
    }
}

/// XXH64 of `bytes` with a seed, as `checksum::xxh64` in the kernel.
pub fn xxh64(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, seed)
}
