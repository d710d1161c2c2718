// SPDX-License-Identifier: GPL-2.0

//! What the sources themselves promise: the core is the same for every format (no format's name is in the driver, in
//! the levels, or in the tool, but for examples in its help), no test is where none is run, `unsafe` is where it is
//! expected, and files have their licence and one subject.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files in a folder that `wanted` says yes to.
fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, wanted, found);
        } else if wanted(&path) {
            found.push(path);
        }
    }
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "rs")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    files(folder, &is_rust, found);
}

/// Folders that hold all that people wrote.
const FOLDERS: [&str; 9] = [
    ".cargo",
    ".ci",
    "docs",
    "metadata",
    "personalities",
    "src",
    "tests",
    "tools",
    "",
];

/// The code of a line, without what is said about it.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// What of `metadata/` is for all.
const INTERFACE: [&str; 5] = ["mod", "registry", "choice", "bytes", "arrival"];

#[test]
fn no_format_is_named_outside_its_own_files() {
    let root = root();
    let mut names: Vec<String> = emd_core::metadata::registry::FORMATS
        .iter()
        .map(|format| format!("\"{}\"", format.name()))
        .collect();
    // Modules of formats, and what some of them share, as code would call them. The others are the interface.
    for entry in fs::read_dir(root.join("metadata"))
        .expect("metadata")
        .flatten()
    {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("name");
        if (path.is_dir() || is_rust(&path)) && !INTERFACE.contains(&name) {
            names.push(format!("metadata::{name}"));
            names.push(format!("{name}::"));
        }
    }
    assert!(names.contains(&"ppl::".into()), "{names:?}");
    assert!(names.len() >= 12, "{names:?}");
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
    let root = root();
    let mut names: Vec<String> = emd_core::metadata::registry::FORMATS
        .iter()
        .filter_map(|format| words(format.name()).into_iter().next())
        .collect();
    let others = ["snia", "matrix", "adaptec", "mdadm", "intel", "isw", "ppl"];
    names.extend(others.map(String::from));
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
    let root = root();
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

/// The files that people wrote, by their paths in the tree; not what was recorded, found, or made.
fn written() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    for folder in FOLDERS {
        if folder.is_empty() {
            let top = fs::read_dir(&root).expect("tree").flatten();
            found.extend(top.map(|entry| entry.path()).filter(|path| path.is_file()));
        } else {
            files(&root.join(folder), &|_| true, &mut found);
        }
    }
    let name = |path: PathBuf| {
        let path = path.strip_prefix(&root).expect("in the tree");
        path.to_str().expect("UTF-8").to_owned()
    };
    let is_data = |path: &String| {
        let file = path.rsplit('/').next().unwrap_or_default();
        let made = [
            ".ko", ".mod", ".mod.c", ".o", ".o.d", ".cmd", ".pyc", ".d", "~", ".swp",
        ];
        file == "Cargo.lock"
            || ["Module.symvers", "modules.order", ".git"].contains(&file)
            || made.iter().any(|end| file.ends_with(end))
            || ["tests/samples/", "tests/host/samples/", "tests/fuzz/found/"]
                .iter()
                .any(|folder| path.starts_with(folder))
            || path.contains("/target/")
    };
    found
        .into_iter()
        .map(name)
        .filter(|path| !is_data(path))
        .collect()
}

#[test]
fn every_file_says_its_licence() {
    let written = written();
    assert!(written.len() > 400, "{} files only", written.len());
    let silent: Vec<_> = written
        .into_iter()
        .filter(|path| {
            let text = fs::read(root().join(path)).expect("file");
            let text = String::from_utf8_lossy(&text);
            // Behind the line that names an interpreter, or what a file is for.
            let mut head = text.lines().take(3);
            !head.any(|line| line.contains(concat!("SPDX-License-", "Identifier: GPL-2.0")))
        })
        .collect();
    assert!(silent.is_empty(), "without a licence: {silent:#?}");
}

/// Where calls of C are wrapped: the driver's block layer, the tool's ioctl, and two allocators that count.
const UNSAFE: [&str; 4] = [
    "src/block/",
    "tools/emdadm/src/sys.rs",
    "tests/fuzz/fuzzers/src/lib.rs",
    "tests/host/support/src/counting.rs",
];

#[test]
fn unsafe_is_where_it_is_expected() {
    let is_expected = |path: &str| UNSAFE.iter().any(|place| path.starts_with(place));
    let mut seen = 0;
    for path in written() {
        if !path.ends_with(".rs") || path.ends_with("core/sources.rs") {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).expect("source");
        let lines = text.lines().filter(|line| {
            let code = code(line);
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| word == "unsafe")
        });
        let count = lines.count();
        assert!(count == 0 || is_expected(&path), "{path} is unsafe");
        seen += count;
    }
    assert!(seen > 100, "{seen} lines only");
}

/// Longest source, in lines: one that has more has more than one subject.
const LINES_MAX: usize = 600;

#[test]
fn no_source_is_too_long() {
    let long: Vec<_> = written()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .filter_map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("source");
            let lines = text.lines().count();
            (lines > LINES_MAX).then_some((path, lines))
        })
        .collect();
    assert!(long.is_empty(), "too long: {long:#?}");
}
