// SPDX-License-Identifier: GPL-2.0

//! A cheap look at the fuzz targets: every input that once found something (`tests/fuzz/found`), and the
//! seeds, which are sets without lies.

use std::path::Path;

#[test]
fn what_was_found_stays_mended() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../found");
    let mut replayed = 0;
    for target in fuzz_targets::TARGETS {
        let Ok(folder) = std::fs::read_dir(root.join(target)) else {
            continue;
        };
        for entry in folder {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            fuzz_targets::run(target, &std::fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed > 0, "nothing in {}", root.display());
}

/// Every few of them: the fuzzer itself begins with all.
#[test]
fn seeds_find_nothing() {
    for target in fuzz_targets::TARGETS {
        let step = if host_tests::whole() { 1 } else { 8 };
        let seeds = fuzz_targets::seeds(target);
        assert!(!seeds.is_empty(), "{target}");
        for (name, bytes) in seeds.iter().step_by(step) {
            println!("{target} {name}");
            fuzz_targets::run(target, bytes);
        }
    }
}
