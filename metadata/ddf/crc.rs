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

/// The polynomial 0x04C11DB7, the highest power last.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Tables for eight bytes at a time: `TABLES[k][b]` is byte `b` followed by `k` zero bytes.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0usize;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                POLYNOMIAL ^ (value >> 1)
            } else {
                value >> 1
            };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0usize;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = tables[0][(before & 0xFF) as usize] ^ (before >> 8);
            byte += 1;
        }
        k += 1;
    }
    tables
}

fn step(register: u32, byte: u8) -> u32 {
    TABLES[0][usize::from(register.to_le_bytes()[0] ^ byte)] ^ (register >> 8)
}

fn step8(register: u32, bytes: [u8; 8]) -> u32 {
    let [a, b, c, d, e, f, g, h] = bytes;
    let [r0, r1, r2, r3] = register.to_le_bytes();
    TABLES[7][usize::from(a ^ r0)]
        ^ TABLES[6][usize::from(b ^ r1)]
        ^ TABLES[5][usize::from(c ^ r2)]
        ^ TABLES[4][usize::from(d ^ r3)]
        ^ TABLES[3][usize::from(e)]
        ^ TABLES[2][usize::from(f)]
        ^ TABLES[1][usize::from(g)]
        ^ TABLES[0][usize::from(h)]
}

/// The product of two polynomials modulo the CRC's. Powers stand as in the register: x⁰ is the highest bit.
const fn product(one: u32, other: u32) -> u32 {
    let (mut sum, mut shifted) = (0, other);
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        if (one >> bit) & 1 == 1 {
            sum ^= shifted;
        }
        shifted = if shifted & 1 == 1 {
            POLYNOMIAL ^ (shifted >> 1)
        } else {
            shifted >> 1
        };
    }
    sum
}

/// What 2ᵏ bytes of FF make of a register: it is multiplied by the first, and the second is added.
static UNUSED: [(u32, u32); 32] = unused();

const fn unused() -> [(u32, u32); 32] {
    // One byte multiplies by x⁸.
    let mut powers = [(1 << 23, tables()[0][0xFF]); 32];
    let mut k = 1;
    while k < 32 {
        let (factor, term) = powers[k - 1];
        powers[k] = (product(factor, factor), product(factor, term) ^ term);
        k += 1;
    }
    powers
}

/// What becomes of `register` when `count` bytes of FF follow.
fn after_unused(register: u32, count: usize) -> u32 {
    let powers = UNUSED.iter().enumerate();
    let due = powers.filter(|(k, _)| (count >> k) & 1 == 1);
    due.fold(register, |register, (_, &(factor, term))| {
        product(factor, register) ^ term
    })
}

/// Plain CRC over `bytes` from register `start`, without a final inversion.
///
/// Tables are long and mostly unused, which is FF: such stretches are not gone through byte by byte.
pub fn run(start: u32, bytes: &[u8]) -> u32 {
    const STRETCH: [u8; 512] = [0xFF; 512];
    let mut register = start;
    let mut unused = 0;
    let mut stretches = bytes.chunks_exact(STRETCH.len());
    for stretch in stretches.by_ref() {
        if stretch == STRETCH {
            unused += STRETCH.len();
            continue;
        }
        register = run_through(after_unused(register, unused), stretch);
        unused = 0;
    }
    run_through(after_unused(register, unused), stretches.remainder())
}

fn run_through(start: u32, bytes: &[u8]) -> u32 {
    let mut eights = bytes.chunks_exact(8);
    let mut register = start;
    for eight in eights.by_ref() {
        if let Ok(eight) = eight.try_into() {
            register = step8(register, eight);
        }
    }
    eights.remainder().iter().fold(register, |r, &b| step(r, b))
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
