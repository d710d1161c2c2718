// SPDX-License-Identifier: GPL-2.0

//! Numbers out of bytes.

/// Bytes that are used up from their start. Beyond the end there are zeros.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes, or what is left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = later;
        now
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// The next two, lowest first.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four, lowest first.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight, lowest first.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A place among `whole` sectors, from one byte: eighths of it, its edges, and what is beyond.
    pub fn sectors(&mut self, whole: u64) -> u64 {
        match self.u8() {
            choice @ 0..=8 => whole / 8 * u64::from(choice),
            9 => whole,
            10 => whole.saturating_add(1),
            11 => whole.saturating_sub(1),
            12 => u64::MAX,
            13 => u64::from(self.u32()),
            14 => self.u64(),
            choice => u64::from(choice) * 8,
        }
    }
}
