// SPDX-License-Identifier: GPL-2.0

//! Formats as people name some of them, in the module's parameter `auto`.

use emd_core::metadata::choice::Choice;
use emd_core::metadata::registry::FORMATS;

/// The names of those that a text chooses.
fn chosen(text: &str) -> Vec<&'static str> {
    let choice = Choice::parse(text).expect(text);
    let names = FORMATS.iter().map(|format| format.name());
    names.filter(|name| choice.has(name)).collect()
}

#[test]
fn all_and_none() {
    for text in ["1", "y", "Y", "on", "all"] {
        assert_eq!(chosen(text).len(), FORMATS.len(), "{text}");
        assert_eq!(Choice::parse(text), Ok(Choice::ALL), "{text}");
    }
    for text in ["0", "n", "N", "off", "none"] {
        assert_eq!(Choice::parse(text), Ok(Choice::NONE), "{text}");
        assert!(chosen(text).is_empty(), "{text}");
    }
    assert!(Choice::NONE.is_empty());
    assert!(!Choice::ALL.is_empty());
    assert!(!Choice::ALL.has("vinum"));
}

#[test]
fn names_and_families() {
    for format in FORMATS {
        assert_eq!(chosen(format.name()), [format.name()]);
    }
    assert_eq!(chosen("imsm,ddf"), ["ddf", "imsm"]);
    assert_eq!(chosen("ddf,ddf"), ["ddf"]);
    assert_eq!(chosen("md"), ["md-1.2", "md-1.1", "md-1.0", "md-0.90"]);
    assert_eq!(chosen("asr,md-0.90"), ["asr", "md-0.90"]);
}

#[test]
fn what_names_none_is_refused() {
    for (text, word) in [
        ("", ""),
        ("vinum", "vinum"),
        ("ddf,", ""),
        (",ddf", ""),
        ("ddf,,imsm", ""),
        ("ddf imsm", "ddf imsm"),
        ("dd", "dd"),
        ("md-", "md-"),
        ("md-1", "md-1"),
        ("DDF", "DDF"),
        ("ddf,1", "1"),
        ("ddf,md-1.3", "md-1.3"),
    ] {
        assert_eq!(Choice::parse(text), Err(word), "{text}");
    }
}

/// What a format says of itself is shown whole.
#[test]
fn descriptions_have_room() {
    for format in FORMATS {
        assert!(format.description().len() <= 96, "{}", format.name());
    }
}
