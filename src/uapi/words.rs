// SPDX-License-Identifier: GPL-2.0

//! Words and codes of levels, layouts and policies, as people and programs give them.

use super::constants::*;
use crate::model::{CrashPolicy, Layout, Level, Rotation};

/// A level by the name that [`Level::name`] gives, or by the number alone, as people type it (`5`
/// and `1e` for `raid5` and `raid1e`). Concatenation is `linear` too.
pub fn level_by_name(name: &str) -> Option<Level> {
    if name == "linear" {
        return Some(Level::Concat);
    }
    Level::ALL
        .into_iter()
        .find(|level| level.name() == name || level.name().strip_prefix("raid") == Some(name))
}

/// A layout by the name that its `Display` gives.
pub fn layout_by_name(name: &str) -> Option<Layout> {
    if name == "-" {
        return Some(Layout::Plain);
    }
    if let Some((kind, copies)) = name.split_once('=') {
        let copies = copies.parse::<u8>().ok().filter(|&copies| copies >= 1)?;
        return match kind {
            "near" => Some(Layout::Near(copies)),
            "far" => Some(Layout::Far(copies)),
            "offset" => Some(Layout::Offset(copies)),
            _ => None,
        };
    }
    Rotation::ALL
        .into_iter()
        .find(|rotation| rotation.name() == name)
        .map(Layout::Parity)
}

/// The policy that a code means.
pub fn policy_from(code: u16) -> Option<CrashPolicy> {
    match code {
        POLICY_NONE => Some(CrashPolicy::None),
        POLICY_RESYNC => Some(CrashPolicy::Resync),
        POLICY_LOG => Some(CrashPolicy::Log),
        _ => None,
    }
}

/// The code of a policy.
pub fn policy_code(policy: CrashPolicy) -> u16 {
    match policy {
        CrashPolicy::None => POLICY_NONE,
        CrashPolicy::Resync => POLICY_RESYNC,
        CrashPolicy::Log => POLICY_LOG,
    }
}
