// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of Q against published tables, against its definition, and by brute force.

use emd_core::personalities::gf256::{
    add, add_scaled, divide, locate, logarithm, multiply, power, recover_by_q, recover_two, Locator,
};

/// The powers of 2 from 2^0 on as ISO/IEC 18004 (QR codes, the same field and generator) has them in
/// its table of logarithms: the first 64, and the last 8.
const FIRST: [u8; 64] = [
    1, 2, 4, 8, 16, 32, 64, 128, 29, 58, 116, 232, 205, 135, 19, 38, 76, 152, 45, 90, 180, 117,
    234, 201, 143, 3, 6, 12, 24, 48, 96, 192, 157, 39, 78, 156, 37, 74, 148, 53, 106, 212, 181,
    119, 238, 193, 159, 35, 70, 140, 5, 10, 20, 40, 80, 160, 93, 186, 105, 210, 185, 111, 222, 161,
];
const LAST: [u8; 8] = [108, 216, 173, 71, 142, 1, 2, 4];

/// Long multiplication and division of polynomials, from the definition.
fn product(a: u8, b: u8) -> u8 {
    let mut long = (0..8)
        .filter(|bit| (b >> bit) & 1 == 1)
        .fold(0u32, |sum, bit| sum ^ (u32::from(a) << bit));
    for bit in (8..16).rev() {
        if (long >> bit) & 1 == 1 {
            long ^= 0x11d << (bit - 8);
        }
    }
    long as u8
}

#[test]
fn powers_are_those_published() {
    for (exponent, &value) in (0..).zip(&FIRST) {
        assert_eq!(power(exponent), value, "2^{exponent}");
    }
    for (exponent, &value) in (250u16..).zip(&LAST) {
        assert_eq!(power((exponent % 255) as u8), value, "2^{exponent}");
    }
    // Exponents count modulo 255.
    assert_eq!(power(255), 1);
}

#[test]
fn every_product_and_quotient() {
    for a in 0..=255 {
        for b in 0..=255 {
            let ab = multiply(a, b);
            assert_eq!(ab, product(a, b), "{a} · {b}");
            let back = divide(ab, b);
            assert_eq!(back, (b != 0).then_some(a), "{ab} / {b}");
        }
        assert_eq!(logarithm(a).map(power), (a != 0).then_some(a));
    }
    assert!((0..255).all(|exponent| logarithm(power(exponent)) == Some(exponent)));
}

/// Bytes of member `m`; every byte value occurs, and lengths that no vector is a multiple of.
fn block(m: u32, len: usize) -> Vec<u8> {
    let mut state = m.wrapping_mul(0x9e37_79b9).wrapping_add(77);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

const LEN: usize = 517;

fn sums(blocks: &[(u8, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    let (mut p, mut q) = (vec![0; LEN], vec![0; LEN]);
    for (exponent, block) in blocks {
        add(&mut p, block);
        add_scaled(&mut q, block, *exponent);
    }
    (p, q)
}

#[test]
fn sums_are_those_of_the_definition() {
    for exponent in 0..=255u8 {
        let src = block(exponent.into(), LEN);
        let was = block(1000, LEN);
        let mut dest = was.clone();
        add_scaled(&mut dest, &src, exponent);
        let factor = (0..exponent).fold(1, |factor, _| product(factor, 2));
        for at in 0..LEN {
            assert_eq!(dest[at], was[at] ^ product(src[at], factor));
        }
        // Once more takes it out.
        add_scaled(&mut dest, &src, exponent);
        assert_eq!(dest, was);
    }
}

/// Members whose exponents are md's (0, 1, 2 …), DDF's (with gaps), and anything.
fn lanes() -> Vec<Vec<u8>> {
    vec![
        (0..8).collect(),
        vec![0, 1, 3, 4, 6, 7],
        vec![254, 0, 127, 85, 51, 3],
        (0..62).collect(),
    ]
}

#[test]
fn any_one_and_any_two_come_back() {
    for exponents in lanes() {
        let blocks: Vec<(u8, Vec<u8>)> = exponents
            .iter()
            .map(|&e| (e, block(u32::from(e) + 5, LEN)))
            .collect();
        let (p, q) = sums(&blocks);
        for a in 0..blocks.len() {
            let without = |skip: &[usize]| {
                let (mut rest_p, mut rest_q) = (p.clone(), q.clone());
                for (at, (exponent, block)) in blocks.iter().enumerate() {
                    if !skip.contains(&at) {
                        add(&mut rest_p, block);
                        add_scaled(&mut rest_q, block, *exponent);
                    }
                }
                (rest_p, rest_q)
            };
            let (ea, block_a) = &blocks[a];
            let (_, mut rest) = without(&[a]);
            recover_by_q(&mut rest, *ea);
            assert_eq!(&rest, block_a);
            for (b, (eb, block_b)) in blocks.iter().enumerate() {
                if a == b {
                    continue;
                }
                let (mut found_a, mut found_b) = without(&[a, b]);
                assert!(recover_two(&mut found_a, &mut found_b, *ea, *eb));
                assert_eq!((&found_a, &found_b), (block_a, block_b));
            }
        }
    }
}

#[test]
fn equal_exponents_are_refused() {
    let (was_a, was_b) = (block(1, 9), block(2, 9));
    for (ea, eb) in [(7, 7), (0, 255)] {
        let (mut a, mut b) = (was_a.clone(), was_b.clone());
        assert!(!recover_two(&mut a, &mut b, ea, eb));
        assert_eq!((a, b), (was_a.clone(), was_b.clone()));
    }
}

/// One wrong member is found, whichever, with any difference, in any one byte or in all.
#[test]
fn one_wrong_member_is_located() {
    for exponents in lanes() {
        let blocks: Vec<(u8, Vec<u8>)> = exponents
            .iter()
            .map(|&e| (e, block(u32::from(e) + 5, LEN)))
            .collect();
        let (p, q) = sums(&blocks);
        assert_eq!(locate(&p, &p, &q, &q), None);
        for wrong in 0..blocks.len() {
            for at in [Some(0), Some(LEN - 1), None] {
                let mut found = blocks.clone();
                for (place, byte) in found[wrong].1.iter_mut().enumerate() {
                    if at.is_none_or(|at| at == place) {
                        *byte ^= (place % 255 + 1) as u8;
                    }
                }
                let (new_p, new_q) = sums(&found);
                assert_eq!(locate(&p, &new_p, &q, &new_q), Some(exponents[wrong]));
                // Piece by piece it is the same.
                let pieces = Locator::default()
                    .and(&p[..100], &new_p[..100], &q[..100], &new_q[..100])
                    .and(&p[100..], &new_p[100..], &q[100..], &new_q[100..]);
                assert_eq!(pieces.exponent(), Some(exponents[wrong]));
            }
        }
    }
}

/// Every pair of differences in one byte: located exactly when a quotient of powers explains it.
#[test]
fn every_difference_of_one_byte() {
    for p in 0..=255u8 {
        for q in 0..=255u8 {
            let explains = |e: &u8| p != 0 && q == product(p, power(*e));
            let expected = (0..255).find(explains);
            assert_eq!(locate(&[p], &[0], &[0], &[q]), expected, "{p} {q}");
        }
    }
}

#[test]
fn two_wrong_members_are_not_taken_for_one() {
    // Bytes that each point at a member of their own.
    let (p, mut q) = ([1, 1, 0], [power(3), power(3), 0]);
    assert_eq!(locate(&p, &[0; 3], &q, &[0; 3]), Some(3));
    q[1] = power(4);
    assert_eq!(locate(&p, &[0; 3], &q, &[0; 3]), None);
    // A byte in which only one parity is wrong is no data's fault.
    q[1] = power(3);
    q[2] = 9;
    assert_eq!(locate(&p, &[0; 3], &q, &[0; 3]), None);
    assert_eq!(locate(&[5], &[0], &[0], &[0]), None);
    // Once inexplicable, always so.
    let found = Locator::Agrees.and(&[5], &[0], &[0], &[0]);
    assert_eq!(found.and(&[1], &[0], &[1], &[0]), Locator::Inexplicable);
}
