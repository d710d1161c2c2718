// SPDX-License-Identifier: GPL-2.0

//! Sizes as people type and read them.

use std::str::FromStr;

/// A size in sectors of 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Sectors.
    pub sectors: u64,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text.get(digits.len()..).unwrap_or("");
        let number: u64 = digits
            .parse()
            .map_err(|_| format!("\"{text}\" is no size; write one like 512M or 1T"))?;
        let bytes_each: u64 = match unit.trim_end_matches("iB").to_ascii_uppercase().as_str() {
            "" | "B" => 1,
            "S" => 512,
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1 << 40,
            _ => return Err(format!("\"{unit}\" is no unit; take s, K, M, G or T")),
        };
        let bytes = number
            .checked_mul(bytes_each)
            .ok_or_else(|| format!("\"{text}\" is larger than any disk"))?;
        if bytes % 512 != 0 {
            return Err(format!(
                "{bytes} bytes are no whole number of 512-byte sectors"
            ));
        }
        if bytes == 0 {
            return Err("a size of 0 makes no sense; leave the option out instead".into());
        }
        Ok(Self {
            sectors: bytes / 512,
        })
    }
}

/// Sectors for people: `1.5 GiB`.
pub fn show(sectors: u64) -> String {
    let kib = sectors / 2;
    for (shift, unit) in [(30, "TiB"), (20, "GiB"), (10, "MiB")] {
        if kib >= 1 << shift {
            let whole = kib >> shift;
            // Two digits after the point, cut: never more than there is.
            let hundredths = ((kib & ((1 << shift) - 1)) * 100) >> shift;
            return match hundredths {
                0 => format!("{whole} {unit}"),
                _ => format!("{whole}.{hundredths:02} {unit}"),
            };
        }
    }
    match sectors % 2 {
        0 => format!("{kib} KiB"),
        _ => format!("{sectors} sectors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let sectors = |text: &str| text.parse::<Size>().map(|size| size.sectors);
        assert_eq!(sectors("512"), Ok(1));
        assert_eq!(sectors("64K"), Ok(128));
        assert_eq!(sectors("64KiB"), Ok(128));
        assert_eq!(sectors("1g"), Ok(2 << 20));
        assert_eq!(sectors("2T"), Ok(4 << 30));
        assert_eq!(sectors("100s"), Ok(100));
        for wrong in ["", "K", "0", "100", "-1K", "1.5G", "1Q", "99999999999999T"] {
            assert!(sectors(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show(1), "1 sectors");
        assert_eq!(show(128), "64 KiB");
        assert_eq!(show(2 << 20), "1 GiB");
        assert_eq!(show(3 << 20), "1.50 GiB");
        assert_eq!(show(u64::MAX), "8589934591.99 TiB");
    }
}
