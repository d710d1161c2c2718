// SPDX-License-Identifier: GPL-2.0

//! The checksums of the log that closes the write hole.

use emd_core::personalities::hole_log::entry::{crc32c, hash_sum};
use emd_core::personalities::hole_log::UNIT_BYTES;
use host_tests::xxh64;

#[test]
fn the_checksum_is_crc_32c() {
    // RFC 3720 B.4, with the inversions that crc32c() leaves to its caller.
    assert_eq!(!crc32c(!0, &[0; 32]), 0x8A91_36AA);
    assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
}

#[test]
fn the_hash_of_a_sum_does_not_hinge_on_where_the_ring_ends() {
    let sum: Vec<u8> = (0..3 * UNIT_BYTES + 512)
        .map(|at| (at % 251) as u8)
        .collect();
    let whole = hash_sum([&sum, &[]], xxh64);
    for units in 0..=3 {
        let (before, after) = sum.split_at(units * UNIT_BYTES);
        assert_eq!(hash_sum([before, after], xxh64), whole);
    }
    for sector in 0..sum.len() / 512 {
        let mut torn = sum.clone();
        torn[sector * 512..][..512].fill(0);
        assert_ne!(hash_sum([&torn, &[]], xxh64), whole, "sector {sector}");
    }
}
