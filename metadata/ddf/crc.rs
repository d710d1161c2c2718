// SPDX-License-Identifier: GPL-2.0

//! The checksum of DDF sections, in the three conventions that real disks carry.
//!
//! Bytes 4..8 of every section hold its CRC-32 (reflected 0x04C11DB7), computed with these bytes set
//! to FF. Vendors differ in the register's start and the final inversion (`docs/formats/ddf.md`).

use super::super::bytes::Endian;
use super::layout::{get32, put32};

/// How a section's checksum was computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crc {
    /// Register starts at 0, no final inversion: LSI and Dell firmware, mdadm.
    Raw,
    /// Register starts at FFFFFFFF, no final inversion: Marvell firmware.
    Jam,
    /// Register starts at FFFFFFFF, inverted at the end: Adaptec firmware, FreeBSD graid.
    Std,
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                0xEDB8_8320 ^ (value >> 1)
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

fn step(register: u32, byte: u8) -> u32 {
    let index = usize::from((register.to_le_bytes()[0]) ^ byte);
    TABLE.get(index).copied().unwrap_or(0) ^ (register >> 8)
}

/// Plain CRC over `bytes` from register `start`, without a final inversion.
pub fn run(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |register, &b| step(register, b))
}

/// CRC over a section, its own checksum field taken as FF.
fn section_run(start: u32, section: &[u8]) -> u32 {
    let head = section.get(..4).unwrap_or(section);
    let tail = section.get(8..).unwrap_or(&[]);
    run(run(run(start, head), &[0xFF; 4]), tail)
}

impl Crc {
    /// The checksum that `section` should carry.
    pub fn of(self, section: &[u8]) -> u32 {
        match self {
            Crc::Raw => section_run(0, section),
            Crc::Jam => section_run(u32::MAX, section),
            Crc::Std => !section_run(u32::MAX, section),
        }
    }

    /// Which convention makes the stored checksum right; `None` when none does.
    pub fn detect(section: &[u8], endian: Endian) -> Option<Crc> {
        let stored = get32(endian, section, 4);
        if section_run(0, section) == stored {
            return Some(Crc::Raw);
        }
        let register = section_run(u32::MAX, section);
        if register == stored {
            Some(Crc::Jam)
        } else if !register == stored {
            Some(Crc::Std)
        } else {
            None
        }
    }

    /// Whether the stored checksum is right.
    pub fn holds(self, section: &[u8], endian: Endian) -> bool {
        section.len() >= 8 && self.of(section) == get32(endian, section, 4)
    }

    /// Stores the right checksum.
    pub fn seal(self, section: &mut [u8], endian: Endian) {
        let value = self.of(section);
        put32(endian, section, 4, value);
    }
}
