// SPDX-License-Identifier: GPL-2.0

//! What the sources themselves promise: the core is the same for every format (no format's name is in the driver, in
//! the levels, or in the tool, but for examples in its help), and no test is where none is run.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The code of a line, without what is said about it.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn no_format_is_named_outside_its_own_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names: Vec<String> = emd_core::metadata::registry::FORMATS
        .iter()
        .map(|format| format!("\"{}\"", format.name()))
        .collect();
    // Modules of formats, as code would call them.
    for entry in fs::read_dir(root.join("metadata"))
        .expect("metadata")
        .flatten()
    {
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("name");
            names.push(format!("metadata::{name}"));
            names.push(format!("{name}::"));
        }
    }
    assert!(names.len() >= 10, "{names:?}");
    let mut files = Vec::new();
    for folder in ["src", "personalities", "tools/emdadm/src"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 50, "{} files only", files.len());
    for path in files {
        let text = fs::read_to_string(&path).expect("source");
        for (number, line) in text.lines().enumerate() {
            for name in &names {
                let found = code(line).match_indices(name.as_str()).any(|(at, _)| {
                    // Not the end of a longer word.
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                });
                assert!(!found, "{}:{}: {name}", path.display(), number + 1);
            }
        }
    }
}

/// The words of a line: `MdMember`, `md_member` and `"an md member"` all have `md` in them.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in line.chars() {
        let begins = letter.is_uppercase() && !before.is_uppercase();
        if begins || !letter.is_alphabetic() {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            let word = words.last_mut().expect("one");
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn no_format_is_meant_in_the_driver() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names: Vec<String> = emd_core::metadata::registry::FORMATS
        .iter()
        .filter_map(|format| words(format.name()).into_iter().next())
        .collect();
    names.extend(["snia", "matrix", "adaptec", "mdadm"].map(String::from));
    assert_eq!(
        words("MdMember md_member"),
        ["md", "member", "md", "member"]
    );
    assert!(names.contains(&"md".into()), "{names:?}");
    let mut files = Vec::new();
    for folder in ["src", "personalities"] {
        sources(&root.join(folder), &mut files);
    }
    for path in files {
        let text = fs::read_to_string(&path).expect("source");
        for (number, line) in text.lines().enumerate() {
            // Three rotations of parity have no other name, in any driver.
            let code = code(line).replace("DdfZero", "").replace("DdfN", "");
            let code = code.replace("ddf-zero", "").replace("ddf-N", "");
            let found = words(&code).into_iter().find(|word| names.contains(word));
            assert_eq!(found, None, "{}:{}", path.display(), number + 1);
        }
    }
}

/// Crates say `test = false` in their manifests where compiling them a second time, to find no test, takes long.
#[test]
fn no_test_is_where_none_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in [
        "src",
        "metadata",
        "personalities",
        "tools/emd-core",
        "tools/kernel-shim",
        "tests/host/src",
        "tests/host/support",
        "tests/host/heavy/src",
        "tests/host/simulator/src",
    ] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "{} files only", files.len());
    for path in files {
        let text = fs::read_to_string(&path).expect("source");
        for attribute in ["#[test]", "#[cfg(test)]"] {
            assert!(
                !text.lines().any(|line| code(line).contains(attribute)),
                "{}: {attribute}: tests are in tests/host/tests",
                path.display()
            );
        }
    }
}
