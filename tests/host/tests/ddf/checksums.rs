// SPDX-License-Identifier: GPL-2.0

//! Checksums leave out nothing, though unused stretches are not gone through byte by byte.

use crate::ddf_common::Random;
use emd_core::metadata::ddf::crc::run;

/// Bit by bit, as the polynomial says.
fn by_bits(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |register, &byte| {
        (0..8).fold(register ^ u32::from(byte), |register, _| {
            let carry = register & 1;
            (register >> 1) ^ (carry * 0xEDB8_8320)
        })
    })
}

#[test]
fn unused_stretches_count() {
    let mut random = Random(0x5EA1);
    for len in [0, 1, 511, 512, 513, 1024, 4096, 65_536 + 60] {
        for _ in 0..8 {
            let mut bytes = vec![0xFF; len];
            // Some of it is used, in a few places.
            for _ in 0..random.below(5) {
                let at = random.below(len.max(1) as u64) as usize;
                let end = (at + random.below(700) as usize).min(len);
                for byte in bytes.get_mut(at..end).into_iter().flatten() {
                    *byte = random.below(256) as u8;
                }
            }
            for start in [0, u32::MAX, 0x1234_5678] {
                assert_eq!(run(start, &bytes), by_bits(start, &bytes), "{len}");
            }
        }
    }
    assert_eq!(!run(u32::MAX, b"123456789"), 0xCBF4_3926);
}
