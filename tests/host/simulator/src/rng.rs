// SPDX-License-Identifier: GPL-2.0

//! Random numbers from a seed: the only source of chance in a history.

/// SplitMix64: small, fast, and good from any seed on.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// Scrambles a number; two different ones never give the same.
pub fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

impl Rng {
    /// Numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5EED))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Others, which take nothing from these: what is drawn from these later stays what it is.
    pub fn fork(&self) -> Self {
        Self(mix(!self.0))
    }

    /// A number below `n` (0 when `n` is).
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        ((self.number() >> 32) as usize) % n
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which are not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
