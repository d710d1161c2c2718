// SPDX-License-Identifier: GPL-2.0

//! Some of the formats, as people name them.

use super::registry::FORMATS;

/// Some of the formats that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// A bit for each, in the order of [`FORMATS`].
    bits: u32,
}

impl Choice {
    /// All of them.
    pub const ALL: Self = Self { bits: u32::MAX };

    /// None of them.
    pub const NONE: Self = Self { bits: 0 };

    /// Of `1` (all), `0` (none), and what else the kernel takes for yes and no; or of names with commas between: of
    /// formats, or of families (`md` is `md-1.2` and all others that begin so). The error is the word that names none.
    pub fn parse(text: &str) -> Result<Self, &str> {
        match text {
            "1" | "y" | "Y" | "yes" | "on" | "all" => return Ok(Self::ALL),
            "0" | "n" | "N" | "no" | "off" | "none" => return Ok(Self::NONE),
            _ => {}
        }
        let mut bits = 0;
        for word in text.split(',') {
            let named = (0..).zip(FORMATS).filter(|(_, format)| {
                let rest = format.name().strip_prefix(word);
                rest.is_some_and(|rest| {
                    !word.is_empty() && (rest.is_empty() || rest.starts_with('-'))
                })
            });
            let found = named.fold(0, |found, (place, _)| found | bit(place));
            if found == 0 {
                return Err(word);
            }
            bits |= found;
        }
        Ok(Self { bits })
    }

    /// Whether it has the format of that name.
    pub fn has(self, name: &str) -> bool {
        (0..)
            .zip(FORMATS)
            .any(|(place, format)| format.name() == name && self.bits & bit(place) != 0)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }
}

/// The bit of the format in that place.
fn bit(place: u32) -> u32 {
    1_u32.checked_shl(place).unwrap_or(0)
}
