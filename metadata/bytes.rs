// SPDX-License-Identifier: GPL-2.0

//! Reading and writing integers in on-disk structures, without a way to go out of bounds.
//!
//! Every function says by `None` that the bytes end too early; nothing here panics.

/// Byte order of integers on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endian {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

/// The `N` bytes at `at`.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    let end = at.checked_add(N)?;
    bytes.get(at..end)?.try_into().ok()
}

/// The `len` bytes at `at`.
pub fn slice(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// The `len` bytes at `at`, to be changed.
pub fn slice_mut(bytes: &mut [u8], at: usize, len: usize) -> Option<&mut [u8]> {
    bytes.get_mut(at..at.checked_add(len)?)
}

/// Puts `source` at `at`; changes nothing when it does not fit.
pub fn put(bytes: &mut [u8], at: usize, source: &[u8]) -> Option<()> {
    slice_mut(bytes, at, source.len())?.copy_from_slice(source);
    Some(())
}

/// Whether all `bytes` are `value`.
pub fn all_are(bytes: &[u8], value: u8) -> bool {
    bytes.iter().all(|&byte| byte == value)
}

impl Endian {
    /// The 16-bit integer at `at`.
    pub fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let raw = array(bytes, at)?;
        Some(match self {
            Endian::Big => u16::from_be_bytes(raw),
            Endian::Little => u16::from_le_bytes(raw),
        })
    }

    /// The 32-bit integer at `at`.
    pub fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let raw = array(bytes, at)?;
        Some(match self {
            Endian::Big => u32::from_be_bytes(raw),
            Endian::Little => u32::from_le_bytes(raw),
        })
    }

    /// The 64-bit integer at `at`.
    pub fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let raw = array(bytes, at)?;
        Some(match self {
            Endian::Big => u64::from_be_bytes(raw),
            Endian::Little => u64::from_le_bytes(raw),
        })
    }

    /// Writes a 16-bit integer at `at`.
    pub fn put_u16(self, bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
        let raw = match self {
            Endian::Big => value.to_be_bytes(),
            Endian::Little => value.to_le_bytes(),
        };
        put(bytes, at, &raw)
    }

    /// Writes a 32-bit integer at `at`.
    pub fn put_u32(self, bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
        let raw = match self {
            Endian::Big => value.to_be_bytes(),
            Endian::Little => value.to_le_bytes(),
        };
        put(bytes, at, &raw)
    }

    /// Writes a 64-bit integer at `at`.
    pub fn put_u64(self, bytes: &mut [u8], at: usize, value: u64) -> Option<()> {
        let raw = match self {
            Endian::Big => value.to_be_bytes(),
            Endian::Little => value.to_le_bytes(),
        };
        put(bytes, at, &raw)
    }
}
