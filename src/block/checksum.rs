// SPDX-License-Identifier: GPL-2.0

//! Checksums and hashes: the kernel's own (`lib/crc`, `lib/xxhash.c`).

use super::raw;

/// CRC-32C of `bytes`, going on from `start`, without inversions: the value of
/// [`hole_log::entry::crc32c`](crate::personalities::hole_log::entry::crc32c), faster.
pub fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    // SAFETY: Pointer and length are a live slice's.
    unsafe { raw::crc32c(start, bytes.as_ptr().cast(), bytes.len()) }
}

/// XXH64 of `bytes` with a seed.
pub fn xxh64(seed: u64, bytes: &[u8]) -> u64 {
    // SAFETY: Pointer and length are a live slice's.
    unsafe { raw::xxh64(bytes.as_ptr().cast(), bytes.len(), seed) }
}
