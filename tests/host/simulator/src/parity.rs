// SPDX-License-Identifier: GPL-2.0

//! Parity over tokens: what the kernel does over bytes of sectors.
//!
//! Sums are worked out here with arithmetic of their own, as a second opinion; what was lost is
//! solved for by `personalities::gf256`.

use crate::disk::Token;
use emd_core::model::Slot;
use emd_core::personalities::gf256;
use emd_core::personalities::{Geometry, Mask};

/// `2^exponent · token`, byte by byte in GF(2⁸) modulo 0x11d.
fn scaled(mut token: Token, exponent: u8) -> Token {
    for _ in 0..exponent {
        let carry = (token >> 7) & 0x0101_0101_0101_0101;
        token = ((token & 0x7F7F_7F7F_7F7F_7F7F) << 1) ^ (carry * 0x1D);
    }
    token
}

/// What Q takes of a member's data.
pub fn term(geometry: &Geometry, stripe: u64, slot: Slot, token: Token) -> Token {
    scaled(token, geometry.q_exponent(stripe, slot).unwrap_or(0))
}

/// Writes the parity of a row (one token a slot) into it.
pub fn establish(geometry: &Geometry, stripe: u64, row: &mut [Token]) {
    let roles = geometry.roles(stripe);
    let at = |row: &[Token], slot: Slot| row[usize::from(slot)];
    if let Some(p) = roles.p {
        row[usize::from(p)] = roles.data.iter().fold(0, |sum, slot| sum ^ at(row, slot));
    }
    if let Some(q) = roles.q {
        let terms = roles
            .data
            .iter()
            .map(|slot| term(geometry, stripe, slot, at(row, slot)));
        row[usize::from(q)] = terms.fold(0, |sum, term| sum ^ term);
    }
}

/// Whether a row agrees with itself.
pub fn agrees(geometry: &Geometry, stripe: u64, row: &[Token]) -> bool {
    let mut wanted = row.to_vec();
    establish(geometry, stripe, &mut wanted);
    geometry
        .roles(stripe)
        .all()
        .iter()
        .all(|slot| wanted[usize::from(slot)] == row[usize::from(slot)])
}

/// Works out the data in a row that is not `known`; `None` when it does not follow. With both
/// parities and one block missing, P counts.
pub fn derive(geometry: &Geometry, stripe: u64, row: &[Token], known: Mask) -> Option<Vec<Token>> {
    let roles = geometry.roles(stripe);
    let lost = roles.data.minus(known);
    let mut out = row.to_vec();
    let rest_p = |p: Slot| {
        let data = roles.data.intersect(known).iter();
        data.fold(row[usize::from(p)], |sum, slot| {
            sum ^ row[usize::from(slot)]
        })
    };
    let rest_q = |q: Slot| {
        let data = roles.data.intersect(known).iter();
        data.fold(row[usize::from(q)], |sum, slot| {
            sum ^ term(geometry, stripe, slot, row[usize::from(slot)])
        })
    };
    let p = roles.p.filter(|&p| known.contains(p));
    let q = roles.q.filter(|&q| known.contains(q));
    let mut slots = lost.iter();
    match (slots.next(), slots.next(), slots.next()) {
        (None, ..) => {}
        (Some(one), None, _) => {
            let exponent = geometry.q_exponent(stripe, one).unwrap_or(0);
            out[usize::from(one)] = match (p, q) {
                (Some(p), _) => rest_p(p),
                (None, Some(q)) => by_q(rest_q(q), exponent),
                _ => return None,
            };
        }
        (Some(one), Some(two), None) => {
            let (mut a, mut b) = (rest_p(p?).to_le_bytes(), rest_q(q?).to_le_bytes());
            let exponent = |slot| geometry.q_exponent(stripe, slot);
            if !gf256::recover_two(&mut a, &mut b, exponent(one)?, exponent(two)?) {
                return None;
            }
            out[usize::from(one)] = Token::from_le_bytes(a);
            out[usize::from(two)] = Token::from_le_bytes(b);
        }
        _ => return None,
    }
    Some(out)
}

/// A block from Q and all other data, added up.
pub fn by_q(rest: Token, exponent: u8) -> Token {
    let mut bytes = rest.to_le_bytes();
    gf256::recover_by_q(&mut bytes, exponent);
    Token::from_le_bytes(bytes)
}

/// The data member that alone explains how both parities differ, block by block.
pub fn locate(
    geometry: &Geometry,
    stripe: u64,
    p: (&[Token], &[Token]),
    q: (&[Token], &[Token]),
) -> Option<Slot> {
    let bytes = |tokens: &[Token]| -> Vec<u8> {
        tokens
            .iter()
            .flat_map(|token| token.to_le_bytes())
            .collect()
    };
    let exponent = gf256::locate(&bytes(p.0), &bytes(p.1), &bytes(q.0), &bytes(q.1))?;
    let mut data = geometry.roles(stripe).data.iter();
    data.find(|&slot| geometry.q_exponent(stripe, slot) == Some(exponent))
}
