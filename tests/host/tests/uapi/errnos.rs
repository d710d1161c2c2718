// SPDX-License-Identifier: GPL-2.0

//! `docs/ioctl.md` has every errno that a refusal gives, and the hostile program of the guest tests takes those and no others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    let read = std::fs::read_to_string(root().join(path));
    read.unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_errno(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next() == Some('E')
        && word.len() > 2
        && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// First columns of the table whose heading is `errno`.
fn documented() -> BTreeSet<String> {
    let page = text("docs/ioctl.md");
    let table = page.split("| errno | means |").nth(1).expect("a table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let column = row.split('|').nth(1).expect("a column").to_owned();
        let words: Vec<String> = column
            .split(',')
            .map(|word| word.trim().trim_matches('`').to_owned())
            .collect();
        words
    })
    .collect()
}

/// Every Rust source below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The first words of `reason!(…)` that are errnos: (errno, where).
fn given() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["src", "metadata", "personalities"] {
        sources(&root().join(folder), &mut files);
    }
    let mut given = Vec::new();
    for path in files {
        let source = std::fs::read_to_string(&path).expect("UTF-8");
        for call in source.split("reason!(").skip(1) {
            let word = call.trim_start().split([',', ')']).next().unwrap_or("");
            if is_errno(word) {
                given.push((word.to_owned(), path.display().to_string()));
            }
        }
    }
    given
}

#[test]
fn the_page_has_every_errno() {
    let documented = documented();
    assert!(
        documented.iter().all(|word| is_errno(word)),
        "{documented:?}"
    );
    let given = given();
    // Seen at all: all folders, and across lines.
    assert!(given.len() > 400, "{}", given.len());
    for (errno, path) in given {
        assert!(
            documented.contains(&errno),
            "docs/ioctl.md lacks {errno} of {path}"
        );
    }
}

#[test]
fn the_hostile_program_takes_those_of_the_page() {
    let program = text("tests/guest/programs/ioctl-hostile.c");
    let list = program
        .split("const int known[] = {")
        .nth(1)
        .expect("a list");
    let list = list.split('}').next().expect("its end");
    let known: BTreeSet<String> = list.split(',').map(|word| word.trim().to_owned()).collect();
    assert_eq!(known, documented());
}
