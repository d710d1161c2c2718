// SPDX-License-Identifier: GPL-2.0

//! The core is the same for every format: no format's name is in the driver, in the levels, or in the
//! tool (but for examples in its help).

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
