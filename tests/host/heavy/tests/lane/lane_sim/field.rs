// SPDX-License-Identifier: GPL-2.0

//! The simulator's own arithmetic, from the definition: polynomials over one bit, reduced by 0x11D.
//! Nothing here comes from `gf256`, which is judged elsewhere.

use std::sync::LazyLock;

/// Bytes a member has in its block.
pub const BLOCK_BYTES: usize = 8;

static PRODUCTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..=u16::MAX)
        .map(|pair| product((pair >> 8) as u8, pair as u8))
        .collect()
});

/// Long multiplication, then long division.
pub fn product(a: u8, b: u8) -> u8 {
    let mut long = 0u32;
    for bit in 0..8 {
        if (b >> bit) & 1 == 1 {
            long ^= u32::from(a) << bit;
        }
    }
    for bit in (8..16).rev() {
        if (long >> bit) & 1 == 1 {
            long ^= 0x11d << (bit - 8);
        }
    }
    long as u8
}

pub fn times(a: u8, b: u8) -> u8 {
    PRODUCTS[(usize::from(a) << 8) | usize::from(b)]
}

static INVERSES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let inverse = |a| (1..=255).find(|&b| product(a, b) == 1);
    (0..=255).map(|a| inverse(a).unwrap_or(0)).collect()
});

/// `1 / a`; `a` is not 0.
pub fn inverse(a: u8) -> u8 {
    assert_ne!(a, 0, "0 has none");
    INVERSES[usize::from(a)]
}

/// `2^exponent`, by doubling.
pub fn power(exponent: u8) -> u8 {
    (0..exponent).fold(1, |value, _| product(value, 2))
}

/// Every byte of a block times `factor`.
pub fn scale(block: u64, factor: u8) -> u64 {
    if factor == 1 {
        return block;
    }
    let of_factor = usize::from(factor) << 8;
    let products = &PRODUCTS[of_factor..of_factor + 256];
    u64::from_le_bytes(block.to_le_bytes().map(|byte| products[usize::from(byte)]))
}

/// What a member contributes to each data block: a row of the code's matrix, by slot.
pub type Row = [u8; super::SLOTS_MAX];

/// Rows that have been brought into echelon form.
#[derive(Default)]
pub struct Basis(Vec<(usize, Row)>);

impl Basis {
    fn reduce(&self, mut row: Row) -> Row {
        for (lead, of_basis) in &self.0 {
            let factor = row[*lead];
            if factor != 0 {
                for (x, y) in row.iter_mut().zip(of_basis) {
                    *x ^= times(factor, *y);
                }
            }
        }
        row
    }

    pub fn insert(&mut self, row: Row) {
        let row = self.reduce(row);
        if let Some(lead) = row.iter().position(|&x| x != 0) {
            let by = inverse(row[lead]);
            self.0.push((lead, row.map(|x| times(x, by))));
        }
    }

    /// Whether the row is a sum of those inserted.
    pub fn has(&self, row: Row) -> bool {
        self.reduce(row) == Row::default()
    }
}
