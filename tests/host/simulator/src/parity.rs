// SPDX-License-Identifier: GPL-2.0

//! Parity over tokens: what the kernel does over bytes of sectors.

use crate::disk::Token;
use emd_core::personalities::LaneRoles;

/// Writes the parity of a row (one token a slot) into it.
pub fn establish(roles: &LaneRoles, row: &mut [Token]) {
    if let Some(p) = roles.p {
        row[usize::from(p)] = roles
            .data
            .iter()
            .fold(0, |sum, slot| sum ^ row[usize::from(slot)]);
    }
}

/// Whether a row agrees with itself.
pub fn agrees(roles: &LaneRoles, row: &[Token]) -> bool {
    let mut wanted = row.to_vec();
    establish(roles, &mut wanted);
    wanted == row
}

/// Works out what `slot` of a row should hold from all others.
pub fn derive(roles: &LaneRoles, row: &[Token], slot: u16) -> Option<Token> {
    roles.p?;
    let others = roles.all().without(slot);
    Some(
        others
            .iter()
            .fold(0, |sum, slot| sum ^ row[usize::from(slot)]),
    )
}
