// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of Q: the field of 256 elements, with polynomial `x⁸ + x⁴ + x³ + x² + 1` (0x11D)
//! and generator 2, as RAID 6 has it in md (H. Peter Anvin, "The mathematics of RAID-6") and in DDF
//! 2.0 §4.2.14.
//!
//! `P = Σ D` and `Q = Σ 2^e · D`, where each data member has an exponent `e` of its own
//! ([`Geometry::q_exponent`](super::Geometry::q_exponent)). Sums are exclusive or.
//!
//! Plain and portable: what the host reads images and judges the kernel's code with. In the kernel
//! the vector code of `raid6_pq` does the bulk; this is for what it has no function for
//! ([`locate`]).
//!
//! Exponents count modulo 255. Slices that belong together have the same length; bytes beyond the
//! shortest are left alone.

/// The polynomial, without its `x⁸`.
const POLYNOMIAL: u8 = 0x1d;

/// How many powers of 2 there are.
const ORDER: u16 = 255;

const fn double(value: u8) -> u8 {
    let carried = value & 0x80 != 0;
    (value << 1) ^ if carried { POLYNOMIAL } else { 0 }
}

/// `2^n`; the last is `2^255 = 1` again.
const POWERS: [u8; 256] = powers();

/// The inverse of [`POWERS`]; that of 0, which has none, is 0.
const LOGARITHMS: [u8; 256] = logarithms();

const fn powers() -> [u8; 256] {
    let mut table = [1u8; 256];
    let mut n = 1;
    while n < 256 {
        table[n] = double(table[n - 1]);
        n += 1;
    }
    table
}

const fn logarithms() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut n = 0;
    while n < ORDER {
        table[POWERS[n as usize] as usize] = n as u8;
        n += 1;
    }
    table
}

/// `2^exponent`.
#[inline]
pub fn power(exponent: u8) -> u8 {
    POWERS.get(usize::from(exponent)).copied().unwrap_or(1)
}

/// The exponent `e` below 255 with `2^e = value`; `None` for 0.
#[inline]
pub fn logarithm(value: u8) -> Option<u8> {
    let found = LOGARITHMS.get(usize::from(value)).copied();
    found.filter(|_| value != 0)
}

/// `a · b`.
#[inline]
pub fn multiply(a: u8, b: u8) -> u8 {
    match (logarithm(a), logarithm(b)) {
        (Some(a), Some(b)) => power(((u16::from(a) + u16::from(b)) % ORDER) as u8),
        _ => 0,
    }
}

/// `a / b`; `None` for `b = 0`.
#[inline]
pub fn divide(a: u8, b: u8) -> Option<u8> {
    let b = logarithm(b)?;
    Some(match logarithm(a) {
        Some(a) => power(((u16::from(a) + ORDER - u16::from(b)) % ORDER) as u8),
        None => 0,
    })
}

/// Multiplies by one factor: a product is the sum of those of its two halves, so 32 of them do.
struct Factor {
    low: [u8; 16],
    high: [u8; 16],
}

impl Factor {
    fn new(factor: u8) -> Self {
        let mut table = Self {
            low: [0; 16],
            high: [0; 16],
        };
        for (n, (low, high)) in (0u8..16).zip(table.low.iter_mut().zip(table.high.iter_mut())) {
            *low = multiply(factor, n);
            *high = multiply(factor, n << 4);
        }
        table
    }

    #[inline]
    fn times(&self, value: u8) -> u8 {
        let at = |table: &[u8; 16], n: u8| table.get(usize::from(n)).copied().unwrap_or(0);
        at(&self.low, value & 15) ^ at(&self.high, value >> 4)
    }
}

/// `dest += src`: what P takes of one member.
pub fn add(dest: &mut [u8], src: &[u8]) {
    for (dest, src) in dest.iter_mut().zip(src) {
        *dest ^= src;
    }
}

/// `dest += 2^exponent · src`: what Q takes of the member with that exponent. Old contents are
/// taken out by adding them once more.
pub fn add_scaled(dest: &mut [u8], src: &[u8], exponent: u8) {
    let factor = Factor::new(power(exponent));
    for (dest, src) in dest.iter_mut().zip(src) {
        *dest ^= factor.times(*src);
    }
}

/// `bytes = factor · bytes`.
fn scale(bytes: &mut [u8], factor: u8) {
    let factor = Factor::new(factor);
    for byte in bytes {
        *byte = factor.times(*byte);
    }
}

/// A data block from Q. On entry `rest` has Q and all other data, each added with its exponent; on
/// return the block of the member with `exponent`.
pub fn recover_by_q(rest: &mut [u8], exponent: u8) {
    if let Some(factor) = divide(1, power(exponent)) {
        scale(rest, factor);
    }
}

/// Two data blocks from P and Q. On entry `a` has P and all other data added up, and `b` has Q and
/// all other data, each added with its exponent; on return `a` has the block of the member with
/// `a_exponent` and `b` that of the member with `b_exponent`.
///
/// `false`, and nothing is changed, when the exponents are the same: then Q tells nothing that P
/// does not.
#[must_use]
pub fn recover_two(a: &mut [u8], b: &mut [u8], a_exponent: u8, b_exponent: u8) -> bool {
    // P' = A + B and Q' = a·A + b·B: A = (Q' + b·P') / (a + b), B = P' + A.
    let (ga, gb) = (power(a_exponent), power(b_exponent));
    let (Some(of_p), Some(of_q)) = (divide(gb, ga ^ gb), divide(1, ga ^ gb)) else {
        return false;
    };
    let (of_p, of_q) = (Factor::new(of_p), Factor::new(of_q));
    for (a, b) in a.iter_mut().zip(b.iter_mut()) {
        let p = *a;
        *a = of_p.times(p) ^ of_q.times(*b);
        *b = p ^ *a;
    }
    true
}

/// The search for one wrong data member, block by block.
///
/// A member that is wrong by `x` makes P wrong by `x` and Q by `2^e · x`: so the quotient of the two
/// differences is `2^e`, in every byte that is wrong at all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Locator {
    /// Nothing is wrong so far.
    #[default]
    Agrees,
    /// All that is wrong so far is explained by the member with this exponent (below 255).
    One(u8),
    /// No one member explains it.
    Inexplicable,
}

impl Locator {
    /// Takes the next bytes: parities as they were read (`old`), and as worked out from the data
    /// (`new`).
    #[must_use]
    pub fn and(self, p_old: &[u8], p_new: &[u8], q_old: &[u8], q_new: &[u8]) -> Self {
        let p = p_old.iter().zip(p_new).map(|(old, new)| old ^ new);
        let q = q_old.iter().zip(q_new).map(|(old, new)| old ^ new);
        let mut found = self;
        for (p, q) in p.zip(q) {
            if p == 0 && q == 0 {
                continue;
            }
            // Where one of the two is right, that which is wrong is the other itself.
            let here = divide(q, p).and_then(logarithm);
            found = match (found, here) {
                (Self::Agrees, Some(here)) => Self::One(here),
                (Self::One(so_far), Some(here)) if so_far == here => found,
                _ => return Self::Inexplicable,
            };
        }
        found
    }

    /// The exponent of the one member that is wrong. It need not be one that a member has: then
    /// more than one is wrong.
    pub fn exponent(self) -> Option<u8> {
        match self {
            Self::One(exponent) => Some(exponent),
            Self::Agrees | Self::Inexplicable => None,
        }
    }
}

/// The exponent of the one data member that, being wrong alone, explains every byte in which the
/// parities read (`old`) differ from those worked out from the data (`new`). `None` when nothing
/// differs, or one member does not explain it.
pub fn locate(p_old: &[u8], p_new: &[u8], q_old: &[u8], q_new: &[u8]) -> Option<u8> {
    Locator::Agrees.and(p_old, p_new, q_old, q_new).exponent()
}
